r"""Convolutional networks without a kink: one convolution, and output weights for every position.

The network ``f = sum_j sum_k X_k u_j w_jk + c`` of patches ``X_k`` computes ``sum_k X_k z_k`` with the
columns of ``Z = sum_j u_j w_j'``, so that weight decay is the nuclear norm of ``Z = [z_1 ... z_K]``,
(patch, K):

    minimise   L( sum_k X_k z_k + c ) + beta * ||[z_1 ... z_K]||_*.

A linear pooling before the output layer leaves one column for every window; all positions pooled leave
the norm of one filter. Several outputs have K columns each. Everything is that of
:mod:`cvxnn.architectures.convolutional_head` with one gate that is always open; certificates are exact,
and hold against networks with any number of filters (scope ``global``).

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement, pack
from ..certificate import Scope
from ..network import Conv, Network
from ..program import Problem
from .base import Architecture, VectorArchitecture
from .convolutional import FLAT, PoolSize, Size, is_linear_above
from .convolutional_head import Headed


class LinearHead(Headed):
    """What linear convolutions of one and of several outputs share."""

    scope: ClassVar[Scope] = "global"

    patterns: str

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return is_linear_above(network, Conv)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement:
        """Return the one pattern there is: every patch passes."""
        self._checked(problem)
        if self.patterns not in ("auto", "all"):
            raise ValueError(f"patterns={self.patterns!r}: linear networks have none, pass 'auto'")
        X = self.stacked(problem)
        return Arrangement(pack(np.ones((1, len(X)))), len(X), np.zeros((1, X.shape[1])), True)


@dataclass(frozen=True)
class CNNLinear(LinearHead, Architecture):
    """Linear convolutional networks with one output.

    Parameters
    ----------
    kernel, input_shape, stride, padding
        As of :class:`cvxnn.architectures.cnn.CNN`.
    pool : int, (int, int), "all" or "flatten", default="flatten"
        The windows that are pooled, side by side: their size, all positions, or none.
    pooling : {"mean", "sum"}, default="mean"
    hidden_bias : {"penalized", None}, default="penalized"
    patterns : {"auto", "all"}, default="auto"
        Linear networks have none.
    """

    name: ClassVar[str] = "cnn_linear"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pool: PoolSize = FLAT
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str = "auto"

    def for_outputs(self, outputs: int) -> Architecture:
        if outputs == 1:
            return self
        return VectorCNNLinear(**{part.name: getattr(self, part.name) for part in fields(self)})


@dataclass(frozen=True)
class VectorCNNLinear(LinearHead, VectorArchitecture):
    """Linear convolutional networks with several outputs.

    Parameters
    ----------
    kernel, input_shape, stride, padding, pool, pooling, hidden_bias, patterns
        As of :class:`CNNLinear`.
    """

    name: ClassVar[str] = "cnn_linear"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pool: PoolSize = FLAT
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str = "auto"
