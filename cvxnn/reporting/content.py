"""What a report says, as data; :mod:`cvxnn.reporting.page` writes it down.

Everything a reader sees is here first, in full precision and in the reader's own names and units, so
that it can be checked, compared and used without the page. Rounding is the page's.

Reference: the separation of statistic and geometry in the grammar of graphics (Wilkinson, 2005).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..certificate import Certificate
from ..layers import Activation
from ..train import Moment


@dataclass(frozen=True)
class Concern:
    """Something about data or training that a reader should know.

    Parameters
    ----------
    grave : bool
        Whether results may be worthless because of it.
    title, advice : str
        What is the matter, and what to do.
    """

    grave: bool
    title: str
    advice: str


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear function of a person's values: ``weights'x + constant``.

    Parameters
    ----------
    names : tuple of str, length d
    weights : ndarray of shape (d,)
    constant : float
    strengths : ndarray of shape (d,)
        Each weight times the standard deviation of its value over the samples.
    kept : tuple of int
        The terms that a short form writes, the strongest first.
    short_constant : float
        The constant of the short form, in which the other terms are at their mean.
    agreement : float
        Share of the samples on which the short form has the sign of the whole one.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    constant: float
    strengths: np.ndarray
    kept: tuple[int, ...]
    short_constant: float
    agreement: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the function at values of shape (n, d), shape (n,)."""
        return values @ self.weights + self.constant

    def short(self, values: np.ndarray) -> np.ndarray:
        """Return the short form at values of shape (n, d), shape (n,)."""
        kept = list(self.kept)
        return values[:, kept] @ self.weights[kept] + self.short_constant

    @property
    def left_out(self) -> int:
        """How many terms that are not zero the short form leaves out."""
        return int(np.count_nonzero(self.weights)) - int(np.count_nonzero(self.weights[list(self.kept)]))


@dataclass(frozen=True, eq=False)
class Neuron:
    """A hidden neuron as a rule: when it fires, and what it then adds to the output.

    Its share of output k is ``outputs[k] * activation(rule)``; of a gated one ``outputs[k] * rule`` where
    ``gate >= 0``, of a product ``outputs[k] * rule * gate``.

    Parameters
    ----------
    number : int
        From 1, the most important first.
    kind : str
        "relu", "leaky_relu", "absolute", "threshold", "polynomial", "linear", "gated", "product";
        without a rule in values "filter" (of windows), "head" (a filter whose weight depends on the place,
        with the mean of what it adds in `outputs`) and "deep" (a unit that sees other units).
    rule : Linear or None
    gate : Linear or None
    activation : Activation or None
        None is the identity.
    outputs : ndarray of shape (outputs,)
        In the unit of predictions; the largest has size one where the rule can carry the rest.
    fires : float
        Share of the samples (of windows, for filters) on which it is active; nan where it is no question.
    spread : float
        Standard deviation over the samples of what it adds: the norm over outputs.
    importance : float
        Its spread as a share of those of all neurons.
    patch : ndarray of shape (height, width, channels), or None
        Weights of a filter.
    note : str
        What a rule cannot say.
    """

    number: int
    kind: str
    rule: Linear | None
    gate: Linear | None
    activation: Activation | None
    outputs: np.ndarray
    fires: float
    spread: float
    importance: float
    patch: np.ndarray | None = None
    note: str = ""

    def adds(self, values: np.ndarray) -> np.ndarray:
        """Return what it adds to each output at values of shape (n, d), shape (n, outputs).

        Raises
        ------
        ValueError
            If it has no rule in values.
        """
        if self.rule is None:
            raise ValueError(f"a neuron of kind {self.kind!r} has no rule in values: look at its patch")
        s = self.rule(values)
        h = s if self.activation is None else self.activation(s[:, None])[:, 0]
        if self.gate is not None:
            g = self.gate(values)
            h = h * (g if self.kind == "product" else g >= 0)
        return h[:, None] * self.outputs


@dataclass(frozen=True, eq=False)
class Picture:
    """A network with one or two inputs, as a function.

    Parameters
    ----------
    curves : tuple of ndarray, each of shape (points,)
        One input: the prediction over `grid`, a curve for each output.
    image : str
        Two inputs: a map as the address of an image (data:).
    """

    curves: tuple[np.ndarray, ...] = ()
    image: str = ""


@dataclass(frozen=True, eq=False)
class Canvas:
    """What the pictures of all networks share.

    Parameters
    ----------
    names : tuple of str
        Of the one or two inputs.
    low, high : ndarray of shape (inputs,)
    grid : ndarray of shape (points,)
        Of one input.
    samples : ndarray of shape (k, inputs)
        Some of the samples.
    targets : ndarray of shape (k,) or (k, outputs)
        Their targets, or numbers of classes.
    axis : str
        What the curves are of.
    levels : tuple of (str, str)
        Colours of a map and what they stand for.
    """

    names: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    grid: np.ndarray
    samples: np.ndarray
    targets: np.ndarray
    axis: str
    levels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class PathPoint:
    """The network at one strength of the penalty.

    Parameters
    ----------
    certificate : Certificate
    loss : float
        Mean loss on the training data.
    penalty : float
        The regulariser R: objective = loss + alpha * R.
    score, test_score : float
        On training data and on held-out data (nan without them).
    neurons : tuple of Neuron
        The most important.
    picture : Picture or None
    mine : bool
        Whether it is the network that the report is about.
    """

    certificate: Certificate
    loss: float
    penalty: float
    score: float
    test_score: float
    neurons: tuple[Neuron, ...]
    picture: Picture | None
    mine: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """One sample, and how the network comes to its output.

    Parameters
    ----------
    place : str
        What it is called: "sample 3", "line 17".
    truth, prediction : str
    sure : float
        The probability of the prediction; nan where there is none.
    right : bool or None
        Whether the class is right; None for numbers.
    loss : float
    outputs : ndarray of shape (outputs,)
    base : ndarray of shape (outputs,)
        The output of an average sample on the linear piece that this one is on.
    values : ndarray of shape (d,)
        In the person's units.
    contributions : ndarray of shape (d, outputs)
        Of each value to each output: with `base` they add up to the output.
    slopes : ndarray of shape (d, outputs)
        How an output changes with a value, near this sample.
    active : tuple of int
        Numbers of the neurons that fire.
    adds : ndarray of shape (neurons, outputs)
        What each neuron adds, by its number.
    """

    place: str
    truth: str
    prediction: str
    sure: float
    right: bool | None
    loss: float
    outputs: np.ndarray
    base: np.ndarray
    values: np.ndarray
    contributions: np.ndarray
    slopes: np.ndarray
    active: tuple[int, ...]
    adds: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """What a report says.

    Parameters
    ----------
    title, model : str
    certificate : Certificate
    null : float
        The objective of the best constant: what doing nothing costs.
    score_name : str
    score, test_score : float
        nan without held-out data.
    n_train, n_test, n_features : int
    classes, outputs : tuple of str
        Classes of a classification; what the network's outputs are.
    unit : str
        What a neuron adds to: "the prediction", "the score of malignant".
    scale : str
        In which units the objective is, where they are not those of the target; or "".
    constant : ndarray of shape (outputs,)
        The output without any neuron.
    columns : tuple of str
    opaque : tuple of str
        Steps in whose units the values are, where they mix columns.
    concerns : tuple of Concern
    history : tuple of Moment
    points : tuple of PathPoint
        From strong to weak penalty; empty where there is no path.
    path_note : str
        Why the path is missing or ends early.
    canvas : Canvas or None
    picture : Picture or None
        Of the network itself.
    neurons : tuple of Neuron
    layers : tuple of tuples of Neuron
        Of a deep network: the units of the layers in front of the last hidden one.
    samples : tuple of Explanation
        The samples with the largest losses first (`worst` of them), then others in their order.
    worst : int
    sample_note : str
        Which samples these are, and what their bars are.
    settings : tuple of (str, str)
    """

    title: str
    model: str
    certificate: Certificate
    null: float
    score_name: str
    score: float
    test_score: float
    n_train: int
    n_test: int
    n_features: int
    classes: tuple[str, ...]
    outputs: tuple[str, ...]
    unit: str
    scale: str
    constant: np.ndarray
    columns: tuple[str, ...]
    opaque: tuple[str, ...]
    concerns: tuple[Concern, ...]
    history: tuple[Moment, ...]
    points: tuple[PathPoint, ...]
    path_note: str
    canvas: Canvas | None
    picture: Picture | None
    neurons: tuple[Neuron, ...]
    layers: tuple[tuple[Neuron, ...], ...]
    samples: tuple[Explanation, ...]
    worst: int
    sample_note: str
    settings: tuple[tuple[str, str], ...] = field(default=())
