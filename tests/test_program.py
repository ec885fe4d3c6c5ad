"""The waist: canonical problems, primal and dual values, bounds, the statement in CVXPY."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.losses import LOSSES, get_loss
from cvxnn.penalties import GroupL2
from cvxnn.program import Problem, Program, Solution, Status, _distinct_rows
from cvxnn.solvers import SOLVERS, run
from cvxnn.testing import programs, random_program

SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")
PROGRAMS = list(programs())
IDS = [label for label, _ in PROGRAMS]


def feasible_dual(program, rng):
    """A random dual variable and random multipliers, scaled into the feasible set."""
    n, groups, _ = program.operator.shape
    Z = program.residual(rng.normal(size=n) * 10.0 ** rng.uniform(-2, 1))
    rho = None
    if type(program.constraint).__name__ != "Free" and not program.penalty.free:
        rho = rng.random((groups, n)) * rng.choice([0.0, 0.1])
    price = program.price(Z, rho)
    t = min(1.0, program.beta / price) * rng.random()
    return t * Z, None if rho is None else t * rho


@pytest.mark.parametrize(("label", "program"), PROGRAMS, ids=IDS)
def test_weak_duality(label, program):
    rng = np.random.default_rng(0)
    _, groups, d = program.operator.shape
    primals, duals = [], []
    for k in range(30):
        W = program.constraint.project(rng.normal(size=(groups, d))) * 10.0 ** rng.uniform(-3, 1)
        primals.append(program.primal(W, rng.normal() if program.intercept else 0.0))
        Z, rho = feasible_dual(program, rng)
        value = program.dual(Z, rho)
        assert np.isfinite(value), k
        assert program.bound(Z, rho) >= value - 1e-9 * abs(value)
        duals += [value, program.bound(Z, rho)]
    assert max(duals) <= min(primals)
    # and the optimum lies between them
    optimum = run(SOLVERS["conic"](), program, tol=1e-8)
    assert max(duals) <= optimum.primal * (1 + 1e-9) and optimum.primal <= min(primals)
    assert optimum.bound == pytest.approx(optimum.primal, rel=1e-6)


@pytest.mark.parametrize("cones", [False, True])
def test_infeasible_duals_are_worth_nothing(cones):
    program = random_program(SQUARED, np.random.default_rng(0), cones=cones, intercept=True)
    Z = program.residual(np.zeros(11))
    price = program.price(Z)
    assert np.isfinite(program.dual(Z * program.beta / price * (1 - 1e-9)))
    assert program.dual(Z * program.beta / price * (1 + 1e-9)) == -np.inf
    assert program.dual(1e-3 * (Z + 0.1 * np.abs(Z))) == -np.inf  # does not sum to zero


def test_primal_by_hand():
    program = random_program(SQUARED, np.random.default_rng(0), cones=False, intercept=True)
    W = np.random.default_rng(1).normal(size=program.operator.shape[1:])
    f = program.operator.dense() @ W.ravel() + 0.3
    loss = 0.5 * np.sum(program.weights * (f - program.target) ** 2)
    assert program.primal(W, 0.3) == pytest.approx(loss + 0.4 * np.sum(np.linalg.norm(W, axis=1)))


@pytest.mark.parametrize(("label", "program"), PROGRAMS, ids=IDS)
def test_cvxpy_has_the_same_optimum(label, program):
    pytest.importorskip("cvxpy")
    problem, W = program.to_cvxpy()
    value = problem.solve(solver="CLARABEL")
    solution = run(SOLVERS["conic"](), program, tol=1e-8)
    assert solution.primal == pytest.approx(value, rel=1e-6)
    assert W.shape == solution.W.shape


def test_no_groups():
    rng = np.random.default_rng(0)
    program = random_program(SQUARED, rng, cones=False, intercept=False)
    empty = Program(
        type(program.operator)(program.operator.X, program.operator.bits[:0]),
        SQUARED,
        program.target,
        program.weights,
        1.0,
        GroupL2(),
    )
    assert empty.price(program.target) == 0.0
    assert empty.primal(np.zeros((0, 3))) == pytest.approx(empty.bound(empty.residual(np.zeros(11))))


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 12),
    loss=st.sampled_from(sorted(LOSSES)),
    intercept=st.booleans(),
)
def test_canonical_form(seed, n, loss, intercept):
    """Zero-weight rows go, equal rows join, order is lost, and objectives stay."""
    rng = np.random.default_rng(seed)
    X, y = rng.integers(-1, 2, (n, 2)).astype(float), np.where(rng.random(n) < 0.5, 1.0, -1.0)
    s = rng.integers(0, 3, n).astype(float)
    y[0], s[0] = 1.0, 1.0
    y = np.maximum(y, 0.0) if get_loss(loss).nonnegative else y
    problem = Problem.from_alpha(X, y, s, get_loss(loss), 0.1, intercept)
    assert problem.beta == pytest.approx(0.1 * s.sum()) and problem.total_weight == s.sum()
    assert np.all(problem.weights > 0)
    rows = np.column_stack([problem.X, problem.y])
    assert len(np.unique(rows, axis=0)) == len(rows)

    def value(X):
        return X @ np.array([0.3, -0.7]) + 0.1

    plain = get_loss(loss).value(value(X), y, np.maximum(s, 1e-300)) + 0.1 * s.sum() * 2.0
    assert problem.value(value(problem.X), 2.0) == pytest.approx(plain)
    order = rng.permutation(n)
    mixed = Problem.from_alpha(X[order], y[order], s[order], get_loss(loss), 0.1, intercept)
    copies = s.astype(int)
    repeated = Problem.from_alpha(
        np.repeat(X, copies, axis=0), np.repeat(y, copies), None, get_loss(loss), 0.1, intercept
    )
    for other in (mixed, repeated):
        for field in ("X", "y", "weights", "beta"):
            assert np.array_equal(getattr(other, field), getattr(problem, field)), field


def test_minus_zero_is_zero():
    problem = Problem.from_alpha(np.array([[0.0], [-0.0]]), np.array([1.0, 1.0]), None, SQUARED, 1.0, False)
    assert len(problem.X) == 1 and problem.weights.tolist() == [2.0] and problem.beta == 2.0


def test_residual_and_null_value():
    X, y = np.eye(3), np.array([1.0, 1.0, -1.0])
    plain = Problem(X, y, np.ones(3), SQUARED, 1.0)
    assert plain.residual(np.zeros(3)).tolist() == [1.0, 1.0, -1.0] and plain.null_value() == 1.5
    free = Problem(X, y, np.ones(3), SQUARED, 1.0, intercept=True)
    assert free.residual(np.array([5.0, 5.0, 5.0])) == pytest.approx(y - 1 / 3)
    assert free.null_value() == pytest.approx(0.5 * np.sum((y - 1 / 3) ** 2))
    classes = Problem(X, y, np.ones(3), LOGISTIC, 1.0, intercept=True)
    p = np.array([2, 2, 1]) / 3
    assert classes.null_value() == pytest.approx(-np.sum(np.log(p)))
    assert np.sum(classes.residual(np.arange(3.0))) == pytest.approx(0.0, abs=1e-15)


def test_gap_of_a_solution():
    def solution(primal, bound):
        return Solution(np.zeros((1, 1)), 0.0, np.zeros(1), None, primal, bound, Status.optimal, 1)

    assert solution(2.0, 1.0).gap == 0.5 and solution(1.0, 1.5).gap == 0.0
    assert solution(np.inf, 1.0).gap == np.inf and solution(0.0, 0.0).gap == 0.0


def test_every_status_has_a_sentence():
    assert all(str(status).endswith(".") and len(str(status)) > 20 for status in Status)


def test_distinct_rows_are_those_of_numpy():
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(40, 6)), rng.integers(0, 3, (40, 6)).astype(float), np.zeros((0, 3))]
    tables += [np.ones((4, 1)), np.column_stack([np.arange(9.0) // 3, np.arange(9.0), np.zeros(9)])]
    for table in tables:
        rows, place = _distinct_rows(table)
        wanted, back = np.unique(table, axis=0, return_inverse=True)
        assert np.array_equal(rows, wanted) and np.array_equal(place, np.ravel(back))
