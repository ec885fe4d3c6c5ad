r"""The cones of three-layer networks: patterns of hidden neurons inside patterns of branches.

A branch ``s ((X W)_+ v)_+`` has a pattern D' of its own, and a pattern D_j and a sign t_j for each of its
neurons. With ``u_j = w_j |v_j|``, its *blocks*, it computes ``s D' h``, ``h = sum_j t_j D_j X u_j``, linear
in the blocks, where

    (2 D_j - I) X u_j >= 0     for every block,          (2 D' - I) h >= 0     for every branch.

The first rows concern one block, the others all blocks of a branch. In the program of the product of norms
a block is a group; in that of the path norm a branch is, with its blocks one after the other.

References: Ergen and Pilanci, "Global optimality beyond two layers", ICML 2021; "Path
regularization", NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from .arrangement import Arrangement, pack
from .arrays import Array, to_numpy
from .constraints import Constraint, project_cone

__all__ = ["Nest", "NestedCones"]


@dataclass(frozen=True, eq=False)
class Nest(Arrangement):
    """Branches with their patterns, and the patterns of their neurons.

    Parameters
    ----------
    first : bool ndarray of shape (blocks, n)
        Patterns of the neurons.
    signs : ndarray of shape (blocks,)
        Signs of the neurons within their branch.
    branch : int ndarray of shape (blocks,)
        Which branch a block belongs to, ascending.
    second : bool ndarray of shape (branches, n)
        Patterns of the branches.
    sides : ndarray of shape (branches,)
        Signs of their output weights.
    """

    first: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    signs: np.ndarray = field(default_factory=lambda: np.zeros(0))
    branch: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    second: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    sides: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(
        cls,
        first: np.ndarray,
        signs: np.ndarray,
        branch: np.ndarray,
        second: np.ndarray,
        sides: np.ndarray,
        complete: bool = False,
        resolution: float = 0.0,
    ) -> Nest:
        """Return the nest of blocks and branches; blocks are sorted by branch."""
        order = np.argsort(branch, kind="stable")
        first, signs, branch = first[order], signs[order], branch[order]
        bits, n = pack(first & second[branch]), first.shape[1]
        none = np.zeros((len(first), 0))
        return cls(bits, n, none, complete, resolution, first, signs, branch, second, sides)

    @classmethod
    def product(cls, masks: np.ndarray, second: np.ndarray, **claims: Any) -> Nest:
        """Every branch pattern with either side, every neuron pattern with either sign in it."""
        branches, cells = np.repeat(second, 2, axis=0), len(masks)
        sides = np.tile([1.0, -1.0], len(second))
        first = np.tile(np.repeat(masks, 2, axis=0), (len(branches), 1))
        signs = np.tile([1.0, -1.0], cells * len(branches))
        branch = np.repeat(np.arange(len(branches)), 2 * cells)
        return cls.of(first, signs, branch, branches, sides, **claims)

    @property
    def passed(self) -> np.ndarray:
        """The sign with which a block reaches the output, shape (blocks,)."""
        return self.signs * self.sides[self.branch]

    def take(self, kept: np.ndarray) -> Nest:
        """Return the nest of some of its branches."""
        place = np.full(len(self.second), -1)
        place[kept] = np.arange(len(kept))
        mine = place[self.branch] >= 0
        return Nest.of(
            self.first[mine],
            self.signs[mine],
            place[self.branch[mine]],
            self.second[kept],
            self.sides[kept],
        )


@dataclass(frozen=True, eq=False)
class NestedCones(Constraint):
    """The cones of a nest.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    nest : Nest
    together : bool, default=False
        Whether a group is a whole branch, its blocks of d weights one after the other; else it is a block.
    """

    X: np.ndarray
    nest: Nest
    together: bool = False

    def _blocks(self, W: Any) -> np.ndarray:
        return to_numpy(W).reshape(len(self.nest.first), self.X.shape[1])

    def inner(self, W: Any) -> np.ndarray:
        """Return ``h`` of every branch, shape (branches, n)."""
        T = self.nest.signs[:, None] * self.nest.first * (self._blocks(W) @ self.X.T)
        out = np.zeros(self.nest.second.shape)
        np.add.at(out, self.nest.branch, T)
        return out

    def _rows(self, W: Any) -> np.ndarray:
        first = np.where(self.nest.first, 1.0, -1.0) * (self._blocks(W) @ self.X.T)
        return np.vstack([first, np.where(self.nest.second, 1.0, -1.0) * self.inner(W)])

    def violation(self, W: Array) -> float:
        rows = self._rows(W)
        if rows.size == 0:
            return 0.0
        return max(0.0, -float(np.min(rows))) / max(float(np.max(np.abs(rows))), 1e-300)

    def matrix(self) -> sparse.csr_matrix:
        """The rows of all blocks, then those of all branches, on the weights of all blocks."""
        nest, X = self.nest, self.X
        if not len(nest.first):
            return sparse.csr_matrix((0, 0))
        B, (n, d) = len(nest.first), X.shape
        block, row = np.arange(B)[:, None, None], np.arange(n)[None, :, None]
        columns = np.broadcast_to(block * d + np.arange(d), (B, n, d))
        own = np.where(nest.first, 1.0, -1.0)[:, :, None] * X
        side = np.where(nest.second, 1.0, -1.0)[nest.branch]
        outer = (nest.signs[:, None] * nest.first * side)[:, :, None] * X
        places = [
            np.broadcast_to(at * n + row, (B, n, d)) for at in (block, B + nest.branch[:, None, None])
        ]
        values = np.concatenate([own.ravel(), outer.ravel()])
        at = (np.concatenate([place.ravel() for place in places]), np.tile(columns.ravel(), 2))
        full = sparse.csr_matrix((values, at), shape=((B + len(nest.second)) * n, B * d))
        full.eliminate_zeros()
        return full

    def _adjoint(self, multipliers: np.ndarray) -> np.ndarray:
        """``K*(rho)`` for multipliers (blocks + branches, n), shape (blocks, d)."""
        nest, rho = self.nest, np.maximum(multipliers, 0.0)
        own, outer = rho[: len(nest.first)], rho[len(nest.first) :]
        pull = np.where(nest.first, 1.0, -1.0) * own
        push = (np.where(nest.second, 1.0, -1.0) * outer)[nest.branch]
        return (pull + nest.signs[:, None] * nest.first * push) @ self.X

    def project(self, W: np.ndarray) -> np.ndarray:
        blocks, out = self._blocks(W), np.zeros((len(self.nest.first), self.X.shape[1]))
        for k in range(len(self.nest.second)):
            mine = np.flatnonzero(self.nest.branch == k)
            out[mine] = self.projected(k, blocks[mine].ravel()).reshape(-1, self.X.shape[1])
        return out.reshape(np.shape(W))

    def projected(self, k: int, g: np.ndarray) -> np.ndarray:
        """Project the weights of all blocks of one branch, one after the other, onto its cone."""
        A = self._branch(k)[1]
        r = project_cone(A, np.ones(len(A)), g)[0]
        inside = float(np.min(A @ r, initial=0.0)) >= -1e-9 * float(
            np.max(np.abs(A) @ np.abs(g), initial=0.0)
        )
        # rows that repeat one another can end an active-set method early
        best = inside and abs(float(r @ (g - r))) <= 1e-10 * float(g @ g)
        return r if best else _projection(A, g)

    def _branch(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The blocks of one branch, and the dense rows on their weights."""
        mine = np.flatnonzero(self.nest.branch == k)
        alone = Nest.of(
            self.nest.first[mine],
            self.nest.signs[mine],
            np.zeros(len(mine), dtype=int),
            self.nest.second[k : k + 1],
            self.nest.sides[k : k + 1],
        )
        return mine, replace(self, nest=alone).matrix().toarray()

    def price(self, G: np.ndarray, multipliers: np.ndarray | None = None) -> np.ndarray:
        blocks = self._blocks(G)
        if multipliers is not None:
            return (blocks + self._adjoint(multipliers)).reshape(np.shape(G))
        if self.together:  # the norm of a whole branch: a projection
            return self.project(G)
        out = blocks.copy()
        for k in range(len(self.nest.second)):
            mine, A = self._branch(k)
            out[mine] = _least_largest(A, blocks[mine])
        return out.reshape(np.shape(G))

    def to_cvxpy(self, W: Any) -> list[Any]:
        import cvxpy as cp

        return [self.matrix() @ cp.vec(W, order="C") >= 0]


def _least_largest(A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Return ``G + A' rho`` with ``rho >= 0``, G (blocks, d), whose largest row norm is least.

    It is the dual of ``max <G, u>`` over ``A u >= 0``, ``sum_b |u_b| <= 1``. Whatever a solver has left of
    its accuracy, any ``rho >= 0`` gives an upper bound of that.
    """
    import clarabel

    size = float(np.max(np.abs(G), initial=0.0))
    if size == 0.0 or not len(A):
        return G
    blocks, d = G.shape
    unit = A / np.maximum(np.max(np.abs(A), axis=1, keepdims=True), 1e-300)
    m = len(A)
    # rows: rho >= 0, and for every block (t, G + A' rho) in a cone
    place, row = np.nonzero(unit.T)
    places = m + place + place // d + 1
    tops = m + (d + 1) * np.arange(blocks)
    at = (
        np.concatenate([np.arange(m), places, tops]),
        np.concatenate([np.arange(m), row, np.full(blocks, m)]),
    )
    numbers = np.concatenate([np.full(m, -1.0), -unit[row, place], np.full(blocks, -1.0)])
    system = sparse.csc_matrix((numbers, at), shape=(m + blocks * (d + 1), m + 1))
    right = np.concatenate([np.zeros(m), np.column_stack([np.zeros(blocks), G / size]).ravel()])
    cones = [clarabel.NonnegativeConeT(m), *[clarabel.SecondOrderConeT(d + 1)] * blocks]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cost = np.append(np.zeros(m), 1.0)
    none = sparse.csc_matrix((m + 1, m + 1))
    found: Any = clarabel.DefaultSolver(none, cost, system, right, cones, settings).solve()
    rho = np.maximum(np.array(found.x)[:m], 0.0)
    better = G + size * (rho @ unit).reshape(blocks, d)
    worst = [np.max(np.linalg.norm(V, axis=1)) for V in (better, G)]
    return better if np.all(np.isfinite(better)) and worst[0] <= worst[1] else G


def _projection(A: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return ``g + A' rho`` of least norm over ``rho >= 0`` where active sets cycle."""
    import clarabel

    size = float(np.max(np.abs(g)))
    unit = A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-300)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    square, cones = sparse.identity(len(g), format="csc"), [clarabel.NonnegativeConeT(len(A))]
    rows, right = sparse.csc_matrix(-unit), np.zeros(len(A))
    found: Any = clarabel.DefaultSolver(square, -g / size, rows, right, cones, settings).solve()
    rho = np.maximum(np.array(found.z), 0.0)
    r = g + size * (rho @ unit)
    return r if np.all(np.isfinite(r)) and np.linalg.norm(r) <= np.linalg.norm(g) else g
