"""Climbing with several outputs: what comes back are neurons near local maxima, and their true prices."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.climbing import DIRECT, FINE, HELD, NEAR, WIDE, WIDEST, Climb
from cvxnn.vector_climbing import VectorClimb, fits
from cvxnn.vector_pricing import _polish, search_joint
from cvxnn.walks import rectify


def data(seed, n, d, outputs=3, free=0):
    rng = np.random.default_rng(seed)
    X, Z = rng.normal(size=(n, d)), rng.normal(size=(n, outputs))
    if free:
        X, Z = np.column_stack([X, np.ones(n)]), Z - Z.mean(axis=0)
    return X, Z, rng.normal(size=(40, X.shape[1]))


@pytest.mark.parametrize("slope", [0.0, 0.2, -1.0])
@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("seed, d, outputs", [(0, 5, 3), (1, 3, 7), (2, DIRECT + 4, 2)])
def test_climbing_rises_to_local_maxima(seed, d, outputs, free, slope):
    X, Z, U = data(seed, 60, d, outputs, free)
    climb = VectorClimb(X, Z, free, slope)
    starts = climb._unit(U)
    V = climb(U, WIDE + FINE)
    assert np.allclose(np.linalg.norm(V[:, : X.shape[1] - free], axis=1), 1.0)
    values = climb.values(V)
    assert np.allclose(values, np.linalg.norm(Z.T @ rectify(X @ V.T, slope), axis=0))
    # none falls by more than the band, and nearly all rise
    assert np.all(values > climb.values(starts) - 1e-3 * values.max())
    assert np.median(values / climb.values(starts)) > 1.2
    # from there a narrow band stays, and with time exact cells and walks add next to nothing
    V = climb(V, NEAR)
    assert np.all(climb.values(V) > values - 1e-3 * values.max())
    V = climb(V, ((1e-3, 20), (1e-4, 10), (1e-5, 5)))
    norms = np.linalg.norm(X, axis=1)
    ends = climb.values(np.array([_polish(X, Z, v, norms, free, slope) for v in V]))
    assert np.median(ends / climb.values(V)) < 1.0 + (5e-3 if free else 1e-3)


@pytest.mark.parametrize("slope", [0.0, 0.3, -0.5])
@pytest.mark.parametrize("seed", range(4))
def test_no_direction_of_the_plane_is_better(seed, slope):
    X, Z, U = data(seed, 25, 2)
    angles = np.linspace(0.0, 2.0 * np.pi, 20_000, endpoint=False)
    grid = np.column_stack([np.cos(angles), np.sin(angles)])
    best = np.max(np.linalg.norm(Z.T @ rectify(X @ grid.T, slope), axis=0))
    climb = VectorClimb(X, Z, 0, slope)
    assert climb.values(climb.from_afar(U)).max() > best * (1.0 - 1e-4)
    found = search_joint(X, Z, slope=slope, random_state=np.random.default_rng(0))
    assert found.best >= best * (1.0 - 1e-12)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("free, slope", [(0, 0.0), (1, 0.0), (0, -0.4)])
def test_a_search_reports_true_prices_again_and_again(free, slope, exact):
    X, Z, U = data(3, 50, 4, free=free)

    def look():
        rng = np.random.default_rng(7)
        return search_joint(X, Z, starts=U[:5], free=free, slope=slope, exact=exact, random_state=rng)

    found, again = look(), look()
    C = rectify(X @ found.directions.T, slope).T @ Z
    assert np.allclose(found.values, np.sum(C * found.outputs, axis=1), rtol=1e-12)
    assert np.allclose(found.values, np.linalg.norm(C, axis=1), rtol=1e-12)
    assert np.all(np.diff(found.values) <= 0)
    for part in ("values", "directions", "outputs"):
        assert np.array_equal(getattr(found, part), getattr(again, part))
    # the neurons of the network are among those it is as good as
    ours = np.linalg.norm(rectify(X @ VectorClimb(X, Z, free)._unit(U[:5]).T, slope).T @ Z, axis=1)
    assert found.best >= ours.max()


def test_one_output_has_both_signs():
    X, Z, U = data(1, 60, 5, 1)
    both = [Climb(X, sign * Z[:, 0]) for sign in (1.0, -1.0)]
    best = max(climb.values(climb.from_afar(U)).max() for climb in both)
    climb = VectorClimb(X, Z)
    assert climb.values(climb.from_afar(U)).max() == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_do_not_matter(scale):
    X, Z, U = data(0, 40, 4)
    plain, scaled = VectorClimb(X, Z)(U, WIDE), VectorClimb(scale * X, scale * Z)(U, WIDE)
    assert np.allclose(plain, scaled, atol=1e-3)


def test_a_price_without_a_rise():
    X, _, U = data(1, 30, 3)
    for Z in (np.zeros((30, 2)), -np.ones((30, 2))):
        V = VectorClimb(X, Z)(U, WIDE + FINE)
        assert np.all(np.isfinite(V)) and np.allclose(np.linalg.norm(V, axis=1), 1.0)


def test_free_biases_far_beyond_the_data_are_no_overflow():
    X, Z, U = data(0, 20, 3, free=1)
    X[:, :-1] *= 1e25
    with np.errstate(all="raise", under="ignore"):
        V = VectorClimb(X, Z, 1)(U, WIDE + FINE)
    assert np.all(np.abs(V[:, -1]) <= 1.001 * np.max(np.linalg.norm(X[:, :-1], axis=1)))


def test_wide_data_are_searched_by_gradients():
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(50, WIDEST + 1)), rng.normal(size=(50, 2))
    assert not fits(X, 2) and fits(X[:, :-1], 2)
    assert not fits(X[:, :-1], WIDEST + 1) and not fits(np.empty((HELD, 1)), 2)
    found = search_joint(X, Z, n_random=4, n_polish=2, exact=False, random_state=rng)
    C = np.maximum(X @ found.directions.T, 0.0).T @ Z
    assert len(found.values) and np.allclose(found.values, np.linalg.norm(C, axis=1))
