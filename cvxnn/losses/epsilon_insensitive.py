"""The epsilon-insensitive loss of support vector regression, ``max(|f - y| - epsilon, 0)``.

Conjugate: ``loss*(z) = z y + epsilon |z|`` for ``|z| <= 1``, infinite elsewhere.

Reference: Smola and Schölkopf, "A tutorial on support vector regression", Stat. Comput. 2004.
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
class EpsilonInsensitive(PiecewiseQuadratic):
    """The absolute error of one sample beyond a tube, ``max(|f - y| - epsilon, 0)``.

    Parameters
    ----------
    epsilon : float, default=0.1
        Half the width of the tube, in the units of y, at least 0; the default is that of scikit-learn's
        SVR.
    smoothing, center
        As of :class:`cvxnn.losses.piecewise.PiecewiseQuadratic`; training sets them.
    """

    name: ClassVar[str] = "epsilon_insensitive"

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        real = isinstance(self.epsilon, Real) and not isinstance(self.epsilon, bool)
        if not (real and self.epsilon >= 0.0 and np.isfinite(self.epsilon)):
            raise ValueError(
                f"epsilon={self.epsilon!r} must be a finite number of at least 0: pass 0.1, say"
            )

    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        one = array_namespace(y).ones_like(y)
        return ClippedHinge(one, -y - self.epsilon, 1.0, 0.0), ClippedHinge(
            -one, y - self.epsilon, 1.0, 0.0
        )
