r"""Convolutional networks of two layers with global pooling.

A filter u slides over the input, a ReLU follows, and the results at all K positions are added up (or
averaged). With the patches ``X_k`` (n, patch) of all samples at position k the network is

    f = sum_j a_j sum_k (X_k u_j)_+ + c,      R = 1/2 sum_j (||u_j||^2 + a_j^2).

In a cell of the arrangement of the stacked patches ``X_c = [X_1; ...; X_K]`` every ``D_k`` in ``(X_k u)_+ =
D_k X_k u`` is fixed, so the network is linear in u there, and weight decay turns into a norm as in
:mod:`cvxnn.architectures.relu`:

    minimise   L( sum_i sum_k D_ik X_k (u_i - v_i) + c ) + beta * sum_i (||u_i|| + ||v_i||)
    subject to (2 D_ik - I) X_k u_i >= 0,   (2 D_ik - I) X_k v_i >= 0      for all k,

over the patterns i of ``X_c``. Its rank is at most the length of a patch, whatever the size of the images:
there are at most ``2 sum_{k < patch} C(nK - 1, k)`` patterns, polynomially many in n for a fixed filter.
Averaging divides the ``X_k`` by K. A penalised bias is one more entry 1 of every patch.

The price of a dual variable Z is that of an ordinary ReLU neuron on the rows of ``X_c`` with Z repeated
(:mod:`cvxnn.pooled_oracles`), so everything that grows, lists and bounds ReLU networks serves here too:
patterns are listed where there are few (scope ``global``) and grow otherwise (scope ``bounded``; ``global``
with patches of two numbers). Rows of patches that are all zero, as padding makes them, are rows that no
neuron sees.

Several outputs have an output vector v_j for every filter. Per pattern the convex form has the nuclear
norm with left factors kept in the cone of the pattern, as in :mod:`cvxnn.architectures.vector_relu`; its
dual constraint is ``max_u |sum_i Z_i sum_k (x_ik'u)_+| <= beta`` with rows Z_i, the price of a neuron on
the stacked patches again. The scope is ``global`` where the faces of their arrangement are few enough to
list, and ``bounded`` otherwise.

References: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021, sections 2
and 3; Pilanci and Ergen, ICML 2020; Sahiner, Ergen, Ozturkler, Pauly, Mardani and
Pilanci, "Scaling convex neural networks with Burer-Monteiro factorization" (several outputs).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..growth import Rows
from ..network import Network
from ..oracles import Design, NeuronOracle
from ..pooled_oracles import PooledOracle, PooledVectorOracle
from ..program import Problem
from ..vector_oracles import VectorOracle
from .base import Architecture
from .convolutional import Size, SumPooled
from .rectified import AUTO_PATTERNS, Rectified
from .vector_rectified import VectorRectified


@dataclass(frozen=True)
class CNN(SumPooled, Rectified):
    """Convolutional networks of two layers with global sum or average pooling and one output.

    Parameters
    ----------
    kernel : int, (int, int) or None, default=None
        Height and width of the filters; None is 3, or the whole axis where that is shorter.
    input_shape : (h, w), (h, w, c), (length,) or None, default=None
        What a flat row is, in NumPy's order, channels last; a signal with channels is (length, 1, c).
        None is a signal of one channel, or the shape of the samples that an estimator is given.
    stride : int or (int, int), default=1
    padding : int, (int, int) or "circular", default=0
        Zeros on each side of the input, or the opposite side of it.
    pooling : {"mean", "sum"}, default="mean"
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias per filter that is penalised with its weights, one that is not (which also frees the output's
        constant), or none.
    patterns : {"auto", "all"} or int, default="auto"
        Of all patches together: listed where there are few and grown otherwise; "all" insists on listing; a
        number trains on that many sampled patterns, with scope ``patterns``.
    """

    name: ClassVar[str] = "cnn"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"

    @property
    def leak(self) -> float:
        return 0.0

    def _most_listed(self, problem: Problem, X: np.ndarray) -> int:
        return AUTO_PATTERNS

    def _plain(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """Balance the layers, and give the output its best constant."""
        root = np.sqrt(design.norms(rows.U))[:, None]
        return self.of_rows(problem, rows.U @ design.basis.T / root, rows.signs[:, None] * root)

    def _search_oracle(self, problem: Problem, design: Design) -> NeuronOracle:
        return PooledOracle(problem, super()._search_oracle(problem, design))

    def _cell_oracle(self, problem: Problem, design: Design, arrangement: Arrangement) -> NeuronOracle:
        return PooledOracle(problem, super()._cell_oracle(problem, design, arrangement))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.unit_outputs(problem, U)

    def for_outputs(self, outputs: int) -> Architecture:
        if outputs == 1:
            return self
        # patterns of several outputs grow; others are refused there
        return VectorCNN(**{part.name: getattr(self, part.name) for part in fields(self)})


@dataclass(frozen=True)
class VectorCNN(SumPooled, VectorRectified):
    """Convolutional networks of two layers with global sum or average pooling and several outputs.

    Parameters
    ----------
    kernel, input_shape, stride, padding, pooling
        As of :class:`cvxnn.architectures.cnn.CNN`.
    hidden_bias : {"penalized", "free", None}, default="penalized"
    patterns : {"auto"}, default="auto"
        Patterns always grow; a network is compared with those of all patterns.
    coupling : {"joint", "separate"}, default="joint"
        Weight decay on the output layer, or the square of the sum of sizes of each filter's output weights.
    """

    name: ClassVar[str] = "cnn"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"
    coupling: str = "joint"

    @property
    def leak(self) -> float:
        return 0.0

    def design(self, problem: Problem) -> Design:
        """Return the stacked patches, divided by their number where they are averaged."""
        self._check()
        return super().design(problem)

    def _oracle_of(self, problem: Problem, design: Design, limit: float) -> VectorOracle:
        return PooledVectorOracle(problem, super()._oracle_of(problem, design, limit))
