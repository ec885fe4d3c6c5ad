r"""The logistic loss of several classes: ``log sum_k exp(f_k) - y'f`` with ``y`` one-hot.

The prediction p is the softmax of f, the gradient ``p - y``. With ``q = y + z`` the conjugate is the
negative entropy ``sum_k q_k log q_k`` for q in the simplex, and infinite elsewhere: rows of a dual variable
sum to zero. Adding a constant to all outputs of a sample changes nothing, and weight decay makes such
constants zero.

With two classes, weight decay beta and f = (g, -g) / sqrt(2) this is the logistic loss of one output g
sqrt(2) with weight decay ``beta / sqrt(2)``.

A free intercept asks that columns of a dual variable sum to zero. A dual variable is a flow: sample i of
class k sends ``-Z_ic`` from k to every other class c. Balanced flows are circulations; multiplying what
goes from k to c by ``exp(x_c - x_k)`` makes one (matrix balancing), and a common factor of at most one
keeps the domain.

References: Boyd and Vandenberghe, Convex Optimization, example 3.25; Osborne, "On pre-conditioning of
matrices", JACM 1960 (balancing).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from ..arrays import Array, array_namespace
from .base import ConicForm, VectorLoss

#: How far rounding may leave a row outside of the simplex.
SLACK = 1e-12
#: The longest step of a constant, where predictions differ less.
REACH = 20.0


class Softmax(VectorLoss):
    """The logistic loss of one sample of several classes, targets one-hot (n, classes)."""

    name: ClassVar[str] = "log_loss"
    curvature: ClassVar[float] = 0.5
    classification: ClassVar[bool] = True

    def value(self, f: Array, y: Array, s: Array) -> float:
        xp = array_namespace(f)
        top = xp.max(f, axis=1, keepdims=True)
        total = xp.log(xp.sum(xp.exp(f - top), axis=1))
        return float(xp.sum(s * (total - xp.sum((f - top) * y, axis=1))))

    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        return s[:, None] * (probabilities(f) - y)

    def value_and_gradient(self, f: Array, y: Array, s: Array) -> tuple[float, Array]:
        xp = array_namespace(f)
        shifted = f - xp.max(f, axis=1, keepdims=True)
        e = xp.exp(shifted)
        total = xp.sum(e, axis=1, keepdims=True)
        value = xp.sum(s * (xp.log(total[:, 0]) - xp.sum(shifted * y, axis=1)))
        return float(value), s[:, None] * (e / total - y)

    def curve(self, f: np.ndarray, y: np.ndarray, s: np.ndarray, V: np.ndarray) -> np.ndarray:
        p = probabilities(f)
        weighted = p * V
        return s[:, None] * (weighted - p * np.sum(weighted, axis=1, keepdims=True))

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        p = probabilities(f)
        return s[:, None] * p * (1.0 - p)

    def hessians(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        p = probabilities(f)
        weighted = s[:, None] * p
        return weighted[:, :, None] * (np.eye(f.shape[1]) - p[:, None, :])

    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        xp = array_namespace(z)
        q = y + z / s[:, None]
        off = xp.abs(xp.sum(q, axis=1) - 1.0)
        if bool(xp.any(q < -SLACK)) or bool(xp.any(off > SLACK)):
            return float("inf")
        # rounding only: entropy is taken on [0, 1]
        q = xp.clip(q, 0.0, 1.0)
        logs = xp.log(xp.where(q > 0, q, xp.ones_like(q)))
        return float(xp.sum(s[:, None] * (q * logs)))

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> Any:
        """Newton's method; the constants of the classes sum to zero, shape (classes,)."""
        if np.any(s @ y <= 0):
            raise ValueError(
                "the best intercept is infinite (a class without samples): pass targets of all classes "
                "or fit_intercept=False"
            )
        total = float(np.sum(s))
        # without what columns have in common, and with the constants that are best where they have no more
        start = np.log(s @ y / total) - s @ f / total
        f = f + (start - np.mean(start))
        c, reach = np.zeros(f.shape[1]), max(REACH, float(np.ptp(f)))
        value, p = self._at(f, y, s)
        slope = s @ (p - y)
        for _ in range(1000):
            size = float(np.max(np.abs(slope)))
            if size <= 1e-16 * total:
                break
            H = np.diag(s @ p) - (p.T * s) @ p + total / len(c)
            H[np.diag_indices_from(H)] += 1e-14 * total
            step = -np.linalg.solve(H, slope)
            # where values, whose logarithms have the rounding of 1, no longer tell points apart the
            # gradient does, and one try is enough
            noise = 1e-12 * abs(value) + 1e-15 * total
            close = -float(step @ slope) <= noise
            # no model of an exponential holds further than that
            step *= min(1.0, reach / max(float(np.max(np.abs(step))), 1e-300))
            for _ in range(1 if close else 50):
                now, q = self._at(f + (c + step), y, s)
                new = s @ (q - y)
                left = float(np.max(np.abs(new)))
                same = now <= value + noise
                if left < 0.5 * size if close else now < value or (same and left < size):
                    break
                step = 0.5 * step
            else:
                break
            c, value, p, slope = c + step, now, q, new
        c = c + start
        return c - np.mean(c)

    @staticmethod
    def _at(f: np.ndarray, y: np.ndarray, s: np.ndarray) -> tuple[float, np.ndarray]:
        """The value and the probabilities."""
        shifted = f - np.max(f, axis=1, keepdims=True)
        e = np.exp(shifted)
        total = np.sum(e, axis=1, keepdims=True)
        value = float(s @ (np.log(total[:, 0]) - np.einsum("ij,ij->i", shifted, y)))
        return value, e / total

    @staticmethod
    def balance(Z: np.ndarray) -> np.ndarray:
        """Shrink the flows between classes so that they circulate; see the module."""
        own = np.argmax(Z, axis=1)
        sent = np.maximum(-Z, 0.0)
        classes = Z.shape[1]
        flow = np.zeros((classes, classes))
        np.add.at(flow, own, sent)
        np.fill_diagonal(flow, 0.0)
        share = _circulation(flow)
        sent = sent * share[own]
        sent[np.arange(len(Z)), own] = 0.0
        out = -sent
        out[np.arange(len(Z)), own] = np.sum(sent, axis=1)
        return out

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm:
        """``log sum_k exp(f_k) <= t`` as ``sum_k w_k <= 1, exp(f_k - t) <= w_k``; v = (t, w)."""
        n, k = y.shape
        each, single = sparse.identity(n), np.array([[1.0], [0.0], [0.0]])
        # the three rows of an exponential cone: f - t, 1, w
        F = sparse.kron(sparse.identity(n * k), single)
        V = sparse.hstack(
            [
                -sparse.kron(each, np.tile(single, (k, 1))),
                sparse.kron(sparse.identity(n * k), single[::-1]),
            ]
        )
        total = sparse.hstack([sparse.csc_matrix((n, n)), -sparse.kron(each, np.ones((1, k)))])
        h = np.concatenate([np.ones(n), np.tile([0.0, 1.0, 0.0], n * k)])
        cones = [("nonnegative", n)] + [("exponential", 3)] * (n * k)
        F = sparse.vstack([sparse.csc_matrix((n, n * k)), F])
        linear = -(s[:, None] * y).ravel()
        extra = np.concatenate([s, np.zeros(n * k)])
        return ConicForm(np.zeros(n * k), linear, 0.0, extra, F, sparse.vstack([total, V]), h, cones)

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(s, cp.log_sum_exp(f, axis=1) - cp.sum(cp.multiply(y, f), axis=1)))


def probabilities(f: Array) -> Array:
    """The softmax of each row of ``f`` (n, classes)."""
    xp = array_namespace(f)
    e = xp.exp(f - xp.max(f, axis=1, keepdims=True))
    return e / xp.sum(e, axis=1, keepdims=True)


def _circulation(flow: np.ndarray) -> np.ndarray:
    """Factors in [0, 1] that make a circulation of a flow between classes, shape (classes, classes).

    Newton's method on the convex ``sum_kc flow_kc exp(x_c - x_k)``. Where that has no minimiser (a class
    that only sends or only receives), what two classes send each other is made equal.
    """
    x, total = np.zeros(len(flow)), float(np.sum(flow))
    moved = flow
    for _ in range(100):
        slope = np.sum(moved, axis=0) - np.sum(moved, axis=1)
        if float(np.max(np.abs(slope), initial=0.0)) <= 2e-16 * total:
            break
        both = moved + moved.T
        H = np.diag(np.sum(both, axis=1)) - both + total / len(flow)
        H[np.diag_indices_from(H)] += 1e-14 * total
        step = -np.linalg.solve(H, slope)
        step *= min(1.0, 1.0 / float(np.max(np.abs(step))))
        trial = flow * np.exp((x + step)[None, :] - (x + step)[:, None])
        error = np.max(np.abs(np.sum(trial, axis=0) - np.sum(trial, axis=1)))
        if np.sum(trial) >= np.sum(moved) and error >= np.max(np.abs(slope)):
            break
        x, moved = x + step, trial
    slope = np.sum(moved, axis=0) - np.sum(moved, axis=1)
    factor = np.exp(x[None, :] - x[:, None])
    factor = factor / max(1.0, float(np.max(factor[flow > 0], initial=1.0)))
    kept = float(np.sum(flow * factor))
    if np.max(np.abs(slope), initial=0.0) <= 1e-13 * total and kept >= 1e-3 * total:
        return np.minimum(factor, 1.0)
    least = np.minimum(flow, flow.T)
    return np.divide(least, flow, out=np.zeros_like(flow), where=flow > 0)
