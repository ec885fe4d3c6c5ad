r"""Deep networks in two parts: frozen layers in front, and the two-layer network that is trained on top.

The frozen layers turn X into features, and everything that is known of two-layer networks holds for the
network on the features: its program, its oracle, its certificate. What the certificate then compares with
are networks with the same frozen layers.

From a two-layer network ``f(x) = sum_j a_j h_j(x)``, its units h_j scaled to cost one and its penalty
therefore ``R = sum_j |a_j|``, the next features are h(x), or ``[x, h(x)]`` with skip features. A network on
the new features can compute f again at no more than the old cost, so the optimum of the next stage cannot
be above the old objective:

- with skip features by the old neurons, whose weights on h are zero: ``||(w_j, 0)|| = ||w_j||``;
- of units that are never negative (ReLU, absolute value) by neurons along coordinates: ``(h_j)_+ = h_j``
  has cost one. For one output two neurons do, ``f = (h'a_+)_+ - (h'a_-)_+`` with ``a = a_+ - a_-``, at the
  cost ``||a_+|| + ||a_-|| <= sum_j |a_j|``; for several outputs ``sum_j ||v_j||`` is the old cost itself;
- of gated units by neurons behind a gate that is always open (g = 0): ``f = h'a`` at the cost ``||a|| <=
  sum_j |a_j|``, and for several outputs the nuclear norm of ``sum_j e_j v_j'``, at most ``sum_j ||v_j||``.

A unit of another kind (leaky, say) changes its own sign pattern and is no copy of itself; there only skip
features have this guarantee.

References: Belilovsky, Eickenberg and Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML
2019; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (convex stages).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Self

import numpy as np

from .certificate import Oracle, Price, Proof
from .layers import Absolute, Affine, Gated, Layer, ReLU
from .network import Conv, Network, Pool
from .program import Problem

Layers = tuple[Layer, ...]


def features(layers: Layers, X: np.ndarray) -> np.ndarray:
    """Return what layers make of inputs ``X`` (n, d), shape (n, features)."""
    for layer in layers:
        X = layer(X)
    return X


def depth(layers: Layers) -> int:
    """Return the number of hidden layers among layers: those with a kink, or all where none has one.

    Pooling and convolutions without a ReLU, which move pixels into channels, say, are no hidden layers.
    """
    linear = (Affine, Conv, Pool)
    return sum(not isinstance(layer, linear) for layer in layers) or len(layers)


def split(network: Network, reads: Callable[[Network], bool]) -> tuple[Layers, Network] | None:
    """Return the frozen layers of a network and the two-layer network on top of them.

    Parameters
    ----------
    network : Network
    reads : callable(Network)
        Whether a network is a two-layer one of the family on top.

    Returns
    -------
    tuple or None
        None if the last layers are not those of the family.
    """
    for k in range(2, len(network.layers) + 1):
        top = Network(network.layers[-k:])
        if reads(top):
            return network.layers[:-k], top
    return None


def same(a: Layers, b: Layers) -> bool:
    """Return whether two lists of layers compute the same, number by number."""
    if len(a) != len(b) or any(type(p) is not type(q) for p, q in zip(a, b, strict=True)):
        return False
    return all(
        np.array_equal(getattr(p, part.name), getattr(q, part.name))
        for p, q in zip(a, b, strict=True)
        for part in fields(p)
    )


def with_skip(units: Layers) -> Layers:
    """Return layers that pass their inputs on in front of their outputs, ``x -> [x, h(x)]``.

    A gate of zeros is open for every input, and a ReLU is a gate that is its own weight.

    Raises
    ------
    ValueError
        If the units are not ReLUs, gated or linear.
    """
    first = units[0]
    if len(units) == 1 and isinstance(first, Affine):
        return (Affine(_beside(np.eye(first.inputs), first.weight), _after(first.inputs, first.bias)),)
    relu = len(units) == 2 and isinstance(first, Affine) and isinstance(units[1], ReLU)
    if not relu and not (len(units) == 1 and isinstance(first, Gated)):
        kind = type(units[-1]).__name__
        raise ValueError(f"skip features need ReLU, gated or linear stages, not {kind}: pass skip=False")
    assert isinstance(first, Affine | Gated)
    d = first.inputs
    gates = first.gates if isinstance(first, Gated) else first.weight
    gate_bias = first.gate_bias if isinstance(first, Gated) else first.bias
    passed = np.zeros((d, d))
    return (
        Gated(
            _beside(passed, gates),
            _after(d, gate_bias),
            _beside(np.eye(d), first.weight),
            _after(d, first.bias),
        ),
    )


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.hstack([left, right]))


def _after(d: int, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(d), bias])


def copied_by_skip(top: Network, units: int) -> Network:
    """Return the network on ``[x, h]`` that computes what a network computes on x, at the same cost.

    Parameters
    ----------
    top : Network
        A two-layer network on x.
    units : int
        The number of features h, which it does not use.
    """
    first = top.layers[0]
    assert isinstance(first, Affine | Gated)

    def taller(weight: np.ndarray) -> np.ndarray:
        return np.vstack([weight, np.zeros((units, weight.shape[1]))])

    wide: Layer = replace(first, weight=taller(first.weight))
    if isinstance(wide, Gated):
        wide = replace(wide, gates=taller(wide.gates))
    return Network((wide, *top.layers[1:]))


def copied_by_units(top: Network, sizes: np.ndarray, coupling: str = "joint") -> Network | None:
    """Return a network on the units h that computes what ``top`` computes, at no more than its cost.

    Parameters
    ----------
    top : Network
        A two-layer network with units ``sizes_j h_j``, shape of sizes (m,).
    sizes : ndarray of shape (m,)
    coupling : {"joint", "separate"}
        What several outputs share: it decides which neurons behind an open gate cost least.

    Returns
    -------
    Network or None
        None if units of this kind make no copy.
    """
    first, last = top.layers[0], top.layers[-1]
    assert isinstance(first, Affine | Gated) and isinstance(last, Affine)
    A = sizes[:, None] * last.weight
    if isinstance(first, Gated):
        return _behind_an_open_gate(A, last.bias, coupling)
    if not isinstance(top.layers[1], ReLU | Absolute):
        return None
    if A.shape[1] == 1:
        W = np.column_stack([np.maximum(A[:, 0], 0.0), np.maximum(-A[:, 0], 0.0)])
        V = np.array([[1.0], [-1.0]])
    else:
        W, V = np.eye(len(A)), A
    root = np.sqrt(np.linalg.norm(V, axis=1) / np.maximum(np.linalg.norm(W, axis=0), 1e-300))
    kept = (np.linalg.norm(W, axis=0) > 0.0) & (root > 0.0)
    W, V = W[:, kept] * root[kept], V[kept] / root[kept, None]
    return Network((Affine(W, np.zeros(W.shape[1])), top.layers[1], Affine(V, last.bias)))


def _behind_an_open_gate(A: np.ndarray, bias: np.ndarray, coupling: str) -> Network:
    """The network ``h -> h'A + bias`` of least cost whose gates are open for every sample."""
    if coupling == "separate":
        size = np.linalg.norm(A, axis=0)
        left, right = A / np.where(size > 0.0, size, 1.0), np.eye(A.shape[1])
    else:
        left, size, right = np.linalg.svd(A, full_matrices=False)
    kept = size > 1e-14 * np.max(size, initial=0.0)
    root = np.sqrt(size[kept])
    W, V = left[:, kept] * root, root[:, None] * right[kept]
    none = np.zeros(W.shape[1])
    return Network((Gated(np.zeros_like(W), none, W, none), Affine(V, bias)))


class FrozenOracle(Oracle):
    """The oracle of two-layer networks on the features of frozen layers, for the deep networks of both."""

    def __init__(
        self, problem: Problem, inner: Oracle, layers: Layers, reads: Callable[[Network], bool]
    ) -> None:
        super().__init__(replace(inner.problem, X=problem.X))
        self.inner, self.layers, self.frozen, self.reads = inner, layers, depth(layers), reads

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.inner = self.inner.at(beta)
        return other

    def price(self, Z: np.ndarray) -> Price:
        return self.inner.price(Z)

    def found(self, Z: np.ndarray, network: Network) -> float:
        """Return the price of the best neuron that a thorough search finds.

        Raises
        ------
        ValueError
            If the network has other frozen layers: the bound would not hold for it.
        """
        parts = split(network, self.reads)
        if parts is None or not same(parts[0], self.layers):
            raise ValueError(
                f"{network!r} has other frozen layers than those it would be compared with: judge it by "
                "the family that given(network) returns"
            )
        return self.inner.found(Z, parts[1])

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        return self.inner.prove(Z, max_iter=max_iter, max_time=max_time)
