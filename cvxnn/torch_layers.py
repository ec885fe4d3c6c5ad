"""The layers of :mod:`cvxnn.layers` that torch has not, as modules: weights are parameters, gates buffers.

Everything that training may move is a parameter; gates, which stay in gated networks, are buffers, so that
they are saved with the module and follow it to a device. Inputs and outputs are flat rows, as in this
package: images (height, width, channels) row by row. This file imports torch, and
:mod:`cvxnn.exporters.torch` imports this file when a module is asked for.

Reference: the documentation of PyTorch for its own conventions (linear weights (outputs, inputs), images
with channels first).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from . import layers
from .patches import Windows


class Absolute(nn.Module):
    """``x -> |x|``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.abs(x)


class Threshold(nn.Module):
    """``x -> 1[x >= 0]``; its derivative is zero, so gradients end here."""

    def forward(self, x: Tensor) -> Tensor:
        return (x >= 0).to(x.dtype)


class Polynomial(nn.Module):
    """``x -> quadratic * x^2 + linear * x + constant`` with fixed coefficients."""

    def __init__(self, quadratic: float, linear: float, constant: float) -> None:
        super().__init__()
        self.quadratic, self.linear, self.constant = quadratic, linear, constant

    def forward(self, x: Tensor) -> Tensor:
        return (self.quadratic * x + self.linear) * x + self.constant

    def extra_repr(self) -> str:
        return f"{self.quadratic:g}, {self.linear:g}, {self.constant:g}"


class Product(nn.Module):
    """The products of the first half of the coordinates with the second."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class SkipReLU(nn.Module):
    """``x -> max(x, slope * x)`` on all coordinates but the last `linear` ones."""

    def __init__(self, linear: int, slope: float = 0.0) -> None:
        super().__init__()
        self.linear, self.slope = linear, slope

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1] - self.linear
        bent = x[:, :size]
        bent = torch.maximum(bent, self.slope * bent) if self.slope else torch.relu(bent)
        return torch.cat([bent, x[:, size:]], dim=1)

    def extra_repr(self) -> str:
        return f"linear={self.linear}" + (f", slope={self.slope:g}" if self.slope else "")


class SkipThreshold(nn.Module):
    """``x -> 1[x >= 0]`` on all coordinates but the last `linear` ones."""

    def __init__(self, linear: int) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1] - self.linear
        return torch.cat([(x[:, :size] >= 0).to(x.dtype), x[:, size:]], dim=1)

    def extra_repr(self) -> str:
        return f"linear={self.linear}"


class Exponential(nn.Module):
    """``x -> exp(x)``, from the output of a Poisson regression to the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x)


class Gated(nn.Module):
    """``x -> 1[G' x + h >= 0] * (W' x + b)``; G and h are buffers (inputs, units), (units,)."""

    gates: Tensor
    gate_bias: Tensor

    def __init__(self, gates: Tensor, gate_bias: Tensor, affine: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("gates", gates)
        self.register_buffer("gate_bias", gate_bias)
        self.affine = affine

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.gates + self.gate_bias >= 0).to(x.dtype) * self.affine(x)


class OnImages(nn.Module):
    """What layers on windows share: flat rows to padded images with channels first, and back."""

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    def images(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) with their padding, from rows (n, inputs)."""
        windows = self.windows
        image = x.reshape(-1, *windows.shape).permute(0, 3, 1, 2)
        if any(windows.padding):
            rows, columns = windows.padding
            return functional.pad(image, (columns, columns, rows, rows))
        if windows.circular and windows.kernel != (1, 1):
            rows, columns = windows.kernel
            return functional.pad(image, (0, columns - 1, 0, rows - 1), mode="circular")
        return image

    @staticmethod
    def rows(image: Tensor) -> Tensor:
        """Flat rows, channels last, of images with channels first."""
        return image.permute(0, 2, 3, 1).flatten(1)

    def extra_repr(self) -> str:
        w = self.windows
        around = "circular" if w.circular else w.padding
        return f"shape={w.shape}, kernel={w.kernel}, stride={w.stride}, padding={around}"


class Conv(OnImages):
    """The same affine map of every window."""

    def __init__(self, windows: Windows, conv: nn.Conv2d) -> None:
        super().__init__(windows)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(self.conv(self.images(x)))


class GatedConv(OnImages):
    """A gated affine map of every window; the filters of the gates are buffers."""

    gates: Tensor
    gate_bias: Tensor

    def __init__(self, windows: Windows, gates: Tensor, gate_bias: Tensor, conv: nn.Conv2d) -> None:
        super().__init__(windows)
        self.register_buffer("gates", gates)
        self.register_buffer("gate_bias", gate_bias)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        image = self.images(x)
        gate = functional.conv2d(image, self.gates, self.gate_bias, self.windows.stride)
        return self.rows((gate >= 0).to(x.dtype) * self.conv(image))


class Pool(OnImages):
    """The sum, mean or maximum of every window, channel by channel."""

    def __init__(self, windows: Windows, kind: str) -> None:
        super().__init__(windows)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        image, kernel, stride = self.images(x), self.windows.kernel, self.windows.stride
        if self.kind == "max":
            return self.rows(functional.max_pool2d(image, kernel, stride))
        divisor = 1 if self.kind == "sum" else None
        return self.rows(functional.avg_pool2d(image, kernel, stride, divisor_override=divisor))

    def extra_repr(self) -> str:
        return f"{self.kind}, {super().extra_repr()}"


def module_of(chain: tuple[layers.Layer, ...], dtype: torch.dtype, link: str = "identity") -> nn.Sequential:
    """Return a module with the outputs of layers, (n,) if there is one output, else (n, outputs)."""
    modules = [MODULES[type(layer)](layer, dtype) for layer in chain]
    if link == "exp":
        modules.append(Exponential())
    if chain[-1].weight.shape[1] == 1:  # type: ignore[union-attr]
        modules.append(nn.Flatten(0))
    return nn.Sequential(*modules)


def _tensor(array: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array), dtype=dtype)


def _linear(layer: layers.Affine | layers.Gated, dtype: torch.dtype) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, *layer.weight.shape, dtype=dtype)
    return _filled(linear, layer.weight.T, layer.bias, dtype)


def _filters(weight: np.ndarray, windows: Windows) -> np.ndarray:
    """Filters (patch, filters) as torch orders them, (filters, channels, height, width)."""
    return weight.reshape(*windows.kernel, windows.shape[2], -1).transpose(3, 2, 0, 1)


def _convolution(layer: layers.Conv | layers.GatedConv, dtype: torch.dtype) -> nn.Conv2d:
    windows, filters = layer.windows, layer.weight.shape[1]
    conv = nn.utils.skip_init(
        nn.Conv2d, windows.shape[2], filters, windows.kernel, windows.stride, dtype=dtype
    )
    return _filled(conv, _filters(layer.weight, windows), layer.bias, dtype)


def _filled(module: Any, weight: np.ndarray, bias: np.ndarray, dtype: torch.dtype) -> Any:
    with torch.no_grad():
        module.weight.copy_(_tensor(weight, dtype))
        module.bias.copy_(_tensor(bias, dtype))
    return module


def _gated(layer: layers.Gated, dtype: torch.dtype) -> Gated:
    return Gated(_tensor(layer.gates, dtype), _tensor(layer.gate_bias, dtype), _linear(layer, dtype))


def _gated_conv(layer: layers.GatedConv, dtype: torch.dtype) -> GatedConv:
    gates = _tensor(_filters(layer.gates, layer.windows), dtype)
    return GatedConv(layer.windows, gates, _tensor(layer.gate_bias, dtype), _convolution(layer, dtype))


def _number(value: Any) -> float:
    return float(np.ravel(value)[0])


#: What each layer of the vocabulary becomes.
MODULES: dict[type, Callable[[Any, torch.dtype], nn.Module]] = {
    layers.Affine: _linear,
    layers.ReLU: lambda layer, dtype: nn.ReLU(),
    layers.LeakyReLU: lambda layer, dtype: nn.LeakyReLU(_number(layer.slope)),
    layers.Absolute: lambda layer, dtype: Absolute(),
    layers.Threshold: lambda layer, dtype: Threshold(),
    layers.Polynomial: lambda layer, dtype: Polynomial(
        _number(layer.quadratic), _number(layer.linear), _number(layer.constant)
    ),
    layers.SkipReLU: lambda layer, dtype: SkipReLU(layer.passed),
    layers.SkipLeakyReLU: lambda layer, dtype: SkipReLU(layer.passed, float(np.ravel(layer.slope)[0])),
    layers.SkipThreshold: lambda layer, dtype: SkipThreshold(layer.passed),
    layers.Product: lambda layer, dtype: Product(),
    layers.Gated: _gated,
    layers.Conv: lambda layer, dtype: Conv(layer.windows, _convolution(layer, dtype)),
    layers.GatedConv: _gated_conv,
    layers.Pool: lambda layer, dtype: Pool(layer.windows, layer.name),
}
