"""Growing networks: the smoothed layer, anneals, merges and insertions."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import vector_growth
from cvxnn.architectures.relu import ReLU
from cvxnn.blocks import Blocks
from cvxnn.descent import Layer, descend
from cvxnn.growth import Rows, anneal, collinear, insert, magnitudes, merge, objective, random_rows
from cvxnn.losses import get_loss
from cvxnn.oracles import Design, SearchOracle
from cvxnn.positive_lasso import positive_lasso
from cvxnn.pricing import search
from cvxnn.program import Problem
from cvxnn.train import train

CASES = [
    (loss, intercept, free)
    for loss in ("squared_error", "log_loss")
    for intercept, free in ((False, 0), (True, 0), (True, 1))
]


def setting(loss="squared_error", intercept=False, free=0, n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    y = np.abs(X[:, 0]) - X[:, 1] * (X[:, 2] > 0)
    y = np.where(y > 0.5, 1.0, -1.0) if loss == "log_loss" else y
    problem = Problem.from_alpha(X, y, rng.uniform(0.5, 2.0, n), get_loss(loss), 0.02, intercept)
    full = np.column_stack([problem.X, np.ones(len(problem.y))]) if free else problem.X
    return problem, Design.reduce(full, free), rng


@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("mu", [0.0, 1e-3, 0.5])
def test_the_smoothed_layer(mu, free):
    """A parabola in the band, the ReLU outside; in the units of every pair; slopes are derivatives."""
    rng = np.random.default_rng(1)
    X, U, a = rng.normal(size=(30, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
    kept = 4 - free
    size = np.linalg.norm(U[:, :kept], axis=1)
    layer = Layer(X, size, free, mu)
    T = X @ U.T
    band = np.maximum(mu * np.outer(np.linalg.norm(X[:, :kept], axis=1), size), 1e-300)
    inside = (T + band) ** 2 / (4 * band)
    expected = np.where(np.abs(T) < band, inside, np.maximum(T, 0.0))
    assert layer.forward(U, a) == pytest.approx(expected @ a, rel=1e-12, abs=1e-12)
    slope = rng.normal(size=30)
    gU, ga = layer.backward(slope, a)
    for i, j in ((0, 0), (2, 3), (4, 1)):
        step = np.zeros_like(U)
        step[i, j] = 1e-6
        difference = slope @ (layer.forward(U + step, a) - layer.forward(U - step, a)) / 2e-6
        assert gU[i, j] == pytest.approx(difference, rel=1e-5, abs=1e-6)
    assert ga == pytest.approx(expected.T @ slope)


def test_rows_of_zeros_do_not_divide():
    X = np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    for data in (X, 0.0 * X):
        U, a, _ = descend(
            data,
            np.ones(3),
            np.ones(3),
            get_loss("squared_error"),
            0.1,
            np.ones((2, 2)),
            np.ones(2),
            smoothing=0.1,
        )
        assert np.all(np.isfinite(U)) and np.all(np.isfinite(a))


@pytest.mark.parametrize(("loss", "intercept", "free"), CASES)
def test_annealing_comes_close_to_the_optimum(loss, intercept, free):
    problem, design, rng = setting(loss, intercept, free)
    bias = "free" if free else None
    best = train(problem, ReLU(hidden_bias=bias), tol=1e-6, bound_iter=0).certificate.objective
    rows = random_rows(problem, design, 100, rng)
    plain = descend(
        design.X,
        problem.y,
        problem.weights,
        problem.loss,
        problem.beta,
        rows.U / np.sqrt(design.norms(rows.U))[:, None],
        rows.signs * np.sqrt(design.norms(rows.U)),
        intercept=intercept,
        free=free,
        max_iter=150,
    )
    for mu in (0.1, 0.03, 0.01, 1e-3, 1e-4):
        rows = anneal(problem, design, rows, mu, 150)
    value = objective(problem, design, rows) / problem.total_weight
    assert best * (1 - 1e-6) <= value <= best * 1.01
    # merging leaves far fewer neurons than descent without it
    alive = np.linalg.norm(plain[0], axis=1) * np.abs(plain[1])
    assert len(rows.signs) < np.sum(alive > 1e-5 * np.max(alive))


def test_merging_keeps_function_and_cost():
    rng = np.random.default_rng(2)
    X, base = rng.normal(size=(20, 3)), rng.normal(size=(2, 3))
    rows = Rows(np.concatenate([base, 2 * base, 3 * base]), np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0]))
    design = Design.reduce(X, 0)
    small = merge(rows, design, 1e-9)
    assert len(small.signs) == 3
    assert small.apply(design) == pytest.approx(rows.apply(design))
    assert np.sum(design.norms(small.U)) == pytest.approx(np.sum(design.norms(rows.U)))


@pytest.mark.filterwarnings("error")
def test_opposite_neurons_with_large_biases_do_not_cancel():
    design = Design.reduce(np.column_stack([np.linspace(-1.0, 1.0, 5), np.ones(5)]), 1)
    U = np.array([[1.0, 100.0], [-1.0, 100.0]])
    assert len(merge(Rows(U, np.ones(2)), design, 0.03)) == 2
    rows = vector_growth.Rows(U, np.array([[0.0, 1.0], [0.0, 1.0]]))
    for coupling in vector_growth.Coupling:
        small = vector_growth.merge(rows, design, coupling, 0.03)
        assert small.U[:, 0] == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize(("loss", "intercept", "free"), CASES)
def test_inserting_solves_the_lasso(loss, intercept, free):
    """Better, sparse, and as good as another solver makes it."""
    problem, design, rng = setting(loss, intercept, free)
    rows = anneal(problem, design, random_rows(problem, design, 5, rng), 0.01, 20)
    f = rows.apply(design)
    found = search(design.X, problem.residual(f), free=free, exact=False, random_state=rng)
    assert np.sum(found.values > problem.beta) > 1
    more = insert(problem, design, rows, found)
    assert objective(problem, design, more) < objective(problem, design, rows)
    assert len(more.signs) < len(rows.signs) + np.sum(found.values > problem.beta)
    cp = pytest.importorskip("cvxpy")
    out = found.values > problem.beta
    V = np.concatenate([rows.U / design.norms(rows.U)[:, None], found.directions[out]])
    A = np.maximum(design.X @ V.T, 0.0) * np.concatenate([rows.signs, found.signs[out]])
    x, c = cp.Variable(A.shape[1], nonneg=True), cp.Variable() if intercept else 0.0
    cost = problem.loss.to_cvxpy(A @ x + c, problem.y, problem.weights) + problem.beta * cp.sum(x)
    best = cp.Problem(cp.Minimize(cost)).solve(solver=cp.CLARABEL)
    # to the accuracy that the next anneal can use
    assert objective(problem, design, more) == pytest.approx(best, rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_magnitudes_survive_steps_that_overflow():
    rng = np.random.default_rng(2)
    A = 1e5 * np.maximum(rng.normal(size=(8, 2)), 0.0) * np.array([1.0, -1.0])
    y = rng.poisson(2.0, 8).astype(float)
    problem = Problem(A, y, np.ones(8), get_loss("poisson"), 1.0, True)
    x = magnitudes(problem, A, np.zeros(2))
    assert np.all(np.isfinite(x)) and np.all(x >= 0.0)


def test_proposals_are_as_good_as_they_say():
    """Neurons carry the value they have, in the pattern they lie in or, solved for, on the border of."""
    problem, design, rng = setting()
    oracle = SearchOracle(problem, design)
    Z = problem.residual(np.zeros_like(problem.y))
    for reach in (1, 4):
        found = oracle.propose(Z, design.X[:0], rng, reach)
        assert np.linalg.norm(found.directions, axis=1) == pytest.approx(1.0)
        T = design.X @ found.directions.T
        inside = np.abs(T.T) > (1e-9 if reach > 1 else 0.0)
        assert np.array_equal((T.T > 0) & inside, found.masks & inside)
        assert found.values == pytest.approx(found.signs * (Z @ np.maximum(T, 0.0)), rel=1e-5)
        # as good as the exact search, up to the precision of ascent
        assert found.best == pytest.approx(search(design.X, Z, random_state=rng).best, rel=1e-3)


def test_blocks_add_up_neurons_of_one_pattern():
    X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    rows = Rows(
        np.array([[1.0, 2.0], [3.0, 1.0], [1.0, 1.0], [-1.0, -2.0]]), np.array([1.0, 1.0, -1.0, 1.0])
    )
    blocks = Blocks.of(Design(X, np.eye(2)), rows)
    assert len(blocks.signs) == 3
    assert blocks.W[0].tolist() == [4.0, 3.0] and blocks.signs.tolist() == [1.0, -1.0, 1.0]
    assert blocks.masks.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_training_reports_between_programs_and_starts_from_a_network():
    problem, _, _ = setting(n=40)
    moments = []
    first = train(problem, ReLU(hidden_bias=None), bound_iter=0, callback=moments.append)
    assert all(m.network is not None for m in moments) and moments[0].seconds < moments[-1].seconds
    values = [problem.value(m.network(problem.X), ReLU(hidden_bias=None).cost(m.network)) for m in moments]
    stated = [m.objective * problem.total_weight for m in moments]
    assert values == pytest.approx(stated, rel=1e-9)
    again = train(
        problem, ReLU(hidden_bias=None), bound_iter=0, start=first.network, callback=moments.append
    )
    assert again.certificate.objective == pytest.approx(first.certificate.objective, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("intercept", [False, True])
def test_magnitudes_of_counts_do_not_depend_on_units(scale, intercept):
    rng = np.random.default_rng(11)
    A = np.maximum(rng.normal(size=(40, 4)) @ rng.normal(size=(4, 20)), 0.0) * rng.choice([-1.0, 1.0], 20)
    y = rng.poisson(np.exp(0.5 * rng.normal(size=40))).astype(float)
    problem = Problem(A, y, np.ones(40), get_loss("poisson"), 0.5 * scale, intercept)
    sizes = []
    for solve in (magnitudes, positive_lasso):
        x = solve(problem, scale * A, np.zeros(20))
        f = scale * A @ x
        f = f + problem.loss.intercept(f, y, problem.weights) if intercept else f
        sizes.append(problem.value(f, float(np.sum(x))))
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-5) and sizes[0] < 0.95 * problem.null_value()


@pytest.mark.parametrize("free", [0, 1])
def test_groups_of_directions_are_those_of_all_pairs(free):
    """Most rows are told apart by one mean of their entries; that must lose no pair."""
    rng = np.random.default_rng(free)
    for _ in range(60):
        W = rng.normal(size=(rng.integers(1, 40), rng.integers(2, 8))) * 10.0 ** rng.integers(-8, 8)
        tol = 10.0 ** rng.integers(-9, 0)
        twins = W[rng.integers(0, len(W), 15)] * rng.uniform(0.5, 2.0, (15, 1))
        W = np.concatenate([W, twins * (1.0 + tol * rng.normal(size=twins.shape))])
        W[:, -1] *= 10.0 ** rng.integers(-3, 5) if free else 1.0
        signs = rng.choice([-1.0, 1.0], len(W))
        size = np.linalg.norm(W[:, : W.shape[1] - free], axis=1)
        D = W / size[:, None]
        left, expected = list(np.argsort(-size, kind="stable")), []
        while left:
            lead, V = left[0], D[:, : D.shape[1] - free]
            near = tol * np.max(np.abs(D[lead]))
            group = [
                k
                for k in left
                if np.max(np.abs(D[k] - D[lead])) <= near and signs[k] == signs[lead] and V[k] @ V[lead] > 0
            ]
            expected.append(group)
            left = [k for k in left if k not in group]
        assert [list(group) for group in collinear(W, signs, free, tol)] == expected
