"""Convolutional stages: optima against another solver, gaps that hold, and networks that say the same."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_digits

from cvxnn import LayerwiseConvClassifier, Network
from cvxnn.conv_maps import class_maps, leading_filters, means_of_blocks, space_to_depth, with_pixels
from cvxnn.conv_stage import PooledPatches, judge_stage, solve, stage_network
from cvxnn.frozen_layers import features
from cvxnn.patches import Windows


def stage(n=12, shape=(4, 4, 2), gates=3, grid=2, outputs=3, seed=0):
    """A small stage with random maps and targets."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n, int(np.prod(shape))))
    pooled = PooledPatches.draw(maps, Windows(shape, (3, 3), padding=(1, 1)), gates, grid, rng)
    Y = 2.0 * np.eye(outputs)[rng.integers(outputs, size=n)] - 1.0
    return pooled, maps, Y


def objective(pooled, maps, Y, Z, constant, beta):
    F = pooled.of(maps).reshape(len(Y), -1) @ Z.reshape(-1, Y.shape[1]) + constant
    return 0.5 * np.sum((F - Y) ** 2) + 0.5 * beta * np.sum(Z * Z)


def test_features_by_hand():
    """One pixel patches: the mean over a cell of the pixels whose gate is open."""
    pooled = PooledPatches(Windows((2, 2, 1), (1, 1)), np.array([[1.0, -1.0]]), np.zeros(2), 1)
    Phi = pooled.of(np.array([[3.0, -1.0, 2.0, -4.0]]))
    assert Phi.shape == (1, 2, 1, 1)
    assert np.ravel(Phi) == pytest.approx([5.0 / 4.0, -5.0 / 4.0])


@pytest.mark.parametrize("n", [12, 400])
def test_optimum_from_chunks(n, monkeypatch):
    """With more features than samples and with fewer, in one chunk and in many: the same optimum."""
    pooled, maps, Y = stage(n=n)
    assert (pooled.size <= n) == (n == 400)
    Z = solve(pooled, lambda part: maps[part], Y, 0.5)
    monkeypatch.setattr("cvxnn.conv_stage.CHUNK", 5 * 16 * 21)
    monkeypatch.setattr("cvxnn.conv_stage.BLOCK", 2 * n * 4 * 18)
    assert pooled.rows() == 5
    again = solve(pooled, lambda part: maps[part], Y, 0.5)
    assert again == pytest.approx(Z, abs=1e-9)
    verdict = judge_stage(pooled, lambda part: maps[part], Y, again, 0.5)
    assert verdict.certificate.gap <= 1e-9
    assert verdict.certificate.scope == "patterns"
    value = objective(pooled, maps, Y, Z, verdict.constant, 0.5)
    assert verdict.certificate.objective * n == pytest.approx(value, rel=1e-12)


def test_descent_never_beats_the_bound():
    pooled, maps, Y = stage()
    Phi, beta = pooled.of(maps).reshape(len(Y), -1), 0.5

    def value(v):
        Z, c = v[: -Y.shape[1]].reshape(-1, Y.shape[1]), v[-Y.shape[1] :]
        R = Phi @ Z + c - Y
        grad = np.concatenate([(Phi.T @ R + beta * Z).ravel(), R.sum(axis=0)])
        return 0.5 * np.sum(R * R) + 0.5 * beta * np.sum(Z * Z), grad

    start = np.zeros((Phi.shape[1] + 1) * Y.shape[1])
    found = minimize(
        value, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15}
    ).fun
    Z = solve(pooled, lambda part: maps[part], Y, beta)
    bound = judge_stage(pooled, lambda part: maps[part], Y, Z, beta).certificate.lower_bound * len(Y)
    assert bound <= found
    assert bound == pytest.approx(found, rel=1e-6)


def test_the_gap_of_any_weights_holds():
    """Weights that nobody optimised: the bound is below the optimum, and the gap is the formula's."""
    pooled, maps, Y = stage()
    rng, beta = np.random.default_rng(3), 0.5
    Z = solve(pooled, lambda part: maps[part], Y, beta)
    best = judge_stage(pooled, lambda part: maps[part], Y, Z, beta).certificate.objective
    for size in (1e-3, 0.1, 1.0):
        other = Z + size * rng.normal(size=Z.shape)
        verdict = judge_stage(pooled, lambda part: maps[part], Y, other, beta)
        c = verdict.certificate
        assert 0.0 <= c.lower_bound <= best * (1.0 + 1e-12) and c.objective >= best * (1.0 - 1e-12)
        Phi = pooled.of(maps).reshape(len(Y), -1)
        T = Y - Phi @ other.reshape(-1, Y.shape[1]) - verdict.constant
        gap = np.sum((Phi.T @ T - beta * other.reshape(-1, Y.shape[1])) ** 2) / (2 * beta)
        if c.lower_bound > 0.0:
            assert (c.objective - c.lower_bound) * len(Y) == pytest.approx(gap, rel=1e-6)


def test_optimum_against_cvxpy():
    cp = pytest.importorskip("cvxpy")
    pooled, maps, Y = stage()
    Phi = pooled.of(maps).reshape(len(Y), -1)
    W, c = cp.Variable((Phi.shape[1], Y.shape[1])), cp.Variable((1, Y.shape[1]))
    loss = 0.5 * cp.sum_squares(Phi @ W + np.ones((len(Y), 1)) @ c - Y)
    best = cp.Problem(cp.Minimize(loss + 0.25 * cp.sum_squares(W))).solve(solver="CLARABEL")
    Z = solve(pooled, lambda part: maps[part], Y, 0.5)
    found = judge_stage(pooled, lambda part: maps[part], Y, Z, 0.5).certificate
    assert found.objective * len(Y) == pytest.approx(best, rel=1e-6)
    assert found.lower_bound * len(Y) <= best * (1.0 + 1e-7)


def test_the_network_computes_what_the_program_does():
    pooled, maps, Y = stage()
    Z = solve(pooled, lambda part: maps[part], Y, 0.5)
    constant = np.array([0.1, -0.2, 0.3])
    network = stage_network((), pooled, Z, constant)
    F = pooled.of(maps).reshape(len(Y), -1) @ Z.reshape(-1, 3) + constant
    assert network(maps) == pytest.approx(F, abs=1e-10)


def test_space_to_depth_moves_blocks_into_channels():
    X = np.arange(2.0 * 4 * 4 * 3).reshape(2, -1)
    out = space_to_depth((4, 4, 3))(X)
    assert out.shape == X.shape
    images, small = X.reshape(2, 4, 4, 3), out.reshape(2, 2, 2, 12)
    assert np.array_equal(small[1, 1, 0], images[1, 2:4, 0:2].ravel())
    assert np.array_equal(np.sort(out, axis=1), np.sort(X, axis=1))
    means = means_of_blocks((4, 4, 3))(X).reshape(2, 2, 2, 3)
    assert means[1, 1, 0] == pytest.approx(images[1, 2:4, 0:2].mean(axis=(0, 1)))
    for layer in (space_to_depth, means_of_blocks):
        with pytest.raises(ValueError, match="no 2 x 2 blocks"):
            layer((5, 4, 1))


def test_skip_passes_the_maps_on():
    pooled, maps, Y = stage()
    hidden = leading_filters(pooled, solve(pooled, lambda part: maps[part], Y, 0.5), 2)
    assert np.linalg.norm(hidden.weight, axis=0) == pytest.approx(np.ones(6))
    wide = with_pixels(hidden)(maps).reshape(len(Y), 16, 8)
    assert np.array_equal(wide[:, :, :2].reshape(len(Y), -1), maps)
    assert wide[:, :, 2:].reshape(len(Y), -1) == pytest.approx(hidden(maps), abs=1e-12)


def test_class_maps_are_the_outputs_position_by_position():
    """With one cell the mean of the map of an output is the output."""
    pooled, maps, Y = stage(grid=1)
    Z = solve(pooled, lambda part: maps[part], Y, 0.5)
    made = features(class_maps(pooled, Z), maps).reshape(len(Y), -1, Y.shape[1])
    assert made.shape[1] == 16
    outputs = pooled.of(maps).reshape(len(Y), -1) @ Z.reshape(-1, Y.shape[1])
    assert made.mean(axis=1) == pytest.approx(outputs, abs=1e-12)
    P, k = pooled.windows.patches(maps)[3], 5
    opened = P[k] @ pooled.gates + pooled.gate_bias >= 0
    assert made[3, k] == pytest.approx(np.einsum("p,h,phc->c", opened, P[k], Z[:, 0]))


def test_stages_on_class_maps():
    """A map of every class, and with skip the maps of the stage before in front of them."""
    X, y = load_digits(return_X_y=True)
    for skip, half in ((False, {"down": (1,), "downsampling": "mean"}), (True, {"down": ()})):
        clf = LayerwiseConvClassifier(
            (1e-4, 1e-3), input_shape=(8, 8), stages=2, gates=(6, 3), filters="classes", skip=skip, **half
        ).fit(X[:200], y[:200])
        first, second = clf.stages_
        assert (first.certificate.alpha, second.certificate.alpha) == pytest.approx((1e-4, 1e-3))
        assert second.certificate.gap <= 1e-5 and second.certificate.frozen == 1
        *frozen, hidden, _, _ = clf.network_.layers
        assert hidden.windows.shape == ((8, 8, 11) if skip else (4, 4, 10))
        assert len(np.unique(first.network.layers[-3].gates, axis=1).T) == 6
        assert len(np.unique(hidden.gates, axis=1).T) == 3
        maps = features(tuple(frozen), X[:200])
        if skip:
            ratio = maps.reshape(200, 64, 11)[:, :, 0] / (X[:200] - X[:200].mean())
            assert np.ptp(ratio) == pytest.approx(0.0, abs=1e-9)
        assert clf.network_(X[:20]) == pytest.approx(clf.decision_function(X[:20]), abs=1e-9)


@pytest.fixture(scope="module")
def fitted():
    X, y = load_digits(return_X_y=True)
    clf = LayerwiseConvClassifier(1e-3, input_shape=(8, 8), stages=3, gates=6, down=(1,))
    return clf.fit(X[:300], y[:300]), X, y


def test_stages_on_digits(fitted, tmp_path):
    clf, X, y = fitted
    assert [stage.certificate.frozen for stage in clf.stages_] == [0, 1, 2]
    assert all(stage.certificate.gap <= 1e-4 for stage in clf.stages_)
    assert "last stage" in str(clf.certificate_) and "network" in clf.stages_[0].certificate.sentence()
    staged = list(clf.staged_predict(X[300:600]))
    assert len(staged) == 3 and np.array_equal(staged[-1], clf.predict(X[300:600]))
    assert max(np.mean(predicted == y[300:600]) for predicted in staged) > 0.8
    for done, score in zip(clf.stages_, clf.scores_, strict=True):
        outputs = done.network(X[:300])
        assert np.mean(np.argmax(outputs, axis=1) == y[:300]) == pytest.approx(score)
        Y = 2.0 * np.eye(10)[y[:300]] - 1.0
        loss = 0.5 * np.sum((outputs - Y) ** 2) / 300
        assert loss < done.certificate.objective
    file = tmp_path / "conv.safetensors"
    clf.network_.save(file)
    assert np.array_equal(Network.load(file)[0](X[:20]), clf.network_(X[:20]))
    assert clf.network_(X[:20]) == pytest.approx(clf.decision_function(X[:20]), abs=1e-10)


def test_the_certified_objective_is_the_networks_own(fitted):
    """From plain weights: the loss of the outputs, and the squared norms of the matrices of every gate."""
    clf, X, y = fitted
    done = clf.stages_[1]
    hidden, _, last = done.network.layers[-3:]
    gates, which = np.unique(hidden.gates, axis=1, return_inverse=True)
    V = last.weight.reshape(4, hidden.weight.shape[1], 10)
    squares = 0.0
    for p in range(gates.shape[1]):
        own = np.ravel(which) == p
        squares += sum(np.sum((hidden.weight[:, own] @ V[a][own]) ** 2) for a in range(4))
    Y = 2.0 * np.eye(10)[y[:300]] - 1.0
    value = 0.5 * np.sum((done.network(X[:300]) - Y) ** 2) / 300 + 0.5 * clf.alpha * squares
    assert done.certificate.objective == pytest.approx(value, rel=1e-9)


def test_patches_have_unit_norm_at_every_stage(fitted):
    clf, X, _ = fitted
    for done in clf.stages_:
        *frozen, hidden, _, _ = done.network.layers
        P = hidden.windows.patches(features(tuple(frozen), X[:300]))
        inner = P[:, hidden.windows.index().min(axis=1) >= 0]  # windows without padding
        assert 0.3 < np.mean(np.sum(inner**2, axis=2)) < 3.0


def test_precision_and_seeds(fitted):
    clf, X, y = fitted
    again = LayerwiseConvClassifier(1e-3, input_shape=(8, 8), stages=3, gates=6, down=(1,)).fit(
        X[:300], y[:300]
    )
    assert again.certificate_ == clf.certificate_
    exact = LayerwiseConvClassifier(
        1e-3, input_shape=(8, 8), stages=1, gates=6, precision="float64", random_state=1
    )
    exact.fit(X[:300], y[:300])
    assert exact.certificate_.gap <= 1e-9
    assert exact.certificate_.objective != pytest.approx(clf.stages_[0].certificate.objective, rel=1e-3)


#: The devices of torch that are here.
DEVICES = ["cpu", *(["cuda"] if shutil.which("nvidia-smi") else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("samples", [200, 600])
def test_a_device_finds_the_same_network(device, samples, request):
    """More features than samples and fewer; the certificates are those of NumPy's float64."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)  # more only cost time at these sizes
    X, y = load_digits(return_X_y=True)
    options = {"input_shape": (8, 8), "stages": 2, "gates": (6, 4), "filters": 2, "precision": "float64"}
    here = LayerwiseConvClassifier(1e-3, **options, down=(1,)).fit(X[:samples], y[:samples])
    there = LayerwiseConvClassifier(1e-3, **options, down=(1,), device=device)
    there.fit(X[:samples], y[:samples])
    for a, b in zip(here.stages_, there.stages_, strict=True):
        assert b.certificate.objective == pytest.approx(a.certificate.objective, rel=1e-9)
        assert b.certificate.lower_bound == pytest.approx(a.certificate.lower_bound, rel=1e-9)
        assert b.certificate.gap <= 1e-8
    outputs = here.decision_function(X[600:700])
    assert there.decision_function(X[600:700]) == pytest.approx(outputs, abs=1e-7)
    assert there.network_(X[600:700]) == pytest.approx(outputs, abs=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": 3}, "pass None or a device of torch"),
        ({"device": "abacus"}, r"cannot be used \(.*abacus.*pass device=None"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": (1e-2, 1e-3)}, "alpha has 2 values for 3 stages"),
        ({"gates": (2, 0, 2)}, "gates=0"),
        ({"filters": "pixels"}, "at least 1 or 'classes'"),
        ({"stages": 0}, "stages=0"),
        ({"gates": True}, "gates=True"),
        ({"skip": "yes"}, "True or False"),
        ({"grid": 3}, "grid=3 does not divide"),
        ({"precision": "half"}, "'float32' or 'float64'"),
        ({"down": 1}, "pass a tuple"),
        ({"downsampling": "max"}, "'depth' or 'mean'"),
        ({"input_shape": (7, 7)}, "pass 49 columns"),
        ({"down": (0, 1, 2, 3), "stages": 4, "grid": 1}, "no 2 x 2 blocks"),
    ],
)
def test_bad_parameters(options, message):
    X, y = load_digits(return_X_y=True)
    model = LayerwiseConvClassifier(
        **{"alpha": 1e-2, "input_shape": (8, 8), "gates": 2, "down": (), **options}
    )
    with pytest.raises(ValueError, match=message):
        model.fit(X[:60], y[:60])
