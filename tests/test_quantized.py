"""Bilinear units of sign vectors: enumeration, the semidefinite sandwich, rounding, the Lasso solver."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from typer.testing import CliRunner

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.architectures.quantized import Quantized
from cvxnn.cli import app
from cvxnn.losses import LOSSES, get_loss
from cvxnn.network import Affine, Product
from cvxnn.operators import Dense
from cvxnn.program import Problem, Program
from cvxnn.sign_pairs import (
    GAMMA,
    KRIVINE,
    best_pairs,
    krivine_covariance,
    krivine_round,
    norm_bound,
    search,
    signs,
)
from cvxnn.sign_relaxation import relax
from cvxnn.solvers import SOLVERS, run
from cvxnn.solvers.lasso import feature_sign
from cvxnn.spectrahedra import SignGauge, to_vectors
from cvxnn.testing_parts import targets
from cvxnn.train import choose_solver, get_architecture, train

SQUARED = get_loss("squared_error")


def all_signs(d):
    return np.array(list(itertools.product((-1.0, 1.0), repeat=d)))


def features(X):
    """The outputs of all pairs of sign vectors, (n, 4^d)."""
    T = X @ all_signs(X.shape[1]).T
    return (T[:, :, None] * T[:, None, :]).reshape(len(X), -1)


def problem_of(rng, n=20, d=3, loss=SQUARED, alpha=0.05, intercept=False):
    return Problem.from_alpha(rng.normal(size=(n, d)), targets(loss, n, rng), None, loss, alpha, intercept)


@pytest.mark.parametrize("d", [1, 2, 4, 7])
def test_the_norm_of_a_matrix(d):
    """Enumeration, search, and the bound that is at most 1.782 times the norm."""
    rng = np.random.default_rng(d)
    for _ in range(5):
        Q = rng.normal(size=(d, d))
        Q = Q + Q.T
        S = all_signs(d)
        norm = float(np.max(S @ Q @ S.T))
        value, U, V = best_pairs(Q, 5)
        assert value == pytest.approx(norm, rel=1e-12)
        assert float(np.abs(U[0] @ Q @ V[0])) == pytest.approx(norm, rel=1e-12)
        assert len(np.unique(np.column_stack([U, V]), axis=0)) == len(U)
        assert search(Q, rng.normal(size=(50, d)), 3)[0] == pytest.approx(norm, rel=1e-12)
        bound, A, B = norm_bound(Q)
        assert norm * (1 - 1e-12) <= bound <= KRIVINE * norm * (1 + 1e-6)
        assert np.allclose(np.linalg.norm(A, axis=1), 1) and np.allclose(np.linalg.norm(B, axis=1), 1)
        assert float(np.sum(Q * (A @ B.T))) == pytest.approx(bound, rel=1e-6)
    assert norm_bound(np.zeros((d, d)))[0] == 0.0


def test_the_bound_against_cvxpy():
    cp = pytest.importorskip("cvxpy")
    Q = np.random.default_rng(0).normal(size=(6, 6))
    Q = Q + Q.T
    G = cp.Variable((12, 12), PSD=True)
    value = cp.Problem(cp.Maximize(cp.sum(cp.multiply(Q, G[:6, 6:]))), [cp.diag(G) == 1]).solve(
        solver=cp.CLARABEL
    )
    assert norm_bound(Q)[0] == pytest.approx(value, rel=1e-6)
    half = to_vectors(np.stack([Q, -Q])).ravel()[None]
    assert SignGauge().polar(half)[0] == pytest.approx(value / 6, rel=1e-6)


def test_rounding_keeps_the_matrix():
    """The covariance is positive semidefinite with ones on its diagonal; signs have its scaled mean."""
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 4, 3))
    A, B = (M / np.linalg.norm(M, axis=1, keepdims=True) for M in (A, B))
    V, Z = 0.5 * (A @ A.T + B @ B.T), 0.5 * (A @ B.T + B @ A.T)
    C = krivine_covariance(V, Z)
    assert np.allclose(np.diag(C), 1.0) and np.linalg.eigvalsh(C)[0] >= -1e-12
    U, W = krivine_round(V, Z, 200_000, rng)
    assert np.allclose(U.T @ W / 200_000, 2.0 / np.pi * GAMMA * Z, atol=0.01)
    assert pytest.approx(1.7822139781913693) == KRIVINE


def test_reference_optima(golden):
    seen = 0
    for record in golden:
        if record["system"] != "quantised":
            continue
        X, y, extra, n = np.array(record["X"]), np.ravel(record["Y"]), record["extra"], len(record["Y"])
        problem = Problem.from_alpha(X, y, None, SQUARED, record["params"]["beta"] / n, False)
        family = Quantized(None)
        relaxed = run(SOLVERS["conic"](), family.lift(problem, None), tol=1e-8)
        assert relaxed.primal == pytest.approx(record["optimum"], abs=1e-7)
        assert relax(problem, problem.X).value == pytest.approx(record["optimum"], abs=1e-6)
        weaker = problem.at(KRIVINE * record["params"]["beta"] / n)
        at_krivine = run(SOLVERS["conic"](), family.lift(weaker, None), tol=1e-8).primal
        assert at_krivine == pytest.approx(extra["sdp_value_at_krivine_beta"], abs=1e-7)
        trained = train(problem, family, tol=1e-9).certificate
        assert trained.objective * n == pytest.approx(extra["exact_value"], abs=1e-8)
        assert trained.scope == "global" and trained.gap <= 1e-8
        loose = train(problem, Quantized(None, "semidefinite"), tol=1e-9).certificate
        assert loose.scope == "bounded"
        assert loose.lower_bound * n == pytest.approx(record["optimum"], rel=1e-5)
        assert loose.objective * n == pytest.approx(extra["exact_value"], abs=1e-8)
        seen += 1
    assert seen == 2


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["squared_error", "log_loss"])
def test_the_sandwich(d, name):
    """p_SDP(beta) <= p*(beta) <= p_SDP(1.782 beta), p* by a Lasso over all pairs without the library's
    search."""
    for seed in range(2):
        problem = problem_of(np.random.default_rng(10 * d + seed), 12, d, get_loss(name), 0.03)
        H = features(problem.X) / d
        lasso = Program(Dense(H, H.shape[1]), problem.loss, problem.y, problem.weights, problem.beta)
        best = run(SOLVERS["conic"](), lasso, tol=1e-8).primal
        trained = train(problem, Quantized(None), tol=1e-9)
        assert trained.certificate.objective * 12 == pytest.approx(best, rel=1e-6)
        assert trained.certificate.lower_bound * 12 <= best * (1 + 1e-7)
        lower = run(SOLVERS["conic"](), Quantized(None).lift(problem, None), tol=1e-8)
        upper = run(SOLVERS["conic"](), Quantized(None).lift(problem.at(0.03 * KRIVINE), None), tol=1e-8)
        assert lower.bound <= best * (1 + 1e-7) and best <= upper.primal * (1 + 1e-7)
        network = Quantized(None).decode(problem, None, lower)
        assert problem.value(network(problem.X), Quantized(None).cost(network)) >= best * (1 - 1e-7)


def test_one_feature_is_a_lasso_on_its_square():
    X, y = np.array([[1.0], [2.0]]), np.array([1.0, 3.0])
    problem = Problem(X, y, np.ones(2), SQUARED, 0.5)
    trained = train(problem, Quantized(None), tol=1e-10)
    # minimise 1/2 |y - a (1, 4)|^2 + 0.5 |a|: a = (13 - 0.5) / 17
    assert trained.network.layers[-1].weight == pytest.approx(np.array([[12.5 / 17]]), rel=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_all_losses(name):
    problem = problem_of(np.random.default_rng(0), 25, 4, get_loss(name), 0.03, True)
    trained = train(problem, Quantized(), tol=1e-7)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-6
    assert set(np.unique(trained.network.layers[0].weight)) <= {-1.0, 1.0}


def test_no_bound_is_above_a_network():
    """Networks of random signs, at twenty-two columns where enumeration gives way, and refits of them."""
    rng = np.random.default_rng(0)
    problem = problem_of(rng, 60, 21, alpha=0.02)
    trained = train(problem, Quantized(), tol=1e-4, max_iter=10)
    assert trained.certificate.scope == "bounded"
    X = np.column_stack([problem.X, np.ones(60)])
    for _ in range(5):
        U, V = signs(rng.normal(size=(2, 200, 22)))
        H = (X @ U.T) * (X @ V.T) / 22
        lasso = Program(Dense(H, H.shape[1]), SQUARED, problem.y, problem.weights, problem.beta)
        value = run(SOLVERS["lasso"](), lasso, tol=1e-8).primal / 60
        assert trained.certificate.lower_bound <= trained.certificate.objective <= value


@pytest.mark.parametrize("name", ["squared_error", "log_loss", "huber", "squared_hinge", "poisson"])
def test_the_lasso_solver(name):
    """Against the conic solver, with many columns that are nearly the same."""
    rng = np.random.default_rng(4)
    loss = get_loss(name)
    base = rng.normal(size=(40, 10))
    H = np.repeat(base, 6, axis=1) + 1e-3 * rng.normal(size=(40, 60))
    y, s = targets(loss, 40, rng), rng.uniform(0.5, 2.0, 40)
    program = Program(Dense(H, H.shape[1]), loss, y, s, 1.0, intercept=True)
    assert choose_solver(program).name == "lasso"
    one, two = (run(SOLVERS[solver](), program, tol=1e-8) for solver in ("lasso", "conic"))
    assert one.gap <= 1e-8 and one.n_iter < 60
    assert one.primal == pytest.approx(two.primal, rel=1e-6)


def test_the_feature_sign_search():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 8))
    K, q = A.T @ A, rng.normal(size=8) * 5
    for free in (0, 1):
        for start in (np.zeros(8), rng.normal(size=8)):
            w = feature_sign(K, q, 1.0, start, free)
            g, on = K @ w + q, np.arange(8) < 8 - free
            assert np.allclose(g[on & (w != 0)], -np.sign(w[on & (w != 0)]), atol=1e-9)
            assert np.all(np.abs(g[on]) <= 1 + 1e-9) and np.allclose(g[~on], 0.0, atol=1e-9)


def test_estimators_files_and_the_judge(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = (X[:, 0] + X[:, 1]) * (X[:, 2] - X[:, 3]) + 0.1 * rng.normal(size=60)
    model = ConvexNetRegressor(alpha=0.05, architecture="quantized", hidden_bias=None).fit(X, y)
    assert model.certificate_.gap <= 1e-5 and model.score(X, y) > 0.8
    path = tmp_path / "m.safetensors"
    model.network_.save(path)
    network, _ = Network.load(path)
    assert isinstance(network.layers[1], Product) and np.array_equal(network(X), model.predict(X))
    again = certify(network, X, y, alpha=0.05)
    assert again.objective == pytest.approx(model.certificate_.objective, rel=1e-9) and again.gap <= 1e-5
    loose = certify(network, X, y, alpha=0.05, architecture=Quantized(None, "semidefinite"))
    assert loose.scope == "bounded" and loose.lower_bound <= again.lower_bound * (1 + 1e-9)
    labels = np.where(y > 0, "up", "down")
    assert (
        ConvexNetClassifier(alpha=0.01, architecture=Quantized(None)).fit(X, labels).score(X, labels) > 0.9
    )
    scaled = Network((Affine(2 * network.layers[0].weight, network.layers[0].bias), *network.layers[1:]))
    with pytest.raises(ValueError, match="pass signs"):
        certify(scaled, X, y, alpha=0.05)


def test_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    path, model = tmp_path / "data.csv", tmp_path / "m.safetensors"
    table = np.column_stack([X, X[:, 0] * X[:, 1]])
    np.savetxt(path, table, delimiter=",", header="a,b,c,y", comments="")
    call = ["fit", str(path), "--target", "y", "--architecture", "quantized", "--out", str(model)]
    done = CliRunner().invoke(app, [*call, "--option", "proof=exact"])
    assert done.exit_code == 0 and "no network of any width" in done.stdout, done.stderr
    judged = CliRunner().invoke(app, ["certify", str(model), str(path), "--target", "y"])
    assert judged.exit_code == 0 and "global" in judged.stdout, judged.stderr


def test_refusals():
    X, y = np.ones((4, 2)), np.arange(4.0)
    for change, words in (({"proof": "magic"}, "'semidefinite'"), ({"hidden_bias": "free"}, "pass 'penal")):
        with pytest.raises(ValueError, match=words):
            ConvexNetRegressor(architecture=Quantized(**change)).fit(X, y)
    wide = np.random.default_rng(0).normal(size=(5, 30))
    with pytest.raises(ValueError, match="pass 'semidefinite'"):
        ConvexNetRegressor(architecture=Quantized(proof="exact")).fit(wide, np.arange(5.0))
    with pytest.raises(ValueError, match="one output"):
        get_architecture("quantized", None, "auto", 2)
    with pytest.raises(ValueError, match="pass Affine, Product, Affine"):
        Quantized().cost(Network.two_layer(np.eye(2), np.zeros(2), np.ones(2)))


def test_small_units_beside_a_constant():
    """A ridge that measured all columns by the constant's buried those of small data."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(7, 2)), rng.normal(size=7)
    model = ConvexNetRegressor(0.02e-12, architecture=Quantized(None)).fit(1e-6 * X, y)
    assert model.certificate_.gap <= 1e-5
    assert model.certificate_.objective == pytest.approx(0.11451191, rel=1e-6)
