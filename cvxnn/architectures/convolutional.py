"""What convolutional networks share: the geometry of their input, and their layers.

The families see flat rows, as every family does; `input_shape` says which signals or images these are.

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..design import Design
from ..network import Affine, Conv, GatedConv, Layer, Network, Pool, ReLU
from ..patches import Windows, image_shape, pair, pooled
from ..program import Problem
from ..walks import rectify
from .base import Architecture
from .two_layer import check_hidden_bias, with_constants

#: Size of a kernel along an axis where none is given, if the input has so many.
KERNEL = 3
#: What the windows of a pooling may be called: one of all positions, or every position its own.
WHOLE, FLAT = "all", "flatten"

Size = int | tuple[int, int] | None
PoolSize = int | tuple[int, int] | str


class Convolutional:
    """A hidden layer that sees the patches of its input: the parameters of its geometry."""

    kernel: Size
    input_shape: tuple[int, ...] | None
    stride: int | tuple[int, int]
    padding: int | tuple[int, int] | str
    hidden_bias: str | None
    #: Features have places.
    rotates: ClassVar[bool] = False

    def windows_of(self, features: int) -> Windows:
        """Return the windows of the convolution on inputs of some length.

        Raises
        ------
        ValueError
            If the parameters do not fit each other, or the length.
        """
        given = self.input_shape
        shape = (features, 1, 1) if given is None else image_shape(given)
        if int(np.prod(shape)) != features:
            raise ValueError(
                f"input_shape={given!r} has {int(np.prod(shape))} entries and inputs have {features}: pass "
                "the shape of one sample, such as (height, width) or (height, width, channels)"
            )
        signal = shape[1] == 1
        circular = isinstance(self.padding, str)
        if circular and self.padding != "circular":
            raise ValueError(f"padding={self.padding!r} is unknown: pass a number of zeros, or 'circular'")
        border = (0, 0) if circular else pair("padding", self.padding)
        if self.kernel is None:
            kernel = (min(KERNEL, shape[0]), min(KERNEL, shape[1]))
        else:
            kernel = pair("kernel", self.kernel)
        stride = pair("stride", self.stride)
        if signal:  # along the only axis
            kernel, stride, border = (kernel[0], 1), (stride[0], 1), (border[0], 0)
        return Windows(shape, kernel, stride, border, circular)

    def for_shape(self, shape: tuple[int, ...]) -> Any:
        """Return the family for samples of a shape, (h, w), (h, w, c) or (length, c).

        Two sizes are an image of one channel, unless the parameters say what they are.
        """
        if self.input_shape is None:
            return replace(self, input_shape=tuple(shape))  # type: ignore[type-var]
        if int(np.prod(image_shape(self.input_shape))) != int(np.prod(shape)):
            raise ValueError(f"samples have shape {shape}, input_shape is {self.input_shape}: leave it out")
        return self

    def stacked(self, problem: Problem) -> np.ndarray:
        """Return the patches of all samples, one sample after the other, (n * K, patch [+ 1])."""
        check_hidden_bias(self.hidden_bias)
        windows = self.windows_of(problem.X.shape[1])
        rows = windows.patches(problem.X).reshape(-1, windows.patch)
        return rows if self.hidden_bias is None else np.column_stack([rows, np.ones(len(rows))])

    def directions(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Take directions of neurons, as long as their weights, from rows of any length."""
        windows = self.windows_of(problem.X.shape[1])
        return U[:, np.arange(windows.patch + (self.hidden_bias is not None)) % U.shape[1]]

    def conv_layer(self, problem: Problem, U: np.ndarray) -> Conv:
        """Return the convolution with filters ``U`` (m, patch), or (m, patch + 1) with biases."""
        windows = self.windows_of(problem.X.shape[1])
        bias = np.zeros(len(U)) if self.hidden_bias is None else np.ascontiguousarray(U[:, windows.patch])
        return Conv(np.ascontiguousarray(U[:, : windows.patch].T), bias, windows.to_array())

    def whole_pool(self, problem: Problem, kind: str, filters: int) -> Pool:
        """Return the pooling of all positions of the convolution."""
        out = self.windows_of(problem.X.shape[1]).out
        return Pool.of(kind, Windows((*out, filters), out))

    def like(self, network: Network) -> Any:
        """Return the family with the geometry of a network."""
        first = network.layers[0]
        assert isinstance(first, Conv | GatedConv)
        windows = first.windows
        return replace(  # type: ignore[type-var]
            self,
            kernel=windows.kernel,
            input_shape=windows.shape,
            stride=windows.stride,
            padding="circular" if windows.circular else windows.padding,
        )

    def check_conv(self, network: Network) -> Conv | GatedConv:
        """Return the first layer of a network if it is a convolution of this geometry.

        Raises
        ------
        ValueError
            If it is not, or has biases that the family has not.
        """
        first = network.layers[0]
        if not isinstance(first, Conv | GatedConv):
            raise ValueError(f"{network!r} is not a convolutional network: pass one that starts with Conv")
        windows = self.windows_of(network.n_features)
        if first.windows != windows:
            raise ValueError(f"the network's geometry is {first.windows}, the family's is {windows}")
        if self.hidden_bias is None and (np.any(first.bias != 0) or np.any(getattr(first, "gate_bias", 0))):
            raise ValueError(
                "the network has hidden biases, of filters or gates: pass hidden_bias='penalized' (or "
                "'free', where the family knows it), not None"
            )
        return first

    def filter_norms(self, network: Network) -> np.ndarray:
        """Return the norms of the penalised weights of each filter, shape (m,)."""
        first = self.check_conv(network)
        square = np.sum(first.weight**2, axis=0)
        return np.sqrt(square + first.bias**2 if self.hidden_bias == "penalized" else square)

    def of_layers(self, problem: Problem, layers: tuple[Layer, ...], V: np.ndarray) -> Network:
        """Return the network of hidden layers and output weights ``V`` (units, outputs), with its best
        constants."""
        return with_constants(problem, Network((*layers, Affine(V, np.zeros(V.shape[1])))))


def is_pooled(network: Network, kinds: tuple[str, ...]) -> bool:
    """Whether a network is a convolution, a ReLU, a pooling of all positions and an output layer."""
    if len(network.layers) != 4:
        return False
    first, second, pool, last = network.layers
    if not (isinstance(first, Conv) and isinstance(second, ReLU) and isinstance(pool, Pool)):
        return False
    whole = pool.windows.kernel == first.windows.out == pool.windows.shape[:2]
    return whole and pool.name in kinds and isinstance(last, Affine)


def is_linear_above(network: Network, hidden: type[Conv | GatedConv]) -> bool:
    """Whether a network is a convolution of a kind, a linear pooling or none, and an output layer."""
    first, *middle, last = network.layers
    pools = all(isinstance(layer, Pool) and layer.name in ("sum", "mean") for layer in middle)
    return isinstance(first, hidden) and len(middle) <= 1 and pools and isinstance(last, Affine)


class WindowPooled(Convolutional):
    """Positions added up or averaged in windows side by side, whose results the output layer sees."""

    pool: PoolSize
    pooling: str

    def pools_of(self, features: int, filters: int) -> Pool | None:
        """Return the pooling of the windows for inputs of some length; None where there is none.

        Raises
        ------
        ValueError
            If the pooling is not linear, or its windows do not fit.
        """
        if self.pooling not in ("sum", "mean"):
            raise ValueError(
                f"pooling={self.pooling!r} is not linear: pass 'sum' or 'mean', or architecture 'cnn_max'"
            )
        out = self.windows_of(features).out
        if isinstance(self.pool, str):
            if self.pool not in (WHOLE, FLAT):
                raise ValueError(f"pool={self.pool!r} is unknown: pass 'all', 'flatten' or a size")
            if self.pool == FLAT:
                return None
            size = out
        else:
            size = pair("pool", self.pool)
            size = (size[0], 1) if out[1] == 1 else size
        return Pool.of(self.pooling, Windows((*out, filters), size, size))

    def has_layers(self, network: Network, middle: tuple[type[Layer], ...]) -> bool:
        """Whether a network is a convolution, some layers, this pooling (if any) and an output layer."""
        first, *rest, last = network.layers
        pool = self.pools_of(network.n_features, getattr(first, "weight", np.zeros((0, 0))).shape[1])
        kinds = middle if pool is None else (*middle, Pool)
        if len(rest) != len(kinds) or not all(map(isinstance, rest, kinds)) or not isinstance(last, Affine):
            return False
        other = rest[-1] if pool is not None else None
        return pool is None or (
            isinstance(other, Pool) and other.name == pool.name and other.windows == pool.windows
        )

    def like(self, network: Network) -> Any:
        """Return the family with the geometry and the pooling of a network."""
        pools = [layer for layer in network.layers if isinstance(layer, Pool)]
        same = super().like(network)
        if not pools:
            return replace(same, pool=FLAT)
        windows = pools[0].windows
        size = WHOLE if windows.kernel == windows.shape[:2] else windows.kernel
        return replace(same, pool=size, pooling=pools[0].name)


class SumPooled(WindowPooled):
    """Convolution, ReLU, and the sum or mean of windows: what both numbers of outputs share."""

    #: What is pooled has no places for another stage to see.
    hidden_units = Architecture.hidden_units

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        if len(network.layers) not in (3, 4) or not isinstance(network.layers[-1], Affine):
            return False
        first, second, *pools = network.layers[:-1]
        linear = all(isinstance(pool, Pool) and pool.name in ("sum", "mean") for pool in pools)
        return isinstance(first, Conv) and isinstance(second, ReLU) and linear

    @property
    def whole(self) -> bool:
        """Whether all positions are pooled, so that a filter has one output weight for every output."""
        return isinstance(self.pool, str) and self.pool == WHOLE

    def members(self, features: int) -> np.ndarray:
        """Return the positions that every window pools, (windows, size); those in no window are missing."""
        pool = self.pools_of(features, 1)
        positions = self.windows_of(features).positions
        return np.arange(positions)[:, None] if pool is None else pool.windows.index()

    def grouped(self, problem: Problem) -> tuple[np.ndarray, int]:
        """Return the patches of all samples, one window after the other, and the size of a window.

        Where windows are averaged the patches, (n * windows * size, patch [+ 1]), are divided by it.
        """
        rows, members = self.stacked(problem), self.members(problem.X.shape[1])
        size, width = members.shape[1], rows.shape[1]
        rows = rows.reshape(len(problem.X), -1, width)[:, members.ravel()].reshape(-1, width)
        return (rows / size if self.pooling == "mean" and size > 1 else rows), size

    def design(self, problem: Problem) -> Design:
        """Return the patches in the order of :meth:`grouped`; windows are what is pooled."""
        full, size = self.grouped(problem)
        return Design.reduce(full, 1 if self.hidden_bias == "free" else 0, 0.0, size)

    def hidden_norms(self, network: Network) -> np.ndarray:
        """Return the norms of the penalised weights of each filter, shape (m,).

        Raises
        ------
        ValueError
            If it is not a network of this family and geometry.
        """
        norms = self.filter_norms(network)
        if not self.has_layers(network, (ReLU,)):
            raise ValueError(
                f"{network!r} has other layers or another pooling than pool={self.pool!r}, "
                f"pooling={self.pooling!r}: pass Conv, ReLU, Pool (none where pool='flatten'), Affine"
            )
        return norms

    def of_rows(self, problem: Problem, U: np.ndarray, V: np.ndarray) -> Network:
        """Return the network of filters ``U`` (m, patch [+ 1]) and output weights ``V``.

        Of the output weights (m, windows * outputs) those of one window are next to each other.
        """
        pool = self.pools_of(problem.X.shape[1], len(U))
        layers: tuple[Layer, ...] = (self.conv_layer(problem, U), ReLU())
        layers = layers if pool is None else (*layers, pool)
        windows = len(self.members(problem.X.shape[1]))
        weight = V.reshape(len(V), windows, V.shape[1] // windows).transpose(1, 0, 2)
        return self.of_layers(problem, layers, weight.reshape(windows * len(V), weight.shape[2]))

    def unit_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the pooled outputs (k, n * windows) of unit filters in the directions ``U``."""
        U = self.directions(problem, U)
        free = self.hidden_bias == "free"
        U = U / np.linalg.norm(U[:, :-1] if free else U, axis=1)[:, None]
        full, size = self.grouped(problem)
        return pooled(rectify(full @ U.T), size).T

    def nothing(self, problem: Problem) -> Network:
        """Return the network without filters and its best constants."""
        windows = self.windows_of(problem.X.shape[1])
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        width = windows.patch + (self.hidden_bias is not None)
        each = len(self.members(problem.X.shape[1])) * outputs
        return self.of_rows(problem, np.zeros((0, width)), np.zeros((0, each)))

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Plain weights have no geometry.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            "plain weights do not say how filters slide: pass Network((Conv, ReLU, Pool, Affine))"
        )
