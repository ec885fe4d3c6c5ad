r"""Oracles for networks with several outputs that may have linear neurons beside the others.

A linear neuron ``x -> (x'w) v'`` pays like any other, so the price of a dual variable Z (n, outputs) is the
larger of that of the other neurons and, under weight decay,

    max over |u| <= 1, |g| <= 1 of (Xu)'Z g  =  ||X'Z||_2,

the largest singular value, which is exact: scopes stay those of the oracle without lines. Where outputs are
separate it is the largest norm of a column of ``X'Z``.

*The matrix bound is above it already.* Let ``sigma = ||X'Z||_2`` have the singular vectors u and g, s be
the slope of the activation and Lambda any positive diagonal matrix. Of the matrix whose top eigenvalue is
twice the bound of :mod:`cvxnn.vector_bounds` the vector ``(g, u) / sqrt(2)`` takes the value

    (1 - s)/2 * ( |Lambda^1/2 Z g|^2 + |Lambda^-1/2 X u|^2 ) + (1 + s) sigma  >=  (1 - s) sigma + (1 + s)
    sigma  =  2 sigma,

for a sum of squares is at least twice the product of the norms, which is at least ``(Zg)'Xu = sigma``. So
what that bound proves it proves for networks with a skip connection too, and nothing has to be given up.

References: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021 (the dual); :mod:`cvxnn.vector_oracles`. The
comparison of the two prices is derived here.
"""

from __future__ import annotations

import numpy as np

from .certificate import Proof, scale
from .layers import SkipReLU
from .network import Affine, Network
from .skip_oracles import raised
from .vector_growth import Rows
from .vector_oracles import FaceOracle, VectorOracle, VectorSearch
from .vector_pricing import VectorNeurons


class VectorSkipOracle(VectorOracle):
    """What the oracles below add to those of other neurons: the prices of linear ones."""

    def lines(self, Z: np.ndarray) -> VectorNeurons:
        """Return the best linear neurons, one for every singular vector (or column) of ``X'Z``."""
        rows = Rows.straight(self.X.T @ Z, self.coupling)
        values = np.linalg.norm(rows.U, axis=1)
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > 0]
        units = rows.U[order] / values[order, None]
        return VectorNeurons(values[order], units, rows.G[order], np.ones(len(order), dtype=bool))

    def line_above(self, Z: np.ndarray) -> float:
        """Bound the price of the best linear neuron from above, rounding and all."""
        return raised(self.lines(Z).best, self.X, Z)

    def neurons(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        effort: int,
        *,
        exact: bool = True,
    ) -> VectorNeurons:
        found = super().neurons(Z, starts, random_state, effort, exact=exact)
        return found.join(self.lines(Z))

    def neurons_of(self, network: Network) -> np.ndarray:
        """Return the hidden weights of the neurons that are not linear, (m, r)."""
        first, *middle, last = network.layers
        passed = [layer.passed for layer in middle if isinstance(layer, SkipReLU)]
        assert isinstance(first, Affine)
        kept = first.weight.shape[1] - sum(passed)
        bent = Affine(first.weight[:, :kept], first.bias[:kept])
        return super().neurons_of(Network((bent, *middle, last)))


class VectorSkipFaces(VectorSkipOracle, FaceOracle):
    """Exact pricing over all faces of all cells, and of lines (scope ``global``)."""


class VectorSkipSearch(VectorSkipOracle, VectorSearch):
    """Local search for neurons, exact pricing of lines, and a bound over all patterns for proofs."""

    def bound(self, Z: np.ndarray, max_time: float = float("inf")) -> float:
        """Bound the price over all patterns, and of lines."""
        return max(super().bound(Z, max_time), self.line_above(Z))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        """The proof without lines, scaled back by what rounding leaves of their price above it."""
        proof = super().prove(Z, max_iter=max_iter, max_time=max_time)
        line = self.line_above(proof.Z)
        if line <= self.problem.beta:
            return proof
        return Proof(*scale(self.problem, proof.Z, line), proof.scope)
