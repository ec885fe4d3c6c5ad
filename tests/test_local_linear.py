"""Predictions taken apart: sums are predictions, coefficients are gradients, for every layer."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, local_linear
from cvxnn.layers import (
    LAYERS,
    Absolute,
    Affine,
    Conv,
    Gated,
    GatedConv,
    LeakyReLU,
    Polynomial,
    Pool,
    Product,
    ReLU,
    SkipLeakyReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from cvxnn.patches import Windows

rng = np.random.default_rng(0)
IMAGE = Windows((4, 4, 2), (2, 2), (1, 1), (1, 1))
SIGNAL = Windows((12, 1, 1), (3, 1), (2, 1))
POOLED = Windows((5, 5, 3), (2, 2), (2, 2), (1, 1))


def affine(inputs, outputs):
    return Affine(rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs))


def gated(inputs, units):
    G, W = rng.standard_normal((2, inputs, units))
    return Gated(G, rng.standard_normal(units), W, rng.standard_normal(units))


def conv(windows, filters, *, gates=False):
    shape = (windows.patch, filters)
    W, b = rng.standard_normal(shape), rng.standard_normal(filters)
    if not gates:
        return Conv(W, b, windows.to_array())
    return GatedConv(rng.standard_normal(shape), rng.standard_normal(filters), W, b, windows.to_array())


NETWORKS = {
    "ReLU": (affine(5, 7), ReLU(), affine(7, 1)),
    "several outputs": (affine(5, 7), ReLU(), affine(7, 3)),
    "LeakyReLU": (affine(5, 7), LeakyReLU(np.array([-0.3])), affine(7, 2)),
    "Absolute": (affine(5, 7), Absolute(), affine(7, 1)),
    "Threshold": (affine(5, 7), Threshold(), affine(7, 2)),
    "Polynomial": (affine(5, 7), Polynomial(0.1, np.array([0.5]), 0.25), affine(7, 2)),
    "SkipReLU": (affine(5, 7), SkipReLU(2), affine(7, 1)),
    "SkipThreshold": (affine(5, 7), SkipThreshold(2), affine(7, 1)),
    "SkipLeakyReLU": (affine(5, 7), SkipLeakyReLU(2, np.array([0.3])), affine(7, 2)),
    "absolute with lines": (affine(5, 7), SkipLeakyReLU(2, -1.0), affine(7, 2)),
    "Product": (affine(5, 8), Product(), affine(4, 2)),
    "Gated": (gated(5, 7), affine(7, 2)),
    "linear": (affine(5, 3), affine(3, 1)),
    "deep": (affine(5, 7), ReLU(), affine(7, 4), LeakyReLU(0.1), gated(4, 6), affine(6, 2)),
    "Conv": (conv(IMAGE, 3), ReLU(), affine(75, 2)),
    "Conv signal": (conv(SIGNAL, 2), Absolute(), affine(10, 1)),
    "GatedConv": (conv(IMAGE, 3, gates=True), affine(75, 2)),
    "Pool max": (conv(IMAGE, 3), ReLU(), Pool.of("max", POOLED), affine(27, 2)),
    "Pool mean": (conv(IMAGE, 3), Pool.of("mean", POOLED), affine(27, 1)),
    "Pool sum": (conv(IMAGE, 3), ReLU(), Pool.of("sum", POOLED), affine(27, 2)),
}


def test_every_layer_of_the_vocabulary_is_here():
    seen = {type(layer).__name__ for layers in NETWORKS.values() for layer in layers}
    assert seen == set(LAYERS)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sum_is_the_prediction_and_the_coefficients_are_the_gradient(name):
    network = Network(NETWORKS[name])
    X = rng.standard_normal((9, network.n_features))
    around = local_linear(network, X)
    f, shape = network(X), (9,) if network.n_outputs == 1 else (9, network.n_outputs)
    assert around.base_values.shape == shape and around.values.shape == (9, X.shape[1], *shape[1:])
    np.testing.assert_allclose(around.base_values + around.values.sum(axis=1), f, rtol=0, atol=1e-12)
    step = 1e-6
    for k in range(X.shape[1]):
        up, down = X.copy(), X.copy()
        up[:, k] += step
        down[:, k] -= step
        slope = (network(up) - network(down)) / (2 * step)
        np.testing.assert_allclose(around.coefficients[:, k], slope, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(around.data, X)
    assert around.active.shape == (9, network.layers[-1].weight.shape[0]) and len(around) == 9


def test_the_affine_function_is_the_network_around_the_sample():
    network = Network(NETWORKS["deep"])
    X = rng.standard_normal((9, 5))
    around = local_linear(network, X)
    near = X + 1e-4 * rng.standard_normal(X.shape)
    same = np.all(local_linear(network, near).coefficients == around.coefficients, axis=(1, 2))
    assert same.sum() >= 7  # a kink may pass between
    there = around.base_values + np.einsum("nd,ndo->no", near, around.coefficients)
    np.testing.assert_allclose(there[same], network(near)[same], rtol=0, atol=1e-12)


def test_active_neurons():
    W, b, X = np.array([[1.0, -1.0]]), np.array([0.0, 1.0]), np.array([[-1.0], [0.0], [0.5], [2.0]])
    first, last = Affine(W, b), Affine(np.ones((2, 1)), np.zeros(1))
    relu = [[False, True], [False, True], [True, True], [True, False]]
    for activation in (ReLU(), LeakyReLU(0.1), Absolute()):
        assert local_linear(Network((first, activation, last)), X).active.tolist() == relu
    step = local_linear(Network((first, Threshold(), last)), X).active
    gate = local_linear(Network((Gated(W, b, W, b), last)), X).active
    assert step.tolist() == gate.tolist() == [relu[0], [True, True], *relu[2:]]
    assert local_linear(Network((first, SkipReLU(1), last)), X).active[:, 1].all()
    assert local_linear(Network((first, last)), X).active.all()


def test_pooled_units_are_active_where_a_window_is():
    windows = Windows((2, 1, 1), (1, 1))
    whole = Windows((2, 1, 1), (2, 1))
    layers = (Conv(np.ones((1, 1)), np.zeros(1), windows.to_array()), ReLU(), Pool.of("sum", whole))
    network = Network((*layers, Affine(np.ones((1, 1)), np.zeros(1))))
    X = np.array([[-1.0, -2.0], [-1.0, 2.0], [1.0, 2.0]])
    assert local_linear(network, X).active[:, 0].tolist() == [False, True, True]


def test_names_and_shapes_of_estimators():
    X = pd.DataFrame(rng.standard_normal((60, 3)), columns=["age", "mass", "dose"])
    y = np.abs(X["age"]) + X["dose"]
    model = ConvexNetRegressor(alpha=0.05).fit(X, y)
    around = model.explain_samples(X.iloc[:7])
    assert around.feature_names == ["age", "mass", "dose"] == local_linear(model, X).feature_names
    np.testing.assert_allclose(
        around.base_values + around.values.sum(axis=1), model.predict(X.iloc[:7]), atol=1e-12
    )
    assert local_linear(model.network_, X).feature_names == ["age", "mass", "dose"]
    assert local_linear(model.network_, X.to_numpy()).feature_names is None
    classes = ConvexNetClassifier(alpha=0.1).fit(X, np.digitize(y, [0.5, 1.5]))
    around = classes.explain_samples(X)
    assert around.values.shape == (60, 3, 3) and "3 outputs" in repr(around)
    np.testing.assert_allclose(
        around.base_values + around.values.sum(axis=1), classes.decision_function(X), atol=1e-12
    )


def test_images_are_taken_as_they_are():
    images = rng.standard_normal((20, 4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ConvexNetRegressor(alpha=0.1, architecture="cnn", max_iter=2).fit(
            images, images.mean(axis=(1, 2))
        )
    around = model.explain_samples(images)
    assert around.values.shape == (20, 16)
    np.testing.assert_allclose(
        around.base_values + around.values.sum(axis=1), model.predict(images), atol=1e-12
    )


def test_no_neurons_no_samples():
    empty = Network.two_layer(np.zeros((2, 0)), np.zeros(0), np.zeros(0), 1.5)
    around = local_linear(empty, np.ones((3, 2)))
    assert around.active.shape == (3, 0) and around.base_values.tolist() == [1.5] * 3
    assert len(local_linear(Network(NETWORKS["Conv"]), np.ones((0, 32)))) == 0


def test_what_cannot_be_explained():
    network = Network(NETWORKS["ReLU"])
    with pytest.raises(ValueError, match="takes 5 features, X has shape"):
        local_linear(network, np.ones((3, 4)))
    with pytest.raises(TypeError, match="has no network: pass"):
        local_linear(object(), np.ones((3, 4)))
