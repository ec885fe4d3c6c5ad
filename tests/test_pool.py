"""The pool of found neurons, light searches, and paths that use them."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import path
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import search_gap
from cvxnn.losses import get_loss
from cvxnn.oracles import SearchOracle
from cvxnn.pool import MOST, Pool
from cvxnn.pricing import Neurons
from cvxnn.program import Problem
from cvxnn.train import Ground, train


def neurons(directions):
    k = len(directions)
    return Neurons(np.ones(k), directions, np.ones(k), np.zeros((k, 3), bool), directions)


def problem_of(n=40, d=5, alpha=0.01):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    y = np.abs(X[:, 0]) - np.maximum(X[:, 1] + X[:, 2], 0) + 0.1 * rng.normal(size=n)
    return Problem.from_alpha(X, y, None, get_loss("squared_error"), alpha, False)


def oracle_of(problem):
    return Ground.prepare(problem, ReLU(None), np.random.default_rng(0)).oracle


def test_prices_and_the_best_that_differ():
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(30, 4)), rng.normal(size=30)
    U = rng.normal(size=(50, 4))
    pool = Pool(4)
    pool.add(neurons(np.concatenate([U, U + 1e-4])))  # every direction twice
    prices = np.array([abs(Z @ np.maximum(X @ u, 0.0)) for u in U])
    assert pool.prices(X, Z)[:50] == pytest.approx(prices, rel=1e-12)
    best = pool.best(X, Z, 5)
    unit = best / np.linalg.norm(best, axis=1, keepdims=True)
    assert len(best) == 5 and np.max(np.triu(unit @ unit.T, 1)) < 0.99
    assert pool.prices(X, Z).max() == pytest.approx(abs(Z @ np.maximum(X @ best[0], 0.0)))


def test_the_oldest_go():
    pool = Pool(2)
    for k in range(10):
        pool.add(neurons(np.full((200, 2), float(k + 1))))
    assert len(pool) == MOST and pool.directions.min() == 5.0 and pool.directions.max() == 10.0
    assert len(Pool(2).best(np.ones((3, 2)), np.ones(3), 4)) == 0


def test_a_light_search_starts_from_the_pool():
    """What a thorough search found, a light one with the pool finds again."""
    problem = problem_of()
    oracle, Z = oracle_of(problem), problem.y
    assert isinstance(oracle, SearchOracle)
    network = ReLU(None).adopt(np.ones((5, 1)), np.zeros(1), np.ones(1), 0.0)
    pool = Pool(5)
    best = oracle.remembering(pool, light=False, sure=True, seed=1).thorough(Z, network).best
    assert len(pool) > 0
    light = oracle.remembering(pool, light=True, sure=False, seed=2)
    assert light.thorough(Z, network).best == pytest.approx(best, rel=1e-9)
    assert light.found(Z, network) == light.thorough(Z, network).best  # the judge's search is training's


def test_a_surprise_is_remembered():
    problem = problem_of()
    pool = Pool(5)
    oracle = oracle_of(problem).remembering(pool, light=True, sure=True, seed=1)
    network = ReLU(None).adopt(np.ones((5, 1)), np.zeros(1), np.ones(1), 0.0)
    light = oracle.neurons(problem.y, np.zeros((0, 5)), np.random.default_rng(0), 0).best
    best = oracle.thorough(problem.y, network).best
    assert pool.missed == pytest.approx(max(0.0, best / max(light, problem.beta) - 1.0))


def test_search_gaps_of_a_path_hold_against_the_thorough_search():
    problem = problem_of(30, 4)
    settings = {"hidden_bias": None, "fit_intercept": False, "n_bounds": 2}
    walked = path(problem.X, problem.y, n_alphas=5, eps=0.05, **settings)
    oracle = oracle_of(problem)
    for point in walked.points[1:]:
        there, c = problem.at(point.alpha), point.certificate
        assert point.dual is not None
        found = max(oracle.at(there.beta).found(point.dual, point.network), there.beta)
        gap = search_gap(there, c.objective * there.total_weight, point.dual, found)
        assert c.search_gap <= 1e-5 and gap <= 2e-5
        cold = train(there, ReLU(None), bound_iter=0).certificate
        assert c.objective <= cold.objective * (1 + 1e-5) and c.lower_bound <= cold.objective
