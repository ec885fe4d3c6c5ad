r"""Oracles for neurons with several outputs that take the largest output of all rows of a sample.

Both answer for ``M(Z) = max over |u| <= 1 of |Z'h(u)|`` with ``h_i(u) = max_k (x_ik'u)_+``.

*Exact.* In a cell of the arrangement of all rows ``x_ik`` and all differences ``x_ik - x_il`` of one sample
h is linear, ``h = S u``, and the price is the largest ``|Z'S u|`` over unit vectors of a cone. As in
:mod:`cvxnn.vector_oracles` a maximiser inside a face of the cell is a top eigenvector on the span of that
face, and all faces are cells of the arrangements on the flats: they are listed once, and each costs a small
eigenvalue problem (scope ``global``).

*Bounded.* For real a, and b_1 ... b_K, ``a max_k (b_k)_+ <= sum_k max(0, a b_k)``: where a is negative the
left side is, and otherwise the largest term is one of the sum. The bound of :mod:`cvxnn.vector_bounds` for
neurons that *add up* the rows is derived from the right side, and so holds here too, up to K times as loose
(scope ``bounded``). Moving the dual variable is the same for both. Where the cells can be listed, though
their faces cannot, prices of one output are exact, and ``M(Z)^2 <= sum_c M(z_c)^2`` for the columns of Z in
an orthonormal basis of the outputs. Where not, one output has the bound of a sum with other weights: as the
largest of K numbers that are not negative is between their mean and their sum,

    sum_i z_i max_k (b_ik)_+  <=  sum_i max(z_i, z_i / K) sum_k (b_ik)_+,

a price of sum pooling (:mod:`cvxnn.bounds`); and as it is between zero and the length of the longest row,

    sum_i z_i max_k (b_ik)_+  <=  sum_i (z_i)_+ max_k |x_ik|,

which is far less where rows are many. The price is at most the larger of the bounds of z and -z.

References: Ergen and Pilanci, ICLR 2021 (max pooling); Sahiner, Ergen, Pauly and Pilanci, ICLR 2021
(faces).
"""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np

from .arrangement import Arrangement
from .bounds import oracle_bound
from .certificate import Price
from .constraints import project_cone
from .design import Design
from .max_pooling import MaxDesign, priced, search_max
from .network import Network
from .oracles import ROUNDING, SEED, Cell, CellOracle, price_cells
from .pooled_oracles import PooledVectorOracle, Single
from .pricing import Neurons
from .program import Problem
from .vector_growth import Coupling
from .vector_oracles import ListedOracle, VectorOracle, VectorSearch, list_flats
from .vector_pricing import VectorNeurons

#: Random starts of a search: so many numbers in what they select, within limits.
STARTS, FEWEST, MOST = 4e5, 32, 256


def with_differences(design: MaxDesign) -> np.ndarray:
    """Return all rows of a design, and the differences of those of one sample, (rows, r)."""
    rows = design.X.reshape(design.samples, design.pool, -1)
    pairs = [rows[:, k] - rows[:, m] for k, m in combinations(range(design.pool), 2)]
    return np.concatenate([design.X, *pairs])


def columns(Z: np.ndarray) -> np.ndarray:
    """Return a dual variable with a column for every output, also for one."""
    return Z[:, None] if Z.ndim == 1 else Z


def single_bound(design: MaxDesign, z: np.ndarray) -> float:
    """Bound the price of a dual variable of one output over all cells, as the module says.

    Parameters
    ----------
    design : MaxDesign
        Without a free bias.
    z : ndarray of shape (n,)

    Returns
    -------
    float
    """
    longest = reach(design)
    each = []
    for side in (z, -z):
        summed = design.spread(np.maximum(side, side / design.pool))
        length = float(np.maximum(side, 0.0) @ longest) * (1.0 + ROUNDING)
        each.append(min(length, oracle_bound(design.X, summed, max_iter=20)))
    return max(each)


def reach(design: MaxDesign) -> np.ndarray:
    """Return the length of the longest row of every sample, (samples,)."""
    return np.asarray(np.max(np.linalg.norm(design.X, axis=1).reshape(-1, design.pool), axis=1))


class MaxCellOracle(CellOracle):
    """Exact pricing over the cells of patches and their differences (``global`` if all are listed)."""

    def __init__(self, problem: Problem, design: Design, arrangement: Arrangement, positions: int) -> None:
        super().__init__(problem, design, arrangement)
        self.positions = positions
        self.shares = selected(design, arrangement, positions)

    def outputs(self, U: np.ndarray) -> np.ndarray:
        """What filters ``U`` (k, r) compute on the data, shape (n, k)."""
        return largest(self.design, U, self.positions)

    def _cells(self, Z: np.ndarray, floor: float, limit: int) -> tuple[float, list[Cell]]:
        z = self.design.spread(Z)
        G = (self.shares * z) @ self.X
        least = 1e-13 * float(np.abs(z) @ np.linalg.norm(self.X, axis=1))

        def price(j: int, side: float) -> tuple[float, tuple[float, np.ndarray] | None]:
            r, _ = project_cone(self.X, np.where(self.masks[j], 1.0, -1.0), side * G[j])
            size = float(np.linalg.norm(r))
            if size <= least:
                return size, None
            return size, (float(side * Z @ self.outputs((r / size)[None])[:, 0]), r / size)

        return price_cells(np.linalg.norm(G, axis=1), price, floor, limit)

    def price(self, Z: np.ndarray) -> Price:
        bound, rows = self._cells(Z, 0.0, 1 << 62)
        lengths = np.abs(self.design.spread(Z)) @ np.linalg.norm(self.X, axis=1)
        found = min(max([row[0] for row in rows], default=0.0), bound)
        slack = (self.arrangement.resolution + 1e-14) * float(lengths)
        return Price(bound * (1.0 + 1e-12) + slack, self.scope, max(found, 0.0))

    def active(self, Z: np.ndarray, floor: float, network: Network) -> Neurons:
        raise NotImplementedError("all optimal networks are known for plain ReLU and gated ones")


def largest(design: Design, U: np.ndarray, positions: int) -> np.ndarray:
    """Return ``max_k (x_ik'u)_+`` of filters ``U`` (k, r), shape (n, k)."""
    rows = design.X.reshape(design.samples, design.pool, -1)[:, :positions]
    return np.maximum(np.max(rows @ U.T, axis=1), 0.0)


def selected(design: Design, arrangement: Arrangement, positions: int) -> np.ndarray:
    """Return which row every gate passes of every sample, if any: a bool array (cells, rows)."""
    rows = design.X.reshape(design.samples, design.pool, -1)[:, :positions]
    chosen = np.zeros((len(arrangement), design.samples, design.pool), dtype=bool)
    for mask, gate in zip(chosen, arrangement.gates, strict=True):
        T = rows @ gate
        best = np.argmax(T, axis=1)
        samples = np.arange(design.samples)
        mask[samples, best] = T[samples, best] > 0
    return chosen.reshape(len(arrangement), -1)


class MaxSearchOracle(PooledVectorOracle):
    """Local search for neurons, and the bound for rows that are added up (scope ``bounded``).

    Parameters
    ----------
    problem : Problem
        Of one output or of several.
    design : MaxDesign
        Without a free bias.
    singles : tuple of at most one callable
        A bound of neurons of one output, see :class:`PooledVectorOracle`.
    """

    design: MaxDesign

    def __init__(self, problem: Problem, design: MaxDesign, singles: tuple[Single, ...] = ()) -> None:
        self.summed = VectorSearch(problem, design, Coupling.joint)
        super().__init__(problem, self.summed, singles=singles)

    def neurons(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        effort: int,
        *,
        exact: bool = True,
    ) -> VectorNeurons:
        n_random = int(np.clip(STARTS / self.X.size, FEWEST, MOST)) * 2**effort
        Z = columns(Z)
        return search_max(self.design, Z, starts=starts, n_random=n_random, random_state=random_state)

    def thorough(self, Z: np.ndarray, network: Network) -> VectorNeurons:
        return VectorOracle.thorough(self, Z, network)

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.thorough(Z, network).best

    def price(self, Z: np.ndarray) -> Price:
        value = self.summed.bound(self.spread(Z))
        found = self.neurons(Z, self.X[:0], np.random.default_rng(SEED), 0).best
        return self.tightened(Z, Price(value, "bounded", min(found, value)))


class MaxFaceOracle(ListedOracle):
    """Exact pricing over all faces of all cells (scope ``global``); for few and small patches.

    Parameters
    ----------
    problem : Problem
        Of one output or of several.
    design : MaxDesign
        Without a free bias.
    max_time : float
        Seconds to list the faces in; with a finite number results may depend on the machine.

    Raises
    ------
    TooManyFaces
        If there are too many, listing them takes too long, or rounding leaves in doubt which there are.
    """

    design: MaxDesign

    def __init__(self, problem: Problem, design: MaxDesign, max_time: float = float("inf")) -> None:
        super().__init__(problem, design, Coupling.joint)
        flats, self.resolution = list_flats(with_differences(design), time.perf_counter() + max_time)
        #: spans of flats, and what every cell on them selects in their coordinates, (cells, n, k)
        self.faces = [
            (flat.basis, design.selected(flat.gates @ flat.basis.T) @ flat.basis) for flat in flats
        ]

    @property
    def large(self) -> bool:
        return False

    def _best(self, Z: np.ndarray) -> VectorNeurons:
        """The top eigenvectors of all faces at their own price, whether they lie in their face or not."""
        parts = []
        for basis, selected in self.faces:
            A = np.einsum("no,cnk->cok", columns(Z), selected, optimize=True)
            top = np.linalg.eigh(np.einsum("cok,col->ckl", A, A))[1][:, :, -1] @ basis.T
            parts += [top, -top]
        U = np.concatenate(parts)
        found = priced(self.design, columns(Z), U / np.linalg.norm(U, axis=1, keepdims=True))
        return VectorNeurons(found.values[:1000], found.directions[:1000], found.outputs[:1000])

    def price(self, Z: np.ndarray) -> Price:
        best = self.neurons(Z, self.X[:0], np.random.default_rng(SEED), 0).best
        size = float(np.linalg.norm(columns(Z), axis=1) @ reach(self.design))
        # differences are twice as long as rows at most
        slack = (2.0 * self.resolution + 1e-14) * size
        return Price(best * (1.0 + ROUNDING) + slack, "global", best)
