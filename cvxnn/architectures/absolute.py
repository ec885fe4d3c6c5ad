r"""Two-layer networks of absolute values.

A neuron ``a |x'w + b|`` is ``a (x'w + b)_+ + a (-x'w - b)_+``: two ReLU neurons that share their weights,
at the price of one. With S = 2 D - I, the signs of a pattern, the convex program is

    minimise   L( sum_i S_i X (u_i - v_i) + c ) + beta * sum_i (||u_i|| + ||v_i||)
    subject to S_i X u_i >= 0,   S_i X v_i >= 0,

that of :mod:`cvxnn.architectures.relu` with slope -1 on the negative side. The activation is even: u and -u
are one neuron, so of every two opposite patterns one is enough, and equal neurons are merged with their
opposites.

With several outputs all is as for ReLU networks, with S for D:
:mod:`cvxnn.architectures.vector_rectified`. A linear neuron beside the others
(:mod:`cvxnn.architectures.skip`) does what no absolute values do: without biases they are even functions.

References: Pilanci and Ergen, ICML 2020; Ergen and Pilanci, JMLR 2021 (piecewise linear activations).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import network
from ..network import Activation
from .base import Architecture
from .skip import WithSkip
from .vector_skip import WithVectorSkip


@dataclass(frozen=True)
class Absolute(WithSkip):
    """Two-layer networks of absolute values with one output.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        As in :class:`cvxnn.architectures.relu.ReLU`.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        Likewise.
    skip : bool, default=False
        Likewise.

    Raises
    ------
    ValueError
        If a skip connection does not go with the rest.
    """

    name: ClassVar[str] = "absolute"
    layer: ClassVar[type[Activation]] = network.Absolute

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    skip: bool = False

    def __post_init__(self) -> None:
        self.check()

    @property
    def leak(self) -> float:
        return -1.0

    def for_outputs(self, outputs: int) -> Architecture:
        """Return this family, or its sister for several outputs where patterns grow."""
        return self if outputs == 1 else VectorAbsolute(self.hidden_bias, self.patterns, skip=self.skip)


@dataclass(frozen=True)
class VectorAbsolute(WithVectorSkip):
    """Two-layer networks of absolute values with several outputs.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        As in :class:`cvxnn.architectures.vector_relu.VectorReLU`.
    patterns : {"auto"}, default="auto"
        Likewise.
    coupling : {"joint", "separate"}, default="joint"
        Likewise.
    skip : bool, default=False
        Likewise.

    Raises
    ------
    ValueError
        If a skip connection does not go with the rest.
    """

    name: ClassVar[str] = "absolute"
    layer: ClassVar[type[Activation]] = network.Absolute

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    coupling: str = "joint"
    skip: bool = False

    def __post_init__(self) -> None:
        self.check()

    @property
    def leak(self) -> float:
        return -1.0
