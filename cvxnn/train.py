"""Training in full: the only place that knows both architectures and solvers.

    lift -> solve -> decode -> certify

An architecture's training is a generator of convex programs; this module drives it, chooses a solver
for each program, keeps the clock, and hands the network to the judge. Whatever happens on the way (time
up, Ctrl-C, a program not solved to tolerance), the best network so far is returned, with a
certificate that is valid for it.

Reference: the design of reductions in CVXPY (Agrawal et al., 2018) and of benchopt's judge.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from .architectures import Architecture
from .architectures.base import Effort, Progress, Stage
from .arrangement import Arrangement
from .certificate import Certificate, Oracle, Proof, judge_and_prove
from .families import get_architecture
from .lifted_oracles import with_bound
from .network import Network
from .operators import Dense, Stacked
from .penalties import GroupL2
from .program import Master, Problem, Program, Solution, Status
from .solvers import SOLVERS, Solver, run

__all__ = [
    "BOUND_ITER",
    "Ground",
    "Moment",
    "Trained",
    "choose_solver",
    "drive",
    "get_architecture",
    "threads_for",
    "train",
]

#: Up to this many samples, or numbers in the data, one BLAS thread is used.
SINGLE_THREAD, SMALL_DATA = 1000, 250_000
#: Numbers in an operator without the structure of masks up to which a general conic solver takes it.
CONIC = 1_000_000
#: Iterations spent on tightening a bound of scope "bounded".
BOUND_ITER = 40


@dataclass(frozen=True)
class Moment:
    """One line of a training's history, in the user's scale.

    Parameters
    ----------
    seconds : float
    objective : float
        Per sample.
    bound : float
        Proven lower bound per sample so far; 0 while nothing better is proven.
    search_gap : float
    width, patterns : int
    network : Network or None
        The best network so far, for callbacks; the history that is kept has none.
    """

    seconds: float
    objective: float
    bound: float
    search_gap: float
    width: int
    patterns: int
    network: Network | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Trained:
    """What training returns.

    Parameters
    ----------
    network : Network
    certificate : Certificate
    history : list of Moment
    n_iter : int
        Programs solved (growing patterns) or solver iterations (a single program).
    status : Status
    dual : ndarray of shape (n,)
        The dual variable of the network.
    proof : Proof
        The dual point that proves the certificate's lower bound.
    stages : list of Stage
        Of a family that trains stage by stage, the last with `network` and `certificate`; else empty.
    """

    network: Network
    certificate: Certificate
    history: list[Moment]
    n_iter: int
    status: Status
    dual: np.ndarray = field(repr=False)
    proof: Proof = field(repr=False)
    stages: list[Stage] = field(default_factory=list, repr=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class Ground:
    """What training at every strength of the penalty shares.

    Parameters
    ----------
    arrangement : Arrangement or None
        The patterns to train with, None where they grow.
    oracle : Oracle
    drawn : dict
        The state of the random numbers after the patterns were drawn.
    """

    arrangement: Arrangement | None
    oracle: Oracle
    drawn: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def prepare(
        cls,
        problem: Problem,
        architecture: Architecture,
        random_state: np.random.Generator,
        max_time: float | None = None,
    ) -> Ground:
        """Arrange the patterns of a problem and make the oracle of its certificates.

        Within `max_time` seconds of training an exact oracle that takes long to make gives way.
        """
        arrangement = architecture.arrange(problem, random_state)
        drawn = random_state.bit_generator.state
        return cls(arrangement, architecture.oracle_within(problem, arrangement, max_time), dict(drawn))


@cache
def _controller() -> ThreadpoolController:
    """Finding the thread pools of a process takes milliseconds: once is enough."""
    return ThreadpoolController()


def threads_for(problem: Problem) -> AbstractContextManager[Any]:
    """A context in which small problems have one BLAS thread.

    Threads that wait for each other cost more than they save on small systems, many times more on a
    busy machine.
    """
    small = len(problem.y) <= SINGLE_THREAD or problem.X.size <= SMALL_DATA
    return _controller().limit(limits=1, user_api="blas") if small else nullcontext()


def choose_solver(program: Program) -> Solver:
    """Return the solver that suits a program.

    A Lasso over explicit columns goes to Newton's method, of one output or several, and so do matrices with
    nuclear norms while its systems are small; programs without cones go to working sets while a group is
    small enough for exact block steps, of more features to kernels where the loss has them; what else is
    written out to the conic solver; others to the interior point while its system is small.

    Raises
    ------
    Unsupported
        By :func:`cvxnn.solvers.run`, if no solver supports the program.
    """
    n, groups, d = program.operator.shape
    for name in ("lasso", "rows", "matrix", "ssnal"):
        if SOLVERS[name]().supports(program)[0]:
            return SOLVERS[name]()
    point, first_order = SOLVERS["interior_point"](), SOLVERS["fista"]()
    working_set = SOLVERS["working_set"]()
    if d <= 300 and working_set.supports(program)[0]:
        return working_set
    kernel = SOLVERS["kernel"]()
    if kernel.supports(program)[0]:
        return kernel
    # Features of a Lasso are nearly parallel to their neighbours, which first-order steps do not get over.
    conic, explicit = SOLVERS["conic"](), isinstance(program.operator, Dense | Stacked)
    if explicit and (d == 1 or n * groups * d <= CONIC) and conic.supports(program)[0]:
        return conic
    small = min(n, groups * d) <= 6000 and n * groups * d <= 3e8
    if point.supports(program)[0] and (small or not first_order.supports(program)[0]):
        return point
    for solver in (first_order, conic):
        if solver.supports(program)[0]:
            return solver
    return point if isinstance(program.penalty, GroupL2) and point.supports(program)[0] else conic


def train(
    problem: Problem,
    architecture: Architecture,
    *,
    tol: float = 1e-5,
    max_iter: int = 50,
    max_time: float | None = None,
    random_state: int = 0,
    callback: Callable[[Moment], Any] | None = None,
    bound_iter: int = BOUND_ITER,
    start: Network | None = None,
    ground: Ground | None = None,
    bound: str = "auto",
) -> Trained:
    """Train a network and certify it.

    Parameters
    ----------
    problem : Problem
    architecture : Architecture
    tol : float
        Relative search gap to reach.
    max_iter : int
        Rounds of growing patterns.
    max_time : float or None
        Seconds; results that stop on it depend on the machine.
    random_state : int
    callback : callable(Moment), or None
        Called after every round, and once more with the proven bound at the end. If it returns True
        training stops with the best network so far.
    bound_iter : int
        Iteration budget of a ``bounded`` certificate.
    start : Network or None
        A network of this architecture on the same data to start from, of a larger `beta` say.
    ground : Ground or None
        The ground of the same data at any `beta`, so as not to prepare it again.
    bound : {"auto", "sdp"}
        What proves the lower bound at the end, see :mod:`cvxnn.lifted_oracles`.

    Returns
    -------
    Trained
    """
    began = time.perf_counter()
    architecture = architecture.on(problem)
    deadline = began + (float("inf") if max_time is None else max_time)
    rng = np.random.default_rng(random_state)
    if ground is None:
        ground = Ground.prepare(problem, architecture, rng, max_time)
    elif architecture.staged and ground.drawn:  # later stages draw what they draw without a ground
        rng.bit_generator.state = ground.drawn
    arrangement, oracle = ground.arrangement, ground.oracle.at(problem.beta)
    effort = Effort(tol, max_iter, rng, start=start, deadline=deadline, bound_iter=bound_iter)
    notes = _Notes(problem.total_weight, began, callback)
    with threads_for(problem):
        training = architecture.train(problem, arrangement, oracle, effort)
        network, status, n_iter = drive(training, effort, deadline, notes.add)
        if network is None:
            network = architecture.nothing(problem)
        oracle = effort.oracle or oracle
        judge_by = with_bound(oracle, bound)
        left = max(1.0, deadline - time.perf_counter())
        dual = _dual(network, oracle.problem, effort)
        certificate, proof = _certify(network, dual, architecture, judge_by, bound_iter, left)
    line = effort.history[-1] if effort.history else Progress(0.0, 1.0, network.width, 0)
    objective = certificate.objective * problem.total_weight
    final = Progress(objective, certificate.search_gap, network.width, line.patterns, network)
    notes.add(final, certificate.lower_bound)
    if certificate.search_gap <= tol:
        status = Status.optimal
    elif status is Status.optimal:
        # That was the last program's gap, not the network's.
        status = Status.max_iter if n_iter >= max_iter else Status.stalled
    # a stage that was cut short before it was better has left the one before it
    stages = [stage for stage in effort.stages if stage.certificate.frozen < certificate.frozen]
    stages += [Stage(network, certificate)] if architecture.staged else []
    return Trained(network, certificate, notes.history, max(n_iter, 1), status, dual, proof, stages=stages)


class _Notes:
    """The history of a training in the user's scale, as it is told to the callback."""

    def __init__(self, total: float, began: float, callback: Callable[[Moment], Any] | None) -> None:
        self.total, self.began, self.callback = total, began, callback
        self.history: list[Moment] = []

    def add(self, line: Progress, bound: float = 0.0) -> bool:
        """Note a line, and say whether the callback wants training to stop."""
        moment = Moment(
            time.perf_counter() - self.began,
            line.objective / self.total,
            bound,
            line.search_gap,
            line.width,
            line.patterns,
        )
        self.history.append(moment)
        return self.callback is not None and bool(self.callback(replace(moment, network=line.network)))


def drive(
    training: Any, effort: Effort, deadline: float, note: Callable[[Progress], Any]
) -> tuple[Network | None, Status, int]:
    """Answer a generator's requests until it returns, time is up, `note` is true or the user interrupts."""
    network: Network | None = None
    answer: Solution | None = None
    status, rounds = Status.max_iter, 0
    try:
        while True:
            request = training.send(answer)
            answer = None
            if isinstance(request, Master):
                network = request.network if request.network is not None else network
                answer = _solve(request, effort, deadline)
                status = answer.status
                rounds += 1 if request.network is not None else answer.n_iter
                if status is Status.interrupted:
                    # Let the architecture decode what there is, then stop at its next request.
                    deadline = 0.0
            else:
                network = request.network if request.network is not None else network
                stopped = bool(note(request))
                if stopped or time.perf_counter() > deadline:
                    training.close()
                    interrupted = stopped or status is Status.interrupted
                    status = Status.interrupted if stopped else status
                    return network, status if interrupted else Status.max_time, rounds or effort.rounds
    except StopIteration as stop:
        if not rounds:
            rounds = effort.rounds
            status = Status.max_iter if rounds >= effort.max_iter else Status.idle
        return stop.value, Status.max_time if effort.late else status, rounds
    except KeyboardInterrupt:
        training.close()
        return network, Status.interrupted, rounds or effort.rounds


def _solve(request: Master, effort: Effort, deadline: float) -> Solution:
    solver = choose_solver(request.program)
    steps = 100 if solver.name == "interior_point" else 200 * effort.max_iter
    return run(
        solver,
        request.program,
        tol=request.tol,
        max_iter=steps,
        max_time=max(deadline - time.perf_counter(), 0.05),
        start=request.start,
    )


def _dual(network: Network, problem: Problem, effort: Effort) -> np.ndarray:
    """The dual variable of the last round that ended training, else of the best.

    The network's residual where no round ended.
    """
    rounds = [line for line in effort.history if line.Z is not None]
    if not rounds:
        return problem.residual(network(problem.X))
    # Of several within the tolerance the last: the gap of one before may have been that of another network.
    best = min(reversed(rounds), key=lambda line: max(line.search_gap, effort.tol))
    assert best.Z is not None
    return best.Z


def _certify(
    network: Network,
    dual: np.ndarray,
    architecture: Architecture,
    oracle: Oracle,
    bound_iter: int,
    max_time: float,
) -> tuple[Certificate, Proof]:
    """Judge; another Ctrl-C while the bound is tightened gives the untightened, valid bound."""

    def verdict(budget: int) -> tuple[Certificate, Proof]:
        return judge_and_prove(
            network,
            oracle.problem,
            architecture,
            oracle,
            duals=(dual,),
            max_iter=budget,
            max_time=max_time,
        )

    try:
        return verdict(bound_iter)
    except KeyboardInterrupt:
        return verdict(0)
