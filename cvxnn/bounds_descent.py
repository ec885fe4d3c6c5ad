"""First-order solver for the relaxed dual of :mod:`cvxnn.bounds`, for many features.

The dual point is parametrised by a prediction, ``theta = -grad L(f)``, which keeps it in the domain
of the conjugate; then ``D(theta) = L(f) + f'theta`` and its derivative in f is ``-L''(f) f``. The
two constraints ``F_+, F_- <= beta`` on the envelopes' value (and ``sum theta = 0``) enter through
an augmented Lagrangian. The largest eigenvalue within F is smoothed by a barrier,

    min_{m > lambda_max} m + 1/4 g'(m W - Q)^-1 g - eps log det(m W - Q),

whose derivatives are the moments ``u = 1/2 (m W - Q)^-1 g`` and ``U = u u' + eps (m W - Q)^-1`` of
the relaxed neuron. A step of L-BFGS costs ``O(n p^2 + p^3)``. Feasibility is not this module's
business: the caller proves a bound for whatever point it is handed.

Reference: Nocedal and Wright, Numerical Optimization, chapters 7 and 17; Boyd and Vandenberghe,
Convex Optimization, section 11.2 (the barrier).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize

from .bounds_envelopes import Envelope, Objective, Rows

_SIGNS = np.array([[1.0], [-1.0]])
#: Steps of L-BFGS in a round, and the factor of the smoothing from one round to the next.
_STEPS, _COOLING = 40, 0.4


def envelope_value(
    rows: Rows, w: np.ndarray, A: np.ndarray, B: np.ndarray, tilt: np.ndarray, eps: float
) -> tuple[float, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Return the smoothed bound of one sign and its gradients in (w, A, B, tilt).

    Parameters
    ----------
    rows : Rows
    w : ndarray of shape (n,)
        Dual point times ``h``, with the sign.
    A, B : ndarray of shape (n,)
    tilt : ndarray of shape (balls,)
        Logarithms of the balls' relative multipliers.
    eps : float
        Weight of the smoothing barrier.
    """
    ratio = np.exp(np.clip(tilt, -15.0, 15.0))
    weight, cost = ratio[rows.balls], float(np.sum(ratio))
    root = 1.0 / np.sqrt(weight)
    Q = (rows.unit.T * A) @ rows.unit
    lam, V = eigh(Q * root[:, None] * root, check_finite=False)
    g = V.T @ ((rows.unit.T @ (w + B)) * root)
    m = _multiplier(lam, 0.25 * g * g, cost, eps)
    gap = m - lam
    value = m * cost + 0.25 * float(np.sum(g * g / gap)) - eps * float(np.sum(np.log(gap / eps)))
    value -= eps * float(np.sum(np.log(weight)))
    V = V * root[:, None]
    u = 0.5 * V @ (g / gap)
    spread = rows.unit @ (V / np.sqrt(gap))
    t = rows.unit @ u
    q = t * t + eps * np.einsum("ij,ij->i", spread, spread)
    second = u * u + eps * np.sum(V * V / gap, axis=1)
    full = m * ratio * (1.0 - np.bincount(rows.balls, second))
    excess = w + np.abs(B)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        r = np.where(A > 0, np.clip(excess / (2.0 * A), 0.0, 1.0), (excess > A).astype(float))
    r = np.where(np.isfinite(r), r, 0.0)
    value += float(np.sum(r * (excess - A * r)))
    return 0.5 * value, (0.5 * (t + r), 0.5 * (q - r * r), 0.5 * (t + np.sign(B) * r), 0.5 * full)


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
    size = max(float(np.max(np.abs(start.A))), 1e-300)
    kappa, rho, shift = np.full(2, mass), 10.0 * mass / beta, 0.0
    slope, bend = objective(np.zeros(n) if prediction is None else prediction)
    sigma = 1.0 / max(float(np.sum(bend)), 1e-300)
    eps = 0.1 * beta / rows.unit.shape[1]
    unit = max(float(np.max(np.abs(prediction))), 1e-300) if prediction is not None else 1.0

    def split(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        A, B = size * v[: 2 * n].reshape(2, n), size * v[2 * n : 4 * n].reshape(2, n)
        return A, B, v[4 * n : 4 * n + 2 * many].reshape(2, many), unit * v[4 * n + 2 * many :]

    def cost(v: np.ndarray) -> tuple[float, np.ndarray]:
        A, B, tilt, f = split(v)
        slope, bend = (-start.theta, np.zeros(n)) if fixed else objective(f)
        w = _SIGNS * (rows.h * -slope)
        parts = [envelope_value(rows, w[k], A[k], B[k], tilt[k], eps) for k in range(2)]
        over = np.array([p[0] for p in parts]) - beta
        force = np.ones(2) if fixed else np.maximum(kappa + rho * over, 0.0)
        grads = [
            np.stack([p[1][c] * a for p, a in zip(parts, force, strict=True)]) for c in range(4)
        ]
        head = np.r_[size * grads[1].ravel(), size * grads[2].ravel(), grads[3].ravel()]
        if fixed:
            return float(np.sum(over)), head
        total = -float(np.sum(slope))
        pull = shift + sigma * total if balanced else 0.0
        value = float(np.sum(force**2)) / (2.0 * rho) - loss_value(f) + float(f @ slope)
        value += (pull**2 - shift**2) / (2.0 * sigma) if balanced else 0.0
        outer = np.sum(grads[0] * _SIGNS, axis=0) * rows.h + pull
        return value, np.r_[head, unit * bend * (f - outer)]

    v = np.r_[start.A.ravel() / size, start.B.ravel() / size, np.log(start.balls).ravel()]
    if prediction is not None:
        v = np.r_[v, prediction / unit]

    def stopped(intermediate_result: object) -> None:
        if stop():
            raise StopIteration

    for _ in range(rounds):
        if stop():
            return
        options = {"maxiter": _STEPS, "maxcor": 20, "maxfun": 2 * _STEPS, "ftol": 0.0}
        v = minimize(cost, v, jac=True, method="L-BFGS-B", callback=stopped, options=options).x
        A, B, tilt, f = split(v)
        theta = start.theta if fixed else -objective(f)[0]
        if not fixed:
            w = _SIGNS * (rows.h * theta)
            over = [envelope_value(rows, w[k], A[k], B[k], tilt[k], eps)[0] for k in range(2)]
            kappa = np.maximum(kappa + rho * (np.array(over) - beta), 0.0)
            shift += sigma * float(np.sum(theta)) if balanced else 0.0
        eps *= _COOLING
        yield Envelope(theta, A, B, np.exp(np.clip(tilt, -15.0, 15.0)))
