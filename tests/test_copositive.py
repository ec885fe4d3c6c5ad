"""Lifted bounds: golden values, every kind of problem against better networks, and cases by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import ConvexNetRegressor, certify
from cvxnn.architectures.absolute import Absolute
from cvxnn.architectures.batchnorm import BatchNorm
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.arrangement import Arrangement
from cvxnn.bounds_lift_cells import cell_lifts
from cvxnn.bounds_lift_rows import lifts
from cvxnn.bounds_lifted import lifted_dual, lifted_price
from cvxnn.bounds_lifts import Multipliers, proven_price
from cvxnn.bounds_moments import price_moments
from cvxnn.copositive import cell_bound, lifted_network, split
from cvxnn.lifted_oracles import LiftedOracle, with_bound
from cvxnn.losses import code_classes, get_loss
from cvxnn.network import Network
from cvxnn.oracles import SearchOracle
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.vector_growth import Coupling
from cvxnn.vector_oracles import VectorSearch
from cvxnn.walks import rectify

PLAIN = {"hidden_bias": None, "fit_intercept": False}


def random_data(seed, n=8, d=2, outputs=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, outputs) if outputs > 1 else n)


def best_price(X, Z, *, free=0, slope=0.0, separate=False, count=20_000, seed=0):
    """The largest price among random unit neurons."""
    rng = np.random.default_rng(seed)
    U = rng.normal(size=(count, X.shape[1]))
    U /= np.linalg.norm(U[:, : X.shape[1] - free], axis=1, keepdims=True)
    H = rectify(X @ U.T, slope).T @ Z.reshape(len(Z), -1)
    return float(np.max(np.abs(H) if separate else np.linalg.norm(H, axis=1)))


def squared(X, y, beta, *, tight):
    outputs = 1 if y.ndim == 1 else y.shape[1]
    loss = get_loss("squared_error", outputs)
    found = lifts(X, outputs, tight=tight)
    return found, lifted_dual(found, y, np.ones(len(X)), loss, beta, intercept=False)


def test_reference_values(golden):
    """The relaxation of Prakhya et al. is met from below; the tight one lies between it and the optimum."""
    records = [r for r in golden if r["system"] == "cp_sdp"]
    assert len(records) == 4
    for r in records:
        X, Y = np.array(r["X"]), np.array(r["Y"])
        y, best = Y[:, 0] if Y.shape[1] == 1 else Y, r["extra"]["network_optimum"]
        _, plain = squared(X, y, r["params"]["beta"], tight=False)
        assert -r["tolerance"] <= plain.bound - r["optimum"] <= 1e-9, r["id"]
        _, tight = squared(X, y, r["params"]["beta"], tight=True)
        assert r["optimum"] - r["tolerance"] <= tight.bound <= best * (1 + 1e-12), r["id"]
        drawn = Arrangement.enumerate(X)
        cells = cell_lifts(X, drawn.masks(), Y.shape[1])
        loss = get_loss("squared_error", Y.shape[1])
        over = lifted_dual(cells, y, np.ones(len(X)), loss, r["params"]["beta"], intercept=False)
        assert best - 1e-6 <= over.bound <= best * (1 + 1e-12), r["id"]


def test_one_sample_by_hand():
    """x = y = 1, beta = 0.2: the optimum is beta - beta^2 / 2, and both relaxations are exact."""
    X, y = np.ones((1, 1)), np.ones(1)
    for tight in (False, True):
        _, dual = squared(X, y, 0.2, tight=tight)
        assert 0.18 - 1e-8 <= dual.bound <= 0.18
    # two outputs (3, 4) at beta 1: 4.5 by the closed form of whitened data
    _, dual = squared(X, np.array([[3.0, 4.0]]), 1.0, tight=True)
    assert 4.5 - 1e-6 <= dual.bound <= 4.5 + 1e-12


def test_tight_where_the_plain_relaxation_is_not(golden):
    record = next(r for r in golden if r["id"] == "sdp-n5-loose")
    X, y = np.array(record["X"]), np.array(record["Y"])[:, 0]
    bounds = [squared(X, y, 0.05, tight=tight)[1].bound for tight in (False, True)]
    assert bounds[0] < 0.615 and bounds[1] > 0.64135


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("outputs", "slope", "free"), [(1, 0.0, 0), (1, -1.0, 0), (1, 0.3, 1), (3, 0.0, 0), (2, 0.0, 1)]
)
def test_prices_are_never_below_any_neuron(seed, outputs, slope, free):
    X, Z = random_data(seed, 7, 2, outputs)
    if free:
        X, Z = np.column_stack([X, np.ones(len(X))]), Z - np.mean(Z, axis=0)
    below = best_price(X, Z, free=free, slope=slope, seed=seed)
    values = []
    for tight in (True, False):
        found = lifts(X, outputs, free=free, slope=slope, tight=tight)
        value = lifted_price(found, 1e3 * Z) / 1e3
        assert below <= value <= 2.0 * below
        assert value == pytest.approx(lifted_price(found, Z), rel=1e-5)
        values.append(value)
        # whatever the multipliers are, they prove no less
        point = price_moments(found, Z)
        rng = np.random.default_rng(seed)
        for scale in (0.0, 1e-3, 1.0):
            bent = tuple(
                Multipliers(
                    m.vanishing + scale * rng.normal(size=m.vanishing.shape),
                    m.positive,
                    m.products * (1.0 + scale * rng.normal(size=m.products.shape)),
                )
                for m in point.multipliers
            )
            for kappa in (0.0, 0.5 * below, point.kappa):
                assert proven_price(found, Z, kappa, bent) >= below
    assert values[0] <= values[1] * (1 + 1e-6)
    cells = cell_lifts(X, Arrangement.enumerate(X).masks(), outputs, free=free, slope=slope)
    assert below <= lifted_price(cells, Z) <= min(values[1], 1.05 * below) * (1 + 1e-6)


def test_prices_of_single_outputs():
    X, Z = random_data(1, 7, 2, 3)
    value = lifted_price(lifts(X, 3, separate=True), Z)
    apart = [lifted_price(lifts(X, 1), column) for column in Z.T]
    assert value == pytest.approx(max(apart), rel=1e-5)
    assert value >= best_price(X, Z, separate=True)


def test_parallel_rows_share_coordinates():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 2))
    X = np.vstack([base, 2.0 * base[:1], -3.0 * base[1:2], np.zeros((1, 2)), np.pi * base[2:]])
    found = lifts(X, 1)
    assert all(part.order == 3 + 2 + 1 for part in found.parts)
    assert np.all(found.lost[[0, 1, 2, 5]] == 0.0) and np.max(found.lost) < 1e-13
    for seed in range(3):
        Z = np.random.default_rng(seed).normal(size=7)
        value = lifted_price(found, Z)
        assert best_price(X, Z) <= value <= 1.5 * best_price(X, Z)
        cells = cell_lifts(X, Arrangement.enumerate(X).masks(), 1)
        assert best_price(X, Z) <= lifted_price(cells, Z) <= value * (1 + 1e-6)


def test_a_line_is_exact():
    """One input without bias: both neurons x and -x are prices, and the relaxation finds the larger."""
    X, Z = np.array([[1.0], [-2.0], [0.5], [3.0]]), np.array([1.0, 1.0, -2.0, -0.4])
    exact = max(abs(np.maximum(X[:, 0], 0) @ Z), abs(np.maximum(-X[:, 0], 0) @ Z))
    assert exact <= lifted_price(lifts(X, 1), Z) <= exact * (1 + 1e-6)


CASES = [
    ("squared_error", ReLU(), True),
    ("squared_error", ReLU("free"), True),
    ("log_loss", ReLU(None), False),
    ("hinge", ReLU(), True),
    ("absolute_error", ReLU(None), True),
    ("poisson", ReLU(None), False),
    ("squared_error", LeakyReLU(hidden_bias=None), False),
    ("squared_error", Absolute(hidden_bias=None), False),
    ("squared_error", VectorReLU(), True),
    ("squared_error", VectorReLU("free"), True),
    ("log_loss", VectorReLU(None), True),
    ("huber", VectorReLU(None), False),
    ("squared_error", VectorReLU(None, coupling="separate"), False),
]


@pytest.mark.parametrize(("name", "family", "intercept"), CASES)
def test_bounds_of_every_kind_of_problem(name, family, intercept):
    """Far above the matrix bounds, and below the objective of the best network."""
    outputs = 2 if isinstance(family, VectorReLU) else 1
    outputs = 3 if outputs == 2 and name == "log_loss" else outputs
    X, y = random_data(5, 8, 2, outputs)
    loss = get_loss(name, outputs)
    if loss.classification:
        y = code_classes(np.arange(8) * 5 % 7 % max(2, outputs), loss, max(2, outputs))
    y = np.round(np.abs(y)) if name == "poisson" else y
    s = np.where(np.arange(8) % 2, 1.0, 2.0)
    problem = family.problem_of(Problem.from_alpha(X, y, s, loss, 0.01, intercept))
    trained = train(problem, family, tol=1e-4, max_time=2.0, bound_iter=0)
    design = family.design(problem)
    coupling = Coupling(getattr(family, "coupling", "joint"))
    own = SearchOracle(problem, design) if outputs == 1 else VectorSearch(problem, design, coupling)
    oracle, Z = LiftedOracle(own), trained.dual
    matrix = own.prove(Z, max_iter=20, max_time=np.inf).bound
    proof = oracle.prove(Z, max_iter=20, max_time=np.inf)
    objective = trained.certificate.objective * problem.total_weight
    assert proof.scope == "bounded"
    assert matrix < proof.bound <= objective * (1 + 1e-12)
    assert proof.bound > 0.6 * objective
    assert loss.dual(proof.Z, problem.y, problem.weights) == proof.bound
    price = oracle.price(proof.Z).value
    assert price <= problem.beta * (1 + 1e-5)
    assert (
        best_price(
            design.X, proof.Z, free=design.free, slope=design.slope, separate=coupling is Coupling.separate
        )
        <= price
    )
    if outputs > 1 and coupling is Coupling.joint:
        # not over cells, as where they are too many
        whole = LiftedOracle(own, lifts(design.X, outputs, free=design.free))
        assert matrix < whole.prove(Z, max_iter=20, max_time=np.inf).bound <= proof.bound * (1 + 1e-6)
    # another beta is another program
    half = oracle.at(0.5 * problem.beta)
    assert half.prove(Z, max_iter=20, max_time=np.inf).bound < proof.bound
    assert oracle.prove(Z, max_iter=0, max_time=np.inf).bound <= matrix


def test_no_network_is_below():
    """L-BFGS on the networks themselves, from many starts."""
    X, Y = random_data(2, 8, 2, 2)
    _, dual = squared(X, Y, 0.2, tight=True)

    def value(v):
        W, G = v[:12].reshape(2, 6), v[12:].reshape(6, 2)
        T = X @ W
        H = np.maximum(T, 0.0)
        R = H @ G - Y
        back = (R @ G.T) * (T > 0)
        grads = [(X.T @ back + 0.2 * W).ravel(), (H.T @ R + 0.2 * G).ravel()]
        return 0.5 * np.sum(R**2) + 0.1 * (np.sum(W**2) + np.sum(G**2)), np.concatenate(grads)

    rng = np.random.default_rng(0)
    best = min(minimize(value, rng.normal(size=24), jac=True, method="L-BFGS-B").fun for _ in range(40))
    assert 0.8 * best < dual.bound <= best


def test_the_same_program_in_cvxpy():
    """With Lambda of full order 2n + d + c, as Prakhya et al. state it."""
    cp = pytest.importorskip("cvxpy")
    X, Y = random_data(3, 4, 2, 2)
    n, d, c, beta = 4, 2, 2, 0.3
    L = cp.Variable((2 * n + d + c, 2 * n + d + c), PSD=True)
    M = np.hstack([-np.eye(n), np.eye(n), X, np.zeros((n, c))])
    fit = L[:n, 2 * n + d :]
    cost = 0.5 * cp.sum_squares(fit - Y) + beta / 2 * cp.trace(L[2 * n :, 2 * n :])
    known = [L[: 2 * n, : 2 * n] >= 0, M @ L == 0, cp.diag(L[:n, n : 2 * n]) == 0]
    value = cp.Problem(cp.Minimize(cost), known).solve(solver="CLARABEL")
    _, dual = squared(X, Y, beta, tight=True)
    assert dual.bound == pytest.approx(value, rel=1e-5)


def test_the_copositive_program_in_cvxpy():
    """With the output weights eliminated, as Sahiner et al. state it."""
    cp = pytest.importorskip("cvxpy")
    X, Y = random_data(4, 5, 2, 2)
    beta, masks = 0.3, Arrangement.enumerate(X).masks()
    K, cost, known = np.eye(5), 0.0, []
    for mask in masks:
        U = cp.Variable((2, 2), PSD=True)
        A, DX = np.where(mask, 1.0, -1.0)[:, None] * X, mask[:, None] * X
        K = K + 2 * DX @ U @ DX.T
        cost, known = cost + beta**2 * cp.trace(U), [*known, A @ U @ A.T >= 0]
    value = cp.Problem(cp.Minimize(0.5 * cp.matrix_frac(Y, K) + cost), known).solve(solver="CLARABEL")
    problem = Problem.from_alpha(X, Y, None, get_loss("squared_error", 2), beta / 5, False)
    assert cell_bound(problem, VectorReLU(None)).bound == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("family", [ReLU(), VectorReLU(), LeakyReLU(slope=0.2), Absolute(None)])
def test_cells_bound_from_below(family):
    outputs = 2 if isinstance(family, VectorReLU) else 1
    X, y = random_data(6, 6, 2, outputs)
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error", outputs), 0.02, True)
    trained = train(problem, family, tol=1e-8)
    bound = cell_bound(problem, family).bound / 6
    assert trained.certificate.scope == "global"
    assert 0.99 * trained.certificate.objective < bound <= trained.certificate.objective * (1 + 1e-12)


def test_rounding_a_single_neuron():
    """Where Lambda is one neuron's, rounding returns that neuron."""
    X, _ = random_data(0, 5, 2)
    found = lifts(X, 1).parts[0]
    u = np.array([0.6, -0.8])
    k = len(found.vanishing) - 1
    unit = found.nonnegative[:k, k : k + 2]
    q = np.maximum(-unit @ u, 0.0)
    xi = np.concatenate([q, u, [1.0]])
    for U, G in split(found, np.outer(xi, xi)):
        assert np.abs(U.T @ G[:, 0]) == pytest.approx(np.abs(u), abs=1e-6)


@pytest.mark.parametrize("bias", ["penalized", "free", None])
@pytest.mark.parametrize("outputs", [1, 2])
def test_networks_from_the_relaxation(bias, outputs):
    X, y = random_data(3, 7, 2, outputs)
    found = lifted_network(X, y, alpha=0.05, hidden_bias=bias, max_time=1.0)
    objective, total = found.certificate.objective, found.rounded_objective
    null = 0.5 * np.sum((y - np.mean(y, axis=0)) ** 2) / 7
    assert found.lower_bound <= objective <= total <= null * (1 + 1e-9)
    assert found.certificate.lower_bound >= found.lower_bound * (1 - 1e-9)
    assert found.network(X).shape == y.shape
    alone = certify(found.rounded, X, y, alpha=0.05, hidden_bias=bias, fit_intercept=True)
    assert alone.objective == pytest.approx(total, rel=1e-9)


def test_rounding_is_near_where_the_relaxation_is_exact(golden):
    record = next(r for r in golden if r["id"] == "sdp-n5-loose")
    X, y = np.array(record["X"]), np.array(record["Y"])[:, 0]
    found = lifted_network(X, y, alpha=0.01, hidden_bias=None, fit_intercept=False)
    assert found.rounded_objective <= 1.01 * found.lower_bound


def test_certify_with_the_lifted_bound(tmp_path, monkeypatch):
    """Where patterns are not listed: above the matrix bound, for others' networks and after saving."""
    monkeypatch.setattr("cvxnn.architectures.rectified.AUTO_PATTERNS", 0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 8)), rng.normal(size=9)
    given = {"alpha": 0.03, **PLAIN}
    arrays = (rng.normal(size=(8, 3)), None, rng.normal(size=(3, 1)), None)
    usual, lifted = (certify(arrays, X, y, bound=bound, **given) for bound in ("auto", "sdp"))
    assert usual.scope == lifted.scope == "bounded"
    assert lifted.objective == pytest.approx(usual.objective, rel=1e-12)
    assert usual.lower_bound < lifted.lower_bound
    net = ConvexNetRegressor(alpha=0.03, **PLAIN).fit(X, y)
    assert lifted.lower_bound <= net.certificate_.objective
    net.network_.save(tmp_path / "net.safetensors")
    again, _ = Network.load(tmp_path / "net.safetensors")
    found = certify(again, X, y, bound="sdp", **given)
    assert found.gap < 0.5 * net.certificate_.gap and found.search_gap < 1e-4


def test_several_outputs_of_few_samples_are_lifted_unasked():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(10, 8)), rng.normal(size=(10, 2))
    family = VectorReLU(None)
    problem = Problem.from_alpha(X, Y, None, get_loss("squared_error", 2), 0.02, False)
    oracle = family.oracle(problem, None)
    assert type(oracle) is VectorSearch and isinstance(with_bound(oracle, "auto"), LiftedOracle)
    trained = train(problem, family, max_time=1.0)
    assert trained.certificate.gap < 0.2
    assert (
        1
        - oracle.prove(trained.dual, max_iter=40, max_time=np.inf).bound
        / 10
        / trained.certificate.objective
        > 0.5
    )
    # not where it would take long
    many = Problem.from_alpha(*random_data(0, 80, 8, 2), None, problem.loss, 0.02, False)
    assert type(with_bound(VectorSearch(many, family.design(many), Coupling.joint), "auto")) is VectorSearch


def test_the_command_line_asks_for_it(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from cvxnn.cli import app

    monkeypatch.setattr("cvxnn.architectures.rectified.AUTO_PATTERNS", 0)
    rng = np.random.default_rng(1)
    table = rng.normal(size=(9, 8)).round(2)
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header="a,b,c,d,e,f,g,y", comments="")
    data, model = str(tmp_path / "t.csv"), str(tmp_path / "m.safetensors")
    run = CliRunner().invoke
    fitted = run(app, ["fit", data, "--target", "y", "--alpha", "0.03", "--out", model])
    assert fitted.exit_code == 0, fitted.output
    gaps = []
    for bound in ("auto", "sdp"):
        told = run(app, ["certify", model, data, "--target", "y", "--bound", bound])
        assert told.exit_code == 0, told.output
        gaps.append(float(re.search(r"lower bound\s+([0-9.e-]+)", " ".join(told.stdout.split()))[1]))
    assert gaps[0] < gaps[1]
    assert run(app, ["certify", model, data, "--target", "y", "--bound", "lp"]).exit_code == 2


def test_exact_certificates_stay():
    X, y = random_data(0)
    net = (np.eye(2), None, np.ones((2, 1)), None)
    one, two = (certify(net, X, y, alpha=0.1, bound=bound, **PLAIN) for bound in ("auto", "sdp"))
    assert one == two and one.scope == "global"


def test_messages():
    X, y = random_data(0, 30, 8)
    net = (np.eye(8), None, np.ones((8, 1)), None)
    with pytest.raises(ValueError, match=r"pass 'auto' .* or 'sdp'"):
        certify(net, X, y, alpha=0.1, bound="lp", **PLAIN)
    with pytest.raises(ValueError, match="all patterns: pass patterns='auto'"):
        certify(net, X, y, alpha=0.1, bound="sdp", patterns=5, **PLAIN)
    large = Problem.from_alpha(*random_data(0, 200, 8), None, get_loss("squared_error"), 0.1, False)
    with pytest.raises(ValueError, match="are practical: pass bound='auto', or fewer samples"):
        with_bound(SearchOracle(large, ReLU(None).design(large)), "sdp")
    with pytest.raises(ValueError, match="convolutional ones among them: pass bound='auto'"):
        with_bound(BatchNorm(None).oracle(large, None), "sdp")
    with pytest.raises(ValueError, match="no relaxation over cells"):
        cell_bound(large, GatedReLU(None))
    with pytest.raises(ValueError, match="coupling='joint'"):
        cell_bound(large, VectorReLU(None, coupling="separate"))
    with pytest.raises(ValueError, match="up to 2000 samples"):
        lifts(np.ones((2001, 1)), 1)
