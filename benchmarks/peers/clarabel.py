"""CVXPY with Clarabel on the ReLU program of 50 sampled patterns, each with both signs.

The general conic road: exact on its patterns, but patterns do not grow, so its network can be far above
the best. It shows its network only at the end; the clock runs from building the program. Refused beyond
200 000 cone rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Peer, Task

PATTERNS, MOST_ROWS = 50, 200_000


def _solve(task: Task, record: Any) -> dict[str, Any]:
    import cvxpy as cp

    n, d = task.X.shape
    G = np.random.default_rng(task.seed).standard_normal((d, PATTERNS))
    masks = np.unique((task.X @ G >= 0).T, axis=0)
    if 2 * n * len(masks) > MOST_ROWS:
        raise MemoryError(f"{2 * n * len(masks)} cone rows")
    U, V = cp.Variable((d, len(masks))), cp.Variable((d, len(masks)))
    XU, XV = task.X @ U, task.X @ V
    f = cp.sum(cp.multiply(masks.T.astype(float), XU - XV), axis=1)
    if task.loss == "squared_error":
        loss = 0.5 * cp.sum_squares(f - task.y) / n
    else:
        loss = cp.sum(cp.logistic(-cp.multiply(task.y, f))) / n
    norms = cp.sum(cp.norm(U, axis=0)) + cp.sum(cp.norm(V, axis=0))
    signs = 2.0 * masks.T - 1.0
    cones = [cp.multiply(signs, XU) >= 0, cp.multiply(signs, XV) >= 0]
    problem = cp.Problem(cp.Minimize(loss + task.alpha * norms), cones)
    problem.solve(solver=cp.CLARABEL, max_iter=200, time_limit=task.limit)
    if U.value is None:
        return {"message": problem.status}
    W = np.concatenate([U.value, V.value], axis=1)
    root = np.sqrt(np.maximum(np.linalg.norm(W, axis=0), 1e-300))
    record(W / root, None, np.repeat([1.0, -1.0], len(masks)) * root)
    return {"message": problem.status, "own_objective": float(problem.value)}


PEERS = [Peer("clarabel-50", "cvxnn", "relu", _solve)]
