"""What a loss has to answer, and what follows from it for every loss.

A loss enters the convex programs of this package through four functions of the prediction ``f``:
its value, gradient, diagonal Hessian and convex conjugate, each summed over samples with weights
``s``. For a dual variable Z (one number per sample) the dual objective is

    D(Z) = -L*(-Z),    L(f) = sum_i s_i loss(f_i, y_i),    L*(z) = sum_i s_i loss*(z_i / s_i),

and the dual variable that belongs to a prediction is ``Z = -grad L(f)``. Every loss here is bounded
below, so ``Z = 0`` is always in the domain; shrinking a dual variable towards zero, wholly or
sample by sample, therefore never leaves the domain. Two functions below use that.

A loss says what it offers, and solvers ask: whether it is `smooth`, how strongly it bends
(`curvature`), a smooth stand-in (:meth:`Loss.smoothed`) for methods that follow gradients, its pieces
(:meth:`Loss.hinges`) for methods that handle kinks exactly, a conic form. Objectives and certificates are
those of the loss itself, whatever a solver has used on the way.

References: Boyd and Vandenberghe, Convex Optimization, section 3.3 and chapter 5; Rockafellar and Wets,
Variational Analysis, sections 1.G (Moreau envelopes) and 11.D (piecewise linear-quadratic functions).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from scipy.optimize import brentq, minimize_scalar

from ..arrays import Array


@dataclass(frozen=True, eq=False)
class ConicForm:
    """A loss as a conic quadratic program in the predictions ``f`` and extra variables ``v``.

    ``L(f) = constant + min_v 1/2 f' diag(quadratic) f + linear'f + extra'v`` subject to
    ``F f + V v + h`` in the product of `cones`.

    Parameters
    ----------
    quadratic, linear : ndarray of shape (n,)
    constant : float
    extra : ndarray of shape (k,)
    F, V : sparse matrices of shapes (m, n) and (m, k)
    h : ndarray of shape (m,)
    cones : list of (str, int)
        ``("nonnegative", size)`` or ``("exponential", 3)`` in the order of the rows.
    extra_quadratic : ndarray of shape (k,), or None
        Adds ``1/2 v' diag(extra_quadratic) v``.
    """

    quadratic: np.ndarray
    linear: np.ndarray
    constant: float
    extra: np.ndarray
    F: sparse.spmatrix
    V: sparse.spmatrix
    h: np.ndarray
    cones: list[tuple[str, int]]
    extra_quadratic: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ClippedHinge:
    """A clipped hinge ``max over 0 <= q <= cap of q x - curve q^2 / 2``, with ``x = side f + offset``.

    It is 0 for ``x <= 0``, a parabola up to ``x = curve cap``, and a line of slope `cap` beyond.

    Parameters
    ----------
    side : array of shape (n,), entries -1 or +1
    offset : array of shape (n,)
    cap : float
        Largest slope; may be ``inf`` where ``curve > 0``.
    curve : float
        Reciprocal of the parabola's second derivative; 0 for a kink.
    """

    side: Array
    offset: Array
    cap: float
    curve: float


class Loss(ABC):
    """A convex loss of one prediction per sample.

    In all methods ``f`` (predictions), ``y`` (targets) and ``s`` (weights > 0) have shape (n,).
    """

    #: Name used by estimators and the command line; scikit-learn's word for the loss.
    name: ClassVar[str]
    #: Whether targets are classes coded as -1 and +1.
    classification: ClassVar[bool] = False
    #: Whether targets must not be negative.
    nonnegative: ClassVar[bool] = False
    #: What `mean` computes, by a name that exporters know: "identity" or "exp".
    inverse_link: ClassVar[str] = "identity"
    #: The largest change of a prediction over which the second derivative stays of one size; Newton
    #: steps of solvers without a line search are cut to it.
    reach: ClassVar[float] = float("inf")

    @property
    def curvature(self) -> float:
        """Largest second derivative of the loss of one sample; ``inf`` where there is no bound."""
        return float("inf")

    @property
    def smooth(self) -> bool:
        """Whether the loss is differentiable everywhere."""
        return True

    @abstractmethod
    def value(self, f: Array, y: Array, s: Array) -> float:
        """Return ``sum_i s_i loss(f_i, y_i)``."""

    @abstractmethod
    def gradient(self, f: Array, y: Array, s: Array) -> Array:
        """Return the gradient of :meth:`Loss.value` in ``f``, shape (n,)."""

    def value_and_gradient(self, f: Array, y: Array, s: Array) -> tuple[float, Array]:
        """Return both, for losses that compute them faster together."""
        return self.value(f, y, s), self.gradient(f, y, s)

    @abstractmethod
    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        """Return the diagonal of the Hessian of :meth:`Loss.value` in ``f``, shape (n,)."""

    @abstractmethod
    def conjugate(self, z: Array, y: Array, s: Array) -> float:
        """Return ``sum_i s_i loss*(z_i / s_i)``, ``inf`` outside the domain."""

    def smoothed(self, error: float, center: Array | None = None) -> Loss:
        """Return a smooth loss at most `error` below this one, for one sample of weight one.

        Its dual variables are in the domain of this loss' conjugate, so that they prove bounds for it.
        With a `center`, a dual variable per unit of weight, shape (n,), it is (up to a constant) the loss
        whose minimisation is a proximal step of the dual problem from there: repeated, such steps end at
        the optimum of the loss itself, however smooth they are.
        """
        return self

    def hinges(self, y: Array) -> tuple[ClippedHinge, ...] | None:
        """Return the loss of one sample as a sum of clipped hinges, or None if it is no such sum."""
        return None

    def check(self, y: np.ndarray) -> None:
        """Raise ValueError if a target, shape (n,), is none that this loss can have."""
        if self.nonnegative and np.any(y < 0.0):
            least = float(np.min(y))
            raise ValueError(f"loss={self.name!r} is for counts, and y has {least:g}: pass targets >= 0")

    def mean(self, f: np.ndarray) -> np.ndarray:
        """Return the target that a prediction stands for (the inverse of the link), shape (n,)."""
        return f

    def link(self, y: np.ndarray) -> np.ndarray:
        """Return finite predictions that are about right for targets, shape (n,)."""
        return y

    def conic(self, y: np.ndarray, s: np.ndarray) -> ConicForm | None:
        """Return the loss as a conic program, or None if it has no such form here.

        Of several outputs the predictions are flat, the outputs of one sample next to each other.
        """
        return None

    def to_cvxpy(self, f: Any, y: np.ndarray, s: np.ndarray) -> Any:
        """Return ``value`` as a CVXPY expression of the CVXPY expression ``f``."""
        raise NotImplementedError(f"the loss {self.name!r} has no CVXPY form")

    def dual(self, Z: Array, y: Array, s: Array) -> float:
        """Return the dual objective ``-L*(-Z)``, ``-inf`` outside the domain."""
        return -self.conjugate(-Z, y, s)

    def nearest(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return a dual variable in the domain, where rounding may have left `Z` (n,) just outside."""
        return Z

    def best_scale(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray, limit: float) -> float:
        """Return the ``t`` in [0, limit] that maximises the concave function ``dual(t * Z)``.

        Parameters
        ----------
        Z : ndarray of shape (n,)
        limit : float
            The largest scale at which the dual variable is feasible; may be ``inf``.
        """
        limit = min(limit, 1e12)

        def loss_at(t: float) -> float:
            return self.conjugate(-t * Z, y, s)

        # The domain is an interval from 0; a search must not start beyond its end, where all is inf.
        end = limit
        if not np.isfinite(loss_at(end)):
            inside = 1.0 if limit > 1.0 and np.isfinite(loss_at(1.0)) else 0.0
            while end - inside > 1e-13 * end:
                middle = 0.5 * (inside + end)
                inside, end = (middle, end) if np.isfinite(loss_at(middle)) else (inside, middle)
            end = inside
        found = minimize_scalar(loss_at, bounds=(0.0, end), method="bounded", options={"xatol": 1e-12})
        # 1 is the scale at which Z = -grad L(f) is in the domain.
        candidates = [0.0, min(limit, 1.0), end, float(np.clip(found.x, 0.0, end))]
        return max(candidates, key=lambda t: self.dual(t * Z, y, s))

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> float:
        """Return the constant ``c`` that minimises ``value(f + c)``.

        Raises
        ------
        ValueError
            If the minimum is not attained (a classification target with one class).
        """

        def slope(c: float) -> float:
            return float(np.sum(self.gradient(f + c, y, s)))

        width = 1.0 + float(np.max(np.abs(f))) + float(np.max(np.abs(y)))
        for _ in range(60):
            if slope(-width) < 0.0 < slope(width):
                return float(brentq(slope, -width, width, xtol=1e-15, rtol=1e-15, maxiter=500))
            width *= 2.0
        raise ValueError(
            "the best intercept is infinite (a single class?): pass targets of both classes "
            "or fit_intercept=False"
        )

    def balanced(self, Z: np.ndarray, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return the dual variable of a prediction, ``Z = -gradient(f)``, with ``sum_i Z_i = 0``.

        Where the loss has kinks at ``f`` the gradient is a choice, and the right one is made first.
        """
        return self.balance(Z)

    @staticmethod
    def balance(Z: np.ndarray) -> np.ndarray:
        """Shrink the heavier sign of ``Z`` so that ``sum_i Z_i = 0`` (a free intercept's dual).

        Shrinking keeps every coordinate in the domain of the conjugate, which subtracting the mean
        would not.
        """
        plus, minus = float(np.sum(Z[Z > 0])), -float(np.sum(Z[Z < 0]))
        if plus == 0.0 or minus == 0.0:
            return np.zeros_like(Z)
        low = min(plus, minus)
        return np.where(Z > 0, Z * (low / plus), Z * (low / minus))


class VectorLoss(Loss):
    """A convex loss of several outputs per sample.

    The methods of :class:`Loss` take predictions ``f`` and targets ``y`` of shape (n, outputs); the weights
    ``s`` still have shape (n,). The best intercept has shape (outputs,), and a balanced dual variable has
    columns that sum to zero.
    """

    #: Whether it is a sum over the rows of predictions.
    by_sample: ClassVar[bool] = True

    @abstractmethod
    def curve(self, f: np.ndarray, y: np.ndarray, s: np.ndarray, V: np.ndarray) -> np.ndarray:
        """Return the Hessian of ``value`` at ``f`` times ``V``, all of shape (n, outputs)."""

    def hessian(self, f: Array, y: Array, s: Array) -> Array:
        """Return the diagonal of the Hessian, shape (n, outputs)."""
        one = np.eye(f.shape[1])
        return np.column_stack(
            [self.curve(f, y, s, np.tile(row, (len(f), 1)))[:, k] for k, row in enumerate(one)]
        )

    def hessians(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return the Hessians of the loss sample by sample, shape (n, outputs, outputs)."""
        one = np.eye(f.shape[1])
        return np.stack([self.curve(f, y, s, np.tile(row, (len(f), 1))) for row in one], axis=1)
