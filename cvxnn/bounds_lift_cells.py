r"""Lifted neurons of one pattern: the copositive program over the cells of an arrangement.

In the cell of pattern D a neuron is ``xi = (u, g)``, its gain is ``u'X'DZ g``, and ``(2D - I)Xu >= 0``:
a lift for each pattern is the copositive program of Sahiner et al.; it is their program in ``U_D``, from
which the output weights are eliminated, since the gain is the only term with g. What a lift is, and how
multipliers prove a price from it: :mod:`cvxnn.bounds_lifts`.

Reference: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021.
"""

from __future__ import annotations

import numpy as np

from .bounds_lift_rows import Directions, directions_of
from .bounds_lifts import (
    MOST_CELL_UNKNOWNS,
    Lift,
    Lifts,
    bias_form,
    bounded_bias,
    check_size,
    in_windows,
    rounding_of_sums,
    unknowns,
)


def cell_lifts(
    X: np.ndarray,
    masks: np.ndarray,
    outputs: int,
    *,
    free: int = 0,
    slope: float = 0.0,
    pool: int = 1,
    windows: int = 1,
    resolution: float = 0.0,
    most: int = MOST_CELL_UNKNOWNS,
) -> Lifts:
    """Return a lift for each pattern: the copositive program over the cells of an arrangement.

    Of the functions that are not negative in a cell only those of its facets are kept: the samples that can
    change sides alone.

    Parameters
    ----------
    X : ndarray of shape (n * windows * pool, r)
    masks : bool ndarray of shape (patterns, n * windows * pool)
        All patterns of X.
    outputs : int
    free, slope, pool, windows
        As in :func:`cvxnn.bounds_lift_rows.lifts`.
    resolution : float
        Relative distance within which directions of samples were taken for one.
    most : int
        Unknowns that are acceptable.

    Raises
    ------
    TooLarge
        If the program would have more.
    """
    X, bias = bounded_bias(X, free)
    rows = directions_of(X)
    m = X.shape[1] + outputs * windows
    facets = _facets(rows, masks)
    check_size(sum(unknowns(m, len(f)) for f in facets), most)
    eye = np.eye(m)
    u, g = eye[: X.shape[1]], eye[X.shape[1] :]
    square, positive = bias_form(u, free)
    cost, none = 0.5 * (square + g.T @ g), np.zeros((0, m, m))
    parts = []
    for mask, facet in zip(masks, facets, strict=True):
        active = np.where(mask, 1.0, slope)[:, None] * X
        lift = Lift(facet @ u, (active @ u)[None], g[None], u, cost, none, positive, 2.0 + free)
        parts.append(in_windows(lift, pool, windows))
    # a unit neuron sees no row by more than this
    reach = np.linalg.norm(X, axis=1) * np.sqrt(1.0 + free)
    lost = resolution * reach + rounding_of_sums(reach, pool)
    return Lifts(tuple(parts), np.sum(lost.reshape(-1, windows * pool), axis=1), bias)


def line_lifts(X: np.ndarray, outputs: int, separate: bool) -> tuple[Lift, ...]:
    """Return the lifts of linear neurons, which are those of a cell without borders: all of space.

    ``kappa C - K(Z)`` is then semidefinite exactly if kappa is at least the largest singular value of
    ``X'Z``, or of its column where neurons have one output.

    Parameters
    ----------
    X : ndarray of shape (n, r)
    outputs : int
    separate : bool
        Whether each neuron has one output only: then there is a lift for each.
    """
    found = []
    for served in np.eye(outputs)[:, None] if separate else np.eye(outputs)[None]:
        m = X.shape[1] + len(served)
        eye = np.eye(m)
        u, g = eye[: X.shape[1]], served.T @ eye[X.shape[1] :]
        none = np.zeros((0, m, m))
        found.append(Lift(eye[:0], (X @ u)[None], g[None], u, 0.5 * eye, none, none, 2.0))
    return tuple(found)


def _facets(rows: Directions, masks: np.ndarray) -> list[np.ndarray]:
    """For each pattern the directions (facets, r), with their signs, whose side alone can change."""
    k = len(rows.unit)
    firsts = np.array(
        [np.flatnonzero((rows.owner == j) & (rows.factor > 0))[0] for j in range(k)], dtype=int
    )
    sides = masks[:, firsts]
    known = {side.tobytes() for side in sides}
    found = []
    for side in sides:
        near = []
        for j in range(k):
            other = side.copy()
            other[j] = not other[j]
            if other.tobytes() in known:
                near.append(j)
        found.append(np.where(side[near], 1.0, -1.0)[:, None] * rows.unit[near])
    return found
