"""The architectures, one file each; see :mod:`cvxnn.architectures.base` for what one must answer."""

from __future__ import annotations

from ..registry import discover
from .base import Architecture

#: Every architecture by its name.
ARCHITECTURES: dict[str, type[Architecture]] = discover(__name__, list(__path__), Architecture)  # type: ignore[type-abstract]

__all__ = ["ARCHITECTURES", "Architecture"]
