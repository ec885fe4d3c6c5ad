"""The scaling suite: time against n, d, the width of the planted network, and 1/alpha.

Data come from a planted ReLU network with noise. One quantity grows, the others stay; an exponent is
fitted by least squares to log time against log quantity. The target is 1e-4 above the best objective any
of the methods ends at.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .gated import planted
from .judge import TARGET, time_to
from .peers import all_peers
from .problems import Data
from .relu import Cores, line
from .report import machine, seconds, table
from .runner import RESULTS, Case, Options, kept

CENTRE = {"n": 500, "d": 10, "width": 10, "1/alpha": 300}
GROWS = {
    "n": (125, 250, 500, 1000, 2000),
    "d": (3, 5, 10, 20, 40),
    "width": (2, 5, 10, 20, 40),
    "1/alpha": (30, 100, 300, 1000, 3000),
}


def case_of(quantity: str, value: int) -> Case:
    """Return the case in which one quantity has another value."""
    at = CENTRE | {quantity: value}
    data = planted(at["n"], at["d"], at["width"])
    name = f"planted-{at['n']}-{at['d']}-{at['width']}"
    return Case("scaling", Data(name, data.X, data.y, data.loss), 1.0 / at["1/alpha"])


def exponent(values: list[float], times: list[float]) -> float:
    """Return the slope of log time against log value over what was solved, nan of fewer than three."""
    solved = np.isfinite(times)
    if np.sum(solved) < 3:
        return float("nan")
    return float(np.polyfit(np.log(np.array(values)[solved]), np.log(np.array(times)[solved]), 1)[0])


def run(chosen: Any) -> None:
    """Run the suite and write ``results/scaling.md`` and ``.json``."""
    from .run import options_of

    options = options_of(chosen)
    names = chosen.peers or ["cvxnn", "lbfgs-500", "lbfgs-100"]
    table_of: dict[str, list[dict[str, Any]]] = {}
    for quantity, values in GROWS.items():
        table_of[quantity] = []
        for value in values:
            table_of[quantity].append(_measure(quantity, value, names, options, chosen.report))
        _write(table_of, names, options)


def _measure(
    quantity: str, value: int, names: list[str], options: Options, only_kept: bool
) -> dict[str, Any]:
    """Run all peers on one case and return the median seconds of each."""
    case, peers, cores = case_of(quantity, value), all_peers(), Cores(1)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for name in names:
        for repeat in range(options.repeats):
            old = kept(case, name, repeat) if options.resume or only_kept else None
            if old is None and only_kept:
                continue
            runs[name].append(old or cores.run(case, peers[name], repeat, options, None))
            print(line(case, runs[name][-1]), flush=True)
    found = [min(run["objective"]) for rs in runs.values() for run in rs if run.get("objective")]
    bar = min(found, default=0.0) * (1.0 + TARGET)
    times = {
        name: [time_to(run.get("seconds_of", []), run.get("objective", []), bar) for run in rs]
        for name, rs in runs.items()
    }
    return {"value": value, **{name: float(np.median(t)) if t else np.inf for name, t in times.items()}}


def _write(table_of: dict[str, list[dict[str, Any]]], names: list[str], options: Options) -> None:
    parts = [
        "# scaling: seconds to 1e-4, planted networks",
        f"{machine()['cpu']}, limit {options.limit:g} s, median of {options.repeats}. "
        + "Where nothing else is said, "
        + ", ".join(f"{key} = {value}" for key, value in CENTRE.items())
        + ".",
    ]
    facts: dict[str, Any] = {"machine": machine(), "limit": options.limit}
    for quantity, rows in table_of.items():
        values = [row["value"] for row in rows]
        slopes = {name: exponent(values, [row[name] for row in rows]) for name in names}
        lines = [[str(row["value"]), *(seconds(row[name]) for name in names)] for row in rows]
        lines.append(["exponent", *(f"{slope:.2f}" for slope in slopes.values())])
        parts += [f"## {quantity}", table([quantity, *names], lines)]
        finite = [{k: v if np.isfinite(v) else None for k, v in row.items()} for row in rows]
        facts[quantity] = {
            "rows": finite,
            "exponents": {k: v if np.isfinite(v) else None for k, v in slopes.items()},
        }
    (RESULTS / "scaling.md").write_text("\n\n".join(parts) + "\n")
    (RESULTS / "scaling.json").write_text(json.dumps(facts, indent=1) + "\n")
