"""``cvxnn report``: a model file and its table become one HTML file.

    cvxnn report wine.safetensors --data wine.csv --out wine.html
    cvxnn report wine.safetensors --data wine.csv --test new.csv

The table is the one of the training, since a certificate is about it and no other; what the model should be
tested on comes with ``--test``. The networks for the slider over alpha are trained on the way, which is
told line by line and ends after ``--max-time``.

Reference: :mod:`cvxnn.reporting`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .certificate import count
from .console import check_out, remark
from .models import Model
from .reporting import from_model, gather, render
from .tables import read_table


def report(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="File written by cvxnn fit.")],
    data: Annotated[
        Path, typer.Option(metavar="DATA", help="CSV or Parquet file that the model was trained on.")
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column to predict; by default the one of the training."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Rows that training has not seen, to score on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML to write; by default MODEL's name.html.")
    ] = None,
    path: Annotated[
        bool, typer.Option("--path/--no-path", help="Train networks at other alphas, for the slider.")
    ] = True,
    n_alphas: Annotated[int, typer.Option(min=2, help="Number of networks on the path.")] = 12,
    max_time: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Stop the path after this.")
    ] = 60.0,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Of the report.")] = None,
) -> None:
    """Write a report on a model: one HTML file that opens in any browser."""
    place = out or Path(model.stem + ".html")
    check_out(place, model, data, *([] if test is None else [test]))
    loaded = Model.load(model)
    if target is not None and target != loaded.target.name:
        raise ValueError(
            f"the model predicts {loaded.target.name!r}, not {target!r}: leave --target out, or rename "
            "the column"
        )
    table, held_out = read_table(data), None if test is None else read_table(test)
    for note in [*table.notes, *([] if held_out is None else held_out.notes)]:
        remark(f"note: {note}")
    subject = from_model(model.name, loaded, table, held_out)
    if path:
        typer.echo(
            f"Training {count(n_alphas - 1, 'network')} at other alphas (--no-path leaves them out).",
            err=True,
        )
    content = gather(
        subject,
        path="auto" if path else None,
        n_alphas=n_alphas,
        max_time=max_time,
        title=title,
        callback=lambda point: remark(str(point)),
    )
    if path and content.path_note:
        remark(f"note: {content.path_note}")
    place.write_text(render(content), encoding="utf-8")
    typer.echo(f"Report written to {place}.")
