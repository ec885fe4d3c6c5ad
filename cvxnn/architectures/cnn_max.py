r"""Convolutional networks of two layers with global max pooling.

The network takes the largest output of every filter,

    f = sum_j a_j max_k (X_k u_j)_+ + c,      R = 1/2 sum_j (||u_j||^2 + a_j^2).

What is linear in u now are pieces on which every sample i has one position kappa_i with the largest
value, and that value one sign: cells of the arrangement of all patches ``x_ik`` and of all differences
``x_ik - x_il``. With D the samples whose largest value is positive, and ``X_kappa`` the patches at their
positions,

    minimise   L( sum_p D_p X_kappa(p) (u_p - v_p) + c ) + beta * sum_p (||u_p|| + ||v_p||)

with u_p and v_p in the closed cell p, a cone ``(2 S_p - I) R u >= 0`` of all rows R (more rows than
needed, since the order of positions that are not the largest changes nothing; then several cells have the
same piece, and the program the same value). The price of a dual variable Z in a cell is the norm of the
projection of ``X_kappa' D Z`` onto its cone.

Cells are listed where there are few (scope ``global``). There are ``nK + n K (K - 1) / 2`` rows, so this
is for small data. Otherwise networks grow as those of several outputs do, without a program and with
their scopes; of losses with kinks, on which descent would stop, sampled gates choose the cells (scope
``patterns``).

With several outputs filters have output vectors, and per cell the program has the nuclear norm with left
factors kept in the cone, as in :mod:`cvxnn.architectures.vector_relu`: no program is solved, networks grow,
and a network is optimal exactly if it is stationary and ``max_u |sum_i Z_i max_k (x_ik'u)_+| <= beta``
for its dual variable with rows Z_i. The scope is ``global`` where the faces of the arrangement can be
listed, and ``bounded`` otherwise, by a bound that is loose (:mod:`cvxnn.max_oracles`); it never is
``patterns``. Of some dozens of patches ``bound="sdp"`` proves far more (:mod:`cvxnn.bounds_lift_chains`).

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021 (max
pooling); the program above is derived as stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns, count_bound, pack
from ..certificate import Oracle
from ..constraints import ReLUCones
from ..design import Design
from ..growth import Rows, merge
from ..losses.squared_error import SquaredError
from ..max_oracles import MaxCellOracle, MaxFaceOracle, MaxSearchOracle, selected, single_bound
from ..max_pooling import NEAR, MaxDesign, descend_max, drop, hold, insert, weigh
from ..network import Network, ReLU
from ..operators import Masked, Pooled
from ..penalties import GroupL2
from ..pooled_oracles import Single
from ..program import Master, Problem, Program, Solution
from ..unfolding import unfold_problem
from ..vector_growth import Coupling
from ..vector_growth import Rows as VectorRows
from ..vector_growth import merge as merge_vectors
from ..vector_oracles import TooManyFaces, VectorOracle
from ..vector_pricing import VectorNeurons
from .base import Architecture, Effort, Training
from .convolutional import Convolutional, Size, is_pooled
from .two_layer import balanced_cost, check_patterns, sampled
from .vector_rectified import Plan, VectorRectified

#: Cells that "auto" lists, gates that it draws where there are more, and cells that "all" lists.
AUTO_CELLS, AUTO_GATES, ALL_CELLS = 500, 200, 5000
#: Roundings of a solution, finest first: relative norm to drop, distance to merge.
ROUNDINGS = ((1e-14, 0.0), *((10.0**-k, 10.0**-k) for k in range(9, 3, -1)), (1.0, 0.0))


class MaxPooled(Convolutional):
    """Convolution, ReLU, and the maximum over all positions: what both numbers of outputs share."""

    #: What is pooled over all positions has no places for another stage to see.
    hidden_units = Architecture.hidden_units

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        return is_pooled(network, ("max",))

    def checked(self, problem: Problem) -> np.ndarray:
        """Return the patches of all samples, one sample after the other.

        Raises
        ------
        ValueError
            If the hidden bias is free.
        """
        if self.hidden_bias == "free":
            raise ValueError("'cnn_max' networks have no free hidden bias: pass 'penalized' or None")
        return self.stacked(problem)

    def of_rows(self, problem: Problem, U: np.ndarray, V: np.ndarray) -> Network:
        """Return the network of filters ``U`` (m, patch [+ 1]) and output weights ``V`` (m, outputs)."""
        pool = self.whole_pool(problem, "max", len(U))
        return self.of_layers(problem, (self.conv_layer(problem, U), ReLU(), pool), V)

    def nothing(self, problem: Problem) -> Network:
        """Return the network without filters and its best constants."""
        width = self.windows_of(problem.X.shape[1]).patch + (self.hidden_bias is not None)
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        return self.of_rows(problem, np.zeros((0, width)), np.zeros((0, outputs)))

    def hidden_norms(self, network: Network) -> np.ndarray:
        """Return the norms of the penalised weights of each filter, shape (m,).

        Raises
        ------
        ValueError
            If it is not a network of this family and geometry.
        """
        norms = self.filter_norms(network)
        if not self.reads(network):
            raise ValueError(f"{network!r} does not take the maximum of all positions: pass 'max' pooling")
        return norms

    def unit_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the pooled outputs (k, n) of unit filters in the directions ``U``."""
        U = self.directions(problem, U)
        rows = self.stacked(problem) @ (U / np.linalg.norm(U, axis=1)[:, None]).T
        return np.maximum(rows.reshape(len(problem.X), -1, len(U)).max(axis=1), 0.0).T


@dataclass(frozen=True)
class CNNMax(MaxPooled, Architecture):
    """Convolutional networks of two layers with global max pooling and one output.

    Parameters
    ----------
    kernel, input_shape, stride, padding
        As of :class:`cvxnn.architectures.cnn.CNN`.
    hidden_bias : {"penalized", None}, default="penalized"
        A bias per filter that is penalised with its weights, or none.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" lists all cells where there are at most 500, and grows them otherwise (those of 200 Gaussian
        gates where the loss has kinks); "all" insists on listing; a number of gates has scope
        ``patterns``, and "wedge" or ("wedge", number) draws them through random patches and differences
        of patches, see :mod:`cvxnn.geometric`.
    """

    name: ClassVar[str] = "cnn_max"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"

    def design(self, problem: Problem) -> Design:
        """Return patches and their differences, one sample after the other."""
        rows, n = self.checked(problem), len(problem.X)
        rows = rows.reshape(n, -1, rows.shape[1])
        pairs = [rows[:, k] - rows[:, m] for k, m in combinations(range(rows.shape[1]), 2)]
        every = np.concatenate([rows, *(pair[:, None] for pair in pairs)], axis=1)
        return Design.reduce(every.reshape(-1, rows.shape[2]), 0, 0.0, every.shape[1])

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        """Return cells of patches and differences, or None where they grow."""
        check_patterns(self.patterns)
        X = self.design(problem).X
        if self.patterns == "all":
            return Arrangement.enumerate(X, limit=ALL_CELLS)
        if self.patterns == "auto" and count_bound(len(X), X.shape[1]) <= 20 * AUTO_CELLS:
            try:
                return Arrangement.enumerate(X, limit=AUTO_CELLS)
            except TooManyPatterns:
                pass  # then they grow, or gates are drawn
        if self.patterns == "auto" and problem.loss.smooth:
            return None
        return sampled(X, self.patterns, random_state, AUTO_GATES)

    def _positions(self, problem: Problem) -> int:
        return self.windows_of(problem.X.shape[1]).positions

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The program with all cells: first the u blocks, then the v blocks."""
        design = self.design(problem)
        chosen = pack(selected(design, arrangement, self._positions(problem)))
        signs = np.repeat([1.0, -1.0], len(arrangement))
        masked = Masked(design.X, np.concatenate([chosen, chosen]), signs)
        return Program(
            Pooled(masked, design.pool) if design.pool > 1 else masked,
            problem.loss,
            problem.y,
            problem.weights,
            problem.beta,
            GroupL2(),
            ReLUCones(design.X, np.concatenate([arrangement.bits, arrangement.bits])),
            problem.intercept,
        )

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """The smallest of a few roundings that is not worse."""
        design, W = self.design(problem), np.asarray(solution.W)
        signs, norms = np.repeat([1.0, -1.0], len(arrangement)), design.norms(np.asarray(solution.W))

        def rounded(cut: float, tol: float) -> Network:
            kept = norms > cut * np.sum(norms)
            rows = merge(Rows(W[kept], signs[kept]), design, tol)
            root = np.sqrt(design.norms(rows.U))[:, None]
            return self.of_rows(problem, design.weights(rows.U) / root, rows.signs[:, None] * root)

        return self.not_worse(problem, (rounded(cut, tol) for cut, tol in ROUNDINGS))

    def for_outputs(self, outputs: int) -> Architecture:
        return self if outputs == 1 else self.growing()

    def growing(self) -> VectorCNNMax:
        """Return the family whose networks grow, of one output or of several; it refuses other patterns."""
        return VectorCNNMax(**{part.name: getattr(self, part.name) for part in fields(self)})

    def cost(self, network: Network) -> float:
        """``sum_j ||(u_j, b_j)|| |a_j|``, the penalty after the best rescaling of each filter."""
        return balanced_cost(self.hidden_norms(network), network)

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> Oracle:
        if arrangement is None:
            return self.growing().oracle_within(problem, None, max_time)
        return self.oracle(problem, arrangement)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> Oracle:
        if arrangement is None:
            return self.growing().oracle(problem, None)
        return MaxCellOracle(problem, self.design(problem), arrangement, self._positions(problem))

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.unit_outputs(problem, U)

    def master(self, problem: Problem, arrangement: Arrangement, oracle: Oracle, effort: Effort) -> Master:
        # of programs with cones the network is a rounding, which needs some room below the tolerance
        return replace(super().master(problem, arrangement, oracle, effort), tol=0.1 * effort.tol)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        if arrangement is None:
            return (yield from self.growing().train(problem, None, oracle, effort))
        return (yield from super().train(problem, arrangement, oracle, effort))


#: Steps of descent, products with the Hessian where kinks are held, and distances of neurons tried as one.
STEPS, PRODUCTS, FUSED = 200, 200, (0.0, 0.02, 0.1)


@dataclass(frozen=True)
class VectorCNNMax(MaxPooled, VectorRectified):
    """Convolutional networks of two layers with global max pooling and several outputs.

    Parameters
    ----------
    kernel, input_shape, stride, padding
        As of :class:`cvxnn.architectures.cnn.CNN`.
    hidden_bias : {"penalized", None}, default="penalized"
    patterns : {"auto"}, default="auto"
        Patterns always grow; a network is compared with those of all patterns.
    """

    name: ClassVar[str] = "cnn_max"
    #: Weight decay on the output layer.
    coupling: ClassVar[str] = "joint"  # type: ignore[misc]

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"

    @property
    def leak(self) -> float:
        return 0.0

    def design(self, problem: Problem) -> MaxDesign:
        """Return the stacked patches."""
        self._check()
        rows = self.checked(problem)
        found = MaxDesign.reduce(rows, 0, 0.0, len(rows) // len(problem.X))
        assert isinstance(found, MaxDesign)
        return found

    def rows_problem(self, problem: Problem) -> Problem:
        """Return the problem of one output as one of several."""
        return unfold_problem(problem, 1) if problem.y.ndim == 1 else problem

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """Plain weights have no geometry.

        Raises
        ------
        ValueError
            Always.
        """
        return Architecture.adopt(self, W1, b1, w2, c)

    def _oracle_of(self, problem: Problem, design: Design, limit: float) -> VectorOracle:
        assert isinstance(design, MaxDesign)
        try:
            return MaxFaceOracle(problem, design, limit)
        except TooManyFaces:
            return MaxSearchOracle(problem, design, (self._single(problem, design),))

    def _single(self, problem: Problem, design: MaxDesign) -> Single:
        """A bound of the price of neurons of one output: exact if their cells can be listed."""
        loose = partial(single_bound, design)
        one = replace(problem, y=np.zeros(len(problem.X)), loss=SquaredError())
        family = CNNMax(**{part.name: getattr(self, part.name) for part in fields(self)})
        X = family.design(one).X
        try:
            if count_bound(len(X), X.shape[1]) > 20 * ALL_CELLS:
                return loose
            drawn = Arrangement.enumerate(X, limit=ALL_CELLS)
        except TooManyPatterns:
            return loose
        if not drawn.complete:
            return loose
        oracle = family.oracle(one, drawn)
        return lambda z: oracle.price(z).value

    def _moves(
        self,
        problem: Problem,
        design: Design,
        coupling: Coupling,
        rows: VectorRows,
        plan: Plan,
        gap: float,
        longer: int,
        level: int,
        deadline: float,
        dear: bool,
    ) -> Iterator[VectorRows]:
        """The rows after a descent, and after holding the kinks that are near, of neurons tried as one,
        each of these also with the best sizes."""
        assert isinstance(design, MaxDesign)
        rows = descend_max(problem, design, rows, STEPS * longer)
        yield rows
        rows = weigh(problem, design, rows)
        yield rows
        seen = -1
        for tol in FUSED:
            fewer = merge_vectors(drop(rows, design, 1e-3 * tol), design, coupling, tol)
            if len(fewer) != seen:
                seen = len(fewer)
                for near in NEAR:
                    held = hold(problem, design, fewer, near, PRODUCTS * longer)
                    yield held
                    yield weigh(problem, design, held)

    def _insert(
        self, problem: Problem, design: Design, rows: VectorRows, found: VectorNeurons
    ) -> VectorRows:
        assert isinstance(design, MaxDesign)
        return insert(problem, design, rows, found)
