"""The command line of the benchmark.

    python -m benchmarks.run --suite relu --jobs 2 --resume

runs a suite, keeps every run under ``results/raw``, and writes the report. ``--report`` only writes the
report.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from . import relu, report
from .peers import Peer, all_peers
from .problems import ALPHAS, QUICK, QUICK_ALPHAS, SETS, available
from .runner import Case, Options

SUITES = ("relu", "free", "gated", "path", "scaling", "memory", "uci", "ntk", "classes", "layerwise")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=SUITES, default="relu")
    parser.add_argument("--quick", action="store_true", help="four problems, two alphas, 6 s, one repeat")
    parser.add_argument("--problems", nargs="*", metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--alphas", nargs="*", type=float)
    parser.add_argument("--peers", nargs="*", metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one run")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, each on its own core")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads of every peer")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what a second is")
    parser.add_argument("--resume", action="store_true", help="take over results that are there")
    parser.add_argument("--final", action="store_true", help="peers run on at the target")
    parser.add_argument("--report", action="store_true", help="only write the report from kept runs")
    return parser.parse_args(arguments)


def choose_peers(suite: str, wanted: list[str] | None) -> list[Peer]:
    """Return the peers of a suite, ours first, or those asked for.

    Raises
    ------
    SystemExit
        If no peer has a name.
    """
    known = {name: peer for name, peer in all_peers().items() if peer.suite == suite}
    unknown = set(wanted or ()) - set(known)
    if unknown:
        raise SystemExit(f"no peer {sorted(unknown)} in {suite}: there are {', '.join(known)}")
    names = wanted or list(known)
    return sorted((known[name] for name in names), key=lambda peer: not peer.name.startswith("cvxnn"))


def options_of(arguments: argparse.Namespace) -> Options:
    """Return what all runs share."""
    names = ("limit", "repeats", "threads", "jobs", "resume", "final", "clock")
    return Options(**{name: getattr(arguments, name) for name in names})


def main(arguments: list[str] | None = None) -> None:
    """Run a suite and write its report."""
    chosen: Any = parse(arguments)
    if chosen.quick:
        chosen.problems, chosen.alphas = chosen.problems or list(QUICK), chosen.alphas or list(QUICK_ALPHAS)
        chosen.limit, chosen.repeats, chosen.peers = 6.0, 1, chosen.peers or list(relu.QUICK)
    if chosen.suite not in ("relu", "free"):
        importlib.import_module(f"benchmarks.{chosen.suite}").run(chosen)
        return
    options = options_of(chosen)
    cases = [
        Case(chosen.suite, data, alpha)
        for data in available(tuple(chosen.problems) if chosen.problems else None)
        for alpha in chosen.alphas or ALPHAS
    ]
    peers = choose_peers(chosen.suite, chosen.peers)
    if not chosen.report:
        relu.run_all(cases, peers, options)
    report.write(cases, peers, options, "-quick" if chosen.quick else "-final" if chosen.final else "")


if __name__ == "__main__":
    main()
