"""A model file: a network with all that is needed to use it on a table and to judge it.

Safetensors with a JSON header: weights, encoding of the columns, settings and certificate; never code,
never training data.

Reference: the safetensors format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .certificate import Certificate
from .encoding import Encoding, Target
from .network import Network
from .penalty_options import penalty_of
from .train import get_architecture


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
        (as text, :mod:`cvxnn.penalty_options`) and `fit_intercept` of the training.
    """

    network: Network
    encoding: Encoding
    target: Target
    settings: dict[str, Any]

    def judged(self) -> dict[str, Any]:
        """Return the keywords of :func:`cvxnn.certify` that ask about the training's own problem."""
        keywords = {key: value for key, value in self.settings.items() if key != "options"}
        keywords["penalty"] = penalty = penalty_of(self.settings["penalty"], self.encoding)
        if self.settings["options"]:
            bias = self.settings["hidden_bias"]
            name, options = self.settings["architecture"], self.settings["options"]
            outputs = self.network.n_outputs
            family = get_architecture(name, bias, "auto", outputs, penalty=penalty, options=options)
            keywords["architecture"] = family
        return keywords

    def save(self, path: Path, certificate: Certificate) -> None:
        """Write a safetensors file; the certificate of training goes along."""
        header = {
            "cvxnn": __version__,
            "encoding": self.encoding.to_dict(),
            "target": self.target.to_dict(),
            "settings": self.settings,
            "certificate": certificate.to_dict(),
        }
        self.network.save(path, header)

    @classmethod
    def load(cls, path: Path) -> Model:
        """Read a model file; ValueError or FileNotFoundError says what is wrong with it."""
        network, header = Network.load(path)
        try:
            encoding = Encoding.from_dict(header["encoding"])
            target, settings = Target.from_dict(header["target"]), dict(header["settings"])
            keys = ("alpha", "loss", "architecture", "hidden_bias", "fit_intercept")
            # files of before had no other penalty and no options
            later = {"penalty": settings.get("penalty", "l2"), "options": settings.get("options", {})}
            settings = {**later, **{key: settings[key] for key in keys}}
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path} does not say how to read a table: use a file written by cvxnn fit"
            ) from None
        if encoding.width != network.n_features:
            raise ValueError(f"{path} is damaged (its encoding and weights do not fit): fit again")
        return cls(network, encoding, target, settings)
