r"""Newton's method for the Lasso over explicit columns.

    minimise over w, c   L(H w + c) + beta * sum_j |w_j|

is smooth as long as no coefficient changes sign. A step takes the coefficients that are not zero, and
those zeros whose prices ``|h_j'grad L|`` exceed beta with the sign in which they will move, solves
Newton's system for them, and goes along the line to the exact minimum of the objective, kinks included:
it is convex, so bisection over the points where a coefficient vanishes finds it, and a coefficient that
vanishes at the minimum becomes zero. For the squared error that is the feature-sign search, which ends
after finitely many steps.

References: Lee, Battle, Raina and Ng, "Efficient sparse coding algorithms", NIPS 2006; Andrew and Gao, ICML
2007 (the choice of signs).
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

#: Zeros that may become free in one step.
ENTER = 64
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
        H, beta = program.operator.dense(), program.beta
        slope = program.loss.gradient(state.f, program.target, program.weights)
        G = H.T @ slope
        signs = np.where(state.w != 0, np.sign(state.w), -np.sign(G))
        excess = np.where(state.w != 0, 0.0, np.abs(G) - beta)
        enter = np.argsort(-excess, kind="stable")[:ENTER]
        free = np.flatnonzero(state.w)
        free = np.concatenate([free, enter[excess[enter] > 1e-13 * beta]])
        free, p, pc = _direction(program, state, H, slope, free, signs)
        move = H[:, free] @ p + pc
        t, zero = _search(program, state, free, p, move)
        w = state.w.copy()
        w[free] += t * p
        w[free[zero]] = 0.0
        if t == 0.0 or (np.array_equal(w, state.w) and t * pc == 0.0):
            return None
        # afresh: small changes leave rounding in a running prediction
        f = H @ w
        c = program.loss.intercept(f, program.target, program.weights) if program.intercept else 0.0
        idle = 0 if _value(program, w, f + c) < _value(program, state.w, state.f) else state.idle + 1
        return State(w, c, f + c, idle) if idle <= PATIENCE else None


def _value(program: Program, w: np.ndarray, f: np.ndarray) -> float:
    """The objective, but for a share of the size of rounding."""
    value = program.loss.value(f, program.target, program.weights) + program.beta * float(np.sum(np.abs(w)))
    return float(np.float64(f"{value:.14g}"))


def _direction(
    program: Program, state: State, H: np.ndarray, slope: np.ndarray, free: np.ndarray, signs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Newton's direction of the free coefficients and the constant; zeros move with their signs only."""
    bend = program.loss.hessian(state.f, program.target, program.weights)
    while True:
        M = H[:, free]
        if program.intercept:
            M = np.column_stack([M, np.ones(len(M))])
        right = -(M.T @ slope)
        right[: len(free)] -= program.beta * signs[free]
        K = (M.T * bend) @ M
        K[np.diag_indices_from(K)] += RIDGE * (np.trace(K) / max(len(K), 1)) + 1e-300
        p = np.linalg.solve(K, right) if len(K) else right
        pc = float(p[-1]) if program.intercept else 0.0
        p = p[: len(free)]
        wrong = (state.w[free] == 0) & (p * signs[free] < 0)
        if not np.any(wrong):
            return free, p, pc
        free = free[~wrong]


def _search(
    program: Program, state: State, free: np.ndarray, p: np.ndarray, move: np.ndarray
) -> tuple[float, np.ndarray]:
    """The step of least objective in [0, 1], and which free coefficients vanish there."""
    w, beta, none = state.w[free], program.beta, np.zeros(len(free), dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(w * p < 0, -w / p, np.inf)

    def slope(t: float, after: bool) -> float:
        """The derivative just before or just after t."""
        g = program.loss.gradient(state.f + t * move, program.target, program.weights)
        crossed = at <= t if after else at < t
        signs = np.where(w != 0, np.sign(w), np.sign(p)) * np.where(crossed, -1.0, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.nan_to_num(g @ move, nan=np.inf)) + beta * float(signs @ p)

    if slope(1.0, True) <= 0.0:
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
