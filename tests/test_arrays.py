"""The core computes with the arrays that come in: same library, same dtype, same answer."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from cvxnn.arrangement import pack, patterns_of
from cvxnn.arrays import array_namespace, asarray_like, on_device, to_numpy, unpack
from cvxnn.losses import LOSSES, get_loss
from cvxnn.operators import Masked
from cvxnn.program import Program
from cvxnn.solvers import SOLVERS, run


def library(name):
    """A namespace of arrays, or skip; "torch on cuda" makes its arrays there."""
    if name == "torch on cuda":
        torch = pytest.importorskip("torch")
        torch.set_default_device("cuda")
        return torch
    return {"numpy": np}.get(name) or pytest.importorskip(name)


LIBRARIES = ["numpy", "array_api_strict", "torch"]
if shutil.which("nvidia-smi"):
    LIBRARIES += ["torch on cuda", "cupy"]
#: What a first-order solver can minimise.
SMOOTH = [name for name in LOSSES if get_loss(name).smooth]


def gated_program(xp, dtype, loss="squared_error", intercept=False):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=20)
    y = np.sign(X[:, 0] * X[:, 1]) if get_loss(loss).classification else np.maximum(y, 0.0)
    bits, s = pack(patterns_of(X, rng.normal(size=(12, 3)))), rng.uniform(0.5, 2, 20)
    data = [xp.asarray(v, dtype=getattr(xp, dtype)) for v in (X, y, s)]
    operator = Masked.from_numpy(data[0], bits)
    return Program(operator, get_loss(loss), data[1], data[2], 0.5, intercept=intercept)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads only cost time at these sizes."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(before)
        torch.set_default_device("cpu")


def fista(xp, dtype, loss, intercept, **options):
    program = gated_program(xp, dtype, loss, intercept)
    return program, run(SOLVERS["fista"](), program, **options)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("name", LIBRARIES[1:])
def test_the_same_answer_in_every_library(name, loss, intercept):
    xp = library(name)
    options = {"tol": 1e-7, "max_iter": 1000}
    _, expected = fista(np, "float64", loss, intercept, **options)
    _, solution = fista(xp, "float64", loss, intercept, **options)
    assert expected.gap <= 1e-7 and solution.gap <= 1e-7
    assert type(solution.W) is type(xp.asarray([1.0])) and solution.W.dtype == xp.float64
    assert type(solution.Z) is type(solution.W)
    assert np.max(np.abs(to_numpy(solution.W) - expected.W)) <= 1e-6
    assert solution.primal == pytest.approx(expected.primal, rel=1e-12)
    assert solution.offset == pytest.approx(expected.offset, abs=1e-6)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("name", LIBRARIES)
def test_float32_stays_float32(name, loss, intercept):
    xp = library(name)
    program, solution = fista(xp, "float32", loss, intercept, tol=1e-5, max_iter=1200)
    assert solution.gap <= 1e-5 and solution.W.dtype == solution.Z.dtype == xp.float32
    f = program.predict(solution.W, solution.offset)
    assert f.dtype == program.residual(f).dtype == program.penalty.polar(solution.W).dtype == xp.float32
    _, exact = fista(np, "float64", loss, intercept, tol=1e-7, max_iter=1000)
    assert solution.primal == pytest.approx(exact.primal, rel=2e-5)


@pytest.mark.parametrize("name", LIBRARIES)
def test_patterns_unpack(name):
    xp = library(name)
    masks = np.random.default_rng(0).random((5, 13)) < 0.5
    like = xp.asarray(np.zeros(1), dtype=xp.float32)
    bits = asarray_like(pack(masks), like, keep_dtype=True)
    unpacked = unpack(bits, 13, like)
    assert unpacked.dtype == xp.float32 and np.array_equal(to_numpy(unpacked), masks.astype(float))


@pytest.mark.parametrize("name", LIBRARIES)
def test_there_and_back(name):
    xp = library(name)
    like = xp.asarray(np.zeros(1), dtype=xp.float32)
    moved = asarray_like(np.arange(6.0).reshape(2, 3), like)
    assert moved.dtype == xp.float32 and array_namespace(moved) is array_namespace(like)
    back = to_numpy(moved)
    assert isinstance(back, np.ndarray) and back.dtype == np.float64
    assert np.array_equal(back, np.arange(6.0).reshape(2, 3))
    assert to_numpy(moved, None).dtype == np.float32


def test_tensors_with_gradients_are_copied_out():
    torch = pytest.importorskip("torch")
    assert to_numpy(torch.ones(2, requires_grad=True)).tolist() == [1.0, 1.0]


@pytest.mark.filterwarnings("error")
def test_reversed_and_read_only_data_go_to_a_device():
    pytest.importorskip("torch")
    X = np.arange(6.0).reshape(3, 2)
    for data in (X[::-1], X[::-1][:1], np.broadcast_to(X[0], (2, 2)), X[:0]):
        assert np.array_equal(to_numpy(on_device(data, "cpu")), data)
    X.flags.writeable = False
    assert np.array_equal(to_numpy(on_device(X, "cpu")), X)
