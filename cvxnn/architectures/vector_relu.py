r"""Two-layer ReLU networks with several outputs.

The network ``f(x) = sum_j v_j (x'w_j + b_j)_+ + c`` with output weights v_j and weight decay,

    minimise   sum_i s_i loss(f(x_i), y_i) + beta/2 * sum_j (|w_j|^2 + b_j^2 + |v_j|^2),

has the optimal value of ``minimise L(F) + beta * gauge(F)`` with the gauge of the convex hull of
``{(Xu)_+ g' : |u|, |g| <= 1}``: per activation pattern the nuclear norm with its left factors kept in the
cone of the pattern. That norm is NP-hard to evaluate, but its dual needs only neurons: ``max_u |Z'(Xu)_+|
<= beta``. So a network grows: descend on all neurons, price new ones against its dual variable, insert,
until no neuron prices out; at most n * outputs neurons are needed. A network is globally optimal exactly if
it is stationary and no neuron prices out, whatever found it.

What the output layer pays decides what outputs share. ``coupling="joint"`` is weight decay: the Euclidean
norm of v_j. ``coupling="separate"`` is ``beta/2 * sum_j (|w_j|^2 + |v_j|_1^2)``, where every neuron may as
well serve one output: with a loss that is a sum over outputs these are independent networks. For one sample
``X = 1, Y = (3, 4)`` and beta = 1 the two optima are 4.5 and 6.

References: Sahiner, Ergen, Pauly and Pilanci, "Vector-output ReLU neural network problems are copositive
programs", ICLR 2021; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (stationary points).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..network import Network
from ..program import Problem
from .base import with_constants
from .vector_rectified import VectorRectified


@dataclass(frozen=True)
class VectorReLU(VectorRectified):
    """Two-layer ReLU networks with several outputs.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias per neuron that is penalised with its weights, one that is not (which also frees the outputs'
        constants), or none.
    patterns : {"auto"}, default="auto"
        Patterns always grow; a network is compared with those of all patterns.
    coupling : {"joint", "separate"}, default="joint"
        Weight decay on the output layer, or the square of the sum of sizes of each neuron's output weights.
    """

    name: ClassVar[str] = "relu"

    hidden_bias: str | None = "penalized"
    patterns: str | int = "auto"
    coupling: str = "joint"

    def of_rows(self, problem: Problem, U: np.ndarray, V: np.ndarray) -> Network:
        d = problem.X.shape[1]
        bias = np.zeros(len(U)) if self.hidden_bias is None else U[:, d]
        return with_constants(problem, Network.two_layer(np.ascontiguousarray(U[:, :d].T), bias, V))

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        return Network.two_layer(W1, b1, w2, c)
