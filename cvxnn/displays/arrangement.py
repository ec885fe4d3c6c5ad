r"""Weight space, cut into cells by the samples, and where the neurons of a network are in it.

Each sample cuts the space of weights by the hyperplane :math:`\{u : x_i^\top u = 0\}`; on a cell between
them all neurons are active on the same samples. Only the direction of u matters, so a plane of weights
(two features without a bias, or one with it) is drawn as a disc of sectors, and weights in three
dimensions (two features and a bias) as a sphere seen from both sides, in the equal-area projection of
Lambert: discs of positive and of negative bias. The shade of a cell is the number of samples its neurons
are active on.

Reference: Pilanci and Ergen, ICML 2020, section 2 (the arrangement); Cover, 1965 (how many cells).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrangement import Arrangement, TooManyPatterns, patterns_of
from ..arrays import to_numpy
from ..hyperplanes import hyperplanes
from ..network import Network
from .drawing import BLACK, LEGEND, SURFACE, VERMILION, grid_axes, needs_matplotlib
from .source import network_of

#: Pixels along the diameter of a disc.
PIXELS = 401
#: Cells are counted up to here.
LIMIT = 50_000
#: Of neurons by the sign of their output weight; of several outputs there is no sign.
MARKS = {"neurons of output weight > 0": "^", "neurons of output weight < 0": "v", "neurons": "o"}


class ArrangementDisplay:
    """The cells of weight space (activation patterns), and the neurons of a network in them.

    Make one with :meth:`from_data`, :meth:`from_network` or :meth:`from_estimator`. For weights in two or
    three dimensions: one or two features, the bias included.

    Parameters
    ----------
    rows : ndarray of shape (n, 2) or (n, 3)
        Normals of the hyperplanes: the samples, with a one behind where there is a bias.
    n_cells : int or None
        How many cells there are; None where there are too many to count.
    neurons : ndarray of shape (2 or 3, m)
        Weights, or gates, of the neurons; m may be 0.
    sizes : ndarray of shape (m,)
        How much each counts.
    signs : ndarray of shape (m,)
        Of the output weight; 0 with several outputs.
    bias : bool
        Whether the last coordinate is a bias.

    Attributes
    ----------
    axes_ : ndarray of Axes
        One disc, or two.
    figure_ : Figure
    cells_ : list
        The shaded cells: wedges, or an image for each disc.
    neurons_ : list of PathCollection

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from cvxnn import ArrangementDisplay
    >>> ArrangementDisplay.from_data(np.eye(2), bias=False).n_cells
    4
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        rows: np.ndarray,
        n_cells: int | None,
        neurons: np.ndarray,
        sizes: np.ndarray,
        signs: np.ndarray,
        bias: bool,
    ) -> None:
        self.rows = rows
        self.n_cells = n_cells
        self.neurons = neurons
        self.sizes = sizes
        self.signs = signs
        self.bias = bias

    @classmethod
    @needs_matplotlib
    def from_data(cls, X: Any, *, bias: bool = True, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the arrangement of some samples.

        Parameters
        ----------
        X : array-like of shape (n, 1) or (n, 2)
        bias : bool, default=True
            Whether neurons have a bias.
        ax : Axes or array of Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        ArrangementDisplay

        Raises
        ------
        ValueError
            If the weights have fewer than two or more than three dimensions.
        """
        none = np.zeros((to_numpy(X).shape[-1] + bias, 0))
        return cls._of(X, none, np.zeros(0), np.zeros(0), bias).plot(ax, **kwargs)

    @classmethod
    @needs_matplotlib
    def from_network(
        cls, network: Network, X: Any, *, bias: bool | None = None, ax: Any = None, **kwargs: Any
    ) -> Any:
        """Draw the arrangement of some samples and the neurons of a network.

        Parameters
        ----------
        network : Network
        X : array-like of shape (n, 1) or (n, 2)
        bias : bool, default=None
            Whether neurons have a bias; None looks.
        ax : Axes or array of Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        ArrangementDisplay

        Raises
        ------
        ValueError
            If the weights have fewer than two or more than three dimensions, or neurons have no
            hyperplane.
        """
        planes = hyperplanes(network)
        bias = bool(np.any(planes.offsets)) if bias is None else bias
        neurons = np.vstack([planes.normals, planes.offsets]) if bias else planes.normals
        out = planes.output_weights
        signs = np.sign(out[:, 0]) if out.shape[1] == 1 else np.zeros(len(out))
        return cls._of(X, neurons, planes.sizes, signs, bias).plot(ax, **kwargs)

    @classmethod
    @needs_matplotlib
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the arrangement of the samples of a fitted estimator, or of a pipeline, and its neurons.

        Parameters
        ----------
        estimator : ConvexNetRegressor, ConvexNetClassifier or a pipeline that ends with one
        X : array-like of shape (n, 1) or (n, 2)
        ax : Axes or array of Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        ArrangementDisplay

        Raises
        ------
        ValueError
            As :meth:`from_network`.
        """
        network, rows, _ = network_of(estimator, X)
        model = estimator[-1] if hasattr(estimator, "steps") else estimator
        bias = True if getattr(model, "hidden_bias", None) is not None else None
        return cls.from_network(network, rows, bias=bias, ax=ax, **kwargs)

    @classmethod
    def _of(
        cls, X: Any, neurons: np.ndarray, sizes: np.ndarray, signs: np.ndarray, bias: bool
    ) -> ArrangementDisplay:
        X = to_numpy(X)
        if X.ndim != 2:
            raise ValueError(f"X has shape {X.shape}: pass samples in rows")
        rows = np.column_stack([X, np.ones(len(X))]) if bias else X
        if rows.shape[1] == 1:
            raise ValueError(
                "one weight has two cells, positive and negative: pass bias=True, or two features"
            )
        if rows.shape[1] > 3:
            raise ValueError(
                f"weights of {rows.shape[1]} dimensions cannot be drawn: pass one or two features (two "
                "principal components say), or count their cells with cvxnn.Arrangement.enumerate"
            )
        if len(neurons) != rows.shape[1]:
            raise ValueError(
                f"the network takes {len(neurons) - bias} features, X has shape {X.shape}: pass its data"
            )
        try:
            n_cells = len(Arrangement.enumerate(rows, limit=LIMIT))
        except TooManyPatterns:
            n_cells = None
        return cls(rows=rows, n_cells=n_cells, neurons=neurons, sizes=sizes, signs=signs, bias=bias)

    @needs_matplotlib
    def plot(self, ax: Any = None) -> ArrangementDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes or array of Axes, default=None
            Of weights in three dimensions one is divided, two are a disc each; None makes a figure.

        Returns
        -------
        self
        """
        flat = self.rows.shape[1] == 2
        size = (5.6, 4.6) if flat else (9.0, 4.6)
        self.axes_ = grid_axes(ax, 1, 1 if flat else 2, size=size)[0]
        self.figure_ = self.axes_[0].figure
        self.cells_: list[Any] = []
        self.neurons_: list[Any] = []
        if flat:
            self._plot_sectors(self.axes_[0])
        else:
            for axis, side in zip(self.axes_, (1.0, -1.0), strict=True):
                self._plot_side(axis, side)
        for axis in self.axes_:
            axis.set_aspect("equal")
            axis.set(xticks=[], yticks=[], xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
            for spine in axis.spines.values():
                spine.set_visible(False)
        self._label()
        return self

    def _label(self) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.lines import Line2D

        n = len(self.rows)
        cells = f"more than {LIMIT:,} cells" if self.n_cells is None else f"{self.n_cells:,} cells"
        said = f"{cells} of weight space, {n} samples"
        if self.rows.shape[1] == 2:
            self.axes_[0].set_title(said)
            self.axes_[0].set_xlabel("weight of x0")
            self.axes_[0].set_ylabel("bias" if self.bias else "weight of x1")
        else:
            third = "bias" if self.bias else "third weight"
            for axis, side in zip(self.axes_, (">", "<"), strict=True):
                axis.set_title(
                    f"{third} {side} 0" + (f"   ({said})" if side == ">" else ""), fontsize="medium"
                )
                axis.set_xlabel("weight of x0")
            self.axes_[0].set_ylabel("weight of x1")
        shades = ScalarMappable(Normalize(0, n), SURFACE)
        self.figure_.colorbar(shades, ax=list(self.axes_), label="samples that are active", shrink=0.8)
        if self.neurons_:
            marks = {artist.get_label(): artist for artist in self.neurons_}
            handles = [
                Line2D([], [], marker=MARKS[name], linestyle="none", color=VERMILION, label=name)
                for name in marks
            ]
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.09), "ncols": 2}
            self.axes_[0].legend(handles=handles, **place, **LEGEND)

    def _plot_sectors(self, axis: Any) -> None:
        from matplotlib import colormaps
        from matplotlib.patches import Wedge

        live = self.rows[np.any(self.rows != 0.0, axis=1)]
        normal = np.arctan2(live[:, 1], live[:, 0])
        edges = np.concatenate([normal + np.pi / 2, normal - np.pi / 2]) % (2 * np.pi)
        edges = np.sort(edges)
        edges = edges[np.append(True, np.diff(edges) > 1e-9)] if len(edges) else np.zeros(1)
        ends = np.append(edges[1:], edges[0] + 2 * np.pi)
        middle = (edges + ends) / 2.0
        active = patterns_of(self.rows, np.column_stack([np.cos(middle), np.sin(middle)])).sum(axis=1)
        shade = colormaps[SURFACE]
        for low, high, count in zip(edges, ends, active, strict=True):
            wedge = Wedge(
                (0.0, 0.0),
                1.0,
                np.degrees(low),
                np.degrees(high),
                facecolor=shade(count / max(len(self.rows), 1)),
                edgecolor="white",
                linewidth=0.6,
            )
            self.cells_.append(axis.add_patch(wedge))
        length = np.linalg.norm(self.neurons, axis=0)
        points = self.neurons / np.where(length > 0.0, length, 1.0)
        # the farther out, the more a neuron counts
        radius = 0.25 + 0.65 * self.sizes / max(self.sizes.max(initial=0.0), 1e-300)
        self._mark(axis, (points * radius).T, np.ones(len(self.sizes), dtype=bool))

    def _plot_side(self, axis: Any, side: float) -> None:
        from matplotlib.patches import Circle

        t = np.linspace(-1.0, 1.0, PIXELS)
        x, y = np.meshgrid(t, t)
        inside = x**2 + y**2 <= 1.0
        directions = lift(np.column_stack([x[inside], y[inside]]), side)
        counts, edge = np.full(x.shape, np.nan), np.zeros(x.shape, dtype=bool)
        codes = np.zeros((*x.shape, (len(self.rows) + 7) // 8), dtype=np.uint8)
        patterns = patterns_of(self.rows, directions)
        counts[inside] = patterns.sum(axis=1)
        codes[inside] = np.packbits(patterns, axis=1)
        # borders are seen where neighbouring pixels are in different cells, also of equal shades
        edge[:, 1:] |= (codes[:, 1:] != codes[:, :-1]).any(axis=2) & inside[:, 1:] & inside[:, :-1]
        edge[1:] |= (codes[1:] != codes[:-1]).any(axis=2) & inside[1:] & inside[:-1]
        self.cells_.append(
            axis.imshow(
                counts,
                extent=(-1, 1, -1, 1),
                origin="lower",
                cmap=SURFACE,
                vmin=0,
                vmax=len(self.rows),
                interpolation="nearest",
            )
        )
        axis.imshow(
            np.where(edge[..., None], 1.0, 0.0) * np.array([1.0, 1.0, 1.0, 0.55]),
            extent=(-1, 1, -1, 1),
            origin="lower",
            interpolation="nearest",
        )
        axis.add_patch(Circle((0.0, 0.0), 1.0, fill=False, color=BLACK, linewidth=0.8))
        here = self.neurons[2] > 0.0 if side > 0 else self.neurons[2] <= 0.0
        length = np.linalg.norm(self.neurons, axis=0)
        units = self.neurons / np.where(length > 0.0, length, 1.0)
        self._mark(axis, project(units.T), here & (length > 0.0))

    def _mark(self, axis: Any, points: np.ndarray, here: np.ndarray) -> None:
        largest = max(self.sizes.max(initial=0.0), 1e-300)
        for sign, (name, marker) in zip((1, -1, 0), MARKS.items(), strict=True):
            which = here & (self.signs == sign)
            # both discs have one legend
            if not np.any(self.signs == sign):
                continue
            self.neurons_.append(
                axis.scatter(
                    *points[which].T,
                    s=25 + 90 * self.sizes[which] / largest,
                    marker=marker,
                    color=VERMILION,
                    edgecolors="white",
                    linewidths=1.0,
                    label=name,
                    zorder=4,
                )
            )


def project(units: np.ndarray) -> np.ndarray:
    """Lambert's equal-area projection of unit vectors (m, 3) to a disc, the pole in its middle."""
    return units[:, :2] / np.sqrt(1.0 + np.abs(units[:, 2:]))


def lift(points: np.ndarray, side: float) -> np.ndarray:
    """The unit vectors (m, 3), on a side of the equator, of points (m, 2) in the disc."""
    squared = np.sum(points**2, axis=1, keepdims=True)
    return np.column_stack([points * np.sqrt(2.0 - squared), side * (1.0 - squared)])
