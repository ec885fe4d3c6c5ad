r"""Newton's system on the groups that are not zero, solved by conjugate gradients.

The system is that of :mod:`cvxnn.manifold`, ``H x = r`` with ``H = F' diag(h) F + B``. Two products with
the patterns apply H, and a preconditioner that solves each group by itself leaves few directions: groups
share X, so what several of them do together is all that it misses. Half a dozen products then give a
direction as good as an inexact Newton step needs, where a factor of kd or n unknowns has a cubic cost.

The blocks of the preconditioner are ``M_g + b_g (I - (1 - tau) u_g u_g')`` with ``b_g = beta / ||w_g||``
and ``M_g = F_g' diag(m) F_g`` for the majorant m of h, whose eigenvectors ``M_g = V diag(l) V'`` block
steps have computed already. By Sherman and Morrison, with ``A = V diag(l + b) V'``,

    (A - (1 - tau) b u u')^-1 = A^-1 + (1 - tau) b A^-1 u u' A^-1 / s,
    s = 1 - (1 - tau) b u'A^-1 u = sum_i (V'u)_i^2 (l_i + tau b) / (l_i + b),

the last form without cancellation. The best intercept for given x takes the h-weighted mean of the
prediction away, and so it is eliminated.

A direction needs few digits, and what it misses the next step takes up in float64. So all is in float32, in
a scale where data, curvatures and right-hand side are at most 1.

References: Nocedal and Wright, Numerical Optimization, algorithms 5.3 (preconditioned conjugate gradients)
and 7.1 (inexact Newton steps).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from .block_step import BlockSteps
from .manifold import Inverse
from .operators import Masked, spread

__all__ = ["ByProducts"]

#: The part of the residual, in the norm of the preconditioner, that a direction may leave; rounds at most.
ACCURACY, MOST = 0.1, 120
#: Rounds that are expected before any are counted, and those that preparing a system is worth.
EXPECTED, PREPARING = 8, 5
#: What a round costs apart from its products, in multiplications of float64; those of float32 beside them.
ROUND_COST, SINGLE = 400_000, 0.6
#: Numbers in the unpacked patterns of the active groups, at most.
LARGEST = 36_000_000


class ByProducts:
    """Newton's system by conjugate gradients.

    Parameters
    ----------
    operator : Masked
        All groups, in NumPy.
    steps : BlockSteps
        Of the majorant of the loss, at the strength of the penalty.
    """

    def __init__(self, operator: Masked, steps: BlockSteps) -> None:
        self.operator, self.steps = operator, steps
        self.reach = float(np.max(np.abs(operator.X), initial=0.0)) or 1.0
        self.X = np.ascontiguousarray((operator.X / self.reach).T, dtype=np.float32)
        #: how many rounds the last system took; inf once float32 was not enough
        self.rounds = float(EXPECTED)

    def at(self, steps: BlockSteps) -> ByProducts:
        """The same system at another strength of the norm."""
        other = copy.copy(self)
        other.steps = steps
        return other

    def cost(self, k: int) -> float:
        """About how many multiplications a system with `k` groups takes; inf where it is not possible."""
        d, n = self.X.shape
        if k * n > LARGEST:
            return float("inf")
        return (self.rounds + PREPARING) * (SINGLE * 2.0 * n * k * d + ROUND_COST)

    def factor(
        self, groups: np.ndarray, h: np.ndarray, W: np.ndarray, intercept: bool, tau: float = 0.0
    ) -> Inverse:
        """As :meth:`cvxnn.manifold.ByWeights.factor`; good to `ACCURACY`, and zero where none is."""
        most = float(np.max(h, initial=0.0))
        scale = most * self.reach**2
        if not scale > 0.0:
            self.rounds = float("inf")
            return lambda r, total: (np.zeros_like(r), 0.0)
        mask, curvature = self._masks(groups), (h / most).astype(np.float32)
        size = np.sqrt(np.einsum("kd,kd->k", W, W))
        U, b = W / size[:, None], self.steps.beta / size / scale
        blocks = _Blocks([self.steps.eigen(g) for g in groups.tolist()], scale, U, b, tau)
        whole = float(np.sum(curvature, dtype=np.float64))
        along, lift = U.astype(np.float32), b.astype(np.float32)[:, None]
        less = np.float32(1.0 - tau) * lift[:, 0]

        def curve(x: np.ndarray) -> np.ndarray:
            """``H x / scale``, with the intercept at its best."""
            f = np.einsum("dn,dn->n", self.X, x.T @ mask)
            if intercept:
                f -= np.float32(float(curvature @ f) / whole)
            out = ((self.X * (f * curvature)) @ mask.T).T + lift * x
            out -= (less * np.einsum("kd,kd->k", along, x))[:, None] * along
            return out

        def inverse(r: np.ndarray, total: float | None) -> tuple[np.ndarray, float]:
            shift = 0.0 if total is None else total / (most * whole)
            cross = np.zeros_like(r)
            if total is not None:
                cross = most * self.reach * ((self.X * curvature) @ mask.T).T.astype(np.float64)
                r = r - shift * cross
            length = float(np.linalg.norm(r))
            if length == 0.0:
                return np.zeros_like(r), shift
            found, self.rounds = _conjugate_gradients(curve, blocks, (r / length).astype(np.float32))
            x = found.astype(np.float64) * (length / scale)
            if not np.all(np.isfinite(x)):
                self.rounds = float("inf")
                return np.zeros_like(r), 0.0
            return x, shift - float(np.sum(cross * x)) / (most * whole)

        return inverse

    def _masks(self, groups: np.ndarray) -> np.ndarray:
        """The signed patterns of some groups in float32, shape (k, n)."""
        operator = self.operator
        small = operator.whole()
        if small is not None:
            mask = small[groups].astype(np.float32)
        else:
            mask = spread(operator.bits[groups], self.X.shape[1], np.float32)
        return mask if operator.signs is None else mask * operator.signs[groups, None].astype(np.float32)


class _Blocks:
    """The inverses of the blocks of the preconditioner, for vectors (k, d) in float32.

    Parameters
    ----------
    known : list of (ndarray of shape (d,), ndarray of shape (d, d))
        Eigenvalues and eigenvectors of every group.
    scale : float
        What the eigenvalues are divided by.
    U, b : ndarray of shape (k, d) and (k,)
        Directions of the groups, and beta over their norms, divided by the scale.
    tau : float
        The damping.
    """

    def __init__(
        self,
        known: list[tuple[np.ndarray, np.ndarray]],
        scale: float,
        U: np.ndarray,
        b: np.ndarray,
        tau: float,
    ) -> None:
        values, V = np.array([pair[0] for pair in known]) / scale, np.array([pair[1] for pair in known])
        turned = np.einsum("kde,kd->ke", V, U)
        inside = 1.0 / (values + b[:, None])
        schur = np.einsum("ke,ke->k", turned * turned, (values + tau * b[:, None]) * inside)
        # weights along which a group has no curvature get a little of it
        low = turned * inside * np.sqrt((1.0 - tau) * b / np.maximum(schur, 1e-6))[:, None]
        self.V, self.inside, self.low = (part.astype(np.float32) for part in (V, inside, low))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        y = np.matmul(r[:, None, :], self.V)[:, 0, :]
        y = self.inside * y + np.einsum("ke,ke->k", self.low, y)[:, None] * self.low
        return np.matmul(self.V, y[:, :, None])[:, :, 0]


def _conjugate_gradients(
    curve: Callable[[np.ndarray], np.ndarray], blocks: Callable[[np.ndarray], np.ndarray], r: np.ndarray
) -> tuple[np.ndarray, float]:
    """Solve from zero to `ACCURACY`; return the solution and how many rounds that took."""
    x, p = np.zeros_like(r), blocks(r)
    left = float(np.vdot(r, p))
    enough = ACCURACY**2 * left
    for k in range(1, MOST + 1):
        q = curve(p)
        bend = float(np.vdot(p, q))
        if not bend > 0.0:  # a direction without curvature, to rounding
            return x, float(k)
        step = np.float32(left / bend)
        x += step * p
        r = r - step * q
        z = blocks(r)
        left, before = float(np.vdot(r, z)), left
        if not left > enough:
            return x, float(k)
        p = z + np.float32(left / before) * p
    return x, float(MOST)
