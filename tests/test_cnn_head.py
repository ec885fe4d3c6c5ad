"""Convolutional ReLU networks with an output weight for every window: other solvers, rivals, entrances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from typer.testing import CliRunner

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, certify, path
from cvxnn.architectures.cnn import CNN, VectorCNN
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.architectures.relu import ReLU
from cvxnn.cli import app
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Network
from cvxnn.patches import folded, unfolded
from cvxnn.pooled_oracles import PooledVectorOracle, window_bounds
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.unfolding import Unfolded, unfold_problem
from cvxnn.vector_growth import Coupling
from cvxnn.vector_oracles import VectorSearch


def plain_problem(X, y, beta=0.2, intercept=False, loss="squared_error"):
    outputs = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    return Problem(
        np.array(X, float), np.array(y, float), np.ones(len(X)), get_loss(loss, outputs), beta, intercept
    )


def optimum(problem, architecture, tol=1e-9):
    """The certificate at the scale of sums."""
    c = train(problem, architecture, tol=tol).certificate
    return c.objective * len(problem.y), c.lower_bound * len(problem.y), c


def directions(patches, count):
    """Unit vectors of the plane, with those at which a patch is on its kink."""
    at = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    rows = patches.reshape(-1, 2)
    rows = rows / np.linalg.norm(rows, axis=1)[:, None]
    turned = np.column_stack([-rows[:, 1], rows[:, 0]])
    return np.concatenate([np.column_stack([np.cos(at), np.sin(at)]), turned, -turned])


def group_lasso(problem, H):
    """The least objective on given unit filters, whose pooled outputs are ``H`` (n, windows, filters)."""
    import cvxpy as cp

    y = problem.y.reshape(len(problem.y), -1)
    groups = [cp.Variable((H.shape[1], y.shape[1])) for _ in range(H.shape[2])]
    f = sum(H[:, :, j] @ group for j, group in enumerate(groups))
    cost = sum(cp.norm(group, "fro") for group in groups)
    stated = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(f - y) + problem.beta * cost))
    stated.solve(solver="CLARABEL")
    return stated.value


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_pixel_has_two_groups(outputs):
    pytest.importorskip("cvxpy")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(7, 4)), rng.normal(size=(7, outputs))
    problem = plain_problem(X, y[:, 0] if outputs == 1 else y)
    family = CNN(kernel=1, hidden_bias=None, pool="flatten").for_outputs(outputs)
    value, bound, certificate = optimum(problem, family)
    H = np.maximum(np.stack([X, -X], axis=2), 0.0)
    assert value == pytest.approx(group_lasso(problem, H), rel=1e-7)
    assert certificate.scope == "global" and value - bound <= 1e-8 * value


@pytest.mark.parametrize(("pool", "pooling"), [("flatten", "mean"), (2, "sum"), (2, "mean")])
def test_no_network_on_a_grid_of_filters_is_better(pool, pooling):
    pytest.importorskip("cvxpy")
    rng = np.random.default_rng(1)
    problem = plain_problem(rng.normal(size=(5, 5)), rng.normal(size=5), 0.1)
    family = CNN(kernel=2, hidden_bias=None, pool=pool, pooling=pooling)
    patches = family.windows_of(5).patches(problem.X)
    H = np.maximum(patches @ directions(patches, 120).T, 0.0)
    if pool == 2:  # four positions make two windows
        H = H.reshape(5, 2, 2, -1).sum(axis=2) / (2.0 if pooling == "mean" else 1.0)
    grid = group_lasso(problem, H)
    value, bound, certificate = optimum(problem, family)
    assert certificate.scope == "global" and value - bound <= 1e-8 * value
    assert bound <= grid * (1 + 1e-9) and grid <= value * (1 + 1e-3)


def rivals(problem, family, outputs, runs=10, filters=6):
    """The least objective of networks trained by L-BFGS from random starts."""
    P = family.windows_of(problem.X.shape[1]).patches(problem.X)
    y, (n, K, patch) = problem.y.reshape(len(P), -1), P.shape
    cut = patch * filters

    def value(v):
        U, V = v[:cut].reshape(patch, filters), v[cut:].reshape(K * filters, outputs)
        T = P @ U
        H = np.maximum(T, 0.0).reshape(n, -1)
        slope = H @ V - y
        back = (T > 0) * (slope @ V.T).reshape(T.shape)
        gU = np.einsum("nkp,nkm->pm", P, back) + problem.beta * U
        gradient = np.concatenate([gU.ravel(), (H.T @ slope + problem.beta * V).ravel()])
        return 0.5 * np.sum(slope**2) + 0.5 * problem.beta * np.sum(v**2), gradient

    rng = np.random.default_rng(4)
    starts = rng.normal(size=(runs, cut + K * filters * outputs)) * 0.5
    return min(minimize(value, start, jac=True, method="L-BFGS-B").fun for start in starts)


@pytest.mark.parametrize(("kernel", "outputs"), [(2, 1), (3, 2), (4, 1), (4, 2)])
def test_no_rival_is_below_the_bound(kernel, outputs):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(5, kernel + 3)), rng.normal(size=(5, outputs))
    problem = plain_problem(X, y[:, 0] if outputs == 1 else y)
    family = CNN(kernel=kernel, hidden_bias=None, pool="flatten").for_outputs(outputs)
    trained = train(problem, family, tol=1e-7)
    certificate, n = trained.certificate, len(X)
    value, bound = certificate.objective * n, certificate.lower_bound * n
    best = rivals(problem, family, outputs)
    assert bound <= best * (1 + 1e-9) and value <= best * (1 + 1e-6)
    assert certificate.search_gap <= 1e-6
    assert certificate.scope == ("bounded" if kernel == 4 else "global")
    assert bound >= 0.6 * value


def test_a_bounded_price_is_the_lower_of_two():
    rng = np.random.default_rng(12)
    problem = plain_problem(rng.normal(size=(6, 4)), rng.normal(size=(6, 2)), intercept=True)
    family = VectorCNN(kernel=2, hidden_bias=None, pool="flatten")
    design, exact = family.design(problem), family.oracle(problem, None)
    rows = VectorSearch(problem, design, Coupling.joint)
    by_matrix = PooledVectorOracle(problem, rows, 3)
    by_windows = PooledVectorOracle(problem, rows, 3, window_bounds(problem, design, 3))
    value = optimum(problem, family)[0]
    for _ in range(2):
        Z = problem.residual(rng.normal(size=(6, 2)))
        true, one, two = (oracle.price(Z) for oracle in (exact, by_matrix, by_windows))
        assert true.scope == "global" and one.scope == two.scope == "bounded"
        assert true.value * (1 - 1e-12) <= two.value <= min(one.value, 2.0 * true.value)
        # moving the dual variable proves more than scaling it
        scaled, moved = (by_matrix.prove(Z, max_iter=k, max_time=60.0) for k in (0, 12))
        assert scaled.bound < moved.bound <= value * (1 + 1e-9)
        assert by_windows.prove(Z, max_iter=0, max_time=60.0).bound <= value * (1 + 1e-9)


def test_poolings_are_ordered():
    """A weight for every position can do what fewer weights can, and gated networks what cones can."""
    rng = np.random.default_rng(6)
    problem = plain_problem(rng.normal(size=(5, 5)), rng.normal(size=5), 0.1)
    family = CNN(kernel=2, hidden_bias=None, pooling="sum")
    # a weight w for each of four positions costs |w| sqrt(4): beta is shared accordingly
    whole = optimum(replace(problem, beta=0.2), family)[0]
    flat = optimum(problem, replace(family, pool="flatten"))[0]
    assert flat <= whole * (1 + 1e-9)
    gated = CNNGated(kernel=2, hidden_bias=None, patterns="all", pool="flatten")
    assert optimum(problem, gated)[0] <= flat * (1 + 1e-7)
    # where there is one position there is nothing to weigh
    one = optimum(problem, CNN(kernel=5, hidden_bias=None, pool="flatten", pooling="sum"), tol=1e-6)
    assert one[0] == pytest.approx(optimum(problem, ReLU(None))[0], rel=1e-5)


def test_a_window_of_all_positions_is_the_pooling_of_all():
    rng = np.random.default_rng(7)
    problem = plain_problem(rng.normal(size=(6, 4)), rng.normal(size=6), intercept=True)
    whole = optimum(problem, CNN(kernel=2))
    window = optimum(problem, CNN(kernel=2, pool=3))
    assert window[0] == pytest.approx(whole[0], rel=1e-7)
    assert window[1] <= whole[0] and whole[1] <= window[0]


def test_unfolding():
    rng = np.random.default_rng(8)
    Z, S = rng.normal(size=(4, 2)), rng.normal(size=(12, 6))
    assert np.sum(unfolded(Z, 3) * S) == pytest.approx(np.sum(Z * folded(S, 3)), rel=1e-12)
    assert np.array_equal(folded(unfolded(Z, 3), 3), 3 * Z)
    for name, y in (("log_loss", np.eye(3)[[0, 1, 2, 1]]), ("log_loss", np.array([1.0, -1, 1, 1]))):
        problem = unfold_problem(plain_problem(np.ones((4, 1)), y, loss=name, intercept=True), 2)
        loss, shape = problem.loss, problem.y.shape
        f, V = rng.normal(size=(2, *shape))
        args = problem.y, problem.weights

        def value(v, loss=loss, shape=shape, args=args):
            return loss.value(v.reshape(shape), *args)

        def slope(v, loss=loss, shape=shape, args=args):
            return loss.gradient(v.reshape(shape), *args).ravel()

        assert check_grad(value, slope, f.ravel()) <= 1e-6
        change = (slope((f + 1e-5 * V).ravel()) - slope((f - 1e-5 * V).ravel())) / 2e-5
        assert change == pytest.approx(loss.curve(f, *args, V).ravel(), abs=1e-8)
        c = loss.intercept(f, *args)
        assert loss.inner.intercept(loss.fold(f + c), *loss._targets(*args)) == pytest.approx(0.0, abs=1e-9)
        Z = -loss.gradient(f, *args)
        total = loss.value(f, *args) + loss.conjugate(-Z, *args)
        assert total == pytest.approx(-np.sum(Z * f), rel=1e-10)
        assert loss.conjugate(Z + 1e-3, *args) == float("inf")
    with pytest.raises(ValueError, match="kinks"):
        Unfolded(get_loss("hinge"), 2)


def test_images_and_entrances(tmp_path):
    rng = np.random.default_rng(9)
    images, y = rng.normal(size=(8, 3, 2)), rng.normal(size=8)
    family = CNN(kernel=(2, 1), pool=(1, 2), hidden_bias=None)
    model = ConvexNetRegressor(alpha=0.05, architecture=family).fit(images, y)
    names = [type(layer).__name__ for layer in model.network_.layers]
    assert names == ["Conv", "ReLU", "Pool", "Affine"]
    filters = model.network_.width
    assert filters > 0 and model.network_.layers[-1].weight.shape == (2 * filters, 1)
    # what the network computes is what the formula says
    flat, (conv, _, _, last) = images.reshape(8, -1), model.network_.layers
    H = np.maximum(conv(flat), 0.0).reshape(8, 2, 2, filters).mean(axis=2)
    f = np.einsum("iwm,wm->i", H, last.weight.reshape(2, filters)) + last.bias[0]
    assert model.predict(images) == pytest.approx(f, abs=1e-12)
    cost = np.linalg.norm(conv.weight, axis=0) @ np.linalg.norm(last.weight.reshape(2, filters), axis=0)
    expected = 0.5 * np.mean((f - y) ** 2) + 0.05 * cost
    assert model.certificate_.objective == pytest.approx(expected, rel=1e-10)
    model.network_.save(tmp_path / "cnn.safetensors")
    network, _ = Network.load(tmp_path / "cnn.safetensors")
    assert np.array_equal(network(flat), model.predict(images))
    verdict = certify(network, images, y, alpha=0.05, max_iter=5)
    assert verdict.objective == pytest.approx(expected, rel=1e-10)
    worse = Network((*network.layers[:-1], Affine(0.9 * last.weight, last.bias)))
    assert certify(worse, images, y, alpha=0.05, max_iter=5).gap > verdict.gap


def test_classes_and_paths():
    rng = np.random.default_rng(10)
    X, y = rng.normal(size=(12, 4)), np.arange(12) % 3
    family = CNN(kernel=2, pool="flatten", hidden_bias=None)
    model = ConvexNetClassifier(alpha=0.05, architecture=family, tol=1e-4).fit(X, y)
    assert model.network_.n_outputs == 3 and model.certificate_.search_gap <= 1e-4
    assert isinstance(family.for_outputs(3), VectorCNN)
    found = path(X, y == 1, loss="log_loss", architecture=family, n_alphas=4, eps=0.1)
    assert found.networks[0].width == 0 and found.networks[-1].width > 0
    for certificate in found.certificates:
        assert certificate.lower_bound <= certificate.objective and certificate.search_gap <= 1e-4


def test_command_line(tmp_path):
    rng = np.random.default_rng(11)
    rows = [",".join(f"{v:.4f}" for v in row) for row in rng.normal(size=(12, 5))]
    table = tmp_path / "signals.csv"
    table.write_text("\n".join(["a,b,c,d,y", *rows]) + "\n")
    out = tmp_path / "model.safetensors"
    options = [
        "--architecture",
        "cnn",
        "--option",
        "kernel=2",
        "--option",
        "pool=flatten",
        "--alpha",
        "0.1",
    ]
    done = CliRunner().invoke(app, ["fit", str(table), "--target", "y", "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    network, _ = Network.load(out)
    assert [type(layer).__name__ for layer in network.layers] == ["Conv", "ReLU", "Affine"]
    judged = CliRunner().invoke(app, ["certify", str(out), str(table), "--target", "y"])
    assert judged.exit_code == 0, judged.output


@pytest.mark.parametrize(
    ("family", "loss", "message"),
    [
        (CNN(kernel=2, pool="some"), "squared_error", "flatten"),
        (CNN(kernel=2, pool=9), "squared_error", "does not fit"),
        (CNN(kernel=2, pool="flatten", pooling="max"), "squared_error", "cnn_max"),
        (CNN(kernel=2, pool="flatten", patterns=5), "squared_error", "pool='all'"),
        (CNN(kernel=2, pool="flatten", patterns="all"), "squared_error", "pool='all'"),
        (CNN(kernel=2, pool="flatten"), "hinge", "kinks"),
    ],
)
def test_bad_parameters(family, loss, message):
    y = np.array([1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match=message):
        train(plain_problem(np.eye(3, 4), y, loss=loss), family)


def test_what_does_not_go_with_windows():
    problem = plain_problem(np.eye(3, 4), np.eye(3))
    with pytest.raises(ValueError, match="joint"):
        train(problem, VectorCNN(kernel=2, pool="flatten", coupling="separate"))
    network = train(problem, VectorCNN(kernel=2, pool="flatten")).network
    with pytest.raises(ValueError, match="pooling"):
        VectorCNN(kernel=2, pool=2).cost(network)
    many = plain_problem(np.ones((30, 1000)), np.ones(30))
    with pytest.raises(ValueError, match="larger pool"):
        CNN(kernel=2, pool="flatten").oracle(many, None)
