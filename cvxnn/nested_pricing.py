r"""The best branch of three layers for a dual variable: a relaxation, its bound, and branch and bound.

With ``h = sum_j v_j (X w_j)_+`` and ``sum_j |w_j| |v_j| <= 1`` a branch of unit cost computes ``(h)_+``,
and these h are the convex hull C of the outputs ``+g, -g`` of two-layer neurons of unit cost. Let P and N
be the samples with positive and negative z. As ``(h)_+ = max over s in [0, 1] of s h`` where z > 0, and
``-(h)_+ = min over a in [0, 1] of -a h`` where z < 0,

    M_3(z) = max over h in C of z'(h)_+
           = max over s in {0,1}^P  min over 0 <= a <= |z_N|  of  M_2( z_P s - a ),

by the minimax theorem for each s, with the two-layer price ``M_2(v) = max over h in C of v'h = max over
neurons of |v'g|``. So every price of three layers is made of prices of two, whose oracles this package has:
exact on a line, in a plane or over listed patterns, bounded by matrices elsewhere.

Fix s to 1 on a set F and to 0 on another, and leave the rest R free. As ``g >= 0`` the best free s of
either sign are all ones or all zeros, so for *every* a

    max over s  of  M_2( z_P s - a )  =  max( M_2(z_F + z_R - a), M_2(z_F - a) ),           (*)

an upper bound of M_3 over the node (F, R), convex in a. The best a comes from the dual of the program that
replaces (h)_+ on R by the positive part ``p`` of ``h = p - q``, with p and q sums of neurons, and (h)_+ on
N by any number above it:

    max  z_F'(p - q) + z_R'p - |z_N|'e,      e >= p - q, e >= 0,      cost(p) + cost(q) <= 1,

second-order cones over the patterns of neurons. Patterns are added while the two-layer oracle finds neurons
that violate the dual. Splitting a free sample (the one with the largest ``z min(p, q)``) makes the bound
exact after at most 2^|P| nodes; mostly a handful is enough. The bound is always that of (*), recomputed
from a with the two-layer oracle: no solver is trusted. The whole relaxation at the root is a convex
function of z.

References: derived here; the minimax theorem: Rockafellar, Convex Analysis, section 37; the two-layer
price: Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from .oracles import CellOracle, NeuronOracle

__all__ = ["Branches", "Found", "price_side"]

#: Rounds of adding patterns to a relaxation, patterns a round adds, and its relative accuracy.
ROUNDS, ADDED, CLOSE = 30, 6, 1e-10


@dataclass(frozen=True, eq=False)
class Branches:
    """One branch of unit cost or less.

    Parameters
    ----------
    value : float
        ``z'(h)_+``.
    U : ndarray of shape (m, r)
        ``w_j |v_j|`` of its neurons.
    signs : ndarray of shape (m,)
        Signs of v_j.
    masks : bool ndarray of shape (m, n)
        Patterns of the neurons.
    h : ndarray of shape (n,)
    """

    value: float
    U: np.ndarray
    signs: np.ndarray
    masks: np.ndarray
    h: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """What branch and bound returns for one sign of a dual variable.

    Parameters
    ----------
    bound : float
        No branch of unit cost is worth more.
    branches : list of Branches
        Found on the way, the best first.
    exact : bool
        Whether bound and best branch agree to :data:`EXACT`.
    """

    bound: float
    branches: list[Branches]
    exact: bool


#: Relative difference of bound and best branch that counts as none.
EXACT = 1e-8


@dataclass(frozen=True, eq=False)
class _Node:
    """A solved relaxation: its bound, its branch, and how much each free sample is relaxed."""

    bound: float
    branch: Branches
    excess: np.ndarray
    fixed: np.ndarray
    free: np.ndarray


def price_side(
    inner: NeuronOracle,
    z: np.ndarray,
    pool: np.ndarray,
    limit: int,
    floor: float = 0.0,
    deadline: float = float("inf"),
) -> tuple[Found, np.ndarray]:
    """Bound ``max z'(h)_+`` over branches of unit cost, and find branches of that value.

    Parameters
    ----------
    inner : NeuronOracle
        Of two-layer neurons; its problem has ``beta = 0``, so that it proposes whatever it finds.
    z : ndarray of shape (n,)
    pool : bool ndarray of shape (k, n)
        Patterns of neurons to begin with.
    limit : int
        Relaxations to solve at most.
    floor : float
        A value that is known to be reached, from which on nodes do not matter.
    deadline : float
        Of :func:`time.perf_counter`, after which nothing more is solved; the bound holds all the same.

    Returns
    -------
    found : Found
    pool : ndarray
        With the patterns that were added.
    """
    size = float(np.max(np.abs(z), initial=0.0))
    if size == 0.0 or not np.any(z > 0) or not np.any(inner.X):
        return Found(0.0, [], True), pool
    pool = _joined(pool, pool[:0])
    if not np.any(z < 0):  # (h)_+ <= p: a single neuron is best
        pool = _joined(pool, _look(inner, z, 0.0)[1][:ADDED])
    root, pool = _solve(inner, z, np.zeros(len(z), dtype=bool), z > 0, pool, deadline)
    found, best, queue, solved = [root.branch], max(root.branch.value, floor), [(-root.bound, 0, root)], 1
    done = 0.0
    while queue:
        top, _, node = heapq.heappop(queue)
        late = solved >= limit or time.perf_counter() > deadline
        if -top <= best * (1.0 + 0.1 * EXACT) or late or not np.any(node.free):
            done = max(done, -top)
            break
        at = int(np.argmax(node.excess))
        for one in (True, False):
            fixed, free = node.fixed.copy(), node.free.copy()
            free[at], fixed[at] = False, one
            child, pool = _solve(inner, z, fixed, free, pool, deadline)
            solved += 1
            found.append(child.branch)
            best = max(best, child.branch.value)
            heapq.heappush(queue, (-min(child.bound, -top), solved, child))
    bound = max([done, *(-top for top, _, _ in queue)])
    found.sort(key=lambda branch: -branch.value)
    bound = max(bound, found[0].value)
    return Found(bound, found, bound <= max(found[0].value, floor) * (1.0 + EXACT)), pool


def _solve(
    inner: NeuronOracle,
    z: np.ndarray,
    fixed: np.ndarray,
    free: np.ndarray,
    pool: np.ndarray,
    deadline: float,
) -> tuple[_Node, np.ndarray]:
    """Solve the relaxation of a node over all patterns, by adding those that violate its dual."""
    one, some = np.where(fixed, z, 0.0), np.where(free, z, 0.0)
    low = np.maximum(-z, 0.0)
    if not len(pool):
        pool = _joined(pool, _look(inner, one + some, 0.0)[1])
    bound = np.inf
    for _ in range(ROUNDS):
        value, a, P, Q = relaxation(inner.X, pool, z, fixed, free)
        # the right-hand side of (*) holds for any a that is allowed
        a = np.clip(a, 0.0, low)
        sides = [one + some - a, one - a] if np.any(some) else [one - a]
        looks = [_look(inner, v, value) for v in sides]
        bound = min(bound, max(look[0] for look in looks))
        if bound <= value * (1.0 + CLOSE) or time.perf_counter() > deadline:
            break
        larger = pool
        for _, masks in looks:
            larger = _joined(larger, masks)[: len(larger) + ADDED]
        if len(larger) == len(pool):
            break
        pool = larger
    p, q = (np.einsum("kn,kn->n", pool, U @ inner.X.T) for U in (P, Q))
    U = np.concatenate([P, Q])
    signs, masks = np.repeat([1.0, -1.0], len(pool)), np.concatenate([pool, pool])
    sizes = np.linalg.norm(U, axis=1)
    kept = sizes > 1e-9 * float(np.sum(sizes))
    cost = max(1.0, float(np.sum(sizes[kept])))
    U, signs, masks = U[kept] / cost, signs[kept], masks[kept]
    h = signs @ np.maximum(U @ inner.X.T, 0.0) if len(U) else np.zeros(len(z))
    branch = Branches(float(z @ np.maximum(h, 0.0)), U, signs, masks, h)
    excess = np.where(free, z * np.minimum(p, q), -1.0)
    return _Node(bound, branch, excess, fixed, free), pool


def _look(inner: NeuronOracle, v: np.ndarray, floor: float) -> tuple[float, np.ndarray]:
    """A bound of the larger of `floor` and the two-layer price of v, and patterns worth more, (k, n)."""
    none = np.zeros((0, len(v)), dtype=bool)
    if not np.any(v):
        return 0.0, none
    if isinstance(inner, CellOracle):
        return inner.above(v, floor)
    bound = inner.price(v).value
    if bound <= floor:
        return bound, none
    found = inner.neurons(v, inner.X[:0], np.random.default_rng(0), 0)
    return bound, found.masks[found.values > floor]


def _joined(pool: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Patterns of both, each once, in their order."""
    both = np.concatenate([pool, new.astype(bool)])
    _, first = np.unique(both, axis=0, return_index=True)
    return both[np.sort(first)]


def relaxation(
    X: np.ndarray, masks: np.ndarray, z: np.ndarray, fixed: np.ndarray, free: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Solve the program of a node over some patterns of neurons.

    Parameters
    ----------
    X : ndarray of shape (n, r)
    masks : bool ndarray of shape (k, n)
    z : ndarray of shape (n,)
    fixed, free : bool ndarrays of shape (n,)
        Where s is 1, and where it is free, among the positive z.

    Returns
    -------
    value : float
    a : ndarray of shape (n,)
        Multipliers of ``e >= h``.
    P, Q : ndarrays of shape (k, r)
        Weights of the neurons in p and in q.
    """
    import clarabel

    size, reach = float(np.max(np.abs(z))), float(np.max(np.linalg.norm(X, axis=1)))
    X, w = X / reach, z / size
    k, (n, r) = len(masks), X.shape
    low = np.flatnonzero(z < 0)
    # variables: P, Q (k, r) each, their norms (2k), e on the negative samples
    B = np.concatenate([mask[:, None] * X for mask in masks], axis=1)
    one, some = np.where(fixed, w, 0.0), np.where(free, w, 0.0)
    norms, m = 2 * k * r, len(low)
    cost = np.concatenate([-((one + some) @ B), one @ B, np.zeros(2 * k), -w[low]])
    own = [_tight_rows(X, mask) for mask in masks] * 2
    wide, body, at, e = B[low], np.arange(norms), np.arange(2 * k), np.arange(m)
    # rows: e >= h and e >= 0, cones of patterns, the sum of norms, and each of the norms
    block = np.repeat(at, [len(rows) for rows in own])
    total = 2 * m + len(block)
    head = total + 1 + at * (r + 1)
    system = _assembled(
        (total + 1 + 2 * k * (r + 1), len(cost)),
        (e[:, None], np.arange(norms // 2), wide),
        (e[:, None], norms // 2 + np.arange(norms // 2), -wide),
        (np.arange(2 * m), norms + 2 * k + np.tile(e, 2), -1.0),
        (2 * m + np.arange(len(block))[:, None], block[:, None] * r + np.arange(r), -np.concatenate(own)),
        (total, norms + at, 1.0),
        (head, norms + at, -1.0),
        (head[body // r] + 1 + body % r, body, -1.0),
    )
    right = np.zeros(system.shape[0])
    right[total] = 1.0
    cones = [clarabel.NonnegativeConeT(2 * m)] if m else []
    cones += [clarabel.NonnegativeConeT(len(block) + 1), *[clarabel.SecondOrderConeT(r + 1)] * (2 * k)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    none = sparse.csc_matrix((len(cost), len(cost)))
    found: Any = clarabel.DefaultSolver(none, cost, system, right, cones, settings).solve()
    x, dual = np.array(found.x), np.array(found.z)
    a = np.zeros(n)
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(dual))):
        return 0.0, a, np.zeros((k, r)), np.zeros((k, r))
    a[low] = size * dual[:m]
    value = -float(cost @ x) * size * reach
    P, Q = x[:norms].reshape(2, k, r)
    return max(0.0, value), a, P, Q


def _assembled(shape: tuple[int, int], *parts: tuple[Any, Any, Any]) -> sparse.csc_matrix:
    """A sparse matrix of parts of rows, columns and numbers, each broadcast, without its zeros."""
    flat = [[np.ravel(v) for v in np.broadcast_arrays(*part)] for part in parts]
    rows, columns, numbers = (np.concatenate([part[j] for part in flat]) for j in range(3))
    kept = numbers != 0.0
    return sparse.csc_matrix((numbers[kept], (rows[kept], columns[kept])), shape=shape)


def _tight_rows(X: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The rows of a pattern's cone; in the plane the two that imply the others."""
    rows = np.where(mask, 1.0, -1.0)[:, None] * X
    rows = rows[np.any(rows != 0, axis=1)]
    if X.shape[1] != 2 or len(rows) <= 2:
        return rows
    # all rows are within half a turn of their sum: the outermost on either side bound the cone
    middle = np.sum(rows / np.linalg.norm(rows, axis=1, keepdims=True), axis=0)
    turn = np.arctan2(rows[:, 1], rows[:, 0]) - np.arctan2(middle[1], middle[0])
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    return rows[[int(np.argmin(turn)), int(np.argmax(turn))]]
