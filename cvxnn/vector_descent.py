r"""Local descent on a network with several outputs.

As :mod:`cvxnn.descent`, with an output vector v_j in place of the output weight of each neuron,

    minimise over U, V, c   L( sum_j phi_mu(X u_j) v_j' + c ) + beta/2 * sum_j (|u_j|^2 + |v_j|^2),

and the same smoothed ReLU. A *support* fixes which outputs a neuron may serve (one each, for networks that
share nothing between outputs). *Faces* hold neurons at their kinks:

the ReLU of an optimal neuron has many samples exactly at its kink, ``x_i'u_j = 0``. Once it is known which,
the objective is smooth on the subspace where they stay there, and Newton's method converges on it, where
L-BFGS on the objective as it is stalls. Which they are, the smoothed problem says: samples in the narrow
band whose slope is neither 0 nor 1. Whether they are right, the multipliers say: at a stationary point the
gradient that a face holds back is ``X_K'(lambda o G v_j)`` with slopes lambda in [0, 1].

References: :mod:`cvxnn.descent`; Lewis, "Active sets, nonsmoothness, and sensitivity", SIAM J. Optim. 2002,
for the subspace on which a piecewise smooth function is smooth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .descent import Layer, minimised
from .losses import Loss, VectorLoss
from .patches import pooled, spread
from .pricing import shares
from .truncated_newton import minimise
from .walks import rectify

#: Curvature pairs that L-BFGS keeps.
MEMORY = 10


def descend(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    U: np.ndarray,
    V: np.ndarray,
    *,
    smoothing: float = 0.0,
    intercept: bool = False,
    free: int = 0,
    slope: float | np.ndarray = 0.0,
    support: np.ndarray | None = None,
    pool: int = 1,
    max_iter: int = 150,
    tol: float = 1e-10,
    dtype: Any = np.float64,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run L-BFGS from the given neurons.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : ndarray of shape (n, outputs)
    s : ndarray of shape (n,)
    U : ndarray of shape (m, d)
    V : ndarray of shape (m, outputs)
    smoothing : float
        The relative half-width ``mu`` of the band in which the ReLU is a parabola; 0 for none.
    free : int
        Trailing unpenalised coordinates of each neuron.
    slope : float, or ndarray of shape (m,)
        Of the activation on the negative side; with 1 a neuron is linear.
    support : ndarray of 0 and 1 of shape (m, outputs), or None
        The outputs that each neuron serves.
    pool : int
        Rows of X that each sample has: what neurons compute on them is added up.
    max_iter : int
    tol : float
        Relative decrease of an iteration below which descent stops.
    dtype : dtype
        Of the products; values and sums over samples are double precision.

    Returns
    -------
    U : ndarray of shape (m, d)
    V : ndarray of shape (m, outputs)
    c : ndarray of shape (outputs,)
        The intercept, zeros without one.
    """
    (m, d), outputs = U.shape, V.shape[1]
    c = np.zeros(outputs)
    if intercept:
        c = np.asarray(loss.intercept(pooled(rectify(X @ U.T, slope), pool) @ V, y, s))
    scale = 1.0 / max(loss.value(np.zeros_like(y) + c, y, s), 1e-300)
    decay = np.ones(d)
    decay[d - free :] = 0.0
    layer = Layer(X, np.linalg.norm(U[:, : d - free], axis=1), free, smoothing, slope, dtype=dtype)
    ends = m * d, m * (d + outputs)
    gradient = np.zeros(ends[1] + outputs)
    gU, gV = gradient[: ends[0]].reshape(m, d), gradient[ends[0] : ends[1]].reshape(m, outputs)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        W, B, e = v[: ends[0]].reshape(m, d), v[ends[0] : ends[1]].reshape(m, outputs), v[ends[1] :]
        layer.activate(W)
        scaled, unit = in_units(layer.sizes[:, None] * B, dtype)
        f = pooled(layer.rows[:, None] * (layer.values @ scaled) * unit, pool)
        if intercept:
            f += e
        value, pull = loss.value_and_gradient(f, y, s)
        value += 0.5 * beta * float(np.sum(decay * W * W) + np.sum(B * B))
        weighted, weight = in_units(layer.rows[:, None] * spread(pull, pool), dtype)
        gV[:] = (weight * layer.sizes[:, None]) * (layer.values.T @ weighted) + beta * B
        if support is not None:
            gV[:] *= support
        out, size = in_units(B, dtype)
        np.multiply(layer.slopes, weighted @ out.T, out=layer.slopes)
        gU[:] = np.float64(weight * size) * (layer.slopes.T @ layer.X) + beta * decay * W
        gradient[ends[1] :] = np.sum(pull, axis=0) if intercept else 0.0
        return scale * value, scale * gradient

    first = np.concatenate([U.ravel(), V.ravel(), c])
    options: dict[str, Any] = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": tol, "gtol": 1e-12}
    found = minimised(objective, first, outputs, layer.rows, {**options, "maxcor": MEMORY})
    return (
        found[: ends[0]].reshape(m, d).copy(),
        found[ends[0] : ends[1]].reshape(m, outputs).copy(),
        found[ends[1] :].copy() if intercept else np.zeros(outputs),
    )


def in_units(A: np.ndarray, dtype: Any) -> tuple[np.ndarray, float]:
    """An array of a type and its unit, the largest entry where the type has a narrower range."""
    if dtype == A.dtype:
        return A, 1.0
    unit = float(np.max(np.abs(A), initial=0.0)) or 1.0
    return (A / unit).astype(dtype), unit


def settle(
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: VectorLoss,
    beta: float,
    U: np.ndarray,
    V: np.ndarray,
    *,
    faces: list[np.ndarray],
    intercept: bool = False,
    free: int = 0,
    slope: float | np.ndarray = 0.0,
    support: np.ndarray | None = None,
    pool: int = 1,
    on: np.ndarray | None = None,
    max_products: int = 500,
) -> tuple[np.ndarray, np.ndarray]:
    """Converge on the subspace of given faces by Newton's method.

    Parameters
    ----------
    faces : list of m ndarrays of shape (d, k_j)
        Orthonormal columns that span the samples at the kink of each neuron; u_j is kept orthogonal to
        them.
    on : bool ndarray of shape (rows, m), or None
        Which rows of X pass to each neuron, whatever their sign; None for those of a positive one.
    max_products : int
        Products with the Hessian.
    X, y, s, U, V, free, slope, support, pool
        As in :func:`descend`.

    Returns
    -------
    U : ndarray of shape (m, d)
    V : ndarray of shape (m, outputs)
    """
    function = OnFaces(X, y, s, loss, beta, U.shape, faces, intercept, free, slope, support, pool, on)
    c = np.zeros(y.shape[1])
    U = function.hold(U)
    if intercept:
        c = np.asarray(loss.intercept(pooled(function.rows(X @ U.T)[0], pool) @ V, y, s))
    x = np.concatenate([U.ravel(), V.ravel(), c])
    found = minimise(function, x, max_products=max_products)
    U, V, _ = function.parts(found)
    return U.copy(), V.copy()


class OnFaces:
    """The objective where every neuron keeps its kinks, with second derivatives.

    With the patterns D_j of a point, ``H_j = D_j X u_j``, the slope G of the loss and its change dG along a
    change of the predictions ``sum_j (D_j X du_j) v_j' + H_j dv_j'``, the Hessian takes (du, dv) to
    ``X'D_j (dG v_j + G dv_j) + beta du_j`` and ``H_j' dG + (D_j X du_j)' G + beta dv_j``.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        s: np.ndarray,
        loss: VectorLoss,
        beta: float,
        shape: tuple[int, ...],
        faces: list[np.ndarray],
        intercept: bool,
        free: int,
        slope: float | np.ndarray,
        support: np.ndarray | None,
        pool: int = 1,
        on: np.ndarray | None = None,
    ) -> None:
        self.X, self.y, self.s, self.loss, self.intercept = X, y, s, loss, intercept
        self.pool, self.fixed = pool, on
        self.shape, self.support, self.hold = shape, support, _Faces(faces, X.shape[1])
        self.decay = np.full(X.shape[1], beta)
        self.decay[X.shape[1] - free :] = 0.0
        self.beta, self.slope = beta, slope

    def parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The weights of both layers, and the intercepts, in a vector of all."""
        (m, d), k = self.shape, self.y.shape[1]
        return x[: m * d].reshape(m, d), x[m * d : m * (d + k)].reshape(m, k), x[m * (d + k) :]

    def rows(self, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What neurons compute on the rows, and the slopes, both (n, m)."""
        if self.fixed is not None:
            return T * self.fixed, self.fixed.astype(np.float64)
        rows = rectify(T, self.slope)
        return rows, shares(T > 0, self.slope) if np.any(self.slope) else (rows > 0).astype(np.float64)

    def penalty(self, U: np.ndarray) -> tuple[float, np.ndarray]:
        """What the hidden weights pay, and its gradient."""
        return 0.5 * float(np.sum(self.decay * U * U)), self.decay * U

    def bend(self, dU: np.ndarray) -> np.ndarray:
        """The Hessian of :meth:`penalty` at the current point times ``dU``."""
        return self.decay * dU

    def _join(self, gU: np.ndarray, gV: np.ndarray, gc: np.ndarray) -> np.ndarray:
        gV = gV if self.support is None else gV * self.support
        gc = gc if self.intercept else np.zeros_like(gc)
        return np.concatenate([self.hold(gU).ravel(), gV.ravel(), gc])

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        U, V, c = self.parts(x)
        self.U, self.V = U, V
        rows, self.on = self.rows(self.X @ U.T)
        self.H = pooled(rows, self.pool)
        self.f = self.H @ V + c
        self.G = self.loss.gradient(self.f, self.y, self.s)
        paid, pull = self.penalty(U)
        value = self.loss.value(self.f, self.y, self.s) + paid + 0.5 * self.beta * float(np.sum(V * V))
        gU = (self.on * spread(self.G @ V.T, self.pool)).T @ self.X + pull
        return value, self._join(gU, self.H.T @ self.G + self.beta * V, np.sum(self.G, axis=0))

    def curve(self, p: np.ndarray) -> np.ndarray:
        dU, dV, dc = self.parts(p)
        dH = self.X @ dU.T
        dH *= self.on
        dH = pooled(dH, self.pool)
        dG = self.loss.curve(self.f, self.y, self.s, dH @ self.V + self.H @ dV + dc)
        back = dG @ self.V.T
        back += self.G @ dV.T
        back = spread(back, self.pool) * self.on
        hV = self.H.T @ dG + dH.T @ self.G + self.beta * dV
        return self._join(back.T @ self.X + self.bend(dU), hV, np.sum(dG, axis=0))

    def metric(self) -> np.ndarray:
        """A number for each neuron and layer, so that it goes with the projections."""
        bend = self.loss.hessian(self.f, self.y, self.s)
        rows = np.einsum("ij,ij->i", self.X, self.X) / self.X.shape[1]
        # the square of a sum of `pool` terms is at most `pool` times the sum of their squares
        bends = self.pool * spread(bend @ (self.V**2).T, self.pool)
        one = self.beta + np.einsum("ij,ij->j", self.on**2 * rows[:, None], bends)
        two = self.beta + (self.H**2).T @ bend
        last = np.sum(bend, axis=0) + 1e-300
        return np.concatenate([np.repeat(one, self.X.shape[1]), two.ravel(), last])


class _Faces:
    """The projection of each neuron onto the subspace in which its kinks stay where they are."""

    def __init__(self, faces: list[np.ndarray], d: int) -> None:
        most = max((face.shape[1] for face in faces), default=0)
        self.bases: np.ndarray | None = None
        if most:
            # padded with zero columns, so that one batched product does all neurons
            self.bases = np.zeros((len(faces), d, most))
            for basis, face in zip(self.bases, faces, strict=True):
                basis[:, : face.shape[1]] = face

    def __call__(self, U: np.ndarray) -> np.ndarray:
        if self.bases is None:
            return U
        inner = np.matmul(U[:, None, :], self.bases)
        return U - np.matmul(self.bases, inner.transpose(0, 2, 1))[:, :, 0]
