r"""The scaling suite: time against n, d, the width of the planted network, and the strength of the penalty.

Data come from a planted ReLU network with noise. One quantity grows, the others stay. Columns have unit
norm, which makes alpha_max fall as ``1 / sqrt(n)``: what stays is therefore ``alpha_max / alpha`` and not
alpha, so that growing n does not also mean another problem. alpha_max is computed before and not timed.

The target is 1e-4 above what cvxnn ends at, or above what a peer ends at where that is lower. An exponent
is the slope of log time against log quantity, by least squares. A run that failed is *censored*: all that
is known is that its time is above the limit. With the limit in its place the slope is a lower bound of
the true one if every failure lies above the mean of the log quantities (there a longer time raises the
slope), and it is written as "> 1.2"; otherwise nothing is said.

Reference: Tobin, Econometrica 1958 (censored observations).
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from cvxnn.architectures.relu import ReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.threshold import threshold
from cvxnn.train import Ground

from .gated import planted
from .judge import TARGET, time_to
from .peers import all_peers
from .pictures import scaling
from .problems import Data
from .relu import Cores, line
from .report import machine, seconds, table
from .runner import RESULTS, Case, Options, kept

STRENGTH = "alpha_max / alpha"
CENTRE = {"n": 500, "d": 10, "width": 10, STRENGTH: 10}
GROWS = {
    "n": (125, 250, 500, 1000, 2000),
    "d": (3, 5, 10, 20, 40),
    "width": (2, 5, 10, 20, 40),
    STRENGTH: (3, 10, 30, 100, 300),
}
PEERS = ("cvxnn", "lbfgs-500", "lbfgs-100", "adam-0.01")
#: A peer's run is repeated if it took less than this share of the limit.
BRIEF = 0.25


@cache
def largest(n: int, d: int, width: int) -> tuple[Data, float]:
    """Return planted data and their alpha_max, to two digits."""
    made = planted(n, d, width)
    data = Data(f"planted-{n}-{d}-{width}", made.X, made.y, made.loss)
    problem = Problem.from_alpha(data.X, data.y, None, get_loss(data.loss), 1.0, False)
    architecture = ReLU(hidden_bias=None)
    ground = Ground.prepare(problem, architecture, np.random.default_rng(0))
    return data, float(f"{threshold(architecture, ground)[0]:.2g}")


def case_of(quantity: str, value: int) -> Case:
    """Return the case in which one quantity has another value."""
    at = CENTRE | {quantity: value}
    data, alpha_max = largest(at["n"], at["d"], at["width"])
    return Case("scaling", data, alpha_max / at[STRENGTH])


def exponent(values: list[float], times: list[float], limit: float) -> tuple[float, bool]:
    """Return the slope of log time against log value, and whether it is only a lower bound.

    Times that are not finite count as `limit`; where they say nothing about the slope it is nan.
    """
    x, failed = np.log(np.array(values, dtype=float)), ~np.isfinite(times)
    if len(x) < 3 or np.sum(~failed) < 2 or np.any(x[failed] < np.mean(x) - 1e-12):
        return float("nan"), False
    t = np.log(np.where(failed, limit, times))
    return float(np.polyfit(x, t, 1)[0]), bool(np.any(failed))


def run(chosen: Any) -> None:
    """Run the suite and write ``results/scaling.md``, ``.json`` and ``.png``."""
    from .run import options_of

    options = options_of(chosen)
    names = chosen.peers or list(PEERS)
    table_of: dict[str, list[dict[str, Any]]] = {}
    done: dict[str, dict[str, Any]] = {}
    for quantity, values in GROWS.items():
        table_of[quantity] = []
        for value in values:
            case = case_of(quantity, value)
            if case.key not in done:  # the sweeps meet at their centre
                done[case.key] = _measure(case, names, options, chosen.report)
            if done[case.key]["complete"]:  # a report of what is kept leaves out what is not
                table_of[quantity].append({"value": value, **done[case.key]})
        _write(table_of, names, options)


def _measure(case: Case, names: list[str], options: Options, only_kept: bool) -> dict[str, Any]:
    """Run all peers on one case and return the median seconds of each."""
    peers, cores = all_peers(), Cores(1)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    target = None
    for name in names:
        for repeat in range(options.repeats):
            old = kept(case, name, repeat) if options.resume or only_kept else None
            if old is None and only_kept:
                continue
            result = old or cores.run(case, peers[name], repeat, options, target)
            runs[name].append(result)
            print(line(case, result), flush=True)
            if not name.startswith("cvxnn") and _spent(result) > BRIEF * options.limit:
                break
        ended = [min(run["objective"]) for run in runs[name] if run.get("objective")]
        if name.startswith("cvxnn") and ended:
            target = min(ended) * (1.0 + TARGET)
    found = [min(run["objective"]) for rs in runs.values() for run in rs if run.get("objective")]
    bar = min(found, default=0.0) * (1.0 + TARGET)
    times = {name: [_time(run, bar, options) for run in rs] for name, rs in runs.items()}
    return {
        "alpha": case.alpha,
        "complete": all(runs.values()),
        "objective": min(found, default=None),
        **{name: float(np.median(t)) if t else np.inf for name, t in times.items()},
        "runs": times,
    }


def _spent(result: dict[str, Any]) -> float:
    return float(max(result.get("seconds_of") or [np.inf]))


def _time(result: dict[str, Any], bar: float, options: Options) -> float:
    """Seconds to the bar, infinite beyond the limit."""
    time = time_to(result.get("seconds_of", []), result.get("objective", []), bar)
    return time if time <= options.limit else np.inf


def _write(table_of: dict[str, list[dict[str, Any]]], names: list[str], options: Options) -> None:
    clock = "CPU seconds of the process" if options.clock == "cpu" else "seconds of the wall"
    parts = [
        "# scaling: seconds to 1e-4, planted networks",
        f"{machine()['cpu']}, {clock}, {options.threads} BLAS thread(s), limit {options.limit:g} s, median "
        f"of {options.repeats} (peers that take more than a quarter of the limit: one run); a dash: not "
        "within the limit. Where nothing else is said, "
        + ", ".join(f"{key} = {value}" for key, value in CENTRE.items())
        + '. Exponents are slopes of log time; "> a" is a lower bound, from runs that failed and count '
        "as the limit. [README](../README.md)",
        "![time against each quantity](scaling.png)",
    ]
    facts: dict[str, Any] = {"machine": machine(), "limit": options.limit, "clock": options.clock}
    slopes: dict[str, dict[str, tuple[float, bool]]] = {}
    for quantity, rows in table_of.items():
        values = [row["value"] for row in rows]
        slopes[quantity] = {
            name: exponent(values, [row[name] for row in rows], options.limit) for name in names
        }
        lines = [
            [str(row["value"]), f"{row['alpha']:.2g}", *(_cell(row[name]) for name in names)]
            for row in rows
        ]
        lines.append(["exponent", "", *map(slope_text, slopes[quantity].values())])
        parts += [f"## {quantity}", table([quantity, "alpha", *names], lines)]
        if len(rows) < len(GROWS[quantity]):
            parts.append(f"Measured: {len(rows)} of {len(GROWS[quantity])} values.")
        facts[quantity] = {
            "rows": [_plain(row) for row in rows],
            "exponents": {
                name: {"slope": _plain(slope), "lower_bound_only": bound}
                for name, (slope, bound) in slopes[quantity].items()
            },
        }
    (RESULTS / "scaling.md").write_text("\n\n".join(parts) + "\n")
    (RESULTS / "scaling.json").write_text(json.dumps(facts, indent=1) + "\n")
    scaling(table_of, names, slopes, options.limit, RESULTS / "scaling.png")


def slope_text(slope: tuple[float, bool]) -> str:
    """Write an exponent."""
    value, bound = slope
    return "—" if not np.isfinite(value) else f"{'> ' if bound else ''}{value:.2f}"


def _cell(time: float) -> str:
    return seconds(time) if np.isfinite(time) else "—"


def _plain(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
