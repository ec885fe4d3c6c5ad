"""Group-lasso solvers on the gated program: adelie, celer and skglm.

All three minimise ``(1/n) sum loss(A w, y) + alpha * sum_g |w_g|`` with ``A = [D_1 X ... D_P X]``; celer
knows the squared error only. adelie has a matrix type for A and keeps n x (d + P) numbers; celer and skglm
get the dictionary itself, n x Pd numbers, which is refused beyond 4 GiB. Every solve has its own clock,
from plain arrays on: patterns, matrices and dictionaries are made within it, for these peers as for ours.

They show a solution only at the end, so each is solved from scratch with sharper and sharper tolerances
until its gap is below 1e-6; the time that counts is that of the first tolerance that was sharp enough, as
if it had been known, and it is measured again as often as asked.

References: Yang and Hastie, 2024 (adelie); Massias, Gramfort and Salmon, ICML 2018 (celer); Bertrand et
al., NeurIPS 2022 (skglm).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Peer, Task
from .arithmetic import gated_gap

#: The gap to reach, with a margin for the judge's arithmetic.
GAP = 0.98e-6
#: Exponents of the tolerances that are tried; adelie's is that of its own, much smaller measure.
TOLERANCES, ADELIE = range(4, 17), range(11, 18)
#: Bytes of the largest dictionary.
LARGEST = 4 * 2**30


def _ladder(task: Task, record: Any, solve: Any, exponents: range = TOLERANCES) -> dict[str, Any]:
    """Solve with every tolerance from scratch until the gap is small; `solve` maps it to W (P, d)."""
    masks = (task.gates @ task.X.T >= 0).astype(float)

    def attempt(tol: float) -> tuple[float, float]:
        record.restart()
        W = solve(tol)
        seconds = record.seconds
        record(W)
        with record.paused():
            return gated_gap(task.X, task.y, masks, W, task.alpha, task.loss), seconds

    rungs, times = list(exponents), []
    while rungs:
        tol = 10.0 ** -rungs.pop(0)
        gap, seconds = attempt(tol)
        if gap <= GAP:
            times = [seconds]
            # the first rung may have been sharper than it had to be
            while tol == 10.0 ** -exponents[0] and tol < 1e-4 and len(times) == 1:
                blunter, seconds = attempt(10.0 * tol)
                if blunter > GAP:
                    break
                tol, gap, times, exponents = 10.0 * tol, blunter, [seconds], range(exponents[0] - 1, 18)
            times += [attempt(tol)[1] for _ in range(task.repeats - 1) if times[0] < 0.3 * task.limit]
            break
        # the next rung takes no less time than this one
        if record.over() or record.spent + 2.0 * record.seconds > 2.0 * task.limit:
            record.stopped = "limit"
            break
    return {"tolerance": tol, "own_gap": gap, "times": times, "last": seconds}


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
    squared = task.loss == "squared_error"

    def solve(tol: float) -> np.ndarray:
        family = ad.glm.gaussian(task.y) if squared else ad.glm.binomial((task.y > 0).astype(float))
        masks = np.asfortranarray(task.X @ task.gates.T >= 0)
        state = ad.grpnet(
            ad.matrix.convex_relu(np.asfortranarray(task.X), masks, gated=True),
            family,
            groups=np.arange(0, gates * d, d),
            penalty=np.ones(gates),
            lmda_path=[task.alpha],
            tol=tol,
            irls_tol=tol,
            irls_max_iters=10_000,
            early_exit=False,
            intercept=False,
            progress_bar=False,
        )
        return state.betas[-1].toarray().reshape(gates, d)

    return _ladder(task, record, solve, ADELIE)


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
    from skglm.datafits import LogisticGroup
    from skglm.penalties import WeightedGroupL2
    from skglm.solvers import GroupProxNewton
    from skglm.utils.data import grp_converter

    warnings.simplefilter("ignore")
    gates, d = task.gates.shape
    indices, starts = grp_converter(d, gates * d)

    def solve(tol: float) -> np.ndarray:
        if task.loss == "squared_error":
            model = GroupLasso(d, task.alpha, max_iter=1000, tol=tol, fit_intercept=False)
            return model.fit(_dictionary(task), task.y).coef_.reshape(gates, d)
        datafit = LogisticGroup(starts, indices)
        penalty = WeightedGroupL2(task.alpha, np.ones(gates), starts, indices)
        solver = GroupProxNewton(max_iter=1000, tol=tol, fit_intercept=False)
        return solver.solve(_dictionary(task), task.y, datafit, penalty)[0].reshape(gates, d)

    return _ladder(task, record, solve)


PEERS = [
    Peer("adelie", "adelie", "gated", _adelie, random=False),
    Peer("skglm", "skglm", "gated", _skglm, random=False),
    Peer("celer", "celer", "gated", _celer, ("squared_error",), False),
]
