r"""As few neurons as an objective allows: small ones go, near twins become one.

At the optimum two neurons of one sign and one pattern are one neuron (the norm of their sum is at most
the sum of their norms, and strictly below unless they are parallel); with several outputs neurons of one
direction are one, whatever they tell the outputs. A network that is nearly optimal still has pairs whose
patterns differ in a few samples near a kink, and small neurons that a search put beside large ones: the
objective is so flat there that the last steps of a solver do not bring them together. Here small neurons
are dropped, or those of one sign (that serve one output, where outputs are separate) that are close are
added up, the rest move to their nearest optimum, and the smaller network is taken unless its objective has
grown beyond a slack. What is boldest is tried first.

Neurons move by Newton's method (:func:`cvxnn.smoothing_newton.follow`, with several outputs
:func:`cvxnn.vector_smoothing.follow`) where its steps are exact and affordable. Several outputs otherwise
have smoothed descent, and descent along kinks (:mod:`cvxnn.vector_growth`).

References: Boyd, Schultz and Recht, "The alternating descent conditional gradient method for sparse inverse
problems", SIAM J. Optim. 2017 (pruning after every move of the atoms).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

from . import growth, smoothing_newton, vector_growth, vector_smoothing
from .design import Design
from .program import Problem
from .vector_exploration import suits

#: Shares of all sizes below which neurons are dropped, and distances below which they are merged.
SHARES, DISTANCES = (1e-2, 3e-3, 1e-3, 1e-4), (0.1, 0.03, 0.01, 1e-6)
#: An objective that is larger by more than this share before neurons have moved is given up at once, with
#: one output and with several.
HOPELESS, SLOW_HOPELESS = 1e-3, 1e-4
#: A rise of the objective, as a share, that costs nothing.
NOTHING = 1e-10
#: Newton's path of a smaller network: first and last band, steps.
PATH = (1e-4, 1e-9, 40)
#: With several outputs: multiplications of such a path, steps that have to be affordable with them, and the
#: promised decrease of a step, as a share of the objective, that ends it.
WORK, LEAST, SETTLED = 2e10, 10, 1e-11
#: Band and steps of descent, and products with the Hessian along kinks.
DESCENT, SLIDE = (1e-4, 200), 300
#: Smaller networks whose neurons are moved, at most: with one output, and with several, which is slower.
MOVES, SLOW_MOVES = 10, 4

R = TypeVar("R", growth.Rows, vector_growth.Rows)


def fewer(
    problem: Problem,
    design: Design,
    rows: growth.Rows,
    slack: float,
    deadline: float = float("inf"),
) -> growth.Rows:
    """Return a network with no more neurons, whose objective is at most ``1 + slack`` times as large.

    Parameters
    ----------
    problem : Problem
    design : Design
    rows : Rows
        Nearly optimal.
    slack : float
    deadline : float
        On the clock of :func:`time.perf_counter`, after which no smaller network is tried.

    Returns
    -------
    Rows
        `rows` itself where no smaller network that was tried is as good.
    """
    return _Signed(problem, design).shrink(rows, slack, deadline)


def fewer_vectors(
    problem: Problem,
    design: Design,
    coupling: vector_growth.Coupling,
    rows: vector_growth.Rows,
    slack: float,
    deadline: float = float("inf"),
) -> vector_growth.Rows:
    """As :func:`fewer`, with several outputs."""
    return _Vectors(problem, design, coupling).shrink(rows, slack, deadline)


class _Shrinking(ABC, Generic[R]):
    """What is done to neurons of one kind."""

    moves, hopeless = MOVES, HOPELESS

    def __init__(self, problem: Problem, design: Design) -> None:
        self.problem, self.design = problem, design

    @abstractmethod
    def objective(self, rows: R) -> float:
        """The objective of a network."""

    @abstractmethod
    def merge(self, rows: R, distance: float) -> R:
        """Add up neurons that are close."""

    @abstractmethod
    def settle(self, rows: R) -> R:
        """Move all neurons, where that is affordable."""

    def shrink(self, rows: R, slack: float, deadline: float) -> R:
        """See :func:`fewer`."""
        if time.perf_counter() > deadline:
            return rows
        least = self.objective(rows)
        limit, hopeless = least * (1.0 + slack), least * (1.0 + self.hopeless)
        # what costs nothing first: other moves are quicker with fewer neurons
        whole = rows
        while (smaller := next(self._smaller(rows, least * (1.0 + NOTHING)), None)) is not None:
            rows = smaller
        # the sum of twins is as good as they were, and all the same not where it would rest
        moved = rows if rows is whole or not self.moves else self.settle(rows)
        rows = moved if self.objective(moved) <= limit else rows
        candidates = self._smaller(rows, hopeless)
        for _ in range(self.moves):
            smaller = next(candidates, None)
            if smaller is None or time.perf_counter() > deadline:
                break
            moved = self.settle(smaller)
            if self.objective(moved) <= limit:
                rows, candidates = moved, self._smaller(moved, hopeless)
        return rows

    def _smaller(self, rows: R, limit: float) -> Iterator[R]:
        """Networks with fewer neurons whose objective is within a limit, the smallest first."""
        size = self.design.norms(rows.U)
        total = float(size.sum())
        cuts: list[R] = [rows.take(size > share * total) for share in SHARES]
        merges: list[R] = [self.merge(rows, distance) for distance in DISTANCES]
        # of one kind, as many neurons are nearly always the same ones
        tried: list[R] = list({len(cut): cut for cut in cuts}.values())
        tried.extend({len(merged): merged for merged in merges}.values())
        for smaller in sorted(tried, key=len):
            if not 0 < len(smaller) < len(rows):
                continue
            if self.objective(smaller) <= limit:
                yield smaller


class _Signed(_Shrinking[growth.Rows]):
    """Neurons of one output."""

    def objective(self, rows: growth.Rows) -> float:
        return growth.objective(self.problem, self.design, rows)

    def merge(self, rows: growth.Rows, distance: float) -> growth.Rows:
        return growth.merge(rows, self.design, distance)

    def settle(self, rows: growth.Rows) -> growth.Rows:
        problem, design = self.problem, self.design
        samples, d = design.samples, design.X.shape[1]
        affords = smoothing_newton.affordable(samples, len(rows), d, design.pool)
        if not (problem.loss.smooth and affords):
            return rows
        return smoothing_newton.follow(problem, design, rows, *PATH)


class _Vectors(_Shrinking[vector_growth.Rows]):
    """Neurons of several outputs."""

    hopeless = SLOW_HOPELESS

    def __init__(self, problem: Problem, design: Design, coupling: vector_growth.Coupling) -> None:
        super().__init__(problem, design)
        self.moves = 0 if design.X.size > vector_growth.MANY else SLOW_MOVES  # it takes seconds
        self.coupling = coupling

    def objective(self, rows: vector_growth.Rows) -> float:
        return vector_growth.objective(self.problem, self.design, rows)

    def merge(self, rows: vector_growth.Rows, distance: float) -> vector_growth.Rows:
        return vector_growth.merge(rows, self.design, self.coupling, distance)

    def settle(self, rows: vector_growth.Rows) -> vector_growth.Rows:
        problem, design, coupling = self.problem, self.design, self.coupling
        step = vector_smoothing.work(len(design.X), len(rows), design.X.shape[1], problem.y.shape[1])
        steps = min(PATH[2], int(WORK / step))
        if steps >= LEAST and suits(problem, design, coupling, len(rows)):
            return vector_smoothing.follow(problem, design, rows, *PATH[:2], steps, tol=SETTLED)
        if type(design) is not Design:  # descent does not know the norms of other designs
            return rows
        rows = vector_growth.anneal(problem, design, coupling, rows, *DESCENT)
        return vector_growth.slide(problem, design, coupling, rows, DESCENT[0], SLIDE)
