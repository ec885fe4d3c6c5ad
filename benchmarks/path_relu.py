"""Paths of ReLU networks: 50 alphas over three decades, against the smallest alone from a cold start.

Along a path most alphas are searched lightly, from what searches at other alphas found. What that is
worth is measured here: after the clock has stopped, every network of the path is judged again by the
thorough search, against the same dual variable.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import cvxnn
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import search_gap
from cvxnn.losses import get_loss
from cvxnn.paths import Path
from cvxnn.program import Problem
from cvxnn.train import Ground

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
        "judged_again": judge_again(data, walked),
        "worst_gap": max(c.gap for c in walked.certificates),
        "scopes": sorted({c.scope for c in walked.certificates}),
        "last_above_cold": walked.objectives[-1] / cold.objectives[0] - 1.0,
        "cold_search_gap": cold.certificates[0].search_gap,
    }


def judge_again(data: Data, walked: Path) -> list[float]:
    """Return the search gaps of a path's networks by the thorough search."""
    problem = Problem.from_alpha(data.X, data.y, None, get_loss(data.loss), 1.0, False)
    architecture = ReLU(hidden_bias=None)
    ground = Ground.prepare(problem, architecture, np.random.default_rng(0))
    gaps = []
    for point in walked.points:
        there = problem.at(point.alpha)
        Z = there.residual(point.network(there.X)) if point.dual is None else point.dual
        found = ground.oracle.at(there.beta).found(Z, point.network)
        value = point.certificate.objective * there.total_weight
        gaps.append(search_gap(there, value, Z, max(found, there.beta)))
    return gaps


def _write(rows: list[dict[str, Any]], clock: str) -> None:
    head = ["problem", "neurons at the end", "path", "smallest alone", "ratio"]
    head += [f"points with search gap <= {TOL:g}", "worst search gap", "judged again: median", "worst"]
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
            f"{np.median(row['judged_again']):.1e}",
            f"{max(row['judged_again']):.1e}",
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
        'of the search that was made at that alpha; "judged again" is the thorough search at every alpha, '
        "not timed, against the same dual variable. [README](../README.md)\n\n"
        f"{table(head, lines)}\n"
    )
    (RESULTS / "path.md").write_text(text)
    facts = {"machine": machine(), "clock": clock, "tol": TOL, "problems": rows}
    (RESULTS / "path.json").write_text(json.dumps(facts, indent=1) + "\n")
