"""Networks: the forward pass by hand, and files that come back unchanged or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from cvxnn.network import LAYERS, Affine, Gated, Network, ReLU


def random_network(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "relu":
        return Network.two_layer(rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4), 0.7)
    gated = Gated(*(rng.normal(size=shape) for shape in ((3, 4), (4,), (3, 4), (4,))))
    return Network((gated, Affine(rng.normal(size=(4, 1)), rng.normal(size=1))))


def test_two_layer_by_hand():
    W1, b1, w2 = np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([0.0, 1.0]), np.array([2.0, -3.0])
    network = Network.two_layer(W1, b1, w2, 0.5)
    # (1)_+ * 2 - 3 * (-1 + 4 + 1)_+ + 0.5 and 0 - 3 * (3)_+ + 0.5
    assert network(np.array([[1.0, 2.0], [-2.0, 0.0]])).tolist() == [2 - 12 + 0.5, -9 + 0.5]
    assert (network.width, network.n_features, network.intercept) == (2, 2, 0.5)
    assert [type(layer) for layer in network.layers] == [Affine, ReLU, Affine]


def test_gated_by_hand():
    gated = Gated(
        np.array([[1.0, -1.0]]), np.array([0.0, 1.0]), np.array([[2.0, 3.0]]), np.array([0.0, 1.0])
    )
    network = Network((gated, Affine(np.array([[1.0], [10.0]]), np.array([0.25]))))
    # a gate is open at zero: 1[x >= 0] 2x + 10 * 1[1 - x >= 0] (3x + 1) + 0.25
    expected = [0.25 + 10, 2 + 40 + 0.25, 4 + 0.25, -20 + 0.25]
    assert network(np.array([[0.0], [1.0], [2.0], [-1.0]])).tolist() == expected


def test_a_network_without_neurons_is_its_constant():
    network = Network.two_layer(np.zeros((3, 0)), np.zeros(0), np.zeros(0), 1.5)
    assert network(np.ones((4, 3))).tolist() == [1.5] * 4
    assert network.width == 0 and network.n_features == 3


def test_output_is_float64_whatever_comes_in():
    network = random_network("relu")
    for X in ([[1, 2, 3]], np.ones((1, 3), np.float32), np.ones((1, 3), int)):
        assert network(X).dtype == np.float64 and network(X).shape == (1,)


@pytest.mark.parametrize("kind", ["relu", "gated"])
def test_files_come_back_unchanged(kind, tmp_path):
    network, X = random_network(kind), np.random.default_rng(1).normal(size=(5, 3))
    path = tmp_path / "model.safetensors"
    network.save(path, {"alpha": 0.1, "classes": ["a", "b"]})
    again, metadata = Network.load(path)
    assert np.array_equal(again(X), network(X)) and repr(again) == repr(network)
    assert metadata == {"alpha": 0.1, "classes": ["a", "b"]}
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    again.save(path)
    assert Network.load(path)[1] == {}
    assert b"pickle" not in path.read_bytes()


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "model"
    random_network("relu").save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        random_network("relu", 1).save(path, {"bad": object()})
    assert path.read_bytes() == before


def test_files_that_are_not_networks_are_refused(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(FileNotFoundError, match="no model file"):
        Network.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a safetensors file"):
        Network.load(path)
    random_network("relu").save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        Network.load(path)
    save_file({"x": np.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a cvxnn model"):
        Network.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "99"}, "newer cvxnn"),
        ({"layers": '["Affine", "Pickle"]'}, "lacks parts"),
        ({"layers": '["Affine", "ReLU", "Affine", "Affine"]'}, "lacks parts"),
        ({"metadata": "{"}, "lacks parts"),
    ],
)
def test_wrong_headers_are_refused(change, message, tmp_path):
    path = tmp_path / "model"
    arrays = {"0.weight": np.ones((2, 1)), "0.bias": np.ones(1), "2.weight": np.ones((1, 1))}
    arrays["2.bias"] = np.ones(1)
    header = {"format": "cvxnn", "version": "1", "layers": '["Affine", "ReLU", "Affine"]', "metadata": "{}"}
    save_file(arrays, path, metadata=header)
    assert Network.load(path)[0](np.ones((1, 2))).tolist() == [4.0]
    save_file(arrays, path, metadata=header | change)
    with pytest.raises(ValueError, match=message):
        Network.load(path)


def test_the_vocabulary_is_closed_and_named():
    assert {kind.__name__: kind for kind in LAYERS.values()} == LAYERS
    assert repr(random_network("relu")) == "<Network: 3 inputs, 4 neurons, Affine -> ReLU -> Affine>"
