"""What people see while a network trains.

In a terminal, and in a notebook that has ipywidgets, one line changes in place; elsewhere (a file, a pipe,
a log) plain lines come at most once a second. They go to stderr. Estimators with ``verbose=2`` print every
round to stdout instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .certificate import count
from .train import Moment


class Progress:
    """Tells how training goes: one line that changes where that is possible, plain lines elsewhere.

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
        self.changes = self.console.is_terminal or (self.console.is_jupyter and has_widgets())
        if self.changes:
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
        if not self.changes and not moment.bound and (first or proving or now > self.said + 1.0):
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


def has_widgets() -> bool:
    """Whether a line can change in a notebook."""
    return find_spec("ipywidgets") is not None


def telling(
    verbose: int | bool, tol: float, max_time: float | None
) -> AbstractContextManager[Callable[[Moment], None] | None]:
    """A context whose value is told of every round, as `verbose` says; None where it is silent.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 a line that changes, 2 and more a line for every round.
    tol : float
    max_time : float or None
        Of :class:`Progress`.
    """
    if not verbose:
        return nullcontext(None)
    return Progress(tol, max_time) if int(verbose) == 1 else nullcontext(print_moment)


def print_moment(moment: Moment) -> None:
    """Print one line of a training's history."""
    bound = f"{moment.bound:.7g}" if moment.bound else "-"
    print(
        f"{moment.seconds:8.2f} s  objective {moment.objective:.8g}  bound {bound}  "
        f"search gap {moment.search_gap:.1e}  {moment.width} neurons"
    )
