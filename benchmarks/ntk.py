"""The ntk suite: the tangent kernel against the best kernel, which is the gated network, on small sets.

    python -m benchmarks.run --suite ntk --resume

The binary UCI sets with at most 1000 rows. Five splits into 75 % for training and 25 % for the test
(stratified, fixed seeds); columns are standardised on the training part. Both methods have the squared loss
on -1 and +1, biases in gates and neurons, an intercept, and ten strengths, from the largest that matters
to 1e-5 of it; the strength is chosen by accuracy on three inner folds of the training part (ties go to the
larger), and the winner is trained again on all of it.

*NTK* is the closed form, for infinitely many Gaussian gates, without a choice of the kernel. *Best kernel*
is the gated network with 500 Gaussian gates (equal patterns once), trained along the path of strengths to
a relative duality gap of 1e-4 and certified: by the duality of multiple-kernel learning it is ridge
regression with the best nonnegative combination of the gates' kernels. The published comparison
(Dwaraknath, Ergen and Pilanci, NeurIPS 2023) has a 75/25 split of 33 sets with at most 1000 rows, several
classes among them, and finds the best kernel at least equal to the NTK on 26.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from .problems import Missing, _loader
from .report import machine, table
from .runner import RAW, RESULTS

#: Rows of a set at most; splits, inner folds, strengths and their range, gates.
MOST, SPLITS, INNER, STRENGTHS, LEAST, GATES = 1000, 5, 3, 10, 1e-5, 500
METHODS = ("NTK", "best kernel")


def strengths_of_ntk(X: np.ndarray) -> np.ndarray:
    """Strengths from the mean of the kernel's diagonal downwards: above it all is shrunk to a constant."""
    from cvxnn.ntk import gated_ntk

    data = np.column_stack([X, np.ones(len(X))])
    return np.geomspace(1.0, LEAST, STRENGTHS) * float(np.mean(np.diag(gated_ntk(data))))


def predictors(method: str, X: np.ndarray, y: np.ndarray, alphas: np.ndarray | None) -> tuple[Any, ...]:
    """Train at every strength; return the strengths and functions from data to outputs."""
    from cvxnn import path
    from cvxnn.ntk import NTKRegressor

    if method == "NTK":
        alphas = strengths_of_ntk(X) if alphas is None else alphas
        return alphas, [NTKRegressor(alpha=alpha).fit(X, y).predict for alpha in alphas], None
    keywords = {"n_alphas": STRENGTHS, "eps": LEAST} if alphas is None else {"alphas": alphas}
    found = path(X, y, architecture="gated_relu", patterns=GATES, tol=1e-4, max_iter=200, **keywords)
    return found.alphas, found.networks, found.certificates


def accuracy(f: np.ndarray, y: np.ndarray) -> float:
    """The share of outputs with the sign of their targets."""
    return float(np.mean(np.where(f > 0.0, 1.0, -1.0) == y))


def run_split(method: str, X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """Choose the strength inside the training part, train again, and test."""
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from sklearn.preprocessing import StandardScaler

    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    began = time.process_time()
    alphas = predictors(method, X, y, None)[0]
    scores = np.zeros(len(alphas))
    for train, held in StratifiedKFold(INNER, shuffle=True, random_state=seed).split(X, y):
        found = predictors(method, X[train], y[train], alphas)[1]
        scores += [accuracy(f(X[held]), y[held]) for f in found]
    best = int(np.argmax(scores.round(10)))
    _, found, certificates = predictors(method, X, y, alphas[: best + 1])
    done = {"accuracy": accuracy(found[-1](X_test), y_test), "alpha": float(alphas[best])}
    done["seconds"] = time.process_time() - began
    if certificates is not None:
        done |= {"gap": certificates[-1].gap, "gates": certificates[-1].width}
    return done


def path_of(name: str, method: str) -> Path:
    """Return where a set and method are kept."""
    return RAW / "ntk" / f"{name}__{method.replace(' ', '-')}.json"


def run(chosen: Any) -> None:
    """Run what is not there yet, and write ``results/ntk.md`` and ``.json`` after every set."""
    load = _loader()
    names = [n for n in load.list_uci_binary() if len(load.load_uci_binary(n)[1]) <= MOST]
    if chosen.problems:
        names = [name for name in names if name in chosen.problems]
    if not names:
        raise Missing(f"none of {chosen.problems}: pass names of load.list_uci_binary()")
    names.sort(key=lambda name: load.load_uci_binary(name)[0].size)
    for name in names:
        X, labels = load.load_uci_binary(name)
        y = np.where(labels > 0, 1.0, -1.0)
        for method in METHODS:
            where = path_of(name, method)
            if chosen.report or (chosen.resume and where.exists()):
                continue
            splits = [run_split(method, X, y, seed) for seed in range(SPLITS)]
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(json.dumps({"set": name, "n": len(y), "d": X.shape[1], "splits": splits}))
            mean = np.mean([split["accuracy"] for split in splits])
            spent = sum(split["seconds"] for split in splits)
            print(f"{name} {X.shape}, {method}: {mean:.4f} in {spent:.1f} s", flush=True)
        write(names)


def write(names: list[str]) -> None:
    """Write the report of the sets that both methods have done."""
    from scipy.stats import wilcoxon

    done = [n for n in names if all(path_of(n, m).exists() for m in METHODS)]
    kept = [[json.loads(path_of(n, m).read_text()) for m in METHODS] for n in done]
    each = np.array([[[s["accuracy"] for s in run["splits"]] for run in pair] for pair in kept])
    each = each.reshape(len(done), len(METHODS), -1)  # sets, methods, splits
    mean = each.mean(axis=2)
    gain = (mean[:, 1] - mean[:, 0]).round(10)
    spread = np.std(each[:, 1] - each[:, 0], axis=1, ddof=1) / np.sqrt(each.shape[2])
    lines = []
    for pair, means, g, error in zip(kept, mean, gain, spread, strict=True):
        cells = [f"**{100 * v:.1f}**" if v >= means.max() - 1e-12 else f"{100 * v:.1f}" for v in means]
        gates = np.mean([s["gates"] for s in pair[1]["splits"]])
        title = f"{pair[0]['set']} ({pair[0]['n']} x {pair[0]['d']})"
        lines.append([title, *cells, f"{100 * g:+.1f} ± {100 * error:.1f}", f"{gates:.0f}"])
    cpu = [np.mean([s["seconds"] for pair in kept for s in pair[i]["splits"]]) for i in range(2)]
    gap = max(s["gap"] for pair in kept for s in pair[1]["splits"])
    single = (each[:, 1] - each[:, 0]).round(10)
    test = wilcoxon(gain).pvalue if np.any(gain) else 1.0
    text = [
        f"# ntk: {len(done)} of {len(names)} sets",
        "",
        f"{machine()['cpu']}, shared with other work: CPU seconds.",
        "",
        *(__doc__ or "").splitlines()[4:],
        "",
        f"- Best kernel at least equal to the NTK on {np.sum(gain >= 0)} of {len(done)} sets "
        f"(better on {np.sum(gain > 0)}, worse on {np.sum(gain < 0)}), means of {SPLITS} splits; "
        f"Wilcoxon signed-rank test of equal accuracy: p = {test:.2g}.",
        f"- On single splits, as published: at least equal on "
        f"{', '.join(str(int(v)) for v in np.sum(single >= 0, axis=0))} of {len(done)} sets.",
        "- Mean accuracy: "
        + ", ".join(f"{m} {100 * v:.2f} %" for m, v in zip(METHODS, mean.mean(axis=0), strict=True)),
        f"- CPU seconds a split, choice of the strength included: {cpu[0]:.2f} and {cpu[1]:.2f}.",
        f"- Largest proven gap of a best kernel: {gap:.1e} (scope: its gates).",
        "",
        table(["test accuracy, %", *METHODS, "gain ± standard error", "gates used"], lines),
        "",
        f"Sets not done: {', '.join(n for n in names if n not in done) or 'none'}.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ntk.md").write_text("\n".join(text))
    facts = {"machine": machine(), "runs": [run for pair in kept for run in pair]}
    (RESULTS / "ntk.json").write_text(json.dumps(facts, indent=1) + "\n")
