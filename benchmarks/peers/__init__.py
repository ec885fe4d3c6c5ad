"""The peers: one file each, found by looking into this folder.

A file lists its :class:`Peer` objects in ``PEERS``. It is read in two interpreters: ours, which only wants
names, and the peer's own, which runs :attr:`Peer.solve`. Therefore only numpy is imported at the top of
a peer's file; everything else is imported inside functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Task:
    """What a peer is asked to solve: minimise ``(1/n) sum loss + alpha * R``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,)
    loss : {"squared_error", "log_loss"}
    alpha : float
        Strength of the penalty, per sample.
    seed : int
    limit : float
        Seconds.
    gates : ndarray of shape (P, d) or None
        Gates of a gated problem.
    repeats : int
        How often a gated problem is solved again, in the same process, once the right tolerance is known.
    """

    X: np.ndarray
    y: np.ndarray
    loss: str
    alpha: float
    seed: int
    limit: float
    gates: np.ndarray | None = None
    repeats: int = 1


@dataclass(frozen=True)
class Peer:
    """A method to compare with.

    Parameters
    ----------
    name : str
    environment : str
        Whose packages it needs, see :mod:`benchmarks.environments`.
    suite : {"relu", "gated", "free"}
        The family of networks it trains; "free" has unpenalised biases.
    solve : callable(Task, Recorder) -> dict or None
        Records networks while it runs; what it returns is kept with the run, and judged by nobody.
    losses : tuple of str
    random : bool
        Whether a repetition draws another start.
    """

    name: str
    environment: str
    suite: str
    solve: Callable[[Task, Any], dict[str, Any] | None]
    losses: tuple[str, ...] = ("squared_error", "log_loss")
    random: bool = True


def all_peers() -> dict[str, Peer]:
    """Return the peers of every file of this folder, by name."""
    found: dict[str, Peer] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for peer in getattr(importlib.import_module(f"{__name__}.{module}"), "PEERS", ()):
            found[peer.name] = peer
    return found
