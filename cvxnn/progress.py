"""What people see at the end: certificates and paths as tables of rich; and a spinner to wait with.

What they see while training runs is :mod:`cvxnn.live`. All of it goes to stderr, which leaves stdout to
results.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from .certificate import Certificate, count, percent
from .paths import Path

#: Relative gaps up to this are rounding, not looseness.
CLOSED = 1e-9


def wait(message: str) -> Any:
    """A spinner in a terminal, a plain line elsewhere, while something without steps runs."""
    console = Console(stderr=True, highlight=False, markup=False)
    if console.is_terminal:
        return console.status(message)
    console.print(message, soft_wrap=True)
    return nullcontext()


def show(certificate: Certificate) -> Panel:
    """Return a certificate as a panel of rich."""
    strength = {
        "global": "proven; prices were computed exactly",
        "bounded": "proven; the true one may be far smaller",
        "patterns": "proven for these patterns only",
    }
    closed = certificate.gap <= CLOSED and certificate.scope == "bounded"
    meaning = "proven; closed up to rounding" if closed else strength[certificate.scope]
    grid = Grid.grid(padding=(0, 2))
    for row in (
        ("objective", f"{certificate.objective:.8g}", f"with {count(certificate.width, 'neuron')}"),
        ("lower bound", f"{certificate.lower_bound:.8g}", certificate.sentence()),
        ("gap", percent(certificate.gap), meaning),
        (
            "search gap",
            f"{certificate.search_gap:.1e}",
            "what a strong search could still gain; no proof",
        ),
    ):
        grid.add_row(*map(Text, row))
    return Panel.fit(grid, title=f"Certificate ({certificate.scope})", title_align="left")


def table_of(path: Path) -> Grid:
    """Return a regularisation path as a table of rich, a row for each alpha."""
    grid = Grid("alpha", "neurons", "objective", "proven gap", "search gap", "seconds")
    for column in grid.columns:
        column.justify = "right"
    for point in path.points:
        c = point.certificate
        cells = (
            f"{c.alpha:.4g}",
            str(c.width),
            f"{c.objective:.7g}",
            percent(c.gap),
            f"{c.search_gap:.1e}",
        )
        grid.add_row(*map(Text, (*cells, f"{point.seconds:.2f}")))
    return grid
