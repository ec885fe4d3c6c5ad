"""Every registered member passes the public checks, and the checks catch members that are wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cvxnn import penalties
from cvxnn.architectures import ARCHITECTURES, VECTOR_ARCHITECTURES
from cvxnn.architectures.absolute import Absolute
from cvxnn.architectures.base import Progress
from cvxnn.architectures.batchnorm import BatchNorm
from cvxnn.architectures.cnn import CNN
from cvxnn.architectures.cnn_circular import CNNCircular
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.architectures.cnn_linear import CNNLinear
from cvxnn.architectures.cnn_max import CNNMax
from cvxnn.architectures.deep_linear import DeepLinear
from cvxnn.architectures.deep_narrow import NarrowReLU
from cvxnn.architectures.deep_path import PathReLU
from cvxnn.architectures.deep_relu import DeepReLU
from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.layerwise import Layerwise
from cvxnn.architectures.layerwise_cnn import LayerwiseCNN
from cvxnn.architectures.leaky_relu import LeakyReLU
from cvxnn.architectures.linear import Linear
from cvxnn.architectures.polynomial import Polynomial
from cvxnn.architectures.polynomial_cnn import PolynomialCNN
from cvxnn.architectures.quantized import Quantized
from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.threshold import Threshold
from cvxnn.architectures.wedge import Wedge
from cvxnn.arrangement import pack
from cvxnn.certificate import Price
from cvxnn.feature_penalties import Elastic, Groups, feature_norm
from cvxnn.losses import LOSSES
from cvxnn.losses.log_loss import LogLoss
from cvxnn.losses.squared_error import SquaredError
from cvxnn.operators import Dense, Masked, Pooled
from cvxnn.penalties import BesideMatrix, ColumnL2, GroupL2, NuclearNorm, Penalty
from cvxnn.registry import discover
from cvxnn.solvers import SOLVERS
from cvxnn.solvers.fista import Fista
from cvxnn.testing import (
    check_architecture,
    check_loss,
    check_operator,
    check_penalty,
    check_solver,
)

#: Variants of the registered architectures; each name has at least one.
VARIANTS = [
    ReLU("penalized"),
    ReLU("free"),
    ReLU(None, "all"),
    ReLU("free", 12),
    ReLU("penalized", penalty="l1"),
    ReLU("free", 12, "l1"),
    ReLU(None, 10, Groups([[0, 1]], 0.3)),
    ReLU(None, "all", skip=True),
    ReLU(skip=True),
    ReLU(None, 10, skip=True),
    GatedReLU("penalized", 12),
    GatedReLU("penalized", 12, "l1"),
    GatedReLU("penalized", 12, Groups([[1, 0]])),
    GatedReLU(None, "all"),
    GatedReLU("penalized", 12, "l1", skip=True),
    LeakyReLU(None, "all", 0.2),
    LeakyReLU("free", slope=-0.5),
    Absolute("free"),
    Absolute(None, 12),
    Absolute(None, "all", skip=True),
    LeakyReLU(slope=0.3, skip=True),
    Linear("free"),
    Linear(None),
    Layerwise("penalized", 12, 2, "gated_relu"),
    Layerwise(None, "auto", 2, Linear(None), True),
    Threshold("free"),
    Threshold(None, "all"),
    Threshold("penalized", 12),
    Threshold("free", skip=True),
    Threshold(None, "all", skip=True),
    Threshold("penalized", 12, skip=True),
    Wedge("free"),
    Wedge("free", "all", "l1"),
    Wedge(None, penalty="l1"),
    Wedge("penalized", 20, "l1"),
    BatchNorm("free"),
    BatchNorm(None),
    BatchNorm("penalized", 12),
    BatchNorm("penalized", where="after"),
    BatchNorm(None, where="after"),
    BatchNorm("free", where="after"),
    Polynomial(None),
    Polynomial("penalized", (-0.3, 0.0, 1.0), "semidefinite"),
    Polynomial(None, (0.0, 1.0, 0.0)),
    Quantized(None),
    Quantized("penalized", "semidefinite"),
    CNN(kernel=1, pooling="sum", hidden_bias="free"),
    CNN(kernel=1, patterns="all"),
    CNN(kernel=2, padding=1, hidden_bias=None),
    CNN(kernel=1, padding="circular", patterns=6),
    CNN(kernel=1, hidden_bias=None, pool="flatten"),
    CNN(kernel=1, pool="flatten"),
    CNNLinear(kernel=1, hidden_bias=None, pool="all"),
    CNNGated(kernel=1, patterns=6, pool="flatten"),
    CNNMax(kernel=1, hidden_bias=None),
    CNNMax(kernel=1, patterns=6),
    CNNCircular(patterns=12),
    LayerwiseCNN(kernel=1, padding=0, patterns=6),
    LayerwiseCNN(kernel=1, padding=0, hidden_bias=None, patterns="all", stage="cnn"),
    DeepLinear("free", depth=4),
    DeepReLU(None, 12),
    PathReLU(None, 12),
    NarrowReLU(2),
    NarrowReLU(4),
]
#: Variants that need more than two features, with their number.
WIDER = [
    (BatchNorm(), 9),
    (CNN(kernel=2, padding=1, pooling="sum", hidden_bias=None, pool=2), 3),
    (PolynomialCNN(2, (2, 3), pooling="none"), 6),
    (PolynomialCNN(2, (3, 3), pooling="sum", pool=(2, 1), hidden_bias=None), 9),
    (PolynomialCNN(2, (2, 3), pooling="none", hidden_bias=None, method="semidefinite"), 6),
]
#: Families of several outputs whose defaults take long, with fewer gates.
FEWER = {
    "cnn_gated": CNNGated(patterns=3),
    "gated_relu": GatedReLU(patterns=4),
    "layerwise": Layerwise(stage="linear"),
    "layerwise_cnn": LayerwiseCNN(patterns=2),
}
#: Steps that are enough for every solver, so that a wrong one is not wrong for want of more.
STEPS = 2000
#: Features of the problems for families that are for one input only.
FEATURES = {"narrow_relu": 1}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    assert LOSSES[name].name == name
    check_loss(LOSSES[name]())


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name):
    assert SOLVERS[name].name == name
    check_solver(SOLVERS[name](), max_iter=STEPS)


def test_operators_of_convolutions():
    rng = np.random.default_rng(0)
    X, masks = rng.normal(size=(12, 4)), rng.random((7, 12)) < 0.5
    check_operator(Pooled(Masked(X, pack(masks), np.where(rng.random(7) < 0.5, 1.0, -1.0)), 3))
    check_operator(Dense(rng.normal(size=(5, 12)), 3))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_with_defaults(name):
    assert ARCHITECTURES[name].name == name
    check_architecture(ARCHITECTURES[name](), FEATURES.get(name, 2))


@pytest.mark.parametrize("architecture", VARIANTS, ids=repr)
def test_architecture_variants(architecture):
    check_architecture(architecture, FEATURES.get(architecture.name, 2), thorough=False)


@pytest.mark.parametrize(("architecture", "features"), WIDER, ids=repr)
def test_wider_architecture_variants(architecture, features):
    check_architecture(architecture, features=features, thorough=False)


@pytest.mark.parametrize("name", VECTOR_ARCHITECTURES)
def test_architectures_of_several_outputs(name):
    assert VECTOR_ARCHITECTURES[name].name == name
    family = FEWER[name].for_outputs(2) if name in FEWER else VECTOR_ARCHITECTURES[name]()
    check_architecture(family, thorough=False, outputs=2)


def test_penalties():
    members = [m for m in vars(penalties).values() if isinstance(m, type) and issubclass(m, Penalty)]
    # rows of BesideMatrix are no groups of their own, see test_penalties.py
    assert {m for m in members if m is not Penalty} == {GroupL2, ColumnL2, NuclearNorm, BesideMatrix}
    for free in (0, 1, 2):
        check_penalty(GroupL2(free))
    for spec in ("l2", "l1", Elastic(0.3), Groups([[0, 3], [1, 2]]), Groups([[2], [0, 1, 3]], 0.4)):
        check_penalty(feature_norm(spec, 4, None))
        check_penalty(feature_norm(spec, 4, "penalized"), (5,))
        check_penalty(feature_norm(spec, 4, "free"), (5,))
    check_penalty(NuclearNorm(3), (12,))
    check_penalty(NuclearNorm(2), (6, 4))
    for shape in ((4, 3), (2, 5), (3, 1)):
        check_penalty(ColumnL2(), shape)
        check_penalty(NuclearNorm(), shape)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("chunk", [0, 1, 3])
@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0])
def test_operators(signed, chunk, slope):
    rng = np.random.default_rng(0)
    X, masks = rng.normal(size=(13, 4)), rng.random((7, 13)) < 0.5
    signs = np.where(rng.random(7) < 0.5, 1.0, -1.0) if signed else None
    check_operator(Masked(X, pack(masks), signs, chunk, slope))


def test_explicit_columns():
    check_operator(Dense(np.random.default_rng(0).normal(size=(13, 28)), 7))


def test_a_registry_refuses_two_members_of_one_name(tmp_path, monkeypatch):
    package = tmp_path / "twins"
    package.mkdir()
    (package / "__init__.py").write_text("class Base:\n    pass\n")
    for file in ("one", "two"):
        (package / f"{file}.py").write_text("from . import Base\nclass A(Base):\n    name = 'same'\n")
    monkeypatch.syspath_prepend(tmp_path)
    import twins

    with pytest.raises(ValueError, match="'same'"):
        discover("twins", list(twins.__path__), twins.Base)


# Members that are wrong in one way each: a check that lets them pass would be worthless.


class Steeper(SquaredError):
    def gradient(self, f, y, s):
        return 1.001 * s * (f - y)


class Flatter(SquaredError):
    def hessian(self, f, y, s):
        return 0.9 * s * np.ones_like(f)


class Stronger(LogLoss):
    """A conjugate that is too small: its dual bounds would be too high."""

    def conjugate(self, z, y, s):
        return super().conjugate(z, y, s) - 1e-3 * float(np.sum(np.abs(z)))


class Narrower(LogLoss):
    def conjugate(self, z, y, s):
        return super().conjugate(z, y, s) if np.all(np.abs(z) <= 0.9 * s) else float("inf")


class Wider(LogLoss):
    """A conjugate that is finite where the supremum is infinite."""

    def conjugate(self, z, y, s):
        return super().conjugate(-y * np.clip(-y * z, 0.0, s), y, s)


class Unweighted(SquaredError):
    def conjugate(self, z, y, s):
        return float(np.sum(0.5 * z * z + z * y))


class Timid(SquaredError):
    def best_scale(self, Z, y, s, limit):
        return 0.5 * super().best_scale(Z, y, s, limit)


class Centred(LogLoss):
    """Subtracts the mean, which may leave the domain of the conjugate."""

    @staticmethod
    def balance(Z):
        return Z - np.mean(Z)


class Off(LogLoss):
    def intercept(self, f, y, s):
        return super().intercept(f, y, s) + 0.01


@pytest.mark.parametrize(
    ("loss", "law"),
    [
        (Steeper(), "gradient"),
        (Flatter(), "hessian"),
        (Stronger(), "Fenchel-Young"),
        (Narrower(), "Fenchel-Young|domain"),
        (Wider(), "supremum"),
        (Unweighted(), "Fenchel-Young"),
        (Timid(), "best_scale"),
        (Centred(), "balance"),
        (Off(), "intercept"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_wrong_losses_are_caught(loss, law):
    with pytest.raises(AssertionError, match=law):
        check_loss(loss)


class HalfShrunk(GroupL2):
    def prox(self, W, step):
        return super().prox(W, 0.5 * step)


class WrongNorm(GroupL2):
    def polar(self, G):
        return np.max(np.abs(G), axis=1)


class Expansive(GroupL2):
    def prox(self, W, step):
        return 1.1 * W


@pytest.mark.parametrize(
    ("penalty", "law"), [(HalfShrunk(), "Moreau"), (WrongNorm(), "polar"), (Expansive(), "prox")]
)
def test_wrong_penalties_are_caught(penalty, law):
    with pytest.raises(AssertionError, match=law):
        check_penalty(penalty)


class Unsigned(Masked):
    """Forgets the signs on the way back."""

    def adjoint(self, Z):
        return Masked(self.X, self.bits).adjoint(Z)


class Small(Masked):
    def norm_bound(self):
        return 0.5 * float(np.linalg.norm(self.dense(), 2))


@pytest.mark.parametrize(("kind", "law"), [(Unsigned, "adjoint"), (Small, "norm_bound")])
def test_wrong_operators_are_caught(kind, law):
    rng = np.random.default_rng(0)
    bits = pack(rng.random((3, 6)) < 0.5)
    with pytest.raises(AssertionError, match=law):
        check_operator(kind(rng.normal(size=(6, 2)), bits, np.array([1.0, -1.0, 1.0])))


class Lazy(Fista):
    """Never moves."""

    def step(self, program, state):
        return state if float(np.sum(np.abs(state.W))) else None


class Silent(Fista):
    def supports(self, program):
        return False, ""


class Biased(Fista):
    """Reports a better point than the one it found: must not be believed."""

    def candidate(self, program, state):
        found = super().candidate(program, state)
        return dataclasses.replace(found, offset=found.offset + 0.1)


@pytest.mark.parametrize(
    ("solver", "law"),
    [(Lazy(), "convergence"), (Silent(), "supports"), (Biased(), "convergence|objective")],
)
def test_wrong_solvers_are_caught(solver, law):
    with pytest.raises(AssertionError, match=law):
        check_solver(solver, max_iter=STEPS)


class Optimist(ReLU):
    """Its oracle misses 2 % of the price."""

    def oracle(self, problem, arrangement):
        oracle = super().oracle(problem, arrangement)
        price = oracle.price

        def low(Z):
            true = price(Z)
            return Price(0.98 * true.value, true.scope, 0.98 * true.found)

        oracle.price = low
        return oracle


class Heavy(ReLU):
    """Decodes into a network that computes the same and costs more."""

    def decode(self, problem, arrangement, solution):
        network = super().decode(problem, arrangement, solution)
        first, relu, last = network.layers
        return type(network)(
            (dataclasses.replace(first, weight=first.weight * (1 + 1e-7)), relu, last),
        )


class Cheap(ReLU):
    """Counts a part of the weights only."""

    def cost(self, network):
        return 0.99 * super().cost(network)


class Quitter(ReLU):
    """Returns the zero network without training."""

    def train(self, problem, arrangement, oracle, effort):
        yield Progress(problem.null_value(), 1.0, 0, 0)
        c = (
            problem.loss.intercept(0.0 * problem.y, problem.y, problem.weights)
            if problem.intercept
            else 0.0
        )
        return self.adopt(np.zeros((2, 0)), np.zeros(0), np.zeros(0), c)


@pytest.mark.parametrize(
    ("architecture", "law"),
    [
        (Optimist(None), "oracle bounds|no certificate"),
        (Heavy(None), "decode"),
        (Cheap(None), "decode"),
        (Quitter(None), "training"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_wrong_architectures_are_caught(architecture, law):
    with pytest.raises(AssertionError, match=law):
        check_architecture(architecture)
