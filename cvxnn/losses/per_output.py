"""The sum over the outputs of a loss of one output: multi-target regression.

For targets ``y`` (n, outputs) and a loss l of one output the loss of a sample is ``sum_k l(f_k, y_k)``. It
is a sum, not a mean, over the outputs: ``squared_error`` is ``1/2 |f - y|^2``, so that a network of several
outputs whose neurons serve one output each has the objective of as many networks of one output.

Conjugate, best scale and balance follow output by output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from .base import ConicForm, Loss, VectorLoss


class PerOutput(VectorLoss):
    """A loss of one output, summed over several.

    Parameters
    ----------
    single : Loss
        Smooth, of the output itself.

    Raises
    ------
    ValueError
        For a loss with kinks or with a link.
    """

    def __init__(self, single: Loss) -> None:
        if not single.smooth or type(single).mean is not Loss.mean:
            raise ValueError(
                f"loss={single.name!r} is for one output: pass 'squared_error' or 'huber' for several, or "
                "wrap the estimator in sklearn.multioutput.MultiOutputRegressor (for classes in "
                "sklearn.multiclass.OneVsRestClassifier)"
            )
        self.single = single
        self.name = single.name  # type: ignore[misc]
        self.classification = single.classification  # type: ignore[misc]

    @property
    def curvature(self) -> float:
        return self.single.curvature

    def _flat(self, f: Any, y: Any, s: Any) -> tuple[Any, Any, Any]:
        """Every output of every sample as a sample of its own."""
        return f.reshape(-1), y.reshape(-1), (s[:, None] + 0.0 * y).reshape(-1)

    def value(self, f: Array, y: Array, s: Array) -> float:
        return self.single.value(*self._flat(f, y, s))

    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        return self.single.gradient(*self._flat(f, y, s)).reshape(f.shape)

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        return self.single.hessian(*self._flat(f, y, s)).reshape(f.shape)

    def curve(self, f: np.ndarray, y: np.ndarray, s: np.ndarray, V: np.ndarray) -> np.ndarray:
        return self.hessian(f, y, s) * V

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        return self.single.conjugate(*self._flat(z, y, s))

    def best_scale(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray, limit: float) -> float:
        return self.single.best_scale(*self._flat(Z, y, s), limit)

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> Any:
        """The best constant of each output, shape (outputs,)."""
        return np.array([self.single.intercept(f[:, k], y[:, k], s) for k in range(f.shape[1])])

    def balance(self, Z: np.ndarray) -> np.ndarray:  # type: ignore[override]
        """Balance each column as the loss of one output does."""
        return np.column_stack([self.single.balance(column) for column in Z.T])

    def nearest(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        return self.single.nearest(*self._flat(Z, y, s)).reshape(Z.shape)

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm | None:
        """The form of the single loss, for predictions that are flat, row after row."""
        _, targets, weights = self._flat(y, y, s)
        return self.single.conic(targets, weights)

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        import cvxpy as cp

        parts = [self.single.to_cvxpy(f[:, k], y[:, k], s) for k in range(y.shape[1])]
        return cp.sum(cp.hstack(parts))
