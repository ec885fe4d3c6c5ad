"""Wedge products: the algebra, the Lasso over hyperplanes through samples, its certificates, and gates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify
from cvxnn.architectures import wedge
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.threshold import Threshold
from cvxnn.architectures.wedge import Wedge
from cvxnn.arrangement import Arrangement, patterns_of
from cvxnn.explanation import explain
from cvxnn.geometric import (
    TooManyWedges,
    cross_product,
    list_wedges,
    normals,
    sample_wedges,
    signed_volume,
    wedge_gates,
    wedge_number,
)
from cvxnn.losses import get_loss
from cvxnn.network import Network
from cvxnn.operators import Dense
from cvxnn.oracles import CellOracle, Design
from cvxnn.program import Problem
from cvxnn.testing import check_operator
from cvxnn.train import choose_solver, get_architecture, train
from cvxnn.wedge_factors import cell_factors, widening
from cvxnn.wedge_oracles import hyperplanes, unit


def make(X, y, alpha=0.02, intercept=False, loss="squared_error", weights=None):
    return Problem.from_alpha(np.asarray(X, float), y, weights, get_loss(loss), alpha, intercept)


# --- the algebra


@pytest.mark.parametrize("d", [1, 2, 3, 4, 6])
def test_cross_products_give_determinants(d):
    rng = np.random.default_rng(d)
    A, x = rng.normal(size=(5, d - 1, d)), rng.normal(size=(5, d))
    v = cross_product(A)
    full = np.concatenate([x[:, None, :], A], axis=1)
    assert np.allclose(np.sum(x * v, axis=1), np.linalg.det(full), rtol=1e-10, atol=1e-12)
    assert np.allclose(np.einsum("kij,kj->ki", A, v), 0.0, atol=1e-12)
    gram = np.sqrt(np.linalg.det(A @ A.transpose(0, 2, 1))) if d > 1 else np.ones(5)
    assert np.allclose(np.linalg.norm(v, axis=1), gram, rtol=1e-10)


def test_cross_products_by_hand():
    assert cross_product(np.zeros((0, 1))).tolist() == [1.0]
    assert cross_product(np.array([[3.0, 4.0]])).tolist() == [4.0, -3.0]  # x ^ a = x1 a2 - x2 a1
    assert cross_product(np.eye(3)[:2]).tolist() == [0.0, 0.0, 1.0]
    # the fourth direction is odd: moving it to the front takes three exchanges
    assert cross_product(np.eye(4)[:3]).tolist() == [0.0, 0.0, 0.0, -1.0]
    with pytest.raises(ValueError, match="d - 1 vectors"):
        cross_product(np.eye(3))


def test_signed_volumes_by_hand():
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert signed_volume(triangle) == 0.5
    assert signed_volume(triangle[[0, 2, 1]]) == -0.5
    assert signed_volume(np.array([[2.0], [5.0]])) == pytest.approx(3.0)
    assert signed_volume(np.vstack([np.zeros(3), np.eye(3)])) == pytest.approx(1 / 6)
    assert signed_volume(np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0]])) == 0.0
    with pytest.raises(ValueError, match="d \\+ 1"):
        signed_volume(np.eye(2))


def test_features_are_ratios_of_volumes():
    """In the plane with bias a feature is twice a triangle's area over the length of its base."""
    X = np.random.default_rng(0).normal(size=(6, 2))
    rows = np.column_stack([X, np.ones(6)])
    for i, j in itertools.combinations(range(6), 2):
        v = cross_product(rows[[i, j]])
        base = np.linalg.norm(X[i] - X[j])
        assert np.linalg.norm(v[:2]) == pytest.approx(base)
        for x in X:
            area = signed_volume(np.array([x, X[i], X[j]]))
            assert np.append(x, 1.0) @ v == pytest.approx(2 * area, abs=1e-12)


def test_listed_wedges_are_all_and_dependent_rows_span_none():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, 3))
    found = list_wedges(X, X, 100)
    assert found.complete and len(found) == math.comb(7, 2) and found.resolution == 1e-15
    on = np.abs(np.einsum("kd,kjd->kj", found.gates, X[found.subsets]))
    assert np.all(on <= found.error[:, None] * np.linalg.norm(X[found.subsets], axis=2) + 1e-15)
    twice = np.vstack([X, 2.0 * X[:1], np.zeros((1, 3))])
    found = list_wedges(twice, twice, 100)
    assert found.complete and len(found) == math.comb(8, 2) - 1
    nearly = np.vstack([X, X[0] + 1e-11 * rng.normal(size=3)])
    assert not list_wedges(nearly, nearly, 100).complete
    with pytest.raises(TooManyWedges, match="21 wedge products and 20"):
        list_wedges(X, X, 20)


def test_normals_know_their_error():
    """Nearly dependent rows: what is said of the error holds against exact arithmetic."""
    from fractions import Fraction

    rng = np.random.default_rng(1)
    for size in (1e-2, 1e-5, 1e-7):
        a = rng.normal(size=3)
        rows = np.stack([a, a + size * rng.normal(size=3)])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        v, error, _, _, _ = normals(rows, np.array([[0, 1]]))
        p, q = ([Fraction(float(t)) for t in row] for row in rows)
        exact = [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]]
        top = max(abs(t) for t in exact)
        w = np.array([float(t / top) for t in exact])
        w /= np.linalg.norm(w)
        assert min(np.linalg.norm(v[0] - w), np.linalg.norm(v[0] + w)) <= error[0] <= 1e-6


def test_dictionary_operator():
    check_operator(Dense(np.random.default_rng(0).normal(size=(7, 5))))


# --- the Lasso


def test_reference_optima(golden):
    seen = 0
    for record in (r for r in golden if r["system"] == "wedge_lasso"):
        X, y, params, extra = np.array(record["X"]), record["Y"], record["params"], record["extra"]
        n, p = len(y), params["norm"]
        problem = make(X, np.array(y), params["beta"] / n)
        family = Wedge(None, "all", f"l{p}", coordinates=p == 1)
        trained = train(problem, family, tol=1e-11)
        found, name = trained.certificate, record["id"]
        assert found.objective * n == pytest.approx(record["optimum"], abs=record["tolerance"]), name
        assert found.lower_bound * n <= extra["network_optimum"] + 1e-9, name
        columns = family.lift(problem, family.arrange(problem, np.random.default_rng(0))).operator.shape[1]
        assert columns == extra["columns"], name
        if p == 1:
            assert found.scope == "global" and found.gap <= 1e-9, name
            small = train(problem, Wedge(None, "all", "l1", coordinates=False), tol=1e-11).certificate
            assert small.objective * n == pytest.approx(
                extra["lasso_without_coordinate_rows"], abs=record["tolerance"]
            ), name
            assert small.scope == "global" and small.lower_bound * n <= record["optimum"] + 1e-9, name
        else:
            _factors_of_the_plane(X, extra)
            assert found.scope == "bounded"
        seen += 1
    assert seen == 4


def _factors_of_the_plane(X, extra):
    """In the plane the factor is that of the widest angle."""
    rays = list_wedges(X, X, 100).gates
    factors = cell_factors(X, rays, rays)
    assert np.max(factors) == pytest.approx(extra["factor_bound"], rel=1e-8)
    assert np.max(factors) == pytest.approx(1 / np.cos(extra["widest_cell_angle"] / 2), rel=1e-8)
    assert extra["ratio_to_network"] <= np.max(factors)


def test_a_row_of_ones_by_hand():
    """X = (1, 1): the data's own rays are worth nothing, coordinates all."""
    problem = make([[1.0, 1.0]], np.array([1.0]), 0.2)
    full = train(problem, Wedge(None, penalty="l1"), tol=1e-10)
    assert full.certificate.objective == pytest.approx(0.2 - 0.02, abs=1e-12)
    bare = train(problem, Wedge(None, penalty="l1", coordinates=False), tol=1e-10)
    assert bare.certificate.objective == 0.5 and bare.network.width == 0
    assert bare.certificate.lower_bound == pytest.approx(0.18, abs=1e-9)


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "absolute_error"])
def test_l1_is_the_optimum_of_relu_networks_with_the_l1_norm(bias, loss):
    rng = np.random.default_rng(3)
    n = 6 if bias == "free" else 8
    X = rng.normal(size=(n, 2))
    y = np.sign(rng.normal(size=n)) if loss == "log_loss" else rng.normal(size=n)
    problem = make(X, y, 0.02, True, loss, rng.integers(1, 3, n).astype(float))
    ours = train(problem, Wedge(bias, "all", "l1"), tol=1e-9).certificate
    theirs = train(problem, ReLU(bias, "all", "l1"), tol=1e-9).certificate
    assert ours.scope == theirs.scope == "global"
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-7)
    assert ours.lower_bound == pytest.approx(theirs.lower_bound, rel=1e-6)
    assert max(ours.lower_bound, theirs.lower_bound) <= min(ours.objective, theirs.objective) * (1 + 1e-12)


def test_one_input_is_the_ramp_lasso():
    """Ramps at the samples are the optimum for l2 too: |w|_1 = |w|_2, and the factor is one."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 1)), rng.normal(size=12)
    problem = make(X, y, 0.05)
    exact = train(problem, ReLU("free"), tol=1e-10).certificate.objective
    for penalty in ("l1", "l2"):
        found = train(problem, Wedge("free", penalty=penalty), tol=1e-10)
        assert found.certificate.objective == pytest.approx(exact, rel=1e-9)
        assert found.certificate.gap <= 1e-8
        kinks = -found.network.layers[0].bias / found.network.layers[0].weight[0]
        assert np.all(np.min(np.abs(kinks[:, None] - X[:, 0]), axis=1) <= 1e-12)


def test_the_lasso_in_cvxpy():
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(8, 3)), rng.normal(size=8)
    for penalty, bias in (("l1", "free"), ("l2", "penalized")):
        problem, family = make(X, y, 0.03), Wedge(bias, "all", penalty)
        program = family.lift(problem, family.arrange(problem, np.random.default_rng(0)))
        stated, _ = program.to_cvxpy()
        stated.solve(solver=cp.CLARABEL)
        trained = train(problem, family, tol=1e-9)
        assert trained.certificate.objective * 8 == pytest.approx(stated.value, rel=1e-6)
        assert choose_solver(program).name == "lasso"


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
@pytest.mark.parametrize("rank", [2, 3])
def test_l2_lies_within_its_factor_of_weight_decay(bias, rank):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(7, rank)), rng.normal(size=7)
        if bias is not None and rank == 3:
            X = X[:, :2] @ rng.normal(size=(2, 3))  # rows in a plane
        problem = make(X, y, 0.02)
        exact = train(problem, ReLU(bias, "all"), tol=1e-9).certificate
        found = train(problem, Wedge(bias), tol=1e-10).certificate
        assert found.scope == "bounded"
        assert found.lower_bound <= exact.objective * (1 + 1e-9) <= found.objective * (1 + 2e-9)


def test_l2_prices_bound_every_neuron():
    """Each set of factors alone bounds the exact price over all cells."""
    for seed, bias in itertools.product(range(4), (None, "penalized", "free")):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(7, 2))
        problem, family = make(X, rng.normal(size=7)), Wedge(bias)
        oracle = family.oracle(problem, family.arrange(problem, rng))
        design = family.design(problem)
        cells = CellOracle(oracle.problem, design, Arrangement.enumerate(design.X))
        Z = rng.normal(size=7)
        Z -= np.mean(Z) if bias == "free" else 0.0
        exact, price = cells.price(Z), oracle.price(Z)
        assert price.found <= exact.value * (1 + 1e-12) and exact.found <= price.value
        values = np.max(np.abs(oracle.values(Z)), axis=0)
        assert len(oracle.factors) == 2
        for factors in oracle.factors:
            assert exact.found <= np.max(values * factors) * (1 + 1e-9)


def test_factors_hold_for_random_vectors_of_cells():
    """In three dimensions: a unit vector is a sum of its cell's rays with coefficients below the factor."""
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.normal(size=(8, 3)), np.eye(3)])
    rays = list_wedges(rows, rows, 1000).gates
    factors = cell_factors(rows, rays, rays)
    both, k = np.concatenate([rays, -rays]), np.concatenate([factors, factors])
    for u in rng.normal(size=(40, 3)):
        u = u / np.linalg.norm(u)
        inside = np.all((both @ rows.T) * np.sign(rows @ u) >= -1e-9, axis=1)
        fit = linprog(-np.ones(inside.sum()), A_eq=both[inside].T, b_eq=u)
        assert fit.status == 0 and -fit.fun <= np.min(k[inside]) * (1 + 1e-9)


def test_widening_by_hand():
    turn = np.pi / 6
    pair = np.array([[np.cos(turn), np.sin(turn)], [np.cos(turn), -np.sin(turn)]])
    assert widening(pair, np.array([0]))[0] == pytest.approx(1 / np.cos(turn))
    assert widening(np.eye(3), np.array([0]))[0] == pytest.approx(np.sqrt(3), rel=1e-3)
    assert widening(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0]))[0] == np.inf
    assert widening(np.vstack([pair, pair[:1]]), np.array([0, 2])).tolist() == pytest.approx(
        [1 / np.cos(turn), 1.0]
    )


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_no_descent_gets_below_the_bound(penalty):
    rng = np.random.default_rng(7)
    X, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    problem, family, alpha = make(X, y, 0.03), Wedge(None, penalty=penalty), 0.03
    bound = train(problem, family, tol=1e-9).certificate.lower_bound
    least = np.inf
    for seed in range(8):
        start = np.random.default_rng(seed).normal(size=(8, 3))

        def objective(theta):
            W, a = theta.reshape(8, 3)[:, :2], theta.reshape(8, 3)[:, 2]
            f = np.maximum(X @ W.T, 0.0) @ a
            norm = np.sum(np.abs(W), axis=1) if penalty == "l1" else np.linalg.norm(W, axis=1)
            return np.mean(0.5 * (f - y) ** 2) + 0.5 * alpha * np.sum(norm**2 + a**2)

        least = min(least, minimize(objective, start.ravel(), method="L-BFGS-B").fun)
    assert bound <= least <= bound * 1.5


@pytest.mark.parametrize(("penalty", "bias"), [("l1", "free"), ("l2", None), ("l1", "penalized")])
def test_searched_wedges_are_the_listed_ones(penalty, bias, monkeypatch):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(30, 3))
    y = np.maximum(X @ [1.0, -1.0, 0.5], 0.0) - np.maximum(X[:, 1], 0.0) + 0.1 * rng.normal(size=30)
    problem, family = make(X, y, 0.01), Wedge(bias, penalty=penalty)
    listed = train(problem, family, tol=1e-8)
    monkeypatch.setattr(wedge, "AUTO_WEDGES", 0)
    monkeypatch.setattr(wedge, "AUTO_ENTRIES", 0)
    searched = train(problem, family, tol=1e-8)
    assert searched.certificate.scope == "bounded" and searched.certificate.search_gap <= 1e-8
    assert searched.certificate.objective == pytest.approx(listed.certificate.objective, rel=1e-6)
    assert searched.certificate.lower_bound <= listed.certificate.objective
    for kink in explain(searched.network, problem.X):
        assert kink.determined, str(kink)


def test_nearly_dependent_rows_are_not_called_global():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3))
    X[5] = X[0] + 3e-12 * rng.normal(size=3) * np.linalg.norm(X[0])
    problem = make(X, rng.normal(size=6))
    assert train(problem, Wedge(None, penalty="l1"), tol=1e-6).certificate.scope == "bounded"


def test_degenerate_data():
    """A grid, equal rows, a zero row and a column of zeros."""
    grid = np.array(list(itertools.product([0.0, 1.0], [0.0, 1.0, 2.0])))
    X = np.column_stack([np.vstack([grid, grid[:2]]), np.zeros(8)])
    y = np.random.default_rng(0).normal(size=8)
    for bias, penalty in itertools.product((None, "penalized", "free"), ("l1", "l2")):
        problem = make(X, y, 0.02)
        found = train(problem, Wedge(bias, penalty=penalty), tol=1e-8).certificate
        exact = train(problem, ReLU(bias, "all", penalty), tol=1e-8).certificate
        assert found.lower_bound <= exact.objective * (1 + 1e-9)
        if penalty == "l1":
            assert found.scope == "global" and found.gap <= 1e-6
            assert found.objective == pytest.approx(exact.objective, rel=1e-6)


# --- around it


def test_certificates_of_other_networks():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(12, 2)), rng.normal(size=12)
    W1, b1, w2 = rng.normal(size=(2, 5)), rng.normal(size=5), 0.1 * rng.normal(size=(5, 1))
    judged = [
        certify((W1, b1, w2, None), X, y, alpha=0.03, architecture=family)
        for family in (Wedge(penalty="l1", patterns="all"), ReLU(penalty="l1", patterns="all"))
    ]
    assert judged[0].objective == pytest.approx(judged[1].objective, rel=1e-12)
    assert judged[0].lower_bound == pytest.approx(judged[1].lower_bound, rel=1e-5)
    assert judged[0].scope == judged[1].scope == "global" and judged[0].gap > 0.0


def test_estimators_and_files(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    model = ConvexNetRegressor(architecture="wedge", penalty="l1", alpha=0.01).fit(X, np.abs(X[:, 0]))
    assert model.certificate_.scope == "global" and model.certificate_.gap <= 1e-4
    model.network_.save(tmp_path / "a.safetensors")
    again, _ = Network.load(tmp_path / "a.safetensors")
    assert np.array_equal(again(X), model.network_(X))
    assert certify(model, X, np.abs(X[:, 0]), alpha=0.01).gap <= 1e-4
    classes = ConvexNetClassifier(architecture=Wedge("free"), alpha=0.01).fit(X, X[:, 0] * X[:, 1] > 0)
    assert classes.score(X, X[:, 0] * X[:, 1] > 0) >= 0.9
    with pytest.raises(ValueError, match="one output"):
        ConvexNetRegressor(architecture=Wedge()).fit(X, X)
    with pytest.raises(ValueError, match="has one output"):
        ConvexNetRegressor(architecture="wedge").fit(X, X)


def test_command_line(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from cvxnn.cli import app

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(size=(20, 2)), rng.normal(size=20)])
    np.savetxt("t.csv", table, delimiter=",", header="a,b,y", comments="")
    fit = ["fit", "t.csv", "--target", "y", "--alpha", "0.05"]
    run = CliRunner().invoke(app, [*fit, "--architecture", "wedge", "--penalty", "l1"])
    assert run.exit_code == 0 and "no network of any width" in run.output, run.output
    run = CliRunner().invoke(app, [*fit, "--architecture", "wedge", "--option", "coordinates=false"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(app, ["certify", "t.safetensors", "t.csv", "--target", "y"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(app, [*fit, "--architecture", "gated_relu", "--patterns", "wedge"])
    assert run.exit_code == 0 and "same activation patterns" in run.output, run.output


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("bias", [None, "penalized", "free"])
def test_without_coordinates_training_ends_and_bounds_hold_for_all_networks(penalty, bias):
    """The search gap is about wedges that networks may use, the bound about all of them."""
    rng = np.random.default_rng(1)
    problem = make(rng.normal(size=(10, 2)), rng.normal(size=10), 0.02, True)
    fewer, every = (
        train(problem, Wedge(bias, penalty=penalty, coordinates=which), tol=1e-7).certificate
        for which in (False, True)
    )
    assert fewer.search_gap <= 1e-7
    assert every.objective <= fewer.objective * (1 + 1e-7)
    assert fewer.lower_bound <= every.objective * (1 + 1e-9)
    best = train(problem, ReLU(bias, "all", penalty), tol=1e-7).certificate
    assert fewer.lower_bound <= best.objective * (1 + 1e-9)
    assert fewer.scope == ("global" if penalty == "l1" else "bounded")


@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_searched_wedges_are_of_samples_without_coordinates(penalty, monkeypatch):
    monkeypatch.setattr(wedge, "AUTO_WEDGES", 0)
    monkeypatch.setattr(wedge, "AUTO_ENTRIES", 0)
    rng = np.random.default_rng(0)
    problem = make(rng.normal(size=(40, 3)), rng.normal(size=40), 0.05)
    fit = train(problem, Wedge(None, penalty=penalty, coordinates=False))
    kinks = explain(fit.network, problem.X)
    assert kinks and all(len(kink.samples) == 2 for kink in kinks)
    listed = train(problem, Wedge(None, "all", penalty, coordinates=False)).certificate
    assert fit.certificate.objective == pytest.approx(listed.objective, rel=1e-4)
    assert fit.certificate.search_gap <= 1e-5


def test_more_wedges_than_the_judge_can_list(monkeypatch):
    """Those of samples are few, those of all networks are not: bounds are then those of a search."""
    rng = np.random.default_rng(0)
    problem = make(rng.normal(size=(6, 5)), rng.normal(size=6), 0.05)
    monkeypatch.setattr(wedge, "ALL_WEDGES", 64)
    fit = train(problem, Wedge(None, penalty="l1", coordinates=False))
    assert fit.certificate.scope == "bounded" and fit.certificate.search_gap <= 1e-5


def test_what_is_wrong_is_told():
    problem = make(np.random.default_rng(0).normal(size=(200, 6)), np.ones(200))
    rng = np.random.default_rng(0)
    with pytest.raises(TooManyWedges, match="pass patterns='auto'"):
        Wedge(patterns="all").arrange(problem, rng)
    with pytest.raises(ValueError, match="'auto', 'all', an integer of at least 1"):
        Wedge(patterns="some").arrange(problem, rng)
    with pytest.raises(ValueError, match="'l2' or 'l1'"):
        get_architecture("wedge", None, "auto", penalty="l2", options={"penalty": "l3"}).design(problem)
    with pytest.raises(ValueError, match="pass a number"):
        many = make(rng.normal(size=(300, 2)), rng.normal(size=300))
        Wedge().lift(many, Wedge().arrange(many, rng))
    with pytest.raises(ValueError, match="more samples"):
        sample_wedges(np.eye(5)[:2], np.eye(5)[:2], 3, rng)


def test_sampled_wedges_are_some_of_all():
    rng = np.random.default_rng(0)
    problem = make(rng.normal(size=(10, 2)), rng.normal(size=10))
    family = Wedge("penalized", 15, "l1")
    found = family.arrange(problem, np.random.default_rng(0))
    assert 0 < len(found) <= 15 and not found.complete
    some = train(problem, family, tol=1e-9).certificate
    every = train(problem, Wedge("penalized", "all", "l1"), tol=1e-9).certificate
    assert some.scope == "patterns" and some.objective >= every.objective * (1 - 1e-9)


def test_unit_directions_cost_one():
    design = Design.reduce(np.random.default_rng(0).normal(size=(5, 3)), 1)
    U, kept = unit(design, np.array([[3.0, 4.0, 1.0], [0.0, 0.0, 1.0]]))
    assert kept.tolist() == [0] and design.norms(U).tolist() == [1.0]
    assert hyperplanes(design).shape == (7, 3) and hyperplanes(design, False).shape == (5, 3)


# --- gates


@pytest.mark.parametrize(("n", "d"), [(80, 1), (80, 2), (80, 5), (80, 9), (20, 30)])
def test_gates_run_beside_samples(n, d):
    """Samples of the hyperplane are on, all at the same height over it; that singles them out."""
    X = np.random.default_rng(d).normal(size=(n, d))
    gates = wedge_gates(X, 12, np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(gates, axis=1), 1.0)
    assert np.array_equal(gates, wedge_gates(X, 12, np.random.default_rng(0)))
    T, through = X @ gates.T / np.linalg.norm(X, axis=1)[:, None], min(n, d) - 1
    for heights in T.T:
        alike = np.abs(heights[:, None] - heights) <= 1e-9 * np.max(np.abs(heights))
        assert np.sum((np.sum(alike, axis=1) >= through) & (heights > 0)) >= through
    assert len(np.unique(patterns_of(X, gates), axis=0)) > (5 if d > 1 else 1)


@pytest.mark.parametrize(("d", "columns"), [(120, None), (9, 4)])
def test_sketched_gates_know_few_columns(d, columns):
    X = np.random.default_rng(d).normal(size=(80, d))
    for gate in np.abs(wedge_gates(X, 6, np.random.default_rng(0), columns)):
        assert 2 <= len(np.unique(np.round(gate, 12))) <= (columns or 50) < d


def test_gates_of_the_plane_by_hand():
    """Through one of two orthogonal samples, which is on, and the other on either side."""
    X = np.eye(2)
    masks = patterns_of(X, wedge_gates(X, 20, np.random.default_rng(0)))
    assert {tuple(row) for row in masks.tolist()} == {(True, True), (True, False), (False, True)}


@pytest.mark.parametrize(
    "family",
    [GatedReLU(None, "wedge"), GatedReLU("penalized", ("wedge", 9)), ReLU("free", ("wedge", 9, 2)),
     ReLU(None, "wedge", "l1"), Threshold("free", ("wedge", 9))],
    ids=repr,
)  # fmt: skip
def test_every_family_takes_wedge_gates(family):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(15, 2)), rng.normal(size=15)
    trained = train(make(X, y, 0.05), family, tol=1e-6)
    assert trained.certificate.scope == "patterns" and trained.certificate.search_gap <= 1e-5
    assert trained.network.width > 0


def test_wedge_numbers():
    assert wedge_number("wedge", 7) == (7, None)
    assert wedge_number(["wedge", 3], 7) == (3, None)
    assert wedge_number(("wedge", 3, 9), 7) == (3, 9)
    assert wedge_number(5, 7) is wedge_number("auto", 7) is wedge_number(np.eye(2), 7) is None
    for wrong in (("wedge", 0), ("wedge", 3, 1), ("wedge", "many"), ("wedge", 1, 2, 3), ("wedge", True)):
        with pytest.raises(ValueError, match="'wedge', number"):
            wedge_number(wrong, 7)


def test_several_outputs_take_wedge_gates():
    rng = np.random.default_rng(0)
    model = ConvexNetRegressor(architecture="gated_relu", patterns=("wedge", 20)).fit(
        rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    )
    assert model.certificate_.scope == "patterns"


# --- explanations


def test_explanations_by_hand():
    X = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    net = Network.two_layer(np.array([[1.0, 0.0], [-1.0, 2.0]]), np.zeros(2), np.array([2.0, -1.0]))
    first, second = explain(net, X)
    assert first.samples == (2,) and first.features == () and first.determined and not first.bias
    assert second.samples == (0,) and second.features == (0,) and second.determined
    assert first.weight == pytest.approx(2 * np.sqrt(2)) and second.weight == pytest.approx(2.0)
    shifted = Network.two_layer(np.array([[1.0], [1.0]]), np.array([0.5]), np.ones(1))
    kink = explain(shifted, X)[0]
    assert kink.samples == () and kink.bias and not kink.determined and "meets no sample" in str(kink)
    assert str(first) == "runs through samples 2 and the origin, weight 2.83"
    # all three places that determine it are said where some neuron has a bias
    mixed = Network.two_layer(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([0.0, 0.5]), np.ones(2))
    axis, other = explain(mixed, X + 1.0)
    assert axis.determined and not axis.bias and other.bias
    assert str(axis) == "runs through the origin and does not see features 0, weight 1"
    assert "origin" not in str(other)
    with pytest.raises(ValueError, match="2 features"):
        explain(net, np.ones((3, 3)))
    gated = train(make(X, np.ones(3)), GatedReLU(None, 5)).network
    with pytest.raises(ValueError, match="affine"):
        explain(gated, X)


def test_neurons_of_the_l1_optimum_are_wedges():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(25, 2))
    model = ConvexNetRegressor(
        architecture=Wedge("free", penalty="l1"), alpha=0.01, tol=1e-8
    ).fit(X, np.abs(X[:, 0]) + np.maximum(X @ [1.0, 1.0], 0.0))  # fmt: skip
    kinks = explain(model, X)
    assert len(kinks) == model.network_.width
    for kink in kinks:
        assert kink.determined and len(kink.samples) >= 1, str(kink)
        assert len(kink.samples) + len(kink.features) >= 2, str(kink)


@pytest.mark.parametrize("patterns", ["auto", "all", 3])
def test_wedges_of_one_direction(patterns):
    """In one dimension the only wedge is the axis; one sample and rank one are that too."""
    X, y = np.random.default_rng(0).normal(size=(6, 1)), np.arange(6.0)
    for data, targets in ((X, y), (X * [1.0, 2.0], y), (X[:1], y[:1])):
        estimator = ConvexNetRegressor(0.01, architecture="wedge", hidden_bias=None, patterns=patterns)
        assert estimator.fit(data, targets).certificate_.gap <= 1e-5
