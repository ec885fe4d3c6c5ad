r"""Lifted neurons whose hidden weights pay a norm of their features: those of circular convolutions, say.

A neuron u pays ``Omega(u) = sum_j c_j |u_j|`` over parts u_j of its coordinates: groups, and single ones
where the norm has a share of their sizes (:mod:`cvxnn.feature_penalties`). The sizes of the parts are
coordinates of their own, ``s_j = |u_j|``, so that the norm is linear and the cost quadratic:

    xi = (q, u, s),  h = sum_j c_j s_j,  cost h^2       (one output, each sign of its weight),
    xi = (q, u, s, g),                   cost 1/2 (h^2 + |g|^2)      (several),

with q as in :mod:`cvxnn.bounds_lifts`. What is known besides is

- ``s_j^2 - |u_j|^2 = 0``;
- ``s_j ± u_k`` are not negative for the coordinates k of part j, nor are ``sqrt(2) s_j ± u_k ± u_l`` where
  a part has the two coordinates k and l, as frequencies have: eight half-planes around a disc;
- with one output ``r_i h - p_i - q_i`` is not negative, ``r_i`` the polar of Omega at x_i, and ``h ± b``
  for a free bias b measured in its reach.

Since ``Omega(u) >= |u|``, the lift of weight decay is one for this norm too; it is weaker.

References: derived here, after Prakhya, Birdal and Yurtsever, ICLR 2025; Ergen and Pilanci, ICLR 2021
(circular convolutions).
"""

from __future__ import annotations

import numpy as np

from .bounds_lift_rows import Directions, coordinates, directions_of, hidden_outputs
from .bounds_lifts import (
    MOST_UNKNOWNS,
    Lift,
    Lifts,
    bounded_bias,
    check_count,
    check_size,
    product,
    unknowns,
)
from .feature_penalties import FeatureNorm

#: Share by which computed lengths are raised.
_MORE = 1.0 + 1e-12


def norm_lifts(X: np.ndarray, outputs: int, norm: FeatureNorm, *, most: int = MOST_UNKNOWNS) -> Lifts:
    """Return the lifts of ReLU neurons whose weights pay a norm.

    Parameters
    ----------
    X : ndarray of shape (n, r)
        With a free bias its constant is the last column, and dual variables must sum to zero.
    outputs : int
    norm : FeatureNorm
    most : int
        Unknowns that are acceptable.

    Raises
    ------
    TooLarge
        If the program would have more.
    """
    check_count(len(X))
    X, bias = bounded_bias(X, norm.free)
    rows, parts = directions_of(X), _parts(norm)
    signs = (1.0, -1.0) if outputs == 1 else (0.0,)
    order = len(rows.unit) + X.shape[1] + len(parts) + (0 if outputs == 1 else outputs)
    bounds = sum(8 if len(part) == 2 else 2 * len(part) for part, _ in parts)
    functions = 2 * len(rows.unit) + bounds + (len(rows.unit) + 2 * norm.free if outputs == 1 else 0)
    check_size(len(signs) * unknowns(order, functions), most)
    lost = rows.lost * np.sqrt(1.0 + norm.free)  # the norm is at least the Euclidean one
    return Lifts(tuple(_lift(rows, outputs, norm, parts, sign) for sign in signs), lost, bias)


def _parts(norm: FeatureNorm) -> list[tuple[list[int], float]]:
    """The parts whose sizes the norm adds up, and their weights."""
    singles = [([k], norm.share) for row in norm.groups for k in row]
    groups = [(list(row), 1.0 - norm.share) for row in norm.groups]
    return [part for part in (*singles, *groups) if part[1] > 0.0]


def _lift(
    rows: Directions, outputs: int, norm: FeatureNorm, parts: list[tuple[list[int], float]], sign: float
) -> Lift:
    """The lift of the neurons with one output weight of a sign, or of all of them where that is zero."""
    p, q, u, rest = coordinates(rows, len(parts) + (0 if sign else outputs))
    s, g = rest[: len(parts)], rest[len(parts) :]
    h = np.array([weight for _, weight in parts]) @ s
    bounds = [row for (part, _), size in zip(parts, s, strict=True) for row in _bounds(u[part], size)]
    functions = [p, q, np.array(bounds)]
    if sign:
        bias = u[len(u) - norm.free :]
        functions += [_reach(rows, norm)[:, None] * h - p - q, h + bias, h - bias]
    squares = [np.outer(size, size) - u[part].T @ u[part] for (part, _), size in zip(parts, s, strict=True)]
    cost = np.outer(h, h)
    positive = cost[None] - product(u[len(u) - norm.free :], u[len(u) - norm.free :])
    reach = np.linalg.norm(rows.unit, axis=1) * np.sqrt(1.0 + norm.free) * _MORE
    # at unit neurons |u| <= Omega(u) = 1, and their parts are those of u once or twice
    size = float(np.sum(reach**2)) + 4.0 + norm.free
    return Lift(
        np.vstack(functions),
        hidden_outputs(rows, p, q, 0.0)[None],
        (sign * h[None] if sign else g)[None],
        u,
        cost if sign else 0.5 * (cost + g.T @ g),
        np.concatenate([product(p, q), np.array(squares)]),
        positive if norm.free and not sign else np.zeros((0, *cost.shape)),
        size,
        len(p),
    )


def _bounds(u: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
    """What a part of the weights says of its size: functions that are not negative."""
    found = [row for each in u for row in (size + each, size - each)]
    if len(u) == 2:
        root = np.sqrt(2.0) * _MORE
        found += [root * size + a * u[0] + b * u[1] for a in (1.0, -1.0) for b in (1.0, -1.0)]
    return found


def _reach(rows: Directions, norm: FeatureNorm) -> np.ndarray:
    """How large a unit neuron may be on the directions, its bias included."""
    plain = FeatureNorm(norm.groups, norm.share)
    kept = rows.unit[:, : rows.unit.shape[1] - norm.free]
    constant = np.sum(np.abs(rows.unit[:, kept.shape[1] :]), axis=1)
    return np.asarray((plain.polar(kept) + constant) * _MORE)
