r"""What linear networks share, of one output and of several, of two layers and of more.

A linear network computes ``X Z + c`` whatever its depth; families differ in what Z costs. Their oracles are
exact: the polar of the penalty at ``X'Theta``.

Reference: Srebro, Rennie and Jaakkola, NIPS 2004; Boyd and Vandenberghe, section 5.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrangement import Arrangement, pack
from ..certificate import Oracle, Price
from ..network import Affine, Network
from ..operators import Masked, Operator
from ..penalties import GroupL2, NuclearNorm, Penalty
from ..program import Problem, Program
from ..vector_operators import PerColumn
from .base import Architecture
from .two_layer import check_hidden_bias, design_matrix, free_constants


class LinearOracle(Oracle):
    """Exact pricing of linear neurons: the polar of ``X'Z`` (scope ``global``)."""

    def __init__(self, problem: Problem, operator: Operator, penalty: Penalty) -> None:
        super().__init__(problem)
        self.operator, self.penalty = operator, penalty

    def price(self, Z: np.ndarray) -> Price:
        value = float(np.max(self.penalty.polar(self.operator.adjoint(Z)), initial=0.0))
        # What sums of n terms may be off by, for products that cancel.
        X = self.operator.single.X if isinstance(self.operator, PerColumn) else self.operator.X  # type: ignore[attr-defined]
        rounding = 1e-15 * float(np.linalg.norm(np.abs(X).T @ np.abs(Z)))
        return Price(value * (1.0 + 1e-12) + rounding, "global", value)


class LinearFamily(Architecture):
    """A family of linear networks with a hidden bias in the first layer, or none."""

    hidden_bias: str | None
    patterns: str | int

    def penalty_of(self, problem: Problem) -> Penalty:
        """The cost of Z: its norm with one output, its nuclear norm with several."""
        return NuclearNorm() if problem.y.ndim == 2 else GroupL2()

    def design(self, problem: Problem) -> np.ndarray:
        check_hidden_bias(self.hidden_bias)
        if self.patterns not in ("auto", "all"):
            raise ValueError(f"patterns={self.patterns!r}: linear networks have none, pass 'auto'")
        return design_matrix(problem, "penalized" if self.hidden_bias == "penalized" else None)

    def problem_of(self, problem: Problem) -> Problem:
        """A free hidden bias frees the constants of the output: say so in the problem."""
        return free_constants(problem, self.hidden_bias)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement:
        """Return the one pattern there is: every sample passes."""
        X = self.design(problem)
        return Arrangement(pack(np.ones((1, len(X)))), len(X), np.zeros((1, X.shape[1])), True)

    def _operator(self, problem: Problem) -> Operator:
        X = self.design(problem)
        single = Masked(X, pack(np.ones((1, len(X)))))
        return PerColumn(single) if problem.y.ndim == 2 else single

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        problem = self.problem_of(problem)
        rest = (problem.y, problem.weights, problem.beta, self.penalty_of(problem))
        return Program(self._operator(problem), problem.loss, *rest, intercept=problem.intercept)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> LinearOracle:
        problem = self.problem_of(problem)
        return LinearOracle(problem, self._operator(problem), self.penalty_of(problem))

    def weights_of(self, network: Network) -> np.ndarray:
        """Return Z of a network, (1, d) or (1, d, outputs), with penalised biases as its last row."""
        affine = [layer for layer in network.layers if isinstance(layer, Affine)]
        Z = np.vstack([affine[0].weight, affine[0].bias])
        for layer in affine[1:]:
            Z = Z @ layer.weight
        Z = Z if self.hidden_bias == "penalized" else Z[:-1]
        return Z[None] if network.n_outputs > 1 else Z.T

    def start(self, problem: Problem, arrangement: Arrangement, network: Network | None) -> Any:
        """The map that a network computes."""
        return None if network is None else self.weights_of(network)
