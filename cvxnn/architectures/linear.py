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

from ..arrangement import Arrangement, pack
from ..certificate import Oracle, Price, search_gap
from ..layers import Layer
from ..network import Affine, Network
from ..operators import Masked, Operator
from ..parameters import check_coupling
from ..penalties import ColumnL2, GroupL2, NuclearNorm, Penalty
from ..program import Master, Problem, Program, Solution
from ..vector_operators import PerColumn
from .base import (
    Architecture,
    Effort,
    Progress,
    Training,
    VectorArchitecture,
    check_hidden_bias,
    design_matrix,
    free_constants,
    with_constants,
)


class LinearOracle(Oracle):
    """Exact pricing of linear neurons: the polar of ``X'Z`` (scope ``global``)."""

    def __init__(self, problem: Problem, operator: Operator, penalty: Penalty) -> None:
        super().__init__(problem)
        self.operator, self.penalty = operator, penalty

    def price(self, Z: np.ndarray) -> Price:
        value = float(np.max(self.penalty.polar(self.operator.adjoint(Z)), initial=0.0))
        # What sums of n terms may be off by, for products that cancel.
        X = self.operator.single.X if isinstance(self.operator, PerColumn) else self.operator.X  # type: ignore[attr-defined]
        rounding = 1e-15 * float(np.linalg.norm(np.abs(X).T @ np.abs(Z)))
        return Price(value * (1.0 + 1e-12) + rounding, "global", value)


class LinearHidden:
    """What linear networks of one and of several outputs share."""

    hidden_bias: str | None
    patterns: str | int

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return len(network.layers) == 2 and isinstance(network.layers[0], Affine)

    def _design(self, problem: Problem) -> np.ndarray:
        check_hidden_bias(self.hidden_bias)
        if self.patterns not in ("auto", "all"):
            raise ValueError(f"patterns={self.patterns!r}: linear networks have none, pass 'auto'")
        return design_matrix(problem, "penalized" if self.hidden_bias == "penalized" else None)

    def problem_of(self, problem: Problem) -> Problem:
        """A free hidden bias frees the constants of the output: say so in the problem."""
        return free_constants(problem, self.hidden_bias)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement:
        """Return the one pattern there is: every sample passes."""
        X = self._design(problem)
        return Arrangement(pack(np.ones((1, len(X)))), len(X), np.zeros((1, X.shape[1])), True)

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
        X = self._design(problem)
        U = U[:, : X.shape[1]]
        return (X @ (U / np.linalg.norm(U, axis=1)[:, None]).T).T

    def weights_of(self, network: Network) -> np.ndarray:
        """Return ``sum_j w_j v_j'`` of a network, shape (1, d, outputs)."""
        first, last = network.layers[0], network.layers[-1]
        assert isinstance(first, Affine) and isinstance(last, Affine)
        rows = first.weight
        if self.hidden_bias == "penalized":
            rows = np.vstack([rows, first.bias])
        return (rows @ last.weight)[None]


def _solved(
    architecture: Linear | VectorLinear, problem: Problem, oracle: Oracle, effort: Effort, start: Any
) -> Training:
    """Solve the one program there is, and report its network."""
    arrangement = architecture.arrange(problem, effort.random_state)
    solution = yield Master(architecture.lift(problem, arrangement), effort.tol, start)
    assert solution is not None
    network = architecture.decode(problem, arrangement, solution)
    problem, Z = architecture.problem_of(problem), np.asarray(solution.Z)
    value = problem.value(network(problem.X), architecture.cost(network))
    gap = search_gap(problem, value, Z, oracle.price(Z).found)
    effort.history.append(Progress(value, gap, network.width, 1, network, Z))
    yield effort.history[-1]
    return network


@dataclass(frozen=True)
class Linear(LinearHidden, Architecture):
    """Two-layer linear networks with one output: at most one neuron, with penalty ``||w||_2``.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias that is penalised with the weights, one that is not (the same as a free constant of the
        output), or none.
    patterns : {"auto", "all"}, default="auto"
        Linear networks have none.
    """

    name: ClassVar[str] = "linear"

    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        problem, X = self.problem_of(problem), self._design(problem)
        operator, loss = Masked(X, arrangement.bits), problem.loss
        rest = (problem.y, problem.weights, problem.beta, GroupL2())
        return Program(operator, loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """``w / sqrt(||w||)`` and ``sqrt(||w||)``; nothing if w is zero."""
        W = np.asarray(solution.W, dtype=np.float64)
        root = np.sqrt(np.linalg.norm(W, axis=1, keepdims=True))
        kept = root[:, 0] > 0
        return self.plain(problem, W[kept] / root[kept], root[kept])

    def cost(self, network: Network) -> float:
        """``sum_j ||(w_j, b_j)|| |a_j|``."""
        norms, last = self.hidden_norms(network), network.layers[-1]
        assert isinstance(last, Affine)
        return float(norms @ np.abs(last.weight[:, 0]))

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> LinearOracle:
        problem, X = self.problem_of(problem), self._design(problem)
        return LinearOracle(problem, Masked(X, pack(np.ones((1, len(X))))), GroupL2())

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.outputs_of(problem, U)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        start = None if effort.start is None else self.weights_of(effort.start)[:, :, 0]
        return (yield from _solved(self, problem, oracle, effort, start))


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
    """

    name: ClassVar[str] = "linear"

    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"
    coupling: str = "joint"

    def _penalty(self) -> Penalty:
        check_coupling(self.coupling)
        return NuclearNorm() if self.coupling == "joint" else ColumnL2()

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        problem, X = self.problem_of(problem), self._design(problem)
        operator, loss = PerColumn(Masked(X, arrangement.bits)), problem.loss
        rest = (problem.y, problem.weights, problem.beta, self._penalty())
        return Program(operator, loss, *rest, intercept=problem.intercept)

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

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> LinearOracle:
        problem, X = self.problem_of(problem), self._design(problem)
        operator = PerColumn(Masked(X, pack(np.ones((1, len(X))))))
        return LinearOracle(problem, operator, self._penalty())

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(problem.y.shape[1]) + 1.0))
        V = V / self._sizes(V)[:, None]
        return self.outputs_of(problem, U)[:, :, None] * V[:, None, :]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        start = None if effort.start is None else self.weights_of(effort.start)
        return (yield from _solved(self, problem, oracle, effort, start))
