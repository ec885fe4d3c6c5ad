r"""Two-layer networks of bilinear units with weights of one bit.

The network ``f(x) = sum_j alpha_j (x'u_j)(x'v_j) + c`` has sign vectors u_j, v_j in {-1, 1}^d, and

    minimise   sum_i s_i loss(f(x_i), y_i) + beta * d * sum_j |alpha_j|.

A product is a difference of squares, ``(x'u)(x'v) = ((x'(u + v))^2 - (x'(u - v))^2) / 4``: a quadratic
activation with weights in {-2, 0, 2}. With a hidden bias x has a 1 appended, so that d counts it.

There are finitely many pairs, so training is a Lasso over them, with the price

    M(Z) = max over u, v of |u'Q v| / d,     Q = sum_i Z_i x_i x_i',

the infinity-to-one norm of Q over d, which is NP-hard. Up to 20 columns it is found by enumeration, and
networks are trained to optimality with scope ``global``. Beyond that the semidefinite bound of the norm
takes its place (scope ``bounded``). With it the training problem becomes

    p_SDP(beta) = minimise over psd P, N   L( x_i'(P - N) x_i + c ) + beta d max_k (P + N)_kk,

which encloses the optimum of all networks:

    p_SDP(beta)  <=  p*(beta)  <=  p_SDP(K beta),        K = pi / (2 ln(1 + sqrt 2)) = 1.782...

The left side is the relaxation: ``P = sum |alpha_j| (u_j + v_j)(u_j + v_j)'/4`` for alpha_j > 0 and so on
is feasible at the same cost. The right side is Krivine's rounding (:mod:`cvxnn.sign_pairs`) of a solution
(P, N) at K beta with rho = max_k (P + N)_kk: pairs are drawn with ``E uv' = (P - N) / (K rho)``, so the
network of all pairs, weighted by K rho times their probabilities, has the same predictions and ``sum
|alpha| = K rho``. With finitely many draws predictions are off by O(1 / sqrt(draws)), and the Lasso over
the pairs drawn is at least as good.

References: Bartan and Pilanci, "Training quantized neural networks to global optimality via semidefinite
programming", ICML 2021; Krivine, Adv. Math. 1979. The scale and the proof above are derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, Price, Proof, scale, search_gap
from ..network import Affine, Network, Product
from ..operators import Dense
from ..penalties import GroupL2
from ..program import Master, Problem, Program, Solution
from ..sign_pairs import KRIVINE, best_pairs, canonical, krivine_round, norm_bound, search, signs
from ..sign_relaxation import Relaxation, relax
from ..spectrahedra import SignGauge, to_matrices, to_vectors
from .base import Architecture, Effort, Progress, Training
from .two_layer import check_hidden_bias, design_matrix, with_constants

#: Columns up to which pairs are enumerated, and up to which that is as cheap as a search.
ENUMERATED, CHEAP = 20, 12
#: Pairs that a round adds, pairs drawn by rounding, starts of a search.
ADDED, DRAWN, STARTS = 32, 200, 200
#: Seed of the searches inside oracles.
SEED = 0


class PairOracle(Oracle):
    """Prices of pairs of sign vectors, by enumeration (``global``) or the semidefinite bound
    (``bounded``)."""

    def __init__(self, problem: Problem, X: np.ndarray, exact: bool) -> None:
        super().__init__(problem)
        self.X, self.exact = X, exact
        self._relaxed: tuple[float, Relaxation] | None = None

    def matrix(self, Z: np.ndarray) -> np.ndarray:
        """Return ``sum_i Z_i x_i x_i'``."""
        Q = (self.X.T * Z) @ self.X
        return 0.5 * (Q + Q.T)

    def price(self, Z: np.ndarray) -> Price:
        Q, d = self.matrix(Z), self.X.shape[1]
        terms = float(np.abs(Z) @ np.sum(np.abs(self.X), axis=1) ** 2)
        rounding = 4e-16 * (len(Z) ** 0.5 + d + 8.0) * terms
        if self.exact:
            value, _, _ = best_pairs(Q, 1)
            return Price((value * (1.0 + 1e-12) + rounding) / d, "global", value / d)
        bound = norm_bound(Q)[0]
        found = min(self.pairs(Z, 1)[0], bound)
        return Price((bound * (1.0 + 1e-12) + rounding) / d, "bounded", found / d)

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.pairs(Z, 1)[0] / self.X.shape[1]

    def pairs(self, Z: np.ndarray, most: int, gap: float = 0.0) -> tuple[float, np.ndarray, np.ndarray]:
        """Good pairs: ``u'Qv`` of the first, and the pairs; the best where they are enumerated.

        Enumeration of many waits until a search finds nothing above ``(1 + gap) * beta``.
        """
        Q, d = self.matrix(Z), self.X.shape[1]
        if self.exact and d > CHEAP and gap > 0.0:
            found = self._search(Q, most)
            if found[0] > (1.0 + gap) * self.problem.beta * d:
                return found
        return best_pairs(Q, most) if self.exact else self._search(Q, most)

    def _search(self, Q: np.ndarray, most: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Good pairs by ascent from many starts."""
        # the same starts every time, so that the judge finds what training did
        starts = np.random.default_rng(SEED).standard_normal((STARTS, self.X.shape[1]))
        _, vectors = np.linalg.eigh(Q)
        return search(Q, np.concatenate([starts, vectors.T]), most)

    def relaxed(self) -> Relaxation:
        """The semidefinite relaxation at the problem's beta, computed once."""
        if self._relaxed is None or self._relaxed[0] != self.problem.beta:
            self._relaxed = self.problem.beta, relax(self.problem, self.X)
        return self._relaxed[1]

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        """Where pairs are not enumerated, the dual variable of the relaxation is the one to try."""
        points = [Z] if self.exact or max_iter == 0 else [Z, self.relaxed().Z]
        proofs = []
        for point in points:
            price = self.price(point)
            proofs.append(Proof(*scale(self.problem, point, price.value), price.scope))
        return max(proofs, key=lambda proof: proof.bound)


@dataclass(frozen=True)
class Quantized(Architecture):
    """Two-layer networks of bilinear units with weights of one bit, and one output.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        Whether units see a column of ones, with a sign of its own.
    proof : {"auto", "exact", "semidefinite"}, default="auto"
        How the best pair is bounded: by enumeration of 2^(d-1) sign vectors, or by a semidefinite bound;
        "auto" enumerates up to 20 columns.
    """

    name: ClassVar[str] = "quantized"
    rotates: ClassVar[bool] = False

    hidden_bias: str | None = "penalized"
    proof: str = "auto"

    def _design(self, problem: Problem) -> np.ndarray:
        check_hidden_bias(self.hidden_bias)
        if self.hidden_bias == "free":
            raise ValueError(
                "hidden_bias='free' has no meaning for weights of one bit: pass 'penalized' or None"
            )
        if self.proof not in ("auto", "exact", "semidefinite"):
            raise ValueError(
                f"proof={self.proof!r} is unknown: pass 'auto' (the default), 'exact' or 'semidefinite'"
            )
        return design_matrix(problem, self.hidden_bias)

    def _exact(self, d: int) -> bool:
        if self.proof == "exact" and d > ENUMERATED + 4:
            raise ValueError(
                f"proof='exact' would enumerate 2^{d - 1} sign vectors: pass 'semidefinite' or 'auto', or "
                f"at most {ENUMERATED + 4} columns"
            )
        return self.proof == "exact" or (self.proof == "auto" and d <= ENUMERATED)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        """There are no patterns."""
        self._design(problem)
        return None

    def lift(self, problem: Problem, arrangement: Arrangement | None) -> Program:
        """The semidefinite relaxation ``p_SDP(beta)``; its optimum is below that of all networks."""
        X = self._design(problem)
        F = to_vectors(X[:, :, None] * X[:, None, :])
        operator = Dense(np.concatenate([F, -F], axis=1), 1)
        rest = (problem.y, problem.weights, problem.beta, SignGauge())
        return Program(operator, problem.loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement | None, solution: Solution) -> Network:
        """Krivine's rounding of the relaxation: equal amounts of the pairs that are drawn.

        The network's objective is not the relaxation's, which no network may reach.
        """
        P, N = to_matrices(np.asarray(solution.W, dtype=np.float64).reshape(2, -1))
        rho = float(np.max(np.diagonal(P + N)))
        if rho <= 0.0:
            return self.nothing(problem)
        V = (P + N) / rho
        np.fill_diagonal(V, 1.0)  # raising a diagonal keeps it positive semidefinite
        drawn = krivine_round(V, (P - N) / rho, DRAWN, np.random.default_rng(SEED))
        amount = np.full(DRAWN, KRIVINE * rho / DRAWN)
        return with_constants(problem, self._network(problem, *drawn, amount))

    def _network(self, problem: Problem, U: np.ndarray, V: np.ndarray, a: np.ndarray) -> Network:
        d = problem.X.shape[1]
        both = np.concatenate([U, V])
        bias = both[:, d].copy() if self.hidden_bias is not None else np.zeros(len(both))
        first = Affine(np.ascontiguousarray(both[:, :d].T), bias)
        return Network((first, Product(), Affine(a[:, None].copy(), np.zeros(1))))

    def nothing(self, problem: Problem) -> Network:
        none = np.zeros((0, self._design(problem).shape[1]))
        return with_constants(problem, self._network(problem, none, none, np.zeros(0)))

    @classmethod
    def reads(cls, network: Network) -> bool:
        return [type(layer) for layer in network.layers] == [Affine, Product, Affine]

    def pairs_of(self, network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the sign vectors (m, d), (m, d) and the output weights (m,) of a network.

        Raises
        ------
        ValueError
            If it is no network of the family.
        """
        first, last = network.layers[0], network.layers[-1]
        if not (self.reads(network) and isinstance(first, Affine) and isinstance(last, Affine)):
            raise ValueError(
                f"{network!r} is not a network of bilinear units: pass Affine, Product, Affine"
            )
        if self.hidden_bias is None and np.any(first.bias != 0):
            raise ValueError("the network has hidden biases: pass hidden_bias='penalized', not None")
        rows = first.weight.T
        if self.hidden_bias is not None:
            rows = np.column_stack([rows, first.bias])
        if np.any(np.abs(rows) != 1.0):
            raise ValueError(
                "the network has hidden weights other than -1 and 1: pass signs, with their scale in the "
                "output weights"
            )
        half = len(rows) // 2
        return rows[:half], rows[half:], last.weight[:, 0]

    def cost(self, network: Network) -> float:
        """``d * sum_j |alpha_j|``, d counting the column of ones."""
        U, _, a = self.pairs_of(network)
        return U.shape[1] * float(np.sum(np.abs(a)))

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> PairOracle:
        X = self._design(problem)
        return PairOracle(problem, X, self._exact(X.shape[1]))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        X = self._design(problem)
        u = signs(U[:, : X.shape[1]])
        v = signs(np.roll(U, 1, axis=0)[:, : X.shape[1]])
        return ((X @ u.T) * (X @ v.T)).T / X.shape[1]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        assert isinstance(oracle, PairOracle)
        X, d = oracle.X, oracle.X.shape[1]
        U, V = np.zeros((0, d)), np.zeros((0, d))
        if effort.start is not None:
            U, V, _ = self.pairs_of(effort.start)
        Z = problem.residual(np.zeros_like(problem.y))
        if not oracle.exact and not len(U):
            relaxed = oracle.relaxed()
            U, V = krivine_round(*relaxed.correlations(), DRAWN, effort.random_state)
        best, least = self.nothing(problem), problem.null_value()
        w: np.ndarray | None = None
        for k in range(effort.max_iter + 1):
            value, newU, newV = oracle.pairs(Z, ADDED, effort.tol)
            if k or not len(U):
                gap = search_gap(problem, least, Z, value / d)
                effort.history.append(Progress(least, gap, best.width, len(U), best, Z))
                yield effort.history[-1]
                known = len(U)
                if gap <= effort.tol:
                    break
                U, V = canonical_join(U, V, newU, newV)
                if len(U) == known:
                    break
            else:
                U, V = canonical(U, V)
            start = None if w is None else np.concatenate([w, np.zeros(len(U) - len(w))])[:, None]
            solution = yield Master(_lasso(problem, X, U, V), 0.1 * effort.tol, start)
            assert solution is not None
            w, Z = np.asarray(solution.W, dtype=np.float64)[:, 0], np.asarray(solution.Z)
            kept = np.abs(w) > 1e-12 * np.sum(np.abs(w))
            network = with_constants(problem, self._network(problem, U[kept], V[kept], w[kept] / d))
            value = self.objective(problem, network)
            if value <= least:
                best, least = network, value
        return best


def _lasso(problem: Problem, X: np.ndarray, U: np.ndarray, V: np.ndarray) -> Program:
    """The Lasso over pairs of sign vectors, (m, d) each; its weights are d times the network's."""
    H = ((X @ U.T) * (X @ V.T)) / X.shape[1]
    rest = (problem.y, problem.weights, problem.beta, GroupL2())
    return Program(Dense(H, len(U)), problem.loss, *rest, intercept=problem.intercept)


def canonical_join(
    U: np.ndarray, V: np.ndarray, newU: np.ndarray, newV: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Append the pairs that are not there yet; those there keep their places."""
    there = {row.tobytes() for row in np.column_stack([U, V])}
    newU, newV = canonical(newU, newV)
    fresh = np.array([row.tobytes() not in there for row in np.column_stack([newU, newV])], dtype=bool)
    return np.concatenate([U, newU[fresh]]), np.concatenate([V, newV[fresh]])
