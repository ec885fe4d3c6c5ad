"""Known optima: reference records, closed forms and tables that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.arrangement import Arrangement, count_bound
from cvxnn.losses import get_loss
from cvxnn.losses.huber import Huber
from cvxnn.losses.quantile import Quantile
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train

LOSS = {
    "squared": lambda p: get_loss("squared_error"),
    "logistic": lambda p: get_loss("log_loss"),
    "hinge": lambda p: get_loss("hinge"),
    "squared_hinge": lambda p: get_loss("squared_hinge"),
    "huber": lambda p: Huber(p["delta"]),
    "absolute": lambda p: get_loss("absolute_error"),
    "pinball": lambda p: Quantile(p["tau"]),
}
#: The reference's word for the biases, as hidden bias and output intercept.
BIAS = {
    "none": (None, False),
    "regularised": ("penalized", False),
    "output_free": (None, True),
    "hidden_free": ("free", True),
}
SYSTEMS = ("relu_scalar", "gated_scalar", "real_data")


def records(golden, *systems):
    """The records that this package answers: scalar output, data inline, a loss it has."""
    return [
        r for r in golden if r["system"] in systems and r["X"] is not None and r["params"]["loss"] in LOSS
    ]


def solve(record, tol=1e-10):
    X, y, params = np.array(record["X"]), np.ravel(record["Y"]).astype(float), record["params"]
    hidden, intercept = BIAS[params["bias"]]
    loss = LOSS[params["loss"]](params)
    problem = Problem.from_alpha(X, y, None, loss, params["beta"] / len(y), intercept)
    if record["system"] == "gated_scalar":
        architecture = GatedReLU(hidden, np.array(params["gate_vectors_columns"]).T)
    else:
        architecture = get_architecture("relu", hidden, "auto")
    return problem, architecture, train(problem, architecture, tol=tol)


def plain_objective(record, network):
    """The objective of the reference, computed from the network's plain weights without the library."""
    X, y, params = np.array(record["X"]), np.ravel(record["Y"]).astype(float), record["params"]
    first, last = network.layers[0], network.layers[-1]
    T = X @ first.weight + first.bias
    gate = (X @ first.gates + first.gate_bias >= 0) if record["system"] == "gated_scalar" else T > 0
    f = (gate * T) @ last.weight[:, 0] + last.bias[0]
    r, m = np.abs(f - y), np.maximum(1.0 - y * f, 0.0)
    delta, tau = params.get("delta", 1.0), params.get("tau", 0.5)
    loss = {
        "squared": np.sum(0.5 * r**2),
        "logistic": np.sum(np.logaddexp(0.0, -y * f)),
        "hinge": np.sum(m),
        "squared_hinge": np.sum(0.5 * m**2),
        "huber": np.sum(np.where(r <= delta, 0.5 * r**2, delta * r - 0.5 * delta**2)),
        "absolute": np.sum(r),
        "pinball": np.sum(np.where(y > f, tau, 1.0 - tau) * r),
    }[params["loss"]]
    square = np.sum(first.weight**2, axis=0)
    square += first.bias**2 if params["bias"] == "regularised" else 0.0
    return loss + 0.5 * params["beta"] * (np.sum(square) + np.sum(last.weight**2))


def test_reference_optima(golden):
    seen = {system: 0 for system in SYSTEMS}
    for record in records(golden, *SYSTEMS):
        optimum, tol, name = record["optimum"], record["tolerance"], record["id"]
        _, _, trained = solve(record)
        certificate, total = trained.certificate, len(np.ravel(record["Y"]))
        assert abs(certificate.objective * total - optimum) <= tol, name
        assert certificate.lower_bound * total <= optimum + tol, name
        assert certificate.scope == ("patterns" if record["system"] == "gated_scalar" else "global"), name
        assert certificate.gap <= 1e-6, name
        # the weights returned are worth what is said, weight decay as it is usually written
        assert plain_objective(record, trained.network) == pytest.approx(optimum, abs=2 * tol), name
        expected = record["extra"].get("network_output")
        if expected is not None and record["params"]["loss"] in ("squared", "logistic"):
            found = trained.network(np.array(record["X"]))
            assert np.allclose(found, np.ravel(expected), atol=1e-3 * (1 + np.max(np.abs(expected)))), name
        seen[record["system"]] += 1
    assert seen == {"relu_scalar": 27, "gated_scalar": 3, "real_data": 4}


def test_reference_bounds_of_the_residual(golden):
    """The reference's own dual variable is feasible for our oracle, and proves its optimum."""
    seen = 0
    for record in records(golden, *SYSTEMS):
        if "dual_point" not in record["extra"]:
            continue
        X, y, params = np.array(record["X"]), np.ravel(record["Y"]).astype(float), record["params"]
        hidden, intercept = BIAS[params["bias"]]
        loss = LOSS[params["loss"]](params)
        problem = Problem(X, y, np.ones(len(y)), loss, params["beta"], intercept)
        architecture = ReLU(hidden)
        if record["system"] == "gated_scalar":
            architecture = GatedReLU(hidden, np.array(params["gate_vectors_columns"]).T)
        rng = np.random.default_rng(0)
        oracle = architecture.oracle(problem, architecture.arrange(problem, rng))
        Z = np.ravel(record["extra"]["dual_point"])
        price = oracle.price(Z)
        slack = 1e-6 * params["beta"]
        assert price.found <= params["beta"] + slack, record["id"]
        if record["id"] != "relu-sq-above-betamax":
            assert price.value == pytest.approx(params["beta"], rel=1e-5), record["id"]
        assert problem.loss.dual(Z, y, problem.weights) == pytest.approx(
            record["optimum"], abs=10 * record["tolerance"]
        ), record["id"]
        seen += 1
    assert seen >= 20


def test_reference_alpha_max(golden):
    seen = 0
    for record in records(golden, "relu_scalar"):
        if "beta_max" not in record["extra"]:
            continue
        problem, architecture, _ = solve(record, tol=1e-3)
        oracle = architecture.oracle(problem, architecture.arrange(problem, np.random.default_rng(0)))
        price = oracle.price(problem.residual(np.zeros_like(problem.y)))
        assert price.value == pytest.approx(record["extra"]["beta_max"], rel=1e-8), record["id"]
        seen += 1
    assert seen >= 15


def breast_cancer(record):
    """The data of the records without inline X, prepared as the reference says."""
    from sklearn.datasets import load_breast_cancer

    X, target = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    X = X / np.linalg.norm(X, axis=0)
    assert np.allclose(X[0], record["extra"]["check_first_row"])
    assert np.sum(np.abs(X)) == pytest.approx(record["extra"]["check_sum_abs_X"])
    return X, 2.0 * target - 1.0


@pytest.mark.parametrize(
    ("name", "alpha", "most", "gap", "proven"),
    [
        ("real-bc-30-beta001", 0.01, 0.245594, 1e-5, 0.96),
        pytest.param("real-bc-30-beta0001", 0.001, 0.101945, 1e-4, 0.5),
    ],
)
def test_thirty_features(golden, name, alpha, most, gap, proven):
    record = next(r for r in golden if r["id"] == name)
    X, y = breast_cancer(record)
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), alpha, False)
    trained = train(problem, ReLU(None))
    certificate = trained.certificate
    best = record["optimum"] / len(y)
    assert certificate.objective <= most and certificate.search_gap <= gap
    inline = record | {"X": X, "Y": y}
    assert certificate.objective == pytest.approx(
        plain_objective(inline, trained.network) / len(y), rel=1e-9
    )
    assert certificate.scope == "bounded"
    assert proven * certificate.objective <= certificate.lower_bound <= best + record["tolerance"] / len(y)


def objective(X, y, beta, architecture):
    """The optimum at the scale of sums, proven to 1e-8, and the output on the data."""
    X, y = np.array(X, dtype=float), np.array(y, dtype=float)
    problem = Problem(X, y, np.ones(len(y)), get_loss("squared_error"), beta)
    trained = train(problem, architecture, tol=1e-9)
    assert trained.certificate.gap <= 1e-8
    return trained.certificate.objective * len(y), trained.network


def neurons(network):
    """``w_j |a_j|`` of the neurons with positive and with negative output weight, each (k, d)."""
    a = network.layers[-1].weight[:, 0]
    W = network.layers[0].weight.T * np.abs(a)[:, None]
    return W[a > 0], W[a < 0]


ROOT = np.sqrt(2.0)


@pytest.mark.parametrize(
    ("y", "beta", "optimum", "gated", "plus", "minus"),
    [
        ((1, 2, 3), 0.1, 0.411679326, 0.3334615, (2.859613, -2.239486), None),
        ((1, 2, 3), 1.0, 2.886459848, 2.5384616, (1.628546, -0.973688), None),
        ((2, 3, 0), 0.1, 0.095113036, 0.0705184, (0.08963, 0.902715), None),
        ((2, 3, 0), 1.0, 0.770408090, 0.687876, (0.348291, 0.585596), None),
        ((1, -1, 2), 0.1, 1.241688866, 1.1617854, (2 - 0.1 * ROOT, 0.1 * ROOT - 2), (0.0, 0.9 / 13)),
        ((1, -1, 2), 1.0, 2 * ROOT, 2.4967005, (2 - ROOT, ROOT - 2), None),
    ],
)
def test_table_of_the_parallel_rows(y, beta, optimum, gated, plus, minus):
    """X = [[2, 2], [3, 3], [1, 0]]; with weaker cones the values would be the gated ones."""
    X = [[2, 2], [3, 3], [1, 0]]
    value, network = objective(X, y, beta, ReLU(None, "all"))
    assert value == pytest.approx(optimum, abs=6e-10 if beta < 1 or y != (1, -1, 2) else 1e-8)
    positive, negative = neurons(network)
    assert positive.sum(axis=0) == pytest.approx(plus, abs=2e-5)
    if minus is None:
        assert len(negative) == 0
    elif beta == 0.1:
        assert negative.sum(axis=0) == pytest.approx(minus, abs=2e-5)
    relaxed, _ = objective(X, y, beta, GatedReLU(None, "all"))
    assert relaxed == pytest.approx(gated, abs=2e-7)
    assert relaxed < value - 0.01


def test_cells_of_the_parallel_rows():
    found = Arrangement.enumerate(np.array([[2.0, 2.0], [3.0, 3.0], [1.0, 0.0]]))
    assert found.complete and len(found) == 4
    words = ["".join("01"[bit] for bit in mask.astype(int)) for mask in found.masks()]
    assert set(words) == {"111", "110", "001", "000"}
    for word, (u1, u2) in zip(words, found.gates, strict=True):
        assert (u1 + u2 > 0) == (word[0] == "1") and (u1 > 0) == (word[2] == "1")


@pytest.mark.parametrize("y", [(1.0, 2.0), (-3.0, 0.5), (0.05, -2.0), (0.0, 0.0)])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_opposite_samples_are_soft_thresholded(y, beta):
    """X = [-1; 1]: each sample has its own neuron."""
    value, network = objective([[-1], [1]], y, beta, ReLU(None))
    size = np.abs(y)
    expected = np.where(size >= beta, beta * size - beta**2 / 2, size**2 / 2)
    assert value == pytest.approx(np.sum(expected), abs=1e-8)
    threshold = np.sign(y) * np.maximum(size - beta, 0.0)
    assert network(np.array([[-1.0], [1.0]])) == pytest.approx(threshold, abs=1e-6)


def test_the_factor_of_two():
    """Squared error without its half and lambda/2 (w^2 + a^2), lambda = 0.1: 0.295, not 0.58."""
    for strength, expected, size in ((0.05, 0.295, (0.95, 1.95)), (0.1, 0.58, (0.9, 1.9))):
        value, network = objective([[-1], [1]], (1, 2), strength, ReLU(None))
        assert 2 * value == pytest.approx(expected, abs=1e-8)
        assert network(np.array([[-1.0], [1.0]])) == pytest.approx(size, abs=1e-6)


@pytest.mark.parametrize("y", [(3.0, 4.0, -2.0), (1.0, 1.0, 1.0, 1.0), (-5.0, 2.0), (0.3, -0.2, 6.0)])
@pytest.mark.parametrize("rotated", [False, True])
def test_orthonormal_samples(y, rotated):
    """X X' = I: positive and negative targets are shrunk as two groups."""
    y, beta = np.array(y), 1.0
    X = np.eye(len(y))
    if rotated:
        X = np.linalg.qr(np.random.default_rng(0).normal(size=(5, len(y))))[0].T
    value, network = objective(X, y, beta, ReLU(None))
    expected, output = 0.0, np.zeros(len(y))
    for part in (np.maximum(y, 0.0), np.minimum(y, 0.0)):
        size = np.linalg.norm(part)
        expected += beta * size - beta**2 / 2 if size >= beta else size**2 / 2
        output += max(0.0, 1 - beta / size) * part if size > 0 else 0.0
    assert value == pytest.approx(expected, abs=1e-7)
    assert network(X) == pytest.approx(output, abs=1e-5)


def test_identity_gated():
    X, y = np.eye(3), (3.0, 4.0, -2.0)
    value, network = objective(X, y, 1.0, GatedReLU(None, np.ones((1, 3))))
    assert value == pytest.approx(np.sqrt(29) - 0.5, abs=1e-8)
    assert network(X) == pytest.approx((1 - 1 / np.sqrt(29)) * np.array(y), abs=1e-5)
    everything, _ = objective(X, y, 1.0, GatedReLU(None, "all"))
    assert everything == pytest.approx(np.sqrt(29) - 0.5, abs=1e-8)
    assert everything < objective(X, y, 1.0, ReLU(None))[0] == pytest.approx(6.0, abs=1e-8)


@pytest.mark.parametrize(
    ("n", "r", "count"), [(3, 2, 6), (4, 2, 8), (5, 3, 22), (10, 3, 92), (20, 5, 10072), (100, 3, 9902)]
)
def test_count_table(n, r, count):
    assert count_bound(n, r) == count
    found = Arrangement.enumerate(np.random.default_rng(n).normal(size=(n, r)), limit=count)
    assert found.complete and len(found) == count


@pytest.mark.parametrize("n", [1, 4, 9])
def test_one_dimension_with_bias_has_two_patterns_per_sample(n):
    X = np.column_stack([np.random.default_rng(n).normal(size=n), np.ones(n)])
    assert len(Arrangement.enumerate(X)) == 2 * n
