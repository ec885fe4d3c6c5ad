r"""The judge: how far can any network of the family be below this one?

For a network with predictions f and cost R, and *any* dual variable Z, weak duality says

    -L*(-t Z)  <=  P*  <=  L(f) + beta R,     0 <= t <= beta / M(Z),

where ``M(Z)`` is the largest correlation of Z with the output of a neuron of unit cost, and P* the
optimum over networks of every width. The judge recomputes all of it in NumPy float64 from three
functions of the architecture (predict, cost, oracle). It uses nothing a solver says, so it judges
networks trained by anything.

What a certificate claims is as strong as the oracle that bounded M, its *scope*:

- ``global``: the oracle was exact; the bound holds for every network of the family, of any width;
- ``bounded``: likewise for every network, through an upper bound of M that may be loose;
- ``patterns``: only for networks with the listed activation patterns or gates.

The `search_gap` replaces M by the best neuron that a search found. It says how good the network looks
to a strong opponent, and is never called a proof.

References: Pilanci and Ergen, ICML 2020, section 3 (the dual); Sahiner et al., "Unraveling attention
via convex duality" and the Burer-Monteiro paper, ICML 2022-23, theorem 3.4 (stationary points).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, Self

import numpy as np

from .network import Network
from .notebook import html_table
from .program import Problem

Scope = Literal["global", "bounded", "patterns"]


@dataclass(frozen=True)
class Price:
    """What an oracle answers for a dual variable.

    Parameters
    ----------
    value : float
        At least ``M(Z)`` over everything the scope names; under ``patterns``, over the list only.
    scope : {"global", "bounded", "patterns"}
    found : float
        The price of the best neuron found: at most ``M(Z)``.
    """

    value: float
    scope: Scope
    found: float


@dataclass(frozen=True, eq=False)
class Proof:
    """A lower bound with the dual variable that proves it.

    Parameters
    ----------
    Z : ndarray of shape (n,)
        Feasible dual variable.
    bound : float
        ``-L*(-Z)``, at the scale of sums.
    scope : {"global", "bounded", "patterns"}
    """

    Z: np.ndarray
    bound: float
    scope: Scope


class Oracle(ABC):
    """Bounds the price of a dual variable for one problem; made by an architecture."""

    #: Layers in front of the neurons that are priced, which all networks compared with share.
    frozen: int = 0

    #: Neurons that a branch of the networks compared with has at most; 0 where any number is meant.
    branch: int = 0

    #: The operator of the program that it prices the groups of, where there is one.
    operator: Any = None

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def at(self, beta: float) -> Self:
        """Return the oracle of the same problem at another `beta`; prices do not depend on it."""
        other = copy.copy(self)
        other.problem = replace(self.problem, beta=beta)
        return other

    @abstractmethod
    def price(self, Z: np.ndarray) -> Price:
        """Bound ``M(Z)`` for ``Z`` of shape (n,)."""

    def seen(self, Z: np.ndarray) -> float:
        """Return ``price(Z).found``, without the bound where that is what takes long."""
        return self.price(Z).found

    def found(self, Z: np.ndarray, network: Network) -> float:
        """Return the price of the best neuron that a thorough search finds."""
        return self.price(Z).found

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        """Return the best lower bound that starts from ``Z``; the default only scales it."""
        price = self.price(Z)
        scaled, bound = scale(self.problem, Z, price.value)
        return Proof(scaled, bound, price.scope)


class Judged(Protocol):
    """The part of an architecture that the judge needs."""

    def cost(self, network: Network) -> float: ...


@dataclass(frozen=True)
class Certificate:
    """How good a network is, and how good any network could be.

    Parameters
    ----------
    objective : float
        Of this network, per sample: ``(1 / sum s) sum_i s_i loss_i + alpha * R``, with R taken after
        the best rescaling of every neuron, which changes no prediction.
    lower_bound : float
        Proven, per sample: no network in the scope is below it.
    gap : float
        ``(objective - lower_bound) / objective``.
    scope : {"global", "bounded", "patterns"}
        What the bound holds against; see :mod:`cvxnn.certificate`.
    search_gap : float
        The gap if the best neuron found by search were the best there is. Not a proof.
    width : int
        Number of neurons.
    alpha : float
        Strength of the penalty the objective was taken at.
    frozen : int
        Hidden layers that were taken as they are, in networks trained layer by layer. Where there are any
        the penalty is on the last two layers, and the bound holds against networks with the same frozen
        layers: it says how good the last stage is, and nothing about other deep networks.
    branch : int
        Neurons that branches of the networks in the scope have at most, where the penalty lets wider ones
        cost less; 0 where the bound holds for any number.
    """

    objective: float
    lower_bound: float
    gap: float
    scope: Scope
    search_gap: float
    width: int
    alpha: float
    frozen: int = 0
    branch: int = 0

    def sentence(self) -> str:
        """Say in words what the bound holds against.

        Returns
        -------
        str
        """
        against = {
            "global": "no network of any width",
            "bounded": "no network of any width",
            "patterns": "no network with the same activation patterns",
        }[self.scope]
        if self.frozen:
            layers = "frozen hidden layer" if self.frozen == 1 else f"{self.frozen} frozen hidden layers"
            against = against.replace("network", "last stage") + f" on the same {layers}"
        if self.branch:
            against += f" with branches of at most {count(self.branch, 'neuron')}"
        return f"{against} can be below"

    def __str__(self) -> str:
        neurons = "1 neuron" if self.width == 1 else f"{self.width} neurons"
        return (
            f"objective {self.objective:.8g}, {self.sentence()} {self.lower_bound:.8g} "
            f"(gap {percent(self.gap)}, scope {self.scope}); "
            f"search gap {self.search_gap:.1e}; {neurons}"
        )

    def _repr_html_(self) -> str:
        rows = {
            "objective": f"{self.objective:.8g}",
            f"lower bound ({self.scope})": f"{self.lower_bound:.8g}",
            "gap": percent(self.gap),
            "search gap (no proof)": f"{self.search_gap:.1e}",
            "neurons": str(self.width),
            "alpha": f"{self.alpha:g}",
        }
        caption = f"{self.sentence()} {self.lower_bound:.8g}".capitalize()
        return html_table(list(rows.items()), caption)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        Returns
        -------
        dict
        """
        return asdict(self)


def percent(gap: float) -> str:
    """Write a relative gap so that small ones do not read as zero."""
    return f"{100 * gap:.3g} %" if gap >= 1e-4 else f"{gap:.1e}"


def count(k: int, noun: str) -> str:
    """Write a number of things."""
    return f"{k:,} {noun}" + ("" if k == 1 else "s")


def scale(problem: Problem, Z: np.ndarray, price: float) -> tuple[np.ndarray, float]:
    """Return the multiple of ``Z`` of largest dual value among those a price allows, and the value.

    Parameters
    ----------
    price : float
        An upper bound of ``M(Z)``.
    """
    limit = problem.beta / price if price > 0 else float("inf")
    t = problem.loss.best_scale(Z, problem.y, problem.weights, limit)
    return t * Z, problem.loss.dual(t * Z, problem.y, problem.weights)


def search_gap(problem: Problem, objective: float, Z: np.ndarray, found: float) -> float:
    """Return the relative gap to the dual value of ``Z`` scaled by the best price *found*."""
    return relative_gap(objective, scale(problem, Z, found)[1])


def relative_gap(objective: float, bound: float) -> float:
    """Return ``(objective - bound) / |objective|``, at least 0, and 0 when both vanish."""
    difference = max(0.0, objective - bound)
    return difference / abs(objective) if difference > 0.0 else 0.0


def judge(
    network: Network,
    problem: Problem,
    architecture: Judged,
    oracle: Oracle,
    *,
    duals: tuple[np.ndarray, ...] = (),
    max_iter: int = 40,
    max_time: float = float("inf"),
) -> Certificate:
    """Certify a network; :func:`judge_and_prove` without the proof."""
    return judge_and_prove(
        network, problem, architecture, oracle, duals=duals, max_iter=max_iter, max_time=max_time
    )[0]


def judge_and_prove(
    network: Network,
    problem: Problem,
    architecture: Judged,
    oracle: Oracle,
    *,
    duals: tuple[np.ndarray, ...] = (),
    max_iter: int = 40,
    max_time: float = float("inf"),
) -> tuple[Certificate, Proof]:
    """Certify a network, and return the dual point that proves the lower bound.

    Parameters
    ----------
    network : Network
    problem : Problem
    architecture : object with ``cost(network)``
    oracle : Oracle
    duals : tuple of ndarrays of shape (n,)
        Dual variables to try besides the network's own residual (of a better network, say).
    max_iter : int
        Iteration budget of bounds that can be tightened (scope ``bounded``).
    max_time : float
        Cap in seconds on the same; with a finite cap results may depend on the machine.

    Returns
    -------
    certificate : Certificate
    proof : Proof
    """
    f = network(problem.X)
    objective = problem.value(f, architecture.cost(network))
    candidates = [*duals, problem.residual(f)]
    # Without a network the best constant remains: Z = 0 is always feasible.
    zero = np.zeros_like(problem.y)
    best = Proof(zero, problem.loss.dual(zero, problem.y, problem.weights), "global")
    nearest, scope = float("inf"), None
    for i, Z in enumerate(candidates):
        if i > 0 and scope == "bounded":
            break  # tightening and searching are expensive; a given dual is the better start
        proof = oracle.prove(Z, max_iter=max_iter, max_time=max_time)
        nearest = min(nearest, search_gap(problem, objective, Z, oracle.found(Z, network)))
        scope = proof.scope
        best = proof if proof.bound >= best.bound else best
    # A margin for the rounding of the sums above, on the safe side: their terms are as large as
    # the losses of the zero network.
    terms = problem.loss.value(zero, problem.y, problem.weights)
    bound = best.bound - 1e-13 * (abs(best.bound) + abs(objective)) - 1e-15 * abs(terms)
    # Z = 0 needs no margin: losses are at least their own minimum, here 0.
    bound = max(bound, problem.loss.dual(zero, problem.y, problem.weights))
    total = problem.total_weight
    if best.scope == "patterns" and bound > objective + 1e-9 * abs(objective):
        raise ValueError(
            f"the network's objective {objective / total:.8g} is below {bound / total:.8g}, the least "
            "with the listed patterns or gates: it has others; pass those it was trained with, or 'auto'"
        )
    gap = relative_gap(objective, bound)
    certificate = Certificate(
        objective=objective / total,
        lower_bound=bound / total + 0.0,  # no negative zero
        gap=gap,
        scope=scope or best.scope,
        search_gap=min(nearest, gap),
        width=network.width,
        alpha=problem.beta / total,
        frozen=oracle.frozen,
        branch=oracle.branch,
    )
    return certificate, best
