"""Neural networks trained to certified global optimality through convex optimisation."""

from typing import Any

from .arrangement import Arrangement, TooManyPatterns
from .audit import certify
from .certificate import Certificate
from .conv_layerwise import LayerwiseConvClassifier
from .decomposition import Decomposition, relu_from_gated
from .estimators import ConvexNetClassifier, ConvexNetRegressor
from .explanation import Kink, explain
from .feature_penalties import Elastic, Groups
from .hidden_features import HiddenFeatures
from .local_linear import LocalLinear, local_linear
from .max_margin import MarginCertificate, MaxMargin, certify_margin, max_margin
from .network import Network
from .ntk import NTKClassifier, NTKRegressor
from .optimal_set import OptimalSet, Uniqueness
from .path_estimator import ConvexNetPath, alpha_max, path
from .paths import Path
from .pipelines import register_skl2onnx
from .reporting import report
from .selection_estimator import ConvexNetClassifierCV, ConvexNetRegressorCV
from .version import __version__

#: Pictures, imported when one is asked for.
_DISPLAYS = (
    "ArrangementDisplay",
    "ConvergenceDisplay",
    "DecisionDisplay",
    "NeuronDisplay",
    "PathDisplay",
)

__all__ = [
    "Arrangement",
    "ArrangementDisplay",
    "Certificate",
    "ConvergenceDisplay",
    "ConvexNetClassifier",
    "ConvexNetClassifierCV",
    "ConvexNetPath",
    "ConvexNetRegressor",
    "ConvexNetRegressorCV",
    "DecisionDisplay",
    "Decomposition",
    "Elastic",
    "Groups",
    "HiddenFeatures",
    "Kink",
    "LayerwiseConvClassifier",
    "LocalLinear",
    "MarginCertificate",
    "MaxMargin",
    "NTKClassifier",
    "NTKRegressor",
    "Network",
    "NeuronDisplay",
    "OptimalSet",
    "Path",
    "PathDisplay",
    "TooManyPatterns",
    "Uniqueness",
    "__version__",
    "alpha_max",
    "certify",
    "certify_margin",
    "explain",
    "local_linear",
    "max_margin",
    "path",
    "register_skl2onnx",
    "relu_from_gated",
    "report",
]


def __getattr__(name: str) -> Any:
    if name in _DISPLAYS:
        from . import displays

        return getattr(displays, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
