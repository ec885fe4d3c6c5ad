"""The report: tables of times to the target, ratios, and how good the final networks are.

A case is a problem with an alpha. "Solved" means a judged objective within 1e-4 of the best known one. A
peer's time for a case is the median over its repetitions, a failure counting as infinite; in ratios a
failure counts as the limit, which favours it. Cases whose best network is the zero network are left out of
all means.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import best_known
from .judge import TARGET, time_to
from .peers import Peer
from .runner import RESULTS, Case, Options, kept


@dataclass(frozen=True, eq=False)
class Row:
    """One case: the runs of all peers against the best objective known.

    Parameters
    ----------
    case : Case
    best : float
        Lowest objective known.
    runs : dict of str to list of dict
        By peer.
    """

    case: Case
    best: float
    runs: dict[str, list[dict[str, Any]]]

    def times(self, peer: str) -> list[float]:
        """Return seconds to the target of every repetition, ``inf`` for a miss."""
        bar = self.best * (1.0 + TARGET)
        times = []
        for run in self.runs[peer]:
            reached = time_to(run.get("seconds_of", []), run.get("objective", []), bar)
            times.append(reached if reached <= run["limit"] else float("inf"))
        return times

    def tried(self, peer: str) -> bool:
        """Whether the peer ran at all: what is not available, or breaks down at once, is no failure."""
        return any(run.get("objective") or run["stopped"] == "killed" for run in self.runs.get(peer, []))

    def time(self, peer: str) -> float:
        """Return the median time of a peer."""
        return float(np.median(self.times(peer))) if self.runs.get(peer) else float("inf")

    def final(self, peer: str) -> float:
        """Return the lowest objective a peer found in any repetition."""
        found = [min(run["objective"]) for run in self.runs.get(peer, []) if run.get("objective")]
        return min(found, default=float("inf"))

    @property
    def trivial(self) -> bool:
        """Whether the best network has no neuron."""
        runs = [run for name, rs in self.runs.items() if name.startswith("cvxnn") for run in rs]
        return bool(runs) and all(run.get("extra", {}).get("width") == 0 for run in runs)


def collect(cases: list[Case], peers: list[Peer], repeats: int) -> list[Row]:
    """Read the kept runs of all cases that have any."""
    entries = best_known.read()
    rows = []
    for case in cases:
        runs = {
            peer.name: [run for i in range(repeats) if (run := kept(case, peer.name, i)) is not None]
            for peer in peers
        }
        found = [min(run["objective"]) for rs in runs.values() for run in rs if run.get("objective")]
        if case.suite == "relu" and case.key in entries:
            found.append(entries[case.key]["objective"])
        if found and any(runs.values()):
            rows.append(Row(case, min(found), runs))
    return rows


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean, nan of nothing."""
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")


def ratios(rows: list[Row], peer: str, ours: str, limit: float) -> list[float]:
    """Return peer's time over ours by case, failures at the limit, cases both fail left out."""
    found = []
    for row in rows:
        a, b = row.time(peer), row.time(ours)
        if row.tried(peer) and row.tried(ours) and min(a, b) < float("inf"):
            found.append(max(min(a, limit), 1e-4) / max(min(b, limit), 1e-4))
    return found


def hindsight(row: Row, peers: list[str]) -> tuple[str, float]:
    """Return the fastest of the peers on a case, and its time."""
    return min(((peer, row.time(peer)) for peer in peers), key=lambda pair: pair[1])


def ended(row: Row, ours: str) -> list[dict[str, Any]]:
    """Return our runs that went to their own end, without those that were only timed."""
    return [run for run in row.runs.get(ours, []) if run.get("extra") and not run["extra"].get("cut")]


def excess(row: Row, ours: str) -> float:
    """Return how far our worst final objective is above the best of any peer, relative to it."""
    others = [row.final(peer) for peer in row.runs if peer != ours]
    finals = [run["objective"][-1] for run in ended(row, ours) if run.get("objective")]
    if not finals or min(others, default=np.inf) == np.inf:
        return float("nan")
    return max(finals) / min(others) - 1.0


def own_final(row: Row, peer: str, ours: str) -> tuple[float, float] | None:
    """Return a peer's time to its own final objective, and our time to that objective.

    For peers that solve another problem, whose optimum is above the target. The peer's clock stops within
    1e-4 of it, ours at it, or at our limit; None where either did not run.
    """
    runs = [run for run in row.runs.get(peer, []) if run.get("objective")]
    mine = [run for run in row.runs.get(ours, []) if run.get("objective")]
    if not runs or not mine:
        return None
    final = row.final(peer)
    theirs = [time_to(run["seconds_of"], run["objective"], final * (1.0 + TARGET)) for run in runs]
    times = [min(time_to(run["seconds_of"], run["objective"], final), run["limit"]) for run in mine]
    theirs = [time for time in theirs if time < float("inf")]  # of the repetition that ended there
    return float(np.median(theirs)), float(np.median(times))


def seconds(value: float) -> str:
    """Write seconds for a table."""
    return "—" if value == float("inf") else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def table(head: list[str], lines: list[list[str]]) -> str:
    """Write a Markdown table whose first column is text and whose others are numbers."""
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "numpy": np.__version__}


def unavailable(rows: list[Row], peers: list[Peer]) -> list[str]:
    """Say of every peer that could not run why, once for each reason."""
    lines = []
    for peer in peers:
        reasons: dict[str, list[str]] = {}
        for row in rows:
            for run in row.runs.get(peer.name, []):
                if run["stopped"] in ("unavailable", "error", "killed"):
                    reasons.setdefault(run.get("error", run["stopped"]), []).append(row.case.key)
            if row.case.data.loss not in peer.losses:
                reasons.setdefault(f"does not support {row.case.data.loss}", []).append(row.case.key)
        for reason, where in reasons.items():
            keys = sorted(set(where))
            shown = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            lines.append(f"- {peer.name}: not available: {reason} ({shown})")
    return lines


def _times_table(rows: list[Row], names: list[str]) -> str:
    lines = []
    for row in rows:
        times = {name: row.time(name) for name in names}
        least = min(times.values())
        cells = [
            f"**{seconds(t)}**" if t == least < float("inf") else seconds(t) if row.tried(name) else "n/a"
            for name, t in times.items()
        ]
        n, d = row.case.data.X.shape
        label = f"{row.case.data.name} ({n} x {d})"
        lines.append([label, f"{row.case.alpha:g}", f"{row.best:.6g}", *cells])
    return table(["problem", "alpha", "best known", *names], lines)


def _summary_table(rows: list[Row], names: list[str], ours: str, limit: float) -> str:
    lines = []
    for name in names:
        tried = [row for row in rows if row.tried(name)]
        solved = sum(row.time(name) < float("inf") for row in tried)
        r = ratios(rows, name, ours, limit)
        lines.append([name, f"{solved} / {len(tried)}", f"{geometric_mean(r):.3g}" if r else "n/a"])
    return table(["peer", "solved to 1e-4", f"time / time of {ours} (geometric mean)"], lines)


def _own_finals(rows: list[Row], names: list[str], ours: str) -> str:
    """A table of peers on sampled patterns: our time to what they end with, against theirs."""
    lines = []
    for name in names:
        pairs = [(row, own_final(row, name, ours)) for row in rows if name.startswith("scnn")]
        found = [(max(pair[0], 1e-4) / max(pair[1], 1e-4), row) for row, pair in pairs if pair]
        if not found:
            continue
        least, where = min(found, key=lambda entry: entry[0])
        above = [row.final(name) / row.best - 1.0 for _, row in found]
        mean = geometric_mean([ratio for ratio, _ in found])
        cells = [f"{mean:.3g}", f"{least:.3g} ({where.case.key})", f"{np.median(above):.1%}"]
        lines.append([name, str(len(found)), *cells])
    if not lines:
        return ""
    head = ["peer", "cases", "time / our time to its own final objective, geometric mean", "least"]
    return table([*head, "its final objective above the best known, median"], lines)


def _final_table(rows: list[Row], ours: str) -> str:
    lines = []
    for row in rows:
        runs = ended(row, ours)
        if not runs:
            continue
        worst = max(runs, key=lambda run: run["objective"][-1])
        extra, final = worst["extra"], worst["objective"][-1]
        proven = max(extra["lower_bound"], 0.0) / final
        lines.append(
            [
                f"{row.case.key}",
                f"{final:.8g}",
                f"{final / row.best - 1:.1e}",
                f"{excess(row, ours):.1e}",
                f"{extra['search_gap']:.1e}",
                f"{proven:.3f}",
                str(extra["width"]),
                seconds(extra["searched"]),
                seconds(extra["seconds"]),
            ]
        )
    head = ["case", "objective", "above best known", "above best peer", "search gap", "bound / objective"]
    return table([*head, "neurons", "seconds, search", "seconds, with proof"], lines)


def write(cases: list[Case], peers: list[Peer], options: Options, suffix: str = "") -> Path:
    """Write ``results/SUITE.md``, ``.json`` and the pictures from kept runs; return the first."""
    from .pictures import draw

    rows = collect(cases, peers, options.repeats)
    if not rows:
        raise SystemExit("no runs are kept yet: run the suite first")
    suite, ours = cases[0].suite, next(peer.name for peer in peers if peer.name.startswith("cvxnn"))
    names = [peer.name for peer in peers]
    counted = [row for row in rows if not row.trivial]
    rest = [name for name in names if name != ours]
    stem = RESULTS / f"{suite}{suffix}"
    pictures = draw(counted, names, ours, options.limit, stem)
    text = _text(rows, counted, peers, names, rest, ours, options, pictures)
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps(_facts(rows, names, ours, options), indent=1) + "\n")
    print(f"wrote {stem.with_suffix('.md')}")
    return stem.with_suffix(".md")


def _text(
    rows: list[Row],
    counted: list[Row],
    peers: list[Peer],
    names: list[str],
    rest: list[str],
    ours: str,
    options: Options,
    pictures: list[Path],
) -> str:
    info = machine()
    worst = [excess(row, ours) for row in rows]
    worst = [value for value in worst if np.isfinite(value)]
    fastest = [hindsight(row, rest) for row in counted] if rest else []
    beaten = [
        min(t, options.limit) / min(row.time(ours), options.limit)
        for row, (_, t) in zip(counted, fastest, strict=False)
        if min(t, row.time(ours)) < float("inf")
    ]
    parts = [
        f"# {rows[0].case.suite}: seconds to an objective within 1e-4 of the best known",
        f"{info['cpu']}, {options.threads} BLAS thread(s) a run, limit {options.limit:g} s, "
        f"median of {options.repeats}. How this is measured: [README](../README.md). A dash is a run that "
        "did not get there within the limit; a peer that ran into its limit is not repeated.",
        _summary_table(counted, names, ours, options.limit),
        _own_finals(counted, rest, ours),
        "The fastest peer of each case, chosen with hindsight: "
        f"{geometric_mean(beaten):.3g} times our time in the geometric mean "
        f"({sum(b < 1 for b in beaten)} of {len(beaten)} cases faster than ours).",
        f"Our final objective is at worst {max(worst, default=float('nan')):.1e} above the best of any "
        f"peer. {_stopped(rows)}",
        f"Share of wall-clock time that the runs had a core (1 on a quiet machine): {_share(rows)}.",
        "## Every case",
        _times_table(rows, names),
        f"## Final networks of {ours}",
        _final_table(rows, ours),
    ]
    missing = unavailable(rows, peers)
    if missing:
        parts += ["## Not available", "\n".join(missing)]
    parts += [f"![{path.stem}]({path.name})" for path in pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stopped(rows: list[Row]) -> str:
    """Say how many peers stopped at the target, where their final objectives mean little."""
    runs = [run for row in rows for rs in row.runs.values() for run in rs]
    early = sum(run["stopped"] == "target" for run in runs)
    if not early:
        return "No peer stopped early."
    return (
        f"{early} runs of peers stopped at the target by design: only `--final` compares final objectives."
    )


def _share(rows: list[Row]) -> str:
    runs = [run for row in rows for rs in row.runs.values() for run in rs]
    shares = [run["cpu_share"] for run in runs if "cpu_share" in run and run["seconds"] > 0.5]
    return f"{np.median(shares):.2f} in the median" if shares else "not measured"


def _facts(rows: list[Row], names: list[str], ours: str, options: Options) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    cases = [
        {
            "problem": row.case.data.name,
            "alpha": row.case.alpha,
            "n": row.case.data.X.shape[0],
            "d": row.case.data.X.shape[1],
            "loss": row.case.data.loss,
            "best": row.best,
            "trivial": row.trivial,
            "excess": number(excess(row, ours)),
            "ours": [run.get("extra") for run in row.runs.get(ours, [])],
            "seconds": {name: [number(t) for t in row.times(name)] for name in names if row.runs[name]},
            "final": {name: number(row.final(name)) for name in names if row.runs[name]},
        }
        for row in rows
    ]
    return {"machine": machine(), "limit": options.limit, "threads": options.threads, "cases": cases}
