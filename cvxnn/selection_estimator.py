"""Estimators that choose alpha by cross-validation and certify the network they end with.

    for each fold: networks along a grid of alphas, scored on the samples left out
    then: one network on all data at the chosen alpha, with its certificate.

The conventions are those of scikit-learn's ``LassoCV`` and ``LogisticRegressionCV``; how folds are kept
cheap, and the rules to choose by, are in :mod:`cvxnn.selection`.

Reference: scikit-learn's developer guide.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .architectures import Architecture
from .estimators import ConvexNetClassifier, ConvexNetRegressor
from .feature_penalties import WeightPenalty
from .losses import Loss
from .selection import FOLD_ITER
from .selection_base import Chosen


class ConvexNetRegressorCV(Chosen, ConvexNetRegressor):
    """A certified two-layer network for regression whose alpha is chosen by cross-validation.

    Parameters
    ----------
    alphas : array-like of shape (k,), default=None
        Strengths to compare; None takes `n_alphas` values from the alpha at which the first neuron
        enters down to `eps` times it.
    n_alphas : int, default=10
    eps : float, default=1e-3
    cv : int, splitter or iterable of (train, test), default=None
        None takes 5 folds.
    scoring : str, callable or None, default=None
        As for scikit-learn's ``GridSearchCV``; None compares mean squared errors.
    selection : {"best", "one_standard_error"}, default="best"
        The best mean score, or the largest alpha within one standard error of it.
    fold_iter : int, default=3
        Rounds of growing at each alpha inside folds; more bring these networks, which only predict,
        nearer to the optimum.
    n_jobs : int, default=None
        Folds at a time; the result is the same. None means 1, -1 all processors.
    architecture, loss, patterns, hidden_bias, fit_intercept, rank, coupling, penalty
        As for :class:`ConvexNetRegressor`.
    tol, max_iter
        Likewise; those of the last training.
    max_time : float or None, default=None
        Seconds for all, half of them for the folds; alphas that a fold does not reach are left out, with a
        warning.
    random_state
        As for :class:`ConvexNetRegressor`.
    verbose : int, default=0
        1 shows a line that changes during the last training, 2 prints a line per round of it.

    Attributes
    ----------
    alpha_ : float
        The chosen strength.
    alphas_ : ndarray of shape (k,)
        The strengths compared, descending.
    scores_ : ndarray of shape (k, folds)
        Scores, larger is better.
    mse_path_ : ndarray of shape (k, folds)
        Mean squared errors, with ``scoring=None``.
    widths_ : ndarray of shape (k, folds)
        Numbers of neurons along the paths; training in full ends with fewer.
    network_ : Network
        Trained on all data at `alpha_`.
    certificate_ : Certificate
        Of that network.
    optimal_set_ : OptimalSet
        All networks that are as good on all data at `alpha_`; see :class:`ConvexNetRegressor`.
    history_ : list of Moment
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ConvexNetRegressorCV
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> model = ConvexNetRegressorCV(n_alphas=5).fit(X[::-1], np.abs(X[::-1, 0]))
    >>> model.scores_.shape
    (5, 5)
    """

    _single = ConvexNetRegressor
    _default_scoring = "neg_mean_squared_error"

    mse_path_: np.ndarray

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> ConvexNetRegressorCV:
        """Choose alpha by cross-validation and train on all data.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,), or (n, targets)
        sample_weight : array-like of shape (n,), default=None
            Weights of the samples, in training and in scores.
        **params : dict
            Passed on by scikit-learn's metadata routing to the splitter and the scorer.

        Returns
        -------
        ConvexNetRegressorCV
            Itself.
        """
        super().fit(X, y, sample_weight, **params)
        if self.scoring is None:
            self.mse_path_ = -self.scores_
        return self


class ConvexNetClassifierCV(Chosen, ConvexNetClassifier):
    """A certified two-layer network for two or more classes whose alpha is chosen by cross-validation.

    Parameters
    ----------
    alphas, n_alphas, eps, cv
        As for :class:`ConvexNetRegressorCV`; folds are stratified.
    scoring : str, callable or None, default=None
        None compares accuracies, as ``LogisticRegressionCV``; ``"neg_log_loss"`` is less coarse.
    selection, fold_iter, n_jobs
        As for :class:`ConvexNetRegressorCV`.
    architecture, loss, patterns, hidden_bias, fit_intercept, rank, class_weight, coupling, penalty
        As for :class:`ConvexNetClassifier`.
    tol, max_iter
        Likewise; those of the last training.
    max_time, random_state, verbose
        As for :class:`ConvexNetRegressorCV`.

    Attributes
    ----------
    alpha_, alphas_, scores_, widths_, network_, certificate_, optimal_set_, history_, n_iter_
        As for :class:`ConvexNetRegressorCV`.
    classes_ : ndarray of shape (classes,)
        The classes; of two, positive outputs mean the second.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from cvxnn import ConvexNetClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ConvexNetClassifierCV([0.1, 0.01], selection="one_standard_error").fit(X[:, 2:], y > 1)
    >>> model.alpha_ in model.alphas_
    True
    """

    _single = ConvexNetClassifier
    _default_scoring = "accuracy"

    def __init__(
        self,
        alphas: Any = None,
        *,
        n_alphas: int = 10,
        eps: float = 1e-3,
        cv: Any = None,
        scoring: Any = None,
        selection: str = "best",
        fold_iter: int = FOLD_ITER,
        n_jobs: int | None = None,
        architecture: str | Architecture = "relu",
        loss: str | Loss = "log_loss",
        patterns: Any = "auto",
        hidden_bias: str | None = "penalized",
        fit_intercept: bool = True,
        rank: int | float | None = None,
        class_weight: dict[Any, float] | str | None = None,
        coupling: str = "joint",
        penalty: WeightPenalty = "l2",
        tol: float = 1e-5,
        max_iter: int = 50,
        max_time: float | None = None,
        random_state: Any = 0,
        verbose: int | bool = 0,
    ) -> None:
        super().__init__(
            alphas,
            n_alphas=n_alphas,
            eps=eps,
            cv=cv,
            scoring=scoring,
            selection=selection,
            fold_iter=fold_iter,
            n_jobs=n_jobs,
            architecture=architecture,
            loss=loss,
            patterns=patterns,
            hidden_bias=hidden_bias,
            fit_intercept=fit_intercept,
            rank=rank,
            coupling=coupling,
            penalty=penalty,
            tol=tol,
            max_iter=max_iter,
            max_time=max_time,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight
