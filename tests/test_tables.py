"""Reading tables: what is accepted, and that every refusal names the file, the line and a remedy."""

from __future__ import annotations

import builtins
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cvxnn.certificate import count
from cvxnn.tables import Table, listing, missing, number, read_table, text


def write(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_line_ends(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = [delimiter.join(row) for row in (["a", "b b", "c"], ["1", "x", ""], ["2", "y", "3.5"])]
    table = read_table(write(tmp_path, "\ufeff" + end.join(lines) + end + end))
    assert table.names == ("a", "b b", "c")
    assert table.columns == (["1", "2"], ["x", "y"], ["", "3.5"])
    assert table.place(1) == "line 3" and len(table) == 2


def test_quotes_hold_delimiters_and_line_ends(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, 'a,b\n"x, y",1\n"two\nlines", 2\n'))
    assert table.column("a") == ["x, y", "two\nlines"]
    assert table.column("b") == ["1", "2"] and table.place(1) == "line 4"


def test_decimal_commas_do_not_decide_the_delimiter(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a;b\n1,5;2,5\n3,5;4,5\n"))
    assert len(table.names) == 2 and len(table) == 2


def test_decimal_commas_become_points_where_semicolons_separate(tmp_path: Path) -> None:
    content = "a;b;c;d\n1,5;2;1.234;x,y\n;-3,25;2,5;1,2,3\n"
    table = read_table(write(tmp_path, content))
    assert table.columns == (["1.5", ""], ["2", "-3.25"], ["1.234", "2,5"], ["x,y", "1,2,3"])
    assert table.notes == (
        "decimal commas in 'a', 'b': 1,5 is read as 1.5",
        "commas and points in 'c', left as text: write decimals one way",
    )
    assert table.without(["c"]).notes == table.notes
    table = read_table(write(tmp_path, 'a,b\n"1,234",2\n'))  # thousands, perhaps
    assert table.columns == (["1,234"], ["2"]) and table.notes == ()


def test_one_column_and_blank_lines(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "\n  \na\n1\n\n2\n"))
    assert table.names == ("a",) and table.columns == (["1", "2"],)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\ufeff \n \n", "is empty"),
        ("a,b\n", "column names and no rows"),
        ("1,2\n3,4\n", "write a line of column names"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cell where the header has 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 cells where the header has 2"),
        ("a,b,a\n1,2,3\n", "several columns called 'a': rename"),
        ('a,b\n1,"2\n3,4\n', "check the quotes"),
        (b"a,b\n\xff\xfe,1\n", "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
        (b"PK\x03\x04\x00\x00", "not UTF-8"),
        (b"PAR1 but not really", "damaged Parquet"),
    ],
)
def test_refusals_say_where_and_what_to_do(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = write(tmp_path, content)
    if "Parquet" in words:
        pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=words) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_no_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="is a folder"):
        read_table(tmp_path)


def test_unknown_column_suggests_similar_names() -> None:
    table = Table(("price", "area", "rooms"), (["1"], ["2"], ["3"]), (2,))
    with pytest.raises(ValueError, match=r"did you mean 'price'\?"):
        table.column("Price")
    with pytest.raises(ValueError, match="choose one of 'price', 'area', 'rooms'"):
        table.column("zzzzzz")


def test_columns_can_be_left_out() -> None:
    table = Table(("a", "b", "c"), (["1"], ["1"], ["1"]), (2,))
    assert table.without(["a", "c"]).names == ("b",) and table.without([]).names == table.names
    with pytest.raises(ValueError, match="no column 'd'"):
        table.without(["d"])


def test_rows_without_target_are_dropped_and_said() -> None:
    table = Table(("x", "y"), (["1", "2", "3"], ["a", "?", "b"]), (2, 3, 4))
    kept, notes = table.with_target("y")
    assert kept.column("x") == ["1", "3"] and kept.place(1) == "line 4"
    assert notes == ["1 row without a target 'y' left out"]
    assert table.with_target("x") == (table, [])
    with pytest.raises(ValueError, match="missing in every row"):
        Table(("y",), (["", "NA"],), (2, 3)).with_target("y")


def parquet(folder: Path, columns: dict[str, list[Any]]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "n": [1, None, 3],
        "x": [0.5, float("nan"), 2.0],
        "s": ["a ", None, "b"],
        "b": [True, False, None],
        "d": [date(2024, 1, 2)] * 3,
        "__index_level_0__": [0, 1, 2],
    }
    table = read_table(parquet(tmp_path, columns))
    assert table.names == ("n", "x", "s", "b", "d", "")
    assert table.column("n") == [1.0, "", 3.0]
    assert missing(table.column("x")[1])
    assert table.column("s") == ["a", "", "b"] and table.column("b") == ["true", "false", ""]
    assert table.column("d") == ["2024-01-02"] * 3 and table.place(0) == "row 1"


def test_parquet_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"'v' .* holds list: leave it out"):
        read_table(parquet(tmp_path, {"v": [[1, 2]]}))
    path = parquet(tmp_path, {"x": []})
    with pytest.raises(ValueError, match="no rows"):
        read_table(path)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'cvxnn\[parquet\]'"):
        read_table(path)


def test_cells() -> None:
    assert number("1e3") == 1000.0 and number(" 2 ") == 2.0 and number("inf") == float("inf")
    assert number("1_000") is None and number("1,5") is None and number("nan") is None
    assert (
        missing("N/A")
        and missing("")
        and missing(float("nan"))
        and not missing("none")
        and not missing(0.0)
    )
    assert text(3.0) == "3" and text(0.25) == "0.25" and text("03") == "03"
    assert count(1, "row") == "1 row" and count(1234, "row") == "1,234 rows"
    assert listing("abcdefgh") == "'a', 'b', 'c', 'd', 'e' and 3 more"
