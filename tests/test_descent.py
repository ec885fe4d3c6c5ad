"""Local descent: it goes down, balances, repeats itself, and survives degenerate data."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import growth, vector_growth
from cvxnn.descent import descend, start
from cvxnn.families import get_architecture
from cvxnn.losses import get_loss
from cvxnn.program import Problem

LOSSES = [get_loss("squared_error"), get_loss("log_loss")]


def problem(loss, seed=0, n=25, free=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = np.sign(X[:, 0] * X[:, 1]) if loss.classification else np.abs(X[:, 0]) - X[:, 1]
    X = np.column_stack([X, np.ones(n)]) if free else X
    return X, y, rng.uniform(0.5, 2, n), rng


def value(X, y, s, loss, beta, U, a, c, free):
    kept = X.shape[1] - free
    decay = 0.5 * np.sum(U[:, :kept] ** 2) + 0.5 * np.sum(a**2)
    return loss.value(np.maximum(X @ U.T, 0.0) @ a + c, y, s) + beta * decay


@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_descent_goes_down_and_balances(loss, intercept, free):
    X, y, s, rng = problem(loss, free=free)
    U0, a0 = start(X, y, s, 12, free, rng)
    beta = 0.05
    values = [value(X, y, s, loss, beta, U0, a0, 0.0, free)]
    for steps in (5, 50, 2000):
        U, a, c = descend(X, y, s, loss, beta, U0, a0, intercept=intercept, free=free, max_iter=steps)
        values.append(value(X, y, s, loss, beta, U, a, c, free))
        assert U.shape == U0.shape and a.shape == a0.shape and (intercept or c == 0.0)
    assert np.all(np.diff(values) <= 1e-9) and values[-1] < 0.5 * values[0]
    # near a stationary point the two layers have about the same norm, and the intercept is the best
    size = np.linalg.norm(U[:, : X.shape[1] - free])
    assert size == pytest.approx(np.linalg.norm(a), rel=0.05)
    if intercept:
        f = np.maximum(X @ U.T, 0.0) @ a
        best = loss.value(f + loss.intercept(f, y, s), y, s)
        assert loss.value(f + c, y, s) <= best + 1e-3 * values[-1]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_gradient_is_right(loss):
    """From a smooth point one tiny step of descent follows minus the numerical gradient."""
    X, y, s, rng = problem(loss)
    U0, a0 = start(X, y, s, 2, 0, rng)
    U, a, _ = descend(X, y, s, loss, 0.1, U0, a0, max_iter=1)
    step = np.append((U - U0).ravel(), a - a0)
    gradient = np.zeros_like(step)
    for i in range(len(step)):
        values = []
        for h in (1e-6, -1e-6):
            v = np.append(U0.ravel(), a0)
            v[i] += h
            values.append(value(X, y, s, loss, 0.1, v[:-2].reshape(2, 3), v[-2:], 0.0, 0))
        gradient[i] = (values[0] - values[1]) / 2e-6
    cosine = -step @ gradient / np.linalg.norm(step) / np.linalg.norm(gradient)
    assert cosine == pytest.approx(1.0, abs=1e-6)


def test_starts_are_balanced_and_repeatable():
    X, y, s, _ = problem(LOSSES[0])
    U, a = start(X, y, s, 9, 0, np.random.default_rng(3))
    again = start(X, y, s, 9, 0, np.random.default_rng(3))
    assert np.array_equal(U, again[0]) and np.array_equal(a, again[1])
    assert np.allclose(np.linalg.norm(U, axis=1), np.abs(a)) and {-1, 1} == set(np.sign(a))
    one, two = (descend(X, y, s, LOSSES[0], 0.1, U, a) for _ in range(2))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])


@pytest.mark.parametrize("X", [np.zeros((4, 2)), np.ones((4, 2)), 1e-9 * np.ones((4, 2))])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_degenerate_data(loss, X):
    y, s, rng = np.array([1.0, -1.0, 1.0, 1.0]), np.ones(4), np.random.default_rng(0)
    U, a = start(X, y, s, 4, 0, rng)
    U, a, c = descend(X, y, s, loss, 0.1, U, a, intercept=True)
    assert np.all(np.isfinite(U)) and np.all(np.isfinite(a)) and np.isfinite(c)
    null = loss.value(np.full(4, loss.intercept(np.zeros(4), y, s)), y, s)
    assert value(X, y, s, loss, 0.1, U, a, c, 0) <= null * (1 + 1e-6)


def test_absurd_steps_raise_no_warning():
    """A line search may try weights whose outputs overflow; that is its own matter."""
    X, y = np.column_stack([np.zeros((4, 2)), np.ones(4)]), np.arange(4.0)
    U, a = start(X, y, np.ones(4), 8, 0, np.random.default_rng(0))
    U, a, _ = descend(X, y, np.ones(4), LOSSES[0], 0.4, U, a, intercept=True)
    assert np.all(np.isfinite(U))


@pytest.mark.parametrize("unit", [1e-50, 1e-12, 1e12])
@pytest.mark.parametrize("of", ["targets", "samples"])
def test_descent_does_not_depend_on_units(unit, of):
    """L-BFGS fails in its first line search where weights are of another size than its first step."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    Y = np.maximum(X @ rng.normal(size=(4, 3)), 0.0) @ rng.normal(size=(3, 2))
    ends = []
    for scale in (1.0, unit):
        A, B = (scale * X, Y) if of == "samples" else (X, scale * Y)
        for y in (B[:, 0], B):
            loss = get_loss("squared_error", y[0].size)
            problem = Problem.from_alpha(A, y, None, loss, 0.05 * scale, True)
            growth_of = growth if y.ndim == 1 else vector_growth
            family = get_architecture(
                "relu", "penalized" if of == "targets" else None, "auto", y[0].size
            ).on(problem)
            design, more = family.design(problem), () if y.ndim == 1 else (vector_growth.Coupling.joint,)
            rows = growth_of.random_rows(problem, design, *more, 20, np.random.default_rng(0))
            nothing = growth_of.objective(problem, design, rows.take(np.zeros(len(rows), dtype=bool)))
            rows = growth_of.anneal(problem, design, *more, rows, 1e-2, 200)
            ends.append(growth_of.objective(problem, design, rows) / nothing)
    assert ends[2:] == pytest.approx(ends[:2], rel=1e-2) and max(ends) < 0.9
