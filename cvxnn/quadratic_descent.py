r"""Descent on neurons with a quadratic activation, without constraints.

A neuron of norm one with its amount alpha > 0 is one free vector ``v = sqrt(alpha) u``: with ``t = x'v``
and ``r = ||v||`` its output and its penalty

    alpha h(u) = a t^2 + b r t + c r^2,       alpha = r^2

have no constraint left. These are the factors of the semidefinite matrices of the convex program (Burer
and Monteiro). Where prices are below beta a neuron that is not needed goes to zero as a quadratic
function does, so superfluous neurons do no harm. L-BFGS comes first, Newton's method with conjugate
gradients finishes: dual variables have to be as exact as the gap that they are to prove.

References: Burer and Monteiro, Math. Prog. 2003; Bartan and Pilanci, Math. Prog. 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from .program import Problem
from .quadratic_units import Neurons, QuadraticUnits, Quoted
from .truncated_newton import minimise

#: Steps of L-BFGS between two looks at the clock, stretches of them, and products with the Hessian that
#: finish.
STEPS, STRETCHES, PRODUCTS = 200, 20, 400


class Descent:
    """The objective of neurons ``v`` and constants, for minimisers: value, gradient, Hessian times vector.

    Parameters
    ----------
    problem : Problem
        With a smooth loss.
    units : QuadraticUnits
    neurons : Neurons
        Their windows, outputs and signs stay.
    """

    def __init__(self, problem: Problem, units: QuadraticUnits, neurons: Neurons) -> None:
        self.problem, self.units, self.neurons = problem, units, neurons
        self.free = int(np.prod(problem.y.shape[1:], dtype=int)) if problem.intercept else 0
        self.S = units.selector(neurons)

    def pack(self, neurons: Neurons, c: np.ndarray | float) -> np.ndarray:
        """Return the unknowns of neurons and constants."""
        constants = np.ravel(c) if self.free else np.zeros(0)
        return np.concatenate([neurons.V.ravel(), constants])

    def unpack(self, x: np.ndarray) -> Neurons:
        """Return the neurons of the unknowns."""
        return replace(self.neurons, V=x[: self.neurons.V.size].reshape(self.neurons.V.shape).copy())

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Move to ``x``; return the objective and its gradient."""
        problem, units = self.problem, self.units
        self.V = x[: self.neurons.V.size].reshape(self.neurons.V.shape)
        here = replace(self.neurons, V=self.V)
        self.r = np.maximum(np.linalg.norm(self.V, axis=1), 1e-150)
        self.T = [X @ self.V[part].T for part, X in units.parts(here)]
        H = np.empty((units.n, len(here)))
        for (part, _), T in zip(units.parts(here), self.T, strict=True):
            H[:, part] = units.activate(T, self.r[part])
        f = units.predict(here, H)
        if self.free:
            f = f + (x[-1] if f.ndim == 1 else x[-self.free :])
        with np.errstate(over="ignore", invalid="ignore"):
            value = problem.value(f, here.cost)
            slope = problem.loss.gradient(f, problem.y, problem.weights)
        if not np.isfinite(value):
            return float("inf"), np.zeros_like(x)
        self.f, self.slope = f, slope
        self.each = self._per_neuron(slope)
        G = 2.0 * problem.beta * self.V
        for (part, X), T in zip(units.parts(here), self.T, strict=True):
            G[part] += self._pull(part, X, T, self.each[:, part])
        return value, self._joined(G, slope)

    def _per_neuron(self, slope: np.ndarray) -> np.ndarray:
        """What a slope in the prediction is for each neuron's output, (n, m)."""
        return slope.reshape(len(slope), -1) @ self.S.T

    def _joined(self, G: np.ndarray, slope: np.ndarray) -> np.ndarray:
        constants = np.ravel(np.sum(slope, axis=0)) if self.free else np.zeros(0)
        return np.concatenate([G.ravel(), constants])

    def _spread(self, R: np.ndarray) -> np.ndarray:
        """Repeat (n, m) for every patch, with the scale of the pooling."""
        R = R if self.units.scale == 1.0 else self.units.scale * R
        return R if self.units.patches == 1 else np.repeat(R, self.units.patches, axis=0)

    def _pull(self, part: slice, X: np.ndarray, T: np.ndarray, R: np.ndarray) -> np.ndarray:
        """``sum_i R_ij dh_ij / dv_j``, shape (m, f)."""
        a, b, c = self.units.coefficients
        R, r, V = self._spread(R), self.r[part], self.V[part]
        along = b * np.einsum("nm,nm->m", R, T) / r + 2.0 * c * np.sum(R, axis=0)
        return (R * (2.0 * a * T + b * r)).T @ X + along[:, None] * V

    def curve(self, p: np.ndarray) -> np.ndarray:
        """Return the Hessian at the current point times ``p``."""
        problem, units = self.problem, self.units
        a, b, c = units.coefficients
        P = p[: self.V.size].reshape(self.V.shape)
        here = replace(self.neurons, V=self.V)
        dr = np.sum(self.V * P, axis=1) / self.r
        dT = [X @ P[part].T for part, X in units.parts(here)]
        dH = np.empty((units.n, len(P)))
        for (part, _), T, D in zip(units.parts(here), self.T, dT, strict=True):
            r, d = self.r[part], dr[part]
            change = 2.0 * a * T * D + b * (d * T + r * D)
            dH[:, part] = units.pool(change) + units.scale * units.patches * 2.0 * c * r * d
        df = units.predict(here, dH)
        if self.free:
            df = df + (p[-1] if df.ndim == 1 else p[-self.free :])
        y, s = problem.y, problem.weights
        if df.ndim == 1:
            bend = problem.loss.hessian(self.f, y, s) * df
        else:
            bend = problem.loss.curve(self.f, y, s, df)  # type: ignore[attr-defined]
        out = 2.0 * problem.beta * P
        turned = self._per_neuron(bend)
        for (part, X), T, D in zip(units.parts(here), self.T, dT, strict=True):
            r, d, R = self.r[part], dr[part], self._spread(self.each[:, part])
            out[part] += self._pull(part, X, T, turned[:, part])
            out[part] += (R * (2.0 * a * D + b * d)).T @ X
            RT, RD = np.einsum("nm,nm->m", R, T), np.einsum("nm,nm->m", R, D)
            total = np.sum(R, axis=0)
            out[part] += (b * (RD / r - RT * d / r**2))[:, None] * self.V[part]
            out[part] += (b * RT / r + 2.0 * c * total)[:, None] * P[part]
        return self._joined(out, bend)

    def metric(self) -> np.ndarray:
        """Positive numbers of about the size of the Hessian's diagonal: here all alike."""
        return np.ones(self.V.size + self.free)


def descend(
    problem: Problem, units: QuadraticUnits, neurons: Neurons, tol: float, finish: bool = True
) -> Iterator[Neurons]:
    """Minimise over the neurons from where they are; yields after every stretch.

    Parameters
    ----------
    problem : Problem
        With a smooth loss.
    units : QuadraticUnits
    neurons : Neurons
    tol : float
        Relative decrease of a stretch below which Newton's method takes over.
    finish : bool
        Whether it does; else descent ends there.
    """
    function = Descent(problem, units, neurons)
    c = problem.loss.intercept(units.predict(neurons), problem.y, problem.weights) if function.free else 0.0
    x = function.pack(neurons, c)
    value = function.at(x)[0]
    for _ in range(STRETCHES):
        options = {"maxiter": STEPS, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-13 * abs(value)}
        found = minimize(function.at, x, jac=True, method="L-BFGS-B", options=options)
        if not np.isfinite(found.fun) or found.fun > value:
            break
        gained, x, value = value - float(found.fun), found.x, float(found.fun)
        yield function.unpack(x)
        if found.nit < STEPS or gained <= tol * abs(value):
            break
    if not finish:
        return
    x = minimise(function, x, max_iter=20, max_products=PRODUCTS, tol=1e-10)
    yield function.unpack(x)


def insertion(problem: Problem, units: QuadraticUnits, neurons: Neurons, found: Quoted) -> Neurons:
    """Add neurons that are worth more than beta, with the amount that is best for all of them together."""
    better = found.prices > problem.beta * (1.0 + 1e-12)
    new = found.neurons.choose(better)
    if not len(new):
        return neurons
    share = found.prices[better] / problem.beta - 1.0
    new = replace(new, V=new.V * np.sqrt(share / np.max(share))[:, None])
    new = new.choose(np.argsort(new.window, kind="stable"))
    f, push, y, s = units.predict(neurons), units.predict(new), problem.y, problem.weights
    if problem.intercept:
        f = f + problem.loss.intercept(f, y, s)

    def slope(t: float) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            G = problem.loss.gradient(f + t * push, y, s)
            return (
                float(np.nan_to_num(np.sum(G * push), nan=np.inf, posinf=np.inf)) + problem.beta * new.cost
            )

    high = 1.0 / max(float(np.max(np.abs(push))), 1e-300)
    low = 0.0
    for _ in range(200):
        if slope(high) >= 0:
            break
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    # half of it: the others will give way
    t = 0.5 * (low + high)
    return neurons.join(replace(new, V=new.V * np.sqrt(t)))
