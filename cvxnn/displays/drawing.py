"""What the pictures share: the palette, the axes they draw on, and the words beside them.

Colours are those of Okabe and Ito, which people with any of the common kinds of colour blindness tell
apart; every distinction that a colour makes is made by a line style, a marker or a hatch as well, so that
pictures survive a print in greys. Surfaces are drawn with cividis, whose lightness is monotone.

References: Okabe and Ito, "Color universal design", 2008; Nuñez, Anderton and Renslow, PLOS ONE 2018
(cividis).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#000000"
GREY = "#666666"
#: For classes, outputs and targets in their order; after the last it starts again.
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, YELLOW, BLACK)
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)), (0, (3, 2)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "++++")
SURFACE = "cividis"

#: Relative gaps below the rounding of doubles are drawn here, on a logarithmic axis.
LEAST_GAP = 1e-16
#: Legends let nothing through that would make them hard to read.
LEGEND = {"fontsize": "small", "framealpha": 0.9, "edgecolor": "none"}

F = TypeVar("F", bound=Callable[..., Any])


def of_cycle(values: tuple[Any, ...], k: int) -> Any:
    """The k-th of a cycle."""
    return values[k % len(values)]


def check_matplotlib() -> None:
    """Raise ImportError, with the extra to install, where matplotlib is missing."""
    try:
        import matplotlib.pyplot  # noqa: F401
    except ImportError as error:
        raise ImportError("displays are drawn by matplotlib: pip install 'cvxnn[plot]'") from error


def needs_matplotlib(function: F) -> F:
    """Check for matplotlib before any work is done for a picture."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check_matplotlib()
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


def one_axes(ax: Any, size: tuple[float, float] = (6.4, 4.2)) -> Any:
    """The axes that were given, or those of a new figure of a size in inches."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def grid_axes(
    ax: Any,
    rows: int,
    columns: int = 1,
    *,
    size: tuple[float, float],
    sharex: bool = False,
    widths: tuple[float, ...] | None = None,
) -> Any:
    """Axes in rows and columns: those given, one given that is divided, or those of a new figure.

    Parameters
    ----------
    ax : None, Axes, or array of Axes of shape (rows, columns) or (rows * columns,)
    rows, columns : int
    size : (float, float)
        Width of a new figure, and height of a row in it, in inches.
    sharex : bool
    widths : tuple of float, or None
        Relative widths of the columns.

    Raises
    ------
    ValueError
        If there is another number of axes, or the one given cannot be divided.
    """
    from matplotlib import pyplot
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    if ax is None:
        figure = pyplot.figure(figsize=(size[0], max(rows * size[1], 1.8)), layout="constrained")
        return figure.subplots(rows, columns, sharex=sharex, squeeze=False, width_ratios=widths)
    if not isinstance(ax, Axes):
        given = np.array(ax, dtype=object)
        if given.size != rows * columns:
            raise ValueError(f"ax has {given.size} axes: pass {rows * columns}, one to divide, or None")
        return given.reshape(rows, columns)
    if rows * columns == 1:
        return np.array([[ax]], dtype=object)
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax is in no grid and cannot be divided: pass one of plt.subplots(), or None")
    ax.set_axis_off()
    inside = GridSpecFromSubplotSpec(rows, columns, subplot_spec=place, width_ratios=widths)
    made: Any = np.empty((rows, columns), dtype=object)
    for i, j in np.ndindex(rows, columns):
        made[i, j] = ax.figure.add_subplot(inside[i, j], sharex=made[0, j] if sharex and i else None)
        if sharex and i < rows - 1:
            made[i, j].tick_params(labelbottom=False)
    return made


def log_axis(axis: Any, low: float, high: float) -> None:
    """Make an axis logarithmic, with few enough plain labels for the range of its values.

    Parameters
    ----------
    axis : XAxis or YAxis of matplotlib
    low, high : float
        Positive.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    decades = np.log10(high / low)
    if decades < 3.0:
        steps = (1.0, 2.0, 5.0) if decades > 0.7 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def names_of(features: Any, d: int) -> list[str]:
    """Names of d features: those given, or x0, x1, ...

    Raises
    ------
    ValueError
        If there is another number of names.
    """
    if features is None:
        return [f"x{k}" for k in range(d)]
    names = [str(name) for name in features]
    if len(names) != d:
        raise ValueError(f"feature_names has {len(names)} names for {d} features: pass one for each")
    return names


def plain(text: str) -> str:
    """A user's words for a figure, where two dollar signs would begin and end a formula."""
    return text.replace("$", r"\$")


def merged(defaults: dict[str, Any], given: dict[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments of an artist: what a user gives goes before the defaults, in any spelling."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**defaults, **normalize_kwargs(given or {}, Line2D)}


def spread_out(n: int) -> np.ndarray:
    """Offsets in (0, 1) that keep neighbours apart, (n,): a golden-ratio sequence, the same every time."""
    return np.modf(np.arange(1, n + 1) * 0.6180339887498949)[0]
