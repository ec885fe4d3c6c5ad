r"""Deep networks trained layer by layer, one certified program for each stage.

Stage j sees features x_j, the data themselves at first, and trains a two-layer network on them to global
optimality,

    minimise   sum_i s_i loss(f_j(x_ji), y_i) + beta * R(f_j),        f_j(x) = sum_k a_k h_k(x) + c,

with the penalty R of its family (weight decay on its two layers). Its hidden units, scaled to cost one, are
frozen and become the next features, ``x_{j+1} = h(x_j)``, or ``[x_j, h(x_j)]`` with skip features; its
output layer is thrown away, except that of the last stage. The result is one deep network.

**What is certified is every stage, never the deep network**: given its frozen layers no network in the
scope has a lower objective, which counts the penalty of the last two layers only. Nothing is said about
other frozen layers. The final certificate is that of the last stage, and says so.

The objective of a stage is not above that of the stage before (:mod:`cvxnn.frozen_layers` has the proof)
where a copy of the predictor costs no more than the predictor did: with ReLU, absolute-value and gated
units, which are compared with a gate that is always open for this, and with skip features in every family
that can have them; the gates of earlier stages then stay. Training starts a stage from that copy and never
returns anything worse. Other stages may rise, as may those that train on a number of sampled ReLU patterns.

For one sample x = y = 1 without bias and beta < 1 the first stage ends at ``beta - beta^2 / 2``; its unit
of cost one computes 1 again, so the second stage has the same program and the same optimum.

References: Belilovsky, Eickenberg and Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML
2019; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (convex stages); Pilanci and Ergen,
ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..frozen_layers import Layers
from .base import Architecture, VectorArchitecture
from .stages import Stages


@dataclass(frozen=True)
class Layerwise(Stages, Architecture):
    """Deep networks with one output, trained layer by layer.

    Parameters
    ----------
    hidden_bias, patterns
        Of the stages, where `stage` is a name; an object says them itself.
    stages : int, default=2
        Number of hidden layers; fewer where a stage ends without a neuron.
    stage : str or Architecture, default="relu"
        The family of two-layer networks that every stage trains: "relu", "gated_relu", another one, or an
        object.
    skip : bool, default=False
        Whether a stage also sees what the stage before it saw.
    frozen : tuple of layers, default=()
        Layers in front that are there already, of a network that something else trained, say.
    """

    name: ClassVar[str] = "layerwise"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"
    stages: int = 2
    stage: str | Architecture = "relu"
    skip: bool = False
    frozen: Layers = field(default=(), repr=False)


@dataclass(frozen=True)
class VectorLayerwise(Stages, VectorArchitecture):
    """Deep networks with several outputs, trained layer by layer.

    Parameters
    ----------
    hidden_bias, patterns
        Of the stages, where `stage` is a name; an object says them itself.
    coupling : {"joint", "separate"}, default="joint"
        What outputs share, likewise.
    stages, stage, skip, frozen
        As with one output.
    """

    name: ClassVar[str] = "layerwise"

    hidden_bias: str | None = "penalized"
    patterns: str | int | tuple | np.ndarray = "auto"
    coupling: str = "joint"
    stages: int = 2
    stage: str | Architecture = "relu"
    skip: bool = False
    frozen: Layers = field(default=(), repr=False)
