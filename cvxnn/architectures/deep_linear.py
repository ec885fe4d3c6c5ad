r"""Parallel deep linear networks: the nuclear norm at every depth.

The network is a sum of branches, ``f(x) = sum_k x'W_1k W_2k ... W_Lk + c``, with the product of norms as
penalty, equal to the L-th powers of the norms after rescaling layers,

    minimise   L(f) + beta * sum_k |W_1k|_F ... |W_Lk|_F  =  L(f) + beta/L * sum_k sum_l |W_lk|_F^L.

A branch computes ``X Z_k`` with ``|Z_k|_* <= |W_1k|_F ... |W_Lk|_F``, as ``|A B|_* <= |A|_F |B|_F`` and a
spectral norm is at most a Frobenius norm; a rank-one branch attains it. So at every depth it is the convex
program of two layers,

    minimise over Z   L( X Z + c ) + beta |Z|_*,        dual constraint |X'Theta|_2 <= beta,

with certificates that are exact. A singular triple (s, a, b) of Z is a branch of single neurons,
``s^(1/L) a, s^(1/L), ..., s^(1/L) b'``. One output leaves one branch and ``|w|_2``.

One network with weight decay ``beta/2 sum_l |W_l|_F^2`` is another matter: its penalty is a power below one
of singular values, without a convex form; :mod:`cvxnn.schatten` has what is known of it in closed form.

In explicit networks branches stand side by side, and inner matrices are block-diagonal. A branch is a
connected part of the hidden neurons.

References: Wang, Ergen and Pilanci, "Parallel deep neural networks have zero duality gap", ICLR 2023; Ergen
and Pilanci, "Revealing the structure of deep neural networks via convex duality", ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ..arrangement import Arrangement
from ..network import Affine, Network
from ..program import Problem, Solution
from .base import VectorArchitecture
from .linear_family import LinearFamily
from .two_layer import with_constants


@dataclass(frozen=True)
class DeepLinear(LinearFamily):
    """Parallel deep linear networks with one output: at most one branch, with penalty ``|w|_2``.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias of the first layer that is penalised with its weights, one that is not (a free constant of
        the output), or none.
    patterns : {"auto", "all"}, default="auto"
        Linear networks have none.
    depth : int, default=3
        Number of layers, at least 3.
    """

    name: ClassVar[str] = "deep_linear"

    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"
    depth: int = 3

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return len(network.layers) > 2 and all(isinstance(layer, Affine) for layer in network.layers)

    def like(self, network: Network) -> Any:
        return type(self)(self.hidden_bias, self.patterns, len(network.layers))

    def design(self, problem: Problem) -> np.ndarray:
        if not isinstance(self.depth, int) or isinstance(self.depth, bool) or self.depth < 3:
            raise ValueError(f"depth={self.depth!r}: pass 3 or more; two layers are architecture='linear'")
        return super().design(problem)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """A branch of single neurons for every singular value that is not zero."""
        W = np.asarray(solution.W, dtype=np.float64)
        U, s, Vt = np.linalg.svd(W[0] if W.ndim == 3 else W.T, full_matrices=False)
        kept = s > 1e-10 * float(np.sum(s))
        return self._chains(problem, U[:, kept], s[kept], Vt[kept])

    def _chains(self, problem: Problem, U: np.ndarray, s: np.ndarray, Vt: np.ndarray) -> Network:
        problem, d, root = self.problem_of(problem), problem.X.shape[1], s ** (1.0 / self.depth)
        first, none = U * root, np.zeros(len(s))
        bias = first[d] if len(first) > d else none
        inner = [Affine(np.diag(root), none)] * (self.depth - 2)
        last = Affine(root[:, None] * Vt, np.zeros(Vt.shape[1]))
        return with_constants(problem, Network((Affine(first[:d].copy(), bias.copy()), *inner, last)))

    def nothing(self, problem: Problem) -> Network:
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        return self._chains(problem, np.zeros((problem.X.shape[1], 0)), np.zeros(0), np.zeros((0, outputs)))

    def cost(self, network: Network) -> float:
        """``sum_k |W_1k|_F ... |W_Lk|_F`` over the connected parts of the hidden neurons.

        Raises
        ------
        ValueError
            If it is not a linear network of this depth, or has biases that the family has not.
        """
        layers = [layer for layer in network.layers if isinstance(layer, Affine)]
        if len(layers) != self.depth or len(network.layers) != self.depth:
            kinds = ", ".join(["Affine"] * self.depth)
            raise ValueError(f"{network!r} is not a linear network of depth {self.depth}: pass {kinds}")
        if any(np.any(layer.bias != 0) for layer in layers[1:-1]):
            raise ValueError(
                "the network has biases beyond its first layer: pass layers whose bias is zero"
            )
        if self.hidden_bias is None and np.any(layers[0].bias != 0):
            raise ValueError(
                "the network has hidden biases: pass hidden_bias='penalized' or 'free', not None"
            )
        first = layers[0].weight
        if self.hidden_bias == "penalized":
            first = np.vstack([first, layers[0].bias])
        return _products([first, *(layer.weight for layer in layers[1:])])

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Branches with two neurons a layer."""
        X, k = self.design(problem), np.arange(len(U))[:, None, None]
        U = U[:, : X.shape[1]]
        W = np.stack([U, np.roll(U, 1, axis=0)], axis=2)
        out, sizes = X[None] @ W, np.linalg.norm(W, axis=(1, 2))
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        for at in range(1, self.depth):
            columns = outputs if at == self.depth - 1 else 2
            V = np.cos(1.3 * k + 2.1 * np.arange(2)[None, :, None] + 0.7 * np.arange(columns) + at)
            out, sizes = out @ V, sizes * np.linalg.norm(V, axis=(1, 2))
        out = out / sizes[:, None, None]
        return out[:, :, 0] if problem.y.ndim == 1 else out


@dataclass(frozen=True)
class VectorDeepLinear(DeepLinear, VectorArchitecture):
    """Parallel deep linear networks with several outputs: the nuclear norm.

    Parameters
    ----------
    hidden_bias, patterns, depth
        As with one output.
    """


def _products(weights: list[np.ndarray]) -> float:
    """The product of the norms of the layers of every connected part of the hidden neurons, summed."""
    widths = [W.shape[1] for W in weights[:-1]]
    begin = np.concatenate([[0], np.cumsum(widths)])
    rows, columns = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    for at, W in enumerate(weights[1:-1]):
        i, j = np.nonzero(W)
        rows.append(begin[at] + i)
        columns.append(begin[at + 1] + j)
    total, size = 0.0, int(begin[-1])
    ends = np.concatenate(rows), np.concatenate(columns)
    graph = sparse.csr_matrix((np.ones(len(ends[0])), ends), shape=(size, size))
    count, part = connected_components(graph, directed=False)
    hidden = np.split(part, begin[1:-1])
    for k in range(count):
        norms = [np.linalg.norm(weights[0][:, hidden[0] == k])]
        norms += [
            np.linalg.norm(W[np.ix_(hidden[at] == k, hidden[at + 1] == k)])
            for at, W in enumerate(weights[1:-1])
        ]
        total += float(np.prod([*norms, np.linalg.norm(weights[-1][hidden[-1] == k])]))
    return total
