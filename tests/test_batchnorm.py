"""Batch normalisation before and after the ReLU: known optima, brute force, folding, bad inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from typer.testing import CliRunner

from cvxnn import (
    ConvexNetClassifier,
    ConvexNetRegressor,
    Network,
    certify,
    normalised_cells,
    normalised_search,
    path,
)
from cvxnn.architectures import batchnorm
from cvxnn.architectures.batchnorm import BatchNorm, VectorBatchNorm
from cvxnn.architectures.relu import ReLU
from cvxnn.arrangement import Arrangement
from cvxnn.cli import app
from cvxnn.losses import get_loss
from cvxnn.losses.absolute_error import AbsoluteError
from cvxnn.models import Model
from cvxnn.normalised_cells import ConeOracle, Cones, _project, white
from cvxnn.normalised_search import SearchedCones, descend
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train
from cvxnn.whitening import OrthantOracle, Whitening, best_on_whitened


class Unknown(AbsoluteError):
    """A loss with kinks that the conic solver knows nothing of."""

    def conic(self, y, s):
        return None


def problem_of(X, y, alpha, intercept=False, loss="squared_error", weights=None):
    outputs = 1 if np.ndim(y) == 1 else y.shape[1]
    return Problem.from_alpha(X, y, weights, get_loss(loss, outputs), alpha, intercept)


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.geomspace(1.0, 30.0, d) + 2.0
    return X, np.sin(2.0 * X[:, 0]) + np.abs(X[:, -1] - 2.0) / 30.0 + 0.1 * rng.normal(size=n)


def batch_normalised(X, W, gamma, delta):
    """Pre-activations as batch normalisation has them."""
    T = X @ W
    return gamma * (T - T.mean(axis=0)) / np.maximum(T.std(axis=0), 1e-12) + delta


def test_reference_optima(golden):
    """The records divide by the norm where batch normalisation divides by the standard deviation."""
    seen = 0
    for record in golden:
        if record["system"] != "batch_norm":
            continue
        X, y, params = np.array(record["X"], float), np.array(record["Y"], float), record["params"]
        n, before = len(y), params["normalisation"] == "before_relu"
        family = BatchNorm("penalized") if before else BatchNorm(None, where="after")
        trained = train(problem_of(X, y, params["beta"] / np.sqrt(n)), family, tol=1e-10)
        certificate, name, tol = trained.certificate, record["id"], record["tolerance"]
        assert certificate.scope == "global", name
        assert certificate.objective * n == pytest.approx(record["optimum"], abs=2 * max(tol, 1e-9)), name
        assert certificate.lower_bound * n == pytest.approx(record["optimum"], rel=1e-8), name
        assert np.allclose(trained.network(X), record["extra"]["network_output"], atol=1e-5), name
        # the penalty as batch normalisation is usually written, from the folded weights
        first, _, last = trained.network.layers
        T = X @ first.weight + first.bias
        scales = [T.std(axis=0), T.mean(axis=0)] if before else [np.sqrt(np.mean(np.maximum(T, 0) ** 2, 0))]
        decay = sum(np.sum(v**2) for v in scales) + np.sum(last.weight**2)
        loss = 0.5 * np.sum((trained.network(X) - y) ** 2)
        value = loss + 0.5 * params["beta"] * np.sqrt(n) * decay
        assert value == pytest.approx(record["optimum"], rel=1e-8), name
        seen += 1
    assert seen == 4


def test_two_samples_by_hand():
    """y = (3, -2), beta = 1 divided by the norm, is sqrt(2) here: f = (2, -1), value 4."""
    trained = train(
        problem_of(np.array([[0.0], [1.0]]), np.array([3.0, -2.0]), np.sqrt(2.0) / 2), BatchNorm()
    )
    assert np.allclose(trained.network(np.array([[0.0], [1.0]])), [2.0, -1.0])
    assert trained.certificate.objective * 2 == pytest.approx(4.0, abs=1e-12)
    assert trained.certificate.gap <= 1e-11


@pytest.mark.parametrize("intercept", [False, True])
def test_the_closed_form_is_what_training_finds(intercept):
    rng = np.random.default_rng(1)
    X, y, s = rng.normal(size=(7, 9)), rng.normal(size=7) + 0.5, rng.uniform(0.5, 3.0, 7)
    problem = problem_of(X, y, 0.1, intercept, weights=s)
    closed = train(problem, BatchNorm(), tol=1e-10)
    assert closed.certificate.scope == "global" and closed.certificate.gap <= 1e-10
    assert closed.certificate.width == 2
    whitening = Whitening.of(problem)
    assert whitening.complete
    grown = train(whitening.problem(problem), ReLU(), tol=1e-9).certificate
    assert grown.objective == pytest.approx(closed.certificate.objective, rel=1e-8)
    assert grown.lower_bound <= closed.certificate.objective * (1 + 1e-12)
    # strong enough a penalty leaves a constant
    strong = train(problem_of(X, y, 10.0, intercept, weights=s), BatchNorm())
    assert strong.certificate.width == 0 and strong.certificate.gap <= 1e-9


def test_the_closed_form_without_anything_to_explain():
    problem = problem_of(np.random.default_rng(0).normal(size=(3, 5)), np.full(3, 2.0), 0.1, True)
    network = best_on_whitened(Whitening.of(problem).problem(problem))
    assert network.width == 0 and network.intercept == pytest.approx(2.0)


def test_prices_where_every_output_is_possible():
    rng = np.random.default_rng(2)
    problem = problem_of(rng.normal(size=(6, 8)), rng.normal(size=6), 0.1, weights=rng.uniform(1, 3, 6))
    there = Whitening.of(problem).problem(problem)
    exact = OrthantOracle(there, ReLU().design(there))
    listed = ReLU("penalized", "all")
    cells = listed.oracle(there, listed.arrange(there, rng))
    for _ in range(5):
        Z = rng.normal(size=6)
        assert exact.price(Z).value == pytest.approx(cells.price(Z).value, rel=1e-9)
        found = exact.neurons(Z, there.X[:0], rng, 0)
        H = np.maximum(exact.X @ found.directions.T, 0.0)
        assert np.allclose(found.signs * (Z @ H), found.values)
        assert np.allclose(np.linalg.norm(found.directions, axis=1), 1.0)
        assert np.array_equal((exact.X @ found.gates.T > 0).T, found.masks)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_lasso_over_all_directions_finds_the_same(where):
    """One unit neuron for each of 3600 angles: no pattern, cone or dual variable is involved."""
    cp = pytest.importorskip("cvxpy")
    X, y = data(10, 1 if where == "before" else 2, 3)
    problem = problem_of(X, y, 0.05)
    family = BatchNorm() if where == "before" else BatchNorm(None, where="after")
    certificate = train(problem, family, tol=1e-9).certificate
    angle = np.linspace(0.0, 2.0 * np.pi, 3600, endpoint=False)
    circle = np.array([np.cos(angle), np.sin(angle)])
    if where == "before":
        H = np.maximum(batch_normalised(problem.X, np.ones((1, 3600)), circle[0], circle[1]), 0.0)
    else:
        H = np.maximum(problem.X @ (circle / np.array([[1.0], [30.0]])), 0.0)
        H = H / np.maximum(np.sqrt(np.mean(H**2, axis=0)), 1e-12)
    z = cp.Variable(H.shape[1])
    objective = 0.5 * cp.sum_squares(H @ z - problem.y) + problem.beta * cp.norm1(z)
    value = cp.Problem(cp.Minimize(objective)).solve(solver="CLARABEL") / len(y)
    assert certificate.scope == "global" and certificate.gap <= 1e-8
    assert certificate.lower_bound <= value + 1e-8
    assert value == pytest.approx(certificate.objective, rel=1e-4)


def normalised_objective(p, X, y, alpha, m, where):
    """The objective of a normalised network and its gradient, at scales, shifts and weights as they are."""
    W, gamma, delta, a = p[: 2 * m].reshape(2, m), *p[2 * m :].reshape(3, m)
    T = X @ W
    if where == "before":
        size = T.std(axis=0) + 1e-9
        N = (T - T.mean(axis=0)) / size
        H = np.maximum(gamma * N + delta, 0.0)
    else:
        size, delta = np.sqrt(np.mean(np.maximum(T, 0.0) ** 2, axis=0) + 1e-18), 0.0 * delta
        N = np.maximum(T, 0.0) / size
        H = gamma * N
    r = H @ a - y
    decay = np.sum(gamma**2) + np.sum(delta**2) + np.sum(a**2)
    G = np.outer(r / len(y), a)
    on = (H > 0.0) * G if where == "before" else G
    inner = gamma * on
    inner = (inner - N * np.mean(inner * N, axis=0)) / size
    inner = inner - np.mean(inner, axis=0) if where == "before" else inner * (T > 0.0)
    slopes = [X.T @ inner, np.sum(on * N, axis=0) + alpha * gamma, np.sum(on, axis=0) + alpha * delta]
    slopes[2] = slopes[2] if where == "before" else 0.0 * gamma
    slopes.append(H.T @ r / len(y) + alpha * a)
    return 0.5 * np.mean(r**2) + 0.5 * alpha * decay, np.concatenate([np.ravel(v) for v in slopes])


@pytest.mark.parametrize("where", ["before", "after"])
def test_descent_from_many_starts_is_never_below_the_bound(where):
    X, y = data(10, 2, 4)
    alpha, m, best = 0.05, 40, np.inf
    bias = "penalized" if where == "before" else None
    certificate = train(problem_of(X, y, alpha), BatchNorm(bias, where=where), tol=1e-7).certificate
    rng = np.random.default_rng(0)
    rest = (X, y, alpha, m, where)
    if where == "before":  # the gradient is one
        p = rng.normal(size=5 * m)
        assert check_grad(*(lambda q, k=k: normalised_objective(q, *rest)[k] for k in (0, 1)), p) <= 1e-5
    for _ in range(30):
        start = rng.normal(size=5 * m)
        start[: 2 * m] /= np.repeat([1.0, 30.0], m)
        found = minimize(normalised_objective, start, rest, "L-BFGS-B", True, options={"maxiter": 500})
        best = min(best, found.fun)
    assert certificate.lower_bound <= best
    assert best <= 1.02 * certificate.objective
    assert certificate.gap <= 1e-6


def test_the_null_space_of_an_active_set_is_needed():
    """Samples (1, 0), (1, 1), (1, 2), only the first on: a direction that no combination of the active
    rows gives, and the only one to fit a target that is zero on the others."""
    X, y = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([3.0, 0.0, 0.0])
    certificate = train(problem_of(X, y, 0.1 * np.sqrt(3) / 3), BatchNorm(None, where="after")).certificate
    assert certificate.objective * 3 == pytest.approx(0.5 * 0.1**2 + 0.1 * 2.9, rel=1e-8)
    assert certificate.gap <= 1e-8 and certificate.width == 1


def test_cones_hold_every_neuron_and_bounds_are_above_their_projections():
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.normal(size=(9, 2)), np.ones(9)])
    s = rng.uniform(1.0, 2.0, 9)
    problem = problem_of(X[:, :2], rng.normal(size=9), 0.1, weights=s)
    oracle = ConeOracle(problem, Cones.of(np.column_stack([problem.X, np.ones(9)]), problem.weights))
    H = BatchNorm(where="after").unit_neurons(problem, None, rng.normal(size=(4000, 3)))
    for _ in range(5):
        Z = rng.normal(size=9)
        price = oracle.price(Z)
        assert np.max(np.abs(H @ Z)) <= price.value
        assert price.found <= price.value <= price.found * (1.0 + 1e-9)
        assert np.max(np.abs(H @ Z)) >= 0.9 * price.found
    A, z = np.abs(rng.normal(size=(6, 3))), rng.normal(size=6)
    norm, top = _project(A / np.linalg.norm(A, axis=0), z)
    L = rng.exponential(size=(3, 5000))
    out = (A / np.linalg.norm(A, axis=0)) @ L
    assert np.max(z @ out / np.linalg.norm(out, axis=0)) <= top and norm <= top


@pytest.mark.parametrize("loss", ["absolute_error", "epsilon_insensitive", "poisson", "log_loss", "hinge"])
def test_losses_after_the_relu(loss):
    X, y = data(10, 2)
    y = np.sign(y - np.median(y) + 1e-9) if get_loss(loss).classification else np.abs(y)
    for intercept in (False, True):
        problem = problem_of(X, y, 0.05, intercept, loss)
        certificate = train(problem, BatchNorm(where="after"), tol=1e-6).certificate
        assert certificate.scope == "global" and certificate.gap <= 1e-6


def test_units_and_offsets_of_columns_do_not_matter():
    X, y = data(9, 2, 6)
    moved = X * np.array([1e-3, 1e4]) + np.array([5.0, -2e4])
    for family in (BatchNorm(), BatchNorm("free"), BatchNorm(None), BatchNorm(where="after")):
        one, other = (train(problem_of(A, y, 0.03, True), family, tol=1e-8).certificate for A in (X, moved))
        assert one.objective == pytest.approx(other.objective, rel=1e-6), family
        assert one.scope == other.scope


def test_a_constant_column_and_constant_data():
    X, y = data(9, 2, 6)
    more = np.column_stack([X, np.full(9, 1e6), X[:, 0] + X[:, 1]])
    one, other = (train(problem_of(A, y, 0.03, True), BatchNorm(), tol=1e-8).certificate for A in (X, more))
    assert one.objective == pytest.approx(other.objective, rel=1e-6)
    for where in ("before", "after"):
        flat = train(problem_of(np.ones((4, 2)), np.arange(4.0), 0.01, True), BatchNorm(where=where))
        assert flat.certificate.objective == pytest.approx(0.5 * np.var(np.arange(4.0)), rel=1e-9)


def test_several_outputs_of_one_hot_targets_have_a_closed_form():
    """Classes of 4 and 9 samples, beta = 1 divided by the norm: (2 - 1/2) + (3 - 1/2) = 4."""
    X = np.random.default_rng(7).normal(size=(13, 12))
    Y = np.eye(2)[np.repeat([0, 1], [4, 9])]
    family = get_architecture("batchnorm", "penalized", "auto", 2)
    assert isinstance(family, VectorBatchNorm)
    trained = train(problem_of(X, Y, 1.0 / np.sqrt(13)), family, tol=1e-6)
    assert trained.certificate.objective * 13 == pytest.approx(4.0, rel=1e-4)
    assert trained.certificate.lower_bound * 13 <= 4.0 * (1 + 1e-9)
    assert isinstance(BatchNorm().for_outputs(2), VectorBatchNorm)
    assert isinstance(family.for_outputs(1), BatchNorm)


def test_classes_and_paths():
    X, _ = data(14, 2, 8)
    labels = np.digitize(X[:, 0] - 2.0, [-0.5, 0.5])
    model = ConvexNetClassifier(alpha=0.01, architecture="batchnorm", tol=1e-3).fit(X, labels)
    assert model.score(X, labels) >= 0.9
    assert certify(model, X, labels, alpha=0.01, tol=1e-3).objective == pytest.approx(
        model.certificate_.objective, rel=1e-9
    )
    found = path(X, np.sin(X[:, 0]), architecture="batchnorm", n_alphas=4, eps=0.1)
    assert found.widths[0] == 0 and np.all(np.diff(found.objectives) < 0)
    assert all(c.lower_bound <= c.objective for c in found.certificates)
    after = path(X, np.sin(X[:, 0]), architecture=BatchNorm(where="after"), n_alphas=4, eps=0.1, tol=1e-8)
    assert after.alpha_max == pytest.approx(after.alpha_max_bound, rel=1e-8) and after.widths[1] > 0
    assert all(c.gap <= 1e-7 for c in after.certificates)


def test_a_network_of_torch_is_folded_and_judged():
    torch = pytest.importorskip("torch")
    X, y = data(12, 2, 9)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 1)
    ).double()
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 1.5)
        net[1].bias.normal_()
        batch = net(torch.tensor(X))[:, 0].numpy()
    gamma, delta, a = (p.detach().numpy() for p in (net[1].weight, net[1].bias, net[3].weight[0]))
    variance = np.var(X @ net[0].weight.detach().numpy().T, axis=0)
    scale = gamma**2 * variance / (variance + net[1].eps)
    own = 0.5 * np.mean((batch - y) ** 2) + 0.05 * np.sqrt(scale + delta**2) @ np.abs(a)
    assert certify(net, X, y, alpha=0.05).objective == pytest.approx(own, rel=1e-9)
    found = certify(net, torch.tensor(X), y, alpha=0.05, patterns="auto")
    best = ConvexNetRegressor(0.05, architecture="batchnorm", tol=1e-7).fit(X, y).certificate_
    assert found.scope == "global" and found.lower_bound == pytest.approx(best.objective, rel=1e-5)
    net.eval()  # its running statistics are a tenth of the batch's by now: another function
    with torch.no_grad():
        f = net(torch.tensor(X))[:, 0].numpy()
    other = certify(net, X, y, alpha=0.05)
    assert other.objective >= 0.5 * np.mean((f - y) ** 2) and other.objective != found.objective
    net[1].running_mean = net[1].running_var = None
    assert certify(net, X, y, alpha=0.05).objective == pytest.approx(own, rel=1e-9)


def test_any_two_layer_network_can_be_judged():
    X, y = data(10, 2, 10)
    rng = np.random.default_rng(0)
    W1, b1, w2 = rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=3)
    T = X @ W1 + b1
    loss = 0.5 * np.mean((np.maximum(T, 0) @ w2 - y) ** 2)
    for where, what in (("before", T), ("after", np.maximum(T, 0.0))):
        family = BatchNorm(where=where)
        own = loss + 0.02 * np.sqrt(np.mean(what**2, axis=0)) @ np.abs(w2)
        found = certify((W1, b1, w2, None), X, y, alpha=0.02, architecture=family)
        assert found.objective == pytest.approx(own, rel=1e-10)
        assert found.scope == "global" and found.lower_bound < found.objective
    named = certify(Network.two_layer(W1, b1, w2), X, y, alpha=0.02, architecture="batchnorm")
    assert named.objective == pytest.approx(loss + 0.02 * np.sqrt(np.mean(T**2, 0)) @ np.abs(w2), rel=1e-10)


def test_the_command_line_and_model_files(tmp_path):
    X, y = data(12, 2, 11)
    lines = ["a,b,y", *(",".join(f"{v:.6f}" for v in row) for row in np.column_stack([X, y]))]
    table, model = tmp_path / "table.csv", tmp_path / "model.safetensors"
    table.write_text("\n".join(lines) + "\n")
    for extra in ([], ["--option", "where=after"]):
        arguments = ["fit", table, "--target", "y", "--architecture", "batchnorm", "--alpha", "0.05"]
        result = CliRunner().invoke(app, [str(a) for a in [*arguments, "--out", model, *extra]])
        assert result.exit_code == 0, result.output
        loaded = Model.load(model)
        assert loaded.settings["architecture"] == "batchnorm"
        result = CliRunner().invoke(app, ["certify", str(model), str(table), "--target", "y"])
        assert result.exit_code == 0 and "global" in result.output, result.output


def test_what_cannot_be_done_says_what_to_pass():
    X, y = data(12, 2)
    with pytest.raises(ValueError, match="'before'"):
        BatchNorm(where="between")
    with pytest.raises(ValueError, match="an integer of at least 1"):
        BatchNorm(patterns=0, where="after")
    wide = problem_of(*data(30, 12), 0.1)
    with pytest.raises(ValueError, match="fewer of them, or fewer features"):
        train(wide, BatchNorm(patterns=5, where="after"))
    with pytest.raises(ValueError, match="'penalized'"):
        BatchNorm("some")
    with pytest.raises(ValueError, match="where='before'"):
        BatchNorm(where="after").for_outputs(3)
    big = problem_of(*data(80, 6), 0.1)
    with pytest.raises(ValueError, match="fewer features"):
        train(big, BatchNorm(where="after", patterns="all"))
    network = train(problem_of(X, y, 0.05), BatchNorm()).network
    with pytest.raises(ValueError, match="training data"):
        BatchNorm().cost(network)
    with pytest.raises(ValueError, match="shifts"):
        BatchNorm(None).on(problem_of(X, y, 0.05)).cost(network)
    with pytest.raises(ValueError, match="rank=None"):
        ConvexNetRegressor(architecture="batchnorm", rank=1).fit(X, y)
    with pytest.raises(ValueError, match="no conic form"):
        train(replace(problem_of(X, y, 0.001), loss=Unknown()), BatchNorm(where="after"))
    with pytest.raises(ValueError, match="no optimal set"):
        ConvexNetRegressor(0.05, architecture="batchnorm").fit(X, y).optimal_set(X, y)
    with pytest.raises(ValueError, match="no option"):
        get_architecture("batchnorm", "penalized", "auto", options={"slope": 0.1})


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("bias", ["penalized", "free", None])
def test_rounding_of_columns_far_from_zero_is_no_direction(where, bias):
    """As many features as samples, and columns that say the same, both with large means."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 1))
    for X in (rng.normal(size=(3, 3)) + 100.0, np.hstack([x + 100.0, 3.0 * x - 7.0])):
        problem = problem_of(X, rng.normal(size=len(X)), 0.011, intercept=True)
        assert Whitening.of(problem).Q.shape[1] == (2 if len(X) == 3 else 1)
        certificate = train(problem, BatchNorm(bias, where=where), tol=1e-6).certificate
        assert certificate.scope == "global" and -1e-9 <= certificate.gap <= 1e-5


def test_constant_that_fits_but_for_rounding():
    for y in np.arange(1.0, 20.0):
        problem = problem_of(np.ones((1, 2)), np.array([y]), 0.03, intercept=True, loss="poisson")
        trained = train(problem, BatchNorm(where="after"))
        assert trained.network.width == 0 and trained.certificate.objective < 1e-12


@pytest.mark.parametrize("bias", [None, "penalized"])
def test_networks_grow_to_what_listed_cells_give(bias, monkeypatch):
    problem = problem_of(*data(16, 2), 0.05, intercept=True, weights=np.linspace(1.0, 2.0, 16))
    family = BatchNorm(bias, where="after")
    listed = train(problem, family, tol=1e-7).certificate
    monkeypatch.setattr(normalised_cells, "MOST_RAYS", 1)
    grown = train(problem, family, tol=1e-4).certificate
    assert listed.scope == "global" and grown.scope == "bounded" and grown.search_gap <= 1e-4
    assert grown.objective == pytest.approx(listed.objective, rel=1e-4)
    assert 0.0 < grown.lower_bound <= listed.objective


@pytest.mark.parametrize("d", [1, 2, 3])
def test_rays_of_single_cells_are_those_of_all(d):
    rng = np.random.default_rng(d)
    X, s = np.column_stack([rng.normal(size=(9, d)), np.ones(9)]), rng.uniform(1.0, 2.0, 9)
    X[3] = X[2]
    gates = Arrangement.enumerate(white(X)[0]).gates
    problem = problem_of(X[:, :d], rng.normal(size=9), 0.1, weights=s)
    whole, apart = Cones.of(X, problem.weights), Cones.of(X, problem.weights, gates)
    assert whole.complete and not apart.complete
    one, other = (sorted(H.shape[1] for H in cones.outputs) for cones in (whole, apart))
    assert one == other
    for _ in range(5):
        Z = rng.normal(size=9)
        prices = [ConeOracle(problem, cones).price(Z) for cones in (whole, apart)]
        assert prices[0].value == pytest.approx(prices[1].value, rel=1e-9)
        assert [price.scope for price in prices] == ["global", "patterns"]


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
def test_sampled_patterns_are_those_of_the_program_over_them(loss):
    """In CVXPY over input weights in the cells, without rays."""
    cp = pytest.importorskip("cvxpy")
    X, y = data(14, 3, 6)
    problem, family = problem_of(X, y, 0.02, True, loss), BatchNorm(None, 4, "after")
    drawn = family.arrange(problem, np.random.default_rng(0))
    oracle = family.oracle(problem, drawn)
    seed = train(problem, family, tol=1e-7, random_state=0)
    assert oracle.scope == seed.certificate.scope == "patterns" and seed.certificate.gap <= 1e-6
    f, cost, known = cp.Variable(), 0.0, []
    for mask in drawn.masks():
        for sign in (1.0, -1.0):
            u = cp.Variable(3)
            h = cp.multiply(mask * 1.0, problem.X @ u)
            f, cost = f + sign * h, cost + cp.norm(h)
            known.append(cp.multiply(np.where(mask, 1.0, -1.0), problem.X @ u) >= 0)
    total = problem.loss.to_cvxpy(f, problem.y, problem.weights) + problem.beta / np.sqrt(14) * cost
    value = cp.Problem(cp.Minimize(total), known).solve(solver="CLARABEL") / 14
    assert seed.certificate.objective == pytest.approx(value, rel=1e-5)
    best = train(problem, BatchNorm(None, where="after"), tol=1e-5).certificate
    assert best.scope == "global" and best.lower_bound <= seed.certificate.objective * (1 + 1e-9)


@pytest.mark.parametrize("loss", ["absolute_error", "quantile", "epsilon_insensitive", "hinge"])
def test_networks_grow_under_losses_with_kinks(loss, monkeypatch):
    """To what a program over one neuron for each of 3600 angles finds, and listed cells."""
    cp = pytest.importorskip("cvxpy")
    X, y = data(10, 2, 3)
    y = np.sign(y - np.median(y) + 1e-9) if get_loss(loss).classification else y
    problem, family = problem_of(X, y, 0.05, loss=loss), BatchNorm(None, where="after")
    listed = train(problem, family, tol=1e-7).certificate
    monkeypatch.setattr(normalised_cells, "MOST_RAYS", 1)
    monkeypatch.setattr(normalised_search, "STARTS", 24)
    grown = train(problem, family, tol=1e-6).certificate
    assert listed.scope == "global" and grown.scope == "bounded" and grown.search_gap <= 1e-6
    assert listed.objective * (1 - 1e-7) <= grown.objective <= listed.objective * (1 + 1e-6)
    assert 0.0 < grown.lower_bound <= listed.objective
    monkeypatch.setattr(batchnorm, "MOST_RANK", 1)  # where cells have too many rays
    smoothed = train(problem, family, tol=1e-3).certificate
    assert smoothed.scope == "bounded" and smoothed.search_gap <= 2e-3
    assert listed.objective * (1 - 1e-7) <= smoothed.objective <= listed.objective * (1 + 1e-3)
    angle = np.linspace(0.0, 2.0 * np.pi, 3600, endpoint=False)
    H = np.maximum(X @ np.array([np.cos(angle), np.sin(angle) / 30.0]), 0.0)
    H = H / np.maximum(np.sqrt(np.mean(H**2, axis=0)), 1e-12)
    z = cp.Variable(3600)
    cost = problem.loss.to_cvxpy(H @ z, y, problem.weights) + problem.beta * cp.norm1(z)
    value = cp.Problem(cp.Minimize(cost)).solve(solver="CLARABEL") / len(y)
    assert value == pytest.approx(grown.objective, rel=2e-3) and grown.lower_bound <= value


def test_beyond_listing_no_neuron_and_no_descent_is_below_the_bound(monkeypatch):
    X, y = data(24, 4, 5)
    alpha, m = 0.1, 8
    problem, family = problem_of(X, y, alpha), BatchNorm(None, where="after")
    monkeypatch.setattr(normalised_cells, "MOST_RAYS", 1)
    oracle = family.oracle(problem, None)
    assert isinstance(oracle, SearchedCones)
    monkeypatch.setattr(normalised_search, "STARTS", 24)
    drawn = np.random.default_rng(0).normal(size=(5000, 4)) / np.std(X, axis=0)
    H = family.unit_neurons(problem, None, drawn)
    for seed in range(3):
        Z = np.random.default_rng(seed).normal(size=24)
        price = oracle.price(Z)
        assert price.scope == "bounded" and np.max(np.abs(H @ Z)) <= price.found <= price.value
    trained = train(problem, family, tol=1e-2)
    rng = np.random.default_rng(1)
    rows, signs = rng.normal(size=(m, 4)) / np.std(X, axis=0), np.repeat([1.0, -1.0], m // 2)
    for _ in range(3):
        U, signs = descend(oracle, rows * rng.uniform(0.1, 1.0, size=(m, 1)), signs, 500)
        rival = Network.two_layer(np.ascontiguousarray(U.T), np.zeros(m), signs)
        value = problem.value(rival(X), family.on(problem).cost(rival)) / 24
        assert trained.certificate.lower_bound <= value
        assert trained.certificate.objective <= value * (1 + 1e-3)


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
def test_beyond_listing_a_large_alpha_leaves_no_neuron(bias, monkeypatch):
    monkeypatch.setattr(normalised_cells, "MOST_RAYS", 1)
    X, y = data(16, 3)
    trained = train(problem_of(X, y, 100.0), BatchNorm(bias, where="after"))
    assert trained.network.width == 0
    assert trained.certificate.search_gap <= 1e-9 and trained.certificate.gap <= 1e-9
