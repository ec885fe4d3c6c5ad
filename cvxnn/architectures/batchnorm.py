r"""Two-layer ReLU networks with batch normalisation.

*Before the ReLU.* A neuron normalises its pre-activation over the training data, scales and shifts it,

    f(x) = sum_j a_j ( gamma_j (x'w_j - mean_j) / std_j + delta_j )_+ + c,

and weight decay is on ``1/2 sum_j (gamma_j^2 + delta_j^2 + a_j^2)``; w_j has no scale, so it is not
penalised. On the data the pre-activation is ``Q v_j + delta_j`` with Q the whitened data
(:mod:`cvxnn.whitening`) and v_j an arbitrary vector of norm gamma_j. So this is the plain two-layer ReLU
network on whitened data: the same convex program, patterns, prices and certificates, for all its choices of
the bias, which is the shift. A folded network, Affine, ReLU, Affine, costs

    sum_j |a_j| sqrt( (1/S) sum_i s_i t_ij^2 ),      t_j = X w_j + b_j:

the root mean square of its pre-activation, for the mean is delta and the standard deviation gamma. Every
two-layer ReLU network is therefore one with batch normalisation, of another cost, and can be judged as
one. That cost depends on the training data:
:meth:`~cvxnn.architectures.base.Architecture.on` hands them over.

Where Q and a column of ones span all vectors (as many features as samples, generically) a neuron computes
any h >= 0, and for the squared loss without intercept the optimum is known: with ``r = sqrt(s) y`` and
``k = beta / sqrt(S)``,

    sqrt(s) f = (1 - k / ||r_+||)_+ r_+  -  (1 - k / ||r_-||)_+ r_-,

for each sign is a projection of its own part. An intercept c replaces y by y - c and makes the residuals
sum to zero, one monotone equation.

*After the ReLU.* ``f(x) = sum_j a_j gamma_j h_j(x) / rms_j + c`` with ``h_j = (x'w_j + b_j)_+`` and its
root mean square over the data; nothing is subtracted, and w_j and b_j are not penalised. A folded network
costs ``sum_j |a_j| rms_j``. Prices, over all patterns: :mod:`cvxnn.normalised_cells` where they can be
listed, scope ``global``; beyond, networks grow by a search (:mod:`cvxnn.normalised_search`, and
:mod:`cvxnn.normalised_growth` for losses with kinks), with a loose bound over all, scope ``bounded``.

*Scale.* Dividing by the standard deviation is what batch normalisation does in practice, and makes alpha
independent of the number of samples. The paper divides by the norm of the centred pre-activation,
``sqrt(n)`` times as much, and has a shift of ``1 / sqrt(n)``: its beta is ours over ``sqrt(n)``.

References: Ergen, Sahiner, Ozturkler, Pauly, Mardani and Pilanci, "Demystifying batch normalization in ReLU
networks", ICLR 2022 (before); Wang, Hua, Candes and Pilanci, 2022 (normalised after the ReLU).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, search_gap
from ..losses.squared_error import SquaredError
from ..network import Affine, Network
from ..normalised_cells import MOST_RANK, ConeOracle, Cones, Member, TooManyCones, white
from ..normalised_growth import GrownCells
from ..normalised_program import dual_of, solve_cones
from ..normalised_search import SearchedCones, descend
from ..parameters import check_coupling
from ..program import Master, Problem, Program, Solution
from ..whitening import OrthantOracle, WhitenedOracle, Whitening, best_on_whitened
from .base import Architecture, Effort, Progress, Training, VectorArchitecture
from .relu import ReLU
from .two_layer import (
    balanced_cost,
    check_hidden_bias,
    check_patterns,
    design_matrix,
    free_constants,
    is_sample,
    sampled,
    with_constants,
)
from .vector_relu import VectorReLU
from .whitened import Whitened, rectified

#: Cones that a round adds at most.
ADDED = 20
#: Roundings tried on a solution: relative size to drop, distance to merge.
ROUNDINGS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
#: Where cones are not listed: neurons to begin with, steps of descent, the share below which a round is
#: idle, idle rounds in a row that end training, and the share of the gap by which kinks are smoothed.
FIRST, DESCENT, PAYS, IDLE, SMOOTHING = 50, 500, 1e-7, 4, 0.3


@dataclass(frozen=True)
class BatchNorm(Whitened, Architecture):
    """Two-layer ReLU networks with batch normalisation and one output.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        The shift of a normalised neuron: penalised with its scale, not penalised (which also frees the
        output's constant), or none. After the ReLU nothing is shifted, and this says whether neurons have a
        bias, which like their weights is not penalised; "free" also frees the output's constant.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        As in :class:`cvxnn.architectures.relu.ReLU`, on the whitened data; after the ReLU "auto" lists all
        patterns where these are few and grows them otherwise, "all" insists on listing, and a number,
        "wedge" or ("wedge", number) trains on sampled patterns, with scope ``patterns`` (up to rank 8, a
        bias counted).
    where : {"before", "after"}, default="before"
        Whether neurons are normalised before the ReLU or after it.
    """

    name: ClassVar[str] = "batchnorm"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    where: str = "before"

    def __post_init__(self) -> None:
        check_hidden_bias(self.hidden_bias)
        if self.where not in ("before", "after"):
            raise ValueError(f"where={self.where!r} is unknown: pass 'before' (the ReLU) or 'after'")
        check_patterns(self.patterns)

    def plain(self) -> ReLU:
        return ReLU(self.hidden_bias, self.patterns)

    def for_outputs(self, outputs: int) -> Architecture:
        if outputs == 1:
            return self
        if self.where == "after":
            raise ValueError("several outputs are normalised before the ReLU: pass where='before'")
        return VectorBatchNorm(self.hidden_bias, self.patterns)

    def cost(self, network: Network) -> float:
        """``sum_j |a_j|`` times the root mean square of what is normalised, over the training data."""
        sizes = self.sizes_on_data(network) if self.where == "before" else self._sizes_after(network)
        return balanced_cost(sizes, network)

    def _sizes_after(self, network: Network) -> np.ndarray:
        """The root mean squares of the neurons' outputs, shape (m,)."""
        problem, first = self._data(), rectified(network)
        if self.hidden_bias is None and np.any(first.bias != 0.0):
            raise ValueError("the network has hidden biases: pass hidden_bias='penalized', not None")
        H = np.maximum(problem.X @ first.weight + first.bias, 0.0)
        return np.sqrt(problem.weights @ H**2 / problem.total_weight)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        if self.where == "before":
            return super().arrange(problem, random_state)
        if not is_sample(self.patterns):
            return None
        return sampled(white(self._seen(problem)[0])[0], self.patterns, random_state)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        self._only_before("lift")
        return super().lift(problem, arrangement)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        self._only_before("decode")
        return super().decode(problem, arrangement, solution)

    def _only_before(self, name: str) -> None:
        if self.where == "after":
            raise NotImplementedError(f"no {name}: networks normalised after the ReLU are trained by cones")

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> Oracle:
        if self.where == "after":
            problem = free_constants(problem, self.hidden_bias)
            data = self._seen(problem)[0]
            gates = None if arrangement is None else arrangement.gates
            try:
                return ConeOracle(problem, Cones.of(data, problem.weights, gates))
            except TooManyCones:
                if self.patterns != "auto":
                    raise
                return SearchedCones(problem, data)
        found = super().oracle_within(problem, arrangement, max_time)
        assert isinstance(found, WhitenedOracle)
        listed = not is_sample(self.patterns)
        if listed and self.hidden_bias == "penalized" and found.whitening.complete:
            there = found.whitening.problem(found.problem)
            found.inner = OrthantOracle(there, self.plain().design(there))
        return found

    def _seen(self, problem: Problem) -> tuple[np.ndarray, Whitening | None]:
        """What neurons before a normalisation see: X, or with biases whitened data and ones, which span the
        same and leave less to rounding."""
        if self.hidden_bias is None:
            return problem.X, None
        whitening = Whitening.of(problem)
        return np.column_stack([whitening.Q, np.ones(len(problem.X))]), whitening

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        if self.where == "before":
            return super().unit_neurons(problem, arrangement, U)
        X = design_matrix(problem, self.hidden_bias)
        H = np.maximum(U[:, : X.shape[1]] @ X.T, 0.0)
        size = np.sqrt(H**2 @ problem.weights / problem.total_weight)[:, None]
        return H / np.where(size > 0.0, size, 1.0)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        if isinstance(oracle, ConeOracle):
            return (yield from self._train_after(oracle, effort))
        if isinstance(oracle, SearchedCones):
            if not problem.loss.smooth and oracle.basis.shape[1] <= MOST_RANK:
                return (yield from self._grow_cells(oracle, effort))
            return (yield from self._grow_after(oracle, effort))
        assert isinstance(oracle, WhitenedOracle)
        if not (isinstance(oracle.inner, OrthantOracle) and isinstance(problem.loss, SquaredError)):
            return (yield from super().train(problem, arrangement, oracle, effort))
        whitening = oracle.whitening
        network = whitening.fold(best_on_whitened(whitening.problem(problem)))
        yield self._noted(oracle, network, problem.residual(network(problem.X)), 0, effort)
        return network

    def _noted(
        self, oracle: Oracle, network: Network, Z: np.ndarray, patterns: int, effort: Effort
    ) -> Progress:
        """The line of a network and its dual variable, written into the history."""
        problem = oracle.problem
        value = self.objective(problem, network)
        gap = search_gap(problem, value, Z, oracle.found(Z, network))  # as the judge will search
        effort.history.append(Progress(value, gap, network.width, patterns, network, Z))
        return effort.history[-1]

    def _train_after(self, oracle: ConeOracle, effort: Effort) -> Training:
        """Column generation over cones: price, add the best, solve, until none prices out."""
        problem, best = oracle.problem, self.nothing(oracle.problem)
        Z, chosen = problem.residual(np.zeros_like(problem.y)), list[Member]()
        line = self._noted(oracle, best, Z, 0, effort)
        yield line
        least, again = line.objective, True
        for _ in range(effort.max_iter):
            _, found = oracle.members(Z)
            out = [row for value, row in found if value > problem.beta * (1.0 + 1e-9)]
            fresh = [row for row in out if row not in chosen][:ADDED]
            # nothing new and still a gap: the last program was not solved well, fewer cones are easier
            if line.search_gap <= effort.tol or not (fresh or (again and chosen)):
                break
            chosen, again = chosen + fresh, bool(fresh)
            weights, Z = solve_cones(problem, oracle.cones, chosen)
            size = np.array([np.sum(x) for x in weights])
            carry = np.flatnonzero(size > ROUNDINGS[-1] * np.sum(size))
            carried = [chosen[g] for g in carry]
            network = self._rounded(oracle, carried, [weights[g] for g in carry])
            Z = dual_of(problem, oracle.cones.fit(chosen, weights), Z)
            line = self._noted(oracle, network, Z, len(chosen), effort)
            if line.objective <= least:
                best, least = network, line.objective
            yield line
            # at kinks of the loss a cone without weight may hold the dual variable in its place
            chosen = carried if problem.loss.smooth else chosen
        return best

    def _grow_cells(self, oracle: SearchedCones, effort: Effort) -> Training:
        """Programs over more and more cells, for a loss with kinks."""
        problem, best = oracle.problem, self.nothing(oracle.problem)
        cells = GrownCells(oracle, effort.random_state)
        least = problem.null_value()
        for k, (rows, signs) in enumerate(cells.grow(self._starts(oracle, effort)), 1):
            network = self._smallest(problem, rows, signs)
            line = self._noted(oracle, network, cells.Z, len(cells.cones.rays), effort)
            if line.objective <= least:
                best, least = network, line.objective
            yield line
            if line.search_gap <= effort.tol or k >= effort.max_iter:
                break
        return best

    def _starts(self, oracle: SearchedCones, effort: Effort) -> np.ndarray:
        """The neurons (m, d) of a network to start from, none without."""
        return oracle.data[:0] if effort.start is None else oracle.rows_of(effort.start)

    def _grow_after(self, oracle: SearchedCones, effort: Effort) -> Training:
        """Column generation over neurons: a Lasso of those that are known, a descent, a search for more.

        A loss with kinks is smoothed by less than the gap, around its last dual variable.
        """
        problem, best = oracle.problem, self.nothing(oracle.problem)
        rng, Z = effort.random_state, problem.residual(np.zeros_like(problem.y))
        line = self._noted(oracle, best, Z, 0, effort)
        yield line
        found, least, idle = oracle.search(Z, self._starts(oracle, effort), rng), line.objective, 0
        rows, gap = found.rows[:FIRST], 1.0
        for k in range(effort.max_iter):
            near = SMOOTHING * max(min(gap, 0.1), effort.tol)
            smooth = oracle.smoothed(near * least, Z if k else None)
            weights = yield from self._weights(oracle, smooth, rows, effort.tol)
            rows, signs = descend(smooth, *smooth.weighed(rows, weights), DESCENT)
            network = self._smallest(problem, rows, signs)
            Z = smooth.problem.residual(network(problem.X))
            line = self._noted(oracle, network, Z, len(rows), effort)
            idle = idle + 1 if line.objective > least * (1.0 - PAYS) else 0
            if line.objective <= least:
                best, least = network, line.objective
            gap = min(gap, line.search_gap)
            yield line
            if line.search_gap <= effort.tol or idle >= IDLE:
                break
            found = oracle.search(Z, rows, rng)
            rows = np.concatenate([rows, found.rows[found.values > problem.beta][:ADDED]])
        return best

    def _weights(
        self, oracle: SearchedCones, smooth: SearchedCones, rows: np.ndarray, tol: float
    ) -> Generator[Master, Solution | None, np.ndarray]:
        """The signed weights (m,) of neurons of norm one in the program over them."""
        if oracle.problem.loss.smooth:
            solution = yield Master(oracle.lasso(rows), 0.1 * tol)
            assert solution is not None
            return np.asarray(solution.W)[:, 0]
        # a loss that bends sharply is for a conic solver: every neuron is a cone with one ray
        root = np.sqrt(oracle.problem.total_weight)
        H = oracle.units(rows) / root
        cones = Cones([row[None] for row in rows], [h[:, None] for h in H.T])
        members = [(k, sign) for k in range(len(rows)) for sign in (1.0, -1.0)]
        sizes = np.array(solve_cones(smooth.problem, cones, members)[0]).ravel()
        return (sizes[::2] - sizes[1::2]) / root

    def _rounded(self, oracle: ConeOracle, members: list[Member], weights: list[np.ndarray]) -> Network:
        """The neurons of a solution of the program over cones, rounded."""
        rows = [x @ oracle.cones.rays[g] for x, (g, _) in zip(weights, members, strict=True)]
        U = np.array(rows).reshape(-1, self._seen(oracle.problem)[0].shape[1])
        return self._smallest(oracle.problem, U, np.array([sign for _, sign in members]))

    def _smallest(self, problem: Problem, U: np.ndarray, signs: np.ndarray) -> Network:
        """The smallest of a few roundings that is not worse."""
        data, whitening = self._seen(problem)
        rounded = (
            self._of_rays(problem, whitening, *self._merged(problem, data, U, signs, cut))
            for cut in reversed(ROUNDINGS)
        )
        return self.not_worse(problem, (self.nothing(problem), *rounded))

    def _merged(
        self, problem: Problem, data: np.ndarray, U: np.ndarray, signs: np.ndarray, cut: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Neurons without those whose size is below a share of all, and of equal outputs only the sum.

        Cells share rays. Of two neurons with parallel outputs a sample is on for both or for none, so that
        their sum has the sum of their outputs.
        """
        H = np.maximum(data @ U.T, 0.0)
        size = np.sqrt(problem.weights @ H**2)
        kept = np.flatnonzero(size > cut * np.sum(size))
        kept = kept[np.argsort(-size[kept], kind="stable")]
        V = np.sqrt(problem.weights)[:, None] * H[:, kept] / size[kept]
        if not len(kept):
            return U[kept], signs[kept]
        same = (cut >= 1.0 - V.T @ V) & np.equal.outer(signs[kept], signs[kept])
        first = np.argmax(same, axis=1)  # the largest neuron that each goes to
        out = np.zeros((len(kept), U.shape[1]))
        np.add.at(out, first, U[kept])
        heads = np.unique(first)
        return out[heads], signs[kept][heads]

    def _of_rays(
        self, problem: Problem, whitening: Whitening | None, U: np.ndarray, signs: np.ndarray
    ) -> Network:
        """The network of neurons on what they see, its two layers of equal size."""
        data = self._seen(problem)[0]
        H = np.maximum(data @ U.T, 0.0)
        root = np.sqrt(np.sqrt(problem.weights @ H**2 / problem.total_weight))
        U, a = U / root[:, None], signs * root
        if whitening is None:
            plain = Network.two_layer(np.ascontiguousarray(U.T), np.zeros(len(U)), a)
            return with_constants(problem, plain)
        first = np.ascontiguousarray(U[:, :-1].T), U[:, -1].copy()
        return with_constants(problem, whitening.fold(Network.two_layer(*first, a)))


@dataclass(frozen=True)
class VectorBatchNorm(Whitened, VectorArchitecture):
    """Two-layer ReLU networks with several outputs, normalised before the ReLU.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        As with one output.
    patterns : {"auto"}, default="auto"
        Patterns always grow.
    coupling : {"joint", "separate"}, default="joint"
        As in :class:`cvxnn.architectures.vector_relu.VectorReLU`.
    """

    name: ClassVar[str] = "batchnorm"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    coupling: str = "joint"

    def plain(self) -> VectorReLU:
        return VectorReLU(self.hidden_bias, self.patterns, self.coupling)

    def for_outputs(self, outputs: int) -> Architecture:
        return self if outputs > 1 else BatchNorm(self.hidden_bias, self.patterns)

    def cost(self, network: Network) -> float:
        """``sum_j |v_j|`` times the root mean square of the pre-activation, over the training data."""
        check_coupling(self.coupling)
        last = network.layers[-1]
        assert isinstance(last, Affine)
        order = 2 if self.coupling == "joint" else 1
        return float(self.sizes_on_data(network) @ np.linalg.norm(last.weight, ord=order, axis=1))
