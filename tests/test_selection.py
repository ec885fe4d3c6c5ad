"""Choosing alpha: the rule, the folds, and scikit-learn's conventions."""

from __future__ import annotations

import inspect
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import cvxnn.architectures.rectified
import cvxnn.exploration
import cvxnn.oracles
import cvxnn.selection_base
import cvxnn.train
from cvxnn import ConvexNetClassifier, ConvexNetClassifierCV, ConvexNetRegressor, ConvexNetRegressorCV
from cvxnn.architectures.relu import ReLU
from cvxnn.families import get_architecture
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.selection import choose, first_alpha, outline
from cvxnn.train import Ground, train

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 3))
y = np.abs(X[:, 0]) + 0.3 * rng.standard_normal(40)
labels = np.where(y > np.median(y), "yes", "no")
#: A problem whose folds take milliseconds.
GATED = {"architecture": "gated_relu", "patterns": 12, "n_alphas": 4, "cv": 3}


@parametrize_with_checks(
    [
        ConvexNetRegressorCV(n_alphas=2, cv=2, architecture="gated_relu", patterns=5),
        ConvexNetClassifierCV(n_alphas=2, cv=2, architecture="gated_relu", patterns=5),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("single", "chosen"),
    [(ConvexNetRegressor, ConvexNetRegressorCV), (ConvexNetClassifier, ConvexNetClassifierCV)],
)
def test_every_parameter_of_one_alpha_is_there_with_its_default(single, chosen):
    ours, theirs = inspect.signature(chosen).parameters, inspect.signature(single).parameters
    for name in set(theirs) - {"alpha", "coupling"}:  # one output has nothing to couple
        assert ours[name].default == theirs[name].default, name


def test_the_rule():
    scores = np.array(
        [[0.5, 0.5, 0.5], [0.7, 0.9, 0.8], [0.8, 0.9, 0.85], [0.8, 0.9, 0.85], [0.0, 1.0, 0.9]]
    )
    assert choose(scores, "best") == 2  # of equals the largest alpha
    assert choose(scores, "one_standard_error") == 2  # its error is 0.029, the second is 0.05 below
    wide = scores + np.array([[0.0, 0.0, 0.0]] * 2 + [[0.1, -0.1, 0.0]] + [[0.0] * 3] * 2)
    assert choose(wide, "best") == 2 and choose(wide, "one_standard_error") == 2
    wide[2] = [1.0, 0.7, 0.85]
    assert choose(wide, "one_standard_error") == 1  # 0.85 - 0.087 < 0.8
    assert choose(scores, "best", weights=np.array([0.0, 1.0, 0.0])) == 4
    assert choose(scores[:, :1], "one_standard_error") == 2
    some = np.where(scores == 0.0, np.nan, scores)
    assert choose(some, "best", weights=np.array([0.0, 1.0, 0.1])) != 4  # no score in every fold
    with pytest.raises(ValueError, match="nan at every alpha"):
        choose(np.full((2, 2), np.nan), "best")


def test_scores_are_those_of_separate_fits():
    """A convex program with one solution: paths inside folds predict as single fits do."""
    model = ConvexNetRegressorCV(**GATED).fit(X, y)
    assert model.scores_.shape == model.mse_path_.shape == model.widths_.shape == (4, 3)
    assert np.all(np.diff(model.alphas_) < 0) and np.all(model.widths_[-1] > 0)
    for k, alpha in enumerate(model.alphas_):
        single = ConvexNetRegressor(alpha, architecture="gated_relu", patterns=12)
        again = -cross_val_score(single, X, y, cv=3, scoring="neg_mean_squared_error")
        np.testing.assert_allclose(model.mse_path_[k], again, rtol=0.02)
    best = int(np.argmin(model.mse_path_.mean(axis=1)))
    assert model.alpha_ == model.alphas_[best]
    last = ConvexNetRegressor(model.alpha_, architecture="gated_relu", patterns=12).fit(X, y)
    assert model.certificate_ == last.certificate_
    np.testing.assert_array_equal(model.predict(X), last.predict(X))


def test_networks_in_folds_are_near_the_optimum_and_never_below_it():
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 1.0, True)
    alphas = np.array([10.0, 0.1, 0.01])
    networks = outline(problem, ReLU(), alphas)
    assert networks[0].width == 0
    for network, alpha in zip(networks[1:], alphas[1:], strict=True):
        there = problem.at(alpha)
        best = train(there, ReLU(), tol=1e-2, max_iter=5, bound_iter=0).certificate
        value = there.value(network(there.X), ReLU().cost(network)) / there.total_weight
        assert best.lower_bound <= value <= 1.03 * best.objective


def wide_problem():
    """Two classes that no line parts, on more columns than patterns can be listed for."""
    P = np.random.default_rng(1).standard_normal((60, 110))
    t = np.where(np.abs(P[:, 0]) + 0.1 * P[:, 1] > 0.7, 1.0, -1.0)
    return Problem.from_alpha(P, t, None, get_loss("log_loss"), 1.0, True)


def test_nothing_is_proven_or_solved_in_folds_on_wide_data(monkeypatch):
    problem, alphas = wide_problem(), np.array([0.3, 0.1, 0.03])
    best = [train(problem.at(a), ReLU(), tol=1e-2, max_iter=3, bound_iter=0).certificate for a in alphas]

    def never(*args, **kwargs):
        raise AssertionError("folds need no proof, no program, no Newton path and no thorough search")

    monkeypatch.setattr(cvxnn.oracles, "oracle_bound", never)
    monkeypatch.setattr(cvxnn.oracles, "improve_dual", never)
    monkeypatch.setattr(cvxnn.train, "_solve", never)
    monkeypatch.setattr(cvxnn.exploration, "follow", never)
    monkeypatch.setattr(cvxnn.oracles.SearchOracle, "thorough", never)
    monkeypatch.setattr(cvxnn.architectures.rectified, "fewer", never)
    for network, alpha, known in zip(outline(problem, ReLU(), alphas), alphas, best, strict=True):
        there = problem.at(alpha)
        value = there.value(network(there.X), ReLU().cost(network)) / there.total_weight
        assert known.lower_bound <= value <= 1.01 * known.objective
    assert network.width > 0


@pytest.mark.parametrize(
    "architecture",
    [
        ReLU(),
        ReLU(hidden_bias="free"),
        ReLU(hidden_bias=None, skip=True),
        ReLU(penalty="l1"),
        get_architecture("absolute", "penalized", "auto", 1, "joint", "l2"),
        get_architecture("relu", "penalized", "auto", 2, "joint", "l2"),
    ],
    ids=["plain", "free bias", "skip", "l1", "absolute", "two outputs"],
)
def test_the_first_alpha_is_that_of_the_price_with_its_bound(architecture):
    P = np.random.default_rng(2).standard_normal((50, 8))
    T = np.column_stack([np.abs(P[:, 0]), P[:, 1]])
    t = T if "Vector" in type(architecture).__name__ else T[:, 0]
    loss = get_loss("squared_error", t.shape[1] if t.ndim == 2 else 1)
    problem = Problem.from_alpha(P, t, None, loss, 1.0, True)
    ground = Ground.prepare(problem, architecture, np.random.default_rng(0))
    problem = ground.oracle.problem
    price = ground.oracle.price(problem.residual(np.zeros_like(problem.y)))
    assert price.scope == "bounded"
    assert first_alpha(problem, ground) == pytest.approx(price.found / problem.total_weight, rel=1e-12)


def test_relu_networks_for_classes():
    P, t = load_iris(return_X_y=True)
    P = StandardScaler().fit_transform(P)[:, 2:]
    settings = {"n_alphas": 3, "cv": 3, "fold_iter": 2, "tol": 1e-2, "hidden_bias": None}
    model = ConvexNetClassifierCV(**settings).fit(P, t == 1)
    again = pickle.loads(pickle.dumps(clone(model).fit(P, t == 1)))
    assert again.certificate_ == model.certificate_ and again.alpha_ == model.alpha_
    np.testing.assert_array_equal(again.scores_, model.scores_)
    assert model.certificate_.lower_bound <= model.certificate_.objective
    assert model.certificate_.alpha == pytest.approx(model.alpha_)
    assert model.score(P, t == 1) > 0.9 and model.predict_proba(P).shape == (150, 2)


def test_other_scores():
    model = ConvexNetClassifierCV(**GATED, scoring="roc_auc").fit(X, labels)
    assert np.all((model.scores_ >= 0) & (model.scores_ <= 1))
    assert 0.5 < model.score(X, labels) <= 1.0
    assert np.all(ConvexNetClassifierCV(**GATED, scoring="neg_log_loss").fit(X, labels).scores_ < 0)
    assert ConvexNetClassifierCV(**GATED, loss="squared_error").fit(X, labels).score(X, labels) > 0.5
    regressor = ConvexNetRegressorCV(**GATED, scoring="r2").fit(X, y)
    assert not hasattr(regressor, "mse_path_")
    assert regressor.score(X, y) == pytest.approx(
        ConvexNetRegressorCV(**GATED).fit(X, y).score(X, y), abs=0.3
    )


def test_one_standard_error_takes_a_larger_alpha():
    best = ConvexNetRegressorCV(**GATED).fit(X, y)
    simple = clone(best).set_params(selection="one_standard_error").fit(X, y)
    assert simple.alpha_ >= best.alpha_
    k, j = (int(np.flatnonzero(best.alphas_ == a)[0]) for a in (simple.alpha_, best.alpha_))
    error = np.std(best.scores_[j], ddof=1) / np.sqrt(3)
    assert best.scores_[k].mean() >= best.scores_[j].mean() - error
    assert k == 0 or best.scores_[k - 1].mean() < best.scores_[j].mean() - error


def test_a_second_fit_forgets_the_first():
    model = ConvexNetRegressorCV(**GATED).fit(X, y)
    before = model.certificate_
    again = model.fit(X[:, :2], 2.0 * y)
    other = ConvexNetRegressorCV(**GATED).fit(X[:, :2], 2.0 * y)
    assert again.certificate_ == other.certificate_ != before and again.network_.n_features == 2


def test_jobs_change_nothing():
    alone = ConvexNetRegressorCV(**GATED).fit(X, y)
    with joblib.parallel_config(backend="threading"):
        many = ConvexNetRegressorCV(**GATED, n_jobs=3).fit(X, y)
    np.testing.assert_array_equal(alone.scores_, many.scores_)
    assert alone.certificate_ == many.certificate_


def test_weights_reach_training_scores_and_means():
    heavy = (X[:, 1] > 0).astype(float)
    cv = list(KFold(3).split(X))
    weighted = ConvexNetRegressorCV(**GATED | {"cv": cv}, alphas=[0.3, 0.03]).fit(X, y, sample_weight=heavy)
    kept = np.flatnonzero(X[:, 1] > 0)
    place = {i: k for k, i in enumerate(kept)}
    part = [tuple(np.array([place[i] for i in side if i in place]) for side in fold) for fold in cv]
    alone = ConvexNetRegressorCV(**GATED | {"cv": part}, alphas=[0.3, 0.03]).fit(X[kept], y[kept])
    np.testing.assert_allclose(weighted.scores_, alone.scores_, rtol=1e-9)
    assert not np.allclose(
        weighted.scores_, ConvexNetRegressorCV(**GATED, alphas=[0.3, 0.03]).fit(X, y).scores_
    )


def test_metadata_routing():
    groups = np.repeat(np.arange(8), 5)
    plain = ConvexNetRegressorCV(**GATED | {"cv": list(GroupKFold(3).split(X, y, groups))}).fit(X, y)
    model = ConvexNetRegressorCV(**GATED | {"cv": GroupKFold(3)})
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        model.fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        np.testing.assert_array_equal(model.fit(X, y, groups=groups).scores_, plain.scores_)
        weights = np.linspace(0.5, 2.0, 40)
        scorer = make_scorer(mean_squared_error, greater_is_better=False)
        rows = {}
        for wanted in (True, False):
            asked = scorer.set_score_request(sample_weight=wanted)
            chosen = ConvexNetRegressorCV(**GATED, scoring=asked)
            rows[wanted] = chosen.fit(X, y, sample_weight=weights).scores_
        default = ConvexNetRegressorCV(**GATED).fit(X, y, sample_weight=weights).scores_
        np.testing.assert_allclose(rows[True], default)
        assert not np.allclose(rows[False], default)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        chosen = ConvexNetRegressorCV(**GATED).set_fit_request(sample_weight=True)
        pipe = make_pipeline(scaler, chosen).fit(X, y, sample_weight=weights)
        assert pipe[-1].alpha_ in pipe[-1].alphas_


def test_low_rank_inside_folds():
    model = ConvexNetRegressorCV(**GATED, rank=2).fit(X, y)
    assert model.low_rank_.rank == 2 and model.network_.n_features == 3
    for k, alpha in enumerate(model.alphas_):
        single = ConvexNetRegressor(alpha, architecture="gated_relu", patterns=12, rank=2)
        again = -cross_val_score(single, X, y, cv=3, scoring="neg_mean_squared_error")
        np.testing.assert_allclose(model.mse_path_[k], again, rtol=0.02)


@pytest.mark.parametrize("kind", [ConvexNetRegressorCV, ConvexNetClassifierCV])
def test_alphas_that_were_not_reached_are_told(kind):
    target, alphas = labels if kind is ConvexNetClassifierCV else y, [0.2, 0.05, 0.02]
    model = kind(alphas=alphas, cv=2, max_time=0.0)
    message = "3 alphas, 2 were left out, those below 0.2.*larger max_time, or fewer alphas"
    with pytest.warns(ConvergenceWarning, match=message) as told:
        model.fit(X, target)
    assert any("left out" in str(each.message) and each.filename == __file__ for each in told)
    assert model.alphas_.tolist() == [0.2] and model.alpha_ == 0.2
    assert model.scores_.shape == model.widths_.shape == (1, 2) and np.all(np.isfinite(model.scores_))
    assert (
        model.certificate_.lower_bound <= model.certificate_.objective and model.certificate_.alpha == 0.2
    )
    assert model.predict(X).shape == target.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ample = kind(alphas=alphas, **{**GATED, "cv": 2}, max_time=600.0, tol=1e-3).fit(X, target)
    assert ample.alphas_.tolist() == alphas


def test_time_and_interrupts(monkeypatch):
    with pytest.warns(ConvergenceWarning, match="of 2 alphas, 1 was left out"):
        model = ConvexNetRegressorCV(alphas=[0.2, 0.02], cv=2, max_time=0.0).fit(X, y)
    assert len(model.alphas_) == len(model.scores_) == 1 and model.alpha_ == 0.2
    assert model.certificate_.lower_bound <= model.certificate_.objective

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cvxnn.exploration.anneal", stop)
    fresh = ConvexNetRegressorCV(alphas=[0.2, 0.02], cv=2)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X, y)
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    # after the choice, the best network so far is kept, as in a single fit
    monkeypatch.setattr(
        cvxnn.selection_base,
        "score_fold",
        lambda problem, family, alphas, score, **_: cvxnn.selection.Fold(alphas, alphas.astype(int)),
    )
    fresh.fit(X, y)
    assert fresh.alpha_ == 0.2 and fresh.network_.width == 0
    assert fresh.certificate_.lower_bound <= fresh.certificate_.objective


BAD = {
    "unknown rule": ({"selection": "1se"}, y, "unknown: pass one of"),
    "fold_iter zero": ({"fold_iter": 0}, y, "fold_iter=0 must be an integer of at least 1"),
    "no alphas": ({"alphas": []}, y, "at least one strength"),
    "negative alpha": ({"alphas": [0.1, -1.0]}, y, "must be > 0"),
    "unknown scoring": ({"scoring": "speed"}, y, "speed"),
    "class loss": ({"loss": "log_loss"}, y, "use ConvexNetClassifierCV"),
    "too many folds": ({"cv": 41}, y, "Cannot have number of splits"),
    "rank zero": ({"rank": 0}, y, "rank=0 must be an integer of at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    parameters, target, said = BAD[case]
    with pytest.raises(ValueError, match=said):
        ConvexNetRegressorCV(**GATED | parameters).fit(X, target)


def test_a_fold_with_one_class():
    order = np.argsort(labels)
    with pytest.raises(ValueError, match=r"one class only .*in a fold"):
        ConvexNetClassifierCV(**GATED | {"cv": KFold(2)}).fit(X[order], labels[order])
    three = np.sort(np.arange(40) % 3)
    with pytest.raises(ValueError, match=r"classes \[0\] are missing in a fold"):
        ConvexNetClassifierCV(**GATED | {"cv": KFold(3)}).fit(X, three)


@pytest.mark.parametrize("architecture", ["relu", "gated_relu"])
def test_three_classes(architecture):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(45, 2))
    y = np.array(["a", "b", "c"])[np.argmax(X @ rng.normal(size=(2, 3)), axis=1)]
    options = {"architecture": architecture, "hidden_bias": None, "tol": 1e-4}
    model = ConvexNetClassifierCV([0.3, 0.03], cv=3, **options).fit(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"] and model.scores_.shape == (2, 3)
    assert model.scores_[1].mean() > 0.8 > model.scores_[0].mean() - 0.2
    alone = ConvexNetClassifier(model.alpha_, **options).fit(X, y)
    assert model.certificate_.objective == pytest.approx(alone.certificate_.objective, rel=1e-4)
    assert model.predict_proba(X).sum(axis=1) == pytest.approx(1.0)
    assert np.mean(model.predict(X) == y) > 0.9
    likely = ConvexNetClassifierCV([0.3, 0.03], cv=3, scoring="neg_log_loss", **options).fit(X, y)
    assert np.all(likely.scores_ < 0) and likely.alpha_ == 0.03


def test_several_targets():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    Y = np.column_stack([np.abs(X[:, 0]), X[:, 1], np.maximum(X[:, 0], 0.0)])
    model = ConvexNetRegressorCV(n_alphas=3, cv=2, architecture="gated_relu", patterns=20).fit(X, Y)
    assert model.mse_path_.shape == (3, 2) and np.all(np.diff(model.alphas_) < 0)
    assert model.predict(X).shape == (40, 3)
    # at the first alpha of the grid the best networks are constants
    assert model.widths_[0].max() <= 3 and model.widths_[-1].min() > 0
    apart = ConvexNetRegressorCV(
        [0.05], cv=2, architecture="gated_relu", patterns=20, coupling="separate"
    ).fit(X, Y)
    joint = ConvexNetRegressorCV([0.05], cv=2, architecture="gated_relu", patterns=20).fit(X, Y)
    assert joint.certificate_.objective <= apart.certificate_.objective * (1 + 1e-6)
    column = ConvexNetRegressorCV([0.05], cv=2, architecture="gated_relu", patterns=20)
    with pytest.warns(UserWarning, match="column-vector"):
        column.fit(X, Y[:, :1])
    assert column.predict(X).shape == (40,)


def test_images_are_chosen_for_as_rows_are():
    """Folds, the last training and scores see images; other architectures say what they see."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4, 4))
    y = np.maximum(X[:, 1:3, 1:3], 0.0).sum(axis=(1, 2))
    alphas = [1e-3, 1.0]
    ours = {"alphas": alphas, "cv": 2, "max_iter": 3, "fold_iter": 1}
    images = ConvexNetRegressorCV(architecture="cnn_linear", **ours).fit(X, y)
    family = get_architecture("cnn_linear", "penalized", "auto", options={"input_shape": (4, 4)})
    rows = ConvexNetRegressorCV(architecture=family, **ours).fit(X.reshape(40, -1), y)
    assert images.alpha_ == rows.alpha_ and np.array_equal(images.scores_, rows.scores_)
    assert np.array_equal(images.predict(X), rows.predict(X.reshape(40, -1)))
    assert images.score(X, y) == rows.score(X.reshape(40, -1), y)
    for other in (X.reshape(40, 2, 8), X.reshape(40, 2, 2, 4), X[..., None, None]):
        with pytest.raises(ValueError, match=r"\(4, 4, 1\): pass such arrays, or rows"):
            images.predict(other)
    assert np.array_equal(images.predict(X[..., None]), images.predict(X))
    with pytest.raises(ValueError, match="reshape"):
        ConvexNetRegressorCV(**ours).fit(X, y)
