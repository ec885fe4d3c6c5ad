"""The lowest objectives anybody has found, by problem and alpha: the targets of the benchmark.

    python -m benchmarks.best_known [--problems ...] [--alphas ...] [--limit 300]

trains every problem sharply (tolerance 1e-7) and takes over any lower objective seen in any kept
trajectory. An entry only ever goes down; the proven lower bound only ever goes up.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn import __version__
from cvxnn.architectures.relu import ReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train

from .problems import ALPHAS, Data, available
from .runner import RAW

PATH = Path(__file__).resolve().parent / "best_known.json"


def read() -> dict[str, dict[str, Any]]:
    """Return the entries by ``PROBLEM/ALPHA``."""
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def write(entries: dict[str, dict[str, Any]]) -> None:
    """Write the entries, sorted."""
    PATH.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


def offer(entries: dict[str, dict[str, Any]], key: str, entry: dict[str, Any]) -> bool:
    """Take an entry over if it is lower than what is known; return whether it was."""
    old = entries.get(key)
    bound = max(entry.get("lower_bound", 0.0), (old or {}).get("lower_bound", 0.0))
    better = old is None or entry["objective"] < old["objective"]
    entries[key] = (entry if better else dict(old or {})) | {"lower_bound": bound}
    return better


def from_run(run: dict[str, Any]) -> dict[str, Any] | None:
    """Make an entry of a judged run, None if it recorded no network."""
    objectives = run.get("objective") or []
    if not objectives or not np.isfinite(min(objectives)):
        return None
    extra = run.get("extra", {})
    return {
        "objective": min(objectives),
        "method": run["peer"],
        "seed": run["repeat"],
        "search_gap": extra.get("search_gap"),
        "lower_bound": extra.get("lower_bound", 0.0),
        "width": run["width"][int(np.argmin(objectives))],
        "date": datetime.date.today().isoformat(),
        "version": __version__,
    }


def take_runs(entries: dict[str, dict[str, Any]]) -> int:
    """Take over what kept ReLU runs have found; return how many entries went down."""
    better = 0
    for path in sorted((RAW / "relu").glob("*.json")):
        run = json.loads(path.read_text())
        entry = from_run(run)
        if entry is not None:
            better += offer(entries, f"{run['problem']}/{run['alpha']:g}", entry)
    return better


def sharpen(data: Data, alpha: float, limit: float, seed: int = 0) -> dict[str, Any]:
    """Train one problem sharply and return its entry."""
    problem = Problem.from_alpha(data.X, data.y, None, get_loss(data.loss), alpha, False)
    trained = train(
        problem, ReLU(hidden_bias=None), tol=1e-7, max_iter=200, max_time=limit, random_state=seed
    )
    certificate = trained.certificate
    return {
        "objective": certificate.objective,
        "method": "cvxnn, tol 1e-7",
        "seed": seed,
        "search_gap": certificate.search_gap,
        "lower_bound": certificate.lower_bound,
        "width": certificate.width,
        "date": datetime.date.today().isoformat(),
        "version": __version__,
    }


def main() -> None:
    """Refresh the entries, writing after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="*")
    parser.add_argument("--alphas", nargs="*", type=float, default=list(ALPHAS))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    entries = read()
    print(f"{take_runs(entries)} entries went down through kept runs")
    write(entries)
    for data in available(tuple(options.problems) if options.problems else None):
        for alpha in options.alphas:
            key = f"{data.name}/{alpha:g}"
            entry = sharpen(data, alpha, options.limit, options.seed)
            word = "lower" if offer(entries, key, entry) else "not lower"
            write(entries)
            print(
                f"{key}: {entry['objective']:.9g}, search gap {entry['search_gap']:.1e}, {word}", flush=True
            )


if __name__ == "__main__":
    main()
