"""What users may pass: checks whose messages say what to pass instead.

Every entrance (estimators, functions, command line) asks here, so that the same mistake gets the same
answer everywhere.

Reference: scikit-learn's developer guide.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight


def check_alpha(alpha: Any) -> None:
    """Raise ValueError unless `alpha` is a positive finite number."""
    if not isinstance(alpha, numbers.Real) or isinstance(alpha, bool) or not np.isfinite(float(alpha)):
        raise ValueError(f"alpha={alpha!r} must be a finite number > 0")
    if float(alpha) <= 0:
        raise ValueError(
            f"alpha={alpha!r} must be > 0: without weight decay the training problem has no "
            "certificate; pass a small value such as 1e-6"
        )


def check_coupling(coupling: Any) -> None:
    """Raise ValueError unless `coupling` is one of the two choices."""
    if coupling not in ("joint", "separate"):
        raise ValueError(f"coupling={coupling!r} is unknown: pass 'joint' (the default) or 'separate'")


def check_switch(name: str, value: Any) -> bool:
    """Return a parameter that is true or false.

    Raises
    ------
    ValueError
        If it is neither: a text counts as true in Python whatever it says.
    """
    if isinstance(value, bool | np.bool_) or (isinstance(value, numbers.Integral) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name}={value!r} must be True or False")


def check_effort(tol: Any, max_iter: Any, max_time: Any) -> None:
    """Raise ValueError unless the limits of a training are numbers that make sense."""
    for name, value, least in (("tol", tol, 0), ("max_iter", max_iter, 1), ("max_time", max_time, 0)):
        if name == "max_time" and value is None:
            continue
        real = numbers.Integral if name == "max_iter" else numbers.Real
        if not isinstance(value, real) or isinstance(value, bool) or not float(value) >= least:
            kind = "an integer" if name == "max_iter" else "a number"
            raise ValueError(f"{name}={value!r} must be {kind} of at least {least}")


def seed_of(random_state: Any) -> int:
    """Return the seed that a `random_state` stands for, the same at every entrance."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def check_rank(rank: Any) -> None:
    """Raise ValueError unless `rank` is None, an integer of at least 1 or a share between 0 and 1."""
    if rank is None:
        return
    whole = isinstance(rank, numbers.Integral) and not isinstance(rank, bool) and int(rank) >= 1
    share = (
        isinstance(rank, numbers.Real)
        and not isinstance(rank, numbers.Integral)
        and 0.0 < float(rank) < 1.0
    )
    if not whole and not share:
        raise ValueError(
            f"rank={rank!r} must be an integer of at least 1, a share of the sum of squares "
            "between 0 and 1, or None"
        )


def check_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """Return validated sample weights, shape (n,), or None.

    Raises
    ------
    ValueError
        If weights are negative, not finite, of another length, or all zero.
    """
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not np.any(weights > 0):
        raise ValueError("all sample weights are zero: give at least one sample a positive weight")
    return weights


def check_class_weight(
    class_weight: Any, y: np.ndarray, sample_weight: np.ndarray | None, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the weight of each sample's class, shape (n,), as scikit-learn defines it.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Weights by label, 1 for labels that are missing; "balanced" is the total weight of the samples
        divided by the number of classes and the weight of the class.
    y : ndarray of shape (n,)
        Labels, of at least one sample of positive weight for each class.
    sample_weight : ndarray of shape (n,), or None
    known : ndarray of shape (classes,), or None
        The labels that there are, where `y` may lack some.

    Raises
    ------
    ValueError
        If it is something else, or a weight is negative or not finite.
    """
    if isinstance(class_weight, dict):
        for label, weight in class_weight.items():
            real = isinstance(weight, numbers.Real) and np.isfinite(float(weight))
            if not real or float(weight) < 0.0:
                raise ValueError(
                    f"class_weight[{label!r}]={weight!r} must be a finite number of at least 0"
                )
    elif class_weight is not None and not (isinstance(class_weight, str) and class_weight == "balanced"):
        raise ValueError(f"class_weight={class_weight!r} is unknown: pass a dict, 'balanced' or None")
    classes, codes = np.unique(y, return_inverse=True)
    if isinstance(class_weight, dict):
        labels = (classes if known is None else known).tolist()
        unknown = [label for label in class_weight if label not in labels]
        if unknown:
            raise ValueError(f"class_weight has labels {unknown} that y has not: pass some of {labels}")
        # scikit-learn takes the text '1' for the number
        return np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])[codes]
    return compute_class_weight(class_weight, classes=classes, y=y, sample_weight=sample_weight)[codes]


def weigh_classes(
    class_weight: Any,
    labels: np.ndarray | None,
    sample_weight: np.ndarray | None,
    loss: str = "",
    known: np.ndarray | None = None,
) -> np.ndarray | None:
    """Return sample weights times those of their classes, shape (n,), or None where all weigh the same.

    Every entrance that takes `class_weight` asks here, so that it means the same everywhere.

    Parameters
    ----------
    class_weight, known
        As for :func:`check_class_weight`.
    labels : ndarray of shape (n,), or None
        None where targets are numbers, which have no classes to weigh.
    sample_weight : ndarray of shape (n,), or None
    loss : str
        Its name, for messages.

    Raises
    ------
    ValueError
        If there are no classes, a class would not count at all, or `class_weight` is something else.
    """
    if class_weight is None:
        return sample_weight
    if labels is None:
        raise ValueError(
            f"class_weight={class_weight!r} is for classes, and with loss={loss!r} targets are numbers: "
            "pass sample_weight instead, or a loss of classes such as 'log_loss'"
        )
    if sample_weight is not None:
        seen = np.unique(labels[sample_weight > 0])
        silent = np.setdiff1d(labels, seen)
        if len(silent):
            raise ValueError(
                f"the classes {silent.tolist()} have weight zero: leave their samples out, or weight them"
            )
    of_class = check_class_weight(class_weight, labels, sample_weight, known)
    if np.any(of_class == 0.0):
        raise ValueError(f"class_weight={class_weight!r} leaves out a class: pass weights > 0 for all")
    return of_class if sample_weight is None else of_class * sample_weight


def check_grid(alphas: Any, n_alphas: Any, eps: Any, n_bounds: Any) -> np.ndarray | None:
    """Return given alphas as they are, or None for a grid whose parameters are sound.

    Raises
    ------
    ValueError
        If there is no alpha, one is not a positive finite number, or the grid makes no sense.
    """
    for name, value, least in (("n_alphas", n_alphas, 1), ("n_bounds", n_bounds, 0)):
        if value is None and name == "n_bounds":
            continue
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
    if alphas is None:
        real = isinstance(eps, numbers.Real) and not isinstance(eps, bool)
        if not real or not 0.0 < float(eps) < 1.0:
            raise ValueError(f"eps={eps!r} must be between 0 and 1: pass a small share such as 1e-3")
        return None
    values = np.atleast_1d(np.asarray(alphas))
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(
            f"alphas has shape {values.shape}: pass a list of at least one strength, or None for a grid"
        )
    for value in values.tolist():
        check_alpha(value)
    return values.astype(np.float64)
