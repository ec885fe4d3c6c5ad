"""Certify anybody's network: how far is it from the best possible one?

A network trained by something else is read into plain weights and judged like our own. Its own residual
is a dual variable, but of a network that is not optimal a poor one; so the training problem is solved
here too, and the dual variable of the optimum gives the lower bound. The answer is then the distance to
the best network, not the distance to what can be concluded from a bad one.

Weight decay is counted after the best rescaling of every neuron, ``sum_j ||w_j|| |a_j|`` instead of
``1/2 sum_j (||w_j||^2 + a_j^2)``. Rescaling changes no prediction, so this is the objective of the same
function at its best weights; that of the very weights given is at least as large.

References: Pilanci and Ergen, ICML 2020; :mod:`cvxnn.certificate`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_X_y

from . import network as layers
from .architectures import ARCHITECTURES, Architecture
from .arrays import to_numpy
from .certificate import Certificate, judge
from .feature_penalties import WeightPenalty
from .losses import Loss, code_classes, get_loss
from .network import Affine, Gated, Network
from .parameters import check_alpha, check_coupling, check_switch, check_weights
from .program import Problem
from .train import BOUND_ITER, get_architecture, train


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


def certify(
    network: Any,
    X: Any,
    y: Any,
    *,
    alpha: float,
    loss: str = "auto",
    architecture: str | Architecture = "relu",
    hidden_bias: str | None = "auto",
    fit_intercept: bool | str = "auto",
    sample_weight: Any = None,
    patterns: Any = "auto",
    coupling: str = "auto",
    penalty: WeightPenalty = "auto",
    tol: float = 1e-6,
    max_iter: int = 50,
    max_time: float | None = None,
    random_state: int = 0,
) -> Certificate:
    """Certify a trained network against all networks of its family.

    Parameters
    ----------
    network : Network, tuple, torch.nn.Sequential or scikit-learn MLP
        A :class:`Network`; weights ``(W1, b1, W2, b2)`` in scikit-learn's convention with ``W1`` (d, m),
        ``b1`` (m,) or None, ``W2`` (m, outputs), ``b2`` (outputs,) or None;
        ``Sequential(Linear, ReLU, Linear)``, with ``LeakyReLU`` or nothing in the middle too;
        a fitted ``MLPRegressor`` or ``MLPClassifier`` with one hidden layer, of activation "relu" or
        "identity"; or a fitted estimator of this package. Weights alone are a network of the given
        architecture.
    X : array-like of shape (n, d)
    y : array-like of shape (n,), or (n, outputs) for a regression with several targets
        Targets; labels for a loss of classes, of two for one output and else of as many as outputs.
    alpha : float
        Strength of the weight decay per sample (a scikit-learn MLP's own is ``mlp.alpha / n``).
    loss : str, default="auto"
        "auto" takes what the object was trained with, and "squared_error" where it does not say.
    architecture : str or Architecture, default="relu"
        "relu" stands for the family that the network belongs to by its layers.
    hidden_bias : {"auto", "penalized", "free", None}, default="auto"
        How the judged objective treats hidden biases. "auto": "free" for scikit-learn (whose weight decay
        leaves them out), "penalized" for other networks with biases, else None.
    fit_intercept : bool or "auto", default="auto"
        Whether the output's constant is free; "auto" says so if the network has one.
    sample_weight : array-like of shape (n,), default=None
    patterns : default="auto"
        As in :class:`cvxnn.ConvexNetRegressor`: decides the scope of the certificate.
    coupling : {"auto", "joint", "separate"}, default="auto"
        What several outputs share, as in :class:`cvxnn.ConvexNetRegressor`; "auto" is "joint" (weight
        decay) unless the object says otherwise.
    penalty : {"auto", "l2", "l1"}, Groups or Elastic, default="auto"
        The norm of hidden weights that the judged objective has, as in :class:`cvxnn.ConvexNetRegressor`;
        "auto" is "l2" (weight decay) unless the object says otherwise.
    tol, max_iter, max_time, random_state
        Of the training that finds the best network.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If the network is not of the family, or does not fit the data.
    TypeError
        If the object cannot be read as a network.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0], [2.0], [-1.0]])
    >>> net = (np.array([[1.0]]), None, np.array([[0.5]]), None)
    >>> round(certify(net, X, np.array([1.0, 2.0, 0.0]), alpha=0.1).gap, 3)
    0.489
    """
    check_alpha(alpha)
    reading = read_network(network)
    name = reading.loss if loss == "auto" else loss
    outputs = reading.network.n_outputs
    chosen = get_loss(name, outputs)
    shared = reading.coupling if coupling == "auto" else coupling
    check_coupling(shared)
    norm = reading.penalty if penalty == "auto" else penalty
    X, y = (v.detach() if hasattr(v, "detach") else v for v in (X, y))
    X, y = check_X_y(X, y, dtype=np.float64, y_numeric=not chosen.classification, multi_output=True)
    if X.shape[1] != reading.network.n_features:
        raise ValueError(
            f"the network takes {reading.network.n_features} features, X has {X.shape[1]}: "
            "pass the data it was trained on"
        )
    labels = chosen.classification or reading.classes is not None
    y = _code(y, chosen, outputs, reading.classes) if labels else _numbers(y, outputs)
    weights = check_weights(sample_weight, X)
    bias = reading.hidden_bias if hidden_bias == "auto" else hidden_bias
    free = reading.intercept if fit_intercept == "auto" else check_switch("fit_intercept", fit_intercept)
    if not free and np.any(reading.network.intercept) and bias != "free":
        raise ValueError("the network's output has a constant: pass fit_intercept=True")
    gated = isinstance(reading.network.layers[0], Gated)
    family = architecture if reading.bare else _family_of(reading, architecture)
    judge_of = get_architecture(family, bias, patterns, outputs, shared, norm)
    if reading.bare:
        reading = replace(reading, network=_adopted(reading.network, judge_of))
    # An object says itself what it is; but gates and frozen layers belong to the network.
    elif judge_of.reads(reading.network) and (isinstance(family, str) or gated or judge_of.staged):
        judge_of = judge_of.like(reading.network)
    problem = Problem.from_alpha(X, y, weights, chosen, alpha, free)
    judge_of.cost(reading.network)  # refuses a network of another family before any work
    trained = train(
        problem,
        judge_of,
        tol=tol,
        max_iter=max_iter,
        max_time=max_time,
        random_state=random_state,
        bound_iter=0,
    )
    arrangement = judge_of.arrange(problem, np.random.default_rng(random_state))
    oracle = judge_of.oracle(problem, arrangement)
    cap = float("inf") if max_time is None else max_time
    return judge(
        reading.network,
        oracle.problem,
        judge_of,
        oracle,
        duals=(trained.dual,),
        max_iter=BOUND_ITER,
        max_time=cap,
    )


def _family_of(reading: Reading, architecture: str | Architecture) -> str | Architecture:
    """The family of a network by its layers, or by what it says of itself, unless another was asked for."""
    if architecture != "relu":
        return architecture
    # families of stages read the networks of all others, on top of frozen layers
    known = sorted(ARCHITECTURES.items(), key=lambda item: item[1].staged)
    named = next((name for name, family in known if family.reads(reading.network)), "relu")
    if named in {name for name, family in known if family.staged} and reading.family is None:
        raise ValueError(
            f"{reading.network!r} has several hidden layers: pass architecture='{named}' to judge its last "
            "two layers, the others taken as they are"
        )
    said = reading.family.name if isinstance(reading.family, Architecture) else reading.family
    return reading.family if named in ("relu", said) and reading.family is not None else named


def _adopted(network: Network, family: Architecture) -> Network:
    """The network of a family with the weights of another one."""
    first, last = network.layers[0], network.layers[-1]
    assert isinstance(first, Affine) and isinstance(last, Affine)
    w2 = last.weight[:, 0] if network.n_outputs == 1 else last.weight
    return family.adopt(first.weight, first.bias, w2, network.intercept)


def _numbers(y: np.ndarray, outputs: int) -> np.ndarray:
    """Targets of a regression in the shape of the network's output."""
    y = np.asarray(y, dtype=np.float64)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if (1 if y.ndim == 1 else y.shape[1]) != outputs:
        raise ValueError(f"the network has {outputs} outputs and y has shape {y.shape}: pass (n, outputs)")
    return y


def _code(y: np.ndarray, loss: Loss, outputs: int, classes: np.ndarray | None) -> np.ndarray:
    """Code the labels of as many classes as the network tells apart."""
    if y.ndim != 1:
        raise ValueError(f"y has shape {y.shape}: pass one label per sample, shape (n,)")
    known, needed = np.unique(y) if classes is None else classes, max(2, outputs)
    if len(known) != needed:
        raise ValueError(f"y has {len(known)} classes and the network tells {needed} apart: pass {needed}")
    if not np.all(np.isin(y, known)):
        raise ValueError(f"y holds labels other than the network's classes {known.tolist()}")
    return code_classes(np.searchsorted(known, y), loss, needed)


def read_network(network: Any) -> Reading:
    """Read a network of this package, of arrays, of torch or of scikit-learn.

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
        biased = bool(np.any(getattr(network.layers[0], "bias", 0.0)))
        return Reading(network, "penalized" if biased else None, free)
    if isinstance(network, tuple | list) and len(network) == 4:
        return _from_arrays(*network)
    if hasattr(network, "coefs_") and hasattr(network, "intercepts_"):
        return _from_sklearn(network)
    if hasattr(network, "state_dict") and hasattr(network, "children"):
        return _from_torch(network)
    raise TypeError(
        f"cannot read a network from {type(network).__name__}: pass a cvxnn Network, arrays "
        "(W1, b1, W2, b2), torch.nn.Sequential(Linear, ReLU, Linear) or a fitted scikit-learn MLP"
    )


def _from_estimator(estimator: Any) -> Reading:
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


def _from_torch(module: Any) -> Reading:
    names = [type(child).__name__ for child in module.children()]
    # Only a Sequential is known to compute what its children say.
    middle = names[1:-1]
    outer = [*names[:1], *names[-1:]] == ["Linear", "Linear"] and len(names) > 1
    deep = (
        outer
        and len(names) % 2 == 1
        and len(names) > 3
        and middle == ["ReLU", "Linear"] * (len(names) // 2 - 1) + ["ReLU"]
    )
    known = deep or (outer and middle in (["ReLU"], ["LeakyReLU"], []))
    if not known or type(module).__name__ != "Sequential":
        raise ValueError(
            f"the torch module {type(module).__name__} has the layers {names}: "
            "pass Sequential(Linear, ReLU, Linear)"
        )
    children = list(module.children())
    first, last = children[-3 if deep else 0], children[-1]
    slope = {"ReLU": 0.0, "LeakyReLU": getattr(children[1], "negative_slope", 0.0)}.get(
        "".join(middle), 1.0
    )
    b1 = None if first.bias is None else to_numpy(first.bias)
    b2 = None if last.bias is None else to_numpy(last.bias)
    plain = _from_arrays(to_numpy(first.weight).T, b1, to_numpy(last.weight).T, b2)
    if deep:
        return _on_top([(c.weight.T, c.bias) for c in children[:-3:2]], plain)
    return replace(plain, network=_with(plain.network, float(slope)), bare=False)


def _with(network: Network, slope: float) -> Network:
    """The same weights with an activation of this slope on its negative side; slope 1 needs none."""
    first, last = network.layers[0], network.layers[-1]
    if slope == 1.0:
        return Network((first, last))
    return Network((first, layers.LeakyReLU(slope) if slope else layers.ReLU(), last))
