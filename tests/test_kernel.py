"""Gated networks as kernels: reference optima, the tangent kernel, the variational form, bad inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.arrangement import patterns_of
from cvxnn.losses import get_loss
from cvxnn.ntk import NTKClassifier, NTKRegressor, gated_ntk
from cvxnn.program import Problem
from cvxnn.solvers import SOLVERS, Unsupported, run
from cvxnn.solvers.kernel import Kernel, _ridge
from cvxnn.train import choose_solver, train


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, np.sin(2.0 * X[:, 0]) + np.abs(X[:, -1]) + 0.1 * rng.normal(size=n)


def program_of(X, y, alpha, gates=40, intercept=False, hidden_bias=None, weights=None):
    problem = Problem.from_alpha(X, y, weights, get_loss("squared_error"), alpha, intercept)
    family = GatedReLU(hidden_bias, gates)
    return problem, family.lift(problem, family.arrange(problem, np.random.default_rng(0)))


def test_reference_optimum(golden):
    seen = 0
    for record in golden:
        if record["system"] != "ntk_mkl":
            continue
        X, y, params = np.array(record["X"]), np.array(record["Y"]), record["params"]
        n, extra = len(y), record["extra"]
        gates = np.array(params["gate_vectors_columns"]).T
        _, program = program_of(X, y, params["beta"] / n, gates)
        found = run(Kernel(), program, tol=1e-12)
        assert found.primal == pytest.approx(record["optimum"], abs=record["tolerance"])
        assert found.bound == pytest.approx(record["optimum"], abs=record["tolerance"])
        # sum of the kernels' weights: equal patterns share theirs
        size = np.sum(np.linalg.norm(found.W, axis=1))
        assert size == pytest.approx(sum(extra["mkl_weights"]), rel=1e-6)
        assert np.allclose(gated_ntk(X), extra["gated_ntk_kernel"], atol=1e-12)
        tangent = NTKRegressor(params["beta"] / n, hidden_bias=None, fit_intercept=False).fit(X, y)
        value = 0.5 * np.sum((tangent.predict(X) - y) ** 2)
        value += 0.5 * params["beta"] * tangent.dual_coef_ @ gated_ntk(X) @ tangent.dual_coef_
        assert value == pytest.approx(extra["ntk_ridge_value_half_beta_yKy"], rel=1e-10)
        seen += 1
    assert seen == 1


def test_one_sample_by_hand():
    """x = 1: u = y - beta, and reweighting is eta -> eta y / (eta + beta)."""
    y, beta = 3.0, 0.5
    problem = Problem(np.ones((1, 1)), np.array([y]), np.ones(1), get_loss("squared_error"), beta)
    family = GatedReLU(None, np.ones((1, 1)))
    program = family.lift(problem, family.arrange(problem, np.random.default_rng(0)))
    solver, eta = Kernel(), 1.0
    state = solver.init(program, None)
    for _ in range(4):
        state, eta = solver.step(program, state), eta * y / (eta + beta)
        assert state.at.eta[0] == pytest.approx(eta, rel=1e-12)
    found = run(solver, program, tol=1e-12)
    assert found.W[0, 0] == pytest.approx(y - beta, rel=1e-6)  # the objective is flat there


@pytest.mark.parametrize("intercept", [False, True])
def test_the_function_of_the_kernel_weights_is_above_the_optimum_and_meets_it(intercept):
    X, y = data(25, 3)
    s = np.random.default_rng(1).uniform(0.5, 2.0, 25)
    problem, program = program_of(X, y, 0.02, intercept=intercept, weights=s)
    found = run(Kernel(), program, tol=1e-11)
    assert found.gap <= 1e-11
    masks = np.unpackbits(program.operator.bits, axis=1, count=25).astype(float)
    gram = problem.X @ problem.X.T
    at = _ridge(program, masks, gram, np.linalg.norm(found.W, axis=1))
    assert at.value == pytest.approx(found.primal, rel=1e-9)
    for seed in range(20):
        eta = np.random.default_rng(seed).exponential(size=len(masks)) * 0.1
        point = _ridge(program, masks, gram, eta)
        assert point.value >= found.primal * (1.0 - 1e-12)
        # the value is that of the weights u = eta X'D a, the norms written as 1/2 (|u|^2 / eta + eta)
        u = eta[:, None] * program.operator.adjoint(point.a)
        loss = program.loss.value(program.predict(u, point.c), program.target, program.weights)
        decay = 0.5 * np.sum(np.sum(u**2, axis=1) / eta + eta)
        assert point.value == pytest.approx(loss + program.beta * decay, rel=1e-9)
        if intercept:
            assert abs(np.sum(point.a)) <= 1e-9 * np.sum(np.abs(point.a))


def test_newton_ends_what_reweighting_begins():
    """The tail of reweighting is 1/k; with Newton's method the gap falls to rounding in a few steps."""
    _, program = program_of(*data(60, 4), 0.02, 200, True, "penalized")
    solver, gaps = Kernel(), []
    run(
        solver, program, tol=1e-12, callback=lambda k, primal, bound: gaps.append((primal - bound) / primal)
    )
    state = solver.init(program, None)
    masks, gram = state.masks, state.gram
    eta = state.at.eta
    for _ in range(len(gaps)):
        a = _ridge(program, masks, gram, eta).a
        eta = eta * np.linalg.norm(program.operator.adjoint(a), axis=1)
    reweighted = _ridge(program, masks, gram, eta)
    bound = program.bound(program.loss.balance(program.beta * reweighted.a))
    assert gaps[-1] <= 1e-12 and len(gaps) <= 40
    assert (reweighted.value - bound) / reweighted.value >= 1e-5


@pytest.mark.parametrize(("n", "d", "alpha"), [(80, 5, 0.1), (80, 5, 0.001), (30, 60, 0.01)])
def test_the_working_set_finds_the_same(n, d, alpha):
    _, program = program_of(*data(n, d), alpha, 150, True, "penalized")
    one, other = (run(SOLVERS[name](), program, tol=1e-9) for name in ("kernel", "working_set"))
    assert one.gap <= 1e-9 and one.primal == pytest.approx(other.primal, rel=1e-8)
    assert one.bound <= other.primal * (1 + 1e-12) and other.bound <= one.primal * (1 + 1e-12)
    assert np.array_equal(np.any(one.W != 0, axis=1), np.linalg.norm(one.W, axis=1) > 1e-12)


def test_another_solver_of_cvxpy():
    cp = pytest.importorskip("cvxpy")
    _, program = program_of(*data(15, 3), 0.05, 12, True)
    stated, _ = program.to_cvxpy()
    expected = stated.solve(solver=cp.CLARABEL)
    found = run(Kernel(), program, tol=1e-10)
    assert found.primal == pytest.approx(expected, rel=1e-6) and found.bound <= expected * (1 + 1e-6)


def test_networks_with_many_features_are_trained_by_kernels():
    X, y = data(40, 310)
    model = ConvexNetRegressor(0.05, architecture="gated_relu", patterns=30).fit(X, y)
    _, program = program_of(X, y, 0.05, 30, True, "penalized")
    assert choose_solver(program).name == "kernel"
    assert choose_solver(program_of(X[:, :5], y, 0.05)[1]).name == "working_set"
    assert model.certificate_.gap <= 1e-5 and model.certificate_.scope == "patterns"


def test_equal_kernels_and_what_is_beyond_the_threshold():
    X, y = data(12, 2)
    problem, program = program_of(X, y, 0.05, "all")
    bits = np.concatenate([program.operator.bits, program.operator.bits])
    twice = replace(program, operator=replace(program.operator, bits=bits))
    one, two = (run(Kernel(), p, tol=1e-9) for p in (program, twice))
    assert two.primal == pytest.approx(one.primal, rel=1e-8) and two.gap <= 1e-9
    top = program.price(problem.residual(np.zeros_like(problem.y)))
    zero = run(Kernel(), replace(program, beta=1.01 * top), tol=1e-9)
    assert zero.gap <= 1e-9 and not np.any(np.abs(zero.W) > 1e-9)


def test_the_gated_optimum_over_all_patterns_is_below_the_relu_network():
    X, y = data(10, 2)
    problem, program = program_of(X, y, 0.05, "all")
    found, relu = run(Kernel(), program, tol=1e-9), train(problem, ReLU(None), tol=1e-9).certificate
    assert found.bound <= relu.objective * 10 * (1 + 1e-9)


def test_what_kernels_are_not_for():
    problem, program = program_of(*data(12, 3), 0.05)
    relu = ReLU(None, "all")
    cones = relu.lift(problem, relu.arrange(problem, np.random.default_rng(0)))
    for other, word in (
        (replace(program, loss=get_loss("log_loss")), "squared loss"),
        (replace(program, loss=get_loss("huber")), "squared loss"),
        (cones, "cones"),
    ):
        with pytest.raises(Unsupported, match=word if other is not cones else "signs|cones"):
            run(Kernel(), other)


def test_the_tangent_kernel_is_the_mean_over_gates():
    rng = np.random.default_rng(3)
    X = np.vstack([rng.normal(size=(6, 3)), np.zeros(3)])
    masks = patterns_of(X, rng.normal(size=(200_000, 3)))
    mean = (X @ X.T) * (masks.T.astype(float) @ masks / len(masks))
    assert np.allclose(gated_ntk(X), mean, atol=0.02)
    assert np.allclose(np.diag(gated_ntk(X)), 0.5 * np.sum(X**2, axis=1))
    assert np.min(np.linalg.eigvalsh(gated_ntk(X))) >= -1e-12
    assert np.allclose(gated_ntk(X, X[:2]), gated_ntk(X)[:, :2])


@parametrize_with_checks([NTKRegressor(), NTKClassifier()])
def test_estimators_of_scikit_learn(estimator, check):
    check(estimator)


def test_tangent_ridge_with_weights_targets_and_classes():
    X, y = data(20, 2)
    s = np.random.default_rng(2).integers(0, 4, 20)
    weighted = NTKRegressor(0.01).fit(X, y, s)
    repeated = NTKRegressor(0.01).fit(np.repeat(X, s, axis=0), np.repeat(y, s))
    assert np.allclose(weighted.predict(X), repeated.predict(X), atol=1e-8)
    both = NTKRegressor(0.01).fit(X, np.column_stack([y, 2 * y])).predict(X)
    assert np.allclose(both[:, 1], 2 * both[:, 0])
    labels = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    model = NTKClassifier(1e-4).fit(X, labels)
    assert model.score(X, labels) == 1.0 and model.decision_function(X).shape == (20, 3)
    heavy = np.where(labels == "a", 3.0, 1.0)
    by_sample = NTKClassifier(0.1).fit(X, labels, heavy).decision_function(X)
    by_class = NTKClassifier(0.1, class_weight={"a": 3.0}).fit(X, labels).decision_function(X)
    assert np.allclose(by_sample, by_class, rtol=1e-12)
    with pytest.raises(ValueError, match="weight zero"):
        NTKClassifier().fit(X, labels, np.where(labels == "a", 0.0, 1.0))
    with pytest.raises(ValueError, match="'penalized'"):
        NTKRegressor(hidden_bias="free").fit(X, y)
    with pytest.raises(ValueError, match="alpha"):
        NTKRegressor(alpha=0.0).fit(X, y)
    with pytest.raises(ValueError, match="one class"):
        NTKClassifier().fit(X, np.ones(20))


def test_tangent_kernel_of_data_far_from_zero():
    """Nearly parallel rows keep their digits, and a kernel lost to rounding is an error that says so."""
    X = np.random.default_rng(0).normal(size=(30, 1)) + 1000.0
    model = NTKRegressor(1e-8).fit(X, X[:, 0])
    assert model.score(X, X[:, 0]) > 0.99
    with pytest.raises(ValueError, match="raise alpha"):
        NTKRegressor(1e-300).fit(1e6 * np.ones((3, 1)), np.arange(3.0))
