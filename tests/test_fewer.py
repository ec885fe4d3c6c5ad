"""Neurons that an objective does not need go, and nothing is lost by it."""

from __future__ import annotations

import numpy as np
import pytest

import cvxnn.architectures.rectified as rectified
from cvxnn.architectures.relu import ReLU
from cvxnn.fewer import fewer
from cvxnn.growth import Rows, objective
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train


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
    X, y = scale(X[:100]), scale(y[:100])
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 0.1, False)
    least = train(problem, ReLU())
    monkeypatch.setattr(rectified, "fewer", lambda problem, design, rows, slack, deadline: rows)
    whole = train(problem, ReLU())
    assert least.network.width < whole.network.width
    assert least.certificate.objective <= whole.certificate.objective * (1.0 + 1e-7)
    assert least.certificate.search_gap <= 1e-5
