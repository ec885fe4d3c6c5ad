r"""Choosing alpha: networks along the path inside every fold, quickly, and the rule that picks one.

Cross-validation asks how networks *predict*, so inside folds nothing is proven, and a network one per cent
above the best objective serves as well as the best one. What is left out is what makes training long:

- no convex program where the architecture grows its patterns: growing (anneal, price, insert) stops after
  a few rounds at each alpha, or at a search gap of one per cent, and the next alpha starts from the network
  of this one;
- no Newton path: descent comes within a thousandth of where that ends. Its networks have more neurons, for
  twins do not become one, and predict the same;
- no thorough search, no bound, no certificate.

The network that users get is trained on all data at the chosen alpha, in full, with its certificate.

With scores :math:`q_{kf}` (larger is better) at alpha k in fold f and their means :math:`\bar q_k`, the
rule "best" takes the largest mean, and of equals the largest alpha; "one_standard_error" takes the largest
alpha whose mean is at least

.. math:: \bar q_{k^*} - \mathrm{sd}_f(q_{k^* f}) / \sqrt{F},

the simplest network that cannot be told from the best one.

References: Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3
(one standard error); Friedman, Hastie and Tibshirani, J. Stat. Softw. 2010 (paths inside folds).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .architectures import Architecture
from .architectures.base import Effort, Training
from .low_rank import Reduction
from .network import Network
from .program import Master, Problem, Status
from .train import Ground, drive, threads_for

#: Rounds of growing at each alpha of a fold: two leave objectives up to 15 % above the best where alpha
#: is small, three 1 to 2 % (more where networks interpolate), at twice the time.
FOLD_ITER = 3
#: Relative gap of the programs of architectures that do not grow.
FOLD_TOL = 1e-3
#: The rules to choose by.
RULES = ("best", "one_standard_error")


@dataclass(frozen=True, eq=False)
class Fold:
    """What one fold says about the alphas it reached.

    Parameters
    ----------
    scores : ndarray of shape (k,)
        Larger is better.
    widths : ndarray of shape (k,)
        Numbers of neurons.
    """

    scores: np.ndarray
    widths: np.ndarray


def first_alpha(problem: Problem, ground: Ground) -> float:
    """Return the alpha below which a quick search finds a neuron that pays, 0 if nothing is to explain.

    :func:`cvxnn.alpha_max` searches harder and proves more; for a grid this will do.
    """
    Z = problem.residual(np.zeros_like(problem.y))
    if np.sum(np.abs(Z)) <= 1e-12 * np.sum(problem.weights @ np.abs(problem.y)):
        return 0.0
    return ground.oracle.seen(Z) / problem.total_weight


def outline(
    problem: Problem,
    architecture: Architecture,
    alphas: np.ndarray,
    *,
    max_iter: int = FOLD_ITER,
    max_time: float = float("inf"),
    random_state: int = 0,
) -> list[Network]:
    """Train a network for each alpha, the largest first, with nothing proven.

    Parameters
    ----------
    problem : Problem
        Its own beta does not matter.
    architecture : Architecture
    alphas : ndarray of shape (k,)
        Descending.
    max_iter : int
        Rounds of growing for each alpha.
    max_time : float
        Seconds; alphas that were not reached are missing. The first is always there.
    random_state : int

    Returns
    -------
    list of Network

    Raises
    ------
    KeyboardInterrupt
        If interrupted: networks that are not trained say nothing about an alpha.
    """
    deadline = time.perf_counter() + max_time
    networks: list[Network] = []
    with threads_for(problem):
        ground = Ground.prepare(problem, architecture, np.random.default_rng(random_state))
        problem = ground.oracle.problem
        first = first_alpha(problem, ground)
        for alpha in alphas.tolist():
            there = problem.at(alpha)
            if alpha >= first:
                networks.append(architecture.nothing(there))
                continue
            start = networks[-1] if networks and networks[-1].width else None
            rng = np.random.default_rng(random_state)
            effort = Effort(FOLD_TOL, max_iter, rng, start=start, rough=True)
            oracle = ground.oracle.at(there.beta)
            training = architecture.train(there, ground.arrangement, oracle, effort)
            # what is there before the first program may be a network of the first stage only
            training = training if architecture.staged else _grown(training)
            network, status, _ = drive(training, effort, deadline, lambda _: None)
            if status is Status.interrupted:
                raise KeyboardInterrupt
            if status is Status.max_time and networks:
                break  # half trained
            networks.append(architecture.nothing(there) if network is None else network)
            if status is Status.max_time:
                break
    return networks


def _grown(training: Training) -> Training:
    """A training that ends where it would start to solve programs for a network that is there."""
    answer = None
    try:
        while True:
            request = training.send(answer)
            if isinstance(request, Master) and request.network is not None and request.network.width:
                return request.network
            answer = yield request
    except StopIteration as stop:
        return stop.value
    finally:
        training.close()


@dataclass(eq=False)
class FoldScore:
    """Scores networks on the samples left out of a fold, as the estimator that they would make.

    Parameters
    ----------
    estimator : estimator of one alpha
        Complete but for its network.
    scorer : callable(estimator, X, y, **metadata)
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,)
    metadata : dict
        Of these samples.
    reduction : Reduction or None
        Where networks were trained on reduced data.
    """

    estimator: Any
    scorer: Callable[..., float]
    X: np.ndarray
    y: np.ndarray
    metadata: dict[str, Any]
    reduction: Reduction | None = None

    def __call__(self, network: Network, alpha: float) -> float:
        """Return the score of a network; larger is better."""
        self.estimator.set_params(alpha=alpha)
        self.estimator.network_ = network if self.reduction is None else self.reduction.lift(network)
        return float(self.scorer(self.estimator, self.X, self.y, **self.metadata))


def score_fold(
    problem: Problem,
    architecture: Architecture,
    alphas: np.ndarray,
    score: Callable[[Network, float], float],
    *,
    max_iter: int,
    max_time: float,
    random_state: int,
) -> Fold:
    """Train along the path of one fold and score every network.

    Parameters
    ----------
    problem : Problem
        Of the fold's training samples.
    architecture, alphas, max_iter, max_time, random_state
        As for :func:`outline`.
    score : callable(Network, alpha)
        On the fold's test samples.

    Returns
    -------
    Fold
    """
    networks = outline(
        problem, architecture, alphas, max_iter=max_iter, max_time=max_time, random_state=random_state
    )
    scores = [score(network, alpha) for network, alpha in zip(networks, alphas.tolist(), strict=False)]
    return Fold(np.array(scores, dtype=float), np.array([network.width for network in networks], dtype=int))


def choose(scores: np.ndarray, rule: str, weights: np.ndarray | None = None) -> int:
    """Return the row of the alpha to take.

    Parameters
    ----------
    scores : ndarray of shape (k, folds)
        Larger is better; alphas descending.
    rule : {"best", "one_standard_error"}
    weights : ndarray of shape (folds,), or None
        Of the folds in the means.

    Raises
    ------
    ValueError
        If no alpha has a score in every fold.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([[0.0, 0.1], [0.8, 0.9], [0.7, 1.1]])
    >>> choose(scores, "best"), choose(scores, "one_standard_error")
    (2, 1)
    """
    means = np.average(scores, axis=1, weights=weights)
    means = np.where(np.isnan(means), -np.inf, means)
    top = float(np.max(means))
    if top == -np.inf:
        raise ValueError(
            "the scores are nan at every alpha: pass another scoring, or a cv whose folds all have "
            "what it needs (both classes, say)"
        )
    best = int(np.flatnonzero(means >= top - 1e-12 * abs(top))[0])
    folds = scores.shape[1]
    if rule == "best" or folds < 2:
        return best
    error = float(np.std(scores[best], ddof=1)) / np.sqrt(folds)
    return int(np.flatnonzero(means >= means[best] - error)[0])
