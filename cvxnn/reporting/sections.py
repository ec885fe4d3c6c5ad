"""The sections of a report's page, in their order.

Reference: docs/report.md, which says what each is for.
"""

from __future__ import annotations

import math

import numpy as np

from . import figures
from .charts import legend
from .content import Linear, Neuron, Report
from .markup import Html, el, join, table
from .numerals import duration, number, part, percent, signed, things
from .pictures import PALETTE, patch_image
from .wording import (
    effect,
    firing,
    formula,
    point_words,
    scope_words,
    score_words,
    sentence,
    shortness,
    sums,
)

#: Neurons that are shown open; the others are behind a button.
OPEN = 6
#: Neurons with a table of all their weights, and rows of such a table.
DETAILED, ROWS = 24, 40


def section(name: str, heading: str, *content: Html | str | None) -> Html:
    """Return a section with a heading that links can reach."""
    return el("section", el("h2", heading, id=name), *content, aria_labelledby=name)


def figure(drawn: Html, caption: Html | str, *more: Html | None) -> Html:
    """Return a figure with its caption."""
    return el("figure", drawn, *more, el("figcaption", caption))


def verdict(report: Report) -> Html:
    """What is proven, in words and numbers."""
    c = report.certificate
    facts = [
        ("objective", number(c.objective, 8), "of this network: mean loss + alpha × weight decay"),
        ("proven bound", number(c.lower_bound, 8), f"scope: {c.scope}"),
        ("gap", percent(c.gap, 3), "(objective − bound) / objective, proven"),
        ("search gap", percent(c.search_gap, 2), "what a thorough search could still gain; no proof"),
        ("neurons", str(c.width), f"on {things(report.n_features, 'input')}"),
        (
            report.score_name,
            score_words(report, report.score),
            f"on the {things(report.n_train, 'sample')} of the training",
        ),
    ]
    if not math.isnan(report.test_score):
        held_out = f"on {things(report.n_test, 'sample')} that training has not seen"
        facts.append((f"test {report.score_name}", score_words(report, report.test_score), held_out))
    cards = el(
        "dl",
        *(
            el("div", el("dt", name), el("dd", value), el("dd", note, class_="note"))
            for name, value, note in facts
        ),
        class_="facts",
    )
    return section(
        "certificate",
        "How good this network is",
        el("p", sentence(report, 7), f" This one is at {number(c.objective, 7)}.", class_="lead"),
        cards,
        _says(report),
    )


def _says(report: Report) -> Html:
    """What the certificate says and what it does not."""
    c = report.certificate
    says = [
        el(
            "p",
            f"Training made one number small, the objective. This network's is {number(c.objective, 6)}.",
        ),
        el("p", f"It is proven that {_lower(sentence(report, 6))} {scope_words(report)}"),
        el("p", f"So the best possible network is better than this one by at most {percent(c.gap, 3)}."),
        el(
            "p",
            "A thorough search for a neuron that would improve this network found that at most "
            f"{percent(c.search_gap, 2)} could be gained. That is strong evidence, and no proof.",
        ),
    ]
    silent = [
        "Nothing about new data: that is what held-out data are for"
        + ("." if math.isnan(report.test_score) else " (the test score above)."),
        f"Nothing about whether alpha = {number(c.alpha, 3)}, the loss or this family of networks suit "
        "the question.",
        "Nothing about causes: a column that predicts need not be one that matters.",
        "Not that these are the only weights: other networks may reach the same objective.",
    ]
    drawn = figure(
        figures.gauge(report),
        "The objective on a line from zero. Left of the mark: what no network can reach (hatched) and "
        "what is not "
        "known (plain). Right of it: what the neurons gain over the best constant.",
    )
    return el(
        "div",
        drawn,
        el("div", el("h3", "What the certificate says"), *says),
        el("div", el("h3", "What it does not say"), el("ul", *(el("li", words) for words in silent))),
        class_="two says",
    )


def _lower(words: str) -> str:
    return words[0].lower() + words[1:]


def remarks(report: Report) -> Html:
    """What is odd about data or training."""
    if not report.concerns:
        return section(
            "data",
            "What is odd about the data",
            el(
                "p",
                "Nothing was found: columns vary, are of similar sizes and differ from each other; "
                "equal samples "
                "have equal targets; no value is far outside.",
            ),
        )
    entries = [
        el(
            "li",
            el("strong", "Important: " if concern.grave else "", concern.title, class_="title"),
            " ",
            concern.advice,
            class_="grave" if concern.grave else "mild",
        )
        for concern in report.concerns
    ]
    return section("data", "What is odd about the data", el("ul", *entries, class_="remarks"))


def training(report: Report) -> Html:
    """How training went."""
    if not report.history:
        text = el(
            "p",
            "How training went was not kept with this model: it was written by an earlier version. "
            "The certificate "
            "is about the network, not about how it was found, and holds all the same.",
        )
        return section("training", "How training went", text)
    last = report.history[-1]
    first, gaps = figures.convergence(report)
    said = (
        f"{things(len(report.history), 'network')} in {duration(last.seconds)}, each the best so far. "
        "The dashed line "
        f"is the bound that was proven at the end; it holds for all of them."
    )
    pair = el(
        "div",
        figure(
            first,
            "The objective falls until nothing improves it; then a bound is proven.",
            legend(("objective", "objective"), ("bound", "proven bound")),
        ),
        figure(
            gaps,
            "How far from the best, as far as the search knows; the proven gap at the end.",
            legend(("search", "search gap (no proof)"), ("bound", "proven gap")),
        ),
        class_="figures",
    )
    return section("training", "How training went", el("p", said), pair)


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
    return _framed(
        report, figures.portrait(report, "path-picture", picture), "The network at the chosen alpha"
    )


def _framed(report: Report, drawn: Html, words: str) -> Html:
    canvas = report.canvas
    assert canvas is not None
    flat = len(canvas.names) == 2
    entries = [
        el("li", _swatch(k, colour), name)
        for k, (colour, name) in enumerate(canvas.levels)
        if report.classes
    ]
    if not report.classes and len(report.outputs) > 1:
        entries = [
            el("li", _swatch(0, PALETTE[k % len(PALETTE)]), name) for k, name in enumerate(report.outputs)
        ]
    if not report.classes and flat:
        words += ": the prediction in steps, from light (low) to dark (high); circles are samples, likewise"
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


def _swatch(k: int, colour: str) -> Html:
    return el(
        "svg", figures.shape(k, 6, 6, colour, 4), viewBox="0 0 12 12", class_="swatch", aria_hidden="true"
    )


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


def neurons(report: Report) -> Html:
    """Each neuron as a rule."""
    heading = "What each neuron does"
    if not report.neurons:
        words = f"There are none: the network says {_constants(report)} to every sample."
        return section("neurons", heading, el("p", words))
    width = report.certificate.width
    intro = [
        el(
            "p",
            f"The output is a constant, {_constants(report)}, plus what each of the "
            f"{things(width, 'neuron')} adds. Sorted by how much that varies over the samples.",
        ),
        _flags(report),
        el("p", f"Values are in the units of what {', '.join(report.opaque)} makes of the data.")
        if report.opaque
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
    portrait = None
    if report.canvas is not None and report.picture is not None and not report.points:
        portrait = _framed(report, figures.portrait(report, "picture", report.picture), "The network")
    return section("neurons", heading, *intro, portrait, el("div", *first, class_="cards"), more)


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
        el("h3", f"{'Filter' if neuron.kind == 'filter' else 'Neuron'} {neuron.number}"),
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


def samples(report: Report) -> Html:
    """Single samples, chosen in a list."""

    def option(k: int) -> Html:
        sample = report.samples[k]
        wrong = " ✗" if sample.right is False else ""
        return el(
            "option", f"{sample.place}: {sample.truth}, predicted {sample.prediction}{wrong}", value=k
        )

    groups = [
        el("optgroup", *map(option, range(report.worst)), label="Largest losses"),
        el("optgroup", *map(option, range(report.worst, len(report.samples))), label="Others"),
    ]
    several = len(report.outputs) > 1
    which = [
        el("label", "Explain the output", for_="output"),
        el(
            "select",
            *(el("option", name, value=k) for k, name in enumerate(report.outputs)),
            id="output",
            autocomplete="off",
        ),
    ]
    return section(
        "samples",
        "Why it says what it says",
        el("p", report.sample_note),
        el(
            "div",
            el("label", "Sample", for_="sample"),
            el("select", *groups, id="sample", autocomplete="off"),
            *(which if several else []),
            class_="control chooser",
        ),
        el(
            "div",
            el("p", id="verdict", class_="lead"),
            el(
                "div",
                el("div", el("h3", "By columns"), el("p", id="by-columns"), el("div", id="terms")),
                el("div", el("h3", "By neurons"), el("p", id="by-neurons"), el("div", id="parts")),
                class_="two",
            ),
            id="explanation",
            aria_live="polite",
        ),
        el("noscript", el("p", "Choosing samples and alphas needs JavaScript; the tables above do not.")),
    )


def settings(report: Report) -> Html:
    """How it was trained, and what the words mean."""
    words = [
        (
            "neuron",
            "A unit of the network. It sums up its inputs with weights and passes on what is above zero.",
        ),
        (
            "objective",
            "What training makes small: the mean loss over the samples plus alpha times the weight decay.",
        ),
        ("loss", "How bad a prediction is."),
        ("weight decay", "Half the sum of all squared weights, after the best rescaling of each neuron."),
        (
            "bound",
            "A number that no network in the scope can be below. It is computed from a dual problem.",
        ),
        (
            "scope",
            "Which networks the bound is about: global and bounded, all of the family; patterns, some.",
        ),
    ]
    rows = [[name, value] for name, value in report.settings]
    return section(
        "settings",
        "How it was trained, and words",
        el(
            "div",
            el("div", table(f"Settings of {report.model}", ["", ""], rows, class_="settings")),
            el(
                "dl",
                *(join([el("dt", name), el("dd", words_)]) for name, words_ in words),
                class_="words",
            ),
            class_="two",
        ),
    )
