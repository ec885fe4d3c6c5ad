r"""Oracles for parallel deep ReLU networks: the best branch of unit cost for a dual variable.

``M_L(Z)`` is the largest ``|Z'g|`` over the outputs g of branches of depth L whose norms have product one.
Three layers are priced by branch and bound over prices of two layers (:mod:`cvxnn.nested_pricing`): exact
(scope ``global``) where two layers are and the tree stays small, an upper bound (``bounded``) elsewhere.

Deeper branches are bounded through shallower ones. What the last neuron of a branch of depth L sees is
``sum_j v_j g_j`` with branches g_j of depth L - 1 that share their inner layers, and ``sum_j cost(g_j)
|v_j| <= 1`` (Cauchy and Schwarz), so it lies in the convex hull of ``+-g`` over branches of depth L - 1 and
unit cost. For z_N, the negative part of z with its sign turned, and every number c in [0, 1], as in
:mod:`cvxnn.nested_pricing`,

    M_L(z)  <=  max( M_(L-1)( z_P - c z_N ), c M_(L-1)( z_N ) ),         M_(L-1)( z_N ) = M_2( z_N ),

the last because on a positive z a hull is no better than its points. The best c is where the two sides
meet.

Proofs and searches keep to a deadline: every c gives a bound, c = 0 first, and so does every number of
steps of the matrix bound.

Where the rows of X are orthogonal every depth has the same price: ``M_L = max( |(r Z)_+|, |(-r Z)_+| )``
with ``r_i = |x_i|``. A two-layer neuron ``u = sum_i (Z_i)_+ x_i`` attains it, and c = 0 above shows that
depth adds nothing.

References: derived here; the closed form: Ergen and Pilanci, "Revealing the structure of deep neural
networks via convex duality", ICML 2021 (whitened data).
"""

from __future__ import annotations

import copy
import time
from typing import Self

import numpy as np

from .arrangement import Arrangement, TooManyPatterns
from .bounds import oracle_bound
from .certificate import Oracle, Price, Proof
from .deep_descent import draw, search_branch, stack, unstack
from .deep_network import Branch, branches_of, cost_of, outputs_of
from .design import Design
from .nested_pricing import Branches, price_side
from .network import Network
from .oracles import CellOracle, NeuronOracle, SearchOracle
from .planar import PlaneOracle
from .program import Problem

__all__ = ["DeepOracle", "two_layer_oracle"]

#: Patterns of two-layer neurons that are listed, and bits of them.
LISTED, BITS = 3000, 200_000
#: Relaxations of branch and bound at most, with many patterns, while growing; and the bits of patterns that
#: all of them may go through.
NODES, FEW, QUICK, WORK = 300, 12, 30, 600_000
#: Samples times features beyond which relaxations are not solved.
LARGE = 3000
#: Halvings of c.
HALVINGS = 6
#: Random starts of a search for deep branches, and neurons a layer of theirs.
STARTS, NEURONS = 24, 5
#: Seconds that a search of the judge has at least.
SEARCHING = 0.5
ROUNDING = 1e-12


def two_layer_oracle(problem: Problem, design: Design) -> NeuronOracle:
    """Return the strongest oracle for two-layer neurons, which proposes all it finds."""
    if design.X.shape[1] == 2:
        return PlaneOracle(problem, design).at(0.0)
    try:
        listed = Arrangement.enumerate(design.X, limit=min(LISTED, max(64, BITS // len(design.X))))
    except TooManyPatterns:
        return SearchOracle(problem, design).at(0.0)
    if not listed.complete:
        return SearchOracle(problem, design).at(0.0)
    return CellOracle(problem, design, listed).at(0.0)


def _halfway(ends: float) -> float:
    """The middle between now and a deadline, none if there is none."""
    return ends if np.isinf(ends) else 0.5 * (ends + time.perf_counter())


class DeepOracle(Oracle):
    """Prices of branches of one depth, at least 3.

    Parameters
    ----------
    problem : Problem
    design : Design
    depth : int

    Attributes
    ----------
    deadline : float
        Of :func:`time.perf_counter`, for what takes long.
    """

    deadline: float = float("inf")

    def __init__(self, problem: Problem, design: Design, depth: int) -> None:
        super().__init__(problem)
        self.design, self.depth = design, depth
        self.inner = two_layer_oracle(problem, design)
        square = design.X @ design.X.T
        lengths = np.sqrt(np.diag(square))
        off = np.abs(square - np.diag(lengths**2)) > 1e-12 * np.outer(lengths, lengths)
        self.orthogonal = not np.any(off) and bool(np.all(lengths > 0))
        self.lengths = lengths
        self._last: dict[int, tuple[np.ndarray, Price, list[tuple[Branches, float]], bool]] = {}
        self._met: tuple[np.ndarray, list[tuple[Branches, float]]] | None = None
        self.limit = NODES
        if isinstance(self.inner, CellOracle):
            self.limit = int(np.clip(WORK / self.inner.masks.size, FEW, NODES))

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.deadline = float("inf")
        return other

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        self.deadline = time.perf_counter() + max_time
        return super().prove(Z, max_iter=max_iter, max_time=max_time)

    def price(self, Z: np.ndarray) -> Price:
        return self._priced(Z, self.limit)[0]

    @property
    def _solves(self) -> bool:
        """Whether branch and bound solves relaxations, and so meets branches of three layers."""
        return self.depth == 3 and self.design.X.size <= LARGE and self.inner.scope == "global"

    def branches(self, Z: np.ndarray, limit: int = QUICK) -> tuple[Price, list[tuple[Branches, float]]]:
        """A quick price, and the three-layer branches met with the sides that suit them, best first.

        Where meeting branches proves nothing the price is infinite.
        """
        if self.orthogonal or self._solves:
            return self._priced(Z, min(limit, self.limit))
        met = self._neurons(Z)
        return Price(float("inf"), "bounded", met[0][0].value if met else 0.0), met

    def _priced(self, Z: np.ndarray, limit: int) -> tuple[Price, list[tuple[Branches, float]]]:
        quick = self._last.get(min(QUICK, limit))
        if quick is not None and quick[1].scope == "global" and np.array_equal(quick[0], Z):
            return quick[1], quick[2]
        last = self._last.get(limit)
        # what was cut short is done again, if there is time for it
        stale = last is None or (last[3] and time.perf_counter() <= self.deadline)
        if last is None or stale or not np.array_equal(last[0], Z):
            price, met = self._compute(Z, self._neurons(Z), limit)
            last = (Z.copy(), price, met, time.perf_counter() > self.deadline)
            self._last = {**self._last, limit: last}
        return last[1], last[2]

    def _compute(
        self, Z: np.ndarray, met: list[tuple[Branches, float]], limit: int
    ) -> tuple[Price, list[tuple[Branches, float]]]:
        found = met[0][0].value if met else 0.0
        if self.orthogonal:
            value = max(float(np.linalg.norm(np.maximum(side * self.lengths * Z, 0.0))) for side in (1, -1))
            # rows that are orthogonal up to 1e-12 move a sum of n terms by n times that
            return Price(max(value, found) * (1.0 + 1e-12 * (len(Z) + 10)), "global", found), met
        if not self._solves:
            value = self._bound(Z, self.depth, self.deadline)
            return Price(max(value, found) * (1.0 + ROUNDING), "bounded", found), met
        bound, exact = found, True
        # patterns of before are good ones, but a price must not depend on what was asked before
        pool = np.array([mask for pair in met[:8] for mask in pair[0].masks]).reshape(-1, len(Z))
        for side in (1.0, -1.0):
            out, pool = price_side(self.inner, side * Z, pool.astype(bool), limit, found, self.deadline)
            met = met + [(branch, side) for branch in out.branches]
            found = max([found, *(branch.value for branch in out.branches)])
            bound, exact = max(bound, out.bound), exact and out.exact
        met.sort(key=lambda pair: -pair[0].value)
        bound = max(bound, found) * (1.0 + ROUNDING)
        return Price(bound, "global" if exact else "bounded", min(found, bound)), met

    def _neurons(self, Z: np.ndarray) -> list[tuple[Branches, float]]:
        """Two-layer neurons as branches: one neuron that the second layer passes on."""
        if self._met is not None and np.array_equal(self._met[0], Z):
            return list(self._met[1])
        if not np.any(Z):
            return []
        found = self.inner.neurons(Z, self.inner.X[:0], np.random.default_rng(0), 1).take(16)
        met = []
        for u, side in zip(found.directions, found.signs, strict=True):
            u = u / max(float(np.linalg.norm(u)), 1e-300)
            h = np.maximum(self.inner.X @ u, 0.0)
            value = float(side * (Z @ h))
            met.append((Branches(value, u[None], np.ones(1), (h > 0)[None], h), float(side)))
        met.sort(key=lambda pair: -pair[0].value)
        self._met = (Z.copy(), met)
        return list(met)

    def _two(self, z: np.ndarray, ends: float) -> float:
        """An upper bound of the price of two layers."""
        if type(self.inner) is not SearchOracle:
            return self.inner.price(z).value
        left = max(ends - time.perf_counter(), 0.0)
        return oracle_bound(self.inner.X, z, max_time=left if np.isfinite(left) else None)

    def _bound(self, z: np.ndarray, depth: int, ends: float) -> float:
        """An upper bound of the price of either sign at some depth, from those of two layers."""
        high, low = np.maximum(z, 0.0), np.maximum(-z, 0.0)
        if depth == 2 or not np.any(low) or not np.any(high):
            return self._two(z, ends)
        first = self._bound_side(high, low, depth, _halfway(ends))
        return max(first, self._bound_side(low, high, depth, ends))

    def _bound_side(self, high: np.ndarray, low: np.ndarray, depth: int, ends: float) -> float:
        best = self._two(high, _halfway(ends))  # c = 0
        if time.perf_counter() > ends:
            return best
        rest, bottom, top = self._two(low, _halfway(ends)), 0.0, 1.0
        for _ in range(HALVINGS if depth == self.depth else 3):
            if time.perf_counter() > ends:
                break
            c = 0.5 * (bottom + top)
            value = self._bound(high - c * low, depth - 1, ends)
            best = min(best, max(value, c * rest))
            bottom, top = (c, top) if value > c * rest else (bottom, c)
        return best

    def found(self, Z: np.ndarray, network: Network) -> float:
        price = self.price(Z)
        if price.scope == "global":
            return price.found
        patient = copy.copy(self)
        patient.deadline = max(self.deadline, time.perf_counter() + SEARCHING)
        return max([price.found, *(value for value, _, _ in patient.search(Z, network))])

    def search(self, Z: np.ndarray, network: Network) -> list[tuple[float, Branch, float]]:
        """Branches of unit cost with value and side, from local ascents; the best first.

        They start from branches of the network, moved at random too, from what pricing met, and at random.
        The weights are in the coordinates of the design.
        """
        found: list[tuple[float, Branch, float]] = []
        X, rng = self.design.X, np.random.default_rng(0)
        if not np.any(Z) or not np.any(X):
            return found
        for side in (1.0, -1.0):
            starts = self._starts(side * Z, side, network, rng)
            ends = _halfway(self.deadline) if side > 0 else self.deadline
            for branch in unstack(search_branch(X, side * Z, starts, deadline=ends)):
                cost = cost_of([*branch[:-1], np.ones((1, 1))])
                value = float(side * (Z @ outputs_of(branch, X))) / cost if cost > 0 else 0.0
                if value > 0.0:
                    unit = [branch[0] / cost, *branch[1:-1], np.ones((1, 1))]
                    found.append((value, unit, side))
        found.sort(key=lambda row: -row[0])
        return found

    def _starts(self, z: np.ndarray, side: float, network: Network, rng: np.random.Generator) -> list:
        own = [b for b in self.branches_of(network) if b[-1][0, 0] * side > 0][:STARTS]
        own += [self.deep(branch) for branch, s in self.branches(side * z)[1] if s == side][:STARTS]
        d = self.design.X.shape[1]
        random = unstack(draw(STARTS, self.depth, d, NEURONS, 1.0, rng))
        layers = stack([*own, *random], NEURONS)
        moved = [W + 0.3 * np.sqrt(np.mean(W**2)) * rng.standard_normal(W.shape) for W in layers]
        return [np.concatenate([a, b]) for a, b in zip(layers, moved, strict=True)]

    def branches_of(self, network: Network) -> list[Branch]:
        """The branches of a network in the coordinates of the design."""
        affine = list(network.layers[0::2])
        basis = self.design.basis
        biased = len(basis) > network.n_features
        if not network.width:
            return []
        return [[basis.T @ b[0], *b[1:]] for b in branches_of(affine, biased)]  # type: ignore[arg-type]

    def deep(self, branch: Branches) -> Branch:
        """A three-layer branch as weights of this depth, in the coordinates of the design."""
        root = np.sqrt(np.linalg.norm(branch.U, axis=1))
        W = branch.U.T / np.maximum(root, 1e-300)
        v = (branch.signs * root)[:, None]
        return [W, v, *[np.ones((1, 1))] * (self.depth - 3), np.ones((1, 1))]
