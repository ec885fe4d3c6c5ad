"""Layer-wise convolutional networks: stages on frozen convolutions, space to depth, certificates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, LayerwiseConvClassifier, Network, certify, path
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.architectures.layerwise_cnn import LayerwiseCNN
from cvxnn.frozen_layers import depth, features
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Conv, GatedConv, Pool, ReLU
from cvxnn.program import Problem
from cvxnn.train import train


def digits(n=60, classes=2):
    """Images of 4 x 4 pixels, the means of the corners of digits, and targets."""
    X, y = load_digits(return_X_y=True)
    small = X[:n].reshape(n, 4, 2, 4, 2).mean(axis=(2, 4)) / 8.0
    return small, (y[:n] % classes)


def small(n=14, alpha=0.02):
    X = np.random.default_rng(0).normal(size=(n, 16))
    y = np.sin(X[:, 0]) + X[:, 5] * X[:, 6]
    return Problem.from_alpha(X, y, None, get_loss("squared_error"), alpha, True)


def test_one_pixel_by_hand():
    """x = y = 1: every stage ends at beta - beta^2 / 2, on the same program."""
    beta = 0.3
    problem = Problem(np.ones((1, 1)), np.ones(1), np.ones(1), get_loss("squared_error"), beta)
    for stage in ("cnn_gated", "cnn"):
        family = LayerwiseCNN(kernel=1, padding=0, hidden_bias=None, patterns="all", stages=3, stage=stage)
        trained = train(problem, family, tol=1e-9)
        found = [stage.certificate.objective for stage in trained.stages]
        assert found == pytest.approx([beta - beta**2 / 2] * 3, rel=1e-9)
        assert [stage.certificate.frozen for stage in trained.stages] == [0, 1, 2]
        assert trained.network(np.ones((1, 1))) == pytest.approx([1.0 - beta], rel=1e-6)


def test_a_stage_is_the_optimum_on_the_maps_before_it():
    """The second stage is a gated CNN on blocks of 2 x 2 pixels of the first one's filters of norm one."""
    problem = small()
    family = LayerwiseCNN(input_shape=(4, 4), patterns=6, stages=2, down=1)
    trained = train(problem, family, tol=1e-9, max_iter=200)
    first, moved, second, _, last = trained.network.layers
    assert [type(layer) for layer in trained.network.layers] == [GatedConv, Conv, GatedConv, Pool, Affine]
    assert np.sum(first.weight**2, axis=0) + first.bias**2 == pytest.approx(1.0, rel=1e-9)
    assert moved.windows.kernel == moved.windows.stride == (2, 2) and second.windows.shape[:2] == (2, 2)

    maps = features((first, moved), problem.X)
    on_maps = replace(problem, X=maps)
    shape = (2, 2, 4 * first.weight.shape[1])
    gates = np.column_stack([second.gates.T, second.gate_bias])
    alone = CNNGated(input_shape=shape, padding=1, patterns=gates)
    again = train(on_maps, alone, tol=1e-9, max_iter=200)
    # other gates may be closed at the optimum: those of the network are among them
    weight = np.sum(second.weight**2) + np.sum(second.bias**2) + np.sum(last.weight**2)
    explicit = problem.value(trained.network(problem.X), 0.5 * float(weight))
    n = len(problem.X)
    assert trained.certificate.objective * n == pytest.approx(explicit, rel=1e-9)
    assert again.certificate.objective == pytest.approx(trained.certificate.objective, rel=1e-6)
    assert trained.certificate.gap < 1e-6 and trained.certificate.scope == "patterns"


def test_classes_images_and_certify():
    X, y = digits(40, 3)
    family = LayerwiseCNN(patterns=3, stages=2, kernel=2, padding=0)
    model = ConvexNetClassifier(alpha=0.02, architecture=family, loss="squared_error", tol=1e-4)
    model.fit(X, y)
    assert [stage.certificate.frozen for stage in model.stages_] == [0, 1]
    assert "same frozen hidden layer" in str(model.certificate_)
    again = certify(model, X, y, alpha=0.02, tol=1e-4)
    targets = 2.0 * np.eye(3)[y] - 1.0
    bare = certify(model.network_, X, targets, alpha=0.02, tol=1e-4, architecture="layerwise_cnn")
    assert again.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
    assert again.frozen == bare.frozen == 1 and again.scope == "patterns"
    assert again.lower_bound <= again.objective and bare.lower_bound <= bare.objective
    assert max(again.gap, bare.gap) < 1e-3
    with pytest.raises(ValueError, match="architecture='layerwise_cnn'"):
        certify(model.network_, X, targets, alpha=0.02)


def test_relu_stages():
    """Maps behind ReLUs: a convolution and a ReLU are one frozen layer."""
    problem = small(8, 0.01)
    family = LayerwiseCNN(input_shape=(16,), kernel=2, padding=0, patterns=12, stages=2, stage="cnn")
    trained = train(problem, family, tol=1e-6)
    kinds = [Conv, ReLU, Conv, ReLU, Pool, Affine]
    assert [type(layer) for layer in trained.network.layers] == kinds
    assert trained.certificate.frozen == 1 and trained.certificate.gap < 1e-5
    assert trained.network.width == trained.network.layers[2].weight.shape[1]


def test_signals_halve_along_their_axis():
    problem = small()
    family = LayerwiseCNN(input_shape=(16,), patterns=4, stages=3, down=(1, 2))
    trained = train(problem, family, tol=1e-4)
    convolutions = [layer for layer in trained.network.layers if isinstance(layer, GatedConv)]
    assert [layer.windows.shape[:2] for layer in convolutions] == [(16, 1), (8, 1), (4, 1)]
    assert depth(trained.network.layers[:-3]) == trained.certificate.frozen == 2


def test_the_layerwise_classifier_is_judged_by_weight_decay():
    """Its own certificate is about squared norms; under weight decay it is above the optimum."""
    X, y = digits(40, 3)
    model = LayerwiseConvClassifier(0.02, input_shape=(4, 4), stages=2, gates=3, down=(1,), grid=1)
    model.fit(X.reshape(len(X), -1), y)
    found = certify(model, X, y, alpha=0.02, tol=1e-3, max_time=20)
    targets = 2.0 * np.eye(3)[y] - 1.0
    *_, hidden, _, last = model.network_.layers
    residual = model.network_(X.reshape(len(X), -1)) - targets
    filters = np.sqrt(np.sum(hidden.weight**2, axis=0)) @ np.linalg.norm(last.weight, axis=1)
    assert found.objective == pytest.approx(0.5 * np.sum(residual**2) / len(X) + 0.02 * filters, rel=1e-9)
    assert found.frozen == 1 and found.lower_bound < found.objective
    assert found.gap > 1e-3  # ridge regression is not the optimum of weight decay


def test_command_line(tmp_path):
    """Pairs and shapes need no brackets."""
    from typer.testing import CliRunner

    from cvxnn.cli import app
    from cvxnn.models import Model

    X, y = digits(30)
    table, model = tmp_path / "images.csv", tmp_path / "deep.safetensors"
    names = [f"p{k}" for k in range(16)]
    rows = [",".join(map(str, [*x.ravel(), "ab"[t]])) for x, t in zip(X, y, strict=True)]
    table.write_text("\n".join([",".join([*names, "y"]), *rows]) + "\n")
    command = ["fit", str(table), "--target", "y", "--architecture", "layerwise_cnn", "--alpha", "0.005"]
    command += ["--option", "input_shape=4,4", "--option", "kernel=(3, 1)", "--option", "down=1"]
    command += ["--option", "padding=1,0", "--patterns", "4", "--tol", "1e-4", "--out", str(model)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "last stage" in result.output, result.output
    hidden = [layer for layer in Model.load(model).network.layers if isinstance(layer, GatedConv)]
    assert [layer.windows.kernel for layer in hidden] == [(3, 1), (3, 1)]
    assert [layer.windows.shape[:2] for layer in hidden] == [(4, 4), (2, 2)]
    result = CliRunner().invoke(app, ["certify", str(model), str(table), "--target", "y"])
    assert result.exit_code == 0 and "last stage" in result.output, result.output
    command[-1], command[command.index("input_shape=4,4")] = str(tmp_path / "x"), "input_shape=4,5"
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "20 entries and inputs have 16" in result.output


def test_files_keep_the_network(tmp_path):
    problem = small()
    network = train(problem, LayerwiseCNN(input_shape=(4, 4), patterns=4, down=1), tol=1e-3).network
    network.save(tmp_path / "net.safetensors")
    again, _ = Network.load(tmp_path / "net.safetensors")
    assert np.array_equal(again(problem.X), network(problem.X))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (LayerwiseCNN(stages=0), "stages=0"),
        (LayerwiseCNN(down=0), "counted from 0"),
        (LayerwiseCNN(down=(1, "x")), "counted from 0"),
        (LayerwiseCNN(stage="relu"), "'cnn_gated' or 'cnn'"),
        (LayerwiseCNN(stage=4), "'cnn_gated' or 'cnn'"),
        (LayerwiseCNN(input_shape=(4, 4), kernel=2, padding=0, down=1), "leave the stage out of down"),
        (LayerwiseCNN(input_shape=(4, 4), kernel=3, padding=0, stages=3), "window"),
        (LayerwiseCNN(patterns=np.ones((2, 4))), "fit the first stage only"),
        (LayerwiseCNN(input_shape=(4, 5)), "20 entries"),
        (LayerwiseCNN(input_shape=(4, 4), pool=5), "window"),
    ],
    ids=str,
)
def test_refused(family, words):
    problem = small()
    with pytest.raises(ValueError, match=words):
        ConvexNetRegressor(architecture=family).fit(problem.X, problem.y)


def test_an_object_as_stage_says_the_geometry():
    problem = small()
    stage = CNNGated(kernel=2, input_shape=(4, 4), stride=2, hidden_bias=None, patterns=3)
    trained = train(problem, LayerwiseCNN(stage=stage, stages=2), tol=1e-3)
    hidden = [layer for layer in trained.network.layers if isinstance(layer, GatedConv)]
    assert [layer.windows.out for layer in hidden] == [(2, 2), (1, 1)]
    assert not any(np.any(layer.bias) for layer in hidden)
    assert [layer.windows.stride for layer in hidden] == [(2, 2), (2, 2)]


def test_paths_draw_the_gates_that_fits_draw():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 9)), rng.normal(size=6)
    family = LayerwiseCNN(patterns=2, kernel=2, padding=0, input_shape=(3, 3))
    alphas = [0.1, 0.05]
    images = X.reshape(6, 3, 3)
    along = [
        point.certificate.objective for point in path(images, y, alphas=alphas, architecture=family).points
    ]
    alone = [ConvexNetRegressor(a, architecture=family).fit(X, y).certificate_.objective for a in alphas]
    assert along == pytest.approx(alone, rel=1e-4)
