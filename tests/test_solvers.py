"""Solvers against CVXPY with Clarabel, and the loop that drives them."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.architectures.relu import ReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem, Program, Status
from cvxnn.solvers import SOLVERS, Candidate, Solver, Unsupported, run
from cvxnn.testing import programs, random_program, vector_programs
from cvxnn.train import choose_solver
from cvxnn.vector_operators import Columns

SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")
PROGRAMS = list(programs())


@pytest.fixture(scope="module")
def optima():
    """The optimal values of all small programs by CVXPY."""
    pytest.importorskip("cvxpy")
    accurate = {"tol_gap_rel": 1e-10, "tol_gap_abs": 1e-10, "tol_feas": 1e-10}
    return {label: p.to_cvxpy()[0].solve(solver="CLARABEL", **accurate) for label, p in PROGRAMS}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(("label", "program"), PROGRAMS, ids=[label for label, _ in PROGRAMS])
def test_against_cvxpy(name, label, program, optima):
    solver = SOLVERS[name]()
    if not solver.supports(program)[0]:
        with pytest.raises(Unsupported, match=f"{name} cannot solve this program: "):
            run(solver, program)
        return
    tol = 1e-6 if name == "conic" else 1e-8 if program.loss.smooth else 1e-7
    solution = run(solver, program, tol=tol, max_iter=100_000)
    assert solution.status is Status.optimal and solution.gap <= tol
    assert solution.primal == pytest.approx(optima[label], rel=1e-6)
    assert solution.bound <= optima[label] * (1 + 1e-7)
    assert program.constraint.violation(solution.W) <= 1e-9


#: What solves programs of several outputs, by a part of their label.
CHOSEN = {"output vectors": "rows", "1 nuclear norms": "matrix", "5 nuclear norms": "ssnal"}


@pytest.mark.parametrize("name", ["chosen", "fista"])
@pytest.mark.parametrize(("label", "program"), list(vector_programs()))
def test_several_outputs_against_cvxpy(name, label, program):
    pytest.importorskip("cvxpy")
    value = program.to_cvxpy()[0].solve(solver="CLARABEL")
    chosen = choose_solver(program)
    assert chosen.supports(program)[0] and chosen.name == CHOSEN[label.split(", ")[1]]
    solver = chosen if name == "chosen" else SOLVERS[name]()
    solution = run(solver, program, tol=1e-9, max_iter=100_000)
    assert solution.status is Status.optimal
    assert solution.primal == pytest.approx(value, rel=1e-6)
    assert solution.bound <= value * (1 + 1e-6)


def test_rows_that_are_nearly_dependent():
    """Nested sets of samples, at weak decay: where first-order steps need thousands."""
    rng = np.random.default_rng(0)
    columns = np.tril(np.ones((40, 40)))
    columns = np.column_stack([columns, columns[:, 5:8], np.zeros(40)])
    Y = np.cumsum(rng.normal(size=(40, 2)), axis=0)
    program = Program(
        Columns(columns, 2), get_loss("squared_error", 2), Y, np.ones(40), 1e-3, intercept=True
    )
    solution = run(SOLVERS["rows"](), program, tol=1e-8, max_iter=300)
    assert solution.status is Status.optimal and solution.gap <= 1e-8
    assert solution.primal == pytest.approx(program.primal(solution.W, solution.offset), rel=1e-12)


def test_which_solver_takes_which_program():
    able = {
        name: [label for label, program in PROGRAMS if SOLVERS[name]().supports(program)[0]]
        for name in SOLVERS
    }
    assert len(able["conic"]) == len(PROGRAMS)
    explicit = [(label, program.loss) for label, program in PROGRAMS if "explicit columns" in label]
    assert able["lasso"] == [label for label, loss in explicit if loss.smooth]
    masked = [(label, program) for label, program in PROGRAMS if "explicit columns" not in label]
    assert able["interior_point"] == [label for label, _ in masked]
    free = [(label, program.loss) for label, program in masked if ", no cones" in label]
    plain = [(label, program.loss) for label, program in PROGRAMS if ", cones" not in label]
    assert able["fista"] == [label for label, loss in plain if loss.smooth]
    assert able["working_set"] == [label for label, loss in free if np.isfinite(loss.curvature)]
    assert {loss.name for _, loss in free if not loss.smooth} >= {"absolute_error", "hinge", "quantile"}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC], ids=lambda loss: loss.name)
def test_interior_point_on_all_cells(loss, seed):
    """Every cell of random data with kinks at the optimum, in both forms of the Newton system."""
    rng = np.random.default_rng(seed)
    n, d = (14, 2) if seed % 2 else (5, 3)
    X = rng.normal(size=(n, d))
    y = rng.permutation(np.where(np.arange(n) % 3, 1.0, -1.0))
    y = y if loss.classification else y * rng.uniform(0.5, 2, n)
    problem = Problem.from_alpha(X, y, None, loss, 10.0 ** rng.uniform(-3, -1), bool(seed % 3 == 0))
    architecture = ReLU([None, "penalized", "free"][seed % 3], "all")
    program = architecture.lift(problem, architecture.arrange(problem, rng))
    solution = run(SOLVERS["interior_point"](), program, tol=1e-9, max_iter=100)
    reference = run(SOLVERS["conic"](), program, tol=1e-8)
    slack = 1e-9 * reference.primal
    assert solution.bound <= reference.primal + slack and reference.bound <= solution.primal + slack
    # A free bias of the pattern of ones trades off against the intercept: no unique scale there.
    free = architecture.hidden_bias == "free"
    assert solution.gap <= (2e-5 if free else 1e-8)
    assert solution.primal == pytest.approx(reference.primal, rel=1e-5 if free else 1e-6)


@pytest.mark.parametrize(("scale", "alpha"), [(1.0, 1e-5), (1e-4, 1e-9)])
def test_kinks_at_tiny_decay_where_patterns_have_both_signs(scale, alpha):
    """Columns that only the norms tell apart, by less than the rounding of their products."""
    X = np.array(
        [5394.02516993, 15995.25279227, 5851.11550422, -194.50286236, 13383.28991276, 15294.81925418]
    )
    y = np.array([0.31627976, -3.36128121, -0.72825495, -1.76750312, -0.42814493, -0.96326909])
    loss = get_loss("absolute_error")
    problem = Problem.from_alpha(X[:, None] * scale, y, None, loss, alpha, False)
    architecture = ReLU(None, "all")
    program = architecture.lift(problem, architecture.arrange(problem, np.random.default_rng(0)))
    solution = run(SOLVERS["interior_point"](), program, tol=1e-6, max_iter=100)
    assert solution.status is Status.optimal
    assert solution.primal / 6.0 == pytest.approx(0.6307304, rel=1e-6)


@pytest.mark.parametrize("name", ["interior_point", "fista", "working_set"])
def test_duplicated_groups_and_zero_rows(name):
    program = random_program(SQUARED, np.random.default_rng(3), cones=False, intercept=False)
    operator = program.operator
    X = np.vstack([operator.X, np.zeros((2, 3))])
    masks = np.hstack([operator.masks(), np.zeros((len(operator.bits), 2), bool)])
    double = type(operator)(X, np.packbits(np.vstack([masks, masks]), axis=1))
    padded = type(program)(
        double, SQUARED, np.append(program.target, [0.0, 0.0]), np.append(program.weights, [1.0, 1.0]), 0.4
    )
    one = run(SOLVERS[name](), program, tol=1e-7, max_iter=20_000)
    two = run(SOLVERS[name](), padded, tol=1e-7, max_iter=20_000)
    assert two.primal == pytest.approx(one.primal, rel=1e-6)


def program_of(loss=SQUARED):
    return random_program(loss, np.random.default_rng(0), cones=False, intercept=False)


class Scripted(Solver):
    """Walks through given points; the dual variable is always the residual."""

    name = "scripted"

    def __init__(self, points):
        self.points = points

    def supports(self, program):
        return True, ""

    def init(self, program, start):
        return 0

    def step(self, program, state):
        if isinstance(self.points[min(state + 1, len(self.points) - 1)], type):
            raise self.points[state + 1]
        return state + 1 if state + 1 < len(self.points) else None

    def candidate(self, program, state):
        W = np.full(program.operator.shape[1:], self.points[state])
        return Candidate(W, 0.0, program.residual(program.predict(np.nan_to_num(W))))


def test_the_loop_keeps_the_best_point_and_the_best_bound():
    program = program_of()
    values = [program.primal(np.full(program.operator.shape[1:], w)) for w in (0.0, 0.05, 9.0)]
    solution = run(Scripted([0.0, 9.0]), program, tol=0.0)
    assert solution.status is Status.stalled and solution.primal == values[0]
    solution = run(Scripted([9.0, 0.0, 9.0]), program, tol=0.0)
    assert solution.primal == values[0]
    assert solution.bound >= program.bound(program.residual(program.predict(0 * solution.W)))


def test_the_loop_stops_and_says_why():
    program = program_of()
    assert run(SOLVERS["fista"](), program, tol=0.1).status is Status.optimal
    assert run(SOLVERS["fista"](), program, tol=0.0, max_iter=3).status is Status.max_iter
    assert run(SOLVERS["fista"](), program, tol=0.0, max_iter=10**6, max_time=0.0).status is Status.max_time
    nan = run(Scripted([0.0, np.nan, 0.0]), program, tol=0.0)
    assert nan.status is Status.nonfinite and np.isfinite(nan.primal)
    stopped = run(Scripted([0.0, KeyboardInterrupt]), program, tol=0.0)
    assert stopped.status is Status.interrupted and np.isfinite(stopped.primal)


def test_callbacks_see_improving_values():
    seen = []
    run(SOLVERS["fista"](), program_of(), tol=1e-9, max_iter=5000, callback=lambda *line: seen.append(line))
    iterations, primals, bounds = map(np.array, zip(*seen, strict=True))
    assert np.all(np.diff(iterations) > 0) and len(seen) > 3
    assert np.all(np.diff(primals) <= 0) and np.all(np.diff(bounds) >= 0)
    assert np.all(bounds <= primals * (1 + 1e-12))


def test_an_infeasible_point_is_worth_nothing():
    program = random_program(SQUARED, np.random.default_rng(0), cones=True, intercept=False)
    solution = run(Scripted([0.3, 0.3]), program, tol=0.0)
    assert program.constraint.violation(solution.W) > 1e-3
    assert solution.primal == np.inf and solution.gap == np.inf and np.isfinite(solution.bound)


def test_a_warm_start_saves_steps():
    program = program_of()
    cold = run(SOLVERS["fista"](), program, tol=1e-9, max_iter=10_000)
    warm = run(SOLVERS["fista"](), program, tol=1e-8, max_iter=10_000, start=cold.W)
    assert warm.n_iter < cold.n_iter
