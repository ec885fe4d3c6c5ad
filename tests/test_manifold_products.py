"""Newton's directions by conjugate gradients, against the Hessian written out."""

from __future__ import annotations

import numpy as np
import pytest
from test_manifold import hessian, setting

from cvxnn import manifold_products
from cvxnn.block_step import BlockSteps
from cvxnn.manifold_products import ByProducts
from cvxnn.operators import Masked


def system(operator, majorant, beta):
    """The form, with eigenvectors of the blocks for a majorant (n,)."""

    def quadratic(group):
        F = operator.take(np.array([group])).dense()
        return F.T @ (majorant[:, None] * F)

    return ByProducts(operator, BlockSteps(quadratic, beta))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("signed", "tau"), [(False, 0.0), (True, 0.0), (True, 0.3), (False, 1.0)])
def test_against_the_hessian(intercept, signed, tau, scale, monkeypatch):
    monkeypatch.setattr(manifold_products, "ACCURACY", 1e-6)
    rng, operator = setting(signed)
    operator = Masked(scale * operator.X, operator.bits, operator.signs)
    beta, h = 0.7 * scale**2, rng.uniform(0.1, 1.0, 25)
    form = system(operator, np.ones(25), beta)
    for groups in ([1, 4], [2], [0, 2, 3, 5, 8]):
        groups, W = np.array(groups), rng.normal(size=(len(groups), 3))
        r, total = scale**2 * rng.normal(size=W.shape), float(scale * rng.normal()) if intercept else None
        x, c = form.factor(groups, h, W, intercept, tau)(r, total)
        H = hessian(operator, groups, h, W, beta, intercept, tau)
        # the intercept in the scale of the weights, so that one tolerance is right for all
        D = np.append(np.ones(x.size), [scale] if intercept else [])
        right = np.append(r.ravel(), [total] if intercept else [])
        true = np.linalg.solve(D * H * D[:, None], D * right) * D
        found = np.append(x.ravel(), [c] if intercept else [])
        assert found / D == pytest.approx(true / D, rel=1e-3, abs=1e-4 * np.abs(true / D).max())
        assert 1 <= form.rounds < manifold_products.MOST


def test_its_directions_are_as_good_as_said_and_point_down():
    rng, operator = setting(False, n=400, d=6, groups=40)
    groups, h = np.arange(40), rng.uniform(0.1, 1.0, 400)
    form = system(operator, np.ones(400), 2.0)
    W, r = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
    x, c = form.factor(groups, h, W, False)(r, None)
    H = hessian(operator, groups, h, W, 2.0, False, 0.0)
    true = np.linalg.solve(H, r.ravel())
    error = x.ravel() - true
    # by Cauchy's inequality a residual this small in any norm cannot turn the direction round
    assert c == 0.0 and float(np.sum(r * x)) > 0.0
    assert error @ H @ error < 0.1 * (true @ H @ true)


def test_without_curvature_or_in_vain_it_answers_zero_and_is_not_asked_again():
    rng, operator = setting(False)
    groups, W = np.array([1, 4]), rng.normal(size=(2, 3))
    form = system(operator, np.ones(25), 1.0)
    x, c = form.factor(groups, np.zeros(25), W, True)(np.ones((2, 3)), 1.0)
    assert not np.any(x) and c == 0.0 and form.cost(2) == np.inf
    form = system(operator, np.ones(25), 1.0)
    x, _ = form.factor(groups, np.ones(25), W, False)(np.full((2, 3), np.nan), None)
    assert not np.any(x) and form.cost(2) == np.inf
    other = form.at(BlockSteps(form.steps.quadratic, 0.5))
    assert other.steps.beta == 0.5 and other.X is form.X


def test_room(monkeypatch):
    _, operator = setting(False)
    form = system(operator, np.ones(25), 1.0)
    assert np.isfinite(form.cost(2))
    monkeypatch.setattr(manifold_products, "LARGEST", 49)
    assert form.cost(2) == np.inf and np.isfinite(form.cost(1))
