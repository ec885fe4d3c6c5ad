"""Constraints on the groups of weights, and what they do to the price of a group.

The convex program of a ReLU network keeps each group in the cone of its pattern,

    K_g = { u : (2 D_g - I) X u >= 0 },

because there, and only there, ``D_g X u`` is what a ReLU neuron with weights u computes. A gated
network has no such constraint. A constraint enters a dual bound through multipliers: for *any*
``rho >= 0`` the price of a group is at most ``polar(G_g + K*(rho)_g)``, and minimising over rho gives
the norm of the projection of G_g onto the cone. Only the best rho needs a solver; the bound holds for
all of them, so it is recomputed from rho and trusts nobody.

Reference: Pilanci and Ergen, ICML 2020, section 3; Moreau's decomposition (Boyd and Vandenberghe,
section 8.1); Lawson and Hanson, Solving Least Squares Problems, chapter 23.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import nnls

from .arrays import Array, to_numpy

#: Rows near a guess that a projection starts with, for each coordinate.
FIRST = 3
#: An unpenalised part of a projected vector of unit length that is no more has vanished.
VANISHED = 1e-16
#: Steps in which bounds of projections onto many cones at once are improved.
SWEEPS = 12


class Constraint(ABC):
    """A constraint ``K(W) >= 0``, group by group."""

    @abstractmethod
    def violation(self, W: Array) -> float:
        """Return the largest violation over the rows, relative to the largest row in size."""

    @abstractmethod
    def project(self, W: np.ndarray) -> np.ndarray:
        """Return the Euclidean projection of each group of ``W`` (groups, d)."""

    @abstractmethod
    def price(self, G: np.ndarray, multipliers: np.ndarray | None = None) -> np.ndarray:
        """Return ``G + K*(rho)`` for the best multipliers, or for the given ones.

        Parameters
        ----------
        G : ndarray of shape (groups, d)
        multipliers : ndarray of shape (groups, n), or None
            Nonnegative ``rho``; None solves for those that make the price of each group smallest. A
            constraint that couples groups has further rows.
        """

    def matrix(self) -> sparse.csr_matrix | None:
        """Return K as a sparse matrix on the weights of all groups, or None if it has no such form here.

        Its rows come in blocks of n, one for each row of the multipliers.
        """
        return None

    def to_cvxpy(self, W: Any) -> list[Any]:
        """Return the constraint as CVXPY constraints on a variable of shape (groups, d)."""
        return []


@dataclass(frozen=True)
class Free(Constraint):
    """No constraint: the gated network."""

    def violation(self, W: Array) -> float:
        return 0.0

    def project(self, W: np.ndarray) -> np.ndarray:
        return W

    def price(self, G: np.ndarray, multipliers: np.ndarray | None = None) -> np.ndarray:
        return G


@dataclass(frozen=True, eq=False)
class ReLUCones(Constraint):
    """The cone of each group's pattern, ``(2 D_g - I) X W_g >= 0``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    bits : uint8 ndarray of shape (groups, ceil(n / 8))
        Packed patterns.
    free : int, default=0
        How many trailing coordinates of each group carry no penalty (an unpenalised bias).
    loose : int, default=0
        How many of the last groups have no cone: linear neurons, whose pattern is all ones.
    """

    X: np.ndarray
    bits: np.ndarray
    free: int = 0
    loose: int = 0

    def signs(self) -> np.ndarray:
        """``2 d - 1`` of each group, shape (groups, n); zeros where a group has no cone."""
        n = self.X.shape[0]
        signs = 2.0 * np.unpackbits(to_numpy(self.bits, np.uint8), axis=1, count=n) - 1.0
        signs[len(signs) - self.loose :] = 0.0
        return signs

    def violation(self, W: Array) -> float:
        X, W = to_numpy(self.X), to_numpy(W)
        if W.size == 0:
            return 0.0
        rows = self.signs() * (W @ X.T)
        return max(0.0, -float(np.min(rows))) / max(float(np.max(np.abs(rows))), 1e-300)

    def project(self, W: np.ndarray) -> np.ndarray:
        X = to_numpy(self.X)
        rows, scaled = zip(self.signs(), W, strict=True), Scaled.of(X)
        return np.array([project_cone(X, s, w, scaled=scaled)[0] for s, w in rows])

    def price(self, G: np.ndarray, multipliers: np.ndarray | None = None) -> np.ndarray:
        X = to_numpy(self.X)
        if multipliers is None:
            rows, scaled = zip(self.signs(), G, strict=True), Scaled.of(X, self.free)
            return np.array([project_cone(X, s, g, self.free, scaled=scaled)[0] for s, g in rows])
        return G + (self.signs() * np.maximum(multipliers, 0.0)) @ X

    def matrix(self) -> sparse.csr_matrix:
        """``blockdiag((2 D_g - I) X)``."""
        X = to_numpy(self.X)
        if not len(self.bits):
            return sparse.csr_matrix((0, 0))
        return sparse.csr_matrix(sparse.block_diag([sign[:, None] * X for sign in self.signs()]))

    def to_cvxpy(self, W: Any) -> list[Any]:
        import cvxpy as cp

        return [cp.multiply(self.signs(), W @ to_numpy(self.X).T) >= 0]


def project_cone(
    X: np.ndarray,
    sign: np.ndarray,
    g: np.ndarray,
    free: int = 0,
    rounds: int = 4,
    near: np.ndarray | None = None,
    scaled: Scaled | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Project ``g`` onto the cone ``{u : sign * (X u) >= 0}``.

    With unpenalised coordinates the answer is the penalised dual instead: the ``g + A' rho`` of
    smallest penalised norm whose free part vanishes, found with a heavy weight on the free part
    and two multiplier updates that remove the weight's bias.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    sign : ndarray of shape (n,), -1 or +1
    g : ndarray of shape (d,)
    free : int, default=0
    rounds : int, default=4
        Solves, where there are unpenalised coordinates: one plus the multiplier updates.
    near : ndarray of shape (d,), or None
        A guess of the answer: the rows it nearly is orthogonal to are tried before all others.
    scaled : Scaled, or None
        Of ``X`` and `free`, for those who project often.

    Returns
    -------
    r : ndarray of shape (d,)
        ``g + A' rho`` with ``A = diag(sign) X``.
    rho : ndarray of shape (n,)
        The nonnegative multipliers. Whatever their quality, the norm of r bounds
        ``max { g'u : u in the cone, ||u|| <= 1 }`` from above (for ``free = 0``).
    """
    if free == 0 and not np.any(sign * (X @ g) < 0):
        return g, np.zeros(len(X))
    at = Scaled.of(X, free) if scaled is None else scaled
    size = float(np.linalg.norm(g))
    rho = np.zeros(len(X))
    if size == 0.0 or not at.rows.size or not np.any(sign):
        return g, rho
    A, sign = sign[:, None] * X, sign[at.kept]
    first = None if near is None else np.argsort(np.abs(at.rows @ near), kind="stable")[: FIRST * len(g)]
    rows = sign[:, None] * at.weighted
    g, shift = g / size, np.zeros(free)
    for _ in range(rounds if free else 1):
        target = g * at.heavy if free else g
        if free:
            target[-free:] += at.heavy[-free:] * shift
        rho[at.kept] = _nnls(rows, target, first) / at.norms
        r = g + rho @ A
        if free:
            shift += r[-free:]
            if not np.any(np.abs(r[-free:]) > VANISHED):
                break
    return size * r, size * rho


@dataclass(frozen=True, eq=False)
class Scaled:
    """The rows of a design as projections onto its cones want them; the same for all of its patterns.

    Parameters
    ----------
    kept : bool ndarray of shape (n,)
        Rows that are not zero.
    norms : ndarray of shape (kept,)
    rows : ndarray of shape (kept, d)
        Of unit length, as NNLS stops on an absolute tolerance of its gradient.
    heavy : ndarray of shape (d,)
        Weights of the coordinates.
    weighted : ndarray of shape (kept, d)
    """

    kept: np.ndarray
    norms: np.ndarray
    rows: np.ndarray
    heavy: np.ndarray
    weighted: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, free: int = 0) -> Scaled:
        norms, heavy = np.linalg.norm(X, axis=1), np.ones(X.shape[1])
        kept = norms > 0
        norms = norms[kept]
        rows = X[kept] / norms[:, None]
        if not free or not rows.size:
            return cls(kept, norms, rows, heavy, rows)
        # Heavy relative to the data's units: a column of ones beside features of any size.
        heavy[:-free] = 1.0 / max(float(np.max(np.abs(rows[:, :-free]), initial=0.0)), 1e-300)
        heavy[-free:] = 1e3 / max(float(np.max(np.abs(rows[:, -free:]))), 1e-300)
        return cls(kept, norms, rows, heavy, rows * heavy)


def _nnls(rows: np.ndarray, target: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Return the ``x >= 0`` (k,) of least ``||target + rows' x||``; unfinished, it still is a bound.

    Of many rows few matter: the `first` are solved alone, and joined by those the answer violates.
    """
    x, k = np.zeros(len(rows)), len(rows)
    at = np.arange(k) if first is None else np.sort(first)
    allowed = 1e-12 * float(np.linalg.norm(target))
    while True:
        try:
            part = nnls((rows[at] if len(at) < k else rows).T, -target, maxiter=10 * k + 100)[0]
        except RuntimeError:
            return np.zeros(k)
        if len(at) == k:
            return part
        x[at] = part
        slack = rows @ (target + x[at] @ rows[at])
        slack[at] = 0.0
        violated = np.flatnonzero(slack < -allowed)
        if not len(violated):
            return x
        worst = violated[np.argsort(slack[violated], kind="stable")[: len(target)]]
        at = np.sort(np.concatenate([at, worst]))


def projection_bounds(X: np.ndarray, masks: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Upper bounds (k,) of the norms of the projections of ``G`` (k, d) onto the cones of patterns (k, n).

    The norm of ``g + A' rho`` is a bound for every ``rho >= 0``; each step improves the multiplier of the
    most violated row.
    """
    size = np.maximum(np.sum(X * X, axis=1), 1e-300)
    A = np.where(masks, 1.0, -1.0)[:, :, None] * X
    rho, R, at = np.zeros(masks.shape), G.copy(), np.arange(len(G))
    for _ in range(SWEEPS):
        slack = np.einsum("knd,kd->kn", A, R)
        step = np.maximum(rho - slack / size, 0.0) - rho
        row = np.argmax(np.abs(step) * np.sqrt(size), axis=1)
        move = step[at, row]
        rho[at, row] += move
        R += move[:, None] * A[at, row]
    return np.linalg.norm(R, axis=1)


def balanced_bounds(X: np.ndarray, signs: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Upper bounds (2, k) of the prices of ``G`` and ``-G`` (k, d) where the last coordinate is free.

    One row with the right multiplier makes that coordinate vanish, and any such row gives a bound. The
    last column of X is positive.
    """
    x, bias = X[:, :-1], X[:, -1]
    out = np.empty((2, len(G)))
    # t = - G_free / (sign bias) is nonnegative for rows of one side of the cell, for -G for the others
    t = -G[:, -1:] / (signs * bias)
    for side, sign in ((0, 1.0), (1, -1.0)):
        size = np.linalg.norm(sign * G[:, None, :-1] + (sign * t * signs)[:, :, None] * x, axis=2)
        out[side] = np.min(np.where(sign * t >= 0.0, size, np.inf), axis=1, initial=np.inf)
    return out


def cone_margin(X: np.ndarray, sign: np.ndarray, u: np.ndarray) -> float:
    """The smallest ``sign_i x_i'u / ||x_i||`` over non-zero rows: positive inside the cone."""
    norms = np.linalg.norm(X, axis=1)
    kept = norms > 0
    if not np.any(kept):
        return float("inf")
    return float(np.min(sign[kept] * (X[kept] @ u) / norms[kept]))


__all__ = [
    "Constraint",
    "Free",
    "ReLUCones",
    "Scaled",
    "balanced_bounds",
    "cone_margin",
    "project_cone",
    "projection_bounds",
]
