"""What the page's script needs: texts for every place of the slider and every sample.

Numbers are written here, in Python, and the script only puts texts in their places: what a reader sees
after a click has been formatted by the same functions as everything else. Columns and neurons that add
least are left out and counted, which keeps files small.

Reference: :mod:`cvxnn.reporting.markup`, for how it is embedded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .charts import place
from .content import Explanation, Report
from .figures import path_axis
from .numerals import number, part, signed, things
from .path_section import said
from .portraits import curves_of
from .wording import line_of, point_words

#: Columns and neurons that an explanation names.
NAMED = 10
#: What is smaller than this share of the largest part is rounding.
ROUNDING = 1e-9
#: Up to so many outputs each is explained; beyond, those of prediction and truth.
EACH = 6


def payload(report: Report) -> dict[str, Any]:
    """Return the data of a report's script as JSON values."""
    return {
        "points": [_point(report, k) for k in range(len(report.points))],
        "samples": [_sample(report, sample) for sample in report.samples],
        "outputs": list(report.outputs),
    }


def _point(report: Report, k: int) -> dict[str, Any]:
    """A network of the path."""
    point = report.points[k]
    found: dict[str, Any] = {
        "text": point_words(point, report),
        "said": said(report, k),
        "mine": point.mine,
        "x": place(path_axis(report)(point.certificate.alpha)),
        "neurons": [
            {**line_of(neuron, report), "share": part(neuron.importance)} for neuron in point.neurons
        ],
        "more": "",
    }
    left = point.certificate.width - len(point.neurons)
    if not point.neurons:
        found["more"] = "No neurons: this network says the same to every sample."
    elif left > 0:
        found["more"] = f"and {things(left, 'neuron')} that matter less"
    if point.picture is not None and report.canvas is not None:
        if point.picture.image:
            found["image"] = point.picture.image
        else:
            found["curves"] = curves_of(report, point.picture)
    return found


def _sample(report: Report, sample: Explanation) -> dict[str, Any]:
    """A sample with its explanations."""
    explained = _explained(report, sample)
    first = int(np.argmax(sample.outputs)) if report.classes else 0
    return {
        "verdict": _verdict(sample),
        "right": sample.right,
        "first": first if first in explained else explained[0],
        "fired": _fired(sample),
        "by": {str(k): _by_output(report, sample, k) for k in explained},
    }


def _explained(report: Report, sample: Explanation) -> list[int]:
    """The outputs that are explained: all of a few, of many classes those of prediction and truth."""
    every = list(range(len(report.outputs)))
    if len(every) <= EACH or not report.classes:
        return every[:EACH]
    return [k for k in every if report.outputs[k] in (sample.prediction, sample.truth)]


def _verdict(sample: Explanation) -> str:
    where = sample.place[0].upper() + sample.place[1:]
    sure = "" if math.isnan(sample.sure) else f" (probability {part(sample.sure)})"
    if sample.right:
        return f"{where}: the network says {sample.prediction}{sure}, and that is right."
    return f"{where}: the network says {sample.prediction}{sure}; the truth is {sample.truth}."


def _fired(sample: Explanation) -> str:
    width = sample.adds.shape[0]
    if not width:
        return "The network has no neurons."
    numbers = ", ".join(map(str, sample.active[:20])) + (", …" if len(sample.active) > 20 else "")
    return f"{len(sample.active)} of {things(width, 'neuron')} active" + (
        f": {numbers}." if numbers else "."
    )


def _by_output(report: Report, sample: Explanation, k: int) -> dict[str, Any]:
    """How one output of a sample comes about, by columns and by neurons."""
    what = "score" if report.classes else "prediction"
    what = f"{what} of {report.outputs[k]}" if report.classes or len(report.outputs) > 1 else what
    if report.unit.startswith("the logarithm"):
        what = "logarithm of the prediction"
    base = number(sample.base[k])
    return {
        "what": f"{what}: {number(sample.outputs[k])}",
        "base": f"An average sample on this piece of the network: {base}",
        "terms": _terms(report, sample, k),
        "constant": f"The constant: {number(report.constant[k])}",
        "parts": _parts(report, sample, k),
    }


def _terms(report: Report, sample: Explanation, k: int) -> list[list[Any]]:
    """What columns add to an output: name and value, amount, length of a bar, slope."""
    terms = sample.contributions[:, k]
    size, order = float(np.max(np.abs(terms), initial=0.0)), _strongest(terms)
    rows = [
        [
            _valued(report, sample, j),
            signed(terms[j]),
            _share(terms[j], size),
            number(sample.slopes[j, k], 3),
        ]
        for j in order[:NAMED]
    ]
    if len(order) > NAMED:
        rest = float(np.sum(terms[order[NAMED:]]))
        rows.append([things(len(order) - NAMED, "other column"), signed(rest), _share(rest, size), ""])
    return rows


def _parts(report: Report, sample: Explanation, k: int) -> list[list[Any]]:
    """What neurons add to an output: name, amount, length of a bar, nothing, card to link to."""
    adds, described = sample.adds[:, k], len(report.neurons)
    size, order = float(np.max(np.abs(adds), initial=0.0)), _strongest(adds)
    rows = [
        [f"neuron {j + 1}", signed(adds[j]), _share(adds[j], size), "", j + 1 if j < described else 0]
        for j in order[:NAMED]
    ]
    if len(order) > NAMED:
        rest = float(np.sum(adds[order[NAMED:]]))
        rows.append([things(len(order) - NAMED, "other neuron"), signed(rest), _share(rest, size)])
    return rows


def _strongest(parts: np.ndarray) -> list[int]:
    """The places of what counts among some parts of a sum, the largest first."""
    least = ROUNDING * float(np.max(np.abs(parts), initial=0.0))
    return [int(j) for j in np.argsort(-np.abs(parts), kind="stable") if abs(parts[j]) > least]


def _valued(report: Report, sample: Explanation, j: int) -> str:
    """A column with the sample's value in it."""
    name, value = report.columns[j], number(sample.values[j])
    if " = " in name and value in ("0", "1"):
        return name if value == "1" else f"not {name}"
    return f"{name} = {value}"


def _share(value: float, size: float) -> float:
    """A signed length from -100 to 100."""
    return round(100.0 * max(-1.0, min(1.0, value / size)), 1) if size > 0.0 else 0.0
