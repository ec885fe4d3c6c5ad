"""Operators with several outputs.

*The same linear map for every output*: matrices of weights in place of vectors.

In the program of a gated network with several outputs a group is a matrix (d, outputs), and

    A(W) = sum_g D_g X W_g        of shape (n, outputs),

which is the operator of one output on every column.

*A column for every group*: neurons h_g without inner weights, such as threshold units, have an output
vector each, the rows of W, so that ``A(W) = H W``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Array, array_namespace
from .operators import Operator


@dataclass(frozen=True, eq=False)
class PerColumn(Operator):
    """An operator of one output on every column: W (groups, d, outputs) to predictions (n, outputs).

    Parameters
    ----------
    single : Operator
    """

    single: Operator

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.single.shape

    def apply(self, W: Array) -> Array:
        xp = array_namespace(W)
        return xp.stack([self.single.apply(W[:, :, k]) for k in range(W.shape[2])], axis=1)

    def adjoint(self, Z: Array) -> Array:
        xp = array_namespace(Z)
        return xp.stack([self.single.adjoint(Z[:, k]) for k in range(Z.shape[1])], axis=2)

    def norm_bound(self) -> float:
        return self.single.norm_bound()

    def dense(self) -> np.ndarray:
        """The matrix of one output, (n, groups * d)."""
        return self.single.dense()


@dataclass(frozen=True, eq=False)
class Columns(Operator):
    """A column for every group and an output vector on it: W (groups, outputs) to ``H W`` (n, outputs).

    Parameters
    ----------
    matrix : ndarray of shape (n, groups)
        H.
    outputs : int
    """

    matrix: np.ndarray
    outputs: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.matrix.shape, self.outputs

    def apply(self, W: Array) -> Array:
        return self.matrix @ W

    def adjoint(self, Z: Array) -> Array:
        return self.matrix.T @ Z

    def norm_bound(self) -> float:
        return float(np.linalg.norm(self.matrix, 2)) * (1.0 + 1e-12) if self.matrix.size else 0.0

    def dense(self) -> np.ndarray:
        """The matrix of one output, (n, groups)."""
        return self.matrix


def curvature(M: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Return ``sum_i M_ij M_il C_i``, second derivatives in weights of columns with output vectors.

    Parameters
    ----------
    M : ndarray of shape (n, columns)
    C : ndarray of shape (n, m, m)
        Second derivatives of the loss of each sample.

    Returns
    -------
    ndarray of shape (columns, m, columns, m)
    """
    k, m = M.shape[1], C.shape[1]
    K = np.zeros((k, m, k, m))
    for r in range(m):
        for q in range(r, m):
            if np.any(C[:, r, q]):
                K[:, r, :, q] = (M.T * C[:, r, q]) @ M
                K[:, q, :, r] = K[:, r, :, q]
    return K
