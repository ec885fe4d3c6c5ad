"""The squared error with its half: ``1/2 (f - y)^2``.

Conjugate: ``loss*(z) = 1/2 z^2 + z y``, so the dual objective is ``sum_i Z_i y_i - Z_i^2 / (2 s_i)``.

Reference: Pilanci and Ergen, ICML 2020, equation (8); Boyd and Vandenberghe, example 3.22.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from ..arrays import Array, array_namespace
from .base import ConicForm, Loss


class SquaredError(Loss):
    """Half the squared error of one sample, ``1/2 (f - y)^2``."""

    name: ClassVar[str] = "squared_error"
    curvature = 1.0

    def value(self, f: Array, y: Array, s: Array) -> float:
        xp = array_namespace(f)
        return 0.5 * float(xp.sum(s * (f - y) ** 2))

    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        return s * (f - y)

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        return s * array_namespace(f).ones_like(f)

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        xp = array_namespace(z)
        return float(xp.sum(0.5 * z * z / s + z * y))

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm:
        n = len(y)
        none = sparse.csc_matrix((0, n)), sparse.csc_matrix((0, 0))
        constant = 0.5 * float(np.sum(s * y * y))
        return ConicForm(s, -s * y, constant, np.zeros(0), *none, np.zeros(0), [])

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        import cvxpy as cp

        return 0.5 * cp.sum(cp.multiply(s, cp.square(f - y)))

    def best_scale(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray, limit: float) -> float:
        """The maximiser of ``t Z'y - t^2/2 sum Z^2/s`` in closed form."""
        square = float(np.sum(Z * Z / s))
        if square == 0.0:
            return 0.0
        return min(max(float(Z @ y) / square, 0.0), limit)

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> float:
        """The weighted mean of the residuals."""
        return float(np.sum(s * (y - f)) / np.sum(s))
