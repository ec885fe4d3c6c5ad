"""Interpreters for peers whose packages do not fit beside ours, made when they are first needed.

Each is a virtual environment ``.venv-bench/NAME``, filled by pip. What cannot be made is remembered with
the reason, and reported in the tables: a peer is never dropped in silence.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / ".venv-bench"
#: What pip is told to install, one list for each call of pip; the first list of a pair that works is taken.
REQUIREMENTS: dict[str, list[list[str]]] = {
    "adelie": [["adelie==1.1.52", "numpy<2"]],
    "skglm": [["skglm==0.5"]],
    "celer": [["celer==0.7.4"]],
    # the CPU build of torch is a fifth of the size; the plain one serves where it is not to be had
    "scnn": [["torch==2.13.0+cpu", "pyscnn==0.0.10"], ["pyscnn==0.0.10"]],
}


class Unavailable(RuntimeError):
    """The environment cannot be made here; the message says why."""


@cache
def interpreter(name: str) -> str:
    """Return the path of an environment's Python, "cvxnn" being ours; make it first if needed.

    Raises
    ------
    Unavailable
        If pip cannot install what the environment needs.
    """
    if name == "cvxnn":
        return sys.executable
    python, done = HOME / name / "bin" / "python", HOME / name / "complete"
    wanted = repr(REQUIREMENTS[name])
    if done.exists() and done.read_text() == wanted:
        return str(python)
    print(f"making the environment {python.parent.parent} ...", file=sys.stderr, flush=True)
    _call([sys.executable, "-m", "venv", "--clear", str(HOME / name)])
    reason = ""
    for packages in REQUIREMENTS[name]:
        try:
            _call([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages])
        except Unavailable as error:
            reason = str(error)
            continue
        done.write_text(wanted)
        return str(python)
    raise Unavailable(reason)


def _call(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{type(error).__name__}") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise Unavailable((lines or ["pip failed"])[-1])
