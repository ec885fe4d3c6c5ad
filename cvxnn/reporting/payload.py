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
    outputs = range(len(report.outputs))
    if len(report.outputs) > EACH:
        asked = {sample.prediction, sample.truth}
        outputs_ = [k for k in outputs if report.outputs[k] in asked] or [int(np.argmax(sample.outputs))]
    else:
        outputs_ = list(outputs)
    first = int(np.argmax(sample.outputs)) if report.classes and len(report.outputs) > 1 else 0
    return {
        "verdict": _verdict(sample),
        "right": sample.right,
        "first": first,
        "fired": _fired(sample),
        "by": {str(k): _by_output(report, sample, k) for k in outputs_},
    }


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
    total = number(sample.outputs[k])
    what = "score" if report.classes else "prediction"
    what = f"{what} of {report.outputs[k]}" if report.classes or len(report.outputs) > 1 else what
    if report.unit.startswith("the logarithm"):
        what = "logarithm of the prediction"
    found: dict[str, Any] = {"what": f"{what}: {total}"}
    if sample.contributions is not None and sample.base is not None and sample.slopes is not None:
        terms = sample.contributions[:, k]
        order = [int(j) for j in np.argsort(-np.abs(terms), kind="stable") if terms[j] != 0.0]
        named = order[:NAMED]
        size = float(np.max(np.abs(terms), initial=0.0))
        rows = [
            [
                _valued(report, sample, j),
                signed(terms[j]),
                _share(terms[j], size),
                number(sample.slopes[j, k], 3),
            ]
            for j in named
        ]
        if len(order) > len(named):
            rest = float(np.sum(terms[order[NAMED:]]))
            rows.append(
                [f"{things(len(order) - len(named), 'other column')}", signed(rest), _share(rest, size), ""]
            )
        found["base"] = f"An average sample on this piece of the network: {number(sample.base[k])}"
        found["terms"] = rows
    adds = sample.adds[:, k]
    strongest = [int(j) for j in np.argsort(-np.abs(adds), kind="stable") if adds[j] != 0.0]
    size = float(np.max(np.abs(adds), initial=0.0))
    described = len(report.neurons)
    parts = [
        [f"neuron {j + 1}", signed(adds[j]), _share(adds[j], size), "", j + 1 if j < described else 0]
        for j in strongest[:NAMED]
    ]
    if len(strongest) > NAMED:
        rest = float(np.sum(adds[strongest[NAMED:]]))
        parts.append([things(len(strongest) - NAMED, "other neuron"), signed(rest), _share(rest, size)])
    found["constant"] = f"The constant: {number(report.constant[k])}"
    found["parts"] = parts
    return found


def _valued(report: Report, sample: Explanation, j: int) -> str:
    """A column with the sample's value in it."""
    name, value = report.columns[j], number(sample.values[j])
    if " = " in name and value in ("0", "1"):
        return name if value == "1" else f"not {name}"
    return f"{name} = {value}"


def _share(value: float, size: float) -> float:
    """A signed length from -100 to 100."""
    return round(100.0 * max(-1.0, min(1.0, value / size)), 1) if size > 0.0 else 0.0
