r"""One input and free biases: the best spline, exactly, at any number of samples.

On a line a network with free biases is a linear spline, and only its values at the samples matter. With
the slopes ``m_1 ... m_(k-1)`` between knots ``t_1 < ... < t_k``, kinks ``D_j = m_j - m_(j-1)``, the least
weight decay of a network with these values is

    R = max( V, (V + |S|) / 2 ),        V = sum_j |D_j|,   S = m_1 + m_(k-1):

a kink may open to the right or to the left at the same cost ``|D_j|``, and what the slopes at the ends need
beyond that is one linear neuron. Training is therefore

    minimise over the values g at the knots   L(H g) + beta R(g),        H linear interpolation,

a convex program with banded matrices: the Lasso over the kinks ``(x - x_j)_+`` and ``(x_j - x)_+``. Few
samples become knots; they are found by pricing all samples in O(n) (:func:`cvxnn.planar.kink_prices`),
adding the worst of every run that prices out, and solving again by an interior-point method whose step is
one pentadiagonal solve. With a squared loss only the moments of the data between knots enter.

References: Ergen and Pilanci, JMLR 2021 (the Lasso); Savarese, Evron, Soudry and Srebro, COLT 2019 (the
norm, here with its ends free); Kim, Koh, Boyd and Gorinevsky, SIAM Review 2009 (banded interior point).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

from .planar import kink_prices
from .program import Problem

__all__ = ["Spline", "fit_spline", "kinks_of", "penalty"]

#: Interior-point steps for one set of knots, and rounds of adding knots.
STEPS, ROUNDS = 80, 60
#: Relative duality gap of the interior point.
INNER = 1e-13


@dataclass(frozen=True, eq=False)
class Spline:
    """A linear spline: values at knots, constant slope beyond.

    Parameters
    ----------
    knots, values : ndarrays of shape (k,)
        Knots ascending; the first and the last sample are among them.
    Z : ndarray of shape (n,)
        The dual variable of its values at the samples.
    gap : float
        Relative duality gap against all networks, of any width.
    n_iter : int
        Rounds of adding knots.
    """

    knots: np.ndarray
    values: np.ndarray
    Z: np.ndarray
    gap: float
    n_iter: int


def penalty(knots: np.ndarray, values: np.ndarray) -> float:
    """Return R, the least weight decay of a network with these values at the knots."""
    slopes = np.diff(values) / np.diff(knots)
    V = float(np.sum(np.abs(np.diff(slopes))))
    return max(V, 0.5 * (V + abs(float(slopes[0] + slopes[-1])))) if len(slopes) else 0.0


def kinks_of(knots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the neurons of least cost of a spline.

    Every kink becomes one neuron that opens to the right or to the left, one of them two where the slope
    at the left end asks for it; a linear neuron carries the rest.

    Returns
    -------
    at : ndarray of shape (m,)
        Positions of the kinks.
    side : ndarray of shape (m,)
        +1 for ``(x - at)_+`` and -1 for ``(at - x)_+``.
    size : ndarray of shape (m,)
        Signed; the sum of absolute values is :func:`penalty`.
    """
    slopes = np.diff(values) / np.diff(knots)
    if len(slopes) == 0:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    kinks, at = np.diff(slopes), knots[1:-1]
    # -(what kinks to the left of themselves add) is the slope at the left end
    need = -float(slopes[0])
    willing = np.where(np.sign(kinks) == np.sign(need), np.abs(kinks), 0.0)
    before = np.cumsum(willing) - willing
    left = np.sign(need) * np.clip(abs(need) - before, 0.0, willing)
    rest = float(slopes[0] + np.sum(left))
    position = np.concatenate([at, at, knots[:1]])
    size = np.concatenate([kinks - left, left, [rest]])
    side = np.concatenate([np.ones(len(at)), -np.ones(len(at)), [1.0]])
    kept = np.abs(size) > 1e-14 * float(np.sum(np.abs(size)))
    return position[kept], side[kept], size[kept]


def fit_spline(problem: Problem, tol: float = 1e-12) -> Spline:
    """Return the best spline of a problem with one input, free biases and an intercept.

    Parameters
    ----------
    problem : Problem
        ``X`` of shape (n, 1).
    tol : float
        Relative duality gap, against networks of every width.
    """
    order = np.argsort(problem.X[:, 0], kind="stable")
    x, y, s = problem.X[order, 0], problem.y[order], problem.weights[order]
    places = np.unique(x)
    c = problem.loss.intercept(np.zeros_like(y), y, s)
    data = _Data(problem, x, y, s)
    knots = places[np.unique(np.linspace(0, len(places) - 1, min(8, len(places))).astype(int))]
    values = np.full(len(knots), c)
    best: Spline | None = None
    least, idle = float("inf"), 0
    for k in range(1, ROUNDS + 1):
        values = _Restricted(data, knots).solve(values) if len(knots) > 1 else values
        knots, values = _used(data, knots, values)
        f = np.interp(x, knots, values)
        value = problem.loss.value(f, y, s) + problem.beta * penalty(knots, values)
        Z = problem.loss.balance(-problem.loss.gradient(f, y, s))
        prices = np.maximum(*np.abs(kink_prices(x, Z)))
        price = float(np.max(prices))
        limit = problem.beta / price if price > 0 else float("inf")
        bound = problem.loss.dual(problem.loss.best_scale(Z, y, s, limit) * Z, y, s)
        gap = max(0.0, value - bound) / max(abs(value), 1e-300)
        if best is None or gap < best.gap:
            full = np.empty_like(Z)
            full[order] = Z
            best = Spline(knots, values, full, gap, k)
        idle = idle + 1 if value >= least * (1.0 - 1e-14) else 0
        least = min(least, value)
        fresh = np.setdiff1d(x[_worst(prices, problem.beta)], knots)
        if gap <= tol or idle > 2 or len(fresh) == 0:
            break
        grown = np.union1d(knots, fresh)
        knots, values = grown, np.interp(grown, knots, values)
    assert best is not None
    return best


def _worst(prices: np.ndarray, beta: float) -> np.ndarray:
    """The place of the largest price in every run of samples that price out."""
    out = prices > beta * (1.0 + 1e-13)
    starts = np.flatnonzero(out & ~np.append(False, out[:-1]))
    ends = np.flatnonzero(out & ~np.append(out[1:], False)) + 1
    peaks = [a + int(np.argmax(prices[a:b])) for a, b in zip(starts, ends, strict=True)]
    return np.array(peaks, dtype=int)


def _used(data: _Data, knots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the knots without a kink, as many as cost nothing, and settle the values of the others."""
    if len(knots) <= 2:
        return knots, values
    kinks = np.abs(np.diff(np.diff(values) / np.diff(knots)))
    least, best, tried = data.value(knots, values), (knots, values), -1
    for cut in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3):
        kept = np.concatenate([[True], kinks > cut * np.sum(kinks), [True]])
        if np.sum(kept) == tried:
            continue
        tried = int(np.sum(kept))
        fewer, settled = knots[kept], _Restricted(data, knots[kept]).settle(values[kept])
        value = data.value(fewer, settled)
        if value <= least + 1e-14 * abs(least):
            least, best = min(value, least), (fewer, settled)
    return best


class _Data:
    """The samples, in ascending order."""

    def __init__(self, problem: Problem, x: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        self.loss, self.beta = problem.loss, problem.beta
        self.x, self.y, self.s = x, y, s

    def value(self, knots: np.ndarray, values: np.ndarray) -> float:
        """The objective of a spline."""
        f = np.interp(self.x, knots, values)
        return self.loss.value(f, self.y, self.s) + self.beta * penalty(knots, values)


class _Restricted:
    """The program on given knots, in positions scaled to [0, 1]."""

    def __init__(self, data: _Data, knots: np.ndarray) -> None:
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
        return self._loss(g) + self.beta * penalty(self.knots, g)

    def _loss(self, g: np.ndarray) -> float:
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


def _interior(program: _Restricted, g: np.ndarray) -> np.ndarray:
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
        length = min(1.0, 0.995 * _length(z, dz, s, ds))
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


def _length(z: list, dz: list, s: list, ds: list) -> float:
    """The largest step, up to just above 1, that keeps all parts nonnegative."""
    least = 1.0 / 0.995
    for a, da in [*zip(z, dz, strict=True), *zip(s, ds, strict=True)]:
        down = da < 0
        least = min(least, float(np.min(-a[down] / da[down], initial=np.inf)))
    return least


class _Step:
    """One factorisation: a pentadiagonal matrix and a matrix of rank one."""

    def __init__(self, program: _Restricted, band: np.ndarray, z: list, s: list) -> None:
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


def _settle(program: _Restricted, g: np.ndarray) -> np.ndarray:
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
    program: _Restricted, x: np.ndarray, linear: np.ndarray, equal: np.ndarray | None
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
