r"""One input and free biases: the best spline, exactly, at any number of samples.

On a line a network with free biases is a linear spline, and only its values at the samples matter. With
the slopes ``m_1 ... m_(k-1)`` between knots ``t_1 < ... < t_k``, kinks ``D_j = m_j - m_(j-1)``, the least
weight decay of a network with these values is

    R = max( V, (V + |S|) / 2 ),        V = sum_j |D_j|,   S = m_1 + m_(k-1):

a kink may open to the right or to the left at the same cost ``|D_j|``, and what the slopes at the ends need
beyond that is one linear neuron. Training is therefore

    minimise over the values g at the knots   L(H g) + beta R(g),        H linear interpolation,

a convex program with banded matrices: the Lasso over the kinks ``(x - x_j)_+`` and ``(x_j - x)_+``. Few
samples become knots; they are found by pricing all samples in O(n) (:func:`cvxnn.planar.kink_prices`),
adding the worst of every run that prices out, and solving again by an interior-point method whose step is
one pentadiagonal solve. With a squared loss only the moments of the data between knots enter.

References: Ergen and Pilanci, JMLR 2021 (the Lasso); Savarese, Evron, Soudry and Srebro, COLT 2019 (the
norm, here with its ends free); Kim, Koh, Boyd and Gorinevsky, SIAM Review 2009 (banded interior point).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .planar import kink_prices
from .program import Problem
from .spline_program import Data, Restricted, penalty

__all__ = ["Spline", "fit_spline", "kinks_of", "penalty"]

#: Rounds of adding knots.
ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Spline:
    """A linear spline: values at knots, constant slope beyond.

    Parameters
    ----------
    knots, values : ndarrays of shape (k,)
        Knots ascending; the first and the last sample are among them.
    Z : ndarray of shape (n,)
        The dual variable of its values at the samples.
    gap : float
        Relative duality gap against all networks, of any width.
    n_iter : int
        Rounds of adding knots.
    """

    knots: np.ndarray
    values: np.ndarray
    Z: np.ndarray
    gap: float
    n_iter: int


def kinks_of(knots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the neurons of least cost of a spline.

    Every kink becomes one neuron that opens to the right or to the left, one of them two where the slope
    at the left end asks for it; a linear neuron carries the rest.

    Returns
    -------
    at : ndarray of shape (m,)
        Positions of the kinks.
    side : ndarray of shape (m,)
        +1 for ``(x - at)_+`` and -1 for ``(at - x)_+``.
    size : ndarray of shape (m,)
        Signed; the sum of absolute values is :func:`penalty`.
    """
    slopes = np.diff(values) / np.diff(knots)
    if len(slopes) == 0:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    kinks, at = np.diff(slopes), knots[1:-1]
    # -(what kinks to the left of themselves add) is the slope at the left end
    need = -float(slopes[0])
    willing = np.where(np.sign(kinks) == np.sign(need), np.abs(kinks), 0.0)
    before = np.cumsum(willing) - willing
    left = np.sign(need) * np.clip(abs(need) - before, 0.0, willing)
    rest = float(slopes[0] + np.sum(left))
    position = np.concatenate([at, at, knots[:1]])
    size = np.concatenate([kinks - left, left, [rest]])
    side = np.concatenate([np.ones(len(at)), -np.ones(len(at)), [1.0]])
    kept = np.abs(size) > 1e-14 * float(np.sum(np.abs(size)))
    return position[kept], side[kept], size[kept]


def fit_spline(problem: Problem, tol: float = 1e-12) -> Spline:
    """Return the best spline of a problem with one input, free biases and an intercept.

    Parameters
    ----------
    problem : Problem
        ``X`` of shape (n, 1).
    tol : float
        Relative duality gap, against networks of every width.
    """
    order = np.argsort(problem.X[:, 0], kind="stable")
    x, y, s = problem.X[order, 0], problem.y[order], problem.weights[order]
    places = np.unique(x)
    c = problem.loss.intercept(np.zeros_like(y), y, s)
    data = Data(problem, x, y, s)
    knots = places[np.unique(np.linspace(0, len(places) - 1, min(8, len(places))).astype(int))]
    values = np.full(len(knots), c)
    best: Spline | None = None
    least, idle = float("inf"), 0
    for k in range(1, ROUNDS + 1):
        values = Restricted(data, knots).solve(values) if len(knots) > 1 else values
        knots, values = _used(data, knots, values)
        f = np.interp(x, knots, values)
        value = problem.loss.value(f, y, s) + problem.beta * penalty(knots, values)
        Z = problem.loss.balance(-problem.loss.gradient(f, y, s))
        prices = np.maximum(*np.abs(kink_prices(x, Z)))
        price = float(np.max(prices))
        limit = problem.beta / price if price > 0 else float("inf")
        bound = problem.loss.dual(problem.loss.best_scale(Z, y, s, limit) * Z, y, s)
        gap = max(0.0, value - bound) / max(abs(value), 1e-300)
        if best is None or gap < best.gap:
            full = np.empty_like(Z)
            full[order] = Z
            best = Spline(knots, values, full, gap, k)
        idle = idle + 1 if value >= least * (1.0 - 1e-14) else 0
        least = min(least, value)
        fresh = np.setdiff1d(x[_worst(prices, problem.beta)], knots)
        if gap <= tol or idle > 2 or len(fresh) == 0:
            break
        grown = np.union1d(knots, fresh)
        knots, values = grown, np.interp(grown, knots, values)
    assert best is not None
    return best


def _worst(prices: np.ndarray, beta: float) -> np.ndarray:
    """The place of the largest price in every run of samples that price out."""
    out = prices > beta * (1.0 + 1e-13)
    starts = np.flatnonzero(out & ~np.append(False, out[:-1]))
    ends = np.flatnonzero(out & ~np.append(out[1:], False)) + 1
    peaks = [a + int(np.argmax(prices[a:b])) for a, b in zip(starts, ends, strict=True)]
    return np.array(peaks, dtype=int)


def _used(data: Data, knots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the knots without a kink, as many as cost nothing, and settle the values of the others."""
    if len(knots) <= 2:
        return knots, values
    kinks = np.abs(np.diff(np.diff(values) / np.diff(knots)))
    least, best, tried = data.value(knots, values), (knots, values), -1
    for cut in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3):
        kept = np.concatenate([[True], kinks > cut * np.sum(kinks), [True]])
        if np.sum(kept) == tried:
            continue
        tried = int(np.sum(kept))
        fewer, settled = knots[kept], Restricted(data, knots[kept]).settle(values[kept])
        value = data.value(fewer, settled)
        if value <= least + 1e-14 * abs(least):
            least, best = min(value, least), (fewer, settled)
    return best
