"""Pipelines with estimators of this package become ONNX models by skl2onnx."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvxnn import (
    ConvexNetClassifier,
    ConvexNetClassifierCV,
    ConvexNetRegressor,
    ConvexNetRegressorCV,
    register_skl2onnx,
)
from cvxnn.testing_exports import onnx_session

GATED = {"architecture": "gated_relu", "patterns": 8}


@pytest.fixture(scope="module")
def skl2onnx():
    module = pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    register_skl2onnx()
    register_skl2onnx()  # twice is once
    return module


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = 3.0 + 2.0 * rng.normal(size=(60, 3))
    return X, X[:, 0] + np.abs(X[:, 1] - 3.0)


def run(proto, X):
    return onnx_session(proto).run(None, {"X": X})


def pipeline(kind, data, labels=None, **parameters):
    """A fitted pipeline; a classifier's labels are quantiles of the target."""
    X, y = data
    if labels is not None:
        y = np.array(labels)[np.searchsorted(np.quantile(y, [0.4, 0.7][: len(labels) - 1]), y)]
    return make_pipeline(StandardScaler(), kind(**parameters)).fit(X, y)


@pytest.mark.parametrize("labels", [[2, 5], ["no", "yes"], ["a", "b", "c"]])
@pytest.mark.parametrize("zipmap", [False, True, "columns"])
def test_classifiers(skl2onnx, data, labels, zipmap):
    X, _ = data
    pipe = pipeline(ConvexNetClassifier, data, labels, alpha=0.05, **GATED)
    for dtype, tol in ((np.float64, 1e-13), (np.float32, 1e-5)):
        rows = X.astype(dtype)
        proto = skl2onnx.to_onnx(pipe, rows[:1], target_opset=17, options={"zipmap": zipmap})
        label, *scores = run(proto, rows)
        proba = pipe.predict_proba(rows.astype(np.float64))
        sure = np.abs(np.sort(proba, axis=1)[:, -1] - np.sort(proba, axis=1)[:, -2]) > 1e-4
        assert np.sum(sure) > 50
        assert label[sure].tolist() == pipe.predict(rows.astype(np.float64))[sure].tolist()
        if zipmap is True:
            found = np.array([[row[c] for c in labels] for row in scores[0]])
            tol = 1e-5  # dictionaries are float32
        elif zipmap == "columns":
            found = np.column_stack(scores)
        else:
            (found,) = scores
            assert found.dtype == dtype
        assert found.shape == proba.shape and np.max(np.abs(found - proba)) <= tol


def test_options_of_labels(skl2onnx, data):
    X, _ = data
    pipe = pipeline(ConvexNetClassifier, data, ["no", "yes"], alpha=0.05, **GATED)
    proto = skl2onnx.to_onnx(pipe, X[:1], target_opset=17, options={"nocl": True, "zipmap": False})
    numbers = run(proto, X)[0]
    assert numbers.dtype == np.int64
    assert np.array(["no", "yes"])[numbers].tolist() == pipe.predict(X).tolist()
    asked = {"output_class_labels": True, "zipmap": False}
    proto = skl2onnx.to_onnx(pipe, X[:1], target_opset=17, options=asked)
    assert run(proto, X)[2].tolist() == ["no", "yes"]


def test_losses_without_probabilities_give_scores(skl2onnx, data):
    X, _ = data
    pipe = pipeline(ConvexNetClassifier, data, [0, 1], alpha=0.05, loss="squared_hinge", **GATED)
    proto = skl2onnx.to_onnx(pipe, X[:1], target_opset=17, options={"zipmap": False})
    label, scores = run(proto, X)
    f = pipe.decision_function(X)
    assert label.tolist() == pipe.predict(X).tolist()
    assert np.max(np.abs(scores - np.column_stack([-f, f]))) <= 1e-13


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_regressors(skl2onnx, data, opset):
    X, y = data
    pipe = pipeline(ConvexNetRegressor, data, alpha=0.05, architecture="linear")
    found = run(skl2onnx.to_onnx(pipe, X[:1], target_opset=opset), X)[0]
    assert found.shape == (60, 1) and np.max(np.abs(found[:, 0] - pipe.predict(X))) <= 1e-13
    two = make_pipeline(StandardScaler(), ConvexNetRegressor(0.05, architecture="linear"))
    two.fit(X, np.column_stack([y, X[:, 2]]))
    found = run(skl2onnx.to_onnx(two, X[:1], target_opset=opset), X)[0]
    assert np.max(np.abs(found - two.predict(X))) <= 1e-13


def test_the_estimators_of_cross_validation(skl2onnx, data):
    X, _ = data
    few = {"alphas": [0.1, 0.05], "cv": 2, "architecture": "linear"}
    pipe = pipeline(ConvexNetRegressorCV, data, **few)
    found = run(skl2onnx.to_onnx(pipe, X[:1], target_opset=17), X)[0]
    assert np.max(np.abs(found[:, 0] - pipe.predict(X))) <= 1e-13
    pipe = pipeline(ConvexNetClassifierCV, data, ["no", "yes"], **few)
    proto = skl2onnx.to_onnx(pipe, X[:1], target_opset=17, options={"zipmap": False})
    assert run(proto, X)[0].tolist() == pipe.predict(X).tolist()


def test_integers_and_old_opsets(skl2onnx, data):
    X = np.round(data[0]).astype(np.int64)
    model = ConvexNetRegressor(0.05, architecture="linear").fit(X, data[1])
    found = run(skl2onnx.to_onnx(model, X[:1], target_opset=17), X)[0]
    assert found.dtype == np.float32 and np.max(np.abs(found[:, 0] - model.predict(X))) <= 1e-5
    with pytest.raises(ValueError, match="pass at least target_opset=13"):
        skl2onnx.to_onnx(model, X[:1], target_opset=12)


def test_converters_of_scikit_learn_read_what_to_sklearn_returns(skl2onnx, data):
    X, y = data
    labels = np.array(["a", "b", "c"])[np.searchsorted(np.quantile(y, [0.4, 0.7]), y)]
    regression = ConvexNetRegressor(0.01, patterns=12).fit(X, y)
    found = run(skl2onnx.to_onnx(regression.to_sklearn(), X[:1], target_opset=17), X)[0]
    assert regression.network_.width > 1
    assert np.max(np.abs(found[:, 0] - regression.predict(X))) <= 1e-12
    classes = ConvexNetClassifier(0.05, architecture="linear").fit(X, labels)
    zipped = {"zipmap": False}
    proto = skl2onnx.to_onnx(classes.to_sklearn(), X[:1], target_opset=17, options=zipped)
    label, proba = run(proto, X)
    assert label.tolist() == classes.predict(X).tolist()
    assert np.max(np.abs(proba - classes.predict_proba(X))) <= 1e-12


def test_without_skl2onnx_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"skl2onnx is missing: pip install 'cvxnn\[onnx\]'"):
        register_skl2onnx()
