r"""Local descent on the network itself: the fast way to good activation patterns.

L-BFGS on the weights of a network with a few dozen neurons,

    minimise over U, a, c   L( sum_j a_j (X u_j)_+ + c ) + beta/2 * sum_j (||u_j||^2 + a_j^2),

comes within a thousandth of the optimum in a fraction of a second, then stalls at kinks (samples with
``x_i'u_j = 0``). That is enough: its neurons lie in good cells of the arrangement, and the convex program
on those cells finishes exactly and proves. Nothing here is trusted by a certificate.

Reference: Nocedal and Wright, Numerical Optimization, chapter 7; for why patterns and not weights
matter, Mishkin, Sahiner and Pilanci, ICML 2022, section 4.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from .losses import Loss


def start(
    X: np.ndarray, y: np.ndarray, s: np.ndarray, width: int, free: int, random_state: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw balanced random neurons whose joint output is about a third of the targets' size.

    Returns
    -------
    U : ndarray of shape (width, d)
    a : ndarray of shape (width,)
    """
    d = X.shape[1]
    U = random_state.standard_normal((width, d))
    U /= np.maximum(np.linalg.norm(U[:, : d - free], axis=1, keepdims=True), 1e-300)
    rows = float(np.sqrt(np.average(np.sum(X * X, axis=1), weights=s)))
    size = float(np.sqrt(np.average(y * y, weights=s)))
    strength = 0.3 * size / (rows * np.sqrt(width)) if rows > 0 else 0.0
    a = np.where(np.arange(width) % 2 == 0, 1.0, -1.0) * np.sqrt(strength)
    return U * np.sqrt(strength), a


def descend(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    U: np.ndarray,
    a: np.ndarray,
    *,
    intercept: bool = False,
    free: int = 0,
    max_iter: int = 150,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Run L-BFGS from the given neurons.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y, s : ndarrays of shape (n,)
    U : ndarray of shape (m, d)
    a : ndarray of shape (m,)
    free : int
        Trailing unpenalised coordinates of each neuron.

    Returns
    -------
    U : ndarray of shape (m, d)
    a : ndarray of shape (m,)
    c : float
        The intercept, 0 without one.
    """
    m, d = U.shape
    c = loss.intercept(np.zeros_like(y), y, s) if intercept else 0.0
    # Divided by the value at zero, the default tolerances of L-BFGS mean the same on all data.
    scale = 1.0 / max(loss.value(np.zeros_like(y) + c, y, s), 1e-300)
    decay = np.ones(d)
    decay[d - free :] = 0.0

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        W, b, e = v[: m * d].reshape(m, d), v[m * d : m * d + m], v[-1]
        T = X @ W.T
        H = np.maximum(T, 0.0)
        f = H @ b + (e if intercept else 0.0)
        slope = loss.gradient(f, y, s)
        back = np.where(T > 0, slope[:, None], 0.0)
        value = loss.value(f, y, s) + 0.5 * beta * float(np.sum(decay * W * W) + b @ b)
        gW = (back * b).T @ X + beta * decay * W
        gb = H.T @ slope + beta * b
        ge = float(np.sum(slope)) if intercept else 0.0
        return scale * value, scale * np.concatenate([gW.ravel(), gb, [ge]])

    first = np.concatenate([U.ravel(), a, [c]])
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-10, "gtol": 1e-12}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
    if not np.all(np.isfinite(found)):
        found = first
    end = found[: m * d].reshape(m, d)
    return end, found[m * d : m * d + m], float(found[-1]) if intercept else 0.0
