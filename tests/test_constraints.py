"""Cones of patterns: projections, Moreau's decomposition, prices, unpenalised coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.arrangement import Arrangement, pack
from cvxnn.constraints import Free, ReLUCones, cone_margin, project_cone


def random_cone(seed, n, d):
    """Data, the signs of a cell that is not empty, and a vector."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-2, 2, (n, 1))
    sign = np.where(X @ rng.normal(size=d) > 0, 1.0, -1.0)
    return X, sign, rng.normal(size=d)


@given(seed=st.integers(0, 2**16), n=st.integers(1, 12), d=st.integers(1, 5))
def test_projection_satisfies_moreau(seed, n, d):
    """``g = r - A'rho``: r in the cone, -A'rho in its polar cone, and they are orthogonal."""
    X, sign, g = random_cone(seed, n, d)
    r, rho = project_cone(X, sign, g)
    A = sign[:, None] * X
    size = np.linalg.norm(g)
    assert np.all(rho >= 0)
    assert np.allclose(r, g + rho @ A, atol=1e-10 * size)
    assert np.min(A @ r / np.linalg.norm(A, axis=1)) >= -1e-10 * size
    assert abs(r @ (r - g)) <= 1e-10 * size**2
    assert np.allclose(project_cone(X, sign, r)[0], r, atol=1e-9 * size)


@pytest.mark.parametrize("seed", range(8))
def test_projection_against_a_quadratic_program(seed):
    cp = pytest.importorskip("cvxpy")
    X, sign, g = random_cone(seed, 8, 3)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    u = cp.Variable(3)
    cone = [cp.multiply(sign, X @ u) >= 0]
    cp.Problem(cp.Minimize(cp.sum_squares(u - g)), cone).solve(solver="CLARABEL")
    assert np.allclose(project_cone(X, sign, g)[0], u.value, atol=1e-5)
    # the price of the cell is the norm of the projection
    price = cp.Problem(cp.Maximize(g @ u), [*cone, cp.norm(u) <= 1]).solve(solver="CLARABEL")
    assert np.linalg.norm(project_cone(X, sign, g)[0]) == pytest.approx(price, abs=1e-6)


def test_by_hand():
    X, sign = np.eye(2), np.array([1.0, -1.0])
    assert project_cone(X, sign, np.array([2.0, 3.0]))[0] == pytest.approx([2.0, 0.0])
    assert project_cone(X, sign, np.array([-2.0, 3.0]))[0] == pytest.approx([0.0, 0.0])
    inside = np.array([1.0, -1.0])
    r, rho = project_cone(X, sign, inside)
    assert np.array_equal(r, inside) and not rho.any()


def test_zero_rows_and_zero_vectors():
    X, sign = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([-1.0, 1.0])
    assert project_cone(X, sign, np.array([-1.0, 5.0]))[0] == pytest.approx([0.0, 5.0])
    assert project_cone(X, sign, np.zeros(2))[0].tolist() == [0.0, 0.0]
    assert project_cone(0 * X, sign, np.array([-1.0, 5.0]))[0].tolist() == [-1.0, 5.0]


@given(seed=st.integers(0, 2**16), scale=st.floats(0, 10))
def test_any_multipliers_bound_the_price(seed, scale):
    """For every rho >= 0 the norm of ``g + A'rho`` is at least what any neuron of the cell is worth."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(7, 3))
    gates = rng.normal(size=(4, 3))
    bits = pack(gates @ X.T >= 0)
    cones, G = ReLUCones(X, bits), rng.normal(size=(4, 3))
    exact = np.linalg.norm(cones.price(G), axis=1)
    any_bound = np.linalg.norm(cones.price(G, scale * rng.random((4, 7))), axis=1)
    assert np.all(any_bound >= exact * (1 - 1e-10))
    inside = cones.project(rng.normal(size=(4, 3)))
    norms = np.linalg.norm(inside, axis=1)
    worth = np.where(norms > 1e-9, np.sum(G * inside, axis=1) / np.maximum(norms, 1e-9), 0.0)
    assert np.all(worth <= exact + 1e-9)
    # negative multipliers prove nothing and are not used
    assert np.array_equal(cones.price(G, -rng.random((4, 7))), G)


@pytest.mark.parametrize("seed", range(6))
def test_price_with_an_unpenalised_bias(seed):
    """The smallest norm of the penalised part with vanishing free part, against a cone program."""
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.normal(size=(8, 2)), np.ones(8)])
    Z = rng.normal(size=8)
    Z -= Z.mean()
    gate = np.append(rng.normal(size=2), 0.3 * rng.normal())
    sign = np.where(X @ gate > 0, 1.0, -1.0)
    g = X.T @ (Z * (sign > 0))
    u = cp.Variable(3)
    price = cp.Problem(cp.Maximize(g @ u), [cp.multiply(sign, X @ u) >= 0, cp.norm(u[:2]) <= 1]).solve(
        solver="CLARABEL"
    )
    r, rho = project_cone(X, sign, g, free=1)
    assert np.all(rho >= 0) and np.allclose(r, g + (rho * sign) @ X)
    assert abs(r[2]) <= 1e-9
    assert np.linalg.norm(r[:2]) == pytest.approx(price, abs=1e-6)


def test_violation():
    X = np.eye(2)
    cones = ReLUCones(X, pack(np.array([[True, False]])))
    assert cones.violation(np.array([[1.0, -1.0]])) == 0.0
    assert cones.violation(np.array([[1.0, 0.5]])) == 0.5
    assert cones.violation(np.array([[100.0, 50.0]])) == 0.5  # relative
    assert cones.violation(np.zeros((1, 2))) == 0.0
    assert ReLUCones(X, pack(np.zeros((0, 2), bool))).violation(np.zeros((0, 2))) == 0.0
    assert Free().violation(np.array([[-1.0]])) == 0.0 and Free().to_cvxpy(None) == []


def test_projecting_groups_makes_them_feasible():
    X = np.random.default_rng(0).normal(size=(9, 2))
    found = Arrangement.enumerate(X)
    cones = ReLUCones(X, found.bits)
    W = np.random.default_rng(1).normal(size=(len(found), 2))
    assert cones.violation(W) > 0.1 and cones.violation(cones.project(W)) <= 1e-12
    assert np.array_equal(Free().project(W), W) and np.array_equal(Free().price(W), W)


def test_the_gates_are_inside_their_cells():
    X = np.random.default_rng(0).normal(size=(9, 3))
    found = Arrangement.enumerate(X)
    for mask, gate in zip(found.masks(), found.gates, strict=True):
        assert cone_margin(X, np.where(mask, 1.0, -1.0), gate) > 0
    assert cone_margin(np.zeros((2, 3)), np.ones(2), np.ones(3)) == np.inf
