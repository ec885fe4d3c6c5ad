r"""Neurons with a quadratic activation, on data or on patches of data: values and prices.

A sample is seen as windows of patches, ``rows`` of shape (windows, n, patches, f); data without patches
are one window of one patch. A neuron of norm one looks at one window of all samples, and adds to one
output k

    h_i = scale * sum over the window's patches x of  a (x'u)^2 + b x'u + c.

Its price for a dual variable is quadratic in u, ``u'Au + g'u + const`` with ``A = a sum_i Z_ik X_i'X_i``
and ``g = b sum_i Z_ik X_i'1``, so the best neuron of every window, output and sign is known
(:mod:`cvxnn.trust_region`).

A neuron with its amount alpha > 0 is kept as one vector ``v = sqrt(alpha) u``, whose output ``alpha
h(u)`` is ``a t^2 + b r t + c r^2`` with ``t = x'v`` and ``r = ||v||``; how such vectors descend is in
:mod:`cvxnn.quadratic_descent`.

Reference: Bartan and Pilanci, "Neural spectrahedra and semidefinite lifts", Math. Prog. 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .neural_decomposition import neurons_of_factors
from .trust_region import rounding, sphere_maxima

Coefficients = tuple[float, float, float]
#: Norms below which, relative to the largest, a neuron is zero after a descent.
ZERO = 1e-7
#: Share of the price's eigenvectors that are candidates beside the best neuron, at most so many.
EIGENVECTORS = 12


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons ``v = sqrt(alpha) u``, each at a window, for an output, with a sign; sorted by window.

    Parameters
    ----------
    V : ndarray of shape (m, f)
    window, output : int ndarrays of shape (m,)
    sign : ndarray of shape (m,)
    """

    V: np.ndarray
    window: np.ndarray
    output: np.ndarray
    sign: np.ndarray

    @classmethod
    def empty(cls, f: int) -> Neurons:
        """No neurons."""
        return cls(np.zeros((0, f)), np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0))

    def __len__(self) -> int:
        return len(self.V)

    def choose(self, kept: np.ndarray) -> Neurons:
        """Some of the neurons, by their indices or a mask."""
        return Neurons(self.V[kept], self.window[kept], self.output[kept], self.sign[kept])

    def join(self, other: Neurons) -> Neurons:
        """The neurons of both."""
        both = Neurons(
            np.concatenate([self.V, other.V]),
            np.concatenate([self.window, other.window]),
            np.concatenate([self.output, other.output]),
            np.concatenate([self.sign, other.sign]),
        )
        return both.choose(np.argsort(both.window, kind="stable"))

    @property
    def cost(self) -> float:
        """``sum_j alpha_j``."""
        return float(np.sum(self.V**2))


@dataclass(frozen=True, eq=False)
class Quoted:
    """Prices of neurons of norm one for a dual variable.

    Parameters
    ----------
    bound, found : float
        At least, and at most, the largest price of all.
    neurons : Neurons
        Of norm one, with the largest prices first.
    prices : ndarray of shape (m,)
    """

    bound: float
    found: float
    neurons: Neurons
    prices: np.ndarray


class QuadraticUnits:
    """Neurons with an activation ``a t^2 + b t + c`` on windows of patches.

    Parameters
    ----------
    rows : ndarray of shape (windows, n, patches, f)
    coefficients : (float, float, float)
        ``a, b, c``.
    scale : float
        Factor of the sum over the patches of a window, 1 / patches for their mean.
    outputs : int or None
        Of a network; None for outputs of shape (n,).
    """

    def __init__(
        self, rows: np.ndarray, coefficients: Coefficients, scale: float = 1.0, outputs: int | None = None
    ) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.float64)
        self.coefficients, self.scale, self.outputs = coefficients, scale, outputs
        self.windows, self.n, self.patches, self.f = rows.shape

    def values(self, neurons: Neurons) -> np.ndarray:
        """Return the outputs ``alpha h(u)`` of each neuron, without its sign, shape (n, m)."""
        H = np.empty((self.n, len(neurons)))
        for part, X in self.parts(neurons):
            V = neurons.V[part]
            r = np.linalg.norm(V, axis=1)
            H[:, part] = self.activate(X @ V.T, r)
        return H

    def parts(self, neurons: Neurons) -> Iterator[tuple[slice, np.ndarray]]:
        """The neurons of each window that has some, with the window's rows (n * patches, f)."""
        starts = np.searchsorted(neurons.window, np.arange(self.windows + 1))
        for g in np.flatnonzero(np.diff(starts)):
            yield slice(int(starts[g]), int(starts[g + 1])), self.rows[g].reshape(-1, self.f)

    def activate(self, T: np.ndarray, r: np.ndarray) -> np.ndarray:
        """Outputs (n, m) of neurons of norms ``r`` whose inner products with patches are ``T``."""
        a, b, c = self.coefficients
        return self.pool((a * T + b * r) * T) + self.scale * self.patches * c * r * r

    def pool(self, T: np.ndarray) -> np.ndarray:
        """Sum over patches: (n * patches, m) to (n, m)."""
        if self.patches == 1:
            return T if self.scale == 1.0 else self.scale * T
        return self.scale * np.sum(T.reshape(self.n, self.patches, -1), axis=1)

    def predict(self, neurons: Neurons, H: np.ndarray | None = None) -> np.ndarray:
        """Return the output of the network without its constant, (n,) or (n, outputs)."""
        H = self.values(neurons) if H is None else H
        if self.outputs is None:
            return H @ neurons.sign
        return H @ self.selector(neurons)

    def selector(self, neurons: Neurons) -> np.ndarray:
        """Return the signs as a matrix from neurons to outputs, (m, outputs)."""
        S = np.zeros((len(neurons), self.outputs or 1))
        S[np.arange(len(neurons)), neurons.output] = neurons.sign
        return S

    def forms(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Return what prices are made of, for every window and output, as ``window * outputs + output``.

        Parameters
        ----------
        Z : ndarray of shape (n,) or (n, outputs)

        Returns
        -------
        A : ndarray of shape (k, f, f)
        g : ndarray of shape (k, f)
        const : ndarray of shape (k,)
            The price of u is ``u'Au + g'u + const``.
        error : float
            How far off that, and the bound of its maximum, may be by rounding.
        """
        a, b, c = self.coefficients
        Z = Z.reshape(self.n, -1)
        K = Z.shape[1]
        A = np.empty((self.windows * K, self.f, self.f))
        g, size = np.empty((self.windows * K, self.f)), 0.0
        for w in range(self.windows):
            X = self.rows[w].reshape(-1, self.f)
            long = np.sum(X * X, axis=1)
            for k in range(K):
                z = self.scale * np.repeat(Z[:, k], self.patches)
                # far from symmetric only by rounding; BLAS is faster on one product than on two halves
                M = (X.T * z) @ X
                A[w * K + k], g[w * K + k] = 0.5 * a * (M + M.T), b * (z @ X)
                size = max(size, float(np.abs(z) @ (abs(a) * long + abs(b) * np.sqrt(long) + abs(c))))
        const = np.tile(self.scale * self.patches * c * np.sum(Z, axis=0), self.windows)
        return A, g, const, float(rounding(size, self.n * self.patches, self.f))

    def quote(self, Z: np.ndarray, most: int = 0) -> Quoted:
        """Price the best neuron of every window, output and sign, exactly.

        Parameters
        ----------
        Z : ndarray of shape (n,) or (n, outputs)
        most : int
            Neurons to return; with more than the best ones, eigenvectors of the prices are tried too.
        """
        A, g, const, error = self.forms(Z)
        K = len(const) // self.windows
        upper, lower = sphere_maxima(A, g)
        bound = max(float(np.max(upper.bound + const)), float(np.max(lower.bound - const)), 0.0)
        which = np.arange(len(const))
        points, index = [upper.points, lower.points], [which, which]
        signs = [np.ones(len(which)), -np.ones(len(which))]
        if most > 2 * len(which):
            side, at, sign = _eigenvectors(A, g, most)
            points, index, signs = [*points, side], [*index, at], [*signs, sign]
        U, k, sign = np.concatenate(points), np.concatenate(index), np.concatenate(signs)
        prices = sign * (np.einsum("ki,kij,kj->k", U, A[k], U) + np.sum(g[k] * U, axis=1) + const[k])
        order = np.argsort(-prices, kind="stable")[: max(most, 1)]
        neurons = Neurons(U[order], k[order] // K, k[order] % K, sign[order])
        found = max(float(prices[order[0]]), 0.0)
        bound = bound * (1.0 + 1e-12) + error
        return Quoted(bound, min(found, bound), neurons, prices[order])

    def reduce(self, neurons: Neurons) -> Neurons:
        """Return as few neurons with the same outputs: no zeros, and at most the rank of each matrix."""
        size = np.linalg.norm(neurons.V, axis=1)
        neurons = neurons.choose(size > ZERO * np.max(size, initial=0.0))
        out = Neurons.empty(self.f)
        for w, k in sorted(set(zip(neurons.window, neurons.output, strict=True))):
            own = neurons.choose((neurons.window == w) & (neurons.output == k))
            V, sign = self._fewest(own.V, own.sign)
            out = out.join(Neurons(V, np.full(len(V), w), np.full(len(V), k), sign))
        return out

    def _fewest(self, V: np.ndarray, sign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As few neurons of one window and output as their matrices allow."""
        if self.coefficients[1] == 0.0:
            # without a linear term only sum_j alpha_j u_j u_j' counts: its eigenvectors, at no more cost
            values, vectors = np.linalg.eigh((V.T * sign) @ V)
            kept = np.abs(values) > 1e-13 * np.max(np.abs(values), initial=0.0)
            return (vectors[:, kept] * np.sqrt(np.abs(values[kept]))).T, np.sign(values[kept])
        parts: list[np.ndarray] = []
        signs: list[np.ndarray] = []
        for side in (1.0, -1.0):
            own = V[sign == side]
            if len(own) > self.f + 1 or _parallel(own):
                U, alpha = neurons_of_factors(np.column_stack([own, np.linalg.norm(own, axis=1)]))
                own = U * np.sqrt(alpha)[:, None]
            parts, signs = [*parts, own], [*signs, np.full(len(own), side)]
        return np.concatenate(parts), np.concatenate(signs)


def _parallel(V: np.ndarray) -> bool:
    """Whether two of the neurons point in the same direction, so that one would do."""
    U = V / np.linalg.norm(V, axis=1, keepdims=True)
    C = U @ U.T
    np.fill_diagonal(C, 0.0)
    return bool(np.max(C, initial=0.0) > 1.0 - 1e-10)


def _eigenvectors(A: np.ndarray, g: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvectors of the largest and of the smallest eigenvalues, in both directions.

    Returns points (m, f), which function each is for, and with which sign.
    """
    count = min(A.shape[1], max(1, min(EIGENVECTORS, most // (4 * len(A)))))
    _, V = np.linalg.eigh(A)
    points, index, signs = [], [], []
    for part, sign in ((V[:, :, -count:], 1.0), (V[:, :, :count], -1.0)):
        side = np.where(np.einsum("kij,ki->kj", part, g) * sign < 0, -1.0, 1.0)
        U = (part * side[:, None, :]).transpose(0, 2, 1).reshape(-1, A.shape[1])
        points += [U, -U]
        index += [np.repeat(np.arange(len(A)), count)] * 2
        signs += [np.full(len(U), sign)] * 2
    return np.concatenate(points), np.concatenate(index), np.concatenate(signs)
