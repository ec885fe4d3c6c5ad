"""scnn, the reference implementation of convex networks on sampled patterns (PyPI: pyscnn).

R-FISTA solves the gated program, an augmented Lagrangian (AL) the ReLU program on 250 or 1000 sampled
patterns, each with both signs. Its objective is ``1/(2n) |f - y|^2 + lambda * sum of norms``, so lambda
is alpha; the judge's gap of its gated networks confirms that. Data are not rescaled again
(``unitize_data=False``), float64. Its own loop has a place for a callback, which its public functions
leave empty: that is where snapshots are taken.

Reference: Mishkin, Sahiner and Pilanci, ICML 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Peer, Task
from .arithmetic import gated_gap


class _Over(Exception):
    """Time is up."""


def _optimize(model: Any, solver: Any, task: Task, hear: Any) -> None:
    """Call scnn's ``optimize_model`` with a callback in its loop."""
    import scnn.optimize as module
    from scnn.metrics import Metrics
    from scnn.regularizers import NeuronGL1

    build = module.build_optimizer

    def with_callback(*arguments: Any) -> Any:
        procedure = build(*arguments)
        return lambda *given, **named: procedure(*given, **named, callback=hear)

    module.build_optimizer = with_callback
    try:
        module.optimize_model(
            model,
            solver,
            Metrics(metric_freq=10**9),
            task.X,
            task.y,
            regularizer=NeuronGL1(task.alpha),
            return_convex=True,
            unitize_data=False,
            dtype="float64",
        )
    except _Over:
        pass
    finally:
        module.build_optimizer = build


def _gated(task: Task, record: Any) -> dict[str, Any]:
    from scnn.models import ConvexGatedReLU
    from scnn.solvers import RFISTA

    model = ConvexGatedReLU(np.ascontiguousarray(task.gates.T))
    masks = (task.gates @ task.X.T > 0).astype(float)
    steps = 0

    def hear(internal: Any, X: Any, y: Any) -> Any:
        nonlocal steps
        steps += 1
        if record.due() or record.over():
            W = np.asarray(internal.weights)[0]
            record(W)
            with record.paused():
                gap = gated_gap(task.X, task.y, masks, W, task.alpha, task.loss)
            if gap < 1e-7 or record.over():
                raise _Over
        return internal

    _optimize(model, RFISTA(model, max_iters=10**9, tol=1e-24), task, hear)
    return {"iterations": steps}


def _relu(task: Task, record: Any, patterns: int) -> dict[str, Any]:
    from scnn.activations import sample_gate_vectors
    from scnn.models import ConvexReLU
    from scnn.solvers import AL

    model = ConvexReLU(sample_gate_vectors(task.seed, task.X.shape[1], patterns))
    steps, last = 0, None

    def take(weights: Any) -> None:
        both = np.asarray(weights).reshape(2, -1, task.X.shape[1])
        neurons, signs = np.concatenate(both), np.repeat([1.0, -1.0], both.shape[1])
        norms = np.linalg.norm(neurons, axis=1)
        kept = norms > 0
        root = np.sqrt(norms[kept])
        record((neurons[kept] / root[:, None]).T, None, signs[kept] * root)

    def hear(internal: Any, X: Any, y: Any) -> Any:
        nonlocal steps, last
        steps, last = steps + 1, internal
        over = record.over()
        if over or record.due():
            take(internal.weights)
        if over:
            raise _Over
        return internal

    _optimize(model, AL(model, max_primal_iters=10**9, max_dual_iters=10**9), task, hear)
    if last is not None and record.stopped == "finished":
        take(last.weights)
    return {"iterations": steps, "patterns": patterns}


def _of_patterns(patterns: int) -> Peer:
    return Peer(
        f"scnn-al-{patterns}",
        "scnn",
        "relu",
        lambda task, record: _relu(task, record, patterns),
        ("squared_error",),
    )


PEERS = [
    _of_patterns(250),
    _of_patterns(1000),
    Peer("scnn-rfista", "scnn", "gated", _gated, ("squared_error",), False),
]
