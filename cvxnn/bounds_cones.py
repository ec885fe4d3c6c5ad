"""Nesterov-Todd scalings of the three kinds of cone of :mod:`cvxnn.bounds_interior`.

For a point ``s`` and a multiplier ``z``, both inside a self-dual cone, there is one symmetric map
``W`` with ``W z = W^-1 s =: lambda``. In that frame the complementarity condition
``s o z = sigma mu 1`` linearises to

    dz = R - W^-2 ds,    R = W^-1 (lambda \\ (sigma mu 1 - lambda o lambda - (W^-1 ds') o (W dz')))

with ``ds', dz'`` from the predictor step (Mehrotra). Each class holds the scaled points of many
cones of its kind at once and answers the same five questions.

Reference: Vandenberghe, "The CVXOPT linear and quadratic cone program solvers", 2010, sections 4-5.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular

_J = np.array([1.0, -1.0, -1.0])


class Linear:
    """The nonnegative half-lines of an array of any shape."""

    def __init__(self, s: np.ndarray, z: np.ndarray) -> None:
        self.s, self.z = s, z
        #: The diagonal of ``W^-2``.
        self.square = z / s

    def dot(self) -> float:
        """Return ``s'z``."""
        return float(np.sum(self.s * self.z))

    def target(self, mu: float, ds: np.ndarray | float, dz: np.ndarray | float) -> np.ndarray:
        """Return ``R + z`` of the module's formula: what the multiplier aims at if ``ds = 0``."""
        return np.asarray((mu - ds * dz) / self.s)

    def multiplier(self, target: np.ndarray, ds: np.ndarray) -> np.ndarray:
        """Return the step ``dz`` that belongs to a step ``ds``."""
        return target - self.z - self.square * ds

    def longest(self, ds: np.ndarray, dz: np.ndarray) -> float:
        """Return the longest step that keeps ``s`` and ``z`` in the cone."""
        worst = min(float(np.min(ds / self.s)), float(np.min(dz / self.z)))
        return np.inf if worst >= 0 else -1.0 / worst


class Second:
    """Second-order cones ``|(s1, s2)| <= s0``, the last axis of the arrays."""

    def __init__(self, s: np.ndarray, z: np.ndarray) -> None:
        self.s, self.z = s, z
        ds, dz = _det(s), _det(z)
        if not (ds.min() > 0 and dz.min() > 0 and s[..., 0].min() > 0 and z[..., 0].min() > 0):
            raise np.linalg.LinAlgError("a point left its second-order cone")
        a, b = s / np.sqrt(ds)[..., None], z / np.sqrt(dz)[..., None]
        gamma = np.sqrt(0.5 * (1.0 + np.sum(a * b, axis=-1)))
        w = (a + _J * b) / (2.0 * gamma)[..., None]
        self.eta = ((ds / dz) ** 0.25)[..., None]
        self.v = w + np.array([1.0, 0.0, 0.0])
        self.v = self.v / np.sqrt(2.0 * (w[..., :1] + 1.0))
        self.point = self._apply(z)
        self._w = w * _J

    @property
    def square(self) -> np.ndarray:
        """``W^-2``, shape (..., 3, 3)."""
        outer = 2.0 * self._w[..., :, None] * self._w[..., None, :] - np.diag(_J)
        return outer / self.eta[..., None] ** 2

    def _apply(self, x: np.ndarray) -> np.ndarray:
        inner = np.sum(self.v * x, axis=-1, keepdims=True)
        return self.eta * (2.0 * inner * self.v - _J * x)

    def _solve(self, x: np.ndarray) -> np.ndarray:
        v = self.v * _J
        inner = np.sum(v * x, axis=-1, keepdims=True)
        return (2.0 * inner * v - _J * x) / self.eta

    def dot(self) -> float:
        return float(np.sum(self.s * self.z))

    def target(self, mu: float, ds: np.ndarray | float, dz: np.ndarray | float) -> np.ndarray:
        right = np.zeros_like(self.point)
        right[..., 0] = mu
        if isinstance(ds, np.ndarray) and isinstance(dz, np.ndarray):
            right -= _product(self._solve(ds), self._apply(dz))
        p = self.point
        first = (p[..., 0] * right[..., 0] - np.sum(p[..., 1:] * right[..., 1:], axis=-1)) / _det(p)
        rest = (right[..., 1:] - first[..., None] * p[..., 1:]) / p[..., :1]
        return self._solve(np.concatenate([first[..., None], rest], axis=-1))

    def multiplier(self, target: np.ndarray, ds: np.ndarray) -> np.ndarray:
        return target - self.z - self._solve(self._solve(ds))

    def longest(self, ds: np.ndarray, dz: np.ndarray) -> float:
        return min(_reach(self.s, ds), _reach(self.z, dz))


class Semidefinite:
    """Positive semidefinite matrices, the last two axes of the arrays."""

    def __init__(self, s: np.ndarray, z: np.ndarray) -> None:
        self.s, self.z = s, z
        low = [cholesky(m, lower=True, check_finite=False) for m in s]
        dual = [cholesky(m, lower=True, check_finite=False) for m in z]
        self.R, self.inverse, points = [], [], []
        for a, b in zip(low, dual, strict=True):
            _, sigma, vt = np.linalg.svd(b.T @ a)
            R = a @ vt.T / np.sqrt(sigma)
            self.R.append(R)
            self.inverse.append(
                np.sqrt(sigma)[:, None] * vt @ solve_triangular(a, np.eye(len(a)), lower=True)
            )
            points.append(sigma)
        self.points = points

    def root(self, c: int) -> np.ndarray:
        """Return the matrix P of ``W^-2 ds = P ds P`` for matrix `c`."""
        return self.inverse[c].T @ self.inverse[c]

    def dot(self) -> float:
        return float(np.sum(self.s * self.z))

    def target(self, mu: float, ds: np.ndarray | float, dz: np.ndarray | float) -> np.ndarray:
        out = []
        for c, (R, inv, lam) in enumerate(zip(self.R, self.inverse, self.points, strict=True)):
            right = mu * np.eye(len(lam))
            if isinstance(ds, np.ndarray) and isinstance(dz, np.ndarray):
                both = (inv @ ds[c] @ inv.T) @ (R.T @ dz[c] @ R)
                right -= 0.5 * (both + both.T)
            out.append(inv.T @ (2.0 * right / (lam[:, None] + lam)) @ inv)
        return np.stack(out)

    def multiplier(self, target: np.ndarray, ds: np.ndarray) -> np.ndarray:
        move = np.stack([self.root(c) @ d @ self.root(c) for c, d in enumerate(ds)])
        return target - self.z - move

    def longest(self, ds: np.ndarray, dz: np.ndarray) -> float:
        worst = 0.0
        for c, (R, inv, lam) in enumerate(zip(self.R, self.inverse, self.points, strict=True)):
            half = 1.0 / np.sqrt(lam)
            for m in (inv @ ds[c] @ inv.T, R.T @ dz[c] @ R):
                scaled = 0.5 * (m + m.T) * half[:, None] * half
                worst = min(worst, float(np.linalg.eigvalsh(scaled)[0]))
        return np.inf if worst >= 0 else -1.0 / worst


def _det(x: np.ndarray) -> np.ndarray:
    tail = np.hypot(x[..., 1], x[..., 2])
    return (x[..., 0] - tail) * (x[..., 0] + tail)


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The Jordan product of the second-order cone."""
    first = np.sum(x * y, axis=-1, keepdims=True)
    return np.concatenate([first, x[..., :1] * y[..., 1:] + y[..., :1] * x[..., 1:]], axis=-1)


def _reach(x: np.ndarray, dx: np.ndarray) -> float:
    """Longest step along `dx` within the second-order cones."""
    a, c = _det_any(dx), _det(x)
    b = x[..., 0] * dx[..., 0] - x[..., 1] * dx[..., 1] - x[..., 2] * dx[..., 2]
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    # smallest positive root of a t^2 + 2 b t + c, written without cancellation
    below = root - b
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(below > 0, c / below, np.inf)
    real = b * b - a * c >= 0
    return float(np.min(np.where(real, t, np.inf)))


def _det_any(x: np.ndarray) -> np.ndarray:
    return x[..., 0] ** 2 - x[..., 1] ** 2 - x[..., 2] ** 2
