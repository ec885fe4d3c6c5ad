r"""Oracles for neurons with several outputs: exact over listed faces, or search and bound.

Both answer for ``M(Z) = max |Z'phi(Xu)|`` with ``phi(t) = max(t, s t)``, the ReLU at s = 0. Within a cell
of the arrangement the price is the largest ``|A u|`` over unit vectors of a cone, ``A = Z'(D + s (I -
D))X``, which is not convex. But on a sphere a quadratic form has no local maximum that is not global: if a
maximiser over the cone lies inside of it, it is a top eigenvector of ``A'A``; if it lies inside a face, of
``A'A`` restricted to the span of that face. All faces of all cells are cells of the arrangements that the
samples draw on their own flats, the intersections of some of their hyperplanes. So

    M(Z) = max over flats S and cells of the arrangement on S of  max { |A u| : u top eigenvector on S, in
    the cell },

and :class:`FaceOracle` lists them once and then costs a small eigenvalue problem for each.
:class:`VectorSearch` is for everything larger: neurons by local search, proofs by
:mod:`cvxnn.vector_bounds`.

Reference: Sahiner, Ergen, Pauly and Pilanci, ICLR 2021, section 3 and appendix (the cone-constrained
principal component and its recursion over facets).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from .arrangement import Arrangement, TooManyPatterns, count_bound
from .bounds import oracle_bound
from .certificate import Oracle, Price, Proof, Scope, scale
from .design import Design
from .losses import VectorLoss
from .network import Affine, Conv, Network
from .oracles import ROUNDING, SEED
from .pricing import shares
from .program import Problem
from .vector_bounds import improve, oracle_bounds
from .vector_growth import Coupling
from .vector_pricing import VectorNeurons, large, search_joint, search_sampled, search_separate

#: Faces and flats listed at most.
FACES, FLATS = 20_000, 700
#: Multiplications that steps of a bound may take; of a hundred steps that move the dual point, five times.
PRODUCTS = 4e11
#: Numbers of all outputs above which separate ones have fewer steps.
SEPARATE = 200_000


class VectorOracle(Oracle):
    """An oracle for neurons with several outputs on one design matrix that also proposes neurons."""

    scope: Scope

    def __init__(self, problem: Problem, design: Design, coupling: Coupling) -> None:
        super().__init__(problem)
        self.design, self.X, self.free, self.coupling = design, design.X, design.free, coupling
        self.slope = design.slope
        self._last: tuple[tuple[bytes, bytes], VectorNeurons] | None = None

    @property
    def large(self) -> bool:
        """Whether the data are so many that training and searches begin on few of them."""
        return self.coupling is Coupling.joint and self.slope == 0.0 and large(self.X, self.free)

    def neurons_of(self, network: Network) -> np.ndarray:
        """Return the hidden weights of a network in the coordinates of the design, (m, r)."""
        first = network.layers[0]
        assert isinstance(first, Affine | Conv)
        full = np.column_stack([first.weight.T, first.bias])
        U = self.design.coordinates(full)
        return U[self.design.norms(U) > 0]

    def neurons(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        effort: int,
        *,
        exact: bool = True,
    ) -> VectorNeurons:
        """Find neurons with a high price for ``Z``; `effort` 0, 1, 2 ... searches harder.

        Without `exact` many different ones come quickly, and need not be locally best. On large data the
        search begins on a sample, and is never exact.
        """
        if self.large:
            n_random = 64 * 2**effort
            return search_sampled(self.X, Z, starts=starts, n_random=n_random, random_state=random_state)
        search = search_joint if self.coupling is Coupling.joint else search_separate
        polish = int(np.clip(2e6 / self.X.size, 4, 32)) * (1 + effort)
        found = search(
            self.X,
            Z,
            starts=starts,
            n_random=int(np.clip(2e6 / self.X.size, 32, 256)) * 4**effort,
            n_polish=polish if exact else 100,
            free=self.free,
            slope=self.slope,
            exact=exact,
            random_state=random_state,
        )
        for _ in range(2 * effort if exact else 0):
            # Hop: the best local maxima of a rugged function have good ones around them.
            around = found.directions[:16]
            noise = random_state.standard_normal((8, *around.shape)) / np.sqrt(around.shape[1])
            size = np.linalg.norm(around, axis=1)[None, :, None]
            hops = (around[None] + 0.5 * size * noise).reshape(-1, around.shape[1])
            more = search(
                self.X,
                Z,
                starts=None,
                extra=hops,
                n_random=32,
                n_polish=polish // 2,
                free=self.free,
                slope=self.slope,
                random_state=random_state,
            )
            found = found.join(more)
        return found

    def thorough(self, Z: np.ndarray, network: Network) -> VectorNeurons:
        """The judge's search, always the same for the same dual variable and network; the last is kept."""
        starts = self.neurons_of(network)
        key = (Z.tobytes(), starts.tobytes())
        if self._last is None or self._last[0] != key:
            self._last = (key, self.neurons(Z, starts, np.random.default_rng(SEED), 1))
        return self._last[1]

    @abstractmethod
    def price(self, Z: np.ndarray) -> Price:
        """Bound ``M(Z)`` for ``Z`` of shape (n, outputs)."""


class VectorSearch(VectorOracle):
    """Local search for neurons, and a bound over all patterns for proofs (scope ``bounded``)."""

    scope = "bounded"

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.thorough(Z, network).best

    def bound(self, Z: np.ndarray, max_time: float = float("inf")) -> float:
        """Bound ``M(Z)`` over all patterns."""
        if self.coupling is Coupling.separate:
            steps = 20 if self.X.size * Z.shape[1] < SEPARATE else 8  # seconds for every output
            return max(
                oracle_bound(self.X, column, free=self.free, slope=self.slope, max_iter=steps)
                for column in Z.T
            )
        steps = min(60, int(PRODUCTS / self._work(Z)))
        return oracle_bounds(self.X, Z, free=self.free, slope=self.slope, max_iter=steps, max_time=max_time)

    def _work(self, Z: np.ndarray) -> float:
        """Multiplications of a step of a bound, which forms the Gram matrix of [Z, X]."""
        return 2.0 * len(self.X) * (self.X.shape[1] + Z.shape[1]) ** 2

    def seen(self, Z: np.ndarray) -> float:
        return self.neurons(Z, self.X[:0], np.random.default_rng(SEED), 0).best

    def price(self, Z: np.ndarray) -> Price:
        value = self.bound(Z)
        return Price(value, "bounded", min(self.seen(Z), value))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        problem, loss = self.problem, self.problem.loss
        end = time.perf_counter() + max_time
        scaled, value = scale(problem, Z, self.bound(Z, 0.5 * max_time) * (1.0 + ROUNDING))
        proof = Proof(scaled, value, "bounded")
        # every round takes ten steps, and not all of them fit on large data
        max_iter = min(max_iter, int(PRODUCTS / (2.0 * self._work(Z))))
        if self.free or self.coupling is Coupling.separate or not isinstance(loss, VectorLoss):
            return proof
        moved, better = improve(
            self.X,
            problem.y,
            problem.weights,
            loss,
            problem.beta,
            np.zeros_like(problem.y),
            intercept=problem.intercept,
            slope=self.slope,
            max_iter=max_iter,
            max_time=end - time.perf_counter(),
        )
        return Proof(moved, better, "bounded") if better > value else proof


@dataclass(frozen=True, eq=False)
class Flat:
    """The cells that the samples draw on one of their flats.

    Parameters
    ----------
    basis : ndarray of shape (r, k)
        Orthonormal columns that span the flat.
    masks : bool ndarray of shape (cells, n)
    gates : ndarray of shape (cells, k)
        A vector of every cell, in the coordinates of the flat.
    """

    basis: np.ndarray
    masks: np.ndarray
    gates: np.ndarray


class TooManyFaces(ValueError):
    """There are more faces than are worth listing."""


def list_flats(X: np.ndarray, deadline: float = float("inf")) -> tuple[list[Flat], float]:
    """List the flats that the rows of a matrix draw, the whole space first, with all their cells.

    Parameters
    ----------
    X : ndarray of shape (n, r)
    deadline : float
        Of :func:`time.perf_counter`.

    Returns
    -------
    flats : list of Flat
    resolution : float
        What merging nearly parallel rows may have hidden, see :class:`Arrangement`.

    Raises
    ------
    TooManyFaces
        If there are too many, listing them takes too long, or rounding leaves in doubt which there are.
    """
    r = X.shape[1]
    norms = np.linalg.norm(X, axis=1)
    rows = np.flatnonzero(norms > 0)
    orders = range(min(r, len(rows) + 1))
    flats = faces = 0
    for k in orders:
        here = comb(len(rows), k)
        flats += here
        # more than 20 dimensions, or samples, are too many anyway; counting theirs takes seconds
        faces += here * count_bound(len(rows) - k, min(r - k, 20)) if flats <= FLATS else 0
        if flats > FLATS or faces > FACES:
            raise TooManyFaces("too many faces to list")
    found, resolution = [], 0.0
    for k in orders:
        for chosen in combinations(rows, k):
            if time.perf_counter() > deadline:
                raise TooManyFaces("listing the faces takes too long")
            basis = np.eye(r)
            if k:
                _, size, Vt = np.linalg.svd(X[list(chosen)] / norms[list(chosen), None])
                if size[-1] < 1e-8:
                    continue  # parallel rows: the flat comes with fewer of them
                basis = Vt[k:].T
            inner = X @ basis
            # samples that vanish on the flat draw nothing on it
            inner[np.linalg.norm(inner, axis=1) <= 1e-10 * norms] = 0.0
            try:
                drawn = Arrangement.enumerate(inner, limit=FACES)
            except TooManyPatterns as error:
                raise TooManyFaces(str(error)) from error
            if not drawn.complete:
                raise TooManyFaces("rounding leaves the arrangement in doubt")
            resolution = max(resolution, drawn.resolution)
            found.append(Flat(basis, drawn.masks(), drawn.gates))
    return found, resolution


class ListedOracle(VectorOracle):
    """What oracles that list all faces share: the best neurons of a dual variable are found once."""

    scope = "global"
    _priced: tuple[np.ndarray, VectorNeurons] | None = None

    def neurons(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        effort: int,
        *,
        exact: bool = True,
    ) -> VectorNeurons:
        if self._priced is None or not np.array_equal(self._priced[0], Z):
            self._priced = (Z.copy(), self._best(Z))
        return self._priced[1]

    @abstractmethod
    def _best(self, Z: np.ndarray) -> VectorNeurons:
        """The best neuron of every face."""


class FaceOracle(ListedOracle):
    """Exact pricing over all faces of all cells (scope ``global``); for a few dimensions.

    Parameters
    ----------
    problem, design, coupling
    max_time : float
        Seconds to list the faces in; with a finite number results may depend on the machine.

    Raises
    ------
    TooManyFaces
        If there are too many, listing them takes too long, or rounding leaves in doubt which there are.
    """

    def __init__(
        self, problem: Problem, design: Design, coupling: Coupling, max_time: float = float("inf")
    ) -> None:
        super().__init__(problem, design, coupling)
        if design.free:
            raise TooManyFaces("a free hidden bias has no list of faces")
        self.flats, self.resolution = list_flats(self.X, time.perf_counter() + max_time)

    def _best(self, Z: np.ndarray) -> VectorNeurons:
        """The top eigenvector of every face that lies in it."""
        if self.coupling is Coupling.joint:
            return VectorNeurons.of(self.X, Z, self._directions(Z), self.slope)
        found = VectorNeurons.none(self.X.shape[1], Z.shape[1])
        for k, column in enumerate(Z.T):
            U = self._directions(column[:, None])
            one = VectorNeurons.of(self.X, column[:, None], U, self.slope)
            outputs = np.zeros((len(one.values), Z.shape[1]))
            outputs[:, k] = one.outputs[:, 0]
            found = found.join(VectorNeurons(one.values, one.directions, outputs))
        return found

    def _directions(self, Z: np.ndarray) -> np.ndarray:
        parts = []
        norms = np.linalg.norm(self.X, axis=1)
        for flat in self.flats:
            inner = self.X @ flat.basis
            passed = shares(flat.masks, self.slope)
            A = np.einsum("cn,no,nk->cok", passed, Z, inner, optimize=True)
            top = np.linalg.eigh(np.einsum("cok,col->ckl", A, A))[1][:, :, -1]
            T = top @ inner.T
            sign = np.where(flat.masks, 1.0, -1.0)
            # a little outside is inside: that can only raise the price
            for side in (1.0, -1.0):
                inside = np.all(side * sign * T >= -1e-9 * norms, axis=1)
                parts.append(side * top[inside] @ flat.basis.T)
        U = np.concatenate(parts)
        return U / np.linalg.norm(U, axis=1, keepdims=True)

    def price(self, Z: np.ndarray) -> Price:
        best = self.neurons(Z, self.X[:0], np.random.default_rng(SEED), 0).best
        size = float(np.linalg.norm(Z, axis=1) @ np.linalg.norm(self.X, axis=1))
        return Price(best * (1.0 + ROUNDING) + (self.resolution + 1e-14) * size, "global", best)
