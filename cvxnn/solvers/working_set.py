r"""Working sets with block steps and Newton's method, for group-lasso programs without cones.

The program of a gated network has thousands of groups of which few are active, and it is smooth where
these are not zero. Every step of this solver is one pass of

    prices ||A*(Z)_g||     one product, which the loop needs as well for its bound and which is shared,
    gap-safe screening     drops groups that are zero at every optimum, for good,
    a working set          the active groups, and as many more of those nearest to their constraint,
    block steps, Newton    on the working set, in turn, until its gap is a part of the program's gap,

(:mod:`cvxnn.screening`, :mod:`cvxnn.restricted`). The dictionary [D_1 X ... D_P X] is never formed;
what is as long as the number of groups is a few numbers, and the packed patterns, for each.

References: Massias, Gramfort and Salmon, ICML 2018 (working sets, inner tolerance); Ndiaye et al., JMLR
2017 (screening); Yang and Hastie, 2024 (block steps); Li, Sun and Toh, SIAM J. Optim. 2018 (Newton's
systems).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from array_api_compat import is_numpy_array

from ..arrays import Array, to_numpy
from ..constraints import Free
from ..operators import Masked
from ..penalties import GroupL2
from ..program import Program
from ..restricted import Kept, Restricted, norms
from ..screening import priorities, survivors, working_set
from .base import Candidate, Solver

#: Groups in a working set: at least this many, this part of all, and this multiple of those active. A
#: small part of the groups costs little beside the one product with all of them.
FIRST, PART, GROWTH = 60, 0.03, 2.0
#: The part of the groups up to which their prices are computed alone. The loop has priced the same dual
#: variable, and then mostly with all groups: the product is there.
FEW = 0.25
#: The part of the program's gap to which the working set is solved.
INNER = 0.1
#: Where a program's gap is at most this multiple of that of its working set, the set was right. While a
#: Newton step costs less than a pass over all groups, the next one is then solved to this part of what the
#: loop asks for.
RIGHT, ENOUGH = 1.5, 0.3
#: Steps in a row that do not lower the gap by a hundredth, after which rounding is what is left.
PATIENCE = 20


@dataclass(frozen=True, eq=False)
class State:
    """Weights (groups, d), intercept, prediction (n,); which groups are not screened out (groups,).

    `least` is the smallest gap seen so far, `since` the number of steps since then, `inner` the gap to
    which the last working set was solved.
    """

    kept: Kept
    lengths: np.ndarray
    W: np.ndarray
    c: float
    f: np.ndarray
    alive: np.ndarray
    least: float = float("inf")
    since: int = 0
    inner: float = 0.0


class WorkingSet(Solver):
    """Working sets, gap-safe screening, exact block steps and Newton's method on the active groups."""

    name: ClassVar[str] = "working_set"

    def supports(self, program: Program) -> tuple[bool, str]:
        if not isinstance(program.operator, Masked):
            return False, "needs an operator that masks one X"
        if program.operator.slope:
            return False, "needs patterns of zeros and ones"
        if not isinstance(program.constraint, Free):
            return False, "its block steps know no cones"
        if not isinstance(program.penalty, GroupL2) or program.penalty.free:
            return False, "needs the group-l2 penalty on all coordinates"
        if not np.isfinite(program.loss.curvature):
            return False, f"needs second derivatives with a bound, which {program.loss.name} has not"
        X = program.operator.X
        if not is_numpy_array(X) or X.dtype != np.float64:
            return False, "computes in NumPy float64 only"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        kept = Kept.of(program)
        _, groups, d = program.operator.shape
        W = np.zeros((groups, d)) if start is None else np.array(to_numpy(start))
        f = kept.operator.apply(W)
        c = kept.refit(f)
        return State(kept, kept.lengths, W, c, f + c, np.ones(groups, dtype=bool))

    def candidate(self, program: Program, state: State) -> Candidate:
        return Candidate(state.W, state.c, program.residual(state.f))

    def step(self, program: Program, state: State) -> State | None:
        kept, W = state.kept, state.W
        at = np.flatnonzero(state.alive)
        Z = program.residual(state.f)
        few = len(at) <= FEW * len(state.alive)
        prices = norms(kept.operator.take(at).adjoint(Z) if few else kept.operator.adjoint(Z)[at])
        gap, scale = kept.gap(state.f, W, Z, prices)
        since = 0 if gap < 0.99 * state.least else state.since + 1
        rounding = 1e-15 * abs(kept.value(state.f, W))
        active = np.any(W[at] != 0.0, axis=1)
        # a group that is active now has to be seen to be switched off
        stay = active | survivors(scale * prices, gap + 10 * rounding, state.lengths[at], program.beta)
        at, prices, active = at[stay], prices[stay], active[stay]
        size = max(FIRST, int(PART * len(state.alive)), int(GROWTH * np.sum(active)))
        order = priorities(scale * prices, state.lengths[at], program.beta)
        chosen = at[working_set(order, active, size)]
        inner = Restricted(kept, chosen, W[chosen], state.c, state.f)
        target = INNER * gap
        if gap < RIGHT * state.inner and inner.step_cost() < kept.pass_cost:
            target = min(target, ENOUGH * self.tol * abs(kept.value(state.f, W)))
        if not inner.solve(max(target, rounding)) or since > PATIENCE:
            return None
        W, alive = np.zeros_like(W), np.zeros_like(state.alive)
        W[chosen], alive[at] = inner.W, True
        # afresh: what many small changes have left in the running prediction is rounding
        f = kept.operator.apply(W) + inner.c
        least = min(gap, state.least)
        return replace(state, W=W, c=inner.c, f=f, alive=alive, least=least, since=since, inner=inner.gap)
