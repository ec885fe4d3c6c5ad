r"""Lower bounds by lifting neurons: the completely positive program, relaxed to semidefinite ones.

The training problem of a two-layer network of any width is a completely positive program (Prakhya, Birdal
and Yurtsever): linear in the sum of ``xi xi'`` over the neurons. Replacing "sums of such products" by
"positive semidefinite, with nonnegative products where factors are not negative" can only lower its
minimum, for every convex loss, any number of outputs and every bias: a lower bound for networks of every
width.

It is taken from the dual side, where nothing has to be trusted. The solver's point has a dual variable Z
and multipliers; :func:`cvxnn.bounds_lifts.proven_price` turns these, whatever they are worth, into a
proven upper bound of the price ``M(Z)``, and Z is scaled by it like any other dual variable. So the
program chooses Z (:func:`lifted_dual`), or it bounds the price of a given one (:func:`lifted_price`).

Two relaxations are known here (:mod:`cvxnn.bounds_lifts`): *tight*, for one output per neuron, with a
lift for each sign of it, and the one of Prakhya et al. Cells give a third, the copositive
relaxation of Sahiner et al. for data with few patterns. Convolutions lift by their patches, neurons of
max pooling as chains of ReLUs (:mod:`cvxnn.bounds_lift_chains`), and other norms of hidden weights with
the sizes of their groups (:mod:`cvxnn.bounds_lift_norms`).

**Cost.** Matrices have order ``n + r + 1`` twice (tight), or ``n + r + outputs`` once, for n distinct
directions of samples and rank r; over cells there are as many as patterns, of order ``r + outputs``. CPU
seconds on one core, r = 4 (over cells 3), one output (tight) or three:

    n                      10      20      30      40      60
    tight                 0.2     1.1     3.3      29
    Prakhya et al.        0.1     0.3     1.4       4      23
    over cells            0.4     3.0              19

Of convolutions n is the number of distinct patches of all samples. Gaps of trained networks on digits of
4 x 4 pixels, one output, squared loss, alpha = 0.01, four patches of 2 x 2 each (circular: the whole
image), and CPU seconds of the lifted bound on a busy core:

    gap (usual, lifted)   10 samples              20 samples
    windows of their own  0.175   0.0003   16 s   0.538   0.0004   300 s
    pooled by means       0.466   0.022     6 s   0.506   0.022    247 s
    max pooling           0.842   0.152     5 s   0.870   0.158     87 s
    circular              0.612   0.013    25 s   0.653   0.043     29 s

References: Prakhya, Birdal and Yurtsever, ICLR 2025; Sahiner, Ergen, Pauly and Pilanci, ICLR 2021; Burer,
"On the copositive representation of binary and continuous nonconvex quadratic programs", 2009.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from .bounds_lifts import Lifts, proven_price
from .bounds_moments import Moments, price_moments, program_moments
from .losses import Loss

#: Attempts to solve a program, each in another unit, until its gap is this share of the first.
ATTEMPTS, CLOSE = 4, 1e-7
#: Share by which prices are raised, for the rounding of the sums of a dual variable.
ROUNDING = 1e-12

# Many short BLAS calls: threads that wait for one another cost more than they save.
_one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
_quiet = np.errstate(all="ignore")


@dataclass(frozen=True, eq=False)
class LiftedDual:
    """A feasible dual point of a lifted program and what it proves.

    Attributes
    ----------
    Z : ndarray of shape (n,) or (n, outputs)
        Scaled until it is feasible.
    bound : float
        No network of the family, of any width, has a lower training objective.
    moments : Moments or None
        The solver's point; None if it had none.
    """

    Z: np.ndarray
    bound: float
    moments: Moments | None


@_one_thread
@_quiet
def lifted_price(lifted: Lifts, Z: np.ndarray, *, max_time: float = float("inf")) -> float:
    """Bound the price ``max |Z'phi(Xu)|`` over unit neurons from above.

    Parameters
    ----------
    lifted : Lifts
    Z : ndarray of shape (n,) or (n, outputs)
        With a free hidden bias its columns have to sum to zero.
    max_time : float
        Seconds for the solver.

    Returns
    -------
    float
        Infinity if the solver fails.
    """
    size = float(np.max(np.abs(Z), initial=0.0))
    if size == 0.0:
        return 0.0
    moments = price_moments(lifted, Z / size, max_time)
    if moments is None:
        return float("inf")
    value = proven_price(lifted, Z / size, moments.kappa, moments.multipliers)
    return value * size * (1.0 + ROUNDING)


@_one_thread
@_quiet
def lifted_dual(
    lifted: Lifts,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    *,
    intercept: bool,
    max_time: float = float("inf"),
) -> LiftedDual:
    """Solve the lifted program of a training problem, and prove a lower bound from its dual point.

    Parameters
    ----------
    lifted : Lifts
    y : ndarray of shape (n,) or (n, outputs)
    s : ndarray of shape (n,)
    loss : Loss
    beta : float
        Price of a neuron of norm one.
    intercept : bool
        Whether columns of the dual variable have to sum to zero.
    max_time : float
        Seconds for the solver.

    Raises
    ------
    ValueError
        If the loss has no conic form.
    """
    form = loss.conic(y, s)
    if form is None:
        raise ValueError(
            f"the lifted bound needs a conic form, which loss={loss.name!r} has not: pass bound='auto'"
        )
    zero = np.zeros_like(y)
    best = LiftedDual(zero, loss.dual(zero, y, s), None)
    gap = loss.value(zero, y, s) - best.bound
    if not gap > 0.0 or not any(part.order for part in lifted.parts):
        return best
    mass, begin = 0.3 * gap / beta, time.perf_counter()
    for _ in range(ATTEMPTS):
        left = max_time - (time.perf_counter() - begin)
        moments = program_moments(
            lifted, form, beta, y.shape, intercept=intercept, mass=mass, max_time=left
        )
        if moments is None:
            mass *= 0.03
            continue
        best = _better(best, lifted, moments, y, s, loss, beta, intercept)
        f, cost = moments.prediction, _cost(lifted, moments)
        assert f is not None
        if loss.value(f, y, s) + beta * cost - best.bound <= CLOSE * gap:
            break
        # where the solver stalls, another unit of the matrices is what helps
        mass = float(np.clip(cost, 1e-6 * gap / beta, gap / beta)) * (1.0 if mass > 1.1 * cost else 0.1)
    return best


def _cost(lifted: Lifts, moments: Moments) -> float:
    """The cost of the lifted network."""
    pairs = zip(lifted.parts, moments.matrices, strict=True)
    return sum(float(np.sum(part.cost * matrix)) for part, matrix in pairs)


def _better(
    best: LiftedDual,
    lifted: Lifts,
    moments: Moments,
    y: np.ndarray,
    s: np.ndarray,
    loss: Loss,
    beta: float,
    intercept: bool,
) -> LiftedDual:
    """The best proof among one and those that a solver's point gives."""
    if best.moments is None:
        best = LiftedDual(best.Z, best.bound, moments)
    for Z in _candidates(moments, y, s, loss, intercept):
        price = proven_price(lifted, Z, beta, moments.multipliers) * (1.0 + ROUNDING)
        t = loss.best_scale(Z, y, s, beta / price if price > 0.0 else float("inf"))
        bound = loss.dual(t * Z, y, s)
        if np.isfinite(t) and bound > best.bound:
            best = LiftedDual(t * Z, bound, moments)
    return best


def _candidates(
    moments: Moments, y: np.ndarray, s: np.ndarray, loss: Loss, intercept: bool
) -> list[np.ndarray]:
    """The solver's dual variable, and that of its prediction, which is in the domain for sure."""
    f = moments.prediction
    assert f is not None
    Z = loss.nearest(moments.Z, y, s)
    if not intercept:
        found = [Z, -loss.gradient(f, y, s)]
    else:
        f = f + loss.intercept(f, y, s)
        found = [loss.balance(Z), loss.balanced(-loss.gradient(f, y, s), f, y, s)]
    return [Z for Z in found if np.all(np.isfinite(Z))]
