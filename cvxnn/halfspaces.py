r"""Pricing threshold neurons: which half-space holds most of a dual variable?

A threshold neuron is one on the samples of a half-space and zero elsewhere, whatever the size of its
weights, so its price is a discrepancy,

    M(Z) = max over u of |Z'1[Xu >= 0]|,

and there are finitely many of them. *Listed*: one for every open cell of the arrangement and, as 1[0 >= 0]
= 1, for every face: a pattern of samples on hyperplanes, all of them on. A face whose samples see a common
direction rise (with a bias every one does) has the pattern of a cell beside it; so listing goes on into
faces only where rows are not in general position, and adds u = 0. *Shattered*: where the rows are linearly
independent every 0/1 vector is a pattern, and ``M(Z) = max(sum Z_+, sum Z_-)``. *Searched*: along a line u
+ t v the samples switch one by one, so sorting gives the best t exactly; from many starts, along many
lines, that is a strong local search and a proof of nothing. What is proven there is the price of the
shattered case, which is never below.

References: Ergen, Gulluk, Lacotte and Pilanci, "Globally optimal training of neural networks with threshold
activation functions", ICLR 2023; Matousek, Geometric Discrepancy, 1999. The faces that count, and the
bound's dual point, are derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrangement import Arrangement, TooManyPatterns, count_bound, pack
from .certificate import Oracle, Price, Proof, scale
from .network import Affine, Network
from .program import Problem

#: Relative size below which what is left of a row in a face is zero, and above which it surely is not.
ZERO, CLEAR = 1e-12, 1e-9
#: Faces visited at most.
FACES = 3000
#: Least singular value of unit rows that counts as independent.
INDEPENDENT = 1e-8
#: How far, relative to the data, a bias may move what ought to be a tie.
TIE = 1e-12
#: Lines that each start of a search moves along, starts of a search, and neurons it returns.
LINES, STARTS, MOST = 60, 64, 64
#: Seed of the searches inside oracles.
SEED = 0


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """Distinct patterns with a gate for each, best first where a search found them.

    Parameters
    ----------
    masks : bool ndarray of shape (k, n)
    gates : ndarray of shape (k, d)
    values : ndarray of shape (k,)
        ``|Z'mask|`` where they come from a search, else zeros.
    """

    masks: np.ndarray
    gates: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, masks: np.ndarray, gates: np.ndarray, values: np.ndarray | None = None) -> HalfSpaces:
        """Keep the first of equal patterns, in the order of the values."""
        values = np.zeros(len(masks)) if values is None else values
        order = np.argsort(-values, kind="stable")
        _, first = np.unique(np.packbits(masks[order], axis=1), axis=0, return_index=True)
        kept = order[np.sort(first)]
        return cls(masks[kept], gates[kept], values[kept])

    @property
    def best(self) -> float:
        """The largest value; 0 if there is none."""
        return float(np.max(self.values, initial=0.0))

    def join(self, other: HalfSpaces) -> HalfSpaces:
        """The patterns of both."""
        pairs = ((self.masks, other.masks), (self.gates, other.gates), (self.values, other.values))
        return HalfSpaces.of(*(np.concatenate(pair) for pair in pairs))

    def choose(self, kept: np.ndarray) -> HalfSpaces:
        """Some of the patterns, by their indices."""
        return HalfSpaces(self.masks[kept], self.gates[kept], self.values[kept])


def listed(X: np.ndarray, limit: int) -> Arrangement:
    """List all patterns ``1[X u >= 0]``, those of faces too; samples that are zero are on.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    limit : int

    Returns
    -------
    Arrangement
        Complete only where every decision was clear of rounding.

    Raises
    ------
    TooManyPatterns
        If there are more than `limit` patterns, or too many faces to look at.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    clear = _faces(X, np.eye(X.shape[1]), limit, parts, set())
    masks, gates = (np.concatenate([part[k] for part in parts]) for k in range(2))
    found = HalfSpaces.of(masks, gates)
    if len(found.masks) > limit:
        raise TooManyPatterns(len(found.masks), limit)
    return Arrangement(pack(found.masks), len(X), found.gates, clear)


def _faces(
    X: np.ndarray,
    basis: np.ndarray,
    limit: int,
    parts: list[tuple[np.ndarray, np.ndarray]],
    seen: set[bytes],
) -> bool:
    """Add the patterns of the cells within the span of `basis`, and of their faces.

    Returns whether every decision was clear.
    """
    size, inside = np.linalg.norm(X, axis=1), X @ basis
    left = np.linalg.norm(inside, axis=1)
    zero = left <= ZERO * size
    if zero.tobytes() in seen:
        return True
    if len(seen) >= FACES:
        raise TooManyPatterns(FACES, FACES)
    seen.add(zero.tobytes())
    clear = not np.any(~zero & (left <= CLEAR * size))
    everywhere = (np.ones((1, len(X)), dtype=bool), np.zeros((1, X.shape[1])))
    inside[zero] = 0.0
    if np.all(zero):
        parts.append(everywhere)
        return clear
    rank = int(np.linalg.matrix_rank(inside, tol=CLEAR * float(np.max(left))))
    cells = Arrangement.enumerate(inside, limit=limit)
    clear &= cells.complete and cells.resolution <= ZERO
    parts.append((cells.masks() | zero, cells.gates @ basis.T))
    if np.any(np.all(X[:1] == X, axis=0) & (X[0] != 0)):
        return clear  # a column that is constant: every face has the pattern of a cell beside it
    if len(cells) == count_bound(int(np.sum(~zero)), rank):
        # In general position no proper face has a pattern of its own; the one where all rows vanish has.
        parts.append(everywhere)
        return clear
    for i in np.flatnonzero(~zero):
        # the hyperplane of row i, within the span
        _, _, Vt = np.linalg.svd(inside[i : i + 1] / left[i], full_matrices=True)
        clear &= _faces(X, basis @ Vt[1:].T, limit, parts, seen)
    return clear


def shatters(X: np.ndarray) -> bool:
    """Whether the rows are clearly independent, so that every 0/1 vector is a pattern."""
    size = np.linalg.norm(X, axis=1)
    if len(X) > X.shape[1] or not np.all(size > 0):
        return False
    return bool(np.linalg.svd(X / size[:, None], compute_uv=False)[-1] > INDEPENDENT)


def level_sets(X: np.ndarray, y: np.ndarray) -> Arrangement:
    """The samples above, and those below, every target, with gates: all patterns that independent rows
    need.

    The best prediction is then y cut off at two levels, a sum of nested sets.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Its rows are independent.
    y : ndarray of shape (n,)
    """
    levels = np.unique(y)[:, None]
    masks = np.concatenate([y >= levels, y <= levels])
    gates = np.linalg.lstsq(X, 2.0 * masks.T - 1.0, rcond=None)[0].T
    found = HalfSpaces.of(masks, gates)
    return Arrangement(pack(found.masks), len(X), found.gates)


def search(
    X: np.ndarray, Z: np.ndarray, starts: np.ndarray, random_state: np.random.Generator
) -> HalfSpaces:
    """Search for the half-spaces with the largest ``|Z'1[Xu >= 0]|``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Z : ndarray of shape (n,) or (n, outputs)
    starts : ndarray of shape (k, d)
        Gates to start from, besides random ones and regressions on Z.
    random_state : numpy.random.Generator
    """
    rows = np.sqrt(np.mean(X * X, axis=0))
    spread = 1.0 / np.where(rows > 0, rows, 1.0)
    guess = np.linalg.lstsq(X, np.column_stack([Z, np.sign(Z)]), rcond=None)[0].T
    U = np.concatenate([random_state.standard_normal((STARTS, X.shape[1])) * spread, guess, starts])
    U, sides = np.concatenate([U, U]), np.repeat([1.0, -1.0], len(U))
    T = U @ X.T
    Y = Z if Z.ndim == 2 else Z[:, None]
    # with one output the direction of a start is its sign, and stays; with several it follows the pattern
    G = sides[:, None] * (_unit((T >= 0) @ Y) if Z.ndim == 2 else 1.0)
    values = np.sum(((T >= 0) @ Y) * G, axis=1)
    for k in range(LINES):
        V, pull = random_state.standard_normal(U.shape) * spread, G @ Y.T
        if k % 3:
            # towards the samples near the border that should change sides, as logistic regression would
            width = np.mean(np.abs(T), axis=1, keepdims=True) * 2.0 ** -(k % 7) + 1e-300
            near = np.exp(-np.minimum(np.abs(T) / width, 50.0))
            V = (pull * near) @ X + 0.1 * V * (k % 3 - 1)
        new, t = _best_on_lines(T, V @ X.T, pull)
        better = new > values
        U[better] += t[better, None] * V[better]
        U[better] /= np.maximum(np.linalg.norm(U[better], axis=1, keepdims=True), 1e-300)
        T[better] = U[better] @ X.T
        # what rounding left of it is what counts
        held = (T >= 0) @ Y
        if Z.ndim == 2:
            G[better] = _unit(held[better])
        values = np.sum(held * G, axis=1)
    found = HalfSpaces.of(T >= 0, U, np.linalg.norm((T >= 0) @ Y, axis=1))
    return found.choose(np.arange(min(MOST, len(found.masks))))


def _unit(C: np.ndarray) -> np.ndarray:
    """Rows of length one; rows of zeros stay."""
    size = np.linalg.norm(C, axis=1, keepdims=True)
    return C / np.where(size > 0, size, 1.0)


def _best_on_lines(T: np.ndarray, S: np.ndarray, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest ``sum of Z over T + t S >= 0`` over t, and the middle of an interval that has it."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at = np.where(S != 0, -T / S, np.inf)
    order = np.argsort(at, axis=1, kind="stable")
    ends = np.take_along_axis(at, order, 1)
    # far to the left the samples with a falling line are on
    first = np.sum(np.where(np.where(S != 0, S < 0, T >= 0), Z, 0.0), axis=1, keepdims=True)
    change = np.take_along_axis(np.sign(S) * Z, order, 1)
    values = np.concatenate([first, first + np.cumsum(change, axis=1)], axis=1)
    edge = np.concatenate([ends[:, :1] - 1.0, ends, np.full_like(first, np.inf)], axis=1)
    low, high = edge[:, :-1], edge[:, 1:]
    # an interval without length is no interval
    values[~(high > low)] = -np.inf
    best = np.argmax(values, axis=1)
    pick = np.arange(len(best)), best
    low, high = low[pick], high[pick]
    with np.errstate(invalid="ignore"):
        t = np.where(np.isfinite(high), 0.5 * (low + high), low + 1.0 + np.abs(low))
    return np.where(np.isfinite(t), values[pick], -np.inf), np.where(np.isfinite(t), t, 0.0)


class HalfSpaceOracle(Oracle):
    """An oracle for threshold neurons on a design matrix ``X`` (n, d), a column of ones included."""

    def __init__(self, problem: Problem, X: np.ndarray, biased: bool) -> None:
        super().__init__(problem)
        self.X, self.biased = X, biased

    def gates_of(self, network: Network) -> np.ndarray:
        """Return the hidden weights of a network, shape (m, d).

        Raises
        ------
        ValueError
            If it has biases, beyond the size of rounding, where the family has none.
        """
        first = network.layers[0]
        assert isinstance(first, Affine)
        if self.biased:
            return np.column_stack([first.weight.T, first.bias])
        reach = float(np.max(np.linalg.norm(self.X, axis=1), initial=0.0))
        if np.any(np.abs(first.bias) > TIE * reach * np.linalg.norm(first.weight, axis=0)):
            raise ValueError("the network has hidden biases: pass hidden_bias='penalized', not None")
        return np.ascontiguousarray(first.weight.T)

    def found(self, Z: np.ndarray, network: Network) -> float:
        self.gates_of(network)  # refuses what the family has not
        return self.price(Z).found


class ListedOracle(HalfSpaceOracle):
    """Exact pricing over listed patterns (``global`` if they are all there are)."""

    def __init__(self, problem: Problem, X: np.ndarray, biased: bool, arrangement: Arrangement) -> None:
        super().__init__(problem, X, biased)
        self.masks, self.complete = arrangement.masks().astype(np.float64), arrangement.complete
        self.gates = arrangement.gates

    def price(self, Z: np.ndarray) -> Price:
        value = float(np.max(np.abs(self.masks @ Z), initial=0.0))
        rounding = 1e-15 * float(np.sum(np.abs(Z)))
        return Price(value * (1.0 + 1e-12) + rounding, "global" if self.complete else "patterns", value)


def _halves(Z: np.ndarray) -> float:
    """``max(sum Z_+, sum Z_-)``: no set of samples holds more."""
    return float(max(np.sum(np.maximum(Z, 0.0)), np.sum(np.maximum(-Z, 0.0))))


class ShatteredOracle(HalfSpaceOracle):
    """Exact pricing where every 0/1 vector is a pattern (scope ``global``)."""

    def price(self, Z: np.ndarray) -> Price:
        value = _halves(Z)
        return Price(value * (1.0 + 1e-12), "global", value)


class SearchedOracle(HalfSpaceOracle):
    """Local search for half-spaces, and the bound of the shattered case for proofs (scope ``bounded``)."""

    def price(self, Z: np.ndarray) -> Price:
        value = _halves(Z)
        found = self.search(Z, self.X[:0])
        return Price(value * (1.0 + 1e-12), "bounded", min(found.best, value))

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.search(Z, self.gates_of(network)).best

    def search(self, Z: np.ndarray, starts: np.ndarray) -> HalfSpaces:
        """The judge's search: the same every time for the same dual variable and starts."""
        return search(self.X, Z, starts, np.random.default_rng(SEED))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        points = [Z, box_dual(self.problem)] if self.problem.loss.smooth else [Z]
        proofs = [scale(self.problem, z, _halves(z) * (1.0 + 1e-12)) for z in points]
        best = max(proofs, key=lambda proof: proof[1])
        return Proof(*best, "bounded")


def box_dual(problem: Problem) -> np.ndarray:
    """The dual variable of the shattered case: of the best prediction cut off at two levels.

    Without patterns to respect the program is ``minimise L(f) + beta (high - low)`` over ``low <= f <=
    high`` (with ``low <= 0 <= high`` unless there is an intercept), so a level is where the slopes of the
    samples that it cuts off add up to beta.

    Parameters
    ----------
    problem : Problem
        With a smooth loss.

    Returns
    -------
    ndarray of shape (n,)
    """
    y, s, loss, beta = problem.y, problem.weights, problem.loss, problem.beta

    def pull(level: float) -> np.ndarray:
        with np.errstate(over="ignore"):
            return -loss.gradient(np.full_like(y, level), y, s)

    def cut(side: float) -> float:
        def more(t: float) -> bool:
            return float(np.sum(np.maximum(side * pull(side * t), 0.0))) > beta

        low, high = 0.0, 1.0
        if not more(0.0):
            if not problem.intercept:
                return 0.0
            low, high = -1.0, 0.0
            while not more(low) and low > -1e30:
                low, high = 2.0 * low, low
        while more(high) and high < 1e30:
            low, high = high, 2.0 * high
        for _ in range(100):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if more(middle) else (low, middle)
        return side * high

    top, bottom = cut(1.0), cut(-1.0)
    if top < bottom:
        return problem.residual(np.zeros_like(y))
    Z = np.maximum(pull(top), 0.0) + np.minimum(pull(bottom), 0.0)
    return loss.balance(Z) if problem.intercept else Z
