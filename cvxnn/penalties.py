"""Penalties of groups: what the weight decay of a network becomes in its convex program.

Weight decay on both layers of a neuron, minimised over the scalings that leave its function alone,
is the product of the two norms; in the convex program it is a norm of the group,

    gauge(u) = ||u||_2,     polar(g) = max { <g, u> : gauge(u) <= 1 } = ||g||_2.

The last `free` coordinates of a group may be unpenalised (a free hidden bias b beside weights w). Then
``gauge(w, b) = ||w||`` on ``|b| <= reach * ||w||``, and ``polar(g) = ||g_w|| + reach * |g_b|``: a bias
beyond the largest sample switches a neuron on, or off, for all samples, where it is a constant that
the output's intercept does as well, so nothing is lost by the limit.

Reference: Pilanci and Ergen, ICML 2020, equation (8); Bach, "Breaking the curse of dimensionality
with convex neural networks", JMLR 2017, section 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from .arrays import Array, array_namespace


@dataclass(frozen=True, eq=False)
class Epigraph:
    """The gauge of one group as a conic program, ``gauge(u) = min cost'e  subject to  U u + E e in cones``.

    Parameters
    ----------
    U, E : sparse matrices of shapes (rows, d) and (rows, k)
    cost : ndarray of shape (k,)
    cones : list of (str, int)
        ``("nonnegative", size)``, ``("second_order", size)``, ``("zero", size)``, or ``("semidefinite",
        order)`` for the upper triangle of a matrix, column by column, with its off-diagonal entries times
        the root of 2; in the order of the rows.
    """

    U: sparse.spmatrix
    E: sparse.spmatrix
    cost: np.ndarray
    cones: list[tuple[str, int]]


class Penalty(ABC):
    """A convex, positively homogeneous penalty that is a sum over groups."""

    #: Whether the prox is there: solvers that take proximal steps ask.
    proximable: ClassVar[bool] = True

    @abstractmethod
    def value(self, W: Array) -> float:
        """Return the sum over groups of ``gauge(W_g)`` for ``W`` of shape (groups, d)."""

    @abstractmethod
    def prox(self, W: Array, step: float) -> Array:
        """Return ``argmin_V 1/2 ||V - W||^2 + step * value(V)``, shape (groups, d)."""

    @abstractmethod
    def polar(self, G: Array) -> Array:
        """Return the polar (dual norm) of each group, shape (groups,)."""

    def epigraph(self, d: int) -> Epigraph | None:
        """Return the gauge of a group of `d` coordinates as a conic program, or None if it has no such form
        here."""
        return None

    def to_cvxpy(self, W: Any) -> Any:
        """Return :meth:`value` as a CVXPY expression of a variable of shape (groups, d)."""
        raise NotImplementedError(f"{type(self).__name__} has no CVXPY form")


@dataclass(frozen=True)
class GroupL2(Penalty):
    """The group lasso penalty ``sum_g ||W_g||_2``.

    Parameters
    ----------
    free : int, default=0
        How many trailing coordinates of each group are not penalised.
    reach : float, default=inf
        How large they need to be, as a multiple of the norm of the others.
    """

    free: int = 0
    reach: float = float("inf")

    def norms(self, W: Array) -> Array:
        """Return the norm of the penalised part of each group, shape (groups,)."""
        xp = array_namespace(W)
        kept = W[:, : W.shape[1] - self.free]
        return xp.sqrt(xp.sum(kept * kept, axis=1))

    def value(self, W: Array) -> float:
        return float(array_namespace(W).sum(self.norms(W)))

    def prox(self, W: Array, step: float) -> Array:
        xp = array_namespace(W)
        norms = self.norms(W)
        safe = xp.where(norms > step, norms, xp.ones_like(norms))
        shrink = xp.where(norms > step, 1.0 - step / safe, xp.zeros_like(norms))
        kept = W[:, : W.shape[1] - self.free] * shrink[:, None]
        return kept if self.free == 0 else xp.concat([kept, W[:, W.shape[1] - self.free :]], axis=1)

    def polar(self, G: Array) -> Array:
        norms = self.norms(G)
        if self.free == 0:
            return norms
        xp = array_namespace(G)
        loose = xp.sum(xp.abs(G[:, G.shape[1] - self.free :]), axis=1)
        if self.reach < float("inf"):
            return norms + self.reach * loose
        # Relative rounding is not infeasibility: the free part is a sum of terms as large as this.
        slack = 1e-9 * (1.0 + xp.max(xp.abs(G), axis=1))
        return xp.where(loose <= slack, norms, xp.full_like(norms, float("inf")))

    def epigraph(self, d: int) -> Epigraph:
        kept = d - self.free
        cones = [("second_order", kept + 1)]
        return Epigraph(sparse.eye(kept + 1, d, k=-1), sparse.eye(kept + 1, 1), np.ones(1), cones)

    def to_cvxpy(self, W: Any) -> Any:
        import cvxpy as cp

        kept = W.shape[1] - self.free
        return cp.sum(cp.norm(W[:, :kept], 2, axis=1)) if kept else cp.Constant(0.0)


@dataclass(frozen=True)
class NuclearNorm(Penalty):
    """The sum of nuclear norms of groups that are matrices, ``W`` of shape (groups, d, outputs).

    Weight decay on gated neurons ``u_j v_j'`` of one gate is the nuclear norm of their sum; the polar is
    the spectral norm, and the prox shrinks singular values.

    Parameters
    ----------
    rows : int, default=0
        Rows of matrices whose entries are kept in another shape of the same order, ``W`` of shape
        (groups, rows * columns) or (groups, rows * windows, outputs), as in a convolution with weights
        for every window.
    """

    rows: int = 0

    def _matrices(self, W: Array) -> Array:
        return array_namespace(W).reshape(W, (W.shape[0], self.rows, -1)) if self.rows else W

    def value(self, W: Array) -> float:
        xp = array_namespace(W)
        return float(xp.sum(xp.linalg.svdvals(self._matrices(W)))) if W.shape[0] else 0.0

    def prox(self, W: Array, step: float) -> Array:
        xp = array_namespace(W)
        if W.shape[0] == 0:
            return W
        U, sizes, Vt = xp.linalg.svd(self._matrices(W), full_matrices=False)
        kept = xp.maximum(sizes - step, xp.zeros_like(sizes))
        return xp.reshape((U * kept[:, None, :]) @ Vt, W.shape)

    def polar(self, G: Array) -> Array:
        return array_namespace(G).linalg.svdvals(self._matrices(G))[:, 0]

    def to_cvxpy(self, W: Any) -> Any:
        import cvxpy as cp

        if self.rows:
            flat = [cp.vec(block, order="C") for block in W]
            W = [cp.reshape(v, (self.rows, v.size // self.rows), order="C") for v in flat]
        return cp.sum(cp.hstack([cp.normNuc(block) for block in W])) if len(W) else cp.Constant(0.0)


@dataclass(frozen=True)
class BesideMatrix(Penalty):
    """The norms of rows, and the nuclear norm of the matrix that the last rows are: ``W`` of shape (groups,
    outputs).

    Weight decay on neurons without inner weights, a row each, beside that on linear neurons. The last rows
    are one group: their prices are all that of the matrix, its spectral norm.

    Parameters
    ----------
    rows : int
        Of the matrix.
    weight : float, default=1.0
        Of its norm: solvers see the matrix times a number, which makes its columns as long as the others.
    """

    rows: int
    weight: float = 1.0

    def _parts(self, W: Array) -> tuple[Array, Array]:
        """The rows, and the matrix as one group (1, rows, outputs)."""
        cut = W.shape[0] - self.rows
        return W[:cut, :], W[cut:, :][None, :, :]

    def value(self, W: Array) -> float:
        rows, matrix = self._parts(W)
        return GroupL2().value(rows) + (self.weight * NuclearNorm().value(matrix) if self.rows else 0.0)

    def prox(self, W: Array, step: float) -> Array:
        rows, matrix = self._parts(W)
        inner = NuclearNorm().prox(matrix, self.weight * step)[0, :, :] if self.rows else matrix[0, :, :]
        return array_namespace(W).concat([GroupL2().prox(rows, step), inner], axis=0)

    def polar(self, G: Array) -> Array:
        xp = array_namespace(G)
        rows, matrix = self._parts(G)
        if not self.rows:
            return GroupL2().polar(rows)
        price = NuclearNorm().polar(matrix) / self.weight
        return xp.concat([GroupL2().polar(rows), xp.broadcast_to(price, (self.rows,))], axis=0)

    def to_cvxpy(self, W: Any) -> Any:
        import cvxpy as cp

        cut = W.shape[0] - self.rows
        rows = GroupL2().to_cvxpy(W[:cut]) if cut else cp.Constant(0.0)
        return rows + (self.weight * cp.normNuc(W[cut:]) if self.rows else cp.Constant(0.0))


@dataclass(frozen=True)
class ColumnL2(Penalty):
    """The sum of the norms of the columns of groups that are matrices, ``W`` of shape (groups, d,
    outputs)."""

    def value(self, W: Array) -> float:
        xp = array_namespace(W)
        return float(xp.sum(xp.sqrt(xp.sum(W * W, axis=1))))

    def prox(self, W: Array, step: float) -> Array:
        xp = array_namespace(W)
        norms = xp.sqrt(xp.sum(W * W, axis=1))
        safe = xp.where(norms > step, norms, xp.ones_like(norms))
        return W * xp.where(norms > step, 1.0 - step / safe, xp.zeros_like(norms))[:, None, :]

    def polar(self, G: Array) -> Array:
        xp = array_namespace(G)
        return xp.max(xp.sqrt(xp.sum(G * G, axis=1)), axis=1)

    def to_cvxpy(self, W: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.hstack([cp.norm(block, 2, axis=0) for block in W])) if len(W) else cp.Constant(0.0)
