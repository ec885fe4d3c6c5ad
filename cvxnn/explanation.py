r"""Neurons explained by samples: on whose hyperplanes do the kinks of a network lie?

A neuron ``(x'w + b)_+`` has its kink on the hyperplane ``x'w + b = 0``. At an optimal network many kinks
run through samples: with an l1 penalty of the hidden weights every neuron can be taken to be the wedge
product of samples and coordinate directions, which determine it up to its size, so its weights can be
read as "the hyperplane through samples 3 and 17". :func:`explain` reads that off any network whose first
layer is affine, whatever trained it.

Reference: Pilanci, "From complexity to clarity", TMLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import to_numpy
from .network import Affine, Network


@dataclass(frozen=True)
class Kink:
    """What lies on the kink of a neuron.

    Parameters
    ----------
    samples : tuple of int
        Rows of X with ``x'w + b = 0``.
    features : tuple of int
        Columns whose weight is zero.
    bias : bool
        Whether the bias is not zero; a kink without a bias runs through the origin.
    determined : bool
        Whether these samples and zeros leave one hyperplane: the neuron is then their wedge product, up to
        its size.
    weight : float
        Of the output, times the size of (w, b): how much the neuron counts; the norm over outputs if there
        are several.
    """

    samples: tuple[int, ...]
    features: tuple[int, ...]
    bias: bool
    determined: bool
    weight: float

    def __str__(self) -> str:
        parts = []
        # a bias of zero is one of the places that determine a kink, as a weight of zero is
        places = [f"samples {', '.join(map(str, self.samples))}"] if self.samples else []
        places += [] if self.bias else ["the origin"]
        if places:
            parts.append(f"runs through {' and '.join(places)}")
        if self.features:
            parts.append(f"does not see features {', '.join(map(str, self.features))}")
        where = " and ".join(parts) or "meets no sample"
        return f"{where}{'' if self.determined else ' (not determined by them)'}, weight {self.weight:.3g}"


def explain(network: Network | Any, X: Any, *, tol: float = 1e-6) -> list[Kink]:
    """Return for each hidden neuron the samples on its kink, and the features it does not see.

    Parameters
    ----------
    network : Network, or a fitted estimator of this package
        Its first layer is affine.
    X : array-like of shape (n, d)
        The data it was trained on.
    tol : float, default=1e-6
        What counts as zero: ``|x'w + b|`` relative to ``|(x, 1)| |(w, b)|``, and a weight relative to the
        largest.

    Returns
    -------
    list of Kink, one for each neuron in its order

    Raises
    ------
    ValueError
        If the first layer is not affine, or X has another number of features.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    >>> net = Network.two_layer(np.array([[1.0], [-1.0]]), np.zeros(1), np.array([2.0]))
    >>> print(explain(net, X)[0])
    runs through samples 2 and the origin, weight 2.83
    """
    network = getattr(network, "network_", network)
    X = to_numpy(X)
    if not isinstance(network, Network) or not isinstance(network.layers[0], Affine):
        raise ValueError("only a network whose first layer is affine has kinks: pass a ReLU network, say")
    first, last = network.layers[0], network.layers[1 if len(network.layers) == 2 else 2]
    if X.ndim != 2 or X.shape[1] != first.inputs:
        raise ValueError(f"the network takes {first.inputs} features, X has shape {X.shape}: pass its data")
    # without any bias the ones are no direction a neuron could have used
    biased = bool(np.any(first.bias))
    out = np.linalg.norm(last.weight, axis=1) if isinstance(last, Affine) else np.ones(len(first.bias))
    full = np.column_stack([X, np.ones(len(X))]) if biased else X
    U = np.vstack([first.weight, first.bias]) if biased else first.weight
    lengths, d = np.linalg.norm(full, axis=1), X.shape[1]
    found = []
    for u, a in zip(U.T, out, strict=True):
        size = float(np.linalg.norm(u))
        on = np.flatnonzero((np.abs(full @ u) <= tol * lengths * size) & (lengths > 0))
        zeros = np.flatnonzero(np.abs(u[:d]) <= tol * np.max(np.abs(u), initial=0.0))
        flat = [*zeros, d] if biased and abs(u[d]) <= tol * size else list(zeros)
        rows = np.concatenate([full[on] / lengths[on, None], np.eye(len(u))[flat]])
        rank = int(np.linalg.matrix_rank(rows, tol=1e-8)) if len(rows) else 0
        bias = bool(biased and abs(u[d]) > tol * size)
        found.append(
            Kink(tuple(on.tolist()), tuple(zeros.tolist()), bias, rank == len(u) - 1, float(a) * size)
        )
    return found
