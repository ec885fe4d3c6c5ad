"""Exact prices on the line and in the plane, against cells listed one by one and against directions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn.architectures.relu import ReLU
from cvxnn.arrangement import Arrangement
from cvxnn.losses import get_loss
from cvxnn.oracles import CellOracle
from cvxnn.planar import PlaneOracle, kink_prices
from cvxnn.program import Problem

SQUARED = get_loss("squared_error")


def case(seed, hidden):
    """A problem whose design has two columns, with ties and zero rows now and then, and a dual variable."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 25))
    X = rng.normal(size=(n, 2 if hidden is None else 1)) * 10.0 ** rng.uniform(-1, 1)
    X = np.round(X) if seed % 3 == 0 else X
    problem = Problem(X, rng.normal(size=n), np.ones(n), SQUARED, 0.1, hidden == "free")
    Z = rng.normal(size=n)
    return problem, ReLU(hidden).design(problem), SQUARED.balance(Z) if hidden == "free" else Z, rng


@pytest.mark.parametrize("hidden", [None, "penalized", "free"])
@pytest.mark.parametrize("seed", range(8))
def test_prices_equal_those_of_listed_cells(hidden, seed):
    problem, design, Z, rng = case(seed, hidden)
    if design.X.shape[1] != 2:
        pytest.skip("the rounded data have rank one")
    oracle = PlaneOracle(problem, design)
    cells = CellOracle(problem, design, Arrangement.enumerate(design.X))
    price, listed = oracle.price(Z), cells.price(Z)
    assert price.scope == listed.scope == "global"
    assert price.found == pytest.approx(listed.found, rel=1e-10)
    assert listed.found * (1 - 1e-12) <= price.value <= listed.value * (1 + 1e-9)
    U = rng.normal(size=(2000, 2))
    units = ReLU(hidden).unit_neurons(problem, None, U)
    # a free bias beyond its reach multiplies sum(Z), which is zero up to rounding only
    beyond = np.maximum(np.abs(U[:, 1] / U[:, 0]) - oracle.reach, 0.0) if hidden == "free" else 0.0
    rounding = np.finfo(float).eps * len(Z) * (np.abs(units) @ np.abs(Z))  # of the products here
    assert np.all(np.abs(units @ Z) <= price.value + 2.0 * abs(math.fsum(Z)) * beyond + rounding)
    for found in (oracle.active(Z, 0.6 * price.found, None), oracle.neurons(Z, design.X[:0], rng, 0)):
        outputs = np.maximum(design.X @ found.directions.T, 0.0)
        assert np.allclose(found.signs * (Z @ outputs), found.values, rtol=1e-9)
        assert np.allclose(design.norms(found.directions), 1.0)
        assert np.all(np.diff(found.values) <= 0)
        # the direction lies in the closed cell of the pattern
        side = np.where(found.masks, 1.0, -1.0).T * (design.X @ found.directions.T)
        assert np.min(side, initial=0.0) >= -1e-9 * np.max(np.abs(design.X))
    if hidden != "free":
        assert len(oracle.active(Z, 0.6 * price.found, None).values) == len(
            cells.active(Z, 0.6 * price.found, None).values
        )


def test_kink_prices_at_many_samples():
    rng = np.random.default_rng(0)
    x, Z = np.sort(rng.normal(size=50_000)), rng.normal(size=50_000)
    right, left = kink_prices(x, Z)
    for j in (0, 1, 777, 25_000, 49_998, 49_999):
        assert right[j] == pytest.approx(Z @ np.maximum(x - x[j], 0.0), abs=1e-8)
        assert left[j] == pytest.approx(Z @ np.maximum(x[j] - x, 0.0), abs=1e-8)


def test_other_designs_are_refused():
    problem = Problem(np.eye(3), np.ones(3), np.ones(3), SQUARED, 0.1)
    with pytest.raises(ValueError, match="3 columns"):
        PlaneOracle(problem, ReLU(None).design(problem))
