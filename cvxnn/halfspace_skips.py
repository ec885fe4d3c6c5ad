r"""Pricing threshold neurons that may have a linear one beside them.

A linear neuron pays for the norm of its weights, a threshold neuron for its amplitude alone, so that the
price of a dual variable is the larger of

    max over half-spaces of |Z'1[Xu >= 0]|        and        max over ||p|| <= 1 of |Z'Xp|  =  ||X'Z||,

the second exact: scopes stay those of the oracle without lines. A bias of the line is a column of ones in X
where it pays, and the constant of the output where it is free. Neither price bounds the other: the first
does not change with the scale of the data, the second does. With several outputs they are the largest of
``|Z'1[Xu >= 0]|_2`` and the largest singular value of ``X'Z``.

References: Ergen, Gulluk, Lacotte and Pilanci, ICLR 2023 (the first); :mod:`cvxnn.skip_oracles` (the
second).
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from .arrangement import Arrangement
from .halfspaces import MOST, HalfSpaceOracle, HalfSpaces, ListedOracle, SearchedOracle, ShatteredOracle
from .layers import SkipReLU
from .network import Affine, Network
from .program import Problem
from .skip_oracles import LinePricing
from .vector_halfspaces import VectorHalfSpaceOracle, VectorListedOracle, VectorSearchedOracle


class SkipHalfSpaces(LinePricing, HalfSpaceOracle):
    """What the oracles below add to those of threshold neurons.

    Parameters
    ----------
    problem : Problem
    X : ndarray of shape (n, d)
        What threshold neurons see, a column of ones included where they have a bias.
    biased : bool
    straight : ndarray of shape (n, r)
        What linear neurons see and pay for.
    *patterns : Arrangement
        That of an oracle of listed patterns.
    """

    def __init__(
        self, problem: Problem, X: np.ndarray, biased: bool, straight: np.ndarray, *patterns: Arrangement
    ) -> None:
        super().__init__(problem, X, biased, *patterns)
        self.lines = straight

    @property
    def straight(self) -> np.ndarray:
        return self.lines

    def gates_of(self, network: Network) -> np.ndarray:
        """Return the hidden weights of the threshold neurons of a network, shape (m, d)."""
        first, middle = network.layers[0], network.layers[1]
        assert isinstance(first, Affine)
        kept = first.weight.shape[1] - (middle.passed if isinstance(middle, SkipReLU) else 0)
        rest = Affine(first.weight[:, :kept], first.bias[:kept])
        return super().gates_of(Network((rest, *network.layers[1:])))

    @abstractmethod
    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        """Return half-spaces of high price, best first, always the same for the same ``Z`` and `starts`."""


class SkipListed(SkipHalfSpaces, ListedOracle):
    """Exact pricing over listed patterns, and of lines."""

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        values = np.abs(self.masks @ Z)
        best = np.argsort(-values, kind="stable")[:MOST]
        return HalfSpaces(self.masks[best] > 0, self.gates[best], values[best])


class SkipShattered(SkipHalfSpaces, ShatteredOracle):
    """Exact pricing where every 0/1 vector is a pattern, and of lines: the best have one sign of ``Z``."""

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        masks = np.array([Z > 0, Z < 0])
        gates = np.linalg.lstsq(self.X, 2.0 * masks.T - 1.0, rcond=None)[0].T
        return HalfSpaces.of(masks, gates, np.abs(masks @ Z))


class SkipSearched(SkipHalfSpaces, SearchedOracle):
    """Local search for half-spaces, exact pricing of lines, and the bound of the shattered case."""

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        return SearchedOracle.search(self, Z, starts)


class VectorSkipHalfSpaces(SkipHalfSpaces, VectorHalfSpaceOracle):
    """What the oracles below add to those of threshold neurons with several outputs."""

    def line(self, Z: np.ndarray) -> float:
        """Return ``||X'Z||_2``, the price of the best linear neuron."""
        return float(np.linalg.norm(self.straight.T @ Z, 2)) if self.straight.size else 0.0


class VectorSkipListed(VectorSkipHalfSpaces, VectorListedOracle):
    """Exact pricing over listed patterns, and of lines; several outputs."""

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        return VectorListedOracle.search(self, Z, starts)


class VectorSkipSearched(VectorSkipHalfSpaces, VectorSearchedOracle):
    """Local search for half-spaces, exact pricing of lines, and a bound over all sets of samples; several
    outputs."""

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        return VectorSearchedOracle.search(self, Z, starts)
