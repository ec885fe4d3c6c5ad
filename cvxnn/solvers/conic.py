"""The explicit program, handed whole to a general conic solver: the reference for small sizes.

Nothing is exploited here. Every group's predictions are written out, every penalty and
the loss is its conic form (a norm a second-order cone), every cone row a linear inequality, and Clarabel
solves it to high accuracy. What the structured solvers return is checked against this.

Reference: Goulart and Chen, "Clarabel: an interior-point solver for conic programs with quadratic
objectives", 2024.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from ..arrays import Array, to_numpy
from ..constraints import Free
from ..penalties import GroupL2
from ..program import Program
from .base import Candidate, Solver

#: Entries of the explicit matrix beyond which the reference is refused.
MAX_ENTRIES = 20_000_000
#: Relative violation of the constraint from which on the point is projected; the loop takes no larger ones.
FEASIBLE = 1e-9
#: Largest entry of the matrix below which it is scaled.
SMALL = 0.125
#: Seconds that the solver has at least.
LEAST = 0.05


@dataclass(frozen=True, eq=False)
class State:
    """The point, before (zeros) and after the one step that solves everything."""

    W: np.ndarray
    offset: float
    multipliers: np.ndarray | None
    done: bool
    Z: np.ndarray | None = None


class Conic(Solver):
    """Clarabel on the explicit program."""

    name: ClassVar[str] = "conic"

    def supports(self, program: Program) -> tuple[bool, str]:
        n, groups, d = program.operator.shape
        if len(program.target.shape) == 2:
            return False, "is for one output"
        if program.penalty.epigraph(d) is None:
            kinks = "" if program.loss.smooth else "; pass a loss without kinks, such as 'squared_hinge'"
            return False, f"no conic form of {type(program.penalty).__name__}{kinks}"
        if program.loss.conic(np.zeros(1), np.ones(1)) is None:
            return False, f"no conic form of the loss {program.loss.name}"
        if n * groups * d > MAX_ENTRIES:
            return False, f"{n} x {groups} x {d} entries are too many to write out"
        if not isinstance(program.constraint, Free) and program.constraint.matrix() is None:
            return False, f"no conic form of {type(program.constraint).__name__}"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        n, groups, d = program.operator.shape
        matrix = None if isinstance(program.constraint, Free) else program.constraint.matrix()
        multipliers = None if matrix is None else np.zeros((matrix.shape[0] // n, n))
        return State(np.zeros((groups, d)), 0.0, multipliers, False)

    def step(self, program: Program, state: State) -> State | None:
        if state.done:
            return None
        found = _solve(program, max(self.deadline - time.perf_counter(), LEAST))
        if program.constraint.violation(found.W) <= FEASIBLE or not np.all(np.isfinite(found.W)):
            return found
        # of a solution that is nearly zero the solver's accuracy is no longer small against it
        return replace(found, W=program.constraint.project(found.W))

    def candidate(self, program: Program, state: State) -> Candidate:
        f = program.predict(state.W, state.offset)
        if not state.done and program.intercept:
            y, s = to_numpy(program.target), to_numpy(program.weights)
            offset = program.loss.intercept(f, y, s)
            return Candidate(state.W, offset, program.residual(f + offset), state.multipliers)
        # Unpenalised coordinates need multipliers more exact than a general solver's: leave them open where
        # the Euclidean projection finds the best.
        exact = isinstance(program.penalty, GroupL2) and program.penalty.free > 0
        multipliers = None if exact else state.multipliers
        duals = [program.residual(f)]
        if state.Z is not None:
            # at kinks the residual is a choice, which the solver has made
            y, s = to_numpy(program.target), to_numpy(program.weights)
            Z = program.loss.nearest(state.Z, y, s)
            duals.append(program.loss.balance(Z) if program.intercept else Z)
        best = max(duals, key=lambda Z: program.bound(Z, multipliers))
        return Candidate(state.W, state.offset, best, multipliers)


def _solve(program: Program, max_time: float) -> State:
    """Write the program as ``min 1/2 x'Px + q'x, Ax + s = b`` with x = (f, v, W, c, e)."""
    import clarabel

    n, groups, d = program.operator.shape
    y, w = to_numpy(program.target), to_numpy(program.weights)
    form = program.loss.conic(y, w)
    gauge = program.penalty.epigraph(d)
    assert form is not None and gauge is not None
    k, extras = len(form.extra), groups * len(gauge.cost)
    sizes = np.array([n, k, groups * d, 1 if program.intercept else 0, extras])
    bend = np.zeros(k) if form.extra_quadratic is None else form.extra_quadratic
    P = sparse.diags(np.concatenate([form.quadratic, bend, np.zeros(int(sizes[2:].sum()))]))
    q = np.concatenate([form.linear, form.extra, np.zeros(groups * d + int(sizes[3]))])
    unit = _unit(program)
    q = np.concatenate([q, program.beta / unit * np.tile(gauge.cost, groups)])
    rows, right, cones = _fit_rows(program, sizes, unit)
    block = None if isinstance(program.constraint, Free) else program.constraint.matrix()
    if block is not None:
        rows.append(_pad(sizes, {2: -block / unit}))
        right.append(np.zeros(block.shape[0]))
        cones.append(clarabel.NonnegativeConeT(block.shape[0]))
    if len(form.h):
        rows.append(_pad(sizes, {0: -form.F, 1: -form.V}))
        right.append(form.h)
        kinds = {"nonnegative": clarabel.NonnegativeConeT, "exponential": None}
        cones += [
            clarabel.ExponentialConeT() if kinds[name] is None else kinds[name](size)
            for name, size in form.cones
        ]
    each = sparse.identity(groups)
    rows.append(_pad(sizes, {2: -sparse.kron(each, gauge.U), 4: -sparse.kron(each, gauge.E)}))
    right.append(np.zeros(groups * gauge.U.shape[0]))
    shapes = {"nonnegative": clarabel.NonnegativeConeT, "second_order": clarabel.SecondOrderConeT}
    shapes |= {"zero": clarabel.ZeroConeT, "semidefinite": clarabel.PSDTriangleConeT}
    cones += [shapes[name](size) for name, size in gauge.cones] * groups
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.time_limit = max_time
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    A = sparse.vstack(rows).tocsc()
    result: Any = clarabel.DefaultSolver(
        sparse.csc_matrix(P), q, A, np.concatenate(right), cones, settings
    ).solve()
    x, z = np.array(result.x), np.array(result.z)
    ends = np.cumsum(sizes)
    W = x[ends[1] : ends[2]].reshape(groups, d) / unit
    offset = float(x[ends[2]]) if program.intercept else 0.0
    if block is None:
        return State(W, offset, None, True, z[:n])
    multipliers = np.maximum(z[n : n + block.shape[0]], 0).reshape(-1, n)
    return State(W, offset, multipliers, True, z[:n])


def _unit(program: Program) -> float:
    """What small data are divided by, and weights multiplied: the solver takes small entries for zeros."""
    largest = float(np.max(np.abs(program.operator.dense()), initial=0.0))
    return float(2.0 ** np.ceil(np.log2(largest))) if 0.0 < largest < SMALL else 1.0


def _fit_rows(program: Program, sizes: np.ndarray, unit: float) -> tuple[list[Any], list[Any], list[Any]]:
    """``f - A(W) - c = 0``, the weights in multiples of a unit."""
    import clarabel

    n = int(sizes[0])
    blocks = {0: sparse.identity(n), 2: -sparse.csc_matrix(program.operator.dense()) / unit}
    if sizes[3]:
        blocks[3] = -np.ones((n, 1))
    return [_pad(sizes, blocks)], [np.zeros(n)], [clarabel.ZeroConeT(n)]


def _pad(sizes: np.ndarray, blocks: dict[int, Any]) -> Any:
    """A row of blocks in which the missing ones are zero."""
    height = next(iter(blocks.values())).shape[0]
    full = [blocks.get(i, sparse.csc_matrix((height, int(m)))) for i, m in enumerate(sizes)]
    return sparse.hstack([sparse.csc_matrix(b) for b in full])
