"""TODO"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular

from .losses import Loss
from .interior import Envelope, Rows, interior_points

_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class DualProof:
    theta: np.ndarray
    value: float
    bound: float


def _slopes_constant(excess, A):
    """max over 0<=r<=1 of excess r - A r^2"""
    top = np.clip(np.divide(excess, 2.0 * A, out=np.zeros_like(A), where=A > 0), 0.0, 1.0)
    inside = top * (excess - A * top)
    return np.maximum(np.maximum(inside, excess - A), 0.0)


def _quadratic_maximum(Q, g, D, error):
    p = len(g)
    root = 1.0 / np.sqrt(D)
    lam, V = eigh(Q * root[:, None] * root)
    c = (V.T @ (g * root)) ** 2 / 4.0
    total = float(np.sum(D)) if False else None
    return lam, c


def _ball_maximum(Q, g, weights, cost, error):
    """Upper bound of max u'Qu + g'u s.t. balls.  weights (p,) relative multipliers, cost = sum of balls' multipliers."""
    p = len(g)
    root = 1.0 / np.sqrt(weights)
    lam, V = eigh(Q * root[:, None] * root, check_finite=False)
    c = 0.25 * (V.T @ (g * root)) ** 2
    low = max(float(lam[-1]), 0.0)
    high = low + np.sqrt(float(np.sum(c)) / cost)
    floor = low
    for _ in range(100):
        mid = 0.5 * (low + high)
        if mid <= low or mid >= high:
            break
        if float(np.sum(c / (mid - lam) ** 2)) > cost:
            low = mid
        else:
            high = mid
    size = max(float(np.abs(lam).max()), high, 1e-300)
    best = np.inf
    for inflate in (1e-13, 1e-11, 1e-9, 1e-6):
        mu = max(high, floor + inflate * size)
        nu = float(np.sum(c / np.maximum(mu - lam, 1e-300)))
        M = np.zeros((p + 1, p + 1))
        M[:p, :p] = np.diag(mu * weights) - Q
        try:
            L = cholesky(M[:p, :p], lower=True, check_finite=False)
        except LinAlgError:
            continue
        nu = 0.25 * float(np.sum(solve_triangular(L, g, lower=True, check_finite=False) ** 2))
        delta = 0.0
        best = min(best, mu * cost + nu)
        break
    return best


def evaluate(rows: Rows, env: Envelope):
    out = []
    n = len(rows.h)
    for s, sign in enumerate((1.0, -1.0)):
        th = sign * rows.h * env.theta
        A, B = env.A[s], env.B[s]
        c = _slopes_constant(th + np.abs(B), A)
        Q = (rows.unit.T * A) @ rows.unit
        g = rows.unit.T @ (th + B)
        bw = env.balls[s] / env.balls[s].max()
        val = _ball_maximum(Q, g, bw[rows.balls], float(bw.sum()), 0.0)
        out.append(0.5 * (val + float(c.sum())))
    return np.array(out)
