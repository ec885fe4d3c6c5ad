r"""Newton's method under multipliers for one matrix with a nuclear norm, or with norms of columns.

    minimise over W, c   L(X W + 1 c') + beta |W|_*

is what linear networks of several outputs come down to. First-order steps take as many as X is badly
conditioned, and never end where data have another scale than the constants. Here the problem is first
brought to one scale, which changes no norm: data are centred (c moves along), turned into their row space
and divided by their largest singular value. The method of multipliers then splits the norm off, W = A,

    W, c  =  argmin  L(X W + 1 c') + min_A beta |A|_* + <M, W - A> + sigma/2 |W - A|_F^2,
    M     <- the projection of M + sigma W on the matrices of spectral norm beta,

whose function of W and c is smooth, with the derivative M (after its update) of the norm's part. In the
basis of the singular vectors of ``W + M / sigma`` the derivative of the projection couples at most two
entries, (i, j) and (j, i), so that Newton's system is that of the loss and a few numbers. A is of low
rank, and as M has spectral norm beta at most, residuals at W are dual feasible to the accuracy of Newton's
method. sigma grows from where the problem is a ridge regression; errors of M shrink by about h / (h +
sigma), with h the curvature of the loss.

References: Rockafellar, Math. Oper. Res. 1976 (multipliers as proximal points); Li, Sun and Toh, SIAM J.
Optim. 2018 (semismooth Newton inside); Lewis and Sendov, SIAM J. Matrix Anal. 2005 (derivatives of spectral
functions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from ..arrays import Array, to_numpy
from ..design import centred
from ..losses.base import VectorLoss
from ..operators import Masked
from ..penalties import ColumnL2, NuclearNorm
from ..program import Program
from ..spectral_balls import Columns, Singular
from ..vector_operators import PerColumn, curvature
from .base import Candidate, Solver, second_order_refusal

#: Unknowns up to which Newton's dense systems are solved.
LARGEST = 2500
#: Growth of sigma, and its limits as multiples of the curvature of the loss.
GROWTH, LOW, HIGH = 10.0, 1e-10, 1e4
#: Newton steps at most for one sigma, halvings of a step.
NEWTON, HALVINGS = 60, 30
#: Relative ridge of Newton's systems, the largest, the factor between two, and the part of the largest
#: curvature that counts as every unknown's own.
RIDGE, STIFF, RAISE, FLOOR = 1e-15, 1.0, 100.0, 1e-6
#: Steps shorter than this ask for a larger ridge.
SHORT = 1e-2
#: What gradients are brought down to, relative to beta: while sigma is small, and as a part of `tol`.
EARLY, PART = 1e-3, 1e-2
#: Differences of objectives below this part of them are rounding.
ROUNDING = 1e-14
#: Steps with the largest sigma after which rounding is what is left.
PATIENCE = 8


@dataclass(frozen=True, eq=False)
class _Data:
    """The program in one scale: ``H = (X - 1 origin') V / unit``, with orthonormal columns of V.

    ``inverse' H`` is the identity.
    """

    H: np.ndarray
    inverse: np.ndarray
    V: np.ndarray
    unit: float
    beta: float
    bend: float

    @classmethod
    def of(cls, program: Program) -> _Data:
        X = program.operator.dense()
        if program.intercept:
            X = centred(np.column_stack([X, np.ones(len(X))]))[0][:, :-1]
        U, sizes, Vt = np.linalg.svd(X, full_matrices=False)
        floor = max(X.shape) * np.finfo(float).eps * np.max(sizes, initial=0.0)
        rank = int(np.sum(sizes > floor))
        unit = float(sizes[0]) if rank else 1.0
        H, V = U[:, :rank] * (sizes[:rank] / unit), Vt[:rank].T
        y, s, loss = program.target, program.weights, program.loss
        c = loss.intercept(0.0 * y, y, s) if program.intercept else 0.0
        bend = float(np.max(loss.hessian(0.0 * y + c, y, s)))
        inverse = U[:, :rank] / (sizes[:rank] / unit)
        return cls(H, inverse, V, unit, program.beta / unit, bend or float(np.max(s)))


@dataclass(frozen=True, eq=False)
class State:
    """W (rank, outputs) in coordinates of the data, constants, multipliers, the matrix A of low rank."""

    data: _Data
    W: np.ndarray
    c: np.ndarray
    M: np.ndarray
    A: np.ndarray
    sigma: float
    idle: int = 0


class Matrix(Solver):
    """Newton's method under multipliers for one matrix of weights."""

    name: ClassVar[str] = "matrix"

    def supports(self, program: Program) -> tuple[bool, str]:
        n, groups, d = program.operator.shape
        if not (isinstance(program.operator, PerColumn) and isinstance(program.operator.single, Masked)):
            return False, "needs one operator for every output"
        if groups != 1:
            return False, "needs one matrix of weights"
        if program.penalty != NuclearNorm() and not isinstance(program.penalty, ColumnL2):
            return False, "needs the nuclear norm or norms of columns"
        if not isinstance(program.loss, VectorLoss):
            return False, f"needs a loss of several outputs, which {program.loss.name} is not"
        if refusal := second_order_refusal(program):
            return False, refusal
        unknowns = (min(n, d) + 1) * program.target.shape[1]
        if unknowns > LARGEST:
            return False, f"{unknowns} unknowns are too many for Newton's systems, more than {LARGEST}"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        data, y, s = _Data.of(program), program.target, program.weights
        W = np.zeros((data.H.shape[1], y.shape[1]))
        if start is not None:
            W = data.unit * (data.V.T @ to_numpy(start)[0])
        c = np.zeros(y.shape[1])
        if program.intercept:
            c = np.asarray(program.loss.intercept(data.H @ W, y, s))
        # A ridge regression at first: no point of a lower objective has an entry beyond loss / beta.
        worth = program.loss.value(data.H @ W + c, y, s)
        sigma = data.beta**2 / worth if worth > 0.0 else 0.0
        sigma = float(np.clip(sigma, LOW * data.bend, data.bend))
        return State(data, W, c, 0.0 * W, W, sigma)

    def candidate(self, program: Program, state: State) -> Candidate:
        y, s, data = program.target, program.weights, state.data
        weights = (data.V @ state.A / data.unit)[None]
        f = program.predict(weights)
        c: Any = program.loss.intercept(f, y, s) if program.intercept else 0.0 * state.c
        Z = program.residual(data.H @ state.W + state.c)
        # A residual that is small against the targets has lost digits that the multipliers still have.
        exact = program.loss.nearest(Z + data.inverse @ (state.M - data.H.T @ Z), y, s)
        duals = [program.residual(f + c), Z, program.loss.balance(exact) if program.intercept else exact]
        return Candidate(weights, c, max(duals, key=program.bound))

    def step(self, program: Program, state: State) -> State | None:
        """Minimise over W and c, and update the multipliers."""
        work = _Work(program, state)
        early = state.sigma < state.data.bend
        work.minimise(state.data.beta * (EARLY if early else PART * self.tol))
        M, A = work.ball.projected * state.sigma, work.ball.point - work.ball.projected
        last = state.sigma >= HIGH * state.data.bend
        if last and state.idle >= PATIENCE:
            return None
        sigma = min(GROWTH * state.sigma, HIGH * state.data.bend)
        return replace(state, W=work.W, c=work.c, M=M, A=A, sigma=sigma, idle=state.idle + 1 if last else 0)


class _Work:
    """The minimisation for one sigma: a point that moves, its predictions and where its projection is."""

    def __init__(self, program: Program, state: State) -> None:
        self.program, self.data, self.sigma = program, state.data, state.sigma
        self.shift, self.radius = state.M / state.sigma, state.data.beta / state.sigma
        self.kind = Singular if isinstance(program.penalty, NuclearNorm) else Columns
        self.W, self.c, self.ridge = state.W, state.c, RIDGE
        self.value, self.f, self.ball = self._at(self.W, self.c)

    def _at(self, W: np.ndarray, c: np.ndarray) -> tuple[float, np.ndarray, Any]:
        """The value, the predictions and the projection of ``W + M / sigma`` on the ball."""
        p, f = self.program, self.data.H @ W + c
        ball = self.kind(W + self.shift, self.radius)
        envelope = self.data.beta * ball.beyond + 0.5 * self.sigma * float(np.sum(ball.projected**2))
        return p.loss.value(f, p.target, p.weights) + envelope, f, ball

    def slope(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradients in W and in c; zero in c where there are no constants."""
        p = self.program
        each = p.loss.gradient(self.f, p.target, p.weights)
        total = np.sum(each, axis=0)
        return self.data.H.T @ each + self.sigma * self.ball.projected, total if p.intercept else 0 * total

    def minimise(self, least: float) -> None:
        """Take Newton steps until the gradient is at most `least`, or what they change is rounding."""
        for _ in range(NEWTON):
            G, g = self.slope()
            size = float(np.sqrt(np.sum(G * G) + np.sum(g * g)))
            if size <= least:
                return
            before, length = self.value, self._step(G, g)
            # where second derivatives vanish (huber far out) the system says too little
            self.ridge = self.ridge * RAISE if length < SHORT else max(self.ridge / RAISE, RIDGE)
            if self.ridge > STIFF:
                return
            if length == 0.0:
                continue
            G, g = self.slope()
            still = float(np.sqrt(np.sum(G * G) + np.sum(g * g))) > 0.5 * size
            if still and before - self.value <= ROUNDING * abs(before):
                return

    def _step(self, G: np.ndarray, g: np.ndarray) -> float:
        """Take a Newton step, and return its length: 0 if there was none that lowers the value."""
        move = self._direction(G, g)
        if move is None:
            return 0.0
        promise = -float(np.sum(G * move[0]) + np.sum(g * move[1]))
        return self._search(*move, promise) if promise > 0.0 else 0.0

    def _direction(self, G: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Newton's direction in W and in c, or None where the system has no solution."""
        p, ball, H = self.program, self.ball, self.data.H
        assert isinstance(p.loss, VectorLoss)
        C = p.loss.hessians(self.f, p.target, p.weights)
        if ball.right is not None:
            C = ball.right.T @ C @ ball.right
            g = g @ ball.right
        columns = ball.turned(H.T).T
        if p.intercept:
            columns = np.column_stack([columns, np.ones(len(H))])
        K = curvature(columns, C)
        ball.add(K, self.sigma)
        G = ball.turned(G) if ball.right is None else ball.turned(G) @ ball.right
        right = np.vstack([G, g]) if p.intercept else G
        flat = K.reshape(right.size, -1)
        diagonal = np.diagonal(flat).copy()
        # of each unknown's own curvature: those of small singular values of X are as good as the others
        flat[np.diag_indices_from(flat)] += self.ridge * (diagonal + FLOOR * np.max(diagonal) + 1e-300)
        try:
            move = -cho_solve(cho_factor(flat), right.reshape(-1)).reshape(right.shape)
        except LinAlgError:
            return None
        if ball.right is not None:
            move = move @ ball.right.T
        return ball.back(move[: len(G)]), move[-1] if p.intercept else 0.0 * g

    def _search(self, W: np.ndarray, c: np.ndarray, promise: float) -> float:
        """Armijo's rule; the length of the step taken."""
        t = 1.0
        for _ in range(HALVINGS):
            value, f, ball = self._at(self.W + t * W, self.c + t * c)
            if value <= self.value - 1e-4 * t * promise + ROUNDING * abs(self.value):
                self.W, self.c = self.W + t * W, self.c + t * c
                self.value, self.f, self.ball = value, f, ball
                return t
            t *= 0.5
        return 0.0
