"""The search for neurons: what it reports is true, and on small data it finds the best one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.architectures.absolute import Absolute
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.arrangement import Arrangement
from cvxnn.constraints import project_cone
from cvxnn.losses import get_loss
from cvxnn.oracles import SEED, CellOracle, Design
from cvxnn.pricing import Neurons, search
from cvxnn.program import Problem
from cvxnn.walks import best_bias, neuron_of, walk


def data(seed, n, d, free=0):
    rng = np.random.default_rng(seed)
    X, Z = rng.normal(size=(n, d)), rng.normal(size=n)
    if free:
        X, Z = np.column_stack([X, np.ones(n)]), Z - Z.mean()
    return X, Z, rng


def exact_price(X, Z, free=0):
    """The price over all cells."""
    problem = Problem(X, Z, np.ones(len(Z)), get_loss("squared_error"), 1.0, bool(free))
    return CellOracle(problem, Design.reduce(X, free), Arrangement.enumerate(X)).price(Z)


def check_neurons(found, X, Z, free=0):
    """What must hold for every answer of a search."""
    d = X.shape[1]
    assert np.all(np.diff(found.values) <= 0)
    assert np.allclose(np.linalg.norm(found.directions[:, : d - free], axis=1), 1.0)
    outputs = np.maximum(X @ found.directions.T, 0.0)
    assert np.allclose(found.values, found.signs * (Z @ outputs), atol=1e-12 * np.abs(Z).sum())
    for mask, gate, u in zip(found.masks, found.gates, found.directions, strict=True):
        sign = np.where(mask, 1.0, -1.0)
        # an unpenalised bias sits at a kink, where the gate may lie on a face of its cell
        slack = -1e-12 if free else 0.0
        assert np.all(sign * (X @ gate) >= slack), "a gate outside the cell of its pattern"
        assert free or np.all(X @ gate != 0)
        if not free:
            assert np.all(sign * (X @ u) >= -1e-9 * np.linalg.norm(X, axis=1))
    keys = {(mask.tobytes(), sign) for mask, sign in zip(found.masks, found.signs, strict=True)}
    assert len(keys) == len(found.values)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("n", "d", "free"), [(8, 2, 0), (15, 3, 0), (10, 1, 1), (9, 2, 1)])
def test_the_search_finds_the_best_neuron(n, d, free, seed):
    X, Z, rng = data(seed, n, d, free)
    found = search(X, Z, free=free, random_state=rng)
    check_neurons(found, X, Z, free)
    price = exact_price(X, Z, free)
    assert found.best <= price.value * (1 + 1e-9)
    assert found.best == pytest.approx(price.value, rel=1e-8)
    assert price.found == pytest.approx(price.value, rel=1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_exact_price_against_many_directions(seed):
    X, Z, _ = data(seed, 12, 2)
    phi = np.linspace(0, 2 * np.pi, 20_001)
    U = np.column_stack([np.cos(phi), np.sin(phi)])
    brute = np.max(np.abs(np.maximum(U @ X.T, 0.0) @ Z))
    price = exact_price(X, Z)
    assert brute <= price.value and brute == pytest.approx(price.value, rel=5e-4)


@given(seed=st.integers(0, 2**16), n=st.integers(2, 12), d=st.integers(1, 4))
def test_a_walk_never_gets_worse_and_ends_where_it_says(seed, n, d):
    X, z, rng = data(seed, n, d)
    gate = rng.normal(size=d)
    norms = np.linalg.norm(X, axis=1)
    value, u, mask, inside = walk(X, z, X @ gate > 0, gate, norms)
    assert value >= z @ np.maximum(X @ gate, 0.0)
    assert value == pytest.approx(z @ np.maximum(X @ u, 0.0), abs=1e-12)
    assert np.all(np.where(mask, 1.0, -1.0) * (X @ inside) > 0)


def test_a_walk_crosses_to_better_cells():
    """From every cell of a line the walk reaches a local maximum, from some the global one."""
    X, z, _ = data(3, 20, 2)
    norms, cells = np.linalg.norm(X, axis=1), Arrangement.enumerate(X)
    ends = [walk(X, z, m, g, norms) for m, g in zip(cells.masks(), cells.gates, strict=True)]
    stays = [walk(X, z, m, g, norms, max_cells=1) for m, g in zip(cells.masks(), cells.gates, strict=True)]
    values, alone = np.array([e[0] for e in ends]), np.array([s[0] for s in stays])
    assert np.all(values >= alone - 1e-12) and np.any(values > alone + 0.1)
    assert len(np.unique(np.round(values, 9))) < len(cells) / 2


@given(seed=st.integers(0, 2**16), n=st.integers(2, 10), k=st.integers(1, 4))
def test_best_bias_is_the_best(seed, n, k):
    rng = np.random.default_rng(seed)
    T, Z = rng.integers(-3, 4, (n, k)).astype(float), rng.normal(size=(n, k))
    Z -= Z.mean(axis=0)
    best = best_bias(T, Z)
    reached = np.sum(Z * np.maximum(T + best, 0.0), axis=0)
    for bias in np.linspace(-8, 8, 161):
        assert np.all(np.sum(Z * np.maximum(T + bias, 0.0), axis=0) <= reached + 1e-12)


def test_nothing_to_find():
    rng = np.random.default_rng(0)
    for X, Z in ((np.zeros((4, 2)), np.ones(4)), (np.ones((4, 2)), np.zeros(4))):
        found = search(X, Z, random_state=rng)
        assert len(found.values) == 0 and found.best == 0.0 and found.masks.shape == (0, 4)
    assert neuron_of(np.ones((2, 2)), np.ones(2), np.zeros(2), 0) is None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("n", "d"), [(12, 2), (9, 3)])
def test_a_walk_ends_in_a_local_maximum(n, d, seed):
    """No cell that touches the end of a walk holds a better neuron; few walks stop at once."""
    X, z, _ = data(seed, n, d)
    norms, cells = np.linalg.norm(X, axis=1), Arrangement.enumerate(X)
    masks = cells.masks()
    prices = np.array(
        [np.linalg.norm(project_cone(X, np.where(m, 1.0, -1.0), X.T @ (m * z))[0]) for m in masks]
    )
    for mask, gate in zip(masks, cells.gates, strict=True):
        value, u, _, _ = walk(X, z, mask, gate, norms)
        if value <= 0:
            continue
        tight = np.abs(X @ u) <= 1e-9 * norms * np.linalg.norm(u)
        around = np.all((masks == (X @ u > 0)) | tight, axis=1)
        assert np.any(around) and np.max(prices[around]) <= value * (1 + 1e-9)


def test_zero_and_parallel_rows():
    base, Z, rng = data(0, 6, 2)
    X = np.vstack([base, 2 * base[:2], -base[2:4], np.zeros((2, 2))])
    Z = np.append(Z, rng.normal(size=6))
    found = search(X, Z, random_state=rng)
    assert found.best == pytest.approx(exact_price(X, Z).value, rel=1e-8)


def test_the_search_is_repeatable_and_indifferent_to_units():
    X, Z, _ = data(5, 30, 4)
    one = search(X, Z, random_state=np.random.default_rng(1))
    two = search(X, Z, random_state=np.random.default_rng(1))
    assert np.array_equal(one.values, two.values) and np.array_equal(one.directions, two.directions)
    big = search(1e6 * X, 1e-3 * Z, random_state=np.random.default_rng(1))
    assert big.best == pytest.approx(1e3 * one.best, rel=1e-9)


def test_starts_are_used():
    X, Z, _ = data(7, 40, 6)
    best = search(X, Z, n_random=400, n_polish=60, random_state=np.random.default_rng(0))
    helped = search(
        X, Z, starts=best.directions[:1], n_random=1, n_polish=2, random_state=np.random.default_rng(1)
    )
    assert helped.best == pytest.approx(best.best, rel=1e-9)


def test_joining_keeps_the_better_of_equal_patterns():
    def neurons(value):
        one = np.ones(1)
        return Neurons(value * one, one[:, None], one, np.array([[True, False]]), value * one[:, None])

    joined = neurons(1.0).join(neurons(2.0))
    assert joined.values.tolist() == [2.0] and joined.gates.tolist() == [[2.0]]


@pytest.mark.parametrize(
    "family",
    [
        ReLU(hidden_bias=None),
        ReLU(hidden_bias="free"),
        ReLU(hidden_bias=None, penalty="l1"),
        LeakyReLU(hidden_bias=None),
        Absolute(hidden_bias=None),
    ],
    ids=repr,
)
def test_the_judge_searches_as_the_oracle_does(family):
    rng = np.random.default_rng(0)
    X, y, Z = rng.standard_normal((40, 8)), rng.standard_normal(40), rng.standard_normal(40)
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 0.05, False)
    oracle = family.oracle(problem, None)
    network = family.adopt(rng.standard_normal((8, 3)), np.zeros(3), np.ones(3), 0.0)
    Z -= Z.mean() if oracle.free else 0.0
    found = oracle.thorough(Z, network)
    again = oracle.neurons(Z, oracle.neurons_of(network), np.random.default_rng(SEED), 2)
    assert np.array_equal(found.values, again.values)
    assert found.best <= oracle.price(Z).value * (1.0 + 1e-9)
    # what a search has that ended early is not taken for the judge's
    fresh = family.oracle(problem, None)
    assert fresh.missing(Z, network, lambda found: True).best <= found.best
    assert fresh.thorough(Z, network).best == found.best
