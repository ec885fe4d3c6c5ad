"""Every family that samples patterns takes the same choices, and says so; wedges are among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cvxnn import ConvexNetRegressor
from cvxnn.architectures import ARCHITECTURES, two_layer
from cvxnn.architectures.batchnorm import BatchNorm
from cvxnn.architectures.deep_path import PathReLU
from cvxnn.architectures.deep_relu import BRANCHES, DeepReLU
from cvxnn.architectures.layerwise import Layerwise
from cvxnn.architectures.two_layer import check_patterns, is_sample
from cvxnn.architectures.wedge import Wedge
from cvxnn.arrangement import patterns_of
from cvxnn.geometric import wedge_gates
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train

#: Families with a choice of patterns that have none: those of linear networks.
NONE = ("linear", "deep_linear", "cnn_linear")
SAMPLED = sorted(
    name
    for name, family in ARCHITECTURES.items()
    if "patterns" in getattr(family, "__dataclass_fields__", {}) and name not in NONE
)
#: Of several outputs; patterns of the others grow.
SEVERAL = ("cnn_gated", "gated_relu", "threshold")
GROWN = ("absolute", "batchnorm", "cnn", "cnn_circular", "cnn_max", "layerwise", "leaky_relu", "relu")


def data(outputs=1, n=14, d=6):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n) if outputs == 1 else rng.standard_normal((n, outputs))
    return X, y


def problem_of(X, y, alpha=0.05):
    return Problem.from_alpha(X, y, None, get_loss("squared_error"), alpha, False)


@pytest.mark.parametrize("name", SAMPLED)
def test_every_family_that_samples_patterns_samples_wedges(name):
    X, y = data()
    for patterns in (("wedge", 8), ["wedge", 4]):
        model = ConvexNetRegressor(architecture=name, patterns=patterns, alpha=0.05).fit(X, y)
        assert model.certificate_.scope == "patterns"
        assert model.certificate_.gap <= 1e-4


def test_the_list_of_families_is_not_empty_by_mistake():
    assert {"cnn_gated", "cnn_max", "deep_relu", "path_relu", "relu", "wedge"} <= set(SAMPLED)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_outputs_sample_wedges_where_they_sample_at_all(name):
    model = ConvexNetRegressor(architecture=name, patterns=("wedge", 8), alpha=0.05).fit(*data(2))
    assert model.certificate_.scope == "patterns"


@pytest.mark.parametrize("name", GROWN)
@pytest.mark.parametrize("patterns", ["wedge", ("wedge", 6), 6])
def test_where_patterns_grow_the_refusal_says_what_works(name, patterns):
    X, Y = data(2)
    with pytest.raises(ValueError, match=r"patterns='auto', or sample .*'gated_relu'"):
        ConvexNetRegressor(architecture=name, patterns=patterns, alpha=0.05).fit(X, Y)


@pytest.mark.parametrize("wrong", ["wedges", 0, True, 2.5, ("gates", 3), None])
@pytest.mark.parametrize("name", SAMPLED)
def test_what_is_refused_is_told_all_choices(name, wrong):
    X, y = data()
    with pytest.raises(ValueError, match=r"'auto', 'all', an integer.*\('wedge', number\)"):
        ConvexNetRegressor(architecture=name, patterns=wrong, alpha=0.05).fit(X, y)


def test_an_array_of_gates_is_for_gated_families():
    check_patterns(np.eye(2), arrays=True)
    with pytest.raises(ValueError, match="pass 'auto'"):
        check_patterns(np.eye(2))
    with pytest.raises(ValueError, match="an array of gates"):
        check_patterns("some", arrays=True)
    assert is_sample(("wedge", 3)) and is_sample("wedge") and is_sample(3) and not is_sample("all")


@pytest.mark.parametrize("family", [DeepReLU(None), PathReLU(None)])
def test_first_neurons_of_sampled_branches_are_wedges(family, monkeypatch):
    X, y = data(n=9, d=3)
    drawn = []

    def watched(X, number, random_state, columns=None):
        gates = wedge_gates(X, number, random_state, columns)
        drawn.extend(patterns_of(X, gates))
        return gates

    monkeypatch.setattr(two_layer, "wedge_gates", watched)
    nest = replace(family, patterns=("wedge", 3)).arrange(problem_of(X, y), np.random.default_rng(0))
    known = {np.asarray(mask, dtype=bool).tobytes() for mask in drawn}
    assert len(nest.first) and {mask.tobytes() for mask in nest.first} <= known


def test_wedge_alone_draws_the_default_number_of_branches():
    X, y = data(n=9, d=2)
    nest = DeepReLU(None, "wedge").arrange(problem_of(X, y), np.random.default_rng(0))
    assert 1 <= len(nest.second) <= BRANCHES


def test_wedges_are_normalised_after_the_relu_too():
    X, y = data(n=12, d=2)
    fit = train(problem_of(X, y), BatchNorm(None, ("wedge", 6), "after"))
    assert fit.certificate.scope == "patterns"


def test_sampled_wedge_networks_know_no_sketch():
    X, y = data(d=2)
    number, pair = (Wedge(patterns=p) for p in (5, ("wedge", 5)))
    one, two = (train(problem_of(X, y), family).certificate.objective for family in (number, pair))
    assert one == two
    with pytest.raises(ValueError, match="pass a number"):
        train(problem_of(X, y), Wedge(patterns=("wedge", 5, 2)))


@pytest.mark.parametrize("stage", ["relu", "gated_relu"])
@pytest.mark.parametrize("patterns", ["wedge", ("wedge", 12)])
def test_stages_draw_wedges_of_their_own(stage, patterns):
    X, y = data(d=3)
    fit = train(problem_of(X, y, 0.01), Layerwise(patterns=patterns, stages=2, stage=stage))
    assert fit.certificate.scope == "patterns"


def test_a_stage_on_sampled_wedges_starts_from_no_copy():
    X, y = data(d=3)
    family = Layerwise(patterns="wedge")
    fit = train(problem_of(X, y, 0.01), family)
    # the copy's patterns may not be among those that are drawn for the next stage
    assert family._next(fit.network)[1] is None
