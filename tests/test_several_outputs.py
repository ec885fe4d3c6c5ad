"""Networks with several outputs: known optima, laws, and certificates against rivals."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.architectures.vector_gated import VectorGatedReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train

LOSS = {"squared": "squared_error", "softmax": "log_loss"}


def problem_of(record):
    X, Y, params = np.array(record["X"]), np.array(record["Y"], dtype=float), record["params"]
    assert params["bias"] == "none"
    return Problem(X, Y, np.ones(len(X)), get_loss(LOSS[params["loss"]], 2), params["beta"])


def architecture_of(record):
    if record["system"] == "gated_vector":
        return VectorGatedReLU(None, np.array(record["params"]["gate_vectors_columns"]).T)
    return VectorReLU(None)


def plain_objective(record, network):
    """The objective of the reference from plain weights: weight decay as it is usually written."""
    X, Y, params = np.array(record["X"]), np.array(record["Y"], dtype=float), record["params"]
    first, last = network.layers[0], network.layers[-1]
    T = X @ first.weight
    f = ((X @ first.gates >= 0) * T if hasattr(first, "gates") else np.maximum(T, 0.0)) @ last.weight
    if params["loss"] == "squared":
        loss = 0.5 * np.sum((f - Y) ** 2)
    else:
        loss = np.sum(np.log(np.sum(np.exp(f), axis=1)) - np.sum(f * Y, axis=1))
    return loss + 0.5 * params["beta"] * (np.sum(first.weight**2) + np.sum(last.weight**2))


def test_reference_optima(golden):
    seen = 0
    for record in golden:
        if record["system"] not in ("relu_vector", "gated_vector") or record["id"] == "vec-c1":
            continue  # one output is the scalar program
        optimum, tol, name = record["optimum"], record["tolerance"], record["id"]
        problem = problem_of(record)
        trained = train(problem, architecture_of(record), tol=1e-8)
        c, n = trained.certificate, len(problem.y)
        print(
            name,
            optimum,
            c.objective * n - optimum,
            c.lower_bound * n - optimum,
            c.search_gap,
            trained.status.name,
            tol,
        )
        assert c.lower_bound * n <= optimum + tol, name
        assert c.objective * n >= optimum - tol, name
        assert abs(c.objective * n - optimum) <= max(tol, 1e-7 * optimum), name
        assert c.scope == ("patterns" if record["system"] == "gated_vector" else "global"), name
        assert plain_objective(record, trained.network) == pytest.approx(optimum, abs=2 * tol, rel=1e-7), (
            name
        )
        assert c.gap <= 1e-5, name
        seen += 1
    assert seen == 8
