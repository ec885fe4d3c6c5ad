r"""Networks of parallel deep branches as plain weights, and what a branch costs.

A branch of depth L is a chain of weight matrices with ReLUs between, ``(..((X W_1)_+ W_2)_+ .. w_(L-1))_+
w_L``, whose last hidden layer is one neuron. In an explicit network the branches stand side by side: W_1
holds the neurons of all of them, inner matrices are block-diagonal, and every neuron of the last hidden
layer is a branch. It is read back from the zeros of the weights: a branch is a last hidden neuron with all
that feeds it. A neuron that feeds two branches belongs to both and counts in both, since their weights
would be scaled apart.

A branch costs ``|w_1|_F ... |w_L|`` after the best rescaling of its neurons, which changes no output.
Between two layers ``min over d of |A diag(d)|_F |diag(1/d) B|_F`` is ``sum_j |a_j| |b_j|`` over the columns
of A and the rows of B (Cauchy and Schwarz), with d_j^2 proportional to ``|b_j| / |a_j|``. With one inner
layer (L = 3) that is the answer; with more, taking the layers in turn descends a convex function of log d.

References: Ergen and Pilanci, "Global optimality beyond two layers", ICML 2021 (parallel networks); Wang,
Ergen and Pilanci, ICLR 2023 (the product of norms).
"""

from __future__ import annotations

import numpy as np

from .network import Affine, Network, ReLU

__all__ = ["Branch", "balanced", "branches_of", "check_layers", "cost_of", "join_branches", "outputs_of"]

#: The weights ``W_1 .. W_(L-1)`` and the output weight (1, 1) of a branch; W_1 has a last row of biases, if
#: any.
Branch = list[np.ndarray]
#: Rounds of rescaling for a branch with several inner layers, and the change of its cost that ends them.
SWEEPS, CLOSE = 200, 1e-13


def balanced(branch: Branch) -> Branch:
    """Return a branch of equal output and least cost, all layers of equal norm; zeros as they are."""
    layers = [np.array(W, dtype=np.float64) for W in branch]
    inner, last = range(len(layers) - 2), np.inf
    for _ in range(SWEEPS if len(layers) > 3 else 1):
        for at in inner:
            a = np.linalg.norm(layers[at], axis=0)
            b = np.linalg.norm(layers[at + 1], axis=1)
            live = (a > 0) & (b > 0)
            d = np.sqrt(np.where(live, b, 1.0) / np.where(live, a, 1.0))
            layers[at] = np.where(live, layers[at] * d, 0.0)
            layers[at + 1] = np.where(live[:, None], layers[at + 1] / d[:, None], 0.0)
        product = float(np.prod([np.linalg.norm(W) for W in layers]))
        if product == 0.0 or last - product <= CLOSE * product:
            break
        last = product
    norms = [float(np.linalg.norm(W)) for W in layers]
    cost = float(np.prod(norms))
    if cost == 0.0:
        return layers
    return [W * (cost ** (1.0 / len(layers)) / norm) for W, norm in zip(layers, norms, strict=True)]


def cost_of(branch: Branch) -> float:
    """Return the least product of the norms of the layers over all rescalings of the neurons."""
    return float(np.prod([np.linalg.norm(W) for W in balanced(branch)]))


def check_layers(network: Network, depth: int, biased: bool, name: str) -> list[Affine]:
    """Return the ``depth`` affine layers of a deep ReLU network.

    Raises
    ------
    ValueError
        If it has other layers, or biases where the family has none.
    """
    affine = [layer for layer in network.layers[0::2] if isinstance(layer, Affine)]
    between = all(isinstance(layer, ReLU) for layer in network.layers[1::2])
    if len(network.layers) != 2 * depth - 1 or len(affine) != depth or not between:
        layers = ", ReLU, ".join(["Affine"] * depth)
        raise ValueError(f"{network!r} is not a {name} network of depth {depth}: pass {layers}")
    if any(np.any(layer.bias != 0) for layer in affine[1:-1]):
        raise ValueError(
            f"the network has biases beyond its first layer: {name} networks have none there, "
            "pass layers whose bias is zero, or architecture='layerwise' to judge the last two layers"
        )
    if not biased and np.any(affine[0].bias != 0):
        raise ValueError("the network has hidden biases: pass hidden_bias='penalized', not None")
    return affine


def branches_of(affine: list[Affine], biased: bool) -> list[Branch]:
    """Return the branches of a network's affine layers, without those whose output weight is zero."""
    first = np.vstack([affine[0].weight, affine[0].bias]) if biased else affine[0].weight
    weights = [first, *(layer.weight for layer in affine[1:])]
    found = []
    for k in np.flatnonzero(np.any(weights[-1] != 0, axis=1)):
        units, branch = np.array([k]), [weights[-1][k : k + 1]]
        for W in reversed(weights[1:-1]):
            below = np.flatnonzero(np.any(W[:, units] != 0, axis=1))
            branch.insert(0, W[np.ix_(below, units)])
            units = below
        branch.insert(0, weights[0][:, units])
        found.append(branch)
    return found


def join_branches(branches: list[Branch], depth: int, features: int, biased: bool) -> Network:
    """Return the network of branches side by side, each balanced; its output has no constant yet.

    Parameters
    ----------
    branches : list of Branch
    depth : int
        Number of weight matrices of each.
    features : int
        Inputs of the network.
    biased : bool
        Whether the first matrices have a row of biases.
    """
    even = [balanced(branch) for branch in branches]
    first = np.hstack([np.zeros((features + biased, 0)), *(branch[0] for branch in even)])
    bias = first[features] if biased else np.zeros(first.shape[1])
    layers: list = [Affine(np.ascontiguousarray(first[:features]), np.ascontiguousarray(bias))]
    for at in range(1, depth - 1):
        rows, columns = first.shape[1], sum(branch[at].shape[1] for branch in even)
        W = np.zeros((rows, columns))
        r = c = 0
        for branch in even:
            m, k = branch[at].shape
            W[r : r + m, c : c + k] = branch[at]
            r, c = r + m, c + k
        layers += [ReLU(), Affine(W, np.zeros(columns))]
        first = W
    last = np.vstack([np.zeros((0, 1)), *(branch[-1] for branch in even)])
    return Network((*layers, ReLU(), Affine(last, np.zeros(1))))


def outputs_of(branch: Branch, design: np.ndarray) -> np.ndarray:
    """Return what a branch computes before its output weight on a design matrix, shape (n,)."""
    H = design
    for W in branch[:-1]:
        H = np.maximum(H @ W, 0.0)
    return H[:, 0]
