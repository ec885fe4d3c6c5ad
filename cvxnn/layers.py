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

import numpy as np

from .layer_shapes import check_inputs, check_shapes, matrix_shape
from .window_layers import Conv, GatedConv, Pool


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
        rows, units = matrix_shape(self)
        check_inputs(self, inputs, rows)
        check_shapes(self, {"bias": (units,)})
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
        check_inputs(self, inputs, 2 * (inputs // 2))
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
class SkipThreshold(SkipReLU):
    """``x -> 1[x >= 0]`` on all coordinates but the last ones, which pass as they are.

    Parameters
    ----------
    linear : int, or ndarray of shape (1,)
        The number of coordinates that pass.
    """

    @property
    def bent(self) -> Threshold:  # type: ignore[override]
        """The activation of the other coordinates."""
        return Threshold()


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
        rows, units = matrix_shape(self)
        check_inputs(self, inputs, rows)
        check_shapes(self, {"gates": (rows, units), "gate_bias": (units,), "bias": (units,)})
        return units

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (X @ self.gates + self.gate_bias >= 0) * (X @ self.weight + self.bias)


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
        SkipThreshold,
        Product,
        Gated,
        Conv,
        GatedConv,
        Pool,
    )
}
