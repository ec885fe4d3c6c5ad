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
Without the ReLU the same networks are ``cnn_linear`` with circular padding and filters of the size of the
input.

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Price, Proof
from ..feature_penalties import FeatureNorm
from ..growth import Rows
from ..network import Affine, Conv, Network, ReLU
from ..norm_pricing import NormDesign
from ..oracles import Design, NeuronOracle
from ..patches import Windows, image_shape
from ..pooled_oracles import PooledOracle
from ..program import Problem
from ..walks import rectify
from .base import Architecture
from .programs import AUTO_CELLS, GrownByPrograms
from .two_layer import with_constants


def real_fourier(shape: tuple[int, int]) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
    """Return coordinates in which ``||z^||_1 / sqrt(d)`` is a sum of norms of groups.

    Parameters
    ----------
    shape : (int, int)
        Height and width; d is their product.

    Returns
    -------
    B : ndarray of shape (d, d)
        ``z = B v`` has the norm ``sum_G ||v_G||_2``.
    groups : tuple of tuples of int
        Single coordinates of real frequencies, and pairs of the others.
    """
    height, width = shape
    d = height * width
    y, x = np.divmod(np.arange(d), width)
    columns: list[np.ndarray] = []
    groups: list[tuple[int, ...]] = []
    for p, q in np.ndindex(height, width):
        other = (-p % height) * width + (-q % width)
        if other < p * width + q:
            continue
        # in whole turns, so that angles of real frequencies are exact
        turns = 2.0 * np.pi * ((p * y % height) / height + (q * x % width) / width)
        at = len(columns)
        if other == p * width + q:
            columns.append(np.cos(turns))
            groups.append((at,))
        else:
            columns += [np.cos(turns), np.sin(turns)]
            groups.append((at, at + 1))
    # a column of cos or sin is z^ = sqrt(d), or sqrt(d) / 2 at both frequencies of a pair
    return np.column_stack(columns), tuple(groups)


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


def combined(network: Network) -> np.ndarray:
    """Return the weights ``U_j w_j`` of all neurons of a circular network, (m, d)."""
    conv, dense = network.layers[0], network.layers[1]
    assert isinstance(conv, Conv) and isinstance(dense, Affine)
    m, windows = conv.weight.shape[1], conv.windows
    if m == 0:
        return np.zeros((0, windows.inputs))
    weights = dense.weight.reshape(windows.positions, m, m)[:, np.arange(m), np.arange(m)]
    # position k adds w_jk u_j to the inputs it sees
    parts = weights.T[:, :, None] * conv.weight.T[:, None, :]
    return windows.adjoint(parts)


@dataclass(frozen=True)
class CNNCircular(GrownByPrograms):
    """Circular convolution with filters of the size of the input, a dense layer and a ReLU; one output.

    Parameters
    ----------
    input_shape : (length,), (h, w) or None, default=None
        What a flat row is, of one channel; None is a signal.
    patterns : {"auto", "all"} or int, default="auto"
        As of ReLU networks.
    """

    name: ClassVar[str] = "cnn_circular"
    rotates: ClassVar[bool] = False
    #: The family has no biases.
    hidden_bias: ClassVar[str | None] = None  # type: ignore[misc]

    input_shape: tuple[int, ...] | None = None
    patterns: str | int = "auto"

    hidden_units = Architecture.hidden_units

    @property
    def leak(self) -> float:
        return 0.0

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        kinds = (Conv, Affine, ReLU, Affine)
        if len(network.layers) != 4 or not all(map(isinstance, network.layers, kinds)):
            return False
        first = network.layers[0]
        assert isinstance(first, Conv)
        return first.windows.circular and first.windows.kernel == first.windows.shape[:2]

    def like(self, network: Network) -> CNNCircular:
        """Return the family with the input shape of a network."""
        first = network.layers[0]
        assert isinstance(first, Conv)
        return replace(self, input_shape=first.windows.shape)

    def for_shape(self, shape: tuple[int, ...]) -> CNNCircular:
        """Return the family for samples of a shape."""
        return replace(self, input_shape=tuple(shape)) if self.input_shape is None else self

    def windows_of(self, features: int) -> Windows:
        """Return the windows for inputs of some length.

        Raises
        ------
        ValueError
            If the shape does not fit, or has several channels.
        """
        shape = (features, 1, 1) if self.input_shape is None else image_shape(self.input_shape)
        if int(np.prod(shape)) != features or shape[2] != 1:
            raise ValueError(
                f"input_shape={self.input_shape!r} with inputs of {features} entries: pass the shape of a "
                "signal or image of one channel"
            )
        return Windows(shape, shape[:2], circular=True)

    def design(self, problem: Problem) -> Design:
        """Return the data in Fourier coordinates, with the norm of the weights."""
        B, groups = real_fourier(self.windows_of(problem.X.shape[1]).shape[:2])
        return NormDesign.of(problem.X @ B, FeatureNorm(groups, 0.0))

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
        """Filters of norm one, balanced dense and output weights, and the best constant."""
        windows = self.windows_of(problem.X.shape[1])
        B, _ = real_fourier(windows.shape[:2])
        root = np.sqrt(design.norms(rows.U))
        z = (rows.U / root[:, None]) @ B.T
        m, shape = len(z), windows.shape[:2]
        spectrum = np.fft.fft2(z.reshape(m, *shape), norm="ortho")
        size = np.sqrt(np.abs(spectrum))
        phase = spectrum / np.maximum(np.abs(spectrum), 1e-300)
        # z^ = sqrt(d) u^ o w^ with ||u|| = 1 and ||w|| = root
        share = (windows.inputs**0.25 * np.sqrt(root))[:, None, None]
        u = np.fft.ifft2(size * phase / share, norm="ortho").real.reshape(m, windows.inputs)
        scale = (np.sqrt(root) / windows.inputs**0.25)[:, None, None]
        w = np.fft.ifft2(size * scale, norm="ortho").real.reshape(m, windows.inputs)
        dense = np.zeros((windows.positions, m, m))
        dense[:, np.arange(m), np.arange(m)] = w.T
        layers = (
            Conv(np.ascontiguousarray(u.T), np.zeros(m), windows.to_array()),
            Affine(dense.reshape(windows.positions * m, m), np.zeros(m)),
            ReLU(),
            Affine((rows.signs * root)[:, None], np.zeros(1)),
        )
        return with_constants(problem, Network(layers))

    def nothing(self, problem: Problem) -> Network:
        design = self.design(problem)
        return self._plain(problem, design, Rows.empty(design.X.shape[1]))

    def hidden_norms(self, network: Network) -> np.ndarray:
        """Return ``||u_j|| ||w_j||``, shape (m,).

        Raises
        ------
        ValueError
            If it is not a network of this family and geometry.
        """
        if not self.reads(network):
            raise ValueError(f"{network!r} is not a circular network: pass Conv, Affine, ReLU, Affine")
        conv, dense = network.layers[0], network.layers[1]
        assert isinstance(conv, Conv) and isinstance(dense, Affine)
        m = conv.weight.shape[1]
        if conv.windows != self.windows_of(network.n_features):
            raise ValueError(f"the network's geometry is {conv.windows}: pass its input_shape")
        blocks = dense.weight.reshape(conv.windows.positions, m, dense.weight.shape[1])
        alone = dense.weight.shape[1] == m and not np.any(blocks[:, ~np.eye(m, dtype=bool)])
        if not alone or np.any(conv.bias) or np.any(dense.bias):
            raise ValueError("a circular network has one filter for each neuron and no hidden biases")
        w = blocks[:, np.arange(m), np.arange(m)]
        return np.asarray(np.linalg.norm(conv.weight, axis=0) * np.linalg.norm(w, axis=0))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        z = U[:, : problem.X.shape[1]]
        shape = self.windows_of(problem.X.shape[1]).shape[:2]
        spectrum = np.abs(np.fft.fft2(z.reshape(len(z), *shape), norm="ortho"))
        size = np.sum(spectrum, axis=(1, 2)) / np.sqrt(z.shape[1])
        return rectify(problem.X @ (z / size[:, None]).T).T

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: float) -> Network:
        """Plain weights do not say how a filter goes round.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("plain weights are no circular network: pass a cvxnn Network")
