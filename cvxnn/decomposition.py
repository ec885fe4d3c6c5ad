r"""A ReLU network from a gated one: cone decompositions.

A gated neuron passes ``x'w`` where its gate is open, whatever the sign; a ReLU neuron with weights u does
the same on the training data if u lies in the cone of the gate's pattern,
``K = { u : (2 D - I) X u >= 0 }``. So a gated network becomes a ReLU network
with the same training predictions as soon as each weight vector is a difference

    w = u - v,      u, v in K,

which is possible for every w exactly if K has an interior. A gate g with ``x_i'g != 0`` for all samples is
a point of it, and gives one in closed form,

    v = t g,   u = w + t g,   t = max_i ( -(A w)_i / (A g)_i )_+,      A = (2 D - I) X,

of size ``|u| + |v| <= |w| (1 + 2 max_i |x_i| |g| / |x_i'g|)``. The gate that makes the bound smallest is
the one deepest inside the cone. The difference of least ``|u| + |v|`` is a second-order cone program; a
cheap approximation minimises the violation of the two cones and repairs what is left in closed form.

Away from the training data the two networks differ, and the ReLU network costs more: up to
``beta * sum (|u| + |v| - |w|)``, which is how far the gated optimum can be below the ReLU one.

References: Mishkin, Sahiner and Pilanci, "Fast convex optimization for two-layer ReLU networks", ICML 2022,
section 3 (the decompositions and their bounds). The closed form is derived above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse
from scipy.optimize import linprog, minimize

from .arrays import to_numpy
from .network import Affine, Gated, Network

__all__ = ["Decomposition", "decompose", "deepest_gate", "relu_from_gated"]

Method = Literal["min_norm", "closed_form", "approximate"]
#: Weight of the norm in the approximate decomposition, relative to the violation.
LIGHT = 1e-8
#: A gate is inside its cone if it keeps this distance from every sample, relative.
INSIDE = 1e-9


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The ReLU network of a gated one, and what it cost.

    Parameters
    ----------
    network : Network
        ReLU, with the gated network's predictions on the training data.
    gated_cost, cost : float
        R of the gated network and of this one, after balancing.
    bound : float
        What R can be at most, by the closed form with the deepest gates.
    violation : float
        The largest difference of training predictions, measured.
    """

    network: Network
    gated_cost: float
    cost: float
    bound: float
    violation: float

    @property
    def blow_up(self) -> float:
        """``cost / gated_cost``; 1 for a network without neurons."""
        return self.cost / self.gated_cost if self.gated_cost > 0 else 1.0


def deepest_gate(A: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the unit vector deepest inside ``{ u : A u >= 0 }``, and its depth.

    Parameters
    ----------
    A : ndarray of shape (n, d)
        ``(2 D - I) X``; zero rows do not count.

    Returns
    -------
    g : ndarray of shape (d,)
    depth : float
        ``min_i a_i'g / |a_i|``; 0 if the cone has no interior.
    """
    norms = np.linalg.norm(A, axis=1)
    rows = A[norms > 0] / norms[norms > 0, None]
    d = A.shape[1]
    if len(rows) == 0:
        return np.eye(d)[0], 1.0
    x = _conic(
        np.append(np.zeros(d), -1.0),
        np.vstack([np.column_stack([-rows, np.ones(len(rows))]), np.eye(d + 1)[:0]]),
        np.zeros(len(rows)),
        [(np.eye(d, d + 1), 1.0)],
    )
    best, depth = np.eye(d)[0], 0.0
    candidates = [x[:d]] if x is not None else []
    # a linear program over a box decides where the conic solver stays undecided
    box = [(-1.0, 1.0)] * d + [(None, 1.0)]
    flat = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([-rows, np.ones(len(rows))]),
        b_ub=np.zeros(len(rows)),
        bounds=box,
        method="highs",
    )
    candidates += [flat.x[:d]] if flat.status == 0 else []
    for g in candidates:
        size = float(np.linalg.norm(g))
        inside = float(np.min(rows @ g)) / size if size > 0 else 0.0
        if inside > max(depth, INSIDE):
            best, depth = g / size, inside
    return best, depth


def decompose(
    A: np.ndarray, w: np.ndarray, method: Method = "min_norm"
) -> tuple[np.ndarray, np.ndarray, float]:
    """Write ``w = u - v`` with u and v in the cone ``{ u : A u >= 0 }``.

    Parameters
    ----------
    A : ndarray of shape (n, d)
    w : ndarray of shape (d,)
    method : {"min_norm", "closed_form", "approximate"}

    Returns
    -------
    u, v : ndarrays of shape (d,)
        In the cone, to rounding.
    bound : float
        What ``|u| + |v|`` of the closed form is at most.

    Raises
    ------
    ValueError
        If the method is unknown, or the cone has no interior and neither w nor -w lies in it.
    """
    if method not in ("min_norm", "closed_form", "approximate"):
        raise ValueError(f"method={method!r} is unknown: pass 'min_norm', 'closed_form' or 'approximate'")
    size = float(np.linalg.norm(w))
    scale = np.linalg.norm(A, axis=1) * size
    # nothing to do where the neuron has one sign on its open gate
    for sign in (1.0, -1.0):
        if np.all(sign * (A @ w) >= -1e-14 * scale):
            return (w, np.zeros_like(w), size) if sign > 0 else (np.zeros_like(w), -w, size)
    g, depth = deepest_gate(A)
    if depth == 0.0:
        raise ValueError(
            "the cone of a gate's pattern has no interior, so that not every weight is a difference of "
            "two of its points: pass gates with x_i'g != 0 for all samples"
        )
    bound = size * (1.0 + 2.0 / depth)
    v = _repaired(A, w, g, np.zeros_like(w))
    if method != "closed_form":
        near = _least_norm(A, w) if method == "min_norm" else _approximate(A, w)
        if near is not None:
            near = _repaired(A, w, g, near)
            v = min((v, near), key=lambda v: np.linalg.norm(w + v) + np.linalg.norm(v))
    return w + v, v, bound


def _repaired(A: np.ndarray, w: np.ndarray, g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``v + t g`` with the least t that puts it and ``w + v`` into the cone."""
    depth = A @ g
    rows = depth > 0
    lack = np.maximum(-np.minimum(A @ v, A @ (w + v)), 0.0)
    return v + float(np.max(lack[rows] / depth[rows], initial=0.0)) * g


def _approximate(A: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Minimise half the squared violation of both cones, with a light weight on the norm."""
    b = np.maximum(-(A @ w), 0.0)
    unit = float(np.max(b)) or 1.0

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        lack = np.maximum(b - A @ v, 0.0)
        return 0.5 * float(lack @ lack) + LIGHT * unit * float(v @ v), -A.T @ lack + 2 * LIGHT * unit * v

    return minimize(value, np.zeros_like(w), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def _least_norm(A: np.ndarray, w: np.ndarray) -> np.ndarray | None:
    """Minimise ``|w + v| + |v|`` over ``A v >= max(-A w, 0)``."""
    d, size = len(w), float(np.linalg.norm(w))
    norms = np.linalg.norm(A, axis=1)
    rows, unit = A[norms > 0] / norms[norms > 0, None], w / size
    # unknowns v, s >= |w + v|, t >= |v|
    b = np.maximum(-(rows @ unit), 0.0)
    linear = np.column_stack([-rows, np.zeros((len(rows), 2))])
    pick, zero = np.eye(d, d + 2), np.zeros(d + 2)
    heads = [np.eye(d + 2)[d], np.eye(d + 2)[d + 1]]
    x = _conic(
        np.append(np.zeros(d), [1.0, 1.0]),
        linear,
        -b,
        [(np.vstack([heads[0], pick]), np.append(0.0, unit)), (np.vstack([heads[1], pick]), zero[: d + 1])],
    )
    return None if x is None else size * x[:d]


def _conic(
    cost: np.ndarray, A: np.ndarray, b: np.ndarray, cones: list[tuple[np.ndarray, Any]]
) -> np.ndarray | None:
    """Minimise ``cost'x`` with ``A x <= b`` and ``M x + h`` in second-order cones, by Clarabel.

    A cone ``(M, radius)`` with a number stands for ``|M x| <= radius``. None if it fails.
    """
    import clarabel

    parts, right = [A], [b]
    kinds = [clarabel.NonnegativeConeT(len(b))]
    for M, h in cones:
        if np.ndim(h) == 0:
            M, h = np.vstack([np.zeros(M.shape[1]), M]), np.append(float(h), np.zeros(len(M)))
        parts.append(-M)
        right.append(h)
        kinds.append(clarabel.SecondOrderConeT(len(M)))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    size = len(cost)
    result = clarabel.DefaultSolver(
        sparse.csc_matrix((size, size)),
        cost,
        sparse.csc_matrix(np.vstack(parts)),
        np.concatenate(right),
        kinds,
        settings,
    ).solve()
    x = np.array(result.x)
    return x if np.all(np.isfinite(x)) and "Solved" in str(result.status) else None


def relu_from_gated(network: Any, X: Any, *, method: Method = "min_norm") -> Decomposition:
    """Convert a gated network to a ReLU network with the same predictions on ``X``.

    Parameters
    ----------
    network : Network, or a fitted estimator with ``architecture="gated_relu"``
    X : array-like of shape (n, d)
        The training data.
    method : {"min_norm", "closed_form", "approximate"}, default="min_norm"
        Least ``|u| + |v|`` for each neuron; or in closed form; or by smooth descent and repair.

    Returns
    -------
    Decomposition

    Raises
    ------
    ValueError
        If the network is not gated, does not fit the data, or a cone has no interior.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ConvexNetRegressor, relu_from_gated
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> model = ConvexNetRegressor(architecture="gated_relu", patterns=30).fit(X, X[:, 0] * X[:, 1])
    >>> relu_from_gated(model, X).violation < 1e-9
    True
    """
    network = getattr(network, "network_", network)
    first, last = (network.layers[0], network.layers[-1]) if isinstance(network, Network) else (None, None)
    if not isinstance(first, Gated) or not isinstance(last, Affine) or last.weight.shape[1] != 1:
        raise ValueError("the network is not gated with one output: train with architecture='gated_relu'")
    X = np.asarray(to_numpy(X), dtype=np.float64)
    if X.ndim != 2 or X.shape[1] != network.n_features:
        raise ValueError(f"X has shape {X.shape}: pass the (n, {network.n_features}) training data")
    biased = bool(np.any(first.bias) or np.any(first.gate_bias))
    full = np.column_stack([X, np.ones(len(X))]) if biased else X
    weight = np.vstack([first.weight, first.bias]) if biased else first.weight
    W = (weight * last.weight[:, 0]).T
    open_ = X @ first.gates + first.gate_bias >= 0
    rows, signs, bound = [], [], 0.0
    for w, gate in zip(W, open_.T, strict=True):
        if not np.any(w):
            continue
        u, v, most = decompose(np.where(gate, 1.0, -1.0)[:, None] * full, w, method)
        bound += most
        rows += [u, v]
        signs += [1.0, -1.0]
    U, a = np.array(rows).reshape(-1, full.shape[1]), np.array(signs)
    size = np.linalg.norm(U, axis=1)
    U, a, root = U[size > 0], a[size > 0], np.sqrt(size[size > 0])
    d = X.shape[1]
    bias = U[:, d] / root if biased else np.zeros(len(U))
    relu = Network.two_layer((U[:, :d] / root[:, None]).T.copy(), bias, a * root, network.intercept)
    violation = float(np.max(np.abs(relu(X) - network(X)), initial=0.0))
    return Decomposition(
        relu, float(np.sum(np.linalg.norm(W, axis=1))), float(np.sum(size)), bound, violation
    )
