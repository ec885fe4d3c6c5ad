"""The architectures, one file each; see :mod:`cvxnn.architectures.base` for what one must answer."""

from __future__ import annotations

from ..registry import discover
from .base import Architecture, VectorArchitecture

_HERE = list(__path__)
#: Every architecture of one output by its name.
ARCHITECTURES: dict[str, type[Architecture]]
ARCHITECTURES = discover(__name__, _HERE, Architecture, VectorArchitecture)  # type: ignore[type-abstract]
#: Every architecture of several outputs by its name.
VECTOR_ARCHITECTURES: dict[str, type[VectorArchitecture]]
VECTOR_ARCHITECTURES = discover(__name__, _HERE, VectorArchitecture)  # type: ignore[type-abstract]

__all__ = ["ARCHITECTURES", "VECTOR_ARCHITECTURES", "Architecture", "VectorArchitecture"]
