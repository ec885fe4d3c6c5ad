"""The schedule of growing: what it ends with, and what it does where Newton steps are too expensive."""

from __future__ import annotations

import numpy as np
import pytest

import cvxnn.exploration as exploration
from cvxnn.architectures.relu import ReLU
from cvxnn.exploration import Exploration
from cvxnn.growth import objective
from cvxnn.losses import get_loss
from cvxnn.oracles import NeuronOracle
from cvxnn.program import Problem
from cvxnn.train import train


def make(alpha: float = 1e-3, n: int = 60, d: int = 5) -> tuple[Problem, Exploration]:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, d))
    y = np.maximum(X @ rng.standard_normal((d, 4)), 0.0) @ np.array([1.0, -1.0, 0.5, 2.0])
    problem = Problem.from_alpha(
        X, y + 0.1 * rng.standard_normal(n), None, get_loss("squared_error"), alpha, False
    )
    architecture = ReLU(hidden_bias=None)
    oracle = architecture.oracle(problem, None)
    assert isinstance(oracle, NeuronOracle)
    design = architecture.design(problem)
    return problem, Exploration(problem, design, oracle, np.random.default_rng(0), 1e-5)


def test_it_ends_at_the_optimum_that_enumeration_proves() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 2))
    y = np.abs(X[:, 0]) - 0.5 * X[:, 1]
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 1e-2, False)
    exact = train(problem, ReLU(hidden_bias=None, patterns="all"), tol=1e-9)
    assert exact.certificate.scope == "global"
    architecture = ReLU(hidden_bias=None)
    oracle, design = architecture.oracle(problem, None), architecture.design(problem)
    assert isinstance(oracle, NeuronOracle)
    growing = Exploration(problem, design, oracle, np.random.default_rng(0), 1e-7)
    for _ in growing.run(None, 30):
        pass
    assert growing.least / problem.total_weight == pytest.approx(exact.certificate.objective, rel=1e-6)


def test_every_network_reported_is_better_than_the_last() -> None:
    problem, growing = make()
    values = []
    for _ in growing.run(None, 20):
        values.append(growing.least)
        assert objective(problem, growing.design, growing.best) == pytest.approx(growing.least, rel=1e-12)
    assert len(values) > 3
    assert np.all(np.diff(values) < 0)
    assert growing.gap < 1e-3


def test_it_goes_on_from_a_network() -> None:
    _, growing = make()
    for _ in growing.run(None, 3):
        pass
    first = growing.least
    _, again = make()
    for _ in again.run(growing.best, 10):
        pass
    assert again.least <= first


def test_without_newton_it_anneals(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fast = make()
    for _ in fast.run(None, 15):
        pass
    monkeypatch.setattr(exploration, "affordable", lambda *size: False)
    _, slow = make()
    for _ in slow.run(None, 15):
        pass
    assert fast.least <= slow.least <= fast.least * (1.0 + 1e-2)
