r"""Oracles for convolutional neurons whose outputs are added up: those of the stacked patches.

A neuron u of a convolution with sum pooling computes ``sum_k (x_ik'u)_+`` on sample i with patches x_ik, so
its price for a dual variable Z,

    max over |u| <= 1 of |sum_i Z_i sum_k (x_ik'u)_+|,

is the price of an ordinary neuron for the stacked patches, with Z_i repeated for all patches of sample i.
Every oracle for those is one for these, with the same scope: patches have few entries, so that all their
patterns can be listed (:class:`cvxnn.oracles.CellOracle`) where this is hopeless for whole images. Bounds
that move the dual variable keep it the same for all patches of a sample (:mod:`cvxnn.bounds`, `pool`).

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np

from .arrangement import Arrangement, TooManyPatterns, count_bound
from .bounds import oracle_bound
from .certificate import Price, Proof
from .design import Design
from .losses.squared_error import SquaredError
from .network import Network
from .oracles import CellOracle, NeuronOracle
from .patches import folded, pooled, unfolded
from .pricing import Neurons
from .program import Problem
from .unfolding import Unfolded
from .vector_bounds import improve
from .vector_growth import Coupling
from .vector_oracles import PRODUCTS, VectorOracle
from .vector_pricing import VectorNeurons

__all__ = ["PooledOracle", "PooledVectorOracle", "window_bounds"]

#: A bound of the price of a dual variable of one output.
Single = Callable[[np.ndarray], float]
#: Cells that are listed for neurons that see one window.
WINDOW_CELLS = 1000
#: Rows of patches times bounding iterations that a proof may take; each costs some microseconds.
ROWS = 2_000_000


class PooledOracle(NeuronOracle):
    """Prices neurons that are pooled over the rows of each sample by an oracle for the rows.

    Parameters
    ----------
    problem : Problem
    rows : NeuronOracle
        On the design of the stacked patches.
    """

    def __init__(self, problem: Problem, rows: NeuronOracle) -> None:
        super().__init__(problem, rows.design)
        self.rows, self.scope = rows, rows.scope

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.rows = self.rows.at(beta)
        return other

    def neurons(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Neurons:
        return self.rows.neurons(self.design.spread(Z), starts, random_state, effort)

    def thorough(self, Z: np.ndarray, network: Network) -> Neurons:
        return self.rows.thorough(self.design.spread(Z), network)

    def missing(self, Z: np.ndarray, network: Network, until: Callable[[Neurons], bool]) -> Neurons:
        return self.rows.missing(self.design.spread(Z), network, until)

    def active(self, Z: np.ndarray, floor: float, network: Network) -> Neurons:
        return self.rows.active(self.design.spread(Z), floor, network)

    def propose(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        reach: int = 1,
        extra: np.ndarray | None = None,
    ) -> Neurons:
        return self.rows.propose(self.design.spread(Z), starts, random_state, reach, extra)

    def seen(self, Z: np.ndarray) -> float:
        return self.rows.seen(self.design.spread(Z))

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.rows.found(self.design.spread(Z), network)

    def price(self, Z: np.ndarray) -> Price:
        return self.rows.price(self.design.spread(Z))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        proof = super().prove(Z, max_iter=max_iter, max_time=max_time)
        if proof.scope != "bounded":
            return proof
        moved = self.improved(proof.Z, min(max_iter, ROWS // max(1, len(self.X))), max_time)
        return moved if moved.bound > proof.bound else proof


class PooledVectorOracle(VectorOracle):
    """As :class:`PooledOracle`, with several outputs, or with output weights for every window.

    Parameters
    ----------
    problem : Problem
        Of one output or of several.
    rows : VectorOracle
        On the design of the stacked patches, window after window.
    windows : int
        Of each sample; an output weight for each of them and every output, see :mod:`cvxnn.unfolding`.
    singles : tuple of callables
        For every window a function of z (n,) that bounds the price of neurons of one output that see this
        window alone; none, where that is not to be used. Of weight decay only.
    """

    def __init__(
        self, problem: Problem, rows: VectorOracle, windows: int = 1, singles: tuple[Single, ...] = ()
    ) -> None:
        super().__init__(problem, rows.design, rows.coupling)
        self.rows, self.windows, self.singles, self.scope = rows, windows, singles, rows.scope

    @property
    def large(self) -> bool:
        """Training on mini-batches knows no patches."""
        return False

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.rows = self.rows.at(beta)
        return other

    def spread(self, Z: np.ndarray) -> np.ndarray:
        """What the rows of patches see of a dual variable, (rows, windows * outputs)."""
        return self.design.spread(unfolded(Z[:, None] if Z.ndim == 1 else Z, self.windows))

    def gather(self, S: np.ndarray) -> np.ndarray:
        """The adjoint of :meth:`spread`, of shape (n, outputs)."""
        return folded(pooled(S, self.design.pool), self.windows)

    def neurons(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        effort: int,
        *,
        exact: bool = True,
    ) -> VectorNeurons:
        return self.rows.neurons(self.spread(Z), starts, random_state, effort, exact=exact)

    def thorough(self, Z: np.ndarray, network: Network) -> VectorNeurons:
        return self.rows.thorough(self.spread(Z), network)

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.rows.found(self.spread(Z), network)

    def price(self, Z: np.ndarray) -> Price:
        return self.tightened(Z, self.rows.price(self.spread(Z)))

    def tightened(self, Z: np.ndarray, price: Price) -> Price:
        """Return a bounded price or that of windows and outputs one by one, whichever is lower.

        ``M(Z)^2 <= sum_p sum_c M_p(z_c)^2`` for the columns z_c of Z in any orthonormal basis of the
        outputs: the left side is a maximum of the sum, and the right side the sum of maxima.
        """
        if price.scope != "bounded" or not self.singles or not np.any(Z):
            return price
        columns = Z[:, None] if Z.ndim == 1 else Z
        axes = np.linalg.svd(columns, full_matrices=False)[2]
        each = [single(z) for z in (columns @ axes.T).T if np.any(z) for single in self.singles]
        # axes are orthonormal, and columns those of Z, up to rounding
        lengths = self.design.pool * self.windows * np.linalg.norm(self.X, axis=1).max()
        lost = 1e-14 * float(np.sum(np.linalg.norm(columns, axis=1)) * lengths)
        value = min(price.value, float(np.linalg.norm(each)) * (1.0 + 1e-12) + lost)
        return Price(value, "bounded", min(price.found, value))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        end = time.perf_counter() + max_time
        proof = super().prove(Z, max_iter=max_iter, max_time=max_time)
        problem = self.problem
        if proof.scope != "bounded" or self.free or self.coupling is Coupling.separate:
            return proof
        loss = Unfolded(problem.loss, 1)
        y = loss.unfold(problem.y)
        work = 2.0 * len(self.X) * (self.X.shape[1] + self.windows * y.shape[1]) ** 2
        moved, better = improve(
            self.X,
            y,
            problem.weights,
            loss,
            problem.beta,
            np.zeros_like(y),
            intercept=problem.intercept,
            slope=self.slope,
            spread=self.spread,
            gather=self.gather,
            max_iter=min(max_iter, int(PRODUCTS / (2.0 * work))),
            max_time=end - time.perf_counter(),
        )
        return Proof(loss.first(moved), better, "bounded") if better > proof.bound else proof


def window_bounds(problem: Problem, design: Design, windows: int) -> tuple[Single, ...]:
    """Return bounds of neurons of one output for each window: exact where its cells are few.

    Parameters
    ----------
    problem : Problem
    design : Design
        Of the rows of all windows, sample by sample and window by window.
    windows : int

    Returns
    -------
    tuple of callables
        By the cells of each window, or by the matrix bound of one output where these are too many.
    """
    outputs = np.zeros(len(problem.X))
    one = replace(problem, y=outputs, loss=SquaredError())
    rows = design.X.reshape(len(problem.X), windows, design.pool, -1)
    found = []
    for p in range(windows):
        X = np.ascontiguousarray(rows[:, p].reshape(-1, rows.shape[3]))
        found.append(_window_bound(one, Design(X, design.basis, design.free, design.slope, design.pool)))
    return tuple(found)


def _window_bound(one: Problem, design: Design) -> Single:
    try:
        if count_bound(len(design.X), design.X.shape[1]) > 20 * WINDOW_CELLS:
            raise TooManyPatterns(count_bound(len(design.X), design.X.shape[1]), WINDOW_CELLS)
        drawn = Arrangement.enumerate(design.X, limit=WINDOW_CELLS)
    except TooManyPatterns:
        drawn = None
    if drawn is not None and drawn.complete:
        oracle = PooledOracle(one, CellOracle(one, design, drawn))
        return lambda z: oracle.price(z).value
    return lambda z: oracle_bound(
        design.X, design.spread(z), free=design.free, slope=design.slope, max_iter=20
    )
