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
class SkipReLU:
    """``x -> max(x, 0)`` on all coordinates but the last `linear` ones, which pass as they are.

    A layer of ReLU neurons with linear ones beside them: the skip connection of a two-layer network.
    """

    linear: np.ndarray | int

    @property
    def passed(self) -> int:
        """The number of linear coordinates."""
        return int(np.ravel(self.linear)[0])

    def __call__(self, X: np.ndarray) -> np.ndarray:
        out, first = np.maximum(X, 0.0), X.shape[1] - self.passed
        out[:, first:] = X[:, first:]
        return out


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


Activation = ReLU | LeakyReLU | Absolute | Threshold | SkipReLU
Layer = Affine | Activation | Gated
#: The closed vocabulary, by the name used in files.
LAYERS: dict[str, type] = {
    kind.__name__: kind for kind in (Affine, ReLU, LeakyReLU, Absolute, Threshold, SkipReLU, Gated)
}
