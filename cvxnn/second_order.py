"""Second-order cones, many at once: Jordan products, Nesterov-Todd scaling, step lengths.

A second-order cone holds the points (t, u) with ``t >= ||u||``. Every function here takes the cones of
all groups together, heads of shape (groups,) and tails of shape (groups, d), which is how a
group norm with its slack enters the structured interior-point method.

Reference: Vandenberghe, "The CVXOPT linear and quadratic cone program solvers", 2010, sections 4 and 5;
Alizadeh and Goldfarb, "Second-order cone programming", Math. Prog. 2003.
"""

from __future__ import annotations

import numpy as np


class Scaling:
    """The Nesterov-Todd scaling of the second-order cones ``(t, u)`` and ``(beta, y)``.

    ``W^-2 = (2 (Jw)(Jw)' - J) / eta^2``. Near the solution w is huge and ``W^-1`` is a difference of
    huge numbers, so t is eliminated on paper and only the small results are computed: with
    ``k = 2 w_0^2 - 1`` the reduced block is ``(I - 2 w_1 w_1' / k) / eta^2``.
    """

    def __init__(self, t: np.ndarray, u: np.ndarray, beta: float, y: np.ndarray) -> None:
        a, b = determinant(t, u), determinant(np.full_like(t, beta), y)
        self.eta = np.sqrt(a / b)
        s0, s1 = t / a, u / a[:, None]
        z0, z1 = beta / b, y / b[:, None]
        gamma = np.sqrt((1.0 + s0 * z0 + dot(s1, z1)) / 2.0)
        self.w1 = (s1 - z1) / (2.0 * gamma[:, None])
        # w0 from the norm of w1, so that w0^2 - |w1|^2 = 1 holds to rounding
        self.w0 = np.sqrt(1.0 + dot(self.w1, self.w1))
        self.k = 2.0 * self.w0**2 - 1.0
        # lam = W z = W^-1 s, in the form without cancellation
        mean = (gamma + z0)[:, None] * s1 + (gamma + s0)[:, None] * z1
        root = np.sqrt(a * b)
        self.lam0 = root * gamma
        self.lam1 = root[:, None] * mean / (s0 + z0 + 2.0 * gamma)[:, None]
        self.det = a * b

    def reduce(self, du: np.ndarray) -> np.ndarray:
        """The reduced u-block times ``du``."""
        inner = 2.0 * dot(self.w1, du) / self.k
        return (du - inner[:, None] * self.w1) / (self.eta**2)[:, None]

    def blocks(self) -> np.ndarray:
        """The reduced u-blocks as matrices, shape (groups, kept, kept)."""
        outer = self.w1[:, :, None] * self.w1[:, None, :]
        inner = np.eye(self.w1.shape[1]) - (2.0 / self.k)[:, None, None] * outer
        return inner / (self.eta**2)[:, None, None]

    def complementarity(
        self, target: float, affine: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Right-hand sides of the reduced system: the head ``p_0`` for t, the tail for u.

        ``p = W^-1 x`` with ``lam o x = target e - lam o lam - (W^-1 ds) o (W dz)``.
        """
        x0, x1 = -self.lam0, -self.lam1
        if affine is not None:
            dt, du, dy = affine
            v0, v1 = jordan(*rotate(self.w0, -self.w1, dt, du), *rotate(self.w0, self.w1, 0.0 * dt, dy))
            v0, v1 = target - v0, -v1
            head = (self.lam0 * v0 - dot(self.lam1, v1)) / self.det
            x0 = x0 + head
            x1 = x1 + (v1 - self.lam1 * head[:, None]) / self.lam0[:, None]
        inner = dot(self.w1, x1)
        head = (self.w0 * x0 - inner) / self.eta
        mixed = (x0 - inner * (1.0 + 2.0 * self.w0) / (1.0 + self.w0)) / self.k
        return head, (x1 + mixed[:, None] * self.w1) / self.eta[:, None]

    def slack(self, head: np.ndarray, du: np.ndarray) -> np.ndarray:
        """The change of t that goes with ``du``."""
        return (head * self.eta**2 + 2.0 * self.w0 * dot(self.w1, du)) / self.k


def determinant(head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """``sqrt(head^2 - |tail|^2)``, factored against cancellation."""
    size = np.linalg.norm(tail, axis=1)
    return np.sqrt((head - size) * (head + size))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products row by row."""
    return np.einsum("gk,gk->g", a, b)


def jordan(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Jordan product ``(a'b, a_0 b_1 + b_0 a_1)`` row by row."""
    return a0 * b0 + dot(a1, b1), a0[:, None] * b1 + b0[:, None] * a1


def rotate(w0: np.ndarray, w1: np.ndarray, v0: np.ndarray, v1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``W v`` without its factor eta; with ``-w1`` in place of ``w1`` it is ``W^-1 v``."""
    inner = dot(w1, v1)
    return w0 * v0 + inner, v1 + w1 * (v0 + inner / (1.0 + w0))[:, None]


def largest_step(t: np.ndarray, u: np.ndarray, dt: np.ndarray, du: np.ndarray) -> float:
    """The largest step that keeps ``(t, u) + step (dt, du)`` in the second-order cone."""
    a = dt**2 - np.einsum("gk,gk->g", du, du)
    b = t * dt - np.einsum("gk,gk->g", u, du)
    c = determinant(t, u) ** 2
    disc = b**2 - a * c
    root = np.sqrt(np.maximum(disc, 0.0))
    # smallest positive root of a x^2 + 2 b x + c, in the form without cancellation
    x = np.where(b < 0, c / np.where(b < 0, -b + root, 1.0), np.inf)
    x = np.where((b >= 0) & (a < 0), (b + root) / np.where(a < 0, -a, 1.0), x)
    x = np.where((disc < 0), np.inf, x)
    return float(np.min(x)) if len(x) else 1e6
