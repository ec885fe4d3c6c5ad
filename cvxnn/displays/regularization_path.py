"""Networks along alpha: how many neurons, how large, how good on new data, and how well proven.

Stronger weight decay is to the right. The score is drawn of the training samples and, where they are
given, of samples held out; estimators that chose alpha by cross-validation have the mean over folds with
one standard error, and the alpha they chose.

Reference: Friedman, Hastie and Tibshirani, J. Stat. Softw. 2010 (pictures of paths, one standard error).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted

from ..arrays import to_numpy
from ..losses import Loss, get_loss
from ..network import Affine, Gated, GatedConv, Network
from ..paths import Path
from .drawing import (
    BLACK,
    BLUE,
    GREEN,
    LEAST_GAP,
    LEGEND,
    ORANGE,
    VERMILION,
    grid_axes,
    log_axis,
    needs_matplotlib,
)

#: The panels there may be, from top to bottom, and their labels.
PANELS = {
    "score": "score",
    "neurons": "neurons",
    "norms": "size of neurons\n|w| |a|",
    "gap": "gap / objective",
}


class PathDisplay:
    """Neurons, their sizes, scores and gaps of networks along a grid of alpha.

    Make one with :meth:`from_estimator` (`ConvexNetPath`, or an estimator that chose alpha by
    cross-validation) or :meth:`from_path` (what :func:`cvxnn.path` returns).

    Parameters
    ----------
    alphas : ndarray of shape (k,)
        Strengths, descending.
    widths : ndarray of shape (k,), or (k, folds)
        Numbers of neurons.
    norms : list of ndarray, default=None
        For each alpha the sizes of its neurons: norm of the weights times norm of the output weights.
    gaps, search_gaps : ndarrays of shape (k,), default=None
        Relative; proven, and as a search believes.
    train_scores, test_scores : ndarrays of shape (k,), or (k, folds), default=None
        Larger is better.
    score_name : str, default="score"
    alpha : float, default=None
        One that was chosen.

    Attributes
    ----------
    axes_ : ndarray of Axes
        A panel each, from top to bottom.
    panels_ : tuple of str
        What they show.
    figure_ : Figure
    lines_ : list of Line2D
    chosen_ : list of Line2D
        The chosen alpha in every panel; empty where none was chosen.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from cvxnn import PathDisplay, path
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.abs(X[:, 0])
    >>> display = PathDisplay.from_path(path(X, y, n_alphas=8), X[::2], y[::2], X[1::2], y[1::2])
    >>> display.panels_
    ('score', 'neurons', 'norms', 'gap')
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        alphas: np.ndarray,
        widths: np.ndarray,
        norms: list[np.ndarray] | None = None,
        gaps: np.ndarray | None = None,
        search_gaps: np.ndarray | None = None,
        train_scores: np.ndarray | None = None,
        test_scores: np.ndarray | None = None,
        score_name: str = "score",
        alpha: float | None = None,
    ) -> None:
        self.alphas = alphas
        self.widths = widths
        self.norms = norms
        self.gaps = gaps
        self.search_gaps = search_gaps
        self.train_scores = train_scores
        self.test_scores = test_scores
        self.score_name = score_name
        self.alpha = alpha

    @classmethod
    @needs_matplotlib
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the path of a fitted estimator.

        Parameters
        ----------
        estimator : ConvexNetPath, ConvexNetRegressorCV or ConvexNetClassifierCV
            Fitted. Of the latter two the scores are those of the folds.
        X, y : array-likes, default=None
            The training data, for their score; of `ConvexNetPath` only.
        X_val, y_val : array-likes, default=None
            Data held out.
        ax : Axes or array of Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        PathDisplay

        Raises
        ------
        TypeError
            If the estimator trained at one alpha.
        """
        check_is_fitted(estimator)
        if hasattr(estimator, "path_"):
            classes = getattr(estimator, "classes_", None)
            return cls._of_path(estimator.path_, estimator.loss, classes, (X, y), (X_val, y_val)).plot(
                ax, **kwargs
            )
        if not hasattr(estimator, "scores_"):
            raise TypeError(
                f"{type(estimator).__name__} trained at one alpha: pass a ConvexNetPath, a "
                "ConvexNetRegressorCV or ConvexNetClassifierCV, or draw it with ConvergenceDisplay"
            )
        if any(part is not None for part in (X, y, X_val, y_val)):
            raise ValueError(
                "the scores of an estimator that chose alpha are those of its folds: pass no data, or a "
                "ConvexNetPath"
            )
        scoring = estimator.scoring
        name = scoring if isinstance(scoring, str) else ("score" if scoring else estimator._default_scoring)
        return cls(
            alphas=estimator.alphas_,
            widths=estimator.widths_,
            test_scores=estimator.scores_,
            score_name=name.replace("_", " "),
            alpha=estimator.alpha_,
        ).plot(ax, **kwargs)

    @classmethod
    @needs_matplotlib
    def from_path(
        cls,
        path: Path,
        X: Any = None,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        loss: str | Loss = "squared_error",
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw what :func:`cvxnn.path` returned.

        Parameters
        ----------
        path : Path
        X, y : array-likes, default=None
            The training data, for their score.
        X_val, y_val : array-likes, default=None
            Data held out.
        loss : str or Loss, default="squared_error"
            The loss of the path: for one of classes the score is accuracy, else R².
        ax : Axes or array of Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        PathDisplay
        """
        classes = None
        if get_loss(loss).classification and (y is not None or y_val is not None):
            classes = np.unique(np.asarray(y if y is not None else y_val))
        return cls._of_path(path, loss, classes, (X, y), (X_val, y_val)).plot(ax, **kwargs)

    @classmethod
    def _of_path(
        cls, path: Path, loss: str | Loss, classes: np.ndarray | None, train: Any, held_out: Any
    ) -> PathDisplay:
        chosen = get_loss(loss)
        certificates = path.certificates
        return cls(
            alphas=path.alphas,
            widths=path.widths,
            norms=[sizes(network) for network in path.networks],
            gaps=np.array([certificate.gap for certificate in certificates]),
            search_gaps=np.array([certificate.search_gap for certificate in certificates]),
            train_scores=_scores(path, chosen, classes, *train),
            test_scores=_scores(path, chosen, classes, *held_out),
            score_name="accuracy" if chosen.classification else "R²",
        )

    def _available(self) -> tuple[str, ...]:
        has = {
            "score": self.train_scores is not None or self.test_scores is not None,
            "neurons": True,
            "norms": self.norms is not None,
            "gap": self.gaps is not None,
        }
        return tuple(panel for panel in PANELS if has[panel])

    @needs_matplotlib
    def plot(self, ax: Any = None, *, panels: Any = None) -> PathDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes or array of Axes, default=None
            One is divided into panels, several are a panel each; None makes a figure.
        panels : list of {"score", "neurons", "norms", "gap"}, default=None
            None draws all there is something to show in.

        Returns
        -------
        self
        """
        there = self._available()
        panels = there if panels is None else ((panels,) if isinstance(panels, str) else tuple(panels))
        unknown = [panel for panel in panels if panel not in there]
        if unknown or not panels:
            raise ValueError(f"panels={list(panels)} cannot all be drawn: choose of {list(there)}")
        grid = grid_axes(ax, len(panels), size=(6.4, 2.1), sharex=True)
        self.axes_, self.panels_ = grid[:, 0], panels
        self.figure_ = self.axes_[0].figure
        self.lines_: list[Any] = []
        self.chosen_: list[Any] = []
        draw = {
            "score": self._plot_scores,
            "neurons": self._plot_neurons,
            "norms": self._plot_norms,
            "gap": self._plot_gaps,
        }
        for axis, panel in zip(self.axes_, panels, strict=True):
            draw[panel](axis)
            axis.set_ylabel(self.score_name if panel == "score" else PANELS[panel])
            if self.alpha is not None:
                label = f"chosen: alpha = {self.alpha:.3g}"
                self.chosen_.append(
                    axis.axvline(self.alpha, color=BLACK, linestyle=":", linewidth=1, label=label)
                )
            if axis.get_legend_handles_labels()[1] and (panel != "neurons" or len(panels) == 1):
                axis.legend(**LEGEND)
        if len(self.alphas) > 1 and np.all(self.alphas > 0.0):
            log_axis(self.axes_[-1].xaxis, self.alphas.min(), self.alphas.max())
        self.axes_[-1].set_xlabel("alpha (strength of weight decay)")
        return self

    def _plot_scores(self, axis: Any) -> None:
        for scores, name, color, marker, dash in (
            (self.train_scores, "training samples", ORANGE, "s", "--"),
            (self.test_scores, "samples held out", BLUE, "o", "-"),
        ):
            if scores is None:
                continue
            mean = scores if scores.ndim == 1 else scores.mean(axis=1)
            if scores.ndim == 2:
                folds = scores.shape[1]
                name = f"mean of {folds} folds ± 1 standard error"
                error = scores.std(axis=1, ddof=min(1, folds - 1)) / np.sqrt(folds)
                axis.fill_between(
                    self.alphas, mean - error, mean + error, color=color, alpha=0.2, linewidth=0
                )
            self.lines_ += axis.plot(
                self.alphas, mean, color=color, marker=marker, linestyle=dash, markersize=4, label=name
            )

    def _plot_neurons(self, axis: Any) -> None:
        widths = self.widths if self.widths.ndim == 1 else self.widths.mean(axis=1)
        if self.widths.ndim == 2:
            low, high = self.widths.min(axis=1), self.widths.max(axis=1)
            axis.fill_between(
                self.alphas, low, high, color=GREEN, alpha=0.2, linewidth=0, label="range of the folds"
            )
        self.lines_ += axis.plot(self.alphas, widths, color=GREEN, marker="D", markersize=4)
        axis.set_ylim(bottom=0)

    def _plot_norms(self, axis: Any) -> None:
        assert self.norms is not None
        at = np.repeat(self.alphas, [len(norms) for norms in self.norms])
        every = np.concatenate(self.norms) if self.norms else np.zeros(0)
        self.lines_ += axis.plot(
            at, every, color=BLUE, marker="_", markersize=8, linestyle="none", label="each neuron"
        )
        total = np.array([norms.sum() for norms in self.norms])
        # a logarithm has no place for the empty network at alpha_max
        total = np.where(total > 0.0, total, np.nan)
        self.lines_ += axis.plot(
            self.alphas, total, color=VERMILION, marker="^", markersize=4, linestyle="--", label="sum"
        )
        positive = every[every > 0.0]
        if len(positive):
            log_axis(axis.yaxis, positive.min(), np.nanmax(total))

    def _plot_gaps(self, axis: Any) -> None:
        kinds = [(self.gaps, "proven gap", BLUE, "o", "-")]
        kinds.append((self.search_gaps, "search gap (no proof)", ORANGE, "s", ":"))
        shown = [(np.maximum(gaps, LEAST_GAP), *style) for gaps, *style in kinds if gaps is not None]
        for gaps, name, color, marker, dash in shown:
            self.lines_ += axis.plot(
                self.alphas, gaps, color=color, marker=marker, linestyle=dash, markersize=4, label=name
            )
        values = np.concatenate([gaps for gaps, *_ in shown])
        log_axis(axis.yaxis, values.min(), values.max())


def sizes(network: Network) -> np.ndarray:
    """Norm of the weights times norm of the output weights of each neuron of the last hidden layer.

    Of a deep network the weights are those of the last hidden layer; pooled and bilinear units have the
    norms of their output weights alone.
    """
    last = network.layers[-1]
    assert isinstance(last, Affine)
    out = np.linalg.norm(last.weight, axis=1)
    inner = [layer for layer in network.layers[:-1] if isinstance(layer, Affine | Gated | GatedConv)]
    if not inner or inner[-1].weight.shape[1] != len(out):
        return out
    weights = inner[-1]
    return out * np.sqrt(np.sum(weights.weight**2, axis=0) + weights.bias**2)


def _scores(path: Path, loss: Loss, classes: np.ndarray | None, X: Any, y: Any) -> np.ndarray | None:
    """Score of every network of a path, (k,): accuracy for a loss of classes, else R²."""
    if X is None and y is None:
        return None
    if X is None or y is None:
        raise ValueError("a score needs samples and their targets: pass both X and y, or X_val and y_val")
    X, y = to_numpy(X), np.asarray(y)
    if classes is None:
        return np.array([r2_score(y, loss.mean(network(X))) for network in path.networks])
    scores = []
    for network in path.networks:
        f = network(X)
        chosen = (f > 0.0).astype(int) if f.ndim == 1 else np.argmax(f, axis=1)
        scores.append(accuracy_score(y, classes[chosen]))
    return np.array(scores)
