r"""The schedule of growing: which moves improve a network, in which order, until none does.

    few random neurons, annealed quickly      easy problems are solved by that
    price, insert, many random neurons, annealed slowly
    price, insert, follow the minimum by Newton's method        until rounds stop paying

A round that pays little has three ways on. Its Newton path starts at a smaller mu (a wide band moves
neurons far, and may undo what an insertion gained), the next search has more starts and solves for the best
of every cell (at weak decay the neurons that pay lie on many kinks, where ascent stalls below them), and
neurons that searches found before, and that did not pay then, are tried again: prices change little from
round to round, and what is just below beta now is above it soon. Networks with more neurons than samples,
which no optimum needs, are thinned before they grow; those too large for Newton steps are annealed.

References: Denoyelle, Duval, Peyré and Soubies, "The sliding Frank-Wolfe algorithm", Inverse Problems 2019.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .certificate import search_gap
from .design import Design
from .growth import FLAT, Rows, anneal, insert, objective, random_rows, thin
from .oracles import NeuronOracle
from .pricing import Neurons
from .program import Problem
from .smoothing_newton import affordable, follow, work

Plan = tuple[tuple[float, int], ...]
#: Neurons to begin with, and neurons added where these are not enough.
FIRST, WIDE = 20, 200
#: Bands and steps of the anneals: to begin with, with many neurons, and after each insertion.
QUICK: Plan = ((0.1, 20), (0.01, 30), (1e-3, 60), (1e-4, 30))
SLOW: Plan = ((0.1, 150), (0.03, 150), (0.01, 150), (0.003, 150), (1e-3, 150), (1e-4, 100))
REFINE: Plan = ((1e-3, 150), (1e-4, 100))
#: Newton's paths, from wide to fine: first and last mu, steps.
PATHS = ((1e-2, 1e-5, 40), (1e-3, 1e-7, 60), (1e-4, 1e-9, 100))
#: Newton paths are taken below this search gap, where a step multiplies no more than this (or a round pays
#: little).
NEAR, CHEAP = 0.2, 5e8
#: How far a smoothed loss may be below a loss with kinks while a network grows: share of the objective.
SMOOTHING = 0.03
#: Rounds of growing with such a loss; the programs, which are exact at kinks, do the rest.
KINKED = 3
#: Many random neurons are worth their time above this search gap.
CLOSE = 1e-3
#: A round that pays less than the first shares makes the next search harder; less than `IDLE`, nothing.
PAYS, IDLE = (2e-4, 2e-5), 1e-6
#: How much harder than the first the searches are, once they have to be.
REACH = (4, 16)
#: With fewer new neurons than this the harder search comes at once, if it multiplies no more than so many
#: times what a Newton path does; multiplications of a search for each number in the data, and 5000 more.
ENOUGH, SHARE, SEARCH, SEARCH_LEAST = 50, 3.0, 4e5, 5000
#: Where a rough network will do: search gaps that end it, and above which many random neurons are worth
#: their time; relative decrease of a step of descent that ends it.
ROUGH, ROUGH_CLOSE, ROUGH_FLAT = 1e-2, 5e-2, 1e-7
#: Found neurons that are remembered, and how different from the network's they have to be.
MEMORY, APART = 200, 1e-3


class Exploration:
    """Grows a network; :meth:`run` says when there is a better one.

    Parameters
    ----------
    problem : Problem
    design : Design
    oracle : NeuronOracle
    random_state : numpy.random.Generator
    tol : float
        Search gap that ends it.
    rough : bool
        Whether a network about one per cent above the best objective will do: neurons then move by descent
        alone, which has most of what Newton's paths have for a tenth of the time where columns are many.

    Attributes
    ----------
    best : Rows
    least : float
        Its objective.
    gap : float
        Its search gap, 1 before the first search.
    """

    def __init__(
        self,
        problem: Problem,
        design: Design,
        oracle: NeuronOracle,
        random_state: np.random.Generator,
        tol: float,
        rough: bool = False,
    ) -> None:
        self.problem, self.design, self.oracle = problem, design, oracle
        self.random_state, self.rough = random_state, rough
        self.tol = max(tol, ROUGH) if rough else tol
        # many random neurons, and the end of a descent, are for what a rough network does not need
        self.close, self.flat = (ROUGH_CLOSE, ROUGH_FLAT) if rough else (CLOSE, FLAT)
        self.best, self.least, self.gap = Rows.empty(design.X.shape[1]), problem.null_value(), 1.0
        self.memory = design.X[:0]
        # A loss with kinks is smoothed, and every move is a proximal step of its dual variable.
        self.smooth, self.Z = problem.smoothed(SMOOTHING * self.least), problem.residual(0.0 * problem.y)

    def run(
        self, rows: Rows | None, rounds: int, hardest: int = REACH[-1], level: int = 0
    ) -> Iterator[None]:
        """Grow from `rows`, or from scratch, for at most so many rounds; yields at every better network.

        No search is harder than `hardest`, and no Newton path wider than the one numbered `level`.
        """
        wide = rows is None
        if rows is None:
            rows = random_rows(self.problem, self.design, FIRST, self.random_state)
            yield from self._anneal(rows, QUICK)
        else:
            yield from self._offer(rows)
            yield from self._follow(rows, 1)
        paid, least = 1.0, 1
        for _ in range(rounds):
            reach = max((1, *REACH)[sum(paid < share for share in PAYS)], least)
            reach = min(reach, hardest)
            # What a quick search has once had too little to offer, it will not have again.
            least = min(reach, REACH[0])
            found = self._price(reach)
            if self.gap <= self.tol:
                break
            if paid < IDLE and level == len(PATHS) - 1 and reach == hardest:
                break
            before = self.least
            # of a loss with kinks the neurons in excess are what carries its dual variable
            if self.problem.loss.smooth and len(self.best.signs) > self.design.samples:
                self.best = thin(self.problem, self.design, self.best)
            rows = insert(self.smooth, self.design, self.best, found)
            yield from self._offer(rows)
            if wide and self.gap > self.close:
                # filters of a convolution see many rows, and have few weights to find
                wide_by = min(WIDE, 4 * self.design.X.shape[1]) if self.design.pool > 1 else WIDE
                rows = rows.join(random_rows(self.problem, self.design, wide_by, self.random_state))
                yield from self._anneal(rows, SLOW)
                wide = False
            else:
                # A path costs as much as many anneals: not far away, nor before these had their share.
                cheap = work(*self._size(rows)) <= CHEAP or paid < PAYS[0]
                near = self.gap < NEAR and cheap
                yield from self._follow(rows, level) if near else self._anneal(rows, REFINE)
            paid = 1.0 - self.least / before if before > 0 else 0.0
            if paid < PAYS[-1] and reach > 1:
                level = min(level + 1, len(PATHS) - 1)

    def _offer(self, rows: Rows) -> Iterator[None]:
        """Keep a network that is better than the best."""
        value = objective(self.problem, self.design, rows)
        if value < self.least:
            self.best, self.least = rows, value
            yield

    def _anneal(self, rows: Rows, plan: Plan) -> Iterator[None]:
        for mu, steps in plan:
            rows = anneal(self.smooth, self.design, rows, mu, steps, self.flat)
            self._recenter(rows)
            yield from self._offer(rows)

    def _follow(self, rows: Rows, level: int) -> Iterator[None]:
        """Move all neurons: along a Newton path, or by descent where that is too expensive."""
        if len(rows.signs) > self.design.samples:
            rows = thin(self.problem, self.design, rows)  # no optimal network needs so many
        newton = self.problem.loss.smooth and affordable(*self._size(rows), self.design.pool)
        if self.rough or not newton:
            yield from self._anneal(rows, REFINE)
            return
        mu, end, steps = PATHS[level]
        yield from self._offer(follow(self.problem, self.design, rows, mu, end, steps))

    def _size(self, rows: Rows) -> tuple[int, int, int]:
        """Samples, neurons and coordinates of each."""
        return self.design.samples, len(rows.signs), self.design.X.shape[1]

    def _price(self, reach: int) -> Neurons:
        """Search for neurons that improve the best network, from where there were some before too."""
        self._recenter(self.best)
        found = self.oracle.propose(self.Z, self.best.U, self.random_state, reach, self.memory)
        new = self._new(found)
        out = new.values > self.problem.beta * (1.0 + 1e-6)
        if reach == REACH[0] and np.sum(out) < ENOUGH and self._worth(REACH[1]):
            more = self.oracle.propose(self.Z, self.best.U, self.random_state, REACH[1], new.directions)
            found, new = found.join(more), new.join(self._new(more))
        self.gap = search_gap(self.problem, self.least, self.Z, max(found.best, self.problem.beta))
        self.memory = new.directions[:MEMORY]
        return new if self.gap < NEAR else found

    def _worth(self, reach: int) -> bool:
        """Whether a search costs no more than the move of all neurons that follows, or not much."""
        n, d = self.design.X.shape
        return reach * SEARCH * (n * d + SEARCH_LEAST) <= SHARE * PATHS[0][-1] * work(
            *self._size(self.best)
        )

    def _new(self, found: Neurons) -> Neurons:
        """Those unlike the network's: one like a neuron of it only says that this is not at its minimum."""
        size = self.design.norms(self.best.U)
        if len(size) == 0 or len(found.values) == 0:
            return found
        kept = self.design.X.shape[1] - self.design.free
        there = found.directions[:, :kept] / self.design.norms(found.directions)[:, None]
        cosines = there @ (self.best.U[:, :kept] / size[:, None]).T
        if self.design.slope == -1.0:
            cosines = np.abs(cosines)  # an even activation computes the same with u and -u
        alike = np.max(np.where(found.signs[:, None] == self.best.signs, cosines, -1.0), axis=1)
        return found.choose(np.flatnonzero(alike < 1.0 - APART))

    def _recenter(self, rows: Rows) -> None:
        """Take the dual variable of a network, and the next proximal step from there."""
        self.Z = self.smooth.residual(rows.apply(self.design))
        self.smooth = self.problem.smoothed(SMOOTHING * self.least, self.Z)
