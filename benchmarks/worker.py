"""One run of one peer, in the peer's own interpreter.

    python worker.py spec.json

The peer first solves a tiny problem, so that imports and just-in-time compilation are over when the clock
starts. What comes back is a trajectory of networks (``.npz``) and a few facts about the process
(``.json``); both are judged elsewhere. Only numpy and the peer are imported: cvxnn is not there in every
environment.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def _tiny(spec: dict[str, Any]) -> Any:
    """A problem that is solved at once, of the same loss and kind as the real one."""
    import numpy as np

    from benchmarks.peers import Task

    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2))
    X /= np.linalg.norm(X, axis=0)
    gates = rng.standard_normal((6, 2)) if spec["gated"] else None
    return Task(X, np.where(rng.random(12) < 0.5, -1.0, 1.0), spec["loss"], 1e-2, 0, 0.5, gates)


def main(path: str) -> None:
    """Run what the spec says and write ``spec["out"]`` with .npz and .json."""
    spec = json.loads(Path(path).read_text())
    if spec["core"] is not None:
        os.sched_setaffinity(0, {spec["core"]})
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import numpy as np

    from benchmarks.peers import Task, all_peers
    from benchmarks.recorder import Recorder

    peer = all_peers()[spec["peer"]]
    facts: dict[str, Any] = {"python": sys.version.split()[0], "numpy": np.__version__}
    with np.load(spec["problem"]) as file:
        gates = file["gates"] if spec["gated"] else None
        task = Task(file["X"], file["y"], spec["loss"], spec["alpha"], spec["seed"], spec["limit"], gates)
    clock = time.process_time if spec["clock"] == "cpu" else time.perf_counter
    record = Recorder(spec["limit"], spec["target"], clock)
    try:
        peer.solve(_tiny(spec), Recorder(0.5, None, clock))
        began, cpu = time.perf_counter(), time.process_time()
        record.start()
        facts["extra"] = peer.solve(task, record) or {}
        facts["seconds"] = record.spent + record.seconds
        facts["stopped"] = record.stopped
        facts["cpu_share"] = (time.process_time() - cpu) / (time.perf_counter() - began)
    except Exception as error:
        facts["stopped"] = "error"
        facts["error"] = f"{type(error).__name__}: {error}"
        facts["traceback"] = traceback.format_exc()
        facts["seconds"] = record.spent + record.seconds
    facts["memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    record.save(spec["out"] + ".npz")
    Path(spec["out"] + ".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
