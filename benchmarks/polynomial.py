r"""Polynomial networks: how certified they are at what size, and a convolutional network against gradient
descent.

    python -m benchmarks.polynomial [--images 200]

*Sizes.* Certified gap and CPU seconds of training with all defaults but a tolerance of 1e-6: breast
cancer (569 x 30, standardised), and planted networks of five neurons with noise on 200 and on 500
Gaussian features.

*Convolution.* Ten digits of MNIST, as many of each: filters of 5 x 5 with stride 3, a quadratic
activation, the mean over 4 x 4 positions, a fully connected layer, the logistic loss of ten classes. The
convex optimum stands beside ten runs of stochastic gradient descent with momentum on the same objective,
for networks of the same layers; filters are scaled back to norm one after every step, output weights
shrink as the penalty says (a proximal step). The rate falls to zero along half a cosine; of three rates
the one with the best run is drawn.

Seconds are CPU seconds of one thread. Without the images (`CVXNN_BENCH_DATA`, ../shared/data) that part
is left out.

Reference: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts", Math. Prog. 2025, section on
MNIST.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.datasets import load_breast_cancer
from threadpoolctl import threadpool_limits

from cvxnn.architectures.polynomial import Polynomial
from cvxnn.architectures.polynomial_cnn import VectorPolynomialCNN
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.train import train

from .report import machine
from .runner import RESULTS

DATA = Path(os.environ.get("CVXNN_BENCH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
ALPHA, FILTERS, RUNS, EPOCHS, BATCH = 3e-3, 60, 10, 500, 20
RATES = (0.003, 0.01, 0.03)
A, B, C = 0.09, 0.5, 0.47


def sizes() -> list[dict[str, Any]]:
    """Train on three sizes and return a row for each."""
    X, target = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    sets = [("breast cancer", X, 2.0 * target - 1.0, alpha) for alpha in (1e-2, 1e-3)]
    rng = np.random.default_rng(0)
    for n, d in ((1000, 200), (2000, 500)):
        X, U = rng.normal(size=(n, d)), rng.normal(size=(5, d))
        T = X @ (U / np.linalg.norm(U, axis=1, keepdims=True)).T
        y = (A * T * T + B * T + C) @ rng.normal(size=5) + 0.1 * rng.normal(size=n)
        sets.append(("planted", X, y, 1e-2))
    rows = []
    for name, X, y, alpha in sets:
        problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), alpha, True)
        began = time.process_time()
        certificate = train(problem, Polynomial(), tol=1e-6).certificate
        seconds = time.process_time() - began
        rows.append(
            {"data": name, "n": len(X), "d": X.shape[1], "seconds": seconds, **certificate.to_dict()}
        )
        print(rows[-1], flush=True)
    return rows


def images(count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The first images of each digit as flat rows in [0, 1], and their digits; None without the files."""
    folder = DATA / "mnist"
    if not folder.is_dir():
        return None
    pixels = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    digits = np.frombuffer(
        gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())[8:], dtype=np.uint8
    )
    rows = np.frombuffer(pixels, dtype=np.uint8).reshape(len(digits), -1)
    chosen = np.concatenate([np.flatnonzero(digits == k)[: count // 10] for k in range(10)])
    return rows[chosen] / 255.0, digits[chosen].astype(int)


def descend(P: np.ndarray, Y: np.ndarray, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stochastic gradient descent; returns CPU seconds and objectives after every epoch.

    ``P`` (n, windows, patches, f) are the patches, ``Y`` (n, 10) one-hot.
    """
    rng = np.random.default_rng(seed)
    n, G, _, f = P.shape
    U = rng.normal(size=(f, FILTERS))
    U /= np.linalg.norm(U, axis=0)
    W = 0.01 * rng.normal(size=(G * FILTERS, 10))
    c = np.zeros(10)
    speed = [0.0, 0.0, 0.0]
    seconds, values, began, steps = [], [], time.process_time(), EPOCHS * -(-n // BATCH)
    k = 0
    for _ in range(EPOCHS):
        for rows in np.array_split(rng.permutation(n), -(-n // BATCH)):
            step = rate * 0.5 * (1.0 + np.cos(np.pi * k / steps))
            k += 1
            T = P[rows] @ U
            H = np.mean((A * T + B) * T + C, axis=2).reshape(len(rows), -1)
            R = (softmax(H @ W + c, axis=1) - Y[rows]) / len(rows)
            back = (R @ W.T).reshape(len(rows), G, 1, FILTERS) * (2.0 * A * T + B) / T.shape[2]
            slopes = (np.tensordot(P[rows], back, axes=((0, 1, 2), (0, 1, 2))), H.T @ R, R.sum(axis=0))
            speed = [0.9 * v + g for v, g in zip(speed, slopes, strict=True)]
            U = U - step * speed[0]
            U /= np.linalg.norm(U, axis=0)
            W = W - step * speed[1]
            W = np.sign(W) * np.maximum(np.abs(W) - step * ALPHA, 0.0)
            c = c - step * speed[2]
        spent = time.process_time()
        T = P @ U
        F = np.mean((A * T + B) * T + C, axis=2).reshape(n, -1) @ W + c
        loss = np.mean(np.log(np.sum(np.exp(F - F.max(axis=1, keepdims=True)), axis=1)) + F.max(axis=1))
        values.append(float(loss - np.mean(np.sum(F * Y, axis=1)) + ALPHA * np.sum(np.abs(W))))
        seconds.append(spent - began)
        began += time.process_time() - spent
    return np.array(seconds), np.array(values)


def convolution(count: int) -> dict[str, Any] | None:
    """The convex optimum and ten runs of descent on the same images."""
    read = images(count)
    if read is None:
        return None
    X, digits = read
    family = VectorPolynomialCNN(5, (28, 28), 3, pooling="mean", pool=4)
    Y = np.eye(10)[digits]
    problem = Problem.from_alpha(X, Y, None, get_loss("log_loss", 10), ALPHA, True)
    history: list[tuple[float, float]] = []
    began = time.process_time()
    trained = train(
        problem,
        family,
        tol=1e-4,
        callback=lambda moment: history.append((time.process_time() - began, moment.objective)),
    )
    print(trained.certificate, f"{time.process_time() - began:.0f} s", flush=True)
    P = family.units(problem).rows.transpose(1, 0, 2, 3)
    # rows of the problem are sorted: its own targets go with them
    tried = {rate: descend(P, problem.y, rate, 0)[1][-1] for rate in RATES}
    rate = min(tried, key=lambda r: tried[r])
    print(tried, flush=True)
    runs = [descend(P, problem.y, rate, seed) for seed in range(RUNS)]
    return {
        "images": len(X),
        "certificate": trained.certificate.to_dict(),
        "convex": history,
        "rate": rate,
        "descent": [{"seconds": s.tolist(), "objective": v.tolist()} for s, v in runs],
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Training cost against CPU seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for k, run in enumerate(found["descent"]):
        label = f"stochastic gradient descent, {FILTERS} filters" if k == 0 else None
        axis.plot(run["seconds"], run["objective"], color="tab:orange", alpha=0.6, linewidth=1, label=label)
    seconds, values = np.array(found["convex"]).T
    axis.plot(seconds, values, color="tab:blue", marker=".", markersize=3, label="this package")
    bound = found["certificate"]["lower_bound"]
    axis.axhline(bound, color="black", linestyle="--", label="proven lower bound")
    axis.set(xlabel="CPU seconds", ylabel="objective per sample", xscale="log", yscale="log")
    axis.set_title(f"polynomial CNN, {found['images']} images of MNIST, alpha {ALPHA:g}")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(rows: list[dict[str, Any]], found: dict[str, Any] | None) -> str:
    """The tables in Markdown."""
    lines = ["# Polynomial networks", "", f"CPU seconds of one thread on {machine()['cpu']}.", ""]
    lines += [
        "| data | n | d | alpha | objective | certified gap | neurons | seconds |",
        "|" + " --- |" * 8,
    ]
    for row in rows:
        lines.append(
            f"| {row['data']} | {row['n']} | {row['d']} | {row['alpha']:g} | {row['objective']:.7g} | "
            f"{row['gap']:.1e} | {row['width']} | {row['seconds']:.2g} |"
        )
    if found is not None:
        c, ends = found["certificate"], np.array([run["objective"][-1] for run in found["descent"]])
        above = ends / c["lower_bound"] - 1.0
        lines += [
            "",
            f"Polynomial CNN on {found['images']} images of MNIST: objective {c['objective']:.7g}, ",
        ]
        lines[-1] += f"certified gap {c['gap']:.1e}, {c['width']} weights of the output layer's inputs, "
        lines[-1] += f"{found['convex'][-1][0]:.0f} s. Ten runs of gradient descent "
        lines[-1] += f"(rate {found['rate']:g}, the best of {RATES}; {EPOCHS} epochs, "
        lines[-1] += f"{found['descent'][0]['seconds'][-1]:.0f} s each) end {above.min():.1%} "
        lines[-1] += f"to {above.max():.1%} above the proven bound."
        lines += ["", "![](polynomial.png)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200, help="of MNIST, a multiple of ten")
    chosen = parser.parse_args()
    with threadpool_limits(1):
        rows, found = sizes(), convolution(chosen.images)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "polynomial.json").write_text(json.dumps({"sizes": rows, "convolution": found}))
    (RESULTS / "polynomial.md").write_text(report(rows, found))
    if found is not None:
        draw(found, RESULTS / "polynomial.png")


if __name__ == "__main__":
    main()
