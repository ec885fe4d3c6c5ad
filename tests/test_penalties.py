"""The group norm: closed forms, Moreau's decomposition, unpenalised coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cvxnn.penalties import BesideMatrix, GroupL2, Penalty

W = np.array([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8]])


def test_by_hand():
    penalty = GroupL2()
    assert penalty.value(W) == pytest.approx(6.0)
    assert penalty.polar(W) == pytest.approx([5.0, 0.0, 1.0])
    assert penalty.prox(W, 1.0) == pytest.approx(np.array([[2.4, 3.2], [0, 0], [0, 0]]))
    assert np.array_equal(penalty.prox(W, 0.0), W)


def test_unpenalised_coordinates():
    penalty = GroupL2(1)
    assert penalty.value(W) == pytest.approx(3.6)
    assert penalty.prox(W, 1.0) == pytest.approx(np.array([[2.0, 4.0], [0, 0], [0, 0.8]]))
    assert penalty.polar(np.array([[2.0, 0.0], [2.0, 0.1]])).tolist() == [2.0, np.inf]


@pytest.mark.parametrize("free", [0, 1])
def test_prox_is_the_minimiser(free):
    penalty, rng = GroupL2(free), np.random.default_rng(0)
    V, step = rng.normal(size=(4, 3)), 0.7

    def value(P):
        return 0.5 * np.sum((P - V) ** 2) + step * penalty.value(P)

    best = penalty.prox(V, step)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(100):
            assert value(best) <= value(best + size * rng.normal(size=V.shape))


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-100, 100)),
    st.floats(0, 100),
    st.sampled_from([0, 1, 3]),
)
def test_moreau(V, step, free):
    """``W = prox_{step g}(W) + projection of W onto step times the polar's ball``."""
    kept = 4 - free
    norms = np.linalg.norm(V[:, :kept], axis=1, keepdims=True)
    ball = np.zeros_like(V)
    ball[:, :kept] = V[:, :kept] * np.minimum(1.0, step / np.where(norms > 0, norms, 1.0))
    assert np.allclose(GroupL2(free).prox(V, step) + ball, V, rtol=0, atol=1e-12 * (1 + np.abs(V).max()))


@pytest.mark.parametrize("free", [0, 1])
def test_cvxpy_agrees(free):
    cp = pytest.importorskip("cvxpy")
    expression = GroupL2(free).to_cvxpy(cp.Constant(W))
    assert expression.value == pytest.approx(GroupL2(free).value(W))


def test_a_penalty_without_cvxpy_says_so():
    class Other(Penalty):
        def value(self, W): ...
        def prox(self, W, step): ...
        def polar(self, G): ...

    with pytest.raises(NotImplementedError, match="Other has no CVXPY form"):
        Other().to_cvxpy(None)


def test_rows_beside_a_matrix():
    """By hand, and Moreau's decomposition of the whole: the last rows are one group."""
    rows, matrix = np.array([[3.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
    both = np.concatenate([rows, matrix])
    assert BesideMatrix(2).value(both) == pytest.approx(5.0 + 3.0)
    assert BesideMatrix(2, 0.5).value(both) == pytest.approx(5.0 + 1.5)
    assert BesideMatrix(2, 0.5).polar(both) == pytest.approx([5.0, 4.0, 4.0])
    shrunk = np.array([[2.4, 3.2], [1.5, 0.0], [0.0, 0.5]])
    assert BesideMatrix(2, 0.5).prox(both, 1.0) == pytest.approx(shrunk)
    rng = np.random.default_rng(0)
    for penalty in (BesideMatrix(3), BesideMatrix(3, 0.2), BesideMatrix(7, 2.0), BesideMatrix(0)):
        for step in (0.0, 0.1, 1.0, 100.0):
            W, V = rng.normal(size=(2, 7, 4))
            P = penalty.prox(W, step)
            R = W - P
            assert np.max(penalty.polar(R)) <= step + 1e-12
            assert np.sum(R * P) == pytest.approx(step * penalty.value(P), abs=1e-10)
            assert np.sum(R * V) <= np.max(penalty.polar(R)) * penalty.value(V) + 1e-12
            assert penalty.value(W + V) <= penalty.value(W) + penalty.value(V) + 1e-12
