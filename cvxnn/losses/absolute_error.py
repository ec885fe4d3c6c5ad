"""The absolute error, ``|f - y|``: its best constant is the median.

Conjugate: ``loss*(z) = z y`` for ``|z| <= 1``, infinite elsewhere.

Reference: Boyd and Vandenberghe, Convex Optimization, sections 3.3 and 6.1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, array_namespace
from .base import ClippedHinge
from .piecewise import PiecewiseQuadratic


@dataclass(frozen=True)
class AbsoluteError(PiecewiseQuadratic):
    """The absolute error of one sample, ``|f - y|``.

    Parameters
    ----------
    smoothing, center
        As of :class:`cvxnn.losses.piecewise.PiecewiseQuadratic`; training sets them.
    """

    name: ClassVar[str] = "absolute_error"

    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        one = array_namespace(y).ones_like(y)
        return ClippedHinge(one, -y, 1.0, 0.0), ClippedHinge(-one, y, 1.0, 0.0)
