"""Two-layer ReLU networks with several outputs.

All about them is in :mod:`cvxnn.architectures.vector_rectified`, and about linear neurons beside the
others in :mod:`cvxnn.architectures.vector_skip`.

References: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .vector_skip import WithVectorSkip


@dataclass(frozen=True)
class VectorReLU(WithVectorSkip):
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
    skip : bool, default=False
        Whether there are linear neurons beside the ReLU neurons, which pay like them: a skip connection,
        see :mod:`cvxnn.architectures.vector_skip`. Not with a free hidden bias, which brings one.

    Raises
    ------
    ValueError
        If a skip connection does not go with the rest.
    """

    name: ClassVar[str] = "relu"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    coupling: str = "joint"
    skip: bool = False

    def __post_init__(self) -> None:
        self.check()

    @property
    def leak(self) -> float:
        return 0.0
