r"""Exact pricing of neurons with two weights, at any number of samples.

One input with a bias, or two inputs without one: the cells of n samples are then the at most 2n arcs
between the angles at which a sample goes on or off. Going once round the circle, the sum over the
samples that are on,

    g = sum over x_i'u > 0 of Z_i x_i,

changes by one term at every angle, so cumulative sums give it in all cells, and the price of a cell is
``|g|`` if g points into its arc and otherwise the larger of its two ends. That is ``M(Z)`` over all
neurons, in O(n log n), with no list of patterns. With an unpenalised bias (and ``sum_i Z_i = 0``) the
weight is +1 or -1, the price is piecewise linear in the bias, and its breakpoints are the samples:

    G_j = sum_i Z_i (x_i - x_j)_+        and        G_j - G_1    (kinks that open to the right and left).

An activation ``max(t, s t)`` is ``(1 - s) t_+ + s t``, so its sums are ``(1 - s) g + s X'Z`` on the same
arcs.

Sums are taken in extended precision, and what rounding they have left is added to the bound.

References: Pilanci and Ergen, ICML 2020, section 3; Ergen and Pilanci, "Convex geometry and duality of
over-parameterized neural networks", JMLR 2021 (one-dimensional data: kinks at samples).
"""

from __future__ import annotations

import math

import numpy as np

from .certificate import Price
from .design import Design
from .network import Network
from .oracles import NeuronOracle
from .pricing import Neurons
from .program import Problem

__all__ = ["PlaneOracle", "kink_prices"]

#: Cells narrower than this are between samples that are parallel but for rounding.
NARROW = 1e-14
#: Neurons proposed at most.
MOST = 64


def kink_prices(x: np.ndarray, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``sum_i Z_i (x_i - x_j)_+`` and ``sum_i Z_i (x_j - x_i)_+`` for all j, shape (n,) each.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Ascending.
    Z : ndarray of shape (n,)
    """
    steps = np.diff(x.astype(np.longdouble))
    z = Z.astype(np.longdouble)
    right, left = np.zeros(len(x), np.longdouble), np.zeros(len(x), np.longdouble)
    right[:-1] = np.cumsum((steps * np.cumsum(z[::-1])[::-1][1:])[::-1])[::-1]
    left[1:] = np.cumsum(steps * np.cumsum(z)[:-1])
    return right.astype(np.float64), left.astype(np.float64)


class PlaneOracle(NeuronOracle):
    """Exact pricing over all neurons on a design with two columns (scope ``global``)."""

    scope = "global"

    def __init__(self, problem: Problem, design: Design) -> None:
        super().__init__(problem, design)
        if self.X.shape[1] != 2:
            raise ValueError(f"the design has {self.X.shape[1]} columns: pass one with two")
        if self.free:
            # on a line: a scale of the data, positions in ascending order
            self.order = np.argsort(self.X[:, 0], kind="stable")
            return
        rows = np.flatnonzero(np.any(self.X != 0, axis=1))
        angle = np.arctan2(self.X[rows, 1], self.X[rows, 0])
        # row i goes on at angle - pi/2 and off at angle + pi/2
        events = np.concatenate([angle - np.pi / 2, angle + np.pi / 2]) % (2 * np.pi)
        self.order = np.argsort(events, kind="stable")
        sorted_ = events[self.order]
        # round the circle from the widest arc, whose middle is clear of all samples
        first = int(np.argmax(np.append(sorted_[1:], sorted_[:1] + 2 * np.pi) - sorted_))
        self.order = np.roll(self.order, -first)
        self.angles = events[self.order]
        self.angles[len(self.angles) - first :] += 2 * np.pi
        self.rows = np.concatenate([rows, rows])[self.order]
        self.change = np.repeat([1.0, -1.0], len(rows))[self.order]
        self.ends = np.append(self.angles[1:], self.angles[:1] + 2 * np.pi)

    def _rounding(self, Z: np.ndarray) -> float:
        """What the sums may be off by: the extended precision's share, and that of the last steps.

        A free bias within its reach also meets ``sum(Z)``, which is zero up to rounding only.
        """
        outside = 2.0 * self.reach * abs(math.fsum(Z)) if self.free else 0.0
        eps = float(np.finfo(np.longdouble).eps) * len(Z) + 8.0 * float(np.finfo(np.float64).eps)
        both = 1.0 - self.slope + abs(self.slope)
        return both * (eps * float(np.abs(Z) @ np.linalg.norm(self.X, axis=1)) + outside)

    def _arcs(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The price (signed side by side: +Z, then -Z) and the best angle of every cell, (2, cells)."""
        X = self.X.astype(np.longdouble)
        step = self.change[:, None] * (Z[self.rows, None] * X[self.rows])
        # the first cell begins with what is on just after the first angle
        middle = 0.5 * (self.angles[0] + self.ends[0])
        start = X @ np.array([np.cos(middle), np.sin(middle)]) > 0
        g = np.cumsum(step, axis=0)
        g = (1.0 - self.slope) * (g - g[0] + (start * Z) @ X) + self.slope * (Z @ X)
        g = np.asarray(g, dtype=np.float64)
        values, best = [], []
        for side in (1.0, -1.0):
            peak = np.arctan2(side * g[:, 1], side * g[:, 0])
            # the peak's representative at or after the start of the arc
            peak = self.angles + (peak - self.angles) % (2 * np.pi)
            ends = [side * (g[:, 0] * np.cos(at) + g[:, 1] * np.sin(at)) for at in (self.angles, self.ends)]
            inside = peak <= self.ends
            end = np.where(ends[0] >= ends[1], self.angles, self.ends)
            values.append(np.where(inside, np.hypot(g[:, 0], g[:, 1]), np.maximum(*ends)))
            best.append(np.where(inside, peak, end))
        return np.array(values), np.array(best)

    def price(self, Z: np.ndarray) -> Price:
        if not np.any(Z) or not np.any(self.X):
            return Price(0.0, self.scope, 0.0)
        values = self._kinks(Z) if self.free else self._arcs(Z)[0]
        found = max(0.0, float(np.max(np.abs(values) if self.free else values)))
        return Price(found * (1.0 + 1e-15) + self._rounding(Z), self.scope, found)

    def _kinks(self, Z: np.ndarray) -> np.ndarray:
        """Signed prices of the kinks that open to the right and to the left, shape (2, n), sorted."""
        kinks = np.array(kink_prices(self.X[self.order, 0], Z[self.order]))
        if not self.slope:
            return kinks
        straight = self.slope * math.fsum(Z * self.X[:, 0])
        return (1.0 - self.slope) * kinks + np.array([[straight], [-straight]])

    def neurons(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Neurons:
        return self._above(Z, self.problem.beta * (1.0 - 1e-9), peaks=True).take(MOST)

    def thorough(self, Z: np.ndarray, network: Network) -> Neurons:
        """All local maxima: nothing is left to search for."""
        return self._above(Z, self.problem.beta * (1.0 - 1e-9), peaks=True)

    def active(self, Z: np.ndarray, floor: float, network: Network) -> Neurons:
        """The unit neurons priced at least `floor`, of every cell that has one."""
        return self._above(Z, floor, peaks=False)

    def _above(self, Z: np.ndarray, floor: float, *, peaks: bool) -> Neurons:
        """Neurons priced at least `floor`: of all cells, or only where the price has a local maximum."""
        if not np.any(Z) or not np.any(self.X):
            none = np.zeros(0)
            return Neurons(none, self.X[:0], none, np.zeros((0, len(self.X)), bool), self.X[:0])
        values, U, signs, gates = (self._lines if self.free else self._circle)(Z, floor, peaks)
        order = np.argsort(-values, kind="stable")[: 4 * MOST if peaks else None]
        U, gates = U[order], gates[order]
        return Neurons(values[order], U, signs[order], (self.X @ gates.T > 0).T, gates)

    def _circle(
        self, Z: np.ndarray, floor: float, peaks: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        values, best = self._arcs(Z)
        kept = (values >= floor) & (self.ends - self.angles > NARROW)
        if peaks:
            kept &= (values >= np.roll(values, 1, axis=1)) & (values >= np.roll(values, -1, axis=1))
        side, cell = np.nonzero(kept)
        at, middle = best[side, cell], 0.5 * (self.angles + self.ends)[cell]
        U, gates = (np.column_stack([np.cos(a), np.sin(a)]) for a in (at, middle))
        return values[side, cell], U, np.where(side == 0, 1.0, -1.0), gates

    def _lines(
        self, Z: np.ndarray, floor: float, peaks: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        signed = self._kinks(Z)
        values = np.abs(signed)
        kept = values >= floor
        if peaks:
            kept[:, 1:] &= values[:, 1:] >= values[:, :-1]
            kept[:, :-1] &= values[:, :-1] > values[:, 1:]
        side, at = np.nonzero(kept)
        w = np.where(side == 0, 1.0, -1.0)
        U = np.column_stack([w, -w * self.X[self.order[at], 0] / self.X[self.order[at], 1]])
        return values[side, at], U, np.sign(signed[side, at]), U
