r"""Pricing threshold neurons with several outputs.

A threshold neuron with the pattern ``d = 1[Xu >= 0]`` and the output direction g is worth ``d'Z g``, the
best direction is along ``Z'd``, and so

    M(Z) = max over half-spaces of |Z'd|_2.

Where all patterns are listed that is a matrix product, and exact. Elsewhere search is that of
:mod:`cvxnn.halfspaces`, in which the direction of every start follows its pattern: for a fixed g the best
pattern on a line is that of the dual variable ``Z g`` of one output.

*The bound* lets every set of samples be a half-space, as with one output. With z_i the rows of Z the price
is then at most ``max over |g| <= 1 of sum_i max(0, g'z_i)``, and for every l_i > 0

    max(0, a)  <=  1/4 (sqrt(l) a + 1 / sqrt(l))^2,

the right side being a square, and a plus ``1/4 (sqrt(l) a - 1 / sqrt(l))^2``. So ``M(Z) <= 1/4 max over |g|
<= 1 of |W (g, 1)|^2 <= 1/2 ||W||_2^2`` with ``W = [Lambda^1/2 Z, Lambda^-1/2 1]``.
That is the bound of :mod:`cvxnn.vector_bounds` for data X = 1, one column of ones, with its choice of
Lambda and its dual points. With one output it is the larger of ``sum Z_+`` and ``sum Z_-`` where the two
are equal. A second bound is ``M^2 <= sum_k M_k^2`` over the outputs, each the larger of the two sums of its
column; the smaller of the two counts.

References: Ergen, Gulluk, Lacotte and Pilanci, ICLR 2023 (one output); Sahiner, Ergen, Pauly and Pilanci,
ICLR 2021 (several outputs of ReLU networks). The formulas for several outputs are derived here.
"""

from __future__ import annotations

import time
from abc import abstractmethod

import numpy as np

from .arrangement import Arrangement
from .certificate import Price, Proof, scale
from .halfspaces import MOST, SEED, HalfSpaceOracle, HalfSpaces, search
from .losses import VectorLoss
from .network import Network
from .program import Problem
from .vector_bounds import improve, oracle_bounds

#: Steps of the descent on a bound.
STEPS = 30


class VectorHalfSpaceOracle(HalfSpaceOracle):
    """An oracle for threshold neurons with several outputs that also proposes half-spaces."""

    @abstractmethod
    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        """Return half-spaces of high price, best first, always the same for the same ``Z`` and `starts`."""


class VectorListedOracle(VectorHalfSpaceOracle):
    """Exact pricing over listed patterns (``global`` if they are all there are)."""

    def __init__(self, problem: Problem, X: np.ndarray, biased: bool, arrangement: Arrangement) -> None:
        super().__init__(problem, X, biased)
        self.masks, self.gates = arrangement.masks(), arrangement.gates
        self.columns, self.complete = self.masks.astype(np.float64), arrangement.complete

    def price(self, Z: np.ndarray) -> Price:
        value = float(np.max(np.linalg.norm(self.columns @ Z, axis=1), initial=0.0))
        rounding = 1e-15 * float(np.sum(np.abs(Z)))
        return Price(value * (1.0 + 1e-12) + rounding, "global" if self.complete else "patterns", value)

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        values = np.linalg.norm(self.columns @ Z, axis=1)
        best = np.argsort(-values, kind="stable")[:MOST]
        return HalfSpaces(self.masks[best], self.gates[best], values[best])


class VectorSearchedOracle(VectorHalfSpaceOracle):
    """Local search for half-spaces, and the bound over all sets of samples (scope ``bounded``)."""

    def price(self, Z: np.ndarray) -> Price:
        value = set_bound(Z)
        return Price(value, "bounded", min(self.search(Z, self.X[:0]).best, value))

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.search(Z, self.gates_of(network)).best

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        return search(self.X, Z, starts, np.random.default_rng(SEED))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        problem, loss = self.problem, self.problem.loss
        end = time.perf_counter() + max_time
        assert isinstance(loss, VectorLoss)
        proof = Proof(*scale(problem, Z, set_bound(Z)), "bounded")
        moved, better = improve(
            np.ones((len(Z), 1)),
            problem.y,
            problem.weights,
            loss,
            problem.beta,
            np.zeros_like(problem.y),
            intercept=problem.intercept,
            max_iter=max_iter,
            max_time=end - time.perf_counter(),
        )
        return Proof(moved, better, "bounded") if better > proof.bound else proof


def set_bound(Z: np.ndarray) -> float:
    """Bound ``|Z'd|_2`` over all 0/1 vectors d, for ``Z`` of shape (n, outputs)."""
    sums = np.maximum(np.sum(np.maximum(Z, 0.0), axis=0), np.sum(np.maximum(-Z, 0.0), axis=0))
    together = oracle_bounds(np.ones((len(Z), 1)), Z, max_iter=STEPS)
    return min(float(np.linalg.norm(sums)) * (1.0 + 1e-12), together)
