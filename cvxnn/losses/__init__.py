"""The losses, one file each; see :mod:`cvxnn.losses.base` for what a loss has to answer."""

from __future__ import annotations

from ..registry import discover
from .base import Loss

#: Every loss by its name.
LOSSES: dict[str, type[Loss]] = discover(__name__, list(__path__), Loss)  # type: ignore[type-abstract]


def get_loss(loss: str | Loss) -> Loss:
    """Return a loss from its name; a :class:`Loss` is returned as it is.

    Raises
    ------
    ValueError
        If no loss has this name.
    """
    if isinstance(loss, Loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: pass one of {', '.join(map(repr, LOSSES))}")
    return LOSSES[loss]()


__all__ = ["LOSSES", "Loss", "get_loss"]
