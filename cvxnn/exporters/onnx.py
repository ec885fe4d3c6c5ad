"""ONNX: one file for onnxruntime, for browsers, phones and accelerators.

The graph has one input ``X`` (n, inputs) and the outputs that skl2onnx gives a scikit-learn estimator:
``variable`` (n, outputs) of a regression; ``label`` (n,) and ``probabilities`` (n, classes) of a
classifier, or ``scores`` in their place where the loss has no probabilities. Its opset is stated, and the
format's version is the oldest that has it.

Reference: the ONNX specification; the conventions of skl2onnx.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..version import __version__
from .base import Exporter, Predictor, library, precision
from .onnx_graph import ELEMENTS, OLDEST_OPSET, Graph, record_classes, record_regression

#: The opset that graphs state if nothing else is asked for: read by runtimes since 2022.
OPSET = 17


class ONNX(Exporter):
    """Models of :mod:`onnx`."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def export(self, predictor: Predictor, dtype: Any = "float64", *, opset: int = OPSET) -> Any:
        """Return an ``onnx.ModelProto``, checked.

        Raises
        ------
        ImportError
            If onnx is not installed.
        ValueError
            If the precision or opset is none that there is, or classes are neither integers nor text.
        """
        onnx = library("onnx", "onnx")
        newest = onnx.defs.onnx_opset_version()
        if isinstance(opset, bool) or opset not in range(OLDEST_OPSET, newest + 1):
            raise ValueError(f"opset={opset!r}: pass an integer from {OLDEST_OPSET} to {newest}")
        chosen = precision(dtype)
        model = _model(onnx, predictor.prepared(chosen), chosen, int(opset))
        onnx.checker.check_model(model, full_check=True)
        return model

    def write(self, predictor: Predictor, path: Path, dtype: Any = "float64") -> list[str]:
        """Write a model."""
        model = self.export(predictor, dtype)
        path.write_bytes(model.SerializeToString())
        outputs = ", ".join(output.name for output in model.graph.output)
        return [
            f"ONNX, opset {OPSET}, {precision(dtype).name}: input X (rows, {predictor.inputs}), "
            f"output {outputs}"
        ]


def _model(onnx: Any, predictor: Predictor, dtype: np.dtype[Any], opset: int) -> Any:
    graph, element = Graph(dtype), ELEMENTS[dtype.name]
    if predictor.classes is None:
        found = {"variable": record_regression(graph, predictor, "X")}
    else:
        label, scores = record_classes(graph, predictor, "X")
        found = {"label": label, "probabilities" if predictor.probabilities else "scores": scores}
    helper, info = onnx.helper, onnx.helper.make_tensor_value_info
    nodes = [helper.make_node(n.kind, list(n.inputs), [n.output], **n.attributes) for n in graph.nodes]
    # outputs are named by one more node, so that a network of one layer is no special case
    nodes += [helper.make_node("Identity", [inner], [outer]) for outer, inner in found.items()]
    width = predictor.outputs if predictor.classes is None else len(predictor.classes)
    outputs = [info(name, element, ["n", width]) for name in found if name != "label"]
    if predictor.classes is not None:
        text = predictor.classes.dtype.kind not in "biuf"
        kind = onnx.TensorProto.STRING if text else onnx.TensorProto.INT64
        outputs = [info("label", kind, ["n"]), *outputs]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    made = helper.make_graph(
        nodes, "cvxnn", [info("X", element, ["n", predictor.inputs])], outputs, constants
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        made,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="cvxnn",
        producer_version=__version__,
    )
    helper.set_model_props(model, metadata_of(predictor))
    return model


def metadata_of(predictor: Predictor) -> dict[str, str]:
    """What a model says about itself: library, version, architecture, layers and columns."""
    said = {
        "library": "cvxnn",
        "version": __version__,
        "architecture": predictor.architecture or predictor.chain,
        "layers": predictor.chain,
    }
    return said | ({"columns": json.dumps(list(predictor.columns))} if predictor.columns else {})
