r"""The threshold alpha_max: from there on the best network is a constant.

The zero network with its best constant is optimal if and only if its dual variable ``Z0 = -grad L`` is
dual feasible, that is if no neuron of unit cost correlates with it more than beta. So

    alpha_max = M(Z0) / sum_i s_i,     M(Z) = max over neurons of unit cost of |Z'(Xu)_+|,

where every pattern's maximum is over its own cone. Without the cones one gets the norms ``||X'D Z0||``:
right for gated networks, too large for ReLU networks.

Where the loss has kinks at the best constant (all samples of the larger class, for a hinge loss with an
intercept) Z0 is one of many, every one proves an upper bound, and alpha_max is the least of them. It is
then enclosed by trainings to a gap of 1e-7: a network f of cost R with ``L(f) < L(c)`` shows ``beta_max
>= (L(c) - L(f)) / R``.

Reference: Pilanci and Ergen, ICML 2020, section 3 (the dual constraint).
"""

from __future__ import annotations

import numpy as np

from .architectures import Architecture
from .certificate import Price
from .network import Network
from .program import Status
from .train import Ground, train

#: Rounds in which training at the threshold may find that the search for it fell short.
RAISES = 5
#: Trainings that enclose the threshold of a loss with kinks at most, and how closely they do, for exact
#: oracles and for others.
TRAININGS, CLOSE, NEAR = 30, 1e-6, 1e-2


def threshold(architecture: Architecture, ground: Ground, *, random_state: int = 0) -> tuple[float, float]:
    """Return alpha_max as found and as proven.

    Where the oracle is exact the two agree up to rounding; of a loss with kinks the second then rests on
    trainings to a gap of 1e-7, and is no proof. Otherwise the first is the best of a search
    and of trainings at the value that the search found: a network that is not zero there raises it,
    because ``Z0'f / R`` is a mean of its neurons' prices.

    Parameters
    ----------
    architecture : Architecture
    ground : Ground
        Of the problem; its beta does not matter.
    random_state : int

    Returns
    -------
    found, bound : float
        Per sample; both 0 where a constant explains everything.

    Raises
    ------
    KeyboardInterrupt
        If interrupted.
    """
    problem = ground.oracle.problem
    architecture, total = architecture.on(problem), problem.total_weight
    Z = problem.residual(np.zeros_like(problem.y))
    if np.sum(np.abs(Z)) <= 1e-12 * np.sum(problem.weights @ np.abs(problem.y)):
        return 0.0, 0.0  # the best constant leaves nothing to explain
    zero = architecture.nothing(problem)
    price = ground.oracle.price(Z)
    if not problem.loss.smooth:
        return _enclose(architecture, ground, price, random_state)
    found = max(price.found, ground.oracle.found(Z, zero)) / total
    if price.scope == "bounded" and found > 0.0:
        for _ in range(RAISES):
            network = _network_at(found, architecture, ground, random_state)
            cost = architecture.cost(network)
            if network.width == 0 or cost == 0.0:
                break
            found = max(found, float(np.sum(Z * network(problem.X))) / (cost * total))
    bound = max(price.value / total, found)
    return found, bound


def _network_at(
    alpha: float, architecture: Architecture, ground: Ground, random_state: int, tol: float = 1e-5
) -> Network:
    """Train at one strength, without a proof.

    Raises
    ------
    KeyboardInterrupt
        If interrupted: a network of half a training says nothing about the threshold.
    """
    trained = train(
        ground.oracle.problem.at(alpha),
        architecture,
        tol=tol,
        random_state=random_state,
        bound_iter=0,
        ground=ground,
    )
    if trained.status is Status.interrupted:
        raise KeyboardInterrupt
    return trained.network


def _enclose(
    architecture: Architecture, ground: Ground, price: Price, random_state: int
) -> tuple[float, float]:
    """The threshold of a loss with kinks, from below by networks and from above by certificates."""
    problem = ground.oracle.problem
    total, null = problem.total_weight, problem.null_value()
    low, high, close = 0.0, price.value, NEAR if price.scope == "bounded" else CLOSE
    beta = (1.0 - 0.5 * close) * high
    for _ in range(TRAININGS):
        if high <= low * (1.0 + close):
            break
        network = _network_at(beta / total, architecture, ground, random_state, tol=1e-7)
        cost, f = architecture.cost(network), network(problem.X)
        gain = null - problem.loss.value(f, problem.y, problem.weights)
        if cost > 0.0 and gain > beta * cost + 1e-12 * null:
            low = max(low, gain / cost)
        else:
            high = beta
        beta = float(np.sqrt(low * high)) if low > 0.0 else 0.5 * high
        beta = max(beta, low * (1.0 + 0.25 * close))
    # what training cannot prove is not proven: then the first upper bound stays
    bound = high if price.scope != "bounded" else price.value
    return low / total, max(bound / total, low / total)
