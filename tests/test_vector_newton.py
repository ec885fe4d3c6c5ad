"""Newton's method for several outputs: its derivatives, and where it ends."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.vector_growth import Coupling, Rows, anneal, objective, random_rows
from cvxnn.vector_newton import _Network, _Whitened, follow


@pytest.fixture(params=["log_loss", "squared_error"])
def problem(request):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = np.eye(3)[(X[:, 0] > 0).astype(int) + (X[:, 1] * X[:, 2] > 0)]
    return Problem(X, y, np.ones(60), get_loss(request.param, 3), 0.3, True)


def annealed(problem):
    design = VectorReLU().design(problem)
    rows = random_rows(problem, design, Coupling.joint, 30, np.random.default_rng(1))
    for mu in (0.1, 0.01, 1e-3):
        rows = anneal(problem, design, Coupling.joint, rows, mu, 60)
    return design, rows


def held(problem, skip, mu=0.05):
    design, rows = annealed(problem)
    if skip:
        S = np.random.default_rng(2).normal(size=(design.X.shape[1], 3))
        rows = rows.join(Rows.straight(S, Coupling.joint))
    net = _Network(problem, design)
    net.hold(rows, np.zeros(len(rows)))
    net.value(net.U, net.V, mu)
    return net


@pytest.mark.parametrize("skip", [False, True])
def test_gradient(problem, skip):
    net = held(problem, skip)
    gU, gV = net.differentiate()
    rng, h = np.random.default_rng(0), 1e-5
    dU, dV = rng.normal(size=gU.shape), rng.normal(size=gV.shape)
    ends = [net.value(net.U + t * dU, net.V + t * dV, net.mu, keep=False) for t in (h, -h)]
    assert np.sum(gU * dU) + np.sum(gV * dV) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("skip", [False, True])
def test_the_model_is_symmetric_and_convex_and_whitened_by_its_blocks(problem, skip):
    net = held(problem, skip)
    net.differentiate()
    space = _Whitened(net)
    size = net.U.size + net.V.size
    H = np.array([space.curve(row) for row in np.eye(size)])
    assert np.abs(H - H.T).max() < 1e-3
    assert np.linalg.eigvalsh(0.5 * (H + H.T))[0] > -1e-3
    if problem.loss.name == "squared_error":
        return
    # constants that follow only take curvature away: blocks are at most the identity
    k = net.U.shape[1] + net.V.shape[1]
    for j in range(len(net.U)):
        block = H[j * k : (j + 1) * k, j * k : (j + 1) * k]
        assert np.linalg.eigvalsh(0.5 * (block + block.T))[-1] < 1.0 + 1e-3


def test_it_goes_further_than_descent(problem):
    """Not below what as many steps of L-BFGS in ever narrower bands reach would be a bad bargain."""
    design, rows = annealed(problem)
    other = rows
    for mu in (1e-3, 1e-4, 1e-5):
        other = anneal(problem, design, Coupling.joint, other, mu, 150)
    found = follow(problem, design, rows, 1e-3, 1e-6, 60)
    least = objective(problem, design, found)
    assert least < objective(problem, design, rows)
    assert least < objective(problem, design, other) * (1 + 1e-5)
    assert 0 < len(found) <= len(rows)
