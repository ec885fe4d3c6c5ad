"""Neural networks trained to certified global optimality through convex optimisation."""

from .arrangement import Arrangement, TooManyPatterns
from .audit import certify
from .certificate import Certificate
from .estimators import ConvexNetClassifier, ConvexNetRegressor
from .network import Network

__version__ = "0.1.0"

__all__ = [
    "Arrangement",
    "Certificate",
    "ConvexNetClassifier",
    "ConvexNetRegressor",
    "Network",
    "TooManyPatterns",
    "certify",
]
