"""Large data with several outputs: gradients of mini-batches and pieces, and where training ends."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cvxnn import ConvexNetClassifier, vector_batches, vector_pricing
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.vector_batches import Samples, Weights, stir, sweep
from cvxnn.vector_growth import Coupling, objective, random_rows
from cvxnn.vector_pricing import search_joint, search_sampled


def make(n=600, d=6, loss="log_loss", alpha=1e-2):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    labels = (X[:, 0] > 0).astype(int) + (X[:, 1] * X[:, 2] > 0)
    y = np.eye(3)[labels]
    return Problem.from_alpha(X, y, None, get_loss(loss, 3), alpha, True)


def start(problem, width=12, skip=False):
    design = VectorReLU().design(problem)
    rows = random_rows(problem, design, Coupling.joint, width, np.random.default_rng(1), skip)
    return design, rows


@pytest.mark.parametrize(
    ("loss", "skip"), [("log_loss", False), ("squared_error", False), ("log_loss", True)]
)
def test_gradients_are_those_of_the_loss(loss, skip, monkeypatch):
    monkeypatch.setattr(vector_batches, "PIECE", 1000)  # several pieces, the last one shorter
    problem = make(loss=loss)
    design, rows = start(problem, skip=skip)
    samples, at = Samples(problem, design), Weights.of(rows, design)
    straight = np.arange(len(at.U)) >= at.bent
    assert np.sum(straight) == np.sum(rows.linear) and np.any(straight) == skip
    value, gU, gV, gc = samples.all(at)
    T = design.X @ at.U.T.astype(float)
    on = (T > 0) | straight
    H = T * on
    f = H @ at.V.astype(float)
    G = problem.loss.gradient(f, problem.y, problem.weights)
    assert value == pytest.approx(problem.loss.value(f, problem.y, problem.weights), rel=1e-6)
    assert gV == pytest.approx(H.T @ G, abs=1e-4 * np.abs(H.T @ G).max())
    wanted = (on * (G @ at.V.T)).T @ design.X
    assert gU == pytest.approx(wanted, abs=1e-4 * np.abs(wanted).max())
    assert gc == pytest.approx(np.sum(G, axis=0), abs=1e-4 * np.abs(G).sum())
    bU, bV, bc = samples.batch(np.arange(len(problem.y)), at)
    total, alpha = problem.total_weight, problem.beta / problem.total_weight
    assert bU == pytest.approx(gU / total + alpha * at.U, abs=1e-5)
    assert bV == pytest.approx(gV / total + alpha * at.V, abs=1e-5)
    assert bc == pytest.approx(gc / total, abs=1e-5)


def test_batches_then_sweeps_come_near_the_optimum():
    from cvxnn.train import train

    problem = make()
    design, rows = start(problem, 60)
    samples, at = Samples(problem, design), Weights.of(rows, design)
    first = objective(problem, design, rows)
    shares = list(stir(samples, at, 60, np.random.default_rng(0)))
    stirred = objective(problem, design, at.rows(design))
    swept = objective(problem, design, sweep(samples, at, 200, 1e-9).rows(design))
    assert shares[-1] == 1.0 and stirred < first and swept <= stirred
    tol = 5e-3
    best = train(problem, VectorReLU(), tol=tol, bound_iter=0).certificate.objective * problem.total_weight
    assert best * (1 - tol) <= swept <= 1.03 * best


def test_the_schedule_shrinks_to_the_time_there_is():
    problem = make()
    design, rows = start(problem)
    samples, at = Samples(problem, design), Weights.of(rows, design)
    began = time.perf_counter()
    shares = list(stir(samples, at, 10**6, np.random.default_rng(0), began + 0.5))
    assert shares[-1] == 1.0
    assert time.perf_counter() - began < 5.0


def test_a_search_that_begins_on_a_sample_prices_all_rows():
    problem = make(3000)
    design = VectorReLU().design(problem)
    Z = problem.residual(np.zeros_like(problem.y))
    found = search_sampled(design.X, Z, starts=None, n_random=32, random_state=np.random.default_rng(0))
    seen = np.maximum(design.X @ found.directions.T, 0.0).T @ Z
    assert found.values == pytest.approx(np.linalg.norm(seen, axis=1), rel=1e-12)
    best = search_joint(design.X, Z, random_state=np.random.default_rng(0)).best
    assert 0.99 * best <= found.best <= best * (1 + 1e-6)


def test_large_data_end_to_end(monkeypatch):
    """The thresholds are lowered: certificates hold, and time is kept."""
    monkeypatch.setattr(vector_pricing, "MANY", 500)
    monkeypatch.setattr(vector_pricing, "BIG", 1000)
    problem = make(800)
    X, y = problem.X, np.argmax(problem.y, axis=1)
    model = ConvexNetClassifier(alpha=1e-2, tol=1e-2, max_time=5.0).fit(X, y)
    certificate = model.certificate_
    monkeypatch.undo()
    exact = ConvexNetClassifier(alpha=1e-2, tol=1e-3).fit(X, y).certificate_
    assert certificate.lower_bound <= exact.objective * (1 + 1e-9)
    assert exact.lower_bound <= certificate.objective <= 1.03 * exact.objective
    assert model.score(X, y) > 0.9
