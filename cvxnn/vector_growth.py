r"""Growing a network with several outputs: anneal, price, insert, anneal, and last slide along the kinks.

A network is kept as rows ``u_j`` with unit output directions ``g_j`` (weights ``u / sqrt|u|`` and ``sqrt|u|
g`` on the two layers), so that its objective is ``L(sum_j (X u_j)_+ g_j') + beta * sum_j |u_j|``; with one
output the directions are the signs of :mod:`cvxnn.growth`, and the three moves are the same. Directions are
unit vectors of the norm that the output layer pays: the Euclidean one (weight decay), or the sum of
absolute values, whose extreme points serve one output each (*separate* outputs, see :class:`Coupling`).
Some rows may be *linear* neurons, which contribute ``X u_j g_j'``: a skip connection.

*Merge*: neurons with one direction are one, whatever their outputs: ``(X u)_+ (|u_1| g_1 + |u_2| g_2)'``
costs at most as much. Linear ones are one matrix, whose singular vectors cost the least. *Thin*
(:func:`thin`): magnitudes move along linear dependences of what neurons contribute until at most n *
outputs of them are left. *Slide* (:func:`slide`): descent on the subspace on which the kinks of every
neuron stay kinks.

References: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021 (several outputs); Denoyelle, Duval, Peyré and
Soubies, Inverse Problems 2019 (insert, then move all neurons).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import minimize

from .descent import Layer, start
from .design import Design
from .growth import alike, lightest
from .losses import VectorLoss
from .patches import pooled
from .program import Problem
from .vector_descent import descend, settle
from .vector_pricing import VectorNeurons

#: Neurons smaller than this share of the largest are at zero.
ZERO = 1e-5
#: Neurons are one if their directions differ by less than this share of the band.
MERGE = 0.1
#: Neurons found are one if the cosine between what they contribute is larger.
NEAR = 0.98
#: Slopes this far from 0 and from 1 mark a kink.
KINK = 1e-3
#: Numbers in the data from which a round takes seconds, and bands from which descent is in single precision
#: there: the band is thousands of times its resolution.
MANY, COARSE = 50_000, 1e-3
#: Singular values of a linear map below this share of the largest are rounding.
ROUNDING = 1e-14


class Coupling(StrEnum):
    """What the output weights ``v`` of a neuron cost: their Euclidean norm, or the sum of their sizes."""

    joint = "joint"
    separate = "separate"

    def norms(self, V: np.ndarray) -> np.ndarray:
        """The norms of output vectors ``V`` (m, outputs)."""
        if self is Coupling.joint:
            return np.linalg.norm(V, axis=1)
        return np.sum(np.abs(V), axis=1)


@dataclass(frozen=True, eq=False)
class Rows:
    """Neurons with their outputs: the network ``sum_j phi(X U_j) G_j' + c``.

    Parameters
    ----------
    U : ndarray of shape (m, r)
        In the coordinates of a design.
    G : ndarray of shape (m, outputs)
        Unit output directions.
    lines : bool ndarray of shape (m,), or None
        Which neurons are linear; None for none.
    """

    U: np.ndarray
    G: np.ndarray
    lines: np.ndarray | None = None

    @classmethod
    def empty(cls, r: int, outputs: int) -> Rows:
        """No neuron."""
        return cls(np.zeros((0, r)), np.zeros((0, outputs)))

    @classmethod
    def of(
        cls,
        U: np.ndarray,
        V: np.ndarray,
        design: Design,
        coupling: Coupling,
        linear: np.ndarray | None = None,
    ) -> Rows:
        """The rows of neurons with weights ``U`` and output weights ``V``; what is zero is left out.

        Where outputs are separate, a neuron that serves several of them becomes one for each.
        """
        if coupling is Coupling.separate:
            j, k = np.nonzero(V)
            parts = np.zeros((len(j), V.shape[1]))
            parts[np.arange(len(j)), k] = V[j, k]
            U, V, linear = U[j], parts, None if linear is None else linear[j]
        size = coupling.norms(V)
        kept = (size > 0) & (design.norms(U) > 0)
        return cls(
            U[kept] * size[kept, None], V[kept] / size[kept, None], None if linear is None else linear[kept]
        )

    @classmethod
    def straight(cls, S: np.ndarray, coupling: Coupling) -> Rows:
        """The linear neurons that compute ``X S`` at the least cost, for ``S`` (r, outputs).

        They are its singular vectors under weight decay, and its columns where outputs are separate.
        """
        if coupling is Coupling.joint:
            left, size, V = np.linalg.svd(S, full_matrices=False)
            U = left.T
        else:
            size, V = np.linalg.norm(S, axis=0), np.eye(S.shape[1])
            U = S.T / np.maximum(size, 1e-300)[:, None]
        kept = size > ROUNDING * np.max(size, initial=0.0)
        return cls(U[kept] * size[kept, None], V[kept], np.ones(int(np.sum(kept)), dtype=bool))

    @property
    def linear(self) -> np.ndarray:
        """Which neurons are linear, (m,)."""
        return np.zeros(len(self.U), dtype=bool) if self.lines is None else self.lines

    def __len__(self) -> int:
        return len(self.U)

    def take(self, kept: np.ndarray) -> Rows:
        """Those of a selection, in its order."""
        return Rows(self.U[kept], self.G[kept], self.linear[kept])

    def scaled(self, sizes: np.ndarray) -> Rows:
        """The neurons with other sizes, as shares of the present ones (m,); those of size zero go."""
        kept = sizes > 0.0
        return Rows(self.U[kept] * sizes[kept, None], self.G[kept], self.linear[kept])

    def join(self, other: Rows) -> Rows:
        """The neurons of both."""
        return Rows(
            np.concatenate([self.U, other.U]),
            np.concatenate([self.G, other.G]),
            np.concatenate([self.linear, other.linear]),
        )

    def slopes(self, design: Design) -> float | np.ndarray:
        """The slopes of the neurons on the negative side: that of a design, and 1 of linear ones."""
        return np.where(self.linear, 1.0, design.slope) if np.any(self.linear) else design.slope

    def hidden(self, design: Design) -> np.ndarray:
        """Return what neurons compute with the activation of a design, shape (n, m)."""
        H = design.outputs(self.U)
        if np.any(self.linear):
            H[:, self.linear] = pooled(design.X @ self.U[self.linear].T, design.pool)
        return H

    def apply(self, design: Design) -> np.ndarray:
        """Return ``sum_j phi(X U_j) G_j'`` with the activation of a design, shape (n, outputs)."""
        return self.hidden(design) @ self.G


def random_rows(
    problem: Problem,
    design: Design,
    coupling: Coupling,
    width: int,
    random_state: np.random.Generator,
    skip: bool = False,
) -> Rows:
    """Draw neurons to anneal from: random directions, outputs along the targets of the samples they see.

    With `skip` linear ones are among them, along the slope of the loss at the constants.
    """
    y, s = problem.y, problem.weights
    centred = y - np.average(y, axis=0, weights=s)
    size = np.sqrt(np.sum(centred * centred, axis=1))
    size, s = design.spread(size) / design.pool, design.spread(s)
    U, a = start(design.X, size, s, width, design.free, random_state)
    V = random_state.standard_normal((len(U), y.shape[1]))
    if coupling is Coupling.separate:
        V = np.where(np.arange(y.shape[1]) == (np.arange(len(U)) % y.shape[1])[:, None], np.sign(V), 0.0)
    elif problem.loss.classification:
        V -= np.mean(V, axis=1, keepdims=True)
    V *= np.abs(a)[:, None] / np.maximum(coupling.norms(V), 1e-300)[:, None]
    rows = Rows.of(U, V, design, coupling)
    if not skip or not len(rows):
        return rows
    lines = Rows.straight(design.X.T @ problem.residual(np.zeros_like(y)), coupling)
    size = design.norms(lines.U)
    share = np.mean(design.norms(rows.U)) / np.max(size, initial=1e-300)
    return rows.join(lines.scaled(np.full(len(size), share)))


def objective(problem: Problem, design: Design, rows: Rows) -> float:
    """Return the objective of a network, with its best constants if it has any."""
    f = rows.apply(design)
    if problem.intercept:
        f = f + problem.loss.intercept(f, problem.y, problem.weights)
    return problem.value(f, float(np.sum(design.norms(rows.U))))


def anneal(
    problem: Problem, design: Design, coupling: Coupling, rows: Rows, mu: float, max_iter: int
) -> Rows:
    """Descend with the band ``mu``, then drop zeros and merge equals."""
    if len(rows) == 0:
        return rows
    U, V = _descend(problem, design, coupling, rows, mu, max_iter)
    moved = Rows.of(U, V, design, coupling, rows.linear)
    return merge(drop(moved, design, ZERO), design, coupling, MERGE * mu)


def is_slow(design: Design) -> bool:
    """Whether the data are so many that a round of growing takes seconds."""
    return design.X.size > MANY and design.pool == 1


def _descend(
    problem: Problem,
    design: Design,
    coupling: Coupling,
    rows: Rows,
    mu: float,
    max_iter: int,
) -> tuple[np.ndarray, np.ndarray]:
    root = np.sqrt(design.norms(rows.U))[:, None]
    U, V, _ = descend(
        design.X,
        problem.y,
        problem.weights,
        problem.loss,
        problem.beta,
        rows.U / root,
        rows.G * root,
        smoothing=mu,
        intercept=problem.intercept,
        free=design.free,
        slope=rows.slopes(design),
        support=(rows.G != 0).astype(float) if coupling is Coupling.separate else None,
        pool=design.pool,
        max_iter=max_iter,
        tol=1e-11,
        dtype=np.float32 if mu >= COARSE and is_slow(design) and not design.free else np.float64,
    )
    return U, V


def drop(rows: Rows, design: Design, share: float) -> Rows:
    """Leave out neurons smaller than a share of the largest."""
    size = design.norms(rows.U)
    return rows.take(size > share * np.max(size, initial=0.0))


def merge(rows: Rows, design: Design, coupling: Coupling, tol: float) -> Rows:
    """Add up neurons whose directions are within ``tol`` of each other (and that serve the same output).

    Linear neurons are added up whatever their directions.
    """
    if np.any(rows.linear):
        lines = rows.take(rows.linear)
        bent = merge(rows.take(~rows.linear), design, coupling, tol)
        return bent.join(Rows.straight(lines.U.T @ lines.G, coupling))
    size = design.norms(rows.U)
    turned = np.where(design.turned(rows.U), -1.0, 1.0)[:, None] * rows.U
    directions = turned / size[:, None]
    served = np.argmax(rows.G != 0, axis=1) if coupling is Coupling.separate else np.zeros(len(rows))
    groups = alike(directions, size, served, design.free, tol)
    leads = np.array([group[0] for group in groups], dtype=int)
    U, V = directions[leads], size[leads, None] * rows.G[leads]
    for k, group in enumerate(groups):
        if len(group) > 1:
            mean = np.sum(turned[group], axis=0)
            U[k] = mean / design.norms(mean[None])[0]
            V[k] = size[group] @ rows.G[group]
    return Rows.of(U, V, design, coupling) if len(rows) else rows


def insert(problem: Problem, design: Design, rows: Rows, found: VectorNeurons, most: int = 100) -> Rows:
    """Give the network those of the found neurons that a Lasso over all magnitudes wants."""
    loss, y, s, beta = problem.loss, problem.y, problem.weights, problem.beta
    out = apart(design, found, np.flatnonzero(found.values > beta * (1.0 + 1e-10))[:400])[:most]
    size = design.norms(rows.U)
    units = Rows(rows.U / size[:, None], rows.G, rows.linear)
    units = units.join(Rows(found.directions[out], found.outputs[out], found.linear[out]))
    H, G = units.hidden(design), units.G
    x = np.concatenate([size, np.zeros(len(out))])
    # The intercepts are last, without bounds.
    c = np.zeros(y.shape[1])
    if problem.intercept:
        c = np.asarray(loss.intercept(H @ (x[:, None] * G), y, s))
    # a tolerance is relative to 1, so that is what the objective is at first
    scale = 1.0 / max(objective(problem, design, rows), 1e-300)
    k = len(x)

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        f = H @ (v[:k, None] * G) + (v[k:] if problem.intercept else 0.0)
        slope = loss.gradient(f, y, s)
        last = np.sum(slope, axis=0) if problem.intercept else np.zeros_like(c)
        total = loss.value(f, y, s) + beta * float(np.sum(v[:k]))
        return scale * total, scale * np.concatenate([np.sum((H.T @ slope) * G, axis=1) + beta, last])

    bounds = [(0.0, None)] * k + [(None, None)] * len(c)
    options = {"maxiter": 150, "ftol": 1e-14, "gtol": 1e-12}
    first = np.concatenate([x, c])
    v = minimize(value, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x[:k]
    return units.scaled(v)


def apart(design: Design, found: VectorNeurons, chosen: np.ndarray) -> np.ndarray:
    """Leave out neurons beside a better one: around one maximum of the price one neuron is enough."""
    units, kept = Rows(found.directions, found.outputs, found.linear).take(chosen), np.zeros(0, dtype=int)
    H = units.hidden(design)
    H = H / np.maximum(np.linalg.norm(H, axis=0), 1e-300)
    like = (H.T @ H) * (units.G @ units.G.T)
    for k in range(len(chosen)):
        if not np.any(like[k, kept] > NEAR):
            kept = np.append(kept, k)
    return chosen[kept]


def thin(problem: Problem, design: Design, rows: Rows) -> Rows:
    """Return as few of the neurons as the data can tell apart, with the same output and no larger cost.

    At most n * outputs neurons stay: a neuron contributes ``phi(X u) g'``, see
    :func:`cvxnn.growth.lightest`.
    """
    H = rows.hidden(design)[:, None, :] * rows.G.T
    thinned = rows.scaled(lightest(H.reshape(problem.y.size, len(rows)), design.norms(rows.U)))
    before = objective(problem, design, rows)
    return thinned if objective(problem, design, thinned) <= before + 1e-9 * abs(before) else rows


def slide(
    problem: Problem, design: Design, coupling: Coupling, rows: Rows, mu: float, max_products: int
) -> Rows:
    """Hold the kinks that the band ``mu`` shows, and converge on the subspace where they stay.

    Parameters
    ----------
    rows : Rows
        Annealed with the band ``mu``.
    max_products : int
        Products with the Hessian, each about as dear as two gradients.
    """
    if len(rows) == 0:
        return rows
    assert isinstance(problem.loss, VectorLoss)
    size = design.norms(rows.U)
    layer = Layer(design.X, size, design.free, mu)  # kinks are those of the ReLU, whatever the slope
    layer.activate(rows.U)
    inside = (layer.slopes > KINK) & (layer.slopes < 1.0 - KINK) & ~rows.linear
    root = np.sqrt(size)[:, None]
    U, V = settle(
        design.X,
        problem.y,
        problem.weights,
        problem.loss,
        problem.beta,
        rows.U / root,
        rows.G * root,
        faces=[span(design.X[kinks]) for kinks in inside.T],
        intercept=problem.intercept,
        free=design.free,
        slope=rows.slopes(design),
        support=(rows.G != 0).astype(float) if coupling is Coupling.separate else None,
        pool=design.pool,
        max_products=max_products,
    )
    return drop(Rows.of(U, V, design, coupling, rows.linear), design, ZERO)


def span(rows: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span rows of X, shape (d, rank)."""
    norms = np.linalg.norm(rows, axis=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    if not len(rows):
        return np.zeros((rows.shape[1], 0))
    _, sizes, Vt = np.linalg.svd(rows, full_matrices=False)
    return Vt[sizes > 1e-9 * sizes[0]].T
