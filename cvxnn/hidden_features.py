r"""Hidden activations as features: a trained network's last hidden layer as a transformer.

A two-layer network is a linear model on the features :math:`\phi_j(x) = \phi(w_j^\top x + b_j)` that it
chose. The transformer returns these, so that other estimators can be fitted on them, or people can look at
them, with what scikit-learn's transformers offer: names of the columns, data frames by ``set_output``.

Reference: scikit-learn's developer guide for the conventions of transformers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from .estimator_base import ConvexNet
from .estimators import ConvexNetRegressor


class HiddenFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The activations of the last hidden layer of a network trained to certified global optimality.

    Parameters
    ----------
    estimator : ConvexNetRegressor or ConvexNetClassifier, default=None
        Trained by `fit`, as a clone; also one that chooses alpha by cross-validation. None is
        ``ConvexNetRegressor()``.

    Attributes
    ----------
    estimator_ : estimator
        Fitted; its `network_` and `certificate_` are those of the features.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,)
        Their names, if X had string column names.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ConvexNetRegressor, HiddenFeatures
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> features = HiddenFeatures(ConvexNetRegressor(alpha=1e-3)).fit(X, np.abs(X[:, 0]))
    >>> features.transform(X).shape, list(features.get_feature_names_out())
    ((20, 2), ['hiddenfeatures0', 'hiddenfeatures1'])
    """

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HiddenFeatures:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,), or (n, targets)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If the estimator is none of this package with one network.
        """
        estimator = ConvexNetRegressor() if self.estimator is None else self.estimator
        if not isinstance(estimator, ConvexNet):
            raise TypeError(
                f"estimator={estimator!r} has no network: pass a ConvexNetRegressor or ConvexNetClassifier"
            )
        validate_data(self, X, skip_check_array=True)
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.estimator_ = clone(estimator).fit(X, y, **weighted)
        self.n_features_in_ = self.estimator_.n_features_in_
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the hidden activations of samples.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, neurons)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        hidden = np.asarray(X, dtype=np.float64)
        for layer in self.estimator_.network_.layers[:-1]:
            hidden = layer(hidden)
        return hidden

    @property
    def _n_features_out(self) -> int:
        return int(self.estimator_.network_.layers[-1].weight.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
