r"""The judge's oracle with the lifted bound besides its own.

``bound="sdp"`` asks for it, and several outputs of few samples have it always: where an oracle has to
bound prices over all patterns, the semidefinite relaxations of :mod:`cvxnn.bounds_lifted` prove far more
than the matrix bounds of :mod:`cvxnn.bounds` and :mod:`cvxnn.vector_bounds`. The better one is the
proof. Where an oracle is exact there is nothing to win, and it stays as it is. Linear neurons beside the
others have lifts of their own.

Of several outputs whose patterns can be listed the relaxation is that over cells, which is nearly exact;
for one output per neuron it is the tight one as long as that is small; otherwise it is that of Prakhya et
al. Convolutions have the lifts of their rows, which are those of all patches: some dozens of these are
practical (:mod:`cvxnn.bounds_lift_rows`, with max pooling :mod:`cvxnn.bounds_lift_chains`). Circular ones
and other norms of hidden weights have those of :mod:`cvxnn.bounds_lift_norms`.

References: Prakhya, Birdal and Yurtsever, ICLR 2025; Sahiner, Ergen, Pauly and Pilanci, ICLR 2021.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

import numpy as np

from .arrangement import Arrangement, TooManyPatterns, count_bound
from .bounds_lift_cells import cell_lifts, line_lifts
from .bounds_lift_chains import chain_lifts
from .bounds_lift_norms import norm_lifts
from .bounds_lift_rows import count_unknowns, lifts
from .bounds_lifted import LiftedDual, lifted_dual, lifted_price
from .bounds_lifts import MOST_CELL_UNKNOWNS, MOST_SAMPLES, MOST_UNKNOWNS, Lifts, TooLarge
from .certificate import Oracle, Price, Proof
from .max_oracles import MaxSearchOracle
from .network import Network
from .norm_oracles import NormSearchOracle
from .oracles import NeuronOracle, SearchOracle
from .pooled_oracles import PooledOracle, PooledVectorOracle
from .skip_oracles import SkipPricing, SkipSearchOracle
from .vector_growth import Coupling
from .vector_norms import VectorNormOracle
from .vector_oracles import VectorOracle, VectorSearch
from .vector_skip_oracles import VectorSkipOracle, VectorSkipSearch

#: Values of `bound`.
BOUNDS = ("auto", "sdp")
#: Unknowns up to which the tight relaxation is taken.
TIGHT_UNKNOWNS = 12_000
#: With several outputs, whose matrix bound is loose, what is a matter of seconds is done unasked: up to so
#: many unknowns over cells and otherwise, which only so few samples have.
AUTO_CELL_UNKNOWNS, AUTO_UNKNOWNS, AUTO_SAMPLES = 8_000, 2_500, 60
#: Cells listed at most.
MOST_CELLS = 2500
#: Share of the time of a proof that goes to the oracle's own bound.
OWN = 0.3


def check_bound(bound: Any) -> None:
    """Raise ValueError unless `bound` is one of the two choices."""
    if not (isinstance(bound, str) and bound in BOUNDS):
        raise ValueError(f"bound={bound!r} is unknown: pass 'auto' (the default) or 'sdp'")


def choose(
    oracle: NeuronOracle | VectorOracle,
    *,
    cells: int = MOST_CELL_UNKNOWNS,
    most: int = MOST_UNKNOWNS,
) -> Lifts:
    """Return the lifts that an oracle's neurons are bounded by.

    Parameters
    ----------
    oracle : NeuronOracle or VectorOracle
        One that :func:`has_lifts`.
    cells, most : int
        Unknowns that are acceptable over cells, and otherwise.

    Raises
    ------
    TooLarge
        If there are too many samples, or patches.
    """
    y = oracle.problem.y
    outputs = 1 if y.ndim == 1 else y.shape[1]
    if isinstance(oracle, MaxSearchOracle):
        return _chains(oracle, outputs, most)
    rows, windows = _rows(oracle), getattr(oracle, "windows", 1)
    if isinstance(rows, NormSearchOracle | VectorNormOracle):
        return norm_lifts(rows.X, outputs, rows.design.norm, most=most)
    separate = isinstance(rows, VectorSearch) and rows.coupling is Coupling.separate
    bent = _of_rows(rows, outputs, windows, separate, cells, most)
    if not isinstance(rows, SkipPricing | VectorSkipOracle):
        return bent
    lines = line_lifts(rows.X, outputs, separate or outputs == 1)
    return replace(bent, parts=(*bent.parts, *lines))


def has_lifts(oracle: Oracle) -> bool:
    """Whether the neurons of an oracle have lifts: those of plain, convolutional and circular networks."""
    rows = _rows(oracle)
    # a subclass may price other norms, or other data
    known = type(rows) in (SearchOracle, SkipSearchOracle, VectorSearch, VectorSkipSearch, NormSearchOracle)
    return known or isinstance(oracle, MaxSearchOracle | VectorNormOracle)


def _rows(oracle: Any) -> Any:
    """The oracle of the rows that a neuron's outputs are added up over; an oracle itself, without any."""
    return oracle.rows if isinstance(oracle, PooledOracle | PooledVectorOracle) else oracle


def _chains(oracle: MaxSearchOracle, outputs: int, most: int) -> Lifts:
    """The lifts of max pooling, one output's tight ones where they are small."""
    X, pool = oracle.X, oracle.design.pool
    with suppress(TooLarge):
        return chain_lifts(X, pool, outputs, most=min(most, TIGHT_UNKNOWNS) if outputs == 1 else most)
    return chain_lifts(X, pool, outputs, tight=False, most=most)


def _of_rows(
    oracle: SearchOracle | VectorSearch, outputs: int, windows: int, separate: bool, cells: int, most: int
) -> Lifts:
    """The lifts of neurons with a kink: over cells where these are listed, else tight ones where small."""
    X, slope, pool = oracle.X, oracle.slope, oracle.design.pool
    several = outputs * windows > 1
    shape: dict[str, Any] = {"free": oracle.free, "slope": slope, "pool": pool, "windows": windows}
    drawn = _listed(X) if several and not separate else None
    if drawn is not None:
        with suppress(TooLarge):
            return cell_lifts(X, drawn.masks(), outputs, resolution=drawn.resolution, most=cells, **shape)
    tight = several or len(X) > MOST_SAMPLES or count_unknowns(X, 1) <= TIGHT_UNKNOWNS
    return lifts(X, outputs, tight=tight, separate=separate, most=most, **shape)


def _listed(X: np.ndarray) -> Arrangement | None:
    """All patterns of the samples, None if they are too many or rounding leaves them in doubt."""
    if count_bound(len(X), min(X.shape[1], 20)) > MOST_CELLS:
        return None
    try:
        drawn = Arrangement.enumerate(X, limit=MOST_CELLS)
    except TooManyPatterns:
        return None
    return drawn if drawn.complete else None


class LiftedOracle(Oracle):
    """An oracle over all patterns that also proves by lifting.

    Parameters
    ----------
    oracle : NeuronOracle or VectorOracle
        Finds neurons, and has a bound of its own; one that :func:`has_lifts`.
    lifted : Lifts or None
        Of its neurons; None chooses.

    Raises
    ------
    TooLarge
        If there are too many samples.
    """

    def __init__(self, oracle: NeuronOracle | VectorOracle, lifted: Lifts | None = None) -> None:
        super().__init__(oracle.problem)
        self.oracle, self.lifted = oracle, choose(oracle) if lifted is None else lifted
        self._dual: LiftedDual | None = None

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.oracle, other._dual = self.oracle.at(beta), None
        return other

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.oracle.found(Z, network)

    def price(self, Z: np.ndarray) -> Price:
        own = self.oracle.price(Z)
        value = min(own.value, lifted_price(self.lifted, Z))
        return Price(value, "bounded", min(own.found, value))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        """The better of the oracle's own proof and that of the lifted program, solved once.

        The matrix bound of several outputs is not tightened where the lifted one is above it already: it
        stays far below then, and takes as long.
        """
        begin, several = time.perf_counter(), Z.ndim > 1
        own = self.oracle.prove(Z, max_iter=0 if several else max_iter, max_time=OWN * max_time)
        if max_iter <= 0:
            return own
        if self._dual is None:
            self._dual = self._solved(max_time - (time.perf_counter() - begin))
        lifted = Proof(self._dual.Z, self._dual.bound, "bounded")
        if several and lifted.bound <= own.bound:
            left = max(0.0, max_time - (time.perf_counter() - begin))
            own = self.oracle.prove(Z, max_iter=max_iter, max_time=left)
        return lifted if lifted.bound > own.bound else own

    def _solved(self, max_time: float) -> LiftedDual:
        """The dual point of the lifted program."""
        problem = self.problem
        return lifted_dual(
            self.lifted,
            problem.y,
            problem.weights,
            problem.loss,
            problem.beta,
            intercept=problem.intercept or bool(self.oracle.free),
            max_time=max_time,
        )


def with_bound(oracle: Oracle, bound: str) -> Oracle:
    """Return the oracle that proves with a chosen bound.

    Parameters
    ----------
    oracle : Oracle
    bound : {"auto", "sdp"}
        "auto" lifts where there are several outputs and few samples, and leaves other oracles as they are.

    Raises
    ------
    ValueError
        If the family or its patterns have no lifted bound, or there are too many samples.
    """
    check_bound(bound)
    scope = getattr(oracle, "scope", None)
    if scope == "global":
        return oracle
    if bound == "auto":
        return _unasked(oracle)
    if has_lifts(oracle):
        assert isinstance(oracle, NeuronOracle | VectorOracle)
        return LiftedOracle(oracle)
    if scope == "patterns":
        raise ValueError("bound='sdp' is over all patterns: pass patterns='auto', or bound='auto'")
    raise ValueError(
        "bound='sdp' is for two-layer networks of ReLUs or other single kinks, convolutional ones among "
        "them: pass bound='auto'"
    )


def _unasked(oracle: Oracle) -> Oracle:
    """An oracle of several outputs with the lifted bound, if that is a matter of seconds."""
    if type(oracle) not in (VectorSearch, VectorSkipSearch):
        return oracle
    assert isinstance(oracle, VectorSearch)
    if len(oracle.X) > AUTO_SAMPLES:
        return oracle
    problem = oracle.problem
    if problem.loss.conic(problem.y, problem.weights) is None:
        return oracle
    try:
        return LiftedOracle(oracle, choose(oracle, cells=AUTO_CELL_UNKNOWNS, most=AUTO_UNKNOWNS))
    except TooLarge:
        return oracle
