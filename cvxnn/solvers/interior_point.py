r"""A structured primal-dual interior-point method for groups that share one data matrix.

Programs of this package have a group norm for every group, cones over masks of one X, and predictions
in which all groups meet. Written with a slack ``t_g >= ||u_g||`` for the norms and ``s_g = A_g u_g >=
0`` for the cones (``A_g = (2 D_g - I) X``), the optimality conditions are

    sigma_g X'D_g grad L(f) - A_g' z_g - y_g = 0,     f = sum_g sigma_g D_g X u_g + c,
    s_g o z_g = 0,     (t_g, u_g) o (beta, y_g) = 0   (Jordan product of the second-order cone).

Newton's method follows their solutions with mu on the right-hand side as mu goes to zero (Mehrotra's
predictor-corrector, Nesterov-Todd scaling of the second-order cones). After elimination every group
keeps one d x d matrix

    N_g = X' diag(z_g / s_g) X + (I - 2 w w' / (2 w_0^2 - 1)) / eta^2,

in which the signs of the pattern have squared away, and the groups meet only in the n predictions.
The Newton system is therefore solved either with groups * d unknowns or, by the matrix inversion
lemma, with n unknowns,

    (diag(1 / L'') + sum_g D_g X N_g^{-1} X' D_g) q = rhs,

whichever is smaller: n unknowns make the cost of a step *linear* in the number of groups. A loss with
kinks brings multipliers of its own (:mod:`cvxnn.interior_loss`); eliminated, they change ``L''`` and the
right-hand side only.

References: Andersen, Roos and Terlaky, "On implementing a primal-dual interior-point method for
conic quadratic optimization", Math. Prog. 2003; Vandenberghe, "The CVXOPT linear and quadratic cone
program solvers", 2010, sections 4 and 5; Mehrotra, SIAM J. Optim. 1992.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from ..arrays import Array, to_numpy
from ..constraints import Free, ReLUCones
from ..interior_loss import InteriorLoss, Multipliers
from ..operators import Masked, Pooled
from ..patches import pooled, spread
from ..penalties import GroupL2
from ..program import Program
from ..second_order import Scaling, dot, largest_step
from .base import Candidate, Solver

#: Fraction of the way to the boundary of the cones that a step may go.
TO_BOUNDARY = 0.99
#: Rounds of iterative refinement at most; each costs two products and two triangular solves.
REFINEMENTS = 5


@dataclass(frozen=True, eq=False)
class _Data:
    """The parts of a program that do not change, as dense NumPy arrays.

    ``mask`` (groups, n) holds ``sigma_g d_g``; ``sign`` (groups, n) holds ``2 d_g - 1`` on the rows
    that are constraints and 0 on zero rows of X. Unpenalised columns of X are divided by `units`, so
    that they are as large as the penalised ones; `units` is 1 on these. With `pool` rows for each sample,
    predictions of samples are sums of predictions of rows.
    """

    X: np.ndarray
    mask: np.ndarray
    sign: np.ndarray
    kept: int
    units: np.ndarray
    pool: int = 1

    def predict(self, u: np.ndarray) -> np.ndarray:
        """``sum_g sigma_g D_g X u_g``, shape (samples,)."""
        return pooled(np.einsum("gn,gn->n", self.mask, u @ self.X.T), self.pool)

    def pull(self, q: np.ndarray) -> np.ndarray:
        """The adjoint of :meth:`predict`, shape (groups, d)."""
        return np.asarray((self.mask * spread(q, self.pool)) @ self.X)


@dataclass(frozen=True, eq=False)
class State:
    """An iterate: primal ``u, t, c``, slacks ``s``, duals ``y`` (norms), ``z`` (cones), ``q`` (loss)."""

    data: _Data
    loss: InteriorLoss
    u: np.ndarray
    t: np.ndarray
    c: float
    s: np.ndarray
    y: np.ndarray
    z: np.ndarray
    q: Multipliers
    f: np.ndarray


class InteriorPoint(Solver):
    """Primal-dual interior point for group norms and cones over masks of one X."""

    name: ClassVar[str] = "interior_point"

    def supports(self, program: Program) -> tuple[bool, str]:
        if not isinstance(program.operator, Masked | Pooled):
            return False, "needs an operator that masks one X"
        if not isinstance(program.penalty, GroupL2):
            return False, "needs the group-l2 penalty"
        able, reason = InteriorLoss.supports(program.loss)
        if not able:
            return False, reason
        if program.penalty.free and not isinstance(program.constraint, ReLUCones):
            return False, "unpenalised coordinates need cone constraints"
        if not isinstance(program.constraint, Free | ReLUCones):
            return False, "knows no cones that couple groups"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        data = _data(program)
        groups = len(data.mask)
        X, loss = data.X, program.loss
        y, w = to_numpy(program.target), to_numpy(program.weights)
        if not program.loss.smooth:
            start = None  # the multipliers of its kinks would have to be warm too
        u = np.zeros((groups, X.shape[1])) if start is None else to_numpy(start) * data.units
        f = data.predict(u)
        # The constant of no network, also from a warm start: residuals that are too small too soon trap it.
        c = loss.intercept(0.0 * f, y, w) if program.intercept else 0.0
        f = f + c
        # The norms of an optimal point sum to at most objective / beta: the scale of the slacks.
        worth = loss.value(f, y, w) / program.beta + float(np.sum(_norms(u, data.kept)))
        level = max(worth, 1e-300) / max(groups, 10) * (1.0 if start is None else 1e-2)
        t = np.sqrt(np.sum(u[:, : data.kept] ** 2, axis=1) + level**2) + level
        length = np.linalg.norm(X, axis=1)
        s = np.maximum(data.sign * (u @ X.T), level * np.where(length > 0, length, 1.0))
        z = np.where(data.sign != 0, program.beta * level / s, 0.0)
        dual = -program.beta * u[:, : data.kept] / t[:, None]
        term = InteriorLoss(loss, y, w)
        return State(data, term, u, t, c, s, dual, z, term.start(f, program.beta * level), f)

    def candidate(self, program: Program, state: State) -> Candidate:
        Z = -state.loss.gradient(state.f, state.q)
        Z = program.loss.balance(Z) if program.intercept else Z
        W = state.u / state.data.units
        return Candidate(W, state.c, Z, state.z if np.any(state.data.sign) else None)

    def step(self, program: Program, state: State) -> State | None:
        with np.errstate(all="ignore"):
            try:
                newton = _Newton(program, state)
            except (LinAlgError, np.linalg.LinAlgError):
                return None
            affine = newton.direction(0.0, None)
            length = newton.max_step(affine)
            sigma = (1.0 - min(length, 1.0)) ** 3
            move = newton.direction(sigma, affine)
            length = min(1.0, TO_BOUNDARY * newton.max_step(move))
            length = min(length, program.loss.reach / max(float(np.max(np.abs(move.f))), 1e-300))
            if not np.isfinite(length) or length < 1e-9 or not np.all(np.isfinite(move.u)):
                return None
            u, c = state.u + length * move.u, state.c + length * move.c
            f = state.data.predict(u) + c
            if not np.all(np.isfinite(f)):
                return None
            return replace(
                state,
                u=u,
                c=c,
                f=f,
                t=state.t + length * move.t,
                s=state.s + length * move.s,
                y=state.y + length * move.y,
                z=state.z + length * move.z,
                q=state.q.step(length, move.q),
            )


@dataclass(frozen=True, eq=False)
class _Move:
    """A direction of :class:`State`."""

    u: np.ndarray
    t: np.ndarray
    c: float
    s: np.ndarray
    y: np.ndarray
    z: np.ndarray
    f: np.ndarray
    q: Multipliers


class _Newton:
    """One Newton system: factored once, solved for the predictor and for the corrector."""

    def __init__(self, program: Program, state: State) -> None:
        self.state, self.beta, self.intercept = state, program.beta, program.intercept
        data, groups = state.data, len(state.t)
        self.cone = data.sign != 0
        self.loss = state.loss.newton(state.f, state.q)
        self.h = np.maximum(self.loss.h, 1e-300)
        rows = np.einsum("gn,gn->n", np.abs(data.sign), state.s * state.z)
        inner = state.t * self.beta + dot(state.u[:, : data.kept], state.y)
        products = float(np.sum(inner) + np.sum(rows)) + state.loss.complementarity(state.q)
        self.mu = products / (groups + int(np.sum(self.cone)) + state.loss.count)
        self.slack = data.sign * (state.u @ data.X.T) - np.where(self.cone, state.s, 0.0)
        self.stationarity = data.pull(self.loss.gradient) - (data.sign * state.z) @ data.X
        self.stationarity[:, : data.kept] -= state.y
        self.scaling = Scaling(state.t, state.u[:, : data.kept], self.beta, state.y)
        ratio = np.where(self.cone, state.z / state.s, 0.0)
        self.ratio = ratio
        roots = _roots(data, ratio, self.scaling.blocks())
        self.system = _System(data, roots, self.h, self.intercept)

    def direction(self, sigma: float, affine: _Move | None) -> _Move:
        """Solve for the direction that aims at ``sigma * mu``, corrected by the affine one."""
        state, data, scaling = self.state, self.state.data, self.scaling
        k = data.kept
        target = sigma * self.mu
        correction = 0.0 if affine is None else affine.s * affine.z
        kappa = np.where(self.cone, (target - correction) / state.s - state.z, 0.0)
        head, tail = scaling.complementarity(
            target, None if affine is None else (affine.t, affine.u[:, :k], affine.y)
        )
        rhs = -self.stationarity + (data.sign * (kappa - self.ratio * self.slack)) @ data.X
        rhs[:, :k] += tail
        of_loss = None if affine is None else affine.q
        shift = self.loss.shift(target, of_loss)
        rhs -= data.pull(shift)
        total = -float(np.sum(self.loss.gradient + shift)) if self.intercept else 0.0
        du, dc, q = self.solve(rhs, total)
        dt = scaling.slack(head, du[:, :k])
        dy = tail - scaling.reduce(du[:, :k])
        rows = du @ data.X.T
        ds = np.where(self.cone, data.sign * rows + self.slack, 0.0)
        df = self.predict(du, dc)
        # rounding is relative to the largest entry, of q as of df: each sample takes the better one
        df = np.where(self.h * largest(df) > largest(q), q / self.h, df)
        dq = self.loss.move(df, target, of_loss)
        return _Move(du, dt, dc, ds, dy, kappa - self.ratio * ds, df, dq)

    def solve(self, rhs: np.ndarray, total: float) -> tuple[np.ndarray, float, np.ndarray]:
        """Solve the reduced system for ``du``, ``dc`` and ``q = h df``, refined.

        Near the solution the weights z/s of tight rows, and h of samples at a kink of the loss, exceed
        all others by many orders, and the factorisation loses digits. They are found again with q as an
        unknown of its own: no residual below multiplies by h.
        """
        du, dc, q = best = self.system.solve(rhs, 0.0, total)
        worst = float("inf")
        for _ in range(REFINEMENTS):
            left, df, size = self.multiply(du, q), self.predict(du, dc), float(np.sum(np.abs(q)))
            r, gap, e = rhs - left, df - q / self.h, (total - float(np.sum(q)))
            e = e if self.intercept else 0.0
            now = largest(r) / max(largest(rhs), 1e-300) + largest(gap) / max(largest(df), 1e-300)
            now += abs(e) / max(abs(total) + size, 1e-300)
            if not now < 0.5 * worst:
                return best
            best, worst = (du, dc, q), now
            if now <= 1e-10:
                return best
            more = self.system.solve(r, gap, e)
            du, dc, q = du + more[0], dc + more[1], q + more[2]
        return du, dc, q

    def predict(self, du: np.ndarray, dc: float) -> np.ndarray:
        """The change of the prediction, shape (n,)."""
        return self.state.data.predict(du) + dc

    def multiply(self, du: np.ndarray, q: np.ndarray) -> np.ndarray:
        """The group rows ``N du + M'q`` of the system."""
        data, k = self.state.data, self.state.data.kept
        # sign squares away in A' diag(z/s) A
        out = (data.mask * spread(q, data.pool) + self.ratio * (du @ data.X.T)) @ data.X
        out[:, :k] += self.scaling.reduce(du[:, :k])
        return out

    def max_step(self, move: _Move) -> float:
        """The largest step that keeps every slack and dual in its cone."""
        state, k = self.state, self.state.data.kept
        largest = 1e6
        for value, change in ((state.s, move.s), (state.z, move.z)):
            falling = self.cone & (change < 0)
            if np.any(falling):
                largest = min(largest, float(np.min(-value[falling] / change[falling])))
        primal = largest_step(state.t, state.u[:, :k], move.t, move.u[:, :k])
        flat = np.zeros_like(state.t)
        dual = largest_step(flat + self.beta, state.y, flat, move.y)
        return min(largest, primal, dual, state.loss.longest(state.q, move.q))


class _System:
    """``N du + M'q = rhs``, ``q / h - M du - dc = gap`` with ``M = [sigma_g D_g X]``, N of blocks ``N_g``.

    A last row, with an intercept, is ``1'q = total``.
    """

    def __init__(self, data: _Data, roots: np.ndarray, curvature: np.ndarray, intercept: bool) -> None:
        self.data, self.h, self.intercept = data, curvature, intercept
        groups, rows = data.mask.shape
        size, n = groups * data.X.shape[1], rows // data.pool
        self.inverse = np.linalg.inv(roots)
        # rows of G: R_g^-T X' D_g, so that G'G = sum_g D_g X N_g^-1 X' D_g
        if data.pool > 1:
            parts = (pooled(data.X * mask[:, None], data.pool).T for mask in data.mask)
            G = np.concatenate([r.T @ M for r, M in zip(self.inverse, parts, strict=True)])
        else:
            G = np.matmul(self.inverse.transpose(0, 2, 1), data.X.T) * data.mask[:, None, :]
            G = G.reshape(size, n)
        self.by_samples = n <= size
        if self.by_samples:
            matrix = dsyrk(1.0, G.T, lower=True)
            matrix[np.diag_indices(n)] += 1.0 / curvature
            self.factor = _factor(matrix, G, 1.0 / np.sqrt(curvature))
            if intercept:
                self.ones = cho_solve(self.factor, np.ones(n), check_finite=False)
            return
        # In the coordinates R_g du_g; the intercept is one more unknown, with no block of its own.
        G = G * np.sqrt(curvature)
        if intercept:
            G = np.concatenate([G, np.sqrt(curvature)[None]])
        matrix = dsyrk(1.0, G.T, trans=True, lower=True)
        matrix[np.arange(size), np.arange(size)] += 1.0
        self.factor = _factor(matrix, G.T, np.where(np.arange(len(G)) < size, 1.0, 0.0))

    def _inverse_blocks(self, v: np.ndarray) -> np.ndarray:
        half = np.matmul(v[:, None, :], self.inverse)
        return np.matmul(half, self.inverse.transpose(0, 2, 1))[:, 0, :]

    def solve(
        self, rhs: np.ndarray, gap: np.ndarray | float, total: float
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """Return ``du`` (groups, d), ``dc``, the change of the intercept, and ``q`` (n,)."""
        if self.by_samples:
            return self._solve_samples(rhs, gap, total)
        data, dc = self.data, 0.0
        pushed = self.h * gap + 0.0 * self.h
        half = np.matmul((rhs - data.pull(pushed))[:, None, :], self.inverse).reshape(-1)
        if self.intercept:
            half = np.append(half, total - float(np.sum(pushed)))
        x = cho_solve(self.factor, half, check_finite=False)
        dc = float(x[-1]) if self.intercept else 0.0
        x = x[: rhs.size].reshape(len(rhs), 1, -1)
        du = np.matmul(x, self.inverse.transpose(0, 2, 1))[:, 0, :]
        return du, dc, pushed + self.h * (data.predict(du) + dc)

    def _solve_samples(
        self, rhs: np.ndarray, gap: np.ndarray | float, total: float
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """By the multiplier q of the predictions: n unknowns."""
        data, dc = self.data, 0.0
        reduced = data.predict(self._inverse_blocks(rhs)) + gap
        q = cho_solve(self.factor, reduced, check_finite=False)
        if self.intercept:
            dc = (total - float(np.sum(q))) / float(np.sum(self.ones))
            q = q + dc * self.ones
        return self._inverse_blocks(rhs - data.pull(q)), dc, q


def _factor(matrix: np.ndarray, G: np.ndarray, roots: np.ndarray) -> tuple[np.ndarray, bool]:
    """Factor ``G'G + diag(roots)^2``, whose lower triangle is `matrix`, overwritten.

    Where patterns are taken with both signs and beta is tiny the diagonal is all that tells columns of G
    apart, and rounding of their products is larger: then a QR factorisation, which squares nothing.
    """
    try:
        return cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return np.asarray(np.linalg.qr(np.concatenate([G, np.diag(roots)]), mode="r")), False


def _roots(data: _Data, ratio: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Triangular roots ``R_g' R_g = N_g``, accurate although few rows outweigh all others.

    The weights z/s of tight rows grow without bound. Summed into a Gram matrix they would wipe out the
    digits of everything else; so the heaviest rows of every group are kept as rows, and joined
    to the Cholesky factor of the rest by a QR factorisation, which squares nothing.
    """
    groups, n = ratio.shape
    d = data.X.shape[1]
    few = min(n, 2 * d)
    heavy = np.argpartition(-ratio, few - 1, axis=1)[:, :few] if few else np.zeros((groups, 0), int)
    rows = np.sqrt(np.take_along_axis(ratio, heavy, axis=1))[:, :, None] * data.X[heavy]
    rest = ratio.copy()
    np.put_along_axis(rest, heavy, 0.0, axis=1)
    gram = np.matmul(data.X.T[None] * rest[:, None, :], data.X)
    gram[:, : data.kept, : data.kept] += blocks
    diagonal = np.einsum("gii->gi", gram)
    # A free coordinate gets its weight from rows alone; all of them may be among the heavy.
    floor = 1e-14 * (diagonal.max(axis=1) + np.sum(rows**2, axis=(1, 2)))[:, None]
    scale = np.sqrt(np.maximum(diagonal, floor))
    scaled = gram / (scale[:, :, None] * scale[:, None, :]) + 1e-14 * np.eye(d)
    lower = np.linalg.cholesky(scaled) * scale[:, :, None]
    stacked = np.concatenate([rows, lower.transpose(0, 2, 1)], axis=1)
    return np.asarray(np.linalg.qr(stacked, mode="r"))


def _data(program: Program) -> _Data:
    operator = program.operator.stacked if isinstance(program.operator, Pooled) else program.operator
    assert isinstance(operator, Masked)
    X = to_numpy(operator.X)
    sign = np.zeros((operator.shape[1], len(X)))
    if isinstance(program.constraint, ReLUCones):
        sign = np.where(np.any(X != 0, axis=1), program.constraint.signs(), 0.0)
    free = program.penalty.free if isinstance(program.penalty, GroupL2) else 0
    kept, units = X.shape[1] - free, np.ones(X.shape[1])
    size = np.linalg.norm(X, axis=0)
    if free and np.any(size[:kept] > 0):
        units[kept:] = np.maximum(size[kept:], 1e-300) / np.max(size[:kept])
    return _Data(X / units, 1.0 * operator.passed(), sign, kept, units, len(X) // program.operator.shape[0])


def largest(v: np.ndarray) -> float:
    """The largest size of an entry."""
    return float(np.max(np.abs(v), initial=0.0))


def _norms(u: np.ndarray, kept: int) -> np.ndarray:
    return np.linalg.norm(u[:, :kept], axis=1)
