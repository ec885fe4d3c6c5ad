"""Convolutional networks: golden optima, cases by hand, other solvers, and rivals trained directly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from typer.testing import CliRunner

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify
from cvxnn.architectures.cnn import CNN, VectorCNN
from cvxnn.architectures.cnn_circular import CNNCircular, real_fourier
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.architectures.cnn_linear import CNNLinear
from cvxnn.architectures.cnn_max import CNNMax
from cvxnn.architectures.relu import ReLU
from cvxnn.cli import app
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Network
from cvxnn.program import Problem
from cvxnn.train import Ground, choose_solver, train


def plain_problem(X, y, beta=0.1, intercept=False, loss="squared_error"):
    outputs = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    return Problem(
        np.array(X, float), np.array(y, float), np.ones(len(X)), get_loss(loss, outputs), beta, intercept
    )


def optimum(problem, architecture, tol=1e-9):
    """The certificate at the scale of sums."""
    c = train(problem, architecture, tol=tol).certificate
    return c.objective * len(problem.y), c.lower_bound * len(problem.y), c


def golden_family(record):
    p, d = record["params"], len(record["X"][0])
    if record["system"] == "cnn_circular":
        if p["activation"] == "relu":
            return CNNCircular()
        return CNNLinear(kernel=d, padding="circular", hidden_bias=None)
    size = p["filter_size"]
    if p["pooling"] == "max":
        return CNNMax(kernel=size, stride=size, hidden_bias=None)
    pooling = {"sum": "sum", "average": "mean"}[p["pooling"]]
    return CNN(kernel=size, stride=size, pooling=pooling, hidden_bias=None)


def test_golden_optima(golden):
    systems = ("cnn_sum_pool", "cnn_average_pool", "cnn_max_pool", "cnn_circular")
    records = [record for record in golden if record["system"] in systems]
    assert len(records) == 7
    for record in records:
        problem = plain_problem(record["X"], record["Y"], record["params"]["beta"])
        value, bound, certificate = optimum(problem, golden_family(record))
        assert value == pytest.approx(record["optimum"], rel=1e-8), record["id"]
        assert bound <= record["optimum"] * (1 + 1e-8) and value - bound <= 1e-8 * value
        assert certificate.scope == "global"


def test_a_sample_with_opposite_patches():
    # sum_k (x_k u)_+ = |u|: f = |u| a, and 1/2 (f - 2)^2 + f / 2 is least at 1.5
    value, bound, _ = optimum(
        plain_problem([[1.0, -1.0]], [2.0], 0.5), CNN(kernel=1, pooling="sum", hidden_bias=None)
    )
    assert value == pytest.approx(0.875, abs=1e-12) and bound == pytest.approx(0.875, abs=1e-9)


def test_circular_closed_forms():
    # X = I, d = 2: the l1 norm of the transform is shrunk by beta / sqrt(2)
    for y, expected in (((1.0, 1.0), 0.75), ((3.0, 1.0), 2.5)):
        family = CNNLinear(kernel=2, padding="circular", hidden_bias=None)
        assert optimum(plain_problem(np.eye(2), y, 1.0), family)[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", [(5, 1), (4, 1), (3, 4)])
def test_real_fourier_coordinates(shape):
    B, groups = real_fourier(shape)
    v = np.random.default_rng(0).normal(size=len(B))
    z = (B @ v).reshape(shape)
    norm = sum(np.linalg.norm(v[list(row)]) for row in groups)
    assert norm == pytest.approx(np.sum(np.abs(np.fft.fft2(z, norm="ortho"))) / np.sqrt(z.size), rel=1e-12)


def test_a_kernel_as_large_as_the_input_is_a_relu_network():
    rng = np.random.default_rng(1)
    problem = plain_problem(rng.normal(size=(7, 2)), rng.normal(size=7))
    ours, plain = optimum(problem, CNN(kernel=2)), optimum(problem, ReLU())
    assert ours[0] == pytest.approx(plain[0], rel=1e-7) and ours[2].scope == "global"


def test_the_program_is_that_of_cvxpy():
    pytest.importorskip("cvxpy")
    rng = np.random.default_rng(2)
    problem = plain_problem(rng.normal(size=(4, 4)), rng.normal(size=4), 0.2)
    families = (
        CNN(kernel=2, stride=2, hidden_bias=None, patterns="all"),
        CNNGated(kernel=2, hidden_bias=None, patterns=4, pool="flatten"),
        CNNLinear(kernel=2),
    )
    for family in families:
        arrangement = family.arrange(problem, np.random.default_rng(0))
        stated, _ = family.lift(problem, arrangement).to_cvxpy()
        stated.solve(solver="CLARABEL")
        assert optimum(problem, family)[0] == pytest.approx(stated.value, rel=1e-6), family


def test_gated_networks_with_all_gates_are_below():
    rng = np.random.default_rng(3)
    problem = plain_problem(rng.normal(size=(4, 4)), rng.normal(size=4), 0.05)
    relu = optimum(problem, CNN(kernel=2, stride=2, hidden_bias=None))
    gated = optimum(problem, CNNGated(kernel=2, stride=2, hidden_bias=None, patterns="all"))
    assert gated[0] <= relu[0] * (1 + 1e-8)
    linear = optimum(problem, CNNLinear(kernel=2, stride=2, hidden_bias=None, pool="all"))
    assert linear[0] > gated[0] - 1e-9


def rivals(problem, family, outputs, runs=12, filters=6, maximum=False):
    """The least objective of networks trained by L-BFGS from random starts."""
    windows = family.windows_of(problem.X.shape[1])
    P = windows.patches(problem.X)
    y, size = problem.y.reshape(len(P), -1), windows.patch * filters

    def value(v):
        U, V = v[:size].reshape(-1, filters), v[size:].reshape(filters, outputs)
        T = P @ U
        first = np.argmax(T, axis=1)[:, None, :] == np.arange(P.shape[1])[:, None]
        share = first * 1.0 if maximum else np.full(T.shape, 1.0 / P.shape[1])
        H = np.sum(share * np.maximum(T, 0.0), axis=1)
        slope = H @ V - y
        back = share * (T > 0) * (slope @ V.T)[:, None, :]
        gU = np.einsum("nkp,nkm->pm", P, back) + problem.beta * U
        gradient = np.concatenate([gU.ravel(), (H.T @ slope + problem.beta * V).ravel()])
        return 0.5 * np.sum(slope**2) + 0.5 * problem.beta * np.sum(v**2), gradient

    rng = np.random.default_rng(4)
    starts = rng.normal(size=(runs, size + filters * outputs)) * 0.5
    return min(minimize(value, start, jac=True, method="L-BFGS-B").fun for start in starts)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3])
def test_no_rival_is_below_the_bound(outputs, kernel):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(6, 5)), rng.normal(size=(6, outputs))
    problem = plain_problem(X, y[:, 0] if outputs == 1 else y, 0.2)
    family = CNN(kernel=kernel, hidden_bias=None).for_outputs(outputs)
    value, bound, _ = optimum(problem, family, tol=1e-7)
    best = rivals(problem, family, outputs)
    assert bound <= best * (1 + 1e-9)
    assert value <= best * (1 + 1e-6)


def test_no_rival_with_max_pooling_is_below_the_bound():
    rng = np.random.default_rng(12)
    problem = plain_problem(rng.normal(size=(4, 4)), rng.normal(size=4), 0.2)
    family = CNNMax(kernel=2, stride=2, hidden_bias=None)
    value, bound, certificate = optimum(problem, family, tol=1e-8)
    best = rivals(problem, family, 1, maximum=True)
    assert certificate.scope == "global" and bound <= best * (1 + 1e-9)
    assert value <= best * (1 + 1e-6)
    sampled = optimum(problem, replace(family, patterns=5))
    assert sampled[2].scope == "patterns" and sampled[0] >= value * (1 - 1e-9)
    # where images have one position the maximum is the sum
    single = optimum(problem, CNNMax(kernel=4, hidden_bias=None, patterns="all"))
    assert single[0] == pytest.approx(optimum(problem, ReLU(None, "all"))[0], rel=1e-8)


def test_several_outputs_of_one_target_are_one_output():
    rng = np.random.default_rng(6)
    X, y = rng.normal(size=(6, 4)), rng.normal(size=6)
    one = CNN(kernel=2, hidden_bias=None, pooling="sum")
    two = VectorCNN(kernel=2, hidden_bias=None, pooling="sum")
    single = optimum(plain_problem(X, y), one)
    double = optimum(plain_problem(X, np.column_stack([y, 0 * y])), two)
    assert double[0] == pytest.approx(single[0], rel=1e-7) and double[2].scope == "global"


def test_images_go_into_estimators_as_they_are(tmp_path):
    rng = np.random.default_rng(7)
    images, y = rng.normal(size=(10, 2, 3)), rng.normal(size=10)
    family = CNN(kernel=(1, 2), hidden_bias=None)
    model = ConvexNetRegressor(alpha=0.05, architecture=family).fit(images, y)
    flat = images.reshape(10, -1)
    assert np.array_equal(model.predict(images), model.predict(flat))
    shaped = replace(family, input_shape=(2, 3))
    again = ConvexNetRegressor(alpha=0.05, architecture=shaped).fit(flat, y)
    assert again.certificate_ == model.certificate_
    model.network_.save(tmp_path / "cnn.safetensors")
    network, _ = Network.load(tmp_path / "cnn.safetensors")
    assert np.array_equal(network(flat), model.predict(flat)) and network.width == model.network_.width
    for judged in (model, network):
        found = certify(judged, images, y, alpha=0.05, max_iter=5)
        assert found.objective == pytest.approx(model.certificate_.objective, rel=1e-12)
        assert found.lower_bound <= model.certificate_.objective


@pytest.mark.parametrize("name", ["cnn", "cnn_linear", "cnn_gated"])
def test_classes_have_outputs(name):
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(12, 3)), np.arange(12) % 3
    model = ConvexNetClassifier(alpha=0.05, architecture=name, tol=1e-4, hidden_bias=None).fit(X, y)
    assert model.network_.n_outputs == 3 and model.certificate_.search_gap <= 1e-4
    assert np.allclose(np.sum(model.predict_proba(X), axis=1), 1.0)


def test_a_foreign_network_is_judged():
    rng = np.random.default_rng(9)
    X, y = rng.normal(size=(6, 4)), rng.normal(size=6)
    family = CNN(kernel=2, hidden_bias=None)
    trained = train(plain_problem(X, y, 0.6), family).network
    first, *middle, last = trained.layers
    worse = Network(
        (replace(first, weight=1.2 * first.weight), *middle, Affine(0.9 * last.weight, last.bias))
    )
    verdict = certify(worse, X, y, alpha=0.1, fit_intercept=False)
    best = certify(trained, X, y, alpha=0.1, fit_intercept=False)
    assert verdict.scope == "global" and verdict.gap > best.gap
    assert verdict.lower_bound == pytest.approx(best.objective, rel=1e-4)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (CNN(input_shape=(3, 3)), "has 9 entries and inputs have 4"),
        (CNN(kernel=5), "does not fit"),
        (CNN(padding="same"), "circular"),
        (CNN(pooling="max"), "pooling"),
        (CNN(kernel=(1, 2, 3)), "kernel"),
        (CNN(patterns="some"), "patterns"),
        (CNNLinear(hidden_bias="free"), "free"),
        (CNNLinear(pool="some"), "flatten"),
        (CNNLinear(patterns=3), "none"),
        (CNNGated(patterns=np.zeros((2, 2))), "gates must have shape"),
        (CNNGated(pool=9), "does not fit"),
        (CNNCircular(input_shape=(2, 1, 2)), "one channel"),
        (CNNMax(hidden_bias="free"), "free"),
        (CNNMax(patterns="some"), "patterns"),
    ],
)
def test_bad_parameters(family, message):
    problem = plain_problem(np.ones((3, 4)), np.arange(3.0))
    with pytest.raises(ValueError, match=message):
        Ground.prepare(problem, family, np.random.default_rng(0))


def test_networks_of_another_kind_are_refused():
    problem = plain_problem(np.eye(3, 4), np.arange(3.0))
    plain = Network.two_layer(np.ones((4, 1)), np.zeros(1), np.ones(1))
    for family in (CNN(), CNNLinear(), CNNGated(), CNNCircular(), CNNMax()):
        with pytest.raises(ValueError, match="network"):
            family.cost(plain)
        assert family.nothing(problem).width == 0
    other = CNN(kernel=2, hidden_bias=None).nothing(problem)
    with pytest.raises(ValueError, match="geometry"):
        CNN(kernel=3).cost(other)
    with pytest.raises(ValueError, match="rows"):
        ConvexNetRegressor().fit(np.ones((4, 2, 2)), np.arange(4.0))
    with pytest.raises(ValueError, match="where features are"):
        ConvexNetRegressor(architecture="cnn", rank=1).fit(np.eye(4), np.arange(4.0))
    with pytest.raises(ValueError, match="plain weights"):
        certify(
            (np.ones((4, 1)), None, np.ones(1), None), problem.X, problem.y, alpha=0.1, architecture=CNN()
        )


def test_pooled_programs_have_a_solver():
    problem = plain_problem(np.random.default_rng(10).normal(size=(5, 4)), np.arange(5.0))
    family = CNN(kernel=2, hidden_bias=None, patterns=6)
    program = family.lift(problem, family.arrange(problem, np.random.default_rng(0)))
    assert choose_solver(program).name == "interior_point"


def test_command_line(tmp_path):
    rng = np.random.default_rng(11)
    rows = [",".join(f"{v:.4f}" for v in row) for row in rng.normal(size=(12, 5))]
    table = tmp_path / "signals.csv"
    table.write_text("\n".join(["a,b,c,d,y", *rows]) + "\n")
    out = tmp_path / "model.safetensors"
    options = ["--architecture", "cnn_linear", "--option", "kernel=2", "--alpha", "0.1"]
    done = CliRunner().invoke(app, ["fit", str(table), "--target", "y", "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    network, _ = Network.load(out)
    assert network.n_features == 4
    judged = CliRunner().invoke(app, ["certify", str(out), str(table), "--target", "y"])
    assert judged.exit_code == 0, judged.output


def test_bounds_with_free_biases_survive_an_overflow():
    """The line search of a bound that keeps a sum at zero may go too far."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 12)), rng.normal(size=10)
    problem = Problem.from_alpha(X, y, None, get_loss("absolute_error"), 2e-3, True)
    family = CNN(kernel=(1, 2), input_shape=(2, 3, 2), pooling="sum", hidden_bias="free")
    certificate = train(problem, family, max_time=3.0).certificate
    assert 0.0 < certificate.lower_bound <= certificate.objective


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_free_bias_of_means_is_that_of_sums(outputs):
    """The mean of three positions is the sum of a third of them, bias and all."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(7, 4)), rng.normal(size=(7, outputs))
    targets, alpha = (Y, 0.1) if outputs > 1 else (Y[:, 0], 0.02)
    found = []
    for pooling, size in (("mean", 1.0), ("sum", 3.0)):
        family = CNN(kernel=(2, 1), input_shape=(4,), pooling=pooling, hidden_bias="free")
        net = ConvexNetRegressor(alpha=alpha, architecture=family).fit(X / size, targets)
        found.append(net.certificate_)
        assert net.certificate_.width > 0 and (outputs > 1 or net.certificate_.gap <= 1e-5)
        again = certify(net, X / size, targets, alpha=alpha)
        assert again.objective == pytest.approx(net.certificate_.objective, rel=1e-12)
    assert found[0].objective == pytest.approx(found[1].objective, rel=1e-8)
