r"""Bounds over all patterns for norms of few vertices: a linear relaxation over the vertices.

Let the ball of a norm Omega lie in the convex hull of vertices v, for the sum of sizes ``±e_k``. Of
``z'(Xu)_+`` with ``z = p - q``, p and q its positive and negative part, the first term is convex in u, so
at a mean of vertices at most the mean of its values there; and ``(t)_+ >= a t`` for a in [0, 1]. Hence,
with ``H = (XV)_+``, ``B = XV`` and any r with ``0 <= r <= q``,

    max over Omega(u) <= 1 of z'(Xu)_+   <=   max over vertices v of  p'H_v - r'B_v,

a linear program in r, exact for Z >= 0 and looser the more signs Z has. What is
linear in (p, q, r) can be optimised together with the dual variable. That program's own dual is

    minimise  L(f+ - f- + c) + beta * sum (m+ + m-)    subject to   0 <= f± <= H m±,  f± >= B m±,  m± >= 0,

networks whose neurons may do any mean of their vertices; its multipliers are (p, r) for either sign.
Bounds are recomputed from the multipliers, whatever their quality.

References: derived here; weak duality as in Pilanci and Ergen, ICML 2020, section 3. Mean of values at
vertices: Rockafellar, Convex Analysis, theorem 32.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from .losses import Loss

#: Entries of the relaxation beyond which it is not solved.
MAX_ENTRIES = 20_000_000
#: Share by which computed prices are raised, for the rounding of their sums.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A dual variable with a bound of its price.

    Parameters
    ----------
    Z : ndarray of shape (n,)
    price : float
        At least ``max over Omega(u) <= 1 of |Z'(Xu)_+|``.
    """

    Z: np.ndarray
    price: float


def vertex_price(X: np.ndarray, V: np.ndarray, Z: np.ndarray) -> float:
    """Return the least bound of the price of a dual variable over all r, for both signs.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    V : ndarray of shape (d, vertices)
    Z : ndarray of shape (n,)
    """
    return max(_side_price(X, V, z) for z in (Z, -Z))


def _side_price(X: np.ndarray, V: np.ndarray, z: np.ndarray) -> float:
    low = np.flatnonzero(z < 0)
    start = _bound(X, V, z, np.zeros(len(z)))
    if not len(low) or start == 0.0:
        return start
    size = float(np.max(np.abs(z)))
    B = X @ V
    convex = (np.maximum(z, 0.0) / size) @ np.maximum(B, 0.0)
    # variables: r at the negative entries, and the largest value t
    rows = np.column_stack([-B[low].T, -np.ones(V.shape[1])])
    cost = np.append(np.zeros(len(low)), 1.0)
    bounds = [(0.0, -float(v) / size) for v in z[low]] + [(None, None)]
    found = linprog(cost, A_ub=rows, b_ub=-convex, bounds=bounds, method="highs")
    if found.x is None:
        return start
    r = np.zeros(len(z))
    r[low] = size * found.x[:-1]
    return min(start, _bound(X, V, z, r))


def _bound(X: np.ndarray, V: np.ndarray, z: np.ndarray, r: np.ndarray) -> float:
    """``max over v of p'H_v - r'B_v``, raised by its rounding; r is cut to what is allowed."""
    r = np.clip(r, 0.0, np.maximum(-z, 0.0))
    B = X @ V
    values = np.maximum(z, 0.0) @ np.maximum(B, 0.0) - r @ B
    slack = ROUNDING * float(np.max(np.abs(z) @ np.abs(B), initial=0.0))
    return max(0.0, float(np.max(values, initial=0.0))) + slack


def relax(
    X: np.ndarray,
    V: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    *,
    intercept: bool,
) -> Relaxed | None:
    """Return the dual variable of the relaxation over the vertices, None if it cannot be solved here.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    V : ndarray of shape (d, vertices)
        The ball of the norm lies in their convex hull.
    y, s : ndarrays of shape (n,)
    loss : Loss
    beta : float
    intercept : bool
        Whether the dual variable has to sum to zero.
    """
    form = loss.conic(y, s)
    if form is None or 4 * X.shape[0] * V.shape[1] > MAX_ENTRIES:
        return None
    Z, plus, minus = _solve(X @ V, form, beta, intercept)
    if not np.all(np.isfinite(Z)):
        return None
    Z = loss.nearest(Z, y, s)
    Z = loss.balance(Z) if intercept else Z
    sides = ((Z, plus), (-Z, minus))
    return Relaxed(Z, max(_bound(X, V, z, np.nan_to_num(r)) for z, r in sides))


def _solve(
    B: np.ndarray, form: Any, beta: float, intercept: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The relaxation by a conic solver: the dual variable, and r for either sign."""
    import clarabel

    (n, m), k = B.shape, len(form.extra)
    eye, H, wide = sparse.identity(n), sparse.csc_matrix(np.maximum(B, 0.0)), sparse.csc_matrix(B)
    zero, none = sparse.csc_matrix((n, n)), sparse.csc_matrix((n, m))
    ones = sparse.csc_matrix(np.ones((n, 1)) if intercept else np.zeros((n, 0)))
    # columns: f, v, f+, f-, m+, m-, c
    fit = [eye, sparse.csc_matrix((n, k)), -eye, eye, none, none, -ones]
    rows = [sparse.hstack(fit)]
    gap = sparse.csc_matrix((n, ones.shape[1]))
    for side in (0, 1):
        f = [eye if side == j else zero for j in (0, 1)]
        for left, right in ((1.0, -H), (-1.0, 0.0 * wide), (-1.0, wide)):
            own = [right if side == j else none for j in (0, 1)]
            blocks = [zero, sparse.csc_matrix((n, k)), left * f[0], left * f[1], *own, gap]
            rows.append(sparse.hstack(blocks))
    width = 3 * n + k + 2 * m + ones.shape[1]
    sizes = sparse.hstack([sparse.csc_matrix((2 * m, 3 * n + k)), -sparse.identity(2 * m)])
    rows.append(sparse.hstack([sizes, sparse.csc_matrix((2 * m, ones.shape[1]))]))
    cones = [clarabel.ZeroConeT(n), clarabel.NonnegativeConeT(6 * n + 2 * m)]
    rest = sparse.csc_matrix((len(form.h), width - n - k))
    rows.append(sparse.hstack([-sparse.csc_matrix(form.F), -sparse.csc_matrix(form.V), rest]))
    kinds = {"nonnegative": clarabel.NonnegativeConeT, "exponential": lambda _: clarabel.ExponentialConeT()}
    cones += [kinds[name](size) for name, size in form.cones]
    right_side = np.concatenate([np.zeros(7 * n + 2 * m), form.h])
    bend = np.zeros(k) if form.extra_quadratic is None else form.extra_quadratic
    P = sparse.diags(np.concatenate([form.quadratic, bend, np.zeros(width - n - k)]))
    q = np.concatenate([form.linear, form.extra, np.zeros(2 * n), np.full(2 * m, beta)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    A = sparse.vstack(rows).tocsc()
    q = np.append(q, np.zeros(width - len(q)))
    result: Any = clarabel.DefaultSolver(sparse.csc_matrix(P), q, A, right_side, cones, settings).solve()
    z = np.array(result.z)
    p, _, r = (z[(1 + j) * n : (2 + j) * n] for j in range(3))
    p2, _, r2 = (z[(4 + j) * n : (5 + j) * n] for j in range(3))
    Z = z[:n]
    # where p and q overlap, taking the common part out of both lowers the bound
    return Z, r - np.minimum(p, p - Z), r2 - np.minimum(p2, p2 + Z)
