"""What the estimators that choose alpha by cross-validation share: folds, scores, the last training.

Folds are followed along one grid of alphas, in parallel where that is asked for; the rule picks an alpha
from their scores, and one network is trained and certified there on all data.

Reference: :mod:`cvxnn.selection`, which says how folds are kept cheap and what the rules are.
"""

from __future__ import annotations

import inspect
import numbers
import time
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_method_params, column_or_1d, validate_data

from .architectures import Architecture
from .caller import warn
from .estimator_base import check_reducible
from .estimators import ConvexNetClassifier, check_class_loss
from .families import get_architecture
from .feature_penalties import WeightPenalty, check_penalty
from .losses import Loss, code_classes, get_loss
from .low_rank import Reduction
from .parameters import (
    check_coupling,
    check_effort,
    check_grid,
    check_rank,
    check_switch,
    check_weights,
    seed_of,
    weigh_classes,
)
from .patches import flat_samples
from .paths import grid
from .program import Problem
from .routing import Routed
from .selection import FOLD_ITER, RULES, Fold, FoldScore, choose, first_alpha, score_fold
from .train import Ground

#: Share of `max_time` that the folds may take.
FOLD_SHARE = 0.5


class Chosen(Routed):
    """What the two estimators share; stands before the estimator of one alpha in the bases."""

    #: The estimator of one alpha.
    _single: type

    alpha_: float
    alphas_: np.ndarray
    scores_: np.ndarray
    widths_: np.ndarray

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
        self.alphas = alphas
        self.n_alphas = n_alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.selection = selection
        self.fold_iter = fold_iter
        self.n_jobs = n_jobs
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Any:
        """Choose alpha by cross-validation and train on all data.

        Parameters
        ----------
        X : array-like of shape (n, d), or (n, h, w) or (n, h, w, c) for convolutional architectures
        y : array-like of shape (n,), or (n, targets) for a regression with several
        sample_weight : array-like of shape (n,), default=None
            Nonnegative; used in training, in scores and in the mean over folds.
        **params
            With metadata routing enabled: what `cv` and `scoring` asked for, ``groups`` say.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters cannot be used; the message says what to pass instead.
        KeyboardInterrupt
            If interrupted before alpha is chosen; after that the best network so far is kept.

        Warns
        -----
        ConvergenceWarning
            If the last training did not reach `tol`, or if folds ran out of `max_time` before they reached
            all alphas; alpha is then chosen from the others. Network and certificate are valid.
        """
        began = time.perf_counter()
        given = self._check()
        X, shape = flat_samples(X)
        X, y = self._checked_data(X, y)
        weights = check_weights(sample_weight, X)
        routed = self._routed(sample_weight, params)
        splitter = check_cv(self.cv, y, classifier=get_loss(self.loss).classification or self._labels)
        folds = list(splitter.split(X, y, **routed.splitter.split))
        outputs = self._outputs(y)
        architecture = get_architecture(
            self.architecture, self.hidden_bias, self.patterns, outputs, self.coupling, self.penalty
        )
        architecture = architecture if shape is None else architecture.for_shape(shape)
        check_reducible(self.rank, X.shape[1], outputs, architecture)
        seed = seed_of(self.random_state)
        if given is None:
            problem, _ = self._problem(X, y, weights)
            ground = Ground.prepare(problem, architecture, np.random.default_rng(seed))
            top = first_alpha(ground.oracle.problem, ground)
            alphas = grid(top, int(self.n_alphas), float(self.eps))
        else:
            alphas = np.sort(given)[::-1]
        found = self._score_all(X, y, weights, folds, architecture, alphas, seed, routed.scorer.score)
        reached = min(len(fold.scores) for fold in found)
        self._warn_of_time(reached, alphas)
        self.alphas_ = alphas[:reached]
        self.scores_ = np.column_stack([fold.scores[:reached] for fold in found])
        self.widths_ = np.column_stack([fold.widths[:reached] for fold in found])
        share = None if weights is None else np.array([np.sum(weights[test]) for _, test in folds])
        self.alpha_ = float(self.alphas_[choose(self.scores_, self.selection, share)])
        left = None if self.max_time is None else max(self.max_time - (time.perf_counter() - began), 0.0)
        single = self._at(self.alpha_, left)
        if callbacks := getattr(self, "_skl_callbacks", None):
            single.set_callbacks(*callbacks)  # they hear of the last training
        samples = X if shape is None else X.reshape(-1, *shape)
        fitted = single.fit(samples, y, sample_weight=weights)
        for name, value in vars(fitted).items():
            if name in ("_trained_on", "_optimal_set") or (name.endswith("_") and not name.startswith("_")):
                setattr(self, name, value)
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score that `scoring` names, or scikit-learn's default where it is None.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        float
            Larger is better.
        """
        if self.scoring is None:
            return super().score(X, y, sample_weight)
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        return float(self._scorer()(self, X, y, **weighted))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    @property
    def _labels(self) -> bool:
        return issubclass(self._single, ConvexNetClassifier)

    def _warn_of_time(self, reached: int, alphas: np.ndarray) -> None:
        """Say how many alphas no fold speaks for, and that the best one may be among them."""
        if reached == len(alphas):
            return
        count = "1 was" if len(alphas) - reached == 1 else f"{len(alphas) - reached} were"
        warn(
            f"of {len(alphas)} alphas, {count} left out, those below {alphas[reached - 1]:.4g}: the folds "
            f"took their share of max_time={self.max_time:g} seconds. alpha_ is the choice among the "
            "others; pass a larger max_time, or fewer alphas, to compare all",
            ConvergenceWarning,
        )

    def _check(self) -> np.ndarray | None:
        """Check parameters before any work; returns the alphas that were given."""
        check_effort(self.tol, self.max_iter, self.max_time)
        check_rank(self.rank)
        check_coupling(self.coupling)
        check_penalty(self.penalty)
        check_switch("fit_intercept", self.fit_intercept)
        if self.selection not in RULES:
            raise ValueError(f"selection={self.selection!r} is unknown: pass one of {RULES}")
        fold_iter = self.fold_iter
        if not isinstance(fold_iter, numbers.Integral) or isinstance(fold_iter, bool) or fold_iter < 1:
            raise ValueError(f"fold_iter={fold_iter!r} must be an integer of at least 1")
        if get_loss(self.loss).classification and not self._labels:
            raise ValueError(f"loss={self.loss!r} is for classes: use ConvexNetClassifierCV")
        if self._labels:
            check_class_loss(get_loss(self.loss))
        self._scorer()
        return check_grid(self.alphas, self.n_alphas, self.eps, None)

    def _checked_data(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        kinds = [np.float64, np.float32]
        if not self._labels:
            X, y = validate_data(self, X, y, dtype=kinds, y_numeric=True, multi_output=True)
            return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        X, y = validate_data(self, X, y, dtype=kinds)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        return X, y

    def _outputs(self, y: np.ndarray) -> int:
        """How many outputs the networks have: one for two classes, else one for each class or target."""
        if self._labels:
            return len(self.classes_) if len(self.classes_) > 2 else 1
        return 1 if y.ndim == 1 else y.shape[1]

    def _problem(
        self, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None
    ) -> tuple[Problem, Reduction | None]:
        """The problem of some samples, at any alpha, and how it was reduced."""
        if weights is not None and not np.any(weights > 0):
            raise ValueError("all samples of a fold have weight zero: pass another cv")
        loss = get_loss(self.loss, self._outputs(y))
        if self._labels:
            seen = np.unique(y if weights is None else y[weights > 0])
            if len(seen) < 2:
                raise ValueError(
                    "y has one class only (among samples of positive weight, in all data or in a fold): "
                    "pass more samples of both classes, a smaller cv, or a stratified one"
                )
            if len(seen) < len(self.classes_):
                missing = np.setdiff1d(self.classes_, seen).tolist()
                raise ValueError(
                    f"the classes {missing} are missing in a fold (among samples of positive weight): "
                    "pass more samples of them, a smaller cv, or a stratified one"
                )
            weights = weigh_classes(getattr(self, "class_weight", None), y, weights)
            y = code_classes(np.searchsorted(self.classes_, y), loss, len(self.classes_))
        y = np.asarray(y, dtype=np.float64)
        problem = Problem.from_alpha(X, y, weights, loss, 1.0, bool(self.fit_intercept))
        if self.rank is None:
            return problem, None
        reduction = Reduction.of(problem, self.rank)
        return reduction.problem, reduction

    def _at(self, alpha: float, max_time: float | None = None) -> Any:
        """The estimator of one alpha with the same parameters."""
        names = set(inspect.signature(self._single).parameters) & set(self.get_params(deep=False))
        shared = {name: getattr(self, name) for name in names - {"max_time"}}
        return self._single(alpha=alpha, max_time=max_time, **shared)

    def _dress(self, estimator: Any) -> None:
        """Give an estimator of one alpha what its fit would, but for the network."""
        estimator.n_features_in_ = self.n_features_in_
        if self._labels:
            estimator.classes_ = self.classes_

    def _score_all(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        folds: list[tuple[np.ndarray, np.ndarray]],
        architecture: Architecture,
        alphas: np.ndarray,
        seed: int,
        scored: dict[str, Any],
    ) -> list[Fold]:
        """Train and score all folds, `n_jobs` at a time."""
        at_once = min(effective_n_jobs(self.n_jobs), len(folds))
        limit = float("inf") if self.max_time is None else FOLD_SHARE * self.max_time * at_once / len(folds)
        tasks = []
        for train, test in folds:
            part = None if weights is None else weights[train]
            problem, reduction = self._problem(X[train], y[train], part)
            metadata = _check_method_params(X, scored, indices=test)
            score = FoldScore(self._at(1.0), self._scorer(), X[test], y[test], metadata, reduction)
            self._dress(score.estimator)
            tasks.append(
                delayed(score_fold)(
                    problem,
                    architecture,
                    alphas,
                    score,
                    max_iter=int(self.fold_iter),
                    max_time=limit,
                    random_state=seed,
                )
            )
        return Parallel(n_jobs=self.n_jobs, verbose=int(self.verbose))(tasks)
