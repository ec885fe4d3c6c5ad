"""The main job on real data, beside scikit-learn's MLP on the same objective.

scikit-learn's weight decay leaves biases out, so both sides train with free biases: then

    (1/n) sum_i log(1 + exp(-y_i f(x_i))) + alpha/2 * sum_j (||w_j||^2 + a_j^2)

is one objective for both (its ``alpha`` is ours times n). The table has one row for each network, and
the same judge for both; the picture shows objective and proven bound over time. A third row is this
package's default, which penalises the biases too: another objective, whose bound is much tighter.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from .audit import certify
from .certificate import Certificate, percent
from .estimators import ConvexNetClassifier
from .train import Moment

#: Strength of the weight decay in the demonstration.
ALPHA = 0.02
#: Seconds and neurons given to scikit-learn's MLP.
MLP_SECONDS, MLP_NEURONS = 10.0, 100


def run_demo(folder: str = "demo") -> None:
    """Train, certify, print the table and write the picture ``convergence.png`` to a folder.

    Parameters
    ----------
    folder : str
        Created if missing.
    """
    console = Console()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    X, y = load_breast_cancer(return_X_y=True)
    parts = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    scaler = StandardScaler().fit(parts[0])
    X, X_test = scaler.transform(parts[0]), scaler.transform(parts[1])
    y, y_test = parts[2], parts[3]
    console.print(
        f"Breast cancer: {X.shape[0]} samples to train on, {X.shape[1]} features; "
        f"logistic loss + {ALPHA:g} * weight decay, biases free."
    )
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("cvxnn ...")
        clf = ConvexNetClassifier(ALPHA, hidden_bias="free")
        began = time.perf_counter()
        clf.fit(X, y)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        default = ConvexNetClassifier(ALPHA).fit(X, y)
        default_seconds = time.perf_counter() - began
        progress.update(task, description="scikit-learn's MLP ...")
        mlp, track = train_mlp(X, y)
        progress.update(task, description="certifying scikit-learn's MLP ...")
        theirs = certify(mlp, X, y, alpha=ALPHA)
    rows = [
        ("cvxnn", clf.certificate_, seconds, float(clf.score(X_test, y_test))),
        ("sklearn MLP", theirs, track[-1][0], float(mlp.score(X_test, y_test))),
        ("cvxnn, default", default.certificate_, default_seconds, float(default.score(X_test, y_test))),
    ]
    console.print(_table(rows))
    console.print(f"cvxnn: {clf.certificate_}", highlight=False)
    console.print(f"scikit-learn MLP: {theirs}", highlight=False)
    picture = draw(target / "convergence.png", clf.history_, track, clf.certificate_)
    console.print(f"Picture: {picture}" if picture else "No picture: pip install 'cvxnn[plot]'")


def train_mlp(X: np.ndarray, y: np.ndarray) -> tuple[MLPClassifier, list[tuple[float, float]]]:
    """Train scikit-learn's MLP with full-batch Adam and record its objective over time.

    Returns
    -------
    mlp : MLPClassifier
    track : list of (seconds, objective)
        The objective of the best rescaling of the network, as the judge counts it.
    """
    n = len(X)
    mlp = MLPClassifier(
        (MLP_NEURONS,), alpha=ALPHA * n, batch_size=n, learning_rate_init=1e-2, random_state=0
    )
    signs, spent, steps = np.where(y == 1, 1.0, -1.0), 0.0, 1
    track: list[tuple[float, float]] = []
    while spent < MLP_SECONDS:
        began = time.perf_counter()
        for _ in range(steps):
            mlp.partial_fit(X, y, classes=[0, 1])
        spent += time.perf_counter() - began
        # Fewer looks later on: the picture has a logarithmic time axis.
        steps = min(50, 1 + len(track))
        W, a = mlp.coefs_[0], mlp.coefs_[1][:, 0]
        f = np.maximum(X @ W + mlp.intercepts_[0], 0.0) @ a + mlp.intercepts_[1][0]
        decay = float(np.linalg.norm(W, axis=0) @ np.abs(a))
        track.append((spent, float(np.mean(np.logaddexp(0.0, -signs * f))) + ALPHA * decay))
    return mlp, track


def _table(rows: list[tuple[str, Certificate, float, float]]) -> Table:
    table = Table(
        title="\nRows 1 and 2: the same objective, the same judge. Row 3: biases penalised too.",
        title_justify="left",
        padding=(0, 0, 0, 1),
        pad_edge=False,
        box=None,
    )
    names = ("", "objective", "bound", "gap", "search", "width", "seconds", "accuracy")
    for name in names:
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for name, c, seconds, accuracy in rows:
        table.add_row(
            name,
            f"{c.objective:.6f}",
            f"{c.lower_bound:.6f}",
            percent(c.gap),
            f"{c.search_gap:.1e}",
            str(c.width),
            f"{seconds:.1f}",
            f"{accuracy:.3f}",
        )
    return table


def draw(
    path: Path, ours: list[Moment], theirs: list[tuple[float, float]], certificate: Certificate
) -> Path | None:
    """Draw objective and bound over time for both; None where matplotlib is missing."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return None
    from .displays import ConvergenceDisplay

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(
        *zip(*theirs, strict=True), color="#D55E00", linestyle="-.", label="scikit-learn MLP, objective"
    )
    ConvergenceDisplay.from_history(ours, certificate, name="cvxnn", ax=axes, until=theirs[-1][0])
    axes.set_title("Breast cancer, logistic loss with weight decay")
    axes.set_ylim(0.9 * min(certificate.lower_bound, certificate.objective), 3.0 * certificate.objective)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
