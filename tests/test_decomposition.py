"""Cone decompositions: same predictions, inside the cones, and never beyond the bound."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import ConvexNetRegressor, relu_from_gated
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.decomposition import decompose, deepest_gate
from cvxnn.losses import get_loss
from cvxnn.network import Network
from cvxnn.program import Problem
from cvxnn.train import train

METHODS = ("min_norm", "closed_form", "approximate")


def cone(seed, n=12, d=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    g = rng.normal(size=d)
    return np.where(X @ g >= 0, 1.0, -1.0)[:, None] * X, rng.normal(size=d), g


@pytest.mark.parametrize("seed", range(6))
def test_differences_of_two_points_of_the_cone(seed):
    A, w, g = cone(seed)
    sizes = {}
    for method in METHODS:
        u, v, bound = decompose(A, w, method)
        assert np.allclose(u - v, w, atol=1e-12)
        scale = np.linalg.norm(A, axis=1) * (np.linalg.norm(u) + np.linalg.norm(v))
        assert np.min(A @ u + 1e-13 * scale) >= 0 and np.min(A @ v + 1e-13 * scale) >= 0
        sizes[method] = np.linalg.norm(u) + np.linalg.norm(v)
        assert sizes[method] <= bound * (1 + 1e-12)
        # the gate itself gives a weaker bound than the deepest one
        own = np.max(np.linalg.norm(A, axis=1) * np.linalg.norm(g) / (A @ g))
        assert bound <= np.linalg.norm(w) * (1 + 2 * own) * (1 + 1e-6)
    assert sizes["min_norm"] <= min(sizes.values()) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_least_norm_against_another_solver(seed):
    cp = pytest.importorskip("cvxpy")
    A, w, _ = cone(seed)
    v = cp.Variable(3)
    problem = cp.Problem(cp.Minimize(cp.norm(w + v) + cp.norm(v)), [A @ v >= 0, A @ (w + v) >= 0])
    problem.solve(solver="CLARABEL")
    u, v, _ = decompose(A, w)
    assert np.linalg.norm(u) + np.linalg.norm(v) == pytest.approx(problem.value, rel=1e-5)


def test_the_deepest_gate():
    g, depth = deepest_gate(np.eye(3))
    assert np.allclose(g, np.ones(3) / np.sqrt(3), atol=1e-6) and depth == pytest.approx(1 / np.sqrt(3))
    # the cone between x and -x is a line: no interior
    assert deepest_gate(np.array([[1.0, 0.0], [-1.0, 0.0]]))[1] == 0.0
    with pytest.raises(ValueError, match="no interior"):
        decompose(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, 0.0]))


def test_the_identity_example():
    """X = I, y = (3, 4, -2), one gate 111: the decomposition has objective 6.2, the optimum is 6."""
    X, y = np.eye(3), np.array([3.0, 4.0, -2.0])
    problem = Problem(X, y, np.ones(3), get_loss("squared_error"), 1.0)
    gated = train(problem, GatedReLU(None, np.ones((1, 3))), tol=1e-10).network
    found = relu_from_gated(gated, X)
    w = (1 - 1 / np.sqrt(29)) * y
    assert found.cost == pytest.approx(7 * (1 - 1 / np.sqrt(29)), rel=1e-6)
    assert found.gated_cost == pytest.approx(np.linalg.norm(w), rel=1e-6)
    assert problem.value(found.network(X), ReLU(None).cost(found.network)) == pytest.approx(6.2, abs=1e-3)
    best = train(problem, ReLU(None), tol=1e-9).certificate
    assert best.objective * 3 == pytest.approx(6.0, abs=1e-7)


@pytest.mark.parametrize("hidden", [None, "penalized"])
@pytest.mark.parametrize("method", METHODS)
def test_whole_networks(hidden, method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(25, 3))
    y = X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=25)
    model = ConvexNetRegressor(1e-2, architecture="gated_relu", patterns=20, hidden_bias=hidden).fit(X, y)
    found = relu_from_gated(model, X, method=method)
    assert found.violation <= 1e-10
    assert np.allclose(found.network(X), model.predict(X), atol=1e-10)
    assert ReLU(hidden).cost(found.network) == pytest.approx(found.cost, rel=1e-12)
    assert found.gated_cost <= found.cost <= found.bound * (1 + 1e-9)
    # the gated value, the ReLU optimum on the same patterns and the decomposition are in this order
    total = model.certificate_.objective + 1e-2 * (found.cost - found.gated_cost)
    relu = Problem.from_alpha(X, y, None, get_loss("squared_error"), 1e-2, True)
    assert relu.value(found.network(relu.X), found.cost) / 25 == pytest.approx(total, rel=1e-9)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="not gated"):
        relu_from_gated(Network.two_layer(np.eye(2), np.zeros(2), np.ones(2)), np.eye(2))
    model = ConvexNetRegressor(architecture="gated_relu", patterns=5).fit(np.eye(3), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="training data"):
        relu_from_gated(model, np.eye(2))
    with pytest.raises(ValueError, match="min_norm"):
        relu_from_gated(model, np.eye(3), method="best")
