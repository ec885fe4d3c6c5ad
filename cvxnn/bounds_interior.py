"""Primal-dual interior method for the relaxed training problem of :mod:`cvxnn.bounds`.

A neuron ``u`` of the unit ball is replaced by its moments: a positive semidefinite matrix ``Z`` of
order ``p + 1`` with blocks ``U`` (for ``u u'``), ``u`` and ``k`` (for 1), ``tr U <= k``. The
absolute response of sample i, ``e_i`` for ``|x_i'u|``, is tied to it only through
``t_i = x_i'u`` and ``q_i = x_i'U x_i``: with rows scaled to length at most one,

    e_i >= |t_i|,    e_i >= q_i,    e_i^2 <= q_i k,

which is exactly the set of (t, q, e) that random variables on [-1, 1] attain as (E t, E t^2, E|t|). The
relaxed problem, ``min L(f) + beta (k+ + k-)`` with ``f_i = h_i/2 (k t_i + e_i)`` (lean k) of the positive
minus that of the negative neurons, is convex, and the multipliers of the constraints on q and t are the
envelopes A and B of :mod:`cvxnn.bounds`. The kinks of a loss bring multipliers of their own
(:mod:`cvxnn.interior_loss`). Every iterate's multipliers give a valid bound, so the method may stop
anywhere; that is why it is a generator.

The method uses Nesterov-Todd scaling and Mehrotra's corrector. The samples' own variables e are
eliminated in closed form, so one step costs a dense Cholesky factorisation of order
``(p + 1)(p + 2)`` whatever the number of samples.

Reference: Vandenberghe, "The CVXOPT linear and quadratic cone program solvers", 2010;
Nesterov, "Semidefinite relaxation and nonconvex quadratic optimization", 1998.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, blas, cho_factor, cho_solve

from .bounds_cones import Linear, Second, Semidefinite
from .bounds_envelopes import Envelope, Rows
from .interior_loss import InteriorLoss, Multipliers, Newton

#: A sample's constraints as maps of its (q, t, k, e): half-lines, then second-order cone.
_LINES = np.array([[0.0, -1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 1.0]])
_CONE = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 2.0]])


@dataclass
class _Point:
    """Moments of both signs (2, p+1, p+1), absolute responses (2, n) and the intercept."""

    Z: np.ndarray
    e: np.ndarray
    shift: float


#: Points of all cones: lines (2, n, 3), second-order (2, n, 3), balls (2, balls), Z (2, p+1, p+1).
_Cones = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Problem:
    """The linear maps of the relaxed problem.

    The unknowns of the Newton system are the upper triangles of both ``Z`` (first ``U`` row by
    row, then ``u``, then ``k``) and the intercept.
    """

    def __init__(self, rows: Rows, intercept: bool, fixed_mass: bool) -> None:
        p = rows.unit.shape[1]
        i, j = np.triu_indices(p)
        self.rows, self.p = rows, p
        self.products = rows.unit[:, i] * rows.unit[:, j]
        self.products[:, i != j] *= 2.0
        self.i = np.r_[i, np.arange(p + 1)]
        self.j = np.r_[j, np.full(p + 1, p)]
        self.size = len(self.i)
        #: An off-diagonal entry of a symmetric matrix counts twice.
        self.twice = np.where(self.i == self.j, 1.0, 2.0)
        keep = np.ones(2 * self.size + 1, dtype=bool)
        keep[-1] = intercept
        if fixed_mass:
            keep[[self.size - 1, 2 * self.size - 1]] = False
        self.keep = np.flatnonzero(keep)
        self.ball = np.zeros((rows.count, self.size))
        for c in range(rows.count):
            self.ball[c, : len(i)] = -((i == j) & (rows.balls[i] == c)).astype(float)
            self.ball[c, -1] = 1.0

    def start(self, mass: float) -> _Point:
        """Return the point with isotropic moments and total mass `mass` for each sign."""
        sizes = np.bincount(self.rows.balls)
        Z = np.diag(np.r_[0.5 / sizes[self.rows.balls], 1.0])
        q = self.rows.unit**2 @ np.diag(Z)[: self.p]
        e = q ** (2.0 / 3.0)  # between q and sqrt(q)
        return _Point(mass * np.stack([Z, Z]), mass * np.stack([e, e]), 0.0)

    def samples(self, x: _Point) -> np.ndarray:
        """Return (q, t, k, e) of every sign and sample, shape (2, n, 4)."""
        many = self.size - self.p - 1
        t = x.Z[:, : self.p, self.p] @ self.rows.unit.T
        q = x.Z[:, self.i[:many], self.j[:many]] @ self.products.T
        k = np.broadcast_to(x.Z[:, self.p, self.p][:, None], q.shape)
        return np.stack([q, t, k, x.e], axis=2)

    def prediction(self, v: np.ndarray, shift: float) -> np.ndarray:
        """Return the prediction of samples with coordinates `v`, see :meth:`samples`."""
        a = self.rows.lean * v[:, :, 1] + v[:, :, 3]
        return 0.5 * self.rows.h * (a[0] - a[1]) + shift

    def slacks(self, x: _Point, v: np.ndarray) -> _Cones:
        """Return the points of all cones; a linear map."""
        return v @ _LINES.T, v @ _CONE.T, x.Z[:, self.i, self.j] @ self.ball.T, x.Z

    def unpack(self, v: np.ndarray) -> _Point:
        """Return the point with unknowns `v` and e = 0."""
        Z = np.zeros((2, self.p + 1, self.p + 1))
        parts = v[:-1].reshape(2, self.size)
        Z[:, self.i, self.j] = parts
        Z[:, self.j, self.i] = parts
        return _Point(Z, np.zeros((2, len(self.rows.h))), float(v[-1]))


class _Newton:
    """The factorised Newton system at one point."""

    def __init__(
        self,
        problem: _Problem,
        scaled: tuple[Linear, Second, Linear, Semidefinite],
        bend: np.ndarray,
    ) -> None:
        self.problem, self.scaled = problem, scaled
        lines, second = scaled[0], scaled[1]
        n = len(bend)
        H = np.einsum("snl,li,lj->snij", lines.square, _LINES, _LINES, optimize=True)
        H += _CONE.T @ second.square @ _CONE
        # coordinates of a sample: (q, t, k) of both signs, intercept, then e of both signs
        full = np.zeros((n, 9, 9))
        self.at = np.array([[0, 1, 2, 7], [3, 4, 5, 8]])
        for s in range(2):
            full[np.ix_(np.arange(n), self.at[s], self.at[s])] = H[s]
        self.via = np.zeros((n, 9))
        half = 0.5 * problem.rows.h[:, None] * np.array([problem.rows.lean, 1.0])
        self.via[:, [1, 7]], self.via[:, [4, 8]] = half, -half
        self.via[:, 6] = 1.0
        full += bend[:, None, None] * self.via[:, :, None] * self.via[:, None, :]
        self.outer, self.corner = full[:, :7, 7:], full[:, 7:, 7:]
        self.inner = np.linalg.solve(self.corner, full[:, 7:, :7])
        matrix = self._sum(full[:, :7, :7] - self.outer @ self.inner)
        self._add_moments(matrix)
        # only a curved loss couples the two signs
        self.blocks = (
            [problem.keep]
            if bend.any() or problem.keep[-1] == 2 * problem.size
            else [
                problem.keep[problem.keep < problem.size],
                problem.keep[problem.keep >= problem.size],
            ]
        )
        self.factors = [_factor(matrix[np.ix_(block, block)]) for block in self.blocks]

    def _places(self) -> list[slice]:
        size, many = self.problem.size, self.problem.size - self.problem.p - 1
        ends = [0, many, size - 1, size]
        both = [slice(s * size + ends[c], s * size + ends[c + 1]) for s in range(2) for c in range(3)]
        return [*both, slice(2 * size, 2 * size + 1)]

    def _columns(self) -> list[np.ndarray]:
        rows = self.problem.rows
        ones = np.ones((len(rows.h), 1))
        groups = [self.problem.products, rows.unit, ones]
        return [*groups, *groups, ones]

    def _sum(self, S: np.ndarray) -> np.ndarray:
        """Sum the samples' Hessians (n, 7, 7) in the unknowns."""
        N = 2 * self.problem.size + 1
        places, columns = self._places(), self._columns()
        matrix = np.zeros((N, N))
        for a in range(7):
            for b in range(a, 7):
                weight = S[:, a, b]
                if not weight.any():
                    continue
                if a == b and a in (0, 3):  # the two large blocks: half the work by symmetry
                    root = columns[a] * np.sqrt(np.maximum(weight, 0.0))[:, None]
                    block = blas.dsyrk(1.0, root.T, lower=0)
                    block += np.triu(block, 1).T
                else:
                    block = columns[a].T @ (weight[:, None] * columns[b])
                matrix[places[a], places[b]] = block
                if a != b:
                    matrix[places[b], places[a]] = block.T
        return matrix

    def _add_moments(self, matrix: np.ndarray) -> None:
        """Add the scalings of ``Z`` and of the balls."""
        problem = self.problem
        i, j, size = problem.i, problem.j, problem.size
        balls, moments = self.scaled[2], self.scaled[3]
        half = 0.5 * problem.twice
        for s in range(2):
            P = moments.root(s)
            K = P[np.ix_(i, i)] * P[np.ix_(j, j)]
            K += P[np.ix_(i, j)] * P[np.ix_(j, i)]
            part = slice(s * size, (s + 1) * size)
            matrix[part, part] += 2.0 * K * half[:, None] * half
            matrix[part, part] += (problem.ball.T * balls.square[s]) @ problem.ball

    def solve(self, slope: np.ndarray, beta: float, targets: _Cones) -> _Point:
        """Return the step for the gradient of the objective and the multipliers aimed at."""
        problem, size = self.problem, self.problem.size
        g = self.via * slope[:, None]
        aim = targets[0] @ _LINES + targets[1] @ _CONE
        for s in range(2):
            g[:, self.at[s]] -= aim[s]
        own = np.linalg.solve(self.corner, g[:, 7:, None])
        left = g[:, :7] - (self.outer @ own)[:, :, 0]
        right = np.zeros(2 * size + 1)
        for a, (place, column) in enumerate(zip(self._places(), self._columns(), strict=True)):
            right[place] = column.T @ left[:, a]
        for s in range(2):
            part = slice(s * size, (s + 1) * size)
            right[part] -= targets[2][s] @ problem.ball
            right[part] -= problem.twice * targets[3][s][problem.i, problem.j]
            right[(s + 1) * size - 1] += beta
        v = np.zeros(2 * size + 1)
        for block, (scale, matrix, factor) in zip(self.blocks, self.factors, strict=True):
            rhs = -right[block] * scale
            found = cho_solve(factor, rhs, check_finite=False)
            found += cho_solve(factor, rhs - matrix @ found, check_finite=False)
            v[block] = found * scale
        move = problem.unpack(v)
        c = problem.samples(move)
        own = own[:, :, 0] + np.einsum(
            "nij,nj->ni",
            self.inner,
            np.concatenate([c[0, :, :3], c[1, :, :3], np.full((len(own), 1), move.shift)], axis=1),
        )
        move.e = -own.T
        return move


def _factor(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, bool]]:
    """Scale a positive definite matrix to unit diagonal and factorise it."""
    scale = 1.0 / np.sqrt(np.diag(matrix))
    matrix *= scale[:, None]
    matrix *= scale
    for ridge in (0.0, 1e-12, 1e-9):
        try:
            shifted = matrix if ridge == 0.0 else matrix + ridge * np.eye(len(matrix))
            return scale, matrix, cho_factor(shifted, lower=True, check_finite=False)
        except LinAlgError:
            continue
    raise LinAlgError("the Newton system is singular to working precision")


def _envelope(theta: np.ndarray, z: _Cones) -> Envelope:
    """Read the envelopes off the multipliers: the prices of q and t, twice for the factor 1/2."""
    price = 2.0 * (z[0] @ _LINES + z[1] @ _CONE)
    return Envelope(theta, price[:, :, 0], price[:, :, 1], z[2])


def interior_points(
    rows: Rows,
    loss: InteriorLoss,
    beta: float,
    mass: float,
    scale: float,
    *,
    intercept: bool,
    fixed_mass: bool,
    max_iter: int,
    tol: float = 1e-6,
) -> Iterator[Envelope]:
    """Run the interior method and yield the multipliers of every iterate.

    Parameters
    ----------
    rows : Rows
    loss : InteriorLoss
    beta : float
        Price of the mass ``k`` of either sign.
    mass : float
        Mass of either sign at the start, or for good.
    scale : float
        Complementarity at the start, in units of the objective.
    intercept, fixed_mass : bool
        Whether a constant is added to the prediction; whether the mass stays as it is.
    max_iter : int
    tol : float
        Stop when the complementarity is below this share of the one at the start.
    """
    problem = _Problem(rows, intercept, fixed_mass)
    x = problem.start(mass)
    v = problem.samples(x)
    slack, f = problem.slacks(x, v), problem.prediction(v, x.shift)
    degree = slack[0].size + slack[1].size // 3 + slack[2].size + 2 * (problem.p + 1) + loss.count
    mu = scale / degree
    at = loss.start(f, mu)
    first = mu
    det = slack[1][..., :1] ** 2 - np.sum(slack[1][..., 1:] ** 2, axis=-1, keepdims=True)
    z = (
        mu / slack[0],
        mu * slack[1] * [1.0, -1.0, -1.0] / det,
        mu / slack[2],
        mu * np.linalg.inv(slack[3]),
    )
    for _ in range(max_iter):
        try:
            scaled = (
                Linear(slack[0], z[0]),
                Second(slack[1], z[1]),
                Linear(slack[2], z[2]),
                Semidefinite(slack[3], z[3]),
            )
            newton = loss.newton(f, at)
            system = _Newton(problem, scaled, newton.h)
            length, dx, dz, move = _direction(system, scaled, newton, mu, beta)
        except (LinAlgError, ValueError, FloatingPointError):
            return
        x = _Point(x.Z + length * dx.Z, x.e + length * dx.e, x.shift + length * dx.shift)
        at, v = at.step(length, move), problem.samples(x)
        slack, f = problem.slacks(x, v), problem.prediction(v, x.shift)
        moved = [a + length * b for a, b in zip(z, dz, strict=True)]
        z = (moved[0], moved[1], moved[2], 0.5 * (moved[3] + moved[3].transpose(0, 2, 1)))
        mu = sum(float(np.sum(a * b)) for a, b in zip(slack, z, strict=True)) + loss.complementarity(at)
        mu /= degree
        yield _envelope(-loss.gradient(f, at), z)
        if not mu > 0.0 or mu < tol * first:
            return


def _direction(
    system: _Newton,
    scaled: tuple[Linear, Second, Linear, Semidefinite],
    newton: Newton,
    mu: float,
    beta: float,
) -> tuple[float, _Point, _Cones, Multipliers]:
    """Mehrotra's predictor and corrector; returns the step length and the step."""
    problem = system.problem
    lines, second, balls, moments = scaled

    def step(
        targets: _Cones, goal: float, affine: Multipliers | None
    ) -> tuple[_Point, _Cones, _Cones, Multipliers, float]:
        dx = system.solve(newton.gradient + newton.shift(goal, affine), beta, targets)
        v = problem.samples(dx)
        ds = problem.slacks(dx, v)
        move = newton.move(problem.prediction(v, dx.shift), goal, affine)
        dz = (
            lines.multiplier(targets[0], ds[0]),
            second.multiplier(targets[1], ds[1]),
            balls.multiplier(targets[2], ds[2]),
            moments.multiplier(targets[3], ds[3]),
        )
        far = min(
            lines.longest(ds[0], dz[0]),
            second.longest(ds[1], dz[1]),
            balls.longest(ds[2], dz[2]),
            moments.longest(ds[3], dz[3]),
            newton.term.longest(newton.at, move),
        )
        return dx, ds, dz, move, far

    def targets(goal: float, ds: _Cones | None, dz: _Cones | None) -> _Cones:
        a = ds or (0.0, 0.0, 0.0, 0.0)
        b = dz or (0.0, 0.0, 0.0, 0.0)
        return (
            lines.target(goal, a[0], b[0]),
            second.target(goal, a[1], b[1]),
            balls.target(goal, a[2], b[2]),
            moments.target(goal, a[3], b[3]),
        )

    dx, ds, dz, move, far = step(targets(0.0, None, None), 0.0, None)
    goal = mu * max((1.0 - min(1.0, far)) ** 3, 1e-6)
    dx, ds, dz, move, far = step(targets(goal, ds, dz), goal, move)
    return min(1.0, 0.97 * far), dx, dz, move
