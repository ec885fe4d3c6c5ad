r"""One deep linear network with plain weight decay: closed forms, where there are any.

Of all ways to write ``Z = W_1 W_2 ... W_L`` with enough inner width the least weight decay is

    min 1/2 sum_l |W_l|_F^2  =  L/2 sum_k s_k(Z)^(2/L),

a power of singular values s_k (from singular vectors with all factors aligned; that nothing is below is
Hoelder's inequality for Schatten norms and that of the means). Beyond two layers it is not convex. Where
the columns of X are orthogonal and of one length, ``X'X = k I``, the squared error is ``k/2 |Z - X'Y /
k|_F^2`` and a constant; by von Neumann's trace inequality the singular vectors of ``X'Y / k`` are best, and
training is a problem of one number for each,

    minimise over s >= 0   k/2 (s - t)^2 + beta L/2 s^(2/L),

(orthogonal rows of one length are the same, in the row space of X), with one local minimum besides zero:
the larger root of ``k (t - s) = beta s^(2/L - 1)``. The optimum is global over all networks of this depth.
It needs no search, and no dual variable would prove it: the convex dual is that of

    min over Z with X Z = Y of L/2 s(Z)^(2/L)  >=  L/2 |X^+ Y|_*^(2/L)

for interpolation, with a gap as soon as L >= 3 and two singular values are not zero. Parallel networks have
none (:mod:`cvxnn.architectures.deep_linear`).

References: Ergen and Pilanci, "Revealing the structure of deep neural networks via convex duality", ICML
2021; Wang, Ergen and Pilanci, ICLR 2023 (duality gaps of standard networks); Shang, Liu and Cheng, AAAI
2016 (Schatten norms of factorisations).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from .certificate import Certificate
from .network import Affine, Network
from .parameters import check_alpha

__all__ = ["DeepLinear", "Interpolation", "deep_linear", "interpolate", "shrink"]

#: How far X'X may be from a multiple of the identity, relative to it.
ORTHOGONAL = 1e-10


def shrink(t: np.ndarray, beta: float, depth: int) -> np.ndarray:
    """Return the minimisers of ``1/2 (s - t)^2 + beta depth/2 s^(2/depth)`` over s >= 0, for every t >= 0.

    Parameters
    ----------
    t : ndarray of shape (k,)
    beta : float
    depth : int
        Number of layers, at least 1; 2 is soft thresholding.

    Returns
    -------
    ndarray of shape (k,)
    """
    t = np.asarray(t, dtype=np.float64)
    if depth == 1:
        return t / (1.0 + beta)
    if depth == 2:
        return np.maximum(t - beta, 0.0)
    power = 2.0 / depth
    # s + beta s^(power - 1) falls up to here and rises beyond
    turn = (beta * (1.0 - power)) ** (1.0 / (2.0 - power))
    lowest = turn + beta * turn ** (power - 1.0)
    out = np.zeros_like(t)
    for k, size in enumerate(t):
        if size <= lowest:
            continue
        s = brentq(
            lambda s, size=size: s + beta * s ** (power - 1.0) - size, turn, size, xtol=1e-15, rtol=1e-15
        )
        value = 0.5 * (s - size) ** 2 + 0.5 * beta * depth * s**power
        out[k] = s if value < 0.5 * size * size else 0.0
    return out


@dataclass(frozen=True, eq=False)
class DeepLinear:
    """The best deep linear network under weight decay.

    Parameters
    ----------
    network : Network
        L affine layers with balanced weights.
    certificate : Certificate
        Scope ``global``: the closed form is the optimum over all networks of this depth.
    """

    network: Network
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class Interpolation:
    """The least weight decay of a deep linear network that fits its data.

    Parameters
    ----------
    network : Network
    value : float
        ``1/2 sum_l |W_l|_F^2``.
    dual : float
        What the convex dual proves, at most `value`.
    parallel : float
        The least ``1/2 sum_kl |W_lk|_F^L`` of parallel networks, whose dual has no gap.
    """

    network: Network
    value: float
    dual: float
    parallel: float


def deep_linear(X: np.ndarray, Y: np.ndarray, alpha: float, depth: int) -> DeepLinear:
    """Train ``1/n 1/2 |X W_1 ... W_L - Y|_F^2 + alpha/2 sum_l |W_l|_F^2`` to its global optimum.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        With ``X'X`` or, of fewer samples than features, ``XX'`` a multiple of the identity: whitened data.
    Y : ndarray of shape (n,) or (n, outputs)
    alpha : float
    depth : int
        Number L of layers, at least 2.

    Raises
    ------
    ValueError
        If neither columns nor rows of X are orthogonal and of one length, or a parameter cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> found = deep_linear(np.eye(2), np.diag([4.0, 1.0]), 0.05, 3)
    >>> found.certificate.scope
    'global'
    """
    check_alpha(alpha)
    X, Y = _checked(X, Y, depth)
    n, gram = len(X), X.T @ X if len(X) >= X.shape[1] else X @ X.T
    k = float(np.trace(gram)) / len(gram)
    if not k > 0.0 or np.max(np.abs(gram - k * np.eye(len(gram)))) > ORTHOGONAL * k:
        raise ValueError(
            "neither the columns nor the rows of X are orthogonal and of one length, and there is no "
            "closed form for others: whiten X, or train parallel networks, "
            "ConvexNetRegressor(architecture='deep_linear')"
        )
    beta = alpha * n
    U, t, Vt = np.linalg.svd(X.T @ Y / k, full_matrices=False)
    s = shrink(t, beta / k, depth)
    network = _chain(U, s, Vt, depth)
    value = float(np.sum(0.5 * k * (s - t) ** 2 + 0.5 * beta * depth * s ** (2.0 / depth)))
    optimum = value + 0.5 * float(np.sum((Y - X @ (U * t) @ Vt) ** 2))
    F = X @ (U * s) @ Vt
    weights = [layer.weight for layer in network.layers if isinstance(layer, Affine)]
    decay = sum(float(np.sum(W * W)) for W in weights)
    objective = 0.5 * float(np.sum((F - Y) ** 2)) + 0.5 * beta * decay
    bound = min(optimum * (1.0 - 1e-12), objective)
    gap = (objective - bound) / objective if objective > 0.0 else 0.0
    found = Certificate(objective / n, bound / n, gap, "global", gap, network.width, alpha)
    return DeepLinear(network, found)


def interpolate(X: np.ndarray, Y: np.ndarray, depth: int) -> Interpolation:
    """Return the deep linear network of least weight decay with ``X W_1 ... W_L = Y``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Y : ndarray of shape (n,) or (n, outputs)
    depth : int
        At least 2.

    Raises
    ------
    ValueError
        If no linear map fits, or if X has no full column rank: for L >= 3 the least Schatten power over
        many maps is no closed form.
    """
    X, Y = _checked(X, Y, depth)
    if np.linalg.matrix_rank(X) < X.shape[1]:
        raise ValueError("several linear maps fit the data: pass X with independent columns")
    Z = np.linalg.lstsq(X, Y, rcond=None)[0]
    if np.linalg.norm(X @ Z - Y) > 1e-8 * np.linalg.norm(Y):
        raise ValueError("no linear map fits the data: pass them to deep_linear with some alpha")
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    nuclear, half = float(np.sum(s)), 0.5 * depth
    value = half * float(np.sum(s ** (2.0 / depth)))
    return Interpolation(_chain(U, s, Vt, depth), value, half * nuclear ** (2.0 / depth), half * nuclear)


def _checked(X: np.ndarray, Y: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    Y = Y[:, None] if Y.ndim == 1 else Y
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise ValueError(f"X has shape {X.shape} and Y {Y.shape}: pass (n, d) and (n, outputs)")
    if not (np.all(np.isfinite(X)) and np.all(np.isfinite(Y))):
        raise ValueError("X or Y has an entry that is not finite: drop or impute it")
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 2:
        raise ValueError(f"depth={depth!r}: pass an integer of at least 2")
    return X, Y


def _chain(U: np.ndarray, s: np.ndarray, Vt: np.ndarray, depth: int) -> Network:
    """The network of aligned layers with singular values ``s^(1/L)``, zeros left out."""
    kept = s > 0
    root, none = s[kept] ** (1.0 / depth), np.zeros(int(np.sum(kept)))
    inner = [Affine(np.diag(root), none)] * (depth - 2)
    last = Affine(root[:, None] * Vt[kept], np.zeros(Vt.shape[1]))
    return Network((Affine(U[:, kept] * root, none), *inner, last))
