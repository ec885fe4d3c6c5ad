r"""Two-layer networks of neurons with one kink at zero: how all of them are trained and judged.

The activation is ``phi(t) = max(t, s t)`` with a slope s < 1 on the negative side, the *leak*: 0 for the
ReLU (:mod:`cvxnn.architectures.relu`), -1 for the absolute value, something between for leaky ReLUs. It
changes its piece where the ReLU does, so patterns and cones are the same for all, and a neuron with pattern
D computes ``(D + s (I - D)) X u`` on the data.

Where the patterns can be listed, one convex program has all of them. Where they cannot they grow: solve the
program on the current patterns, price neurons against its dual variable, add the best, drop the zeros,
until no neuron prices out (column generation, which is Frank-Wolfe with all its atoms re-optimised). Local
descent on a few dozen neurons finds the first patterns. With ``hidden_bias="free"`` the b_j carry no
penalty; norms are then over w alone, and neurons see the data around their mean (:mod:`cvxnn.design`).

References: Pilanci and Ergen, "Neural networks are convex regularizers", ICML 2020; Bach, JMLR 2017,
section 4 (growing networks); Mishkin, Sahiner and Pilanci, ICML 2022.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns, count_bound
from ..blocks import Blocks, active
from ..certificate import search_gap
from ..constraints import ReLUCones
from ..design import Design
from ..exploration import KINKED, REACH, Exploration
from ..fewer import fewer
from ..growth import Rows, insert, merge, objective, thin
from ..network import Affine, Network
from ..operators import Masked, Pooled
from ..oracles import CellOracle, NeuronOracle, SearchOracle
from ..penalties import GroupL2, Penalty
from ..planar import PlaneOracle
from ..pricing import Neurons
from ..program import Master, Problem, Program, Solution
from ..smoothing_newton import affordable
from ..spline import fit_spline, kinks_of
from .base import Architecture, Effort, Progress, Training
from .hidden import ReLUHidden
from .two_layer import balanced_cost, check_patterns, is_sample, sampled, with_constants

#: `patterns="auto"` enumerates up to this many patterns, and up to this many bits of patterns.
AUTO_PATTERNS, AUTO_BITS = 3000, 2_000_000
#: Roundings tried on a solution, finest first: relative norm to drop, distance to merge.
ROUNDINGS = ((1e-14, 0.0), *((10.0**-k, 10.0**-k) for k in range(9, 2, -1)), (1.0, 0.0))
#: Neurons of one sign closer than this share a block at first: far from an optimum, and near one, whose
#: neurons close to each other are different ones; it shrinks where that stops paying.
MERGE, NEAR_MERGE = 0.2, 0.02
#: Programs are solved to this share of the search gap that is left, where the loss has no kinks and where
#: it has: prices are off by the root of what a program is off.
SHARP, KINKED_SHARP = 1e-4, 1e-3
#: Growing is taken up again while a search finds a gap above the first; programs finish below it. Programs
#: that find a larger one, and not less of it by this factor, have no end.
CLOSE, FALLS = 1e-3, 0.7
#: Unknowns of a program from which on growing again is preferred to solving it.
LARGE = 2000
#: Times that growing is taken up again without a gain, for at most so many rounds.
AGAIN, ROUNDS = 4, 10
#: Relative gap of a spline below which what is left of it is rounding.
SPLINE = 1e-6
#: `patterns="all"` refuses beyond this many.
ALL_PATTERNS = 50_000


class Rectified(ReLUHidden, Architecture):
    """Two-layer networks with one output whose activation has one kink, at zero.

    A member is a frozen dataclass with the parameters `hidden_bias` and `patterns` of
    :class:`cvxnn.architectures.relu.ReLU`, and says its :attr:`leak`.
    """

    patterns: str | int | tuple

    @property
    @abstractmethod
    def leak(self) -> float:
        """The slope of the activation on the negative side, in [-1, 1)."""

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        X = self.design(problem).X
        check_patterns(self.patterns)
        if self.patterns == "all":
            return Arrangement.enumerate(X, limit=ALL_PATTERNS)
        if self.patterns == "auto":
            limit = min(self._most_listed(problem, X), max(64, AUTO_BITS // max(1, len(X))))
            # Degenerate data may have fewer cells than the bound; only near misses are worth trying.
            if count_bound(len(X), X.shape[1]) > 20 * limit:
                return None
            try:
                return Arrangement.enumerate(X, limit=limit)
            except TooManyPatterns:
                return None
        return sampled(X, self.patterns, random_state)

    def _most_listed(self, problem: Problem, X: np.ndarray) -> int:
        """How many patterns "auto" lists; a line needs no list, see :class:`PlaneOracle`."""
        return 0 if problem.X.shape[1] == 1 and X.shape[1] == 2 else AUTO_PATTERNS

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The program with all listed patterns: first the u blocks, then the v blocks."""
        design = self.design(problem)
        return self._program(problem, design, self._both_signs(design, arrangement))

    def _both_signs(self, design: Design, arrangement: Arrangement) -> Blocks:
        """Every pattern with both signs; of an even activation, one of every two opposite ones."""
        masks = arrangement.masks()
        if self.leak == -1.0 and arrangement.complete:
            masks = masks[~design.turned(arrangement.gates)]
        signs = np.repeat([1.0, -1.0], len(masks))
        zeros = np.zeros((2 * len(masks), arrangement.gates.shape[1]))
        return Blocks(np.concatenate([masks, masks]), signs, zeros, self.leak != 0.0)

    def _program(self, problem: Problem, design: Design, blocks: Blocks) -> Program:
        problem = self.problem_of(problem)
        bits = np.packbits(blocks.masks, axis=1)
        stacked = Masked(design.X, bits, blocks.signs, slope=design.slope)
        return Program(
            Pooled(stacked, design.pool) if design.pool > 1 else stacked,
            problem.loss,
            problem.y,
            problem.weights,
            problem.beta,
            self._gauge(design),
            ReLUCones(design.X, bits, design.free),
            problem.intercept,
        )

    def _gauge(self, design: Design) -> Penalty:
        """What the program charges for a block."""
        return GroupL2(design.free, design.reach) if design.free else GroupL2()

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        design = self.design(problem)
        signs = self._both_signs(design, arrangement).signs
        return self._network(problem, design, signs, solution.W)

    def _network(self, problem: Problem, design: Design, signs: np.ndarray, W: np.ndarray) -> Network:
        """The smallest of a few roundings whose objective is not worse than 1e-10 relative.

        Rounding drops groups at zero and merges neurons that point the same way, up to the
        solver's accuracy; the coarsest rounding is the empty network.
        """
        problem = self.problem_of(problem)
        norms = design.norms(W)

        def rounded(cut: float, tol: float) -> Network:
            kept = norms > cut * np.sum(norms)
            rows = merge(Rows(W[kept], signs[kept]), design, tol)
            # Where kinks make many networks optimal, an interior point is a mixture of all of them.
            rows = rows if problem.loss.smooth else thin(problem, design, rows)
            return self._plain(problem, design, rows)

        return self.not_worse(problem, (rounded(cut, tol) for cut, tol in ROUNDINGS))

    def _plain(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """Balance the layers, and give the output its best constant."""
        full = design.weights(rows.U)
        root = np.sqrt(design.norms(rows.U))
        full, a = full / root[:, None], rows.signs * root
        d = problem.X.shape[1]
        bias = np.zeros(len(full)) if self.hidden_bias is None else full[:, d]
        return with_constants(problem, self.adopt(np.ascontiguousarray(full[:, :d].T), bias, a, 0.0))

    def cost(self, network: Network) -> float:
        """``sum_j Omega(w_j, b_j) |a_j|``, the penalty after the best rescaling of each neuron."""
        return balanced_cost(self.hidden_norms(network), network)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> NeuronOracle:
        problem, design = self.problem_of(problem), self.design(problem)
        if arrangement is None or (not arrangement.complete and not is_sample(self.patterns)):
            return self._search_oracle(problem, design)
        return self._cell_oracle(problem, design, arrangement)

    def _search_oracle(self, problem: Problem, design: Design) -> NeuronOracle:
        return (PlaneOracle if design.X.shape[1] == 2 else SearchOracle)(problem, design)

    def _cell_oracle(self, problem: Problem, design: Design, arrangement: Arrangement) -> NeuronOracle:
        return CellOracle(problem, design, arrangement)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        return self.unit_outputs(problem, U)

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: float) -> Network:
        return Network.two_layer(W1, b1, w2, c, self.activation)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: object, effort: Effort
    ) -> Training:
        assert isinstance(oracle, NeuronOracle)
        problem, design = self.problem_of(problem), self.design(problem)
        # The spline's descent knows no kinks of the loss.
        line = isinstance(oracle, PlaneOracle) and design.free and not design.slope
        known: Network | None = None
        if line and problem.loss.smooth:
            known, gap = yield from self._line(problem, design, effort)
            # A loss that is straight or flat far from its minimum can leave Newton's method no way there.
            if gap <= max(effort.tol, SPLINE):
                return known
        best = yield from self._grow(problem, design, oracle, effort)
        if known is not None and self.objective(problem, known) < self.objective(problem, best):
            best = known
        rows = None if is_sample(self.patterns) else self._rows(oracle, best)
        if rows is None or effort.rough:
            return best
        least = fewer(problem, design, rows, min(1e-9, 0.01 * effort.tol), effort.deadline)
        return best if least is rows else self._plain(problem, design, least)

    def _grow(self, problem: Problem, design: Design, oracle: NeuronOracle, effort: Effort) -> Training:
        """Move neurons, and solve programs on their patterns, until no neuron is missing."""
        rows = None if effort.start is None else self._rows(oracle, effort.start)
        # A training that starts from a network ends with the judge's search, which is as hard.
        hardest = REACH[0 if effort.start else -1]
        rows, gap = yield from self._explore(problem, design, oracle, effort, rows, hardest)
        # Near neurons share a block at first: a program has to have few blocks, and loses little by it.
        small = len(rows.signs) * design.X.shape[1] <= LARGE
        bold = NEAR_MERGE if effort.start or (gap <= CLOSE and small) else MERGE
        blocks = Blocks.of(design, merge(rows, design, bold))
        best = self._network(problem, design, rows.signs, rows.U)
        if effort.rough and len(rows.signs):
            return best
        value, idle = self.objective(problem, best), 0
        empty, whole = self._network(problem, design, np.zeros(0), design.X[:0]), blocks
        again, pays, last = AGAIN, 1.0 - min(1e-6, 0.01 * effort.tol), 1.0
        sharpness = SHARP if problem.loss.smooth else KINKED_SHARP
        # A large program has little to add to what Newton's method has followed to its end.
        followed = problem.loss.smooth and self._can_follow(design, rows)
        for _ in range(effort.max_iter):
            network, Z = empty, problem.residual(empty(problem.X))
            if followed and len(rows.signs):
                network, Z = best, problem.residual(best(problem.X))
            elif len(blocks.signs):
                near = max(min(gap, 0.01), effort.tol)
                network, Z, whole, blocks = yield from self._finish(
                    problem, design, blocks, best, value, near, sharpness, bold
                )
            now = self.objective(problem, network)
            # Bold merging keeps programs small; where it stops paying it gives way.
            if not followed and now > value * pays:
                bold, idle = 0.1 * bold, idle + 1
                # With kinks it may take patterns without a neuron to hold the dual variable in its place.
                blocks = blocks if problem.loss.smooth else whole
            if now <= value:
                best, value = network, now
            gap, found = self._price(problem, oracle, Z, blocks, network, now, effort)
            effort.history.append(Progress(value, gap, best.width, len(blocks.signs), best, Z))
            yield effort.history[-1]
            fresh = self._fresh(problem, design, blocks, found)
            # A path takes the best network it knows as soon as this dual variable proves it; an objective
            # below the dual value would say that the search has missed a neuron.
            proven = now <= value or (effort.start is not None and value >= now * (1.0 - gap))
            if (gap <= effort.tol and proven) or idle >= 10:
                break
            if gap <= effort.tol:
                # A better network is known, and no search sees how: the program lacks what was merged.
                known = self._rows(oracle, best) or Rows.empty(design.X.shape[1])
                fresh = self._unknown(blocks, Blocks.of(design, merge(known, design, 0.0)))
                if len(fresh.signs) == 0:
                    # as good within the tolerance, and this one's dual variable proves it
                    best = network if now <= value * (1.0 + effort.tol) else best
                    break
                blocks, followed, idle = blocks.join(fresh), False, idle + 1
                continue
            if again and problem.loss.smooth and (gap > CLOSE or followed):
                # a program that merged too much is no place to go on from
                held = self._rows(oracle, best) if now > value else None
                held = held or (rows if followed else Rows(blocks.W, blocks.signs))
                at = insert(problem, design, held, found)
                at, _ = yield from self._explore(problem, design, oracle, effort, at, hardest)
                if objective(problem, design, at) < value * pays:
                    rows, best = at, self._plain(problem, design, at)
                    value, idle = self.objective(problem, best), 0
                    blocks = Blocks.of(design, merge(rows, design, bold))
                    followed = self._can_follow(design, rows)
                    continue
                again -= 1
                # Near a known network what is missing is a sharper dual variable.
                sharpness *= 0.1 if effort.start else 1.0
            elif gap > max(CLOSE, FALLS * last) and problem.loss.smooth:
                # Far from done after growing again and again: targets that are nearly interpolated.
                break
            last = gap
            followed = False
            if len(fresh.signs) == 0:
                # Nothing prices out: what is left of the gap is the program's own.
                sharpness *= 0.01
            blocks = blocks.join(fresh)
        return best

    def _finish(
        self,
        problem: Problem,
        design: Design,
        blocks: Blocks,
        best: Network,
        value: float,
        near: float,
        sharpness: float,
        bold: float,
    ) -> Generator[Master, Solution | None, tuple[Network, np.ndarray, Blocks, Blocks]]:
        """Solve the program of some blocks, to a share of the gap `near` that is left.

        Returns the network, the dual variable, the blocks with their solution, and those that carry it.
        """
        tol = max(sharpness * near, 1e-10)
        # Of a loss with kinks many dual variables are optimal, and most of them price high elsewhere:
        # smoothed by less than the gap there is one, and it settles.
        smooth = problem.smoothed(min(100.0 * tol, 0.1 * near) * value)
        program = self._program(smooth, design, blocks)
        solution = yield Master(program, tol, blocks.W, best)
        assert solution is not None
        network = self._network(problem, design, blocks.signs, solution.W)
        # Rounding moves the residual to first order; the solver's dual variable is sharper.
        whole = Blocks(blocks.masks, blocks.signs, solution.W, blocks.zero)
        Z = np.asarray(solution.Z)
        return network, Z, whole, active(program, solution, blocks, design, bold)

    def _can_follow(self, design: Design, rows: Rows) -> bool:
        """Whether Newton's method moves these neurons at less cost than a program solves for them."""
        n, d = design.samples, design.X.shape[1]
        return len(rows.signs) * d > LARGE and affordable(n, len(rows.signs), d, design.pool)

    def _line(
        self, problem: Problem, design: Design, effort: Effort
    ) -> Generator[Progress, None, tuple[Network, float]]:
        """One input and free biases: the exact spline, whose kinks are the neurons, and its gap."""
        # on the line that the neurons see, of data with several columns too
        spline = fit_spline(replace(problem, X=design.X[:, :1]))
        at, side, size = kinks_of(spline.knots, spline.values)
        rows = Rows(np.abs(size)[:, None] * np.column_stack([side, -side * at]), np.sign(size))
        network = self._plain(problem, design, rows)
        value = self.objective(problem, network)
        effort.history.append(
            Progress(value, spline.gap, network.width, len(spline.knots), network, spline.Z)
        )
        yield effort.history[-1]
        return network, spline.gap

    def _rows(self, oracle: NeuronOracle, network: Network) -> Rows | None:
        """The neurons of a network to start from, None if it has none."""
        last = network.layers[-1]
        assert isinstance(last, Affine)
        U = oracle.neurons_of(network) * np.abs(last.weight)
        kept = oracle.design.norms(U) > 0
        return Rows(U[kept], np.sign(last.weight[kept, 0])) if np.any(kept) else None

    def _explore(
        self,
        problem: Problem,
        design: Design,
        oracle: NeuronOracle,
        effort: Effort,
        rows: Rows | None,
        hardest: int = REACH[-1],
    ) -> Generator[Progress, None, tuple[Rows, float]]:
        """Grow a network until that stops paying, see :mod:`cvxnn.exploration`.

        Returns the best rows, and their search gap.
        """
        growing = Exploration(problem, design, oracle, effort.random_state, effort.tol, effort.rough)
        if (
            oracle.scope == "patterns"
            or not np.any(design.X)
            or not np.any(problem.residual(np.zeros_like(problem.y)))
        ):
            return growing.best, 1.0
        yield from self._note(problem, design, effort, growing.best, growing.least, 1.0)
        rounds = effort.max_iter if rows is None else min(effort.max_iter, ROUNDS)
        rounds = rounds if problem.loss.smooth else min(rounds, KINKED)
        # Near the optimum at another alpha a wide band would undo more than it finds.
        for _ in growing.run(rows, rounds, hardest, 1 if effort.start else 0):
            yield from self._note(problem, design, effort, growing.best, growing.least, growing.gap)
        return growing.best, growing.gap

    def _note(
        self, problem: Problem, design: Design, effort: Effort, rows: Rows, value: float, gap: float
    ) -> Generator[Progress, None, None]:
        """Report a network, if it is better than what was reported before."""
        if effort.history and value >= effort.history[-1].objective:
            return
        network = self._plain(problem, design, rows)
        effort.history.append(Progress(value, gap, network.width, len(rows.signs), network))
        yield effort.history[-1]

    def _price(
        self,
        problem: Problem,
        oracle: NeuronOracle,
        Z: np.ndarray,
        blocks: Blocks,
        network: Network,
        objective: float,
        effort: Effort,
    ) -> tuple[float, Neurons]:
        """The search gap with neurons that prove it, from searches of growing effort, the judge's last."""

        def gap(found: Neurons) -> float:
            return search_gap(problem, objective, Z, max(found.best, problem.beta))

        def prices_out(found: Neurons) -> bool:
            return gap(found) > effort.tol

        # Near a known network what a quick search does not see is hardly ever there.
        for level in (0,) if effort.start else (0, 1):
            found = oracle.neurons(Z, blocks.W, effort.random_state, level)
            if prices_out(found):
                return gap(found), found
        found = oracle.missing(Z, network, prices_out)
        return gap(found), found

    def _fresh(
        self, problem: Problem, design: Design, blocks: Blocks, found: Neurons, most: int = 400
    ) -> Blocks:
        """The blocks of found neurons that price out and are not in the program yet."""
        out = np.flatnonzero(found.values > problem.beta * (1.0 + 1e-10))[:most]
        signs, turned = found.signs[out], design.turned(found.gates[out])[:, None]
        masks = (found.masks[out] ^ turned) & np.any(design.X != 0, axis=1)
        zeros = np.zeros((len(out), blocks.W.shape[1]))
        return self._unknown(blocks, Blocks(masks, signs, zeros, blocks.zero))

    def _unknown(self, blocks: Blocks, fresh: Blocks) -> Blocks:
        """Those of `fresh` whose pattern and sign are not among `blocks` yet."""
        known = set(blocks.labels())
        new = np.array([key not in known for key in fresh.labels()], dtype=bool)
        return fresh.take(new, fresh.W)
