"""Regularisation paths: the threshold, equality with cold fits, certificates, ends before the end."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from cvxnn import Certificate, ConvexNetClassifier, ConvexNetPath, ConvexNetRegressor, alpha_max, path
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import Proof
from cvxnn.losses import LOSSES, get_loss
from cvxnn.paths import Point, concave, grid
from cvxnn.program import Problem, Status
from cvxnn.train import Ground, train

SQUARED = get_loss("squared_error")


def data(n=10, d=2, seed=0, classes=False, loss="squared_error"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.abs(X[:, 0]) - 0.5 * X[:, -1] + 0.1 * rng.normal(size=n)
    if classes or get_loss(loss).classification:
        return X, np.where(y > np.median(y), 1.0, -1.0)
    return (X, np.round(np.exp(y))) if get_loss(loss).nonnegative else (X, y)


@pytest.fixture(scope="module")
def grown():
    """A path on data with too many patterns to list."""
    X, y = data(24, 5)
    return X, y, path(X, y, n_alphas=6, eps=0.05, tol=1e-4, n_bounds=3)


def descended(X, y, alpha, seed):
    """A network trained by L-BFGS on its weights: its objective at balanced layers."""
    rng, (n, d), m = np.random.default_rng(seed), X.shape, 12
    A = np.column_stack([X, np.ones(n)])

    def value(v):
        U, a, c = v[: m * (d + 1)].reshape(m, -1), v[m * (d + 1) : -1], v[-1]
        H = np.maximum(A @ U.T, 0.0)
        r = H @ a + c - y
        back = (H > 0) * (r[:, None] * a) / n
        slope = np.concatenate([(back.T @ A + alpha * U).ravel(), H.T @ r / n + alpha * a, [r.mean()]])
        return 0.5 * np.mean(r**2) + 0.5 * alpha * (np.sum(U**2) + a @ a), slope

    return minimize(value, rng.normal(size=m * (d + 2) + 1), jac=True, method="L-BFGS-B").fun


# The threshold


def test_threshold_by_hand():
    """Orthogonal rows: M(y) is the norm of the positive or of the negative part of y, not of both."""
    y = np.array([3.0, 4.0, -2.0])
    options = {"hidden_bias": None, "fit_intercept": False, "patterns": "all"}
    assert np.allclose(3 * np.array(alpha_max(np.eye(3), y, **options)), 5.0, rtol=1e-9)
    gated = alpha_max(np.eye(3), y, architecture="gated_relu", **options)
    assert np.allclose(3 * np.array(gated), np.sqrt(29.0), rtol=1e-9)  # without cones


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", ["penalized", "free", None])
def test_threshold_against_cvxpy(bias, loss):
    cp = pytest.importorskip("cvxpy")
    X, y = data(6, 2, seed=3, loss=loss)
    found, bound = alpha_max(X, y, loss=loss, hidden_bias=bias)
    assert found <= bound == pytest.approx(found, rel=1e-8 if get_loss(loss).smooth else 2e-6)
    architecture = ReLU(bias, "all")
    for share in (1.001, 0.99):
        problem = Problem.from_alpha(X, y, None, get_loss(loss), share * found, True)
        arrangement = architecture.arrange(problem, np.random.default_rng(0))
        stated, _ = architecture.lift(problem, arrangement).to_cvxpy()
        stated.solve(solver=cp.CLARABEL, tol_gap_rel=1e-11, tol_gap_abs=1e-11, tol_feas=1e-11)
        better = 1.0 - stated.value / problem.null_value()  # grows with the square of 1 - share
        assert better < 1e-9 if share > 1 else better > 1e-5


def test_threshold_by_search(grown):
    X, y, _ = grown
    found, bound = alpha_max(X, y)
    assert 0 < found <= bound <= 1.2 * found
    for alpha, zero in ((found * (1 + 1e-6), True), (0.98 * found, False)):
        network = ConvexNetRegressor(alpha=alpha).fit(X, y).network_
        assert (network.width == 0) is zero
    U = np.random.default_rng(1).normal(size=(1000, 6))
    neurons = np.maximum(np.column_stack([X, np.ones(len(X))]) @ U.T, 0.0) / np.linalg.norm(U, axis=1)
    assert np.max(np.abs((y - y.mean()) @ neurons)) / len(y) <= found


@pytest.mark.parametrize("architecture", ["relu", "gated_relu"])
def test_from_the_threshold_on_the_network_is_zero(architecture):
    X, y = data()
    found, _ = alpha_max(X, y, architecture=architecture)
    result = path(X, y, [0.9 * found, found, 5 * found], architecture=architecture)
    assert result.widths[:2].tolist() == [0, 0] and result.widths[2] > 0
    assert result.networks[0](X) == pytest.approx(y.mean())
    assert all(c.gap < 1e-9 for c in result.certificates[:2])


def test_nothing_to_learn():
    X, _ = data()
    for y, scale in ((np.full(len(X), 3.0), X), (X[:, 0], 0.0 * X)):
        assert alpha_max(scale, y) == pytest.approx((0.0, 0.0), abs=1e-14)
        result = path(scale, y, n_alphas=3)
        assert result.widths.tolist() == [0, 0, 0] and result.alphas[0] == 1.0
        assert all(c.gap < 1e-9 for c in result.certificates)


# The path


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("architecture", ["relu", "gated_relu"])
def test_equals_cold_fits(architecture, loss):
    X, y = data(loss=loss)
    options = {"architecture": architecture, "loss": loss, "tol": 1e-6}
    result = path(X, y, n_alphas=4, eps=0.03, **options)
    kind = ConvexNetClassifier if get_loss(loss).classification else ConvexNetRegressor
    for point in result.points:
        cold = kind(alpha=point.alpha, **options).fit(X, y).certificate_
        warm = point.certificate
        assert warm.objective == pytest.approx(cold.objective, rel=2e-6)
        assert warm.gap <= 1e-6 and warm.scope == cold.scope and point.status is Status.optimal
        assert warm.alpha == pytest.approx(point.alpha, rel=1e-12) and warm.width == point.network.width
        assert max(warm.lower_bound, cold.lower_bound) <= min(warm.objective, cold.objective) * (1 + 1e-12)


def test_a_grown_path(grown):
    X, y, result = grown
    assert result.complete and len(result) == 6 and result.widths[0] == 0
    assert result.alphas == pytest.approx(grid(result.alpha_max, 6, 0.05), rel=1e-12)
    assert all(c.search_gap <= 1e-4 and c.scope == "bounded" for c in result.certificates)
    bounds = [c.lower_bound for c in result.certificates]
    losses = np.array([0.5 * np.mean((network(X) - y) ** 2) for network in result.networks])
    costs = (result.objectives - losses) / result.alphas
    assert np.all(np.diff(losses) < 0) and np.all(np.diff(costs) > 0)
    for i, alpha in enumerate(result.alphas):
        # no other network of the path is better here, and none is below the bound
        assert np.all(losses + alpha * costs >= result.objectives[i] * (1 - 1e-4))
        for seed in range(2):
            assert descended(X, y, alpha, seed) >= bounds[i]
        assert bounds[i] <= result.objectives[i]
    assert np.all(result.seconds >= 0) and "alpha" in str(result) and "6 networks" in repr(result)


def test_bounds_follow_by_concavity(grown):
    X, y, few = grown
    every = path(X, y, few.alphas, n_bounds=None, tol=1e-4)
    for between, tight in zip(few.certificates, every.certificates, strict=True):
        assert between.lower_bound <= tight.lower_bound * (1 + 1e-6)
        assert between.lower_bound >= 0.9 * tight.lower_bound
        assert between.gap == pytest.approx(1 - between.lower_bound / between.objective, abs=1e-12)
    assert few.certificates[-1].lower_bound == pytest.approx(tight.lower_bound, rel=1e-3)


def test_the_concave_majorant():
    network = ReLU().adopt(np.zeros((2, 0)), np.zeros(0), np.zeros(0), 0.0)
    proof = Proof(np.zeros(3), 0.0, "bounded")

    def made(alpha, bound):
        certificate = Certificate(1.0, bound, 1.0 - bound, "bounded", 0.01, 0, alpha)
        return Point(alpha, network, certificate, 1, Status.optimal, 0.0, proof)

    points = [made(*pair) for pair in ((0.4, 0.7), (0.3, 0.1), (0.2, 0.6), (0.1, 0.0))]
    raised = [p.certificate for p in concave(points, 0.8, 0.8)]
    assert [c.lower_bound for c in raised] == pytest.approx([0.7, 0.65, 0.6, 0.3], rel=1e-12)
    assert [c.gap for c in raised] == pytest.approx([0.3, 0.35, 0.4, 0.7], rel=1e-12)
    assert concave([], 1.0, 1.0) == []


def test_starts_lie_on_the_line_through_the_last_two_networks():
    X, y = data(30, 4)
    architecture = GatedReLU(None, 25)
    problem = Problem.from_alpha(X, y, None, SQUARED, 0.1, False)
    ground = Ground.prepare(problem, architecture, np.random.default_rng(0))
    arrangement = ground.arrangement
    assert arrangement is not None
    before, last = (
        train(problem.at(alpha), architecture, ground=ground, tol=1e-9).network for alpha in (0.03, 0.02)
    )
    first, second = (architecture.weights_of(network, arrangement) for network in (before, last))
    same = architecture.extrapolate(problem, arrangement, before, last, 0.0)
    assert same(X) == pytest.approx(last(X))
    found = architecture.weights_of(
        architecture.extrapolate(problem, arrangement, before, last, 0.5), arrangement
    )
    line = second + 0.5 * (second - first)
    ahead = np.sum(line * second, axis=1) > 0
    assert np.any(ahead) and found[ahead] == pytest.approx(line[ahead])
    assert not np.any(found[~ahead])


def test_gated_paths_share_their_gates():
    X, y = data(30, 4)
    result = path(X, y, n_alphas=4, eps=0.05, architecture="gated_relu", patterns=30)
    assert all(c.scope == "patterns" and c.gap <= 1e-5 for c in result.certificates)
    problem = Problem.from_alpha(X, y, None, SQUARED, result.alphas[-1], True)
    architecture = GatedReLU(patterns=30)
    ground = Ground.prepare(problem, architecture, np.random.default_rng(0))
    cold = train(problem, architecture, ground=ground)
    W = architecture.weights_of(cold.network, ground.arrangement)
    f = ground.oracle.operator.apply(W) + cold.network.intercept
    assert f == pytest.approx(cold.network(problem.X), abs=1e-10)
    again = train(problem, architecture, ground=ground, start=cold.network)
    assert again.certificate.objective == pytest.approx(cold.certificate.objective, rel=1e-5)


def test_weights_are_repetitions():
    X, y = data(8, 2)
    weights = np.array([0, 1, 2, 1, 3, 1, 1, 2])
    one = path(X, y, [0.1, 0.01], sample_weight=weights, tol=1e-7)
    two = path(np.repeat(X, weights, axis=0), np.repeat(y, weights), [0.01, 0.1], tol=1e-7)
    assert one.objectives == pytest.approx(two.objectives, rel=1e-6)
    assert one.alpha_max == pytest.approx(two.alpha_max, rel=1e-9)


# Ends before the end


@pytest.mark.parametrize("done", [1, 3])
def test_an_interrupt_returns_the_points_so_far(done):
    X, y = data()
    seen = []

    def stop(point):
        seen.append(point)
        if len(seen) == done:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match=f"ended early: {done} of 5 alphas are done"):
        result = path(X, y, n_alphas=5, callback=stop)
    assert len(result) == done and not result.complete and len(result.asked) == 5
    assert [p.alpha for p in seen] == result.alphas.tolist()


def test_out_of_time():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="ended early: 1 of 5"):
        result = path(X, y, n_alphas=5, max_time=0.0)
    assert result.certificates[0].gap < 1e-6


def test_one_warning_lists_what_did_not_converge():
    X, y = data(24, 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = path(X, y, [0.05, 0.02], max_iter=1, tol=1e-13, n_bounds=0)
    said = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert len(said) == 1 and "0.05, 0.02" in said[0] and "All certificates hold" in said[0]
    assert all(c.lower_bound <= c.objective for c in result.certificates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": []}, "pass a list of at least one strength, or None"),
        ({"alphas": [0.1, -1.0]}, "alpha=-1.0 must be > 0: .* pass a small value"),
        ({"alphas": [0.1, np.nan]}, "must be a finite number > 0"),
        ({"alphas": [[0.1]]}, "pass a list"),
        ({"alphas": ["a"]}, "alpha='a' must be a finite number"),
        ({"eps": 1.0}, "eps=1.0 must be between 0 and 1: pass a small share"),
        ({"eps": 0}, "eps=0 must be between"),
        ({"n_alphas": 0}, "n_alphas=0 must be an integer of at least 1"),
        ({"n_alphas": 2.5}, "n_alphas=2.5 must be an integer"),
        ({"n_bounds": -1}, "n_bounds=-1 must be an integer of at least 0"),
        ({"tol": -1}, "tol=-1 must be a number"),
        ({"max_iter": 0}, "max_iter=0 must be an integer"),
        ({"loss": "log_loss"}, "for numbers pass loss='squared_error'|Unknown label"),
        ({"loss": "hinge?"}, "unknown loss"),
        ({"architecture": "mlp"}, "unknown architecture"),
        ({"class_weight": "balanced"}, "sample_weight instead, or a loss of classes such as 'log_loss'"),
        ({"class_weight": {0: 2.0}, "loss": "huber"}, "with loss='huber' targets are numbers"),
    ],
)  # fmt: skip
def test_messages(options, message):
    with pytest.raises(ValueError, match=message):
        path(*data(), **options)


# The estimator


def test_the_estimator():
    X, y = data()
    model = ConvexNetPath([0.01, 0.1]).fit(X, y)
    assert model.alphas_.tolist() == [0.1, 0.01] and model.n_features_in_ == 2
    f = model.predict(X)
    assert f.shape == (10, 2) and np.array_equal(model.predict(X, alpha=0.01), f[:, 1])
    assert np.array_equal(f[:, 0], model.networks_[0](X))
    assert [c.alpha for c in model.certificates_] == pytest.approx([0.1, 0.01])
    assert model.alpha_max_ == pytest.approx(alpha_max(X, y)[0], rel=1e-9)
    for wrong in (0.05, -1.0):
        with pytest.raises(ValueError, match=r"pass one of alphas_, such as 0\.1"):
            model.predict(X, alpha=wrong)


def test_two_classes():
    X, y = data(classes=True)
    labels = np.where(y > 0, "yes", "no")
    model = ConvexNetPath(n_alphas=3, eps=0.1, loss="log_loss").fit(X, labels)
    assert model.classes_.tolist() == ["no", "yes"]
    outputs = model.decision_function(X)
    assert np.array_equal(model.predict(X) == "yes", outputs > 0)
    assert np.mean(model.predict(X, alpha=model.alphas_[-1]) == labels) >= 0.9
    single = ConvexNetClassifier(alpha=model.alphas_[-1]).fit(X, labels)
    assert model.certificates_[-1].objective == pytest.approx(single.certificate_.objective, rel=1e-4)


@pytest.mark.parametrize(("loss", "weight"), [("log_loss", "balanced"), ("squared_hinge", {"yes": 3.0})])
def test_class_weights(loss, weight):
    """They are sample weights: for every entrance, and as the estimator of one alpha has them."""
    X, y = data(classes=True)
    y[np.flatnonzero(y > 0)[:3]] = -1.0
    labels, s = np.where(y > 0, "yes", "no"), np.linspace(1.0, 2.0, 10)
    single = ConvexNetClassifier(0.1, loss=loss, class_weight=weight, tol=1e-8).fit(X, labels, s)
    options = {"loss": loss, "sample_weight": s, "class_weight": weight}
    point = path(X, labels, [0.1], tol=1e-8, **options).points[0]
    assert point.certificate.objective == pytest.approx(single.certificate_.objective, rel=1e-6)
    model = ConvexNetPath([0.1], loss=loss, class_weight=weight, tol=1e-8).fit(X, labels, s)
    assert model.certificates_[0].objective == pytest.approx(single.certificate_.objective, rel=1e-6)
    of_class = {"yes": 3.0, "no": 1.0}
    if weight == "balanced":
        of_class = {label: np.sum(s) / (2.0 * np.sum(s[labels == label])) for label in of_class}
    both = s * np.array([of_class[label] for label in labels])
    plain = path(X, labels, [0.1], loss=loss, sample_weight=both, tol=1e-8).points[0].certificate
    assert point.certificate.objective == pytest.approx(plain.objective, rel=1e-6)
    known = alpha_max(X, labels, loss=loss, sample_weight=both)
    assert alpha_max(X, labels, **options) == pytest.approx(known, rel=1e-5)
    # not what the same labels cost without weights of classes
    alone = path(X, labels, [0.1], loss=loss, sample_weight=s, tol=1e-8).points[0].certificate
    assert abs(alone.objective / plain.objective - 1.0) > 1e-3
    with pytest.raises(ValueError, match="leaves out a class"):
        path(X, labels, [0.1], loss=loss, class_weight={"yes": 0.0})


def test_verbose(capsys):
    path(*data(), n_alphas=3, verbose=1)
    assert capsys.readouterr().out.count("search gap") == 3


@parametrize_with_checks([ConvexNetPath(n_alphas=3, architecture="gated_relu")])
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("architecture", ["relu", "gated_relu"])
def test_several_outputs(architecture):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 2))
    Y = np.column_stack([np.abs(X[:, 0]), X[:, 1]])
    options = {"architecture": architecture, "hidden_bias": None, "tol": 1e-5}
    model = ConvexNetPath(n_alphas=3, **options).fit(X, Y)
    assert model.predict(X).shape == (24, 2, 3) and model.predict(X, model.alphas_[1]).shape == (24, 2)
    assert model.predict(X)[:, :, 1] == pytest.approx(model.predict(X, model.alphas_[1]))
    # the first neuron enters at the first alpha
    assert model.path_.widths[0] == 0 and model.path_.widths[1] > 0
    assert model.alpha_max_ == pytest.approx(model.alpha_max_bound_, rel=1e-6)
    for point in model.path_.points:
        one = ConvexNetRegressor(point.alpha, **options).fit(X, Y).certificate_
        assert point.certificate.objective == pytest.approx(one.objective, rel=1e-5)
        assert point.certificate.lower_bound <= one.objective


def test_three_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    y = np.array(["a", "b", "c"])[np.argmax(X @ rng.normal(size=(2, 3)), axis=1)]
    model = ConvexNetPath([0.2, 0.02], loss="log_loss", architecture="gated_relu").fit(X, y)
    assert model.decision_function(X).shape == (30, 3, 2) and model.predict(X).shape == (30, 2)
    assert set(model.predict(X, 0.02)) <= set(model.classes_)
    assert np.mean(model.predict(X, 0.02) == y) > 0.9


def test_a_path_refuses_images_of_another_shape():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2, 4)), rng.normal(size=20)
    model = ConvexNetPath(architecture="cnn_linear", alphas=[0.1]).fit(X, y)
    assert model.predict(X).shape == (20, 1)
    with pytest.raises(ValueError, match=r"\(2, 4, 1\): pass such arrays, or rows"):
        model.predict(X.reshape(20, 4, 2))
