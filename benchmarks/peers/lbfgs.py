"""L-BFGS on the weights of the network: SciPy's L-BFGS-B with a gradient of two matrix products.

It minimises ``(1/n) sum loss + alpha/2 (|W|^2 + |a|^2)``. Where its line search gives up (a kink of the
network), it starts again from there with an empty memory, until that no longer helps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Peer, Task
from .arithmetic import first_network, loss_and_slope


class _Over(Exception):
    """Time is up, or the target is reached."""


class _Objective:
    """The objective and its gradient, in buffers that are used again."""

    def __init__(self, task: Task, width: int, record: Any) -> None:
        self.task, self.width, self.record = task, width, record
        n, d = task.X.shape
        self.shape = (d, width)
        self.T, self.M = np.empty((n, width)), np.empty((n, width))
        self.gradient = np.empty((d + 1) * width)

    def split(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = self.shape[0] * self.width
        return v[:size].reshape(self.shape), v[size:]

    def __call__(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        task = self.task
        W, a = self.split(v)
        np.matmul(task.X, W, out=self.T)
        np.greater(self.T, 0.0, out=self.M)
        np.maximum(self.T, 0.0, out=self.T)
        loss, slope = loss_and_slope(task.loss, self.T @ a, task.y)
        gW, ga = self.split(self.gradient)
        np.matmul((task.X * slope[:, None]).T, self.M, out=gW)
        gW *= a
        ga[:] = slope @ self.T
        self.gradient += task.alpha * v
        balanced = loss + task.alpha * float(np.sqrt(np.einsum("ij,ij->j", W, W)) @ np.abs(a))
        over = self.record.over(balanced)
        if over or self.record.due(balanced):
            self.record(W, None, a)
        if over:
            raise _Over
        return loss + 0.5 * task.alpha * float(v @ v), self.gradient.copy()


def _solve(task: Task, record: Any, width: int) -> dict[str, Any]:
    from scipy.optimize import minimize

    objective = _Objective(task, width, record)
    v = np.concatenate([part.ravel() for part in first_network(task.X, task.y, width, task.seed)])
    options = {"maxiter": 10**9, "maxfun": 10**9, "maxls": 50, "maxcor": 10, "ftol": 1e-15, "gtol": 1e-12}
    last, starts, steps = np.inf, 0, 0
    try:
        while True:
            result = minimize(objective, v, jac=True, method="L-BFGS-B", options=options)
            v, starts, steps = result.x, starts + 1, steps + result.nit
            if not result.fun < last * (1.0 - 1e-9):
                break
            last = result.fun
    except _Over:
        return {"starts": starts + 1}
    W, a = objective.split(v)
    record(W, None, a)
    return {"starts": starts, "iterations": steps, "message": str(result.message)}


def _of_width(width: int) -> Peer:
    return Peer(f"lbfgs-{width}", "cvxnn", "relu", lambda task, record: _solve(task, record, width))


PEERS = [_of_width(width) for width in (50, 100, 500)]
