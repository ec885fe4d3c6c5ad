"""A linear neuron beside threshold units: by hand, over all patterns, grown, read, exported and refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cvxnn import ConvexNetRegressor, Network, certify, local_linear
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.threshold import Threshold
from cvxnn.architectures.vector_threshold import VectorThreshold
from cvxnn.halfspace_skips import SkipListed, SkipSearched, SkipShattered
from cvxnn.layers import SkipThreshold
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train


def problem_of(X, y, beta, intercept=False, loss="squared_error"):
    return Problem(X, y, np.ones(len(y)), get_loss(loss), beta, intercept)


def stairs(n, d, seed=0):
    """Targets that are a line and a step."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-4, 5, (n, d)).astype(float)
    return X, 0.5 * X[:, 0] - 0.3 * X[:, -1] + 1.5 * (X[:, -1] >= 0.5) + 0.1 * rng.normal(size=n)


def all_patterns(X):
    """Every 0/1 vector, from whole weights on a grid that is fine enough for small matrices of integers."""
    grid = np.array(list(itertools.product(range(-13, 14), repeat=X.shape[1])))
    return np.unique(grid @ X.T >= 0, axis=0).astype(float)


def least(problem, D, lines, intercept):
    """The optimum over patterns ``D`` (k, n) and lines by another solver, of the program as written."""
    cp = pytest.importorskip("cvxpy")
    z, p, c = cp.Variable(len(D)), cp.Variable(lines.shape[1]), cp.Variable()
    f = D.T @ z + lines @ p + (c if intercept else 0.0)
    if problem.loss.name == "squared_error":
        fit = 0.5 * cp.sum_squares(f - problem.y)
    elif problem.loss.name == "absolute_error":
        fit = cp.norm1(f - problem.y)
    else:
        fit = cp.sum(cp.logistic(-cp.multiply(problem.y, f)))
    value = cp.Minimize(fit + problem.beta * (cp.norm1(z) + cp.norm(p)))
    return cp.Problem(value).solve("CLARABEL")


def test_two_samples_by_hand():
    """A line costs ``p`` and both samples need it: ``(p - 1)^2 + beta p``; units pay for each of them."""
    X, y, beta = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0]), 0.5
    trained = train(problem_of(X, y, beta), Threshold(None, skip=True), tol=1e-10)
    assert trained.certificate.objective * 2 == pytest.approx(beta - beta**2 / 4, rel=1e-9)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-8
    assert trained.network.width == 1 and trained.network.layers[1].passed == 1
    assert trained.network(np.array([[3.0]])) == pytest.approx(3.0 * (1.0 - beta / 2), rel=1e-6)
    without = train(problem_of(X, y, beta), Threshold(None), tol=1e-10).certificate
    assert without.objective * 2 == pytest.approx(2 * beta - beta**2, rel=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "log_loss"])
@pytest.mark.parametrize(("bias", "intercept"), [(None, False), ("penalized", True), ("free", True)])
def test_the_optimum_over_all_patterns(bias, intercept, loss):
    for seed in range(2):
        X, y = stairs(8, 2, seed)
        y = np.where(y > np.median(y), 1.0, -1.0) if loss == "log_loss" else y
        problem = problem_of(X, y, 0.4, intercept, loss)
        full = X if bias is None else np.column_stack([X, np.ones(len(X))])
        lines = X if bias == "free" else full
        value = least(problem, all_patterns(full), lines, intercept)
        for patterns in ("auto", "all"):
            trained = train(problem, Threshold(bias, patterns, skip=True), tol=1e-9)
            certificate = trained.certificate
            assert certificate.scope == "global"
            assert certificate.lower_bound * 8 <= value * (1.0 + 1e-7)
            assert certificate.objective * 8 == pytest.approx(value, rel=1e-6)
            assert certificate.gap <= 1e-6


def test_independent_rows():
    """Every set of samples is a pattern; with a line what the units are to fit is not known before."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(6, 7))
    y = X @ rng.normal(size=7) + np.array([2.0, 0, 0, 2.0, 0, 2.0])
    problem, family = problem_of(X, y, 0.7), Threshold(None, skip=True)
    assert family.arrange(problem, rng) is None
    assert isinstance(family.oracle(problem, None), SkipShattered)
    certificate = train(problem, family, tol=1e-9).certificate
    D = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    assert certificate.scope == "global" and certificate.gap <= 1e-7
    assert certificate.objective * 6 == pytest.approx(least(problem, D, X, False), rel=1e-7)
    assert certificate.objective < train(problem, Threshold(None), tol=1e-9).certificate.objective * 0.95


def test_prices_are_never_below_those_of_random_neurons():
    rng = np.random.default_rng(4)
    X, y = stairs(30, 3)
    problem, family = problem_of(X, y, 1.0, True), Threshold(skip=True)
    listed = family.oracle(problem, family.arrange(problem, rng))
    searched = SkipSearched(problem, listed.X, True, listed.straight)
    assert isinstance(listed, SkipListed)
    for scale in (0.01, 1.0, 100.0):  # the line's price changes with the scale of the data, the units' not
        for oracle in (listed, searched):
            oracle.lines = scale * np.column_stack([X, np.ones(30)])
            Z = rng.normal(size=30)
            Z -= np.mean(Z)
            U = rng.normal(size=(500, 4))
            steps = np.abs((U @ oracle.X.T >= 0) @ Z)
            lines = np.abs((U / np.linalg.norm(U, axis=1, keepdims=True)) @ oracle.lines.T @ Z)
            price = oracle.price(Z)
            assert price.value >= max(np.max(steps), np.max(lines), price.found)
            proof = oracle.prove(Z, max_iter=5, max_time=1.0)
            assert oracle.price(proof.Z).value <= problem.beta * (1.0 + 1e-9)


def test_patterns_that_grow():
    """Beyond listing: a search gap that closes, a bound that holds, and no worse than units alone."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = X[:, 0] - X[:, 1] + 2.0 * (X[:, 2] > 0) + 0.1 * rng.normal(size=60)
    problem = problem_of(X, y, 1.5, True)
    both = train(problem, Threshold(skip=True), tol=1e-6).certificate
    assert both.scope == "bounded" and both.lower_bound <= both.objective
    assert both.search_gap <= 1e-5
    assert both.objective <= train(problem, Threshold(), tol=1e-6, bound_iter=0).certificate.objective
    certificate = train(problem, Threshold("penalized", 30, skip=True), tol=1e-8).certificate
    assert certificate.scope == "patterns" and certificate.gap <= 1e-7
    assert certificate.objective >= both.lower_bound


def test_estimators_train_it_and_judges_read_it(tmp_path):
    X, y = stairs(20, 2, 3)
    family = Threshold("penalized", skip=True)
    model = ConvexNetRegressor(alpha=0.05, architecture=family).fit(X, y)
    network = model.network_
    assert isinstance(network.layers[1], SkipThreshold) and network.layers[1].passed == 1
    again = certify(model, X, y, alpha=0.05)
    assert again.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
    read = certify(network, X, y, alpha=0.05)
    assert read.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
    assert read.lower_bound <= read.objective and read.scope == "global"
    model.network_.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(Network.load(tmp_path / "net.safetensors")[0](X), network(X))
    with pytest.raises(ValueError, match=r"Threshold\(skip=True\)"):
        Threshold().cost(network)
    with pytest.raises(ValueError, match="hidden biases"):
        Threshold(None, skip=True).cost(network)
    # a line's scale is its neuron's, a unit's is nothing
    units = family.hidden_units(network)[0]
    assert np.linalg.norm(np.append(units.weight[:, -1], units.bias[-1])) == pytest.approx(1.0)
    around = local_linear(network, X[:5])
    np.testing.assert_allclose(around.base_values + np.sum(around.values, axis=1), network(X[:5]))
    line = network.layers[0].weight[:, -1] * network.layers[2].weight[-1, 0]
    np.testing.assert_allclose(around.coefficients, np.broadcast_to(line, (5, 2)), rtol=1e-12)
    on = X[:5] @ network.layers[0].weight + network.layers[0].bias >= 0
    np.testing.assert_array_equal(around.active[:, :-1], on[:, :-1])
    assert np.all(around.active[:, -1])


def least_of_several(problem, D, lines, intercept):
    """The optimum with several outputs by another solver, with the nuclear norm of the skip connection."""
    cp = pytest.importorskip("cvxpy")
    m = problem.y.shape[1]
    V, S, c = cp.Variable((len(D), m)), cp.Variable((lines.shape[1], m)), cp.Variable((1, m))
    f = D.T @ V + lines @ S + (np.ones((len(problem.y), 1)) @ c if intercept else 0.0)
    if problem.loss.name == "squared_error":
        fit = 0.5 * cp.sum_squares(f - problem.y)
    else:
        fit = cp.sum(cp.log_sum_exp(f, axis=1)) - cp.sum(cp.multiply(problem.y, f))
    value = cp.Minimize(fit + problem.beta * (cp.sum(cp.norm(V, 2, axis=1)) + cp.normNuc(S)))
    return cp.Problem(value).solve("CLARABEL")


def test_several_outputs_by_hand():
    """One linear neuron serves both outputs: targets ``x (3, 4)`` cost what one output 5 x does."""
    X = np.array([[1.0], [-1.0]])
    problem = Problem(X, X @ [[3.0, 4.0]], np.ones(2), get_loss("squared_error", 2), 1.0, False)
    trained = train(problem, VectorThreshold(None, skip=True), tol=1e-10)
    # (p - 5)^2 + p at p = 5 - 1/2, for two samples
    assert trained.certificate.objective * 2 == pytest.approx(0.25 + 4.5, rel=1e-8)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-7
    assert trained.network.width == 1 and trained.network.layers[1].passed == 1
    assert trained.network(np.array([[2.0]])) == pytest.approx(np.array([[5.4, 7.2]]), rel=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize(("bias", "intercept"), [(None, False), ("penalized", True), ("free", True)])
def test_the_optimum_of_several_outputs_over_all_patterns(bias, intercept, loss):
    X, y = stairs(8, 2, 1)
    if loss == "log_loss":
        Y = np.eye(3)[np.argsort(np.argsort(y)) // 3]
    else:
        Y = np.column_stack([y, X[:, 0] + (X[:, 1] > 0), -X[:, 1]])
    problem = Problem(X, Y, np.ones(8), get_loss(loss, 3), 0.4, intercept)
    full = X if bias is None else np.column_stack([X, np.ones(len(X))])
    value = least_of_several(problem, all_patterns(full), X if bias == "free" else full, intercept)
    trained = train(problem, VectorThreshold(bias, skip=True), tol=2e-7)
    certificate = trained.certificate
    assert certificate.scope == "global" and certificate.gap <= 1e-6
    assert certificate.lower_bound * 8 <= value * (1.0 + 1e-7)
    assert certificate.objective * 8 == pytest.approx(value, rel=1e-6)
    without = train(problem, VectorThreshold(bias), tol=2e-7).certificate
    assert certificate.objective <= without.objective * (1.0 + 1e-6)


def test_patterns_of_several_outputs_that_grow():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4))
    Y = np.column_stack([X[:, 0] + 2.0 * (X[:, 2] > 0), X[:, 1] - (X[:, 2] > 0)])
    problem = Problem(X, Y, np.ones(50), get_loss("squared_error", 2), 1.5, True)
    family = Threshold(skip=True).for_outputs(2)
    trained = train(problem, family, tol=1e-6)
    both = trained.certificate
    assert both.scope == "bounded" and both.lower_bound <= both.objective and both.search_gap <= 1e-5
    alone = train(problem, VectorThreshold(), tol=1e-2, bound_iter=0).certificate
    assert both.objective <= 0.95 * alone.objective
    # the price is that of no random unit, and of no line, whichever of the two is dearer
    oracle = family.oracle(problem, None)
    for scale in (0.01, 1.0, 100.0):
        oracle.lines = scale * oracle.X
        Z = rng.normal(size=(50, 2))
        Z -= np.mean(Z, axis=0)
        units = np.linalg.norm((rng.normal(size=(400, 5)) @ oracle.X.T >= 0) @ Z, axis=1)
        price = oracle.price(Z)
        assert price.value >= max(np.max(units), np.linalg.norm(oracle.lines.T @ Z, 2), price.found)
        Z = oracle.prove(Z, max_iter=3, max_time=1.0).Z
        assert oracle.price(Z).value <= problem.beta * (1.0 + 1e-9)


def test_estimators_of_several_outputs(tmp_path):
    X, y = stairs(20, 2, 3)
    Y = np.column_stack([y, X[:, 0]])
    model = ConvexNetRegressor(alpha=0.05, architecture=Threshold(skip=True)).fit(X, Y)
    network = model.network_
    assert isinstance(network.layers[1], SkipThreshold) and 1 <= network.layers[1].passed <= 2
    again = certify(network, X, Y, alpha=0.05)
    assert again.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
    assert again.lower_bound <= again.objective and again.scope == "global"
    network.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(Network.load(tmp_path / "net.safetensors")[0](X), network(X))
    around = local_linear(network, X[:5])
    np.testing.assert_allclose(around.base_values + np.sum(around.values, axis=1), network(X[:5]))


def test_what_is_refused():
    with pytest.raises(ValueError, match="True or False"):
        Threshold(skip="yes")
    with pytest.raises(ValueError, match="not a two-layer threshold network"):
        Threshold(skip=True).cost(train(problem_of(*stairs(8, 2), 1.0), ReLU()).network)
