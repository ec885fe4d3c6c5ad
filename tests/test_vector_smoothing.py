"""Exact Newton steps for several outputs: their systems, corrections, thinning, and where growing ends."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.leaky_relu import VectorLeakyReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.vector_exploration import suits
from cvxnn.vector_growth import Coupling, Rows, anneal, objective, random_rows, thin
from cvxnn.vector_smoothing import _Network, _System, follow


@pytest.fixture(params=["log_loss", "squared_error", "leaky", "lines"])
def case(request):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    y = np.eye(3)[(X[:, 0] > 0).astype(int) + (X[:, 1] * X[:, 2] > 0)]
    leaky, lines = request.param == "leaky", request.param == "lines"
    loss = get_loss("squared_error" if leaky else "log_loss" if lines else request.param, 3)
    problem = Problem(X, y, rng.uniform(0.5, 2.0, 30), loss, 0.03, True)
    design = (VectorLeakyReLU() if leaky else VectorReLU()).design(problem)
    rows = random_rows(problem, design, Coupling.joint, 12, np.random.default_rng(1), lines)
    for mu in (0.1, 0.01):
        rows = anneal(problem, design, Coupling.joint, rows, mu, 60)
    return problem, design, rows


def held(problem, design, rows, mu=0.05):
    net, root = _Network(problem, design), np.sqrt(design.norms(rows.U))[:, None]
    net.hold(rows.U / root, rows.slopes(design))
    return net, net.at(rows.U / root, rows.G * root, mu)


def test_gradient(case):
    net, point = held(*case)
    g = net.gradient(point, point.slopes)
    step, r = np.random.default_rng(0).normal(size=g.shape), case[1].X.shape[1]
    ends = [net.at(*np.split(np.hstack(point.at) + t * step, [r], axis=1), 0.05) for t in (1e-5, -1e-5)]
    assert np.sum(g * step) == pytest.approx((ends[0].value - ends[1].value) / 2e-5, rel=1e-5)


def dense(net, system, point):
    """The model's Hessian, and its right-hand side for a change of the predictions, column by column."""
    size = np.hstack(point.at).shape
    J = np.array([system.linear(e.reshape(size)).ravel() for e in np.eye(size[0] * size[1])]).T
    n, k = point.f.shape
    W = np.zeros((n, k, n, k))
    i = np.arange(n)
    problem = net.problem
    W[i, :, i, :] = net.loss.hessians(point.f + point.constants, problem.y, problem.weights)
    W = W.reshape(n * k, n * k)
    E = np.tile(np.eye(k), (n, 1))
    W = W - W @ E @ np.linalg.pinv(E.T @ W @ E, rcond=1e-10, hermitian=True) @ E.T @ W  # constants follow
    B = np.zeros((size[0], size[1], size[0], size[1]))
    j = np.arange(size[0])
    B[j, :, j, :] = system.blocks
    return B.reshape(J.shape[1], J.shape[1]) + J.T @ W @ J, J.T @ W


def test_the_system_is_that_of_the_model(case):
    net, point = held(*case)
    system = _System(net, point, np.linspace(0.1, 1.0, len(case[2])))
    H, pull = dense(net, system, point)
    g = net.gradient(point, point.slopes)
    assert system.solve(g).ravel() == pytest.approx(-np.linalg.solve(H, g.ravel()), rel=1e-7, abs=1e-9)
    F = np.random.default_rng(2).normal(size=point.f.shape)
    wanted = -np.linalg.solve(H, pull @ F.ravel())
    assert system.restore(F).ravel() == pytest.approx(wanted, rel=1e-7, abs=1e-9)


def test_what_smoothing_costs_is_the_derivative_in_mu(case):
    """At any weights, the convex kinks alone: there the value falls with mu."""
    problem, design, rows = case
    net, point = held(problem, design, rows, 1e-3)
    ends = [net.at(*point.at, mu) for mu in (1.001e-3, 0.999e-3)]
    pull = net.slope(point) @ point.at[1].T
    high, low = (np.sum(np.maximum(pull, 0.0) * end.outputs) for end in ends)
    assert net.smoothing(point) == pytest.approx((high - low) / 2e-3, rel=1e-4)


def test_it_ends_at_a_stationary_network(case):
    """Every neuron has the price beta there, and outputs along its correlation with the dual variable."""
    problem, design, rows = case
    found = follow(problem, design, rows, 1e-2, 1e-7, 300)
    assert objective(problem, design, found) < objective(problem, design, rows)
    assert 0 < len(found) <= len(rows)
    f = found.apply(design)
    Z = problem.residual(f + problem.loss.intercept(f, problem.y, problem.weights))
    prices = (found.hidden(design) / design.norms(found.U)).T @ Z
    assert np.abs(prices / problem.beta - found.G).max() < 1e-3


def test_thinning_keeps_the_output_and_does_not_raise_the_cost():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    problem = Problem(X, y, np.ones(8), get_loss("squared_error", 2), 0.1, True)
    design = VectorReLU().design(problem)
    rows = Rows.of(rng.normal(size=(40, 4)), rng.normal(size=(40, 2)), design, Coupling.joint)
    thinned = thin(problem, design, rows)
    assert len(thinned) <= 16
    assert thinned.apply(design) == pytest.approx(rows.apply(design), abs=1e-9)
    assert np.sum(design.norms(thinned.U)) <= np.sum(design.norms(rows.U)) * (1 + 1e-12)
    few = Rows(rows.U[:5], rows.G[:5])
    assert len(thin(problem, design, few)) == 5
    assert len(thin(problem, design, Rows.empty(4, 2))) == 0


def test_few_data_with_weight_decay_are_for_exact_steps():
    rng = np.random.default_rng(0)

    def problem(n):
        return Problem(
            rng.normal(size=(n, 3)), rng.normal(size=(n, 2)), np.ones(n), get_loss("squared_error", 2), 0.1
        )

    few, many = problem(50), problem(1100)
    plain, free = VectorReLU(), VectorReLU(hidden_bias="free")
    assert suits(few, plain.design(few), Coupling.joint, 50)
    assert not suits(few, plain.design(few), Coupling.separate, 50)
    assert not suits(few, free.design(few), Coupling.joint, 50)
    assert not suits(many, plain.design(many), Coupling.joint, 50)


def test_weak_decay_ends_at_the_optimum_with_few_neurons():
    """Where L-BFGS ended a thousandth above the optimum, with more neurons than samples x outputs."""
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(15, 2)), rng.normal(size=(15, 2))
    net = ConvexNetRegressor(alpha=1e-3).fit(X, Y)
    assert net.certificate_.search_gap < 1e-4
    assert net.network_.width <= 30
