"""The closed vocabulary of layers that explicit networks are made of.

Architectures decode into these layers and into nothing else, so everything that reads a network (the
certificate, saving, the exporters) knows every case. A layer is a frozen dataclass whose fields are arrays
(or numbers), which :meth:`cvxnn.Network.save` writes, and whose call maps inputs (n, inputs) to
outputs (n, units) in float64. A layer that can stand first says the number of its inputs as `inputs`. Every
layer says with ``units(inputs)`` how many outputs it has for so many inputs, from shapes alone, so that a
file that lies about them is refused before anything is computed.

Reference: Mishkin, Sahiner and Pilanci, ICML 2022, for the gated unit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .arrays import Array, array_namespace
from .patches import Windows

#: What a pooling takes of its window, by the number that stands for it in files.
POOLINGS = ("sum", "mean", "max")


def _fit(layer: Any, wanted: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless the fields of a layer have these shapes."""
    for name, shape in wanted.items():
        found = np.shape(getattr(layer, name))
        if found != shape:
            raise ValueError(f"{type(layer).__name__} has {name} of shape {found}, and needs {shape}")


def _matrix(layer: Any) -> tuple[int, int]:
    """The shape of the weights of a layer, which must be a matrix."""
    if np.ndim(layer.weight) != 2:
        raise ValueError(f"{type(layer).__name__} has weights of shape {np.shape(layer.weight)}, no matrix")
    return int(layer.weight.shape[0]), int(layer.weight.shape[1])


def _takes(layer: Any, inputs: int, wanted: int) -> None:
    """Raise ValueError unless a layer is given as many inputs as it takes."""
    if inputs != wanted:
        raise ValueError(f"{type(layer).__name__} takes {wanted} inputs, and is given {inputs}")


class Pointwise:
    """What activations share: every number is mapped by itself; parameters are single numbers."""

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        for part in fields(self):  # type: ignore[arg-type]
            if np.size(getattr(self, part.name)) != 1:
                raise ValueError(f"{type(self).__name__} has a {part.name} that is not one number")
        return inputs


@dataclass(frozen=True, eq=False)
class Affine:
    """``x -> W' x + b``.

    Parameters
    ----------
    weight : ndarray of shape (inputs, outputs)
    bias : ndarray of shape (outputs,)
    """

    weight: np.ndarray
    bias: np.ndarray

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[0])

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        rows, units = _matrix(self)
        _takes(self, inputs, rows)
        _fit(self, {"bias": (units,)})
        return units

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return X @ self.weight + self.bias


@dataclass(frozen=True, eq=False)
class ReLU(Pointwise):
    """``x -> max(x, 0)``, coordinate by coordinate."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return np.maximum(X, 0.0)


@dataclass(frozen=True, eq=False)
class LeakyReLU(Pointwise):
    """``x -> x`` where ``x > 0``, else ``slope * x``.

    Parameters
    ----------
    slope : float, or ndarray of shape (1,)
    """

    slope: np.ndarray | float

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return np.where(X > 0.0, X, self.slope * X)


@dataclass(frozen=True, eq=False)
class Absolute(Pointwise):
    """``x -> |x|``, coordinate by coordinate."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return np.abs(X)


@dataclass(frozen=True, eq=False)
class Threshold(Pointwise):
    """``x -> 1[x >= 0]``, coordinate by coordinate; at zero it is one."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (X >= 0.0).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Polynomial(Pointwise):
    """``x -> quadratic * x^2 + linear * x + constant``, coordinate by coordinate.

    Parameters
    ----------
    quadratic, linear, constant : float, or ndarray of shape (1,)
    """

    quadratic: np.ndarray | float
    linear: np.ndarray | float
    constant: np.ndarray | float

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (self.quadratic * X + self.linear) * X + self.constant


@dataclass(frozen=True, eq=False)
class Product:
    """``x -> x_j * x_(m + j)``: the products of the first half of 2m coordinates with the second."""

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        _takes(self, inputs, 2 * (inputs // 2))
        return inputs // 2

    def __call__(self, X: np.ndarray) -> np.ndarray:
        half = X.shape[1] // 2
        return X[:, :half] * X[:, half:]


@dataclass(frozen=True, eq=False)
class SkipReLU:
    """``x -> max(x, 0)`` on all coordinates but the last ones, which pass as they are.

    A layer of ReLU neurons with linear ones beside them: the skip connection of a two-layer network.

    Parameters
    ----------
    linear : int, or ndarray of shape (1,)
        The number of coordinates that pass.
    """

    linear: np.ndarray | int

    @property
    def passed(self) -> int:
        """The number of linear coordinates."""
        return int(np.ravel(self.linear)[0])

    @property
    def bent(self) -> ReLU | LeakyReLU | Absolute:
        """The activation of the other coordinates."""
        return ReLU()

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        if np.size(self.linear) != 1 or not 0 <= self.passed <= inputs:
            raise ValueError(
                f"{type(self).__name__} passes {np.ravel(self.linear)} of {inputs} coordinates"
            )
        return inputs

    def __call__(self, X: np.ndarray) -> np.ndarray:
        out, first = self.bent(X), X.shape[1] - self.passed
        out[:, first:] = X[:, first:]
        return out


@dataclass(frozen=True, eq=False)
class SkipLeakyReLU(SkipReLU):
    """``x -> max(x, slope * x)`` on all coordinates but the last ones, which pass as they are.

    With the slope -1 these are absolute values.

    Parameters
    ----------
    linear : int, or ndarray of shape (1,)
        The number of coordinates that pass.
    slope : float, or ndarray of shape (1,)
        At most 1.
    """

    slope: np.ndarray | float

    @property
    def bent(self) -> ReLU | LeakyReLU | Absolute:
        """The activation of the other coordinates."""
        slope = float(np.ravel(self.slope)[0])
        return Absolute() if slope == -1.0 else LeakyReLU(slope)

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        if np.size(self.slope) != 1:
            raise ValueError("SkipLeakyReLU has a slope that is not one number")
        return super().units(inputs)


@dataclass(frozen=True, eq=False)
class Gated:
    """``x -> 1[G' x + h >= 0] * (W' x + b)``.

    Parameters
    ----------
    gates : ndarray of shape (inputs, units)
        G.
    gate_bias : ndarray of shape (units,)
        h.
    weight : ndarray of shape (inputs, units)
        W.
    bias : ndarray of shape (units,)
        b.
    """

    gates: np.ndarray
    gate_bias: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[0])

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        rows, units = _matrix(self)
        _takes(self, inputs, rows)
        _fit(self, {"gates": (rows, units), "gate_bias": (units,), "bias": (units,)})
        return units

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (X @ self.gates + self.gate_bias >= 0) * (X @ self.weight + self.bias)


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
        rows, filters = _matrix(self)
        if rows != self.windows.patch:
            raise ValueError(
                f"{type(self).__name__} has filters of {rows} numbers on patches of {self.windows.patch}"
            )
        return filters

    def units(self, inputs: int) -> int:
        """The number of outputs for so many inputs."""
        _takes(self, inputs, self.inputs)
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
        _fit(self, {"bias": (filters,)})
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
        _fit(self, {"gates": shape, "gate_bias": (filters,), "bias": (filters,)})
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
        0 for the sum, 1 for the mean, 2 for the maximum; see ``cvxnn.layers.POOLINGS``.
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


Activation = ReLU | LeakyReLU | Absolute | Threshold | Polynomial | SkipReLU
Layer = Affine | Activation | Product | Gated | Conv | GatedConv | Pool
#: The closed vocabulary, by the name used in files.
LAYERS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Affine,
        ReLU,
        LeakyReLU,
        Absolute,
        Threshold,
        Polynomial,
        SkipReLU,
        SkipLeakyReLU,
        Product,
        Gated,
        Conv,
        GatedConv,
        Pool,
    )
}
