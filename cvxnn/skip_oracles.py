r"""Oracles for networks that may have a linear neuron beside the others.

A linear neuron pays like any other, so the price of a dual variable is the larger of the other neurons' and

    max over ||u|| <= 1 of |Z'Xu|  =  ||X'Z||,

which is exact: scopes stay those of the other oracle. Since ``t = (t)_+ - (-t)_+`` it is at most twice the
price of ReLU neurons, so a dual point that their bound made feasible is at most halved.

References: Pilanci and Ergen, ICML 2020, section 3; :mod:`cvxnn.oracles`, :mod:`cvxnn.planar`.
"""

from __future__ import annotations

import numpy as np

from .certificate import Oracle, Price, Proof, scale
from .layers import SkipReLU
from .network import Network
from .oracles import ROUNDING, CellOracle, NeuronOracle, SearchOracle
from .planar import PlaneOracle


def raised(price: float, X: np.ndarray, Z: np.ndarray) -> float:
    """A price of linear neurons, computed from ``X'Z``, raised by what rounding may have taken from it."""
    # what sums of n terms may be off by, for products that cancel
    rounding = 1e-15 * float(np.linalg.norm(np.abs(X).T @ np.abs(Z)))
    return price * (1.0 + ROUNDING) + rounding


class LinePricing(Oracle):
    """What an oracle adds to that of other neurons on the same data: the price of a linear one."""

    @property
    def straight(self) -> np.ndarray:
        """What linear neurons see of the data and pay for, (n, r)."""
        return self.X  # type: ignore[attr-defined]

    def line(self, Z: np.ndarray) -> float:
        """Return ``||X'Z||``, the price of the best linear neuron."""
        return float(np.linalg.norm(self.straight.T @ Z))

    def line_above(self, Z: np.ndarray) -> float:
        """Bound the price of the best linear neuron from above, rounding and all."""
        return raised(self.line(Z), self.straight, Z)

    def price(self, Z: np.ndarray) -> Price:
        price, line = super().price(Z), self.line(Z)  # type: ignore[safe-super]
        return Price(max(price.value, self.line_above(Z)), price.scope, max(price.found, line))

    def seen(self, Z: np.ndarray) -> float:
        return max(super().seen(Z), self.line(Z))

    def found(self, Z: np.ndarray, network: Network) -> float:
        return max(super().found(Z, network), self.line(Z))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        """The better of the proof without lines, scaled back where a line prices out, and plain scaling."""
        proof, problem = super().prove(Z, max_iter=max_iter, max_time=max_time), self.problem
        line, best = self.line_above(proof.Z), proof
        if line > problem.beta:
            scaled, bound = scale(problem, proof.Z, line)
            plain = self.price(Z)
            best = Proof(scaled, bound, proof.scope)
            scaled, bound = scale(problem, Z, plain.value)
            best = Proof(scaled, bound, plain.scope) if bound > best.bound else best
        return best


class SkipPricing(LinePricing, NeuronOracle):
    """What the oracles below add to those of ReLU neurons."""

    def neurons_of(self, network: Network) -> np.ndarray:
        """Return the weights of the ReLU neurons of a network, (m, r)."""
        U, middle = super().neurons_of(network), network.layers[1]
        return U[: len(U) - middle.passed] if isinstance(middle, SkipReLU) else U


class SkipCellOracle(SkipPricing, CellOracle):
    """Exact pricing over the cells of an arrangement, and of lines."""


class SkipSearchOracle(SkipPricing, SearchOracle):
    """Local search for neurons, exact pricing of lines, and the matrix bound for proofs."""


class SkipPlaneOracle(SkipPricing, PlaneOracle):
    """Exact pricing of neurons with two weights, and of lines."""
