r"""Convolutional networks of two layers: ReLUs, and a linear pooling of all positions or of windows.

A filter u slides over the input, a ReLU follows, and the results at all K positions are added up (or
averaged). With the patches ``X_k`` (n, patch) of all samples at position k the network is

    f = sum_j a_j sum_k (X_k u_j)_+ + c,      R = 1/2 sum_j (||u_j||^2 + a_j^2).

In a cell of the arrangement of the stacked patches ``X_c = [X_1; ...; X_K]`` every ``D_k`` in ``(X_k u)_+ =
D_k X_k u`` is fixed, so the network is linear in u there, and weight decay turns into a norm as in
:mod:`cvxnn.architectures.relu`:

    minimise   L( sum_i sum_k D_ik X_k (u_i - v_i) + c ) + beta * sum_i (||u_i|| + ||v_i||)
    subject to (2 D_ik - I) X_k u_i >= 0,   (2 D_ik - I) X_k v_i >= 0      for all k,

over the patterns i of ``X_c``. Its rank is at most the length of a patch, whatever the size of the images:
there are at most ``2 sum_{k < patch} C(nK - 1, k)`` patterns, polynomially many in n for a fixed filter.
Averaging divides the ``X_k`` by K. A penalised bias is one more entry 1 of every patch.

The price of a dual variable Z is that of an ordinary ReLU neuron on the rows of ``X_c`` with Z repeated
(:mod:`cvxnn.pooled_oracles`), so everything that grows, lists and bounds ReLU networks serves here too:
patterns are listed where there are few (scope ``global``) and grow otherwise (scope ``bounded``; ``global``
with patches of two numbers). Rows of patches that are all zero, as padding makes them, are rows that no
neuron sees.

Several outputs have an output vector v_j for every filter. Per pattern the convex form has the nuclear
norm with left factors kept in the cone of the pattern, as in :mod:`cvxnn.architectures.vector_relu`; its
dual constraint is ``max_u |sum_i Z_i sum_k (x_ik'u)_+| <= beta`` with rows Z_i, the price of a neuron on
the stacked patches again. The scope is ``global`` where the faces of their arrangement are few enough to
list, and ``bounded`` otherwise.

*An output weight for every window.* With ``pool="flatten"`` or a size the output layer sees the positions,
or the sums or means of windows of them side by side: a fully connected layer after a linear pooling. With
the positions ``k in p`` of window p (over the size of a window, where it is averaged),

    f = sum_j sum_p a_jp sum_{k in p} (X_k u_j)_+ + c,      R = 1/2 sum_j (||u_j||^2 + ||a_j||^2),

``a_j`` all output weights of a filter, of all windows and outputs. In a cell of the arrangement of ``X_c``
the network is linear in ``u_j a_j'``, and weight decay, minimised over all ways to write ``Z_i = sum_j u_j
a_j'`` with every u_j in the cone of the cell, a norm of the matrix Z_i (patch, windows * outputs):

    minimise   L( sum_i sum_p sum_{k in p} D_ik X_k (Z_i)_p + c ) + beta * sum_i ||Z_i||_{cone i, *},

the nuclear norm but for its cone, and hard to evaluate because of it. Its dual constraint is on neurons:
for a dual variable Z a filter u has its best output weights along ``sum_i Z_i h_ip(u)``, so that

    M(Z) = max over |u| <= 1 of ( sum_p | sum_i Z_i sum_{k in p} (x_ik'u)_+ |^2 )^1/2  <=  beta,

which is the price of a neuron with ``windows * outputs`` outputs on the stacked patches, for a dual
variable that has Z_i in the columns of window p on the patches of that window (:mod:`cvxnn.unfolding`). So
such a network, also of one output, is trained and judged as one of several outputs: it grows, and its
scope is ``global`` where the faces of the arrangement can be listed and ``bounded`` otherwise. With one
pixel a patch and no bias there are two cells, u > 0 and u < 0, and the program is a group lasso with two
groups.

References: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021, sections 2
and 3; Pilanci and Ergen, ICML 2020; Sahiner, Ergen, Ozturkler, Pauly, Mardani and
Pilanci, "Scaling convex neural networks with Burer-Monteiro factorization" (several outputs; equations 25
and 26: windows).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle
from ..design import Design
from ..growth import Rows
from ..network import Affine, Network
from ..oracles import NeuronOracle
from ..pooled_oracles import PooledOracle, PooledVectorOracle, window_bounds
from ..program import Problem, Program, Solution
from ..unfolding import unfold_problem
from ..vector_growth import Coupling
from ..vector_oracles import FaceOracle, VectorOracle
from .base import Architecture, Effort, Training
from .convolutional import WHOLE, PoolSize, Size, SumPooled
from .rectified import AUTO_PATTERNS, Rectified
from .vector_rectified import VectorRectified

#: Numbers in the predictions of all windows, with a column for every window and output, at most.
LARGEST = 2e7


@dataclass(frozen=True)
class CNN(SumPooled, Rectified):
    """Convolutional networks of two layers with a linear pooling and one output.

    Parameters
    ----------
    kernel : int, (int, int) or None, default=None
        Height and width of the filters; None is 3, or the whole axis where that is shorter.
    input_shape : (h, w), (h, w, c), (length,) or None, default=None
        What a flat row is, in NumPy's order, channels last; a signal with channels is (length, 1, c).
        None is a signal of one channel, or the shape of the samples that an estimator is given.
    stride : int or (int, int), default=1
    padding : int, (int, int) or "circular", default=0
        Zeros on each side of the input, or the opposite side of it.
    pooling : {"mean", "sum"}, default="mean"
    hidden_bias : {"penalized", "free", None}, default="penalized"
        A bias per filter that is penalised with its weights, one that is not (which also frees the output's
        constant), or none.
    patterns : {"auto", "all", "wedge"}, int or tuple, default="auto"
        Of all patches together: listed where there are few and grown otherwise; "all" insists on listing; a
        number trains on that many sampled patterns, with scope ``patterns``. With a weight for every window
        patterns grow: "auto" only.
    pool : int, (int, int), "all" or "flatten", default="all"
        The windows that are pooled, side by side: their size, all positions, or none. The output layer has
        a weight for every window.
    """

    name: ClassVar[str] = "cnn"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    pool: PoolSize = WHOLE

    @property
    def leak(self) -> float:
        return 0.0

    def _most_listed(self, problem: Problem, X: np.ndarray) -> int:
        return AUTO_PATTERNS

    def _plain(self, problem: Problem, design: Design, rows: Rows) -> Network:
        """Balance the layers, and give the output its best constant."""
        root = np.sqrt(design.norms(rows.U))[:, None]
        return self.of_rows(problem, design.weights(rows.U) / root, rows.signs[:, None] * root)

    def _search_oracle(self, problem: Problem, design: Design) -> NeuronOracle:
        return PooledOracle(problem, super()._search_oracle(problem, design))

    def _cell_oracle(self, problem: Problem, design: Design, arrangement: Arrangement) -> NeuronOracle:
        return PooledOracle(problem, super()._cell_oracle(problem, design, arrangement))

    def for_outputs(self, outputs: int) -> Architecture:
        return self if outputs == 1 else self.rank_one()

    def rank_one(self) -> VectorCNN:
        """Return the family with output vectors: of several outputs, or with weights for every window."""
        # patterns grow there; others are refused
        return VectorCNN(**{part.name: getattr(self, part.name) for part in fields(self)})

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        if self.whole:
            return super().arrange(problem, random_state)
        return self.rank_one().arrange(problem, random_state)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        if self.whole:
            return super().lift(problem, arrangement)
        return self.rank_one().lift(problem, arrangement)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        if self.whole:
            return super().decode(problem, arrangement, solution)
        return self.rank_one().decode(problem, arrangement, solution)

    def cost(self, network: Network) -> float:
        """``sum_j |(u_j, b_j)| |a_j|``, the penalty after the best rescaling of each filter."""
        return super().cost(network) if self.whole else self.rank_one().cost(network)

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> Oracle:
        if self.whole:
            return super().oracle(problem, arrangement)
        return self.rank_one().oracle_within(problem, arrangement, max_time)

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> Oracle:  # type: ignore[override]
        return self.oracle_within(problem, arrangement, None)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        if self.whole:
            return self.unit_outputs(problem, U)
        return self.rank_one().unit_neurons(problem, arrangement, U)[:, :, 0]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: object, effort: Effort
    ) -> Training:
        if self.whole:
            return (yield from super().train(problem, arrangement, oracle, effort))
        assert isinstance(oracle, VectorOracle)
        return (yield from self.rank_one().train(problem, arrangement, oracle, effort))


@dataclass(frozen=True)
class VectorCNN(SumPooled, VectorRectified):
    """Convolutional networks of two layers with a linear pooling and several outputs.

    With a weight for every window these are networks of one output too: filters have output vectors then.

    Parameters
    ----------
    kernel, input_shape, stride, padding, pooling
        As of :class:`cvxnn.architectures.cnn.CNN`.
    hidden_bias : {"penalized", "free", None}, default="penalized"
    patterns : {"auto"}, default="auto"
        Patterns always grow; a network is compared with those of all patterns.
    pool : int, (int, int), "all" or "flatten", default="all"
        As of :class:`cvxnn.architectures.cnn.CNN`.
    coupling : {"joint", "separate"}, default="joint"
        Weight decay on the output layer, or the square of the sum of sizes of each filter's output weights
        (where all positions are pooled).
    """

    name: ClassVar[str] = "cnn"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple = "auto"
    pool: PoolSize = WHOLE
    coupling: str = "joint"

    @property
    def leak(self) -> float:
        return 0.0

    def _check(self) -> Coupling:
        if not self.whole:
            if self.coupling == "separate":
                raise ValueError(
                    "coupling='separate' is for pool='all': with a weight for every window pass 'joint'"
                )
            if not isinstance(self.patterns, str) or self.patterns != "auto":
                raise ValueError(
                    f"patterns={self.patterns!r}: with a weight for every window patterns grow, pass "
                    "patterns='auto', pool='all' with one output, or architecture='cnn_gated', which "
                    "samples them"
                )
        return super()._check()

    def design(self, problem: Problem) -> Design:
        """Return the patches in the order of windows, divided by their size where these are averaged."""
        self._check()
        return super().design(problem)

    def rows_problem(self, problem: Problem) -> Problem:
        """Return the problem with outputs for every window, see :mod:`cvxnn.unfolding`.

        Raises
        ------
        ValueError
            If there are too many windows and outputs, or the loss has kinks.
        """
        if self.whole:
            return problem
        windows = len(self.members(problem.X.shape[1]))
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        if len(problem.X) * windows**2 * outputs > LARGEST:
            raise ValueError(
                f"{windows} windows of {len(problem.X)} samples with {outputs} outputs are too many: pass "
                "a larger pool, such as pool=2, or a stride"
            )
        return unfold_problem(problem, windows)

    def output_rows(self, network: Network) -> np.ndarray:
        last = network.layers[-1]
        assert isinstance(last, Affine)
        if not network.width:
            return np.zeros((0, last.weight.shape[1]))
        return (
            last.weight.reshape(-1, network.width, last.weight.shape[1])
            .swapaxes(0, 1)
            .reshape(network.width, -1)
        )

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        if self.whole:
            return super().unit_neurons(problem, arrangement, U)
        H = self.unit_outputs(problem, U).reshape(len(U), len(problem.X), -1)
        outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
        V = np.cos(np.outer(np.arange(len(U)) + 1.0, np.arange(H.shape[2] * outputs) + 1.0))
        V = (V / np.linalg.norm(V, axis=1)[:, None]).reshape(len(U), H.shape[2], outputs)
        return np.einsum("kip,kpo->kio", H, V)

    def _oracle_of(self, problem: Problem, design: Design, limit: float) -> VectorOracle:
        self.rows_problem(problem)  # refuses what training would
        rows, windows = super()._oracle_of(problem, design, limit), len(self.members(problem.X.shape[1]))
        exact = isinstance(rows, FaceOracle) or self.coupling == "separate"
        singles = () if exact else window_bounds(problem, design, windows)
        return PooledVectorOracle(problem, rows, windows, singles)
