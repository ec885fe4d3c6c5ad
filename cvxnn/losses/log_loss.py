"""The logistic loss of a class in {-1, +1}: ``log(1 + exp(-y f))``.

With ``p = -y z`` the conjugate is the negative binary entropy, ``p log p + (1 - p) log(1 - p)`` for
``p`` in [0, 1] and infinite elsewhere.

Reference: Boyd and Vandenberghe, Convex Optimization, exercise 3.36; Ndiaye et al., "Gap safe
screening rules", JMLR 2017, table 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from scipy.optimize import brentq
from scipy.special import expit

from ..arrays import Array, array_namespace
from .base import ConicForm, Loss


class LogLoss(Loss):
    """The logistic loss of one sample, ``log(1 + exp(-y f))`` with ``y`` in {-1, +1}."""

    name: ClassVar[str] = "log_loss"
    curvature = 0.25
    classification: ClassVar[bool] = True

    def value(self, f: Array, y: Array, s: Array) -> float:
        xp = array_namespace(f)
        m = -y * f
        zero = xp.zeros_like(m)
        # log(1 + exp(m)) without overflow
        return float(xp.sum(s * (xp.maximum(m, zero) + xp.log1p(xp.exp(-xp.abs(m))))))

    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        return -s * y * _sigmoid(-y * f)

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        p = _sigmoid(-y * f)
        return s * p * (1.0 - p)

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        xp = array_namespace(z)
        p = -y * z / s
        # Rounding may leave a probability of 0 or 1 a few ulps outside; that is not infeasibility,
        # the bound of a point moved by an ulp is the same to rounding.
        slack = 1e-14
        if bool(xp.any(p < -slack)) or bool(xp.any(p > 1.0 + slack)):
            return float("inf")
        p = xp.clip(p, 0.0, 1.0)
        return float(xp.sum(s * (_xlogx(p) + _xlogx(1.0 - p))))

    def best_scale(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray, limit: float) -> float:
        """Probabilities grow with t; the dual value is best where its falling slope is zero."""
        p = y * Z / s
        # smaller ones add nothing, and times t may be zero, which has no logarithm
        seen = p >= np.finfo(np.float64).tiny
        if np.any(p < 0.0) or not np.any(seen):
            return super().best_scale(Z, y, s, limit)
        weights, p = (s * p)[seen], p[seen]
        limit = min(limit, 1e12)
        end = min(limit, 1.0 / float(np.max(p)))

        def slope(t: float) -> float:
            return -float(weights @ (np.log(t * p) - np.log1p(-t * p)))

        # at a probability of one the slope is infinite: a rounding error before, it is finite
        low = high = end * (1.0 - 1e-15)
        while low > 0.0 and slope(low) < 0.0:
            low, high = 0.5 * low, low
        best = brentq(slope, low, high, xtol=1e-12 * high) if low < high else end
        return max((min(limit, 1.0), end, best), key=lambda t: self.dual(t * Z, y, s))

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> float:
        """Newton's method, which takes few steps from zero; where it strays, a bracket."""
        c, pull = 0.0, s * y
        for _ in range(25):
            p = expit(-y * (f + c))
            curvature = float(s @ (p * (1.0 - p)))
            if curvature <= 0.0:
                break
            step = float(pull @ p) / curvature
            c += step
            # the error of the next step would be of the order of this one's square
            if abs(step) <= 1e-9 * (1.0 + abs(c)):
                return c
        return super().intercept(f, y, s)

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm:
        """``log(1 + e^m) <= t`` as ``a + b <= 1, e^-t <= a, e^(m - t) <= b`` with ``m = -y f``."""
        n = len(y)
        eye, zero = sparse.identity(n, format="csc"), sparse.csc_matrix((n, n))
        # v = (t, a, b); rows: 1 - a - b >= 0, then per sample (-t, 1, a) and (m - t, 1, b)
        F = sparse.vstack([zero, zero, zero, zero, -sparse.diags(y), zero, zero])
        V = sparse.vstack(
            [
                sparse.hstack([zero, -eye, -eye]),
                sparse.hstack([-eye, zero, zero]),
                sparse.csc_matrix((n, 3 * n)),
                sparse.hstack([zero, eye, zero]),
                sparse.hstack([-eye, zero, zero]),
                sparse.csc_matrix((n, 3 * n)),
                sparse.hstack([zero, zero, eye]),
            ]
        )
        h = np.concatenate([np.ones(n), np.tile(np.repeat([0.0, 1.0, 0.0], n), 2)])
        # Clarabel wants the three rows of an exponential cone next to each other.
        triples = (np.arange(6 * n).reshape(2, 3, n)).transpose(0, 2, 1).reshape(-1)
        order = np.concatenate([np.arange(n), n + triples])
        cones = [("nonnegative", n)] + [("exponential", 3)] * (2 * n)
        F, V, h = F.tocsr()[order], V.tocsr()[order], h[order]
        extra = np.concatenate([s, np.zeros(2 * n)])
        return ConicForm(np.zeros(n), np.zeros(n), 0.0, extra, F, V, h, cones)

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(s, cp.logistic(cp.multiply(-y, f))))


def _sigmoid(t: Array) -> Array:
    """``1 / (1 + exp(-t))`` without overflow."""
    if type(t) is np.ndarray and t.dtype == np.float64:
        return expit(t)
    xp = array_namespace(t)
    e = xp.exp(-xp.abs(t))
    return xp.where(t >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def _xlogx(p: Array) -> Array:
    xp = array_namespace(p)
    one = xp.ones_like(p)
    return xp.where(p > 0, p * xp.log(xp.where(p > 0, p, one)), xp.zeros_like(p))
