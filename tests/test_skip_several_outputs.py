"""Linear skip connections of networks with several outputs: by hand, other solvers, descent, refusals."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetClassifier, ConvexNetClassifierCV, ConvexNetRegressor, Network, certify, path
from cvxnn.architectures.absolute import Absolute, VectorAbsolute
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.leaky_relu import LeakyReLU, VectorLeakyReLU
from cvxnn.architectures.linear import Linear, VectorLinear
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.vector_gated import VectorGatedReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.bounds_lift_cells import line_lifts
from cvxnn.bounds_lifted import lifted_price
from cvxnn.bounds_lifts import Lifts
from cvxnn.certificate import judge
from cvxnn.copositive import cell_bound
from cvxnn.layers import LAYERS, Affine, SkipLeakyReLU, SkipReLU
from cvxnn.lifted_oracles import LiftedOracle, with_bound
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train
from cvxnn.vector_bounds import bound
from cvxnn.vector_growth import Coupling, Rows, insert, merge, objective, thin

FAMILIES = [
    VectorReLU(None, skip=True),
    VectorReLU(None, coupling="separate", skip=True),
    VectorLeakyReLU(None, slope=0.3, skip=True),
    VectorAbsolute(None, skip=True),
]


def make(seed, loss="squared_error", *, n=8, d=2, outputs=3, beta=0.1, intercept=False):
    """Targets, or classes, that are linear and something else besides."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    T = X @ rng.normal(size=(d, outputs)) + 0.5 * np.abs(X[:, :1]) + 0.2 * rng.normal(size=(n, outputs))
    y = np.eye(outputs)[np.argmax(T, axis=1)] if loss == "log_loss" else T
    return Problem(X, y, rng.integers(1, 4, n).astype(float), get_loss(loss, outputs), beta, intercept)


def over_cells_of_the_plane(problem, family):
    """The optimum as CVXPY has it, from the borders of the cells alone.

    In the cone of two rays a neuron is ``u = R c`` with ``c >= 0``, and the moments of (c, g) are those
    matrices that are positive semidefinite with ``C_01 >= 0``: there are no others with two of a sign.
    """
    cp = pytest.importorskip("cvxpy")
    X, y, s, outputs = problem.X, problem.y, problem.weights, problem.y.shape[1]
    angle = np.arctan2(X[:, 0], -X[:, 1])
    angle = np.sort(np.mod(np.concatenate([angle, angle + np.pi]), 2.0 * np.pi))
    separate = family.coupling == "separate"
    S = cp.Variable((2, outputs))
    f, cost, limits = X @ S, cp.sum(cp.norm(S, 2, axis=0)) if separate else cp.normNuc(S), []
    for a, b in zip(angle, np.append(angle[1:], angle[0] + 2.0 * np.pi), strict=True):
        R = np.array([[np.cos(a), np.cos(b)], [np.sin(a), np.sin(b)]])
        passed = np.where(X @ R.sum(axis=1) > 0, 1.0, family.leak)[:, None] * X
        for serves in np.eye(outputs)[:, None] if separate else np.eye(outputs)[None]:
            M = cp.Variable((2 + len(serves), 2 + len(serves)), PSD=True)
            limits.append(M[0, 1] >= 0)
            cost += 0.5 * (cp.trace(R @ M[:2, :2] @ R.T) + cp.trace(M[2:, 2:]))
            f = f + passed @ R @ M[:2, 2:] @ serves
    if problem.intercept:
        f = f + np.ones((len(X), 1)) @ cp.Variable((1, outputs))
    if problem.loss.name == "squared_error":
        fit = 0.5 * cp.sum(cp.multiply(s[:, None], cp.square(f - y)))
    else:
        fit = sum(s[i] * (cp.log_sum_exp(f[i]) - y[i] @ f[i]) for i in range(len(X)))
    tol = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
    return cp.Problem(cp.Minimize(fit + problem.beta * cost), limits).solve(solver="CLARABEL", **tol)


@pytest.mark.parametrize(
    ("family", "loss"),
    [
        (FAMILIES[0], "squared_error"),
        (FAMILIES[0], "log_loss"),
        (FAMILIES[1], "squared_error"),
        (FAMILIES[2], "log_loss"),
        (FAMILIES[3], "squared_error"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_the_optimum_is_that_of_another_solver_over_all_cells(family, loss):
    for seed, intercept in ((0, False), (1, True)):
        problem = make(seed, loss, n=6, outputs=2 + seed, intercept=intercept)
        c = train(problem, family, tol=1e-9).certificate
        assert c.scope == "global" and c.gap <= 1e-6
        value = over_cells_of_the_plane(problem, family) / problem.total_weight
        assert value == pytest.approx(c.objective, rel=1e-6)


def test_a_linear_map_by_hand():
    """Of samples with their opposites other neurons see half: the map has reduced singular values."""
    rng = np.random.default_rng(0)
    Q, left, right = (np.linalg.qr(rng.normal(size=(k, 3)))[0] for k in (4, 3, 3))
    size, beta = np.array([3.0, 1.0, 0.2]), 0.6
    target = Q @ (left * size) @ right.T
    X, y = np.vstack([Q, -Q]), np.vstack([target, -target])
    problem = Problem(X, y, np.ones(8), get_loss("squared_error", 3), beta, False)
    kept = np.maximum(size - beta / 2, 0.0)
    optimum = np.sum((size - kept) ** 2) + beta * np.sum(kept)
    trained = train(problem, VectorReLU(None, skip=True), tol=1e-9)
    assert trained.certificate.objective * 8 == pytest.approx(optimum, rel=1e-8)
    assert trained.certificate.search_gap <= 1e-8
    net = trained.network
    assert isinstance(net.layers[1], SkipReLU) and net.width == net.layers[1].passed == 2
    assert net(np.eye(3)) == pytest.approx((left * kept) @ right.T, abs=1e-4)


def test_one_target_beside_zeros_is_one_output():
    problem = make(2, n=9)
    two = Problem(problem.X, np.column_stack([problem.y[:, 0], 0 * problem.y[:, 0]]), problem.weights,
                  problem.loss, problem.beta, True)  # fmt: skip
    one = Problem(
        problem.X, problem.y[:, 0], problem.weights, get_loss("squared_error"), problem.beta, True
    )
    for single, several in ((ReLU, VectorReLU), (Absolute, VectorAbsolute)):
        found = [train(one, single(skip=True), tol=1e-8), train(two, several(skip=True), tol=1e-8)]
        a, b = (trained.certificate.objective for trained in found)
        assert a == pytest.approx(b, rel=1e-7)


def descend(problem, seed, bent=12, lines=3):
    """Plain weight decay on all weights of both kinds of neurons, by L-BFGS from random ones."""
    rng, (n, d), k, m = np.random.default_rng(seed), problem.X.shape, problem.y.shape[1], bent + lines
    A, straight = np.column_stack([problem.X, np.ones(n)]), np.arange(m) >= bent

    def value(v):
        W, V = v[: m * (d + 1)].reshape(m, d + 1), v[m * (d + 1) :].reshape(m, k)
        T = A @ W.T
        slope = np.where((T > 0) | straight, 1.0, 0.0)
        f = (slope * T) @ V
        G = problem.loss.gradient(f, problem.y, problem.weights)
        decay = 0.5 * problem.beta * (np.sum(W**2) + np.sum(V**2))
        gW = (slope * (G @ V.T)).T @ A + problem.beta * W
        gV = (slope * T).T @ G + problem.beta * V
        total = problem.loss.value(f, problem.y, problem.weights) + decay
        return total, np.concatenate([gW.ravel(), gV.ravel()])

    first = 0.5 * rng.normal(size=m * (d + 1 + k))
    return minimize(value, first, jac=True, method="L-BFGS-B", options={"maxiter": 600}).fun


def test_descent_from_many_starts_is_never_below_the_bound_nor_far_below_the_objective():
    family = VectorReLU(skip=True)
    problem = make(4, "log_loss", n=13, d=4, beta=0.5)
    trained = train(problem, family, tol=1e-7)
    c, total = trained.certificate, problem.total_weight
    best = min(descend(problem, seed) for seed in range(6)) / total
    assert c.scope == "bounded" and c.search_gap <= 1e-6
    assert c.lower_bound <= best and c.objective <= best * (1.0 + 1e-6)
    # of so few samples that is the lifted bound: it has lines among its neurons, and proves more
    oracle = family.oracle(problem, None)
    assert type(with_bound(oracle, "auto")) is LiftedOracle
    own = judge(trained.network, problem, family, oracle, duals=(trained.dual,))
    assert own.lower_bound < c.lower_bound and c.gap < 0.6 * own.gap


@pytest.mark.parametrize(("outputs", "separate"), [(1, True), (3, False), (3, True)])
def test_the_price_of_lifted_lines_is_the_largest_singular_value(outputs, separate):
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(5, 3)), rng.normal(size=(5, outputs))
    lines = line_lifts(X, outputs, separate)
    exact = np.max(np.linalg.norm(X.T @ Z, axis=0)) if separate else np.linalg.norm(X.T @ Z, 2)
    found = max(np.linalg.eigvalsh(np.linalg.solve(line.cost, line.gain(Z)))[-1] for line in lines)
    assert found == pytest.approx(exact, rel=1e-12)
    assert lifted_price(Lifts(lines, np.zeros(5)), Z) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("family", "loss"), list(zip(FAMILIES, ["log_loss", "squared_error"] * 2, strict=True)), ids=repr
)
def test_a_skip_connection_never_hurts(family, loss):
    problem, plain = make(4, loss), replace(family, skip=False)
    found, without = train(problem, family, tol=1e-7), train(problem, plain, tol=1e-7)
    assert found.certificate.search_gap <= 1e-6
    assert found.certificate.objective <= without.certificate.objective * (1.0 + 1e-6)
    # and a network without one is of the family
    assert family.cost(without.network) == pytest.approx(plain.cost(without.network), rel=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.6, -0.4, -1.0])
def test_the_matrix_bound_is_above_the_price_of_lines(slope):
    rng = np.random.default_rng(0)
    for _ in range(20):
        n, d, outputs = rng.integers(2, 20), rng.integers(1, 6), rng.integers(2, 5)
        X, Z = rng.normal(size=(n, d)), rng.normal(size=(n, outputs))
        line = np.linalg.norm(X.T @ Z, 2)
        assert bound(X, Z, 3.0 * rng.normal(size=n), slope) >= line
    # with one sample Lambda can make it sharp
    x, z = rng.normal(size=(1, 3)), rng.normal(size=(1, 2))
    logs = np.log(np.linalg.norm(x, axis=1) / np.linalg.norm(z, axis=1))
    assert bound(x, z, logs, slope) == pytest.approx(np.linalg.norm(x.T @ z, 2), rel=1e-9)


@pytest.mark.parametrize("coupling", list(Coupling))
def test_rows_with_lines_compute_the_same_for_less(coupling):
    problem, rng = make(5, n=6, d=3), np.random.default_rng(0)
    design = VectorReLU(None).design(problem)
    linear = np.arange(12) % 3 == 0
    rows = Rows.of(rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), design, coupling, linear)
    merged = merge(rows, design, coupling, 0.0)
    assert merged.apply(design) == pytest.approx(rows.apply(design), rel=1e-9)
    assert np.sum(merged.linear) == 3 < np.sum(rows.linear)
    assert objective(problem, design, merged) < objective(problem, design, rows)
    # kept in twice, and thinned to what the data can tell apart
    both = rows.join(rows).scaled(np.full(2 * len(rows), 0.5))
    few = thin(problem, design, both)
    assert len(few) <= problem.y.size < len(both) or len(few) <= len(rows)
    assert objective(problem, design, few) <= objective(problem, design, rows) * (1.0 + 1e-8)
    oracle = VectorReLU(None, coupling=coupling.value, skip=True).oracle(problem, None)
    found = oracle.lines(problem.residual(np.zeros_like(problem.y)))
    assert np.all(found.linear) and found.best > problem.beta
    grown = insert(problem, design, Rows.empty(3, 3), found)
    assert np.all(grown.linear) and objective(problem, design, grown) < problem.null_value()


def test_iris_through_the_classifier():
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = ConvexNetClassifier(architecture=ReLU(skip=True), alpha=1e-2).fit(X, y)
    c, phi = model.certificate_, model.network_.layers[1]
    assert c.search_gap <= 1e-4 and c.scope == "bounded" and model.score(X, y) > 0.95
    # 0.1600341 is the optimum without lines, and 0.0718 the bound
    assert c.objective < 0.156 and c.lower_bound > 0.071
    assert isinstance(phi, SkipReLU) and 1 <= phi.passed <= 3


@pytest.mark.parametrize(
    "family",
    [
        ReLU(skip=True),
        LeakyReLU(slope=0.2, skip=True),
        Absolute(skip=True),
        GatedReLU(patterns=6, skip=True),
    ],
    ids=lambda family: family.name,
)
def test_networks_keep_their_lines_in_files_and_are_known_by_them(family, tmp_path):
    problem = make(9, n=10)
    model = ConvexNetRegressor(architecture=family, alpha=0.02).fit(problem.X, problem.y)
    net, objective = model.network_, model.certificate_.objective
    gated = family.name == "gated_relu"
    lines = np.sum(~np.any(net.layers[0].gates, axis=0)) if gated else net.layers[1].passed
    assert lines >= 1
    net.save(tmp_path / "net.safetensors")
    loaded, _ = Network.load(tmp_path / "net.safetensors")
    assert np.array_equal(loaded(problem.X), net(problem.X))
    for known in (loaded, model) if family.name == "leaky_relu" else (loaded,):
        judged = certify(known, problem.X, problem.y, alpha=0.02, fit_intercept=True)
        assert judged.objective == pytest.approx(objective, rel=1e-9) and judged.search_gap <= 1e-4


def test_anybodys_linear_map_is_judged():
    problem = make(6, n=10)
    S, s = np.linalg.lstsq(problem.X, problem.y, rcond=None)[0], problem.weights
    net = Network((Affine(S, np.zeros(3)), SkipReLU(3), Affine(np.eye(3), np.zeros(3))))
    alpha = problem.beta / np.sum(s)
    found = certify(net, problem.X, problem.y, alpha=alpha, sample_weight=s)
    own = problem.loss.value(problem.X @ S, problem.y, s) + problem.beta * np.sum(np.linalg.norm(S, axis=0))
    assert found.objective * np.sum(s) == pytest.approx(own, rel=1e-12)
    best = train(problem, VectorReLU(None, skip=True), tol=1e-8).certificate
    assert found.lower_bound == pytest.approx(best.objective, rel=1e-5) and found.scope == "global"
    # weights of a plain network are judged against networks with a line where those are asked for
    plain = (net.layers[0].weight, None, np.eye(3), None)
    asked = certify(
        plain, problem.X, problem.y, alpha=alpha, sample_weight=s, architecture=ReLU(None, skip=True)
    )
    assert asked.lower_bound == pytest.approx(best.objective, rel=1e-5)


def test_strong_and_weak_decay_few_samples_equal_columns_and_weights():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(7, 8)), np.arange(7) % 3

    def certified(X, y, alpha, weights=None):
        return ConvexNetClassifier(architecture=ReLU(skip=True), alpha=alpha).fit(X, y, weights)

    model = certified(X, y, 50.0)
    assert model.network_.width == 0 and model.certificate_.gap <= 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of loose bounds
        for alpha, data in ((1e-5, X), (0.1, X[:, [0, 1, 0, 1]])):
            c = certified(data, y, alpha).certificate_
            assert c.lower_bound <= c.objective and c.search_gap <= 1e-4
    weights, X = np.array([1, 2, 1, 3, 2, 1, 0]), X[:, :2]
    rows = np.repeat(np.arange(7), weights)
    a, b = (m.certificate_ for m in (certified(X, y, 0.05, weights), certified(X[rows], y[rows], 0.05)))
    assert a.objective == pytest.approx(b.objective, rel=1e-4) and a.search_gap <= 1e-4


def test_paths_and_cross_validation():
    problem = make(7, n=12)
    found = path(problem.X, problem.y, n_alphas=4, eps=0.05, architecture=ReLU(skip=True))
    values = [point.certificate.objective for point in found.points]
    assert len(values) == 4 and np.all(np.diff(values) < 0)
    assert all(point.certificate.search_gap <= 1e-5 for point in found.points)
    labels = np.argmax(problem.y, axis=1)
    model = ConvexNetClassifierCV(architecture=ReLU(skip=True), n_alphas=2, cv=2).fit(problem.X, labels)
    assert model.certificate_.search_gap <= 1e-4 and hasattr(model.network_.layers[1], "passed")


def test_what_is_refused():
    for kind in (Linear, VectorLinear):
        with pytest.raises(ValueError, match="pass skip=False"):
            kind(skip=True)
    for kind in (VectorReLU, VectorLeakyReLU, VectorAbsolute, LeakyReLU, Absolute):
        with pytest.raises(ValueError, match="free"):
            kind("free", skip=True)
        with pytest.raises(ValueError, match="skip=1"):
            kind(skip=1)
    problem = make(8)
    parts = np.ones((2, 2)), np.zeros(2), np.ones((2, 3)), np.zeros(3)
    net = Network.two_layer(*parts, SkipLeakyReLU(1, 0.5))
    with pytest.raises(ValueError, match=r"VectorLeakyReLU\(skip=True\)"):
        VectorLeakyReLU(None, slope=0.5).cost(net)
    with pytest.raises(ValueError, match=r"slope 0\.2"):
        VectorLeakyReLU(None, slope=0.2, skip=True).cost(net)
    with pytest.raises(ValueError, match="not a two-layer ReLU network"):
        VectorReLU(None, skip=True).cost(net)
    with pytest.raises(ValueError, match="no linear neurons"):
        cell_bound(problem, VectorReLU(None, skip=True))
    for single in (ReLU, GatedReLU):
        with pytest.raises(ValueError, match="penalty='l1' is for one output"):
            ConvexNetRegressor(architecture=single(penalty="l1")).fit(problem.X, problem.y)
    assert ReLU(None, skip=True).for_outputs(3) == VectorReLU(None, skip=True)
    assert GatedReLU(None, 7, skip=True).for_outputs(2) == VectorGatedReLU(None, 7, skip=True)
    assert get_architecture("absolute", None, "auto", 3, options={"skip": True}) == VectorAbsolute(
        None, skip=True
    )
    # what outputs share is said beside an object of one output, and by one of several
    kept = get_architecture(ReLU(None, skip=True), None, "auto", 3, "separate")
    assert kept == VectorReLU(None, coupling="separate", skip=True)
    assert get_architecture(VectorReLU(None, skip=True), None, "auto", 3, "separate").coupling == "joint"
    assert LAYERS["SkipLeakyReLU"] is SkipLeakyReLU
    with pytest.raises(ValueError, match="passes"):
        SkipLeakyReLU(4, 0.1).units(3)
    with pytest.raises(ValueError, match="not one number"):
        SkipLeakyReLU(1, np.zeros(2)).units(3)
