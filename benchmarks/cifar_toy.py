"""Ten runs of stochastic gradient descent against the best network there is: two classes of CIFAR-10.

    python -m benchmarks.cifar_toy --data FOLDER [--out benchmarks/results/cifar-toy]

FOLDER holds a module `load` with ``load_cifar10``. The problem is 200 images (100 airplanes, 100
automobiles, 3 x 32 x 32 pixels between -1 and 1, divided by the root of their number so that an image has
norm of about one), targets ±1, and

    1/n sum_i 1/2 (f(x_i) - y_i)^2 + alpha/2 (|W|^2 + |a|^2),      f(x) = sum_j a_j (x'w_j)_+.

Runs differ in their start and in the order of samples: mini-batches of 20, a step size that falls as one
over the root of the epoch. What is drawn is the objective on all samples after every epoch, the objective
of the network that the convex program returns, and its proven lower bound.

With 200 independent rows every pattern exists; the proven bound, of scope `bounded`, is far from tight, and
training stops at ``MAX_TIME``. So the blue line is the best network found, not proven to be the optimum.

Reference: Pilanci and Ergen, ICML 2020, section 5 (the experiment).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn import ConvexNetRegressor

#: Neurons of the two panels, runs, epochs, samples a step and the first step size.
WIDTHS, RUNS, EPOCHS, BATCH, RATE = (8, 50), 10, 2000, 20, 0.5
ALPHA = 1e-3
#: Seconds of training by the convex program, a cap for busy machines.
MAX_TIME = 120.0


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (200, 3072) and their targets (200,)."""
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    if spec is None or spec.loader is None or not (folder / "load.py").is_file():
        raise FileNotFoundError(f"no load.py in {folder}: pass the folder of the data")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    X, y = module.load_cifar10("train", classes=("airplane", "automobile"), per_class=100)
    X = X.reshape(len(X), -1) / 127.5 - 1.0
    return X / np.sqrt(X.shape[1]), np.where(y == np.min(y), 1.0, -1.0)


def descend(K: np.ndarray, y: np.ndarray, neurons: int, seed: int) -> np.ndarray:
    """Return the objective after every epoch; `K` (n, r) are the images in coordinates of their span."""
    rng = np.random.default_rng(seed)
    n, d = K.shape
    W = rng.normal(size=(d, neurons)) / np.sqrt(neurons)
    a = rng.normal(size=neurons) / np.sqrt(neurons)
    values = np.empty(EPOCHS)
    for epoch in range(EPOCHS):
        rate = RATE / np.sqrt(1.0 + epoch / 50.0)
        for rows in np.array_split(rng.permutation(n), n // BATCH):
            H = np.maximum(K[rows] @ W, 0.0)
            residual = (H @ a - y[rows]) / len(rows)
            grad_W = K[rows].T @ ((H > 0) * residual[:, None] * a) + ALPHA * W
            a, W = a - rate * (H.T @ residual + ALPHA * a), W - rate * grad_W
        f = np.maximum(K @ W, 0.0) @ a
        decay = 0.5 * ALPHA * (np.sum(W**2) + np.sum(a**2))
        values[epoch] = np.mean(0.5 * (f - y) ** 2) + decay
    return values


def measure(folder: Path) -> dict[str, Any]:
    """Train both ways and return what the picture needs."""
    X, y = read(folder)
    # weight decay keeps neurons in the span of the images: rotated into it, training is the same
    U, size, _ = np.linalg.svd(X, full_matrices=False)
    K = U * size
    began = time.process_time()
    model = ConvexNetRegressor(
        alpha=ALPHA, hidden_bias=None, fit_intercept=False, tol=1e-4, max_time=MAX_TIME
    ).fit(K, y)
    found: dict[str, Any] = {
        "alpha": ALPHA,
        "shape": list(X.shape),
        "certificate": model.certificate_.to_dict(),
        "cpu_seconds": time.process_time() - began,
    }
    for neurons in WIDTHS:
        began = time.process_time()
        runs = [descend(K, y, neurons, seed) for seed in range(RUNS)]
        found[f"sgd_{neurons}"] = {
            "final": [float(run[-1]) for run in runs],
            "cpu_seconds_a_run": (time.process_time() - began) / RUNS,
            "epochs": np.unique(np.geomspace(1, EPOCHS, 60).astype(int)).tolist(),
        }
        found[f"sgd_{neurons}"]["curves"] = [
            [float(run[k - 1]) for k in found[f"sgd_{neurons}"]["epochs"]] for run in runs
        ]
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw one panel for each width."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(WIDTHS), figsize=(9, 3.8), sharey=True, layout="constrained")
    certificate = found["certificate"]
    for axis, neurons in zip(axes, WIDTHS, strict=True):
        runs = found[f"sgd_{neurons}"]
        for k, curve in enumerate(runs["curves"]):
            label = "stochastic gradient descent, ten runs" if k == 0 else None
            axis.plot(runs["epochs"], curve, color="#E69F00", alpha=0.7, linewidth=1, label=label)
        best = f"convex program, {certificate['width']} neurons"
        axis.axhline(certificate["objective"], color="#0072B2", linewidth=2, label=best)
        axis.axhline(certificate["lower_bound"], color="black", linestyle="--", label="proven lower bound")
        axis.set(title=f"{neurons} neurons", xlabel="epoch", xscale="log", yscale="log")
    axes[0].set_ylabel("objective per sample")
    axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.35))
    figure.suptitle(f"CIFAR-10, airplanes against automobiles, n = 200, alpha = {found['alpha']:g}")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, write the numbers and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with load.py and CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cifar-toy"))
    given = parser.parse_args()
    found = measure(given.data)
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, given.out.with_suffix(".png"))
    print({k: v for k, v in found.items() if not k.startswith("sgd")})
    for neurons in WIDTHS:
        print(neurons, sorted(found[f"sgd_{neurons}"]["final"]))


if __name__ == "__main__":
    main()
