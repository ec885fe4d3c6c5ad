"""Scaled samples, quadratic envelopes and the verified number they prove.

The formulas are those of :mod:`cvxnn.bounds`. This module is the part that a proof rests on: it
trusts no solver. Every number is recomputed in float64, the matrix inequality is verified by a
Cholesky factorisation, and what rounding can hide is added.

If the factorisation of a symmetric matrix of order p in floating point succeeds, the exact matrix
plus ``gamma_{p+1} trace`` times the identity is positive semidefinite.

Reference: Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3; Rump,
"Verification of positive definiteness", BIT 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular

_EPS = float(np.finfo(float).eps)
_SIGNS = np.array([[1.0], [-1.0]])

#: Gradient and diagonal Hessian of a convex function of the prediction, shape (n,).
Objective = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Rows:
    """Scaled samples: row i of the data is ``h_i`` times ``unit_i``, with ``|unit_i'u| <= 1``.

    Attributes
    ----------
    unit : ndarray of shape (n, p), no row zero
    h : ndarray of shape (n,), zero where the sample sees no neuron
    balls : ndarray of shape (p,) of int
        Which ball a coordinate belongs to: the sum of squares over each is at most one.
    lean : float
        The share k of t beside ``|t|`` in the activation ``(k t + |t|) / 2``, >= 0.
    """

    unit: np.ndarray
    h: np.ndarray
    balls: np.ndarray
    lean: float = 1.0

    @property
    def count(self) -> int:
        """Number of balls."""
        return int(self.balls.max()) + 1


@dataclass(frozen=True)
class Envelope:
    """A dual point with its envelopes, one row per sign of the output weight.

    Attributes
    ----------
    theta : ndarray of shape (n,)
    A, B : ndarray of shape (2, n)
    balls : ndarray of shape (2, balls)
        Relative multipliers of the balls, positive.
    """

    theta: np.ndarray
    A: np.ndarray
    B: np.ndarray
    balls: np.ndarray


@dataclass(frozen=True)
class ScaledRows:
    """Rows of the relaxation, the factor that was divided out, and what the scaling lost."""

    rows: Rows | None  # None where no neuron sees any sample
    scale: float
    lost: np.ndarray  # (n,), per unit of theta, in units of `scale`


def scale_rows(X: np.ndarray, free: int) -> ScaledRows:
    """Reduce the rows to their span, or centre them, and scale each into the unit ball."""
    X = X[:, : X.shape[1] - free]
    n = len(X)
    scale = float(np.max(np.abs(X), initial=0.0))
    scale = scale if scale > 0.0 else 1.0
    X = X / scale
    norms = np.linalg.norm(X, axis=1)
    if free and n:
        X = X - _centre(X)
    basis = np.eye(X.shape[1])
    if X.size and (X.shape[1] > n or np.linalg.matrix_rank(X) < X.shape[1]):
        _, sigma, vt = np.linalg.svd(X, full_matrices=False)
        basis = vt[sigma > 1e-12 * sigma[0]].T
    T = X @ basis
    # what the projection and its rounding may hide from every neuron, per unit of theta
    lost = np.linalg.norm(X - T @ basis.T, axis=1) if basis.shape[0] > basis.shape[1] else 0.0
    lost = lost + 8.0 * (X.shape[1] + 2) * _EPS * norms
    norms = np.linalg.norm(T, axis=1)
    radius = float(np.max(norms, initial=0.0)) * (1.0 + 1e-14)
    if radius <= 1e-14 or T.shape[1] == 0:
        return ScaledRows(None, scale, lost + norms)
    if free:
        T = np.hstack([T, np.full((n, 1), radius)])
        norms = norms + radius
        lost = lost + 8.0 * _EPS * radius
    balls = np.zeros(T.shape[1], dtype=int)
    if free:
        balls[-1] = 1
    h = norms * (1.0 + 4.0 * T.shape[1] * _EPS)
    # a row of zeros sees no neuron: any unit row will do, with weight zero
    T = np.where(h[:, None] > 0.0, T, np.eye(1, T.shape[1]))
    unit = T / np.where(h > 0.0, h, 2.0)[:, None]
    return ScaledRows(Rows(unit, h, balls), scale, lost)


def _centre(X: np.ndarray) -> np.ndarray:
    """Return nearly the centre of the smallest ball around the rows (Badoiu and Clarkson 2003)."""
    c = X.mean(axis=0)
    best, radius = c, np.inf
    for k in range(1, 101):
        gap = np.linalg.norm(X - c, axis=1)
        far = int(np.argmax(gap))
        if gap[far] < radius:
            best, radius = c, gap[far]
        c = c + (X[far] - c) / (k + 1.0)
    return best


def start_envelope(rows: Rows | None, theta: np.ndarray) -> Envelope:
    """Return the envelopes that fit a neuron spread evenly over all directions."""
    if rows is None:
        empty = np.zeros((2, len(theta)))
        return Envelope(theta, empty, empty, np.ones((2, 1)))
    q = np.einsum("ij,ij->i", rows.unit, rows.unit) / rows.unit.shape[1]
    w = _SIGNS * (rows.h * theta)
    return Envelope(
        theta, np.where(w > 0, 0.5 * w / np.sqrt(q), w), np.zeros_like(w), np.ones((2, rows.count))
    )


def certify(scaled: ScaledRows, envelope: Envelope) -> np.ndarray:
    """Return upper bounds of the oracle for theta and for minus theta, in units of the scale."""
    rows, theta = scaled.rows, envelope.theta
    lost = float(scaled.lost @ np.abs(theta))
    if rows is None:
        return np.full(2, lost)
    w = _SIGNS * (rows.h * theta)
    unit = float(np.max(np.abs(w)))
    if unit == 0.0:
        return np.full(2, lost)
    w = w / unit  # no square may underflow in a proof
    # |x_i'u| <= h_i: every term at its best, which is at t = 0, 1 or -1
    lean = rows.lean
    ends = np.maximum(0.5 * (1.0 + lean) * w, 0.5 * (1.0 - lean) * w)
    plain = np.sum(np.maximum(ends, 0.0), axis=1)
    out = np.empty(2)
    for k in range(2):
        A, B = envelope.A[k] / unit, envelope.B[k] / unit
        c = _constants(w[k] + np.abs(B), A)
        Q = (rows.unit.T * A) @ rows.unit
        linear = lean * w[k] + B
        terms = (A, linear, max(1.0, lean) * w[k], c)
        rounding = 4.0 * (len(c) + 8) * _EPS * sum(float(np.sum(np.abs(term))) for term in terms)
        top = _quadratic(0.5 * (Q + Q.T), rows.unit.T @ linear, rows.balls, envelope.balls[k])
        out[k] = 0.5 * (top + float(np.sum(c))) + 2.0 * rounding
    out = np.where(np.isfinite(out), np.minimum(out, plain), plain)
    return out * (1.0 + 1e-10) * unit + lost


def _constants(excess: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Return ``max_{0 <= r <= 1} excess r - A r^2``, elementwise."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        peak = np.where((A > 0) & (excess > 0) & (excess < 2.0 * A), 0.25 * excess**2 / A, 0.0)
    return np.maximum(np.maximum(peak, excess - A), 0.0)


def _quadratic(Q: np.ndarray, g: np.ndarray, balls: np.ndarray, ratio: np.ndarray) -> float:
    """Return a proven upper bound of ``u'Q u + g'u`` over the product of unit balls.

    Parameters
    ----------
    Q : ndarray of shape (p, p)
    g : ndarray of shape (p,)
    balls : ndarray of shape (p,) of int
    ratio : ndarray of shape (balls,)
        Relative multipliers of the balls.
    """
    p, count = len(g), len(ratio)
    if not (Q.any() or g.any()):
        return 0.0
    ratio = np.clip(ratio / np.max(ratio), 1e-8, 1.0)
    weight, cost = ratio[balls], float(np.sum(ratio))
    root = 1.0 / np.sqrt(weight)
    try:
        lam, V = eigh(Q * root[:, None] * root, check_finite=True)
    except (LinAlgError, ValueError):
        return np.inf
    c = 0.25 * (V.T @ (g * root)) ** 2
    low = max(float(lam[-1]), 0.0)
    high = low + float(np.sqrt(np.sum(c) / cost))
    for _ in range(80):  # the derivative in m is increasing
        m = 0.5 * (low + high)
        if float(np.sum(c / np.maximum(m - lam, 1e-150) ** 2)) > cost:
            low = m
        else:
            high = m
    size = float(np.max(np.abs(lam))) + float(np.linalg.norm(g)) + high
    matrix = np.zeros((p + 1, p + 1))
    for slack in (1e-13, 1e-12, 1e-11, 1e-10, 1e-8, 1e-5, 1e-1):
        m = high + slack * size
        matrix[:p, :p] = np.diag(m * weight) - Q
        matrix[p, :p] = matrix[:p, p] = -0.5 * g
        try:
            L = cholesky(matrix[:p, :p], lower=True, check_finite=False)
            h = solve_triangular(L, 0.5 * g, lower=True, check_finite=False)
            matrix[p, p] = float(h @ h) * (1.0 + 1e-13) + slack * size
            cholesky(matrix, lower=True, check_finite=False)
        except LinAlgError:
            continue
        # the factorisation proves the inequality up to its backward error
        error = 2.0 * (p + 2) * _EPS * float(np.trace(np.abs(matrix)))
        return m * cost + float(matrix[p, p]) + (1.0 + count) * error
    return np.inf
