r"""What circular convolutions share: Fourier coordinates, their layers, and what they cost.

A neuron ``(X U w)_+`` with the circulant matrix of a filter u has the weights ``z = U w``, and the cheapest
way to write them costs ``||z^||_1 / sqrt(d)`` with the unitary discrete Fourier transform; see
:mod:`cvxnn.architectures.cnn_circular`. In real coordinates that is a sum of norms of groups.

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021, section 4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..feature_penalties import FeatureNorm
from ..network import Affine, Conv, Network, ReLU
from ..norm_pricing import NormDesign
from ..patches import Windows, image_shape
from ..program import Problem
from ..walks import rectify
from .base import Architecture
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


class Circular:
    """A circular convolution, a dense layer and a ReLU: what both numbers of outputs share."""

    input_shape: tuple[int, ...] | None
    #: Features have places.
    rotates: ClassVar[bool] = False
    hidden_units = Architecture.hidden_units

    @property
    def leak(self) -> float:
        """The slope of the activation on the negative side: 0, a ReLU."""
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

    def like(self, network: Network) -> Any:
        """Return the family with the input shape of a network."""
        first = network.layers[0]
        assert isinstance(first, Conv)
        return replace(self, input_shape=first.windows.shape)  # type: ignore[type-var]

    def for_shape(self, shape: tuple[int, ...]) -> Any:
        """Return the family for samples of a shape."""
        if self.input_shape is not None:
            return self
        return replace(self, input_shape=tuple(shape))  # type: ignore[type-var]

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

    def design(self, problem: Problem) -> NormDesign:
        """Return the data in Fourier coordinates, with the norm of the weights."""
        B, groups = real_fourier(self.windows_of(problem.X.shape[1]).shape[:2])
        return NormDesign.of(problem.X @ B, FeatureNorm(groups, 0.0))

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

    def of_rows(self, problem: Problem, U: np.ndarray, V: np.ndarray) -> Network:
        """Return the network of hidden weights ``U`` (m, d) in Fourier coordinates and output weights ``V``
        (m, outputs): filters of norm one, balanced dense weights, and the best constants."""
        windows = self.windows_of(problem.X.shape[1])
        B, groups = real_fourier(windows.shape[:2])
        z, root = U @ B.T, FeatureNorm(groups, 0.0).norms(U)
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
            Affine(V, np.zeros(V.shape[1])),
        )
        return with_constants(problem, Network(layers))

    def nothing(self, problem: Problem) -> Network:
        """Return the network without neurons and its best constants."""
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        return self.of_rows(problem, np.zeros((0, problem.X.shape[1])), np.zeros((0, outputs)))

    def unit_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the hidden outputs (k, n) of unit neurons in the directions ``U``."""
        z = U[:, : problem.X.shape[1]]
        shape = self.windows_of(problem.X.shape[1]).shape[:2]
        spectrum = np.abs(np.fft.fft2(z.reshape(len(z), *shape), norm="ortho"))
        size = np.sum(spectrum, axis=(1, 2)) / np.sqrt(z.shape[1])
        return rectify(problem.X @ (z / size[:, None]).T).T

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Plain weights do not say how a filter goes round.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("plain weights are no circular network: pass a cvxnn Network")
