r"""Threshold units of one output with a linear neuron beside them.

The network ``f(x) = sum_j s_j a_j 1[x'w_j + b_j >= 0] + a_0 (x'w_0 + b_0) + c`` has weight decay on the
amplitudes s_j, on all output weights, and on ``(w_0, b_0)``: a linear neuron has no amplitude, since the
size of its weights is one. The least of ``1/2 (s^2 + a^2)`` with ``s a = z`` is ``|z|``, that of ``1/2
(||(w_0, b_0)||^2 + a_0^2)`` with ``a_0 (w_0, b_0) = p`` is ``||p||``, and the program

    minimise   L( sum_i z_i d_i + X p + c ) + beta * ( sum_i |z_i| + ||p|| )

over the patterns d_i is a Lasso beside one group. It is exact: units of one pattern add up at no cost, as
do linear neurons, and every pattern has a unit. Its dual constraints are ``|Z'd_i| <= beta`` for all
patterns and ``||X'Z|| <= beta`` (:mod:`cvxnn.halfspace_skips`). With a free hidden bias b_0 is part of the
constant c, and X has no column of ones; the line itself is nothing that units have already, unlike in
networks of ReLUs, since a sum of steps is no line off the data.

The closed form of independent rows is gone: the target of the units is then ``y - X p``, and p is not
known. Their price stays exact, so patterns grow there too. Several outputs:
:mod:`cvxnn.architectures.vector_threshold`.

Reference: Ergen, Gulluk, Lacotte and Pilanci, ICLR 2023, for the units; the program with a line is derived
here.
"""

from __future__ import annotations

import numpy as np

from ..arrangement import Arrangement, pack
from ..certificate import search_gap
from ..feature_penalties import FeatureNorm
from ..halfspace_skips import SkipHalfSpaces, SkipListed, SkipSearched, SkipShattered
from ..halfspaces import HalfSpaces, shatters
from ..network import Network
from ..operators import Dense
from ..program import Master, Problem, Program, Solution
from .base import Effort, Progress, Training
from .threshold_units import ADDED, ThresholdUnits
from .two_layer import is_sample

#: Shares of the whole norm below which units, or the line, are left out: the coarsest that costs nothing.
CUTS = (1e-10, 1e-8, 1e-6)
#: Units up to which those at zero stay in the program, and the share below which they are.
MANY, ZERO = 300, 1e-9
#: How much better than the network a program is solved.
INNER = 0.1


class WithLine(ThresholdUnits):
    """Threshold units of one output that may have a linear neuron beside them, as `skip` says."""

    def lift_with_line(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The Lasso over listed patterns beside one group: all weights are one row, of a mixed norm."""
        problem, lines = self.problem_of(problem), self.straight(problem)
        k, r = len(arrangement), lines.shape[1]
        columns = np.column_stack([arrangement.masks().T.astype(np.float64), lines])
        parts = (*((j,) for j in range(k)), tuple(range(k, k + r)))
        return Program(
            Dense(columns, 1),
            problem.loss,
            problem.y,
            problem.weights,
            problem.beta,
            FeatureNorm(parts, 0.0),
            intercept=problem.intercept,
        )

    def decode_with_line(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """The smallest of a few roundings that is not worse."""
        problem, W = self.problem_of(problem), np.asarray(solution.W, dtype=np.float64)[0]
        z, p = W[: len(arrangement)], W[len(arrangement) :]
        total, masks = float(np.sum(np.abs(z)) + np.linalg.norm(p)), arrangement.masks()

        def rounded(cut: float) -> Network:
            kept = np.abs(z) > cut * total
            spaces = HalfSpaces(masks[kept], arrangement.gates[kept], z[kept])
            return self._network(problem, spaces, z[kept], p[:, None], cut * total)

        return self.not_worse(problem, map(rounded, CUTS))

    def oracle_with_line(self, problem: Problem, arrangement: Arrangement | None) -> SkipHalfSpaces:
        """The oracle of half-spaces and lines."""
        biased, lines = self.hidden_bias is not None, self.straight(problem)
        problem, X, sample = self.problem_of(problem), self._design(problem), is_sample(self.patterns)
        if not sample and shatters(X):
            return SkipShattered(problem, X, biased, lines)
        if arrangement is None or (not sample and not arrangement.complete):
            return SkipSearched(problem, X, biased, lines)
        return SkipListed(problem, X, biased, lines, arrangement)

    def train_with_line(self, problem: Problem, oracle: SkipHalfSpaces, effort: Effort) -> Training:
        """Column generation: price half-spaces, add the best, solve, until none prices out."""
        problem = self.problem_of(problem)
        spaces = self._first_spaces(problem, oracle, effort)
        best, least = None, float("inf")
        for _ in range(effort.max_iter):
            drawn = Arrangement(pack(spaces.masks), len(oracle.X), spaces.gates)
            solution = yield Master(self.lift_with_line(problem, drawn), INNER * effort.tol)
            assert solution is not None
            network, Z = self.decode_with_line(problem, drawn, solution), np.asarray(solution.Z)
            value = self.objective(problem, network)
            if best is None or value <= least:
                best, least = network, value
            found = oracle.search(Z, oracle.gates_of(network))
            gap = search_gap(problem, least, Z, max(found.best, oracle.line(Z), problem.beta))
            effort.history.append(Progress(least, gap, best.width, len(spaces.masks), best, Z))
            yield effort.history[-1]
            if gap <= effort.tol:
                break
            if len(spaces.masks) > MANY:
                z = np.abs(np.asarray(solution.W)[0, : len(spaces.masks)])
                spaces = spaces.choose(np.flatnonzero(z > ZERO * np.sum(z)))
            before = len(spaces.masks)
            out = np.flatnonzero(found.values > problem.beta * (1.0 + 1e-9))[:ADDED]
            spaces = spaces.join(found.choose(out))
            if len(spaces.masks) == before:
                break
        assert best is not None
        return best

    def _first_spaces(self, problem: Problem, oracle: SkipHalfSpaces, effort: Effort) -> HalfSpaces:
        """Half-spaces to begin with: the best for the constant, and others where not all are listed."""
        found = oracle.search(problem.residual(np.zeros_like(problem.y)), oracle.X[:0])
        return found if isinstance(oracle, SkipListed) else found.join(self._drawn(oracle, effort))
