"""Polynomial networks: exact prices, both ways of training, and known optima."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from typer.testing import CliRunner

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.architectures import spectrahedral
from cvxnn.architectures.polynomial import Polynomial, VectorPolynomial
from cvxnn.architectures.polynomial_cnn import PolynomialCNN
from cvxnn.cli import app
from cvxnn.losses import LOSSES, get_loss
from cvxnn.network import Affine
from cvxnn.network import Polynomial as Activation
from cvxnn.neural_decomposition import neurons_of
from cvxnn.program import Problem
from cvxnn.quadratic_descent import Descent
from cvxnn.quadratic_units import Neurons
from cvxnn.solvers import SOLVERS, run
from cvxnn.spectrahedra import SphereGauge, to_matrices, to_vectors
from cvxnn.testing_parts import targets
from cvxnn.train import choose_solver, get_architecture, train
from cvxnn.trust_region import secular_root, sphere_maxima

SQUARED = get_loss("squared_error")
FIT = (0.09, 0.5, 0.47)


def unit(rng, k, d):
    U = rng.normal(size=(k, d))
    return U / np.linalg.norm(U, axis=1, keepdims=True)


def problem_of(rng, n=30, d=4, loss=SQUARED, alpha=0.02, intercept=True, outputs=None):
    X = rng.normal(size=(n, d))
    y = targets(loss, n, rng) if outputs is None else rng.normal(size=(n, outputs))
    return Problem.from_alpha(X, y, None, loss, alpha, intercept)


@pytest.mark.parametrize("kind", ["random", "hard", "nearly hard", "linear", "quadratic", "zero"])
def test_maxima_on_the_sphere(kind):
    """Bounds are never below a thousand points, and the point found attains them."""
    rng = np.random.default_rng(0)
    for d in (1, 2, 3, 6):
        A = rng.normal(size=(8, d, d))
        A, g = A + A.transpose(0, 2, 1), rng.normal(size=(8, d))
        if "hard" in kind:
            values, V = np.linalg.eigh(A)
            for side in (0, -1):  # the maximum of either sign has its own top
                g -= np.einsum("ki,ki->k", g, V[:, :, side])[:, None] * V[:, :, side]
            g = 0.1 * g + (1e-9 * rng.normal(size=g.shape) if kind == "nearly hard" else 0.0)
        A = 0.0 * A if kind in ("linear", "zero") else A
        g = 0.0 * g if kind in ("quadratic", "zero") else g
        U = unit(rng, 1000, d)
        values = np.einsum("mi,kij,mj->km", U, A, U) + g @ U.T
        for found, sign in zip(sphere_maxima(A, g), (1.0, -1.0), strict=True):
            size = 1e-13 * (1.0 + np.abs(A).sum(axis=(1, 2)) + np.abs(g).sum(axis=1))
            assert np.all(np.max(sign * values, axis=1) <= found.bound + size)
            assert np.all(np.abs(found.bound - found.found) <= 1e3 * size)
            assert np.allclose(np.linalg.norm(found.points, axis=1), 1.0, atol=1e-14)
            P = found.points
            worth = sign * (np.einsum("ki,kij,kj->k", P, A, P) + np.sum(g * P, axis=1))
            assert np.allclose(worth, found.found, atol=1e-12)


def test_the_secular_equation():
    gaps = np.array([[2.0, 1.0, 0.0], [3.0, 1e-8, 0.0]])
    h = np.array([[0.3, 0.2, 1e-6], [0.5, 1e-9, 1e-12]])
    delta = secular_root(gaps, h, np.full(2, 1e-17))
    left = np.sum(h**2 / (delta[:, None] + gaps) ** 2, axis=1)
    # the first is a nearly hard case, where the root is about h_top; the second has its root in the tail
    assert left == pytest.approx([1.0, 1.0], rel=1e-9) and np.all(delta < 2e-6)


@pytest.mark.parametrize("d", [1, 2, 5, 9])
def test_neurons_of_a_matrix(d):
    """As many as the rank at most, of norm one, and their sum is the matrix."""
    rng = np.random.default_rng(d)
    for k in (1, 2, d, 3 * d):
        P = np.column_stack([unit(rng, k, d), np.ones(k)])
        Z = (P.T * rng.exponential(size=k)) @ P
        U, alpha = neurons_of(Z)
        assert len(U) <= np.linalg.matrix_rank(Z, tol=1e-12 * np.trace(Z))
        assert np.allclose(np.linalg.norm(U, axis=1), 1.0, atol=1e-13) and np.all(alpha > 0)
        Q = np.column_stack([U, np.ones(len(U))])
        assert np.allclose((Q.T * alpha) @ Q, Z, atol=1e-12 * np.trace(Z))
        # what a solver leaves: not quite symmetric, definite or level
        U, alpha = neurons_of(Z + 1e-9 * np.trace(Z) * rng.normal(size=Z.shape))
        Q = np.column_stack([U, np.ones(len(U))])
        assert np.allclose((Q.T * alpha) @ Q, Z, atol=1e-6 * np.trace(Z))
    assert len(neurons_of(np.zeros((d + 1, d + 1)))[0]) == 0


def test_the_gauge_of_the_sphere():
    """Value and polar of sums of neurons, and the order of the triangle that the cones ask for."""
    rng = np.random.default_rng(0)
    P = np.column_stack([unit(rng, 6, 3), np.ones(6)])
    alpha = rng.exponential(size=6)
    W = to_vectors(((P.T * alpha) @ P)[None])
    assert SphereGauge().value(W) == pytest.approx(np.sum(alpha))
    assert SphereGauge().value(-W) == np.inf
    M = rng.normal(size=(5, 4, 4))
    M = M + M.transpose(0, 2, 1)
    G = to_vectors(M)
    assert np.allclose(to_matrices(G), M) and np.allclose(np.sum(G**2, axis=1), np.sum(M**2, axis=(1, 2)))
    worth = np.einsum("mi,kij,mj->km", P, M, P)
    assert np.all(np.max(worth, axis=1) <= SphereGauge().polar(G) + 1e-12)


@pytest.mark.parametrize("outputs", [None, 3])
@pytest.mark.parametrize("name", ["squared_error", "log_loss"])
def test_derivatives_of_the_descent(name, outputs):
    rng = np.random.default_rng(1)
    loss = get_loss(name, outputs or 1)
    problem = problem_of(rng, 12, 3, loss if outputs is None else SQUARED, outputs=outputs)
    if outputs:
        y = np.eye(3)[rng.integers(0, 3, 12)] if name == "log_loss" else problem.y
        problem = Problem(problem.X, y, problem.weights, loss, 0.3, True)
    units = get_architecture("polynomial", "penalized", "auto", outputs or 1).units(problem)
    k = rng.integers(0, outputs or 1, 5)
    neurons = Neurons(rng.normal(size=(5, 4)), 0 * k, k, np.where(np.arange(5) % 2, 1.0, -1.0))
    function = Descent(problem, units, neurons)
    x = function.pack(neurons, np.full(outputs or 1, 0.3))
    p = rng.normal(size=len(x))
    _, gradient = function.at(x)
    curved = function.curve(p)
    (up, after), (down, before) = function.at(x + 1e-5 * p), function.at(x - 1e-5 * p)
    assert (up - down) / 2e-5 == pytest.approx(float(gradient @ p), rel=1e-7)
    assert np.allclose((after - before) / 2e-5, curved, rtol=1e-6, atol=1e-6 * np.abs(curved).max())


@pytest.mark.parametrize("method", ["columns", "semidefinite"])
def test_reference_optima(golden, method):
    seen = 0
    for record in golden:
        if record["system"] != "polynomial":
            continue
        X, y, params = np.array(record["X"]), np.ravel(record["Y"]), record["params"]
        problem = Problem.from_alpha(X, y, None, SQUARED, params["beta"] / len(y), False)
        family = Polynomial(None, tuple(params["coefficients_a_b_c"]), method)
        trained = train(problem, family, tol=1e-9)
        certificate = trained.certificate
        assert certificate.objective * len(y) == pytest.approx(
            record["optimum"], abs=2 * record["tolerance"]
        )
        assert certificate.gap <= 1e-8 and certificate.scope == "global"
        assert np.allclose(trained.network(X), record["extra"]["network_output"], atol=1e-4)
        # the reference's dual point is feasible for our oracle
        raw = Problem(X, y, np.ones(len(y)), SQUARED, params["beta"])
        price = family.oracle(raw, None).price(np.array(record["extra"]["dual_point"]))
        assert price.value == pytest.approx(params["beta"], rel=1e-6)
        seen += 1
    assert seen == 3


def test_one_sample_by_hand():
    """Features 1.06 and 0.06: a Lasso of one number, 1.06 alpha = 2 - 0.1 / 1.06."""
    problem = Problem.from_alpha(np.ones((1, 1)), np.array([2.0]), None, SQUARED, 0.1, False)
    trained = train(problem, Polynomial(None), tol=1e-10)
    f = 2.0 - 0.1 / 1.06
    assert trained.network(np.ones((1, 1))) == pytest.approx([f], abs=1e-8)
    assert trained.certificate.objective == pytest.approx(0.5 * (2 - f) ** 2 + 0.1 * f / 1.06, abs=1e-10)
    assert np.sum(np.abs(trained.network.layers[-1].weight)) == pytest.approx(1.7977928, abs=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_both_ways_agree(name):
    """For every loss the semidefinite program and column generation end at the same, certified optimum."""
    loss = get_loss(name)
    problem = problem_of(np.random.default_rng(3), 25, 3, loss, alpha=0.05)
    one, two = (train(problem, Polynomial(None, FIT, m), tol=1e-6) for m in ("columns", "semidefinite"))
    for trained in (one, two):
        assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-5
    assert one.certificate.objective == pytest.approx(two.certificate.objective, rel=2e-5)
    assert one.certificate.lower_bound <= two.certificate.objective * (1 + 1e-9)
    assert two.certificate.lower_bound <= one.certificate.objective * (1 + 1e-9)


def test_the_program_against_cvxpy():
    cp = pytest.importorskip("cvxpy")
    a, b, c = FIT
    problem = problem_of(np.random.default_rng(0), 20, 3)
    P, N = (cp.Variable((4, 4), PSD=True) for _ in range(2))
    offset, D = cp.Variable(), P - N
    f = cp.hstack([a * (x @ D[:3, :3] @ x) + b * (x @ D[:3, 3]) + c * D[3, 3] for x in problem.X]) + offset
    cost = 0.5 * cp.sum_squares(f - problem.y) + problem.beta * (P[3, 3] + N[3, 3])
    level = [cp.trace(M) == 2 * M[3, 3] for M in (P, N)]
    value = cp.Problem(cp.Minimize(cost), level).solve(solver=cp.CLARABEL)
    family = Polynomial(None, FIT)
    solution = run(SOLVERS["conic"](), family.lift(problem, None), tol=1e-8)
    assert solution.primal == pytest.approx(value, rel=1e-6)
    assert choose_solver(family.lift(problem, None)).name == "conic"
    network = family.decode(problem, None, solution)
    assert problem.value(network(problem.X), family.cost(network)) == pytest.approx(value, rel=1e-6)
    trained = train(problem, family, tol=1e-9)
    assert trained.certificate.objective * 20 == pytest.approx(value, rel=1e-6)
    assert network.width <= 8


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, 100.0), (1.0, 1000.0), (1e4, 0.0)])
def test_auto_is_exact_far_from_the_origin(loss, scale, shift):
    """Columns end with gaps of up to 99 % there, and go on to the semidefinite program."""
    rng = np.random.default_rng(0)
    X, z = rng.standard_normal((8, 2)), rng.standard_normal(8)
    y = z if loss == "squared_error" else np.where(z > 0, 1.0, -1.0)
    problem = Problem.from_alpha(scale * X + shift, y, None, get_loss(loss), 0.01, True)
    fit = train(problem, Polynomial())
    assert fit.certificate.scope == "global" and fit.certificate.gap <= 1e-5


def test_filters_far_from_the_origin_too():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((12, 6)) + 300.0
    problem = Problem.from_alpha(X, rng.standard_normal(12), None, SQUARED, 0.01, True)
    fit = train(problem, PolynomialCNN(kernel=3, input_shape=(6,)))
    assert fit.certificate.gap <= 1e-5


def test_only_small_programs_come_to_the_rescue(monkeypatch):
    rng = np.random.default_rng(0)
    problem = problem_of(rng, 12, 3)
    units = Polynomial().units(problem)
    assert Polynomial()._rescued(problem, units)
    assert not Polynomial(method="columns")._rescued(problem, units)
    assert not VectorPolynomial()._rescued(problem, units)
    monkeypatch.setattr(spectrahedral, "RESCUED", 16)
    assert not Polynomial()._rescued(problem, units)


def test_no_network_is_below_the_bound():
    """L-BFGS on the weights of plain networks, from many starts."""
    rng = np.random.default_rng(0)
    for seed in range(2):
        problem = problem_of(np.random.default_rng(seed), 15, 3, get_loss("log_loss"), 0.03)
        X = np.column_stack([problem.X, np.ones(15)])
        certificate = train(problem, Polynomial(), tol=1e-7).certificate

        def value(x, X=X, problem=problem):
            U, w = x[:20].reshape(4, 5), x[20:25]
            T = X @ (U / np.linalg.norm(U, axis=0))
            f = (0.09 * T * T + 0.5 * T + 0.47) @ w + x[25]
            return problem.value(f, float(np.sum(np.abs(w)))) / 15

        found = [minimize(value, rng.normal(size=26), method="L-BFGS-B").fun for _ in range(5)]
        assert min(found) >= certificate.lower_bound
        assert certificate.objective <= min(found) * (1 + 1e-9)


def test_pure_squares_are_a_nuclear_norm():
    """f = x'Sx with the nuclear norm: no more neurons than features, whatever the signs."""
    rng = np.random.default_rng(5)
    problem = problem_of(rng, 40, 4, alpha=0.01, intercept=False)
    trained = train(problem, Polynomial(None, (1.0, 0.0, 0.0)), tol=1e-9)
    first, _, last = trained.network.layers
    S = (first.weight * last.weight[:, 0]) @ first.weight.T
    assert trained.network.width <= 4
    nuclear = np.sum(np.abs(np.linalg.eigvalsh(S)))
    assert Polynomial(None, (1.0, 0.0, 0.0)).cost(trained.network) == pytest.approx(nuclear, rel=1e-9)


def test_large_data_are_certified_exactly():
    """200 features: far beyond semidefinite programs, within a moment."""
    rng = np.random.default_rng(0)
    X, U = rng.normal(size=(400, 200)), unit(rng, 4, 200)
    T = X @ U.T
    y = (0.09 * T * T + 0.5 * T + 0.47) @ np.array([2.0, -1.0, 1.5, -2.0]) + 0.1 * rng.normal(size=400)
    model = ConvexNetRegressor(alpha=0.03, architecture="polynomial").fit(X, y)
    assert model.certificate_.scope == "global" and model.certificate_.gap <= 1e-5


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_several_outputs(loss):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(40, 3))
    if loss == "log_loss":
        y = np.argmax(X + 0.3 * rng.normal(size=X.shape), axis=1)
        model = ConvexNetClassifier(alpha=0.01, architecture="polynomial", tol=1e-7).fit(X, y)
    else:
        y = X[:, :2] ** 2 + 0.1 * rng.normal(size=(40, 2))
        model = ConvexNetRegressor(alpha=0.01, architecture=Polynomial(), tol=1e-7).fit(X, y)
        # a loss that is a sum, and a penalty that shares nothing: as good as two networks
        single = [
            ConvexNetRegressor(alpha=0.01, architecture="polynomial", tol=1e-7).fit(X, y[:, k])
            for k in range(2)
        ]
        together = sum(m.certificate_.objective for m in single)
        assert model.certificate_.objective == pytest.approx(together, rel=1e-6)
    assert model.certificate_.scope == "global" and model.certificate_.gap <= 1e-6
    weights = model.network_.layers[-1].weight
    assert np.all(np.sum(weights != 0, axis=1) == 1)
    again = certify(model, X, y, alpha=0.01)
    assert again.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
    assert isinstance(Polynomial().for_outputs(2), VectorPolynomial)


def test_other_networks_are_judged():
    """A network that somebody else trained, with coefficients of its own; other norms are refused."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    W = unit(rng, 3, 2).T
    layers = (
        Affine(W, np.zeros(3)),
        Activation(0.2, 0.3, 0.1),
        Affine(rng.normal(size=(3, 1)), np.zeros(1)),
    )
    certificate = certify(Network(layers), X, y, alpha=0.01)
    assert certificate.scope == "global" and 0.01 < certificate.gap < 1
    f = Network(layers)(X)
    by_hand = np.mean(0.5 * (f - y) ** 2) + 0.01 * np.sum(np.abs(layers[2].weight))
    assert certificate.objective == pytest.approx(by_hand, rel=1e-12)
    with pytest.raises(ValueError, match="divide the weights"):
        certify(Network((Affine(2 * W, np.zeros(3)), *layers[1:])), X, y, alpha=0.01)
    bare = certify((W, None, layers[2].weight, None), X, y, alpha=0.01, architecture="polynomial")
    assert bare.scope == "global"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": (0.0, 0.0, 0.0)}, "not all zero"),
        ({"coefficients": (1.0, 2.0)}, "three finite numbers"),
        ({"coefficients": (1.0, np.inf, 0.0)}, "three finite numbers"),
        ({"method": "magic"}, "'semidefinite'"),
        ({"hidden_bias": "free"}, "pass 'penalized'"),
    ],
)
def test_bad_options(change, words):
    with pytest.raises(ValueError, match=words):
        ConvexNetRegressor(architecture=Polynomial(**change)).fit(np.ones((4, 2)), np.arange(4.0))


def test_other_refusals():
    with pytest.raises(ValueError, match="no choice of patterns"):
        get_architecture("polynomial", None, 12)
    with pytest.raises(ValueError, match="for one output"):
        VectorPolynomial(method="semidefinite").check()
    with pytest.raises(ValueError, match="pass rank=None"):
        ConvexNetRegressor(architecture="polynomial", rank=1).fit(np.ones((4, 2)), np.arange(4.0))
    relu = Network.two_layer(np.eye(2), np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="pass Affine, Polynomial, Affine"):
        Polynomial().cost(relu)


def test_files_and_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    table = np.column_stack([X, X[:, 0] * X[:, 1]])
    path, model = tmp_path / "data.csv", tmp_path / "m.safetensors"
    np.savetxt(path, table, delimiter=",", header="a,b,y", comments="")
    call = ["fit", str(path), "--target", "y", "--architecture", "polynomial", "--out", str(model)]
    done = CliRunner().invoke(app, [*call, "--option", "coefficients=[0.2,0.1,0.3]"])
    assert done.exit_code == 0, done.stderr
    assert "no network of any width" in done.stdout
    network, _ = Network.load(model)
    assert isinstance(network.layers[1], Activation) and float(network.layers[1].quadratic[0]) == 0.2
    judged = CliRunner().invoke(app, ["certify", str(model), str(path), "--target", "y"])
    assert judged.exit_code == 0 and "global" in judged.stdout, judged.stderr
