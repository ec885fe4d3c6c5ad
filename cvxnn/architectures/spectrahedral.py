r"""How networks with a quadratic activation are trained and judged, whatever they see of a sample.

Families differ in the windows of patches that their neurons look at and in the layers of their networks.
Common to them: a neuron is one of norm one, its amount is penalised, ``R = sum_j |alpha_j|``; the best
neuron for a dual variable is found exactly, so certificates have scope ``global``. Two ways of training
end at the same optimum:

- *columns*: descend on all neurons at once (:mod:`cvxnn.quadratic_descent`), price, insert the best
  neurons of every window, output and sign, descend again, until none is worth more than beta. With a loss
  that has kinks descent is on its Moreau envelope around the last dual variable: proximal steps of the
  dual problem;
- *semidefinite*: the convex program in the sums ``Z = sum_j alpha_j (u_j, 1)(u_j, 1)'``, positive amounts
  and negative ones apart, by an interior-point method (:mod:`cvxnn.spectrahedra`), and neurons from its
  solution (:mod:`cvxnn.neural_decomposition`).

Descent is poor where samples are far from the origin or of very different sizes: neurons then see nearly
the same of all of them, and rounds end long before the gap is closed. The semidefinite program knows no
such trouble, and where it is small ``method="auto"`` goes on to it from there.

References: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts", Math. Prog. 2025; Frank-Wolfe
with sliding: Denoyelle, Duval, Peyre and Soubies, Inverse Problems 2020.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Oracle, Price, search_gap
from ..network import Affine, Network, Polynomial
from ..neural_decomposition import neurons_of
from ..operators import Dense
from ..program import Master, Problem, Program, Solution
from ..quadratic_descent import descend, insertion
from ..quadratic_units import Neurons, QuadraticUnits, Quoted
from ..spectrahedra import SphereGauge, to_matrices, to_vectors
from .base import Architecture, Effort, Progress, Training

#: Candidates priced beside the best neuron of every window, output and sign; inserted at most at once.
TRIED, INSERTED = 48, 400
#: `method="auto"` takes the semidefinite program for losses with kinks up to this order of its matrices.
AUTO_ORDER = 16
#: Where columns stop above the tolerance "auto" goes on to the semidefinite program, if the squared orders
#: of its matrices (of one sign) and the numbers of its operator are at most so many.
RESCUED, RESCUED_NUMBERS = 42**2, 20_000_000
#: Rounds in a row that gain less than a hundredth of the gap, after which rounding is what is left; and
#: where there is the semidefinite program to go on to.
IDLE, IDLE_RESCUED = 4, 2
#: How far a norm may be from one.
UNIT = 1e-9
#: Error of the envelope of a loss with kinks, as a share of the objective.
SMOOTHING = 1e-2
#: Gap above which a descent need not be finished, and the decrease that then is enough.
FAR = 1e-2
#: How exactly an envelope is minimised before the next, as a share of the gap.
INNER = 0.3


class QuadraticOracle(Oracle):
    """Exact pricing of neurons of norm one (scope ``global``)."""

    def __init__(self, problem: Problem, units: QuadraticUnits) -> None:
        super().__init__(problem)
        self.units = units

    def price(self, Z: np.ndarray) -> Price:
        quoted = self.units.quote(Z)
        return Price(quoted.bound, "global", quoted.found)


class Spectrahedral(Architecture):
    """What families with a quadratic activation share."""

    coefficients: tuple[float, float, float]
    method: str
    #: Whether networks have several outputs.
    several: ClassVar[bool] = False

    @abstractmethod
    def units(self, problem: Problem) -> QuadraticUnits:
        """Return what neurons see of the data."""

    @abstractmethod
    def network_of(self, problem: Problem, neurons: Neurons) -> Network:
        """Return the explicit network of neurons, without constants of the output."""

    @abstractmethod
    def neurons_in(self, network: Network, features: int) -> Neurons:
        """Return the neurons of a network of the family.

        Raises
        ------
        ValueError
            If it is none.
        """

    def check(self) -> None:
        """Raise ValueError where an option is none."""
        if self.several and self.method == "semidefinite":
            raise ValueError("method='semidefinite' is for one output: pass 'auto' for several")
        numbers = self.coefficients
        right = isinstance(numbers, tuple) and len(numbers) == 3
        if not right or not all(np.isfinite(float(v)) for v in numbers) or not any(numbers):
            raise ValueError(
                f"coefficients={numbers!r} must be three finite numbers (a, b, c) of a t^2 + b t + c that "
                "are not all zero: pass (0.09, 0.5, 0.47), say"
            )
        if self.method not in ("auto", "columns", "semidefinite"):
            raise ValueError(
                f"method={self.method!r} is unknown: pass 'auto' (the default), 'columns' or 'semidefinite'"
            )

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        """There are no patterns."""
        self.check()
        return None

    def cost(self, network: Network) -> float:
        """``sum_j |alpha_j|`` for neurons of norm one; others are refused, see the module."""
        return self.neurons_in(network, network.n_features).cost

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> QuadraticOracle:
        self.check()
        return QuadraticOracle(problem, self.units(problem))

    def lift(self, problem: Problem, arrangement: Arrangement | None) -> Program:
        """The semidefinite program: for every window a matrix for positive amounts, and one for negative.

        Raises
        ------
        NotImplementedError
            For several outputs.
        """
        if self.several:
            raise NotImplementedError("the semidefinite program is for one output: pass method='columns'")
        units = self.units(problem)
        F = np.stack([to_vectors(_matrices(units, w)) for w in range(units.windows)], axis=1)
        F = np.concatenate([F, -F], axis=1)
        operator = Dense(F.reshape(units.n, -1), F.shape[1])
        rest = (problem.y, problem.weights, problem.beta, SphereGauge())
        return Program(operator, problem.loss, *rest, intercept=problem.intercept)

    def decode(self, problem: Problem, arrangement: Arrangement | None, solution: Solution) -> Network:
        """The neurons of every matrix, at most as many as its rank."""
        units = self.units(problem)
        return self.finished(problem, units, self._decoded(units, solution))[0]

    def _decoded(self, units: QuadraticUnits, solution: Solution) -> Neurons:
        Z = to_matrices(np.asarray(solution.W, dtype=np.float64))
        windows, neurons = len(Z) // 2, Neurons.empty(Z.shape[1] - 1)
        for k, matrix in enumerate(Z):
            U, alpha = neurons_of(matrix)
            where, sign = np.full(len(U), k % windows), 1.0 if k < windows else -1.0
            V = U * np.sqrt(alpha)[:, None]
            neurons = neurons.join(Neurons(V, where, 0 * where, np.full(len(U), sign)))
        size = np.linalg.norm(neurons.V, axis=1)
        return units.reduce(neurons.choose(size > 1e-5 * np.max(size, initial=0.0)))

    def finished(self, problem: Problem, units: QuadraticUnits, neurons: Neurons) -> tuple[Network, float]:
        """The network of neurons with the best constants, and its objective."""
        network, f, c = self.network_of(problem, neurons), units.predict(neurons), np.zeros(1)
        if problem.intercept:
            c = np.atleast_1d(problem.loss.intercept(f, problem.y, problem.weights)).astype(float)
            f = f + (c if f.ndim == 2 else c[0])
            network = Network((*network.layers[:-1], Affine(last_weights(network), c)))
        return network, problem.value(f, neurons.cost)

    def nothing(self, problem: Problem) -> Network:
        units = self.units(problem)
        return self.finished(problem, units, Neurons.empty(units.f))[0]

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        units, k = self.units(problem), np.arange(len(U))
        order = np.argsort(k % units.windows, kind="stable")
        V = U[:, : units.f] / np.linalg.norm(U[:, : units.f], axis=1, keepdims=True)
        K = units.outputs or 1
        neurons = Neurons(V[order], (k % units.windows)[order], (k % K)[order], np.ones(len(U)))
        H = np.empty((len(U), units.n))
        H[order] = units.values(neurons).T
        if units.outputs is None:
            return H
        return H[:, :, None] * np.eye(K)[k % K][:, None, :]

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        assert isinstance(oracle, QuadraticOracle)
        units = oracle.units
        neurons, Z = Neurons.empty(units.f), problem.residual(np.zeros_like(problem.y))
        solved = False
        if effort.start is not None and effort.start.width:
            neurons = self.neurons_in(effort.start, problem.X.shape[1])
            Z = problem.residual(units.predict(neurons))
        elif self._semidefinite(problem, units):
            solution = yield Master(self.lift(problem, None), 0.1 * effort.tol)
            assert solution is not None
            neurons, Z, solved = self._decoded(units, solution), np.asarray(solution.Z), True
        rescued = not solved and self._rescued(problem, units)
        run = _Run(self, problem, units, effort, neurons, Z)
        network = yield from run.rounds(IDLE_RESCUED if rescued else IDLE)
        if not (rescued and run.stuck):
            return network
        solution = yield Master(self.lift(problem, None), 0.1 * effort.tol)
        assert solution is not None
        run.neurons, run.Z = self._decoded(units, solution), np.asarray(solution.Z)
        return (yield from run.rounds(IDLE))

    def _semidefinite(self, problem: Problem, units: QuadraticUnits) -> bool:
        if self.method != "auto":
            return self.method == "semidefinite"
        small = units.f + 1 <= AUTO_ORDER and units.windows == 1
        return small and not problem.loss.smooth and not self.several

    def _rescued(self, problem: Problem, units: QuadraticUnits) -> bool:
        """Whether "auto" goes on to the semidefinite program where columns stop."""
        order = units.f + 1
        small = units.windows * order**2 <= RESCUED
        numbers = units.n * units.windows * order * (order + 1)
        return self.method == "auto" and not self.several and small and numbers <= RESCUED_NUMBERS


class _Run:
    """One training: neurons, the best network so far, its value, a dual variable and the gap."""

    def __init__(
        self,
        family: Spectrahedral,
        problem: Problem,
        units: QuadraticUnits,
        effort: Effort,
        neurons: Neurons,
        Z: np.ndarray,
    ) -> None:
        self.family, self.problem, self.units, self.effort = family, problem, units, effort
        self.neurons, self.Z, self.gap, self.share = neurons, Z, 1.0, SMOOTHING
        self.network = family.nothing(problem)
        self.least = problem.null_value()
        #: Whether rounds have ended above the tolerance, and not because they were as many as allowed.
        self.stuck = False

    def see(self, neurons: Neurons, slack: float = 0.0) -> None:
        """Keep the network of neurons if it is the best so far, or within a relative slack of it."""
        network, value = self.family.finished(self.problem, self.units, neurons)
        if value <= self.least + slack * abs(self.least):
            self.network, self.least = network, value

    def line(self, Z: np.ndarray | None = None) -> Progress:
        width = self.network.width
        return Progress(self.least, self.gap, width, width, self.network, Z)

    def rounds(self, patience: int) -> Training:
        """Price, insert, descend, until nothing is worth more than beta, or so many rounds gain nothing."""
        problem, effort, units = self.problem, self.effort, self.units
        if len(self.neurons):
            self.see(self.neurons)
        groups = 2 * units.windows * (units.outputs or 1)
        idle, target = 0, problem
        if not problem.loss.smooth:
            target = problem.smoothed(self.share * self.least, self.Z)
        for k in range(effort.max_iter + 1):
            quoted = units.quote(self.Z, min(groups + TRIED, max(INSERTED, TRIED)))
            before, self.gap = self.gap, search_gap(problem, self.least, self.Z, quoted.found)
            effort.history.append(self.line(self.Z))
            yield effort.history[-1]
            idle = idle + 1 if self.gap > 0.99 * before else 0
            self.stuck = self.gap > effort.tol and k < effort.max_iter
            if not self.stuck or idle >= patience:
                break
            if target is not problem and k:
                target = self._centred(target, quoted, before)
            neurons = insertion(target, units, self.neurons, quoted)
            if not len(neurons):
                break
            # far from the end the next neurons matter more than the last digits of these
            far = self.gap > FAR and target is problem
            for moved in descend(target, units, neurons, effort.tol if not far else FAR, not far):
                self.see(moved)
                self.neurons = moved
                yield self.line()
            self.neurons = units.reduce(self.neurons)
            # fewer neurons are better even if rounding says they are not
            self.see(self.neurons, 1e-13)
            self.Z = target.residual(units.predict(self.neurons))
        return self.network

    def _centred(self, target: Problem, quoted: Quoted, before: float) -> Problem:
        """The envelope around the last dual variable, once that is about the best of the envelope
        before."""
        problem, f = self.problem, self.units.predict(self.neurons)
        if target.intercept:
            f = f + target.loss.intercept(f, target.y, target.weights)
        inner = search_gap(target, target.value(f, self.neurons.cost), self.Z, quoted.found)
        if inner > INNER * self.gap:
            return target
        self.share *= 1.0 if self.gap <= 0.5 * before else 0.5
        return problem.smoothed(self.share * self.least, self.Z)


def _matrices(units: QuadraticUnits, window: int) -> np.ndarray:
    """The matrices M_i of a window with ``h_i = (u, 1)'M_i(u, 1)``, shape (n, f + 1, f + 1)."""
    a, b, c = units.coefficients
    X, f = units.rows[window], units.f
    M = np.empty((units.n, f + 1, f + 1))
    M[:, :f, :f] = a * np.einsum("npi,npj->nij", X, X)
    M[:, :f, f] = M[:, f, :f] = 0.5 * b * np.sum(X, axis=1)
    M[:, f, f] = c * units.patches
    return units.scale * M


def check_norms(weights: np.ndarray) -> None:
    """Raise ValueError unless all columns have norm one."""
    off = np.abs(np.linalg.norm(weights, axis=0) - 1.0)
    if np.any(off > UNIT):
        raise ValueError(
            f"the network has neurons of norms other than one (off by {np.max(off):.1e}): with a "
            "polynomial activation size cannot move to the output weights; divide the weights of every "
            "neuron by their norm and train the output weights again"
        )


def last_weights(network: Network) -> np.ndarray:
    """Return the output weights of a network, (m, outputs)."""
    last = network.layers[-1]
    assert isinstance(last, Affine)
    return last.weight


def coefficients_of(network: Network) -> tuple[float, float, float]:
    """Return the coefficients of the activation of a network, its second layer."""
    layer = network.layers[1]
    assert isinstance(layer, Polynomial)
    a, b, c = (float(np.ravel(v)[0]) for v in (layer.quadratic, layer.linear, layer.constant))
    return a, b, c
