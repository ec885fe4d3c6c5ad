"""The proven bounds are never beaten: by directions, by networks, at any stop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from cvxnn.bounds import DualProof, improve_dual, oracle_bound
from cvxnn.bounds_envelopes import Envelope, certify, scale_rows
from cvxnn.losses import get_loss


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(limits=1, user_api="blas"):
        yield


SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")


def brute_force(X, theta, free=0, count=20000, seed=0):
    """Largest |theta'(Xu)_+| over many unit directions, refined from the best by iteration."""
    rng = np.random.default_rng(seed)
    d = X.shape[1] - free
    U = rng.normal(size=(count, d))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    if free:  # the value is piecewise linear in the bias, so its kinks are enough
        pick = X[rng.integers(len(X), size=count), :d]
        U = np.hstack([U, -np.sum(pick * U, axis=1, keepdims=True)])
    values = np.abs(theta @ np.maximum(X @ U.T, 0.0))
    best = float(values.max(initial=0.0))
    for k in np.argsort(values)[-20:]:
        u = U[k].copy()
        for sign in (1.0, -1.0):
            for _ in range(30):
                g = sign * X[:, :d].T @ (theta * (X @ u > 0))
                if np.linalg.norm(g) == 0:
                    break
                u[:d] = g / np.linalg.norm(g)
                best = max(best, float(abs(theta @ np.maximum(X @ u, 0.0))))
    return best


def network_objective(X, y, s, loss, beta, *, free=0, intercept=False, width=8, starts=4, seed=0):
    """Objective of the best network found by L-BFGS from several starts."""
    rng = np.random.default_rng(seed)
    d, best = X.shape[1], loss.value(np.zeros(len(y)), y, s)

    def parts(v):
        W, a = v[: d * width].reshape(d, width), v[d * width : -1]
        c = v[-1] if intercept else 0.0
        return W, a, np.maximum(X @ W, 0.0) @ a + c

    def cost(v):
        W, a, f = parts(v)
        g, H = loss.gradient(f, y, s), np.maximum(X @ W, 0.0)
        P = W.copy()
        P[d - free :] = 0.0
        value = loss.value(f, y, s) + 0.5 * beta * (np.sum(P**2) + a @ a)
        dW = X.T @ (np.outer(g, a) * (H > 0)) + beta * P
        return value, np.r_[dW.ravel(), H.T @ g + beta * a, np.sum(g) if intercept else 0.0]

    for _ in range(starts):
        found = minimize(cost, rng.normal(size=d * width + width + 1), jac=True, method="L-BFGS-B")
        W, a, f = parts(found.x)
        norms = np.linalg.norm(W[: d - free], axis=0)
        best = min(best, loss.value(f, y, s) + beta * float(norms @ np.abs(a)))
    return best


def problem(seed, n, d, free=0, classes=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if seed % 3 == 1:
        X[rng.integers(n, size=max(n // 4, 1))] = 0.0
    if seed % 3 == 2:
        X[-1] = X[0]
    y = rng.normal(size=n)
    if classes:
        y = np.where(y > 0, 1.0, -1.0)
        y[0], y[-1] = 1.0, -1.0
    X = np.hstack([X, np.ones((n, 1))]) if free else X
    return X, y, rng.uniform(0.3, 2.0, size=n), rng.normal(size=n)


cases = {
    "seed": st.integers(0, 10**6),
    "n": st.integers(2, 40),
    "d": st.integers(1, 4),
    "free": st.integers(0, 1),
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(**cases, stop=st.sampled_from([0, 1, 3, 40]))
def test_no_direction_beats_the_oracle_bound(seed, n, d, free, stop):
    X, _, _, theta = problem(seed, n, d, free)
    theta = SQUARED.balance(theta) if free else theta
    bound = oracle_bound(X, theta, free=free, max_iter=stop)
    assert bound >= brute_force(X, theta, free, count=4000, seed=seed) * (1 - 1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 20), d=st.integers(1, 4))
def test_any_envelope_proves_a_bound(seed, n, d):
    X, _, _, theta = problem(seed, max(n, 2), d)
    rng, n = np.random.default_rng(seed), max(n, 2)
    scaled = scale_rows(X, 0)
    if scaled.rows is None:
        return
    size = 10.0 ** rng.uniform(-3, 3)
    A, B = size * rng.normal(size=(2, n)), size * rng.normal(size=(2, n))
    value = certify(scaled, Envelope(theta, A, B, np.ones((2, 1)))) * scaled.scale
    assert value.max() >= brute_force(X, theta, count=2000, seed=seed) * (1 - 1e-12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(**cases, classes=st.booleans(), intercept=st.booleans(), stop=st.sampled_from([0, 1, 3, 40]))
def test_no_network_beats_the_dual_bound(seed, n, d, free, classes, intercept, stop):
    X, y, s, theta = problem(seed, n, d, free, classes)
    loss = LOGISTIC if classes else SQUARED
    beta = 10.0 ** np.random.default_rng(seed).uniform(-1.5, 0.5)
    proof = improve_dual(X, y, s, loss, beta, theta, free=free, intercept=intercept, max_iter=stop)
    best = network_objective(
        X, y, s, loss, beta, free=free, intercept=intercept or bool(free), starts=2, seed=seed
    )
    assert proof.bound <= best + 1e-9 * abs(best)
    assert proof.value <= beta * (1 + 1e-12)
    assert proof.bound == loss.dual(proof.theta, y, s)
    assert brute_force(X, proof.theta, free, count=2000) <= beta * (1 + 1e-9)
    if intercept or free:
        assert abs(proof.theta.sum()) <= 1e-13 * np.abs(proof.theta).sum() + 1e-300


def start_bound(X, y, s, loss, beta, theta, **options):
    return improve_dual(X, y, s, loss, beta, theta, max_iter=0, **options).bound


@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC], ids=["squared", "logistic"])
def test_every_stop_is_valid_and_no_worse_than_the_start(loss, free):
    X, y, s, theta = problem(3, 30, 3, free, loss is LOGISTIC)
    theta = loss.balance(-loss.gradient(0.1 * theta, y, s))
    best = network_objective(X, y, s, loss, 0.5, free=free, intercept=bool(free))
    start = start_bound(X, y, s, loss, 0.5, theta, free=free)
    for options in ({"max_iter": 1}, {"max_iter": 7}, {"max_time": 1e-9}, {"max_time": 0.02}, {}):
        proof = improve_dual(X, y, s, loss, 0.5, theta, free=free, **options)
        assert start <= proof.bound <= best * (1 + 1e-9)


def circle_optimum(X, y, s, beta, count=1440):
    """Training optimum over the neurons of a fine grid of angles, both signs."""
    phi = np.linspace(0, 2 * np.pi, count, endpoint=False)
    H = np.maximum(X @ np.stack([np.cos(phi), np.sin(phi)]), 0.0)
    H = np.hstack([H, -H])
    Hs = H * s[:, None]

    def cost(v):
        r = H @ v - y
        return 0.5 * s @ r**2 + beta * v.sum(), Hs.T @ r + beta

    found = minimize(
        cost,
        np.zeros(2 * count),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * count),
        options={"maxiter": 2000},
    )
    return found.fun


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_two_features_against_enumerated_angles(seed):
    X, y, s, _ = problem(seed, 15, 2)
    beta = 0.3 * oracle_bound(X, s * y)
    best = circle_optimum(X, y, s, beta)
    proof = improve_dual(X, y, s, SQUARED, beta, s * y)
    assert 0.9 * best <= proof.bound <= best * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-140, 1e-8, 1.0, 1e8, 1e140])
@pytest.mark.parametrize("free", [0, 1])
def test_the_bound_scales_with_the_data(scale, free):
    X, y, s, theta = problem(6, 25, 3, free)
    theta = SQUARED.balance(theta) if free else theta
    Z = X.copy()
    Z[:, :3] *= scale
    expected = oracle_bound(X, theta, free=free)
    assert oracle_bound(Z, theta, free=free) == pytest.approx(scale * expected, rel=1e-4)
    assert oracle_bound(X, scale * theta, free=free) == pytest.approx(scale * expected, rel=1e-4)
    beta = 0.2 * expected
    one = improve_dual(X, y, s, SQUARED, beta, theta, free=free).bound
    other = improve_dual(Z, y, s, SQUARED, scale * beta, theta, free=free).bound
    assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((3, 2)),
        np.ones((1, 1)),
        np.zeros((4, 0)),
        np.ones((5, 3)),
        np.eye(3, 7),
        1e200 * np.ones((2, 2)),
        1e-200 * np.ones((2, 2)),
    ],
    ids=["zero", "one", "empty", "same rows", "wide", "huge", "tiny"],
)
@pytest.mark.parametrize("free", [0, 1])
def test_degenerate_data(X, free):
    n = len(X)
    Z = np.hstack([X, np.ones((n, 1))]) if free else X
    y, s = np.arange(1.0, n + 1.0), np.ones(n)
    for theta in (np.zeros(n), y, np.where(np.arange(n) % 2, 1.0, -1.0)):
        bound = oracle_bound(Z, SQUARED.balance(theta) if free else theta, free=free)
        assert np.isfinite(bound) and bound >= 0.0
        proof = improve_dual(Z, y, s, SQUARED, 0.5, theta, free=free)
        assert isinstance(proof, DualProof) and np.isfinite(proof.bound)
        assert 0.0 <= proof.bound <= SQUARED.value(np.zeros(n), y, s)


def test_unbounded_without_balance_and_zero_without_theta():
    X, _, _, theta = problem(0, 10, 2, 1)
    assert oracle_bound(X, np.abs(theta), free=1) == np.inf
    assert oracle_bound(X, np.zeros(10)) == 0.0


def test_large_beta_proves_the_constant_network():
    X, y, s, theta = problem(0, 20, 3)
    proof = improve_dual(X, y, s, SQUARED, 1e4, theta)
    assert proof.bound == pytest.approx(0.5 * s @ y**2, rel=1e-9)


def test_many_features_take_the_first_order_solver(monkeypatch):
    X, y, s, theta = problem(0, 60, 5)
    exact = improve_dual(X, y, s, SQUARED, 2.0, y)
    monkeypatch.setattr("cvxnn.bounds._LARGEST_ORDER", 0)
    for loss, target in ((SQUARED, y), (LOGISTIC, np.sign(y))):
        for free in (0, 1):
            Z = np.hstack([X, np.ones((60, 1))]) if free else X
            proof = improve_dual(Z, target, s, loss, 2.0, target, free=free)
            best = network_objective(Z, target, s, loss, 2.0, free=free, intercept=bool(free))
            assert proof.bound <= best * (1 + 1e-9)
            start = start_bound(Z, target, s, loss, 2.0, target, free=free)
            assert proof.bound > start
            if loss is SQUARED and not free:
                assert 0.9 * exact.bound <= proof.bound <= exact.bound * (1 + 1e-4)
    bound = oracle_bound(X, theta)
    assert brute_force(X, theta) <= bound <= oracle_bound(X, theta, max_iter=0)


def test_messages():
    X, y, s, theta = problem(0, 5, 2)
    with pytest.raises(ValueError, match="shape"):
        oracle_bound(X, theta[:-1])
    with pytest.raises(ValueError, match="finite"):
        oracle_bound(X, theta * np.nan)
    with pytest.raises(ValueError, match="constant column"):
        oracle_bound(X, theta, free=1)
    with pytest.raises(ValueError, match="free is 2"):
        oracle_bound(X, theta, free=2)
    with pytest.raises(ValueError, match="beta"):
        improve_dual(X, y, s, SQUARED, 0.0, theta)
