"""Exported networks predict what the network predicts: every format on every family, in both precisions."""

from __future__ import annotations

import functools
import importlib
import pickle
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, LayerwiseConvClassifier, Network
from cvxnn.architectures import ARCHITECTURES
from cvxnn.exporters import EXPORTERS, Predictor, get_exporter
from cvxnn.exporters.base import precision
from cvxnn.exporters.onnx_graph import RULES
from cvxnn.layers import (
    LAYERS,
    Absolute,
    Affine,
    Conv,
    Gated,
    GatedConv,
    LeakyReLU,
    Polynomial,
    Pool,
    Product,
    ReLU,
    SkipLeakyReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from cvxnn.losses import LOSSES
from cvxnn.patches import Windows
from cvxnn.reading import read_network
from cvxnn.testing_exports import (
    Compiled,
    away_from_jumps,
    difference,
    example,
    families,
    onnx_session,
    run_exported,
)

#: What a sum of some dozens of numbers may lose, relative to the largest output.
ROUNDING = {"float64": 1e-14, "float32": 2e-6}
#: Libraries and programs that formats need to be run.
NEEDS = {"onnx": ("onnx", "onnxruntime"), "torch": ("torch",), "c": (), "sklearn": ()}


def need(name):
    """Skip a test whose library or compiler is missing."""
    for module in NEEDS[name]:
        pytest.importorskip(module)
    if name == "c" and shutil.which("cc") is None:
        pytest.skip("there is no C compiler 'cc'")


def random_layers(kind, rng):
    """A network with a layer of a kind in the middle, on 12 inputs: weights (12, 6) and behind."""
    first, last = Affine(rng.normal(size=(12, 6)), rng.normal(size=6)), rng.normal(size=(6, 2))
    middle = {
        "ReLU": ReLU(),
        "LeakyReLU": LeakyReLU(np.array([-0.3])),
        "Absolute": Absolute(),
        "Threshold": Threshold(),
        "Polynomial": Polynomial(0.3, np.array([-1.0]), 0.7),
        "SkipReLU": SkipReLU(np.array([2.0])),
        "SkipLeakyReLU": SkipLeakyReLU(2, np.array([-0.3])),
        "SkipThreshold": SkipThreshold(2),
        "Product": Product(),
        "Affine": Affine(rng.normal(size=(6, 6)), rng.normal(size=6)),
        "Gated": Gated(*(rng.normal(size=shape) for shape in ((6, 6), 6, (6, 6), 6))),
    }[kind]
    last = last[: middle.units(6)]
    return (first, middle, Affine(last, rng.normal(size=2)))


def windowed_layers(kind, windows, rng):
    """A network that begins with a layer on windows."""
    size, geometry = windows.patch, windows.to_array()
    if kind == "Conv":
        first = Conv(rng.normal(size=(size, 3)), rng.normal(size=3), geometry)
    elif kind == "GatedConv":
        first = GatedConv(*(rng.normal(size=s) for s in ((size, 3), 3, (size, 3), 3)), geometry)
    else:
        first = Pool.of(kind, windows)
    units = first.units(windows.inputs)
    return (first, ReLU(), Affine(rng.normal(size=(units, 1)), rng.normal(size=1)))


WINDOWS = [
    Windows((4, 3, 2), (2, 3)),
    Windows((5, 4, 1), (3, 2), (2, 1), (2, 1)),
    Windows((5, 4, 2), (3, 2), (2, 3), circular=True),
    Windows((3, 3, 2), (3, 3), circular=True),
    Windows((6, 1, 1), (2, 1), (2, 1)),
]


def test_the_formats_are_these():
    assert list(EXPORTERS) == ["c", "onnx", "sklearn", "torch"]
    assert set(RULES) == set(LAYERS.values())
    assert {name for name, _, _ in families()} == set(ARCHITECTURES)
    with pytest.raises(ValueError, match=r"unknown format 'onxx': pass one of 'c', 'onnx'"):
        get_exporter("onxx")


trained = functools.cache(example)


@pytest.mark.parametrize(("family", "outputs", "skip"), families())
@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_on_every_family(name, family, outputs, skip):
    need(name)
    network, X = trained(family, outputs, skip)
    assert len(X) >= 60 and network.width > 0 and network.n_outputs == outputs
    if name == "sklearn" and not all(isinstance(v, Affine | ReLU) for v in network.layers):
        with pytest.raises(ValueError, match=r"use to_onnx\(\), to_torch\(\) or to_c\(\)"):
            network.to_sklearn()
        return
    for dtype, tol in ROUNDING.items():
        assert difference(name, network, X, dtype) <= tol


@pytest.mark.parametrize("name", ["onnx", "torch", "c"])
def test_every_layer_with_random_weights(name):
    need(name)
    rng = np.random.default_rng(0)
    seen = set()
    networks = [
        Network(random_layers(kind, rng)) for kind in LAYERS if kind not in ("Conv", "GatedConv", "Pool")
    ]
    networks += [
        Network(windowed_layers(kind, windows, rng))
        for kind in ("Conv", "GatedConv", "sum", "mean", "max")
        for windows in (WINDOWS if name != "c" else WINDOWS[1:3])
    ]
    for network in networks:
        X = away_from_jumps(network, rng.normal(size=(40, network.n_features)))
        assert len(X) > 20
        for dtype in ROUNDING if name != "c" else ("float64",):
            assert difference(name, network, X, dtype) <= ROUNDING[dtype], network
        seen |= {type(layer) for layer in network.layers}
    assert seen == set(LAYERS.values())


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_network_without_neurons_is_its_constant(name):
    need(name)
    X = np.zeros((3, 4))
    for layers in (
        (Affine(np.zeros((4, 0)), np.zeros(0)), ReLU(), Affine(np.zeros((0, 2)), np.array([1.5, -1.0]))),
        (
            Conv(np.zeros((4, 0)), np.zeros(0), Windows((2, 2, 1), (2, 2)).to_array()),
            ReLU(),
            Affine(np.zeros((0, 2)), np.array([1.5, -1.0])),
        ),
    ):
        found = run_exported(name, get_exporter(name).export(Predictor(layers)), X)
        assert found.tolist() == [[1.5, -1.0]] * 3


def test_steps_and_gates_at_their_border_are_open():
    """Exactly on the border all formats agree with the network: a gate at zero passes."""
    layers = (Threshold(), Affine(np.array([[2.0], [3.0]]), np.array([1.0])))
    gated = Gated(np.eye(2), np.zeros(2), np.eye(2), np.ones(2))
    for network in (Network((Affine(np.eye(2), np.zeros(2)), *layers)), Network((gated, layers[1]))):
        X = np.array([[0.0, -0.0], [-1.0, 0.0], [1.0, -1e-300]])
        for name in ("onnx", "torch", "c"):
            need(name)
            assert difference(name, network, X) == 0.0


def test_missing_libraries_are_named_with_their_extra(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    network = Network.two_layer(np.eye(2), np.zeros(2), np.ones(2))
    with pytest.raises(ImportError, match=r"onnx is missing: pip install 'cvxnn\[onnx\]'"):
        network.to_onnx()
    with pytest.raises(ImportError, match=r"torch is missing: pip install 'cvxnn\[torch\]'"):
        network.to_torch()


def test_what_cannot_be_exported_says_so():
    network = Network.two_layer(np.eye(2), np.zeros(2), np.ones(2))
    for model in (ConvexNetRegressor(), ConvexNetClassifier(), LayerwiseConvClassifier()):
        for method in ("to_onnx", "to_torch", "to_c", "to_sklearn"):
            with pytest.raises(NotFittedError):
                getattr(model, method)()
    with pytest.raises(ValueError, match="dtype='float16': pass 'float64' or 'float32'"):
        network.to_c("float16")
    for wrong in (None, "x", int):
        with pytest.raises(ValueError, match="pass 'float64' or 'float32'"):
            precision(wrong)
    assert precision(np.float32) == precision("torch.float32") == np.float32
    huge = Network.two_layer(1e60 * np.eye(2), np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="not finite in float32: pass dtype='float64'"):
        huge.to_c("float32")
    assert "1e+60" in huge.to_c()
    for wrong in ("2", "a b", "double", "ä", ""):
        with pytest.raises(ValueError, match="no name of a function"):
            network.to_c(function=wrong)


def test_links_of_losses_are_known():
    f = np.linspace(-2.0, 2.0, 5)
    known = {"identity": lambda f: f, "exp": np.exp}
    for loss in LOSSES.values():
        assert np.array_equal(loss().mean(f), known[loss.inverse_link](f))


LABELS = {
    "integers": [3, 7],
    "bools": [False, True],
    "text": ['say "ö"', "*/ ??/ \\ %s"],
    "three": ["a", "b", "c"],
    "float": [1.0, 2.0, 4.0],
}


@pytest.fixture(scope="module")
def classified():
    """Data of three classes, and classifiers trained on two or three of them, by their labels."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 3))
    codes = np.digitize(X[:, 0] + np.abs(X[:, 1]), [0.3, 1.2])
    models = {}
    for k, (name, labels) in enumerate(LABELS.items()):
        y = np.array(labels)[np.minimum(codes, len(labels) - 1)]
        loss = "squared_hinge" if name == "float" else "log_loss"
        model = ConvexNetClassifier(0.05, architecture="gated_relu" if k % 2 else "linear", loss=loss)
        models[name] = model.fit(X, y)
    return X, models


@pytest.mark.parametrize("labels", LABELS)
def test_classifiers_in_onnx(labels, classified):
    need("onnx")
    X, models = classified
    model = models[labels]
    for dtype, tol in ROUNDING.items():
        proto = model.to_onnx(dtype)
        label, scores = onnx_session(proto).run(None, {"X": X.astype(dtype)})
        assert label.dtype == (object if model.classes_.dtype.kind == "U" else np.int64)
        assert label.tolist() == model.predict(X).tolist() and scores.dtype == dtype
        names = [output.name for output in proto.graph.output]
        if labels == "float":
            assert names == ["label", "scores"]
            assert np.max(np.abs(scores - model.decision_function(X))) <= tol
        else:
            assert names == ["label", "probabilities"]
            assert np.max(np.abs(scores - model.predict_proba(X))) <= tol


@pytest.mark.parametrize("labels", LABELS)
def test_classifiers_in_c(labels, classified, tmp_path):
    need("c")
    X, models = classified
    model = models[labels]
    source = model.to_c()
    with Compiled(source) as program:
        assert np.array_equal(model.classes_[program.numbers(X)], model.predict(X))
        if labels == "float":
            assert "predict_proba" not in source and "math.h" not in source
        else:
            proba = program.probabilities(X, len(model.classes_))
            assert np.max(np.abs(proba - model.predict_proba(X))) <= 1e-14
    path = tmp_path / "network.c"
    path.write_text(model.to_c("float32", function="f_1"), encoding="utf-8")
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-DF_1_MAIN"]
    subprocess.run([*command, str(path), "-o", str(tmp_path / "run"), "-lm"], check=True)
    lines = "\n".join(" ".join(map(repr, row)) for row in X.tolist())
    run = subprocess.run([tmp_path / "run"], input=lines, capture_output=True, text=True, check=True)
    outputs = model.network_.n_outputs
    rows = [line.rsplit(" ", outputs) for line in run.stdout.splitlines()]
    assert [row[0] for row in rows] == [
        str(int(v)) if model.classes_.dtype.kind != "U" else v for v in model.predict(X)
    ]
    shown = np.array([row[1:] for row in rows], dtype=float)
    assert np.max(np.abs(shown - model.decision_function(X).reshape(shown.shape))) < 1e-5
    bad = subprocess.run([tmp_path / "run"], input="1 2", capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stdout == ""


def test_classifiers_in_torch_return_logits(classified):
    torch = pytest.importorskip("torch")
    X, models = classified
    for model in models.values():
        with torch.no_grad():
            found = model.to_torch()(torch.as_tensor(X)).numpy()
        assert np.max(np.abs(found - model.decision_function(X))) <= 1e-14


def test_classifiers_in_scikit_learn(classified):
    X, models = classified
    model = models["bools"]
    with pytest.raises(ValueError, match="no Gated layers"):
        model.to_sklearn()
    for name in ("integers", "text"):
        mlp = models[name].to_sklearn()
        assert isinstance(mlp, MLPClassifier)
        assert np.array_equal(mlp.predict(X), models[name].predict(X))
        assert np.max(np.abs(mlp.predict_proba(X) - models[name].predict_proba(X))) <= 1e-15
    three = models["float"]
    with pytest.warns(UserWarning, match="predict_proba means nothing"):
        mlp = three.to_sklearn()
    assert np.array_equal(mlp.predict(X), three.predict(X))


def test_scikit_learn_reads_layers_between_which_there_is_no_relu():
    rng = np.random.default_rng(0)
    A, B, C = (Affine(rng.normal(size=(3, 3)), rng.normal(size=3)) for _ in range(3))
    X = rng.normal(size=(9, 3))
    for layers in ((A, B, ReLU(), C), (B, ReLU(), ReLU(), A), (A, ReLU(), B, C), (A, B, C)):
        mlp = get_exporter("sklearn").export(Predictor(layers))
        assert isinstance(mlp, MLPRegressor)
        own = X
        for layer in layers:
            own = layer(own)
        assert np.max(np.abs(mlp.predict(X) - own)) <= 1e-13


def test_poisson_networks_predict_means():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    model = ConvexNetRegressor(0.1, architecture="linear", loss="poisson")
    model.fit(X, rng.poisson(np.exp(X[:, 0])))
    for name in ("onnx", "torch", "c"):
        need(name)
        found = run_exported(name, get_exporter(name).export(model.predictor()), X)
        assert np.max(np.abs(found[:, 0] - model.predict(X))) <= 1e-13
        inner = run_exported(name, get_exporter(name).export(model.network_.predictor()), X)
        assert np.max(np.abs(inner[:, 0] - np.log(model.predict(X)))) <= 1e-13
    with pytest.raises(ValueError, match="no exponential"):
        model.to_sklearn()


def test_feature_names_go_along():
    pandas = pytest.importorskip("pandas")
    need("onnx")
    X = pandas.DataFrame({"size": [0.0, 1.0, 2.0, 4.0], "age */": [1.0, 0.0, 1.0, 3.0]})
    model = ConvexNetRegressor(0.1, architecture="linear").fit(X, X["size"])
    said = {prop.key: prop.value for prop in model.to_onnx().metadata_props}
    assert said["columns"] == '["size", "age */"]' and said["library"] == "cvxnn"
    assert said["architecture"] == "linear" and said["layers"] == "Affine -> Affine" and said["version"]
    assert " *   x[1]  age * /\n" in model.to_c()
    assert model.to_sklearn().feature_names_in_.tolist() == ["size", "age */"]


def test_onnx_models_state_what_they_are():
    onnx = pytest.importorskip("onnx")
    network, X = trained("gated_relu")
    for opset in (13, 17, 18, onnx.defs.onnx_opset_version()):
        model = network.to_onnx(opset=opset)
        assert [(i.domain, i.version) for i in model.opset_import] == [("", opset)]
        if opset <= 18:
            assert difference("onnx", network, X) <= 1e-14
    assert network.to_onnx().ir_version == 8 and network.to_onnx().producer_name == "cvxnn"
    for wrong in (12, 99, True, "17"):
        with pytest.raises(ValueError, match="pass an integer from 13 to"):
            network.to_onnx(opset=wrong)


def test_labels_that_no_format_has():
    X = np.array([[0.0], [1.0], [2.0]])
    model = ConvexNetClassifier(0.1, architecture="linear").fit(X, ["a", "b", "b"])
    model.classes_ = np.array([0.5, 1.0])
    for method in ("to_onnx", "to_c"):
        need(method.removeprefix("to_"))
        with pytest.raises(ValueError, match="neither integers nor text"):
            getattr(model, method)()


def test_torch_modules_train_move_and_come_back():
    torch = pytest.importorskip("torch")
    network, X = trained("relu")
    module = network.to_torch()
    assert [type(m).__name__ for m in module] == ["Linear", "ReLU", "Linear", "Flatten"]
    assert module(torch.as_tensor(X)).shape == (len(X),) and not module.training
    assert np.array_equal(read_network(module).network(X), network(X))  # so that certify judges it
    gated, X = trained("gated_relu", 3)
    module = gated.to_torch("float32")
    weights, gates = dict(module.named_parameters()), dict(module.named_buffers())
    assert set(weights) == {"0.affine.weight", "0.affine.bias", "1.weight", "1.bias"}
    assert set(gates) == {"0.gates", "0.gate_bias"} and weights["1.bias"].dtype == torch.float32
    inputs = torch.as_tensor(X, dtype=torch.float32)
    torch.square(module(inputs)).sum().backward()
    assert all(p.grad is not None and torch.any(p.grad != 0) for p in weights.values())
    again = pickle.loads(pickle.dumps(module))
    assert torch.equal(again(inputs), module(inputs))
    other = Network((gated.layers[0], Affine(0 * gated.layers[1].weight, gated.layers[1].bias))).to_torch()
    other.to(torch.float32).load_state_dict(module.state_dict())
    assert torch.equal(other(inputs), module(inputs))


def test_images_of_the_layerwise_classifier():
    need("onnx")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 16)), np.repeat(["cat", "dog"], 20)
    X[y == "dog", :8] += 1.0
    for more in ({}, {"filters": "classes", "downsampling": "mean", "skip": True}):
        model = LayerwiseConvClassifier(1e-2, input_shape=(4, 4, 1), stages=2, gates=4, down=(1,), **more)
        label, scores = onnx_session(model.fit(X, y).to_onnx()).run(None, {"X": X})
        assert label.tolist() == model.predict(X).tolist()
        assert np.max(np.abs(scores - model.decision_function(X))) <= 1e-12


def test_the_breast_cancer_network_in_c_is_small():
    need("c")
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = ConvexNetClassifier(alpha=0.05, max_iter=2, max_time=0.5).fit(X, y)
    for dtype, tol in (("float64", 1e-12), ("float32", 1e-6)):
        rows = X.astype(dtype)
        with Compiled(model.to_c(dtype)) as program:
            proba = program.probabilities(rows, 2)
            assert np.array_equal(program.numbers(rows), model.predict(rows))
        assert np.max(np.abs(proba - model.predict_proba(rows))) <= tol


def test_no_column_name_ends_a_comment_of_c(tmp_path):
    need("c")
    columns = ("a*\\b", "???/", "*/ int q; /*", "line\nbreak")
    layers = Network.two_layer(np.eye(4), np.zeros(4), np.ones(4)).layers
    classes = np.array([-(2**63), 2**62])
    exporter = get_exporter("c")
    source = exporter.export(Predictor(layers, classes=classes, columns=columns))
    path = tmp_path / "names.c"
    path.write_text(source, encoding="utf-8")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c"]
    subprocess.run(["cc", *flags, str(path), "-o", str(tmp_path / "names.o")], check=True)
    for name in ("x", "y", "best", "printf"):
        with pytest.raises(ValueError, match="no name of a function"):
            exporter.export(Predictor(layers), function=name)
