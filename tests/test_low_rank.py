"""The low-rank option: the way back loses nothing, the bounds hold on the data themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.losses import get_loss
from cvxnn.low_rank import Reduction, train_low_rank
from cvxnn.program import Problem
from cvxnn.train import train

BIASES = ("penalized", "free", None)


def problem_of(seed, loss="squared_error", *, n=9, d=2, tail=0.2, alpha=0.05, intercept=True):
    """Data whose last direction is small, with weights; targets that need both directions."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.r_[np.ones(d - 1), tail]
    X = X @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    y = np.abs(X[:, 0]) + 0.5 * rng.standard_normal(n)
    if loss == "log_loss":
        y = np.where(y > np.median(y), 1.0, -1.0)
    return Problem.from_alpha(X, y, rng.uniform(0.3, 2.0, n), get_loss(loss), alpha, intercept)


def exact(problem, bias):
    family = ReLU(hidden_bias=bias, patterns="all")
    return train(problem, family, tol=1e-8), family


def test_the_approximation_is_the_best_one_in_the_weighted_norm():
    problem = problem_of(0, d=4, n=12)
    size = np.linalg.svd(np.sqrt(problem.weights)[:, None] * problem.X, compute_uv=False)
    for r in range(1, 5):
        reduction = Reduction.of(problem, r)
        assert reduction.rank == r
        rest = problem.X - problem.X @ reduction.basis @ reduction.basis.T
        error = np.linalg.norm(np.sqrt(problem.weights)[:, None] * rest, 2)
        assert error <= reduction.sigma <= (size[r] if r < 4 else 0.0) + 1e-12 * size[0]
    assert Reduction.of(problem, 99).rank == 4


def test_a_share_keeps_as_many_directions_as_pca():
    X = StandardScaler().fit_transform(load_iris().data)
    problem = Problem(X, X[:, 0], np.ones(len(X)), get_loss("squared_error"), 1.0)
    for share in (0.5, 0.9, 0.96, 0.999):
        reduction = Reduction.of(problem, share)
        assert reduction.rank == PCA(share).fit(X).n_components_
        assert reduction.share >= share


def test_networks_of_the_reduced_data_are_the_same_on_the_data():
    problem = problem_of(1, d=5, n=20)
    rng = np.random.default_rng(0)
    reduction = Reduction.of(problem, 2)
    W, b, a = rng.standard_normal((2, 7)), rng.standard_normal(7), rng.standard_normal(7)
    small = Network.two_layer(W, b, a, 0.3)
    large = reduction.lift(small)
    np.testing.assert_allclose(large(problem.X), small(reduction.problem.X), atol=1e-12)
    np.testing.assert_allclose(
        large(problem.X @ reduction.basis @ reduction.basis.T), large(problem.X), atol=1e-12
    )
    assert ReLU().cost(large) == pytest.approx(ReLU().cost(small), rel=1e-12)


@pytest.mark.parametrize("bias", BIASES)
def test_prices_grow_by_at_most_the_stretch(bias):
    """M(Z) <= M_r(Z) + sigma ||S^(-1/2) Z||, both from all cells; a smaller stretch does not do."""
    needed = 0.0
    for seed in range(6):
        problem = problem_of(seed)
        reduction, family = Reduction.of(problem, 1), ReLU(hidden_bias=bias, patterns="all")
        Z = np.random.default_rng(seed).standard_normal(len(problem.y))
        Z = Z - np.mean(Z)
        prices = []
        for p in (problem, reduction.problem):
            oracle = family.oracle(p, family.arrange(p, np.random.default_rng(0)))
            assert oracle.scope == "global"
            prices.append(oracle.price(Z))
        assert prices[0].found <= prices[1].value + reduction.stretch(Z)
        needed = max(needed, (prices[0].found - prices[1].value) / reduction.stretch(Z))
    assert needed > 0.05


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_bounds_hold_against_the_exact_optimum_of_the_data(bias, loss):
    for seed, tail in ((0, 0.3), (1, 0.03)):
        problem = problem_of(seed, loss, tail=tail)
        whole, family = exact(problem, bias)
        best = whole.certificate
        assert best.scope == "global" and best.gap < 1e-6
        found = train_low_rank(problem, family, 1, tol=1e-8)
        reduced = found.low_rank.certificate
        assert reduced.scope == "global" and reduced.gap < 1e-6
        # the same objective on the data, where it is at least the optimum and at most the factor away
        assert found.certificate.objective == pytest.approx(reduced.objective, rel=1e-9)
        assert best.lower_bound <= found.certificate.objective
        assert reduced.lower_bound <= found.low_rank.factor * best.objective * (1 + 1e-9)
        assert found.certificate.lower_bound <= best.objective * (1 + 1e-12)
        # the bound that the reduction gives, alone
        reduction = Reduction.of(problem, 1)
        inner = train(reduction.problem, family, tol=1e-8)
        alone = reduction.bound(inner.proof.Z) / problem.total_weight
        assert reduced.objective / found.low_rank.factor * (1 - 1e-5) <= alone <= best.objective
        if tail == 0.03:
            assert alone >= 0.8 * best.objective


def test_bounds_known_beforehand():
    """P_r <= (1 + s/2)^2 P for the squared loss, (1 + sigma sqrt(sum s) / beta) P for the logistic one."""
    for seed in range(3):
        for loss in ("squared_error", "log_loss"):
            problem = problem_of(seed, loss, n=8, alpha=0.1)
            whole, family = exact(problem, None)
            found = train_low_rank(problem, family, 1, tol=1e-8)
            sigma, beta = found.low_rank.sigma, problem.beta
            if loss == "squared_error":
                s = sigma * np.sqrt(2.0 * problem.null_value()) / beta
                factor = (1.0 + s / 2.0) ** 2
            else:
                factor = 1.0 + sigma * np.sqrt(problem.total_weight) / beta
            assert found.low_rank.certificate.lower_bound <= factor * whole.certificate.objective
            assert found.low_rank.factor <= factor * (1.0 + 1e-6)


def test_full_rank_is_no_reduction():
    problem = problem_of(2)
    whole, family = exact(problem, None)
    found = train_low_rank(problem, family, 2, tol=1e-8)
    assert found.certificate.objective == pytest.approx(whole.certificate.objective, rel=1e-6)
    assert found.low_rank.factor == pytest.approx(1.0, abs=1e-8)


def test_gated_networks_keep_their_gates():
    problem = problem_of(3, d=4, n=15)
    found = train_low_rank(problem, GatedReLU(patterns=12), 2, tol=1e-8)
    c = found.certificate
    assert c.scope == "patterns" and c.lower_bound <= c.objective
    assert c.objective == pytest.approx(found.low_rank.certificate.objective, rel=1e-9)
    # with those gates on the data nothing is below the bound, and the factor holds
    free = train(problem, GatedReLU(patterns=_gates(problem, 12, 2)), tol=1e-8).certificate
    assert c.lower_bound <= free.objective <= c.objective * (1 + 1e-9)
    assert c.objective <= found.low_rank.factor * free.objective * (1 + 1e-6)
    with pytest.raises(ValueError, match="pass a number with rank"):
        train_low_rank(problem, GatedReLU(patterns=np.ones((3, 5))), 2)


def _gates(problem, number, r):
    reduction = Reduction.of(problem, r)
    gates = GatedReLU(patterns=number).arrange(reduction.problem, np.random.default_rng(0)).gates
    return np.column_stack([gates[:, :r] @ reduction.basis.T, gates[:, r:]])


def test_real_data_at_rank_two():
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = ConvexNetClassifier(1e-2, rank=2, patterns="all", hidden_bias=None).fit(X, y == 1)
    assert model.low_rank_.certificate.scope == "global" and model.low_rank_.certificate.gap < 1e-4
    assert model.low_rank_.rank == 2 and 0.95 < model.low_rank_.share < 0.96
    assert model.network_.n_features == 4 and model.certificate_.scope == "bounded"
    assert 0.0 < model.certificate_.lower_bound < model.certificate_.objective
    f = model.decision_function(X)
    loss = np.mean(np.logaddexp(0.0, -np.where(y == 1, 1.0, -1.0) * f))
    cost = replace(ReLU(), hidden_bias=None).cost(model.network_)
    assert model.certificate_.objective == pytest.approx(loss + 1e-2 * cost, rel=1e-9)


@pytest.mark.parametrize("rank", [0, -1, 1.0, 2.5, 0.0, True, "2", float("nan")])
def test_bad_ranks(rank):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        ConvexNetRegressor(rank=rank).fit(np.eye(3), np.arange(3.0))
