"""Networks with a linear skip connection: by hand, other solvers, brute force, reading and refusing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import ConvexNetRegressor, ConvexNetRegressorCV, Network, certify, path
from cvxnn.architectures.absolute import Absolute
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.vector_gated import VectorGatedReLU
from cvxnn.cli import app
from cvxnn.layers import SkipReLU
from cvxnn.losses import get_loss
from cvxnn.network import Affine
from cvxnn.optimal_set import OptimalSet
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train


def problem_of(X, y, alpha, intercept=False, loss="squared_error"):
    outputs = 1 if np.ndim(y) == 1 else y.shape[1]
    return Problem.from_alpha(X, y, None, get_loss(loss, outputs), alpha, intercept)


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ np.linspace(1.0, -1.0, d) + np.abs(X[:, 0]) + 0.1 * rng.normal(size=n)


def test_two_samples_by_hand():
    """``1/2 * 2 (p - 1)^2 + beta p`` is least at ``p = 1 - beta/2``; ReLU neurons pay beta for each."""
    X, y, beta = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0]), 0.5
    problem = problem_of(X, y, beta / 2)
    trained = train(problem, ReLU(None, skip=True), tol=1e-10)
    assert trained.certificate.objective * 2 == pytest.approx(beta - beta**2 / 4, rel=1e-9)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-8
    assert trained.network.width == 1 and trained.network.layers[1].passed == 1
    assert trained.network(np.array([[3.0]])) == pytest.approx(3.0 * (1.0 - beta / 2), rel=1e-8)
    without = train(problem, ReLU(None), tol=1e-10).certificate
    assert without.objective * 2 == pytest.approx(2 * beta - beta**2, rel=1e-9)


@pytest.mark.parametrize(
    ("family", "loss"),
    [
        (ReLU(None, skip=True), "squared_error"),
        (ReLU(None, skip=True), "absolute_error"),
        (LeakyReLU(None, slope=0.3, skip=True), "absolute_error"),
        (LeakyReLU(None, "all", -0.4, skip=True), "squared_error"),
        (Absolute(None, skip=True), "squared_error"),
    ],
    ids=repr,
)
def test_a_lasso_over_all_directions_of_the_plane_finds_the_same(family, loss):
    cp = pytest.importorskip("cvxpy")
    X, y = data(12, 2)
    problem = problem_of(X, y, 0.03, loss=loss)
    certificate = train(problem, family, tol=1e-9).certificate
    angle = np.linspace(0.0, 2.0 * np.pi, 3600, endpoint=False)
    T = problem.X @ np.array([np.cos(angle), np.sin(angle)])
    H = np.maximum(T, family.leak * T)
    z, p = cp.Variable(H.shape[1]), cp.Variable(2)
    rest = H @ z + problem.X @ p - problem.y
    fit = 0.5 * cp.sum_squares(rest) if loss == "squared_error" else cp.norm1(rest)
    value = cp.Problem(cp.Minimize(fit + problem.beta * (cp.norm1(z) + cp.norm(p)))).solve("CLARABEL")
    assert certificate.scope == "global" and certificate.gap <= 1e-7
    assert certificate.lower_bound <= value / 12 + 1e-8
    assert value / 12 == pytest.approx(certificate.objective, rel=1e-4)


@pytest.mark.parametrize("family", [ReLU("penalized", "all", skip=True), GatedReLU(None, 20, skip=True)])
def test_the_program_as_cvxpy_has_it(family):
    pytest.importorskip("cvxpy")
    X, y = data(9, 2)
    problem = problem_of(X, y, 0.02, True)
    arrangement = family.arrange(problem, np.random.default_rng(0))
    program = family.lift(problem, arrangement)
    stated, _ = program.to_cvxpy()
    certificate = train(problem, family, tol=1e-9).certificate
    assert stated.solve(solver="CLARABEL") / 9 == pytest.approx(certificate.objective, rel=1e-6)


def descend(X, y, alpha, seed, leak=0.0, width=20):
    """Plain weight decay on explicit weights, the linear neuron's too, by L-BFGS."""
    rng, (n, d) = np.random.default_rng(seed), X.shape
    A, straight = np.column_stack([X, np.ones(n)]), np.arange(width + 1) == width

    def value(v):
        W, a = v[: (width + 1) * (d + 1)].reshape(width + 1, d + 1), v[(width + 1) * (d + 1) :]
        T = A @ W.T
        on = np.where((T > 0) | straight, 1.0, leak)
        r = (T * on) @ a - y
        gW = (on * np.outer(r, a)).T @ A / n + alpha * W
        total = 0.5 * np.mean(r**2) + 0.5 * alpha * (np.sum(W**2) + a @ a)
        return total, np.concatenate([gW.ravel(), (T * on).T @ r / n + alpha * a])

    first = rng.normal(size=(width + 1) * (d + 2)) * 0.5
    return minimize(value, first, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).fun


@pytest.mark.parametrize("family", [ReLU(skip=True), Absolute(skip=True)], ids=["relu", "absolute"])
def test_descent_from_many_starts_is_never_below_the_bound_nor_far_below_the_objective(family):
    X, y = data(30, 4)
    certificate = train(problem_of(X, y, 0.02), family, tol=1e-6).certificate
    best = min(descend(X, y, 0.02, seed, family.leak) for seed in range(6))
    assert certificate.scope == "bounded" and certificate.search_gap <= 1e-6
    assert certificate.lower_bound <= best
    assert certificate.objective <= best * (1.0 + 1e-6)
    assert certificate.lower_bound >= 0.2 * certificate.objective


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "hinge"])
def test_a_skip_connection_never_hurts(loss):
    X, y = data(25, 3)
    y = y if loss == "squared_error" else np.where(y > 0, 1.0, -1.0)
    problem = problem_of(X, y, 0.02, True, loss)
    with_line = train(problem, ReLU(skip=True), tol=1e-6).certificate
    without = train(problem, ReLU(), tol=1e-6)
    assert with_line.search_gap <= 1e-6
    assert with_line.objective <= without.certificate.objective * (1.0 + 1e-6)
    # and a network without one is of the family
    assert ReLU(skip=True).cost(without.network) == pytest.approx(ReLU().cost(without.network), rel=1e-12)


def test_the_layer_its_file_and_certify(tmp_path):
    X, y = data(14, 2)
    trained = train(problem_of(X, y, 0.02), ReLU(None, skip=True), tol=1e-9)
    net = trained.network
    first, middle, last = net.layers
    assert isinstance(middle, SkipReLU) and middle.passed == 1
    T = X @ first.weight
    T[:, :-1] = np.maximum(T[:, :-1], 0.0)
    assert net(X) == pytest.approx(T @ last.weight[:, 0], rel=1e-12)
    net.save(tmp_path / "net.safetensors")
    loaded, _ = Network.load(tmp_path / "net.safetensors")
    assert np.array_equal(loaded(X), net(X))
    found = certify(loaded, X, y, alpha=0.02)
    assert found.scope == "global" and found.gap <= 1e-6
    assert found.objective == pytest.approx(trained.certificate.objective, rel=1e-9)
    # a line that another method found: least squares
    p = np.linalg.lstsq(X, y, rcond=None)[0]
    other = Network((Affine(p[:, None], np.zeros(1)), SkipReLU(1), Affine(np.ones((1, 1)), np.zeros(1))))
    found = certify(other, X, y, alpha=0.02)
    own = 0.5 * np.mean((X @ p - y) ** 2) + 0.02 * np.linalg.norm(p)
    assert found.objective == pytest.approx(own, rel=1e-12)
    assert found.lower_bound == pytest.approx(trained.certificate.objective, rel=1e-5)
    # plain weights are ReLU neurons, judged against networks with a line where those are asked for
    plain = (first.weight[:, :-1], None, last.weight[:-1, 0], None)
    found = certify(plain, X, y, alpha=0.02, architecture=ReLU(None, skip=True))
    assert found.lower_bound == pytest.approx(trained.certificate.objective, rel=1e-5)
    with pytest.raises(ValueError, match="skip=True"):
        ReLU(None).cost(net)
    with pytest.raises(ValueError, match="skip connection"):
        OptimalSet.of(problem_of(X, y, 0.02), ReLU(None, skip=True), net)


def test_what_is_refused():
    with pytest.raises(ValueError, match="free"):
        ReLU("free", skip=True)
    with pytest.raises(ValueError, match="GatedReLU"):
        ReLU(penalty="l1", skip=True)
    with pytest.raises(ValueError, match="skip='yes'"):
        ReLU(skip="yes")
    with pytest.raises(ValueError, match="skip=1"):
        X, y = data(5, 2)
        ConvexNetRegressor(architecture=GatedReLU(skip=1)).fit(X, y)
    assert get_architecture("relu", None, "auto", options={"skip": True}) == ReLU(None, skip=True)


def test_the_zero_gate_is_a_line():
    X, y = data(40, 3)
    problem = problem_of(X, y, 0.01, True)
    line = train(problem, GatedReLU(patterns=np.zeros((1, 4))), tol=1e-9)
    skip = train(problem, GatedReLU(patterns=5, skip=True), tol=1e-9)
    without = train(problem, GatedReLU(patterns=5), tol=1e-9)
    assert skip.certificate.objective < min(line.certificate.objective, without.certificate.objective)
    gates = skip.network.layers[0].gates
    assert np.sum(np.all(gates == 0, axis=0)) == 1
    judged = certify(skip.network, X, y, alpha=0.01)
    assert judged.objective == pytest.approx(skip.certificate.objective, rel=1e-9)
    two = problem_of(X, np.column_stack([y, y**2]), 0.01, True)
    both = [train(two, VectorGatedReLU(patterns=5, skip=skip), tol=1e-7) for skip in (True, False)]
    assert both[0].certificate.objective < both[1].certificate.objective
    assert both[0].certificate.search_gap <= 1e-7


def test_paths_and_cross_validation():
    X, y = data(30, 2)
    for family in (ReLU(skip=True), GatedReLU(patterns=20, skip=True)):
        found = path(X, y, n_alphas=4, eps=0.05, architecture=family)
        values = [point.certificate.objective for point in found.points]
        assert len(values) == 4 and np.all(np.diff(values) < 0)
        assert all(point.certificate.search_gap <= 1e-5 for point in found.points)
    model = ConvexNetRegressorCV(architecture=ReLU(skip=True), n_alphas=3, cv=2).fit(X, y)
    assert model.score(X, y) > 0.8 and model.certificate_.search_gap <= 1e-4


def test_the_command_line(tmp_path):
    runner = pytest.importorskip("typer.testing").CliRunner()
    X, y = data(20, 2)
    table, model = tmp_path / "t.csv", tmp_path / "m.safetensors"
    np.savetxt(table, np.column_stack([X, y]), delimiter=",", header="a,b,y", comments="")
    args = ["--target", "y", "--out", str(model), "--option", "skip=true"]
    result = runner.invoke(app, ["fit", str(table), *args])
    assert result.exit_code == 0, result.output
    network, _ = Network.load(model)
    assert isinstance(network.layers[1], SkipReLU)
    result = runner.invoke(app, ["certify", str(model), str(table), "--target", "y"])
    assert result.exit_code == 0, result.output
    result = runner.invoke(app, ["fit", str(table), *args, "--hidden-bias", "free"])
    assert result.exit_code == 2 and "skip" in result.output
