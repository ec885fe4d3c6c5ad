r"""Convolutions without a kink to grow around: linear ones and gated ones, with a weight for every window.

With the patches ``X_k`` at position k and D_gk the samples on which a fixed gate g is open there, filters
u_j behind gate g, windows p of a pooling that takes position k with weight ``P_pk``, and output weights
``w_jp`` (a vector, with several outputs), the network

    f = sum_j sum_p ( sum_k P_pk D_gk X_k u_j ) w_jp

is linear in ``Z_g = sum_j u_j w_j'`` of shape (patch, windows * outputs), and weight decay, minimised
over all ways to write Z_g, is its nuclear norm:

    minimise   L( sum_g sum_k D_gk X_k Z_g P_k + c ) + beta * sum_g ||Z_g||_*.

The program is convex and exact for its gates from ``min(patch, windows * outputs)`` filters for each gate
on. Its dual constraint is on spectral norms, so certificates are exact. The singular vectors are the
filters. The features ``sum_k P_pk D_gk x_ik`` are written out, (n, gates * patch * windows) numbers,
which limits the number of gates.

References: Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, "Scaling convex neural networks with
Burer-Monteiro factorization", equations 25 and 26; Ergen and Pilanci, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, Price, Scope
from ..network import Affine, Conv, GatedConv, Network
from ..operators import Dense, Operator
from ..penalties import NuclearNorm
from ..program import Problem, Program, Solution
from ..vector_operators import PerColumn
from .convolutional import WindowPooled

#: Numbers of the features that are written out at most.
LARGEST = 2e8


class SpectralOracle(Oracle):
    """Exact pricing by the largest spectral norm of ``A*(Z)`` over the groups."""

    def __init__(self, problem: Problem, operator: Operator, penalty: NuclearNorm, scope: Scope) -> None:
        super().__init__(problem)
        self.operator, self.penalty, self.scope = operator, penalty, scope
        # the size of sums whose terms may cancel: rounding is relative to it
        self.sizes = np.linalg.norm(np.abs(operator.dense()), axis=1)

    def price(self, Z: np.ndarray) -> Price:
        G = self.operator.adjoint(Z)
        value = float(np.max(self.penalty.polar(G), initial=0.0))
        rounding = 1e-15 * float(np.sum(self.sizes @ np.abs(Z)))
        return Price(value * (1.0 + 1e-12) + rounding, self.scope, value)


class Headed(WindowPooled):
    """A linear or gated convolution, a pooling of windows, and an output layer that sees all of them."""

    name: ClassVar[str]
    scope: ClassVar[Scope]
    #: The hidden layer of the family.
    layer: ClassVar[type[Conv] | type[GatedConv]] = Conv

    def _checked(self, problem: Problem) -> None:
        if self.hidden_bias == "free":
            raise ValueError(
                f"{self.name!r} networks have no free hidden bias: pass hidden_bias='penalized' or None"
            )
        self.pools_of(problem.X.shape[1], 1)

    def shares(self, features: int) -> np.ndarray:
        """Return with which weight every window takes every position, (windows, K)."""
        pool = self.pools_of(features, 1)
        positions = self.windows_of(features).positions
        return np.eye(positions) if pool is None else pool(np.eye(positions)).T

    def features_of(self, problem: Problem, masks: np.ndarray) -> np.ndarray:
        """Return ``sum_k P_pk d_gik x_ik`` for all gates, (n, gates * patch * windows)."""
        self._checked(problem)
        rows, n, P = self.stacked(problem), len(problem.X), self.shares(problem.X.shape[1])
        if n * len(masks) * rows.shape[1] * len(P) > LARGEST:
            raise ValueError(
                f"{len(masks)} gates, patches of {rows.shape[1]} numbers and {len(P)} windows are too many "
                "features: pass fewer patterns, or a larger pool"
            )
        X = rows.reshape(n, -1, rows.shape[1])
        parts = [np.einsum("pk,ik,ikh->ihp", P, m.reshape(n, -1), X, optimize=True) for m in 1.0 * masks]
        return np.stack(parts, axis=1).reshape(n, -1)

    def penalty_of(self, problem: Problem) -> NuclearNorm:
        """The nuclear norm of (patch, windows * outputs)."""
        width = self.windows_of(problem.X.shape[1]).patch + (self.hidden_bias is not None)
        return NuclearNorm(width)

    def operator_of(self, problem: Problem, arrangement: Arrangement) -> Operator:
        """The features of all gates, for one output or for each of several."""
        single = Dense(self.features_of(problem, arrangement.masks()), len(arrangement))
        return single if problem.y.ndim == 1 else PerColumn(single)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        return Program(
            self.operator_of(problem, arrangement),
            problem.loss,
            problem.y,
            problem.weights,
            problem.beta,
            self.penalty_of(problem),
            intercept=problem.intercept,
        )

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """A filter for every singular vector that is not zero, its layers balanced."""
        W = np.asarray(solution.W, dtype=np.float64)
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        width = self.penalty_of(problem).rows
        left, sizes, right = np.linalg.svd(W.reshape(len(W), width, -1), full_matrices=False)
        gate, k = np.nonzero(sizes > 1e-10 * np.sum(sizes))
        root = np.sqrt(sizes[gate, k])[:, None]
        U, V = left.transpose(0, 2, 1)[gate, k] * root, right[gate, k] * root
        windows = len(self.shares(problem.X.shape[1]))
        weight = V.reshape(len(V), windows, outputs).transpose(1, 0, 2).reshape(windows * len(V), outputs)
        return self._network(problem, arrangement.gates[gate], U, weight)

    def _network(self, problem: Problem, gates: np.ndarray, U: np.ndarray, weight: np.ndarray) -> Network:
        """The network of filters ``U`` (m, patch [+ 1]) and weights (windows * m, outputs)."""
        pool = self.pools_of(problem.X.shape[1], len(U))
        layers = (self.first_layer(problem, gates, U), *([] if pool is None else [pool]))
        return self.of_layers(problem, layers, weight)

    def first_layer(self, problem: Problem, gates: np.ndarray, U: np.ndarray) -> Conv | GatedConv:
        """Return the hidden layer of filters ``U`` behind ``gates``, both (m, patch [+ 1])."""
        return self.conv_layer(problem, U)

    def cost(self, network: Network) -> float:
        """``sum_j |u_j| |w_j|`` with all output weights w_j of a filter, of every window and output."""
        first, last = self.check_hidden(network), network.layers[-1]
        assert isinstance(last, Affine)
        square = np.sum(first.weight**2, axis=0) + first.bias**2
        units, outputs = last.weight.shape
        each = last.weight.reshape(units // max(1, len(square)), len(square), outputs)
        outer = np.sum(each**2, axis=(0, 2))
        return float(np.sqrt(square) @ np.sqrt(outer))

    def check_hidden(self, network: Network) -> Conv | GatedConv:
        """Return the first layer of a network of this family.

        Raises
        ------
        ValueError
            If it is of another one, or of another geometry.
        """
        first = self.check_conv(network)
        same = type(first) is self.layer and self.has_layers(network, ())
        if not same:
            raise ValueError(
                f"{network!r} has other layers or another pooling than pool={self.pool!r}, "
                f"pooling={self.pooling!r}: pass a network of this family"
            )
        return first

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> SpectralOracle:
        if arrangement is None:
            raise ValueError(f"a {self.name} network is judged against its gates: pass an arrangement")
        operator = self.operator_of(problem, arrangement)
        return SpectralOracle(problem, operator, self.penalty_of(problem), self.scope)

    def nothing(self, problem: Problem) -> Network:
        """Return the network without filters and its best constants."""
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        none = np.zeros((0, self.penalty_of(problem).rows))
        return self._network(problem, none, none, np.zeros((0, outputs)))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        assert arrangement is not None
        return np.array(list(self._units(problem, arrangement, self.directions(problem, U))))

    def _units(self, problem: Problem, arrangement: Arrangement, U: np.ndarray) -> Iterator[np.ndarray]:
        """What unit filters with unit output weights compute, one gate after the other."""
        features = self.features_of(problem, arrangement.masks())
        features = features.reshape(len(problem.X), len(arrangement), U.shape[1], -1)
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        for j, u in enumerate(U / np.linalg.norm(U, axis=1)[:, None]):
            V = np.cos((j + 1.0) * (1.0 + np.arange(features.shape[3] * outputs))).reshape(-1, outputs)
            out = np.einsum("ihp,h,po->io", features[:, j % len(arrangement)], u, V / np.linalg.norm(V))
            yield out[:, 0] if problem.y.ndim == 1 else out
