"""Accelerated proximal gradient for programs without cone constraints.

    V_k   = W_k + (theta_k - 1) / theta_{k+1} * (W_k - W_{k-1})
    W_k+1 = prox( V_k - step * A* grad L(A(V_k) + c), step * beta )

with backtracking on the step and a restart of the momentum whenever it points uphill. The iterates stay
in the array library, on the device and in the dtype of the data; scalars are Python floats, since one
NumPy scalar would promote a float32 iterate to float64.

References: Beck and Teboulle, SIAM J. Imaging Sci. 2009; O'Donoghue and Candes, Found. Comput. Math.
2015 (restart); Mishkin, Sahiner and Pilanci, ICML 2022, section 5 (for gated networks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arrays import Array, array_namespace, asarray_like, to_numpy
from ..constraints import Free
from ..program import Program
from .base import Candidate, Solver


@dataclass(frozen=True, eq=False)
class State:
    """Iterate, extrapolated point, momentum and step; the intercept rides along, a number for each
    output."""

    W: Array
    c: Any
    V: Array
    e: Any
    momentum: float
    step: float


class Fista(Solver):
    """Accelerated proximal gradient with backtracking and adaptive restart."""

    name: ClassVar[str] = "fista"
    check_every: ClassVar[int] = 10

    def supports(self, program: Program) -> tuple[bool, str]:
        if not isinstance(program.constraint, Free):
            return False, "the constraint has no cheap prox together with the penalty"
        if not program.penalty.proximable:
            return False, f"{type(program.penalty).__name__} has no cheap prox"
        if not program.loss.smooth:
            return False, f"needs a smooth loss, and {program.loss.name} is not"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        xp = array_namespace(program.target)
        W = xp.zeros_like(program.operator.adjoint(xp.zeros_like(program.target)))
        if start is not None:
            W = W + start
        n = program.operator.shape[0]
        lipschitz = program.operator.norm_bound() ** 2 + (n if program.intercept else 0)
        bend = program.loss.curvature * float(xp.max(program.weights))
        if bend == float("inf"):  # unbounded: backtracking finds out, from what it is at the start
            bend = float(xp.max(program.loss.hessian(program.predict(W), program.target, program.weights)))
        lipschitz *= bend
        c = _total(0.0 * program.target) if program.intercept else 0.0
        return State(W, c, W, c, 1.0, 16.0 / max(lipschitz, 1e-300))

    def step(self, program: Program, state: State) -> State:
        xp = array_namespace(state.W)
        loss, y, s = program.loss, program.target, program.weights
        f = program.predict(state.V, state.e)
        value, slope = loss.value(f, y, s), loss.gradient(f, y, s)
        G = program.operator.adjoint(slope)
        g = _total(slope) if program.intercept else 0.0
        step = state.step * 1.1
        # Below this, differences of values are rounding in the precision of the data.
        noise = max(1e-12, 8.0 * float(xp.finfo(state.W.dtype).eps)) * abs(value)
        for _ in range(60):
            W = program.penalty.prox(state.V - step * G, step * program.beta)
            c = state.e - step * g
            move, shift = W - state.V, c - state.e
            square = float(xp.sum(move * move)) + _inner(shift, shift)
            model = value + float(xp.sum(G * move)) + _inner(g, shift) + square / (2.0 * step)
            reached = loss.value(program.predict(W, c), y, s)
            if reached <= model + noise or square == 0.0:
                break
            step *= 0.5
        advance = W - state.W
        uphill = float(xp.sum((state.V - W) * advance)) + _inner(state.e - c, c - state.c) > 0
        old = 1.0 if uphill else state.momentum
        new = (1.0 + (1.0 + 4.0 * old * old) ** 0.5) / 2.0
        push = 0.0 if uphill else (old - 1.0) / new
        V = W + push * advance
        return State(W, c, V, c + push * (c - state.c), new, step)

    def candidate(self, program: Program, state: State) -> Candidate:
        offset: Any = state.c
        if program.intercept:
            # The best constant for these weights costs one scalar search and balances Z.
            f, y, s = program.predict(state.W), program.target, program.weights
            offset = program.loss.intercept(to_numpy(f), to_numpy(y), to_numpy(s))
            if len(y.shape) == 2:
                offset = asarray_like(np.asarray(offset), y)
        return Candidate(state.W, offset, program.residual(program.predict(state.W, offset)))


def _total(slope: Array) -> Any:
    """The sum over samples: a Python float, or an array with one entry for each of several outputs."""
    xp = array_namespace(slope)
    return float(xp.sum(slope)) if len(slope.shape) == 1 else xp.sum(slope, axis=0)


def _inner(a: Any, b: Any) -> float:
    return a * b if isinstance(a, float) else float(array_namespace(a).sum(a * b))
