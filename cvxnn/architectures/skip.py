r"""Two-layer networks with a linear skip connection, and one output.

The network ``f(x) = sum_j a_j (x'w_j + b_j)_+ + x'p + q + c`` passes its inputs on besides. What should p
pay? A skip connection that is a *neuron*, ``a_0 (x'w_0 + b_0)`` with weight decay on both layers, pays
``min over rescalings of 1/2 (||(w_0, b_0)||^2 + a_0^2) = ||(p, q)||`` like all others, and the network has
the optimal value of

    minimise   L( sum_i D_i X (u_i - v_i) + X p + c ) + beta * ( sum_i (||u_i|| + ||v_i||) + ||p|| )
    subject to (2 D_i - I) X u_i >= 0,   (2 D_i - I) X v_i >= 0

(X with a column of ones where biases are penalised): one more group, whose pattern is all ones and which
has no cone. Its dual constraint is ``||X'Z|| <= beta``, exact at the price of one product. Several linear
neurons are no better than one: their sum costs no more.

*What else it could pay.* Nothing: then the dual needs ``X'Z = 0``, which the residual of a network has only
where p is fitted exactly. It would have to be projected, and brought back into the domain of the loss's
conjugate, before it proves anything; that is not offered. Or nothing new: ``t = t_+ - (-t)_+`` makes two
ReLU neurons of x'p, at ``2 ||p||``. So a skip connection never hurts, ``optimum with <= optimum without``,
and networks without one are networks of this family. With a *free* hidden bias a neuron that is on for all
samples is linear on the data at ``||p||`` already: there a skip connection changes nothing, and is refused.

*Other activations.* With a slope s on the negative side ``(1 + s) t = phi(t) - phi(-t)``, so that the two
neurons cost ``2 / (1 + s)`` times ``||p||``; all else stays, with ``D_i + s (I - D_i)`` for D_i. Absolute
values, s = -1, are even: without biases no number of them makes a line, and a skip connection adds what
they have not. Linear networks, s = 1, are lines already.

Growing is that of :mod:`cvxnn.skip_growth` and of convex programs; several outputs are
:mod:`cvxnn.architectures.vector_skip`.

References: Pilanci and Ergen, ICML 2020; Mishkin, Sahiner and Pilanci, ICML 2022 (the all-ones gate as a
skip connection).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrangement import Arrangement
from ..blocks import Blocks
from ..certificate import search_gap
from ..constraints import ReLUCones
from ..design import Design
from ..feature_penalties import is_weight_decay
from ..growth import Rows, merge
from ..layers import SkipLeakyReLU, SkipReLU
from ..network import Affine, Network
from ..operators import Masked
from ..oracles import NeuronOracle
from ..pricing import Neurons
from ..program import Master, Problem, Program, Solution
from ..skip_growth import REFINE, SkipRows, anneal, explore, insert
from ..skip_oracles import SkipCellOracle, SkipPlaneOracle, SkipPricing, SkipSearchOracle
from .base import Effort, Progress, Training
from .hidden import ReLUHidden
from .programs import ADDED, SMALL, ZERO, GrownByPrograms
from .rectified import ROUNDINGS
from .two_layer import check_skip, design_matrix, with_constants


class SkipHidden(ReLUHidden):
    """A hidden layer that may have linear neurons beside the others, as `skip` says."""

    skip: bool

    def check(self) -> None:
        """Raise ValueError where a skip connection does not go with the rest."""
        check_skip(self.skip)
        if self.skip and self.hidden_bias == "free":
            raise ValueError(
                "with hidden_bias='free' neurons that are on for all samples are a skip connection "
                "already: pass skip=False, or hidden_bias='penalized'"
            )
        if self.skip and not is_weight_decay(self.penalty):
            raise ValueError(
                f"skip=True with penalty={self.penalty!r} is for gated networks: pass penalty='l2', or "
                "GatedReLU(skip=True)"
            )

    @classmethod
    def reads(cls, network: Network) -> bool:
        return super().reads(bent(network))

    def like(self, network: Network) -> Any:
        """Return the family with a skip connection if the network has one."""
        has = isinstance(network.layers[1], SkipReLU)
        return replace(self, skip=True) if has else self  # type: ignore[type-var]

    def hidden_norms(self, network: Network) -> np.ndarray:
        middle = network.layers[1]
        if not self.skip and isinstance(middle, SkipReLU) and middle.passed:
            raise ValueError(f"{network!r} has a skip connection: pass {type(self).__name__}(skip=True)")
        return super().hidden_norms(bent(network))

    def beside(self, lines: int) -> SkipReLU:
        """Return the layer of neurons with so many linear ones after them."""
        return SkipLeakyReLU(lines, self.leak) if self.leak else SkipReLU(lines)

    def straight_outputs(self, problem: Problem, U: np.ndarray) -> np.ndarray:
        """Return the outputs (k, n) of linear unit neurons in the directions ``U`` (k, d + 1)."""
        full = design_matrix(problem, self.hidden_bias)
        U = U[:, : full.shape[1]]
        return (full @ (U / self.sizes(U)[:, None]).T).T


def bent(network: Network) -> Network:
    """The network with the activation of its other neurons on linear ones too, which changes no norm."""
    first, *middle, last = network.layers
    if len(middle) != 1 or not isinstance(middle[0], SkipReLU):
        return network
    return Network((first, middle[0].bent, last))


class WithSkip(SkipHidden, GrownByPrograms):
    """Networks of one output that may have a linear neuron beside the others, as `skip` says."""

    def _program(self, problem: Problem, design: Design, blocks: Blocks) -> Program:
        program = super()._program(problem, design, blocks)
        if not self.skip:
            return program
        on = np.ones((1, len(design.X)), dtype=bool)
        bits = np.packbits(np.concatenate([blocks.masks, on]), axis=1)
        operator = Masked(design.X, bits, np.append(blocks.signs, 1.0), slope=design.slope)
        return replace(program, operator=operator, constraint=ReLUCones(design.X, bits, loose=1))

    def _network(self, problem: Problem, design: Design, signs: np.ndarray, W: np.ndarray) -> Network:
        """The smallest of a few roundings that is not worse; with a line its weights are the last row."""
        if not self.skip:
            return super()._network(problem, design, signs, W)
        norms = np.linalg.norm(W, axis=1)

        def rounded(cut: float, tol: float) -> Network:
            kept = norms > cut * np.sum(norms)
            rows = merge(Rows(W[:-1][kept[:-1]], signs[kept[:-1]]), design, tol)
            return self._with_line(problem, design, SkipRows(rows, W[-1] * kept[-1]))

        return self.not_worse(problem, (rounded(cut, tol) for cut, tol in ROUNDINGS))

    def _with_line(self, problem: Problem, design: Design, at: SkipRows) -> Network:
        """The explicit network, its layers balanced, with its best constant."""
        straight = int(np.any(at.line != 0))
        U = np.vstack([at.rows.U, at.line[None, :][:straight]])
        root = np.sqrt(np.linalg.norm(U, axis=1))
        full, a = design.weights(U) / root[:, None], np.append(at.rows.signs, [1.0] * straight) * root
        d = problem.X.shape[1]
        bias = np.zeros(len(full)) if self.hidden_bias is None else full[:, d]
        W1 = np.ascontiguousarray(full[:, :d].T)
        network = Network.two_layer(W1, bias, a, 0.0, self.beside(straight))
        return with_constants(problem, network)

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: float) -> Network:
        return Network.two_layer(W1, b1, w2, c, self.beside(0) if self.skip else self.activation)

    def _search_oracle(self, problem: Problem, design: Design) -> NeuronOracle:
        if not self.skip:
            return super()._search_oracle(problem, design)
        return (SkipPlaneOracle if design.X.shape[1] == 2 else SkipSearchOracle)(problem, design)

    def _cell_oracle(self, problem: Problem, design: Design, arrangement: Arrangement) -> NeuronOracle:
        if not self.skip:
            return super()._cell_oracle(problem, design, arrangement)
        return SkipCellOracle(problem, design, arrangement)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Bent neurons, and with a skip connection every third one linear."""
        H = super().unit_neurons(problem, arrangement, U)
        if self.skip:
            H[::3] = self.straight_outputs(problem, U[::3])
        return H

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: object, effort: Effort
    ) -> Training:
        if not self.skip:
            return (yield from super().train(problem, arrangement, oracle, effort))
        assert isinstance(oracle, SkipPricing)
        design = self.design(problem)
        at = None if effort.start is None else self._read(oracle, effort.start)
        best = self._with_line(problem, design, SkipRows.empty(design.X.shape[1]))
        value = problem.null_value()
        effort.history.append(Progress(value, 1.0, 0, 0, best))
        yield effort.history[-1]
        if not np.any(design.X) or not np.any(problem.residual(np.zeros_like(problem.y))):
            return best
        now = SkipRows.empty(design.X.shape[1])
        if oracle.scope != "patterns":
            for now in explore(problem, design, oracle, effort.random_state, at):
                value, best = now.objective(problem, design), self._with_line(problem, design, now)
                effort.history.append(Progress(value, 1.0, best.width, len(now.rows.signs), best))
                yield effort.history[-1]
        return (yield from self._finish_with_line(problem, design, oracle, effort, now, best))

    def _finish_with_line(
        self,
        problem: Problem,
        design: Design,
        oracle: SkipPricing,
        effort: Effort,
        at: SkipRows,
        best: Network,
    ) -> Generator[Master | Progress, Solution | None, Network]:
        """Solve the program on the current patterns, price, add, until none prices out."""
        blocks, line = Blocks.of(design, at.rows), at.line
        value = self.objective(problem, best)
        for _ in range(effort.max_iter):
            start = np.vstack([blocks.W, line])
            program = self._program(problem, design, blocks)
            solution = yield Master(program, max(0.01 * effort.tol, 1e-10), start, best)
            assert solution is not None
            W, Z = np.asarray(solution.W), np.asarray(solution.Z)
            blocks, line = Blocks(blocks.masks, blocks.signs, W[:-1], blocks.zero), W[-1]
            network = self._network(problem, design, blocks.signs, W)
            now = self.objective(problem, network)
            if now <= value:
                best, value = network, now
            gap, found = self._price(problem, oracle, Z, blocks, network, now, effort)
            effort.history.append(Progress(value, gap, best.width, len(blocks.signs), best, Z))
            yield effort.history[-1]
            fresh = self._fresh(problem, design, blocks, found, ADDED)
            if gap <= effort.tol or not len(fresh.signs):
                break
            blocks = self._moved(problem, design, oracle, blocks, line, fresh, found, Z)
        return best

    def _moved(
        self,
        problem: Problem,
        design: Design,
        oracle: SkipPricing,
        blocks: Blocks,
        line: np.ndarray,
        fresh: Blocks,
        found: Neurons,
        Z: np.ndarray,
    ) -> Blocks:
        """The blocks that carry the solution, those of found neurons, and those they all move to."""
        size = design.norms(blocks.W)
        carry = size > ZERO * np.max(size, initial=0.0)
        moved = blocks.take(np.zeros(len(carry), dtype=bool), blocks.W)
        if oracle.scope != "patterns" and problem.loss.smooth:
            at = SkipRows(Rows(blocks.W[carry], blocks.signs[carry]), line)
            at = insert(problem, design, at, found, Z)
            for mu, steps in REFINE:
                at = anneal(problem, design, at, mu, steps)
            moved = Blocks.of(design, at.rows)
        if blocks.masks.size * design.X.shape[1] > SMALL:
            blocks = blocks.take(carry, blocks.W)
        return blocks.join(fresh).join(moved)

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
        gap, found = super()._price(problem, oracle, Z, blocks, network, objective, effort)
        if isinstance(oracle, SkipPricing):
            best = max(found.best, oracle.line(Z), problem.beta)
            gap = search_gap(problem, objective, Z, best)
        return gap, found

    def _read(self, oracle: SkipPricing, network: Network) -> SkipRows | None:
        """The neurons of a network to start from, None if it has none."""
        first, middle, last = network.layers
        assert isinstance(first, Affine) and isinstance(last, Affine)
        if not network.width:
            return None
        full = np.column_stack([first.weight.T, first.bias])
        U, a = oracle.design.coordinates(full), last.weight[:, 0]
        k = network.width - (middle.passed if isinstance(middle, SkipReLU) else 0)
        kept = np.linalg.norm(U[:k], axis=1) * np.abs(a[:k]) > 0
        rows = Rows((U[:k] * np.abs(a[:k])[:, None])[kept], np.sign(a[:k])[kept])
        return SkipRows(rows, a[k:] @ U[k:])
