r"""Two-layer networks of threshold units with one output.

The network ``f(x) = sum_j s_j a_j 1[x'w_j + b_j >= 0] + c`` has units with a trainable amplitude s_j, and
weight decay on amplitudes and output weights; the size of w_j changes nothing and is not penalised, nor is
b_j:

    minimise   sum_i loss(f(x_i), y_i) + beta/2 * sum_j (s_j^2 + a_j^2).

A unit's output on the data is its pattern, and there are finitely many, so the program is a Lasso over
them,

    minimise   L( sum_i z_i d_i + c ) + beta * sum_i |z_i|,         |Z'd_i| <= beta in the dual,

exact from n units on: z becomes a unit with the gate of its pattern and ``s a = z``. Since ``1[0 >= 0] =
1`` patterns of the borders count (w = 0 is always on). Where patterns can be listed the certificate is
exact. Where the rows of the data are independent every 0/1 vector is a pattern, and for the squared error
the solution is closed,

    f_i = y_i cut off at t and -u,      sum (y_i - t)_+ = sum (-y_i - u)_+ = beta,

a sum of nested sets, for any loss the sets of samples above or below a target. Elsewhere patterns grow:
price half-spaces by search (:mod:`cvxnn.halfspaces`), add the best, solve the Lasso, until none prices out.

In an explicit network s_j a_j is the output weight. Where a unit without bias has samples on its border its
bias is of the size of rounding, which keeps them on.

Reference: Ergen, Gulluk, Lacotte and Pilanci, "Globally optimal training of neural networks with threshold
activation functions", ICLR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns, pack
from ..certificate import Oracle, search_gap
from ..halfspace_skips import SkipHalfSpaces
from ..halfspaces import (
    HalfSpaceOracle,
    HalfSpaces,
    ListedOracle,
    SearchedOracle,
    ShatteredOracle,
    level_sets,
    listed,
    search,
    shatters,
)
from ..network import Network
from ..operators import Masked
from ..penalties import GroupL2
from ..program import Master, Problem, Program, Solution
from .base import Architecture, Effort, Progress, Training
from .threshold_skip import WithLine
from .threshold_units import ADDED, ALL_PATTERNS, AUTO_NUMBERS, AUTO_PATTERNS
from .two_layer import is_sample
from .vector_threshold import VectorThreshold


@dataclass(frozen=True)
class Threshold(WithLine):
    """Two-layer networks of threshold units with one output.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        Whether units have a bias. It is scale-free with their weights, so both words mean the same, but
        ``"free"`` keeps its meaning of bringing a free constant of the output.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" takes all patterns where that is cheap and grows them otherwise; "all" insists; a number
        trains on that many sampled patterns, with scope ``patterns``; "wedge" or ("wedge", number) samples
        them through the data, see :mod:`cvxnn.geometric`.
    skip : bool, default=False
        Whether there is a linear neuron too, see :mod:`cvxnn.architectures.threshold_skip`.
    """

    name: ClassVar[str] = "threshold"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    skip: bool = False

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        X = self._design(problem)
        if not self._all():
            return self._sampled(X, random_state)
        if shatters(X) and not (self.skip and self.patterns == "all"):
            # with a line beside them the units have a target that is not known
            return None if self.skip else level_sets(X, problem.y)
        if self.patterns == "all":
            return listed(X, ALL_PATTERNS)
        try:
            return listed(X, min(AUTO_PATTERNS, max(64, AUTO_NUMBERS // len(X))))
        except TooManyPatterns:
            return None

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The Lasso over the listed patterns: groups of one weight, masks of a column of ones."""
        if self.skip:
            return self.lift_with_line(problem, arrangement)
        problem = self.problem_of(problem)
        operator = Masked(np.ones((len(problem.y), 1)), arrangement.bits)
        rest = (problem.y, problem.weights, problem.beta, GroupL2())
        return Program(operator, problem.loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        if self.skip:
            return self.decode_with_line(problem, arrangement, solution)
        z = np.asarray(solution.W, dtype=np.float64)[:, 0]
        kept = np.abs(z) > 1e-10 * np.sum(np.abs(z))
        spaces = HalfSpaces(arrangement.masks()[kept], arrangement.gates[kept], z[kept])
        return self._network(problem, spaces, z[kept])

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> HalfSpaceOracle:
        if self.skip:
            return self.oracle_with_line(problem, arrangement)
        problem, X, biased = self.problem_of(problem), self._design(problem), self.hidden_bias is not None
        if not is_sample(self.patterns) and shatters(X):
            return ShatteredOracle(problem, X, biased)
        if arrangement is None or (not is_sample(self.patterns) and not arrangement.complete):
            return SearchedOracle(problem, X, biased)
        return ListedOracle(problem, X, biased, arrangement)

    def for_outputs(self, outputs: int) -> Architecture:
        """Return this family, or its sister for several outputs."""
        return self if outputs == 1 else VectorThreshold(self.hidden_bias, self.patterns, self.skip)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Threshold units, and with a skip connection every third neuron linear."""
        H = self.unit_outputs(problem, U)
        if self.skip:
            H[::3] = self.straight_outputs(problem, U[::3])
        return H

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        if isinstance(oracle, SkipHalfSpaces):
            return (yield from self.train_with_line(problem, oracle, effort))
        assert isinstance(oracle, HalfSpaceOracle)
        if isinstance(oracle, SearchedOracle):
            return (yield from self._grow(problem, oracle, effort))
        return (yield from super().train(problem, arrangement, oracle, effort))

    def _grow(self, problem: Problem, oracle: SearchedOracle, effort: Effort) -> Training:
        """Column generation: search, add, solve, drop zeros."""
        problem, X = self.problem_of(problem), self._design(problem)
        drawn, Z = self._drawn(oracle, effort), problem.residual(np.zeros_like(problem.y))
        spaces = drawn.join(search(X, Z, X[:0], effort.random_state))
        best, least = None, float("inf")
        for _ in range(effort.max_iter):
            arrangement = Arrangement(pack(spaces.masks), len(X), spaces.gates)
            solution = yield Master(self.lift(problem, arrangement), 0.1 * effort.tol)
            assert solution is not None
            network, Z = self.decode(problem, arrangement, solution), np.asarray(solution.Z)
            value = self.objective(problem, network)
            if best is None or value <= least:
                best, least = network, value
            used = np.flatnonzero(np.asarray(solution.W)[:, 0])
            found = search(X, Z, spaces.gates[used], effort.random_state)
            found = found.join(oracle.search(Z, oracle.gates_of(network)))
            gap = search_gap(problem, value, Z, max(found.best, problem.beta))
            effort.history.append(Progress(least, gap, best.width, len(spaces.masks), best, Z))
            yield effort.history[-1]
            out = found.choose(np.flatnonzero(found.values > problem.beta * (1.0 + 1e-9))[:ADDED])
            before = len(spaces.masks)
            spaces = spaces.join(out)
            if gap <= effort.tol or len(spaces.masks) == before:
                break
        assert best is not None
        return best
