"""The losses, one file each; see :mod:`cvxnn.losses.base` for what a loss has to answer.

The classes of all losses can be imported from here: ``from cvxnn.losses import Quantile``.
"""

from __future__ import annotations

from typing import Any

from ..registry import discover
from .base import Loss

#: Every loss by its name.
LOSSES: dict[str, type[Loss]] = discover(__name__, list(__path__), Loss)  # type: ignore[type-abstract]


def __getattr__(name: str) -> Any:
    """The class of a loss by its name, for losses that need parameters."""
    for loss in LOSSES.values():
        if loss.__name__ == name:
            return loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_loss(loss: str | Loss) -> Loss:
    """Return a loss from its name; a :class:`Loss` is returned as it is.

    Raises
    ------
    ValueError
        If no loss has this name.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: pass one of {', '.join(map(repr, LOSSES))}")
    return LOSSES[loss]()


__all__ = ["LOSSES", "Loss", "get_loss"]
