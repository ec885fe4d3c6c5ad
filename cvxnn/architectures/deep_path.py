r"""Three-layer ReLU networks under path regularisation, branches of a fixed width.

The network is ``f(x) = sum_k s_k a_k ( sum_(j<=m) v_jk (x'w_jk)_+ )_+ + c``, and a branch pays the root of
the sum over its paths of the squared products of weights, ``a_k (sum_j |w_jk|^2 v_jk^2)^(1/2)``, which no
rescaling of neurons changes. With ``u_j = w_j |v_j| a`` it is a convex program over branches: a pattern D'
and side s of the branch, and for each of its m neurons a pattern and a sign,

    minimise   L( sum_k s_k D'_k h_k + c ) + beta * sum_k |(u_1k, .., u_mk)|,
    subject to (2 D_jk - I) X u_jk >= 0,   (2 D'_k - I) h_k >= 0,   h_k = sum_j t_jk D_jk X u_jk.

*The width matters.* Neurons of equal pattern do not merge: splitting one into q equal copies divides its
share of the norm by sqrt(q), so the patterns of a branch are drawn with repetition, and the optimum falls
with m towards that of no penalty. A certificate is about branches of at most `width` neurons, and
``PathReLU.cost`` refuses wider ones.

*Prices.* For the listed branches the price of each is the norm of a projection onto its cone. Where all can
be listed (a few samples) that is ``M(Z)`` itself, scope ``global``. Beyond, ``|u_1| + .. + |u_m| <= sqrt(m)
|(u_1, .., u_m)|`` makes every branch of unit cost sqrt(m) times one of
:mod:`cvxnn.architectures.deep_relu`, so sqrt(m) times its price is an upper bound (``bounded``).

Training grows branches: a search (:mod:`cvxnn.path_pricing`) finds those worth most for the dual variable,
a program over their patterns the weights.

Reference: Ergen and Pilanci, "Path regularization: a convexity and sparsity inducing regularization for
parallel ReLU networks", NeurIPS 2023; the bound and the role of the width: derived here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns
from ..certificate import Oracle, search_gap
from ..deep_growth import rounded
from ..deep_network import Branch, branches_of, check_layers, join_branches
from ..design import Design
from ..nested_cones import Nest, NestedCones
from ..network import Network
from ..operators import Masked, Stacked
from ..path_pricing import ListedPaths, Path, PathOracle, signs_of
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

#: Branches that "auto" lists, and that "all" lists at most.
AUTO, ALL = 1500, 6000
#: Branches that ``patterns="wedge"`` draws.
BRANCHES = 50
#: Branches a round adds, and in the pool at which those at zero leave.
ADDED, MOST = 16, 150
#: Rounds without progress that end training.
PATIENCE = 4
#: Share of a limited time that is for training; the rest is for the proof.
TRAINING = 0.7


@dataclass(frozen=True)
class PathReLU(Architecture):
    """Three-layer ReLU networks with one output, path-regularised.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        Whether first-layer neurons have a bias, which counts with their weights.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" lists all branches of a few samples and grows them otherwise; "all" insists on listing; a
        number takes so many random branches, with scope ``patterns``, and "wedge" (50 branches) or
        ("wedge", number) branches whose first-layer kinks run through samples, see :mod:`cvxnn.geometric`.
    width : int, default=2
        Neurons of a branch at most.
    """

    name: ClassVar[str] = "path_relu"
    #: A branch of m neurons may change sqrt(m) times as much as its input.
    continuous: ClassVar[bool] = False

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    width: int = 2

    def _check(self) -> None:
        check_hidden_bias(self.hidden_bias)
        if self.hidden_bias == "free":
            raise ValueError("path-regularised networks have no free hidden bias: pass 'penalized' or None")
        if not isinstance(self.width, int) or isinstance(self.width, bool) or self.width < 1:
            raise ValueError(f"width={self.width!r}: pass the number of neurons of a branch, at least 1")

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Never by itself: these layers are those of `deep_relu`."""
        return False

    def _design(self, problem: Problem) -> Design:
        self._check()
        return Design.reduce(design_matrix(problem, self.hidden_bias), 0)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        X = self._design(problem).X
        check_patterns(self.patterns)
        if is_sample(self.patterns):
            return self._sampled(X, count_of(self.patterns, BRANCHES), random_state)
        nest = self._listed(X, ALL if self.patterns == "all" else AUTO)
        if nest is None and self.patterns == "all":
            raise ValueError(
                f"patterns='all' of branches of {self.width} neurons is for a few samples, not {len(X)}: "
                "pass 'auto', which grows them, or a number to sample"
            )
        return nest

    def _listed(self, X: np.ndarray, limit: int) -> Nest | None:
        """All branches there are, unless they are more than a limit."""
        second = 2 ** min(len(X), 40) - 1
        try:
            listed = Arrangement.enumerate(X, limit=max(1, limit))
        except TooManyPatterns:
            return None
        masks = listed.masks()
        masks = masks[np.any(masks, axis=1)]
        if 2 * second * comb(2 * len(masks) + self.width - 1, self.width) > limit or not listed.complete:
            return None
        inner = (np.arange(1, second + 1)[:, None] >> np.arange(len(X)) & 1).astype(bool)
        neurons = [(mask, sign) for mask in masks for sign in (1.0, -1.0)]
        joint = list(combinations_with_replacement(range(len(neurons)), self.width))
        first = np.array([neurons[j][0] for row in joint for j in row], dtype=bool).reshape(-1, len(X))
        signs = np.array([neurons[j][1] for row in joint for j in row])
        count = 2 * len(inner)
        branch = np.arange(count * len(joint))
        return Nest.of(
            np.tile(first, (count, 1)),
            np.tile(signs, count),
            np.repeat(branch, self.width),
            np.repeat(np.repeat(inner, 2, axis=0), len(joint), axis=0),
            np.repeat(np.tile([1.0, -1.0], len(inner)), len(joint)),
            True,
            listed.resolution,
        )

    def _sampled(self, X: np.ndarray, count: int, rng: np.random.Generator) -> Nest:
        """Patterns of random branches, each side of them."""
        gates = wedges_of(X, self.patterns, count * self.width, rng)
        U, t = gates.reshape(count, self.width, X.shape[1]), signs_of(count, self.width)
        return self._nest(X, U, t, np.where(np.arange(count) // self.width % 2 == 0, 1.0, -1.0))

    def _nest(self, X: np.ndarray, U: np.ndarray, t: np.ndarray, sides: np.ndarray) -> Nest:
        T = np.einsum("kmd,nd->kmn", U, X)
        h = np.einsum("km,kmn->kn", t, np.maximum(T, 0.0))
        kept = np.any(h > 0, axis=1)
        branch = np.repeat(np.arange(int(np.sum(kept))), self.width)
        return Nest.of((T[kept] > 0).reshape(-1, len(X)), t[kept].ravel(), branch, h[kept] > 0, sides[kept])

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The group lasso over branches, in their cones."""
        assert isinstance(arrangement, Nest)
        X = self._design(problem).X
        operator = Stacked(Masked(X, arrangement.bits, arrangement.passed), self.width)
        rest = (problem.y, problem.weights, problem.beta, GroupL2(), NestedCones(X, arrangement, True))
        return Program(operator, problem.loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """``w = u / sqrt|u|``, ``v = t sqrt|u|`` and the side of each branch, layers balanced."""
        assert isinstance(arrangement, Nest)
        return self._decoded(problem, arrangement, np.asarray(solution.W, dtype=np.float64))

    def _decoded(self, problem: Problem, nest: Nest, W: np.ndarray) -> Network:
        design, branches = self._design(problem), []
        blocks = W.reshape(len(W), self.width, W.shape[1] // self.width)
        signs = nest.signs.reshape(-1, self.width)
        for U, t, side in zip(blocks, signs, nest.sides, strict=True):
            root = np.sqrt(np.linalg.norm(U, axis=1))
            on = root > 0
            if np.any(on):
                first = design.basis @ (U[on] / root[on, None]).T
                branches.append([first, (t[on] * root[on])[:, None], np.array([[side]])])
        return self._network(problem, branches)

    def _network(self, problem: Problem, branches: list[Branch]) -> Network:
        biased = self.hidden_bias is not None
        return with_constants(problem, join_branches(branches, 3, problem.X.shape[1], biased))

    def nothing(self, problem: Problem) -> Network:
        return self._network(problem, [])

    def _branches(self, network: Network) -> list[Branch]:
        self._check()
        biased = self.hidden_bias is not None
        branches = branches_of(check_layers(network, 3, biased, "path-regularised ReLU"), biased)
        most = max([0, *(branch[0].shape[1] for branch in branches)])
        if most > self.width:
            raise ValueError(
                f"a branch of the network has {most} neurons, and wider branches are cheaper: pass "
                f"PathReLU(width={most}) of cvxnn.architectures.deep_path, or width={most} as an option"
            )
        return branches

    def cost(self, network: Network) -> float:
        """``sum_k |a_k| (sum_j |w_jk|^2 v_jk^2)^(1/2)``.

        Raises
        ------
        ValueError
            If it is not a three-layer ReLU network, or has wider branches.
        """
        total = 0.0
        for W, v, a in self._branches(network):
            total += abs(float(a[0, 0])) * float(np.linalg.norm(np.linalg.norm(W, axis=0) * v[:, 0]))
        return total

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> Oracle:
        if isinstance(arrangement, Nest):
            return ListedPaths(problem, self.lift(problem, arrangement), self.width, arrangement.complete)
        return PathOracle(problem, self._design(problem), self.width)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Branches whose neurons are consecutive rows of U."""
        X = design_matrix(problem, self.hidden_bias)
        V = np.stack([np.roll(U[:, : X.shape[1]], -j, axis=0) for j in range(self.width)], axis=1)
        h = np.einsum("km,kmn->kn", signs_of(len(U), self.width), np.maximum(V @ X.T, 0.0))
        return np.maximum(h, 0.0) / np.linalg.norm(V, axis=(1, 2))[:, None]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        if isinstance(oracle, PathOracle):
            oracle.deadline = effort.within(TRAINING)
            return (yield from self._grow(problem, oracle, effort))
        assert isinstance(arrangement, Nest)
        solution = yield Master(self.lift(problem, arrangement), effort.tol)
        assert solution is not None
        network, Z = self._rounded(problem, arrangement, solution, effort.tol), np.asarray(solution.Z)
        value = self.objective(problem, network)
        gap = search_gap(problem, value, Z, oracle.price(Z).found)
        effort.history.append(Progress(value, gap, network.width, len(arrangement.second), network, Z))
        yield effort.history[-1]
        return network

    def _rounded(self, problem: Problem, nest: Nest, solution: Solution, tol: float) -> Network:
        W, allowed = np.asarray(solution.W, dtype=np.float64), 0.05 * min(tol, 1e-4)
        found: Any = rounded(problem, W, lambda V: self._decoded(problem, nest, V), self.cost, allowed)
        return found

    def _grow(
        self, problem: Problem, oracle: PathOracle, effort: Effort
    ) -> Generator[Master | Progress, Solution | None, Network]:
        """Column generation: solve the program of the pool, search branches, add their patterns."""
        pool: dict[bytes, Path] = {}
        own = oracle.weights_of(self._branches(effort.start)) if effort.start is not None else None
        found = oracle.search(problem.residual(np.zeros_like(problem.y)), own)
        best, least, stale = self.nothing(problem), float("inf"), 0
        for _ in range(effort.max_iter):
            before = len(pool)
            for path in found:
                if len(pool) < before + ADDED:
                    pool.setdefault(path.key, path)
            nest = self._pooled(list(pool.values()), problem)
            solution = yield Master(self.lift(problem, nest), 0.1 * effort.tol, None, best)
            assert solution is not None
            network, Z = self._rounded(problem, nest, solution, effort.tol), np.asarray(solution.Z)
            found = oracle.search(Z, oracle.weights_of(self._branches(network)))
            value = self.objective(problem, network)
            gap = search_gap(problem, value, Z, max([problem.beta, *(path.value for path in found[:1])]))
            stale = 0 if value < least * (1.0 - 0.1 * effort.tol) else stale + 1
            if value <= least:
                best, least = network, value
            effort.history.append(Progress(least, gap, best.width, len(pool), best, Z))
            yield effort.history[-1]
            sizes = np.linalg.norm(solution.W, axis=1)
            if len(pool) > MOST:
                kept = np.flatnonzero(sizes > 1e-8 * np.max(sizes, initial=0.0))
                pool = {key: pool[key] for key in np.array(list(pool), dtype=object)[kept]}
            floor = problem.beta * (1.0 + 0.01 * effort.tol)
            found = [path for path in found if path.value > floor and path.key not in pool]
            if gap <= effort.tol or not found or stale > PATIENCE or effort.is_late(oracle.deadline):
                break
        return best

    def _pooled(self, paths: list[Path], problem: Problem) -> Nest:
        n = len(problem.y)
        return Nest.of(
            np.array([path.masks for path in paths], dtype=bool).reshape(-1, n),
            np.array([path.signs for path in paths]).ravel(),
            np.repeat(np.arange(len(paths)), self.width),
            np.array([path.second for path in paths], dtype=bool).reshape(-1, n),
            np.array([path.side for path in paths]),
        )
