r"""Projections on the balls of dual norms of matrices, with their derivatives.

The projection of ``Y = P diag(s) Q'`` on the matrices of spectral norm at most r cuts its singular values,
``g(s) = min(s, r)``. In the basis of all singular vectors, ``D = P' dY Q``, its derivative is

    sym(D)_ij (g_i - g_j) / (s_i - s_j)  +  skew(D)_ij (g_i + g_j) / (s_i + s_j),

on the square part, with g' where singular values are equal, and ``D_ij g_j / s_j`` beyond. That of norms of
columns scales every column on its own.

Reference: Lewis and Sendov, SIAM J. Matrix Anal. 2005; Ding, Sun, Sun and Toh, Math. Prog. 2018.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Columns", "Singular"]


class Singular:
    """The projection of a matrix on those of spectral norm at most `radius`.

    Parameters
    ----------
    point : ndarray of shape (r, k)
    radius : float

    Attributes
    ----------
    projected : ndarray of shape (r, k)
    beyond : float
        The nuclear norm of what the projection takes away.
    right : ndarray of shape (k, k)
        The basis of rows in which :meth:`add` has the derivative; :meth:`turned` is that of columns.
    """

    right: np.ndarray | None

    def __init__(self, point: np.ndarray, radius: float) -> None:
        self.point, self.radius = point, radius
        left, self.sizes, right = np.linalg.svd(point, full_matrices=True)
        self.left, self.right = left, right.T
        m = len(self.sizes)
        self.cut = np.minimum(self.sizes, radius)
        # from what is cut off, which is exactly zero where all is inside
        rest = (left[:, :m] * (self.sizes - self.cut)) @ right[:m]
        self.projected, self.beyond = point - rest, float(np.sum(self.sizes - self.cut))

    def turned(self, G: np.ndarray) -> np.ndarray:
        """Return the columns of ``G`` (r, any) in the basis of the left singular vectors."""
        return self.left.T @ G

    def back(self, D: np.ndarray) -> np.ndarray:
        """Undo :meth:`turned`."""
        return self.left @ D

    def add(self, K: np.ndarray, factor: float) -> None:
        """Add `factor` times the derivative to ``K`` (r or more, k, r or more, k), in place."""
        rows, outputs = self.point.shape
        m, s, g = len(self.sizes), self.sizes, self.cut
        i, j = np.arange(m)[:, None], np.arange(m)[None, :]
        # both beyond the radius: 0; both inside: 1; one of each: a chord of the cut
        inside = s <= self.radius
        apart, chord = s[:, None] - s[None, :], g[:, None] - g[None, :]
        mixed = inside[:, None] != inside[None, :]
        even = np.where(mixed & (apart != 0.0), chord / np.where(apart != 0.0, apart, 1.0), 0.0)
        even = np.where(inside[:, None] & inside[None, :], 1.0, even)
        total = s[:, None] + s[None, :]
        odd = np.where(total > 0.0, (g[:, None] + g[None, :]) / np.where(total > 0.0, total, 1.0), 1.0)
        K[i, j, i, j] += 0.5 * factor * (even + odd)
        K[i, j, j, i] += 0.5 * factor * (even - odd)
        share = factor * np.where(s > 0.0, g / np.where(s > 0.0, s, 1.0), 1.0)
        # rows and columns beyond the square part, whose singular values are zero
        i, j = np.arange(m, rows)[:, None], np.arange(m)[None, :]
        K[i, j, i, j] += share[None, :]
        i, j = np.arange(m)[:, None], np.arange(m, outputs)[None, :]
        K[i, j, i, j] += share[:, None]


class Columns:
    """The projection of every column on the ball of norm `radius`; attributes as of :class:`Singular`."""

    right: np.ndarray | None = None

    def __init__(self, point: np.ndarray, radius: float) -> None:
        self.point, self.radius = point, radius
        self.norms = np.linalg.norm(point, axis=0)
        self.share = np.minimum(1.0, radius / np.where(self.norms > 0.0, self.norms, radius))
        self.projected = point * self.share
        self.beyond = float(np.sum(np.maximum(self.norms - radius, 0.0)))

    def turned(self, G: np.ndarray) -> np.ndarray:
        """Columns stay in their own basis."""
        return G

    def back(self, D: np.ndarray) -> np.ndarray:
        """Undo :meth:`turned`: nothing."""
        return D

    def add(self, K: np.ndarray, factor: float) -> None:
        """Add `factor` times the derivative to ``K`` (r or more, k, r or more, k), in place."""
        rows, outputs = self.point.shape
        at = np.arange(rows)
        for k in range(outputs):
            K[at, k, at, k] += factor * self.share[k]
            if self.share[k] < 1.0:
                unit = self.point[:, k] / self.norms[k]
                K[:rows, k, :rows, k] -= factor * self.share[k] * np.outer(unit, unit)
