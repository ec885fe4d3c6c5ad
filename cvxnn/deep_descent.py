r"""Local descent on parallel deep networks, and local search for a good branch.

The objective ``L(f) + beta/L sum_k sum_l |W_lk|^L`` has, at its best scalings, the product of norms as
penalty (the inequality of the means), so L-BFGS on all weights descends the same landscape as on the
network itself. It stalls at kinks and in local minima, which is why its answer is a start for convex
programs where there are any, and why nothing here is a proof.

A branch that correlates with a dual variable is found by L-BFGS on ``log z'g - sum_l log |W_l|``, which no
scaling changes.

L-BFGS ends at kinks of the network, so from random branches Adam goes first, which crosses them. All stop
at a deadline with what they have.

References: Nocedal and Wright, Numerical Optimization, chapter 7 (L-BFGS); Kingma and Ba, ICLR 2015 (Adam);
Ergen and Pilanci, ICML 2021.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize

from .deep_network import Branch
from .losses import Loss

__all__ = ["descend", "draw", "search_branch", "stack", "stopping", "unstack"]

#: Weights of a stack of branches of equal widths: (k, inputs, units) for every layer.
Stack = list[np.ndarray]
#: Length of Adam's first steps.
RATE = 0.01
#: Shares of a branch's cost below which a neuron is left out.
TINY = 1e-9


def stopping(deadline: float) -> Callable[[np.ndarray], None]:
    """Return a callback for SciPy's minimisers that ends them at a time of :func:`time.perf_counter`."""

    def stop(_: np.ndarray) -> None:
        if time.perf_counter() > deadline:
            raise StopIteration

    return stop


def draw(
    branches: int, depth: int, features: int, neurons: int, scale: float, rng: np.random.Generator
) -> Stack:
    """Return Gaussian branches; output signs alternate and inner weights lean to the positive side."""
    widths = [features, *[neurons] * (depth - 2), 1]
    layers = []
    for at, (rows, columns) in enumerate(pairwise(widths)):
        W = rng.standard_normal((branches, rows, columns)) / np.sqrt(rows)
        layers.append(scale * (W if at == 0 else W + 0.3 * np.abs(W)))
    out = np.where(np.arange(branches) % 2 == 0, scale, -scale).astype(float)
    return [*layers, out[:, None, None]]


def stack(branches: list[Branch], neurons: int) -> Stack:
    """Return branches as one stack, their widths raised to the largest, or to `neurons`, with zeros."""
    depth = len(branches[0])
    widths = [max(neurons, *(branch[at].shape[1] for branch in branches)) for at in range(depth - 2)]
    layers = []
    for at in range(depth):
        rows = branches[0][0].shape[0] if at == 0 else widths[at - 1] if at < depth - 1 else 1
        columns = widths[at] if at < depth - 2 else 1
        W = np.zeros((len(branches), rows, columns))
        for k, branch in enumerate(branches):
            W[k, : branch[at].shape[0], : branch[at].shape[1]] = branch[at]
        layers.append(W)
    return layers


def unstack(layers: Stack) -> list[Branch]:
    """Return the branches of a stack without what contributes nothing."""
    found = []
    for k in range(len(layers[0])):
        branch = [W[k] for W in layers]
        for at in range(len(branch) - 2):
            size = np.linalg.norm(branch[at], axis=0) * np.linalg.norm(branch[at + 1], axis=1)
            kept = size > TINY * float(np.sum(size))
            branch[at], branch[at + 1] = branch[at][:, kept], branch[at + 1][kept]
        if all(W.size and np.any(W) for W in branch):
            found.append(branch)
    return found


def _forward(design: np.ndarray, layers: Stack) -> list[np.ndarray]:
    """The outputs of all hidden layers, (k, n, units) each."""
    H = [np.maximum(design @ layers[0], 0.0)]
    for W in layers[1:-1]:
        H.append(np.maximum(H[-1] @ W, 0.0))
    return H


def _backward(design: np.ndarray, layers: Stack, H: list[np.ndarray], pull: np.ndarray) -> Stack:
    """Gradients of ``sum_i,k pull_ki g_ki`` in the hidden weights, g the last hidden output."""
    gradients: Stack = []
    for at in range(len(H) - 1, -1, -1):
        pull = pull * (H[at] > 0)
        below = H[at - 1] if at else None
        if below is None:
            gradients.append(design.T @ pull)
            break
        gradients.append(np.swapaxes(below, 1, 2) @ pull)
        pull = pull @ np.swapaxes(layers[at], 1, 2)
    return gradients[::-1]


def _pack(layers: Stack) -> np.ndarray:
    return np.concatenate([W.ravel() for W in layers])


def _unpack(v: np.ndarray, like: Stack) -> Stack:
    ends = np.cumsum([W.size for W in like])
    return [part.reshape(W.shape) for part, W in zip(np.split(v, ends[:-1]), like, strict=True)]


def descend(
    design: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    layers: Stack,
    *,
    intercept: bool,
    max_iter: int,
    tol: float = 1e-12,
    deadline: float = float("inf"),
    walk: int = 0,
) -> tuple[Stack, float]:
    """Run L-BFGS from a stack of branches.

    Parameters
    ----------
    design : ndarray of shape (n, d)
    y, s : ndarrays of shape (n,)
    loss : Loss
        Smooth, or a smooth stand-in.
    beta : float
    layers : Stack
    intercept : bool
    max_iter : int
    tol : float
        Relative decrease of an iteration below which descent stops.
    deadline : float
        Of :func:`time.perf_counter`.
    walk : int
        Steps of Adam before, which cross kinks of the network.

    Returns
    -------
    layers : Stack
    c : float
        The intercept, 0 without one.
    """
    depth = len(layers)
    c = loss.intercept(np.zeros_like(y), y, s) if intercept else 0.0
    scale = 1.0 / max(loss.value(np.zeros_like(y) + c, y, s), 1e-300)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        stack_, e = _unpack(v[:-1], layers), float(v[-1])
        H, out = _forward(design, stack_), stack_[-1][:, 0, 0]
        f = out @ H[-1][:, :, 0] + (e if intercept else 0.0)
        pull = loss.gradient(f, y, s)
        hidden = _backward(design, stack_, H, out[:, None, None] * pull[None, :, None])
        gradients = [*hidden, (H[-1][:, :, 0] @ pull)[:, None, None]]
        value = loss.value(f, y, s)
        for W, G in zip(stack_, gradients, strict=True):
            norm = np.linalg.norm(W, axis=(1, 2))
            value += beta / depth * float(np.sum(norm**depth))
            G += beta * (norm ** (depth - 2))[:, None, None] * W
        slope = float(np.sum(pull)) if intercept else 0.0
        return scale * value, scale * np.append(_pack(gradients), slope)

    first = np.append(_pack(layers), c)
    if walk:
        with np.errstate(over="ignore", invalid="ignore"):
            # half of the time that is left is for L-BFGS
            left = max(0.5 * (deadline - time.perf_counter()), 1e-3)
            first = _walk(objective, first, walk, left)
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": tol, "gtol": 1e-13}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = minimize(
            objective, first, jac=True, method="L-BFGS-B", options=options, callback=stopping(deadline)
        ).x
    found = found if np.all(np.isfinite(found)) else first
    return _unpack(found[:-1], layers), float(found[-1]) if intercept else 0.0


def _walk(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    v: np.ndarray,
    steps: int,
    max_time: float,
) -> np.ndarray:
    """Adam's steps of falling length, which cross kinks that L-BFGS ends at; return the best point met."""
    m, w, best, least, began = np.zeros_like(v), np.zeros_like(v), v, np.inf, time.perf_counter()
    for k in range(steps):
        done = max(k / steps, (time.perf_counter() - began) / max_time)
        value, g = objective(v)
        if not np.isfinite(value):
            break
        if value < least:
            best, least = v, value
        m, w = 0.9 * m + 0.1 * g, 0.999 * w + 0.001 * g * g
        if done >= 1.0:
            break
        rate = RATE * (1.0 - done) / (1.0 - 0.9 ** (k + 1))
        v = v - rate * m / (np.sqrt(w / (1.0 - 0.999 ** (k + 1))) + 1e-12)
    return best


def search_branch(
    design: np.ndarray, z: np.ndarray, layers: Stack, max_iter: int = 200, deadline: float = float("inf")
) -> Stack:
    """Return branches that correlate with z more, one for each start of a stack (output weights unused).

    All are ascended at once, as the sum of ``log z'g - sum_l log |W_l|`` over those whose value is
    positive.
    """
    hidden = layers[:-1]
    # of unit size, so that what is live does not depend on units; branches are worth the same to scale
    design = design / max(float(np.max(np.abs(design), initial=0.0)), 1e-300)
    z = z / max(float(np.max(np.abs(z), initial=0.0)), 1e-300)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        stack_ = [*_unpack(v, hidden), layers[-1]]
        H = _forward(design, stack_)
        value = H[-1][:, :, 0] @ z
        live = value > 1e-12
        inverse = np.where(live, 1.0 / np.where(live, value, 1.0), 0.0)
        gradients = _backward(design, stack_, H, inverse[:, None, None] * z[None, :, None])
        total = -float(np.sum(np.log(np.where(live, value, 1.0))))
        # one that is dead stays where it is, and costs what no line search takes
        total += 50.0 * float(np.sum(~live))
        for W, G in zip(stack_[:-1], gradients, strict=True):
            square = np.sum(W * W, axis=(1, 2))
            G *= -1.0
            G += np.where(live, 1.0 / square, 0.0)[:, None, None] * W
            total += 0.5 * float(np.sum(np.where(live, np.log(square), 0.0)))
        return total, _pack(gradients)

    start = [W / np.maximum(np.linalg.norm(W, axis=(1, 2)), 1e-300)[:, None, None] for W in hidden]
    options = {"maxiter": max_iter, "ftol": 1e-14, "gtol": 1e-10}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = minimize(
            objective,
            _pack(start),
            jac=True,
            method="L-BFGS-B",
            options=options,
            callback=stopping(deadline),
        ).x
    found = found if np.all(np.isfinite(found)) else _pack(start)
    return [*_unpack(found, hidden), np.ones_like(layers[-1])]
