"""Training: stopping, history, interruption, choice of a solver, degenerate data, repeatability."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.architectures.base import Effort, Progress
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.losses import LOSSES, get_loss
from cvxnn.program import Problem, Status
from cvxnn.testing import random_program
from cvxnn.train import _dual, choose_solver, get_architecture, train

SQUARED, LOGISTIC = get_loss("squared_error"), get_loss("log_loss")


def problem(n=60, d=6, loss=SQUARED, alpha=1e-3, intercept=True, seed=0):
    """Too many patterns to list: they have to grow."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.abs(X[:, 0]) - np.maximum(X[:, 1] + X[:, 2], 0.0) + 0.1 * rng.normal(size=n)
    y = np.sign(y - np.median(y)) if loss.classification else y
    y = np.round(np.exp(y)) if loss.nonnegative else y
    return Problem.from_alpha(X, y, None, loss, alpha, intercept)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", ["penalized", "free", None])
def test_growing_patterns(bias, loss):
    data = problem(loss=get_loss(loss), n=40, d=5, alpha=5e-3)
    trained = train(data, ReLU(bias), tol=1e-4, bound_iter=5)
    certificate = trained.certificate
    assert certificate.scope == "bounded" and certificate.search_gap <= 1e-4
    assert trained.status is Status.optimal
    assert 0 < certificate.lower_bound <= certificate.objective
    assert certificate.width == trained.network.width <= len(data.y) + 1
    assert certificate.alpha == pytest.approx(5e-3)
    assert abs(np.sum(trained.dual)) <= 1e-9 * np.sum(np.abs(trained.dual))


def test_history():
    seen = []
    trained = train(problem(), ReLU(), tol=1e-4, bound_iter=2, callback=seen.append)
    # growing by descent reports between the rounds too
    assert seen == trained.history and len(seen) > trained.n_iter
    objectives, seconds = [m.objective for m in seen], [m.seconds for m in seen]
    assert np.all(np.diff(objectives) <= 1e-9) and np.all(np.diff(seconds) >= 0)
    last = seen[-1]
    assert last.objective == pytest.approx(trained.certificate.objective, rel=1e-12)
    assert last.bound == trained.certificate.lower_bound and all(m.bound == 0 for m in seen[:-1])
    assert last.width == trained.network.width


def test_max_iter_keeps_the_certificate_honest():
    data = problem()
    best = train(data, ReLU(), tol=1e-6, bound_iter=0).certificate
    for rounds in (1, 2):
        short = train(data, ReLU(), tol=1e-9, max_iter=rounds, bound_iter=0)
        assert short.n_iter <= rounds and short.status is not Status.optimal
        assert short.certificate.search_gap > 1e-9
        assert short.certificate.objective >= best.objective * (1 - 1e-9)
        assert short.certificate.lower_bound <= best.objective


def test_out_of_time():
    trained = train(problem(), ReLU(), max_time=0.0, tol=1e-12, bound_iter=0)
    assert trained.status is Status.max_time and np.isfinite(trained.certificate.objective)
    assert trained.certificate.lower_bound <= trained.certificate.objective


@pytest.mark.parametrize("architecture", [ReLU(), GatedReLU(patterns=40)])
def test_an_interrupt_returns_the_best_network_so_far(architecture):
    def interrupt(moment):
        if len(moments) == 0:
            moments.append(moment)
            raise KeyboardInterrupt

    moments = []
    trained = train(problem(), architecture, tol=1e-9, bound_iter=0, callback=interrupt)
    # gated networks take one round, and were done
    done = Status.optimal if isinstance(architecture, GatedReLU) else Status.interrupted
    assert trained.status is done
    certificate = trained.certificate
    assert certificate.objective == pytest.approx(moments[0].objective, rel=1e-9)
    assert certificate.lower_bound <= certificate.objective


def test_the_same_seed_gives_the_same_network():
    one, two = (train(problem(n=40), ReLU(), tol=1e-3, bound_iter=2) for _ in range(2))
    assert one.certificate == two.certificate
    for a, b in zip(one.network.layers, two.network.layers, strict=True):
        for name in vars(a):
            assert np.array_equal(getattr(a, name), getattr(b, name))
    other = train(problem(n=40), ReLU(), tol=1e-3, bound_iter=2, random_state=7)
    assert other.certificate.objective == pytest.approx(one.certificate.objective, rel=1e-3)


def test_training_leaves_the_data_alone():
    data = problem(n=12, d=3)
    before = [np.copy(v) for v in (data.X, data.y, data.weights)]
    train(data, ReLU())
    assert all(np.array_equal(a, b) for a, b in zip(before, (data.X, data.y, data.weights), strict=True))


@pytest.mark.parametrize("bias", ["penalized", "free", None])
@pytest.mark.parametrize("patterns", ["auto", "all", 5])
@pytest.mark.parametrize(
    "X",
    [
        np.zeros((4, 2)),
        np.ones((4, 1)),
        np.array([[1.0], [1.0], [-1.0], [-1.0]]),
        np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0], [-1.0, -2.0]]),
        np.eye(4, 9),
    ],
    ids=["zero", "constant", "two values", "parallel", "wide"],
)
def test_degenerate_data(X, patterns, bias):
    y = np.array([1.0, -1.0, 0.5, 2.0])
    for intercept in (False, True):
        data = Problem.from_alpha(X, y, None, SQUARED, 0.01, intercept)
        certificate = train(data, ReLU(bias, patterns), tol=1e-6).certificate
        assert certificate.gap <= 1e-5, certificate
        assert certificate.scope == ("patterns" if patterns == 5 else "global")


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_that_need_no_network(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 2))
    if loss == "squared_error":
        certificate = train(
            Problem.from_alpha(X, np.full(6, 3.0), None, SQUARED, 0.1, True), ReLU()
        ).certificate
        assert certificate.objective == pytest.approx(0.0, abs=1e-12) and certificate.width == 0
    y = np.full(1, 3.0 if loss == "poisson" else 1.0)  # the mean of no network is 1
    single = train(Problem.from_alpha(X[:1], y, None, get_loss(loss), 0.1, False), ReLU())
    assert single.certificate.gap < 1e-5 and single.network.width == 1


@pytest.fixture(scope="module")
def trained_in_own_units():
    return train(problem(n=15, d=3), ReLU(), tol=1e-8)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_of_the_targets(scale, trained_in_own_units):
    """Squared error: y -> cy with alpha -> c alpha scales the network and squares the objective."""
    data = problem(n=15, d=3)
    scaled = Problem(data.X, scale * data.y, data.weights, SQUARED, scale * data.beta, True)
    one, two = trained_in_own_units, train(scaled, ReLU(), tol=1e-8)
    assert two.certificate.objective == pytest.approx(scale**2 * one.certificate.objective, rel=1e-6)
    assert two.certificate.gap < 1e-6


def test_which_solver():
    rng = np.random.default_rng(0)
    for cones, name in ((False, "working_set"), (True, "interior_point")):
        program = random_program(SQUARED, rng, cones=cones, intercept=True)
        assert choose_solver(program).name == name
    large = random_program(SQUARED, rng, cones=False, intercept=False, n=7000, d=1100)
    assert choose_solver(large).name == "fista"


def test_architectures_by_name():
    relu = ReLU("free", 7)
    assert get_architecture(relu, None, "auto") is relu
    assert get_architecture("relu", "free", 7) == relu
    for wrong in ("mlp", 3, None):
        with pytest.raises(ValueError, match=r"unknown architecture .*: pass one of 'absolute', "):
            get_architecture(wrong, None, "auto")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (ReLU("yes"), "hidden_bias='yes' is unknown"),
        (ReLU(None, "some"), "patterns='some' is unknown"),
        (ReLU(None, 0), "patterns=0 is unknown: pass .* an integer of at least 1"),
        (GatedReLU(None, 0), "patterns=0 is unknown: pass .* an integer of at least 1"),
        (GatedReLU("free"), "no free hidden bias"),
        (GatedReLU(None, np.ones((2, 9))), "gates must have shape"),
        (GatedReLU(None, "some"), "patterns='some' is unknown"),
        (ReLU("penalized", "all"), "limit="),
    ],
)
def test_messages(architecture, message):
    with pytest.raises(ValueError, match=message):
        train(problem(), architecture)


@pytest.mark.parametrize(
    "gaps, taken",
    [((1e-9, 1e-3, 1e-6), 2), ((1e-3, 1e-4, 1e-2), 1), ((1e-6, 1e-9), 1)],
    ids=["the last that ended it", "else the best", "both within tol"],
)
def test_the_dual_variable_of_a_training(gaps, taken):
    effort = Effort(1e-5, 10, np.random.default_rng(0))
    effort.history += [Progress(1.0, gap, 1, 1, None, np.full(2, k)) for k, gap in enumerate(gaps)]
    effort.history.append(Progress(1.0, 1e-12, 1, 1))  # a round without one
    assert _dual(None, None, effort)[0] == taken
