"""The classes suite: several classes, up to MNIST, with sensible defaults and equal time for everybody.

    python -m benchmarks.run --suite classes --resume

The convex network trains first, ``ConvexNetClassifier(alpha)`` with its other defaults and a `max_time` on
larger sets (two minutes for pendigits, eight for pictures), and prints its certificate. Its CPU seconds,
but at least `LEAST`, are what every peer gets:

- MLP: ``MLPClassifier()`` of scikit-learn, epoch after epoch;
- boosting: ``HistGradientBoostingClassifier()``, ten rounds after ten rounds;
- Adam: 256 neurons in PyTorch, batches of 128, on the objective of the convex network, which is reported.

Small sets are standardised and a quarter is the test part; pixels are divided by the largest, and MNIST
and Fashion-MNIST come with a test part. Alpha is the default 1e-3 up to some thousand samples and 1e-4
beyond; see "Which alpha" in `docs/which.md`. Every run is a process of its own, and is kept in
``results/raw/classes`` as it is done; a set that is not on the machine is left out. Seconds are those of
the processor; wall-clock seconds stand beside them and say how busy the machine was.

Reference: LeCun, Bottou, Bengio and Haffner, 1998 (MNIST); Xiao, Rasul and Vollgraf, 2017 (Fashion-MNIST).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .problems import Missing, loader
from .report import machine, table
from .runner import RAW, RESULTS

PEERS = ("cvxnn", "MLP", "boosting", "Adam")
#: The second table's columns.
HEAD = ["convex network", "alpha", "objective", "Adam's", "search gap", "proven bound", "neurons"]
HEAD += ["CPU s", "wall s", "GB"]
#: CPU seconds a peer has at least.
LEAST = 2.0
#: Where Fashion-MNIST is looked for, if not where Debian's package puts it.
FASHION = os.environ.get("CVXNN_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _divided(X: np.ndarray, y: np.ndarray, scale: float | None) -> Split:
    """A quarter for tests, stratified; columns standardised, or divided by a number."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    A, B, a, b = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    if scale is not None:
        return A / scale, a, B / scale, b
    scaler = StandardScaler().fit(A)
    return scaler.transform(A), a, scaler.transform(B), b


def _small(name: str, scale: float | None = None) -> Split:
    from sklearn import datasets

    return _divided(*getattr(datasets, f"load_{name}")(return_X_y=True), scale)


def _pictures(load: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> Split:
    (A, a), (B, b) = load("train"), load("test")
    return A.reshape(len(A), -1) / 255.0, a, B.reshape(len(B), -1) / 255.0, b


def _fashion(part: str) -> tuple[np.ndarray, np.ndarray]:
    return loader().load_fashion_mnist(part, FASHION)


#: name -> (loader, alpha, seconds of training at most)
SETS: dict[str, tuple[Callable[[], Split], float, float | None]] = {
    "iris": (lambda: _small("iris"), 1e-3, None),
    "wine": (lambda: _small("wine"), 1e-3, None),
    "digits": (lambda: _small("digits", 16.0), 1e-3, None),
    "pendigits": (lambda: _divided(*loader().load_pmlb("pendigits"), None), 1e-4, 120.0),
    "mnist": (lambda: _pictures(loader().load_mnist), 1e-4, 480.0),
    "fashion-mnist": (
        lambda: _pictures(lambda part: loader().load_fashion_mnist(part, FASHION)),
        1e-4,
        480.0,
    ),
}


def _convex(X: np.ndarray, y: np.ndarray, alpha: float, limit: float | None) -> tuple[Any, dict[str, Any]]:
    """Ours, for `limit` seconds of the clock on the wall."""
    from cvxnn import ConvexNetClassifier

    model = ConvexNetClassifier(alpha, max_time=limit, verbose=1).fit(X, y)
    print(model.certificate_, flush=True)
    return model.predict, {"certificate": model.certificate_.to_dict()}


def _mlp(X: np.ndarray, y: np.ndarray, alpha: float, limit: float) -> tuple[Any, dict[str, Any]]:
    from sklearn.neural_network import MLPClassifier

    model, end, epochs = MLPClassifier(random_state=0), time.process_time() + limit, 0
    while time.process_time() < end:
        model.partial_fit(X, y, classes=np.unique(y))
        epochs += 1
    return model.predict, {"epochs": epochs}


def _boosting(X: np.ndarray, y: np.ndarray, alpha: float, limit: float) -> tuple[Any, dict[str, Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        random_state=0, warm_start=True, max_iter=1, early_stopping=False
    )
    end, rounds = time.process_time() + limit, 0
    # the hundred rounds of its default are its best guess of when to stop
    while time.process_time() < end and rounds < 100:
        rounds += 10
        model.set_params(max_iter=rounds).fit(X, y)
    return model.predict, {"rounds": rounds}


def _adam(X: np.ndarray, y: np.ndarray, alpha: float, limit: float) -> tuple[Any, dict[str, Any]]:
    """Adam on ``mean loss + alpha/2 (|W|^2 + |b|^2 + |V|^2)``."""
    import torch

    torch.manual_seed(0)
    classes, codes = np.unique(y, return_inverse=True)
    A, a = torch.tensor(X, dtype=torch.float32), torch.tensor(codes)
    hidden, output = torch.nn.Linear(X.shape[1], 256), torch.nn.Linear(256, len(classes))
    net = torch.nn.Sequential(hidden, torch.nn.ReLU(), output)
    step = torch.optim.Adam(net.parameters(), lr=1e-3)
    end, epochs = time.process_time() + limit, 0
    while time.process_time() < end:
        for rows in torch.randperm(len(A)).split(128):
            step.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(A[rows]), a[rows])
            decay = hidden.weight.square().sum() + hidden.bias.square().sum() + output.weight.square().sum()
            (loss + 0.5 * alpha * decay).backward()
            step.step()
            if time.process_time() >= end:
                break
        epochs += 1

    def predict(B: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return classes[net(torch.tensor(B, dtype=torch.float32)).argmax(dim=1).numpy()]

    with torch.no_grad():
        loss = float(torch.nn.functional.cross_entropy(net(A), a))
        norms = torch.sqrt(hidden.weight.square().sum(dim=1) + hidden.bias.square())
        cost = float(norms @ output.weight.norm(dim=0))
    return predict, {"epochs": epochs, "objective": loss + alpha * cost}


MODELS = {"cvxnn": _convex, "MLP": _mlp, "boosting": _boosting, "Adam": _adam}


def measure(name: str, peer: str, limit: float) -> dict[str, Any]:
    """Train and test one peer on one set in this process, for `limit` CPU seconds where it is not ours."""
    load, alpha, most = SETS[name]
    X, y, B, b = load()
    done = {"set": name, "peer": peer, "n": len(X), "d": X.shape[1], "classes": len(np.unique(y))}
    cpu, wall = time.process_time(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody trains to the tolerance of its default
        predict, facts = MODELS[peer](X, y, alpha, most if peer == "cvxnn" else limit)
    done |= {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "alpha": alpha}
    done |= {"train": float(np.mean(predict(X) == y)), "test": float(np.mean(predict(B) == b))}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return done | facts | {"memory_gb": memory}


def path_of(name: str, peer: str) -> Any:
    """Return where a run is kept."""
    return RAW / "classes" / f"{name}__{peer}.json"


def run(chosen: Any) -> None:
    """Run what is not there yet, and write ``results/classes.md`` and ``.json`` after every set."""
    names, peers = chosen.problems or list(SETS), chosen.peers or list(PEERS)
    unknown = set(names) - set(SETS) | set(peers) - set(PEERS)
    if unknown:
        raise SystemExit(f"no {sorted(unknown)}: there are {', '.join(SETS)} and {', '.join(PEERS)}")
    for name in names:
        for peer in peers if not chosen.report else []:
            path = path_of(name, peer)
            if chosen.resume and path.exists():
                continue
            ours = path_of(name, "cvxnn")
            if peer != "cvxnn" and not ours.exists():
                print(f"{name}, {peer}: left out, the convex network has to set the time first", flush=True)
                continue
            limit = max(LEAST, json.loads(ours.read_text())["cpu"]) if peer != "cvxnn" else 0.0
            path.parent.mkdir(parents=True, exist_ok=True)
            call = [sys.executable, "-m", "benchmarks.classes", name, peer, repr(limit), str(path)]
            if subprocess.run(call).returncode:
                print(f"{name}, {peer}: failed", flush=True)
        write()


def write() -> None:
    """Write the report of all runs that are kept."""
    kept = {
        (n, p): json.loads(path_of(n, p).read_text()) for n in SETS for p in PEERS if path_of(n, p).exists()
    }
    first, second = [], []
    for name in SETS:
        if (name, "cvxnn") not in kept:
            continue
        ours = kept[name, "cvxnn"]
        title = f"{name} ({ours['n']} x {ours['d']}, {ours['classes']} classes)"
        cells = [f"{100 * kept[name, p]['test']:.2f}" if (name, p) in kept else "-" for p in PEERS]
        spent = [f"{kept[name, p]['cpu']:.1f}" if (name, p) in kept else "-" for p in PEERS]
        first.append([title, *cells, " / ".join(spent)])
        c, adam = ours["certificate"], kept.get((name, "Adam"), {}).get("objective")
        numbers = [f"{ours['alpha']:g}", f"{c['objective']:.6g}", "-" if adam is None else f"{adam:.6g}"]
        numbers += [f"{c['search_gap']:.1e}", f"{c['lower_bound']:.4g}", str(c["width"])]
        times = [f"{ours['cpu']:.1f}", f"{ours['wall']:.1f}", f"{ours['memory_gb']:.2f}"]
        second.append([name, *numbers, *times])
    missing = [name for name in SETS if (name, "cvxnn") not in kept]
    doc = (__doc__ or "").split("\n\n")
    text = [
        f"# classes: {len(first)} of {len(SETS)} sets",
        "",
        f"{machine()['cpu']}, shared with other work.",
        "",
        *"\n\n".join(doc[2:-1]).splitlines(),
        "",
        table(["test accuracy, %", *PEERS, "CPU seconds"], first),
        "",
        table(
            HEAD,
            second,
        ),
        "",
        f"Sets not done: {', '.join(missing) or 'none'}.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "classes.md").write_text("\n".join(text))
    facts = {"machine": machine(), "runs": list(kept.values())}
    (RESULTS / "classes.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """One run in this process: ``SET PEER SECONDS FILE``."""
    name, peer, limit, path = sys.argv[1:]
    try:
        done = measure(name, peer, float(limit))
    except (Missing, OSError) as error:
        print(f"{name}: left out, {error}", flush=True)
        return
    with open(path, "w") as file:
        json.dump(done, file)
    print(f"{name}, {peer}: test {done['test']:.4f}, {done['cpu']:.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
