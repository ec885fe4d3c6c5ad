"""The losses, one file each; see :mod:`cvxnn.losses.base` for what a loss has to answer.

The classes of all losses can be imported from here: ``from cvxnn.losses import Quantile``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import discover
from .base import Loss, VectorLoss
from .per_output import PerOutput

_HERE = list(__path__)
#: Every loss of one output by its name.
LOSSES: dict[str, type[Loss]] = discover(__name__, _HERE, Loss, VectorLoss)  # type: ignore[type-abstract]
#: Losses of several outputs that are no sum over the outputs.
VECTOR_LOSSES: dict[str, type[VectorLoss]]
VECTOR_LOSSES = discover(__name__, _HERE, VectorLoss, PerOutput)  # type: ignore[type-abstract]


def __getattr__(name: str) -> Any:
    """The class of a loss by its name, for losses that need parameters."""
    for loss in LOSSES.values():
        if loss.__name__ == name:
            return loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_loss(loss: str | Loss, outputs: int = 1) -> Loss:
    """Return a loss from its name; a :class:`cvxnn.losses.base.Loss` is returned as it is.

    Parameters
    ----------
    loss : str or Loss
    outputs : int
        With more than one, the loss of that name on several outputs: its own (softmax for ``log_loss``), or
        the sum over the outputs.

    Raises
    ------
    ValueError
        If no loss has this name.
    """
    if isinstance(loss, Loss):
        return loss if outputs == 1 or isinstance(loss, VectorLoss) else PerOutput(loss)
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: pass one of {', '.join(map(repr, LOSSES))}")
    if outputs == 1:
        return LOSSES[loss]()
    return VECTOR_LOSSES[loss]() if loss in VECTOR_LOSSES else PerOutput(LOSSES[loss]())


def code_classes(codes: np.ndarray, loss: Loss, classes: int) -> np.ndarray:
    """Code the numbers of classes as targets of a loss.

    Parameters
    ----------
    codes : ndarray of int of shape (n,), from 0 to classes - 1
    loss : Loss
        On one output for two classes, else on as many outputs as classes.
    classes : int

    Returns
    -------
    ndarray of shape (n,)
        -1 and +1 for two classes. For more (n, classes): one-hot for a loss of all outputs together
        (softmax),
        -1 and +1 for a loss that is summed over the outputs.
    """
    if classes == 2 and not isinstance(loss, VectorLoss):
        return 2.0 * codes - 1.0
    one_hot = np.eye(classes)[codes]
    return 2.0 * one_hot - 1.0 if isinstance(loss, PerOutput) else one_hot


__all__ = ["LOSSES", "VECTOR_LOSSES", "Loss", "VectorLoss", "code_classes", "get_loss"]
