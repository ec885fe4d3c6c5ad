"""Options of a family of networks from the command line, ``NAME=VALUE``.

A value is read as JSON or as a Python literal, so that ``true``, ``None``, ``0.2``, ``[1, 2]``, ``(3, 1)``
and ``3,1`` all are what they look like; what is neither is text.

Reference: the documentation of Python's ``ast.literal_eval`` (literals, no code).
"""

from __future__ import annotations

import ast
import json
from typing import Any


def parse_options(given: list[str] | None) -> dict[str, Any]:
    """Return options of an architecture: numbers, switches, lists of them or text.

    Parameters
    ----------
    given : list of str or None
        ``NAME=VALUE`` each.

    Raises
    ------
    ValueError
        If a text is not of this form.
    """
    options: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--option {text!r} is not NAME=VALUE: pass slope=0.2, say")
        options[name] = _value(value)
    return options


def _value(text: str) -> Any:
    """What a text says in JSON or in Python; else the text itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            pass
    return text
