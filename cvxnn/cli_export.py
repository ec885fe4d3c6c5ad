"""`cvxnn export`: the network of a model file in a format that other programs read.

    cvxnn export wine.safetensors --to onnx      writes wine.onnx
    cvxnn export wine.safetensors --to c --dtype float32 --out wine.c

What leaves is the network, from numbers to numbers: how a table becomes these numbers stays behind, so it
is printed, column by column, and written into the file where the format has a place for it. The output is
in the units of the target (the scale of a standardised target goes into the last layer), or a class by its
name.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .certificate import count
from .console import ModelFile, check_out
from .encoding import Encoding
from .exporters import EXPORTERS, Predictor, get_exporter
from .layers import Affine
from .losses import get_loss
from .models import Model


class Precision(StrEnum):
    """What `--dtype` accepts."""

    float64 = "float64"
    float32 = "float32"


#: Formats that have files.
FORMATS = [name for name, kind in EXPORTERS.items() if kind.suffixes]


def export(
    model: ModelFile,
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to write; by default MODEL's name.")
    ] = None,
    dtype: Annotated[Precision, typer.Option(help="Of weights and arithmetic.")] = Precision.float64,
) -> None:
    """Write a model's network in another format."""
    exporter = get_exporter(to)
    path = out or Path(model.stem + "".join(exporter.suffixes[:1]))
    if exporter.suffixes and path.suffix.lower() not in exporter.suffixes:
        wanted = " or ".join(exporter.suffixes)
        raise ValueError(f"{path} is no name of a {to} file: pass --out with {wanted}")
    check_out(path, model)
    loaded = Model.load(model)
    said = exporter.write(predictor_of(loaded), path, dtype.value)
    typer.echo(f"{path}: the network of {model}, without the encoding of a table")
    for line in said:
        typer.echo(f"  {line}")
    columns = columns_of(loaded.encoding)
    typer.echo(f"Its {count(len(columns), 'input')}, in this order, from the columns of a table:")
    for number, column in enumerate(columns):
        typer.echo(f"  {number:>3}  {column}")
    typer.echo(_meaning(loaded))


def columns_of(encoding: Encoding) -> list[str]:
    """What each column of X is, in words."""
    found = []
    for feature in encoding.features:
        name = repr(feature.name)
        if feature.kind == "levels":
            found += [f"{name}: 1 if it is {level!r}, else 0" for level in feature.levels]
            found += [f"{name}: 1 if it is any other text, else 0"] if feature.other else []
            continue
        gap = f"; {feature.fill!r} if missing"
        if feature.kind == "yes/no":
            found.append(f"{name}: 1 for yes or true, 0 for no or false{gap}")
        elif (feature.mean, feature.scale) == (0.0, 1.0):
            found.append(f"{name}{gap}")
        else:
            found.append(f"({name} - {feature.mean!r}) / {feature.scale!r}{gap}")
    return found


def predictor_of(model: Model) -> Predictor:
    """A model's network, with outputs in the units of its target."""
    loss, target, layers = get_loss(model.settings["loss"]), model.target, model.network.layers
    last = layers[-1]
    assert isinstance(last, Affine)
    if not target.classes and (target.mean, target.scale) != (0.0, 1.0):
        last = replace(last, weight=last.weight * target.scale, bias=last.bias * target.scale + target.mean)
    return Predictor(
        (*layers[:-1], last),
        loss.inverse_link,
        _labels(target.classes) if target.classes else None,
        loss.name == "log_loss" and bool(target.classes),
        model.settings["architecture"],
        tuple(columns_of(model.encoding)),
    )


def _labels(classes: tuple[str, ...]) -> np.ndarray:
    """Classes as integers where all of them are, else as the text of the table."""
    if all(label.lstrip("-").isdecimal() and str(int(label)) == label for label in classes):
        return np.array([int(label) for label in classes])
    return np.array(classes, dtype=object)


def _meaning(model: Model) -> str:
    """What the output is."""
    target = model.target
    if not target.classes:
        return f"Its output is {target.name!r} in its own units."
    listed = ", ".join(map(repr, target.classes))
    if len(target.classes) == 2:
        return f"Its classes are {listed}; a positive output means the second."
    return f"Its classes are {listed}; the largest output wins."
