r"""Two-layer networks of threshold units with several outputs.

The network ``f(x) = sum_j s_j a_j 1[x'w_j + b_j >= 0] + c`` with amplitudes s_j and output vectors a_j, and
weight decay on both (the size of w_j and b_j changes nothing, and is not penalised),

    minimise   sum_i loss(f(x_i), y_i) + beta/2 * sum_j (s_j^2 + |a_j|_2^2),

is a group Lasso: the least of ``1/2 (s^2 + |a|^2)`` with ``s a = z`` is ``|z|_2``, units with one pattern
d_i add up, and their sum costs at most as much, so that

    minimise   L( sum_i d_i z_i' + c ) + beta * sum_i |z_i|_2,         |Z'd_i|_2 <= beta in the dual.

With linear neurons beside the units, whose sum is a matrix S, the program has ``X S`` and ``beta ||S||_*``
besides, and the dual ``||X'Z||_2 <= beta``, as with one output (:mod:`cvxnn.architectures.threshold_skip`)
and beside other neurons (:mod:`cvxnn.architectures.vector_skip`).

A neuron serves all outputs at the price of one. For one sample that is always on and the targets (3, 4) the
optimum at beta = 1 is ``5 - 1/2 = 4.5``; two networks of one output cost ``(3 - 1/2) + (4 - 1/2) = 6``.

Training is column generation: price half-spaces (:mod:`cvxnn.vector_halfspaces`), add the best, solve the
group Lasso over those so far, until none prices out. Where all patterns are listed their price is exact,
and certificates are global. With linearly independent rows every set of samples is a pattern; their best
is no longer a matter of sorting as with one output, and is searched and bounded.

References: Ergen, Gulluk, Lacotte and Pilanci, ICLR 2023, for one output; the group Lasso is derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns, pack
from ..certificate import Oracle, search_gap
from ..halfspace_skips import VectorSkipHalfSpaces, VectorSkipListed, VectorSkipSearched
from ..halfspaces import HalfSpaces, listed
from ..network import Network
from ..penalties import BesideMatrix, GroupL2, Penalty
from ..program import Master, Problem, Program, Solution
from ..vector_halfspaces import VectorHalfSpaceOracle, VectorListedOracle, VectorSearchedOracle
from ..vector_operators import Columns
from .base import Effort, Progress, Training, VectorArchitecture
from .threshold_units import ADDED, ALL_PATTERNS, AUTO_NUMBERS, AUTO_PATTERNS, ThresholdUnits

#: How much better than the network a program is solved, and the share of the whole norm below which units
#: and linear neurons are left out.
INNER, CUT = 0.1, 1e-10


@dataclass(frozen=True)
class VectorThreshold(ThresholdUnits, VectorArchitecture):
    """Two-layer networks of threshold units with several outputs.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        Whether units have a bias, which is never penalised; ``"free"`` brings free constants of the
        outputs.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" lists all patterns where that is cheap and searches them otherwise; "all" insists; a number,
        "wedge" or ("wedge", number) trains on sampled patterns, with scope ``patterns``.
    skip : bool, default=False
        Whether there are linear neurons too.
    """

    name: ClassVar[str] = "threshold"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    skip: bool = False

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        X = self._design(problem)
        if not self._all():
            return self._sampled(X, random_state)
        if self.patterns == "all":
            return listed(X, ALL_PATTERNS)
        try:
            found = listed(X, min(AUTO_PATTERNS, max(64, AUTO_NUMBERS // len(X))))
        except TooManyPatterns:
            return None
        return found if found.complete else None

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The group Lasso over the listed patterns, the rows of a skip connection after them."""
        columns: np.ndarray = arrangement.masks().T.astype(np.float64)
        penalty: Penalty = GroupL2()
        if self.skip:
            lines, unit = self._lines(problem)
            columns = np.column_stack([columns, lines / unit])
            penalty = BesideMatrix(lines.shape[1], 1.0 / unit)
        problem = self.problem_of(problem)
        operator = Columns(columns, problem.y.shape[1])
        rest = (problem.y, problem.weights, problem.beta, penalty)
        return Program(operator, problem.loss, *rest, intercept=problem.intercept)

    def _lines(self, problem: Problem) -> tuple[np.ndarray, float]:
        """What linear neurons see, and its size beside that of patterns; around its mean where constants of
        the outputs are free, which changes nothing but the condition of the program."""
        lines = self.straight(problem)
        if self.problem_of(problem).intercept and len(lines):
            lines = lines - np.mean(lines, axis=0)
        size = float(np.linalg.norm(lines, 2)) if lines.size else 0.0
        return lines, size / np.sqrt(len(lines)) if size > 0.0 else 1.0

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        W = np.asarray(solution.W, dtype=np.float64)
        W, rest = W[: len(arrangement)], W[len(arrangement) :]
        line = rest / self._lines(problem)[1] if self.skip else None
        sizes = np.linalg.norm(W, axis=1)
        least = CUT * float(np.sum(sizes) + (0.0 if line is None else np.linalg.norm(line)))
        kept = sizes > least
        spaces = HalfSpaces(arrangement.masks()[kept], arrangement.gates[kept], sizes[kept])
        return self._network(problem, spaces, W[kept], line, least)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> VectorHalfSpaceOracle:
        biased, lines = self.hidden_bias is not None, self.straight(problem)
        problem, X = self.problem_of(problem), self._design(problem)
        if self.skip:
            if arrangement is None:
                return VectorSkipSearched(problem, X, biased, lines)
            return VectorSkipListed(problem, X, biased, lines, arrangement)
        if arrangement is None:
            return VectorSearchedOracle(problem, X, biased)
        return VectorListedOracle(problem, X, biased, arrangement)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Threshold units, and with a skip connection every third neuron linear."""
        H = self.unit_outputs(problem, U)
        if self.skip:
            H[::3] = self.straight_outputs(problem, U[::3])
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
        V = V / np.linalg.norm(V, axis=1, keepdims=True)
        return H[:, :, None] * V[:, None, :]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        assert isinstance(oracle, VectorHalfSpaceOracle)
        problem = self.problem_of(problem)
        spaces, W = self._first(problem, oracle, effort), None
        best, least = None, float("inf")
        for _ in range(effort.max_iter):
            drawn = Arrangement(pack(spaces.masks), len(oracle.X), spaces.gates)
            solution = yield Master(self.lift(problem, drawn), INNER * effort.tol, W)
            assert solution is not None
            network, Z = self.decode(problem, drawn, solution), np.asarray(solution.Z)
            value = self.objective(problem, network)
            if best is None or value <= least:
                best, least = network, value
            found = oracle.search(Z, oracle.gates_of(network))
            line = oracle.line(Z) if isinstance(oracle, VectorSkipHalfSpaces) else 0.0
            gap = search_gap(problem, least, Z, max(found.best, line, problem.beta))
            effort.history.append(Progress(least, gap, best.width, len(spaces.masks), best, Z))
            yield effort.history[-1]
            out = found.choose(np.flatnonzero(found.values > problem.beta * (1.0 + 1e-9))[:ADDED])
            W, before = np.asarray(solution.W), len(spaces.masks)
            spaces = _joined(spaces, out)
            if gap <= effort.tol or len(spaces.masks) == before:
                break
            # the rows of a skip connection stay the last ones
            W = np.insert(W, [before] * (len(spaces.masks) - before), 0.0, axis=0)
        assert best is not None
        return best

    def _first(self, problem: Problem, oracle: VectorHalfSpaceOracle, effort: Effort) -> HalfSpaces:
        """Half-spaces to begin with: the best for the constant, and others where not all are listed."""
        found = oracle.search(problem.residual(np.zeros_like(problem.y)), oracle.X[:0])
        listed_all = isinstance(oracle, VectorListedOracle)
        return found if listed_all else _joined(found, self._drawn(oracle, effort))


def _joined(one: HalfSpaces, other: HalfSpaces) -> HalfSpaces:
    """The patterns of `one`, in their order, and after them those of `other` that are new."""
    known = {mask.tobytes() for mask in np.packbits(one.masks, axis=1)}
    new = [mask.tobytes() not in known for mask in np.packbits(other.masks, axis=1)]
    more = other.choose(np.flatnonzero(new))
    pairs = ((one.masks, more.masks), (one.gates, more.gates), (one.values, more.values))
    return HalfSpaces(*(np.concatenate(pair) for pair in pairs))
