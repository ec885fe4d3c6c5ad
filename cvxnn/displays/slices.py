"""The slice of the data that a picture shows: which features, the others held where, and on what grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..hyperplanes import arguments
from ..network import Network

#: How far the picture goes beyond the samples, as a share of their range.
MARGIN = 0.05


def columns_of(features: Any, names: list[str]) -> list[int]:
    """The numbers of the features to draw."""
    if features is None:
        if len(names) > 2:
            raise ValueError(
                f"the data have {len(names)} features and a picture has room for two: pass "
                "features=(0, 1), say, which holds the others at their medians, or at values="
            )
        return list(range(len(names)))
    given = [features] if isinstance(features, str | int | np.integer) else list(features)
    found = []
    for feature in given:
        if isinstance(feature, str):
            if feature not in names:
                raise ValueError(f"there is no feature {feature!r}: pass one of {names}")
            found.append(names.index(feature))
        elif not -len(names) <= feature < len(names):
            raise ValueError(f"features={features!r}: there are {len(names)}, numbered from 0")
        else:
            found.append(int(feature) % len(names))
    if len(found) not in (1, 2) or len(set(found)) < len(found):
        raise ValueError(f"features={features!r}: pass one feature or two different ones")
    return found


def held_at(X: np.ndarray, values: Any, names: list[str], chosen: list[int]) -> tuple[np.ndarray, str]:
    """Where all features are held, (d,), and what is said about it."""
    base = np.median(X, axis=0)
    others = [k for k in range(len(names)) if k not in chosen]
    if values is None:
        return base, "other features at their medians" if others else ""
    if isinstance(values, Mapping):
        for key, value in values.items():
            base[columns_of(key, names)[0]] = value
        return base, "other features at given values or medians" if others else ""
    base = to_numpy(values)
    if base.shape != (len(names),):
        raise ValueError(f"values has shape {base.shape}: pass one value for each of {len(names)} features")
    return base.copy(), "other features at given values" if others else ""


def on_grid(
    network: Network,
    transform: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    chosen: list[int],
    base: np.ndarray,
    resolution: int,
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """Return the grid of one or two features, and on it the outputs and the arguments of all kinks.

    Parameters
    ----------
    network : Network
    transform : callable
        What samples go through before they reach it.
    X : ndarray of shape (n, d)
    chosen : list of int
        The one or two features.
    base : ndarray of shape (d,)
        Where the others are held.
    resolution : int
        Values of each feature.

    Returns
    -------
    grid : tuple of ndarray, one for each feature
    outputs : ndarray of shape (g,) or (g1, g0), with a last axis for several outputs
    kinks : ndarray of shape (g, kinks) or (g1, g0, kinks)
    """

    def rows(points: np.ndarray) -> np.ndarray:
        Z = np.repeat(base[None], len(points), axis=0)
        Z[:, chosen] = points
        return transform(Z)

    grid = tuple(spanned(X[:, k], resolution) for k in chosen)
    if len(chosen) == 1:
        grid = (with_kinks(grid[0], arguments(network, rows(grid[0][:, None]))),)
        reached, shape = rows(grid[0][:, None]), [len(grid[0])]
    else:
        reached = rows(np.column_stack([part.ravel() for part in np.meshgrid(*grid)]))
        shape = [len(grid[1]), len(grid[0])]
    f, kinks = network(reached), arguments(network, reached)
    return grid, f.reshape(*shape, *f.shape[1:]), kinks.reshape(*shape, kinks.shape[1])


def spanned(x: np.ndarray, resolution: int) -> np.ndarray:
    low, high = float(x.min()), float(x.max())
    margin = MARGIN * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, resolution)


def with_kinks(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A grid with the places where arguments (g, kinks) change sign, each from both sides (for steps)."""
    row, column = np.nonzero((at[:-1] < 0.0) != (at[1:] < 0.0))
    a, b = at[row, column], at[row + 1, column]
    places = x[row] + (x[row + 1] - x[row]) * a / (a - b)
    beside = 1e-9 * (x[-1] - x[0])
    return np.unique(np.concatenate([x, places - beside, places + beside]))


def crossings(at: np.ndarray) -> np.ndarray:
    """Which points of a grid are the last before an argument (g, kinks) changes sign."""
    changes = ((at[:-1] < 0.0) != (at[1:] < 0.0)).any(axis=1)
    return np.append(changes, False)
