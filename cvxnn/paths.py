r"""The regularisation path: networks for a whole grid of strengths, each certified.

Let ``P(alpha)`` be the least objective over all networks of a family. Four facts make the path cheap:

- from alpha_max on (:mod:`cvxnn.threshold`) the zero network is optimal;
- the solution at one alpha is a good start for the next, smaller one;
- so are the neurons that were found there a good start for the next search (:mod:`cvxnn.pool`);
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
from .certificate import Certificate, Proof, judge_and_prove, relative_gap, scale, search_gap
from .network import Network
from .oracles import SearchOracle
from .pool import Pool
from .program import Problem, Status
from .threshold import threshold
from .train import BOUND_ITER, Ground, nothing, threads_for, train

#: A network trained at less than this multiple of the next alpha is a start for it.
NEAR = 4.0
#: Where nothing is missed, the thorough search is made at one of so many alphas.
RARELY = 8
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
    dual : ndarray of shape (n,) or None
        The dual variable of the training, against which its search gap was taken.
    """

    alpha: float
    network: Network
    certificate: Certificate
    n_iter: int
    status: Status
    seconds: float
    proof: Proof = field(repr=False)
    dual: np.ndarray | None = field(default=None, repr=False)

    def __str__(self) -> str:
        c = self.certificate
        return (
            f"alpha {self.alpha:<10.4g} objective {c.objective:<12.8g} gap {c.gap:.1e} ({c.scope})  "
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
        the oracle is exact (patterns enumerated, gated networks).
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


def grid(alpha_max: float, n_alphas: int, eps: float) -> np.ndarray:
    """Return a geometric grid from `alpha_max` (1 if that is 0) to `eps` times it, shape (n_alphas,)."""
    return (alpha_max or 1.0) * np.geomspace(1.0, eps, n_alphas)


def follow(
    problem: Problem,
    architecture: Architecture,
    alphas: np.ndarray | None = None,
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
    alphas : ndarray of shape (k,), or None
        None takes `n_alphas` values from alpha_max down to `eps` times it.
    n_alphas, eps : int, float
    tol, max_iter, random_state
        As for :func:`cvxnn.train.train`, for each alpha. Where patterns grow, the search behind a search
        gap is the thorough one at some alphas only; at the others it is lighter, starts from what was
        found before, and its gap is raised where a later search finds what it missed.
    max_time : float or None
        Seconds for the whole path.
    n_bounds : int or None
        At how many alphas a ``bounded`` certificate is tightened: evenly spread, the last among them.
        The others' bounds follow from these. None tightens all.
    callback : callable(Point), or None
        Called after every alpha. Bounds that follow from other alphas are not there yet, and an alpha
        that is trained again, because a later search found what its own had missed, is not announced again.

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
        found, proven = threshold(architecture, ground, random_state=random_state)
        asked = grid(found, n_alphas, eps) if alphas is None else np.sort(alphas)[::-1]
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
                point = walk.step(alpha, cap, BOUND_ITER if k in tightened else 0, k == len(asked) - 1)
                if point.status in CUT and points:
                    break  # half trained; the points before it are not
                points.append(point)
                walk.look_back(points, cap)
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
    """Trains one alpha after the other, each from the network before it.

    From a neighbour, training needs a light search only, which starts from what earlier searches found
    (:mod:`cvxnn.pool`). The thorough search is made at the last alpha and at every second one, then every
    fourth, as long as it finds nothing that the light one missed; if it does, the alphas since the last
    thorough search are looked at again.
    """

    problem: Problem
    architecture: Architecture
    ground: Ground
    alpha_max: float
    tol: float
    max_iter: int
    random_state: int
    last: Point | None = None
    pool: Pool | None = None
    stride: int = 1
    sure: bool = True
    #: Alphas since the last thorough search, with their dual variables.
    doubtful: list[np.ndarray] = field(default_factory=list)

    def step(self, alpha: float, max_time: float | None, bound_iter: int, final: bool) -> Point:
        """Train and certify at the next alpha; `final` if it is the last."""
        began = time.perf_counter()
        problem = self.problem.at(alpha)
        if alpha >= self.alpha_max * (1.0 - 1e-12):
            # Optimal by the threshold; the certificate says how far that is proven.
            network = nothing(problem, self.architecture)
            oracle = self.ground.oracle.at(problem.beta)
            certificate, proof = judge_and_prove(
                network, problem, self.architecture, oracle, max_iter=bound_iter
            )
            seconds = time.perf_counter() - began
            self.last = Point(alpha, network, certificate, 0, Status.optimal, seconds, proof)
            return self.last
        near = self.last is not None and self.last.network.width > 0 and self.last.alpha <= NEAR * alpha
        self.sure = final or not near or len(self.doubtful) + 1 >= self.stride
        start = self.last.network if near and self.last is not None else None
        self.last, dual = self._train(alpha, start, self.sure, max_time, bound_iter)
        self.doubtful.append(dual)
        return self.last

    def _train(
        self, alpha: float, start: Network | None, sure: bool, max_time: float | None, bound_iter: int
    ) -> tuple[Point, np.ndarray]:
        """Train from a neighbour, or from nothing; the point and its dual variable."""
        began = time.perf_counter()
        oracle = self.ground.oracle
        if isinstance(oracle, SearchOracle):
            if self.pool is None:
                self.pool = Pool(oracle.X.shape[1])
            self.pool.missed, self.pool.searches = 0.0, self.pool.searches + 1
            light = start is not None
            oracle = oracle.remembering(self.pool, light=light, sure=sure, seed=self.pool.searches)
        trained = train(
            self.problem.at(alpha),
            self.architecture,
            tol=self.tol,
            max_iter=self.max_iter,
            max_time=max_time,
            random_state=self.random_state,
            bound_iter=bound_iter,
            start=start,
            ground=replace(self.ground, oracle=oracle),
        )
        seconds = time.perf_counter() - began
        found = trained.certificate, trained.n_iter, trained.status, seconds, trained.proof
        return Point(alpha, trained.network, *found, trained.dual), trained.dual

    def look_back(self, points: list[Point], max_time: float | None) -> None:
        """After a thorough search, train those again that it casts doubt on.

        Parameters
        ----------
        points : list of Point
            All so far, the one of the thorough search last; changed in place.
        """
        if self.pool is None or not self.sure or not self.doubtful:
            return
        surprised, duals = self.pool.missed > self.tol, self.doubtful
        self.stride = 1 if surprised else min(2 * self.stride, RARELY)
        self.doubtful = []
        if not surprised:
            return
        assert isinstance(self.ground.oracle, SearchOracle)
        for k in range(len(points) - len(duals), len(points) - 1):
            point, Z = points[k], duals[k - len(points)]
            problem, c = self.problem.at(point.alpha), point.certificate
            price = float(np.max(self.pool.prices(self.ground.oracle.X, Z), initial=problem.beta))
            gap = search_gap(problem, c.objective * problem.total_weight, Z, price)
            if gap > c.search_gap:
                points[k] = point = replace(point, certificate=replace(c, search_gap=min(gap, c.gap)))
            if gap > max(self.tol, c.search_gap):
                points[k] = _better(point, self._train(point.alpha, point.network, True, max_time, 0)[0])


def _better(point: Point, other: Point) -> Point:
    """Of two points at one alpha that of the lower objective, with the higher of their bounds."""
    seconds = point.seconds + other.seconds
    if other.certificate.objective < point.certificate.objective:
        return _lifted(replace(other, proof=point.proof, seconds=seconds), point.certificate.lower_bound)
    return replace(point, seconds=seconds)


def transfer(points: list[Point], problem: Problem) -> list[Point]:
    """Raise ``bounded`` lower bounds by the proofs of the other points.

    A dual point with ``M(Z) <= beta`` has ``M(tZ) <= t beta``: scaled, it serves any strength.

    Parameters
    ----------
    points : list of Point
    problem : Problem
        Its own beta does not matter.
    """
    if any(point.certificate.scope != "bounded" for point in points):
        return points
    total = problem.total_weight
    raised = []
    for point in points:
        there = problem.at(point.alpha)
        # a thousand times the rounding that a proof may hide, on the safe side
        bounds = [scale(there, p.proof.Z, p.alpha * total * (1.0 + 1e-9))[1] for p in points]
        raised.append(_lifted(point, max(bounds) * (1.0 - 1e-13) / total))
    return raised


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
    if not points or any(point.certificate.scope != "bounded" for point in points):
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
