r"""A lower bound on the training objective of every two-layer ReLU network with several outputs.

By duality every Z (n, outputs) with ``M(Z) = max_{|u| <= 1} |Z'(Xu)_+| <= beta`` bounds the objective of
all networks, of any width, from below by ``-L*(-Z)``. With z_i the rows of Z and g the direction of the
outputs, ``M(Z) = max_{|g|, |u| <= 1} sum_i (g'z_i) (x_i'u)_+``. For real a, b and l > 0

    a (b)_+  <=  max(0, a b)  <=  1/4 (sqrt(l) a + b / sqrt(l))^2,

so that for every positive diagonal matrix ``Lambda``, with the n x (outputs + d) matrix W below,

    M(Z)  <=  1/4 max_{|g|, |u| <= 1} |W (g, u)|^2  <=  1/2 ||W||_2^2,     W = [Lambda^1/2 Z,  Lambda^-1/2
    X].

The right-hand side is convex in ``log Lambda``. The best quadratic form that bounds ``a (b)_+`` everywhere
is this one (``alpha a^2 + c b^2 + gamma a b`` needs ``4 alpha c >= max(gamma, 1 - gamma)^2``), so it cannot
be improved without using that x_i'u is bounded. Scaling the residual of a network wastes most of the bound:
:func:`improve` moves Z and Lambda together. Whatever a descent returns, :func:`bound` recomputes the norm
and adds what rounding can hide.

An activation with slope s on the negative side, ``phi(b) = (1 + s)/2 b + (1 - s)/2 |b|``, has the bound ``a
phi(b) <= (1 + s)/2 a b + (1 - s)/4 (l a^2 + b^2 / l)``, which is the one above at s = 0. In place of W'W
stands the matrix with the blocks ``(1 - s) Z'Lambda Z``, ``(1 - s) X'Lambda^-1 X`` and ``(1 + s) Z'X``.

With one output per neuron (*separate*) the problem falls apart into one for every output, and
:mod:`cvxnn.bounds` bounds each. That gives, for the joint one, also ``M^2 <= sum_k M_k^2``, for any
orthonormal basis of the outputs: the only bound used here where the hidden bias is free.

References: Nesterov, "Semidefinite relaxation and nonconvex quadratic optimization", 1998 (the relaxation
that a diagonal matrix is dual to); Nocedal and Wright, Numerical Optimization, chapter 17.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .bounds import oracle_bound
from .losses import VectorLoss

_EPS = float(np.finfo(np.float64).eps)
#: Powers of the eigenvalues whose sum stands for the largest one, in rounds of a descent.
POWERS = (4.0, 16.0, 64.0)
Map = Callable[[np.ndarray], np.ndarray]
#: Rounds without a rise of the bound by more than this share after which :func:`improve` gives up.
IDLE = (12, 1e-5)


def bound(X: np.ndarray, Z: np.ndarray, logs: np.ndarray, slope: float = 0.0) -> float:
    """Return ``1/2 ||[Lambda^1/2 Z, Lambda^-1/2 X]||^2`` for ``Lambda = diag(exp(logs))``, rounded up.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Z : ndarray of shape (n, outputs)
    logs : ndarray of shape (n,)
    slope : float
        Of the activation on the negative side, in [-1, 1).
    """
    gram, size = _gram(X, Z, logs, slope)
    if not np.isfinite(size):
        return float("inf")
    top = float(np.linalg.eigvalsh(gram)[-1])
    # the error of the products and of the eigenvalue, relative to the trace
    return 0.5 * (top + 8.0 * (len(X) + len(gram) ** 2) * _EPS * size)


def _gram(X: np.ndarray, Z: np.ndarray, logs: np.ndarray, slope: float) -> tuple[np.ndarray, float]:
    root = np.exp(0.5 * logs)[:, None]
    W = np.hstack([Z * root, X / root])
    gram = W.T @ W
    return gram * _blocks(Z.shape[1], X.shape[1], slope), (1.0 + abs(slope)) * float(np.trace(gram))


def _blocks(outputs: int, d: int, slope: float) -> np.ndarray:
    """What the blocks of W'W are multiplied with for an activation of this slope."""
    first = np.arange(outputs + d) < outputs
    return np.where(first[:, None] == first, 1.0 - slope, 1.0 + slope)


def start(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Return the logs of ``Lambda = |x_i| / |z_i|``, scaled so that both blocks of W have one norm."""
    x, z = np.linalg.norm(X, axis=1), np.linalg.norm(Z, axis=1)
    floor = 1e-6 * float(np.max(z, initial=0.0)) or 1.0
    logs = np.log(np.maximum(x, 1e-12 * (np.max(x, initial=0.0) or 1.0))) - np.log(np.maximum(z, floor))
    root = np.exp(0.5 * logs)[:, None]
    one, two = np.linalg.norm(Z * root, 2), np.linalg.norm(X / root, 2)
    return logs + (np.log(two / one) if one > 0 and two > 0 else 0.0)


def oracle_bounds(
    X: np.ndarray,
    Z: np.ndarray,
    *,
    free: int = 0,
    slope: float = 0.0,
    max_iter: int = 60,
    max_time: float = float("inf"),
) -> float:
    """Bound ``max_{|u| <= 1} |Z'phi(Xu)|`` from above.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Z : ndarray of shape (n, outputs)
    free : {0, 1}
        1 if the last column of X is the constant of a bias that is not penalised.
    slope : float
        Of the activation on the negative side, in [-1, 1).
    max_iter : int
        Steps of the descent; the result is valid after any number, also 0.
    max_time : float
        Seconds after which it stops; valid then too.

    Returns
    -------
    float
        Infinity where the oracle is unbounded (``free=1`` and columns of Z that do not sum to zero).
    """
    end = time.perf_counter() + max_time
    size = float(np.max(np.abs(Z), initial=0.0))
    if size == 0.0:
        return 0.0
    if free:
        _, strengths, basis = np.linalg.svd(Z / size, full_matrices=False)
        real = strengths > 1e-13 * strengths[0]
        columns = (Z @ basis[real].T).T
        parts = [
            oracle_bound(X, column, free=free, slope=slope, max_iter=min(max_iter, 20))
            for column in columns
        ]
        # what is left out is rounding, and so are the sums of columns that are not quite zero
        lost = 1e-13 * strengths[0] * size * float(np.sum(np.linalg.norm(X[:, :-1], axis=1))) * 4.0
        return float(np.linalg.norm(parts)) * (1.0 + 1e-12) + lost
    if not np.any(X):
        return 0.0
    X, reach = X / np.max(np.abs(X)), float(np.max(np.abs(X)))
    Z = Z / size
    logs = start(X, Z)
    best = bound(X, Z, logs, slope)
    for power in POWERS if max_iter >= len(POWERS) else ():

        def value(v: np.ndarray, power: float = power) -> tuple[float, np.ndarray]:
            top, _, move = _smooth_top(X, Z, v, power, slope)
            if not np.isfinite(top):
                return float("inf"), move
            return np.log(top), move / top

        if time.perf_counter() > end:
            break
        found = _minimised(value, logs, max_iter // 3, end)
        now = bound(X, Z, found, slope)
        if now < best:
            best, logs = now, found
    return best * reach * size * (1.0 + 4.0 * _EPS)


def _minimised(value: Callable[..., Any], first: np.ndarray, max_iter: int, end: float) -> np.ndarray:
    """L-BFGS from `first` for so many steps, or until the clock is at `end`."""

    def watch(v: np.ndarray) -> None:
        if time.perf_counter() > end:
            raise StopIteration

    options = {"maxiter": max_iter}
    return minimize(value, first, jac=True, method="L-BFGS-B", options=options, callback=watch).x


def _smooth_top(
    X: np.ndarray, Z: np.ndarray, logs: np.ndarray, power: float, slope: float = 0.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """The power mean of the eigenvalues of W'W that stands for the largest, with its slopes in Z and
    logs; of its blocks as the activation has them."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        root = np.exp(0.5 * logs)[:, None]
        A, B = Z * root, X / root
    W = np.hstack([A, B])
    if not np.all(np.isfinite(W)) or np.max(np.abs(W), initial=0.0) > 1e150:
        # a step of a descent too far: its line search turns back
        return float("inf"), np.zeros_like(Z), np.zeros_like(logs)
    blocks = _blocks(Z.shape[1], X.shape[1], slope)
    size, basis = np.linalg.eigh((W.T @ W) * blocks)
    share = np.maximum(size / size[-1], 0.0) ** power
    total = float(np.sum(share))
    top = float(size[-1]) * total ** (1.0 / power)
    # d top / d gram = basis diag(weight) basis'
    weight = top / total * share / np.maximum(size, 1e-300)
    seen = W @ (((basis * weight) @ basis.T) * blocks)
    C = Z.shape[1]
    tilt = np.sum(seen[:, :C] * A, axis=1) - np.sum(seen[:, C:] * B, axis=1)
    return top, 2.0 * seen[:, :C] * root, tilt


def improve(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: VectorLoss,
    beta: float,
    f: np.ndarray,
    *,
    intercept: bool = False,
    slope: float = 0.0,
    spread: Map | None = None,
    gather: Map | None = None,
    max_iter: int = 40,
    max_time: float = float("inf"),
) -> tuple[np.ndarray, float]:
    """Find a dual point with a high proven bound.

    The point is ``Z = -grad L(f)``, which keeps it in the domain, where ``-L*(-Z) = L(f) + f'Z``; the
    constraint ``M <= beta`` enters through an augmented Lagrangian, in f and log Lambda together.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y, f : ndarrays of shape (n, outputs)
        Targets, and a prediction to start from.
    s : ndarray of shape (n,)
    intercept : bool
        Whether columns of the dual point have to sum to zero.
    slope : float
        Of the activation on the negative side, in [-1, 1).
    spread, gather : callables, or None
        A linear map from dual points to what the rows of X see of them, and its adjoint, where a sample has
        several rows of X; None where rows are samples.
    max_iter : int
        Rounds of descent, ten steps each; the result is valid after any number.
    max_time : float
        Seconds.

    Returns
    -------
    Z : ndarray of shape (n, outputs)
        Scaled until it is feasible.
    value : float
        No network of any width has a lower objective than this.
    """
    end = time.perf_counter() + max_time
    reach = float(np.max(np.abs(X), initial=0.0))
    if reach == 0.0:
        Z = _dual_point(loss, y, s, f, intercept)
        t = loss.best_scale(Z, y, s, float("inf"))
        return t * Z, loss.dual(t * Z, y, s)
    X, price = X / reach, beta / reach
    spread, gather = spread or _same, gather or _same
    best: tuple[np.ndarray, float] = (np.zeros_like(y), loss.dual(np.zeros_like(y), y, s))
    logs = start(X, spread(_dual_point(loss, y, s, f, intercept)))

    def look(f: np.ndarray, logs: np.ndarray) -> None:
        nonlocal best
        Z = _dual_point(loss, y, s, f, intercept)
        if not np.all(np.isfinite(Z)):
            return
        value = bound(X, spread(Z), logs, slope)
        t = loss.best_scale(Z, y, s, price / value if value > 0 else float("inf"))
        proven = loss.dual(t * Z, y, s)
        if np.isfinite(t) and proven > best[1]:
            best = t * Z, proven

    look(f, logs)
    kappa = rho = max(best[1], 1e-3 * loss.value(np.zeros_like(y), y, s), 1e-300)
    shape, cut = f.shape, f.size
    paid, before = 0, best[1]
    for k in range(max_iter):
        if best[1] > before + IDLE[1] * abs(before):
            paid, before = k, best[1]
        if time.perf_counter() > end or k - paid > IDLE[0]:
            break
        power = POWERS[min(k // 4, len(POWERS) - 1)]
        lagrangian = _lagrangian(
            X, y, s, loss, price, intercept, kappa, rho, power, shape, slope, spread, gather
        )
        first = np.concatenate([f.ravel(), logs])
        found = _minimised(lagrangian, first, 10, end)
        if not np.all(np.isfinite(found)):
            break
        f, logs = found[:cut].reshape(shape), found[cut:]
        look(f, logs)
        point = _dual_point(loss, y, s, f, intercept)
        excess = 0.5 * _smooth_top(X, spread(point), logs, power, slope)[0] / price - 1.0
        kappa = max(0.0, kappa + rho * excess)
        if k % 4 == 3:
            rho *= 2.0
    return best


def _same(Z: np.ndarray) -> np.ndarray:
    """The map of a sample that is one row of X."""
    return Z


def _dual_point(
    loss: VectorLoss, y: np.ndarray, s: np.ndarray, f: np.ndarray, intercept: bool
) -> np.ndarray:
    if not intercept:
        return -loss.gradient(f, y, s)
    return loss.balance(-loss.gradient(f + loss.intercept(f, y, s), y, s))


def _lagrangian(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: VectorLoss,
    price: float,
    intercept: bool,
    kappa: float,
    rho: float,
    power: float,
    shape: tuple[int, ...],
    slope: float,
    spread: Map,
    gather: Map,
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """``-D(Z(f)) + (max(0, kappa + rho (M / beta - 1))^2 - kappa^2) / (2 rho)`` with its gradient."""
    cut = int(np.prod(shape))
    unit = np.eye(shape[1])

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        f, logs = v[:cut].reshape(shape), v[cut:]
        if intercept:
            f = f + loss.intercept(f, y, s)
        Z = -loss.gradient(f, y, s)
        dual = loss.value(f, y, s) + float(np.sum(f * Z))
        top, slope_Z, slope_logs = _smooth_top(X, spread(Z), logs, power, slope)
        if not np.isfinite(top):
            return float("inf"), np.zeros_like(v)
        force = max(0.0, kappa + rho * (0.5 * top / price - 1.0))
        total = -dual + (force * force - kappa * kappa) / (2.0 * rho)
        # the derivative in Z; that in f follows through Z = -grad L(f), and through the intercept
        G = force * 0.5 / price * gather(slope_Z) - f
        if intercept:
            H = np.array([np.sum(loss.curve(f, y, s, np.tile(e, (shape[0], 1))), axis=0) for e in unit])
            right: Any = np.sum(loss.curve(f, y, s, G), axis=0)
            G = G - np.linalg.lstsq(H, right, rcond=1e-12)[0]
        slope_f = -loss.curve(f, y, s, G)
        return total, np.concatenate([slope_f.ravel(), force * 0.5 / price * slope_logs])

    return value
