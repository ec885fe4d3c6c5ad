r"""Search for wedge products of high price, by exchanging one of their hyperplanes at a time.

A wedge is the direction v on d - 1 hyperplanes. Released from one of them it turns on a circle, ``u = cos t
v + sin t q``, q orthogonal to v and on the others, and meets every other hyperplane twice. Sample i is on
for half of the circle, so between two of these meetings ``Z'(Xu)_+`` is ``A cos t + B sin t``, with sums A
and B that change by one sample at each: sorting prices all exchanges of one member at once, in O(m log m)
for m hyperplanes. The best exchange of any member is made, until none raises ``|Z'(Xu)_+| / Omega(u)``.
Starts are directions from elsewhere, projected onto the nearest hyperplane again and again until d - 1 are
met.

Reference: the exchange is a pivoting step as in the simplex method, derived here for neurons; Wang et al.,
"Randomized geometric algebra methods for convex neural networks", 2024 (nearest hyperplanes).
"""

from __future__ import annotations

import numpy as np

from .design import Design

#: Exchanges at most.
EXCHANGES = 60
#: Least singular value of unit rows that a search takes as independent, and what a row may be left with.
INDEPENDENT, LEFT = 1e-9, 1e-6


def nearest_wedge(rows: np.ndarray, u: np.ndarray) -> list[int] | None:
    """Turn a direction into a wedge: project it onto the nearest hyperplane, and so on in what is left.

    Parameters
    ----------
    rows : ndarray of shape (m, r)
    u : ndarray of shape (r,)

    Returns
    -------
    list of r - 1 indices of independent rows, or None where there are not that many
    """
    lengths = np.linalg.norm(rows, axis=1)
    rest, chosen = rows / np.where(lengths > 0, lengths, 1.0)[:, None], []
    u = u / max(float(np.linalg.norm(u)), 1e-300)
    for _ in range(rows.shape[1] - 1):
        left = np.linalg.norm(rest, axis=1)
        if not np.any(left > LEFT):
            return None
        far = np.where(left > LEFT, np.abs(rest @ u) / np.where(left > LEFT, left, 1.0), np.inf)
        j = int(np.argmin(far))
        q = rest[j] / left[j]
        chosen.append(j)
        rest = rest - np.outer(rest @ q, q)
        u = u - (u @ q) * q
    return chosen


def exchange(
    design: Design, rows: np.ndarray, Z: np.ndarray, subset: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Exchange hyperplanes of a wedge, one after the other, as long as that raises its price.

    Parameters
    ----------
    design : Design
    rows : ndarray of shape (m, r)
        The samples first.
    Z : ndarray of shape (n,)
    subset : int ndarray of shape (r - 1,)

    Returns
    -------
    list of (subset, direction), the last two on the way; empty where rows are dependent
    """
    z = np.append(Z, np.zeros(len(rows) - len(Z)))
    lengths = np.linalg.norm(rows, axis=1)
    scaled = rows / np.where(lengths > 0, lengths, 1.0)[:, None]
    path: list[tuple[np.ndarray, np.ndarray]] = []
    best = 0.0
    for _ in range(EXCHANGES):
        _, size, Vt = np.linalg.svd(scaled[subset], full_matrices=True)
        if len(size) and size[-1] < INDEPENDENT:
            break
        v = Vt[-1]
        path.append((subset, v))
        if len(size) == 0:
            break
        # the directions that each member alone keeps the wedge from turning to
        turns = np.linalg.pinv(scaled[subset])
        turns = turns / np.linalg.norm(turns, axis=0)
        value, member, row = best_exchange(design, scaled, lengths * z, v, turns)
        if value <= best * (1.0 + 1e-12) or row in subset:
            break
        best, subset = value, subset.copy()
        subset[member] = row
    return path[-2:]


def best_exchange(
    design: Design, rows: np.ndarray, z: np.ndarray, v: np.ndarray, turns: np.ndarray
) -> tuple[float, int, int]:
    """Price every exchange of one hyperplane of a wedge: the best value, the member and the row.

    Parameters
    ----------
    rows : ndarray of shape (m, r)
        Unit rows, the samples first.
    z : ndarray of shape (m,)
        The dual variable times the lengths of the samples, zero for coordinates.
    v : ndarray of shape (r,)
        The wedge.
    turns : ndarray of shape (r, k)
        Unit directions, orthogonal to v, in which it turns when a member is released.
    """
    m, k = len(rows), turns.shape[1]
    a, b = np.broadcast_to((rows @ v)[:, None], (m, k)), rows @ turns
    # on the circle u = cos t v + sin t q a row is on where |t - phase| is less than a quarter of a turn
    phase = np.arctan2(b, a)
    enter, leave = phase - 0.5 * np.pi, phase + 0.5 * np.pi
    enter, leave = (np.mod(t + np.pi, 2 * np.pi) - np.pi for t in (enter, leave))
    first = enter > leave  # on at the cut, t = -pi
    t = np.concatenate([enter, leave])
    order = np.argsort(t, axis=0, kind="stable")
    t = np.take_along_axis(t, order, 0)
    change = np.concatenate([z[:, None] * np.ones((1, k)), -z[:, None] * np.ones((1, k))])
    sums = []
    for part in (a, b):
        moved = np.take_along_axis(change * np.concatenate([part, part]), order, 0)
        sums.append(np.sum(np.where(first, z[:, None] * part, 0.0), axis=0) + np.cumsum(moved, axis=0))
    value = np.abs(np.cos(t) * sums[0] + np.sin(t) * sums[1])
    row = order % m
    flat = np.hypot(a, b) <= 1e-9
    value[np.take_along_axis(flat, row, 0)] = 0.0
    # the best few of every member are enough to find the best after division by the norm
    price = np.zeros((k, len(t)))
    for i in range(k):
        U = np.cos(t[:, i])[:, None] * v + np.sin(t[:, i])[:, None] * turns[:, i]
        size = design.norms(U)
        price[i] = np.where(size > 1e-9, value[:, i] / np.where(size > 1e-9, size, 1.0), 0.0)
    i, j = divmod(int(np.argmax(price)), price.shape[1])
    return float(price[i, j]), i, int(row[j, i])
