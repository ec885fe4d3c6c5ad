"""The estimators keep scikit-learn's contract, with no expected failure."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from cvxnn import ConvexNetClassifier, ConvexNetRegressor


@parametrize_with_checks(
    [
        ConvexNetRegressor(),
        ConvexNetClassifier(),
        ConvexNetClassifier(loss="squared_error"),
        ConvexNetRegressor(architecture="gated_relu"),
        ConvexNetClassifier(architecture="gated_relu"),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)
