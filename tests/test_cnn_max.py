"""Max pooling with several outputs: exact prices, one output, grids of filters, rivals, entrances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify
from cvxnn.architectures.cnn_max import CNNMax, VectorCNNMax
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.losses import get_loss
from cvxnn.max_oracles import MaxFaceOracle, MaxSearchOracle, reach, single_bound
from cvxnn.network import Network
from cvxnn.program import Problem
from cvxnn.train import train


def make(X, y, beta=0.2, loss="squared_error", intercept=False):
    outputs = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    return Problem(
        np.array(X, float), np.array(y, float), np.ones(len(X)), get_loss(loss, outputs), beta, intercept
    )


def pooled(family, X, U):
    """The largest output of filters ``U`` (k, patch) over all positions, (n, k)."""
    return np.maximum((family.windows_of(X.shape[1]).patches(X) @ U.T).max(axis=1), 0.0)


def test_prices_are_exact_and_bounds_hold():
    rng = np.random.default_rng(0)
    family = VectorCNNMax(kernel=2, hidden_bias=None)
    problem = make(rng.normal(size=(5, 4)), rng.normal(size=(5, 2)))
    oracle, design = family.oracle(problem, None), family.design(problem)
    assert isinstance(oracle, MaxFaceOracle)
    loose = MaxSearchOracle(problem, design)
    at = np.linspace(0.0, 2.0 * np.pi, 20_000)
    H = pooled(family, problem.X, np.column_stack([np.cos(at), np.sin(at)]))
    for _ in range(5):
        Z = rng.normal(size=(5, 2))
        grid = float(np.max(np.linalg.norm(H.T @ Z, axis=1)))
        exact, bounded = oracle.price(Z), loose.price(Z)
        assert exact.scope == "global" and bounded.scope == "bounded"
        assert grid <= exact.value * (1 + 1e-12) and exact.value <= grid * (1 + 1e-4)
        assert bounded.value >= exact.value * (1 - 1e-12)
        assert bounded.found == pytest.approx(exact.value, rel=1e-9)


def test_unit_filters_are_worth_no_more_than_the_bound():
    rng = np.random.default_rng(1)
    family = VectorCNNMax(kernel=3)
    problem = make(rng.normal(size=(7, 6)), rng.normal(size=(7, 3)), intercept=True)
    oracle = family.oracle(problem, None)
    assert isinstance(oracle, MaxSearchOracle)
    H = family.unit_neurons(problem, None, rng.normal(size=(1000, 7)))
    for _ in range(3):
        Z = problem.residual(rng.normal(size=(7, 3)))
        assert np.max(np.abs(np.einsum("kno,no->k", H, Z))) <= oracle.price(Z).value


def test_one_output_and_one_position():
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(4, 4)), rng.normal(size=4)
    one = train(make(X, y), CNNMax(kernel=2, stride=2, hidden_bias=None), tol=1e-8).certificate
    two = make(X, np.column_stack([y, 0 * y]))
    both = train(two, VectorCNNMax(kernel=2, stride=2, hidden_bias=None), tol=1e-8).certificate
    assert both.objective == pytest.approx(one.objective, rel=1e-7) and both.scope == "global"
    assert both.lower_bound == pytest.approx(one.objective, rel=1e-6)
    several = make(X[:, :2], rng.normal(size=(4, 2)), intercept=True)
    single = train(several, VectorCNNMax(kernel=2), tol=1e-8).certificate
    plain = train(several, VectorReLU("penalized"), tol=1e-8).certificate
    assert single.objective == pytest.approx(plain.objective, rel=1e-7)


def rivals(problem, family, filters=8, runs=10):
    """The least objective of networks trained by L-BFGS from random starts."""
    P = family.windows_of(problem.X.shape[1]).patches(problem.X)
    outputs = problem.y.shape[1]
    cut = P.shape[2] * filters

    def value(v):
        U, V = v[:cut].reshape(-1, filters), v[cut:].reshape(filters, outputs)
        T = P @ U
        share = (np.argmax(T, axis=1)[:, None, :] == np.arange(P.shape[1])[:, None]) * (T > 0)
        H = np.sum(share * T, axis=1)
        slope = H @ V - problem.y
        gU = np.einsum("nkp,nkm->pm", P, share * (slope @ V.T)[:, None, :]) + problem.beta * U
        gradient = np.concatenate([gU.ravel(), (H.T @ slope + problem.beta * V).ravel()])
        return 0.5 * np.sum(slope**2) + 0.5 * problem.beta * np.sum(v**2), gradient

    rng = np.random.default_rng(4)
    starts = rng.normal(size=(runs, cut + filters * outputs)) * 0.5
    return min(minimize(value, start, jac=True, method="L-BFGS-B").fun for start in starts)


@pytest.mark.parametrize(("kernel", "scope"), [(2, "global"), (3, "bounded")])
def test_no_rival_is_below_the_bound(kernel, scope):
    rng = np.random.default_rng(5)
    problem = make(rng.normal(size=(5, kernel + 3)), rng.normal(size=(5, 2)))
    family = VectorCNNMax(kernel=kernel, hidden_bias=None)
    certificate = train(problem, family, tol=1e-7).certificate
    best = rivals(problem, family) / 5
    assert certificate.scope == scope and certificate.search_gap <= 1e-6
    assert 0.0 < certificate.lower_bound <= best * (1 + 1e-9)
    assert certificate.objective <= best * (1 + 1e-6)


def test_no_network_on_a_grid_of_filters_is_better():
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(6)
    problem = make(rng.normal(size=(4, 4)), rng.normal(size=(4, 2)), 0.1)
    family = VectorCNNMax(kernel=2, hidden_bias=None)
    at = np.linspace(0.0, 2.0 * np.pi, 240, endpoint=False)
    H = pooled(family, problem.X, np.column_stack([np.cos(at), np.sin(at)]))
    V = cp.Variable((H.shape[1], 2))
    fit = 0.5 * cp.sum_squares(H @ V - problem.y)
    stated = cp.Problem(cp.Minimize(fit + problem.beta * cp.sum(cp.norm(V, axis=1))))
    stated.solve(solver="CLARABEL")
    certificate = train(problem, family, tol=1e-8).certificate
    assert certificate.scope == "global" and certificate.gap <= 1e-6
    assert certificate.lower_bound * 4 <= stated.value * (1 + 1e-9)
    assert stated.value <= certificate.objective * 4 * (1 + 3e-3)


def test_entrances(tmp_path):
    rng = np.random.default_rng(7)
    images, y = rng.normal(size=(8, 2, 2)), rng.normal(size=(8, 2))
    family = CNNMax(kernel=(1, 2), hidden_bias=None)
    model = ConvexNetRegressor(alpha=0.05, architecture=family).fit(images, y)
    flat = images.reshape(8, -1)
    model.network_.save(tmp_path / "max.safetensors")
    network, _ = Network.load(tmp_path / "max.safetensors")
    assert np.array_equal(network(flat), model.predict(images)) and network.n_outputs == 2
    verdict = certify(network, images, y, alpha=0.05, max_iter=5)
    assert verdict.objective == pytest.approx(model.certificate_.objective, rel=1e-10)
    assert verdict.lower_bound <= verdict.objective and verdict.scope == "global"
    labels = np.arange(8) % 3
    classes = ConvexNetClassifier(alpha=0.05, architecture="cnn_max", hidden_bias=None, tol=1e-4)
    classes.fit(images[:, 0], labels)
    assert classes.network_.n_outputs == 3 and classes.certificate_.search_gap <= 1e-4


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (CNNMax(kernel=2, patterns=5), "patterns grow"),
        (CNNMax(kernel=2, patterns="all"), "patterns grow"),
        (CNNMax(kernel=2, hidden_bias="free"), "free"),
    ],
)
def test_bad_parameters(family, message):
    problem = make(np.eye(3, 4), np.eye(3))
    with pytest.raises(ValueError, match=message):
        train(problem, family.for_outputs(3))


def test_one_output_grows_to_what_its_cells_give():
    """540 cells of 270 lines: too many for "auto", which grows; the program over all of them agrees."""
    rng = np.random.default_rng(8)
    problem = make(rng.normal(size=(18, 6)), rng.normal(size=18), 0.5, intercept=True)
    grown = train(problem, CNNMax(kernel=2, hidden_bias=None), tol=1e-6)
    listed = train(problem, CNNMax(kernel=2, hidden_bias=None, patterns="all"), tol=1e-6).certificate
    assert grown.certificate.scope == "global" and listed.scope == "global"
    assert grown.certificate.objective == pytest.approx(listed.objective, rel=1e-5)
    assert grown.certificate.lower_bound == pytest.approx(listed.objective, rel=1e-5)
    assert grown.network.width > 0 and grown.network.n_outputs == 1


def test_one_output_is_bounded_where_cells_cannot_be_listed():
    rng = np.random.default_rng(9)
    family = CNNMax(kernel=3)
    problem = make(rng.normal(size=(9, 6)), rng.normal(size=9), 0.3, intercept=True)
    H = family.unit_neurons(problem, None, rng.normal(size=(5000, 4)))
    design = family.growing().design(problem)
    for _ in range(5):
        Z = problem.residual(rng.normal(size=9))
        assert np.max(np.abs(H @ Z)) <= single_bound(design, Z) <= np.sum(np.abs(Z)) * np.max(reach(design))
    certificate = train(problem, family, tol=1e-4).certificate
    assert certificate.scope == "bounded" and certificate.search_gap <= 1e-4
    rival = rivals(
        make(problem.X, problem.y[:, None] - np.mean(problem.y), 0.3), VectorCNNMax(3, None), runs=3
    )
    assert 0.0 < certificate.lower_bound * 12 <= rival
    gates = train(make(problem.X, np.sign(problem.y), 0.3, "hinge"), replace(family, patterns=20), tol=1e-2)
    assert gates.certificate.scope == "patterns"


def test_samples_that_differ_in_scale_train_to_the_optimum():
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.uniform(-4.0, 4.0, size=(10, 1))
    problem = make(rng.normal(size=(10, 5)) * scale, rng.normal(size=10), 0.05, intercept=True)
    family = CNNMax(kernel=2, hidden_bias=None, patterns="all")
    listed = train(problem, family, tol=1e-6).certificate
    grown = train(problem, VectorCNNMax(kernel=2, hidden_bias=None), tol=1e-6).certificate
    assert listed.scope == "global" and listed.gap <= 1e-6
    assert grown.search_gap <= 1e-5 and grown.objective == pytest.approx(listed.objective, rel=1e-5)
