"""A plain family on whitened data: what batch-normalised networks of one and of several outputs share.

Every question that training and judging ask is passed on to the plain family with the data whitened, and
every network that comes back has the statistics folded into its first layer. Networks on the data
themselves cost what their pre-activations' means and deviations over the training data say.

Reference: Ergen, Sahiner, Ozturkler, Pauly, Mardani and Pilanci, ICLR 2022; :mod:`cvxnn.whitening`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle
from ..network import Affine, Network, ReLU
from ..program import Problem, Program, Solution
from ..whitening import WhitenedOracle, Whitening
from .base import Effort, Training

#: A mean below this share of the root mean square is none.
CENTRED = 1e-7


class Whitened:
    """What networks of one and of several outputs share: a plain family on whitened data."""

    #: What :meth:`on` has been told of the training data.
    known: ClassVar[Problem | None] = None
    continuous: ClassVar[bool] = False
    folded: ClassVar[bool] = True

    hidden_bias: str | None
    patterns: str | int | tuple

    def plain(self) -> Any:
        """The family of plain networks that this is on whitened data."""
        raise NotImplementedError

    def on(self, problem: Problem) -> Self:
        """Return this family with the training data whose statistics its networks' costs need."""
        other = copy.copy(self)
        object.__setattr__(other, "known", problem)
        return other

    def _data(self) -> Problem:
        if self.known is None:
            raise ValueError(
                "what a batch-normalised network costs depends on its training data: "
                "ask .on(problem).cost(network)"
            )
        return self.known

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        """Return the patterns to train with on whitened data, None where they grow."""
        whitening = Whitening.of(problem)
        found: Arrangement | None = self.plain().arrange(whitening.problem(problem), random_state)
        return found

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> Oracle:
        """Return the oracle of the plain family on whitened data."""
        return self.oracle_within(problem, arrangement, None)

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> Oracle:
        """Likewise, within a time."""
        whitening = Whitening.of(problem)
        inner = self.plain().oracle_within(whitening.problem(problem), arrangement, max_time)
        return WhitenedOracle(problem, whitening, inner)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """Return the convex program of the plain family on whitened data."""
        program: Program = self.plain().lift(Whitening.of(problem).problem(problem), arrangement)
        return program

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """Return the plain family's network, with the statistics folded into its weights."""
        whitening = Whitening.of(problem)
        return whitening.fold(self.plain().decode(whitening.problem(problem), arrangement, solution))

    def sizes_on_data(self, network: Network) -> np.ndarray:
        """Return ``sqrt(gamma_j^2 + delta_j^2)`` of each neuron, shape (m,).

        Raises
        ------
        ValueError
            If it is not a two-layer ReLU network, or shifts where the family does not.
        """
        problem, first = self._data(), rectified(network)
        T = problem.X @ first.weight + first.bias
        share = problem.weights / problem.total_weight
        square, mean = share @ T**2, share @ T
        if self.hidden_bias == "penalized":
            return np.sqrt(square)
        if self.hidden_bias is None and np.any(np.abs(mean) > CENTRED * np.sqrt(square)):
            raise ValueError(
                "the network shifts its normalised neurons: pass hidden_bias='penalized' or 'free'"
            )
        return np.sqrt(share @ (T - mean) ** 2)

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Return the two-layer ReLU network of plain weights."""
        return Network.two_layer(W1, b1, w2, c)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Return the outputs of unit neurons, whose weights are on whitened data."""
        whitening = Whitening.of(problem)
        outputs: np.ndarray = self.plain().unit_neurons(
            whitening.problem(problem), arrangement, U[:, : whitening.Q.shape[1] + 1]
        )
        return outputs

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        """Train the plain family on whitened data, and fold every network on the way."""
        assert isinstance(oracle, WhitenedOracle)
        whitening = oracle.whitening
        start = None if effort.start is None else whitening.unfold(effort.start, problem.X)
        there = replace(effort, history=[], start=start)
        training = self.plain().train(whitening.problem(problem), arrangement, oracle.inner, there)
        answer = None
        while True:
            try:
                request = training.send(answer)
            except StopIteration as stop:
                return whitening.fold(stop.value)
            if request.network is not None:
                request = replace(request, network=whitening.fold(request.network))
            for line in there.history[len(effort.history) :]:
                network = None if line.network is None else whitening.fold(line.network)
                effort.history.append(replace(line, network=network))
            answer = yield request


def rectified(network: Network) -> Affine:
    """Return the first layer of a two-layer ReLU network.

    Raises
    ------
    ValueError
        If it is none.
    """
    first = network.layers[0]
    two = isinstance(first, Affine) and len(network.layers) == 3
    if not (two and isinstance(network.layers[1], ReLU)):
        raise ValueError(f"{network!r} is not a two-layer ReLU network: pass Affine, ReLU, Affine")
    assert isinstance(first, Affine)
    return first
