r"""Two-layer networks with a linear skip connection, and several outputs.

The network ``f(x) = sum_j v_j phi(x'w_j + b_j) + S'x + q + c`` passes its inputs on besides, by a matrix S.
As with one output (:mod:`cvxnn.architectures.skip`) a skip connection is made of *neurons*, here linear
ones ``v (x'w + b)`` with weight decay on both layers. Minimised over all ways to write S (its last row q,
where biases are penalised) as a sum of them, that decay is

    min { 1/2 sum_k (|w_k|^2 + |v_k|^2) :  S = sum_k w_k v_k' }  =  ||S||_*,

the nuclear norm, ``||p||`` with one output, and the network has the optimal value of

    minimise   L( sum_j phi(X u_j) v_j' + X S + c ) + beta * ( sum_j |u_j| |v_j| + ||S||_* ).

The singular vectors of S are its neurons, of which ``min(d, outputs)`` are enough: a skip connection has
the rank that it is worth. The dual constraint beside that of the other neurons is ``||X'Z||_2 <= beta``,
the largest singular value, exact at the price of one product (:mod:`cvxnn.vector_skip_oracles`). Where
outputs are separate S pays ``sum_k |S_k|``, the norms of its columns, and the dual has those of ``X'Z``.

That it never hurts, what a free hidden bias brings by itself, and what other activations make of lines, is
as with one output. Growing is that of :mod:`cvxnn.architectures.vector_rectified`: a linear neuron is one
of slope 1, so descent and Newton's methods move all, and found lines are inserted with other neurons.

References: Srebro, Rennie and Jaakkola, "Maximum-margin matrix factorization", NIPS 2004, lemma 1 (the
nuclear norm); Sahiner, Ergen, Pauly and Pilanci, ICLR 2021 (several outputs).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrangement import Arrangement
from ..design import Design
from ..network import Affine, Network
from ..program import Problem
from ..vector_growth import Coupling, Rows
from ..vector_oracles import TooManyFaces, VectorOracle
from ..vector_skip_oracles import VectorSkipFaces, VectorSkipSearch
from .skip import SkipHidden
from .two_layer import with_constants
from .vector_rectified import VectorRectified


class WithVectorSkip(SkipHidden, VectorRectified):
    """Networks of several outputs that may have linear neurons beside the others, as `skip` says."""

    skip: bool

    def _oracle_of(self, problem: Problem, design: Design, limit: float) -> VectorOracle:
        if not self.skip:
            return super()._oracle_of(problem, design, limit)
        try:
            return VectorSkipFaces(problem, design, self._check(), limit)
        except TooManyFaces:
            return VectorSkipSearch(problem, design, self._check())

    def _network(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """Balance the layers, linear neurons last, and give the outputs their best constants."""
        if not self.skip:
            return super()._network(problem, design, rows)
        rows = rows.take(np.argsort(rows.linear, kind="stable"))
        root, d = np.sqrt(design.norms(rows.U))[:, None], problem.X.shape[1]
        full = design.weights(rows.U) / root
        bias = np.zeros(len(full)) if self.hidden_bias is None else full[:, d]
        phi = self.beside(int(np.sum(rows.linear)))
        W1 = np.ascontiguousarray(full[:, :d].T)
        return with_constants(problem, Network.two_layer(W1, bias, rows.G * root, 0.0, phi))

    def rows_of(self, oracle: VectorOracle, network: Network, design: Design, coupling: Coupling) -> Rows:
        if not self.skip:
            return super().rows_of(oracle, network, design, coupling)
        first, phi = network.layers[0], network.layers[1]
        assert isinstance(first, Affine)
        full = np.column_stack([first.weight.T, first.bias])
        linear = np.arange(len(full)) >= len(full) - getattr(phi, "passed", 0)
        return Rows.of(design.coordinates(full), self.output_rows(network), design, coupling, linear)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Bent neurons, and with a skip connection every third one linear."""
        H = super().unit_neurons(problem, arrangement, U)
        if self.skip:
            V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
            V = V / self._check().norms(V)[:, None]
            H[::3] = self.straight_outputs(problem, U[::3])[:, :, None] * V[::3, None, :]
        return H

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        return Network.two_layer(W1, b1, w2, c, self.beside(0) if self.skip else self.activation)
