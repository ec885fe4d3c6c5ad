r"""The best linear spline on given knots: a convex program with banded matrices.

In the values g at the knots, with the kinks and the first slope ``E g`` and the penalty R of
:mod:`cvxnn.spline`,

    minimise over g   L(H g) + beta R(g),        H linear interpolation.

R is a maximum of two linear functions of the parts of the kinks, so in nonnegative parts this is a program
that Mehrotra's predictor and corrector solves with one pentadiagonal factorisation a step; once the signs
of kinks and slopes are known, what is left is smooth and Newton's method ends at rounding errors. With a
squared loss only the moments of the data between knots enter.

References: Kim, Koh, Boyd and Gorinevsky, SIAM Review 2009 (banded interior point); Mehrotra, 1992.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

from .program import Problem

#: Interior-point steps for one set of knots.
STEPS = 80
#: Relative duality gap of the interior point.
INNER = 1e-13


def penalty(knots: np.ndarray, values: np.ndarray) -> float:
    """Return R, the least weight decay of a network with these values at the knots."""
    slopes = np.diff(values) / np.diff(knots)
    V = float(np.sum(np.abs(np.diff(slopes))))
    return max(V, 0.5 * (V + abs(float(slopes[0] + slopes[-1])))) if len(slopes) else 0.0


class Data:
    """The samples, in ascending order."""

    def __init__(self, problem: Problem, x: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        self.loss, self.beta = problem.loss, problem.beta
        self.x, self.y, self.s = x, y, s

    def value(self, knots: np.ndarray, values: np.ndarray) -> float:
        """The objective of a spline."""
        f = np.interp(self.x, knots, values)
        return self.loss.value(f, self.y, self.s) + self.beta * penalty(knots, values)


class Restricted:
    """The program on given knots, in positions scaled to [0, 1]."""

    def __init__(self, data: Data, knots: np.ndarray) -> None:
        self.data, self.size = data, float(knots[-1] - knots[0])
        self.knots = (knots - knots[0]) / self.size
        self.beta = data.beta / self.size
        self.h = np.diff(self.knots)
        at = (data.x - knots[0]) / self.size
        self.cell = np.clip(np.searchsorted(self.knots, at, side="right") - 1, 0, len(self.h) - 1)
        self.share = np.clip((at - self.knots[self.cell]) / self.h[self.cell], 0.0, 1.0)
        self.moments: tuple[np.ndarray, np.ndarray] | None = None
        self.constant = 0.5 * float(np.sum(data.s * data.y**2))
        if data.loss.name == "squared_error":
            self.moments = (self._gram(data.s), self._gather(data.s * data.y))

    def _gather(self, v: np.ndarray) -> np.ndarray:
        """``H'v``, shape (k,)."""
        k = len(self.knots)
        right = np.bincount(self.cell, self.share * v, k - 1)
        total = np.bincount(self.cell, v, k - 1)
        return np.append(total - right, 0.0) + np.append(0.0, right)

    def _gram(self, h: np.ndarray) -> np.ndarray:
        """``H' diag(h) H`` as a lower band, shape (3, k)."""
        k, w = len(self.knots), self.share
        band = np.zeros((3, k))
        both = np.bincount(self.cell, h * w * (1.0 - w), k - 1)
        band[0, :-1] += np.bincount(self.cell, h * (1.0 - w) ** 2, k - 1)
        band[0, 1:] += np.bincount(self.cell, h * w * w, k - 1)
        band[1, :-1] = both
        return band

    def smooth(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and banded Hessian of the loss in the values g."""
        if self.moments is not None:
            band, b = self.moments
            slope = band[0] * g - b
            slope[:-1] += band[1, :-1] * g[1:]
            slope[1:] += band[1, :-1] * g[:-1]
            return slope, band
        d = self.data
        f = (1.0 - self.share) * g[self.cell] + self.share * g[self.cell + 1]
        return self._gather(d.loss.gradient(f, d.y, d.s)), self._gram(d.loss.hessian(f, d.y, d.s))

    def slopes(self, g: np.ndarray) -> np.ndarray:
        return np.diff(g) / self.h

    def slopes_adjoint(self, c: np.ndarray) -> np.ndarray:
        c = c / self.h
        return np.append(0.0, c) - np.append(c, 0.0)

    def linear(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``E g``: the kinks, and the first slope at the end."""
        m = self.slopes(g)
        return np.diff(m), m[:1]

    def adjoint(self, kinks: np.ndarray, first: np.ndarray) -> np.ndarray:
        """``E'(kinks, first)``."""
        c = np.append(0.0, kinks) - np.append(kinks, 0.0)
        c[0] += first[0]
        return self.slopes_adjoint(c)

    def band(self, band: np.ndarray, v: np.ndarray) -> np.ndarray:
        """A banded matrix plus ``sum_j v_j D_j D_j'``."""
        out = band.copy()
        a, c = 1.0 / self.h[:-1], 1.0 / self.h[1:]
        b = -(a + c)
        out[0, :-2] += v * a * a
        out[0, 1:-1] += v * b * b
        out[0, 2:] += v * c * c
        out[1, :-2] += v * a * b
        out[1, 1:-1] += v * b * c
        out[2, :-2] += v * a * c
        return out

    def data_value(self, g: np.ndarray) -> float:
        """The objective of the values g."""
        return self.loss(g) + self.beta * penalty(self.knots, g)

    def loss(self, g: np.ndarray) -> float:
        """The loss of the values g."""
        d = self.data
        if self.moments is not None:
            slope, _ = self.smooth(g)
            return 0.5 * float(g @ (slope - self.moments[1])) + self.constant
        f = (1.0 - self.share) * g[self.cell] + self.share * g[self.cell + 1]
        return d.loss.value(f, d.y, d.s)

    def solve(self, g: np.ndarray) -> np.ndarray:
        """Minimise over the values by an interior-point method, from ``g``."""
        return _interior(self, g)

    def settle(self, g: np.ndarray) -> np.ndarray:
        """Minimise while the signs of kinks and end slopes stay: Newton's method on a smooth function."""
        return _settle(self, g)


def _interior(program: Restricted, g: np.ndarray) -> np.ndarray:
    """Mehrotra's predictor and corrector in the values and the kinks of either side and sign.

    Kinks are ``p+ - p- + q+ - q-`` (right, left) and the first slope is ``e+ - e- - sum(q+ - q-)``, all
    parts nonnegative with cost beta each; nu are the multipliers of these equations.
    """
    n, beta = len(g), program.beta
    kinks, first = program.linear(g)
    unit = (
        float(np.sum(np.abs(kinks)) + np.abs(first[0])) / max(1, n)
        + 1e-3 * float(np.ptp(program.data.y)) / n
    )
    z = [np.maximum(0.5 * sign * part, 0.0) + unit for part in (kinks, kinks, first) for sign in (1, -1)]
    nu, nu0 = np.zeros(n - 2), np.zeros(1)
    best, least = g, program.data_value(g)
    if unit == 0.0:
        return g  # constant targets: nothing is better than their constant
    count, idle = sum(len(part) for part in z), 0
    # the slacks beta -+ nu, beta -+ (nu - nu0), beta -+ nu0, kept apart: near zero a difference is noise
    s = [np.full(len(part), beta) for part in z]
    for _ in range(STEPS):
        slope, band = program.smooth(g)
        kinks, first = program.linear(g)
        r_g = slope + program.adjoint(nu, nu0)
        q = z[2] - z[3]
        r_nu = kinks - (z[0] - z[1] + q)
        r_0 = first - (z[4] - z[5]) + np.sum(q)
        mu = sum(float(a @ b) for a, b in zip(z, s, strict=True)) / count
        try:
            step = _Step(program, band, z, s)
        except LinAlgError:
            break
        target = [-a * b for a, b in zip(z, s, strict=True)]
        dg, dnu, dnu0, dz, ds = step.solve(r_g, r_nu, r_0, target)
        length = _length(z, dz, s, ds)
        after = sum(
            float((a + length * da) @ (b + length * db)) for a, da, b, db in zip(z, dz, s, ds, strict=True)
        )
        sigma = (after / count / mu) ** 3
        target = [sigma * mu - a * b - da * db for a, da, b, db in zip(z, dz, s, ds, strict=True)]
        dg, dnu, dnu0, dz, ds = step.solve(r_g, r_nu, r_0, target)
        length = _trusted(program, g, dg, slope, band, min(1.0, 0.995 * _length(z, dz, s, ds)))
        g, nu, nu0 = g + length * dg, nu + length * dnu, nu0 + length * dnu0
        z = [a + length * da for a, da in zip(z, dz, strict=True)]
        s = [b + length * db for b, db in zip(s, ds, strict=True)]
        value = program.data_value(g)
        idle = idle + 1 if value >= least * (1.0 - 1e-13) else 0
        if value < least:
            best, least = g, value
        if (mu * count <= INNER * abs(least) and idle > 1) or length < 1e-8:
            break
    return best


def _trusted(
    program: Restricted, g: np.ndarray, dg: np.ndarray, slope: np.ndarray, band: np.ndarray, length: float
) -> float:
    """Shorten a step until the loss is at most its model with twice the curvature.

    Newton's model of a logistic loss says nothing about where it is nearly flat: steps would leave it far.
    """
    if program.moments is not None:
        return length  # the model is the loss
    first, second = float(slope @ dg), float(band[0] @ dg**2)
    for k in (1, 2):
        second += 2.0 * float(band[k, :-k] @ (dg[:-k] * dg[k:]))
    base = program.loss(g)
    noise = 1e-13 * abs(base)
    while length > 1e-8:
        change = program.loss(g + length * dg) - base
        if change <= length * first + length**2 * second + noise:
            break
        length *= 0.5
    return length


def _length(z: list, dz: list, s: list, ds: list) -> float:
    """The largest step, up to just above 1, that keeps all parts nonnegative."""
    least = 1.0 / 0.995
    for a, da in [*zip(z, dz, strict=True), *zip(s, ds, strict=True)]:
        down = da < 0
        least = min(least, float(np.min(-a[down] / da[down], initial=np.inf)))
    return least


class _Step:
    """One factorisation: a pentadiagonal matrix and a matrix of rank one."""

    def __init__(self, program: Restricted, band: np.ndarray, z: list, s: list) -> None:
        self.program, self.z, self.s = program, z, s
        D = [a / b for a, b in zip(z, s, strict=True)]
        right, left, ends = D[0] + D[1], D[2] + D[3], D[4] + D[5]
        self.d = right + left
        # the matrix over the equations is an arrow: a diagonal, and the first slope's row and column
        self.tilt = left / self.d
        self.head = ends[0] + float(np.sum(self.tilt * right))
        matrix = program.band(band, 1.0 / self.d)
        matrix[0] += 1e-15 * np.max(matrix[0])
        self.factor = cholesky_banded(matrix, lower=True, check_finite=False)
        self.w = program.adjoint(self.tilt, np.ones(1)) / np.sqrt(self.head)
        self.v = self._banded(self.w)
        self.pivot = 1.0 + float(self.w @ self.v)

    def _banded(self, r: np.ndarray) -> np.ndarray:
        return cho_solve_banded((self.factor, True), r, check_finite=False)

    def _arrow(self, kinks: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of the arrow matrix times ``(kinks, first)``."""
        top = (first + self.tilt @ kinks) / self.head
        return kinks / self.d + self.tilt * top, top

    def solve(self, r_g: np.ndarray, r_nu: np.ndarray, r_0: np.ndarray, target: list) -> tuple:
        """The Newton direction (g, nu, nu0, z, s) for the given residuals and products z s."""
        program = self.program
        part = [t / b for t, b in zip(target, self.s, strict=True)]
        q = part[2] - part[3]
        e_nu = r_nu - (part[0] - part[1] + q)
        e_0 = r_0 - (part[4] - part[5]) + np.sum(q)
        rhs = -r_g - program.adjoint(*self._arrow(e_nu, e_0))
        dg = self._banded(rhs)
        dg = dg - self.v * (float(self.w @ dg) / self.pivot)
        kinks, first = program.linear(dg)
        dnu, dnu0 = self._arrow(kinks + e_nu, first + e_0)
        ds = [-dnu, dnu, -dnu + dnu0, dnu - dnu0, -dnu0, dnu0]
        dz = [p - a / b * d for p, a, b, d in zip(part, self.z, self.s, ds, strict=True)]
        return dg, dnu, dnu0, dz, ds


def _settle(program: Restricted, g: np.ndarray) -> np.ndarray:
    """Newton's method for the loss plus the linear function that beta R is near ``g``.

    Where ``|S| = V`` to rounding both pieces of R are tried in turn by the caller's choice of the better.
    """
    kinks, m = np.diff(program.slopes(g)), program.slopes(g)
    V, S = float(np.sum(np.abs(kinks))), float(m[0] + m[-1])
    ends = np.zeros(len(m))
    ends[[0, -1]] += 1.0
    turn = program.adjoint(np.sign(kinks), np.zeros(1))
    pull = np.sign(S) * program.slopes_adjoint(ends if len(m) > 1 else np.array([2.0]))
    plans = [(turn, None), (0.5 * (turn + pull), None), (turn, pull - turn)]
    near = abs(abs(S) - V) <= 1e-6 * (V + abs(S))
    best, least = g, program.data_value(g)
    for k, (linear, equal) in enumerate(plans):
        if not near and k != (0 if abs(S) < V else 1):
            continue
        x = g
        try:
            for _ in range(30):
                step = _newton_step(program, x, program.beta * linear, equal)
                x = x + step
                if np.max(np.abs(step)) <= 1e-15 * (np.max(np.abs(x)) + 1e-300):
                    break
        except LinAlgError:
            continue
        value = program.data_value(x)
        if value <= least:
            best, least = x, value
    return best


def _newton_step(
    program: Restricted, x: np.ndarray, linear: np.ndarray, equal: np.ndarray | None
) -> np.ndarray:
    """A Newton step, onto ``equal @ x == 0`` where that is asked for."""
    slope, band = program.smooth(x)
    band = band.copy()
    band[0] += 1e-15 * np.max(band[0])
    factor = cholesky_banded(band, lower=True, check_finite=False)
    step = -cho_solve_banded((factor, True), slope + linear, check_finite=False)
    if equal is None:
        return step
    turn = cho_solve_banded((factor, True), equal, check_finite=False)
    if not float(equal @ turn) > 0.0:
        raise LinAlgError("the two pieces of the penalty are one")
    return step - turn * (float(equal @ (x + step)) / float(equal @ turn))
