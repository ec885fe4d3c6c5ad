r"""Two-layer gated ReLU networks with several outputs.

As with one output, gates g_j are fixed. Neurons of one gate add up to a matrix, and weight decay on them,
minimised over all ways to split it into neurons, is its nuclear norm:

    minimise   L( sum_j D_j X W_j + c ) + beta * sum_j ||W_j||_*,      D_j = diag(1[X g_j >= 0]).

The program is convex and exact for these gates; its dual constraint ``||X'D_j Z||_2 <= beta`` costs a
matrix product and small singular values, so certificates are exact too (scope ``patterns``). The singular
vectors of a W_j are its neurons. With ``coupling="separate"`` the penalty is ``sum_j sum_k ||W_jk||_2``
over the columns, one network for each output; see :mod:`cvxnn.architectures.vector_rectified` for the
network penalty that equals.

References: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021; Mishkin, Sahiner and Pilanci, ICML 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, Price
from ..network import Affine, Gated, Network
from ..operators import Masked
from ..parameters import check_coupling
from ..penalties import ColumnL2, NuclearNorm, Penalty
from ..program import Problem, Program, Solution
from ..vector_growth import Coupling
from ..vector_operators import PerColumn
from .base import (
    VectorArchitecture,
)
from .hidden import GatedHidden


class MatrixOracle(Oracle):
    """Exact pricing over listed gates: the largest polar of ``X'D_j Z``."""

    def __init__(self, problem: Problem, operator: PerColumn, penalty: Penalty) -> None:
        super().__init__(problem)
        self.operator, self.penalty = operator, penalty

    def price(self, Z: np.ndarray) -> Price:
        value = float(np.max(self.penalty.polar(self.operator.adjoint(Z)), initial=0.0))
        return Price(value * (1.0 + 1e-12), "patterns", value)


@dataclass(frozen=True)
class VectorGatedReLU(GatedHidden, VectorArchitecture):
    """Two-layer gated ReLU networks with several outputs.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        Whether neurons and gates see a column of ones.
    patterns : {"auto", "all", "wedge"}, int, tuple or ndarray of shape (gates, d), default="auto"
        How many Gaussian gates to draw ("auto": 100, duplicates removed); "all" takes one gate in every
        cell of the data; an array gives the gates themselves. "wedge" or ("wedge", number) draws them
        through samples, see :mod:`cvxnn.geometric`.
    coupling : {"joint", "separate"}, default="joint"
        Weight decay (nuclear norms), or networks that share nothing between outputs.
    skip : bool, default=False
        Whether the zero gate, a linear skip connection, joins the other gates.
    """

    name: ClassVar[str] = "gated_relu"
    auto_gates: ClassVar[int] = 100

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"
    coupling: str = "joint"
    skip: bool = False

    def _design(self, problem: Problem) -> np.ndarray:
        check_coupling(self.coupling)
        return super()._design(problem)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        return Program(
            self._operator(problem, arrangement),
            problem.loss,
            problem.y,
            problem.weights,
            problem.beta,
            self._penalty(),
            intercept=problem.intercept,
        )

    def _penalty(self) -> Penalty:
        return NuclearNorm() if self.coupling == "joint" else ColumnL2()

    def _operator(self, problem: Problem, arrangement: Arrangement) -> PerColumn:
        return PerColumn(Masked(self._design(problem), arrangement.bits))

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """A neuron for every singular vector (or column) that is not zero, its layers balanced."""
        W = np.asarray(solution.W, dtype=np.float64)
        if self.coupling == "joint":
            left, sizes, right = np.linalg.svd(W, full_matrices=False)
            U, V = left.transpose(0, 2, 1), right
        else:
            sizes = np.linalg.norm(W, axis=1)
            U = W.transpose(0, 2, 1) / np.maximum(sizes, 1e-300)[:, :, None]
            V = np.broadcast_to(np.eye(W.shape[2]), (len(W), W.shape[2], W.shape[2]))
        gate, k = np.nonzero(sizes > 1e-10 * np.sum(sizes))
        root = np.sqrt(sizes[gate, k])[:, None]
        return self.plain(problem, arrangement.gates[gate], U[gate, k] * root, V[gate, k] * root)

    def cost(self, network: Network) -> float:
        """``sum_j |(w_j, b_j)| |v_j|``; gates are fixed and cost nothing."""
        norms, last = self.hidden_norms(network), network.layers[-1]
        assert isinstance(last, Affine)
        return float(norms @ Coupling(self.coupling).norms(last.weight))

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> MatrixOracle:
        if arrangement is None:
            raise ValueError("a gated network is judged against its gates: pass an arrangement")
        return MatrixOracle(problem, self._operator(problem, arrangement), self._penalty())

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Only the network without neurons needs no gates: what an early interrupt returns."""
        if W1.shape[1]:
            return super().adopt(W1, b1, w2, c)
        constant = np.broadcast_to(np.asarray(c, dtype=float), w2.shape[1:]).copy()
        return Network((Gated(W1, b1, W1, b1), Affine(w2, constant)))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        assert arrangement is not None
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
        V = V / Coupling(self.coupling).norms(V)[:, None]
        return self.unit_outputs(problem, arrangement, U)[:, :, None] * V[:, None, :]
