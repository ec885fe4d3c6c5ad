"""The regularisation path for users: functions on arrays, and a scikit-learn estimator.

    minimise   (1 / sum_i s_i) * sum_i s_i loss(f(x_i), y_i) + alpha * R(f)    for each alpha of a grid.

`path` and `alpha_max` take arrays, as scikit-learn's ``lasso_path`` does; `ConvexNetPath` keeps
the networks and predicts with all of them, or with one. Which alpha is best for new data is a question
for held-out data: compare the columns of ``predict``.

References: scikit-learn's ``lasso_path``; :mod:`cvxnn.paths`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import check_is_fitted, validate_data

from .architectures import Architecture
from .caller import warn
from .certificate import Certificate
from .feature_penalties import WeightPenalty
from .losses import get_loss
from .network import Network
from .parameters import check_effort, check_grid, seed_of
from .patches import flat_samples, rows_for
from .path_problem import checked_problem, family_of, problem_of
from .paths import Path, Point, follow, threshold
from .program import Problem
from .train import Ground


def path(
    X: Any,
    y: Any,
    alphas: Any = None,
    n_alphas: int = 50,
    eps: float = 1e-3,
    *,
    loss: str = "squared_error",
    architecture: str | Architecture = "relu",
    hidden_bias: str | None = "penalized",
    patterns: Any = "auto",
    fit_intercept: bool = True,
    coupling: str = "joint",
    penalty: WeightPenalty = "l2",
    sample_weight: Any = None,
    class_weight: dict[Any, float] | str | None = None,
    tol: float = 1e-5,
    max_iter: int = 50,
    max_time: float | None = None,
    n_bounds: int | None = 8,
    random_state: int = 0,
    verbose: int | bool = 0,
    callback: Callable[[Point], None] | None = None,
) -> Path:
    """Train certified networks along a grid of strengths, each from the one before.

    Parameters
    ----------
    X : array-like of shape (n, d), or (n, h, w) or (n, h, w, c) for convolutional architectures
    y : array-like of shape (n,), or (n, targets)
        Targets; labels of two or more classes for a loss of classes.
    alphas : array-like of shape (k,), default=None
        Strengths, in any order; results begin with the largest. None takes a geometric grid of
        `n_alphas` values from alpha_max, where the first neuron enters, to ``eps * alpha_max``.
    n_alphas : int, default=50
    eps : float, default=1e-3
        In (0, 1); the last alpha of the grid as a share of the first.
    loss : str or Loss, default="squared_error"
        Any loss of :class:`ConvexNetRegressor` or :class:`ConvexNetClassifier`.
    architecture : str or Architecture, default="relu"
    hidden_bias : {"penalized", "free", None}, default="penalized"
    patterns : {"auto", "all"} or int, default="auto"
        The same patterns, where they are drawn or listed, serve all alphas.
    fit_intercept : bool, default=True
    coupling : {"joint", "separate"}, default="joint"
        Of several outputs, as for :class:`ConvexNetRegressor`.
    penalty : {"l2", "l1"}, Groups or Elastic, default="l2"
        Of hidden weights, as for :class:`ConvexNetRegressor`.
    sample_weight : array-like of shape (n,), default=None
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply those of their samples, as for
        :class:`ConvexNetClassifier`; for a loss of classes.
    tol, max_iter : float, int
        Search gap and rounds for each alpha.
    max_time : float or None, default=None
        Seconds for the whole path; it then ends early, with a warning.
    n_bounds : int or None, default=8
        At how many alphas a bound over all patterns (scope ``bounded``) is tightened; the other
        alphas' bounds follow from these. None tightens all; other scopes need no tightening.
    random_state : int, RandomState or None, default=0
    verbose : int, default=0
        1 prints a line per alpha.
    callback : callable(Point), default=None
        Called after every alpha.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If data or parameters cannot be used; the message says what to pass instead.

    Warns
    -----
    ConvergenceWarning
        Once, naming the alphas that did not reach `tol`, or where an interrupt (Ctrl-C) or
        `max_time` ended the path. All certificates hold.

    """
    model = ConvexNetPath(
        alphas,
        n_alphas=n_alphas,
        eps=eps,
        loss=loss,
        architecture=architecture,
        patterns=patterns,
        hidden_bias=hidden_bias,
        fit_intercept=fit_intercept,
        coupling=coupling,
        penalty=penalty,
        tol=tol,
        max_iter=max_iter,
        max_time=max_time,
        n_bounds=n_bounds,
        random_state=random_state,
        verbose=verbose,
    )
    X, shape = flat_samples(X)
    problem, _ = problem_of(X, y, loss, sample_weight, fit_intercept, class_weight)
    found = model._follow(problem, shape, callback)
    _warn(found, tol)
    return found


def alpha_max(
    X: Any,
    y: Any,
    *,
    loss: str = "squared_error",
    architecture: str | Architecture = "relu",
    hidden_bias: str | None = "penalized",
    patterns: Any = "auto",
    fit_intercept: bool = True,
    coupling: str = "joint",
    penalty: WeightPenalty = "l2",
    sample_weight: Any = None,
    class_weight: dict[Any, float] | str | None = None,
    random_state: int = 0,
) -> tuple[float, float]:
    """Return the strength from which on the best network is a constant.

    Parameters
    ----------
    X, y, loss, architecture, hidden_bias, patterns, fit_intercept, coupling, penalty
        As for :func:`path`.
    sample_weight, class_weight, random_state
        Likewise.

    Returns
    -------
    found : float
        Below it, a network with neurons is better than the best constant.
    bound : float
        From it on, none is. The two agree up to rounding where the oracle is exact: patterns that are
        enumerated (few samples, low rank) and gated networks.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import alpha_max
    >>> y = np.array([3.0, 4.0, -2.0])
    >>> found, bound = alpha_max(np.eye(3), y, hidden_bias=None, fit_intercept=False)
    >>> round(3 * found, 9)
    5.0
    """
    X, shape = flat_samples(X)
    problem, _ = problem_of(X, y, loss, sample_weight, fit_intercept, class_weight)
    family = family_of(problem, architecture, hidden_bias, patterns, coupling, penalty, shape)
    seed = seed_of(random_state)
    ground = Ground.prepare(problem, family, np.random.default_rng(seed))
    return threshold(family, ground, random_state=seed)


class ConvexNetPath(BaseEstimator):
    """Two-layer networks along a grid of strengths, each trained to certified global optimality.

    Parameters
    ----------
    alphas : array-like of shape (k,), default=None
        Strengths; None takes `n_alphas` values from alpha_max to ``eps * alpha_max``.
    n_alphas : int, default=50
    eps : float, default=1e-3
    loss : str or Loss, default="squared_error"
        Any loss of :class:`ConvexNetRegressor` or :class:`ConvexNetClassifier`.
        Half the squared error of numbers, or the logistic loss of two classes.
    architecture : str or Architecture, default="relu"
        The family of networks. With an object, `patterns` and `hidden_bias` are the object's.
    patterns : {"auto", "all"} or int, default="auto"
    hidden_bias : {"penalized", "free", None}, default="penalized"
    fit_intercept : bool, default=True
    coupling : {"joint", "separate"}, default="joint"
        Of several outputs, as for :class:`ConvexNetRegressor`.
    penalty : {"l2", "l1"}, Groups or Elastic, default="l2"
        Of hidden weights, as for :class:`ConvexNetRegressor`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply those of their samples, as for
        :class:`ConvexNetClassifier`; for a loss of classes.
    tol : float, default=1e-5
        Search gap to reach at each alpha.
    max_iter : int, default=50
        Rounds for each alpha.
    max_time : float or None, default=None
        Seconds for the whole path.
    n_bounds : int or None, default=8
        At how many alphas a ``bounded`` certificate is tightened.
    random_state : int, RandomState or None, default=0
    verbose : int, default=0
        1 prints a line per alpha.

    Attributes
    ----------
    alphas_ : ndarray of shape (k,)
        Strengths, descending.
    networks_ : list of Network
    certificates_ : list of Certificate
    alpha_max_, alpha_max_bound_ : float
        Where the first neuron enters, as found and as proven; see :class:`cvxnn.Path`.
    path_ : Path
    classes_ : ndarray of shape (classes,)
        For a loss of classes: the classes; of two, positive outputs mean the second.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X had string column names.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ConvexNetPath
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = ConvexNetPath(n_alphas=10).fit(X, np.abs(X[:, 0]))
    >>> model.predict(X).shape
    (20, 10)
    """

    path_: Path
    classes_: np.ndarray

    def __init__(
        self,
        alphas: Any = None,
        *,
        n_alphas: int = 50,
        eps: float = 1e-3,
        loss: str = "squared_error",
        architecture: str | Architecture = "relu",
        patterns: Any = "auto",
        hidden_bias: str | None = "penalized",
        fit_intercept: bool = True,
        coupling: str = "joint",
        penalty: WeightPenalty = "l2",
        class_weight: dict[Any, float] | str | None = None,
        tol: float = 1e-5,
        max_iter: int = 50,
        max_time: float | None = None,
        n_bounds: int | None = 8,
        random_state: Any = 0,
        verbose: int | bool = 0,
    ) -> None:
        self.alphas = alphas
        self.n_alphas = n_alphas
        self.eps = eps
        self.loss = loss
        self.architecture = architecture
        self.patterns = patterns
        self.hidden_bias = hidden_bias
        self.fit_intercept = fit_intercept
        self.coupling = coupling
        self.penalty = penalty
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.max_time = max_time
        self.n_bounds = n_bounds
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if get_loss(self.loss).classification:
            tags.classifier_tags = ClassifierTags(multi_class=True)
        else:
            tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ConvexNetPath:
        """Train a network for each alpha.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,), or (n, targets)
            Targets; labels of two or more classes for a loss of classes.
        sample_weight : array-like of shape (n,), default=None

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
            As :func:`path`.
        """
        loss = get_loss(self.loss)
        numeric = not loss.classification
        X, shape = flat_samples(X)
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], y_numeric=numeric, multi_output=numeric
        )
        problem, classes = checked_problem(X, y, loss, sample_weight, self.fit_intercept, self.class_weight)
        if classes is not None:
            self.classes_ = classes
        self.path_ = self._follow(problem, shape)
        self.alphas_ = self.path_.alphas
        self.networks_: list[Network] = self.path_.networks
        self.certificates_: list[Certificate] = self.path_.certificates
        self.alpha_max_ = self.path_.alpha_max
        self.alpha_max_bound_ = self.path_.alpha_max_bound
        _warn(self.path_, self.tol)
        return self

    def _follow(
        self,
        problem: Problem,
        shape: tuple[int, ...] | None = None,
        callback: Callable[[Point], None] | None = None,
    ) -> Path:
        def tell(point: Point) -> None:
            print(point)
            if callback is not None:
                callback(point)

        check_effort(self.tol, self.max_iter, self.max_time)
        return follow(
            problem,
            family_of(
                problem,
                self.architecture,
                self.hidden_bias,
                self.patterns,
                self.coupling,
                self.penalty,
                shape,
            ),
            check_grid(self.alphas, self.n_alphas, self.eps, self.n_bounds),
            n_alphas=self.n_alphas,
            eps=self.eps,
            tol=float(self.tol),
            max_iter=int(self.max_iter),
            max_time=self.max_time,
            n_bounds=self.n_bounds,
            random_state=seed_of(self.random_state),
            callback=tell if self.verbose else callback,
        )

    def decision_function(self, X: Any, alpha: float | None = None) -> np.ndarray:
        """Return the outputs of all networks, or of the one at `alpha`.

        Parameters
        ----------
        X : array-like of shape (n, d)
        alpha : float, default=None
            One of `alphas_`; None asks for all.

        Returns
        -------
        ndarray of shape (n, k) or (n, outputs, k)
            Without the last axis where `alpha` is given.

        Raises
        ------
        ValueError
            If no network was trained at `alpha`.
        """
        check_is_fitted(self)
        X = rows_for(X, self.networks_[0].layers)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if alpha is None:
            return np.stack([network(X) for network in self.networks_], axis=-1)
        near = int(np.argmin(np.abs(np.log(self.alphas_) - np.log(alpha)))) if alpha > 0 else 0
        if not np.isclose(self.alphas_[near], alpha, rtol=1e-6, atol=0.0):
            raise ValueError(
                f"no network was trained at alpha={alpha!r}: pass one of alphas_, such as "
                f"{self.alphas_[near]:.8g}"
            )
        return self.networks_[near](X)

    def predict(self, X: Any, alpha: float | None = None) -> np.ndarray:
        """Return predictions of all networks, or of the one at `alpha`.

        Parameters
        ----------
        X : array-like of shape (n, d)
        alpha : float, default=None
            One of `alphas_`; None asks for all.

        Returns
        -------
        ndarray of shape (n, k), or (n, targets, k)
            Without the last axis where `alpha` is given. With a loss of classes these are classes, with
            ``poisson`` means; ``decision_function`` has the outputs.
        """
        f, loss = self.decision_function(X, alpha), get_loss(self.loss)
        if not loss.classification:
            return loss.mean(f)
        several = len(self.classes_) > 2
        return self.classes_[np.argmax(f, axis=1) if several else (f > 0).astype(int)]


def _warn(found: Path, tol: float) -> None:
    """One warning for all that is not as it was asked for."""
    said = []
    if not found.complete:
        left = len(found.asked) - len(found)
        said.append(
            f"The path ended early: {len(found)} of {len(found.asked)} alphas are done, down to "
            f"{found.alphas[-1]:.4g} ({left} are missing)."
        )
    missed = [p.alpha for p in found.points if p.certificate.search_gap > tol]
    if missed:
        listed = ", ".join(f"{alpha:.4g}" for alpha in missed)
        said.append(f"The search gap is above tol={tol:g} at alpha {listed}: raise max_iter or tol.")
    if said:
        warn(" ".join([*said, "All certificates hold."]), ConvergenceWarning)
