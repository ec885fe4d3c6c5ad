r"""Two-layer ReLU networks on wedge products: a Lasso over the hyperplanes through samples.

The network ``f(x) = sum_j a_j (x'w_j + b_j)_+ + c`` pays ``beta/2 * sum_j (|w_j|_p^2 + a_j^2)`` with p = 1
or 2 (`penalty`), which at the best scale of every neuron is ``beta * sum_j |w_j|_p |a_j|``. Neurons are
taken from finitely many: the wedge products v of d - 1 rows of the data and coordinate directions, with
both signs (:mod:`cvxnn.geometric`; d counts the bias), each at cost one. That is a Lasso over signed
distances from hyperplanes through samples, ratios of signed volumes,

    minimise   L( K z + c ) + beta * |z|_1,        K = ( X v / |v|_p )_+ ,      |K'Z| <= beta in the dual,

whose weight z becomes the neuron ``w = v |z|^(1/2) / |v|_p``, ``a = sign(z) |z|^(1/2)``.

*p = 1*: the Lasso is the training problem. Its optimum is that of ReLU networks of every width whose hidden
weights pay the l1 norm, and certificates are exact (:mod:`cvxnn.wedge_oracles` has the proof).

*p = 2*: the Lasso is an upper bound of weight decay's optimum, at most a computed factor above: if no dual
variable is worth more than k times its best wedge, ``P <= P_wedge(beta) <= P(k beta) <= k P`` for losses >=
0. Certificates are against all ReLU networks and their gap holds that loss (scope ``bounded``); their
search gap looks for wedges only, so training ends when it is closed.

The hidden bias is a coordinate like others where it is penalised. Where it is free hyperplanes run through
d samples, or through fewer, at least one, along coordinate directions, and the output has a free constant.
In one dimension these are the ramps ``(x - x_i)_+`` and ``(x_i - x)_+``.

There are C(n + d, d - 1) wedges, C(n + d, d) with a free bias, where d does not count it. They are listed
up to a limit, and found by search beyond, where certificates are what the search oracles of ReLU networks
prove.

Reference: Pilanci, "From complexity to clarity: analytical expressions of deep neural network weights via
Clifford's geometric algebra and convexity", TMLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, search_gap
from ..design import Design
from ..geometric import GATES, TooManyWedges, Wedges, list_wedges, sample_wedges
from ..growth import Rows, merge
from ..network import Affine, Network
from ..operators import Dense
from ..penalties import GroupL2
from ..program import Master, Problem, Program, Solution
from ..wedge_oracles import (
    ListedWedges,
    SearchedWedges,
    WedgeOracle,
    features,
    hyperplanes,
    unit,
)
from .base import Architecture, Effort, Progress, Training
from .hidden import ReLUHidden
from .two_layer import balanced_cost, check_patterns, count_of, is_sample, with_constants

#: `patterns="auto"` lists wedges up to so many, and up to so many entries of their features; "all" refuses
#: beyond the larger numbers.
AUTO_WEDGES, AUTO_ENTRIES = 300_000, 100_000_000
ALL_WEDGES, ALL_ENTRIES = 2_000_000, 1_000_000_000
#: Entries of the program of all listed wedges, which only the reference solver has use for.
LIFTED = 20_000_000
#: Weights that count as zero, as shares of their sum.
CUTS = (1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
#: Neurons added in a round, and kept at zero while there are not more than so many.
ADDED, SPARE = 64, 400


@dataclass(frozen=True)
class Wedge(ReLUHidden, Architecture):
    """Two-layer ReLU networks with one output whose kinks run through samples.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias per neuron that is penalised with its weights, one that is not (which also frees
        the output's constant), or none.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" lists all wedges where that is cheap and searches for them otherwise; "all" insists on
        listing; a number, which ("wedge", number) is too, trains on that many sampled wedges ("wedge":
        500), with scope ``patterns``.
    penalty : {"l2", "l1"}, default="l2"
        The norm of hidden weights in the network's penalty; "l1" makes the program exact.
    coordinates : bool, default=True
        Whether coordinate directions take part in wedges. Without them the dictionary is that of the
        samples alone and its optimum larger. Certificates are against all networks in either case, so that
        their gap holds what is lost; their search gap looks for wedges of the dictionary.
    """

    name: ClassVar[str] = "wedge"
    # their layers do not tell wedges from other neurons, as stages would have to
    hidden_units = Architecture.hidden_units

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    penalty: str = "l2"
    coordinates: bool = True

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Never: its networks are ReLU networks, to be judged as such unless this family is asked for."""
        return False

    def for_outputs(self, outputs: int) -> Wedge:
        """Return the family itself.

        Raises
        ------
        ValueError
            For several outputs.
        """
        if outputs > 1:
            raise ValueError(f"wedge networks have one output: pass architecture='relu' for {outputs}")
        return self

    def design(self, problem: Problem) -> Design:
        """Return the design matrix of the neurons, in its row space under the l2 norm."""
        if not isinstance(self.penalty, str) or self.penalty not in ("l2", "l1"):
            raise ValueError(
                f"penalty={self.penalty!r}: wedge networks have 'l2' or 'l1', pass one of them"
            )
        return super().design(problem)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Wedges | None:
        design = self.design(problem)
        rows = hyperplanes(design, self.coordinates)
        check_patterns(self.patterns)
        if isinstance(self.patterns, tuple | list) and len(self.patterns) > 2:
            raise ValueError(
                f"patterns={self.patterns!r}: wedges are of all columns and none of a sketch, pass a number"
            )
        if is_sample(self.patterns):
            return sample_wedges(design.X, rows, count_of(self.patterns, GATES), random_state)
        if self.patterns == "all":
            return list_wedges(design.X, rows, _most(ALL_WEDGES, ALL_ENTRIES, design))
        try:
            return list_wedges(design.X, rows, _most(AUTO_WEDGES, AUTO_ENTRIES, design))
        except TooManyWedges:
            return None

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The Lasso over the listed wedges, each with both signs.

        Raises
        ------
        ValueError
            If that is too large to write out.
        """
        design = self.design(problem)
        U = self._both(design, arrangement)
        if U.shape[0] * len(design.X) > LIFTED:
            raise ValueError(
                f"{len(U)} features of {len(design.X)} samples are too many to write out: pass a number of "
                "patterns, or train, which needs few of them at a time"
            )
        return self._program(problem, design, U)

    def _both(self, design: Design, arrangement: Arrangement) -> np.ndarray:
        U, _ = unit(design, arrangement.gates)
        return np.concatenate([U, -U])

    def _program(self, problem: Problem, design: Design, U: np.ndarray) -> Program:
        problem = self.problem_of(problem)
        rest = (problem.y, problem.weights, problem.beta, GroupL2())
        return Program(Dense(features(design.X, U)), problem.loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        design = self.design(problem)
        z = np.asarray(solution.W, dtype=np.float64)[:, 0]
        return self._network(problem, design, self._both(design, arrangement), z)

    def _network(self, problem: Problem, design: Design, U: np.ndarray, z: np.ndarray) -> Network:
        """The smallest of a few roundings that is not worse."""
        problem = self.problem_of(problem)
        sizes = np.abs(z)
        left = (np.where(sizes > cut * np.sum(sizes), z, 0.0) for cut in CUTS)
        return self.not_worse(problem, (self._plain(problem, design, U, rounded) for rounded in left))

    def _plain(self, problem: Problem, design: Design, U: np.ndarray, z: np.ndarray) -> Network:
        """The network of neurons ``U`` (k, r) of cost one with weights z; equal ones become one."""
        kept = z != 0.0
        rows = merge(Rows(U[kept] * np.abs(z[kept])[:, None], np.sign(z[kept])), design, 1e-12)
        full = design.weights(rows.U)
        root = np.sqrt(design.norms(rows.U))
        full, a = full / root[:, None], rows.signs * root
        d = problem.X.shape[1]
        bias = np.zeros(len(full)) if self.hidden_bias is None else full[:, d]
        plain = self.adopt(np.ascontiguousarray(full[:, :d].T), bias, a, 0.0)
        return with_constants(problem, plain)

    def cost(self, network: Network) -> float:
        """``sum_j |w_j|_p |a_j|``, the penalty after the best rescaling of each neuron."""
        return balanced_cost(self.hidden_norms(network), network)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> WedgeOracle:
        problem, design = self.problem_of(problem), self.design(problem)
        if arrangement is None:
            return SearchedWedges(problem, design, self.coordinates)
        assert isinstance(arrangement, Wedges)
        if is_sample(self.patterns):
            return ListedWedges(problem, design, arrangement, sampled=True)
        if self.coordinates:
            return ListedWedges(problem, design, arrangement, sampled=False)
        # the judge bounds all networks by all wedges, and looks for those that these networks are made of
        own = ListedWedges(problem, design, arrangement, sampled=True)
        try:
            every = list_wedges(design.X, hyperplanes(design), _most(ALL_WEDGES, ALL_ENTRIES, design))
        except TooManyWedges:
            if self.patterns == "all":
                raise
            return SearchedWedges(problem, design, coordinates=False)
        return ListedWedges(problem, design, every, sampled=False, own=own)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.unit_outputs(problem, U)

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: float) -> Network:
        return Network.two_layer(W1, b1, w2, c)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        """Column generation: price wedges, add the best, solve the Lasso, until none prices out."""
        assert isinstance(oracle, WedgeOracle)
        problem, design = self.problem_of(problem), self.design(problem)
        U = self._starts(design, effort.start)
        best = self._network(problem, design, U[:0], np.zeros(0))
        value, Z = problem.null_value(), problem.residual(np.zeros_like(problem.y))
        z = np.zeros(len(U))
        for k in range(effort.max_iter + 1):
            if len(U):
                solution = yield Master(self._program(problem, design, U), 0.01 * effort.tol, None, best)
                assert solution is not None
                z, Z = np.asarray(solution.W, dtype=np.float64)[:, 0], np.asarray(solution.Z)
                network = self._network(problem, design, U, z)
                now = self.objective(problem, network)
                if now <= value:
                    best, value = network, now
            found = oracle.propose(Z, U[np.argsort(-np.abs(z), kind="stable")[:32]], ADDED)
            gap = search_gap(problem, value, Z, max(found.best, problem.beta))
            effort.history.append(Progress(value, gap, best.width, len(U), best, Z))
            yield effort.history[-1]
            fresh = found.directions[found.values > problem.beta * (1.0 + 1e-10)]
            known = {row.tobytes() for row in U}
            fresh = fresh[[row.tobytes() not in known for row in fresh]] if len(fresh) else fresh
            if gap <= effort.tol or not len(fresh) or k == effort.max_iter:
                break
            if len(U) > SPARE:
                U = U[np.abs(z) > 1e-9 * np.max(np.abs(z), initial=0.0)]
            U = np.concatenate([U, fresh])
        return best

    def _starts(self, design: Design, start: Network | None) -> np.ndarray:
        """The neurons of a network to start from, of cost one."""
        if start is None:
            return design.X[:0]
        first = start.layers[0]
        assert isinstance(first, Affine)
        full = np.column_stack([first.weight.T, first.bias])
        return unit(design, design.coordinates(full))[0]


def _most(wedges: int, entries: int, design: Design) -> int:
    """How many wedges may be listed."""
    return min(wedges, max(64, entries // max(1, len(design.X))))
