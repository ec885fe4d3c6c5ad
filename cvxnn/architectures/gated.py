r"""Two-layer gated ReLU networks: fixed gates decide which samples pass.

The gates are fixed vectors g_j; a neuron passes ``x'w_j`` where its gate is open. The network
``f(x) = sum_j 1[x'g_j >= 0] (x'w_j) a_j + c`` with weight decay has the same optimal value as

    minimise   L( sum_j D_j X w_j + c ) + beta * sum_j ||w_j||,      D_j = diag(1[X g_j >= 0]),

a group lasso without any cone: exact for these gates, whatever their number. Its dual constraint,
``||X'D_j Z|| <= beta`` for all j, costs one matrix product, so certificates are exact too; they hold
against networks with the listed gates (scope ``patterns``). With all patterns of the data as gates the
optimum is a lower bound of the ReLU network's.

The zero gate is open everywhere: with ``skip=True`` it is among the gates, and its neuron is a linear skip
connection that pays like the others (see :mod:`cvxnn.architectures.skip` for why it should).

Another norm of the weights takes the place of ``||w_j||`` where the network's penalty has it, see
:mod:`cvxnn.feature_penalties`; the dual constraint is then on its polar.

References: Mishkin, Sahiner and Pilanci, "Fast convex optimization for two-layer ReLU networks", ICML
2022, section 3; Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, Price
from ..feature_penalties import WeightPenalty, check_outputs, is_weight_decay
from ..largest_price import largest_price
from ..network import Affine, Gated, Network
from ..operators import Masked
from ..penalties import GroupL2, Penalty
from ..program import Problem, Program, Solution
from .base import Architecture
from .hidden import GatedHidden
from .two_layer import balanced_cost
from .vector_gated import VectorGatedReLU


class GateOracle(Oracle):
    """Exact pricing over listed gates: the largest polar of ``X'D_j Z``, its norm under weight decay."""

    def __init__(self, problem: Problem, operator: Masked, penalty: Penalty) -> None:
        super().__init__(problem)
        self.operator, self.penalty = operator, penalty

    def price(self, Z: np.ndarray) -> Price:
        operator = self.operator
        if isinstance(self.penalty, GroupL2):
            value = largest_price(operator, Z)
        else:
            value = float(np.max(self.penalty.polar(operator.adjoint(Z)), initial=0.0))
        return Price(value * (1.0 + 1e-12), "patterns", value)


@dataclass(frozen=True)
class GatedReLU(GatedHidden, Architecture):
    """Two-layer gated ReLU networks with one output.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        Whether neurons and gates see a column of ones.
    patterns : {"auto", "all", "wedge"}, int, tuple or ndarray of shape (gates, d), default="auto"
        How many Gaussian gates to draw ("auto": 500, duplicates removed); "all" takes one gate in
        every cell of the data; an array gives the gates themselves. "wedge" or ("wedge", number) draws
        them through samples, see :mod:`cvxnn.geometric`.
    penalty : {"l2", "l1"}, Groups or Elastic, default="l2"
        The norm of hidden weights in the network's penalty, ``1/2 sum_j (Omega(w_j)^2 + a_j^2)``; "l2" is
        weight decay, for the others see :mod:`cvxnn.feature_penalties`.
    skip : bool, default=False
        Whether the zero gate, a linear skip connection, joins the other gates.
    """

    name: ClassVar[str] = "gated_relu"
    auto_gates: ClassVar[int] = 500

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"
    penalty: WeightPenalty = "l2"
    skip: bool = False

    def _penalty(self, problem: Problem) -> Penalty:
        # the solvers of weight decay know its penalty by its class
        return GroupL2() if is_weight_decay(self.penalty) else self.norm(problem.X.shape[1])

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        return Program(
            self._operator(problem, arrangement),
            problem.loss,
            problem.y,
            problem.weights,
            problem.beta,
            self._penalty(problem),
            intercept=problem.intercept,
        )

    def _operator(self, problem: Problem, arrangement: Arrangement) -> Masked:
        return Masked(self._design(problem), arrangement.bits)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """``w_j / sqrt(Omega(w_j))`` and ``sqrt(Omega(w_j))``; groups at zero are left out."""
        return self._network(problem, arrangement, np.asarray(solution.W, dtype=np.float64))

    def extrapolate(
        self,
        problem: Problem,
        arrangement: Arrangement | None,
        before: Network,
        last: Network,
        share: float,
    ) -> Network:
        """Follow the line through both, gate by gate; what turns round on it, or is zero, is zero."""
        if arrangement is None:
            return last
        first, W = self.weights_of(before, arrangement), self.weights_of(last, arrangement)
        further = W + share * (W - first)
        further[np.sum(further * W, axis=1) <= 0.0] = 0.0
        return self._network(problem, arrangement, further)

    def _network(self, problem: Problem, arrangement: Arrangement, W: np.ndarray) -> Network:
        norms = self.sizes(W)
        kept = norms > 1e-10 * np.sum(norms)
        root = np.sqrt(norms[kept])[:, None]
        return self.plain(problem, arrangement.gates[kept], W[kept] / root, root)

    def cost(self, network: Network) -> float:
        """``sum_j Omega(w_j, b_j) |a_j|``; gates are fixed and cost nothing."""
        return balanced_cost(self.hidden_norms(network), network)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> GateOracle:
        if arrangement is None:
            raise ValueError("a gated network is judged against its gates: pass an arrangement")
        return GateOracle(problem, self._operator(problem, arrangement), self._penalty(problem))

    def for_outputs(self, outputs: int) -> Architecture:
        """Return this family, or its sister for several outputs."""
        if outputs == 1:
            return self
        check_outputs(self.penalty, outputs)
        return VectorGatedReLU(self.hidden_bias, self.patterns, skip=self.skip)

    def weights_of(self, network: Network, arrangement: Arrangement) -> np.ndarray:
        """Return a network's weights at the gates of an arrangement, (gates, d); others are left out."""
        first, last = network.layers[0], network.layers[-1]
        assert isinstance(first, Gated) and isinstance(last, Affine)
        rows = first.weight.T
        if self.hidden_bias is not None:
            rows = np.column_stack([rows, first.bias])
        W = np.zeros_like(arrangement.gates)
        place = {gate.tobytes(): i for i, gate in enumerate(arrangement.gates)}
        for gate, row, a in zip(self.gates_of(network), rows, last.weight[:, 0], strict=True):
            i = place.get(np.ascontiguousarray(gate).tobytes())
            if i is not None:
                W[i] += row * a
        return W

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: float) -> Network:
        """Only the network without neurons needs no gates: what an early interrupt returns."""
        if W1.shape[1]:
            return super().adopt(W1, b1, w2, c)
        return Network((Gated(W1, b1, W1, b1), Affine(w2[:, None], np.array([float(c)]))))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        assert arrangement is not None
        return self.unit_outputs(problem, arrangement, U)

    def start(
        self, problem: Problem, arrangement: Arrangement, network: Network | None
    ) -> np.ndarray | None:
        """The weights of a network at the gates."""
        return None if network is None else self.weights_of(network, arrangement)
