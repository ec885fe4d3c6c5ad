"""Circular convolutions with several outputs: bounds, one output, grids of neurons, rivals, entrances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify
from cvxnn.architectures.circular import real_fourier
from cvxnn.architectures.cnn_circular import CNNCircular, VectorCNNCircular
from cvxnn.losses import get_loss
from cvxnn.network import Network
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.vector_descent import OnFaces
from cvxnn.vector_norms import _NormOnFaces, members


def make(X, y, beta=0.2, loss="squared_error", intercept=False):
    outputs = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    return Problem(
        np.array(X, float), np.array(y, float), np.ones(len(X)), get_loss(loss, outputs), beta, intercept
    )


def unit_circle(count):
    """Neurons of two inputs of norm one: the transform of z is real, (z_1 + z_2, z_1 - z_2) / sqrt(2)."""
    at = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    z = np.column_stack([np.cos(at), np.sin(at)])
    spectrum = np.abs(np.column_stack([z[:, 0] + z[:, 1], z[:, 0] - z[:, 1]])) / np.sqrt(2.0)
    return z / (np.sum(spectrum, axis=1) / np.sqrt(2.0))[:, None]


def test_prices():
    rng = np.random.default_rng(0)
    problem = make(rng.normal(size=(6, 2)), rng.normal(size=(6, 2)))
    oracle = VectorCNNCircular().oracle(problem, None)
    H = np.maximum(problem.X @ unit_circle(20_000).T, 0.0)
    for _ in range(3):
        Z = rng.normal(size=(6, 2))
        price, grid = oracle.price(Z), float(np.max(np.linalg.norm(H.T @ Z, axis=1)))
        assert price.scope == "bounded" and price.value >= grid * (1 - 1e-12)
        assert price.found == pytest.approx(grid, rel=1e-4) and price.found >= grid * (1 - 1e-9)
        # one column alone is priced exactly
        alone = np.column_stack([Z[:, 0], 0 * Z[:, 0]])
        one = CNNCircular()
        single = make(problem.X, problem.y[:, 0])
        exact = one.oracle(single, one.arrange(single, rng)).price(Z[:, 0])
        assert exact.scope == "global"
        assert oracle.price(alone).value == pytest.approx(exact.value, rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 2), (5, 1)])
def test_unit_neurons_are_worth_no_more_than_the_bound(shape):
    rng = np.random.default_rng(1)
    d = shape[0] * shape[1]
    problem = make(rng.normal(size=(6, d)), rng.normal(size=(6, 3)), intercept=True)
    family = VectorCNNCircular(shape)
    oracle = family.oracle(problem, None)
    H = family.unit_neurons(problem, None, rng.normal(size=(1000, d + 1)))
    for _ in range(2):
        Z = problem.residual(rng.normal(size=(6, 3)))
        assert np.max(np.abs(np.einsum("kno,no->k", H, Z))) <= oracle.price(Z).value


def test_derivatives_of_the_penalty():
    rng = np.random.default_rng(2)
    problem = make(rng.normal(size=(6, 5)), rng.normal(size=(6, 2)))
    table = members(VectorCNNCircular().design(problem))
    shape, faces = (3, 5), [np.zeros((5, 0))] * 3
    args = (problem.X, problem.y, problem.weights, problem.loss, 0.3, shape, faces, False, 0, 0.0, None)
    held = _NormOnFaces(table, *args)
    assert isinstance(held, OnFaces)
    U, dU = rng.normal(size=(2, *shape))
    step = 1e-6
    ahead, behind = held.penalty(U + step * dU), held.penalty(U - step * dU)
    _, slope = held.penalty(U)
    assert (ahead[0] - behind[0]) / (2 * step) == pytest.approx(np.sum(slope * dU), rel=1e-7)
    assert (ahead[1] - behind[1]) / (2 * step) == pytest.approx(held.bend(dU), abs=1e-7)


def test_one_output():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(5, 3)), rng.normal(size=5)
    one = train(make(X, y), CNNCircular(), tol=1e-8).certificate
    two = make(X, np.column_stack([y, 0 * y]))
    both = train(two, VectorCNNCircular(), tol=1e-8).certificate
    assert both.objective == pytest.approx(one.objective, rel=1e-7) and both.scope == "bounded"
    assert one.lower_bound * (1 - 1e-6) <= both.lower_bound <= both.objective


def test_no_network_on_a_grid_of_neurons_is_better():
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(4)
    problem = make(rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), 0.1)
    H = np.maximum(problem.X @ unit_circle(960).T, 0.0)
    V = cp.Variable((H.shape[1], 2))
    fit = 0.5 * cp.sum_squares(H @ V - problem.y)
    stated = cp.Problem(cp.Minimize(fit + problem.beta * cp.sum(cp.norm(V, axis=1))))
    stated.solve(solver="CLARABEL")
    certificate = train(problem, VectorCNNCircular(), tol=1e-7).certificate
    assert certificate.search_gap <= 1e-6 and certificate.lower_bound * 5 <= stated.value * (1 + 1e-9)
    assert certificate.objective * 5 <= stated.value * (1 + 1e-9)
    assert stated.value <= certificate.objective * 5 * (1 + 5e-3)


def rivals(problem, filters=8, runs=10):
    """The least objective of networks trained by L-BFGS on filters, dense weights and output weights.

    With ``z = U w`` the penalty is ``|v| |u| |w|``, here ``1/3 (|u|^3 + |w|^3 + |v|^3)``, never less.
    """
    d = problem.X.shape[1]
    outputs = problem.y.shape[1]
    cuts = np.cumsum([filters * d, filters * d])
    circulant = (np.arange(d)[:, None] + np.arange(d)[None, :]) % d

    def parts(v):
        u, w, a = np.split(v, cuts)
        return u.reshape(filters, d), w.reshape(filters, d), a.reshape(filters, outputs)

    def value(v):
        u, w, a = parts(v)
        # position k adds w_k u to the inputs it sees
        z = np.zeros((filters, d))
        for k in range(d):
            z[:, circulant[k]] += w[:, [k]] * u
        T = problem.X @ z.T
        slope = np.maximum(T, 0.0) @ a - problem.y
        gz = ((T > 0) * (slope @ a.T)).T @ problem.X
        gu = sum(w[:, [k]] * gz[:, circulant[k]] for k in range(d))
        gw = np.column_stack([np.sum(u * gz[:, circulant[k]], axis=1) for k in range(d)])
        ga = np.maximum(T, 0.0).T @ slope
        paid, grads = 0.0, []
        for part, grad in ((u, gu), (w, gw), (a, ga)):
            size = np.linalg.norm(part, axis=1)
            paid += np.sum(size**3) / 3.0
            grads.append((grad + problem.beta * size[:, None] * part).ravel())
        return 0.5 * np.sum(slope**2) + problem.beta * paid, np.concatenate(grads)

    rng = np.random.default_rng(5)
    starts = rng.normal(size=(runs, cuts[1] + filters * outputs)) * 0.5
    return min(minimize(value, start, jac=True, method="L-BFGS-B").fun for start in starts)


def test_no_rival_is_below_the_bound():
    rng = np.random.default_rng(6)
    problem = make(rng.normal(size=(6, 4)), rng.normal(size=(6, 2)))
    certificate = train(problem, VectorCNNCircular(), tol=1e-6).certificate
    best = rivals(problem) / 6
    assert certificate.scope == "bounded" and certificate.search_gap <= 1e-5
    assert 0.5 * certificate.objective <= certificate.lower_bound <= best * (1 + 1e-9)
    assert certificate.objective <= best * (1 + 1e-6)


def test_entrances(tmp_path):
    rng = np.random.default_rng(7)
    images, y = rng.normal(size=(6, 2, 2)), rng.normal(size=(6, 2))
    model = ConvexNetRegressor(alpha=0.05, architecture=CNNCircular(), tol=1e-3).fit(images, y)
    flat = images.reshape(6, -1)
    # the cost of plain weights is that of their Fourier coordinates
    conv, dense, _, last = model.network_.layers
    m = conv.weight.shape[1]
    w = dense.weight.reshape(4, m, m)[:, np.arange(m), np.arange(m)]
    sizes = np.linalg.norm(conv.weight, axis=0) * np.linalg.norm(w, axis=0)
    cost = sizes @ np.linalg.norm(last.weight, axis=1)
    expected = 0.5 * np.mean(np.sum((model.predict(images) - y) ** 2, axis=1)) + 0.05 * cost
    assert model.certificate_.objective == pytest.approx(expected, rel=1e-10)
    model.network_.save(tmp_path / "circular.safetensors")
    network, _ = Network.load(tmp_path / "circular.safetensors")
    assert np.array_equal(network(flat), model.predict(images)) and network.n_outputs == 2
    verdict = certify(network, images, y, alpha=0.05, max_iter=2, tol=1e-2)
    assert verdict.objective == pytest.approx(expected, rel=1e-10)
    assert verdict.lower_bound <= verdict.objective and verdict.scope == "bounded"
    classes = ConvexNetClassifier(alpha=0.05, architecture="cnn_circular", tol=1e-2)
    classes.fit(flat[:, :2], np.arange(6) % 3)
    assert classes.network_.n_outputs == 3


def test_patterns_are_for_one_output():
    with pytest.raises(ValueError, match="patterns grow"):
        train(make(np.eye(3), np.eye(3)), CNNCircular(patterns=5).for_outputs(3))
    B, groups = real_fourier((2, 1))
    assert B.shape == (2, 2) and groups == ((0,), (1,))
