r"""Two-layer ReLU networks.

The network ``f(x) = sum_j a_j (x'w_j + b_j)_+ + c`` with weight decay,

    minimise   sum_i s_i loss(f(x_i), y_i) + beta/2 * sum_j (||w_j||^2 + b_j^2 + a_j^2),

has the same optimal value, at every width above a finite one, as the convex program over the patterns
``D_1 ... D_P`` of the data (X with a column of ones where there is a bias),

    minimise   L( sum_i D_i X (u_i - v_i) + c ) + beta * sum_i (||u_i|| + ||v_i||)
    subject to (2 D_i - I) X u_i >= 0,   (2 D_i - I) X v_i >= 0,

because a neuron and its scale meet in the product of norms, which weight decay turns into a norm. A
nonzero u becomes the neuron ``w = u / sqrt(||u||), a = sqrt(||u||)``; v likewise with ``a < 0``.

Listing patterns, growing them and certificates are those of :mod:`cvxnn.architectures.rectified`. Another
norm of the hidden weights (`penalty`, :mod:`cvxnn.feature_penalties`) takes the place of the Euclidean one
throughout; what grows such networks is :mod:`cvxnn.architectures.programs`.

References: Pilanci and Ergen, "Neural networks are convex regularizers", ICML 2020; Mishkin, Sahiner and
Pilanci, ICML 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..feature_penalties import WeightPenalty, check_outputs
from .base import Architecture
from .skip import WithSkip
from .vector_relu import VectorReLU


@dataclass(frozen=True)
class ReLU(WithSkip):
    """Two-layer ReLU networks with one output.

    Parameters
    ----------
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias per neuron that is penalised with its weights, one that is not (which also frees
        the output's constant), or none.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        "auto" enumerates all patterns when that is cheap and grows them otherwise; "all" insists on
        enumeration; a number trains on that many sampled patterns, with scope ``patterns``, and "wedge" or
        ("wedge", number) on patterns sampled through the data, see :mod:`cvxnn.geometric`.
    penalty : {"l2", "l1"}, Groups or Elastic, default="l2"
        The norm of hidden weights in the network's penalty, ``1/2 sum_j (Omega(w_j)^2 + a_j^2)``; "l2" is
        weight decay, for the others see :mod:`cvxnn.feature_penalties`.
    skip : bool, default=False
        Whether there is a linear neuron beside the ReLU neurons, which pays like them: a skip connection,
        see :mod:`cvxnn.architectures.skip`. Not with a free hidden bias, which brings one.

    Raises
    ------
    ValueError
        If a skip connection does not go with the rest.
    """

    name: ClassVar[str] = "relu"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    penalty: WeightPenalty = "l2"
    skip: bool = False

    def __post_init__(self) -> None:
        self.check()

    @property
    def leak(self) -> float:
        return 0.0

    def for_outputs(self, outputs: int) -> Architecture:
        """Return this family, or its sister for several outputs where patterns grow."""
        if outputs == 1:
            return self
        check_outputs(self.penalty, outputs)
        return VectorReLU(self.hidden_bias, self.patterns, skip=self.skip)
