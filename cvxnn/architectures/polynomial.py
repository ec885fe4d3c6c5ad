r"""Two-layer networks with a quadratic activation: neurons of norm one, trained exactly in polynomial time.

The network ``f(x) = sum_j alpha_j sigma(x'u_j) + c0`` with ``sigma(t) = a t^2 + b t + c`` is trained by

    minimise over ||u_j|| = 1, alpha   sum_i s_i loss(f(x_i), y_i) + beta * sum_j |alpha_j|.

The norm of a neuron is part of the family: size cannot move between the layers unless sigma is a pure
square, so that "weight decay after the best rescaling" has no meaning here (with weight decay the problem
is NP-hard). A network whose neurons have another norm is not of the family and is refused. With a hidden
bias x has a 1 appended, and ``||(w_j, b_j)|| = 1``; a bias that is not part of the norm would make
outputs unbounded at no cost, and is refused.

``alpha sigma(x'u) = <M(x), alpha (u, 1)(u, 1)'>`` for ``M(x) = [[a xx', b x / 2], [b x' / 2, c]]`` is
linear in the matrix, sums of such matrices with alpha >= 0 are ``{Z psd, tr Z_1 = Z_4}``, and ``sum_j
alpha_j = Z_4``. So the optimum is that of the convex program

    minimise over psd Z, Z'   L( <M(x_i), Z - Z'> + c0 ) + beta (Z_4 + Z'_4)
    subject to                tr Z_1 = Z_4,  tr Z'_1 = Z'_4,

of a size independent of the width, reached by at most rank(Z) + rank(Z') <= 2 (d + 1) neurons. In its
dual ``M(Z) = max over ||u|| = 1 of |sum_i Z_i sigma(x_i'u)| <= beta``: quadratic functions on a sphere,
so certificates are exact at any size, by one eigendecomposition.

With several outputs the penalty is ``sum_j ||alpha_j||_1``: a neuron that serves two outputs costs as
much as two neurons. Each output has matrices of its own, and only the loss joins them.

Where b = c = 0 the gauge is the nuclear norm of a symmetric matrix. One sample ``x = 1``, ``y = 2`` with
(a, b, c) = (0.09, 0.5, 0.47) and beta = 0.1 has the features 1.06 and 0.06, and the optimum 0.1842293.

Reference: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts: global convex optimization of
polynomial activation neural networks in fully polynomial time", Math. Prog. 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..network import Affine, Network
from ..network import Polynomial as Activation
from ..program import Problem
from ..quadratic_units import Neurons, QuadraticUnits
from .base import Architecture, VectorArchitecture
from .spectrahedral import Spectrahedral, check_norms, coefficients_of, last_weights
from .two_layer import check_hidden_bias, design_matrix


@dataclass(frozen=True)
class Polynomial(Spectrahedral):
    """Two-layer networks with a quadratic activation and one output.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        A bias within the norm of each neuron, or none.
    coefficients : (float, float, float), default=(0.09, 0.5, 0.47)
        ``a, b, c`` of ``a t^2 + b t + c``; the default resembles a ReLU on [-5, 5].
    method : {"auto", "columns", "semidefinite"}, default="auto"
        How to train: column generation with the exact oracle; or the semidefinite program first,
        practical up to about 40 features. "auto" takes that for losses with kinks on up to 15 columns, and
        goes on to it where columns stop above the tolerance, as they do on data far from the origin or of
        very different scales, on up to 41 columns of one output (20 million numbers in its operator).
    """

    name: ClassVar[str] = "polynomial"

    hidden_bias: str | None = "penalized"
    coefficients: tuple[float, float, float] = (0.09, 0.5, 0.47)
    method: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.coefficients, list):  # as the command line has it
            object.__setattr__(self, "coefficients", tuple(self.coefficients))

    def check(self) -> None:
        super().check()
        check_hidden_bias(self.hidden_bias)
        if self.hidden_bias == "free":
            raise ValueError(
                "hidden_bias='free' has no meaning for neurons of norm one: pass 'penalized', a bias "
                "within the norm, or None"
            )

    def units(self, problem: Problem) -> QuadraticUnits:
        self.check()
        X = design_matrix(problem, self.hidden_bias)
        outputs = problem.y.shape[1] if problem.y.ndim == 2 else None
        return QuadraticUnits(X[None, :, None, :], self.coefficients, 1.0, outputs)

    def network_of(self, problem: Problem, neurons: Neurons) -> Network:
        size = np.linalg.norm(neurons.V, axis=1)
        U = neurons.V / np.maximum(size, 1e-300)[:, None]
        outputs = problem.y.shape[1] if problem.y.ndim == 2 else 1
        weights = np.zeros((len(U), outputs))
        weights[np.arange(len(U)), neurons.output] = neurons.sign * size**2
        d = problem.X.shape[1]
        bias = U[:, d].copy() if self.hidden_bias is not None else np.zeros(len(U))
        return self.adopt(np.ascontiguousarray(U[:, :d].T), bias, weights, np.zeros(outputs))

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        return Network.two_layer(W1, b1, w2, c, Activation(*map(float, self.coefficients)))

    def neurons_in(self, network: Network, features: int) -> Neurons:
        first = network.layers[0]
        if not (self.reads(network) and isinstance(first, Affine)):
            raise ValueError(
                f"{network!r} is not a two-layer polynomial network: pass Affine, Polynomial, Affine"
            )
        numbers = coefficients_of(network)
        if numbers != tuple(map(float, self.coefficients)):
            raise ValueError(f"the network has the coefficients {numbers}: pass coefficients={numbers}")
        if self.hidden_bias is None and np.any(first.bias != 0):
            raise ValueError("the network has hidden biases: pass hidden_bias='penalized', not None")
        rows = first.weight if self.hidden_bias is None else np.vstack([first.weight, first.bias])
        check_norms(rows)
        weights = last_weights(network)
        j, k = np.nonzero(weights)
        amount = weights[j, k]
        V = rows.T[j] * np.sqrt(np.abs(amount))[:, None]
        return Neurons(V, np.zeros(len(j), dtype=int), k, np.sign(amount))

    def for_outputs(self, outputs: int) -> Architecture:
        """This family, or its sister with several outputs."""
        kind = VectorPolynomial if outputs > 1 else Polynomial
        return kind(self.hidden_bias, self.coefficients, self.method)

    @classmethod
    def reads(cls, network: Network) -> bool:
        kinds = [type(layer) for layer in network.layers]
        return kinds == [Affine, Activation, Affine]

    def like(self, network: Network) -> Architecture:
        """This family with the coefficients of a network."""
        return replace(self, coefficients=coefficients_of(network))


@dataclass(frozen=True)
class VectorPolynomial(Polynomial, VectorArchitecture):
    """Two-layer networks with a quadratic activation and several outputs, penalty ``sum_j ||alpha_j||_1``.

    Parameters
    ----------
    hidden_bias : {"penalized", None}, default="penalized"
        As with one output.
    coefficients : (float, float, float), default=(0.09, 0.5, 0.47)
        As with one output.
    method : {"auto", "columns"}, default="auto"
        Always column generation; standardise features that are far from the origin.
    """

    several: ClassVar[bool] = True
