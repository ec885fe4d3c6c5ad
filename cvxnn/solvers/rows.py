r"""Newton's method for the group Lasso over columns with an output vector each.

    minimise over V, c   L(H V + 1 c') + beta * sum_j |v_j|_2,        v_j the rows of V

Networks of neurons without inner weights, threshold units say, have such programs with several outputs.
Columns of patterns are nearly dependent, so that first-order methods need thousands of steps where few rows
are not zero. A step of this solver

    lets in the columns of the highest prices ``|H_j'Z|`` above beta, and minimises over one row after the
        other, under the largest curvature of L,
    takes Newton steps on the rows that are not zero, where the objective is smooth: with u_j = v_j / |v_j|

        g_j = -H_j'Z + beta u_j,     K_jl = H_j'(L'') H_l + [j = l] beta / |v_j| (I - u_j u_j'),

        damped where that does not lower the objective; a row that would turn round stops at zero.

Prices of all columns are one product, which the bound needs as well.

References: Qin, Scheinberg and Goldfarb, Math. Prog. Comp. 2013 (block steps); Li, Sun and Toh, SIAM J.
Optim. 2018 (Newton's systems on few groups).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from array_api_compat import is_numpy_array
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from ..arrays import Array, to_numpy
from ..constraints import Free
from ..losses.base import VectorLoss
from ..penalties import GroupL2
from ..program import Program
from ..vector_operators import Columns, curvature
from .base import Candidate, Solver

#: Columns that are let in at least, and as many as this share of those that are in.
ENTER, SHARE = 8, 0.5
#: Newton steps at most between two sweeps; unknowns up to which they are taken; halvings of a step.
NEWTON, LARGEST, HALVINGS = 12, 3000, 30
#: Relative ridge of Newton's systems, and the damping that follows a failure.
RIDGE, DAMPING = 1e-12, 1e-4
#: The part of what a sweep gained that a Newton step has to promise.
BETWEEN = 0.1
#: Steps in a row without a gain, after which rounding is what is left.
PATIENCE = 4


@dataclass(frozen=True, eq=False)
class State:
    """Rows (k, outputs), constants and predictions (n, outputs); damping, steps that gained nothing."""

    V: np.ndarray
    c: Any
    f: np.ndarray
    damping: float = 0.0
    idle: int = 0


class Rows(Solver):
    """Block steps and Newton's method on the rows that are not zero."""

    name: ClassVar[str] = "rows"

    def supports(self, program: Program) -> tuple[bool, str]:
        if not isinstance(program.operator, Columns):
            return False, "needs a column for every group"
        if not isinstance(program.penalty, GroupL2) or program.penalty.free:
            return False, "needs the group-l2 penalty on all coordinates"
        if not isinstance(program.constraint, Free):
            return False, "its block steps know no cones"
        loss = program.loss
        if not isinstance(loss, VectorLoss) or not loss.by_sample:
            return False, f"needs a loss of several outputs that is a sum over samples, not {loss.name}"
        if not loss.smooth or not np.isfinite(loss.curvature):
            return False, f"needs second derivatives with a bound, which {loss.name} has not"
        if not is_numpy_array(program.target) or program.target.dtype != np.float64:
            return False, "computes in NumPy float64 only"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        _, groups, outputs = program.operator.shape
        V = np.zeros((groups, outputs)) if start is None else np.array(to_numpy(start))
        return _at(program, V)

    def candidate(self, program: Program, state: State) -> Candidate:
        return Candidate(state.V, state.c, program.residual(state.f))

    def step(self, program: Program, state: State) -> State | None:
        work = _Work(program, state)
        before = work.value()
        work.sweep()
        # what is left between sweeps is for the next ones, which let in others
        work.newton(max(1e-2 * self.tol * abs(before), BETWEEN * (before - work.value())))
        after = _at(program, work.V, work.damping)
        gained = before - work.value(after.V, after.f) > 1e-15 * abs(before)
        idle = 0 if gained else state.idle + 1
        return replace(after, idle=idle) if idle <= PATIENCE else None


def _at(program: Program, V: np.ndarray, damping: float = 0.0) -> State:
    """The state of weights, with the best constants: afresh, since small changes leave rounding."""
    f: np.ndarray = program.operator.apply(V)
    c: Any = np.zeros(f.shape[1])
    if program.intercept:
        c = program.loss.intercept(f, program.target, program.weights)
    return State(V, c, f + c, damping)


class _Work:
    """One step under way: weights and predictions that change in place."""

    def __init__(self, program: Program, state: State) -> None:
        self.program, self.H = program, program.operator.dense()
        self.V, self.f, self.damping = state.V.copy(), state.f.copy(), state.damping

    def slope(self) -> np.ndarray:
        p = self.program
        return np.asarray(p.loss.gradient(self.f, p.target, p.weights))

    def value(self, V: np.ndarray | None = None, f: np.ndarray | None = None) -> float:
        p = self.program
        V, f = (self.V, self.f) if V is None or f is None else (V, f)
        return float(p.loss.value(f, p.target, p.weights) + p.beta * np.sum(np.linalg.norm(V, axis=1)))

    def sweep(self) -> None:
        """Minimise a majorant over one row after the other: those not zero, and those that price out."""
        p, beta = self.program, self.program.beta
        prices = np.linalg.norm(self.H.T @ p.residual(self.f), axis=1)
        inside = np.any(self.V != 0.0, axis=1)
        out = np.flatnonzero(~inside & (prices > beta))
        out = out[np.argsort(-prices[out], kind="stable")][: max(ENTER, int(SHARE * np.sum(inside)))]
        for j in [*np.flatnonzero(inside).tolist(), *out.tolist()]:
            h, v = self.H[:, j], self.V[j]
            bend = p.loss.curvature * float(np.sum(p.weights * h * h))
            aim = v - (h @ self.slope()) / bend if bend > 0.0 else 0.0 * v
            size = float(np.linalg.norm(aim))
            new = max(0.0, 1.0 - beta / (bend * size)) * aim if bend * size > 0.0 else 0.0 * v
            self.f += np.outer(h, new - v)
            self.V[j] = new

    def newton(self, least: float) -> None:
        """Take Newton steps on the rows that are not zero until one promises less than this."""
        for _ in range(NEWTON):
            at = np.flatnonzero(np.any(self.V != 0.0, axis=1))
            if not len(at) or (len(at) + 1) * self.V.shape[1] > LARGEST:
                return
            promise, length = self._step(at)
            if length == 0.0:
                if self.damping >= 1.0:
                    self.damping = DAMPING
                    return
                self.damping = max(DAMPING, 100.0 * self.damping)
                continue
            self.damping = 0.0 if self.damping <= DAMPING else 0.1 * self.damping
            if promise < least:
                return

    def _step(self, at: np.ndarray) -> tuple[float, float]:
        """One damped Newton step: what it promised, and its length, zero if there was none."""
        p, V, slope = self.program, self.V[at], self.slope()
        a, m = V.shape
        M = np.column_stack([self.H[:, at], np.ones(len(slope))]) if p.intercept else self.H[:, at]
        size = np.linalg.norm(V, axis=1)
        U = V / size[:, None]
        g = M.T @ slope
        g[:a] += p.beta * U
        assert isinstance(p.loss, VectorLoss)
        K = curvature(M, p.loss.hessians(self.f, p.target, p.weights))
        rows = np.arange(a)
        K[rows, :, rows, :] += (p.beta / size)[:, None, None] * (np.eye(m) - U[:, :, None] * U[:, None, :])
        flat = K.reshape(len(g) * m, -1)
        diagonal = np.diagonal(flat).copy()
        least = RIDGE * float(np.max(diagonal))
        flat[np.diag_indices_from(flat)] += (RIDGE + self.damping) * diagonal + least
        try:
            move = -cho_solve(cho_factor(flat), g.reshape(-1)).reshape(g.shape)
        except LinAlgError:
            return 0.0, 0.0
        promise = -float(np.sum(g * move))
        return promise, self._search(at, M, move, promise) if promise > 0.0 else 0.0

    def _search(self, at: np.ndarray, M: np.ndarray, move: np.ndarray, promise: float) -> float:
        """Armijo's rule: the length of the step taken, zero if none; rows that turn round stop at zero."""
        V, a, start = self.V[at], len(at), self.value()
        change, t = M @ move, 1.0
        for _ in range(HALVINGS):
            new, f = V + t * move[:a], self.f + t * change
            turned = np.sum(V * new, axis=1) <= 0.0
            if np.any(turned):
                f = f - self.H[:, at[turned]] @ new[turned]
                new[turned] = 0.0
            # differences of objectives below this are rounding
            if self.value(new, f) <= start - 1e-4 * t * promise + 1e-14 * abs(start):
                self.V[at], self.f = new, f
                return t
            t *= 0.5
        return 0.0
