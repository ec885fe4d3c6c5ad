"""Training by convex programs alone: what grows networks whose hidden weights pay another norm.

Growing under weight decay has Newton's methods that know its norm. For other norms a short proximal descent
finds patterns (:mod:`cvxnn.norm_growth`), and the programs do the rest: solve on the current patterns,
price neurons under the norm, add the best, until none prices out. That is slower, and as exact.

References: Pilanci and Ergen, ICML 2020; Bach, JMLR 2017, section 4 (growing networks).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator

import numpy as np

from ..blocks import Blocks
from ..growth import Rows, insert, objective
from ..network import Network
from ..norm_growth import descend_rows, explore
from ..norm_pricing import NormDesign
from ..oracles import Design, NeuronOracle
from ..pricing import Neurons
from ..program import Master, Problem, Program
from .base import Effort, Progress, Training

#: Blocks added in a round, and the share of the largest below which a block is at zero.
ADDED, ZERO = 40, 1e-7
#: Entries of a program up to which blocks at zero stay.
SMALL = 200_000
#: Descent after an insertion.
STEPS = 100


class GrownByPrograms:
    """Column generation with convex programs; for a family of networks of one output."""

    @abstractmethod
    def _program(self, problem: Problem, design: Design, blocks: Blocks) -> Program: ...

    @abstractmethod
    def _network(self, problem: Problem, design: Design, signs: np.ndarray, W: np.ndarray) -> Network: ...

    @abstractmethod
    def _price(
        self,
        problem: Problem,
        oracle: NeuronOracle,
        Z: np.ndarray,
        blocks: Blocks,
        network: Network,
        objective: float,
        effort: Effort,
    ) -> tuple[float, Neurons]: ...

    @abstractmethod
    def _fresh(
        self, problem: Problem, design: Design, blocks: Blocks, found: Neurons, most: int = 400
    ) -> Blocks: ...

    @abstractmethod
    def _note(
        self, problem: Problem, design: Design, effort: Effort, rows: Rows, value: float, gap: float
    ) -> Generator[Progress, None, None]: ...

    @abstractmethod
    def cost(self, network: Network) -> float: ...

    def train_by_programs(
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
            now = problem.value(network(problem.X), self.cost(network))
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
