r"""Newton's method with conjugate gradients in a trust region, for many unknowns.

A step minimises the quadratic model within a ball of the current radius by conjugate gradients (Steihaug);
where curvature turns out negative, or the ball ends, the step goes to the boundary. The Hessian is only
ever applied to vectors. A diagonal preconditioner is the metric of the ball. On piecewise smooth functions
a step over a kink disappoints its model, and the radius shrinks.

Reference: Steihaug, SIAM J. Numer. Anal. 1983; Nocedal and Wright, Numerical Optimization, algorithm 7.2.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Curved(Protocol):
    """A quadratic form."""

    def curve(self, p: np.ndarray) -> np.ndarray:
        """Return the Hessian at the current point times ``p``."""


class Smooth(Curved, Protocol):
    """A function with first and second derivatives at its current point."""

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Move to ``x``; return value and gradient."""

    def metric(self) -> np.ndarray:
        """Return positive numbers of about the size of the Hessian's diagonal."""


def minimise(
    function: Smooth, x: np.ndarray, *, max_iter: int = 30, max_products: int = 1000, tol: float = 1e-9
) -> np.ndarray:
    """Minimise from ``x``.

    Parameters
    ----------
    function : Smooth
    x : ndarray of shape (k,)
    max_iter : int
        Steps.
    max_products : int
        Products with the Hessian in all.
    tol : float
        Stop where the gradient, in the dual metric, has fallen to this share of its first size.

    Returns
    -------
    ndarray of shape (k,)
    """
    value, gradient = function.at(x)
    first, radius, left = 0.0, np.inf, max_products
    for k in range(max_iter):
        metric = function.metric()
        size = float(np.sqrt(np.sum(gradient * gradient / metric)))
        first = size if k == 0 else first
        if size <= tol * first or left <= 0:
            break
        step, drop, used = steihaug(
            function, gradient, metric, radius, min(0.1, (size / first) ** 0.5), left
        )
        left -= used
        with np.errstate(over="ignore"):  # a model that is all but flat has steps without end
            length = float(np.sqrt(np.sum(step * step * metric)))
        if not np.isfinite(length):
            break
        new, slope = function.at(x + step)
        ratio = (value - new) / drop if drop > 0 else -1.0
        if ratio < 0.25 or not np.isfinite(new):
            radius = 0.25 * length
        elif ratio > 0.75 and length > 0.9 * radius:
            radius = 2.0 * radius
        if np.isfinite(new) and new < value:
            x, value, gradient = x + step, new, slope
        else:
            function.at(x)
            if length <= 1e-14 * float(np.sqrt(np.sum(x * x * metric))):
                break
    return x


def steihaug(
    function: Curved, gradient: np.ndarray, metric: np.ndarray, radius: float, share: float, most: int
) -> tuple[np.ndarray, float, int]:
    """Steihaug's step: the step, the decrease its model promises, and the products it took."""
    p, r = np.zeros_like(gradient), gradient.copy()
    z = r / metric
    d, rz = -z, float(r @ z)
    target, drop, used = share * share * rz, 0.0, 0
    while used < most:
        Hd = function.curve(d)
        used += 1
        bend = float(d @ Hd)
        length = rz / bend if bend > 0 else np.inf
        end = _boundary(p, d, metric, radius) if np.isfinite(radius) else np.inf
        if length >= end or bend <= 0:
            # without a radius yet, negative curvature is followed as far as the model is steep
            length = end if np.isfinite(end) else 1.0
            drop -= length * float(r @ d) + 0.5 * length * length * bend
            return p + length * d, drop, used
        drop -= length * float(r @ d) + 0.5 * length * length * bend
        p, r = p + length * d, r + length * Hd
        z = r / metric
        new = float(r @ z)
        if new <= target:
            break
        d, rz = -z + (new / rz) * d, new
    return p, drop, used


def _boundary(p: np.ndarray, d: np.ndarray, metric: np.ndarray, radius: float) -> float:
    """The positive t at which ``p + t d`` leaves the ball."""
    a, b = float(np.sum(d * d * metric)), float(np.sum(p * d * metric))
    c = float(np.sum(p * p * metric)) - radius * radius
    return (-b + np.sqrt(max(b * b - a * c, 0.0))) / a
