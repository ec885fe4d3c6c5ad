r"""A loss inside a primal-dual interior-point method: smooth, or a sum of clipped hinges.

Newton's method asks two things of a loss in n predictions f: its gradient and a positive diagonal h. A
smooth loss has both. The kinks of a clipped hinge (:class:`cvxnn.losses.base.ClippedHinge`, weight s)

    max over 0 <= q <= s u of  q x - kappa q^2 / (2 s),      x = a f + b,

are complementarity conditions like any others: with slacks l for ``q >= 0`` and p for ``w = s u - q >= 0``,

    x - kappa q / s + l - p = 0,     q l = mu,     w p = mu.

Linearised, q, l and p are eliminated sample by sample, and what is left is ``a dq = h df + shift`` with

    h = 1 / (kappa / s + l / q + p / w):

no differently from a smooth loss. The gradient ``sum a q`` is strictly inside the domain of the conjugate
at every iterate, so that every iterate proves a bound, and in the end it is the multiplier of every kink.

References: Wright, Primal-Dual Interior-Point Methods, 1997, chapters 1 and 10; Portnoy and Koenker, "The
Gaussian hare and the Laplacian tortoise", Stat. Sci. 1997 (for quantile regression).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .losses import Loss

__all__ = ["InteriorLoss", "Multipliers", "Newton"]


@dataclass(frozen=True, eq=False)
class Multipliers:
    """The variables of the hinges, or a direction of them; all of shape (hinges, n).

    Parameters
    ----------
    q, w : ndarray
        Slopes and what they lack to their caps.
    low, high : ndarray
        Multipliers of ``q >= 0`` and of ``w >= 0``.
    """

    q: np.ndarray
    w: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def step(self, length: float, move: Multipliers) -> Multipliers:
        """Return the point after a step; without hinges there is nothing to move."""
        return Multipliers(
            self.q + length * move.q,
            self.w + length * move.w,
            self.low + length * move.low,
            self.high + length * move.high,
        )


class InteriorLoss:
    """A loss with its targets and weights.

    Parameters
    ----------
    loss : Loss
    y, s : ndarrays of shape (n,)
    """

    def __init__(self, loss: Loss, y: np.ndarray, s: np.ndarray) -> None:
        self.loss, self.y, self.s = loss, y, s
        hinges = loss.hinges(y) or ()
        shape = (len(hinges), len(y))
        self.smooth = not hinges
        self.side = np.array([hinge.side for hinge in hinges]).reshape(shape)
        self.offset = np.array([hinge.offset for hinge in hinges]).reshape(shape)
        cap = np.array([hinge.cap for hinge in hinges]).reshape(-1, 1)
        self.capped = np.broadcast_to(np.isfinite(cap), shape)
        # a hinge without a cap has p = 0, whatever w is
        self.cap = np.where(self.capped, cap, 1.0) * s
        self.curve = np.array([hinge.curve for hinge in hinges]).reshape(-1, 1) / s
        self.count = shape[0] * shape[1] + int(np.sum(self.capped))

    @staticmethod
    def supports(loss: Loss) -> tuple[bool, str]:
        """Return whether a loss is smooth or made of hinges, and the reason if it is neither."""
        if loss.smooth or loss.hinges(np.ones(1)) is not None:
            return True, ""
        return False, f"needs a loss that is smooth or made of hinges, and {loss.name} is neither"

    def start(self, f: np.ndarray, mu: float) -> Multipliers:
        """Return the multipliers on the central path at a prediction, shape (n,)."""
        x = self.side * f + self.offset
        # x = kappa q - mu / q + mu / w grows with q: bisection on a logarithmic scale from both ends
        low, high = np.zeros_like(x), np.where(self.capped, self.cap, self._most(x, mu))
        for _ in range(80):
            q = 0.5 * (low + high)
            with np.errstate(divide="ignore"):
                pull = np.where(self.capped, mu / (self.cap - q), 0.0) - mu / q + self.curve * q
            above = pull > x
            low, high = np.where(above, low, q), np.where(above, q, high)
        tiny = 1e-12 * self.cap
        q = np.maximum(0.5 * (low + high), tiny)
        q = np.where(self.capped, np.minimum(q, self.cap - tiny), q)
        w = np.where(self.capped, self.cap - q, 1.0)
        return Multipliers(q, w, mu / q, np.where(self.capped, mu / w, 0.0))

    def _most(self, x: np.ndarray, mu: float) -> np.ndarray:
        """An upper bound of q without a cap: ``kappa q - mu / q = x``."""
        bend = np.maximum(self.curve, 1e-300)
        return (np.abs(x) + np.sqrt(mu * bend)) / bend * 2.0 + 0.0

    def gradient(self, f: np.ndarray, at: Multipliers) -> np.ndarray:
        """The gradient of the loss in the prediction, shape (n,)."""
        if self.smooth:
            return self.loss.gradient(f, self.y, self.s)
        return np.einsum("kn,kn->n", self.side, at.q)

    def complementarity(self, at: Multipliers) -> float:
        """The sum of all products, ``count`` in number."""
        return float(np.sum(at.q * at.low) + np.sum(at.w * at.high))

    def newton(self, f: np.ndarray, at: Multipliers) -> Newton:
        """Return what one Newton system needs."""
        return Newton(self, f, at)

    def longest(self, at: Multipliers, move: Multipliers) -> float:
        """The largest step that keeps all variables positive, at most 1e6."""
        largest = 1e6
        for value, change in (
            (at.q, move.q),
            (at.w, move.w),
            (at.low, move.low),
            (at.high, move.high),
        ):
            falling = change < 0.0
            if np.any(falling):
                largest = min(largest, float(np.min(-value[falling] / change[falling])))
        return largest


class Newton:
    """The linearised loss at one point: ``gradient + shift + h df``.

    Attributes
    ----------
    gradient, h : ndarrays of shape (n,)
    """

    def __init__(self, term: InteriorLoss, f: np.ndarray, at: Multipliers) -> None:
        self.term, self.at = term, at
        self.gradient = term.gradient(f, at)
        if term.smooth:
            self.h = term.loss.hessian(f, term.y, term.s)
            return
        self.each = 1.0 / (term.curve + at.low / at.q + at.high / at.w)
        self.h = np.sum(self.each, axis=0)
        self.residual = term.side * f + term.offset - term.curve * at.q + at.low - at.high

    def _aims(self, target: float, affine: Multipliers | None) -> tuple[np.ndarray, np.ndarray]:
        """Changes of both multipliers for ``dq = 0``; Mehrotra's second-order terms from `affine`."""
        at = self.at
        low = target - at.q * at.low
        high = target - at.w * at.high
        if affine is not None:
            low, high = low - affine.q * affine.low, high - affine.w * affine.high
        return low / at.q, np.where(self.term.capped, high / at.w, 0.0)

    def shift(self, target: float, affine: Multipliers | None) -> np.ndarray:
        """The part of the gradient's change that does not depend on df, shape (n,)."""
        if self.term.smooth:
            return np.zeros_like(self.h)
        low, high = self._aims(target, affine)
        return np.einsum("kn,kn,kn->n", self.term.side, self.each, self.residual + low - high)

    def move(self, df: np.ndarray, target: float, affine: Multipliers | None) -> Multipliers:
        """The direction of the multipliers that goes with a change of the prediction."""
        at = self.at
        if self.term.smooth:
            return at
        low, high = self._aims(target, affine)
        dq = self.each * (self.term.side * df + self.residual + low - high)
        return Multipliers(
            dq,
            np.where(self.term.capped, -dq, 0.0),
            low - at.low / at.q * dq,
            high + at.high / at.w * dq,
        )
