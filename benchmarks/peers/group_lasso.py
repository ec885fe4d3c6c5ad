"""Group-lasso solvers on the gated program: adelie, celer and skglm.

All three minimise ``1/(2n) |y - A w|^2 + alpha * sum_g |w_g|`` with ``A = [D_1 X ... D_P X]``. adelie has a
matrix type for it and keeps n x (d + P) numbers; celer and skglm get the dictionary itself, n x Pd numbers,
whose making counts as theirs and which is refused beyond 4 GiB. They show a solution only at the end, so
each is solved from scratch with sharper and sharper tolerances until its gap is below 1e-6; every solve has
its own clock.

References: Yang and Hastie, 2024 (adelie); Massias, Gramfort and Salmon, ICML 2018 (celer); Bertrand et
al., NeurIPS 2022 (skglm).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Peer, Task
from .arithmetic import gated_gap

TOLERANCES = 10.0 ** -np.arange(4, 17)
#: Bytes of the largest dictionary.
LARGEST = 4 * 2**30


def _ladder(task: Task, record: Any, solve: Any) -> dict[str, Any]:
    """Solve with every tolerance from scratch until the gap is small; `solve` maps it to W (P, d)."""
    masks = (task.gates @ task.X.T >= 0).astype(float)
    for tol in TOLERANCES:
        record.restart()
        W = solve(float(tol))
        record(W)
        with record.paused():
            gap = gated_gap(task.X, task.y, masks, W, task.alpha)
        if gap < 5e-7 or record.over():
            break
    return {"tolerance": float(tol), "own_gap": gap}


def _dictionary(task: Task) -> np.ndarray:
    n, d = task.X.shape
    gates = len(task.gates)
    if 8 * n * d * gates > LARGEST:
        raise MemoryError(f"a dictionary of {8 * n * d * gates / 2**30:.1f} GiB")
    A = np.empty((n, gates * d), order="F")
    open_gates = task.X @ task.gates.T >= 0
    for j in range(gates):
        np.multiply(task.X, open_gates[:, j : j + 1], out=A[:, j * d : (j + 1) * d])
    return A


def _adelie(task: Task, record: Any) -> dict[str, Any]:
    import adelie as ad

    gates, d = task.gates.shape

    def solve(tol: float) -> np.ndarray:
        masks = np.asfortranarray(task.X @ task.gates.T >= 0)
        state = ad.grpnet(
            ad.matrix.convex_relu(np.asfortranarray(task.X), masks, gated=True),
            ad.glm.gaussian(task.y),
            groups=np.arange(0, gates * d, d),
            penalty=np.ones(gates),
            lmda_path=[task.alpha],
            tol=tol,
            early_exit=False,
            intercept=False,
            progress_bar=False,
        )
        return state.betas[-1].toarray().reshape(gates, d)

    return _ladder(task, record, solve)


def _celer(task: Task, record: Any) -> dict[str, Any]:
    import warnings

    from celer import GroupLasso

    warnings.simplefilter("ignore")
    gates, d = task.gates.shape

    def solve(tol: float) -> np.ndarray:
        model = GroupLasso(d, task.alpha, max_iter=1000, tol=tol, fit_intercept=False)
        return model.fit(_dictionary(task), task.y).coef_.reshape(gates, d)

    return _ladder(task, record, solve)


def _skglm(task: Task, record: Any) -> dict[str, Any]:
    import warnings

    from skglm import GroupLasso

    warnings.simplefilter("ignore")
    gates, d = task.gates.shape

    def solve(tol: float) -> np.ndarray:
        model = GroupLasso(d, task.alpha, max_iter=1000, tol=tol, fit_intercept=False)
        return model.fit(_dictionary(task), task.y).coef_.reshape(gates, d)

    return _ladder(task, record, solve)


PEERS = [
    Peer(name, name, "gated", solve, ("squared_error",), False)
    for name, solve in (("adelie", _adelie), ("celer", _celer), ("skglm", _skglm))
]
