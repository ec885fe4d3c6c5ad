r"""Neurons as rules in a person's names and units.

A network is a sum over the units h_j of its last hidden layer, ``f(x) = sum_j a_j h_j(x) + c``. What a unit
adds is ``a_j h_j(x)``, whatever is in front of it; how important it is, is how much that varies over the
samples. Where the unit sees the data themselves, ``h_j = phi(w_j'z + b_j)``, it is a rule,

    fires when  S = w'x + b >= 0,  and then adds  a S  to the output,

and with an activation that is homogeneous the size of a moves into S, so that one formula says both. A
short form of a rule writes its strongest terms, ``|w_i|`` times the deviation of x_i, and takes the others
at their mean; on how many samples that has the same sign is measured and said.

Reference: the balanced form of a neuron, Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..layers import (
    Absolute,
    Activation,
    Affine,
    Conv,
    Gated,
    GatedConv,
    LeakyReLU,
    Polynomial,
    Product,
    ReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from ..network import Network
from .columns import Columns
from .content import Linear, Neuron
from .numerals import things

#: Terms that a short rule has at most, and the share of samples on which it should agree before that.
TERMS, AGREEMENT = 5, 0.99
#: Samples that rules are measured on.
MEASURED = 2000
_KINDS: dict[type, str] = {
    ReLU: "relu",
    LeakyReLU: "leaky_relu",
    Absolute: "absolute",
    Threshold: "threshold",
    Polynomial: "polynomial",
}


@dataclass(frozen=True, eq=False)
class Parts:
    """A network as the sum over its last hidden units, on some samples.

    Parameters
    ----------
    adds : ndarray of shape (n, units, outputs)
        What each unit adds; for convolutions a filter with all its positions.
    fires : ndarray of shape (n, units)
        Whether a unit is active (of a filter: the share of windows); nan where that is no question.
    """

    adds: np.ndarray
    fires: np.ndarray


def take_apart(network: Network, X: np.ndarray, unit: float = 1.0) -> Parts:
    """Return what the last hidden units add on inputs of shape (n, d), times a unit."""
    H = np.asarray(X, dtype=np.float64)
    for layer in network.layers[:-1]:
        H = layer(H)
    W = network.layers[-1].weight * unit  # type: ignore[union-attr]
    m, outputs = units_of(network), W.shape[1]
    if m == 0:
        return Parts(np.zeros((len(H), 0, outputs)), np.zeros((len(H), 0)))
    # of a convolution positions come first and channels last
    adds = np.einsum("npm,pmk->nmk", H.reshape(len(H), -1, m), W.reshape(-1, m, outputs))
    return Parts(adds, _firing(network, X, m))


def units_of(network: Network) -> int:
    """The number of hidden units; of a convolution straight in front of the output, its filters."""
    if pooled_filters(network):
        return int(network.layers[0].weight.shape[1])  # type: ignore[union-attr]
    return int(network.layers[-1].weight.shape[0])  # type: ignore[union-attr]


def pooled_filters(network: Network) -> bool:
    """Whether the units in front of the output are the filters of one convolution."""
    affine = sum(isinstance(layer, Affine) for layer in network.layers)
    convolved = sum(isinstance(layer, Conv | GatedConv) for layer in network.layers)
    return isinstance(network.layers[0], Conv | GatedConv) and affine == convolved == 1


def _firing(network: Network, X: np.ndarray, m: int) -> np.ndarray:
    """Which units are active, from what stands before the last activation."""
    first, layers = network.layers[0], network.layers
    if isinstance(first, Gated) and len(layers) == 2:
        return (X @ first.gates + first.gate_bias >= 0).astype(float)
    if isinstance(first, GatedConv):
        open_ = first.windows.patches(X) @ first.gates + first.gate_bias >= 0
        return open_.mean(axis=1)
    place = max((k for k, layer in enumerate(layers) if isinstance(layer, Activation)), default=None)
    if place is None or isinstance(layers[place], Polynomial):
        return np.full((len(X), m), np.nan)
    Z = np.asarray(X, dtype=np.float64)
    for layer in layers[:place]:
        Z = layer(Z)
    on = Z >= 0 if isinstance(layers[place], Threshold | SkipThreshold) else Z > 0
    if isinstance(layers[place], SkipReLU):
        on[:, on.shape[1] - layers[place].passed :] = True  # type: ignore[union-attr]
    return on.reshape(len(X), -1, m).mean(axis=1)


def describe(
    network: Network, X: np.ndarray, columns: Columns, unit: float = 1.0, most: int | None = None
) -> tuple[tuple[Neuron, ...], np.ndarray]:
    """Return the neurons of a network as rules, the most important first, and their order.

    Parameters
    ----------
    network : Network
    X : ndarray of shape (n, d)
        Inputs on which rules are measured: the training data.
    columns : Columns
    unit : float
        A prediction changes by so much when the output changes by one.
    most : int or None
        How many to describe.

    Returns
    -------
    neurons : tuple of Neuron
    order : ndarray of shape (units,)
        The place of every neuron in the network, by its number.
    """
    X = X[:: -(-len(X) // MEASURED)]
    parts = take_apart(network, X, unit)
    spread = np.linalg.norm(parts.adds.std(axis=0), axis=1)
    total = float(spread.sum()) or 1.0
    order = np.argsort(-spread, kind="stable")
    values = columns.values(X)
    found = []
    for number, j in enumerate(order[:most].tolist(), 1):
        neuron = Neuron(
            number=number,
            kind="deep",
            rule=None,
            gate=None,
            activation=None,
            outputs=np.asarray(network.layers[-1].weight[j] * unit),  # type: ignore[union-attr]
            fires=float(np.mean(parts.fires[:, j])),
            spread=float(spread[j]),
            importance=float(spread[j] / total),
        )
        found.append(_ruled(neuron, network, j, columns, values, parts.adds[:, j].mean(axis=0)))
    return tuple(found), order


def _ruled(
    neuron: Neuron, network: Network, j: int, columns: Columns, values: np.ndarray, mean: np.ndarray
) -> Neuron:
    """A neuron with the rule that its layers give it."""
    first, middle = network.layers[0], network.layers[1:-1]
    if isinstance(first, Conv | GatedConv):
        return _filter(neuron, network, j, mean)
    if isinstance(first, Gated) and not middle:
        gate = _linear(columns, values, first.gates[:, j], float(first.gate_bias[j]))
        rule = _linear(columns, values, first.weight[:, j], float(first.bias[j]))
        return _folded(replace(neuron, kind="gated", gate=gate, rule=rule))
    if not isinstance(first, Affine):
        return replace(neuron, note="U is its value; it sees other units, not the data themselves.")
    if len(middle) == 1 and isinstance(middle[0], Product):
        return _product(neuron, network, j, columns, values)
    if len(middle) > 1 or (middle and not isinstance(middle[0], Activation)):
        units = things(first.weight.shape[1], "unit")
        return replace(neuron, note=f"U is its value; the layers before it start with {units}.")
    rule = _linear(columns, values, first.weight[:, j], float(first.bias[j]))
    phi: Any = middle[0] if middle else None
    if isinstance(phi, SkipReLU):
        phi = None if j >= first.weight.shape[1] - phi.passed else phi.bent
    kind = _KINDS.get(type(phi), "linear")
    return _folded(replace(neuron, kind=kind, rule=rule, activation=phi))


def _product(neuron: Neuron, network: Network, j: int, columns: Columns, values: np.ndarray) -> Neuron:
    """A product of two linear functions, the second in the place of a gate's."""
    first = network.layers[0]
    assert isinstance(first, Affine)
    half = first.weight.shape[1] // 2
    rule, gate = (_linear(columns, values, first.weight[:, k], float(first.bias[k])) for k in (j, half + j))
    return _folded(replace(neuron, kind="product", rule=rule, gate=gate))


def _filter(neuron: Neuron, network: Network, j: int, mean: np.ndarray) -> Neuron:
    """A filter of windows, with its weights as a patch, and the mean of what it adds."""
    first = network.layers[0]
    assert isinstance(first, Conv | GatedConv)
    if not pooled_filters(network):
        return replace(neuron, note="U is its value; it sees what filters found, not the data themselves.")
    height, width = first.windows.kernel
    patch = first.weight[:, j].reshape(height, width, first.windows.shape[2])
    neuron = replace(
        neuron, kind="filter", patch=patch, note="F is what it finds, pooled over the windows."
    )
    if len(network.layers[-1].weight) == units_of(network):  # type: ignore[union-attr]
        return neuron
    note = "What it adds depends on the place where it finds it."
    return replace(neuron, kind="head", outputs=mean, note=note)


def _folded(neuron: Neuron) -> Neuron:
    """The same neuron with the size of its output weights in its rule, where the activation allows it."""
    size = float(np.max(np.abs(neuron.outputs), initial=0.0))
    if size == 0.0 or neuron.rule is None or neuron.kind in ("threshold", "polynomial"):
        return neuron
    rule = neuron.rule
    rule = replace(
        rule,
        weights=rule.weights * size,
        constant=rule.constant * size,
        strengths=rule.strengths * size,
        short_constant=rule.short_constant * size,
    )
    return replace(neuron, rule=rule, outputs=neuron.outputs / size)


def _linear(columns: Columns, values: np.ndarray, weights: np.ndarray, constant: float) -> Linear:
    """A linear function of inputs as one of values, with its short form."""
    w, b = columns.rule(weights, constant)
    whole = values @ w + b
    mean = values.mean(axis=0)
    strengths = w * values.std(axis=0)
    strength = np.abs(strengths)
    order = [int(k) for k in np.argsort(-strength, kind="stable") if strength[k] > 0.0]
    kept: tuple[int, ...] = ()
    short, agreement = b, 1.0
    # what is short already is written in full
    first = len(order) if 0 < len(order) <= TERMS else 1
    for terms in range(first, max(first, min(TERMS, len(order))) + 1):
        kept = tuple(order[:terms])
        # a constant column has no strength, and is at its mean everywhere
        rest = np.setdiff1d(np.arange(len(w)), kept)
        short = float(b + w[rest] @ mean[rest])
        sign = values[:, list(kept)] @ w[list(kept)] + short
        agreement = float(np.mean((sign >= 0) == (whole >= 0)))
        if agreement >= AGREEMENT or len(order) == 0:
            break
    return Linear(tuple(columns.names), w, b, strengths, kept, short, agreement)
