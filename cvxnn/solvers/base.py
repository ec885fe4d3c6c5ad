"""The one loop: it drives any solver, and only it decides when to stop.

A solver improves a program step by step and says nothing about being finished. The loop recomputes
the primal value and the lower bound of the program from the solver's candidate, on the original
(unscaled) data, and stops when the duality gap is at most `tol`. A candidate is weights, intercept,
dual variable and, for constrained programs, multipliers; the bound holds whatever they are, so a wrong
solver is slow, never believed.

Reference: Boyd and Vandenberghe, Convex Optimization, section 5.5.1 (stopping on the duality gap).
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import is_numpy_array

from ..arrays import Array
from ..constraints import Free
from ..losses.base import VectorLoss
from ..program import Program, Solution, Status


@dataclass(frozen=True, eq=False)
class Candidate:
    """Where a solver stands.

    Parameters
    ----------
    W : array of shape (groups, d)
    offset : float, or array of shape (outputs,)
    Z : array in the shape of the targets
    multipliers : ndarray of shape (groups, n), or None
    """

    W: Array
    offset: Any
    Z: Array
    multipliers: np.ndarray | None = None


class Unsupported(ValueError):
    """A solver was given a program it cannot solve; the message carries the reason."""


def second_order_refusal(program: Program) -> str:
    """Return why Newton's method on the losses of samples, without cones, does not take a program, or "".

    What solvers with dense systems of second derivatives share of :meth:`Solver.supports`.
    """
    loss = program.loss
    if not isinstance(program.constraint, Free):
        return "knows no cones"
    if not loss.smooth or (isinstance(loss, VectorLoss) and not loss.by_sample):
        return f"needs a smooth loss that is a sum over samples, not {loss.name}"
    if not is_numpy_array(program.target) or program.target.dtype != np.float64:
        return "computes in NumPy float64 only"
    return ""


class Solver(ABC):
    """An algorithm that improves a program step by step."""

    name: ClassVar[str]
    #: How many steps the loop takes between two looks at the gap.
    check_every: ClassVar[int] = 1
    #: Of :func:`time.perf_counter`, for steps that may take long; :func:`run` sets it.
    deadline: float = float("inf")
    #: The relative gap that the loop asks for, for steps that can end there; :func:`run` sets it.
    tol: float = 0.0

    @abstractmethod
    def supports(self, program: Program) -> tuple[bool, str]:
        """Return whether the program can be solved, and the reason if it cannot."""

    @abstractmethod
    def init(self, program: Program, start: Array | None) -> Any:
        """Return the state before the first step; `start` is a warm start (groups, d) or None."""

    @abstractmethod
    def step(self, program: Program, state: Any) -> Any:
        """Return the state after one step, or None where no further step is possible."""

    @abstractmethod
    def candidate(self, program: Program, state: Any) -> Candidate:
        """Return the point that a state stands for."""


def run(
    solver: Solver,
    program: Program,
    *,
    tol: float = 1e-6,
    max_iter: int = 1000,
    max_time: float = float("inf"),
    start: Array | None = None,
    callback: Callable[[int, float, float], None] | None = None,
) -> Solution:
    """Solve a program to a relative duality gap.

    A warm start can trap an interior method at the boundary, or send it off, where a cold one does not: a
    program that is not solved from `start` is solved again without, in the time that is left.

    Parameters
    ----------
    solver : Solver
    program : Program
    tol : float
        Stop when ``primal - bound <= tol * |primal|``.
    max_iter : int
    max_time : float
        Seconds.
    start : array of shape (groups, d), or None
        A warm start.
    callback : callable(iteration, primal, bound), or None

    Returns
    -------
    Solution
        With the best primal point and the best bound seen. Ctrl-C returns it too.

    Raises
    ------
    Unsupported
        If the solver cannot handle the program.
    """
    able, reason = solver.supports(program)
    if not able:
        raise Unsupported(f"{solver.name} cannot solve this program: {reason}")
    ends = time.perf_counter() + max_time
    solver = copy.copy(solver)
    solver.deadline, solver.tol = ends, tol
    solution = _attempt(solver, program, tol, max_iter, ends, start, callback)
    failed = solution.status in (Status.stalled, Status.max_iter, Status.nonfinite)
    if start is None or not failed or solution.gap <= tol:
        return solution
    cold = _attempt(solver, program, tol, max_iter, ends, None, callback)
    return cold if cold.gap < solution.gap else solution


def _attempt(
    solver: Solver,
    program: Program,
    tol: float,
    max_iter: int,
    ends: float,
    start: Array | None,
    callback: Callable[[int, float, float], None] | None,
) -> Solution:
    """Step from a start until the gap is reached, or something else ends it; `ends` is a time."""
    state = solver.init(program, start)
    best = _look(program, solver.candidate(program, state))
    status, k = Status.max_iter, 0
    try:
        for k in range(1, max_iter + 1):
            state, previous = solver.step(program, state), state
            last = state is None
            if last or k % solver.check_every == 0 or k == max_iter:
                seen = _look(program, solver.candidate(program, previous if last else state))
                if np.isnan(seen.primal):
                    status = Status.nonfinite
                    break
                best = _better(best, seen)
                if callback is not None:
                    callback(k, best.primal, best.bound)
                if best.gap <= tol:
                    status = Status.optimal
                    break
            if last:
                status = Status.stalled
                break
            if time.perf_counter() > ends:
                status = Status.max_time
                break
    except KeyboardInterrupt:
        status = Status.interrupted
    return Solution(
        best.W, best.offset, best.Z, best.multipliers, best.primal, best.bound, status, max(k, 1)
    )


def _look(program: Program, at: Candidate) -> Solution:
    """Recompute the primal value and the bound of a candidate; an infeasible point is worth inf."""
    feasible = program.constraint.violation(at.W) <= 1e-9
    primal = program.primal(at.W, at.offset) if feasible else float("inf")
    bound = program.bound(at.Z, at.multipliers)
    return Solution(at.W, at.offset, at.Z, at.multipliers, primal, bound, Status.max_iter, 0)


def _better(a: Solution, b: Solution) -> Solution:
    """The better primal point and the better bound of two looks."""
    point = b if b.primal <= a.primal else a
    proof = b if b.bound >= a.bound else a
    return Solution(
        point.W, point.offset, proof.Z, proof.multipliers, point.primal, proof.bound, b.status, 0
    )
