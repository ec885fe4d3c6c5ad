r"""Narrow deep ReLU networks on one input, any depth: an exact Lasso.

A unit is a chain of single neurons with free biases, ``g(x) = (w_(L-1) (.. (w_1 x + b_1)_+ ..) +
b_(L-1))_+``; the network is a sum of units, ``f(x) = sum_k w_Lk g_k(x) + c``, with the product of its
weights as penalty,

    minimise   L(f) + beta * sum_k |w_1k ... w_Lk|  =  L(f) + beta/L * sum_k sum_l |w_lk|^L.

*What a unit can compute.* Its map t -> (w t + b)_+ is monotone and clips its argument on one side, and
clipping what has been clipped clips it to an interval again. So, by induction, a unit of any depth is ``a
+- w clip(x; p, q)`` with one interval [p, q] of slope ``w = +-|w_1 ... w_(L-1)|``. At depth 2 the interval
is a half-line. From depth 3 on it is any: ``(q - p - (q - x)_+)_+`` rises from p to q. More layers add
nothing, so all depths from 3 on have the same optimum; in particular no breakpoint reflected at another one
is needed, which is a matter of wider units.

*Price.* Free biases free the constant of the output, so dual variables sum to zero, and constants do not
count. With ``G(p) = sum_i Z_i (x_i - p)_+``, which is linear between samples, constant before the first and
zero after the last,

    M(Z) = max over p < q of |G(p) - G(q)| = max over samples of G - min over samples of G

from depth 3 on, and ``max over j of max(|G_j|, |G_j - G_1|)`` at depth 2, in O(n) after sorting. Both are
the largest entries of ``|A'Z|`` over the dictionaries of ramps clipped between two samples, and of ramps
that begin or end at a sample: these are complete, and the training problem is their Lasso. Its columns are
generated as they price out. The certificate is exact at every n.

In explicit networks units stand side by side: inner matrices are diagonal. In terms of slopes m_j between
samples, and 0 before and after, the penalty of depth 3 and more is ``1/2 sum_j |m_j - m_(j-1)|``, half
their total variation.

References: Zeger, Wang, Mishkin, Ergen, Candes and Pilanci, "A library of mirrors", 2024, arXiv 2403.01046
(the Lasso, there with reflected breakpoints at depth 4); the completeness from depth 3 on: derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, Price, search_gap
from ..network import Affine, Network, ReLU
from ..operators import Dense
from ..penalties import GroupL2
from ..planar import kink_prices
from ..program import Master, Problem, Program, Solution
from .base import Architecture, Effort, Progress, Training
from .two_layer import free_constants, with_constants

#: Units a round adds, and units of the first program.
ADDED = 24


@dataclass(frozen=True, eq=False)
class Ramps(Arrangement):
    """Ramps that are clipped to intervals: the places in which they rise.

    Parameters
    ----------
    starts, ends : ndarrays of shape (k,)
        ``clip(x; start, end) - start``, or ``end - clip(x; start, end)`` where the start is minus infinity;
        an end may be infinity.
    """

    starts: np.ndarray | None = None
    ends: np.ndarray | None = None

    @classmethod
    def of(cls, starts: np.ndarray, ends: np.ndarray, n: int) -> Ramps:
        """Return the ramps of some intervals, each once."""
        pairs = np.unique(np.column_stack([starts, ends]), axis=0).reshape(-1, 2)
        none = np.zeros((len(pairs), 0))
        return cls(
            np.zeros((len(pairs), -(-n // 8)), np.uint8), n, none, False, 0.0, pairs[:, 0], pairs[:, 1]
        )

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """What the units compute, shape (n, k)."""
        assert self.starts is not None and self.ends is not None
        clipped = np.clip(x[:, None], self.starts, self.ends)
        left = np.isinf(self.starts)
        return np.where(left, self.ends - clipped, clipped - np.where(left, 0.0, self.starts))


class RampOracle(Oracle):
    """Exact prices of narrow units (``global``)."""

    def __init__(self, problem: Problem, depth: int) -> None:
        super().__init__(problem)
        self.depth, self.order = depth, np.argsort(problem.X[:, 0], kind="stable")
        self.x = problem.X[self.order, 0]

    def _sums(self, Z: np.ndarray) -> np.ndarray:
        """``G`` at the samples, in their order on the line, (n,)."""
        return kink_prices(self.x, Z[self.order])[0]

    def price(self, Z: np.ndarray) -> Price:
        if not np.any(Z):
            return Price(0.0, "global", 0.0)
        G = self._sums(Z)
        if self.depth == 2:
            found = max(float(np.max(np.abs(G))), float(np.max(np.abs(G - G[0]))))
        else:
            found = float(np.max(G) - np.min(G))
        # sums of differences, and what a sum of Z that is zero up to rounding only adds before and after
        # the samples
        spread = float(self.x[-1] - self.x[0])
        mass = float(np.sum(np.abs(Z)))
        rounding = 16.0 * np.finfo(float).eps * spread * mass + 4.0 * spread * abs(float(np.sum(Z)))
        return Price(found + rounding, "global", found)

    def intervals(self, Z: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """Intervals of units worth more than `floor`: of all local extremes of G, the best pairs."""
        G, x = self._sums(Z), self.x
        if self.depth == 2:
            right, left = np.flatnonzero(np.abs(G) > floor), np.flatnonzero(np.abs(G - G[0]) > floor)
            starts = np.concatenate([x[right], np.full(len(left), -np.inf)])
            ends = np.concatenate([np.full(len(right), np.inf), x[left]])
            values = np.concatenate([np.abs(G[right]), np.abs(G - G[0])[left]])
        else:
            slopes = np.sign(np.diff(G))
            turns = 1 + np.flatnonzero(np.diff(slopes))
            at = np.unique([0, len(G) - 1, int(np.argmax(G)), int(np.argmin(G)), *turns.tolist()])
            high = at[np.argsort(-G[at], kind="stable")][:ADDED]
            low = at[np.argsort(G[at], kind="stable")][:ADDED]
            i, j = np.repeat(high, len(low)), np.tile(low, len(high))
            kept = (G[i] - G[j] > floor) & (x[i] != x[j])
            i, j = i[kept], j[kept]
            starts, ends, values = np.minimum(x[i], x[j]), np.maximum(x[i], x[j]), G[i] - G[j]
        best = np.argsort(-values, kind="stable")[:ADDED]
        return starts[best], ends[best]


@dataclass(frozen=True)
class NarrowReLU(Architecture):
    """Sums of chains of single ReLU neurons on one input, biases free.

    Parameters
    ----------
    depth : int, default=3
        Number of layers of weights, at least 2; from 3 on all depths have the same optimum.
    """

    name: ClassVar[str] = "narrow_relu"
    #: One input has no approximation of lower rank.
    continuous: ClassVar[bool] = False

    depth: int = 3

    def _check(self, features: int) -> None:
        if not isinstance(self.depth, int) or isinstance(self.depth, bool) or self.depth < 2:
            raise ValueError(f"depth={self.depth!r}: pass an integer of at least 2")
        if features != 1:
            raise ValueError(
                f"narrow networks have one input, X has {features}: pass one column, or "
                "architecture='deep_relu'"
            )

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Never by itself: these layers are those of `relu` and `deep_relu`."""
        return False

    def like(self, network: Network) -> NarrowReLU:
        return NarrowReLU((len(network.layers) + 1) // 2)

    def problem_of(self, problem: Problem) -> Problem:
        """Free biases free the constant of the output: say so in the problem."""
        self._check(problem.X.shape[1])
        return free_constants(problem, "free")

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        self._check(problem.X.shape[1])
        return None

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The Lasso over some ramps."""
        assert isinstance(arrangement, Ramps)
        problem = self.problem_of(problem)
        operator = Dense(arrangement.outputs(problem.X[:, 0]))
        rest = (problem.y, problem.weights, problem.beta, GroupL2())
        return Program(operator, problem.loss, *rest, intercept=True)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        """A chain for every ramp that is not zero, its weights of equal size.

        A ramp from p to q is ``(q - p - (q - x)_+)_+``, one from p on ``(x - p)_+``, one up to q ``(q -
        x)_+``; further neurons pass it on. With size r = |z|^(1/L) for every weight, the bias of layer l is
        scaled by r^l.
        """
        assert isinstance(arrangement, Ramps) and arrangement.starts is not None
        z = np.asarray(solution.W, dtype=np.float64)[:, 0]
        kept = np.abs(z) > 1e-12 * float(np.sum(np.abs(z)))
        p, q, z = arrangement.starts[kept], arrangement.ends[kept], z[kept]  # type: ignore[index]
        r = np.abs(z) ** (1.0 / self.depth)
        right, bounded = np.isinf(q), ~np.isinf(p) & ~np.isinf(q)
        first = np.where(right, 1.0, -1.0)
        layers: list = [Affine((first * r)[None], r * np.where(right, -p, q)), ReLU()]
        for at in range(2, self.depth):
            turn = bounded if at == 2 else np.zeros(len(z), dtype=bool)
            bias = np.where(turn, np.where(bounded, q - p, 0.0), 0.0) * r**at
            layers += [Affine(np.diag(np.where(turn, -r, r)), bias), ReLU()]
        last = Affine((np.sign(z) * r)[:, None], np.zeros(1))
        return with_constants(self.problem_of(problem), Network((*layers, last)))

    def nothing(self, problem: Problem) -> Network:
        none = np.zeros(0)
        ramps = Ramps.of(none, none, len(problem.y))
        empty = np.zeros((0, 1))
        return self.decode(problem, ramps, _point(empty, problem))

    def cost(self, network: Network) -> float:
        """``sum_k |w_1k w_2k ... w_Lk|``; biases are free.

        Raises
        ------
        ValueError
            If it is not a sum of chains of single neurons of this depth on one input.
        """
        affine = [layer for layer in network.layers[0::2] if isinstance(layer, Affine)]
        between = all(isinstance(layer, ReLU) for layer in network.layers[1::2])
        if len(network.layers) != 2 * self.depth - 1 or len(affine) != self.depth or not between:
            layers = ", ReLU, ".join(["Affine"] * self.depth)
            raise ValueError(
                f"{network!r} is not a narrow ReLU network of depth {self.depth}: pass {layers}"
            )
        self._check(network.n_features)
        sizes = np.abs(affine[0].weight[0]) * np.abs(affine[-1].weight[:, 0])
        for layer in affine[1:-1]:
            W = layer.weight
            if W.shape[0] != W.shape[1] or np.any(np.diag(np.diag(W)) != W):
                raise ValueError(
                    "the network has neurons with several inputs: narrow networks are chains side by side, "
                    "with diagonal inner weights; pass architecture='deep_relu' for others"
                )
            sizes = sizes * np.abs(np.diag(W))
        return float(np.sum(sizes))

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> RampOracle:
        return RampOracle(self.problem_of(problem), self.depth)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        """Chains of weights +-1 with biases made of U."""
        self._check(problem.X.shape[1])
        out = np.sign(U[:, :1]) * problem.X[:, 0] + U[:, 1:2]
        for at in range(2, self.depth):
            out = np.maximum(out, 0.0)
            side = np.where(np.cos(at * 1e3 * U[:, :1]) > 0, 1.0, -1.0)
            out = side * out + (np.abs(U[:, :1]) + 0.3 * at) * np.where(
                side < 0, 1.0, np.sin(1e3 * U[:, 1:2])
            )
        return np.maximum(out, 0.0)

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        """Generate columns: solve the Lasso on some ramps, price all, add the best, drop those at zero."""
        assert isinstance(oracle, RampOracle)
        problem, n = self.problem_of(problem), len(problem.y)
        Z = problem.residual(np.zeros_like(problem.y))
        starts, ends = oracle.intervals(Z, 0.0)
        if effort.start is not None:
            own = self.ramps_of(effort.start)
            starts, ends = np.concatenate([starts, own[0]]), np.concatenate([ends, own[1]])
        best, least, stale = self.nothing(problem), float("inf"), 0
        for _ in range(4 * effort.max_iter):
            ramps = Ramps.of(starts, ends, n)
            if not len(ramps):
                break
            solution = yield Master(self.lift(problem, ramps), 0.1 * effort.tol, None, best)
            assert solution is not None and ramps.starts is not None and ramps.ends is not None
            network, Z = self.decode(problem, ramps, solution), np.asarray(solution.Z)
            value = self.objective(problem, network)
            stale = 0 if value < least * (1.0 - 1e-3 * effort.tol) else stale + 1
            if value <= least:
                best, least = network, value
            gap = search_gap(problem, value, Z, max(oracle.price(Z).found, problem.beta))
            effort.history.append(Progress(least, gap, best.width, len(ramps), best, Z))
            yield effort.history[-1]
            if gap <= effort.tol or stale > 3:
                break
            size = np.abs(np.asarray(solution.W)[:, 0])
            # ramps that leave while nothing improves would come back
            kept = (size > 1e-9 * float(np.max(size, initial=0.0))) | (stale > 0)
            new = oracle.intervals(Z, problem.beta * (1.0 + 1e-3 * effort.tol))
            starts = np.concatenate([ramps.starts[kept], new[0]])
            ends = np.concatenate([ramps.ends[kept], new[1]])
        return best

    def ramps_of(self, network: Network) -> tuple[np.ndarray, np.ndarray]:
        """The intervals in which the units of a network of this family rise or fall."""
        affine = [layer for layer in network.layers[0::2] if isinstance(layer, Affine)]
        first = affine[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            at = -first.bias / first.weight[0]
            right = first.weight[0] > 0
            if self.depth == 2:
                return np.where(right, at, -np.inf), np.where(right, np.inf, at)
            turned = np.diag(affine[1].weight) < 0
            width = np.where(
                turned, -affine[1].bias / np.diag(affine[1].weight) / np.abs(first.weight[0]), np.inf
            )
        bounded = turned & ~right & np.isfinite(width)
        starts = np.where(right, at, np.where(bounded, at - width, -np.inf))
        return starts, np.where(right, np.inf, at)


def _point(W: np.ndarray, problem: Problem) -> Any:
    """A solution of no units."""
    from ..program import Status

    return Solution(W, 0.0, np.zeros_like(problem.y), None, 0.0, 0.0, Status.optimal, 0)
