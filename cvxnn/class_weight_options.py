"""Weights of classes as text: what `--class-weight` accepts, and what a model file keeps.

    balanced            every class weighs the same in total
    yes=2,no=1          by label; labels that are not named weigh 1

The loss of a row is multiplied by the weight of its class, as with `class_weight` of the estimators.

Reference: scikit-learn's ``compute_class_weight``.
"""

from __future__ import annotations

import numpy as np

from .encoding import Target
from .parameters import weigh_classes
from .tables import listing


def parse_class_weight(text: str) -> dict[str, float] | str:
    """Return "balanced", or the weights of a text by label.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text == "balanced":
        return text
    weights: dict[str, float] = {}
    for part in text.split(","):
        label, equals, number = (word.strip() for word in part.rpartition("="))
        if not equals:
            raise ValueError(
                f"--class-weight {text!r}: {part.strip()!r} is no LABEL=WEIGHT: pass balanced, or "
                "LABEL=WEIGHT,LABEL=WEIGHT (labels without commas)"
            )
        weights[label] = _positive(text, number)
    return weights


def _positive(text: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not 0.0 < weight < float("inf"):
        raise ValueError(f"--class-weight {text!r}: {number!r} is no weight: pass numbers above 0")
    return weight


def class_weight_of(text: str | None, target: Target) -> dict[float, float] | str | None:
    """Return the weights of a text for the codes of the classes of a target.

    Raises
    ------
    ValueError
        If it is none, names a class that there is not, or the target is a number.
    """
    if text is None:
        return None
    weights, classes = parse_class_weight(text), target.classes
    if not classes:
        raise ValueError(
            f"--class-weight {text!r} is for classes, and {target.name!r} is a number: leave it out, or "
            "pass --task classification"
        )
    if isinstance(weights, str):
        return weights
    unknown = [label for label in weights if label not in classes]
    if unknown:
        raise ValueError(
            f"--class-weight {text!r} names {listing(unknown)}, which is no class: the classes are "
            f"{listing(classes)}"
        )
    codes = _codes(target)
    return {codes[classes.index(label)]: weight for label, weight in weights.items()}


def _codes(target: Target) -> list[float]:
    """The numbers that stand for the classes of a target, in their order."""
    return [-1.0, 1.0] if len(target.classes) == 2 else [float(k) for k in range(len(target.classes))]


def weights_of(text: str | None, target: Target, y: np.ndarray) -> np.ndarray | None:
    """Return the weight of each row of a table from its coded targets, (n,), or None for equal ones.

    Raises
    ------
    ValueError
        As :func:`class_weight_of`.
    """
    weights = class_weight_of(text, target)
    return None if weights is None else weigh_classes(weights, y, None, known=np.array(_codes(target)))
