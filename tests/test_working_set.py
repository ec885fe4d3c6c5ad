"""The working-set solver: other solvers' optima, odd programs, strengths from none to all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cvxnn import manifold_products, restricted
from cvxnn.arrangement import pack
from cvxnn.losses import get_loss
from cvxnn.operators import Masked
from cvxnn.program import Program, Status
from cvxnn.restricted import Kept, Restricted
from cvxnn.solvers import SOLVERS, run
from cvxnn.testing import programs

SOLVER = SOLVERS["working_set"]
LOSSES = ("squared_error", "log_loss")


def random(seed, loss="squared_error", n=60, d=4, groups=80, ratio=0.1, intercept=False, signed=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    masks = rng.normal(size=(groups, d)) @ X.T >= 0
    y = np.maximum(X @ rng.normal(size=(d, 3)), 0) @ rng.normal(size=3) + 0.1 * rng.normal(size=n)
    y = np.where(y > np.median(y), 1.0, -1.0) if loss == "log_loss" else y
    signs = rng.choice([-1.0, 1.0], groups) if signed else None
    s = rng.uniform(0.3, 2.0, n)
    program = Program(Masked(X, pack(masks), signs), get_loss(loss), y, s, 1.0, intercept=intercept)
    return replace(program, beta=ratio * largest(program))


def largest(program):
    """The smallest beta at which all weights are zero."""
    f, y, s = 0.0 * program.target, program.target, program.weights
    f = f + (program.loss.intercept(f, y, s) if program.intercept else 0.0)
    return program.price(program.residual(f))


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ratio", [0.5, 0.05, 0.005])
def test_against_interior_point(loss, intercept, ratio):
    for seed in range(3):
        program = random(seed, loss, ratio=ratio, intercept=intercept, signed=seed == 1)
        ours = run(SOLVER(), program, tol=1e-10, max_iter=200)
        other = run(SOLVERS["interior_point"](), program, tol=1e-10, max_iter=100)
        assert ours.status is Status.optimal and ours.n_iter < 40
        assert ours.primal == pytest.approx(other.primal, rel=1e-8)
        assert ours.bound <= other.primal * (1 + 1e-12) and other.bound <= ours.primal * (1 + 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_against_fista(loss):
    program = random(5, loss, n=30, d=2, groups=10, intercept=True)
    ours = run(SOLVER(), program, tol=1e-9)
    other = run(SOLVERS["fista"](), program, tol=1e-9, max_iter=200_000)
    assert ours.primal == pytest.approx(other.primal, rel=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("intercept", [False, True])
def test_beyond_the_largest_strength_all_is_exactly_zero(loss, intercept):
    program = random(1, loss, intercept=intercept)
    for factor in (1.0 + 1e-9, 3.0):
        big = replace(program, beta=factor * largest(program))
        for start in (None, np.random.default_rng(0).normal(size=(80, 4))):
            solution = run(SOLVER(), big, tol=1e-9, start=start)
            assert not np.any(solution.W) and solution.gap <= 1e-9
    below = replace(program, beta=0.99 * largest(program))
    assert np.any(run(SOLVER(), below, tol=1e-9).W)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "d"), [(40, 3), (12, 30), (30, 1), (3, 2)])
def test_tiny_strengths(loss, n, d):
    """The gap is recomputed by the loop; here it must also be reached, separable classes included."""
    for ratio in (1e-3, 1e-6):
        solution = run(SOLVER(), random(2, loss, n, d, 20, ratio, n == 40), tol=1e-6, max_iter=300)
        assert solution.gap <= 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_odd_programs(loss):
    """Duplicated, empty and full patterns, opposite signs, zero columns, zero rows."""
    base = random(4, loss, n=20, d=3, groups=6)
    X = np.column_stack([base.operator.X, np.zeros(20)])
    X[3] = 0.0
    masks = base.operator.masks()
    masks = np.vstack([masks, masks, masks, np.zeros((2, 20), bool), np.ones((1, 20), bool)])
    signs = np.array([1.0] * 12 + [-1.0] * 6 + [1.0] * 3)
    for intercept in (False, True):
        program = replace(base, operator=Masked(X, pack(masks), signs), intercept=intercept)
        solution = run(SOLVER(), program, tol=1e-9)
        other = run(SOLVERS["interior_point"](), program, tol=1e-9, max_iter=100)
        assert solution.status is Status.optimal
        assert solution.primal == pytest.approx(other.primal, rel=1e-8)
        assert not np.any(solution.W[:, 3])


def test_no_groups_and_no_useful_groups():
    program = random(0)
    for masks in (np.zeros((0, 60), bool), np.zeros((3, 60), bool)):
        empty = replace(program, operator=Masked(program.operator.X, pack(masks).reshape(len(masks), 8)))
        solution = run(SOLVER(), empty, tol=1e-9)
        assert not np.any(solution.W) and solution.gap <= 1e-9


def test_a_warm_start_saves_steps():
    program = random(7, ratio=0.01, n=200, groups=400)
    cold = run(SOLVER(), program, tol=1e-9)
    near = run(SOLVER(), replace(program, beta=1.05 * program.beta), tol=1e-9)
    warm = run(SOLVER(), program, tol=1e-9, start=near.W)
    assert run(SOLVER(), program, tol=1e-8, start=cold.W).n_iter == 1
    assert warm.n_iter < cold.n_iter
    assert warm.primal == pytest.approx(cold.primal, rel=1e-9)


@pytest.mark.parametrize("largest", [0, 150])
def test_systems_too_large_to_factor(largest, monkeypatch):
    """Without Newton's method block steps still converge; with one form closed the other is used."""
    monkeypatch.setattr(restricted, "LARGEST", largest)
    monkeypatch.setattr(manifold_products, "LARGEST", 0)
    program = random(8, ratio=0.1 if largest == 0 else 0.01)
    solution = run(SOLVER(), program, tol=1e-6, max_iter=500)
    assert solution.status is Status.optimal


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_conjugate_gradients_alone(loss, intercept, monkeypatch):
    """With both factored forms closed, to a gap far below the accuracy of float32."""
    monkeypatch.setattr(restricted, "LARGEST", 0)
    program = random(11, loss, ratio=0.05, intercept=intercept, signed=True)
    solution = run(SOLVER(), program, tol=1e-11, max_iter=40)
    other = run(SOLVERS["interior_point"](), program, tol=1e-10, max_iter=100)
    assert solution.status is Status.optimal
    assert solution.primal == pytest.approx(other.primal, rel=1e-9)


def test_the_objective_never_rises():
    program = random(9, "log_loss", ratio=0.003, intercept=True)
    solver = SOLVER()
    state, last = solver.init(program, None), np.inf
    for _ in range(12):
        value = program.primal(state.W, state.c)
        assert value <= last * (1 + 1e-12)
        last, state = value, solver.step(program, state)
        if state is None:
            break


def test_one_sweep_of_block_steps_is_exact():
    program = random(10, groups=1, ratio=0.2)
    inner = Restricted(Kept(program), np.arange(1), np.zeros((1, 4)), 0.0, np.zeros(60))
    assert inner.sweep(-program.operator.adjoint(program.residual(inner.f)), False) == 1
    G = -program.operator.adjoint(program.residual(inner.f))
    w = inner.W[0]
    assert G[0] == pytest.approx(-program.beta * w / np.linalg.norm(w), rel=1e-10)


def test_what_it_supports():
    for label, program in programs():
        bends = np.isfinite(program.loss.curvature)
        assert SOLVER().supports(program)[0] == ("no cones" in label and bends), label
    single = random(0)
    operator = Masked(single.operator.X.astype(np.float32), single.operator.bits)
    able, reason = SOLVER().supports(replace(single, operator=operator))
    assert not able and "float64" in reason


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_kept_of_an_operator_serves_other_strengths_only_where_it_may(loss):
    program = random(3, loss, ratio=0.3)
    first = Kept.of(program)
    run(SOLVER(), program, tol=1e-8)
    for ratio in (0.1, 0.02):
        weaker = replace(program, beta=ratio * largest(program))
        again = run(SOLVER(), weaker, tol=1e-10, max_iter=200)
        X, bits = program.operator.X, program.operator.bits
        fresh = run(SOLVER(), replace(weaker, operator=Masked(X, bits)), tol=1e-10, max_iter=200)
        assert again.primal == pytest.approx(fresh.primal, rel=1e-9)
        assert Kept.of(weaker).steps.known is first.steps.known
        assert Kept.of(weaker).by_weights.beta == weaker.beta
    # other weights are another quadratic: nothing is taken over
    heavier = replace(program, weights=2.0 * program.weights)
    assert Kept.of(heavier).steps.known is not first.steps.known
    other = run(SOLVERS["interior_point"](), heavier, tol=1e-10, max_iter=100)
    assert run(SOLVER(), heavier, tol=1e-10, max_iter=200).primal == pytest.approx(other.primal, rel=1e-8)
