"""On a device of torch: speed of the products with masks, and a gated network trained from end to end.

    python -m benchmarks.device --device cuda
    python -m benchmarks.device --device cpu --samples 2000 --gates 200     # the same code without one

In one process, in turn, with the device synchronised around every call:

- ``apply`` and ``adjoint`` of :class:`cvxnn.operators.Masked` against the plain products of the same
  shapes, and against the largest square product that was timed, in float64, float32 and float32 with the
  shortened numbers that torch calls "high" (TF32 on tensor cores);
- a gated network for odd against even digits of MNIST, squared error, by the accelerated proximal gradient
  on the device in float32, until its own duality gap or the time is reached; its gap is then recomputed in
  NumPy's float64 from its weights alone, as every certificate is;
- the same program on the processor beside the device.

MNIST comes from the folder of :mod:`benchmarks.problems`; without it, data of the same size are drawn.
Report: ``results/device.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cvxnn.losses import get_loss
from cvxnn.operators import Masked
from cvxnn.program import Program
from cvxnn.solvers import SOLVERS, run

from .memory import data, operator_of
from .report import machine
from .runner import RESULTS

#: Vendors' figures for dense products, TFlop/s: float64 and TF32 on tensor cores, float32 outside them.
PEAKS = {
    "H100": {"float64": 66.9, "float32": 66.9, "float32 (TF32)": 494.7},
    "H200": {"float64": 66.9, "float32": 66.9, "float32 (TF32)": 494.7},
}


def seconds(call: Callable[[], Any], finish: Callable[[], None], repeats: int) -> float:
    """The fastest of some repetitions, after one that is not counted."""
    best = float("inf")
    for k in range(repeats + 1):
        finish()
        began = time.perf_counter()
        call()
        finish()
        best = min(best, time.perf_counter() - began) if k else best
    return best


def products(torch: Any, X: Any, bits: np.ndarray, repeats: int) -> dict[str, float]:
    """TFlop/s of the products with data on their device, in their precision."""
    operator, (n, d), gates = Masked.from_numpy(X, bits), X.shape, len(bits)
    finish = torch.cuda.synchronize if X.is_cuda else lambda: None
    side = min(8192, 4 * d)

    def normal(*size: int) -> Any:
        return torch.randn(size, dtype=X.dtype, device=X.device)

    W, Z, D, square = normal(gates, d), normal(n), normal(gates, n), normal(side, side)
    flops = 2.0 * n * d * gates
    work: dict[str, tuple[Callable[[], Any], float]] = {
        "apply": (lambda: operator.apply(W), flops),
        "adjoint": (lambda: operator.adjoint(Z), flops),
        "X @ W.T": (lambda: X @ W.T, flops),
        "D @ X": (lambda: D @ X, flops),
        "square": (lambda: square @ square, 2.0 * side**3),
    }
    return {name: 1e-12 * count / seconds(call, finish, repeats) for name, (call, count) in work.items()}


def in_every_precision(torch: Any, X: np.ndarray, bits: np.ndarray, where: str, repeats: int) -> Any:
    """What :func:`products` says in every precision."""
    found = {}
    for label, dtype, precision in (
        ("float64", torch.float64, "highest"),
        ("float32", torch.float32, "highest"),
        ("float32 (TF32)", torch.float32, "high"),
    ):
        torch.set_float32_matmul_precision(precision)
        there = torch.as_tensor(X, dtype=dtype, device=where)
        found[label] = products(torch, there, bits, repeats)
    torch.set_float32_matmul_precision("highest")
    return found


def fitted(
    X: Any, y: Any, bits: np.ndarray, share: float, limit: float, exact: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Train on arrays of any library; the gap is recomputed in float64 from the weights."""
    operator = Masked.from_numpy(X, bits)
    ones = y * y
    loss = get_loss("squared_error")
    zero = Program(operator, loss, y, ones, 1.0)
    top = float(zero.penalty.polar(operator.adjoint(-loss.gradient(0.0 * y, y, ones))).max())
    program = Program(operator, loss, y, ones, share * top)
    trace: list[tuple[float, float]] = []
    began = time.perf_counter()

    def hear(_: int, primal: float, bound: float) -> None:
        trace.append((time.perf_counter() - began, 1.0 - bound / primal))

    solution = run(SOLVERS["fista"](), program, tol=1e-5, max_iter=100_000, max_time=limit, callback=hear)
    spent = time.perf_counter() - began
    judge = Program(Masked(exact[0], bits), loss, exact[1], np.ones(len(exact[1])), share * top)
    W = np.asarray(solution.W.cpu() if hasattr(solution.W, "cpu") else solution.W, dtype=np.float64)
    f = judge.predict(W)
    primal, bound = judge.primal(W), judge.bound(judge.residual(f))
    return {
        "seconds": spent,
        "steps": solution.n_iter,
        "own gap": solution.gap,
        "gap in float64": 1.0 - bound / primal,
        "objective": primal / len(exact[1]),
        "share": share,
        "trace": trace[:: max(1, len(trace) // 100)],
    }


def report(found: dict[str, Any]) -> str:
    """The report in Markdown."""
    peaks = next((v for k, v in PEAKS.items() if k in found["device"]), {})
    lines = [
        "# Products and training on a device",
        "",
        f"{found['device']}, torch {found['torch']}; {found['data']}, n = {found['n']}, d = {found['d']}, "
        f"{found['gates']} gates.",
        "TFlop/s, fastest of several; the last columns are shares of the plain products of the same",
        "shapes, of a large square product in the same precision, and of the vendor's figure.",
        "",
        "| precision | `apply` | `adjoint` | `X @ W.T` | `D @ X` | square | of plain | of square "
        "| of peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, of in found["products"].items():
        ours = 2.0 / (1.0 / of["apply"] + 1.0 / of["adjoint"])
        plain = 2.0 / (1.0 / of["X @ W.T"] + 1.0 / of["D @ X"])
        peak = f"{100 * ours / peaks[label]:.0f} %" if label in peaks else ""
        cells = [f"{of[name]:.3g}" for name in ("apply", "adjoint", "X @ W.T", "D @ X", "square")]
        shares = [f"{100 * ours / plain:.0f} %", f"{100 * ours / of['square']:.0f} %", peak]
        lines.append(f"| {label} | {' | '.join(cells + shares)} |")
    lines += [
        "",
        "Gated network, squared error, accelerated proximal gradient in float32; gaps in float64 are those",
        "of the weights alone, recomputed in NumPy.",
        "",
        "| where | alpha / alpha_max | seconds | steps | gap in float32 | gap in float64 | objective |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for where, of in found["fits"]:
        lines.append(
            f"| {where} | {of['share']:g} | {of['seconds']:.1f} | {of['steps']} | {of['own gap']:.1e} "
            f"| {of['gap in float64']:.1e} | {of['objective']:.8g} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write the report."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=None, help="only the first samples")
    parser.add_argument("--gates", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for one fit")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.1, 0.01], help="alpha / alpha_max")
    parser.add_argument("--alone", action="store_true", help="no fit on the processor beside the device")
    chosen = parser.parse_args()
    name, X, labels = data(chosen.samples)
    y = np.where(labels % 2, 1.0, -1.0)  # odd against even
    bits, where = operator_of(X, chosen.gates).bits, chosen.device
    cuda = where.startswith("cuda")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else machine()["cpu"],
        "machine": machine(),
        "torch": torch.__version__,
        "data": name,
        "n": len(X),
        "d": X.shape[1],
        "gates": len(bits),
        "products": in_every_precision(torch, X, bits, where, chosen.repeats),
        "fits": [],
    }
    exact = X.astype(np.float64), y
    light = y.astype(np.float32)
    for share in chosen.shares:
        there = torch.as_tensor(X, device=where), torch.as_tensor(light, device=where)
        found["fits"].append((where, fitted(*there, bits, share, chosen.limit, exact)))
        if cuda and not chosen.alone:
            found["fits"].append(("processor", fitted(X, light, bits, share, chosen.limit, exact)))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "device.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "device.md").write_text(report(found))
    print(report(found))


if __name__ == "__main__":
    main()
