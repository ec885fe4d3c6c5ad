"""The formats that networks leave the house in, one file each, and the methods that call them.

See :mod:`cvxnn.exporters.base` for what a format has to answer. Which format is for whom, and how far their
predictions are from the network's: ``docs/export.md``.
"""

from __future__ import annotations

from typing import Any

from ..registry import discover
from .base import Exporter, Predictor
from .c import C
from .onnx import ONNX, OPSET
from .sklearn import ScikitLearn
from .torch import Torch

#: Every format by its name.
EXPORTERS: dict[str, type[Exporter]] = discover(__name__, list(__path__), Exporter)  # type: ignore[type-abstract]


def get_exporter(name: str) -> Exporter:
    """Return an exporter from the name of its format.

    Raises
    ------
    ValueError
        If no format has this name.
    """
    if name not in EXPORTERS:
        raise ValueError(f"unknown format {name!r}: pass one of {', '.join(map(repr, EXPORTERS))}")
    return EXPORTERS[name]()


class Exportable:
    """What has a network that can leave the house: methods that make other libraries' objects of it."""

    def predictor(self) -> Predictor:
        """Return the layers for an exporter, and what their outputs mean.

        Returns
        -------
        Predictor
        """
        raise NotImplementedError

    def to_onnx(self, dtype: Any = "float64", *, opset: int = OPSET) -> Any:
        """Return an ``onnx.ModelProto``.

        Input ``X`` (n, inputs), images as flat rows. Output ``variable`` (n, outputs); of a classifier
        ``label`` (n,), integers or text, and ``probabilities`` (n, classes), or ``scores`` where the loss
        has no probabilities.

        Parameters
        ----------
        dtype : {"float64", "float32"}
            Of the input, the weights and the arithmetic.
        opset : int, default=17
            From 13 on.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            If onnx is not installed: ``pip install 'cvxnn[onnx]'``.
        ValueError
            If dtype or opset is none that there is, or classes are neither integers nor text.
        """
        return ONNX().export(self.predictor(), dtype, opset=opset)

    def to_torch(self, dtype: Any = "float64") -> Any:
        """Return a ``torch.nn.Sequential`` with the same outputs.

        Weights are parameters, gates are buffers. Inputs are (n, inputs), images as flat rows; one output
        is (n,). A classifier's module returns what ``decision_function`` does, since torch's losses take
        logits.

        Parameters
        ----------
        dtype : {"float64", "float32"}

        Returns
        -------
        torch.nn.Sequential

        Raises
        ------
        ImportError
            If torch is not installed: ``pip install 'cvxnn[torch]'``.
        """
        return Torch().export(self.predictor(), dtype)

    def to_sklearn(self, dtype: Any = "float64") -> Any:
        """Return a fitted ``MLPRegressor`` or ``MLPClassifier`` with the same predictions.

        For ReLU and linear networks of any depth; tools that convert scikit-learn's networks read it.

        Parameters
        ----------
        dtype : {"float64", "float32"}
            Of the weights.

        Returns
        -------
        MLPRegressor or MLPClassifier

        Raises
        ------
        ValueError
            If the network has other layers; the message says which methods know them.
        """
        return ScikitLearn().export(self.predictor(), dtype)

    def to_c(self, dtype: Any = "float64", *, function: str = "predict") -> str:
        """Return one C99 file without dependencies.

        ``void predict(const double x[inputs], double y[outputs])`` computes the outputs (of a regression
        the prediction); a classifier also has ``int predict_class(x)``, the number of the class in
        ``predict_classes``, and with logistic loss ``void predict_proba(x, p)``.

        Parameters
        ----------
        dtype : {"float64", "float32"}
            double or float.
        function : str, default="predict"
            The name of the function, and the beginning of all other names in the file.

        Returns
        -------
        str
            The text of the file.

        Raises
        ------
        ValueError
            If the name is none in C, or weights are beyond the precision.
        """
        return C().export(self.predictor(), dtype, function=function)


__all__ = ["EXPORTERS", "Exportable", "Exporter", "Predictor", "get_exporter"]
