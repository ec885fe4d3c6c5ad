"""What leaves the house, and what a format has to answer.

An exporter is given a :class:`Predictor`: the layers of a network with what their outputs mean,

    x -> f(x) -> link(f), or the class and its probabilities,

and makes of it an object of another library, or text. It knows the closed vocabulary of
:mod:`cvxnn.layers` and nothing else of this package, so networks and estimators may offer it as a method.
Libraries that only some people have are imported when an exporter is called.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..layers import Affine, Layer

#: What `dtype` accepts.
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True, eq=False)
class Predictor:
    """The layers of a network and what their outputs mean.

    Parameters
    ----------
    layers : tuple of layers
        The last one is affine.
    link : {"identity", "exp"}
        From the output of a regression to its prediction.
    classes : ndarray of shape (classes,) or None
        Of a classifier; with two, one output that is positive means the second, else an output for each.
    probabilities : bool
        Whether the outputs are logits, so that a logistic function or a softmax gives probabilities.
    architecture : str
        The name of the family, where it is known.
    columns : tuple of str
        What the inputs are, where it is known.
    """

    layers: tuple[Layer, ...]
    link: str = "identity"
    classes: np.ndarray | None = None
    probabilities: bool = False
    architecture: str = ""
    columns: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.layers[0].inputs)  # type: ignore[union-attr]

    @property
    def outputs(self) -> int:
        """The number of outputs of the network."""
        return self.widths()[-1]

    @property
    def chain(self) -> str:
        """The names of the layers in order."""
        return " -> ".join(type(layer).__name__ for layer in self.layers)

    def widths(self) -> list[int]:
        """The number of coordinates before the first layer and after each of them."""
        found = [self.inputs]
        for layer in self.layers:
            found.append(layer.units(found[-1]))
        return found

    def prepared(self, dtype: np.dtype[Any]) -> Predictor:
        """The same predictor, in numbers that a precision has and without empty layers.

        A network that has lost all its neurons is a constant, which is one affine layer; other libraries
        and languages know no arrays of length zero.

        Raises
        ------
        ValueError
            If weights are not finite, or not in this precision.
        """
        for layer in self.layers:
            for part in fields(layer):
                with np.errstate(over="ignore"):
                    values = np.asarray(getattr(layer, part.name)).astype(dtype)
                if not np.all(np.isfinite(values)):
                    raise ValueError(
                        f"{type(layer).__name__} has weights that are not finite in {dtype.name}: pass "
                        "dtype='float64', or train again if they are not finite there either"
                    )
        widths = self.widths()
        if min(widths[1:]) > 0:
            return self
        value = np.zeros((1, widths[0]))
        for layer in self.layers:
            value = layer(value)
        constant = Affine(np.zeros((widths[0], widths[-1])), value[0])
        return replace(self, layers=(constant,))


class Exporter(ABC):
    """A format that networks leave the house in; a file of the folder is a member.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        Of its files, the usual one first; empty if it has none.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def export(self, predictor: Predictor, dtype: Any = "float64") -> Any:
        """Return the predictor in this format."""

    @abstractmethod
    def write(self, predictor: Predictor, path: Path, dtype: Any = "float64") -> list[str]:
        """Write a file; returns what to say about it, a line each."""


def precision(dtype: Any) -> np.dtype[Any]:
    """Return float32 or float64 from anything that means one of them.

    Raises
    ------
    ValueError
        If it means something else.
    """
    text = str(dtype).removeprefix("torch.")
    try:
        chosen = np.dtype(text if text in PRECISIONS else dtype)
    except TypeError:
        chosen = np.dtype(object)
    if chosen.name not in PRECISIONS or dtype is None:
        raise ValueError(f"dtype={dtype!r}: pass 'float64' or 'float32'")
    return chosen


def library(name: str, extra: str) -> Any:
    """Import an optional library.

    Raises
    ------
    ImportError
        If it is missing; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is missing: pip install 'cvxnn[{extra}]'") from error


def labels_of(classes: np.ndarray) -> np.ndarray:
    """Classes as int64 or text, the labels that other formats have.

    Raises
    ------
    ValueError
        If they are numbers with decimals, or objects of another kind.
    """
    if classes.dtype.kind in "biuf" and np.all(classes == np.round(classes.astype(np.float64))):
        return classes.astype(np.int64)
    if all(isinstance(label, str) for label in classes.tolist()):
        return np.asarray(classes, dtype=object)
    raise ValueError(f"the classes {classes.tolist()} are neither integers nor text: train on such labels")
