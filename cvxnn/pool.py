"""Neurons that searches at other strengths found, kept as starts for the next search.

Along a path of strengths the dual variable moves little by little, and with it the local maxima of the
price. A maximum that was found at one strength is therefore the best start for finding it again at the
next: one matrix product prices the whole pool, and ascent starts from the best of it. A light search
that does so continues all maxima that heavier searches before it have found, and only looks for *new* ones
with fewer random starts.

Reference: Massias, Gramfort and Salmon, ICML 2018 (working sets along a path), for the idea of candidates
that are carried from one strength to the next.
"""

from __future__ import annotations

import numpy as np

from .pricing import Neurons

#: Neurons that are kept, the newest; and of one search, the best.
MOST, OF_ONE = 1024, 256
#: Two starts whose directions have a larger cosine are one.
NEAR = 0.99


class Pool:
    """Directions of found neurons, priced again for every dual variable.

    Parameters
    ----------
    d : int
        Coordinates of a neuron.
    """

    def __init__(self, d: int) -> None:
        self.directions = np.zeros((0, d))
        #: The largest share by which a thorough search was above the light one before it.
        self.missed = 0.0
        #: Series of searches so far, for seeds.
        self.searches = 0

    def __len__(self) -> int:
        return len(self.directions)

    def add(self, found: Neurons) -> None:
        """Keep the best of what a search found; the oldest go where there are too many."""
        fresh = found.directions[:OF_ONE]
        self.directions = np.concatenate([self.directions, fresh])[-MOST:]

    def prices(self, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Return ``|Z'(Xu)_+|`` of every neuron, shape (len(self),)."""
        return np.abs(Z @ np.maximum(X @ self.directions.T, 0.0))

    def best(self, X: np.ndarray, Z: np.ndarray, count: int) -> np.ndarray:
        """Return those of highest price, no two nearly parallel, shape (at most `count`, d)."""
        order = np.argsort(-self.prices(X, Z), kind="stable")
        size = np.linalg.norm(self.directions, axis=1, keepdims=True)
        unit = self.directions / np.where(size > 0, size, 1.0)
        free, chosen = np.ones(len(self), dtype=bool), []
        for j in order:
            if free[j]:
                chosen.append(j)
                free &= unit @ unit[j] < NEAR
            if len(chosen) == count:
                break
        return self.directions[np.array(chosen, dtype=int)]
