"""One input: the spline is the optimum over all networks, at any number of samples."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.relu import ReLU
from cvxnn.arrangement import Arrangement
from cvxnn.certificate import judge
from cvxnn.losses import get_loss
from cvxnn.oracles import CellOracle
from cvxnn.program import Problem
from cvxnn.spline import fit_spline, kinks_of, penalty
from cvxnn.train import train

SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")


def wave(n, loss=SQUARED, alpha=1e-3, seed=0, weights=None):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, n)
    y = np.sin(4 * x) + 0.3 * rng.normal(size=n)
    y = y if loss is SQUARED else np.where(y > 0, 1.0, -1.0)
    return Problem.from_alpha(x[:, None], y, weights, loss, alpha, True)


def objective(problem, spline):
    f = np.interp(problem.X[:, 0], spline.knots, spline.values)
    return problem.value(f, penalty(spline.knots, spline.values))


def test_reference_optima(golden):
    seen = 0
    for record in golden:
        params = record["params"]
        line = record["system"] == "narrow_1d" and params["depth"] == 2
        line |= record["id"] in ("relu-sq-bias-hid-n7-d1", "real-diabetes-bmi-1d")
        if not line:
            continue
        X, y = np.array(record["X"]), np.ravel(record["Y"]).astype(float)
        problem = Problem(X, y, np.ones(len(y)), SQUARED, params["beta"], True)
        spline = fit_spline(problem)
        assert objective(problem, spline) == pytest.approx(record["optimum"], abs=record["tolerance"])
        assert spline.gap <= 1e-8
        trained = train(problem, ReLU("free"))
        value = trained.certificate.objective * len(y)
        assert value == pytest.approx(record["optimum"], abs=record["tolerance"])
        assert trained.certificate.scope == "global"
        seen += 1
    assert seen == 5


@pytest.mark.parametrize("seed", range(6))
def test_the_penalty_is_the_least_cost_of_a_network(seed):
    """Neurons of the stated kinks have the spline's values and cost R; linear programming finds no less."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    knots = np.sort(rng.normal(size=6))
    values = np.cumsum(rng.normal(size=6) + (3.0 if seed % 2 else 0.0))
    at, side, size = kinks_of(knots, values)
    f = np.maximum(side * (knots[:, None] - at), 0.0) @ size
    assert np.ptp(values - f) <= 1e-12 * np.max(np.abs(values))
    assert np.sum(np.abs(size)) == pytest.approx(penalty(knots, values), rel=1e-12)
    ramps = knots[:, None] - knots
    A = np.hstack([np.maximum(ramps, 0.0), np.maximum(-ramps, 0.0)])
    A = np.hstack([A, -A, np.ones((6, 1)), -np.ones((6, 1))])
    least = linprog(np.append(np.ones(24), [0, 0]), A_eq=A, b_eq=values, method="highs")
    assert least.fun == pytest.approx(penalty(knots, values), rel=1e-8)


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC])
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-5])
def test_certified_by_listing_all_cells(loss, alpha):
    weights = np.random.default_rng(1).integers(1, 4, 40).astype(float)
    problem = wave(40, loss, alpha, weights=weights)
    architecture = ReLU("free")
    trained = train(problem, architecture)
    design = architecture.design(problem)
    oracle = CellOracle(problem, design, Arrangement.enumerate(design.X))
    certificate = judge(trained.network, problem, architecture, oracle)
    assert certificate.scope == "global" and certificate.gap <= 2e-7
    assert trained.certificate.gap <= 1e-8
    assert certificate.objective == trained.certificate.objective


def test_another_solver_agrees():
    cp = pytest.importorskip("cvxpy")
    problem = wave(30, alpha=1e-3)
    x, y = problem.X[:, 0], problem.y
    A = np.hstack([np.maximum(x[:, None] - x, 0.0), np.maximum(x - x[:, None], 0.0)])
    z, c = cp.Variable(60), cp.Variable()
    loss = 0.5 * cp.sum_squares(A @ z + c - y) + problem.beta * cp.norm1(z)
    value = cp.Problem(cp.Minimize(loss)).solve(solver="CLARABEL")
    assert objective(problem, fit_spline(problem)) == pytest.approx(value, rel=1e-7)


def test_degenerate_data():
    for x, y in (
        ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0]),  # one position
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]),
        ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]),  # a constant
        ([-1e6, 0.0, 1e-6, 3.0], [0.0, 1.0, -1.0, 2.0]),
    ):
        model = ConvexNetRegressor(alpha=1e-3, hidden_bias="free").fit(np.array(x)[:, None], y)
        assert model.certificate_.scope == "global" and model.certificate_.gap <= 1e-6


def test_many_samples_are_fast():
    problem = wave(100_000, alpha=1e-4)
    began = time.process_time()
    trained = train(problem, ReLU("free"))
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-9
    assert time.process_time() - began < 30


def test_the_penalised_bias_is_judged_globally():
    problem = wave(300, alpha=1e-2)
    trained = train(problem, ReLU("penalized"), tol=1e-4)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-4


@pytest.mark.parametrize("loss", ["huber", "squared_hinge"])
def test_where_newtons_method_on_the_spline_finds_no_way(loss):
    """A loss without curvature far from its minimum: the spline's steps end high, and growing goes on."""
    import cvxpy as cp

    x = np.linspace(-2.0, 2.0, 20)
    y = 30.0 * np.sin(3.0 * x) + 100.0 if loss == "huber" else np.where(x > 0.1, 1.0, -1.0)
    alpha = 1e-2 if loss == "huber" else 1e-5
    problem = Problem.from_alpha(x[:, None], y, None, get_loss(loss), alpha, True)
    assert fit_spline(problem).gap > 0.1
    certificate = train(problem, ReLU("free")).certificate
    g = cp.Variable(len(x))
    slopes = cp.diff(g) / np.diff(x)
    kinks = cp.norm1(cp.diff(slopes))
    size = cp.maximum(kinks, 0.5 * (kinks + cp.abs(slopes[0] + slopes[-1])))
    each = cp.huber(g - y, 1.35) / 2 if loss == "huber" else cp.square(cp.pos(1 - cp.multiply(y, g))) / 2
    best = cp.Problem(cp.Minimize(cp.sum(each) / len(x) + alpha * size)).solve(solver=cp.CLARABEL)
    assert certificate.objective == pytest.approx(best, rel=1e-4)
    assert certificate.lower_bound == pytest.approx(best, rel=1e-4)
