r"""Which groups can still be active: gap-safe screening, and the order in which groups are tried.

Let Z be dual feasible with duality gap G. The dual objective ``-L*(-Z)`` is strongly concave, with
modulus ``1 / h_i`` in coordinate i if ``h_i = s_i curvature`` bounds the second derivative of the loss.
So the optimal dual variable is within ``sum_i (Z*_i - Z_i)^2 / h_i <= 2 G``, and a group with

    ||F_g' Z|| + sqrt(2 G) ||diag(sqrt(h)) F_g||_2 < beta

has ``||F_g' Z*|| < beta``: it is zero at every optimum and never has to be looked at again.

Reference: Ndiaye, Fercoq, Gramfort and Salmon, "Gap safe screening rules for sparsity enforcing
penalties", JMLR 2017; Massias, Gramfort and Salmon, ICML 2018 (working sets by the same distances).
"""

from __future__ import annotations

import numpy as np

from .operators import Masked

__all__ = ["group_norms", "priorities", "survivors", "working_set"]


def group_norms(operator: Masked, curvature: np.ndarray) -> np.ndarray:
    """Upper bounds of ``||diag(sqrt(h)) F_g||_2``, shape (groups,): spectral of X and Frobenius of F_g.

    Parameters
    ----------
    operator : Masked
        In NumPy.
    curvature : ndarray of shape (n,)
        The ``h``.
    """
    X = np.sqrt(curvature)[:, None] * operator.X
    squares = np.einsum("nd,nd->n", X, X)
    spectral = float(np.linalg.eigvalsh(X.T @ X)[-1]) if X.size else 0.0
    # the least that the ones of a pattern can add up to
    least = np.concatenate([[0.0], np.cumsum(np.sort(squares))])
    if np.all(least[np.sum(np.bitwise_count(operator.bits), axis=1, dtype=int)] >= spectral):
        return np.full(len(operator.bits), np.sqrt(spectral) * (1.0 + 1e-7))
    frobenius = Masked(squares[:, None], operator.bits).adjoint(np.ones(len(X)))[:, 0]
    # the bounds must hold in spite of rounding
    return np.sqrt(np.minimum(frobenius, spectral)) * (1.0 + 1e-7)


def survivors(prices: np.ndarray, gap: float, norms: np.ndarray, beta: float) -> np.ndarray:
    """Return which groups may be active, bool (groups,).

    Parameters
    ----------
    prices : ndarray of shape (groups,)
        ``||F_g' Z||`` at a dual feasible Z.
    gap : float
        Duality gap of Z and any primal point, at the scale of sums.
    norms : ndarray of shape (groups,)
        From :func:`group_norms`.
    beta : float
    """
    return prices + np.sqrt(2.0 * max(gap, 0.0)) * norms >= beta * (1.0 - 1e-12)


def priorities(prices: np.ndarray, norms: np.ndarray, beta: float) -> np.ndarray:
    """Distance of Z from each group's constraint, shape (groups,): the nearest are tried first."""
    return (beta - prices) / np.maximum(norms, 1e-300)


def working_set(order: np.ndarray, active: np.ndarray, size: int) -> np.ndarray:
    """Return the indices of the active groups and of the `size` groups of smallest `order`, sorted.

    Parameters
    ----------
    order : ndarray of shape (groups,)
    active : ndarray of bool, shape (groups,)
    size : int
    """
    order = np.where(active, -np.inf, order)
    size = min(max(size, int(np.sum(active))), len(order))
    return np.sort(np.argpartition(order, size - 1)[:size]) if size else np.zeros(0, dtype=int)
