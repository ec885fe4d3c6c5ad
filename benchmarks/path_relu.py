"""Paths of ReLU networks: 50 alphas over three decades, against the smallest alone from a cold start."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import cvxnn

from .problems import QUICK, Data, available
from .report import machine, seconds, table
from .runner import RESULTS

#: Alphas of a path, and the ratio of the smallest to the largest; the search gap to reach.
LENGTH, DEPTH, TOL = 50, 1e-3, 1e-5


def run(chosen: Any) -> None:
    """Measure paths and write ``results/path.md`` and ``.json``; with ``--resume`` keep what is there."""
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    file = RESULTS / "path.json"
    kept = json.loads(file.read_text())["problems"] if chosen.resume and file.exists() else []
    rows = {row["problem"]: row for row in kept}
    for data in available(tuple(chosen.problems or QUICK)):
        if data.name not in rows:
            rows[data.name] = _measure(data, clock)
            print(rows[data.name], flush=True)
        _write(list(rows.values()), chosen.clock)


def _measure(data: Data, clock: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"loss": data.loss, "hidden_bias": None, "fit_intercept": False, "tol": TOL}
    cvxnn.path(data.X[:20, :2], data.y[:20], n_alphas=2, eps=0.5, **settings)  # imports and first calls
    began = clock()
    walked = cvxnn.path(data.X, data.y, n_alphas=LENGTH, eps=DEPTH, **settings)
    whole = clock() - began
    began = clock()
    cold = cvxnn.path(data.X, data.y, alphas=[float(np.min(walked.alphas))], **settings)
    alone = clock() - began
    claimed = [c.search_gap for c in walked.certificates]
    return {
        "problem": data.name,
        "n": data.X.shape[0],
        "d": data.X.shape[1],
        "seconds_path": whole,
        "seconds_alone": alone,
        "ratio": whole / alone,
        "neurons": int(walked.widths[-1]),
        "search_gaps": claimed,
        "searched": sum(gap <= TOL for gap in claimed),
        "worst_gap": max(c.gap for c in walked.certificates),
        "scopes": sorted({c.scope for c in walked.certificates}),
        "last_above_cold": walked.objectives[-1] / cold.objectives[0] - 1.0,
        "cold_search_gap": cold.certificates[0].search_gap,
    }


def _write(rows: list[dict[str, Any]], clock: str) -> None:
    head = ["problem", "neurons at the end", "path", "smallest alone", "ratio"]
    head += [f"points with search gap <= {TOL:g}", "worst search gap"]
    head += ["worst proven gap", "last above cold", "search gap of the cold one"]
    lines = [
        [
            f"{row['problem']} ({row['n']} x {row['d']})",
            str(row["neurons"]),
            seconds(row["seconds_path"]),
            seconds(row["seconds_alone"]),
            f"{row['ratio']:.2f}",
            f"{row['searched']} / {LENGTH}",
            f"{max(row['search_gaps']):.1e}",
            f"{row['worst_gap']:.2f}",
            f"{row['last_above_cold']:.1e}",
            f"{row['cold_search_gap']:.1e}",
        ]
        for row in rows
    ]
    what = "CPU seconds of the process" if clock == "cpu" else "seconds of the wall clock"
    text = (
        f"# path, ReLU: {LENGTH} alphas over a ratio of {DEPTH:g}\n\n{machine()['cpu']}, {what}, one run. "
        "Both sides include alpha_max and the certificate of every point. A search gap is "
        "of the thorough search, made at every alpha. [README](../README.md)\n\n"
        f"{table(head, lines)}\n"
    )
    (RESULTS / "path.md").write_text(text)
    facts = {"machine": machine(), "clock": clock, "tol": TOL, "problems": rows}
    (RESULTS / "path.json").write_text(json.dumps(facts, indent=1) + "\n")
