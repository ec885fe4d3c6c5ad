"""Masked operators: the definition by hand, the adjoint, chunks, packed patterns, the norm's bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.arrangement import Arrangement, pack
from cvxnn.operators import Masked, spread
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spread_is_unpackbits(dtype):
    bits = np.random.default_rng(0).integers(0, 256, (5, 4), dtype=np.uint8)
    for n in (25, 31, 32):
        out = spread(bits, n, dtype)
        assert out.dtype == dtype and np.array_equal(out, np.unpackbits(bits, axis=1, count=n))
    assert spread(bits[:0], 25, dtype).shape == (0, 25)


@pytest.mark.parametrize("n", [1, 8, 100, 333])
def test_many_tiles_are_as_good_as_one(n, monkeypatch):
    operator = random_masked(0, n, 17, 3, True)[-1]
    rng = np.random.default_rng(1)
    W, Z = rng.normal(size=(17, 3)), rng.normal(size=n)
    f, G, bound = operator.apply(W), operator.adjoint(Z), operator.norm_bound()
    monkeypatch.setattr("cvxnn.operators.TILE", 64)
    assert operator.apply(W) == pytest.approx(f, abs=1e-12)
    assert operator.adjoint(Z) == pytest.approx(G, abs=1e-12)
    assert operator.norm_bound() == bound


def test_taking_groups():
    operator = random_masked(2, 12, 9, 3, True)[-1]
    groups = np.array([7, 2])
    assert np.array_equal(
        operator.take(groups).dense().reshape(12, 2, 3), operator.dense().reshape(12, 9, 3)[:, groups]
    )
    # a few groups that are not zero: the others are left out of the product
    W = np.zeros((9, 3))
    W[groups] = 1.5
    assert operator.apply(W) == pytest.approx(operator.dense() @ W.ravel())
    assert not np.any(operator.apply(0 * W))


def test_the_remembered_product_is_nobodys_to_change():
    operator = random_masked(3, 12, 9, 3, True)[-1]
    Z = np.arange(12.0)
    first = operator.adjoint(Z)
    again = operator.adjoint(Z)
    again[:] = 7.0
    assert np.array_equal(operator.adjoint(Z.copy()), first)
    Z[3] = 99.0
    fresh = operator.dense().T @ Z
    assert operator.adjoint(Z).ravel() == pytest.approx(fresh)


@pytest.mark.parametrize("signed", [False, True])
def test_kept_masks_change_no_product(signed, monkeypatch):
    rng = np.random.default_rng(0)
    X, masks = rng.normal(size=(30, 4)), rng.random((9, 30)) < 0.5
    signs = rng.choice([-1.0, 1.0], 9) if signed else None
    W, Z = rng.normal(size=(9, 4)), rng.normal(size=30)
    small = Masked(X, pack(masks), signs)
    assert small.whole() is small.whole() is not None
    kept = small.apply(W), small.adjoint(Z), small.pattern(5)
    monkeypatch.setattr("cvxnn.operators.TILE", 64)
    tiled = Masked(X, pack(masks), signs)
    assert tiled.whole() is None
    for one, other in zip(kept, (tiled.apply(W), tiled.adjoint(Z), tiled.pattern(5)), strict=True):
        assert np.allclose(one, other, rtol=1e-13, atol=1e-13)
