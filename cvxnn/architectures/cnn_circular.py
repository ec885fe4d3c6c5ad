r"""Circular convolution, a dense layer, a ReLU: an l1 norm in the Fourier domain.

A filter u of the size of the input goes round it: its outputs are ``x'U w`` with the circulant matrix of
u once a vector w has weighted all positions. A neuron is

    f = sum_j a_j ( X U_j w_j )_+ + c,      ||u_j|| <= 1,      R = 1/2 sum_j (||w_j||^2 + a_j^2),

a ReLU neuron with weights ``z = U w``, the circular convolution of both vectors. With the unitary
discrete Fourier transform, ``z^ = sqrt(d) u^ o w^`` entry by entry, and the cheapest way to write z is,
by Cauchy and Schwarz,

    min { ||u|| ||w|| : U w = z } = ||z^||_1 / sqrt(d),      |u^_k|^2 and |w^_k|^2 proportional to |z^_k|

(``sum_k |z^_k| = sqrt(d) sum_k |u^_k| |w^_k| <= sqrt(d) ||u|| ||w||``; u and w are real, since the phases
of z^ are those of a real vector). This is a norm of z, so the convex form is that of ReLU networks with
another norm of hidden weights, exactly, and with no claim about more convolutions in a row, whose cost is
no norm:

    minimise   L( sum_i D_i X (z_i - z'_i) + c ) + beta / sqrt(d) sum_i (||z^_i||_1 + ||z'^_i||_1),

with z_i and z'_i in the cone of pattern i of X. In real Fourier coordinates, scaled, the norm is a sum of
absolute values and of norms of pairs (cosine and sine), which is what :mod:`cvxnn.feature_penalties`
calls groups; the rest is :mod:`cvxnn.architectures.programs`. Images of one channel go round both axes.
With several outputs neurons have output vectors v_j, ``R = 1/2 sum_j (||w_j||^2 + |v_j|^2)``, and a network
is optimal exactly if it is stationary and ``|sum_i Z_i (x_i'z)_+| <= beta`` for every z of norm one and
its dual variable with rows Z_i. Networks grow; all patterns are bounded, never listed
(:mod:`cvxnn.vector_norms`): scope ``bounded``.

Without the ReLU the same networks are ``cnn_linear`` with circular padding and filters of the size of the
input.

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Price, Proof
from ..design import Design
from ..growth import Rows
from ..losses.squared_error import SquaredError
from ..network import Affine, Network
from ..norm_oracles import NormCellOracle, NormSearchOracle
from ..norm_pricing import NormDesign
from ..oracles import NeuronOracle
from ..pooled_oracles import PooledOracle
from ..program import Problem
from ..vector_growth import Coupling
from ..vector_growth import Rows as VectorRows
from ..vector_growth import merge as merge_vectors
from ..vector_norms import NEAR, VectorNormOracle, descend_norm, hold_norm
from ..vector_oracles import VectorOracle
from .base import Architecture
from .circular import Circular, combined, real_fourier
from .programs import AUTO_CELLS, GrownByPrograms
from .vector_rectified import Plan, VectorRectified


class CircularOracle(PooledOracle):
    """An oracle for ReLU neurons in Fourier coordinates that reads circular networks."""

    def __init__(self, problem: Problem, rows: NeuronOracle, inverse: np.ndarray) -> None:
        super().__init__(problem, rows)
        self.inverse = inverse

    def plain(self, network: Network) -> Network:
        """The ReLU network in Fourier coordinates of a circular one."""
        last = network.layers[-1]
        assert isinstance(last, Affine)
        V = combined(network) @ self.inverse.T
        return Network.two_layer(np.ascontiguousarray(V.T), np.zeros(len(V)), last.weight[:, 0])

    def neurons_of(self, network: Network) -> np.ndarray:
        return self.rows.neurons_of(self.plain(network))

    def thorough(self, Z: np.ndarray, network: Network) -> Any:
        return self.rows.thorough(Z, self.plain(network))

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.rows.found(Z, self.plain(network))

    def active(self, Z: np.ndarray, floor: float, network: Network) -> Any:
        return self.rows.active(Z, floor, self.plain(network))

    def price(self, Z: np.ndarray) -> Price:
        return self.rows.price(Z)

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        return self.rows.prove(Z, max_iter=max_iter, max_time=max_time)


class VectorCircularOracle(VectorNormOracle):
    """As :class:`CircularOracle`, with several outputs."""

    def __init__(
        self, problem: Problem, design: NormDesign, single: NeuronOracle, inverse: np.ndarray
    ) -> None:
        super().__init__(problem, design, single)
        self.inverse = inverse

    def neurons_of(self, network: Network) -> np.ndarray:
        return combined(network) @ self.inverse.T


@dataclass(frozen=True)
class CNNCircular(Circular, GrownByPrograms):
    """Circular convolution with filters of the size of the input, a dense layer and a ReLU; one output.

    Parameters
    ----------
    input_shape : (length,), (h, w) or None, default=None
        What a flat row is, of one channel; None is a signal.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        As of ReLU networks.
    """

    name: ClassVar[str] = "cnn_circular"
    #: The family has no biases.
    hidden_bias: ClassVar[str | None] = None  # type: ignore[misc]

    input_shape: tuple[int, ...] | None = None
    patterns: str | int | tuple = "auto"

    def _most_listed(self, problem: Problem, X: np.ndarray) -> int:
        return AUTO_CELLS

    def _wrapped(self, problem: Problem, oracle: NeuronOracle) -> NeuronOracle:
        B, _ = real_fourier(self.windows_of(problem.X.shape[1]).shape[:2])
        return CircularOracle(problem, oracle, np.linalg.inv(B))

    def _search_oracle(self, problem: Problem, design: Design) -> NeuronOracle:
        return self._wrapped(problem, super()._search_oracle(problem, design))

    def _cell_oracle(self, problem: Problem, design: Design, arrangement: Arrangement) -> NeuronOracle:
        return self._wrapped(problem, super()._cell_oracle(problem, design, arrangement))

    def _plain(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """Balance the layers, and give the output its best constant."""
        root = np.sqrt(design.norms(rows.U))[:, None]
        return self.of_rows(problem, rows.U / root, rows.signs[:, None] * root)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.unit_outputs(problem, U)

    def for_outputs(self, outputs: int) -> Architecture:
        # patterns of several outputs grow; others are refused there
        return self if outputs == 1 else VectorCNNCircular(self.input_shape, self.patterns)


#: Bands and steps of the descents to begin with, and after an insertion; products where kinks are held.
BEGIN, AFTER, PRODUCTS = ((0.1, 100), (0.01, 100), (1e-3, 200)), ((1e-3, 200),), 200


@dataclass(frozen=True)
class VectorCNNCircular(Circular, VectorRectified):
    """Circular convolution with filters of the size of the input, a dense layer, a ReLU, several outputs.

    Parameters
    ----------
    input_shape : (length,), (h, w) or None, default=None
        What a flat row is, of one channel; None is a signal.
    patterns : {"auto"}, default="auto"
        Patterns always grow; a network is compared with those of all patterns.
    """

    name: ClassVar[str] = "cnn_circular"
    #: The family has no biases.
    hidden_bias: ClassVar[str | None] = None  # type: ignore[misc]
    #: Weight decay on the output layer.
    coupling: ClassVar[str] = "joint"  # type: ignore[misc]

    input_shape: tuple[int, ...] | None = None
    patterns: str | int | tuple = "auto"

    def _network(self, problem: Problem, design: Design, rows: VectorRows) -> Network:
        """Balance the layers, and give the outputs their best constants."""
        root = np.sqrt(design.norms(rows.U))[:, None]
        return self.of_rows(problem, rows.U / root, rows.G * root)

    def _oracle_of(self, problem: Problem, design: Design, limit: float) -> VectorOracle:
        """Prices of one output are exact where their patterns can be listed."""
        assert isinstance(design, NormDesign)
        one = replace(problem, y=problem.y[:, 0], loss=SquaredError())
        family = CNNCircular(self.input_shape)
        drawn = family.arrange(one, np.random.default_rng(0))
        single: NeuronOracle = NormSearchOracle(one, design)
        if drawn is not None and drawn.complete:
            single = NormCellOracle(one, design, drawn)
        B, _ = real_fourier(self.windows_of(problem.X.shape[1]).shape[:2])
        return VectorCircularOracle(problem, design, single, np.linalg.inv(B))

    def _moves(
        self,
        problem: Problem,
        design: Design,
        coupling: Coupling,
        rows: VectorRows,
        plan: Plan,
        gap: float,
        longer: int,
        level: int,
        deadline: float,
        dear: bool,
    ) -> Iterator[VectorRows]:
        """The rows after each descent, and after holding kinks and zeros that are near."""
        assert isinstance(design, NormDesign)
        for mu, steps in BEGIN if gap >= 1.0 else AFTER:
            rows = descend_norm(problem, design, rows, mu, steps * longer)
            yield rows
        for tol in (0.0, 0.02, 0.1):
            fewer = merge_vectors(rows, design, coupling, tol)
            if tol == 0.0 or len(fewer) < len(rows):
                for near in NEAR:
                    yield hold_norm(problem, design, fewer, near, PRODUCTS * longer)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
        V = V / np.linalg.norm(V, axis=1)[:, None]
        return self.unit_outputs(problem, U)[:, :, None] * V[:, None, :]
