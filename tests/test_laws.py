"""The laws that no change may break: duality, exactness, invariance, and that no certificate is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import certify
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import judge
from cvxnn.descent import descend
from cvxnn.losses import get_loss
from cvxnn.network import Network
from cvxnn.oracles import SearchOracle
from cvxnn.program import Problem
from cvxnn.solvers import SOLVERS, run
from cvxnn.testing import duals, same_problem
from cvxnn.train import train

SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")
BIASES = [(None, False), (None, True), ("penalized", False), ("penalized", True), ("free", True)]


def small_problem(seed, n=None, d=None):
    """A random small problem with a loss, biases and weights drawn as well; sometimes degenerate."""
    rng = np.random.default_rng(seed)
    n, d = n or int(rng.integers(3, 13)), d or int(rng.integers(1, 4))
    hidden, intercept = BIASES[seed % len(BIASES)]
    loss = (SQUARED, LOGISTIC)[(seed // len(BIASES)) % 2]
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1)
    if seed % 7 == 0:
        X = np.round(X)  # zero rows, ties, parallel rows
    y = rng.permutation(np.where(np.arange(n) % 2, 1.0, -1.0))
    if loss is SQUARED:
        y = y * rng.uniform(0.2, 2.0, n) * 10.0 ** rng.uniform(-1, 1)
    weights = rng.integers(1, 4, n).astype(float) if seed % 3 == 0 else None
    scale = np.mean(np.abs(y)) * np.mean(np.linalg.norm(X, axis=1)) + 1e-3
    alpha = scale * 10.0 ** rng.uniform(-3.5, -0.5)
    return Problem.from_alpha(X, y, weights, loss, alpha, intercept), hidden, rng


def plain_objective(problem, hidden, network):
    """The objective per sample of a two-layer network, written without the library."""
    first, last = network.layers[0], network.layers[-1]
    f = np.maximum(problem.X @ first.weight + first.bias, 0.0) @ last.weight[:, 0] + last.bias[0]
    square = np.sum(first.weight**2, axis=0) + (first.bias**2 if hidden == "penalized" else 0.0)
    regression = problem.loss is SQUARED
    losses = 0.5 * (f - problem.y) ** 2 if regression else np.logaddexp(0.0, -problem.y * f)
    cost = np.sqrt(square) @ np.abs(last.weight[:, 0])
    return float((problem.weights @ losses + problem.beta * cost) / problem.total_weight)


def descended(problem, hidden, rng, width, scale):
    """A network trained by L-BFGS on its weights from a random start."""
    ones = np.ones((len(problem.y), 1))
    X = problem.X if hidden is None else np.hstack([problem.X, ones])
    free, intercept = int(hidden == "free"), problem.intercept or hidden == "free"
    U, a = scale * rng.normal(size=(width, X.shape[1])), scale * rng.normal(size=width)
    U, a, c = descend(
        X, problem.y, problem.weights, problem.loss, problem.beta, U, a,
        intercept=intercept, free=free, max_iter=300,
    )  # fmt: skip
    d = problem.X.shape[1]
    bias = np.zeros(width) if hidden is None else U[:, d]
    return Network.two_layer(np.ascontiguousarray(U[:, :d].T), bias, a, c)


@pytest.mark.parametrize("part", range(10))
def test_no_certificate_is_ever_wrong(part):
    """70 problems, each bias with each loss on each kind of data: no bound, whoever's network it was proven
    from, exceeds any objective reached."""
    for seed in range(7 * part, 7 * part + 7):
        problem, hidden, rng = small_problem(seed)
        architecture = ReLU(hidden)
        trained = train(problem, architecture, tol=1e-7)
        networks = [trained.network]
        for _ in range(2):
            width, scale = int(rng.integers(1, 9)), 10.0 ** rng.uniform(-1.5, 0.5)
            networks.append(descended(problem, hidden, rng, width, scale))
        objectives = [plain_objective(problem, hidden, network) for network in networks]
        oracle = architecture.oracle(problem, architecture.arrange(problem, rng))
        loose = SearchOracle(oracle.problem, architecture.design(problem))
        claims = [trained.certificate]
        claims += [judge(network, oracle.problem, architecture, oracle) for network in networks[1:]]
        other = networks[1 + seed % 2]
        claims.append(judge(other, loose.problem, architecture, loose, max_iter=5))
        assert {c.scope for c in claims[:-1]} == {"global"} and claims[-1].scope == "bounded"
        for claim in claims:
            assert claim.lower_bound <= min(objectives) * (1 + 1e-12), f"seed {seed}: {claim}"
        # and the search of the loose oracle is not fooled either: the best network looks best
        assert objectives[0] <= min(objectives) * (1 + 1e-5), f"seed {seed}"
        for claim, value in zip(claims[1:-1], objectives[1:], strict=True):
            assert claim.objective == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_no_oracle_is_below_any_neuron(seed):
    """A thousand random unit neurons, the best of them improved by their own cells, and the exact price."""
    problem, hidden, rng = small_problem(seed)
    architecture = ReLU(hidden)
    exact = architecture.oracle(problem, architecture.arrange(problem, rng))
    judged = exact.problem
    loose = SearchOracle(judged, architecture.design(problem))
    for Z in duals(judged, rng, 3):
        H = architecture.unit_neurons(problem, None, rng.normal(size=(1000, problem.X.shape[1] + 1)))
        best, slack = np.max(np.abs(H @ Z)), 1e-12 * np.max(H @ np.abs(Z), initial=0.0)
        one, two = exact.price(Z), loose.price(Z)
        assert (one.scope, two.scope) == ("global", "bounded")
        for price in (one, two):
            assert best <= price.value + slack
            assert 0 <= price.found <= price.value
        assert one.found <= two.value and two.found <= one.value * (1 + 1e-9)
        assert one.value == pytest.approx(one.found, rel=1e-6, abs=1e-12)


#: A distance from zero; two neurons that both look to the left fit one arm only.
ARMS = np.array([[-3.0], [-2.0], [-1.0], [1.0], [2.0], [3.0]])
STUCK = np.array([[-0.82, 0.0], [-0.55, 0.0]]), np.array([0.82, 0.55])


def test_a_bad_local_minimum_is_exposed():
    y, alpha, n = np.abs(ARMS[:, 0]), 0.01, 6
    X = np.column_stack([ARMS, np.ones(n)])
    U, a, _ = descend(X, y, np.ones(n), SQUARED, alpha * n, *STUCK, max_iter=5000)

    def objective(U, a):
        f = np.maximum(X @ U.T, 0.0) @ a
        return 0.5 * np.mean((f - y) ** 2) + 0.5 * alpha * (np.sum(U**2) + np.sum(a**2))

    # it is a local minimum: no step nearby goes down
    here, rng = objective(U, a), np.random.default_rng(0)
    for size in (0.1, 0.01, 0.001):
        for _ in range(500):
            assert objective(U + size * rng.normal(size=U.shape), a + size * rng.normal(size=2)) >= here
    network = (U[:, :1].T, U[:, 1], a[:, None], None)
    certificate = certify(network, ARMS, y, alpha=alpha)
    assert certificate.width == 2 and certificate.objective == pytest.approx(here, rel=1e-6)
    assert certificate.scope == "global" and certificate.gap > 0.5
    # it is a true one: the same width does far better
    better = train(Problem.from_alpha(ARMS, y, None, SQUARED, alpha, False), ReLU("penalized"), tol=1e-8)
    assert better.network.width == 2 and better.certificate.gap < 1e-7
    assert better.certificate.objective < 0.1 * here
    assert certificate.lower_bound == pytest.approx(better.certificate.objective, rel=1e-5)


def same(one, other, rel=1e-9):
    assert one.objective == pytest.approx(other.objective, rel=rel)
    assert one.lower_bound == pytest.approx(other.lower_bound, rel=max(rel, 1e-6))
    assert (one.scope, one.width) == (other.scope, other.width)


@pytest.mark.parametrize("seed", range(10))
def test_order_repetition_and_nothing_change_nothing(seed):
    problem, hidden, rng = small_problem(seed, n=8, d=2)
    X, y, s = problem.X, problem.y, np.round(problem.weights)
    alpha = problem.beta / problem.total_weight

    def changed(X, y, s):
        return Problem.from_alpha(X, y, s, problem.loss, alpha, problem.intercept)

    def certificate(problem):
        return train(problem, ReLU(hidden), tol=1e-7).certificate

    base, order, copies = changed(X, y, s), rng.permutation(len(y)), s.astype(int)
    far = np.vstack([X, 100 * rng.normal(size=(3, X.shape[1]))])
    # they are one problem to the last bit, and training, which sees nothing else, is deterministic
    assert same_problem(changed(np.repeat(X, copies, axis=0), np.repeat(y, copies), None), base)
    assert same_problem(changed(far, np.append(y, [y[0]] * 3), np.append(s, [0.0] * 3)), base)
    ordered = changed(X[order], y[order], s[order])
    assert same_problem(ordered, base)
    certified = certificate(base)
    assert certificate(ordered) == certified
    double = changed(X, y, 2 * s)
    assert not same_problem(double, base)
    same(certificate(double), certified, 1e-6)


@pytest.mark.parametrize("architecture", [ReLU(None), ReLU("penalized"), GatedReLU(None, "all")], ids=repr)
@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC], ids=lambda loss: loss.name)
def test_rotation_of_features_changes_nothing(architecture, loss):
    for seed in range(3):
        problem, _, rng = small_problem(seed, n=8, d=3)
        y = problem.y if loss is SQUARED else np.where(np.arange(len(problem.y)) % 2, 1.0, -1.0)
        Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        certificates = []
        for X in (problem.X, problem.X @ Q, np.hstack([problem.X @ Q, np.zeros((len(y), 2))])):
            changed = Problem.from_alpha(X, y, None, loss, 0.02 * np.mean(np.abs(y)), seed % 2 == 0)
            certificates.append(train(changed, architecture, tol=1e-8).certificate)
        for other in certificates[1:]:
            assert other.objective == pytest.approx(certificates[0].objective, rel=1e-6)
            assert other.lower_bound == pytest.approx(certificates[0].lower_bound, rel=1e-5)
            assert other.scope == certificates[0].scope


def test_scaling_the_data_scales_the_penalty():
    """f depends on X w only: X -> cX with alpha -> c alpha is the same problem."""
    problem, hidden, _ = small_problem(4, n=10, d=2)
    assert hidden == "free"
    for c in (1e-6, 1e6):
        scaled = Problem(c * problem.X, problem.y, problem.weights, problem.loss, c * problem.beta, True)
        one = train(problem, ReLU("free"), tol=1e-8).certificate
        two = train(scaled, ReLU("free"), tol=1e-8).certificate
        assert two.objective == pytest.approx(one.objective, rel=1e-6)
        assert two.lower_bound == pytest.approx(one.lower_bound, rel=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_alpha_max(seed):
    problem, hidden, rng = small_problem(seed, n=9)
    architecture = ReLU(hidden)
    oracle = architecture.oracle(problem, architecture.arrange(problem, rng))
    judged = oracle.problem
    beta_max = oracle.price(judged.residual(np.zeros_like(problem.y))).value

    def at(beta):
        changed = Problem(problem.X, problem.y, problem.weights, problem.loss, beta, problem.intercept)
        return train(changed, architecture, tol=1e-9)

    null = judged.null_value() / problem.total_weight
    above = at(beta_max * (1 + 1e-7))
    assert above.network.width == 0 or architecture.cost(above.network) <= 1e-9 * null / beta_max
    assert above.certificate.objective == pytest.approx(null, rel=1e-9)
    assert above.certificate.gap <= 1e-6
    below = at(0.98 * beta_max)
    assert below.network.width >= 1 and below.certificate.objective < null * (1 - 1e-9)


def test_alpha_max_minds_the_cones():
    """The price within the cones, here 1.38, and not the larger norm without them, 2.5."""
    X, y = np.array([[2.0, 2.0], [3.0, 3.0], [1.0, 0.0]]), np.array([1.0, -1.0, 2.0])
    problem = Problem(X, y, np.ones(3), SQUARED, 1.0)
    architecture = ReLU(None)
    arrangement = architecture.arrange(problem, np.random.default_rng(0))
    price = architecture.oracle(problem, arrangement).price(y)
    phi = np.linspace(0, 2 * np.pi, 100_001)
    brute = np.max(np.abs(y @ np.maximum(X @ np.stack([np.cos(phi), np.sin(phi)]), 0.0)))
    assert price.value == pytest.approx(brute, rel=1e-8)
    unconstrained = np.max(np.linalg.norm((arrangement.masks() * y) @ X, axis=1))
    assert unconstrained > 1.1 * price.value
    for beta, width in ((price.value * 1.001, 0), (price.value * 0.999, 1)):
        assert (
            train(Problem(X, y, np.ones(3), SQUARED, beta), architecture, tol=1e-9).network.width == width
        )


@pytest.mark.parametrize("seed", range(10))
def test_sampled_above_and_gated_below_the_optimum(seed):
    problem, hidden, _ = small_problem(seed, n=9, d=2)
    best = train(problem, ReLU(hidden), tol=1e-8).certificate
    assert best.scope == "global" and best.gap < 1e-5
    values = []
    for count in (1, 3, 10, 60):
        sampled = train(problem, ReLU(hidden, count), tol=1e-8, random_state=seed).certificate
        assert sampled.scope == "patterns"
        assert sampled.objective >= best.lower_bound
        values.append(sampled.objective)
    assert min(values) >= best.lower_bound and values[0] >= values[-1] * (1 - 1e-6)
    if hidden != "free":
        gated = train(problem, GatedReLU(hidden, "all"), tol=1e-8).certificate
        assert gated.lower_bound <= gated.objective
        assert gated.lower_bound <= best.objective * (1 + 1e-9)
        assert gated.objective <= best.objective * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(15))
def test_decoding_preserves_the_objective(seed):
    problem, hidden, rng = small_problem(seed)
    for architecture in (ReLU(hidden, "all"), GatedReLU(hidden if hidden != "free" else None, "all")):
        arrangement = architecture.arrange(problem, rng)
        program = architecture.lift(problem, arrangement)
        solution = run(SOLVERS["interior_point"](), program, tol=1e-8, max_iter=100)
        network = architecture.decode(problem, arrangement, solution)
        value = problem.value(network(problem.X), architecture.cost(network))
        # decoding also takes the best intercept, which can only help what the gap leaves open
        loss = 1e-9 * solution.primal
        assert value <= solution.primal + loss
        if not program.intercept:
            assert value >= solution.primal - loss - (solution.primal - solution.bound)
    assert hidden != "free" or architecture.hidden_bias is None


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC], ids=lambda loss: loss.name)
@pytest.mark.parametrize(("hidden", "intercept"), BIASES)
def test_grown_patterns_reach_the_enumerated_optimum(hidden, intercept, loss, monkeypatch):
    """Column generation without any list of patterns ends at the proven optimum of all patterns."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(14, 2))
        y = np.sign(X[:, 0] * X[:, 1] + 0.1) if loss is LOGISTIC else np.abs(X[:, 0]) - X[:, 1]
        problem = Problem.from_alpha(X, y, None, loss, 0.01, intercept)
        proven = train(problem, ReLU(hidden), tol=1e-8).certificate
        with monkeypatch.context() as patch:
            patch.setattr("cvxnn.architectures.rectified.AUTO_PATTERNS", 0)
            grown = train(problem, ReLU(hidden), tol=1e-7, bound_iter=5).certificate
        # two columns are priced exactly, whatever patterns training lists
        scope = "global" if hidden is None else "bounded"
        assert (proven.scope, grown.scope) == ("global", scope)
        assert grown.objective == pytest.approx(proven.objective, rel=1e-6)
        assert grown.search_gap <= 1e-6
        assert grown.lower_bound <= proven.objective
