r"""Gated networks as kernels: the best kernel by reweighting and Newton's method, n x n algebra only.

A gated network's program with the squared loss has a second face. From ``||u|| = min over eta > 0 of
1/2 (||u||^2 / eta + eta)`` its value is

    min over u   1/2 sum_i s_i (y - c - sum_g D_g X u_g)_i^2 + beta sum_g ||u_g||
        =  min over eta >= 0   beta/2 (y - c)' H^(-1) (y - c) + beta/2 sum_g eta_g,
    H = K_eta + beta S^(-1),      K_eta = sum_g eta_g D_g XX' D_g = XX' o (D' diag(eta) D),

ridge regression with the best of the kernels K_eta, D being the patterns (groups, n). With ``a = H^(-1)(y -
c)`` the weights are ``u_g = eta_g X'D_g a``, the dual variable is ``Z = beta a``, and an intercept is the c
for which ``sum_i a_i = 0``. At equal eta, patterns drawn by Gaussian gates, K_eta is the neural tangent
kernel of the gated network up to sampling; that is where this solver starts, so its first point is the
tangent kernel's predictor, and its last the best kernel's, which is the best gated network.

*Reweighting* ``eta_g <- ||u_g||`` never raises the value; groups that leave do so like 1/k, so after a few
rounds *Newton's method* takes over, on the convex function of eta above with

    gradient_g = beta/2 (1 - ||X'D_g a||^2),      Hessian = beta B' P B,   column g of B = D_g XX' D_g a,

P the inverse of H (with an intercept: its projection along ones), on those eta that are not held at zero
by a positive gradient, along the projected arc. It is quadratic in the end, and eta reaches zero exactly.

References: Dwaraknath, Ergen and Pilanci, "Fixing the NTK: from neural network linearizations to exact
convex programs", NeurIPS 2023 (algorithm 1); Bach, "Consistency of the group lasso and multiple kernel
learning", JMLR 2008; Bertsekas, SIAM J. Control Optim. 1982 (projected Newton).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from array_api_compat import is_numpy_array
from scipy.linalg import cho_factor, cho_solve, solve

from ..arrays import Array, to_numpy
from ..constraints import Free
from ..losses import get_loss
from ..operators import Masked
from ..penalties import GroupL2
from ..program import Program
from .base import Candidate, Solver

#: Samples up to which n x n systems are factorised, and entries of the patterns in full.
LARGEST, MASKS = 6000, 200_000_000
#: Reweightings before Newton's method.
REWEIGHTINGS = 8
#: Halvings of a step of Newton's method.
HALVINGS = 20
#: Steps of Newton's method that may not lower the value, in all.
IDLE = 6
#: Times that kernels whose step ends below zero are let go, and the others' step is taken anew.
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Point:
    """A kernel and its ridge regression.

    Parameters
    ----------
    eta : ndarray of shape (groups,)
    c : float
        Intercept.
    a : ndarray of shape (n,)
        Dual coefficients, the dual variable over beta.
    value : float
        Of the function of eta.
    factor : tuple
        Cholesky factor of H.
    ones : ndarray of shape (n,), or None
        ``H^(-1) 1`` with an intercept.
    """

    eta: np.ndarray
    c: float
    a: np.ndarray
    value: float
    factor: tuple[np.ndarray, bool]
    ones: np.ndarray | None

    def inverse(self, B: np.ndarray) -> np.ndarray:
        """``P B`` for B (n, k)."""
        out = cho_solve(self.factor, B)
        if self.ones is not None:
            out = out - np.outer(self.ones, np.sum(out, axis=0) / np.sum(self.ones))
        return out


@dataclass(frozen=True, eq=False)
class State:
    """The current kernel, the patterns as numbers (groups, n), ``XX'`` (n, n), reweightings left, and how
    many steps have not lowered the value."""

    at: Point
    masks: np.ndarray
    gram: np.ndarray
    left: int
    idle: int = 0


class Kernel(Solver):
    """The best kernel of a gated network: iterative reweighting, then Newton's method."""

    name: ClassVar[str] = "kernel"

    def supports(self, program: Program) -> tuple[bool, str]:
        if not isinstance(program.operator, Masked):
            return False, "needs an operator that masks one X"
        if program.operator.slope or program.operator.signs is not None:
            return False, "needs patterns of zeros and ones, without signs"
        if not isinstance(program.constraint, Free):
            return False, "kernels know no cones"
        if not isinstance(program.penalty, GroupL2) or program.penalty.free:
            return False, "needs the group-l2 penalty on all coordinates"
        if type(program.loss) is not type(get_loss("squared_error")):
            return False, "needs the squared loss, for which a kernel has a closed form"
        X = program.operator.X
        if not is_numpy_array(X) or X.dtype != np.float64:
            return False, "computes in NumPy float64 only"
        n, groups, _ = program.operator.shape
        if n > LARGEST or n * groups > MASKS:
            return False, f"{n} samples and {groups} patterns are too many for n x n systems"
        return True, ""

    def init(self, program: Program, start: Array | None) -> State:
        assert isinstance(program.operator, Masked)
        n, groups, _ = program.operator.shape
        X = program.operator.X
        masks = np.unpackbits(program.operator.bits, axis=1, count=n).astype(np.float64)
        gram = X @ X.T
        eta, left = np.full(groups, 1.0 / max(groups, 1)), REWEIGHTINGS
        if start is not None:
            eta, left = np.linalg.norm(to_numpy(start), axis=1), 0
        return State(_ridge(program, masks, gram, eta), masks, gram, left)

    def candidate(self, program: Program, state: State) -> Candidate:
        at = state.at
        Z = program.beta * at.a
        if program.intercept:
            Z = program.loss.balance(Z)
        return Candidate(at.eta[:, None] * program.operator.adjoint(Z) / program.beta, at.c, Z)

    def step(self, program: Program, state: State) -> State | None:
        at = state.at
        size = np.linalg.norm(program.operator.adjoint(at.a), axis=1)
        if state.left:
            after = _ridge(program, state.masks, state.gram, at.eta * size)
            return replace(state, at=after, left=state.left - 1)
        direction = _direction(program.beta, state, 0.5 * program.beta * (1.0 - size**2))
        for k in range(HALVINGS):
            eta = np.maximum(at.eta + 0.5**k * direction, 0.0)
            after = _ridge(program, state.masks, state.gram, eta)
            if after.value < at.value:
                return replace(state, at=after)
            # below the rounding of the value the gradient, and with it the bound, still gains
            if k == 0 and state.idle < IDLE and after.value <= at.value + 1e-14 * abs(at.value):
                return replace(state, at=after, idle=state.idle + 1)
        # no step along Newton's arc pays: reweighting does, until rounding is what is left
        after = _ridge(program, state.masks, state.gram, at.eta * size)
        return replace(state, at=after, left=REWEIGHTINGS) if after.value < at.value else None


def _ridge(program: Program, masks: np.ndarray, gram: np.ndarray, eta: np.ndarray) -> Point:
    """Solve the ridge regression of a kernel."""
    used = np.flatnonzero(eta > 0.0)
    H = gram * ((masks[used].T * eta[used]) @ masks[used])
    H[np.diag_indices_from(H)] += program.beta / program.weights
    factor = cho_factor(H, lower=True, overwrite_a=True, check_finite=False)
    y, ones, c = program.target, None, 0.0
    a = cho_solve(factor, y)
    if program.intercept:
        ones = cho_solve(factor, np.ones(len(y)))
        c = float(np.sum(a) / np.sum(ones))
        a = a - c * ones
    value = 0.5 * program.beta * (float((y - c) @ a) + float(np.sum(eta)))
    return Point(eta, c, a, value, factor, ones)


def _direction(beta: float, state: State, gradient: np.ndarray) -> np.ndarray:
    """Newton's direction for the kernels that stay, and straight to zero for those that leave."""
    eta = state.at.eta
    # a kernel that is all but zero and wants to be smaller is held at zero
    free = np.flatnonzero((eta > 1e-8 * np.sum(eta)) | (gradient <= 0.0))
    for _ in range(ROUNDS):
        direction = -eta
        direction[free] = _newton(beta, state, gradient, free)
        leaves = (eta + direction <= 0.0)[free] & (gradient[free] > 0.0)
        if not np.any(leaves):
            break
        free = free[~leaves]
    return direction


def _newton(beta: float, state: State, gradient: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Newton's direction (k,) for the kernels `free` (k,), the others held."""
    at, D = state.at, state.masks[free]
    B = (D * ((D * at.a) @ state.gram)).T
    hessian = beta * (B.T @ at.inverse(B))
    # equal kernels leave their shares open; a little of the identity takes the nearest
    scale = float(np.trace(hessian)) / max(len(free), 1)
    hessian[np.diag_indices_from(hessian)] += 1e-10 * scale + 1e-300
    return np.asarray(-solve(hessian, gradient[free], assume_a="pos", check_finite=False))
