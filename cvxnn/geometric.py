r"""Geometric algebra of samples: wedge products, the hyperplanes through samples, gates drawn from them.

The *generalised cross product* of d - 1 vectors of d entries is the vector ``v = x(a_1 ... a_{d-1})`` with

    v_k = (-1)^(k-1) det(A without column k),          x'v = det[x; a_1; ...; a_{d-1}]      for every x,

the Hodge dual of the wedge product ``a_1 ^ ... ^ a_{d-1}``. It is orthogonal to every a_i, its length is
the (d-1)-volume of the parallelepiped they span, and ``x'v / |v|`` is the signed distance of x from the
hyperplane through them: a ratio of signed volumes. With samples for the a_i (with a column of ones, where
neurons have a bias) these are the neurons whose kink runs through d - 1 (or d) samples. In the plane
without bias ``x'v = x_1 a_2 - x_2 a_1``; with bias it is twice the signed area of the triangle x, a_1, a_2.

*Listed* wedges are all of them. A subset of rows that are dependent spans no hyperplane and is dropped. Of
unit rows with least singular value s the direction is computed up to a multiple of ``eps / s``; that error
is kept with every direction, so that whoever bounds something by them can add it. Rows with s below
``ZERO`` count as dependent, and with s between that and ``CLEAR`` the list is not *clear* any more.

*Sampled* wedges are gates for every architecture that samples patterns (``patterns="wedge"`` or
``("wedge", number)``; where patterns always grow, as with several outputs of ReLU networks, none are
sampled): the hyperplane through d - 1 random samples, on a random side, moved to where all of them are on.
It runs through the data, which a Gaussian gate need not. With many features samples are first hashed to few
columns (``("wedge", number, columns)``), a sparse Johnson-Lindenstrauss transform S with one sign a
feature; the hyperplane of ``XS`` through ``columns - 1`` samples is one of X, with normal ``S v``.

They are no general improvement. Objective per sample of ``gated_relu`` with a penalised bias on
standardised data, squared error on targets ±1, mean of three draws:

=====================  =====  =====  ==========  ======  ==================
data                   alpha  gates  "gaussian"  wedge   wedge, 6 columns
=====================  =====  =====  ==========  ======  ==================
breast cancer          0.1    50     0.1504      0.1625  0.1581
breast cancer          0.1    250    0.1406      0.1466  0.1496
breast cancer          0.01   250    0.0451      0.0469  0.0592
digits, 4 against 9    0.1    50     0.0730      0.0610  0.0764
digits, 4 against 9    0.1    250    0.0658      0.0607  0.0715
digits, 4 against 9    0.01   250    0.0098      0.0207  0.0113
=====================  =====  =====  ==========  ======  ==================

(Of the digits many samples share most hyperplanes, since many pixels are nearly always blank.)

References: Pilanci, "From complexity to clarity: analytical expressions of deep neural network weights via
Clifford's geometric algebra and convexity", TMLR 2024; Wang et al., "Randomized geometric algebra methods
for convex neural networks", 2024 (sampled gates). What is computed here is derived here.
"""

from __future__ import annotations

import itertools
import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrangement import Arrangement, pack, patterns_of

#: Least singular value of unit rows up to which they are dependent, and from which on they surely are not.
ZERO, CLEAR = 1e-12, 1e-10
#: Relative volume below which singular values decide.
FLAT = 1e-8
#: Subsets at a time.
CHUNK = 50_000
#: Gates that ``patterns="wedge"`` draws, where an architecture has no number of its own.
GATES = 500
#: Features from which on gates are sketched, and the columns of the sketch.
MANY, SKETCH = 100, 50


class TooManyWedges(ValueError):
    """There are more subsets of rows (int) than `limit` (int)."""

    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit
        size = f"{count:,}" if count < 10**15 else f"about 1e{int(math.log10(count))}"
        super().__init__(
            f"the data have {size} wedge products and {limit:,} can be listed: pass patterns='auto', which "
            "grows them, a number of wedges to sample, or fewer samples or features"
        )


def cross_product(A: np.ndarray) -> np.ndarray:
    """Return the generalised cross product of d - 1 vectors of d entries.

    Parameters
    ----------
    A : ndarray of shape (..., d - 1, d)

    Returns
    -------
    ndarray of shape (..., d)
        ``v`` with ``x @ v == det([x; A])`` for every x.

    Raises
    ------
    ValueError
        If the shape is another one.

    Examples
    --------
    >>> import numpy as np
    >>> cross_product(np.array([[3.0, 4.0]]))  # turned by a quarter
    array([ 4., -3.])
    >>> cross_product(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    array([0., 0., 1.])
    """
    A = np.asarray(A, dtype=np.float64)
    if A.ndim < 2 or A.shape[-2] != A.shape[-1] - 1:
        raise ValueError(f"A has shape {A.shape}: pass d - 1 vectors of d entries, shape (..., d - 1, d)")
    d = A.shape[-1]
    if d == 1:
        return np.ones((*A.shape[:-2], 1))
    if d == 2:
        return np.stack([A[..., 0, 1], -A[..., 0, 0]], axis=-1)
    if d == 3:
        return np.cross(A[..., 0, :], A[..., 1, :])
    columns = np.arange(d)
    minors = [(-1.0) ** k * np.linalg.det(A[..., columns != k]) for k in range(d)]
    return np.stack(minors, axis=-1)


def signed_volume(points: np.ndarray) -> np.ndarray:
    """Return the signed volume of a simplex: an area in the plane, positive if its corners turn left.

    Parameters
    ----------
    points : ndarray of shape (..., d + 1, d)

    Returns
    -------
    ndarray of shape (...)
        ``det([points, 1]) / d!``: zero exactly where the points share a hyperplane.

    Raises
    ------
    ValueError
        If the shape is another one.

    Examples
    --------
    >>> import numpy as np
    >>> float(signed_volume(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])))
    0.5
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim < 2 or points.shape[-2] != points.shape[-1] + 1:
        raise ValueError(f"points have shape {points.shape}: pass d + 1 of d entries, (..., d + 1, d)")
    d = points.shape[-1]
    edges = points[..., 1:, :] - points[..., :1, :]
    return np.linalg.det(edges) / math.factorial(d)


@dataclass(frozen=True, eq=False)
class Wedges(Arrangement):
    """Hyperplanes through samples: an arrangement whose gates are the neurons with kinks there.

    Attributes
    ----------
    gates : ndarray of shape (k, d)
        Unit normals; the opposite ones are meant too.
    complete : bool
        Whether the list holds every hyperplane through d - 1 of the rows, all decisions clear.
    resolution : float
        Largest least singular value of unit rows that was taken as zero, at least 1e-15.
    error : ndarray of shape (k,)
        By how much, relative to its length, a gate may differ from the exact one.
    subsets : int ndarray of shape (k, d - 1)
        The rows whose wedge product a gate is.
    """

    error: np.ndarray | None = None
    subsets: np.ndarray | None = None


def normals(
    rows: np.ndarray, subsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, bool]:
    """Return the unit normals of the hyperplanes through the origin and d - 1 rows each.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Unit rows.
    subsets : int ndarray of shape (k, d - 1)

    Returns
    -------
    normals : ndarray of shape (m, d), m <= k
    error : ndarray of shape (m,)
    kept : int ndarray of shape (m,)
        Which subsets these are; the others are dependent.
    hidden : float
        The largest singular value that was taken as zero.
    clear : bool
        Whether every decision was clear of rounding.
    """
    d, eps = rows.shape[1], float(np.finfo(np.float64).eps)
    A = rows[subsets]
    V = cross_product(A)
    # of unit rows the least singular value is at least this over the root of e
    volume = np.linalg.norm(V, axis=1)
    least, hidden, clear = volume / math.sqrt(math.e), 0.0, True
    flat = np.flatnonzero(volume < FLAT)
    if len(flat) and d > 1:
        _, size, Vt = np.linalg.svd(A[flat], full_matrices=True)
        least[flat], V[flat] = size[:, -1], Vt[:, -1]
        volume[flat] = np.where(size[:, -1] > ZERO, 1.0, 0.0)
        hidden = float(np.max(size[size[:, -1] <= ZERO, -1], initial=0.0))
        clear = not bool(np.any((size[:, -1] > ZERO) & (size[:, -1] < CLEAR)))
    kept = np.flatnonzero(volume > 0.0)
    V = V[kept] / volume[kept, None]
    return V, 16.0 * d * d * eps / least[kept], kept, hidden, clear


def list_wedges(X: np.ndarray, rows: np.ndarray, limit: int) -> Wedges:
    """List the hyperplanes through the origin and d - 1 of some rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The samples that patterns are of.
    rows : ndarray of shape (m, d)
        Samples, and whatever else hyperplanes run through.
    limit : int

    Raises
    ------
    TooManyWedges
        If there are more than `limit` subsets.
    """
    d = rows.shape[1]
    size = np.linalg.norm(rows, axis=1)
    places = np.flatnonzero(size > 0)
    unit = rows[places] / size[places, None]
    count = math.comb(len(unit), d - 1)
    if count > limit:
        raise TooManyWedges(count, limit)
    parts, hidden, clear = [], 1e-15, True
    subsets = itertools.combinations(range(len(unit)), d - 1)
    while True:
        some = list(itertools.islice(subsets, CHUNK))
        # in one dimension there is one subset, the empty one
        chunk = np.array(some, dtype=np.int64).reshape(len(some), d - 1)
        if not len(chunk):
            break
        V, error, kept, lost, sure = normals(unit, chunk)
        parts.append((V, error, places[chunk[kept]]))
        hidden, clear = max(hidden, lost), clear and sure
        if len(chunk) < CHUNK:
            break
    if not parts:
        parts = [(np.zeros((0, d)), np.zeros(0), np.zeros((0, d - 1), dtype=np.int64))]
    V, error, chosen = (np.concatenate([part[k] for part in parts]) for k in range(3))
    return Wedges(pack(patterns_of(X, V)), len(X), V, clear, hidden, error, chosen)


def sample_wedges(
    X: np.ndarray, rows: np.ndarray, number: int, random_state: np.random.Generator
) -> Wedges:
    """Draw hyperplanes through the origin and d - 1 random rows, fewer where rows are dependent.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The samples that patterns are of.
    rows : ndarray of shape (m, d)
    number : int
    random_state : numpy.random.Generator
    """
    d = rows.shape[1]
    size = np.linalg.norm(rows, axis=1)
    places = np.flatnonzero(size > 0)
    unit = rows[places] / size[places, None]
    if len(unit) < d - 1:
        raise ValueError(f"{len(unit)} rows span no hyperplane in {d} dimensions: pass more samples")
    drawn = [random_state.choice(len(unit), d - 1, replace=False) for _ in range(number)]
    subsets = np.unique(np.sort(np.array(drawn, dtype=np.int64).reshape(number, d - 1), axis=1), axis=0)
    V, error, kept, hidden, _ = normals(unit, subsets)
    return Wedges(pack(patterns_of(X, V)), len(X), V, False, hidden, error, places[subsets[kept]])


def wedge_gates(
    X: np.ndarray, number: int, random_state: np.random.Generator, columns: int | None = None
) -> np.ndarray:
    """Draw gates whose hyperplanes run through random samples, beside which all of these are on.

    Where there are too few samples to determine a hyperplane the rest of its direction is random.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        With a column of ones, where gates have a bias.
    number : int
    random_state : numpy.random.Generator
    columns : int or None
        Of the sketch; None takes ``SKETCH`` from ``MANY`` features on, and none below.

    Returns
    -------
    ndarray of shape (number, d)
        Of unit norm.
    """
    d = X.shape[1]
    if columns is None:
        columns = SKETCH if d >= MANY else d
    S = np.eye(d)
    if columns < d:
        S = np.zeros((d, columns))
        S[np.arange(d), random_state.integers(columns, size=d)] = random_state.choice([-1.0, 1.0], size=d)
    # a hyperplane of the span of the samples: beside it all hyperplanes would do
    _, size, Vt = np.linalg.svd(X @ S, full_matrices=False)
    S = S @ Vt[: max(1, int(np.sum(size > 1e-10 * np.max(size, initial=0.0))))].T
    Q = X @ S
    heads = np.flatnonzero(np.linalg.norm(Q, axis=1) > 0)
    gates = np.zeros((number, d))
    for k in range(number):
        gates[k] = S @ _beside(Q, random_state.permutation(heads)[: Q.shape[1] - 1], random_state)
    return gates / np.maximum(np.linalg.norm(gates, axis=1, keepdims=True), 1e-300)


def _beside(Q: np.ndarray, chosen: np.ndarray, random_state: np.random.Generator) -> np.ndarray:
    """The normal of the hyperplane through some rows, moved a little so that these are on."""
    start = random_state.standard_normal(Q.shape[1])
    A = Q[chosen] / np.linalg.norm(Q[chosen], axis=1, keepdims=True)
    U, size, Vt = np.linalg.svd(A, full_matrices=False)
    rank = int(np.sum(size > 1e-10 * np.max(size, initial=0.0)))
    v = start - Vt[:rank].T @ (Vt[:rank] @ start)
    up = Vt[:rank].T @ ((U[:, :rank].T @ np.ones(len(A))) / size[:rank])
    T, rise = Q @ v, Q @ up
    others = np.ones(len(Q), dtype=bool)
    others[chosen] = False
    # as far as half the way to where another sample would change sides
    near = np.abs(T) > 1e-9 * np.linalg.norm(Q, axis=1) * np.linalg.norm(v)
    at = others & near & (rise != 0)
    step = 0.5 * float(np.min(np.abs(T[at] / rise[at]), initial=1.0))
    return np.asarray(v + step * up)


def wedge_number(patterns: Any, default: int) -> tuple[int, int | None] | None:
    """Read ``"wedge"``, ``("wedge", number)`` or ``("wedge", number, columns)``.

    Parameters
    ----------
    patterns : object
    default : int
        The number where none is given.

    Returns
    -------
    (number, columns) or None
        None if `patterns` is something else.

    Raises
    ------
    ValueError
        If the number is none, or the columns of the sketch are fewer than two.
    """
    if isinstance(patterns, str):
        return (default, None) if patterns == "wedge" else None
    if not isinstance(patterns, tuple | list) or not len(patterns) or patterns[0] != "wedge":
        return None
    rest = list(patterns[1:])
    whole = all(isinstance(k, numbers.Integral) and not isinstance(k, bool) for k in rest)
    if not whole or len(rest) > 2 or any(k < least for k, least in zip(rest, (1, 2), strict=False)):
        raise ValueError(
            f"patterns={patterns!r}: pass 'wedge', ('wedge', number) or ('wedge', number, columns) with at "
            "least 1 gate, and at least 2 columns of the sketch"
        )
    return int(rest[0]) if rest else default, int(rest[1]) if len(rest) > 1 else None
