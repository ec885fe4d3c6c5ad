r"""The design matrix that hidden neurons see, in as few coordinates as it has rank.

A neuron computes ``phi(X w)`` on the data, so of its weights only the part in the row space of X matters,
and the part outside costs without computing anything. With an orthonormal basis B of the row space, neurons
are ``w = B u`` with ``|w| = |u|``: patterns, cones, norms and prices are the same in the coordinates u, of
which there are as many as X has rank. A free bias keeps a coordinate of its own, since it pays nothing.

Reference: Pilanci and Ergen, ICML 2020, section 2 (data of low rank).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .patches import pooled, spread
from .walks import rectify


@dataclass(frozen=True, eq=False)
class Design:
    """The design matrix of the neurons, in the coordinates of its row space.

    Parameters
    ----------
    X : ndarray of shape (n, r)
        Data, with a column of ones where neurons have a bias, times `basis`.
    basis : ndarray of shape (d, r)
        Orthonormal columns; a free bias keeps its own coordinate, the last.
    free : int
        Trailing unpenalised coordinates; with one, dual variables must sum to zero.
    slope : float
        Of the activation on the negative side: neurons u compute ``max(Xu, slope * Xu)``.
    pool : int
        Rows of X that each sample has, one after the other: a neuron adds up what it computes on them, as
        in a convolution whose outputs are pooled.
    """

    X: np.ndarray
    basis: np.ndarray
    free: int = 0
    slope: float = 0.0
    pool: int = 1

    @classmethod
    def reduce(cls, full: np.ndarray, free: int, slope: float = 0.0, pool: int = 1) -> Design:
        """Reduce a matrix to its row space, which changes no pattern, cone or norm.

        A matrix of full column rank is left in its own coordinates.
        """
        kept = full[:, : full.shape[1] - free]
        # of many samples the triangular factor has the same singular values and row space, sooner
        tall = len(kept) > 4 * kept.shape[1]
        square = np.linalg.qr(kept, mode="r") if tall else kept
        _, size, Vt = np.linalg.svd(square, full_matrices=False)
        floor = max(kept.shape) * np.finfo(float).eps * np.max(size, initial=0.0)
        rank = max(1, int(np.sum(size > floor)))  # one coordinate even where all data are zero
        if rank == kept.shape[1]:
            return cls(full, np.eye(full.shape[1]), free, slope, pool)
        basis = np.zeros((full.shape[1], rank + free))
        basis[: kept.shape[1], :rank] = Vt[:rank].T
        if free:
            basis[-1, -1] = 1.0
        return cls(full @ basis, basis, free, slope, pool)

    @property
    def reach(self) -> float:
        """The largest free bias a unit neuron needs: beyond it all samples are on, or all off."""
        rows = self.X[:, : self.X.shape[1] - self.free]
        return float(np.max(np.linalg.norm(rows, axis=1), initial=0.0))

    def outputs(self, U: np.ndarray) -> np.ndarray:
        """What neurons ``U`` (k, r) compute on the data, shape (samples, k)."""
        return pooled(rectify(self.X @ U.T, self.slope), self.pool)

    @property
    def samples(self) -> int:
        """The number of samples, each with `pool` rows."""
        return len(self.X) // self.pool

    def spread(self, z: np.ndarray) -> np.ndarray:
        """Give every row of X the entry of its sample, the adjoint of adding up."""
        return spread(z, self.pool)

    def turned(self, U: np.ndarray) -> np.ndarray:
        """Which rows of ``U`` (k, r) to take with the other sign, so that equal neurons have equal rows.

        An even activation computes the same with u and -u; the first sample that is not zero says which is
        meant. Others never turn.
        """
        rows = np.flatnonzero(np.any(self.X != 0, axis=1))
        if self.slope != -1.0 or not len(rows):
            return np.zeros(len(U), dtype=bool)
        return np.asarray(self.X[rows[0]] @ U.T < 0)

    def norms(self, W: np.ndarray) -> np.ndarray:
        """The norms of the penalised coordinates of rows ``W`` (k, r)."""
        return np.linalg.norm(W[:, : W.shape[1] - self.free], axis=1)
