r"""One stage of a layer-wise convolutional network: a convex program that is solved from chunks of samples.

The stage sees maps x of shape (h, w, c). With gates g_p that are fixed convolutions, patches X_ik of sample
i at position k, and the mean over the cells a of a grid of positions (average pooling), it computes

    f_i = c + sum_p sum_a  Phi_ipa Z_pa,      Phi_ipa = mean over k in a of  1[X_ik g_p + h_p >= 0] X_ik,

with a matrix Z_pa (patch, outputs) for every gate and cell. Singular vectors of ``[Z_p1 ... Z_pA] = sum_j
u_j v_j'`` are filters behind the gate p and their output weights: a network of gated convolution, average
pooling and a linear layer. The program is that of the published convex greedy networks,

    minimise   sum_i 1/2 |f_i - y_i|^2 + beta/2 * sum_p ||Z_p||_F^2,

whose penalty is the *square* of the Frobenius norm: not the weight decay of filters and output weights,
which is the nuclear norm ``sum_p ||Z_p||_*``. It is ridge regression on pooled patches, so its optimum
costs one linear system, of size min(features, samples), whose matrix adds up over chunks of samples or over
blocks of gates; nothing of the size samples * features is ever held.

The dual is ``maximise <T, Y> - 1/2 |T|^2 - 1/(2 beta) |Phi'T|^2`` over T (n, outputs) with column sums
zero. At the residual T = Y - F of weights with their best constant the two objectives differ by exactly

    gap = |Phi'T - beta Z|^2 / (2 beta),

so one pass over the samples certifies any weights. The certificate is of the stage: against the same gates
on the same frozen layers.

References: Belilovsky, Eickenberg and Oyallon, ICML 2019; Sahiner, Ergen, Ozturkler, Pauly, Mardani and
Pilanci, ICML 2022 (convex stages, Burer-Monteiro); the formulas of the gap are ridge regression's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve

from .certificate import Certificate, relative_gap
from .network import Affine, Conv, GatedConv, Layer, Network, Pool
from .patches import Windows

#: Numbers that a chunk of samples may unfold into, and a block of features may hold.
CHUNK, BLOCK = 1 << 25, 1 << 28
#: Patches and samples that gates are drawn from, and how far directions of little variance are stretched.
PATCHES, SAMPLES, STRETCH = 20_000, 400, 0.1

#: What makes the maps of some samples: a slice to an array (n, h * w * c).
Maps = Callable[[slice], np.ndarray]


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
    if shape[0] % 2 or shape[1] % 2:
        raise ValueError(
            f"maps of {shape[0]} x {shape[1]} have no 2 x 2 blocks: leave the stage out of down"
        )
    return Windows(shape, (2, 2), (2, 2))


@dataclass(frozen=True, eq=False)
class PooledPatches:
    """The features of a stage: gated patches, averaged over the cells of a grid.

    Parameters
    ----------
    windows : Windows
        Of the convolution.
    gates : ndarray of shape (patch, gates)
    gate_bias : ndarray of shape (gates,)
    grid : int
        Cells along height and along width.

    Raises
    ------
    ValueError
        If the grid does not divide the positions.
    """

    windows: Windows
    gates: np.ndarray
    gate_bias: np.ndarray
    grid: int

    def __post_init__(self) -> None:
        rows, columns = self.windows.out
        if rows % self.grid or columns % self.grid:
            raise ValueError(f"grid={self.grid} does not divide {rows} x {columns}: pass a divisor of both")

    @classmethod
    def draw(
        cls, maps: np.ndarray, windows: Windows, count: int, grid: int, random_state: np.random.Generator
    ) -> PooledPatches:
        """Draw random gates for some maps (n, h * w * c): Gaussian where patches have unit covariance.

        Directions in which patches vary little are stretched, so that gates do not all see the mean of a
        patch.
        """
        some = maps[random_state.permutation(len(maps))[:SAMPLES]]
        P = np.asarray(windows.patches(some), dtype=np.float64).reshape(-1, windows.patch)
        P = P[random_state.permutation(len(P))[:PATCHES]]
        mean = P.mean(axis=0)
        variance, Q = np.linalg.eigh(np.atleast_2d(np.cov(P.T)))
        variance = np.maximum(variance, 0.0) + STRETCH * max(float(np.mean(variance)), 1e-300)
        gates = (Q / np.sqrt(variance)) @ random_state.standard_normal((len(variance), count))
        gates = gates / np.linalg.norm(gates, axis=0)
        return cls(windows, gates, -(mean @ gates), grid)

    @property
    def cells(self) -> int:
        """The number of cells of the grid."""
        return self.grid**2

    @property
    def size(self) -> int:
        """The number of features: gates * cells * patch."""
        return self.gates.shape[1] * self.cells * self.windows.patch

    def rows(self) -> int:
        """How many samples make a chunk."""
        return max(1, CHUNK // (self.windows.positions * (self.windows.patch + self.gates.shape[1])))

    def of(self, maps: np.ndarray, gates: slice = slice(None)) -> np.ndarray:
        """Return features (n, gates, cells, patch) of maps (n, h * w * c) at some gates, in their dtype."""
        w, dtype = self.windows, maps.dtype
        (rows, columns), g = w.out, self.grid
        P = w.patches(maps).astype(dtype, copy=False)
        P = P.reshape(-1, g, rows // g, g, columns // g, w.patch).transpose(0, 1, 3, 2, 4, 5)
        P = np.ascontiguousarray(P).reshape(len(maps), self.cells, -1, w.patch)
        G, h = self.gates[:, gates].astype(dtype), self.gate_bias[gates].astype(dtype)
        opened = (P @ G + h >= 0).astype(dtype)
        return np.matmul(opened.transpose(0, 1, 3, 2), P).transpose(0, 2, 1, 3) / dtype.type(P.shape[2])

    def chunks(self, n: int) -> Iterator[slice]:
        """The samples in chunks."""
        step = self.rows()
        return (slice(at, min(at + step, n)) for at in range(0, n, step))

    def pool(self, filters: int) -> Pool:
        """Return the average pooling of some filters over the cells."""
        rows, columns = self.windows.out
        cell = (rows // self.grid, columns // self.grid)
        return Pool.of("mean", Windows((rows, columns, filters), cell, cell))


def solve(pooled: PooledPatches, maps: Maps, Y: np.ndarray, beta: float) -> np.ndarray:
    """Return the weights Z (gates, cells, patch, outputs) of the stage's optimum, by one linear system.

    Parameters
    ----------
    pooled : PooledPatches
    maps : callable(slice)
        Makes the maps of some samples, in the precision of the products.
    Y : ndarray of shape (n, outputs)
        Targets.
    beta : float
        Strength of the penalty at the scale of sums, > 0.
    """
    centred = Y - Y.mean(axis=0)
    by_features = pooled.size <= len(Y)
    Z = (_by_features if by_features else _by_samples)(pooled, maps, centred, beta)
    shape = (pooled.gates.shape[1], pooled.cells, pooled.windows.patch, Y.shape[1])
    return np.asarray(Z, dtype=np.float64).reshape(shape)


def _by_features(pooled: PooledPatches, maps: Maps, Y: np.ndarray, beta: float) -> np.ndarray:
    """``(Phi'Phi + beta I) Z = Phi'Y``, centred; sums over chunks of samples."""
    size = pooled.size
    gram, total, right = np.zeros((size, size)), np.zeros(size), np.zeros((size, Y.shape[1]))
    for part in pooled.chunks(len(Y)):
        Phi = pooled.of(maps(part)).reshape(part.stop - part.start, -1)
        gram += Phi.T @ Phi
        total += Phi.sum(axis=0, dtype=np.float64)
        right += Phi.T @ Y[part].astype(Phi.dtype)
    gram -= np.outer(total, total / len(Y))
    gram[np.diag_indices(size)] += beta
    # the transpose is the same matrix in the order of LAPACK, which then needs no copy
    return np.asarray(cho_solve(cho_factor(gram.T, overwrite_a=True), right))


def _by_samples(pooled: PooledPatches, maps: Maps, Y: np.ndarray, beta: float) -> np.ndarray:
    """``(Phi Phi' + beta I) A = Y, Z = Phi'A``, centred; sums over blocks of gates."""
    n, gates = len(Y), pooled.gates.shape[1]
    width = max(1, BLOCK // (n * pooled.cells * pooled.windows.patch))
    blocks = [slice(at, min(at + width, gates)) for at in range(0, gates, width)]

    def block(at: slice) -> np.ndarray:
        return np.concatenate(
            [pooled.of(maps(part), at).reshape(part.stop - part.start, -1) for part in pooled.chunks(n)]
        )

    kernel, held = np.zeros((n, n)), None
    for at in blocks:
        held = block(at)
        kernel += held @ held.T
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1)[:, None]
    kernel[np.diag_indices(n)] += beta
    A = cho_solve(cho_factor(kernel.T, overwrite_a=True), Y)
    A -= A.mean(axis=0)  # a sum of zero in exact arithmetic
    parts = []
    for at in blocks:
        Phi = held if len(blocks) == 1 and held is not None else block(at)
        parts.append(Phi.T @ A.astype(Phi.dtype))
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What one pass over the samples says of some weights.

    Parameters
    ----------
    constant : ndarray of shape (outputs,)
        The best one.
    certificate : Certificate
    right : float
        The share of samples whose largest output is that of their target.
    """

    constant: np.ndarray
    certificate: Certificate
    right: float


def judge_stage(
    pooled: PooledPatches, maps: Maps, Y: np.ndarray, Z: np.ndarray, beta: float, frozen: int = 0
) -> Verdict:
    """Certify weights of a stage in one pass; float64 if the maps are.

    Parameters
    ----------
    pooled, maps, Y, beta
        As for :func:`solve`.
    Z : ndarray of shape (gates, cells, patch, outputs)
    frozen : int
        Hidden layers in front.
    """
    n, flat = len(Y), Z.reshape(-1, Y.shape[1])
    F, back, total = np.empty_like(Y), np.zeros_like(flat), np.zeros(len(flat))
    for part in pooled.chunks(n):
        Phi = pooled.of(maps(part)).reshape(part.stop - part.start, -1)
        F[part] = Phi @ flat
        back += Phi.T @ (Y[part] - F[part])
        total += Phi.sum(axis=0)
    constant = (Y - F).mean(axis=0)
    T = Y - F - constant
    back -= np.outer(total, constant)
    penalty = float(np.sum(flat * flat))
    primal = 0.5 * float(np.sum(T * T)) + 0.5 * beta * penalty
    terms = (float(np.sum(T * Y)), 0.5 * float(np.sum(T * T)), float(np.sum(back * back)) / (2.0 * beta))
    dual = terms[0] - terms[1] - terms[2]
    # far above the rounding of these sums, on the safe side; targets are at least at zero's objective
    dual = max(0.0, dual - 1e-11 * (abs(terms[0]) + terms[1] + terms[2]))
    gap = relative_gap(primal, dual)
    width = int(np.sum(_filters(Z)[1] > 0.0))
    certificate = Certificate(primal / n, dual / n, gap, "patterns", gap, width, beta / n, frozen)
    right = float(np.mean(np.argmax(F + constant, axis=1) == np.argmax(Y, axis=1)))
    return Verdict(constant, certificate, right)


def _filters(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition of ``[Z_p1 ... Z_pA]`` for every gate; zeros where rounding ends."""
    gates, cells, patch, outputs = Z.shape
    U, sizes, V = np.linalg.svd(
        Z.transpose(0, 2, 1, 3).reshape(gates, patch, cells * outputs), full_matrices=False
    )
    return U, np.where(sizes > 1e-13 * np.max(sizes, initial=0.0), sizes, 0.0), V


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
    U = _filters(Z)[0]
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


def stage_network(
    frozen: tuple[Layer, ...], pooled: PooledPatches, Z: np.ndarray, constant: np.ndarray
) -> Network:
    """Return the network of a stage: frozen layers, gated convolution, average pooling, linear layer."""
    cells, outputs = Z.shape[1], Z.shape[3]
    U, sizes, V = _filters(Z)
    gate, j = np.nonzero(sizes)
    root = np.sqrt(sizes[gate, j])
    weight = np.ascontiguousarray((U[gate, :, j] * root[:, None]).T)
    hidden = GatedConv(
        np.ascontiguousarray(pooled.gates[:, gate]),
        pooled.gate_bias[gate],
        weight,
        np.zeros(len(gate)),
        pooled.windows.to_array(),
    )
    # pooled maps are flat images (grid, grid, filters)
    last = (V[gate, j] * root[:, None]).reshape(len(gate), cells, outputs).transpose(1, 0, 2)
    last = np.ascontiguousarray(last.reshape(-1, outputs))
    return Network((*frozen, hidden, pooled.pool(len(gate)), Affine(last, constant.copy())))
