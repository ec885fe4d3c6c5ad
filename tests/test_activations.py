"""Families with other activations than the ReLU: known optima, brute force, bounds, reading networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify, certify_margin, path
from cvxnn.architectures.absolute import Absolute
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.linear import Linear, VectorLinear
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.threshold import Threshold
from cvxnn.bounds import oracle_bound
from cvxnn.descent import descend, start
from cvxnn.losses import get_loss
from cvxnn.network import Affine
from cvxnn.optimal_set import OptimalSet
from cvxnn.oracles import CellOracle, SearchOracle
from cvxnn.planar import PlaneOracle
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train
from cvxnn.walks import rectify

BIAS = {"none": (None, False), "hidden_free": ("free", True)}
KINKED = [LeakyReLU(None, slope=0.3), LeakyReLU("penalized", slope=-0.4), Absolute(None), Absolute("free")]


def problem_of(X, y, alpha, intercept=False, loss="squared_error"):
    outputs = 1 if np.ndim(y) == 1 else y.shape[1]
    return Problem.from_alpha(X, y, None, get_loss(loss, outputs), alpha, intercept)


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, np.sin(2.0 * X[:, 0]) + np.abs(X[:, -1]) + 0.1 * rng.normal(size=n)


def test_reference_optima(golden):
    families = {
        "leaky_relu": lambda p, b: LeakyReLU(b, slope=p["slope"]),
        "absolute_value": lambda p, b: Absolute(b),
        "threshold": lambda p, b: Threshold(b),
        "linear_two_layer": lambda p, b: VectorLinear(b),
    }
    seen = {system: 0 for system in families}
    for record in golden:
        if record["system"] not in families:
            continue
        X, y, params = np.array(record["X"]), np.array(record["Y"], dtype=float), record["params"]
        y = y if record["system"] == "linear_two_layer" else np.ravel(y)
        hidden, intercept = BIAS[params["bias"]]
        family = families[record["system"]](params, hidden)
        problem = problem_of(X, y, params["beta"] / len(y), intercept)
        certificate = train(problem, family, tol=1e-11, max_iter=200).certificate
        name, optimum, tol = record["id"], record["optimum"], record["tolerance"]
        assert certificate.scope == "global", name
        assert certificate.objective * len(y) == pytest.approx(optimum, abs=2 * tol), name
        assert optimum - 1e-6 * optimum <= certificate.lower_bound * len(y) <= optimum + tol, name
        if "beta_max" in record["extra"]:
            oracle = family.oracle(problem, family.arrange(problem, np.random.default_rng(0)))
            price = oracle.price(problem.residual(np.zeros_like(problem.y)))
            assert price.value == pytest.approx(record["extra"]["beta_max"], rel=1e-8), name
        seen[record["system"]] += 1
    assert seen == {"leaky_relu": 2, "absolute_value": 1, "threshold": 4, "linear_two_layer": 2}


@pytest.mark.parametrize(
    "family", [LeakyReLU(None, slope=0.3), LeakyReLU(None, slope=-0.6), Absolute(None)]
)
def test_a_lasso_over_all_directions_of_the_plane_finds_the_same(family):
    """One unit neuron for each of 3600 angles: no pattern, cone or dual variable is involved."""
    cp = pytest.importorskip("cvxpy")
    X, y = data(12, 2)
    problem = problem_of(X, y, 0.03)
    certificate = train(problem, family, tol=1e-9).certificate
    angle = np.linspace(0.0, 2.0 * np.pi, 3600, endpoint=False)
    T = problem.X @ np.array([np.cos(angle), np.sin(angle)])
    H = np.where(T > 0, T, family.leak * T)
    z = cp.Variable(H.shape[1])
    objective = 0.5 * cp.sum_squares(H @ z - problem.y) + problem.beta * cp.norm1(z)
    value = cp.Problem(cp.Minimize(objective)).solve(solver="CLARABEL") / len(y)
    assert certificate.scope == "global" and certificate.gap <= 1e-8
    assert certificate.lower_bound <= value + 1e-8
    assert value == pytest.approx(certificate.objective, rel=1e-4)


@pytest.mark.parametrize("family", KINKED, ids=repr)
def test_descent_from_many_starts_is_never_below_the_bound_nor_far_below_the_objective(family):
    X, y = data(40, 5)
    problem = family.problem_of(problem_of(X, y, 0.01, True))
    certificate = train(problem, family, tol=1e-5).certificate
    design, best = family.design(problem), np.inf
    for seed in range(2):
        rng = np.random.default_rng(seed)
        U, a = start(design.X, problem.y, problem.weights, 40, design.free, rng)
        for mu in (0.1, 0.01, 1e-3, 0.0):
            U, a, c = descend(
                *(design.X, problem.y, problem.weights, problem.loss, problem.beta, U, a),
                smoothing=mu,
                intercept=True,
                free=design.free,
                slope=family.leak,
                max_iter=300,
            )
        f = rectify(design.X @ U.T, family.leak) @ a + c
        best = min(best, problem.value(f, float(np.abs(a) @ design.norms(U))) / len(y))
    assert certificate.scope == "bounded"
    assert certificate.lower_bound <= best
    assert certificate.objective <= best * (1.0 + 1e-6)
    assert certificate.lower_bound >= 0.2 * certificate.objective


@pytest.mark.parametrize("slope", [0.3, -0.4, -1.0])
@pytest.mark.parametrize("free", [0, 1])
def test_prices_on_a_plane_by_three_oracles(slope, free):
    """Arcs, cells and search find the same price, and the matrix bound is above it and not far."""
    X = data(15, 1 if free else 2)[0]
    bias = "free" if free else None
    family = Absolute(bias) if slope == -1.0 else LeakyReLU(bias, slope=slope)
    problem = problem_of(X, np.sin(3.0 * X[:, 0]), 0.01, bool(free))
    design, rng = family.design(problem), np.random.default_rng(0)
    cells = CellOracle(problem, design, dataclasses.replace(family, patterns="all").arrange(problem, rng))
    for _ in range(5):
        Z = rng.normal(size=15)
        Z = Z - np.mean(Z) if free else Z
        exact = PlaneOracle(problem, design).price(Z)
        assert cells.price(Z).value == pytest.approx(exact.value, rel=1e-9)
        assert SearchOracle(problem, design).price(Z).found == pytest.approx(exact.value, rel=1e-6)
        bound = oracle_bound(design.X, Z, free=free, slope=slope)
        assert exact.found <= bound * (1.0 + 1e-12) and bound <= 1.8 * exact.value


@pytest.mark.parametrize("slope", [0.9, 0.2, -0.7, -1.0])
def test_the_matrix_bound_is_above_every_neuron(slope):
    rng = np.random.default_rng(3)
    for n, d in ((20, 3), (8, 20), (64, 62)):
        X, Z = rng.normal(size=(n, d)), rng.normal(size=n)
        U = rng.normal(size=(2000, d))
        best = float(np.max(np.abs(Z @ rectify(X @ (U / np.linalg.norm(U, axis=1)[:, None]).T, slope))))
        assert best <= oracle_bound(X, Z, slope=slope, max_iter=4)
    with pytest.raises(ValueError, match="slope"):
        oracle_bound(X, Z, slope=1.0)


@pytest.mark.parametrize("slope", [0.5, 0.0, -0.5, -1.0])
def test_the_matrix_bound_is_the_optimum_of_its_relaxation(slope, monkeypatch):
    """The moments of a neuron, stated in CVXPY: E t, E t^2 and E |t| of every sample and what ties them."""
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(8)
    X, Z = rng.normal(size=(12, 3)), rng.normal(size=12)
    size = np.linalg.norm(X, axis=1)
    unit, expected = X / size[:, None], 0.0
    for sign in (1.0, -1.0):
        M, e = cp.Variable((4, 4), PSD=True), cp.Variable(12)
        t, q = unit @ M[:3, 3], cp.sum(cp.multiply(unit @ M[:3, :3], unit), axis=1)
        ties = [M[3, 3] == 1, cp.trace(M[:3, :3]) <= 1, e >= cp.abs(t), e >= q, cp.square(e) <= q]
        outputs = 0.5 * ((1.0 + slope) * t + (1.0 - slope) * e)
        problem = cp.Problem(cp.Maximize((sign * Z * size) @ outputs), ties)
        expected = max(expected, problem.solve(solver="CLARABEL"))
    assert oracle_bound(X, Z, slope=slope, max_iter=60) == pytest.approx(expected, rel=1e-4)
    # the solver for many features comes near on this one too
    monkeypatch.setattr("cvxnn.bounds._LARGEST_ORDER", 0)
    assert expected * (1.0 - 1e-6) <= oracle_bound(X, Z, slope=slope, max_iter=80) <= 1.3 * expected


def test_slopes_between_the_relu_and_a_line():
    X, y = data(14, 2)
    problem = problem_of(X, y, 0.02)

    def optimum(family):
        certificate = train(problem, family, tol=1e-9).certificate
        assert certificate.scope == "global" and certificate.gap <= 1e-7
        return certificate.objective

    assert optimum(LeakyReLU(None, slope=0.0)) == pytest.approx(optimum(ReLU(None)), rel=1e-8)
    assert optimum(LeakyReLU(None, slope=-1.0)) == pytest.approx(optimum(Absolute(None)), rel=1e-8)
    assert optimum(LeakyReLU(None, slope=1.0 - 1e-9)) == pytest.approx(optimum(Linear(None)), rel=1e-6)
    for slope in (1.0, -1.5, "steep", True):
        with pytest.raises(ValueError, match="slope="):
            LeakyReLU(None, slope=slope)


def test_an_even_neuron_is_one_neuron():
    """Both orientations of a direction carry the solution of a symmetric program; the network has one."""
    X = np.array([[1.0, 0.5], [-1.0, 0.5], [0.3, -0.2], [2.0, 1.0]])
    problem = problem_of(X, np.abs(X @ np.array([1.0, -0.5])), 1e-3)
    trained = train(problem, Absolute(None, "all"), tol=1e-9)
    assert trained.network.width == 1 and trained.certificate.gap <= 1e-8
    # and at most one of every two opposite patterns is in the program
    family = Absolute(None, "all")
    arrangement = family.arrange(problem, np.random.default_rng(0))
    assert family.lift(problem, arrangement).operator.shape[1] == len(arrangement)


def test_linear_networks_against_another_solver():
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    for y, hidden in ((Y[:, 0], None), (Y[:, 0], "penalized"), (Y, None), (Y, "free"), (Y, "penalized")):
        family = get_architecture("linear", hidden, "auto", 1 if y.ndim == 1 else 3)
        problem = problem_of(X, y, 0.05)
        certificate = train(problem, family, tol=1e-9, max_iter=200).certificate
        A = np.column_stack([problem.X, np.ones(20)]) if hidden == "penalized" else problem.X
        targets = problem.y.reshape(20, -1)
        W, c = cp.Variable((A.shape[1], targets.shape[1])), cp.Variable((1, targets.shape[1]))
        f = A @ W + (np.ones((20, 1)) @ c if hidden == "free" else 0.0)
        value = 0.5 * cp.sum_squares(f - targets) + problem.beta * cp.norm(W, "nuc")
        expected = cp.Problem(cp.Minimize(value)).solve(solver="CLARABEL") / 20
        assert certificate.objective == pytest.approx(expected, rel=1e-6)
        assert certificate.scope == "global" and certificate.gap <= 1e-8


def test_certify_takes_weights_of_every_family():
    X, y = data(12, 2)
    rng = np.random.default_rng(5)
    W1, w2 = rng.normal(size=(2, 3)), rng.normal(size=3)
    for name in ("relu", "leaky_relu", "absolute", "threshold", "linear"):
        found = certify((W1, None, w2, None), X, y, alpha=0.05, architecture=name)
        best = train(problem_of(X, y, 0.05), get_architecture(name, None, "auto"), tol=1e-8).certificate
        T = X @ W1
        phi = {"leaky_relu": np.where(T > 0, T, 0.01 * T), "absolute": np.abs(T), "threshold": T >= 0}
        f = phi.get(name, T if name == "linear" else np.maximum(T, 0.0)) @ w2
        size = np.ones(3) if name == "threshold" else np.linalg.norm(W1, axis=0)
        own = 0.5 * np.mean((f - y) ** 2) + 0.05 * float(size @ np.abs(w2))
        assert found.objective == pytest.approx(own, rel=1e-12), name
        assert found.scope == "global", name
        assert found.lower_bound == pytest.approx(best.objective, rel=1e-4), name


def test_certify_knows_a_network_by_its_layers(tmp_path):
    X, y = data(12, 2)
    for family in (LeakyReLU(None, slope=0.2), Absolute(None), Threshold(None), Linear(None)):
        trained = train(problem_of(X, y, 0.05), family, tol=1e-9)
        trained.network.save(tmp_path / "net.safetensors")
        loaded, _ = Network.load(tmp_path / "net.safetensors")
        assert np.array_equal(loaded(X), trained.network(X))
        found = certify(loaded, X, y, alpha=0.05)
        assert found.gap <= 1e-4 and found.objective == pytest.approx(
            trained.certificate.objective, rel=1e-9
        )
        others = [
            f for f in (ReLU(None), Absolute(None), Threshold(None), Linear(None)) if f.name != family.name
        ]
        for other in others:
            with pytest.raises(ValueError, match="is not a two-layer"):
                other.cost(loaded)
    with pytest.raises(ValueError, match=r"slope 0\.3"):
        LeakyReLU(None, slope=0.3).cost(train(problem_of(X, y, 0.05), LeakyReLU(None, slope=0.2)).network)


def test_certify_reads_other_activations_of_others():
    mlp = pytest.importorskip("sklearn.neural_network").MLPRegressor
    X, y = data(40, 2)
    linear = mlp(hidden_layer_sizes=4, activation="identity", max_iter=300, random_state=0).fit(X, y)
    found = certify(linear, X, y, alpha=0.01)
    assert found.scope == "global" and found.gap > 0.0
    with pytest.raises(ValueError, match="tanh"):
        certify(mlp(hidden_layer_sizes=4, activation="tanh", max_iter=300).fit(X, y), X, y, alpha=0.01)
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 5), torch.nn.LeakyReLU(0.2), torch.nn.Linear(5, 1)
    ).double()
    found = certify(net, X, y, alpha=0.01, patterns=50)
    weights = [p.detach().numpy() for p in net.parameters()]
    T = X @ weights[0].T + weights[1]
    f = np.where(T > 0, T, 0.2 * T) @ weights[2][0] + weights[3][0]
    size = np.sqrt(np.sum(weights[0] ** 2, axis=1) + weights[1] ** 2) @ np.abs(weights[2][0])
    assert found.objective == pytest.approx(0.5 * np.mean((f - y) ** 2) + 0.01 * size, rel=1e-12)


def test_what_is_not_known_of_other_families_is_refused():
    X, y = data(12, 3)
    with pytest.raises(ValueError, match="rank=None"):
        ConvexNetRegressor(architecture="threshold", rank=2).fit(X, y)
    leaky = ConvexNetRegressor(architecture="leaky_relu", rank=2, hidden_bias=None).fit(X, y)
    assert leaky.low_rank_.rank == 2 and leaky.certificate_.lower_bound <= leaky.certificate_.objective
    for family in (Absolute(None), Linear(None), Threshold(None)):
        problem = problem_of(X, y, 0.05)
        with pytest.raises(ValueError, match="no optimal set"):
            OptimalSet.of(problem, family, train(problem, family).network)
    labels = np.where(X[:, 0] > 0, 1.0, -1.0)
    net = (np.array([[1.0], [0.0], [0.0]]), np.zeros(1))
    linear = Network((Affine(*net), Affine(np.ones((1, 1)), np.zeros(1))))
    with pytest.raises(ValueError, match="one hidden layer of ReLUs"):
        certify_margin(linear, X, labels)
    with pytest.raises(ValueError, match="linear networks have none"):
        ConvexNetRegressor(architecture="linear", patterns=5).fit(X, y)


@pytest.mark.parametrize("name", ["leaky_relu", "absolute", "threshold", "linear"])
def test_estimators_and_paths(name):
    X, y = data(14, 2)
    model = ConvexNetRegressor(alpha=0.01, architecture=name).fit(X, y)
    assert model.certificate_.search_gap <= 1e-5 and model.score(X, y) > 0
    classes = ConvexNetClassifier(alpha=0.01, architecture=name).fit(X, y > np.median(y))
    assert classes.certificate_.search_gap <= 1e-5 and classes.score(X, y > np.median(y)) > 0.5
    found = path(X, y, n_alphas=4, eps=0.05, architecture=name)
    values = [point.certificate.objective for point in found.points]
    assert len(values) == 4 and np.all(np.diff(values) < 0)
    assert all(point.certificate.gap <= 1e-3 for point in found.points)
    robust = ConvexNetRegressor(alpha=0.01, architecture=name, loss="absolute_error").fit(X, y)
    assert robust.certificate_.gap <= 1e-3
