"""Gated and convolutional networks of several outputs: the solver of nuclear norms, and its shrinkage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris

from cvxnn import ConvexNetClassifier
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.architectures.gated import GatedReLU
from cvxnn.losses import code_classes, get_loss
from cvxnn.program import Problem, Status
from cvxnn.shrinkage import Shrinkage
from cvxnn.solvers import SOLVERS, run
from cvxnn.train import choose_solver


def lifted(family, X, y, loss="squared_error", alpha=0.01, intercept=True):
    outputs = 1 if y.ndim == 1 else y.shape[1]
    problem = Problem.from_alpha(X, y, None, get_loss(loss, outputs), alpha, intercept)
    family = family.for_outputs(outputs)
    return family.lift(problem, family.arrange(problem, np.random.default_rng(0)))


@pytest.mark.parametrize(("shape", "outputs"), [((3, 4, 3), 3), ((3, 2, 5), 5), ((2, 3, 6), 2)])
def test_factors_are_those_of_the_derivative(shape, outputs):
    """By finite differences: tall and wide matrices, and ones with several windows."""
    rng = np.random.default_rng(1)
    V, D = rng.normal(size=shape), rng.normal(size=shape)
    step, entries = 1e-6, V.size // outputs
    threshold = 1.03 * float(np.median(np.linalg.svd(V, compute_uv=False)))
    ahead, behind = (Shrinkage(V + h * D, threshold).value for h in (step, -step))
    here = Shrinkage(V, threshold)
    Y = here.factors(np.eye(entries), outputs)
    found = np.einsum("nor,mpr,mp->no", Y, Y, D.reshape(entries, outputs)).reshape(shape)
    assert found == pytest.approx((ahead - behind) / (2.0 * step), abs=1e-7)
    assert np.any(found) and len(here.active)
    ranks = [np.linalg.matrix_rank(M) for M in here.value[here.active]]
    assert Y.shape[2] == sum(r * (shape[1] + shape[2] - r) for r in ranks)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "huber"])
def test_against_clarabel(loss):
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(12, 3)), np.arange(12) % 3
    y = rng.normal(size=(12, 3))
    y = code_classes(labels, get_loss(loss, 3), 3) if loss == "log_loss" else y
    program = lifted(GatedReLU(patterns=5), X, y, loss)
    reference, _ = program.to_cvxpy()
    reference.solve(solver="CLARABEL")
    solution = run(SOLVERS["ssnal"](), program, tol=1e-9)
    assert solution.gap <= 1e-9
    assert solution.primal == pytest.approx(reference.value, rel=1e-6)
    assert solution.bound <= reference.value * (1.0 + 1e-7)


def test_every_scale_of_the_data():
    """Without biases alpha scales along with the data, and the optimum stays.

    First-order steps end far above it off unit scale.
    """
    X, labels = load_iris(return_X_y=True)
    X, y, found = X - X.mean(axis=0), code_classes(labels, get_loss("log_loss", 3), 3), []
    for scale in (1e-4, 1.0, 1e4):
        family = GatedReLU(patterns=10, hidden_bias=None)
        program = lifted(family, scale * X, y, "log_loss", 0.001 * scale)
        assert choose_solver(program).name == "ssnal"
        solution = run(SOLVERS["ssnal"](), program, tol=1e-8)
        assert solution.gap <= 1e-8
        found.append(solution.primal)
    assert found == pytest.approx([found[1]] * 3, rel=2e-8)


@pytest.mark.parametrize("pool", ["all", 2])
def test_convolutions(pool):
    """An output weight for every window, of one output and of two."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(20, 16)), rng.normal(size=(20, 2))
    for target in (y, y[:, 0]):
        program = lifted(CNNGated(input_shape=(4, 4), patterns=5, pool=pool), X, target, alpha=0.02)
        able, why = SOLVERS["ssnal"]().supports(program)
        assert able or (target.ndim == 1 and pool == "all" and "nuclear" in why)
        if able:
            ours, other = (run(SOLVERS[name](), program, tol=1e-8) for name in ("ssnal", "fista"))
            assert max(ours.gap, other.gap) <= 1e-8
            assert ours.primal == pytest.approx(other.primal, rel=2e-8)


def test_estimators_reach_the_last_digits():
    X, y = load_iris(return_X_y=True)
    model = ConvexNetClassifier(alpha=1e-3, architecture="gated_relu", patterns=10, tol=1e-9).fit(X, y)
    assert model.certificate_.gap <= 1e-9 and model.certificate_.scope == "patterns"


def test_a_decay_that_is_next_to_none():
    """What Newton's method does not find is not tried for ever."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 16)), rng.normal(size=(10, 2))
    family = CNNGated(input_shape=(4, 4), patterns=3, pool=2, hidden_bias=None)
    program = lifted(family, X, y, alpha=1e-7, intercept=False)
    solution = run(SOLVERS["ssnal"](), program, tol=0.0, max_iter=10_000)
    assert solution.status is Status.stalled and solution.gap <= 1e-5
