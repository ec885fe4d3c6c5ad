"""Threshold units with several outputs: the group Lasso, exact and searched prices, bounds."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify, path
from cvxnn.architectures.threshold import Threshold
from cvxnn.architectures.vector_threshold import VectorThreshold
from cvxnn.cli import app
from cvxnn.halfspaces import listed, search
from cvxnn.losses import get_loss
from cvxnn.network import Network
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.vector_halfspaces import set_bound
from cvxnn.vector_operators import Columns


def problem_of(loss, n=14, d=2, outputs=3, alpha=0.03, intercept=True, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if loss == "log_loss":
        y = np.eye(outputs)[np.arange(n) % outputs]
    else:
        y = np.sign(X[:, :1] * X[:, -1:]) * np.arange(1, outputs + 1) + 0.3 * rng.normal(size=(n, outputs))
    return Problem.from_alpha(
        X, y, rng.integers(1, 4, n).astype(float), get_loss(loss, outputs), alpha, intercept
    )


def test_by_hand():
    """One sample, targets (3, 4), beta = 1: the norm 5 is shrunk to 4; networks of one output cost 6."""
    X, loss = np.ones((1, 1)), get_loss("squared_error", 2)
    trained = train(Problem(X, np.array([[3.0, 4.0]]), np.ones(1), loss, 1.0), VectorThreshold(None))
    assert trained.certificate.objective == pytest.approx(4.5, rel=1e-9)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-9
    assert trained.network(X)[0] == pytest.approx([2.4, 3.2], rel=1e-6)


def test_one_output_is_that_of_the_lasso():
    problem = problem_of("squared_error", n=20)
    one = Problem(
        problem.X, problem.y[:, 1], problem.weights, get_loss("squared_error"), problem.beta, True
    )
    silent = np.column_stack([np.zeros(20), problem.y[:, 1]])
    two = Problem(problem.X, silent, problem.weights, get_loss("squared_error", 2), problem.beta, True)
    found = [
        train(p, a, tol=1e-8).certificate.objective
        for p, a in ((one, Threshold()), (two, VectorThreshold()))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-7)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("bias", ["penalized", "free", None])
def test_against_cvxpy(loss, bias):
    cp = pytest.importorskip("cvxpy")
    problem = problem_of(loss)
    family = VectorThreshold(bias)
    trained = train(problem, family, tol=1e-8)
    masks = family.arrange(problem, np.random.default_rng(0)).masks().astype(float)
    z, c = cp.Variable((len(masks), 3)), cp.Variable((1, 3))
    f = masks.T @ z + np.ones((len(problem.y), 1)) @ c
    value = problem.loss.to_cvxpy(f, problem.y, problem.weights)
    value += problem.beta * cp.sum(cp.norm(z, 2, axis=1))
    best = cp.Problem(cp.Minimize(value)).solve(solver="CLARABEL") / problem.total_weight
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-6
    assert trained.certificate.objective == pytest.approx(best, rel=1e-6)
    assert trained.certificate.lower_bound <= best * (1 + 1e-7)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_grown_patterns_end_where_all_patterns_do(loss, monkeypatch):
    problem = problem_of(loss, n=25)
    whole = train(problem, VectorThreshold(), tol=1e-7).certificate
    assert whole.scope == "global" and whole.gap <= 1e-6
    monkeypatch.setattr("cvxnn.architectures.vector_threshold.AUTO_NUMBERS", 0)
    monkeypatch.setattr("cvxnn.architectures.vector_threshold.AUTO_PATTERNS", 1)
    grown = train(problem, VectorThreshold(), tol=1e-6).certificate
    assert grown.scope == "bounded" and grown.search_gap <= 1e-5
    assert grown.objective == pytest.approx(whole.objective, rel=1e-5)
    assert 0.0 < grown.lower_bound <= whole.objective


def test_the_search_finds_the_best_of_all():
    rng = np.random.default_rng(1)
    for n, d in ((12, 2), (20, 3)):
        X = np.column_stack([rng.normal(size=(n, d - 1)), np.ones(n)])
        masks = listed(X, 50_000).masks()
        for outputs in (2, 5):
            Z = rng.normal(size=(n, outputs))
            found = search(X, Z, X[:0], rng)
            assert np.array_equal(found.masks, found.gates @ X.T >= 0)
            assert found.values == pytest.approx(np.linalg.norm(found.masks @ Z, axis=1))
            assert found.best == pytest.approx(np.max(np.linalg.norm(masks @ Z, axis=1)), rel=1e-12)


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_bound_is_above_every_set(outputs, balanced):
    """All 2^12 sets; with one output, whose halves are equal, it is exact."""
    rng = np.random.default_rng(outputs)
    sets = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    for _ in range(10):
        Z = rng.normal(size=(12, outputs)) * rng.exponential(size=(12, 1))
        Z = Z - np.mean(Z, axis=0) if balanced else Z
        best = np.max(np.linalg.norm(sets @ Z, axis=1))
        bound = set_bound(Z)
        assert best <= bound
        assert bound <= best * (1.0 + 1e-9 if outputs == 1 else 1.4)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_no_training_of_signs_and_outputs_beats_the_bound(loss):
    """The outputs of random half-spaces are refitted by the program itself: networks of the family, all of
    them above the bound."""
    problem = problem_of(loss, n=30, d=4, alpha=0.3)
    trained = train(problem, VectorThreshold(), tol=1e-5)
    assert trained.certificate.scope == "bounded"
    for seed in range(5):
        few = train(problem, VectorThreshold(patterns=30), tol=1e-5, random_state=seed)
        assert few.certificate.scope == "patterns"
        assert few.certificate.objective >= trained.certificate.objective * (1 - 1e-4)
        assert few.certificate.objective >= trained.certificate.lower_bound


@pytest.mark.parametrize("d", [2, 6])
def test_prices_are_above_every_unit_neuron(d):
    problem, rng = problem_of("squared_error", n=25, d=d), np.random.default_rng(0)
    family = VectorThreshold()
    arrangement = family.arrange(problem, rng)
    H = family.unit_neurons(problem, arrangement, rng.normal(size=(1000, d + 1)))
    Z = rng.normal(size=problem.y.shape)
    price = family.oracle(problem, arrangement).price(Z)
    assert price.scope == ("global" if d == 2 else "bounded")
    assert np.max(np.einsum("ink,nk->i", H, Z)) <= price.value
    assert np.max(np.linalg.norm(np.any(H, axis=2) @ Z, axis=1)) <= price.found * (1 + 1e-12)


def test_independent_rows():
    """Every set is a pattern: listed where few, searched and bounded where many."""
    few = train(problem_of("squared_error", n=6, d=8), VectorThreshold(), tol=1e-7).certificate
    assert few.scope == "global" and few.gap <= 1e-6
    many = train(
        problem_of("squared_error", n=20, d=24, alpha=0.2), VectorThreshold(), tol=1e-4
    ).certificate
    assert many.scope == "bounded" and 0.0 < many.lower_bound <= many.objective


def test_more_samples_or_more_weight():
    problem = problem_of("log_loss", n=12)
    counts = problem.weights.astype(int)
    X, y = np.repeat(problem.X, counts, axis=0), np.repeat(problem.y, counts, axis=0)
    other = Problem(X, y, np.ones(len(X)), problem.loss, problem.beta, True)
    found = [train(p, VectorThreshold(), tol=1e-8).certificate.objective for p in (problem, other)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_the_operator():
    rng = np.random.default_rng(0)
    H, W, Z = rng.normal(size=(7, 4)), rng.normal(size=(4, 3)), rng.normal(size=(7, 3))
    operator = Columns(H, 3)
    assert np.sum(Z * operator.apply(W)) == pytest.approx(np.sum(operator.adjoint(Z) * W), rel=1e-12)
    assert operator.norm_bound() >= np.linalg.norm(H, 2) and operator.shape == (7, 4, 3)


def test_estimators_paths_and_certify(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    labels = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    model = ConvexNetClassifier(alpha=0.01, architecture="threshold").fit(X, labels)
    assert model.certificate_.scope == "global" and model.certificate_.gap <= 1e-4
    assert model.score(X, labels) > 0.9
    Y = np.column_stack([X[:, 0] > 0, X[:, 1] > 0]).astype(float)
    targets = ConvexNetRegressor(alpha=0.01, architecture="threshold").fit(X, Y)
    assert targets.score(X, Y) > 0.9
    targets.network_.save(tmp_path / "net.safetensors")
    loaded, _ = Network.load(tmp_path / "net.safetensors")
    found = certify(loaded, X, Y, alpha=0.01)
    assert found.scope == "global"
    assert found.objective == pytest.approx(targets.certificate_.objective, rel=1e-9)
    assert found.lower_bound <= targets.certificate_.objective
    values = [p.certificate for p in path(X, Y, n_alphas=4, eps=0.05, architecture="threshold").points]
    assert np.all(np.diff([c.objective for c in values]) < 0) and max(c.gap for c in values) <= 1e-3


def test_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    with open(tmp_path / "t.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "y"])
        for a, b in rng.normal(size=(24, 2)):
            rows.writerow([a, b, "pqr"[int(a > 0) + int(b > 0)]])
    out = str(tmp_path / "m.safetensors")
    call = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--out", out, "--architecture", "threshold"]
    fitted = CliRunner().invoke(app, [*call, "--alpha", "0.01"])
    assert fitted.exit_code == 0 and "Certificate (global)" in fitted.output
    judged = CliRunner().invoke(app, ["certify", out, str(tmp_path / "t.csv"), "--target", "y"])
    assert judged.exit_code == 0 and "Certificate (global)" in judged.output


def test_what_is_refused():
    problem = problem_of("squared_error", n=30, d=12)
    with pytest.raises(ValueError, match="'auto', 'all', an integer"):
        train(problem, VectorThreshold(patterns="some"))
    assert Threshold("free").for_outputs(2) == VectorThreshold("free")
    X, Y = np.zeros((4, 1)), np.ones((4, 2))
    with pytest.raises(ValueError, match="coupling='joint'"):
        ConvexNetRegressor(architecture="threshold", coupling="separate").fit(X, Y)
    with pytest.raises(ValueError, match="hidden_bias"):
        VectorThreshold("some").arrange(problem, np.random.default_rng(0))
