"""Losses: hand-checked values, conjugates as suprema, extremes, names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvxnn.losses import LOSSES, get_loss
from cvxnn.losses.absolute_error import AbsoluteError
from cvxnn.losses.base import Loss
from cvxnn.losses.epsilon_insensitive import EpsilonInsensitive
from cvxnn.losses.huber import Huber
from cvxnn.losses.poisson import Poisson
from cvxnn.losses.quantile import Quantile
from cvxnn.testing import check_loss
from cvxnn.testing_parts import targets

SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")
ONE = np.ones(1)
numbers = st.floats(-50, 50)


def test_names():
    assert {"squared_error", "log_loss"} <= set(LOSSES)
    assert get_loss(SQUARED) is SQUARED and isinstance(get_loss("log_loss"), Loss)
    with pytest.raises(ValueError, match="unknown loss 'mse': pass one of"):
        get_loss("mse")


def test_squared_error_by_hand():
    f, y, s = np.array([1.0, -2.0]), np.array([3.0, 0.0]), np.array([1.0, 10.0])
    assert SQUARED.value(f, y, s) == 0.5 * 4 + 10 * 0.5 * 4
    assert np.array_equal(SQUARED.gradient(f, y, s), [-2.0, -20.0])
    assert np.array_equal(SQUARED.hessian(f, y, s), s)
    assert SQUARED.conjugate(f, y, s) == pytest.approx(0.5 + 3.0 + 0.2)
    # the dual of spec 0.4: y'Z - |Z|^2 / 2
    assert SQUARED.dual(f, y, np.ones(2)) == pytest.approx(3.0 - 2.5)
    assert SQUARED.intercept(f, y, s) == pytest.approx((2.0 + 20.0) / 11)
    assert SQUARED.best_scale(np.array([2.0]), ONE * 6, ONE, np.inf) == 3.0
    assert SQUARED.best_scale(np.array([2.0]), ONE * 6, ONE, 2.5) == 2.5
    assert SQUARED.best_scale(np.array([2.0]), -ONE, ONE, 9.0) == 0.0
    assert SQUARED.best_scale(np.zeros(1), ONE, ONE, np.inf) == 0.0


def test_log_loss_by_hand():
    assert LOGISTIC.value(np.zeros(3), np.array([1.0, -1.0, 1.0]), np.ones(3)) == pytest.approx(
        3 * np.log(2)
    )
    # the dual variable of a prediction is y sigma(-y f)
    y = np.array([1.0, -1.0])
    Z = -LOGISTIC.gradient(np.array([np.log(3), 0.0]), y, np.array([4.0, 2.0]))
    assert pytest.approx([1.0, -1.0]) == Z
    # its dual is the sum of entropies
    assert LOGISTIC.dual(Z, y, np.ones(2)) == pytest.approx(0.0)
    assert LOGISTIC.dual(0.5 * y, y, np.ones(2)) == pytest.approx(2 * np.log(2))
    assert LOGISTIC.dual(-0.1 * y, y, np.ones(2)) == -np.inf
    assert LOGISTIC.dual(1.1 * y, y, np.ones(2)) == -np.inf
    assert LOGISTIC.dual(1.1 * y, y, 2 * np.ones(2)) > 0


def test_log_loss_at_extremes():
    f, y = np.array([800.0, -800.0, 1e5, -1e5]), np.array([1.0, 1.0, -1.0, -1.0])
    with np.errstate(all="raise", under="ignore"):
        assert LOGISTIC.value(f, y, np.ones(4)) == pytest.approx(800.0 + 1e5)
        assert np.array_equal(LOGISTIC.gradient(f, y, np.ones(4)), [0.0, -1.0, 1.0, 0.0])
        assert np.array_equal(LOGISTIC.hessian(f, y, np.ones(4)), np.zeros(4))
        assert LOGISTIC.conjugate(LOGISTIC.gradient(f, y, np.ones(4)), y, np.ones(4)) == 0.0


@given(z=numbers, f=numbers, y=numbers, s=st.floats(0.01, 100))
def test_squared_conjugate_is_the_supremum(z, f, y, s):
    args = np.array([y]), np.array([s])
    conjugate = SQUARED.conjugate(np.array([z]), *args)
    size = 1e-10 * (1 + abs(conjugate) + s * (f - y) ** 2 + abs(z * f))
    assert conjugate >= z * f - SQUARED.value(np.array([f]), *args) - size
    top = y + z / s  # where the gradient is z
    size = 1e-10 * (1 + abs(conjugate) + abs(z * top))
    assert conjugate == pytest.approx(z * top - SQUARED.value(np.array([top]), *args), abs=size)


@given(p=st.floats(1e-6, 1 - 1e-6), f=numbers, y=st.sampled_from([-1.0, 1.0]), s=st.floats(0.01, 100))
def test_logistic_conjugate_is_the_supremum(p, f, y, s):
    args = np.array([y]), np.array([s])
    z = -y * s * p
    conjugate = LOGISTIC.conjugate(np.array([z]), *args)
    assert conjugate >= z * f - LOGISTIC.value(np.array([f]), *args) - 1e-12 * s * (1 + abs(f))
    top = y * np.log((1 - p) / p)
    reached = z * top - LOGISTIC.value(np.array([top]), *args)
    assert conjugate == pytest.approx(reached, abs=1e-12 * s * (1 + abs(top)))


@pytest.mark.parametrize("limit", [0.7, 1.0, 1.2, 3.0, 50.0, 1e5, 1e9, np.inf])
@pytest.mark.parametrize("seed", range(5))
def test_best_scale_of_log_loss_is_the_maximum(limit, seed):
    """Also where the domain ends between 0 and the limit, and far beyond 1."""
    rng = np.random.default_rng(seed)
    y, s = np.where(rng.random(6) < 0.5, 1.0, -1.0), rng.uniform(0.5, 2, 6)
    Z = -LOGISTIC.gradient(rng.choice([1.0, 10.0]) * rng.normal(size=6), y, s) * rng.choice([1.0, 1e-3])
    t = LOGISTIC.best_scale(Z, y, s, limit)
    assert 0 <= t <= limit
    end = min(limit, float(np.min(s / np.abs(Z))))
    best = max(LOGISTIC.dual(r * Z, y, s) for r in np.linspace(0, end, 4001))
    assert LOGISTIC.dual(t * Z, y, s) >= best - 1e-9


def test_best_scale_of_log_loss_with_probabilities_beside_zero_and_far_beyond_one():
    y, s = np.array([1.0, 1.0]), np.ones(2)
    with np.errstate(all="raise", under="ignore"):
        assert LOGISTIC.best_scale(np.array([0.9, 5e-324]), y, s, 0.3) == 0.3
        assert LOGISTIC.best_scale(np.array([1.0, 5e-324]), y, s, np.inf) == pytest.approx(0.5)
    Z = np.array([6e7, 1e8])
    t = 1e-8 * LOGISTIC.best_scale(1e-8 * Z, y, s, 2.0)
    assert LOGISTIC.best_scale(Z, y, s, 1.0) == pytest.approx(t, rel=1e-10)


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC], ids=lambda loss: loss.name)
def test_the_intercept_balances_the_residual(loss):
    rng = np.random.default_rng(0)
    f, s, y = 30 * rng.normal(size=20), rng.uniform(0.1, 3, 20), np.where(np.arange(20) % 7, 1.0, -1.0)
    slope = loss.gradient(f + loss.intercept(f, y, s), y, s)
    assert abs(np.sum(slope)) <= 1e-10 * np.sum(np.abs(slope))


def test_one_class_has_no_intercept():
    with pytest.raises(ValueError, match="pass targets of both classes"):
        LOGISTIC.intercept(np.zeros(3), np.ones(3), np.ones(3))


def test_balance_keeps_the_domain():
    y, s = np.array([1.0, 1.0, -1.0]), np.ones(3)
    Z = np.array([0.9, 0.1, -0.1])
    balanced = LOGISTIC.balance(Z)
    assert np.sum(balanced) == pytest.approx(0.0, abs=1e-15) and balanced[2] == -0.1
    assert np.isfinite(LOGISTIC.dual(balanced, y, s))
    assert not np.isfinite(LOGISTIC.dual(Z - Z.mean(), y, s))
    assert np.array_equal(LOGISTIC.balance(np.array([1.0, 2.0])), [0.0, 0.0])


# What all losses made of hinges have in common


NAMES = ("absolute_error", "epsilon_insensitive", "hinge", "huber", "quantile", "squared_hinge")
KINKED = ("absolute_error", "epsilon_insensitive", "hinge", "quantile")


def drawn(loss, n=9, seed=0):
    rng = np.random.default_rng(seed)
    y = targets(loss, n, rng)
    return 2.0 * rng.normal(size=n), y, rng.uniform(0.3, 2.0, n)


@pytest.mark.parametrize(
    ("loss", "f", "y", "value"),
    [
        (AbsoluteError(), -1.0, 2.0, 3.0),
        (Quantile(0.9), 1.0, 3.0, 1.8),
        (Quantile(0.9), 3.0, 1.0, 0.2),
        (EpsilonInsensitive(0.5), 1.0, 3.0, 1.5),
        (EpsilonInsensitive(0.5), 1.0, 1.4, 0.0),
        (Huber(1.0), 1.0, 1.5, 0.125),
        (Huber(1.0), 1.0, 4.0, 2.5),
        (get_loss("hinge"), 0.25, 1.0, 0.75),
        (get_loss("hinge"), -2.0, -1.0, 0.0),
        (get_loss("squared_hinge"), -1.0, 1.0, 2.0),
        (Poisson(), np.log(2.0), 3.0, 2.0 - 3.0 * np.log(2.0) + 3.0 * np.log(3.0) - 3.0),
        (Poisson(), 0.5, 0.0, np.exp(0.5)),
    ],
)
def test_values_by_hand(loss, f, y, value):
    assert loss.value(np.array([f]), np.array([y]), 2.0 * ONE) == pytest.approx(2.0 * value)


def test_poisson_is_half_the_deviance_of_scikit_learn():
    from sklearn.metrics import mean_poisson_deviance

    f, y = np.array([0.3, -1.0, 2.0]), np.array([0.0, 2.0, 5.0])
    s = np.array([1.0, 2.0, 0.5])
    expected = 0.5 * mean_poisson_deviance(y, np.exp(f), sample_weight=s) * s.sum()
    assert Poisson().value(f, y, s) == pytest.approx(expected)
    assert np.array_equal(Poisson().mean(f), np.exp(f))


def test_quantile_is_scikit_learns():
    from sklearn.metrics import mean_pinball_loss

    f, y, s = drawn(Quantile(0.8))
    expected = mean_pinball_loss(y, f, sample_weight=s, alpha=0.8) * s.sum()
    assert Quantile(0.8).value(f, y, s) == pytest.approx(expected)


@pytest.mark.parametrize("name", [*NAMES, "poisson"])
def test_to_cvxpy_and_conic_are_the_loss(name):
    cp = pytest.importorskip("cvxpy")
    loss = get_loss(name)
    f, y, s = drawn(loss)
    assert loss.to_cvxpy(cp.Constant(f), y, s).value == pytest.approx(loss.value(f, y, s), rel=1e-9)


@pytest.mark.parametrize("name", KINKED)
def test_the_envelope_is_near_below_and_its_slopes_are_feasible(name):
    loss = get_loss(name)
    smooth = loss.smoothed(0.01)
    assert smooth.smooth and not loss.smooth and smooth.smoothed(0.1) is smooth
    f, y, s = drawn(loss)
    for at in (f, y, y + 1e-3):
        below = loss.value(at, y, s) - smooth.value(at, y, s)
        assert 0.0 <= below <= 0.01 * s.sum() * (1.0 + 1e-12)
        z = smooth.gradient(at, y, s)
        assert np.isfinite(loss.conjugate(z, y, s))
        # the envelope is the conjugate of the conjugate plus a parabola
        parabola = 0.5 * smooth.smoothing * float(np.sum(z * z / s))
        assert smooth.conjugate(z, y, s) == pytest.approx(loss.conjugate(z, y, s) + parabola)


@pytest.mark.parametrize("name", KINKED)
def test_proximal_steps_end_at_the_loss_itself(name):
    """For one constant: steps of a very smooth loss, each from the dual variable of the last."""
    loss = get_loss(name)
    f, y, s = drawn(loss)
    best = loss.value(loss.intercept(0.0 * f, y, s) + 0.0 * f, y, s)
    Z = np.zeros_like(y)
    for _ in range(200):
        smooth = loss.smoothed(0.5, Z / s)
        c = smooth.intercept(0.0 * f, y, s) + 0.0 * f
        Z = -smooth.gradient(c, y, s)
    assert loss.value(c, y, s) == pytest.approx(best, rel=1e-6)
    assert loss.dual(Z, y, s) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_the_best_constant_is_the_best(name, seed):
    loss = get_loss(name)
    f, y, s = drawn(loss, 7 + seed, seed)
    c = loss.intercept(f, y, s)
    best = loss.value(f + c, y, s)
    grid = np.concatenate([np.linspace(-9, 9, 2001), [c - 1e-6, c + 1e-6]])
    assert best <= min(loss.value(f + e, y, s) for e in grid) * (1.0 + 1e-12)
    Z = loss.balanced(-loss.gradient(f + c, y, s), f + c, y, s)
    assert abs(np.sum(Z)) <= 1e-12 * np.sum(np.abs(Z))
    # with its kinks settled, the balanced dual variable proves that the constant is the best
    assert loss.dual(Z, y, s) - float(Z @ f) == pytest.approx(best, abs=1e-9)


def test_medians_and_quantiles():
    y, one = np.array([1.0, 2.0, 4.0, 8.0]), np.ones(4)
    assert AbsoluteError().intercept(0.0 * y, y, one) == 3.0  # the middle, as NumPy's
    assert AbsoluteError().intercept(0.0 * y, y, np.array([1.0, 1.0, 1.0, 4.0])) == 8.0
    assert Quantile(0.9).intercept(0.0 * y, y, one) == 8.0
    assert EpsilonInsensitive(5.0).intercept(0.0 * y, y, one) == 4.5


def test_one_class_has_a_best_constant_where_the_hinge_is_zero():
    for name in ("hinge", "squared_hinge"):
        loss = get_loss(name)
        c = loss.intercept(np.array([0.5, 0.0]), np.ones(2), np.ones(2))
        assert c == 1.0 and loss.value(np.array([1.5, 1.0]), np.ones(2), np.ones(2)) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantile(1.0), "strictly between 0 and 1"),
        (lambda: Huber(0.0), "must be a finite number > 0"),
        (lambda: EpsilonInsensitive(-0.1), "at least 0"),
        (lambda: Poisson().check(np.array([1.0, -2.0])), "pass targets >= 0"),
        (lambda: Poisson().check(np.zeros(3)), "needs a target > 0"),
        (lambda: get_loss(3), "unknown loss 3"),
    ],
)
def test_parameters_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("loss", [Quantile(0.9), Huber(0.3), EpsilonInsensitive(0.5)], ids=repr)
def test_other_parameters_keep_the_laws(loss):
    check_loss(loss)
    if not loss.smooth:
        check_loss(loss.smoothed(0.05))


def test_the_best_constants_of_saturated_predictions():
    """Where classes are all but certain, and wrong, steps are huge and must not make things worse."""
    loss, rng = get_loss("log_loss", 3), np.random.default_rng(0)
    for _ in range(100):
        f, y = rng.standard_normal((20, 3)) * 10 ** rng.uniform(-1, 3), np.eye(3)[np.arange(20) % 3]
        y, s = y[rng.permutation(20)], np.ones(20)
        c = loss.intercept(f, y, s)
        assert loss.value(f + c, y, s) <= loss.value(f, y, s) * (1.0 + 1e-9)
        assert np.max(np.abs(c)) <= 10.0 * np.max(np.abs(f))


def test_a_count_that_is_met_costs_nothing():
    """Terms of the Poisson loss cancel: what rounding leaves was an objective without a bound."""
    poisson = get_loss("poisson")
    for y in (3.0, 7.0, 1e6):
        f, one = np.array([np.log(y)]), np.ones(1)
        assert poisson.value(f, y * one, one) == 0.0


def test_the_softmax_intercept_of_nearly_certain_predictions_ends_soon(monkeypatch):
    """Where values are rounding the gradient decides, and does not creep through hundreds of tries."""
    rng = np.random.default_rng(1)
    y = np.eye(10)[np.arange(1000) % 10]
    f = 30.0 * y + rng.normal(scale=3.0, size=y.shape)
    loss, seen = get_loss("log_loss", 10), []
    look = type(loss)._at
    monkeypatch.setattr(type(loss), "_at", staticmethod(lambda *args: seen.append(1) or look(*args)))
    c = loss.intercept(f, y, np.ones(1000))
    slope = loss.gradient(f + c, y, np.ones(1000)).sum(axis=0)
    assert len(seen) <= 60 and np.max(np.abs(slope)) <= 1e-12


def test_value_and_gradient_are_those_of_each():
    rng = np.random.default_rng(1)
    f, s = 20.0 * rng.normal(size=(30, 4)), rng.random(30)
    y = np.eye(4)[rng.integers(0, 4, 30)]
    loss = get_loss("log_loss", 4)
    value, gradient = loss.value_and_gradient(f, y, s)
    assert value == pytest.approx(loss.value(f, y, s), rel=1e-13)
    assert np.allclose(gradient, loss.gradient(f, y, s), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("shift", [0.0, 30.0, 3e4, 1e8])
@pytest.mark.parametrize("weight", [1.0, 1e-8])
def test_the_softmax_intercept_of_shifted_columns(shift, weight):
    """What a column has in all samples changes nothing, however much it is."""
    rng = np.random.default_rng(0)
    y = np.eye(3)[np.arange(30) % 3]
    f, s = rng.normal(size=(30, 3)), np.where(y[:, 0] == 1.0, weight, 1.0)
    loss = get_loss("log_loss", 3)
    moved = f + shift * np.array([1.0, 0.0, -0.5])
    best = loss.value(f + loss.intercept(f, y, s), y, s)
    assert loss.value(moved + loss.intercept(moved, y, s), y, s) == pytest.approx(best, rel=1e-7)
    alone = np.full((30, 3), shift) * np.array([1.0, 0.0, -0.5])
    known = loss.value(loss.intercept(0.0 * f, y, s) + 0.0 * f, y, s)
    assert loss.value(alone + loss.intercept(alone, y, s), y, s) == pytest.approx(known, rel=1e-7)
    for direction in rng.normal(scale=1e-2, size=(20, 3)):
        assert loss.value(f + loss.intercept(f, y, s) + direction, y, s) >= best


def test_the_softmax_intercept_of_far_apart_predictions():
    rng = np.random.default_rng(1)
    for size in (1e2, 1e4, 1e6):
        y = np.eye(4)[np.arange(40) % 4]
        f = size * rng.normal(size=(40, 4))
        loss, s = get_loss("log_loss", 4), rng.uniform(0.5, 2.0, 40)
        slope = loss.gradient(f + loss.intercept(f, y, s), y, s).sum(axis=0)
        # at this size a prediction is a step, and its rounding is that of f
        assert np.max(np.abs(slope)) <= 1e-12 * size
