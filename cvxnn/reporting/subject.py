"""What a report is about, whoever brought it: a network, its certificate, and data with names.

An estimator, a pipeline that ends in one, and a model file of the command line all become one
:class:`Subject`. The problem it was trained on is posed again from the data, and the objective of the
network on these data has to be the one that was certified: a certificate is about its own data and no
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.metrics import r2_score

from ..architectures import Architecture
from ..certificate import Certificate
from ..losses import Loss, code_classes
from ..network import Network
from ..program import Problem
from ..train import Moment
from .columns import Columns

#: Relative difference between objectives that rounding explains.
SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Sheet:
    """Samples as the network sees them.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : ndarray
        Numbers of classes (n,), or targets in the user's units, (n,) or (n, targets).
    places : tuple of str, length n, or empty
        What the samples are called: "line 17".
    """

    X: np.ndarray
    y: np.ndarray
    places: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.X)

    def place(self, i: int) -> str:
        """What a sample is called."""
        return self.places[i] if self.places else f"sample {i}"


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network with everything that is known about it.

    Parameters
    ----------
    model : str
        What it is: "ConvexNetClassifier", or the name of a file.
    network : Network
    certificate : Certificate
    history : tuple of Moment
        Empty where it was not kept.
    family : Architecture
    problem : Problem
        Of the training, at the certificate's alpha.
    columns : Columns
    data : Sheet
        The training data.
    held_out : Sheet or None
        Data that training has not seen.
    classes : tuple of str
        Empty for a regression.
    targets : tuple of str
        What the outputs are: targets of a regression, or classes where there are more than two.
    shift, unit : float
        A prediction of a regression is ``mean(output) * unit + shift`` in the user's units.
    tol : float
    random_state : int
    settings : tuple of (str, str)
        How it was trained, in words.
    pathless : str
        Why no path can be computed, or "".
    """

    model: str
    network: Network
    certificate: Certificate
    history: tuple[Moment, ...]
    family: Architecture
    problem: Problem
    columns: Columns
    data: Sheet
    held_out: Sheet | None
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    shift: float = 0.0
    unit: float = 1.0
    tol: float = 1e-5
    random_state: int = 0
    settings: tuple[tuple[str, str], ...] = field(default=())
    pathless: str = ""

    @property
    def loss(self) -> Loss:
        """The loss of the training."""
        return self.problem.loss

    @property
    def linked(self) -> bool:
        """Whether predictions are another function of the outputs than their own values: exp, say."""
        return not self.classes and self.loss.nonnegative

    def output(self, X: np.ndarray, network: Network | None = None) -> np.ndarray:
        """Return the outputs of a network, its own by default, shape (n, outputs)."""
        f = (network or self.network)(X)
        return f[:, None] if f.ndim == 1 else f

    def predict(self, f: np.ndarray) -> np.ndarray:
        """Return what outputs (n, outputs) stand for: numbers of classes (n,), or targets (n, targets)."""
        if self.classes:
            return np.argmax(f, axis=1) if f.shape[1] > 1 else (f[:, 0] > 0).astype(int)
        flat = f[:, 0] if f.shape[1] == 1 else f
        return np.asarray(self.loss.mean(flat)).reshape(f.shape) * self.unit + self.shift

    @property
    def step(self) -> float:
        """What an output's change by one is worth in the user's units, where outputs are predictions."""
        return 1.0 if self.classes or self.linked else self.unit

    def coded(self, sheet: Sheet) -> np.ndarray:
        """Return the targets of samples as the loss takes them."""
        if self.classes:
            return code_classes(sheet.y.astype(int), self.loss, len(self.classes))
        return (sheet.y - self.shift) / self.unit

    @property
    def score_name(self) -> str:
        """What :meth:`score` is."""
        return "accuracy" if self.classes else "R²"

    def score(self, sheet: Sheet, network: Network | None = None) -> float:
        """Return the share of right classes, or R² (the mean over targets); nan where it is undefined."""
        found = self.predict(self.output(sheet.X, network))
        if self.classes:
            return float(np.mean(found == sheet.y))
        if len(sheet) < 2:
            return float("nan")
        return float(r2_score(sheet.y, found[:, 0] if sheet.y.ndim == 1 else found))


def check_data(
    problem: Problem, family: Architecture, network: Network, certificate: Certificate, others: str
) -> None:
    """Raise ValueError if a certificate is not about these data: the network's objective tells.

    Parameters
    ----------
    problem : Problem
        Posed from the data, at the certificate's alpha.
    family : Architecture
        Of the training.
    others : str
        Where other data than these go, for the message.
    """
    judge = family.like(network) if family.reads(network) else family
    cost = judge.on(problem).cost(network)
    value = problem.value(network(problem.X), cost) / problem.total_weight
    objective = certificate.objective
    if abs(value - objective) > SAME * max(abs(objective), 1e-12):
        raise ValueError(
            f"the network's objective on these data is {value:.8g}, and {objective:.8g} was certified: "
            f"pass the data of the training; others go to {others}"
        )


def named(names: Sequence[Any] | None, count: int, word: str) -> tuple[str, ...]:
    """Return names as text, or numbered words where there are none.

    Raises
    ------
    ValueError
        If there are more or fewer names than things.
    """
    if names is None:
        return tuple(f"{word} {k}" for k in range(count))
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} {word}s: pass a name for each")
    return tuple(str(name) for name in names)
