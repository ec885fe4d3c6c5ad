"""The layerwise suite: accuracy on CIFAR-10 after every stage of greedy training by convex programs.

    python -m benchmarks.layerwise --train 10000 --held
    python -m benchmarks.run --suite layerwise          # with the sizes of the report, on the test images
    python -m benchmarks.layerwise --device cuda        # all images and 256 gates, on a device of torch

Every stage solves its convex program (gated 3 x 3 convolution with fixed random gates, average pooling to 2
x 2, linear layer; squared error, plain squared penalty) to its optimum on the frozen maps of the stages
before, and certifies it in float64. Images come from ``shared/data`` (JPEG copies of CIFAR-10) and are left
out, with a line that says so, where that folder is missing.

On a device everything is in float64, which an H100 multiplies as fast as float32; the report is then
``results/layerwise-device.md``.

Sizes are chosen with ``--held``: accuracy is then that on the last training images of every class, which no
run of fewer than 45,000 images trains on, and the test images are not looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn import LayerwiseConvClassifier

from .problems import DATA
from .report import machine, table
from .runner import RAW, RESULTS

#: Published test accuracies of five stages: 256 gates, 50,000 images, Adam for 50 epochs a stage.
PUBLISHED = (0.5654, 0.6143, 0.6998, 0.7599, 0.7715)
#: Training images of a class in front of those that are held out.
HELD = 4500


class Watched(LayerwiseConvClassifier):
    """Says when a stage is finished."""

    watch: Callable[[LayerwiseConvClassifier], None]

    def _train(self, *parts: Any) -> Any:
        found = super()._train(*parts)
        self.watch(self)
        return found


def images(train: int, test: int, held: bool) -> tuple[np.ndarray, ...]:
    """Return training images and those to judge by (n, 3072), with labels: the first of every class.

    Parameters
    ----------
    train, test : int
        Numbers of images.
    held : bool
        Whether the last 500 training images of every class, which are never trained on then, take the place
        of the test images.

    Raises
    ------
    FileNotFoundError
        If the data are not there.
    """
    if not (DATA / "load.py").is_file():
        raise FileNotFoundError(f"no images: {DATA} is missing; set CVXNN_BENCH_DATA")
    sys.path.insert(0, str(DATA))
    import load  # type: ignore[import-not-found]

    X, y = load.load_cifar10("train", per_class=None if held else train // 10)
    number = np.concatenate([np.arange(np.sum(y == label)) for label in np.unique(y)])  # sorted by class
    chosen = number < min(train // 10, HELD) if held else number >= 0
    if held:
        judge = (number >= HELD) & (number < HELD + test // 10)
        X_test, y_test = X[judge], y[judge]
    else:
        X_test, y_test = load.load_cifar10("test", per_class=test // 10)
    return X[chosen].reshape(-1, 3072), y[chosen], X_test.reshape(-1, 3072), y_test


def measure(sizes: dict[str, Any], path: Path) -> None:
    """Train on some images; write accuracies, certificates and CPU seconds after every stage."""
    X, y, X_test, y_test = images(sizes["train"], sizes["test"], sizes["held"])
    names = ("alpha", "stages", "gates", "filters", "skip", "down", "downsampling", "precision")
    where = sizes["device"] or None
    model = Watched(
        input_shape=(32, 32, 3), random_state=sizes["seed"], device=where, **{k: sizes[k] for k in names}
    )
    found: dict[str, Any] = {**sizes, "found": [], "machine": machine()}
    now = time.perf_counter if where else time.process_time
    if where:
        found["machine"]["device"] = _name(where)
    clock = [now()]

    def watch(model: LayerwiseConvClassifier) -> None:
        spent, certificate = now() - clock[0], model.certificate_
        predicted = model.predict(X_test)
        stage = {
            "train": model.scores_[-1],
            "test": float(np.mean(predicted == y_test)),
            "objective": certificate.objective,
            "gap": certificate.gap,
            "neurons": certificate.width,
            "seconds": spent,
        }
        print(stage, flush=True)
        found["found"].append(stage)
        path.write_text(json.dumps(found, indent=1) + "\n")
        clock[0] = now()

    model.watch = watch
    model.fit(X, y)


def _name(where: str) -> str:
    """Return the name of a device of torch."""
    import torch

    return str(torch.cuda.get_device_name(where)) if where.startswith("cuda") else where


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
        "s" if found.get("device") else "CPU s",
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
        for k, stage in enumerate(found["found"])
    ]
    tests = [stage["test"] for stage in found["found"]]
    rising = all(a < b for a, b in pairwise(tests))
    verdict = "rises from stage to stage" if rising else f"is highest after stage {np.argmax(tests) + 1}"
    error = 100 * np.sqrt(np.mean(tests) * (1 - np.mean(tests)) / found["test"])
    judge = "held-out training" if found["held"] else "test"
    sizes = f"{found['train']:,} of 50,000 training images"
    compared = (
        "as many images" if found["train"] == 50_000 else f"{50_000 / found['train']:.1f} times the images"
    )
    more = 256 / np.max(found["gates"])
    compared += " and as many gates" if more == 1 else f" and {more:.0f} times the gates"
    return f"""# CIFAR-10, stage by stage

{sizes} and {found["test"]:,} {judge} images, as many of every class,
JPEG copies of the originals, no augmentation. {design(found)}

{table(head, lines)}

Accuracy {verdict}; its standard error is {error:.1f} points for one stage, less for
differences, since all stages are judged by the same images: a step of half a point or so may be
chance. More images and gates are a matter of machine time. Each stage is the optimum of a convex
program given the stages before it; the certified gap is that of the stage, never of the deep network.
Its penalty is the square `alpha/2 sum_p ||Z_p||_F^2` of the published convex runs, not the nuclear norm
that weight decay would be. Published accuracies are those of 256 gates on 50,000 original images,
cropped and mirrored at random, with a softmax, by stochastic gradients for 50 epochs:
{compared}. There every gate passes one filter on{_here(found)}.
Objectives of different stages count penalties of different features.

{_clock(found, judge)}
"""


def _here(found: dict[str, Any]) -> str:
    """What a stage passes on, beside what is published."""
    if found["filters"] == "classes":
        return "; here a map of every class\nadds up all gates' filters for it"
    return ", as here" if found["filters"] == 1 else f"; here every gate passes {found['filters']} on"


def _clock(found: dict[str, Any], judge: str) -> str:
    """How sizes were chosen, and what the seconds are."""
    if found.get("device"):
        return f"""{ON_DEVICE}
Seconds of training on one {found["machine"]["device"]}, everything in {found["precision"]}, certificates
in float64 on the device; scoring the {judge} images is not counted."""
    return f"""{CHOICES}
CPU seconds of training (float32 products, float64 certificates included), {found["machine"]["cpu"]},
shared with other work; scoring the {judge} images is not counted."""


def design(found: dict[str, Any]) -> str:
    """Say how the stages of a run are built."""

    def each(value: Any) -> str:
        return ", ".join(f"{v:g}" for v in np.ravel(value))

    classes = found["filters"] == "classes"
    passed = "a map of every class" if classes else f"{found['filters']} filters of every gate"
    how = "space-to-depth" if found["downsampling"] == "depth" else "means of 2 x 2 pixels"
    down = each(np.add(found["down"], 1)) if found["down"] else "none"
    skip = ", beside the maps that it saw itself," if found["skip"] else ""
    return f"""Random gates of
3 x 3 in the stages: {each(found["gates"])}; alpha: {each(found["alpha"])}; average pooling to 2 x 2.
A stage passes on {passed}{skip} to the next.
Stages behind {how}: {down}."""


def run(chosen: Any = None, **sizes: Any) -> None:
    """Run the suite and write its report; `--report` only writes it."""
    held = bool(sizes.get("held", False))
    name = "layerwise-device" if sizes.get("device") else "layerwise"
    path = RAW / f"{name}-held.json" if held else RESULTS / f"{name}.json"
    if chosen is None or not chosen.report:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            measure({**SIZES, "device": "", **sizes}, path)
        except FileNotFoundError as error:
            print(error)
            return
    text = report(json.loads(path.read_text()))
    if not held:
        path.with_suffix(".md").write_text(text)
    print(text)


#: How the sizes were chosen.
CHOICES = """Sizes were chosen on 10,000 training images by the accuracy on 2,000 others of the training
part, one seed each (as `--held` measures it; standard error 1.1 points), without the test images:

| held-out % | |
| --- | --- |
| stage 1, 16 gates | 51.6 at alpha 5e-4, 55.1 at 1e-4, 57.4 at 1e-5, 58.2 at 3e-6 |
| stage 2, 16 gates on class maps | 59.6 at 1e-4, 60.2 at 5e-5, 59.9 at 2e-5 |
| stage 2, 16 gates on one filter of each of 32 gates | 60.9 at 1e-4, 61.4 at 2e-5 |
| stage 3 on one filter of each of those 16, space-to-depth | 51.5 at 2e-4, 52.5 at 5e-5 |
| stage 3 on class maps of both stages, means of 2 x 2 | 60.7 at 2e-4, 61.0 at 1e-4, 60.6 at 5e-5 |

The class maps of these trials came without the pixels that the run above passes on beside them.

An earlier version of this report had 46.5, 49.2 and 44.4 %, on 3,000 images with 12 gates. What these
numbers say of it: alpha 5e-4 was far too strong for stage 1; leading filters of few gates keep too little
of what a stage has learned (published networks pass on 256); and space-to-depth gave the later stages
41,000 features, enough to learn 3,000 images by heart.
"""

#: What the report was made with.
SIZES: dict[str, Any] = {
    "train": 10_000,
    "test": 2000,
    "stages": 3,
    "gates": (16, 16, 16),
    "filters": "classes",
    "skip": True,
    "alpha": (3e-6, 5e-5, 1e-4),
    "down": (2,),
    "downsampling": "mean",
    "precision": "float32",
    "seed": 0,
    "held": False,
}


#: How those on a device were chosen.
ON_DEVICE = """Alphas were chosen on 20,000 training images by the accuracy on the last 5,000 (500 of every
class; standard error 0.7 points), and then multiplied by 20,000 / 50,000, which keeps the penalty of sums;
those 5,000 were then trained on too. The test images were looked at once.

| held-out % | |
| --- | --- |
| stage 1, 256 gates | 62.8 at alpha 3e-6, 63.5 at 3e-5, 63.3 at 5e-5, 62.6 at 1e-4 |
| stage 2, 256 gates on class maps beside the pixels | 65.4 at 3e-5, 65.6 at 1e-4, 65.2 at 3e-4 |
| stage 2, 96 gates on one filter of every gate, means of 2 x 2 | 64.8 at 1e-5, 66.0 at 1e-4, 62.8 at 1e-3 |
| the same beside the pixels | 65.5 at 3e-5 |
| stage 3, 192 gates on one filter of each of those 96 | 61.0 at 3e-5, 60.7 at 3e-4, 57.5 at 3e-3 |
| stage 4, 96 gates on one filter of each of those 192 | 54.7 at 1e-4, 55.2 at 1e-3 |

A third stage on class maps ended for want of memory on the device, twice: frozen layers with a filter for
every gate and class were unfolded for a whole chunk at once, and the memory that was left was too scattered
for a second matrix of all pairs of images. Both are mended; the run was not repeated.
"""

#: What the report of a device was made with.
DEVICE_SIZES: dict[str, Any] = {
    "train": 50_000,
    "test": 10_000,
    "stages": 2,
    "gates": (256, 256),
    "alpha": (1.2e-5, 4e-5),
    "down": (),
    "precision": "float64",
}


def main() -> None:
    """Read sizes from the command line and run."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument(
        "--device", default="", help="of torch, such as cuda; other sizes are the default there"
    )
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], parents=[first])
    defaults = {**SIZES, **(DEVICE_SIZES if first.parse_known_args()[0].device else {})}
    for name, value in defaults.items():
        if isinstance(value, tuple):
            kind = float if name == "alpha" else int
            parser.add_argument(f"--{name}", type=kind, nargs="*", default=value)
        elif isinstance(value, bool):
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=value)
        elif name == "filters":
            parser.add_argument("--filters", type=lambda v: v if v == "classes" else int(v), default=value)
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
