r"""Local descent on the network itself: the fast way to good activation patterns.

L-BFGS on the weights of a network with some dozens of neurons,

    minimise over U, a, c   L( sum_j a_j phi_mu(X u_j) + c ) + beta/2 * sum_j (||u_j||^2 + a_j^2),

comes within a thousandth of the optimum in a fraction of a second, then stalls at kinks (samples with
``x_i'u_j = 0``), where the gradient jumps. The kinks of an optimal network are many, so the ReLU is
smoothed: inside a band of relative width mu around zero it is a parabola,

    phi_mu(t) = d t + mu d (1 - d) b,    d = clip(t / (2 mu b) + 1/2, 0, 1),    b_ij = ||x_i|| ||u_j||,

with slope d, equal to ``t_+`` outside of ``|t| <= mu b``. The band of every pair is in the units of that
pair, so that scale does not matter. An activation with slope s on the negative side is smoothed with it, as
``s t + (1 - s) phi_mu(t)``. The band is fixed while L-BFGS runs. Solved for one mu after the other, each
from the solution of the last, down to 1e-4, this goes where plain descent cannot: neurons slide along
kinks and merge, and what is left is within 1e-4 to 1e-3 of the optimum. Nothing here is trusted by a
certificate.

Reference: Nocedal and Wright, Numerical Optimization, chapter 7; Chen, "Smoothing methods for nonsmooth,
nonconvex minimization", Math. Prog. 2012, for the idea of mu going to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .losses import Loss
from .patches import pooled, spread
from .walks import rectify

#: Weights between this and its inverse are of a usual size.
USUAL = 1e2


def start(
    X: np.ndarray, y: np.ndarray, s: np.ndarray, width: int, free: int, random_state: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw balanced random neurons whose joint output is about a third of the targets' size.

    Returns
    -------
    U : ndarray of shape (width, d)
    a : ndarray of shape (width,)
    """
    d = X.shape[1]
    U = random_state.standard_normal((width, d))
    U /= np.maximum(np.linalg.norm(U[:, : d - free], axis=1, keepdims=True), 1e-300)
    rows = float(np.sqrt(np.average(np.sum(X * X, axis=1), weights=s)))
    size = float(np.sqrt(np.average(y * y, weights=s)))
    strength = 0.3 * size / (rows * np.sqrt(width)) if rows > 0 else 0.0
    a = np.where(np.arange(width) % 2 == 0, 1.0, -1.0) * np.sqrt(strength)
    return U * np.sqrt(strength), a


class Layer:
    """The smoothed hidden layer of one width, in place: no array is made twice.

    Rows of X and neurons are divided by their norms, so that the band is ``|t| <= mu`` for all pairs.
    """

    def __init__(
        self,
        X: np.ndarray,
        sizes: np.ndarray,
        free: int,
        mu: float,
        leak: float | np.ndarray = 0.0,
        pool: int = 1,
        dtype: Any = np.float64,
    ) -> None:
        self.leak, self.pool = np.asarray(leak, dtype), pool
        rows = np.linalg.norm(X[:, : X.shape[1] - free], axis=1)
        self.rows = (
            np.maximum(rows, 1e-6 * float(np.max(rows, initial=0.0))) if np.any(rows) else rows + 1.0
        )
        self.sizes = np.maximum(sizes, 1e-300)
        self.X, self.mu = (X / self.rows[:, None]).astype(dtype), mu
        shape = (len(X), len(sizes))
        self.T, self.slopes, self.values = (np.empty(shape, dtype) for _ in range(3))

    def forward(self, U: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Return ``sum_j a_j phi(X u_j)``, added up over samples, (n,); keep what gradients need."""
        self.activate(U)
        return pooled(self.rows * (self.values @ (self.sizes * a)), self.pool)

    def activate(self, U: np.ndarray) -> None:
        """Set `values` and `slopes`, both (n, m), in units of the rows' and the neurons' norms."""
        T, D, H, mu = self.T, self.slopes, self.values, self.mu
        np.matmul(self.X, (U / self.sizes[:, None]).astype(T.dtype, copy=False).T, out=T)
        if mu > 0:
            np.multiply(T, 0.5 / mu, out=D)
            D += 0.5
            np.clip(D, 0.0, 1.0, out=D)
            np.multiply(D, -mu, out=H)
            H += T
            H += mu
            H *= D
        else:
            np.greater(T, 0.0, out=D, casting="unsafe")
            np.maximum(T, 0.0, out=H)
        if np.any(self.leak):
            for part, straight in ((D, 1.0), (H, T)):
                part *= 1.0 - self.leak
                part += self.leak * straight

    def backward(self, slope: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradients in U and a of ``slope'f``."""
        weighted = self.rows * spread(slope, self.pool)
        ga = self.sizes * (self.values.T @ weighted)
        self.slopes *= weighted[:, None]
        return (self.slopes.T @ self.X) * a[:, None], ga


def descend(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    U: np.ndarray,
    a: np.ndarray,
    *,
    smoothing: float = 0.0,
    intercept: bool = False,
    free: int = 0,
    slope: float | np.ndarray = 0.0,
    pool: int = 1,
    max_iter: int = 150,
    tol: float = 1e-10,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Run L-BFGS from the given neurons.

    Parameters
    ----------
    X : ndarray of shape (n * pool, d)
    y, s : ndarrays of shape (n,)
    U : ndarray of shape (m, d)
    a : ndarray of shape (m,)
    smoothing : float
        The relative half-width ``mu`` of the band in which the ReLU is a parabola; 0 for none.
    free : int
        Trailing unpenalised coordinates of each neuron.
    slope : float, or ndarray of shape (m,)
        Of the activation on the negative side; with 1 a neuron is linear.
    pool : int
        Rows of X that each sample has: what neurons compute on them is added up.
    max_iter : int
    tol : float
        Relative decrease of an iteration below which descent stops.

    Returns
    -------
    U : ndarray of shape (m, d)
    a : ndarray of shape (m,)
    c : float
        The intercept, 0 without one.
    """
    m, d = U.shape
    c = 0.0
    if intercept:
        c = loss.intercept(pooled(rectify(X @ U.T, slope) @ a, pool), y, s)
    # Divided by the value at zero, the default tolerances of L-BFGS mean the same on all data.
    scale = 1.0 / max(loss.value(np.zeros_like(y) + c, y, s), 1e-300)
    decay = np.ones(d)
    decay[d - free :] = 0.0
    layer = Layer(X, np.linalg.norm(U[:, : d - free], axis=1), free, smoothing, slope, pool)
    gradient = np.zeros(m * d + m + 1)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        W, b, e = v[: m * d].reshape(m, d), v[m * d : m * d + m], v[-1]
        f = layer.forward(W, b) + (e if intercept else 0.0)
        pull = loss.gradient(f, y, s)
        value = loss.value(f, y, s) + 0.5 * beta * float(np.sum(decay * W * W) + b @ b)
        gW, gb = layer.backward(pull, b)
        gradient[: m * d] = (gW + beta * decay * W).ravel()
        gradient[m * d : m * d + m] = gb + beta * b
        gradient[-1] = float(np.sum(pull)) if intercept else 0.0
        return scale * value, scale * gradient

    first = np.concatenate([U.ravel(), a, [c]])
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": tol, "gtol": 1e-12}
    found = minimised(objective, first, 1, layer.rows, options)
    end = found[: m * d].reshape(m, d)
    return end, found[m * d : m * d + m], float(found[-1]) if intercept else 0.0


def minimised(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    first: np.ndarray,
    constants: int,
    rows: np.ndarray,
    options: dict[str, Any],
) -> np.ndarray:
    """Run L-BFGS on balanced weights, the last entries of `first` constants of the output.

    Its first step is as long as a variable of size one asks for. Weights of another size, as of targets or
    samples (of norms `rows`) in extreme units, are measured in theirs; else the first line search fails.
    """
    size = float(np.sqrt(np.mean(first[: len(first) - constants] ** 2))) if len(first) > constants else 0.0
    units = np.ones(len(first))
    if size > 0.0 and not 1.0 / USUAL < size < USUAL:
        units[:] = size
        units[len(first) - constants :] = size * size * float(np.sqrt(np.mean(rows * rows)))

    def measured(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = objective(units * x)
        return value, units * slope

    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = units * minimize(measured, first / units, jac=True, method="L-BFGS-B", options=options).x
    return found if np.all(np.isfinite(found)) else first
