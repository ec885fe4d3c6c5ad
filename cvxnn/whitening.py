r"""Whitened data: what a batch-normalised hidden layer makes of any data.

Let ``mu`` be the mean of the training data and Q (n, r) its whitened form, with sample weights s of sum S:

    Q = (X - 1 mu') T,      sum_i s_i q_i = 0,      (1/S) sum_i s_i q_i q_i' = I,

r the rank of the centred data. Any pre-activation ``t = X w + b 1`` is ``Q v + m 1`` on the data, with the
mean ``m`` of t and ``||v||`` its standard deviation. Repeating a sample s_i times, or giving it the weight
s_i, gives the same mean and the same T; weights zero do not enter.

Columns are divided by their standard deviations before the singular value decomposition, which changes
neither Q's span nor anything else but rounding. Directions that vary by no more than the rounding of the
data themselves, as those of equal sums do, are none: what a network made of them would be rounding, too.

Reference: Ergen, Sahiner, Ozturkler, Pauly, Mardani and Pilanci, "Demystifying batch normalization in ReLU
networks", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.optimize import brentq

from .certificate import Oracle, Price, Proof
from .network import Affine, Network
from .oracles import SearchOracle
from .pricing import Neurons
from .program import Problem

#: A column that varies by less than this share of its size is constant but for rounding.
CONSTANT = 1e-13


@dataclass(frozen=True, eq=False)
class Whitening:
    """The map to whitened data and back.

    Parameters
    ----------
    mean : ndarray of shape (d,)
        Weighted mean of the data.
    basis : ndarray of shape (d, r)
        T: ``(x - mean) @ basis`` is whitened.
    Q : ndarray of shape (n, r)
        The whitened data.
    weights : ndarray of shape (n,)
    """

    mean: np.ndarray
    basis: np.ndarray
    Q: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, problem: Problem) -> Whitening:
        """Whiten the data of a problem; where all samples are equal one column of zeros is left."""
        X, s = problem.X, problem.weights
        share = s / np.sum(s)
        mean = share @ X
        mean = mean + share @ (X - mean)  # once more: what the first sum has rounded
        centred = X - mean
        spread = np.sqrt(share @ centred**2)
        varies = spread > CONSTANT * np.max(np.abs(X), axis=0, initial=0.0)
        scale = np.where(varies, spread, 1.0)
        scaled = np.where(varies, centred / scale, 0.0)
        _, size, Vt = np.linalg.svd(np.sqrt(share)[:, None] * scaled, full_matrices=False)
        # columns far from zero are rounded by more than their deviations, and so is what is left of them
        reach = np.max(np.max(np.abs(X), axis=0) / scale, where=varies, initial=0.0)
        floor = max(max(X.shape) * np.max(size, initial=0.0), 4.0 * np.sqrt(X.shape[1]) * reach)
        rank = min(int(np.sum(size > floor * np.finfo(float).eps)), len(X) - 1)
        if rank == 0:
            return cls(mean, np.zeros((X.shape[1], 1)), np.zeros((len(X), 1)), s)
        basis = Vt[:rank].T / size[:rank] * (varies / scale)[:, None]
        return cls(mean, basis, centred @ basis, s)

    @property
    def complete(self) -> bool:
        """Whether Q and a column of ones span all vectors: then pre-activations are arbitrary."""
        return bool(np.any(self.Q)) and self.Q.shape[1] + 1 == len(self.Q)

    def problem(self, problem: Problem) -> Problem:
        """The same problem on the whitened data."""
        return replace(problem, X=self.Q)

    def fold(self, network: Network) -> Network:
        """The network on the data themselves of one on whitened data."""
        first, *others = network.layers
        assert isinstance(first, Affine)
        weight = self.basis @ first.weight
        return Network((Affine(weight, first.bias - self.mean @ weight), *others))

    def moments(self, first: Affine, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights (r, m) on whitened data, and the means (m,), of the pre-activations on data X."""
        T, share = X @ first.weight + first.bias, self.weights / np.sum(self.weights)
        mean = share @ T
        return self.Q.T @ (share[:, None] * (T - mean)), mean

    def unfold(self, network: Network, X: np.ndarray) -> Network:
        """The network on whitened data of one on the data ``X`` (n, d); on the data the two are equal."""
        first, *others = network.layers
        assert isinstance(first, Affine)
        return Network((Affine(*self.moments(first, X)), *others))


class WhitenedOracle(Oracle):
    """The oracle of a family on whitened data, asked about networks on the data themselves."""

    def __init__(self, problem: Problem, whitening: Whitening, inner: Oracle) -> None:
        # what the inner family adds to the problem, a free constant say, is part of it here too
        super().__init__(replace(inner.problem, X=problem.X))
        self.whitening, self.inner = whitening, inner

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.inner = self.inner.at(beta)
        return other

    def price(self, Z: np.ndarray) -> Price:
        return self.inner.price(Z)

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.inner.found(Z, self.whitening.unfold(network, self.problem.X))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        return self.inner.prove(Z, max_iter=max_iter, max_time=max_time)


class OrthantOracle(SearchOracle):
    r"""Exact pricing where whitened data and a column of ones span all vectors (scope ``global``).

    A neuron of cost one then is *any* h >= 0 with ``sum_i s_i h_i^2 <= S``, so that

        M(Z) = sqrt(S) * max( ||(Z / sqrt s)_+||, ||(-Z / sqrt s)_+|| ).

    Parameters
    ----------
    problem : Problem
        On whitened data.
    design : Design
        ``[Q, 1]``, square.
    """

    scope = "global"  # type: ignore[assignment]

    def _best(self, Z: np.ndarray) -> Neurons:
        """The best neuron of either sign."""
        X, s = self.X, self.problem.weights
        root = float(np.sqrt(np.sum(s)))
        rows = []
        for sign in (1.0, -1.0):
            h = np.maximum(sign * Z / s, 0.0)
            size = float(np.sqrt(s @ h**2))
            if size > 0.0:
                # [Q, 1] has orthogonal columns under the weights: its inverse is its adjoint
                gate = X.T @ (s * np.where(h > 0.0, 1.0, -1.0))
                rows.append((root * size, X.T @ (s * h) / (root * size), sign, h > 0.0, gate))
        rows.sort(key=lambda row: -row[0])
        values, U, signs, masks, gates = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        shape = (-1, X.shape[1])
        return Neurons(
            np.array(values, dtype=np.float64),
            np.array(U, dtype=np.float64).reshape(shape),
            np.array(signs, dtype=np.float64),
            np.array(masks, dtype=bool).reshape(-1, len(X)),
            np.array(gates, dtype=np.float64).reshape(shape),
        )

    def price(self, Z: np.ndarray) -> Price:
        value = self._best(Z).best
        return Price(value * (1.0 + 1e-12), "global", value)

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        return Oracle.prove(self, Z, max_iter=max_iter, max_time=max_time)

    def searches(
        self, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator, effort: int
    ) -> Iterator[Neurons]:
        yield self._best(Z)

    def propose(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        reach: int = 1,
        extra: np.ndarray | None = None,
    ) -> Neurons:
        return self._best(Z)


def best_on_whitened(problem: Problem) -> Network:
    """Return the best network for the squared loss where neurons compute any nonnegative vector.

    Parameters
    ----------
    problem : Problem
        On whitened data that span all vectors with a column of ones.
    """
    s, y = problem.weights, problem.y
    root, limit = np.sqrt(s), problem.beta / np.sqrt(np.sum(s))

    def residual(c: float) -> np.ndarray:
        """``sqrt(s) (y - c - f)``: the positive and the negative part, each cut to the length `limit`."""
        z = root * (y - c)
        sizes = [max(float(np.linalg.norm(part)), limit) for part in (np.maximum(z, 0), np.minimum(z, 0))]
        return np.where(z > 0.0, z * (limit / sizes[0]), z * (limit / sizes[1]))

    low, high = float(np.min(y)), float(np.max(y))
    c = 0.0
    if problem.intercept:
        c = low if low == high else float(brentq(lambda t: root @ residual(t), low, high, xtol=1e-15))
    f = (y - c) - residual(c) / root
    full, rows, a = np.column_stack([problem.X, np.ones(len(y))]), [], []
    for sign in (1.0, -1.0):
        h = np.maximum(sign * f, 0.0)
        size = float(np.sqrt(s @ h**2 / np.sum(s)))
        if size > 1e-14 * np.max(np.abs(y)):
            # the inverse of [Q, 1] is its adjoint under the weights
            rows.append(full.T @ (s * h) / (np.sum(s) * np.sqrt(size)))
            a.append(sign * np.sqrt(size))
    U = np.array(rows).reshape(-1, full.shape[1])
    layers = np.ascontiguousarray(U[:, :-1].T), U[:, -1].copy(), np.array(a)
    return Network.two_layer(*layers, c)
