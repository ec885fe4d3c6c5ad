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


def _side(
    rows: Rows, w: np.ndarray, shape: np.ndarray, tilt: np.ndarray, eps: float, soft: float
) -> _Side:
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
    top, t, q, tilted = _smooth_maximum(rows, A, w + B, tilt, eps)
    constant = r - a * r * r
    d_plus, d_minus = a * q + constant, t * (part[0] - part[1]) - q * part[2]
    forces = minus * np.stack([t, -t, -q])
    logit = part * (forces - np.sum(part * forces, axis=0))
    d_w = t + 0.5 * (d_plus * (1.0 + w / size) - d_minus * (1.0 - w / size))
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


def descent_points(
    rows: Rows,
    objective: Objective,
    loss_value: Callable[[np.ndarray], float],
    start: Envelope,
    prediction: np.ndarray | None,
    beta: float,
    mass: float,
    *,
    balanced: bool,
    rounds: int,
    stop: Callable[[], bool],
) -> Iterator[Envelope]:
    """Run L-BFGS on the augmented Lagrangian and yield its points.

    Parameters
    ----------
    rows : Rows
    objective : callable
        Gradient and diagonal Hessian of the loss at a prediction of shape (n,).
    loss_value : callable
        Value of the loss at a prediction.
    start : Envelope
    prediction : ndarray of shape (n,) or None
        Prediction whose negative loss gradient is the start's theta; None keeps theta fixed and
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
    """
    n, many = len(rows.h), rows.count
    fixed = prediction is None
    kappa, rho, shift = np.full(2, mass), 2.0 * mass / beta, 0.0
    _, bend = objective(np.zeros(n) if prediction is None else prediction)
    sigma = 1.0 / max(float(np.sum(bend)), 1e-300)
    eps = beta / rows.unit.shape[1]
    unit = max(float(np.max(np.abs(prediction))), 1e-300) if prediction is not None else 1.0
    soft = 2.0 * float(np.mean(np.abs(rows.h * start.theta))) + 1e-300

    def split(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ends = [6 * n, 6 * n + 2 * many]
        shapes = v[: ends[0]].reshape(2, 3, n)
        return shapes, v[ends[0] : ends[1]].reshape(2, many), unit * v[ends[1] :]

    def values(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[_Side]]:
        shapes, tilt, f = split(v)
        slope, bend = (-start.theta, np.zeros(n)) if fixed else objective(f)
        sides = [
            _side(rows, sign * rows.h * -slope, shapes[k], tilt[k], eps, soft)
            for k, sign in enumerate((1.0, -1.0))
        ]
        return slope, bend, sides

    def cost(v: np.ndarray) -> tuple[float, np.ndarray]:
        f = split(v)[2]
        slope, bend, sides = values(v)
        over = np.array([side.value for side in sides]) - beta
        force = np.ones(2) if fixed else np.maximum(kappa + rho * over, 0.0)
        head = [a * side.shape.ravel() for a, side in zip(force, sides, strict=True)]
        head += [a * side.tilt for a, side in zip(force, sides, strict=True)]
        if fixed:
            return float(np.sum(over)), np.concatenate(head)
        pull = shift - sigma * float(np.sum(slope)) if balanced else 0.0
        value = float(np.sum(force**2)) / (2.0 * rho) - loss_value(f) + float(f @ slope)
        value += pull**2 / (2.0 * sigma) if balanced else 0.0
        outer = rows.h * (force[0] * sides[0].w - force[1] * sides[1].w) + pull
        return value, np.concatenate([*head, unit * bend * (f - outer)])

    flat = np.log(0.5 * rows.unit.shape[1] ** 0.5) * np.ones(n)
    v = np.concatenate(
        [np.tile(np.concatenate([flat, np.full(2 * n, -2.0)]), 2), np.log(start.balls).ravel()]
    )
    if prediction is not None:
        v = np.concatenate([v, prediction / unit])

    def stopped(intermediate_result: object) -> None:
        if stop():
            raise StopIteration

    for _ in range(rounds):
        options = {"maxiter": _STEPS, "maxcor": 20, "maxfun": 2 * _STEPS, "ftol": 0.0}
        v = minimize(cost, v, jac=True, method="L-BFGS-B", callback=stopped, options=options).x
        slope, _, sides = values(v)
        if not fixed:
            over = np.array([side.value for side in sides]) - beta
            kappa = np.maximum(kappa + rho * over, 0.0)
            shift -= sigma * float(np.sum(slope)) if balanced else 0.0
        eps, soft = eps * _COOLING, soft * _COOLING
        yield Envelope(
            -slope,
            np.stack([side.A for side in sides]),
            np.stack([side.B for side in sides]),
            np.exp(np.clip(split(v)[1], -15.0, 15.0)),
        )
        if stop():
            return
