"""What a family of networks has to answer to be trained and judged.

An architecture knows how to *train*: lift the data into a convex program, decode a solution into an
explicit network; and how to *judge*: the cost (regulariser) of a network, and an oracle for the price
of a dual variable. Training that needs several programs is a generator,

    solution = yield Master(program, tol)

which knows no solver; whoever drives it (`cvxnn.train`) chooses one. Adding an architecture is adding
one file to this folder.

Reference: Pilanci and Ergen, ICML 2020; two-layer networks as atomic norms: Bach, JMLR 2017.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Certificate, Oracle, search_gap
from ..layers import Layer
from ..network import Network
from ..program import Master, Problem, Program, Solution


@dataclass
class Progress:
    """One line of a training's history.

    Parameters
    ----------
    objective : float
        Of the best network so far, at the scale of sums.
    search_gap : float
    width : int
    patterns : int
        Blocks in the current program.
    network : Network or None
        The best network so far.
    Z : ndarray of shape (n,) or None
        The dual variable of the round.
    """

    objective: float
    search_gap: float
    width: int
    patterns: int
    network: Network | None = None
    Z: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """A finished stage of a training that goes stage by stage.

    Parameters
    ----------
    network : Network
        The whole network up to here: frozen layers, and the two layers that the stage trained.
    certificate : Certificate
        Of the stage: against networks with the same frozen layers.
    """

    network: Network
    certificate: Certificate


@dataclass
class Effort:
    """How hard to train: shared by all architectures.

    Parameters
    ----------
    tol : float
        Stop when the search gap is at most this.
    max_iter : int
        Rounds of growing, or solver iterations per hundred where nothing grows.
    random_state : numpy.random.Generator
    history : list of Progress
        Filled while training.
    start : Network or None
        A network of the same architecture on the same data, trained at another strength of the
        penalty, to start from.
    deadline : float
        Of :func:`time.perf_counter`, for moves that would run past it; between moves the driver stops.
    bound_iter : int
        Iteration budget of the certificates of stages, where a training has several.
    stages : list of Stage
        Filled while training with the stages that are finished, all but the last.
    oracle : Oracle or None
        Set by a training whose networks so far are judged by another oracle than the one it was given: that
        of a later stage.
    late : bool
        Set by a training that ended before its driver stopped it, to leave time for the proof.
    rough : bool
        Whether a network about one per cent above the best objective will do, with nothing proven: growing
        ends it, and moves are the cheaper ones.
    """

    tol: float
    max_iter: int
    random_state: np.random.Generator
    history: list[Progress] = field(default_factory=list)
    start: Network | None = None
    deadline: float = float("inf")
    bound_iter: int = 0
    stages: list[Stage] = field(default_factory=list)
    oracle: Oracle | None = None
    late: bool = False
    rough: bool = False

    @property
    def rounds(self) -> int:
        """Rounds that have ended, of growing without programs, which nobody else counts."""
        return sum(line.width > 0 for line in self.history)

    def within(self, share: float) -> float:
        """Return the time at which a share of what is left until the deadline is over."""
        now = time.perf_counter()
        return now + share * (self.deadline - now)

    def is_late(self, ends: float) -> bool:
        """Whether a time is over; if so, remember that training ends for that reason."""
        self.late = time.perf_counter() > ends
        return self.late


Training = Generator[Master | Progress, Solution | None, Network]


class Architecture(ABC):
    """A family of networks together with its convex form."""

    name: ClassVar[str]
    #: Whether output weights have both signs; where they are nonnegative prices are ``max(0, Z'h)``.
    signed: ClassVar[bool] = True
    #: Whether a neuron of unit cost changes its output by no more than its input changes.
    continuous: ClassVar[bool] = True
    #: Whether features may be rotated with the weights that see them; not where they have places.
    rotates: ClassVar[bool] = True
    #: Whether statistics of the data are folded into plain weights, so that their biases say nothing about
    #: the family's own.
    folded: ClassVar[bool] = False
    #: Whether training goes stage by stage, so that certificates take the layers in front as given.
    staged: ClassVar[bool] = False

    @abstractmethod
    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        """Return the patterns to train with, or None where they grow during training."""

    @abstractmethod
    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """Return the convex program of the networks with the given patterns."""

    @abstractmethod
    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """Return the explicit network of a solution of :meth:`lift`'s program."""

    @abstractmethod
    def cost(self, network: Network) -> float:
        """Return R, the regulariser of a network after balancing its layers.

        Raises
        ------
        ValueError
            If it is no network of this family, or the cost depends on data that :meth:`on` has not given.
        """

    def objective(self, problem: Problem, network: Network) -> float:
        """Return the loss of a network on the data of a problem plus its penalty, at the scale of sums."""
        return problem.value(network(problem.X), self.on(problem).cost(network))

    def not_worse(self, problem: Problem, networks: Iterable[Network]) -> Network:
        """Return the last of some networks whose objective is not worse than 1e-10 relative.

        Parameters
        ----------
        problem : Problem
        networks : iterable of Network
            At least one; a solution rounded more and more, say.
        """
        best, least = None, float("inf")
        for network in networks:
            value = self.objective(problem, network)
            if best is None or value <= least + 1e-10 * abs(least):
                best, least = network, min(value, least)
        assert best is not None
        return best

    def on(self, problem: Problem) -> Self:
        """Return this family with training data, on which the cost of its networks may depend."""
        return self

    @abstractmethod
    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> Oracle:
        """Return the oracle that certificates of this problem use."""

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> Oracle:
        """Return :meth:`oracle`, or a weaker one where making that takes much of some seconds."""
        return self.oracle(problem, arrangement)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        """Train: yield a :class:`cvxnn.program.Master` for every program to solve and a :class:`Progress`
        after every round; return the network.

        Families whose one program has all their patterns need no training of their own: this solves it.
        """
        assert arrangement is not None
        solution = yield self.master(problem, arrangement, oracle, effort)
        assert solution is not None
        network, Z = self.decode(problem, arrangement, solution), np.asarray(solution.Z)
        # the oracle's problem has the constants that free hidden biases bring
        value = self.objective(oracle.problem, network)
        gap = search_gap(oracle.problem, value, Z, oracle.price(Z).found)
        effort.history.append(Progress(value, gap, network.width, len(arrangement), network, Z))
        yield effort.history[-1]
        return network

    def master(self, problem: Problem, arrangement: Arrangement, oracle: Oracle, effort: Effort) -> Master:
        """Return the program that :meth:`train` solves, how well, and where to start."""
        program = self.lift(problem, arrangement)
        if oracle.operator is not None:
            # the very same one: what solvers keep of an operator then serves all strengths of a path
            program = replace(program, operator=oracle.operator)
        return Master(program, effort.tol, self.start(problem, arrangement, effort.start))

    def start(self, problem: Problem, arrangement: Arrangement, network: Network | None) -> Any:
        """Return weights (groups, d) of :meth:`lift`'s program to start from, or None.

        Parameters
        ----------
        network : Network or None
            Of this family, trained on the same data at another strength of the penalty.
        """
        return None

    @abstractmethod
    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Return the outputs (k, n) of neurons of cost at most one with weights ``U`` (k, d + 1).

        ``U`` is arbitrary; the architecture scales it, and ignores the last column, the bias, where there
        is none. Under scope ``patterns`` these may be listed neurons. Used by the conformance tests.
        """

    def extrapolate(
        self,
        problem: Problem,
        arrangement: Arrangement | None,
        before: Network,
        last: Network,
        share: float,
    ) -> Network:
        """Return a start for the next strength of a path from the networks at the last two.

        Parameters
        ----------
        problem : Problem
        arrangement : Arrangement or None
        before, last : Network
            In the order they were trained.
        share : float
            How far the next strength is from the last, as a share of how far that was from the one before.

        Returns
        -------
        Network
            The last one, unless a family knows better.
        """
        return last

    def for_outputs(self, outputs: int) -> Architecture:
        """Return this family, or its sister, with networks of a number of outputs.

        Raises
        ------
        ValueError
            If there is none.
        """
        if isinstance(self, VectorArchitecture) != (outputs > 1):
            number = "one output" if outputs == 1 else "several outputs"
            raise ValueError(f"{self!r} is not for {number}: pass its name, {self.name!r}")
        return self

    def for_shape(self, shape: tuple[int, ...]) -> Architecture:
        """Return this family for samples that are arrays of a shape, which it sees as flat rows.

        Raises
        ------
        ValueError
            If the family does not know where features are.
        """
        raise ValueError(
            f"samples have shape {shape}, and {self.name!r} networks see rows: pass "
            f"X.reshape(len(X), -1), or a convolutional architecture such as 'cnn'"
        )

    def nothing(self, problem: Problem) -> Network:
        """Return the zero network with its best constant: what there is before the first round ends."""
        d, c = problem.X.shape[1], 0.0
        if problem.intercept:
            c = problem.loss.intercept(np.zeros_like(problem.y), problem.y, problem.weights)
        return self.adopt(np.zeros((d, 0)), np.zeros(0), np.zeros((0, *problem.y.shape[1:])), c)

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return False

    def like(self, network: Network) -> Architecture:
        """Return this family with what the layers of one of its networks determine."""
        return self

    def given(self, network: Network) -> Architecture:
        """Return the family that the certificate of a trained network is about: this one.

        Where training goes stage by stage it is that of networks with the same frozen layers.
        """
        return self

    def hidden_units(self, network: Network) -> tuple[Layer, ...]:
        """Return layers that compute the outputs of a network's hidden neurons, each scaled to cost one.

        Raises
        ------
        ValueError
            If a family's neurons make no features for another stage.
        """
        raise ValueError(f"{self.name!r} networks are no stages of a deep one: pass stage='relu'")

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Return a network of this family from plain weights; not every family can.

        Raises
        ------
        ValueError
            If plain weights do not determine a network of this family.
        """
        raise ValueError(f"plain weights do not determine a {self.name} network: pass a cvxnn Network")


class VectorArchitecture(Architecture):
    """A family of networks with several outputs.

    Targets and dual variables have shape (n, outputs); :meth:`unit_neurons` returns (k, n, outputs), and
    output weights in :meth:`adopt` are (m, outputs) with constants (outputs,).
    """
