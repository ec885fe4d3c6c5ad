r"""Two-layer linear networks: low-rank regression, by weight decay.

The network ``f(x) = sum_j v_j x'w_j + c`` computes ``x'Z + c`` with ``Z = sum_j w_j v_j'``, and weight
decay, minimised over all ways to write Z, is its nuclear norm:

    min over networks   L + beta/2 * sum_j (||w_j||^2 + ||v_j||^2)   =   minimise   L( X Z + c ) + beta *
    ||Z||_*,

a convex program without patterns, exact from min(d, outputs) neurons on. Its dual constraint is
``||X'Theta||_2 <= beta``, so certificates are exact, against linear networks of every width. The singular
vectors of Z are the neurons. One output leaves one neuron, and ``beta * ||w||_2``: ridge regression's
penalty, not squared. Where the columns of X are orthonormal Z is ``X'Y`` with its singular values reduced
by beta.

A penalised hidden bias is one more column of ones; a free one is a free constant of the output.

References: Srebro, Rennie and Jaakkola, "Maximum-margin matrix factorization", NIPS 2004 (lemma 1);
Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (linear networks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..layers import Layer
from ..network import Affine, Network
from ..parameters import check_coupling
from ..penalties import ColumnL2, NuclearNorm, Penalty
from ..program import Problem, Solution
from .base import VectorArchitecture
from .linear_family import LinearFamily
from .two_layer import balanced_cost, refuse_skip, with_constants


class LinearHidden(LinearFamily):
    """What two-layer linear networks of one and of several outputs share."""

    skip: bool

    def __post_init__(self) -> None:
        refuse_skip(self.skip, "linear networks are linear already, it changes nothing: pass skip=False")

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return len(network.layers) == 2 and isinstance(network.layers[0], Affine)

    def hidden_norms(self, network: Network) -> np.ndarray:
        """Return the norms of the penalised weights of each neuron, shape (m,).

        Raises
        ------
        ValueError
            If it is not a two-layer linear network, or has biases that the family has not.
        """
        first, last = network.layers[0], network.layers[-1]
        if not (isinstance(first, Affine) and isinstance(last, Affine) and len(network.layers) == 2):
            raise ValueError(f"{network!r} is not a two-layer linear network: pass Affine, Affine")
        if self.hidden_bias is None and np.any(first.bias != 0):
            raise ValueError(
                "the network has hidden biases: pass hidden_bias='penalized' or 'free', not None"
            )
        square = np.sum(first.weight**2, axis=0)
        return np.sqrt(square + first.bias**2 if self.hidden_bias == "penalized" else square)

    def hidden_units(self, network: Network) -> tuple[Layer, ...]:
        """Return the hidden layer with neurons of norm one."""
        first, size = network.layers[0], self.hidden_norms(network)
        assert isinstance(first, Affine)
        size = np.where(size > 0.0, size, 1.0)
        return (Affine(first.weight / size, first.bias / size),)

    def plain(self, problem: Problem, U: np.ndarray, V: np.ndarray) -> Network:
        """Return the network of neurons ``U`` (m, d or d + 1) and ``V`` (m, outputs), with its best
        constant."""
        problem, d = self.problem_of(problem), problem.X.shape[1]
        bias = U[:, d] if U.shape[1] > d else np.zeros(len(U))
        first = Affine(np.ascontiguousarray(U[:, :d].T), np.ascontiguousarray(bias))
        return with_constants(problem, Network((first, Affine(V, np.zeros(V.shape[1])))))

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Return the linear network of plain weights."""
        last = w2[:, None] if w2.ndim == 1 else w2
        constant = np.broadcast_to(np.asarray(c, dtype=np.float64), last.shape[1:]).copy()
        return Network((Affine(W1, b1), Affine(last, constant)))

    def outputs_of(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the hidden outputs (k, n) of unit neurons in the directions ``U`` (k, d + 1)."""
        X = self.design(problem)
        U = U[:, : X.shape[1]]
        return (X @ (U / np.linalg.norm(U, axis=1)[:, None]).T).T


@dataclass(frozen=True)
class Linear(LinearHidden):
    """Two-layer linear networks with one output: at most one neuron, with penalty ``||w||_2``.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias that is penalised with the weights, one that is not (the same as a free constant of the
        output), or none.
    patterns : {"auto", "all"}, default="auto"
        Linear networks have none.
    skip : bool, default=False
        Not offered: a linear network is a skip connection already.

    Raises
    ------
    ValueError
        If a skip connection is asked for.
    """

    name: ClassVar[str] = "linear"

    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"
    skip: bool = False

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """``w / sqrt(||w||)`` and ``sqrt(||w||)``; nothing if w is zero."""
        W = np.asarray(solution.W, dtype=np.float64)
        root = np.sqrt(np.linalg.norm(W, axis=1, keepdims=True))
        kept = root[:, 0] > 0
        return self.plain(problem, W[kept] / root[kept], root[kept])

    def cost(self, network: Network) -> float:
        """``sum_j ||(w_j, b_j)|| |a_j|``."""
        return balanced_cost(self.hidden_norms(network), network)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.outputs_of(problem, U)


@dataclass(frozen=True)
class VectorLinear(LinearHidden, VectorArchitecture):
    """Two-layer linear networks with several outputs: the nuclear norm.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        As with one output.
    patterns : {"auto", "all"}, default="auto"
        Linear networks have none.
    coupling : {"joint", "separate"}, default="joint"
        Weight decay (the nuclear norm), or the sum of the norms of the columns of Z: outputs that share
        nothing.
    skip : bool, default=False
        Not offered: a linear network is a skip connection already.

    Raises
    ------
    ValueError
        If a skip connection is asked for.
    """

    name: ClassVar[str] = "linear"

    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"
    coupling: str = "joint"
    skip: bool = False

    def penalty_of(self, problem: Problem) -> Penalty:
        check_coupling(self.coupling)
        return NuclearNorm() if self.coupling == "joint" else ColumnL2()

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """A neuron for every singular vector (or column) that is not zero, its layers balanced."""
        Z = np.asarray(solution.W, dtype=np.float64)[0]
        if self.coupling == "joint":
            left, sizes, V = np.linalg.svd(Z, full_matrices=False)
            U = left.T
        else:
            sizes, V = np.linalg.norm(Z, axis=0), np.eye(Z.shape[1])
            U = Z.T / np.maximum(sizes, 1e-300)[:, None]
        kept = sizes > 1e-10 * np.sum(sizes)
        root = np.sqrt(sizes[kept])[:, None]
        return self.plain(problem, U[kept] * root, V[kept] * root)

    def cost(self, network: Network) -> float:
        """``sum_j |(w_j, b_j)| |v_j|``, the sizes of v_j as the coupling has them."""
        norms, last = self.hidden_norms(network), network.layers[-1]
        assert isinstance(last, Affine)
        return float(norms @ self._sizes(last.weight))

    def _sizes(self, V: np.ndarray) -> np.ndarray:
        check_coupling(self.coupling)
        return np.linalg.norm(V, ord=2 if self.coupling == "joint" else 1, axis=1)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
        V = V / self._sizes(V)[:, None]
        return self.outputs_of(problem, U)[:, :, None] * V[:, None, :]
