"""The benchmark's own arithmetic: the basket's form, the recorder's clock, and the judge."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import best_known, gated, uci
from benchmarks.judge import judge_gated, judge_relu, time_to
from benchmarks.peers import Task, all_peers
from benchmarks.peers.arithmetic import gated_gap, loss_and_slope
from benchmarks.problems import Data, load
from benchmarks.recorder import Recorder
from benchmarks.report import Row, own_final
from benchmarks.runner import Case
from benchmarks.scaling import exponent
from cvxnn.losses import get_loss


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 3))
    return Data("tiny", X / np.linalg.norm(X, axis=0), np.sign(rng.standard_normal(20)), "squared_error")


SUITES = sorted(path.stem for path in Path(best_known.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_imported(name):
    # suites are run by hand, in hours: a name that moved is seen here
    assert importlib.import_module(f"benchmarks.{name}").__doc__


def test_basket_has_unit_columns():
    iris = load("iris")
    assert np.allclose(np.linalg.norm(iris.X, axis=0), 1.0)
    assert np.allclose(iris.X.mean(axis=0), 0.0)
    assert set(iris.y) == {-1.0, 1.0}


@pytest.mark.parametrize("name", ["squared_error", "log_loss"])
def test_peers_share_our_losses(name, data):
    f = np.random.default_rng(1).standard_normal(20)
    value, slope = loss_and_slope(name, f, data.y)
    loss, ones = get_loss(name), np.ones(20)
    assert value == pytest.approx(loss.value(f, data.y, ones) / 20)
    assert np.allclose(slope, loss.gradient(f, data.y, ones) / 20)


def test_judge_recomputes_the_balanced_objective(data, tmp_path):
    rng = np.random.default_rng(2)
    W, a = rng.standard_normal((3, 4)), rng.standard_normal(4)
    record = Recorder(1.0)
    record(W, None, a)
    record(W * np.nan, None, a)
    record.save(str(tmp_path / "run.npz"))
    verdict = judge_relu(data, 0.1, str(tmp_path / "run.npz"))
    f = np.maximum(data.X @ W, 0) @ a
    wanted = 0.5 * np.mean((f - data.y) ** 2) + 0.1 * np.linalg.norm(W, axis=0) @ np.abs(a)
    assert verdict.objective[0] == pytest.approx(wanted)
    assert verdict.objective[1] == np.inf


def test_judge_of_gated_networks_agrees_with_the_peers_gap(data, tmp_path):
    rng = np.random.default_rng(3)
    gates, W = rng.standard_normal((5, 3)), 0.1 * rng.standard_normal((5, 3))
    record = Recorder(1.0)
    record(W)
    record.save(str(tmp_path / "run.npz"))
    verdict = judge_gated(data, 0.01, str(tmp_path / "run.npz"), gates)
    masks = (gates @ data.X.T >= 0).astype(float)
    assert verdict.gap[0] == pytest.approx(gated_gap(data.X, data.y, masks, W, 0.01), rel=1e-6)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_alpha_max_of_the_gated_suite_and_the_peers_gap(loss, data):
    gates = np.random.default_rng(4).standard_normal((5, 3))
    named = Data("tiny", data.X, data.y, loss)
    masks, zero = (gates @ data.X.T >= 0).astype(float), np.zeros(gates.shape)
    top = gated.largest(named, gates)
    assert gated_gap(data.X, data.y, masks, zero, 1.001 * top, loss) == pytest.approx(0.0, abs=1e-12)
    assert gated_gap(data.X, data.y, masks, zero, 0.9 * top, loss) > 1e-3


def test_readings_count_whole_solves_and_say_what_a_miss_had():
    solved = {"gap": [1e-3, 1e-7], "seconds_of": [0.1, 0.4], "stopped": "finished"}
    assert gated.reading(solved, False)["times"] == [0.4]
    assert gated.reading(solved | {"extra": {"times": [0.5, 0.6]}}, True)["times"] == [0.5, 0.6]
    missed = gated.reading({"gap": [1e-3, 1e-5], "seconds_of": [2.0, 9.0], "stopped": "limit"}, False)
    assert missed["times"] == [] and missed["spent"] == 9.0 and missed["gap"] == 1e-5


def test_recorder_stops_at_target_and_limit():
    record = Recorder(100.0, target=1.0)
    assert not record.due(2.0) and record.due(0.99999) and not record.due(0.99999)
    assert not record.over(1.0) and record.over(0.999998) and record.stopped == "target"
    assert Recorder(-1.0).over(5.0)


def test_time_to_is_the_first_at_the_bar():
    assert time_to([1.0, 2.0, 3.0], [3.0, 1.0, 0.5], 1.0) == 2.0
    assert time_to([1.0], [3.0], 1.0) == float("inf")


@pytest.mark.parametrize("name", ["lbfgs-50", "cvxnn"])
def test_peers_reach_the_same_objective(name, data, tmp_path):
    record = Recorder(1.0)
    all_peers()[name].solve(Task(data.X, data.y, data.loss, 0.02, 0, 1.0), record)
    record.save(str(tmp_path / "run.npz"))
    verdict = judge_relu(data, 0.02, str(tmp_path / "run.npz"))
    null = 0.5 * np.mean(data.y**2)
    assert verdict.objective[-1] < null
    assert np.min(verdict.objective) == pytest.approx(verdict.objective[-1])


def test_a_peer_is_held_against_its_own_final_objective(data):
    def ran(seconds, objective, limit=60.0):
        return {"seconds_of": seconds, "objective": objective, "limit": limit, "stopped": "limit"}

    case = Case("relu", data, 0.1)
    theirs = [ran([1.0, 10.0, 50.0], [2.0, 1.50001, 1.5])]
    row = Row(case, 1.0, {"scnn": theirs, "cvxnn": [ran([0.1, 0.2, 5.0], [1.6, 1.4, 1.0])]})
    assert own_final(row, "scnn", "cvxnn") == (10.0, 0.2)  # within 1e-4 of where it ends
    row = Row(case, 1.0, {"scnn": theirs, "cvxnn": [ran([0.1], [1.6])]})
    assert own_final(row, "scnn", "cvxnn") == (10.0, 60.0)  # we did not get there
    assert own_final(row, "adelie", "cvxnn") is None


def test_best_known_only_goes_down():
    entries: dict = {}
    assert best_known.offer(entries, "a", {"objective": 2.0, "lower_bound": 0.5})
    assert not best_known.offer(entries, "a", {"objective": 3.0, "lower_bound": 1.0})
    assert entries["a"] == {"objective": 2.0, "lower_bound": 1.0}


def test_exponents_and_what_failures_say():
    x = [1.0, 2.0, 4.0, 8.0]
    assert exponent(x, [3.0 * v**1.5 for v in x], 100.0) == (pytest.approx(1.5), False)
    late = exponent(x, [1.0, 2.0, 4.0, np.inf], 6.0)  # true: at least 8
    assert late[1] and 0.8 < late[0] < 1.0
    assert np.isnan(exponent(x, [np.inf, 2.0, 4.0, 8.0], 6.0)[0])  # says nothing of the slope
    assert np.isnan(exponent(x[:2], [1.0, 2.0], 6.0)[0])


def test_the_clock_of_the_process_does_not_count_waiting():
    record = Recorder(1.0, None, time.process_time)
    time.sleep(0.2)
    assert record.seconds < 0.1


def test_a_resumed_uci_benchmark_keeps_what_the_last_report_has(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sets = {name: (rng.standard_normal((40, 2)), np.arange(40) % 2) for name in ("first", "second")}
    monkeypatch.setattr(uci, "RESULTS", tmp_path)
    monkeypatch.setattr(uci, "RAW", tmp_path / "raw")
    monkeypatch.setattr(uci, "data", sets.get)
    peers = {name: uci.PEERS[name] for name in ("RBF SVM", "logistic")}
    monkeypatch.setattr(uci, "PEERS", peers)

    class Files:
        list_uci_binary = staticmethod(lambda: [*sets, *uci.LEFT_OUT])

    monkeypatch.setattr(uci, "loader", Files)
    facts = {"set": "first", "n": 40, "d": 2, "accuracy": [0.123], "seconds": [7.0], "chosen": [1.0]}
    runs = [facts | {"peer": name} for name in peers]
    (tmp_path / "uci.json").write_text(json.dumps({"runs": runs}))
    chosen = argparse.Namespace(problems=["second"], peers=None, report=False, resume=True)
    uci.run(chosen)
    report = json.loads((tmp_path / "uci.json").read_text())
    assert [(run["set"], run["peer"]) for run in report["runs"]] == [(s, p) for s in sets for p in peers]
    assert report["runs"][:2] == runs and len(report["runs"][2]["accuracy"]) == uci.OUTER
    text = (tmp_path / "uci.md").read_text()
    assert "2 of 2 sets" in text and "| first (40 x 2) | **12.3** | **12.3** |" in text

    def never(*args):
        raise AssertionError("this set is done")

    monkeypatch.setattr(uci, "measure", never)
    uci.run(argparse.Namespace(problems=None, peers=None, report=False, resume=True))
    with pytest.raises(AssertionError, match="done"):
        uci.run(argparse.Namespace(problems=["first"], peers=None, report=False, resume=False))


def test_a_uci_set_goes_on_after_the_folds_that_are_done(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(uci, "RAW", tmp_path)
    monkeypatch.setattr(uci, "data", lambda name: (rng.standard_normal((40, 2)), np.arange(40) % 2))
    first = uci.measure("tiny", "logistic")
    part = tmp_path / "uci" / "tiny__logistic.part"
    part.write_text(json.dumps(first | {"accuracy": [0.5] * 3, "seconds": [9.0] * 3, "chosen": [1.0] * 3}))
    again = uci.measure("tiny", "logistic", resume=True)
    assert again["accuracy"][:3] == [0.5] * 3 and again["seconds"][:3] == [9.0] * 3
    assert len(again["accuracy"]) == len(again["chosen"]) == uci.OUTER
    assert uci.measure("tiny", "logistic")["seconds"][0] < 9.0
