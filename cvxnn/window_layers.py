"""Layers that do the same to every window of an image: convolutions, gated ones, and pooling.

Inputs and outputs are flat images, row by row with channels last, so that these layers follow one
another, and dense ones, without reshaping. A layer keeps the geometry of its windows
(:class:`cvxnn.patches.Windows`) as an array, as files hold it; all windows together are the rows of one
matrix of patches, which every call multiplies once.

Reference: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Array, array_namespace
from .layer_shapes import check_inputs, check_shapes, matrix_shape
from .patches import Windows

#: What a pooling takes of its window, by the number that stands for it in files.
POOLINGS = ("sum", "mean", "max")


class Windowed:
    """What layers on the windows of images share: their geometry, and the inputs it takes."""

    geometry: np.ndarray

    @property
    def windows(self) -> Windows:
        """The geometry."""
        return Windows.from_array(self.geometry)

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return self.windows.inputs

    def channels(self) -> int:
        """The number of outputs of every window."""
        rows, filters = matrix_shape(self)
        if rows != self.windows.patch:
            raise ValueError(
                f"{type(self).__name__} has filters of {rows} numbers on patches of {self.windows.patch}"
            )
        return filters

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        check_inputs(self, inputs, self.inputs)
        return self.windows.positions * self.channels()


@dataclass(frozen=True, eq=False)
class Conv(Windowed):
    """The same affine map of every window: flat images (h, w, c) to flat images (h', w', filters).

    Parameters
    ----------
    weight : ndarray of shape (patch, filters)
        A patch is flattened row by row, channels last.
    bias : ndarray of shape (filters,)
    geometry : ndarray of shape (10,)
        Of :meth:`cvxnn.patches.Windows.to_array`.
    """

    weight: np.ndarray
    bias: np.ndarray
    geometry: np.ndarray

    def channels(self) -> int:
        """The number of filters."""
        filters = super().channels()
        check_shapes(self, {"bias": (filters,)})
        return filters

    def __call__(self, X: np.ndarray) -> np.ndarray:
        T = self.windows.patches(X) @ self.weight + self.bias
        return T.reshape(len(X), T.shape[1] * T.shape[2])


@dataclass(frozen=True, eq=False)
class GatedConv(Windowed):
    """``1[G' x + h >= 0] * (W' x + b)`` of every window x.

    Flat images (h, w, c) become flat images (h', w', filters), as in :class:`Conv`.

    Parameters
    ----------
    gates : ndarray of shape (patch, filters)
        G.
    gate_bias : ndarray of shape (filters,)
        h.
    weight : ndarray of shape (patch, filters)
        W.
    bias : ndarray of shape (filters,)
        b.
    geometry : ndarray
        As of :class:`Conv`.
    """

    gates: np.ndarray
    gate_bias: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    geometry: np.ndarray

    def channels(self) -> int:
        """The number of filters."""
        filters, shape = super().channels(), self.weight.shape
        check_shapes(self, {"gates": shape, "gate_bias": (filters,), "bias": (filters,)})
        return filters

    def __call__(self, X: np.ndarray) -> np.ndarray:
        P = self.windows.patches(X)
        passed, inner = P @ self.weight, P @ self.gates  # in place from here: these are large
        passed += self.bias
        inner += self.gate_bias
        passed *= inner >= 0
        return passed.reshape(len(X), passed.shape[1] * passed.shape[2])


@dataclass(frozen=True, eq=False)
class Pool(Windowed):
    """The sum, mean or maximum of every window, channel by channel.

    Flat images (h, w, c) become flat images (h', w', c): positions row by row, channels last. Zero padding
    counts in a mean, and as a zero in a maximum.

    Parameters
    ----------
    kind : ndarray of shape (1,), or float
        0 for the sum, 1 for the mean, 2 for the maximum; see ``cvxnn.window_layers.POOLINGS``.
    geometry : ndarray of shape (10,)
        Of :meth:`cvxnn.patches.Windows.to_array`.
    """

    kind: np.ndarray | float
    geometry: np.ndarray

    @classmethod
    def of(cls, kind: str, windows: Windows) -> Pool:
        """Return the pooling of a name over some windows.

        Parameters
        ----------
        kind : {"sum", "mean", "max"}
        windows : Windows

        Returns
        -------
        Pool

        Raises
        ------
        ValueError
            If there is no pooling of this name.
        """
        if kind not in POOLINGS:
            raise ValueError(f"pooling={kind!r} is unknown: pass 'sum', 'mean' or 'max'")
        return cls(np.array([float(POOLINGS.index(kind))]), windows.to_array())

    @property
    def name(self) -> str:
        """The name of the kind of pooling."""
        return POOLINGS[int(np.ravel(self.kind)[0])]

    def channels(self) -> int:
        """The number of channels, which stays."""
        if np.size(self.kind) != 1 or float(np.ravel(self.kind)[0]) not in range(len(POOLINGS)):
            raise ValueError(f"Pool has the kind {np.ravel(self.kind)}: 0, 1 and 2 are known")
        return self.windows.shape[2]

    def __call__(self, X: Array) -> Array:
        windows, xp = self.windows, array_namespace(X)
        size, channels = windows.kernel[0] * windows.kernel[1], windows.shape[2]
        parts = xp.reshape(windows.patches(X), (len(X), windows.positions, size, channels))
        taken = xp.max(parts, axis=2) if self.name == "max" else xp.sum(parts, axis=2)
        taken = taken / size if self.name == "mean" else taken
        return xp.reshape(taken, (len(X), windows.positions * channels))
