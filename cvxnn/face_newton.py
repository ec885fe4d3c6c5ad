r"""Newton's method on a network's own neurons, to the last digits.

What is to be said about *all* optimal networks hangs on the dual variable, and a network that is a
millionth above the optimum has one that is a thousandth off. Near the optimum every neuron stays in its
cell, and on the kinks (x_i'u = 0) that it sits on. On that flat piece, ``u_j = N_j t_j`` with N_j a basis
of the vectors orthogonal to the tight samples, the objective

    L( sum_j F_j t_j + c ) + beta * sum_j || P N_j t_j ||,      F_j = sign_j D_j X N_j,

is smooth (P drops an unpenalised bias), and Newton's method converges quadratically. Where optimal
magnitudes are not unique the Hessian is singular along them; the step of least norm is taken, which
leaves them as they are.

Reference: Lewis, SIAM J. Optim. 2002 (partial smoothness and active manifolds); Li, Sun and Toh, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .program import Problem

__all__ = ["Piece", "flat_piece", "newton"]

#: Newton steps, at most.
STEPS = 30
#: Eigenvalues of the Hessian below this share of the largest are zero.
FLAT = 1e-13


@dataclass(frozen=True, eq=False)
class Piece:
    """One neuron on its flat piece: weights ``basis @ t``, output ``fit @ t``, cost ``||cost @ t||``.

    Parameters
    ----------
    fit : ndarray of shape (n, k)
    cost : ndarray of shape (r, k)
    basis : ndarray of shape (r', k)
    t : ndarray of shape (k,)
    """

    fit: np.ndarray
    cost: np.ndarray
    basis: np.ndarray
    t: np.ndarray


def flat_piece(
    X: np.ndarray, u: np.ndarray, mask: np.ndarray, sign: float, free: int, tight: np.ndarray
) -> Piece | None:
    """Return the piece of a neuron ``u`` (r,) with a pattern and tight samples; None if it is a point.

    Parameters
    ----------
    X : ndarray of shape (n, r)
    mask, tight : bool ndarrays of shape (n,)
    free : int
        Trailing coordinates of u without a penalty.
    """
    basis = np.eye(len(u))
    if np.any(tight):
        rows = X[tight] / np.linalg.norm(X[tight], axis=1)[:, None]
        _, s, Vt = np.linalg.svd(rows, full_matrices=True)
        basis = Vt[int(np.sum(s > 1e-8 * s[0])) :].T
    if basis.shape[1] == 0:
        return None
    t = basis.T @ u
    kept = len(u) - free
    if np.linalg.norm(basis[:kept] @ t) == 0.0:
        return None
    fit = sign * ((mask & ~tight)[:, None] * (X @ basis))
    return Piece(fit, basis[:kept], basis, t)


def newton(problem: Problem, pieces: list[Piece]) -> list[np.ndarray]:
    """Minimise over the pieces and return the weights (r',) of each.

    The objective does not rise, to rounding.
    """
    F = np.hstack([piece.fit for piece in pieces])
    if problem.intercept:
        F = np.hstack([F, np.ones((len(F), 1))])
    ends = np.cumsum([len(piece.t) for piece in pieces])
    parts = [slice(int(a), int(b)) for a, b in zip(np.append(0, ends[:-1]), ends, strict=True)]
    x = np.concatenate([piece.t for piece in pieces])
    if problem.intercept:
        c = problem.loss.intercept(F[:, :-1] @ x, problem.y, problem.weights)
        x = np.append(x, c)
    value, slope, H = _second_order(problem, pieces, parts, F, x)
    for _ in range(STEPS):
        size, V = np.linalg.eigh(H)
        kept = size > FLAT * size[-1]
        step = -V[:, kept] @ ((V[:, kept].T @ slope) / size[kept])
        fall = -float(slope @ step)
        length = 1.0
        while length > 1e-4:
            now = _second_order(problem, pieces, parts, F, x + length * step)
            if now[0] <= value - 1e-4 * length * fall + 1e-14 * abs(value):
                break
            length *= 0.5
        else:
            break
        x, (value, slope, H) = x + length * step, now
        if fall <= 1e-30 * abs(value):
            break
    return [piece.basis @ x[part] for piece, part in zip(pieces, parts, strict=True)]


def _second_order(
    problem: Problem, pieces: list[Piece], parts: list[slice], F: np.ndarray, x: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian; the value is ``inf`` where a neuron vanishes or turns round."""
    loss, y, s, beta = problem.loss, problem.y, problem.weights, problem.beta
    f = F @ x
    value = loss.value(f, y, s)
    slope = F.T @ loss.gradient(f, y, s)
    H = F.T @ (loss.hessian(f, y, s)[:, None] * F)
    for piece, part in zip(pieces, parts, strict=True):
        w = piece.cost @ x[part]
        size = float(np.linalg.norm(w))
        if size <= 1e-9 * float(np.linalg.norm(piece.cost @ piece.t)):
            return float("inf"), slope, H
        u = piece.cost.T @ (w / size)
        value += beta * size
        slope[part] += beta * u
        H[part, part] += (beta / size) * (piece.cost.T @ piece.cost - np.outer(u, u))
    return value, slope, H
