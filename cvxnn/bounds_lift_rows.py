r"""Lifted neurons on rows: those of a plain network, and of a convolution whose outputs are added up.

What a lift is, and how it proves a price: :mod:`cvxnn.bounds_lifts`, whose coordinates q have an entry for
every distinct direction of the rows.

Rows are divided by powers of two, which is exact, to about unit length. Rows that are parallel share a
coordinate; what that changes in them is *lost*, and paid for in the price, as is the rounding of pooling.

References: Prakhya, Birdal and Yurtsever, ICLR 2025. The products with h and a are those of the
reformulation-linearisation technique (Sherali and Adams, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bounds_lifts import (
    MOST_UNKNOWNS,
    Lift,
    Lifts,
    bias_form,
    bounded_bias,
    check_count,
    check_size,
    in_windows,
    product,
    rounding_of_sums,
    unknowns,
)

_EPS = float(np.finfo(np.float64).eps)
#: Directions closer than this are one, as far as coordinates go.
PARALLEL = 1e-12


@dataclass(frozen=True, eq=False)
class Directions:
    """Distinct directions of the samples: ``x_i`` is nearly ``factor_i * unit[owner_i]``."""

    unit: np.ndarray
    owner: np.ndarray
    factor: np.ndarray
    lost: np.ndarray


def directions_of(X: np.ndarray) -> Directions:
    """Find the directions among the rows; rows of zeros belong to none (factor 0)."""
    norms = np.linalg.norm(X, axis=1)
    # a direction is known by its row with the sign that makes its largest entry positive
    largest = np.take_along_axis(X, np.argmax(np.abs(X), axis=1)[:, None], axis=1)[:, 0]
    ways = X * (np.sign(largest) / np.where(norms > 0, norms, 1.0))[:, None]
    units: list[np.ndarray] = []
    firsts: list[int] = []
    owner, factor = np.zeros(len(X), dtype=int), np.zeros(len(X))
    lost = np.zeros(len(X))
    for i in np.flatnonzero(norms > 0).tolist():
        gaps = np.linalg.norm(ways[firsts] - ways[i], axis=1) if firsts else np.ones(0)
        near = np.flatnonzero(gaps <= PARALLEL)
        if len(near):
            owner[i] = near[0]
            unit, first = units[near[0]], firsts[near[0]]
            factor[i] = np.sign(largest[i] * largest[first]) * norms[i] / np.linalg.norm(unit)
            miss = float(np.linalg.norm(X[i] - factor[i] * unit))
            lost[i] = 0.0 if np.array_equal(X[i], factor[i] * unit) else miss + 8.0 * _EPS * norms[i]
        else:
            owner[i], factor[i] = len(units), 2.0 ** np.ceil(np.log2(norms[i]))
            units.append(X[i] / factor[i])
            firsts.append(i)
    return Directions(np.array(units).reshape(-1, X.shape[1]), owner, factor, lost)


def count_unknowns(
    X: np.ndarray, outputs: int, *, tight: bool = True, separate: bool = False, windows: int = 1
) -> int:
    """Return the size of a lifted program: entries of triangles and multipliers of products.

    Parameters
    ----------
    X, outputs, tight, separate, windows
        As in :func:`lifts`.

    Raises
    ------
    TooLarge
        If there are so many rows that counting is no use.
    """
    check_count(len(X))
    k, r = directions_of(X).unit.shape
    if separate or (tight and outputs * windows == 1):
        m, functions, parts = k + r + 1, 3 * k + 1, 2 * outputs
    else:
        m, functions, parts = k + r + outputs * windows, 2 * k, 1
    return parts * unknowns(m, functions)


def lifts(
    X: np.ndarray,
    outputs: int,
    *,
    free: int = 0,
    slope: float = 0.0,
    tight: bool = True,
    separate: bool = False,
    pool: int = 1,
    windows: int = 1,
    most: int = MOST_UNKNOWNS,
) -> Lifts:
    """Return the lifts of the neurons on a design matrix.

    Parameters
    ----------
    X : ndarray of shape (n * windows * pool, r)
    outputs : int
    free : {0, 1}
        1 if the last column of X is the constant of a bias that is not penalised; dual variables must
        then sum to zero.
    slope : float
        Of the activation on its negative side.
    tight : bool
        Whether neurons of one output are told apart by their sign.
    separate : bool
        Whether each neuron has one output only; with one window.
    pool, windows : int
        Rows that are added up, and the sums that each sample has, with output weights of their own.
    most : int
        Unknowns that are acceptable.

    Raises
    ------
    TooLarge
        If the program would have more.
    """
    check_size(count_unknowns(X, outputs, tight=tight, separate=separate, windows=windows), most)
    X, bias = bounded_bias(X, free)
    rows = directions_of(X)
    one = outputs * windows == 1
    if separate or (tight and one):
        parts = [
            _signed(rows, outputs, k, sign, free, slope) for k in range(outputs) for sign in (1.0, -1.0)
        ]
    else:
        parts = [_joint(rows, outputs * windows, free, slope)]
    reach = np.linalg.norm(X, axis=1)
    lost = (rows.lost + rounding_of_sums(reach, pool)) * np.sqrt(1.0 + free)
    shaped = tuple(in_windows(part, pool, windows) for part in parts)
    return Lifts(shaped, np.sum(lost.reshape(-1, windows * pool), axis=1), bias)


def coordinates(rows: Directions, extra: int) -> tuple[np.ndarray, ...]:
    """The functions p, q, u and the extra coordinates, each a matrix with a row for each."""
    k, r = rows.unit.shape
    eye = np.eye(k + r + extra)
    q, u = eye[:k], eye[k : k + r]
    return q + rows.unit @ u, q, u, eye[k + r :]


def hidden_outputs(rows: Directions, p: np.ndarray, q: np.ndarray, slope: float) -> np.ndarray:
    """The outputs of a neuron on every row; one on the far side of a direction has p and q exchanged."""
    if not len(p):
        return np.zeros((len(rows.factor), p.shape[1]))
    on, off = p[rows.owner], q[rows.owner]
    turned = (rows.factor < 0)[:, None]
    size = np.abs(rows.factor)[:, None]
    return size * (np.where(turned, off, on) - slope * np.where(turned, on, off))


def _signed(rows: Directions, outputs: int, which: int, sign: float, free: int, slope: float) -> Lift:
    """The lift of the neurons with one output weight, of one sign, the rows not yet pooled."""
    p, q, u, h = coordinates(rows, 1)
    reach = np.linalg.norm(rows.unit, axis=1) * (1.0 + 1e-14)
    if free:
        reach = (np.linalg.norm(rows.unit[:, :-1], axis=1) + np.abs(rows.unit[:, -1])) * (1.0 + 1e-14)
    square, positive = bias_form(u, free)
    cost = h.T @ h
    weights = np.zeros((outputs, len(cost)))
    weights[which] = sign * h[0]
    return Lift(
        np.vstack([p, q, reach[:, None] * h - p - q, h]),
        hidden_outputs(rows, p, q, slope)[None],
        weights[None],
        u,
        cost,
        np.concatenate([product(p, q), (square - cost)[None]]),
        positive,
        float(np.sum(reach**2)) + 2.0 + free,
        len(p),
    )


def _joint(rows: Directions, outputs: int, free: int, slope: float) -> Lift:
    """The lift of all neurons, their output weights coordinates of their own, the rows not yet pooled."""
    p, q, u, g = coordinates(rows, outputs)
    square, positive = bias_form(u, free)
    reach = np.linalg.norm(rows.unit, axis=1) * np.sqrt(1.0 + free) * (1.0 + 1e-14)
    return Lift(
        np.vstack([p, q]),
        hidden_outputs(rows, p, q, slope)[None],
        g[None],
        u,
        0.5 * (square + g.T @ g),
        product(p, q),
        positive,
        float(np.sum(reach**2)) + 2.0 + free,
        len(p),
    )
