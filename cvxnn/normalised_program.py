r"""The program over cones of outputs, solved by Clarabel; see :mod:`cvxnn.normalised_cells`.

    minimise over l_g >= 0, c   L( sum_g sigma_g H_g l_g + c ) + beta / sqrt(S) * sum_g ||H_g l_g||_s

A loss that is piecewise quadratic goes to the conic solver as it is. One that needs exponential cones,
which together with many norms stall that solver at some 1e-4, is solved by Newton's method on the loss
alone: its quadratic model, the penalty whole, and a step back towards where it was while the value rises.

References: Goulart and Chen, "Clarabel", 2024; Lee, Sun and Saunders, SIAM J. Optim. 2014 (proximal
Newton).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from .losses import get_loss
from .losses.base import ConicForm
from .normalised_cells import Cones, Member
from .program import Problem

#: Steps of Newton's method, halvings of a step, and the relative decrease that ends it.
STEPS, HALVINGS, ENOUGH = 40, 30, 1e-15
#: Curvatures, relative to the largest, below which they are raised.
FLAT = 1e-8


def solve_cones(
    problem: Problem, cones: Cones, members: Sequence[Member]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Solve the program over some cones and signs.

    Returns
    -------
    weights : list of ndarrays (m_g,)
        Nonnegative, of each cone's rays.
    Z : ndarray of shape (n,)
        Dual variable.

    Raises
    ------
    ValueError
        If the loss has no conic form and no second derivatives.
    """
    form = problem.loss.conic(problem.y, problem.weights)
    if form is not None and all(name != "exponential" for name, _ in form.cones):
        weights, _, Z = _conic(problem, cones, members, form)
        return weights, Z
    if not problem.loss.smooth:
        raise ValueError(
            f"the loss {problem.loss.name} has kinks and no conic form, which normalising after the ReLU "
            "needs: pass where='before'"
        )
    return _newton(problem, cones, members)


def dual_of(problem: Problem, fit: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Return the residual of what a program fits; at kinks of the loss it is a choice, made by `Z`."""
    if problem.loss.smooth:
        return problem.residual(fit)
    Z = problem.loss.nearest(Z, problem.y, problem.weights)
    return problem.loss.balance(Z) if problem.intercept else Z


def _newton(
    problem: Problem, cones: Cones, members: Sequence[Member]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Solve for a smooth loss: quadratic models of it, with a line search."""
    loss, y, s = problem.loss, problem.y, problem.weights
    strength, square = problem.beta / np.sqrt(np.sum(s)), get_loss("squared_error")

    def value(weights: list[np.ndarray], c: float) -> float:
        norms = sum(
            np.sqrt(s @ (cones.outputs[k] @ x) ** 2) for (k, _), x in zip(members, weights, strict=True)
        )
        return loss.value(cones.fit(members, weights) + c, y, s) + strength * float(norms)

    weights = [np.zeros(cones.outputs[k].shape[1]) for k, _ in members]
    c = float(loss.intercept(np.zeros_like(y), y, s)) if problem.intercept else 0.0
    least = value(weights, c)
    for _ in range(STEPS):
        f = cones.fit(members, weights) + c
        slope, bend = loss.gradient(f, y, s), np.asarray(loss.hessian(f, y, s))
        bend = np.maximum(bend, FLAT * np.max(bend))
        form = square.conic(f - slope / bend, bend)
        assert form is not None
        model, e, _ = _conic(problem, cones, members, form)
        for k in range(HALVINGS):
            t = 0.5**k
            moved = [x + t * (z - x) for x, z in zip(weights, model, strict=True)]
            now = value(moved, c + t * (e - c))
            if now < least:
                break
        else:
            break
        weights, c, gained, least = moved, c + t * (e - c), least - now, now
        if gained <= ENOUGH * abs(least):
            break
    return weights, problem.residual(cones.fit(members, weights))


def _conic(
    problem: Problem, cones: Cones, members: Sequence[Member], form: ConicForm
) -> tuple[list[np.ndarray], float, np.ndarray]:
    """Solve for a loss in conic form: weights, constant and dual variable.

    Unknowns are, in this order: predictions, the loss's own, weights, constant, norms.
    """
    import clarabel

    n, s = len(problem.y), problem.weights
    H = [cones.outputs[k] for k, _ in members]
    widths = [h.shape[1] for h in H]
    k, m, groups = len(form.extra), sum(widths), len(H)
    sizes = [n, k, m, int(problem.intercept), groups]
    bend = np.zeros(k) if form.extra_quadratic is None else form.extra_quadratic
    P = sparse.diags(np.concatenate([form.quadratic, bend, np.zeros(sum(sizes[2:]))]))
    strength = problem.beta / np.sqrt(np.sum(s))
    q = np.concatenate([form.linear, form.extra, np.zeros(m + sizes[3]), np.full(groups, strength)])
    fits = np.hstack([sign * h for h, (_, sign) in zip(H, members, strict=True)])
    rows = [_row(sizes, {0: np.eye(n), 2: -fits, 3: -np.ones((n, sizes[3]))})]
    right, kinds = [np.zeros(n)], [clarabel.ZeroConeT(n)]
    if len(form.h):
        rows.append(_row(sizes, {0: -form.F, 1: -form.V}))
        right.append(form.h)
        kinds += [clarabel.NonnegativeConeT(size) for _, size in form.cones]
    rows.append(_row(sizes, {2: -np.eye(m)}))
    right.append(np.zeros(m))
    kinds.append(clarabel.NonnegativeConeT(m))
    ends = np.concatenate([[0], np.cumsum(widths)])
    for g, h in enumerate(H):
        # the norm through the triangular factor: a cone has fewer rays than samples, mostly
        root = np.asarray(np.linalg.qr(np.sqrt(s)[:, None] * h, mode="r"))
        E, L = np.zeros((1 + len(root), groups)), np.zeros((1 + len(root), m))
        E[0, g], L[1:, ends[g] : ends[g + 1]] = -1.0, -root
        rows.append(_row(sizes, {2: L, 4: E}))
        right.append(np.zeros(1 + len(root)))
        kinds.append(clarabel.SecondOrderConeT(1 + len(root)))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    A, b = sparse.vstack(rows).tocsc(), np.concatenate(right)
    result: Any = clarabel.DefaultSolver(sparse.csc_matrix(P), q, A, b, kinds, settings).solve()
    x, Z = np.array(result.x)[n + k :], np.array(result.z)[:n]
    weights = [np.maximum(x[ends[g] : ends[g + 1]], 0.0) for g in range(groups)]
    return weights, float(x[m]) if problem.intercept else 0.0, Z


def _row(sizes: list[int], blocks: dict[int, Any]) -> Any:
    """A row of blocks in which the missing ones are zero."""
    height = next(iter(blocks.values())).shape[0]
    empty = [sparse.csc_matrix((height, m)) for m in sizes]
    return sparse.hstack([sparse.csc_matrix(blocks[i]) if i in blocks else e for i, e in enumerate(empty)])
