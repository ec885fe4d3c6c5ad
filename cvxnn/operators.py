"""Linear maps from groups of weights to predictions.

In the convex program of a ReLU or gated network every group g sees the same data X through its own
0/1 pattern d_g, so the predictions are

    A(W) = sum_g sigma_g D_g X W_g,     D_g = diag(d_g),  sigma_g = +1 or -1,

and the adjoint is ``(A* Z)_g = sigma_g X' D_g Z``. An activation with slope s on the negative side has
``D_g + s (I - D_g)`` in the place of D_g, a pattern of ones and s. The dictionary [D_1 X ... D_P X] has n *
P * d entries and is never formed. With the patterns as rows of a 0/1 matrix D both maps are one matrix
product with D and little else,

    A(W) = rowsum( X o (D'(sigma W)) ),     A*(Z) = sigma D (Z o X),

taken over tiles of D, which is stored one bit per sample and unpacked tile by tile. Where every group is
one feature, whatever it is, the program is a Lasso and its operator :class:`Dense`.

Reference: Mishkin, Sahiner and Pilanci, ICML 2022, section 5; Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from array_api_compat import device, is_numpy_array

from .arrays import Array, array_namespace, asarray_like, to_numpy, unpack

#: Numbers up to which the norm of an explicit matrix is computed and not bounded.
SMALL_MATRIX = 200_000
#: Numbers in an unpacked tile of masks, 4 MB of float64: on a processor a tile should stay in its cache
#: between the unpacking and the product. On a device it only has to fit, and short products are slow.
TILE, DEVICE_TILE = 1 << 19, 1 << 25


class Operator(ABC):
    """A linear map ``A`` from weights W (groups, d) to predictions (n,), and its adjoint."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """``(n, groups, d)``."""

    @abstractmethod
    def apply(self, W: Array) -> Array:
        """Return ``A(W)``, shape (n,)."""

    @abstractmethod
    def adjoint(self, Z: Array) -> Array:
        """Return ``A*(Z)``, shape (groups, d), with ``sum(Z * A(W)) == sum(A*(Z) * W)``."""

    @abstractmethod
    def norm_bound(self) -> float:
        """Return an upper bound of ``||A||_2``."""

    @abstractmethod
    def dense(self) -> np.ndarray:
        """Return A as a matrix of shape (n, groups * d): for reference solvers on small sizes."""


@dataclass(frozen=True, eq=False)
class Masked(Operator):
    """Groups that see the same data through different 0/1 patterns.

    Parameters
    ----------
    X : array of shape (n, d)
    bits : uint8 array of shape (groups, ceil(n / 8))
        Packed patterns, ``numpy.packbits(masks, axis=1)``, in the same library as `X`.
    signs : array of shape (groups,), or None for all +1
    chunk : int, default=0
        Groups per product; 0 chooses so that the unpacked masks of a product fill one tile.
    slope : float, default=0.0
        What a pattern passes on where it is off.
    """

    X: Array
    bits: Array
    signs: Array | None = None
    chunk: int = 0
    slope: float = 0.0
    _last: tuple[Array, Array] | None = field(default=None, init=False, repr=False)
    _small: np.ndarray | None = field(default=None, init=False, repr=False)
    #: What solvers have computed of this operator and may use again, at another strength say.
    notes: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_numpy(cls, X: Array, bits: np.ndarray, signs: np.ndarray | None = None) -> Masked:
        """Build from NumPy patterns and data of any library, moving the patterns to the data."""
        moved = asarray_like(np.asarray(bits, dtype=np.uint8), X, keep_dtype=True)
        return cls(X, moved, None if signs is None else asarray_like(signs, X))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.X.shape[0], self.bits.shape[0], self.X.shape[1]

    @property
    def plain(self) -> bool:
        """Whether it is one of NumPy's float64, with patterns of zeros and ones."""
        return is_numpy_array(self.X) and self.X.dtype == np.float64 and self.slope == 0.0

    def _tiles(self) -> Iterator[tuple[slice, Iterator[slice]]]:
        """Blocks of samples, each with the blocks of groups whose masks fit the tile beside them."""
        n, groups, _ = self.shape
        size = TILE if is_numpy_array(self.X) else DEVICE_TILE
        # Samples come in whole bytes of the patterns, and in blocks of about equal height. Tiles are nearly
        # square: a thin one adds up partial results as often as it multiplies.
        blocks = max(1, -(-n // (2 * math.isqrt(size))))
        height = max(8, 8 * -(-n // (8 * blocks)))
        width = self.chunk or max(1, size // height)
        for top in range(0, n, height):
            parts = (slice(at, min(at + width, groups)) for at in range(0, groups, width))
            yield slice(top, min(top + height, n)), parts

    def whole(self) -> np.ndarray | None:
        """All patterns as numbers (groups, n) where they fit one tile, and then kept; else None.

        NumPy only. What is computed with them often is small, and unpacking costs as much as the product.
        """
        n, groups, _ = self.shape
        if self._small is None and n * groups <= TILE and is_numpy_array(self.X) and not self.chunk:
            # a frozen dataclass: what is remembered is no part of its value
            object.__setattr__(self, "_small", self._shares(spread(self.bits, n, self.X.dtype)))
        return self._small

    def pattern(self, group: int) -> np.ndarray:
        """The signed pattern of one group, shape (n,); NumPy only."""
        small = self.whole()
        mask = small[group] if small is not None else self._mask(slice(group, group + 1))[0]
        return mask if self.signs is None else mask * self.signs[group]

    def _mask(self, part: slice, rows: slice | None = None) -> Array:
        """The patterns of some groups on some samples (part, rows), in the dtype of X."""
        n = self.X.shape[0]
        rows = rows or slice(0, n)
        bits = self.bits[part, rows.start // 8 : -(-rows.stop // 8)]
        if is_numpy_array(bits):
            return self._shares(spread(bits, rows.stop - rows.start, self.X.dtype))
        return self._shares(unpack(bits, rows.stop - rows.start, self.X))

    def _shares(self, masks: Array) -> Array:
        """What zeros and ones of a pattern pass on."""
        return masks if not self.slope else masks + self.slope * (1.0 - masks)

    def apply(self, W: Array) -> Array:
        """``f_i = x_i' sum_g sigma_g d_gi W_g``: one product with the masks, and n * d numbers."""
        if is_numpy_array(W):
            used = np.flatnonzero(np.any(W != 0, axis=1))
            if 2 * len(used) < len(W):
                return self.take(used).apply(W[used])
        if self.signs is not None:
            W = W * self.signs[:, None]
        small = self.whole()
        if small is not None:
            return np.einsum("nd,dn->n", self.X, W.T @ small)
        xp = array_namespace(self.X)
        out = xp.zeros_like(self.X[:, 0])
        for rows, parts in self._tiles():
            X = xp.matrix_transpose(self.X[rows, :])
            inner = xp.zeros_like(X)
            for part in parts:
                # BLAS is faster with the short side in front, here and in the adjoint
                inner += xp.matrix_transpose(W[part, :]) @ self._mask(part, rows)
            out[rows] = xp.sum(X * inner, axis=0)
        return out

    def adjoint(self, Z: Array) -> Array:
        """``(A* Z)_g = sigma_g sum_i d_gi (Z_i x_i)``: one product with the masks.

        The last product is remembered: the loop prices a dual variable, and the solver steps from there.
        """
        if not is_numpy_array(Z):
            return self._product(Z)
        if self._last is None or not np.array_equal(self._last[0], Z):
            # a frozen dataclass: what is remembered is no part of its value
            object.__setattr__(self, "_last", (Z.copy(), self._product(Z)))
        assert self._last is not None
        return self._last[1].copy()

    def _product(self, Z: Array) -> Array:
        small = self.whole()
        if small is not None:
            product = ((self.X.T * Z) @ small.T).T
            return product if self.signs is None else product * self.signs[:, None]
        xp = array_namespace(self.X)
        _, groups, d = self.shape
        out = xp.zeros((groups, d), dtype=self.X.dtype, device=device(self.X))
        for rows, parts in self._tiles():
            X = xp.matrix_transpose(Z[rows, None] * self.X[rows, :])
            for part in parts:
                out[part, :] += xp.matrix_transpose(X @ xp.matrix_transpose(self._mask(part, rows)))
        return out if self.signs is None else out * self.signs[:, None]

    def take(self, groups: np.ndarray) -> Masked:
        """The operator of some of the groups, given by their indices."""
        signs = None if self.signs is None else self.signs[groups]
        taken = Masked(self.X, self.bits[groups], signs, self.chunk, self.slope)
        if self._small is not None:
            object.__setattr__(taken, "_small", self._small[groups])
        return taken

    def norm_bound(self) -> float:
        """``sqrt(max_i sum_g d_gi^2) ||X||_2``, from A A* = (D D') o (X X')."""
        xp = array_namespace(self.X)
        if self.shape[1] == 0 or self.X.shape[1] == 0:
            return 0.0
        count = 0.0
        for rows, parts in self._tiles():
            sums = [xp.sum(self._mask(part, rows) ** 2, axis=0) for part in parts]
            count = max(count, float(xp.max(sum(sums[1:], start=sums[0]))))
        return count**0.5 * float(np.linalg.norm(to_numpy(self.X), 2))

    def dense(self) -> np.ndarray:
        n, groups, d = self.shape
        masks = to_numpy(self._mask(slice(0, groups)))
        if self.signs is not None:
            masks = masks * to_numpy(self.signs)[:, None]
        return np.einsum("gn,nd->ngd", masks, to_numpy(self.X)).reshape(n, groups * d)

    def masks(self) -> np.ndarray:
        """The patterns as booleans in NumPy, shape (groups, n)."""
        bits = to_numpy(self.bits, dtype=np.uint8)
        return np.unpackbits(bits, axis=1, count=self.X.shape[0]).astype(bool)

    def passed(self) -> np.ndarray:
        """What the signed patterns pass on in NumPy, shape (groups, n)."""
        values = self.masks() if not self.slope else np.where(self.masks(), 1.0, self.slope)
        return values if self.signs is None else values * to_numpy(self.signs)[:, None]


@dataclass(frozen=True, eq=False)
class Pooled(Operator):
    """An operator on the patches of every sample, whose predictions on them are added up.

    With ``A`` on the stacked patches, (n * pool, d), it is ``P A``, where P adds up `pool` rows of each
    sample; its adjoint repeats a dual variable for all patches.

    Parameters
    ----------
    stacked : Masked
        Its X has the `pool` rows of each sample one after the other.
    pool : int
    """

    stacked: Masked
    pool: int

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, groups, d = self.stacked.shape
        return rows // self.pool, groups, d

    def apply(self, W: Array) -> Array:
        xp = array_namespace(W)
        return xp.sum(xp.reshape(self.stacked.apply(W), (-1, self.pool)), axis=1)

    def adjoint(self, Z: Array) -> Array:
        xp = array_namespace(Z)
        return self.stacked.adjoint(xp.repeat(Z, self.pool))

    def norm_bound(self) -> float:
        """``sqrt(pool) ||A||``: each row of P has `pool` ones."""
        return self.pool**0.5 * self.stacked.norm_bound()

    def dense(self) -> np.ndarray:
        rows = self.stacked.dense()
        return rows.reshape(-1, self.pool, rows.shape[1]).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """A matrix that is small enough to be written out; with a column a group the operator of a Lasso.

    Parameters
    ----------
    matrix : ndarray of shape (n, groups * d)
        NumPy only.
    groups : int or None
        None: a group for every column.
    """

    matrix: np.ndarray
    groups: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        n, columns = self.matrix.shape
        groups = columns if self.groups is None else self.groups
        return n, groups, 1 if self.groups is None else columns // max(1, groups)

    def apply(self, W: Array) -> Array:
        return self.matrix @ to_numpy(W).reshape(-1)

    def adjoint(self, Z: Array) -> Array:
        return (self.matrix.T @ to_numpy(Z)).reshape(self.shape[1:])

    def norm_bound(self) -> float:
        A = self.matrix
        if A.size <= SMALL_MATRIX:
            return float(np.linalg.norm(A, 2)) * (1.0 + 1e-12) if A.size else 0.0
        # the norm of a matrix is at most the root of the product of its largest row and column sums
        across, down = (np.max(np.sum(np.abs(A), axis=k), initial=0.0) for k in (1, 0))
        return min(float(np.sqrt(across * down)), float(np.linalg.norm(A)))

    def dense(self) -> np.ndarray:
        return self.matrix


@dataclass(frozen=True, eq=False)
class Stacked(Operator):
    """Groups made of several groups of another operator, their weights one after the other.

    Parameters
    ----------
    single : Operator
        Of ``parts`` times as many groups.
    parts : int
    """

    single: Operator
    parts: int

    @property
    def shape(self) -> tuple[int, int, int]:
        n, groups, d = self.single.shape
        return n, groups // self.parts, d * self.parts

    def apply(self, W: Array) -> Array:
        return self.single.apply(W.reshape(self.single.shape[1:]))

    def adjoint(self, Z: Array) -> Array:
        return self.single.adjoint(Z).reshape(self.shape[1:])

    def norm_bound(self) -> float:
        return self.single.norm_bound()

    def dense(self) -> np.ndarray:
        return self.single.dense()


@cache
def _octets(dtype: np.dtype[Any]) -> np.ndarray:
    """The eight bits of every byte as numbers, (256,) opaque items of eight entries each."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(dtype)
    return bits.view(np.dtype((np.void, 8 * dtype.itemsize)))[:, 0]


def spread(bits: np.ndarray, n: int, dtype: Any) -> np.ndarray:
    """Unpack rows of bits (k, ceil(n / 8)) into zeros and ones (k, n) of a floating dtype.

    One table look-up writes eight numbers; unpacking to bytes first and converting takes twice as long.
    """
    numbers = np.take(_octets(np.dtype(dtype)), bits, mode="clip")
    return numbers.view(dtype)[:, :n]
