"""The section of a report about neurons: a card for each, with its rule.

Reference: docs/report.md.
"""

from __future__ import annotations

import numpy as np

from . import figures
from .content import Linear, Neuron, Report
from .markup import Html, el, join, section, table
from .numerals import number, part, signed, things
from .pictures import patch_image
from .portraits import framed, portrait
from .wording import (
    effect,
    firing,
    formula,
    shortness,
    sums,
)

#: Neurons that are shown open; the others are behind a button.
OPEN = 6

#: Neurons with a table of all their weights, and rows of such a table.
DETAILED, ROWS = 24, 40


def neurons(report: Report) -> Html:
    """Each neuron as a rule."""
    heading = "What each neuron does"
    if not report.neurons:
        words = f"There are none: the network says {_constants(report)} to every sample."
        return section("neurons", heading, el("p", words))
    width = report.certificate.width
    whose = "its one neuron adds" if width == 1 else f"each of the {width} neurons adds"
    intro = [
        el(
            "p",
            f"The output is a constant, {_constants(report)}, plus what {whose}. "
            "Sorted by how much that varies over the samples.",
        ),
        _flags(report),
        el("p", f"Values are in the units of what {', '.join(report.opaque)} makes of the data.")
        if report.opaque
        else None,
        el(
            "p",
            f"The network is deep: these are the neurons of its last hidden layer, and what they see are "
            f"the units of layer {len(report.layers)}, in the tables below.",
        )
        if report.layers
        else None,
    ]
    shown = [card(report, neuron) for neuron in report.neurons]
    first, rest = shown[:OPEN], shown[OPEN:]
    more = None
    if rest:
        left = width - len(report.neurons)
        words = f"The other {things(len(rest), 'neuron')}" + (
            f" (and {left} weaker ones not described)" if left > 0 else ""
        )
        more = el("details", el("summary", words), el("div", *rest, class_="cards"))
    drawn = None
    if report.canvas is not None and report.picture is not None and not report.points:
        drawn = framed(report, portrait(report, "picture", report.picture), "The network")
    return section(
        "neurons",
        heading,
        *intro,
        drawn,
        el("div", *first, class_="cards"),
        more,
        *(_layer(report, place) for place in range(len(report.layers))),
    )


def _layer(report: Report, place: int) -> Html:
    """The units of one layer of a deep network, as a table of rules."""
    units = report.layers[place]
    rows = [
        [f"unit {unit.number}", part(unit.fires), f"S = {formula(unit.rule)}"]
        for unit in units[:ROWS]
        if unit.rule is not None
    ]
    left = len(units) - len(rows)
    caption = f"Units of layer {place + 1}" + (f", without {left} that vary less" if left else "")
    sees = "the columns of the data" if place == 0 else f"the units of layer {place}"
    words = f"A unit passes on what its activation makes of S, a sum over {sees}."
    return el(
        "details",
        el("summary", f"The {things(len(units), 'unit')} of layer {place + 1}"),
        el("p", words),
        table(caption, ["unit", "S ≥ 0 on", "rule in its short form"], rows),
    )


def _flags(report: Report) -> Html | None:
    if not any(" = " in name for name in report.columns):
        return None
    return el("p", "[column = value] is 1 where that holds and 0 elsewhere.")


def _constants(report: Report) -> str:
    if len(report.constant) == 1:
        return number(report.constant[0])
    pairs = [f"{number(c, 3)} for {name}" for c, name in zip(report.constant, report.outputs, strict=True)]
    return ", ".join(pairs[:6]) + (f" and so on for {len(pairs) - 6} more" if len(pairs) > 6 else "")


def card(report: Report, neuron: Neuron) -> Html:
    """Return a neuron as a card."""
    rules = []
    for letter, linear in sums(neuron):
        rules.append(el("p", el("var", letter), " = ", formula(linear), class_="rule"))
        if shortness(linear):
            rules.append(el("p", shortness(linear), class_="note"))
    image = None
    if neuron.patch is not None:
        height, width, channels = neuron.patch.shape
        image = el(
            "img",
            src=patch_image(neuron.patch),
            alt=f"Weights of filter {neuron.number}, {height} by {width}: orange positive, blue negative",
            class_="patch",
            style=f"aspect-ratio:{max(width * channels + channels - 1, 1)}/{height}",
        )
    then = "and then " if neuron.kind in ("relu", "threshold", "gated", "leaky_relu") else "; "
    return el(
        "article",
        el("h3", f"{'Neuron' if neuron.patch is None else 'Filter'} {neuron.number}"),
        el(
            "p",
            figures.bar(neuron.importance),
            f"{part(neuron.importance)} of what moves the output",
            class_="share",
        ),
        el("p", firing(neuron), f" {then}" if then != "; " else then, el("b", effect(neuron, report)), "."),
        *rules,
        image,
        el("p", neuron.note) if neuron.note else None,
        *(_weights(neuron, letter, linear) for letter, linear in sums(neuron)),
        class_="neuron",
        id=f"neuron-{neuron.number}",
    )


def _weights(neuron: Neuron, letter: str, rule: Linear) -> Html | None:
    """All weights of a rule, the strongest first."""
    order = [int(k) for k in np.argsort(-np.abs(rule.strengths), kind="stable") if rule.weights[k] != 0.0]
    if neuron.number > DETAILED or not rule.left_out or not order:
        return None
    size = float(np.max(np.abs(rule.strengths)))
    rows = [
        [
            rule.names[k],
            number(rule.weights[k]),
            join([figures.balance(float(rule.strengths[k]), size), el("span", signed(rule.strengths[k]))]),
        ]
        for k in order[:ROWS]
    ]
    rows.append(["constant", number(rule.constant), ""])
    left = len(order) - ROWS
    caption = f"{letter} of neuron {neuron.number}, in full" + (
        f", without {left} weaker terms" if left > 0 else ""
    )
    head = ["column", "weight", "per standard deviation"]
    return el(
        "details",
        el("summary", f"All {things(len(order), 'weight')}"),
        table(caption, head, rows, class_="weights"),
    )
