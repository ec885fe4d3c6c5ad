"""scikit-learn's MLP, with L-BFGS and Adam.

Its networks always have unpenalised biases, so it solves another problem than the rest: a larger family,
judged with ``hidden_bias="free"`` against cvxnn trained on the same problem, in a table of its own. Its
penalty is ``alpha/2 |W|^2 / n``, so its alpha is ours times n. As it cannot be watched, it is fitted from
scratch with more and more iterations, and every fit has its own clock.
"""

from __future__ import annotations

import warnings
from typing import Any

from . import Peer, Task

WIDTH, ITERATIONS = 500, (30, 100, 300, 1000, 3000, 10_000, 30_000)


def _fit(task: Task, record: Any, **options: Any) -> dict[str, Any]:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore")
    estimator = MLPRegressor if task.loss == "squared_error" else MLPClassifier
    steps = 0
    for steps in ITERATIONS:
        record.restart()
        mlp = estimator(
            hidden_layer_sizes=(WIDTH,),
            alpha=task.alpha * len(task.y),
            max_iter=steps,
            random_state=task.seed,
            **options,
        ).fit(task.X, task.y)
        record(mlp.coefs_[0], mlp.intercepts_[0], mlp.coefs_[1][:, 0], float(mlp.intercepts_[1][0]))
        if mlp.n_iter_ < steps or record.over() or 3.0 * record.seconds > task.limit:
            break
    return {"iterations": steps}


def _lbfgs(task: Task, record: Any) -> dict[str, Any]:
    return _fit(task, record, solver="lbfgs", tol=1e-12, max_fun=10**9)


def _adam(task: Task, record: Any) -> dict[str, Any]:
    full = {"batch_size": len(task.y), "shuffle": False, "n_iter_no_change": 10**9, "tol": 0.0}
    return _fit(task, record, solver="adam", learning_rate_init=1e-2, **full)


PEERS = [Peer("sklearn-lbfgs", "cvxnn", "free", _lbfgs), Peer("sklearn-adam", "cvxnn", "free", _adam)]
