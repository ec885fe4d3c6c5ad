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
blocks of gates; nothing of the size samples * features is ever held. Products are done where the maps are:
in NumPy, or on a device of torch.

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
from array_api_compat import device, is_numpy_array

from .arrays import Array, array_namespace, asarray_like, free_numbers, solve_positive, to_numpy
from .certificate import Certificate, relative_gap
from .network import Affine, GatedConv, Layer, Network, Pool
from .patches import Windows

#: Numbers that a chunk of samples may unfold into, and a block of features may hold.
CHUNK, BLOCK = 1 << 25, 1 << 28
#: Patches and samples that gates are drawn from, and how far directions of little variance are stretched.
PATCHES, SAMPLES, STRETCH = 20_000, 400, 0.1

#: The same on a device, where short products are slow; a block is also at most this share of its memory.
DEVICE_CHUNK, DEVICE_BLOCK, SHARE = 1 << 28, 1 << 31, 0.2
#: Panels in which a device adds up the lower triangle of a square.
PANELS = 8

#: What makes the maps of some samples: a slice to an array (n, h * w * c).
Maps = Callable[[slice], Array]


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
        cls, maps: Array, windows: Windows, count: int, grid: int, random_state: np.random.Generator
    ) -> PooledPatches:
        """Draw random gates for some maps (n, h * w * c): Gaussian where patches have unit covariance.

        Directions in which patches vary little are stretched, so that gates do not all see the mean of a
        patch.
        """
        some = asarray_like(random_state.permutation(len(maps))[:SAMPLES], maps, keep_dtype=True)
        some = to_numpy(array_namespace(maps).take(maps, some, axis=0))
        P = windows.patches(some).reshape(-1, windows.patch)
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

    def rows(self, chunk: int | None = None) -> int:
        """How many samples make a chunk."""
        numbers = self.windows.positions * (self.windows.patch + self.gates.shape[1])
        return max(1, (chunk or CHUNK) // numbers)

    def of(self, maps: Array, gates: slice = slice(None)) -> Array:
        """Return features (n, gates, cells, patch) of maps (n, h * w * c) at some gates, in their dtype."""
        w, xp = self.windows, array_namespace(maps)
        (rows, columns), g = w.out, self.grid
        P = xp.reshape(w.patches(maps), (-1, g, rows // g, g, columns // g, w.patch))
        P = xp.reshape(xp.permute_dims(P, (0, 1, 3, 2, 4, 5)), (len(maps), self.cells, -1, w.patch))
        G, h = asarray_like(self.gates[:, gates], maps), asarray_like(self.gate_bias[gates], maps)
        opened = xp.astype(P @ G + h >= 0, maps.dtype)
        return xp.permute_dims(xp.matrix_transpose(opened) @ P, (0, 2, 1, 3)) / P.shape[2]

    def flat(self, maps: Array, gates: slice = slice(None)) -> Array:
        """Return features as rows (n, gates * cells * patch)."""
        return array_namespace(maps).reshape(self.of(maps, gates), (len(maps), -1))

    def chunks(self, n: int, like: Array) -> Iterator[slice]:
        """The samples in chunks, as large as suits the device of an array."""
        step = self.rows(None if is_numpy_array(like) else DEVICE_CHUNK)
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
    # sums are in float64, whatever the maps are
    centred = asarray_like(Y - Y.mean(axis=0), maps(slice(0, 1)), keep_dtype=True)
    by_features = pooled.size <= len(Y)
    Z = (_by_features if by_features else _by_samples)(pooled, maps, centred, beta)
    shape = (pooled.gates.shape[1], pooled.cells, pooled.windows.patch, Y.shape[1])
    return to_numpy(Z).reshape(shape)


def _by_features(pooled: PooledPatches, maps: Maps, Y: Array, beta: float) -> Array:
    """``(Phi'Phi + beta I) Z = Phi'Y``, centred; sums over chunks of samples.

    Features are shifted by their mean on the first chunk: the mean is most of their size, and rounding of
    the products would be its.
    """
    xp, size = array_namespace(Y), pooled.size
    gram, total, right = _zeros(Y, size, size), _zeros(Y, size), _zeros(Y, size, Y.shape[1])
    shift = None
    for part in pooled.chunks(len(Y), Y):
        Phi = pooled.flat(maps(part))
        shift = xp.mean(Phi, axis=0) if shift is None else shift
        Phi -= shift
        back = xp.matrix_transpose(Phi)
        _add_square(gram, back)
        total += xp.sum(Phi, axis=0, dtype=xp.float64)
        right += back @ xp.astype(Y[part, :], Phi.dtype)
    gram -= total[:, None] * (total / len(Y))
    _add_to_diagonal(gram, beta)
    return solve_positive(gram, right)


def _by_samples(pooled: PooledPatches, maps: Maps, Y: Array, beta: float) -> Array:
    """``(Phi Phi' + beta I) A = Y, Z = Phi'A``, with centred features; sums over blocks of gates."""
    xp, n, gates = array_namespace(Y), len(Y), pooled.gates.shape[1]
    kernel, held = _zeros(Y, n, n), None
    width = max(1, _block(Y) // (n * pooled.cells * pooled.windows.patch))
    blocks = [slice(at, min(at + width, gates)) for at in range(0, gates, width)]

    def block(at: slice) -> Array:
        Phi = xp.concat([pooled.flat(maps(part), at) for part in pooled.chunks(n, Y)])
        Phi -= xp.mean(Phi, axis=0)
        return Phi

    for at in blocks:
        held = None  # free before the next is made
        held = block(at)
        _add_square(kernel, held)
    _add_to_diagonal(kernel, beta)
    if len(blocks) > 1:
        held = None
    A = solve_positive(kernel, Y)
    parts = []
    for at in blocks:
        Phi = block(at) if held is None else held
        parts.append(xp.matrix_transpose(Phi) @ xp.astype(A, Phi.dtype))
    return xp.concat(parts)


def _zeros(like: Array, *shape: int) -> Array:
    return array_namespace(like).zeros(shape, dtype=like.dtype, device=device(like))


def _add_square(K: Array, F: Array) -> None:
    """Add ``F F'`` to the lower triangle of K at least."""
    back = array_namespace(F).matrix_transpose(F)
    if is_numpy_array(F):  # its BLAS knows a square
        K += F @ back
        return
    height = -(-len(F) // PANELS)
    for top in range(0, len(F), height):
        end = min(top + height, len(F))
        K[top:end, :end] += F[top:end, :] @ back[:, :end]


def _add_to_diagonal(K: Array, beta: float) -> None:
    flat = array_namespace(K).reshape(K, (-1,), copy=False)
    flat[:: len(K) + 1] += beta


def _block(like: Array) -> int:
    """Numbers that a block of features may hold on the device of an array."""
    free = free_numbers(like)
    if free is not None:
        return min(DEVICE_BLOCK, int(SHARE * free))
    return BLOCK


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
    like = maps(slice(0, 1))
    xp, weights = array_namespace(like), asarray_like(flat, like)
    F, sums, ones = np.empty_like(Y), xp.zeros_like(weights), xp.zeros_like(weights[:, 0])
    for part in pooled.chunks(n, like):
        Phi = pooled.flat(maps(part))
        found = Phi @ weights
        F[part] = to_numpy(found)
        sums += xp.matrix_transpose(Phi) @ (asarray_like(Y[part], like) - found)
        ones += xp.sum(Phi, axis=0)
    back, total = to_numpy(sums), to_numpy(ones)
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
    width = int(np.sum(filters_of(Z)[1] > 0.0))
    certificate = Certificate(primal / n, dual / n, gap, "patterns", gap, width, beta / n, frozen)
    right = float(np.mean(np.argmax(F + constant, axis=1) == np.argmax(Y, axis=1)))
    return Verdict(constant, certificate, right)


def filters_of(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition of ``[Z_p1 ... Z_pA]`` for every gate; zeros where rounding ends."""
    gates, cells, patch, outputs = Z.shape
    U, sizes, V = np.linalg.svd(
        Z.transpose(0, 2, 1, 3).reshape(gates, patch, cells * outputs), full_matrices=False
    )
    return U, np.where(sizes > 1e-13 * np.max(sizes, initial=0.0), sizes, 0.0), V


def stage_network(
    frozen: tuple[Layer, ...], pooled: PooledPatches, Z: np.ndarray, constant: np.ndarray
) -> Network:
    """Return the network of a stage: frozen layers, gated convolution, average pooling, linear layer."""
    cells, outputs = Z.shape[1], Z.shape[3]
    U, sizes, V = filters_of(Z)
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
