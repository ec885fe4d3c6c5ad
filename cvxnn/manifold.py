r"""Newton's method on the groups that are not zero, where the group lasso is smooth.

With the non-zero groups A and a prediction ``f = F w + c`` the objective ``L(f) + beta sum_g ||w_g||``
has gradient ``F'grad L + beta u`` (u_g = w_g / ||w_g||) and Hessian

    H = F' diag(h) F + B,     B = blockdiag( (beta / ||w_g||) (I - u_g u_g') ),     h = L''(f).

Newton's system H x = r is solved with one of two matrices. With few weights it is H itself. With few
samples, ``q = h o F x`` is the unknown, and H is inverted as ``B^-1 - B^-1 F' (diag(1/h) + F B^-1
F')^-1 F B^-1``. Across u_g the inverse of B_g is ``a_g = ||w_g|| / beta``; along u_g, where B_g
vanishes, it is made a large number b_g. Then

    F B^-1 F' = (X X') o (D' diag(a) D) + R' diag(b - a) R,     R_g = (D_g X u_g)',

one n x n matrix whatever the number of groups, a Hadamard product since the groups share X.

Far from a solution H is too flat along u_g: the norm's curvature there is zero until the group reaches
zero. With a damping tau in [0, 1] the blocks are ``(beta / ||w_g||) (I - (1 - tau) u_g u_g')``; tau = 0
is Newton's method, and tau = 1 minimises the majorant ``||v|| <= (||v||^2 / ||w|| + ||w||) / 2`` of the
norm, which cannot fail to decrease a quadratic loss.

References: Li, Sun and Toh, SIAM J. Optim. 2018 (semismooth Newton, n x n systems); Zhang, Zhang, Sun
and Toh, Math. Prog. 2020 (group lasso).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import LinAlgError
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf, dpotrs

from .operators import TILE, Masked, spread

__all__ = ["BySamples", "ByWeights"]

#: Maps a right-hand side (k, d), and the intercept's entry of it or None, to the solution of a system.
Inverse = Callable[[np.ndarray, float | None], tuple[np.ndarray, float]]

#: Added to H relative to its diagonal, by weights: groups may depend on each other.
RIDGE = 1e-13
#: By samples, H along each group gets at least this curvature, relative to what the loss has there.
ALONG = 1e-7


class ByWeights:
    """Newton's system in k * d unknowns, with one more for the intercept.

    The blocks ``F_g' diag(h) F_k`` are kept while h does not change, and only those of new groups computed.

    Parameters
    ----------
    operator : Masked
        All groups, in NumPy.
    beta : float
    """

    def __init__(self, operator: Masked, beta: float) -> None:
        self.operator, self.beta = operator, beta
        self.groups = np.zeros(0, dtype=int)
        #: where each group is in the matrix, -1 where it is not
        self.place = np.full(operator.shape[1], -1)
        self.matrix = np.zeros((0, 0), order="F")
        self.h: np.ndarray | None = None

    def at(self, beta: float) -> ByWeights:
        """The same system at another strength of the norm, with what is kept of it."""
        other = copy.copy(self)
        other.beta = beta
        return other

    def factor(
        self, groups: np.ndarray, h: np.ndarray, W: np.ndarray, intercept: bool, tau: float = 0.0
    ) -> Inverse:
        """Factor H and return what applies its inverse.

        Parameters
        ----------
        groups : ndarray of int, shape (k,)
            Which groups are not zero, ascending.
        h : ndarray of shape (n,)
        W : ndarray of shape (k, d)
            The weights, no row zero.
        intercept : bool
        tau : float
            The damping, from 0 to 1.

        Returns
        -------
        callable(r, total) -> x, c
            Solves ``H x = r`` for `r` and `x` of shape (k, d); `total` and `c` are the intercept's entries,
            None and 0 without one.

        Raises
        ------
        scipy.linalg.LinAlgError
            If the matrix is not positive definite to rounding.
        """
        k, d = W.shape
        H = self._gram(groups, h)
        size = np.sqrt(np.einsum("kd,kd->k", W, W))
        U = W / size[:, None]
        blocks = np.eye(d) - ((1.0 - tau) * U)[:, :, None] * U[:, None, :]
        corners = np.einsum("idie->ide", H.T.reshape(k, d, k, d))  # a view of the diagonal blocks
        corners += (self.beta / size)[:, None, None] * blocks
        diagonal = np.einsum("ii->i", H)
        diagonal += RIDGE * float(np.max(diagonal)) + 1e-300
        factor = _cholesky(H)
        cross = self.operator.take(groups).adjoint(h).ravel() if intercept else np.zeros(0)

        def inverse(r: np.ndarray, total: float | None) -> tuple[np.ndarray, float]:
            x = _back(factor, r.ravel())
            if total is None:
                return x.reshape(k, d), 0.0
            y, whole = _back(factor, cross), float(np.sum(h))
            c = (total - float(cross @ x)) / max(whole - float(cross @ y), 1e-14 * whole + 1e-300)
            return (x - c * y).reshape(k, d), c

        return inverse

    def _gram(self, groups: np.ndarray, h: np.ndarray) -> np.ndarray:
        """A copy of ``F' diag(h) F`` for `groups`; its lower triangle is enough for the caller."""
        d = self.operator.X.shape[1]
        if self.h is None or not np.array_equal(h, self.h):
            self.groups, self.h = self.groups[:0], h
            self.place[:] = -1
        new = groups[self.place[groups] < 0]
        if len(new):
            if len(self.groups) + len(new) > 2 * len(groups):
                self._keep(np.isin(self.groups, groups))
            self._add(new, h)
        at = self.place[groups]
        k, room = len(groups), len(self.matrix) // d
        blocks = self.matrix.T.reshape(room, d, room, d)
        H = np.empty((k, d, k, d))
        for j in range(k):
            # pieces of d numbers move at the speed of memory, single ones do not
            np.take(blocks[at[j]], at, axis=1, out=H[j], mode="clip")
        return H.reshape(k * d, k * d).T

    def cost(self, groups: np.ndarray, h: np.ndarray, uses: float = 1.0) -> float:
        """About how many multiplications :meth:`factor` takes; new blocks serve `uses` times."""
        n, d = self.operator.X.shape
        known = self.h is not None and np.array_equal(h, self.h)
        new = int(np.sum(self.place[groups] < 0)) if known else len(groups)
        size = len(groups) * d
        # small factors run at half the speed of products, and the matrix is copied
        return n * new * d * (size - 0.5 * new * d) / uses + size**3 / 3.0 + 5.0 * size**2

    def _keep(self, kept: np.ndarray) -> None:
        d = self.operator.X.shape[1]
        rows = (np.flatnonzero(kept)[:, None] * d + np.arange(d)).ravel()
        self.matrix[: len(rows), : len(rows)] = self.matrix[np.ix_(rows, rows)]
        self._hold(self.groups[kept])

    def _hold(self, groups: np.ndarray) -> None:
        self.place[self.groups] = -1
        self.groups = groups
        self.place[groups] = np.arange(len(groups))

    def _add(self, new: np.ndarray, h: np.ndarray) -> None:
        d = self.operator.X.shape[1]
        old, size = len(self.groups) * d, (len(self.groups) + len(new)) * d
        self._hold(np.concatenate([self.groups, new]))
        if size > len(self.matrix):
            larger = np.zeros((2 * size, 2 * size), order="F")
            larger[:old, :old] = self.matrix[:old, :old]
            self.matrix = larger
        border, corner = np.zeros((size - old, old)), np.zeros((size - old, size - old), order="F")
        for _, F in columns(self.operator, self.groups, np.sqrt(h)):
            fresh = F[:, old:]
            border += fresh.T @ F[:, :old]
            corner = dsyrk(1.0, fresh, beta=1.0, c=corner, trans=1, lower=True, overwrite_c=True)
        self.matrix[old:size, :old], self.matrix[:old, old:size] = border, border.T
        self.matrix[old:size, old:size] = np.tril(corner) + np.tril(corner, -1).T


def columns(operator: Masked, groups: np.ndarray, root: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of samples and ``diag(root) F`` on them, (samples, k * d), one tile after the other.

    The blocks lie in memory column by column: masking rows of d numbers at a time costs more than the
    product with them.
    """
    bits = operator.bits[groups]
    n, d = operator.X.shape
    height = max(8, 2 * TILE // max(1, len(groups) * d) // 8 * 8)
    for top in range(0, n, height):
        rows = slice(top, min(top + height, n))
        mask = spread(bits[:, top // 8 : -(-rows.stop // 8)], rows.stop - top, operator.X.dtype)
        if operator.signs is not None:
            mask = mask * operator.signs[groups][:, None]
        X = np.ascontiguousarray((operator.X[rows] * root[rows, None]).T)
        yield rows, (mask[:, None, :] * X).reshape(len(groups) * d, -1).T


class BySamples:
    """Newton's system in n unknowns, whatever the number of groups.

    Along u_g, and for an intercept, H gets a little curvature of its own (`ALONG`), so that B has an
    inverse and no Schur complement is left. The direction changes by about that relative amount.

    Parameters
    ----------
    operator : Masked
        All groups, in NumPy.
    beta : float
    """

    def __init__(self, operator: Masked, beta: float) -> None:
        self.operator, self.beta = operator, beta
        n = len(operator.X)
        # BLAS writes columns; the kernel is symmetric, so its rows are its columns
        self.kernel = (operator.X @ operator.X.T).T
        self.room = np.zeros((n, n), order="F")

    def at(self, beta: float) -> BySamples:
        """The same system at another strength of the norm, with what is kept of it."""
        other = copy.copy(self)
        other.beta = beta
        return other

    @staticmethod
    def cost(n: int, k: int) -> float:
        """About how many multiplications :meth:`factor` takes."""
        return float(n) * n * (k + n / 6.0)

    def factor(
        self, groups: np.ndarray, h: np.ndarray, W: np.ndarray, intercept: bool, tau: float = 0.0
    ) -> Inverse:
        """As :meth:`ByWeights.factor`; what it returns is good until the next matrix is factored."""
        operator = self.operator.take(groups)
        size = np.sqrt(np.einsum("kd,kd->k", W, W))
        U, a = W / size[:, None], size / self.beta
        mask = operator.whole()
        mask = spread(operator.bits, len(h), U.dtype) if mask is None else mask
        R = mask * (U @ operator.X.T)
        if operator.signs is not None:
            R *= operator.signs[:, None]
        curved = (R * R) @ h
        b = 1.0 / (tau / a + ALONG * curved + 1e-8 * ALONG * float(np.max(curved)) + 1e-300)
        root = np.sqrt(h)
        K = dsyrk(1.0, (mask * np.sqrt(a)[:, None]).T, lower=True, c=self.room, overwrite_c=True)
        K *= self.kernel
        free = 1.0 / (ALONG * float(np.sum(h)) + 1e-300)
        low = R * np.sqrt(np.maximum(b - a, 0.0))[:, None]
        if intercept:
            low = np.vstack([low, np.full(len(h), np.sqrt(free))])
        K = dsyrk(1.0, low.T, beta=1.0, c=K, lower=True, overwrite_c=True)
        # symmetric scaling by sqrt(h): second derivatives of a logistic loss may vanish
        if np.ptp(root) > 0.0 or root[0] != 1.0:
            K *= root[:, None]
            K *= root
        np.einsum("ii->i", K)[:] += 1.0
        factor, along = _cholesky(K), np.maximum(b, a) - a

        def spherical(r: np.ndarray) -> np.ndarray:
            """``B^-1 r``."""
            return a[:, None] * r + (along * np.einsum("kd,kd->k", U, r))[:, None] * U

        def inverse(r: np.ndarray, total: float | None) -> tuple[np.ndarray, float]:
            x, c = spherical(r), 0.0 if total is None else free * total
            q = root * _back(factor, root * (operator.apply(x) + c))
            x -= spherical(operator.adjoint(q))
            return x, 0.0 if total is None else c - free * float(np.sum(q))

        return inverse


def _cholesky(A: np.ndarray) -> np.ndarray:
    """Cholesky's factor of a matrix given by its lower triangle, in its place.

    Raises
    ------
    scipy.linalg.LinAlgError
        If the matrix is not positive definite to rounding.
    """
    factor, info = dpotrf(A, lower=True, overwrite_a=True, clean=False)
    if info:
        raise LinAlgError("not positive definite")
    return factor


def _back(factor: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Solve with a factor of :func:`_cholesky` for `r` of shape (size,)."""
    return dpotrs(factor, r, lower=True)[0]
