"""Tables from files, and how their columns become the numbers of X and y.

A file holds names and cells; training wants a matrix. What happens in between changes the problem that
is solved, so none of it is silent: every step is a note in plain words, and all of it is remembered in
an :class:`Encoding` and a :class:`Target`, which are saved with the model and applied unchanged to new
data. They hold medians, means, scales and names of levels, and no row of the training data.

    numbers        missing cells become the median, then (x - mean) / scale
    yes/no words   1 and 0
    text           a 0/1 column for each of the most frequent levels, and one for the others
    left out       constant columns, columns without a name, text that is distinct in nearly every row

CSV is read with the standard library and Parquet with pyarrow (``pip install 'cvxnn[parquet]'``).
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

Cell = str | float
Task = Literal["auto", "regression", "classification"]

#: Cells that stand for nothing.
MISSING = frozenset(["", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"])
#: Words for 1, each with its word for 0.
YES_NO = {"true": "false", "yes": "no", "t": "f", "y": "n"}
#: Levels of a text column that get a column of their own.
MAX_LEVELS = 20
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?")


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
    """

    names: tuple[str, ...]
    columns: tuple[list[Cell], ...]
    lines: tuple[int, ...]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> list[Cell]:
        """Return the cells of a column; ValueError names similar columns if there is none."""
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5)
            advice = "did you mean" if near else "choose one of"
            raise ValueError(f"there is no column {name!r}: {advice} {_listing(near or self.names)}?")
        return self.columns[self.names.index(name)]

    def place(self, row: int) -> str:
        """Say where a row is in the file."""
        return f"{self.unit} {self.lines[row]}"

    def with_target(self, name: str) -> tuple[Table, list[str]]:
        """Return the rows whose cell in a column is not missing, and notes on the others."""
        kept = [i for i, cell in enumerate(self.column(name)) if not _missing(cell)]
        if not kept:
            raise ValueError(f"the target {name!r} is missing in every row: choose another --target")
        dropped = len(self) - len(kept)
        if not dropped:
            return self, []
        columns = tuple([column[i] for i in kept] for column in self.columns)
        table = replace(self, columns=columns, lines=tuple(self.lines[i] for i in kept))
        return table, [f"{_count(dropped, 'row')} without a target {name!r} left out"]


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
    if not (content := path.read_bytes()).strip():
        raise ValueError(f"{path} is empty: pass a file with a header and rows")
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
    # newline="" leaves line ends inside quotes to the csv module.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True, strict=True
    )
    names: tuple[str, ...] = ()
    rows, lines = [], []
    try:
        for row in reader:
            if not names:
                names = tuple(name.strip() for name in row)
            elif row:
                if len(row) != len(names):
                    raise ValueError(
                        f"{path} line {reader.line_num} has {_count(len(row), 'cell')} where the header "
                        f"has {len(names)}: correct that line"
                    )
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num}: {error}: check the quotes there") from None
    if names and all(_number(name) is not None or name in MISSING for name in names):
        raise ValueError(f"{path} starts with numbers: write a line of column names above them")
    columns = tuple(map(list, zip(*rows, strict=True))) if rows else tuple([] for _ in names)
    return Table(names, columns, tuple(lines))


def _delimiter(text: str) -> str:
    """The separator that cuts the first lines into equally many cells, and into most."""

    def rank(delimiter: str) -> tuple[bool, int]:
        sample = csv.reader(islice(io.StringIO(text, newline=""), 20), delimiter=delimiter)
        widths = [len(row) for row in sample if row]
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
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append([_cell(value) for value in column.to_pylist()])
        except TypeError as error:
            raise ValueError(f"column {name!r} of {path} holds {error}: leave it out of the file") from None
    return Table(tuple(table.column_names), tuple(columns), tuple(range(1, table.num_rows + 1)), "row")


def _cell(value: Any) -> Cell:
    """Turn a value of Parquet into a number or a text; TypeError names any other type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return float(value)
    if value is None or isinstance(value, str | date | time | timedelta):
        return "" if value is None else str(value).strip()
    raise TypeError(type(value).__name__)


@dataclass(frozen=True)
class Feature:
    """How one column of a table becomes columns of X.

    Parameters
    ----------
    name : str
    kind : {"number", "yes/no", "levels"}
    fill : float
        What a missing number becomes.
    mean, scale : float
        Numbers enter as (x - mean) / scale.
    levels : tuple of str
        The texts with a 0/1 column of their own; a missing text is 0 in all of them.
    other : bool
        Whether one more column marks all other texts.
    """

    name: str
    kind: Literal["number", "yes/no", "levels"]
    fill: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    other: bool = False

    @property
    def width(self) -> int:
        """The number of columns of X."""
        return len(self.levels) + self.other if self.kind == "levels" else 1

    def apply(self, table: Table) -> tuple[np.ndarray, list[str]]:
        """Return the columns of X, shape (n, width), and notes on cells unlike the training data."""
        if self.kind == "levels":
            return self._mark(table)
        read = _number if self.kind == "number" else _yes_no
        x = np.full(len(table), np.nan)
        for row, cell in enumerate(table.column(self.name)):
            if _missing(cell):
                continue
            value = read(cell)
            if value is None:
                raise ValueError(
                    f"column {self.name!r} holds {cell!r} on {table.place(row)}, and {self.kind} in the "
                    "training data: correct the cell or leave it empty"
                )
            x[row] = value
        _check_finite(x, self.name, table)
        return (np.where(np.isnan(x), self.fill, x)[:, None] - self.mean) / self.scale, []

    def _mark(self, table: Table) -> tuple[np.ndarray, list[str]]:
        place = {level: k for k, level in enumerate(self.levels)}
        X = np.zeros((len(table), self.width))
        unseen: Counter[str] = Counter()
        for row, cell in enumerate(table.column(self.name)):
            if _missing(cell):
                continue
            if (level := _text(cell)) in place:
                X[row, place[level]] = 1.0
            elif self.other:
                X[row, -1] = 1.0
            else:
                unseen[level] += 1
        if not unseen:
            return X, []
        cells = _count(unseen.total(), "cell")
        new = _listing(unseen)
        return X, [f"{cells} of {self.name!r} not in the training data ({new}): coded as missing"]


@dataclass(frozen=True)
class Encoding:
    """How a table becomes X: one entry for each column that is used.

    Parameters
    ----------
    features : tuple of Feature
    notes : tuple of str
        What was done to the training data, in plain words; not saved with a model.
    """

    features: tuple[Feature, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def learn(cls, table: Table, target: str, *, scale: bool = True) -> Encoding:
        """Choose an entry for every column but the target.

        Raises
        ------
        ValueError
            If no column can be used, or a number is infinite.
        """
        features: list[Feature] = []
        notes: list[str] = []
        constant: list[str] = []
        for name in table.names:
            if not name:
                notes.append("a column without a name left out: it looks like row numbers")
            elif name != target:
                known = {_text(cell) for cell in table.column(name) if not _missing(cell)}
                if len(known) < 2:
                    constant.append(name)
                    continue
                feature, said = _learn(name, table, scale)
                features += [feature] if feature else []
                notes += said
        if constant:
            notes.append(f"left out, with one value everywhere: {_listing(constant)}")
        if not features:
            raise ValueError(f"no column besides the target {target!r} can be used: add columns that vary")
        numbers = [feature.name for feature in features if feature.kind == "number"]
        if scale and numbers:
            notes.append(
                f"standardised to mean 0 and deviation 1: {_listing(numbers)} (--no-scale leaves numbers as they are)"
            )
        return cls(tuple(features), tuple(notes))

    @property
    def width(self) -> int:
        """The number of columns of X."""
        return sum(feature.width for feature in self.features)

    def apply(self, table: Table) -> tuple[np.ndarray, list[str]]:
        """Return X, shape (n, width), and notes on cells unlike the training data.

        Raises
        ------
        ValueError
            If columns are missing, or hold what the training data did not.
        """
        lacking = [feature.name for feature in self.features if feature.name not in table.names]
        if lacking:
            raise ValueError(f"the data lack columns the model was trained on: add {_listing(lacking, 8)}")
        parts = [feature.apply(table) for feature in self.features]
        return np.hstack([X for X, _ in parts]), [note for _, notes in parts for note in notes]

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as JSON values."""
        return {"features": [asdict(feature) for feature in self.features]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """Read what :meth:`to_dict` wrote."""
        return cls(tuple(Feature(**{**f, "levels": tuple(f["levels"])}) for f in values["features"]))


@dataclass(frozen=True)
class Target:
    """How the target column becomes y, and outputs of a network become predictions.

    Parameters
    ----------
    name : str
    classes : tuple of two str, or empty for a regression
        The classes coded as -1 and +1.
    mean, scale : float
        Numbers enter as (y - mean) / scale.
    notes : tuple of str
    """

    name: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def learn(cls, table: Table, name: str, task: Task = "auto", *, scale: bool = True) -> Target:
        """Decide between numbers and two classes; `table` has no missing targets.

        Raises
        ------
        ValueError
            If the target is constant, has more than two classes, or is no number in a regression.
        """
        cells = table.column(name)
        y = [_number(cell) for cell in cells]
        odd = next((row for row, value in enumerate(y) if value is None), None)
        levels = {_text(cell) for cell in cells} if odd is not None else {_label(v) for v in y}
        if len(levels) == 1:
            raise ValueError(f"the target {name!r} is {levels.pop()!r} in every row: there is nothing to learn")
        if odd is not None and (task == "regression" or (len(levels) > 2 and _mostly(y))):
            raise ValueError(
                f"the target {name!r} is not a number on {table.place(odd)} ({cells[odd]!r}): correct it"
            )
        if task == "classification" or (task == "auto" and (odd is not None or len(levels) == 2)):
            return cls._two_classes(name, levels, task, odd is None)
        numbers = np.array(y, dtype=np.float64)
        _check_finite(numbers, name, table)
        if not scale:
            return cls(name, notes=(f"regression of {name!r}",))
        mean, deviation = _moments(numbers, name)
        note = f"regression of {name!r}, standardised too (mean {mean:.6g}, deviation {deviation:.6g})"
        return cls(name, (), mean, deviation, (note,))

    @classmethod
    def _two_classes(cls, name: str, levels: Iterable[str], task: Task, numeric: bool) -> Target:
        classes = tuple(sorted(levels, key=float) if numeric else sorted(levels))
        if len(classes) > 2:
            raise ValueError(
                f"the target {name!r} has {len(classes)} classes ({_listing(classes)}) and two are supported: "
                + ("use --task regression" if numeric else "keep the rows of two of them")
            )
        note = f"classification of {name!r}: {classes[0]!r} or {classes[1]!r}"
        if numeric and task == "auto":
            note += " (--task regression treats them as numbers)"
        return cls(name, classes, notes=(note,))

    def apply(self, table: Table) -> np.ndarray:
        """Return y, shape (n,): -1 and +1 for classes, else (y - mean) / scale."""
        cells = table.column(self.name)
        y = [_number(cell) for cell in cells]
        if not self.classes:
            for row, value in enumerate(y):
                if value is None:
                    raise ValueError(f"the target is not a number on {table.place(row)}: correct {cells[row]!r}")
            numbers = np.array(y, dtype=np.float64)
            _check_finite(numbers, self.name, table)
            return (numbers - self.mean) / self.scale
        numeric = all(_number(label) is not None for label in self.classes)
        labels = [_label(v) if numeric and v is not None else _text(c) for v, c in zip(y, cells, strict=True)]
        for row, label in enumerate(labels):
            if label not in self.classes:
                raise ValueError(
                    f"the target is {label!r} on {table.place(row)}, and {self.classes[0]!r} or "
                    f"{self.classes[1]!r} in the model: correct or remove that row"
                )
        return np.array([1.0 if label == self.classes[1] else -1.0 for label in labels])

    def decode(self, output: np.ndarray) -> list[str] | list[float]:
        """Return the predictions of a network's output, shape (n,), in the words of the file."""
        if self.classes:
            return [self.classes[int(f > 0)] for f in output]
        return [float(f) * self.scale + self.mean for f in output]


def _learn(name: str, table: Table, scale: bool) -> tuple[Feature | None, list[str]]:
    """Choose the entry of a column that is not constant."""
    cells = table.column(name)
    filled = [row for row, cell in enumerate(cells) if not _missing(cell)]
    values = [_number(cells[row]) for row in filled]
    gaps = _count(len(cells) - len(filled), "missing cell") + f" in {name!r} "
    gapless = len(filled) == len(cells)
    if None not in values:
        x = np.full(len(cells), np.nan)
        x[filled] = np.array(values, dtype=np.float64)
        _check_finite(x, name, table)
        median = float(np.median(x[filled]))
        mean, deviation = _moments(np.where(np.isnan(x), median, x), name) if scale else (0.0, 1.0)
        said = [] if gapless else [gaps + f"filled with the median {median:.6g}"]
        return Feature(name, "number", median, mean, deviation), said
    counts = Counter(_text(cells[row]) for row in filled)
    words = sorted((word.lower() for word in counts), reverse=True)
    if len(words) == 2 and any({yes, no} == set(words) for yes, no in YES_NO.items()):
        usual = _yes_no(max(counts, key=lambda word: counts[word])) or 0.0
        said = [f"{name!r} coded as 1 and 0 for {' and '.join(sorted(counts, key=_yes_no, reverse=True))}"]  # type: ignore[arg-type]
        said += [] if gapless else [gaps + f"filled with {usual:g}, the most frequent"]
        return Feature(name, "yes/no", usual), said
    what = "dates, which are treated as text" if all(map(_DATE.fullmatch, counts)) else "text"
    if _mostly(values):
        odd = filled[values.index(None)]
        what = f"text because {cells[odd]!r} on {table.place(odd)} is not a number"
    return _learn_levels(name, counts, what, [] if gapless else [gaps + "coded as 0 in each of these columns"])


def _learn_levels(
    name: str, counts: Counter[str], what: str, gaps: list[str]
) -> tuple[Feature | None, list[str]]:
    """Choose the levels of a text column: the most frequent, or none if it is an identifier."""
    many = len(counts) > MAX_LEVELS
    if many and len(counts) > 0.5 * counts.total():
        return None, [f"{name!r} left out: {what}, {len(counts)} different values, looks like an identifier"]
    levels = tuple(sorted(counts, key=lambda level: (-counts[level], level))[:MAX_LEVELS])
    kept = f"the {MAX_LEVELS} most frequent of {len(counts)} levels, and one for the others" if many else "level"
    said = f"{name!r} holds {what}: a 0/1 column for each {'of ' if many else ''}{kept}"
    return Feature(name, "levels", levels=levels, other=many), [
        said if many else f"{said} ({_listing(levels)})",
        *gaps,
    ]
