r"""Smoothing Newton for networks with several outputs: the last digits, by conjugate gradients.

As :mod:`cvxnn.smoothing_newton`, with a hyperbola of relative half-width mu in place of the ReLU,

    phi_mu(t) = b psi(t / b),   psi(r) = (r + sqrt(r^2 + 4 mu^2)) / 2,   b_ij = |x_i| |u_j|,

but on the balanced weights (u_j, v_j) of both layers, where the objective is

    F(U, V) = L( sum_j phi_mu(X u_j) v_j' + c ) + beta/2 * sum_j (|u_j|^2 + |v_j|^2),

c the best constants, which follow. With the slope G of the loss, its Hessian W, slopes S = psi' and hidden
outputs H = phi, the Hessian takes (dU, dV) to

    dF = (S o X dU') V + H dV,     dG = W dF,
    ( S o dG V' + [G V']_+ o psi''/b o X dU' )' X + beta dU + C_j dV,      H' dG + C_j' dU + beta dV,

where only the convex half of the curvature at kinks is kept. The coupling C_j = X' diag(S_j) G of the two
layers of a neuron takes v_j to -beta u_j at a minimum, and back; of it that part is kept, which makes the
penalty flat where a neuron grows, and convex. Linear neurons share ``C = X'G``, whose singular values are
at most beta at a minimum: all of it is kept, for without it no map of several of them could turn. What is
left is positive semidefinite. It is too large to be formed, but the blocks of single neurons (r + outputs
unknowns each) are small, and conjugate gradients that they whiten take some dozens of products for a step.
As with one output each neuron has a damping of its own, and once a minimum is centred as well as its
smoothing deserves, mu shrinks.

References: Chen and Mangasarian, Comput. Optim. Appl. 1996 (smoothing); Nocedal and Wright, Numerical
Optimization, sections 7.1 (inexact Newton, :mod:`cvxnn.truncated_newton`) and 10.3 (damping).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg.lapack import dtrtri

from .design import Design
from .losses import VectorLoss
from .program import Problem
from .truncated_newton import steihaug
from .vector_growth import ZERO, Coupling, Rows, merge

#: A smaller mu at a time, once a step promises less than this share of what smoothing costs.
RATIO, CENTRED = 0.3, 0.3
#: Neurons that differ by less than this share of the band are one.
SAME = 0.1
#: Numbers in the hidden layer, and in its blocks, up to which steps are worth taking.
ENTRIES, BLOCKS = 2e6, 4e6
#: Damping at first, its limits, and what it is multiplied with after a full and after a short step.
DAMPING, LEAST, MOST, EASE, HARDEN = 0.1, 1e-3, 1e4, 0.2, 4.0
#: Products of a step, at most, and how exactly it is solved.
PRODUCTS, SHARE = 40, 0.1
#: Weights, relative to the largest, up to which a sample is left out of a neuron's block.
SEEN = 1e-5


def affordable(n: int, neurons: int, d: int, outputs: int) -> bool:
    """Whether Newton steps of a network of this size take no more than a second or so."""
    return n * neurons <= ENTRIES and neurons * (d + outputs) ** 2 <= BLOCKS


def couplings(C: np.ndarray, U: np.ndarray, V: np.ndarray, linear: np.ndarray, beta: float) -> np.ndarray:
    """Return what is kept of the couplings of the layers of neurons, (m, r, outputs).

    That is ``-beta u v'``, u and v of unit length, and of linear neurons all of ``C = X'G``, its singular
    values made at most beta, with which the penalty stays convex.
    """
    u, v = (W / np.linalg.norm(W, axis=1)[:, None] for W in (U, V))
    kept = -beta * u[:, :, None] * v[:, None, :]
    if np.any(linear):
        left, size, right = np.linalg.svd(C, full_matrices=False)
        kept[linear] = (left * np.minimum(size, beta)) @ right
    return kept


class _Network:
    """The smoothed objective at its current point."""

    def __init__(self, problem: Problem, design: Design) -> None:
        assert isinstance(problem.loss, VectorLoss)
        self.problem, self.design, self.loss, self.X = problem, design, problem.loss, design.X
        norms = np.linalg.norm(design.X, axis=1)
        self.reach = np.maximum(norms, 1e-6 * float(np.max(norms)))[:, None]
        self.unit = design.X / self.reach
        self.c = np.zeros(problem.y.shape[1])
        #: products of a step are taken in single precision
        self.low = design.X.astype(np.float32)

    def hold(self, rows: Rows, damping: np.ndarray) -> None:
        """Take neurons with their norms, which bands are relative to, their directions and damping."""
        root = np.sqrt(self.design.norms(rows.U))[:, None]
        U, V = rows.U / root, rows.G * root
        self.U, self.V, self.sizes = U, V, np.linalg.norm(U, axis=1)
        self.linear = rows.linear
        self.damping = (1.0 + damping[:, None]).astype(np.float32)

    def bent(self, T: np.ndarray, root: np.ndarray, some: Any = slice(None)) -> np.ndarray:
        """Twice the activation of some neurons: ``t + root``, of linear ones ``2 t``."""
        return T + root if not np.any(self.linear) else T + np.where(self.linear[some], T, root)

    def value(self, U: np.ndarray, V: np.ndarray, mu: float, *, keep: bool = True) -> float:
        """The objective; also keeps what derivatives need."""
        problem = self.problem
        T = self.unit @ (U / self.sizes[:, None]).T
        root = np.sqrt(T * T + 4.0 * mu * mu)
        H = self.bent(T, root) * (0.5 * self.sizes)
        H *= self.reach
        f = H @ V + self.c
        if problem.intercept:  # from the last constants on it is a step or two
            more = self.loss.intercept(f, problem.y, problem.weights)
            f, self.c = f + more, self.c + more
        if keep:
            self.mu, self.T, self.root, self.H, self.f = mu, T, root, H, f
        return problem.value(f, 0.5 * float(np.sum(U * U) + np.sum(V * V)))

    def differentiate(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradients in U and V, and what products with the Hessian need."""
        problem = self.problem
        y, s, beta = problem.y, problem.weights, problem.beta
        G = self.loss.gradient(self.f, y, s)
        S = 0.5 * (1.0 + self.T / self.root)
        S[:, self.linear] = 1.0
        pull = G @ self.V.T
        gU = (S * pull).T @ self.X + beta * self.U
        gV = self.H.T @ G + beta * self.V
        cube = self.root * self.root * self.root * (self.reach * self.sizes)
        bend = np.maximum(pull, 0.0) * (2.0 * self.mu**2) / cube
        bend[:, self.linear] = 0.0
        self.S, self.bend, self.G = S.astype(np.float32), bend.astype(np.float32), G
        self.low_H, self.low_V = self.H.astype(np.float32), self.V.astype(np.float32)
        self.W = self.loss.hessians(self.f, y, s).astype(np.float32)
        cross = couplings(self.X.T @ G, self.U, self.V, self.linear, beta)
        self.cross = cross.astype(np.float32)
        self.inner = np.linalg.pinv(np.sum(self.W, axis=0, dtype=np.float64), rcond=1e-10, hermitian=True)
        return gU, gV

    def curve(self, dU: np.ndarray, dV: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The Hessian times a direction, in single precision."""
        XU = self.low @ dU.T
        dH = self.S * XU
        df = dH @ self.low_V
        df += self.low_H @ dV
        dG = np.einsum("nk,nkl->nl", df, self.W)
        if self.problem.intercept:
            dc = -(np.sum(dG, axis=0, dtype=np.float64) @ self.inner).astype(np.float32)
            dG += dc @ self.W
        back = dG @ self.low_V.T
        back *= self.S
        XU *= self.bend
        back += XU
        pull = np.float32(self.problem.beta) * self.damping
        hU = back.T @ self.low + pull * dU + np.matmul(self.cross, dV[:, :, None])[:, :, 0]
        return hU, self.low_H.T @ dG + pull * dV + np.matmul(dU[:, None, :], self.cross)[:, 0, :]

    def factors(self) -> np.ndarray:
        """The inverse Cholesky factors of the neurons' Gauss-Newton blocks, (m, r + k, r + k)."""
        S, V, W = self.S, self.low_V, self.W
        (m, r), k = self.U.shape, V.shape[1]
        WV = np.ascontiguousarray(np.matmul(W, V.T).transpose(2, 0, 1))  # (m, n, k)
        weight = np.sum(WV * V[:, None, :], axis=2)
        weight *= (S * S).T
        weight += self.bend.T
        SH = np.ascontiguousarray((S * self.low_H).T)
        C = np.zeros((m, r + k, r + k))
        for block, w, h, bends in zip(C, weight, SH, WV, strict=True):
            # what hardly bends hardly matters to blocks that only have to be about right
            seen = np.flatnonzero(w > SEEN * np.max(w, initial=0.0))
            rows = self.low[seen]
            block[:r, r:] = rows.T @ (h[seen, None] * bends[seen])
            rows *= np.sqrt(w[seen])[:, None]
            block[:r, :r] = rows.T @ rows
        C[:, r:, r:] = ((self.low_H**2).T @ W.reshape(len(S), k * k)).reshape(m, k, k)
        beta = self.problem.beta
        C[:, :r, r:] += self.cross
        C[:, r:, :r] = C[:, :r, r:].transpose(0, 2, 1)
        i = np.arange(r + k)
        C[:, i, i] += beta * self.damping + 1e-6 * np.trace(C, axis1=1, axis2=2)[:, None] / (r + k)
        low = np.linalg.cholesky(C)
        return np.stack([dtrtri(block, lower=1)[0] for block in low])


class _Whitened:
    """The Hessian in the coordinates in which the neurons' own blocks are the identity."""

    def __init__(self, net: _Network) -> None:
        self.net, self.r, self.low = net, net.U.shape[1], net.factors().astype(np.float32)

    def curve(self, z: np.ndarray) -> np.ndarray:
        step = self.back(z).astype(np.float32)
        hU, hV = self.net.curve(np.ascontiguousarray(step[:, : self.r]), step[:, self.r :].copy())
        return self.down(hU, hV)

    def back(self, z: np.ndarray) -> np.ndarray:
        """Whitened coordinates to weights (m, r + k)."""
        low = z.reshape(len(self.low), 1, -1).astype(np.float32)
        return np.matmul(low, self.low)[:, 0, :].astype(np.float64)

    def down(self, gU: np.ndarray, gV: np.ndarray) -> np.ndarray:
        """A gradient to whitened coordinates."""
        both = np.concatenate([gU, gV], axis=1).astype(np.float32)
        return np.matmul(self.low, both[:, :, None]).astype(np.float64).ravel()


@np.errstate(over="ignore", invalid="ignore")  # a step may try absurd weights
def follow(
    problem: Problem,
    design: Design,
    rows: Rows,
    mu: float,
    end: float,
    max_steps: int,
    *,
    tol: float = 1e-9,
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
    if len(rows) == 0:
        return rows
    net, damping = _Network(problem, design), np.full(len(rows), DAMPING)
    for _ in range(max_steps):
        net.hold(rows, damping)
        step = _Step.of(net, mu)
        shares = step.take(net)
        if np.max(shares) > 0.0:
            rows = Rows.of(*step.after(net, shares), design, Coupling.joint, rows.linear)
        damping = damping * np.where(shares == 1.0, EASE, np.where(shares >= 0.5, 1.0, HARDEN))
        damping = np.clip(damping[: len(rows)], LEAST, MOST)
        size = design.norms(rows.U)
        kept = size > ZERO * np.max(size)
        rows, damping = rows.take(kept), damping[kept]
        if time.perf_counter() > deadline or (mu <= end and step.promised <= tol * abs(step.value)):
            break
        if mu > end and step.promised <= CENTRED * max(step.value - step.flat, 0.0):
            mu = max(end, RATIO * mu)
            fused = merge(rows, design, Coupling.joint, SAME * mu)
            if len(fused) < len(rows):
                rows, damping = fused, np.full(len(fused), DAMPING)
    return merge(rows, design, Coupling.joint, SAME * mu)


@dataclass(frozen=True, eq=False)
class _Step:
    """A step of the smoothed objective from its current point.

    Parameters
    ----------
    value, flat : float
        The objective, and that of a tenth of the band.
    gradient, step : tuple of ndarrays
        In U (m, r) and V (m, outputs).
    promised : float
        The decrease by the quadratic model.
    """

    value: float
    flat: float
    gradient: tuple[np.ndarray, np.ndarray]
    step: tuple[np.ndarray, np.ndarray]
    promised: float

    @classmethod
    def of(cls, net: _Network, mu: float) -> _Step:
        """Solve for a step at the weights that the network holds."""
        flat, value = net.value(net.U, net.V, 0.1 * mu), net.value(net.U, net.V, mu)
        gradient = net.differentiate()
        space = _Whitened(net)
        z = space.down(*gradient)
        p, promised, _ = steihaug(space, z, np.ones_like(z), float("inf"), SHARE, PRODUCTS)
        both = space.back(p)
        return cls(value, flat, gradient, (both[:, : space.r], both[:, space.r :]), promised)

    def after(self, net: _Network, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights when every neuron takes its share of the step."""
        return net.U + shares[:, None] * self.step[0], net.V + shares[:, None] * self.step[1]

    def take(self, net: _Network) -> np.ndarray:
        """Shorten the step of every neuron, then that of all until it pays; returns the shares (m,)."""
        shares, t = _shares(net, self), 1.0
        slope = sum(np.sum(g * p, axis=1) for g, p in zip(self.gradient, self.step, strict=True))
        descent = min(0.0, float(shares @ slope))
        for _ in range(10):
            value = net.value(*self.after(net, t * shares), net.mu, keep=False)
            if value <= self.value + 1e-4 * t * descent:
                return t * shares
            t *= 0.5
        return np.zeros(len(shares))


def _shares(net: _Network, step: _Step) -> np.ndarray:
    """Shorten the step of every neuron until it does what the loss to first order lets expect, shape (m,).

    One neuron that would run over a row of kinks must not hold up the others.
    """
    (gU, gV), (dU, dV), (U, V) = step.gradient, step.step, (net.U, net.V)
    beta, mu, shares, left = net.problem.beta, net.mu, np.ones(len(U)), np.arange(len(U))
    G = net.reach * net.G
    first = np.sum(gU * dU, axis=1) + np.sum(gV * dV, axis=1)
    kinks = np.sum(net.bend * (net.low @ dU.T.astype(np.float32)) ** 2, axis=0)
    second = kinks + beta * net.damping[:, 0] * (np.sum(dU * dU, axis=1) + np.sum(dV * dV, axis=1))
    dT = net.unit @ (dU / net.sizes[:, None]).T

    def alone(t: np.ndarray, some: np.ndarray) -> np.ndarray:
        W, B = U[some] + t[:, None] * dU[some], V[some] + t[:, None] * dV[some]
        T = net.T[:, some] + t * dT[:, some]
        seen = np.sum(net.bent(T, np.sqrt(T * T + 4.0 * mu * mu), some) * (G @ B.T), axis=0)
        return 0.5 * net.sizes[some] * seen + 0.5 * beta * (np.sum(W * W, axis=1) + np.sum(B * B, axis=1))

    before = alone(np.zeros(len(U)), left)
    for _ in range(10):
        t = shares[left]
        model = t * first[left] + t * t * second[left] + 1e-13 * np.abs(before[left])
        left = left[alone(t, left) - before[left] > model]
        if len(left) == 0:
            break
        shares[left] *= 0.5
    return shares
