r"""The geometry of convolutions: which inputs every window of a signal or an image sees.

A convolution applies one linear map to every window of its input. With the windows of all samples as rows,
the *patches*, it is a matrix product: ``X_k W`` at position k, ``X_k`` of shape (n, patch). This module
knows the way from flat inputs to patches and back, and nothing else about networks.

Inputs are flat rows (n, h * w * c), row by row of the image, channels last (NumPy's order of an array of
shape (n, h, w, c)); a signal of some length is an image of width one. A patch is flattened in the same
order, and so are positions: the output of a convolution with m filters is the flat image (h', w', m). With
zero padding a window may reach over the border, where it sees zeros; with circular padding it
sees the other side, and there are as many positions as pixels (at stride one).

Reference: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016 (sizes).
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from array_api_compat import is_numpy_array

from .arrays import Array, array_namespace, asarray_like, to_numpy

#: Numbers that describe a geometry in a file.
FIELDS = 10


@dataclass(frozen=True)
class Windows:
    """The windows of a convolution or of a pooling.

    Parameters
    ----------
    shape : (int, int, int)
        Height, width and channels of the input; signals have width 1.
    kernel : (int, int)
        Height and width of a window.
    stride : (int, int), default=(1, 1)
    padding : (int, int), default=(0, 0)
        Rows and columns of zeros on each side; none where the padding is circular.
    circular : bool, default=False
        Whether windows go on at the opposite border.

    Raises
    ------
    ValueError
        If a size is not positive, or the window does not fit.
    """

    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    circular: bool = False

    def __post_init__(self) -> None:
        for name, size, count, least in (
            ("shape", self.shape, 3, 0),  # of a network without filters there are no channels
            ("kernel", self.kernel, 2, 1),
            ("stride", self.stride, 2, 1),
            ("padding", self.padding, 2, 0),
        ):
            whole = all(isinstance(v, numbers.Integral) and not isinstance(v, bool) for v in size)
            if len(size) != count or not whole or min(size) < least:
                raise ValueError(f"{name}={size!r}: pass {count} integers of at least {least}")
        if min(self.shape[:2]) < 1:
            raise ValueError(f"shape={self.shape!r}: pass a height and a width of at least 1")
        if self.circular and any(self.padding):
            raise ValueError(f"padding={self.padding} beside a circular one: pass 0")
        for axis in range(2):
            room = self.shape[axis] + (0 if self.circular else 2 * self.padding[axis])
            if self.kernel[axis] > room:
                raise ValueError(
                    f"a window of {self.kernel[0]} x {self.kernel[1]} does not fit an input of "
                    f"{self.shape[0]} x {self.shape[1]}: pass a smaller kernel, or padding"
                )
            if self.padding[axis] >= self.kernel[axis]:
                raise ValueError(f"padding={self.padding} hides whole windows: pass less than the kernel")

    @property
    def inputs(self) -> int:
        """The length of a flat input."""
        return math.prod(self.shape)

    @property
    def patch(self) -> int:
        """The length of a patch: kernel height * kernel width * channels."""
        return self.kernel[0] * self.kernel[1] * self.shape[2]

    @property
    def out(self) -> tuple[int, int]:
        """How many windows there are along height and width."""
        if self.circular:
            return (-(-self.shape[0] // self.stride[0]), -(-self.shape[1] // self.stride[1]))
        rows, columns = (
            (self.shape[a] + 2 * self.padding[a] - self.kernel[a]) // self.stride[a] + 1 for a in range(2)
        )
        return rows, columns

    @property
    def positions(self) -> int:
        """How many windows there are, K."""
        return self.out[0] * self.out[1]

    def index(self) -> np.ndarray:
        """The inputs that every window sees, (K, patch); -1 is a padded zero."""
        return _index(self)

    def patches(self, X: Array) -> Array:
        """The patches of flat inputs ``X`` (n, inputs), shape (n, K, patch), in the library of X.

        Raises
        ------
        ValueError
            If the inputs have another length.
        """
        self.check(X)
        xp, index = array_namespace(X), self.index()
        if any(self.padding):
            X = xp.concat([X, xp.zeros_like(X[:, :1])], axis=1)  # what -1 points to
        if not is_numpy_array(X):  # not every library counts from the end
            index = index % X.shape[1]
        # fifty times faster than indexing, and already in order
        taken = xp.take(X, asarray_like(np.ravel(index), X, keep_dtype=True), axis=1)
        return xp.reshape(taken, (X.shape[0], *index.shape))

    def adjoint(self, P: np.ndarray) -> np.ndarray:
        """Add up patches ``P`` (n, K, patch) where they came from, shape (n, inputs).

        ``sum(P * patches(X)) == sum(adjoint(P) * X)`` for all X and P.
        """
        X = np.zeros((self.inputs + 1, len(P)))
        np.add.at(X, self.index(), np.moveaxis(P, 0, -1))
        return np.ascontiguousarray(X[:-1].T)

    def check(self, X: np.ndarray) -> None:
        """Raise ValueError unless ``X`` has rows of the length that the shape says."""
        if X.ndim != 2 or X.shape[1] != self.inputs:
            raise ValueError(
                f"inputs of shape {X.shape} are not flat images of {self.shape}: pass {self.inputs} columns"
            )

    def to_array(self) -> np.ndarray:
        """All sizes as floats, (10,), for files."""
        parts = (*self.shape, *self.kernel, *self.stride, *self.padding, self.circular)
        return np.array(parts, dtype=np.float64)

    @classmethod
    def from_array(cls, numbers: np.ndarray) -> Windows:
        """Read what :meth:`to_array` wrote.

        Raises
        ------
        ValueError
            If these are not the sizes of windows.
        """
        values = np.ravel(numbers)
        if len(values) != FIELDS or np.any(values != np.round(values)):
            raise ValueError(f"geometry={numbers!r}: pass Windows(...).to_array()")
        size = [int(v) for v in values]
        return cls(
            (size[0], size[1], size[2]),
            (size[3], size[4]),
            (size[5], size[6]),
            (size[7], size[8]),
            bool(size[9]),
        )


@lru_cache(maxsize=64)
def _index(windows: Windows) -> np.ndarray:
    """See :meth:`Windows.index`; the same array every time, not to be written to."""
    height, width, channels = windows.shape
    at = []
    for axis, size in enumerate((height, width)):
        first = np.arange(windows.out[axis]) * windows.stride[axis] - windows.padding[axis]
        places = first[:, None] + np.arange(windows.kernel[axis])
        inside = (places >= 0) & (places < size)
        at.append(places % size if windows.circular else np.where(inside, places, -1))
    rows, columns = at[0][:, None, :, None], at[1][None, :, None, :]
    pixel = np.where((rows < 0) | (columns < 0), -1, rows * width + columns)
    index = np.where(pixel[..., None] < 0, -1, pixel[..., None] * channels + np.arange(channels))
    index = index.reshape(windows.positions, windows.patch)
    index.flags.writeable = False
    return index


def image_shape(shape: Any) -> tuple[int, int, int]:
    """Read the shape of an input as (height, width, channels).

    Parameters
    ----------
    shape : int, (length,), (h, w) or (h, w, c)
        A signal of one channel, or an image.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    sizes = (shape,) if isinstance(shape, numbers.Integral) else tuple(np.ravel(shape).tolist())
    if not 1 <= len(sizes) <= 3 or any(v != int(v) or v < 1 for v in sizes):
        raise ValueError(
            f"input_shape={shape!r}: pass (length,), (height, width) or (height, width, channels)"
        )
    height, width, channels = (*(int(v) for v in sizes), 1, 1)[:3]
    return height, width, channels


def pair(name: str, value: Any) -> tuple[int, int]:
    """Read one size as the same along both axes; two sizes as they are.

    Raises
    ------
    ValueError
        If it is neither.
    """
    sizes = (value, value) if isinstance(value, numbers.Integral) else tuple(np.ravel(value).tolist())
    if len(sizes) != 2 or isinstance(value, bool) or any(v != int(v) for v in sizes):
        raise ValueError(f"{name}={value!r}: pass an integer or two, for height and width")
    return int(sizes[0]), int(sizes[1])


def flat_samples(X: Any) -> tuple[Any, tuple[int, ...] | None]:
    """Make rows of samples that are arrays themselves.

    Parameters
    ----------
    X : array-like of shape (n, ...)

    Returns
    -------
    X : the same, or an ndarray of shape (n, entries)
    shape : tuple of int, or None
        Of a sample, where it was no row.
    """
    if isinstance(X, list | tuple):
        X = np.asarray(X) if X and np.ndim(X[0]) > 1 else X
    if getattr(X, "ndim", 2) <= 2:
        return X, None
    X = to_numpy(X)
    if len(X) == 0:
        raise ValueError(f"X has shape {X.shape}: pass at least one sample")
    return X.reshape(len(X), -1), X.shape[1:]


def rows_for(X: Any, layers: Any) -> Any:
    """Make rows of samples for a network's layers, as :func:`flat_samples`.

    Raises
    ------
    ValueError
        If a sample has not the shape that the first layer, a convolution, was made for. Two sizes are an
        image of one channel or a signal of several; rows may be anything.
    """
    X, shape = flat_samples(X)
    windows = getattr(layers[0], "windows", None)
    if shape is None or windows is None:
        return X
    meant = {(*shape, 1, 1)[:3]} | ({(shape[0], 1, shape[1])} if len(shape) == 2 else set())
    if len(shape) > 3 or windows.shape not in meant:
        raise ValueError(
            f"samples have shape {shape}, and the network was trained on (height, width, channels) = "
            f"{windows.shape}: pass such arrays, or rows"
        )
    return X


def pooled(rows: np.ndarray, pool: int) -> np.ndarray:
    """Add up every `pool` rows of an array, shape (n * pool, ...) to (n, ...)."""
    if pool == 1:
        return rows
    return np.asarray(rows.reshape(len(rows) // pool, pool, *rows.shape[1:]).sum(axis=1))


def spread(samples: np.ndarray, pool: int) -> np.ndarray:
    """Repeat every entry `pool` times, shape (n, ...) to (n * pool, ...): the adjoint of :func:`pooled`."""
    return np.repeat(samples, pool, axis=0) if pool > 1 else samples


def unfolded(samples: np.ndarray, windows: int) -> np.ndarray:
    """Give windows outputs of their own, shape (n, outputs) to (n * windows, windows * outputs).

    Row p of a sample has its entries in the columns of window p, and zeros elsewhere.
    """
    n, outputs = samples.shape
    if windows == 1:
        return samples
    out, at = np.zeros((n, windows, windows, outputs), dtype=samples.dtype), np.arange(windows)
    out[:, at, at] = samples[:, None, :]
    return out.reshape(n * windows, windows * outputs)


def folded(rows: np.ndarray, windows: int) -> np.ndarray:
    """Add up what every window has in its own columns: the adjoint of :func:`unfolded`."""
    if windows == 1:
        return rows
    parts = rows.reshape(len(rows) // windows, windows, windows, rows.shape[1] // windows)
    return np.asarray(np.einsum("ippc->ic", parts))
