r"""The neural tangent kernel of gated networks, and its ridge regression: the network before it learns.

A gated network with Gaussian gates g and weights near zero is linear in its weights, with the kernel

    k(x, x') = x'x' P(x'g >= 0 and x''g >= 0) = x'x' (pi - arccos(cos angle(x, x'))) / (2 pi),

which knows nothing of the targets. Training the gated network to its optimum is to choose the best of all
kernels ``sum_g eta_g D_g XX' D_g`` instead (:mod:`cvxnn.solvers.kernel`); of these the tangent kernel
is one, the eta that are the probabilities of the patterns. So the two estimators here are the baseline that
a gated network, ``architecture="gated_relu"`` with the squared loss, has to beat:

    minimise   (1/S) sum_i s_i/2 (f(x_i) + c - y_i)^2 + alpha/2 ||f||_K^2.

References: Dwaraknath, Ergen and Pilanci, NeurIPS 2023; Cho and Saul, "Kernel methods for deep learning",
NIPS 2009 (the closed form); Arora et al., ICLR 2020 (tangent kernels on small data).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .parameters import check_alpha, check_switch, check_weights, weigh_classes


def gated_ntk(X: np.ndarray, Y: np.ndarray | None = None) -> np.ndarray:
    """Return the tangent kernel of gated networks between the rows of two matrices.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        With a column of ones if gates and neurons have biases.
    Y : ndarray of shape (m, d), or None for `X`

    Returns
    -------
    ndarray of shape (n, m)

    Examples
    --------
    >>> import numpy as np
    >>> gated_ntk(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))[0]
    array([0.5  , 0.   , 1.125])
    """
    Y = X if Y is None else Y
    ways = [A / np.where(size > 0.0, size, 1.0) for A in (X, Y) for size in [_lengths(A)]]
    # the arc cosine of a small angle would have half of the digits
    angle = 2.0 * np.arctan2(cdist(ways[0], ways[1]), cdist(ways[0], -ways[1]))
    return (X @ Y.T) * (np.pi - angle) / (2.0 * np.pi)


def _lengths(A: np.ndarray) -> np.ndarray:
    return np.linalg.norm(A, axis=1, keepdims=True)


class _TangentRidge(BaseEstimator):
    """Ridge regression with the tangent kernel, targets in columns."""

    def __init__(
        self, alpha: float = 1e-3, *, hidden_bias: str | None = "penalized", fit_intercept: bool = True
    ) -> None:
        self.alpha = alpha
        self.hidden_bias = hidden_bias
        self.fit_intercept = fit_intercept

    def _design(self, X: np.ndarray) -> np.ndarray:
        if self.hidden_bias not in ("penalized", None):
            raise ValueError(
                f"hidden_bias={self.hidden_bias!r} is unknown here: pass 'penalized' (the default) or None"
            )
        return X if self.hidden_bias is None else np.column_stack([X, np.ones(len(X))])

    def _solve(self, X: np.ndarray, y: np.ndarray, sample_weight: Any) -> None:
        """Fit targets ``y`` (n,) or (n, outputs)."""
        check_alpha(self.alpha)
        check_switch("fit_intercept", self.fit_intercept)
        weights = check_weights(sample_weight, X)
        s = np.ones(len(X)) if weights is None else weights
        kept = s > 0.0
        data, targets, s = self._design(X[kept]), y[kept], s[kept]
        H = gated_ntk(data)
        H[np.diag_indices_from(H)] += float(self.alpha) * np.sum(s) / s
        try:
            factor = cho_factor(H, lower=True)
        except LinAlgError:
            raise ValueError(
                f"alpha={self.alpha!r} is lost in the rounding of the kernel, whose entries reach "
                f"{np.max(np.abs(H)):.1e}: raise alpha, or standardise X"
            ) from None
        a, c = cho_solve(factor, targets), np.zeros(targets.shape[1:])
        if self.fit_intercept:
            ones = cho_solve(factor, np.ones(len(s)))
            c = np.sum(a, axis=0) / np.sum(ones)
            a = a - np.multiply.outer(ones, c)
        self.X_fit_, self.dual_coef_, self.intercept_ = data, a, c

    def _output(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return gated_ntk(self._design(X), self.X_fit_) @ self.dual_coef_ + self.intercept_


class NTKRegressor(RegressorMixin, _TangentRidge):
    """Ridge regression with the neural tangent kernel of gated networks.

    Parameters
    ----------
    alpha : float, default=1e-3
        Strength of the penalty, > 0, on ``1/2 ||f||_K^2`` beside the mean of ``1/2 (f - y)^2``.
    hidden_bias : {"penalized", None}, default="penalized"
        Whether gates and neurons see a column of ones.
    fit_intercept : bool, default=True
        Whether the output has an unpenalised constant.

    Attributes
    ----------
    dual_coef_ : ndarray of shape (n,), or (n, targets)
    intercept_ : ndarray of shape (), or (targets,)
    X_fit_ : ndarray of shape (n, d) or (n, d + 1)
        The training data, which a kernel needs to predict.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> NTKRegressor(alpha=1e-6).fit(X, np.abs(X[:, 0])).score(X, np.abs(X[:, 0])) > 0.99
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NTKRegressor:
        """Fit the kernel's ridge regression, in one n x n system.

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
        ValueError
            If data or parameters cannot be used.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._solve(X, np.asarray(y, dtype=np.float64), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), or (n, targets)
            In the units of y.
        """
        return self._output(X)


class NTKClassifier(ClassifierMixin, _TangentRidge):
    """Classes by ridge regression on their codes, with the neural tangent kernel of gated networks.

    Two classes are -1 and +1; of more, each has a column of -1 and +1.

    Parameters
    ----------
    alpha, hidden_bias, fit_intercept
        As in :class:`NTKRegressor`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the samples of each class, as in :class:`cvxnn.ConvexNetClassifier`.

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
    dual_coef_, intercept_, X_fit_
        As in :class:`NTKRegressor`.
    """

    classes_: np.ndarray

    def __init__(
        self,
        alpha: float = 1e-3,
        *,
        hidden_bias: str | None = "penalized",
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
    ) -> None:
        super().__init__(alpha, hidden_bias=hidden_bias, fit_intercept=fit_intercept)
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NTKClassifier:
        """Fit the kernel's ridge regression.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Labels of two or more classes.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters cannot be used.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("y has one class only: pass samples of two or more")
        weights = weigh_classes(self.class_weight, y, check_weights(sample_weight, X))
        if weights is not None and len(np.unique(codes[weights > 0])) < len(self.classes_):
            raise ValueError("a class has weight zero: leave its samples out, or weight them")
        several = np.where(codes[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        self._solve(X, several[:, 1] if len(self.classes_) == 2 else several, weights)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the output.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) for two classes, else (n, classes)
            Of two classes, positive means ``classes_[1]``.
        """
        return self._output(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each sample.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
            Members of `classes_`.
        """
        f = self._output(X)
        return self.classes_[(f > 0).astype(int) if f.ndim == 1 else np.argmax(f, axis=1)]
