r"""Blocks of a restricted convex program: signed patterns, each with weights to start from.

While patterns grow, the program of a round has one group for every block, a pattern with a sign. The
blocks of the next round are those that carry the solution, one of each bundle of nearly equal neurons, and
those of newly priced neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .design import Design
from .growth import Rows, collinear
from .program import Program, Solution


@dataclass(frozen=True, eq=False)
class Blocks:
    """Signed patterns of a restricted program, with a start for each.

    Parameters
    ----------
    masks : bool ndarray of shape (blocks, n)
    signs : ndarray of shape (blocks,)
    W : ndarray of shape (blocks, r)
        Weights to start from, in the coordinates of the design.
    zero : bool
        Whether the pattern of zeros counts: where the activation is zero on its negative side, it does not.
    """

    masks: np.ndarray
    signs: np.ndarray
    W: np.ndarray
    zero: bool = False

    @classmethod
    def of(cls, design: Design, rows: Rows) -> Blocks:
        """The blocks that the neurons of a network lie in."""
        X, zero = design.X, design.slope != 0.0
        none = cls(np.zeros((0, len(X)), dtype=bool), np.zeros(0), X[:0], zero)
        return none.join(cls((X @ rows.U.T > 0).T, rows.signs, rows.U, zero))

    def labels(self) -> list[bytes]:
        """Pattern and sign as bytes: equal keys are the same block."""
        bits = np.packbits(self.masks, axis=1)
        sides = zip(bits, self.signs, strict=True)
        return [b.tobytes() + (b"+" if s > 0 else b"-") for b, s in sides]

    def join(self, other: Blocks) -> Blocks:
        """Append the blocks of another, adding up the starts of equal ones; zero patterns go where
        they do not count."""
        masks = np.concatenate([self.masks, other.masks])
        both = Blocks(
            masks,
            np.concatenate([self.signs, other.signs]),
            np.concatenate([self.W, other.W]),
            self.zero,
        )
        first: dict[bytes, int] = {}
        W = both.W.copy()
        for i, key in enumerate(both.labels()):
            if key in first:
                W[first[key]] += both.W[i]
            elif self.zero or np.any(both.masks[i]):
                first[key] = i
        kept = list(first.values())
        return Blocks(both.masks[kept], both.signs[kept], W[kept], self.zero)

    def take(self, kept: np.ndarray, W: np.ndarray) -> Blocks:
        """Keep some blocks, with new weights for all."""
        return Blocks(self.masks[kept], self.signs[kept], W[kept], self.zero)


def active(program: Program, solution: Solution, blocks: Blocks, design: Design, merge: float) -> Blocks:
    """The blocks that carry the solution, one of each bundle of collinear ones.

    An interior point never has exact zeros. A block is at zero if its norm, as a share of the
    largest, is below the slack of its dual constraint, as a share of beta. A neuron on the border
    of several cells comes back as equal directions in several blocks; the largest stays.
    """
    W = np.asarray(solution.W)
    G = program.constraint.price(program.operator.adjoint(solution.Z), solution.multipliers)
    norms = design.norms(W)
    slack = 1.0 - np.minimum(design.norms(G) / program.beta, 1.0)
    kept = np.flatnonzero(norms > np.max(norms, initial=0.0) * np.maximum(slack, 1e-7))
    groups = collinear(W[kept], blocks.signs[kept], design.free, merge)
    largest = [kept[group[int(np.argmax(norms[kept[group]]))]] for group in groups]
    sums = np.array([W[kept[group]].sum(axis=0) for group in groups]).reshape(-1, W.shape[1])
    return Blocks(blocks.masks[largest], blocks.signs[largest], sums, blocks.zero)
