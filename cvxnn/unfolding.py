r"""An output weight for every window: networks that have more outputs than they show.

Where filter j has the output h_jip in window p of sample i and an output weight ``a_jp`` (a vector, with
several outputs) for it, the network is ``f_i = sum_j sum_p a_jp h_jip``. Take every window of every sample
as a sample, and windows times outputs as outputs: then

    F = sum_j h_j a_j'      of shape (n * windows, windows * outputs),      f_i = sum_p F_(ip),(p.),

and what the loss sees, f, is a linear map B of F: the sum of the blocks on the diagonal. So a network with
a weight for every window is a plain one with several outputs under the loss ``L o B``, and all that is
known of those serves here: neurons of rank one, ``|u_j| |a_j|`` with all weights of a filter, and the price
of a dual variable ``B'Z``, which has Z_i in the columns of window p on row (i, p):

    M(Z) = max over |u| <= 1 of ( sum_p | sum_i Z_i h_ip(u) |^2 )^1/2.

:class:`Unfolded` is ``L o B``. Its conjugate is that of L at Z for dual variables ``B'Z``, and infinite
elsewhere.

Reference: Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, "Scaling convex neural networks with
Burer-Monteiro factorization", equations 25 and 26.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from .losses import Loss, VectorLoss
from .patches import folded, unfolded
from .program import Problem


class Unfolded(VectorLoss):
    """The loss of what windows add up to; with one window, a loss as one of several outputs.

    Predictions and targets have shape (n * windows, windows * outputs), weights (n * windows,): those of
    :func:`unfolded` samples.

    Parameters
    ----------
    inner : Loss
        Smooth, of one output or of several.
    windows : int

    Raises
    ------
    ValueError
        If the loss has kinks, on which descent would stop.
    """

    #: Starts are not centred over classes: the columns are those of windows too.
    classification: ClassVar[bool] = False
    by_sample: ClassVar[bool] = False

    def __init__(self, inner: Loss, windows: int) -> None:
        if not inner.smooth:
            raise ValueError(
                f"loss={inner.name!r} has kinks, and networks with a weight for every window are trained "
                "by descent: pass a smooth one ('squared_hinge', 'log_loss', 'huber', ...), or pool='all'"
            )
        self.inner, self.windows = inner, windows
        self.name = inner.name  # type: ignore[misc]

    @property
    def curvature(self) -> float:
        return self.windows * self.inner.curvature

    def fold(self, f: np.ndarray) -> np.ndarray:
        """Return what the windows of each sample add up to, in the shape of the inner loss."""
        return self._inside(folded(f, self.windows))

    def unfold(self, z: np.ndarray) -> np.ndarray:
        """Return the adjoint of :meth:`fold` at ``z``, (n,) or (n, outputs)."""
        return unfolded(z[:, None] if z.ndim == 1 else z, self.windows)

    def first(self, y: np.ndarray) -> np.ndarray:
        """Return what was unfolded, in the shape of the inner loss."""
        outputs = y.shape[1] // self.windows
        return self._inside(y[:: self.windows, :outputs])

    def _inside(self, f: np.ndarray) -> np.ndarray:
        return f if isinstance(self.inner, VectorLoss) else f[:, 0]

    def _targets(self, y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.first(y), s[:: self.windows]

    def value(self, f: Any, y: Any, s: Any) -> float:
        return self.inner.value(self.fold(f), *self._targets(y, s))

    def gradient(self, f: Any, y: Any, s: Any) -> Any:
        return self.unfold(self.inner.gradient(self.fold(f), *self._targets(y, s)))

    def hessian(self, f: Any, y: Any, s: Any) -> Any:
        return self.unfold(self.inner.hessian(self.fold(f), *self._targets(y, s)))

    def curve(self, f: np.ndarray, y: np.ndarray, s: np.ndarray, V: np.ndarray) -> np.ndarray:
        at, along = (self.fold(f), *self._targets(y, s)), self.fold(V)
        if isinstance(self.inner, VectorLoss):
            return self.unfold(self.inner.curve(*at, along))
        return self.unfold(self.inner.hessian(*at) * along)

    def conjugate(self, z: Any, y: Any, s: Any) -> float:
        one = self.first(z)
        if not np.array_equal(self.unfold(one), z):
            return float("inf")
        return self.inner.conjugate(one, *self._targets(y, s))

    def best_scale(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray, limit: float) -> float:
        return self.inner.best_scale(self.first(Z), *self._targets(y, s), limit)

    def intercept(self, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> Any:
        """The best constants in equal shares, shape (windows * outputs,)."""
        c = np.atleast_1d(self.inner.intercept(self.fold(f), *self._targets(y, s)))
        return np.tile(c, self.windows) / self.windows

    def balance(self, Z: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return self.unfold(self.inner.balance(self.first(Z)))

    def nearest(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        return self.unfold(self.inner.nearest(self.first(Z), *self._targets(y, s)))


def unfold_problem(problem: Problem, windows: int) -> Problem:
    """Return the problem whose networks have an output for every window and output; X stays as it is."""
    loss = Unfolded(problem.loss, windows)
    y, weights = loss.unfold(problem.y), np.repeat(problem.weights, windows)
    return replace(problem, y=y, weights=weights, loss=loss)
