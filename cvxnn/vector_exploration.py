r"""The schedule of growing a network with several outputs on few data, where Newton steps are exact.

    random neurons, annealed quickly
    price, insert, follow the minimum by Newton's method        until no neuron prices out, or none pays

as with one output (:mod:`cvxnn.exploration`). Annealing does not get far here: where decay is weak, L-BFGS
takes tens of thousands of steps, and every insertion adds neurons that it never brings together again,
until there are several times the n * outputs that an optimal network needs at most (Carathéodory). Newton's
method (:mod:`cvxnn.vector_smoothing`) goes to the minimum, while much is missing only as near as that
deserves, since a search costs little beside a path. A network that has too many neurons all the same is
thinned before it grows. A round that pays little makes the next search harder, and its path finer: a wide
band moves neurons far, and may undo what an insertion gained.

References: Denoyelle, Duval, Peyré and Soubies, Inverse Problems 2019 (insert, then move all neurons);
Sahiner, Ergen, Pauly and Pilanci, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .certificate import search_gap
from .design import Design
from .losses import VectorLoss
from .network import Network
from .program import Problem
from .vector_growth import Coupling, Rows, anneal, insert, objective, thin
from .vector_oracles import VectorOracle
from .vector_pricing import VectorNeurons
from .vector_smoothing import affordable, follow

#: Bands and steps of the first anneals.
QUICK = ((0.1, 60), (0.03, 60), (0.01, 100), (0.003, 100))
#: Newton's paths, from wide to fine: first and last mu, steps.
PATHS = ((1e-2, 1e-5, 40), (1e-3, 1e-9, 60), (1e-4, 1e-10, 100))
#: Above this search gap, and until such a round pays less than `FINER`, paths start and end at multiples of
#: it, and end with a step that promises less than a share of it.
FAR, START, END, ENOUGH = 1e-2, 0.1, 2e-3, 1e-2
#: A round that pays less than these shares makes the next search harder; less than the first of all, exact;
#: less than `FINER` its path finer; less than `IDLE` nothing, unless it halves the gap. So many idle rounds
#: in a row are the end.
PAYS, EXACT, FINER, IDLE, PATIENCE = (2e-4, 2e-5), 1e-3, 2e-5, 1e-6, 3
#: Values that differ by less are one.
ROUNDING = 1e-12


def suits(problem: Problem, design: Design, coupling: Coupling, neurons: int) -> bool:
    """Whether a network of so many neurons grows by exact Newton steps.

    That takes weight decay, a loss that is a sum over samples, neurons that see a sample once and pay for
    all their weights, and few data.
    """
    # designs of another kind have norms of their own, which its steps do not know
    plain = type(design) is Design and coupling is Coupling.joint and design.free == 0 and design.pool == 1
    n, r = design.X.shape
    loss = problem.loss
    if not (plain and isinstance(loss, VectorLoss) and loss.by_sample):
        return False
    return affordable(n, neurons, r, problem.y.shape[1])


class VectorExploration:
    """Grows a network; :meth:`run` says when there is a better one, and when it has been priced.

    Parameters
    ----------
    problem : Problem
    design : Design
    oracle : VectorOracle
    random_state : numpy.random.Generator
    tol : float
        Search gap that ends it.
    deadline : float
        Of :func:`time.perf_counter`, for Newton's paths.
    network_of : callable
        The explicit network of rows; a gap within `tol` is searched as the judge of that network does.

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
        oracle: VectorOracle,
        random_state: np.random.Generator,
        tol: float,
        deadline: float,
        network_of: Callable[[Rows], Network],
    ) -> None:
        self.problem, self.design, self.oracle = problem, design, oracle
        self.random_state, self.tol, self.deadline = random_state, tol, deadline
        self.network_of = network_of
        self.best = Rows.empty(design.X.shape[1], problem.y.shape[1])
        self.least, self.gap = objective(problem, design, self.best), 1.0

    def run(self, rows: Rows, rounds: int, *, started: bool) -> Iterator[bool]:
        """Grow from `rows` for at most so many rounds; yields at every better network, and at prices.

        Parameters
        ----------
        rows : Rows
            Those of a trained network if `started`, else to be annealed first.
        rounds : int

        Yields
        ------
        bool
            Whether the best network has just been priced.
        """
        level, paid, idle, closest, hasty = 0, 1.0, 0, 1.0, True
        if started:
            level = 1
            yield from self._offer(rows)
            yield from self._offer(self._follow(rows, level))
        else:
            for mu, steps in QUICK:
                rows = anneal(self.problem, self.design, Coupling.joint, rows, mu, steps)
                yield from self._offer(rows)
        for _ in range(rounds):
            hardness = sum(paid < share for share in PAYS)
            found = self._price(hardness, paid < EXACT)
            yield True
            done = paid < IDLE and level == len(PATHS) - 1 and hardness == len(PAYS)
            idle = idle + 1 if done and self.gap > 0.5 * closest else 0
            closest = min(closest, self.gap)
            if self.gap <= self.tol or idle >= PATIENCE:
                break
            before = self.least
            # inserted neurons must not fall victim to thinning, so it comes first
            if len(self.best) > self.problem.y.size:
                self.best = thin(self.problem, self.design, self.best)
            rows = insert(self.problem, self.design, self.best, found)
            short = hasty and self.gap > FAR
            moved = self._hasten(rows) if short else self._follow(rows, level)
            coarse = self._value(moved) > self._value(rows) * (1.0 + ROUNDING)
            yield from self._offer(rows if coarse else moved, 0.0 if coarse else ROUNDING)
            paid = 1.0 - self.least / before if before > 0 else 0.0
            if coarse or paid < FINER:
                hasty, level = False, level if short else min(level + 1, len(PATHS) - 1)

    def _value(self, rows: Rows) -> float:
        return objective(self.problem, self.design, rows)

    def _offer(self, rows: Rows, slack: float = 0.0) -> Iterator[bool]:
        """Keep a network that is better than the best, or as good: later ones are sharper."""
        value = self._value(rows)
        if value < self.least * (1.0 + slack):
            self.best, self.least = rows, min(value, self.least)
            yield False

    def _follow(self, rows: Rows, level: int) -> Rows:
        """Move all neurons along a Newton path."""
        mu, end, steps = PATHS[level]
        return follow(self.problem, self.design, rows, mu, end, steps, deadline=self.deadline)

    def _hasten(self, rows: Rows) -> Rows:
        """Move all neurons along a path that is as long as what the last search found deserves."""
        (mu, end, steps), gap = PATHS[0], self.gap
        mu, end = min(mu, START * gap), max(end, END * gap)
        return follow(
            self.problem, self.design, rows, mu, end, steps, tol=ENOUGH * gap, deadline=self.deadline
        )

    def _price(self, hardness: int, exact: bool) -> VectorNeurons:
        """Search for neurons that improve the best network."""
        network = self.network_of(self.best)
        Z = self.problem.residual(network(self.problem.X))
        starts = self.oracle.neurons_of(network)
        found = self.oracle.neurons(Z, starts, self.random_state, hardness, exact=exact)
        self.gap = self._gap(Z, found)
        if self.gap <= self.tol:
            # sharp networks leave few neurons to find, and quick searches miss them
            hard = self.oracle.neurons(Z, starts, self.random_state, len(PAYS))
            found = found.join(hard).join(self.oracle.thorough(Z, network))
            self.gap = self._gap(Z, found)
        return found

    def _gap(self, Z: np.ndarray, found: VectorNeurons) -> float:
        price = max(found.best, self.problem.beta)
        return search_gap(self.problem, self.least, Z, price)
