r"""The design matrix that hidden neurons see, in as few coordinates as it has rank.

A neuron computes ``phi(X w)`` on the data, so of its weights only the part in the row space of X matters,
and the part outside costs without computing anything. With an orthonormal basis B of the row space, neurons
are ``w = B u`` with ``|w| = |u|``: patterns, cones, norms and prices are the same in the coordinates u, of
which there are as many as X has rank.

A free bias keeps a coordinate of its own, since it pays nothing. For the same reason it does not matter to
a network where the origin of the data is, ``x'w + b = (x - m)'w + (b + m'w)``, and here it is at their mean
m: far from it all samples look alike, cells are slivers, and sums cancel. Weights leave for a network, and
come from one, through :meth:`Design.weights` and :meth:`Design.coordinates`, which move the bias.

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
        Data, with a column of ones where neurons have a bias, times `basis`; around their mean where the
        bias is free.
    basis : ndarray of shape (d, r)
        Orthonormal columns; a free bias keeps its own coordinate, the last, in a unit of its own.
    free : int
        Trailing unpenalised coordinates; with one, dual variables must sum to zero.
    slope : float
        Of the activation on the negative side: neurons u compute ``max(Xu, slope * Xu)``.
    pool : int
        Rows of X that each sample has, one after the other: a neuron adds up what it computes on them, as
        in a convolution whose outputs are pooled.
    origin : ndarray of shape (d - 1,), or None
        What a free bias of one makes up for in the coordinates of X; None where nothing was moved.
    """

    X: np.ndarray
    basis: np.ndarray
    free: int = 0
    slope: float = 0.0
    pool: int = 1
    origin: np.ndarray | None = None

    @classmethod
    def reduce(cls, full: np.ndarray, free: int, slope: float = 0.0, pool: int = 1) -> Design:
        """Reduce a matrix to its row space, which changes no pattern, cone or norm.

        A matrix of full column rank is left in its own coordinates, but for the origin that a free bias
        lets us choose. A free bias comes in units in which its column is one, whatever it was (means over
        windows divide it as well): searches know where kinks are then, and the unit costs nothing.
        """
        unit, origin = 1.0, None
        if free:
            full, origin = centred(full)
            unit, full[:, -1] = 1.0 / float(full[0, -1]), 1.0
        kept = full[:, : full.shape[1] - free]
        # of many samples the triangular factor has the same singular values and row space, sooner
        tall = len(kept) > 4 * kept.shape[1]
        square = np.linalg.qr(kept, mode="r") if tall else kept
        _, size, Vt = np.linalg.svd(square, full_matrices=False)
        floor = max(kept.shape) * np.finfo(float).eps * np.max(size, initial=0.0)
        rank = max(1, int(np.sum(size > floor)))  # one coordinate even where all data are zero
        basis = np.eye(full.shape[1])
        if rank != kept.shape[1]:
            basis = np.zeros((full.shape[1], rank + free))
            basis[: kept.shape[1], :rank] = Vt[:rank].T
            if free:
                basis[-1, -1] = 1.0
            full = full @ basis
        if free:
            basis[-1, -1] = unit
        return cls(full, basis, free, slope, pool, origin)

    def weights(self, U: np.ndarray) -> np.ndarray:
        """Return the weights (k, d), the bias last if any, of neurons in coordinates ``U`` (k, r)."""
        full = U @ self.basis.T
        if self.origin is not None:
            full[:, -1] -= full[:, :-1] @ self.origin
        return full

    def coordinates(self, full: np.ndarray) -> np.ndarray:
        """Return the coordinates (k, r) of neurons with weights ``full`` (k, d), the bias last if any.

        Columns beyond are left out: layers have biases where families have none.
        """
        full = full[:, : len(self.basis)]
        if self.origin is not None:
            full = np.column_stack([full[:, :-1], full[:, -1] + full[:, :-1] @ self.origin])
        found = full @ self.basis
        if self.free:
            found[:, -1] /= self.basis[-1, -1] ** 2
        return found

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


def centred(full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move the origin of data to their mean.

    Parameters
    ----------
    full : ndarray of shape (n, d)
        The last column is one number, that of the bias.

    Returns
    -------
    full : ndarray of shape (n, d)
    origin : ndarray of shape (d - 1,)
        ``full[:, :-1]`` was ``full'[:, :-1] + full[:, -1:] * origin``.
    """
    # By way of a sample: differences are exact where sums of what is far away are not, so that data of low
    # rank stay so, and data that are moved without rounding have the very same design.
    X, first = full[:, :-1] - full[0, :-1], full[0, :-1]
    middle = np.mean(X, axis=0)
    return np.column_stack([X - middle, full[:, -1]]), (first + middle) / float(full[0, -1])
