"""One run: a worker process in the peer's interpreter, judged when it is over, and kept as a file.

Results lie in ``results/raw/SUITE/PROBLEM__ALPHA__PEER__REPEAT.json`` as they come, so an interrupted
benchmark goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .environments import Unavailable, interpreter
from .judge import judge_gated, judge_relu
from .peers import Peer
from .problems import Data

RESULTS = Path(__file__).resolve().parent / "results"
RAW = RESULTS / "raw"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
#: Seconds a process may take beyond its limit for imports, warm-up and saving.
GRACE = 120.0


@dataclass(frozen=True)
class Options:
    """What all runs of a benchmark share.

    Parameters
    ----------
    limit : float
        Seconds for a run.
    repeats : int
    threads : int
        BLAS threads, equal for all peers.
    jobs : int
        Processes at a time, each pinned to its own core if there is more than one.
    resume : bool
        Whether results that are there are taken.
    final : bool
        Whether peers run on at the target, to see how low they get.
    clock : {"wall", "cpu"}
        What a second is; "cpu" counts those of the process, where others share its core.
    """

    limit: float = 60.0
    repeats: int = 3
    threads: int = 1
    jobs: int = 1
    resume: bool = False
    final: bool = False
    clock: str = "wall"


@dataclass(frozen=True, eq=False)
class Case:
    """A problem with its alpha, and the gates where they are given.

    Parameters
    ----------
    suite : str
    data : Data
    alpha : float
    gates : ndarray of shape (P, d) or None
    """

    suite: str
    data: Data
    alpha: float
    gates: np.ndarray | None = None

    @property
    def key(self) -> str:
        """``PROBLEM/ALPHA``, as in ``best_known.json``."""
        return f"{self.data.name}/{self.alpha:g}"


def path_of(case: Case, peer: str, repeat: int) -> Path:
    """Return where a run is kept."""
    return RAW / case.suite / f"{case.data.name}__{case.alpha:g}__{peer}__{repeat}.json"


def kept(case: Case, peer: str, repeat: int) -> dict[str, Any] | None:
    """Return a run that was made before, or None."""
    path = path_of(case, peer, repeat)
    return json.loads(path.read_text()) if path.exists() else None


def run(
    case: Case, peer: Peer, repeat: int, options: Options, target: float | None, core: int | None = None
) -> dict[str, Any]:
    """Run a peer once, judge it, keep it and return what is kept.

    Parameters
    ----------
    target : float or None
        Objective at which the peer may stop.
    core : int or None
        Core to pin the process to.
    """
    done: dict[str, Any] = {
        "suite": case.suite,
        "problem": case.data.name,
        "alpha": case.alpha,
        "n": len(case.data.y),
        "d": case.data.X.shape[1],
        "loss": case.data.loss,
        "peer": peer.name,
        "repeat": repeat,
        "limit": options.limit,
        "threads": options.threads,
        "target": target,
        "clock": options.clock,
    }
    if case.data.loss not in peer.losses:
        done |= {"stopped": "unavailable", "error": f"does not support {case.data.loss}"}
        return done
    try:
        python = interpreter(peer.environment)
    except Unavailable as error:
        done |= {"stopped": "unavailable", "error": str(error)}
        return done
    with tempfile.TemporaryDirectory() as folder:
        done |= _work(case, peer, repeat, options, target, core, python, Path(folder))
    path = path_of(case, peer.name, repeat)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(done))
    draft.replace(path)
    return done


def _work(
    case: Case,
    peer: Peer,
    repeat: int,
    options: Options,
    target: float | None,
    core: int | None,
    python: str,
    folder: Path,
) -> dict[str, Any]:
    arrays = {"X": case.data.X, "y": case.data.y}
    gated = case.gates is not None
    if case.gates is not None:
        arrays["gates"] = case.gates
    np.savez(folder / "problem.npz", **arrays)  # type: ignore[arg-type]
    spec = {
        "peer": peer.name,
        "problem": str(folder / "problem.npz"),
        "out": str(folder / "run"),
        "loss": case.data.loss,
        "alpha": case.alpha,
        "seed": repeat,
        "limit": options.limit,
        "target": target,
        "clock": options.clock,
        "gated": gated,
        "core": core,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    worker = str(Path(__file__).resolve().parent / "worker.py")
    threads = dict.fromkeys(THREADS, str(options.threads))
    try:
        process = subprocess.run(
            [python, worker, str(folder / "spec.json")],
            env=os.environ | threads,
            capture_output=True,
            text=True,
            timeout=(4.0 if options.clock == "wall" else 12.0) * options.limit + GRACE,
        )
    except subprocess.TimeoutExpired:
        return {"stopped": "killed", "error": "still running long after its limit"}
    facts = folder / "run.json"
    if not facts.exists():
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        return {"stopped": "error", "error": lines[-1]}
    done = json.loads(facts.read_text())
    trajectory = str(folder / "run.npz")
    if case.gates is not None:
        verdict = judge_gated(case.data, case.alpha, trajectory, case.gates)
    else:
        bias = "free" if peer.suite == "free" else None
        verdict = judge_relu(case.data, case.alpha, trajectory, bias)
    return done | verdict.to_dict()
