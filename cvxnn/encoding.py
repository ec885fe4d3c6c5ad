"""How the columns of a table become the numbers of X and y.

Training wants a matrix. What happens between the file and the matrix changes the problem that is solved,
so none of it is silent: every step is a note in plain words, and all of it is remembered in an
:class:`Encoding` and a :class:`Target`, which are saved with the model and applied unchanged to new data.
They hold medians, means, deviations and the names of levels, and no row of the training data.

    numbers        missing cells become the median, then (x - mean) / scale
    yes/no words   1 and 0
    text           a 0/1 column for each of the most frequent levels, and one for the others
    left out       constant columns, columns without a name, text that is distinct in nearly every row
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from .certificate import count
from .tables import Table, decimal_comma, listing, missing, number, text

Task = Literal["auto", "regression", "classification"]

#: Words for 1, each with its word for 0.
YES_NO = {"true": "false", "yes": "no", "t": "f", "y": "n"}
#: Levels of a text column that get a column of their own.
MAX_LEVELS = 20
#: Classes of a target, at most.
MAX_CLASSES = 100
_HELD = {"number": "numbers", "yes/no": "yes or no"}
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?")


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
        x = np.full(len(table), np.nan)
        for row, cell in enumerate(table.column(self.name)):
            value = np.nan if missing(cell) else number(cell)
            if value is None and self.kind == "yes/no":
                value = _yes_no(text(cell))
            if value is None:
                raise ValueError(
                    f"column {self.name!r} holds {cell!r} on {table.place(row)} and held "
                    f"{_HELD[self.kind]} in the training data: correct the cell or leave it empty"
                )
            x[row] = value
        _check_finite(x, self.name, table)
        gaps = np.isnan(x)
        said = f"{count(int(gaps.sum()), 'missing cell')} in {self.name!r} filled with {self.fill:.6g}"
        return (np.where(gaps, self.fill, x)[:, None] - self.mean) / self.scale, [
            said
        ] if gaps.any() else []

    def _mark(self, table: Table) -> tuple[np.ndarray, list[str]]:
        place = {level: k for k, level in enumerate(self.levels)}
        X = np.zeros((len(table), self.width))
        unseen: Counter[str] = Counter()
        for row, cell in enumerate(table.column(self.name)):
            if missing(cell):
                continue
            if (level := text(cell)) in place:
                X[row, place[level]] = 1.0
            elif self.other:
                X[row, -1] = 1.0
            else:
                unseen[level] += 1
        if not unseen:
            return X, []
        cells = count(unseen.total(), "cell")
        return X, [
            f"{cells} in {self.name!r} unknown to the model ({listing(unseen)}): 0 in each of its columns"
        ]


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
        constant, filled, blank = [], [], []
        for name in table.names:
            if not name:
                notes.append("left out: a column without a name (row numbers?)")
            elif name != target and len(_distinct(table, name)) < 2:
                constant.append(name)
            elif name != target:
                feature, said = _learn(name, table, scale)
                notes += said
                features += [feature] if feature else []
                gaps = sum(map(missing, table.column(name)))
                if feature and gaps and feature.kind == "levels":
                    blank.append(f"{gaps} in {name!r}")
                elif feature and gaps:
                    filled.append(f"{gaps} in {name!r} ({feature.fill:.6g})")
        if filled:
            notes.append(f"missing numbers became the median: {_series(filled)}")
        if blank:
            notes.append(f"missing text is 0 in each column of its levels: {_series(blank)}")
        if constant:
            notes.append(f"left out, with one value everywhere: {listing(constant)}")
        if not features:
            raise ValueError(f"no column besides the target {target!r} can be used: add columns that vary")
        numbers = sum(feature.kind == "number" for feature in features)
        if scale and numbers:
            notes.append(f"{count(numbers, 'column')} of numbers standardised to mean 0 and deviation 1")
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
            used = [feature.name for feature in self.features]
            raise ValueError(
                f"the data lack columns the model was trained on: add {listing(lacking)}"
                f"{table.renamed(lacking, used)}"
            )
        parts = [feature.apply(table) for feature in self.features]
        return np.hstack([X for X, _ in parts]), [note for _, notes in parts for note in notes]

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as JSON values."""
        return {"features": [asdict(feature) for feature in self.features]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """Read what :meth:`to_dict` wrote; KeyError or TypeError if it is something else."""
        return cls(tuple(Feature(**{**f, "levels": tuple(f["levels"])}) for f in values["features"]))


@dataclass(frozen=True)
class Target:
    """How the target column becomes y, and outputs of a network become predictions.

    Parameters
    ----------
    name : str
    classes : tuple of two str, or empty for a regression
        Two classes are coded as -1 and +1, more by their numbers.
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
        """Decide between numbers and classes; `table` has no missing targets.

        Raises
        ------
        ValueError
            If the target is constant, has too many classes, or is no number in a regression.
        """
        cells, y = table.column(name), [number(cell) for cell in table.column(name)]
        odd = y.index(None) if None in y else None
        levels = _distinct(table, name)
        if len(levels) == 1:
            raise ValueError(f"the target {name!r} is {cells[0]!r} in every row: there is nothing to learn")
        if odd is not None and (task == "regression" or (len(levels) > 2 and _mostly_numbers(y))):
            raise ValueError(
                f"the target {name!r} is {cells[odd]!r} on {table.place(odd)}, which is no number: "
                "correct or remove that row"
            )
        if task == "classification" or (task == "auto" and (odd is not None or len(levels) == 2)):
            return cls._labels(name, [text(level) for level in levels], task, odd is None)
        numbers = np.array(y, dtype=np.float64)
        _check_finite(numbers, name, table)
        if not scale:
            return cls(name, notes=(f"regression of {name!r}",))
        mean, deviation = _moments(numbers, name)
        units = f"mean {mean:.6g}, deviation {deviation:.6g}; the certificate is in these units"
        return cls(name, (), mean, deviation, (f"regression of {name!r}, standardised too ({units})",))

    @classmethod
    def _labels(cls, name: str, levels: list[str], task: Task, numeric: bool) -> Target:
        classes = tuple(sorted(levels, key=float) if numeric else sorted(levels))
        if len(classes) > MAX_CLASSES:
            advice = "--task regression predicts the number" if numeric else "keep the rows of fewer"
            if not numeric and all(decimal_comma(label) or number(label) is not None for label in classes):
                advice = "write decimals with a point"
            raise ValueError(
                f"the target {name!r} has {len(classes)} classes ({listing(classes)}) and {MAX_CLASSES} "
                f"are supported: {advice}"
            )
        words = [repr(label) for label in classes]
        note = f"classification of {name!r}: {', '.join(words[:-1])} or {words[-1]}"
        if numeric and task == "auto":
            note += " (--task regression predicts the number instead)"
        return cls(name, classes, notes=(note,))

    def apply(self, table: Table) -> np.ndarray:
        """Return y, shape (n,): -1 and +1 for two classes, the numbers of more, else (y - mean) / scale.

        Raises
        ------
        ValueError
            If a cell is no number, or none of the classes.
        """
        cells = table.column(self.name)
        if self.classes:
            numeric = all(number(label) is not None for label in self.classes)
            labels = [text(_value(cell)) if numeric else text(cell) for cell in cells]
            ok = [label in self.classes for label in labels]
            allowed = f"{self.classes[0]!r} or {self.classes[1]!r}"
            if len(self.classes) > 2:
                allowed = f"one of {listing(self.classes)}"
        else:
            ok, allowed = [number(cell) is not None for cell in cells], "a number"
        if not all(ok):
            row = ok.index(False)
            raise ValueError(
                f"the target {self.name!r} is {cells[row]!r} on {table.place(row)} and must be {allowed}: "
                "correct or remove that row"
            )
        if self.classes:
            codes = np.array([self.classes.index(label) for label in labels], dtype=np.float64)
            return 2.0 * codes - 1.0 if len(self.classes) == 2 else codes
        numbers = np.array([number(cell) for cell in cells], dtype=np.float64)
        _check_finite(numbers, self.name, table)
        return (numbers - self.mean) / self.scale

    def decode(self, output: np.ndarray) -> list[str] | list[float]:
        """Return predictions from a network's output in the words and units of the file.

        The output has shape (n,), or (n, classes) for more than two classes.
        """
        if len(self.classes) > 2:
            return [self.classes[k] for k in np.argmax(output, axis=1)]
        if self.classes:
            return [self.classes[int(f > 0)] for f in output]
        return [float(f) * self.scale + self.mean for f in output]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {key: value for key, value in asdict(self).items() if key != "notes"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Target:
        """Read what :meth:`to_dict` wrote; KeyError or TypeError if it is something else."""
        return cls(**{**values, "classes": tuple(values["classes"])})


def _series(parts: list[str], most: int = 10) -> str:
    more = len(parts) - most
    return ", ".join(parts[:most]) + (f" and in {more} more" if more > 0 else "")


def _value(cell: str | float) -> str | float:
    """The number that a cell spells, or its text: 1 and 1.0 are the same value."""
    value = number(cell)
    return text(cell) if value is None else value


def _distinct(table: Table, name: str) -> list[str | float]:
    """The different values of a column, without missing ones, in order of appearance."""
    return list(dict.fromkeys(_value(cell) for cell in table.column(name) if not missing(cell)))


def _yes_no(word: str) -> float | None:
    word = word.lower()
    return 1.0 if word in YES_NO else 0.0 if word in YES_NO.values() else None


def _mostly_numbers(values: Sequence[float | None]) -> bool:
    return 2 * sum(value is not None for value in values) > len(values)


def _check_finite(x: np.ndarray, name: str, table: Table) -> None:
    if np.any(np.isinf(x)):
        place = table.place(int(np.argmax(np.isinf(x))))
        raise ValueError(f"column {name!r} is infinite on {place}: correct the cell or leave it empty")


def _moments(x: np.ndarray, name: str) -> tuple[float, float]:
    """Mean and standard deviation of numbers that are not all equal, shape (n,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(np.mean(x)), float(np.std(x))
    if not np.isfinite(deviation) or deviation == 0.0:
        raise ValueError(f"the numbers in {name!r} are too large or too close to standardise: rescale them")
    return mean, deviation


def _learn(name: str, table: Table, scale: bool) -> tuple[Feature | None, list[str]]:
    """Choose the entry of a column that is not constant; None leaves it out."""
    cells = table.column(name)
    filled = [row for row, cell in enumerate(cells) if not missing(cell)]
    values = [number(cells[row]) for row in filled]
    if None not in values:
        x = np.full(len(cells), np.nan)
        x[filled] = np.array(values, dtype=np.float64)
        _check_finite(x, name, table)
        median = float(np.median(x[filled]))
        mean, deviation = _moments(np.where(np.isnan(x), median, x), name) if scale else (0.0, 1.0)
        return Feature(name, "number", median, mean, deviation), []
    counts = Counter(text(cells[row]) for row in filled)
    words = {word.lower() for word in counts}
    for yes, no in YES_NO.items():
        if words == {yes, no}:
            ones = sum(k for word, k in counts.items() if word.lower() == yes)
            fill = float(2 * ones >= len(filled))
            return Feature(name, "yes/no", fill), [f"{name!r}: {yes} is 1, {no} is 0"]
    what = "dates, treated as text" if all(map(_DATE.fullmatch, counts)) else "text"
    if any(map(decimal_comma, counts)) and all(decimal_comma(t) or number(t) is not None for t in counts):
        what = "text, because its decimals have commas and need points"
    if _mostly_numbers(values):
        odd = filled[values.index(None)]
        what = f"text, because {cells[odd]!r} on {table.place(odd)} is not a number"
    return _learn_levels(name, counts, what)


def _learn_levels(name: str, counts: Counter[str], what: str) -> tuple[Feature | None, list[str]]:
    """Choose the levels of a text column, or None if it is an identifier."""
    if len(counts) <= MAX_LEVELS:
        levels = sorted(counts)
        feature = Feature(name, "levels", levels=tuple(levels))
        return feature, [f"{name!r} is {what}: a 0/1 column for each of {listing(levels)}"]
    if len(counts) > 0.5 * counts.total():
        different = f"{len(counts):,} different values in {count(counts.total(), 'row')}"
        advice = "; a column of days since some date would be used" if what.startswith("dates") else ""
        return None, [f"left out: {name!r} is {what}; {different} look like an identifier{advice}"]
    levels = sorted(counts, key=lambda level: (-counts[level], level))[:MAX_LEVELS]
    kept = f"a 0/1 column for each of the {MAX_LEVELS} most frequent of {len(counts):,} levels"
    return Feature(name, "levels", levels=tuple(levels), other=True), [
        f"{name!r} is {what}: {kept}, one for all others"
    ]
