"""Networks: the forward pass by hand, and files that come back unchanged or are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

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


def saved_bytes(tmp_path, kind="relu"):
    path = tmp_path / "whole"
    random_network(kind).save(path, {"alpha": 0.125, "classes": ["a", "b"]})
    return path.read_bytes()


def read_bytes(content, tmp_path):
    path = tmp_path / "read"
    path.write_bytes(content)
    return Network.load(path)


@pytest.mark.parametrize("kind", ["relu", "gated"])
def test_no_damaged_byte_goes_unnoticed(kind, tmp_path):
    """Every byte of the file changed: refused with a message, or the very same network and metadata."""
    content, rng = saved_bytes(tmp_path, kind), np.random.default_rng(0)
    whole, metadata = read_bytes(content, tmp_path)
    arrays = [value.tobytes() for layer in whole.layers for value in vars(layer).values()]
    unnoticed = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            network, said = read_bytes(bytes(damaged), tmp_path)
        except ValueError as error:
            assert "read" in str(error)
            continue
        unnoticed += 1
        assert said == metadata
        assert [v.tobytes() for layer in network.layers for v in vars(layer).values()] == arrays
    assert unnoticed <= 70  # of the name of the digest, or a format that becomes another word of it


def test_no_cut_file_is_read(tmp_path):
    content = saved_bytes(tmp_path)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="not a safetensors file or is damaged"):
            read_bytes(content[:length], tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        read_bytes(content + b"\0", tmp_path)


def test_random_bytes_are_no_network(tmp_path):
    rng = np.random.default_rng(0)
    for length in (0, 1, 8, 9, 100, 5000):
        with pytest.raises(ValueError, match="not a safetensors file or is damaged"):
            read_bytes(rng.bytes(length), tmp_path)
    # a header of 2^62 bytes, and one of 2 GB
    for size in (2**62, 2**31, 10**8):
        with pytest.raises(ValueError, match="not a safetensors file or is damaged"):
            read_bytes(size.to_bytes(8, "little") + b"{}" + bytes(100), tmp_path)


HONEST = {
    "0.weight": np.ones((2, 3)),
    "0.bias": np.ones(3),
    "2.weight": np.ones((3, 1)),
    "2.bias": np.ones(1),
}
WINDOWED = [2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
HEADER = {"format": "cvxnn", "version": "1", "layers": '["Affine", "ReLU", "Affine"]', "metadata": "{}"}


def conv(geometry, filters=1):
    """A convolution with a geometry, and the arrays of a network that begins with it."""
    arrays = {
        "0.weight": np.ones((1, filters)),
        "0.bias": np.ones(filters),
        "0.geometry": np.array(geometry),
    }
    return arrays | {"1.weight": np.ones((4, 1)), "1.bias": np.ones(1)}


LIES = {
    "rows of weights": (HONEST | {"2.weight": np.ones((4, 1))}, "Affine takes 4 inputs, and is given 3"),
    "a bias too long": (HONEST | {"0.bias": np.ones(4)}, r"bias of shape \(4,\), and needs \(3,\)"),
    "a bias that is a number": (HONEST | {"0.bias": np.array(1.0)}, "bias of shape"),
    "weights in a row": (HONEST | {"0.weight": np.ones(6)}, "no matrix"),
    "weights in a cube": (HONEST | {"0.weight": np.ones((2, 3, 1))}, "no matrix"),
    "weights that are not finite": (HONEST | {"0.weight": np.full((2, 3), np.nan)}, "not finite"),
    "a layer without weights": ({k: v for k, v in HONEST.items() if k != "2.bias"}, "2.bias"),
    "an image of 10^18 pixels": (conv([1e9, 1e9, *WINDOWED[2:]]), "given 1000000000000000000"),
    "an image of 10^300 pixels": (conv([1e150, 1e150, *WINDOWED[2:]]), "is given"),
    "an infinite image": (conv([np.inf, 2.0, *WINDOWED[2:]]), "not finite"),
    "half a pixel": (conv([1.5, 2.0, *WINDOWED[2:]]), "geometry"),
    "a window larger than the image": (conv([2.0, 2.0, 1.0, 3.0, 3.0, *WINDOWED[5:]]), "does not fit"),
    "windows without a stride": (conv([*WINDOWED[:5], 0.0, 0.0, *WINDOWED[7:]]), "stride"),
    "nine sizes": (conv(WINDOWED[:9]), "geometry"),
    "filters of another size": (conv(WINDOWED) | {"0.weight": np.ones((3, 1))}, "filters of 3 numbers"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_about_shapes_are_refused(lie, tmp_path):
    arrays, message = LIES[lie]
    layers = '["Conv", "Affine"]' if "0.geometry" in arrays else HEADER["layers"]
    path = tmp_path / "model"
    save_file(arrays, path, metadata=HEADER | {"layers": layers})
    with pytest.raises(ValueError, match=rf"lacks parts of a network .*{message}"):
        Network.load(path)


def test_the_honest_ones_are_read(tmp_path):
    path = tmp_path / "model"
    save_file(HONEST, path, metadata=HEADER)
    assert Network.load(path)[0].n_features == 2
    save_file(conv(WINDOWED), path, metadata=HEADER | {"layers": '["Conv", "Affine"]'})
    assert Network.load(path)[0].n_features == 4


@pytest.mark.parametrize(
    "change",
    [
        {"layers": "7"},
        {"layers": "[]"},
        {"layers": '["ReLU", "Affine"]'},
        {"layers": '["Affine", "ReLU"]'},
        {"layers": '[{"Affine": 1}, "Affine"]'},
        {"layers": '["__import__", "Affine"]'},
        {"layers": "[" * 100_000},
        {"layers": '["Affine", "LeakyReLU", "Affine"]'},
        {"layers": '["Affine", "Product", "Affine"]'},
        {"metadata": "7"},
        {"metadata": "[" * 100_000},
    ],
    ids=lambda change: next(iter(change.values()))[:30],
)
def test_headers_of_nonsense_are_refused(change, tmp_path):
    path = tmp_path / "model"
    save_file(HONEST, path, metadata=HEADER | change)
    with pytest.raises(ValueError, match="lacks parts of a network"):
        Network.load(path)


def test_declared_sizes_beyond_the_file_are_refused(tmp_path):
    """An array that says it has 10^15 rows, in a file of some hundred bytes."""
    head = {
        "__metadata__": HEADER,
        "0.weight": {"dtype": "F64", "shape": [10**15, 3], "data_offsets": [0, 24 * 10**15]},
    }
    text = json.dumps(head).encode()
    with pytest.raises(ValueError, match="not a safetensors file or is damaged"):
        read_bytes(len(text).to_bytes(8, "little") + text + bytes(48), tmp_path)


def test_arrays_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "model"
    for dtype in (np.int64, np.bool_, np.float32):
        save_file(HONEST | {"0.weight": np.ones((2, 3), dtype)}, path, metadata=HEADER)
        with pytest.raises(ValueError, match="float64"):
            Network.load(path)


def test_loading_runs_no_code(tmp_path):
    """A pickle that would run code is refused unread; so is a layer named like a function."""
    path = tmp_path / "model"

    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").write_text, ("x",))

    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a safetensors file"):
        Network.load(path)
    assert not (tmp_path / "sprung").exists()


def test_newer_versions_and_odd_ones(tmp_path):
    path = tmp_path / "model"
    save_file(HONEST, path, metadata=HEADER | {"version": "2", "layers": '["Unheard"]'})
    with pytest.raises(ValueError, match="newer cvxnn: pip install -U"):
        Network.load(path)
    for version in ("", "one", "-1", "1.5"):
        save_file(HONEST, path, metadata=HEADER | {"version": version})
        with pytest.raises(ValueError, match="no version of this format"):
            Network.load(path)


def test_a_digest_that_does_not_fit_is_damage(tmp_path):
    path = tmp_path / "model"
    save_file(HONEST, path, metadata=HEADER | {"sha256": 64 * "0"})
    with pytest.raises(ValueError, match="its digest does not fit"):
        Network.load(path)
