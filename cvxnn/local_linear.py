r"""Predictions taken apart: the affine function that a network is around each sample.

Between its kinks a network of ReLU, leaky, absolute or gated neurons is affine,

.. math:: f(x') = c(x) + \sum_k g_k(x) \, x'_k  \qquad \text{for all } x' \text{ near } x,

with coefficients :math:`g(x) = \nabla f(x)` that change where a neuron switches. So a prediction splits
into a base and one addend for each feature, exactly and without any sampling:

.. math:: f(x) = c(x) + \sum_k v_k(x), \qquad v_k(x) = g_k(x) \, x_k.

Every layer is, at its input :math:`x_0`, an affine map :math:`x \mapsto J x + r` (its tangent):
coefficients are the product of the J, taken from the output backwards because outputs are few, and the
base collects what every r contributes on the way. Layers with steps (threshold) have :math:`J = 0`: all of
the prediction is base. Smooth layers (polynomials, products) give the tangent plane, whose value at the
sample is the prediction too, but which is not the function around it.

The addends are relative to x = 0, not to an average sample as Shapley values are; the fields have the
names of ``shap.Explanation``, so that its pictures can be drawn of them.

Reference: Montúfar, Pascanu, Cho and Bengio, "On the number of linear regions of deep neural networks",
NeurIPS 2014 (linear regions); Lundberg and Lee, NeurIPS 2017 (additive explanations).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np

from .arrays import to_numpy
from .layers import (
    Absolute,
    Affine,
    Conv,
    Gated,
    GatedConv,
    Layer,
    LeakyReLU,
    Polynomial,
    Pool,
    Product,
    ReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from .network import Network
from .patches import rows_for
from .window_layers import Windowed


@dataclass(frozen=True, eq=False)
class LocalLinear:
    """What a network is around each of some samples: an affine function.

    ``base_values + values.sum(axis=1)`` is the network's output at the samples. With several outputs
    arrays have a last axis for them. ``shap.Explanation(values=e.values, base_values=e.base_values,
    data=e.data, feature_names=e.feature_names)`` takes it to the pictures of shap.

    Parameters
    ----------
    values : ndarray of shape (n, d), or (n, d, outputs)
        What each feature adds: coefficient times feature.
    coefficients : ndarray of shape (n, d), or (n, d, outputs)
        The gradient of the output in the features, in outputs per unit of the feature.
    base_values : ndarray of shape (n,), or (n, outputs)
        The constant of the affine function.
    active : ndarray of bool of shape (n, neurons)
        Of the units that enter the output layer: which are on beyond their kink, ``w'x + b > 0`` (of a
        threshold or gate ``>= 0``). A pooled unit is on where any of its windows is, a unit without a kink
        always.
    data : ndarray of shape (n, d)
        The samples.
    feature_names : list of str, or None
        Of a data frame, or of the data that an estimator was fitted to.
    """

    values: np.ndarray
    coefficients: np.ndarray
    base_values: np.ndarray
    active: np.ndarray
    data: np.ndarray = field(repr=False)
    feature_names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n, d, outputs = (*self.values.shape, 1)[:3]
        several = "" if self.values.ndim == 2 else f", {outputs} outputs"
        return f"<LocalLinear: {n} samples, {d} features{several}, {self.active.shape[1]} neurons>"


def local_linear(network: Network | Any, X: Any) -> LocalLinear:
    """Return the affine function that a network is around each sample.

    On a kink, where there are two, it is the one of the side on which the neuron is off.

    Parameters
    ----------
    network : Network, or a fitted estimator of this package
        Of an estimator, the output of its network is explained: ``decision_function`` of a classifier,
        the logarithm of the mean with ``loss="poisson"``.
    X : array-like or data frame of shape (n, d)
        Or samples that are images, (n, h, w) or (n, h, w, channels).

    Returns
    -------
    LocalLinear

    Raises
    ------
    TypeError
        If there is no network in what is passed.
    ValueError
        If X has another number of features.

    Examples
    --------
    >>> import numpy as np
    >>> net = Network.two_layer(np.eye(2), np.zeros(2), np.array([1.0, -2.0]), 0.5)
    >>> around = local_linear(net, [[3.0, 1.0], [3.0, -1.0]])
    >>> around.coefficients
    array([[ 1., -2.],
           [ 1.,  0.]])
    >>> around.base_values + around.values.sum(axis=1)
    array([1.5, 3.5])
    """
    names = _feature_names(network, X)
    network = getattr(network, "network_", network)
    if not isinstance(network, Network):
        raise TypeError(
            f"{type(network).__name__} has no network: pass a cvxnn.Network, a fitted ConvexNet estimator, "
            "or one of the networks_ of a path"
        )
    data = to_numpy(rows_for(X, network.layers))
    if data.ndim != 2 or data.shape[1] != network.n_features:
        raise ValueError(
            f"the network takes {network.n_features} features, X has shape {data.shape}: pass samples with "
            "the same features"
        )
    coefficients, base, active = _tangents(network, data)
    if network.n_outputs == 1:
        coefficients, base = coefficients[:, :, 0], base[:, 0]
        return LocalLinear(coefficients * data, coefficients, base, active, data, names)
    return LocalLinear(coefficients * data[:, :, None], coefficients, base, active, data, names)


def _feature_names(model: Any, X: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    names = getattr(X, "columns", None) if names is None else names
    return None if names is None else [str(name) for name in names]


def _tangents(network: Network, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients (n, d, outputs), bases (n, outputs) and which units of the last hidden layer are on."""
    inputs, on = [X], np.ones(X.shape, dtype=bool)
    for layer in network.layers[:-1]:
        on = active_after(layer, inputs[-1], on)
        inputs.append(layer(inputs[-1]))
    outputs = network.n_outputs
    G = np.broadcast_to(np.eye(outputs), (len(X), outputs, outputs))
    base = np.zeros((len(X), outputs))
    for layer, entered in zip(reversed(network.layers), reversed(inputs), strict=True):
        pull, rest = tangent(layer, entered)
        base = base + np.einsum("nu,nuo->no", rest, G)
        G = pull(G)
    return G, base, on


#: Takes cotangents (n, units, outputs) of a layer to those of what enters it, (n, inputs, outputs).
Pull = Callable[[np.ndarray], np.ndarray]


@singledispatch
def tangent(layer: Layer, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    """Return the affine map ``x -> J x + r`` that a layer is at each input.

    Parameters
    ----------
    layer : layer of :mod:`cvxnn.layers`
    X : ndarray of shape (n, inputs)

    Returns
    -------
    pull : callable
        Multiplies (n, units, outputs) by the transposed J of each sample: (n, inputs, outputs).
    rest : ndarray of shape (n, units)
        The r of each sample.

    Raises
    ------
    TypeError
        If the layer is not one of the vocabulary.
    """
    raise TypeError(f"no tangent of a {type(layer).__name__} layer is known: pass layers of cvxnn.layers")


@tangent.register
def _(layer: Affine, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    return lambda G: layer.weight @ G, np.broadcast_to(layer.bias, (len(X), len(layer.bias)))


@tangent.register(ReLU)
@tangent.register(LeakyReLU)
@tangent.register(Absolute)
@tangent.register(SkipReLU)
def _(layer: Any, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    """Homogeneous activations: a slope on each side of zero, and no rest."""
    bent = layer.bent if isinstance(layer, SkipReLU) else layer
    if isinstance(bent, LeakyReLU):
        slope = np.where(X > 0.0, 1.0, np.ravel(bent.slope)[0])
    elif isinstance(bent, Absolute):
        slope = np.where(X > 0.0, 1.0, -1.0)
    else:
        slope = (X > 0.0).astype(np.float64)
    if isinstance(layer, SkipReLU):
        slope[:, X.shape[1] - layer.passed :] = 1.0
    return lambda G: slope[:, :, None] * G, np.zeros_like(X)


@tangent.register
def _(layer: Threshold, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    return np.zeros_like, layer(X)


@tangent.register
def _(layer: SkipThreshold, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    passes = np.arange(X.shape[1]) >= X.shape[1] - layer.passed
    return lambda G: passes[:, None] * G, np.where(passes, 0.0, layer(X))


@tangent.register
def _(layer: Polynomial, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    slope = 2.0 * layer.quadratic * X + layer.linear
    return lambda G: slope[:, :, None] * G, layer(X) - slope * X


@tangent.register
def _(layer: Product, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    half = X.shape[1] // 2
    first, second = X[:, :half], X[:, half:]

    def pull(G: np.ndarray) -> np.ndarray:
        return np.concatenate([second[:, :, None] * G, first[:, :, None] * G], axis=1)

    return pull, -first * second


@tangent.register
def _(layer: Gated, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    on = X @ layer.gates + layer.gate_bias >= 0.0
    return lambda G: layer.weight @ (on[:, :, None] * G), on * layer.bias


@tangent.register(Conv)
@tangent.register(GatedConv)
def _(layer: Any, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    filters = layer.weight.shape[1]
    on = np.ones((len(X), layer.windows.positions, filters), dtype=bool)
    if isinstance(layer, GatedConv):
        on = layer.windows.patches(X) @ layer.gates + layer.gate_bias >= 0.0

    def pull(G: np.ndarray) -> np.ndarray:
        passed = on[..., None] * G.reshape(*on.shape, G.shape[2])
        return _unfold(layer, np.einsum("pf,nkfo->nkpo", layer.weight, passed))

    return pull, _flat(on * layer.bias)


@tangent.register
def _(layer: Pool, X: np.ndarray) -> tuple[Pull, np.ndarray]:
    windows = layer.windows
    size, channels = windows.kernel[0] * windows.kernel[1], windows.shape[2]
    parts = windows.patches(X).reshape(len(X), windows.positions, size, channels)
    share = np.full(parts.shape, 1.0 / size if layer.name == "mean" else 1.0)
    if layer.name == "max":
        # of several largest ones the first has it all
        share = (np.arange(size)[:, None] == parts.argmax(axis=2)[:, :, None]).astype(np.float64)

    def pull(G: np.ndarray) -> np.ndarray:
        spread = share[..., None] * G.reshape(len(X), windows.positions, 1, channels, G.shape[2])
        return _unfold(layer, spread.reshape(len(X), windows.positions, size * channels, G.shape[2]))

    return pull, np.zeros((len(X), windows.positions * channels))


def _flat(maps: Any) -> np.ndarray:
    """Rows of flat images, of maps (n, positions, channels)."""
    return maps.reshape(len(maps), maps.shape[1] * maps.shape[2])


def _unfold(layer: Windowed, P: np.ndarray) -> np.ndarray:
    """Add up patches (n, K, patch, outputs) where they came from: (n, inputs, outputs)."""
    n, outputs = len(P), P.shape[3]
    flat = layer.windows.adjoint(np.moveaxis(P, 3, 0).reshape(outputs * n, *P.shape[1:3]))
    return np.moveaxis(flat.reshape(outputs, n, flat.shape[1]), 0, 2)


def active_after(layer: Layer, X: np.ndarray, on: np.ndarray) -> np.ndarray:
    """Return which units of a layer are on beyond their kink, (n, units).

    Parameters
    ----------
    layer : layer of :mod:`cvxnn.layers`
    X, on : ndarrays of shape (n, inputs)
        What enters the layer, and which of it is on.
    """
    if isinstance(layer, ReLU | LeakyReLU | Absolute | SkipReLU):
        beyond = X >= 0.0 if isinstance(layer, SkipThreshold) else X > 0.0
        if isinstance(layer, SkipReLU):
            beyond[:, X.shape[1] - layer.passed :] = True
        return beyond
    if isinstance(layer, Threshold):
        return X >= 0.0
    if isinstance(layer, Gated):
        return X @ layer.gates + layer.gate_bias >= 0.0
    if isinstance(layer, GatedConv):
        return _flat(layer.windows.patches(X) @ layer.gates + layer.gate_bias >= 0.0)
    if isinstance(layer, Pool):
        windows = layer.windows
        size, channels = windows.kernel[0] * windows.kernel[1], windows.shape[2]
        parts = windows.patches(on.astype(np.int8)).reshape(len(X), windows.positions, size, channels)
        return _flat(parts.max(axis=2) > 0)
    if isinstance(layer, Polynomial):
        return on
    return np.ones((len(X), layer(X[:1]).shape[1]), dtype=bool)
