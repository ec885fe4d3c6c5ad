"""What a path is trained on: the problem that data and a loss make, and the family that fits its outputs.

A path has one problem for all strengths of the penalty: it is made here at alpha 1, and the path takes it
to every other. With a loss of classes, labels become the codes of the loss, and the classes are returned to
predict with.

References: :mod:`cvxnn.program` (the problem); scikit-learn's developer guide (what is checked).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_X_y
from sklearn.utils.multiclass import check_classification_targets

from .architectures import Architecture
from .families import get_architecture
from .feature_penalties import WeightPenalty
from .losses import Loss, code_classes, get_loss
from .parameters import check_coupling, check_switch, check_weights, weigh_classes
from .program import Problem


def problem_of(
    X: Any, y: Any, loss: str, sample_weight: Any, fit_intercept: bool, class_weight: Any = None
) -> tuple[Problem, np.ndarray | None]:
    """Return the problem of arrays as users pass them, at alpha 1, and the classes of a classification."""
    chosen = get_loss(loss)
    numeric = not chosen.classification
    X, y = check_X_y(X, y, dtype=[np.float64, np.float32], y_numeric=numeric, multi_output=numeric)
    return checked_problem(X, y, chosen, sample_weight, fit_intercept, class_weight)


def checked_problem(
    X: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    sample_weight: Any,
    fit_intercept: bool,
    class_weight: Any = None,
) -> tuple[Problem, np.ndarray | None]:
    """Return the same for arrays that have been checked, as :func:`problem_of` and estimators do."""
    check_switch("fit_intercept", fit_intercept)
    weights = check_weights(sample_weight, X)
    classes = None
    if loss.classification:
        check_classification_targets(y)
        classes = np.unique(y if weights is None else y[weights > 0])
        if len(classes) < 2 or len(np.unique(y)) > len(classes):
            raise ValueError(
                f"y has {len(np.unique(y))} classes, {len(classes)} among samples of positive weight: "
                f"loss={loss.name!r} needs at least two, all with weight; for numbers pass "
                "loss='squared_error'"
            )
        weights = weigh_classes(class_weight, y, weights)
        loss = get_loss(loss, len(classes) if len(classes) > 2 else 1)
        y = code_classes(np.searchsorted(classes, y), loss, len(classes))
    else:
        weights = weigh_classes(class_weight, None, weights, loss.name)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        loss = loss if y.ndim == 1 else get_loss(loss, y.shape[1])
    y = np.asarray(y, dtype=np.float64)
    return Problem.from_alpha(X, y, weights, loss, 1.0, bool(fit_intercept)), classes


def family_of(
    problem: Problem,
    architecture: str | Architecture,
    hidden_bias: str | None,
    patterns: Any,
    coupling: str,
    penalty: WeightPenalty,
    shape: tuple[int, ...] | None = None,
) -> Architecture:
    """Return the family of networks with as many outputs as the problem has targets, for samples of a
    shape."""
    check_coupling(coupling)
    outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
    family = get_architecture(architecture, hidden_bias, patterns, outputs, coupling, penalty)
    return family if shape is None else family.for_shape(shape)
