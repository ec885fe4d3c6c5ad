"""The estimators keep scikit-learn's contract, with no expected failure."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cvxnn import ConvexNetClassifier, ConvexNetPath, ConvexNetRegressor
from cvxnn.losses.quantile import Quantile


# The checks are about the interface, not about hard problems: their targets are not scaled, so that the
# default alpha would have networks follow every sample. Some set their own alpha, hence the tolerance.
@parametrize_with_checks(
    [
        ConvexNetRegressor(alpha=12.0, tol=0.1),
        ConvexNetClassifier(alpha=0.1, tol=1e-2),
        ConvexNetClassifier(alpha=0.1, architecture="gated_relu", tol=1e-2, loss="squared_error"),
        ConvexNetRegressor(alpha=0.1, architecture="gated_relu", tol=1e-2),
        ConvexNetClassifier(alpha=0.02, architecture="gated_relu", tol=1e-2),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_class_weights_are_sample_weights():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(25, 2))
    y = (X[:, 0] + 0.3 * rng.normal(size=25) > 0.5).astype(int)
    options = {"alpha": 0.02, "loss": "hinge"}
    balanced = ConvexNetClassifier(class_weight="balanced", **options).fit(X, y)
    share = np.where(y == 1, y.mean(), 1.0 - y.mean())
    weighted = ConvexNetClassifier(**options).fit(X, y, sample_weight=0.5 / share)
    # the sums of weights differ by rounding
    assert balanced.certificate_.objective == pytest.approx(weighted.certificate_.objective, rel=1e-8)
    assert balanced.certificate_.gap <= 1e-5
    assert not hasattr(balanced, "predict_proba")
    for weight, message in (
        ("even", "pass a dict"),
        ({0: -1.0}, "at least 0"),
        ({0: 0.0}, "leaves out a class"),
    ):
        with pytest.raises(ValueError, match=message):
            ConvexNetClassifier(class_weight=weight).fit(X, y)


def test_losses_as_objects_and_means():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(25, 2))
    z = X[:, 0] + 0.3 * rng.normal(size=25)
    upper = clone(ConvexNetRegressor(0.02, loss=Quantile(0.9))).fit(X, z)
    assert upper.certificate_.gap <= 1e-5 and np.mean(z <= upper.predict(X) + 1e-6) >= 0.9
    counts = np.round(np.exp(z))
    means = ConvexNetRegressor(0.02, loss="poisson").fit(X, counts)
    assert means.certificate_.gap <= 1e-5
    # the intercept of a logarithmic link reproduces the total
    assert means.predict(X).sum() == pytest.approx(counts.sum(), rel=1e-9)
    with pytest.raises(ValueError, match="pass targets >= 0"):
        ConvexNetRegressor(loss="poisson").fit(X, z)


@pytest.mark.parametrize("loss", ["absolute_error", "quantile", "epsilon_insensitive"])
def test_one_input_and_a_loss_with_kinks(loss):
    """The spline's descent is for smooth losses; others are grown, and never end above penalised biases."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 1))
    y = np.abs(np.sin(3.0 * X[:, 0]) + 0.1 * rng.normal(size=30))
    free, penalized = (
        ConvexNetRegressor(1e-2, loss=loss, hidden_bias=bias).fit(X, y).certificate_
        for bias in ("free", "penalized")
    )
    assert free.scope == "global" and free.gap <= 1e-5
    assert free.lower_bound <= free.objective <= penalized.objective


def test_what_is_for_one_output_says_so():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), np.arange(20) % 3
    three = ConvexNetClassifier(0.1).fit(X, y)
    with pytest.raises(ValueError, match="one output, and the network has 3"):
        three.optimal_set(X, y)
    for options, message in (
        ({"loss": "huber"}, "is for numbers"),
        ({"class_weight": np.ones(3)}, "pass a dict"),
        ({"class_weight": {0: 1.0, 7: 2.0}}, r"labels \[7\]"),
    ):
        with pytest.raises(ValueError, match=message):
            ConvexNetClassifier(**options).fit(X, y)


def test_optimal_set_with_class_weights():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 2)), np.arange(12) % 2
    model = ConvexNetClassifier(0.05, class_weight={0: 2.0}, tol=1e-8).fit(X, y)
    assert model.optimal_set(X, y).network.width > 0


def test_warnings_point_at_the_line_that_asked():
    """Not at a wrapper of scikit-learn's, whatever calls fit."""
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    for run in (
        lambda: ConvexNetRegressor(alpha=1e-4, max_iter=1).fit(X, y),
        lambda: make_pipeline(StandardScaler(), ConvexNetClassifier(alpha=1e-4, max_iter=1)).fit(X, y),
        lambda: ConvexNetPath(n_alphas=3, max_iter=1).fit(X, y),
    ):
        with pytest.warns(ConvergenceWarning) as caught:
            run()
        assert {Path(str(warning.filename)) for warning in caught} == {Path(__file__)}


def test_weights_of_classes_that_are_digits_as_text():
    """scikit-learn looks for the number 1 where the label is the text '1'."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), np.array(["0", "1", "2"])[np.arange(30) % 3]
    ours = ConvexNetClassifier(0.1, class_weight={"1": 3.0}, max_iter=3).fit(X, y)
    by_sample = ConvexNetClassifier(0.1, max_iter=3).fit(X, y, np.where(y == "1", 3.0, 1.0))
    assert ours.certificate_.objective == pytest.approx(by_sample.certificate_.objective, rel=1e-12)
