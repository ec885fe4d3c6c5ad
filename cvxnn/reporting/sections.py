"""The other sections of a report's page: certificate, data, training, samples, settings.

Reference: docs/report.md, which says what each is for.
"""

from __future__ import annotations

import math

from . import figures
from .charts import (
    legend,
)
from .content import Report
from .markup import Html, el, figure, join, section, table
from .numerals import duration, number, percent, things
from .wording import (
    scope_words,
    score_words,
    sentence,
)

#: A search gap up to this is as good as nothing left to gain.
CLOSED = 1e-2


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


def _searched(gap: float) -> str:
    """What the search found, in a sentence: a large gap is a neuron that is still missing."""
    if gap <= CLOSED:
        return (
            "A thorough search for a neuron that would improve this network found that at most "
            f"{percent(gap, 2)} could be gained. That is strong evidence, and no proof."
        )
    return (
        "A search found a neuron that improves this network. If there is no better one, what is left to "
        f"gain is at most {percent(gap, 2)}; that is evidence, and no proof."
    )


def _says(report: Report) -> Html:
    """What the certificate says and what it does not."""
    c = report.certificate
    says = [
        el(
            "p",
            f"Training made one number small, the objective. This network's is {number(c.objective, 6)}.",
            report.scale,
        ),
        el("p", f"It is proven that {_lower(sentence(report, 6))} {scope_words(report)}"),
        el("p", f"So the best of these networks is better than this one by at most {percent(c.gap, 3)}."),
        el("p", _searched(c.search_gap)),
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


def samples(report: Report) -> Html:
    """Single samples, chosen in a list."""

    return section(
        "samples",
        "Why it says what it says",
        el("p", report.sample_note),
        _chooser(report),
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


def _chooser(report: Report) -> Html:
    """The lists to choose a sample and an output from."""
    entries = []
    for k, sample in enumerate(report.samples):
        wrong = " ✗" if sample.right is False else ""
        words = f"{sample.place}: {sample.truth}, predicted {sample.prediction}{wrong}"
        entries.append(el("option", words, value=k))
    groups = [
        el("optgroup", *entries[: report.worst], label="Largest losses"),
        el("optgroup", *entries[report.worst :], label="Others"),
    ]
    outputs = [el("option", name, value=k) for k, name in enumerate(report.outputs)]
    which = [
        el("label", "Explain the output", for_="output"),
        el("select", *outputs, id="output", autocomplete="off"),
    ]
    return el(
        "div",
        el("label", "Sample", for_="sample"),
        el("select", *groups, id="sample", autocomplete="off"),
        *(which if len(outputs) > 1 else []),
        class_="control chooser",
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
