r"""Losses that are sums of clipped hinges: piecewise linear, or with a parabola in between.

Let ``x = a f + b`` with ``a`` in {-1, +1}. A clipped hinge

    rho(x) = max over 0 <= q <= u of  q x - kappa q^2 / 2

is 0 up to 0, a parabola up to ``kappa u``, a line of slope ``u`` beyond; ``kappa = 0`` leaves a kink.
Absolute, quantile, epsilon-insensitive and Huber losses are two of them, one for each sign of the
residual, hinge and squared hinge are one. What follows is the same for all:

- the conjugate is ``kappa q^2 / 2 - q b`` for ``z = a q``, on an interval of z (two hinges of opposite
  sides are never positive at the same f, so that z belongs to one of them, by its sign);
- the Moreau envelope adds to kappa: ``loss_mu*(z) = loss*(z) + mu z^2 / 2``. It is smooth, at most
  ``mu u^2 / 2`` below the loss, and its gradients are in the domain of the loss' own conjugate;
- best constants and best scales of dual variables are roots of piecewise linear functions, found exactly;
- as a conic program a hinge is ``min u v + e^2 / (2 kappa)`` over ``e, v >= 0, e + v >= x``.

References: Rockafellar and Wets, Variational Analysis, sections 1.G and 11.D; Rockafellar,
"Linear-quadratic programming and optimal control", SIAM J. Control Optim. 1987 (the function rho).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from scipy import sparse

from ..arrays import Array, array_namespace
from .base import ClippedHinge, ConicForm, Loss

#: A hinge counts as at its kink if it is within this share of its terms.
KINK = 1e-12
#: Rounding may leave a dual variable this share outside its interval.
SLACK = 1e-14


@dataclass(frozen=True)
class PiecewiseQuadratic(Loss):
    """A sum of clipped hinges; a loss of this kind says which by :meth:`pieces`.

    Parameters
    ----------
    smoothing : float, default=0.0
        The ``mu`` of the Moreau envelope that takes the place of the loss; 0 is the loss itself.
    center : array of shape (n,), or None
        Where the envelope's parabolas in the dual variable have their tops, one for each sample of the
        targets that the loss will be used with; None is 0.
    """

    smoothing: float = field(default=0.0, kw_only=True, repr=False)
    center: Array | None = field(default=None, kw_only=True, repr=False, compare=False)

    @abstractmethod
    def pieces(self, y: Array) -> tuple[ClippedHinge, ...]:
        """Return the hinges of the loss itself, without smoothing.

        At most one for each side, of which at no f both may be positive.
        """

    def hinges(self, y: Array) -> tuple[ClippedHinge, ...]:
        pieces = self.pieces(y)
        if self.smoothing == 0.0:
            return pieces
        return tuple(
            replace(
                piece,
                curve=piece.curve + self.smoothing,
                # -mu (q - q_0)^2 / 2 is mu q_0 q - mu q^2 / 2 and a constant
                offset=piece.offset
                if self.center is None
                else piece.offset - self.smoothing * piece.side * self.center,
            )
            for piece in pieces
        )

    @property
    def curvature(self) -> float:
        least = min(hinge.curve for hinge in self.hinges(np.ones(1)))
        return 1.0 / least if least > 0.0 else float("inf")

    @property
    def smooth(self) -> bool:
        return bool(np.isfinite(self.curvature))

    def smoothed(self, error: float, center: Array | None = None) -> Self:
        if self.smooth:
            return self
        steepest = max(hinge.cap for hinge in self.pieces(np.ones(1)) if hinge.curve == 0.0)
        return replace(self, smoothing=2.0 * error / steepest**2, center=center)

    def value(self, f: Array, y: Array, s: Array) -> float:
        total = 0.0
        for hinge in self.hinges(y):
            x = hinge.side * f + hinge.offset
            q = _slope(hinge, x)
            xp = array_namespace(x)
            # at a kink q is one of many, and x = 0 makes them equal
            total += float(xp.sum(s * (q * x - 0.5 * hinge.curve * q * q)))
        return total

    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        """At a kink the middle of the subdifferential."""
        total = array_namespace(f).zeros_like(f)
        for hinge in self.hinges(y):
            total = total + hinge.side * _slope(hinge, hinge.side * f + hinge.offset)
        return s * total

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        xp = array_namespace(f)
        total = xp.zeros_like(f)
        for hinge in self.hinges(y):
            if hinge.curve > 0.0:
                x = hinge.side * f + hinge.offset
                inside = (x > 0.0) & (x < hinge.curve * hinge.cap)
                total = total + xp.where(inside, 1.0 / hinge.curve, 0.0 * x)
        return s * total

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        xp = array_namespace(z)
        w, total, left = z / s, 0.0, z / s
        for hinge in self.hinges(y):
            q = xp.maximum(hinge.side * w, 0.0 * w)
            if bool(xp.any(q > hinge.cap * (1.0 + SLACK))):
                return float("inf")
            left = left - hinge.side * q
            total += float(xp.sum(s * q * (0.5 * hinge.curve * q - hinge.offset)))
        return total if bool(xp.all(xp.abs(left) <= SLACK)) else float("inf")

    def nearest(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        low, high = np.zeros_like(Z), np.zeros_like(Z)
        for hinge in self.hinges(y):
            low = np.where(hinge.side > 0, -s * hinge.cap, low)
            high = np.where(hinge.side < 0, s * hinge.cap, high)
        return np.clip(Z, low, high)

    def best_scale(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray, limit: float) -> float:
        """The maximiser of a concave parabola in t on the interval on which ``t Z`` is in the domain."""
        w, end, linear, square = -Z / s, min(limit, 1e12), 0.0, 0.0
        left = w
        for hinge in self.hinges(y):
            q = np.maximum(hinge.side * w, 0.0)
            left = left - hinge.side * q
            end = min(end, hinge.cap / max(float(np.max(q, initial=0.0)), 1e-300))
            linear += float(np.sum(s * q * hinge.offset))
            square += float(np.sum(s * q * q)) * hinge.curve
        if np.any(np.abs(left) > SLACK) or linear <= 0.0:
            return 0.0
        return end if square == 0.0 else min(linear / square, end)

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> float:
        """The exact root of the slope in c, piecewise linear with jumps; the middle of an interval.

        Where an interval of roots has no end (targets of one class) it is the end that there is.
        """
        points = self._breakpoints(f, y)
        ends = np.concatenate([[-np.inf], points, [np.inf]])
        middles = np.concatenate([[points[0] - 1.0], 0.5 * (points[1:] + points[:-1]), [points[-1] + 1.0]])

        def slope(j: int) -> tuple[float, float]:
            """The slope in the middle of an interval between breakpoints, and how fast it grows."""
            gradient = self.gradient(f + middles[j], y, s)
            rounding = 1e-14 * float(np.sum(np.abs(gradient)))
            value = float(np.sum(gradient))
            return (0.0 if abs(value) <= rounding else value), float(
                np.sum(self.hessian(f + middles[j], y, s))
            )

        low, high = 0, len(middles) - 1  # the first interval with a slope that is not negative
        while low < high:
            j = (low + high) // 2
            low, high = (low, j) if slope(j)[0] >= 0.0 else (j + 1, high)
        if low > 0:
            value, growth = slope(low - 1)
            if growth > 0.0 and middles[low - 1] - value / growth <= ends[low]:
                return float(middles[low - 1] - value / growth)
        value, growth = slope(low)
        left, right = ends[low : low + 2]
        if growth > 0.0:
            return float(np.clip(middles[low] - value / growth, left, right))
        if value == 0.0 and np.isfinite(right):
            return float(0.5 * (left + right) if np.isfinite(left) else right)
        return float(left)

    def _breakpoints(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The constants c at which a hinge of some sample starts or reaches its cap, ascending."""
        points = []
        for hinge in self.hinges(y):
            side, start = hinge.side, -hinge.side * hinge.offset - f
            points.append(start + np.zeros_like(f))
            if 0.0 < hinge.curve * hinge.cap < float("inf"):
                points.append(start + side * hinge.curve * hinge.cap)
        found = np.sort(np.concatenate(points))
        apart = KINK * (1.0 + float(np.max(np.abs(found))))
        return found[np.concatenate([[True], np.diff(found) > apart])]

    def balanced(self, Z: np.ndarray, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        """All samples at a kink move along their intervals by the same share until the sum is zero."""
        low, high = Z.copy(), Z.copy()
        for hinge in self.hinges(y):
            if hinge.curve > 0.0:
                continue
            x = hinge.side * f + hinge.offset
            at = np.abs(x) <= KINK * (np.abs(f) + np.abs(hinge.offset))
            q = s * _slope(hinge, x)
            # Z = -sum of side q; at the kink q may be anything from 0 to the cap
            free, most = hinge.side * q, s * hinge.cap
            low = np.where(at, low + free - np.where(hinge.side > 0, most, 0.0), low)
            high = np.where(at, high + free + np.where(hinge.side < 0, most, 0.0), high)
        room = float(np.sum(high - low))
        if room > 0.0:
            Z = low + np.clip(-float(np.sum(low)) / room, 0.0, 1.0) * (high - low)
        return self.balance(Z)

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm:
        """``u v + e^2 / (2 kappa)`` with ``e, v >= 0, e + v >= x``, as far as a hinge has these parts."""
        n, hinges = len(y), self.hinges(y)
        parts = [(k, "e") for k, hinge in enumerate(hinges) if hinge.curve > 0.0]
        parts += [(k, "v") for k, hinge in enumerate(hinges) if np.isfinite(hinge.cap)]
        cost = [s * hinges[k].cap if part == "v" else np.zeros(n) for k, part in parts]
        bend = [s / hinges[k].curve if part == "e" else np.zeros(n) for k, part in parts]
        # rows: e + v - x >= 0 for every hinge, then e, v >= 0
        total, none = len(parts) * n, sparse.csc_matrix((n, n))
        own = [[sparse.identity(n) if k == at else none for k, _ in parts] for at in range(len(hinges))]
        sides = [sparse.diags(-hinge.side) for hinge in hinges]
        F = sparse.vstack([*sides, sparse.csc_matrix((total, n))])
        V = sparse.vstack([sparse.bmat(own), sparse.identity(total)])
        h = np.concatenate([*(-hinge.offset for hinge in hinges), np.zeros(total)])
        zero, cones = np.zeros(n), [("nonnegative", len(h))]
        return ConicForm(zero, zero, 0.0, np.concatenate(cost), F, V, h, cones, np.concatenate(bend))

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        import cvxpy as cp

        total = 0.0
        for hinge in self.hinges(y):
            x = cp.pos(cp.multiply(hinge.side, f) + hinge.offset)
            if hinge.curve == 0.0:
                total = total + cp.sum(cp.multiply(s * hinge.cap, x))
            elif hinge.cap == float("inf"):
                total = total + cp.sum(cp.multiply(s / (2.0 * hinge.curve), cp.square(x)))
            else:
                # huber(x, M) of CVXPY is x^2 up to M and 2 M |x| - M^2 beyond
                bend: Any = hinge.curve * hinge.cap
                part = cp.huber(x, bend)
                total = total + cp.sum(cp.multiply(s / (2.0 * hinge.curve), part))
        return total


def _slope(hinge: ClippedHinge, x: Array) -> Array:
    """The maximising q of a hinge; the middle of [0, cap] at a kink."""
    xp = array_namespace(x)
    if hinge.curve == 0.0:
        return 0.5 * hinge.cap * (xp.sign(x) + 1.0)
    q = xp.maximum(x / hinge.curve, 0.0 * x)
    return q if hinge.cap == float("inf") else xp.minimum(q, hinge.cap + 0.0 * x)
