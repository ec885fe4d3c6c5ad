"""The gated suite: one convex problem for everybody, solved to the same certified relative gap.

Given 500 or 5000 Gaussian gates, ``min (1/n) sum loss(sum_j D_j X w_j, y) + alpha sum_j |w_j|`` is a group
lasso; every network is judged by its own exact duality gap, so nothing about the optimum need be known
before. Strengths are given as shares of alpha_max, from which on all weights are zero.

Both clocks run from plain arrays on: patterns, matrices and dictionaries are made within them. Ours runs
until the certificate is there, with its own products over all gates; a peer has none, and its clock stops
with its weights.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .peers.arithmetic import loss_and_slope
from .problems import Data, Missing, load, prepare
from .relu import Cores, line
from .report import geometric_mean, machine, seconds, table
from .runner import RESULTS, Case, Options, kept

#: The certified relative gap to reach.
GAP = 1e-6
#: Problem, gates, shares of alpha_max; ``planted-N-D`` is made here.
CASES: tuple[tuple[str, int, tuple[float, ...]], ...] = (
    ("breast-cancer", 500, (0.5, 0.1, 0.01, 0.001)),
    ("digits-4-9", 500, (0.5, 0.1, 0.01)),
    ("planted-500-10", 5000, (0.5, 0.1, 0.01)),
    ("planted-1000-20", 1000, (0.5, 0.1, 0.01)),
    ("planted-5000-10", 500, (0.5, 0.1, 0.01)),
    ("breast-cancer-log", 500, (0.5, 0.1, 0.01)),
    ("sonar-log", 500, (0.5, 0.1)),
    ("pima-log", 5000, (0.5, 0.1)),
    ("planted-2000-60", 500, (0.5, 0.1)),
    ("breast-cancer", 5000, (0.5, 0.1)),
    ("planted-5000-20", 5000, (0.5, 0.1)),
)


def planted(n: int, d: int, width: int = 10, seed: int = 0) -> Data:
    """Make data whose targets come from a ReLU network of `width` neurons with noise."""
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((n, d)), rng.standard_normal((d, width)) / np.sqrt(d)
    f = np.maximum(X @ W, 0.0) @ np.where(np.arange(width) % 2, -1.0, 1.0)
    targets = f + 0.1 * f.std() * rng.standard_normal(n)
    return prepare(f"planted-{n}-{d}", X, targets, "squared_error", True)


def largest(data: Data, gates: np.ndarray) -> float:
    """Return alpha_max of gates (P, d): the largest price of the zero network, per sample."""
    slope = loss_and_slope(data.loss, np.zeros(len(data.y)), data.y)[1]
    prices = np.linalg.norm(((gates @ data.X.T >= 0) * slope) @ data.X, axis=1)
    return float(np.max(prices))


def cases(problems: list[str] | None, shares: list[float] | None) -> list[tuple[float, Case]]:
    """Return the cases with their shares of alpha_max; `shares` chooses among those of a problem."""
    found = []
    for name, number, ratios in CASES:
        if problems and name not in problems:
            continue
        try:
            planned = name.startswith("planted")
            data = planted(*map(int, name.split("-")[1:])) if planned else load(name)
        except Missing as error:
            print(f"{name}: left out, {error}")
            continue
        gates = np.random.default_rng(0).standard_normal((number, data.X.shape[1]))
        top = largest(data, gates)
        named = Data(f"{data.name}-{number}", data.X, data.y, data.loss)
        for share in ratios:
            if not shares or share in shares:
                found.append((share, Case("gated", named, share * top, gates)))
    return found


def run(chosen: Any) -> None:
    """Run the suite and write ``results/gated.md`` and ``.json``."""
    from .run import choose_peers, options_of

    options, peers = options_of(chosen), choose_peers("gated", chosen.peers)
    cores, rows = Cores(1), []
    for share, case in cases(chosen.problems, chosen.alphas):
        n, d = case.data.X.shape
        row: dict[str, Any] = {"problem": case.data.name, "loss": case.data.loss, "n": n, "d": d}
        row |= {"gates": len(case.gates if case.gates is not None else ()), "share": share, "peers": {}}
        for peer in peers:
            old = kept(case, peer.name, 0) if options.resume or chosen.report else None
            if old is not None and old["stopped"] in ("error", "killed") and not chosen.report:
                old = None
            if old is None and chosen.report:
                continue
            result = old or cores.run(case, peer, 0, options, None)
            row["peers"][peer.name] = reading(result, peer.name.startswith("cvxnn"))
            print(f"{share:<6g}{line(case, result)}", row["peers"][peer.name]["times"], flush=True)
        if not row["peers"]:
            continue  # a report of what has been run so far
        rows.append(row)
        _write(rows, [peer.name for peer in peers], options)


def reading(result: dict[str, Any], ours: bool) -> dict[str, Any]:
    """What the tables need of a run: the times to the gap, or the time it had and the gap it reached."""
    gaps, of = result.get("gap") or [], result.get("seconds_of") or []
    extra = result.get("extra") or {}
    best = min(gaps, default=None)
    times: list[float] = []
    if best is not None and best <= GAP:
        # black boxes and ours measure whole solves; scnn shows its networks on the way
        times = extra.get("times") or [min(s for s, g in zip(of, gaps, strict=True) if g <= GAP)]
    late = float(max(of, default=0.0)) if not times else None
    facts = {"times": times, "gap": best, "spent": late, "stopped": result["stopped"]}
    facts |= {"limit": result.get("limit"), "clock": result.get("clock"), "error": result.get("error")}
    facts |= {"tolerance": extra.get("tolerance"), "memory_mib": result.get("memory_mib")}
    return facts | ({"width": extra.get("width"), "to_network": of[0] if of else None} if ours else {})


def _median(entry: dict[str, Any] | None) -> float:
    return float(np.median(entry["times"])) if entry and entry["times"] else np.inf


def _bound(entry: dict[str, Any] | None) -> float:
    """The median time to the gap, or the time that was not enough; nan where there was no run."""
    if entry is None or entry["gap"] is None:
        return np.nan
    return _median(entry) if entry["times"] else float(entry["spent"])


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    if entry["gap"] is None:
        return "n/a"
    return (
        seconds(_median(entry)) if entry["times"] else f"> {seconds(entry['spent'])} ({entry['gap']:.0e})"
    )


def _summary(rows: list[dict[str, Any]], name: str, ours: str) -> list[str]:
    pairs = [(_bound(row["peers"].get(name)), _median(row["peers"].get(ours)), row) for row in rows]
    ratios = [(a / b, row["share"]) for a, b, row in pairs if np.isfinite(a) and np.isfinite(b)]
    if not ratios:
        return [name, "0", "n/a", "n/a", "n/a"]
    solved = sum(bool(row["peers"][name]["times"]) for a, _, row in pairs if np.isfinite(a))
    half = [r for r, share in ratios if share == 0.5]
    cells = [f"{geometric_mean([r for r, _ in ratios]):.3g}", f"{min(r for r, _ in ratios):.2g}"]
    return [name, f"{solved} / {len(ratios)}", *cells, f"{min(half):.2g}" if half else "n/a"]


def _write(rows: list[dict[str, Any]], names: list[str], options: Options) -> None:
    ours = next(name for name in names if name.startswith("cvxnn"))
    rest = [name for name in names if name != ours]
    entries = [entry for row in rows for entry in row["peers"].values()]
    clocks = sorted({entry["clock"] for entry in entries if entry["clock"]})
    limits = sorted({entry["limit"] for entry in entries if entry["limit"]})
    what = {"cpu": "CPU seconds of the process", "wall": "seconds of the wall clock"}
    lines = [
        [
            f"{row['problem'].rsplit('-', 1)[0]} ({row['n']} x {row['d']})",
            *map(str, (row["gates"], row["share"], (row["peers"].get(ours) or {}).get("width"))),
            *(_cell(row["peers"].get(name)) for name in names),
        ]
        for row in rows
    ]
    reasons = {
        f"- {name}: {entry['error']}"
        for row in rows
        for name, entry in row["peers"].items()
        if entry["error"]
    }
    parts = [
        f"# gated: seconds to a certified relative gap of {GAP:g}",
        f"{machine()['cpu']}, {' and '.join(what[clock] for clock in clocks)}, {options.threads} BLAS "
        f"thread(s), limit {' or '.join(f'{limit:g}' for limit in limits)} s, median of {options.repeats} "
        f"solves. Ours includes its certificate. Where a peer did not arrive, the longest solve that was "
        "not enough is shown with its gap: a lower bound, and so it counts in ratios. "
        "[README](../README.md)",
        table(
            ["peer", "solved", f"time / {ours}, geometric mean", "least", "least at 0.5"],
            [_summary(rows, name, ours) for name in rest],
        ),
        table(["problem", "gates", "alpha / alpha_max", "neurons", *names], lines),
        "\n".join(["## Not available", "", *sorted(reasons)]) if reasons else "",
    ]
    (RESULTS / "gated.md").write_text("\n\n".join(part for part in parts if part) + "\n")
    facts = {"machine": machine(), "clocks": clocks, "limits": limits, "gap": GAP, "cases": rows}
    (RESULTS / "gated.json").write_text(json.dumps(facts, indent=1) + "\n")
