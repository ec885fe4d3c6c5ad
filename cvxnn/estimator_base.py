"""What the estimators share: parameters, training, and the network with its certificate.

Reference: scikit-learn's developer guide for the conventions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from .architectures import Architecture
from .architectures.base import Stage
from .caller import warn
from .certificate import Certificate
from .exporters import Exportable, Predictor
from .families import get_architecture
from .feature_penalties import WeightPenalty, check_penalty, is_weight_decay
from .live import telling
from .local_linear import LocalLinear, local_linear
from .losses import Loss, get_loss
from .low_rank import LowRank, TrainedLowRank, train_low_rank
from .network import Network
from .optimal_set import OptimalSet, check_known
from .parameters import (
    check_alpha,
    check_coupling,
    check_effort,
    check_rank,
    check_switch,
    check_weights,
    seed_of,
    weigh_classes,
)
from .patches import rows_for
from .program import Problem, Status
from .rounds import CallbackSupportMixin, Rounds, has_callbacks
from .train import Moment, Trained, train


class ConvexNet(Exportable, CallbackSupportMixin, BaseEstimator):
    """What the two estimators share."""

    network_: Network
    certificate_: Certificate
    history_: list[Moment]
    n_iter_: int
    low_rank_: LowRank
    stages_: list[Stage]
    #: What `optimal_set_` is found from, and what it found; neither goes into copies and pickles.
    _trained_on: Problem | None = None
    _optimal_set: OptimalSet | None = None

    def __init__(
        self,
        alpha: float = 1e-3,
        *,
        architecture: str | Architecture = "relu",
        loss: str | Loss = "squared_error",
        patterns: Any = "auto",
        hidden_bias: str | None = "penalized",
        fit_intercept: bool = True,
        rank: int | float | None = None,
        coupling: str = "joint",
        penalty: WeightPenalty = "l2",
        tol: float = 1e-5,
        max_iter: int = 50,
        max_time: float | None = None,
        random_state: Any = 0,
        verbose: int | bool = 0,
    ) -> None:
        self.alpha = alpha
        self.architecture = architecture
        self.loss = loss
        self.patterns = patterns
        self.hidden_bias = hidden_bias
        self.fit_intercept = fit_intercept
        self.rank = rank
        self.coupling = coupling
        self.penalty = penalty
        self.tol = tol
        self.max_iter = max_iter
        self.max_time = max_time
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_alpha(self.alpha)
        check_coupling(self.coupling)
        check_penalty(self.penalty)
        check_switch("fit_intercept", self.fit_intercept)
        check_effort(self.tol, self.max_iter, self.max_time)
        check_rank(self.rank)

    def _fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        shape: tuple[int, ...] | None = None,
        given: tuple[Any, Any] | None = None,
    ) -> None:
        """Train on checked data, rows of samples of a shape; targets are numbers (n,) or (n, outputs),
        coded if they stand for classes. What callbacks score is `given`, as it was passed to fit."""
        outputs = 1 if y.ndim == 1 else y.shape[1]
        architecture = get_architecture(
            self.architecture, self.hidden_bias, self.patterns, outputs, self.coupling, self.penalty
        )
        if shape is not None:
            architecture = architecture.for_shape(shape)
        check_reducible(self.rank, X.shape[1], outputs, architecture)
        loss = get_loss(self.loss, outputs)
        problem = Problem.from_alpha(X, y, weights, loss, float(self.alpha), bool(self.fit_intercept))
        trainer = train if self.rank is None else partial(train_low_rank, rank=self.rank)
        rounds: Rounds | None = None
        with telling(self.verbose, float(self.tol), self.max_time) as tell:
            if has_callbacks(self):
                data = given or (X, y)
                rounds = Rounds(self, data[0], data[1], tell)
            trained = trainer(
                problem,
                architecture,
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                max_time=self.max_time,
                random_state=seed_of(self.random_state),
                callback=rounds or tell,
            )
        self._keep(trained)
        # the data of several outputs, which have no set that is known, are not held
        self._trained_on, self._optimal_set = problem if problem.y.ndim == 1 else None, None
        if rounds is not None:
            rounds.end(self.network_)
        if trained.status is not Status.optimal:
            warn(f"{trained.status.value} The certificate holds: {trained.certificate}", ConvergenceWarning)

    def _keep(self, trained: Trained) -> None:
        """Make attributes of what training returned."""
        self.network_ = trained.network
        self.certificate_ = trained.certificate
        self.history_ = trained.history
        self.n_iter_ = trained.n_iter
        if isinstance(trained, TrainedLowRank):
            self.low_rank_ = trained.low_rank
        if trained.stages:
            self.stages_ = trained.stages

    def __dir__(self) -> list[str]:
        """List what there is, as scikit-learn does, but for `optimal_set_`.

        scikit-learn reads an attribute to see whether it is there, and its HTML view shows all that are
        listed: this one would be found then, which takes time, or refused, which is an error.
        """
        return [name for name in object.__dir__(self) if name != "optimal_set_" and hasattr(self, name)]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training data out of copies and pickles: a model that is passed on has no samples."""
        kept = dict(super().__getstate__())
        kept.pop("_trained_on", None)
        kept.pop("_optimal_set", None)
        return kept

    def _output(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.network_(self._rows(X))

    def _rows(self, X: Any) -> np.ndarray:
        """Samples like those of the fit, checked, as rows."""
        X = rows_for(X, self.network_.layers)
        rows: np.ndarray = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return rows

    def predictor(self) -> Predictor:
        """Return the network for an exporter, with its classes and whether outputs are logits.

        Returns
        -------
        Predictor

        Raises
        ------
        NotFittedError
            If there is no network yet.
        """
        check_is_fitted(self)
        loss, one = get_loss(self.loss), self.network_.n_outputs == 1
        given = self.architecture
        return Predictor(
            self.network_.layers,
            loss.inverse_link if one else "identity",
            getattr(self, "classes_", None),
            loss.name == "log_loss",
            given if isinstance(given, str) else given.name,
            tuple(getattr(self, "feature_names_in_", ())),
        )

    def explain_samples(self, X: Any) -> LocalLinear:
        """Take predictions apart: which neurons are on, and what each feature adds.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As for ``predict``.

        Returns
        -------
        LocalLinear
            Of the network's output: ``base_values + values.sum(axis=1)`` is what ``decision_function``
            returns for classes, and what ``predict`` returns for numbers (its logarithm with
            ``loss="poisson"``). The fields have the names of ``shap.Explanation``.

        Examples
        --------
        >>> import numpy as np
        >>> from cvxnn import ConvexNetRegressor
        >>> X = np.linspace(-1, 1, 20)[:, None]
        >>> around = ConvexNetRegressor(alpha=1e-3).fit(X, np.abs(X[:, 0])).explain_samples(X)
        >>> around.values.shape, around.active.dtype
        ((20, 1), dtype('bool'))
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        explained = local_linear(self.network_, self._rows(X))
        return explained if names is None else replace(explained, feature_names=list(map(str, names)))

    @property
    def optimal_set_(self) -> OptimalSet:
        """All networks that are as good as the fitted one: :meth:`optimal_set` of the data of the fit.

        It is found when it is first asked for. An estimator keeps a reference to its training data for it,
        which copies and pickles leave out: call :meth:`optimal_set` of these.

        Raises
        ------
        NotFittedError
            If there is no network yet.
        AttributeError
            If this is a copy of a fitted estimator, without training data.
        ValueError
            As :meth:`optimal_set`.
        """
        self._check_optimal_set()
        if self._trained_on is None:
            raise AttributeError(
                "optimal_set_ needs the training data, which copies and pickles of a fitted "
                f"{type(self).__name__} leave out: call optimal_set(X, y) with what fit was given"
            )
        if self._optimal_set is None:
            self._optimal_set = self._all_optimal(self._trained_on)
        return self._optimal_set

    def optimal_set(self, X: Any, y: Any, sample_weight: Any = None) -> OptimalSet:
        """Return all networks that are as good as the fitted one on its training data.

        Pass what `fit` was given, or read `optimal_set_` instead. The set is as sharp as the fit: lower
        `tol` where its slack matters.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        OptimalSet

        Raises
        ------
        ValueError
            If these are not the data of the fit, the network has several outputs, or the fit had a `rank`:
            its network is optimal for the approximation of X, and better ones are on X.
        """
        self._check_optimal_set()
        X = rows_for(X, self.network_.layers)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], reset=False)
        weights = weigh_classes(getattr(self, "class_weight", None), y, check_weights(sample_weight, X))
        classes = getattr(self, "classes_", None)
        if classes is not None and not np.all(np.isin(y, classes)):
            raise ValueError(f"y holds labels other than {classes.tolist()}: pass the training data")
        y = np.asarray(y, dtype=np.float64) if classes is None else np.where(y == classes[1], 1.0, -1.0)
        loss, alpha = get_loss(self.loss), self.certificate_.alpha
        return self._all_optimal(Problem.from_alpha(X, y, weights, loss, alpha, bool(self.fit_intercept)))

    def _check_optimal_set(self) -> None:
        """Refuse what is known before any data are looked at."""
        check_is_fitted(self)
        if self.rank is not None:
            raise ValueError(
                f"with rank={self.rank!r} the network is optimal for an approximation of X, and not for X: "
                "fit with rank=None, or on the reduced data themselves (TruncatedSVD(r).fit_transform(X))"
            )
        outputs = self.network_.layers[-1].weight.shape[1]  # type: ignore[union-attr]
        if outputs > 1:
            raise ValueError(
                f"the optimal set is known for one output, and the network has {outputs}: "
                "train one for each"
            )

    def _all_optimal(self, problem: Problem) -> OptimalSet:
        """The set of a problem, if it is the one that the network was trained on."""
        architecture = get_architecture(
            self.architecture, self.hidden_bias, self.patterns, penalty=self.penalty
        ).on(problem)
        check_known(problem, architecture, self.network_)
        value = architecture.objective(problem, self.network_)
        objective = self.certificate_.objective
        if abs(value / problem.total_weight - objective) > 1e-9 * abs(objective):
            raise ValueError(
                f"the network's objective on these data is {value / problem.total_weight:.8g}, in the fit "
                f"it was {objective:.8g}: pass the X, y and sample_weight that fit was given"
            )
        seed = seed_of(self.random_state)
        return OptimalSet.of(problem, architecture, self.network_, random_state=seed)


def check_reducible(rank: Any, features: int, outputs: int, architecture: Architecture) -> None:
    """Raise ValueError where data cannot be reduced to a rank for a family of networks."""
    if rank is None:
        return
    if rank > features:
        raise ValueError(
            f"rank={rank!r} is more than the {features} features: pass at most {features}, or None "
            "for X as it is"
        )
    if outputs > 1:
        raise ValueError(f"rank={rank!r} is for one output: pass None for {outputs} outputs")
    if not architecture.rotates:
        raise ValueError(
            f"rank={rank!r} turns features into directions, and {architecture.name!r} networks know where "
            "features are: pass rank=None"
        )
    if not hasattr(architecture, "patterns"):
        raise ValueError(
            f"rank={rank!r} makes patterns few, {architecture.name!r} networks have none: pass rank=None"
        )
    penalty = getattr(architecture, "penalty", "l2")
    if not is_weight_decay(penalty):
        raise ValueError(
            f"rank={rank!r} turns features into directions, which penalty={penalty!r} does not allow: pass "
            "rank=None or penalty='l2'"
        )
