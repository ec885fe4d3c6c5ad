r"""The largest of the norms ``||F_g' Z||``, most of which need not be computed.

A bound of a program prices a dual variable with all groups, ``max_g ||F_g' Z||``, F_g = D_g X. Solvers
price one dual variable after the other, nearer and nearer to each other, and the judge one that differs
from the last by rounding. With the norms at an earlier Z0 and any t >= 0

    ||F_g' Z||  <=  t ||F_g' Z0|| + ||F_g||_2 ||Z - t Z0||,       ||F_g||_2 <= ||X||_2,

so that groups for which the right-hand side is below the norm of one group at Z do not have the largest.
Only the others are priced. The value is that of the full product, to rounding.

Reference: Ndiaye, Fercoq, Gramfort and Salmon, JMLR 2017, who discard groups by the same inequality.
"""

from __future__ import annotations

import numpy as np

from .operators import Masked

__all__ = ["largest_price"]

#: The part of the groups up to which they are priced one by one.
FEW = 0.3
#: Rounding of the norms and distances, relative to those of the whole: on the safe side.
ROUNDING = 1e-12


class _Earlier:
    """A dual variable (n,) with all norms (groups,), the last one priced, and a bound of ``||X||_2``."""

    def __init__(self, operator: Masked) -> None:
        squares = np.linalg.eigvalsh(operator.X.T @ operator.X)
        self.reach = float(np.sqrt(max(squares[-1], 0.0))) * (1.0 + 1e-7) if len(squares) else 0.0
        self.Z, self.norms = np.zeros(operator.shape[0]), np.zeros(operator.shape[1])
        self.last, self.largest = self.Z, 0.0

    def price(self, operator: Masked, Z: np.ndarray) -> float:
        """Return the largest norm at `Z`."""
        square = float(self.Z @ self.Z)
        t = max(float(Z @ self.Z) / square, 0.0) if square > 0.0 else 0.0
        away = self.reach * (float(np.linalg.norm(Z - t * self.Z)) + ROUNDING * float(np.linalg.norm(Z)))
        first = np.argmax(self.norms, keepdims=True)
        found = float(_norms(operator.take(first).adjoint(Z))[0])
        near = np.flatnonzero(t * self.norms + away >= found)
        # what is not finite has no order: then all groups are priced, and nothing is learnt
        if np.isfinite(away) and len(near) <= FEW * len(self.norms):
            return max(found, float(np.max(_norms(operator.take(near).adjoint(Z)), initial=0.0)))
        norms = _norms(operator.adjoint(Z))
        if np.all(np.isfinite(norms)):
            self.Z, self.norms = Z.copy(), norms
        return float(np.max(norms))


def largest_price(operator: Masked, Z: np.ndarray) -> float:
    """Return ``max_g ||A*(Z)_g||``, 0 without groups.

    Parameters
    ----------
    operator : Masked
        Of NumPy's float64, with patterns of zeros and ones. Its notes keep the last dual variable at which
        all groups were priced.
    Z : ndarray of shape (n,)
    """
    if operator.shape[1] == 0:
        return 0.0
    earlier = operator.notes.get("largest_price")
    if earlier is None:
        earlier = operator.notes["largest_price"] = _Earlier(operator)
    if not np.array_equal(earlier.last, Z):
        earlier.largest, earlier.last = earlier.price(operator, Z), Z.copy()
    return float(earlier.largest)


def _norms(G: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("gd,gd->g", G, G))
