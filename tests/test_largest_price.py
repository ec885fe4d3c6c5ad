"""The largest price without most of the products: the same number as all of them give."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.arrangement import pack
from cvxnn.largest_price import largest_price
from cvxnn.operators import Masked


def operator(seed=0, n=60, d=4, groups=300, signed=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    masks = rng.normal(size=(groups, d)) @ X.T >= 0
    return rng, Masked(X, pack(masks), rng.choice([-1.0, 1.0], groups) if signed else None)


def by_all(operator, Z):
    return float(np.max(np.linalg.norm(operator.adjoint(Z), axis=1)))


@pytest.mark.parametrize("signed", [False, True])
def test_it_is_that_of_all_groups(signed):
    rng, A = operator(signed=signed)
    fresh = operator(signed=signed)[1]
    Z, step = rng.normal(size=60), rng.normal(size=60)
    # near, far, scaled, turned round, zero, far again
    near, far = [Z, Z + 1e-9 * step, Z + 1e-3 * step, 0.3 * Z], [Z + step, -Z, 0.0 * Z, Z, 1e100 * step]
    for z in near + far:
        assert largest_price(A, z) == pytest.approx(by_all(fresh, z), rel=1e-13, abs=0)


def test_near_the_last_one_few_groups_are_priced(monkeypatch):
    rng, A = operator()
    Z = rng.normal(size=60)
    priced, product = [], Masked._product

    def counted(self, z):
        priced.append(self.shape[1])
        return product(self, z)

    monkeypatch.setattr(Masked, "_product", counted)
    largest_price(A, Z)
    assert 300 in priced
    priced.clear()
    largest_price(A, 0.9 * Z + 1e-6 * rng.normal(size=60))
    assert priced and max(priced) < 30


def test_what_is_not_finite_is_not_hidden():
    _, A = operator()
    largest_price(A, np.ones(60))
    assert not largest_price(A, np.full(60, np.nan)) < np.inf
    assert largest_price(A, np.ones(60)) == pytest.approx(by_all(A, np.ones(60)))


def test_without_groups_it_is_zero():
    _, A = operator()
    assert largest_price(A.take(np.zeros(0, dtype=int)), np.ones(60)) == 0.0
