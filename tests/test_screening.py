"""Screening: norms are upper bounds, and no group that is active at the optimum is ever dropped."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.arrangement import pack
from cvxnn.losses import get_loss
from cvxnn.operators import Masked
from cvxnn.program import Program
from cvxnn.screening import group_norms, priorities, survivors, working_set
from cvxnn.solvers import SOLVERS, run


def random(seed, loss="squared_error", intercept=False, n=40, d=3, groups=60):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    masks = rng.normal(size=(groups, d)) @ X.T >= 0
    y = np.maximum(X @ rng.normal(size=d), 0) + 0.1 * rng.normal(size=n)
    y = np.where(y > np.median(y), 1.0, -1.0) if loss == "log_loss" else y
    operator, s = Masked(X, pack(masks)), rng.uniform(0.3, 2.0, n)
    return Program(operator, get_loss(loss), y, s, 1.0, intercept=intercept)


def test_norms_are_upper_bounds():
    for groups in (3, 60):
        program = random(0, groups=groups)
        operator, h = program.operator, program.weights
        bounds = group_norms(operator, h)
        for mask, bound in zip(operator.masks(), bounds, strict=True):
            assert np.linalg.norm((np.sqrt(h) * mask)[:, None] * operator.X, 2) <= bound
    whole = Masked(operator.X, pack(np.ones((1, 40), bool)))
    assert group_norms(whole, h)[0] == pytest.approx(np.linalg.norm(np.sqrt(h)[:, None] * operator.X, 2))
    assert group_norms(Masked(operator.X, pack(np.zeros((1, 40), bool))), h)[0] == 0.0


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_screening_never_drops_an_active_group(loss, intercept):
    dropped = 0
    for seed in range(6):
        base = random(seed, loss, intercept)
        for beta in (3.0, 0.3):
            program = Program(
                base.operator, base.loss, base.target, base.weights, beta, intercept=intercept
            )
            best = run(SOLVERS["interior_point"](), program, tol=1e-10, max_iter=100)
            sizes = np.linalg.norm(best.W, axis=1)
            active = sizes > 1e-5 * np.max(sizes, initial=1e-300)
            solver = SOLVERS["working_set"]()
            state, alive = solver.init(program, None), np.ones(60, bool)
            while state is not None:
                assert np.all(state.alive <= alive), "a dropped group came back"
                assert np.all(state.alive[active]), "an active group was dropped"
                alive = state.alive
                state = solver.step(program, state)
            dropped += int(np.sum(~alive))
    assert dropped > 100


def test_the_sphere_holds_the_optimal_dual():
    """The inequality behind the rule, at random dual points of one program."""
    program = random(3)
    best = run(SOLVERS["interior_point"](), program, tol=1e-11, max_iter=100)
    Z = program.residual(program.predict(best.W))
    lengths = group_norms(program.operator, program.weights)
    rng = np.random.default_rng(0)
    for _ in range(20):
        W = best.W + 0.1 * rng.normal(size=best.W.shape)
        at = program.residual(program.predict(W))
        at = at * min(1.0, program.beta / program.price(at))
        gap = program.primal(best.W) - program.dual(at)
        prices = np.linalg.norm(program.operator.adjoint(at), axis=1)
        far = np.abs(prices - np.linalg.norm(program.operator.adjoint(Z), axis=1))
        assert np.all(far <= np.sqrt(2 * gap) * lengths + 1e-6)
        assert np.all(survivors(prices, gap, lengths, program.beta)[np.linalg.norm(best.W, axis=1) > 1e-6])


def test_the_working_set_takes_active_groups_and_the_nearest():
    order = priorities(np.array([0.9, 0.2, 0.5, 0.1]), np.ones(4), 1.0)
    active = np.array([False, False, False, True])
    assert working_set(order, active, 2).tolist() == [0, 3]
    assert working_set(order, active, 0).tolist() == [3]
    assert working_set(order, active, 99).tolist() == [0, 1, 2, 3]
    assert working_set(np.zeros(0), np.zeros(0, bool), 5).tolist() == []
