r"""Growing a network that has a linear neuron beside the others.

The network is kept as rows ``u_j`` with signs, as in :mod:`cvxnn.growth`, and one vector p, so that its
objective is ``L(sum_j sigma_j (X u_j)_+ + X p + c) + beta * (sum_j ||u_j|| + ||p||)``. The moves are those
of growth without a linear neuron: anneal (a linear neuron is a leaky one of slope 1, so one descent moves
all), price, and insert by a Lasso over magnitudes, in which the direction ``X'Z`` of the best linear neuron
takes part. What this finds are patterns; the convex programs over them finish.

Reference: :mod:`cvxnn.growth`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .descent import descend
from .design import Design
from .growth import MERGE, ZERO, Rows, magnitudes, merge, random_rows
from .oracles import NeuronOracle
from .pricing import Neurons
from .program import Problem

Plan = tuple[tuple[float, int], ...]
#: Neurons to begin with; bands and steps of the first anneals and of those after an insertion.
FIRST = 30
QUICK: Plan = ((0.1, 30), (0.01, 50), (1e-3, 100), (1e-4, 50))
REFINE: Plan = ((1e-3, 150), (1e-4, 100))
#: Insertions at most; one that pays a smaller share is the last.
ROUNDS, PAYS = 10, 1e-4
#: How far a smoothed loss may be below a loss with kinks: share of the objective of the zero network.
SMOOTHING = 0.03


@dataclass(frozen=True, eq=False)
class SkipRows:
    """Signed neurons and the weights of a linear one, in the coordinates of a design.

    Parameters
    ----------
    rows : Rows
    line : ndarray of shape (r,)
    """

    rows: Rows
    line: np.ndarray

    @classmethod
    def empty(cls, r: int) -> SkipRows:
        """No neuron."""
        return cls(Rows.empty(r), np.zeros(r))

    def apply(self, design: Design) -> np.ndarray:
        """Return ``sum_j signs_j (X U_j)_+ + X line``, shape (n,)."""
        return self.rows.apply(design) + design.X @ self.line

    def objective(self, problem: Problem, design: Design) -> float:
        """Return the objective of the network, with its best constant if it has one."""
        f = self.apply(design)
        if problem.intercept:
            f = f + problem.loss.intercept(f, problem.y, problem.weights)
        cost = float(np.sum(design.norms(self.rows.U))) + float(np.linalg.norm(self.line))
        return problem.value(f, cost)


def anneal(problem: Problem, design: Design, at: SkipRows, mu: float, max_iter: int) -> SkipRows:
    """Descend on all neurons with the band ``mu``, then drop zeros and merge equals."""
    U, signs = np.vstack([at.rows.U, at.line]), np.append(at.rows.signs, 1.0)
    size = np.linalg.norm(U, axis=1)
    kept, root = size > 0, np.sqrt(size)[:, None]
    if not np.any(kept):
        return at
    linear = np.append(np.zeros(len(signs) - 1), 1.0)[kept]
    U, a, _ = descend(
        *(design.X, problem.y, problem.weights, problem.loss, problem.beta),
        U[kept] / root[kept],
        signs[kept] * root[kept, 0],
        smoothing=mu,
        intercept=problem.intercept,
        slope=np.where(linear == 1.0, 1.0, design.slope),
        max_iter=max_iter,
        tol=1e-11,
    )
    line = (U * a[:, None])[linear == 1.0].sum(axis=0)
    U, signs = (U * np.abs(a)[:, None])[linear == 0.0], np.sign(a[linear == 0.0])
    size = np.linalg.norm(U, axis=1)
    largest = max(float(np.max(size, initial=0.0)), float(np.linalg.norm(line)))
    kept = size > ZERO * largest
    line = line if np.linalg.norm(line) > ZERO * largest else 0.0 * line
    return SkipRows(merge(Rows(U[kept], signs[kept]), design, MERGE * mu), line)


def insert(
    problem: Problem, design: Design, at: SkipRows, found: Neurons, Z: np.ndarray, most: int = 100
) -> SkipRows:
    """Give the network those of the found neurons, and of the best line for ``Z``, that a Lasso over all
    magnitudes wants."""
    out = np.flatnonzero(found.values > problem.beta * (1.0 + 1e-10))[:most]
    rows = at.rows.join(Rows(found.directions[out], found.signs[out]))
    size = np.linalg.norm(rows.U, axis=1)
    lines = np.vstack([at.line, design.X.T @ Z])
    length = np.linalg.norm(lines, axis=1)
    rows = Rows(rows.U / size[:, None], rows.signs)
    lines = lines / np.where(length > 0, length, 1.0)[:, None]
    A = np.column_stack([design.outputs(rows.U) * rows.signs, design.X @ lines.T])
    size[len(at.rows.signs) :] = 0.0
    x = np.concatenate([size, [length[0], 0.0]])
    v = magnitudes(problem, A, x)
    kept, sizes = v[:-2] > 0, v[:-2]
    return SkipRows(Rows(rows.U[kept] * sizes[kept, None], rows.signs[kept]), v[-2:] @ lines)


def explore(
    problem: Problem,
    design: Design,
    oracle: NeuronOracle,
    random_state: np.random.Generator,
    at: SkipRows | None,
) -> Iterator[SkipRows]:
    """Anneal, price, insert and anneal again until that stops paying; yields each better network.

    Parameters
    ----------
    at : SkipRows or None
        Where to begin; None draws neurons.
    """
    smooth = problem.smoothed(SMOOTHING * problem.null_value())
    none = Neurons(np.zeros(0), design.X[:0], np.zeros(0), np.zeros((0, len(design.X)), bool), design.X[:0])
    if at is None:
        at = SkipRows(random_rows(problem, design, FIRST, random_state), np.zeros(design.X.shape[1]))
        at = insert(smooth, design, at, none, smooth.residual(at.apply(design)))
    least = problem.null_value()
    for k in range(ROUNDS):
        for mu, steps in REFINE if k else QUICK:
            at = anneal(smooth, design, at, mu, steps)
        now = at.objective(problem, design)
        if now < least:
            yield at
        if k and now > least * (1.0 - PAYS):
            return
        least = min(least, now)
        Z = smooth.residual(at.apply(design))
        at = insert(smooth, design, at, oracle.propose(Z, at.rows.U, random_state), Z)
