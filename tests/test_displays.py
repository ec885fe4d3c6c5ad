"""Pictures: scikit-learn's conventions, what the artists show, and clear errors."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cvxnn
from cvxnn import ConvexNetClassifier, ConvexNetPath, ConvexNetRegressor, ConvexNetRegressorCV, Network
from cvxnn.displays import (
    ArrangementDisplay,
    ConvergenceDisplay,
    DecisionDisplay,
    NeuronDisplay,
    PathDisplay,
)
from cvxnn.displays.arrangement import lift, project
from cvxnn.displays.regularization_path import sizes
from cvxnn.hyperplanes import arguments, hyperplanes
from cvxnn.layers import Absolute, Affine, Gated, LeakyReLU, Polynomial, ReLU, SkipReLU, Threshold
from cvxnn.network import Conv
from cvxnn.patches import Windows
from cvxnn.train import Moment

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

rng = np.random.default_rng(0)
X1 = np.linspace(-1.0, 1.0, 40)[:, None]
X2 = rng.standard_normal((50, 2))


def network(inputs=2, neurons=4, outputs=1, activation=None):
    out = rng.standard_normal((neurons, outputs))
    return Network.two_layer(
        rng.standard_normal((inputs, neurons)),
        rng.standard_normal(neurons),
        out[:, 0] if outputs == 1 else out,
        activation=activation,
    )


def gated(inputs=2, neurons=4, outputs=1):
    G, W = rng.standard_normal((2, inputs, neurons))
    h, b = rng.standard_normal((2, neurons))
    return Network((Gated(G, h, W, b), Affine(rng.standard_normal((neurons, outputs)), np.zeros(outputs))))


FAMILIES = {
    "relu": network(),
    "several outputs": network(outputs=3),
    "leaky": network(activation=LeakyReLU(0.1)),
    "absolute": network(activation=Absolute()),
    "threshold": network(activation=Threshold()),
    "skip": network(activation=SkipReLU(1)),
    "gated": gated(outputs=2),
    "deep": Network((*network().layers[:2], *network(4, 3).layers)),
}


@pytest.fixture(scope="module")
def regressor():
    return ConvexNetRegressor(alpha=0.01).fit(X1, np.abs(X1[:, 0]))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_they_are_attributes_of_the_package():
    for display in (ArrangementDisplay, ConvergenceDisplay, DecisionDisplay, NeuronDisplay, PathDisplay):
        assert getattr(cvxnn, display.__name__) is display and display.__name__ in dir(cvxnn)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        cvxnn.Nothing  # noqa: B018


def test_the_convention(regressor):
    _, axes = plt.subplots()
    makers = [
        lambda ax: ConvergenceDisplay.from_estimator(regressor, ax=ax),
        lambda ax: NeuronDisplay.from_estimator(regressor, X1, k=1, ax=ax),
        lambda ax: DecisionDisplay.from_estimator(regressor, X1, np.abs(X1[:, 0]), ax=ax),
        lambda ax: ArrangementDisplay.from_estimator(regressor, X1[::8], ax=ax),
    ]
    for make in makers:
        figures = plt.get_fignums()
        display = make(axes)
        assert plt.get_fignums() == figures  # nothing new is made where axes are given
        assert display.figure_ is axes.figure
        assert display.plot() is display and display.figure_ is not axes.figure
        display.figure_.canvas.draw()
        plt.close(display.figure_)


def test_a_missing_library_names_the_extra(monkeypatch, regressor):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    calls = [
        lambda: ConvergenceDisplay.from_estimator(regressor),
        lambda: NeuronDisplay.from_estimator(regressor, X1),
        lambda: DecisionDisplay.from_estimator(regressor, X1),
        lambda: ArrangementDisplay.from_data(X1),
        lambda: PathDisplay(alphas=np.ones(1), widths=np.ones(1)).plot(),
    ]
    for call in calls:
        with pytest.raises(ImportError, match=r"pip install 'cvxnn\[plot\]'"):
            call()


def test_convergence(regressor):
    display = ConvergenceDisplay.from_estimator(regressor, name="ours")
    objective, bound = (line.get_ydata() for line in display.lines_)
    assert objective[-1] == regressor.certificate_.objective
    assert np.all(bound == regressor.certificate_.lower_bound)
    labels = display.ax_.get_legend_handles_labels()[1]
    assert "lower bound, proven at the end" in labels and labels[0].startswith("ours, objective, ")
    assert display.band_ is not None
    gaps = ConvergenceDisplay.from_estimator(regressor, quantity="gap")
    assert gaps.band_ is None and gaps.ax_.get_yscale() == "log"
    assert gaps.lines_[0].get_ydata()[-1] == pytest.approx(max(regressor.certificate_.gap, 1e-16), rel=1e-6)


def test_convergence_of_a_bound_that_rises():
    history = [Moment(s, f, b, 0.1, 3, 3) for s, f, b in ((1, 3, 0), (2, 4, 1), (4, 2, 0.5), (9, 1.9, 1.8))]
    display = ConvergenceDisplay.from_history(history, until=20.0)
    objective, bound = (line.get_ydata() for line in display.lines_)
    assert objective.tolist() == [3, 3, 2, 1.9, 1.9]
    assert np.isnan(bound[0]) and bound[1:].tolist() == [1, 1, 1.8, 1.8]
    assert display.lines_[0].get_xdata()[-1] == 20.0 and display.ax_.get_xscale() == "log"
    nothing = ConvergenceDisplay.from_history(history[:1])
    assert len(nothing.lines_) == 1 and nothing.band_ is None
    with pytest.raises(ValueError, match="history is empty"):
        ConvergenceDisplay.from_history([])
    with pytest.raises(ValueError, match="quantity='time'"):
        nothing.plot(quantity="time")
    with pytest.raises(TypeError, match="Ridge keeps no history"):
        ConvergenceDisplay.from_estimator(Ridge().fit(X1, X1[:, 0]))


def test_paths():
    y = np.abs(X1[:, 0])
    model = ConvexNetPath(n_alphas=4, eps=0.05).fit(X1[::2], y[::2])
    display = PathDisplay.from_estimator(model, X1[::2], y[::2], X1[1::2], y[1::2])
    assert display.panels_ == ("score", "neurons", "norms", "gap") and len(display.axes_) == 4
    assert not display.chosen_ and display.score_name == "R²"
    assert display.lines_[0].get_xdata().tolist() == model.alphas_.tolist()
    # at alpha_max the constant has R² = 0, and it grows from there
    assert display.train_scores[0] == pytest.approx(0.0, abs=1e-12) and display.train_scores[-1] > 0.9
    # at balanced neurons the cost is the sum of sizes
    last, certificate = display.norms[-1], model.certificates_[-1]
    loss = np.mean((model.networks_[-1](X1[::2]) - y[::2]) ** 2) / 2
    assert certificate.objective == pytest.approx(loss + certificate.alpha * last.sum(), rel=1e-9)
    _, axis = plt.subplots()
    small = PathDisplay.from_path(model.path_, ax=axis)
    assert small.panels_ == ("neurons", "norms", "gap") and small.figure_ is axis.figure
    assert len(small.plot(panels="gap").axes_) == 1
    with pytest.raises(ValueError, match=r"choose of \['neurons', 'norms', 'gap'\]"):
        small.plot(panels=["score"])
    with pytest.raises(ValueError, match="ax has 2 axes: pass 3"):
        small.plot(plt.subplots(2)[1])
    with pytest.raises(ValueError, match="pass both X and y"):
        PathDisplay.from_path(model.path_, X1)


def test_paths_of_classes():
    labels = np.where(np.abs(X1[:, 0]) > 0.5, "far", "near")
    model = ConvexNetPath(n_alphas=3, eps=0.1, loss="log_loss").fit(X1, labels)
    display = PathDisplay.from_estimator(model, X1, labels)
    agree = [np.mean(model.predict(X1, alpha) == labels) for alpha in model.alphas_]
    np.testing.assert_allclose(display.train_scores, agree)
    again = PathDisplay.from_path(model.path_, X1, labels, loss="log_loss")
    np.testing.assert_allclose(again.train_scores, agree)


def test_chosen_alpha():
    model = ConvexNetRegressorCV(n_alphas=3, eps=0.1, cv=3).fit(X1[::-1], np.abs(X1[::-1, 0]))
    display = PathDisplay.from_estimator(model)
    assert display.panels_ == ("score", "neurons") and len(display.chosen_) == 2
    assert display.chosen_[0].get_xdata()[0] == model.alpha_
    np.testing.assert_allclose(display.lines_[0].get_ydata(), model.scores_.mean(axis=1))
    with pytest.raises(ValueError, match="pass no data"):
        PathDisplay.from_estimator(model, X1, X1[:, 0])
    with pytest.raises(TypeError, match="trained at one alpha"):
        PathDisplay.from_estimator(ConvexNetRegressor(alpha=0.1).fit(X1, X1[:, 0]))


@pytest.mark.parametrize("name", FAMILIES)
def test_neurons(name):
    net = FAMILIES[name]
    display = NeuronDisplay.from_network(net, X2, k=2)
    display.figure_.canvas.draw()
    planes = hyperplanes(net)
    np.testing.assert_array_equal(display.neurons, np.argsort(-planes.sizes)[:2])
    for row, j in enumerate(display.neurons):
        counts = [len(artist.get_offsets()) for artist in display.scatters_[row]]
        on = planes.arguments(X2)[:, j] > 0.0
        assert counts == [on.sum(), (~on).sum(), 0]
        assert f"neuron {j}:" in display.axes_[row, 0].get_title(loc="left")


def test_samples_on_a_kink_and_names():
    W, b = rng.standard_normal((3, 2)), np.zeros(2)
    X = pd.DataFrame(rng.standard_normal((20, 3)), columns=["age", "mass", "dose"])
    b[0] = -X.to_numpy()[4] @ W[:, 0]
    net = Network.two_layer(W, b, np.array([1e3, 1.0]))
    display = NeuronDisplay.from_network(net, X, feature_names=X.columns)
    assert np.flatnonzero(display.on_kink[:, 0]).tolist() == [4] and display.axes_.shape == (2, 2)
    ticks = [label.get_text() for label in display.axes_[0, 1].get_yticklabels()]
    assert ticks == ["age", "mass", "dose", "bias"]
    assert [bar.get_width() for bar in display.bars_[0]] == [*W[:, 0], b[0]]
    model = make_pipeline(StandardScaler(), ConvexNetRegressor(alpha=0.1)).fit(X, np.abs(X["age"]))
    piped = NeuronDisplay.from_estimator(model, X, k=1)
    assert piped.feature_names == ["age", "mass", "dose"]
    scaled = model[0].transform(X)
    expected = hyperplanes(model[-1].network_).distances(scaled)[:, piped.neurons]
    np.testing.assert_allclose(piped.distances, expected)


def test_neurons_without_a_hyperplane():
    geometry = Windows((3, 1, 1), (2, 1)).to_array()
    last = Affine(np.ones((2, 1)), np.ones(1))
    conv = Network((Conv(np.ones((2, 1)), np.ones(1), geometry), ReLU(), last))
    linear = Network((Affine(np.eye(2), np.zeros(2)), last))
    for net, message in (
        (network(activation=Polynomial(1.0, 0.0, 0.0)), "polynomial neurons .* DecisionDisplay"),
        (linear, "linear neurons .* local_linear"),
        (conv, "a hyperplane for every window.* local_linear"),
        (network(neurons=0), "no neurons: train it with a smaller alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            NeuronDisplay.from_network(net, np.ones((4, net.n_features)))
    with pytest.raises(ValueError, match="takes 2 features"):
        NeuronDisplay.from_network(network(), np.ones((4, 3)))
    with pytest.raises(TypeError, match="Ridge has no network: pass"):
        NeuronDisplay.from_estimator(Ridge().fit(X2, X2[:, 0]), X2)
    blind = Network.two_layer(np.zeros((2, 1)), np.ones(1), np.ones(1))
    assert np.isnan(NeuronDisplay.from_network(blind, X2).distances).all()


def test_a_curve_has_its_kinks():
    net = Network.two_layer(np.array([[1.0, -2.0]]), np.array([-0.3, 1.0]), np.ones(2))
    display = DecisionDisplay.from_network(net, X1, net(X1))
    at = np.sort(display.kinks_[0].get_offsets()[:, 0])
    np.testing.assert_allclose(at, [0.3, 0.5], atol=1e-7)
    line = display.lines_[0]
    np.testing.assert_array_equal(line.get_ydata(), net(line.get_xdata()[:, None]))
    assert not display.plot(show_kinks=False, show_samples=False).kinks_ and not display.samples_
    two = DecisionDisplay.from_network(network(1, 3, 2), X1, np.column_stack([X1, X1]))
    assert len(two.lines_) == 2 and two.lines_[0].get_linestyle() != two.lines_[1].get_linestyle()


@pytest.mark.parametrize("classes", [2, 3])
def test_regions(classes):
    names = np.array(["low", "middle", "high"])[:classes]
    net = network(outputs=1 if classes == 2 else 3)
    f = net(X2)
    y = names[(f > 0).astype(int) if classes == 2 else np.argmax(f, axis=1)]
    display = DecisionDisplay.from_network(net, X2, y, classes=np.unique(names), grid_resolution=40)
    assert display.boundary_ is not None and display.response.shape == (40, 40)
    assert sum(len(artist.get_offsets()) for artist in display.samples_) == len(X2)
    assert len({artist.get_paths()[0].vertices.tobytes() for artist in display.samples_}) == classes
    curve = DecisionDisplay.from_network(net, X2, y, classes=np.unique(names), features=0)
    assert len(curve.samples_) == classes
    display.figure_.canvas.draw()


def test_slices_of_more_features():
    X = rng.standard_normal((60, 4)) * [1.0, 2.0, 3.0, 4.0]
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), ConvexNetRegressor(alpha=0.1)).fit(frame, np.abs(X[:, 0]))
    with pytest.raises(ValueError, match=r"4 features .* pass features=\(0, 1\)"):
        DecisionDisplay.from_estimator(model, frame)
    display = DecisionDisplay.from_estimator(
        model, frame, features=("c", "a"), values={"b": 5.0}, grid_resolution=7
    )
    assert display.feature_names == ["c", "a"] and "given values" in display.held
    there = pd.DataFrame(np.median(X, axis=0)[None], columns=list("abcd"))
    there["b"], there["c"], there["a"] = 5.0, display.grid[0][3], display.grid[1][5]
    assert display.response[5, 3] == pytest.approx(model.predict(there)[0], abs=1e-12)
    for features, message in (("e", "no feature 'e'"), ((0, 0), "two different"), (9, "numbered from 0")):
        with pytest.raises(ValueError, match=message):
            DecisionDisplay.from_estimator(model, frame, features=features)
    with pytest.raises(ValueError, match="one value for each of 4"):
        DecisionDisplay.from_estimator(model, frame, features=0, values=[1.0])
    with pytest.raises(ValueError, match="a surface is of one output"):
        DecisionDisplay.from_network(network(outputs=2), X2)


def test_arrangements():
    three = ArrangementDisplay.from_network(FAMILIES["relu"], X2[:6])
    # general position in three dimensions: 2 (C(5, 0) + C(5, 1) + C(5, 2))
    assert three.n_cells == 32 and len(three.axes_) == 2
    assert sum(len(artist.get_offsets()) for artist in three.neurons_) == 4
    plane = ArrangementDisplay.from_data(X2[:6], bias=False)
    assert plane.n_cells == 12 == len(plane.cells_) and not plane.neurons_
    line = ArrangementDisplay.from_network(network(1, 3, 2), X1[:5])
    assert line.n_cells == 10 == len(line.cells_) and len(line.neurons_[0].get_offsets()) == 3
    for display in (three, plane, line):
        display.figure_.canvas.draw()
        assert f"{display.n_cells} cells" in display.axes_[0].get_title()


def test_a_neuron_is_drawn_in_the_cell_of_its_pattern():
    net = Network.two_layer(rng.standard_normal((2, 5)), rng.standard_normal(5), np.ones(5))
    display = ArrangementDisplay.from_network(net, X2[:7])
    units = np.vstack([net.layers[0].weight, net.layers[0].bias])
    units = (units / np.linalg.norm(units, axis=0)).T
    for unit in units:
        np.testing.assert_allclose(lift(project(unit[None]), np.sign(unit[2]))[0], unit, atol=1e-12)
    for image, side in zip(display.cells_, (1.0, -1.0), strict=True):
        counts = np.ma.filled(image.get_array().astype(float), np.nan)
        for unit in units[np.sign(units[:, 2]) == side]:
            i, j = np.round((project(unit[None])[0] + 1.0) / 2.0 * (len(counts) - 1)).astype(int)
            around = counts[max(j - 1, 0) : j + 2, max(i - 1, 0) : i + 2]
            active = np.sum(np.column_stack([X2[:7], np.ones(7)]) @ unit >= 0.0)
            assert active in around


def test_what_has_no_arrangement_to_draw():
    with pytest.raises(ValueError, match="4 dimensions cannot be drawn"):
        ArrangementDisplay.from_data(np.ones((3, 3)))
    with pytest.raises(ValueError, match="one weight has two cells"):
        ArrangementDisplay.from_data(np.ones((3, 1)), bias=False)
    with pytest.raises(ValueError, match="network takes 2 features"):
        ArrangementDisplay.from_network(FAMILIES["relu"], X1)


def test_arguments_follow_all_layers():
    net = FAMILIES["deep"]
    at = arguments(net, X2)
    hidden = X2 @ net.layers[0].weight + net.layers[0].bias
    behind = np.maximum(hidden, 0.0) @ net.layers[2].weight + net.layers[2].bias
    np.testing.assert_allclose(at[:, :4], hidden)
    assert (at.shape[1] == 4 and behind.shape[1] == 4) or at.shape[1] == 4 + behind.shape[1]
    assert arguments(network(activation=Polynomial(1.0, 0.0, 0.0)), X2).shape == (50, 0)
    assert len(sizes(FAMILIES["gated"])) == 4


def test_classifiers_and_pipelines():
    y = np.where(X2[:, 0] * X2[:, 1] > 0, "same", "other")
    model = make_pipeline(StandardScaler(), ConvexNetClassifier(alpha=0.05)).fit(X2, y)
    display = DecisionDisplay.from_estimator(model, X2, y, grid_resolution=30)
    points = np.column_stack([part.ravel() for part in np.meshgrid(*display.grid)])
    expected = model.predict(points) == model.classes_[1]
    np.testing.assert_array_equal(display.response.ravel() > 0.0, expected)
    assert ArrangementDisplay.from_estimator(model, X2[:5]).bias


def test_dollar_signs_in_names_are_no_formula():
    rng = np.random.default_rng(0)
    network = Network.two_layer(rng.normal(size=(2, 3)), np.ones(3), np.ones(3))
    names, X = ["price $^_$", "$_"], rng.normal(size=(6, 2))
    for display in (DecisionDisplay, NeuronDisplay):
        display.from_network(network, X, feature_names=names).figure_.canvas.draw()
