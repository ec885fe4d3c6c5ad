r"""Two-layer networks with several outputs whose activation has one kink, at zero.

The network ``f(x) = sum_j v_j phi(x'w_j + b_j) + c`` with ``phi(t) = max(t, s t)`` (the ReLU at s = 0),
output weights v_j and weight decay,

    minimise   sum_i s_i loss(f(x_i), y_i) + beta/2 * sum_j (|w_j|^2 + b_j^2 + |v_j|^2),

has the optimal value of ``minimise L(F) + beta * gauge(F)`` with the gauge of the convex hull of
``{phi(Xu) g' : |u|, |g| <= 1}``: per activation pattern the nuclear norm with its left factors kept in the
cone of the pattern. That norm is NP-hard to evaluate, but its dual needs only neurons: ``max_u |Z'phi(Xu)|
<= beta``. So a network grows: descend on all neurons, price new ones against its dual variable, insert,
until no neuron prices out; at most n * outputs neurons are needed. A network is globally optimal exactly if
it is stationary and no neuron prices out, whatever found it.

What the output layer pays decides what outputs share. ``coupling="joint"`` is weight decay: the Euclidean
norm of v_j. ``coupling="separate"`` is ``beta/2 * sum_j (|w_j|^2 + |v_j|_1^2)``, where every neuron may as
well serve one output: with a loss that is a sum over outputs these are independent networks. For one sample
``X = 1, Y = (3, 4)`` and beta = 1 the two optima are 4.5 and 6.

References: Sahiner, Ergen, Pauly and Pilanci, "Vector-output ReLU neural network problems are copositive
programs", ICLR 2021; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (stationary points).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, search_gap
from ..design import Design
from ..fewer import fewer_vectors
from ..losses import VectorLoss
from ..network import Affine, Network
from ..parameters import check_coupling
from ..program import Problem, Program, Solution
from ..vector_exploration import QUICK, VectorExploration, suits
from ..vector_growth import Coupling, Rows, anneal, insert, is_slow, merge, objective, random_rows, slide
from ..vector_newton import affordable, follow
from ..vector_oracles import FaceOracle, TooManyFaces, VectorOracle, VectorSearch
from ..vector_pricing import VectorNeurons
from .base import Effort, Progress, Training
from .hidden import ReLUHidden
from .two_layer import check_hidden_bias, with_constants
from .vector_large import InBatches

#: Neurons to begin with, and as many more for every output (for so many, where windows have them too).
FIRST, PER_OUTPUT, MOST_OUTPUTS = 40, 16, 12
Plan = tuple[tuple[float, int], ...]
#: Bands and steps of the anneals after an insertion, and when little is left to gain.
REFINE: Plan = ((1e-3, 80), (1e-4, 120))
FINE: Plan = ((1e-4, 200),)
#: The same where a step of Newton's method costs tens of steps of descent, numbers its blocks multiply from
#: which that is so, and the share below which a round of descent leaves the rest to Newton's method.
LONG: Plan = ((1e-3, 400),)
LONG_FINE: Plan = ((1e-3, 200), (3e-4, 100))
DEAR, DESCENT_PAYS = 1e8, 1e-4
#: Search gap below which kinks are held, numbers in the data up to which they always are, and products with
#: the Hessian then.
CLOSE, SMALL, SLIDE = 1e-2, 1e4, 300
#: Distances below which neurons are tried as one.
FUSED = (0.01, 0.05, 0.2)
#: Newton's paths, from wide to fine: first and last mu, steps; taken between two search gaps (below, the
#: kinks are known and held), and finer ones once a round has paid less than a share.
PATHS, NEAR, FINER = ((1e-3, 3e-5, 15), (1e-3, 1e-5, 20), (1e-3, 1e-6, 40)), (1e-3, 0.2), 1e-3
#: A round that pays less than a share and does not halve the gap is idle; so many in a row are the end. The
#: share grows with the data, from the first to the last, as rounds become expensive; from the third share
#: on one idle round is the end.
PAYS, IDLE, EXPENSIVE = (1e-6, 2e-4), 4, 1e-4
#: The share that a round has to pay on data where it takes seconds, in units of the tolerance and at most,
#: and neurons to begin with there for every output.
SLOW_PAYS, SLOW_PER_OUTPUT = (500.0, 5e-3), 4
#: Share of the time of a training that listing faces may take.
LISTING = 0.2

UNTRACTABLE = "several outputs have no tractable program over patterns: they are trained"


class VectorRectified(ReLUHidden, InBatches):
    """Two-layer networks with several outputs whose activation has one kink, at zero.

    A member is a frozen dataclass with the parameters `hidden_bias`, `patterns` and `coupling` of
    :class:`cvxnn.architectures.vector_relu.VectorReLU`, and says its :attr:`leak`. Newton's method and
    training in mini-batches are for the ReLU.
    """

    patterns: str | int | tuple
    coupling: str
    #: Whether there are linear neurons too, see :mod:`cvxnn.architectures.vector_skip`.
    skip: bool = False

    @property
    @abstractmethod
    def leak(self) -> float:
        """The slope of the activation on the negative side, in [-1, 1)."""

    def of_rows(self, problem: Problem, U: np.ndarray, V: np.ndarray) -> Network:
        """Return the network of hidden weights ``U`` (m, d), the bias last if any, and outputs ``V`` (m,
        outputs), with its best constants."""
        d = problem.X.shape[1]
        bias = np.zeros(len(U)) if self.hidden_bias is None else U[:, d]
        W1 = np.ascontiguousarray(U[:, :d].T)
        return with_constants(problem, Network.two_layer(W1, bias, V, 0.0, self.activation))

    def rows_problem(self, problem: Problem) -> Problem:
        """Return the problem in the outputs that a neuron has: those of the network, unless it has more."""
        return problem

    def output_rows(self, network: Network) -> np.ndarray:
        """Return the output weights of each neuron, (m, outputs)."""
        last = network.layers[-1]
        assert isinstance(last, Affine)
        return last.weight

    def rows_of(self, oracle: VectorOracle, network: Network, design: Design, coupling: Coupling) -> Rows:
        """Return the neurons of a network."""
        return Rows.of(oracle.neurons_of(network), self.output_rows(network), design, coupling)

    def _check(self) -> Coupling:
        check_hidden_bias(self.hidden_bias)
        check_coupling(self.coupling)
        if not isinstance(self.patterns, str) or self.patterns != "auto":
            raise ValueError(
                f"patterns={self.patterns!r} is for one output: with several outputs patterns grow, "
                "pass patterns='auto', or sample some by architecture='gated_relu', 'cnn_gated' or "
                "'threshold'"
            )
        return Coupling(self.coupling)

    def design(self, problem: Problem) -> Design:
        """Return the design matrix of the neurons in its row space."""
        self._check()
        return super().design(problem)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        self._check()
        return None

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        raise NotImplementedError(UNTRACTABLE)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        raise NotImplementedError(UNTRACTABLE)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> VectorOracle:
        return self.oracle_within(problem, arrangement, None)

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> VectorOracle:
        """The exact oracle if its faces are listed in time."""
        problem, design = self.problem_of(problem), self.design(problem)
        limit = float("inf") if max_time is None else LISTING * max_time
        return self._oracle_of(problem, design, limit)

    def _oracle_of(self, problem: Problem, design: Design, limit: float) -> VectorOracle:
        """The exact oracle if its faces are listed within some seconds, else a search."""
        try:
            return FaceOracle(problem, design, self._check(), limit)
        except TooManyFaces:
            return VectorSearch(problem, design, self._check())

    def cost(self, network: Network) -> float:
        """``sum_j |(w_j, b_j)| |v_j|``, the penalty after the best rescaling of each neuron."""
        return float(self.hidden_norms(network) @ self._check().norms(self.output_rows(network)))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
        H = self.unit_outputs(problem, U)
        return H[:, :, None] * (V / self._check().norms(V)[:, None])[:, None, :]

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        return Network.two_layer(W1, b1, w2, c, self.activation)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        assert isinstance(oracle, VectorOracle)
        problem, design, coupling = self.problem_of(problem), self.design(problem), self._check()
        best = yield from self._grow(problem, design, coupling, oracle, effort)
        if oracle.large or not best.width:
            return best
        rows, slack = self.rows_of(oracle, best, design, coupling), min(1e-6, 0.01 * effort.tol)
        least = fewer_vectors(self.rows_problem(problem), design, coupling, rows, slack, effort.deadline)
        if least is rows:
            return best
        network = self._network(problem, design, least)
        if effort.history[-1].Z is None:
            # a smaller network that is as good may have a dual variable that is not
            effort.history[-1] = replace(effort.history[-1], Z=problem.residual(best(problem.X)))
        # what ended the growing must hold for the smaller network too
        closed = effort.history[-1].search_gap <= effort.tol
        return best if closed and self._gap(problem, oracle, network) > effort.tol else network

    def _gap(self, problem: Problem, oracle: VectorOracle, network: Network) -> float:
        """The search gap that the judge of a network finds."""
        f = network(problem.X)
        Z = problem.residual(f)
        price = max(oracle.found(Z, network), problem.beta)
        return search_gap(problem, problem.value(f, self.cost(network)), Z, price)

    def _grow(
        self, problem: Problem, design: Design, coupling: Coupling, oracle: VectorOracle, effort: Effort
    ) -> Training:
        """Move neurons and insert others, until no neuron is missing."""
        inner = self.rows_problem(problem)
        best = Rows.empty(design.X.shape[1], inner.y.shape[1])
        least = objective(inner, design, best)
        network = self._network(problem, design, best)
        effort.history.append(Progress(least, 1.0, 0, 0, network))
        yield effort.history[-1]
        if not np.any(design.X) or not np.any(problem.residual(np.zeros_like(problem.y))):
            return network
        if oracle.large:
            return (yield from self._train_large(problem, design, oracle, effort, network))
        rows, plan = self._first(inner, design, coupling, oracle, effort)
        if inner is problem and suits(problem, design, coupling, len(rows)):
            return (yield from self._explore(problem, design, oracle, effort, rows))
        idle, gap, closest, level, dear = 0, 1.0, 1.0, 0, False
        slow = is_slow(design)
        pays = min(SLOW_PAYS[0] * effort.tol, SLOW_PAYS[1])
        pays = pays if slow else float(np.clip(2.5e-9 * design.X.size, *PAYS))
        for k in range(effort.max_iter):
            before = least
            # where rounds are cheap, idle ones make the next longer: L-BFGS had not converged
            longer = 3**idle if pays < EXPENSIVE else 1
            moves = self._moves(
                inner, design, coupling, rows, plan, gap, longer, level, effort.deadline, dear
            )
            for moved in moves:
                now = objective(inner, design, moved)
                if now < least:
                    best, least = moved, now
                    yield Progress(least, gap, len(best), len(best), self._network(problem, design, best))
            network = self._network(problem, design, best)
            Z = problem.residual(network(problem.X))
            paid = (before - least) / least if least > 0 else 0.0
            if slow and k and paid < pays:
                # the judge's search says the gap
                effort.history.append(Progress(least, gap, len(best), len(best), network, Z))
                break
            found, gap = self._price(
                problem, oracle, Z, network, least, dear or paid < max(pays, 1e-4), idle, effort
            )
            effort.history.append(Progress(least, gap, len(best), len(best), network, Z))
            yield effort.history[-1]
            idle = idle + 1 if paid < pays and gap > 0.5 * closest else 0
            closest = min(closest, gap)
            level = min(level + (paid < FINER), len(PATHS) - 1)
            if gap <= effort.tol or idle >= (IDLE if pays < EXPENSIVE else 1):
                break
            rows = self._insert(inner, design, best, found)
            dear = len(rows) * design.X.size * design.X.shape[1] > DEAR and paid > DESCENT_PAYS
            far = gap > CLOSE and idle == 0
            plan = (LONG if far else LONG_FINE) if dear else REFINE if far else FINE
        return network

    def _explore(
        self, problem: Problem, design: Design, oracle: VectorOracle, effort: Effort, rows: Rows
    ) -> Training:
        """Grow by exact Newton steps, see :mod:`cvxnn.vector_exploration`."""

        def network_of(at: Rows) -> Network:
            return self._network(problem, design, at)

        growing = VectorExploration(
            problem, design, oracle, effort.random_state, effort.tol, effort.deadline, network_of
        )
        for priced in growing.run(rows, effort.max_iter, started=effort.start is not None):
            # without dual variables: a quick search may take one for better than it is, and the judge
            # takes the network's own
            width = len(growing.best)
            progress = Progress(growing.least, growing.gap, width, width, network_of(growing.best))
            if priced:
                effort.history.append(progress)
            yield progress
        return network_of(growing.best)

    def _first(
        self, problem: Problem, design: Design, coupling: Coupling, oracle: VectorOracle, effort: Effort
    ) -> tuple[Rows, Plan]:
        """Where to begin: a given network, or random neurons."""
        if effort.start is not None:
            rows = self.rows_of(oracle, effort.start, design, coupling)
            if len(rows):
                return rows, REFINE
        outputs = problem.y.shape[1] if by_sample(problem) else min(problem.y.shape[1], MOST_OUTPUTS)
        width = FIRST + (SLOW_PER_OUTPUT if is_slow(design) else PER_OUTPUT) * outputs
        return random_rows(problem, design, coupling, width, effort.random_state, self.skip), QUICK

    def _moves(
        self,
        problem: Problem,
        design: Design,
        coupling: Coupling,
        rows: Rows,
        plan: Plan,
        gap: float,
        longer: int,
        level: int,
        deadline: float,
        dear: bool,
    ) -> Iterator[Rows]:
        """The rows after a Newton path or, where that is dear, after every step of a plan and a slide."""
        n, r = design.X.shape
        kind = coupling is Coupling.joint and design.free == 0 and design.slope == 0.0 and design.pool == 1
        # Networks with more neurons than samples are far from a minimum worth following.
        kind = kind and by_sample(problem) and len(rows) <= n and not dear
        if kind and NEAR[0] < gap < NEAR[1] and affordable(n, len(rows), r, problem.y.shape[1]):
            mu, end, steps = PATHS[level]
            yield follow(problem, design, rows, mu, end, steps, deadline=deadline)
            return
        for mu, steps in plan:
            rows = anneal(problem, design, coupling, rows, mu, steps * longer)
            yield rows
        # under weak decay descent stalls though much is left to gain: where it is cheap, hold kinks early
        if (gap <= CLOSE or design.X.size <= SMALL) and not dear:
            rows = slide(problem, design, coupling, rows, plan[-1][0], SLIDE * longer)
            yield rows
            # without Newton's method neurons that become one do so slowly
            for tol in () if kind else FUSED:
                fewer = merge(rows, design, coupling, tol)
                if len(fewer) < len(rows):
                    fewer = anneal(problem, design, coupling, fewer, plan[-1][0], plan[-1][1] * longer)
                    yield slide(problem, design, coupling, fewer, plan[-1][0], SLIDE * longer)

    def _insert(self, problem: Problem, design: Design, rows: Rows, found: VectorNeurons) -> Rows:
        """Give the network those of the found neurons that improve it."""
        return insert(problem, design, rows, found)

    def _network(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """Balance the layers, and give the outputs their best constants."""
        full = design.weights(rows.U)
        root = np.sqrt(design.norms(rows.U))[:, None]
        return self.of_rows(problem, full / root, rows.G * root)


def by_sample(problem: Problem) -> bool:
    """Whether every row of predictions has a loss of its own."""
    return isinstance(problem.loss, VectorLoss) and problem.loss.by_sample
