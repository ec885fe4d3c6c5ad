"""Deep networks: three layers, path regularisation, deep linear networks, chains of neurons on a line."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import minimize
from typer.testing import CliRunner

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.architectures.deep_linear import DeepLinear, VectorDeepLinear
from cvxnn.architectures.deep_narrow import NarrowReLU
from cvxnn.architectures.deep_path import PathReLU
from cvxnn.architectures.deep_relu import DeepReLU
from cvxnn.arrangement import pack
from cvxnn.certificate import judge
from cvxnn.cli import app
from cvxnn.deep_descent import draw, search_branch, unstack
from cvxnn.deep_network import balanced, cost_of, join_branches, outputs_of
from cvxnn.deep_oracles import DeepOracle
from cvxnn.losses import get_loss
from cvxnn.nested_cones import Nest, NestedCones
from cvxnn.network import Affine, ReLU
from cvxnn.operators import Dense, Masked, Stacked
from cvxnn.oracles import Design
from cvxnn.penalties import GroupL2
from cvxnn.planar import PlaneOracle
from cvxnn.program import Problem, Program, Status
from cvxnn.schatten import deep_linear, interpolate, shrink
from cvxnn.solvers import SOLVERS, run
from cvxnn.testing import check_operator
from cvxnn.train import get_architecture, train

ZSHAPE = (0.0, 2.0, 6.0, 7.0), (0.0, 0.0, 3.0, 3.0)
BUMP = (0.0, 1.0, 2.0, 3.0, 4.0), (0.0, 0.0, 1.0, 0.0, 0.0)
ZIG = (-2.0, -1.0, 0.0, 1.0, 2.0), (1.0, -1.0, 1.0, -1.0, 1.0)
OPT = (0.0, 4.0, 5.0, 7.0, 10.0, 11.0), (0.0, 0.0, 0.0, 2.0, 3.0, 3.0)


def posed(X, y, beta, intercept=False, loss="squared_error"):
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    X = X[:, None] if X.ndim == 1 else X
    outputs = 1 if y.ndim == 1 else y.shape[1]
    return Problem(X, y, np.ones(len(y)), get_loss(loss, outputs), beta, intercept)


def optimum(problem, architecture, tol=1e-9, gap=1e-8):
    """Objective at the scale of sums, proven over all networks."""
    trained = train(problem, architecture, tol=tol)
    assert trained.certificate.scope == "global" and trained.certificate.gap <= gap
    return trained.certificate.objective * problem.total_weight, trained


def of_system(golden, system):
    found = [record for record in golden if record["system"] == system]
    assert found
    return found


# Three layers


def test_reference_optima_of_three_layers(golden):
    for record in of_system(golden, "three_layer"):
        problem = posed(record["X"], record["Y"], record["params"]["beta"])
        for patterns in ("auto", "all"):
            value, trained = optimum(problem, DeepReLU(None, patterns))
            assert value == pytest.approx(record["optimum"], abs=record["tolerance"]), record["id"]
            # the weights as they are, products of Frobenius norms and powers of them
            first, second, last = (layer.weight for layer in trained.network.layers[0::2])
            f = np.maximum(np.maximum(problem.X @ first, 0) @ second, 0) @ last[:, 0]
            powers = 0.0
            for k in range(second.shape[1]):
                mine = second[:, k] != 0
                norms = (np.linalg.norm(first[:, mine]), np.linalg.norm(second[:, k]), abs(last[k, 0]))
                assert np.ptp(norms) <= 1e-9 * max(norms)
                powers += sum(norm**3 for norm in norms) / 3
            plain = 0.5 * np.sum((f - problem.y) ** 2) + problem.beta * powers
            assert plain == pytest.approx(record["optimum"], abs=2e-9)
        expected = record["extra"]["network_output"]
        assert trained.network(problem.X) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("data", "two", "three"),
    [(ZSHAPE, 0.172565, 0.142113), (BUMP, 0.240598, 0.203217), (ZIG, 0.694901, 0.578965)],
    ids=("zshape", "bump", "zig"),
)
def test_a_third_layer_helps_where_clipping_does(data, two, three):
    X = np.column_stack([data[0], np.ones(len(data[0]))])
    problem = posed(X, data[1], 0.05)
    assert optimum(problem, DeepReLU(None))[0] == pytest.approx(three, abs=1e-6)
    assert optimum(problem, get_architecture("relu", None, "auto"))[0] == pytest.approx(two, abs=1e-6)


def descents(problem, K, m, starts, depth=3, seed=0):
    """The best objective of plain L-BFGS on parallel networks, gradients by hand."""
    rng, X, y = np.random.default_rng(seed), problem.X, problem.y
    d = X.shape[1]
    shapes = [(K, d, m), *[(K, m, m)] * (depth - 3), (K, m), (K,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])

    def value(v):
        parts = [p.reshape(shape) for p, shape in zip(np.split(v, ends[:-1]), shapes, strict=True)]
        H, T = [X[None].repeat(K, axis=0)], []
        for W in parts[:-2]:
            T.append(np.einsum("kni,kij->knj", H[-1], W))
            H.append(np.maximum(T[-1], 0.0))
        h = np.einsum("knj,kj->kn", H[-1], parts[-2])
        r = parts[-1] @ np.maximum(h, 0.0) - y
        norms = [np.sqrt(np.sum(p.reshape(K, -1) ** 2, axis=1)) for p in parts]
        total = 0.5 * r @ r + problem.beta / depth * sum(np.sum(norm**depth) for norm in norms)
        pull = (h > 0) * parts[-1][:, None] * r
        gradient = [np.maximum(h, 0.0) @ r, np.einsum("knj,kn->kj", H[-1], pull)]
        back = pull[:, :, None] * parts[-2][:, None, :]
        for at in range(len(T) - 1, -1, -1):
            back = back * (T[at] > 0)
            gradient.append(np.einsum("kni,knj->kij", H[at], back))
            back = np.einsum("knj,kij->kni", back, parts[at])
        for g, p, norm in zip(reversed(gradient), parts, norms, strict=True):
            g += problem.beta * (norm ** (depth - 2)).reshape(-1, *[1] * (p.ndim - 1)) * p
        return total, np.concatenate([g.ravel() for g in reversed(gradient)])

    best = np.inf
    for _ in range(starts):
        start = rng.normal(size=ends[-1]) * 0.7
        found = minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 250})
        best = min(best, found.fun)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_no_descent_beats_the_bound(seed):
    rng = np.random.default_rng(seed)
    problem = posed(np.column_stack([rng.normal(size=6), np.ones(6)]), rng.normal(size=6), 0.05)
    value, trained = optimum(problem, DeepReLU(None), gap=1e-7)
    best = descents(problem, 4, 4, 6, seed=seed)
    assert best >= trained.certificate.lower_bound * 6 - 1e-9
    assert value <= best + 1e-9
    deeper = train(problem, DeepReLU(None, depth=4), tol=1e-4, max_iter=4)
    assert descents(problem, 4, 3, 3, depth=4, seed=seed) >= deeper.certificate.lower_bound * 6 - 1e-9


def test_one_sample():
    """n = d = 1, x = y = 1: beta - beta^2 / 2 at every depth."""
    problem = posed([[1.0]], [1.0], 0.3)
    for depth in (3, 4, 6):
        value, trained = optimum(problem, DeepReLU(None, depth=depth), gap=1e-7)
        assert value == pytest.approx(0.3 - 0.045, abs=1e-7)
        assert len(trained.network.layers) == 2 * depth - 1


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_orthonormal_samples(depth):
    """X X' = I: positive and negative targets are shrunk as two groups at every depth."""
    rng = np.random.default_rng(1)
    X, y, beta = np.linalg.qr(rng.normal(size=(5, 4)))[0].T, np.array([1.2, 0.8, -0.9, 0.1]), 0.3
    value, trained = optimum(posed(X, y, beta), DeepReLU(None, depth=depth), tol=1e-7, gap=1e-6)
    sizes = [np.linalg.norm(np.maximum(side * y, 0)) for side in (1, -1)]
    expected = sum(0.5 * t * t if t <= beta else beta * t - 0.5 * beta**2 for t in sizes)
    assert value == pytest.approx(expected, rel=1e-6)
    parts = sum(
        max(0.0, 1 - beta / t) * np.where(side * y > 0, y, 0)
        for t, side in zip(sizes, (1, -1), strict=True)
    )
    assert trained.network(X) == pytest.approx(parts, abs=1e-3)


def cvxpy_optimum(problem, masks):
    """The convex program over all second-layer patterns, in CVXPY."""
    cp = pytest.importorskip("cvxpy")
    X, n = problem.X, len(problem.y)
    f, cost, rows = 0, 0, []
    for code in range(1, 2**n):
        second = (code >> np.arange(n)) & 1
        for side in (1.0, -1.0):
            h = 0
            for mask in masks:
                for sign in (1.0, -1.0):
                    u = cp.Variable(X.shape[1])
                    rows.append(cp.multiply(2.0 * mask - 1, X @ u) >= 0)
                    h = h + sign * cp.multiply(1.0 * mask, X @ u)
                    cost = cost + cp.norm(u)
            rows.append(cp.multiply(2.0 * second - 1, h) >= 0)
            f = f + side * cp.multiply(1.0 * second, h)
    goal = cp.Minimize(0.5 * cp.sum_squares(f - problem.y) + problem.beta * cost)
    return cp.Problem(goal, rows).solve(solver="CLARABEL")


def test_cvxpy_agrees():
    from cvxnn.arrangement import Arrangement

    rng = np.random.default_rng(3)
    problem = posed(rng.normal(size=(4, 2)), rng.normal(size=4), 0.1)
    masks = Arrangement.enumerate(problem.X).masks()
    value, _ = optimum(problem, DeepReLU(None))
    assert value == pytest.approx(cvxpy_optimum(problem, masks), abs=1e-6)
    # sampled patterns are above, and so they say
    sampled = train(problem, DeepReLU(None, 6), tol=1e-9).certificate
    assert sampled.scope == "patterns" and sampled.objective * 4 >= value - 1e-9
    architecture = DeepReLU(None, 6)
    nest = architecture.arrange(problem, np.random.default_rng(0))
    program = architecture.lift(problem, nest)
    stated, _ = program.to_cvxpy()
    assert stated.solve(solver="CLARABEL") == pytest.approx(
        run(SOLVERS["conic"](), program).primal, abs=1e-6
    )


def test_prices_bound_a_thousand_branches():
    """At every scope, at depths 3 and 4; and branch and bound is attained."""
    rng, scopes = np.random.default_rng(0), set()
    for n, d, depth in ((9, 2, 3), (7, 3, 3), (7, 3, 4), (12, 6, 3), (40, 6, 3)):
        X = rng.normal(size=(n, d))
        problem = posed(X, rng.normal(size=n), 0.1)
        architecture = DeepReLU(None, depth=depth)
        oracle = architecture.oracle(problem, None)
        H = architecture.unit_neurons(problem, None, rng.normal(size=(1000, d + 1)))
        for Z in (problem.y, rng.normal(size=n)):
            price = oracle.price(Z)
            scopes.add((depth, price.scope))
            searched = unstack(search_branch(X, Z, draw(20, depth, d, 4, 1.0, rng)))
            values = [Z @ outputs_of(b, X) / cost_of([*b[:-1], np.ones((1, 1))]) for b in searched]
            assert max([np.max(np.abs(H @ Z)), *values]) <= price.value * (1 + 1e-9)
            if price.scope == "global":
                assert price.found >= price.value * (1 - 1e-7)
    assert scopes == {(3, "global"), (3, "bounded"), (4, "bounded")}


def test_branch_and_bound_agrees_with_the_listed_programs():
    rng = np.random.default_rng(5)
    problem = posed(np.column_stack([rng.normal(size=5), np.ones(5)]), rng.normal(size=5), 0.1)
    architecture = DeepReLU(None, "all")
    nest = architecture.arrange(problem, rng)
    assert nest.complete
    oracle = architecture.oracle(problem, nest)
    program = architecture.lift(problem, nest)
    Z = rng.normal(size=5)
    assert isinstance(oracle, DeepOracle) and oracle.price(Z).scope == "global"
    assert program.price(Z) == pytest.approx(oracle.price(Z).value, rel=1e-6)


def test_weak_duality_with_coupled_cones():
    rng = np.random.default_rng(2)
    problem = posed(rng.normal(size=(6, 2)), rng.normal(size=6), 0.2)
    for architecture in (DeepReLU(None, 8), PathReLU(None, 8)):
        program = architecture.lift(problem, architecture.arrange(problem, rng))
        best = run(SOLVERS["conic"](), program, tol=1e-9)
        cones = program.constraint
        shape = best.W.shape
        assert best.gap <= 1e-8 and cones.violation(best.W) <= 1e-9
        K = cones.matrix()
        for _ in range(5):
            Z, rho = rng.normal(size=6), rng.random((K.shape[0] // 6, 6))
            W = cones.project(rng.normal(size=shape))
            assert cones.violation(W) <= 1e-8
            assert program.bound(Z, rho) <= best.primal + 1e-9 <= program.primal(W) + 2e-9
            assert program.bound(Z, rho) <= program.bound(Z) + 1e-9
            G = program.operator.adjoint(Z)
            rows = K @ W.ravel()
            assert rows @ rho.ravel() == pytest.approx(np.sum((cones.price(G, rho) - G) * W))
        for name in ("interior_point", "fista", "working_set"):
            able, reason = SOLVERS[name]().supports(program)
            assert not able and reason


def test_operators():
    rng = np.random.default_rng(0)
    masks = rng.random((6, 7)) < 0.5
    single = Masked(rng.normal(size=(7, 3)), pack(masks), np.where(rng.random(6) < 0.5, 1.0, -1.0))
    check_operator(Stacked(single, 2))
    check_operator(Dense(rng.normal(size=(7, 4))))


def test_costs_are_those_of_the_best_scalings():
    rng = np.random.default_rng(4)
    for depth in (3, 4, 5):
        branch = [
            rng.normal(size=(3, 4)),
            *[rng.normal(size=(4, 4))] * (depth - 3),
            rng.normal(size=(4, 1)),
        ]
        branch.append(rng.normal(size=(1, 1)))
        cost = cost_of(branch)
        even = balanced(branch)
        X = rng.normal(size=(9, 3))
        out = [b[-1][0, 0] * outputs_of(b, X) for b in (branch, even)]
        assert out[0] == pytest.approx(out[1], abs=1e-12)
        assert np.ptp([np.linalg.norm(W) for W in even]) <= 1e-10
        for _ in range(200):  # no other rescaling is cheaper
            scales = [np.exp(rng.normal(size=4)) for _ in range(depth - 2)]
            layers = [W.copy() for W in branch]
            for at, d in enumerate(scales):
                layers[at], layers[at + 1] = layers[at] * d, layers[at + 1] / d[:, None]
            assert np.prod([np.linalg.norm(W) for W in layers]) >= cost * (1 - 1e-12)
        network = join_branches([branch, branch], depth, 3, False)
        assert DeepReLU(None, depth=depth).cost(network) == pytest.approx(2 * cost)


def test_a_neuron_of_two_branches_counts_twice():
    """By hand: w = (3, 4), weights 1 and 2 to two branches with output weights 1 and -1: 5 + 10."""
    layers = [
        Affine(np.array([[3.0], [4.0]]), np.zeros(1)),
        ReLU(),
        Affine(np.array([[1.0, 2.0]]), np.zeros(2)),
    ]
    network = Network((*layers, ReLU(), Affine(np.array([[1.0], [-1.0]]), np.zeros(1))))
    assert DeepReLU(None).cost(network) == pytest.approx(15.0)
    assert PathReLU(None, width=1).cost(network) == pytest.approx(15.0)


# Path regularisation


def test_reference_optimum_of_path_regularisation(golden):
    for record in of_system(golden, "path_regularised"):
        problem = posed(record["X"], record["Y"], record["params"]["beta"])
        width = record["params"]["hidden_width_per_subnetwork"]
        value, _ = optimum(problem, PathReLU(None, width=width))
        assert value == pytest.approx(record["optimum"], abs=record["tolerance"])
        wide = train(problem, PathReLU(None, width=4), tol=1e-6).certificate
        assert wide.scope == "bounded" and wide.objective * 3 <= 0.39583


def test_certificates_of_paths_name_the_width_they_hold_for():
    """Wider branches may cost less, so a bound is no bound of theirs."""
    rng = np.random.default_rng(0)
    problem = posed(rng.normal(size=(4, 2)), rng.normal(size=4), 0.2)
    one, two = (train(problem, PathReLU(None, width=width), tol=1e-4).certificate for width in (1, 2))
    assert two.objective < one.lower_bound
    assert one.branch == 1 and two.branch == 2
    assert one.sentence() == "no network of any width with branches of at most 1 neuron can be below"
    grown = train(problem, PathReLU(None, width=4), tol=1e-2).certificate
    assert grown.branch == 4 and "at most 4 neurons" in str(grown)


def test_paths_grow_to_what_listing_gives(monkeypatch):
    import cvxnn.architectures.deep_path as room

    rng = np.random.default_rng(1)
    problem = posed(rng.normal(size=(3, 2)), rng.normal(size=3), 0.1)
    value, _ = optimum(problem, PathReLU(None))
    monkeypatch.setattr(room, "AUTO", 1)
    grown = train(problem, PathReLU(None), tol=1e-9).certificate
    assert grown.scope == "bounded"
    assert grown.objective * 3 == pytest.approx(value, abs=1e-8)
    # branches of one neuron are two-layer neurons
    one = train(problem, PathReLU(None, width=1), tol=1e-9).certificate.objective
    two = train(problem, get_architecture("relu", None, "auto"), tol=1e-9).certificate.objective
    assert one == pytest.approx(two, rel=1e-6)


# Deep linear networks


def test_reference_optima_of_linear_networks(golden):
    for record in of_system(golden, "deep_linear_parallel"):
        problem = posed(record["X"], record["Y"], record["params"]["beta"])
        value, trained = optimum(problem, VectorDeepLinear(None))
        assert value == pytest.approx(record["optimum"], abs=record["tolerance"])
        Z = np.linalg.multi_dot([layer.weight for layer in trained.network.layers])
        assert np.max(np.abs(Z - np.array(record["extra"]["Z"]))) <= 1e-4
    for record in of_system(golden, "deep_linear_standard"):
        X, Y, depth = np.array(record["X"]), np.array(record["Y"]), record["params"]["depth"]
        if record["params"]["beta"] is None:
            found = interpolate(X, Y, depth)
            assert found.value == pytest.approx(record["optimum"])
            assert found.dual == pytest.approx(record["extra"]["bidual_lower_bound"])
            assert found.parallel == pytest.approx(record["extra"]["parallel_value_with_power_L_penalty"])
            continue
        found = deep_linear(X, Y, record["params"]["beta"] / len(X), depth)
        assert found.certificate.objective * len(X) == pytest.approx(record["optimum"], abs=1e-10)
        assert found.certificate.gap <= 1e-11 and found.certificate.scope == "global"


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_singular_values_are_shrunk_to_the_minimum(depth):
    grid = np.linspace(0, 5, 200_001)
    for t in (0.05, 0.4, 0.9, 1.3, 4.0):
        for beta in (0.1, 0.35, 1.0):
            s = shrink(np.array([t]), beta, depth)[0]
            values = 0.5 * (np.append(grid, s) - t) ** 2 + 0.5 * beta * depth * np.append(grid, s) ** (
                2 / depth
            )
            assert values[-1] <= np.min(values) + 1e-9


def test_weight_decay_closed_form_against_descent():
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.normal(size=(6, 3)))[0] * 1.7
    Y, alpha, depth = rng.normal(size=(6, 2)), 0.03, 3
    best = deep_linear(X, Y, alpha, depth).certificate
    sizes = [(3, 3), (3, 3), (3, 2)]
    ends = np.cumsum([a * b for a, b in sizes])[:-1]

    def value(v):
        A, B, C = (p.reshape(size) for p, size in zip(np.split(v, ends), sizes, strict=True))
        R = (X @ A @ B @ C - Y) / 6
        grads = X.T @ R @ (B @ C).T, (X @ A).T @ R @ C.T, (X @ A @ B).T @ R
        total = 3 * np.sum(R * R) + 0.5 * alpha * v @ v
        return total, np.concatenate([g.ravel() for g in grads]) + alpha * v

    found = min(
        minimize(value, rng.normal(size=24), jac=True, method="L-BFGS-B", options={"ftol": 1e-15}).fun
        for _ in range(20)
    )
    assert best.lower_bound <= found and found == pytest.approx(best.objective, rel=1e-6)


def test_linear_networks_of_any_depth_share_an_optimum():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    values = [optimum(posed(X, Y, 0.5), VectorDeepLinear(None, depth=depth))[0] for depth in (3, 5)]
    linear, _ = optimum(posed(X, Y, 0.5), get_architecture("linear", None, "auto", 2))
    assert values == pytest.approx([linear, linear], rel=1e-7)
    # a dense network counts as one branch: a product of norms, never below the nuclear norm
    W = [rng.normal(size=(3, 4)), rng.normal(size=(4, 4)), rng.normal(size=(4, 2))]
    dense = Network(tuple(Affine(w, np.zeros(w.shape[1])) for w in W))
    cost = VectorDeepLinear(None).cost(dense)
    assert cost == pytest.approx(np.prod([np.linalg.norm(w) for w in W]))
    assert cost >= np.sum(np.linalg.svd(np.linalg.multi_dot(W))[1])


# Chains of neurons on a line


def test_reference_optima_on_a_line(golden):
    for record in of_system(golden, "narrow_1d"):
        depth, beta = record["params"]["depth"], record["params"]["beta"]
        problem = posed(record["X"], record["Y"], beta)
        value, trained = optimum(problem, NarrowReLU(depth))
        assert value == pytest.approx(record["optimum"], abs=record["tolerance"]), record["id"]
        affine = trained.network.layers[0::2]
        powers = sum(np.sum(np.abs(layer.weight) ** depth) for layer in affine) / depth
        f = trained.network(problem.X)
        assert 0.5 * np.sum((f - problem.y) ** 2) + beta * powers == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("beta", [0.05, 0.1])
def test_zshape_by_hand(beta):
    problem = posed(*ZSHAPE, beta)
    assert optimum(problem, NarrowReLU(2))[0] == pytest.approx(1.5 * beta - 2.25 * beta**2, abs=1e-9)
    for depth in (3, 4, 7):
        value, _ = optimum(problem, NarrowReLU(depth))
        assert value == pytest.approx(0.75 * beta - beta**2 / 16, abs=1e-9)


def chain_features(x, depth):
    """The features of the Lasso as it was published, with reflected breakpoints at depth 4."""
    found = [x]
    starts = [(s, x[j]) for s in (1, -1) for j in range(len(x))]
    if depth == 4:
        starts += [(s, 2 * b - a) for s in (1, -1) for a in x for b in x]
    found = [(s * (x - at), lambda t, s=s, at=at: s * (t - at)) for s, at in starts]
    found = [(np.maximum(g, 0.0), lambda t, u=u: np.maximum(u(t), 0.0)) for g, u in found]
    for _ in range(depth - 2):
        new = []
        for g, u in found:
            for s in (1, -1):
                for j in range(len(x)):
                    new.append((np.maximum(s * (g - g[j]), 0.0), u))
        found = new
    return np.array([g for g, _ in found]).T


@pytest.mark.parametrize("depth", [3, 4])
def test_the_dictionary_is_complete(depth):
    """Features of the published Lasso, reflections included, and random chains are no worth more."""
    rng = np.random.default_rng(depth)
    for data in (ZSHAPE, OPT):
        problem = NarrowReLU(depth).problem_of(posed(*data, 0.05))
        architecture = NarrowReLU(depth)
        _, trained = optimum(problem, architecture)
        A = chain_features(problem.X[:, 0], depth)
        Z = trained.dual
        assert np.max(np.abs(A.T @ Z)) <= 0.05 * (1 + 1e-6)
        oracle = architecture.oracle(problem, None)
        for _ in range(20):
            Z = rng.normal(size=len(problem.y))
            Z -= Z.mean()
            listed = np.max(np.abs(A.T @ Z))
            assert (
                listed == pytest.approx(oracle.price(Z).found, rel=1e-9) or listed < oracle.price(Z).found
            )


def chain_descent(x, y, beta, depth, units, rng):
    """L-BFGS on a sum of chains, derivatives by hand; the power of weights as penalty, biases free."""
    L, K, n = depth, units, len(x)

    def value(v):
        w, b, c = v[: L * K].reshape(L, K), v[L * K : -1].reshape(L - 1, K), v[-1]
        t, inputs, on = np.repeat(x[:, None], K, axis=1), [], []
        for at in range(L - 1):
            inputs.append(t)
            t = t * w[at] + b[at]
            on.append(t > 0)
            t = np.maximum(t, 0.0)
        r = t @ w[-1] + c - y
        total = 0.5 * r @ r + beta / L * np.sum(np.abs(w) ** L)
        gw, gb = np.zeros((L, K)), np.zeros((L - 1, K))
        gw[-1] = t.T @ r
        back = np.outer(r, w[-1])
        for at in range(L - 2, -1, -1):
            back = back * on[at]
            gw[at], gb[at] = np.sum(back * inputs[at], axis=0), np.sum(back, axis=0)
            back = back * w[at]
        gw += beta * np.abs(w) ** (L - 1) * np.sign(w)
        return total, np.concatenate([gw.ravel(), gb.ravel(), [np.sum(r)]])

    start = np.concatenate([rng.normal(size=L * K), rng.normal(size=(L - 1) * K) * np.std(x), [np.mean(y)]])
    del n
    return minimize(
        value, start, jac=True, method="L-BFGS-B", options={"maxiter": 1500, "maxfun": 3000}
    ).fun


@pytest.mark.parametrize(("data", "depth"), [(ZSHAPE, 3), (ZSHAPE, 4), (OPT, 3), (OPT, 4)])
def test_training_chains_never_beats_the_lasso(data, depth):
    rng = np.random.default_rng(0)
    x, y = map(np.array, data)
    value, trained = optimum(posed(x, y, 0.05), NarrowReLU(depth))
    x0 = (x - x.mean()) / x.std()  # a scale only: beta changes along
    beta = 0.05 / x.std()
    scaled, _ = optimum(posed(x0, y, beta), NarrowReLU(depth))
    assert scaled == pytest.approx(value, abs=1e-8)
    best = min(chain_descent(x0, y, beta, depth, 6, rng) for _ in range(40))
    assert best >= trained.certificate.lower_bound * len(y) - 1e-9
    assert best <= 1.3 * value  # and it comes near: the comparison is not empty


def test_ramps_cost_half_their_variation():
    """The penalty of depth 3 in terms of slopes, and that of depth 2."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.normal(size=30))
    problem = posed(x, np.sin(3 * x) + 0.3 * rng.normal(size=30), 0.05)
    for depth in (3, 2):
        value, trained = optimum(problem, NarrowReLU(depth), tol=1e-9, gap=1e-7)
        f = trained.network(problem.X)
        slopes = np.diff(f) / np.diff(x)
        if depth == 3:
            cost = 0.5 * np.sum(np.abs(np.diff(slopes, prepend=0.0, append=0.0)))
        else:
            turns = np.sum(np.abs(np.diff(slopes)))
            cost = max(turns, 0.5 * (turns + abs(slopes[0] + slopes[-1])))
        assert NarrowReLU(depth).cost(trained.network) == pytest.approx(cost, rel=1e-6)
    plain = train(problem, get_architecture("relu", "free", "auto"), tol=1e-9).certificate.objective * 30
    assert value == pytest.approx(plain, rel=1e-7)


# What people call


def test_estimators_and_certificates():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (10, 1))
    y = np.clip(X[:, 0], -0.5, 1.0)
    for architecture in ("deep_relu", "narrow_relu", "deep_linear", PathReLU(width=1)):
        model = ConvexNetRegressor(0.02, architecture=architecture, tol=1e-6).fit(X, y)
        own, judged = model.certificate_, certify(model, X, y, alpha=0.02)
        assert judged.objective == pytest.approx(own.objective, rel=1e-9)
        assert judged.lower_bound <= own.objective * (1 + 1e-9) and judged.scope == own.scope
    labels = (y > 0).astype(int)
    classifier = ConvexNetClassifier(0.02, architecture="deep_relu").fit(X, labels)
    assert classifier.certificate_.gap <= 1e-4 and classifier.score(X, labels) == 1.0
    Y = np.column_stack([X[:, 0], -X[:, 0]])
    several = ConvexNetRegressor(0.02, architecture="deep_linear").fit(X, Y)
    assert several.network_.n_outputs == 2 and several.certificate_.scope == "global"


def test_a_network_that_something_else_trained():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 1)), rng.normal(size=9)
    layers = [rng.normal(size=size) for size in ((1, 4), (4, 3), (3, 1))]
    biases = [rng.normal(size=4), np.zeros(3), np.zeros(1)]
    affine = [Affine(W, b) for W, b in zip(layers, biases, strict=True)]
    network = Network((affine[0], ReLU(), affine[1], ReLU(), affine[2]))
    found = certify(network, X, y, alpha=0.1)
    assert found.gap > 0.1 and found.scope == "global"
    # its objective from its plain weights
    sizes = np.sqrt(np.sum(layers[0] ** 2, axis=0) + biases[0] ** 2)
    cost = float(np.abs(layers[2][:, 0]) @ np.abs(layers[1]).T @ sizes)
    expected = np.mean(0.5 * (network(X) - y) ** 2) + 0.1 * cost
    assert found.objective == pytest.approx(expected)
    with pytest.raises(ValueError, match="wider branches are cheaper: pass PathReLU"):
        certify(network, X, y, alpha=0.1, architecture="path_relu")


def test_round_trip_and_command_line(tmp_path):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 4, 9)
    table = tmp_path / "line.csv"
    rows = [f"{a},{b}" for a, b in zip(x, np.clip(x, 1, 3) + 0.01 * rng.normal(size=9), strict=True)]
    table.write_text("x,y\n" + "\n".join(rows) + "\n")
    for name, option in (("narrow_relu", "depth=4"), ("deep_relu", "depth=3"), ("path_relu", "width=1")):
        model = tmp_path / f"{name}.safetensors"
        words = ["fit", table, "--target", "y", "--architecture", name, "--option", option, "--out", model]
        done = CliRunner().invoke(app, [*map(str, words), "--alpha", "0.05"])
        assert done.exit_code == 0, done.output
        network, header = Network.load(model)
        assert len(network.layers) == (7 if name == "narrow_relu" else 5)
        assert header["settings"]["options"] == {option.split("=")[0]: int(option[-1])}
        judged = CliRunner().invoke(app, ["certify", str(model), str(table), "--target", "y"])
        assert judged.exit_code == 0, judged.output
        network.save(tmp_path / "again")
        again, _ = Network.load(tmp_path / "again")
        assert np.array_equal(again(x[:, None]), network(x[:, None]))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (DeepReLU("free"), "'penalized' or None"),
        (DeepReLU(depth=2), "architecture='relu'"),
        (DeepReLU(None, 5, depth=4), "pass 'auto', or depth=3"),
        (DeepReLU(None, "some"), "'auto', 'all', an integer"),
        (DeepReLU(None, "all"), "pass 'auto'"),
        (PathReLU("free"), "'penalized' or None"),
        (PathReLU(width=0), "at least 1"),
        (PathReLU(None, "all"), "pass 'auto'"),
        (NarrowReLU(1), "at least 2"),
        (NarrowReLU(3), "architecture='deep_relu'"),
        (DeepLinear(depth=2), "architecture='linear'"),
        (DeepLinear(None, 4), "pass 'auto'"),
    ],
    ids=repr,
)
def test_what_cannot_be(architecture, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        ConvexNetRegressor(0.1, architecture=architecture).fit(
            rng.normal(size=(20, 4)), rng.normal(size=20)
        )


def test_networks_of_other_kinds_are_refused():
    one = np.zeros(1)
    plain = Network((Affine(np.eye(1), one), ReLU(), Affine(np.eye(1), one)))
    deep = Network(
        (Affine(np.eye(1), one), ReLU(), Affine(np.eye(1), one + 1), ReLU(), Affine(np.eye(1), one))
    )
    wide = Affine(np.ones((1, 2)), np.zeros(2))
    square = Network((wide, ReLU(), Affine(np.ones((2, 2)), np.zeros(2)), ReLU(),
                      Affine(np.ones((2, 1)), one)))  # fmt: skip
    for architecture, network, message in (
        (DeepReLU(), plain, "depth 3: pass Affine, ReLU, Affine, ReLU, Affine"),
        (DeepReLU(), deep, "biases beyond its first layer"),
        (NarrowReLU(), plain, "depth 3: pass"),
        (NarrowReLU(), square, "chains side by side"),
        (DeepLinear(), plain, "linear network of depth 3"),
    ):
        with pytest.raises(ValueError, match=message):
            architecture.cost(network)
    with pytest.raises(ValueError, match="whiten X"):
        deep_linear(np.arange(6.0).reshape(3, 2), np.ones(3), 0.1, 3)
    with pytest.raises(ValueError, match="independent columns"):
        interpolate(np.ones((3, 2)), np.ones(3), 3)


def test_relaxations_of_two_columns_need_two_rows():
    """The two outermost rows of a cell's cone in the plane imply all others."""
    from cvxnn.nested_pricing import _tight_rows

    rng = np.random.default_rng(0)
    for _ in range(50):
        X, u = rng.normal(size=(9, 2)), rng.normal(size=2)
        rows = _tight_rows(X, X @ u > 0)
        assert rows.shape == (2, 2)
        inside = [v for v in rng.normal(size=(200, 2)) if np.all(rows @ v >= 0)]
        assert all(np.all(np.where(X @ u > 0, 1, -1) * (X @ v) >= -1e-12) for v in inside)


def test_two_layer_prices_are_reused_at_other_strengths():
    problem = posed(np.column_stack([ZIG[0], np.ones(5)]), ZIG[1], 0.05)
    oracle = DeepReLU(None).oracle(problem, None)
    Z = problem.residual(np.zeros(5))
    assert oracle.at(1.0).price(Z).value == oracle.price(Z).value
    assert isinstance(oracle.inner, PlaneOracle) and oracle.design.X is not None
    assert isinstance(Design.reduce(problem.X, 0).X, np.ndarray)


def test_programs_of_nests_refuse_what_they_cannot_solve():
    nest = Nest.of(np.ones((1, 2), bool), np.ones(1), np.zeros(1, int), np.ones((1, 2), bool), np.ones(1))
    X = np.eye(2)
    program = Program(
        Masked(X, nest.bits, nest.passed), get_loss("squared_error"), np.ones(2), np.ones(2), 0.1,
        GroupL2(), NestedCones(X, nest),
    )  # fmt: skip
    solution = run(SOLVERS["conic"](), program, tol=1e-9)
    assert solution.primal == pytest.approx(0.1 * np.sqrt(2) - 0.005, abs=1e-8)


def test_approximations_of_lower_rank():
    """A branch of unit cost changes no more than its inputs; one of unit path norm may."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 1))
    X, y = np.column_stack([x, x + 0.01 * rng.normal(size=(8, 1))]), np.abs(x[:, 0])
    low = ConvexNetRegressor(0.05, architecture="deep_relu", rank=1).fit(X, y)
    full = ConvexNetRegressor(0.05, architecture="deep_relu").fit(X, y)
    assert low.certificate_.lower_bound <= full.certificate_.objective <= low.certificate_.objective + 1e-9
    with pytest.raises(ValueError, match="pass rank=None"):
        ConvexNetRegressor(0.05, architecture="path_relu", rank=1).fit(X, y)


def test_paths_and_thresholds():
    from cvxnn import alpha_max, path

    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 1))
    y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=8)
    for architecture in ("deep_relu", "narrow_relu", "deep_linear"):
        found = path(X, y, architecture=architecture, n_alphas=3, eps=0.05)
        assert found.complete and found.widths[0] == 0 and np.all(np.diff(found.objectives) < 0)
        assert all(c.scope == "global" and c.gap <= 1e-5 for c in found.certificates)
        top, proven = alpha_max(X, y, architecture=architecture)
        assert proven == pytest.approx(top, rel=1e-6)


def test_nothing_to_see():
    """Zero data, and targets that are zero or one constant, have the empty network."""
    X, y = np.random.default_rng(5).normal(size=(7, 2)), np.arange(7.0)
    for architecture in (PathReLU(None), DeepReLU(None), DeepLinear(None)):
        for data, targets in ((X, 0.0 * y), (X, 0.0 * y + 3.0), (0.0 * X, y)):
            certificate = ConvexNetRegressor(0.1, architecture=architecture).fit(data, targets).certificate_
            assert certificate.width == 0 and certificate.gap <= 1e-9


def test_narrow_columns_do_not_come_and_go():
    """A degenerate program, where columns at zero left and came back until patience ended."""
    x = [-1.30315723, -1.30315723, 0.44637457, -0.53695324, 0.5811181, 0.3645724]
    weights = [0.64587391, 0.74593268, 1.57561994, 0.77669489, 1.12482466, 1.96725324]
    model = ConvexNetClassifier(0.002450365980513625, architecture=NarrowReLU(depth=4), loss="hinge")
    model.fit(np.array(x)[:, None], [1, -1, -1, 1, 1, 1], sample_weight=weights)
    assert model.certificate_.gap <= 1e-5


def test_small_units():
    """The same problem in units of a millionth has the same optimum, also through the reference solver."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(7, 2)), rng.normal(size=7)
    plain = ConvexNetRegressor(0.02, architecture=DeepReLU(None)).fit(X, y).certificate_
    small = ConvexNetRegressor(0.02e-6, architecture=DeepReLU(None)).fit(1e-6 * X, y).certificate_
    assert small.gap <= 1e-5 and small.objective == pytest.approx(plain.objective, rel=1e-6)


@pytest.mark.parametrize("family", [DeepReLU(depth=4), PathReLU()])
def test_training_and_proof_keep_to_their_time(family, monkeypatch):
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # other processes must not count
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 6))
    problem = posed(X, np.tanh(X[:, 0] * X[:, 1]) + 0.3 * rng.normal(size=150), 1.5, True)
    began = time.process_time()
    trained = train(problem, family, tol=1e-6, max_time=1.0)
    took, began = time.process_time() - began, time.process_time()
    # On top of that comes at most what two proofs with a second each take on the machine.
    judge(trained.network, problem, family, family.oracle(problem, None), max_time=1.0)
    assert took <= 1.0 + 2.0 * (time.process_time() - began)
    assert trained.status is Status.max_time and trained.certificate.scope == "bounded"
    assert 0.0 < trained.certificate.lower_bound < trained.certificate.objective


@pytest.mark.parametrize(("features", "depth"), [(1, 3), (2, 4), (7, 3)])
def test_bounds_of_no_time_hold(features, depth):
    rng = np.random.default_rng(6)
    problem = posed(rng.normal(size=(12, features)), rng.normal(size=12), 0.1)
    hurried, patient = (DeepReLU(depth=depth).oracle(problem, None) for _ in range(2))
    hurried.deadline = time.perf_counter()
    for Z in rng.normal(size=(1 if features > 2 else 3, 12)):
        quick, price = hurried.price(Z), patient.price(Z)
        assert price.value <= quick.value * (1.0 + 1e-9) and quick.value < float("inf")
        assert max(row[0] for row in patient.search(Z, DeepReLU().nothing(problem))) <= quick.value
        hurried.deadline = float("inf")
        assert hurried.price(Z).value == pytest.approx(price.value, rel=1e-9)  # nothing hurried is kept
        hurried.deadline = time.perf_counter()


def test_four_layers_train_to_three_under_a_loss_with_kinks():
    """A branch of three layers is one of four, of the same cost."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=16)
    problem = posed(x, np.sign(np.sin(3.0 * x)), 0.16, True, "hinge")
    three = train(problem, DeepReLU(), tol=1e-3, max_iter=5).certificate
    four = train(problem, DeepReLU(depth=4), tol=1e-3, max_iter=3).certificate
    assert four.objective <= three.objective * 1.02
    assert four.lower_bound <= three.objective * (1.0 + 1e-9)
