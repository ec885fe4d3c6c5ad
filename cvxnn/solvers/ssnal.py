r"""The semismooth Newton augmented Lagrangian method for sums of nuclear norms.

    minimise over W, c   L(A(W) + 1 c') + beta * sum_g |W_g|_*

is what gated and convolutional networks of several outputs come down to. First-order steps take as many
as A is badly conditioned, and have no end where gates are nearly parallel. The proximal point method takes
few,

    W+, c+  =  argmin  L(A(W) + 1 c') + beta * sum_g |W_g|_* + (|W - W0|^2 + |c - c0|^2) / (2 sigma),

as sigma grows. With the gradient ``g(f)`` of L at predictions f, its minimiser is ``W+ = P(W0 - sigma
A*(g(f)))``, where P shrinks singular values by ``sigma beta``, at the root of

    F(f) = f - 1 c+' - A(W+),       c+ = c0 - sigma * sum_i g_i(f),

and f minimises the (dual) function ``<g, f> - L(f) + (|W+|^2 + |c+|^2) / (2 sigma)``, whose slope along a
move h is ``<C h, F>`` with the second derivatives C of L. Newton's system for it,

    (I + sigma (A Q A* + 1 1') C) h = -F,

has the derivative Q of the shrinkage, of rank ``r (rows + columns - r)`` for a matrix of rank r and none
for one that is zero: the few directions that the solution can move in. By the formula of Woodbury it is a
positive definite system of their number, or of the number of predictions if that is smaller. A is scaled
to norm one first, so that sigma means the same at every scale of the data. Where all matrices are of high
rank, far from the solution, these systems are large and first-order steps do well, so that it starts with
some.

References: Rockafellar, SIAM J. Control Optim. 1976 (proximal points); Li, Sun and Toh, SIAM J. Optim. 2018
(SSNAL, second-order sparsity); Ding, Sun, Sun and Toh, Math. Prog. 2018 (the derivative of the shrinkage).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from ..arrays import Array, to_numpy
from ..losses.base import VectorLoss
from ..penalties import NuclearNorm
from ..program import Program
from ..shrinkage import Shrinkage
from . import fista
from .base import Candidate, Solver, second_order_refusal

#: Predictions up to which Newton's dense systems are solved, and numbers of the explicit matrix.
LARGEST, NUMBERS = 1200, 4e6
#: First-order steps in a row, and how often they are taken before the first proximal point.
STRIDE, STRIDES = 25, 24
#: Sigma at first (A has norm one), its growth after few Newton steps, many and too many, and its limit.
FIRST, QUICK, SLOW, BACK, LAST = 10.0, 10.0, 2.0, 0.3, 1e10
#: Newton steps that are few, and those at most for one sigma; halvings of a step.
FEW, NEWTON, HALVINGS = 6, 40, 25
#: How small F has to be against the move of the weights, and against predictions, which is rounding.
INEXACT, ROUNDING = 0.05, 1e-15
#: Predictions that are further from those of their weights, relatively, are not found.
APART = 1e-3
#: Steps with the largest sigma, and proximal points that Newton's method did not find, after which rounding
#: is what is left.
PATIENCE, FAILURES = 5, 25


@dataclass(frozen=True, eq=False)
class State:
    """Weights (groups, rows, columns) and constants in the unit of the scaled operator; predictions."""

    A: np.ndarray
    unit: float
    W: np.ndarray
    c: np.ndarray
    f: np.ndarray
    sigma: float
    idle: int = 0
    failed: int = 0


@dataclass(frozen=True, eq=False)
class Approach:
    """First-order steps before the first proximal point, and how often some were taken."""

    inner: fista.State
    strides: int = 0


class SSNAL(Solver):
    """Semismooth Newton steps on proximal points, for nuclear norms of matrices of weights."""

    name: ClassVar[str] = "ssnal"

    def supports(self, program: Program) -> tuple[bool, str]:
        n, groups, d = program.operator.shape
        if not isinstance(program.penalty, NuclearNorm):
            return False, "needs nuclear norms"
        if refusal := second_order_refusal(program):
            return False, refusal
        if program.target.size > LARGEST:
            return False, f"{program.target.size} predictions are too many for its systems, over {LARGEST}"
        if not groups or n * groups * d > NUMBERS:
            return False, "needs an explicit matrix of a moderate size"
        return True, ""

    def init(self, program: Program, start: Array | None) -> Approach:
        return Approach(fista.Fista().init(program, start))

    def _settled(self, program: Program, start: np.ndarray) -> State:
        """Where the proximal points begin: at weights of the program's own shape."""
        A = program.operator.dense()
        unit = float(np.linalg.norm(A, 2)) or 1.0
        like = to_numpy(program.operator.adjoint(0.0 * program.target))
        rows = program.penalty.rows or like.shape[1]  # type: ignore[attr-defined]
        W = (start * unit).reshape(len(like), rows, -1)
        f = program.predict(W.reshape(like.shape) / unit)
        y, s = program.target, program.weights
        c = np.zeros(1 if y.ndim == 1 else y.shape[1])
        if program.intercept:
            c = c + program.loss.intercept(f, y, s)
            f = f + (c if y.ndim == 2 else c[0])
        bend = float(np.max(program.loss.hessian(f, y, s), initial=0.0)) or float(np.max(s))
        return State(A / unit, unit, W, c * np.sqrt(len(y)), f.reshape(len(y), -1), FIRST / bend)

    def candidate(self, program: Program, state: State | Approach) -> Candidate:
        if isinstance(state, Approach):
            return fista.Fista().candidate(program, state.inner)
        y, s = program.target, program.weights
        like = program.operator.adjoint(0.0 * y).shape
        W = state.W.reshape(like) / state.unit
        f = program.predict(W)
        c: Any = program.loss.intercept(f, y, s) if program.intercept else 0.0 * np.sum(y, axis=0)
        duals = [program.residual(f + c), program.residual(state.f.reshape(y.shape))]
        return Candidate(W, c, max(duals, key=program.bound))

    def step(self, program: Program, state: State | Approach) -> State | Approach | None:
        """Some first-order steps, or one proximal point."""
        if isinstance(state, Approach):
            if state.strides >= STRIDES:
                return self._settled(program, np.asarray(state.inner.W))
            inner = state.inner
            for _ in range(STRIDE):
                inner = fista.Fista().step(program, inner)
            return Approach(inner, state.strides + 1)
        work = _Work(program, state)
        used = work.minimise()
        # not where rounding stops it: there predictions and weights agree as far as they can
        apart = float(np.linalg.norm(work.at.F)) > APART * float(np.linalg.norm(work.f))
        failed, last = used == NEWTON and apart, state.sigma * work.bend >= LAST
        if state.failed >= FAILURES or (last and state.idle >= PATIENCE):
            return None
        # what Newton's method did not solve is asked again, nearer to where it is
        growth = QUICK if used <= FEW else SLOW
        return replace(
            state,
            W=work.at.W,
            c=work.at.c,
            f=work.f,
            sigma=state.sigma * (BACK if failed else 1.0 if last else growth),
            idle=state.idle + last,
            failed=state.failed + failed,
        )


@dataclass(frozen=True, eq=False)
class _Point:
    """What belongs to predictions: weights, constants, the residual F, the value of the dual function."""

    W: np.ndarray
    c: np.ndarray
    F: np.ndarray
    value: float
    shrinkage: Shrinkage


class _Work:
    """The search for a proximal point: predictions move until they are those of their weights."""

    def __init__(self, program: Program, state: State) -> None:
        self.program, self.state, self.f = program, state, state.f
        self.n, self.ones = len(state.f), 1.0 / np.sqrt(len(state.f))
        self.at = self._point(self.f)
        self.bend = float(np.max(self._curvature(self.f), initial=0.0)) or 1.0

    def _shaped(self, f: np.ndarray) -> np.ndarray:
        return f.reshape(self.program.target.shape)

    def _point(self, f: np.ndarray) -> _Point:
        p, state, sigma = self.program, self.state, self.state.sigma
        own = self._shaped(f)
        g = p.loss.gradient(own, p.target, p.weights).reshape(f.shape)
        V = state.W - sigma * (state.A.T @ g).reshape(state.W.shape)
        shrinkage = Shrinkage(V, sigma * p.beta / state.unit)
        W = shrinkage.value
        c = state.c - sigma * self.ones * np.sum(g, axis=0) if p.intercept else state.c
        F = f - self.ones * c - state.A @ W.reshape(-1, f.shape[1])
        value = float(np.sum(g * f)) - p.loss.value(own, p.target, p.weights)
        value += (float(np.sum(W * W)) + float(np.sum(c * c))) / (2.0 * sigma)
        return _Point(W, c, F, value, shrinkage)

    def _curvature(self, f: np.ndarray) -> np.ndarray:
        """Second derivatives of the loss, (n, outputs, outputs)."""
        p, own = self.program, self._shaped(f)
        if isinstance(p.loss, VectorLoss):
            return p.loss.hessians(own, p.target, p.weights)
        return p.loss.hessian(own, p.target, p.weights)[:, None, None]

    def minimise(self) -> int:
        """Take Newton steps until F is small against the move of the weights; return their number."""
        for used in range(NEWTON):
            moved = self.at.W - self.state.W
            size = float(np.linalg.norm(self.at.F))
            least = ROUNDING * float(np.linalg.norm(self.f)) * np.sqrt(self.n)
            # an error F of predictions is one of sigma * C * F in weights at most
            allowed = INEXACT * float(np.linalg.norm(moved)) / max(1.0, self.state.sigma * self.bend)
            if size <= max(allowed * (used > 0), least):
                return used
            if not self._move(self._direction(), size):
                return NEWTON
        return NEWTON

    def _direction(self) -> tuple[np.ndarray, float]:
        """Newton's move of the predictions, and the slope along it."""
        F, sigma = self.at.F, self.state.sigma
        shape = F.shape
        curve, basis = np.linalg.eigh(self._curvature(self.f))
        root = basis * np.sqrt(np.maximum(curve, 0.0))[:, None, :]  # C = root root'
        Y = self.at.shrinkage.factors(self.state.A, shape[1]) * np.sqrt(sigma)
        if self.program.intercept:
            ones = np.einsum("i,op->iop", np.full(self.n, np.sqrt(sigma) * self.ones), np.eye(shape[1]))
            Y = np.concatenate([Y, ones], axis=2)
        S = np.einsum("iok,ior->ikr", root, Y).reshape(F.size, -1)
        right = np.einsum("iok,io->ik", root, F).ravel()
        few = S.shape[1] <= F.size
        u = _solve(S.T @ S, S.T @ right) if few else S.T @ _solve(S @ S.T, right)
        h = -F + Y @ u
        return h, float(right @ np.einsum("iok,io->ik", root, h).ravel())

    def _move(self, direction: tuple[np.ndarray, float], size: float) -> bool:
        """Armijo's rule, or a smaller F; False where rounding is all that is left."""
        (h, slope), before = direction, self.at.value
        noise, t = 1e-14 * abs(before), 1.0
        for _ in range(HALVINGS):
            f = self.f + t * h
            at = self._point(f)
            smaller = float(np.linalg.norm(at.F)) <= 0.5 * size
            if smaller or (slope < 0.0 and at.value <= before + 1e-4 * t * slope + noise):
                self.f, self.at = f, at
                return True
            t *= 0.5
        return False


def _solve(K: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve ``(I + K) x = right`` with a positive semidefinite K; rounding may ask for a larger I."""
    ridge = 1.0
    while True:
        flat = K.copy()
        flat[np.diag_indices_from(flat)] += ridge
        try:
            return cho_solve(cho_factor(flat, overwrite_a=True), right)
        except LinAlgError:
            ridge = 100.0 * ridge + 1e-15 * float(np.trace(K))
