"""Tables from files: names and cells, and where each row stands in its file.

CSV is read with the standard library (comma, semicolon or tab; UTF-8; a header is required) and Parquet
with pyarrow, an optional extra. Cells are kept as they are: a CSV cell is text, also where it spells a
number, and :mod:`cvxnn.encoding` decides what it means. One thing only is changed, and said: spreadsheets
separate cells by semicolons where the comma is the decimal sign, so in such files 1,5 becomes 1.5.
Whatever is wrong with a file is said with the line it is wrong on.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from .certificate import count

Cell = str | float

_COMMA = re.compile(r"[+-]?\d+,\d+")

#: Cells that stand for nothing.
MISSING = frozenset(["", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"])


def missing(cell: Cell) -> bool:
    """Say whether a cell stands for nothing."""
    return cell in MISSING if isinstance(cell, str) else cell != cell


def number(cell: Cell) -> float | None:
    """Return the number a cell spells, infinity included, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    # Python reads 1_000 as a number; no spreadsheet does.
    return None if value != value or (isinstance(cell, str) and "_" in cell) else value


def decimal_comma(cell: Cell) -> bool:
    """Say whether a cell is a number with a decimal comma, such as 1,5."""
    return isinstance(cell, str) and _COMMA.fullmatch(cell) is not None


def text(cell: Cell) -> str:
    """Return a cell as text; whole numbers without a decimal point."""
    if isinstance(cell, str):
        return cell
    return str(int(cell)) if float(cell).is_integer() else repr(float(cell))


def listing(names: Iterable[str], most: int = 5) -> str:
    """Write names in quotes, and how many more there are."""
    names = list(names)
    shown = names if len(names) <= most + 1 else names[:most]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return ", ".join(map(repr, shown)) + more


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of cells: text as it was read (from CSV), or floats (numbers from Parquet).

    Parameters
    ----------
    names : tuple of str, length p
    columns : tuple of p lists of str or float, each of length n
    lines : tuple of int, length n
        Where each row is in its file, for messages.
    unit : str
        What `lines` counts: "line" or "row".
    notes : tuple of str
        What reading changed, in plain words.
    """

    names: tuple[str, ...]
    columns: tuple[list[Cell], ...]
    lines: tuple[int, ...]
    unit: str = "line"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> list[Cell]:
        """Return the cells of a column; ValueError names similar columns if there is none."""
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5)
            advice = f"did you mean {listing(near)}?" if near else f"choose one of {listing(self.names)}"
            raise ValueError(f"there is no column {name!r}: {advice}")
        return self.columns[self.names.index(name)]

    def renamed(self, lacking: Sequence[str], used: Sequence[str]) -> str:
        """Advise to rename columns that are called much like lacking ones and are not in use, if any."""
        spare = {name.lower(): name for name in self.names if name not in used}
        pairs = []
        for name in lacking:
            near = difflib.get_close_matches(name.lower(), spare, n=1, cutoff=0.7)
            pairs += [f"{spare[near[0]]!r} to {name!r}"] if near else []
        return f" (or rename {', '.join(pairs)})" if pairs else ""

    def place(self, row: int) -> str:
        """Say where a row is in the file."""
        return f"{self.unit} {self.lines[row]}"

    def without(self, names: Sequence[str]) -> Table:
        """Return the other columns; ValueError if there is no column of a name."""
        for name in names:
            self.column(name)
        kept = [k for k, name in enumerate(self.names) if name not in names]
        columns = tuple(self.columns[k] for k in kept)
        return replace(self, names=tuple(self.names[k] for k in kept), columns=columns)

    def with_target(self, name: str) -> tuple[Table, list[str]]:
        """Return the rows whose cell in a column is not missing, and notes on the others."""
        kept = [i for i, cell in enumerate(self.column(name)) if not missing(cell)]
        if not kept:
            raise ValueError(f"the target {name!r} is missing in every row: choose another --target")
        dropped = len(self) - len(kept)
        if not dropped:
            return self, []
        columns = tuple([column[i] for i in kept] for column in self.columns)
        table = replace(self, columns=columns, lines=tuple(self.lines[i] for i in kept))
        return table, [f"{count(dropped, 'row')} without a target {name!r} left out"]


def read_table(path: str | Path) -> Table:
    """Read a CSV file (comma, semicolon or tab; UTF-8; with a header) or a Parquet file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no such table; the message names the line.
    ImportError
        If the file is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass a CSV or Parquet file")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the path")
    content = path.read_bytes()
    table = _read_parquet(path) if content.startswith(b"PAR1") else _read_csv(path, content)
    twice = [repr(name) for name, k in Counter(table.names).items() if k > 1 and name]
    if twice:
        raise ValueError(f"{path} has several columns called {', '.join(twice)}: rename all but one")
    if not len(table):
        raise ValueError(f"{path} has column names and no rows: pass a file with rows")
    return table


def _read_csv(path: Path, content: bytes) -> Table:
    try:
        text = content.decode("utf-8-sig")
        if "\0" in text:
            raise ValueError
    except ValueError:
        raise ValueError(f"{path} is not UTF-8 text: save it as CSV (UTF-8) or Parquet") from None
    delimiter = _delimiter(text)
    # newline="" leaves line ends inside quotes to the csv module.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    names: tuple[str, ...] = ()
    rows, lines = [], []
    try:
        for row in reader:
            if not names and any(map(str.strip, row)):
                names = tuple(name.strip() for name in row)
            elif names and (any(map(str.strip, row)) or len(row) == len(names)):
                if len(row) != len(names):
                    raise ValueError(
                        f"{path} line {reader.line_num} has {count(len(row), 'cell')} where the header "
                        f"has {len(names)}: correct that line"
                    )
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num}: {error}: check the quotes there") from None
    if not names:
        raise ValueError(f"{path} is empty: pass a file with a header and rows")
    if all(number(name) is not None or name in MISSING for name in names):
        raise ValueError(f"{path} starts with numbers: write a line of column names above them")
    columns = tuple(map(list, zip(*rows, strict=True))) if rows else tuple([] for _ in names)
    table = Table(names, columns, tuple(lines))
    return _with_points(table) if delimiter == ";" else table


def _with_points(table: Table) -> Table:
    """Write 1,5 as 1.5, but not in columns that hold points too: there a point may mark thousands."""
    columns, notes, read, mixed = [], [], [], []
    for name, cells in zip(table.names, table.columns, strict=True):
        commas = [text(cell) for cell in cells if decimal_comma(cell)]
        points = any("." in text(cell) and number(cell) is not None for cell in cells)
        if commas and points:
            mixed.append(name)
        elif commas:
            read.append((name, commas[0]))
            cells = [text(cell).replace(",", ".") if decimal_comma(cell) else cell for cell in cells]
        columns.append(cells)
    if read:
        example = read[0][1]
        said = listing(name for name, _ in read)
        notes.append(f"decimal commas in {said}: {example} is read as {example.replace(',', '.')}")
    if mixed:
        notes.append(f"commas and points in {listing(mixed)}, left as text: write decimals one way")
    return replace(table, columns=tuple(columns), notes=tuple(notes))


def _delimiter(text: str) -> str:
    """The separator that cuts the first lines into equally many cells, and into most."""

    def rank(delimiter: str) -> tuple[bool, int]:
        sample = csv.reader(islice(io.StringIO(text, newline=""), 20), delimiter=delimiter)
        widths = [len(row) for row in sample if any(map(str.strip, row))] or [0]
        return widths[0] > 1 and len(set(widths)) == 1, widths[0]

    return max(",;\t", key=rank)


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ImportError(f"{path} is Parquet: pip install 'cvxnn[parquet]' to read it") from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged Parquet ({error}): write it again") from None
    # The row numbers that pandas writes have a name only for pandas.
    names = tuple("" if name.startswith("__index_level_") else name for name in table.column_names)
    columns = []
    for name, column in zip(names, table.columns, strict=True):
        try:
            columns.append([_cell(value) for value in column.to_pylist()])
        except TypeError as error:
            raise ValueError(f"column {name!r} of {path} holds {error}: leave it out of the file") from None
    return Table(names, tuple(columns), tuple(range(1, table.num_rows + 1)), "row")


def _cell(value: Any) -> Cell:
    """Turn a value of Parquet into a number or a text; TypeError names any other type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return float(value)
    if value is None or isinstance(value, str | date | time | timedelta):
        return "" if value is None else str(value).strip()
    raise TypeError(type(value).__name__)
