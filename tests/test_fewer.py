"""Neurons that an objective does not need go, and nothing is lost by it."""

from __future__ import annotations

import numpy as np
import pytest

import cvxnn.architectures.rectified as rectified
import cvxnn.architectures.vector_rectified as vector_rectified
from cvxnn.architectures.leaky_relu import VectorLeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.vector_rectified import VectorRectified
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.fewer import fewer, fewer_vectors
from cvxnn.growth import Rows, objective
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.vector_growth import Rows as VectorRows
from cvxnn.vector_growth import objective as vector_objective

VECTORS = [
    VectorReLU("penalized"),
    VectorReLU("free"),
    VectorReLU(None, coupling="separate"),
    VectorLeakyReLU(None, slope=0.3),
    VectorReLU("penalized", skip=True),
]


def problem_of(loss: str = "squared_error", bias: str | None = None) -> tuple[Problem, ReLU]:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 4))
    y = np.maximum(X @ rng.standard_normal((4, 3)), 0.0) @ np.array([1.0, -1.0, 2.0])
    y = np.where(y > np.median(y), 1.0, -1.0) if loss == "log_loss" else y
    return Problem.from_alpha(X, y, None, get_loss(loss), 1e-2, False), ReLU(hidden_bias=bias)


def grown(problem: Problem, family: ReLU) -> Rows:
    oracle = family.oracle(problem, None)
    rows = family._rows(oracle, train(problem, family, tol=1e-7).network)
    assert rows is not None
    return rows


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "absolute_error"])
@pytest.mark.parametrize("bias", [None, "penalized", "free"])
def test_twins_and_crumbs_go(loss: str, bias: str | None) -> None:
    problem, family = problem_of(loss, bias)
    design = family.design(problem)
    rows = grown(problem, family)
    rng = np.random.default_rng(0)
    # where nothing moves afterwards, as with kinks in the loss, twins have to be equal, and crumbs may stay
    spread, stay = (1e-4, 0) if problem.loss.smooth else (0.0, 3)
    crumbs = 1e-6 * rng.standard_normal((3, rows.U.shape[1]))
    halves = Rows(
        np.concatenate(
            [0.7 * rows.U, 0.3 * rows.U * (1.0 + spread * rng.standard_normal(rows.U.shape)), crumbs]
        ),
        np.concatenate([rows.signs, rows.signs, [1.0, -1.0, 1.0]]),
    )
    least = fewer(problem, design, halves, 1e-7)
    assert len(least.signs) <= len(rows.signs) + stay < len(halves.signs)
    assert objective(problem, design, least) <= objective(problem, design, halves) * (1.0 + 1e-7)


def test_what_is_needed_stays() -> None:
    problem, family = problem_of()
    rows = grown(problem, family)
    assert fewer(problem, family.design(problem), rows, 1e-7) is rows
    assert fewer(problem, family.design(problem), Rows.empty(4), 1e-7).U.shape == (0, 4)


def test_a_fit_ends_with_no_more_neurons_and_no_larger_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.preprocessing import scale

    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X[:150]), scale(y[:150])
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 0.1, False)
    least = train(problem, ReLU())
    monkeypatch.setattr(rectified, "fewer", lambda problem, design, rows, slack, deadline: rows)
    whole = train(problem, ReLU())
    assert least.network.width < whole.network.width
    assert least.certificate.objective <= whole.certificate.objective * (1.0 + 1e-7)
    assert least.certificate.search_gap <= 1e-5


def vector_problem(loss: str = "squared_error") -> Problem:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 3))
    y = np.maximum(X @ rng.standard_normal((3, 3)), 0.0) @ rng.standard_normal((3, 3))
    y = np.eye(3)[np.argmax(y, axis=1)] if loss == "log_loss" else y
    return Problem.from_alpha(X, y, rng.integers(1, 3, 30).astype(float), get_loss(loss, 3), 3e-2, False)


def grown_vectors(problem: Problem, family: VectorRectified, tol: float = 1e-3) -> VectorRows:
    network = train(problem, family, tol=tol, bound_iter=1).network
    return family.rows_of(
        family.oracle(problem, None),
        network,
        family.design(problem),
        family._check(),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("family", VECTORS, ids=str)
def test_twins_and_crumbs_of_several_outputs_go(family: VectorRectified) -> None:
    problem = vector_problem("squared_error" if family.hidden_bias == "free" else "log_loss")
    design, coupling = family.design(problem), family._check()
    rows = grown_vectors(problem, family)
    rng = np.random.default_rng(0)
    near = rows.U * (1.0 + 1e-5 * rng.standard_normal(rows.U.shape))
    crumbs = 1e-7 * rng.standard_normal(rows.U[:2].shape)
    halves = VectorRows(
        np.concatenate([0.7 * rows.U, 0.3 * near, crumbs]),
        np.concatenate([rows.G, rows.G, rows.G[:2]]),
        np.concatenate([rows.linear, rows.linear, rows.linear[:2]]),
    )
    least = fewer_vectors(problem, design, coupling, halves, 1e-7)
    assert len(least) <= len(rows) < len(halves)
    before = vector_objective(problem, design, halves)
    assert vector_objective(problem, design, least) <= before * (1.0 + 1e-7)


def test_what_several_outputs_need_stays() -> None:
    problem, family = vector_problem(), VECTORS[0]
    design, coupling = family.design(problem), family._check()
    rows = grown_vectors(problem, family, 1e-5)
    assert fewer_vectors(problem, design, coupling, rows, 1e-7) is rows
    none = VectorRows.empty(design.X.shape[1], 3)
    assert len(fewer_vectors(problem, design, coupling, none, 1e-7)) == 0


def test_a_fit_of_several_outputs_ends_with_fewer_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, family = vector_problem(), VECTORS[0]
    least = train(problem, family, bound_iter=1)
    monkeypatch.setattr(vector_rectified, "fewer_vectors", lambda p, d, c, rows, slack, deadline: rows)
    whole = train(problem, family, bound_iter=1)
    assert least.network.width < whole.network.width
    assert least.certificate.objective <= whole.certificate.objective * (1.0 + 1e-7)
    assert least.certificate.search_gap <= 1e-5


def test_a_closed_gap_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, family = vector_problem(), VECTORS[0]
    found = []

    def one_less(p, d, c, rows, slack, deadline):
        found.append(len(rows))
        return rows.take(np.arange(len(rows)) > 0)

    monkeypatch.setattr(vector_rectified, "fewer_vectors", one_less)
    trained = train(problem, family, bound_iter=1)
    assert trained.certificate.search_gap <= 1e-5 and trained.network.width == found[0]
    # without a closed gap there is nothing to keep
    assert train(problem, family, tol=0.0, max_iter=1, bound_iter=1).network.width == found[1] - 1
