"""In notebooks and terminals: HTML, what `verbose` shows, interrupts, and scikit-learn's callbacks."""

from __future__ import annotations

import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import cvxnn.live as live
from cvxnn import (
    ConvexNetClassifier,
    ConvexNetPath,
    ConvexNetRegressor,
    ConvexNetRegressorCV,
    Network,
    path,
)
from cvxnn import local_linear as around
from cvxnn.layers import LAYERS
from cvxnn.live import telling
from cvxnn.notebook import html_table
from cvxnn.train import Moment

X = np.linspace(-1.0, 1.0, 30)[:, None]
y = np.abs(X[:, 0]) + 0.1 * np.sin(9.0 * X[:, 0])
MOMENT = Moment(1.0, 0.5, 0.0, 0.25, 3, 3)


class Cells(HTMLParser):
    """Collects text, and that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.text = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_tables_escape():
    page = html_table([("<a>", "b & c")], "'<i>'", ("", "<head>"))
    assert Cells(page).text == ["'<i>'", "<head>", "<a>", "b & c"] and "<a>" not in page


def test_html_of_what_fits_return():
    model = ConvexNetRegressor(alpha=0.01, hidden_bias=None, fit_intercept=False).fit(X, y)
    network = Cells(model.network_._repr_html_()).text
    assert (
        "Affine" in network
        and "ReLU" in network
        and f"weight 1 x {model.network_.width}, "
        in "".join(part + ", " for part in network).replace(", bias", ",  bias")
    )
    certificate = Cells(model.certificate_._repr_html_()).text
    assert f"{model.certificate_.objective:.8g}" in certificate
    optimal = Cells(model.optimal_set(X, y)._repr_html_()).text
    assert "dimension" in optimal and "slack" in optimal
    found = path(X, y, n_alphas=3, eps=0.1)
    cells = Cells(found._repr_html_()).text
    assert [f"{alpha:.4g}" in cells for alpha in found.alphas] == [True] * 3


def test_html_of_an_empty_network():
    empty = Network.two_layer(np.zeros((2, 0)), np.zeros(0), np.zeros(0), 1.5)
    assert "bias 1.5" in "".join(Cells(empty._repr_html_()).text) and "Affine" in LAYERS


def test_verbose_zero_is_silent(capsys):
    ConvexNetRegressor(alpha=0.05).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_verbose_one_is_a_line_on_stderr(capsys):
    ConvexNetRegressor(alpha=0.05, verbose=1).fit(X, y)
    out, said = capsys.readouterr()
    assert not out and "objective" in said and "bound" in said.splitlines()[-1]
    ConvexNetRegressor(alpha=0.05, verbose=True).fit(X, y)
    assert capsys.readouterr().err


def test_verbose_two_is_a_line_for_every_round(capsys):
    model = ConvexNetRegressor(alpha=0.05, verbose=2).fit(X, y)
    out, said = capsys.readouterr()
    assert not said and len(out.splitlines()) == len(model.history_)


@pytest.mark.parametrize(("terminal", "jupyter", "widgets"), [(1, 0, 0), (0, 1, 1), (0, 1, 0), (0, 0, 0)])
def test_where_a_line_changes(monkeypatch, terminal, jupyter, widgets):
    monkeypatch.setattr(live.Console, "is_terminal", property(lambda self: bool(terminal)))
    monkeypatch.setattr(live, "has_widgets", lambda: bool(widgets))
    # a console that knows it is in a notebook and draws nowhere
    made = live.Progress(1e-5, None)
    made.console.is_jupyter = bool(jupyter)
    monkeypatch.setattr(live, "Console", lambda **_: made.console)
    progress = live.Progress(1e-5, None)
    assert progress.changes == bool(terminal or (jupyter and widgets))
    assert isinstance(progress.live, live.Live) == progress.changes


def test_telling_nobody():
    with telling(0, 1e-5, None) as tell:
        assert tell is None


@pytest.mark.parametrize("at", [1, 3])
def test_interrupts_return_the_best_network(at, monkeypatch):
    seen = []

    def interrupt(moment):
        seen.append(moment)
        if len(seen) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(live, "print_moment", interrupt)
    for model, target in (
        (ConvexNetRegressor(alpha=0.01, verbose=2), y),
        (ConvexNetClassifier(alpha=0.01, verbose=2), y > 0.4),
    ):
        seen.clear()
        with pytest.warns(ConvergenceWarning, match="Interrupted; this is the best point so far"):
            model.fit(X, target)
        objectives = [moment.objective for moment in seen[:at]]
        assert model.certificate_.objective <= min(objectives) * (1 + 1e-9)
        assert model.certificate_.lower_bound <= model.certificate_.objective
        assert np.all(np.isfinite(model.predict(X).astype(float)))


def test_an_interrupt_keeps_the_points_of_a_path():
    done = []

    def interrupt(point):
        done.append(point)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="The path ended early: 2 of 5 alphas are done"):
        found = path(X, y, n_alphas=5, callback=interrupt)
    assert len(found) == 2 and not found.complete and "alpha" in found._repr_html_()


def test_an_interrupt_of_a_kernel_reaches_training():
    import os
    import signal

    class Slow:
        """Sends what a notebook's stop button sends."""

        count = 0

        def __call__(self, moment):
            self.count += 1
            if self.count == 2:
                os.kill(os.getpid(), signal.SIGINT)

    from cvxnn.architectures.relu import ReLU
    from cvxnn.losses import get_loss
    from cvxnn.program import Problem, Status
    from cvxnn.train import train

    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 0.001, True)
    # as in a kernel; processes in the background of a shell ignore the signal
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trained = train(problem, ReLU(), callback=Slow())
    finally:
        signal.signal(signal.SIGINT, before)
    assert trained.status is Status.interrupted and trained.network.width > 0


def test_a_callback_that_is_true_stops_training():
    from cvxnn.architectures.relu import ReLU
    from cvxnn.losses import get_loss
    from cvxnn.program import Problem, Status
    from cvxnn.train import train

    problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 0.001, True)
    trained = train(problem, ReLU(), callback=lambda moment: moment.width > 0)
    assert trained.status is Status.interrupted and trained.network.width > 0
    assert len(trained.history) < len(train(problem, ReLU()).history)


class Listener:
    """A callback of scikit-learn that scores the network of every round."""

    def __init__(self, until: int | None = None) -> None:
        self.until, self.scores, self.tasks = until, [], []

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.tasks.append(f"end {context.task_name}")
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y))
        return self.until is not None and len(self.scores) >= self.until


@pytest.mark.parametrize("kind", ["regressor", "classifier", "cv"])
def test_callbacks_of_scikit_learn(kind):
    pytest.importorskip("sklearn.callback")
    model, target = {
        "regressor": (ConvexNetRegressor(alpha=0.01), y),
        "classifier": (ConvexNetClassifier(alpha=0.01), np.where(y > 0.4, "far", "near")),
        "cv": (ConvexNetRegressorCV([0.1, 0.01], cv=3), y),
    }[kind]
    listener = Listener()
    frame = pd.DataFrame(X, columns=["place"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of feature names, say
        model.set_callbacks(listener).fit(frame, target)
    assert listener.tasks[:2] == ["setup", "begin fit"]
    assert listener.tasks[-2:] == ["end fit", "teardown"]
    rounds = listener.tasks.count("end round")
    assert rounds == listener.tasks.count("begin round") == len(model.history_) + 1
    assert listener.scores[-1] == model.score(frame, target) >= listener.scores[0]


def test_a_callback_of_scikit_learn_stops_training():
    pytest.importorskip("sklearn.callback")
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        model = ConvexNetRegressor(alpha=0.001).set_callbacks(Listener(until=2)).fit(X, y)
    whole = ConvexNetRegressor(alpha=0.001).fit(X, y)
    assert len(model.history_) < len(whole.history_)
    assert around(model, X).values.shape == (30, 1)


def test_monitors_and_bars_of_scikit_learn(capsys):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="r2")
    model = ConvexNetRegressor(alpha=0.01).set_callbacks(monitor, callback.ProgressBar()).fit(X, y)
    log = monitor.get_logs().data_as_pandas if hasattr(monitor, "get_logs") else None
    assert model.certificate_.gap < 1 and (log is None or len(log))
    search = GridSearchCV(ConvexNetRegressor(), {"alpha": [0.1]}, cv=2)
    search.set_callbacks(callback.ProgressBar()).fit(X[::-1], y[::-1])
    assert search.best_params_ == {"alpha": 0.1}


def test_older_versions_have_no_callbacks(monkeypatch):
    import importlib
    import sys

    import cvxnn.rounds as rounds

    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    try:
        older = importlib.reload(rounds)
        assert older.with_callbacks(print) is print
        assert not hasattr(older.CallbackSupportMixin, "set_callbacks")
    finally:
        monkeypatch.undo()
        importlib.reload(rounds)


def test_paths_have_html():
    model = ConvexNetPath([0.5]).fit(X, y)
    assert "neurons" in model.path_._repr_html_()
