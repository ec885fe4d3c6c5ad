"""Huber's loss: the squared error near the target, the absolute error far from it.

    loss(f, y) = 1/2 (f - y)^2   where |f - y| <= epsilon,     epsilon |f - y| - epsilon^2 / 2   elsewhere.

Unlike scikit-learn's HuberRegressor, which estimates a scale together with the coefficients, epsilon is
here in the units of y, as it is in SGDRegressor. Conjugate: ``loss*(z) = 1/2 z^2 + z y`` for ``|z| <=
epsilon``, infinite elsewhere.

Reference: Huber, "Robust estimation of a location parameter", Ann. Math. Stat. 1964.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

from ..arrays import Array, array_namespace
from .base import ClippedHinge
from .piecewise import PiecewiseQuadratic


@dataclass(frozen=True)
class Huber(PiecewiseQuadratic):
    """Huber's loss of one sample.

    Parameters
    ----------
    epsilon : float, default=1.35
        Residuals beyond it, in the units of y, enter linearly; > 0. The default suits targets whose
        noise has deviation 1.
    smoothing, center
        As of :class:`cvxnn.losses.piecewise.PiecewiseQuadratic`; training sets them.
    """

    name: ClassVar[str] = "huber"

    epsilon: float = 1.35

    def __post_init__(self) -> None:
        real = isinstance(self.epsilon, Real) and not isinstance(self.epsilon, bool)
        if not (real and self.epsilon > 0.0 and np.isfinite(self.epsilon)):
            raise ValueError(f"epsilon={self.epsilon!r} must be a finite number > 0: pass 1.35, say")

    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        one = array_namespace(y).ones_like(y)
        return ClippedHinge(one, -y, self.epsilon, 1.0), ClippedHinge(-one, y, self.epsilon, 1.0)
