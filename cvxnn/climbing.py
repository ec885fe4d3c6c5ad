r"""Climbing to local maxima of a price, from many starts at once, kinks and all.

The price of unit neurons, ``p(u) = z'phi(Xu)`` with ``phi(t) = max(t, s t)``, has its maxima on many kinks:
a sample with ``z_i < 0`` holds a neuron on ``x_i'u = 0``, and at weak decay nearly as many samples do as
there are coordinates. Gradient ascent stalls below such points, walks from cell to cell
(:mod:`cvxnn.walks`) stop at the first of them. As in :mod:`cvxnn.smoothing_newton` the ReLU is replaced
by a hyperbola, ``psi(r) = (r + sqrt(r^2 + 4 mu^2)) / 2`` with r relative to ``|x_i| |u|``, and mu falls.

p is homogeneous, so its maxima on the sphere are minima of ``c/2 |u|^2 - p(u)`` at ``c = p(u)``. A step
solves, for every start on its own,

    (c I + (1 - s) X' diag( max(-z, 0) psi'' / |x| ) X) D = X'(z (s + (1 - s) psi')) - c u,

which keeps only the concave half of the curvature of p: D ascends, and samples with ``z_i > 0``, whose
kinks repel, are crossed freely. It is shortened until the price of the unit neuron rises. With few
coordinates all starts of one sign share the outer products ``x_i x_i'``, so that their matrices are one
product, and are solved together (:mod:`cvxnn.small_systems`); with more, a few steps of conjugate
gradients, for all starts at once, end near maxima of the same height (any number of them ascends). A wide
band sees past small maxima, which a narrow one finds: half of the starts begin with each.

References: Chen and Mangasarian, "A class of smoothing functions for nonlinear and mixed
complementarity problems", Comput. Optim. Appl. 1996; Horst and Thoai, "DC programming: overview", JOTA
1999, for the linearised convex part; Dembo and Steihaug, "Truncated-Newton algorithms for large-scale
unconstrained optimization", Math. Program. 1983.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .small_systems import solve_positive
from .walks import best_bias, rectify

Plan = tuple[tuple[float, int], ...]
#: Bands and steps: where starts begin, every other one; what tells good ones from bad; on from there.
WIDE: Plan = ((0.01, 6), (3e-3, 3), (1e-3, 1))
NARROW: Plan = ((3e-3, 5), (1e-3, 2))
FINE: Plan = ((1e-3, 1), (3e-4, 2), (1e-4, 1), (1e-5, 1))
#: From maxima at a price that was similar.
NEAR: Plan = ((1e-3, 3), (1e-4, 3), (1e-5, 1))
#: The least c, as a share of the largest price that z allows.
FLOOR = 0.02
#: Numbers in the data, and in the tables of one batch.
HELD, BATCH = 1 << 22, 1 << 19
#: Coordinates up to which climbing costs less than what it gains, and up to which systems are factored;
#: steps of conjugate gradients for larger ones.
WIDEST, DIRECT, STEPS = 200, 16, 8
#: Where fewer starts than this share move, the others are left out of the steps that follow with this band.
MOST_LIVE = 0.7
#: Lengths tried of a step.
LENGTHS = (1.0, 0.3, 0.09)
#: Curvature of a free bias where no kink holds it, relative to that of a weight.
LOOSE = 1e-2
#: How far a free bias goes, as a multiple of the reach of the data.
BEYOND = 2.0


def fits(X: np.ndarray) -> bool:
    """Whether steps are cheap enough to climb with."""
    return X.shape[1] <= WIDEST and X.size <= HELD


def _root(T: np.ndarray, four: np.float32) -> np.ndarray:
    """``sqrt(T^2 + four)``, in one new array."""
    root = T * T
    root += four
    return np.asarray(np.sqrt(root, out=root))


@dataclass(eq=False)
class _At:
    """Where starts are, for one band: what a step needs of it.

    Parameters
    ----------
    U : ndarray of shape (k, d)
        Unit rows.
    T, root : ndarray of shape (k, n)
        ``U unit'`` and ``sqrt(T^2 + 4 mu^2)``.
    price : ndarray of shape (k,)
        Smoothed.
    ways : ndarray of shape (k, outputs)
        The output direction of each, without any columns where there is one output.
    """

    U: np.ndarray
    T: np.ndarray
    root: np.ndarray
    price: np.ndarray
    ways: np.ndarray

    def take(self, kept: np.ndarray) -> _At:
        """Some of the starts."""
        return _At(self.U[kept], self.T[kept], self.root[kept], self.price[kept], self.ways[kept])

    def put(self, at: np.ndarray, new: _At, kept: np.ndarray) -> None:
        """Move the starts `at` to some rows of `new`."""
        for name in ("U", "T", "root", "price", "ways"):
            getattr(self, name)[at] = getattr(new, name)[kept]


class Climb:
    """Local maxima of one price.

    What depends on the price is in the methods that :class:`cvxnn.vector_climbing.VectorClimb` overrides.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        As small as :func:`fits` says.
    z : ndarray of shape (n,)
    free : int
        Trailing unpenalised coordinates (0, or 1 for a free bias; then ``sum(z) == 0``).
    slope : float
        Of the activation on the negative side, < 1.
    """

    #: Of conjugate gradients.
    steps = STEPS

    def __init__(self, X: np.ndarray, z: np.ndarray, free: int = 0, slope: float = 0.0) -> None:
        self.X, self.z, self.free, self.slope = X, z, free, slope
        self.kept = X.shape[1] - free
        norms = np.linalg.norm(X[:, : self.kept], axis=1)
        # A free bias is a coordinate in the units of the data's reach.
        self.reach = float(np.max(norms, initial=0.0)) or 1.0
        norms = np.maximum(norms, 1e-6 * self.reach)
        unit = X / norms[:, None]
        unit[:, self.kept :] *= self.reach
        weight = (z.T * norms).T
        weight = weight / (self._ceiling(weight, unit[:, : self.kept]) or 1.0)
        # the samples whose kinks may hold a neuron come first
        order = np.argsort(~self._holds(weight), kind="stable")
        self.held = int(np.sum(self._holds(weight)))
        unit, weight = unit[order], weight[order]
        self.unit, self.bends = unit.astype(np.float32), ((1.0 - slope) * weight).astype(np.float32)
        # the smoothed price is (U linear' + root bends / 2)
        self.linear = (0.5 * (1.0 + slope) * weight.T @ unit).astype(np.float32)
        rows = self.rows = self.unit[: self.held]
        if X.shape[1] <= DIRECT:
            self.corner = np.tril_indices(X.shape[1])
            self.products = np.ascontiguousarray((rows[:, self.corner[0]] * rows[:, self.corner[1]]).T)
        else:
            self.squares = rows * rows

    @staticmethod
    def _ceiling(weight: np.ndarray, unit: np.ndarray) -> float:
        """A bound of the price of unit neurons for a dual variable on rows of unit length."""
        sides = (np.maximum(side * weight, 0.0) @ unit for side in (1, -1))
        return max(float(np.linalg.norm(side)) for side in sides)

    def _holds(self, weight: np.ndarray) -> np.ndarray:
        """Which samples have kinks that may hold a neuron."""
        return weight < 0.0

    def __call__(self, U: np.ndarray, plan: Plan) -> np.ndarray:
        """Climb from the rows of ``U`` (k, d); returns unit rows, with the best of all free biases."""
        V = self._unit(U.astype(np.float64))
        # beyond the reach of the data a bias switches no sample, and may be too large for float32
        V[:, self.kept :] = np.clip(V[:, self.kept :] / self.reach, -BEYOND, BEYOND)
        V = V.astype(np.float32)
        fit = max(64, BATCH // len(self.X))
        # Single precision may overflow in a step, which is then not taken; and products of BLAS raise the
        # flag of an invalid value now and then where all values are finite (numpy#24067).
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [self._climb(V[k : k + fit], plan) for k in range(0, len(V), fit)]
        end = np.concatenate(parts) if parts else V
        V = np.where(np.all(np.isfinite(end), axis=1, keepdims=True), end, V).astype(np.float64)
        V[:, self.kept :] *= self.reach
        V = self._unit(V)
        if self.free:
            V[:, -1] = 0.0
            V[:, -1] = self._biases(self.X @ V.T)
        return V

    def from_afar(self, U: np.ndarray, share: int = 3) -> np.ndarray:
        """Climb from all of many starts, (k, d), and on from the best of them: one in `share`."""
        V = np.concatenate([self(U[::2], WIDE), self(U[1::2], NARROW)])
        order = np.argsort(-self.values(V), kind="stable")
        return self(V[order[: max(32, len(V) // share)]], FINE)

    def values(self, U: np.ndarray) -> np.ndarray:
        """The prices of the rows of ``U``, shape (k,)."""
        return np.asarray(self.z @ rectify(self.X @ U.T, self.slope))

    def _biases(self, T: np.ndarray) -> np.ndarray:
        """The best free bias for each column of ``T`` (n, k)."""
        return best_bias(T, np.repeat(self.z[:, None], T.shape[1], axis=1))

    def _unit(self, U: np.ndarray) -> np.ndarray:
        size = np.linalg.norm(U[:, : self.kept], axis=1, keepdims=True)
        return U / np.where(size > 0.0, size, 1.0)

    def _hold(self, V: np.ndarray, size: np.ndarray) -> None:
        """Keep free biases where kinks are: beyond the reach of the data the price does not change."""
        limit = np.float32(BEYOND) * size[:, None]
        V[:, self.kept :] = np.clip(V[:, self.kept :], -limit, limit)

    def _climb(self, U: np.ndarray, plan: Plan) -> np.ndarray:
        U = U.copy()
        for mu, steps in plan:
            at, live = self._at(U, mu), np.arange(len(U))
            for left in reversed(range(steps)):
                at, moved = self._step(at, mu)
                # what does not move would not move in the next step either
                if not np.any(moved):
                    break
                if left and np.sum(moved) < MOST_LIVE * len(moved):
                    U[live] = at.U
                    at, live = at.take(moved), live[moved]
            U[live] = at.U
        return U

    def _at(self, U: np.ndarray, mu: float) -> _At:
        """Evaluate unit rows."""
        T = U @ self.unit.T
        root = _root(T, np.float32(4.0 * mu * mu))
        return _At(U, T, root, *self._price(U, root))

    def _price(self, U: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The smoothed price of unit rows, and their output directions."""
        return U @ self.linear + 0.5 * (root @ self.bends), U[:, :0]

    def _toward(self, ways: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much samples pull at their kinks, and the slope of the linear part, for output directions."""
        return self.bends, self.linear

    def _step(self, at: _At, mu: float) -> tuple[_At, np.ndarray]:
        """One step of all, each as long as it pays; where they are then, and which moved."""
        c = np.maximum(at.price, np.float32(FLOOR))
        pulls, linear = self._toward(at.ways)
        inverse = np.float32(1.0) / at.root
        # the curvature at kinks that hold neurons, over 2 mu^2; by products, since powers are slow
        near = inverse[:, : self.held]
        bend = near * near
        bend *= near
        bend *= np.maximum(-pulls[..., : self.held], 0.0)
        inverse *= at.T
        inverse *= np.float32(0.5) * pulls
        G = inverse @ self.unit + linear
        G[:, : self.kept] -= c[:, None] * at.U[:, : self.kept]
        step = self._solve(bend, c, G, mu)
        promise = np.float32(1e-4) * np.sum(G * step, axis=1)
        moved, left = np.zeros(len(at.U), dtype=bool), np.arange(len(at.U))
        for length in LENGTHS:
            V = at.U[left] + np.float32(length) * step[left]
            size = np.linalg.norm(V[:, : self.kept], axis=1)
            self._hold(V, size)
            there = self._at(V / np.where(size > 1e-3, size, np.float32(1.0))[:, None], mu)
            good = there.price >= at.price[left] + np.float32(length) * promise[left]
            good &= size > 1e-3
            moved[left[good]] = True
            if length == LENGTHS[0]:  # most take their whole step: the others are put back
                there.put(~good, at, ~good)
                at = there
            else:
                at.put(left[good], there, good)
            left = left[~good]
            if not len(left):
                break
        return at, moved

    def _solve(self, bend: np.ndarray, c: np.ndarray, G: np.ndarray, mu: float) -> np.ndarray:
        """Newton's steps, with the curvature (k, held) at kinks that hold neurons, over ``2 mu^2``."""
        scale = np.float32(0.5 / (mu * mu))
        own = np.repeat(scale * c[:, None], self.unit.shape[1], axis=1)
        own[:, self.kept :] *= np.float32(LOOSE)
        return (self._factor if len(own[0]) <= DIRECT else self._conjugate)(bend, own, scale * G)

    def _factor(self, bend: np.ndarray, own: np.ndarray, G: np.ndarray) -> np.ndarray:
        """Solve ``(diag(own) + X' diag(bend) X) step = G``, all of shape (k, d) and bend (k, held)."""
        k, d = own.shape
        H, i = np.empty((d + 1, d, k), np.float32), np.arange(d)
        H[self.corner] = self.products @ bend.T
        H[i, i] += own.T
        H[d] = G.T
        return solve_positive(H).T

    def _conjugate(self, bend: np.ndarray, own: np.ndarray, G: np.ndarray) -> np.ndarray:
        """As :meth:`_factor`, nearly: some steps of conjugate gradients scaled by the diagonal."""
        diagonal = bend @ self.squares + own
        step, left = np.zeros_like(G), G.copy()
        way = left / diagonal
        size = np.sum(left * way, axis=1)
        tiny = np.float32(1e-30)
        for _ in range(self.steps):
            curved = (bend * (way @ self.rows.T)) @ self.rows + own * way
            length = (size / np.maximum(np.sum(way * curved, axis=1), tiny))[:, None]
            step += length * way
            left -= length * curved
            next_way = left / diagonal
            before, size = size, np.sum(left * next_way, axis=1)
            way = next_way + (size / np.maximum(before, tiny))[:, None] * way
        return step
