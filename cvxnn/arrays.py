"""Which array library holds the numbers: the only module that knows.

The core is written against the Python array API standard. Whatever arrays come in (NumPy, torch,
CuPy, ``array_api_strict``) are the arrays that are computed with, on the device where they are;
NumPy is the only one that is required. Certificates leave this freedom behind on purpose: they are
recomputed in NumPy float64 (:func:`to_numpy`), whatever produced the network. Only stages on images
(:mod:`cvxnn.conv_stage`) are judged on the device they were trained on, in float64 all the same.

Reference: Python array API standard, 2024.12.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
from array_api_compat import device, is_numpy_array, is_torch_array
from scipy.linalg import cho_factor, cho_solve

__all__ = [
    "Array",
    "array_namespace",
    "asarray_like",
    "free_numbers",
    "on_device",
    "solve_positive",
    "to_numpy",
    "unpack",
]

#: An array of any library that follows the array API standard.
Array = Any


_NUMPY = array_api_compat.array_namespace(np.empty(0))


def array_namespace(*arrays: Array) -> Any:
    """Return the namespace of the array API that arrays of one library belong to; quickly for NumPy."""
    if all(type(x) is np.ndarray for x in arrays):
        return _NUMPY
    return array_api_compat.array_namespace(*arrays)


def to_numpy(x: Any, dtype: Any = np.float64) -> np.ndarray:
    """Copy an array of any library to NumPy on the CPU.

    Parameters
    ----------
    x : array of any shape, or anything ``numpy.asarray`` takes
    dtype : NumPy dtype, or None to keep the dtype

    Returns
    -------
    ndarray of the same shape
    """
    if is_torch_array(x):
        x = x.detach().cpu().numpy()
    elif hasattr(x, "get") and hasattr(x, "__cuda_array_interface__"):  # CuPy
        x = x.get()
    return np.asarray(x, dtype=dtype)


def on_device(X: np.ndarray, name: str | None) -> Array:
    """Return a NumPy array on a device of torch ("cpu" may share its memory); None leaves it where it is.

    Parameters
    ----------
    X : ndarray
    name : str or None
        Such as "cuda", "cuda:1" or "cpu".

    Raises
    ------
    ImportError
        If torch is not installed.
    ValueError
        If torch knows no such device, finds none here, or it has no numbers of this dtype.
    """
    if name is None:
        return X
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"device={name!r} needs torch: pip install 'cvxnn[torch]', or pass device=None"
        ) from error
    X = np.ascontiguousarray(X)
    # torch refuses a reversed row, which is contiguous all the same, and warns of data that is read only
    if not X.flags.writeable or min(X.strides, default=0) < 0:
        X = X.copy()
    try:
        return torch.as_tensor(X, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name!r} cannot be used ({reason}): pass device=None") from error


def free_numbers(like: Array) -> int | None:
    """Return how many numbers of an array's dtype its device has room for; None where that is not known."""
    if is_torch_array(like) and like.device.type == "cuda":
        import torch

        # what torch holds for later is free too
        held = torch.cuda.memory_reserved(like.device) - torch.cuda.memory_allocated(like.device)
        return int(torch.cuda.mem_get_info(like.device)[0] + held) // int(like.element_size())
    return None


def solve_positive(K: Array, B: Array) -> Array:
    """Return ``K^-1 B`` for a symmetric positive definite K, by Cholesky's factorisation.

    Parameters
    ----------
    K : array of shape (n, n)
        Only its lower triangle is read; overwritten where that saves memory.
    B : array of shape (n, k), of the same library

    Returns
    -------
    array of shape (n, k)
    """
    if is_numpy_array(K):
        # the transpose is the same matrix in the order of LAPACK, which then needs no copy
        return cho_solve(cho_factor(K.T, overwrite_a=True), B)
    if is_torch_array(K):
        import torch

        if K.device.type == "cuda":
            torch.cuda.empty_cache()  # what torch keeps for later may be too scattered for a second matrix
        return torch.cholesky_solve(B, torch.linalg.cholesky(K))
    xp = array_namespace(K)
    return xp.linalg.solve(xp.tril(K) + xp.matrix_transpose(xp.tril(K, k=-1)), B)


def asarray_like(values: np.ndarray, like: Array, *, keep_dtype: bool = False) -> Array:
    """Move a NumPy array into the library, onto the device and to the dtype of another array.

    Parameters
    ----------
    values : ndarray
    like : array whose library, device and (unless `keep_dtype`) dtype are taken
    keep_dtype : bool
        True leaves the dtype of `values` as it is (packed bits, indices).
    """
    xp = array_namespace(like)
    if is_numpy_array(like):
        return values if keep_dtype else np.asarray(values, dtype=like.dtype)
    moved = xp.asarray(np.ascontiguousarray(values), device=device(like))
    return moved if keep_dtype else xp.astype(moved, like.dtype)


def unpack(bits: Array, n: int, like: Array) -> Array:
    """Unpack rows of bits into rows of zeros and ones.

    Parameters
    ----------
    bits : uint8 array of shape (patterns, ceil(n / 8)), most significant bit first
    n : int
        Number of samples; padding bits beyond it are dropped.
    like : array whose dtype the result takes

    Returns
    -------
    array of shape (patterns, n)
    """
    if is_numpy_array(bits):
        return np.unpackbits(bits, axis=1, count=n).astype(like.dtype)
    xp = array_namespace(bits)
    shifts = xp.asarray([7, 6, 5, 4, 3, 2, 1, 0], dtype=xp.uint8, device=device(bits))
    one = xp.asarray(1, dtype=xp.uint8, device=device(bits))
    spread = xp.bitwise_and(xp.bitwise_right_shift(bits[:, :, None], shifts), one)
    flat = xp.reshape(spread, (bits.shape[0], 8 * bits.shape[1]))
    return xp.astype(flat[:, :n], like.dtype)
