"""Networks as graphs of ONNX operators, before they are a file or a part of one.

A :class:`Graph` records nodes and constants; :func:`record` writes a predictor into it, layer by layer.
What is done with the record is for others to say: a model of its own (:mod:`cvxnn.exporters.onnx`), or a
part of a pipeline (:mod:`cvxnn.pipelines`). Only operators are used whose signature has not changed since
opset 13.

Convolutions and poolings are ONNX's own in float32. Runtimes compute these in float32 only, so in float64
they are what they are by definition: windows gathered by their indices, then a matrix product or a sum.

Reference: the ONNX operator reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..layers import (
    Absolute,
    Affine,
    Conv,
    Gated,
    GatedConv,
    LeakyReLU,
    Polynomial,
    Pool,
    Product,
    ReLU,
    SkipLeakyReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from ..patches import Windows
from .base import Predictor, labels_of

#: The oldest opset that has every operator in the form used here.
OLDEST_OPSET = 13
#: TensorProto's number for a type of elements.
ELEMENTS = {"float32": 1, "float64": 11, "int64": 7}


@dataclass(frozen=True)
class Node:
    """One operator: its kind, the names it reads and the one it writes, and its attributes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in order and constants by name, in float32 or float64."""

    dtype: np.dtype[Any]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Record an operator and return the name of its output."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(kind, inputs, output, attributes))
        return output

    def number(self, values: Any) -> str:
        """Record a constant of the graph's precision and return its name."""
        return self._constant(np.asarray(values, dtype=self.dtype))

    def index(self, values: Any) -> str:
        """Record a constant of integers (sizes, axes, indices) and return its name."""
        return self._constant(np.asarray(values, dtype=np.int64))

    def labels(self, values: np.ndarray) -> str:
        """Record the classes, integers or text, and return their name."""
        return self._constant(np.asarray(values))

    def _constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = values
        return name


def record(graph: Graph, predictor: Predictor, x: str) -> str:
    """Record the layers of a predictor on the input named `x`; returns the name of f(x), (n, outputs)."""
    for layer in predictor.layers:
        x = RULES[type(layer)](graph, x, layer)
    return x


def record_regression(graph: Graph, predictor: Predictor, x: str) -> str:
    """Record a regression and return the name of its predictions, (n, outputs)."""
    f = record(graph, predictor, x)
    return graph.add("Exp", f) if predictor.link == "exp" else f


def record_classes(graph: Graph, predictor: Predictor, x: str) -> tuple[str, str]:
    """Record a classifier.

    Returns
    -------
    label : str
        The name of the labels, (n,).
    scores : str
        The name of the probabilities, (n, classes), or of the outputs where there are no probabilities; of
        two classes these are -f and f.
    """
    assert predictor.classes is not None
    f, classes = record(graph, predictor, x), graph.labels(labels_of(predictor.classes))
    if predictor.outputs > 1:
        chosen = graph.add("ArgMax", f, axis=1, keepdims=0)
        scores = graph.add("Softmax", f, axis=1) if predictor.probabilities else f
        return graph.add("Gather", classes, chosen, axis=0), scores
    positive = graph.add("Cast", graph.add("Greater", f, graph.number(0.0)), to=ELEMENTS["int64"])
    chosen = graph.add("Reshape", positive, graph.index([-1]))
    # both signs, since 1 - p would lose small probabilities
    scores = graph.add("Concat", graph.add("Neg", f), f, axis=1)
    if predictor.probabilities:
        scores = graph.add("Sigmoid", scores)
    return graph.add("Gather", classes, chosen, axis=0), scores


def _affine(graph: Graph, x: str, layer: Affine) -> str:
    return graph.add("Gemm", x, graph.number(layer.weight), graph.number(layer.bias))


def _relu(graph: Graph, x: str, layer: ReLU) -> str:
    return graph.add("Relu", x)


def _leaky_relu(graph: Graph, x: str, layer: LeakyReLU) -> str:
    falling = graph.add("Mul", x, graph.number(np.ravel(layer.slope)))
    return graph.add("Where", graph.add("Greater", x, graph.number(0.0)), x, falling)


def _absolute(graph: Graph, x: str, layer: Absolute) -> str:
    return graph.add("Abs", x)


def _threshold(graph: Graph, x: str, layer: Threshold) -> str:
    passed = graph.add("GreaterOrEqual", x, graph.number(0.0))
    return graph.add("Cast", passed, to=ELEMENTS[graph.dtype.name])


def _polynomial(graph: Graph, x: str, layer: Polynomial) -> str:
    a, b, c = (graph.number(np.ravel(v)) for v in (layer.quadratic, layer.linear, layer.constant))
    return graph.add("Add", graph.add("Mul", graph.add("Add", graph.add("Mul", x, a), b), x), c)


def _product(graph: Graph, x: str, layer: Product) -> str:
    # halves by their number, whatever it is: (n, 2m) is (n, 2, m)
    halves = graph.add("Reshape", x, graph.index([0, 2, -1]))
    first, second = (graph.add("Gather", halves, graph.index(k), axis=1) for k in (0, 1))
    return graph.add("Mul", first, second)


def _skip_relu(graph: Graph, x: str, layer: SkipReLU) -> str:
    bent = RULES[type(layer.bent)]
    if layer.passed == 0:
        return bent(graph, x, layer.bent)
    start, end, axis = graph.index([-layer.passed]), graph.index([np.iinfo(np.int64).max]), graph.index([1])
    linear = graph.add("Slice", x, start, end, axis)
    others = graph.add("Slice", x, graph.index([0]), start, axis)
    return graph.add("Concat", bent(graph, others, layer.bent), linear, axis=1)


def _gate(graph: Graph, gate: str, value: str) -> str:
    """``1[gate >= 0] * value``."""
    zero = graph.number(0.0)
    return graph.add("Where", graph.add("GreaterOrEqual", gate, zero), value, zero)


def _gated(graph: Graph, x: str, layer: Gated) -> str:
    gate = graph.add("Gemm", x, graph.number(layer.gates), graph.number(layer.gate_bias))
    return _gate(graph, gate, graph.add("Gemm", x, graph.number(layer.weight), graph.number(layer.bias)))


def _conv(graph: Graph, x: str, layer: Conv) -> str:
    maps = _windows(graph, x, layer.windows)
    return _flat(graph, _filters(graph, maps, layer.windows, layer.weight, layer.bias))


def _gated_conv(graph: Graph, x: str, layer: GatedConv) -> str:
    windows, maps = layer.windows, _windows(graph, x, layer.windows)
    gate = _filters(graph, maps, windows, layer.gates, layer.gate_bias)
    return _flat(graph, _gate(graph, gate, _filters(graph, maps, windows, layer.weight, layer.bias)))


def _pool(graph: Graph, x: str, layer: Pool) -> str:
    windows, size = layer.windows, float(np.prod(layer.windows.kernel))
    maps = _windows(graph, x, windows)
    if graph.dtype == np.float32:
        kind = "MaxPool" if layer.name == "max" else "AveragePool"
        shape = {"kernel_shape": list(windows.kernel), "strides": list(windows.stride)}
        pooled = graph.add(kind, maps, **shape)
        return _flat(graph, graph.add("Mul", pooled, graph.number(size)) if layer.name == "sum" else pooled)
    parts = graph.add("Reshape", maps, graph.index([0, windows.positions, int(size), windows.shape[2]]))
    if layer.name == "max":
        rows = graph.add("Transpose", parts, perm=[0, 1, 3, 2])
        rows = graph.add("Reshape", rows, graph.index([0, windows.positions * windows.shape[2], int(size)]))
        pooled = graph.add("MaxPool", rows, kernel_shape=[int(size)])
    else:
        pooled = graph.add("ReduceSum", parts, graph.index([2]), keepdims=0)
        if layer.name == "mean":
            pooled = graph.add("Div", pooled, graph.number(size))
    return graph.add("Flatten", pooled)


def _windows(graph: Graph, x: str, windows: Windows) -> str:
    """What a convolution slides over, from flat images.

    In float32 the images with their padding, (n, channels, height, width). In float64 the patches, (n,
    positions, patch).
    """
    if graph.dtype == np.float64:
        if any(windows.padding):
            ends, zero = graph.index([0, 0, 0, 1]), graph.number(0.0)
            x = graph.add("Pad", x, ends, zero)  # index -1 points to the zero at the end
        index = np.where(windows.index() < 0, windows.inputs, windows.index())
        return graph.add("Gather", x, graph.index(index), axis=1)
    image = graph.add("Reshape", x, graph.index([-1, *windows.shape]))
    image = graph.add("Transpose", image, perm=[0, 3, 1, 2])
    if any(windows.padding):
        rows, columns = windows.padding
        return graph.add("Pad", image, graph.index([0, 0, rows, columns] * 2), graph.number(0.0))
    for axis in (0, 1):
        around = np.arange(windows.shape[axis] + windows.kernel[axis] - 1) % windows.shape[axis]
        if windows.circular and windows.kernel[axis] > 1:
            image = graph.add("Gather", image, graph.index(around), axis=axis + 2)
    return image


def _filters(graph: Graph, maps: str, windows: Windows, weight: np.ndarray, bias: np.ndarray) -> str:
    """Filters (patch, filters) on what :func:`_windows` made; their maps have channels first in float32."""
    if graph.dtype == np.float64:
        return graph.add("Add", graph.add("MatMul", maps, graph.number(weight)), graph.number(bias))
    kernels = weight.reshape(*windows.kernel, windows.shape[2], -1).transpose(3, 2, 0, 1)
    return graph.add("Conv", maps, graph.number(kernels), graph.number(bias), strides=list(windows.stride))


def _flat(graph: Graph, maps: str) -> str:
    """Flat images, channels last, of the maps that filters or poolings made."""
    if graph.dtype == np.float32:
        maps = graph.add("Transpose", maps, perm=[0, 2, 3, 1])
    return graph.add("Flatten", maps)


#: What each layer of the vocabulary becomes.
RULES: dict[type, Callable[[Graph, str, Any], str]] = {
    Affine: _affine,
    ReLU: _relu,
    LeakyReLU: _leaky_relu,
    Absolute: _absolute,
    Threshold: _threshold,
    Polynomial: _polynomial,
    SkipReLU: _skip_relu,
    SkipLeakyReLU: _skip_relu,
    SkipThreshold: _skip_relu,
    Product: _product,
    Gated: _gated,
    Conv: _conv,
    GatedConv: _gated_conv,
    Pool: _pool,
}
