"""Smoothing Newton: its derivatives against differences, its system against a dense one, its end point."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import smoothing_newton
from cvxnn.architectures.relu import ReLU
from cvxnn.growth import Rows, anneal, objective, random_rows
from cvxnn.losses import get_loss
from cvxnn.oracles import Design
from cvxnn.program import Problem
from cvxnn.smoothing_newton import _Network, _System, affordable, follow


def make(
    loss: str = "squared_error",
    *,
    n: int = 40,
    d: int = 4,
    intercept: bool = False,
    hidden_bias: str | None = None,
    alpha: float = 1e-3,
) -> tuple[Problem, Design]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, d))
    y = np.abs(X[:, 0]) - X[:, 1] + 0.3 * rng.standard_normal(n)
    y = np.where(y > np.median(y), 1.0, -1.0) if loss == "log_loss" else y
    weights = rng.uniform(0.5, 2.0, n)
    problem = Problem.from_alpha(X, y, weights, get_loss(loss), alpha, intercept)
    return problem, ReLU(hidden_bias=hidden_bias).design(problem)


def neurons(design: Design, m: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((m, design.X.shape[1])), np.where(np.arange(m) % 2, 1.0, -1.0)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize(("intercept", "bias"), [(False, None), (True, "penalized"), (True, "free")])
def test_gradient_is_that_of_the_smoothed_objective(loss: str, intercept: bool, bias: str | None) -> None:
    problem, design = make(loss, intercept=intercept, hidden_bias=bias)
    U, signs = neurons(design)
    net = _Network(problem, design)
    net.hold(Rows(U, signs))
    point = net.at(U, 0.05)
    G = net.gradient(U, point.slopes, point)
    step = np.random.default_rng(2).standard_normal(U.shape)
    h = 1e-6
    measured = (net.at(U + h * step, 0.05).value - net.at(U - h * step, 0.05).value) / (2.0 * h)
    assert measured == pytest.approx(np.sum(G * step), rel=1e-6)


@pytest.mark.parametrize("n", [12, 60])  # fewer and more samples than unknowns
@pytest.mark.parametrize("wide", [1, 100])  # blocks one by one, and together
def test_step_solves_the_dense_system(n: int, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing_newton, "WIDE", wide)
    problem, design = make("log_loss", n=n)
    U, signs = neurons(design)
    mu, damping = 0.1, 0.3
    net = _Network(problem, design)
    net.hold(Rows(U, signs))
    point = net.at(U, mu)
    G = net.gradient(U, point.slopes, point)
    step = _System(net, U, point, damping).solve(G)
    X, (m, d) = design.X, U.shape
    J = np.concatenate([signs[j] * point.slopes[:, j, None] * X for j in range(m)], axis=1)
    slope = point.slope
    H = J.T @ (problem.loss.hessian(point.f, problem.y, problem.weights)[:, None] * J)
    for j in range(m):
        at = slice(j * d, (j + 1) * d)
        norm = np.linalg.norm(U[j])
        unit = U[j] / norm
        band = np.linalg.norm(X, axis=1) * norm  # the width that mu is relative to
        t = X @ U[j] / band
        second = 2.0 * mu**2 / (t**2 + 4.0 * mu**2) ** 1.5 / band
        H[at, at] += (X.T * (np.maximum(slope * signs[j], 0.0) * second)) @ X
        H[at, at] += problem.beta / norm * ((1.0 + damping) * np.eye(d) - np.outer(unit, unit))
    assert step.ravel() == pytest.approx(-np.linalg.solve(H, G.ravel()), rel=2e-4, abs=1e-6)


def test_drift_is_how_the_gradient_moves_with_the_band() -> None:
    problem, design = make()
    U, signs = neurons(design)
    # Where all curvature at kinks counts as convex: every neuron's outputs are unwanted.
    signs = np.ones(len(signs))
    problem = Problem(problem.X, -10.0 - np.abs(problem.y), problem.weights, problem.loss, problem.beta)
    net = _Network(problem, design)
    net.hold(Rows(U, signs))
    mu, share = 0.05, 1.0 - 1e-5
    point, moved = net.at(U, mu), net.at(U, share * mu)
    system = _System(net, U, point, 0.1)
    change = net.gradient(U, moved.slopes, point) - net.gradient(U, point.slopes, point)
    assert (1.0 - share) * system.drift == pytest.approx(change, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize(("intercept", "bias"), [(False, None), (True, "penalized"), (True, "free")])
def test_at_its_end_every_neuron_has_price_beta(loss: str, intercept: bool, bias: str | None) -> None:
    problem, design = make(loss, intercept=intercept, hidden_bias=bias, alpha=1e-2)
    rows = random_rows(problem, design, 30, np.random.default_rng(0))
    for mu in (0.1, 0.03, 0.01):
        rows = anneal(problem, design, rows, mu, 100)
    before = objective(problem, design, rows)
    rows = follow(problem, design, rows, 1e-2, 1e-8, 100)
    assert objective(problem, design, rows) <= before
    f = rows.apply(design)
    Z = problem.residual(f)
    sizes = design.norms(rows.U)
    prices = rows.signs * (np.maximum(design.X @ rows.U.T, 0.0).T @ Z) / sizes
    # what is on its way to zero has a price below beta
    carried = sizes > 1e-3 * np.max(sizes)
    assert np.sum(carried) > 3
    assert prices[carried] == pytest.approx(problem.beta, rel=1e-5)
    assert np.all(prices <= problem.beta * (1.0 + 1e-5))


def test_neurons_at_zero_go_and_equal_ones_become_one() -> None:
    problem, design = make(alpha=1e-2)
    U, signs = neurons(design, 2)
    twice = Rows(np.concatenate([U, U, 1e-9 * U]), np.concatenate([signs, signs, signs]))
    assert len(follow(problem, design, twice, 1e-3, 1e-5, 1).signs) <= 2
    assert len(follow(problem, design, Rows.empty(4), 1e-3, 1e-5, 5).signs) == 0


def test_large_networks_are_left_to_descent() -> None:
    assert affordable(500, 100, 30)
    assert not affordable(60000, 100, 784)
