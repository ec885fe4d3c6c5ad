"""The units of a deep network, layer by layer, each as a rule about the layer in front of it.

A network of layers ``H_l = phi_l(H_(l-1) W_l + b_l)`` with ``H_0 = X`` is read like a two-layer one on the
values of its last hidden layer but one: what a unit of layer l sees is a table with a column for every unit
of layer l - 1, so it fires where ``w'h + b >= 0``. Units are numbered within their layer by how much they
vary, and the rules of the next layer use these numbers.

Reference: docs/report.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..layers import Activation, Affine, SkipReLU
from ..network import Network
from .columns import Columns, plain
from .content import Neuron
from .neurons import MEASURED, describe


@dataclass(frozen=True, eq=False)
class Unstacked:
    """A network, without the layers that can be told apart from its last hidden one.

    Parameters
    ----------
    layers : tuple of tuples of Neuron
        The units in front, layer by layer; of a network that is not deep there are none.
    network : Network
        What is left, from the last of these layers on.
    X : ndarray of shape (n, units)
        What it sees.
    columns : Columns
        The names of that.
    """

    layers: tuple[tuple[Neuron, ...], ...]
    network: Network
    X: np.ndarray
    columns: Columns


def unstack(network: Network, X: np.ndarray, columns: Columns) -> Unstacked:
    """Return the units in front of the last hidden layer as rules, and the rest of the network.

    Parameters
    ----------
    network : Network
    X : ndarray of shape (n, d)
        Inputs on which rules are measured: the training data.
    columns : Columns
    """
    H, names, rest = X[:: -(-len(X) // MEASURED)], columns, network.layers
    found: list[tuple[Neuron, ...]] = []
    hidden = _stacked(network)
    for number in range(1, hidden + 1):
        affine, phi, rest = rest[0], rest[1], rest[2:]
        assert isinstance(affine, Affine)
        m = affine.weight.shape[1]
        # as if its units were the output: what a unit adds is its own value
        units, order = describe(Network((affine, phi, Affine(np.eye(m), np.zeros(m)))), H, names)
        found.append(units)
        place = np.empty(m, dtype=int)
        place[order] = np.arange(1, m + 1)
        prefix = "unit " if hidden == 1 else f"unit {number}."
        H, names = phi(affine(H)), plain([f"{prefix}{k}" for k in place])
    return Unstacked(tuple(found), Network(rest), H, names)


def _stacked(network: Network) -> int:
    """How many layers, each affine with an activation, stand in front of another hidden layer."""
    layers, count = network.layers, 0
    while (
        len(layers) > 2 * count + 3
        and isinstance(layers[2 * count], Affine)
        and isinstance(layers[2 * count + 1], Activation)
        and not isinstance(layers[2 * count + 1], SkipReLU)
        and isinstance(layers[2 * count + 2], Affine)
    ):
        count += 1
    return count
