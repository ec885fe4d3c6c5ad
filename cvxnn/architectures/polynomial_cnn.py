r"""Convolutional networks with a quadratic activation, without pooling, or with mean or sum pooling.

Filters u of norm one slide over the input, ``sigma(t) = a t^2 + b t + c`` follows, the results are pooled
over windows of positions, and the output layer sees every window of every filter,

    f = sum_j sum_w alpha_jw * scale * sum over the patches x of window w of sigma(x'u_j) + c0,
    minimise   L(f) + beta * sum_j sum_w |alpha_jw|,

`scale` being one over the number of patches where they are averaged. As in
:mod:`cvxnn.architectures.polynomial` a product of alpha and two copies of (u, 1) is a matrix in which
predictions are linear. A filter that serves several windows costs as much as several filters, so every
window has matrices of its own, whose order is the length of a patch plus one, whatever the size of the
images:

    f_i = sum_w <M_iw, Z_w - Z'_w> + c0,     M_iw = scale * sum over the patches x of window w of M(x).

Without pooling there is one pair of matrices for each position (a fully connected layer follows the
convolution); with pooling over all positions there is one pair. Prices are quadratic functions on
spheres, one for each window and output, so certificates are exact. A penalised bias is one more entry 1
of every patch.

Several outputs have matrices of their own, ``sum_j sum_w ||alpha_jw||_1``.

Reference: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts", Math. Prog. 2025
(convolutions).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ..network import Affine, Network, Pool
from ..network import Polynomial as Activation
from ..patches import Windows, pair
from ..program import Problem
from ..quadratic_units import Neurons, QuadraticUnits
from .base import Architecture, VectorArchitecture
from .convolutional import Convolutional, Size
from .spectrahedral import Spectrahedral, check_norms, coefficients_of, last_weights
from .two_layer import check_hidden_bias


@dataclass(frozen=True)
class PolynomialCNN(Convolutional, Spectrahedral):
    """Convolutional networks with a quadratic activation and one output.

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
    pooling : {"mean", "sum", "none"}, default="mean"
    pool : int, (int, int) or None, default=None
        Height and width of the windows that are pooled, side by side; what is left over at the borders is
        left out. None is all positions.
    hidden_bias : {"penalized", None}, default="penalized"
        A bias within the norm of each filter, or none.
    coefficients : (float, float, float), default=(0.09, 0.5, 0.47)
        ``a, b, c`` of ``a t^2 + b t + c``.
    method : {"auto", "columns", "semidefinite"}, default="auto"
        As in :class:`cvxnn.architectures.polynomial.Polynomial`.
    """

    name: ClassVar[str] = "polynomial_cnn"

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    pooling: str = "mean"
    pool: Size = None
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
                "hidden_bias='free' has no meaning for filters of norm one: pass 'penalized', a bias "
                "within the norm, or None"
            )
        if self.pooling not in ("mean", "sum", "none"):
            raise ValueError(f"pooling={self.pooling!r} is unknown: pass 'mean', 'sum' or 'none'")

    def pools_of(self, features: int) -> Windows:
        """Return the windows that are pooled, on the positions of one filter."""
        out = self.windows_of(features).out
        if self.pooling == "none":
            return Windows((*out, 1), (1, 1))
        size = out if self.pool is None else pair("pool", self.pool)
        if out[1] == 1:
            size = (size[0], 1)
        return Windows((*out, 1), size, size)

    def units(self, problem: Problem) -> QuadraticUnits:
        self.check()
        windows, pools = self.windows_of(problem.X.shape[1]), self.pools_of(problem.X.shape[1])
        P = windows.patches(problem.X)
        if self.hidden_bias is not None:
            P = np.concatenate([P, np.ones((*P.shape[:2], 1))], axis=2)
        index = pools.index()
        scale = 1.0 / index.shape[1] if self.pooling == "mean" else 1.0
        outputs = problem.y.shape[1] if problem.y.ndim == 2 else None
        return QuadraticUnits(P[:, index].transpose(1, 0, 2, 3), self.coefficients, scale, outputs)

    def network_of(self, problem: Problem, neurons: Neurons) -> Network:
        size = np.linalg.norm(neurons.V, axis=1)
        U = neurons.V / np.maximum(size, 1e-300)[:, None]
        pools = self.pools_of(problem.X.shape[1])
        outputs = problem.y.shape[1] if problem.y.ndim == 2 else 1
        m = len(U)
        weights = np.zeros((pools.positions, m, outputs))
        weights[neurons.window, np.arange(m), neurons.output] = neurons.sign * size**2
        last = Affine(weights.reshape(-1, outputs), np.zeros(outputs))
        layers: tuple[Any, ...] = (
            self.conv_layer(problem, U),
            Activation(*map(float, self.coefficients)),
        )
        if self.pooling != "none" and m:
            layers += (Pool.of(self.pooling, _of_channels(pools, m)),)
        return Network((*layers, last))

    def neurons_in(self, network: Network, features: int) -> Neurons:
        if not self.reads(network):
            raise ValueError(
                f"{network!r} is not a convolutional polynomial network: pass Conv, Polynomial, Pool (or "
                "none), Affine"
            )
        first, pools, weights = self.check_conv(network), self.pools_of(features), last_weights(network)
        numbers = coefficients_of(network)
        if numbers != tuple(map(float, self.coefficients)):
            raise ValueError(f"the network has the coefficients {numbers}: pass coefficients={numbers}")
        pool = network.layers[2] if len(network.layers) == 4 else None
        kind, m = pool.name if isinstance(pool, Pool) else "none", first.weight.shape[1]
        where, ours = pool.windows if isinstance(pool, Pool) else None, _of_channels(pools, max(m, 1))
        other = where is not None and (
            where.shape != ours.shape or not np.array_equal(where.index(), ours.index())
        )
        if m and (kind != self.pooling or other):
            raise ValueError(
                f"the network has pooling={kind!r} over {where}, the family {self.pooling!r} over {pools}"
            )
        rows = first.weight if self.hidden_bias is None else np.vstack([first.weight, first.bias])
        check_norms(rows)
        g, j, k = np.nonzero(weights.reshape(pools.positions, m, -1) if m else weights[None])
        amount = weights.reshape(pools.positions, m, -1)[g, j, k] if m else np.zeros(0)
        return Neurons(rows.T[j] * np.sqrt(np.abs(amount))[:, None], g, k, np.sign(amount))

    def for_outputs(self, outputs: int) -> Architecture:
        """This family, or its sister with several outputs."""
        kind = VectorPolynomialCNN if outputs > 1 else PolynomialCNN
        return kind(**{part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether the layers of a network are those of this family."""
        names = [type(layer).__name__ for layer in network.layers]
        whole = names in (["Conv", "Polynomial", "Affine"], ["Conv", "Polynomial", "Pool", "Affine"])
        pools = [layer.name for layer in network.layers if isinstance(layer, Pool)]
        return whole and pools in ([], ["mean"], ["sum"])

    def like(self, network: Network) -> Any:
        """This family with the geometry, pooling and coefficients of a network."""
        same = replace(super().like(network), coefficients=coefficients_of(network))
        pool = network.layers[2]
        if not isinstance(pool, Pool):
            return replace(same, pooling="none", pool=None)
        return replace(same, pooling=pool.name, pool=pool.windows.kernel)


def _of_channels(pools: Windows, channels: int) -> Windows:
    """The same windows of inputs of some channels."""
    return replace(pools, shape=(*pools.shape[:2], channels))


@dataclass(frozen=True)
class VectorPolynomialCNN(PolynomialCNN, VectorArchitecture):
    """Convolutional networks with a quadratic activation and several outputs.

    Parameters
    ----------
    kernel, input_shape, stride, padding, pooling, pool, hidden_bias, coefficients
        As with one output.
    method : {"auto", "columns"}, default="auto"
        Always column generation.
    """

    several: ClassVar[bool] = True
