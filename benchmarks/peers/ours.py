"""cvxnn itself: growing patterns, its own stopping rule (search gap 1e-5), and its certificate at the end.

In its first repetition it runs to its own end, also where peers may stop at the target, so that its final
objective, search gap and lower bound are known; the others, which only time it, stop at the target.
"searched" is the second at which training was over and the proof began.
"""

from __future__ import annotations

import time
from typing import Any

from . import Peer, Task

TOL = 1e-5


def _problem(task: Task) -> Any:
    from cvxnn.losses import get_loss
    from cvxnn.program import Problem

    return Problem.from_alpha(task.X, task.y, None, get_loss(task.loss), task.alpha, False)


def _train(task: Task, record: Any, architecture: Any, tol: float, **options: Any) -> dict[str, Any]:
    from cvxnn.architectures.gated import GatedReLU
    from cvxnn.train import BOUND_ITER, train

    gated = isinstance(architecture, GatedReLU)
    moments: list[Any] = []
    wall = record.clock is time.perf_counter

    def show(network: Any) -> None:
        if network is None:
            return
        if gated:
            with record.paused():
                W = _per_gate(network, task)
            record(W, None, None)
        else:
            first, last = network.layers[0], network.layers[-1]
            record(first.weight, first.bias, last.weight[:, 0], last.bias[0])

    def hear(moment: Any) -> None:
        moments.append((record.seconds, moment))
        show(getattr(moment, "network", None))
        # Training's own limit is one of the wall; the last moment, with its bound, comes after training.
        if moment.bound > 0.0:
            return
        if record.over(moment.objective) and (record.stopped == "target" or not wall):
            raise KeyboardInterrupt

    trained = train(
        _problem(task),
        architecture,
        tol=tol,
        random_state=task.seed,
        max_time=task.limit if wall else None,
        callback=hear,
        bound_iter=BOUND_ITER if record.target == float("-inf") else 0,  # only timed: no proof
        **options,
    )
    seconds = record.seconds
    show(trained.network)
    certificate = trained.certificate
    return {
        "status": str(trained.status),
        "cut": record.stopped == "target",
        "rounds": trained.n_iter,
        "width": trained.network.width,
        "search_gap": certificate.search_gap,
        "lower_bound": certificate.lower_bound,
        "gap": certificate.gap,
        "searched": moments[-2][0] if len(moments) > 1 else seconds,
        "seconds": seconds,
    }


def _per_gate(network: Any, task: Task) -> Any:
    """Scatter a gated network's neurons to the rows of the gates, shape (P, d)."""
    import numpy as np

    layer, last = network.layers[0], network.layers[-1]
    rows = {gate.tobytes(): j for j, gate in enumerate(np.ascontiguousarray(task.gates))}
    W = np.zeros(task.gates.shape)
    for j in range(layer.gates.shape[1]):
        gate = np.ascontiguousarray(layer.gates[:, j])
        W[rows[gate.tobytes()]] += layer.weight[:, j] * last.weight[j, 0]
    return W


def _relu(task: Task, record: Any) -> dict[str, Any]:
    from cvxnn.architectures.relu import ReLU

    return _train(task, record, ReLU(hidden_bias=None), TOL)


def _free(task: Task, record: Any) -> dict[str, Any]:
    from cvxnn.architectures.relu import ReLU

    return _train(task, record, ReLU(hidden_bias="free"), TOL)


def _gated(task: Task, record: Any) -> dict[str, Any]:
    from cvxnn.architectures.gated import GatedReLU

    family = GatedReLU(hidden_bias=None, patterns=task.gates)
    # Peers have solved the very problem, less sharply, before the solve that counts: their memory is theirs
    # already. Ours is asked for by a solve that is not counted.
    _train(task, type(record)(task.limit, None, record.clock), family, 1e-6, max_iter=10_000)
    record.start()
    facts, times = {}, []
    for k in range(task.repeats):
        if k:
            record.restart()
        facts = _train(task, record, family, 1e-6, max_iter=10_000)
        times.append(facts["seconds"])
    return facts | {"times": times}


PEERS = [
    Peer("cvxnn", "cvxnn", "relu", _relu),
    Peer("cvxnn-free", "cvxnn", "free", _free),
    Peer("cvxnn-gated", "cvxnn", "gated", _gated, random=False),
]
