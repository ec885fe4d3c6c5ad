r"""Smoothing Newton on all neurons at once: from near a local minimum to its last digit.

The objective of a network with signed neurons u_j (:mod:`cvxnn.growth`),

    F(U) = L( sum_j sigma_j (X u_j)_+ + c ) + beta * sum_j |u_j|,

has kinks wherever ``x_i'u_j = 0``, and at a good network every neuron sits on a dozen of them. There L-BFGS
stalls a thousandth above the minimum, with neurons whose prices are a percent away from beta, which a
search then finds again and again. With the ReLU replaced by a hyperbola that has no kink,

    phi_mu(t) = b psi(t / b),   psi(r) = (r + sqrt(r^2 + 4 mu^2)) / 2,   b_ij = |x_i| |u_j|,

(an activation with slope s on the negative side becomes ``s t + (1 - s) phi_mu(t)``),
Newton's method follows the minimum while mu goes to zero, like an interior-point method: at the end
every neuron is stationary and every kink exact. With ``z_i = -dL/df_i``, slopes ``S = psi'`` and the
Hessian W of the loss, one step solves

    (B + J'WJ) D = -g,   J_j = sigma_j diag(S_j) X,
    B_j = beta/|u_j| (I - u u'/|u|^2 + damping I) + X' diag( max(-sigma_j z, 0) psi''/b ) X,

which keeps only the convex half of the curvature at kinks, so that D descends. B is block diagonal with
small blocks ``R_j R_j'``; with ``Y_j = W^(1/2) J_j R_j^-T`` the system is ``I + Y'Y`` or, by Woodbury's
identity, ``I + Y Y'`` of n unknowns, whichever is smaller. The damping grows where steps are cut and
shrinks where they are not (Levenberg-Marquardt). Once a minimum is centred as well as its smoothing
deserves, the right-hand side is taken at a smaller mu: slopes of samples in the band stay while their
distances shrink with mu, to first order ``d(X'S)/dmu = -X' diag(psi'') t/mu``: path following's prediction.

References: Chen and Mangasarian, "A class of smoothing functions for nonlinear and mixed
complementarity problems", Comput. Optim. Appl. 1996; Kanzow, "Some noninterior continuation methods for
linear complementarity problems", SIAM J. Matrix Anal. 1996; Nocedal and Wright, Numerical
Optimization, section 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dtrtri

from .design import Design
from .growth import ZERO, Rows, merge
from .patches import pooled
from .program import Problem

#: Damping at first, its limits, and what it is multiplied with after a full and after a short step.
DAMPING, LEAST, MOST, EASE, HARDEN = 0.1, 1e-3, 1e4, 0.2, 4.0
#: A smaller mu at a time, once Newton's decrement is below this share of what smoothing costs.
RATIO, CENTRED = 0.3, 0.01
#: Neurons that differ by less than this share of the first band are one.
SAME = 0.1
#: Multiplications of a step, and numbers in its matrix, up to which it is worth taking.
WORK, ENTRIES = 2e10, 3e7
#: Numbers in the table of the products of a sample's features up to which it is made.
HELD = 4_000_000
#: Neurons whose blocks are formed at a time.
CHUNK = 32
#: Coordinates from which on blocks are formed and inverted one by one, by routines that know that they are
#: symmetric and triangular: half the multiplications and less. Small blocks have more calls than work.
WIDE = 100


def work(n: int, neurons: int, d: int) -> float:
    """Return the multiplications of a Newton step, which forms the smaller of its two systems."""
    short, long = sorted((n, neurons * d))
    return float(short) ** 2 * long


def affordable(n: int, neurons: int, d: int, pool: int = 1) -> bool:
    """Whether Newton steps of a network of this size take no more than a second or so.

    An optimal network has no more neurons than samples: one that has is far from a minimum worth following.
    Samples may have `pool` rows each.
    """
    return neurons <= n and work(n, neurons, d) <= WORK and n * pool * neurons * d <= ENTRIES


@dataclass(frozen=True, eq=False)
class _Point:
    """The smoothed network at some weights: what a step needs of it."""

    value: float
    f: np.ndarray
    slope: np.ndarray  # of the loss, at every row
    slopes: np.ndarray  # of the neurons
    curvature: np.ndarray
    norms: np.ndarray


class _Network:
    """The smoothed objective; distances are relative to the norms of samples and of the neurons held."""

    signs: np.ndarray
    sizes: np.ndarray

    def __init__(self, problem: Problem, design: Design) -> None:
        self.problem, self.design, self.X = problem, design, design.X
        norms = design.norms(design.X)
        self.reach = np.maximum(norms, 1e-6 * float(np.max(norms)))
        self.unit = design.X / self.reach[:, None]
        self.XT = np.ascontiguousarray(design.X.T)
        # in single precision, brought to its range
        self.top = float(np.max(np.abs(design.X))) or 1.0
        self.low = (self.XT / self.top).astype(np.float32)
        # the lower triangles of x_i x_i', by which Gram matrices with weights are one product
        self.products, (n, d) = None, design.X.shape
        if d < WIDE and n * d * (d + 1) // 2 <= HELD:
            self.corner = np.tril_indices(d)
            self.products = design.X[:, self.corner[0]] * design.X[:, self.corner[1]]

    def hold(self, rows: Rows) -> None:
        """Take the signs of neurons, and their norms for what bands are relative to."""
        self.signs, self.sizes = rows.signs, self.design.norms(rows.U)

    def _mix(self, straight: np.ndarray | float, root: np.ndarray) -> np.ndarray:
        """``(1 + s) t + (1 - s) root``, twice the activation; without the products where s is zero."""
        if not self.design.slope:
            return straight + root
        return (1.0 + self.design.slope) * straight + (1.0 - self.design.slope) * root

    def at(self, U: np.ndarray, mu: float) -> _Point:
        """Evaluate neurons ``U`` (m, r)."""
        problem = self.problem
        T = self.unit @ (U / self.sizes[:, None]).T
        root = np.sqrt(T * T + 4.0 * mu * mu)
        f = pooled(self.reach * (self._mix(T, root) @ (0.5 * self.sizes * self.signs)), self.design.pool)
        if problem.intercept:
            f = f + problem.loss.intercept(f, problem.y, problem.weights)
        # The norm has a kink too, at zero, where neurons are dropped before it matters.
        norms = np.sqrt(self.design.norms(U) ** 2 + (1e-9 * np.max(self.sizes)) ** 2)
        value = problem.value(f, float(np.sum(norms)))
        slope = self.design.spread(problem.loss.gradient(f, problem.y, problem.weights))
        bend = (1.0 - self.design.slope) * 2.0 * mu * mu / (root * root * root)
        return _Point(value, f, slope, 0.5 * self._mix(1.0, T / root), bend, norms)

    def alone(
        self, U: np.ndarray, step: np.ndarray, slope: np.ndarray, mu: float, kept: np.ndarray
    ) -> np.ndarray:
        """How the objective changes when single neurons step, the loss to first order, shape (k,)."""
        at, to = U[kept], U[kept] + step[kept]
        before = self.unit @ (at / self.sizes[kept, None]).T
        after = self.unit @ (to / self.sizes[kept, None]).T
        roots = np.sqrt(after**2 + 4.0 * mu * mu) - np.sqrt(before**2 + 4.0 * mu * mu)
        change = self._mix(after - before, roots)
        gain = self.design.norms(to) - self.design.norms(at)
        return (
            0.5 * self.sizes[kept] * self.signs[kept] * ((slope * self.reach) @ change)
            + self.problem.beta * gain
        )

    def grams(self, K: np.ndarray) -> np.ndarray:
        """Return ``X' diag(K_j) X`` for the columns of ``K`` (n, m), none below zero: shape (m, d, d)."""
        d = self.X.shape[1]
        B = np.empty((K.shape[1], d, d))
        if self.products is not None:
            row, column = self.corner
            B[:, row, column] = B[:, column, row] = K.T @ self.products
        elif d >= WIDE:
            for block, root in zip(B, np.sqrt(K).T, strict=True):
                low = dsyrk(1.0, (self.XT * root).T, trans=1, lower=1)
                np.add(low, np.tril(low, -1).T, out=block)
        else:
            for j in range(0, len(B), CHUNK):
                B[j : j + CHUNK] = (self.XT * K.T[j : j + CHUNK, None, :]) @ self.X
        return B

    def gradient(self, U: np.ndarray, slopes: np.ndarray, point: _Point) -> np.ndarray:
        """The gradient in U (m, r), of neurons with `slopes` (n, m)."""
        G = ((slopes * point.slope[:, None]).T @ self.X) * self.signs[:, None]
        kept = self.X.shape[1] - self.design.free
        G[:, :kept] += self.problem.beta * U[:, :kept] / point.norms[:, None]
        return G


class _System:
    """The factored system of a step at one point."""

    def __init__(self, net: _Network, U: np.ndarray, point: _Point, damping: np.ndarray) -> None:
        problem = net.problem
        self.m, self.d = U.shape
        kept = self.d - net.design.free
        K = np.maximum(point.slope[:, None] * net.signs, 0.0) * point.curvature
        K /= net.reach[:, None] * net.sizes
        B = net.grams(K)
        #: what prediction adds to the gradient for every share that mu loses
        self.drift = np.einsum("jab,jb->ja", B, U)
        pull = problem.beta / point.norms
        unit = U[:, :kept] / point.norms[:, None]
        B[:, :kept, :kept] -= pull[:, None, None] * unit[:, :, None] * unit[:, None, :]
        i = np.arange(self.d)
        B[:, i[:kept], i[:kept]] += (pull * (1.0 + damping))[:, None]
        # A free bias lives at the scale of the data's reach.
        loose = pull * np.maximum(damping, 1e-2) / float(np.max(net.reach)) ** 2
        B[:, i[kept:], i[kept:]] += loose[:, None]
        self.blocks = B
        R = np.linalg.cholesky(B)
        wide = self.d >= WIDE
        self.inverse = np.stack([dtrtri(r, lower=1)[0] for r in R]) if wide else np.linalg.inv(R)
        root = np.sqrt(problem.loss.hessian(point.f, problem.y, problem.weights))
        self.Y = self._whitened(net, (point.slopes * (net.design.spread(root)[:, None] * net.signs)).T)
        if problem.intercept:  # the best constant follows: project it out
            q = (root / max(float(np.linalg.norm(root)), 1e-300)).astype(np.float32)
            self.Y -= np.outer(self.Y @ q, q)
        self.wide = self.Y.shape[1] <= self.Y.shape[0]
        M = self.Y.T @ self.Y if self.wide else self.Y @ self.Y.T
        M[np.diag_indices_from(M)] += 1.0
        self.factor = cho_factor(M, lower=True, overwrite_a=True, check_finite=False)

    def _whitened(self, net: _Network, A: np.ndarray) -> np.ndarray:
        """The rows ``R_j^-1 X' diag(A_j)`` of all neurons, with those of a sample added up, (m d, n)."""
        # Half precision of a step is plenty, and twice as fast.
        pool = net.design.pool
        n = A.shape[1] // pool
        Y = np.empty((self.m, self.d, n), np.float32)
        top = float(np.max(np.abs(self.inverse)))
        A = (A * (top * net.top)).astype(np.float32)
        for j in range(0, self.m, CHUNK):
            part = slice(j, j + CHUNK)
            inverse = (self.inverse[part].reshape(-1, self.d) / top).astype(np.float32)
            J = (inverse @ net.low).reshape(-1, self.d, n * pool)
            J *= A[part, None, :]
            Y[part] = J.reshape(-1, self.d, n, pool).sum(axis=3) if pool > 1 else J
        return Y.reshape(self.m * self.d, n)

    def solve(self, G: np.ndarray) -> np.ndarray:
        """Return the step ``-(B + J'WJ)^-1 G``, shape (m, r)."""
        h = np.einsum("jab,jb->ja", self.inverse, G).ravel()
        low = h.astype(np.float32)
        if self.wide:
            q = h - self.Y @ cho_solve(self.factor, low @ self.Y, check_finite=False)
        else:
            q = cho_solve(self.factor, low, check_finite=False).astype(np.float64)
        return -np.einsum("jba,jb->ja", self.inverse, q.reshape(self.m, self.d))


@dataclass(frozen=True, eq=False)
class _Aim:
    """A step, the mu it is for, the point and the gradient there, and its relative gain by the model."""

    mu: float
    point: _Point
    gradient: np.ndarray
    step: np.ndarray
    decrement: float

    @classmethod
    def of(
        cls, net: _Network, system: _System, U: np.ndarray, mu: float, end: float, point: _Point
    ) -> _Aim:
        """Correct at this mu or, where it is centred well enough, predict for a smaller one."""
        G = net.gradient(U, point.slopes, point)
        step, size = system.solve(G), max(abs(point.value), 1e-300)
        decrement = -0.5 * float(np.sum(G * step)) / size
        if mu <= end or decrement >= CENTRED * (point.value - net.at(U, 0.1 * mu).value) / size:
            return cls(mu, point, G, step, decrement)
        share = max(RATIO, end / mu)
        ahead = net.at(U, share * mu)
        step = system.solve(net.gradient(U, point.slopes, ahead) + (1.0 - share) * system.drift)
        return cls(share * mu, ahead, net.gradient(U, ahead.slopes, ahead), step, float("inf"))


@np.errstate(over="ignore", invalid="ignore")  # a search may try absurd steps
def follow(
    problem: Problem, design: Design, rows: Rows, mu: float, end: float, max_steps: int, tol: float = 1e-11
) -> Rows:
    """Follow the smoothed minimum from the band `mu` down to `end`.

    Parameters
    ----------
    problem : Problem
        Its loss has a Hessian.
    design : Design
    rows : Rows
        Near a minimum of the objective smoothed by `mu`.
    mu, end : float
        Relative half-widths of the band.
    max_steps : int
    tol : float
        Newton's decrement, as a share of the objective, that ends it.

    Returns
    -------
    Rows
        Without the neurons that went to zero, and with equal ones added up.
    """
    rows = _tidy(design, rows, mu)
    if len(rows.signs) == 0:
        return rows
    net, damping = _Network(problem, design), np.full(len(rows.signs), DAMPING)
    for _ in range(max_steps):
        net.hold(rows)
        point = net.at(rows.U, mu)
        try:
            system = _System(net, rows.U, point, damping)
        except np.linalg.LinAlgError:  # a block too flat for its rounding
            if np.min(damping) >= MOST:
                break
            damping = np.minimum(damping * HARDEN**3, MOST)
            continue
        aim = _Aim.of(net, system, rows.U, mu, end, point)
        if aim.decrement < tol:
            break
        mu = aim.mu
        U, shares = _search(net, system, rows.U, aim)
        if np.max(shares) == 0.0 and np.min(damping) >= MOST:
            break
        before, rows = len(U), _tidy(design, Rows(U, rows.signs), mu)
        if len(rows.signs) == 0:
            break
        if len(rows.signs) < before:
            damping = np.full(len(rows.signs), DAMPING)
            continue
        damping = eased(damping, shares)
    return _tidy(design, rows, min(mu, 1e-5))


def eased(damping: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Damp neurons less that took their whole step, and more those that took less than half of it."""
    damping = damping * np.where(shares == 1.0, EASE, np.where(shares >= 0.5, 1.0, HARDEN))
    return np.clip(damping, LEAST, MOST)


def _tidy(design: Design, rows: Rows, mu: float) -> Rows:
    """Drop neurons at zero, and add up equal ones: a minimum makes neurons equal before they rest in it."""
    sizes = design.norms(rows.U)
    kept = sizes > ZERO * np.max(sizes, initial=0.0)
    kept_rows = rows if np.all(kept) else Rows(rows.U[kept], rows.signs[kept])
    fused = merge(kept_rows, design, SAME * mu)
    return fused if len(fused.signs) < len(kept_rows.signs) else kept_rows


def _search(net: _Network, system: _System, U: np.ndarray, aim: _Aim) -> tuple[np.ndarray, np.ndarray]:
    """Shorten the step of every neuron until its model holds, then that of all until it pays.

    One neuron that would run over a row of kinks must not hold up the others. None loses more than nine
    tenths of itself at once.

    Returns
    -------
    U : ndarray of shape (m, r)
    shares : ndarray of shape (m,)
        Of the step, taken by each neuron.
    """
    mu, point, G, step = aim.mu, aim.point, aim.gradient, aim.step
    kept = U.shape[1] - net.design.free
    inward = -np.sum(U[:, :kept] * step[:, :kept], axis=1) / point.norms
    shares = np.minimum(1.0, 0.9 * point.norms / np.maximum(inward, 1e-300))
    first = np.sum(G * step, axis=1)
    second = np.einsum("ja,jab,jb->j", step, system.blocks, step)
    trust, left = np.ones(len(U)), np.arange(len(U))
    for _ in range(8):
        at = (shares * trust)[left]
        change = net.alone(U, (shares * trust)[:, None] * step, point.slope, mu, left)
        left = left[change > at * first[left] + at**2 * second[left] + 1e-15 * abs(point.value)]
        if len(left) == 0:
            break
        trust[left] *= 0.5
    step = (shares * trust)[:, None] * step
    descent = min(float(np.sum(G * step)), 0.0)
    t = 1.0
    for _ in range(8):
        if net.at(U + t * step, mu).value <= point.value + 1e-4 * t * descent:
            return U + t * step, t * trust
        t *= 0.5
    return U, np.zeros(len(U))
