r"""Lifted neurons that take the largest of their rows: a maximum is a chain of ReLUs.

A neuron of max pooling computes ``h_i(u) = max(0, b_i1, ..., b_iK)`` with ``b_ik = x_ik'u``. The largest of
the first k numbers is made from the largest of those before by one ReLU,

    m_i0 = 0,     m_ik = m_i,k-1 + (b_ik - m_i,k-1)_+,     h_i = m_iK,

so that the parts ``d_ik = (b_ik - m_i,k-1)_+`` and ``e_ik = (m_i,k-1 - b_ik)_+`` are what p and q are for a
ReLU (:mod:`cvxnn.bounds_lifts`): none is negative, ``d_ik e_ik = 0`` and ``d_ik - e_ik = b_ik -
m_i,k-1`` is linear in d and u. Coordinates are ``(d, u, g)``, or ``(d, u, h)`` for one output and each sign
of its weight; then

    h_i = sum_k d_ik,      e_ik = sum_{l <= k} d_il - b_ik.

Conversely numbers with these three properties are those of the neuron u: the lifted program over sums of
``xi xi'`` is exact, in any order of the positions, and its relaxation a bound for all networks. That h_i is
no less than any b_ik follows: ``h_i - b_ik = e_ik + sum_{l > k} d_il``.

The tight lift multiplies further functions that are not negative. From ``m_i,k-1 = max(0, b_il, l < k)``,

    d_ik + e_ik = |b_ik - m_i,k-1| <= max( |x_ik|, |x_ik - x_il|, l < k ) |u|,      h_i <= max_k |x_ik| |u|.

Rows of one sample that are zero, or equal to one before, leave their chain as it is, and have no
coordinates. Longer rows come first: those after them then add little. Samples are divided by powers of two,
which is exact, so that their longest rows have about unit length.

References: derived here, after Prakhya, Birdal and Yurtsever, ICLR 2025 (one ReLU); Ergen and Pilanci, ICLR
2021 (max pooling).
"""

from __future__ import annotations

import numpy as np

from .bounds_lifts import (
    MOST_UNKNOWNS,
    Lift,
    Lifts,
    check_count,
    check_size,
    product,
    unknowns,
)

#: Share by which computed lengths are raised.
_MORE = 1.0 + 1e-14


def chain_lifts(
    X: np.ndarray, pool: int, outputs: int, *, tight: bool = True, most: int = MOST_UNKNOWNS
) -> Lifts:
    """Return the lifts of neurons that take the largest of the rows of a sample, if positive.

    Parameters
    ----------
    X : ndarray of shape (n * pool, r)
    pool : int
        Rows of a sample, one after the other.
    outputs : int
    tight : bool
        Whether neurons of one output are told apart by their sign.
    most : int
        Unknowns that are acceptable.

    Raises
    ------
    TooLarge
        If the program would have more.
    """
    check_count(len(X))
    samples = [_chain(rows) for rows in X.reshape(-1, pool, X.shape[1])]
    k, r = sum(map(len, samples)), X.shape[1]
    tight = tight and outputs == 1
    order = k + r + (1 if tight else outputs)
    functions = 3 * k + len(samples) + 1 if tight else 2 * k
    check_size((2 if tight else 1) * unknowns(order, functions), most)
    signs = (1.0, -1.0) if tight else (0.0,)
    parts = tuple(_lift(samples, r, outputs, sign) for sign in signs)
    # the sums of a chain have entries 0 and 1, which rounding leaves alone
    return Lifts(parts, np.zeros(len(samples)))


def _chain(rows: np.ndarray) -> np.ndarray:
    """The distinct rows of a sample that are not zero, the longest first."""
    _, first = np.unique(rows, axis=0, return_index=True)
    kept = rows[np.sort(first)]
    kept = kept[np.any(kept != 0.0, axis=1)]
    return kept[np.argsort(-np.linalg.norm(kept, axis=1), kind="stable")]


def _lift(samples: list[np.ndarray], r: int, outputs: int, sign: float) -> Lift:
    """The lift of the neurons with one output weight of a sign, or of all of them where that is zero."""
    k = sum(map(len, samples))
    eye = np.eye(k + r + (1 if sign else outputs))
    d, u, last = eye[:k], eye[k : k + r], eye[k + r :]
    steps, gaps, hidden, reach, tops = np.split(d, np.cumsum(list(map(len, samples)))[:-1]), [], [], [], []
    for rows, own in zip(samples, steps, strict=True):
        longest = float(np.max(np.linalg.norm(rows, axis=1), initial=0.0))
        factor = 2.0 ** np.ceil(np.log2(longest)) if longest > 0.0 else 1.0
        sums = np.cumsum(own, axis=0)
        gaps.append(sums - (rows / factor) @ u)
        hidden.append(factor * np.sum(own, axis=0))
        reach += [_step(rows[: j + 1]) / factor for j in range(len(rows))]
        tops.append(_MORE * longest / factor)
    e, far, top = np.concatenate(gaps), np.array(reach)[:, None], np.array(tops)[:, None]
    norm, square = last.T @ last, u.T @ u
    parts = [d, e]
    if sign:
        sums = np.array([np.sum(own, axis=0) for own in steps])
        parts += [far * last - d - e, top * last - sums, last]
    forms = product(d, e)
    return Lift(
        np.vstack(parts),
        np.array(hidden)[None],
        (sign * last if sign else last)[None],
        u,
        norm if sign else 0.5 * (square + norm),
        np.concatenate([forms, (square - norm)[None]]) if sign else forms,
        np.zeros((0, len(eye), len(eye))),
        float(np.sum(far**2)) + 2.0,
        k,
    )


def _step(rows: np.ndarray) -> float:
    """How far the last row of a unit neuron may be from the largest of the others and of zero."""
    last = rows[-1]
    others = np.linalg.norm(last - rows[:-1], axis=1)
    return _MORE * float(np.max(np.append(others, np.linalg.norm(last))))
