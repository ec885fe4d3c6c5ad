r"""Neurons that take the largest output of all rows of a sample: what they compute, and how they are moved.

A neuron u computes ``h_i(u) = max_k (x_ik'u)_+``. Near a generic u it is linear, ``h = S(u) u`` with the
rows of the largest positions (zero where that is negative): *selected* rows. It has *kinks* where a sample
has two positions with the largest value, or its largest value is zero; on the subspace where they stay, S
is constant near u and the training objective is smooth.

*Descent* runs L-BFGS on the network as it is, which ends near kinks; *holding* guesses which they are, from
wide to narrow, and converges on their subspace by Newton's method. *Weighing* solves for the best sizes of
neurons whose directions are held (:mod:`cvxnn.positive_lasso`): where samples differ in scale by powers of
ten, descent leaves residuals on the largest, and a search would find nothing but those. *Search* ascends
``|Z'h(u)|`` from many starts and takes on the subspace of the kinks of an end the best vector of all, a top
eigenvector. None of this is trusted by a certificate.

References: :mod:`cvxnn.vector_descent`; Ergen and Pilanci, ICLR 2021 (max pooling).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from .design import Design
from .losses import VectorLoss
from .patches import spread
from .positive_lasso import affordable, positive_lasso
from .pricing import draw_starts, unit_rows
from .program import Problem
from .vector_descent import settle
from .vector_growth import ZERO, Coupling, Rows, apart, merge, span
from .vector_growth import insert as insert_by_descent
from .vector_pricing import VectorNeurons

#: Relative distances to a kink that count as on it, from wide to narrow.
NEAR = (3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-6)
#: Steps of ascent, and neurons that are polished.
STEPS, POLISHED = 60, 24
#: Distance below which neurons are one.
SAME = 1e-5


@dataclass(frozen=True, eq=False)
class MaxDesign(Design):
    """A design whose neurons take the largest of what they compute on the rows of a sample, if positive."""

    def outputs(self, U: np.ndarray) -> np.ndarray:
        """What neurons ``U`` (k, r) compute on the data, shape (samples, k)."""
        return np.maximum(np.max(self._values(U), axis=1), 0.0)

    def _values(self, U: np.ndarray) -> np.ndarray:
        return (self.X @ U.T).reshape(self.samples, self.pool, len(U))

    def chosen(self, U: np.ndarray) -> np.ndarray:
        """Which rows neurons take, a bool array (rows, k): of a sample one, or none where all are off."""
        T = self._values(U)
        first = np.argmax(T, axis=1)[:, None, :] == np.arange(self.pool)[None, :, None]
        return (first & (T > 0)).reshape(len(self.X), len(U))

    def selected(self, U: np.ndarray) -> np.ndarray:
        """The rows that neurons take, zero where all are off, shape (k, samples, r)."""
        T, rows = self._values(U), self.X.reshape(self.samples, self.pool, -1)
        best = np.argmax(T, axis=1)
        on = np.take_along_axis(T, best[:, None, :], axis=1)[:, 0] > 0
        return np.asarray((rows[np.arange(self.samples)[:, None], best] * on[:, :, None]).swapaxes(0, 1))

    def kinks(self, u: np.ndarray, near: float) -> np.ndarray:
        """The vectors (q, r) to which a neuron within `near` of kinks is orthogonal on them."""
        rows = self.X.reshape(self.samples, self.pool, -1)
        lengths = np.linalg.norm(rows, axis=2)
        reach = near * np.linalg.norm(u) * np.max(lengths, axis=1)
        T = rows @ u
        top = np.max(T, axis=1)
        found = []
        for i in range(self.samples):
            tied = np.flatnonzero((T[i] >= top[i] - reach[i]) & (lengths[i] > 0))
            if abs(top[i]) <= reach[i]:
                found.append(rows[i, tied])
            elif top[i] > 0:
                found.append(rows[i, tied[1:]] - rows[i, tied[0]])
        return np.concatenate(found) if found else rows[0, :0]


def priced(design: Design, Z: np.ndarray, U: np.ndarray) -> VectorNeurons:
    """Return unit neurons ``U`` (k, r) with their best outputs, best first."""
    C = design.outputs(U).T @ Z
    values = np.linalg.norm(C, axis=1)
    order = np.argsort(-values, kind="stable")
    order = order[values[order] > 0]
    return VectorNeurons(values[order], U[order], C[order] / values[order, None])


def search_max(
    design: MaxDesign,
    Z: np.ndarray,
    *,
    starts: np.ndarray,
    n_random: int,
    random_state: np.random.Generator,
) -> VectorNeurons:
    """Search for the unit neurons that correlate most with ``Z`` (samples, outputs)."""
    if not np.any(Z) or not np.any(design.X):
        return VectorNeurons.none(design.X.shape[1], Z.shape[1])
    weight = spread(np.linalg.norm(Z, axis=1), design.pool)
    U = draw_starts(design.X, weight, starts if len(starts) else None, n_random, 0, random_state)
    U = np.concatenate([unit_rows(U, 0), unit_rows(starts, 0)])
    found = priced(design, Z, _ascend(design, Z, U))
    ends = [_polish(design, Z, u) for u in found.directions[:POLISHED]]
    return priced(design, Z, np.concatenate([np.reshape(ends, (-1, U.shape[1])), found.directions]))


def _ascend(design: MaxDesign, Z: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Projected ascent of all starts at once, each with its own step length."""

    def evaluate(V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        S = design.selected(V)
        C = np.einsum("knr,kr->kn", S, V) @ Z
        values = np.linalg.norm(C, axis=1)
        pull = (C / np.where(values > 0, values, 1.0)[:, None]) @ Z.T
        return values, np.einsum("kn,knr->kr", pull, S)

    values, D = evaluate(U)
    length = np.ones(len(U))
    for _ in range(STEPS):
        size = np.linalg.norm(D, axis=1)
        V = unit_rows(U + (length / np.where(size > 0, size, 1.0))[:, None] * D, 0)
        new, E = evaluate(V)
        better = new > values
        U, values = np.where(better[:, None], V, U), np.where(better, new, values)
        D = np.where(better[:, None], E, D)
        length = np.clip(np.where(better, 2.0 * length, 0.4 * length), 1e-9, 64.0)
    return U


def _polish(design: MaxDesign, Z: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Take the best vector on the subspace of the kinks of a neuron, as long as the price rises."""

    def value(v: np.ndarray) -> float:
        return float(np.linalg.norm(Z.T @ design.outputs(v[None])[:, 0]))

    best = value(u)
    for near in NEAR:
        for _ in range(5):
            held = span(design.kinks(u, near))
            basis = np.linalg.svd(held, full_matrices=True)[0][:, held.shape[1] :]
            if not basis.shape[1]:
                break
            at = basis @ (basis.T @ u)
            A = Z.T @ design.selected(at[None])[0] @ basis
            top = basis @ np.linalg.eigh(A.T @ A)[1][:, -1]
            now, side = max((value(side * top), side) for side in (1.0, -1.0))
            if now <= best * (1.0 + 1e-14):
                break
            u, best = side * top, now
    return u


def drop(rows: Rows, design: MaxDesign, share: float) -> Rows:
    """Leave out neurons that give no sample more than a share of what its largest neuron gives it.

    Weights do not tell: where samples differ in scale, a neuron with small ones matters to large samples.
    """
    H = np.abs(rows.hidden(design))
    most = np.max(H, axis=1, initial=0.0)[:, None]
    return rows.take(np.any(share * most < H, axis=0))


def weigh(problem: Problem, design: MaxDesign, rows: Rows) -> Rows:
    """Give neurons their best sizes; where that is expensive, leave them as they are."""
    best = _weighed(problem, design, rows, design.norms(rows.U))
    return rows if best is None else best


def insert(problem: Problem, design: MaxDesign, rows: Rows, found: VectorNeurons, most: int = 100) -> Rows:
    """Give the network those of the found neurons that a Lasso over all sizes, solved exactly, wants."""
    out = apart(design, found, np.flatnonzero(found.values > problem.beta * (1.0 + 1e-10))[:400])[:most]
    size = np.concatenate([design.norms(rows.U), np.zeros(len(out))])
    joined = rows.join(Rows(found.directions[out], found.outputs[out]))
    best = _weighed(problem, design, joined, size)
    return insert_by_descent(problem, design, rows, found, most) if best is None else best


def _weighed(problem: Problem, design: MaxDesign, rows: Rows, sizes: np.ndarray) -> Rows | None:
    """Neurons with the directions of `rows` and the best sizes, None where these are too expensive."""
    if not len(rows) or not affordable(problem.y.size, len(rows)):
        return None
    units = rows.scaled(1.0 / design.norms(rows.U))
    C = units.hidden(design)[:, None, :] * units.G.T
    return units.scaled(positive_lasso(problem, C, sizes))


def descend_max(problem: Problem, design: MaxDesign, rows: Rows, max_iter: int) -> Rows:
    """Run L-BFGS from the given neurons, then drop zeros and merge equals."""
    if not len(rows):
        return rows
    (m, r), outputs = rows.U.shape, problem.y.shape[1]
    loss, y, s, beta = problem.loss, problem.y, problem.weights, problem.beta
    c = np.zeros(outputs)
    if problem.intercept:
        c = np.asarray(loss.intercept(rows.apply(design), y, s))
    scale = 1.0 / max(loss.value(np.zeros_like(y) + c, y, s), 1e-300)
    ends = m * r, m * (r + outputs)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        U, V, e = v[: ends[0]].reshape(m, r), v[ends[0] : ends[1]].reshape(m, outputs), v[ends[1] :]
        S = design.selected(U)
        H = np.einsum("jnr,jr->nj", S, U)
        f = H @ V + (e if problem.intercept else 0.0)
        G = loss.gradient(f, y, s)
        gU = np.einsum("nj,jnr->jr", G @ V.T, S) + beta * U
        gc = np.sum(G, axis=0) if problem.intercept else np.zeros(outputs)
        gradient = np.concatenate([gU.ravel(), (H.T @ G + beta * V).ravel(), gc])
        value = loss.value(f, y, s) + 0.5 * beta * float(np.sum(U * U) + np.sum(V * V))
        return scale * value, scale * gradient

    root = np.sqrt(design.norms(rows.U))[:, None]
    first = np.concatenate([(rows.U / root).ravel(), (rows.G * root).ravel(), c])
    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-12, "gtol": 1e-12}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
    if not np.all(np.isfinite(found)):
        return rows
    U, V = found[: ends[0]].reshape(m, r), found[ends[0] : ends[1]].reshape(m, outputs)
    moved = drop(Rows.of(U, V, design, Coupling.joint), design, ZERO)
    return merge(moved, design, Coupling.joint, SAME)


def hold(problem: Problem, design: MaxDesign, rows: Rows, near: float, max_products: int) -> Rows:
    """Hold the kinks within a distance, and converge on the subspace where they stay."""
    if not len(rows):
        return rows
    assert isinstance(problem.loss, VectorLoss)
    faces = [span(design.kinks(u, near)) for u in rows.U]
    held = np.array([u - face @ (face.T @ u) for u, face in zip(rows.U, faces, strict=True)])
    kept = design.norms(held) > ZERO * design.norms(rows.U)
    if not np.any(kept):
        return rows
    root = np.sqrt(design.norms(held[kept]))[:, None]
    U, V = settle(
        design.X,
        problem.y,
        problem.weights,
        problem.loss,
        problem.beta,
        held[kept] / root,
        rows.G[kept] * root,
        faces=[face for face, some in zip(faces, kept, strict=True) if some],
        intercept=problem.intercept,
        pool=design.pool,
        on=design.chosen(held[kept]),
        max_products=max_products,
    )
    return merge(drop(Rows.of(U, V, design, Coupling.joint), design, ZERO), design, Coupling.joint, SAME)
