r"""Activation patterns: the cells that the samples cut out of the space of gates.

The pattern :math:`1[Xu\ge0]` of a hidden unit is constant on each cell of the central arrangement
of the hyperplanes :math:`\{x_i^\top u=0\}`, so a two-layer ReLU network has one convex block for
each cell. For :math:`n` samples of rank :math:`r` there are at most

.. math:: P(n,r)=2\sum_{k<r}\binom{n-1}{k}

cells, with equality in general position. How they are listed: :mod:`cvxnn.cells`.

Reference: Zaslavsky 1975 (the count).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from cvxnn.arrays import to_numpy

from .cells import (
    EPS,
    RowSpace,
    Search,
    TooManyPatterns,
    count_bound,
    equilibrate,
    line_gap,
    stop_early,
    unit_rows,
)

__all__ = ["Arrangement", "TooManyPatterns", "count_bound", "pack", "patterns_of"]

_FINEST = 1e-15  # resolution of data in which nothing was merged


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
        return cls.from_gates(X, unit_rows(rng.standard_normal((n_patterns, X.shape[1]))))

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
        scaled, column_scale = equilibrate(rows)
        stop_early(scaled, count_bound(len(rows), min(rows.shape)), limit)
        frame = RowSpace.of(scaled, column_scale)
        n, rank = frame.rows.shape
        search = Search(n, rank, limit)
        stop_early(frame.rows, search.bound, limit)
        leader = search.leaders(frame.rows, frame.error)
        heads = np.flatnonzero(leader == np.arange(n))
        unit = unit_rows(rows / np.max(np.abs(rows), axis=1, keepdims=True))
        hidden = max(frame.truncated, float(np.max(line_gap(unit, unit[leader]))))
        search.hidden = 0.0  # the gaps of this level have just been measured on X itself
        half = search.half_cells(frame.rows[heads], frame.error[heads])
        search.stop_above(2 * len(half))
        points = np.concatenate([half, -half])
        gates = unit_rows(points @ frame.back.T)
        found = cls.from_gates(X, gates)
        side = np.sign(np.sum(frame.rows * frame.rows[leader], axis=1, keepdims=True))
        sound = _confirmed(rows, gates, side * frame.rows[leader], points)
        full = len(found) == count_bound(len(heads), rank)
        # Distinct patterns in the largest possible number are a proof by themselves.
        proven = full and hidden <= 8 * EPS
        clear = not search.murky and (full or search.merged) and len(found) == len(gates)
        if not (sound and (proven or clear)):
            return found
        resolution = max(_FINEST, hidden, 0.0 if proven else frame.lift * search.hidden)
        return replace(found, complete=True, resolution=resolution)


def _matrix(X: Any) -> np.ndarray:
    X = to_numpy(X)
    if X.ndim != 2 or not np.all(np.isfinite(X)):
        raise ValueError("expected a matrix with finite entries, one row for each sample or gate")
    return X


def _distinct(bits: np.ndarray) -> np.ndarray:
    """Index of the first of each distinct row, in lexicographic order of the rows."""
    if bits.shape[1] == 0:
        return np.arange(min(1, len(bits)))
    whole_rows = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1])))[:, 0]
    return np.unique(whole_rows, return_index=True)[1]


def _confirmed(X: np.ndarray, gates: np.ndarray, rows: np.ndarray, points: np.ndarray) -> bool:
    """Whether every gate has on `X` the signs of its point, beyond the rounding of the product."""
    slack = 2 * (X.shape[1] + 1) * EPS
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
