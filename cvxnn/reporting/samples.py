r"""Single samples: which neurons fired, and what each value contributed.

Between its kinks a network is linear, so around a sample x with slopes g

.. math:: f(x) = f_x(\bar x) + \sum_k g_k (x_k - \bar x_k),

where f_x is the linear piece that x lies on and the reference is the mean of the training data. The
terms add up to the output exactly, whatever the units. The same output is also the sum over neurons of
what each adds.

Which samples: those with the largest losses, and others evenly through the data.

Reference: :mod:`cvxnn.local_linear`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax

from ..local_linear import local_linear
from ..network import Polynomial, Product, SkipThreshold, Threshold
from .content import Explanation
from .neurons import take_apart
from .numerals import number, things
from .subject import Subject

#: Samples that a report lists, and how many of these have the largest losses.
LISTED, WORST = 200, 25
#: Samples whose losses are compared.
COMPARED = 5000


def explanations_of(subject: Subject, order: np.ndarray) -> tuple[tuple[Explanation, ...], int, str]:
    """Return explanations of some samples, how many of them are the worst, and a note on which they are.

    Parameters
    ----------
    subject : Subject
    order : ndarray of shape (units,)
        The place of every neuron in the network, by its number in the report.
    """
    losses, compared = _losses(subject)
    chosen, worst = _chosen(len(subject.data), losses, compared)
    found = _explain(subject, chosen, order)
    note = f"All {things(len(chosen), 'sample')} of the training data"
    if len(chosen) < len(subject.data):
        note = f"{things(len(chosen), 'sample')} of {number(len(subject.data), 12)}"
    note += f": the {worst} with the largest losses first, then "
    rest = "the others" if len(chosen) == len(subject.data) else "others, spread evenly"
    note += f"{rest}, in their order."
    return found, worst, f"{note} {_kind(subject)}".strip()


def _losses(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Losses of some samples, and which these are."""
    n = len(subject.data)
    compared = np.unique(np.linspace(0, n - 1, min(n, COMPARED)).round().astype(int))
    return _loss_of(subject, compared), compared


def _loss_of(subject: Subject, rows: np.ndarray) -> np.ndarray:
    f = subject.network(subject.data.X[rows])
    y, one = subject.coded(subject.data)[rows], np.ones(1)
    value = subject.loss.value
    return np.array([float(value(f[i : i + 1], y[i : i + 1], one)) for i in range(len(rows))])


def _chosen(n: int, losses: np.ndarray, compared: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows to explain: the worst first."""
    worst = min(WORST, max(1, n // 4))
    hard = compared[np.argsort(-losses, kind="stable")[:worst]]
    others = np.setdiff1d(np.arange(n), hard)
    room = min(LISTED - worst, len(others))
    places = np.linspace(0, len(others) - 1, room).round().astype(int) if room else np.zeros(0, dtype=int)
    return np.concatenate([hard, others[np.unique(places)]]), worst


def _kind(subject: Subject) -> str:
    """What slopes mean for networks that are not linear piece by piece."""
    layers = subject.network.layers
    if any(isinstance(layer, Threshold | SkipThreshold) for layer in layers):
        return "Neurons of this network are steps, so small changes of a value change nothing."
    if any(isinstance(layer, Polynomial | Product) for layer in layers):
        return (
            "This network is curved: bars are those of its tangent at the sample, which adds up to the "
            "output there and is not the function around it."
        )
    return ""


def _explain(subject: Subject, rows: np.ndarray, order: np.ndarray) -> tuple[Explanation, ...]:
    X, columns, step = subject.data.X[rows], subject.columns, subject.step
    d, outputs = X.shape[1], subject.network.n_outputs
    f = subject.output(X)
    sure = _sure(subject, f)
    said = subject.predict(f)
    # the output in the unit of predictions, where a prediction is nothing else
    shift = 0.0 if subject.classes or subject.linked else subject.shift
    shown = f * step + shift
    around = local_linear(subject.network, X)
    slopes = around.coefficients.reshape(len(X), d, outputs)
    center = subject.data.X.mean(axis=0)
    terms = slopes * (X - center)[:, :, None] * step
    base = shown - terms.sum(axis=1)
    parts = take_apart(subject.network, X, step)
    losses, values = _loss_of(subject, rows), columns.values(X)
    found = []
    for i, row in enumerate(rows.tolist()):
        truth = subject.data.y[row]
        found.append(
            Explanation(
                place=subject.data.place(row),
                truth=_named(subject, truth),
                prediction=_named(subject, said[i]),
                sure=float(sure[i]),
                right=bool(said[i] == truth) if subject.classes else None,
                loss=float(losses[i]),
                outputs=shown[i],
                base=base[i],
                values=values[i],
                contributions=terms[i],
                slopes=slopes[i] * step / columns.scale[:, None],
                active=tuple(k + 1 for k, j in enumerate(order) if parts.fires[i, j] > 0),
                adds=parts.adds[i, order],
            )
        )
    return tuple(found)


def _sure(subject: Subject, f: np.ndarray) -> np.ndarray:
    """The probability of the class that outputs (n, outputs) say; nan where there are no probabilities."""
    if not subject.classes or subject.loss.name != "log_loss":
        return np.full(len(f), np.nan)
    return expit(np.abs(f[:, 0])) if f.shape[1] == 1 else softmax(f, axis=1).max(axis=1)


def _named(subject: Subject, y: np.ndarray) -> str:
    """A target or prediction as a person calls it."""
    if subject.classes:
        return subject.classes[int(y)]
    return ", ".join(number(part, 5) for part in np.ravel(y))
