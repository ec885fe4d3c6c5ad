r"""Many small positive definite systems at once.

LAPACK takes systems one by one, and up to a dozen or so unknowns spends more on the calls than on the
numbers. Here Cholesky's method goes through the columns once, for all systems together, with the systems
along the last axis, where memory is contiguous:

    L_jj = sqrt(H_jj - sum_{a<j} L_ja^2),      L_ij = (H_ij - sum_{a<j} L_ia L_ja) / L_jj,

with the right-hand side as one more row, by which it is solved for on the way.
Thousands of systems with 13 unknowns take a quarter of the time so, of single precision.

Reference: Golub and Van Loan, Matrix Computations, section 4.2 (the outer loop over columns).
"""

from __future__ import annotations

import numpy as np

__all__ = ["solve_positive"]


def solve_positive(H: np.ndarray) -> np.ndarray:
    """Solve ``H[:d, :, s] x = H[d, :, s]`` for every system s.

    Parameters
    ----------
    H : ndarray of shape (d + 1, d, systems)
        Symmetric and positive definite matrices, none with a zero on its diagonal, of which the lower
        triangles are read, and below each its right-hand side; overwritten.

    Returns
    -------
    ndarray of shape (d, systems)
        A part of `H`. Pivots that rounding makes too small are raised to what it leaves of their diagonal:
        nearly singular systems have a shorter solution, none an infinite one.
    """
    d = H.shape[1]
    least = np.finfo(H.dtype).eps * np.einsum("iis->is", H[:d])
    for j in range(d):
        column = H[j:, j]
        if j:
            column -= np.einsum("ias,as->is", H[j:, :j], H[j, :j])
        np.maximum(column[0], least[j], out=column[0])
        column[1:] /= np.sqrt(column[0], out=column[0])
    x = H[d]
    for j in reversed(range(d)):
        if j + 1 < d:
            x[j] -= np.einsum("is,is->s", H[j + 1 : d, j], x[j + 1 :])
        x[j] /= H[j, j]
    return x
