"""Sizes of neurons whose directions are held: optimality conditions, scales, several outputs."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.losses import get_loss
from cvxnn.positive_lasso import positive_lasso
from cvxnn.program import Problem


def targets(rng, loss, n):
    if loss == "poisson":
        return rng.poisson(3.0, size=n).astype(float)
    return np.sign(rng.normal(size=n)) if loss == "log_loss" else rng.normal(size=n)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "log_loss", "poisson"])
@pytest.mark.parametrize("spread", [0.0, 4.0])
def test_prices_are_beta_where_sizes_are_positive_and_below_elsewhere(loss, spread):
    rng = np.random.default_rng(int(spread))
    n, k, intercept = 20, 60, loss in ("huber", "log_loss")
    scale = 10.0 ** rng.uniform(-spread, spread, size=(n, 1))
    C = np.maximum(rng.normal(size=(n, 4)) * scale @ rng.normal(size=(4, k)), 0.0) * rng.choice([-1, 1], k)
    problem = Problem(
        np.zeros((n, 1)), targets(rng, loss, n), np.ones(n), get_loss(loss, 1), 0.5, intercept
    )
    x = positive_lasso(problem, C, np.zeros(k))
    f = C @ x
    if intercept:
        f = f + problem.loss.intercept(f, problem.y, problem.weights)
    prices = C.T @ problem.residual(f) / problem.beta
    assert np.all(x >= 0.0) and 0 < np.sum(x > 0) < k
    assert np.max(prices) <= 1.0 + 1e-5
    # what sizes times prices are off is what the duality gap is
    assert x @ (1.0 - prices) * problem.beta <= 1e-8 * problem.value(f, float(np.sum(x)))


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_several_outputs(loss):
    rng = np.random.default_rng(2)
    n, k = 12, 30
    Y = np.eye(3)[rng.integers(3, size=n)] if loss == "log_loss" else rng.normal(size=(n, 3))
    problem = Problem(np.zeros((n, 1)), Y, np.ones(n), get_loss(loss, 3), 0.2, True)
    G = rng.normal(size=(k, 3))
    C = np.maximum(rng.normal(size=(n, k)), 0.0)[:, None, :] * (G / np.linalg.norm(G, axis=1)[:, None]).T
    x = positive_lasso(problem, C, np.zeros(k))
    f = C @ x
    f = f + problem.loss.intercept(f, Y, problem.weights)
    prices = np.einsum("nok,no->k", C, problem.residual(f)) / problem.beta
    assert np.any(x > 0) and np.max(prices) <= 1.0 + 1e-6
    assert np.allclose(prices[x > 0], 1.0, atol=1e-6)


def test_what_nothing_pays_for_is_zero():
    problem = Problem(np.zeros((3, 1)), np.ones(3), np.ones(3), get_loss("squared_error", 1), 10.0, False)
    C = np.array([[1.0, -1.0, 0.0]] * 3)
    assert np.array_equal(positive_lasso(problem, C, np.ones(3)), np.zeros(3))


@pytest.mark.parametrize("seed", range(4))
def test_a_softmax_at_weak_decay(seed):
    """It does not see what is added to all outputs, so its matrices are singular in the constants."""
    rng = np.random.default_rng(seed)
    n, k = 8, 30
    Y, G = np.eye(3)[np.arange(n) % 3], rng.normal(size=(3, k))
    C = np.maximum(rng.normal(size=(n, k)), 0.0)[:, None, :] * (G / np.linalg.norm(G, axis=0))
    problem = Problem(np.zeros((n, 1)), Y, np.ones(n), get_loss("log_loss", 3), 1e-6, True)
    f = C @ positive_lasso(problem, C, np.zeros(k))
    f = f + problem.loss.intercept(f, Y, problem.weights)
    assert np.max(np.einsum("nok,no->k", C, problem.residual(f))) <= 1e-6 * (1.0 + 1e-3)


@pytest.mark.filterwarnings("error")
def test_targets_of_zero():
    problem = Problem(np.zeros((3, 1)), np.zeros(3), np.ones(3), get_loss("squared_error", 1), 0.1, False)
    assert np.array_equal(positive_lasso(problem, np.eye(3), np.zeros(3)), np.zeros(3))
