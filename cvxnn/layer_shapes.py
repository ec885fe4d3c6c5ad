"""What the shapes of a layer's weights have to be, and the refusal of weights that lie about theirs.

A file can hold any arrays under any names. Before anything is computed, every layer of
:mod:`cvxnn.layers` says with ``units(inputs)`` how many outputs it has for so many inputs, and checks by
the functions here that its weights allow that, so that all layers refuse in the same words.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def check_shapes(layer: Any, wanted: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless the fields of a layer have these shapes."""
    for name, shape in wanted.items():
        found = np.shape(getattr(layer, name))
        if found != shape:
            raise ValueError(f"{type(layer).__name__} has {name} of shape {found}, and needs {shape}")


def matrix_shape(layer: Any) -> tuple[int, int]:
    """The shape of the weights of a layer, which must be a matrix."""
    if np.ndim(layer.weight) != 2:
        raise ValueError(f"{type(layer).__name__} has weights of shape {np.shape(layer.weight)}, no matrix")
    return int(layer.weight.shape[0]), int(layer.weight.shape[1])


def check_inputs(layer: Any, inputs: int, wanted: int) -> None:
    """Raise ValueError unless a layer is given as many inputs as it takes."""
    if inputs != wanted:
        raise ValueError(f"{type(layer).__name__} takes {wanted} inputs, and is given {inputs}")
