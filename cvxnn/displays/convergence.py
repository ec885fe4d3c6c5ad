"""Objective and proven bound over time: how the gap closes.

The objective of the best network so far falls, the largest lower bound proven so far rises, and the least
objective of any network is in the shaded band between them. Where nothing is proven on the way (training
proves its bound once, at the end) the final bound is drawn over all of the time, as it holds for
every network, and the legend says when it was proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..certificate import Certificate
from ..train import Moment
from .drawing import BLUE, GREEN, LEAST_GAP, LEGEND, ORANGE, log_axis, merged, needs_matplotlib, one_axes

#: What may be drawn over time.
QUANTITIES = ("objective", "gap")


class ConvergenceDisplay:
    """Objective, proven lower bound and the gap between them over time.

    Make one with :meth:`from_estimator` or :meth:`from_history`.

    Parameters
    ----------
    seconds : ndarray of shape (k,)
        Of training, increasing.
    objective : ndarray of shape (k,)
        Of the best network at each time, per sample.
    bound : ndarray of shape (k,)
        Proven per sample until then; NaN while nothing is proven.
    search_gap : ndarray of shape (k,), default=None
        The relative gap if the best neurons found were the best there are; no proof.
    final_bound : float, default=None
        Proven at the end. None is the last of `bound`.
    width : int, default=None
        Number of neurons at the end, for the legend.
    name : str, default=None
        Of the method, for the legend.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    lines_ : list of Line2D
        The objective (or gap), and the bound (or search gap).
    band_ : PolyCollection or None
        The shaded gap; None where nothing is proven, and in a picture of gaps.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_diabetes
    >>> from cvxnn import ConvergenceDisplay, ConvexNetRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ConvexNetRegressor(alpha=0.5).fit(X / X.std(axis=0), y / y.std())
    >>> display = ConvergenceDisplay.from_estimator(model)
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        seconds: np.ndarray,
        objective: np.ndarray,
        bound: np.ndarray,
        search_gap: np.ndarray | None = None,
        final_bound: float | None = None,
        width: int | None = None,
        name: str | None = None,
    ) -> None:
        self.seconds = seconds
        self.objective = objective
        self.bound = bound
        self.search_gap = search_gap
        self.final_bound = final_bound
        self.width = width
        self.name = name

    @classmethod
    @needs_matplotlib
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> Any:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : ConvexNetRegressor, ConvexNetClassifier or one that chose alpha
            Fitted.
        name : str, default=None
            For the legend.
        ax : Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        TypeError
            If the estimator keeps no history of its training.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"{type(estimator).__name__} keeps no history: pass a ConvexNetRegressor or "
                "ConvexNetClassifier, or draw a path with PathDisplay"
            )
        return cls.from_history(estimator.history_, estimator.certificate_, name=name, ax=ax, **kwargs)

    @classmethod
    @needs_matplotlib
    def from_history(
        cls,
        history: Sequence[Moment],
        certificate: Certificate | None = None,
        *,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw a list of moments, such as ``history_`` of an estimator or what a callback collected.

        Parameters
        ----------
        history : list of Moment
        certificate : Certificate, default=None
            Of the network at the end; its bound is drawn where the history has none.
        name : str, default=None
        ax : Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        ValueError
            If the history is empty.
        """
        if not history:
            raise ValueError("the history is empty: pass history_ of a fitted estimator")
        bound = np.array([moment.bound for moment in history])
        display = cls(
            seconds=np.array([moment.seconds for moment in history]),
            # rounds on the way may be worse than one before; what training would return is not
            objective=np.minimum.accumulate([moment.objective for moment in history]),
            bound=np.fmax.accumulate(np.where(bound > 0.0, bound, np.nan)),
            search_gap=_best_known([moment.search_gap for moment in history]),
            final_bound=None if certificate is None else certificate.lower_bound,
            width=history[-1].width if certificate is None else certificate.width,
            name=name,
        )
        return display.plot(ax, **kwargs)

    @needs_matplotlib
    def plot(
        self,
        ax: Any = None,
        *,
        quantity: str = "objective",
        until: float | None = None,
        line_kw: dict[str, Any] | None = None,
        bound_kw: dict[str, Any] | None = None,
    ) -> ConvergenceDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            None makes a figure.
        quantity : {"objective", "gap"}, default="objective"
            Objective and bound with the gap shaded, or the relative gaps on a logarithmic axis.
        until : float, default=None
            Seconds up to which final values are drawn on, to compare with something slower.
        line_kw, bound_kw : dict, default=None
            Of matplotlib's ``plot``, for the first line and for the second.

        Returns
        -------
        self
        """
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity={quantity!r} is unknown: pass one of {QUANTITIES}")
        self.ax_ = one_axes(ax)
        self.figure_ = self.ax_.figure
        self.lines_: list[Any] = []
        self.band_ = None
        self._until = until
        first = merged({"color": BLUE, "marker": "o", "markersize": 4, "linestyle": "-"}, line_kw)
        if quantity == "objective":
            self._plot_objective(first, bound_kw)
        else:
            self._plot_gaps(first, bound_kw)
        seconds = self._extended(self.seconds, True)
        if seconds[0] > 0.0 and seconds[-1] > 4.0 * seconds[0]:
            log_axis(self.ax_.xaxis, seconds[0], seconds[-1])
        self.ax_.set_xlabel("time (s)")
        self.ax_.legend(**LEGEND)
        return self

    def _extended(self, values: np.ndarray, time: bool = False) -> np.ndarray:
        """Values with the last one drawn on to the time that was asked for."""
        if self._until is None or self._until <= self.seconds[-1]:
            return np.asarray(values)
        return np.append(values, self._until if time else values[-1])

    def _proven(self) -> tuple[np.ndarray, str]:
        """The bound to draw at each time, and what the legend says of it."""
        final = self.bound[-1] if self.final_bound is None else self.final_bound
        if np.isfinite(self.bound[:-1]).any():
            return self.bound, "proven lower bound"
        if np.isfinite(final) and final > 0.0:
            return np.full(len(self.seconds), final), "lower bound, proven at the end"
        return np.full(len(self.seconds), np.nan), ""

    def _plot_objective(self, line_kw: dict[str, Any], bound_kw: dict[str, Any] | None) -> None:
        seconds, objective = self._extended(self.seconds, True), self._extended(self.objective)
        bound, said = self._proven()
        bound = self._extended(bound)
        neurons = "" if self.width is None else f", {self.width} neuron{'s' if self.width != 1 else ''}"
        label = f"{self.name}, objective" if self.name else "objective of the best network"
        self.lines_ += self.ax_.step(
            seconds, objective, where="post", **{"label": label + neurons, **line_kw}
        )
        if said:
            style = {"color": GREEN, "linestyle": "--", "label": said}
            self.lines_ += self.ax_.step(seconds, bound, where="post", **merged(style, bound_kw))
            self.band_ = self.ax_.fill_between(
                seconds, bound, objective, step="post", color=BLUE, alpha=0.15, linewidth=0, label="gap"
            )
        # a bound far below or a wide range of objectives needs a logarithm, near values do not
        values = np.concatenate([objective, bound[np.isfinite(bound)]])
        if values.min() > 0.0 and values.max() > 3.0 * values.min():
            log_axis(self.ax_.yaxis, values.min(), values.max())
        self.ax_.set_ylabel("objective per sample")

    def _plot_gaps(self, line_kw: dict[str, Any], bound_kw: dict[str, Any] | None) -> None:
        bound, said = self._proven()
        seconds = self._extended(self.seconds, True)
        if said:
            size = np.where(self.objective == 0.0, 1.0, np.abs(self.objective))
            gap = np.maximum((self.objective - bound) / size, LEAST_GAP)
            label = "proven gap" if said == "proven lower bound" else "gap to the bound proven at the end"
            self.lines_ += self.ax_.step(
                seconds, self._extended(gap), where="post", **{"label": label, **line_kw}
            )
        if self.search_gap is not None:
            style = {"color": ORANGE, "linestyle": ":", "marker": "s", "markersize": 4}
            style["label"] = "search gap (no proof)"
            self.lines_ += self.ax_.step(
                seconds,
                self._extended(np.maximum(self.search_gap, LEAST_GAP)),
                where="post",
                **merged(style, bound_kw),
            )
        values = np.concatenate([line.get_ydata() for line in self.lines_] or [np.ones(1)])
        log_axis(self.ax_.yaxis, values.min(), values.max())
        self.ax_.set_ylabel("gap / objective")


def _best_known(gaps: list[float]) -> np.ndarray:
    """Search gaps that do not rise again where a new search begins; the last is that of the end."""
    return np.append(np.minimum.accumulate(gaps[:-1]), gaps[-1])
