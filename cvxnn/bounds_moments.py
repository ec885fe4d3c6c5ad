r"""The lifted programs as conic programs over matrices of moments.

The lift of a network has, for each of its lifts (:mod:`cvxnn.bounds_lifts`), the sum of ``xi xi'`` over
its neurons, a matrix Lambda. What is known of neurons is linear in it:

    minimise    L(f) + beta * sum <C, Lambda>
    subject to  f = sum F(Lambda) + c,   Lambda psd,   <E_j, Lambda> = 0,   b_k'Lambda b_l >= 0,

with F the gain's adjoint. Every network has such matrices, of any width, so the minimum is a lower bound.
The multiplier of the first equation is a dual variable Z, the others are those of
:class:`cvxnn.bounds_lifts.Multipliers`. With Z given, ``max <K(Z), Lambda>`` under ``<C, Lambda> = 1``
bounds its price.

Clarabel solves both. Matrices are vectors of their upper triangles, off-diagonal entries times sqrt 2, in
the order of its cone.

References: Goulart and Chen, "Clarabel: an interior-point solver for conic programs with quadratic
objectives", 2024; Prakhya, Birdal and Yurtsever, ICLR 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from .bounds_lifts import Lift, Lifts, Multipliers
from .losses.base import ConicForm

#: Tolerance asked of the solver.
TOL = 1e-9


@dataclass(frozen=True, eq=False)
class Moments:
    """A solution of a lifted program: nothing of it is trusted.

    Attributes
    ----------
    Z : ndarray
        Dual variable, in the shape of the targets.
    kappa : float
        beta, or what bounds the price of a given Z.
    multipliers : tuple of Multipliers
    matrices : tuple of ndarrays of shape (m, m)
        Lambda of each lift.
    prediction : ndarray or None
        f with its constant, in the shape of the targets.
    """

    Z: np.ndarray
    kappa: float
    multipliers: tuple[Multipliers, ...]
    matrices: tuple[np.ndarray, ...]
    prediction: np.ndarray | None


def _triangle(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and factors of the upper triangle, column by column."""
    columns, rows = np.tril_indices(m)
    return rows, columns, np.where(rows == columns, 1.0, np.sqrt(2.0))


def _vectors(S: np.ndarray) -> np.ndarray:
    """Symmetric matrices (..., m, m) as vectors of their upper triangles."""
    rows, columns, factor = _triangle(S.shape[-1])
    return S[..., rows, columns] * factor


def _matrix(v: np.ndarray, m: int) -> np.ndarray:
    rows, columns, factor = _triangle(m)
    S = np.zeros((m, m))
    S[rows, columns] = v / factor
    return S + np.triu(S, 1).T


def _products(lift: Lift) -> Any:
    """The forms ``b_k'xi b_l'xi`` of all pairs, as rows."""
    first, second = lift.pairs()
    rows, columns, factor = _triangle(lift.order)
    B, blocks = lift.nonnegative, []
    for part in np.array_split(np.arange(len(first)), max(1, len(first) // 500)):
        a, b = B[first[part]], B[second[part]]
        form = a[:, rows] * b[:, columns] + a[:, columns] * b[:, rows]
        blocks.append(sparse.csr_matrix(0.5 * form * factor))
    return sparse.vstack(blocks)


def _fits(lift: Lift) -> np.ndarray:
    """The predictions, flat, as linear functions of the matrix of a lift."""
    K = np.einsum("pni,pcj->ncij", lift.hidden, lift.outputs, optimize=True)
    K = 0.5 * (K + np.swapaxes(K, 2, 3))
    return _vectors(K.reshape(-1, lift.order, lift.order))


class _Layout:
    """The rows that all lifted programs share, on the vectors of the matrices of all lifts."""

    def __init__(self, lifted: Lifts, mass: float) -> None:
        self.parts, self.mass = lifted.parts, mass
        self.widths = [part.order * (part.order + 1) // 2 for part in self.parts]
        self.fits = mass * np.hstack([_fits(part) for part in self.parts])
        self.cost = np.concatenate([_vectors(part.cost) for part in self.parts])
        self.vanishing = sparse.block_diag([_vectors(part.vanishing) for part in self.parts])
        self.positive = sparse.block_diag([_vectors(part.positive) for part in self.parts])
        self.products = sparse.block_diag([_products(part) for part in self.parts])

    def rows(self, offset: int) -> tuple[list[Any], list[Any], list[Any]]:
        """Rows, right-hand sides and cones, with so many columns of zeros before."""
        import clarabel

        total = sum(self.widths)
        parts = [self.vanishing, -self.positive, -self.products, -sparse.identity(total)]
        heights = [part.shape[0] for part in parts]
        rows = [sparse.hstack([sparse.csr_matrix((part.shape[0], offset)), part]) for part in parts]
        cones = [clarabel.ZeroConeT(heights[0])] if heights[0] else []
        cones += [clarabel.NonnegativeConeT(k) for k in heights[1:3] if k]
        cones += [clarabel.PSDTriangleConeT(part.order) for part in self.parts]
        return rows, [np.zeros(k) for k in heights], cones

    def multipliers(self, z: np.ndarray) -> tuple[Multipliers, ...]:
        """The multipliers of the lifts among those of the shared rows."""
        sizes = [block.shape[0] for block in (self.vanishing, self.positive, self.products)]
        groups = [group / self.mass for group in np.split(z[: sum(sizes)], np.cumsum(sizes)[:-1])]
        found = []
        for part in self.parts:
            first, second = part.pairs()
            taken = []
            for j, size in enumerate((len(part.vanishing), len(part.positive), len(first))):
                taken.append(groups[j][:size])
                groups[j] = groups[j][size:]
            N = np.zeros((len(part.nonnegative),) * 2)
            N[first, second] = 0.5 * np.maximum(taken[2], 0.0)
            found.append(Multipliers(taken[0], np.maximum(taken[1], 0.0), N + N.T))
        return tuple(found)

    def matrices(self, v: np.ndarray) -> tuple[np.ndarray, ...]:
        """The matrices of the lifts among their vectors."""
        ends = np.cumsum(self.widths)[:-1]
        pieces = np.split(v * self.mass, ends)
        return tuple(_matrix(x, part.order) for x, part in zip(pieces, self.parts, strict=True))


def _solved(P: Any, q: np.ndarray, rows: Any, right: Any, cones: Any, max_time: float) -> Any:
    """Clarabel's point, None if it has none that is finite."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOL
    # the factors are nearly dense, which its supernodal method makes three times sooner at order 45
    settings.direct_solve_method, settings.max_threads = "faer", 1
    if np.isfinite(max_time):
        settings.time_limit = max(max_time, 1e-3)
    A = sparse.vstack([sparse.csr_matrix(block) for block in rows]).tocsc()
    solver = clarabel.DefaultSolver(sparse.csc_matrix(P), q, A, np.concatenate(right), cones, settings)
    result: Any = solver.solve()
    x, z = np.array(result.x), np.array(result.z)
    return (x, z) if np.all(np.isfinite(x)) and np.all(np.isfinite(z)) else None


def price_moments(lifted: Lifts, Z: np.ndarray, max_time: float = float("inf")) -> Moments | None:
    """Solve for what bounds the price of a dual variable, None if the solver fails.

    Parameters
    ----------
    lifted : Lifts
    Z : ndarray of shape (n,) or (n, outputs), of about unit size
    max_time : float
        Seconds.
    """
    import clarabel

    layout = _Layout(lifted, 1.0)
    rows, right, cones = layout.rows(0)
    total = len(layout.cost)
    rows, right = [layout.cost[None], *rows], [np.ones(1), *right]
    q = -(Z.ravel() @ layout.fits)
    cones = [clarabel.ZeroConeT(1), *cones]
    found = _solved(sparse.csc_matrix((total, total)), q, rows, right, cones, max_time)
    if found is None:
        return None
    x, z = found
    return Moments(Z, float(z[0]), layout.multipliers(z[1:]), layout.matrices(x), None)


def program_moments(
    lifted: Lifts,
    form: ConicForm,
    beta: float,
    shape: tuple[int, ...],
    *,
    intercept: bool,
    mass: float,
    max_time: float = float("inf"),
) -> Moments | None:
    """Solve the lifted program, None if the solver fails.

    Parameters
    ----------
    lifted : Lifts
    form : ConicForm
        The loss as a function of flat predictions.
    beta : float
    shape : tuple
        Of the targets, (n,) or (n, outputs).
    intercept : bool
    mass : float
        Likely size of the matrices: the unit they are solved in.
    max_time : float
        Seconds.
    """
    import clarabel

    layout = _Layout(lifted, mass)
    n, k = int(np.prod(shape)), len(form.extra)
    ones = np.tile(np.eye(n // shape[0]), (shape[0], 1))[:, : n // shape[0] if intercept else 0]
    before = n + k + ones.shape[1]
    rows, right, cones = layout.rows(before)
    fit = [sparse.identity(n), sparse.csr_matrix((n, k)), -ones, -layout.fits]
    rows = [sparse.hstack([sparse.csr_matrix(block) for block in fit]), *rows]
    right, cones = [np.zeros(n), *right], [clarabel.ZeroConeT(n), *cones]
    if len(form.h):
        rest = sparse.csr_matrix((len(form.h), ones.shape[1] + len(layout.cost)))
        rows.append(sparse.hstack([-sparse.csr_matrix(form.F), -sparse.csr_matrix(form.V), rest]))
        right.append(form.h)
        kinds = {
            "nonnegative": clarabel.NonnegativeConeT,
            "exponential": lambda _: clarabel.ExponentialConeT(),
        }
        cones += [kinds[name](size) for name, size in form.cones]
    bend = np.zeros(k) if form.extra_quadratic is None else form.extra_quadratic
    rest_of = np.zeros(ones.shape[1] + len(layout.cost))
    P = sparse.diags(np.concatenate([form.quadratic, bend, rest_of]))
    q = np.concatenate([form.linear, form.extra, np.zeros(ones.shape[1]), beta * mass * layout.cost])
    found = _solved(P, q, rows, right, cones, max_time)
    if found is None:
        return None
    x, z = found
    Z, f = z[:n].reshape(shape), x[:n].reshape(shape)
    return Moments(Z, beta, layout.multipliers(z[n:]), layout.matrices(x[before:]), f)
