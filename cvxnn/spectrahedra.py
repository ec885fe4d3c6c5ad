r"""The convex programs of networks with quadratic units, as semidefinite programs.

A quadratic unit computes ``<M_i, Z>`` for a matrix M_i of the sample and a matrix Z of the unit, so
predictions are linear in the sum of such matrices, and the penalty is a gauge of it. Symmetric matrices
are vectors of their upper triangle, column by column, off-diagonal entries times the root of 2, so that
inner products agree.

*Neurons of norm one.* The sums ``sum_j alpha_j (u_j, 1)(u_j, 1)'`` with alpha >= 0 are the matrices ``Z
psd, tr Z_1 = Z_4`` (:mod:`cvxnn.neural_decomposition`), on which ``sum_j alpha_j = Z_4`` is linear:

    gauge(Z) = Z_4 on that cone,     polar(G) = max over ||u|| = 1 of (u, 1)'G(u, 1), at least 0.

The polar is a quadratic function on a sphere: exact without a semidefinite program
(:mod:`cvxnn.trust_region`).

*Pairs of signs.* For bilinear units ``(x'u)(x'v)`` of sign vectors the relaxation of
:mod:`cvxnn.sign_pairs` is the gauge of :class:`SignGauge`, whose polar is the semidefinite bound of the
infinity-to-one norm divided by d.

Interior points for these cones work with dense matrices of order (f + 1)(f + 2) / 2: measured with 500
samples, 7 CPU seconds at f = 30 and minutes at f = 50; with few samples, 80 at f = 40, 2 seconds.

References: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts", Math. Prog. 2025; Goulart
and Chen, "Clarabel", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from .arrays import Array, to_numpy
from .penalties import Epigraph, Penalty
from .sign_pairs import feasible_bound, norm_bound
from .trust_region import sphere_maxima

#: How far, relative to its size, a matrix may be outside of a cone and still count as in it.
INSIDE = 1e-7


def triangle(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and factors of the upper triangle in the order of its vector."""
    columns, rows = np.tril_indices(order)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def to_vectors(M: np.ndarray) -> np.ndarray:
    """Return symmetric matrices (..., k, k) as vectors (..., k (k + 1) / 2)."""
    rows, columns, factor = triangle(M.shape[-1])
    return M[..., rows, columns] * factor


def to_matrices(W: np.ndarray) -> np.ndarray:
    """Return vectors (..., k (k + 1) / 2) as symmetric matrices (..., k, k)."""
    order = int((np.sqrt(8 * W.shape[-1] + 1) - 1) / 2)
    rows, columns, factor = triangle(order)
    M = np.zeros((*W.shape[:-1], order, order))
    M[..., rows, columns] = W / factor
    M[..., columns, rows] = W / factor
    return M


@dataclass(frozen=True)
class SphereGauge(Penalty):
    """``sum_j alpha_j`` of the neurons of norm one that a matrix is a sum of; infinite if it is none."""

    proximable: ClassVar[bool] = False

    def value(self, W: Array) -> float:
        if not len(W):
            return 0.0
        Z = to_matrices(to_numpy(W))
        trace, corner = np.trace(Z, axis1=1, axis2=2) - Z[:, -1, -1], Z[:, -1, -1]
        size = INSIDE * np.maximum(np.max(np.abs(Z)), 1e-300)
        inside = (np.linalg.eigvalsh(Z)[:, 0] >= -size) & (np.abs(trace - corner) <= size)
        return float(np.sum(np.maximum(trace, corner))) if np.all(inside) else float("inf")

    def prox(self, W: Array, step: float) -> Array:
        raise NotImplementedError("the prox of this gauge is a semidefinite program of its own")

    def polar(self, G: Array) -> Array:
        M = to_matrices(to_numpy(G))
        upper, _ = sphere_maxima(M[:, :-1, :-1], 2.0 * M[:, :-1, -1])
        return np.maximum(upper.bound + M[:, -1, -1], 0.0)

    def epigraph(self, d: int) -> Epigraph:
        order = int((np.sqrt(8 * d + 1) - 1) / 2)
        rows, columns, _ = triangle(order)
        corner = (rows == order - 1) & (columns == order - 1)
        level = np.where(rows == columns, 1.0, 0.0) - 2.0 * corner
        U = sparse.vstack([sparse.eye(d), level[None, :], -1.0 * corner[None, :]])
        E = sparse.csc_matrix(([1.0], ([d + 1], [0])), shape=(d + 2, 1))
        return Epigraph(U, E, np.ones(1), [("semidefinite", order), ("zero", 2)])


@dataclass(frozen=True)
class SignGauge(Penalty):
    """``d`` times the largest entry of the diagonal of P + N, for a group of two psd matrices (P, N).

    The relaxation of pairs of sign vectors: ``sum_j alpha_j (u_j v_j' + v_j u_j') / 2 = P - N`` has such
    P and N with ``diag(P + N) = sum_j |alpha_j|``.
    """

    proximable: ClassVar[bool] = False

    def value(self, W: Array) -> float:
        total = 0.0
        for row in to_numpy(W):
            pair = to_matrices(row.reshape(2, -1))
            size = INSIDE * max(float(np.max(np.abs(pair))), 1e-300)
            if np.min(np.linalg.eigvalsh(pair)) < -size:
                return float("inf")
            total += pair.shape[1] * float(np.max(np.diagonal(pair[0] + pair[1])))
        return total

    def prox(self, W: Array, step: float) -> Array:
        raise NotImplementedError("the prox of this gauge is a semidefinite program of its own")

    def polar(self, G: Array) -> Array:
        """An upper bound, tight where the two matrices of a group are opposite."""
        out = []
        for row in to_numpy(G):
            Q1, Q2 = to_matrices(row.reshape(2, -1))
            _, A, B = norm_bound(0.5 * (Q1 - Q2))
            Q = 0.5 * (Q1 - Q2)
            p = 0.5 * (np.linalg.norm(Q @ A, axis=1) + np.linalg.norm(Q @ B, axis=1))
            out.append(feasible_bound(Q1, Q2, p) / len(Q))
        return np.array(out)

    def epigraph(self, d: int) -> Epigraph:
        half = d // 2
        order = int((np.sqrt(8 * half + 1) - 1) / 2)
        rows, columns, _ = triangle(order)
        diagonal = sparse.csc_matrix(
            (np.ones(order), (rows[rows == columns], np.flatnonzero(rows == columns))), shape=(order, half)
        )
        U = sparse.vstack([sparse.eye(d), sparse.hstack([-diagonal, -diagonal])])
        E = sparse.vstack([sparse.csc_matrix((d, 1)), np.ones((order, 1))])
        cones = [("semidefinite", order), ("semidefinite", order), ("nonnegative", order)]
        return Epigraph(U, E, np.array([float(order)]), cones)
