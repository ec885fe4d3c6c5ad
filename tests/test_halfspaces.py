"""Patterns of threshold units with their borders, the price of half-spaces, and the shattered case."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cvxnn.architectures.threshold import Threshold
from cvxnn.arrangement import TooManyPatterns
from cvxnn.halfspaces import SearchedOracle, box_dual, listed, search, shatters
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train


def problem_of(X, y, beta, intercept=False, loss="squared_error"):
    return Problem(X, y, np.ones(len(y)), get_loss(loss), beta, intercept)


def all_patterns(X):
    """Every pattern of a small matrix of integers, from all points of a fine grid of integers."""
    grid = itertools.product(range(-6, 7), repeat=X.shape[1])
    return {tuple(pattern) for pattern in (np.array(list(grid)) @ X.T >= 0).tolist()}


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0], [-1, 0], [0, 1]],
        [[1, 2], [2, 4], [-1, -2], [1, -1], [0, 0]],
        [[1, 0], [0, 1], [1, 1], [-1, 1]],
        [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 1], [0, 0, -1]],
        [[1, 0, 0], [0, 1, 0], [-1, -1, 0], [0, 0, 1]],
        [[1, 1, 1], [1, -1, 0], [-1, 0, -1], [0, 1, 1], [1, 0, 1]],
        [[1, 1], [-2, 1], [3, 1], [0, 1]],
    ],
)
def test_lists_hold_every_pattern_of_cells_and_faces(rows):
    X = np.array(rows, dtype=float)
    found = listed(X, 1000)
    masks = {tuple(mask) for mask in found.masks().tolist()}
    assert found.complete and len(masks) == len(found)
    assert masks == all_patterns(X.astype(int))


def test_lists_refuse_what_is_too_long():
    with pytest.raises(TooManyPatterns):
        listed(np.random.default_rng(0).normal(size=(30, 4)), 100)


def test_units_keep_what_is_on_their_borders():
    """Opposite samples are both on only where a unit has both on its border: rounding must not lose one."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 3))
    X = np.concatenate([A, -A])
    y = np.array([3.0, 1.0, 0.5, 3.0, -1.0, 0.2])
    for seed in range(3):
        scale = 10.0 ** (4 * seed - 4)
        problem = Problem.from_alpha(scale * X, y, None, get_loss("squared_error"), 0.02, False)
        trained = train(problem, Threshold(None), tol=1e-9)
        assert trained.certificate.scope == "global" and trained.certificate.gap <= 1e-8
    first = trained.network.layers[0]
    border = np.abs(problem.X @ first.weight) <= 1e-12 * np.linalg.norm(problem.X, axis=1)[:, None]
    assert np.any(np.sum(border, axis=0) == 2)
    biased = (first.weight, first.bias + 1.0)
    oracle = Threshold(None).oracle(problem, Threshold(None).arrange(problem, rng))
    with pytest.raises(ValueError, match="hidden biases"):
        network = Threshold(None).adopt(*biased, np.ones(first.weight.shape[1]), 0.0)
        oracle.found(problem.y, network)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "huber", "poisson"])
def test_the_shattered_case_is_a_cut_at_two_levels(loss, intercept):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(9, 12))
    y = np.sign(rng.normal(size=9)) if loss == "log_loss" else 2.0 * rng.normal(size=9)
    y = np.abs(y) if loss == "poisson" else y
    problem = Problem.from_alpha(X, y, None, get_loss(loss), 0.03, intercept)
    assert shatters(problem.X)
    certificate = train(problem, Threshold(None), tol=1e-9).certificate
    assert certificate.scope == "global" and certificate.gap <= 1e-7
    # the dual point of the cut proves the same, alone
    Z = box_dual(problem)
    halves = max(np.sum(np.maximum(Z, 0.0)), np.sum(np.maximum(-Z, 0.0)))
    assert halves <= problem.beta * (1.0 + 1e-9)
    value = problem.loss.dual(Z, problem.y, problem.weights) / problem.total_weight
    assert value == pytest.approx(certificate.objective, rel=1e-6)
    if loss == "squared_error" and not intercept:
        up, down = (float(np.sum(np.maximum(side * problem.y - t, 0.0))) for side, t in cuts(problem))
        assert up == pytest.approx(problem.beta) and down == pytest.approx(problem.beta)


def cuts(problem):
    """The levels of the closed form, from the network's predictions."""
    f = train(problem, Threshold(None), tol=1e-11).network(problem.X)
    return ((1.0, float(np.max(f))), (-1.0, -float(np.min(f))))


def test_search_finds_the_best_listed_half_space():
    rng = np.random.default_rng(2)
    for n, d in ((20, 2), (30, 3), (14, 5)):
        X = np.column_stack([rng.normal(size=(n, d - 1)), np.ones(n)])
        masks = listed(X, 50_000).masks()
        for _ in range(4):
            Z = rng.normal(size=n)
            found = search(X, Z, X[:0], rng)
            assert np.array_equal(found.masks, found.gates @ X.T >= 0)
            assert found.values == pytest.approx(np.abs(found.masks @ Z))
            assert found.best == pytest.approx(np.max(np.abs(masks @ Z)), rel=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "log_loss"])
def test_grown_patterns_end_where_all_patterns_do(loss, monkeypatch):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(25, 2))
    y = np.sign(X[:, 0] * X[:, 1]) + (0.0 if loss == "log_loss" else 0.3 * rng.normal(size=25))
    problem = Problem.from_alpha(X, y, None, get_loss(loss), 0.02, True)
    whole = train(problem, Threshold(), tol=1e-8).certificate
    assert whole.scope == "global" and whole.gap <= 1e-6
    monkeypatch.setattr("cvxnn.architectures.threshold.AUTO_NUMBERS", 0)
    monkeypatch.setattr("cvxnn.architectures.threshold.AUTO_PATTERNS", 1)
    grown = train(problem, Threshold(), tol=1e-6).certificate
    assert grown.scope == "bounded" and grown.search_gap <= 1e-5
    assert grown.objective == pytest.approx(whole.objective, rel=1e-5)
    assert 0.0 < grown.lower_bound <= whole.objective


def test_bounds_are_above_every_half_space():
    rng = np.random.default_rng(4)
    X, Z = rng.normal(size=(40, 6)), rng.normal(size=40)
    oracle = SearchedOracle(problem_of(X, Z, 1.0), X, False)
    best = np.max(np.abs((rng.normal(size=(5000, 6)) @ X.T >= 0) @ Z))
    price = oracle.price(Z)
    assert best <= price.found <= price.value and price.scope == "bounded"
