r"""How wide are the cells that hyperplanes cut out? The factor that a ray of them costs under the l2 norm.

If all unit rays r of a cone have ``r'p > 0``, a unit vector ``u = sum_i t_i r_i`` of it has ``sum_i t_i <=
sum_i t_i r_i'p / min r'p = u'p / min r'p <= |p| / min r'p``. The best p is the centre of the smallest cap
that holds the rays, found by steps towards the farthest of them, and the bound then ``1 / cos R``; any
other p is a bound too. Cells are found through their rays: a ray is one of every cell whose signs agree
with its own off its hyperplanes. What is computed here can only be too large, as long as all rays are
listed, whatever rounding does to signs near zero.

References: Badoiu and Clarkson, "Smaller core-sets for balls", SODA 2003 (the steps).
"""

from __future__ import annotations

import numpy as np

#: Pairs of a ray and a cell up to which factors are computed, entries of the table of signs, and steps to
#: the centres of cells.
PAIRS, TABLE, CENTRING = 200_000, 20_000_000, 100
#: How far from a hyperplane, relative to its size, a ray may be on either side.
NEAR = 1e-7
#: Seed of the codes by which cells are told apart; two that share a code make factors larger.
SEED = 0


def cell_factors(rows: np.ndarray, U: np.ndarray, W: np.ndarray) -> np.ndarray | None:
    """Return k(r) for every ray: the largest ``1 / cos R`` of the cells that it is a ray of.

    A ray is one of all cells whose signs agree with its own where it is not on a hyperplane, so sorting the
    completions of its signs brings the rays of a cell together. Cells that are none, from completions that
    no point has, only make factors larger.

    Parameters
    ----------
    rows : ndarray of shape (m, r)
        Normals of the hyperplanes.
    U : ndarray of shape (k, r)
        All rays of the arrangement, one of every two opposite ones.
    W : ndarray of shape (k, p)
        Their penalised parts, of unit norm.

    Returns
    -------
    ndarray of shape (k,), or None where there are too many pairs of a ray and a cell
    """
    lengths = np.linalg.norm(rows, axis=1)
    rows, lengths = rows[lengths > 0], lengths[lengths > 0]
    if len(U) * len(rows) > TABLE:
        return None
    T = U @ rows.T
    on = np.abs(T) <= NEAR * lengths * np.linalg.norm(U, axis=1, keepdims=True)
    if float(np.sum(2.0 ** np.sum(on, axis=1))) > PAIRS:
        return None
    codes = np.random.default_rng(SEED).integers(0, 2**63, size=len(rows), dtype=np.uint64)
    total = np.sum(codes, dtype=np.uint64)
    base = ((T > 0) & ~on).astype(np.uint64) @ codes
    parts = [_completions(np.flatnonzero(on[i]), codes) for i in range(len(U))]
    member = np.repeat(np.arange(len(U)), [len(part[0]) for part in parts])
    key = base[member] + np.concatenate([part[0] for part in parts])
    first = (T[member, 0] > 0) & ~on[member, 0] | np.concatenate([part[1] for part in parts])
    # opposite cells have the same factor: the one on the positive side of the first row stands for both
    key, sign = np.where(first, key, total - key), np.where(first, 1.0, -1.0)
    order = np.argsort(key, kind="stable")
    key, member, sign = key[order], member[order], sign[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    widths = widening(W[member] * sign[:, None], starts)
    out = np.ones(len(U))
    np.maximum.at(out, member, np.repeat(widths, np.diff(np.append(starts, len(key)))))
    return out * (1.0 + 1e-9)


def _completions(rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of codes of all subsets of some rows, and whether row 0 is in each."""
    sums, first = np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=bool)
    for j in rows:
        sums = np.concatenate([sums, sums + codes[j]])
        first = np.concatenate([first, first | (j == 0)])
    return sums, first


def widening(rays: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Bound, for groups of unit rays, the sum of the coefficients of a unit vector in their cone.

    For every p with ``r'p > 0`` for all rays of a group it is at most ``|p| / min r'p``, and infinite where
    no such p is found. The centre of the smallest cap is best; steps towards the farthest ray find it.

    Parameters
    ----------
    rays : ndarray of shape (k, d)
        Group after group.
    starts : int ndarray of shape (groups,)
        Where groups begin.
    """
    sizes = np.diff(np.append(starts, len(rays)))
    group = np.repeat(np.arange(len(starts)), sizes)
    p = np.add.reduceat(rays, starts, axis=0) / sizes[:, None]
    best = np.full(len(starts), np.inf)
    for k in range(CENTRING):
        along = np.einsum("kd,kd->k", rays, p[group])
        least = np.minimum.reduceat(along, starts)
        length = np.linalg.norm(p, axis=1)
        good = least > 1e-12 * length
        ratio = np.where(good, length / np.where(good, least, 1.0), np.inf)
        best = np.minimum(best, np.maximum(ratio, 1.0))
        # the first of the farthest rays of every group
        far = np.where(along <= least[group], np.arange(len(rays)), len(rays))
        p = p + (rays[np.minimum.reduceat(far, starts)] - p) / (k + 2.0)
    return best
