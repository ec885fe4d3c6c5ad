"""A model file: a network with all that is needed to use it on a table and to judge it.

Safetensors with a JSON header: weights, encoding of the columns, settings and certificate; never code,
never training data.

Reference: the safetensors format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .certificate import Certificate
from .class_weight_options import class_weight_of
from .encoding import Encoding, Feature, Target
from .families import get_architecture
from .network import Network
from .penalty_options import penalty_of
from .train import Moment
from .version import __version__

#: Version of the history in a file; a history of another version is left unread, the model is not.
HISTORY_VERSION = 1
#: What a history tells of each moment.
TOLD = ("seconds", "objective", "bound", "search_gap", "width", "patterns")
#: Settings that files did not always have, and what they were then.
LATER: dict[str, Any] = {
    "penalty": "l2",
    "options": {},
    "patterns": "auto",
    "class_weight": None,
    "seed": 0,
    "tol": 1e-5,
}
#: Settings that a certificate asks for.
ASKED = ("alpha", "loss", "architecture", "hidden_bias", "fit_intercept", "penalty")


@dataclass(frozen=True, eq=False)
class Model:
    """What a model file holds.

    Parameters
    ----------
    network : Network
    encoding : Encoding
    target : Target
    settings : dict
        `alpha`, `loss`, `architecture` (a name), `options` of the architecture, `hidden_bias`, `penalty`
        and `class_weight` (as text, :mod:`cvxnn.penalty_options`, :mod:`cvxnn.class_weight_options`),
        `fit_intercept`, `patterns`, `seed` and `tol` of the training.
    certificate : Certificate or None
        Of the training; None in files that somebody has stripped of it.
    history : tuple of Moment
        How training went; empty in files that were written before histories were kept.
    """

    network: Network
    encoding: Encoding
    target: Target
    settings: dict[str, Any]
    certificate: Certificate | None = None
    history: tuple[Moment, ...] = ()

    def judged(self) -> dict[str, Any]:
        """Return the keywords of :func:`cvxnn.certify` that ask about the training's own problem."""
        keywords = {key: self.settings[key] for key in ASKED}
        keywords["penalty"] = penalty = penalty_of(self.settings["penalty"], self.encoding)
        keywords["class_weight"] = class_weight_of(self.settings["class_weight"], self.target)
        if self.settings["options"]:
            bias = self.settings["hidden_bias"]
            name, options = self.settings["architecture"], self.settings["options"]
            outputs = self.network.n_outputs
            family = get_architecture(name, bias, "auto", outputs, penalty=penalty, options=options)
            keywords["architecture"] = family
        return keywords

    def save(self, path: Path) -> None:
        """Write a safetensors file; certificate and history of the training go along."""
        header = {
            "cvxnn": __version__,
            "encoding": self.encoding.to_dict(),
            "target": self.target.to_dict(),
            "settings": self.settings,
            "certificate": self.certificate.to_dict() if self.certificate else None,
            "history": {"version": HISTORY_VERSION, **_columns(self.history)},
        }
        self.network.save(path, header)

    @classmethod
    def load(cls, path: Path) -> Model:
        """Read a model file; ValueError or FileNotFoundError says what is wrong with it."""
        network, header = Network.load(path)
        try:
            encoding = Encoding.from_dict(header["encoding"])
            target, settings = Target.from_dict(header["target"]), dict(header["settings"])
            _check(encoding, target)
            keys = ("alpha", "loss", "architecture", "hidden_bias", "fit_intercept")
            # files of before do not say these, and were trained with the defaults
            settings = {
                **{key: settings.get(key, value) for key, value in LATER.items()},
                **{key: settings[key] for key in keys},
            }
            class_weight_of(settings["class_weight"], target)
            certificate = Certificate(**header["certificate"]) if header.get("certificate") else None
            history = _moments(header.get("history", {}))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError(
                f"{path} does not say how to read a table: use a file written by cvxnn fit"
            ) from None
        if encoding.width != network.n_features:
            raise ValueError(f"{path} is damaged (its encoding and weights do not fit): fit again")
        outputs = len(target.classes) if len(target.classes) > 2 else 1
        if outputs != network.n_outputs:
            raise ValueError(f"{path} is damaged (its classes and outputs do not fit): fit again")
        return cls(network, encoding, target, settings, certificate, history)


def _check(encoding: Encoding, target: Target) -> None:
    """Refuse an encoding or a target that no table can be read with; TypeError or ValueError says why."""
    kinds = get_args(get_type_hints(Feature)["kind"])
    for feature in encoding.features:
        _check_words(feature.name, *feature.levels)
        _check_numbers(feature.scale, feature.mean, feature.fill)
        if feature.kind not in kinds or not isinstance(feature.other, bool):
            raise ValueError(f"{feature!r} is of no known kind")
    _check_words(target.name, *target.classes)
    _check_numbers(target.scale, target.mean)
    if len(target.classes) == 1 or len(set(target.classes)) < len(target.classes):
        raise ValueError(f"{target.classes!r} are not two or more different classes")


def _check_words(*words: Any) -> None:
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"{word!r} is no text")


def _check_numbers(scale: Any, *others: Any) -> None:
    for value in (scale, *others):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{value!r} is no number")
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not finite")
    if scale <= 0:
        raise ValueError(f"cells cannot be divided by {scale!r}")


def _columns(history: Sequence[Moment]) -> dict[str, list[float]]:
    """The moments of a training as a list for each of their numbers, which is short in a file."""
    return {name: [getattr(moment, name) for moment in history] for name in TOLD}


def _moments(columns: dict[str, Any]) -> tuple[Moment, ...]:
    """Read what :func:`_columns` wrote; nothing where it was written by a newer version."""
    if columns.get("version") != HISTORY_VERSION:
        return ()
    rows = zip(*(columns[name] for name in TOLD), strict=True)
    return tuple(Moment(**dict(zip(TOLD, row, strict=True))) for row in rows)
