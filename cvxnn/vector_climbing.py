r"""Climbing to local maxima of a price with several outputs, from many starts at once, kinks and all.

The price ``P(u) = |Z'phi(Xu)|`` is that of one output, ``g'Z'phi(Xu)``, for the best unit output direction
g, which is along ``Z'phi(Xu)``. So every start climbs as in :mod:`cvxnn.climbing` for a dual variable of
its own, ``z = Zg``, and turns its g after every step: what raises ``g'Z'phi(Xu)`` raises P at least as
much. Left out is how g turns within a step, the curvature

    (1 / P) J (I - g g') J',   J = X' (psi' o Z),

of P, which is positive like that of kinks that repel: without both the matrix of a step is positive
definite. With it, and conjugate gradients that stop where the curvature of a step is negative, a climb
costs a quarter more and finds as many neurons. Steps are short where g turns far, so the best ends are
worth being solved exactly (:mod:`cvxnn.vector_pricing`).

Reference: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021 (the dual).
"""

from __future__ import annotations

import numpy as np

from .climbing import HELD, WIDEST, Climb
from .climbing import fits as fits_one
from .walks import best_biases, rectify


def fits(X: np.ndarray, outputs: int) -> bool:
    """Whether steps are cheap enough to climb with."""
    return fits_one(X) and outputs <= WIDEST and len(X) * outputs <= HELD


class VectorClimb(Climb):
    """Local maxima of the price of several outputs.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        As small as :func:`fits` says.
    z : ndarray of shape (n, outputs)
    free : int
        Trailing unpenalised coordinates (0, or 1 for a free bias; then columns of z sum to zero).
    slope : float
        Of the activation on the negative side, < 1.
    """

    steps = 4

    @staticmethod
    def _ceiling(weight: np.ndarray, unit: np.ndarray) -> float:
        """``P^2`` is a sum over outputs, and a maximum of it at most the sum of their maxima."""
        return float(np.linalg.norm([Climb._ceiling(column, unit) for column in weight.T]))

    def _holds(self, weight: np.ndarray) -> np.ndarray:
        """All samples: a direction g pulls each of them its own way."""
        return np.ones(len(weight), dtype=bool)

    def values(self, U: np.ndarray) -> np.ndarray:
        """The prices of the rows of ``U``, shape (k,)."""
        return np.asarray(np.linalg.norm(rectify(self.X @ U.T, self.slope).T @ self.z, axis=1))

    def _biases(self, T: np.ndarray) -> np.ndarray:
        return best_biases(T, self.z, self.slope)

    def _price(self, U: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        C = U @ self.linear.T + 0.5 * (root @ self.bends)  # the smoothed Z'phi(Xu) of each
        price = np.linalg.norm(C, axis=1)
        return price, C / np.where(price > 0.0, price, np.float32(1.0))[:, None]

    def _toward(self, ways: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ways @ self.bends.T, ways @ self.linear
