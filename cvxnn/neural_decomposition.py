r"""From a positive semidefinite matrix to neurons of norm one: the constructive S-lemma.

With ``G = diag(1, ..., 1, -1)`` the cone of the sums ``sum_j alpha_j (u_j, 1)(u_j, 1)'`` with ``||u_j|| =
1`` and ``alpha_j >= 0`` is

    { Z psd of order f + 1 :  <G, Z> = tr Z_1 - Z_4 = 0 },

Z_1 its leading block and Z_4 its corner. A sum is in it. Conversely let ``Z = sum_i p_i p_i'`` with
rank(Z) many vectors. Unless every ``p'Gp`` is zero two of them, p and q, have opposite signs (their sum
is zero), and

    y = (p + t q) / sqrt(1 + t^2),     p' = (q - t p) / sqrt(1 + t^2),     yy' + p'p'' = pp' + qq'

for every t. One with ``y'Gy = 0``, a root of ``q'Gq t^2 + 2 p'Gq t + p'Gp``, exists as the product of the
roots is negative. y is put aside, p' takes the place of both, and one vector fewer is left. A vector with
``y'Gy = 0`` has ``||y_1..f|| = |y_(f+1)|``: the neuron ``u = y_1..f / y_(f+1)`` with ``alpha =
y_(f+1)^2``.

Matrices from a solver meet neither condition exactly: Z is symmetrised, eigenvalues of the size of
rounding are dropped, Z_1 is rescaled to the trace of Z_4, and vectors are put aside once ``|p'Gp|`` is of
the size of rounding; the two vectors furthest from zero are paired, so that an opposite sign is always
there.

References: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts", Math. Prog. 2025; Polik and
Terlaky, SIAM Review 2007, lemma 2.4; Sturm and Zhang, Math. Oper. Res. 2003 (rank-one decomposition).
"""

from __future__ import annotations

import numpy as np

#: Relative size of eigenvalues that are dropped, and of ``p'Gp`` that is zero.
ZERO, LEVEL = 1e-13, 1e-15


def neurons_of(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return neurons of norm one whose sum a matrix is.

    Parameters
    ----------
    Z : ndarray of shape (f + 1, f + 1)
        Positive semidefinite with ``tr Z_1 = Z_4``, up to what a solver leaves.

    Returns
    -------
    U : ndarray of shape (k, f)
        Unit vectors, as many as the rank of Z at most.
    alpha : ndarray of shape (k,)
        Positive, with ``sum_j alpha_j (u_j, 1)(u_j, 1)' = Z``.
    """
    values, vectors = np.linalg.eigh(0.5 * (Z + Z.T))
    kept = values > ZERO * max(float(values[-1]), 0.0)
    return neurons_of_factors(vectors[:, kept].T * np.sqrt(values[kept])[:, None])


def neurons_of_factors(P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return neurons of norm one for ``Z = P'P`` given by its factors ``P`` (k, f + 1).

    Factors that are linearly dependent are replaced by as few as the rank allows.
    """
    f = P.shape[1] - 1
    if not len(P):
        return np.zeros((0, f)), np.zeros(0)
    _, sizes, rows = np.linalg.svd(P, full_matrices=False)
    kept = sizes > np.sqrt(ZERO) * sizes[0]
    P = rows[kept] * sizes[kept, None]
    trace, corner = float(np.sum(P[:, :f] ** 2)), float(np.sum(P[:, f] ** 2))
    if trace == 0.0 or corner == 0.0:
        return np.zeros((0, f)), np.zeros(0)
    P[:, :f] *= np.sqrt(corner / trace)
    Y = _level(P)
    size, alpha = np.linalg.norm(Y[:, :f], axis=1), Y[:, f] ** 2
    kept = (size > 0) & (alpha > 0)
    U = Y[kept, :f] / (np.sign(Y[kept, f]) * size[kept])[:, None]
    return U, alpha[kept]


def _level(P: np.ndarray) -> np.ndarray:
    """Rotate vectors among each other until every one has ``p'Gp = 0``."""
    P = P.copy()
    left = list(range(len(P)))
    while len(left) > 1:
        heights = np.sum(P[left, :-1] ** 2, axis=1) - P[left, -1] ** 2
        sizes = np.sum(P[left] ** 2, axis=1)
        top, bottom = int(np.argmax(heights)), int(np.argmin(heights))
        if heights[top] <= LEVEL * sizes[top] or heights[bottom] >= -LEVEL * sizes[bottom]:
            break
        # the one closer to zero is levelled, so that the root is at most about one
        first, second = (top, bottom) if heights[top] <= -heights[bottom] else (bottom, top)
        p, q = P[left[first]].copy(), P[left[second]].copy()
        mixed = float(p[:-1] @ q[:-1] - p[-1] * q[-1])
        t = _root(float(heights[second]), mixed, float(heights[first]))
        length = np.sqrt(1.0 + t * t)
        P[left[first]], P[left[second]] = (p + t * q) / length, (q - t * p) / length
        left.pop(first)
    return P


def _root(a: float, b: float, c: float) -> float:
    """The root of least size of ``a t^2 + 2 b t + c`` with ``a c < 0``, without cancellation."""
    root = np.sqrt(b * b - a * c)
    return -c / (b + root) if b >= 0 else -c / (b - root)
