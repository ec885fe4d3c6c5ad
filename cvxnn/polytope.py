r"""Nonnegative magnitudes that reproduce a given sum of columns: a polytope, its points and its vertices.

For columns ``e_1 ... e_k`` and a point ``a0 >= 0`` the set

    { a >= 0 : E a = E a0 }  =  { a0 + N t >= 0 },      N an orthonormal basis of the nullspace of E,

is a polytope (it is bounded where some functional is positive on all columns). Written in t every point
satisfies the equations to rounding, whatever is done with it. Its vertices are the points whose columns
with a positive coefficient are linearly independent: from any point one gets there by moving along null
vectors of the used columns until a coefficient reaches zero. The point of least Euclidean norm is a
least-distance problem in t, which nonnegative least squares solves in finitely many steps.

References: Rosset, Swirszcz, Srebro and Zhu, COLT 2007, and Mishkin and Pilanci, ICML 2023 (pruning along
null vectors); Lawson and Hanson, Solving Least Squares Problems, chapter 23 (least distance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.optimize import linprog, nnls

__all__ = ["Polytope", "TooManyVertices"]

#: Singular values below this share of the largest, of columns of unit length, are zero.
RANK = 1e-10
#: Coefficients below this share of the sum are zero.
ZERO = 1e-9
#: Subsets of columns that an enumeration of vertices looks at, at most.
LIMIT = 200_000


class TooManyVertices(ValueError):
    """Listing the vertices would take more work than allowed."""


@dataclass(frozen=True, eq=False)
class Polytope:
    """``{ a >= 0 : E a = E a0 }``.

    Parameters
    ----------
    columns : ndarray of shape (n, k)
        ``E``; no column is zero.
    start : ndarray of shape (k,)
        ``a0``, a point of it.

    Attributes
    ----------
    interior : ndarray of shape (k,)
        A point that is positive wherever a point of the polytope is.
    support : bool ndarray of shape (k,)
        Where it is positive.
    basis : ndarray of shape (k, dimension)
        Directions of the polytope's affine hull.
    """

    columns: np.ndarray
    start: np.ndarray
    interior: np.ndarray = field(init=False)
    support: np.ndarray = field(init=False)
    basis: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        interior = self._widest(null_basis(self.columns))
        support = interior > ZERO * np.sum(interior)
        basis = np.zeros((len(interior), 0))
        if np.any(support):
            inner = null_basis(self.columns[:, support])
            basis = np.zeros((len(interior), inner.shape[1]))
            basis[support] = inner
        for name, value in (("interior", interior), ("support", support), ("basis", basis)):
            object.__setattr__(self, name, value)

    @property
    def dimension(self) -> int:
        """0 for a single point."""
        return int(self.basis.shape[1])

    def _widest(self, N: np.ndarray) -> np.ndarray:
        """A point with as many positive coefficients as any, by one linear program.

        The cone over the polytope is searched for a point with ``min(a_j, 1)`` as large as possible
        in sum: scaling up is free, so every coefficient that can be positive reaches 1.
        """
        size = float(np.sum(self.start))
        if N.shape[1] == 0 or size == 0.0:
            return self.start
        k, dim = N.shape
        # unknowns t (free), tau (the scale), s in [0, 1];  s <= tau a0 + N t
        A = np.hstack([-N, -self.start[:, None] / size, np.eye(k)])
        cost = np.concatenate([np.zeros(dim + 1), -np.ones(k)])
        bounds = [(None, None)] * dim + [(1.0, 1e7)] + [(0.0, 1.0)] * k
        found = linprog(cost, A_ub=A, b_ub=np.zeros(k), bounds=bounds, method="highs")
        if found.status != 0:
            return self.start
        t, tau = found.x[:dim], found.x[dim]
        a = self.start + (size / tau) * (N @ t)
        a[found.x[dim + 1 :] < 0.5] = 0.0
        return self._polished(np.maximum(a, 0.0))

    def _polished(self, a: np.ndarray) -> np.ndarray:
        """Restore the equations by the smallest change of the positive coefficients."""
        used = a > 0
        gap = self.columns @ (self.start - a)
        move = np.linalg.lstsq(self.columns[:, used], gap, rcond=RANK)[0]
        moved = a.copy()
        moved[used] += move
        return moved if np.all(moved[used] >= 0) else a

    def contains(self, a: np.ndarray, tol: float = 1e-8) -> bool:
        """Whether a point is in the polytope, relative to the size of what it reproduces."""
        gap = np.linalg.norm(self.columns @ (a - self.start))
        size = np.linalg.norm(self.columns, axis=0) @ np.abs(self.start)
        return bool(np.all(a >= -tol * np.sum(self.start)) and gap <= tol * (size + 1e-300))

    def prune(self, a: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Move from ``a`` to a vertex, never raising ``cost @ a``.

        Parameters
        ----------
        a : ndarray of shape (k,)
            A point of the polytope.
        cost : ndarray of shape (k,)
            Positive.

        Returns
        -------
        ndarray of shape (k,)
            Its positive coefficients belong to linearly independent columns.
        """
        a = np.where(a > ZERO * np.sum(a), a, 0.0)
        while True:
            used = np.flatnonzero(a)
            if len(used) < 2:
                return a
            # In units of the current fits a step of 1 along b / max(b) removes the largest.
            N = null_basis(self.columns[:, used] * a[used])
            if N.shape[1] == 0:
                return self._polished(a)
            b = N[:, int(np.argmax(np.max(np.abs(N), axis=0)))]
            slope = float((cost[used] * a[used]) @ b)
            # At an optimum all null vectors cost nothing, and the largest coefficient decides.
            exact = abs(slope) <= 1e-12 * float(cost[used] @ a[used])
            down = b[int(np.argmax(np.abs(b)))] if exact else slope
            b = b if down > 0 else -b
            out = int(np.argmax(b))
            a[used] = np.maximum(a[used] * (1.0 - b / b[out]), 0.0)
            a[used[out]] = 0.0
            a[a <= ZERO * np.sum(a)] = 0.0

    def least_norm(self) -> np.ndarray:
        """The point of least Euclidean norm, by nonnegative least squares."""
        if self.dimension == 0:
            return self.interior
        size, kept = float(np.sum(self.interior)), self.support
        a, N = self.interior[kept] / size, self.basis[kept]
        lowest = a - N @ (N.T @ a)  # of least norm if signs did not matter
        # least distance: minimise ||t|| subject to N t >= -lowest
        E, f = np.vstack([N.T, -lowest]), np.append(np.zeros(N.shape[1]), 1.0)
        x, _ = nnls(E, f, maxiter=30 * len(a) + 100)
        r = E @ x - f
        t = -r[:-1] / r[-1]
        found = np.zeros(len(kept))
        found[kept] = size * np.maximum(lowest + N @ t, 0.0)
        found[found <= ZERO * size] = 0.0
        return self._polished(found)

    def extreme(self, weight: np.ndarray) -> np.ndarray:
        """A point that minimises ``weight @ a``, by linear programming."""
        if self.dimension == 0:
            return self.interior
        size, kept = float(np.sum(self.interior)), self.support
        a, N = self.interior[kept] / size, self.basis[kept]
        slope = N.T @ weight[kept]
        scale = float(np.max(np.abs(slope)))
        if scale == 0.0:
            return self.interior
        box = [(None, None)] * N.shape[1]
        found = linprog(slope / scale, A_ub=-N, b_ub=a, bounds=box, method="highs")
        if found.status != 0:
            raise ArithmeticError(f"the linear program over the optimal set failed: {found.message}")
        point = np.zeros(len(kept))
        point[kept] = size * np.maximum(a + N @ found.x, 0.0)
        return self._polished(point)

    def vertices(self, limit: int = LIMIT) -> np.ndarray:
        """All vertices, shape (count, k), in lexicographic order, largest first.

        Raises
        ------
        TooManyVertices
            If more than `limit` subsets of the columns would have to be looked at.
        """
        kept, dim = np.flatnonzero(self.support), self.dimension
        if dim == 0:
            return self.interior[None]
        if math.comb(len(kept), dim) > limit:
            raise TooManyVertices(
                f"the optimal set has dimension {dim} in {len(kept)} neurons, too large to list its "
                f"vertices within {limit:,} trials: raise limit=, or use prune() or sample()"
            )
        size = float(np.sum(self.interior))
        a, N = self.interior[kept] / size, self.basis[kept]
        rows = np.array(list(combinations(range(len(kept)), dim)))
        points = []
        for part in np.array_split(rows, max(1, len(rows) // 10_000)):
            system = N[part]
            well = np.linalg.cond(system) < 1.0 / RANK
            t = np.linalg.solve(system[well], -a[part[well]][..., None])[..., 0]
            point = a + t @ N.T
            np.put_along_axis(point, part[well], 0.0, axis=1)
            points.append(point[np.min(point, axis=1) >= -ZERO])
        found = np.concatenate(points)
        found = np.where(found > 10 * ZERO, found, 0.0)
        _, first = np.unique(np.round(-found, 7), axis=0, return_index=True)
        full = np.zeros((len(first), len(self.support)))
        full[:, kept] = size * found[first]
        return np.array([self._polished(v) for v in full])

    def sample(self, count: int, random_state: np.random.Generator) -> np.ndarray:
        """Points of a random walk through the polytope (hit and run), shape (count, k).

        The polytope has to be bounded.
        """
        a, N = self.interior.copy(), self.basis
        points = np.empty((count, len(a)))
        for i in range(count):
            for _ in range(1 + self.dimension if self.dimension else 0):
                step = N @ random_state.standard_normal(self.dimension)
                low = np.max(-a[step > 0] / step[step > 0])
                high = np.min(-a[step < 0] / step[step < 0])
                a = np.maximum(a + random_state.uniform(low, high) * step, 0.0)
            points[i] = a
        return points


def null_basis(columns: np.ndarray) -> np.ndarray:
    """Orthonormal null vectors of a matrix (n, k), shape (k, dimension), by SVD of unit columns."""
    size = np.linalg.norm(columns, axis=0)
    size = np.where(size > 0, size, 1.0)
    n, k = columns.shape
    _, s, Vt = np.linalg.svd(np.vstack([columns / size, np.zeros((max(0, k - n), k))]), full_matrices=False)
    rank = int(np.sum(s > RANK * np.max(s, initial=0.0)))
    N = Vt[rank:].T / size[:, None]
    return np.linalg.qr(N)[0] if N.shape[1] else N
