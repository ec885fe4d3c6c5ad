"""The estimators among others: data frames, meta-estimators, metadata routing, copies."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvxnn import (
    ConvexNetClassifier,
    ConvexNetClassifierCV,
    ConvexNetPath,
    ConvexNetRegressor,
    ConvexNetRegressorCV,
    HiddenFeatures,
)

rng = np.random.default_rng(0)
X = rng.standard_normal((100, 3))
y = np.abs(X[:, 0]) + 0.3 * X[:, 1]
labels = np.where(y > np.median(y), "high", "low")
NAMES = ["age", "mass", "dose"]
FRAMES = {
    "pandas": lambda values: pd.DataFrame(values, columns=NAMES),
    "polars": lambda values: pl.DataFrame(values, schema=NAMES),
}
SERIES = {"pandas": lambda values: pd.Series(values), "polars": lambda values: pl.Series("y", values)}


#: Gated networks need no searches and no bounds over all patterns: quick.
GATED = {"architecture": "gated_relu", "patterns": 20}
QUICK = {"alpha": 0.05, **GATED}


def regressor(**options):
    return ConvexNetRegressor(**{**QUICK, **options})


def classifier(**options):
    return ConvexNetClassifier(**{**QUICK, **options})


@pytest.mark.parametrize("kind", FRAMES)
def test_frames(kind):
    frame, series = FRAMES[kind](X), SERIES[kind]
    model = regressor().fit(frame, series(y))
    assert model.feature_names_in_.tolist() == NAMES
    plain = regressor().fit(X, y)
    np.testing.assert_array_equal(model.predict(frame), plain.predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["mass", "age", "dose"]])
    texts = classifier().fit(frame, series(labels))
    assert set(texts.predict(frame)) <= {"high", "low"} and texts.classes_.tolist() == ["high", "low"]
    path = ConvexNetPath([0.5, 0.2], **GATED).fit(frame, series(y))
    assert path.feature_names_in_.tolist() == NAMES and path.predict(frame).shape == (100, 2)


def test_targets_in_frames():
    targets = pd.DataFrame({"first": y, "second": -y})
    assert regressor(alpha=0.3).fit(X, targets).predict(X).shape == (100, 2)


def test_columns_that_are_no_numbers():
    frame = FRAMES["pandas"](X).assign(kind=pd.Categorical(labels))
    with pytest.raises(ValueError, match="could not convert string to float"):
        regressor().fit(frame, y)


@pytest.mark.parametrize("kind", FRAMES)
def test_hidden_features_in_frames(kind):
    frame = FRAMES[kind](X)
    features = HiddenFeatures(regressor()).set_output(transform=kind).fit(frame, y)
    hidden = features.transform(frame)
    assert type(hidden) is type(frame)
    assert list(hidden.columns) == features.get_feature_names_out().tolist()
    network = features.estimator_.network_
    assert hidden.shape == (100, network.width) and hidden.columns[0] == "hiddenfeatures0"
    last = network.layers[-1]
    out = hidden.to_numpy() @ last.weight + last.bias
    np.testing.assert_allclose(out[:, 0], features.estimator_.predict(frame), atol=1e-12)


def test_hidden_features_in_pipelines():
    model = make_pipeline(StandardScaler(), HiddenFeatures(regressor()), LinearRegression()).fit(X, y)
    # least squares on the features of the network is no worse on its training data
    assert model.score(X, y) >= model[1].estimator_.score(model[0].transform(X), y)
    assert HiddenFeatures(classifier()).fit_transform(X, labels).shape[0] == 100
    with pytest.raises(TypeError, match="has no network: pass a ConvexNetRegressor"):
        HiddenFeatures(Ridge()).fit(X, y)
    fitted = clone(HiddenFeatures(regressor())).fit(X, y)
    with pytest.raises(ValueError, match="2 features, but HiddenFeatures is expecting 3"):
        fitted.transform(X[:, :2])


def test_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), regressor())
    scores = cross_val_score(pipeline, X, y, cv=3)
    assert scores.shape == (3,) and scores.mean() > 0.5
    name = "convexnetregressor__alpha"
    search = GridSearchCV(pipeline, {name: [0.05, 10.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {name: 0.05}
    assert search.best_estimator_[-1].certificate_.alpha == pytest.approx(0.05)


def test_meta_estimators_of_classes():
    for model in (
        CalibratedClassifierCV(classifier(), cv=3),
        VotingClassifier([("net", classifier()), ("linear", LogisticRegression())], voting="soft"),
        OneVsRestClassifier(classifier()),
    ):
        fitted = model.fit(X, labels)
        assert fitted.score(X, labels) > 0.7
        np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1.0)
    three = OneVsRestClassifier(classifier()).fit(X, np.digitize(y, [0.5, 1.0]))
    assert three.predict(X).shape == (100,) and len(three.estimators_) == 3


def test_meta_estimators_of_numbers():
    stack = StackingRegressor([("net", regressor()), ("ridge", Ridge())], cv=3).fit(X, y)
    assert stack.score(X, y) > 0.5
    scaled = TransformedTargetRegressor(regressor(), func=np.exp, inverse_func=np.log).fit(X, y)
    assert np.all(np.isfinite(scaled.predict(X)))
    found = permutation_importance(regressor().fit(X, y), X, y, n_repeats=3, random_state=0)
    assert np.argmax(found.importances_mean) == 0 and abs(found.importances_mean[2]) < 0.1


@pytest.mark.parametrize("model", [regressor(), ConvexNetRegressorCV([0.5, 0.1], cv=3, **GATED)])
def test_copies(model, tmp_path):
    fitted = clone(model).fit(X, y)
    joblib.dump(fitted, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(copy.predict(X), fitted.predict(X))
        assert copy.certificate_ == fitted.certificate_
    again = clone(fitted)
    assert again.get_params() == model.get_params() and not hasattr(again, "network_")


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_weights_are_routed(routing):
    weights = np.where(X[:, 0] > 0, 1.0, 0.0)
    model = regressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
    pipeline.fit(X, y, sample_weight=weights)
    rows = StandardScaler().fit_transform(X)
    plain = regressor().fit(rows, y, sample_weight=weights)
    np.testing.assert_array_equal(pipeline.predict(X), plain.predict(rows))
    search = GridSearchCV(model, {"alpha": [0.05]}, cv=3).fit(X, y, sample_weight=weights)
    alone = regressor().fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(search.predict(X), alone.predict(X))
    scores = cross_validate(model, X, y, cv=3, params={"sample_weight": weights})["test_score"]
    other = cross_validate(model, X, y, cv=3, params={"sample_weight": np.ones(100)})["test_score"]
    assert np.all(scores != other)


def test_weights_are_routed_by_the_estimators_that_choose_alpha(routing):
    weights = rng.uniform(0.5, 2.0, 100)
    scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
    model = ConvexNetClassifierCV([0.5, 0.1], cv=3, scoring=scorer, **GATED).fit(
        X, labels, sample_weight=weights
    )
    unweighted = ConvexNetClassifierCV([0.5, 0.1], cv=3, **GATED).fit(X, labels)
    assert not np.array_equal(model.scores_, unweighted.scores_)
    features = HiddenFeatures(regressor()).set_fit_request(sample_weight=True)
    pipeline = make_pipeline(features, Ridge().set_fit_request(sample_weight=False))
    pipeline.fit(X, y, sample_weight=weights)
    direct = regressor().fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(
        pipeline[0].estimator_.network_.layers[0].weight, direct.network_.layers[0].weight
    )


@pytest.mark.parametrize(
    "model",
    [
        regressor(),
        classifier(),
        ConvexNetPath([0.5, 0.2], **GATED),
        ConvexNetRegressorCV([0.5, 0.1], cv=3, **GATED),
    ],
    ids=lambda model: type(model).__name__,
)
def test_html_of_estimators(model):
    assert type(model).__name__ in model._repr_html_() and "alpha" in model._repr_html_()
    fitted = clone(model).fit(FRAMES["pandas"](X), labels if "Classifier" in type(model).__name__ else y)
    html = fitted._repr_html_()
    assert "fitted" in html and type(model).__name__ in html
    assert type(model).__name__ in make_pipeline(StandardScaler(), fitted)._repr_html_()
