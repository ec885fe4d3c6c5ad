"""The solvers, one file each; see :mod:`cvxnn.solvers.base` for the loop that drives them."""

from __future__ import annotations

from ..registry import discover
from .base import Candidate, Solver, Unsupported, run

#: Every solver by its name.
SOLVERS: dict[str, type[Solver]] = discover(__name__, list(__path__), Solver)  # type: ignore[type-abstract]

__all__ = ["SOLVERS", "Candidate", "Solver", "Unsupported", "run"]
