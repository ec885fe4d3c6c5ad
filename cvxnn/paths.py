r"""The regularisation path: networks for a whole grid of strengths, each certified.

Let ``P(alpha)`` be the least objective over all networks of a family. Three facts make the path cheap:

- from alpha_max on (:mod:`cvxnn.threshold`) the zero network is optimal;
- the solution at one alpha is a good start for the next, smaller one;
- a proof for one alpha says something about all others. A dual point that is feasible at one alpha is,
  scaled, feasible at another; and P, a minimum of functions that are linear in alpha (``L + alpha R``),
  is concave, so that a chord between two proven lower bounds is a proven lower bound for every
  alpha in between. Bounds that are expensive to tighten need tightening at a few alphas only.

References: Friedman, Hastie and Tibshirani, J. Stat. Softw. 2010 (paths with warm starts); Pilanci and
Ergen, ICML 2020 (the dual constraint M(Z) <= beta); Mishkin and Pilanci, ICML 2023 (solution paths).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .architectures import Architecture
from .certificate import Certificate, Proof, judge_and_prove, percent, relative_gap, scale
from .network import Network
from .notebook import html_table
from .program import Problem, Status
from .threshold import threshold
from .train import BOUND_ITER, Ground, threads_for, train

#: A network trained at less than this multiple of the next alpha is a start for it.
NEAR = 4.0
#: What ends a path before its last alpha.
CUT = (Status.interrupted, Status.max_time)


@dataclass(frozen=True, eq=False)
class Point:
    """One network of a path.

    Parameters
    ----------
    alpha : float
    network : Network
    certificate : Certificate
    n_iter : int
        Rounds or solver iterations; 0 where the zero network is optimal.
    status : Status
    seconds : float
        Spent on this alpha, certificate included.
    proof : Proof
        The dual point that proves the lower bound found at this alpha.
    """

    alpha: float
    network: Network
    certificate: Certificate
    n_iter: int
    status: Status
    seconds: float
    proof: Proof = field(repr=False)

    def __str__(self) -> str:
        c = self.certificate
        return (
            f"alpha {self.alpha:<10.4g} objective {c.objective:<12.8g} gap {percent(c.gap)} ({c.scope})  "
            f"search gap {c.search_gap:.1e}  {c.width} neurons  {self.seconds:.2f} s"
        )


@dataclass(frozen=True, eq=False)
class Path:
    """Networks along a grid of strengths, from the largest alpha to the smallest.

    Parameters
    ----------
    points : tuple of Point
        Alphas descending; those after an interrupt are missing.
    alpha_max : float
        The largest alpha at which a network that is not zero is known to pay.
    alpha_max_bound : float
        Proven: from here on the zero network is optimal. Equal to `alpha_max` up to rounding where
        the oracle is exact (patterns enumerated, gated networks). With an exact oracle and a loss with
        kinks it is no proof: it rests on trainings to a gap of 1e-7.
    asked : ndarray
        All alphas that were asked for, descending.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import path
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> result = path(X, np.abs(X[:, 0]), n_alphas=5)
    >>> result.widths
    array([0, 2, 2, 2, 2])
    """

    points: tuple[Point, ...]
    alpha_max: float
    alpha_max_bound: float
    asked: np.ndarray = field(repr=False)

    @property
    def alphas(self) -> np.ndarray:
        """Strengths, descending, shape (k,)."""
        return np.array([point.alpha for point in self.points])

    @property
    def networks(self) -> list[Network]:
        """A network for each alpha."""
        return [point.network for point in self.points]

    @property
    def certificates(self) -> list[Certificate]:
        """A certificate for each alpha."""
        return [point.certificate for point in self.points]

    @property
    def objectives(self) -> np.ndarray:
        """Objectives per sample, shape (k,)."""
        return np.array([point.certificate.objective for point in self.points])

    @property
    def widths(self) -> np.ndarray:
        """Numbers of neurons, shape (k,)."""
        return np.array([point.certificate.width for point in self.points], dtype=int)

    @property
    def n_iter(self) -> np.ndarray:
        """Rounds or solver iterations, shape (k,)."""
        return np.array([point.n_iter for point in self.points], dtype=int)

    @property
    def seconds(self) -> np.ndarray:
        """Seconds for each alpha, shape (k,)."""
        return np.array([point.seconds for point in self.points])

    @property
    def complete(self) -> bool:
        """Whether every alpha that was asked for was reached."""
        return len(self.points) == len(self.asked)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return (
            f"<Path: {len(self)} networks, alpha {self.alphas[0]:.4g} to {self.alphas[-1]:.4g}, "
            f"{self.widths[0]} to {self.widths[-1]} neurons>"
        )

    def __str__(self) -> str:
        return "\n".join(map(str, self.points))

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{c.alpha:.4g}",
                c.width,
                f"{c.objective:.7g}",
                f"{percent(c.gap)} ({c.scope})",
                f"{c.search_gap:.1e}",
            )
            for c in self.certificates
        ]
        head = ("alpha", "neurons", "objective", "proven gap", "search gap (no proof)")
        return html_table(rows, repr(self)[1:-1], head)


def grid(alpha_max: float, n_alphas: int, eps: float) -> np.ndarray:
    """Return a geometric grid from `alpha_max` (1 if that is 0) to `eps` times it, shape (n_alphas,)."""
    return (alpha_max or 1.0) * np.geomspace(1.0, eps, n_alphas)


def follow(
    problem: Problem,
    architecture: Architecture,
    alphas: np.ndarray | Callable[[float], np.ndarray] | None = None,
    *,
    n_alphas: int = 50,
    eps: float = 1e-3,
    tol: float = 1e-5,
    max_iter: int = 50,
    max_time: float | None = None,
    n_bounds: int | None = 8,
    random_state: int = 0,
    callback: Callable[[Point], None] | None = None,
) -> Path:
    """Train and certify a network for each alpha, the largest first.

    Parameters
    ----------
    problem : Problem
        Its own beta does not matter.
    architecture : Architecture
    alphas : ndarray of shape (k,), callable, or None
        None takes `n_alphas` values from alpha_max down to `eps` times it; a function returns alphas for
        an alpha_max.
    n_alphas, eps : int, float
    tol, max_iter, random_state
        As for :func:`cvxnn.train.train`, for each alpha.
    max_time : float or None
        Seconds for the whole path.
    n_bounds : int or None
        At how many alphas a ``bounded`` certificate is tightened: evenly spread, the last among them.
        The others' bounds follow from these. None tightens all.
    callback : callable(Point), or None
        Called after every alpha. Bounds that follow from other alphas are not there yet.

    Returns
    -------
    Path
        Interrupted, it holds the points that were finished.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the first point.
    """
    began = time.perf_counter()
    with threads_for(problem):
        ground = Ground.prepare(problem, architecture, np.random.default_rng(random_state))
        problem = ground.oracle.problem
        architecture = architecture.on(problem)
        found, proven = threshold(architecture, ground, random_state=random_state)
        wanted = alphas(found or 1.0) if callable(alphas) else alphas
        asked = grid(found, n_alphas, eps) if wanted is None else np.sort(wanted)[::-1]
        n_bounds = len(asked) if n_bounds is None else n_bounds
        tightened = set(np.linspace(len(asked) - 1, 0, n_bounds).round().astype(int).tolist())
        walk = _Walk(problem, architecture, ground, found, tol, max_iter, random_state)
        points: list[Point] = []
        try:
            for k, alpha in enumerate(asked.tolist()):
                spent = time.perf_counter() - began
                if max_time is not None and spent > max_time and points:
                    break
                cap = None if max_time is None else max(max_time - spent, 0.0)
                point = walk.step(alpha, cap, BOUND_ITER if k in tightened else 0)
                if point.status in CUT and points:
                    break  # half trained; the points before it are not
                points.append(point)
                if callback is not None:
                    callback(point)
                if point.status in CUT:
                    break
        except KeyboardInterrupt:
            if not points:
                raise
        points = concave(transfer(points, problem), proven, problem.null_value() / problem.total_weight)
    return Path(tuple(points), found, proven, asked)


@dataclass
class _Walk:
    """Trains one alpha after the other, each from the network before it."""

    problem: Problem
    architecture: Architecture
    ground: Ground
    alpha_max: float
    tol: float
    max_iter: int
    random_state: int
    before: Point | None = None
    last: Point | None = None

    def _start(self, problem: Problem, alpha: float) -> Network | None:
        """A network to start from, None if there is none near."""
        last, before = self.last, self.before
        if last is None or not last.network.width or last.alpha > NEAR * alpha:
            return None
        if before is None or not before.network.width or before.alpha > NEAR * last.alpha:
            return last.network
        if not before.alpha > last.alpha > alpha:
            return last.network
        share = (last.alpha - alpha) / (before.alpha - last.alpha)
        arrangement = self.ground.arrangement
        return self.architecture.extrapolate(problem, arrangement, before.network, last.network, share)

    def step(self, alpha: float, max_time: float | None, bound_iter: int) -> Point:
        began = time.perf_counter()
        problem = self.problem.at(alpha)
        if alpha >= self.alpha_max * (1.0 - 1e-12):
            # Optimal by the threshold; the certificate says how far that is proven.
            network = self.architecture.nothing(problem)
            oracle = self.ground.oracle.at(problem.beta)
            certificate, proof = judge_and_prove(
                network, problem, self.architecture, oracle, max_iter=bound_iter
            )
            n_iter, status = 0, Status.optimal
        else:
            trained = train(
                problem,
                self.architecture,
                tol=self.tol,
                max_iter=self.max_iter,
                max_time=max_time,
                random_state=self.random_state,
                bound_iter=bound_iter,
                start=self._start(problem, alpha),
                ground=self.ground,
            )
            network, certificate, proof = trained.network, trained.certificate, trained.proof
            n_iter, status = trained.n_iter, trained.status
        seconds = time.perf_counter() - began
        self.before, self.last = (
            self.last,
            Point(alpha, network, certificate, n_iter, status, seconds, proof),
        )
        return self.last


def transfer(points: list[Point], problem: Problem) -> list[Point]:
    """Raise ``bounded`` lower bounds by the proofs of the other points.

    A dual point with ``M(Z) <= beta`` has ``M(tZ) <= t beta``: scaled, it serves any strength.

    Parameters
    ----------
    points : list of Point
    problem : Problem
        Its own beta does not matter.
    """
    if not _comparable(points):
        return points
    total = problem.total_weight
    raised = []
    for point in points:
        there = problem.at(point.alpha)
        # a thousand times the rounding that a proof may hide, on the safe side
        bounds = [scale(there, p.proof.Z, p.alpha * total * (1.0 + 1e-9))[1] for p in points]
        raised.append(_lifted(point, max(bounds) * (1.0 - 1e-13) / total))
    return raised


def _comparable(points: list[Point]) -> bool:
    """Whether bounds can be raised, and are about one family: frozen layers differ between alphas."""
    return all(point.certificate.scope == "bounded" and not point.certificate.frozen for point in points)


def _lifted(point: Point, bound: float) -> Point:
    """A point whose lower bound is at least the given one, per sample."""
    c = point.certificate
    bound = max(c.lower_bound, bound)
    gap = relative_gap(c.objective, bound)
    better = replace(c, lower_bound=bound, gap=gap, search_gap=min(c.search_gap, gap))
    return replace(point, certificate=better)


def concave(points: list[Point], alpha_max: float, null: float) -> list[Point]:
    """Raise ``bounded`` lower bounds to the least concave function above all of them.

    Parameters
    ----------
    points : list of Point
        Alphas descending.
    alpha_max : float
        From here on the objective of the best constant, `null` per sample, is the least there is.
    null : float
    """
    if not points or not _comparable(points):
        return points
    known = [(0.0, 0.0), *((p.alpha, p.certificate.lower_bound) for p in reversed(points))]
    known.append((max(alpha_max, points[0].alpha), null))
    hull: list[tuple[float, float]] = []
    for point in known:
        while len(hull) >= 2 and _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    xs, vs = np.array(hull).T
    chords = np.interp([p.alpha for p in points], xs, vs) * (1.0 - 1e-13)  # for its rounding
    return [_lifted(point, chord) for point, chord in zip(points, chords.tolist(), strict=True)]


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the chord from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])
