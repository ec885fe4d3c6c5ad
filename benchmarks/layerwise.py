"""The layerwise suite: accuracy on CIFAR-10 after every stage of greedy training by convex programs.

    python -m benchmarks.layerwise --train 5000 --gates 24
    python -m benchmarks.run --suite layerwise          # the same with the sizes of the report

Every stage solves its convex program (gated 3 x 3 convolution with fixed random gates, average pooling to 2 x 2,
linear layer; squared error, plain squared penalty) to its optimum on the frozen maps of the stages before, and
certifies it in float64. Images come from ``shared/data`` (JPEG copies of CIFAR-10) and are left out, with a line
that says so, where that folder is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from cvxnn import LayerwiseConvClassifier

from .problems import DATA
from .report import machine, table
from .runner import RESULTS

#: Test accuracies of five stages as published for 256 gates, 50,000 training images, Adam for 50 epochs a stage.
PUBLISHED = (0.5654, 0.6143, 0.6998, 0.7599, 0.7715)


class Timed(LayerwiseConvClassifier):
    """Notes the CPU seconds at the end of every stage."""

    def _train(self, *parts: Any) -> Any:
        found = super()._train(*parts)
        self.clock_ = [*getattr(self, "clock_", []), time.process_time()]
        return found


def images(train: int, test: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return random training and test images (n, 3072) with labels.

    Raises
    ------
    FileNotFoundError
        If the data are not there.
    """
    if not (DATA / "load.py").is_file():
        raise FileNotFoundError(f"no images: {DATA} is missing; set CVXNN_BENCH_DATA")
    sys.path.insert(0, str(DATA))
    import load  # type: ignore[import-not-found]

    rng, parts = np.random.default_rng(seed), []
    for split, count in (("train", train), ("test", test)):
        X, y = load.load_cifar10(split)
        chosen = rng.permutation(len(y))[:count]
        parts += [X[chosen].reshape(len(chosen), -1), y[chosen]]
    return tuple(parts)


def measure(sizes: dict[str, Any]) -> dict[str, Any]:
    """Train on some images and return accuracies, certificates and CPU seconds of every stage."""
    X, y, X_test, y_test = images(sizes["train"], sizes["test"], sizes["seed"])
    names = ("alpha", "stages", "gates", "filters", "down")
    model = Timed(input_shape=(32, 32, 3), random_state=sizes["seed"], **{k: sizes[k] for k in names})
    began = time.process_time()
    model.fit(X, y)
    clock = [stamp - began for stamp in model.clock_]
    stages = []
    for k, predicted in enumerate(model.staged_predict(X_test)):
        certificate = model.stages_[k].certificate
        stages.append(
            {
                "train": model.scores_[k],
                "test": float(np.mean(predicted == y_test)),
                "objective": certificate.objective,
                "gap": certificate.gap,
                "seconds": clock[k] - (clock[k - 1] if k else 0.0),
                "neurons": certificate.width,
            }
        )
    return {**sizes, "stages_found": stages, "machine": machine(), "scored": time.process_time() - began}


def report(found: dict[str, Any]) -> str:
    """Return the report of a run as Markdown."""
    head = [
        "stage",
        "train %",
        "test %",
        "published test %",
        "objective",
        "certified gap",
        "neurons",
        "CPU s",
    ]
    lines = [
        [
            str(k + 1),
            f"{100 * stage['train']:.1f}",
            f"{100 * stage['test']:.1f}",
            f"{100 * PUBLISHED[k]:.1f}" if k < len(PUBLISHED) else "",
            f"{stage['objective']:.6f}",
            f"{stage['gap']:.1e}",
            str(stage["neurons"]),
            f"{stage['seconds']:.0f}",
        ]
        for k, stage in enumerate(found["stages_found"])
    ]
    down = ", ".join(str(k + 1) for k in found["down"])
    return "\n".join(
        [
            "# CIFAR-10, stage by stage",
            "",
            f"{found['train']:,} of 50,000 training images and {found['test']:,} of 10,000 test images, drawn at "
            f"random (seed {found['seed']}), JPEG copies of the originals; no augmentation. Every stage: "
            f"{found['gates']} random gates of 3 x 3, {found['filters']} filter(s) of each passed on, average "
            f"pooling to 2 x 2, alpha {found['alpha']:g}; space-to-depth before stages {down}.",
            "",
            table(head, lines),
            "",
            "Each stage is the optimum of a convex program given the stages before it; the certified gap is that of "
            "the stage, never of the deep network. Its penalty is the square `alpha/2 sum_p ||Z_p||_F^2` of the "
            "published convex runs, not the nuclear norm of weight decay. The published accuracies (the fourth "
            "column) are those of 256 gates on all 50,000 original images, trained by Adam for 50 epochs a stage "
            "on a GPU: ten times the data and gates, so the two columns are to be compared in how they rise, "
            "not in height. Objectives of different stages count different penalties and may rise.",
            "",
            f"CPU seconds of training (float32 products, float64 certificates included), {found['machine']['cpu']}, "
            f"shared with other work; {found['scored']:.0f} CPU seconds with the scoring of all stages.",
            "",
        ]
    )


def run(chosen: Any = None, **sizes: Any) -> None:
    """Run the suite and write its report; `--report` only writes it."""
    path = RESULTS / "layerwise.json"
    if chosen is None or not chosen.report:
        try:
            found = measure({**SIZES, **sizes})
        except FileNotFoundError as error:
            print(error)
            return
        path.write_text(json.dumps(found, indent=1) + "\n")
    text = report(json.loads(path.read_text()))
    path.with_suffix(".md").write_text(text)
    print(text)


#: What the report was made with.
SIZES = {
    "train": 5000,
    "test": 2000,
    "stages": 5,
    "gates": 24,
    "filters": 1,
    "alpha": 0.1,
    "down": (1, 2),
    "seed": 0,
}


def main() -> None:
    """Read sizes from the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in SIZES.items():
        if name == "down":
            parser.add_argument("--down", type=int, nargs="*", default=value)
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
