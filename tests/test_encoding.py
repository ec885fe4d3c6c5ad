"""From tables to numbers: each rule, that it is said, and that new data are treated as the old."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cvxnn.encoding import MAX_LEVELS, Encoding, Feature, Target
from cvxnn.tables import Table


def table(**columns: list[str | float]) -> Table:
    n = len(next(iter(columns.values())))
    return Table(tuple(columns), tuple(columns.values()), tuple(range(2, n + 2)))


def said(encoding: Encoding | Target, *words: str) -> bool:
    return any(all(word in note for word in words) for note in encoding.notes)


def test_numbers_are_filled_and_standardised() -> None:
    data = table(x=["1", "NA", "3", "8"], y=["0", "1", "2", "3"])
    encoding = Encoding.learn(data, "y")
    X, notes = encoding.apply(data)
    full = np.array([1.0, 3.0, 3.0, 8.0])
    np.testing.assert_allclose(X[:, 0], (full - full.mean()) / full.std(), rtol=1e-14)
    assert said(encoding, "median", "1 in 'x' (3)") and said(encoding, "standardised")
    assert notes == ["1 missing cell in 'x' filled with 3"]


def test_no_scale_leaves_numbers() -> None:
    data = table(x=["1", "2", "4"], y=["0", "1", "2"])
    encoding = Encoding.learn(data, "y", scale=False)
    np.testing.assert_array_equal(encoding.apply(data)[0], [[1.0], [2.0], [4.0]])
    assert not said(encoding, "standardised")


def test_stored_moments_apply_to_new_data() -> None:
    encoding = Encoding.learn(table(x=["0", "2"], y=["0", "1"]), "y")
    np.testing.assert_array_equal(encoding.apply(table(x=["5", ""]))[0], [[4.0], [0.0]])


@pytest.mark.parametrize(("yes", "no"), [("true", "False"), ("Yes", "no"), ("t", "f"), ("Y", "N")])
def test_yes_and_no(yes: str, no: str) -> None:
    data = table(b=[yes, no, "", yes], y=["0", "1", "2", "3"])
    encoding = Encoding.learn(data, "y")
    np.testing.assert_array_equal(encoding.apply(data)[0][:, 0], [1.0, 0.0, 1.0, 1.0])
    assert said(encoding, "'b'", "is 1", "is 0")
    np.testing.assert_array_equal(encoding.apply(table(b=["0", 1.0]))[0][:, 0], [0.0, 1.0])
    with pytest.raises(ValueError, match="'maybe' on line 2"):
        encoding.apply(table(b=["maybe"]))


def test_text_becomes_levels() -> None:
    data = table(c=["b", "a", "", "b"], y=["0", "1", "2", "3"])
    encoding = Encoding.learn(data, "y")
    np.testing.assert_array_equal(encoding.apply(data)[0], [[0, 1], [1, 0], [0, 0], [0, 1]])
    assert said(encoding, "'c' is text", "'a', 'b'") and said(encoding, "missing text", "1 in 'c'")
    X, notes = encoding.apply(table(c=["z", "a"]))
    np.testing.assert_array_equal(X, [[0, 0], [1, 0]])
    assert len(notes) == 1 and "'z'" in notes[0]


def test_rare_levels_share_a_column() -> None:
    cells = [f"v{k}" for k in range(30) for _ in range(4 if k < MAX_LEVELS else 2)]
    data = table(c=cells, y=[str(k) for k in range(len(cells))])
    encoding = Encoding.learn(data, "y")
    X, _ = encoding.apply(data)
    assert X.shape[1] == encoding.width == MAX_LEVELS + 1
    np.testing.assert_array_equal(X.sum(axis=1), 1.0)
    assert said(encoding, "20 most frequent of 30")
    assert encoding.apply(table(c=["new"]))[0][0, -1] == 1.0


def test_columns_left_out_are_said() -> None:
    n = 30
    data = table(
        x=[str(k) for k in range(n)],
        key=[f"id{k}" for k in range(n)],
        same=["7"] * (n - 2) + ["", "7.0"],
        y=[str(k % 3) for k in range(n)],
    )
    data = Table(("", *data.names), ([str(k) for k in range(n)], *data.columns), data.lines)
    encoding = Encoding.learn(data, "y")
    assert [feature.name for feature in encoding.features] == ["x"]
    assert said(encoding, "'key'", "identifier") and said(encoding, "one value everywhere", "'same'")
    assert said(encoding, "without a name")


def test_dates_and_almost_numbers_are_text_and_said() -> None:
    data = table(day=["2024-01-01", "2024-01-02"] * 2, x=["1", "2", "3", "oops"], y=["0", "1", "2", "3"])
    encoding = Encoding.learn(data, "y")
    assert said(encoding, "'day' is dates, treated as text")
    assert said(encoding, "'x' is text, because 'oops' on line 5 is not a number")
    days = [f"2024-01-{k:02d}" for k in range(1, 29)]
    data = table(day=days, x=["1,5", "2", "3,5", "4"] * 7, y=[str(k) for k in range(28)])
    encoding = Encoding.learn(data, "y")
    assert said(encoding, "left out: 'day' is dates", "days since some date")
    assert said(encoding, "'x' is text, because its decimals have commas and need points")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": ["1", "inf"], "y": ["0", "1"]}, "'x' is infinite on line 3"),
        ({"x": ["1", "1"], "y": ["0", "1"]}, "no column besides the target"),
        ({"x": ["1e300", "-1e300"], "y": ["0", "1"]}, "rescale"),
    ],
)
def test_unusable_columns(columns: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Encoding.learn(table(**columns), "y")  # type: ignore[arg-type]


def test_new_data_must_fit() -> None:
    encoding = Encoding.learn(table(a=["1", "2"], b=["1", "3"], y=["0", "1"]), "y")
    with pytest.raises(ValueError, match="add 'a', 'b'"):
        encoding.apply(table(c=["1"]))
    with pytest.raises(ValueError, match=r"add 'a', 'b' \(or rename 'B' to 'b'\)"):
        encoding.apply(table(c=["1"], B=["1"]))
    with pytest.raises(ValueError, match="column 'b' holds 'x' on line 2 and held numbers in"):
        encoding.apply(table(a=["1"], b=["x"]))
    with pytest.raises(ValueError, match="infinite on line 2"):
        encoding.apply(table(a=["1"], b=["inf"]))


def test_encoding_and_target_survive_json() -> None:
    encoding = Encoding(
        (
            Feature("x", "number", 1.5, 0.1, 3.0),
            Feature("b", "yes/no", 1.0),
            Feature("c", "levels", levels=("ä", "b"), other=True),
        )
    )
    assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding
    for target in (Target("y", ("no", "yes")), Target("y", (), 1.5, 2.5)):
        assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        (["yes", "no", "yes"], "auto", ("no", "yes")),
        (["10", "9", "9.0"], "auto", ("9", "10")),
        (["0", "1", "1"], "regression", ()),
        (["0", "1", "2"], "auto", ()),
        ([0.0, 1.0, 0.0], "classification", ("0", "1")),
    ],
)
def test_task(cells: list[str | float], task: str, classes: tuple[str, ...]) -> None:
    target = Target.learn(table(y=cells), "y", task)  # type: ignore[arg-type]
    assert target.classes == classes and said(target, "classification" if classes else "regression")


def test_targets_and_predictions_are_inverse() -> None:
    data = table(y=["1.5", "2", "7"])
    target = Target.learn(data, "y")
    y = target.apply(data)
    assert abs(y.mean()) < 1e-12 and abs(y.std() - 1.0) < 1e-12
    np.testing.assert_allclose(target.decode(y), [1.5, 2.0, 7.0], rtol=1e-14)
    labels = table(y=["10", "9.0", "9"])
    classes = Target.learn(labels, "y")
    np.testing.assert_array_equal(classes.apply(labels), [1.0, -1.0, -1.0])
    assert classes.decode(np.array([0.3, -2.0])) == ["10", "9"]


@pytest.mark.parametrize(
    ("cells", "task", "words"),
    [
        ([f"c{k}" for k in range(101)], "auto", "101 classes .* keep the rows of fewer"),
        ([f"{k},5" for k in range(101)], "auto", "101 classes .* write decimals with a point"),
        ([str(k) for k in range(101)], "classification", "101 classes .* --task regression"),
        (["a", "a"], "auto", "'a' in every row"),
        (["1", "1.0"], "auto", "in every row"),
        (["1", "2", "x"], "regression", "'x' on line 4, which is no number"),
        (["1", "2", "3", "4", "x"], "auto", "'x' on line 6, which is no number"),
        (["1", "2", "inf"], "auto", "infinite on line 4"),
    ],
)
def test_unusable_targets(cells: list[str | float], task: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Target.learn(table(y=cells), "y", task)  # type: ignore[arg-type]


def test_targets_of_new_data_must_fit() -> None:
    with pytest.raises(ValueError, match="'c' on line 3 and must be 'a' or 'b'"):
        Target("y", ("a", "b")).apply(table(y=["a", "c"]))
    with pytest.raises(ValueError, match="must be a number"):
        Target("y").apply(table(y=["1", "c"]))
