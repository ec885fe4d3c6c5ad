r"""Two-layer leaky ReLU networks.

The activation ``phi(t) = t`` for t > 0 and ``s t`` for t < 0, with a slope s in [-1, 1), changes its piece
where the ReLU does. A neuron with pattern D computes ``D~ X u`` on the data, with

    D~ = D + s (I - D),       (2 D - I) X u >= 0,

so the convex program is that of :mod:`cvxnn.architectures.relu` with D~ for D in the loss and the same
cones:

    minimise   L( sum_i D~_i X (u_i - v_i) + c ) + beta * sum_i (||u_i|| + ||v_i||),   u_i, v_i in the
    cones,

with the dual constraint ``max over ||u|| <= 1 of |Z'phi(Xu)| <= beta``. Weight decay becomes the norm by
the same argument, for phi is positively homogeneous. The pattern of zeros counts: a neuron that is off
everywhere is linear with slope s. Since ``phi(t) = (1 - s) t_+ + s t``, prices are those of ReLU neurons
plus a linear part, and the bound over all patterns is that of :mod:`cvxnn.bounds` with another share of t
beside ``|t|``.

With several outputs all is as for ReLU networks, with D~ for D:
:mod:`cvxnn.architectures.vector_rectified`. Linear neurons beside the others are those of
:mod:`cvxnn.architectures.skip`.

References: Pilanci and Ergen, ICML 2020; Ergen and Pilanci, "Convex geometry and duality of
over-parameterized neural networks", JMLR 2021 (piecewise linear activations).
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from typing import ClassVar

from .. import network
from ..network import Activation, Network
from .base import Architecture
from .hidden import leak_of
from .skip import WithSkip, bent
from .vector_skip import WithVectorSkip


def _check_slope(slope: object) -> None:
    real = isinstance(slope, numbers.Real) and not isinstance(slope, bool)
    if not real or not -1.0 <= float(slope) < 1.0:  # type: ignore[arg-type]
        raise ValueError(
            f"slope={slope!r} must be a number from -1 up to, but not including, 1: "
            "pass 0.01 (the default), or architecture='linear' for slope 1"
        )


@dataclass(frozen=True)
class LeakyReLU(WithSkip):
    """Two-layer leaky ReLU networks with one output.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        As in :class:`cvxnn.architectures.relu.ReLU`.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        Likewise.
    slope : float, default=0.01
        Of the negative side, in [-1, 1).
    skip : bool, default=False
        Likewise.

    Raises
    ------
    ValueError
        If the slope is none, or a skip connection does not go with the rest.
    """

    name: ClassVar[str] = "leaky_relu"
    layer: ClassVar[type[Activation]] = network.LeakyReLU

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    slope: float = 0.01
    skip: bool = False

    def __post_init__(self) -> None:
        _check_slope(self.slope)
        self.check()

    @property
    def leak(self) -> float:
        return float(self.slope)

    def for_outputs(self, outputs: int) -> Architecture:
        """Return this family, or its sister for several outputs where patterns grow."""
        if outputs == 1:
            return self
        return VectorLeakyReLU(self.hidden_bias, self.patterns, slope=self.slope, skip=self.skip)

    def like(self, network: Network) -> LeakyReLU:
        """Return the family with the slope of a network, and a skip connection if that has one."""
        return replace(super().like(network), slope=leak_of(bent(network).layers[1]))


@dataclass(frozen=True)
class VectorLeakyReLU(WithVectorSkip):
    """Two-layer leaky ReLU networks with several outputs.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        As in :class:`cvxnn.architectures.vector_relu.VectorReLU`.
    patterns : {"auto"}, default="auto"
        Likewise.
    coupling : {"joint", "separate"}, default="joint"
        Likewise.
    slope : float, default=0.01
        Of the negative side, in [-1, 1).
    skip : bool, default=False
        Likewise.

    Raises
    ------
    ValueError
        If the slope is none, or a skip connection does not go with the rest.
    """

    name: ClassVar[str] = "leaky_relu"
    layer: ClassVar[type[Activation]] = network.LeakyReLU

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    coupling: str = "joint"
    slope: float = 0.01
    skip: bool = False

    def __post_init__(self) -> None:
        _check_slope(self.slope)
        self.check()

    @property
    def leak(self) -> float:
        return float(self.slope)

    def like(self, network: Network) -> VectorLeakyReLU:
        """Return the family with the slope of a network, and a skip connection if that has one."""
        return replace(super().like(network), slope=leak_of(bent(network).layers[1]))
