"""The section of a report about the path: a slider over alpha, and what it changes.

Reference: docs/report.md.
"""

from __future__ import annotations

import math

from . import figures
from .charts import (
    legend,
)
from .content import Report
from .markup import Html, el, figure, section, table
from .numerals import things
from .portraits import framed, portrait
from .wording import (
    point_words,
)


def path(report: Report) -> Html:
    """The networks along the path, with the slider."""
    heading = "With stronger and weaker weight decay"
    if not report.points:
        return section("path", heading, el("p", report.path_note))
    mine = next(k for k, point in enumerate(report.points) if point.mine)
    charts = [
        (
            0,
            "Objective and proven bound. Between the two: not known.",
            [("objective", "objective"), ("bound", "bound")],
        ),
        (
            1,
            f"{report.score_name[0].upper()}{report.score_name[1:]}: how well it predicts.",
            _score_legend(report),
        ),
        (2, "Neurons of the best network found.", []),
    ]
    drawn = figures.path_charts(report)
    panels = [
        figure(drawn[k], words, legend(*entries) if entries else None) for k, words, entries in charts
    ]
    return section(
        "path",
        heading,
        el(
            "p",
            "Alpha is how much every unit of weight costs. With a large alpha few neurons pay and the "
            "network is "
            "simple; with a small one there are many. Each network below was trained and certified on "
            "its own.",
        ),
        el("p", report.path_note, class_="caution") if report.path_note else None,
        _slider(report, mine),
        el("div", *panels, class_="figures three"),
        _beside(_portrait(report, mine)),
        _all_points(report),
    )


def _beside(portrait: Html | None) -> Html:
    """The neurons at the chosen alpha, beside the picture of the network where there is one."""
    listed = (el("h3", "Its neurons"), el("ol", id="path-neurons"))
    if portrait is None:
        return el("div", *listed, class_="pathneurons alone")
    return el("div", portrait, el("div", *listed, class_="pathneurons"), class_="two")


def _score_legend(report: Report) -> list[tuple[str, str]]:
    seen = [("train", "training data")]
    return seen if math.isnan(report.test_score) else [*seen, ("test", "held-out data")]


def _slider(report: Report, mine: int) -> Html:
    """The control, and the numbers that it changes."""
    now = point_words(report.points[mine], report)
    rows = [
        ("neurons", "neurons"),
        ("objective", "objective"),
        ("bound", "proven bound"),
        ("gap", "gap"),
        ("search", "search gap"),
        ("loss", "mean loss"),
        ("penalty", "weight decay"),
        ("score", f"{report.score_name}, training"),
    ]
    if not math.isnan(report.test_score):
        rows.append(("test", f"{report.score_name}, held out"))
    outputs = [
        el("div", el("dt", words), el("dd", el("output", now[key], id=f"at-{key}", for_="alpha")))
        for key, words in rows
    ]
    return el(
        "div",
        el("label", "alpha = ", el("output", now["alpha"], id="at-alpha", for_="alpha"), for_="alpha"),
        " ",
        el("span", "this network", id="at-mine", class_="badge"),
        el(
            "input",
            type="range",
            id="alpha",
            min=0,
            max=len(report.points) - 1,
            step=1,
            value=mine,
            aria_valuetext=said(report, mine),
            autocomplete="off",
        ),
        el("div", el("span", "few neurons"), el("span", "many neurons"), class_="ends", aria_hidden="true"),
        el("dl", *outputs, class_="readout"),
        class_="control",
    )


def said(report: Report, k: int) -> str:
    """What a screen reader says of a place of the slider."""
    now = point_words(report.points[k], report)
    mine = ", the network of this report" if report.points[k].mine else ""
    neurons = things(report.points[k].certificate.width, "neuron")
    return f"alpha {now['alpha']}: {neurons}, objective {now['objective']}, gap {now['gap']}{mine}"


def _portrait(report: Report, mine: int) -> Html | None:
    picture = report.points[mine].picture
    if report.canvas is None or picture is None:
        return None
    return framed(report, portrait(report, "path-picture", picture), "The network at the chosen alpha")


def _all_points(report: Report) -> Html:
    keys = ["neurons", "objective", "bound", "gap", "search", "score"]
    head = ["alpha", "neurons", "objective", "bound", "gap", "search gap", report.score_name]
    if not math.isnan(report.test_score):
        keys, head = [*keys, "test"], [*head, "held out"]
    rows = []
    for point in report.points:
        words = point_words(point, report)
        rows.append(
            [words["alpha"] + (" (this network)" if point.mine else ""), *(words[key] for key in keys)]
        )
    whole = table("All networks, from strong to weak weight decay", head, rows, class_="numbers")
    return el("details", el("summary", "All networks in a table"), whole)
