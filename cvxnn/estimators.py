"""scikit-learn estimators: `fit` returns a small network and a certificate.

    minimise   (1 / sum_i s_i) * sum_i s_i loss(f(x_i), y_i) + alpha * R(f),

with R the weight decay ``1/2 sum_j (||w_j||^2 + b_j^2 + a_j^2)`` over the neurons of a two-layer network
of any width, at the scale of scikit-learn's Lasso. There is no learning rate, no epoch and no restart:
`alpha` is the one number to choose. Inputs are never rescaled, since that would change the penalty; put
a ``StandardScaler`` in a pipeline.

Reference: Pilanci and Ergen, ICML 2020; scikit-learn's developer guide for the conventions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from .architectures import Architecture
from .estimator_base import ConvexNet
from .feature_penalties import WeightPenalty
from .losses import Loss, code_classes, get_loss
from .parameters import check_weights, weigh_classes
from .patches import flat_samples
from .rounds import with_callbacks


class ConvexNetRegressor(RegressorMixin, ConvexNet):
    """A two-layer network for regression, trained to certified global optimality.

    Minimises ``(1 / sum s) sum_i s_i loss(f(x_i), y_i) + alpha * R(f)`` over networks of every width. With
    several targets the loss of a sample is the sum over its targets, half the squared distance ``1/2 |f -
    y|^2`` say.

    Parameters
    ----------
    alpha : float, default=1e-3
        Strength of the weight decay, > 0, at the scale of scikit-learn's Lasso.
    architecture : str or Architecture, default="relu"
        The family of networks: "relu", "leaky_relu", "absolute" (the absolute value), "threshold" (a step
        at zero), "linear", "gated_relu", "batchnorm", "cnn", "polynomial" and others: the
        names are in ``cvxnn.architectures.ARCHITECTURES``, of several outputs in ``VECTOR_ARCHITECTURES``.
        With an object, `patterns` and `hidden_bias` are the object's: ``LeakyReLU(slope=0.2)`` of
        :mod:`cvxnn.architectures.leaky_relu`, say. "layerwise" is a deep network of these, certified stage
        by stage and not as a whole, see :mod:`cvxnn.architectures.layerwise`.
    loss : str or Loss, default="squared_error"
        "squared_error" (half of it), "absolute_error", "huber", "quantile", "epsilon_insensitive" or
        "poisson" (targets >= 0; the network's output is the logarithm of the mean, and :meth:`predict`
        returns means). An object has other parameters than the default ones, such as
        ``Quantile(0.9)``, ``Huber(epsilon=0.5)``, ``EpsilonInsensitive(epsilon=0.2)`` from
        :mod:`cvxnn.losses`.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        Activation patterns: grown until none improves (or all of them, where that is cheap), all, a number
        of sampled ones, or ``("wedge", number)`` of them sampled through the data. With several outputs
        those of "relu" always grow: pass "auto".
    hidden_bias : {"penalized", "free", None}, default="penalized"
        Bias of the hidden neurons.
    fit_intercept : bool, default=True
        Whether the output has an unpenalised constant. A free hidden bias always brings one.
    rank : int, float or None, default=None
        Train on the best approximation of X of this rank, where ``patterns="all"`` is cheap at 2 or 3;
        a float in (0, 1) takes the least rank that keeps this share of the sum of squares (of
        standardised data: of the variance). The certificate is for X itself. None takes X as it is.
    coupling : {"joint", "separate"}, default="joint"
        Of several outputs. "joint" is weight decay on all weights: ``sum_j |w_j|_2 |v_j|_2`` for neurons
        with weights w_j and output weights v_j, which lets outputs share neurons. "separate" penalises
        ``1/2 sum_j (|w_j|_2^2 + |v_j|_1^2)``, that is ``sum_j |w_j|_2 |v_j|_1``: sharing saves nothing, and
        with a loss that is a sum over outputs the outputs are trained as networks of their own.
    penalty : {"l2", "l1"}, Groups or Elastic, default="l2"
        The norm Omega of hidden weights in ``R = 1/2 sum_j (Omega(w_j, b_j)^2 + a_j^2)``. "l2" is weight
        decay, "l1" makes neurons see few features; groups of features and mixtures: `Groups` and `Elastic`
        of :mod:`cvxnn.feature_penalties`. Other than "l2" for one output, and slower to train.
    tol : float, default=1e-5
        Training stops when the search gap is at most this. With several outputs and more than 50,000
        numbers in X, where it is rarely reached, it also ends once a round lowers the objective by a share
        less than ``500 tol`` (or 0.5 %): a smaller `tol` trains longer.
    max_iter : int, default=50
        Rounds of growing patterns.
    max_time : float or None, default=None
        Seconds of training; the search and the bound that judge the network come after it. Results that
        stop on it depend on the machine.
    random_state : int, RandomState or None, default=0
        Seed of starts and searches. The default gives the same network every time.
    verbose : int, default=0
        1 shows a line that changes while training runs, 2 prints a line per round.

    Attributes
    ----------
    network_ : Network
        The explicit network.
    certificate_ : Certificate
        Objective, proven lower bound, gap and scope.
    history_ : list of Moment
        Seconds, objective, bound, search gap and width after every round.
    n_iter_ : int
        Rounds taken.
    low_rank_ : LowRank
        With `rank`: what was cut, and the certificate of the reduced problem.
    stages_ : list of Stage
        With "layerwise": network and certificate of every stage, the last ones being `network_` and
        `certificate_`. A certificate is against networks with the same frozen layers.
    optimal_set_ : OptimalSet
        All networks that are as good as `network_` (one output, losses without kinks), found when first
        asked for.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X had string column names.

    References
    ----------
    Pilanci and Ergen, "Neural networks are convex regularizers", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ConvexNetRegressor
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = ConvexNetRegressor(alpha=1e-3).fit(X, np.abs(X[:, 0]))
    >>> model.certificate_.scope
    'global'
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ConvexNetRegressor:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Convolutional networks also take images (n, h, w) or (n, h, w, channels).
        y : array-like of shape (n,), or (n, targets)
        sample_weight : array-like of shape (n,), default=None
            Nonnegative; weight 2 is the same as repeating a sample.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters cannot be used; the message says what to pass instead.

        Warns
        -----
        ConvergenceWarning
            If `tol` was not reached; network and certificate are valid.
        """
        self._check_parameters()
        if get_loss(self.loss).classification:
            raise ValueError(f"loss={self.loss!r} is for classes: use ConvexNetClassifier")
        given = (X, y)
        X, shape = flat_samples(X)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._fit(X, np.asarray(y, dtype=np.float64), check_weights(sample_weight, X), shape, given)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the network's output; with ``loss="poisson"`` its exponential, the mean.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), or (n, targets)
            Predictions in the units of y.
        """
        output = self._output(X)
        return output if output.ndim == 2 else get_loss(self.loss).mean(output)


def check_class_loss(loss: Loss) -> None:
    """Raise ValueError for a loss that is for numbers only; the squared error serves both."""
    if not loss.classification and loss.name != "squared_error":
        raise ValueError(
            f"loss={loss.name!r} is for numbers: pass 'log_loss', 'hinge', 'squared_hinge' or "
            "'squared_error', or use ConvexNetRegressor"
        )


def _has_probabilities(estimator: Any) -> bool:
    if get_loss(estimator.loss).name != "log_loss":
        raise AttributeError("probabilities need loss='log_loss'")
    return True


class ConvexNetClassifier(ClassifierMixin, ConvexNet):
    """A two-layer network for two or more classes, trained to certified global optimality.

    Minimises ``(1 / sum s) sum_i s_i loss(f(x_i), y_i) + alpha * R(f)`` over networks of every width. Two
    classes are one output, coded as -1 and +1. More classes are an output each: with ``log_loss`` the loss
    is that of the softmax of all outputs, other losses are summed over the outputs, each coded as -1 and
    +1.

    Parameters
    ----------
    alpha : float, default=1e-3
        Strength of the weight decay, > 0, at the scale of scikit-learn's Lasso.
    architecture : str or Architecture, default="relu"
        The family of networks: "relu", "leaky_relu", "absolute" (the absolute value), "threshold" (a step
        at zero), "linear", "gated_relu", "batchnorm", "cnn", "polynomial" and others: the
        names are in ``cvxnn.architectures.ARCHITECTURES``, of several outputs in ``VECTOR_ARCHITECTURES``.
        With an object, `patterns` and `hidden_bias` are the object's: ``LeakyReLU(slope=0.2)`` of
        :mod:`cvxnn.architectures.leaky_relu`, say. "layerwise" is a deep network of these, certified stage
        by stage and not as a whole, see :mod:`cvxnn.architectures.layerwise`.
    loss : {"log_loss", "hinge", "squared_hinge", "squared_error"} or Loss, default="log_loss"
        Logistic loss (of the softmax for three classes or more); hinge loss (two classes); half the squared
        hinge loss; half the squared error to -1 and +1. Only the first has probabilities.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        Activation patterns: grown until none improves (or all of them, where that is cheap), all, a number
        of sampled ones, or ``("wedge", number)`` of them sampled through the data. With several outputs
        those of "relu" always grow: pass "auto".
    hidden_bias : {"penalized", "free", None}, default="penalized"
        Bias of the hidden neurons.
    fit_intercept : bool, default=True
        Whether the output has an unpenalised constant. A free hidden bias always brings one.
    rank : int, float or None, default=None
        Train on the best approximation of X of this rank, where ``patterns="all"`` is cheap at 2 or 3;
        a float in (0, 1) takes the least rank that keeps this share of the sum of squares (of
        standardised data: of the variance). The certificate is for X itself. None takes X as it is.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply those of their samples; "balanced" gives all classes the
        same total, ``n / (classes * count)`` for each sample.
    coupling : {"joint", "separate"}, default="joint"
        Of several outputs. "joint" is weight decay on all weights: ``sum_j |w_j|_2 |v_j|_2`` for neurons
        with weights w_j and output weights v_j, which lets outputs share neurons. "separate" penalises
        ``1/2 sum_j (|w_j|_2^2 + |v_j|_1^2)``, that is ``sum_j |w_j|_2 |v_j|_1``: sharing saves nothing, and
        with a loss that is a sum over outputs the outputs are trained as networks of their own.
    penalty : {"l2", "l1"}, Groups or Elastic, default="l2"
        The norm Omega of hidden weights in ``R = 1/2 sum_j (Omega(w_j, b_j)^2 + a_j^2)``. "l2" is weight
        decay, "l1" makes neurons see few features; groups of features and mixtures: `Groups` and `Elastic`
        of :mod:`cvxnn.feature_penalties`. Other than "l2" for one output, and slower to train.
    tol : float, default=1e-5
        Training stops when the search gap is at most this. With several outputs and more than 50,000
        numbers in X, where it is rarely reached, it also ends once a round lowers the objective by a share
        less than ``500 tol`` (or 0.5 %): a smaller `tol` trains longer.
    max_iter : int, default=50
        Rounds of growing patterns.
    max_time : float or None, default=None
        Seconds of training; the search and the bound that judge the network come after it. Results that
        stop on it depend on the machine.
    random_state : int, RandomState or None, default=0
        Seed of starts and searches. The default gives the same network every time.
    verbose : int, default=0
        1 shows a line that changes while training runs, 2 prints a line per round.

    Attributes
    ----------
    network_ : Network
        The explicit network.
    certificate_ : Certificate
        Objective, proven lower bound, gap and scope.
    history_ : list of Moment
        Seconds, objective, bound, search gap and width after every round.
    classes_ : ndarray of shape (classes,)
        The classes; of two, positive outputs mean the second.
    n_iter_ : int
        Rounds taken.
    low_rank_ : LowRank
        With `rank`: what was cut, and the certificate of the reduced problem.
    stages_ : list of Stage
        With "layerwise": network and certificate of every stage, the last ones being `network_` and
        `certificate_`. A certificate is against networks with the same frozen layers.
    optimal_set_ : OptimalSet
        All networks that are as good as `network_` (one output, losses without kinks), found when first
        asked for.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X had string column names.

    References
    ----------
    Pilanci and Ergen, "Neural networks are convex regularizers", ICML 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from cvxnn import ConvexNetClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = (X[:, :2] - X[:, :2].mean(axis=0)) / X[:, :2].std(axis=0)
    >>> clf = ConvexNetClassifier(alpha=1e-2, hidden_bias=None).fit(X, y)
    >>> clf.certificate_.gap < 1e-4
    True
    """

    classes_: np.ndarray

    def __init__(
        self,
        alpha: float = 1e-3,
        *,
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
            alpha,
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

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ConvexNetClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Convolutional networks also take images (n, h, w) or (n, h, w, channels).
        y : array-like of shape (n,)
            Labels of two or more classes.
        sample_weight : array-like of shape (n,), default=None
            Nonnegative; weight 2 is the same as repeating a sample.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters cannot be used; the message says what to pass instead.

        Warns
        -----
        ConvergenceWarning
            If `tol` was not reached; network and certificate are valid.
        """
        self._check_parameters()
        check_class_loss(get_loss(self.loss))
        given = (X, y)
        X, shape = flat_samples(X)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        weights = check_weights(sample_weight, X)
        seen = np.unique(codes if weights is None else codes[weights > 0])
        if len(seen) < 2:
            raise ValueError(
                "y has one class only (among samples of positive weight): pass samples of both classes"
            )
        if len(seen) < len(self.classes_):
            missing = self.classes_[np.setdiff1d(np.arange(len(self.classes_)), seen)]
            raise ValueError(
                f"the classes {missing.tolist()} have weight zero: leave their samples out, or weight them"
            )
        weights = weigh_classes(self.class_weight, y, weights)
        classes = len(self.classes_)
        # two classes are one output
        loss = get_loss(self.loss, classes if classes > 2 else 1)
        self._fit(X, code_classes(codes, loss, classes), weights, shape, given)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the network's output.

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
        chosen = (f > 0).astype(int) if f.ndim == 1 else np.argmax(f, axis=1)
        return self.classes_[chosen]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes; with ``loss="log_loss"`` only.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, classes)
            In the order of `classes_`.
        """
        f = self._output(X)
        if f.ndim == 2:
            return softmax(f, axis=1)
        odds = np.exp(-np.abs(f))
        p = np.where(f >= 0, 1.0 / (1.0 + odds), odds / (1.0 + odds))
        return np.column_stack([1.0 - p, p])

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of :meth:`predict_proba`, without losing small probabilities.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, classes)
            In the order of `classes_`.
        """
        f = self._output(X)
        if f.ndim == 2:
            return log_softmax(f, axis=1)
        return -np.column_stack([np.logaddexp(0.0, f), np.logaddexp(0.0, -f)])
