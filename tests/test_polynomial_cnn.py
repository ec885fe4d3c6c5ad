"""Polynomial networks on patches: every pooling, several outputs, and networks of others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.architectures.polynomial import Polynomial
from cvxnn.architectures.polynomial_cnn import PolynomialCNN, VectorPolynomialCNN
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Conv, Pool
from cvxnn.network import Polynomial as Activation
from cvxnn.patches import Windows
from cvxnn.program import Problem
from cvxnn.train import train

SQUARED = get_loss("squared_error")
SHAPE = (4, 4)
KINDS = [
    {"pooling": "none"},
    {"pooling": "mean"},
    {"pooling": "sum", "hidden_bias": None},
    {"pooling": "mean", "pool": (1, 3), "hidden_bias": None},
    {"pooling": "sum", "pool": 2, "padding": 1, "stride": 2},
]


def problem_of(rng, n=25, alpha=0.02, intercept=True):
    return Problem.from_alpha(rng.normal(size=(n, 16)), rng.normal(size=n), None, SQUARED, alpha, intercept)


def by_hand(network, X, a=0.09, b=0.5, c=0.47):
    """The output of the layers with loops over images, windows and filters."""
    conv, last = network.layers[0], network.layers[-1]
    pool = next((layer for layer in network.layers if isinstance(layer, Pool)), None)
    out = np.zeros((len(X), last.weight.shape[1]))
    for i, row in enumerate(X):
        maps = []
        for places in conv.windows.index():
            patch = np.array([row[p] if p >= 0 else 0.0 for p in places])
            t = patch @ conv.weight + conv.bias
            maps.append(a * t * t + b * t + c)
        maps = np.array(maps).reshape(*conv.windows.out, -1)
        if pool is not None:
            (h, w), (rows, columns) = pool.windows.kernel, pool.windows.out
            blocks = [
                maps[r * h : (r + 1) * h, k * w : (k + 1) * w] for r in range(rows) for k in range(columns)
            ]
            reduce = np.mean if pool.name == "mean" else np.sum
            maps = np.array([reduce(block, axis=(0, 1)) for block in blocks])
        out[i] = maps.ravel() @ last.weight + last.bias
    return out[:, 0] if out.shape[1] == 1 else out


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_both_ways_and_the_layers_by_hand(options):
    problem = problem_of(np.random.default_rng(0))
    found = [
        train(problem, PolynomialCNN(2, SHAPE, method=m, **options), tol=1e-7)
        for m in ("columns", "semidefinite")
    ]
    for trained in found:
        certificate = trained.certificate
        assert certificate.scope == "global" and certificate.gap <= 1e-6
        assert np.allclose(trained.network(problem.X), by_hand(trained.network, problem.X))
        weights = trained.network.layers[-1].weight
        value = np.mean(0.5 * (by_hand(trained.network, problem.X) - problem.y) ** 2)
        assert certificate.objective == pytest.approx(value + 0.02 * np.sum(np.abs(weights)), rel=1e-9)
    assert found[0].certificate.objective == pytest.approx(found[1].certificate.objective, rel=1e-6)


def test_a_filter_as_large_as_the_image_is_a_plain_network():
    problem = problem_of(np.random.default_rng(1))
    for bias in ("penalized", None):
        one = train(problem, PolynomialCNN(4, SHAPE, pooling="none", hidden_bias=bias), tol=1e-8)
        two = train(problem, Polynomial(bias), tol=1e-8)
        assert one.certificate.objective == pytest.approx(two.certificate.objective, rel=1e-7)


def test_poolings_are_nested():
    """What pooling over everything computes a network without pooling computes at more cost per filter."""
    problem = problem_of(np.random.default_rng(2), alpha=0.005)
    value = {
        kind: train(problem, PolynomialCNN(2, SHAPE, pooling=kind), tol=1e-7).certificate.objective
        for kind in ("none", "sum", "mean")
    }
    # a mean is a sum at 1 / 9 of the output: as if weights cost nine times as much
    assert value["sum"] <= value["mean"]
    # without pooling the mean of a filter costs as much as the filter
    assert value["none"] <= value["mean"] * (1 + 1e-7)
    scaled = train(problem.at(9 * 0.005), PolynomialCNN(2, SHAPE, pooling="sum"), tol=1e-7)
    assert scaled.certificate.objective == pytest.approx(value["mean"], rel=1e-6)


def test_no_network_is_below_the_bound():
    rng = np.random.default_rng(0)
    problem = problem_of(rng, 15)
    family = PolynomialCNN(2, SHAPE, pooling="mean", hidden_bias=None)
    certificate = train(problem, family, tol=1e-7).certificate
    P = Windows((4, 4, 1), (2, 2)).patches(problem.X)

    def value(x):
        U, w = x[:12].reshape(4, 3), x[12:15]
        T = P @ (U / np.linalg.norm(U, axis=0))
        f = np.mean(0.09 * T * T + 0.5 * T + 0.47, axis=1) @ w + x[15]
        return problem.value(f, float(np.sum(np.abs(w)))) / 15

    found = [minimize(value, rng.normal(size=16), method="L-BFGS-B").fun for _ in range(6)]
    assert certificate.lower_bound <= min(found)
    assert certificate.objective <= min(found) * (1 + 1e-9)


def test_classes_of_images(tmp_path):
    """Images as they are, three classes, files, and the judge."""
    from sklearn.datasets import load_digits

    digits = load_digits(n_class=3)
    X, y = digits.images[:150] / 16, digits.target[:150]
    family = PolynomialCNN(3, pooling="mean", pool=3)
    model = ConvexNetClassifier(alpha=3e-3, architecture=family).fit(X, y)
    assert model.certificate_.scope == "global" and model.certificate_.gap <= 1e-5
    assert model.score(X, y) > 0.97
    path = tmp_path / "m.safetensors"
    model.network_.save(path)
    network, _ = Network.load(path)
    flat = X.reshape(len(X), -1)
    assert np.array_equal(network(flat), model.network_(flat))
    again = certify(network, flat, y, alpha=3e-3, loss="log_loss", max_iter=8)
    assert again.scope == "global" and again.gap <= 1e-4
    assert again.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
    assert isinstance(family.for_outputs(3), VectorPolynomialCNN)


def test_networks_of_others():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 16)), rng.normal(size=20)
    geometry = Windows((4, 4, 1), (2, 2))
    W = rng.normal(size=(4, 3))
    conv = Conv(W / np.linalg.norm(W, axis=0), np.zeros(3), geometry.to_array())
    pool = Pool.of("sum", Windows((3, 3, 3), (3, 3)))
    network = Network((conv, Activation(0.3, 0.2, 0.1), pool, Affine(rng.normal(size=(3, 1)), np.zeros(1))))
    certificate = certify(network, X, y, alpha=0.01)
    assert certificate.scope == "global" and 0 < certificate.gap < 1
    assert np.allclose(network(X), by_hand(network, X, 0.3, 0.2, 0.1))
    off = Network((Conv(W, np.zeros(3), geometry.to_array()), *network.layers[1:]))
    with pytest.raises(ValueError, match="divide the weights"):
        certify(off, X, y, alpha=0.01)
    with pytest.raises(ValueError, match="pooling='sum'"):
        PolynomialCNN(2, SHAPE, pooling="mean", coefficients=(0.3, 0.2, 0.1), hidden_bias=None).cost(
            network
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "max"}, "'mean', 'sum' or 'none'"),
        ({"hidden_bias": "free"}, "pass 'penalized'"),
        ({"input_shape": (3, 4)}, "input_shape"),
        ({"pool": 9}, "does not fit"),
        ({"coefficients": (0.0, 0.0, 0.0)}, "not all zero"),
    ],
)
def test_bad_options(options, words):
    family = PolynomialCNN(**{"kernel": 2, "input_shape": SHAPE, **options})
    with pytest.raises(ValueError, match=words):
        ConvexNetRegressor(architecture=family).fit(np.ones((4, 16)), np.arange(4.0))
