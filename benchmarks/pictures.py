"""Pictures: suboptimality against time, and performance profiles.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; every method also has its own
line style, and a label.

Reference: Dolan and More, "Benchmarking optimization software with performance profiles", 2002.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

#: Okabe and Ito's palette.
COLOURS = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#D55E00",
    "#0072B2",
    "#CC79A7",
    "#8C8C00",
    "#999999",
)
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


def looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Give every method a colour and a line style; the first one is drawn thickest."""
    styles = cycle(STYLES)
    colours = cycle(COLOURS)
    return {
        name: {"color": next(colours), "linestyle": next(styles), "linewidth": 2.6 if i == 0 else 1.5}
        for i, name in enumerate(names)
    }


def envelope(seconds: list[float], values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the best value so far against time, in the order of time."""
    order = np.argsort(seconds, kind="stable")
    return np.asarray(seconds)[order], np.minimum.accumulate(np.asarray(values)[order])


def draw(rows: list[Any], names: list[str], ours: str, limit: float, stem: Path) -> list[Path]:
    """Draw both pictures of a suite beside its report."""
    if not rows:
        return []
    import matplotlib

    matplotlib.use("Agg")
    return [
        trajectories(rows, names, stem.with_name(stem.name + "-trajectories.png")),
        profile(rows, names, limit, stem.with_name(stem.name + "-profile.png")),
    ]


def choose(rows: list[Any], most: int = 4) -> list[Any]:
    """Choose cases for the trajectories: the middle alpha of the first problems."""
    alphas = sorted({row.case.alpha for row in rows})
    middle = alphas[(len(alphas) - 1) // 2]
    liked = [row for row in rows if row.case.alpha == middle]
    return (liked + [row for row in rows if row not in liked])[:most]


def trajectories(rows: list[Any], names: list[str], path: Path) -> Path:
    """Draw suboptimality against time for four cases."""
    import matplotlib.pyplot as plt

    chosen, look = choose(rows), looks(names)
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, row in zip(axes.flat, chosen, strict=False):
        for name in names:
            for i, run in enumerate(row.runs[name][:1]):
                if not run.get("objective"):
                    continue
                t, f = envelope(run["seconds_of"], run["objective"])
                gap = np.maximum(f / row.best - 1.0, 1e-9)
                axis.step(
                    np.maximum(t, 1e-3), gap, where="post", label=name if i == 0 else None, **look[name]
                )
                axis.plot(np.maximum(t[-1:], 1e-3), gap[-1:], "o", color=look[name]["color"], markersize=4)
        axis.axhline(1e-4, color="#BBBBBB", linewidth=1, zorder=0)
        axis.set(
            xscale="log",
            yscale="log",
            ylim=(5e-10, 10.0),
            title=f"{row.case.data.name}, alpha {row.case.alpha:g}",
        )
        axis.set(xlabel="seconds", ylabel="objective / best known − 1")
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def profile(rows: list[Any], names: list[str], limit: float, path: Path) -> Path:
    """Draw the share of cases that each method solves within a factor of the fastest."""
    import matplotlib.pyplot as plt

    look = looks(names)
    times = {name: np.maximum([row.time(name) for row in rows], 1e-4) for name in names}
    fastest = np.min(list(times.values()), axis=0)
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    end = 10.0 ** np.ceil(np.log10(limit / max(float(np.min(fastest)), 1e-4)))
    for name in names:
        ratio = times[name] / np.where(np.isfinite(fastest), fastest, 1.0)
        ratio = np.sort(ratio[np.isfinite(ratio)])
        share = np.arange(1, len(ratio) + 1) / len(rows)
        x = np.concatenate([[1.0], ratio, [end]])
        y = np.concatenate([[0.0], share, share[-1:] if len(share) else [0.0]])
        axis.step(x, y, where="post", label=name, **look[name])
    axis.set(xscale="log", xlim=(1.0, end), ylim=(0.0, 1.02))
    axis.set(xlabel="time / time of the fastest method on the case", ylabel="share of cases solved to 1e-4")
    axis.set_title(f"Performance profile, {len(rows)} cases")
    axis.grid(alpha=0.25)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def scaling(
    table_of: dict[str, list[dict[str, Any]]],
    names: list[str],
    slopes: dict[str, dict[str, tuple[float, bool]]],
    limit: float,
    path: Path,
) -> Path:
    """Draw time against each quantity, log-log, with exponents; a cross at the limit is a failure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    look = looks(names)
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained", sharey=True)
    for axis, (quantity, rows) in zip(axes.flat, table_of.items(), strict=False):
        x = np.array([row["value"] for row in rows], dtype=float)
        for name in names:
            t = np.array([row[name] for row in rows])
            solved = np.isfinite(t)
            slope, bound = slopes[quantity][name]
            text = "n/a" if not np.isfinite(slope) else f"{'> ' if bound else ''}{slope:.2f}"
            axis.plot(x, np.where(solved, t, limit), label=f"{name}: {text}", **look[name])
            axis.plot(x[solved], t[solved], "o", color=look[name]["color"], markersize=4)
            axis.plot(x[~solved], np.full(np.sum(~solved), limit), "x", color=look[name]["color"])
        axis.axhline(limit, color="#BBBBBB", linewidth=1, zorder=0)
        axis.set(xscale="log", yscale="log", xlabel=quantity, ylabel="seconds to 1e-4")
        axis.set_xticks(x, [f"{v:g}" for v in x])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.legend(title="exponent", frameon=False, fontsize=9)
    for axis in axes.flat[len(table_of) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
