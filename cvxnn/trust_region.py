r"""Quadratic functions on the unit sphere: the exact maximum, and a bound that needs no faith in it.

For a symmetric A and any g, with A = V diag(lambda) V' and h = V'g / 2,

    max over ||u|| = 1 of u'Au + g'u  =  min over rho >= lambda_max of rho + sum_i h_i^2 / (rho - lambda_i):

the Lagrangian dual, without a gap although the sphere is not convex (the S-lemma). Every rho gives an upper
bound, so a bound is valid however well the minimum was found. At the minimum

    sum_i h_i^2 / (rho - lambda_i)^2 = 1         (the secular equation),     u_i = h_i / (rho - lambda_i),

whose root is found by Newton's method on the reciprocal of the root of the left side, which is nearly
linear and approached from one side. In the *hard case* h vanishes on the top eigenspace and the left side
is below one at lambda_max: then rho = lambda_max, and a top eigenvector makes up for the missing length.
All distances are taken from lambda_max, as ``delta = rho - lambda_max``, so that no digits are lost where
delta is small.

Many problems of one size are solved at once. One eigendecomposition serves the maxima of both signs.

References: More and Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput. 1983; Polik and
Terlaky, "A survey of the S-lemma", SIAM Review 2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Newton steps on the secular equation at most; from one side they converge in about ten.
STEPS = 60


@dataclass(frozen=True, eq=False)
class Maxima:
    """The maxima of quadratic functions on unit spheres.

    Parameters
    ----------
    bound : ndarray of shape (k,)
        Upper bounds of the maxima, up to rounding (:func:`rounding`).
    found : ndarray of shape (k,)
        Values at `points`, at most the maxima.
    points : ndarray of shape (k, d)
        Unit vectors.
    """

    bound: np.ndarray
    found: np.ndarray
    points: np.ndarray


def sphere_maxima(A: np.ndarray, g: np.ndarray) -> tuple[Maxima, Maxima]:
    """Maximise ``u'Au + g'u`` and ``-(u'Au + g'u)`` over unit vectors.

    Parameters
    ----------
    A : ndarray of shape (k, d, d)
        Symmetric matrices.
    g : ndarray of shape (k, d)

    Returns
    -------
    upper, lower : Maxima
        Of the functions, and of their negatives.
    """
    values, V = np.linalg.eigh(A)
    h = 0.5 * np.einsum("kij,ki->kj", V, g)
    upper = _maxima(values, h)
    lower = _maxima(-values[:, ::-1], -h[:, ::-1])
    return (
        Maxima(upper.bound, upper.found, np.einsum("kij,kj->ki", V, upper.points)),
        Maxima(lower.bound, lower.found, np.einsum("kij,kj->ki", V[:, :, ::-1], lower.points)),
    )


def _maxima(values: np.ndarray, h: np.ndarray) -> Maxima:
    """The maxima of ``sum_i values_i u_i^2 + 2 h_i u_i``, values ascending."""
    gaps = values[:, -1:] - values
    size = np.linalg.norm(h, axis=1)
    scale = np.maximum(np.maximum(np.abs(values[:, -1]), gaps[:, 0]), size)
    tiny = 1e-17 * np.where(scale > 0, scale, 1.0)
    delta = secular_root(gaps, h, tiny)
    spread = delta[:, None] + gaps
    u = h / spread
    bound = values[:, -1] + delta + np.sum(h * u, axis=1)
    # what is missing to length one belongs to the top eigenvector, on the side h points to
    missing = np.maximum(1.0 - np.sum(u * u, axis=1) + u[:, -1] ** 2, 0.0)
    short = np.sum(u * u, axis=1) < 1.0
    side = np.where(h[:, -1] < 0, -1.0, 1.0)
    u[:, -1] = np.where(short, side * np.sqrt(missing), u[:, -1])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return Maxima(bound, np.sum(u * (values * u + 2.0 * h), axis=1), u)


def secular_root(gaps: np.ndarray, h: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return the root delta of ``sum_i h_i^2 / (delta + gaps_i)^2 = 1``, or `least` if it is below.

    Parameters
    ----------
    gaps : ndarray of shape (k, d)
        Not negative.
    h : ndarray of shape (k, d)
    least : ndarray of shape (k,)
        Positive.

    Returns
    -------
    ndarray of shape (k,)
    """
    # each summand alone, and all with the largest denominator, enclose the root
    low = np.maximum(np.max(np.abs(h) - gaps, axis=1), least)
    high = np.maximum(np.linalg.norm(h, axis=1), low)
    delta = low.copy()
    for _ in range(STEPS):
        share = h / (delta[:, None] + gaps)
        size = np.linalg.norm(share, axis=1)
        low, high = np.where(size > 1.0, delta, low), np.where(size > 1.0, high, delta)
        slope = np.sum(share * share / (delta[:, None] + gaps), axis=1)
        step = np.divide(size * size * (size - 1.0), slope, out=np.zeros_like(size), where=slope > 0)
        new = delta + step
        outside = (new < low) | (new > high)
        new = np.where(outside, 0.5 * (low + high), new)
        new = np.maximum(new, least)
        if np.all(np.abs(new - delta) <= 1e-16 * new):
            break
        delta = new
    return delta


def rounding(size: np.ndarray | float, terms: int, order: int) -> np.ndarray | float:
    """Return how far off a bound of :func:`sphere_maxima` may be, for matrices that are sums.

    Parameters
    ----------
    size : ndarray or float
        The sum of the sizes of the terms of ``A`` and ``g``: the bound if nothing cancelled.
    terms : int
        Their number.
    order : int
        The order d of the matrices.
    """
    return 4e-16 * (terms**0.5 + order + 8.0) * size
