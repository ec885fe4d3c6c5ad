r"""Networks with several outputs on large data: mini-batches first, then sums over all data in pieces.

With tens of thousands of samples a step of descent on all of them is expensive, and most of it is wasted
while neurons are far from where they end. So the weights of

    minimise over U, V, c   L( sum_j (X u_j)_+ v_j' + c ) + beta/2 * sum_j (|u_j|^2 + |v_j|^2)

first follow the gradients of small batches (:func:`stir`), with momentum and steps relative to the recent
size of the gradient: one size for each neuron and layer, so that nothing depends on the coordinates of the
data. The step length falls to zero along a cosine, after which few patterns still change. Then L-BFGS takes
all samples at once (:func:`sweep`). With so many samples the kinks of the ReLU are dense, and the objective
is as good as smooth: there is no band as in :mod:`cvxnn.vector_descent`.

Both multiply in single precision, `PIECE` numbers at a time, so that nothing of the size samples
times neurons is ever kept. What they return is judged in float64 elsewhere, and trusted by no certificate.

References: Kingma and Ba, "Adam", ICLR 2015; Zhang et al., "Adam-mini", ICLR 2025 (one size a neuron);
Loshchilov and Hutter, "SGDR", ICLR 2017 (the cosine); Nocedal and Wright, Numerical Optimization,
chapter 7.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .design import Design
from .program import Problem
from .vector_growth import Coupling, Rows

#: Numbers in a piece of the hidden layer: 16 MB in single precision.
PIECE = 1 << 22
#: Samples of a batch, longest step relative to the size of the gradient, and share of steps to reach it.
BATCH, RATE, WARM = 256, 3e-3, 0.02
#: Memories of the mean gradient and of its size.
MEAN, SIZE = 0.9, 0.99
#: Curvature pairs that L-BFGS keeps.
PAIRS = 10


@dataclass(eq=False)
class Weights:
    """A network in single precision: U (m, r), output weights V (m, outputs), constants c.

    The last `linear` neurons pass x'u on as it is.
    """

    U: np.ndarray
    V: np.ndarray
    c: np.ndarray
    linear: int = 0

    @classmethod
    def of(cls, rows: Rows, design: Design) -> Weights:
        """Balanced weights of rows, the linear ones last, with zero constants."""
        rows = rows.take(np.argsort(rows.linear, kind="stable"))
        root = np.sqrt(design.norms(rows.U))[:, None]
        V = (rows.G * root).astype(np.float32)
        c = np.zeros(V.shape[1], np.float32)
        return cls((rows.U / root).astype(np.float32), V, c, int(np.sum(rows.linear)))

    def rows(self, design: Design) -> Rows:
        """The rows in double precision."""
        linear = np.arange(len(self.U)) >= self.bent
        return Rows.of(self.U.astype(np.float64), self.V.astype(np.float64), design, Coupling.joint, linear)

    @property
    def bent(self) -> int:
        """The number of neurons that are not linear; they come first."""
        return len(self.U) - self.linear

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three arrays, in turn."""
        return self.U, self.V, self.c


class Samples:
    """The data in single precision, and gradients of the loss on some of them or on all.

    Parameters
    ----------
    problem : Problem
    design : Design
    """

    def __init__(self, problem: Problem, design: Design) -> None:
        self.problem, self.total = problem, problem.total_weight
        self.X = design.X.astype(np.float32)
        self.y, self.s = problem.y.astype(np.float32), problem.weights.astype(np.float32)
        self.alpha = np.float32(problem.beta / self.total)

    def batch(self, rows: np.ndarray, at: Weights) -> tuple[np.ndarray, ...]:
        """The gradients in U, V and c of the objective per sample, the loss estimated on `rows`."""
        x, s = self.X[rows], self.s[rows]
        H, bent = x @ at.U.T, slice(at.bent)
        np.maximum(H[:, bent], 0.0, out=H[:, bent])
        G = self.problem.loss.gradient(H @ at.V + at.c, self.y[rows], s)
        G *= np.float32(1.0 / max(float(np.sum(s)), 1e-30))
        back = G @ at.V.T
        back[:, bent] *= H[:, bent] > 0
        gc = np.sum(G, axis=0) if self.problem.intercept else np.zeros_like(at.c)
        return back.T @ x + self.alpha * at.U, H.T @ G + self.alpha * at.V, gc

    def all(self, at: Weights) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """The loss of all samples, summed in double precision, and its gradients in U, V and c."""
        loss, y, s = self.problem.loss, self.problem.y, self.problem.weights
        gU, gV = np.zeros(at.U.shape), np.zeros(at.V.shape)
        gc, value = np.zeros(at.c.shape), 0.0
        count, bent = max(1, PIECE // max(1, len(at.U))), slice(at.bent)
        for k in range(0, len(self.X), count):
            part = slice(k, k + count)
            H = self.X[part] @ at.U.T
            np.maximum(H[:, bent], 0.0, out=H[:, bent])
            f = (H @ at.V + at.c).astype(np.float64)
            value += loss.value(f, y[part], s[part])
            G = loss.gradient(f, y[part], s[part])
            gc += np.sum(G, axis=0)
            G = G.astype(np.float32)
            back = G @ at.V.T
            back[:, bent] *= H[:, bent] > 0
            gU += back.T @ self.X[part]
            gV += H.T @ G
        return value, gU, gV, gc


def stir(
    samples: Samples,
    at: Weights,
    epochs: int,
    random_state: np.random.Generator,
    deadline: float = float("inf"),
) -> Iterator[float]:
    """Descend on mini-batches, in place; yields the share that is done after every epoch.

    Parameters
    ----------
    samples : Samples
    at : Weights
        Changed in place.
    epochs : int
        Passes over the data.
    random_state : numpy.random.Generator
    deadline : float
        Of :func:`time.perf_counter`: where passes are too slow for it there are fewer, and the steps shrink
        to zero all the same.
    """
    n = len(samples.X)
    count = max(1, n // BATCH)
    means = [np.zeros_like(part) for part in at.parts]
    sizes = [np.zeros((len(part), 1), np.float32) for part in (at.U, at.V)] + [np.zeros(1, np.float32)]
    began, took, total = time.perf_counter(), 0, max(1, epochs) * count
    while took < total:
        for rows in np.array_split(random_state.permutation(n), count):
            took += 1
            share = took / total
            rate = RATE * min(1.0, share / WARM) * 0.5 * (1.0 + np.cos(np.pi * share))
            rate *= np.sqrt(1.0 - SIZE**took) / (1.0 - MEAN**took)
            for part, slope, mean, size in zip(
                at.parts, samples.batch(rows, at), means, sizes, strict=True
            ):
                mean *= np.float32(MEAN)
                mean += np.float32(1.0 - MEAN) * slope
                square = np.mean(slope * slope, axis=-1, keepdims=True)
                size *= np.float32(SIZE)
                size += np.float32(1.0 - SIZE) * square
                part -= np.float32(rate) * mean / (np.sqrt(size) + np.float32(1e-12))
        spent = time.perf_counter() - began
        left = max(0.0, deadline - time.perf_counter())
        # so many more passes fit: the cosine is shortened, never cut off
        fits = took + count * int(min(epochs, left / (spent * count / took)))
        total = max(took, min(total, fits))
        yield took / total


def sweep(
    samples: Samples, at: Weights, max_iter: int, tol: float, deadline: float = float("inf")
) -> Weights:
    """Run L-BFGS on all samples.

    Parameters
    ----------
    samples : Samples
    at : Weights
        Where to start.
    max_iter : int
    tol : float
        Relative decrease of an iteration below which it stops.
    deadline : float
        Of :func:`time.perf_counter`.
    """
    shapes = [part.shape for part in at.parts]
    ends = np.cumsum([part.size for part in at.parts])
    beta, intercept = samples.problem.beta, samples.problem.intercept

    def parts(v: np.ndarray) -> list[np.ndarray]:
        cut = np.split(v, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(cut, shapes, strict=True)]

    scale = 1.0 / max(samples.total, 1e-300)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        U, V, c = parts(v)
        low = Weights(U.astype(np.float32), V.astype(np.float32), c.astype(np.float32), at.linear)
        value, gU, gV, gc = samples.all(low)
        value += 0.5 * beta * float(np.sum(U * U) + np.sum(V * V))
        gc = gc if intercept else np.zeros_like(gc)
        slope = np.concatenate([(gU + beta * U).ravel(), (gV + beta * V).ravel(), gc])
        return scale * value, scale * slope

    def watch(v: np.ndarray) -> None:
        if time.perf_counter() > deadline:
            raise StopIteration

    first = np.concatenate([part.ravel() for part in at.parts]).astype(np.float64)
    options: dict[str, Any] = {"maxiter": max_iter, "maxcor": PAIRS, "ftol": tol, "gtol": 1e-12}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options, callback=watch).x
    U, V, c = parts(found if np.all(np.isfinite(found)) else first)
    return Weights(U, V, c, at.linear)
