"""Linear networks of several outputs: the solver of one matrix, and its projections."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.linear import VectorLinear
from cvxnn.losses import get_loss
from cvxnn.program import Problem, Status
from cvxnn.solvers import run
from cvxnn.spectral_balls import Columns, Singular
from cvxnn.train import choose_solver


def program_of(X, Y, loss, alpha, coupling="joint", bias=None, intercept=True):
    problem = Problem.from_alpha(X, Y, None, get_loss(loss, Y.shape[1]), alpha, intercept)
    architecture = VectorLinear(bias, "auto", coupling)
    return architecture.lift(problem, architecture.arrange(problem, np.random.default_rng(0)))


def data(case, loss):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((4, 7) if case == "few samples" else (12, 3))
    Y = 2.0 * X[:, :3] + rng.standard_normal((len(X), 3))
    if loss == "log_loss":
        Y = np.eye(3)[np.arange(len(X)) % 3]
    if case == "far":
        X = X + 1e3
    return np.column_stack([X, X[:, :2]]) if case == "duplicated" else X, Y


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("case", ["plain", "few samples", "duplicated", "far"])
@pytest.mark.parametrize("loss", ["squared_error", "huber", "log_loss"])
def test_against_cvxpy_at_every_scale(loss, case, scale):
    """CVXPY is asked at scale one, where it can be trusted."""
    pytest.importorskip("cvxpy")
    X, Y = data(case, loss)
    for coupling in ("joint", "separate"):
        program = program_of(X * scale, Y, loss, 0.01 * scale, coupling)
        assert choose_solver(program).name == "matrix"
        solution = run(choose_solver(program), program, tol=1e-8, max_iter=100)
        assert solution.status is Status.optimal and solution.gap <= 1e-8
        plain = X - 1e3 if case == "far" else X  # the constant makes up for it
        optimum = program_of(plain, Y, loss, 0.01, coupling).to_cvxpy()[0].solve(solver="CLARABEL")
        assert solution.primal == pytest.approx(optimum, rel=1e-6)


@pytest.mark.parametrize(("scale", "alpha"), [(1.0, 1e-5), (1e4, 0.1), (1e-4, 1e-5), (1e-4, 1e-9)])
def test_networks_off_unit_scale(scale, alpha):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((3, 3)), rng.standard_normal((3, 2)) * 2
    model = ConvexNetRegressor(architecture="linear", alpha=alpha, hidden_bias=None).fit(X * scale, Y)
    optimum = 0.80049209 if alpha == 1e-5 and scale < 1 else 9.3518548e-05
    assert model.certificate_.gap <= 1e-6
    assert model.certificate_.objective == pytest.approx(optimum, rel=1e-6)


def test_a_warm_start_and_a_strong_penalty():
    X, Y = data("plain", "squared_error")
    program = program_of(X, Y, "squared_error", 0.01)
    first = run(choose_solver(program), program, tol=1e-9, max_iter=100)
    again = run(choose_solver(program), program, tol=1e-9, max_iter=100, start=first.W)
    assert again.primal == pytest.approx(first.primal, rel=1e-9) and again.status is Status.optimal
    nothing = run(choose_solver(program), program_of(X, Y, "squared_error", 1e3), tol=1e-9)
    assert not np.any(nothing.W) and nothing.status is Status.optimal


def test_what_it_does_not_solve():
    X, Y = data("plain", "squared_error")
    wide = program_of(np.eye(60), np.eye(60), "squared_error", 0.1)
    assert choose_solver(wide).name == "fista"
    single = choose_solver(program_of(X, Y, "squared_error", 0.1))
    assert "unknowns are too many" in single.supports(wide)[1]


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (2, 4), (3, 1)])
@pytest.mark.parametrize("kind", [Singular, Columns])
def test_derivatives_of_projections(kind, shape):
    rng = np.random.default_rng(2)
    Y, D, step = rng.standard_normal(shape), rng.standard_normal(shape), 1e-6
    for radius in (0.3, 1.0, 10.0):
        ball = kind(Y, radius)
        K = np.zeros((*shape, *shape))
        ball.add(K, 2.0)
        right = np.eye(shape[1]) if ball.right is None else ball.right
        found = ball.back(np.einsum("ijkl,kl->ij", K, ball.turned(D) @ right)) @ right.T
        change = kind(Y + step * D, radius).projected - kind(Y - step * D, radius).projected
        np.testing.assert_allclose(found, change / step, atol=1e-6)
        rest = Y - ball.projected
        gauge = np.sum(np.linalg.svd(rest)[1]) if kind is Singular else np.sum(np.linalg.norm(rest, axis=0))
        assert ball.beyond == pytest.approx(gauge, abs=1e-12)
