"""Lifts of convolutional, max-pooled and circular neurons: their truth, prices and certificates."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cvxnn import certify
from cvxnn.architectures.circular import real_fourier
from cvxnn.architectures.cnn import CNN
from cvxnn.architectures.cnn_circular import CNNCircular
from cvxnn.architectures.cnn_max import CNNMax
from cvxnn.arrangement import Arrangement
from cvxnn.bounds_lift_cells import cell_lifts
from cvxnn.bounds_lift_chains import chain_lifts
from cvxnn.bounds_lift_norms import norm_lifts
from cvxnn.bounds_lift_rows import lifts
from cvxnn.bounds_lifted import lifted_price
from cvxnn.bounds_lifts import Multipliers, proven_price
from cvxnn.bounds_moments import price_moments
from cvxnn.certificate import judge
from cvxnn.feature_penalties import FeatureNorm
from cvxnn.lifted_oracles import LiftedOracle, has_lifts, with_bound
from cvxnn.losses import get_loss
from cvxnn.oracles import Design
from cvxnn.program import Problem
from cvxnn.train import train

POOL = 3
NORMS = {
    "circular": FeatureNorm(real_fourier((3, 1))[1], 0.0),
    "l1": FeatureNorm(((0, 1, 2),), 1.0),
    "elastic": FeatureNorm(((0, 1, 2),), 0.5),
    "groups": FeatureNorm(((0, 1), (2,)), 0.3),
    "l1, free bias": FeatureNorm(((0, 1),), 1.0, 1),
}


def rows_of(seed, samples=4, r=2, free=0):
    """Patches, some of them zero, equal or parallel, as images have them."""
    X = np.random.default_rng(seed).normal(size=(samples * POOL, r))
    X[0], X[POOL + 1], X[2 * POOL] = 0.0, X[POOL], -2.0 * X[1]
    return np.column_stack([X, np.ones(len(X))]) if free else X


def pooled_outputs(kind, X, U):
    """What neurons compute in every window of every sample, (windows, samples, k)."""
    H = np.maximum(X @ U.T, 0.0).reshape(-1, POOL, len(U))
    if kind == "windows":
        return np.swapaxes(H, 0, 1)
    return (np.max(H, axis=1) if kind == "max" else np.sum(H, axis=1))[None]


def lifts_of(kind, X, outputs, tight=True, free=0):
    if kind == "max":
        return chain_lifts(X, POOL, outputs, tight=tight)
    if kind == "windows":
        return lifts(X, outputs, windows=POOL, free=free)
    if kind == "cells":
        return cell_lifts(X, Arrangement.enumerate(X).masks(), outputs, pool=POOL, free=free)
    return lifts(X, outputs, pool=POOL, tight=tight, free=free)


def best_price(outputs_of, norms, Z, r, seed):
    """The largest price that random directions and random steps from the best of them find."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1.0, 0.1, 0.0], size=(4000, r), p=[0.6, 0.2, 0.2])
    U, reach = rng.normal(size=(4000, r)) * sizes, 0.3
    best = 0.0
    for _ in range(25):
        size = norms(U)
        U = U[size > 1e-9] / size[size > 1e-9, None]
        values = np.sqrt(sum(np.sum((H.T @ Z) ** 2, axis=1) for H in outputs_of(U)))
        top = U[np.argsort(-values)[:20]]
        best = max(best, float(np.max(values)))
        U = np.concatenate([top, np.repeat(top, 40, axis=0) + reach * rng.normal(size=(800, r))])
        reach *= 0.6
    return best


def lifted_neuron(kind, lift, X, u):
    """The coordinates of a unit neuron by their definition, without output weights."""
    if kind != "max":
        k = lift.kinks
        unit = (lift.nonnegative[:k] - lift.nonnegative[k : 2 * k]) @ lift.weights.T
        return np.concatenate([np.maximum(-unit @ u, 0.0), u])
    parts = []
    for sample in X.reshape(-1, POOL, X.shape[1]):
        kept = np.unique(sample[np.any(sample != 0.0, axis=1)], axis=0)
        kept = kept[np.argsort(-np.linalg.norm(kept, axis=1))]
        before = np.maximum.accumulate(np.append(0.0, kept @ u))
        longest = np.max(np.linalg.norm(sample, axis=1))
        parts.append(np.diff(before) / 2.0 ** np.ceil(np.log2(longest)))
    return np.concatenate([*parts, u])


@pytest.mark.parametrize("kind", ["sum", "windows", "max"])
def test_lifts_are_true_of_neurons(kind):
    X = rows_of(0)
    rng = np.random.default_rng(1)
    for tight in (True, False) if kind != "windows" else (False,):
        for part, sign in zip(lifts_of(kind, X, 1, tight).parts, (1.0, -1.0), strict=False):
            for _ in range(50):
                u = rng.normal(size=2)
                u /= np.linalg.norm(u)
                count = part.outputs.shape[0] * part.outputs.shape[1]
                g = np.ones(1) if tight else rng.normal(size=count)
                g /= np.linalg.norm(g)
                xi = np.concatenate([lifted_neuron(kind, part, X, u), g])
                assert np.min(part.nonnegative @ xi) >= -1e-13
                assert np.max(np.abs(np.einsum("eij,i,j->e", part.vanishing, xi, xi))) <= 1e-13
                assert xi @ part.cost @ xi == pytest.approx(1.0) and xi @ xi <= part.size
                assert np.allclose(part.hidden @ xi, pooled_outputs(kind, X, u[None])[:, :, 0])
                g = sign * g if tight else g
                assert np.allclose((part.outputs @ xi).ravel(), g)
                Z = rng.normal(size=4)
                shown = pooled_outputs(kind, X, u[None])[:, :, 0]
                gain = sum(h @ Z * w for h, w in zip(shown, g, strict=True))
                assert xi @ part.gain(Z) @ xi == pytest.approx(gain)


@pytest.mark.parametrize(("name", "outputs"), [(name, k) for name in NORMS for k in (1, 2)])
def test_lifts_are_true_of_neurons_of_other_norms(name, outputs):
    norm, rng = NORMS[name], np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(5, 2)), np.ones(5)])
    lifted = norm_lifts(X, outputs, norm)
    plain = FeatureNorm(norm.groups, norm.share)
    for part in lifted.parts:
        for _ in range(30):
            u = rng.normal(size=3) * rng.integers(0, 2, 3)
            size = float(plain.norms(u[None, : 3 - norm.free])[0])
            if size == 0.0:
                continue
            # a free bias up to its reach is measured in it
            u = np.append(u[:2] / size, rng.uniform(-1.0, 1.0)) if norm.free else u / size
            k, groups = part.kinks, [list(row) for row in norm.groups]
            unit = (part.nonnegative[:k] - part.nonnegative[k : 2 * k]) @ part.weights.T
            sizes = np.abs(u[: 3 - norm.free]).tolist() if norm.share > 0.0 else []
            sizes += [float(np.linalg.norm(u[row])) for row in groups] if norm.share < 1.0 else []
            g = rng.normal(size=outputs if outputs > 1 else 0)
            g = g / np.linalg.norm(g) if len(g) else g
            xi = np.concatenate([np.maximum(-unit @ u, 0.0), u, sizes, g])
            assert np.min(part.nonnegative @ xi) >= -1e-13
            assert np.max(np.abs(np.einsum("eij,i,j->e", part.vanishing, xi, xi))) <= 1e-13
            assert np.all(np.einsum("eij,i,j->e", part.positive, xi, xi) >= -1e-13)
            assert xi @ part.cost @ xi == pytest.approx(1.0) and xi @ xi <= part.size
            scaled = np.append(u[:2], u[2] * lifted.bias) if norm.free else u
            assert np.allclose(part.hidden[0] @ xi, np.maximum(X @ scaled, 0.0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    ("kind", "free"), [("sum", 0), ("sum", 1), ("windows", 0), ("windows", 1), ("max", 0)]
)
def test_prices_are_never_below_any_filter(seed, outputs, kind, free):
    """Filters of two numbers against a dense sampling; whatever the multipliers are, they prove no less."""
    X = rows_of(seed, free=free)
    Z = np.random.default_rng(seed).normal(size=(4, outputs))
    Z, design = (Z - np.mean(Z, axis=0) if free else Z), Design(X, np.eye(X.shape[1]), free)
    shown = Z[:, 0] if outputs == 1 else Z
    below = best_price(lambda U: pooled_outputs(kind, X, U), design.norms, Z, X.shape[1], seed)
    for tight in (True, False) if outputs == 1 and kind != "windows" else (False,):
        found = lifts_of(kind, X, outputs, tight, free)
        value = lifted_price(found, shown)
        assert below <= value <= (1.3 if free else 1.05) * below
        point, rng = price_moments(found, shown), np.random.default_rng(seed)
        for scale in (0.0, 1e-3, 1.0):
            bent = tuple(
                Multipliers(
                    m.vanishing + scale * rng.normal(size=m.vanishing.shape),
                    m.positive,
                    m.products * (1.0 + scale * rng.normal(size=m.products.shape)),
                )
                for m in point.multipliers
            )
            assert proven_price(found, shown, 0.5 * below, bent) >= below
    if kind == "sum":
        assert below <= lifted_price(lifts_of("cells", X, outputs, free=free), shown) <= 1.05 * below


@pytest.mark.parametrize(("name", "outputs"), [(name, k) for name in NORMS for k in (1, 2)])
def test_prices_of_other_norms(name, outputs):
    norm, rng = NORMS[name], np.random.default_rng(3)
    plain = FeatureNorm(norm.groups, norm.share)
    X, Z = np.column_stack([rng.normal(size=(6, 2)), np.ones(6)]), rng.normal(size=(6, outputs))
    Z = Z - np.mean(Z, axis=0) if norm.free else Z
    shown = Z[:, 0] if outputs == 1 else Z
    below = best_price(
        lambda U: np.maximum(X @ U.T, 0.0)[None], lambda U: plain.norms(U[:, : 3 - norm.free]), Z, 3, 0
    )
    value = lifted_price(norm_lifts(X, outputs, norm), shown)
    assert below <= value <= 1.3 * below
    # the lift of weight decay holds too, and is weaker
    assert value <= lifted_price(lifts(X, outputs, free=norm.free), shown) * (1 + 1e-6)


def problem_of(outputs, n=5, d=6, alpha=0.02):
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(n, d)), rng.normal(size=(n, outputs) if outputs > 1 else n)
    return Problem.from_alpha(X, y, None, get_loss("squared_error", outputs), alpha, True)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "family",
    [
        CNN(kernel=2, stride=2, hidden_bias=None),
        CNN(kernel=2, stride=2, hidden_bias=None, pool="flatten"),
        CNNMax(kernel=2, stride=2, hidden_bias=None),
    ],
)
def test_exact_prices_are_met(family, outputs):
    """Faces can be listed here: the lifts are near from above, and exact certificates stay as they are."""
    problem = problem_of(outputs)
    family = family.for_outputs(outputs)
    oracle = family.oracle(problem, family.arrange(problem, np.random.default_rng(0)))
    assert oracle.scope == "global" and with_bound(oracle, "sdp") is oracle and not has_lifts(oracle)
    rows, rng = family.stacked(problem), np.random.default_rng(0)
    shape = {"windows": POOL} if getattr(family, "pool", "") == "flatten" else {"pool": POOL}
    rows = rows / POOL if getattr(family, "pool", "") == "all" else rows
    found = chain_lifts(rows, POOL, outputs) if "max" in family.name else lifts(rows, outputs, **shape)
    for _ in range(3):
        Z = rng.normal(size=problem.y.shape)
        exact = oracle.price(Z).found
        assert exact * (1 - 1e-9) <= lifted_price(found, Z) <= 1.02 * exact


FAMILIES = [
    (CNN(kernel=4, stride=2), 1),
    (CNN(kernel=4, stride=2, pool="flatten", hidden_bias="free"), 2),
    (CNN(kernel=5, pool=2, hidden_bias=None), 1),
    (CNNMax(kernel=4, stride=2), 1),
    (CNNMax(kernel=4, stride=2), 2),
    (CNNCircular(), 1),
    (CNNCircular(), 2),
]


@pytest.mark.parametrize(("family", "outputs"), FAMILIES)
def test_certificates(family, outputs, monkeypatch):
    """Far above the usual bound, and below the objective of the best network."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # other processes must not count
    circular = family.name == "cnn_circular"
    problem = problem_of(outputs, *((14, 6) if circular else (6, 8)))
    family = family.for_outputs(outputs)
    trained = train(problem, family, tol=1e-2, max_time=2.0, bound_iter=5)
    usual = trained.certificate
    oracle = family.oracle(problem, family.arrange(problem, np.random.default_rng(0)))
    lifted = with_bound(oracle, "sdp")
    assert isinstance(lifted, LiftedOracle) and usual.scope == "bounded"
    found = judge(trained.network, lifted.problem, family, lifted, duals=(trained.dual,), max_iter=5)
    assert found.scope == "bounded" and found.objective == pytest.approx(usual.objective, rel=1e-12)
    assert usual.lower_bound < found.lower_bound <= found.objective
    assert found.gap < 0.5 * usual.gap, (usual, found)


def test_certify_judges_others_networks_by_it():
    """A network of a few filters without training; what it cannot afford is refused."""
    problem = problem_of(1, 6, 8)
    family = CNNMax(kernel=4, stride=2)
    network = family.of_rows(problem, np.random.default_rng(0).normal(size=(3, 5)), np.ones((3, 1)))
    given = {"alpha": 0.02, "tol": 1e-2, "max_time": 20.0}
    usual, lifted = (
        certify(network, problem.X, problem.y, bound=bound, **given) for bound in ("auto", "sdp")
    )
    assert usual.objective == lifted.objective
    assert usual.lower_bound < lifted.lower_bound < lifted.objective
    many = np.random.default_rng(1).normal(size=(200, 8))
    with pytest.raises(ValueError, match=r"pass bound='auto', or fewer samples .*larger stride"):
        certify(network, many, many[:, 0], bound="sdp", **given)
