"""The path suite: 50 alphas over three decades, against the smallest of them alone from a cold start.

A warm-started path should cost a small multiple of its hardest problem.
"""

from __future__ import annotations

from typing import Any

from . import path_relu


def run(chosen: Any) -> None:
    """Measure the paths of a few problems and write ``results/path.md`` and ``.json``."""
    path_relu.run(chosen)
