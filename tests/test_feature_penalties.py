"""Other norms of hidden weights: specifications, closed forms, cross checks, certificates that hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, ConvexNetRegressorCV, certify, path
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.bounds_vertices import relax, vertex_price
from cvxnn.feature_penalties import Elastic, Groups, feature_norm
from cvxnn.growth import Rows
from cvxnn.losses import get_loss
from cvxnn.low_rank import train_low_rank
from cvxnn.norm_growth import descend_rows
from cvxnn.norm_oracles import NormSearchOracle, vertices
from cvxnn.norm_pricing import best_in_cell, cell_bound, search_neurons
from cvxnn.optimal_set import OptimalSet
from cvxnn.program import Problem
from cvxnn.solvers import SOLVERS, run
from cvxnn.train import get_architecture, train

SPECS = ["l1", Elastic(0.4), Groups([[0, 2], [1]]), Groups([[0, 2], [1]], 0.3)]


def make(seed, n=9, d=3, loss="squared_error", alpha=0.03, intercept=True):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = rng.normal(size=n)
    y = np.where(y > 0, 1.0, -1.0) if get_loss(loss).classification else y
    return Problem.from_alpha(X, y, rng.uniform(0.5, 2.0, n), get_loss(loss), alpha, intercept)


def test_norms_by_hand():
    w = np.array([[3.0, -1.0, 4.0]])
    assert feature_norm("l1", 3, None).value(w) == pytest.approx(8.0)
    assert feature_norm(Groups([[0, 2], [1]]), 3, None).value(w) == pytest.approx(6.0)
    assert feature_norm(Elastic(0.25), 3, None).value(w) == pytest.approx(2.0 + 0.75 * np.sqrt(26))
    assert feature_norm("l1", 3, None).polar(w) == pytest.approx([4.0])
    assert feature_norm(Groups([[0, 2], [1]]), 3, None).polar(w) == pytest.approx([5.0])
    # a penalised bias is a group of its own
    assert feature_norm(Groups([[0, 1]]), 2, "penalized").value(w) == pytest.approx(np.sqrt(10) + 4.0)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_polar_is_the_largest_inner_product(spec):
    norm, rng = feature_norm(spec, 3, None), np.random.default_rng(0)
    G = rng.normal(size=(4, 3))
    U = rng.normal(size=(20000, 3)) * rng.choice([0.0, 1.0], size=(20000, 3))
    U = U[norm.norms(U) > 0]
    values = np.max((U / norm.norms(U)[:, None]) @ G.T, axis=0)
    assert np.all(values <= norm.polar(G) * (1 + 1e-12))
    assert values == pytest.approx(norm.polar(G), rel=2e-3)


@pytest.mark.parametrize(
    ("groups", "ratio"), [([[0, 0]], 0), ([[0], []], 0), ([], 0), ("ab", 0), ([[0.5]], 0), ([[0]], 1.5)]
)
def test_groups_that_are_none(groups, ratio):
    with pytest.raises(ValueError, match=r"pass lists|between 0 and 1"):
        Groups(groups, ratio)


def test_what_cannot_be_asked_for():
    X, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12.0)
    with pytest.raises(ValueError, match="pass 'l2'"):
        ConvexNetRegressor(penalty="l3").fit(X, y)
    with pytest.raises(ValueError, match="columns 0 to 2"):
        ConvexNetRegressor(penalty=Groups([[0, 1]])).fit(X, y)
    with pytest.raises(ValueError, match="rank=None or penalty='l2'"):
        ConvexNetRegressor(penalty="l1", rank=1).fit(X, y)
    with pytest.raises(ValueError, match="for one output"):
        ConvexNetRegressor(penalty="l1").fit(X, np.column_stack([y, y]))
    model = ConvexNetRegressor(0.1, penalty="l1").fit(X, y / 12)
    with pytest.raises(ValueError, match="penalty='l2'"):
        model.optimal_set(X, y / 12)


def test_what_rests_on_weight_decay_refuses():
    problem = make(0)
    with pytest.raises(ValueError, match="penalty='l2'"):
        train_low_rank(problem, ReLU(None, penalty="l1"), 1)
    family = GatedReLU(None, 6, "l1")
    with pytest.raises(ValueError, match="penalty='l2'"):
        OptimalSet.of(problem, family, train(problem, family).network)


def test_solvers_of_weight_decay_refuse():
    problem = make(0)
    for architecture in (ReLU(None, "all", "l1"), GatedReLU(None, 8, "l1")):
        program = architecture.lift(problem, architecture.arrange(problem, np.random.default_rng(0)))
        for name in ("interior_point", "working_set"):
            able, reason = SOLVERS[name]().supports(program)
            assert not able and reason


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_all_patterns_agree_with_cvxpy(spec, bias):
    pytest.importorskip("cvxpy")
    problem = make(1, n=7)
    family = ReLU(bias, "all", spec)
    trained = train(problem, family, tol=1e-8)
    arrangement = family.arrange(problem, np.random.default_rng(0))
    assert arrangement.complete
    stated, _ = family.lift(problem, arrangement).to_cvxpy()
    optimum = stated.solve(solver="CLARABEL") / problem.total_weight
    certificate = trained.certificate
    assert certificate.scope == "global" and certificate.gap <= 1e-6
    assert certificate.objective == pytest.approx(optimum, rel=1e-6)
    assert certificate.lower_bound <= optimum * (1 + 1e-6)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_gated_agree_with_cvxpy(spec, loss):
    pytest.importorskip("cvxpy")
    problem = make(2, loss=loss)
    family = GatedReLU("penalized", 10, spec)
    trained = train(problem, family, tol=1e-7)
    arrangement = family.arrange(problem, np.random.default_rng(0))
    stated, _ = family.lift(problem, arrangement).to_cvxpy()
    # the same gates for both
    fixed = GatedReLU("penalized", arrangement.gates, spec)
    trained = train(problem, fixed, tol=1e-7)
    optimum = stated.solve(solver="CLARABEL") / problem.total_weight
    assert trained.certificate.objective == pytest.approx(optimum, rel=1e-6)
    assert trained.certificate.gap <= 1e-6


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
@pytest.mark.parametrize("spec", ["l1", Groups([[0, 2], [1]], 0.3)], ids=str)
def test_no_network_from_many_starts_beats_a_certificate(spec, bias):
    """Descent from many starts, with a norm of our own writing, ends above the bound and near it."""
    problem = make(3, n=12, alpha=0.02)
    trained = train(problem, ReLU(bias, penalty=spec), tol=1e-7)
    X = problem.X if bias is None else np.column_stack([problem.X, np.ones(len(problem.X))])
    y, s, rng = problem.y, problem.weights, np.random.default_rng(0)

    def omega(W):
        A = np.abs(W)
        size = np.sum(A[..., :3], axis=-1)
        if spec != "l1":
            size = 0.3 * size + 0.7 * (np.hypot(A[..., 0], A[..., 2]) + A[..., 1])
        return size + (A[..., 3] if bias == "penalized" else 0.0)

    def values(V):
        """Of the networks whose parameters are rows."""
        W, a, c = V[:, :-5].reshape(len(V), 4, -1), V[:, -5:-1], V[:, -1:]
        f = np.einsum("knj,kj->kn", np.maximum(X @ W.transpose(0, 2, 1), 0.0), a) + c
        cost = 0.5 * np.sum(omega(W) ** 2 + a**2, axis=1)
        return (0.5 * (f - y) ** 2 @ s + problem.beta * cost) / np.sum(s)

    def descended(v):
        # slopes are differences, of all coordinates at once
        at, step = (lambda v: values(v[None])[0]), 1e-8
        return minimize(at, v, jac=lambda v: (values(v + step * np.eye(len(v))) - at(v)) / step).fun

    found = [descended(rng.normal(size=4 * X.shape[1] + 5)) for _ in range(6)]
    assert min(found) >= trained.certificate.lower_bound
    assert min(found) <= trained.certificate.objective * 1.2  # a rival worth the name
    # weights are balanced: the sum of squares is what the certificate counts
    first, last = trained.network.layers[0], trained.network.layers[-1]
    rows = np.column_stack([first.weight.T, first.bias])
    sizes = omega(rows[:, : X.shape[1]])
    assert sizes == pytest.approx(np.abs(last.weight[:, 0]), rel=1e-9)
    f = trained.network(problem.X)
    total = np.sum(s * 0.5 * (f - y) ** 2) + problem.beta * 0.5 * np.sum(sizes**2 + last.weight[:, 0] ** 2)
    assert total / np.sum(s) == pytest.approx(trained.certificate.objective, rel=1e-9)


def test_orthonormal_samples_under_the_sum_of_sizes():
    """X = I: every sample is a feature, so entries are shrunk one by one."""
    y = np.array([3.0, 4.0, -2.0, 0.5])
    problem = Problem(np.eye(4), y, np.ones(4), get_loss("squared_error"), 1.0)
    trained = train(problem, ReLU(None, penalty="l1"), tol=1e-9)
    expected = sum(abs(v) - 0.5 if abs(v) >= 1 else 0.5 * v**2 for v in y)
    assert trained.certificate.objective * 4 == pytest.approx(expected, rel=1e-9)
    assert trained.certificate.lower_bound * 4 == pytest.approx(expected, rel=1e-8)
    assert trained.network(np.eye(4)) == pytest.approx([2.0, 3.0, -1.0, 0.0], abs=1e-6)


def test_prices_in_a_cell_agree_with_a_linear_program():
    problem = make(4)
    design, rng = ReLU("penalized", penalty="l1").design(problem), np.random.default_rng(1)
    for _ in range(5):
        sign = np.where(design.X @ rng.normal(size=4) > 0, 1.0, -1.0)
        g = rng.normal(size=4)
        A = sign[:, None] * design.X
        u, rho = best_in_cell(design, sign, g)
        # u = a - b with a, b >= 0 and sum(a + b) <= 1
        rows = np.vstack([np.column_stack([-A, A]), np.ones((1, 8))])
        exact = -linprog(-np.concatenate([g, -g]), rows, np.append(np.zeros(len(A)), 1.0)).fun
        assert g @ u == pytest.approx(exact, abs=1e-8)
        assert cell_bound(design, sign, g, rho) == pytest.approx(exact, abs=1e-8)
        assert cell_bound(design, sign, g, np.abs(rng.normal(size=len(A)))) >= exact - 1e-9


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_bounds_over_all_patterns_hold(spec, bias):
    """The search oracle's bounds are above exact prices and its proofs below exact optima."""
    problem = make(5, n=7)
    exact = ReLU(bias, "all", spec)
    arrangement = exact.arrange(problem, np.random.default_rng(0))
    oracle = exact.oracle(problem, arrangement)
    grown = NormSearchOracle(oracle.problem, exact.design(problem))
    rng = np.random.default_rng(0)
    for _ in range(4):
        Z = rng.normal(size=len(problem.y))
        Z = problem.loss.balance(Z)
        true, loose = oracle.price(Z), grown.price(Z)
        assert true.value == pytest.approx(true.found, rel=1e-7)
        assert loose.value >= true.found * (1 - 1e-9) and loose.scope == "bounded"
        assert loose.found <= true.value * (1 + 1e-9)
        assert loose.found >= 0.99 * true.value
    best = train(problem, exact, tol=1e-8)
    proof = grown.prove(best.dual, max_iter=20, max_time=60.0)
    assert proof.bound <= best.certificate.objective * problem.total_weight * (1 + 1e-12)
    assert proof.bound > 0.3 * best.certificate.objective * problem.total_weight
    # its dual variable is feasible for the exact oracle
    assert oracle.price(proof.Z).found <= problem.beta * (1 + 1e-9)


@pytest.mark.parametrize("bias", [None, "penalized"])
def test_the_relaxation_is_exact_for_dual_variables_of_one_sign(bias):
    """A convex function is largest at a vertex: a neuron of one feature."""
    problem = make(6, intercept=False)
    family = ReLU(bias, "all", "l1")
    design, Z = family.design(problem), np.abs(problem.y)
    V = vertices(design)
    true = family.oracle(problem, family.arrange(problem, np.random.default_rng(0))).price(Z)
    assert np.max(Z @ np.maximum(design.X @ V, 0.0)) == pytest.approx(true.value, rel=1e-9)
    assert vertex_price(design.X, V, Z) == pytest.approx(true.value, rel=1e-9)
    relaxed = relax(design.X, V, problem.y, problem.weights, problem.loss, problem.beta, intercept=False)
    assert vertex_price(design.X, V, relaxed.Z) <= relaxed.price * (1 + 1e-9)
    # the multipliers are as good as those of the linear program: the dual variable is feasible
    assert relaxed.price <= problem.beta * (1 + 1e-6)


def test_descent_falls_and_search_finds_what_was_planted():
    problem = make(7, n=40, d=4, alpha=0.01)
    design = ReLU("penalized", penalty="l1").design(problem)
    rng = np.random.default_rng(0)
    rows = Rows(0.3 * rng.normal(size=(10, 5)), np.where(rng.random(10) < 0.5, 1.0, -1.0))
    from cvxnn.growth import objective

    moved = descend_rows(problem, design, rows, 100)
    assert objective(problem, design, moved) < 0.9 * objective(problem, design, rows)
    u = design.unit(np.array([[1.0, 0.0, -1.0, 0.0, 0.2]]))[0]
    Z = np.maximum(design.X @ u, 0.0)
    found = search_neurons(design, Z, design.X[:0], n_random=64, n_polish=8, random_state=rng)
    assert found.best >= Z @ Z * (1 - 1e-9)
    values = found.signs * (np.maximum(design.X @ found.directions.T, 0.0).T @ Z)
    assert values == pytest.approx(found.values, rel=1e-9, abs=1e-9)
    assert design.norms(found.directions) == pytest.approx(1.0)


def test_neurons_see_the_features_that_matter():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 12))
    y = np.abs(X[:, 0]) - np.maximum(X[:, 3], 0.0)
    model = ConvexNetRegressor(0.05, penalty="l1").fit(X, y)
    used = np.max(np.abs(model.network_.layers[0].weight), axis=1)
    assert set(np.flatnonzero(used > 1e-3 * np.max(used))) == {0, 3}
    assert model.certificate_.search_gap <= 1e-5 and model.certificate_.scope == "bounded"
    assert model.certificate_.lower_bound > 0.8 * model.certificate_.objective
    grouped = ConvexNetRegressor(0.05, penalty=Groups([[0, 3], list(range(1, 3)), list(range(4, 12))]))
    used = np.max(np.abs(grouped.fit(X, y).network_.layers[0].weight), axis=1)
    assert np.all(used[[1, 2, *range(4, 12)]] <= 1e-3 * np.max(used))


def test_an_elastic_norm_of_no_share_is_weight_decay():
    X, y = np.random.default_rng(0).normal(size=(15, 2)), np.sin(np.arange(15.0))
    plain = ConvexNetRegressor(0.02).fit(X, y).certificate_
    assert ConvexNetRegressor(0.02, penalty=Elastic(0.0)).fit(X, y).certificate_ == plain


def test_entrances_agree():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 3))
    y = np.maximum(X[:, 0], 0.0)
    model = ConvexNetRegressor(0.02, penalty="l1", tol=1e-7).fit(X, y)
    judged = certify(model, X, y, alpha=0.02)
    assert judged.objective == pytest.approx(model.certificate_.objective, rel=1e-12)
    assert judged.gap <= 2 * model.certificate_.gap + 1e-5
    decay = certify(model, X, y, alpha=0.02, penalty="l2")
    assert decay.objective < judged.objective
    along = path(X, y, [0.05, 0.02], penalty="l1", tol=1e-7)
    assert along.objectives[1] == pytest.approx(model.certificate_.objective, rel=1e-6)
    chosen = ConvexNetRegressorCV([0.05, 0.02], cv=2, penalty="l1").fit(X, y)
    at = ConvexNetRegressor(chosen.alpha_, penalty="l1").fit(X, y)
    assert chosen.certificate_.objective == pytest.approx(at.certificate_.objective, rel=1e-6)
    labels = ConvexNetClassifier(0.02, penalty=Elastic(), architecture="gated_relu").fit(X, y > 0.1)
    assert labels.certificate_.gap <= 1e-4


@pytest.mark.parametrize("loss", ["absolute_error", "hinge", "poisson", "quantile"])
def test_other_losses(loss):
    problem = make(8, loss=loss) if loss != "poisson" else None
    if problem is None:
        rng = np.random.default_rng(8)
        X, y = rng.normal(size=(9, 3)), rng.poisson(2.0, 9).astype(float)
        problem = Problem.from_alpha(X, y, None, get_loss(loss), 0.03, True)
    family = get_architecture("relu", "penalized", "all", penalty="l1")
    trained = train(problem, family, tol=1e-6)
    program = family.lift(problem, family.arrange(problem, np.random.default_rng(0)))
    optimum = run(SOLVERS["conic"](), program, tol=1e-7).primal / problem.total_weight
    assert trained.certificate.objective == pytest.approx(optimum, rel=1e-5)
    assert trained.certificate.lower_bound <= optimum * (1 + 1e-7)


def test_a_penalty_that_a_family_has_not_is_refused_and_never_ignored():
    """A certificate for another objective than the one asked for would be wrong."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2))
    y = X[:, 0]
    W, a = rng.standard_normal((2, 3)), rng.standard_normal(3)
    leaky = LeakyReLU(hidden_bias=None).adopt(W, np.zeros(3), a, 0.0)
    assert certify(leaky, X, y, alpha=0.1, fit_intercept=False).gap > 0
    with pytest.raises(ValueError, match="pass penalty='l2'"):
        certify(leaky, X, y, alpha=0.1, penalty="l1", fit_intercept=False)
    for architecture in (LeakyReLU(), ReLU()):
        with pytest.raises(ValueError, match="pass it to the architecture"):
            ConvexNetRegressor(architecture=architecture, penalty="l1").fit(X, y)
    assert get_architecture(ReLU(penalty="l1"), None, "auto", penalty="l1") == ReLU(penalty="l1")
