r"""Pricing ReLU neurons whose weights pay another norm than the Euclidean one.

A neuron improves the network exactly if its price exceeds beta, where with a norm Omega

    M(Z) = max over Omega(u) <= 1 of |Z'(Xu)_+|.

In the cell of pattern D this is a small conic program with its dual, for ``g = X'D Z``, ``A = (2 D - I)
X``,

    max { g'u : A u >= 0, Omega(u) <= 1 }  =  min over rho >= 0 of polar(g + A' rho),

whose two sides a conic solver gives at once: u is a neuron, and *any* rho >= 0 a bound, recomputed here. As
under weight decay the price rises across a tight row i exactly if ``rho_i > -Z_i``, so cells are walked in
the same way. Starts come from ascent of the ratio ``F(u) / Omega(u)``, F(u) = ±Z'(Xu)_+, many at a time: a
proximal step of ``F - t Omega`` with t the ratio itself, which leaves small entries at zero exactly.

Reference: Pilanci and Ergen, ICML 2020, section 3; Dinkelbach, "On nonlinear fractional programming", 1967
(ratios); :mod:`cvxnn.pricing` (the crossing rule).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from .design import Design, centred
from .feature_penalties import FeatureNorm
from .pricing import Neurons
from .walks import TIGHT, best_bias, bias_of

#: Steps of the ascent, and cells of a walk.
STEPS, CELLS = 60, 20


@dataclass(frozen=True, eq=False)
class NormDesign(Design):
    """A design matrix in its own coordinates, whose neurons pay a norm of their features.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    basis : ndarray of shape (d, d)
        The identity: other coordinates would change the norm.
    free : int
    norm : FeatureNorm
        With the reach that these data need.
    """

    norm: FeatureNorm = field(default_factory=lambda: FeatureNorm(((0,),), 1.0))

    @classmethod
    def of(cls, full: np.ndarray, norm: FeatureNorm) -> NormDesign:
        """Make the design of a matrix; a free bias is its last column."""
        # a unit neuron has |x'w| <= polar(x): a larger bias switches no sample
        full, origin = centred(full) if norm.free else (full, None)
        plain = FeatureNorm(norm.groups, norm.share)
        reach = float(np.max(plain.polar(full[:, : full.shape[1] - norm.free]), initial=0.0))
        sized = FeatureNorm(norm.groups, norm.share, norm.free, reach) if norm.free else plain
        return cls(full, np.eye(full.shape[1]), norm.free, origin=origin, norm=sized)

    @property
    def reach(self) -> float:
        """The largest free bias a unit neuron needs: beyond it all samples are on, or all off."""
        return self.norm.reach if self.free else 0.0

    def norms(self, W: np.ndarray) -> np.ndarray:
        """The norms of rows ``W`` (k, d)."""
        return self.norm.norms(W)

    def unit(self, U: np.ndarray) -> np.ndarray:
        """Scale rows to norm one; rows of norm zero stay."""
        size = self.norms(U)
        return U / np.where(size > 0, size, 1.0)[:, None]


def best_in_cell(design: NormDesign, sign: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit neuron of a cell with the largest ``g'u``, and the multipliers of its dual.

    Parameters
    ----------
    design : NormDesign
    sign : ndarray of shape (n,), -1 or +1
        The pattern as ``2 d - 1``.
    g : ndarray of shape (d,)

    Returns
    -------
    u : ndarray of shape (d,)
        In the cell up to the accuracy of the solver.
    rho : ndarray of shape (n,)
        Nonnegative; whatever they are, ``polar(g + A' rho)`` is a bound.
    """
    A, norm, d, n = sign[:, None] * design.X, design.norm, len(g), len(sign)
    rho, size = np.zeros(n), float(norm.polar(g[None])[0])
    lengths = np.linalg.norm(A, axis=1)
    kept = lengths > 0
    if size == 0.0:
        return np.zeros(d), rho
    x, z = _solve_cell(A[kept] / lengths[kept, None], g / size, norm)
    rho[kept] = size * np.maximum(z, 0.0) / lengths[kept]
    return x, rho


def _solve_cell(rows: np.ndarray, g: np.ndarray, norm: FeatureNorm) -> tuple[np.ndarray, np.ndarray]:
    """``max g'u, rows u >= 0, Omega(u) <= 1``, a free bias within its reach: u and the multipliers."""
    import clarabel

    d, m = len(g), len(rows)
    none, system, where, right, kinds = _template(norm, d, m)
    system = copy(system)  # with its own numbers, without the checks of a new matrix
    system.data = system.data.copy()
    system.data[where] = -rows.T.ravel()
    shapes = {"nonnegative": clarabel.NonnegativeConeT, "second_order": clarabel.SecondOrderConeT}
    cones = [shapes[name](size) for name, size in kinds]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    q = np.concatenate([-g, np.zeros(none.shape[0] - d)])
    result: Any = clarabel.DefaultSolver(none, q, system, right, cones, settings).solve()
    u, z = np.array(result.x)[:d], np.array(result.z)[:m]
    if np.all(np.isfinite(u)) and np.all(np.isfinite(z)):
        return u, z
    # no answer is no neuron, and leaves the bound of no multipliers
    return np.nan_to_num(u, posinf=0.0, neginf=0.0), np.nan_to_num(z, posinf=0.0, neginf=0.0)


@lru_cache(maxsize=64)
def _template(norm: FeatureNorm, d: int, m: int) -> tuple[Any, Any, np.ndarray, np.ndarray, list]:
    """The program of a cell with any ``m`` rows: no cost, A, the place of the rows in it, b and cones."""
    ball, right, kinds = _ball(norm, d)
    A = np.zeros((m + len(ball), ball.shape[1]))
    A[:m, :d], A[m:] = 1.0, ball
    system = sparse.csc_matrix(A)
    where = np.flatnonzero(system.indices < m)
    none = sparse.csc_matrix((ball.shape[1], ball.shape[1]))
    return none, system, where, np.concatenate([np.zeros(m), right]), [("nonnegative", m), *kinds]


@lru_cache(maxsize=16)
def _ball(norm: FeatureNorm, d: int) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int]]]:
    """``Omega(u) <= 1`` (and a free bias within its reach) as rows A, b and cones of ``b - A (u, e)``."""
    gauge = norm.epigraph(d)
    k = len(gauge.cost)
    rows = [np.hstack([-gauge.U.toarray(), -gauge.E.toarray()]), np.append(np.zeros(d), gauge.cost)[None]]
    kinds, right = [*gauge.cones, ("nonnegative", 1)], [np.zeros(gauge.U.shape[0]), np.ones(1)]
    if norm.free:
        ends = np.zeros((2, d + k))
        ends[:, d - 1] = 1.0, -1.0
        rows.append(ends)
        right.append(np.full(2, norm.reach))
        kinds.append(("nonnegative", 2))
    return np.concatenate(rows), np.concatenate(right), kinds


def cell_bound(design: NormDesign, sign: np.ndarray, g: np.ndarray, rho: np.ndarray) -> float:
    """Return the bound that multipliers prove in a cell, or no multipliers, whichever is lower."""
    both = np.stack([g, g + (sign * rho) @ design.X])
    return float(np.min(design.norm.polar(both)))


def worth(design: NormDesign, z: np.ndarray, u: np.ndarray) -> tuple[float, np.ndarray]:
    """Return ``z'(Xu)_+`` of a neuron scaled to norm one, with its best bias if that is free."""
    if not design.norms(u[None])[0] > 0.0:
        return 0.0, u
    u = design.unit(u[None])[0]
    if design.free:
        u[-1] = 0.0
        u[-1] = bias_of(design.X @ u, z)
    return float(z @ np.maximum(design.X @ u, 0.0)), u


def search_neurons(
    design: NormDesign,
    Z: np.ndarray,
    starts: np.ndarray,
    *,
    n_random: int,
    n_polish: int,
    random_state: np.random.Generator,
) -> Neurons:
    """Search for the unit neurons that correlate most with ``+Z`` and with ``-Z``.

    Parameters
    ----------
    design : NormDesign
    Z : ndarray of shape (n,)
    starts : ndarray of shape (k, d)
        More directions to start from, the neurons of a network say.
    n_random : int
        Random starts, half of them of few features.
    n_polish : int
        How many of the best, with distinct patterns, are solved exactly and walked.
    random_state : numpy.random.Generator

    Returns
    -------
    Neurons
    """
    X, d = design.X, design.X.shape[1]
    none = np.zeros(0)
    if not np.any(Z) or not np.any(X):
        return Neurons(none, np.zeros((0, d)), none, np.zeros((0, len(X)), bool), np.zeros((0, d)))
    U = np.concatenate([_random_starts(design, Z, n_random, random_state), starts])
    U = U[design.norms(U) > 0]
    signs = np.repeat([1.0, -1.0], len(U))
    U, values = ascend(design, Z, np.concatenate([U, U]), signs)
    ends: dict[tuple[bytes, float], tuple[float, np.ndarray, np.ndarray]] = {}
    seen: set[tuple[bytes, float]] = set()
    for j in np.argsort(-values, kind="stable"):
        if values[j] <= 0.0:
            break
        mask, side = X @ U[j] > 0, float(signs[j])
        key = (np.packbits(mask).tobytes(), side)
        if key in seen:
            continue
        end = (float(values[j]), U[j], mask)
        if len(seen) < n_polish:
            end = walk(design, side * Z, *end, seen=seen, side=side)
        seen.add(key)
        key = (np.packbits(end[2]).tobytes(), side)
        if key not in ends or ends[key][0] < end[0]:
            ends[key] = end
    rows = sorted(ends.items(), key=lambda item: (-item[1][0], item[0]))[:200]
    found = np.array([row[1][1] for row in rows]).reshape(-1, d)
    masks = np.array([row[1][2] for row in rows], dtype=bool).reshape(-1, len(X))
    return Neurons(
        np.array([row[1][0] for row in rows]), found, np.array([row[0][1] for row in rows]), masks, found
    )


def _random_starts(
    design: NormDesign, Z: np.ndarray, count: int, random_state: np.random.Generator
) -> np.ndarray:
    """Single features, random directions in the scale of the columns, of all features and of few."""
    X, free = design.X, design.free
    k = X.shape[1] - free
    scale = np.sqrt(np.mean(X[:, :k] ** 2, axis=0))
    gates = random_state.standard_normal((count, k)) / np.where(scale > 0, scale, 1.0)
    few = random_state.random((count, k)) < 3.0 / max(k, 3)
    gates[::2] *= np.where(few, 1.0, 0.02)[::2]
    heavy = np.argsort(-np.abs(Z) * np.linalg.norm(X, axis=1), kind="stable")[: count // 4]
    U = np.concatenate([np.eye(k), -np.eye(k), gates, X[heavy, :k], -X[heavy, :k]])
    if not free:
        return U
    at = random_state.integers(len(X), size=len(U))
    return np.column_stack([U, -np.sum(X[at, :k] * U, axis=1)])


def ascend(
    design: NormDesign, Z: np.ndarray, U: np.ndarray, signs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Proximal ascent of ``signs * Z'(Xu)_+ / Omega(u)`` from all starts at once: neurons and values."""
    X = design.X
    z = Z[:, None] * signs

    def evaluate(V: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        V = design.unit(V)
        if design.free and exact:
            V[:, -1] = 0.0
            V[:, -1] = best_bias(X @ V.T, z)
        T = X @ V.T
        on = np.where(T > 0, z, 0.0)
        return V, np.sum(on * T, axis=0), on.T @ X

    U, values, G = evaluate(U, True)
    length = np.full(len(U), 0.3)
    weight = np.ones(X.shape[1])
    weight[X.shape[1] - design.free :] = design.reach**2
    for k in range(STEPS):
        size = design.norm.polar(G)
        step = length / np.where(size > 0, size, 1.0)
        # the proximal step of every row has a length of its own: scale the rows, not the step
        rate = np.maximum(values, 0.0) * step
        moved = U + step[:, None] * G * weight
        safe = np.where(rate > 1e-12, rate, 1e-12)
        V = design.norm.prox(moved / safe[:, None], 1.0) * safe[:, None]
        zero = design.norms(V) == 0.0
        V[zero] = moved[zero]
        V, new, H = evaluate(V, k % 10 == 9)
        better = new > values
        U[better], values[better], G[better] = V[better], new[better], H[better]
        length = np.clip(np.where(better, 1.5 * length, 0.4 * length), 1e-6, 16.0)
    return U, values


def walk(
    design: NormDesign,
    z: np.ndarray,
    value: float,
    u: np.ndarray,
    mask: np.ndarray,
    *,
    seen: set[tuple[bytes, float]],
    side: float,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Solve the cell of a pattern, and go on to neighbouring cells as long as that helps.

    Parameters
    ----------
    z : ndarray of shape (n,)
        The dual variable times the sign `side`.
    value, u, mask
        A unit neuron (d,), its price and the pattern (n,) to start in.
    seen : set
        Patterns, with signs, that walks have been to; this one adds its own.

    Returns
    -------
    value, u (d,), mask (n,) of the best neuron; the closed cell of the mask holds it.
    """
    X, best = design.X, (value, u, mask)
    lengths = np.linalg.norm(X, axis=1)
    for _ in range(CELLS):
        key = (np.packbits(mask).tobytes(), side)
        if key in seen:
            break
        seen.add(key)
        u, rho = best_in_cell(design, np.where(mask, 1.0, -1.0), X.T @ np.where(mask, z, 0.0))
        value, u = worth(design, z, u)
        if value <= best[0] * (1.0 + 1e-12):
            if value > best[0]:
                best = (value, u, X @ u > 0 if design.free else mask)
            break
        # the best bias may lie in another cell than the one it was found from
        best = (value, u, X @ u > 0 if design.free else mask)
        tight = np.abs(X @ u) <= 1e3 * TIGHT * lengths * np.linalg.norm(u)
        cross = tight & (lengths > 0) & (rho + z > 1e-9 * np.max(np.abs(z))) & (rho > 0)
        mask = np.where(cross, ~mask, mask)
        if not np.any(cross):
            break
    return best
