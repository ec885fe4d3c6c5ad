r"""Newton's method for the Lasso over explicit columns.

    minimise over w, c   L(H w + c) + beta * sum_j |w_j|

A step minimises the quadratic model of L with the penalty as it is, and goes along the line to that point
as far as the objective falls: it is convex, kinks included, so bisection finds the minimum. The quadratic
model, in the matrix ``H'L''H`` alone, is minimised exactly by the feature-sign search: with the signs of
the coefficients held its minimum is a linear system; on the way there the best point, which may be one
where a coefficient vanishes and leaves; once signs agree, the zero whose price exceeds beta most enters.
Every move decreases the model and signs never come back, so it ends.

References: Lee, Battle, Raina and Ng, "Efficient sparse coding algorithms", NIPS 2006 (feature-sign
search); Lee, Sun and Saunders, "Proximal Newton-type methods", SIAM J. Optim. 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array, to_numpy
from ..constraints import Free
from ..operators import Dense
from ..penalties import GroupL2
from ..program import Program
from .base import Candidate, Solver

#: Moves of a feature-sign search, for each column; relative excess of a price over beta that counts.
MOVES, EXCESS = 10, 1e-12
#: Relative ridge that keeps Newton's systems regular.
RIDGE = 1e-11
#: Steps without a gain that are put up with: prices still fall while objectives no longer do.
PATIENCE = 5


@dataclass(frozen=True, eq=False)
class State:
    """Coefficients (k,), intercept and prediction (n,); steps in a row that gained nothing but rounding."""

    w: np.ndarray
    c: float
    f: np.ndarray
    idle: int = 0


class Lasso(Solver):
    """Newton's method with signs and an exact line search."""

    name: ClassVar[str] = "lasso"

    def supports(self, program: Program) -> tuple[bool, str]:
        if not isinstance(program.operator, Dense) or program.operator.shape[2] != 1:
            return False, "needs one explicit column for each group"
        if not isinstance(program.penalty, GroupL2) or program.penalty.free:
            return False, "needs the group-l2 penalty on all coordinates"
        if not isinstance(program.constraint, Free):
            return False, "its line search knows no cones"
        if not program.loss.smooth or len(program.target.shape) == 2:
            return False, f"needs a smooth loss of one output, which {program.loss.name} is not"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        groups = program.operator.shape[1]
        w = np.zeros(groups) if start is None else to_numpy(start)[:, 0].copy()
        f = program.operator.dense() @ w
        c = program.loss.intercept(f, program.target, program.weights) if program.intercept else 0.0
        return State(w, c, f + c)

    def candidate(self, program: Program, state: State) -> Candidate:
        return Candidate(state.w[:, None], state.c, program.residual(state.f))

    def step(self, program: Program, state: State) -> State | None:
        H, loss = program.operator.dense(), program.loss
        slope = loss.gradient(state.f, program.target, program.weights)
        bend = loss.hessian(state.f, program.target, program.weights)
        M = np.column_stack([H, np.ones(len(H))]) if program.intercept else H
        K = (M.T * bend) @ M
        # by column: beside a constant of one, columns of small data are not small
        K[np.diag_indices_from(K)] += RIDGE * np.diagonal(K) + 1e-300
        at = np.append(state.w, 0.0) if program.intercept else state.w
        best = feature_sign(K, M.T @ slope - K @ at, program.beta, at, int(program.intercept))
        p = best - at
        pc = float(p[-1]) if program.intercept else 0.0
        p, aim = p[: len(state.w)], best[: len(state.w)]
        t, zero = _search(program, state, p, H @ p + pc)
        if t == 0.0:
            return None
        w = aim.copy() if t == 1.0 else np.where(zero, 0.0, state.w + t * p)
        # afresh: small changes leave rounding in a running prediction
        f = H @ w
        c = loss.intercept(f, program.target, program.weights) if program.intercept else 0.0
        idle = 0 if _value(program, w, f + c) < _value(program, state.w, state.f) else state.idle + 1
        return State(w, c, f + c, idle) if idle <= PATIENCE else None


def feature_sign(K: np.ndarray, q: np.ndarray, beta: float, w: np.ndarray, free: int) -> np.ndarray:
    """Minimise ``1/2 w'Kw + q'w + beta * sum_j |w_j|``, the last `free` coordinates without the penalty.

    Parameters
    ----------
    K : ndarray of shape (k, k)
        Positive definite.
    q, w : ndarrays of shape (k,)
        The linear term, and where to start.
    beta : float
    free : int

    Returns
    -------
    ndarray of shape (k,)
    """
    w, k = w.copy(), len(w)
    weight = np.where(np.arange(k) < k - free, beta, 0.0)
    signs = np.where(weight > 0, np.sign(w), 0.0)
    for _ in range(MOVES * k + 1):
        on = np.flatnonzero((signs != 0) | (weight == 0))
        g = K[:, on] @ w[on] + q
        if len(on):
            step = -np.linalg.solve(K[np.ix_(on, on)], g[on] + weight[on] * signs[on])
            t, gone = _along(K, g, weight, w, signs, on, step)
            w[on] += t * step
            w[on[gone]] = 0.0
            signs[on] = np.where(weight[on] > 0, np.sign(w[on]), 0.0)
            if t < 1.0 or np.any(gone):
                continue
            g = g + K[:, on] @ step
        excess = np.where((signs == 0) & (weight > 0), np.abs(g) - weight, 0.0)
        j = int(np.argmax(excess))
        if excess[j] <= EXCESS * beta:
            break
        signs[j] = -np.sign(g[j])
    return w


def _along(
    K: np.ndarray,
    g: np.ndarray,
    weight: np.ndarray,
    w: np.ndarray,
    signs: np.ndarray,
    on: np.ndarray,
    step: np.ndarray,
) -> tuple[float, np.ndarray]:
    """How far to go of a step in [0, 1], and which coordinates vanish there."""
    here, none = w[on], np.zeros(len(on), dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where((here * step < 0) & (weight[on] > 0), -here / step, np.inf)
    inside = at < 1.0
    if not np.any(inside):
        return 1.0, none
    slope, bend = float(g[on] @ step), float(step @ K[np.ix_(on, on)] @ step)
    order = np.argsort(at[inside], kind="stable")
    ends, jumps = at[inside][order], 2.0 * (weight[on] * np.abs(step))[inside][order]
    base = slope + float((weight * signs)[on] @ step)
    # slopes just after each end; the first that is not negative is where to stop
    after = base + ends * bend + np.cumsum(jumps)
    k = int(np.argmax(after >= 0)) if np.any(after >= 0) else len(ends)
    if k < len(ends) and after[k] - jumps[k] <= 0:
        return float(ends[k]), at == ends[k]
    t = -(base + float(np.sum(jumps[:k]))) / bend
    return float(np.clip(t, 0.0, 1.0)), none


def _value(program: Program, w: np.ndarray, f: np.ndarray) -> float:
    """The objective, but for a share of the size of rounding."""
    value = program.loss.value(f, program.target, program.weights) + program.beta * float(np.sum(np.abs(w)))
    return float(np.float64(f"{value:.14g}"))


def _search(program: Program, state: State, p: np.ndarray, move: np.ndarray) -> tuple[float, np.ndarray]:
    """The step of least objective in [0, 1], and which coefficients vanish there."""
    w, beta, none = state.w, program.beta, np.zeros(len(p), dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(w * p < 0, -w / p, np.inf)

    def slope(t: float, after: bool) -> float:
        """The derivative just before or just after t."""
        g = program.loss.gradient(state.f + t * move, program.target, program.weights)
        crossed = at <= t if after else at < t
        signs = np.where(w != 0, np.sign(w), np.sign(p)) * np.where(crossed, -1.0, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.nan_to_num(g @ move, nan=np.inf)) + beta * float(signs @ p)

    if slope(1.0, False) <= 0.0:
        return 1.0, none
    ends = np.unique(np.append(at[at < 1.0], 1.0))
    first, last = 0, len(ends) - 1
    while first < last:  # the first end after which the objective rises
        k = (first + last) // 2
        first, last = (k + 1, last) if slope(float(ends[k]), True) < 0 else (first, k)
    end = float(ends[first])
    if end < 1.0 and slope(end, False) <= 0.0:
        return end, at == end
    left, right = float(ends[first - 1]) if first else 0.0, end
    for _ in range(60):
        middle = 0.5 * (left + right)
        left, right = (middle, right) if slope(middle, True) < 0 else (left, middle)
        if right - left <= 1e-14 * right:
            break
    return left, none
