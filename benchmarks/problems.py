"""The basket: real data sets, all brought to one form.

Columns are standardised, constant columns dropped, and columns then scaled to unit l2 norm; targets of a
regression are standardised, classes become -1 and +1. There is no bias and no intercept: this is the
protocol of the papers this package follows, and it puts the interesting alphas of all problems in
one range.

Sets of scikit-learn are always there; the others come from a folder ``shared/data`` beside the repository
and are left out, with a line that says so, where there is none.

Reference: Mishkin, Sahiner and Pilanci, ICML 2022, appendix F (unit columns); the UCI repository.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: Where the other sets are looked for; the variable of this name overrides it.
DATA = Path(os.environ.get("CVXNN_BENCH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
ALPHAS = (1e-2, 1e-3, 1e-4)
QUICK = ("iris", "wine", "breast-cancer", "diabetes")
QUICK_ALPHAS = (1e-2, 1e-3)


@dataclass(frozen=True, eq=False)
class Data:
    """A problem of the basket, without its alpha.

    Parameters
    ----------
    name : str
    X : ndarray of shape (n, d)
        Columns of mean zero and unit norm.
    y : ndarray of shape (n,)
    loss : {"squared_error", "log_loss"}
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    loss: str


class Missing(LookupError):
    """The data set is not on this machine."""


def prepare(name: str, X: Any, y: Any, loss: str, regression: bool = False) -> Data:
    """Bring a data set to the form of the basket; `y` holds numbers, or two labels."""
    X = np.asarray(X, dtype=np.float64)
    X = X - X.mean(axis=0)
    scale = X.std(axis=0)
    X = X[:, scale > 1e-12 * max(1.0, float(scale.max()))]
    X = X / np.linalg.norm(X, axis=0)
    y = np.asarray(y, dtype=np.float64)
    y = (y - y.mean()) / y.std() if regression else np.where(y == y.max(), 1.0, -1.0)
    return Data(name, np.ascontiguousarray(X), np.ascontiguousarray(y), loss)


def _sklearn(name: str, positive: int, negative: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A set of scikit-learn, one class against another or against the rest."""
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    kept = np.ones(len(y), dtype=bool) if negative is None else (y == positive) | (y == negative)
    return X[kept], (y[kept] == positive).astype(float)


@cache
def loader() -> Any:
    """Return the module that reads the sets of the data folder; :class:`Missing` without it."""
    path = DATA / "load.py"
    if not path.exists():
        raise Missing(f"no {path}")
    spec = importlib.util.spec_from_file_location("bench_data", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _binary(name: str) -> tuple[np.ndarray, np.ndarray]:
    return loader().load_uci_binary(name)


def _regression(name: str, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both parts of the first split, at most `most` rows drawn with a fixed seed."""
    first, y_first, second, y_second = loader().load_uci_regression(name, 0)
    X, y = np.concatenate([first, second]), np.concatenate([np.ravel(y_first), np.ravel(y_second)])
    if most is not None and len(X) > most:
        rows = np.random.default_rng(0).choice(len(X), most, replace=False)
        X, y = X[rows], y[rows]
    return X, y


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True)


#: name -> (loader, loss, whether the targets are numbers)
SETS: dict[str, tuple[Callable[[], tuple[np.ndarray, np.ndarray]], str, bool]] = {
    "breast-cancer": (lambda: _sklearn("breast_cancer", 1), "squared_error", False),
    "breast-cancer-log": (lambda: _sklearn("breast_cancer", 1), "log_loss", False),
    "diabetes": (_diabetes, "squared_error", True),
    "wine": (lambda: _sklearn("wine", 0), "squared_error", False),
    "iris": (lambda: _sklearn("iris", 1), "squared_error", False),
    "digits-4-9": (lambda: _sklearn("digits", 4, 9), "squared_error", False),
    "ionosphere": (lambda: _binary("ionosphere"), "squared_error", False),
    "sonar-log": (lambda: _binary("conn-bench-sonar"), "log_loss", False),
    "pima-log": (lambda: _binary("pima"), "log_loss", False),
    "blood-log": (lambda: _binary("blood"), "log_loss", False),
    "german": (lambda: _binary("statlog-german"), "squared_error", False),
    "tic-tac-toe": (lambda: _binary("tic-tac-toe"), "squared_error", False),
    "spambase-log": (lambda: _binary("spambase"), "log_loss", False),
    "yacht": (lambda: _regression("yacht"), "squared_error", True),
    "energy": (lambda: _regression("energy"), "squared_error", True),
    "concrete": (lambda: _regression("concrete"), "squared_error", True),
    "wine-red": (lambda: _regression("wine-red"), "squared_error", True),
    "kin8nm-2000": (lambda: _regression("kin8nm", 2000), "squared_error", True),
}


@cache
def load(name: str) -> Data:
    """Return a problem of the basket.

    Raises
    ------
    Missing
        If its data are not on this machine.
    KeyError
        If the basket has no such problem.
    """
    source, loss, regression = SETS[name]
    try:
        X, y = source()
    except OSError as error:
        raise Missing(str(error)) from error
    return prepare(name, X, y, loss, regression)


def available(names: tuple[str, ...] | None = None, say: Callable[[str], Any] = print) -> list[Data]:
    """Return the problems that are there, and say which are not."""
    found = []
    for name in names or tuple(SETS):
        try:
            found.append(load(name))
        except Missing as error:
            say(f"{name}: left out, {error}")
    return found
