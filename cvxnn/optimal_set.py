r"""The whole optimal set of a training problem: every network that is as good as a trained one.

With a strictly convex loss the optimal prediction f* and its dual variable Z are unique, and so is, in
every cell and for either sign, the direction of a neuron that may be used at all: the unit neuron whose
price is beta. Only the magnitudes of these neurons are free,

    { a >= 0 :  sum_j a_j z_j + c 1 = f* },        z_j = signed output of the j-th unit neuron,

a polytope; every point of it has the cost ``sum_j a_j = Z'f* / beta``. All optimal networks come from it
by giving a neuron of magnitude a the weights ``sqrt(a)`` on both layers, by permuting neurons, and by
splitting one into several of the same direction. Its vertices are the networks from which no neuron
can be left out: their outputs are linearly independent, so there are at most n of them.

The prices come from the trained network's own residual, so the set is as sharp as the network is
optimal; Newton's method (:mod:`cvxnn.face_newton`) first sharpens the network on its own cells. How far
the costs of the set's members can be apart is measured, and reported as `slack`.

References: Mishkin and Pilanci, "Optimal sets and solution paths of ReLU networks", ICML 2023; Wang,
Lacotte and Pilanci, ICLR 2022 (permutation and splitting).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .active_neurons import active_neurons, candidate_outputs, design_of
from .architectures import Architecture
from .architectures.gated import GatedReLU, GateOracle
from .certificate import Oracle, search_gap
from .feature_penalties import is_weight_decay
from .network import Affine, Network
from .notebook import html_table
from .oracles import NeuronOracle
from .polytope import LIMIT, Polytope
from .program import Problem
from .sharpen import sharpen
from .train import Ground
from .units import SAME, distinct, join, outputs_of, unit_neurons, with_magnitudes

__all__ = ["OptimalSet", "Uniqueness"]

#: Neurons are active if their price is at least ``beta (1 - ACTIVE)``, where Z is exact enough.
ACTIVE = 1e-6


@dataclass(frozen=True)
class Uniqueness:
    """Whether the optimal network is unique up to permuting and splitting neurons.

    Parameters
    ----------
    unique : bool
        Whether a single vector of magnitudes was found.
    proven : bool
        Whether that is a proof: of uniqueness, against all networks the scope names, by independence
        of all neurons that can be active within the duality gap.
    scope : {"global", "patterns", "search"}
        "global": all neurons were looked at; "patterns": those of the listed patterns or gates;
        "search": those that a search found.
    reason : str
    """

    unique: bool
    proven: bool
    scope: str
    reason: str

    def __bool__(self) -> bool:
        return self.unique


@dataclass(frozen=True, eq=False)
class OptimalSet:
    """All networks that are as good as a trained one, as a polytope of magnitudes.

    Made by :meth:`of`, or by the attribute ``optimal_set_`` of an estimator.

    Parameters
    ----------
    problem : Problem
    network : Network
        The trained network, sharpened.
    neurons : Network
        The unit neurons that members may use, each with magnitude 1; no constant.
    magnitudes : ndarray of shape (k,)
        Those of `network`.
    Z : ndarray of shape (n,)
        The dual variable of `network`.
    prices : ndarray of shape (k,)
        ``Z'z_j`` of each neuron.
    gap : float
        Of `network`, relative, to the dual value of `Z`; proven where `scope` is not "search".
    scope : {"global", "patterns", "search"}
        Which neurons were looked at; see :class:`Uniqueness`.
    """

    problem: Problem
    network: Network
    neurons: Network
    magnitudes: np.ndarray
    Z: np.ndarray
    prices: np.ndarray
    gap: float
    scope: str
    _oracle: Oracle
    _free: int = 0

    @classmethod
    def of(
        cls,
        problem: Problem,
        architecture: Architecture,
        network: Network,
        *,
        tol: float | None = None,
        random_state: int = 0,
        ground: Ground | None = None,
    ) -> OptimalSet:
        """Find the optimal set of a problem from an optimal network.

        Parameters
        ----------
        problem : Problem
        architecture : Architecture
            Two-layer networks with one output, ReLU or gated.
        network : Network
            Trained on `problem`; the sharper, the better.
        tol : float or None
            Neurons whose price is within this share of beta are active; None chooses 1e-6, or
            three times the deviation of the network's own neurons if that is more.
        random_state : int
            Of the training, which redraws the gates of gated networks.
        ground : Ground or None
            Patterns and oracle of the training, so as not to prepare them again.

        Raises
        ------
        ValueError
            If the network has several outputs, is not of the family, or pays another norm; or if the loss
            has kinks, where the residual is no longer the one dual variable of the set.
        """
        check_known(problem, architecture, network)
        if ground is None:
            ground = Ground.prepare(problem, architecture, np.random.default_rng(random_state))
        oracle = ground.oracle.at(problem.beta)
        problem = oracle.problem
        network, free = _sharpened(problem, architecture, oracle, network)
        Z = problem.residual(network(problem.X))
        own, magnitudes = unit_neurons(network, free)
        prices = outputs_of(own, problem.X).T @ Z
        deviation = float(np.max(np.abs(prices / problem.beta - 1.0), initial=0.0))
        floor = problem.beta * (1.0 - (max(ACTIVE, 3.0 * deviation) if tol is None else tol))
        found = active_neurons(architecture, ground.arrangement, oracle, Z, floor, network)
        neurons = join(own, distinct(own, found, problem.X, free))
        extra = neurons.width - own.width
        prices = outputs_of(neurons, problem.X).T @ Z
        value = architecture.objective(problem, network)
        listed = not isinstance(oracle, NeuronOracle) or oracle.scope != "bounded"
        price = oracle.price(Z).value if listed else max(oracle.found(Z, network), problem.beta)
        scope = (oracle.scope if isinstance(oracle, NeuronOracle) else "patterns") if listed else "search"
        return cls(
            problem,
            network,
            neurons,
            np.append(magnitudes, np.zeros(extra)),
            Z,
            prices,
            search_gap(problem, value, Z, price),
            scope,
            oracle,
            free,
        )

    @cached_property
    def fits(self) -> np.ndarray:
        """The signed outputs of the unit neurons on the training data, shape (n, k)."""
        return outputs_of(self.neurons, self.problem.X)

    @cached_property
    def polytope(self) -> Polytope:
        """The magnitudes; with an intercept only what it cannot absorb has to be reproduced."""
        columns = self.fits
        if self.problem.intercept:
            columns = columns - np.mean(columns, axis=0)
        return Polytope(columns, self.magnitudes)

    @property
    def dimension(self) -> int:
        """Of the polytope: 0 if the network is unique up to permutation and splitting."""
        return self.polytope.dimension

    @property
    def slack(self) -> float:
        """How far the costs of two members can be apart, relative; 0 at an exact optimum."""
        used = self.polytope.support
        return float(np.max(np.abs(self.prices[used] / self.problem.beta - 1.0), initial=0.0))

    def member(self, magnitudes: np.ndarray) -> Network:
        """Return the network with given magnitudes of the unit neurons.

        Parameters
        ----------
        magnitudes : array-like of shape (k,)

        Returns
        -------
        Network
        """
        a = np.asarray(magnitudes, dtype=np.float64)
        f = self.network(self.problem.X)
        c = float(np.mean(f - self.fits @ a)) if self.problem.intercept else 0.0
        return with_magnitudes(self.neurons, a, c)

    def prune(self, *, magnitudes: np.ndarray | None = None) -> Network:
        """Return a network from which no neuron can be left out: at most n neurons, same predictions.

        Parameters
        ----------
        magnitudes : ndarray of shape (k,) or None
            The member to start from; by default the trained network.

        Returns
        -------
        Network
        """
        a = self.magnitudes if magnitudes is None else magnitudes
        return self.member(self.polytope.prune(a, np.ones(len(a))))

    def min_norm(self) -> Network:
        """Return the member whose magnitudes have the least Euclidean norm: the most evenly spread one.

        Returns
        -------
        Network
        """
        return self.member(self.polytope.least_norm())

    def vertices(self, limit: int = LIMIT) -> list[Network]:
        """Return all networks from which no neuron can be left out, up to permutation; smallest first.

        Parameters
        ----------
        limit : int
            Trials that listing them may take.

        Returns
        -------
        list of Network

        Raises
        ------
        TooManyVertices
            If listing them would take more than `limit` trials.
        """
        points = self.polytope.vertices(limit)
        order = np.argsort(np.sum(points > 0, axis=1), kind="stable")
        return [self.member(points[i]) for i in order]

    def smallest(self, limit: int = LIMIT) -> Network:
        """Return the member with the fewest neurons, exactly: the smallest one is a vertex.

        Parameters
        ----------
        limit : int
            As of :meth:`vertices`.

        Returns
        -------
        Network

        Raises
        ------
        TooManyVertices
            If the vertices are too many to list; :meth:`prune` finds a small network all the same.
        """
        return self.vertices(limit)[0]

    def sample(self, count: int = 1, random_state: int = 0) -> list[Network]:
        """Return members drawn by a random walk through the polytope.

        Parameters
        ----------
        count : int, default=1
        random_state : int, default=0

        Returns
        -------
        list of Network
        """
        rng = np.random.default_rng(random_state)
        return [self.member(a) for a in self.polytope.sample(count, rng)]

    def spread(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest output of any member at new samples, by linear programs.

        Parameters
        ----------
        X : array-like of shape (m, d)

        Returns
        -------
        low : ndarray of shape (m,)
        high : ndarray of shape (m,)
        """
        at = outputs_of(self.neurons, np.asarray(X, dtype=np.float64))
        if self.problem.intercept:
            at = at - np.mean(self.fits, axis=0)
        f = float(np.mean(self.network(self.problem.X))) if self.problem.intercept else 0.0
        low = [f + row @ self.polytope.extreme(row) for row in at]
        high = [f + row @ self.polytope.extreme(-row) for row in at]
        return np.array(low), np.array(high)

    def is_unique(self) -> Uniqueness:
        """Say whether there is only one optimal network, and whether that is a proof.

        Two members are found: then there are two networks as good as the trained one. One member only:
        that proves uniqueness if all neurons were looked at, within the radius around Z in which the
        optimal dual variable lies (``sqrt(2 smoothness gap)``), and if their outputs are independent
        by more than that radius can change them.

        Returns
        -------
        Uniqueness
        """
        if self.dimension > 0:
            count = int(np.sum(self.polytope.support))
            reason = f"{count} neurons share the optimum in a polytope of dimension {self.dimension}"
            return Uniqueness(False, False, self.scope, reason)
        if self._free and self._slides():
            reason = "two neurons of one cell differ in their free biases only: one between replaces both"
            return Uniqueness(False, False, self.scope, reason)
        proven, reason = self._independent()
        return Uniqueness(True, proven, self.scope, reason)

    def _slides(self) -> bool:
        """Whether two used neurons have equal weights and no sample strictly between their kinks."""
        first = self.neurons.layers[0]
        assert isinstance(first, Affine)
        used = np.flatnonzero(self.polytope.interior > 0)
        T = self.problem.X @ first.weight[:, used] + first.bias[used]
        signs = self.neurons.layers[-1].weight[used, 0]  # type: ignore[union-attr]
        scale = SAME * (1.0 + np.max(np.abs(T), initial=0.0))
        for i in range(len(used)):
            for j in range(i):
                same = np.max(np.abs(first.weight[:, used[i]] - first.weight[:, used[j]])) <= SAME
                across = (T[:, i] > scale) & (T[:, j] < -scale) | (T[:, i] < -scale) & (T[:, j] > scale)
                if same and signs[i] == signs[j] and not np.any(across):
                    return True
        return False

    def _independent(self) -> tuple[bool, str]:
        """Whether all neurons that may be active are independent beyond what the gap can change."""
        problem = self.problem
        off = float(np.max(np.abs(self.prices[self.magnitudes > 0] / problem.beta - 1.0), initial=0.0))
        if off > ACTIVE:
            return False, f"the network is not optimal, its prices are {off:.0e} off: fit with a lower tol"
        if self.scope == "search":
            return False, "one vector of magnitudes over the neurons found; a search cannot list them all"
        if self._free:
            return False, "one vector of magnitudes; free biases leave no bound of the directions' error"
        h = problem.loss.hessian(self.network(problem.X), problem.y, problem.weights)
        if not np.isfinite(problem.loss.curvature) or np.any(h <= 0):
            return False, "one vector of magnitudes for this prediction; the loss is not strictly convex"
        smooth = problem.loss.curvature * float(np.max(problem.weights))
        value = problem.value(self.network(problem.X), float(np.sum(self.magnitudes)))
        radius = np.sqrt(2.0 * smooth * max(self.gap, 1e-15) * abs(value))
        size = float(np.linalg.norm(design_of(self._oracle), 2))
        floor = problem.beta - 2.0 * size * radius
        candidates = candidate_outputs(self._oracle, self.Z, floor, self.network)
        columns = candidates - np.mean(candidates, axis=0) if problem.intercept else candidates
        if columns.shape[1] == 0:
            return True, "no neuron can be active: the constant alone is optimal"
        s = np.linalg.svd(columns, compute_uv=False)
        least = s[-1] if columns.shape[0] >= columns.shape[1] else 0.0
        change = 2.0 * size**2 * radius / problem.beta * np.sqrt(columns.shape[1])
        if floor > 0 and least > change:
            return True, f"the {columns.shape[1]} neurons that can be active are independent"
        return False, "one vector of magnitudes, but the gap leaves room for further neurons: lower tol"

    def __repr__(self) -> str:
        return (
            f"<OptimalSet: dimension {self.dimension}, {self.neurons.width} active neurons, "
            f"scope {self.scope}, gap {self.gap:.1e}, slack {self.slack:.1e}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("dimension", self.dimension),
            ("neurons that can be active", self.neurons.width),
            ("neurons of the trained network", self.network.width),
            ("scope", self.scope),
            ("gap", f"{self.gap:.1e}"),
            ("slack", f"{self.slack:.1e}"),
        ]
        return html_table(rows, "All networks that are as good as the trained one")


def check_known(problem: Problem, architecture: Architecture, network: Network) -> None:
    """Raise ValueError for problems and networks whose optimal set is not known."""
    last = network.layers[-1]
    if not isinstance(last, Affine) or last.weight.shape[1] != 1:
        raise ValueError("the optimal set is known for networks with one output: train one per output")
    if not architecture.rotates:
        raise ValueError(f"no optimal set of {architecture.name!r} networks: pass a ReLU or gated one")
    if not is_weight_decay(getattr(architecture, "penalty", "l2")):
        raise ValueError("the optimal set is known for weight decay: train with penalty='l2'")
    if getattr(architecture, "skip", False) and not isinstance(architecture, GatedReLU):
        raise ValueError("the optimal set is known without a skip connection: pass skip=False")
    if not problem.loss.smooth:
        raise ValueError(
            f"the optimal set needs a loss without kinks, and {problem.loss.name!r} has some: its dual "
            "variable does not follow from the network; train with 'huber' or 'squared_hinge', say"
        )
    architecture.cost(network)  # refuses networks of another family


def _sharpened(
    problem: Problem, architecture: Architecture, oracle: Oracle, network: Network
) -> tuple[Network, int]:
    """The network as sharp as Newton's method makes it, and the number of its free coordinates."""
    if isinstance(oracle, NeuronOracle) and not oracle.slope:
        return sharpen(problem, architecture, oracle, network), oracle.free
    if isinstance(oracle, GateOracle) and isinstance(architecture, GatedReLU):
        return network, 0
    raise ValueError(f"no optimal set of {architecture.name!r} networks: pass a ReLU or gated one")
