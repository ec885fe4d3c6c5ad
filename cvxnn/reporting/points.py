"""The networks that a report's slider moves through: from strong to weak weight decay.

The network of the report is one of them, as it is. The others are trained and certified here, within a
budget of seconds, from the largest alpha on; a path that is cut short ends at a larger alpha and says so.

Reference: :mod:`cvxnn.paths`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ..certificate import Certificate
from ..network import Network
from ..path_estimator import ConvexNetPath
from ..paths import Path, Point, follow
from .content import Canvas, PathPoint
from .neurons import describe
from .numerals import duration, number, things
from .pictures import picture_of
from .subject import Subject

#: Neighbours on the grid are at least this far apart, as a ratio.
NEAREST = 0.7
#: Alphas weaker than that of the network, where there is room for them.
BEYOND = 2
#: The last alpha as a share of the first where the network's own is above alpha_max.
FAR = 1e-2
#: At how many alphas a loose bound is tightened.
BOUNDS = 3
#: Rounds of growing at each alpha.
ROUNDS = 30
#: Neurons that a point shows.
SHOWN = 8
#: Alphas are the same up to this.
SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Trail:
    """Networks from strong to weak penalty, and what is to be said about them.

    Parameters
    ----------
    steps : list of (Network, Certificate, bool)
        The last says whether it is the network of the report.
    note : str
    """

    steps: list[tuple[Network, Certificate, bool]]
    note: str


def strengths(alpha_max: float, alpha: float, count: int) -> np.ndarray:
    """Return a geometric grid around `alpha`, without it, that begins at `alpha_max`.

    Examples
    --------
    >>> strengths(1.0, 0.01, 4).round(9).tolist()
    [1.0, 0.1, 0.001, 0.0001]
    """
    if alpha >= alpha_max * (1.0 - SAME) or count < 2:
        return alpha_max * np.geomspace(1.0, FAR, count)
    beyond = min(BEYOND, count - 1)
    ratio = (alpha / alpha_max) ** (1.0 / (count - beyond))
    if ratio > NEAREST:
        # a network near the start of its path: fewer before it, more after it
        before = max(1, int(np.log(alpha / alpha_max) / np.log(NEAREST)))
        beyond, ratio = count - before, min((alpha / alpha_max) ** (1.0 / before), NEAREST)
        above = alpha * (alpha_max / alpha) ** (np.arange(before, 0, -1) / before)
        return np.concatenate([above, alpha * ratio ** np.arange(1, beyond + 1)])
    powers = np.setdiff1d(np.arange(count + 1), [count - beyond])
    return alpha_max * ratio**powers


def trail_of(
    subject: Subject,
    path: Any,
    n_alphas: int,
    max_time: float,
    callback: Callable[[Point], None] | None = None,
) -> Trail:
    """Return the networks of a path with that of the report among them.

    Parameters
    ----------
    subject : Subject
    path : "auto", None, Path or fitted ConvexNetPath (perhaps at the end of a pipeline)
    n_alphas : int
    max_time : float
        Seconds, for a path that is computed here.
    callback : callable(Point), or None

    Raises
    ------
    ValueError, TypeError
        If the path is none, or one of other networks.
    """
    if path is None:
        return Trail([], "The path was not asked for.")
    if isinstance(path, str) and path == "auto":
        if subject.pathless:
            return Trail([], f"No path was computed: {subject.pathless}. Pass one with path=.")
        if not n_alphas > 1:
            raise ValueError(f"n_alphas={n_alphas!r}: pass at least 2, or path=None for no path")
        found = follow(
            subject.problem,
            subject.family,
            lambda top: strengths(top, subject.certificate.alpha, n_alphas - 1),
            tol=subject.tol,
            max_iter=ROUNDS,
            max_time=max_time,
            n_bounds=BOUNDS,
            random_state=subject.random_state,
            callback=callback,
        )
        return Trail(_with_mine(subject, found), _ending(found, max_time))
    return Trail(_with_mine(subject, _given(subject, path)), "")


def _given(subject: Subject, path: Any) -> Path:
    """A path that somebody has followed already."""
    model = path.steps[-1][1] if isinstance(path, Pipeline) else path
    found = getattr(model, "path_", model) if isinstance(model, ConvexNetPath) else model
    if not isinstance(found, Path):
        raise TypeError(
            f"path={type(path).__name__}: pass a cvxnn.Path, a fitted ConvexNetPath, 'auto' or None"
        )
    mine = subject.network
    for network in found.networks:
        if (network.n_features, network.n_outputs) != (mine.n_features, mine.n_outputs):
            raise ValueError(
                f"the path's networks have {things(network.n_features, 'input')} and "
                f"{things(network.n_outputs, 'output')}, this one has {mine.n_features} and "
                f"{mine.n_outputs}: pass a path on the same data"
            )
    return found


def _with_mine(subject: Subject, path: Path) -> list[tuple[Network, Certificate, bool]]:
    """The networks of a path, and that of the report in its place."""
    alpha = subject.certificate.alpha
    others = [
        (point.network, point.certificate, False)
        for point in path.points
        if abs(point.alpha - alpha) > SAME * alpha
    ]
    steps = [*others, (subject.network, subject.certificate, True)]
    return sorted(steps, key=lambda step: -step[1].alpha)


def _ending(path: Path, max_time: float) -> str:
    """What is to be said where a path ended early."""
    if path.complete:
        return ""
    missing = len(path.asked) - len(path)
    last = number(path.alphas[-1], 3) if len(path) else "none"
    return (
        f"The path ended early (it was given {duration(max_time)}): {things(missing, 'network')} "
        f"at smaller alphas than {last} {'is' if missing == 1 else 'are'} missing."
    )


def points_of(subject: Subject, trail: Trail, canvas: Canvas | None) -> tuple[PathPoint, ...]:
    """Return what a report says of each network of a path."""
    made = []
    for network, certificate, mine in trail.steps:
        problem = subject.problem
        loss = problem.loss.value(network(problem.X), problem.y, problem.weights) / problem.total_weight
        held_out = subject.held_out
        neurons, _ = describe(network, subject.data.X, subject.columns, subject.step, SHOWN)
        made.append(
            PathPoint(
                certificate=certificate,
                loss=loss,
                penalty=max(0.0, certificate.objective - loss) / certificate.alpha,
                score=subject.score(subject.data, network),
                test_score=float("nan") if held_out is None else subject.score(held_out, network),
                neurons=neurons,
                picture=None if canvas is None else picture_of(subject, network, canvas),
                mine=mine,
            )
        )
    return tuple(made)
