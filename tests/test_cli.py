"""The command line as people use it: every result, every remark, and one line for every error."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.cli import LOOSE, app
from cvxnn.feature_penalties import Elastic, Groups
from cvxnn.models import Model
from cvxnn.tables import read_table


def run(*args: Any) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(result: Result, *words: str) -> None:
    """Exit code 2, nothing but one line on stderr, and what it has to say."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and len(lines) == 1, (result.exit_code, result.stderr, result.exception)
    assert lines[0].startswith("error: ") and result.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]


def write_csv(path: Path, rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def rows_of(n: int, seed: int = 0) -> list[list[Any]]:
    """A table with numbers, text, yes/no, missing cells, an identifier and a constant."""
    rng = np.random.default_rng(seed)
    rows: list[list[Any]] = [["id", "size", "city", "old", "unit", "price", "sold"]]
    for i in range(n):
        size, city, old = (
            round(float(rng.normal(100, 20)), 1),
            rng.choice(["Ulm", "Bonn", "Köln"]),
            rng.random() < 0.5,
        )
        price = size + 30 * (city == "Ulm") + float(rng.normal(0, 5))
        shown = "NA" if i % 7 == 3 else size
        rows.append(
            [f"h{i}", shown, city, "yes" if old else "no", "m2", price, "no" if price < 110 else "yes"]
        )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with houses.csv, a regression and a classification trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    data = write_csv(folder / "houses.csv", rows_of(40))
    for target, model in (("price", "regression"), ("sold", "classes")):
        other = "sold" if target == "price" else "price"
        path = folder / f"{model}.safetensors"
        result = run("fit", data, "--target", target, "--ignore", other, "--alpha", 0.05, "--out", path)
        assert result.exit_code == 0, result.output
        (folder / f"{model}.out").write_text(result.stdout)
        (folder / f"{model}.err").write_text(result.stderr)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_fit_says_what_it_did(folder: Path) -> None:
    out, err = (folder / "regression.out").read_text(), (folder / "regression.err").read_text()
    for words in (
        "40 rows, 7 columns",
        "regression of 'price', standardised too",
        "left out: 'id' is text; 40 different values",
        "'city' is text: a 0/1 column for each of 'Bonn', 'Köln', 'Ulm'",
        "'old': yes is 1, no is 0",
        "became the median: 6 in 'size'",
        "one value everywhere: 'unit'",
        "left out, as asked: 'sold'",
        "no network of any width can be below",
        "search gap",
        "On the training data: R2 ",
        "regression.safetensors",
    ):
        assert words in out, words
    assert "objective" in err and "neuron" in err and " s " in err and "bound" in err
    assert "correct." in (folder / "classes.out").read_text()


def test_path_prints_a_table(folder: Path) -> None:
    options = ("--target", "price", "--architecture", "gated_relu", "--n-alphas", 4, "--eps", 0.05)
    result = run("path", folder / "houses.csv", *options)
    assert result.exit_code == 0, result.output
    assert "40 rows, 7 columns" in result.stdout and "squared_error, 4 alphas" in result.stdout
    for words in ("alpha", "neurons", "objective", "proven gap", "search gap", "seconds"):
        assert words in result.stdout, words
    assert result.stderr.count("search gap") == 4
    refused(run("path", folder / "houses.csv", "--target", "price", "--eps", 2), "eps=2.0", "1e-3")


def test_fit_trains_what_the_estimators_train(folder: Path) -> None:
    table = read_table(folder / "houses.csv")
    for name, kind in (("regression", ConvexNetRegressor), ("classes", ConvexNetClassifier)):
        model = Model.load(folder / f"{name}.safetensors")
        X, y = model.encoding.apply(table)[0], model.target.apply(table)
        estimator = kind(alpha=0.05).fit(X, y)
        np.testing.assert_array_equal(estimator.network_(X), model.network(X))


def test_predict_round_trip(folder: Path, here: Path) -> None:
    model = Model.load(folder / "regression.safetensors")
    X, _ = model.encoding.apply(read_table(folder / "houses.csv"))
    result = run("predict", folder / "regression.safetensors", folder / "houses.csv")
    read = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.exit_code == 0 and list(read[0]) == ["prediction"]
    np.testing.assert_array_equal(
        [float(r["prediction"]) for r in read], model.target.decode(model.network(X))
    )
    price = [float(row[5]) for row in rows_of(40)[1:]]
    assert np.corrcoef(price, [float(r["prediction"]) for r in read])[0, 1] > 0.7
    result = run("predict", folder / "classes.safetensors", folder / "houses.csv", "--out", "p.csv")
    assert result.exit_code == 0 and "40 predictions written to p.csv" in result.stdout
    read = list(csv.DictReader((here / "p.csv").open()))
    assert list(read[0]) == ["prediction", "probability"]
    assert all((float(r["probability"]) > 0.5) == (r["prediction"] == "yes") for r in read)
    assert "probability is that of 'yes'" in result.stderr


def test_predict_needs_no_target_and_tells_new_levels(folder: Path, here: Path) -> None:
    data = write_csv(here / "new.csv", [["city", "old", "size"], ["Rom", "no", 90], ["Ulm", "yes", ""]])
    result = run("predict", folder / "regression.safetensors", data)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 3
    assert "'Rom'" in result.stderr and "1 missing cell in 'size'" in result.stderr


def test_certify(folder: Path) -> None:
    model = Model.load(folder / "classes.safetensors")
    table = read_table(folder / "houses.csv")
    X, y = model.encoding.apply(table)[0], model.target.apply(table)
    expected = certify(model.network, X, y, **model.judged())
    result = run("certify", folder / "classes.safetensors", folder / "houses.csv", "--target", "sold")
    assert result.exit_code == 0, result.stderr
    assert f"{expected.objective:.8g}" in result.stdout and f"{expected.lower_bound:.8g}" in result.stdout
    assert "no network of any width" in result.stdout and "searching the best network" in result.stderr
    assert run("certify", folder / "classes.safetensors", folder / "houses.csv").stdout == result.stdout


def test_certify_says_when_the_target_is_another(folder: Path, here: Path) -> None:
    header, *rows = rows_of(12)
    data = write_csv(here / "other.csv", [[*header[:-1], "gone"], *rows])
    result = run("certify", folder / "classes.safetensors", data, "--target", "gone", "--max-time", 1)
    assert result.exit_code == 0, result.stderr
    assert "the model predicts 'sold'; it is judged on 'gone', as asked" in result.stderr


def test_constant_networks_and_loose_bounds_come_with_advice(
    folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder / "houses.csv"
    result = run("fit", data, "--target", "price", "--alpha", 100, "--out", "m.safetensors")
    assert "no neuron pays at alpha 100" in result.stderr and "smaller --alpha" in result.stderr
    result = run("fit", data, "--target", "price", "--alpha", 0.3, "--out", "m.safetensors")
    assert "no neuron pays" not in result.stderr and "larger --alpha" not in result.stderr
    certificate = Model.load(here / "m.safetensors").certificate
    assert certificate is not None and certificate.scope == "bounded" and 0 < certificate.gap < LOOSE
    monkeypatch.setattr("cvxnn.cli.LOOSE", certificate.gap / 2)
    result = run("fit", data, "--target", "price", "--alpha", 0.3, "--out", "m.safetensors")
    assert "larger --alpha tightens it" in result.stderr


def test_decimal_commas_are_read_and_said_by_every_command(here: Path) -> None:
    rows = [f"{k},5;{abs(k - 6)},25" for k in range(12)]
    (here / "comma.csv").write_text("\n".join(["x;y", *rows]))
    (here / "point.csv").write_text("\n".join(["x;y", *rows]).replace(",", ".").replace(";", ","))
    assert run("fit", "point.csv", "--target", "y", "--alpha", 0.05).exit_code == 0
    result = run("fit", "comma.csv", "--target", "y", "--alpha", 0.05)
    assert "  - decimal commas in 'x', 'y': 0,5 is read as 0.5" in result.stdout
    first, second = (run("predict", "comma.safetensors", f"{name}.csv") for name in ("comma", "point"))
    assert first.exit_code == 0 and first.stdout == second.stdout
    assert "note: decimal commas in 'x', 'y'" in first.stderr and second.stderr == ""
    report = run("report", "comma.safetensors", "--data", "comma.csv", "--no-path")
    assert report.exit_code == 0 and "note: decimal commas in 'x', 'y'" in report.stderr


def test_options_and_default_name(here: Path) -> None:
    write_csv(here / "tiny.v2.csv", [["x", "y"], *[[k, abs(k - 6) + 0.1 * (k % 2)] for k in range(12)]])
    for more in (
        ("--architecture", "gated_relu"),
        ("--no-scale", "--hidden-bias", "none", "--patterns", 6),
    ):
        result = run("fit", "tiny.v2.csv", "--target", "y", "--alpha", 0.1, "--seed", 3, *more)
        assert result.exit_code == 0, result.output
        assert "Model written to tiny.v2.safetensors." in result.stdout
        assert run("certify", "tiny.v2.safetensors", "tiny.v2.csv", "--target", "y").exit_code == 0
    assert "standardised" not in result.stdout
    leaky = ("fit", "tiny.v2.csv", "--target", "y", "--architecture", "leaky_relu", "--option")
    assert run(*leaky, "slope=0.25", "--out", "leaky").exit_code == 0
    assert Model.load(here / "leaky").judged()["architecture"].slope == 0.25
    assert run("certify", "leaky", "tiny.v2.csv", "--target", "y").exit_code == 0
    (here / "leaky").unlink()
    refused(run(*leaky, "steep=3"), "no option steep", "slope")
    refused(run(*leaky, "slope"), "NAME=VALUE")
    refused(run(*leaky, "slope=two"), "slope")
    assert Model.load(here / "tiny.v2.safetensors").settings["hidden_bias"] is None
    assert sorted(path.name for path in here.iterdir()) == ["tiny.v2.csv", "tiny.v2.safetensors"]


def test_parquet_gives_the_same_model(folder: Path, here: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    header, *rows = rows_of(40)
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    columns["size"] = [None if cell == "NA" else cell for cell in columns["size"]]
    columns["old"] = [cell == "yes" for cell in columns["old"]]
    parquet.write_table(pa.table({k: v for k, v in columns.items()}), here / "houses.parquet")
    result = run("predict", folder / "regression.safetensors", "houses.parquet")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == run("predict", folder / "regression.safetensors", folder / "houses.csv").stdout
    parquet.write_table(pa.table({"x": [], "y": []}), here / "none.parquet")
    refused(run("fit", "none.parquet", "--target", "y"), "no rows", "pass a file with rows")


GOOD = "x,y\n1,2\n2,3\n3,5\n"


#: A target of more classes than are supported.
MANY = "x,y\n" + "".join(f"{k},c{k}\n" for k in range(101))


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, (), "there is no file data.csv: check"),
        ("", (), "is empty: pass"),
        ("1,2\n3,4\n", (), "write a line of column names"),
        ("x,y\n1,2\n3\n", (), "line 3 has 1 cell"),
        ("x,yy\n1,2\n3,4\n", (), "did you mean 'yy'?"),
        (MANY, (), "101 classes"),
        ("x,y\n1,a\n2,a\n", (), "'a' in every row"),
        ("x,y\n1,2\ninf,3\n2,4\n", (), "'x' is infinite on line 3"),
        (MANY.replace("c", ""), ("--task", "classification"), "--task regression"),
        (GOOD, ("--task", "clustering"), "see 'cvxnn fit --help'"),
        (GOOD, ("--alpha", "0"), "must be > 0"),
        (GOOD, ("--alpha", "-1"), "must be > 0"),
        (GOOD, ("--alpha", "nan"), "finite number > 0"),
        (GOOD, ("--alpha", "much"), "--alpha"),
        (GOOD, ("--tol", "-1"), "--tol"),
        (GOOD, ("--loss", "log_loss"), "is for classes"),
        (GOOD, ("--loss", "hinges"), "unknown loss 'hinges': pass one of"),
        (GOOD, ("--architecture", "transformer"), "unknown architecture 'transformer': pass one of"),
        (GOOD, ("--patterns", "some"), "pass 'auto', 'all', an integer"),
        (GOOD, ("--out", "."), "is a folder: pass a file name"),
        (GOOD, ("--out", "absent/m.safetensors"), "does not exist: create it"),
        (GOOD, ("--out", "/proc/m.safetensors"), "pass another --out"),
        (GOOD, ("--out", "data.csv"), "would be overwritten: pass another --out"),
        (GOOD, ("--alpah", "1"), "--alpha"),
    ],
)
def test_fit_refuses_in_one_line(
    here: Path, content: str | None, options: tuple[str, ...], words: str
) -> None:
    if content is not None:
        (here / "data.csv").write_text(content)
    result = run("fit", "data.csv", "--target", "y", *options)
    if words.startswith("pass 'auto'"):
        # Found only after the data are read, when remarks have been made.
        assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("error: ")
        assert words in result.stderr
    else:
        refused(result, words)
    assert [path.name for path in here.iterdir()] == ([] if content is None else ["data.csv"])


def test_usage_errors_are_one_line(here: Path) -> None:
    refused(run("fit"), "see 'cvxnn fit --help'")
    refused(run("fit", here, "--target", "y"), "is a folder")
    refused(run("nonsense"), "--help'")
    (here / "file").write_text("")
    refused(run("demo", "--out", "file"), "pass a folder")


def test_models_that_are_none(folder: Path, here: Path) -> None:
    data = folder / "houses.csv"
    refused(run("predict", "absent.safetensors", data), "no model file at absent.safetensors")
    refused(run("predict", data, folder / "classes.safetensors"), "not a safetensors file")
    (here / "cut.safetensors").write_bytes((folder / "classes.safetensors").read_bytes()[:-40])
    refused(run("predict", "cut.safetensors", data), "damaged")
    save_file({"w": np.zeros(3)}, here / "foreign.safetensors")
    refused(run("certify", "foreign.safetensors", data, "--target", "sold"), "not a cvxnn model")
    network = Network.two_layer(np.eye(2), np.zeros(2), np.ones(2))
    network.save(here / "plain.safetensors")
    refused(run("predict", "plain.safetensors", data), "use a file written by cvxnn fit")
    good = Model.load(folder / "classes.safetensors")
    header = {
        "encoding": good.encoding.to_dict(),
        "target": good.target.to_dict(),
        "settings": good.settings,
    }
    network.save(here / "mixed.safetensors", header)
    refused(run("predict", "mixed.safetensors", data), "fit again")
    encoding, target = header["encoding"], header["target"]
    lies = [
        {"encoding": {"features": [{**encoding["features"][0], key: value}, *encoding["features"][1:]]}}
        for key, value in (("mean", "x"), ("scale", 0.0), ("fill", None), ("levels", [[]]), ("kind", "a"))
    ]
    lies += [{"target": {**target, "classes": classes}} for classes in ([], ["no"], ["no", "no"], [1, 2])]
    lies += [{"encoding": {"features": 3}}, {"target": []}, {"settings": "alpha"}]
    for lie in lies[:5] + lies[6:]:
        good.network.save(here / "lie.safetensors", header | lie)
        refused(run("predict", "lie.safetensors", data), "use a file written by cvxnn fit")
    good.network.save(here / "lie.safetensors", header | {"target": {**target, "classes": list("abc")}})
    refused(run("predict", "lie.safetensors", data), "classes and outputs do not fit")


def test_data_that_do_not_fit_the_model(folder: Path, here: Path) -> None:
    model = folder / "classes.safetensors"
    data = write_csv(here / "other.csv", [["city", "sold"], ["Ulm", "yes"], ["Ulm", "sold out"]])
    refused(run("predict", model, data), "add 'size', 'old'")
    header, *rows = rows_of(6)
    data = write_csv(here / "odd.csv", [header, *rows[:3], [*rows[3][:-1], "perhaps"]])
    refused(run("certify", model, data, "--target", "sold"), "'perhaps' on line 5")
    refused(run("certify", model, data, "--target", "solt"), "did you mean 'sold'")
    one = write_csv(here / "one.csv", [header, *[row for row in rows if row[-1] == "yes"]])
    refused(run("certify", model, one, "--target", "sold"), "'yes' in every row")
    refused(run("predict", model, one, "--out", one), "would be overwritten")


def test_model_holds_no_data_and_no_code(folder: Path) -> None:
    content = (folder / "regression.safetensors").read_bytes()
    assert b"h17" not in content and b"pickle" not in content
    assert not any(str(row[5]).encode() in content for row in rows_of(40)[1:])


def test_warnings_are_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(out: str) -> None:
        warnings.warn(f"first line\nsecond line about {out}", UserWarning, stacklevel=1)

    monkeypatch.setitem(sys.modules, "cvxnn.demo", types.SimpleNamespace(run_demo=noisy))
    result = run("demo", "--out", "results")
    assert result.exit_code == 0 and result.stderr == "warning: first line second line about results\n"


def test_ctrl_c_outside_training_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(out: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "cvxnn.demo", types.SimpleNamespace(run_demo=stopped))
    result = run("demo")
    assert result.exit_code == 130 and result.stderr == "stopped by Ctrl-C\n"


def test_help_and_version() -> None:
    for args in ([], ["--help"], ["fit", "--help"]):
        result = run(*args)
        assert result.exit_code == 0 and "Usage" in result.stdout and not result.stderr
    assert run("--version").stdout.startswith("cvxnn ")


def test_time_limit_keeps_the_network(here: Path) -> None:
    write_csv(here / "houses.csv", rows_of(40))
    result = run("fit", "houses.csv", "--target", "price", "--alpha", 0.01, "--tol", 0, "--max-time", 0.05)
    assert result.exit_code == 0, result.stderr
    assert "the best network so far is kept" in result.stderr and "ConvergenceWarning" not in result.stderr
    assert (here / "houses.safetensors").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_ctrl_c_in_a_real_process_keeps_the_best_network(here: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 12))
    names = [f"x{k}" for k in range(12)]
    write_csv(
        here / "hard.csv", [[*names, "y"], *[[*x, v] for x, v in zip(X, rng.normal(size=150), strict=True)]]
    )
    command = [
        sys.executable,
        "-m",
        "cvxnn.cli",
        "fit",
        "hard.csv",
        "--target",
        "y",
        "--tol",
        "0",
        "--max-time",
        "60",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert all("objective" in line for line in lines)
    assert process.returncode == 0, err
    assert "stopped by Ctrl-C: the best network so far is kept" in err and "Traceback" not in err
    assert "Certificate" in out and Model.load(here / "hard.safetensors").network.width > 0


def test_paths_of_three_classes(here: Path) -> None:
    lines = ["x,y", *(f"{i / 7},{'abc'[i // 7]}" for i in range(21))]
    (here / "data.csv").write_text("\n".join(lines) + "\n")
    result = run("path", "data.csv", "--target", "y", "--n-alphas", "2", "--tol", "1e-3")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("objective") == 2


def test_the_penalty_is_kept_with_the_model(here: Path) -> None:
    write_csv(here / "data.csv", rows_of(30))
    result = run("fit", "data.csv", "--target", "price", "--alpha", "0.1", "--penalty", "l1")
    assert result.exit_code == 0, result.stderr
    model = Model.load(here / "data.safetensors")
    assert model.settings["penalty"] == "l1"
    result = run("certify", "data.safetensors", "data.csv", "--target", "price")
    assert result.exit_code == 0, result.stderr
    refused(run("fit", "data.csv", "--target", "price", "--penalty", "l3"), "l3")


def test_weights_of_classes_are_those_of_the_estimator_and_kept(here: Path) -> None:
    write_csv(here / "data.csv", rows_of(30))
    fit = ("fit", "data.csv", "--target", "sold", "--alpha", "0.05", "--ignore", "price")
    for text, weights in (
        ("balanced", "balanced"),
        ("yes=5", {1.0: 5.0}),
        ("yes=5, no=0.5", {1.0: 5.0, -1.0: 0.5}),
    ):
        result = run(*fit, "--class-weight", text)
        assert result.exit_code == 0, result.stderr
        model = Model.load(here / "data.safetensors")
        assert model.settings["class_weight"] == text and model.judged()["class_weight"] == weights
        table, _ = read_table(here / "data.csv").with_target("sold")
        X, y = model.encoding.apply(table)[0], model.target.apply(table)
        ours = ConvexNetClassifier(0.05, class_weight=weights).fit(X, y).certificate_
        assert model.certificate is not None
        assert model.certificate.objective == pytest.approx(ours.objective, rel=1e-9)
        result = run("certify", "data.safetensors", "data.csv")
        assert result.exit_code == 0, result.stderr
        assert f"{ours.objective:.8f}"[:8] in result.stdout
    result = run("report", "data.safetensors", "--data", "data.csv", "--no-path")
    assert result.exit_code == 0, result.stderr
    refused(run(*fit, "--class-weight", "yes=0"), "above 0")
    refused(run(*fit, "--class-weight", "heavy"), "balanced")
    result = run(*fit, "--class-weight", "old=2")
    assert result.exit_code == 2 and "names 'old', which is no class" in result.stderr
    result = run("fit", "data.csv", "--target", "price", "--class-weight", "balanced")
    assert result.exit_code == 2 and "is a number" in result.stderr


def test_penalties_of_groups_of_columns_and_of_shares(here: Path) -> None:
    write_csv(here / "data.csv", rows_of(24))
    fit = ("fit", "data.csv", "--target", "price", "--alpha", "0.05", "--architecture", "gated_relu")
    # size is one input, old another, city one for each of its values: three columns, three groups
    wanted = {"elastic:0.3": Elastic(0.3), "groups:size,old": None}
    for text, penalty in wanted.items():
        result = run(*fit, "--penalty", text, "--out", "m.safetensors", "--option", "patterns=20")
        assert result.exit_code == 0, result.stderr
        model = Model.load(here / "m.safetensors")
        assert model.settings["penalty"] == text
        names = [feature.name for feature in model.encoding.features]
        judged = model.judged()["penalty"]
        if penalty is None:
            rows, at = [], 0
            for feature in model.encoding.features:
                rows.append(tuple(range(at, at + feature.width)))
                at += feature.width
            of = dict(zip(names, rows, strict=True))
            rest = [row for name, row in of.items() if name not in ("size", "old")]
            assert len(of["city"]) > 1
            assert judged == Groups([[*of["size"], *of["old"]], *rest])
        else:
            assert judged == penalty
        result = run("certify", "m.safetensors", "data.csv", "--target", "price")
        assert result.exit_code == 0, result.stderr
        assert "gap" in result.stdout
    result = run(*fit, "--penalty", "groups:size,colour")
    assert result.exit_code == 2 and "'colour'" in result.stderr and "'city'" in result.stderr
    refused(run(*fit, "--penalty", "groups:size;size"), "two groups")
    refused(run(*fit, "--penalty", "elastic:1.5"), "elastic:0.3")
    refused(run(*fit, "--penalty", "elastic"), "groups:a,b;c")
    assert "elastic:0.3" in run("fit", "--help").output
