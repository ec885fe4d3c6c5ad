"""Products with 2000 gates on all of MNIST: speed against the machine's own matrix product, and memory.

    python -m benchmarks.memory

The dictionary [D_1 X ... D_P X] of 60000 samples, 784 features and 2000 gates has 9.4e10 entries; the masks
alone are 480 MB as float32. ``Masked`` keeps one bit of each and multiplies tile by tile. Measured, in one
process and in turn so that a busy machine slows them alike:

- ``apply`` and ``adjoint`` against the plain products of the same shapes, ``X @ W.T`` and ``D @ X`` with
  D (gates, samples) already there as numbers; the fastest of some repetitions counts;
- the peak of the process's resident memory after the operator's products, and before the plain ones,
  which need the 480 MB themselves.

MNIST comes from the folder of :mod:`benchmarks.problems`; without it, data of the same size are drawn.
Report: ``results/memory.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cvxnn.operators import Masked

from .problems import Missing, loader
from .runner import RESULTS


def data(limit: int | None) -> tuple[str, np.ndarray, np.ndarray]:
    """Return a name, X, float32 of shape (60000, 784) or less, and labels: MNIST, or noise of that size."""
    try:
        X, labels = loader().load_mnist("train")
        name = "MNIST"
        X, labels = X.reshape(len(X), -1)[:limit].astype(np.float32) / np.float32(255.0), labels[:limit]
    except (Missing, OSError):
        name, n = "synthetic", limit or 60_000
        rng = np.random.default_rng(0)
        X, labels = rng.random((n, 784), dtype=np.float32), rng.integers(10, size=n)
    return name, X, labels


def operator_of(X: np.ndarray, gates: int) -> Masked:
    """The operator of Gaussian gates, a hundred at a time, so that nothing here is n x P either."""
    rng, parts = np.random.default_rng(1), []
    for start in range(0, gates, 100):
        G = rng.standard_normal((min(100, gates - start), X.shape[1]), dtype=np.float32)
        parts.append(np.packbits(G @ X.T >= 0, axis=1))
    return Masked(X, np.concatenate(parts))


def peak() -> float:
    """The largest resident memory of this process so far, in GB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e9 if sys.platform == "darwin" else 1e6)


def measure(limit: int | None, gates: int, repeats: int) -> dict[str, Any]:
    """Run everything; times in seconds, memory in GB."""
    name, X, _ = data(limit)
    n, d = X.shape
    rng = np.random.default_rng(2)
    W = rng.standard_normal((gates, d), dtype=np.float32)
    operator = operator_of(X, gates)
    before = peak()
    # the shapes of the products are those of the operator; what D holds does not change their speed
    work: dict[str, Callable[[], Any]] = {
        "apply": lambda: operator.apply(W),
        # a new Z each time: an operator remembers its last product
        "adjoint": lambda: operator.adjoint(rng.standard_normal(n, dtype=np.float32)),
    }
    for call in work.values():
        call()
    memory = peak()
    D = rng.standard_normal((gates, n), dtype=np.float32)
    work |= {"X @ W.T": lambda: X @ W.T, "D @ X": lambda: D @ X}
    times = {label: float("inf") for label in work}
    for _ in range(repeats):
        for label, call in work.items():
            began = time.perf_counter()
            call()
            times[label] = min(times[label], time.perf_counter() - began)
    ours, plain = times["apply"] + times["adjoint"], times["X @ W.T"] + times["D @ X"]
    return {
        "data": name,
        "n": n,
        "d": d,
        "gates": gates,
        "seconds": times,
        "GFlop/s": {label: 2e-9 * n * d * gates / t for label, t in times.items()},
        "fraction": plain / ours,
        "peak_GB": memory,
        "peak_before_GB": before,
        "X_GB": X.nbytes / 1e9,
        "bits_GB": operator.bits.nbytes / 1e9,
    }


def report(found: dict[str, Any]) -> str:
    """The report in Markdown."""
    sizes = f"n = {found['n']}, d = {found['d']}, {found['gates']} gates"
    before = f"{found['peak_before_GB']:.2f} GB before the first product"
    lines = [
        "# Products with masks: speed and memory",
        "",
        f"{found['data']}, {sizes}, float32, fastest of several.",
        "",
        "| product | seconds | GFlop/s |",
        "| --- | ---: | ---: |",
    ]
    for label, seconds in found["seconds"].items():
        lines.append(f"| `{label}` | {seconds:.2f} | {found['GFlop/s'][label]:.0f} |")
    lines += [
        "",
        f"`apply` and `adjoint` run at {100 * found['fraction']:.0f} % of the speed of the plain products.",
        f"Peak memory {found['peak_GB']:.2f} GB ({before}), of which X {found['X_GB']:.3f} GB",
        f"and the packed masks {found['bits_GB']:.3f} GB.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=None, help="only the first samples")
    parser.add_argument("--gates", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    found = measure(chosen.samples, chosen.gates, chosen.repeats)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "memory.md").write_text(report(found))
    print(report(found))


if __name__ == "__main__":
    main()
