"""What people see while they wait, and what they see at the end.

In a terminal one line changes in place; elsewhere (a file, a pipe, a log) plain lines come at most once a
second. All of it goes to stderr, which leaves stdout to results.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from .certificate import Certificate, percent
from .paths import Path
from .tables import count
from .train import Moment


class Progress:
    """Tells how training goes: one line that changes in a terminal, plain lines elsewhere.

    Parameters
    ----------
    tol : float
    max_time : float or None
        Both tell when the search is over and the proof begins.
    """

    def __init__(self, tol: float, max_time: float | None) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.tol, self.max_time = tol, float("inf") if max_time is None else max_time
        self.began = self.said = time.perf_counter()
        self.last: Moment | None = None
        self.live: Any = nullcontext()
        if self.console.is_terminal:
            self.live = Live(get_renderable=self._line, console=self.console, transient=True)

    def __enter__(self) -> Callable[[Moment], None]:
        self.live.__enter__()
        return self._hear

    def __exit__(self, *raised: Any) -> None:
        self.live.__exit__(*raised)
        if self.last is not None:
            self.console.print(self._line(), soft_wrap=True)

    def _hear(self, moment: Moment) -> None:
        first, self.last = self.last is None, moment
        now = time.perf_counter()
        proving = not moment.bound and self._searched(moment)
        if (
            not self.console.is_terminal
            and not moment.bound
            and (first or proving or now > self.said + 1.0)
        ):
            self.said = now
            self.console.print(self._line(), soft_wrap=True)

    def _searched(self, moment: Moment) -> bool:
        return moment.search_gap <= self.tol or moment.seconds > self.max_time

    def _line(self) -> Text:
        seconds = time.perf_counter() - self.began
        if self.last is None:
            return Text(f"  {seconds:7.2f} s  looking for the first neurons ...")
        moment = self.last
        bound = f"bound {moment.bound:.6g}"
        if not moment.bound:
            bound = "proving a lower bound ..." if self._searched(moment) else "no bound yet"
        return Text(
            f"  {seconds:7.2f} s  objective {moment.objective:<11.8g}  search gap {moment.search_gap:.0e}  "
            f"{count(moment.width, 'neuron')}  {bound}"
        )


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
        "global": "the bound is exact",
        "bounded": "proven; the true one may be far smaller",
        "patterns": "proven for these patterns only",
    }
    grid = Grid.grid(padding=(0, 2))
    for row in (
        ("objective", f"{certificate.objective:.8g}", f"with {count(certificate.width, 'neuron')}"),
        ("lower bound", f"{certificate.lower_bound:.8g}", certificate.sentence()),
        ("gap", percent(certificate.gap), strength[certificate.scope]),
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
