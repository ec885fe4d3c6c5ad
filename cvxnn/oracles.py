"""Oracles for neurons on one design matrix: exact over listed cells, or search and bound.

Both answer for ``M(Z) = max |Z'phi(Xu)|`` over neurons of unit cost, with ``phi(t) = max(t, s t)``: the
ReLU at slope s = 0, the absolute value at -1. :class:`CellOracle` goes through the cells of an arrangement:
in a cell the price is the norm of the projection of ``X'(D + s (I - D)) Z`` onto the cell's cone, the
unprojected norm bounds it, and cells whose bound is below the best price so far are skipped.
:class:`SearchOracle` is for arrangements too large to list: neurons come from local search, proofs from the
matrix bound of :mod:`cvxnn.bounds`.

References: Pilanci and Ergen, ICML 2020, section 3; :mod:`cvxnn.pricing`, :mod:`cvxnn.bounds`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .arrangement import Arrangement
from .bounds import improve_dual, oracle_bound
from .certificate import Oracle, Price, Proof, Scope
from .climbing import fits
from .constraints import Scaled, balanced_bounds, project_cone, projection_bounds
from .design import Design
from .multistart import FEW, unseen
from .network import Affine, Conv, Network
from .pricing import DRAWN, Neurons, search, shares
from .program import Problem
from .walks import neuron_of

#: Seed of the searches inside oracles: a certificate is the same every time it is asked for.
SEED = 0
#: Share by which computed bounds are raised, for the rounding of sums of n terms in float64.
ROUNDING = 1e-12
#: Cells times numbers of the design beyond which their bounds are not sharpened all at once.
SHARPER = 2_000_000


class NeuronOracle(Oracle):
    """An oracle for neurons on one design matrix that also proposes neurons."""

    scope: Scope

    def __init__(self, problem: Problem, design: Design) -> None:
        super().__init__(problem)
        self.design, self.X, self.free = design, design.X, design.free
        self.slope, self.reach = design.slope, design.reach

    def neurons_of(self, network: Network) -> np.ndarray:
        """Return the hidden weights of a network in the coordinates of the design, (m, r)."""
        first = network.layers[0]
        assert isinstance(first, Affine | Conv)
        full = np.column_stack([first.weight.T, first.bias])
        return self.design.coordinates(full)

    def thorough(self, Z: np.ndarray, network: Network) -> Neurons:
        """The hardest search: what training ends with."""
        return self.neurons(Z, self.neurons_of(network), np.random.default_rng(SEED), 2)

    def missing(self, Z: np.ndarray, network: Network, until: Callable[[Neurons], bool]) -> Neurons:
        """As :meth:`thorough`, but it may end with what it has as soon as `until` is true of that."""
        return self.thorough(Z, network)

    @abstractmethod
    def neurons(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Neurons:
        """Find neurons with a high price for ``Z``; `effort` 0, 1, 2 ... searches harder."""

    def active(self, Z: np.ndarray, floor: float, network: Network) -> Neurons:
        """The unit neurons, one per pattern and sign, priced at least `floor`: those a search finds."""
        found = self.thorough(Z, network)
        return found.take(int(np.sum(found.values >= floor)))

    def propose(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        reach: int = 1,
        extra: np.ndarray | None = None,
    ) -> Neurons:
        """Propose many different neurons with a high price, quickly; they need not be locally best.

        `reach` multiplies the random starts; `extra` are more directions to start from.
        """
        return self.neurons(Z, starts, random_state, 0)

    def improved(self, Z: np.ndarray, max_iter: int, max_time: float) -> Proof:
        """Return the best bound over all patterns from ``Z``: :func:`cvxnn.bounds.improve_dual`."""
        problem = self.problem
        found = improve_dual(
            self.X,
            problem.y,
            problem.weights,
            problem.loss,
            problem.beta,
            Z,
            free=self.free,
            slope=self.slope,
            intercept=problem.intercept,
            pool=self.design.pool,
            max_iter=max_iter,
            max_time=None if max_time == float("inf") else max_time,
        )
        return Proof(found.theta, found.bound, "bounded")


#: A priced cell: value, direction, sign, index.
Cell = tuple[float, np.ndarray, float, int]


def price_cells(
    bounds: np.ndarray,
    price: Callable[[int, float], tuple[float, tuple[float, np.ndarray] | None]],
    floor: float,
    limit: int,
    sharper: np.ndarray | None = None,
) -> tuple[float, list[Cell]]:
    """Price cells, those with the largest bounds first.

    Parameters
    ----------
    bounds : ndarray of shape (cells,)
        Of the prices of both signs.
    price : callable(cell, sign)
        Returns a sharper bound, and value and direction of the best neuron, None if there is none.
    floor : float
        Cells bounded by it, or by the best value found, do not matter.
    limit : int
        Cells to price at most.
    sharper : ndarray of shape (2, cells), or None
        Bounds for either sign, which tell the cells that need no price.

    Returns
    -------
    bound : float
        Of the price over all cells.
    cells : list of (value, direction, sign, cell)
    """
    best, bound = 0.0, 0.0
    rows: list[Cell] = []
    tops = None if sharper is None else sharper.tolist()
    for done, j in enumerate(np.argsort(-bounds, kind="stable").tolist()):
        if bounds[j] <= max(best, floor) or done >= limit:
            return max(bound, float(bounds[j])), rows
        for k, side in enumerate((1.0, -1.0)):
            if tops is not None and tops[k][j] <= max(best, floor):
                bound = max(bound, tops[k][j])
                continue
            top, found = price(j, side)
            bound = max(bound, top)
            if found is not None:
                rows.append((*found, side, j))
                best = max(best, found[0])
    return bound, rows


class CellOracle(NeuronOracle):
    """Exact pricing over the cells of an arrangement (``global`` if it is complete)."""

    def __init__(self, problem: Problem, design: Design, arrangement: Arrangement) -> None:
        super().__init__(problem, design)
        self.arrangement = arrangement
        self.masks = arrangement.masks()
        self.shares = shares(self.masks, self.slope) if self.slope else self.masks
        self.scope = "global" if arrangement.complete else "patterns"
        self._signs = np.where(self.masks, 1.0, -1.0)
        self._scaled, self._norms = Scaled.of(self.X, self.free), np.linalg.norm(self.X, axis=1)
        self._last: tuple[np.ndarray, Price] | None = None

    def _cells(self, Z: np.ndarray, floor: float, limit: int) -> tuple[float, list[Cell]]:
        """Price cells in the order of their unprojected norms.

        Returns an upper bound of the price over all cells, and per priced cell
        ``(value, direction, sign, cell)``. Stops below `floor` or after `limit` cells.
        """
        G = (self.shares * Z) @ self.X

        def price(j: int, side: float) -> tuple[float, tuple[float, np.ndarray] | None]:
            r = self._projected(j, side * G[j])
            found = neuron_of(self.X, side * Z, r, self.free, self.slope, self._norms)
            # The best of all biases may leave the listed patterns; the projection does not.
            if found is not None and self.free and self.scope != "global":
                found = (float(np.linalg.norm(r[: len(r) - self.free])), found[1])
            return float(self._ceilings(r[None])[0]), found

        # above a floor neurons are proposed, and those just below it are of use too
        small = not floor and self.masks.size * G.shape[1] <= SHARPER
        return price_cells(self._ceilings(G), price, floor, limit, self._sharper(G) if small else None)

    def _sharper(self, G: np.ndarray) -> np.ndarray | None:
        """Bounds of the prices of both signs, shape (2, cells), from a few multipliers of each cell."""
        if self.free == 0:
            return np.stack([projection_bounds(self.X, self.masks, side * G) for side in (1.0, -1.0)])
        if self.free > 1 or not np.all(self.X[:, -1] > 0.0):
            return None
        # what rounding leaves of the part that is to vanish
        slack = 4.0 * np.finfo(np.float64).eps * self.reach * np.abs(G[:, -1])
        return balanced_bounds(self.X, self._signs, G) + slack

    def _projected(self, j: int, g: np.ndarray) -> np.ndarray:
        return project_cone(self.X, self._signs[j], g, self.free, scaled=self._scaled)[0]

    def _ceilings(self, G: np.ndarray) -> np.ndarray:
        """The largest ``g'u`` over unit neurons with biases in reach, for the rows g of ``G`` (k, d)."""
        k = G.shape[1] - self.free
        return np.linalg.norm(G[:, :k], axis=1) + self.reach * np.sum(np.abs(G[:, k:]), axis=1)

    def price(self, Z: np.ndarray) -> Price:
        if self._last is not None and np.array_equal(self._last[0], Z):
            return self._last[1]
        bound, rows = self._cells(Z, 0.0, 1 << 62)
        # What merging nearly parallel rows may have hidden, by the Lipschitz constant of M in X.
        slack = self.arrangement.resolution * float(np.abs(Z) @ self._norms)
        found = min(max([row[0] for row in rows], default=0.0), bound)
        price = Price(bound * (1.0 + ROUNDING) + slack, self.scope, found)
        self._last = (Z, price)
        return price

    def above(self, Z: np.ndarray, floor: float) -> tuple[float, np.ndarray]:
        """Return a bound of the larger of the price and `floor`, and patterns worth more, the best first.

        For penalised biases. Most cells are told to be worth less by multipliers that a few sweeps find for
        all cells at once; the others are solved.
        """
        G = (self.shares * Z) @ self.X
        tops = np.array([projection_bounds(self.X, self.masks, side * G) for side in (1.0, -1.0)])
        bound, rows = floor, []
        for at in np.argsort(-tops, axis=None, kind="stable").tolist():
            side, j = divmod(at, len(self.masks))
            if tops[side, j] <= floor:
                break
            g = G[j] if side == 0 else -G[j]
            r = project_cone(self.X, self._signs[j], g, scaled=self._scaled)[0]
            value = min(float(np.linalg.norm(r)), float(tops[side, j]))
            bound = max(bound, value)
            if value > floor:
                rows.append((value, j))
        slack = self.arrangement.resolution * float(np.abs(Z) @ self._norms)
        rows.sort(key=lambda row: -row[0])
        return bound * (1.0 + ROUNDING) + slack, self.masks[[j for _, j in rows]]

    def active(self, Z: np.ndarray, floor: float, network: Network) -> Neurons:
        """The unit neurons priced at least `floor`, of every cell that has one."""
        G = (self.shares * Z) @ self.X
        norms = self._ceilings(G)
        cells, directions, values, signs = [], [], [], []
        for j in np.flatnonzero(norms >= floor):
            for side in (1.0, -1.0):
                r = self._projected(int(j), side * G[j])
                found = neuron_of(self.X, side * Z, r, self.free, self.slope, self._norms)
                if found is not None and found[0] >= floor:
                    cells.append(j)
                    values.append(found[0])
                    directions.append(found[1])
                    signs.append(side)
        U = np.array(directions).reshape(-1, self.X.shape[1])
        at = np.array(cells, dtype=int)
        return Neurons(np.array(values), U, np.array(signs), self.masks[at], self.arrangement.gates[at])

    def neurons(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Neurons:
        limit = len(self.masks) if effort else 200
        _, rows = self._cells(Z, self.problem.beta * (1.0 - 1e-9), limit)
        rows = sorted(rows, key=lambda row: (-row[0], row[3], row[2]))[:64]
        cells = np.array([row[3] for row in rows], dtype=int)
        directions = np.array([row[1] for row in rows]).reshape(-1, self.X.shape[1])
        masks, gates = self.masks[cells], self.arrangement.gates[cells]
        if self.free and self.scope == "global":
            # The best bias may lie in another cell than the one it was found from.
            masks, gates = (self.X @ directions.T > 0).T, directions
        values, signs = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
        found = Neurons(values, directions, signs, masks, gates)
        return found.join(found.take(0)) if self.free else found


class SearchOracle(NeuronOracle):
    """Local search for neurons, and the matrix bound over all patterns for proofs."""

    scope = "bounded"
    _last: tuple[bytes, Neurons] | None = None

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.thorough(Z, network).best

    def thorough(self, Z: np.ndarray, network: Network) -> Neurons:
        """The judge's search: always the same for the same dual variable and network.

        Training ends with this very search, so what the judge will find, training has found. The last
        answer is kept, as the judge asks next: of the same dual variable, and maybe with fewer neurons,
        which are only places to start from.
        """
        return self.missing(Z, network, lambda found: False)

    def missing(self, Z: np.ndarray, network: Network, until: Callable[[Neurons], bool]) -> Neurons:
        """As :meth:`thorough`; only an answer of all searches is kept for the judge."""
        key = Z.tobytes()
        if self._last is None or self._last[0] != key:
            found = None
            for found in self.searches(Z, self.neurons_of(network), np.random.default_rng(SEED), 2):
                if until(found):
                    return found
            assert found is not None
            self._last = (key, found)
        return self._last[1]

    def seen(self, Z: np.ndarray) -> float:
        return self.neurons(Z, self.X[:0], np.random.default_rng(SEED), 0).best

    def price(self, Z: np.ndarray) -> Price:
        value = oracle_bound(self.X, Z, free=self.free, slope=self.slope)
        return Price(value, self.scope, self.seen(Z))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        return replace(self.improved(Z, max_iter, max_time), scope=self.scope)

    def neurons(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Neurons:
        *_, found = self.searches(Z, starts, random_state, effort)
        return found

    def searches(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Iterator[Neurons]:
        """All that has been found so far, after every one of the searches that ``neurons`` makes."""
        # Exact solutions and walks cost n d^2 each, and more where many rows are tight.
        polish = int(np.clip(4e6 / self.X.size, 8, 48))
        if effort and (found := self._exhausted(Z, starts, polish)) is not None:
            yield found
            return
        found = self._search(
            Z, starts, polish * (1 + effort), random_state, (3 if fits(self.X) else 4) ** effort
        )
        yield found
        for _ in range(2 * effort):
            # Hop: the best local maxima of a rugged function have good ones around them.
            around = found.directions[:16]
            noise = random_state.standard_normal((16, *around.shape)) / np.sqrt(around.shape[1])
            size = np.linalg.norm(around, axis=1)[None, :, None]
            hops = (around[None] + 0.5 * size * noise).reshape(-1, around.shape[1])
            found = found.join(self._search(Z, None, polish // 2, random_state, 1, extra=hops))
            yield found

    def _exhausted(self, Z: np.ndarray, starts: np.ndarray, polish: int) -> Neurons | None:
        """A quick search where that has seen all maxima there are, by its own estimate.

        Every neuron of a good network is a maximum, so that with many of them this is not tried.
        """
        if not fits(self.X) or unseen(len(starts), int(DRAWN * self._starts(1))) > FEW:
            return None
        found = self._search(Z, starts, polish, np.random.default_rng(SEED), 1, estimate=True)
        return found if found.unseen <= FEW else None

    def _starts(self, reach: int) -> int:
        """Random starts of a search: more where a start costs little."""
        count = int(np.clip(2e6 / self.X.size, 32, 256)) * reach
        return count // 2 if fits(self.X) else count

    def propose(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        reach: int = 1,
        extra: np.ndarray | None = None,
    ) -> Neurons:
        # what has climbed is within a hundred thousandth of its maximum already
        exact = reach > 1 and not fits(self.X)
        return self._search(Z, starts, 100 * reach, random_state, reach, extra=extra, exact=exact)

    def _search(
        self,
        Z: np.ndarray,
        starts: np.ndarray | None,
        n_polish: int,
        random_state: np.random.Generator,
        reach: int,
        *,
        extra: np.ndarray | None = None,
        exact: bool = True,
        estimate: bool = False,
    ) -> Neurons:
        return search(
            self.X,
            Z,
            starts=starts,
            extra=extra,
            n_random=self._starts(reach),
            n_polish=n_polish,
            free=self.free,
            slope=self.slope,
            exact=exact,
            estimate=estimate,
            random_state=random_state,
        )
