r"""Neurons that are normalised after the ReLU, where their cells cannot be listed: searched and bounded.

With weights s of sum S, ``h(u) = (Xu)_+`` and ``||h||_s^2 = sum_i s_i h_i^2`` the price of a dual variable
is

    M(Z) = sqrt(S) max over u and both signs of  +-Z'h(u) / ||h(u)||_s.

*Search.* In the cell of a pattern D the best neuron, were it not for the cell's walls, is the weighted
least squares fit ``argmin sum_(i on) s_i (x_i'u - z_i)^2`` to ``z = +-Z / s``, because the quotient is the
cosine between h and z. The way there from a u of that cell only rises until it meets a wall, so steps to
that point, halved while the price falls, go from cell to cell. Where no step rises the next wall is held,
as an equation, and the search goes on along it.

*Bound.* Outputs are never negative, and over all h >= 0 the quotient is largest along the positive part of
z,

    M(Z) <= sqrt(S) max( ||(Z / s)_+||_s, ||(-Z / s)_+||_s ).

It holds for every pattern (scope ``bounded``), is attained where n is at most the rank of X
(:mod:`cvxnn.normalised_cells`), and is loose where samples are many more.

*Descent.* For neurons with signs t_j the program over all patterns at once,

    minimise over U, c   L( sum_j t_j (X u_j)_+ + c ) + beta / sqrt(S) * sum_j ||(X u_j)_+||_s,

has no other unknowns, and is smooth off the kinks.

References: as of :mod:`cvxnn.normalised_cells`; the search and the bound: derived here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize

from .certificate import Oracle, Price
from .network import Affine, Network
from .operators import Dense
from .penalties import GroupL2
from .program import Problem, Program

#: Random starts of a search and its steps; halvings of a step; the seed of the judge's search.
STARTS, STEPS, HALVINGS, SEED = 64, 40, 12, 0
#: Relative rise below which a search has arrived, and cosine beyond which two neurons are one.
ARRIVED, SAME = 1e-12, 1.0 - 1e-9
#: Share of all weights below which a neuron goes.
ZERO = 1e-10


@dataclass(frozen=True, eq=False)
class Found:
    """Neurons and their prices, the best first.

    Parameters
    ----------
    values : ndarray of shape (k,)
    rows : ndarray of shape (k, d)
        Directions in the coordinates of the data.
    signs : ndarray of shape (k,), -1 or +1
    """

    values: np.ndarray
    rows: np.ndarray
    signs: np.ndarray


class SearchedCones(Oracle):
    """Searches for neurons that are normalised after the ReLU, and bounds all (scope ``bounded``).

    Parameters
    ----------
    problem : Problem
    data : ndarray of shape (n, d)
        What neurons see before they are normalised.
    """

    def __init__(self, problem: Problem, data: np.ndarray) -> None:
        super().__init__(problem)
        self.data, self.s = data, problem.weights
        size = np.sqrt(np.mean(data**2, axis=0))
        unit = 1.0 / np.where(size > 0.0, size, 1.0)
        _, values, Vt = np.linalg.svd(data * unit, full_matrices=False)
        kept = values > 1e-10 * np.max(values, initial=0.0)
        #: from directions that are drawn as if the data were white
        self.basis = unit[:, None] * Vt[kept].T / values[kept]

    def bound(self, Z: np.ndarray) -> float:
        """Bound the price over all patterns."""
        z = Z / np.sqrt(self.s)
        parts = (float(np.linalg.norm(np.maximum(side, 0.0))) for side in (z, -z))
        return float(np.sqrt(np.sum(self.s))) * max(parts)

    def units(self, rows: np.ndarray) -> np.ndarray:
        """The outputs of neurons of norm one, (n, k); zeros where a neuron is off everywhere."""
        return np.maximum(self.data @ rows.T, 0.0) / self.sizes(rows)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """The root mean squares of the outputs of neurons, one where they are zero, (k,)."""
        size = np.sqrt(self.s @ np.maximum(self.data @ rows.T, 0.0) ** 2 / np.sum(self.s))
        return np.asarray(np.where(size > 0.0, size, 1.0))

    def smoothed(self, error: float, Z: np.ndarray | None) -> Self:
        """Return the oracle of a problem whose kinks are smoothed by `error`, around ``Z`` if given."""
        if self.problem.loss.smooth:
            return self
        other = copy.copy(self)
        other.problem = self.problem.smoothed(error, Z)
        return other

    def lasso(self, rows: np.ndarray) -> Program:
        """The program over some neurons of norm one, a group for each."""
        problem = self.problem
        rest = (problem.y, problem.weights, problem.beta, GroupL2())
        return Program(Dense(self.units(rows)), problem.loss, *rest, intercept=problem.intercept)

    def weighed(self, rows: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The neurons that weights ``z`` keep, with their sizes, and their signs."""
        kept = np.abs(z) > ZERO * np.sum(np.abs(z))
        return rows[kept] * (np.abs(z) / self.sizes(rows))[kept, None], np.sign(z[kept])

    def search(self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator) -> Found:
        """Climb from given and from random directions, with both signs."""
        drawn = random_state.standard_normal((STARTS, self.basis.shape[1]))
        rows = np.concatenate([starts, drawn @ self.basis.T])
        ends = [self._climb(sign * Z / self.s, u) for sign in (1.0, -1.0) for u in rows]
        signs = np.repeat([1.0, -1.0], len(rows))
        values = signs * (Z @ self.units(np.array(ends)))
        order = np.argsort(-values, kind="stable")
        H, kept = self.units(np.array(ends)) * np.sqrt(self.s / np.sum(self.s))[:, None], list[int]()
        for k in order:
            like = [j for j in kept if signs[j] == signs[k] and H[:, j] @ H[:, k] > SAME]
            if values[k] > 0.0 and not like:
                kept.append(int(k))
        return Found(values[kept], np.array(ends)[kept], signs[kept])

    def _climb(self, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Steps to the least squares fit of the samples that are on, while the price rises."""
        root, X = np.sqrt(self.s), self.data

        def price(v: np.ndarray) -> float:
            h = root * np.maximum(X @ v, 0.0)
            size = float(np.linalg.norm(h))
            return float(h @ (root * z)) / size if size > 0.0 else -np.inf

        value, held, face = price(u), list[int](), np.eye(X.shape[1])
        for _ in range(STEPS):
            on = X @ u > 0.0
            on[held] = False
            if not np.any(on):
                break
            A = root[on, None] * X[on]
            way = face @ np.linalg.lstsq(A @ face, root[on] * z[on], rcond=None)[0]
            h = A @ u  # the multiple of u that fits best is the end of the way to the other point
            if not np.any(h @ h):
                break
            u = u * max(float(h @ (root[on] * z[on])), 0.0) / float(h @ h)
            way = way - u
            tried = ((price(u + 0.5**k * way), 0.5**k) for k in range(HALVINGS))
            new, t = next((pair for pair in tried if pair[0] > value), (value, 0.0))
            if new > value + ARRIVED * abs(value):
                u, value = u + t * way, new
                continue
            # the next wall holds it up: go on along that
            T, slope = X @ u, X @ way
            slope[held] = 0.0
            ahead = np.flatnonzero((T * slope < 0.0) & (np.abs(T) <= np.abs(slope)))
            if not len(ahead) or len(held) + 1 >= X.shape[1]:
                break
            first = ahead[np.argmin(np.abs(T[ahead] / slope[ahead]))]
            u = u - T[first] / slope[first] * way
            held.append(int(first))
            face = np.linalg.svd(X[held])[2][len(held) :].T
            value = price(u)
        return u

    def rows_of(self, network: Network) -> np.ndarray:
        """Directions whose outputs on the data are those of a network's neurons, (m, d)."""
        first = network.layers[0]
        assert isinstance(first, Affine)
        T = self.problem.X @ first.weight + first.bias
        return np.linalg.lstsq(self.data, T, rcond=None)[0].T

    def found(self, Z: np.ndarray, network: Network) -> float:
        found = self.search(Z, self.rows_of(network), np.random.default_rng(SEED))
        return float(found.values[0]) if len(found.values) else 0.0

    def price(self, Z: np.ndarray) -> Price:
        bound = self.bound(Z) * (1.0 + 1e-12)
        found = self.search(Z, self.data[:0], np.random.default_rng(SEED)).values
        return Price(bound, "bounded", min(float(found[0]), bound) if len(found) else 0.0)


def descend(
    oracle: SearchedCones, rows: np.ndarray, signs: np.ndarray, max_iter: int
) -> tuple[np.ndarray, np.ndarray]:
    """Descend on all neurons of a network by L-BFGS.

    Parameters
    ----------
    oracle : SearchedCones
    rows : ndarray of shape (m, d)
        With their sizes.
    signs : ndarray of shape (m,), -1 or +1
    max_iter : int

    Returns
    -------
    rows, signs : ndarrays
    """
    problem, X, s = oracle.problem, oracle.data, oracle.s
    y, loss, strength = problem.y, problem.loss, problem.beta / np.sqrt(np.sum(oracle.s))
    scale = 1.0 / max(abs(loss.value(np.zeros_like(y), y, s)), 1e-300)

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        T = X @ v.reshape(rows.shape).T
        H = np.maximum(T, 0.0)
        f = H @ signs
        f = f + (loss.intercept(f, y, s) if problem.intercept else 0.0)
        size = np.sqrt(s @ H**2)
        slope = loss.gradient(f, y, s)[:, None] * signs + strength * s[:, None] * H / np.maximum(
            size, 1e-300
        )
        total = loss.value(f, y, s) + strength * float(np.sum(size))
        return scale * total, scale * (((T > 0.0) * slope).T @ X).ravel()

    options = {"maxiter": max_iter, "ftol": 1e-14, "gtol": 1e-10}
    moved = minimize(value, rows.ravel(), jac=True, method="L-BFGS-B", options=options).x
    return moved.reshape(rows.shape), signs
