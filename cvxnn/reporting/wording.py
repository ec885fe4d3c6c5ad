"""Neurons and certificates in sentences.

One place for the words that the page and its script use, so that the same thing is always said in the same
way. Sentences are plain text; names in them are as the data have them.

Reference: docs/report.md explains every one of them.
"""

from __future__ import annotations

import math

import numpy as np

from .content import Linear, Neuron, PathPoint, Report
from .numerals import MINUS, number, part, percent, signed, things

#: Digits of weights in rules.
DIGITS = 3
#: Share of the samples from which on a short rule stands for the whole one.
AGREES = 0.95
#: Outputs that the effect of a neuron names.
NAMED = 4


def formula(rule: Linear) -> str:
    """Write a rule in its short form: ``0.8·radius − 1.2·texture + 0.3``."""
    written = ""
    for k in rule.kept:
        if rule.weights[k] == 0.0:
            continue
        text = number(abs(rule.weights[k]), DIGITS)
        times = rule.names[k] if text == "1" else f"{text}·{rule.names[k]}"
        written += _signed_part(written, rule.weights[k], times)
    constant = number(abs(rule.short_constant), DIGITS)
    if constant != "0" or not written:
        written += _signed_part(written, rule.short_constant, constant)
    return written


def _signed_part(before: str, value: float, text: str) -> str:
    if before:
        return f" {MINUS if value < 0 else '+'} {text}"
    return f"{MINUS if value < 0 else ''}{text}"


def shortness(rule: Linear) -> str:
    """Say what a short rule leaves out, or nothing where it leaves out nothing."""
    if not rule.left_out:
        return ""
    left = (
        f"{things(rule.left_out, 'weaker term')} taken at {'its' if rule.left_out == 1 else 'their'} mean"
    )
    if rule.agreement >= AGREES:
        where = "on every sample" if rule.agreement == 1.0 else f"on {part(rule.agreement)} of the samples"
        return f"{left}; this short form has the sign of the whole sum {where}."
    return (
        f"Only a rough guide: {left}, and this short form has the sign of the whole sum on "
        f"{part(rule.agreement)} of the samples."
    )


def firing(neuron: Neuron) -> str:
    """Say when a neuron is active."""
    share = part(neuron.fires) if not math.isnan(neuron.fires) else ""
    words = {
        "relu": f"Fires on {share} of the samples, where S ≥ 0",
        "threshold": f"Fires on {share} of the samples, where S ≥ 0",
        "leaky_relu": f"At full strength on {share} of the samples, where S ≥ 0",
        "absolute": f"Always active; S is positive on {share} of the samples",
        "gated": f"Its gate is open on {share} of the samples, where G ≥ 0",
        **dict.fromkeys(
            ("filter", "head"), f"Fires in {share} of the windows" if share else "Looks at every window"
        ),
        "deep": f"Fires on {share} of the samples" if share else "Always active",
    }
    return words.get(neuron.kind, "Always active")


def strength_of(neuron: Neuron) -> str:
    """Write what a neuron computes from its rule."""
    if neuron.kind == "leaky_relu":
        slope = float(np.ravel(neuron.activation.slope)[0])  # type: ignore[union-attr]
        return f"S (and {number(slope, 3)}·S where S is negative)"
    if neuron.kind == "polynomial":
        phi = neuron.activation
        q, w, c = (float(np.ravel(v)[0]) for v in (phi.quadratic, phi.linear, phi.constant))  # type: ignore[union-attr]
        first = _signed_part("", q, f"{number(abs(q), DIGITS)}·S²")
        second = _signed_part(first, w, f"{number(abs(w), DIGITS)}·S")
        return first + second + _signed_part(first, c, number(abs(c), DIGITS))
    return {"absolute": "|S|", "product": "S·T", "filter": "F", "deep": "U"}.get(neuron.kind, "S")


def effect(neuron: Neuron, report: Report) -> str:
    """Say what a neuron adds to the output."""
    what, a = strength_of(neuron), neuron.outputs
    what = f"({what})" if " " in what else what
    if len(a) > 1:
        word = "class " if report.classes else ""
        order = [k for k in np.argsort(-np.abs(a), kind="stable") if a[k] != 0.0]
        each = [f"{_times(a[k], what, neuron)} to {word}{report.outputs[k]}" for k in order[:NAMED]]
        more = len(order) - len(each)
        verb = "adds on average " if neuron.kind == "head" else "adds "
        return verb + ", ".join(each) + (f", and to {things(more, 'other')}" if more > 0 else "")
    amount = _times(abs(a[0]), what, neuron).removeprefix("+")
    # what a neuron computes may be negative: then it pushes the other way
    if len(report.classes) == 2 and neuron.kind in ("relu", "threshold", "absolute"):
        return f"pushes towards {report.classes[int(a[0] > 0)]} by {amount}"
    verb, to = ("adds", "to") if a[0] >= 0 else ("subtracts", "from")
    verb += " on average" if neuron.kind == "head" else ""
    return f"{verb} {amount} {to} {report.unit}"


def _times(a: float, what: str, neuron: Neuron) -> str:
    if neuron.kind in ("threshold", "head"):
        return signed(a)
    # what a threshold adds is a number, and so is the mean of a filter in places
    sign = MINUS if a < 0 else "+"
    return f"{sign}{what}" if abs(abs(a) - 1.0) < 1e-9 else f"{signed(a)}·{what}"


def sums(neuron: Neuron) -> list[tuple[str, Linear]]:
    """Return the letters and linear functions that a neuron's sentences speak of."""
    second = {"gated": "G", "product": "T"}.get(neuron.kind, "")
    found = [(second, neuron.gate)] if neuron.gate is not None else []
    found += [("S", neuron.rule)] if neuron.rule is not None else []
    return found


def line_of(neuron: Neuron, report: Report) -> dict[str, str]:
    """Return a neuron in a line: rule, when it fires, what it adds."""
    rule = "; ".join(f"{letter} = {formula(linear)}" for letter, linear in sums(neuron))
    return {
        "rule": rule or neuron.note or "a filter of windows",
        "fires": firing(neuron),
        "effect": effect(neuron, report),
    }


def scope_words(report: Report) -> str:
    """Say in plain words what the bound covers."""
    c = report.certificate
    layers = "frozen hidden layer" if c.frozen == 1 else f"{c.frozen} frozen hidden layers"
    if c.frozen:
        return (
            f"It holds against every last stage on the same {layers}. It says nothing about deep "
            "networks with "
            "other layers."
        )
    every = "It holds against every network of this family, with any number of neurons and any weights"
    if c.branch:
        every = every.replace("neurons", f"branches, of at most {things(c.branch, 'neuron')} each,")
    return {
        "global": f"{every}, and it was computed exactly.",
        "bounded": f"{every}. "
        "It may be loose: the best possible network is somewhere between the two numbers.",
        "patterns": "It holds against networks with the same activation patterns or gates only. "
        "Networks with others may be better.",
    }[c.scope]


def sentence(report: Report, digits: int = 8) -> str:
    """Return the sentence of the certificate with its number."""
    words = report.certificate.sentence()
    return f"{words[0].upper()}{words[1:]} {number(report.certificate.lower_bound, digits)}."


def point_words(point: PathPoint, report: Report) -> dict[str, str]:
    """Return the numbers of a network of the path as text."""
    c = point.certificate
    return {
        "alpha": number(c.alpha, 4),
        "neurons": str(c.width),
        "objective": number(c.objective, 6),
        "bound": number(c.lower_bound, 6),
        "gap": percent(c.gap, 3),
        "search": percent(c.search_gap, 2),
        "loss": number(point.loss, 5),
        "penalty": number(point.penalty, 5),
        "score": score_words(report, point.score),
        "test": score_words(report, point.test_score),
    }


def score_words(report: Report, score: float) -> str:
    """Write a score: a share of right classes as a percentage, R² as a number."""
    if math.isnan(score):
        return "—"
    return percent(score, 3) if report.classes else number(score, 3)
