"""The closed vocabulary of layers that explicit networks are made of.

Architectures decode into these layers and into nothing else, so everything that reads a network (the
certificate, saving, the exporters) knows every case. A layer is a frozen dataclass whose fields are arrays
(or numbers), which :meth:`cvxnn.network.Network.save` writes, and whose call maps inputs (n, inputs) to
outputs (n, units) in float64. A layer that can stand first says the number of its inputs as `inputs`.

Reference: Mishkin, Sahiner and Pilanci, ICML 2022, for the gated unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Affine:
    """``x -> W' x + b`` with ``weight`` (inputs, outputs) and ``bias`` (outputs,)."""

    weight: np.ndarray
    bias: np.ndarray

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[0])

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return X @ self.weight + self.bias


@dataclass(frozen=True, eq=False)
class ReLU:
    """``x -> max(x, 0)``, coordinate by coordinate."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return np.maximum(X, 0.0)


@dataclass(frozen=True, eq=False)
class LeakyReLU:
    """``x -> x`` where ``x > 0``, else ``slope * x``; `slope` is one number, (1,) or a float."""

    slope: np.ndarray | float

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return np.where(X > 0.0, X, self.slope * X)


@dataclass(frozen=True, eq=False)
class Absolute:
    """``x -> |x|``, coordinate by coordinate."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return np.abs(X)


@dataclass(frozen=True, eq=False)
class Threshold:
    """``x -> 1[x >= 0]``, coordinate by coordinate; at zero it is one."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (X >= 0.0).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Polynomial:
    """``x -> quadratic * x^2 + linear * x + constant``, coordinate by coordinate; each one number, (1,)
    or a float."""

    quadratic: np.ndarray | float
    linear: np.ndarray | float
    constant: np.ndarray | float

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (self.quadratic * X + self.linear) * X + self.constant


@dataclass(frozen=True, eq=False)
class Product:
    """``x -> x_j * x_(m + j)``: the products of the first half of 2m coordinates with the second."""

    def __call__(self, X: np.ndarray) -> np.ndarray:
        half = X.shape[1] // 2
        return X[:, :half] * X[:, half:]


@dataclass(frozen=True, eq=False)
class Gated:
    """``x -> 1[G' x + h >= 0] * (W' x + b)``; all weights (inputs, units), biases (units,)."""

    gates: np.ndarray
    gate_bias: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[0])

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return (X @ self.gates + self.gate_bias >= 0) * (X @ self.weight + self.bias)


Activation = ReLU | LeakyReLU | Absolute | Threshold | Polynomial
Layer = Affine | Activation | Product | Gated
#: The closed vocabulary, by the name used in files.
LAYERS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Affine, ReLU, LeakyReLU, Absolute, Threshold, Polynomial, Product, Gated)
}
