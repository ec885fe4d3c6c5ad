"""Charts as inline SVG: axes with round ticks, lines, bands, points.

A chart is drawn for a width of 380 units, which is a phone's, so that its letters are readable where it is
not scaled; wide screens set charts side by side. Colours, and light and dark, are the page's: elements have
classes. Every chart has a title and a description for those who do not see it, and lines differ in their
strokes as well as in their colours.

Reference: Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990; WCAG 2.1, 1.1.1 and 1.4.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .markup import Html, el
from .numerals import number

WIDTH, HEIGHT = 380.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 30.0, 44.0
#: A logarithmic axis is taken where numbers differ by more than this.
WIDE = 30.0


@dataclass(frozen=True)
class Axis:
    """A scale from data to places in the drawing.

    Parameters
    ----------
    low, high : float
        In data.
    start, end : float
        In the drawing.
    log : bool
    whole : bool
        Whether only whole numbers make sense.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, x: float) -> float:
        low, high, x = (math.log(v) if self.log else v for v in (self.low, self.high, max(x, self._least)))
        share = (x - low) / (high - low) if high != low else 0.5
        return self.start + share * (self.end - self.start)

    @property
    def _least(self) -> float:
        return 1e-300 if self.log else -math.inf

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers within the axis."""
        low, high = min(self.low, self.high), max(self.low, self.high)
        if self.log:
            return _log_ticks(low, high, most)
        rough = (high - low) / max(most - 1, 1)
        if not rough > 0.0:
            return [low]
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * (1.0 - 1e-9))
        step = max(math.ceil(step), 1.0) if self.whole else step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [10.0**k for k in decades if low * (1 - 1e-9) <= 10.0**k <= high * (1 + 1e-9)]
    if len(inside) >= 2:
        return inside[:: -(-len(inside) // most)]
    finer = [m * 10.0**k for k in decades for m in (1.0, 2.0, 5.0)]
    inside = [x for x in finer if low * (1 - 1e-9) <= x <= high * (1 + 1e-9)][:most]
    return inside if len(inside) >= 2 else Axis(low, high, 0.0, 1.0).ticks(most)


def labels(ticks: Sequence[float]) -> list[str]:
    """Write the numbers of ticks, with as many digits as tell them apart."""
    for digits in range(4, 12):
        written = [number(tick, digits) for tick in ticks]
        if len(set(written)) == len(written):
            break
    return written


def across(values: Iterable[float], log: bool = False, room: float = 0.0) -> Axis:
    """Return the horizontal axis of some numbers."""
    low, high = _range(values, log)
    return Axis(low - room * (high - low), high + room * (high - low), LEFT, WIDTH - RIGHT, log)


def upwards(values: Iterable[float], log: bool = False, zero: bool = False, room: float = 0.06) -> Axis:
    """Return the vertical axis of some numbers, with a little room around them."""
    low, high = _range(values, log)
    if log:
        return Axis(low / 1.3, high * 1.3, HEIGHT - BOTTOM, TOP, True)
    low = min(low, 0.0) if zero else low
    margin = room * (high - low)
    return Axis(low if zero and low == 0.0 else low - margin, high + margin, HEIGHT - BOTTOM, TOP)


def _range(values: Iterable[float], log: bool) -> tuple[float, float]:
    known = [v for v in values if math.isfinite(v) and (v > 0.0 or not log)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high > low:
        return low, high
    return (
        (low / 2.0, high * 2.0) if log else (low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0))
    )


def place(x: float) -> str:
    """Write a place in the drawing."""
    return f"{x:.1f}".removesuffix(".0")


def trace(points: Iterable[tuple[float, float]]) -> str:
    """Return the path through places of the drawing."""
    return "M" + "L".join(f"{place(x)} {place(y)}" for x, y in points)


def line(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float], kind: str, step: bool = False) -> Html:
    """Return a line through data; `step` holds each value until the next."""
    points = [(x(a), y(b)) for a, b in zip(xs, ys, strict=True) if math.isfinite(b)]
    if not points:
        return Html("")
    if step:
        points = [
            points[0],
            *(p for (_, b), (c, d) in pairwise(points) for p in ((c, b), (c, d))),
        ]
    return el("path", d=trace(points), class_=f"line {kind}")


def dots(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float], kind: str, size: float = 2.6) -> Html:
    """Return points at data."""
    return el(
        "g",
        *(
            el("circle", cx=place(x(a)), cy=place(y(b)), r=size)
            for a, b in zip(xs, ys, strict=True)
            if math.isfinite(b)
        ),
        class_=f"dots {kind}",
    )


def band(
    x: Axis, y: Axis, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str
) -> Html:
    """Return the region between two lines."""
    there = [(x(a), y(b)) for a, b in zip(xs, high, strict=True)]
    back = [(x(a), y(b)) for a, b in zip(xs, low, strict=True)]
    return el("path", d=trace([*there, *reversed(back)]) + "Z", class_=f"band {kind}")


def frame(x: Axis, y: Axis, across_name: str, upwards_name: str) -> Html:
    """Return grid lines, numbers and names of two axes."""
    parts = []
    for tick, label in zip(y.ticks(), labels(y.ticks()), strict=True):
        at = place(y(tick))
        parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(el("text", label, x=LEFT - 7, y=at, dy="0.33em", text_anchor="end"))
    for tick, label in zip(x.ticks(), labels(x.ticks()), strict=True):
        at = place(x(tick))
        parts.append(el("line", x1=at, x2=at, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="tick"))
        parts.append(el("text", label, x=at, y=HEIGHT - BOTTOM + 17, text_anchor="middle"))
    floor = HEIGHT - BOTTOM
    parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    middle = place(0.5 * (LEFT + WIDTH - RIGHT))
    parts.append(
        el("text", shorten(across_name, 52), x=middle, y=HEIGHT - 8, text_anchor="middle", class_="name")
    )
    parts.append(el("text", shorten(upwards_name, 56), x=4, y=14, class_="name"))
    return el("g", *parts, class_="frame")


def shorten(name: str, most: int) -> str:
    """Cut a name that is too long for its place."""
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def drawing(
    name: str, title: str, description: str, *marks: Html, width: float = WIDTH, height: float = HEIGHT
) -> Html:
    """Return an SVG with a title and a description; `name` tells it from others on the page."""
    return el(
        "svg",
        el("title", title, id=f"{name}-title"),
        el("desc", description, id=f"{name}-text"),
        *marks,
        id=name,
        viewBox=f"0 0 {place(width)} {place(height)}",
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-text",
    )


def legend(*entries: tuple[str, str]) -> Html:
    """Return what the strokes of a chart are, as (kind, name)."""

    def swatch(kind: str) -> Html:
        mark = (
            el("rect", x=1, y=1, width=22, height=10, class_=f"band {kind}")
            if kind == "unknown"
            else el("path", d="M1 6L23 6", class_=f"line {kind}")
        )
        return el("svg", mark, viewBox="0 0 24 12", class_="swatch", aria_hidden="true")

    return el("ul", *(el("li", swatch(kind), name) for kind, name in entries), class_="legend")


def wide(values: Iterable[float]) -> bool:
    """Whether numbers call for a logarithmic axis."""
    known = np.array([v for v in values if math.isfinite(v) and v > 0.0])
    return bool(len(known) and known.max() > WIDE * known.min())
