r"""Gated convolutional networks: fixed gates decide which patches pass.

A filter u behind the gate g computes ``1[x'g >= 0] x'u`` on every patch x. With the gates fixed the
network is linear in its filters, and the convex program has the nuclear norm of one matrix for every gate
and no cones, see :mod:`cvxnn.architectures.convolutional_head`; where all positions are pooled and there
is one output it is a group lasso. Certificates are exact against networks with these gates (scope
``patterns``). With all patterns of the stacked patches as gates the optimum is a lower bound of that of
ReLU networks with the same pooling.

References: Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, "Scaling convex neural networks with
Burer-Monteiro factorization" (gated convolutions); Mishkin, Sahiner and Pilanci, ICML 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Scope
from ..network import GatedConv, Network
from ..program import Problem
from .base import Architecture, VectorArchitecture
from .convolutional import WHOLE, PoolSize, Size, is_linear_above
from .convolutional_head import Headed
from .two_layer import check_patterns, sampled

#: Gates that "auto" draws, and gates beyond which ``patterns="all"`` refuses.
AUTO_GATES, ALL_GATES = 50, 5000


class GatedHead(Headed):
    """What gated convolutions of one and of several outputs share."""

    scope: ClassVar[Scope] = "patterns"
    layer = GatedConv

    patterns: str | int | tuple | np.ndarray

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return is_linear_above(network, GatedConv)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement:
        """Return the gates and their patterns on the stacked patches."""
        self._checked(problem)
        X = self.stacked(problem)
        check_patterns(self.patterns, arrays=True)
        if isinstance(self.patterns, np.ndarray):
            if self.patterns.ndim != 2 or self.patterns.shape[1] != X.shape[1]:
                raise ValueError(f"gates must have shape (gates, {X.shape[1]}), got {self.patterns.shape}")
            return Arrangement.from_gates(X, self.patterns)
        if isinstance(self.patterns, str) and self.patterns == "all":
            return Arrangement.enumerate(X, limit=ALL_GATES)
        return sampled(X, self.patterns, random_state, AUTO_GATES)

    def first_layer(self, problem: Problem, gates: np.ndarray, U: np.ndarray) -> GatedConv:
        gate, conv = self.conv_layer(problem, gates), self.conv_layer(problem, U)
        return GatedConv(gate.weight, gate.bias, conv.weight, conv.bias, conv.geometry)

    def like(self, network: Network) -> Any:
        """Return the family with the geometry, the pooling and the gates of a network."""
        first = network.layers[0]
        assert isinstance(first, GatedConv)
        same = super().like(network)
        if not first.gates.size:  # a network without filters knows no gates
            return same
        same.check_conv(network)  # gates with biases are none of a family without
        gates = first.gates.T
        if self.hidden_bias is not None:
            gates = np.column_stack([gates, first.gate_bias])
        return replace(same, patterns=gates)


@dataclass(frozen=True)
class CNNGated(GatedHead, Architecture):
    """Gated convolutional networks with one output.

    Parameters
    ----------
    kernel, input_shape, stride, padding
        As of :class:`cvxnn.architectures.cnn.CNN`.
    pool : int, (int, int), "all" or "flatten", default="all"
        The windows that are pooled, side by side: their size, all positions, or none.
    pooling : {"mean", "sum"}, default="mean"
    hidden_bias : {"penalized", None}, default="penalized"
        Whether filters and gates see a column of ones.
    patterns : {"auto", "all", "wedge"}, int, tuple or ndarray of shape (gates, patch), default="auto"
        How many Gaussian gates to draw ("auto": 50, duplicates removed); "all" takes one gate in every
        cell of the stacked patches; an array gives the gates themselves. "wedge" or ("wedge", number) draws
        them through random patches, see :mod:`cvxnn.geometric`.
    """

    name: ClassVar[str] = "cnn_gated"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pool: PoolSize = WHOLE
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"

    def for_outputs(self, outputs: int) -> Architecture:
        if outputs == 1:
            return self
        return VectorCNNGated(**{part.name: getattr(self, part.name) for part in fields(self)})


@dataclass(frozen=True)
class VectorCNNGated(GatedHead, VectorArchitecture):
    """Gated convolutional networks with several outputs.

    Parameters
    ----------
    kernel, input_shape, stride, padding, pool, pooling, hidden_bias, patterns
        As of :class:`CNNGated`.
    """

    name: ClassVar[str] = "cnn_gated"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pool: PoolSize = WHOLE
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"
