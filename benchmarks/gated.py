"""The gated suite: one convex problem for everybody, solved to the same certified relative gap.

Given 500 or 5000 Gaussian gates, ``min (1/n) sum 1/2 (y - sum_j D_j X w_j)^2 + alpha sum_j |w_j|`` is a
group lasso; every snapshot is judged by its own exact duality gap, so nothing about the optimum need be
known before.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .judge import time_to
from .problems import Data, available, prepare
from .relu import Cores, line
from .report import geometric_mean, machine, seconds, table
from .runner import RESULTS, Case, Options, kept

#: The certified relative gap to reach.
GAP = 1e-6
#: Problems, numbers of gates and alphas; the last problem is made here.
PROBLEMS, GATES, ALPHAS = ("breast-cancer", "concrete", "planted-5000"), (500, 5000), (1e-2, 1e-3)


def planted(n: int, d: int, width: int = 10, seed: int = 0) -> Data:
    """Make data whose targets come from a ReLU network of `width` neurons with noise."""
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((n, d)), rng.standard_normal((d, width)) / np.sqrt(d)
    f = np.maximum(X @ W, 0.0) @ np.where(np.arange(width) % 2, -1.0, 1.0)
    return prepare(f"planted-{n}", X, f + 0.1 * f.std() * rng.standard_normal(n), "squared_error", True)


def cases(problems: list[str] | None, alphas: list[float] | None) -> list[tuple[int, Case]]:
    """Return the cases with their numbers of gates."""
    names = problems or list(PROBLEMS)
    data = available(tuple(name for name in names if not name.startswith("planted")))
    data += [planted(int(name.split("-")[1]), 20) for name in names if name.startswith("planted")]
    found = []
    for one in data:
        for gates in GATES:
            G = np.random.default_rng(0).standard_normal((gates, one.X.shape[1]))
            named = Data(f"{one.name}-{gates}", one.X, one.y, one.loss)
            found += [(gates, Case("gated", named, alpha, G)) for alpha in alphas or ALPHAS]
    return found


def run(chosen: Any) -> None:
    """Run the suite and write ``results/gated.md`` and ``.json``."""
    from .run import choose_peers, options_of

    options, peers = options_of(chosen), choose_peers("gated", chosen.peers)
    cores, rows = Cores(1), []
    for _, case in cases(chosen.problems, chosen.alphas):
        row: dict[str, Any] = {"case": case.key, "n": len(case.data.y), "d": case.data.X.shape[1]}
        for peer in peers:
            row[peer.name] = []
            for repeat in range(options.repeats):
                old = kept(case, peer.name, repeat) if options.resume or chosen.report else None
                if old is None and chosen.report:
                    continue
                result = old or cores.run(case, peer, repeat, options, None)
                print(line(case, result), flush=True)
                row[peer.name].append(_reading(result, options))
                if row[peer.name][-1]["seconds"] is None:
                    break
        rows.append(row)
        _write(rows, [peer.name for peer in peers], options)


def _reading(result: dict[str, Any], options: Options) -> dict[str, Any]:
    """What the tables need of a run: the time to the gap, or why there is none."""
    time = time_to(result.get("seconds_of", []), result.get("gap", []), GAP)
    return {
        "seconds": time if time <= options.limit else None,
        "gap": min(result.get("gap") or [None], key=lambda g: np.inf if g is None else g),
        "objective": min(result.get("objective") or [None], key=lambda f: np.inf if f is None else f),
        "memory_mib": result.get("memory_mib"),
        "error": result.get("error"),
    }


def _median(readings: list[dict[str, Any]]) -> float:
    times = [np.inf if r["seconds"] is None else r["seconds"] for r in readings]
    return float(np.median(times)) if times else np.inf


def _write(rows: list[dict[str, Any]], names: list[str], options: Options) -> None:
    ours = next(name for name in names if name.startswith("cvxnn"))
    lines, notes = [], []
    for row in rows:
        cells = []
        for name in names:
            readings = row[name]
            gap = readings[-1]["gap"] if readings else None
            late = "—" if gap is None else f"— (gap {gap:.0e})"
            time = _median(readings)
            cells.append(seconds(time) if np.isfinite(time) else late)
            notes += [f"- {name}, {row['case']}: {r['error']}" for r in readings if r["error"]]
        lines.append([f"{row['case']} ({row['n']} x {row['d']})", *cells])
    summary = []
    for name in names:
        tried = [row for row in rows if any(r["gap"] is not None for r in row[name])]
        both = [(_median(row[name]), _median(row[ours])) for row in tried]
        fair = [min(a, options.limit) / min(b, options.limit) for a, b in both if min(a, b) < np.inf]
        solved = sum(np.isfinite(a) for a, _ in both)
        summary.append([name, f"{solved} / {len(both)}", f"{geometric_mean(fair):.3g}" if fair else "n/a"])
    parts = [
        f"# gated: seconds to a certified relative gap of {GAP:g}",
        f"{machine()['cpu']}, {options.threads} BLAS thread(s) a run, limit {options.limit:g} s, median of "
        f"{options.repeats}; the number after the name is that of gates. [README](../README.md)",
        table(["peer", "solved", f"time / time of {ours} (geometric mean)"], summary),
        table(["case", *names], lines),
        "\n".join(["## Not available", "", *notes]) if notes else "",
    ]
    (RESULTS / "gated.md").write_text("\n\n".join(part for part in parts if part) + "\n")
    facts = {"machine": machine(), "limit": options.limit, "gap": GAP, "cases": rows}
    (RESULTS / "gated.json").write_text(json.dumps(facts, indent=1) + "\n")
