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

from dataclasses import fields, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_X_y

from .architectures import ARCHITECTURES, Architecture
from .certificate import Certificate, judge
from .families import get_architecture
from .feature_penalties import WeightPenalty
from .lifted_oracles import with_bound
from .losses import Loss, code_classes, get_loss
from .network import Affine, Conv, Gated, GatedConv, Network
from .parameters import check_alpha, check_coupling, check_switch, check_weights, seed_of, weigh_classes
from .patches import rows_for
from .program import Problem
from .reading import Reading, read_network
from .train import BOUND_ITER, train


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
    class_weight: dict[Any, float] | str | None = "auto",
    patterns: Any = "auto",
    coupling: str = "auto",
    penalty: WeightPenalty = "auto",
    tol: float = 1e-6,
    max_iter: int = 50,
    max_time: float | None = None,
    random_state: int = 0,
    bound: str = "auto",
) -> Certificate:
    """Certify a trained network against all networks of its family.

    Parameters
    ----------
    network : Network, tuple, torch.nn.Sequential or scikit-learn MLP
        A :class:`Network`; weights ``(W1, b1, W2, b2)`` in scikit-learn's convention with ``W1`` (d, m),
        ``b1`` (m,) or None, ``W2`` (m, outputs), ``b2`` (outputs,) or None;
        ``Sequential(Linear, ReLU, Linear)``, with ``LeakyReLU`` or nothing in the middle too, or with
        ``BatchNorm1d`` before the ReLU: folded with its running statistics in eval mode, else with those
        of the data as one batch, and judged among batch-normalised networks;
        a fitted ``MLPRegressor`` or ``MLPClassifier`` with one hidden layer, of activation "relu" or
        "identity"; or a fitted estimator of this package. Weights alone are a network of the given
        architecture. A :class:`cvxnn.LayerwiseConvClassifier`, whose own certificates are about the squared
        norm that it trains with, is judged as the weight decay of its last stage ("layerwise_cnn").
    X : array-like of shape (n, d)
    y : array-like of shape (n,), or (n, outputs) for a regression with several targets
        Targets; labels for a loss of classes, of two for one output and else of as many as outputs.
    alpha : float
        Strength of the weight decay per sample (a scikit-learn MLP's own is ``mlp.alpha / n``, or over the
        batch size where it trains in batches).
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
    class_weight : {"auto", "balanced", None} or dict, default="auto"
        Weights of the classes, which multiply those of their samples, as in
        :class:`cvxnn.ConvexNetClassifier`; for labels only. "auto" takes what the object was trained with,
        and None where it does not say.
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
    bound : {"auto", "sdp"}, default="auto"
        What proves the lower bound where prices are bounded over all patterns: "sdp" also solves a
        semidefinite relaxation over lifted neurons, which proves much more and is for few samples: up to 20
        or 30, see :mod:`cvxnn.bounds_lifted`. Of convolutions the patches of all samples count instead.
        Exact certificates stay as they are.

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
    reading = read_network(network, X, sample_weight)
    chosen = get_loss(reading.loss if loss == "auto" else loss, reading.network.n_outputs)
    X, y, labels = _data(reading, X, y, chosen)
    weights = check_weights(sample_weight, X)
    of_class = getattr(network, "class_weight", None) if _is_auto(class_weight) else class_weight
    if of_class is not None:
        weights = weigh_classes(of_class, labels, weights, chosen.name, reading.classes)
        reading = read_network(network, X, weights)  # batches are normalised with the weights of the loss
    free = reading.intercept if fit_intercept == "auto" else check_switch("fit_intercept", fit_intercept)
    given = {"hidden_bias": hidden_bias, "coupling": coupling, "penalty": penalty}
    options: dict[str, Any] = {
        name: getattr(reading, name) if value == "auto" else value for name, value in given.items()
    }
    if not free and np.any(reading.network.intercept) and options["hidden_bias"] != "free":
        raise ValueError("the network's output has a constant: pass fit_intercept=True")
    family = architecture if reading.bare else _family_of(reading, architecture)
    if hidden_bias == "auto" and isinstance(family, str) and not _chooses_bias(family):
        options["hidden_bias"] = "penalized"  # which says nothing where there is no choice
    reading, judge_of = _judged(reading, family, patterns, **options)
    problem = Problem.from_alpha(X, y, weights, chosen, alpha, free)
    judge_of = judge_of.on(problem)
    judge_of.cost(reading.network)  # refuses a network of another family before any work
    # drawn as the estimators draw it: the same number of patterns is then the same list
    seed = seed_of(random_state)
    arrangement = judge_of.arrange(problem, np.random.default_rng(seed))
    oracle = with_bound(judge_of.oracle(problem, arrangement), bound)
    trained = train(
        problem,
        judge_of,
        tol=tol,
        max_iter=max_iter,
        max_time=max_time,
        random_state=seed,
        bound_iter=0,
    )
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


def _is_auto(value: Any) -> bool:
    """Whether a parameter that may be an array or a dict is the word "auto"."""
    return isinstance(value, str) and value == "auto"


def _data(reading: Reading, X: Any, y: Any, loss: Loss) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Samples as the network takes them, targets in the shape of its output or codes of labels, and labels
    as they were given."""
    X, y = (v.detach() if hasattr(v, "detach") else v for v in (X, y))
    X = rows_for(X, reading.network.layers)
    X, y = check_X_y(X, y, dtype=np.float64, y_numeric=not loss.classification, multi_output=True)
    network = reading.network
    if X.shape[1] != network.n_features:
        raise ValueError(
            f"the network takes {network.n_features} features, X has {X.shape[1]}: "
            "pass the data it was trained on"
        )
    if loss.classification or reading.classes is not None:
        return X, _code(y, loss, network.n_outputs, reading.classes), y
    return X, _numbers(y, network.n_outputs), None


def _judged(
    reading: Reading,
    family: str | Architecture,
    patterns: Any,
    hidden_bias: str | None,
    coupling: str,
    penalty: WeightPenalty,
) -> tuple[Reading, Architecture]:
    """What was read as a network of a family, and the family with what belongs to this network."""
    check_coupling(coupling)
    outputs = reading.network.n_outputs
    judge_of = get_architecture(family, hidden_bias, patterns, outputs, coupling, penalty)
    if reading.bare:
        return replace(reading, network=_adopted(reading.network, judge_of)), judge_of
    # An object says itself what it is; but gates, geometry and frozen layers belong to the network.
    own = isinstance(reading.network.layers[0], Gated | Conv | GatedConv)
    if judge_of.reads(reading.network) and (isinstance(family, str) or own or judge_of.staged):
        judge_of = judge_of.like(reading.network)
    return reading, judge_of


def _family_of(reading: Reading, architecture: str | Architecture) -> str | Architecture:
    """The family of a network by its layers, or by what it says of itself, unless another was asked for."""
    if architecture != "relu":
        return architecture
    if reading.family is not None and not isinstance(reading.network.layers[0], Gated | Conv | GatedConv):
        return reading.family
    # families of stages read the networks of all others, on top of frozen layers
    known = sorted(ARCHITECTURES.items(), key=lambda item: item[1].staged)
    read = [name for name, family in known if family.reads(reading.network)]
    said = reading.family.name if isinstance(reading.family, Architecture) else reading.family
    if reading.family is not None and said in read:
        return reading.family
    named = read[0] if read else "relu"
    staged = [name for name in read if ARCHITECTURES[name].staged]
    whole = [name for name in read if name not in staged]
    # plain weights do not tell what several hidden layers of ReLUs paid together
    if reading.family is None and staged and (not whole or reading.hidden_bias == "free"):
        raise ValueError(
            f"{reading.network!r} has several hidden layers: pass architecture='{staged[0]}' to judge its "
            "last two layers, the others taken as they are"
        )
    return reading.family if named == "relu" and reading.family is not None else named


def _chooses_bias(name: str) -> bool:
    """Whether a family has a choice of hidden bias; an unknown name is another error's matter."""
    family: Any = ARCHITECTURES.get(name)
    if family is None:
        return True
    return not family.folded and any(part.name == "hidden_bias" for part in fields(family))


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
