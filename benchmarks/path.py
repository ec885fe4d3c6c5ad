"""The path suite: 50 alphas over three decades, against the smallest of them alone from a cold start.

A warm-started path should cost a small multiple of its hardest problem. Paths of ReLU networks go to
``results/path.md``; those of gated networks, which all have the same gates, to ``results/path-gated.md``.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from . import path_relu
from .problems import available
from .report import machine, seconds, table
from .runner import RESULTS

#: Alphas of a path, and the ratio of the smallest to the largest.
LENGTH, DEPTH = 50, 1e-3
#: Sets, gates and certified relative gap of the gated paths.
GATED, GATES, GAP = ("breast-cancer", "ionosphere", "diabetes", "digits-4-9", "german"), 500, 1e-6


def run(chosen: Any) -> None:
    """Measure the paths of a few problems and write the results."""
    if not chosen.peers or "gated" in chosen.peers:
        run_gated(chosen)
    if chosen.peers and "relu" not in chosen.peers:
        return
    path_relu.run(chosen)


def run_gated(chosen: Any) -> None:
    """Measure paths of gated networks and write ``results/path-gated.md`` and ``.json``.

    The clock is that of ``--clock``; both sides prepare their gates and certify every point within it, and
    take turns, so that a busy machine slows both.
    """
    import cvxnn

    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    rows: list[dict[str, Any]] = []
    for data in available(tuple(chosen.problems or GATED)):
        settings: dict[str, Any] = {"loss": data.loss, "hidden_bias": None, "fit_intercept": False}
        settings |= {"architecture": "gated_relu", "patterns": GATES, "tol": GAP}
        whole, alone = [], []
        cvxnn.path(data.X, data.y, n_alphas=2, eps=0.5, **settings)  # imports and first calls
        for _ in range(chosen.repeats):
            began = clock()
            walked = cvxnn.path(data.X, data.y, n_alphas=LENGTH, eps=DEPTH, **settings)
            whole.append(clock() - began)
            began = clock()
            cold = cvxnn.path(data.X, data.y, alphas=[float(np.min(walked.alphas))], **settings)
            alone.append(clock() - began)
        gaps = [certificate.gap for certificate in walked.certificates]
        rows.append(
            {
                "problem": data.name,
                "n": data.X.shape[0],
                "d": data.X.shape[1],
                "seconds_path": whole,
                "seconds_alone": alone,
                "ratio": float(np.median(whole) / np.median(alone)),
                "steps_path": int(np.sum(walked.n_iter)),
                "steps_alone": int(np.sum(cold.n_iter)),
                "neurons": int(walked.widths[-1]),
                "worst_gap": max(gaps),
                "certified": sum(gap <= GAP for gap in gaps),
                "last_above_cold": walked.objectives[-1] / cold.objectives[0] - 1.0,
            }
        )
        print(rows[-1], flush=True)
        _write_gated(rows, chosen)


def _write_gated(rows: list[dict[str, Any]], chosen: Any) -> None:
    head = ["problem", "neurons at the end", "path", "smallest alone", "ratio", "steps", "steps alone"]
    head += [f"points certified to {GAP:g}", "worst gap", "last above cold"]
    lines = [
        [
            f"{row['problem']} ({row['n']} x {row['d']})",
            str(row["neurons"]),
            seconds(float(np.median(row["seconds_path"]))),
            seconds(float(np.median(row["seconds_alone"]))),
            f"{row['ratio']:.2f}",
            str(row["steps_path"]),
            str(row["steps_alone"]),
            f"{row['certified']} / {LENGTH}",
            f"{row['worst_gap']:.1e}",
            f"{row['last_above_cold']:.1e}",
        ]
        for row in rows
    ]
    what = "CPU seconds of the process" if chosen.clock == "cpu" else "seconds of the wall clock"
    text = (
        f"# path, gated: {LENGTH} alphas over a ratio of {DEPTH:g}, {GATES} gates\n\n"
        f"{machine()['cpu']}, {what}, median of {chosen.repeats} taken in turns. Both include drawing the "
        "gates, alpha_max and the certificate of every point. Steps are those of the working-set "
        f"solver. [README](../README.md)\n\n{table(head, lines)}\n"
    )
    (RESULTS / "path-gated.md").write_text(text)
    facts = {"machine": machine(), "clock": chosen.clock, "gates": GATES, "gap": GAP, "problems": rows}
    (RESULTS / "path-gated.json").write_text(json.dumps(facts, indent=1) + "\n")
