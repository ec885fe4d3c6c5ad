r"""The semidefinite relaxation of training bilinear units of sign vectors, by descent on its factors.

With unit vectors a_k, b_k in the place of the signs of column k, A and B of shape (d, rank),

    minimise over A, B, rho >= 0, c   L( rho * sum over columns of (X A) o (X B) + c ) + beta d rho,

is the relaxation ``p_SDP(beta)`` once the rank is large enough: P - N = rho (AB' + BA') / 2, and P + N =
rho (AA' + BB') / 2 has a diagonal of rho. There is no guarantee against local minima, and none is needed:
what is wanted is a dual variable, which proves what it proves (:func:`cvxnn.sign_pairs.norm_bound`), and
vectors to round.

A loss with kinks is replaced by its Moreau envelope, around the last dual variable a few times.

References: Bartan and Pilanci, ICML 2021; Burer and Monteiro, Math. Prog. 2003.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from .program import Problem
from .sign_pairs import norm_bound

#: Steps of L-BFGS; envelopes of a loss with kinks, and their error as a share of the objective.
STEPS, ENVELOPES, SMOOTHING = 1000, 6, 3e-3
#: Shares of random vectors in the first ones, until one share leaves a price above beta.
BLUR = (0.5, 0.1, 0.01)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A point of the relaxation.

    Parameters
    ----------
    A, B : ndarrays of shape (d, rank)
        With rows of length one.
    rho : float
    value : float
        The objective there: about ``p_SDP(beta)``, and no bound.
    Z : ndarray of shape (n,)
        The dual variable.
    """

    A: np.ndarray
    B: np.ndarray
    rho: float
    value: float
    Z: np.ndarray

    def correlations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return V and Z (d, d) with ``[[V, Z], [Z, V]]`` positive semidefinite and ones on the
        diagonal."""
        A, B = self.A, self.B
        V, Z = 0.5 * (A @ A.T + B @ B.T), 0.5 * (A @ B.T + B @ A.T)
        np.fill_diagonal(V, 1.0)
        return V, Z


def relax(problem: Problem, X: np.ndarray) -> Relaxation:
    """Solve the relaxation of a problem on the design matrix X (n, d)."""
    Z = problem.residual(np.zeros_like(problem.y))
    _, A, B = norm_bound(_matrix(X, Z), 1e-3)
    noise = np.random.default_rng(0).standard_normal((2, *A.shape)) / np.sqrt(A.shape[1])
    for share in BLUR:
        # the best vectors may all be parallel, which descent alone does not leave
        A1, B1 = _rows(A + share * noise[0]), _rows(B + share * noise[1])
        unit = np.sum((X @ A1) * (X @ B1), axis=1)
        if float(Z @ unit) > problem.beta * X.shape[1]:
            return _descend(problem, X, A1, B1, _amount(problem, unit, X.shape[1]), Z)
    return Relaxation(A, B, 0.0, problem.null_value(), Z)


def _amount(problem: Problem, unit: np.ndarray, d: int) -> float:
    """The best rho for the predictions ``rho * unit``, by bisection."""

    def slope(rho: float) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            g = -problem.residual(rho * unit)
        return float(np.nan_to_num(g @ unit, nan=np.inf)) + problem.beta * d

    high = 1e-3 / max(float(np.max(np.abs(unit))), 1e-300)
    for _ in range(60):
        if slope(high) >= 0.0:
            break
        high *= 2.0
    low = 0.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return high


def _matrix(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    Q = (X.T * Z) @ X
    return 0.5 * (Q + Q.T)


def _descend(
    problem: Problem, X: np.ndarray, A: np.ndarray, B: np.ndarray, rho: float, Z: np.ndarray
) -> Relaxation:
    x = np.concatenate([A.ravel(), B.ravel(), [np.sqrt(rho), 0.0]])
    for _ in range(1 if problem.loss.smooth else ENVELOPES):
        target = problem.smoothed(SMOOTHING * problem.null_value(), Z)
        function = _Factors(target, X, A.shape[1])
        x = function.centred(x)
        options = {"maxiter": STEPS, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-11 * abs(function(x)[0])}
        x = minimize(function, x, jac=True, method="L-BFGS-B", options=options).x
        A, B, r, _ = function.parts(x)
        f = r * r * np.sum((X @ A) * (X @ B), axis=1)
        Z = target.residual(f)
    if problem.intercept:
        f = f + problem.loss.intercept(f, problem.y, problem.weights)
    return Relaxation(A, B, r * r, problem.value(f, X.shape[1] * r * r), Z)


class _Factors:
    """Value and gradient in the unknowns: rows that are normalised, the root of rho, the constant."""

    def __init__(self, problem: Problem, X: np.ndarray, rank: int) -> None:
        self.problem, self.X, self.shape = problem, X, (X.shape[1], rank)

    def parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
        A, B = x[:-2].reshape(2, *self.shape)
        return _rows(A), _rows(B), float(x[-2]), float(x[-1])

    def centred(self, x: np.ndarray) -> np.ndarray:
        """The unknowns with rows of length one and the best constant."""
        A, B, r, c = self.parts(x)
        if self.problem.intercept:
            f = r * r * np.sum((self.X @ A) * (self.X @ B), axis=1)
            c = self.problem.loss.intercept(f, self.problem.y, self.problem.weights)
        return np.concatenate([A.ravel(), B.ravel(), [r, c]])

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        problem, X = self.problem, self.X
        A, B, r, c = self.parts(x)
        XA, XB = X @ A, X @ B
        unit = np.sum(XA * XB, axis=1)
        f = r * r * unit + c
        with np.errstate(over="ignore", invalid="ignore"):
            value = problem.value(f, X.shape[1] * r * r)
            slope = problem.loss.gradient(f, problem.y, problem.weights)
        if not np.isfinite(value):
            return float("inf"), np.zeros_like(x)
        long = x[:-2].reshape(2, *self.shape)
        pull = r * r * slope[:, None]
        gA, gB = X.T @ (pull * XB), X.T @ (pull * XA)
        gradient = [_tangent(g, U, raw).ravel() for g, U, raw in ((gA, A, long[0]), (gB, B, long[1]))]
        gr = 2.0 * r * (float(slope @ unit) + problem.beta * X.shape[1])
        gc = float(np.sum(slope)) if problem.intercept else 0.0
        return value, np.concatenate([*gradient, [gr, gc]])


def _rows(A: np.ndarray) -> np.ndarray:
    return A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-300)


def _tangent(g: np.ndarray, U: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """The gradient with respect to rows that are normalised."""
    inner = np.sum(g * U, axis=1, keepdims=True)
    return (g - inner * U) / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-300)
