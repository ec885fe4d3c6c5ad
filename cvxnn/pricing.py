r"""Pricing ReLU neurons: which unit neuron correlates most with a dual variable?

A neuron improves the network exactly if its price exceeds beta, where the price of a dual variable Z is

    M(Z) = max over ||u|| <= 1 of |Z'(Xu)_+|.

Within one cell of the arrangement the price is the norm of a projection onto a cone and easy; over all
cells it is NP-hard. This module *searches*: many starts climb at once (:mod:`cvxnn.climbing`; by gradients
where its matrices are too large), then each of the best is solved exactly in its cell and walked to
neighbouring cells as long as that helps (:mod:`cvxnn.walks`). What is found is a lower bound of M, never
a proof.

References: Bach, JMLR 2017, section 4 (incremental training of convex networks); Pilanci and Ergen,
ICML 2020 (cells and their cones).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .climbing import NEAR, Climb, fits
from .multistart import unseen_maxima
from .walks import best_bias, rectify, walk

#: Starts of a search for each of its random gates, beside the neurons of a network (:func:`draw_starts`).
DRAWN = 3.5
#: Entries of a table (samples by starts) that stays in the cache while it is passed over again and again.
CACHE = 1 << 18


@dataclass(frozen=True, eq=False)
class Neurons:
    """Unit neurons found by a search, best first.

    Parameters
    ----------
    values : ndarray of shape (k,)
        ``sign * Z'(Xu)_+`` of each.
    directions : ndarray of shape (k, d)
        Unit norm (over the penalised coordinates).
    signs : ndarray of shape (k,), -1 or +1
    masks : bool ndarray of shape (k, n)
        The pattern whose closed cell holds the direction.
    gates : ndarray of shape (k, d)
        A point inside the open cell of the pattern, or of its closure with an unpenalised bias.
    unseen : float
        Maxima that the search has not seen, in expectation (:mod:`cvxnn.multistart`); inf if not known.
    """

    values: np.ndarray
    directions: np.ndarray
    signs: np.ndarray
    masks: np.ndarray
    gates: np.ndarray
    unseen: float = float("inf")

    @property
    def best(self) -> float:
        """The largest value found; 0 if there is none."""
        return max(0.0, float(np.max(self.values))) if len(self.values) else 0.0

    def take(self, count: int) -> Neurons:
        """Return the first `count` neurons."""
        return self.choose(np.arange(min(count, len(self.values))))

    def choose(self, kept: np.ndarray) -> Neurons:
        """Return some of the neurons, by their indices."""
        parts = (self.values, self.directions, self.signs, self.masks, self.gates)
        return Neurons(*(part[kept] for part in parts))

    def join(self, other: Neurons) -> Neurons:
        """Return the neurons of both, best first; the same pattern and sign only once."""
        values = np.concatenate([self.values, other.values])
        signs = np.concatenate([self.signs, other.signs])
        masks = np.concatenate([self.masks, other.masks])
        directions = np.concatenate([self.directions, other.directions])
        gates = np.concatenate([self.gates, other.gates])
        keys = np.column_stack([np.packbits(masks, axis=1), (signs > 0).astype(np.uint8)])
        order = np.argsort(-values, kind="stable")
        _, first = np.unique(keys[order], axis=0, return_index=True)
        kept = order[np.sort(first)]
        return Neurons(values[kept], directions[kept], signs[kept], masks[kept], gates[kept])


def shares(masks: np.ndarray, slope: float | np.ndarray = 0.0) -> np.ndarray:
    """Return what neurons pass on of each sample in their patterns: 1 where on, `slope` where off."""
    return np.where(masks, 1.0, slope)


def search(
    X: np.ndarray,
    Z: np.ndarray,
    *,
    starts: np.ndarray | None = None,
    extra: np.ndarray | None = None,
    n_random: int = 64,
    n_polish: int = 24,
    free: int = 0,
    slope: float = 0.0,
    exact: bool = True,
    estimate: bool = False,
    most_idle: int | None = None,
    random_state: np.random.Generator,
) -> Neurons:
    """Search for the unit neurons that correlate most with ``+Z`` and with ``-Z``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Z : ndarray of shape (n,)
    starts : ndarray of shape (k, d), or None
        The neurons of a network: every one of them is solved and walked, and random starts are
        drawn around them too.
    extra : ndarray of shape (k, d), or None
        More directions to start from.
    n_random : int
        Random starts, for each sign.
    n_polish : int
        How many of the best, with distinct patterns, are solved exactly and walked.
    free : int
        Trailing unpenalised coordinates (0, or 1 for a free bias; then ``sum(Z) == 0``).
    slope : float
        Of the activation on the negative side, < 1.
    exact : bool
        Whether to solve and walk; without, neurons come as ascent leaves them.
    estimate : bool
        Whether to say how many maxima the search has not seen.
    most_idle : int or None
        Walks in a row, from ever lower starts, that may find nothing better; None for any number.
    random_state : numpy.random.Generator

    Returns
    -------
    Neurons
    """
    d = X.shape[1]
    blank = np.zeros((0, d))
    if not np.any(Z) or not np.any(X):
        none = np.zeros(0)
        return Neurons(none, blank, none, np.zeros((0, len(X)), bool), blank)
    U = draw_starts(X, Z, starts, n_random, free, random_state)
    U = U if extra is None else np.concatenate([U, extra])
    count = len(U)
    # an estimate of what was not seen rests on where climbs ended: more of them end
    U, signs, values = (
        _climb(X, Z, U, free, slope, 2 if estimate else 3) if fits(X) else _rise(X, Z, U, free, slope)
    )
    found = _polish_best(X, Z, U, signs, values, n_polish, free, slope, exact, most_idle)
    # Gradients stall below maxima: where they end says nothing.
    known = estimate and fits(X)
    unseen = unseen_maxima(_ends(X, U, free), signs, values, count) if known else float("inf")
    if starts is None or not len(starts):
        return replace(found, unseen=unseen)
    # Neurons of a network rarely price highest, but walking them on is how they move: every
    # one of them gets its walk, from its own cell, with the sign that gives it its value.
    at = unit_rows(starts, free)
    correlation = Z @ rectify(X @ at.T, slope)
    side = np.where(correlation >= 0, 1.0, -1.0)
    values = np.abs(correlation)
    if not exact and fits(X):
        for sign in (1.0, -1.0):
            climb, ours = Climb(X, sign * Z, free, slope), side == sign
            at[ours] = climb(at[ours], NEAR)
            values[ours] = climb.values(at[ours])
    elif not exact:
        at, values = _ascend(X, Z, at, side, free, slope)
    own = _polish_best(X, Z, at, side, values, len(at), free, slope, exact)
    return replace(found.join(own), unseen=unseen)


def _climb(
    X: np.ndarray, Z: np.ndarray, U: np.ndarray, free: int, slope: float, share: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Climb from all starts for both signs, and on from a share of them: directions, signs, values."""
    directions, values = [], []
    for side in (1.0, -1.0):
        climb = Climb(X, side * Z, free, slope)
        directions.append(climb.from_afar(U, share))
        values.append(climb.values(directions[-1]))
    signs = np.repeat([1.0, -1.0], [len(part) for part in values])
    return np.concatenate(directions), signs, np.concatenate(values)


def _rise(
    X: np.ndarray, Z: np.ndarray, U: np.ndarray, free: int, slope: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_climb`, by gradients; a short ascent of all tells which are worth a long one."""
    signs = np.repeat([1.0, -1.0], len(U))
    V, values = _ascend(X, Z, np.concatenate([U, U]), signs, free, slope, 10)
    kept = np.argsort(-values, kind="stable")[: max(64, len(V) // 2)]
    V, values = _ascend(X, Z, V[kept], signs[kept], free, slope, 50)
    return V, signs[kept], values


def _ends(X: np.ndarray, U: np.ndarray, free: int) -> np.ndarray:
    """Unit rows to tell maxima apart by, free biases in units of the reach of the data."""
    ends, kept = U.copy(), X.shape[1] - free
    ends[:, kept:] /= np.max(np.linalg.norm(X[:, :kept], axis=1), initial=0.0) or 1.0
    return unit_rows(ends, 0)


def draw_starts(
    X: np.ndarray,
    Z: np.ndarray,
    starts: np.ndarray | None,
    n_random: int,
    free: int,
    random_state: np.random.Generator,
) -> np.ndarray:
    """Directions to ascend from, shape (k, d).

    Gaussian gates, in the scale of the columns and whitened, and samples; around a network rather its
    neurons moved at random, and differences of two of them, which see what lies between.
    """
    d = X.shape[1]
    kept = d - free
    gates = random_state.standard_normal((n_random, d)) * _column_scale(X)
    gram = X[:, :kept].T @ X[:, :kept]
    size, basis = np.linalg.eigh(gram)
    root = np.where(size > 1e-10 * size[-1], 1.0 / np.sqrt(np.maximum(size, 1e-300)), 0.0)
    # every other one whitened: every direction of the data gets the same chance
    gates[::2, :kept] = (random_state.standard_normal(gates[::2, :kept].shape) * root) @ basis.T
    # The neurons that alone see a sample best: the sample itself, and its opposite.
    heavy = np.argsort(-np.abs(Z) * np.linalg.norm(X, axis=1), kind="stable")[: n_random // 4]
    pool = [gates, X[heavy], -X[heavy]]
    if starts is not None and len(starts):
        at = unit_rows(starts, free)
        noise = random_state.standard_normal((n_random, d)) / np.sqrt(d)
        first, second, third = random_state.integers(len(at), size=(3, n_random))
        pool += [starts, at[first] + noise, at[second] - at[third]]
    return np.concatenate(pool)


def _column_scale(X: np.ndarray) -> np.ndarray:
    """Inverse column scales, so that random gates cut through the data whatever its units."""
    scale = np.sqrt(np.mean(X * X, axis=0))
    return 1.0 / np.where(scale > 0, scale, 1.0)


def unit_rows(U: np.ndarray, free: int) -> np.ndarray:
    """Scale rows to unit norm over the penalised coordinates."""
    size = np.linalg.norm(U[:, : U.shape[1] - free], axis=1, keepdims=True)
    return U / np.where(size > 0, size, 1.0)


def _ascend(
    X: np.ndarray,
    Z: np.ndarray,
    U: np.ndarray,
    signs: np.ndarray,
    free: int,
    slope: float,
    steps: int = 60,
) -> tuple[np.ndarray, np.ndarray]:
    """Projected ascent of all starts at once, each with its own step length.

    Half precision of what follows is enough to tell good directions from bad: without a free bias
    (whose breakpoints are sorted) X and Z are scaled to one and rounded to float32.
    """
    fit = max(64, CACHE // len(X))
    if len(U) > fit:
        parts = [slice(k, k + fit) for k in range(0, len(U), fit)]
        done = [_ascend(X, Z, U[part], signs[part], free, slope, steps) for part in parts]
        return np.concatenate([u for u, _ in done]), np.concatenate([v for _, v in done])
    reach = float(np.max(np.linalg.norm(X[:, : X.shape[1] - free], axis=1), initial=0.0))
    unit, weight = (1.0, 1.0) if free else (reach or 1.0, float(np.max(np.abs(Z), initial=0.0)) or 1.0)
    kind: Any = np.float64 if free else np.float32
    data, z = (X / unit).astype(kind), (Z / weight).astype(kind)
    sides = signs.astype(kind)
    T, on = np.empty((len(X), len(U)), kind), np.empty((len(X), len(U)), kind)

    def evaluate(V: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if free and exact:
            V = V.copy()
            V[:, -1] = 0.0
            V[:, -1] = best_bias(X @ V.T, Z[:, None] * signs)
        np.matmul(data, V.T, out=T)
        np.greater(T, 0, out=on, casting="unsafe")
        if slope:
            np.multiply(on, 1.0 - slope, out=on)
            np.add(on, slope, out=on)
        np.multiply(T, on, out=T)
        values = sides * (z @ T)
        np.multiply(on, z[:, None], out=on)
        return V, values, (on.T @ data) * sides[:, None]

    U, values, G = evaluate(unit_rows(U, free).astype(kind), True)
    length = np.ones(len(U), kind)
    for k in range(steps):
        # In units of its reach a free bias moves like a weight; now and then it is set exactly,
        # which costs a sort.
        G[:, G.shape[1] - free :] *= reach**2
        size = np.linalg.norm(G[:, : G.shape[1] - free], axis=1, keepdims=True)
        V = unit_rows(U + length[:, None] * G / np.where(size > 0, size, 1.0), free)
        V, new, H = evaluate(V, k % 10 == 9)
        better = new > values
        G[:, G.shape[1] - free :] /= reach**2 or 1.0
        U[better], values[better], G[better] = V[better], new[better], H[better]
        length = np.clip(np.where(better, 2.0 * length, 0.4 * length), 1e-6, 64.0)
    return unit_rows(U.astype(np.float64), free), values.astype(np.float64) * (unit * weight)


def _polish_best(
    X: np.ndarray,
    Z: np.ndarray,
    U: np.ndarray,
    signs: np.ndarray,
    values: np.ndarray,
    n_polish: int,
    free: int,
    slope: float,
    exact: bool,
    most_idle: int | None = None,
) -> Neurons:
    """Solve the best distinct cells exactly, walk, and keep one neuron per pattern and sign."""
    norms = np.linalg.norm(X, axis=1)
    seen: set[bytes] = set()
    visited: dict[float, set[bytes]] = {1.0: set(), -1.0: set()}
    ends: dict[bytes, tuple[float, np.ndarray, float, np.ndarray, np.ndarray]] = {}
    best, idle = 0.0, 0
    for j in np.argsort(-values, kind="stable"):
        if len(seen) >= n_polish or values[j] <= 0:
            break
        mask = X @ U[j] > 0
        key = np.packbits(mask).tobytes() + (b"+" if signs[j] > 0 else b"-")
        if key in seen:
            continue
        seen.add(key)
        end = (float(values[j]), U[j], mask, U[j])
        if exact:
            seen_by = visited[float(signs[j])]
            end = walk(X, signs[j] * Z, mask, U[j], norms, free, slope=slope, visited=seen_by)
            best, idle = max(best, end[0]), 0 if end[0] > best else idle + 1
            exact = most_idle is None or idle < most_idle
        key = np.packbits(end[2]).tobytes() + (b"+" if signs[j] > 0 else b"-")
        if key not in ends or ends[key][0] < end[0]:
            ends[key] = (end[0], end[1], signs[j], end[2], end[3])
    rows = sorted(ends.items(), key=lambda item: (-item[1][0], item[0]))
    n, d = X.shape
    return Neurons(
        np.array([row[0] for _, row in rows]),
        np.array([row[1] for _, row in rows]).reshape(-1, d),
        np.array([row[2] for _, row in rows]),
        np.array([row[3] for _, row in rows], dtype=bool).reshape(-1, n),
        np.array([row[4] for _, row in rows]).reshape(-1, d),
    )
