r"""Oracles for ReLU neurons whose weights pay another norm: exact over listed cells, or search and bound.

:class:`NormCellOracle` goes through the cells of an arrangement in the order of ``polar(X'D Z)``, which
bounds the price in a cell, and solves those that may hold the best neuron. :class:`NormSearchOracle`
searches, and proves through whichever of two bounds over all patterns is better:

- the norm is at least the Euclidean one, so what holds for weight decay holds here (:mod:`cvxnn.bounds`);
- the ball lies in the hull of ``± e_k / (r + (1 - r) / sqrt|G|)``, k in group G
  (:mod:`cvxnn.bounds_vertices`).

References: Pilanci and Ergen, ICML 2020, section 3; :mod:`cvxnn.norm_pricing`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .arrangement import Arrangement
from .bounds import oracle_bound
from .bounds_vertices import relax, vertex_price
from .certificate import Price, Proof, scale
from .norm_pricing import NormDesign, best_in_cell, cell_bound, search_neurons, worth
from .oracles import ROUNDING, SEED, Cell, NeuronOracle, SearchOracle, price_cells
from .pricing import Neurons
from .program import Problem

#: Cells priced for a proposal, and neurons returned by it.
CELLS, MOST = 200, 64


class NormCellOracle(NeuronOracle):
    """Exact pricing over the cells of an arrangement (``global`` if it is complete)."""

    design: NormDesign

    def __init__(self, problem: Problem, design: NormDesign, arrangement: Arrangement) -> None:
        super().__init__(problem, design)
        self.arrangement, self.masks = arrangement, arrangement.masks()
        self.scope = "global" if arrangement.complete else "patterns"
        self._cache: tuple[np.ndarray, tuple[float, list, float]] | None = None

    def _cells(self, Z: np.ndarray, floor: float, limit: int) -> tuple[float, list[Cell]]:
        """Price cells in the order of their bounds.

        Returns an upper bound of the price over all cells, and per priced cell
        ``(value, neuron, sign, cell)``. Stops below `floor` or after `limit` cells.
        """
        G = (self.masks * Z) @ self.X

        def price(j: int, side: float) -> tuple[float, tuple[float, np.ndarray] | None]:
            sign, g = np.where(self.masks[j], 1.0, -1.0), side * G[j]
            u, rho = best_in_cell(self.design, sign, g)
            found = self._inside(side * Z, g, u)
            return cell_bound(self.design, sign, g, rho), found if found[0] > 0.0 else None

        return price_cells(self.design.norm.polar(G), price, floor, limit)

    def _inside(self, z: np.ndarray, g: np.ndarray, u: np.ndarray) -> tuple[float, np.ndarray]:
        """The price of a neuron in its cell; with a complete list it may leave it with its best bias."""
        if self.scope == "global":
            return worth(self.design, z, u)
        size = float(self.design.norms(u[None])[0])
        return (float(g @ u) / size, u / size) if size > 0.0 else (0.0, u)

    def price(self, Z: np.ndarray) -> Price:
        bound, rows, floor = self._full(Z)
        # What merging nearly parallel rows may have hidden, by the Lipschitz constant of M in X.
        slack = self.arrangement.resolution * float(np.abs(Z) @ np.linalg.norm(self.X, axis=1))
        found = min(max([row[0] for row in rows], default=floor), bound)
        return Price(bound * (1.0 + ROUNDING) + slack, self.scope, max(found, min(floor, bound)))

    def _full(self, Z: np.ndarray) -> tuple[float, list[Cell], float]:
        """All cells that may hold the best neuron: the bound, what was priced, and what a search found.

        The last answer is kept, as training asks first and the judge next.
        """
        if self._cache is not None and np.array_equal(self._cache[0], Z):
            return self._cache[1]
        floor = 0.0
        if self.scope == "global":
            rng = np.random.default_rng(SEED)
            floor = search_neurons(
                self.design, Z, self.X[:0], n_random=32, n_polish=4, random_state=rng
            ).best
        answer = (*self._cells(Z, floor, 1 << 62), floor)
        self._cache = (Z, answer)
        return answer

    def neurons(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Neurons:
        if effort > 1:
            rows = self._full(Z)[1]
        else:
            floor = self.problem.beta * (1.0 - 1e-9)
            _, rows = self._cells(Z, floor, len(self.masks) if effort else CELLS)
        rows = sorted(rows, key=lambda row: (-row[0], row[3], row[2]))[:MOST]
        U = np.array([row[1] for row in rows]).reshape(-1, self.X.shape[1])
        masks = self.masks[np.array([row[3] for row in rows], dtype=int)]
        if self.free and self.scope == "global":
            masks = (self.X @ U.T > 0).T
        values, signs = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
        found = Neurons(values, U, signs, masks, U)
        if self.scope == "patterns":
            return found
        rng = np.random.default_rng(SEED)
        return found.join(search_neurons(self.design, Z, starts, n_random=32, n_polish=8, random_state=rng))


class NormSearchOracle(SearchOracle):
    """Search for neurons, and proofs through two bounds over all patterns."""

    design: NormDesign

    def searches(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Iterator[Neurons]:
        polish = int(np.clip(2e5 / self.X.size, 4, 24)) * (1 + effort)
        n_random = int(np.clip(5e5 / self.X.size, 32, 128)) * 2**effort
        yield search_neurons(
            self.design, Z, starts, n_random=n_random, n_polish=polish, random_state=random_state
        )

    def propose(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        reach: int = 1,
        extra: np.ndarray | None = None,
    ) -> Neurons:
        starts = starts if extra is None else np.concatenate([starts, extra])
        return search_neurons(
            self.design, Z, starts, n_random=64 * reach, n_polish=0, random_state=random_state
        )

    def price(self, Z: np.ndarray) -> Price:
        value = min(oracle_bound(self.X, Z, free=self.free), vertex_price(self.X, vertices(self.design), Z))
        return Price(value, self.scope, self.seen(Z))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        best = super().prove(Z, max_iter=max_iter, max_time=max_time)
        problem, V = self.problem, vertices(self.design)
        candidates = [(Z, vertex_price(self.X, V, Z))]
        if max_iter > 0:
            y, s, loss = problem.y, problem.weights, problem.loss
            relaxed = relax(self.X, V, y, s, loss, problem.beta, intercept=problem.intercept)
            candidates += [] if relaxed is None else [(relaxed.Z, relaxed.price)]
        for theta, price in candidates:
            scaled, bound = scale(problem, theta, price)
            best = Proof(scaled, bound, self.scope) if bound > best.bound else best
        return best


def vertices(design: NormDesign) -> np.ndarray:
    """Return points (d, k) in whose hull the ball of the norm lies; a free bias reaches both its ends."""
    norm, d = design.norm, design.X.shape[1]
    weight = np.ones(d - design.free)
    for row in norm.groups:
        # the Euclidean norm of a group is at least the sum of sizes over the root of their number
        weight[list(row)] = norm.share + (1.0 - norm.share) / np.sqrt(len(row))
    signed = np.diag(1.0 / weight)
    signed = np.concatenate([signed, -signed], axis=1)
    if not design.free:
        return signed
    up = np.full((1, signed.shape[1]), design.reach)
    return np.concatenate([np.concatenate([signed, up]), np.concatenate([signed, -up])], axis=1)
