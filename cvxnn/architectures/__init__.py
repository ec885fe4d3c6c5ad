"""The architectures, one file each; see :mod:`cvxnn.architectures.base` for what one must answer."""

from __future__ import annotations

from ..registry import discover
from .base import Architecture, VectorArchitecture

#: Every architecture of one output by its name.
ARCHITECTURES: dict[str, type[Architecture]] = discover(  # type: ignore[type-abstract]
    __name__, list(__path__), Architecture, VectorArchitecture
)
#: Every architecture of several outputs by its name.
VECTOR_ARCHITECTURES: dict[str, type[VectorArchitecture]] = discover(  # type: ignore[type-abstract]
    __name__, list(__path__), VectorArchitecture
)

__all__ = ["ARCHITECTURES", "VECTOR_ARCHITECTURES", "Architecture", "VectorArchitecture"]
