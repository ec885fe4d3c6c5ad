"""The judge: bounds by hand, scopes, words, and independence from where a network came from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import Certificate, Oracle, Price, judge, percent, relative_gap, scale, search_gap
from cvxnn.losses import get_loss
from cvxnn.network import Network
from cvxnn.oracles import CellOracle, SearchOracle
from cvxnn.program import Problem
from cvxnn.train import train

SQUARED = get_loss("squared_error")


def identity():
    """X = I, y = (3, 4, -2), beta = 1: optimum 6 with f = (2.4, 3.2, -1)."""
    return Problem(np.eye(3), np.array([3.0, 4.0, -2.0]), np.ones(3), SQUARED, 1.0)


def best_network():
    """Two neurons: 4 (0.6, 0.8, 0) and -1 (0, 0, 1)."""
    return Network.two_layer(np.array([[1.2, 0], [1.6, 0], [0, 1.0]]), np.zeros(2), np.array([2.0, -1.0]))


class Fixed(Oracle):
    """Answers with one number."""

    def __init__(self, problem, value, scope="global", found=None):
        super().__init__(problem)
        self.answer = Price(value, scope, value if found is None else found)

    def price(self, Z):
        return self.answer


def test_a_certificate_by_hand():
    problem, network = identity(), best_network()
    assert network(problem.X) == pytest.approx([2.4, 3.2, -1.0])
    certificate = judge(network, problem, ReLU(None), Fixed(problem, 1.0))
    # 1/2 (0.36 + 0.64 + 1) + 1 * (4 + 1) = 6, the residual (0.6, 0.8, -1) has price 1
    assert certificate.objective * 3 == pytest.approx(6.0)
    assert certificate.lower_bound * 3 == pytest.approx(6.0)
    assert 0 < certificate.gap < 1e-12 and certificate.scope == "global" and certificate.width == 2
    assert certificate.alpha == pytest.approx(1 / 3)
    exact = judge(
        network, problem, ReLU(None), ReLU(None).oracle(problem, ReLU(None).arrange(problem, None))
    )
    assert exact.gap < 1e-11


def test_a_higher_price_is_a_lower_bound():
    problem, network = identity(), best_network()
    bounds = [judge(network, problem, ReLU(None), Fixed(problem, v)).lower_bound for v in (1, 1.1, 2, 10)]
    assert bounds == sorted(bounds, reverse=True) and bounds[-1] > 0
    # y'Z t - t^2 |Z|^2 / 2 at t = 1/2
    assert bounds[2] * 3 == pytest.approx(0.5 * 7.0 - 0.125 * 2.0)
    certificate = judge(network, problem, ReLU(None), Fixed(problem, 2.0, "bounded", 1.0))
    assert certificate.search_gap < 1e-12 and certificate.gap > 0.4
    assert certificate.scope == "bounded"


def test_given_duals_help_a_bad_network():
    problem = identity()
    bad = Network.two_layer(np.ones((3, 1)), np.zeros(1), np.ones(1))
    oracle = ReLU(None).oracle(problem, ReLU(None).arrange(problem, None))
    alone = judge(bad, problem, ReLU(None), oracle)
    helped = judge(bad, problem, ReLU(None), oracle, duals=(np.array([0.6, 0.8, -1.0]),))
    assert helped.objective == alone.objective
    assert alone.lower_bound < helped.lower_bound <= 2.0 + 1e-12
    assert helped.lower_bound == pytest.approx(2.0)


@pytest.mark.parametrize("bias", [None, "penalized", "free"])
def test_two_oracles_on_one_network(bias):
    """The loose oracle never claims more than the exact one, and both hold for the same network."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    problem = Problem.from_alpha(X, X[:, 0] ** 2, None, SQUARED, 0.02, False)
    architecture = ReLU(bias)
    trained = train(problem, architecture, tol=1e-8)
    problem, design = architecture.problem_of(problem), architecture.design(problem)
    exact = CellOracle(problem, design, architecture.arrange(problem, rng))
    loose = SearchOracle(problem, design)
    one = judge(trained.network, problem, architecture, exact, duals=(trained.dual,))
    two = judge(trained.network, problem, architecture, loose, duals=(trained.dual,), max_iter=50)
    assert (one.scope, two.scope) == ("global", "bounded")
    assert two.lower_bound <= one.objective and one.gap < 1e-6
    assert two.lower_bound <= one.lower_bound * (1 + 1e-6)
    assert two.lower_bound >= 0.5 * one.lower_bound
    assert two.search_gap < 1e-5


def test_sampled_patterns_are_only_compared_with_themselves():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    problem = Problem.from_alpha(X, X[:, 0] ** 2, None, SQUARED, 0.01, True)
    for architecture in (ReLU("penalized", 5), GatedReLU("penalized", 5)):
        certificate = train(problem, architecture).certificate
        assert certificate.scope == "patterns" and certificate.gap < 1e-4
        assert "no network with the same activation patterns" in str(certificate)


def test_scaling_and_gaps():
    problem = identity()
    Z = np.array([0.6, 0.8, -1.0])
    assert scale(problem, Z, 1.0)[1] == pytest.approx(6.0)
    t, bound = scale(problem, 100 * Z, 100.0)
    assert t == pytest.approx(Z) and bound == pytest.approx(6.0)
    assert scale(problem, Z, 0.0)[1] == pytest.approx(49 / 4)  # unconstrained maximum along Z
    assert search_gap(problem, 12.0, Z, 1.0) == pytest.approx(0.5)
    assert relative_gap(2.0, 1.0) == 0.5 and relative_gap(1.0, 2.0) == 0.0 and relative_gap(0.0, 0.0) == 0.0
    assert relative_gap(-1.0, -2.0) == 1.0


def test_the_zero_network_and_the_zero_dual():
    problem = identity()
    zero = Network.two_layer(np.zeros((3, 0)), np.zeros(0), np.zeros(0))
    worthless = judge(zero, problem, ReLU(None), Fixed(problem, 1e12))
    assert worthless.objective * 3 == pytest.approx(14.5) and 0 <= worthless.lower_bound < 1e-9
    assert worthless.gap == pytest.approx(1.0)


def test_perfect_fits_without_cost():
    problem = Problem(np.eye(2), np.zeros(2), np.ones(2), SQUARED, 1.0)
    zero = Network.two_layer(np.zeros((2, 0)), np.zeros(0), np.zeros(0))
    certificate = judge(zero, problem, ReLU(None), Fixed(problem, 0.0))
    assert (certificate.objective, certificate.lower_bound, certificate.gap) == (0.0, 0.0, 0.0)


def test_words():
    certificate = Certificate(0.25, 0.2, 0.2, "bounded", 1e-9, 1, 0.01)
    text = str(certificate)
    assert "objective 0.25" in text and "no network of any width can be below 0.2" in text
    assert "gap 20 %" in text and "scope bounded" in text and text.endswith("1 neuron")
    assert "<table>" in certificate._repr_html_() and "lower bound (bounded)" in certificate._repr_html_()
    assert json.loads(json.dumps(certificate.to_dict()))["search_gap"] == 1e-9
    assert Certificate(**certificate.to_dict()) == certificate
    assert percent(0.5) == "50 %" and percent(1e-7) == "1.0e-07" and percent(0.0) == "0.0e+00"
