"""Bad input gets an error that says what to pass instead; hard input gets a valid certificate."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from cvxnn import (
    Arrangement,
    ConvexNetClassifier,
    ConvexNetRegressor,
    ConvexNetRegressorCV,
    Network,
    TooManyPatterns,
    certify,
    path,
)
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.architectures.vector_threshold import VectorThreshold
from cvxnn.losses import EpsilonInsensitive, Huber, Quantile, get_loss
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.vector_oracles import FaceOracle, VectorSearch

rng = np.random.default_rng(0)
X = rng.standard_normal((12, 2))
y = X[:, 0] + 0.1 * rng.standard_normal(12)
labels = np.where(y > 0, "yes", "no")
net = (np.ones((2, 3)), np.zeros(3), np.ones((3, 1)), np.zeros(1))


def spoiled(value):
    Z = X.copy()
    Z[3, 1] = value
    return Z


def fit(*args, **parameters):
    weights = parameters.pop("sample_weight", None)
    return lambda: ConvexNetRegressor(**parameters).fit(*args, sample_weight=weights)


def classify(*args, **parameters):
    weights = parameters.pop("sample_weight", None)
    return lambda: ConvexNetClassifier(**parameters).fit(*args, sample_weight=weights)


def judge(network, *args, **parameters):
    return lambda: certify(network, *(args or (X, y)), **{"alpha": 0.1, **parameters})


class Square:
    """Something that looks a little like a torch module."""

    def state_dict(self):
        return {}

    def children(self):
        return iter(())


BAD = {
    "nan in X": (fit(spoiled(np.nan), y), ValueError, "contains NaN"),
    "inf in X": (fit(spoiled(np.inf), y), ValueError, "infinity"),
    "nan in y": (fit(X, np.where(y > 0.5, np.nan, y)), ValueError, "NaN"),
    "inf in y": (fit(X, np.where(y > 0.5, np.inf, y)), ValueError, "infinity"),
    "X is one-dimensional": (fit(X[:, 0], y), ValueError, "Reshape your data"),
    "X is three-dimensional": (fit(X[:, None], y), ValueError, "reshape"),
    "lengths differ": (fit(X, y[:-1]), ValueError, "inconsistent numbers of samples"),
    "no samples": (fit(X[:0], y[:0]), ValueError, "0 sample"),
    "no features": (fit(X[:, :0], y), ValueError, "0 feature"),
    "class with two columns": (classify(X, np.c_[labels, labels]), ValueError, "1d array"),
    "unknown coupling": (fit(X, np.c_[y, y], coupling="some"), ValueError, "pass 'joint' (the default)"),
    "patterns of several outputs": (
        fit(X, np.c_[y, y], patterns="all"),
        ValueError,
        "pass patterns='auto'",
    ),
    "several outputs for one target": (
        fit(X, y, architecture=VectorThreshold()),
        ValueError,
        "pass its name, 'threshold'",
    ),
    "y missing": (fit(X, None), ValueError, "requires y to be passed"),
    "sparse X": (fit(sparse.csr_matrix(X), y), TypeError, "dense"),
    "complex X": (fit(X + 1j, y), ValueError, "Complex data not supported"),
    "text in X": (fit(np.array([["a", "b"]] * 12, dtype=object), y), ValueError, "could not convert"),
    "text column in a pandas frame": (
        fit(pd.DataFrame({"a": X[:, 0], "b": list("xyz") * 4}), y),
        ValueError,
        "could not convert",
    ),
    "text column in a polars frame": (
        fit(pl.DataFrame({"a": X[:, 0], "b": list("xyz") * 4}), y),
        ValueError,
        "could not convert",
    ),
    "text targets in regression": (fit(X, labels), ValueError, "could not convert"),
    "alpha zero": (fit(X, y, alpha=0), ValueError, "pass a small value such as 1e-6"),
    "alpha negative": (fit(X, y, alpha=-1.0), ValueError, "must be > 0"),
    "alpha nan": (fit(X, y, alpha=float("nan")), ValueError, "finite number > 0"),
    "alpha text": (fit(X, y, alpha="0.1"), ValueError, "finite number > 0"),
    "alpha bool": (fit(X, y, alpha=True), ValueError, "finite number > 0"),
    "tol negative": (fit(X, y, tol=-1e-3), ValueError, "tol=-0.001 must be a number of at least 0"),
    "max_iter zero": (fit(X, y, max_iter=0), ValueError, "an integer of at least 1"),
    "max_iter fractional": (fit(X, y, max_iter=1.5), ValueError, "an integer of at least 1"),
    "max_time text": (fit(X, y, max_time="1 s"), ValueError, "max_time='1 s' must be a number"),
    "unknown loss": (
        fit(X, y, loss="mse"),
        ValueError,
        "pass one of 'absolute_error', 'epsilon_insensitive', 'hinge'",
    ),
    "class loss in regression": (fit(X, y, loss="log_loss"), ValueError, "use ConvexNetClassifier"),
    "unknown architecture": (fit(X, y, architecture="mlp"), ValueError, "pass one of 'absolute', "),
    "architecture class": (fit(X, y, architecture=ReLU), ValueError, "or an Architecture"),
    "unknown hidden_bias": (fit(X, y, hidden_bias="yes"), ValueError, "'penalized' (the default), 'free'"),
    "free bias on gates": (
        fit(X, y, architecture="gated_relu", hidden_bias="free"),
        ValueError,
        "pass hidden_bias='penalized' or None",
    ),
    "unknown patterns": (fit(X, y, patterns="some"), ValueError, "pass 'auto', 'all', an integer"),
    "no patterns": (fit(X, y, patterns=0), ValueError, "an integer of at least 1"),
    "patterns bool": (fit(X, y, patterns=True), ValueError, "an integer of at least 1"),
    "patterns fractional": (fit(X, y, patterns=5.0), ValueError, "an integer of at least 1"),
    "X too large to square": (fit(1e200 * X, y), ValueError, "rescale it"),
    "X too small to square": (fit(1e-200 * X, y, alpha=1e-50), ValueError, "rescale it"),
    "y too large to square": (fit(X, 1e160 * y), ValueError, "rescale it"),
    "weights too large": (fit(X, y, sample_weight=np.full(12, 1e300)), ValueError, "rescale it"),
    "alpha too small": (fit(X, y, alpha=1e-200), ValueError, "alpha is of size 1e-200"),
    "no gates": (fit(X, y, architecture="gated_relu", patterns=0), ValueError, "an integer of at least 1"),
    "gates of another width": (
        fit(X, y, architecture="gated_relu", patterns=np.ones((4, 7))),
        ValueError,
        "must have shape (gates, 3)",
    ),
    "all patterns of a large set": (
        fit(rng.standard_normal((60, 12)), np.arange(60.0), patterns="all"),
        TooManyPatterns,
        "patterns",
    ),
    "weights negative": (fit(X, y, sample_weight=-np.ones(12)), ValueError, "Negative values"),
    "weights all zero": (fit(X, y, sample_weight=np.zeros(12)), ValueError, "at least one"),
    "weights too few": (fit(X, y, sample_weight=np.ones(5)), ValueError, "sample_weight.shape"),
    "weights nan": (fit(X, y, sample_weight=np.full(12, np.nan)), ValueError, "NaN"),
    "one class": (classify(X, np.ones(12)), ValueError, "pass samples of both classes"),
    "one class by weights": (
        classify(X, labels, sample_weight=(labels == "yes").astype(float)),
        ValueError,
        "one class only",
    ),
    "a class of three without weight": (
        classify(X, np.arange(12) % 3, sample_weight=(np.arange(12) % 3 > 0).astype(float)),
        ValueError,
        "the classes [0] have weight zero",
    ),
    "continuous classes": (classify(X, y), ValueError, "continuous"),
    "regression loss unknown to classes": (classify(X, labels, loss="hinge!"), ValueError, "unknown loss"),
    "unfitted": (lambda: ConvexNetRegressor().predict(X), NotFittedError, "not fitted yet"),
    "other features in predict": (
        lambda: ConvexNetRegressor(alpha=0.1).fit(X, y).predict(X[:, :1]),
        ValueError,
        "expecting 2 features",
    ),
    "probabilities of squared error": (
        lambda: ConvexNetClassifier(loss="squared_error").fit(X, labels).predict_proba(X),
        AttributeError,
        "predict_proba",
    ),
    "certify a string": (judge("network"), TypeError, "torch.nn.Sequential(Linear, ReLU, Linear)"),
    "certify without hidden layer": (judge(Square()), ValueError, "pass Sequential(Linear, ReLU, Linear)"),
    "certify weights that do not fit": (
        judge((np.ones((2, 3)), None, np.ones((4, 1)), None)),
        ValueError,
        "pass W1 (d, m) and W2 (m, 1)",
    ),
    "certify two outputs": (
        judge((np.ones((2, 3)), None, np.ones((3, 2)), None)),
        ValueError,
        "the network has 2 outputs and y has shape (12,): pass (n, outputs)",
    ),
    "certify three classes with two outputs": (
        lambda: certify(
            (np.ones((2, 3)), None, np.ones((3, 2)), None), X, np.arange(12) % 3, alpha=0.1, loss="log_loss"
        ),
        ValueError,
        "tells 2 apart: pass 2",
    ),
    "certify diverged weights": (
        judge((np.full((2, 3), np.nan), None, np.ones((3, 1)), None)),
        ValueError,
        "diverged",
    ),
    "certify on other features": (judge(net, X[:, :1], y), ValueError, "takes 2 features, X has 1"),
    "certify with alpha 0": (judge(net, alpha=0.0), ValueError, "must be > 0"),
    "certify biases as none": (
        judge((np.ones((2, 3)), np.ones(3), np.ones((3, 1)), None), hidden_bias=None),
        ValueError,
        "pass hidden_bias='penalized' or 'free'",
    ),
    "certify constant as none": (
        judge((np.ones((2, 3)), None, np.ones((3, 1)), np.ones(1)), fit_intercept=False),
        ValueError,
        "pass fit_intercept=True",
    ),
    "load nothing": (lambda: Network.load("no/such/file"), FileNotFoundError, "no model file"),
    "loss by number": (lambda: get_loss(3), ValueError, "unknown loss 3"),
    "enumerate too much": (
        lambda: Arrangement.enumerate(rng.standard_normal((200, 20))),
        TooManyPatterns,
        "limit",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_error_says_what_to_do(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_table_is_long_enough():
    assert len(BAD) >= 40


HARD = {
    "one sample": (X[:1], y[:1]),
    "two samples": (X[:2], y[:2]),
    "fewer samples than features": (rng.standard_normal((4, 9)), y[:4]),
    "one feature": (X[:, :1], y),
    "constant column": (np.c_[X, np.ones(12)], y),
    "zero column": (np.c_[X, np.zeros(12)], y),
    "duplicate columns": (np.c_[X, X], y),
    "duplicate rows, different targets": (np.r_[X, X], np.r_[y, -y]),
    "all zero": (np.zeros((12, 2)), y),
    "constant target": (X, np.full(12, 3.0)),
    "zero target": (X, np.zeros(12)),
    "huge inputs": (1e8 * X, y),
    "tiny inputs": (1e-8 * X, y),
    "huge targets": (X, 1e8 * y),
    "tiny targets": (X, 1e-8 * y),
    "columns of different scale": (X * np.array([1e6, 1e-6]), y),
    "far from the origin": (X + 1e3, y),
    "integers": (np.round(3 * X).astype(int), y),
    "booleans": (X > 0, y),
    "numbers as objects": (X.astype(object), y),
    "float32": (X.astype(np.float32), y.astype(np.float32)),
    "lists": (X.tolist(), y.tolist()),
    "pandas": (pd.DataFrame(X, columns=["a", "b"]), pd.Series(y)),
    "polars": (pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}), pl.Series(y)),
    "fortran order": (np.asfortranarray(X), y),
}


@pytest.mark.parametrize("bias", ["penalized", "free", None])
@pytest.mark.parametrize("name", HARD)
def test_hard_input_keeps_a_valid_certificate(name, bias):
    data, target = HARD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ConvexNetRegressor(alpha=1e-2, hidden_bias=bias, max_iter=20).fit(data, target)
    c, t = model.certificate_, np.asarray(target, dtype=float)
    prediction = model.predict(data)
    assert np.all(np.isfinite(prediction))
    assert c.lower_bound <= c.objective * (1 + 1e-12)
    assert c.objective <= 0.5 * np.mean((t - t.mean()) ** 2) * (1 + 1e-9)  # the constant network
    loss = 0.5 * np.mean((prediction - t) ** 2)
    assert loss <= c.objective * (1 + 1e-6) + 1e-300


@pytest.mark.parametrize("alpha", [1e-12, 1e12])
def test_extreme_alpha(alpha):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        c = ConvexNetRegressor(alpha=alpha, max_iter=20).fit(X, y).certificate_
    assert 0.0 <= c.lower_bound <= c.objective
    if alpha > 1:
        assert c.width == 0 and c.gap < 1e-9


def test_not_converged_warns_and_certifies():
    data = np.random.default_rng(1).standard_normal((80, 8))
    with pytest.warns(ConvergenceWarning, match="The certificate holds"):
        model = ConvexNetRegressor(alpha=1e-3, max_iter=1).fit(data, data[:, 0] * data[:, 1])
    assert 0.0 < model.certificate_.lower_bound <= model.certificate_.objective


def test_time_limit_returns_the_best_network():
    data = np.random.default_rng(1).standard_normal((150, 10))
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model = ConvexNetRegressor(alpha=1e-4, max_time=0.3).fit(data, data[:, 0] * data[:, 1])
    assert 0.0 <= model.certificate_.lower_bound <= model.certificate_.objective


def test_interrupt_returns_the_best_network(monkeypatch):
    """Ctrl-C in the third round of solving: the network of an earlier round comes back."""
    from cvxnn import train as training

    calls, original = [], training._solve

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(training, "_solve", interrupted)
    data = np.random.default_rng(1).standard_normal((40, 4))
    # a loss with kinks takes many rounds
    model = ConvexNetRegressor(alpha=1e-3, tol=1e-9, loss="absolute_error")
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        model.fit(data, data[:, 0] * data[:, 1])
    assert model.network_.width > 0
    assert 0.0 <= model.certificate_.lower_bound <= model.certificate_.objective


@pytest.mark.parametrize("architecture", ["relu", "gated_relu"])
def test_interrupt_before_the_first_network(monkeypatch, architecture):
    """Ctrl-C before anything is solved: the best constant comes back, certified."""
    from cvxnn import growth
    from cvxnn import train as training

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_solve", interrupted)
    monkeypatch.setattr(growth, "descend", interrupted)
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        model = ConvexNetRegressor(alpha=1e-2, architecture=architecture).fit(X, y)
    assert model.network_.width == 0
    assert np.allclose(model.predict(X), y.mean())
    assert 0.0 <= model.certificate_.lower_bound <= model.certificate_.objective


def test_switches_are_true_or_false():
    for bad in ("no", None, 2, 0.5):
        for make in (ConvexNetRegressor, ConvexNetRegressorCV):
            with pytest.raises(ValueError, match="must be True or False"):
                make(fit_intercept=bad).fit(X, X[:, 0])
        with pytest.raises(ValueError, match="must be True or False"):
            path(X, X[:, 0], fit_intercept=bad)
    for good in (np.True_, 0):
        ConvexNetRegressor(0.1, architecture="gated_relu", fit_intercept=good).fit(X, X[:, 0])


@pytest.mark.parametrize("loss", [Quantile, Huber, EpsilonInsensitive])
@pytest.mark.parametrize("bad", ["x", None, True])
def test_parameters_of_losses_are_numbers(loss, bad):
    with pytest.raises(ValueError, match="pass "):
        loss(bad)


def test_more_directions_than_features():
    with pytest.raises(ValueError, match="more than the 2 features: pass at most 2"):
        ConvexNetRegressor(rank=3).fit(X[:, :2], X[:, 0])


def test_three_classes_of_large_numbers():
    """Sizes that overflow a step of the bound's descent end it, not the training."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 4))
    y = np.argmax(data[:, :3], axis=1)
    model = ConvexNetClassifier(0.01, max_iter=2, tol=1e-2).fit(1e12 * data, y)
    assert 0.0 <= model.certificate_.lower_bound <= model.certificate_.objective


def test_counts_of_large_numbers():
    y = 1e12 * np.arange(12.0)
    model = ConvexNetRegressor(1e10, loss="poisson", max_iter=2, tol=1e-2).fit(X, y)
    assert 0.0 <= model.certificate_.lower_bound <= model.certificate_.objective
    loss, one = get_loss("poisson"), np.ones(12)
    assert loss.dual(0.0 * one, y, one) == 0.0
    assert loss.value(np.log(np.maximum(y, 1e-300)), y, one) >= 0.0


def test_listing_faces_keeps_within_the_time():
    rng = np.random.default_rng(0)
    problem = Problem(
        rng.normal(size=(24, 3)), rng.normal(size=(24, 2)), np.ones(24), get_loss("squared_error", 2), 0.1
    )
    family = VectorReLU(None)
    assert isinstance(family.oracle(problem, None), FaceOracle)
    assert isinstance(family.oracle_within(problem, None, 0.0), VectorSearch)
    trained = train(problem, family, max_time=0.0)
    assert trained.certificate.scope == "bounded"
