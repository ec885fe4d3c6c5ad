r"""What makes the maps of the next stage in a layer-wise convolutional network.

A stage has weights Z_pa for every gate p and cell a (:mod:`cvxnn.conv_stage`), and is a network of one
hidden layer. What the next stage sees of it are maps of that layer: of the leading filters of every gate,
or one map of every output, at full or at half the resolution, with the maps that the stage saw itself if
asked for. All of it is made of the closed vocabulary of layers.

References: Belilovsky, Eickenberg and Oyallon, ICML 2019 (space-to-depth); Sahiner, Ergen, Ozturkler,
Pauly, Mardani and Pilanci, ICML 2022 (leading filters).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import block_diag

from .arrays import Array, asarray_like
from .conv_stage import PooledPatches, filters_of
from .network import Conv, GatedConv, Layer, Pool
from .patches import Windows


def space_to_depth(shape: tuple[int, int, int]) -> Conv:
    """Return the layer that moves every 2 x 2 block of pixels into channels: invertible, half the size.

    Raises
    ------
    ValueError
        If height or width is odd.
    """
    windows = _blocks(shape)
    return Conv(np.eye(windows.patch), np.zeros(windows.patch), windows.to_array())


def means_of_blocks(shape: tuple[int, int, int]) -> Pool:
    """Return the layer that takes the mean of every 2 x 2 block of pixels, channel by channel.

    Raises
    ------
    ValueError
        If height or width is odd.
    """
    return Pool.of("mean", _blocks(shape))


def _blocks(shape: tuple[int, int, int]) -> Windows:
    block = (2, 1 if shape[1] == 1 < shape[0] else 2)  # a signal has one axis
    if shape[0] % 2 or shape[1] % block[1]:
        raise ValueError(
            f"maps of {shape[0]} x {shape[1]} have no {block[0]} x {block[1]} blocks: leave the stage out "
            "of down"
        )
    return Windows(shape, block, block)


def passed_on(
    pooled: PooledPatches, Z: np.ndarray, filters: int | str, skip: bool
) -> tuple[GatedConv | Conv, ...]:
    """Return the layers that make the next stage's maps, those of this one in front of them with `skip`.

    Parameters
    ----------
    pooled : PooledPatches
    Z : ndarray of shape (gates, cells, patch, outputs)
    filters : int or "classes"
        Leading filters of every gate, or a map of every output.
    skip : bool
    """
    if filters != "classes":
        hidden = leading_filters(pooled, Z, int(filters))
        return (with_pixels(hidden) if skip else hidden,)
    hidden, summed = class_maps(pooled, Z)
    if not skip:
        return hidden, summed
    channels = np.eye(pooled.windows.shape[2])
    return with_pixels(hidden), pixelwise(block_diag(channels, summed.weight), pooled.windows.out)


def leading_filters(pooled: PooledPatches, Z: np.ndarray, count: int) -> GatedConv:
    """Return the hidden layer of the leading filters of every gate, of norm one."""
    U = filters_of(Z)[0]
    count = min(count, U.shape[2])
    weight = np.ascontiguousarray(U[:, :, :count].transpose(1, 0, 2)).reshape(pooled.windows.patch, -1)
    gates, bias = np.repeat(pooled.gates, count, axis=1), np.repeat(pooled.gate_bias, count)
    return GatedConv(gates, bias, weight, np.zeros(weight.shape[1]), pooled.windows.to_array())


def class_maps(pooled: PooledPatches, Z: np.ndarray) -> tuple[GatedConv, Conv]:
    """Return the layers that make a map of every output: the stage's own outputs, position by position.

    ``M_c(k) = sum_p 1[X_k g_p + h_p >= 0] X_k' Z_pc`` with Z_pc the mean over the cells, so with one cell
    the output c is the mean of the map c: all gates at work in as many channels as there are outputs, where
    leading filters keep a part of each gate. A gated convolution with the filters Z_pc, then their sum over
    the gates.
    """
    weight, outputs = Z.mean(axis=1), Z.shape[3]
    hidden = GatedConv(
        np.repeat(pooled.gates, outputs, axis=1),
        np.repeat(pooled.gate_bias, outputs),
        np.ascontiguousarray(weight.transpose(1, 0, 2)).reshape(pooled.windows.patch, -1),
        np.zeros(len(weight) * outputs),
        pooled.windows.to_array(),
    )
    return hidden, pixelwise(np.tile(np.eye(outputs), (len(weight), 1)), pooled.windows.out)


def pixelwise(weight: np.ndarray, size: tuple[int, int]) -> Conv:
    """Return the layer that maps the channels of every pixel by a matrix (channels, filters)."""
    return Conv(weight, np.zeros(weight.shape[1]), Windows((*size, len(weight)), (1, 1)).to_array())


def with_pixels(hidden: GatedConv) -> GatedConv:
    """Return a hidden layer that also passes on the channels it sees, in front of its filters.

    A filter of one entry behind a gate of zeros, which is open for every patch, is a channel of the pixel
    in the middle of the window.
    """
    windows = hidden.windows
    channels = windows.shape[2]
    middle = (windows.kernel[0] // 2 * windows.kernel[1] + windows.kernel[1] // 2) * channels
    pixels = np.eye(windows.patch)[:, middle : middle + channels]
    none = np.zeros(channels)
    return GatedConv(
        np.hstack([np.zeros_like(pixels), hidden.gates]),
        np.concatenate([none, hidden.gate_bias]),
        np.hstack([pixels, hidden.weight]),
        np.concatenate([none, hidden.bias]),
        hidden.geometry,
    )


def standardised(X: np.ndarray, shape: tuple[int, int, int], patch: int) -> Conv:
    """The layer that gives every channel mean zero and variance 1 / patch over the training images."""
    windows = Windows(shape, (1, 1))
    windows.check(X)
    pixels = X.reshape(-1, shape[2])
    mean = pixels.mean(axis=0, dtype=np.float64)
    spread = pixels.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0.0, spread, 1.0) * np.sqrt(patch)
    return Conv(np.diag(1.0 / spread), -mean / spread, windows.to_array())


def weights_like(layers: tuple[Layer, ...], like: Array) -> tuple[Layer, ...]:
    """The same layers with weights in the library, on the device and of the dtype of an array."""
    names = ("weight", "bias", "gates", "gate_bias")
    return tuple(
        replace(
            layer,
            **{part: asarray_like(getattr(layer, part), like) for part in names if hasattr(layer, part)},
        )
        for layer in layers
    )
