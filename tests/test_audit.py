"""Certifying networks of others: read, judged as they stand, or refused with a reason."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, Network, certify
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.network import Affine, Conv, Gated, GatedConv
from cvxnn.patches import Windows
from cvxnn.reading import read_network

RNG = np.random.default_rng(0)
X = RNG.normal(size=(14, 2))
Y = np.abs(X[:, 0]) - 0.5 * X[:, 1]
LABELS = np.where(X[:, 0] * X[:, 1] > 0, "yes", "no")
W1, B1, W2, B2 = RNG.normal(size=(2, 5)), RNG.normal(size=5), RNG.normal(size=(5, 1)), RNG.normal(size=1)


def objective(W1, b1, W2, b2, y, alpha, *, bias=None, logistic=False, s=None):
    """Mean loss plus alpha times the sum of products of norms, written without the library."""
    s = np.ones(len(y)) if s is None else s
    b1, b2 = (np.zeros(W1.shape[1]) if b1 is None else b1), (0.0 if b2 is None else float(np.ravel(b2)[0]))
    f = np.maximum(X @ W1 + b1, 0.0) @ np.ravel(W2) + b2
    losses = np.logaddexp(0.0, -y * f) if logistic else 0.5 * (f - y) ** 2
    norms = np.sqrt(np.sum(W1**2, axis=0) + (b1**2 if bias == "penalized" else 0.0))
    return np.average(losses, weights=s) + alpha * norms @ np.abs(np.ravel(W2))


@pytest.mark.parametrize(
    ("network", "bias"),
    [
        ((W1, None, W2, None), None),
        ((W1, B1, W2, None), "penalized"),
        ((W1, B1, W2, B2), "penalized"),
        ((W1, None, W2, B2), None),
    ],
)
def test_arrays(network, bias):
    certificate = certify(network, X, Y, alpha=0.05)
    assert certificate.objective == pytest.approx(objective(*network, Y, 0.05, bias=bias))
    assert certificate.scope == "global" and certificate.width == 5
    assert 0 < certificate.lower_bound < certificate.objective and certificate.gap > 0.1
    free = network[3] is not None
    best = ConvexNetRegressor(0.05, hidden_bias=bias, fit_intercept=free, tol=1e-8).fit(X, Y).certificate_
    assert certificate.lower_bound == pytest.approx(best.objective, rel=1e-5)
    assert certificate.lower_bound <= best.objective
    assert certificate.gap == pytest.approx(1 - certificate.lower_bound / certificate.objective)


def test_hidden_bias_can_be_overruled():
    free = certify((W1, B1, W2, B2), X, Y, alpha=0.05, hidden_bias="free")
    assert free.objective == pytest.approx(objective(W1, B1, W2, B2, Y, 0.05, bias="free"))
    penalized = certify((W1, B1, W2, B2), X, Y, alpha=0.05)
    assert free.lower_bound <= penalized.lower_bound < penalized.objective


def test_sample_weights():
    s = np.arange(14.0)
    certificate = certify((W1, B1, W2, B2), X, Y, alpha=0.05, sample_weight=s)
    assert certificate.objective == pytest.approx(objective(W1, B1, W2, B2, Y, 0.05, bias="penalized", s=s))


def test_neurons_are_judged_after_the_best_rescaling():
    scale = 10.0 ** RNG.uniform(-2, 2, 5)
    one = certify((W1, B1, W2, B2), X, Y, alpha=0.05)
    two = certify((W1 * scale, B1 * scale, W2 / scale[:, None], B2), X, Y, alpha=0.05)
    assert two.objective == pytest.approx(one.objective, rel=1e-12)
    assert two.lower_bound == pytest.approx(one.lower_bound, rel=1e-9)


def test_scikit_learn_regressor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = MLPRegressor(
            hidden_layer_sizes=(4,), alpha=1e-2, solver="lbfgs", max_iter=300, random_state=0
        ).fit(X, Y)
    alpha = mlp.alpha / len(Y)
    certificate = certify(mlp, X, Y, alpha=alpha)
    parts = mlp.coefs_[0], mlp.intercepts_[0], mlp.coefs_[1], mlp.intercepts_[1]
    assert certificate.objective == pytest.approx(objective(*parts, Y, alpha, bias="free"))
    assert certificate.scope == "global" and certificate.lower_bound <= certificate.objective


def test_scikit_learn_classifier():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = MLPClassifier(hidden_layer_sizes=(4,), alpha=0.1, max_iter=200, random_state=0).fit(X, LABELS)
    certificate = certify(mlp, X, LABELS, alpha=0.01)
    parts = mlp.coefs_[0], mlp.intercepts_[0], mlp.coefs_[1], mlp.intercepts_[1]
    y = np.where(LABELS == "yes", 1.0, -1.0)
    assert certificate.objective == pytest.approx(objective(*parts, y, 0.01, bias="free", logistic=True))
    assert 0 < certificate.gap < 1


def test_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for bias in (False, True):
        net = torch.nn.Sequential(
            torch.nn.Linear(2, 5, bias=bias), torch.nn.ReLU(), torch.nn.Linear(5, 1, bias=bias)
        ).double()
        with torch.no_grad():
            f = net(torch.as_tensor(X)).numpy()[:, 0]
        reading = read_network(net)
        assert reading.network(X) == pytest.approx(f) and reading.intercept is bias
        certificate = certify(net, X, Y, alpha=0.05)
        parts = [
            None if v is None else v.detach().numpy() for m in (net[0], net[2]) for v in (m.weight, m.bias)
        ]
        expected = objective(
            parts[0].T, parts[1], parts[2].T, parts[3], Y, 0.05, bias="penalized" if bias else None
        )
        assert certificate.objective == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"Sequential\(Linear, ReLU, Linear\)"):
        certify(torch.nn.Sequential(torch.nn.Linear(2, 1)), X, Y, alpha=0.05)


@pytest.mark.parametrize("bias", ["penalized", "free", None])
def test_our_own_estimators_pass_their_own_test(bias):
    regressor = ConvexNetRegressor(0.02, hidden_bias=bias).fit(X, Y)
    certificate = certify(regressor, X, Y, alpha=0.02)
    assert certificate.objective == pytest.approx(regressor.certificate_.objective, rel=1e-9)
    assert certificate.gap <= 1e-4 and certificate.scope == "global"
    classifier = ConvexNetClassifier(0.02, hidden_bias=bias).fit(X, LABELS)
    certificate = certify(classifier, X, LABELS, alpha=0.02)
    assert certificate.objective == pytest.approx(classifier.certificate_.objective, rel=1e-9)
    assert certificate.gap <= 1e-4


@pytest.mark.parametrize(("loss", "weight"), [("log_loss", "balanced"), ("squared_error", {"yes": 3.0})])
def test_class_weights(loss, weight):
    """A network trained with weights of classes is judged under the same objective, asked for or not."""
    model = ConvexNetClassifier(0.02, loss=loss, class_weight=weight, tol=1e-8).fit(X, LABELS)
    own = certify(model, X, LABELS, alpha=0.02)
    assert own.objective == pytest.approx(model.certificate_.objective, rel=1e-9) and own.gap <= 1e-5
    without = certify(model, X, LABELS, alpha=0.02, class_weight=None)
    assert abs(without.objective / own.objective - 1.0) > 1e-3
    # a class may be absent from other data
    fewer = LABELS == "no"
    if loss == "squared_error":
        assert certify(model, X[fewer], LABELS[fewer], alpha=0.02).objective > 0.0
    if loss == "log_loss":
        asked = certify(model.network_, X, LABELS, alpha=0.02, loss=loss, class_weight=weight)
        assert asked.objective == pytest.approx(own.objective, rel=1e-9)
        share = np.mean(LABELS == "yes")
        s = np.where(LABELS == "yes", 0.5 / share, 0.5 / (1.0 - share))
        same = certify(model.network_, X, LABELS, alpha=0.02, loss=loss, sample_weight=s)
        assert same.objective == pytest.approx(own.objective, rel=1e-9)
        assert same.lower_bound == pytest.approx(own.lower_bound, rel=1e-5)


def test_class_weights_of_a_batch():
    """Batch statistics of a network in training mode are those of the weighted batch."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
    ).double()
    options = {"alpha": 0.05, "loss": "log_loss"}
    weighed = certify(net, X, LABELS, class_weight={"yes": 3.0}, **options)
    s = np.where(LABELS == "yes", 3.0, 1.0)
    same = certify(net, X, LABELS, sample_weight=s, **options)
    assert weighed.objective == pytest.approx(same.objective, rel=1e-9)
    assert weighed.lower_bound == pytest.approx(same.lower_bound, rel=1e-6)


def test_gated_networks_are_judged_against_their_gates():
    model = ConvexNetRegressor(0.02, architecture="gated_relu", patterns=20).fit(X, Y)
    certificate = certify(model.network_, X, Y, alpha=0.02, hidden_bias="penalized")
    assert certificate.scope == "patterns" and certificate.gap <= 1e-3
    assert certificate.objective == pytest.approx(model.certificate_.objective, rel=1e-9)


def test_a_network_on_other_data_is_just_a_network():
    """Nothing is assumed about where a network comes from: a random one is far off, and never below."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        net = Network.two_layer(rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=3), 0.1)
        certificate = certify(net, X, Y, alpha=0.01)
        assert certificate.lower_bound <= certificate.objective and certificate.gap > 0.3


@pytest.mark.parametrize(
    ("network", "options", "error", "message"),
    [
        ("a string", {}, TypeError, "cannot read a network from str"),
        ((W1, B1, W2), {}, TypeError, "cannot read a network from tuple"),
        ((W1, B1, W2[:3], B2), {}, ValueError, "do not fit: pass W1"),
        ((W1, B1[:2], W2, B2), {}, ValueError, "do not fit: pass b1"),
        ((W1, B1, np.ones((5, 2)), B2), {}, ValueError, "do not fit: pass b1"),
        ((W1, B1, np.ones((5, 2)), np.zeros(2)), {}, ValueError, "outputs"),
        ((np.nan * W1, B1, W2, B2), {}, ValueError, "not all finite"),
        ((np.ones((3, 5)), B1, W2, B2), {}, ValueError, "takes 3 features, X has 2"),
        ((W1, B1, W2, B2), {"fit_intercept": False}, ValueError, "pass fit_intercept=True"),
        ((W1, B1, W2, B2), {"hidden_bias": None}, ValueError, "has hidden biases"),
        ((W1, B1, W2, B2), {"loss": "mse"}, ValueError, "unknown loss 'mse'"),
        ((W1, B1, W2, B2), {"loss": "log_loss"}, ValueError, "classes"),
        ((W1, B1, W2, B2), {"class_weight": "balanced"}, ValueError, "pass sample_weight instead"),
        ((W1, B1, W2, B2), {"alpha": 0.0}, ValueError, "alpha=0.0 must be > 0"),
        ((W1, B1, W2, B2), {"architecture": "mlp"}, ValueError, "unknown architecture 'mlp'"),
        ((W1, B1, W2, B2), {"architecture": "gated_relu"}, ValueError, "do not determine a gated_relu"),
        (
            Network.two_layer(W1, B1, np.ones(5), 0.1),
            {"architecture": "gated_relu"},
            ValueError,
            "not a gated network",
        ),
    ],
)
def test_messages(network, options, error, message):
    with pytest.raises(error, match=message):
        certify(network, X, Y, **({"alpha": 0.05} | options))


def test_unknown_labels_are_refused():
    classifier = ConvexNetClassifier(0.1).fit(X, LABELS)
    with pytest.raises(ValueError, match="labels other than"):
        certify(classifier, X, np.where(LABELS == "yes", "yes", "maybe"), alpha=0.1)
    with pytest.raises(ValueError, match="3 classes"):
        certify((W1, B1, W2, B2), X, np.arange(14) % 3, alpha=0.1, loss="log_loss")


def test_sampled_patterns_are_those_of_the_estimator():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 4))
    y = np.abs(X[:, 0]) - X[:, 1]
    model = ConvexNetRegressor(alpha=1e-3, patterns=5).fit(X, y)
    judged = certify(model, X, y, alpha=1e-3, patterns=5)
    assert judged.scope == "patterns"
    assert judged.lower_bound == pytest.approx(model.certificate_.lower_bound, rel=1e-5)
    # another list is no place to compare a network with that is better than all of its networks
    worse = 0
    for seed in range(1, 7):
        try:
            found = certify(model, X, y, alpha=1e-3, patterns=5, random_state=seed)
            assert found.lower_bound <= found.objective * (1 + 1e-9)
        except ValueError as error:
            assert "it has others" in str(error)
            worse += 1
    assert worse > 0


def gated(w, bias):
    """The network ``1[x >= -bias] w x`` of one input."""
    gate = Gated(np.array([[1.0]]), np.array([bias]), np.array([[w]]), np.zeros(1))
    return Network((gate, Affine(np.array([[1.0]]), np.zeros(1))))


def test_gates_with_biases_are_not_judged_as_gates_without():
    """A bias of gates alone is one: without it the bound is that of other gates, and was wrong."""
    X, y = np.array([[1.0], [2.0], [1.2], [3.0]]), np.array([0.0, 2.0, 0.0, 3.0])
    poor, good = (certify(gated(w, -1.5), X, y, alpha=0.01) for w in (0.3, 1.0))
    assert good.objective == pytest.approx(0.01, rel=1e-9)
    assert max(poor.lower_bound, good.lower_bound) <= good.objective
    with pytest.raises(ValueError, match="of neurons or gates: pass hidden_bias='penalized'"):
        certify(gated(0.3, -1.5), X, y, alpha=0.01, hidden_bias=None)
    without = certify(gated(0.3, 0.0), X, y, alpha=0.01)
    assert good.objective < without.lower_bound <= without.objective


def test_filters_behind_gates_with_biases():
    """The same behind a frozen convolution, and in a convolutional layer of its own."""
    rng = np.random.default_rng(0)
    X, windows = rng.normal(size=(12, 4)), Windows((4, 1, 1), (2, 1)).to_array()
    y = np.maximum(X[:, 0], 0.0) - X[:, 1]
    gates, weight = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    top = GatedConv(gates, np.array([-0.7, 0.4, -0.2]), weight, np.zeros(3), windows)
    last = Affine(rng.normal(size=(9, 1)), np.zeros(1))
    same = Conv(np.eye(1), np.zeros(1), Windows((4, 1, 1), (1, 1)).to_array())
    for network, name in (
        (Network((top, last)), "cnn_gated"),
        (Network((same, top, last)), "layerwise_cnn"),
    ):
        found = certify(network, X, y, alpha=0.01, architecture=name)
        # the best network behind these very gates, trained alone
        family = CNNGated(input_shape=(4, 1), kernel=2, pool="flatten").like(Network((top, last)))
        assert np.array_equal(family.patterns[:, -1], top.gate_bias)
        best = ConvexNetRegressor(alpha=0.01, architecture=family, fit_intercept=False, tol=1e-8).fit(X, y)
        assert found.lower_bound <= best.certificate_.objective * (1.0 + 1e-9)
        assert found.lower_bound == pytest.approx(best.certificate_.objective, rel=1e-4)
        with pytest.raises(ValueError, match="of filters or gates"):
            certify(network, X, y, alpha=0.01, architecture=name, hidden_bias=None)


@pytest.mark.parametrize("name", ["gated_relu", "cnn_gated", "layerwise_cnn"])
def test_networks_without_neurons_are_judged(name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 3, 3)), rng.normal(size=8)
    X = X.reshape(8, -1) if name == "gated_relu" else X
    model = ConvexNetRegressor(1e3, architecture=name, patterns=3).fit(X, y)
    assert model.network_.width == 0
    assert certify(model, X, y, alpha=1e3).gap < 1e-9
