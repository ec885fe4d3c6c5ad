r"""Pricing neurons with several outputs: which unit neuron correlates most with a dual variable?

For a dual variable Z (n, outputs) a neuron u with the output direction g is worth ``(Xu)_+' Z g``; the best
g for a given u is along ``Z'(Xu)_+``, so that

    M(Z) = max over |u| <= 1 of |Z'(Xu)_+|.

This module *searches*: many starts climb at once (:mod:`cvxnn.vector_climbing`; where that takes too large
matrices by the gradient ``X'diag(1[Xu > 0]) Z g``). For a fixed g the problem is that of one output with
the dual variable ``Z g``: so the best candidates are solved exactly in their cell and walked to
neighbouring cells by :func:`cvxnn.walks.walk`, in turn with their g. Each half step can only raise the
price. What is found is a lower bound of M, never a proof.

Neurons that serve one output each (*separate* outputs) are priced output by output, by
:func:`cvxnn.pricing.search`.

References: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021 (the dual); :mod:`cvxnn.pricing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .climbing import NEAR
from .pricing import CACHE, draw_starts, rectify, search, unit_rows, walk
from .vector_climbing import VectorClimb, fits
from .walks import best_biases

#: Samples and numbers of data from which searches begin on a sample, and its size.
MANY, BIG, SAMPLE = 4000, 1_000_000, 6000
#: Starts that go on from the sample to all data, with steps of ascent on each.
FINALISTS, FIRST_STEPS, LAST_STEPS = 64, 40, 20
#: Walks and new output directions in turn, at most, and the rise below which they end.
TURNS, RISE = 8, 1e-9
#: Numbers of data from which a walk takes tens of milliseconds, and walks in a row, from ever lower starts,
#: that may find nothing better there.
DEAR, IDLE = 50_000, 8


@dataclass(frozen=True, eq=False)
class VectorNeurons:
    """Unit neurons found by a search, best first.

    Parameters
    ----------
    values : ndarray of shape (k,)
        ``(Xu)_+' Z g`` of each.
    directions : ndarray of shape (k, d)
        Unit norm (over the penalised coordinates).
    outputs : ndarray of shape (k, outputs)
        Unit output directions g.
    lines : bool ndarray of shape (k,), or None
        Which neurons are linear, worth ``(Xu)' Z g``; None for none.
    """

    values: np.ndarray
    directions: np.ndarray
    outputs: np.ndarray
    lines: np.ndarray | None = None

    @property
    def linear(self) -> np.ndarray:
        """Which neurons are linear, (k,)."""
        return np.zeros(len(self.values), dtype=bool) if self.lines is None else self.lines

    @property
    def best(self) -> float:
        """The largest value found; 0 if there is none."""
        return max(0.0, float(np.max(self.values))) if len(self.values) else 0.0

    @classmethod
    def of(cls, X: np.ndarray, Z: np.ndarray, U: np.ndarray, slope: float = 0.0) -> VectorNeurons:
        """The unit neurons ``U`` (k, d) with their best outputs, best first, each pattern once."""
        C = rectify(X @ U.T, slope).T @ Z
        values = np.linalg.norm(C, axis=1)
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > 0]
        keys = np.packbits((X @ U[order].T > 0).T, axis=1)
        kept = order[np.sort(np.unique(keys, axis=0, return_index=True)[1])]
        return cls(values[kept], U[kept], C[kept] / values[kept, None])

    @classmethod
    def none(cls, d: int, outputs: int) -> VectorNeurons:
        """No neuron."""
        return cls(np.zeros(0), np.zeros((0, d)), np.zeros((0, outputs)))

    def join(self, other: VectorNeurons) -> VectorNeurons:
        """The neurons of both, best first."""
        values = np.concatenate([self.values, other.values])
        order = np.argsort(-values, kind="stable")
        directions = np.concatenate([self.directions, other.directions])
        outputs = np.concatenate([self.outputs, other.outputs])
        lines = np.concatenate([self.linear, other.linear])
        return VectorNeurons(values[order], directions[order], outputs[order], lines[order])


def search_joint(
    X: np.ndarray,
    Z: np.ndarray,
    *,
    starts: np.ndarray | None = None,
    extra: np.ndarray | None = None,
    n_random: int = 64,
    n_polish: int = 24,
    free: int = 0,
    slope: float = 0.0,
    exact: bool = True,
    random_state: np.random.Generator,
) -> VectorNeurons:
    """Search for the unit neurons that correlate most with ``Z``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Z : ndarray of shape (n, outputs)
    starts : ndarray of shape (k, d), or None
        The neurons of a network, all ascended from and polished; random starts are drawn around them too.
    extra : ndarray of shape (k, d), or None
        More directions to start from.
    n_random : int
        Random starts.
    n_polish : int
        How many of the best, with distinct patterns, are solved exactly and walked.
    free : int
        Trailing unpenalised coordinates (0, or 1 for a free bias; then columns of Z sum to zero).
    slope : float
        Of the activation on the negative side, < 1.
    exact : bool
        Whether to solve and walk; without, neurons come as the climb leaves them.
    random_state : numpy.random.Generator

    Returns
    -------
    VectorNeurons
    """
    d = X.shape[1]
    if not np.any(Z) or not np.any(X):
        return VectorNeurons.none(d, Z.shape[1])
    U = draw_starts(X, np.linalg.norm(Z, axis=1), starts, n_random, free, random_state)
    U = U if extra is None else np.concatenate([U, extra])
    at = U[:0] if starts is None else unit_rows(starts, free)
    if fits(X, Z.shape[1]):
        climb = VectorClimb(X, Z, free, slope)
        U = climb.from_afar(U)
        at = at if exact else climb(at, NEAR)
    else:
        U = _rise(X, Z, U, free, slope)
        at = at if exact else _ascend(X, Z, at, free, 30, slope)[0]
    found = VectorNeurons.of(X, Z, np.concatenate([U, at]), slope)
    if not exact or not len(found.values):
        return found
    norms = np.linalg.norm(X, axis=1)
    ends: list[np.ndarray] = []
    best, idle = 0.0, 0
    for u in found.directions[:n_polish]:
        ends.append(_polish(X, Z, u, norms, free, slope))
        value = float(np.linalg.norm(rectify(X @ ends[-1], slope) @ Z))
        best, idle = max(best, value), 0 if value > best else idle + 1
        if idle >= IDLE and X.size > DEAR:
            break
    return VectorNeurons.of(X, Z, np.concatenate([ends, found.directions[len(ends) :]]), slope)


def _rise(X: np.ndarray, Z: np.ndarray, U: np.ndarray, free: int, slope: float) -> np.ndarray:
    """Ascend by gradients; a short ascent of all tells which are worth a long one."""
    U, values = _ascend(X, Z, U, free, 10, slope)
    kept = np.argsort(-values, kind="stable")[: max(64, len(U) // 2)]
    return _ascend(X, Z, U[kept], free, 50, slope)[0]


def large(X: np.ndarray, free: int) -> bool:
    """Whether there are so many samples that searches, and training, begin on few of them."""
    return len(X) >= MANY and X.size >= BIG and free == 0


def search_sampled(
    X: np.ndarray,
    Z: np.ndarray,
    *,
    starts: np.ndarray | None,
    n_random: int,
    random_state: np.random.Generator,
) -> VectorNeurons:
    """Search large data: ascend on a random sample of the rows, then from the best ends on all of them.

    Prices are those of all rows. Nothing is solved exactly or walked, which is out of reach here.

    Parameters
    ----------
    X, Z, starts, n_random, random_state
        As in :func:`search_joint`; the neurons of `starts` are priced themselves too.
    """
    if not np.any(Z) or not np.any(X):
        return VectorNeurons.none(X.shape[1], Z.shape[1])
    rows = np.sort(random_state.choice(len(X), min(SAMPLE, len(X)), replace=False))
    few, z = X[rows], Z[rows]
    U = draw_starts(few, np.linalg.norm(z, axis=1), starts, n_random, 0, random_state)
    found = VectorNeurons.of(few, z, _ascend(few, z, U, 0, FIRST_STEPS)[0])
    U, _ = _ascend(X, Z, found.directions[:FINALISTS], 0, LAST_STEPS)
    if starts is not None and len(starts):
        U = np.concatenate([U, unit_rows(starts, 0)])
    return VectorNeurons.of(X, Z, U)


def search_separate(
    X: np.ndarray, Z: np.ndarray, *, starts: np.ndarray | None, **options: Any
) -> VectorNeurons:
    """Search for the unit neurons with one output each that correlate most with ``Z``; as
    :func:`search_joint`."""
    found = VectorNeurons.none(X.shape[1], Z.shape[1])
    starts = X[:0] if starts is None else starts
    # a neuron of a network walks on for the output it is worth most to, and is a start for the others
    serves = np.argmax(np.abs(rectify(X @ starts.T, options.get("slope", 0.0)).T @ Z), axis=1)
    extra, idle = options.pop("extra", starts[:0]), IDLE if X.size > DEAR else None
    for k in range(Z.shape[1]):
        others = np.concatenate([starts[serves != k], extra])
        one = search(X, Z[:, k], starts=starts[serves == k], extra=others, most_idle=idle, **options)
        outputs = np.zeros((len(one.values), Z.shape[1]))
        outputs[:, k] = one.signs
        found = found.join(VectorNeurons(one.values, one.directions, outputs))
    return found


def _ascend(
    X: np.ndarray, Z: np.ndarray, U: np.ndarray, free: int, steps: int, slope: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Projected ascent of all starts at once, each with its own step length.

    Half precision is enough to tell good directions from bad, as in :mod:`cvxnn.pricing`.
    """
    fit = max(32, CACHE // len(X))
    if len(U) > fit:
        parts = [slice(k, k + fit) for k in range(0, len(U), fit)]
        done = [_ascend(X, Z, U[part], free, steps, slope) for part in parts]
        return np.concatenate([u for u, _ in done]), np.concatenate([v for _, v in done])
    kept = X.shape[1] - free
    reach = float(np.max(np.linalg.norm(X[:, :kept], axis=1), initial=0.0))
    weight = float(np.max(np.abs(Z), initial=0.0)) or 1.0
    kind: Any = np.float64 if free else np.float32
    unit_of_x = 1.0 if free else (reach or 1.0)
    data, z = (X / unit_of_x).astype(kind), (Z / weight).astype(kind)
    T, pull = np.empty((len(X), len(U)), kind), np.empty((len(X), len(U)), kind)

    def evaluate(V: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if free and exact:
            V = V.copy()
            V[:, -1] = 0.0
            V[:, -1] = best_biases(X @ V.T, Z, slope)
        np.matmul(data, V.T, out=T)
        np.maximum(T, kind(slope) * T if slope else 0.0, out=T)
        C = T.T @ z
        values = np.linalg.norm(C, axis=1)
        G = C / np.where(values > 0, values, 1.0)[:, None]
        np.matmul(z, G.T, out=pull)
        # an even activation is positive on both sides: the sign is the neuron's
        off = data @ V.T <= 0 if slope < 0 else T <= 0
        pull[off] *= kind(slope)
        return V, values, pull.T @ data

    U, values, D = evaluate(unit_rows(U, free).astype(kind), True)
    length = np.ones(len(U), kind)
    for k in range(steps):
        step = D.copy()
        # in units of its reach a free bias moves like a weight
        step[:, kept:] *= reach**2
        size = np.linalg.norm(D[:, :kept], axis=1, keepdims=True)
        V = unit_rows(U + length[:, None] * step / np.where(size > 0, size, 1.0), free)
        V, new, E = evaluate(V, k % 10 == 9)
        better = new > values
        U[better], values[better], D[better] = V[better], new[better], E[better]
        length = np.clip(np.where(better, 2.0 * length, 0.4 * length), 1e-6, 64.0).astype(kind)
    return unit_rows(U.astype(np.float64), free), values.astype(np.float64) * (unit_of_x * weight)


def _polish(
    X: np.ndarray, Z: np.ndarray, u: np.ndarray, norms: np.ndarray, free: int, slope: float = 0.0
) -> np.ndarray:
    """Solve for u in its cell, walk, and turn the output direction, as long as the price rises."""
    C = Z.T @ rectify(X @ u, slope)
    value = float(np.linalg.norm(C))
    for _ in range(TURNS):
        if value == 0.0:
            break
        _, moved, _, _ = walk(X, Z @ (C / value), X @ u > 0, u, norms, free, slope=slope)
        if free:
            moved = moved.copy()
            moved[-1] = 0.0
            moved[-1] = best_biases((X @ moved)[:, None], Z, slope)[0]
        C = Z.T @ rectify(X @ moved, slope)
        new = float(np.linalg.norm(C))
        if new <= value:
            break
        u, rise, value = moved, new - value, new
        if rise <= RISE * value:
            break
    return u
