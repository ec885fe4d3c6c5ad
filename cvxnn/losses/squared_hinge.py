"""The squared hinge loss of a class in {-1, +1} with its half, ``1/2 max(1 - y f, 0)^2``.

The half is that of the squared error; scikit-learn's LinearSVC has none. Conjugate: ``loss*(z) = y z + z^2
/ 2`` for ``y z <= 0``, infinite elsewhere.

Reference: Lee and Mangasarian, "SSVM: a smooth support vector machine", Comput. Optim. Appl. 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, array_namespace
from .base import ClippedHinge
from .piecewise import PiecewiseQuadratic


@dataclass(frozen=True)
class SquaredHinge(PiecewiseQuadratic):
    """Half the squared hinge loss of one sample, ``y`` in {-1, +1}.

    Parameters
    ----------
    smoothing, center
        As of :class:`cvxnn.losses.piecewise.PiecewiseQuadratic`; training sets them.
    """

    name: ClassVar[str] = "squared_hinge"
    classification: ClassVar[bool] = True

    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        return (ClippedHinge(-y, array_namespace(y).ones_like(y), float("inf"), 1.0),)
