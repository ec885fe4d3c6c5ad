"""Deep networks trained layer by layer: stages, certificates, and objectives that cannot rise."""

from __future__ import annotations

import time
import warnings
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from cvxnn import ConvexNetClassifier, ConvexNetClassifierCV, ConvexNetRegressor, Network, certify, path
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.layerwise import Layerwise, VectorLayerwise
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import judge
from cvxnn.frozen_layers import copied_by_skip, copied_by_units, features, split, with_skip
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Gated
from cvxnn.network import ReLU as Rectifier
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train


def small(seed=0, n=10, d=2, outputs=1, alpha=0.04, loss="squared_error"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.sin(2.0 * X[:, 0]) + X[:, 1] ** 2
    if outputs > 1:
        y = np.column_stack([y, *(np.cos(k * X[:, 0]) for k in range(1, outputs))])
    return Problem.from_alpha(X, y, None, get_loss(loss, outputs), alpha, False)


def objectives(trained):
    return [stage.certificate.objective for stage in trained.stages]


def test_one_sample_by_hand():
    """x = y = 1: every stage ends at beta - beta^2 / 2, on the same program."""
    beta = 0.3
    problem = Problem(np.ones((1, 1)), np.ones(1), np.ones(1), get_loss("squared_error"), beta)
    trained = train(problem, Layerwise(None, stages=3), tol=1e-9)
    assert objectives(trained) == pytest.approx([beta - beta**2 / 2] * 3, rel=1e-9)
    assert [stage.certificate.frozen for stage in trained.stages] == [0, 1, 2]
    assert trained.network(np.ones((1, 1))) == pytest.approx([1.0 - beta], rel=1e-6)


#: Stages that a copy of the predictor fits into, without and with skip features.
COPIED = [
    *((stage, False) for stage in ("relu", "gated_relu", "absolute")),
    *((stage, True) for stage in ("relu", "gated_relu", "linear")),
]


@pytest.mark.parametrize(("stage", "skip"), COPIED)
@pytest.mark.parametrize("bias", ["penalized", None])
def test_objectives_do_not_rise(stage, skip, bias):
    patterns = 10 if stage == "gated_relu" else "auto"
    trained = train(small(), Layerwise(bias, patterns, 3, stage, skip), tol=1e-7)
    values = objectives(trained)
    assert len(values) == 3
    assert all(b <= a * (1.0 + 1e-10) for a, b in pairwise(values)), values
    for k, done in enumerate(trained.stages):
        assert done.certificate.lower_bound <= done.certificate.objective
        assert done.certificate.frozen == k
    assert trained.certificate == trained.stages[-1].certificate


@pytest.mark.parametrize(
    ("stage", "coupling"), [("relu", "joint"), ("gated_relu", "joint"), ("gated_relu", "separate")]
)
@pytest.mark.parametrize("skip", [False, True])
def test_objectives_of_several_outputs_do_not_rise(stage, coupling, skip):
    patterns = 8 if stage == "gated_relu" else "auto"
    family = VectorLayerwise("penalized", patterns, coupling, 2, stage, skip)
    values = objectives(train(small(outputs=2, n=7), family, tol=1e-6))
    assert values[1] <= values[0] * (1.0 + 1e-10)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_sampled_patterns_are_compared_with_themselves(skip, seed):
    """A copy of the predictor may have other patterns than the listed ones: it is no candidate then."""
    for done in train(small(seed), Layerwise(None, 8, 3, skip=skip), tol=1e-7).stages:
        c = done.certificate
        assert c.scope == "patterns" and c.lower_bound <= c.objective and c.gap <= 1e-4


def test_a_stage_cut_short_leaves_the_one_before():
    class Stopped(ReLU):
        """Is interrupted in its second stage, before the first network."""

        calls = 0

        def train(self, problem, arrangement, oracle, effort):
            type(self).calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return (yield from super().train(problem, arrangement, oracle, effort))

    trained = train(small(), Layerwise(stages=3, stage=Stopped(None)))
    assert len(trained.stages) == 1 and trained.certificate.frozen == 0
    assert len(trained.network.layers) == 3 and trained.stages[0].network is trained.network


def test_leaky_stages_may_rise_and_say_the_truth():
    """A unit of slope 0.5 is no copy of itself: nothing is promised, and the certificate holds."""
    trained = train(small(), Layerwise(None, stages=2, stage=LeakyReLU(None, slope=0.5)), tol=1e-7)
    for done in trained.stages:
        assert done.certificate.lower_bound <= done.certificate.objective


@pytest.mark.parametrize("kind", ["relu", "gated"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_copies_compute_the_same_at_no_more_cost(kind, outputs):
    rng = np.random.default_rng(1)
    X, W, b, V = (
        rng.normal(size=(9, 3)),
        rng.normal(size=(3, 4)),
        rng.normal(size=4),
        rng.normal(size=(4, outputs)),
    )
    last = Affine(V, rng.normal(size=outputs))
    if kind == "relu":
        family = ReLU() if outputs == 1 else get_architecture("relu", "penalized", "auto", outputs)
        top = Network((Affine(W, b), Rectifier(), last))
    else:
        family = get_architecture("gated_relu", "penalized", 5, outputs)
        top = Network((Gated(rng.normal(size=(3, 4)), rng.normal(size=4), W, b), last))
    units = family.hidden_units(top)
    assert (
        family.cost(Network((*units, Affine(np.ones((4, 1)), np.zeros(1))))) == pytest.approx(4.0)
        or outputs > 1
    )
    H = features(units, X)
    by_units = copied_by_units(top, family.hidden_norms(top))
    assert by_units(H) == pytest.approx(top(X), abs=1e-12)
    assert family.cost(by_units) <= family.cost(top) * (1.0 + 1e-12)
    wide = features(with_skip(units), X)
    assert wide == pytest.approx(np.hstack([X, H]), abs=1e-12)
    by_skip = copied_by_skip(top, 4)
    assert by_skip(wide) == pytest.approx(top(X), abs=1e-12)
    assert family.cost(by_skip) == pytest.approx(family.cost(top), rel=1e-12)


def test_the_last_stage_is_the_best_on_its_features():
    """Training the two-layer family on the frozen features gives the same optimum and the same bound."""
    problem = small()
    trained = train(problem, Layerwise(stages=2), tol=1e-8)
    frozen, top = split(trained.network, ReLU.reads)
    inner = Problem(features(frozen, problem.X), problem.y, problem.weights, problem.loss, problem.beta)
    alone = train(inner, ReLU(), tol=1e-8).certificate
    assert trained.certificate.objective == pytest.approx(alone.objective, rel=1e-6)
    assert trained.certificate.lower_bound <= alone.objective * (1.0 + 1e-12)
    assert alone.lower_bound <= trained.certificate.objective * (1.0 + 1e-12)
    assert top.n_features == inner.X.shape[1]


def test_many_starts_of_descent_on_the_last_layers_never_beat_the_bound():
    from scipy.optimize import minimize

    problem = small()
    trained = train(problem, Layerwise(None, stages=2), tol=1e-8)
    frozen, _ = split(trained.network, ReLU.reads)
    H, y, beta, m = features(frozen, problem.X), problem.y, problem.beta, 8
    d = H.shape[1]

    def value(v):
        W, a = v[: d * m].reshape(d, m), v[d * m :]
        T = H @ W
        r = np.maximum(T, 0.0) @ a - y
        slope = np.outer(r, a) * (T > 0)
        grad = np.concatenate([(H.T @ slope + beta * W).ravel(), np.maximum(T, 0.0).T @ r + beta * a])
        return 0.5 * r @ r + 0.5 * beta * v @ v, grad

    rng = np.random.default_rng(0)
    best = min(
        minimize(value, rng.normal(size=d * m + m), jac=True, method="L-BFGS-B").fun for _ in range(20)
    )
    bound = trained.certificate.lower_bound * problem.total_weight
    assert bound <= best * (1.0 + 1e-12)
    assert best <= trained.certificate.objective * problem.total_weight * 1.2  # a rival worth the name


def test_a_deep_network_is_not_judged_by_the_first_stage():
    problem, family = small(), Layerwise(stages=2)
    trained = train(problem, family, tol=1e-6)
    wrong = family.oracle(problem, family.arrange(problem, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="other frozen layers"):
        judge(trained.network, wrong.problem, family, wrong)
    other = train(small(seed=1), family, tol=1e-6).network
    right = family.given(trained.network)
    oracle = right.oracle(problem, right.arrange(problem, np.random.default_rng(0)))
    judge(trained.network, oracle.problem, right, oracle)
    with pytest.raises(ValueError, match="other frozen layers"):
        judge(other, oracle.problem, right, oracle)


def test_estimators_say_what_is_certified(tmp_path):
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    clf = ConvexNetClassifier(alpha=0.01, architecture=Layerwise(stage="gated_relu", patterns=20)).fit(X, y)
    assert [stage.certificate.frozen for stage in clf.stages_] == [0, 1]
    assert clf.certificate_ == clf.stages_[-1].certificate
    assert "last stage" in str(clf.certificate_) and "frozen hidden layer" in clf.certificate_._repr_html_()
    assert "frozen" not in clf.stages_[0].certificate.sentence()
    assert clf.score(X, y) > 0.95
    file = tmp_path / "deep.safetensors"
    clf.network_.save(file)
    loaded, _ = Network.load(file)
    assert np.array_equal(loaded(X), clf.network_(X))
    found = certify(clf, X, y, alpha=0.01)
    assert found.objective == pytest.approx(clf.certificate_.objective, rel=1e-12)
    assert found.frozen == 1 and found.scope == "patterns" and found.gap < 1e-3


@pytest.mark.parametrize("stage", ["cnn", "cnn_circular", "batchnorm", "wedge", "deep_relu"])
def test_what_makes_no_features_is_no_stage(stage):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="pass one of 'absolute'"):
        ConvexNetRegressor(alpha=0.05, architecture=Layerwise(stage=stage)).fit(
            rng.normal(size=(8, 3)), rng.normal(size=8)
        )


def test_certify_two_stages_of_relus():
    """Families of deep networks read these too, the whole of them."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(14, 4)), rng.normal(size=14)
    model = ConvexNetRegressor(alpha=0.05, architecture="layerwise").fit(X, y)
    for found in (
        certify(model, X, y, alpha=0.05),
        certify(model.network_, X, y, alpha=0.05, architecture="layerwise"),
    ):
        assert found.objective == pytest.approx(model.certificate_.objective, rel=1e-12)
        assert found.frozen == 1 and found.lower_bound <= found.objective


def test_certify_a_deep_network_of_somebody_else():
    X, y = load_diabetes(return_X_y=True)
    X, y = (X / X.std(axis=0))[:30, :2], (y[:30] - y.mean()) / y.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = MLPRegressor(
            hidden_layer_sizes=(5, 4), alpha=0.1, solver="lbfgs", max_iter=200, random_state=0
        ).fit(X, y)
    with pytest.raises(ValueError, match="architecture='layerwise'"):
        certify(mlp, X, y, alpha=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = certify(mlp, X, y, alpha=0.01, architecture="layerwise", max_time=2)
    assert found.frozen == 1 and found.lower_bound <= found.objective
    H = np.maximum(X @ mlp.coefs_[0] + mlp.intercepts_[0], 0.0)
    T = np.maximum(H @ mlp.coefs_[1] + mlp.intercepts_[1], 0.0)
    cost = np.linalg.norm(mlp.coefs_[1], axis=0) @ np.abs(mlp.coefs_[2][:, 0])
    f = T @ mlp.coefs_[2][:, 0] + mlp.intercepts_[2][0]
    assert found.objective == pytest.approx(np.mean(0.5 * (f - y) ** 2) + 0.01 * cost, rel=1e-10)


def test_certify_a_deep_torch_network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 4),
        torch.nn.ReLU(),
        torch.nn.Linear(4, 3),
        torch.nn.ReLU(),
        torch.nn.Linear(3, 1, bias=False),
    ).double()
    problem = small()
    found = certify(net, problem.X, problem.y, alpha=0.02, architecture="layerwise", fit_intercept=False)
    f = net(torch.tensor(problem.X)).detach().numpy()[:, 0]
    W, b, a = (p.detach().numpy() for p in list(net.parameters())[2:])
    cost = np.sqrt(np.sum(W**2, axis=1) + b**2) @ np.abs(a[0])
    assert found.objective == pytest.approx(np.mean(0.5 * (f - problem.y) ** 2) + 0.02 * cost, rel=1e-10)
    assert found.frozen == 1 and found.lower_bound <= found.objective


def test_paths_and_cross_validation():
    problem = small(alpha=1.0)
    found = path(
        problem.X, problem.y, architecture=Layerwise("penalized", 10, stage="gated_relu"), n_alphas=4
    )
    assert len(found) == 4 and found.certificates[-1].frozen == 1
    for certificate in found.certificates:
        assert certificate.lower_bound <= certificate.objective
    X, y = load_iris(return_X_y=True)
    X = ((X - X.mean(axis=0)) / X.std(axis=0))[:, 2:]
    cv = ConvexNetClassifierCV(
        n_alphas=2, cv=2, tol=1e-3, architecture=Layerwise("penalized", 10, stage="gated_relu")
    )
    assert cv.fit(X, y).score(X, y) > 0.9
    assert len(cv.network_.layers) == 3


def test_strong_decay_ends_after_the_first_stage():
    problem = small(alpha=1e3)
    trained = train(problem, Layerwise(stages=3))
    assert trained.network.width == 0 and len(trained.stages) == 1


class Noting(ReLU):
    """Notes until when each stage may train."""

    deadlines: ClassVar[list[float]] = []

    def train(self, problem, arrangement, oracle, effort):
        self.deadlines.append(effort.deadline)
        return (yield from super().train(problem, arrangement, oracle, effort))


def test_time_is_shared_between_stages():
    began = time.perf_counter()
    train(small(), Layerwise(stages=4, stage=Noting(None)), max_time=100.0)
    first, *rest = Noting.deadlines
    assert len(rest) == 3 and first - began < 26.0
    assert all(a < b <= began + 101.0 for a, b in pairwise(Noting.deadlines))


def test_command_line(tmp_path):
    from typer.testing import CliRunner

    from cvxnn.cli import app

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    table = tmp_path / "table.csv"
    rows = [f"{a:.6f},{b:.6f},{np.sin(2 * a) + b * b:.6f}" for a, b in X]
    table.write_text("\n".join(["a,b,y", *rows]) + "\n")
    model = tmp_path / "deep.safetensors"
    command = ["fit", str(table), "--target", "y", "--architecture", "layerwise", "--out", str(model)]
    command += [
        "--option",
        "stage=gated_relu",
        "--option",
        "stages=2",
        "--patterns",
        "20",
        "--option",
        "skip=true",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "last stage" in result.output
    result = CliRunner().invoke(app, ["certify", str(model), str(table), "--target", "y"])
    assert result.exit_code == 0
    assert "frozen hidden layer" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Layerwise(stages=0), "stages=0"),
        (Layerwise(stage="layerwise"), "pass one of"),
        (Layerwise(stage="nothing"), "'relu'"),
        (Layerwise(skip="yes"), "True or False"),
        (Layerwise(None, stage="absolute", skip=True), "pass skip=False"),
        (Layerwise(stage=GatedReLU(None, np.ones((3, 2)))), "pass a number"),
    ],
)
def test_bad_parameters(family, message):
    with pytest.raises(ValueError, match=message):
        train(small(), family)


def test_what_has_no_meaning_is_refused():
    problem = small()
    with pytest.raises(ValueError, match="weight decay only"):
        ConvexNetRegressor(architecture="layerwise", penalty="l1").fit(problem.X, problem.y)
    with pytest.raises(ValueError, match="pass None"):
        ConvexNetRegressor(architecture="layerwise", rank=1).fit(problem.X, problem.y)
    with pytest.raises(ValueError, match="no optimal set"):
        model = ConvexNetRegressor(0.05, architecture=Layerwise(stages=1)).fit(problem.X, problem.y)
        model.optimal_set(problem.X, problem.y)
