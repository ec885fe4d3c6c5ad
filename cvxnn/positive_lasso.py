r"""Sizes of given neurons, exactly: a Lasso with coefficients that are not negative.

    minimise over x >= 0 and c   L(C x + c) + beta * sum_k x_k

for the outputs C of neurons of cost one. Where samples differ in scale by many powers of ten, so do the
curvatures of this problem, and descent leaves residuals on the largest samples. Newton's method does not
mind: it follows the minima of

    L(C x + c) + beta * sum_k x_k - mu * sum_k log x_k

for a falling mu in x and in dual variables z (``x_k z_k = mu`` at each minimum). A step solves

    (C'L''C + diag(z / x)) dx = -(C'L' + beta - mu / x),

where ``sqrt(x / z)`` scales the unknowns, so that a neuron counts by what it contributes; a step is cut to
keep x and z positive, and halved until the function above falls. Last, what is at zero is cut off: of
``x_k beta`` and ``z_k`` (as shares of the objective and of beta) the smaller one is zero at the optimum.

Reference: Nocedal and Wright, Numerical Optimization, chapter 19.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .losses import VectorLoss
from .program import Problem

#: Steps at most; share of the way to the boundary; shrinking of mu after a full step; its last share of the
#: objective, and the relative rise that cutting off may cost.
STEPS, BACK, SHRINK, END, ALLOWED = 120, 0.99, 0.1, 1e-19, 1e-10
#: Numbers multiplied in a step up to which it is affordable.
WORK = 3e7
#: Times that a step is halved.
HALVINGS = 25
#: Share of the targets that all neurons contribute to begin with.
LEAST = 1e-2
#: Share of the curvature of a constant that is added to it.
RIDGE = 1e-9
#: Newton decrement, as a share of what the logarithms cost, below which mu shrinks.
CENTRED = 0.3


def affordable(numbers: int, neurons: int) -> bool:
    """Whether sizes of so many neurons for so many predictions are found in a second or so."""
    return float(numbers + neurons) * neurons * neurons <= WORK


def positive_lasso(problem: Problem, C: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the best sizes of neurons whose directions are held.

    Parameters
    ----------
    problem : Problem
        With a smooth loss, of one output or of several.
    C : ndarray of shape (n, k), or (n, outputs, k) with several outputs
        Outputs of neurons of cost one.
    x : ndarray of shape (k,)
        Where to start; what it is worth is never lost.

    Returns
    -------
    ndarray of shape (k,)
    """
    lasso = _Lasso(problem, C)
    if not len(x):
        return x
    total = lasso.value(x, lasso.constant(x))[0]
    # from sizes of which each contributes a little, whatever the scale of what it sees
    reach = np.max(np.abs(lasso.flat), axis=0, initial=0.0)
    size = float(np.max(np.abs(problem.loss.link(problem.y)), initial=0.0)) or 1.0
    floor = LEAST * size / (len(x) * np.where(reach > 0, reach, 1.0))
    best = lasso.minimise(np.maximum(x, floor), abs(total) or 1.0)
    return best if lasso.value(best, lasso.constant(best))[0] < total else x


class _Lasso:
    """The objective of given columns, with derivatives."""

    def __init__(self, problem: Problem, C: np.ndarray) -> None:
        self.problem, self.k, self.shape = problem, C.shape[-1], problem.y.shape
        self.flat = np.ascontiguousarray(C.reshape(-1, self.k))
        #: columns of what is free: the constants
        ones = np.ones(self.shape[0])
        outputs = 1 if len(self.shape) == 1 else self.shape[1]
        self.free = np.kron(ones[:, None], np.eye(outputs if problem.intercept else 0, outputs).T)

    def constant(self, x: np.ndarray) -> np.ndarray:
        """The best constants, (outputs,), none without."""
        p = self.problem
        if not p.intercept:
            return np.zeros(0)
        return np.atleast_1d(p.loss.intercept((self.flat @ x).reshape(self.shape), p.y, p.weights))

    def value(self, x: np.ndarray, c: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective, and the prediction."""
        p = self.problem
        f = (self.flat @ x + self.free @ c).reshape(self.shape)
        return p.loss.value(f, p.y, p.weights) + p.beta * float(np.sum(x)), f

    def bend(self, f: np.ndarray, M: np.ndarray) -> np.ndarray:
        """The Hessian of the loss at a prediction times the columns of ``M``."""
        p = self.problem
        if isinstance(p.loss, VectorLoss):
            each = [p.loss.curve(f, p.y, p.weights, column.reshape(self.shape)).ravel() for column in M.T]
            return np.stack(each, axis=1)
        return p.loss.hessian(f, p.y, p.weights)[:, None] * M

    def minimise(self, x: np.ndarray, total: float) -> np.ndarray:
        """Follow the minima from sizes that are positive; `total` is about the objective."""
        p, M = self.problem, np.hstack([self.flat, self.free])
        c, mu = self.constant(x), 1e-2 * total / self.k
        z = mu / x
        last = END * max(total, 1e-300) / self.k
        value, f = self.value(x, c)
        for _ in range(STEPS):
            g = M.T @ p.loss.gradient(f, p.y, p.weights).ravel()
            pull = np.concatenate([g[: self.k] + p.beta - mu / x, g[self.k :]])
            H = M.T @ self.bend(f, M)
            # constants that a softmax does not see have no curvature but for rounding
            own = np.maximum(np.diag(H)[self.k :], 1e-300)
            scale = np.concatenate([np.sqrt(x / z), 1.0 / np.sqrt(own)])
            H *= np.outer(scale, scale)
            H[np.diag_indices_from(H)] += np.where(np.arange(len(H)) < self.k, 1.0, RIDGE)
            try:
                step = -scale * cho_solve(cho_factor(H), scale * pull)
            except (LinAlgError, ValueError):
                break
            dx, dc = step[: self.k], step[self.k :]
            dz = mu / x - z - (z / x) * dx
            t, slope = _inside(x, dx), float(pull @ step)
            barrier = value - mu * float(np.sum(np.log(x)))
            for _ in range(HALVINGS):
                new, ahead = self.value(x + t * dx, c + t * dc)
                now = new - mu * float(np.sum(np.log(x + t * dx)))
                if now <= barrier + 1e-4 * t * slope + 1e-13 * abs(barrier):
                    break
                t *= 0.5
            else:
                break
            x, c, value, f = x + t * dx, c + t * dc, new, ahead
            z = np.clip(z + _inside(z, dz) * dz, 1e-3 * mu / x, 1e3 * mu / x)
            if mu <= last:
                break
            if -slope <= CENTRED * mu * self.k:
                mu = max(SHRINK * mu, last)
        return self.cut(x, z)

    def cut(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Set those to zero whose dual variable says so, unless that costs something."""
        p = self.problem
        value = self.value(x, self.constant(x))[0]
        small = np.where(x * p.beta * p.beta > z * abs(value), x, 0.0)
        return small if self.value(small, self.constant(small))[0] <= value + ALLOWED * abs(value) else x


def _inside(x: np.ndarray, dx: np.ndarray) -> float:
    """The share of a step that keeps positive numbers positive."""
    falling = dx < 0
    return min(1.0, BACK * float(np.min(-x[falling] / dx[falling], initial=np.inf)))
