r"""Growing parallel deep ReLU networks: a pool of branches with their patterns, and what to add to it.

Between the convex programs of three-layer networks branches are *cells*: the pattern and the side of a
branch, and the patterns and signs of its neurons. A program is solved over the cells of the pool; the cells
of newly priced branches are added, those of one branch pattern and side joined; branches at zero leave when
there are many.

Reference: Ergen and Pilanci, "Global optimality beyond two layers", ICML 2021; column generation: Bach,
JMLR 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .deep_descent import Stack, descend, unstack
from .deep_network import Branch, cost_of, outputs_of
from .design import Design
from .growth import magnitudes
from .nested_cones import Nest
from .nested_pricing import Branches
from .program import Problem

__all__ = ["Pool", "insert", "local_descent", "rounded"]

#: Branches of a pool beyond which those at zero leave.
MOST = 60
#: Relative sizes below which rounding leaves blocks out, the coarsest first.
ROUNDINGS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 0.0)


@dataclass(frozen=True, eq=False)
class Cell:
    """A branch's pattern (n,) and side, and which neurons it may have: ``{pattern as bytes + sign}``."""

    mask: np.ndarray
    side: float
    blocks: dict[bytes, tuple[np.ndarray, float]]


class Pool:
    """Cells by the pattern and side of their branch, in the order they came."""

    def __init__(self) -> None:
        self.cells: dict[bytes, Cell] = {}

    def add(self, h: np.ndarray, side: float, masks: np.ndarray, signs: np.ndarray) -> bool:
        """Add a branch with inner output h (n,) and neurons (m, n); return whether anything was new."""
        mask = h > 0
        if not np.any(mask):
            return False
        key = np.packbits(mask).tobytes() + (b"+" if side > 0 else b"-")
        cell = self.cells.setdefault(key, Cell(mask, side, {}))
        before = len(cell.blocks)
        for row, sign in zip(masks, signs, strict=True):
            if np.any(row):
                name = np.packbits(row).tobytes() + (b"+" if sign > 0 else b"-")
                cell.blocks.setdefault(name, (np.asarray(row, dtype=bool), float(sign)))
        return len(cell.blocks) > before

    def add_branches(self, found: list[tuple[Branches, float]], floor: float, most: int) -> int:
        """Add those of the found branches that are worth more than `floor`; return how many were new."""
        new = 0
        for branch, side in found:
            if branch.value <= floor or new >= most:
                break
            new += self.add(branch.h, side, branch.masks, branch.signs)
        return new

    def add_weights(self, branch: Branch, design: np.ndarray) -> bool:
        """Add a three-layer branch given by its weights in the coordinates of the design."""
        W, v, out = branch
        T = design @ W
        masks = (T > 0).T
        h = np.maximum(T, 0.0) @ v[:, 0]
        return self.add(h, float(np.sign(out[0, 0])), masks, np.where(v[:, 0] >= 0, 1.0, -1.0))

    def nest(self, n: int) -> Nest:
        """Return the patterns of all cells."""
        cells = [cell for cell in self.cells.values() if cell.blocks]
        rows = [(mask, sign, k) for k, cell in enumerate(cells) for mask, sign in cell.blocks.values()]
        return Nest.of(
            np.array([row[0] for row in rows], dtype=bool).reshape(-1, n),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows], dtype=int),
            np.array([cell.mask for cell in cells], dtype=bool).reshape(-1, n),
            np.array([cell.side for cell in cells]),
        )

    def thin(self, sizes: np.ndarray, prices: np.ndarray, beta: float) -> None:
        """Let blocks go that are zero in a program's solution and whose price is clearly below beta."""
        if len(sizes) <= 4 * MOST:
            return
        largest, at = float(np.max(sizes, initial=0.0)), 0
        for key in [key for key, cell in self.cells.items() if cell.blocks]:
            for name in list(self.cells[key].blocks):
                if sizes[at] <= 1e-9 * largest and prices[at] <= 0.9 * beta:
                    del self.cells[key].blocks[name]
                at += 1
            if not self.cells[key].blocks:
                del self.cells[key]


def rounded(problem: Problem, W: np.ndarray, build: object, cost: object, allowed: float) -> object:
    """Return the network of the fewest blocks whose objective is within `allowed` of the best rounding's.

    Parameters
    ----------
    problem : Problem
    W : ndarray of shape (blocks, d)
    build : callable(W) -> Network
    cost : callable(Network) -> float
    allowed : float
        Relative.
    """
    sizes = np.linalg.norm(W, axis=1)
    total, seen = float(np.sum(sizes)), []
    for share in ROUNDINGS:
        network = build(np.where((sizes > share * total)[:, None], W, 0.0))  # type: ignore[operator]
        seen.append((problem.value(network(problem.X), cost(network)), network))  # type: ignore[operator]
    least = min(value for value, _ in seen)
    return next(network for value, network in seen if value <= least + allowed * abs(least))


def local_descent(
    problem: Problem,
    design: Design,
    layers: Stack,
    max_iter: int,
    deadline: float = float("inf"),
    walk: int = 0,
) -> tuple[list[Branch], float, float]:
    """Descend from a stack; return its branches, the constant, and the objective at their best scalings."""
    smooth = problem.smoothed(1e-4 * max(problem.null_value(), 1e-300))
    y, s = problem.y, problem.weights
    found, _ = descend(
        *(design.X, y, s, smooth.loss, problem.beta, layers),
        intercept=problem.intercept,
        max_iter=max_iter,
        deadline=deadline,
        walk=walk,
    )
    branches = unstack(found)
    return branches, *valued(problem, design, branches)


def valued(problem: Problem, design: Design, branches: list[Branch]) -> tuple[float, float]:
    """The best constant of a network of branches, and its objective."""
    f = np.zeros_like(problem.y)
    for branch in branches:
        f = f + branch[-1][0, 0] * outputs_of(branch, design.X)
    c = problem.loss.intercept(f, problem.y, problem.weights) if problem.intercept else 0.0
    return c, problem.value(f + c, float(sum(cost_of(branch) for branch in branches)))


def insert(
    problem: Problem, design: Design, branches: list[Branch], found: list[tuple[float, Branch, float]]
) -> list[Branch]:
    """Return a network's branches and some of the found ones, their sizes a Lasso over all outputs."""
    outputs = [outputs_of(branch, design.X) for branch in branches]
    costs = np.array([cost_of([*branch[:-1], np.ones((1, 1))]) for branch in branches])
    signs = [float(np.sign(branch[-1][0, 0])) for branch in branches]
    sizes = np.array([abs(branch[-1][0, 0]) for branch in branches]) * costs
    units = [[b[0] / c, *b[1:]] for b, c in zip(branches, costs, strict=True)]
    units += [branch for _, branch, _ in found]
    signs += [side for _, _, side in found]
    G = np.array(
        [g / c for g, c in zip(outputs, costs, strict=True)]
        + [outputs_of(b, design.X) for _, b, _ in found]
    )
    G = G.reshape(-1, len(problem.y)) * np.array(signs)[:, None]
    start = np.concatenate([sizes, np.zeros(len(found))])
    # kinks of the loss are smoothed for the descent
    smooth = problem.smoothed(1e-4 * max(problem.null_value(), 1e-300))
    a = magnitudes(smooth, G.T, start, max_iter=500, ftol=1e-14)
    kept = np.flatnonzero(a > 1e-8 * float(np.sum(a)))
    return [[*units[k][:-1], np.array([[signs[k] * a[k]]])] for k in kept]
