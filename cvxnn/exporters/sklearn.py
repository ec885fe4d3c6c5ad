"""scikit-learn: a fitted MLP with the same predictions, for tools that convert scikit-learn's networks.

Plain ReLU and linear networks of any depth are multi-layer perceptrons, so their weights go into a real
``MLPRegressor`` or ``MLPClassifier``; skl2onnx, hummingbird and emlearn then read it. Affine layers that
follow each other without an activation between them are multiplied out where the network also has ReLUs.

Reference: scikit-learn's ``MLPClassifier``, whose attributes after ``fit`` are set here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..caller import warn
from ..layers import Affine, ReLU
from .base import Exporter, Predictor, precision


class ScikitLearn(Exporter):
    """Estimators of :mod:`sklearn.neural_network`."""

    name: ClassVar[str] = "sklearn"

    def export(self, predictor: Predictor, dtype: Any = "float64") -> Any:
        """Return a fitted ``MLPRegressor``, or ``MLPClassifier`` for a predictor with classes.

        Raises
        ------
        ValueError
            If layers are neither affine nor ReLU, or predictions are no outputs of a network.
        """
        chosen = precision(dtype)
        plain = predictor.prepared(chosen)
        others = sorted({type(v).__name__ for v in plain.layers if not isinstance(v, Affine | ReLU)})
        if others:
            raise ValueError(
                f"scikit-learn's networks have no {', '.join(others)} layers, only ReLU or linear ones: "
                "use to_onnx(), to_torch() or to_c(), which know every layer"
            )
        if plain.link != "identity":
            raise ValueError(
                "scikit-learn's networks have no exponential at their output (loss='poisson'): use "
                "to_onnx(), to_torch() or to_c(), or network_.to_sklearn() for the logarithm of the mean"
            )
        return _perceptron(plain, chosen)

    def write(self, predictor: Predictor, path: Path, dtype: Any = "float64") -> list[str]:
        """Refuse: scikit-learn's own files are pickles, which run code when they are read."""
        raise ValueError(
            "scikit-learn has no file format but pickle, which runs code: in Python, call to_sklearn() on "
            "cvxnn.Network.load(MODEL)[0], or export to 'onnx', 'c' or 'torch'"
        )


def _perceptron(predictor: Predictor, dtype: np.dtype[Any]) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    affine = _merged(predictor)
    rectified = any(isinstance(layer, ReLU) for layer in predictor.layers)
    kind = MLPRegressor if predictor.classes is None else MLPClassifier
    mlp = kind(
        hidden_layer_sizes=tuple(layer.weight.shape[1] for layer in affine[:-1]),
        activation="relu" if rectified else "identity",
    )
    mlp.coefs_ = [np.ascontiguousarray(layer.weight, dtype=dtype) for layer in affine]
    mlp.intercepts_ = [np.ascontiguousarray(layer.bias, dtype=dtype) for layer in affine]
    mlp.n_features_in_, mlp.n_outputs_ = predictor.inputs, predictor.outputs
    mlp.n_layers_ = len(affine) + 1
    mlp.n_iter_, mlp.t_ = 0, 0
    mlp.out_activation_ = "identity"
    if predictor.columns:
        mlp.feature_names_in_ = np.asarray(predictor.columns, dtype=object)
    if predictor.classes is not None:
        _make_classifier(mlp, predictor)
    return mlp


def _make_classifier(mlp: Any, predictor: Predictor) -> None:
    """Give an MLP its classes and what turns its outputs into them."""
    from sklearn.preprocessing import LabelBinarizer

    mlp.classes_ = predictor.classes
    mlp.out_activation_ = "logistic" if predictor.outputs == 1 else "softmax"
    mlp._label_binarizer = LabelBinarizer().fit(predictor.classes)
    if not predictor.probabilities:
        warn(
            "the network was trained with a loss that has no probabilities: predict is the same, and the "
            "MLP's predict_proba means nothing",
            UserWarning,
        )


def _merged(predictor: Predictor) -> list[Affine]:
    """The affine layers; of a network with ReLUs, products of those without a ReLU between them."""
    rectified = any(isinstance(layer, ReLU) for layer in predictor.layers)
    found: list[Affine] = []
    follows = False
    for layer in predictor.layers:
        if isinstance(layer, Affine) and follows and rectified:
            before = found.pop()
            layer = Affine(before.weight @ layer.weight, before.bias @ layer.weight + layer.bias)
        if isinstance(layer, Affine):
            found.append(layer)
        elif not follows:
            # a ReLU after another: an identity between them
            size = found[-1].weight.shape[1]
            found.append(Affine(np.eye(size), np.zeros(size)))
        follows = isinstance(layer, Affine)
    return found
