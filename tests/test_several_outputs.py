"""Networks with several outputs: known optima, laws, and certificates against rivals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.architectures.absolute import Absolute, VectorAbsolute
from cvxnn.architectures.leaky_relu import LeakyReLU, VectorLeakyReLU
from cvxnn.architectures.linear import VectorLinear
from cvxnn.architectures.vector_gated import VectorGatedReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.families import get_architecture
from cvxnn.losses import get_loss
from cvxnn.oracles import Design
from cvxnn.program import Problem, Status
from cvxnn.testing import same_problem
from cvxnn.train import Moment, train
from cvxnn.vector_bounds import bound, improve, oracle_bounds
from cvxnn.vector_growth import Coupling
from cvxnn.vector_oracles import FaceOracle, VectorSearch

LOSS = {"squared": "squared_error", "softmax": "log_loss"}
FAMILIES = [
    VectorReLU("penalized"),
    VectorReLU("free"),
    VectorReLU(None, coupling="separate"),
    VectorLeakyReLU("penalized", slope=0.3),
    VectorLeakyReLU("free", slope=-0.4),
    VectorLeakyReLU(None, coupling="separate", slope=0.2),
    VectorAbsolute("penalized"),
    VectorAbsolute("free"),
    VectorReLU("penalized", skip=True),
    VectorAbsolute(None, coupling="separate", skip=True),
    VectorGatedReLU("penalized", 12),
    VectorGatedReLU(None, 8, "separate"),
]


def make(seed, loss, *, n=9, d=2, outputs=3, beta=0.3, intercept=False):
    """A small problem with targets for the loss."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.eye(outputs)[np.arange(n) % outputs] if loss == "log_loss" else rng.normal(size=(n, outputs))
    s = rng.integers(1, 4, n).astype(float)
    return Problem(X, y, s, get_loss(loss, outputs), beta, intercept)


def problem_of(record):
    X, Y, params = np.array(record["X"]), np.array(record["Y"], dtype=float), record["params"]
    assert params["bias"] == "none"
    return Problem(X, Y, np.ones(len(X)), get_loss(LOSS[params["loss"]], 2), params["beta"])


def architecture_of(record):
    if record["system"] == "gated_vector":
        return VectorGatedReLU(None, np.array(record["params"]["gate_vectors_columns"]).T)
    return VectorReLU(None)


def plain_objective(record, network):
    """The objective of the reference from plain weights: weight decay as it is usually written."""
    X, Y, params = np.array(record["X"]), np.array(record["Y"], dtype=float), record["params"]
    first, last = network.layers[0], network.layers[-1]
    T = X @ first.weight
    f = ((X @ first.gates >= 0) * T if hasattr(first, "gates") else np.maximum(T, 0.0)) @ last.weight
    if params["loss"] == "squared":
        loss = 0.5 * np.sum((f - Y) ** 2)
    else:
        loss = np.sum(np.log(np.sum(np.exp(f), axis=1)) - np.sum(f * Y, axis=1))
    return loss + 0.5 * params["beta"] * (np.sum(first.weight**2) + np.sum(last.weight**2))


def test_reference_optima(golden):
    seen = 0
    for record in golden:
        if record["system"] not in ("relu_vector", "gated_vector") or record["id"] == "vec-c1":
            continue  # one output is the scalar program
        optimum, name = record["optimum"], record["id"]
        problem = problem_of(record)
        trained = train(problem, architecture_of(record), tol=1e-7)
        c, n = trained.certificate, len(problem.y)
        assert c.lower_bound * n <= optimum + record["tolerance"], name
        assert c.objective * n == pytest.approx(optimum, rel=2e-9), name
        assert c.scope == ("patterns" if record["system"] == "gated_vector" else "global"), name
        assert c.gap <= 1e-6, name
        assert plain_objective(record, trained.network) == pytest.approx(optimum, rel=2e-9), name
        expected = np.array(record["extra"]["network_output"])
        assert trained.network(problem.X) == pytest.approx(expected, abs=2e-3), name
        if "dual_point" in record["extra"]:
            oracle = architecture_of(record).oracle(
                problem, architecture_of(record).arrange(problem, np.random.default_rng(0))
            )
            price = oracle.price(np.array(record["extra"]["dual_point"]))
            assert price.value == pytest.approx(problem.beta, rel=1e-5), name
        seen += 1
    assert seen == 8


@pytest.mark.parametrize(("coupling", "optimum"), [("joint", 4.5), ("separate", 6.0)])
@pytest.mark.parametrize("family", [VectorReLU, VectorGatedReLU])
def test_what_outputs_share(family, coupling, optimum):
    """X = 1, Y = (3, 4), beta = 1: weight decay against two networks of one output."""
    problem = Problem(
        np.ones((1, 1)), np.array([[3.0, 4.0]]), np.ones(1), get_loss("squared_error", 2), 1.0
    )
    patterns = "auto" if family is VectorReLU else "all"
    trained = train(problem, family(None, patterns, coupling=coupling), tol=1e-9)
    assert trained.certificate.objective == pytest.approx(optimum, rel=1e-8)
    assert trained.certificate.lower_bound == pytest.approx(optimum, rel=1e-7)


@pytest.mark.parametrize("n", [(4, 9), (1, 3, 5)])
def test_orthonormal_samples_with_one_hot_targets(n):
    """X X' = I: the singular values sqrt(n_k) are shrunk."""
    labels = np.repeat(np.arange(len(n)), n)
    X = np.linalg.qr(np.random.default_rng(0).normal(size=(len(labels) + 2, len(labels))))[0].T
    problem = Problem(X, np.eye(len(n))[labels], np.ones(len(X)), get_loss("squared_error", 2), 1.0)
    trained = train(problem, VectorReLU(None), tol=1e-8)
    expected = sum(np.sqrt(k) - 0.5 for k in n)
    assert trained.certificate.objective * len(X) == pytest.approx(expected, rel=1e-8)
    assert trained.certificate.search_gap <= 1e-6
    assert trained.certificate.lower_bound * len(X) <= expected * (1 + 1e-12)


def test_separate_outputs_are_networks_of_their_own():
    problem = make(3, "squared_error", outputs=2, intercept=True)
    trained = train(problem, VectorReLU("penalized", coupling="separate"), tol=1e-7)
    from cvxnn.architectures.relu import ReLU

    alone = 0.0
    for y in problem.y.T:
        one = Problem(problem.X, y, problem.weights, get_loss("squared_error"), problem.beta, True)
        alone += train(one, ReLU("penalized"), tol=1e-8).certificate.objective
    assert trained.certificate.objective == pytest.approx(alone, rel=1e-6)
    joint = train(problem, VectorReLU("penalized"), tol=1e-7).certificate.objective
    assert joint < trained.certificate.objective


def test_two_classes_of_softmax_are_the_logistic_loss():
    """With f = (g, -g) / sqrt(2): beta of the logistic loss is beta / sqrt(2)."""
    from cvxnn.architectures.relu import ReLU

    problem = make(5, "log_loss", outputs=2, n=10)
    trained = train(problem, VectorReLU(None), tol=1e-8)
    y = problem.y[:, 1] - problem.y[:, 0]
    one = Problem(problem.X, y, problem.weights, get_loss("log_loss"), problem.beta / np.sqrt(2))
    expected = train(one, ReLU(None), tol=1e-9).certificate.objective
    assert trained.certificate.objective == pytest.approx(expected, rel=1e-7)
    assert np.abs(np.sum(trained.network(problem.X), axis=1)).max() < 1e-4


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_losses(loss):
    problem = make(1, loss)
    L, y, s = problem.loss, problem.y, problem.weights
    rng = np.random.default_rng(0)
    for _ in range(20):
        f, g, V = 3 * rng.normal(size=(3, *y.shape))
        slope, e = L.gradient(f, y, s), 1e-6
        numeric = (L.value(f + e * V, y, s) - L.value(f - e * V, y, s)) / (2 * e)
        assert numeric == pytest.approx(np.sum(slope * V), rel=1e-6, abs=1e-6)
        bend = (L.gradient(f + e * V, y, s) - L.gradient(f - e * V, y, s)) / (2 * e)
        assert L.curve(f, y, s, V) == pytest.approx(bend, abs=1e-6)
        # the conjugate is the supremum, attained at f
        assert L.conjugate(slope, y, s) == pytest.approx(np.sum(slope * f) - L.value(f, y, s), rel=1e-9)
        assert L.conjugate(slope, y, s) >= np.sum(slope * g) - L.value(g, y, s) - 1e-9
        c = L.intercept(f, y, s)
        assert np.sum(L.gradient(f + c, y, s), axis=0) == pytest.approx(np.zeros(3), abs=1e-12 * np.sum(s))
        Z = L.balance(-slope)
        assert np.sum(Z, axis=0) == pytest.approx(np.zeros(3), abs=1e-12 * np.sum(np.abs(slope)))
        assert np.isfinite(L.dual(Z, y, s)) and L.dual(Z, y, s) <= L.value(np.zeros_like(f) + c, y, s)
        at = -L.gradient(f + c, y, s)
        assert L.balance(at) == pytest.approx(at, abs=1e-10)
    assert np.isinf(get_loss("log_loss", 3).conjugate(np.ones_like(y), y, s))
    extreme = np.where(y > 0, 800.0, -800.0)
    assert np.isfinite(L.value(extreme, y, s)) and np.all(np.isfinite(L.gradient(-extreme, y, s)))


def test_circulation_where_classes_do_not_send_both_ways():
    loss = get_loss("log_loss", 3)
    Z = np.array([[0.5, -0.5, 0.0], [-0.2, 0.2, 0.0], [0.0, -0.3, 0.3]])
    balanced = loss.balance(Z)
    assert np.sum(balanced, axis=0) == pytest.approx(np.zeros(3), abs=1e-15)
    assert np.all(np.abs(balanced) <= np.abs(Z)) and np.any(balanced)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_no_certificate_is_wrong(family, loss):
    problem = make(2, loss, intercept=True)
    rng = np.random.default_rng(0)
    arrangement = family.arrange(problem, np.random.default_rng(0))
    oracle = family.oracle(problem, arrangement)
    H = family.unit_neurons(problem, arrangement, rng.normal(size=(1000, problem.X.shape[1] + 1)))
    for k in range(4):
        Z = oracle.problem.residual(k * rng.normal(size=problem.y.shape))
        price = oracle.price(Z)
        assert 0.0 <= price.found <= price.value
        best = np.max(np.abs(np.einsum("kno,no->k", H, Z)))
        assert best <= price.value * (1 + 1e-12)
    trained = train(problem, family, tol=1e-6)
    c, total = trained.certificate, problem.total_weight
    value = problem.value(trained.network(problem.X), family.cost(trained.network))
    assert c.objective * total == pytest.approx(value, rel=1e-12)
    # without Newton's method (free biases, other activations than the ReLU) some end a little sooner
    even = isinstance(family, VectorAbsolute) and family.hidden_bias == "free"
    assert c.lower_bound <= c.objective and c.search_gap <= (1e-3 if even else 1e-5)
    # rivals: networks of a few unit neurons, with any sizes
    for _ in range(50):
        size = rng.exponential(size=5) * rng.choice([0.1, 1.0])
        f = np.tensordot(size, H[rng.integers(len(H), size=5)], 1)
        f = f + problem.loss.intercept(f, problem.y, problem.weights)
        assert problem.value(f, float(np.sum(size))) >= c.lower_bound * total


@pytest.mark.parametrize("slope", [0.0, 0.4, -0.5, -1.0])
@pytest.mark.parametrize("coupling", list(Coupling))
def test_exact_price_is_a_maximum(coupling, slope):
    """Against a fine grid of directions in the plane, and against the search."""
    for seed in range(5):
        problem = make(seed, "squared_error", n=7)
        design = Design.reduce(problem.X, 0, slope)
        exact, search = (kind(problem, design, coupling) for kind in (FaceOracle, VectorSearch))
        angle = np.linspace(0, 2 * np.pi, 20_001)
        T = problem.X @ np.array([np.cos(angle), np.sin(angle)])
        C = np.maximum(T, slope * T).T @ problem.y
        best = np.max(np.linalg.norm(C, axis=1) if coupling == "joint" else np.abs(C))
        price = exact.price(problem.y)
        assert best <= price.value <= best * (1 + 1e-4)  # a grid misses kinks by its spacing
        found = search.price(problem.y)
        assert found.found == pytest.approx(price.value, rel=1e-9) and found.value >= price.value


@pytest.mark.parametrize("slope", [0.0, 0.7, -0.3, -1.0])
def test_bound_holds_for_every_diagonal(slope):
    rng = np.random.default_rng(0)
    for _ in range(15):
        n, d, outputs = rng.integers(2, 30), rng.integers(1, 6), rng.integers(2, 5)
        X, Z = rng.normal(size=(n, d)), rng.normal(size=(n, outputs))
        U = rng.normal(size=(3000, d))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        T = X @ U.T
        best = np.max(np.linalg.norm(np.maximum(T, slope * T).T @ Z, axis=1))
        assert bound(X, Z, 3 * rng.normal(size=n), slope) >= best
        tight = oracle_bounds(X, Z, slope=slope)
        assert best <= tight <= oracle_bounds(X, Z, slope=slope, max_iter=0) * (1 + 1e-12)
        assert tight <= 4 * best  # it is a bound, and not only that


@pytest.mark.parametrize(
    "family", [VectorReLU(None), VectorLeakyReLU(None, slope=0.3), VectorAbsolute(None)]
)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("intercept", [False, True])
def test_improved_bound_is_below_every_network(loss, intercept, family):
    problem = make(4, loss, n=40, d=4, beta=2.0, intercept=intercept)
    start = np.zeros_like(problem.y)
    args = problem.X, problem.y, problem.weights, problem.loss, problem.beta, start
    options = {"intercept": intercept, "slope": family.leak}
    Z, value = improve(*args, **options)
    _, first = improve(*args, **options, max_iter=0)
    assert value >= first
    assert value == pytest.approx(problem.loss.dual(Z, problem.y, problem.weights), rel=1e-12)
    trained = train(problem, family, max_iter=3, tol=1e-3)
    objective = trained.certificate.objective * problem.total_weight
    assert value <= objective and trained.certificate.lower_bound * problem.total_weight >= 0.1 * objective


def test_alpha_max():
    problem = make(6, "log_loss", intercept=True)
    family = VectorReLU("penalized")
    oracle = family.oracle(problem, None)
    price = oracle.price(problem.residual(np.zeros_like(problem.y)))
    for factor, zero in ((1.001, True), (0.98, False)):
        at = problem.at(factor * price.found / problem.total_weight)
        network = train(at, family, tol=1e-7).network
        assert (network.width == 0) == zero


def test_weights_order_and_repetition():
    problem = make(7, "log_loss", outputs=3)
    X, y, s = problem.X, problem.y, problem.weights
    order = np.random.default_rng(0).permutation(len(X))
    copies = s.astype(int)
    plain, *others = [
        Problem.from_alpha(A, b, w, problem.loss, 0.02, True)
        for A, b, w in (
            (X, y, s),
            (X[order], y[order], s[order]),
            (np.repeat(X, copies, axis=0), np.repeat(y, copies, axis=0), None),
            (np.vstack([X, X[:2] + 1]), np.vstack([y, y[:2]]), np.append(s, [0.0, 0.0])),
        )
    ]
    # they are one problem to the last bit, and training, which sees nothing else, is deterministic
    assert all(same_problem(other, plain) for other in others)
    one, two = (train(at, VectorReLU(), tol=1e-7).certificate for at in (plain, others[0]))
    assert one == two


@pytest.mark.parametrize(("coupling", "loss"), [("joint", "log_loss"), ("separate", "squared_error")])
def test_gated_program_against_another_solver(coupling, loss):
    cp = pytest.importorskip("cvxpy")
    problem = make(8, loss, intercept=True)
    family = VectorGatedReLU("penalized", 4, coupling)
    trained = train(problem, family, tol=1e-6)
    # training draws its gates from this seed
    arrangement = family.arrange(problem, np.random.default_rng(0))
    stated, _ = family.lift(problem, arrangement).to_cvxpy()
    stated.solve(solver=cp.CLARABEL)
    value = trained.certificate.objective * problem.total_weight
    assert value == pytest.approx(stated.value, rel=2e-6)


def test_classifier(tmp_path):
    from sklearn.datasets import load_iris

    X, labels = load_iris(return_X_y=True)
    X, labels = ((X - X.mean(0)) / X.std(0))[::3], np.array(["a", "b", "c"])[labels][::3]
    model = ConvexNetClassifier(alpha=1e-2, tol=1e-4).fit(X, labels)
    f, P = model.decision_function(X), model.predict_proba(X)
    assert f.shape == P.shape == (len(X), 3)
    assert np.allclose(P.sum(axis=1), 1.0) and np.allclose(np.log(P), model.predict_log_proba(X))
    assert np.array_equal(model.predict(X), model.classes_[np.argmax(P, axis=1)])
    assert model.score(X, labels) > 0.9
    c = model.certificate_
    assert c.search_gap <= 1e-4 and 0.3 * c.objective <= c.lower_bound <= c.objective
    model.network_.save(tmp_path / "net")
    loaded, _ = Network.load(tmp_path / "net")
    assert np.array_equal(loaded(X), f) and loaded.n_outputs == 3
    again = certify(model, X, labels, alpha=1e-2, tol=1e-4)
    assert again.objective == pytest.approx(c.objective, rel=1e-12)
    squares = ConvexNetClassifier(alpha=1e-1, loss="squared_error", tol=1e-3).fit(X, labels)
    assert squares.score(X, labels) > 0.7 and not hasattr(squares, "predict_proba")


def test_regressor_with_several_targets():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(16, 2))
    Y = np.column_stack([np.abs(X[:, 0]), X[:, 1], np.abs(X[:, 0]) - X[:, 1]])
    model = ConvexNetRegressor(alpha=1e-2, tol=1e-4).fit(X, Y)
    assert model.predict(X).shape == Y.shape and model.score(X, Y) > 0.9
    assert model.certificate_.search_gap <= 1e-4
    column = ConvexNetRegressor(alpha=1e-2).fit(X, Y[:, :1].ravel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(ConvexNetRegressor(alpha=1e-2).fit(X, Y[:, :1]).predict(X), column.predict(X))


def objective_of(X, mlp, losses, alpha):
    """Mean loss plus alpha times the sum of products of norms, without penalty on biases."""
    (W1, W2), (b1, b2) = mlp.coefs_, mlp.intercepts_
    f = np.maximum(X @ W1 + b1, 0.0) @ W2 + b2
    return np.mean(losses(f)) + alpha * np.linalg.norm(W1, axis=0) @ np.linalg.norm(W2, axis=1)


def test_networks_of_scikit_learn_and_torch():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 1))
    Y, labels = np.column_stack([np.abs(X[:, 0]), X[:, 0] ** 2]), np.arange(12) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regressor = MLPRegressor(hidden_layer_sizes=5, random_state=0, max_iter=300).fit(X, Y)
        classifier = MLPClassifier(5, random_state=0, max_iter=300).fit(X, labels)
    options = {"alpha": 0.05, "tol": 1e-3, "max_iter": 6}
    c = certify(regressor, X, Y, **options)
    expected = objective_of(X, regressor, lambda f: 0.5 * np.sum((f - Y) ** 2, axis=1), 0.05)
    assert c.objective == pytest.approx(expected, rel=1e-9) and c.lower_bound <= c.objective
    c = certify(classifier, X, labels, **options)
    one = np.eye(3)[labels]
    expected = objective_of(
        X, classifier, lambda f: np.log(np.sum(np.exp(f), axis=1)) - np.sum(f * one, axis=1), 0.05
    )
    assert c.objective == pytest.approx(expected, rel=1e-9) and c.lower_bound <= c.objective
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).double()
    c = certify(net, X, labels, loss="log_loss", **options)
    f = net(torch.tensor(X)).detach().numpy()
    assert c.lower_bound < c.objective and c.objective > np.mean(np.log(np.sum(np.exp(f), 1)) - f[one > 0])


@pytest.mark.parametrize("family", [VectorLeakyReLU(None, slope=0.3), VectorAbsolute(None)], ids=repr)
def test_a_group_lasso_over_all_directions_of_the_plane_finds_the_same(family):
    """One unit neuron for each of 900 angles, with a vector of output weights that pays its norm."""
    cp = pytest.importorskip("cvxpy")
    problem = make(3, "squared_error", n=8, outputs=2, beta=0.5)
    trained = train(problem, family, tol=1e-8)
    angle = np.linspace(0.0, 2.0 * np.pi, 900, endpoint=False)
    T = problem.X @ np.array([np.cos(angle), np.sin(angle)])
    V = cp.Variable((900, 2))
    rest = cp.multiply(np.sqrt(problem.weights)[:, None], np.maximum(T, family.leak * T) @ V - problem.y)
    total = 0.5 * cp.sum_squares(rest) + problem.beta * cp.sum(cp.norm(V, 2, axis=1))
    value = cp.Problem(cp.Minimize(total)).solve(solver="CLARABEL") / problem.total_weight
    c = trained.certificate
    assert c.scope == "global" and c.gap <= 1e-6
    assert c.lower_bound <= value + 1e-8 and value == pytest.approx(c.objective, rel=1e-3)


def test_slopes_between_families_of_several_outputs():
    problem = make(5, "log_loss", n=10, beta=0.2)

    def optimum(family):
        certificate = train(problem, family, tol=1e-8).certificate
        assert certificate.scope == "global" and certificate.gap <= 1e-6
        return certificate.objective

    assert optimum(VectorLeakyReLU(None, slope=0.0)) == pytest.approx(optimum(VectorReLU(None)), rel=1e-6)
    assert optimum(VectorLeakyReLU(None, slope=-1.0)) == pytest.approx(
        optimum(VectorAbsolute(None)), rel=1e-6
    )
    nearly = optimum(VectorLeakyReLU(None, slope=1.0 - 1e-9))
    assert nearly == pytest.approx(optimum(VectorLinear(None)), rel=1e-5)


def test_other_activations_with_several_outputs_through_estimators(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(16, 2))
    Y = np.column_stack([np.abs(X[:, 0]), np.sin(X[:, 1])])
    for architecture in ("leaky_relu", Absolute("free")):
        model = ConvexNetRegressor(alpha=0.02, architecture=architecture).fit(X, Y)
        assert model.predict(X).shape == Y.shape and model.certificate_.search_gap <= 1e-3
        model.network_.save(tmp_path / "net.safetensors")
        loaded, _ = Network.load(tmp_path / "net.safetensors")
        assert np.array_equal(loaded(X), model.network_(X))
        bias = "free" if isinstance(architecture, Absolute) else "penalized"
        found = certify(loaded, X, Y, alpha=0.02, hidden_bias=bias)
        assert found.objective == pytest.approx(model.certificate_.objective, rel=1e-9)
        assert found.lower_bound <= found.objective and found.search_gap <= 1e-2
    labels = np.argmax(np.column_stack([Y, 0.5 + 0 * X[:, 0]]), axis=1)
    classes = ConvexNetClassifier(alpha=0.02, architecture=LeakyReLU(None, slope=-0.2)).fit(X, labels)
    assert classes.score(X, labels) > 0.7 and classes.certificate_.search_gap <= 1e-3


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_weak_decay_does_not_stall(seed):
    """Targets a thousand times the strength of the penalty: descent alone leaves a gap of 3 %."""
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(9, 3)), 100.0 * rng.normal(size=(9, 3))
    problem = Problem(X, Y, np.ones(9), get_loss("squared_error", 3), 0.1, True)
    certificate = train(problem, VectorReLU(hidden_bias=None), tol=1e-6).certificate
    assert certificate.scope == "global" and certificate.gap <= 2e-6


def test_rounds_are_counted_however_training_ends():
    """Of growing without programs too: at max_iter, at max_time, and where a callback ends it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8))
    Y = np.sin(X @ rng.normal(size=(8, 2)))
    problem = Problem.from_alpha(X, Y, None, get_loss("squared_error", 2), 1e-3, True)
    family, seen = get_architecture("leaky_relu", "penalized", "auto", 2), []

    def stop(moment: Moment) -> bool:
        seen.append(moment.objective)
        return len(seen) > 12

    done = train(problem, family, tol=1e-13, max_iter=3)
    assert done.n_iter == 3 and done.status is Status.max_iter
    ended = train(problem, family, tol=1e-13, max_iter=40, callback=stop)
    assert ended.status is Status.interrupted and ended.n_iter > 1
