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

**Pooled rows, windows.** A convolutional neuron sees rows x_ik, adds up the ``p_ik - s q_ik`` of a window,
and has an output weight for each window p (a vector g_p, with several outputs). Its gain is ``sum_ip
z_i'g_p phi_ip``: the same coordinates, with a q for every row and the g of all windows side by side.

Cells of an arrangement have lifts of their own, :mod:`cvxnn.bounds_lift_cells`, and so have neurons that
take the largest of their rows, :mod:`cvxnn.bounds_lift_chains`, and those whose weights pay another norm,
:mod:`cvxnn.bounds_lift_norms`.

What a lift takes for equal, as outputs on rows that are nearly parallel, is *lost*, and paid for in the
price.

References: Prakhya, Birdal and Yurtsever, "Convex formulations for training two-layer ReLU neural
networks", ICLR 2025; Sahiner, Ergen, Pauly and Pilanci, ICLR 2021. The products with h and a are those of
the reformulation-linearisation technique (Sherali and Adams, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
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
    hidden : ndarray of shape (windows, n, m)
        The outputs phi_i of the hidden neuron in every window; most have one.
    outputs : ndarray of shape (windows, outputs, m)
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
    kinks : int
        The first so many functions, times the next so many, vanish.
    """

    nonnegative: np.ndarray
    hidden: np.ndarray
    outputs: np.ndarray
    weights: np.ndarray
    cost: np.ndarray
    vanishing: np.ndarray
    positive: np.ndarray
    size: float
    kinks: int = 0

    @property
    def order(self) -> int:
        """The number of coordinates m."""
        return len(self.cost)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which functions to multiply: all pairs but those whose product is known to vanish."""
        first, second = np.triu_indices(len(self.nonnegative), 1)
        trivial = (second - first == self.kinks) & (first < self.kinks)
        return first[~trivial], second[~trivial]

    def gain(self, Z: np.ndarray) -> np.ndarray:
        """Return the symmetric matrix of the gain for ``Z`` (n,) or (n, outputs), shape (m, m)."""
        Z = Z.reshape(len(Z), -1)
        K = sum(h.T @ Z @ g for h, g in zip(self.hidden, self.outputs, strict=True))
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


class TooLarge(ValueError):
    """A lifted program has more unknowns than can be solved for."""


def check_count(rows: int) -> None:
    """Raise TooLarge where there are so many rows that counting unknowns is no use."""
    if rows > MOST_SAMPLES:
        raise TooLarge(
            f"the lifted bound is for up to {MOST_SAMPLES} samples (or patches, of convolutions) and "
            f"practical for some dozens, here are {rows}: pass bound='auto', or fewer samples"
        )


def unknowns(order: int, functions: int) -> int:
    """Return the unknowns of a lift of some order: entries of a triangle and multipliers of products."""
    return order * (order + 1) // 2 + functions * (functions - 1) // 2


def check_size(unknowns: int, most: int) -> None:
    """Raise TooLarge where a lifted program has too many unknowns."""
    if unknowns > most:
        raise TooLarge(
            f"the lifted bound has {unknowns} unknowns here, at most {most} are practical: pass "
            "bound='auto', or fewer samples (of convolutions, fewer patches: a larger stride)"
        )


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


def in_windows(lift: Lift, pool: int, windows: int) -> Lift:
    """Return the lift of neurons whose rows are added up, from one whose rows are samples.

    Parameters
    ----------
    lift : Lift
        Of one window and ``windows * outputs`` outputs, those of one window next to each other.
    pool, windows : int
        Rows of a window, and windows of a sample.
    """
    if pool * windows == 1:
        return lift
    rows = lift.hidden.reshape(-1, windows, pool, lift.order)
    outputs = lift.outputs.reshape(windows, -1, lift.order)
    return replace(lift, hidden=np.swapaxes(np.sum(rows, axis=2), 0, 1), outputs=outputs)


def rounding_of_sums(reach: np.ndarray, pool: int) -> np.ndarray:
    """What rounding may do to the output of a unit neuron on rows that are added up, by their reaches."""
    return 4.0 * pool * _EPS * reach if pool > 1 else np.zeros(len(reach))


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The forms ``a_k(xi) b_k(xi)``."""
    outer = np.einsum("ki,kj->kij", a, b)
    return 0.5 * (outer + np.swapaxes(outer, 1, 2))


def bias_form(u: np.ndarray, free: int) -> tuple[np.ndarray, np.ndarray]:
    """The form of the penalised weights, and what is left of a free bias within its reach."""
    penalised = u[: len(u) - free]
    square = penalised.T @ penalised
    bias = u[len(u) - free :]
    return square, square[None] - product(bias, bias) if free else np.zeros((0, *square.shape))


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
    for h, g in zip(lift.hidden, lift.outputs, strict=True):
        size = size + np.abs(h).T @ np.abs(Z.reshape(len(Z), -1)) @ np.abs(g)
    terms = 2 * (len(B) + len(lift.hidden) * len(Z) + lift.order + len(lift.vanishing))
    rounding = 4.0 * terms * _EPS * float(np.linalg.norm(size))
    return max(0.0, rounding - float(np.linalg.eigvalsh(G)[0]))
