r"""All cells of a central arrangement of hyperplanes, by deletion and restriction.

When a hyperplane :math:`H` joins an arrangement, the cells that it splits are exactly the cells of the
arrangement drawn on :math:`H` by the others, a problem of rank :math:`r-1`. A point inside a cell
on :math:`H`, moved a little to either side, lies inside the two halves. No linear program is
needed, the work follows the number of cells found, and data with parallel or dependent rows need
no special case: hyperplanes that draw the same trace on :math:`H` are merged there.

Floating point enters in one place only, the decision whether two traces coincide. Rounding errors
are propagated through the projections; a distance well below a threshold is taken as zero, one
well above it as genuine, and one between the two forfeits the claim of completeness.

References: Zaslavsky 1975 (deletion and restriction); Edelsbrunner, O'Rourke and Seidel
1986 (incremental construction); Rada and Cerny 2018 (incremental enumeration by sign vectors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

EPS = float(np.finfo(np.float64).eps)
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


@dataclass(frozen=True)
class RowSpace:
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
    def of(cls, scaled: np.ndarray, column_scale: np.ndarray) -> RowSpace:
        _, s, Vt = np.linalg.svd(scaled, full_matrices=False)
        rank = int(np.sum(s > EPS * max(scaled.shape) * s[0]))
        s, Vt = s[:rank], Vt[:rank]
        T = Vt.T / s
        Q = scaled @ T  # row by row, so that the error of a row is relative to that row
        length = np.linalg.norm(Q, axis=1)
        noise = math.sqrt(scaled.shape[1]) * EPS * np.linalg.norm(scaled, axis=1) / s[-1]
        original = np.linalg.norm(scaled / column_scale, axis=1)
        spread = np.linalg.norm((s[:, None] * Vt) / column_scale, 2)
        lost = np.linalg.norm((scaled - (Q * s) @ Vt) / column_scale, axis=1) / original
        return cls(
            rows=Q / length[:, None],
            error=2 * EPS + noise / length,
            back=column_scale[:, None] * T,
            lift=float(np.max(length * spread / original)),
            truncated=float(np.max(lost)) if rank < min(scaled.shape) else 0.0,
        )


class Search:
    """Deletion and restriction, with the state that all levels of the recursion share.

    Distances up to `low` (more where rounding errors are larger) count as zero, from `ratio`
    times that on as genuine; in the plane angles are good to the last bits. `murky`: one fell
    between the two, or the bookkeeping did not add up. `merged`: something counted as zero.
    `hidden`: the largest such distance, rounding error included.
    """

    def __init__(self, n: int, rank: int, limit: int) -> None:
        rng = np.random.default_rng(0)
        self.codes = rng.integers(0, 2**63, size=n, dtype=np.uint64)
        self.probe = unit_rows(rng.standard_normal((1, rank)))[0]
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
                gap = line_gap(rows[chain], rows[head])
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
        points = unit_rows(np.linalg.solve(rows[:rank], 1.0 - 2.0 * corner.T).T)
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
        noise = (error[:-1] + error[-1] + 2 * EPS) / sine
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
        up = np.min(np.abs(height) / np.maximum(1 - slope, EPS), axis=1, keepdims=True)
        down = np.min(np.abs(height) / np.maximum(1 + slope, EPS), axis=1, keepdims=True)
        halves = unit_rows(np.concatenate([walls + up * new, walls - down * new]))
        keys = np.concatenate([keys, wall_keys + code, wall_keys])
        return np.concatenate([points[whole], halves]), keys


def equilibrate(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`X` with rows and columns scaled to order one by powers of two, and the column scales."""
    rows, columns = np.zeros(len(X), dtype=int), np.zeros(X.shape[1], dtype=int)
    scaled = X
    for _ in range(3):
        for shift, axis in ((columns, 0), (rows, 1)):
            shift -= np.frexp(np.max(np.abs(scaled), axis=axis))[1]
            scaled = np.ldexp(X, rows[:, None] + columns)
    columns -= np.max(columns[X.any(axis=0)])
    return scaled, np.ldexp(1.0, np.minimum(columns, 0))


def stop_early(rows: np.ndarray, bound: int, limit: int) -> None:
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


def line_gap(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
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


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
