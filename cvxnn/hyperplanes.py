r"""Where neurons switch: the hyperplanes of a network's first hidden layer, and its kinks anywhere.

A neuron :math:`\phi(w^\top x + b)` with a kink at zero, or a gated one
:math:`1[g^\top x + h \ge 0] (w^\top x + b)`, switches on the hyperplane where the argument of its kink is
zero, and a sample lies at the signed distance

.. math:: (w^\top x + b) / \|w\|_2

from it, positive where the neuron is active. Neurons of the layers behind switch on bent surfaces, which
have no normal, but are still the zeros of an argument: :func:`arguments` follows these through all layers.

Reference: Montúfar, Pascanu, Cho and Bengio, NeurIPS 2014.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layers import (
    Absolute,
    Affine,
    Conv,
    Gated,
    GatedConv,
    LeakyReLU,
    Polynomial,
    Product,
    ReLU,
    SkipReLU,
    Threshold,
)
from .network import Network

#: Activations with one kink, or step, at zero.
KINKED = (ReLU, LeakyReLU, Absolute, Threshold, SkipReLU)


@dataclass(frozen=True, eq=False)
class Hyperplanes:
    """The neurons of a first hidden layer, and where they switch.

    Parameters
    ----------
    normals : ndarray of shape (d, m)
    offsets : ndarray of shape (m,)
        Neuron j switches where ``x'normals_j + offsets_j = 0``.
    weights : ndarray of shape (d, m)
    biases : ndarray of shape (m,)
        Of the neurons; the same as `normals` and `offsets` unless they are gated.
    output_weights : ndarray of shape (m, outputs)
        What the next layer takes them with.
    both_sides : bool
        Whether they answer on both sides, as leaky and absolute neurons do.
    """

    normals: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    biases: np.ndarray
    output_weights: np.ndarray
    both_sides: bool = False

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def sizes(self) -> np.ndarray:
        """How much each neuron counts, (m,): norm of its weights times norm of its output weights."""
        inner = np.sqrt(np.sum(self.weights**2, axis=0) + self.biases**2)
        return inner * np.linalg.norm(self.output_weights, axis=1)

    def arguments(self, X: np.ndarray) -> np.ndarray:
        """``X normals + offsets``, shape (n, m)."""
        return X @ self.normals + self.offsets

    def distances(self, X: np.ndarray) -> np.ndarray:
        """Signed distances of samples (n, d) to each hyperplane, (n, m), in units of the features.

        NaN for a neuron that sees no feature and has no hyperplane.
        """
        lengths = np.linalg.norm(self.normals, axis=0)
        return self.arguments(X) / np.where(lengths > 0.0, lengths, np.nan)

    def touching(self, X: np.ndarray, tol: float = 1e-6) -> np.ndarray:
        """Which samples lie on which hyperplane, bool (n, m).

        ``|x'w + b| <= tol |(x, 1)| |(w, b)|``, the rule of :func:`cvxnn.explain`.
        """
        biased = float(np.any(self.offsets))
        rows = np.sqrt(np.sum(X**2, axis=1) + biased)
        columns = np.sqrt(np.sum(self.normals**2, axis=0) + self.offsets**2)
        on = np.abs(self.arguments(X)) <= tol * rows[:, None] * columns
        return on & (rows > 0.0)[:, None] & (columns > 0.0)


def hyperplanes(network: Network) -> Hyperplanes:
    """Return the hyperplanes on which the neurons of the first hidden layer switch.

    Raises
    ------
    ValueError
        If these neurons have no hyperplane, or one for every window.
    """
    layers = network.layers
    first, second = layers[0], layers[1] if len(layers) > 1 else None
    if isinstance(first, Gated) and isinstance(second, Affine | Gated):
        return Hyperplanes(first.gates, first.gate_bias, first.weight, first.bias, second.weight)
    if isinstance(first, Conv | GatedConv):
        raise ValueError(
            "a convolutional neuron has a hyperplane for every window, not one: look at its filters in "
            "network.layers[0].weight, and at what the network does to a sample with local_linear"
        )
    if isinstance(first, Affine) and isinstance(second, KINKED):
        third = layers[2]
        assert isinstance(third, Affine | Gated)
        kept = slice(len(first.bias) - (second.passed if isinstance(second, SkipReLU) else 0))
        W, b = first.weight[:, kept], first.bias[kept]
        phi = second.bent if isinstance(second, SkipReLU) else second
        return Hyperplanes(W, b, W, b, third.weight[kept], isinstance(phi, LeakyReLU | Absolute))
    smooth = {Polynomial: "polynomial", Product: "bilinear"}.get(type(second), "linear")
    raise ValueError(
        f"{smooth} neurons have no hyperplane to switch on: look at the function with DecisionDisplay, or "
        "at what it is around a sample with local_linear"
    )


def arguments(network: Network, X: np.ndarray) -> np.ndarray:
    """Return the arguments of all kinks of a network, in all layers; zero where one switches.

    Parameters
    ----------
    network : Network
    X : ndarray of shape (n, d)

    Returns
    -------
    ndarray of shape (n, kinks)
        Of a convolution there is one for every window and filter; a smooth network has none.
    """
    found = [np.zeros((len(X), 0))]
    for layer in network.layers:
        if isinstance(layer, SkipReLU):
            found.append(X[:, : X.shape[1] - layer.passed])
        elif isinstance(layer, KINKED):
            found.append(X)
        elif isinstance(layer, Gated):
            found.append(X @ layer.gates + layer.gate_bias)
        elif isinstance(layer, GatedConv):
            opened = layer.windows.patches(X) @ layer.gates + layer.gate_bias
            found.append(opened.reshape(len(X), opened.shape[1] * opened.shape[2]))
        X = layer(X)
    return np.concatenate(found, axis=1)
