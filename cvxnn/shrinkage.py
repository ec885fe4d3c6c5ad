r"""The shrinkage of singular values, and its derivative as a few directions.

The prox of ``tau |.|_*`` takes ``V = P diag(s) Q'`` to ``P diag(h) Q'``, ``h = (s - tau)_+``. In the bases
of all singular vectors, ``D = P' dV Q``, its derivative is

    sym(D)_ij (h_i - h_j) / (s_i - s_j)  +  skew(D)_ij (h_i + h_j) / (s_i + s_j)

on the square part and ``D_ij h_j / s_j`` beyond it. Nothing comes of entries whose two singular values are
shrunk to zero, so that it is a sum over ``r (rows + columns - r)`` matrices of rank one or two for a result
of rank r.

Reference: Ding, Sun, Sun and Toh, Math. Prog. 2018; Lewis and Sendov, SIAM J. Matrix Anal. 2005.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Shrinkage"]


class Shrinkage:
    """The shrinkage of the singular values of some matrices.

    Parameters
    ----------
    point : ndarray of shape (groups, rows, columns)
    threshold : float

    Attributes
    ----------
    value : ndarray of shape (groups, rows, columns)
    active : ndarray of int
        The groups whose value is not zero.
    """

    def __init__(self, point: np.ndarray, threshold: float) -> None:
        self.point, self.threshold = point, threshold
        self.value = np.zeros_like(point)
        # the spectral norm is at most that of Frobenius
        near = np.flatnonzero(np.sqrt(np.sum(point * point, axis=(1, 2))) > threshold)
        left, sizes, right = np.linalg.svd(point[near], full_matrices=False)
        kept = np.maximum(sizes - threshold, 0.0)
        self.value[near] = (left * kept[:, None, :]) @ right
        self.active = near[kept[:, 0] > 0.0] if len(near) else near

    def factors(self, A: np.ndarray, outputs: int) -> np.ndarray:
        """Return Y with ``Y Y' = A Q A*``, Q the derivative.

        Parameters
        ----------
        A : ndarray of shape (n, groups * entries)
            Of one output: what the weights of a group, read as ``(entries, outputs)``, are multiplied by.
        outputs : int

        Returns
        -------
        ndarray of shape (n, outputs, directions)
        """
        groups, rows, columns = self.point.shape
        windows = columns // outputs
        B = A.reshape(len(A), groups, rows, windows)
        parts = [self._factor(B[:, g], self.point[g], outputs) for g in self.active]
        return np.concatenate([np.zeros((len(A), outputs, 0)), *parts], axis=2)

    def _factor(self, B: np.ndarray, V: np.ndarray, outputs: int) -> np.ndarray:
        """The factors of one group, whose part of the operator is B (n, rows, windows)."""
        left, s, right = np.linalg.svd(V, full_matrices=True)
        m = len(s)
        h = np.maximum(s - self.threshold, 0.0)
        rank = int(np.sum(h > 0.0))
        T = np.einsum("nrw,ra->nwa", B, left)
        R = right.T.reshape(B.shape[2], outputs, -1)
        entry = _entries(T[:, :, :rank], R)  # of the first rows in the basis: (n, outputs, rank, columns)
        other = _entries(T, R[:, :, :rank])  # and of the first columns: (n, outputs, rows, rank)
        i, j = np.triu_indices(m, 1)
        i, j = i[i < rank], j[i < rank]
        even = (h[i] - h[j]) / np.where(s[i] > s[j], s[i] - s[j], 1.0)
        even = np.where((s[i] > s[j]) & (h[j] == 0.0), even, 1.0)  # both beyond the threshold: one
        odd = (h[i] + h[j]) / (s[i] + s[j])
        ahead, behind = entry[:, :, i, j], other[:, :, j, i]
        own = np.arange(rank)
        share = np.sqrt(h[:rank] / s[:rank])
        return np.concatenate(
            [
                entry[:, :, own, own],
                (ahead + behind) * np.sqrt(0.5 * even),
                (ahead - behind) * np.sqrt(0.5 * odd),
                (entry[:, :, :, m:] * share[:, None]).reshape(len(B), outputs, -1),
                (other[:, :, m:, :] * share).reshape(len(B), outputs, -1),
            ],
            axis=2,
        )


def _entries(T: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Predictions (n, o, a, b) of matrices ``p_a q_b'``, from T (n, windows, a) and R (windows, o, b)."""
    return np.einsum("nwa,wob->noab", T, R, optimize=True)
