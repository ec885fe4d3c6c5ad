"""The quantile (pinball) loss: its best constant is a quantile.

    loss(f, y) = q (y - f)   where f <= y,      (1 - q) (f - y)   where f >= y.

At ``quantile=0.5`` it is half the absolute error, as in scikit-learn's QuantileRegressor. Conjugate:
``loss*(z) = z y`` for ``-q <= z <= 1 - q``, infinite elsewhere.

Reference: Koenker and Bassett, "Regression quantiles", Econometrica 1978.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from ..arrays import Array, array_namespace
from .base import ClippedHinge
from .piecewise import PiecewiseQuadratic


@dataclass(frozen=True)
class Quantile(PiecewiseQuadratic):
    """The quantile loss of one sample.

    Parameters
    ----------
    quantile : float, default=0.5
        The quantile to predict, strictly between 0 and 1.
    smoothing, center
        As of :class:`cvxnn.losses.piecewise.PiecewiseQuadratic`; training sets them.
    """

    name: ClassVar[str] = "quantile"

    quantile: float = 0.5

    def __post_init__(self) -> None:
        real = isinstance(self.quantile, Real) and not isinstance(self.quantile, bool)
        if not real or not 0.0 < self.quantile < 1.0:
            raise ValueError(f"quantile={self.quantile!r} must be strictly between 0 and 1: pass 0.9, say")

    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        one = array_namespace(y).ones_like(y)
        return ClippedHinge(one, -y, 1.0 - self.quantile, 0.0), ClippedHinge(-one, y, self.quantile, 0.0)
