"""A lower bound on the training objective of every two-layer ReLU network, of any width.

By duality every ``theta`` with ``M(theta) = max_{|u| <= 1} |sum_i theta_i (x_i'u)_+| <= beta``
bounds the objective of all networks from below by ``D(theta) = -L*(-theta)``. Computing M is
NP-hard; this module bounds it from above by quadratic envelopes and moves theta and the envelopes
together.

Write ``(t)_+ = (t + |t|) / 2``, divide row i by ``h_i >= max |x_i'u|``, let ``w_i = h_i theta_i``.
For any numbers ``A_i, B_i`` and ``|t| <= 1``

    w_i |t| <= A_i t^2 + B_i t + c_i,    c_i = max_{0 <= r <= 1} (w_i + |B_i|) r - A_i r^2,

by the definition of ``c_i`` (the worse sign of t turns ``-B_i t`` into ``|B_i| r``). Summing over i
with ``Q = sum_i A_i x_i x_i'`` and ``g = sum_i (w_i + B_i) x_i`` (scaled rows),

    M_+(theta) <= 1/2 (max_{|u| <= 1} u'Q u + g'u + sum_i c_i) <= 1/2 (m + v + sum_i c_i)

whenever ``[[m I - Q, -g/2], [-g'/2, v]]`` is positive semidefinite and ``m >= 0`` (multiply by
``(u, 1)`` from both sides: the S-procedure). The other sign of the output weight is the same with
``-theta`` and its own envelopes. The right-hand side is jointly convex in (theta, A, B, m, v),
because c_i is a maximum of linear functions, so maximising D under it is a convex program; its dual
is in :mod:`cvxnn.bounds_interior`. Whatever a solver returns, the bound is recomputed from the
formula and verified, rounding included, by :mod:`cvxnn.bounds_envelopes`.

A hidden bias that is not penalised (``free=1``) makes M finite only if ``sum_i theta_i = 0``. Then
no bias beyond ``R = max |x_i|`` changes the value, as all samples are on or all off: the constraint
is ``|w| <= 1, |b| <= R``, with one multiplier m for each. Shifting the rows only moves b, so they
are centred to make R small.

An activation with slope s < 1 on the negative side is ``max(t, s t) = (1 - s)/2 (k t + |t|)`` with the lean
``k = (1 + s)/(1 - s)``: the rows are scaled by ``1 - s``, ``k w_i`` takes the place of ``w_i`` in g, and
the rest stays. The ReLU has k = 1, the absolute value k = 0.

Reference: Boyd and Vandenberghe, Convex Optimization, appendix B; Nesterov, "Semidefinite
relaxation and nonconvex quadratic optimization", 1998.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from .arrays import Array
from .bounds_descent import descent_points
from .bounds_envelopes import (
    Envelope,
    Rows,
    ScaledRows,
    certify,
    scale_rows,
    start_envelope,
)
from .bounds_interior import interior_points
from .interior_loss import InteriorLoss
from .losses import Loss

#: Largest Newton system, and samples times its order squared, that the interior method is given.
_LARGEST_ORDER, _LARGEST_WORK = 3800, 1e10
#: How far a smoothed loss may be below a loss with kinks, as a share of the first gap.
SMOOTHING = 1e-2


# Many short BLAS calls: threads that wait for one another cost up to twenty times the work when the
# cores are shared.
_one_thread = threadpool_limits.wrap(limits=1, user_api="blas")

# A solver may meet infinities at the ends of the float range; what is not finite is dropped.
_quiet = np.errstate(all="ignore")


@dataclass(frozen=True)
class DualProof:
    """A feasible dual point and what it proves.

    Attributes
    ----------
    theta : ndarray of shape (n,)
        The dual point, scaled to be feasible.
    value : float
        Proven upper bound of the oracle at `theta`; at most beta, up to rounding of 1e-12.
    bound : float
        No network of the family, of any width, has a lower training objective.
    """

    theta: np.ndarray
    value: float
    bound: float


@_one_thread
@_quiet
def oracle_bound(
    X: np.ndarray,
    theta: np.ndarray,
    *,
    free: int = 0,
    slope: float = 0.0,
    max_iter: int = 40,
    max_time: float | None = None,
) -> float:
    """Bound the oracle ``max |sum_i theta_i phi(x_i'u)|`` over the unit ball from above.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    theta : ndarray of shape (n,)
    free : {0, 1}
        1 if the last column of `X` is the constant 1 of a bias that is not penalised.
    slope : float
        Of the activation ``phi(t) = max(t, slope * t)``, in [-1, 1).
    max_iter : int
        Iterations of the solver; the result is valid after any number, also 0.
    max_time : float or None
        Cap on the seconds spent.

    Returns
    -------
    float
        Infinity where the oracle is unbounded (``free=1`` and theta does not sum to zero).

    Raises
    ------
    ValueError
        If the shapes do not fit, an entry is not finite or `free` is neither 0 nor 1.
    """
    X, theta = _checked(X, theta, free)
    size = float(np.max(np.abs(theta), initial=0.0))
    if size == 0.0:
        return 0.0
    theta = theta / size
    if free and abs(float(np.sum(theta))) > 1e-12 * float(np.sum(np.abs(theta))):
        return np.inf
    scaled = _lean_rows(X, free, slope)
    if scaled.rows is None:
        return float(scaled.lost @ np.abs(theta)) * scaled.scale * size
    rows = scaled.rows
    best = certify(scaled, start_envelope(rows, theta))
    clock, gap = _Clock(max_time), float(np.sum(best))
    fixed = InteriorLoss(_Fixed(), theta, np.ones(len(theta)))
    for envelope in _points(rows, fixed, theta, None, gap, gap, max_iter, clock):
        best = np.minimum(best, certify(scaled, replace(envelope, theta=theta)))
    return float(np.max(best)) * scaled.scale * size


@_one_thread
@_quiet
def improve_dual(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    theta: np.ndarray,
    *,
    free: int = 0,
    slope: float = 0.0,
    intercept: bool = False,
    pool: int = 1,
    max_iter: int = 40,
    max_time: float | None = None,
) -> DualProof:
    """Find a dual point with a high proven bound, starting from `theta`.

    Parameters
    ----------
    X : ndarray of shape (n, d), or (n * pool, d)
    y, s : ndarray of shape (n,)
        Targets and sample weights.
    loss : Loss
    beta : float
        Price of a neuron of norm one.
    theta : ndarray of shape (n,)
        Start, for example minus the loss gradient of a good network; any vector is allowed.
    free : {0, 1}
        1 if the last column of `X` is the constant 1 of a bias that is not penalised.
    slope : float
        Of the activation on the negative side, in [-1, 1).
    intercept : bool
        Whether the network has an output intercept that is not penalised.
    pool : int
        Rows of X that each sample has, one after the other: neurons add up what they compute on them. Their
        dual variables are then equal, which only the solver for many features knows.
    max_iter : int
        Iterations of the solver; the result is valid after any number, also 0.
    max_time : float or None
        Cap on the seconds spent.

    Returns
    -------
    DualProof
        Never worse than the scaled start.

    Raises
    ------
    ValueError
        If the shapes do not fit, an entry is not finite, `free` is neither 0 nor 1 or beta <= 0.
    """
    X = _checked(X, np.repeat(theta, pool), free)[0]
    if not (np.isfinite(beta) and beta > 0.0):
        raise ValueError(f"beta is {beta}: pass a positive number")
    balanced = intercept or bool(free)
    clock, scaled = _Clock(max_time), _lean_rows(X, free, slope)
    price = beta / scaled.scale
    zero = np.zeros(len(y))
    best = DualProof(zero, 0.0, loss.dual(zero, y, s))

    def better(envelope: Envelope) -> DualProof:
        point = envelope.theta[::pool]
        point = loss.balance(point) if balanced else point
        return _scaled_proof(scaled, replace(envelope, theta=point), y, s, loss, beta, best, pool)

    for point in (np.asarray(theta, dtype=np.float64), -loss.gradient(zero, y, s)):
        point = np.repeat(loss.balance(point) if balanced else point, pool)
        best = better(start_envelope(scaled.rows, point))
    if scaled.rows is None:
        return best
    gap = loss.value(zero, y, s) - best.bound
    if not gap > 0.0:
        return best

    for envelope in _points(
        scaled.rows,
        InteriorLoss(loss, y, s),
        best.theta,
        loss.smoothed(SMOOTHING * gap / float(np.sum(s))),
        price,
        gap,
        max_iter,
        clock,
        intercept=balanced,
        pool=pool,
    ):
        best = better(envelope)
    return best


def _lean_rows(X: np.ndarray, free: int, slope: float) -> ScaledRows:
    """Scale the rows for an activation with a slope on its negative side."""
    if not -1.0 <= slope < 1.0:
        raise ValueError(f"slope is {slope}: pass a number from -1 up to, but not including, 1")
    scaled, lean = scale_rows((1.0 - slope) * X, free), (1.0 + slope) / (1.0 - slope)
    rows = None if scaled.rows is None else replace(scaled.rows, lean=lean)
    # what scaling lost passes through the steeper side of (k t + |t|) / 2
    return replace(scaled, rows=rows, lost=max(1.0, 0.5 * (1.0 + lean)) * scaled.lost)


class _Clock:
    """Counts the seconds since it was made against a cap."""

    def __init__(self, max_time: float | None) -> None:
        self.end = np.inf if max_time is None else time.perf_counter() + max_time

    def over(self) -> bool:
        return time.perf_counter() >= self.end


def _checked(X: np.ndarray, theta: np.ndarray, free: int) -> tuple[np.ndarray, np.ndarray]:
    X, theta = np.asarray(X, dtype=np.float64), np.asarray(theta, dtype=np.float64)
    if X.ndim != 2 or theta.shape != X.shape[:1]:
        raise ValueError(f"X has shape {X.shape} and theta {theta.shape}: pass (n, d) and (n,)")
    if not (np.isfinite(X).all() and np.isfinite(theta).all()):
        raise ValueError("X or theta has an entry that is not finite")
    if free not in (0, 1):
        raise ValueError(f"free is {free}: pass 0, or 1 for a free hidden bias")
    if free and not (X.shape[1] > 0 and np.all(X[:, -1] == X[:1, -1]) and np.all(X[:, -1] != 0)):
        raise ValueError("free=1 needs the constant column of the bias as the last column of X")
    return X, theta


class _Fixed(Loss):
    """The linear loss ``-y f`` whose only dual variable is its target: what keeps theta where it is."""

    name = "fixed"

    def value(self, f: Array, y: Array, s: Array) -> float:
        return -float(np.sum(s * y * f))

    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        return -s * y

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        return np.zeros_like(f)

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        return 0.0 if np.array_equal(z, -s * y) else float("inf")


def _prediction(loss: Loss, theta: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return nearly the prediction whose negative loss gradient is theta (damped Newton)."""
    f = np.zeros(len(y))
    bound = 1.0 + float(np.max(np.abs(y))) + float(np.max(np.abs(theta / s)))
    for _ in range(20):
        bend = np.maximum(loss.hessian(f, y, s), 1e-3 * s)
        move = -(loss.gradient(f, y, s) + theta) / bend
        f = f + np.clip(move, -bound, bound)
    return f


def _points(
    rows: Rows,
    term: InteriorLoss,
    theta: np.ndarray,
    smooth: Loss | None,
    price: float,
    gap: float,
    max_iter: int,
    clock: _Clock,
    *,
    intercept: bool = False,
    pool: int = 1,
) -> Iterator[Envelope]:
    """Run the solver that suits the size until the iterations or the time are used up.

    The one for many features follows derivatives, and gets `smooth`: dual points of a smoothed loss are
    dual points of the loss. None keeps theta fixed.
    """
    fixed = smooth is None
    # neurons are measured in units of a likely mass, which keeps huge and tiny data in range
    mass = 1.0 if fixed else 0.3 * gap / price
    rows = replace(rows, h=rows.h * mass)
    price *= mass
    order = (rows.unit.shape[1] + 1) * (rows.unit.shape[1] + 2)
    if pool == 1 and order <= _LARGEST_ORDER and len(rows.h) * order * order <= _LARGEST_WORK:
        solver = interior_points(
            rows,
            term,
            0.0 if fixed else price,
            1.0,
            20.0 * gap,
            intercept=intercept,
            fixed_mass=fixed,
            max_iter=max_iter,
        )
    else:
        y, s, loss = term.y, term.s, smooth or term.loss
        solver = descent_points(
            rows,
            lambda f: (loss.gradient(f, y, s), loss.hessian(f, y, s)),
            lambda f: loss.value(f, y, s),
            theta,
            None if fixed else _prediction(loss, theta, y, s),
            price,
            1.0,
            balanced=intercept,
            rounds=-(-max_iter // 4),
            stop=clock.over,
            pool=pool,
        )
    while not clock.over():
        envelope = next(solver, None)
        if envelope is None:
            return
        yield replace(envelope, A=envelope.A / mass, B=envelope.B / mass)


def _scaled_proof(
    scaled: ScaledRows,
    envelope: Envelope,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    best: DualProof,
    pool: int = 1,
) -> DualProof:
    """Scale a dual point until it is feasible; return it if its bound beats `best`."""
    theta = envelope.theta
    if not np.isfinite(theta).all():
        return best
    rows = replace(envelope, theta=np.repeat(theta, pool))
    oracle = float(np.max(certify(scaled, rows))) * scaled.scale
    t = loss.best_scale(theta, y, s, beta / oracle if oracle > 0.0 else np.inf)
    bound = loss.dual(t * theta, y, s)
    if not (np.isfinite(t) and bound > best.bound):
        return best
    return DualProof(t * theta, t * oracle, bound)
