"""From a subject to a report: everything that is said, in the order in which it is found out.

Reference: :mod:`cvxnn.reporting.content`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..paths import Point
from .concerns import concerns_of
from .content import Report
from .deep_units import unstack
from .neurons import describe
from .numerals import number
from .pictures import canvas_of, picture_of
from .points import points_of, trail_of
from .samples import explanations_of
from .subject import Subject

#: Neurons that a report describes.
DESCRIBED = 60


def gather(
    subject: Subject,
    *,
    path: Any = "auto",
    n_alphas: int = 12,
    max_time: float = 60.0,
    title: str | None = None,
    callback: Callable[[Point], None] | None = None,
) -> Report:
    """Return what a report says of a subject; the parameters are those of :func:`cvxnn.report`."""
    trail = trail_of(subject, path, n_alphas, max_time, callback)
    canvas, held_out = canvas_of(subject), subject.held_out
    deep = unstack(subject.network, subject.data.X, subject.columns)
    neurons, order = describe(deep.network, deep.X, deep.columns, subject.step, DESCRIBED)
    samples, worst, note = explanations_of(subject, order)
    score = subject.score(subject.data)
    test_score = float("nan") if held_out is None else subject.score(held_out)
    shift = 0.0 if subject.classes or subject.linked else subject.shift
    return Report(
        title=title or _title(subject),
        model=subject.model,
        certificate=subject.certificate,
        null=subject.problem.null_value() / subject.problem.total_weight,
        score_name=subject.score_name,
        score=score,
        test_score=test_score,
        n_train=len(subject.data),
        n_test=0 if held_out is None else len(held_out),
        n_features=len(subject.columns.entries),
        classes=subject.classes,
        outputs=subject.targets,
        unit=unit_of(subject),
        scale=_scale(subject),
        constant=np.atleast_1d(subject.network.intercept) * subject.step + shift,
        columns=tuple(column.name for column in subject.columns.entries),
        opaque=subject.columns.opaque,
        concerns=concerns_of(subject, score, test_score),
        history=subject.history,
        points=points_of(subject, trail, canvas),
        path_note=trail.note,
        canvas=canvas,
        picture=None if canvas is None else picture_of(subject, subject.network, canvas),
        neurons=neurons,
        layers=deep.layers,
        samples=samples,
        worst=worst,
        sample_note=note,
        settings=subject.settings,
    )


def unit_of(subject: Subject) -> str:
    """What neurons add to."""
    if subject.classes:
        score = "log-odds" if subject.loss.name == "log_loss" and len(subject.targets) == 1 else "score"
        return f"the {score} of {subject.targets[0]}" if len(subject.targets) == 1 else "the scores"
    if subject.linked:
        return "the logarithm of the prediction"
    return "the prediction" if len(subject.targets) == 1 else "the predictions"


def _scale(subject: Subject) -> str:
    """In which units the objective is, where the target was standardised."""
    if subject.unit == 1.0:
        return ""
    return f" It counts errors in units of {number(subject.unit)}, the standard deviation of the target."


def _title(subject: Subject) -> str:
    if len(subject.classes) == 2:
        return f"A network that tells {subject.classes[0]} from {subject.classes[1]}"
    if subject.classes:
        return f"A network that tells {len(subject.classes)} classes apart"
    return "A network that predicts " + ", ".join(subject.targets[:3])
