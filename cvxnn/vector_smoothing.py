r"""Smoothing Newton for networks with several outputs, its systems solved exactly: for few data.

As :mod:`cvxnn.smoothing_newton`, on the balanced weights p_j = (u_j, v_j) of both layers,

    F(U, V) = L( sum_j phi_mu(X u_j) v_j' + c ) + beta/2 * sum_j (|u_j|^2 + |v_j|^2),

c the best constants, which follow, and with the model of :mod:`cvxnn.vector_newton`, which takes its steps
by conjugate gradients. Where decay is weak the loss bends millions of times as much as the penalty, and
conjugate gradients do not get there. One step solves

    (B + J'WJ) D = -g,   J_j = [ diag(S_j) X (x) v_j,  H_j (x) I ],
    B_j = beta [ I, -u v'; -v u', I ] + damping + [ X' diag( max(G v_j, 0) psi''/b ) X, 0; 0, 0 ]

(u and v of unit length, of linear neurons X'G for ``-beta u v'``; G the slope of the loss, W its Hessian,
S_j = psi' the slopes and H_j = phi_mu the outputs of a neuron) by Woodbury's identity with the matrix
``I + W^(1/2) J B^-1 J' W^(1/2)`` of n * outputs unknowns. It is formed without J: with the blocks P, Q, R
of B_j^-1 and ``Y = diag(S_j) X`` a neuron adds

    J_j B_j^-1 J_j' = (Y P Y') (x) v v' + (Y Q) (x) (v H') + its transpose + (H H') (x) R.

The network is bilinear in the layers. Near interpolation of the targets the step that the penalty asks for
is long, and ``dH dV'``, which the model does not know, ruins the fit. So a step is followed by
*second-order corrections*: the same system, for the step of least size that brings the predictions to where
the model promised them. With those full steps pay; without, hardly any does.

Once a minimum is centred as well as its smoothing deserves, mu shrinks. What smoothing costs is taken from
the derivative of the minimum in mu (the envelope theorem): the value at a smaller mu says nothing there,
since the fit of the targets holds for one mu only.

References: :mod:`cvxnn.smoothing_newton`; Nocedal and Wright, Numerical Optimization, sections 10.3
(damping) and 15.6 (second-order corrections, the Maratos effect).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .design import Design
from .losses import VectorLoss
from .program import Problem
from .smoothing_newton import DAMPING, HARDEN, MOST, eased
from .vector_growth import ZERO, Coupling, Rows, merge
from .vector_newton import couplings

#: A smaller mu at a time, once a step promises less than this share of what smoothing costs.
RATIO, CENTRED = 0.3, 0.3
#: Neurons that differ by less than this share of the band are one.
SAME = 0.1
#: Unknowns, and multiplications of a step, up to which it is worth taking.
UNKNOWNS, WORK = 2000, 1e10
#: Corrections of a step, and times that it is halved, at most.
CORRECTIONS, HALVINGS = 2, 10
#: Neurons whose blocks are formed at a time.
CHUNK = 32

Weights = tuple[np.ndarray, np.ndarray]


def work(n: int, neurons: int, d: int, outputs: int) -> float:
    """Return the multiplications of a step, which forms and factors a matrix of n * outputs unknowns."""
    return float(n * n * neurons * (d + outputs * (outputs + 1)) + (n * outputs) ** 3 / 3)


def affordable(n: int, neurons: int, d: int, outputs: int) -> bool:
    """Whether steps of a network of this size take no more than a second or so."""
    return n * outputs <= UNKNOWNS and work(n, neurons, d, outputs) <= WORK


@dataclass(frozen=True, eq=False)
class _Point:
    """The smoothed network at some weights: what a step needs of it.

    Parameters
    ----------
    at : (U, V)
        Balanced weights, (m, r) and (m, outputs).
    f, constants : ndarrays of shape (n, outputs), without the constants, and (outputs,)
    outputs, slopes, curvature : ndarrays of shape (n, m)
        phi, phi' and psi'' of the neurons.
    """

    at: Weights
    mu: float
    value: float
    f: np.ndarray
    constants: np.ndarray
    outputs: np.ndarray
    slopes: np.ndarray
    curvature: np.ndarray


class _Network:
    """The smoothed objective; distances are relative to the norms of samples and of the neurons held."""

    sizes: np.ndarray
    leak: np.ndarray

    def __init__(self, problem: Problem, design: Design) -> None:
        assert isinstance(problem.loss, VectorLoss)
        self.problem, self.design, self.loss, self.X = problem, design, problem.loss, design.X
        norms = np.linalg.norm(design.X, axis=1)
        self.reach = np.maximum(norms, 1e-6 * float(np.max(norms)))[:, None]
        self.unit = design.X / self.reach
        self.c = np.zeros(problem.y.shape[1])

    def hold(self, U: np.ndarray, leak: float | np.ndarray) -> None:
        """Take the norms of neurons, which bands are relative to, and their slopes on the negative side."""
        self.sizes, self.leak = np.linalg.norm(U, axis=1), np.broadcast_to(leak, len(U))

    def mix(self, straight: np.ndarray | float, bent: np.ndarray, some: Any = slice(None)) -> np.ndarray:
        """``((1 + s) t + (1 - s) root) / 2``, the activation of some neurons with slopes s."""
        s = self.leak[some]
        return 0.5 * ((1.0 + s) * straight + (1.0 - s) * bent)

    def at(self, U: np.ndarray, V: np.ndarray, mu: float) -> _Point:
        """Evaluate neurons with weights ``U`` (m, r) and outputs ``V`` (m, outputs)."""
        problem = self.problem
        T = self.unit @ (U / self.sizes[:, None]).T
        root = np.sqrt(T * T + 4.0 * mu * mu)
        H = self.mix(T, root) * (self.reach * self.sizes)
        f = H @ V
        if problem.intercept:  # from the last constants on it is a step or two
            self.c = self.c + self.loss.intercept(f + self.c, problem.y, problem.weights)
        value = problem.value(f + self.c, 0.5 * float(np.sum(U * U) + np.sum(V * V)))
        bend = (1.0 - self.leak) * 2.0 * mu * mu / (root * root * root)
        return _Point((U, V), mu, value, f, self.c, H, self.mix(1.0, T / root), bend)

    def slope(self, point: _Point) -> np.ndarray:
        """The gradient of the loss in the predictions, (n, outputs)."""
        return self.loss.gradient(point.f + point.constants, self.problem.y, self.problem.weights)

    def gradient(self, point: _Point, slopes: np.ndarray) -> np.ndarray:
        """The gradient in all weights, (m, r + outputs), of neurons with `slopes` (n, m)."""
        G = self.slope(point)
        gU = (slopes * (G @ point.at[1].T)).T @ self.X
        return np.concatenate([gU, point.outputs.T @ G], axis=1) + self.problem.beta * np.hstack(point.at)

    def smoothing(self, point: _Point) -> float:
        """What smoothing costs at a minimum, to first order in mu: ``mu`` times its derivative."""
        pull = np.maximum(self.slope(point) @ point.at[1].T, 0.0)
        # d phi / d mu = 2 (1 - s) b mu / root, and psi'' = 2 (1 - s) mu^2 / root^3
        scale = (1.0 - self.leak) * 2.0 * point.mu**2
        root = np.cbrt(scale / np.maximum(point.curvature, 1e-300))  # zero by zero of linear neurons
        return float(np.sum(pull * (scale / np.maximum(root, 1e-300)) * (self.reach * self.sizes)))


class _System:
    """The factored system of a step at one point."""

    def __init__(self, net: _Network, point: _Point, damping: np.ndarray) -> None:
        self.X, self.point, (n, k) = net.X, point, point.f.shape
        problem, f, G = net.problem, point.f + point.constants, net.slope(point)
        self.bend = np.maximum(G @ point.at[1].T, 0.0) * point.curvature / (net.reach * net.sizes)
        cross = couplings(net.X.T @ G, *point.at, net.leak == 1.0, problem.beta)
        self.blocks = _blocks(net.X, self.bend, cross, problem.beta, damping)
        factor = np.linalg.inv(np.linalg.cholesky(self.blocks))
        self.inverse = factor.transpose(0, 2, 1) @ factor
        values, vectors = np.linalg.eigh(net.loss.hessians(f, problem.y, problem.weights))
        self.root = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]) @ vectors.transpose(0, 2, 1)
        M = (self.root[:, None] @ self._formed() @ self.root[None]).transpose(0, 2, 1, 3)
        M = np.ascontiguousarray(M).reshape(n * k, n * k)
        self.constant = np.zeros((n * k, 0))
        if problem.intercept:  # the best constants follow: project them out
            Q, size, _ = np.linalg.svd(self.root.reshape(n * k, k), full_matrices=False)
            self.constant = Q = Q[:, size > 1e-8 * size[0]]
            MQ = M @ Q
            M += Q @ (Q.T @ MQ) @ Q.T - MQ @ Q.T - Q @ MQ.T
        M[np.diag_indices_from(M)] += 1.0
        self.factor = cho_factor(M, lower=True, overwrite_a=True, check_finite=False)

    def _formed(self) -> np.ndarray:
        """``J B^-1 J'``, shape (n, n, outputs, outputs)."""
        X, (U, V), S, H = self.X, self.point.at, self.point.slopes, self.point.outputs
        (n, m), r, k = S.shape, U.shape[1], V.shape[1]
        M, D = np.zeros((n * n, k * k)), np.empty((n, m, k))
        squares = (V[:, :, None] * V[:, None, :]).reshape(m, k * k)
        for j in range(0, m, CHUNK):
            part = slice(j, j + CHUNK)
            Y = S.T[part, :, None] * X
            inner = (Y @ self.inverse[part, :r, :r]) @ Y.transpose(0, 2, 1)
            M += inner.reshape(len(inner), n * n).T @ squares[part]
            D[:, part] = (Y @ self.inverse[part, :r, r:]).transpose(1, 0, 2)
        M = M.reshape(n, n, k, k)
        for a in range(k):
            for b in range(k):
                cross = (V[:, a] * D[:, :, b] + 0.5 * H * self.inverse[:, r + a, r + b]) @ H.T
                M[:, :, a, b] += cross
                M[:, :, b, a] += cross.T
        return M

    def _whiten(self, F: np.ndarray) -> np.ndarray:
        """A change of the predictions (n, outputs), flat, in units of the loss, its constants left out."""
        w = (self.root @ F[:, :, None]).ravel()
        return w - self.constant @ (self.constant.T @ w)

    def _solve(self, w: np.ndarray) -> np.ndarray:
        """``B^-1 J' W^(1/2)`` times the solution of the factored system for ``w``, (m, r + outputs)."""
        z = cho_solve(self.factor, w, check_finite=False)
        z -= self.constant @ (self.constant.T @ z)
        E = (self.root @ z.reshape(*self.root.shape[:2], 1))[:, :, 0]
        back = (self.point.slopes * (E @ self.point.at[1].T)).T @ self.X
        return self._scaled(np.concatenate([back, self.point.outputs.T @ E], axis=1))

    def _scaled(self, g: np.ndarray) -> np.ndarray:
        """``B^-1 g``."""
        return (self.inverse @ g[:, :, None])[:, :, 0]

    def linear(self, step: np.ndarray) -> np.ndarray:
        """What a step changes the predictions by, to first order, (n, outputs)."""
        dU, dV = np.split(step, [self.X.shape[1]], axis=1)
        return (self.point.slopes * (self.X @ dU.T)) @ self.point.at[1] + self.point.outputs @ dV

    def solve(self, g: np.ndarray) -> np.ndarray:
        """Return the step ``-(B + J'WJ)^-1 g``, (m, r + outputs)."""
        h = self._scaled(g)
        return self._solve(self._whiten(self.linear(h))) - h

    def restore(self, F: np.ndarray) -> np.ndarray:
        """Return the step of least size that takes back a change of the predictions (n, outputs)."""
        return -self._solve(self._whiten(F))

    def drift(self) -> np.ndarray:
        """What prediction adds to the gradient for every share that mu loses, (m, r + outputs)."""
        U, V = self.point.at
        return np.concatenate([(self.bend * (self.X @ U.T)).T @ self.X, np.zeros_like(V)], axis=1)


def _blocks(
    X: np.ndarray, bend: np.ndarray, cross: np.ndarray, beta: float, damping: np.ndarray
) -> np.ndarray:
    """The blocks B_j, (m, r + outputs, r + outputs)."""
    m, r, k = cross.shape
    B = np.zeros((m, r + k, r + k))
    for j in range(0, m, CHUNK):
        part = slice(j, j + CHUNK)
        B[part, :r, :r] = (X.T * bend.T[part, None, :]) @ X
    B[:, :r, r:], B[:, r:, :r] = cross, cross.transpose(0, 2, 1)
    i = np.arange(r + k)
    B[:, i, i] += beta * (1.0 + damping[:, None])
    return B


@dataclass(frozen=True, eq=False)
class _Aim:
    """A step, the point whose objective it lowers, the gradient there, and what it promises."""

    point: _Point
    gradient: np.ndarray
    step: np.ndarray
    promised: float

    @classmethod
    def of(cls, net: _Network, system: _System, end: float) -> _Aim:
        """Correct at this mu or, where it is centred well enough, predict for a smaller one."""
        point = system.point
        g = net.gradient(point, point.slopes)
        step = system.solve(g)
        promised = -0.5 * float(np.sum(g * step))
        if point.mu <= end or promised > CENTRED * net.smoothing(point):
            return cls(point, g, step, promised)
        share = max(RATIO, end / point.mu)
        ahead = net.at(*point.at, share * point.mu)
        step = system.solve(net.gradient(ahead, point.slopes) + (1.0 - share) * system.drift())
        return cls(ahead, net.gradient(ahead, ahead.slopes), step, float("inf"))


@np.errstate(over="ignore", invalid="ignore")  # a search may try absurd steps
def follow(
    problem: Problem,
    design: Design,
    rows: Rows,
    mu: float,
    end: float,
    max_steps: int,
    *,
    tol: float = 1e-15,
    deadline: float = float("inf"),
) -> Rows:
    """Follow the smoothed minimum from the band `mu` down to `end`.

    Parameters
    ----------
    problem : Problem
        Of several outputs, coupled by weight decay.
    design : Design
        Without a free bias.
    rows : Rows
        Near a minimum of the objective smoothed by `mu`.
    mu, end : float
        Relative half-widths of the band.
    max_steps : int
    tol : float
        Promised decrease of a step, as a share of the objective, that ends it.
    deadline : float
        Of :func:`time.perf_counter`.

    Returns
    -------
    Rows
        Without the neurons that went to zero, and with equal ones added up.
    """
    rows = _tidy(design, rows, mu)
    net, damping = _Network(problem, design), np.full(len(rows), DAMPING)
    for _ in range(max_steps):
        if len(rows) == 0 or time.perf_counter() > deadline:
            break
        root = np.sqrt(design.norms(rows.U))[:, None]
        net.hold(rows.U / root, rows.slopes(design))
        point = net.at(rows.U / root, rows.G * root, mu)
        try:
            system = _System(net, point, damping)
        except np.linalg.LinAlgError:  # a block too flat for its rounding
            if np.min(damping) >= MOST:
                break
            damping = np.minimum(damping * HARDEN**3, MOST)
            continue
        aim = _Aim.of(net, system, end)
        if aim.promised <= tol * abs(point.value):
            break
        mu = aim.point.mu
        (U, V), shares = _search(net, system, aim)
        if np.max(shares) == 0.0 and np.min(damping) >= MOST:
            break
        before, rows = len(rows), _tidy(design, Rows.of(U, V, design, Coupling.joint, rows.linear), mu)
        if len(rows) < before:
            damping = np.full(len(rows), DAMPING)
            continue
        damping = eased(damping, shares)
    return _tidy(design, rows, min(mu, 1e-5))


def _tidy(design: Design, rows: Rows, mu: float) -> Rows:
    """Drop neurons at zero, and add up equal ones: a minimum makes neurons equal before they rest in it."""
    size = design.norms(rows.U)
    kept = size > ZERO * np.max(size, initial=0.0)
    rows = rows if np.all(kept) else rows.take(kept)
    fused = merge(rows, design, Coupling.joint, SAME * mu)
    return fused if len(fused) < len(rows) else rows


def _search(net: _Network, system: _System, aim: _Aim) -> tuple[Weights, np.ndarray]:
    """Shorten the step of every neuron until its model holds, then that of all until it pays.

    Whatever was shortened, corrections bring the predictions to where the whole step would have them.

    Returns the weights, and the shares of the step that neurons took, (m,).
    """
    point, trust = aim.point, _trust(net, system, aim)
    at, mu, r = np.hstack(point.at), point.mu, net.X.shape[1]
    ahead, descent = system.linear(aim.step), min(float(np.sum(aim.gradient * aim.step)), 0.0)
    t = 1.0
    for _ in range(HALVINGS):
        best, step = point, t * trust[:, None] * aim.step
        for correction in range(CORRECTIONS + 1):
            found = net.at(at[:, :r] + step[:, :r], at[:, r:] + step[:, r:], mu)
            if correction and not found.value < best.value:
                break
            best = found
            if correction < CORRECTIONS:
                step = step + system.restore(found.f - point.f - t * ahead)
        if best.value <= point.value + 1e-4 * t * descent + 1e-15 * abs(point.value):
            return best.at, t * trust
        t *= 0.5
    return point.at, np.zeros(len(at))


def _trust(net: _Network, system: _System, aim: _Aim) -> np.ndarray:
    """The share of its step up to which the model of each neuron holds, the loss to first order, (m,).

    One neuron that would run over a row of kinks must not hold up the others.
    """
    (U, V), mu, step = aim.point.at, aim.point.mu, aim.step
    dU, dV = np.split(step, [U.shape[1]], axis=1)
    G, beta = net.reach * net.slope(aim.point), net.problem.beta
    first = np.sum(aim.gradient * step, axis=1)
    second = np.einsum("ja,jab,jb->j", step, system.blocks, step)
    T, dT = (net.unit @ (W / net.sizes[:, None]).T for W in (U, dU))

    def alone(t: np.ndarray, some: np.ndarray) -> np.ndarray:
        W, B = U[some] + t[:, None] * dU[some], V[some] + t[:, None] * dV[some]
        at = T[:, some] + t * dT[:, some]
        seen = np.sum(net.mix(at, np.sqrt(at * at + 4.0 * mu * mu), some) * (G @ B.T), axis=0)
        return net.sizes[some] * seen + 0.5 * beta * (np.sum(W * W, axis=1) + np.sum(B * B, axis=1))

    trust, left = np.ones(len(U)), np.arange(len(U))
    before = alone(np.zeros(len(U)), left)
    for _ in range(HALVINGS):
        t = trust[left]
        model = t * first[left] + t * t * second[left] + 1e-13 * np.abs(before[left])
        left = left[alone(t, left) - before[left] > model]
        if len(left) == 0:
            break
        trust[left] *= 0.5
    return trust
