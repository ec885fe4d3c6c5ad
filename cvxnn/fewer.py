r"""As few neurons as an objective allows: small ones go, near twins become one.

At the optimum two neurons of one sign and one pattern are one neuron (the norm of their sum is at most
the sum of their norms, and strictly below unless they are parallel). A network that is nearly optimal still
has pairs whose patterns differ in a few samples near a kink, and small neurons that a search put beside
large ones: the objective is so flat there that the last steps of a solver do not bring them together. Here
small neurons are dropped, or those of one sign that are close are added up, the rest move to their nearest
optimum (:func:`cvxnn.smoothing_newton.follow`), and the smaller network is taken unless its objective has
grown beyond a slack. What is boldest is tried first.

References: Boyd, Schultz and Recht, "The alternating descent conditional gradient method for sparse inverse
problems", SIAM J. Optim. 2017 (pruning after every move of the atoms).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from .design import Design
from .growth import Rows, merge, objective
from .program import Problem
from .smoothing_newton import affordable, follow

#: Shares of all sizes below which neurons are dropped, and distances below which they are merged.
SHARES, DISTANCES = (1e-2, 3e-3, 1e-3, 1e-4), (0.1, 0.03, 0.01)
#: An objective that is larger by more than this share before neurons have moved is given up at once.
HOPELESS = 1e-3
#: Newton's path of a smaller network: first and last band, steps.
PATH = (1e-4, 1e-9, 40)
#: Smaller networks whose neurons are moved, at most.
MOVES = 10


def fewer(
    problem: Problem, design: Design, rows: Rows, slack: float, deadline: float = float("inf")
) -> Rows:
    """Return a network with no more neurons, whose objective is at most ``1 + slack`` times as large.

    Parameters
    ----------
    problem : Problem
    design : Design
    rows : Rows
        Nearly optimal.
    slack : float
    deadline : float
        On the clock of :func:`time.perf_counter`, after which no smaller network is tried.

    Returns
    -------
    Rows
        `rows` itself where no smaller network that was tried is as good.
    """
    least = objective(problem, design, rows)
    candidates = _smaller(problem, design, rows, least)
    for _ in range(MOVES):
        smaller = next(candidates, None)
        if smaller is None or time.perf_counter() > deadline:
            break
        moved = _settle(problem, design, smaller)
        if objective(problem, design, moved) <= least * (1.0 + slack):
            rows, candidates = moved, _smaller(problem, design, moved, least)
    return rows


def _smaller(problem: Problem, design: Design, rows: Rows, least: float) -> Iterator[Rows]:
    """Networks with fewer neurons that are not much worse, the smallest first."""
    size = design.norms(rows.U)
    total = float(size.sum())
    cuts = [Rows(rows.U[size > share * total], rows.signs[size > share * total]) for share in SHARES]
    merges = [merge(rows, design, distance) for distance in DISTANCES]
    # of one kind, as many neurons are nearly always the same ones
    tried = [*{len(cut.signs): cut for cut in cuts}.values()]
    tried += {len(merged.signs): merged for merged in merges}.values()
    for smaller in sorted(tried, key=lambda other: len(other.signs)):
        if not 0 < len(smaller.signs) < len(rows.signs):
            continue
        if objective(problem, design, smaller) <= least * (1.0 + HOPELESS):
            yield smaller


def _settle(problem: Problem, design: Design, rows: Rows) -> Rows:
    """Move all neurons, where that is affordable."""
    affords = affordable(design.samples, len(rows.signs), design.X.shape[1], design.pool)
    return follow(problem, design, rows, *PATH) if problem.loss.smooth and affords else rows
