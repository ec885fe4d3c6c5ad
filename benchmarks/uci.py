"""The uci suite: test accuracy on 38 small binary sets, everybody tuned with the same effort.

    python -m benchmarks.run --suite uci --resume

Five outer folds (stratified, shuffled with a fixed seed). On the training part of each, columns are
standardised, one parameter is chosen among five candidates by accuracy on three inner folds, the same for
everybody, and the winner is trained again. Reported: mean accuracy on the outer test parts, ranks of these
means (1 is best, ties share), and CPU seconds of tuning and training together.

The convex network is ``ConvexNetClassifierCV``: logistic loss, two rounds of growing inside folds, at most
three in the last training, with its certificate. The others are scikit-learn's with their defaults but for
the tuned parameter. Sets with more than 1000 rows are cut to 1000, drawn once, stratified, with a
fixed seed. Smaller sets come first; every set and peer is kept in ``results/raw/uci`` as it is done, and
``results/uci.json`` has all of them: where files of a set are gone, a resumed benchmark goes on from there,
and a report loses nothing that the last one had. Every run says which engine it is of.

References: Mishkin, Sahiner and Pilanci, ICML 2022 (the sets); Fernandez-Delgado, Cernadas, Barro and
Amorim, JMLR 2014 (ranks over UCI sets).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .problems import Missing, loader
from .report import machine, table
from .runner import RAW, RESULTS

#: Rows that are kept of a large set; outer and inner folds.
MOST, OUTER, INNER = 1000, 5, 3
#: Not one of the 38: hill-valley without its noise.
LEFT_OUT = ("hill-valley-noiseless",)
ALPHAS = (0.1, 0.03, 0.01, 0.003, 0.001)
#: What the runs are of, the newest last: a run knows the one that it is of by its number.
ENGINES = (
    "folds follow Newton paths, and prove what they need not",
    "folds grow rough networks by descent alone, with nothing proven",
)


def _splitter() -> Any:
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(INNER, shuffle=True, random_state=0)


def _searched(model: Any, **candidates: tuple[Any, ...]) -> Any:
    from sklearn.model_selection import GridSearchCV

    return GridSearchCV(model, {k: list(v) for k, v in candidates.items()}, cv=_splitter())


def _ours() -> Any:
    from cvxnn import ConvexNetClassifierCV

    return ConvexNetClassifierCV(ALPHAS, cv=_splitter(), fold_iter=2, max_iter=3, tol=1e-2)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return _searched(RandomForestClassifier(random_state=0), min_samples_leaf=(1, 2, 4, 8, 16))


def _boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return _searched(HistGradientBoostingClassifier(random_state=0), max_leaf_nodes=(2, 4, 8, 16, 31))


def _svm() -> Any:
    from sklearn.svm import SVC

    return _searched(SVC(), C=(0.1, 1.0, 10.0, 100.0, 1000.0))


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return _searched(LogisticRegression(max_iter=1000), C=(0.01, 0.1, 1.0, 10.0, 100.0))


def _mlp() -> Any:
    from sklearn.neural_network import MLPClassifier

    return _searched(MLPClassifier(random_state=0), alpha=(1e-4, 1e-3, 1e-2, 0.1, 1.0))


#: name -> (model with its tuning, what is tuned)
PEERS: dict[str, tuple[Callable[[], Any], str]] = {
    "cvxnn": (_ours, "alpha 0.1, 0.03, 0.01, 0.003, 0.001"),
    "random forest": (_forest, "min_samples_leaf 1, 2, 4, 8, 16"),
    "boosting": (_boosting, "max_leaf_nodes 2, 4, 8, 16, 31"),
    "RBF SVM": (_svm, "C 0.1, 1, 10, 100, 1000"),
    "logistic": (_logistic, "C 0.01, 0.1, 1, 10, 100"),
    "MLP": (_mlp, "alpha 1e-4, 1e-3, 1e-2, 0.1, 1"),
}


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a set, cut to `MOST` rows; X (n, d) as it is in the file, y of 0 and 1."""
    from sklearn.model_selection import train_test_split

    X, y = loader().load_uci_binary(name)
    if len(y) > MOST:
        X, _, y, _ = train_test_split(X, y, train_size=MOST, stratify=y, random_state=0)
    return X, y


def measure(name: str, peer: str, resume: bool = False) -> dict[str, Any]:
    """Tune, train and test one peer on the outer folds of one set; those that are done, if it resumes."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = data(name)
    done: dict[str, Any] = {"set": name, "peer": peer, "n": len(y), "d": X.shape[1]}
    if peer == "cvxnn":
        done["engine"] = len(ENGINES)
    done |= {"accuracy": [], "seconds": [], "chosen": [], "neurons": [], "gap": [], "search_gap": []}
    part = path_of(name, peer).with_suffix(".part")  # large sets take long: folds are kept one by one
    done = json.loads(part.read_text()) if resume and part.exists() else done
    folds = StratifiedKFold(OUTER, shuffle=True, random_state=0).split(X, y)
    for train, test in list(folds)[len(done["accuracy"]) :]:
        model = make_pipeline(StandardScaler(), PEERS[peer][0]())
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an MLP of 200 epochs warns, and so do we at three rounds
            try:
                model.fit(X[train], y[train])
            except Exception as error:
                return done | {"error": f"{type(error).__name__}: {error}"}
        done["seconds"].append(time.process_time() - began)
        done["accuracy"].append(float(np.mean(model.predict(X[test]) == y[test])))
        last = model[-1]
        if peer == "cvxnn":
            certificate = last.certificate_
            done["chosen"].append(last.alpha_)
            done["neurons"].append(certificate.width)
            done["gap"].append(certificate.gap)
            done["search_gap"].append(certificate.search_gap)
        else:
            done["chosen"] += list(last.best_params_.values())
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(done))
    return done


def path_of(name: str, peer: str) -> Path:
    """Return where a set and peer are kept."""
    return RAW / "uci" / f"{name}__{peer.replace(' ', '-')}.json"


Runs = dict[tuple[str, str], dict[str, Any]]


def kept() -> Runs:
    """Return the runs that are there, by set and peer: those of the last report, then those in files."""
    report, runs = RESULTS / "uci.json", []
    if report.exists():
        runs += json.loads(report.read_text())["runs"]
    runs += [json.loads(path.read_text()) for path in sorted((RAW / "uci").glob("*.json"))]
    return {(run["set"], run["peer"]): run for run in runs}


def run(chosen: Any) -> None:
    """Run what is not there yet, and write ``results/uci.md`` and ``.json`` after every set.

    The report is always of all sets: of those that were not chosen what is kept.
    """
    names = [name for name in loader().list_uci_binary() if name not in LEFT_OUT]
    wanted = [name for name in names if name in chosen.problems] if chosen.problems else names
    if not wanted:
        raise Missing(f"none of {chosen.problems}: pass names of load.list_uci_binary()")
    peers = chosen.peers or list(PEERS)
    names.sort(key=lambda name: data(name)[0].size)
    for name in names:
        for peer in peers if name in wanted else ():
            if chosen.report or (chosen.resume and (name, peer) in kept()):
                continue
            done = measure(name, peer, chosen.resume)
            path = path_of(name, peer)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(done))
            path.with_suffix(".part").unlink(missing_ok=True)
            said = done.get("error") or f"{np.mean(done['accuracy']):.4f} in {sum(done['seconds']):.1f} s"
            print(f"{name} ({done['n']} x {done['d']}), {peer}: {said}", flush=True)
        if name in wanted:
            write(names, kept())


def engines(runs: Runs) -> list[str]:
    """Say of which engine the runs of the convex network are, a line for each that has any."""
    lines = []
    for number, what in enumerate(ENGINES, start=1):
        sets = [n for (n, p), run in runs.items() if p == "cvxnn" and run.get("engine", 1) == number]
        if sets:
            lines.append(f"- cvxnn, engine {number} ({what}), {len(sets)} sets: {', '.join(sets)}")
    return lines


def write(names: list[str], runs: Runs) -> None:
    """Write the report of what is there; ranks are over the sets that all peers have done."""
    from scipy.stats import rankdata

    peers = list(PEERS)
    runs = {(n, p): runs[n, p] for n in names for p in peers if (n, p) in runs}
    whole = [n for n in names if all((n, p) in runs and "error" not in runs[n, p] for p in peers)]
    failed = [f"{n}, {p}: {run['error']}" for (n, p), run in runs.items() if "error" in run]
    mean = np.array([[np.mean(runs[n, p]["accuracy"]) for p in peers] for n in whole])
    mean = mean.reshape(-1, len(peers))
    ranks = rankdata(-mean.round(10), axis=1)
    cpu = np.array([[np.mean(runs[n, p]["seconds"]) for p in peers] for n in whole]).reshape(-1, len(peers))
    lines = []
    for i, n in enumerate(whole):
        run = runs[n, peers[0]]
        top = mean[i].max()
        cells = [f"**{100 * v:.1f}**" if v >= top - 1e-12 else f"{100 * v:.1f}" for v in mean[i]]
        lines.append([f"{n} ({run['n']} x {run['d']})", *cells])
    summary = (
        [
            ["mean accuracy, %", *(f"{100 * v:.2f}" for v in mean.mean(axis=0))],
            ["mean rank", *(f"{v:.2f}" for v in ranks.mean(axis=0))],
            [
                "first, alone or shared",
                *(str(int(v)) for v in (ranks == ranks.min(axis=1, keepdims=True)).sum(axis=0)),
            ],
            ["CPU seconds a fold, mean", *(f"{v:.2f}" for v in cpu.mean(axis=0))],
        ]
        if whole
        else []
    )
    doc = [line for line in (__doc__ or "").splitlines()[4:] if not line.startswith("References")]
    text = [
        f"# uci: {len(whole)} of {len(names)} sets",
        "",
        f"{machine()['cpu']}, one core, shared with other work: CPU seconds.",
        "",
        *doc[: next(i for i, line in enumerate(doc) if "Amorim" in line or "Mishkin" in line) - 1],
        "",
        *(f"- {p}: {PEERS[p][1]}" for p in peers),
        *engines(runs),
        "",
        table(["", *peers], summary),
        "",
        table(["test accuracy, %", *peers], lines),
        "",
        f"Sets not done: {', '.join(n for n in names if n not in whole) or 'none'}.",
        f"Failures: {'; '.join(failed) or 'none'}.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "uci.md").write_text("\n".join(text))
    facts = {"machine": machine(), "sets": len(names), "runs": list(runs.values())}
    (RESULTS / "uci.json").write_text(json.dumps(facts, indent=1) + "\n")
