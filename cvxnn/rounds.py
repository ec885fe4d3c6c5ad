"""Rounds of training as tasks of scikit-learn's callbacks.

scikit-learn 1.9 brought callbacks (experimental), as in ``model.set_callbacks(ProgressBar())``. Here a fit
is the root task and every round of training is a task below it, of a number that is not known before; a
callback that asks for the fitted estimator gets one with the best network so far, and one that answers True
ends the training, which keeps that network and certifies it. With an older scikit-learn estimators have no
``set_callbacks``, and nothing else changes.

Reference: scikit-learn's developer guide, "Callbacks".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .train import Moment

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Rounds", "has_callbacks", "with_callbacks"]


def has_callbacks(estimator: Any) -> bool:
    """Whether anybody listens to a training: callbacks of the estimator or of a meta-estimator."""
    return bool(getattr(estimator, "_skl_callbacks", None)) or hasattr(estimator, "_parent_callback_ctx")


class Rounds:
    """Tells an estimator's callbacks of every round of its training.

    Parameters
    ----------
    estimator : estimator with ``set_callbacks``
    X, y : the data that are trained on, for callbacks that score
    also : callable(Moment), or None
        Told as well.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, also: Callable[[Moment], Any] | None = None) -> None:
        self.estimator, self.data, self.also = estimator, {"X": X, "y": y}, also
        self.fit = estimator._init_callback_context(max_subtasks=None)
        self.fit.call_on_fit_task_begin(estimator=estimator, **self.data)
        self.round = self._begin()

    def _begin(self) -> Any:
        task = self.fit.subcontext(task_name="round")
        return task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def __call__(self, moment: Moment) -> bool:
        """End the round, and begin the next; True asks to stop."""
        stop = bool(self.also is not None and self.also(moment))
        fitted = None if moment.network is None else {"network_": moment.network}
        stop |= bool(
            self.round.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=fitted, **self.data
            )
        )
        self.round = self._begin()
        return stop

    def end(self, network: Any) -> None:
        """End the last round and the fit."""
        fitted = {"network_": network}
        for task in (self.round, self.fit):
            task.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=fitted, **self.data
            )
