"""Unseen maxima: the posterior mean against a simulation, counting, and when a search stops early."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.architectures.relu import ReLU
from cvxnn.losses import get_loss
from cvxnn.multistart import FEW, distinct, unseen, unseen_maxima
from cvxnn.oracles import SearchOracle
from cvxnn.program import Problem
from cvxnn.train import train


def test_the_posterior_mean_against_a_simulation():
    # The prior behind the formula: any number of maxima is as likely, shares are uniform on the simplex.
    rng, k, w = np.random.default_rng(0), 40, 3
    numbers = []
    for _ in range(60_000):
        total = int(rng.integers(1, 40))
        shares = rng.dirichlet(np.ones(total))
        if np.sum(rng.multinomial(k, shares) > 0) == w:
            numbers.append(total - w)
    assert len(numbers) > 200
    assert np.mean(numbers) == pytest.approx(unseen(w, k), rel=0.25)


def test_too_few_starts_say_nothing():
    assert unseen(5, 7) == float("inf")
    assert unseen(0, 100) == 0.0
    assert unseen(2, 1000) < FEW < unseen(30, 1000)


def test_directions_are_counted_once():
    V = np.eye(3)[[0, 0, 1, 2, 2]]
    signs = np.array([1.0, 1.0, 1.0, 1.0, -1.0])
    assert distinct(V, signs, 10) == 4
    assert distinct(V, signs, 2) == 3  # one more than asked for: there are more
    values = np.array([1.0, 1.0, 1.0, -1.0, 1.0])
    assert unseen_maxima(V, signs, values, 100) == unseen(3, 100)
    assert unseen_maxima(np.eye(20), np.ones(20), np.ones(20), 100) == float("inf")


def _problem(n: int, d: int, alpha: float) -> Problem:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, d))
    y = np.maximum(X @ rng.standard_normal(d), 0) - 0.5 * X[:, 0] + 0.1 * rng.standard_normal(n)
    return Problem.from_alpha(X, y, None, get_loss("squared_error"), alpha, False)


@pytest.mark.parametrize("strong", [True, False])
def test_early_only_where_all_maxima_are_seen(strong, monkeypatch):
    problem = _problem(60, 5, 0.6 if strong else 1e-3)
    architecture = ReLU(hidden_bias=None)
    trained = train(problem, architecture, max_iter=3)
    oracle = architecture.oracle(problem, None)
    assert isinstance(oracle, SearchOracle)
    reaches = []
    plain = SearchOracle._search

    def watched(self, Z, starts, n_polish, random_state, reach, **options):
        reaches.append(reach)
        return plain(self, Z, starts, n_polish, random_state, reach, **options)

    monkeypatch.setattr(SearchOracle, "_search", watched)
    Z = problem.residual(trained.network(problem.X))
    early = oracle.thorough(Z, trained.network)
    assert (max(reaches) == 1) == strong
    # The whole search finds no more where the rule stopped it, and is what ran where it did not.
    monkeypatch.setattr(SearchOracle, "_exhausted", lambda *a: None)
    whole = architecture.oracle(problem, None).thorough(Z, trained.network)
    assert early.best == pytest.approx(whole.best, rel=1e-9)
