"""Columns of numbers under the names and in the units of the person who brought the data.

A network sees inputs z; a person knows values x. Between them stand steps that act on each column alone,

    z = (x - shift) / scale,

and steps that make several 0/1 columns of one text. Where all steps are of these kinds a rule of the
network ``w'z + b >= 0`` is a rule about x with weights ``w / scale``. Where one is not (principal
components, say) the columns keep the name that the step gives them, and its units.

Reference: scikit-learn's ``get_feature_names_out``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from ..encoding import Encoding


@dataclass(frozen=True)
class Column:
    """One input of a network, and the value it stands for.

    Parameters
    ----------
    name : str
    shift, scale : float
        The input is ``(value - shift) / scale``.
    flag : bool
        Whether the value is 1 where something holds (``colour = red``) and 0 elsewhere.
    """

    name: str
    shift: float = 0.0
    scale: float = 1.0
    flag: bool = False

    @property
    def label(self) -> str:
        """The name in a formula; a statement stands in brackets."""
        return f"[{self.name}]" if self.flag else self.name


@dataclass(frozen=True)
class Columns:
    """All inputs of a network.

    Parameters
    ----------
    entries : tuple of Column
    opaque : tuple of str
        Steps that mix columns, in whose units the values are.
    places : bool
        Whether columns are the places of an image, of which nothing can be said one by one.
    """

    entries: tuple[Column, ...]
    opaque: tuple[str, ...] = ()
    places: bool = False

    @property
    def names(self) -> list[str]:
        """The names in formulas."""
        return [column.label for column in self.entries]

    @property
    def shift(self) -> np.ndarray:
        """Shape (d,)."""
        return np.array([column.shift for column in self.entries])

    @property
    def scale(self) -> np.ndarray:
        """Shape (d,)."""
        return np.array([column.scale for column in self.entries])

    @property
    def scaled(self) -> bool:
        """Whether values differ from inputs."""
        return any(column.shift != 0.0 or column.scale != 1.0 for column in self.entries)

    def values(self, X: np.ndarray) -> np.ndarray:
        """Return the values of inputs of shape (n, d)."""
        return X * self.scale + self.shift

    def inputs(self, values: np.ndarray) -> np.ndarray:
        """Return the inputs of values of shape (n, d)."""
        return (values - self.shift) / self.scale

    def rule(self, weights: np.ndarray, constant: float) -> tuple[np.ndarray, float]:
        """Return weights (d,) and constant of ``w'z + b`` as a function of the values."""
        mine = weights / self.scale
        return mine, float(constant - mine @ self.shift)


def plain(names: list[str]) -> Columns:
    """Return columns that are what the network sees."""
    return Columns(tuple(Column(name) for name in names))


def encoded(encoding: Encoding) -> Columns:
    """Return the columns that a table's encoding makes."""
    entries: list[Column] = []
    for feature in encoding.features:
        if feature.kind == "levels":
            entries += [Column(f"{feature.name} = {level}", flag=True) for level in feature.levels]
            if feature.other:
                entries.append(Column(f"{feature.name} = any other", flag=True))
        elif feature.kind == "yes/no":
            entries.append(Column(f"{feature.name} = yes", flag=True))
        else:
            entries.append(Column(feature.name, feature.mean, feature.scale))
    return Columns(tuple(entries))


def through(transformer: Any, columns: Columns) -> Columns:
    """Return the columns that leave a fitted transformer which these columns enter."""
    if transformer is None or isinstance(transformer, str):  # "passthrough"
        return columns
    if isinstance(transformer, FunctionTransformer) and transformer.func is None:
        return columns  # what a column transformer makes of "passthrough"
    if isinstance(transformer, Pipeline):
        for _, step in transformer.steps:
            columns = through(step, columns)
        return columns
    if isinstance(transformer, ColumnTransformer):
        return _assembled(transformer, columns)
    if isinstance(transformer, OneHotEncoder):
        return _marked(transformer, columns)
    steps = _steps(transformer, len(columns.entries))
    if steps is None:
        return _opaque(transformer, columns)
    entries = [
        replace(column, shift=column.shift + column.scale * shift, scale=column.scale * scale)
        for column, shift, scale in zip(columns.entries, *steps, strict=True)
    ]
    return replace(columns, entries=tuple(entries))


def _steps(transformer: Any, d: int) -> tuple[list[float], list[float]] | None:
    """Shift and scale of a transformer that acts on each column alone, else None."""
    if isinstance(transformer, StandardScaler):
        shift, scale = transformer.mean_ if transformer.with_mean else None, transformer.scale_
    elif isinstance(transformer, RobustScaler):
        shift, scale = transformer.center_, transformer.scale_
    elif isinstance(transformer, MaxAbsScaler):
        shift, scale = None, transformer.scale_
    elif isinstance(transformer, MinMaxScaler) and not transformer.clip:
        scale = 1.0 / transformer.scale_
        shift = -transformer.min_ * scale
    else:
        return None
    shift = np.zeros(d) if shift is None else shift
    scale = np.ones(d) if scale is None else scale
    return np.asarray(shift, dtype=float).tolist(), np.asarray(scale, dtype=float).tolist()


def _marked(encoder: OneHotEncoder, columns: Columns) -> Columns:
    """The 0/1 columns of texts."""
    asked = [column.name for column in columns.entries]
    if any(levels is not None for levels in getattr(encoder, "infrequent_categories_", [])):
        return _opaque(encoder, columns)
    made = []
    for name, levels, dropped in zip(
        asked, encoder.categories_, _dropped(encoder, len(asked)), strict=True
    ):
        made += [Column(f"{name} = {level}", flag=True) for k, level in enumerate(levels) if k != dropped]
    return replace(columns, entries=tuple(made))


def _dropped(encoder: OneHotEncoder, count: int) -> list[Any]:
    return [None] * count if encoder.drop_idx_ is None else list(encoder.drop_idx_)


def _assembled(transformer: ColumnTransformer, columns: Columns) -> Columns:
    """Columns of several transformers, side by side."""
    place = {name: k for k, name in enumerate(getattr(transformer, "feature_names_in_", []))}
    parts: list[tuple[int, Columns]] = []
    for name, part, chosen in transformer.transformers_:
        span = transformer.output_indices_.get(name)
        if span is None or span.start == span.stop or part == "drop":
            continue
        keys: Any = [chosen] if isinstance(chosen, str | int) else chosen
        if not isinstance(keys, slice) and all(isinstance(key, str) for key in keys):
            keys = [place[key] for key in keys]
        picked = np.array(columns.entries, dtype=object)[keys]
        entering = replace(columns, entries=tuple(picked))
        parts.append((span.start, through(part, entering)))
    parts.sort(key=lambda item: item[0])
    entries = tuple(entry for _, made in parts for entry in made.entries)
    opaque = tuple(dict.fromkeys(step for _, made in parts for step in made.opaque))
    return Columns(entries, (*columns.opaque, *(step for step in opaque if step not in columns.opaque)))


def _opaque(transformer: Any, columns: Columns) -> Columns:
    """Columns of a step that mixes them: its own names, in its own units."""
    asked = [column.name for column in columns.entries]
    try:
        names = [str(name) for name in transformer.get_feature_names_out(asked)]
    except (AttributeError, ValueError, TypeError):
        names = []
    return Columns(plain(names).entries, (*columns.opaque, type(transformer).__name__))
