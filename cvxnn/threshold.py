r"""The threshold alpha_max: from there on the best network is a constant.

The zero network with its best constant is optimal if and only if its dual variable ``Z0 = -grad L`` is
dual feasible, that is if no neuron of unit cost correlates with it more than beta. So

    alpha_max = M(Z0) / sum_i s_i,     M(Z) = max over neurons of unit cost of |Z'(Xu)_+|,

where every pattern's maximum is over its own cone. Without the cones one gets the norms ``||X'D Z0||``:
right for gated networks, too large for ReLU networks.

Reference: Pilanci and Ergen, ICML 2020, section 3 (the dual constraint).
"""

from __future__ import annotations

import numpy as np

from .architectures import Architecture
from .program import Status
from .train import Ground, nothing, train

#: Rounds in which training at the threshold may find that the search for it fell short.
RAISES = 5


def threshold(architecture: Architecture, ground: Ground, *, random_state: int = 0) -> tuple[float, float]:
    """Return alpha_max as found and as proven.

    Where the oracle is exact the two agree up to rounding. Otherwise the first is the best of a search
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
    total = problem.total_weight
    Z = problem.residual(np.zeros_like(problem.y))
    if np.sum(np.abs(Z)) <= 1e-12 * np.sum(problem.weights * np.abs(problem.y)):
        return 0.0, 0.0  # the best constant leaves nothing to explain
    zero = nothing(problem, architecture)
    price = ground.oracle.price(Z)
    found = max(price.found, ground.oracle.found(Z, zero)) / total
    if price.scope == "bounded" and found > 0.0:
        for _ in range(RAISES):
            trained = train(
                problem.at(found),
                architecture,
                random_state=random_state,
                bound_iter=0,
                ground=ground,
            )
            if trained.status is Status.interrupted:
                raise KeyboardInterrupt
            network = trained.network
            cost = architecture.cost(network)
            if network.width == 0 or cost == 0.0:
                break
            found = max(found, float(Z @ network(problem.X)) / (cost * total))
    bound = max(price.value / total, found)
    return found, bound
