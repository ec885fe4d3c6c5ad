"""Where commands write: remarks on the way to stderr, results to places that are checked before any work.

Reference: :mod:`cvxnn.cli`, for the rules that hold for every command.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer


def remark(message: str) -> None:
    """Write one line to stderr."""
    typer.echo(" ".join(message.split()), err=True)


def check_out(path: Path, *inputs: Path) -> None:
    """Refuse a place that cannot be written, before hours of work rather than after.

    Raises
    ------
    ValueError
        If it is a folder, lies in none, is one of the inputs, or must not be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass a file name to --out")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it or pass another --out")
    if path.exists() and any(given.exists() and path.samefile(given) for given in inputs):
        raise ValueError(f"{path} would be overwritten: pass another --out")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(f"cannot write in {path.parent} ({error.strerror}): pass another --out") from None
