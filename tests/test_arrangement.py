"""Cells of hyperplane arrangements: counts, patterns, degenerate data, agreement with LPs."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linprog

from cvxnn.arrangement import Arrangement, TooManyPatterns, count_bound, pack, patterns_of


def words(arrangement):
    return ["".join("01"[b] for b in mask.astype(int)) for mask in arrangement.masks()]


def normal(n, r, seed=0):
    return np.random.default_rng(seed).standard_normal((n, r))


def cube(k):
    """Vertices of the cube with a constant: cells are threshold functions of k bits."""
    return np.array([(*bits, 1.0) for bits in itertools.product([0, 1], repeat=k)])


def braid(k):
    """The differences of coordinates: cells are the orders of k symbols."""
    eye = np.eye(k)
    return np.array([eye[i] - eye[j] for i, j in itertools.combinations(range(k), 2)])


def signed_braid(k):
    eye = np.eye(k)
    pairs = list(itertools.combinations(range(k), 2))
    return np.vstack([eye, [eye[i] + s * eye[j] for i, j in pairs for s in (1, -1)]])


def resonance(k):
    return np.array([bits for bits in itertools.product([0.0, 1.0], repeat=k) if any(bits)])


def lp_patterns(X):
    """Patterns by a linear program for each branch of the tree of sign vectors."""
    X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    used = np.flatnonzero(X.any(axis=1))
    branches = [np.zeros(0)]
    cost = np.append(np.zeros(X.shape[1]), -1.0)
    box = [(-1, 1)] * X.shape[1] + [(None, 1)]
    for k in range(1, len(used) + 1):
        tried = [np.append(b, s) for b in branches for s in (-1.0, 1.0)]
        branches = []
        for signs in tried:
            rows = np.column_stack([-signs[:, None] * X[used[:k]], np.ones(k)])
            margin = -linprog(cost, A_ub=rows, b_ub=np.zeros(k), bounds=box).fun
            assert margin < 1e-12 or margin > 1e-9
            if margin > 1e-9:
                branches.append(signs)
    masks = np.zeros((len(branches), len(X)), dtype=bool)
    masks[:, used] = np.array(branches).reshape(len(branches), len(used)) > 0
    return masks


def check(X, arrangement):
    """What must hold for every complete list."""
    assert arrangement.complete and arrangement.resolution >= 1e-15
    masks = arrangement.masks()
    assert masks.shape == (len(arrangement), len(X))
    assert arrangement.bits.dtype == np.uint8 and np.array_equal(pack(masks), arrangement.bits)
    assert np.array_equal(np.lexsort(masks.T[::-1]), np.arange(len(masks)))
    assert len(np.unique(masks, axis=0)) == len(masks)
    present = X.any(axis=1)
    assert not masks[:, ~present].any()
    opposite = ~masks & present
    assert np.array_equal(opposite[np.lexsort(opposite.T[::-1])], masks)
    assert np.array_equal(patterns_of(X, arrangement.gates), masks)
    assert np.allclose(np.linalg.norm(arrangement.gates, axis=1), 1.0)


def test_golden_patterns(golden):
    for record in golden:
        if record["system"] != "arrangement_count":
            continue
        X = np.array(record["X"])
        found = Arrangement.enumerate(X)
        check(X, found)
        assert len(found) == record["optimum"], record["id"]
        assert words(found) == sorted(record["extra"]["patterns"]), record["id"]


def test_golden_counts(golden):
    seen = 0
    for record in golden:
        if record["system"] != "relu_scalar":
            continue
        X = np.array(record["X"])
        if record["params"]["bias"] in ("regularised", "hidden_free"):
            X = np.column_stack([X, np.ones(len(X))])
        found = Arrangement.enumerate(X)
        assert found.complete and len(found) == record["extra"]["arrangements"], record["id"]
        seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("n", "r", "count"),
    [
        (3, 2, 6),
        (4, 2, 8),
        (5, 3, 22),
        (10, 3, 92),
        (8, 4, 128),
        (20, 5, 10072),
        (100, 3, 9902),
        (569, 2, 1138),
        (6, 6, 64),
        (9, 8, 510),
        (13, 9, 7594),
        (7, 1, 2),
        (1, 5, 2),
        (3, 7, 8),
    ],
)
def test_general_position(n, r, count):
    X = normal(n, r)
    found = Arrangement.enumerate(X, limit=count)
    assert len(found) == count == count_bound(n, min(n, r))
    assert found.resolution == 1e-15
    check(X, found)
    with pytest.raises(TooManyPatterns):
        Arrangement.enumerate(X, limit=count - 1)


def test_count_bound():
    assert [count_bound(*p) for p in [(0, 3), (4, 0), (1, 1), (5, 9)]] == [1, 1, 2, 32]
    assert count_bound(100, 5) == 7_852_352


@pytest.mark.parametrize(
    ("X", "count"),
    [
        (cube(2), 14),
        (cube(3), 104),
        (cube(4), 1882),
        (braid(4), 24),
        (braid(6), 720),
        (braid(7), 5040),
        (signed_braid(3), 48),
        (signed_braid(5), 3840),
        (resonance(3), 32),
        (resonance(4), 370),
    ],
)
def test_reflections_and_threshold_functions(X, count):
    found = Arrangement.enumerate(X)
    assert len(found) == count and found.resolution < 1e-12
    check(X, found)


def test_parallel_rows():
    X = np.array([[2.0, 2.0], [3.0, 3.0], [1.0, 0.0]])
    assert words(Arrangement.enumerate(X)) == ["000", "001", "110", "111"]


def test_zero_duplicated_and_opposite_rows():
    base = normal(6, 3)
    X = np.vstack([np.zeros((1, 3)), base, -2.0 * base[:2], base, np.zeros((2, 3))])
    found = Arrangement.enumerate(X)
    check(X, found)
    masks = found.masks()
    assert len(found) == count_bound(6, 3)
    assert np.array_equal(masks[:, 1:7], masks[:, 9:15])
    assert np.array_equal(masks[:, 1:3], ~masks[:, 7:9])


def test_many_duplicates():
    scale = np.random.default_rng(1).uniform(-3, 3, (3000, 1))
    X = np.repeat(normal(10, 3), 300, axis=0) * scale
    assert len(Arrangement.enumerate(X)) == 92


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (4, 2)])
def test_no_hyperplanes(shape):
    found = Arrangement.enumerate(np.zeros(shape))
    assert len(found) == 1 and found.complete and not found.masks().any()
    assert found.masks().shape == (1, shape[0]) and found.gates.shape == (1, shape[1])


def test_one_dimension_with_constant():
    X = np.column_stack([1e6 + np.random.default_rng(0).uniform(size=40), np.ones(40)])
    assert len(Arrangement.enumerate(X)) == 80


def test_rank_deficient():
    X = normal(10, 3) @ normal(3, 8, seed=1)
    found = Arrangement.enumerate(X)
    assert len(found) == 92
    check(X, found)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.integers(-2, 2)))
def test_small_integers_agree_with_linear_programs(X):
    X = X.astype(float)
    found, expected = Arrangement.enumerate(X), lp_patterns(X)
    assert found.complete
    assert {m.tobytes() for m in found.masks()} == {m.tobytes() for m in expected}


@settings(derandomize=True, deadline=None, max_examples=8)
@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 100))
def test_random_data_agree_with_linear_programs(n, r, seed):
    X = normal(n, r, seed)
    found, expected = Arrangement.enumerate(X), lp_patterns(X)
    assert found.complete
    assert {m.tobytes() for m in found.masks()} == {m.tobytes() for m in expected}


@pytest.mark.parametrize("X", [normal(12, 3), cube(3), braid(5), normal(30, 2)])
def test_scale_changes_nothing(X):
    rng = np.random.default_rng(2)
    found = Arrangement.enumerate(X)
    rows = 10.0 ** rng.uniform(-8, 8, (len(X), 1))
    columns = 10.0 ** rng.uniform(-8, 8, X.shape[1])
    for scaled in [X * rows, X * columns, X * rows * columns, X * 1e-150, X * 1e150]:
        other = Arrangement.enumerate(scaled)
        assert other.complete and np.array_equal(other.bits, found.bits)


def test_change_of_basis_and_order():
    X = cube(3)
    found = Arrangement.enumerate(X)
    turned = Arrangement.enumerate(X @ normal(4, 4))
    assert turned.complete and np.array_equal(turned.bits, found.bits)
    order = np.random.default_rng(0).permutation(len(X))
    mixed = Arrangement.enumerate(X[order])
    assert {m.tobytes() for m in mixed.masks()} == {m[order].tobytes() for m in found.masks()}


@pytest.mark.parametrize("noise", [1e-11, 3e-12])
def test_unclear_dependence_is_not_called_complete(noise):
    found = Arrangement.enumerate(cube(3) + noise * normal(8, 4))
    assert not found.complete and found.resolution == 0.0


def test_small_but_clear_cells_are_found():
    X = cube(3) + 1e-8 * normal(8, 4)
    found = Arrangement.enumerate(X)
    assert len(found) == 128 and found.resolution == 1e-15
    check(X, found)


@pytest.mark.parametrize("shape", [(569, 30), (569, 10), (569, 3), (2000, 60), (40, 40), (6000, 2)])
def test_too_many_patterns_is_noticed_quickly(shape):
    X = normal(*shape)
    start = time.process_time()
    with pytest.raises(TooManyPatterns, match="limit=") as raised:
        Arrangement.enumerate(X)
    assert time.process_time() - start < 1.0  # milliseconds on an idle machine
    assert raised.value.limit == 10_000 < raised.value.bound


def test_degenerate_data_may_stay_below_the_limit():
    assert count_bound(21, 6) > 10_000
    assert len(Arrangement.enumerate(braid(7), limit=5040)) == 5040


def test_sample():
    X = normal(50, 4)
    first, second = (Arrangement.sample(X, 200, random_state=3) for _ in range(2))
    assert np.array_equal(first.bits, second.bits) and np.array_equal(first.gates, second.gates)
    assert not first.complete and first.resolution == 0.0 and 1 < len(first) <= 200
    assert np.array_equal(patterns_of(X, first.gates), first.masks())
    assert np.array_equal(np.lexsort(first.masks().T[::-1]), np.arange(len(first)))
    assert np.array_equal(first.masks(2, 5), first.masks()[2:5])
    order = np.random.default_rng(0).permutation(50)
    mixed = Arrangement.sample(X[order], 200, random_state=3)
    assert {m.tobytes() for m in mixed.masks()} == {m[order].tobytes() for m in first.masks()}


def test_samples_lie_within_the_enumeration():
    X = np.vstack([cube(3), np.zeros((1, 4))])
    every = {m.tobytes() for m in Arrangement.enumerate(X).masks()}
    assert {m.tobytes() for m in Arrangement.sample(X, 5000, 0).masks()} <= every


def test_from_gates_keeps_the_first_gate():
    X = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    gates = np.array([[1.0, 1.0], [-1.0, 2.0], [3.0, 4.0], [0.0, 5.0]])
    found = Arrangement.from_gates(X, gates)
    assert words(found) == ["010", "110"]
    assert np.array_equal(found.gates, gates[[1, 0]])
    assert len(Arrangement.from_gates(X, np.zeros((0, 2)))) == 0


def test_bad_input():
    for X in (np.ones(3), np.array([[1.0, np.nan]])):
        with pytest.raises(ValueError, match="finite"):
            Arrangement.enumerate(X)
