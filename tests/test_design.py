"""The coordinates that neurons are trained in: free biases make up for where the origin of the data is."""

import numpy as np
import pytest

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify
from cvxnn.architectures.absolute import Absolute
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.design import Design, centred
from cvxnn.feature_penalties import feature_norm
from cvxnn.losses import get_loss
from cvxnn.norm_pricing import NormDesign
from cvxnn.program import Problem
from cvxnn.train import train

#: Families of free biases, and how many outputs they are tried with.
FAMILIES = [
    (ReLU("free"), 1),
    (ReLU("free", patterns=40), 1),
    (ReLU("free", patterns=("wedge", 20)), 1),
    (LeakyReLU("free", slope=0.2), 1),
    (LeakyReLU("free", patterns=40, slope=0.2), 1),
    (Absolute("free"), 1),
    (ReLU("free", penalty="l1"), 1),
    ("relu", 2),
    (LeakyReLU("free", slope=0.2), 2),
]


def data(n=9, d=2, outputs=1, seed=0):
    """Data of sixty-fourths, to which a whole number can be added without rounding."""
    rng = np.random.default_rng(seed)
    X = np.round(64 * rng.normal(size=(n, d))) / 64
    Y = np.column_stack([np.abs(X[:, 0]) - X[:, -1], np.maximum(X[:, -1] - 0.5, 0.0) + 0.1 * X[:, 0]])
    return X, Y[:, 0] if outputs == 1 else Y


def fitted(family, X, y, **options):
    outputs = 1 if y.ndim == 1 else y.shape[1]
    family = family if isinstance(family, str) else family.for_outputs(outputs)
    model = ConvexNetRegressor(alpha=0.02, architecture=family, hidden_bias="free", tol=1e-8, **options)
    return model.fit(X, y)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("unit", [1.0, 0.25])
def test_coordinates_come_from_weights_and_give_them_back(full, unit):
    rng = np.random.default_rng(1)
    # whole numbers stay of rank two wherever they are
    X = rng.normal(size=(9, 4)) if full else rng.integers(-4, 5, (9, 2)) @ rng.integers(-4, 5, (2, 4))
    rows = np.column_stack([X + np.array([3.0, -2e3, 0.0, 5e5]), np.full(9, unit)])
    design = Design.reduce(rows, 1)
    assert design.X.shape[1] == (5 if full else 3)
    U = rng.normal(size=(6, design.X.shape[1]))
    W = design.weights(U)
    np.testing.assert_allclose(rows @ W.T, design.X @ U.T, atol=1e-8)
    np.testing.assert_allclose(design.coordinates(W), U, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(W[:, :-1], axis=1), design.norms(U), rtol=1e-12)
    # a layer has biases where a family has none: they are no coordinates
    plain = Design.reduce(X, 0)
    V = rng.normal(size=(3, plain.X.shape[1]))
    assert plain.origin is None
    np.testing.assert_allclose(
        plain.coordinates(np.column_stack([plain.weights(V), np.ones(3)])), V, atol=1e-12
    )


@pytest.mark.parametrize("shift", [1e4, 2.0**40])
def test_the_design_of_a_free_bias_does_not_see_where_the_data_are(shift):
    X, _ = data(d=3)
    near, far = (Design.reduce(np.column_stack([X + by, np.ones(len(X))]), 1) for by in (0.0, shift))
    np.testing.assert_array_equal(far.X, near.X)
    np.testing.assert_allclose(np.mean(near.X[:, :-1], axis=0), 0.0, atol=1e-15)
    norm = feature_norm("l1", 3, "free", 1.0)
    sparse = NormDesign.of(np.column_stack([X + shift, np.ones(len(X))]), norm)
    assert sparse.reach < 10.0 and np.array_equal(sparse.X, far.X)


def test_a_constant_column_leaves_nothing():
    """The mean of equal numbers may be another number: what is left would be a column of rounding."""
    X = np.column_stack([np.full(49, 0.1), np.full(49, 1e8 / 3.0), np.arange(49.0), np.ones(49)])
    assert np.mean(X[:, 0]) != 0.1
    moved, origin = centred(X)
    assert not np.any(moved[:, :2]) and np.array_equal(origin[:2], X[0, :2])
    assert Design.reduce(X, 1).X.shape[1] == 2


@pytest.mark.parametrize(("family", "outputs"), FAMILIES, ids=lambda value: repr(value)[:60])
def test_free_biases_make_up_for_a_shift(family, outputs):
    """``x'w + b = (x - m)'w + (b + m'w)``: the same optimum, found and certified far from the origin."""
    X, y = data(outputs=outputs)
    near = fitted(family, X, y).certificate_
    # of several outputs bounds are tightened in rounds, which stop at other places
    close = 1e-6 if outputs == 1 else 1e-4
    assert near.search_gap <= 1e-6
    for shift in (1e4, 1e6):
        model = fitted(family, X + shift, y)
        far = model.certificate_
        assert far.objective == pytest.approx(near.objective, rel=1e-6)
        assert far.lower_bound == pytest.approx(near.lower_bound, rel=close)
        assert (far.scope, far.search_gap <= 1e-6) == (near.scope, True)
        assert far.lower_bound <= near.objective * (1.0 + 1e-9)
        assert near.lower_bound <= far.objective * (1.0 + 1e-9)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_grown_network_far_from_the_origin(outputs):
    """Where patterns are too many to list, and also as far away as float64 lets the data be told apart."""
    X, y = data(n=24, d=4, outputs=outputs)
    loss, family = get_loss("squared_error", outputs), ReLU("free").for_outputs(outputs)
    near, far = (
        train(Problem.from_alpha(X + by, y, None, loss, 0.02, True), family, tol=1e-8, bound_iter=3)
        for by in (0.0, 1e8)
    )
    near, far = near.certificate, far.certificate
    assert far.objective == pytest.approx(near.objective, rel=1e-6)
    assert near.scope == far.scope == "bounded" and far.search_gap <= 1e-6
    assert far.lower_bound <= near.objective and near.lower_bound <= far.objective


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
def test_a_line_far_from_the_origin(loss):
    X, y = data(n=25, d=1)
    near = fitted("relu", X, y, loss=loss).certificate_
    for shift in (1e4, 1e6, 1e8):
        far = fitted("relu", X + shift, y, loss=loss).certificate_
        assert far.objective == pytest.approx(near.objective, rel=1e-6) and far.scope == "global"
        assert far.lower_bound == pytest.approx(near.lower_bound, rel=1e-6)


def test_samples_on_a_line_through_several_columns():
    """One coordinate is enough for them, wherever the line is, and the spline on it is the network."""
    t, y = data(n=25, d=1)
    line = np.array([[0.6, 0.8]])
    short, along = fitted("relu", t, y), fitted("relu", t @ line + [2.0, -7.0], y)
    assert along.certificate_.scope == "global" and along.certificate_.gap <= 1e-9
    assert along.certificate_.objective == pytest.approx(short.certificate_.objective, rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_network_is_judged_the_same_far_from_the_origin(outputs):
    X, y = data(outputs=outputs)
    rng = np.random.default_rng(3)
    W, b, V, c = (
        rng.normal(size=(2, 5)),
        rng.normal(size=5),
        rng.normal(size=(5, outputs)),
        np.zeros(outputs),
    )
    near = certify((W, b, V, c), X, y, alpha=0.02, hidden_bias="free")
    for shift in (1e4, 1e6):
        far = certify(
            (W, b - shift * np.sum(W, axis=0), V, c), X + shift, y, alpha=0.02, hidden_bias="free"
        )
        assert far.objective == pytest.approx(near.objective, rel=1e-8)
        close = 1e-6 if outputs == 1 else 1e-4
        assert far.lower_bound == pytest.approx(near.lower_bound, rel=close) and far.scope == near.scope
        assert far.lower_bound <= near.objective


def test_data_that_never_change():
    """Nothing can be told apart: the constant is all there is."""
    X, y = np.full((8, 2), 1e6), np.arange(8.0)
    for targets in (y, np.column_stack([y, -y])):
        model = fitted("relu", X, targets)
        assert model.network_.width == 0
        np.testing.assert_allclose(
            model.predict(X), np.broadcast_to(np.mean(targets, axis=0), targets.shape)
        )


def test_classes_far_from_the_origin():
    X, _ = data(n=12)
    y = np.digitize(X[:, 0] + np.abs(X[:, 1]), [0.5, 1.2])
    near, far = (
        ConvexNetClassifier(alpha=0.02, hidden_bias="free", tol=1e-8).fit(X + by, y).certificate_
        for by in (0.0, 1e6)
    )
    assert far.objective == pytest.approx(near.objective, rel=1e-6) and far.search_gap <= 1e-6
