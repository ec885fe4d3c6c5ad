"""The geometry of convolutions, against loops and against the adjoint."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.layers import Affine, Conv, GatedConv, Pool, ReLU
from cvxnn.network import Network
from cvxnn.patches import Windows, image_shape, pair

GEOMETRIES = [
    Windows((5, 4, 2), (3, 2)),
    Windows((5, 4, 2), (3, 2), (2, 1), (1, 1)),
    Windows((6, 1, 3), (4, 1), (2, 1)),
    Windows((4, 5, 1), (3, 3), circular=True),
    Windows((5, 5, 2), (2, 2), (2, 2), circular=True),
    Windows((2, 2, 1), (3, 3), padding=(2, 1)),
]


def slow_patches(windows: Windows, image: np.ndarray) -> np.ndarray:
    """The patches of one image (h, w, c) by loops over positions and pixels."""
    h, w, c = windows.shape
    rows = []
    for i in range(windows.out[0]):
        for j in range(windows.out[1]):
            patch = np.zeros((*windows.kernel, c))
            for a in range(windows.kernel[0]):
                for b in range(windows.kernel[1]):
                    y = i * windows.stride[0] + a - windows.padding[0]
                    x = j * windows.stride[1] + b - windows.padding[1]
                    if windows.circular:
                        patch[a, b] = image[y % h, x % w]
                    elif 0 <= y < h and 0 <= x < w:
                        patch[a, b] = image[y, x]
            rows.append(patch.ravel())
    return np.array(rows)


@pytest.mark.parametrize("windows", GEOMETRIES)
def test_patches_are_those_of_loops(windows):
    images = np.random.default_rng(0).normal(size=(3, *windows.shape))
    P = windows.patches(images.reshape(3, -1))
    assert P.shape == (3, windows.positions, windows.patch)
    assert np.array_equal(P, [slow_patches(windows, image) for image in images])


@pytest.mark.parametrize("windows", GEOMETRIES)
def test_adjoint(windows):
    rng = np.random.default_rng(1)
    X, P = rng.normal(size=(4, windows.inputs)), rng.normal(size=(4, windows.positions, windows.patch))
    assert np.sum(P * windows.patches(X)) == pytest.approx(np.sum(windows.adjoint(P) * X), rel=1e-12)


@pytest.mark.parametrize("windows", GEOMETRIES)
def test_geometry_survives_as_floats(windows):
    assert Windows.from_array(windows.to_array()) == windows


def test_a_convolution_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    windows = Windows((6, 5, 2), (3, 3), (2, 1), (1, 1))
    X, W, b = rng.normal(size=(4, 60)), rng.normal(size=(windows.patch, 3)), rng.normal(size=3)
    images = torch.tensor(X.reshape(4, 6, 5, 2)).permute(0, 3, 1, 2)
    kernel = torch.tensor(W.reshape(3, 3, 2, 3)).permute(3, 2, 0, 1)
    out = torch.nn.functional.conv2d(images, kernel, torch.tensor(b), stride=(2, 1), padding=1)
    expected = out.permute(0, 2, 3, 1).reshape(4, -1).numpy()
    assert np.allclose(Conv(W, b, windows.to_array())(X), expected, atol=1e-12)


def test_pooling_by_hand():
    image = np.arange(8.0).reshape(1, 8)  # a signal of length 4 with 2 channels
    halves = Windows((4, 1, 2), (2, 1), (2, 1))
    assert np.array_equal(Pool.of("sum", halves)(image), [[2.0, 4.0, 10.0, 12.0]])
    assert np.array_equal(Pool.of("mean", halves)(image), [[1.0, 2.0, 5.0, 6.0]])
    assert np.array_equal(Pool.of("max", Windows((4, 1, 2), (4, 1)))(image), [[6.0, 7.0]])


def test_networks_of_these_layers_are_saved(tmp_path):
    rng = np.random.default_rng(3)
    windows = Windows((4, 4, 1), (3, 3))
    kind, pool = windows.to_array(), Pool.of("mean", Windows((2, 2, 2), (2, 2)))
    W, G, b = rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), rng.normal(size=2)
    last, X = Affine(rng.normal(size=(2, 1)), np.zeros(1)), rng.normal(size=(5, 16))
    for first in ((Conv(W, b, kind), ReLU()), (GatedConv(G, b, W, b, kind),)):
        network = Network((*first, pool, last))
        assert network.n_features == 16
        network.save(tmp_path / "net.safetensors")
        again, _ = Network.load(tmp_path / "net.safetensors")
        assert np.array_equal(again(X), network(X))
    gated = GatedConv(W, b, W, b, kind)(X)
    assert np.array_equal(gated, np.maximum(Conv(W, b, kind)(X), 0.0))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((4, 4, 1), (5, 3)), "does not fit"),
        (((4, 4, 1), (3, 3), (0, 1)), "stride"),
        (((4, 4), (3, 3)), "shape"),
        (((4, 4, 1), (3, 3), (1, 1), (3, 0)), "hides whole windows"),
        (((4, 4, 1), (3, 3), (1, 1), (1, 1), True), "circular"),
    ],
)
def test_bad_windows(sizes, message):
    with pytest.raises(ValueError, match=message):
        Windows(*sizes)


def test_bad_inputs():
    with pytest.raises(ValueError, match="pass 16 columns"):
        Windows((4, 4, 1), (3, 3)).patches(np.zeros((2, 15)))
    with pytest.raises(ValueError, match="to_array"):
        Windows.from_array(np.array([4.0, 4.0, 1.0]))
    with pytest.raises(ValueError, match="pooling"):
        Pool.of("median", Windows((4, 4, 1), (2, 2)))
    assert image_shape(7) == (7, 1, 1)
    assert image_shape((4, 5)) == (4, 5, 1)
    with pytest.raises(ValueError, match="input_shape"):
        image_shape((4, 0))
    assert pair("kernel", 3) == (3, 3)
    assert pair("kernel", [2, 3]) == (2, 3)
    with pytest.raises(ValueError, match="kernel"):
        pair("kernel", (1, 2, 3))


def test_whoever_takes_images_refuses_those_of_another_shape():
    from cvxnn import ConvexNetRegressor, certify, local_linear

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2, 4)), rng.normal(size=20)
    model = ConvexNetRegressor(alpha=0.1, architecture="cnn_linear").fit(X, y)
    turned = X.reshape(20, 4, 2)
    for call in (
        lambda images: model.score(images, y),
        lambda images: model.optimal_set(images, y),
        lambda images: certify(model.network_, images, y, alpha=0.1),
        lambda images: local_linear(model, images),
    ):
        with pytest.raises(ValueError, match=r"\(2, 4, 1\): pass such arrays, or rows"):
            call(turned)
    assert certify(model.network_, X, y, alpha=0.1).objective == pytest.approx(model.certificate_.objective)
    assert local_linear(model, X).coefficients.shape == (20, 8)
