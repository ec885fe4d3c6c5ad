"""Masked operators: the definition by hand, the adjoint, chunks, packed patterns, the norm's bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.arrangement import Arrangement, pack
from cvxnn.operators import Masked
from cvxnn.testing import check_operator


def random_masked(seed, n, groups, d, signed):
    rng = np.random.default_rng(seed)
    X, masks = rng.normal(size=(n, d)), rng.random((groups, n)) < 0.5
    signs = np.where(rng.random(groups) < 0.5, 1.0, -1.0) if signed else None
    return X, masks, signs, Masked(X, pack(masks), signs)


def test_by_hand():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    masks = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    operator = Masked(X, pack(masks), np.array([1.0, -1.0]))
    W = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert operator.apply(W).tolist() == [1.0, -4.0, 5.0 - 6.0]
    assert operator.adjoint(np.array([1.0, 10.0, 100.0])).tolist() == [[501.0, 602.0], [-530.0, -640.0]]
    assert operator.shape == (3, 2, 2) and np.array_equal(operator.masks(), masks)
    assert operator.dense() @ W.ravel() == pytest.approx(operator.apply(W))


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 20),
    groups=st.integers(1, 9),
    d=st.integers(1, 5),
    signed=st.booleans(),
    chunk=st.integers(0, 4),
)
def test_adjoint_and_definition(seed, n, groups, d, signed, chunk):
    X, masks, signs, operator = random_masked(seed, n, groups, d, signed)
    operator = Masked(X, operator.bits, signs, chunk)
    sigma = np.ones(groups) if signs is None else signs
    rng = np.random.default_rng(seed)
    W, Z = rng.normal(size=(groups, d)), rng.normal(size=n)
    f = sum(sigma[g] * masks[g] * (X @ W[g]) for g in range(groups))
    assert np.allclose(operator.apply(W), f, rtol=0, atol=1e-12 * (1 + np.abs(f).max()))
    G = np.array([sigma[g] * X.T @ (masks[g] * Z) for g in range(groups)])
    assert np.allclose(operator.adjoint(Z), G, rtol=0, atol=1e-12 * (1 + np.abs(G).max()))
    assert abs(Z @ operator.apply(W) - np.sum(operator.adjoint(Z) * W)) <= 1e-11 * (
        1 + np.abs(f) @ np.abs(Z)
    )
    check_operator(operator)


def test_no_groups():
    empty = Masked(np.ones((3, 2)), np.zeros((0, 1), np.uint8))
    assert empty.apply(np.zeros((0, 2))).tolist() == [0, 0, 0]
    assert empty.adjoint(np.ones(3)).shape == (0, 2) and empty.norm_bound() == 0.0


def test_norm_bound_is_not_far_off():
    X, _, _, operator = random_masked(0, 30, 40, 4, False)
    true = np.linalg.norm(operator.dense(), 2)
    assert true <= operator.norm_bound() <= 2 * true
    # identity of spec 0.7: F F' = (D D') o (X X')
    D = operator.masks().T.astype(float)
    assert np.allclose(operator.dense() @ operator.dense().T, (D @ D.T) * (X @ X.T))


def test_from_numpy_takes_the_library_of_the_data():
    xp = pytest.importorskip("array_api_strict")
    X, masks, signs, operator = random_masked(1, 9, 5, 3, True)
    moved = Masked.from_numpy(xp.asarray(X), pack(masks), signs)
    assert type(moved.bits) is type(moved.X) and moved.bits.dtype == xp.uint8
    W = np.random.default_rng(0).normal(size=(5, 3))
    assert np.asarray(moved.apply(xp.asarray(W))) == pytest.approx(operator.apply(W))
    check = np.asarray(moved.adjoint(xp.asarray(np.arange(9.0))))
    assert check == pytest.approx(operator.adjoint(np.arange(9.0)))


def test_the_gates_of_an_arrangement_give_its_masks():
    X = np.random.default_rng(0).normal(size=(10, 2))
    found = Arrangement.enumerate(X)
    assert np.array_equal(Masked(X, found.bits).masks(), found.masks())
