"""The losses, one file each; see :mod:`cvxnn.losses.base` for what a loss has to answer."""

from __future__ import annotations

from ..registry import discover
from .base import Loss, VectorLoss
from .per_output import PerOutput

#: Every loss of one output by its name.
LOSSES: dict[str, type[Loss]] = discover(__name__, list(__path__), Loss, VectorLoss)  # type: ignore[type-abstract]
#: Losses of several outputs that are no sum over the outputs.
VECTOR_LOSSES: dict[str, type[VectorLoss]] = discover(  # type: ignore[type-abstract]
    __name__, list(__path__), VectorLoss, PerOutput
)


def get_loss(loss: str | Loss, outputs: int = 1) -> Loss:
    """Return a loss from its name; a :class:`Loss` is returned as it is.

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
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: pass one of {', '.join(map(repr, LOSSES))}")
    if outputs == 1:
        return LOSSES[loss]()
    return VECTOR_LOSSES[loss]() if loss in VECTOR_LOSSES else PerOutput(LOSSES[loss]())


__all__ = ["LOSSES", "VECTOR_LOSSES", "Loss", "VectorLoss", "get_loss"]
