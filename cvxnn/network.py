"""The explicit network that training returns: plain weights in a closed vocabulary of layers.

The vocabulary is :mod:`cvxnn.layers`; the last layer is always ``Affine``. A two-layer ReLU
network is ``Affine -> ReLU -> Affine`` (or another activation in the middle, or none in a linear network),
and a gated one is ``Gated -> Affine`` with

    Gated: x -> 1[G' x + h >= 0] * (W' x + b).

A network is saved as safetensors: arrays and a JSON header, no code and no training data. A digest of it
all goes along, so that damage is told from weights, and what a header says of shapes is checked against the
arrays before anything is computed. Other formats are in :mod:`cvxnn.exporters`.

Reference: the safetensors format; Mishkin, Sahiner and Pilanci, ICML 2022, for the gated unit.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .exporters import Exportable, Predictor
from .layers import (
    LAYERS,
    Absolute,
    Activation,
    Affine,
    Conv,
    Gated,
    GatedConv,
    Layer,
    LeakyReLU,
    Polynomial,
    Pool,
    Product,
    ReLU,
    SkipLeakyReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from .notebook import html_table

__all__ = [
    "LAYERS",
    "Absolute",
    "Activation",
    "Affine",
    "Conv",
    "Gated",
    "GatedConv",
    "Layer",
    "LeakyReLU",
    "Network",
    "Polynomial",
    "Pool",
    "Product",
    "ReLU",
    "SkipLeakyReLU",
    "SkipReLU",
    "SkipThreshold",
    "Threshold",
]

#: Version of the file format; raised when old files can no longer be read.
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Network(Exportable):
    """A feed-forward network with one or several outputs per sample.

    Parameters
    ----------
    layers : tuple of layers, applied in order

    Examples
    --------
    >>> import numpy as np
    >>> net = Network.two_layer(np.eye(2), np.zeros(2), np.array([1.0, -1.0]), 0.5)
    >>> net(np.array([[3.0, 1.0]]))
    array([2.5])
    """

    layers: tuple[Layer, ...]

    @classmethod
    def two_layer(
        cls,
        W1: np.ndarray,
        b1: np.ndarray,
        w2: np.ndarray,
        intercept: float | np.ndarray = 0.0,
        activation: Activation | None = None,
    ) -> Network:
        """Build ``x -> sum_j w2_j phi(x'W1_j + b1_j) + intercept``.

        Parameters
        ----------
        W1 : ndarray of shape (d, m)
        b1 : ndarray of shape (m,)
        w2 : ndarray of shape (m,), or (m, outputs) for several outputs
        intercept : float, or ndarray of shape (outputs,)
        activation : ReLU, LeakyReLU, Absolute, Threshold, Polynomial, SkipReLU, SkipLeakyReLU,
            SkipThreshold, or None
            The layer phi; None is the ReLU.
        """
        last = w2[:, None] if w2.ndim == 1 else w2
        constant = np.broadcast_to(np.asarray(intercept, dtype=np.float64), last.shape[1:]).copy()
        phi = ReLU() if activation is None else activation
        return cls((Affine(W1, b1), phi, Affine(last, constant)))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Return the output of inputs of shape (n, d) in float64: (n,), or (n, outputs) if there are
        several."""
        out = np.asarray(X, dtype=np.float64)
        for layer in self.layers:
            out = layer(out)
        return out[:, 0] if out.shape[1] == 1 else out

    @property
    def width(self) -> int:
        """The number of hidden neurons of the last layer of them; of a convolution, its filters."""
        hidden = [layer for layer in self.layers[:-1] if hasattr(layer, "weight")]
        if hidden and isinstance(hidden[-1], Conv | GatedConv):
            return int(hidden[-1].weight.shape[1])
        return int(self.layers[-1].weight.shape[0])  # type: ignore[union-attr]

    @property
    def n_features(self) -> int:
        """The number of inputs."""
        return int(self.layers[0].inputs)  # type: ignore[union-attr]

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return int(self.layers[-1].weight.shape[1])  # type: ignore[union-attr]

    @property
    def intercept(self) -> Any:
        """The constant of the output layer: a float, or an array (outputs,) if there are several
        outputs."""
        constant = self.layers[-1].bias  # type: ignore[union-attr]
        return float(constant[0]) if len(constant) == 1 else constant

    def predictor(self) -> Predictor:
        """Return the layers for an exporter; outputs mean themselves.

        Returns
        -------
        Predictor
        """
        return Predictor(self.layers)

    def __repr__(self) -> str:
        names = " -> ".join(type(layer).__name__ for layer in self.layers)
        outputs = "" if self.n_outputs == 1 else f", {self.n_outputs} outputs"
        return f"<Network: {self.n_features} inputs, {self.width} neurons{outputs}, {names}>"

    def _repr_html_(self) -> str:
        rows = []
        for i, layer in enumerate(self.layers):
            parts = {part.name: np.asarray(getattr(layer, part.name)) for part in fields(layer)}
            shapes = [
                f"{name} {' x '.join(map(str, value.shape))}"
                if value.size > 1
                else f"{name} {value.item():g}"
                for name, value in parts.items()
                if value.size
            ]
            rows.append((i, type(layer).__name__, ", ".join(shapes)))
        return html_table(rows, repr(self)[1:-1], ("", "layer", "weights"))

    def save(self, path: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
        """Write the network as safetensors.

        Parameters
        ----------
        path : str or path
        metadata : dict or None, default=None
            JSON values that go into the header.

        Raises
        ------
        TypeError
            If the metadata holds something JSON cannot.
        """
        from safetensors.numpy import save

        arrays = {
            f"{i}.{f.name}": np.ascontiguousarray(getattr(layer, f.name), dtype=np.float64)
            for i, layer in enumerate(self.layers)
            for f in fields(layer)
        }
        header = {
            "format": "cvxnn",
            "version": str(FORMAT_VERSION),
            "layers": json.dumps([type(layer).__name__ for layer in self.layers]),
            "metadata": json.dumps(metadata or {}),
        }
        header["sha256"] = _digest(header, arrays)
        content = save(arrays, metadata=header)
        # Written beside the target and moved: an interrupted save leaves the old file whole.
        target = Path(path)
        draft = target.with_name(target.name + ".part")
        draft.write_bytes(content)
        draft.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
        """Read a network and its metadata; nothing in the file is ever executed.

        Parameters
        ----------
        path : str or path
            Of a file that :meth:`save` wrote.

        Returns
        -------
        network : Network
        metadata : dict

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a cvxnn network, is damaged, or is of a newer format.
        """
        from safetensors import safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"no model file at {path}: pass the path given to --out or save")
        try:
            with safe_open(str(path), framework="numpy") as file:
                header = file.metadata() or {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except OSError:
            raise
        except Exception as error:  # of many kinds: the header may say anything
            raise ValueError(
                f"{path} is not a safetensors file or is damaged ({error}): pass a file "
                "written by cvxnn, or save the model again"
            ) from error
        if header.get("format") != "cvxnn":
            raise ValueError(f"{path} is not a cvxnn model: pass a file written by cvxnn")
        version = header.get("version", "")
        if not (version.isascii() and version.isdecimal()):
            raise ValueError(f"{path} has {version!r}, no version of this format: save the model again")
        if int(version[:9]) > FORMAT_VERSION:
            raise ValueError(f"{path} was written by a newer cvxnn: pip install -U cvxnn")
        # files of before had no digest
        if "sha256" in header and header["sha256"] != _digest(header, arrays):
            raise ValueError(f"{path} is damaged (its digest does not fit): save the model again")
        try:
            return _network_of(header, arrays), dict(json.loads(header["metadata"]))
        except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"{path} lacks parts of a network ({error}): save the model again") from error


def _network_of(header: dict[str, str], arrays: dict[str, np.ndarray]) -> Network:
    """The network that a file describes; errors of many kinds if it describes none."""
    layers = []
    for i, name in enumerate(json.loads(header["layers"])):
        kind = LAYERS[name]
        layers.append(kind(*(arrays[f"{i}.{f.name}"] for f in fields(kind))))
    if not all(array.dtype == np.float64 for array in arrays.values()):
        raise ValueError("some arrays are not float64")
    if not all(np.all(np.isfinite(array)) for array in arrays.values()):
        raise ValueError("some numbers are not finite")
    if not layers or not isinstance(layers[-1], Affine):
        raise ValueError("the last layer is not affine")
    if not hasattr(layers[0], "inputs"):
        raise ValueError(f"a {type(layers[0]).__name__} layer stands first")
    network = Network(tuple(layers))
    units = network.n_features
    for layer in network.layers:
        units = layer.units(units)
    return network


def _digest(header: dict[str, str], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that a file says, in an order of its own."""
    digest = hashlib.sha256()
    for key in ("format", "version", "layers", "metadata"):
        digest.update(f"{key}={header.get(key)}\n".encode())
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key}: {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
