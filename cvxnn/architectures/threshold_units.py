"""A hidden layer of threshold units, of one output or several.

What units see of the data, how their patterns are sampled, the explicit network of chosen half-spaces and
what it costs do not depend on the number of outputs; programs, oracles and training do, and stand in
:mod:`cvxnn.architectures.threshold` and :mod:`cvxnn.architectures.vector_threshold`.

Linear neurons beside them pay for their weights with a norm, where units pay for amplitudes alone: with one
output one of them is enough (:mod:`cvxnn.architectures.threshold_skip`), with several outputs they make a
matrix, and are its singular vectors.

Reference: Ergen, Gulluk, Lacotte and Pilanci, ICLR 2023.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement, pack
from ..halfspaces import TIE, HalfSpaces
from ..layers import Layer, SkipThreshold
from ..network import Affine, Network
from ..network import Threshold as Step
from ..program import Problem
from .base import Architecture, Effort
from .hidden import positive
from .two_layer import (
    GATES,
    check_hidden_bias,
    check_patterns,
    check_skip,
    count_of,
    design_matrix,
    free_constants,
    is_sample,
    wedges_of,
    with_constants,
)

#: `patterns="auto"` lists up to this many patterns, and up to this many numbers in them.
AUTO_PATTERNS, AUTO_NUMBERS = 10_000, 10_000_000
#: `patterns="all"` refuses beyond this many.
ALL_PATTERNS = 50_000
#: Patterns to begin with where they grow, and patterns a round adds.
FIRST, ADDED = 64, 32
#: Singular values below this share of the largest are rounding.
RANK = 1e-12


class ThresholdUnits(Architecture):
    """Units ``1[x'w + b >= 0]`` with a bias or none, their patterns listed, grown or sampled."""

    continuous: ClassVar[bool] = False

    hidden_bias: str | None
    patterns: str | int | tuple
    skip: bool

    def __post_init__(self) -> None:
        check_skip(self.skip)

    @classmethod
    def reads(cls, network: Network) -> bool:
        return len(network.layers) == 3 and isinstance(network.layers[1], Step | SkipThreshold)

    def like(self, network: Network) -> Any:
        """Return the family with a skip connection if the network has one."""
        has = isinstance(network.layers[1], SkipThreshold)
        return replace(self, skip=True) if has else self  # type: ignore[type-var]

    def straight(self, problem: Problem) -> np.ndarray:
        """Return what a linear neuron sees and pays for: without its bias where that is free."""
        return problem.X if self.hidden_bias == "free" else self._design(problem)

    def straight_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the outputs (k, n) of linear neurons of cost one in the directions ``U`` (k, d + 1)."""
        lines = self.straight(problem)
        U = U[:, : lines.shape[1]]
        return (U / np.linalg.norm(U, axis=1, keepdims=True)) @ lines.T

    def _design(self, problem: Problem) -> np.ndarray:
        check_hidden_bias(self.hidden_bias)
        return design_matrix(problem, self.hidden_bias)

    def problem_of(self, problem: Problem) -> Problem:
        """A free hidden bias frees the constant of the output too, as in other families."""
        return free_constants(problem, self.hidden_bias)

    def _all(self) -> bool:
        """Whether networks of all patterns are meant, and not of sampled ones.

        Raises
        ------
        ValueError
            If `patterns` is neither.
        """
        check_patterns(self.patterns)
        return not is_sample(self.patterns)

    def _sampled(self, X: np.ndarray, random_state: np.random.Generator) -> Arrangement:
        drawn = wedges_of(X, self.patterns, count_of(self.patterns, GATES), random_state)
        found = HalfSpaces.of(drawn @ X.T >= 0, drawn)
        return Arrangement(pack(found.masks), len(X), found.gates)

    def _drawn(self, oracle: Any, effort: Effort) -> HalfSpaces:
        """Half-spaces to begin with: those of the network to start from, if any, and random ones."""
        X = oracle.X
        gates = effort.random_state.standard_normal((FIRST, X.shape[1]))
        if effort.start is not None:
            gates = np.concatenate([oracle.gates_of(effort.start), gates])
        return HalfSpaces.of(gates @ X.T >= 0, gates)

    def _network(
        self,
        problem: Problem,
        spaces: HalfSpaces,
        z: np.ndarray,
        line: np.ndarray | None = None,
        least: float = 0.0,
    ) -> Network:
        """Units with the patterns of half-spaces, their borders clear of rounding where they can be.

        Output weights ``z`` are of shape (m,) or (m, outputs); a `line` of shape (r, outputs) becomes a
        linear neuron for every singular value above `least`, and above rounding, after them.
        """
        problem, X = self.problem_of(problem), self._design(problem)
        size = np.linalg.norm(spaces.gates, axis=1, keepdims=True)
        gates = spaces.gates / np.where(size > 0, size, 1.0)
        T = gates @ X.T
        on = np.min(np.where(spaces.masks, T, np.inf), axis=1, initial=np.inf)
        off = np.max(np.where(spaces.masks, -np.inf, T), axis=1, initial=-np.inf)
        if self.hidden_bias is None:
            reach = float(np.max(np.linalg.norm(X, axis=1), initial=0.0))
            border = (on < 0.25 * TIE * reach) & (size[:, 0] > 0)
            W, bias = gates, np.where(border, 0.5 * TIE * reach, 0.0)
        else:
            middle = np.where(np.isfinite(on) & np.isfinite(off), 0.5 * (on + off), 0.0)
            W, bias = gates[:, :-1], gates[:, -1] - middle
        V, phi = np.array(z if z.ndim == 2 else z[:, None]), Step() if line is None else SkipThreshold(0)
        if line is not None:
            inner, outer = _neurons(line, least)
            d, phi = problem.X.shape[1], SkipThreshold(len(inner))
            W, bias = np.vstack([W, inner[:, :d]]), np.append(bias, np.sum(inner[:, d:], axis=1))
            V = np.vstack([V, outer])
        layers = (Affine(np.ascontiguousarray(W.T), np.ascontiguousarray(bias)), phi)
        return with_constants(problem, Network((*layers, Affine(V, np.zeros(V.shape[1])))))

    def cost(self, network: Network) -> float:
        """``sum_j |s_j a_j|``, weight decay on amplitudes and output weights after balancing them, with the
        Euclidean norm where there are several outputs; a linear neuron pays for its weights.

        Raises
        ------
        ValueError
            If it is not a two-layer network of threshold units, or has a linear neuron and the family none.
        """
        return float(self._sizes(network) @ np.linalg.norm(network.layers[-1].weight, axis=1))  # type: ignore[union-attr]

    def _sizes(self, network: Network) -> np.ndarray:
        """What the neurons pay beside their output weights, (m,): one for units of amplitude one."""
        first, last = network.layers[0], network.layers[-1]
        two = isinstance(first, Affine) and isinstance(last, Affine) and len(network.layers) == 3
        phi = network.layers[1]
        if not (two and isinstance(phi, Step | SkipThreshold)):
            raise ValueError(
                f"{network!r} is not a two-layer threshold network: pass Affine, Threshold, Affine"
            )
        assert isinstance(first, Affine)
        sizes = np.ones(first.weight.shape[1])
        if not isinstance(phi, SkipThreshold) or not phi.passed:
            return sizes
        if not self.skip:
            raise ValueError(f"{network!r} has a skip connection: pass {type(self).__name__}(skip=True)")
        lines = slice(len(sizes) - phi.passed, None)
        bias = first.bias[lines]
        if self.hidden_bias is None and np.any(bias != 0):
            raise ValueError("the network has hidden biases: pass hidden_bias='penalized', not None")
        square = np.sum(first.weight[:, lines] ** 2, axis=0)
        sizes[lines] = np.sqrt(square + (bias**2 if self.hidden_bias == "penalized" else 0.0))
        return sizes

    def hidden_units(self, network: Network) -> tuple[Layer, ...]:
        """Return the hidden layer, a linear neuron with weights of norm one; a unit of any size of weights
        costs its amplitude, here one."""
        first, size = network.layers[0], positive(self._sizes(network))
        assert isinstance(first, Affine)
        return Affine(first.weight / size, first.bias / size), network.layers[1]

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        return Network.two_layer(W1, b1, w2, c, Step())

    def unit_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the hidden outputs (k, n) of units with weights ``U`` (k, d + 1)."""
        X = self._design(problem)
        return (U[:, : X.shape[1]] @ X.T >= 0).astype(np.float64)


def _neurons(S: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Balanced linear neurons whose sum is ``x -> S'x``: weights (k, r), and outputs (k, outputs) of which
    the largest entries are positive; one for every singular value above `least`, and above rounding."""
    left, sizes, right = np.linalg.svd(S, full_matrices=False)
    kept = sizes > max(least, RANK * float(np.max(sizes, initial=0.0)))
    root, right = np.sqrt(sizes[kept])[:, None], right[kept]
    large = np.argmax(np.abs(right), axis=1)
    signs = np.sign(right[np.arange(len(right)), large])[:, None]
    return root * signs * left.T[kept], root * signs * right
