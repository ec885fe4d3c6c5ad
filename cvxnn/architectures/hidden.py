"""Hidden layers that several families share: neurons with a kink at zero, and neurons behind fixed gates.

A family of one output and its sister of several differ in their output layer, so in programs, oracles and
decoding. What they see of the data, which gates they take and what the hidden half of a neuron costs is the
same, and stands here.

References: Pilanci and Ergen, ICML 2020; Mishkin, Sahiner and Pilanci, ICML 2022.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..design import Design
from ..feature_penalties import FeatureNorm, WeightPenalty, feature_norm, is_weight_decay
from ..layers import Layer
from ..network import Absolute, Activation, Affine, Gated, LeakyReLU, Network, ReLU
from ..norm_pricing import NormDesign
from ..program import Problem
from ..walks import rectify
from .two_layer import (
    check_hidden_bias,
    check_patterns,
    check_skip,
    design_matrix,
    free_constants,
    sampled,
    with_constants,
)

#: Gates beyond which ``patterns="all"`` refuses.
ALL_GATES = 50_000


class HiddenPenalty:
    """The norm that the weights of a hidden neuron pay; weight decay unless a family has a `penalty`."""

    hidden_bias: str | None
    penalty: WeightPenalty = "l2"

    def norm(self, features: int) -> FeatureNorm:
        """Return the norm of the weights (and bias) of neurons that see some number of features."""
        reach = 1.0 if self.hidden_bias == "free" else float("inf")
        return feature_norm(self.penalty, features, self.hidden_bias, reach)

    def sizes(self, U: np.ndarray) -> np.ndarray:
        """Return the norms (k,) of the penalised parts of weights ``U``, (k, d), the bias last if any."""
        return self.norm(U.shape[1] - (self.hidden_bias is not None)).norms(U)

    def sizes_of(self, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return the norms (m,) of the neurons of a layer, ``weight`` (d, m) and ``bias`` (m,)."""
        return self.sizes(weight.T if self.hidden_bias is None else np.column_stack([weight.T, bias]))


class ReLUHidden(HiddenPenalty):
    """A hidden layer of neurons ``max(t, leak * t)`` with a penalised bias, a free one or none."""

    #: The layer of the activation.
    layer: ClassVar[type[Activation]] = ReLU

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return len(network.layers) == 3 and isinstance(network.layers[1], cls.layer)

    @property
    def leak(self) -> float:
        """The slope of the activation on the negative side: 0, a ReLU."""
        return 0.0

    @property
    def activation(self) -> Activation:
        """The layer that explicit networks have between their weights."""
        if self.leak == 0.0:
            return ReLU()
        return Absolute() if self.leak == -1.0 else LeakyReLU(self.leak)

    def design(self, problem: Problem) -> Design:
        """Return the design matrix of the neurons, in its row space where that changes no norm."""
        check_hidden_bias(self.hidden_bias)
        full = design_matrix(problem, self.hidden_bias)
        if is_weight_decay(self.penalty):
            return Design.reduce(full, 1 if self.hidden_bias == "free" else 0, self.leak)
        return NormDesign.of(full, self.norm(problem.X.shape[1]))

    def problem_of(self, problem: Problem) -> Problem:
        """A free hidden bias frees the constants of the output too: say so in the problem."""
        return free_constants(problem, self.hidden_bias)

    def hidden_norms(self, network: Network) -> np.ndarray:
        """Return the norms of the penalised weights of each neuron, shape (m,).

        Raises
        ------
        ValueError
            If it is not a two-layer network with this activation, or has biases that the family has not.
        """
        first, last = network.layers[0], network.layers[-1]
        two = isinstance(first, Affine) and isinstance(last, Affine) and len(network.layers) == 3
        if not (two and leak_of(network.layers[1]) == self.leak):
            name = type(self.activation).__name__
            slope = f" of slope {self.leak:g}" if isinstance(self.activation, LeakyReLU) else ""
            raise ValueError(
                f"{network!r} is not a two-layer {name} network{slope}: pass Affine, {name}, Affine"
            )
        assert isinstance(first, Affine)
        if self.hidden_bias is None and np.any(first.bias != 0):
            raise ValueError(
                "the network has hidden biases: pass hidden_bias='penalized' or 'free', not None"
            )
        return self.sizes_of(first.weight, first.bias)

    def hidden_units(self, network: Network) -> tuple[Layer, ...]:
        """Return the hidden layer with neurons of norm one, which the activation lets through."""
        first, size = network.layers[0], positive(self.hidden_norms(network))
        assert isinstance(first, Affine)
        return Affine(first.weight / size, first.bias / size), network.layers[1]

    def unit_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the hidden outputs (k, n) of unit neurons in the directions ``U`` (k, d + 1)."""
        full = design_matrix(problem, self.hidden_bias)
        U = U[:, : full.shape[1]]
        return rectify(full @ (U / self.sizes(U)[:, None]).T, self.leak).T


def positive(sizes: np.ndarray) -> np.ndarray:
    """Sizes to divide by, (m,): one in the place of zero, which free biases may leave."""
    return np.where(sizes > 0.0, sizes, 1.0)


def leak_of(layer: object) -> float | None:
    """The slope of an activation layer on its negative side; None for layers of another kind."""
    if isinstance(layer, LeakyReLU):
        return float(np.ravel(layer.slope)[0])
    return 0.0 if isinstance(layer, ReLU) else -1.0 if isinstance(layer, Absolute) else None


class GatedHidden(HiddenPenalty):
    """A hidden layer of linear neurons behind fixed gates, with a penalised bias or none."""

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return len(network.layers) == 2 and isinstance(network.layers[0], Gated)

    #: How many gates ``patterns="auto"`` draws.
    auto_gates: ClassVar[int]

    patterns: str | int | tuple | np.ndarray
    skip: bool = False

    def _design(self, problem: Problem) -> np.ndarray:
        check_hidden_bias(self.hidden_bias)
        if self.hidden_bias == "free":
            raise ValueError(
                "gated networks have no free hidden bias: a gate would leave it unpenalised on part "
                "of the data; pass hidden_bias='penalized' or None"
            )
        return design_matrix(problem, self.hidden_bias)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement:
        """Return the gates and their patterns; a skip connection is the zero gate, and comes first."""
        check_skip(self.skip)
        X, found = self._design(problem), self._chosen(problem, random_state)
        if not self.skip:
            return found
        return Arrangement.from_gates(X, np.vstack([np.zeros(X.shape[1]), found.gates]))

    def _chosen(self, problem: Problem, random_state: np.random.Generator) -> Arrangement:
        X = self._design(problem)
        check_patterns(self.patterns, arrays=True)
        if isinstance(self.patterns, np.ndarray):
            if self.patterns.ndim != 2 or self.patterns.shape[1] != X.shape[1]:
                raise ValueError(f"gates must have shape (gates, {X.shape[1]}), got {self.patterns.shape}")
            return Arrangement.from_gates(X, self.patterns)
        if isinstance(self.patterns, str) and self.patterns == "all":
            return Arrangement.enumerate(X, limit=ALL_GATES)
        return sampled(X, self.patterns, random_state, self.auto_gates)

    def plain(self, problem: Problem, gates: np.ndarray, U: np.ndarray, V: np.ndarray) -> Network:
        """Return the network of neurons ``U`` behind ``gates`` with outputs ``V``, with its best constant.

        Parameters
        ----------
        problem : Problem
        gates, U : ndarrays of shape (m, d), or (m, d + 1) with a bias
        V : ndarray of shape (m, outputs)
        """
        d = problem.X.shape[1]
        none, bias = np.zeros(len(U)), self.hidden_bias is not None
        layer = Gated(
            np.ascontiguousarray(gates.T[:d]),
            gates.T[d] if bias else none,
            np.ascontiguousarray(U.T[:d]),
            U.T[d] if bias else none,
        )
        return with_constants(problem, Network((layer, Affine(V, np.zeros(V.shape[1])))))

    def hidden_norms(self, network: Network) -> np.ndarray:
        """Return the norms of the weights of each neuron, shape (m,); gates are fixed and cost nothing.

        Raises
        ------
        ValueError
            If it is not a gated network.
        """
        first, last = network.layers[0], network.layers[-1]
        if not (isinstance(first, Gated) and isinstance(last, Affine)):
            raise ValueError(f"{network!r} is not a gated network: pass Gated, Affine")
        self._check_biases(first)
        return self.sizes_of(first.weight, first.bias)

    def _check_biases(self, first: Gated) -> None:
        """Refuse biases, of neurons or of gates, where the family has none: its gates are other ones."""
        if self.hidden_bias is None and (np.any(first.bias != 0) or np.any(first.gate_bias != 0)):
            raise ValueError(
                "the network has hidden biases, of neurons or gates: pass hidden_bias='penalized', not None"
            )

    def hidden_units(self, network: Network) -> tuple[Layer, ...]:
        """Return the gated layer with neurons of norm one."""
        first, size = network.layers[0], positive(self.hidden_norms(network))
        assert isinstance(first, Gated)
        return (Gated(first.gates, first.gate_bias, first.weight / size, first.bias / size),)

    def like(self, network: Network) -> Any:
        """Return the family with the gates of a network."""
        return replace(self, patterns=self.gates_of(network))  # type: ignore[type-var]

    def gates_of(self, network: Network) -> np.ndarray:
        """Return the gates of a network, shape (gates, d) or (gates, d + 1) with a bias."""
        first = network.layers[0]
        assert isinstance(first, Gated)
        self._check_biases(first)
        if self.hidden_bias is None:
            return first.gates.T
        return np.column_stack([first.gates.T, first.gate_bias])

    def unit_outputs(self, problem: Problem, arrangement: Arrangement, U: np.ndarray) -> np.ndarray:
        """Return the hidden outputs (k, n) of unit neurons, one gate after the other."""
        X = self._design(problem)
        U = U[:, : X.shape[1]]
        U = U / self.sizes(U)[:, None]
        masks = arrangement.masks()
        return masks[np.arange(len(U)) % len(masks)] * (U @ X.T)
