"""Max-margin networks: reference optima, weak duality, KKT residuals, and data that cannot be separated."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import certify_margin, max_margin
from cvxnn.architectures.relu import ReLU
from cvxnn.network import Network


def plain_norm(network, hidden):
    first, last = network.layers[0], network.layers[-1]
    bias = np.sum(first.bias**2) if hidden == "penalized" else 0.0
    return 0.5 * (np.sum(first.weight**2) + bias + np.sum(last.weight**2))


def test_reference_optima(golden):
    seen = 0
    for record in golden:
        if record["system"] != "max_margin":
            continue
        X, y = np.array(record["X"]), np.array(record["Y"])
        found = max_margin(X, y, hidden_bias=None)
        certificate, optimum = found.certificate, record["optimum"]
        assert certificate.scope == "global"
        assert certificate.norm == pytest.approx(optimum, rel=1e-7), record["id"]
        assert certificate.lower_bound <= optimum + record["tolerance"]
        assert certificate.gap <= 1e-6
        assert plain_norm(found.network, None) == pytest.approx(optimum, rel=1e-7)
        assert np.min(y * found.network(X)) >= 1 - 1e-9
        assert certificate.stationarity <= 1e-3 and abs(certificate.complementarity) <= 1e-6
        assert np.sum(found.multipliers) == pytest.approx(optimum, rel=1e-6)
        seen += 1
    assert seen == 3


@pytest.mark.parametrize(("hidden", "intercept"), [("penalized", False), ("free", True), (None, True)])
def test_no_other_network_is_below_the_bound(hidden, intercept):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "in", "out")
    sign = np.where(y == "out", 1.0, -1.0)
    found = max_margin(X, y, hidden_bias=hidden, fit_intercept=intercept)
    assert found.certificate.scope == "global" and found.certificate.gap <= 1e-5
    assert np.min(sign * found.network(X)) >= 1 - 1e-9
    # the best choice among thousands of random neurons, by linear programming, is a network too
    from scipy.optimize import linprog

    problem_units = rng.normal(size=(3000, 3))
    architecture = ReLU(hidden)
    from cvxnn.max_margin import _problem

    problem = architecture.problem_of(_problem(X, sign, hidden, intercept))
    H = architecture.unit_neurons(problem, None, problem_units).T
    A = np.hstack([H, -H, np.ones((12, 1)) * problem.intercept])
    cost = np.append(np.ones(6000), 0.0)
    box = [(0.0, None)] * 6000 + [(None, None)]
    rival = linprog(cost, A_ub=-sign[:, None] * A, b_ub=-np.ones(12), bounds=box, method="highs")
    assert found.certificate.lower_bound <= rival.fun * (1 + 1e-9)
    assert found.certificate.norm <= rival.fun * (1 + 1e-6)
    assert rival.fun <= 1.5 * found.certificate.norm  # the rivals are not hopeless


def test_orthogonally_separable_data_need_one_neuron_for_each_class():
    rng = np.random.default_rng(1)
    X = np.vstack([rng.uniform(0.1, 1.0, size=(8, 2)), -rng.uniform(0.1, 1.0, size=(8, 2))])
    y = np.repeat([1, 0], 8)
    found = max_margin(X, y, hidden_bias=None)
    assert found.network.width == 2 and found.certificate.gap <= 1e-6


def test_a_network_trained_by_gradient_steps():
    """Steps on the exponential loss come near a KKT point; its distance to the best one is certified."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.uniform(0.1, 1.0, size=(5, 2)), -rng.uniform(0.1, 1.0, size=(5, 2))])
    sign = np.repeat([1.0, -1.0], 5)
    W, a = 0.3 * rng.normal(size=(2, 12)), 0.3 * rng.normal(size=12)
    residuals = []
    # a growing scale is what gradient flow arrives at; here it multiplies the output instead
    for steps, scale_of_f in ((100, 1.0), (6000, 30.0)):
        for _ in range(steps):
            T = X @ W
            f = np.maximum(T, 0.0) @ a
            p = np.exp(scale_of_f * (np.min(sign * f) - sign * f))
            g = sign * p / np.sum(p)
            grad_W, grad_a = X.T @ ((T > 0) * g[:, None] * a), np.maximum(T, 0.0).T @ g
            size = np.sqrt(np.sum(W**2) + a @ a)
            W, a = W + 0.01 * size * grad_W, a + 0.01 * size * grad_a
            scale = 1.0 / np.sqrt(np.sum(W**2) + a @ a)
            W, a = W * scale * 3, a * scale * 3
        found = certify_margin(Network.two_layer(W, np.zeros(12), a), X, sign)
        assert found.scope == "global" and found.norm >= found.lower_bound * (1 - 1e-9)
        residuals.append((found.stationarity, found.gap))
    assert residuals[1][1] < residuals[0][1] and residuals[1][1] <= 0.1
    best = max_margin(X, sign, hidden_bias=None)
    again = certify_margin(best.network, X, sign, hidden_bias=None)
    assert again.norm == pytest.approx(best.certificate.norm, rel=1e-9) and again.gap <= 1e-6
    # doubling the weights changes nothing but the margin
    first, last = best.network.layers[0], best.network.layers[-1]
    twice = certify_margin(Network.two_layer(2 * first.weight, first.bias, 2 * last.weight[:, 0]), X, sign)
    assert twice.norm == pytest.approx(again.norm, rel=1e-9) and twice.margin == pytest.approx(
        4 * again.margin
    )


def test_data_that_cannot_be_separated():
    with pytest.raises(ValueError, match="different labels"):
        max_margin([[1.0, 2.0], [1.0, 2.0]], [1, -1])
    with pytest.raises(ValueError, match="one ray"):
        max_margin([[1.0, 2.0], [2.0, 4.0], [1.0, 0.0]], [1, -1, 1], hidden_bias=None)
    assert max_margin([[1.0], [2.0]], [1, -1]).certificate.gap <= 1e-5
    with pytest.raises(ValueError, match="3 classes"):
        max_margin(np.eye(3), [0, 1, 2])
    wrong = Network.two_layer(np.eye(2), np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="does not separate"):
        certify_margin(wrong, np.eye(2), [1, -1])
