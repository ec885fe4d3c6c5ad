"""Networks of other libraries in plain weights, with what their own training penalised.

Read are estimators of this package, its networks, arrays, ``torch.nn.Sequential`` of linear layers with
ReLUs (batch normalisation folded in), and scikit-learn's multi-layer perceptrons. Nothing is trained or
judged here, see :mod:`cvxnn.audit`.

Reference: the documentation of scikit-learn (MLPClassifier) and of PyTorch (Linear, BatchNorm1d) for their
conventions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import network as layers
from .architectures import Architecture
from .arrays import to_numpy
from .families import get_architecture
from .feature_penalties import WeightPenalty
from .network import Affine, Network


@dataclass(frozen=True, eq=False)
class Reading:
    """A foreign network in plain weights, and what its own training penalised.

    Parameters
    ----------
    network : Network
    hidden_bias : {"penalized", "free", None}
    intercept : bool
    loss : str
        The loss it was trained with, as far as the object tells.
    classes : ndarray of shape (classes,) or None
    coupling : {"joint", "separate"}
        What several outputs share.
    penalty : {"l2", "l1"}, Groups or Elastic
        Of the hidden weights.
    bare : bool
        Whether these are weights only, of any activation; the network then has ReLUs.
    family : str, Architecture or None
        What the object says it is, where layers do not tell.
    """

    network: Network
    hidden_bias: str | None
    intercept: bool
    loss: str = "squared_error"
    classes: np.ndarray | None = None
    coupling: str = "joint"
    penalty: WeightPenalty = "l2"
    bare: bool = False
    family: str | Architecture | None = None


def read_network(network: Any, X: Any = None, sample_weight: Any = None) -> Reading:
    """Read a network of this package, of arrays, of torch or of scikit-learn.

    The data ``X`` (n, d) and their weights matter to a batch normalisation in training mode only.

    Raises
    ------
    TypeError
        If the object is none of these.
    ValueError
        If it is, but not a two-layer network with an activation of this package.
    """
    if hasattr(network, "network_") and isinstance(network.network_, Network):
        return _from_estimator(network)
    if isinstance(network, Network):
        free = bool(np.any(network.intercept))
        # of gates too, and of every hidden layer: a family without biases would be another one
        names = [(layer, name) for layer in network.layers[:-1] for name in ("bias", "gate_bias")]
        biased = any(bool(np.any(getattr(layer, name, 0.0))) for layer, name in names)
        return Reading(network, "penalized" if biased else None, free)
    if isinstance(network, tuple | list) and len(network) == 4:
        return _from_arrays(*network)
    if hasattr(network, "coefs_") and hasattr(network, "intercepts_"):
        return _from_sklearn(network)
    if hasattr(network, "state_dict") and hasattr(network, "children"):
        return _from_torch(network, X, sample_weight)
    raise TypeError(
        f"cannot read a network from {type(network).__name__}: pass a cvxnn Network, arrays "
        "(W1, b1, W2, b2), torch.nn.Sequential(Linear, ReLU, Linear) or a fitted scikit-learn MLP"
    )


def _from_estimator(estimator: Any) -> Reading:
    family = getattr(estimator, "judged_as", None)
    if family is not None:
        return Reading(estimator.network_, "penalized", True, classes=estimator.classes_, family=family)
    network, coupling = estimator.network_, getattr(estimator, "coupling", "joint")
    penalty = getattr(estimator, "penalty", "l2")
    architecture = get_architecture(
        estimator.architecture,
        estimator.hidden_bias,
        estimator.patterns,
        network.n_outputs,
        coupling,
        penalty,
    )
    penalty = getattr(architecture, "penalty", penalty)
    coupling = getattr(architecture, "coupling", coupling)
    bias = getattr(architecture, "hidden_bias", estimator.hidden_bias)
    free = bool(estimator.fit_intercept) or bias == "free"
    classes = getattr(estimator, "classes_", None)
    family = None if architecture.name == "relu" else estimator.architecture
    return Reading(network, bias, free, estimator.loss, classes, coupling, penalty, family=family)


def _from_arrays(W1: Any, b1: Any, W2: Any, b2: Any) -> Reading:
    first, last = np.atleast_2d(to_numpy(W1)), to_numpy(W2)
    last = last[:, None] if last.ndim == 1 else last
    if last.ndim != 2 or last.shape[0] != first.shape[1]:
        raise ValueError(f"W1 {first.shape} and W2 {last.shape} do not fit: pass W1 (d, m) and W2 (m, 1)")
    bias = np.zeros(first.shape[1]) if b1 is None else np.ravel(to_numpy(b1))
    c = np.zeros(last.shape[1]) if b2 is None else np.ravel(to_numpy(b2))
    if bias.shape != (first.shape[1],) or c.shape != last.shape[1:]:
        raise ValueError(f"b1 {bias.shape} and b2 {c.shape} do not fit: pass b1 (m,) and b2 (outputs,)")
    if not all(np.all(np.isfinite(v)) for v in (first, bias, last, c)):
        raise ValueError("the network's weights are not all finite: it has diverged; train it again")
    network = Network.two_layer(first, bias, last, c)
    return Reading(network, None if b1 is None else "penalized", b2 is not None, bare=True)


def _from_sklearn(mlp: Any) -> Reading:
    deep = len(mlp.coefs_) > 2
    if mlp.activation != "relu" and (deep or mlp.activation != "identity"):
        raise ValueError(
            f"the MLP has {len(mlp.coefs_) - 1} hidden layers with activation {mlp.activation!r}: "
            "pass one with activation='relu', or a single hidden layer and 'identity'"
        )
    plain = _from_arrays(mlp.coefs_[-2], mlp.intercepts_[-2], mlp.coefs_[-1], mlp.intercepts_[-1])
    if deep:
        plain = _on_top(list(zip(mlp.coefs_[:-2], mlp.intercepts_[:-2], strict=True)), plain)
    classes = getattr(mlp, "classes_", None)
    if mlp.out_activation_ == "logistic" and plain.network.n_outputs > 1:
        raise ValueError("the MLP was trained on several labels per sample: pass one trained on classes")
    loss = "squared_error" if classes is None else "log_loss"
    network = _with(plain.network, 1.0) if mlp.activation == "identity" else plain.network
    return Reading(network, "free", True, loss, classes)


def _on_top(hidden: list[tuple[Any, Any]], top: Reading) -> Reading:
    """A two-layer network on top of hidden layers of ReLUs, weights (inputs, units) and biases or None."""
    below: list[layers.Layer] = []
    for weight, bias in hidden:
        W = to_numpy(weight)
        b = np.zeros(W.shape[1]) if bias is None else np.ravel(to_numpy(bias))
        if not (np.all(np.isfinite(W)) and np.all(np.isfinite(b))):
            raise ValueError("the network's weights are not all finite: it has diverged; train it again")
        below += [Affine(W, b), layers.ReLU()]
    return replace(top, network=Network((*below, *top.network.layers)), bare=False)


def _from_torch(module: Any, X: Any, sample_weight: Any) -> Reading:
    children = list(module.children())
    if children and type(children[-1]).__name__ == "Flatten" and children[-1].start_dim == 0:
        children.pop()  # one output as (n,), which is how networks of this package become modules
    names = [type(child).__name__ for child in children]
    # Only a Sequential is known to compute what its children say.
    middle = names[1:-1]
    outer = [*names[:1], *names[-1:]] == ["Linear", "Linear"] and len(names) > 1
    repeated = ["ReLU", "Linear"] * (len(names) // 2 - 1)
    deep = outer and len(names) % 2 == 1 and len(names) > 3 and middle == [*repeated, "ReLU"]
    known = deep or (outer and middle in (["ReLU"], ["LeakyReLU"], ["BatchNorm1d", "ReLU"], []))
    if not known or type(module).__name__ != "Sequential":
        raise ValueError(
            f"the torch module {type(module).__name__} has the layers {names}: "
            "pass Sequential(Linear, ReLU, Linear), or with BatchNorm1d before the ReLU"
        )
    first, last = children[-3 if deep else 0], children[-1]
    weight = to_numpy(first.weight).T
    b1 = None if first.bias is None else to_numpy(first.bias)
    b2 = None if last.bias is None else to_numpy(last.bias)
    normalised = "BatchNorm1d" in middle
    if normalised:
        weight, b1 = _folded(children[1], weight, 0.0 if b1 is None else b1, X, sample_weight)
    slope = {"ReLU": 0.0, "LeakyReLU": getattr(children[1], "negative_slope", 0.0)}.get(
        "".join(middle[-1:]), 1.0
    )
    plain = _from_arrays(weight, b1, to_numpy(last.weight).T, b2)
    if deep:
        return _on_top([(c.weight.T, c.bias) for c in children[:-3:2]], plain)
    family = "batchnorm" if normalised else None
    return replace(plain, network=_with(plain.network, float(slope)), bare=False, family=family)


def _folded(
    norm: Any, weight: np.ndarray, bias: Any, X: Any, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (d, m) and biases (m,) of a layer with the batch normalisation after it folded in.

    In training mode, or without running statistics, those of the whole data as one batch.
    """
    if norm.running_mean is not None and not norm.training:
        mean, variance = to_numpy(norm.running_mean), to_numpy(norm.running_var)
    elif X is None:
        raise ValueError("the batch normalisation has no statistics: call .eval(), or pass X")
    else:
        T = to_numpy(X.detach() if hasattr(X, "detach") else np.asarray(X, dtype=np.float64)) @ weight
        share = np.ones(len(T)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        share = share / np.sum(share)
        mean = share @ T
        variance, mean = share @ (T - mean) ** 2, mean + bias
    scale = 1.0 / np.sqrt(variance + norm.eps)
    shift = 0.0 - mean * scale
    if norm.weight is not None:
        gamma, beta = to_numpy(norm.weight), to_numpy(norm.bias)
        scale, shift = gamma * scale, gamma * shift + beta
    return weight * scale, bias * scale + shift


def _with(network: Network, slope: float) -> Network:
    """The same weights with an activation of this slope on its negative side; slope 1 needs none."""
    first, last = network.layers[0], network.layers[-1]
    if slope == 1.0:
        return Network((first, last))
    return Network((first, layers.LeakyReLU(slope) if slope else layers.ReLU(), last))
