r"""Growing networks whose hidden weights pay another norm: descent by proximal steps.

A network is kept as rows ``u_j`` with signs, as in :mod:`cvxnn.growth`, so that its objective is
``L(sum_j sigma_j (X u_j)_+ + c) + beta * sum_j Omega(u_j)``. Between kinks the first term is smooth, and

    u_j  <-  prox of step * beta * Omega  at  u_j - step * sigma_j X'(1[Xu_j > 0] * grad L),

with momentum, a step length found by trial, and the best c at every point. What this finds are patterns;
the convex programs over them finish, and are exact where descent is not.

References: Beck and Teboulle, SIAM J. Imaging Sci. 2009; O'Donoghue and Candes, Found. Comput. Math. 2015.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .growth import Rows, insert, merge, objective, random_rows
from .norm_pricing import NormDesign
from .oracles import NeuronOracle
from .program import Problem

#: Neurons to begin with, steps of the first descent and of those after an insertion, insertions.
FIRST, STEPS, AGAIN, ROUNDS = 40, 300, 150, 8
#: An insertion that pays a smaller share is the last.
PAYS = 1e-3
#: How far a smoothed loss may be below a loss with kinks: share of the objective of the zero network.
SMOOTHING = 0.03
#: Neurons smaller than this share of the largest are at zero; closer than `MERGE` they are one.
ZERO, MERGE = 1e-6, 1e-4


def descend_rows(problem: Problem, design: NormDesign, rows: Rows, steps: int) -> Rows:
    """Move all neurons by accelerated proximal steps; the best point on the way, zeros dropped.

    Parameters
    ----------
    problem : Problem
        With a smooth loss.
    design : NormDesign
    rows : Rows
    steps : int
    """
    if not len(rows.signs):
        return rows
    X, signs, beta = design.X, rows.signs, problem.beta
    loss, y, s = problem.loss, problem.y, problem.weights
    # units in which a free bias moves like a weight
    unit = np.ones(X.shape[1])
    unit[X.shape[1] - design.free :] = max(design.reach, 1e-300)
    A = X * unit

    def fit(U: np.ndarray) -> tuple[np.ndarray, float]:
        f = np.maximum(A @ U.T, 0.0) @ signs
        f = f + loss.intercept(f, y, s) if problem.intercept else f
        return f, loss.value(f, y, s)

    def gauge(U: np.ndarray) -> float:
        return beta * float(np.sum(design.norms(U)))

    U = V = rows.U / unit
    best, least = U, fit(U)[1] + gauge(U)
    now, momentum, step = least, 1.0, 1.0 / max(float(np.linalg.norm(A)) ** 2 * float(np.max(s)), 1e-300)
    for _ in range(steps):
        f, value = fit(V)
        on = np.where(V @ A.T > 0, loss.gradient(f, y, s), 0.0)
        G = signs[:, None] * (on @ A)
        step *= 2.0
        for _ in range(40):
            W = design.norm.prox(V - step * G, step * beta)
            move = W - V
            model = value + float(np.sum(G * move)) + float(np.sum(move * move)) / (2.0 * step)
            reached = fit(W)[1]
            if reached <= model + 1e-12 * abs(value):
                break
            step *= 0.5
        after = reached + gauge(W)
        if after < least:
            best, least = W, after
        new = 1.0 if after > now else 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        V = W + ((momentum - 1.0) / new if after <= now else 0.0) * (W - U)
        U, now, momentum = W, after, new
    size = design.norms(best)
    kept = size > ZERO * np.max(size, initial=0.0)
    return merge(Rows(best[kept] * unit, signs[kept]), design, MERGE)


def explore(
    problem: Problem,
    design: NormDesign,
    oracle: NeuronOracle,
    random_state: np.random.Generator,
    rows: Rows | None,
) -> Iterator[Rows]:
    """Descend, price, insert and descend again until that stops paying; yields each better network.

    Parameters
    ----------
    rows : Rows or None
        Where to begin; None draws neurons.
    """
    smooth = problem.smoothed(SMOOTHING * problem.null_value())
    if rows is None:
        rows = random_rows(problem, design, FIRST, random_state)
    least = problem.null_value()
    for k in range(ROUNDS):
        rows = descend_rows(smooth, design, rows, AGAIN if k else STEPS)
        now = objective(problem, design, rows)
        if now < least:
            yield rows
        if k and now > least * (1.0 - PAYS):
            return
        least = min(least, now)
        Z = smooth.residual(rows.apply(design))
        rows = insert(smooth, design, rows, oracle.propose(Z, rows.U, random_state))
