"""The polytope of magnitudes: points, vertices, least norm, against hand-made cases and a QP solver."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.polytope import Polytope, TooManyVertices, null_basis


def random_polytope(seed, n=4, k=9):
    """Columns with a positive sum functional, so that the polytope is bounded, and a point."""
    rng = np.random.default_rng(seed)
    columns = np.vstack([rng.normal(size=(n - 1, k)), rng.uniform(0.5, 1.5, k)])
    start = np.where(rng.random(k) < 0.6, rng.random(k), 0.0)
    start[0] = 0.3
    return Polytope(columns, start)


def test_a_simplex():
    polytope = Polytope(np.ones((1, 3)), np.array([0.5, 0.5, 0.0]))
    assert polytope.dimension == 2 and np.all(polytope.support)
    assert np.allclose(polytope.vertices(), np.eye(3))
    assert np.allclose(polytope.least_norm(), 1 / 3)
    assert np.allclose(polytope.extreme(np.array([3.0, 1.0, 2.0])), [0, 1, 0])
    assert np.sum(polytope.prune(polytope.start, np.ones(3)) > 0) == 1


def test_a_coefficient_that_must_be_zero_is_no_dimension():
    # the last column points out of the cone of the others: it can only be zero
    columns = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    polytope = Polytope(columns, np.array([0.25, 0.75, 0.0]))
    assert polytope.dimension == 1
    assert polytope.support.tolist() == [True, True, False]
    # equal and opposite columns at zero: the null vector exists, a nonnegative direction does not
    point = Polytope(np.array([[1.0, 1.0, 2.0], [1.0, -1.0, 0.0]]), np.array([1.0, 0.0, 0.0]))
    assert point.dimension == 0 and point.support.tolist() == [True, False, False]


@pytest.mark.parametrize("seed", range(8))
def test_points_of_random_polytopes(seed):
    polytope = random_polytope(seed)
    vertices = polytope.vertices()
    points = [*vertices, *polytope.sample(5, np.random.default_rng(seed)), polytope.least_norm()]
    for a in points:
        assert np.min(a) >= 0
        assert np.allclose(polytope.columns @ a, polytope.columns @ polytope.start, atol=1e-12)
    for v in vertices:
        used = polytope.columns[:, v > 0]
        assert np.linalg.matrix_rank(used) == used.shape[1]
    # pruning ends in one of the vertices, and does not raise the cost
    for cost in (np.ones(9), np.arange(1.0, 10.0)):
        pruned = polytope.prune(polytope.start, cost)
        assert np.min(np.max(np.abs(vertices - pruned), axis=1)) <= 1e-9
        assert cost @ pruned <= cost @ polytope.start + 1e-12
    # a linear functional is smallest at a vertex
    weight = np.random.default_rng(seed).normal(size=9)
    assert weight @ polytope.extreme(weight) == pytest.approx(np.min(vertices @ weight), abs=1e-9)
    # every sampled point is a mixture of the vertices
    assert np.max(np.abs(null_basis(polytope.columns).T @ null_basis(polytope.columns) - np.eye(5))) < 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_the_least_norm_against_another_solver(seed):
    cp = pytest.importorskip("cvxpy")
    polytope = random_polytope(seed)
    a = cp.Variable(9, nonneg=True)
    equal = polytope.columns @ a == polytope.columns @ polytope.start
    cp.Problem(cp.Minimize(cp.sum_squares(a)), [equal]).solve(solver="CLARABEL")
    found = polytope.least_norm()
    assert np.allclose(found, a.value, atol=1e-6)
    assert np.sum(found**2) <= np.sum(a.value**2) + 1e-9


def test_too_many_vertices():
    polytope = Polytope(np.ones((1, 30)), np.ones(30))
    assert polytope.dimension == 29
    with pytest.raises(TooManyVertices, match="dimension 29"):
        polytope.vertices(limit=10)
