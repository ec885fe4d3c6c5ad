"""HTML and SVG from data, with every text escaped unless it was made here.

Names of columns and classes are written by strangers. An element escapes whatever is put into it, texts and
attributes alike; only what another element returned is taken as it is, since it has its own type.
Forgetting to escape is therefore not possible, only forgetting that something was HTML, which one sees
at once.

Reference: the HTML standard, section 13.1.2 (elements and their text); OWASP's rules for JSON in HTML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

#: Elements without an end tag.
_VOID = frozenset(["input", "meta", "br", "hr", "img"])


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def text(content: Any) -> Html:
    """Return a value as HTML: escaped, unless it is HTML already; nothing for None."""
    if isinstance(content, Html):
        return content
    return Html("" if content is None else escape(str(content), quote=True))


def join(parts: Iterable[Any], between: str = "") -> Html:
    """Return several values in a row."""
    return Html(text(between).join(text(part) for part in parts))


def el(tag: str, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Parameters
    ----------
    tag : str
    *children : text, Html or None
    **attributes
        A trailing underscore is dropped (``class_``), others become dashes; None and False leave an
        attribute out, True stands without a value.

    Examples
    --------
    >>> el("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    start = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        start.append(key if value is True else f'{key}="{escape(str(value), quote=True)}"')
    opening = f"<{' '.join(start)}>"
    return Html(opening if tag in _VOID else f"{opening}{join(children)}</{tag}>")


def table(caption: Any, head: list[Any], rows: Iterable[list[Any]], **attributes: Any) -> Html:
    """Return a table whose first column names its rows, in a frame that scrolls where it is narrow."""
    top = el("thead", el("tr", *(el("th", cell, scope="col") for cell in head)))
    body = el(
        "tbody",
        *(el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])) for row in rows),
    )
    whole = el("table", el("caption", caption), top if any(head) else None, body, **attributes)
    return el("div", whole, class_="scroll", tabindex="0", role="group", aria_label=caption)


def section(name: str, heading: str, *content: Html | str | None) -> Html:
    """Return a section with a heading that links can reach."""
    return el("section", el("h2", heading, id=name), *content, aria_labelledby=name)


def figure(drawn: Html, caption: Html | str, *more: Html | None) -> Html:
    """Return a figure with its caption."""
    return el("figure", drawn, *more, el("figcaption", caption))


def embedded(data: Any) -> Html:
    """Return data as JSON that can stand inside a script element.

    Raises
    ------
    ValueError
        If a number is not finite, which JSON has no word for.
    """
    written = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Html(written)
