"""Neurons as the samples see them: which side of its kink each sample is on, and how far away.

A neuron divides the samples by a hyperplane. Each one has a row: the signed distances of the samples to
its kink, with those it is active on, those it is not, and those its kink runs through (at an optimal
network there are many of these), and, with more than two features, the weights that make the hyperplane.

Reference: Pilanci, "From complexity to clarity", TMLR 2024 (hyperplanes through samples).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import to_numpy
from ..hyperplanes import hyperplanes
from ..network import Network
from .drawing import (
    BLACK,
    BLUE,
    GREY,
    LEGEND,
    VERMILION,
    grid_axes,
    names_of,
    needs_matplotlib,
    plain,
    spread_out,
)
from .source import network_of

#: Bars in the picture of a neuron's weights: the largest ones.
BARS = 8


class NeuronDisplay:
    """The neurons of a first hidden layer, largest first: samples on both sides of the kink, and weights.

    Make one with :meth:`from_estimator` or :meth:`from_network`. For ReLU, leaky, absolute, threshold and
    gated neurons, with one or several outputs; of a gated one the hyperplane is that of its gate.

    Parameters
    ----------
    distances : ndarray of shape (n, k)
        Signed distances to each kink, in units of the features, positive where active; NaN for a
        neuron that sees no feature.
    on_kink : ndarray of bool of shape (n, k)
        The samples that a kink runs through.
    weights : ndarray of shape (d, k)
    biases : ndarray of shape (k,)
    output_weights : ndarray of shape (k, outputs)
    neurons : ndarray of shape (k,)
        Their numbers in the network.
    feature_names : list of str, default=None
        None calls them x0, x1, ...
    both_sides : bool, default=False
        Whether neurons answer on both sides of their kink, as leaky and absolute ones do.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (k, 1) or (k, 2)
        A row for each neuron: samples, and with more than two features weights.
    figure_ : Figure
    scatters_ : list of list of PathCollection
        For each neuron the samples it is active on, not active on, and on its kink.
    bars_ : list of BarContainer

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from cvxnn import Network, NeuronDisplay
    >>> net = Network.two_layer(np.eye(3), np.zeros(3), np.array([1.0, -1.0, 0.5]))
    >>> NeuronDisplay.from_network(net, np.eye(3) - 0.5, k=2).neurons
    array([0, 1])
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        distances: np.ndarray,
        on_kink: np.ndarray,
        weights: np.ndarray,
        biases: np.ndarray,
        output_weights: np.ndarray,
        neurons: np.ndarray,
        feature_names: list[str] | None = None,
        both_sides: bool = False,
    ) -> None:
        self.distances = distances
        self.on_kink = on_kink
        self.weights = weights
        self.biases = biases
        self.output_weights = output_weights
        self.neurons = neurons
        self.feature_names = feature_names
        self.both_sides = both_sides

    @classmethod
    @needs_matplotlib
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        k: int = 6,
        tol: float = 1e-6,
        feature_names: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the neurons of a fitted estimator.

        Parameters
        ----------
        estimator : ConvexNetRegressor, ConvexNetClassifier or a pipeline that ends with one
            Fitted. In a pipeline distances are in units of the transformed features.
        X : array-like of shape (n, d)
            Samples, the training data say.
        k : int, default=6
            How many neurons, the largest first; fewer if there are fewer.
        tol : float, default=1e-6
            What counts as on the kink, as in :func:`cvxnn.explain`.
        feature_names : list of str, default=None
            None takes those of the fit.
        ax : Axes or array of Axes, default=None
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        NeuronDisplay

        Raises
        ------
        ValueError
            If the neurons have no hyperplane, or there are none.
        """
        network, rows, names = network_of(estimator, X)
        names = names if feature_names is None else feature_names
        return cls.from_network(network, rows, k=k, tol=tol, feature_names=names, ax=ax, **kwargs)

    @classmethod
    @needs_matplotlib
    def from_network(
        cls,
        network: Network,
        X: Any,
        *,
        k: int = 6,
        tol: float = 1e-6,
        feature_names: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the neurons of a network.

        Parameters
        ----------
        network : Network
        X : array-like of shape (n, d)
        k, tol, feature_names, ax
            As for :meth:`from_estimator`.
        **kwargs
            Of :meth:`plot`.

        Returns
        -------
        NeuronDisplay

        Raises
        ------
        ValueError
            If the network has no neurons, or they have no hyperplane.
        """
        X = to_numpy(X)
        planes = hyperplanes(network)
        if X.ndim != 2 or X.shape[1] != network.n_features:
            raise ValueError(
                f"the network takes {network.n_features} features, X has shape {X.shape}: pass its data"
            )
        if not len(planes):
            raise ValueError("the network has no neurons: train it with a smaller alpha")
        if k < 1:
            raise ValueError(f"k={k!r} must be at least 1: how many neurons are drawn")
        # equal sizes keep their order
        chosen = np.argsort(-planes.sizes, kind="stable")[:k]
        return cls(
            distances=planes.distances(X)[:, chosen],
            on_kink=planes.touching(X, tol)[:, chosen],
            weights=planes.weights[:, chosen],
            biases=planes.biases[chosen],
            output_weights=planes.output_weights[chosen],
            neurons=chosen,
            both_sides=planes.both_sides,
            feature_names=None if feature_names is None else names_of(feature_names, X.shape[1]),
        ).plot(ax, **kwargs)

    @needs_matplotlib
    def plot(self, ax: Any = None) -> NeuronDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes or array of Axes, default=None
            One is divided, several are one for each panel; None makes a figure.

        Returns
        -------
        self
        """
        several = len(self.weights) > 2
        rows = len(self.neurons)
        self.axes_ = grid_axes(
            ax,
            rows,
            2 if several else 1,
            size=(8.8 if several else 6.4, 1.9 if several else 1.5),
            widths=(3.0, 2.0) if several else None,
        )
        self.figure_ = self.axes_[0, 0].figure
        self.scatters_: list[list[Any]] = []
        self.bars_: list[Any] = []
        for row in range(rows):
            self._plot_samples(self.axes_[row, 0], row)
            if several:
                self._plot_weights(self.axes_[row, 1], row)
        self.axes_[-1, 0].set_xlabel("signed distance to the kink (feature units)")
        if several:
            self.axes_[-1, 1].set_xlabel("weight")
        return self

    def _plot_samples(self, axis: Any, row: int) -> None:
        distance, on = self.distances[:, row], self.on_kink[:, row]
        height, active = spread_out(len(distance)), (distance > 0.0) & ~on
        size = 22.0 if len(distance) <= 200 else 10.0
        drawn = []
        for which, name, style in (
            (active, "positive side" if self.both_sides else "active", {"color": BLUE, "marker": "o"}),
            (
                ~active & ~on,
                "negative side" if self.both_sides else "not active",
                {"edgecolors": GREY, "facecolors": "none", "marker": "o"},
            ),
            (on, "on the kink", {"color": VERMILION, "marker": "D", "zorder": 3}),
        ):
            label = f"{int(which.sum())} {name}"
            drawn.append(
                axis.scatter(distance[which], height[which], s=size, linewidths=0.8, label=label, **style)
            )
        self.scatters_.append(drawn)
        axis.axvline(0.0, color=BLACK, linewidth=1)
        axis.set(yticks=[], ylim=(-0.06, 1.06))
        axis.set_title(self._title(row), fontsize="medium", loc="left")
        axis.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2, borderaxespad=0.2, **LEGEND
        )

    def _title(self, row: int) -> str:
        out = self.output_weights[row]
        if len(out) == 1:
            said = f"output weight {out[0]:+.3g}"
        elif len(out) <= 4:
            said = "output weights " + ", ".join(f"{value:+.2g}" for value in out)
        else:
            said = f"{len(out)} output weights of norm {np.linalg.norm(out):.3g}"
        if len(self.weights) <= 2:
            names = [plain(name) for name in names_of(self.feature_names, len(self.weights))]
            terms = [f"{w:+.3g} {name}" for w, name in zip(self.weights[:, row], names, strict=True)]
            bias = [f"{self.biases[row]:+.3g}"] if self.biases[row] else []
            said = f"{' '.join([*terms, *bias])};  {said}"
        return f"neuron {self.neurons[row]}:  {said}"

    def _plot_weights(self, axis: Any, row: int) -> None:
        names = [*map(plain, names_of(self.feature_names, len(self.weights))), "bias"]
        values = np.append(self.weights[:, row], self.biases[row])
        if not np.any(self.biases):
            names, values = names[:-1], values[:-1]
        largest = np.sort(np.argsort(-np.abs(values), kind="stable")[:BARS])
        colors = [BLUE if value >= 0.0 else VERMILION for value in values[largest]]
        bars = axis.barh(
            np.arange(len(largest)), values[largest], color=colors, edgecolor=BLACK, linewidth=0.5
        )
        for bar, value in zip(bars, values[largest], strict=True):
            bar.set_hatch("" if value >= 0.0 else "////")
        self.bars_.append(bars)
        axis.set_yticks(np.arange(len(largest)), [names[i] for i in largest], fontsize="x-small")
        axis.invert_yaxis()
        axis.axvline(0.0, color=BLACK, linewidth=0.8)
        if len(largest) < len(values):
            axis.set_title(f"{len(largest)} largest of {len(values)} weights", fontsize="small")
