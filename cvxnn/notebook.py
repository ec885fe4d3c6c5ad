"""Tables in HTML, as notebooks show objects."""

from __future__ import annotations

import html
from collections.abc import Sequence


def html_table(rows: Sequence[Sequence[object]], caption: str, head: Sequence[str] = ()) -> str:
    """Return a table; the first cell of a row is its heading.

    Parameters
    ----------
    rows : list of tuples
        Whatever they hold is written out and escaped.
    caption : str
    head : list of str, default=()
        Headings of the columns.
    """
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    top = f"<thead><tr>{titles}</tr></thead>" if head else ""
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in rest)
        body += f"<tr><th style='text-align:left'>{html.escape(str(first))}</th>{cells}</tr>"
    return f"<table><caption>{html.escape(caption)}</caption>{top}<tbody>{body}</tbody></table>"
