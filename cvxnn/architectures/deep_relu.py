r"""Parallel deep ReLU networks with one output: three layers by convex programs, more by descent and
bounds.

The network is a sum of K branches of depth L, ``f(x) = sum_k (..((x W_1k)_+ W_2k)_+ .. w_(L-1)k)_+ w_Lk +
c``, with the product of norms as penalty,

    minimise   L(f) + beta * sum_k |W_1k|_F |W_2k|_F ... |w_Lk|  =  L(f) + beta/L * sum_k sum_l |W_lk|_F^L,

equal after rescaling layers (the inequality of the means). Plain weight decay on L > 2 layers would be the
power 2/L of the product: not a norm, with no convex form. Of three layers the convex form is, over patterns
D_i of first-layer neurons and D'_l of branches, with signs s of branches and t of neurons within them,

    minimise   L( sum_ls s D'_l h_ls + c ) + beta * sum |u_lsit|,         h_ls = sum_it t D_i X u_lsit
    subject to (2 D_i - I) X u_lsit >= 0,       (2 D'_l - I) h_ls >= 0.

It is exact for branches that are wide enough: neurons of equal pattern and sign in a branch merge without
cost, so 2P of them always are. Its pieces are in :mod:`cvxnn.nested_cones`, its prices, exact or bounded,
in :mod:`cvxnn.nested_pricing` and :mod:`cvxnn.deep_oracles`. Programs grow: solve, price branches against
the dual variable, add their patterns. Where the data are too many for programs, and at depths beyond three,
L-BFGS descends the network itself, a Lasso inserts branches that a search finds, and the certificate says
how far that is from a proof.

In the explicit network branches stand side by side: W_1 has the neurons of all branches, every column of
the last hidden layer is one branch, and inner matrices are block-diagonal. Their zeros say what belongs to
which branch (:mod:`cvxnn.deep_network`), and ``DeepReLU.cost`` reads them: a neuron that feeds two
branches counts in both.

References: Ergen and Pilanci, "Global optimality beyond two layers", ICML 2021; Wang, Ergen and Pilanci,
"Parallel deep neural networks have zero duality gap", ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns
from ..certificate import Oracle, Price, search_gap
from ..deep_descent import draw, stack
from ..deep_growth import Pool, insert, local_descent, rounded, valued
from ..deep_network import Branch, branches_of, check_layers, cost_of, join_branches
from ..deep_oracles import DeepOracle
from ..design import Design
from ..nested_cones import Nest, NestedCones
from ..network import Network
from ..operators import Masked
from ..penalties import GroupL2
from ..program import Master, Problem, Program, Solution
from .base import Architecture, Effort, Progress, Training
from .two_layer import (
    check_hidden_bias,
    check_patterns,
    count_of,
    design_matrix,
    is_sample,
    wedges_of,
    with_constants,
)

#: `patterns="all"` refuses beyond this many blocks.
ALL_BLOCKS = 4000
#: Branches and neurons of the first descent.
BRANCHES, NEURONS = 12, 5
#: Samples times weights of a program beyond which networks are trained by descent.
LARGE = 30_000
#: Rounds of descent without progress that end training, and iterations of a round.
PATIENCE, ITERATIONS = 4, 400
#: Steps of Adam before the first descent, where programs do not finish.
WALK = 2000
#: How far a loss with kinks is smoothed for descent, as a share of the objective.
SMOOTHING = 0.03
#: Share of a limited time that is for training; the rest is for the proof.
TRAINING = 0.7


class NestOracle(Oracle):
    """Exact prices of the branches of a nest (``patterns``)."""

    def __init__(self, problem: Problem, program: Program) -> None:
        super().__init__(problem)
        self.program = program

    def price(self, Z: np.ndarray) -> Price:
        value = self.program.price(Z)
        # the bound comes from multipliers that a solver found; what they prove may be just above the truth
        return Price(value * (1.0 + 1e-12), "patterns", value)


@dataclass(frozen=True)
class DeepReLU(Architecture):
    """Parallel deep ReLU networks with one output.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        Whether first-layer neurons have a bias, penalised with their weights. Deeper layers have none.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" grows branches until none improves; "all" lists all patterns of a few samples; a number takes
        the patterns of so many random branches, with scope ``patterns``, and "wedge" (12 branches) or
        ("wedge", number) those of branches whose first-layer kinks run through samples, see
        :mod:`cvxnn.geometric`. All but "auto" are for depth 3.
    depth : int, default=3
        Number of layers of weights, at least 3.
    """

    name: ClassVar[str] = "deep_relu"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    depth: int = 3

    def _check(self) -> None:
        check_hidden_bias(self.hidden_bias)
        if self.hidden_bias == "free":
            raise ValueError(
                "deep networks have no free hidden bias: pass 'penalized' or None, or "
                "architecture='layerwise' to judge the last two layers, the others taken as they are"
            )
        if not isinstance(self.depth, int) or isinstance(self.depth, bool) or self.depth < 3:
            raise ValueError(f"depth={self.depth!r}: pass 3 or more; two layers are architecture='relu'")
        if self.depth > 3 and self.patterns != "auto":
            raise ValueError(f"patterns={self.patterns!r} at depth {self.depth}: pass 'auto', or depth=3")

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        kinds = [type(layer).__name__ for layer in network.layers]
        return len(kinds) >= 5 and set(kinds[0::2]) == {"Affine"} and set(kinds[1::2]) == {"ReLU"}

    def like(self, network: Network) -> DeepReLU:
        """Return the family of the network's depth."""
        depth = (len(network.layers) + 1) // 2
        return DeepReLU(self.hidden_bias, self.patterns if depth == 3 else "auto", depth)

    def _design(self, problem: Problem) -> Design:
        self._check()
        return Design.reduce(design_matrix(problem, self.hidden_bias), 0)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        X = self._design(problem).X
        check_patterns(self.patterns)
        if not is_sample(self.patterns):
            return self._all(X) if self.patterns == "all" else None
        pool, rng = Pool(), random_state
        for branch in range(count_of(self.patterns, BRANCHES)):
            # of wedges the kinks of first-layer neurons run through samples
            W = wedges_of(X, self.patterns, NEURONS, rng).T
            v = rng.standard_normal((NEURONS, 1))
            # either sign of the weights, as the outputs of a hidden layer are never negative
            v += 0.5 if branch % 4 < 2 else 0.0
            pool.add_weights([W, v, np.array([[1.0 if branch % 2 else -1.0]])], X)
        return pool.nest(len(X))

    def _all(self, X: np.ndarray) -> Nest:
        n, most = len(X), max(1, ALL_BLOCKS // (4 * max(1, 2 ** min(len(X), 40) - 1)))
        try:
            listed = Arrangement.enumerate(X, limit=most)
        except TooManyPatterns:
            raise ValueError(
                f"patterns='all' of three layers is for a few samples, not {n} of rank {X.shape[1]}: "
                "pass 'auto', which grows them, or a number to sample"
            ) from None
        second = (np.arange(1, 2**n)[:, None] >> np.arange(n) & 1).astype(bool)
        masks = listed.masks()
        return Nest.product(masks[np.any(masks, axis=1)], second, complete=listed.complete)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The group lasso over the blocks of a nest, in its cones."""
        assert isinstance(arrangement, Nest)
        X = self._design(problem).X
        operator = Masked(X, arrangement.bits, arrangement.passed)
        rest = (problem.y, problem.weights, problem.beta, GroupL2(), NestedCones(X, arrangement))
        return Program(operator, problem.loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """A neuron for every block that is not zero: ``w = u / sqrt|u|``, ``v = t sqrt|u|``, balanced."""
        assert isinstance(arrangement, Nest)
        return self._decoded(problem, arrangement, np.asarray(solution.W, dtype=np.float64))

    def _decoded(self, problem: Problem, nest: Nest, W: np.ndarray) -> Network:
        root, branches = np.sqrt(np.linalg.norm(W, axis=1)), []
        for k in range(len(nest.second)):
            mine = np.flatnonzero((nest.branch == k) & (root > 0))
            if len(mine):
                first, v = (W[mine] / root[mine, None]).T, (nest.signs[mine] * root[mine])[:, None]
                branches.append([first, v, np.array([[nest.sides[k]]])])
        return self._network(problem, branches)

    def _network(self, problem: Problem, branches: list[Branch]) -> Network:
        """The network of branches in the coordinates of the design, with its best constant."""
        basis, biased = self._design(problem).basis, self.hidden_bias is not None
        full = [[basis @ branch[0], *branch[1:]] for branch in branches]
        return with_constants(problem, join_branches(full, self.depth, problem.X.shape[1], biased))

    def nothing(self, problem: Problem) -> Network:
        return self._network(problem, [])

    def cost(self, network: Network) -> float:
        """``sum_k |W_1k| |W_2k| ... |w_Lk|`` at the best scalings of the neurons of each branch.

        Raises
        ------
        ValueError
            If it is not a ReLU network of this depth, or has biases that the family has not.
        """
        self._check()
        biased = self.hidden_bias is not None
        affine = check_layers(network, self.depth, biased, "deep ReLU")
        return float(sum(cost_of(branch) for branch in branches_of(affine, biased)))

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> Oracle:
        if isinstance(arrangement, Nest) and not arrangement.complete:
            return NestOracle(problem, self.lift(problem, arrangement))
        return DeepOracle(problem, self._design(problem), self.depth)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Branches whose first neurons are three consecutive rows of U, the rest made of cosines."""
        self._check()
        X = design_matrix(problem, self.hidden_bias)
        k = np.arange(len(U))[:, None, None]
        W = np.stack([np.roll(U[:, : X.shape[1]], -j, axis=0) for j in range(3)], axis=2)
        layers, sizes = [W], np.linalg.norm(W, axis=(1, 2))
        for at in range(1, self.depth - 1):
            m = 3 if at < self.depth - 2 else 1
            V = np.cos(1.7 * k + 2.3 * np.arange(3)[None, :, None] + 0.9 * np.arange(m)[None, None, :] + at)
            layers.append(V)
            sizes = sizes * np.linalg.norm(V, axis=(1, 2))
        H = X[None]
        for V in layers:
            H = np.maximum(H @ V, 0.0)
        return H[:, :, 0] / sizes[:, None]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        if isinstance(arrangement, Nest):
            return (yield from self._solved(problem, arrangement, oracle, effort))
        assert isinstance(oracle, DeepOracle)
        design, oracle.deadline = self._design(problem), effort.within(TRAINING)
        if effort.start is not None and effort.start.width:
            branches = oracle.branches_of(effort.start)
        else:
            layers = draw(BRANCHES, self.depth, design.X.shape[1], NEURONS, 0.5, effort.random_state)
            smooth = problem.smoothed(SMOOTHING * problem.null_value())
            walk = WALK if self.depth > 3 else 0
            branches, _, _ = local_descent(smooth, design, layers, ITERATIONS, oracle.deadline, walk)
        if self.depth == 3 and design.X.size * BRANCHES <= LARGE:
            return (yield from self._grow(problem, design, oracle, effort, branches))
        return (yield from self._descend(problem, design, oracle, effort, branches))

    def _report(
        self, problem: Problem, network: Network, Z: np.ndarray, found: float, blocks: int
    ) -> Progress:
        value = self.objective(problem, network)
        return Progress(value, search_gap(problem, value, Z, found), network.width, blocks, network, Z)

    def _solved(self, problem: Problem, nest: Nest, oracle: Oracle, effort: Effort) -> Training:
        solution = yield Master(self.lift(problem, nest), effort.tol)
        assert solution is not None
        network = self._rounded(problem, nest, solution, effort.tol)
        Z = np.asarray(solution.Z)
        effort.history.append(self._report(problem, network, Z, oracle.price(Z).found, len(nest)))
        yield effort.history[-1]
        return network

    def _rounded(self, problem: Problem, nest: Nest, solution: Solution, tol: float) -> Network:
        """Decode with as few neurons as the tolerance allows."""
        W = np.asarray(solution.W, dtype=np.float64)
        allowed = 0.05 * min(tol, 1e-4)
        found: Any = rounded(problem, W, lambda V: self._decoded(problem, nest, V), self.cost, allowed)
        return found

    def _grow(
        self, problem: Problem, design: Design, oracle: DeepOracle, effort: Effort, branches: list[Branch]
    ) -> Generator[Master | Progress, Solution | None, Network]:
        """Column generation: solve the program of the pool, price branches, add their patterns."""
        pool, best, least, stale = Pool(), self._network(problem, branches), float("inf"), 0
        for branch in branches:
            pool.add_weights(branch, design.X)
        pool.add_branches(oracle.branches(problem.residual(np.zeros_like(problem.y)))[1], 0.0, 8)
        for _ in range(effort.max_iter):
            nest = pool.nest(len(problem.y))
            if not len(nest.first):
                nest = Nest.of(np.ones((1, len(problem.y)), dtype=bool), np.ones(1), np.zeros(1, dtype=int),
                               np.ones((1, len(problem.y)), dtype=bool), np.ones(1))  # fmt: skip
            program = self.lift(problem, nest)
            solution = yield Master(program, 0.1 * effort.tol, None, best)
            assert solution is not None
            network, Z = self._rounded(problem, nest, solution, effort.tol), np.asarray(solution.Z)
            price, met = oracle.branches(Z)
            searched = [] if price.scope == "global" else oracle.search(Z, network)
            top = max([price.found, problem.beta, *(row[0] for row in searched[:1])])
            if price.scope != "global" and top <= problem.beta * (1.0 + effort.tol):
                price, met = oracle.branches(Z, oracle.limit)  # harder
                top = max(top, price.found)
            line = self._report(problem, network, Z, top, len(nest))
            stale = 0 if line.objective < least * (1.0 - 0.1 * effort.tol) else stale + 1
            if line.objective <= least:
                best, least = network, line.objective
            effort.history.append(Progress(least, line.search_gap, best.width, len(nest), best, Z))
            yield effort.history[-1]
            G = program.constraint.price(program.operator.adjoint(Z), solution.multipliers)
            pool.thin(np.linalg.norm(solution.W, axis=1), np.linalg.norm(G, axis=1), problem.beta)
            floor = problem.beta * (1.0 + 0.01 * effort.tol)
            new = pool.add_branches(met, floor, 12)
            for value, branch, side in searched[:12]:
                if value > floor:
                    new += pool.add_weights([*branch[:-1], np.array([[side]])], design.X)
            if line.search_gap <= effort.tol or not new or stale > PATIENCE:
                break
            if effort.is_late(oracle.deadline):
                break
        return best

    def _descend(
        self, problem: Problem, design: Design, oracle: DeepOracle, effort: Effort, branches: list[Branch]
    ) -> Generator[Master | Progress, Solution | None, Network]:
        """Descend, search for branches, insert them by a Lasso, until a search finds none that pays."""
        # a descent ends near zero, not at it, where nothing is best
        least, stale, best = problem.null_value() * (1.0 - 1e-9), 0, self.nothing(problem)
        smooth = problem.smoothed(SMOOTHING * least)
        for _ in range(effort.max_iter):
            if branches:
                layers = stack(branches, NEURONS)
                moved, _, _ = local_descent(smooth, design, layers, ITERATIONS, oracle.deadline)
                value, before = (valued(smooth, design, some)[1] for some in (moved, branches))
                branches = moved if value <= before else branches
                # descent leaves the sizes of branches nearly right; the Lasso makes them right
                sized = insert(smooth, design, branches, [])
                branches = sized if valued(smooth, design, sized)[1] <= value else branches
            network = self._network(problem, branches)
            Z = smooth.residual(network(problem.X))
            smooth = problem.smoothed(SMOOTHING * least, Z)
            found = oracle.search(Z, network)
            top = max([problem.beta, *(row[0] for row in found[:1])])
            line = self._report(problem, network, Z, top, len(branches))
            stale = 0 if line.objective < least * (1.0 - 0.1 * effort.tol) else stale + 1
            if line.objective < least:
                best, least = network, line.objective
            value = self.objective(problem, best)
            effort.history.append(Progress(value, line.search_gap, best.width, len(branches), best, Z))
            yield effort.history[-1]
            good = [row for row in found if row[0] > problem.beta * (1.0 + 0.01 * effort.tol)][:12]
            if line.search_gap <= effort.tol or not good or stale > PATIENCE:
                break
            if effort.is_late(oracle.deadline):
                break
            branches = insert(smooth, design, branches, good)
        return best
