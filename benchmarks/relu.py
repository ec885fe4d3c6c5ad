"""The main suite: two-layer ReLU networks, cvxnn against what people train them with.

Every peer gets the same problem and the same clock; the target of a case is the best objective anybody has
found times 1 + 1e-4. cvxnn goes first, so that a case without a best known objective has one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from os import sched_getaffinity
from queue import SimpleQueue
from threading import Lock
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import best_known
from .judge import TARGET, time_to
from .peers import Peer
from .runner import Case, Options, kept, run

#: Peers of the quick benchmark.
QUICK = ("cvxnn", "lbfgs-100", "lbfgs-500", "adam-0.01")


class Cores:
    """Hands a core to each running process; with one process it is left to the caller's affinity."""

    def __init__(self, jobs: int) -> None:
        self.free: SimpleQueue[int | None] = SimpleQueue()
        cores = sorted(sched_getaffinity(0))
        for i in range(jobs):
            self.free.put(None if jobs == 1 else cores[i % len(cores)])

    def run(self, *args: Any) -> dict[str, Any]:
        """Call :func:`benchmarks.runner.run` on a free core."""
        core = self.free.get()
        try:
            return run(*args, core)
        finally:
            self.free.put(core)


def run_case(
    case: Case, peers: list[Peer], options: Options, cores: Cores, entries: dict[str, Any], told: Any
) -> list[dict[str, Any]]:
    """Run all peers and repetitions of a case; `told` hears of every finished run."""
    results = []
    for peer in peers:
        for repeat in range(options.repeats):
            result = _one(case, peer, repeat, options, cores, entries)
            entry = best_known.from_run(result) if case.suite == "relu" else None
            if entry is not None:
                best_known.offer(entries, case.key, entry)
            results.append(result)
            told(case, result)
            if hopeless(result, entries.get(case.key) if case.suite == "relu" else None):
                told(case, None, options.repeats - repeat - 1)
                break
    return results


def hopeless(result: dict[str, Any], entry: dict[str, Any] | None) -> bool:
    """Whether a run tells that repeating it is a waste: not available, or out of time or stalled."""
    if result["stopped"] in ("unavailable", "error", "killed"):
        return True
    if entry is None or result["peer"].startswith("cvxnn"):
        return False
    bar = entry["objective"] * (1.0 + TARGET)
    return (
        time_to(result["seconds_of"], result["objective"], bar) == float("inf")
        and result["stopped"] == "limit"
    )


def _one(
    case: Case, peer: Peer, repeat: int, options: Options, cores: Cores, entries: dict[str, Any]
) -> dict[str, Any]:
    # best objectives are known of the family without biases only
    entry = entries.get(case.key) if case.suite == "relu" else None
    target = None
    whole = options.final or (peer.name.startswith("cvxnn") and repeat == 0)
    if entry is not None and not whole:
        target = entry["objective"] * (1.0 + TARGET)
    old = kept(case, peer.name, repeat) if options.resume else None
    if old is not None and not _stale(old, target, options):
        return old
    return cores.run(case, peer, repeat, options, target)


def _stale(old: dict[str, Any], target: float | None, options: Options) -> bool:
    """A run that stopped at a target which has since gone down, or had less time, is made again."""
    if old["limit"] != options.limit or old["stopped"] in ("unavailable", "error"):
        return True
    return old["stopped"] == "target" and target is not None and min(old["objective"]) > target


def run_all(cases: list[Case], peers: list[Peer], options: Options) -> list[dict[str, Any]]:
    """Run every case with a progress bar, and remember the best objectives."""
    entries, cores, lock = best_known.read(), Cores(options.jobs), Lock()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(options.jobs) as pool:
        task = progress.add_task("runs", total=len(cases) * len(peers) * options.repeats)

        def told(case: Case, result: dict[str, Any] | None, skipped: int = 0) -> None:
            progress.advance(task, skipped if result is None else 1)
            if result is not None:
                with lock:  # interrupted or not, what was found stays known
                    best_known.write(best_known.read() | dict(entries))
                progress.update(task, description=f"{case.key} {result['peer']}")
                progress.console.print(line(case, result), highlight=False, soft_wrap=True)

        work: list[Future[list[dict[str, Any]]]] = [
            pool.submit(run_case, case, peers, options, cores, entries, told) for case in cases
        ]
        results = [result for future in work for result in future.result()]
    return results


def line(case: Case, result: dict[str, Any]) -> str:
    """Say in one line how a run ended."""
    head = f"{case.key:26} {result['peer']:14} #{result['repeat']}"
    if not result.get("objective"):
        return f"{head} {result['stopped']}: {result.get('error', 'no network')}"
    best, last = min(result["objective"]), result["seconds_of"][-1]
    return f"{head} {best:.9g} after {last:.2f} s ({result['stopped']})"
