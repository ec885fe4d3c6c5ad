"""A report on a trained network: one HTML file that opens anywhere, for people and for experts.

    from cvxnn import report
    report(clf, X, y, "report.html")

What it says is data first (:mod:`cvxnn.reporting.content`), gathered from a subject
(:mod:`cvxnn.reporting.subject`), and written as a page at the end (:mod:`cvxnn.reporting.page`). The
file holds its own style, script and pictures, and asks nobody for anything.

Reference: Mitchell et al., "Model cards for model reporting", 2019 (what a reader needs to know).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..paths import Point
from .content import Report
from .gather import gather
from .page import render
from .sources import from_estimator, from_model

__all__ = ["Report", "from_model", "gather", "render", "report"]


def report(
    estimator: Any,
    X: Any,
    y: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    X_test: Any = None,
    y_test: Any = None,
    sample_weight: Any = None,
    path: Any = "auto",
    n_alphas: int = 12,
    max_time: float = 60.0,
    feature_names: Any = None,
    target_names: Any = None,
    title: str | None = None,
    callback: Callable[[Point], None] | None = None,
) -> Report:
    """Write a report on a trained network: one HTML file that opens without a network connection.

    It says what the certificate proves and what it does not, how training went, how the network changes
    with alpha, what each neuron does in the names and units of the data, how single predictions come
    about, and what is odd about the data.

    Parameters
    ----------
    estimator : ConvexNetRegressor, ConvexNetClassifier, their CV versions, or a Pipeline
        Fitted; a pipeline ends in one of these. Rules are in the units of the data that enter a pipeline
        where its steps act on each column alone (scalers, one-hot encoders, column transformers of them).
    X : array-like or data frame of shape (n, d)
        The training data, as `fit` was given them: a certificate is about these.
    y : array-like of shape (n,), or (n, targets)
    out : str or path, default=None
        The file to write; None writes none.
    X_test, y_test : array-likes, default=None
        Data that training has not seen, to score on.
    sample_weight : array-like of shape (n,), default=None
        As in `fit`.
    path : "auto", Path, fitted ConvexNetPath or None, default="auto"
        The networks that the slider over alpha moves through. "auto" trains them, None leaves them out.
    n_alphas : int, default=12
        How many networks "auto" has, with the estimator's own.
    max_time : float, default=60.0
        Seconds that "auto" may take; it then has fewer networks, and the report says so.
    feature_names : sequence of str, default=None
        Names of the columns of X; None takes those of a data frame.
    target_names : sequence of str, default=None
        Names of the targets of a regression.
    title : str, default=None
    callback : callable(Point), default=None
        Called after every network of "auto".

    Returns
    -------
    Report
        What the report says, as data.

    Raises
    ------
    TypeError
        If there is no report on such an object.
    ValueError
        If X and y are not the data of the training, or parameters cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ConvexNetRegressor, report
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> y = np.abs(X[:, 0])
    >>> model = ConvexNetRegressor(alpha=1e-3).fit(X, y)
    >>> content = report(model, X, y, path=None, feature_names=["position"])
    >>> [neuron.rule.names for neuron in content.neurons]
    [('position',), ('position',)]
    """
    subject = from_estimator(
        estimator,
        X,
        y,
        sample_weight=sample_weight,
        X_test=X_test,
        y_test=y_test,
        feature_names=feature_names,
        target_names=target_names,
    )
    content = gather(
        subject, path=path, n_alphas=n_alphas, max_time=max_time, title=title, callback=callback
    )
    if out is not None:
        Path(out).write_text(render(content), encoding="utf-8")
    return content
