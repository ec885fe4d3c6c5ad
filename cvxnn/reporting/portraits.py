"""Networks of one or two inputs drawn as functions, with samples on them.

What moves with the slider, curves and maps, has a class by which the page's script finds it.

Reference: :mod:`cvxnn.reporting.pictures`, where the functions are evaluated.
"""

from __future__ import annotations

import numpy as np

from .charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    dots,
    drawing,
    frame,
    labels,
    place,
    shorten,
    trace,
    upwards,
)
from .content import Canvas, Picture, Report
from .markup import Html, el, figure, join
from .numerals import number, things
from .pictures import MIDDLE, NIGHT, PALETTE, between

#: Shapes of classes in pictures, besides their colours.
SHAPES = ("circle", "square", "triangle", "diamond")


def picture_axes(report: Report) -> tuple[Axis, Axis]:
    """Return the axes of pictures of the network."""
    canvas = report.canvas
    assert canvas is not None
    if len(canvas.names) == 2:
        return (
            Axis(float(canvas.low[0]), float(canvas.high[0]), LEFT, WIDTH - RIGHT),
            Axis(float(canvas.low[1]), float(canvas.high[1]), WIDTH - BOTTOM, TOP),
        )
    x = Axis(float(canvas.low[0]), float(canvas.high[0]), LEFT, WIDTH - RIGHT)
    pictures = [report.picture, *(point.picture for point in report.points)]
    values = [v for picture in pictures if picture for curve in picture.curves for v in curve]
    if not report.classes:
        values += np.ravel(canvas.targets).tolist()
    elif canvas.axis.startswith("probability"):
        values = [0.0, 1.0]
    return x, upwards(values)


def curves_of(report: Report, picture: Picture) -> list[str]:
    """Return the curves of a network as paths in the drawing."""
    assert report.canvas is not None
    x, y = picture_axes(report)
    grid = report.canvas.grid.tolist()
    return [
        trace((x(a), y(b)) for a, b in zip(grid, curve.tolist(), strict=True)) for curve in picture.curves
    ]


def portrait(report: Report, name: str, picture: Picture) -> Html:
    """Draw the network as a function of its one or two inputs, with some of the samples."""
    canvas = report.canvas
    assert canvas is not None
    x, y = picture_axes(report)
    if len(canvas.names) == 2:
        return _map(report, canvas, name, picture, x, y)
    several = len(picture.curves) > 1
    curves = [
        el(
            "path",
            d=d,
            class_="line function",
            style=f"stroke:{PALETTE[k % len(PALETTE)]}" if several else None,
        )
        for k, d in enumerate(curves_of(report, picture))
    ]
    return drawing(
        name,
        f"The network as a function of {canvas.names[0]}",
        f"{canvas.axis} over {canvas.names[0]} from {number(canvas.low[0], 3)} to "
        f"{number(canvas.high[0], 3)}, "
        f"with {things(len(canvas.samples), 'sample')}.",
        frame(x, y, canvas.names[0], canvas.axis),
        _samples_below(report, canvas, x, y),
        el("g", *curves, class_="curves"),
    )


def _samples_below(report: Report, canvas: Canvas, x: Axis, y: Axis) -> Html:
    """Samples of one input: at their targets, or on rugs of their classes."""
    xs = canvas.samples[:, 0].tolist()
    if not report.classes:
        targets = canvas.targets.reshape(len(xs), -1)
        return join(
            dots(x, y, xs, column, "sample" if targets.shape[1] == 1 else f"c{k % len(PALETTE)}", 2.2)
            for k, column in enumerate(targets.T.tolist())
        )
    return _marks(report, canvas, x, lambda i: y(float(_height(report, canvas, i, y))))


def _height(report: Report, canvas: Canvas, i: int, y: Axis) -> float:
    """Where a sample of a class stands: the second class at the top, others at the bottom."""
    on = len(report.classes) == 2 and canvas.targets[i] == 1
    return y.high if on else y.low


def _map(report: Report, canvas: Canvas, name: str, picture: Picture, x: Axis, y: Axis) -> Html:
    tall = WIDTH  # as wide as it is tall
    image = el(
        "image",
        href=picture.image,
        x=place(x.start),
        y=place(y.end),
        width=place(x.end - x.start),
        height=place(y.start - y.end),
        preserveAspectRatio="none",
        class_="map",
    )
    axes = _map_frame(x, y, canvas, tall)
    return drawing(
        name,
        f"The network as a function of {canvas.names[0]} and {canvas.names[1]}",
        "Colours in steps: "
        + ("the class that the network says" if report.classes else "the prediction, light is low")
        + f"; with {things(len(canvas.samples), 'sample')}.",
        image,
        axes,
        _marks(report, canvas, x, lambda i: y(float(canvas.samples[i, 1]))),
        height=tall,
    )


def _map_frame(x: Axis, y: Axis, canvas: Canvas, tall: float) -> Html:
    floor = y.start
    parts = []
    for tick, label in zip(y.ticks(), labels(y.ticks()), strict=True):
        at = place(y(tick))
        parts.append(el("line", x1=LEFT - 4, x2=LEFT, y1=at, y2=at, class_="tick"))
        parts.append(el("text", label, x=LEFT - 7, y=at, dy="0.33em", text_anchor="end"))
    for tick, label in zip(x.ticks(), labels(x.ticks()), strict=True):
        at = place(x(tick))
        parts.append(el("line", x1=at, x2=at, y1=floor, y2=floor + 4, class_="tick"))
        parts.append(el("text", label, x=at, y=floor + 17, text_anchor="middle"))
    middle = place(0.5 * (x.start + x.end))
    parts.append(
        el("text", shorten(canvas.names[0], 52), x=middle, y=tall - 8, text_anchor="middle", class_="name")
    )
    parts.append(el("text", shorten(canvas.names[1], 56), x=4, y=14, class_="name"))
    return el("g", *parts, class_="frame")


def _marks(report: Report, canvas: Canvas, x: Axis, height: object) -> Html:
    """Samples of classes as shapes in colours; of a regression as circles in the map's colours."""
    found = []
    low, high = float(np.min(canvas.targets)), float(np.max(canvas.targets))
    for i in range(len(canvas.samples)):
        at, up = x(float(canvas.samples[i, 0])), height(i)  # type: ignore[operator]
        if report.classes:
            k = int(canvas.targets[i])
            found.append(shape(k, at, up, PALETTE[k % len(PALETTE)]))
        else:
            share = np.array((float(canvas.targets[i]) - low) / ((high - low) or 1.0))
            tone = between(share, MIDDLE, PALETTE[5], PALETTE[0], NIGHT)
            found.append(shape(0, at, up, "#" + "".join(f"{v:02x}" for v in tone.tolist())))
    return el("g", *found, class_="marks" if report.classes else "marks ringed")


def shape(k: int, x: float, y: float, colour: str, size: float = 3.4) -> Html:
    """Return the mark of a class at a place."""
    kind = SHAPES[k % len(SHAPES)]
    if kind == "circle":
        return el("circle", cx=place(x), cy=place(y), r=size, fill=colour)
    s = size * (0.9 if kind == "square" else 1.25)
    corners = {
        "square": [(-s, -s), (s, -s), (s, s), (-s, s)],
        "triangle": [(0, -s), (s, 0.8 * s), (-s, 0.8 * s)],
        "diamond": [(0, -s), (s, 0), (0, s), (-s, 0)],
    }[kind]
    return el("path", d=trace((x + a, y + b) for a, b in corners) + "Z", fill=colour)


def framed(report: Report, drawn: Html, words: str) -> Html:
    canvas = report.canvas
    assert canvas is not None
    flat = len(canvas.names) == 2
    entries = [
        el("li", swatch(k, colour), name)
        for k, (colour, name) in enumerate(canvas.levels)
        if report.classes
    ]
    if not report.classes and len(report.outputs) > 1 and not flat:
        entries = [
            el("li", swatch(0, PALETTE[k % len(PALETTE)]), name) for k, name in enumerate(report.outputs)
        ]
    if not report.classes and flat:
        words += f": {report.outputs[0]} in steps, light is low and dark is high; circles are samples"
    note = f"{words}."
    if report.classes and not flat:
        note = f"{words}. Marks are samples at their value" + (
            f": at the top {report.classes[1]}, at the bottom {report.classes[0]}."
            if len(report.classes) == 2
            else "."
        )
    return el(
        "div",
        figure(drawn, note, el("ul", *entries, class_="legend") if entries else None),
        class_="portrait",
    )


def swatch(k: int, colour: str) -> Html:
    return el("svg", shape(k, 6, 6, colour, 4), viewBox="0 0 12 12", class_="swatch", aria_hidden="true")
