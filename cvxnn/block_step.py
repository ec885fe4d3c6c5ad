r"""The exact minimiser of a quadratic plus the norm of one group.

A block coordinate step of the group lasso minimises, over the weights w of one group,

    1/2 w'Mw - v'w + beta ||w||,      M = F_g' diag(h) F_g positive semidefinite.

If ``||v|| <= beta`` the answer is zero. Otherwise, in the eigenvectors of M = V diag(l) V', it is
``w_i = t v_i / (l_i t + beta)`` for the t = ||w|| that solves the secular equation

    phi(t) = 1 / || v / (l t + beta) || - 1 = 0.

``phi`` is concave and increasing, as in trust-region methods, so Newton's method started anywhere is,
from its second iterate on, below the root and increases to it, quadratically; no safeguard is needed.

References: More and Sorensen, SIAM J. Sci. Stat. Comput. 1983; Yang and Hastie, "A fast and scalable
pathwise-solver for group lasso and elastic net", 2024, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["BlockSteps", "minimise_block"]


def minimise_block(values: np.ndarray, v: np.ndarray, beta: float, start: float = 0.0) -> np.ndarray:
    """Return the minimiser of ``1/2 sum_i values_i w_i^2 - v'w + beta ||w||``.

    Parameters
    ----------
    values : ndarray of shape (d,)
        Eigenvalues of the quadratic, at least 0.
    v : ndarray of shape (d,)
        Linear term; beyond rounding it may not point where `values` vanish.
    beta : float
        Strength of the norm, > 0.
    start : float
        A guess of the length of the answer.

    Returns
    -------
    ndarray of shape (d,)
    """
    square = v * v
    if float(square.sum()) <= beta * beta or not float(values.max(initial=0.0)) > 0.0:
        return np.zeros_like(v)
    t = start
    for _ in range(50):
        scale = 1.0 / (values * t + beta)
        terms = square * scale * scale
        size = float(terms.sum())
        slope = float(terms @ (values * scale))
        if slope <= 0.0:
            break
        step = size * (math.sqrt(size) - 1.0) / slope
        t, old = max(0.0, t + step), t
        if abs(t - old) <= 1e-14 * t:
            break
    return t * v / (values * t + beta)


class BlockSteps:
    """Exact block steps; eigendecompositions are made when a group first needs one, and kept.

    Parameters
    ----------
    quadratic : callable(int) -> ndarray of shape (d, d)
        Returns the matrix M of a group.
    beta : float
    """

    def __init__(self, quadratic: Callable[[int], np.ndarray], beta: float) -> None:
        self.quadratic, self.beta = quadratic, beta
        self.known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, beta: float) -> BlockSteps:
        """The same groups at another strength of the norm, with the eigenvectors that are known."""
        other = BlockSteps(self.quadratic, beta)
        other.known = self.known
        return other

    def eigen(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the eigenvalues (d,) of a group's matrix and its eigenvectors, the columns of (d, d)."""
        if group not in self.known:
            values, vectors = np.linalg.eigh(self.quadratic(group))
            # What rounding leaves of a zero eigenvalue must not act as curvature.
            floor = 1e-13 * max(float(values[-1]), 0.0)
            self.known[group] = np.where(values > floor, values, 0.0), vectors
        return self.known[group]

    def __call__(self, group: int, w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the weights (d,) after the step from `w` (d,), where the loss has this gradient (d,)."""
        values, vectors = self.eigen(group)
        v = values * (w @ vectors) - gradient @ vectors
        v[values == 0.0] = 0.0
        return vectors @ minimise_block(values, v, self.beta, math.sqrt(float(w @ w)))
