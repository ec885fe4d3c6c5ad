r"""Neurons that are normalised after the ReLU: which outputs they have, and the program over them.

Such a neuron has ``h = (Xu)_+`` divided by its root mean square, so that only the direction of h counts.
Within the closed cell K of a pattern D, ``h = D X u`` ranges over a polyhedral cone, spanned by the images
``h_l = (X e_l)_+`` of the extreme rays e_l of K. With weights s of sum S and the norm ``||h||_s^2 = sum_i
s_i h_i^2`` the price of a dual variable and the program are

    M(Z) = sqrt(S) max over cells, signs  of  max { +-Z'H l : l >= 0, ||H l||_s <= 1 },

    minimise   L( sum_g sigma_g H_g l_g + c ) + beta / sqrt(S) * sum_g ||H_g l_g||_s,     l_g >= 0.

The inner maximum is the norm of the projection of ``Z / s`` onto the cone, a nonnegative least squares
problem. For any l >= 0 with residual r it is at most ``||H l||_s + sqrt(n) max_l (h_l' diag(s) r)_+`` when
columns have norm one, since then ``sum_l l_l <= sqrt(n) ||H l||_s`` for vectors without negative entries;
that is the bound certificates use.

A published form takes the singular value decomposition ``D X = U S V'`` and keeps ``(2D - I) X V S^(-1) w
>= 0``, with the coordinates in the null space of D X dropped. That loses neurons: with rows (1, 0) and (1,
1) the pattern (1, 0) allows u = (1, -1), but of the row space of D X only u = 0. Rays lose none.

Rays are the directions that r - 1 independent samples determine (r the rank), so their number, like that of
cells, grows as ``n^(r-1)``; where n <= rank every h >= 0 is possible and one cone with n rays is all. A
training took 0.7 CPU seconds for 300 samples of rank 2, 2 for 60 of rank 3, and 1 for 20 of rank 4 (4 for
24), a bias counted in the rank; beyond ``MOST_CELLS`` cells or ``MOST_RAYS`` rays it is refused, and
networks grow (:mod:`cvxnn.normalised_search`). A single cell has few rays, some ``2^(r-1)`` on average, so
that those of sampled cells can be listed far beyond; the scope then is ``patterns``.

References: Wang, Hua, Candes and Pilanci, "Overparameterized ReLU neural networks learn the simplest
models", 2022 (normalised neurons); Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Self

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import ConvexHull

from .arrangement import Arrangement, TooManyPatterns
from .certificate import Oracle, Price, Scope
from .program import Problem

#: Cells and rays listed at most.
MOST_CELLS, MOST_RAYS = 4200, 4200
#: Of sampled cells: the rank beyond which rays are not listed, and rays listed at most.
MOST_RANK, SAMPLED_RAYS = 8, 20_000
#: Products, relative to the sizes of their factors, that are zero; and that leave a cell.
ZERO, OUTSIDE = 1e-10, 1e-8
#: A cone, by its index, and its sign.
Member = tuple[int, float]


class TooManyCones(ValueError):
    """There are more cells, or rays of them, than are worth listing.

    Parameters
    ----------
    X : ndarray of shape (n, rank)
    cells : int or None, default=None
        So many cells were to be listed; None stands for all.
    """

    def __init__(self, X: np.ndarray, cells: int | None = None) -> None:
        n, r = X.shape
        data = f"{n} samples of rank {r}"
        super().__init__(
            f"{data} have too many activation patterns to list, which normalising after the ReLU needs for "
            "patterns='all': pass patterns='auto', where='before', or fewer features"
            if cells is None
            else f"the cones of {cells} activation patterns of {data} have too many rays to list: pass "
            "fewer of them, or fewer features, or patterns='auto'"
        )


@dataclass(frozen=True, eq=False)
class Cones:
    """The cones of outputs that neurons reach, a cell each.

    Parameters
    ----------
    rays : list of ndarrays of shape (m_g, d)
        Directions in the coordinates of the full design.
    outputs : list of ndarrays of shape (n, m_g)
        Their outputs, nonnegative, each of norm one under the weights.
    complete : bool
        Whether these are the cones of all cells.
    """

    rays: list[np.ndarray]
    outputs: list[np.ndarray]
    complete: bool = True

    @classmethod
    def of(cls, full: np.ndarray, weights: np.ndarray, gates: np.ndarray | None = None) -> Cones:
        """List the cones of a design ``full`` (n, d).

        Its rows are taken in coordinates in which they are white: cones do not depend on coordinates, and
        what is zero is told from rounding there.

        Parameters
        ----------
        full : ndarray of shape (n, d)
        weights : ndarray of shape (n,)
        gates : ndarray of shape (k, rank), default=None
            Vectors inside the cells to list, in those coordinates; None lists all cells.

        Raises
        ------
        TooManyCones
            If there are too many.
        """
        X, basis = white(full)
        if not X.shape[1]:
            return cls([], [])
        if X.shape[1] == len(X):
            # X is orthogonal: its rows are its inverse's columns
            return cls._scaled(X, weights, [X], basis)
        if gates is not None:
            return replace(cls._scaled(X, weights, _rays_of(X, gates), basis), complete=False)
        E = _rays(X)
        try:
            masks = Arrangement.enumerate(X, limit=MOST_CELLS).masks()
        except TooManyPatterns:
            raise TooManyCones(X) from None
        T = X @ E.T
        T[np.abs(T) <= ZERO * np.linalg.norm(X, axis=1)[:, None]] = 0.0
        off = ~np.asarray(masks, dtype=bool)
        # a ray bounds a cell if no sample is on for one and off for the other
        conflicts = off.astype(float) @ (T > 0.0) + (~off).astype(float) @ (T < 0.0)
        return cls._scaled(X, weights, [E[row == 0.0] for row in conflicts], basis)

    @classmethod
    def _scaled(cls, X: np.ndarray, s: np.ndarray, cells: list[np.ndarray], basis: np.ndarray) -> Cones:
        """The cones of cells with given rays, their outputs scaled to norm one."""
        rays, outputs = [], []
        for E in cells:
            H = np.maximum(X @ E.T, 0.0)
            H[ZERO * np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(E, axis=1) >= H] = 0.0
            size = np.sqrt(s @ H**2)
            kept = size > 0.0
            if np.any(kept):
                rays.append((E[kept] / size[kept, None]) @ basis.T)
                outputs.append(H[:, kept] / size[kept])
        return cls(rays, outputs)

    def fit(self, members: Sequence[Member], weights: Sequence[np.ndarray]) -> np.ndarray:
        """Return ``sum_g sigma_g H_g l_g``, shape (n,), for weights l_g of the rays of cones with signs."""
        parts = [sign * (self.outputs[k] @ x) for (k, sign), x in zip(members, weights, strict=True)]
        return np.asarray(np.sum(parts, axis=0))


def white(full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates in which a design is white, and the way back.

    Parameters
    ----------
    full : ndarray of shape (n, d)

    Returns
    -------
    X : ndarray of shape (n, rank)
        Orthonormal columns.
    basis : ndarray of shape (d, rank)
        ``full @ basis`` is X.
    """
    size = np.sqrt(np.mean(full**2, axis=0))
    unit = 1.0 / np.where(size > 0.0, size, 1.0)
    U, values, Vt = np.linalg.svd(full * unit, full_matrices=False)
    floor = max(full.shape) * np.finfo(float).eps * np.max(values, initial=0.0)
    rank = int(np.sum(values > floor))
    return U[:, :rank], unit[:, None] * Vt[:rank].T / values[:rank]


def _rays(X: np.ndarray) -> np.ndarray:
    """The distinct directions (m, r), of both signs, on which r - 1 independent rows of X vanish."""
    n, r = X.shape
    if r == 1:
        return np.array([[1.0], [-1.0]])
    if 2 * comb(n, r - 1) > MOST_RAYS:
        raise TooManyCones(X)
    size = np.linalg.norm(X, axis=1)
    rows = np.flatnonzero(size > 0.0)
    unit = X[rows] / size[rows, None]
    half = _orthogonal(unit, np.array(list(combinations(range(len(rows)), r - 1))))
    return _distinct(unit, np.concatenate([half, -half]))


def _orthogonal(unit: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The directions orthogonal to r - 1 rows each, where these are independent."""
    _, values, Vt = np.linalg.svd(unit[chosen])
    return np.asarray(Vt[values[:, -1] > ZERO, -1])


def _distinct(unit: np.ndarray, E: np.ndarray) -> np.ndarray:
    """One of all directions with the same samples on, off and at zero."""
    T = unit @ E.T
    signs = np.where(np.abs(T) <= ZERO, 0, np.sign(T)).astype(np.int8)
    _, first = np.unique(signs.T, axis=0, return_index=True)
    return E[np.sort(first)]


def _rays_of(X: np.ndarray, gates: np.ndarray) -> list[np.ndarray]:
    """The extreme rays of the cells of some gates."""
    if X.shape[1] > MOST_RANK:
        raise TooManyCones(X, len(gates))
    cells: list[np.ndarray] = []
    for gate in gates:
        cells.append(_rays_of_cell(X, gate))
        if sum(map(len, cells)) > SAMPLED_RAYS:
            raise TooManyCones(X, len(gates))
    return cells


def _rays_of_cell(X: np.ndarray, gate: np.ndarray) -> np.ndarray:
    """The extreme rays (m, r) of the cell of a gate.

    With signed rows a_i the cell is ``a_i'u >= 0``; scaled to ``a_i'gate = 1`` they are points of a
    hyperplane, and the faces of their convex hull are the rays of the cell.
    """
    r = X.shape[1]
    if r == 1:
        return np.sign(gate)[None]
    size, T = np.linalg.norm(X, axis=1), X @ gate
    rows = np.flatnonzero(size > 0.0)
    unit = np.sign(T[rows])[:, None] * X[rows] / size[rows, None]
    points = (X[rows] / T[rows, None]) @ np.linalg.svd(gate[None])[2][1:].T
    if r == 2:
        chosen = np.array([[np.argmin(points)], [np.argmax(points)]])
    else:
        chosen = ConvexHull(points).simplices
    E = _orthogonal(unit, chosen)
    E = _distinct(unit, E * np.sign(np.sum(E @ unit.T, axis=1))[:, None])
    if not len(E) or np.min(unit @ E.T) < -OUTSIDE:
        raise ValueError("rounding leaves the rays of a pattern in doubt: pass patterns='auto'")
    return E


class ConeOracle(Oracle):
    """Exact pricing over neurons that are normalised after the ReLU.

    The scope is ``global``, or ``patterns`` where not all cones are listed.
    """

    def __init__(self, problem: Problem, cones: Cones) -> None:
        super().__init__(problem)
        self.cones, self.root = cones, np.sqrt(problem.weights)
        self.scope: Scope = "global" if cones.complete else "patterns"
        self.scaled = [self.root[:, None] * H for H in cones.outputs]
        self.on = np.array([np.any(H > 0.0, axis=1) for H in cones.outputs]).reshape(-1, len(self.root))
        self._last: tuple[np.ndarray, tuple[float, list[tuple[float, Member]]]] | None = None

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other._last = None  # which cones it passed over depends on beta
        return other

    def members(self, Z: np.ndarray) -> tuple[float, list[tuple[float, Member]]]:
        """Return a bound of the price, and the best prices found with their cones, the best first.

        Cones whose bound is below both beta and the best found are passed over.
        """
        if self._last is not None and np.array_equal(self._last[0], Z):
            return self._last[1]
        total = float(np.sqrt(np.sum(self.problem.weights)))
        bounds = []
        for sign in (1.0, -1.0):
            z = np.maximum(sign * Z / self.root, 0.0)
            bounds.append(total * np.sqrt(self.on @ z**2))
        best, bound, found = 0.0, 0.0, []
        order = np.argsort(-np.concatenate(bounds), kind="stable")
        for at in order:
            sign, k = (1.0, int(at)) if at < len(self.on) else (-1.0, int(at) - len(self.on))
            ceiling = float(bounds[0 if sign > 0 else 1][k])
            if ceiling <= min(best, self.problem.beta):
                bound = max(bound, ceiling)
                break
            value, top = _project(self.scaled[k], sign * Z / self.root)
            found.append((total * value, (k, sign)))
            best, bound = max(best, total * value), max(bound, min(ceiling, total * top))
        found.sort(key=lambda row: (-row[0], row[1]))
        self._last = (Z, (bound, found))
        return bound, found

    def price(self, Z: np.ndarray) -> Price:
        bound, found = self.members(Z)
        best = found[0][0] if found else 0.0
        return Price(bound * (1.0 + 1e-12), self.scope, min(best, bound))


def _project(H: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """The norm of the projection of z onto the cone of the columns of H, and an upper bound of it."""
    size = float(np.linalg.norm(z))
    try:
        weights = nnls(H, z / size, maxiter=10 * H.shape[1] + 100)[0]
    except RuntimeError:  # unfinished: the bound of no weights is valid
        weights = np.zeros(H.shape[1])
    p = H @ weights
    norm, rest = float(np.linalg.norm(p)), z / size - p
    price = float(rest @ p) / norm + norm if norm > 0.0 else 0.0
    over = float(np.max(H.T @ rest, initial=0.0))
    # (H l)'z = (H l)'p + (H l)'rest, for unit H l
    return size * min(price, norm), size * (norm + np.sqrt(len(H)) * max(over, 0.0))
