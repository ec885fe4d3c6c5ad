"""The narrow waist: the training problem a user has, and the one convex program it becomes.

A :class:`Problem` is what the user states: data, targets, weights, loss, strength of the penalty. An
architecture lifts it to a :class:`Program`,

    minimise over W, c   sum_i s_i loss(A(W)_i + c, y_i) + beta * sum_g gauge(W_g)
    subject to           K(W) >= 0,

(``c`` only with an intercept), and a solver improves a program without knowing the architecture. By
Fenchel duality, for every dual variable Z and all multipliers rho >= 0 with
``polar(A*(Z)_g + K*(rho)_g) <= beta`` for all groups, and ``sum_i Z_i = 0`` with an intercept,

    -L*(-Z)  <=  minimum of the program.

Every Z can be shrunk until it satisfies this, so every Z gives a lower bound: :meth:`Program.bound`.

Reference: Rockafellar, Convex Analysis, section 31; Pilanci and Ergen, ICML 2020, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from .arrays import Array, array_namespace, asarray_like, to_numpy
from .constraints import Constraint, Free
from .largest_price import largest_price
from .losses import Loss
from .operators import Masked, Operator
from .penalties import GroupL2, Penalty
from .vector_operators import Columns


@dataclass(frozen=True, eq=False)
class Problem:
    """A supervised training problem, at the scale of sums.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,), or (n, outputs) for several outputs
        Targets; -1 and +1 for classification losses of one output, one-hot for those of several.
    weights : ndarray of shape (n,)
        Sample weights, all positive.
    loss : Loss
    beta : float
        Strength of the penalty on the sum of losses, > 0. In the user's scale
        ``beta = alpha * sum(weights)``; :meth:`from_alpha` and :meth:`at` are the only places
        that convert.
    intercept : bool
        Whether an unpenalised constant is added to the output.
    """

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    loss: Loss
    beta: float
    intercept: bool = False

    @classmethod
    def from_alpha(
        cls,
        X: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        loss: Loss,
        alpha: float,
        intercept: bool,
    ) -> Problem:
        """Build a problem from the per-sample strength ``alpha``, in canonical form.

        Rows of weight zero are dropped: they must not take part in anything, not even in the
        arrangement. Equal rows become one with the sum of their weights, and rows are sorted, so
        that neither repetition nor order can change a result.

        Raises
        ------
        ValueError
            If a number is too large or small, or a target is none that the loss can have.
        """
        X, y = to_numpy(X), to_numpy(y)
        s = np.ones(len(X)) if weights is None else to_numpy(weights)
        for name, values in (("X", X), ("y", y), ("sample_weight", s), ("alpha", np.array([alpha]))):
            check_size(name, values)
        beta = float(alpha * np.sum(s))
        # adding 0.0 makes -0.0 and 0.0 the same row
        table = np.column_stack([X, y])[s > 0] + 0.0
        rows, place = _distinct_rows(table)
        s = np.bincount(place, weights=s[s > 0], minlength=len(rows))
        d = X.shape[1]
        targets = rows[:, d:].copy() if y.ndim == 2 else rows[:, d].copy()
        loss.check(targets)
        return cls(np.ascontiguousarray(rows[:, :d]), targets, s, loss, beta, intercept)

    @property
    def total_weight(self) -> float:
        """The sum of the weights: objectives divided by it are per sample."""
        return float(np.sum(self.weights))

    def at(self, alpha: float) -> Problem:
        """Return the same problem with another strength of the penalty per sample."""
        return replace(self, beta=float(alpha) * self.total_weight)

    def smoothed(self, error: float, Z: np.ndarray | None = None) -> Problem:
        """Return the problem with a smooth loss that makes objectives at most `error` smaller.

        Its dual variables are in the domain of this problem's too. With a dual variable ``Z`` (n,) it is
        instead the problem of a proximal step from there; see :meth:`cvxnn.losses.base.Loss.smoothed`.
        """
        if self.loss.smooth:
            return self
        center = None if Z is None else Z / self.weights
        return replace(self, loss=self.loss.smoothed(error / self.total_weight, center))

    def value(self, prediction: np.ndarray, cost: float) -> float:
        """Return the objective ``sum_i s_i loss_i + beta * cost`` of a prediction in the shape of y."""
        return self.loss.value(prediction, self.y, self.weights) + self.beta * cost

    def residual(self, prediction: np.ndarray) -> np.ndarray:
        """Return the dual variable ``Z = -grad L`` of a prediction, both in the shape of y.

        With an intercept the prediction is first given its best constant, then Z is balanced, so
        that ``sum_i Z_i = 0`` holds to rounding, for every output.
        """
        f, y, s = prediction, self.y, self.weights
        if not self.intercept:
            return -self.loss.gradient(f, y, s)
        f = f + self.loss.intercept(f, y, s)
        return self.loss.balanced(-self.loss.gradient(f, y, s), f, y, s)

    def null_value(self) -> float:
        """Return the objective of the zero network (with its best constant, if there is one)."""
        f = np.zeros_like(self.y)
        if self.intercept:
            f = f + self.loss.intercept(f, self.y, self.weights)
        return self.value(f, 0.0)


def _distinct_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows in lexicographic order, and which of them every row is.

    Where the first column or two tell all rows apart, which is most data, sorting by them is enough;
    comparing whole rows takes ten times as long.
    """
    n = len(table)
    for width in (1, 2, 4):
        first = table[:, :width]
        order = np.lexsort(first.T[::-1])
        if n and first.shape[1] and np.all(np.any(np.diff(first[order], axis=0) != 0.0, axis=1)):
            place = np.empty(n, dtype=np.intp)
            place[order] = np.arange(n)
            return table[order], place
    rows, place = np.unique(table, axis=0, return_inverse=True)
    return rows, np.ravel(place)


def check_size(name: str, values: np.ndarray) -> None:
    """Raise ValueError where squares would overflow or vanish: no certificate survives that."""
    size = float(np.max(np.abs(values), initial=0.0))
    if size > 1e100 or 0.0 < size < 1e-100:
        raise ValueError(
            f"{name} is of size {size:.0e}, beyond what float64 can square: rescale it "
            "(a StandardScaler for X; scaling y or the weights scales alpha along)"
        )


@dataclass(frozen=True, eq=False)
class Program:
    """The convex program that every architecture lifts to.

    Parameters
    ----------
    operator : Operator
        ``A``, from W of shape (groups, d) to predictions of shape (n,); with several outputs from
        (groups, d, outputs) to (n, outputs).
    loss : Loss
    target, weights : arrays of shape (n,); targets (n, outputs) with several outputs
    beta : float
    penalty : Penalty
    constraint : Constraint
    intercept : bool
    """

    operator: Operator
    loss: Loss
    target: Array
    weights: Array
    beta: float
    penalty: Penalty = field(default_factory=GroupL2)
    constraint: Constraint = field(default_factory=Free)
    intercept: bool = False

    def predict(self, W: Array, offset: Any = 0.0) -> Array:
        """Return ``A(W) + c``, shape (n,); with several outputs c has one entry for each."""
        return self.operator.apply(W) + offset

    def primal(self, W: Array, offset: Any = 0.0) -> float:
        """Return the objective at ``W`` (groups, d); feasibility is the constraint's matter."""
        f = self.predict(W, offset)
        return self.loss.value(f, self.target, self.weights) + self.beta * self.penalty.value(W)

    def residual(self, f: Array) -> Array:
        """Return the dual variable ``-grad L(f)``, balanced if there is an intercept."""
        Z = -self.loss.gradient(f, self.target, self.weights)
        if not self.intercept:
            return Z
        y, s = to_numpy(self.target), to_numpy(self.weights)
        return asarray_like(self.loss.balanced(to_numpy(Z), to_numpy(f), y, s), Z)

    def dual(self, Z: Array, multipliers: np.ndarray | None = None) -> float:
        """Return ``-L*(-Z)`` if Z is dual feasible, else ``-inf``."""
        if self.intercept:
            z = to_numpy(Z)
            if np.any(np.abs(np.sum(z, axis=0)) > 1e-9 * np.sum(np.abs(z))):
                return -float("inf")
        if self.price(Z, multipliers) > self.beta * (1.0 + 1e-12):
            return -float("inf")
        return self.loss.dual(Z, self.target, self.weights)

    def price(self, Z: Array, multipliers: np.ndarray | None = None) -> float:
        """Return the largest price ``polar(A*(Z)_g + K*(rho)_g)`` over the groups."""
        operator, plain = self.operator, isinstance(self.penalty, GroupL2) and self.penalty.free == 0
        if plain and isinstance(self.constraint, Free) and isinstance(operator, Masked) and operator.plain:
            return largest_price(operator, Z)
        G = self.operator.adjoint(Z)
        if G.shape[0] == 0:
            return 0.0
        if not isinstance(self.constraint, Free):
            G = self.constraint.price(to_numpy(G), multipliers)
        xp = array_namespace(G)
        return float(xp.max(self.penalty.polar(G)))

    def bound(self, Z: Array, multipliers: np.ndarray | None = None) -> float:
        """Return the best lower bound of the program's minimum among the multiples of ``Z``."""
        price = self.price(Z, multipliers)
        limit = self.beta / price if price > 0 else float("inf")
        z, y, s = (to_numpy(v) for v in (Z, self.target, self.weights))
        return self.loss.dual(self.loss.best_scale(z, y, s, limit) * z, y, s)

    def to_cvxpy(self) -> tuple[Any, Any]:
        """State the program in CVXPY, so that anybody can check it with another solver.

        Returns
        -------
        problem : cvxpy.Problem
        W : cvxpy.Variable of shape (groups, d), or a list of groups of shape (d, outputs)

        Raises
        ------
        ImportError
            If CVXPY is not installed.
        NotImplementedError
            If the loss, penalty or constraint has no CVXPY form here.
        """
        try:
            import cvxpy as cp
        except ImportError as error:
            raise ImportError("CVXPY is missing: pip install 'cvxnn[cvxpy]'") from error
        _, groups, d = self.operator.shape
        y, s = to_numpy(self.target), to_numpy(self.weights)
        W: Any
        c: Any
        if isinstance(self.operator, Columns):
            W = cp.Variable((groups, d))
            c = cp.Variable((1, d)) if self.intercept else np.zeros((1, d))
            f = self.operator.dense() @ W + np.ones((len(y), 1)) @ c
        elif y.ndim == 2:
            W = [cp.Variable((d, y.shape[1])) for _ in range(groups)]
            c = cp.Variable((1, y.shape[1])) if self.intercept else np.zeros((1, y.shape[1]))
            f = self.operator.dense() @ cp.vstack(W) + np.ones((len(y), 1)) @ c
        else:
            W = cp.Variable((groups, d))
            c = cp.Variable() if self.intercept else 0.0
            f = self.operator.dense() @ cp.vec(W, order="C") + c
        objective = self.loss.to_cvxpy(f, y, s) + self.beta * self.penalty.to_cvxpy(W)
        return cp.Problem(cp.Minimize(objective), self.constraint.to_cvxpy(W)), W


class Status(StrEnum):
    """How a solver's run ended; each member is the message shown to the user."""

    optimal = "The duality gap is below tol."
    max_iter = "Stopped at max_iter before the gap reached tol: raise max_iter or tol."
    max_time = "Stopped at max_time before the gap reached tol: raise max_time or tol."
    idle = "Growing ended before the gap reached tol, as rounds no longer lower the objective enough."
    stalled = "The solver could make no further progress at this precision."
    interrupted = "Interrupted; this is the best point so far."
    nonfinite = "The iterates became non-finite; this is the last finite point."


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver returns for a program.

    Parameters
    ----------
    W : array of shape (groups, d)
    offset : float, or array of shape (outputs,)
        The intercept; 0 where the program has none.
    Z : array of shape (n,)
        Dual variable.
    multipliers : ndarray of shape (groups, n), or None
        Multipliers of the constraint that go with Z.
    primal, bound : float
        Objective and lower bound of the *program*, recomputed by the loop.
    status : Status
    n_iter : int
    """

    W: Array
    offset: Any
    Z: Array
    multipliers: np.ndarray | None
    primal: float
    bound: float
    status: Status
    n_iter: int

    @property
    def gap(self) -> float:
        """``(primal - bound) / |primal|`` of the program (not of all networks)."""
        if not np.isfinite(self.primal):
            return float("inf")
        return max(0.0, self.primal - self.bound) / max(abs(self.primal), 1e-300)


@dataclass(frozen=True, eq=False)
class Master:
    """A program that an architecture asks to have solved, and how well.

    Parameters
    ----------
    program : Program
    tol : float
        Relative duality gap of the program to reach.
    start : array of shape (groups, d), or None
        A warm start.
    network : Network or None
        The best network so far, returned to the user if training is interrupted here.
    """

    program: Program
    tol: float
    start: Array | None = None
    network: Any = None
