"""Climbing many starts at once: what comes back are neurons, near local maxima."""

from __future__ import annotations

import numpy as np
import pytest

import cvxnn.climbing as climbing
from cvxnn.climbing import DIRECT, FINE, NEAR, WIDE, WIDEST, Climb, fits
from cvxnn.pricing import search
from cvxnn.walks import rectify, walk


def data(seed, n, d, free=0):
    rng = np.random.default_rng(seed)
    X, z = rng.normal(size=(n, d)), rng.normal(size=n)
    if free:
        X, z = np.column_stack([X, np.ones(n)]), z - z.mean()
    return X, z, rng.normal(size=(40, X.shape[1]))


@pytest.mark.parametrize("slope", [0.0, 0.2, -1.0])
@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("seed, d", [(0, 5), (1, 5), (2, 5), (3, DIRECT + 4)])
def test_climbing_rises_to_local_maxima(seed, d, free, slope):
    X, z, U = data(seed, 60, d, free)
    climb = Climb(X, z, free, slope)
    V = climb(U, WIDE + FINE)
    kept = X.shape[1] - free
    assert np.allclose(np.linalg.norm(V[:, :kept], axis=1), 1.0)
    values = climb.values(V)
    assert np.allclose(values, z @ rectify(X @ V.T, slope))
    assert np.median(values) > np.median(climb.values(climb._unit(U)))
    # a walk through exact cells adds next to nothing to most of them; with biases it sees further
    norms = np.linalg.norm(X, axis=1)
    ends = [walk(X, z, X @ v > 0, v, norms, free, slope=slope)[0] for v in V]
    assert np.median(np.array(ends) / np.maximum(values, 1e-300)) < 1.0 + (5e-3 if free else 1e-3)
    # and from there a narrow band stays: nothing falls by more than the band
    assert np.all(climb.values(climb(V, NEAR)) > values - 1e-3 * values.max())


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_do_not_matter(scale):
    X, z, U = data(0, 40, 4)
    plain, scaled = Climb(X, z)(U, WIDE), Climb(scale * X, scale * z)(U, WIDE)
    assert np.allclose(plain, scaled, atol=1e-3)


def test_a_price_without_a_rise():
    X, _, U = data(1, 30, 3)
    for z in (np.zeros(30), -np.ones(30)):
        V = Climb(X, z)(U, WIDE + FINE)
        assert np.all(np.isfinite(V)) and np.allclose(np.linalg.norm(V, axis=1), 1.0)


def test_wide_data_are_searched_by_gradients():
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(50, WIDEST + 1)), rng.normal(size=50)
    assert not fits(X) and fits(X[:, :-1])
    found = search(X, Z, n_random=4, n_polish=2, exact=False, random_state=rng)
    assert len(found.values) and np.allclose(
        found.values, found.signs * (Z @ np.maximum(X @ found.directions.T, 0.0))
    )


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_free_biases_far_beyond_the_data_are_no_overflow(size):
    X, z, U = data(0, 20, 3, 1)
    X[:, :-1] *= size
    with np.errstate(all="raise", under="ignore"):
        V = Climb(X, z, 1)(U, WIDE + FINE)
    assert np.allclose(np.linalg.norm(V[:, :-1], axis=1), 1.0)
    assert np.all(np.abs(V[:, -1]) <= 1.001 * np.max(np.linalg.norm(X[:, :-1], axis=1)))


def test_a_start_whose_climb_is_lost_stays_where_it_is(monkeypatch):
    X, z, U = data(0, 60, 5)
    climb = Climb(X, z)
    arrive = climb._climb

    def lose(V, plan):
        end = arrive(V, plan)
        end[1] = np.nan
        return end

    monkeypatch.setattr(climb, "_climb", lose)
    V, starts = climb(U, WIDE), climb._unit(U)
    assert np.allclose(V[1], starts[1], atol=1e-6)
    assert np.all(np.isfinite(V)) and not np.allclose(V[0], starts[0], atol=1e-3)


@pytest.mark.parametrize("free", [0, 1])
def test_enough_conjugate_gradients_solve_what_is_factored(monkeypatch, free):
    X, z, _ = data(0, 60, 5, free)
    climb, d = Climb(X, z, free), X.shape[1]
    climb.squares = climb.rows**2
    rng = np.random.default_rng(1)
    bend = rng.uniform(0.0, 3.0, (7, len(climb.rows))).astype(np.float32)
    own = rng.uniform(0.5, 1.0, (7, d)).astype(np.float32)
    G = rng.standard_normal((7, d)).astype(np.float32)
    exact = climb._factor(bend, own, G)
    few = climb._conjugate(bend, own, G)
    assert np.all(np.sum(few * G, axis=1) > 0.0)  # any number of steps ascends
    monkeypatch.setattr(climbing, "STEPS", 3 * d)
    assert np.allclose(climb._conjugate(bend, own, G), exact, rtol=1e-3, atol=1e-5)
