"""The neurons of a two-layer network as a dictionary: each of unit cost, with magnitudes apart.

A neuron with weights (w, b) before and a after the activation has the cost ``||(w, b)|| |a|``, its
magnitude. Scaled to magnitude 1 it is a *unit neuron*; a network is a choice of magnitudes for its unit
neurons, shared evenly between the two layers. This holds for every activation that is homogeneous of
degree one in the weights, gated ones included, whose gates stay as they are.

Reference: Pilanci and Ergen, ICML 2020, section 2 (the rescaling); Bach, JMLR 2017.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .network import Affine, Gated, Network

__all__ = ["SAME", "distinct", "join", "outputs_of", "unit_neurons", "with_magnitudes"]

#: Unit neurons whose weights differ by less than this are one.
SAME = 1e-6


def outputs_of(neurons: Network, X: np.ndarray) -> np.ndarray:
    """The signed output of every neuron, shape (n, k)."""
    out = np.asarray(X, dtype=np.float64)
    for layer in neurons.layers[:-1]:
        out = layer(out)
    return out * neurons.layers[-1].weight[:, 0]  # type: ignore[union-attr]


def with_magnitudes(neurons: Network, a: np.ndarray, c: float) -> Network:
    """Neurons times magnitudes, half on either layer; those at zero are left out."""
    kept = a > 0
    root = np.sqrt(a[kept])
    first, last = neurons.layers[0], neurons.layers[-1]
    assert isinstance(first, Affine | Gated) and isinstance(last, Affine)
    weight = np.ascontiguousarray(first.weight[:, kept] * root)
    changes = {"weight": weight, "bias": first.bias[kept] * root}
    if isinstance(first, Gated):
        changes |= {"gates": first.gates[:, kept], "gate_bias": first.gate_bias[kept]}
    out = Affine(last.weight[kept] * root[:, None], np.array([float(c)]))
    return Network((replace(first, **changes), *neurons.layers[1:-1], out))


def unit_neurons(network: Network, free: int) -> tuple[Network, np.ndarray]:
    """The neurons of a network scaled to unit cost, and their magnitudes; zeros are left out."""
    first, last = network.layers[0], network.layers[-1]
    assert isinstance(first, Affine | Gated) and isinstance(last, Affine)
    square = np.sum(first.weight**2, axis=0) + (0.0 if free else first.bias**2)
    size, a = np.sqrt(square), np.abs(last.weight[:, 0])
    magnitudes = size * a
    with np.errstate(divide="ignore", invalid="ignore"):
        first = replace(first, weight=first.weight / size, bias=first.bias / size)
    last = Affine(np.sign(last.weight), np.zeros(1))
    kept = magnitudes > 0
    units = Network((first, *network.layers[1:-1], last))
    return with_magnitudes(units, np.where(kept, 1.0, 0.0), 0.0), magnitudes[kept]


def join(a: Network, b: Network) -> Network:
    """The neurons of two networks of one family."""
    first = [network.layers[0] for network in (a, b)]
    names = ("gates", "gate_bias", "weight", "bias") if isinstance(first[0], Gated) else ("weight", "bias")
    parts = [np.concatenate([getattr(layer, name) for layer in first], axis=-1) for name in names]
    last = np.concatenate([network.layers[-1].weight for network in (a, b)])  # type: ignore[union-attr]
    return Network((type(first[0])(*parts), *a.layers[1:-1], Affine(last, np.zeros(1))))


def distinct(own: Network, found: Network, X: np.ndarray, free: int) -> Network:
    """Those of the found unit neurons that are neither own nor found before."""
    known, fresh = _features(own, X), []
    for j, row in enumerate(_features(found, X)):
        if not len(known) or np.min(np.max(np.abs(known - row), axis=1)) > SAME:
            known = np.vstack([known, row])
            fresh.append(j)
    keep = np.zeros(found.width)
    keep[fresh] = 1.0
    return with_magnitudes(found, keep, 0.0)


def _features(neurons: Network, X: np.ndarray) -> np.ndarray:
    """What tells unit neurons apart: weights, sign, and the pattern of a gate; (k, features)."""
    first, last = neurons.layers[0], neurons.layers[-1]
    assert isinstance(first, Affine | Gated) and isinstance(last, Affine)
    scale = max(1.0, float(np.max(np.abs(first.bias), initial=0.0)))
    rows = [first.weight.T, first.bias[:, None] / scale, last.weight]
    if isinstance(first, Gated):
        rows.append((X @ first.gates + first.gate_bias >= 0).T.astype(float))
    return np.hstack(rows)
