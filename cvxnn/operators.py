"""Linear maps from groups of weights to predictions.

In the convex program of a ReLU or gated network every group g sees the same data X through its own
0/1 pattern d_g, so the predictions are

    A(W) = sum_g sigma_g D_g X W_g,     D_g = diag(d_g),  sigma_g = +1 or -1,

and the adjoint is ``(A* Z)_g = sigma_g X' D_g Z``. The dictionary [D_1 X ... D_P X] has n * P * d
entries and is never formed: both maps are one matrix product and one mask, taken over chunks of
groups, with the patterns stored one bit per sample.

Reference: Mishkin, Sahiner and Pilanci, ICML 2022, section 5; Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .arrays import Array, array_namespace, asarray_like, to_numpy, unpack


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
        Groups per product; 0 chooses so that a chunk of predictions stays near 32 MB.
    """

    X: Array
    bits: Array
    signs: Array | None = None
    chunk: int = 0

    @classmethod
    def from_numpy(cls, X: Array, bits: np.ndarray, signs: np.ndarray | None = None) -> Masked:
        """Build from NumPy patterns and data of any library, moving the patterns to the data."""
        moved = asarray_like(np.asarray(bits, dtype=np.uint8), X, keep_dtype=True)
        return cls(X, moved, None if signs is None else asarray_like(signs, X))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.X.shape[0], self.bits.shape[0], self.X.shape[1]

    def _chunks(self) -> Iterator[slice]:
        n, groups, _ = self.shape
        size = self.chunk or max(1, (1 << 22) // max(n, 1))
        for start in range(0, groups, size):
            yield slice(start, min(start + size, groups))

    def _mask(self, part: slice) -> Array:
        """The signed patterns of some groups, shape (part, n), in the dtype of X."""
        mask = unpack(self.bits[part, :], self.X.shape[0], self.X)
        return mask if self.signs is None else mask * self.signs[part, None]

    def apply(self, W: Array) -> Array:
        xp = array_namespace(self.X)
        out = xp.zeros_like(self.X[:, 0])
        for part in self._chunks():
            # vecdot reduces the mask without a second array of the size of the chunk; the standard
            # only allows its last axes
            mask = xp.matrix_transpose(self._mask(part))
            out = out + xp.vecdot(mask, self.X @ xp.matrix_transpose(W[part, :]))
        return out

    def adjoint(self, Z: Array) -> Array:
        xp = array_namespace(self.X)
        parts = [(self._mask(part) * Z[None, :]) @ self.X for part in self._chunks()]
        return xp.concat(parts, axis=0) if parts else xp.zeros_like(self.X[:0, :])

    def norm_bound(self) -> float:
        """``sqrt(max_i #{g : d_gi = 1}) ||X||_2``, from A A* = (D D') o (X X')."""
        xp = array_namespace(self.X)
        count = xp.zeros_like(self.X[:, 0])
        for part in self._chunks():
            count = count + xp.sum(unpack(self.bits[part, :], self.X.shape[0], self.X), axis=0)
        if self.shape[1] == 0 or self.X.shape[1] == 0:
            return 0.0
        return float(xp.max(count)) ** 0.5 * float(np.linalg.norm(to_numpy(self.X), 2))

    def dense(self) -> np.ndarray:
        n, groups, d = self.shape
        masks = to_numpy(self._mask(slice(0, groups)))
        return np.einsum("gn,nd->ngd", masks, to_numpy(self.X)).reshape(n, groups * d)

    def masks(self) -> np.ndarray:
        """The patterns as booleans in NumPy, shape (groups, n)."""
        bits = to_numpy(self.bits, dtype=np.uint8)
        return np.unpackbits(bits, axis=1, count=self.X.shape[0]).astype(bool)
