"""The command line: from a table to a network with a certificate, and back to predictions.

    cvxnn fit wine.csv --target quality          trains, says what it did, writes wine.safetensors
    cvxnn path wine.csv --target quality         a table of networks, from strong to weak weight decay
    cvxnn predict wine.safetensors new.csv       writes predictions as CSV
    cvxnn certify wine.safetensors new.csv       how far a model is from the best for a table
    cvxnn export wine.safetensors --to onnx      the network for other programs, see :mod:`cvxnn.cli_export`
    cvxnn report wine.safetensors --data wine.csv   one HTML file that explains the model

Three rules hold for every command. Nothing is done to the data without saying so. Whatever goes wrong is
one line on stderr that says what to do, with exit code 2. And results go to stdout, remarks on the way
(progress, warnings) to stderr, so that commands can be piped. A model is a safetensors file with a JSON
header: weights, encoding of the columns, settings and certificate; never code, never training data.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from scipy.special import expit, softmax
from sklearn.metrics import r2_score

from .architectures import ARCHITECTURES, Architecture
from .audit import certify as certify_network
from .certificate import count
from .class_weight_options import parse_class_weight, weights_of
from .cli_export import export
from .cli_report import report
from .console import ModelFile, OneLine, check_out, remark
from .encoding import Encoding, Target
from .families import get_architecture
from .family_options import parse_options
from .feature_penalties import WeightPenalty
from .live import Progress
from .losses import LOSSES, code_classes, get_loss
from .models import Model
from .parameters import check_alpha, check_grid, seed_of
from .paths import follow
from .penalty_options import parse_penalty, penalty_of
from .program import Problem, Status
from .progress import show, table_of, wait
from .tables import listing, read_table
from .train import Trained, train
from .version import __version__

app = typer.Typer(
    name="cvxnn",
    cls=OneLine,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    help="Neural networks trained to certified global optimality.",
    epilog="Begin with: cvxnn fit DATA.csv --target COLUMN",
)


@app.callback()
def _top(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"cvxnn {__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


class BoundName(StrEnum):
    """What `--bound` accepts."""

    auto = "auto"
    sdp = "sdp"


class TaskName(StrEnum):
    """What `--task` accepts."""

    auto = "auto"
    regression = "regression"
    classification = "classification"


class HiddenBias(StrEnum):
    """What `--hidden-bias` accepts."""

    penalized = "penalized"
    free = "free"
    none = "none"


Data = Annotated[Path, typer.Argument(metavar="DATA", help="CSV (with a header) or Parquet file.")]
TargetName = Annotated[str, typer.Option("--target", metavar="COLUMN", help="Column to predict.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Of the architecture, such as slope=0.2 or kernel=3,1; repeat for several.",
    ),
]
MaxTime = Annotated[
    float | None, typer.Option(min=0.0, metavar="SECONDS", help="Stop training after this.")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path("demo"),
) -> None:
    """Train on real data and write a report into a folder."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: pass a folder to --out")
    from .demo import run_demo

    run_demo(str(out))


@app.command()
def fit(
    data: Data,
    target: TargetName,
    alpha: Annotated[float, typer.Option(help="Strength of the weight decay, > 0.")] = 1e-3,
    out: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Model file; by default DATA's name.safetensors.")
    ] = None,
    task: Annotated[TaskName, typer.Option(help="auto: text or two values are classes.")] = TaskName.auto,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Column to leave out; repeat for several.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(LOSSES)}; by default squared_error for numbers, log_loss for classes."
        ),
    ] = None,
    architecture: Annotated[str, typer.Option(help=f"One of {', '.join(ARCHITECTURES)}.")] = "relu",
    option: Options = None,
    patterns: Annotated[
        str, typer.Option(help="Activation patterns: auto, all, wedge or a number.")
    ] = "auto",
    hidden_bias: Annotated[HiddenBias, typer.Option(help="Bias of the neurons.")] = HiddenBias.penalized,
    penalty: Annotated[
        str,
        typer.Option(
            help="Norm of hidden weights: l2, l1 (neurons see few columns), elastic:0.3 (a share of l1), "
            "or groups:a,b;c (neurons see few groups of columns; columns not named are a group each)."
        ),
    ] = "l2",
    class_weight: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="balanced, or yes=2,no=1: weights of the rows of classes."),
    ] = None,
    tol: Annotated[float, typer.Option(min=0.0, help="Search gap to reach.")] = 1e-5,
    max_time: MaxTime = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the searches.")] = 0,
    scale: Annotated[bool, typer.Option("--scale/--no-scale", help="Standardise numbers.")] = True,
) -> None:
    """Train a network on a table and certify it."""
    check_alpha(alpha)
    bias = None if hidden_bias is HiddenBias.none else hidden_bias.value
    path = out or Path(data.stem + ".safetensors")
    check_out(path, data)
    wanted: str | int = int(patterns) if patterns.isdecimal() else patterns
    options = parse_options(option)
    get_architecture(architecture, bias, wanted, options=options)  # a wrong name is told before any work
    parse_penalty(penalty)
    if class_weight is not None:
        parse_class_weight(class_weight)
    X, y, encoding, coding, chosen = _read(data, target, task, ignore, loss, scale)
    norm, weights = penalty_of(penalty, encoding), weights_of(class_weight, coding, y)
    typer.echo(f"Training on {count(encoding.width, 'input')}, {chosen}, alpha {alpha:g}.")
    typer.echo("Ctrl-C stops and keeps the best network so far.")
    problem, family = _pose(X, y, coding, chosen, alpha, architecture, bias, wanted, norm, options, weights)
    with Progress(tol, max_time) as progress:
        # The seed is drawn as the estimators draw it: both train the same network.
        trained = train(
            problem,
            family,
            tol=tol,
            max_time=max_time,
            random_state=seed_of(seed),
            callback=progress,
        )
    settings = {"alpha": alpha, "loss": chosen, "architecture": architecture, "hidden_bias": bias}
    settings = {**settings, "penalty": penalty, "options": options, "fit_intercept": True}
    settings = {**settings, "patterns": wanted, "class_weight": class_weight, "seed": seed, "tol": tol}
    history = tuple(trained.history)
    Model(trained.network, encoding, coding, settings, trained.certificate, history).save(path)
    _report(trained, tol, get_loss(chosen).mean(trained.network(X)), y, coding)
    typer.echo(f"Model written to {path}.")


@app.command("path")
def follow_path(
    data: Data,
    target: TargetName,
    n_alphas: Annotated[int, typer.Option(min=1, help="Number of strengths.")] = 20,
    eps: Annotated[float, typer.Option(help="The last strength as a share of the first.")] = 1e-3,
    architecture: Annotated[str, typer.Option(help=f"One of {', '.join(ARCHITECTURES)}.")] = "relu",
    option: Options = None,
    tol: Annotated[float, typer.Option(min=0.0, help="Search gap to reach.")] = 1e-5,
    max_time: MaxTime = None,
) -> None:
    """Train networks for a grid of strengths of the weight decay, and print what each is worth."""
    check_grid(None, n_alphas, eps, None)
    X, y, encoding, coding, chosen = _read(data, target, TaskName.auto, None, None, True)
    typer.echo(f"Training on {count(encoding.width, 'input')}, {chosen}, {count(n_alphas, 'alpha')}.")
    problem, family = _pose(
        X, y, coding, chosen, 1.0, architecture, "penalized", "auto", options=parse_options(option)
    )
    effort: dict[str, Any] = {"tol": tol, "max_time": max_time, "random_state": seed_of(0)}
    found = follow(problem, family, n_alphas=n_alphas, eps=eps, callback=lambda p: remark(str(p)), **effort)
    if not found.complete:
        remark(f"stopped after {len(found)} of {n_alphas} alphas; their certificates hold")
    Console(highlight=False).print(table_of(found))


@app.command()
def predict(
    model: ModelFile,
    data: Data,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV to write; else stdout.")] = None,
) -> None:
    """Predict the rows of a table: CSV with a prediction a line."""
    if out is not None:
        check_out(out, model, data)
    loaded = Model.load(model)
    table = read_table(data)
    X, notes = loaded.encoding.apply(table)
    for note in [*table.notes, *notes]:
        remark(f"note: {note}")
    output = loaded.network(X)
    loss = get_loss(loaded.settings["loss"])
    means = output if output.ndim == 2 else loss.mean(output)
    columns: dict[str, Iterable[Any]] = {"prediction": loaded.target.decode(means)}
    if len(loaded.target.classes) > 2 and loaded.settings["loss"] == "log_loss":
        columns["probability"] = np.max(softmax(output, axis=1), axis=1).tolist()
        remark("note: probability is that of the prediction")
    elif loaded.target.classes and loaded.settings["loss"] == "log_loss":
        columns["probability"] = expit(output).tolist()
        remark(f"note: probability is that of {loaded.target.classes[1]!r}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    if out is None:
        typer.echo(text.getvalue(), nl=False)
    else:
        out.write_text(text.getvalue(), encoding="utf-8")
        typer.echo(f"{count(len(output), 'prediction')} written to {out}.")


@app.command()
def certify(
    model: ModelFile,
    data: Data,
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column with the truth; by default the one of the training."),
    ] = None,
    max_time: MaxTime = None,
    bound: Annotated[
        BoundName, typer.Option(help="What proves the lower bound; sdp proves more, for few rows.")
    ] = BoundName.auto,
) -> None:
    """Compare a model with the best possible network for a table."""
    loaded = Model.load(model)
    target = target or loaded.target.name
    table, notes = read_table(data).with_target(target)
    X, more = loaded.encoding.apply(table)
    coding = replace(loaded.target, name=target)
    y = coding.apply(table)
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"the target {target!r} is {table.column(target)[0]!r} in every row: add other rows"
        )
    if target != loaded.target.name:
        notes = [f"the model predicts {loaded.target.name!r}; it is judged on {target!r}, as asked", *notes]
    for note in [*table.notes, *notes, *more]:
        remark(f"note: {note}")
    with wait("searching the best network for these data, to compare with ..."):
        certificate = certify_network(
            loaded.network, X, y, max_time=max_time, bound=bound.value, **loaded.judged()
        )
    typer.echo(f"{model} on {count(len(table), 'row')} of {data}, alpha {certificate.alpha:g}:")
    Console(highlight=False).print(show(certificate))


app.command()(export)
app.command()(report)


#: Gaps above this are worth a word, where the search gap is small.
LOOSE = 0.1
#: What a training that did not reach `--tol` says.
ENDINGS = {
    Status.interrupted: "stopped by Ctrl-C: the best network so far is kept",
    Status.max_time: "stopped at --max-time: the best network so far is kept",
    Status.nonfinite: "stopped where numbers overflowed: the best network so far is kept; rescale the data",
}


def _report(trained: Trained, tol: float, f: np.ndarray, y: np.ndarray, coding: Target) -> None:
    """Print how training ended, the certificate, and the fit to the training data."""
    if trained.status is not Status.optimal:
        gap = f"search gap {trained.certificate.search_gap:.1e}, --tol {tol:g}"
        ending = ENDINGS.get(trained.status, "no further progress: the best network so far is kept")
        remark(f"{ending} ({gap}); its certificate holds")
    Console(highlight=False).print(show(trained.certificate))
    right = np.argmax(f, axis=1) == y if f.ndim == 2 else (f > 0) == (y > 0)
    score = f"{np.mean(right):.1%} correct" if coding.classes else f"R2 {r2_score(y, f):.3f}"
    typer.echo(f"On the training data: {score}.")
    _advise(trained, tol, f)


def _advise(trained: Trained, tol: float, f: np.ndarray) -> None:
    """Say what to do about a network that is constant, and about a bound that is loose."""
    c = trained.certificate
    if not np.ptp(f, axis=0).any():
        remark(
            f"note: no neuron pays at alpha {c.alpha:g}, every prediction is the same: pass a smaller "
            "--alpha; cvxnn path shows which"
        )
    elif c.scope == "bounded" and c.gap > LOOSE and c.search_gap <= tol:
        remark(
            "note: the search found nothing better, so the bound is probably what is loose; a larger "
            "--alpha tightens it, cvxnn path shows by how much"
        )


def _read(
    data: Path, target: str, task: TaskName, ignore: list[str] | None, loss: str | None, scale: bool
) -> tuple[np.ndarray, np.ndarray, Encoding, Target, str]:
    """Read a table and say what is done to it: inputs, targets, their codings and the loss."""
    whole = read_table(data)
    table, notes = whole.without(ignore or []).with_target(target)
    # counts are counts: standardised they would be none
    counts = loss is not None and get_loss(loss).nonnegative
    coding = Target.learn(table, target, "regression" if counts else task.value, scale=scale and not counts)
    encoding = Encoding.learn(table, target, scale=scale)
    X, _ = encoding.apply(table)
    y = coding.apply(table)
    chosen = _loss_name(loss, coding)
    typer.echo(f"{data}: {count(len(whole), 'row')}, {count(len(whole.names), 'column')}")
    if ignore:
        typer.echo(f"  - left out, as asked: {listing(ignore)}")
    for note in [*whole.notes, *notes, *coding.notes, *encoding.notes]:
        typer.echo(f"  - {note}")
    return X, y, encoding, coding, chosen


def _pose(
    X: np.ndarray,
    y: np.ndarray,
    coding: Target,
    loss: str,
    alpha: float,
    architecture: str,
    bias: str | None,
    patterns: str | int,
    penalty: WeightPenalty = "l2",
    options: dict[str, Any] | None = None,
    weights: np.ndarray | None = None,
) -> tuple[Problem, Architecture]:
    """The training problem of a table, and the family of networks with an output for each of many
    classes."""
    outputs = len(coding.classes) if len(coding.classes) > 2 else 1
    family = get_architecture(architecture, bias, patterns, outputs, penalty=penalty, options=options)
    chosen = get_loss(loss, outputs)
    if outputs > 1:
        y = code_classes(y.astype(int), chosen, outputs)
    return Problem.from_alpha(X, y, weights, chosen, alpha, True), family


def _loss_name(loss: str | None, coding: Target) -> str:
    """The loss that was asked for, or the one that suits the target."""
    if loss is None:
        return "log_loss" if coding.classes else "squared_error"
    if get_loss(loss).classification and not coding.classes:
        raise ValueError(f"--loss {loss} is for classes: leave it out, or pass --task classification")
    return loss


if __name__ == "__main__":
    app()
