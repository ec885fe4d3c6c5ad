"""What all commands share: errors and warnings of one line, and outputs that are checked before any work.

Results go to stdout, remarks on the way to stderr; whatever goes wrong is one line that says what to do,
with exit code 2.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="File written by cvxnn fit.")]


class OneLine(TyperGroup):
    """Commands whose errors are one line and whose warnings are one line each."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: remark(f"warning: {message}")
            try:
                code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            except typer.Abort:
                code = 130
            except (ValueError, OSError, ImportError, MemoryError, OverflowError) as error:
                code = fail(explain(error))
            except Exception as error:
                # Usage errors: typer carries its own copy of click, or uses click, by version.
                if not hasattr(error, "format_message"):
                    raise
                context = getattr(error, "ctx", None)
                path = context.command_path if context is not None else "cvxnn"
                message = error.format_message().rstrip(".").replace("Value error, ", "")
                code = fail(f"{message}: see '{path} --help'")
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            remark("stopped by Ctrl-C")
            raise typer.Exit(130) from None


def explain(error: Exception) -> str:
    """What an error says to a user, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the system'}: {error.strerror}: check the path and its permissions"
    if isinstance(error, MemoryError):
        return f"the data do not fit into memory ({error}): pass fewer rows or columns"
    return str(error)


def remark(message: str) -> None:
    """Print one line on stderr."""
    typer.echo(" ".join(message.split()), err=True)


def fail(message: str) -> int:
    """Print an error on stderr and return the exit code."""
    remark(f"error: {message}")
    return 2


def check_out(path: Path, *inputs: Path) -> None:
    """Refuse a place that cannot be written, before hours of work rather than after."""
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
