r"""Coordinates of lifted neurons, and the inequality that proves a price from multipliers.

A neuron with input weights u and output weights g is a point ``xi = (q, u, g)`` with ``q_i =
(-x_i'u)_+``: then ``p_i = q_i + x_i'u`` is its output on sample i, so that ``p - q = Xu`` holds by
construction (Prakhya et al. have p as a coordinate of its own; leaving it out makes the cone smaller by n
and gives it an interior). On the coordinates live, for every true neuron,

- linear functions ``b_k'xi`` that are not negative: all p_i and q_i;
- quadratic forms that vanish: ``p_i q_i``;
- its cost ``xi'C xi = 1/2 (|u|^2 + |g|^2)`` and its gain ``xi'K(Z) xi = sum_i z_i'g phi_i``, with the
  output ``phi_i = p_i - s q_i`` of an activation of slope s.

Hence, for any multipliers ``N_kl >= 0``, ``e`` and any number kappa: if

    G = kappa C + sum_j e_j E_j - sum_kl N_kl (b_k b_l' + b_l b_k') / 2 - K(Z)

is positive semidefinite, then ``0 <= xi'G xi <= kappa - gain`` for neurons of cost one: kappa bounds the
price of Z over all neurons. No solver leaves G exactly semidefinite. With smallest eigenvalue -delta the
same line proves

    price(Z)  <=  kappa + delta * max |xi|^2,

as ``|xi|^2 <= sum_i max |x_i'u|^2 + |u|^2 + |g|^2`` is known. So every set of multipliers proves
something, and delta includes what rounding may hide in G and its eigenvalue.

**One output, tighter.** There a neuron has ``g = h`` or ``g = -h`` with ``h = |u| > 0`` after rescaling,
and each sign is a lift of its own, with coordinates (q, u, h). This has more products of things that are
not negative: h itself, and ``a_i = r_i h - p_i - q_i`` with ``r_i >= |x_i|``. ``|u|^2 - h^2`` vanishes,
and the cost is h^2. It contains the program with g as a coordinate, whose pairs (u, g) and (-u, -g) it
tells apart. For several outputs h adds nothing, as products with g have no sign.

Cells of an arrangement have lifts of their own, see :mod:`cvxnn.bounds_lift_cells`.

Rows are divided by powers of two, which is exact, to about unit length. Rows that are parallel share a
coordinate; what that changes in them is *lost*, and paid for in the price.

References: Prakhya, Birdal and Yurtsever, "Convex formulations for training two-layer ReLU neural
networks", ICLR 2025; Sahiner, Ergen, Pauly and Pilanci, ICLR 2021. The products with h and a are those of
the reformulation-linearisation technique (Sherali and Adams, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
#: Directions closer than this are one, as far as coordinates go.
PARALLEL = 1e-12
#: Unknowns of a lifted program beyond which it is refused (of one over cells, whose matrices are small),
#: and samples beyond which they are not counted.
MOST_UNKNOWNS, MOST_CELL_UNKNOWNS, MOST_SAMPLES = 20_000, 60_000, 2000


@dataclass(frozen=True, eq=False)
class Lift:
    """Coordinates of some of the neurons, and what is known of them.

    Parameters
    ----------
    nonnegative : ndarray of shape (k, m)
        Linear functions of the coordinates that are not negative.
    hidden : ndarray of shape (n, m)
        The outputs phi_i of the hidden neuron.
    outputs : ndarray of shape (outputs, m)
        Its output weights.
    weights : ndarray of shape (r, m)
        Its input weights.
    cost : ndarray of shape (m, m)
        The form that is 1 at neurons of cost one.
    vanishing : ndarray of shape (e, m, m)
        Forms that are 0.
    positive : ndarray of shape (f, m, m)
        Forms that are not negative.
    size : float
        A bound of ``|xi|^2`` at neurons of cost one.
    """

    nonnegative: np.ndarray
    hidden: np.ndarray
    outputs: np.ndarray
    weights: np.ndarray
    cost: np.ndarray
    vanishing: np.ndarray
    positive: np.ndarray
    size: float

    @property
    def order(self) -> int:
        """The number of coordinates m."""
        return len(self.cost)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which functions to multiply: all pairs but those whose product is known to vanish."""
        first, second = np.triu_indices(len(self.nonnegative), 1)
        known = len(self.vanishing) - (1 if self.tight else 0)
        trivial = (second - first == known) & (first < known)
        return first[~trivial], second[~trivial]

    @property
    def tight(self) -> bool:
        """Whether the last coordinate is the norm of the neuron."""
        return bool(self.cost[-1, -1] == 1.0)

    def gain(self, Z: np.ndarray) -> np.ndarray:
        """Return the symmetric matrix of the gain for ``Z`` (n,) or (n, outputs), shape (m, m)."""
        K = self.hidden.T @ Z.reshape(len(self.hidden), -1) @ self.outputs
        return 0.5 * (K + K.T)


@dataclass(frozen=True, eq=False)
class Lifts:
    """Lifts that together have all neurons of a problem.

    Parameters
    ----------
    parts : tuple of Lift
    lost : ndarray of shape (n,)
        What the output of a unit neuron on a sample may differ from its lift's by.
    bias : float
        What a free bias is measured in.
    """

    parts: tuple[Lift, ...]
    lost: np.ndarray
    bias: float = 1.0


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Multipliers of one lift.

    Parameters
    ----------
    vanishing : ndarray of shape (e,)
    positive : ndarray of shape (f,), entries >= 0
    products : ndarray of shape (k, k), symmetric, entries >= 0
    """

    vanishing: np.ndarray
    positive: np.ndarray
    products: np.ndarray


@dataclass(frozen=True, eq=False)
class Directions:
    """Distinct directions of the samples: ``x_i`` is nearly ``factor_i * unit[owner_i]``."""

    unit: np.ndarray
    owner: np.ndarray
    factor: np.ndarray
    lost: np.ndarray


def directions_of(X: np.ndarray) -> Directions:
    """Find the directions among the rows; rows of zeros belong to none (factor 0)."""
    norms = np.linalg.norm(X, axis=1)
    # a direction is known by its row with the sign that makes its largest entry positive
    largest = np.take_along_axis(X, np.argmax(np.abs(X), axis=1)[:, None], axis=1)[:, 0]
    ways = X * (np.sign(largest) / np.where(norms > 0, norms, 1.0))[:, None]
    units: list[np.ndarray] = []
    firsts: list[int] = []
    owner, factor = np.zeros(len(X), dtype=int), np.zeros(len(X))
    lost = np.zeros(len(X))
    for i in np.flatnonzero(norms > 0).tolist():
        gaps = np.linalg.norm(ways[firsts] - ways[i], axis=1) if firsts else np.ones(0)
        near = np.flatnonzero(gaps <= PARALLEL)
        if len(near):
            owner[i] = near[0]
            unit, first = units[near[0]], firsts[near[0]]
            factor[i] = np.sign(largest[i] * largest[first]) * norms[i] / np.linalg.norm(unit)
            miss = float(np.linalg.norm(X[i] - factor[i] * unit))
            lost[i] = 0.0 if np.array_equal(X[i], factor[i] * unit) else miss + 8.0 * _EPS * norms[i]
        else:
            owner[i], factor[i] = len(units), 2.0 ** np.ceil(np.log2(norms[i]))
            units.append(X[i] / factor[i])
            firsts.append(i)
    return Directions(np.array(units).reshape(-1, X.shape[1]), owner, factor, lost)


class TooLarge(ValueError):
    """A lifted program has more unknowns than can be solved for."""


def count_unknowns(X: np.ndarray, outputs: int, *, tight: bool = True, separate: bool = False) -> int:
    """Return the size of a lifted program: entries of triangles and multipliers of products.

    Parameters
    ----------
    X, outputs, tight, separate
        As in :func:`lifts`.

    Raises
    ------
    TooLarge
        If there are so many samples that counting is no use.
    """
    if len(X) > MOST_SAMPLES:
        raise TooLarge(
            f"the lifted bound is for up to {MOST_SAMPLES} samples and practical for some dozens, X has "
            f"{len(X)}: pass bound='auto', or fewer samples"
        )
    k, r = directions_of(X).unit.shape
    if separate or (tight and outputs == 1):
        m, functions, parts = k + r + 1, 3 * k + 1, 2 * outputs
    else:
        m, functions, parts = k + r + outputs, 2 * k, 1
    return parts * (m * (m + 1) // 2 + functions * (functions - 1) // 2)


def check_size(unknowns: int, most: int) -> None:
    """Raise TooLarge where a lifted program has too many unknowns."""
    if unknowns > most:
        raise TooLarge(
            f"the lifted bound has {unknowns} unknowns here, at most {most} are practical: pass "
            "bound='auto', or fewer samples"
        )


def lifts(
    X: np.ndarray,
    outputs: int,
    *,
    free: int = 0,
    slope: float = 0.0,
    tight: bool = True,
    separate: bool = False,
    most: int = MOST_UNKNOWNS,
) -> Lifts:
    """Return the lifts of the neurons on a design matrix.

    Parameters
    ----------
    X : ndarray of shape (n, r)
    outputs : int
    free : {0, 1}
        1 if the last column of X is the constant of a bias that is not penalised; dual variables must
        then sum to zero.
    slope : float
        Of the activation on its negative side.
    tight : bool
        Whether neurons of one output are told apart by their sign.
    separate : bool
        Whether each neuron has one output only.
    most : int
        Unknowns that are acceptable.

    Raises
    ------
    TooLarge
        If the program would have more.
    """
    check_size(count_unknowns(X, outputs, tight=tight, separate=separate), most)
    X, bias = bounded_bias(X, free)
    rows = directions_of(X)
    ways = 1 if outputs == 1 or separate else 0
    if ways and (tight or separate):
        parts = [
            _signed(rows, outputs, k, sign, free, slope) for k in range(outputs) for sign in (1.0, -1.0)
        ]
    else:
        parts = [_joint(rows, outputs, free, slope)]
    return Lifts(tuple(parts), rows.lost * np.sqrt(1.0 + free), bias)


def bounded_bias(X: np.ndarray, free: int) -> tuple[np.ndarray, float]:
    """Measure a free bias in the largest one that a unit neuron needs: beyond it all samples are on, or all
    off."""
    if not free:
        return X, 1.0
    rows = X[:, :-1]
    norms = np.linalg.norm(rows, axis=1)
    # a power of two, so that nothing is rounded
    reach = float(2.0 ** np.ceil(np.log2(np.max(norms, initial=0.0) * (1.0 + 1e-12) or 1.0)))
    return np.column_stack([rows, reach * np.ones(len(X))]), reach


def _coordinates(rows: Directions, extra: int) -> tuple[np.ndarray, ...]:
    """The functions p, q, u and the extra coordinates, each a matrix with a row for each."""
    k, r = rows.unit.shape
    eye = np.eye(k + r + extra)
    q, u = eye[:k], eye[k : k + r]
    return q + rows.unit @ u, q, u, eye[k + r :]


def _hidden(rows: Directions, p: np.ndarray, q: np.ndarray, slope: float) -> np.ndarray:
    """The outputs of a neuron; a sample on the far side of a direction has p and q exchanged."""
    if not len(p):
        return np.zeros((len(rows.factor), p.shape[1]))
    on, off = p[rows.owner], q[rows.owner]
    turned = (rows.factor < 0)[:, None]
    size = np.abs(rows.factor)[:, None]
    return size * (np.where(turned, off, on) - slope * np.where(turned, on, off))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The forms ``a_k(xi) b_k(xi)``."""
    outer = np.einsum("ki,kj->kij", a, b)
    return 0.5 * (outer + np.swapaxes(outer, 1, 2))


def bias_form(u: np.ndarray, free: int) -> tuple[np.ndarray, np.ndarray]:
    """The form of the penalised weights, and what is left of a free bias within its reach."""
    penalised = u[: len(u) - free]
    square = penalised.T @ penalised
    bias = u[len(u) - free :]
    return square, square[None] - _product(bias, bias) if free else np.zeros((0, *square.shape))


def _signed(rows: Directions, outputs: int, which: int, sign: float, free: int, slope: float) -> Lift:
    """The lift of the neurons with one output weight, of one sign."""
    p, q, u, h = _coordinates(rows, 1)
    reach = np.linalg.norm(rows.unit, axis=1) * (1.0 + 1e-14)
    if free:
        reach = (np.linalg.norm(rows.unit[:, :-1], axis=1) + np.abs(rows.unit[:, -1])) * (1.0 + 1e-14)
    square, positive = bias_form(u, free)
    cost = h.T @ h
    weights = np.zeros((outputs, len(cost)))
    weights[which] = sign * h[0]
    return Lift(
        np.vstack([p, q, reach[:, None] * h - p - q, h]),
        _hidden(rows, p, q, slope),
        weights,
        u,
        cost,
        np.concatenate([_product(p, q), (square - cost)[None]]),
        positive,
        float(np.sum(reach**2)) + 2.0 + free,
    )


def _joint(rows: Directions, outputs: int, free: int, slope: float) -> Lift:
    """The lift of all neurons, their output weights coordinates of their own."""
    p, q, u, g = _coordinates(rows, outputs)
    square, positive = bias_form(u, free)
    reach = np.linalg.norm(rows.unit, axis=1) * np.sqrt(1.0 + free) * (1.0 + 1e-14)
    return Lift(
        np.vstack([p, q]),
        _hidden(rows, p, q, slope),
        g,
        u,
        0.5 * (square + g.T @ g),
        _product(p, q),
        positive,
        float(np.sum(reach**2)) + 2.0 + free,
    )


def proven_price(lifted: Lifts, Z: np.ndarray, kappa: float, multipliers: tuple[Multipliers, ...]) -> float:
    """Return the price that multipliers prove, rounding included.

    Parameters
    ----------
    lifted : Lifts
    Z : ndarray of shape (n,) or (n, outputs)
    kappa : float
    multipliers : tuple of Multipliers, one for each lift
    """
    worst = max(0.0, kappa)
    for lift, given in zip(lifted.parts, multipliers, strict=True):
        worst = max(worst, kappa + _shortfall(lift, Z, kappa, given) * lift.size)
    rows = np.linalg.norm(Z.reshape(len(Z), -1), axis=1)
    return worst * (1.0 + 4.0 * _EPS) + float(rows @ lifted.lost) * (1.0 + 1e-12)


def _shortfall(lift: Lift, Z: np.ndarray, kappa: float, given: Multipliers) -> float:
    """How far below zero the smallest eigenvalue of G may be; 0 if it is not."""
    B, N = lift.nonnegative, np.maximum(given.products, 0.0)
    N = 0.5 * (N + N.T)
    extra = np.maximum(given.positive, 0.0)
    G = kappa * lift.cost - B.T @ N @ B - lift.gain(Z)
    G = G + np.tensordot(given.vanishing, lift.vanishing, 1) - np.tensordot(extra, lift.positive, 1)
    G = 0.5 * (G + G.T)
    if not np.all(np.isfinite(G)):
        return float("inf")
    # the same sums of absolute values bound the rounding of all entries
    size = abs(kappa) * np.abs(lift.cost) + np.abs(B).T @ N @ np.abs(B)
    size = size + np.tensordot(np.abs(given.vanishing), np.abs(lift.vanishing), 1)
    size = size + np.tensordot(extra, np.abs(lift.positive), 1)
    size = size + np.abs(lift.hidden).T @ np.abs(Z.reshape(len(Z), -1)) @ np.abs(lift.outputs)
    terms = 2 * (len(B) + len(Z) + lift.order + len(lift.vanishing))
    rounding = 4.0 * terms * _EPS * float(np.linalg.norm(size))
    return max(0.0, rounding - float(np.linalg.eigvalsh(G)[0]))
