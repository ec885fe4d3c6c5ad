"""The figures of a report: certificate, convergence, path, and bars beside numbers.

Each takes a report and returns SVG. The cursor in the charts of the path moves with the slider: it has a
class by which the page's script finds it.

Reference: Tufte, The Visual Display of Quantitative Information, 2001.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    across,
    band,
    dots,
    drawing,
    frame,
    line,
    place,
    trace,
    upwards,
    wide,
)
from .content import Report
from .markup import Html, el
from .numerals import duration, number, percent, things


def gauge(report: Report) -> Html:
    """Draw where networks are proven impossible, this network, and the best constant."""
    c = report.certificate
    top = max(report.null, c.objective) or 1.0
    x = Axis(0.0, 1.03 * top, 8.0, WIDTH - 8.0)
    bar, tall = 44.0, 22.0
    here, bound, null = x(c.objective), x(c.lower_bound), x(report.null)
    side = "start" if here < 0.3 * WIDTH else "end" if here > 0.7 * WIDTH else "middle"
    stripes = el(
        "pattern",
        el("path", d="M0 6L6 0M-1 1L1 -1M5 7L7 5", class_="stripe"),
        id="stripes",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
    )
    parts = [
        el("defs", stripes),
        el("rect", x=x(0.0), y=bar, width=place(max(bound - x(0.0), 0)), height=tall, class_="impossible"),
        el("rect", x=place(bound), y=bar, width=place(max(here - bound, 1.5)), height=tall, class_="open"),
        el("rect", x=place(here), y=bar, width=place(max(null - here, 0)), height=tall, class_="saved"),
        el("line", x1=place(here), x2=place(here), y1=bar - 8, y2=bar + tall + 4, class_="mark"),
        el(
            "text",
            f"this network: {number(c.objective, 5)}",
            x=place(here),
            y=bar - 15,
            text_anchor=side,
            class_="strong",
        ),
        _below(x, c.lower_bound, bar + tall, 1, f"no network is below {number(c.lower_bound, 5)}"),
        _below(x, report.null, bar + tall, 2, f"best constant: {number(report.null, 5)}"),
    ]
    said = (
        f"From 0 to {number(c.lower_bound, 5)} no network can be; this network is at "
        f"{number(c.objective, 5)}, the best constant at {number(report.null, 5)}."
    )
    return drawing("gauge", "Objective on a line from zero", said, *parts, height=116.0)


def _below(x: Axis, value: float, floor: float, row: int, words: str) -> Html:
    at = x(value)
    side = "end" if at > 0.5 * WIDTH else "start"
    y = floor + 4 + 17 * row
    return el(
        "g",
        el("line", x1=place(at), x2=place(at), y1=floor, y2=y - 10, class_="tick"),
        el("text", words, x=place(at + (-5 if side == "end" else 5)), y=y, text_anchor=side),
    )


def convergence(report: Report) -> tuple[Html, Html]:
    """Draw objective and bound over time, and the gaps over time."""
    history, c = report.history, report.certificate
    seconds = [max(moment.seconds, 1e-4) for moment in history]
    log = wide(seconds)
    x = across(seconds, log)
    objective = [moment.objective for moment in history]
    bounds = np.maximum.accumulate([max(moment.bound, 0.0) for moment in history]).tolist()
    proven = [(s, b) for s, b in zip(seconds, bounds, strict=True) if b > 0.0]
    start = proven[0][0] if proven else seconds[-1]
    y = upwards([*objective, *(b for _, b in proven)] or [0.0, 1.0])
    marks = [frame(x, y, "seconds", "objective")]
    if proven:
        # a bound that is proven at the end holds for all of the training
        level = y(c.lower_bound)
        marks.append(el("path", d=trace([(LEFT, level), (WIDTH - RIGHT, level)]), class_="line bound"))
    marks += [
        line(x, y, seconds, objective, "objective", step=True),
        dots(x, y, seconds, objective, "objective"),
    ]
    first = drawing(
        "convergence",
        "Objective and proven bound over time",
        f"The objective fell from {number(objective[0], 5)} to {number(c.objective, 5)} in "
        f"{duration(seconds[-1])}; the bound {number(c.lower_bound, 5)} was proven after "
        f"{duration(start)}.",
        *marks,
    )
    return first, _gaps(report, seconds, x)


def _gaps(report: Report, seconds: list[float], x: Axis) -> Html:
    """Draw the search gap over time, and the proven one at its end."""
    c = report.certificate
    floor = 1e-12
    gaps = [min(max(moment.search_gap, floor), 1.0) for moment in report.history]
    proven = max(c.gap, floor)
    y = upwards([*gaps, proven], log=True)
    marks = [
        frame(x, y, "seconds", "relative gap"),
        line(x, y, seconds, gaps, "search", step=True),
        dots(x, y, seconds, gaps, "search"),
        dots(x, y, [seconds[-1]], [proven], "bound", 4.5),
    ]
    said = f"The search gap ended at {percent(c.search_gap, 2)}, the proven gap at {percent(c.gap, 3)}."
    return drawing("gaps", "Gaps over time", said, *marks)


def path_axis(report: Report) -> Axis:
    """Return the axis of alpha: strong on the left, weak on the right."""
    alphas = [point.certificate.alpha for point in report.points]
    return Axis(max(alphas), min(alphas), LEFT + 6, WIDTH - RIGHT - 6, True)


def path_charts(report: Report) -> list[Html]:
    """Draw objective and bound, scores, and numbers of neurons along the path."""
    x, points = path_axis(report), report.points
    alphas = [point.certificate.alpha for point in points]
    mine = next(k for k, point in enumerate(points) if point.mine)
    cursor = x(alphas[mine])
    objective = [point.certificate.objective for point in points]
    bound = [point.certificate.lower_bound for point in points]
    y = upwards([*objective, *bound])
    name = "alpha: strong decay on the left, weak on the right"
    first = drawing(
        "path-objective",
        "Objective and proven bound along the path",
        f"From alpha {number(alphas[0], 3)} to {number(alphas[-1], 3)} the objective goes from "
        f"{number(objective[0], 4)} to {number(objective[-1], 4)}.",
        frame(x, y, name, "objective"),
        band(x, y, alphas, bound, objective, "unknown"),
        line(x, y, alphas, bound, "bound"),
        line(x, y, alphas, objective, "objective"),
        dots(x, y, alphas, objective, "objective"),
        _cursor(cursor),
    )
    return [first, _scores(report, x, name, cursor), _widths(report, x, name, cursor)]


def _scores(report: Report, x: Axis, name: str, cursor: float) -> Html:
    alphas = [point.certificate.alpha for point in report.points]
    train = [point.score for point in report.points]
    test = [point.test_score for point in report.points]
    y = upwards([*train, *test])
    best = max((t, -k) for k, t in enumerate(train)) if train else (0.0, 0)
    said = f"On the training data it is best at alpha {number(alphas[-best[1]], 3)}: {number(best[0], 3)}."
    return drawing(
        "path-score",
        f"{report.score_name} along the path",
        said,
        frame(x, y, name, report.score_name),
        line(x, y, alphas, train, "train"),
        dots(x, y, alphas, train, "train"),
        line(x, y, alphas, test, "test"),
        dots(x, y, alphas, test, "test"),
        _cursor(cursor),
    )


def _widths(report: Report, x: Axis, name: str, cursor: float) -> Html:
    alphas = [point.certificate.alpha for point in report.points]
    widths = [float(point.certificate.width) for point in report.points]
    y = replace(upwards(widths, zero=True), whole=True)
    floor = y(0.0)
    stems = [
        el("line", x1=place(x(a)), x2=place(x(a)), y1=place(floor), y2=place(y(w)))
        for a, w in zip(alphas, widths, strict=True)
    ]
    return drawing(
        "path-width",
        "Neurons along the path",
        f"From {things(int(widths[0]), 'neuron')} to {things(int(widths[-1]), 'neuron')}.",
        frame(x, y, name, "neurons"),
        el("g", *stems, class_="stems"),
        dots(x, y, alphas, widths, "objective", 3.2),
        _cursor(cursor),
    )


def _cursor(at: float) -> Html:
    """The line that moves with the slider."""
    return el("line", x1=place(at), x2=place(at), y1=TOP, y2=HEIGHT - BOTTOM, class_="cursor")


def bar(share: float) -> Html:
    """Return a share of one as a bar; its number stands beside it."""
    wide_ = 0.0 if math.isnan(share) else min(max(share, 0.0), 1.0)
    return el(
        "svg",
        el("rect", width=100, height=6, rx=3, class_="rail"),
        el("rect", width=place(100 * wide_), height=6, rx=3, class_="fill"),
        viewBox="0 0 100 6",
        class_="bar",
        aria_hidden="true",
        preserveAspectRatio="none",
    )


def balance(value: float, size: float) -> Html:
    """Return a signed number as a bar from the middle; its number stands beside it."""
    half = 50.0 * min(abs(value) / size, 1.0) if size > 0.0 else 0.0
    return el(
        "svg",
        el("line", x1=50, x2=50, y1=0, y2=10, class_="axis"),
        el(
            "rect",
            x=place(50.0 if value >= 0 else 50.0 - half),
            y=1.5,
            width=place(half),
            height=7,
            class_="plus" if value >= 0 else "minus",
        ),
        viewBox="0 0 100 10",
        class_="balance",
        aria_hidden="true",
    )
