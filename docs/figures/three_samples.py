"""The picture of three samples: their activation cells, and the price of every neuron at the optimum.

``python docs/figures/three_samples.py`` writes three_samples.svg beside this file.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

X = np.array([[2.0, 2.0], [3.0, 3.0], [1.0, 0.0]])
theta = np.array([1.0, -1.0, np.sqrt(2.0)])
beta = 1.0

#: The cells, counter-clockwise: their pattern, first and last angle in degrees, colour.
CELLS = (
    ("001", -90.0, -45.0, "#f2c57c"),
    ("111", -45.0, 90.0, "#9fc5e8"),
    ("110", 90.0, 135.0, "#b6d7a8"),
    ("000", 135.0, 270.0, "#e6e6e6"),
)


def draw_cells(axis: plt.Axes) -> None:
    """Draw the plane of hidden weights, cut by the lines where a sample switches."""
    for pattern, first, last, colour in CELLS:
        angles = np.radians(np.linspace(first, last, 60))
        axis.fill([0.0, *np.cos(angles)], [0.0, *np.sin(angles)], color=colour, linewidth=0)
        middle = np.radians((first + last) / 2)
        place = (0.62 * np.cos(middle), 0.62 * np.sin(middle))
        axis.annotate(pattern, place, ha="center", va="center", fontsize=13, family="monospace")
    for angle, text, where in (
        (-45.0, "samples 1 and 2 switch:\n$u_1 + u_2 = 0$", (-1.42, 1.18)),
        (90.0, "sample 3 switches:\n$u_1 = 0$", (0.1, 1.18)),
    ):
        end = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        axis.plot(*np.array([-1.1 * end, 1.1 * end]).T, color="#444444", linewidth=1)
        axis.annotate(text, where, va="center", fontsize=9)
    axis.annotate(
        "",
        (1 / np.sqrt(2), -1 / np.sqrt(2)),
        (0, 0),
        arrowprops={"arrowstyle": "-|>", "color": "#c0392b", "lw": 2},
    )
    axis.annotate("the optimal neuron", (0.5, -1.0), color="#c0392b", fontsize=10)
    axis.set(xlim=(-1.45, 1.45), ylim=(-1.25, 1.4), title="The four cells of hidden weights $u$")
    axis.set_aspect("equal")
    axis.axis("off")


def draw_prices(axis: plt.Axes) -> None:
    """Draw the price of every neuron of norm one, by the angle of its weights."""
    angles = np.linspace(-90.0, 270.0, 1441)
    directions = np.array([np.cos(np.radians(angles)), np.sin(np.radians(angles))])
    prices = np.abs(theta @ np.maximum(X @ directions, 0.0))
    for pattern, first, last, colour in CELLS:
        axis.axvspan(first, last, color=colour, linewidth=0)
        axis.annotate(pattern, ((first + last) / 2, 1.12), ha="center", family="monospace")
    axis.plot(angles, prices, color="#222222")
    axis.axhline(beta, color="#c0392b", linestyle="--", linewidth=1)
    axis.annotate("no neuron is worth more than $\\beta = 1$", (100, 1.03), color="#c0392b", fontsize=9)
    axis.plot([-45.0, 90.0], [1.0, 1.0], "o", color="#c0392b")
    axis.set(
        xlim=(-90, 270),
        ylim=(0, 1.2),
        xticks=[-90, -45, 0, 45, 90, 135, 180, 225, 270],
        xlabel="angle of $u$ (degrees)",
        ylabel=r"price $|\theta^\top (Xu)_+|$",
        title=r"Prices at the dual point $\theta = (1, -1, \sqrt{2})$",
    )


def main() -> None:
    plt.rcParams["svg.hashsalt"] = "cvxnn"  # the same file every time
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.25), layout="constrained")
    draw_cells(axes[0])
    draw_prices(axes[1])
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
