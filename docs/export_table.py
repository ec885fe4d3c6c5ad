"""Measure every exporter on every family and write the tables of `export.md`.

    python docs/export_table.py

Needs torch, onnxruntime, and `cc` and `size` for the C files. The tables stand between comments of the
page, which is otherwise left as it is.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetClassifier, Network
from cvxnn.testing_exports import Compiled, difference, example, families, run_exported

PAGE = Path(__file__).with_name("export.md")
#: Inputs at random and on borders in which jumps are counted, and a difference that is no rounding.
SAMPLES, BORDERS, JUMP = 1_000_000, 10_000, 1e-5
FORMATS = ("onnx", "torch", "c", "sklearn")


def differences() -> str:
    """The largest differences, a row for each family."""
    head = "| network | layers | " + " | ".join(f"{name} 64 | {name} 32" for name in FORMATS) + " |"
    lines = [head, "| --- | --- |" + " ---: |" * 2 * len(FORMATS)]
    for name, outputs, skip in families():
        network, X = example(name, outputs, skip)
        cells = []
        for kind in FORMATS:
            for dtype in ("float64", "float32"):
                try:
                    cells.append(f"{difference(kind, network, X, dtype):.0e}")
                except ValueError:  # layers that the format has not
                    cells.append("-")
        title = f"`{name}`" + (", skip" if skip else "") + (f", {outputs} outputs" if outputs > 1 else "")
        chain = " ".join(type(layer).__name__ for layer in network.layers)
        lines.append(f"| {title} | {chain} | {' | '.join(cells)} |")
        print(lines[-1])
    return "\n".join(lines)


def jumps() -> str:
    """How many of many inputs end on the other side of a border: random ones, and ones put on a border."""
    lines = [
        "| network | inputs | on the other side in float64 | in float32 |",
        "| --- | ---: | ---: | ---: |",
    ]
    rng = np.random.default_rng(0)
    for name in ("threshold", "gated_relu"):
        network, X = example(name)
        first = network.layers[0]
        gates, bias = (first.gates, first.gate_bias) if name == "gated_relu" else (first.weight, first.bias)
        Z = rng.normal(size=(SAMPLES, X.shape[1]))
        at = rng.integers(gates.shape[1], size=BORDERS)
        G, on = gates.T[at], Z[:BORDERS]
        away = np.sum(on * G, axis=1) + bias[at]
        on = on - (away / np.sum(G * G, axis=1))[:, None] * G
        for said, rows in ((f"{SAMPLES:,} at random", Z), (f"{BORDERS:,} on a border", on)):
            counts = [str(_flipped(network, rows, dtype)) for dtype in ("float64", "float32")]
            lines.append(f"| `{name}` | {said} | {' | '.join(counts)} |")
    return "\n".join(lines)


def _flipped(network: Network, X: np.ndarray, dtype: str) -> int:
    """How many inputs have another output in ONNX than rounding explains."""
    rows = X.astype(dtype).astype(np.float64)
    found = run_exported("onnx", network.to_onnx(dtype), rows, dtype)[:, 0]
    return int(np.sum(np.abs(found - network(rows)) > JUMP))


def sizes() -> str:
    """The C file of a network for the breast cancer data: bytes, and how far its probabilities are."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = ConvexNetClassifier(alpha=0.05).fit(X, y)
    weights = sum(array.size for layer in model.network_.layers for array in vars(layer).values())
    lines = [
        f"Breast cancer data, `alpha=0.05`: {model.network_.width} neurons, {weights} weights on "
        f"{X.shape[1]} columns; {model.certificate_}.",
        "",
        "| precision | code and weights (bytes) | of these weights | buffers | largest difference of a "
        "probability | classes that differ |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for dtype, real, each in (("float64", "double", 8), ("float32", "float", 4)):
        source, rows = model.to_c(dtype), X.astype(dtype)
        with Compiled(source) as program:
            off = np.max(np.abs(program.probabilities(rows, 2) - model.predict_proba(rows)))
            wrong = int(np.sum(model.classes_[program.numbers(rows)] != model.predict(rows)))
        buffers = re.search(r"(\d+) bytes of buffers", source)
        assert buffers is not None
        total = _text_size(source)
        lines.append(
            f"| `{real}` | {total} | {each * weights} | {buffers[1]} | {off:.0e} | {wrong} of {len(X)} |"
        )
    return "\n".join(lines)


def _text_size(source: str) -> int:
    """Bytes of the compiled object: code and constants, as `size` counts them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.c"
        path.write_text(source, encoding="utf-8")
        target = path.with_suffix(".o")
        subprocess.run(["cc", "-std=c99", "-Os", "-c", str(path), "-o", str(target)], check=True)
        shown = subprocess.run(["size", str(target)], capture_output=True, text=True, check=True).stdout
    text, data, _, *_ = shown.splitlines()[1].split()
    return int(text) + int(data)


def main() -> None:
    """Measure and write."""
    parts = {"differences": differences(), "jumps": jumps(), "sizes": sizes()}
    page = PAGE.read_text(encoding="utf-8")  # only now: measuring takes a minute
    for name, content in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        assert end in rest, f"the page lacks {end}"
        page = before + begin + content + "\n" + end + rest.partition(end)[2]
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
