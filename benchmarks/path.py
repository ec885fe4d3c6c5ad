"""The path suite: 50 alphas over three decades, against the smallest of them alone from a cold start.

A warm-started path should cost a small multiple of its hardest problem.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from .problems import QUICK, available
from .report import machine, seconds, table
from .runner import RESULTS

#: Alphas of a path, and the ratio of the smallest to the largest.
LENGTH, DEPTH = 50, 1e-3


def run(chosen: Any) -> None:
    """Measure the paths of a few problems and write ``results/path.md`` and ``.json``."""
    import cvxnn

    if not callable(getattr(cvxnn, "path", None)):
        raise SystemExit("cvxnn has no path() yet: nothing to measure")
    rows = []
    for data in available(tuple(chosen.problems or QUICK)):
        settings = {"loss": data.loss, "hidden_bias": None, "fit_intercept": False}
        began = time.perf_counter()
        walked = cvxnn.path(data.X, data.y, n_alphas=LENGTH, eps=DEPTH, **settings)
        whole = time.perf_counter() - began
        smallest = np.array([float(np.min(walked.alphas))])
        began = time.perf_counter()
        cold = cvxnn.path(data.X, data.y, alphas=smallest, **settings)
        alone = time.perf_counter() - began
        last = int(np.argmin(walked.alphas))
        rows.append(
            {
                "problem": data.name,
                "n": data.X.shape[0],
                "d": data.X.shape[1],
                "seconds_path": whole,
                "seconds_alone": alone,
                "ratio": whole / alone,
                "worst_search_gap": max(c.search_gap for c in walked.certificates),
                "last_above_cold": walked.certificates[last].objective / cold.certificates[0].objective
                - 1.0,
            }
        )
        print(rows[-1], flush=True)
        _write(rows)


def _write(rows: list[dict[str, Any]]) -> None:
    head = ["problem", "path, s", "smallest alpha alone, s", "ratio", "worst search gap", "last above cold"]
    lines = [
        [
            f"{row['problem']} ({row['n']} x {row['d']})",
            seconds(row["seconds_path"]),
            seconds(row["seconds_alone"]),
            f"{row['ratio']:.2f}",
            f"{row['worst_search_gap']:.1e}",
            f"{row['last_above_cold']:.1e}",
        ]
        for row in rows
    ]
    text = (
        f"# path: {LENGTH} alphas over a ratio of {DEPTH:g}\n\n{machine()['cpu']}\n\n{table(head, lines)}\n"
    )
    (RESULTS / "path.md").write_text(text)
    (RESULTS / "path.json").write_text(
        json.dumps({"machine": machine(), "problems": rows}, indent=1) + "\n"
    )
