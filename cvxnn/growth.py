r"""Growing a network to within a thousandth of the optimum: anneal, price, insert, anneal.

A network is kept as rows ``u_j`` with signs ``sigma_j`` (weights ``u / sqrt|u|`` and ``sigma sqrt|u|`` on
the two layers), so that its objective is ``L(sum_j sigma_j (X u_j)_+) + beta * sum_j |u_j|``. Three moves
improve it.

*Anneal*: smoothed local descent (:mod:`cvxnn.descent`) for a falling band mu; after each mu neurons at
zero go, and neurons of one sign that have become equal up to the band are added up, which keeps their
function and their cost. Starting wide, hundreds of random neurons become some dozens.

*Price*: the unit neurons that correlate most with the residual, found by search (:mod:`cvxnn.pricing`).
Those with a price above beta improve the network.

*Insert*: all magnitudes at once, of old and of found neurons with their directions held,

    minimise over x >= 0   L( sum_k x_k sigma_k (X v_k)_+ ) + beta * sum_k x_k,

a small Lasso, whose solution is sparse and so chooses *different* ones among the found. A neuron put in
with this size moves in the next anneal; with a tiny one it would sit at a saddle of the descent.

References: Bach, JMLR 2017, section 4 (incremental training); Denoyelle, Duval, Peyré and Soubies, "The
sliding Frank-Wolfe algorithm", Inverse Problems 2019 (insert, then move all neurons).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from .descent import descend, start
from .design import Design
from .pricing import Neurons
from .program import Problem

#: Neurons smaller than this share of the largest are at zero.
ZERO = 1e-5
#: How far from one activations are where sizes of neurons are sought in another unit.
FAR = 100.0
#: Relative decrease of a step of descent that ends it.
FLAT = 1e-11
#: Neurons of one sign are one if their directions differ by less than this share of the band.
MERGE = 0.1


@dataclass(frozen=True, eq=False)
class Rows:
    """Signed neurons: the network ``sum_j signs_j phi(X U_j) + c`` with the activation of a design.

    Parameters
    ----------
    U : ndarray of shape (m, r)
        In the coordinates of a design.
    signs : ndarray of shape (m,)
    """

    U: np.ndarray
    signs: np.ndarray

    @classmethod
    def empty(cls, r: int) -> Rows:
        """No neuron."""
        return cls(np.zeros((0, r)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.U)

    def take(self, kept: np.ndarray) -> Rows:
        """Those of a selection, in its order."""
        return Rows(self.U[kept], self.signs[kept])

    def join(self, other: Rows) -> Rows:
        """The neurons of both."""
        return Rows(np.concatenate([self.U, other.U]), np.concatenate([self.signs, other.signs]))

    def apply(self, design: Design) -> np.ndarray:
        """Return ``sum_j signs_j phi(X U_j)``, shape (n,)."""
        return design.outputs(self.U) @ self.signs


def random_rows(problem: Problem, design: Design, width: int, random_state: np.random.Generator) -> Rows:
    """Draw neurons to anneal from."""
    y = problem.loss.link(problem.y)
    y, s = design.spread(y) / design.pool, design.spread(problem.weights)
    U, a = start(design.X, y, s, width, design.free, random_state)
    U = U * np.abs(a)[:, None]
    kept = design.norms(U) > 0  # zero targets draw zero neurons
    return Rows(U[kept], np.sign(a[kept]))


def objective(problem: Problem, design: Design, rows: Rows) -> float:
    """Return the objective of a network, with its best constant if it has one."""
    f = rows.apply(design)
    if problem.intercept:
        f = f + problem.loss.intercept(f, problem.y, problem.weights)
    return problem.value(f, float(np.sum(design.norms(rows.U))))


def anneal(
    problem: Problem, design: Design, rows: Rows, mu: float, max_iter: int, tol: float = FLAT
) -> Rows:
    """Descend with the band ``mu``, then drop zeros and merge equals."""
    if len(rows.signs) == 0:
        return rows
    root = np.sqrt(design.norms(rows.U))
    U, a, _ = descend(
        design.X,
        problem.y,
        problem.weights,
        problem.loss,
        problem.beta,
        rows.U / root[:, None],
        rows.signs * root,
        smoothing=mu,
        intercept=problem.intercept,
        free=design.free,
        slope=design.slope,
        pool=design.pool,
        max_iter=max_iter,
        tol=tol,
    )
    U, signs = U * np.abs(a)[:, None], np.sign(a)
    size = design.norms(U)
    kept = size > ZERO * np.max(size, initial=0.0)
    return merge(Rows(U[kept], signs[kept]), design, MERGE * mu)


def merge(rows: Rows, design: Design, tol: float) -> Rows:
    """Add up neurons of one sign whose directions are within ``tol`` of each other."""
    turned = np.where(design.turned(rows.U), -1.0, 1.0)[:, None] * rows.U
    groups = collinear(turned, rows.signs, design.free, tol)
    leads = np.array([group[0] for group in groups], dtype=int)
    U = turned[leads]
    for k, group in enumerate(groups):
        if len(group) > 1:
            U[k] = turned[group].sum(axis=0)
    return Rows(U, rows.signs[leads])


def collinear(W: np.ndarray, signs: np.ndarray, free: int, tol: float) -> list[np.ndarray]:
    """Group the rows of ``W`` by sign and direction, the largest first; every row has a positive norm."""
    size = np.linalg.norm(W[:, : W.shape[1] - free], axis=1)
    return alike(W / size[:, None], size, signs, free, tol)


def alike(
    directions: np.ndarray, size: np.ndarray, labels: np.ndarray, free: int, tol: float
) -> list[np.ndarray]:
    """Group directions (m, r) of one label that are within ``tol`` of that of the largest in the group."""
    weights = directions[:, : directions.shape[1] - free]
    order = np.argsort(-size, kind="stable")
    near = crowded(directions, tol)
    if not np.any(near):
        return list(order[:, None])
    groups, left = [], order[near[order]]
    for lead in order:
        if not near[lead]:
            groups.append(np.array([lead]))
        elif len(left) and lead == left[0]:
            apart = np.max(np.abs(directions[left] - directions[lead]), axis=1)
            same = (apart <= tol * np.max(np.abs(directions[lead]))) & (labels[left] == labels[lead])
            # beside large biases opposite weights are close, but cancel
            same &= weights[left] @ weights[lead] > 0
            groups.append(left[same])
            left = left[~same]
    return groups


def crowded(directions: np.ndarray, tol: float) -> np.ndarray:
    """Which rows may have another within ``tol`` times the largest entry, (m,): for most, none may.

    Rows that are close are close in any mean of their entries with signs.
    """
    mean = np.cos(1.0 + np.arange(directions.shape[1]))
    at = directions @ (mean / np.sum(np.abs(mean)))
    order = np.argsort(at)
    reach = (tol + 1e-13) * float(np.max(np.abs(directions), initial=0.0))
    close = np.diff(at[order]) <= reach
    near = np.zeros(len(at), dtype=bool)
    near[order[:-1][close]] = True
    near[order[1:][close]] = True
    return near


def insert(problem: Problem, design: Design, rows: Rows, found: Neurons, most: int = 100) -> Rows:
    """Give the network those of the found neurons that a Lasso over all magnitudes wants."""
    out = np.flatnonzero(found.values > problem.beta * (1.0 + 1e-10))[:most]
    size = design.norms(rows.U)
    V = np.concatenate([rows.U / size[:, None], found.directions[out]])
    signs = np.concatenate([rows.signs, found.signs[out]])
    A = design.outputs(V) * signs
    x = np.concatenate([size, np.zeros(len(out))])
    sizes = magnitudes(problem, A, x)
    kept = sizes > 0
    return Rows(V[kept] * sizes[kept, None], signs[kept])


def magnitudes(
    problem: Problem, A: np.ndarray, x: np.ndarray, max_iter: int = 150, ftol: float = 1e-12
) -> np.ndarray:
    """Minimise ``L(A x + c) + beta sum x`` over x >= 0, and over c if the problem has an intercept.

    Where activations are far from one the unknowns are what neurons contribute at most, x times the largest
    activation: first steps of descent have length one, which in x itself may be far too long (exponentials
    of Poisson's loss overflow where activations are large) or nothing beside the constant.

    Parameters
    ----------
    problem : Problem
    A : ndarray of shape (n, k)
        Outputs of neurons of cost one.
    x : ndarray of shape (k,)
        Where to start.
    max_iter, ftol
        Of L-BFGS; ftol is relative.

    Returns
    -------
    ndarray of shape (k,)
    """
    loss, y, s = problem.loss, problem.y, problem.weights
    reach = float(np.max(np.abs(A), initial=0.0)) or 1.0
    reach = 1.0 if 1.0 / FAR <= reach <= FAR else reach
    A, x, beta = A / reach, x * reach, problem.beta / reach
    # The intercept is a last unknown without bounds.
    c = loss.intercept(A @ x, y, s) if problem.intercept else 0.0
    scale = 1.0 / max(loss.value(np.zeros_like(y), y, s), 1e-300)

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        f = A @ v[:-1] + (v[-1] if problem.intercept else 0.0)
        slope = loss.gradient(f, y, s)
        last = np.sum(slope) if problem.intercept else 0.0
        total = loss.value(f, y, s) + beta * float(np.sum(v[:-1]))
        return scale * total, scale * np.append(A.T @ slope + beta, last)

    bounds = [(0.0, None)] * len(x) + [(None, None)]
    options = {"maxiter": max_iter, "ftol": ftol, "gtol": 1e-12}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = minimize(
            value, np.append(x, c), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
    return np.asarray(found.x[:-1]) / reach


def thin(problem: Problem, design: Design, rows: Rows) -> Rows:
    """Return as few of the neurons as the data can tell apart, with the same output and no larger cost.

    At most as many neurons stay as there are samples, see :func:`lightest`.
    """
    x = lightest(design.outputs(rows.U) * rows.signs, design.norms(rows.U))
    kept = x > 0.0
    thinned = Rows(rows.U[kept] * x[kept, None], rows.signs[kept])
    before = objective(problem, design, rows)
    return thinned if objective(problem, design, thinned) <= before + 1e-9 * abs(before) else rows


def lightest(H: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return ``x >= 0`` with ``H x = H 1``, ``cost'x <= cost'1`` and independent columns where ``x > 0``.

    As long as the columns are linearly dependent, magnitudes move along a dependence, in the direction of
    falling cost, until one of them is zero. Carathéodory's theorem: as many as H has rows are enough.

    Parameters
    ----------
    H : ndarray of shape (rows, k)
        What each neuron contributes.
    cost : ndarray of shape (k,)

    Returns
    -------
    ndarray of shape (k,)
    """
    x = np.ones(H.shape[1])
    if not H.size:
        return x
    _, size, Vt = np.linalg.svd(H, full_matrices=True)
    null = Vt[int(np.sum(size > 1e-11 * size[0])) :].T
    while null.shape[1]:
        v = null[:, -1] if null[:, -1] @ cost <= 0.0 else -null[:, -1]
        falling = np.flatnonzero(v < -1e-9 * np.max(np.abs(v), initial=0.0))
        if not len(falling):
            null = null[:, :-1]
            continue
        j = falling[int(np.argmin(x[falling] / -v[falling]))]
        x = np.maximum(x - (x[j] / v[j]) * v, 0.0)
        x[j] = 0.0
        # what is at zero stays there
        null = (null - np.outer(v, null[j] / v[j]))[:, :-1]
        null[j] = 0.0
        null /= np.maximum(np.linalg.norm(null, axis=0), 1e-300)
    return x
