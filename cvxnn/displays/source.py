"""What a picture is made from: the network in an estimator, and the samples as the network sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..arrays import to_numpy
from ..network import Network


def network_of(estimator: Any, X: Any) -> tuple[Network, np.ndarray, list[str] | None]:
    """Return the network of a fitted estimator or pipeline, the samples that reach it, and feature names.

    Raises
    ------
    TypeError
        If it has no network.
    """
    check_is_fitted(estimator)
    steps, model = None, estimator
    if isinstance(estimator, Pipeline):
        steps, model = estimator[:-1], estimator[-1]
    network = getattr(model, "network_", None)
    if not isinstance(network, Network):
        raise TypeError(
            f"{type(model).__name__} has no network: pass a fitted ConvexNetRegressor or "
            "ConvexNetClassifier, a pipeline that ends with one, or a network to from_network"
        )
    names = getattr(model, "feature_names_in_", None)
    if names is None and steps is not None:
        try:
            names = steps.get_feature_names_out()
        except (AttributeError, ValueError):
            names = None  # a step that cannot name its outputs
    elif names is None:
        names = getattr(X, "columns", None)
    rows = to_numpy(X if steps is None or not len(steps) else steps.transform(X))
    return network, rows, None if names is None else [str(name) for name in names]
