"""The whole optimal set: every member is as good as the trained network, and none is missing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from test_golden import plain_objective, records, solve

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, ConvexNetRegressorCV
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Network
from cvxnn.optimal_set import OptimalSet
from cvxnn.program import Problem
from cvxnn.train import get_architecture, train

RECORDS = [
    "relu-sq-parallel-e",
    "relu-sq-identity",
    "relu-sq-n10-d2",
    "relu-sq-rank2-in-d4",
    "relu-sq-bias-out-n6-d2",
    "relu-sq-bias-hid-n6-d2",
    "relu-logistic-n6-d2",
    "gated-n6-d3",
    "gated-identity",
]
SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")


def objective(problem, hidden, network):
    """The objective at the scale of sums, weight decay as it is written, without the library."""
    first, last = network.layers[0], network.layers[-1]
    f = np.maximum(problem.X @ first.weight + first.bias, 0.0) @ last.weight[:, 0] + last.bias[0]
    square = np.sum(first.weight**2) + (np.sum(first.bias**2) if hidden == "penalized" else 0.0)
    losses = 0.5 * (f - problem.y) ** 2 if problem.loss is SQUARED else np.logaddexp(0.0, -problem.y * f)
    return problem.weights @ losses + 0.5 * problem.beta * (square + np.sum(last.weight**2))


def optimum(X, y, hidden, intercept, alpha, loss=SQUARED, weights=None):
    problem = Problem.from_alpha(X, y, weights, loss, alpha, intercept)
    architecture = get_architecture("relu", hidden, "auto")
    return problem, OptimalSet.of(problem, architecture, train(problem, architecture, tol=1e-4).network)


def mirrored(seed, n=4):
    """Samples, their mirror images and targets that do not tell them apart: optima come in pairs."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(n, 2))
    y = np.abs(half[:, 0]) + 0.5 * half[:, 1] ** 2
    return np.vstack([half, half * [-1, 1]]), np.concatenate([y, y])


def test_every_member_of_reference_optima_reaches_the_optimum(golden):
    dimensions = {}
    for record in records(golden, "relu_scalar", "gated_scalar"):
        if record["id"] not in RECORDS:
            continue
        problem, architecture, trained = solve(record, tol=1e-4)
        found = OptimalSet.of(problem, architecture, trained.network)
        f = found.network(problem.X)
        members = [*found.vertices(), found.prune(), found.min_norm(), *found.sample(10)]
        assert found.slack <= 1e-9 and found.gap <= 1e-11, record["id"]
        for network in members:
            assert np.max(np.abs(network(problem.X) - f)) <= 1e-8 * max(1.0, np.max(np.abs(f)))
            assert plain_objective(record, network) == pytest.approx(
                record["optimum"], abs=record["tolerance"], rel=1e-9
            )
        assert found.prune().width <= len(problem.y)
        assert found.smallest().width == min(network.width for network in members)
        unique = found.is_unique()
        assert bool(unique) == (found.dimension == 0 and len(found.vertices()) == 1)
        dimensions[record["id"]] = found.dimension
    assert len(dimensions) == len(RECORDS) and sum(d > 0 for d in dimensions.values()) == 5


@pytest.mark.parametrize("hidden", [None, "penalized", "free"])
@pytest.mark.parametrize("intercept", [False, True])
def test_members_on_data_with_many_optima(hidden, intercept):
    X, y = mirrored(0, n=3)
    problem, found = optimum(X, y, hidden, intercept, 1e-3)
    f, value = found.network(problem.X), objective(problem, hidden, found.network)
    networks = [*found.sample(20), found.prune(), found.min_norm()]
    for network in networks:
        assert np.max(np.abs(network(problem.X) - f)) <= 1e-8
        assert objective(problem, hidden, network) == pytest.approx(value, rel=1e-9)
    assert found.prune().width <= len(y)


def test_the_set_holds_the_mirror_image_of_a_lopsided_member():
    """One neuron for each side or any mixture: members that differ, found without having been trained."""
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    y = np.array([1.0, 1.0, 1.0, 1.0])
    _, found = optimum(X, y, None, False, 0.05)
    assert found.dimension > 0 and not found.is_unique()
    low, high = found.spread(np.array([[2.0, 2.0], [1.0, 0.0]]))
    assert high[0] - low[0] > 0.5  # they disagree away from the data
    assert high[1] - low[1] <= 1e-8  # and agree on it
    sampled = np.array([network(np.array([[2.0, 2.0]]))[0] for network in found.sample(50)])
    assert np.all(sampled >= low[0] - 1e-9) and np.all(sampled <= high[0] + 1e-9)
    assert np.ptp(sampled) > 0.1 * (high[0] - low[0])
    # turning the data by a quarter maps optima to optima: the turned member must be in the set
    member = found.vertices()[0]
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    first, last = member.layers[0], member.layers[-1]
    turned = Network.two_layer(turn @ first.weight, first.bias, last.weight[:, 0])
    units = found.neurons.layers[0].weight
    a = np.zeros(found.neurons.width)
    for w, v in zip(turned.layers[0].weight.T, last.weight[:, 0], strict=True):
        size = np.linalg.norm(w) * abs(v)
        same = np.linalg.norm(units.T - w / np.linalg.norm(w), axis=1) < 1e-6
        assert np.sum(same) == 1
        a[same] += size
    assert found.polytope.contains(a)


def test_all_optima_against_another_solver():
    """The range of a functional over the optimal set, against CVXPY on the program over all patterns."""
    cp = pytest.importorskip("cvxpy")
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    y = np.ones(4)
    problem, found = optimum(X, y, None, False, 0.05)
    architecture = ReLU(None)
    program = architecture.lift(problem, architecture.arrange(problem, np.random.default_rng(0)))
    conic, W = program.to_cvxpy()
    optimal = program.dual(found.Z * (1 - 1e-12))
    within = conic.objective.args[0] <= optimal * (1 + 1e-7)
    # the cells are the quadrants; the active neurons lie in their middles
    gates = architecture.arrange(problem, np.random.default_rng(0)).gates
    block = int(np.flatnonzero(np.all(gates > 0, axis=1))[0])
    assert program.operator.signs[block] == 1.0
    inside = np.all(found.neurons.layers[0].weight > 0.1, axis=0)
    weight = inside * found.neurons.layers[0].weight[0]
    for sign in (1.0, -1.0):
        range_ = cp.Problem(cp.Maximize(sign * W[block, 0]), [*conic.constraints, within])
        range_.solve(solver="CLARABEL")
        assert sign * range_.value == pytest.approx(
            weight @ found.polytope.extreme(-sign * weight), abs=2e-3
        )
    assert np.ptp([weight @ a for a in found.polytope.vertices()]) > 0.1


def test_boundary_neurons_are_merged():
    """The slides' data: neurons on the border of two cells come back once, and two neurons remain."""
    X = np.array([[2.0, 2.0], [3.0, 3.0], [1.0, 0.0]])
    _, found = optimum(X, np.array([1.0, -1.0, 2.0]), None, False, 0.1 / 3)
    assert found.prune().width == found.network.width == 2
    unique = found.is_unique()
    assert unique and unique.proven and unique.scope == "global"


def test_splitting_is_undone():
    X, y = mirrored(3)
    problem, found = optimum(X, y, None, False, 1e-3)
    first, last = found.prune().layers[0], found.prune().layers[-1]
    share = np.sqrt(0.5)
    split = Network.two_layer(
        share * np.hstack([first.weight, first.weight]),
        np.zeros(2 * first.weight.shape[1]),
        share * np.concatenate([last.weight[:, 0], last.weight[:, 0]]),
    )
    again = OptimalSet.of(problem, ReLU(None), split)
    assert again.network.width == first.weight.shape[1]
    assert again.neurons.width == found.neurons.width and again.dimension == found.dimension


def test_sharpening_gains_digits():
    """From a rough network; a wrong guess of its zeros and kinks may leave it as it is, but no worse."""
    gaps = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(12, 2)), rng.normal(size=12)
        problem = Problem.from_alpha(X, y, None, SQUARED, 0.01, True)
        rough = train(problem, ReLU("penalized"), tol=1e-2)
        found = OptimalSet.of(problem, ReLU("penalized"), rough.network)
        assert found.gap <= rough.certificate.gap + 1e-12
        gaps.append((rough.certificate.gap, found.gap))
    assert np.median([before for before, _ in gaps]) > 1e-8
    assert sum(after <= 1e-11 for _, after in gaps) >= 5


def test_gated_networks():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(5, 3)), rng.normal(size=5)
    problem = Problem.from_alpha(X, y, None, SQUARED, 1e-2, False)
    architecture = GatedReLU(None, "all")
    found = OptimalSet.of(problem, architecture, train(problem, architecture, tol=1e-12).network)
    f = found.network(problem.X)
    assert found.scope == "patterns" and found.dimension > 0
    for network in [found.prune(), found.min_norm(), *found.sample(10)]:
        assert np.max(np.abs(network(problem.X) - f)) <= 1e-8
        assert architecture.cost(network) == pytest.approx(architecture.cost(found.network), rel=1e-8)
    other = GatedReLU(None, 5)
    with pytest.raises(ValueError, match="random_state"):
        OptimalSet.of(problem, other, found.network)


def test_free_biases_that_can_slide():
    """On a line the kink of a free bias can sit anywhere between two samples of a flat dual."""
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    problem, found = optimum(x[:, None], np.array([0.0, 0.0, 0.0, 1.0, 2.0]), "free", True, 1e-3)
    f = found.network(problem.X)
    for network in found.sample(10):
        assert np.max(np.abs(network(problem.X) - f)) <= 1e-8
    assert not found.is_unique().proven


def test_estimators():
    X, y = mirrored(2, n=3)
    weights = np.arange(1.0, len(y) + 1)
    model = ConvexNetRegressor(alpha=1e-3, tol=1e-5).fit(X, y, weights)
    found = model.optimal_set(X, y, weights)
    assert found.network(X) == pytest.approx(model.predict(X), abs=1e-3)
    with pytest.raises(ValueError, match="fit was given"):
        model.optimal_set(X, y)
    labels = np.where(y > np.median(y), "b", "a")
    classifier = ConvexNetClassifier(alpha=1e-2, tol=1e-5).fit(X, labels)
    assert classifier.optimal_set(X, labels).slack <= 1e-8
    with pytest.raises(ValueError, match="labels other than"):
        classifier.optimal_set(X, np.where(y > np.median(y), "b", "c"))


@pytest.mark.parametrize("kind", [ConvexNetRegressor, ConvexNetClassifier, ConvexNetRegressorCV])
def test_the_attribute(kind):
    """It is what the method returns for the data of the fit, and not found before it is asked for."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    y = np.abs(X[:, 0]) - 0.5 * X[:, 1]
    weights = rng.uniform(0.5, 1.5, size=12)
    target = np.where(y > np.median(y), "b", "a") if kind is ConvexNetClassifier else y
    model = kind(
        tol=1e-6, **({"alphas": [0.05], "cv": 2} if kind is ConvexNetRegressorCV else {"alpha": 0.05})
    )
    assert not hasattr(model, "optimal_set_")
    model.fit(X, target, weights)
    model._repr_html_()  # reads all fitted attributes that are listed
    assert vars(model)["_optimal_set"] is None
    found, asked = model.optimal_set_, model.optimal_set(X, target, weights)
    assert found is model.optimal_set_ and found.dimension == asked.dimension
    np.testing.assert_allclose(found.prices, asked.prices, rtol=1e-12)
    np.testing.assert_allclose(found.network(X), asked.network(X), rtol=1e-9)
    # another fit has another set
    model.fit(X[:8], target[:8])
    assert model.optimal_set_.problem.X.shape == (8, 2)
    # a copy has the network, and nothing of the data
    content = pickle.dumps(model)
    assert X[0].tobytes() not in content
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with pytest.raises(AttributeError, match=r"call optimal_set\(X, y\)"):
        _ = again.optimal_set_
    assert again.optimal_set(X[:8], target[:8]).dimension == model.optimal_set_.dimension


def test_a_rank_is_refused():
    """On X the network of an approximation is not optimal; on the reduced data it is, and has a set."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 4))
    y = np.abs(X[:, 0]) - X[:, 1]
    model = ConvexNetRegressor(alpha=0.02, rank=2, tol=1e-8).fit(X, y)
    with pytest.raises(ValueError, match=r"rank=2 .*fit with rank=None, or on the reduced data"):
        model.optimal_set(X, y)
    with pytest.raises(ValueError, match="rank=2"):
        _ = model.optimal_set_
    Z = TruncatedSVD(2).fit_transform(X)
    reduced = ConvexNetRegressor(alpha=0.02, tol=1e-8).fit(Z, y)
    found = reduced.optimal_set(Z, y)
    assert found.slack <= 1e-5
    # the same predictions, which the strictly convex loss makes unique
    assert found.network(Z) == pytest.approx(model.predict(X), abs=1e-4)


def test_several_outputs_are_refused():
    network = Network((Affine(np.ones((2, 1)), np.zeros(1)), Affine(np.ones((1, 2)), np.zeros(2))))
    problem = Problem.from_alpha(np.eye(2), np.ones(2), None, SQUARED, 0.1, False)
    with pytest.raises(ValueError, match="one output"):
        OptimalSet.of(problem, ReLU(None), network)


@pytest.mark.parametrize("loss", ["absolute_error", "quantile", "epsilon_insensitive"])
def test_losses_with_kinks_are_refused(loss):
    """At a kink the residual is an arbitrary subgradient, and the set would have worse networks."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(7, 2)), rng.normal(size=7)
    net = ConvexNetRegressor(alpha=0.05, loss=loss, hidden_bias=None, fit_intercept=False).fit(X, y)
    with pytest.raises(ValueError, match="'huber'"):
        net.optimal_set(X, y)
