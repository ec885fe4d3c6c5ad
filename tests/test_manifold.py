"""Newton's systems in weights and in samples, against the Hessian written out."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.arrangement import pack
from cvxnn.manifold import BySamples, ByWeights, columns
from cvxnn.operators import Masked


def hessian(operator, groups, h, W, beta, intercept, tau):
    n, _, d = operator.shape
    F = operator.take(groups).dense()
    k = len(groups)
    if intercept:
        F = np.column_stack([F, np.ones(n)])
    H = F.T @ (h[:, None] * F)
    for j, w in enumerate(W):
        size = np.linalg.norm(w)
        part = slice(j * d, (j + 1) * d)
        H[part, part] += beta / size * (np.eye(d) - (1 - tau) * np.outer(w, w) / size**2)
    assert H.shape == (k * d + intercept,) * 2
    return H


def setting(signed, n=25, d=3, groups=9):
    rng = np.random.default_rng(0)
    X, masks = rng.normal(size=(n, d)), rng.random((groups, n)) < 0.5
    signs = np.where(rng.random(groups) < 0.5, 1.0, -1.0) if signed else None
    return rng, Masked(X, pack(masks), signs)


@pytest.mark.parametrize("form", [ByWeights, BySamples])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("signed", "tau"), [(False, 0.0), (True, 0.0), (True, 0.3), (False, 1.0)])
def test_against_the_hessian(form, intercept, signed, tau):
    rng, operator = setting(signed)
    system, beta = form(operator, 0.7), 0.7
    h = rng.uniform(0.1, 1.0, 25)
    # groups come and go; a new h must not meet old blocks
    for groups in ([1, 4], [0, 1, 4, 8], [2], [0, 2, 3, 5, 8]):
        groups, W = np.array(groups), rng.normal(size=(len(groups), 3))
        r, total = rng.normal(size=W.shape), float(rng.normal()) if intercept else None
        x, c = system.factor(groups, h, W, intercept, tau)(r, total)
        H = hessian(operator, groups, h, W, beta, intercept, tau)
        true = np.linalg.solve(H, np.append(r.ravel(), [total] if intercept else []))
        assert np.append(x.ravel(), [c] if intercept else []) == pytest.approx(true, rel=1e-4, abs=1e-5)
        if len(groups) == 1:
            h = rng.uniform(0.1, 1.0, 25)


def test_vanishing_curvature_and_dependent_groups_have_an_answer():
    rng, operator = setting(False)
    twice = Masked(operator.X, np.vstack([operator.bits, operator.bits]))
    groups, W = np.arange(18), rng.normal(size=(18, 3))
    for form in (ByWeights, BySamples):
        for h in (np.ones(25), np.where(np.arange(25) < 3, 1.0, 1e-80)):
            x, _ = form(twice, 1.0).factor(groups, h, W, False, 0.1)(rng.normal(size=W.shape), None)
            assert np.all(np.isfinite(x))


def test_columns_come_in_tiles(monkeypatch):
    monkeypatch.setattr("cvxnn.manifold.TILE", 64)
    for signed in (False, True):
        _, operator = setting(signed)
        groups = np.array([0, 3, 7])
        root = np.sqrt(np.arange(1.0, 1.0 + len(operator.X)))
        tiles = list(columns(operator, groups, root))
        assert len(tiles) > 1
        wanted = root[:, None] * operator.take(groups).dense()
        assert np.array_equal(np.vstack([F for _, F in tiles]), wanted)
