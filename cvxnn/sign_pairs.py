r"""Pairs of sign vectors: the infinity-to-one norm, its semidefinite bound, and rounding.

The best bilinear unit ``(x'u)(x'v)`` with u, v in {-1, 1}^d for a dual variable maximises ``u'Qv`` with
``Q = sum_i Z_i x_i x_i'``, symmetric:

    ||Q|| = max over u, v in {-1, 1}^d of u'Qv = max over u of ||Qu||_1          (infinity to one; NP-hard).

*Exactly*: 2^(d-1) vectors u, one of u and -u. *From above*: with unit vectors a_i, b_j in the place of
signs,

    max of sum_ij Q_ij a_i'b_j  =  min of 1'p  subject to  -diag(p) <= Q <= diag(p)        (positive
    semidefinite)

(for a symmetric Q both diagonals may be taken equal), at most K = pi / (2 ln(1 + sqrt 2)) = 1.782 times
the norm: Grothendieck's inequality with Krivine's constant. Going back and forth, ``a_i`` the direction
of ``sum_j Q_ij b_j`` and so on, increases the left side; the lengths are a p, and adding the largest
violation to it makes it feasible, so that a bound never depends on convergence. *From below*: v =
sign(Qu), u = sign(Qv) in turn.

*Rounding*. Let ``[[V, Z], [Z, V]]`` be positive semidefinite with a diagonal of ones, ``gamma = ln(1 +
sqrt 2)``. Elementwise ``[[sinh(gamma V), sin(gamma Z)], [sin(gamma Z), sinh(gamma V)]]`` is too (every
power in the series is), and has a diagonal of ``sinh(gamma) = 1``. For a Gaussian g of this covariance
the signs (u, v) of g have ``E uv' = (2 / pi) arcsin(sin(gamma Z)) = (2 gamma / pi) Z``: the matrix itself
but for the factor 1 / K.

References: Krivine, Adv. Math. 1979; Alon and Naor, "Approximating the cut-norm via Grothendieck's
inequality", SIAM J. Comput. 2006; Bartan and Pilanci, ICML 2021; block coordinate ascent: Wang, Chang and
Kolter, 2017.
"""

from __future__ import annotations

import numpy as np

#: Krivine's bound of Grothendieck's constant, and the angle it comes from.
GAMMA = float(np.log(1.0 + np.sqrt(2.0)))
KRIVINE = float(np.pi / (2.0 * GAMMA))
#: Sign vectors that are looked at in one product.
CHUNK = 1 << 14
#: Turns of ascent at most, how often its bound is looked at, and the relative gap that is enough.
TURNS, EVERY, CLOSE = 3000, 25, 1e-9


def signs(A: np.ndarray) -> np.ndarray:
    """Return -1 and +1 by sign; +1 at zero."""
    return np.where(A < 0, -1.0, 1.0)


def canonical(U: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct pairs (k, d), (k, d) up to signs and order: (u, v) and (v, u) are the same unit."""
    U, V = U * U[:, :1], V * V[:, :1]
    swap = np.zeros(len(U), dtype=bool)
    for i in range(len(U)):
        swap[i] = tuple(U[i]) > tuple(V[i])
    U, V = np.where(swap[:, None], V, U), np.where(swap[:, None], U, V)
    _, first = np.unique(np.column_stack([U, V]), axis=0, return_index=True)
    kept = np.sort(first)
    return U[kept], V[kept]


def best_pairs(Q: np.ndarray, most: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the norm of Q by enumeration, and good pairs, the best first.

    Parameters
    ----------
    Q : ndarray of shape (d, d)
        Symmetric.
    most : int

    Returns
    -------
    norm : float
    U, V : ndarrays of shape (k, d), k <= most
        Distinct pairs, the first of which attains the norm.
    """
    d = len(Q)
    values, rows = np.zeros(0), np.zeros((0, d))
    for start in range(0, 1 << (d - 1), CHUNK):
        U = sign_vectors(d, start, min(start + CHUNK, 1 << (d - 1)))
        size = np.sum(np.abs(U @ Q), axis=1)
        top = np.argsort(-size, kind="stable")[: 2 * most]
        values, rows = np.concatenate([values, size[top]]), np.concatenate([rows, U[top]])
        kept = np.argsort(-values, kind="stable")[: 2 * most]
        values, rows = values[kept], rows[kept]
    U, V = canonical(rows, signs(rows @ Q))
    return float(values[0]), U[:most], V[:most]


def sign_vectors(d: int, start: int, stop: int) -> np.ndarray:
    """Return the sign vectors with a first entry of one that some numbers stand for, (stop - start, d)."""
    bits = (np.arange(start, stop)[:, None] >> np.arange(d - 1)) & 1
    return np.column_stack([np.ones(stop - start), 1.0 - 2.0 * bits])


def search(Q: np.ndarray, starts: np.ndarray, most: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Return good pairs by ascent from some sign vectors (k, d), as :func:`best_pairs` does."""
    U = signs(starts)
    for _ in range(100):
        V = signs(U @ Q)
        new = signs(V @ Q)
        if np.array_equal(new, U):
            break
        U = new
    V = signs(U @ Q)
    values = np.einsum("ki,ij,kj->k", U, Q, V)
    order = np.argsort(-values, kind="stable")
    A, B = canonical(U[order], V[order])
    return float(values[order[0]]), A[:most], B[:most]


def norm_bound(Q: np.ndarray, tol: float = CLOSE) -> tuple[float, np.ndarray, np.ndarray]:
    """Return an upper bound of the norm of Q, and the unit vectors of the relaxation.

    Parameters
    ----------
    Q : ndarray of shape (d, d)
        Symmetric.
    tol : float
        Relative gap of the relaxation at which to stop.

    Returns
    -------
    bound : float
        At least the norm, and at most 1.782 times it if the relaxation is solved.
    A, B : ndarrays of shape (d, k)
    """
    d = len(Q)
    size = float(np.max(np.abs(Q), initial=0.0))
    A = np.random.default_rng(0).standard_normal((d, int(np.sqrt(4 * d)) + 2))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    if size == 0.0:
        return 0.0, A, A
    best, B = float(np.sum(np.abs(Q))), A
    for turn in range(TURNS):
        B, _ = _directions(Q @ A, B)
        A, p = _directions(Q @ B, A)
        if turn % EVERY == EVERY - 1:
            both = 0.5 * (p + np.linalg.norm(Q @ A, axis=1))
            best = min(best, feasible_bound(Q, -Q, both))
            if best - float(np.sum(p)) <= tol * best:
                break
    return best, A, B


def _directions(S: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length one, and their lengths; rows that are zero stay what they were."""
    size = np.linalg.norm(S, axis=1)
    safe = np.where(size > 0, size, 1.0)
    return np.where(size[:, None] > 0, S / safe[:, None], before), size


def feasible_bound(Q1: np.ndarray, Q2: np.ndarray, p: np.ndarray) -> float:
    """Return ``1'p`` after raising p until ``diag(p)`` is above both matrices, rounding included."""
    d = len(p)
    lack = max(float(np.linalg.eigvalsh(M - np.diag(p))[-1]) for M in (Q1, Q2))
    size = float(np.max(np.abs(p))) + float(np.linalg.norm(Q1)) + float(np.linalg.norm(Q2))
    return float(np.sum(p)) + d * (max(lack, 0.0) + 4e-16 * (d + 8) * size)


def krivine_covariance(V: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Return the covariance (2d, 2d) whose signs have ``E uv' = (2 gamma / pi) Z``.

    Parameters
    ----------
    V, Z : ndarrays of shape (d, d)
        With ``[[V, Z], [Z, V]]`` positive semidefinite and ones on the diagonal.
    """
    outer, inner = np.sinh(GAMMA * V), np.sin(GAMMA * Z)
    return np.block([[outer, inner], [inner, outer]])


def krivine_round(
    V: np.ndarray, Z: np.ndarray, count: int, random_state: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pairs of sign vectors (count, d) by :func:`krivine_covariance`."""
    d = len(V)
    values, vectors = np.linalg.eigh(krivine_covariance(V, Z))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    g = random_state.standard_normal((count, 2 * d)) @ root.T
    return signs(g[:, :d]), signs(g[:, d:])
