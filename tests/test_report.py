"""The report: what it says is what is true, and its page holds no surprises."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler
from typer.testing import CliRunner

from cvxnn import (
    ConvexNetClassifier,
    ConvexNetClassifierCV,
    ConvexNetPath,
    ConvexNetRegressor,
    Network,
    path,
    report,
)
from cvxnn.cli import app
from cvxnn.layers import Absolute, Affine, Gated, LeakyReLU, Polynomial, Product, ReLU, Threshold
from cvxnn.models import Model
from cvxnn.reporting import Report, render
from cvxnn.reporting.columns import Columns, plain, through
from cvxnn.reporting.content import Picture
from cvxnn.reporting.deep_units import unstack
from cvxnn.reporting.neurons import describe, take_apart
from cvxnn.reporting.numerals import MINUS, THIN, number, part, percent, signed
from cvxnn.reporting.page import asset
from cvxnn.reporting.points import strengths
from cvxnn.reporting.wording import formula, line_of, point_words
from cvxnn.train import Moment

NASTY = "</script><img src=x onerror=alert(1)>"


def small(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of different sizes and a score."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) * [5.0, 0.1] + [100.0, 1.0]
    return X, np.maximum((X[:, 0] - 100.0) / 5.0, 0.0) - (X[:, 1] - 1.0) * 10.0


@pytest.fixture(scope="module")
def binary() -> tuple[Pipeline, np.ndarray, np.ndarray, Report]:
    """A classifier behind a scaler, with held-out data and a path."""
    X, f = small()
    y = np.where(f > 0.3, "yes", "no")
    model = make_pipeline(StandardScaler(), ConvexNetClassifier(0.05)).fit(X, y)
    Z, g = small(30, 1)
    held_out = np.where(g > 0.3, "yes", "no")
    names = ["height", "width"]
    content = report(
        model, X, y, X_test=Z, y_test=held_out, n_alphas=4, max_time=60.0, feature_names=names, title="Size"
    )
    return model, X, y, content


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Three classes and four columns with names that want to break out of the page."""
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 3
    X = rng.normal(size=(60, 4)) + 1.5 * np.eye(4)[codes]
    labels = np.array(["a & b", NASTY, "'\"><b>c</b>"])
    model = ConvexNetClassifier(0.05, architecture="gated_relu", patterns=20).fit(X, labels[codes])
    names = [NASTY, "<!-- <script>", "a = \u2028 b", '" onload="alert(1)']
    file = tmp_path_factory.mktemp("report") / "nasty.html"
    content = report(model, X, labels[codes], file, feature_names=names, title=NASTY, n_alphas=3)
    return file, content


class Page(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements[-1:] and self.elements[-1][0] == "script" and data.strip():
            self.scripts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# Numbers


def test_numbers_are_written_for_people() -> None:
    assert [number(x) for x in (0.0, 1.0, -0.25, 1234.5, 12345.6, 2020)] == [
        "0",
        "1",
        f"{MINUS}0.25",
        "1234",
        f"12{THIN}346",
        "2020",
    ]
    assert number(1e-6) == "10⁻⁶" and number(-1.25e7, 2) == f"{MINUS}1.2×10⁷"
    assert number(float("nan")) == "—" and number(float("inf")) == "∞" and number(0.99996) == "1"
    assert signed(0.5) == "+0.5" and signed(-0.5) == f"{MINUS}0.5" and signed(0.0) == "0"
    assert (
        percent(0.0647) == f"6.47{THIN}%"
        and part(0.999999) == f"99.9{THIN}%"
        and part(1.0) == f"100{THIN}%"
    )
    for x in (0.12345678, 98765.4321, 3.3e-9):
        plain_text = number(x, 8).replace(THIN, "")
        if "×" not in plain_text:
            assert float(plain_text) == float(f"{x:.8g}")


# Certificate, path, samples


def test_the_certificate_is_the_estimators(binary: tuple[Pipeline, np.ndarray, np.ndarray, Report]) -> None:
    model, X, y, content = binary
    certificate = model[-1].certificate_
    assert content.certificate == certificate
    text = render(content)
    for value in (certificate.objective, certificate.lower_bound):
        assert f">{number(value, 8)}</dd>" in text
        assert float(number(value, 8)) == float(f"{value:.8g}")
    assert f">{percent(certificate.gap, 3)}</dd>" in text
    assert certificate.sentence()[1:] in text and "Nothing about new data" in text
    assert content.score == model.score(X, y) and content.n_test == 30
    Z, g = small(30, 1)
    assert content.test_score == model.score(Z, np.where(g > 0.3, "yes", "no"))
    assert content.history == tuple(model[-1].history_)


def test_points_of_the_path_are_certified_networks(binary: tuple[Pipeline, Any, Any, Report]) -> None:
    model, _, _, content = binary
    assert len(content.points) == 4 and not content.path_note
    assert [point.mine for point in content.points].count(True) == 1
    alphas = [point.certificate.alpha for point in content.points]
    assert alphas == sorted(alphas, reverse=True) and len(set(alphas)) == 4
    assert content.points[0].certificate.width == 0
    for point in content.points:
        c = point.certificate
        assert c.objective == pytest.approx(point.loss + c.alpha * point.penalty, rel=1e-12)
        assert c.lower_bound <= c.objective
        if point.mine:
            assert c == model[-1].certificate_ and point.score == content.score
        words = point_words(point, content)
        assert words["neurons"] == str(c.width) and words["objective"] == number(c.objective, 6)


def test_a_path_that_was_followed_already() -> None:
    X, y = small()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    options = {"architecture": "gated_relu", "patterns": 10}
    model = ConvexNetRegressor(0.05, **options).fit(X, y)
    alphas = [0.2, 0.05, 0.01]
    found = path(X, y, alphas, **options)
    estimator = ConvexNetPath(alphas, **options).fit(X, y)
    for given in (found, estimator, Pipeline([("path", estimator)])):
        content = report(model, X, y, path=given)
        assert [point.certificate.alpha for point in content.points] == alphas
        assert content.points[1].mine and content.points[1].certificate == model.certificate_
        assert content.points[2].certificate.objective == pytest.approx(found.objectives[2], rel=1e-9)
    with pytest.raises(ValueError, match=r"1 input .*has 2.*same data"):
        report(model, X, y, path=path(X[:, :1], y, alphas, **options))
    with pytest.raises(TypeError, match="ConvexNetPath, 'auto' or None"):
        report(model, X, y, path=[0.1])


def test_strengths_go_round_the_networks_own() -> None:
    for alpha in (1e-6, 0.01, 0.5, 0.9):
        grid = strengths(1.0, alpha, 11)
        assert len(grid) == 11 and grid[0] == pytest.approx(1.0) and np.all(np.diff(grid) < 0)
        assert np.min(np.abs(np.log(grid / alpha))) > 0.04 and grid[-1] < alpha
    assert strengths(1.0, 2.0, 5)[0] == 1.0


def test_samples_are_taken_apart_exactly(binary: tuple[Pipeline, np.ndarray, np.ndarray, Report]) -> None:
    model, X, y, content = binary
    assert len(content.samples) == len(X) and content.worst == 15
    losses = [sample.loss for sample in content.samples[: content.worst]]
    assert losses == sorted(losses, reverse=True)

    def on(values: np.ndarray) -> list[bool]:
        return [bool(neuron.rule(values[None])[0] > 0.0) for neuron in content.neurons]

    smooth = 0
    for sample in content.samples:
        i = int(sample.place.removeprefix("sample "))
        f = model.decision_function(X[i : i + 1])[0]
        assert sample.outputs[0] == pytest.approx(f, rel=1e-12, abs=1e-12)
        assert sample.base[0] + sample.contributions[:, 0].sum() == pytest.approx(f, abs=1e-10)
        assert content.constant[0] + sample.adds[:, 0].sum() == pytest.approx(f, abs=1e-10)
        assert sample.loss == pytest.approx(np.logaddexp(0.0, -f if y[i] == "yes" else f), rel=1e-9)
        assert sample.truth == y[i] and sample.right == (model.predict(X[i : i + 1])[0] == y[i])
        assert sample.sure == pytest.approx(model.predict_proba(X[i : i + 1]).max())
        np.testing.assert_allclose(sample.values, X[i], rtol=1e-12)
        for k, step in enumerate((1e-7, 1e-9)):
            there = X[i].copy()
            there[k] += step
            change = model.decision_function(there[None])[0] - f
            if on(there) == on(X[i]):  # neurons of a sharp solution have samples on their kinks
                smooth += 1
                assert change == pytest.approx(sample.slopes[k, 0] * step, rel=1e-3, abs=1e-12)
        values = X[i : i + 1]
        active = tuple(n.number for n in content.neurons if n.rule(values)[0] > 1e-12)
        assert sample.active == active
    assert smooth >= 1.9 * len(content.samples)


# Neurons


def test_rules_recompute_the_output(binary: tuple[Pipeline, np.ndarray, np.ndarray, Report]) -> None:
    model, X, _, content = binary
    f = content.constant + sum(neuron.adds(X) for neuron in content.neurons)
    np.testing.assert_allclose(f[:, 0], model.decision_function(X), atol=1e-10)
    assert content.neurons[0].rule.names == ("height", "width")
    for neuron in content.neurons:
        whole = neuron.rule(X)
        assert neuron.fires == np.mean(whole > 0)
        assert neuron.rule.agreement == np.mean((neuron.rule.short(X) >= 0) == (whole >= 0))
        assert np.max(np.abs(neuron.outputs)) == pytest.approx(1.0)
        assert neuron.spread == pytest.approx(np.std(neuron.adds(X)))
    assert sum(neuron.importance for neuron in content.neurons) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("phi", "kind", "words"),
    [
        (ReLU(), "relu", "pushes towards yes by S"),
        (LeakyReLU(0.2), "leaky_relu", "0.2·S where S is negative"),
        (Absolute(), "absolute", "by |S|"),
        (Threshold(), "threshold", "by 0.5"),
        (Polynomial(1.0, 2.0, -3.0), "polynomial", f"S² + 2·S {MINUS} 3"),
        (None, "linear", "adds S to the log-odds"),
    ],
)
def test_every_activation_has_its_words(
    phi: Any, kind: str, words: str, binary: tuple[Pipeline, np.ndarray, np.ndarray, Report]
) -> None:
    X, _ = small()
    first, last = (
        Affine(np.array([[0.2], [-3.0]]), np.array([-16.0])),
        Affine(np.array([[0.5]]), np.ones(1)),
    )
    network = Network((first, last) if phi is None else (first, phi, last))
    neurons, order = describe(network, X, plain(["a", "b"]))
    assert [neuron.kind for neuron in neurons] == [kind] and order.tolist() == [0]
    np.testing.assert_allclose(neurons[0].adds(X)[:, 0] + 1.0, network(X), atol=1e-10)
    np.testing.assert_allclose(take_apart(network, X).adds[:, 0, 0] + 1.0, network(X), atol=1e-10)
    line = line_of(neurons[0], binary[3])
    assert words in line["effect"], line


def test_gates_products_and_layers_have_their_words(
    binary: tuple[Pipeline, np.ndarray, np.ndarray, Report],
) -> None:
    X, _ = small()
    w, b = np.array([[0.2], [-3.0]]), np.array([-16.0])
    last = Affine(np.array([[-2.0]]), np.zeros(1))
    gated = Network((Gated(w, b, w + 1.0, b), last))
    product = Network((Affine(np.hstack([w, w + 1.0]), np.array([-16.0, 2.0])), Product(), last))
    for network, kind, letter in ((gated, "gated", "G = "), (product, "product", "T = ")):
        (neuron,), _ = describe(network, X, plain(["a", "b"]))
        assert neuron.kind == kind
        np.testing.assert_allclose(neuron.adds(X)[:, 0], network(X), rtol=1e-10)
        line = line_of(neuron, binary[3])
        assert letter in line["rule"] and "subtracts" in line["effect"]
    deep = Network((Affine(w, b), ReLU(), Affine(np.ones((1, 1)), np.ones(1)), ReLU(), last))
    (neuron,), _ = describe(deep, X, plain(["a", "b"]))
    assert neuron.kind == "deep" and "1 unit" in neuron.note
    parts = unstack(deep, X, plain(["a", "b"]))
    ((unit,),) = parts.layers
    np.testing.assert_allclose(unit.adds(X), deep.layers[1](deep.layers[0](X)), rtol=1e-10)
    (last_neuron,), _ = describe(parts.network, parts.X, parts.columns)
    np.testing.assert_allclose(last_neuron.adds(parts.X)[:, 0], deep(X), rtol=1e-10)
    assert "2·unit 1 + 2" in formula(last_neuron.rule)
    assert unstack(gated, X, plain(["a", "b"])).layers == ()
    content = replace(binary[3], layers=parts.layers)
    page = render(content)
    assert "The 1 unit of layer 1" in page and formula(unit.rule) in page
    with pytest.raises(ValueError, match="no rule in values"):
        neuron.adds(X)


def test_units_of_every_layer_are_rules_about_the_one_in_front() -> None:
    rng = np.random.default_rng(0)
    X, sizes = rng.standard_normal((50, 3)), (3, 5, 4, 2)
    hidden: list = []
    for m, k in pairwise(sizes):
        hidden += [Affine(rng.standard_normal((m, k)), rng.standard_normal(k)), ReLU()]
    network = Network((*hidden, Affine(rng.standard_normal((2, 1)), np.ones(1))))
    parts = unstack(network, X, plain(["a", "b", "c"]))
    assert [len(units) for units in parts.layers] == [5, 4]
    assert all(name.startswith("unit 2.") for name in parts.columns.names)
    # from the data to the output with nothing but the rules and the numbers of the units
    seen = dict(zip("abc", X.T, strict=True))
    for depth, units in enumerate(parts.layers, 1):
        made = {}
        for unit in units:
            assert unit.rule is not None
            values = np.column_stack([seen[name] for name in unit.rule.names])
            made[f"unit {depth}.{unit.number}"] = unit.adds(values).sum(axis=1)
        seen = made
    last, _ = describe(parts.network, parts.X, parts.columns)
    columns = np.column_stack([seen[name] for name in parts.columns.names])
    output = network.intercept + sum(neuron.adds(columns)[:, 0] for neuron in last)
    np.testing.assert_allclose(output, network(X), rtol=1e-10)


def test_formulas_read_as_they_should() -> None:
    X = np.array([[1.0, 0.0, 5.0], [2.0, 1.0, 5.0], [3.0, 0.0, 5.0]])
    network = Network.two_layer(np.array([[2.0], [-1.0], [0.0]]), np.array([-3.0]), np.array([1.0]))
    (neuron,), _ = describe(network, X, plain(["a", "b", "c"]))
    assert formula(neuron.rule) == f"2·a {MINUS} b {MINUS} 3"
    assert neuron.rule.left_out == 0 and neuron.rule.agreement == 1.0
    wide = np.random.default_rng(0).normal(size=(50, 12))
    network = Network.two_layer(np.arange(1.0, 13.0)[:, None], np.zeros(1), np.array([1.0]))
    (neuron,), _ = describe(network, wide, plain(list("abcdefghijkl")))
    assert (
        len(neuron.rule.kept) == 5
        and neuron.rule.left_out == 7
        and set(neuron.rule.kept) <= set(range(4, 12))
    )


def test_filters_are_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4, 4))
    y = np.maximum(X[:, :2, :2].sum(axis=(1, 2)), 0.0)
    model = ConvexNetRegressor(0.05, architecture="cnn_linear").fit(X, y)
    content = report(model, X, y, tmp_path / "cnn.html", path=None)
    assert content.neurons and all(neuron.patch.shape == (3, 3, 1) for neuron in content.neurons)
    for sample in content.samples:
        assert content.constant[0] + sample.adds.sum() == pytest.approx(sample.outputs[0], abs=1e-10)
    images = Page((tmp_path / "cnn.html").read_text()).of("img")
    assert images and all(image["alt"] and image["src"].startswith("data:image/png") for image in images)


# Names and units


def test_columns_go_through_scalers_and_encoders() -> None:
    rng = np.random.default_rng(0)
    import pandas as pd

    frame = pd.DataFrame(
        {
            "size": rng.normal(50.0, 9.0, 40),
            "colour": rng.choice(["red", "blue"], 40),
            "age": rng.uniform(0, 9, 40),
        }
    )
    steps = make_pipeline(RobustScaler(), MinMaxScaler())
    mixed = ColumnTransformer(
        [("n", steps, ["size"]), ("c", OneHotEncoder(), ["colour"]), ("rest", "passthrough", ["age"])]
    ).fit(frame)
    columns = through(mixed, plain(list(frame.columns)))
    assert columns.names == ["size", "[colour = blue]", "[colour = red]", "age"] and not columns.opaque
    Z = np.asarray(mixed.transform(frame))
    values = columns.values(Z)
    np.testing.assert_allclose(values[:, 0], frame["size"])
    np.testing.assert_allclose(values[:, 1], frame["colour"] == "blue")
    np.testing.assert_allclose(columns.inputs(values), Z)
    w = rng.normal(size=4)
    mine, constant = columns.rule(w, 0.5)
    np.testing.assert_allclose(values @ mine + constant, Z @ w + 0.5)


def test_steps_that_mix_columns_are_said() -> None:
    X, y = small()
    model = make_pipeline(StandardScaler(), PCA(2), ConvexNetRegressor(0.1, architecture="linear")).fit(
        X, y
    )
    content = report(model, X, y, path=None)
    assert content.columns == ("pca0", "pca1") and content.opaque == ("PCA",)
    assert any("mixed" in concern.title for concern in content.concerns)
    assert "units of what PCA makes" in render(content)


def test_several_targets_and_frames() -> None:
    import pandas as pd

    X, y = small()
    frame = pd.DataFrame((X - X.mean(axis=0)) / X.std(axis=0), columns=["height", "width"])
    targets = pd.DataFrame({"up": y, "down": -2.0 * y})
    model = ConvexNetRegressor(0.1, architecture="gated_relu", patterns=10).fit(frame, targets)
    content = report(model, frame, targets, n_alphas=3)
    assert content.outputs == ("up", "down") and content.columns == ("height", "width")
    assert content.score == pytest.approx(model.score(frame, targets))
    f = content.constant + sum(neuron.adds(frame.to_numpy()) for neuron in content.neurons)
    np.testing.assert_allclose(f, model.predict(frame), atol=1e-10)
    assert "Explain the output" in render(content)


def test_one_input_has_curves_and_two_a_map(
    binary: tuple[Pipeline, np.ndarray, np.ndarray, Report],
) -> None:
    X = np.linspace(-1.0, 1.0, 30)[:, None]
    model = ConvexNetRegressor(0.01).fit(X, np.abs(X[:, 0]))
    content = report(model, X, np.abs(X[:, 0]), n_alphas=3)
    assert content.canvas is not None and isinstance(content.picture, Picture)
    np.testing.assert_allclose(
        content.picture.curves[0], model.predict(content.canvas.grid[:, None]), atol=1e-12
    )
    assert render(content).count('id="path-picture"') == 1
    unmoved = render(replace(content, points=(), path_note="none"))
    assert 'id="picture"' in unmoved and 'id="alpha"' not in unmoved
    two = binary[3]
    assert two.picture.image.startswith("data:image/png;base64,") and two.points[-1].picture.image


def test_cross_validation_and_poisson() -> None:
    X, f = small()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = (f > 0.3).astype(int)
    model = ConvexNetClassifierCV([0.1, 0.03], cv=2, architecture="gated_relu", patterns=10).fit(X, y)
    content = report(model, X, y, path=None)
    assert dict(content.settings)["alpha"] == f"{model.alpha_:g} (chosen by cross-validation)"
    counts = np.round(np.exp(0.5 * X[:, 0])).astype(float)
    model = ConvexNetRegressor(0.1, loss="poisson", architecture="gated_relu", patterns=10).fit(X, counts)
    content = report(model, X, counts, path=None)
    assert content.unit == "the logarithm of the prediction" and content.score == pytest.approx(
        model.score(X, counts)
    )
    sample = content.samples[0]
    i = int(sample.place.removeprefix("sample "))
    assert math.exp(sample.outputs[0]) == pytest.approx(model.predict(X[i : i + 1])[0])


# What is odd


def concerns(content: Report) -> dict[str, str]:
    return {concern.title.split(".")[0]: concern.advice for concern in content.concerns}


def test_odd_data_are_remarked() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    X[:, 1] = 3.0
    X[:, 2] = 2.0 * X[:, 0] - 1.0
    X[:, 3] *= 1e4
    X[7, 4] = 1e3
    X[1] = X[0]
    y = np.where(np.arange(40) < 2, ["b", "a"] * 20, "a")
    y[5:8] = "b"
    model = ConvexNetClassifier(0.05, architecture="linear", max_iter=5).fit(X, y)
    names = ["one", "still", "twice", "huge", "odd"]
    found = concerns(report(model, X, y, path=None, feature_names=names, X_test=X[8:20], y_test=y[8:20]))
    assert "'still'" in found["Columns that never change"]
    assert "one and twice" in found["Columns that say the same"]
    assert (
        "'huge'" in found["Columns of very different sizes"]
        and "StandardScaler" in found["Columns of very different sizes"]
    )
    assert "1000 in 'odd' (sample 7" in found["Values far outside"]
    assert "sample 0" in found["Equal samples with different targets"]
    assert (
        "'b'" in found["Classes with very few samples"] and "'a'" in found["One class is most of the data"]
    )
    assert "'b'" in found["Classes missing in the held-out data"]
    assert "Fewer samples than columns" not in found


def test_odd_trainings_are_remarked() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 20)), rng.normal(size=12)
    strong = report(ConvexNetRegressor(1e3).fit(X, y), X, y, path=None)
    assert "smaller alpha" in concerns(strong)["The network is a constant"]
    assert "Fewer samples than columns" in concerns(strong)
    assert "There are none" in render(strong) and strong.score == pytest.approx(0.0, abs=1e-12)
    weak = ConvexNetRegressor(1e-3, architecture="gated_relu", patterns=30).fit(X, y)
    learned = report(weak, X, y, path=None, X_test=rng.normal(size=(30, 20)), y_test=rng.normal(size=30))
    assert "cross-validation" in concerns(learned)["Much better on training data than on new data"]
    weak.certificate_ = replace(weak.certificate_, search_gap=0.5, gap=0.6)
    assert "max_iter" in concerns(report(weak, X, y, path=None))["Training was not finished"]
    weak.certificate_ = replace(weak.certificate_, search_gap=1e-9)
    assert "bound" in concerns(report(weak, X, y, path=None))["The proof is looser than the search"]
    weak.history_ = []
    assert "was not kept" in render(report(weak, X, y, path=None))


def test_clean_data_have_no_remarks() -> None:
    X, y = small()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    content = report(ConvexNetRegressor(0.1, architecture="linear").fit(X, y), X, y, path=None)
    assert content.concerns == () and "Nothing was found" in render(content)


# Refusals


def test_other_data_and_objects_are_refused(
    binary: tuple[Pipeline, np.ndarray, np.ndarray, Report],
) -> None:
    model, X, y, _ = binary
    with pytest.raises(ValueError, match=r"was certified: pass the data of the training"):
        report(model, X[:50], y[:50])
    with pytest.raises(ValueError, match=r"labels other than"):
        report(model, X, np.where(y == "yes", "maybe", "no"))
    with pytest.raises(ValueError, match=r"takes 2 features, X has 1"):
        report(model[-1], X[:, :1], y)
    with pytest.raises(ValueError, match=r"X_test and y_test belong together"):
        report(model, X, y, X_test=X)
    with pytest.raises(ValueError, match=r"X_test has 20 samples, y_test 19"):
        report(model, X, y, X_test=X[:20], y_test=y[:19])
    with pytest.raises(ValueError, match=r"X_test holds NaN"):
        report(model[-1], X, y, X_test=np.where(X > 0, np.nan, X), y_test=y)
    with pytest.raises(ValueError, match=r"y_test holds labels other than .* not seen"):
        report(model, X, y, X_test=X, y_test=np.where(y == "yes", "maybe", "no"))
    with pytest.raises(ValueError, match=r"3 names for 2 features"):
        report(model, X, y, feature_names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"n_alphas=1"):
        report(model, X, y, n_alphas=1)
    with pytest.raises(TypeError, match=r"no report on RandomForestClassifier: pass a fitted ConvexNet"):
        report(RandomForestClassifier(), X, y)
    with pytest.raises(TypeError, match=r"no report on Ridge"):
        report(make_pipeline(StandardScaler(), Ridge()), X, y)
    with pytest.raises(NotFittedError):
        report(ConvexNetClassifier(), X, y)


def test_sample_weights_belong_to_the_data() -> None:
    X, y = small()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    weights = np.linspace(0.5, 2.0, len(X))
    model = ConvexNetRegressor(0.1, architecture="linear").fit(X, y, sample_weight=weights)
    assert report(model, X, y, sample_weight=weights, path=None).certificate == model.certificate_
    with pytest.raises(ValueError, match="sample_weight"):
        report(model, X, y, path=None)
    labels = (y > 0.3).astype(int)
    model = ConvexNetClassifier(0.1, architecture="linear", class_weight="balanced").fit(X, labels)
    assert report(model, X, labels, path=None).certificate == model.certificate_


# The page


def test_names_cannot_break_out_of_the_page(nasty: tuple[Path, Report]) -> None:
    file, content = nasty
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert NASTY not in text and not page.of("img") and "c" not in [tag for tag, _ in page.elements]
    assert len(page.of("script")) == 2
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    data = json.loads(page.scripts[0])
    assert data["outputs"] == list(content.classes) and NASTY in data["outputs"]
    assert NASTY in json.dumps(data, ensure_ascii=False)
    assert text.count("<!--") == 0 and "&lt;/script&gt;" in text


def test_the_page_asks_nobody_for_anything(nasty: tuple[Path, Report]) -> None:
    text = nasty[0].read_text(encoding="utf-8")
    page = Page(text)
    addresses = [
        value
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("src", "href", "action", "data", "poster") and value
    ]
    assert addresses and all(value.startswith(("#", "data:")) for value in addresses)
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r"url\(([^)]*)\)", asset("style.css"))) == {"#stripes"} and "@import" not in text
    policy = next(m["content"] for m in page.of("meta") if m.get("http-equiv"))
    assert (
        "default-src 'none'" in policy
        and "unsafe-inline'; script" in policy
        and "unsafe-eval" not in policy
    )


def test_the_page_can_be_read_by_everybody(nasty: tuple[Path, Report]) -> None:
    page = Page(nasty[0].read_text(encoding="utf-8"))
    assert page.of("html")[0]["lang"] == "en" and len(page.of("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    labelled = {attributes.get("for") for attributes in page.of("label")}
    controls = [*page.of("input"), *page.of("select")]
    assert {attributes["id"] for attributes in controls} == {"alpha", "sample", "output"} <= labelled
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table")) > 1
    pictures = [attributes for attributes in page.of("svg") if attributes.get("aria-hidden") != "true"]
    assert pictures and all(
        picture["role"] == "img" and {picture["aria-labelledby"], picture["aria-describedby"]} <= set(ids)
        for picture in pictures
    )
    assert page.of("a")[0]["href"] == "#main" and "main" in ids
    for link in page.of("a"):
        assert link["href"].removeprefix("#") in ids


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255.0 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_in_light_and_dark() -> None:
    blocks = re.findall(r":root \{(.*?)\}", asset("style.css"), re.DOTALL)
    assert len(blocks) == 3  # light, dark, print
    whole = [re.sub(r"#([0-9a-f])([0-9a-f])([0-9a-f])\b", r"#\1\1\2\2\3\3", block) for block in blocks]
    light, dark, paper = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in whole)
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    for colours in (light, dark, {**light, **paper}):
        for ground in ("paper", "card"):
            for text in ("ink", "soft", "blue", "grave"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
            for mark in ("blue-fill", "orange-fill", "green-fill"):
                assert contrast(colours[mark], colours[ground]) >= 3.0, (mark, ground)
        assert contrast(colours["paper"], colours["blue"]) >= 4.5  # the badge


def test_files_stay_small_with_many_samples_columns_and_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(1500) % 8
    X = rng.normal(size=(1500, 60)) + 2.0 * np.eye(60)[codes]
    model = ConvexNetClassifier(0.05, architecture="linear").fit(X, codes)
    content = report(model, X, codes, tmp_path / "large.html", path=None)
    assert len(content.samples) == 200 and "200 samples of 1500" in content.sample_note
    assert len({sample.place for sample in content.samples}) == 200
    assert (tmp_path / "large.html").stat().st_size < 1_000_000


# The command line


def run(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of numbers, text and yes/no, other rows, and a model."""
    folder = tmp_path_factory.mktemp("houses")
    rng = np.random.default_rng(0)
    for name, n in (("houses.csv", 60), ("new.csv", 30)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["size", "colour", "garden", NASTY])
            for _ in range(n):
                size, colour = round(float(rng.normal(100, 25)), 1), rng.choice(["red", "green"])
                garden = rng.random() < 0.5
                price = 2000 * size + 40000 * garden + 30000 * (colour == "red") + rng.normal(0, 8000)
                writer.writerow([size, colour, "yes" if garden else "no", round(price)])
    options = ("--target", NASTY, "--alpha", 0.05, "--architecture", "gated_relu", "--patterns", 20)
    result = run("fit", folder / "houses.csv", *options, "--out", folder / "houses.safetensors")
    assert result.exit_code == 0, result.output
    return folder


def test_report_of_a_model_file(houses: Path) -> None:
    model = houses / "houses.safetensors"
    tables = ("--data", houses / "houses.csv", "--test", houses / "new.csv")
    result = run("report", model, *tables, "--out", houses / "r.html", "--n-alphas", 3)
    assert result.exit_code == 0, result.output
    assert f"Report written to {houses / 'r.html'}." in result.stdout and "alpha" in result.stderr
    text = (houses / "r.html").read_text(encoding="utf-8")
    assert NASTY not in text and "[colour = red]" in text and "[garden = yes]" in text and "test R²" in text
    loaded = Model.load(model)
    assert number(loaded.certificate.objective, 8) in text and 'id="convergence"' in text
    data = json.loads(Page(text).scripts[0])
    assert sum(point["mine"] for point in data["points"]) == 1 and len(data["points"]) == 3
    assert data["samples"][0]["verdict"].startswith("Line ")
    result = run("report", model, *tables, "--out", houses / "n.html", "--no-path", "--title", "Houses")
    assert result.exit_code == 0 and "<h1>Houses</h1>" in (houses / "n.html").read_text()
    assert 'id="alpha"' not in (houses / "n.html").read_text()


def test_rules_of_a_model_file_are_in_the_units_of_the_table(houses: Path) -> None:
    from cvxnn.reporting import from_model, gather
    from cvxnn.tables import read_table

    model, table = Model.load(houses / "houses.safetensors"), read_table(houses / "houses.csv")
    content = gather(from_model("houses", model, table), path=None)
    names = list(content.neurons[0].rule.names)
    assert names == ["size", "[colour = green]", "[colour = red]", "[garden = yes]"]
    values = np.column_stack(
        [
            np.array(table.column("size"), dtype=float),
            np.array(table.column("colour")) == "green",
            np.array(table.column("colour")) == "red",
            np.array(table.column("garden")) == "yes",
        ]
    ).astype(float)
    f = content.constant + sum(neuron.adds(values) for neuron in content.neurons)
    X, _ = model.encoding.apply(table)
    np.testing.assert_allclose(f[:, 0], model.target.decode(model.network(X)), rtol=1e-9)
    for sample in content.samples:
        assert sample.base[0] + sample.contributions.sum() == pytest.approx(sample.outputs[0], rel=1e-9)


def test_refusals_of_the_command(houses: Path) -> None:
    model = houses / "houses.safetensors"
    for arguments, words in (
        (("--data", houses / "new.csv"), "--test"),
        (("--data", houses / "houses.csv", "--target", "size"), "leave --target out"),
        (("--data", houses / "none.csv"), "no file"),
        (("--data", houses / "houses.csv", "--out", houses), "is a folder"),
        (("--data", houses / "houses.csv", "--out", houses / "houses.csv"), "would be overwritten"),
    ):
        result = run("report", model, "--no-path", "--out", houses / "x.html", *arguments)
        lines = result.stderr.splitlines()
        assert result.exit_code == 2 and len(lines) == 1 and lines[0].startswith("error: ")
        assert words in lines[0], lines[0]
    assert not (houses / "x.html").exists()


def test_models_keep_their_history(houses: Path, tmp_path: Path) -> None:
    model = Model.load(houses / "houses.safetensors")
    assert model.history and all(isinstance(moment, Moment) for moment in model.history)
    assert model.history[-1].bound == model.certificate.lower_bound
    assert model.settings["patterns"] == 20 and model.settings["seed"] == 0
    model.save(tmp_path / "again.safetensors")
    again = Model.load(tmp_path / "again.safetensors")
    assert again.history == model.history and again.certificate == model.certificate
    network, header = Network.load(houses / "houses.safetensors")
    before = {
        **header,
        "settings": {k: v for k, v in header["settings"].items() if k not in ("patterns", "seed", "tol")},
    }
    del before["history"]
    network.save(tmp_path / "before.safetensors", before)
    old = Model.load(tmp_path / "before.safetensors")
    assert old.history == () and old.settings["patterns"] == "auto" and old.certificate == model.certificate
    network.save(tmp_path / "later.safetensors", {**header, "history": {"version": 99}})
    assert Model.load(tmp_path / "later.safetensors").history == ()


def test_assets_stand_in_the_package() -> None:
    assert "$body" in asset("page.html") and "prefers-color-scheme: dark" in asset("style.css")
    assert "textContent" in asset("script.js") and "innerHTML" not in asset("script.js")
    assert "@media print" in asset("style.css") and "prefers-reduced-motion" in asset("style.css")
    assert isinstance(plain(["a"]), Columns)
