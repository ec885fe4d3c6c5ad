"""First-order solver for the relaxed dual of :mod:`cvxnn.bounds`, for many features.

The dual point is parametrised by a prediction, ``theta = -grad L(f)``, which keeps it in the domain
of the conjugate; then ``D(theta) = L(f) + f'theta`` and its derivative in f is ``-L''(f) f``. The
two constraints ``F_+, F_- <= beta`` on the envelopes' value (and ``sum theta = 0``) enter through
an augmented Lagrangian. The largest eigenvalue within F is smoothed by a barrier,

    min_{m > lambda_max} m + 1/4 g'(m W - Q)^-1 g - eps log det(m W - Q),

whose derivatives are the moments ``u = 1/2 (m W - Q)^-1 g`` and ``U = u u' + eps (m W - Q)^-1`` of
the relaxed neuron. The envelopes are parametrised by what they are at an optimum: where ``w > 0``,
``B = 0`` and ``A = a w``; where ``w < 0``, ``(|B|, -A)`` is ``|w|`` times a point of the simplex
and c = 0. That removes the kinks of c, on which a first-order method stalls. A step of L-BFGS costs
``O(n p^2 + p^3)``. Feasibility is not this module's business: the caller proves a bound for
whatever point it is handed.

Reference: Nocedal and Wright, Numerical Optimization, chapters 7 and 17; Boyd and Vandenberghe,
Convex Optimization, section 11.2 (the barrier).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize

from .bounds_envelopes import Envelope, Objective, Rows
from .patches import pooled

#: Steps of L-BFGS in a round, and the factor of the smoothing from one round to the next.
_STEPS, _COOLING = 100, 0.5


@dataclass(frozen=True)
class _Side:
    """Smoothed bound of one sign of the output weight, its derivatives and its envelopes.

    ``w`` (n,), ``shape`` (3, n) and ``tilt`` (balls,) are the derivatives in the arguments of
    :func:`_side` of these names; ``A`` and ``B`` (n,) are the envelopes.
    """

    value: float
    w: np.ndarray
    shape: np.ndarray
    tilt: np.ndarray
    A: np.ndarray
    B: np.ndarray


def _side(rows: Rows, w: np.ndarray, shape: np.ndarray, tilt: np.ndarray, eps: float, soft: float) -> _Side:
    """Evaluate one sign of the output weight.

    Parameters
    ----------
    rows : Rows
    w : ndarray of shape (n,)
        Dual point times ``h``, with the sign.
    shape : ndarray of shape (3, n)
        Logarithm of the upper envelope's curvature; two logits of the lower envelope.
    tilt : ndarray of shape (balls,)
        Logarithms of the balls' relative multipliers.
    eps, soft : float
        Weight of the eigenvalue's barrier; width in which ``|w|`` is smoothed.
    """
    # w = plus - minus, smooth where w changes its sign and with it the kind of envelope
    size = np.sqrt(w * w + soft * soft)
    plus, minus = 0.5 * (size + w), 0.5 * (size - w)
    a = np.exp(np.clip(shape[0], -30.0, 30.0))
    r = np.minimum(0.5 / a, 1.0)
    logits = np.clip(np.concatenate([shape[1:], np.zeros((1, len(w)))]), -30.0, 30.0)
    part = np.exp(logits) / np.sum(np.exp(logits), axis=0)
    A, B = plus * a - minus * part[2], minus * (part[0] - part[1])
    top, t, q, tilted = _smooth_maximum(rows, A, rows.lean * w + B, tilt, eps)
    constant = r - a * r * r
    d_plus, d_minus = a * q + constant, t * (part[0] - part[1]) - q * part[2]
    forces = minus * np.stack([t, -t, -q])
    logit = part * (forces - np.sum(part * forces, axis=0))
    d_w = rows.lean * t + 0.5 * (d_plus * (1.0 + w / size) - d_minus * (1.0 - w / size))
    return _Side(
        0.5 * (top + float(plus @ constant)),
        0.5 * d_w,
        0.5 * np.concatenate([(plus * a * (q - r * r))[None], logit[:2]]),
        0.5 * tilted,
        A,
        B,
    )


def _smooth_maximum(
    rows: Rows, A: np.ndarray, linear: np.ndarray, tilt: np.ndarray, eps: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return the smoothed maximum of ``sum A_i t_i^2 + linear_i t_i`` with its derivatives.

    The derivatives are in `linear` (the moments t), in `A` (the moments q) and in `tilt`.
    """
    ratio = np.exp(np.clip(tilt, -15.0, 15.0))
    weight, cost = ratio[rows.balls], float(np.sum(ratio))
    root = 1.0 / np.sqrt(weight)
    Q = (rows.unit.T * A) @ rows.unit
    lam, V = eigh(Q * root[:, None] * root, check_finite=False)
    g = V.T @ ((rows.unit.T @ linear) * root)
    m = _multiplier(lam, 0.25 * g * g, cost, eps)
    gap = m - lam
    value = m * cost + 0.25 * float(np.sum(g * g / gap)) - eps * float(np.sum(np.log(gap / eps)))
    value -= eps * float(np.sum(np.log(weight)))
    V = V * root[:, None]
    u = 0.5 * V @ (g / gap)
    t = rows.unit @ u
    spread = rows.unit @ (V / np.sqrt(gap))
    q = t * t + eps * np.einsum("ij,ij->i", spread, spread)
    second = u * u + eps * np.sum(V * V / gap, axis=1)
    return value, t, q, m * ratio * (1.0 - np.bincount(rows.balls, second))


def _multiplier(lam: np.ndarray, c: np.ndarray, cost: float, eps: float) -> float:
    """Return the minimiser m of the barrier, by bisection on its increasing derivative."""
    low = max(float(lam[-1]), 0.0)
    high = low + float(np.sqrt(np.sum(c) / cost)) + 2.0 * eps * len(lam) / cost
    for _ in range(60):
        m = 0.5 * (low + high)
        gap = np.maximum(m - lam, 1e-300)
        if float(np.sum((c / gap + eps) / gap)) > cost:
            low = m
        else:
            high = m
    return high


class _Lagrangian:
    """The augmented Lagrangian and its multipliers.

    The variables are, for each sign, `shape` (3, n) and then `tilt` (balls,) of :func:`_side`, and
    last the prediction in units of `unit` (absent when theta is fixed).
    """

    def __init__(
        self,
        rows: Rows,
        objective: Objective,
        loss_value: Callable[[np.ndarray], float],
        theta: np.ndarray | None,
        prediction: np.ndarray,
        beta: float,
        mass: float,
        balanced: bool,
        pool: int,
    ) -> None:
        self.rows, self.objective, self.loss_value = rows, objective, loss_value
        self.theta, self.beta, self.balanced, self.pool = theta, beta, balanced, pool
        self.kappa, self.rho, self.shift = np.full(2, mass), 2.0 * mass / beta, 0.0
        slope, bend = objective(prediction)
        self.sigma = 1.0 / max(float(np.sum(bend)), 1e-300)
        self.eps = beta / rows.unit.shape[1]
        dual = np.repeat(-slope if theta is None else theta, pool)
        self.soft = 2.0 * float(np.mean(np.abs(rows.h * dual))) + 1e-300
        self.unit = max(float(np.max(np.abs(prediction))), 1e-300)
        n, p = rows.unit.shape
        shape = np.full((3, n), -2.0)
        shape[0] = np.log(0.5 * p**0.5)  # the envelope of a neuron spread over all directions
        parts = [shape.ravel(), shape.ravel(), np.zeros(2 * rows.count)]
        self.start = np.concatenate(parts if theta is not None else [*parts, prediction / self.unit])

    def split(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the shapes (2, 3, n), the tilts (2, balls) and the prediction."""
        n, many = len(self.rows.h), self.rows.count
        ends = [6 * n, 6 * n + 2 * many]
        shapes = v[: ends[0]].reshape(2, 3, n)
        return shapes, v[ends[0] : ends[1]].reshape(2, many), self.unit * v[ends[1] :]

    def sides(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[_Side]]:
        """Return theta, the loss's curvature and both signs of the output weight."""
        shapes, tilt, f = self.split(v)
        if self.theta is None:
            slope, bend = self.objective(f)
        else:
            slope, bend = -self.theta, np.zeros_like(self.theta)
        sides = [
            _side(
                self.rows,
                sign * self.rows.h * np.repeat(-slope, self.pool),
                shapes[k],
                tilt[k],
                self.eps,
                self.soft,
            )
            for k, sign in enumerate((1.0, -1.0))
        ]
        return -slope, bend, sides

    def cost(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and the gradient; with theta fixed, of the sum of both bounds."""
        f = self.split(v)[2]
        theta, bend, sides = self.sides(v)
        over = np.array([side.value for side in sides]) - self.beta
        fixed = self.theta is not None
        force = np.ones(2) if fixed else np.maximum(self.kappa + self.rho * over, 0.0)
        head = [a * side.shape.ravel() for a, side in zip(force, sides, strict=True)]
        head += [a * side.tilt for a, side in zip(force, sides, strict=True)]
        if fixed:
            return float(np.sum(over)), np.concatenate(head)
        pull = self.shift + self.sigma * float(np.sum(theta)) if self.balanced else 0.0
        value = float(force @ force) / (2.0 * self.rho) - self.loss_value(f) - float(f @ theta)
        # a product overflows to infinity, from which a line search turns back; a power raises
        value += pull * pull / (2.0 * self.sigma) if self.balanced else 0.0
        outer = pooled(self.rows.h * (force[0] * sides[0].w - force[1] * sides[1].w), self.pool) + pull
        return value, np.concatenate([*head, self.unit * bend * (f - outer)])

    def update(self, v: np.ndarray) -> Envelope:
        """Update multipliers and smoothing after a round; return the point it ended at."""
        theta, _, sides = self.sides(v)
        if self.theta is None:
            over = np.array([side.value for side in sides]) - self.beta
            self.kappa = np.maximum(self.kappa + self.rho * over, 0.0)
            self.shift += self.sigma * float(np.sum(theta)) if self.balanced else 0.0
        self.eps, self.soft = self.eps * _COOLING, self.soft * _COOLING
        A, B = np.stack([side.A for side in sides]), np.stack([side.B for side in sides])
        return Envelope(np.repeat(theta, self.pool), A, B, np.exp(np.clip(self.split(v)[1], -15.0, 15.0)))


def descent_points(
    rows: Rows,
    objective: Objective,
    loss_value: Callable[[np.ndarray], float],
    theta: np.ndarray,
    prediction: np.ndarray | None,
    beta: float,
    mass: float,
    *,
    balanced: bool,
    rounds: int,
    stop: Callable[[], bool],
    pool: int = 1,
) -> Iterator[Envelope]:
    """Run L-BFGS on the augmented Lagrangian and yield its points.

    Parameters
    ----------
    rows : Rows
    objective : callable
        Gradient and diagonal Hessian of the loss at a prediction of shape (n,).
    loss_value : callable
        Value of the loss at a prediction.
    theta : ndarray of shape (n,)
        The dual point to start from.
    prediction : ndarray of shape (n,) or None
        Prediction whose negative loss gradient is `theta`; None keeps theta fixed and
        minimises the bound of both signs.
    beta : float
        Largest allowed bound (ignored when theta is fixed).
    mass : float
        First guess of the multipliers of the two constraints.
    balanced : bool
        Whether theta has to sum to zero.
    rounds : int
        Number of yields, each after some tens of steps.
    stop : callable
        True when the time is used up; asked at every step.
    pool : int
        Rows that each sample has, all with its dual variable.
    """
    fixed = prediction is None
    problem = _Lagrangian(
        rows,
        objective,
        loss_value,
        theta if fixed else None,
        np.zeros_like(theta) if prediction is None else prediction,
        beta,
        mass,
        balanced,
        pool,
    )

    def stopped(intermediate_result: object) -> None:
        if stop():
            raise StopIteration

    v = problem.start
    options = {"maxiter": _STEPS, "maxcor": 20, "maxfun": 2 * _STEPS, "ftol": 0.0}
    for _ in range(rounds):
        v = minimize(problem.cost, v, jac=True, method="L-BFGS-B", callback=stopped, options=options).x
        yield problem.update(v)
        if stop():
            return
