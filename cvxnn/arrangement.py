r"""Activation patterns: the cells that the samples cut out of the space of gates.

The pattern :math:`1[Xu\ge0]` of a hidden unit is constant on each cell of the central arrangement
of the hyperplanes :math:`\{x_i^\top u=0\}`, so a two-layer ReLU network has one convex block for
each cell. For :math:`n` samples of rank :math:`r` there are at most

.. math:: P(n,r)=2\sum_{k<r}\binom{n-1}{k}

cells, with equality in general position. Enumeration follows deletion and restriction: when a
hyperplane :math:`H` joins an arrangement, the cells that it splits are exactly the cells of the
arrangement drawn on :math:`H` by the others, a problem of rank :math:`r-1`. A point inside a cell
on :math:`H`, moved a little to either side, lies inside the two halves. No linear program is
needed, the work follows the number of cells found, and data with parallel or dependent rows need
no special case: hyperplanes that draw the same trace on :math:`H` are merged there.

Floating point enters in one place only, the decision whether two traces coincide. Rounding errors
are propagated through the projections; a distance well below a threshold is taken as zero, one
well above it as genuine, and one between the two forfeits the claim of completeness.

References: Zaslavsky 1975 (the count, deletion and restriction); Edelsbrunner, O'Rourke and Seidel
1986 (incremental construction); Rada and Cerny 2018 (incremental enumeration by sign vectors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from cvxnn.arrays import to_numpy

__all__ = ["Arrangement", "TooManyPatterns", "count_bound", "pack", "patterns_of"]

_EPS = float(np.finfo(np.float64).eps)
_FINEST = 1e-15  # resolution of data in which nothing was merged
_TOO_NOISY = 1e-8  # rounding errors beyond this leave no merge clear


class TooManyPatterns(ValueError):
    """There are more cells than may be listed.

    Parameters
    ----------
    bound : int
        There are at most so many.
    limit : int
        So many may be listed.
    """

    def __init__(self, bound: int, limit: int) -> None:
        self.bound, self.limit = bound, limit
        size = f"{bound:,}" if bound < 10**15 else f"about 1e{int(math.log10(bound))}"
        super().__init__(
            f"the data have more than {limit:,} activation patterns (at most {size}); raise limit= "
            "to list them all, or work with a sample of patterns or with patterns that are added "
            "as the optimisation asks for them"
        )


def count_bound(n: int, r: int) -> int:
    """Largest number of cells of `n` hyperplanes through the origin with normals of rank `r`.

    This is ``2 * sum_{k<r} C(n-1, k)``, the count in general position, and 1 without hyperplanes.
    """
    return 2 * sum(math.comb(n - 1, k) for k in range(min(r, n))) or 1


def pack(masks: np.ndarray) -> np.ndarray:
    """Pack patterns (k, n) into uint8 rows (k, ceil(n / 8))."""
    return np.packbits(np.asarray(masks, dtype=bool), axis=1)


def patterns_of(X: Any, U: Any) -> np.ndarray:
    """Patterns ``1[X u >= 0]``, bool (k, n), of the rows of `U` (k, d) on the samples `X` (n, d).

    Samples that are zero get bit 0.
    """
    X, U = to_numpy(X), to_numpy(U)
    masks, seen = U @ X.T >= 0, X.any(axis=1)
    return masks if seen.all() else masks & seen


@dataclass(frozen=True, eq=False)
class Arrangement:
    """A list of distinct activation patterns of a data matrix.

    Parameters
    ----------
    bits : uint8 ndarray of shape (patterns, ceil(n / 8))
        Distinct packed patterns in lexicographic order, most significant bit first.
    n_samples : int
    gates : float64 ndarray of shape (patterns, d)
        A gate for each pattern; from :meth:`enumerate` an interior point of the cell, of unit
        norm (zero where there are no hyperplanes).
    complete : bool
        True only where the list holds every open cell, all decisions clear of rounding errors.
    resolution : float
        For a complete list, the relative change of a row of `X` that may hide behind what was
        taken as exactly parallel or dependent, never below 1e-15; 0 for other lists.
    """

    bits: np.ndarray
    n_samples: int
    gates: np.ndarray
    complete: bool = False
    resolution: float = 0.0

    def __len__(self) -> int:
        return len(self.bits)

    def masks(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return patterns `start` to `stop`, all by default.

        Parameters
        ----------
        start : int, default=0
        stop : int or None, default=None

        Returns
        -------
        bool ndarray of shape (stop - start, n_samples)
        """
        return np.unpackbits(self.bits[start:stop], axis=1, count=self.n_samples).astype(bool)

    @classmethod
    def from_gates(cls, X: Any, gates: Any) -> Arrangement:
        """Return the patterns of gates, each once, with its first gate as it is.

        Parameters
        ----------
        X : array-like of shape (n, d)
        gates : array-like of shape (k, d)

        Returns
        -------
        Arrangement
        """
        X, gates = _matrix(X), _matrix(gates)
        blocks = _blocks(len(gates), len(X))
        bits = np.concatenate([pack(patterns_of(X, gates[block])) for block in blocks])
        first = _distinct(bits)
        return cls(bits[first], len(X), gates[first])

    @classmethod
    def sample(cls, X: Any, n_patterns: int, random_state: Any = None) -> Arrangement:
        """Return the patterns of Gaussian gates, fewer where gates share a cell.

        The gates are drawn without looking at the samples, so a permutation of the samples permutes
        the bits of the patterns and changes nothing else.

        Parameters
        ----------
        X : array-like of shape (n, d)
        n_patterns : int
            Number of gates to draw.
        random_state : int, Generator, RandomState or None, default=None

        Returns
        -------
        Arrangement
        """
        X = _matrix(X)
        if isinstance(random_state, np.random.Generator):
            random_state = int(random_state.integers(2**31 - 1))
        rng = check_random_state(random_state)
        return cls.from_gates(X, _unit(rng.standard_normal((n_patterns, X.shape[1]))))

    @classmethod
    def enumerate(cls, X: Any, *, limit: int = 10_000) -> Arrangement:
        """All open cells of the arrangement of the rows of `X`.

        Parameters
        ----------
        X : array of shape (n, d)
            Only exact zeros make a zero row: the scale of a row, however small, moves no cell.
        limit : int
            Largest number of patterns wanted.

        Raises
        ------
        TooManyPatterns
            There are more than `limit` cells. Data far beyond the limit are recognised at once.
        """
        X = _matrix(X)
        rows = X[X.any(axis=1)]
        if len(rows) == 0:
            found = cls.from_gates(X, np.zeros((1, X.shape[1])))
            return replace(found, complete=True, resolution=_FINEST)
        scaled, column_scale = _equilibrate(rows)
        _stop_early(scaled, count_bound(len(rows), min(rows.shape)), limit)
        frame = _RowSpace.of(scaled, column_scale)
        n, rank = frame.rows.shape
        search = _Search(n, rank, limit)
        _stop_early(frame.rows, search.bound, limit)
        leader = search.leaders(frame.rows, frame.error)
        heads = np.flatnonzero(leader == np.arange(n))
        unit = _unit(rows / np.max(np.abs(rows), axis=1, keepdims=True))
        hidden = max(frame.truncated, float(np.max(_line_gap(unit, unit[leader]))))
        search.hidden = 0.0  # the gaps of this level have just been measured on X itself
        half = search.half_cells(frame.rows[heads], frame.error[heads])
        search.stop_above(2 * len(half))
        points = np.concatenate([half, -half])
        gates = _unit(points @ frame.back.T)
        found = cls.from_gates(X, gates)
        side = np.sign(np.sum(frame.rows * frame.rows[leader], axis=1, keepdims=True))
        sound = _confirmed(rows, gates, side * frame.rows[leader], points)
        full = len(found) == count_bound(len(heads), rank)
        # Distinct patterns in the largest possible number are a proof by themselves.
        proven = full and hidden <= 8 * _EPS
        clear = not search.murky and (full or search.merged) and len(found) == len(gates)
        if not (sound and (proven or clear)):
            return found
        resolution = max(_FINEST, hidden, 0.0 if proven else frame.lift * search.hidden)
        return replace(found, complete=True, resolution=resolution)


@dataclass(frozen=True)
class _RowSpace:
    """The rows in coordinates of their span, where they are well spread and of unit norm.

    An invertible matrix on the right of `X` changes no pattern, so the geometry may use
    ``Q = X T`` with orthonormal columns instead of a badly conditioned `X`.
    """

    rows: np.ndarray  # (n, rank), unit rows
    error: np.ndarray  # (n,), rounding error of each row
    back: np.ndarray  # (d, rank), takes a point in these coordinates to a gate
    lift: float  # largest relative change of a row of X per unit change of a row here
    truncated: float  # relative change of the rows of X by the rank decision

    @classmethod
    def of(cls, scaled: np.ndarray, column_scale: np.ndarray) -> _RowSpace:
        _, s, Vt = np.linalg.svd(scaled, full_matrices=False)
        rank = int(np.sum(s > _EPS * max(scaled.shape) * s[0]))
        s, Vt = s[:rank], Vt[:rank]
        T = Vt.T / s
        Q = scaled @ T  # row by row, so that the error of a row is relative to that row
        length = np.linalg.norm(Q, axis=1)
        noise = math.sqrt(scaled.shape[1]) * _EPS * np.linalg.norm(scaled, axis=1) / s[-1]
        original = np.linalg.norm(scaled / column_scale, axis=1)
        spread = np.linalg.norm((s[:, None] * Vt) / column_scale, 2)
        lost = np.linalg.norm((scaled - (Q * s) @ Vt) / column_scale, axis=1) / original
        return cls(
            rows=Q / length[:, None],
            error=2 * _EPS + noise / length,
            back=column_scale[:, None] * T,
            lift=float(np.max(length * spread / original)),
            truncated=float(np.max(lost)) if rank < min(scaled.shape) else 0.0,
        )


class _Search:
    """Deletion and restriction, with the state that all levels of the recursion share.

    Distances up to `low` (more where rounding errors are larger) count as zero, from `ratio`
    times that on as genuine; in the plane angles are good to the last bits. `murky`: one fell
    between the two, or the bookkeeping did not add up. `merged`: something counted as zero.
    `hidden`: the largest such distance, rounding error included.
    """

    def __init__(self, n: int, rank: int, limit: int) -> None:
        rng = np.random.default_rng(0)
        self.codes = rng.integers(0, 2**63, size=n, dtype=np.uint64)
        self.probe = _unit(rng.standard_normal((1, rank)))[0]
        self.bound, self.limit = count_bound(n, rank), limit
        self.low, self.ratio = (1e-12, 100.0) if rank > 2 else (1e-14, 10.0)
        self.murky, self.merged, self.hidden = False, False, 0.0

    def stop_above(self, count: int) -> None:
        if count > self.limit:
            raise TooManyPatterns(self.bound, self.limit)

    def same(self, gap: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Decide which gaps, known up to `noise`, are zero; keep the record of the decisions."""
        low = np.maximum(self.low, 4 * noise)
        zero = gap <= low
        if np.any(zero):
            self.merged = True
            self.hidden = max(self.hidden, float(np.max((gap + noise)[zero])))
        self.murky |= bool(np.any(np.where(zero, noise > _TOO_NOISY, gap < self.ratio * low)))
        return zero

    def leaders(self, rows: np.ndarray, error: np.ndarray) -> np.ndarray:
        """For every unit row the first row that is parallel to it, in either direction."""
        leader = np.arange(len(rows))
        # Parallel rows have the same |row . probe|, so only neighbours in that order can be.
        key = np.abs(rows @ self.probe[: rows.shape[1]])
        order = np.argsort(key)
        reach = self.ratio * max(self.low, 8 * float(error.max()))
        starts = np.flatnonzero(np.diff(key[order], prepend=-1.0) > reach)
        ends = np.append(starts[1:], len(rows))
        for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
            chain = np.sort(order[start:end])
            while len(chain) > 1:
                head, chain = chain[0], chain[1:]
                gap = _line_gap(rows[chain], rows[head])
                zero = self.same(gap, error[chain] + error[head])
                leader[chain[zero]] = head
                chain = chain[~zero]
        return leader

    def sweep(self, rows: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Half the cells in the plane: the middles of the gaps between the directions."""
        angle = np.arctan2(rows[:, 1], rows[:, 0]) % np.pi
        order = np.argsort(angle)
        angle, error = angle[order], error[order]
        gap = np.append(angle[1:], angle[0] + np.pi) - angle
        wide = ~self.same(gap, error + np.roll(error, -1))
        middle = (angle + gap / 2)[wide]
        return np.stack([-np.sin(middle), np.cos(middle)], axis=1)

    def half_cells(self, rows: np.ndarray, error: np.ndarray) -> np.ndarray:
        """A unit interior point for one cell of each pair of opposite cells, (cells / 2, rank)."""
        rank = rows.shape[1]
        if rank == 1:
            return np.ones((1, 1))
        if rank == 2:
            return self.sweep(rows, error)
        kept = np.flatnonzero(self.leaders(rows, error) == np.arange(len(rows)))
        kept = kept[_basis_first(rows[kept])]
        rows, error = rows[kept], error[kept]
        self.stop_above(2**rank)
        corner = np.arange(0, 2**rank, 2)[:, None] >> np.arange(rank) & 1
        points = _unit(np.linalg.solve(rows[:rank], 1.0 - 2.0 * corner.T).T)
        keys = (corner == 0) @ self.codes[:rank]
        for j in range(rank, len(rows)):
            points, keys = self.add(points, keys, rows[: j + 1], error[: j + 1])
        return points

    def add(
        self, points: np.ndarray, keys: np.ndarray, rows: np.ndarray, error: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Split the cells of all rows but the last by the hyperplane of the last.

        The key of a cell is the sum of random codes of its positive rows, the first among them.
        """
        new, old, code = rows[-1], rows[:-1], self.codes[len(rows) - 1]
        basis = np.linalg.qr(new[:, None], mode="complete")[0][:, 1:]  # of the new hyperplane
        trace = old @ basis
        sine = np.linalg.norm(trace, axis=1)
        noise = (error[:-1] + error[-1] + 2 * _EPS) / sine
        walls = self.half_cells(trace / sine[:, None], noise) @ basis.T
        self.stop_above(2 * (len(points) + len(walls)))
        height = walls @ old.T
        turn = np.where(height[:, :1] > 0, 1.0, -1.0)
        walls, height = walls * turn, height * turn
        wall_keys = (height > 0) @ self.codes[: len(old)]
        whole = ~np.isin(keys, wall_keys)
        self.murky |= int(np.sum(~whole)) != len(walls)
        keys = keys[whole] + np.where(points[whole] @ new > 0, code, np.uint64(0))
        # The step that leaves equal room to the new hyperplane and to the nearest old one.
        slope = np.sign(height) * (old @ new)
        up = np.min(np.abs(height) / np.maximum(1 - slope, _EPS), axis=1, keepdims=True)
        down = np.min(np.abs(height) / np.maximum(1 + slope, _EPS), axis=1, keepdims=True)
        halves = _unit(np.concatenate([walls + up * new, walls - down * new]))
        keys = np.concatenate([keys, wall_keys + code, wall_keys])
        return np.concatenate([points[whole], halves]), keys


def _matrix(X: Any) -> np.ndarray:
    X = to_numpy(X)
    if X.ndim != 2 or not np.all(np.isfinite(X)):
        raise ValueError("expected a matrix with finite entries, one row for each sample or gate")
    return X


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _distinct(bits: np.ndarray) -> np.ndarray:
    """Index of the first of each distinct row, in lexicographic order of the rows."""
    if bits.shape[1] == 0:
        return np.arange(min(1, len(bits)))
    whole_rows = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1])))[:, 0]
    return np.unique(whole_rows, return_index=True)[1]


def _equilibrate(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`X` with rows and columns scaled to order one by powers of two, and the column scales."""
    rows, columns = np.zeros(len(X), dtype=int), np.zeros(X.shape[1], dtype=int)
    scaled = X
    for _ in range(3):
        for shift, axis in ((columns, 0), (rows, 1)):
            shift -= np.frexp(np.max(np.abs(scaled), axis=axis))[1]
            scaled = np.ldexp(X, rows[:, None] + columns)
    columns -= np.max(columns[X.any(axis=0)])
    return scaled, np.ldexp(1.0, np.minimum(columns, 0))


def _stop_early(rows: np.ndarray, bound: int, limit: int) -> None:
    """Raise where random gates alone show more than `limit` patterns, on some of the rows."""
    if bound <= limit:
        return
    rng = np.random.default_rng(0)
    rows = rows[:: -(-len(rows) // 512)]
    codes = rng.integers(0, 2**43, size=len(rows)).astype(float)  # sums are exact in float64
    seen, step = np.empty(0), min(8192, max(256, limit // 4))
    for _ in range(0, limit, step):
        known = len(seen)
        side = rows @ rng.standard_normal((rows.shape[1], step)) > 0
        seen = np.unique(np.append(seen, codes @ (side == side[0])))
        if 2 * len(seen) > limit:  # opposite gates share a code, and their patterns differ
            raise TooManyPatterns(bound, limit)
        if len(seen) - known < step // 4:
            return


def _line_gap(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of unit rows from other unit rows or their negatives, whichever are nearer."""
    return np.minimum(*(np.linalg.norm(rows - t * others, axis=1) for t in (1.0, -1.0)))


def _basis_first(rows: np.ndarray) -> np.ndarray:
    """Order of the rows with a well-conditioned basis in front (pivoted Gram-Schmidt)."""
    rest, front = rows.copy(), []
    for _ in range(rows.shape[1]):
        length = np.einsum("ij,ij->i", rest, rest)
        front.append(int(np.argmax(length)))
        axis = rest[front[-1]] / math.sqrt(length[front[-1]])
        rest -= np.outer(rest @ axis, axis)
    return np.concatenate([front, np.delete(np.arange(len(rows)), front)])


def _confirmed(X: np.ndarray, gates: np.ndarray, rows: np.ndarray, points: np.ndarray) -> bool:
    """Whether every gate has on `X` the signs of its point, beyond the rounding of the product."""
    slack = 2 * (X.shape[1] + 1) * _EPS
    for block in _blocks(len(gates), len(X)):
        value = (gates[block] @ X.T) * np.where(points[block] @ rows.T > 0, 1.0, -1.0)
        if np.any(value <= slack * (np.abs(gates[block]) @ np.abs(X).T)):
            return False
    return True


def _blocks(patterns: int, n: int) -> list[slice]:
    """Slices of the patterns that keep a temporary matrix of patterns times samples small."""
    # a temporary that fits the cache and is not asked of the system anew each time
    step = max(32, 2**17 // max(1, n))
    return [slice(i, i + step) for i in range(0, max(1, patterns), step)]
