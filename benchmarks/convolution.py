r"""Convolutional networks on CIFAR-10: ten runs of stochastic gradient descent against growing patterns.

Two hundred images of two classes, halved in size (16 x 16 x 3), filters of 4 x 4 pixels side by side, the
mean over all 16 positions, logistic loss and weight decay; Ergen and Pilanci compare training costs in this
way, on images of this kind. Every run of descent has the same number of filters, a different seed, batches
of 20 images, and steps that fall by a tenth after half and after three quarters of the epochs. Its
objective on all images is taken after every epoch.

    python -m benchmarks.convolution

writes ``results/convolution.json`` and ``results/convolution.png``; times are CPU seconds.

Reference: Ergen and Pilanci, "Implicit convex regularizers of CNN architectures", ICLR 2021.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cvxnn.architectures.cnn import CNN
from cvxnn.losses import get_loss
from cvxnn.patches import Windows
from cvxnn.program import Problem
from cvxnn.train import Moment, train

from .problems import loader
from .runner import RESULTS

CLASSES = ("airplane", "automobile")
EACH, KERNEL, ALPHA = 100, 4, 1e-2
RUNS, FILTERS, EPOCHS, BATCH, RATE = 10, 50, 400, 20, 0.2
MAX_TIME = 300.0
#: Differences below this share are not drawn.
FLOOR = 1e-6


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 16, 16, 3), standardised by channel, and labels -1 and +1."""
    X, y = loader().load_cifar10("test", classes=CLASSES, per_class=EACH)
    X = X.reshape(len(X), 16, 2, 16, 2, 3).mean(axis=(2, 4))
    X = (X - X.mean(axis=(0, 1, 2))) / X.std(axis=(0, 1, 2))
    return X, np.where(y == np.max(y), 1.0, -1.0)


def descend(problem: Problem, windows: Windows, seed: int) -> list[tuple[float, float]]:
    """Run stochastic gradient descent; return CPU seconds and objectives per sample, one an epoch."""
    rng, P = np.random.default_rng(seed), windows.patches(problem.X)
    n, K, _ = P.shape
    P = np.concatenate([P, np.ones((n, K, 1))], axis=2)
    U = rng.standard_normal((P.shape[2], FILTERS)) / np.sqrt(P.shape[2])
    a, c = rng.standard_normal(FILTERS) / np.sqrt(FILTERS), 0.0
    alpha, y, s = problem.beta / problem.total_weight, problem.y, problem.weights
    line, spent = [], 0.0
    for epoch in range(EPOCHS):
        rate = RATE * 0.1 ** ((epoch >= EPOCHS // 2) + (epoch >= 3 * EPOCHS // 4))
        began = time.process_time()
        for batch in np.array_split(rng.permutation(n), n // BATCH):
            T = P[batch] @ U
            H = np.maximum(T, 0.0).mean(axis=1)
            slope = problem.loss.gradient(H @ a + c, y[batch], s[batch]) / len(batch)
            back = (T > 0) * (slope[:, None, None] * a / K)
            gU = np.einsum("bkp,bkm->pm", P[batch], back, optimize=True)
            U, a, c = (
                U - rate * (gU + alpha * U),
                a - rate * (H.T @ slope + alpha * a),
                c - rate * float(np.sum(slope)),
            )
        spent += time.process_time() - began
        f = np.maximum(P @ U, 0.0).mean(axis=1) @ a + c
        cost = 0.5 * float(np.sum(U * U) + a @ a)
        line.append((round(spent, 5), problem.value(f, cost) / problem.total_weight))
    return line


def measure() -> dict[str, Any]:
    """Train all networks."""
    X, y = images()
    problem = Problem.from_alpha(X.reshape(len(X), -1), y, None, get_loss("log_loss"), ALPHA, True)
    family = CNN(kernel=KERNEL, stride=KERNEL, input_shape=X.shape[1:])
    began, ours = time.process_time(), []

    def note(moment: Moment) -> None:
        ours.append((time.process_time() - began, moment.objective))

    with threadpool_limits(limits=1):
        trained = train(problem, family, tol=1e-5, max_time=MAX_TIME, callback=note)
        runs = [descend(problem, family.windows_of(problem.X.shape[1]), seed) for seed in range(RUNS)]
    return {
        "images": len(X),
        "classes": CLASSES,
        "alpha": ALPHA,
        "filters of descent": FILTERS,
        "certificate": trained.certificate.to_dict(),
        "convex": ours,
        "descent": runs,
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw objectives above the lowest one against CPU seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    best = found["certificate"]["objective"]
    fig, ax = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
    for k, run in enumerate(found["descent"]):
        seconds, value = np.array(run).T
        label = f"stochastic gradient descent, {found['filters of descent']} filters, {RUNS} seeds"
        shown = np.unique(np.geomspace(1, len(value), 300).astype(int)) - 1
        above = np.maximum(value[shown] / best - 1.0, FLOOR)
        ax.plot(seconds[shown], above, color="#E69F00", lw=1.0, label=label if k == 0 else None)
    seconds, value = np.array(found["convex"]).T
    above = np.maximum(np.minimum.accumulate(value) / best - 1.0, FLOOR)
    width, left = found["certificate"]["width"], found["certificate"]["search_gap"]
    label = f"cvxnn, growing patterns: {width} filters, search gap {left:.1%}"
    ax.plot(np.maximum(seconds, 1e-2), above, color="black", lw=2.4, label=label)
    ax.set(xscale="log", yscale="log", xlabel="CPU seconds")
    ax.set_ylabel("training objective above the lowest, relative")
    classes = " against ".join(found["classes"])
    ax.set_title(f"{found['images']} CIFAR-10 images, {classes}; lowest objective {best:.5f}", fontsize=10)
    ax.legend(frameon=False, fontsize=9)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def main() -> None:
    """Measure, write and draw."""
    found = measure()
    (RESULTS / "convolution.json").write_text(json.dumps(found) + "\n")
    draw(found, RESULTS / "convolution.png")
    ends = [run[-1][1] for run in found["descent"]]
    print(json.dumps(found["certificate"], indent=1), min(ends), max(ends))


if __name__ == "__main__":
    main()
