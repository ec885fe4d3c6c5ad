"""The hinge loss of a class in {-1, +1}, ``max(1 - y f, 0)``: support vector machines.

Conjugate: ``loss*(z) = y z`` for ``-1 <= y z <= 0``, infinite elsewhere. The output is a decision value; it
says nothing about probabilities.

Reference: Cortes and Vapnik, "Support-vector networks", Machine Learning 1995.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, array_namespace
from .base import ClippedHinge
from .piecewise import PiecewiseQuadratic


@dataclass(frozen=True)
class Hinge(PiecewiseQuadratic):
    """The hinge loss of one sample, ``max(1 - y f, 0)`` with ``y`` in {-1, +1}.

    Parameters
    ----------
    smoothing, center
        As of :class:`cvxnn.losses.piecewise.PiecewiseQuadratic`; training sets them.
    """

    name: ClassVar[str] = "hinge"
    classification: ClassVar[bool] = True

    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        return (ClippedHinge(-y, array_namespace(y).ones_like(y), 1.0, 0.0),)
