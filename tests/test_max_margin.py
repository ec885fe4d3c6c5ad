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
        assert certificate.stationarity <= 1e-5 and 0.0 <= certificate.complementarity <= 1e-6
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


def exponential_steps(X, sign, stages, width=12):
    """Weights trained on the exponential loss; a growing scale is what gradient flow arrives at."""
    rng = np.random.default_rng(0)
    W, a = 0.3 * rng.normal(size=(X.shape[1], width)), 0.3 * rng.normal(size=width)
    for steps, scale_of_f, rate in stages:
        for _ in range(steps):
            T = X @ W
            f = np.maximum(T, 0.0) @ a
            p = np.exp(scale_of_f * (np.min(sign * f) - sign * f))
            g = sign * p / np.sum(p)
            grad_W, grad_a = X.T @ ((T > 0) * g[:, None] * a), np.maximum(T, 0.0).T @ g
            size = np.sqrt(np.sum(W**2) + a @ a)
            W, a = W + rate * size * grad_W, a + rate * size * grad_a
            size = np.sqrt(np.sum(W**2) + a @ a)
            W, a = 3.0 * W / size, 3.0 * a / size
        yield Network.two_layer(W, np.zeros(width), a)


def test_a_network_trained_by_gradient_steps():
    """Steps on the exponential loss come near a KKT point; its distance to the best one is certified."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.uniform(0.1, 1.0, size=(5, 2)), -rng.uniform(0.1, 1.0, size=(5, 2))])
    sign = np.repeat([1.0, -1.0], 5)
    stages = ((100, 1.0, 0.01), (6000, 30.0, 0.01), (6000, 300.0, 0.003), (6000, 3000.0, 0.0005))
    found = [certify_margin(network, X, sign) for network in exponential_steps(X, sign, stages)]
    for each in found:
        assert each.scope == "global" and each.norm >= each.lower_bound * (1 - 1e-9)
    assert found[0].stationarity >= 0.1 and found[0].complementarity >= 0.1
    # whatever the multipliers are, none of their conditions is worse than the stage allows
    for each, gap, stationarity in zip(found[1:], (0.03, 3e-3, 3e-4), (5e-3, 1e-4, 1e-5), strict=True):
        assert each.gap <= gap and each.complementarity <= gap and each.stationarity <= stationarity
    best = max_margin(X, sign, hidden_bias=None)
    again = certify_margin(best.network, X, sign, hidden_bias=None)
    assert again.norm == pytest.approx(best.certificate.norm, rel=1e-9) and again.gap <= 1e-6
    # doubling the weights changes nothing but the margin
    first, last = best.network.layers[0], best.network.layers[-1]
    twice = certify_margin(Network.two_layer(2 * first.weight, first.bias, 2 * last.weight[:, 0]), X, sign)
    assert twice.norm == pytest.approx(again.norm, rel=1e-9) and twice.margin == pytest.approx(
        4 * again.margin
    )


@pytest.mark.parametrize(("hidden", "intercept"), [(None, False), ("penalized", True), ("free", True)])
def test_residuals_go_to_zero_with_the_distance_to_a_kkt_point(hidden, intercept):
    """Also where samples lie on kinks, which the smallest step leaves."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    sign = np.where(X[:, 0] * X[:, 1] > 0, 1.0, -1.0)
    best = max_margin(X, sign, hidden_bias=hidden, fit_intercept=intercept).network
    first, last = best.layers[0], best.layers[-1]
    T = X @ first.weight + first.bias
    assert np.any(np.abs(T) <= 1e-6)  # or there would be no kinks to test with
    steps = [rng.normal(size=part.shape) for part in (first.weight, first.bias, last.weight[:, 0])]
    residuals = []
    for t in (1e-2, 1e-3, 1e-5, 1e-7):
        W, b, a = (
            part + t * np.abs(part) * step
            for part, step in zip((first.weight, first.bias, last.weight[:, 0]), steps, strict=True)
        )
        near = certify_margin(Network.two_layer(W, b, a, best.intercept), X, sign, hidden_bias=hidden)
        residuals.append(max(near.stationarity, near.complementarity))
        assert residuals[-1] <= 30.0 * t + 2e-6
    assert residuals[0] >= 1e-4


def test_a_network_far_from_every_kkt_point():
    """Two neurons where one would do, in directions that no multipliers have."""
    X, sign = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, -1.0])
    W = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2.0)
    found = certify_margin(Network.two_layer(W, np.zeros(2), np.array([1.0, -1.0])), X, sign)
    # the gradients have no second coordinate, the neurons have half of their squared length there
    assert found.stationarity == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert found.complementarity == pytest.approx(0.0, abs=1e-6)


def test_networks_of_others():
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2))
    y = np.where(X[:, 0] > 0.2 * X[:, 1], "right", "left")
    mlp = MLPClassifier((4,), solver="lbfgs", alpha=0.0, max_iter=300, random_state=1).fit(X, y)
    (W1, W2), (b1, b2) = mlp.coefs_, mlp.intercepts_
    plain = certify_margin(Network.two_layer(W1, b1, W2[:, 0], b2[0]), X, y)
    assert certify_margin(mlp, X, y) == certify_margin((W1, b1, W2, b2), X, y) == plain
    with pytest.raises(ValueError, match=r"other than the network's classes \['left', 'right'\]"):
        certify_margin(mlp, X, np.where(y == "left", "left", "up"))
    with pytest.raises(TypeError, match="cannot read a network from str"):
        certify_margin("network", X, y)
    deep = MLPClassifier((3, 3), max_iter=1).fit(X, y)
    several = MLPClassifier((3,), max_iter=1).fit(X, np.arange(20) % 3)
    for other in (deep, several, MLPClassifier((3,), "identity", max_iter=1).fit(X, y)):
        with pytest.raises(ValueError, match="one hidden layer of ReLUs and one output"):
            certify_margin(other, X, y)


def test_torch_modules():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    X = torch.tensor([[1.0, 0.2], [-1.0, 0.1], [0.5, -0.3]], dtype=torch.float64)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[0].weight[:] = torch.tensor([[1.0, 0.1], [-1.0, 0.2], [0.0, 0.0]])
        net[2].weight[:] = torch.tensor([[9.0, -9.0, 0.1]])
    y = torch.tensor([1.0, -1.0, 1.0])
    weights = [part.detach().numpy() for part in net.parameters()]
    plain = Network.two_layer(weights[0].T, weights[1], weights[2][0], weights[3][0])
    assert certify_margin(net, X, y) == certify_margin(plain, X.numpy(), y.numpy())
    normalised = torch.nn.Sequential(net[0], torch.nn.BatchNorm1d(3).double().eval(), net[1], net[2])
    with pytest.raises(ValueError, match="not normalised"):
        certify_margin(normalised, X, y)


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
