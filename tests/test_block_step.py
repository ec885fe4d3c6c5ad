"""Exact block steps: optimality conditions, limits, and quadratics that are singular."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.block_step import BlockSteps, minimise_block


@given(seed=st.integers(0, 2**16), d=st.integers(1, 8), spread=st.floats(0, 6), start=st.floats(0, 1e3))
def test_the_optimality_conditions_hold(seed, d, spread, start):
    rng = np.random.default_rng(seed)
    values, v = 10.0 ** rng.uniform(-spread, spread, d), rng.normal(size=d)
    beta = float(rng.uniform(0.01, 1.5))
    w = minimise_block(values, v, beta, start)
    size = np.linalg.norm(w)
    if np.linalg.norm(v) <= beta:
        assert size == 0.0
    else:
        assert values * w - v + beta * w / size == pytest.approx(np.zeros(d), abs=1e-10)


def test_by_hand():
    assert minimise_block(np.array([2.0]), np.array([5.0]), 1.0) == pytest.approx([2.0])
    assert minimise_block(np.array([2.0]), np.array([-5.0]), 1.0, 99.0) == pytest.approx([-2.0])
    assert np.array_equal(minimise_block(np.array([2.0, 1.0]), np.array([0.6, 0.8]), 1.0), [0.0, 0.0])
    assert np.array_equal(minimise_block(np.zeros(2), np.zeros(2), 1.0), [0.0, 0.0])


def test_steps_on_a_singular_quadratic_keep_their_eigenvectors():
    rng = np.random.default_rng(0)
    F, y, calls = rng.normal(size=(3, 5)), rng.normal(size=3), []

    def quadratic(group):
        calls.append(group)
        return F.T @ F

    steps, w = BlockSteps(quadratic, 0.1), rng.normal(size=5)
    for _ in range(2):
        w = steps(7, w, F.T @ (F @ w - y))
    assert calls == [7]
    assert F.T @ (F @ w - y) + 0.1 * w / np.linalg.norm(w) == pytest.approx(np.zeros(5), abs=1e-12)
