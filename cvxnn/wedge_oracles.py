r"""Pricing of neurons whose kinks run through samples: exact for the l1 norm, a factor for the l2 norm.

The price of a dual variable is ``M(Z) = max |Z'(Xu)_+|`` over ``Omega(u) <= 1``. Cut the space of u along
the hyperplanes of all samples and of all coordinates. In a cell C of this arrangement, a cone without
lines, ``Z'(Xu)_+`` is linear, and every u in C is a sum ``sum_i t_i r_i`` of its extreme rays, t_i >= 0; a
ray lies on d - 1 independent hyperplanes, so it is a wedge product of samples and coordinates. Let rays
have ``Omega(r_i) = 1``. Then

    Z'(Xu)_+  =  sum_i t_i Z'(Xr_i)_+  <=  ( sum_i t_i )  max_i Z'(Xr_i)_+.

*l1*. In C the signs of u are those of its rays, the norm is linear and ``sum_i t_i = |u|_1 <= 1``: the best
wedge is the best neuron, M(Z) is a maximum over finitely many columns, and certificates are exact. Without
the coordinate hyperplanes it would not be: for ``X = (1, 1)`` the samples' only rays are ``±(1, -1)``,
where the neuron is zero.

*l2*. For any h with ``h'r_i >= 1`` for all rays of C, ``sum_i t_i <= h'u <= |h|``. The shortest h points to
the centre of the smallest cap that holds the rays, and its length is ``1 / cos R``, R the radius of the
cap, in the plane half the angle of the cell. So

    M(Z)  <=  max over rays r of  |Z'(Xr)_+| * k(r),       k(r) = max 1 / cos R(C) over cells C at r,

where only cells at r count: a wide cell with worthless rays costs nothing. For unit u, v in a cell
``u'v = 1 - |u - v|^2 / 2``, so with D the largest distance in a cell ``1 / cos R <= 1 / (1 - D^2 / 2)``,
the factor of the literature. Any point for the centre gives a bound, and so does a larger set of rays: k
takes those that are in a cell up to 1e-7 (:mod:`cvxnn.wedge_factors`). Besides, cells lie in orthants,
where h may be the signs: ``k(r) = sqrt(d) / |r|_1 <= sqrt(d)``, d the number of penalised
coordinates, needs no cells. The smaller of these bounds and the matrix bound over all patterns
(:mod:`cvxnn.bounds`) is taken.

A free bias is a coordinate that Omega leaves out and that is not cut along: rays are then of norm 1 in the
other coordinates, or (0, ±1), where ``Z'(Xr)_+`` is ``sum Z = 0``. All of the above stays, for w instead of
u. Directions that rounding has moved by a share e are worth ``e (1 + sqrt(d)) |r| sum_i |Z_i| |x_i|`` more.

Where there are too many wedges to list they are searched for (:mod:`cvxnn.wedge_search`). That proves
nothing; proofs are then those of :mod:`cvxnn.oracles` and :mod:`cvxnn.norm_oracles`.

References: Pilanci, "From complexity to clarity", TMLR 2024 (the dictionary, and its factor); the factor of
single rays is derived here. :mod:`cvxnn.geometric`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .bounds import oracle_bound
from .bounds_vertices import vertex_price
from .certificate import Oracle, Price, Proof
from .design import Design
from .geometric import Wedges
from .network import Affine, Network
from .norm_oracles import NormSearchOracle, vertices
from .norm_pricing import NormDesign
from .oracles import ROUNDING, SEED, SearchOracle
from .program import Problem
from .wedge_factors import cell_factors
from .wedge_search import exchange, nearest_wedge

#: Numbers in a tile of features.
TILE = 4_000_000
#: Features more alike than this are not added together.
ALIKE = 0.995
#: Starts of a search, and numbers (rows times coordinates squared) up to which it has all of them.
STARTS, COSTLY = 48, 200_000


@dataclass(frozen=True, eq=False)
class Candidates:
    """Neurons on wedges, best first.

    Parameters
    ----------
    directions : ndarray of shape (k, r)
        Of cost one, in the coordinates of the design.
    values : ndarray of shape (k,)
        ``|Z'(Xu)_+|``.
    """

    directions: np.ndarray
    values: np.ndarray

    @property
    def best(self) -> float:
        """The largest value; 0 if there is none."""
        return float(np.max(self.values, initial=0.0))


def hyperplanes(design: Design, coordinates: bool = True) -> np.ndarray:
    """Return the samples, and the directions of the penalised coordinates, as rows (n + k, r)."""
    if not coordinates:
        return design.X
    r = design.X.shape[1]
    return np.concatenate([design.X, np.eye(r)[: r - design.free]])


def unit(design: Design, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale directions to cost one; those that cost nothing are left out.

    Returns the directions, and which of the rows they are.
    """
    size = design.norms(V)
    kept = np.flatnonzero(size > 1e-12 * np.linalg.norm(V, axis=1))
    return V[kept] / size[kept, None], kept


def features(X: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Return what neurons ``U`` (k, r) compute on the samples, shape (n, k)."""
    return np.maximum(X @ U.T, 0.0)


class WedgeOracle(Oracle):
    """An oracle for neurons on wedges that proposes some."""

    def __init__(self, problem: Problem, design: Design, coordinates: bool = True) -> None:
        super().__init__(problem)
        self.design, self.X = design, design.X
        self.rows = hyperplanes(design, coordinates)

    def propose(self, Z: np.ndarray, starts: np.ndarray, most: int) -> Candidates:
        """Return at most so many neurons with a high price, no two of them much alike; `starts` (k, r) are
        neurons to search from."""
        raise NotImplementedError


class ListedWedges(WedgeOracle):
    """Pricing over listed wedges: ``global`` for the l1 norm, ``bounded`` for the l2 norm.

    A list that is a sample has scope ``patterns``. Where networks are made of fewer wedges than these,
    `own` prices those: bounds hold against all networks, and what is found is what there is to use.
    """

    def __init__(
        self,
        problem: Problem,
        design: Design,
        wedges: Wedges,
        sampled: bool,
        own: ListedWedges | None = None,
    ) -> None:
        super().__init__(problem, design)
        self.own = own
        assert wedges.error is not None
        self.U, kept = unit(design, wedges.gates)
        self.error = wedges.error[kept] * np.linalg.norm(self.U, axis=1)
        self.sampled, self.clear, self.resolution = sampled, wedges.complete, wedges.resolution
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def at(self, beta: float) -> ListedWedges:
        other = super().at(beta)
        other.own = None if self.own is None else self.own.at(beta)
        return other

    def values(self, Z: np.ndarray) -> np.ndarray:
        """Return ``Z'(Xu)_+`` for the listed neurons u and the opposite ones, shape (2, k)."""
        if self._last is not None and np.array_equal(self._last[0], Z):
            return self._last[1]
        out = np.empty((2, len(self.U)))
        step = max(1, TILE // max(1, len(self.X)))
        for k in range(0, len(self.U), step):
            T = self.X @ self.U[k : k + step].T
            out[0, k : k + step] = Z @ np.maximum(T, 0.0)
            out[1, k : k + step] = Z @ np.maximum(-T, 0.0)
        self._last = (Z.copy(), out)
        return out

    def price(self, Z: np.ndarray) -> Price:
        values = np.max(np.abs(self.values(Z)), axis=0)
        found = float(np.max(values, initial=0.0)) if self.own is None else self.own.price(Z).found
        if self.sampled:
            return Price(found * (1.0 + ROUNDING), "patterns", found)
        sizes = float(np.abs(Z) @ np.linalg.norm(self.X, axis=1))
        margin = self.error * (1.0 + np.sqrt(self.X.shape[1])) * sizes
        slack = self.resolution * sizes
        norm = isinstance(self.design, NormDesign)
        if norm and self.clear:
            bound = self._above(values + margin) + slack
            return Price(max(bound, found), "global", found)
        bound = oracle_bound(self.X, Z, free=self.design.free)
        if isinstance(self.design, NormDesign):
            bound = min(bound, vertex_price(self.X, vertices(self.design), Z))
        elif self.clear:
            # each set of factors is a bound by itself; the smaller of two for every ray is none
            for factors in self.factors:
                bound = min(bound, self._above((values + margin) * factors) + slack)
        return Price(max(bound, found), "bounded", found)

    @staticmethod
    def _above(values: np.ndarray) -> float:
        return float(np.max(values, initial=0.0)) * (1.0 + ROUNDING)

    @cached_property
    def factors(self) -> list[np.ndarray]:
        """Sets of factors k(r) of the listed rays under the l2 norm, (k,) each: by orthants, by cells."""
        W = self.U[:, : self.X.shape[1] - self.design.free]
        plain = np.sqrt(W.shape[1]) / np.sum(np.abs(W), axis=1)
        cells = cell_factors(self.rows, self.U, W)
        return [plain] if cells is None else [plain, cells]

    def propose(self, Z: np.ndarray, starts: np.ndarray, most: int) -> Candidates:
        if self.own is not None:
            return self.own.propose(Z, starts, most)
        values = self.values(Z)
        size = np.abs(values).ravel()
        floor = self.problem.beta * (1.0 + 1e-10)
        order = np.argsort(-size, kind="stable")[: 10 * most]
        order = order[(size[order] > floor) | (np.arange(len(order)) == 0)]
        k = len(self.U)
        U = np.where((order < k)[:, None], 1.0, -1.0) * self.U[order % k] if k else self.U
        return spread_out(self.X, Candidates(U, size[order]), most)


def spread_out(X: np.ndarray, found: Candidates, most: int) -> Candidates:
    """Choose at most so many candidates whose features are not nearly parallel, best first."""
    order = np.argsort(-found.values, kind="stable")
    F = features(X, found.directions[order])
    size = np.linalg.norm(F, axis=0)
    F = F / np.where(size > 0, size, 1.0)
    chosen: list[int] = []
    left = np.ones(len(order), dtype=bool)
    for k in range(len(order)):
        if left[k] and size[k] > 0:
            chosen.append(k)
            left &= F[:, k] @ F < ALIKE
        if len(chosen) >= most:
            break
    at = order[np.array(chosen, dtype=int)]
    return Candidates(found.directions[at], found.values[at])


class SearchedWedges(WedgeOracle):
    """Search for wedges by exchanges, and the proofs of the norm's search oracle (scope ``bounded``).

    Without `coordinates` it looks for wedges of samples only; what it proves holds against all networks.
    """

    def __init__(self, problem: Problem, design: Design, coordinates: bool = True) -> None:
        super().__init__(problem, design, coordinates)
        normed = isinstance(design, NormDesign)
        self.bounds = NormSearchOracle(problem, design) if normed else SearchOracle(problem, design)

    def at(self, beta: float) -> SearchedWedges:
        other = super().at(beta)
        other.bounds = self.bounds.at(beta)
        return other

    def price(self, Z: np.ndarray) -> Price:
        bound = oracle_bound(self.X, Z, free=self.design.free)
        if isinstance(self.design, NormDesign):
            bound = min(bound, vertex_price(self.X, vertices(self.design), Z))
        return Price(bound, "bounded", min(self.propose(Z, self.X[:0], 1).best, bound))

    def found(self, Z: np.ndarray, network: Network) -> float:
        first = network.layers[0]
        assert isinstance(first, Affine)
        full = np.column_stack([first.weight.T, first.bias])
        return self.propose(Z, self.design.coordinates(full), 1).best

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        return self.bounds.prove(Z, max_iter=max_iter, max_time=max_time)

    def propose(self, Z: np.ndarray, starts: np.ndarray, most: int) -> Candidates:
        rng = np.random.default_rng(SEED)
        m, r = self.rows.shape
        number = int(np.clip(STARTS * COSTLY / (m * r * r), 8, STARTS))
        guesses = self.bounds.propose(Z, starts, rng)
        from_search = guesses.directions[np.argsort(-guesses.values, kind="stable")][:number]
        drawn = rng.standard_normal((number // 4, r))
        seeds = np.concatenate([starts, from_search, drawn])
        chosen: dict[tuple[int, ...], None] = {}
        for u in seeds:
            near = nearest_wedge(self.rows, u)
            if near is not None:
                chosen.setdefault(tuple(sorted(near)))
        ends: dict[tuple[int, ...], np.ndarray] = {}
        for subset in chosen:
            for at, v in exchange(self.design, self.rows, Z, np.array(subset)):
                ends.setdefault(tuple(sorted(at.tolist())), v)
        V = np.array(list(ends.values())).reshape(-1, r)
        U, _ = unit(self.design, V)
        U = np.concatenate([U, -U])
        return spread_out(self.X, Candidates(U, np.abs(Z @ features(self.X, U))), most)
