"""Training by convex programs alone: what grows networks whose hidden weights pay another norm.

Growing under weight decay has Newton's methods that know its norm. For other norms a short proximal descent
finds patterns (:mod:`cvxnn.norm_growth`), and the programs do the rest: solve on the current patterns,
price neurons under the norm, add the best, until none prices out. That is slower, and as exact.

References: Pilanci and Ergen, ICML 2020; Bach, JMLR 2017, section 4 (growing networks).
"""

from __future__ import annotations

import numpy as np

from ..arrangement import Arrangement
from ..blocks import Blocks
from ..design import Design
from ..feature_penalties import is_weight_decay
from ..growth import Rows, insert, objective
from ..norm_growth import descend_rows, explore
from ..norm_oracles import NormCellOracle, NormSearchOracle
from ..norm_pricing import NormDesign
from ..oracles import NeuronOracle
from ..penalties import Penalty
from ..pricing import Neurons
from ..program import Master, Problem
from .base import Effort, Progress, Training
from .rectified import Rectified

#: Patterns that "auto" lists; pricing a cell is a program.
AUTO_CELLS = 500
#: Blocks added in a round, and the share of the largest below which a block is at zero.
ADDED, ZERO = 40, 1e-7
#: Entries of a program up to which blocks at zero stay.
SMALL = 200_000
#: Descent after an insertion.
STEPS = 100


class GrownByPrograms(Rectified):
    """Networks whose hidden weights may pay another norm than the Euclidean one; those grow by programs."""

    def _most_listed(self, problem: Problem, X: np.ndarray) -> int:
        return super()._most_listed(problem, X) if is_weight_decay(self.penalty) else AUTO_CELLS

    def _gauge(self, design: Design) -> Penalty:
        return design.norm if isinstance(design, NormDesign) else super()._gauge(design)

    def _search_oracle(self, problem: Problem, design: Design) -> NeuronOracle:
        known = isinstance(design, NormDesign)
        return NormSearchOracle(problem, design) if known else super()._search_oracle(problem, design)

    def _cell_oracle(self, problem: Problem, design: Design, arrangement: Arrangement) -> NeuronOracle:
        if isinstance(design, NormDesign):
            return NormCellOracle(problem, design, arrangement)
        return super()._cell_oracle(problem, design, arrangement)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: object, effort: Effort
    ) -> Training:
        design = self.design(problem)
        if not isinstance(design, NormDesign):
            return (yield from super().train(problem, arrangement, oracle, effort))
        assert isinstance(oracle, NeuronOracle)
        rows = None if effort.start is None else self._rows(oracle, effort.start)
        return (yield from self._train_by_programs(self.problem_of(problem), design, oracle, effort, rows))

    def _train_by_programs(
        self,
        problem: Problem,
        design: NormDesign,
        oracle: NeuronOracle,
        effort: Effort,
        rows: Rows | None,
    ) -> Training:
        """Train: yield programs and progress, return the network.

        Parameters
        ----------
        rows : Rows or None
            Neurons to start from.
        """
        best = self._network(problem, design, np.zeros(0), design.X[:0])
        value, empty = problem.null_value(), best
        effort.history.append(Progress(value, 1.0, 0, 0, best))
        yield effort.history[-1]
        start = Rows.empty(design.X.shape[1])
        # neurons of other patterns are no matter where patterns are listed
        if oracle.scope != "patterns" and np.any(problem.residual(np.zeros_like(problem.y))):
            for start in explore(problem, design, oracle, effort.random_state, rows):
                yield from self._note(
                    problem, design, effort, start, objective(problem, design, start), 1.0
                )
        blocks = Blocks.of(design, start)
        for _ in range(effort.max_iter):
            network, Z = empty, problem.residual(empty(problem.X))
            if len(blocks.signs):
                solution = yield Master(
                    self._program(problem, design, blocks), 0.01 * effort.tol, blocks.W, best
                )
                assert solution is not None
                blocks = Blocks(blocks.masks, blocks.signs, np.asarray(solution.W))
                network, Z = self._network(problem, design, blocks.signs, blocks.W), np.asarray(solution.Z)
            now = self.objective(problem, network)
            if now <= value:
                best, value = network, now
            gap, found = self._price(problem, oracle, Z, blocks, network, now, effort)
            effort.history.append(Progress(value, gap, best.width, len(blocks.signs), best, Z))
            yield effort.history[-1]
            fresh = self._fresh(problem, design, blocks, found, ADDED)
            if gap <= effort.tol or not len(fresh.signs):
                break
            blocks = self._next(problem, design, oracle, blocks, fresh, found)
        return best

    def _next(
        self,
        problem: Problem,
        design: NormDesign,
        oracle: NeuronOracle,
        blocks: Blocks,
        fresh: Blocks,
        found: Neurons,
    ) -> Blocks:
        """The blocks that carry the solution, those of found neurons, and those they all move to."""
        size = design.norms(blocks.W)
        carry = size > ZERO * np.max(size, initial=0.0)
        moved = Blocks.of(design, Rows.empty(design.X.shape[1]))
        if oracle.scope != "patterns" and problem.loss.smooth:
            rows = insert(problem, design, Rows(blocks.W[carry], blocks.signs[carry]), found)
            moved = Blocks.of(design, descend_rows(problem, design, rows, STEPS))
        if blocks.masks.size * design.X.shape[1] > SMALL:
            blocks = blocks.take(carry, blocks.W)
        return blocks.join(fresh).join(moved)
