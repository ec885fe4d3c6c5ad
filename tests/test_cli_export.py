"""`cvxnn export`: what is written computes what `cvxnn predict` prints, and every error is one line."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cvxnn.cli import app
from cvxnn.cli_export import columns_of
from cvxnn.models import Model
from cvxnn.tables import read_table
from cvxnn.testing_exports import Compiled, onnx_session


def run(*args: Any) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(result: Result, *words: str) -> None:
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and len(lines) == 1, (result.exit_code, result.stderr, result.exception)
    assert lines[0].startswith("error: ") and result.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with houses.csv and models of a number, of two classes, of counts and of three integers."""
    folder = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(0)
    rows: list[list[Any]] = [["size", "city", "old", "price", "sold", "rooms", "visits"]]
    for i in range(40):
        size, city = round(float(rng.normal(100, 20)), 1), rng.choice(["Ulm", "Bonn", "Köln"])
        price = size + 30 * (city == "Ulm") + float(rng.normal(0, 5))
        rooms = 2 + (size > 95) + (size > 110)
        old = "yes" if rng.random() < 0.5 else "no"
        shown = "NA" if i % 7 == 3 else size
        rows.append(
            [shown, city, old, price, "no" if price < 110 else "yes", rooms, rng.poisson(size / 50)]
        )
    data = folder / "houses.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    targets = {
        "price": [],
        "sold": [],
        "rooms": ["--task", "classification"],
        "visits": ["--loss", "poisson"],
    }
    for target, more in targets.items():
        others = [part for name in targets if name != target for part in ("--ignore", name)]
        options = ["--alpha", 0.05, "--architecture", "linear", "--out", folder / f"{target}.safetensors"]
        result = run("fit", data, "--target", target, *others, *options, *more)
        assert result.exit_code == 0, result.output
    return folder


def predictions(folder: Path, target: str) -> list[str]:
    out = folder / f"{target}.csv"
    assert (
        run("predict", folder / f"{target}.safetensors", folder / "houses.csv", "--out", out).exit_code == 0
    )
    with out.open() as file:
        return [row["prediction"] for row in csv.DictReader(file)]


def inputs(folder: Path, target: str) -> np.ndarray:
    model = Model.load(folder / f"{target}.safetensors")
    return model.encoding.apply(read_table(folder / "houses.csv"))[0]


@pytest.mark.parametrize("target", ["price", "sold", "rooms", "visits"])
def test_onnx(folder: Path, target: str) -> None:
    onnx = pytest.importorskip("onnx")
    out = folder / f"{target}.onnx"
    result = run("export", folder / f"{target}.safetensors", "--to", "onnx", "--out", out)
    assert result.exit_code == 0 and result.stderr == ""
    assert "without the encoding of a table" in result.stdout and "opset 17, float64" in result.stdout
    assert "  2  'city': 1 if it is 'Köln', else 0" in result.stdout
    assert "  4  'old': 1 for yes or true, 0 for no or false; 1.0 if missing" in result.stdout
    model = onnx.load(out)
    found = onnx_session(model).run(None, {"X": inputs(folder, target)})[0]
    wanted = predictions(folder, target)
    if target in ("price", "visits"):
        assert np.allclose(found[:, 0], np.array(wanted, dtype=float), rtol=1e-12)
        assert f"Its output is '{target}' in its own units." in result.stdout
    else:
        assert list(map(str, found.tolist())) == wanted
        assert found.dtype == (object if target == "sold" else np.int64)
        assert "Its classes are 'no', 'yes'; a positive" in result.stdout or target == "rooms"
    said = {prop.key: prop.value for prop in model.metadata_props}
    loaded = Model.load(folder / f"{target}.safetensors")
    assert json.loads(said["columns"]) == columns_of(loaded.encoding) and said["architecture"] == "linear"
    assert len(columns_of(loaded.encoding)) == loaded.network.n_features == 5


def test_what_the_command_says_of_columns_makes_the_inputs(folder: Path) -> None:
    model = Model.load(folder / "price.safetensors")
    size, fill = columns_of(model.encoding)[0].split("; ")
    mean, scale = size.removeprefix("('size' - ").split(") / ")
    with (folder / "houses.csv").open() as file:
        cells = [row["size"] for row in csv.DictReader(file)]
    gap = fill.removesuffix(" if missing")
    own = [(float(gap if cell == "NA" else cell) - float(mean)) / float(scale) for cell in cells]
    assert np.array_equal(own, inputs(folder, "price")[:, 0]) and "NA" in cells


def test_c(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler 'cc'")
    monkeypatch.chdir(folder)
    result = run("export", "sold.safetensors", "--to", "c", "--dtype", "float32")
    assert (
        result.exit_code == 0
        and "C99, float: compile it with cc -O2 -std=c99 and link with -lm" in result.stdout
    )
    source = (folder / "sold.c").read_text(encoding="utf-8")
    assert " *   x[1]  'city': 1 if it is 'Bonn', else 0\n" in source and "(linear)" in source
    with Compiled(source) as program:
        numbers = program.numbers(inputs(folder, "sold"))
    assert [("no", "yes")[k] for k in numbers] == predictions(folder, "sold")


def test_torch(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    model, out = folder / "sold.safetensors", folder / "sold.pt"
    result = run("export", model, "--to", "torch", "--out", out)
    assert (
        result.exit_code == 0 and "(0): Linear(in_features=5, out_features=1, bias=True)" in result.stdout
    )
    loaded = Model.load(model).network
    module = loaded.to_torch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.load_state_dict(torch.load(out, weights_only=True))
        X = inputs(folder, "sold")
        assert np.allclose(module(torch.as_tensor(X)).numpy(), loaded(X), atol=1e-14)


def test_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    model = folder / "price.safetensors"
    out = tmp_path / "n.onnx"
    refused(run("export", model, "--to", "tflite"), "unknown format 'tflite'", "'c', 'onnx'")
    refused(run("export", model, "--to", "sklearn"), "no file format but pickle", "to_sklearn()")
    refused(run("export", model, "--to", "c", "--out", out), "no name of a c file", ".c")
    refused(run("export", model, "--to", "onnx", "--out", tmp_path / "x" / "n.onnx"), "does not exist")
    (tmp_path / "d.onnx").mkdir()
    refused(run("export", model, "--to", "onnx", "--out", tmp_path / "d.onnx"), "is a folder")
    refused(run("export", tmp_path / "no.safetensors", "--to", "onnx", "--out", out), "no model file")
    refused(run("export", folder / "houses.csv", "--to", "onnx", "--out", out), "not a safetensors file")
    refused(run("export", model, "--to", "onnx", "--out", out, "--dtype", "float16"), "float16")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.onnx"]


def test_a_folder_that_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", forbidden)  # root may write everywhere
    out = tmp_path / "n.onnx"
    refused(run("export", folder / "price.safetensors", "--to", "onnx", "--out", out), "cannot write in")


def test_a_missing_library_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "n.onnx"
    refused(run("export", folder / "price.safetensors", "--to", "onnx", "--out", out), "cvxnn[onnx]")
    assert not out.exists()
