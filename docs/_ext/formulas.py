"""Docstrings of modules as reStructuredText: an indented block is a formula.

The house writes formulas in plain text, indented by four, after a line of prose and an empty line. To
docutils that is a quotation, set as running text, with every star a mark of emphasis. Here such a block
becomes a literal block, line by line as it was written, of the class ``formula``. Lists, directives and
blocks that are literal already stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: What opens a block whose indented continuation is not a formula.
_OPENERS = re.compile(r"^(\.\. |[-*+] |\(?[0-9a-z#]+[.)] |:[a-z]+: )")


def literal_formulas(lines: list[str]) -> list[str]:
    """Return lines with a directive before every indented block that follows prose.

    Parameters
    ----------
    lines : list of str
        A docstring without common indentation.

    Returns
    -------
    list of str
    """
    out: list[str] = []
    last, inside = "", False  # the last line without indentation; whether we are in a block
    for k, line in enumerate(lines):
        indented = line[:1] == " "
        if line and not indented:
            last, inside = line, False
        elif line and not inside and k and not lines[k - 1].strip():
            inside = True
            opened = _OPENERS.match(paragraph(lines, k)) or last.endswith("::")
            if not opened:
                out += [".. code-block:: text", "   :class: formula", ""]
        out.append(line)
    return out


def paragraph(lines: list[str], k: int) -> str:
    """Return the first line of the last unindented paragraph above line k."""
    k -= 1
    while k > 0 and (not lines[k] or lines[k][0] == " "):
        k -= 1
    while k > 0 and lines[k - 1] and lines[k - 1][0] != " ":
        k -= 1
    return lines[k]


def on_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    if what == "module":
        lines[:] = literal_formulas(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    # before numpydoc (priority 500) looks at the lines
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
