"""The family of networks that a user asks for, by name or as an object.

A name stands for a family with the parameters that every entrance has (`hidden_bias`, `patterns`,
`penalty` and, of several outputs, `coupling`); an object brings its own. What a family does not have is
refused and never ignored: a certificate for another objective than the one asked for would be wrong.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from .architectures import ARCHITECTURES, VECTOR_ARCHITECTURES, Architecture
from .feature_penalties import WeightPenalty, check_outputs, is_weight_decay

__all__ = ["get_architecture"]


def get_architecture(
    architecture: str | Architecture,
    hidden_bias: str | None,
    patterns: Any,
    outputs: int = 1,
    coupling: str = "joint",
    penalty: WeightPenalty = "l2",
    options: dict[str, Any] | None = None,
) -> Architecture:
    """Return an architecture from its name; an object is returned as it is.

    Parameters
    ----------
    architecture : str or Architecture
    hidden_bias, patterns
        Of the architecture that a name stands for.
    outputs : int
        Number of outputs of the networks.
    coupling : {"joint", "separate"}
        Of several outputs.
    penalty : {"l2", "l1"}, Groups or Elastic
        Of the hidden weights of networks with one output, see :mod:`cvxnn.feature_penalties`.
    options : dict or None
        Further parameters of the architecture that a name stands for, such as ``{"slope": 0.2}``.

    Raises
    ------
    ValueError
        If no architecture has this name, or it has another kind of output; if it has no such parameter.
    """
    if isinstance(architecture, Architecture):
        return _of_object(architecture, outputs, coupling, penalty)
    family = _family(architecture, outputs, penalty)
    known = {part.name for part in fields(family)}
    if not is_weight_decay(penalty) and "penalty" not in known:
        raise ValueError(f"{architecture!r} networks know weight decay only: pass penalty='l2'")
    if "hidden_bias" not in known and hidden_bias not in ("penalized", None):
        raise ValueError(f"{architecture!r} networks have no choice of hidden_bias: leave it out")
    if "patterns" not in known and not (isinstance(patterns, str) and patterns == "auto"):
        raise ValueError(f"{architecture!r} networks have no choice of patterns: leave it 'auto'")
    given = {"hidden_bias": hidden_bias, "patterns": patterns, "penalty": penalty}
    chosen = {name: value for name, value in given.items() if name in known}
    if outputs > 1:
        chosen |= _shared(family, architecture, coupling)
    unknown = set(options or {}) - known
    if unknown:
        raise ValueError(
            f"{architecture!r} networks have no option {', '.join(sorted(unknown))}: they have "
            f"{', '.join(sorted(known))}"
        )
    return family(**{**chosen, **(options or {})})


def _of_object(
    architecture: Architecture, outputs: int, coupling: str, penalty: WeightPenalty
) -> Architecture:
    """An object for so many outputs: itself, or its sister for several with what the outputs share."""
    own = getattr(architecture, "penalty", "l2")
    if not is_weight_decay(penalty) and penalty != own:
        raise ValueError(f"penalty={penalty!r} beside {architecture!r}: pass it to the architecture")
    several: Any = architecture.for_outputs(outputs)
    if several is architecture:
        return architecture
    # an object of one output says nothing of what several share
    shared = _shared(several, several, coupling)
    return replace(several, **shared) if shared else several


def _family(name: Any, outputs: int, penalty: WeightPenalty) -> Any:
    """The class that a name stands for, with so many outputs."""
    if not isinstance(name, str) or name not in {**ARCHITECTURES, **VECTOR_ARCHITECTURES}:
        names = ", ".join(map(repr, ARCHITECTURES))
        raise ValueError(f"unknown architecture {name!r}: pass one of {names}, or an Architecture")
    check_outputs(penalty, outputs)
    families: dict[str, Any] = {**(ARCHITECTURES if outputs == 1 else VECTOR_ARCHITECTURES)}
    if name not in families:
        has = "several outputs" if outputs == 1 else "one output"
        names = ", ".join(map(repr, families))
        raise ValueError(f"architecture {name!r} has {has}: pass one of {names}")
    return families[name]


def _shared(family: Any, named: Any, coupling: str) -> dict[str, Any]:
    """What the outputs of a family share, as its parameter; nothing where there is no choice."""
    if any(part.name == "coupling" for part in fields(family)):
        return {"coupling": coupling}
    if coupling != "joint":
        raise ValueError(f"{named!r} networks share neurons between outputs: pass coupling='joint'")
    return {}
