"""Warnings that point at the user's own line.

A warning names the line that it is about. What is called here comes through wrappers of this package and of
scikit-learn, whose number differs from method to method, so the line is looked for: the first one outside
of both.

Reference: the documentation of Python's ``warnings.warn`` (stacklevel).
"""

from __future__ import annotations

import sys
import warnings

#: Packages whose lines are not the user's.
INSIDE = frozenset({"cvxnn", "sklearn", "joblib", "contextlib"})


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning at the first line outside of this package and of scikit-learn.

    Parameters
    ----------
    message : str
    category : type of Warning
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _inside(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _inside(module: str) -> bool:
    return module.partition(".")[0] in INSIDE
