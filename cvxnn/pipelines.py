"""Pipelines of scikit-learn with this package's estimators in them, converted by skl2onnx.

    cvxnn.register_skl2onnx()
    skl2onnx.to_onnx(make_pipeline(StandardScaler(), ConvexNetClassifier()).fit(X, y), X[:1])

skl2onnx knows the converters of its own estimators and those that are registered with it, which is done
when asked for and not on import. The graph is that of :mod:`cvxnn.exporters.onnx`; the precision is that of
the input, float32 for integers. Outputs are those of scikit-learn's classifiers and regressors, the option
``zipmap`` included, whose dictionaries are float32 at any precision: ONNX has no others.

Reference: the documentation of skl2onnx, "Implement a new converter".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .conv_layerwise import LayerwiseConvClassifier
from .estimators import ConvexNetClassifier, ConvexNetRegressor
from .exporters import Predictor
from .exporters.base import labels_of, library
from .exporters.onnx_graph import (
    ELEMENTS,
    OLDEST_OPSET,
    Graph,
    record_classes,
    record_regression,
)
from .selection_estimator import ConvexNetClassifierCV, ConvexNetRegressorCV

#: TensorProto's number for text.
STRING = 8
#: The estimators that are registered.
REGRESSORS = (ConvexNetRegressor, ConvexNetRegressorCV)
CLASSIFIERS = (ConvexNetClassifier, ConvexNetClassifierCV, LayerwiseConvClassifier)


def register_skl2onnx() -> None:
    """Teach skl2onnx to convert the estimators of this package, also within pipelines.

    May be called any number of times.

    Raises
    ------
    ImportError
        If skl2onnx is not installed: ``pip install 'cvxnn[onnx]'``.

    Examples
    --------
    >>> from cvxnn import register_skl2onnx
    >>> register_skl2onnx()  # doctest: +SKIP
    """
    update = library("skl2onnx", "onnx").update_registered_converter
    for regressor in REGRESSORS:
        update(regressor, f"Cvxnn{regressor.__name__}", _shape_regression, _convert)
    options = {
        "zipmap": [True, False, "columns"],
        "nocl": [True, False],
        "output_class_labels": [False, True],
    }
    for classifier in CLASSIFIERS:
        update(classifier, f"Cvxnn{classifier.__name__}", _shape_classes, _convert, options=options)


def _types() -> Any:
    return library("skl2onnx.common.data_types", "onnx")


def _precision(operator: Any) -> np.dtype[Any]:
    """The precision of an operator's input."""
    double = isinstance(operator.inputs[0].type, _types().DoubleTensorType)
    return np.dtype("float64" if double else "float32")


def _numbers_of(operator: Any, width: int) -> Any:
    """skl2onnx's type of an array (n, width) of an operator's precision."""
    kind = "DoubleTensorType" if _precision(operator) == np.float64 else "FloatTensorType"
    return getattr(_types(), kind)([operator.inputs[0].get_first_dimension(), width])


def _predictor(operator: Any) -> Predictor:
    """What an estimator computes, with the numbers of classes for labels if ``nocl`` asks for it."""
    found: Predictor = operator.raw_operator.predictor()
    if found.classes is None:
        return found
    options = operator.scope_inst.get_options(operator.raw_operator, {"nocl": False})
    return replace(found, classes=np.arange(len(found.classes))) if options["nocl"] else found


def _shape_regression(operator: Any) -> None:
    """Say the type of the one output."""
    operator.outputs[0].type = _numbers_of(operator, _predictor(operator).outputs)


def _shape_classes(operator: Any) -> None:
    """Say the types of label and probabilities."""
    classes = _predictor(operator).classes
    assert classes is not None
    text = labels_of(classes).dtype.kind == "O"
    kind = _types().StringTensorType if text else _types().Int64TensorType
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension()])
    scores = _numbers_of(operator, len(classes))
    if _in_dictionaries(operator):
        scores = _types().FloatTensorType(scores.shape)
    operator.outputs[1].type = scores


def _in_dictionaries(operator: Any) -> bool:
    """Whether probabilities become dictionaries (option ``zipmap``, which is on by default)."""
    return operator.scope_inst.get_options(operator.raw_operator, {"zipmap": True})["zipmap"] is True


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Record an estimator as a graph and play it into a container."""
    if container.target_opset < OLDEST_OPSET:
        raise ValueError(
            f"target_opset={container.target_opset} lacks operators of these networks: pass at least "
            f"target_opset={OLDEST_OPSET}"
        )
    dtype = _precision(operator)
    graph, predictor = Graph(dtype), _predictor(operator).prepared(dtype)
    given = operator.inputs[0].full_name
    x = graph.add("Cast", given, to=ELEMENTS[dtype.name])
    if predictor.classes is None:
        found: tuple[str, ...] = (record_regression(graph, predictor, x),)
    else:
        label, scores = record_classes(graph, predictor, x)
        if _in_dictionaries(operator):
            scores = graph.add("Cast", scores, to=ELEMENTS["float32"])
        found = (label, scores)
    names = {given: given}
    for name, values in graph.constants.items():
        names[name] = scope.get_unique_variable_name(f"cvxnn_{name}")
        _add_constant(container, names[name], values)
    for node in graph.nodes:
        names[node.output] = scope.get_unique_variable_name(f"cvxnn_{node.output}")
        container.add_node(
            node.kind,
            [names[name] for name in node.inputs],
            [names[node.output]],
            name=scope.get_unique_operator_name(f"cvxnn_{node.kind}"),
            **node.attributes,
        )
    for inner, outer in zip(found, operator.outputs, strict=True):
        name = scope.get_unique_operator_name("cvxnn_Identity")
        container.add_node("Identity", [names[inner]], [outer.full_name], name=name)


def _add_constant(container: Any, name: str, values: np.ndarray) -> None:
    """Add a constant of numbers or text."""
    if values.dtype.kind == "O":
        text = [label.encode() for label in values.tolist()]
        container.add_initializer(name, STRING, list(values.shape), text)
    else:
        element = ELEMENTS[values.dtype.name]
        container.add_initializer(name, element, list(values.shape), values.ravel())
