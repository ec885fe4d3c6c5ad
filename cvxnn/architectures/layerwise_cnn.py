r"""Deep convolutional networks trained layer by layer, one certified program for each stage.

Stage j sees maps x_j, the images themselves at first, and trains a two-layer convolutional network on them
to its optimum, with the weight decay of its filters and output weights,

    minimise   sum_i s_i loss(f_j(x_ji), y_i) + beta * R_j,        f_j(x) = sum_k a_k' pool(h_k(x)) + c.

``h_k`` are its convolutions, gated ones (:mod:`cvxnn.architectures.cnn_gated`, the nuclear norm) or ReLUs
(:mod:`cvxnn.architectures.cnn`). Its filters, scaled to norm one, are frozen without their pooling and make
the maps of the next stage, ``x_{j+1} = h(x_j)``. In front of the stages in `down` every 2 x 2 block of
pixels moves into channels (space to depth), which loses nothing and halves the resolution. Of the output
layers the last one is kept: the result is one deep network.

**What is certified is every stage, never the deep network**, as with dense stages, see
:mod:`cvxnn.architectures.layerwise`. A stage does not start from the predictor before it, so that
objectives may rise from stage to stage.

With one pixel, one channel and a kernel of one there is a filter for each sign, and everything is as with
dense stages: x = y = 1 without bias and beta < 1 end at ``beta - beta^2 / 2`` in every stage.

:class:`cvxnn.LayerwiseConvClassifier` trains the networks of Belilovsky et al. on whole image sets, from
chunks of samples; its penalty is the squared norm of the published convex stages, and each of its stages is
one linear system. Here penalty and loss are those of the other families.

References: Belilovsky, Eickenberg and Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML
2019; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (convex stages); Ergen and Pilanci,
ICLR 2021.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..conv_maps import space_to_depth
from ..frozen_layers import Layers, split
from ..network import Conv, GatedConv, Network, ReLU
from ..program import Problem
from .base import Architecture, VectorArchitecture
from .convolutional import WHOLE, Convolutional, PoolSize, Size
from .hidden import positive
from .stages import Stages

#: Families whose filters make maps for another stage.
FAMILIES = ("cnn_gated", "cnn")


@dataclass(frozen=True)
class ConvStages(Stages):
    """What layer-wise convolutional networks of one and of several outputs share."""

    #: Features have places.
    rotates: ClassVar[bool] = False

    kernel: Size = None
    input_shape: tuple[int, ...] | None = None
    padding: int | tuple[int, int] | str = 1
    pool: PoolSize = WHOLE
    pooling: str = "mean"
    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"
    stages: int = 2
    down: int | tuple[int, ...] = ()
    stage: str | Architecture = "cnn_gated"
    frozen: Layers = field(default=(), repr=False)

    for_shape = Convolutional.for_shape

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether a network is a stage, with layers below it or none."""
        return any(split(network, kind.reads) is not None for kind in cls._families().values())

    @staticmethod
    def _stacks(kind: type[Architecture]) -> bool:
        return kind.name in FAMILIES

    def family(self) -> Any:
        """Return the family of the two-layer networks that the stage trains.

        Raises
        ------
        ValueError
            If there is none of this name, or the number of stages is none.
        """
        self.check_stages()
        families = self._families()
        if isinstance(self.stage, tuple(families.values())):
            return self.stage
        if not isinstance(self.stage, str) or self.stage not in families:
            choices = " or ".join(map(repr, FAMILIES))
            raise ValueError(
                f"stage={self.stage!r} is no family of convolutional stages: pass {choices}, or an object "
                "of theirs"
            )
        kind = families[self.stage]
        names = [part.name for part in fields(kind)]  # type: ignore[arg-type]
        parts = {name: getattr(self, name, None) for name in names}
        return kind(**{**parts, "stride": 1})

    def cost(self, network: Network) -> float:
        """The penalty of the last convolution and the output layer; frozen layers pay nothing.

        Raises
        ------
        ValueError
            If the last layers are not those of the stages' family.
        """
        family = self.family()
        below, top = split(network, family.reads) or ((), network)
        # the geometry of a later stage is that of the maps, which frozen layers decide
        return float((family.like(top) if below else family).cost(top))

    def _halved(self) -> tuple[int, ...]:
        """The stages that see their maps at half the resolution."""
        given = self.down if isinstance(self.down, tuple | list | range) else (self.down,)
        whole = all(isinstance(k, numbers.Integral) and not isinstance(k, bool) for k in given)
        if not whole or not all(1 <= k < max(self.stages, 1) for k in given):
            raise ValueError(
                f"down={self.down!r} with stages={self.stages}: pass the stages, counted from 0, that see "
                "their maps at half the resolution, such as (1, 2) of three; the first one, 0, sees the "
                "images as they are"
            )
        return tuple(int(k) for k in given)

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        """Return the patterns of the next stage; first see whether all stages fit the images.

        Raises
        ------
        ValueError
            If maps become too small for the kernel or the pooling, or an array of gates is given for more
            than one stage.
        """
        family = self.family()
        if self.stages > 1 and isinstance(family.patterns, np.ndarray):
            raise ValueError("gates in an array fit the first stage only: pass a number of patterns")
        shape = self.inner(problem).X.shape[1]
        for k in range(1, self.stages):
            _, family = self._behind(family, 1, shape, k in self._halved())
            shape = int(np.prod(family.input_shape))
            family.pools_of(shape, 1)
        return super().arrange(problem, random_state)

    def _behind(self, family: Any, filters: int, features: int, halved: bool) -> tuple[Layers, Any]:
        """The layers between the maps of a stage and the next one, and the family of that one."""
        shape = (*family.windows_of(features).out, filters)
        layers: Layers = ()
        if halved:
            moved = space_to_depth(shape)
            layers, shape = (moved,), (*moved.windows.out, moved.weight.shape[1])
        return layers, replace(family, input_shape=shape)

    def _next(self, network: Network) -> tuple[Any, Network | None]:
        """The family of the next stage on the maps of the filters of this one."""
        family = self.family()
        parts = split(network, family.reads)
        assert parts is not None
        first = parts[1].layers[0]
        assert isinstance(first, Conv | GatedConv)
        size = positive(np.sqrt(np.sum(first.weight**2, axis=0) + first.bias**2))
        hidden: Layers = (replace(first, weight=first.weight / size, bias=first.bias / size),)
        hidden = hidden if isinstance(first, GatedConv) else (*hidden, ReLU())
        moved, behind = self._behind(family, len(size), first.inputs, 1 in self._halved())
        down = tuple(k - 1 for k in self._halved() if k > 1)
        left = {"stages": self.stages - 1, "down": down, "stage": behind}
        return replace(self, frozen=(*parts[0], *hidden, *moved), **left), None


@dataclass(frozen=True)
class LayerwiseCNN(ConvStages, Architecture):
    """Deep convolutional networks with one output, trained layer by layer.

    Parameters
    ----------
    kernel, input_shape
        Of every stage, as of :class:`cvxnn.architectures.cnn_gated.CNNGated`; `input_shape` is that of the
        images.
    padding : int, (int, int) or "circular", default=1
        Of every stage; 1 keeps the size of maps where the kernel is 3.
    pool, pooling, hidden_bias, patterns
        Of every stage, as of :class:`cvxnn.architectures.cnn_gated.CNNGated`.
    stages : int, default=2
        Number of convolutions, one of each stage; fewer where a stage ends without a filter.
    down : int or tuple of int, default=()
        Stages, counted from 0, that see their maps at half the resolution, every 2 x 2 block of pixels
        moved into channels. The first one sees the images as they are.
    stage : {"cnn_gated", "cnn"} or Architecture, default="cnn_gated"
        The family that every stage trains; an object says the parameters above itself.
    frozen : tuple of layers, default=()
        Layers in front that are there already.
    """

    name: ClassVar[str] = "layerwise_cnn"


@dataclass(frozen=True)
class VectorLayerwiseCNN(ConvStages, VectorArchitecture):
    """Deep convolutional networks with several outputs, trained layer by layer.

    Parameters
    ----------
    kernel, input_shape, padding, pool, pooling, hidden_bias, patterns, stages, down, stage, frozen
        As with one output.
    """

    name: ClassVar[str] = "layerwise_cnn"
