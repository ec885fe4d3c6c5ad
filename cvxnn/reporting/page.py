"""A report as one HTML file.

A skeleton (``assets/page.html``), a style and a script stand beside this module; the sections are made in
:mod:`cvxnn.reporting.sections`. The page has a content security policy: nothing may be fetched, and no
script may run but the one whose fingerprint it names, so that even a name that slipped through as HTML
could do nothing.

Reference: W3C, Content Security Policy Level 3; the HTML standard.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template

from ..version import __version__
from . import neuron_section, path_section, sections
from .content import Report
from .markup import Html, el, embedded, join, text
from .payload import payload

#: Sections in the table of contents, by the names that links use.
CONTENTS = (
    ("certificate", "Certificate"),
    ("data", "Data"),
    ("training", "Training"),
    ("path", "Weight decay"),
    ("neurons", "Neurons"),
    ("samples", "Samples"),
    ("settings", "Settings"),
)


def asset(name: str) -> str:
    """Return a file that stands beside this module."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def render(report: Report) -> str:
    """Return a report as an HTML page that needs no other file."""
    script = asset("script.js")
    fingerprint = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    body = join(
        [
            sections.verdict(report),
            sections.remarks(report),
            sections.training(report),
            path_section.path(report),
            neuron_section.neurons(report),
            sections.samples(report),
            sections.settings(report),
        ],
        "\n",
    )
    links = (el("li", el("a", words, href=f"#{name}")) for name, words in CONTENTS)
    parts = {
        "title": text(report.title),
        "model": text(report.model),
        "version": text(__version__),
        "policy": text(
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
            f"'sha256-{fingerprint}'"
        ),
        "style": Html(asset("style.css")),
        "script": Html(script),
        "data": embedded(payload(report)),
        "contents": join(links),
        "body": body,
    }
    return Template(asset("page.html")).substitute(parts)
