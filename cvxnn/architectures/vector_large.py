r"""Training networks with several outputs on large data: mini-batches first, then all samples.

Many random neurons descend on mini-batches (:mod:`cvxnn.vector_batches`), which costs little beside one
round of growing on all samples. What has become zero or one goes, neurons that price out are inserted, and
descent goes on with all samples, as long as a round pays. Networks on such data are not solved to the last
digits: how far they are from the best is for their certificate to say.

Reference: :mod:`cvxnn.vector_batches`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from ..certificate import search_gap
from ..design import Design
from ..network import Network
from ..program import Problem
from ..vector_batches import BATCH, Samples, Weights, stir, sweep
from ..vector_growth import Coupling, Rows, drop, insert, merge, objective, random_rows
from ..vector_oracles import VectorOracle
from ..vector_pricing import VectorNeurons
from .base import Effort, Progress, Training, VectorArchitecture

Plan = tuple[tuple[float, int], ...]
#: Neurons to begin with, and more for every output; passes over mini-batches, and batches, at least.
WIDE, WIDE_PER_OUTPUT, EPOCHS, STEPS = 100, 20, 20, 4000
#: Shares of the time that is left which mini-batches and a descent on all samples may take.
STIRRING, SWEEPING = 0.6, 0.7
#: Steps of descent on all samples, before and after neurons go that have become zero (relative to the
#: largest) or one; the share that a round has to pay.
SWEEPS, LARGE_ZERO, LARGE_MERGE, LARGE_PAYS = (20, 40), 1e-3, 1e-3, 5e-3


class InBatches(VectorArchitecture):
    """Networks that grow by neurons with several outputs, on large data first by mini-batches."""

    #: Whether there are linear neurons too, see :mod:`cvxnn.architectures.vector_skip`.
    skip: bool = False

    @abstractmethod
    def _first(
        self, problem: Problem, design: Design, coupling: Coupling, oracle: VectorOracle, effort: Effort
    ) -> tuple[Rows, Plan]:
        """Where to begin: a given network, or random neurons; and how to descend from there."""

    @abstractmethod
    def _network(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """The network of rows, its layers balanced, with the best constants of the outputs."""

    def _train_large(
        self,
        problem: Problem,
        design: Design,
        oracle: VectorOracle,
        effort: Effort,
        network: Network,
    ) -> Training:
        """Many neurons on mini-batches, then rounds of pricing and of descent on all samples."""
        samples, best = Samples(problem, design), Rows.empty(design.X.shape[1], problem.y.shape[1])
        least, gap = objective(problem, design, best), 1.0
        moves = self._stirred(samples, design, oracle, effort)
        for _ in range(effort.max_iter):
            before = least
            for rows in moves:
                now = objective(problem, design, rows)
                if now < least:
                    best, least = rows, now
                    network = self._network(problem, design, best)
                    yield Progress(least, gap, len(best), len(best), network)
            began = time.perf_counter()
            Z = problem.residual(network(problem.X))
            found, gap = self._price(problem, oracle, Z, network, least, False, 0, effort)
            effort.history.append(Progress(least, gap, len(best), len(best), network, Z))
            yield effort.history[-1]
            # an insertion takes as long as a search, and is worth nothing without a descent
            late = 3.0 * time.perf_counter() - 2.0 * began > effort.deadline
            if late or gap <= effort.tol or before - least <= LARGE_PAYS * least:
                break
            moves = self._swept(samples, design, insert(problem, design, best, found), effort)
        return network

    def _stirred(
        self, samples: Samples, design: Design, oracle: VectorOracle, effort: Effort
    ) -> Iterator[Rows]:
        """The rows on the way through the mini-batches, and after a descent on all samples."""
        problem = samples.problem
        if effort.start is None:
            width = WIDE + WIDE_PER_OUTPUT * problem.y.shape[1]
            rows = random_rows(problem, design, Coupling.joint, width, effort.random_state, self.skip)
            at = Weights.of(rows, design)
            epochs = max(EPOCHS, -(-STEPS * BATCH // len(design.X)))
            said = 0.0
            for share in stir(samples, at, epochs, effort.random_state, effort.within(STIRRING)):
                if share >= said:
                    said += 0.2
                    yield at.rows(design)
            rows = at.rows(design)
            yield rows
        else:
            rows, _ = self._first(problem, design, Coupling.joint, oracle, effort)
        yield from self._swept(samples, design, rows, effort)

    def _swept(self, samples: Samples, design: Design, rows: Rows, effort: Effort) -> Iterator[Rows]:
        """The rows after a descent on all samples, once without those that have gone to zero."""
        deadline = effort.within(SWEEPING)
        for steps in SWEEPS:
            at = sweep(samples, Weights.of(rows, design), steps, 1e-7, deadline)
            rows = merge(drop(at.rows(design), design, LARGE_ZERO), design, Coupling.joint, LARGE_MERGE)
            yield rows

    def _price(
        self,
        problem: Problem,
        oracle: VectorOracle,
        Z: np.ndarray,
        network: Network,
        value: float,
        exact: bool,
        idle: int,
        effort: Effort,
    ) -> tuple[VectorNeurons, float]:
        """Neurons to insert and the search gap they prove; a gap within `tol` is searched as the judge
        does."""
        level = min(idle, 2)
        found = oracle.neurons(Z, oracle.neurons_of(network), effort.random_state, level, exact=exact)
        gap = search_gap(problem, value, Z, max(found.best, problem.beta))
        if gap <= effort.tol:
            found = found.join(oracle.thorough(Z, network))
            gap = search_gap(problem, value, Z, max(found.best, problem.beta))
        return found, gap
