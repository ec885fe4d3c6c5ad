r"""Layer-wise convolutional networks for images: greedy stages, each the optimum of a convex program.

Stage j draws random convolutional gates for its maps, solves its program (:mod:`cvxnn.conv_stage`: gated
convolution, average pooling, linear layer, squared error to -1 and +1) to its optimum, and certifies it.
The maps of the next stage are those of the leading filters of every gate, or a map of every class, scaled
so that patches have a mean square norm of one, with the maps of this stage if asked for, before some stages
at half the resolution. Everything works from chunks of samples.

**Certificates are per stage**: no weights for the same gates on the same frozen layers are better. Nothing
is claimed about the deep network, nor about other gates.

References: Belilovsky, Eickenberg and Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML
2019; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (convex stages).
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from array_api_compat import device, is_numpy_array
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .architectures.base import Stage
from .arrays import Array, array_namespace, asarray_like, on_device, to_numpy
from .certificate import Certificate
from .conv_maps import means_of_blocks, passed_on, space_to_depth, standardised, weights_like
from .conv_stage import PooledPatches, judge_stage, solve, stage_network
from .exporters import Exportable, Predictor
from .frozen_layers import features
from .network import Affine, Conv, GatedConv, Layer, Network
from .parameters import check_alpha, check_switch, seed_of
from .patches import Windows, image_shape, pair

#: Samples at most by which maps are scaled.
SIZED = 4096


class LayerwiseConvClassifier(Exportable, ClassifierMixin, BaseEstimator):
    """A deep convolutional network for images, trained stage by stage by convex programs.

    Every stage minimises ``(1 / n) sum_i 1/2 |f(x_i) - y_i|^2 + alpha/2 * sum_p ||Z_p||_F^2`` over the
    weights behind its fixed gates, targets -1 and +1 for every class. The penalty is the plain square of
    the published convex greedy networks, not the nuclear norm that weight decay of the stage's two layers
    would be.

    Parameters
    ----------
    alpha : float or sequence of float, default=1e-3
        Strength of the penalty per sample, > 0; a sequence has one for every stage. Later stages have
        longer patches and fit more, so they may need more.
    input_shape : int or tuple, default=(32, 32, 3)
        Height, width and channels of the images in the rows of X.
    stages : int, default=3
        Number of stages, each one convolution.
    gates : int or sequence of int, default=32
        Random gates of every stage; a sequence has a number for each.
    filters : int or "classes", default=1
        What the next stage sees: the maps of so many filters of every gate, its leading singular vectors
        (the published networks pass on one); or one map for every class, the sum of all gates' filters for
        it. With few gates the maps of the classes keep more of what was learned.
    kernel : int or (int, int), default=3
        Size of the windows; odd sizes keep the resolution.
    grid : int, default=2
        Cells of the average pooling along each axis, in front of the linear layer.
    down : tuple of int, default=(1, 2)
        Stages, counted from 0, that see their maps at half the resolution.
    downsampling : {"depth", "mean"}, default="depth"
        How: every 2 x 2 block of pixels moved into channels, of which there are four times as many then, or
        its mean.
    skip : bool, default=False
        Whether the next stage also sees the maps that the stage saw.
    precision : {"float32", "float64"}, default="float32"
        Of the products that the linear systems add up, and of maps in memory. Certificates are computed in
        float64 from the images themselves in any case.
    random_state : int, RandomState or None, default=0
        Seed of the gates.
    device : str or None, default=None
        A device of torch, such as "cuda", on which maps, features and linear systems are computed, and the
        certificates, in float64 there; its memory must hold the maps, and two matrices of the size
        min(features, samples) in float64. None computes in NumPy.
    verbose : int, default=0
        1 prints a line per stage.

    Attributes
    ----------
    stages_ : list of Stage
        Network and certificate of every stage, in order.
    network_, certificate_ : Network, Certificate
        Those of the last stage.
    scores_ : list of float
        Share of training samples that each stage classifies rightly.
    classes_ : ndarray of shape (classes,)
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from cvxnn import LayerwiseConvClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = LayerwiseConvClassifier(input_shape=(8, 8), stages=2, gates=8, down=(1,))
    >>> [stage.certificate.gap < 1e-3 for stage in clf.fit(X[:500], y[:500]).stages_]
    [True, True]
    """

    #: The family in which others judge the last stage; no family has the penalty that trains it.
    judged_as: ClassVar[str] = "layerwise_cnn"

    classes_: np.ndarray
    stages_: list[Stage]
    scores_: list[float]
    network_: Network
    certificate_: Certificate

    def __init__(
        self,
        alpha: Any = 1e-3,
        *,
        input_shape: Any = (32, 32, 3),
        stages: int = 3,
        gates: Any = 32,
        filters: Any = 1,
        kernel: Any = 3,
        grid: int = 2,
        down: tuple[int, ...] = (1, 2),
        downsampling: str = "depth",
        skip: bool = False,
        precision: str = "float32",
        random_state: Any = 0,
        device: str | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.alpha = alpha
        self.input_shape = input_shape
        self.stages = stages
        self.gates = gates
        self.filters = filters
        self.kernel = kernel
        self.grid = grid
        self.down = down
        self.downsampling = downsampling
        self.skip = skip
        self.precision = precision
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> LayerwiseConvClassifier:
        """Train all stages.

        Parameters
        ----------
        X : array-like of shape (n, height * width * channels)
            Flat images, row by row, channels last. Channels are standardised by the network's first layer.
        y : array-like of shape (n,)
            Labels of two or more classes.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters cannot be used; the message says what to pass instead.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32, np.uint8])
        Y = self._coded(y)
        rng = np.random.default_rng(seed_of(self.random_state))
        self.stages_, self.scores_ = [], []
        shape = image_shape(self.input_shape)
        made: tuple[Layer, ...] = (standardised(X, shape, self._patch(shape, 0)),)
        frozen: tuple[Layer, ...] = ()
        maps: Array = X
        for k in range(self.stages):
            if k in self.down:
                layer = space_to_depth(shape) if self.downsampling == "depth" else means_of_blocks(shape)
                shape, made = (shape[0] // 2, shape[1] // 2, layer.channels()), (*made, layer)
            # hidden maps of full size are large, and never held where they are made smaller
            frozen, maps = (*frozen, *made), self._made(made, maps)
            pooled, Z = self._train(X, maps, shape, Y, frozen, rng)
            if k + 1 < self.stages:
                hidden = passed_on(pooled, Z, self.filters, self.skip)
                shape = (*pooled.windows.out, hidden[-1].weight.shape[1])
                made = self._of_unit_size(hidden, maps, self._patch(shape, k + 1))
        return self

    def _made(self, layers: tuple[Layer, ...], maps: Array) -> Array:
        """What layers make of images or maps, chunk by chunk, kept in the precision and on the device."""
        out, step = None, self._rows(layers)
        for at in range(0, len(maps), step):
            part = maps[at : at + step]
            if is_numpy_array(part):
                part = on_device(part.astype(self.precision, copy=False), self.device)
            found = features(weights_like(layers, part), part)
            if out is None:
                shape = (len(maps), found.shape[1])
                out = array_namespace(found).empty(shape, dtype=found.dtype, device=device(found))
            out[at : at + step, :] = found
        return out

    def _rows(self, layers: tuple[Layer, ...]) -> int:
        """How many samples layers take at once: what they unfold into should fit the memory."""
        largest = [
            layer.windows.positions * (layer.windows.patch + layer.weight.shape[1])
            for layer in layers
            if isinstance(layer, Conv | GatedConv)
        ]
        return max(1, (1 << 24 if self.device is None else 1 << 28) // max(largest, default=1))

    def _of_unit_size(
        self, hidden: tuple[GatedConv | Conv, ...], maps: Array, patch: int
    ) -> tuple[GatedConv | Conv, ...]:
        """Hidden layers whose maps have the mean square 1 / patch, as samples at equal distances say."""
        *before, last = hidden
        made = self._made(hidden, maps[:: -(-len(maps) // SIZED)])
        xp, filters = array_namespace(made), last.weight.shape[1]
        sums = to_numpy(xp.sum(xp.astype(made, xp.float64) ** 2, axis=0))
        square = np.reshape(sums / len(made), (-1, filters)).mean(axis=0)
        scale = 1.0 / np.sqrt(np.where(square > 0.0, square, 1.0) * patch)
        return (*before, replace(last, weight=last.weight * scale))

    def _coded(self, y: np.ndarray) -> np.ndarray:
        """Targets -1 and +1 for every class, (n, classes)."""
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("y has one class only: pass samples of two or more")
        return 2.0 * np.eye(len(self.classes_))[codes] - 1.0

    def _patch(self, shape: tuple[int, int, int], stage: int) -> int:
        """The length of the patches that a stage makes of maps of some shape."""
        rows, columns = pair("kernel", self.kernel)
        moved = stage in self.down and self.downsampling == "depth"
        return rows * columns * shape[2] * (4 if moved else 1)

    def _train(
        self,
        X: np.ndarray,
        maps: Array,
        shape: tuple[int, int, int],
        Y: np.ndarray,
        frozen: tuple[Layer, ...],
        rng: np.random.Generator,
    ) -> tuple[PooledPatches, np.ndarray]:
        """Solve and certify one stage, and keep what it is; returns its features and weights."""
        size = pair("kernel", self.kernel)
        windows = Windows(shape, size, padding=(size[0] // 2, size[1] // 2))
        stage = len(self.stages_)
        gates, alpha = self._each("gates")[stage], self._each("alpha")[stage]
        pooled = PooledPatches.draw(maps, windows, gates, self.grid, rng)
        beta = float(alpha) * len(Y)
        Z = solve(pooled, lambda part: maps[part], Y, beta)

        there, step = weights_like(frozen, on_device(np.zeros(1), self.device)), self._rows(frozen)

        def exact(part: slice) -> Array:
            # frozen layers may be larger than what is trained on them
            ends = (slice(at, min(at + step, part.stop)) for at in range(part.start, part.stop, step))
            parts = [on_device(np.asarray(X[some], dtype=np.float64), self.device) for some in ends]
            made = [features(there, images) for images in parts]
            return made[0] if len(made) == 1 else array_namespace(made[0]).concat(made)

        behind = sum(isinstance(layer, GatedConv) for layer in frozen)
        verdict = judge_stage(pooled, exact, Y, Z, beta, behind)
        network, certificate = stage_network(frozen, pooled, Z, verdict.constant), verdict.certificate
        self.stages_.append(Stage(network, certificate))
        self.network_, self.certificate_ = network, certificate
        self.scores_.append(verdict.right)
        if self.verbose:
            print(
                f"stage {len(self.stages_)}: {verdict.right:.2%} right on the training data; {certificate}"
            )
        return pooled, Z

    def _each(self, name: str) -> list[Any]:
        """A parameter that may differ from stage to stage, for every stage."""
        value = getattr(self, name)
        if not isinstance(value, list | tuple | np.ndarray):
            return [value] * self.stages
        if len(value) != self.stages:
            raise ValueError(
                f"{name} has {len(value)} values for {self.stages} stages: pass one, or one for each stage"
            )
        return list(value)

    def _outputs(self, network: Network, X: np.ndarray) -> np.ndarray:
        """The outputs (n, classes) of a network, chunk by chunk.

        Neurons that share a gate are one product with its pooled patches, which is much less work than
        their maps.
        """
        *frozen, hidden, pool, last = network.layers
        assert isinstance(hidden, GatedConv) and isinstance(last, Affine)
        both, which = np.unique(np.vstack([hidden.gates, hidden.gate_bias]), axis=1, return_inverse=True)
        which = np.ravel(which)
        grid = pool.windows.out[0]  # type: ignore[union-attr]
        pooled = PooledPatches(hidden.windows, both[:-1], both[-1], grid)
        cells = last.weight.reshape(grid * grid, len(which), -1)
        Z = np.zeros((both.shape[1], grid * grid, hidden.windows.patch, cells.shape[2]))
        for p in range(both.shape[1]):
            own = which == p
            Z[p] = np.einsum("hj,ajc->ahc", hidden.weight[:, own], cells[:, own])
        like = on_device(np.zeros(1), self.device)
        there, flat = weights_like(tuple(frozen), like), asarray_like(Z.reshape(-1, cells.shape[2]), like)
        step, found = min(pooled.rows(), self._rows(tuple(frozen))), []
        for at in range(0, len(X), step):
            part = on_device(np.asarray(X[at : at + step], dtype=np.float64), self.device)
            found.append(to_numpy(pooled.flat(features(there, part)) @ flat) + last.bias)
        return np.concatenate(found)

    def _check(self) -> None:
        named = self.filters == "classes"
        for name in ("stages", "gates", *(() if named else ("filters",)), "grid"):
            for value in self._each(name) if name == "gates" else [getattr(self, name)]:
                if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
                    choices = " or 'classes'" if name == "filters" else ""
                    raise ValueError(f"{name}={value!r}: pass an integer of at least 1{choices}")
        for alpha in self._each("alpha"):
            check_alpha(alpha)
        check_switch("skip", self.skip)
        if self.device is not None and not isinstance(self.device, str):
            raise ValueError(f"device={self.device!r}: pass None or a device of torch such as 'cuda'")
        if self.downsampling not in ("depth", "mean"):
            raise ValueError(f"downsampling={self.downsampling!r} is unknown: pass 'depth' or 'mean'")
        if self.precision not in ("float32", "float64"):
            raise ValueError(f"precision={self.precision!r} is unknown: pass 'float32' or 'float64'")
        down = tuple(self.down) if isinstance(self.down, tuple | list | set | range) else None
        if down is None or not all(isinstance(k, numbers.Integral) for k in down):
            raise ValueError(f"down={self.down!r}: pass a tuple of stages, counted from 0, such as (1, 2)")

    def _images(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, dtype=[np.float64, np.float32, np.uint8], reset=False))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the outputs of the last stage.

        Parameters
        ----------
        X : array-like of shape (n, height * width * channels)

        Returns
        -------
        ndarray of shape (n, classes)
            The largest is the class.
        """
        return self._outputs(self.network_, self._images(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each sample.

        Parameters
        ----------
        X : array-like of shape (n, height * width * channels)

        Returns
        -------
        ndarray of shape (n,)
            Members of `classes_`.
        """
        return self.classes_[np.argmax(self.decision_function(X), axis=1)]

    def predictor(self) -> Predictor:
        """Return the last stage's network for an exporter, with its classes; inputs are flat images.

        Returns
        -------
        Predictor
        """
        check_is_fitted(self)
        return Predictor(self.network_.layers, classes=self.classes_, architecture="layerwise")

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Yield the classes that each stage predicts, in order.

        Parameters
        ----------
        X : array-like of shape (n, height * width * channels)

        Yields
        ------
        ndarray of shape (n,)
            Members of `classes_`.
        """
        images = self._images(X)
        for stage in self.stages_:
            yield self.classes_[np.argmax(self._outputs(stage.network, images), axis=1)]
