"""The Poisson loss of a count, with logarithmic link: half the Poisson deviance.

    loss(f, y) = exp(f) - y f + (y log y - y),      y >= 0,   0 log 0 = 0.

The network's output f is the logarithm of the mean, as in scikit-learn's PoissonRegressor, and any number;
the terms without f make the least loss 0. Second derivatives grow with ``exp(f)`` and have no bound. With
``m = y + z`` the conjugate is ``m log m - m - (y log y - y)`` for ``m >= 0``, infinite elsewhere.

Reference: McCullagh and Nelder, Generalized Linear Models, 1989, chapter 6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from ..arrays import Array, array_namespace
from .base import ConicForm, Loss


class Poisson(Loss):
    """Half the Poisson deviance of one sample, ``exp(f)`` being the mean."""

    name: ClassVar[str] = "poisson"
    nonnegative: ClassVar[bool] = True
    inverse_link: ClassVar[str] = "exp"
    reach: ClassVar[float] = 1.0

    @np.errstate(over="ignore", invalid="ignore")  # a prediction may be absurd while a search tries it
    def value(self, f: Array, y: Array, s: Array) -> float:
        xp = array_namespace(f)
        # By u = f - log y, y (exp(u) - 1 - u): terms do not cancel where a prediction meets its count.
        some = y > 0.0
        u = f - xp.log(xp.where(some, y, xp.ones_like(y)))
        each = xp.where(some, y * (xp.expm1(u) - u), xp.exp(f))
        return float(xp.sum(s * xp.where(each < 0.0, xp.zeros_like(each), each)))

    @np.errstate(over="ignore")
    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        return s * (array_namespace(f).exp(f) - y)

    @np.errstate(over="ignore")
    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        return s * array_namespace(f).exp(f)

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        xp = array_namespace(z)
        m = y + z / s
        # the mean of a very small prediction may be a few ulps of y below zero
        if bool(xp.any(m < -1e-14 * (1.0 + y))):
            return float("inf")
        m = xp.maximum(m, 0.0 * m)
        # in this order nothing is left at z = 0
        return float(xp.sum(s * ((_xlogx(m) - _xlogx(y)) - (m - y))))

    def nearest(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        return np.minimum(Z, s * y)

    def check(self, y: np.ndarray) -> None:
        super().check(y)
        if not np.any(y > 0.0):
            raise ValueError("loss='poisson' needs a target > 0: with zeros only the best mean is 0")

    def mean(self, f: np.ndarray) -> np.ndarray:
        return np.exp(f)

    def link(self, y: np.ndarray) -> np.ndarray:
        return np.log(y + 0.5)

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> float:
        """The logarithm of the ratio of counts to means, in closed form."""
        top = float(np.max(f))
        counts = float(np.sum(s * y))
        if counts == 0.0:
            raise ValueError("the best intercept is infinite: pass targets that are not all zero")
        return float(np.log(counts / np.sum(s * np.exp(f - top))) - top)

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm:
        """``exp(f) <= v`` as exponential cones ``(f, 1, v)``."""
        n = len(y)
        rows = 3 * np.arange(n)
        F = sparse.csc_matrix((np.ones(n), (rows, np.arange(n))), shape=(3 * n, n))
        V = sparse.csc_matrix((np.ones(n), (rows + 2, np.arange(n))), shape=(3 * n, n))
        h = np.tile([0.0, 1.0, 0.0], n)
        constant = float(np.sum(s * (_xlogx(y) - y)))
        return ConicForm(np.zeros(n), -s * y, constant, s, F, V, h, [("exponential", 3)] * n)

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        import cvxpy as cp

        constant = float(np.sum(s * (_xlogx(y) - y)))
        return cp.sum(cp.multiply(s, cp.exp(f) - cp.multiply(y, f))) + constant


def _xlogx(p: Array) -> Array:
    xp = array_namespace(p)
    one = xp.ones_like(p)
    return xp.where(p > 0, p * xp.log(xp.where(p > 0, p, one)), xp.zeros_like(p))
