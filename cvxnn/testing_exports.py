"""Small networks of every family, and what exported ones compute.

The tests and the table of ``docs/export.md`` measure the same: the largest difference between the outputs
of an exported network and those of the network itself, on inputs whose gates and steps are away from their
borders. There a function jumps, and the last digit of a sum decides on which side it is: two programs that
add in another order, or in float32, may differ by a whole step.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .architectures import ARCHITECTURES, VECTOR_ARCHITECTURES, Architecture
from .architectures.absolute import Absolute
from .architectures.batchnorm import BatchNorm
from .architectures.cnn import CNN
from .architectures.cnn_circular import CNNCircular
from .architectures.cnn_gated import CNNGated
from .architectures.cnn_linear import CNNLinear
from .architectures.cnn_max import CNNMax
from .architectures.deep_path import PathReLU
from .architectures.deep_relu import DeepReLU
from .architectures.gated import GatedReLU
from .architectures.layerwise import Layerwise
from .architectures.layerwise_cnn import LayerwiseCNN
from .architectures.leaky_relu import LeakyReLU
from .architectures.polynomial_cnn import PolynomialCNN
from .architectures.relu import ReLU
from .architectures.threshold import Threshold as TwoLayerThreshold
from .exporters import Predictor, get_exporter
from .families import get_architecture
from .layers import Gated, GatedConv, SkipThreshold, Threshold
from .losses import get_loss
from .network import Network
from .program import Problem
from .train import train

#: Distance of gates and steps from their borders, as a share of the largest, that inputs keep.
MARGIN = 1e-4
#: Families of several outputs whose options show more than the default's: images, windows over the border.
SEVERAL: dict[str, Architecture] = {
    "cnn": CNN(kernel=2, input_shape=(3, 4), padding=1, pooling="sum"),
    "cnn_gated": CNNGated(kernel=(2, 3), input_shape=(3, 4), patterns=6),
    "layerwise_cnn": LayerwiseCNN((2, 1), (3, 4), (1, 0), patterns=4, down=1),
    "cnn_linear": CNNLinear(kernel=2, input_shape=(3, 2, 2)),
    "polynomial_cnn": PolynomialCNN(kernel=2, input_shape=(3, 4), pooling="mean", pool=(2, 1)),
}
#: Of one output; a few sampled patterns are trained in no time.
CHOICES: dict[str, Architecture] = {
    **SEVERAL,
    "absolute": Absolute("penalized", 12),
    "batchnorm": BatchNorm("penalized", 12),
    "cnn": CNN(kernel=2, input_shape=(3, 4), padding=1, pooling="sum", patterns=12),
    "cnn_circular": CNNCircular(input_shape=(12,), patterns=6),
    "cnn_max": CNNMax(kernel=2, input_shape=(3, 4), patterns=4),
    "deep_relu": DeepReLU("penalized", 8),
    "path_relu": PathReLU("penalized", 8),
    "layerwise": Layerwise("penalized", 12, 2),
    "leaky_relu": LeakyReLU("penalized", 12, 0.2),
    "relu": ReLU("penalized", 12),
    "threshold": TwoLayerThreshold("penalized", 12),
}
#: The families that may have linear neurons beside the others.
WITH_SKIP: dict[str, Architecture] = {
    "relu": ReLU("penalized", 12, skip=True),
    "leaky_relu": LeakyReLU("penalized", 12, 0.2, skip=True),
    "absolute": Absolute("penalized", 12, skip=True),
    "gated_relu": GatedReLU(patterns=9, skip=True),
}
#: What C files compile without a word under.
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")


def example(name: str, outputs: int = 1, skip: bool = False) -> tuple[Network, np.ndarray]:
    """Train a small network of a family.

    Parameters
    ----------
    name : str
        Of a family, :data:`cvxnn.architectures.ARCHITECTURES`.
    outputs : int
    skip : bool
        Whether linear neurons stand beside the others ("relu", "leaky_relu", "absolute" and "gated_relu"
        only).

    Returns
    -------
    network : Network
    X : ndarray of shape (samples, inputs)
        Inputs away from where the network jumps; some of the samples it was trained on, and others.
    """
    rng = np.random.default_rng(7)
    X = rng.normal(
        size=(20 if outputs == 1 else 12, 1 if name == "narrow_relu" else 12 if "cnn" in name else 4)
    )
    y = np.abs(X[:, 0]) - np.maximum(X[:, -1] + X[:, 0], 0.0) + 0.3 * X[:, -1] ** 2
    if skip and outputs == 1:
        family = WITH_SKIP[name]
    elif skip:
        options = {"skip": True, **({"patterns": 9} if name == "gated_relu" else {})}
        family = get_architecture(name, "penalized", "auto", outputs, options=options)
    else:
        chosen = CHOICES if outputs == 1 else SEVERAL
        family = chosen.get(name) or get_architecture(name, "penalized", "auto", outputs)
        family = family.for_outputs(outputs)
    loss = get_loss("squared_error", outputs)
    target = y if outputs == 1 else np.column_stack([y, X[:, 0], -y * X[:, -1]][:outputs])
    problem = Problem.from_alpha(X, target, None, loss, 0.02, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = train(problem, family, tol=1e-2, max_iter=2).network
    return network, away_from_jumps(network, np.vstack([X, rng.normal(size=(60, X.shape[1]))]))


def families() -> list[tuple[str, int, bool]]:
    """What there are examples of: family, number of outputs, and whether with a skip connection."""
    found = [(name, 1, False) for name in ARCHITECTURES]
    found += [(name, 3, False) for name in VECTOR_ARCHITECTURES]
    return [*found, *((name, outputs, True) for name in WITH_SKIP for outputs in (1, 3))]


def away_from_jumps(network: Network, X: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """The inputs (n, inputs) at which no gate and no step is within a margin of its border."""
    away = np.ones(len(X), dtype=bool)
    value = X
    for layer in network.layers:
        if isinstance(layer, Threshold):
            border = value
        elif isinstance(layer, SkipThreshold):
            border = value[:, : value.shape[1] - layer.passed]
        elif isinstance(layer, Gated):
            moved = np.any(layer.gates, axis=0) | (layer.gate_bias != 0.0)  # gates of zero are always open
            border = (value @ layer.gates + layer.gate_bias)[:, moved]
        elif isinstance(layer, GatedConv):
            border = (layer.windows.patches(value) @ layer.gates + layer.gate_bias).reshape(len(X), -1)
        else:
            border = np.ones((len(X), 1))
        away &= np.all(np.abs(border) >= margin * np.max(np.abs(border), initial=0.0), axis=1)
        value = layer(value)
    return X[away]


def run_exported(name: str, exported: Any, X: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """What an exported regression computes on inputs (n, inputs), shape (n, outputs) in float64."""
    rows = np.ascontiguousarray(X, dtype=dtype)
    if name == "onnx":
        found = onnx_session(exported).run(None, {"X": rows})[0]
    elif name == "torch":
        import torch

        with torch.no_grad():
            found = exported(torch.from_numpy(rows)).numpy()
    elif name == "c":
        with Compiled(exported) as program:
            found = program.outputs(rows)
    else:
        found = exported.predict(rows)
    return np.asarray(found, dtype=np.float64).reshape(len(X), -1)


def difference(name: str, network: Network, X: np.ndarray, dtype: str = "float64") -> float:
    """The largest difference between outputs of an exported network and the network's own.

    Inputs are rounded to the precision first, so that both see the same; the difference is relative to the
    largest output, or absolute where that is below one.

    Raises
    ------
    ValueError
        If the format has no such layers.
    """
    X = np.asarray(X, dtype=dtype).astype(np.float64)
    exported = get_exporter(name).export(Predictor(network.layers), dtype)
    own = network(X).reshape(len(X), -1)
    return float(np.max(np.abs(run_exported(name, exported, X, dtype) - own))) / max(
        1.0, np.max(np.abs(own))
    )


def onnx_session(model: Any) -> Any:
    """A session of onnxruntime on one core, for a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class Compiled:
    """A C file as a library of this process, compiled with all warnings as errors.

    Parameters
    ----------
    source : str
        What :meth:`cvxnn.Network.to_c` returns.
    compiler : str
    """

    def __init__(self, source: str, compiler: str = "cc") -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "network.c"
        path.write_text(source, encoding="utf-8")
        target = path.with_suffix(".so")
        command = [compiler, *STRICT, "-O0", "-fPIC", "-shared", str(path), "-o", str(target), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"the C file does not compile: {done.stderr}")
        self.library = ctypes.CDLL(str(target))
        found = next(line for line in source.splitlines() if line.startswith("void predict("))
        self.real = np.dtype("float64" if "double" in found else "float32")
        self.sizes = [int(part.split("]")[0]) for part in found.split("[")[1:]]

    def __enter__(self) -> Compiled:
        return self

    def __exit__(self, *_: Any) -> None:
        self.folder.cleanup()

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """``predict`` of every row, shape (n, outputs)."""
        return self._call(self.library.predict, X, self.sizes[1])

    def probabilities(self, X: np.ndarray, classes: int) -> np.ndarray:
        """``predict_proba`` of every row, shape (n, classes)."""
        return self._call(self.library.predict_proba, X, classes)

    def numbers(self, X: np.ndarray) -> np.ndarray:
        """``predict_class`` of every row, shape (n,)."""
        rows = np.ascontiguousarray(X, dtype=self.real)
        return np.array([self.library.predict_class(ctypes.c_void_p(row.ctypes.data)) for row in rows])

    def _call(self, function: Any, X: np.ndarray, width: int) -> np.ndarray:
        rows = np.ascontiguousarray(X, dtype=self.real)
        found = np.empty((len(rows), width), dtype=self.real)
        for row, out in zip(rows, found, strict=True):
            function(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(out.ctypes.data))
        return found
