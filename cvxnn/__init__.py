"""Neural networks trained to certified global optimality through convex optimisation."""

from .arrangement import Arrangement, TooManyPatterns
from .audit import certify
from .certificate import Certificate
from .conv_layerwise import LayerwiseConvClassifier
from .decomposition import Decomposition, relu_from_gated
from .estimators import ConvexNetClassifier, ConvexNetRegressor
from .explanation import Kink, explain
from .feature_penalties import Elastic, Groups
from .local_linear import LocalLinear, local_linear
from .max_margin import MarginCertificate, MaxMargin, certify_margin, max_margin
from .network import Network
from .ntk import NTKClassifier, NTKRegressor
from .optimal_set import OptimalSet, Uniqueness
from .path_estimator import ConvexNetPath, alpha_max, path
from .paths import Path
from .selection_estimator import ConvexNetClassifierCV, ConvexNetRegressorCV

__version__ = "0.1.0"

__all__ = [
    "Arrangement",
    "Certificate",
    "ConvexNetClassifier",
    "ConvexNetClassifierCV",
    "ConvexNetPath",
    "ConvexNetRegressor",
    "ConvexNetRegressorCV",
    "Decomposition",
    "Elastic",
    "Groups",
    "Kink",
    "LayerwiseConvClassifier",
    "LocalLinear",
    "MarginCertificate",
    "MaxMargin",
    "NTKClassifier",
    "NTKRegressor",
    "Network",
    "OptimalSet",
    "Path",
    "TooManyPatterns",
    "Uniqueness",
    "alpha_max",
    "certify",
    "certify_margin",
    "explain",
    "local_linear",
    "max_margin",
    "path",
    "relu_from_gated",
]
