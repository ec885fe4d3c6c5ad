"""The function that was learned, with its kinks and the samples: one or two features at a time.

With one feature it is a curve and the kinks are points on it; with two a surface, or the regions of the
classes, and the neurons are lines. Lines and points are the zeros of the kinks' arguments on the grid, so
they are right for deep networks and behind a pipeline too. Of data with more features a slice is drawn:
the others are held at their medians, or at values of your choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from ..arrays import to_numpy
from ..network import Network
from .drawing import (
    BLACK,
    CYCLE,
    DASHES,
    GREY,
    HATCHES,
    LEGEND,
    MARKERS,
    SURFACE,
    names_of,
    needs_matplotlib,
    of_cycle,
    one_axes,
    plain,
)
from .slices import columns_of, crossings, held_at, on_grid
from .source import network_of


class DecisionDisplay:
    """The fitted function of one or two features, its kinks, and the samples.

    Make one with :meth:`from_estimator` or :meth:`from_network`.

    Parameters
    ----------
    grid : tuple of ndarray
        The values of the one feature, (g,), or of each of two.
    response : ndarray of shape (g,) or (g, outputs), or (g1, g0) or (g1, g0, outputs)
        The network's output on the grid, rows along the second feature; codes of classes, integers of
        shape (g1, g0), for regions.
    kinks : ndarray of shape (g, kinks) or (g1, g0, kinks)
        The arguments of all kinks on the grid.
    X : ndarray of shape (n, 1) or (n, 2)
        The samples.
    y : ndarray of shape (n,) or (n, outputs), default=None
        Targets, or codes of classes.
    classes : ndarray, default=None
        The classes of a classification.
    feature_names : list of str, default=None
    held : str, default=""
        What is said about the other features.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    lines_ : list
        One feature: a Line2D for each output. Two: the kinks' contour sets.
    kinks_ : list of PathCollection
        One feature: the kinks on each line.
    surface_ : QuadContourSet or None
        Two features: the surface or the regions.
    boundary_ : QuadContourSet or None
        Two features: where the class changes.
    samples_ : list of PathCollection

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from cvxnn import ConvexNetRegressor, DecisionDisplay
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = ConvexNetRegressor(alpha=1e-3).fit(X, np.abs(X[:, 0]))
    >>> display = DecisionDisplay.from_estimator(model, X, np.abs(X[:, 0]))
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        grid: tuple[np.ndarray, ...],
        response: np.ndarray,
        kinks: np.ndarray,
        X: np.ndarray,
        y: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        feature_names: list[str] | None = None,
        held: str = "",
    ) -> None:
        self.grid = grid
        self.response = response
        self.kinks = kinks
        self.X = X
        self.y = y
        self.classes = classes
        self.feature_names = feature_names
        self.held = held

    @classmethod
    @needs_matplotlib
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        features: Any = None,
        values: Any = None,
        grid_resolution: int = 200,
        feature_names: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the function of a fitted estimator.

        Parameters
        ----------
        estimator : ConvexNetRegressor, ConvexNetClassifier or a pipeline that ends with one
        X : array-like of shape (n, d)
            The samples.
        y : array-like of shape (n,) or (n, targets), default=None
            Their targets.
        features : int, str, or two of them, default=None
            What is drawn; None takes all of one or two features.
        values : array-like of shape (d,) or dict, default=None
            Where the other features are held, a dict by name or number; None takes their medians.
        grid_resolution : int, default=200
        feature_names : list of str, default=None
            None takes those of the fit.
        ax : Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        DecisionDisplay

        Raises
        ------
        ValueError
            If there are more than two features and `features` does not say which; with two features, if
            a regression has several targets.
        """
        network, _, names = network_of(estimator, X)
        if not isinstance(estimator, Pipeline):
            given = names if feature_names is None else feature_names
        else:
            given = getattr(estimator, "feature_names_in_", feature_names)
        steps = estimator[:-1] if isinstance(estimator, Pipeline) and len(estimator) > 1 else None

        def transform(Z: np.ndarray) -> np.ndarray:
            if steps is None:
                return Z
            if hasattr(steps, "feature_names_in_"):
                import pandas

                return to_numpy(steps.transform(pandas.DataFrame(Z, columns=steps.feature_names_in_)))
            return to_numpy(steps.transform(Z))

        classes = estimator.classes_ if is_classifier(estimator) else None
        display = cls._of(network, transform, X, y, classes, features, values, grid_resolution, given)
        return display.plot(ax, **kwargs)

    @classmethod
    @needs_matplotlib
    def from_network(
        cls,
        network: Network,
        X: Any,
        y: Any = None,
        *,
        classes: Any = None,
        features: Any = None,
        values: Any = None,
        grid_resolution: int = 200,
        feature_names: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the function of a network.

        Parameters
        ----------
        network : Network
        X : array-like of shape (n, d)
        y : array-like of shape (n,) or (n, targets), default=None
        classes : array-like, default=None
            In the order of the outputs (of two: the one of negative outputs first), if the network tells
            classes apart.
        features, values, grid_resolution, feature_names, ax
            As for :meth:`from_estimator`.
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        DecisionDisplay
        """
        classes = None if classes is None else np.asarray(classes)
        feature_names = getattr(X, "columns", None) if feature_names is None else feature_names
        display = cls._of(
            network, lambda Z: Z, X, y, classes, features, values, grid_resolution, feature_names
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def _of(
        cls,
        network: Network,
        transform: Any,
        X: Any,
        y: Any,
        classes: np.ndarray | None,
        features: Any,
        values: Any,
        resolution: int,
        feature_names: Any,
    ) -> DecisionDisplay:
        X = to_numpy(X)
        if X.ndim != 2:
            raise ValueError(f"X has shape {X.shape}: pass samples in rows")
        names = names_of(feature_names, X.shape[1])
        chosen = columns_of(features, names)
        base, held = held_at(X, values, names, chosen)
        grid, f, kinks = on_grid(network, transform, X, chosen, base, resolution)
        if len(chosen) == 2 and f.ndim == 3:
            if classes is None:
                raise ValueError(
                    f"a surface is of one output, and the network has {f.shape[2]}: draw one feature, "
                    "features=0 say, or a network of one output"
                )
            f = np.argmax(f, axis=2)
        if y is not None:
            y = np.asarray(y) if classes is None else np.searchsorted(classes, np.asarray(y))
        drawn = [names[k] for k in chosen]
        return cls(
            grid=grid,
            response=f,
            kinks=kinks,
            X=X[:, chosen],
            y=y,
            classes=classes,
            feature_names=drawn,
            held=held,
        )

    @needs_matplotlib
    def plot(
        self, ax: Any = None, *, show_kinks: bool = True, show_samples: bool = True
    ) -> DecisionDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
        show_kinks, show_samples : bool, default=True

        Returns
        -------
        self
        """
        self.ax_ = one_axes(ax)
        self.figure_ = self.ax_.figure
        self.lines_: list[Any] = []
        self.kinks_: list[Any] = []
        self.samples_: list[Any] = []
        self.surface_: Any = None
        self.boundary_: Any = None
        names = [plain(name) for name in names_of(self.feature_names, len(self.grid))]
        if len(self.grid) == 1:
            self._plot_curves(show_kinks)
        elif self.classes is None:
            self._plot_surface()
        else:
            self._plot_regions()
        if len(self.grid) == 2 and show_kinks:
            self._plot_lines()
        if show_samples:
            (self._plot_samples_1d if len(self.grid) == 1 else self._plot_samples_2d)()
        self.ax_.set_xlabel(names[0])
        if len(self.grid) == 2:
            self.ax_.set_ylabel(names[1])
        if self.held:
            self.ax_.set_title(plain(self.held), fontsize="small")
        if self.ax_.get_legend_handles_labels()[1]:
            self.ax_.legend(**LEGEND)
        return self

    def _plot_curves(self, show_kinks: bool) -> None:
        x = self.grid[0]
        curves = self.response[:, None] if self.response.ndim == 1 else self.response
        several = curves.shape[1] > 1
        bends = crossings(self.kinks) if show_kinks else np.zeros(len(x), dtype=bool)
        for k, f in enumerate(curves.T):
            color = of_cycle(CYCLE, k)
            name = "network"
            if several:
                name = f"output {k}" if self.classes is None else f"output of {self.classes[k]}"
            style = {"color": color, "linestyle": of_cycle(DASHES, k), "label": name, "zorder": 3}
            self.lines_ += self.ax_.plot(x, f, **style)
            if bends.any():
                label: str | None = "kinks" if k == 0 else None
                self.kinks_.append(
                    self.ax_.scatter(
                        x[bends],
                        f[bends],
                        marker="D",
                        s=22,
                        facecolors="white",
                        edgecolors=color,
                        zorder=4,
                        label=label,
                    )
                )
        if self.classes is None:
            self.ax_.set_ylabel("output")
        elif several:
            self.ax_.set_ylabel("output, the largest is predicted")
        else:
            self.ax_.axhline(0.0, color=GREY, linewidth=0.8)
            self.ax_.set_ylabel(f"output, {self.classes[1]} where positive")

    def _scatter(self, x: np.ndarray, y: np.ndarray, k: int, label: str | None, **style: Any) -> None:
        hollow = {"s": 16, "facecolors": "none", "edgecolors": of_cycle(CYCLE, k), "linewidths": 0.8}
        style = {"marker": of_cycle(MARKERS, k), "label": label, **(hollow | style)}
        self.samples_.append(self.ax_.scatter(x, y, **style))

    def _plot_samples_1d(self) -> None:
        x, below = self.X[:, 0], self.ax_.get_xaxis_transform()
        if self.y is None:
            style = {"marker": "|", "facecolors": GREY, "transform": below}
            self._scatter(x, np.full(len(x), 0.02), 0, f"{len(x)} samples", **style)
        elif self.classes is None:
            targets = self.y[:, None] if self.y.ndim == 1 else self.y
            grey = {"edgecolors": GREY} if targets.shape[1] == 1 else {}
            for k, target in enumerate(targets.T):
                self._scatter(x, target, k, "samples" if k == 0 else None, **grey)
        else:
            # room for a row of marks for each class below the curves
            self.ax_.margins(y=0.08 + 0.06 * len(self.classes))
            for k, name in enumerate(self.classes):
                its = x[self.y == k]
                self._scatter(
                    its, np.full(len(its), 0.03 + 0.05 * k), k, f"samples of {name}", transform=below
                )

    def _plot_surface(self) -> None:
        self.surface_ = self.ax_.contourf(*self.grid, self.response, levels=14, cmap=SURFACE)
        self.figure_.colorbar(self.surface_, ax=self.ax_, label="output")

    def _plot_regions(self) -> None:
        from matplotlib.colors import to_rgba

        assert self.classes is not None
        k = len(self.classes)
        codes = self.response if k > 2 else (self.response > 0.0).astype(int)
        colors = [to_rgba(of_cycle(CYCLE, i), 0.3) for i in range(k)]
        hatches = [of_cycle(HATCHES, i) for i in range(k)]
        self.surface_ = self.ax_.contourf(
            *self.grid, codes, levels=np.arange(-0.5, k), colors=colors, hatches=hatches
        )
        # hatches take this colour, pale enough not to hide samples
        self.surface_.set_edgecolor(to_rgba(GREY, 0.35))
        self.surface_.set_linewidth(0.0)
        if k == 2:
            self.boundary_ = self.ax_.contour(
                *self.grid, self.response, levels=[0.0], colors=BLACK, linewidths=1.6
            )
        else:
            self.boundary_ = self.ax_.contour(
                *self.grid, codes, levels=np.arange(0.5, k - 1), colors=BLACK, linewidths=1.2
            )

    def _plot_lines(self) -> None:
        style = {"colors": BLACK if self.classes is not None else "white", "linestyles": "--"}
        for k in range(self.kinks.shape[2]):
            at = self.kinks[:, :, k]
            if at.min() < 0.0 < at.max():
                self.lines_.append(self.ax_.contour(*self.grid, at, levels=[0.0], linewidths=0.9, **style))
        if self.lines_:
            color = GREY if self.classes is None else BLACK
            self.ax_.plot([], [], color=color, linestyle="--", linewidth=0.9, label="kinks of neurons")

    def _plot_samples_2d(self) -> None:
        x, y = self.X.T
        white = {"s": 24, "edgecolors": "white", "linewidths": 0.6}
        if self.y is None:
            self._scatter(x, y, 0, "samples", **(white | {"facecolors": GREY}))
        elif self.classes is None:
            # the colours of the surface, and of no face: scatter takes either
            shades = {"c": self.y, "cmap": SURFACE, "norm": self.surface_.norm, "facecolors": None}
            self._scatter(x, y, 0, "samples", **(white | shades))
        else:
            for k, name in enumerate(self.classes):
                its, style = self.y == k, white | {"facecolors": of_cycle(CYCLE, k)}
                self._scatter(x[its], y[its], k, str(name), **style)
