r"""Networks and bounds from the completely positive program of training.

The training problem of two-layer networks of any width is linear in ``Lambda = sum_j xi_j xi_j'``, the
sum over lifted neurons (:mod:`cvxnn.bounds_lifts`), over the cone of such sums. Its semidefinite
relaxation gives a lower bound, and where the relaxation's Lambda is such a sum, the neurons of an optimal
network.

**Rounding.** Find W, a column ``(p, q, u, g)`` for each neuron, that is near ``Lambda = W W'``, lies in
the subspace ``p - q = Xu`` (projection Pi_C) and has ``p, q >= 0, p * q = 0`` (projection Pi_M, which is
not convex), by the three-operator splitting

    W = Pi_C(Z),   V = Pi_M(2 W - Z - 2 eta (W W' - Lambda) W),   Z <- Z + V - W,

from the eigenvectors of Lambda. The u and g of the columns are neurons, whatever the splitting has
reached: the network of them is judged by what it computes, and the best on the way by the training
objective is taken. From there training goes on as usual.

**Few patterns.** For several outputs Sahiner et al. eliminate the output weights and arrive at the
copositive program ``min 1/2 tr Y'(I + 2 sum_i D_i X U_i X' D_i)^-1 Y + beta^2 sum_i tr U_i`` over sums
U_i of ``uu'`` with u in cell i. Its relaxation, U_i semidefinite and ``A_i U_i A_i' >= 0`` entry by
entry, is the lifted program with a lift ``(u, g)`` for each cell; :func:`cell_bound` solves that, which
needs no elimination and so takes any loss.

References: Prakhya, Birdal and Yurtsever, "Convex formulations for training two-layer ReLU neural
networks", ICLR 2025 (program, relaxation and rounding); Davis and Yin, "A three-operator splitting
scheme", 2017; Sahiner, Ergen, Pauly and Pilanci, ICLR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_X_y

from .architectures.hidden import ReLUHidden
from .architectures.two_layer import with_constants
from .arrangement import Arrangement
from .bounds_lift_cells import cell_lifts
from .bounds_lifted import LiftedDual, lifted_dual
from .bounds_lifts import Lift, Lifts
from .certificate import Certificate, judge
from .families import get_architecture
from .feature_penalties import is_weight_decay
from .lifted_oracles import MOST_CELLS, choose, with_bound
from .losses import Loss, get_loss
from .network import Network
from .oracles import SearchOracle
from .parameters import check_alpha, check_weights
from .program import Problem
from .train import BOUND_ITER, Trained, train
from .vector_growth import Coupling
from .vector_oracles import VectorSearch

#: Iterations of the splitting after which a network is looked at, and its step relative to Lambda: stable
#: also where Lambda has rank one, which 0.75 is not.
STAGES, STEP = (0, 10, 30, 100, 300, 1000), 0.2
#: Neurons below this share of the largest are dropped after rounding.
DROP = 1e-6


@dataclass(frozen=True, eq=False)
class LiftedNetwork:
    """A network from the completely positive program.

    Attributes
    ----------
    network : Network
        The rounded one after training went on from it.
    certificate : Certificate
        Of `network`; its lower bound is the better of the relaxation's and the usual one.
    rounded : Network
        The network of the rounded neurons.
    rounded_objective : float
        Its objective per sample.
    lower_bound : float
        What the relaxation proves, per sample: no network of any width can be below.
    """

    network: Network
    certificate: Certificate
    rounded: Network
    rounded_objective: float
    lower_bound: float


def lifted_network(
    X: Any,
    y: Any,
    *,
    alpha: float,
    loss: str | Loss = "squared_error",
    hidden_bias: str | None = "penalized",
    fit_intercept: bool = True,
    sample_weight: Any = None,
    tol: float = 1e-6,
    max_time: float | None = None,
) -> LiftedNetwork:
    """Train a ReLU network through the semidefinite relaxation of its completely positive program.

    For few samples: about 20 with one output and 30 with several take a minute.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,), or (n, outputs)
        Numbers; for a loss of classes -1 and +1, or one-hot.
    alpha : float
        Strength of the weight decay per sample.
    loss : str or Loss
    hidden_bias : {"penalized", "free", None}
    fit_intercept : bool
    sample_weight : array-like of shape (n,), default=None
    tol, max_time
        Of the training that goes on from the rounded network; where it ends above `tol`, one from
        scratch follows.

    Returns
    -------
    LiftedNetwork

    Raises
    ------
    ValueError
        If the data cannot be used or are too many, or the loss has no conic form.
    """
    check_alpha(alpha)
    X, y = check_X_y(X, y, dtype=np.float64, y_numeric=True, multi_output=True)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    outputs = 1 if y.ndim == 1 else y.shape[1]
    weights = check_weights(sample_weight, X)
    given = Problem.from_alpha(X, y, weights, get_loss(loss, outputs), alpha, fit_intercept)
    architecture: Any = get_architecture("relu", hidden_bias, "auto", outputs)
    problem, design = architecture.problem_of(given), architecture.design(given)
    search: Any = SearchOracle(problem, design)
    if outputs > 1:
        search = VectorSearch(problem, design, Coupling.joint)
    lifted = choose(search)
    dual = _dual(lifted, problem)
    rounded = _rounded(problem, architecture, lifted, dual)
    trained = _trained(given, architecture, rounded, tol, max_time)
    arrangement = architecture.arrange(given, np.random.default_rng(0))
    oracle = with_bound(architecture.oracle(given, arrangement), "sdp")
    certificate = judge(
        trained.network, problem, architecture, oracle, duals=(trained.dual, dual.Z), max_iter=BOUND_ITER
    )
    total = problem.total_weight
    value = architecture.objective(problem, rounded) / total
    return LiftedNetwork(trained.network, certificate, rounded, value, dual.bound / total)


def _trained(
    problem: Problem, architecture: Any, start: Network, tol: float, max_time: float | None
) -> Trained:
    """The better of what training makes of a network and, where that is not enough, of none."""
    limits: dict[str, Any] = {"tol": tol, "max_time": max_time, "bound_iter": 0}
    first = train(problem, architecture, start=start if start.width else None, **limits)
    if first.certificate.search_gap <= tol or not start.width:
        return first
    second = train(problem, architecture, **limits)
    return min(first, second, key=lambda trained: trained.certificate.objective)


def _dual(lifted: Lifts, problem: Problem) -> LiftedDual:
    return lifted_dual(
        lifted, problem.y, problem.weights, problem.loss, problem.beta, intercept=problem.intercept
    )


def _rounded(problem: Problem, architecture: Any, lifted: Lifts, dual: LiftedDual) -> Network:
    """The best of the networks that the splitting passes through, by the training objective."""
    best = architecture.nothing(problem)
    if dual.moments is None:
        return best
    splits = [split(part, at) for part, at in zip(lifted.parts, dual.moments.matrices, strict=True)]
    least = problem.value(best(problem.X), 0.0)
    for stage in zip(*splits, strict=True):
        U, G = np.vstack([u for u, _ in stage]), np.vstack([g for _, g in stage])
        network = _network(problem, architecture, U, G, lifted.bias)
        value = architecture.objective(problem, network)
        best, least = (network, value) if value < least else (best, least)
    return best


def _network(problem: Problem, architecture: Any, U: np.ndarray, G: np.ndarray, unit: float) -> Network:
    """The network of rounded neurons, with its best constants; a free bias is measured in a unit."""
    design = architecture.design(problem)
    if design.free:
        U = U * np.append(np.ones(U.shape[1] - 1), unit)
    sizes = design.norms(U) * np.linalg.norm(G, axis=1)
    kept = sizes > DROP * np.max(sizes, initial=0.0)
    U, G = U[kept], G[kept]
    root = np.sqrt(np.linalg.norm(G, axis=1) / design.norms(U))[:, None]
    full, G = design.weights(U * root), G / root
    d = problem.X.shape[1]
    bias = np.zeros(len(full)) if architecture.hidden_bias is None else full[:, d]
    last = G[:, 0] if problem.y.ndim == 1 else G
    W = np.ascontiguousarray(full[:, :d].T)
    return with_constants(problem, Network.two_layer(W, bias, last))


def split(
    lift: Lift, matrix: np.ndarray, stages: tuple[int, ...] = STAGES
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Round the moments of a lift to neurons by three-operator splitting.

    Parameters
    ----------
    lift : Lift
        Of a single cell the eigenvectors are the neurons, at every stage.
    matrix : ndarray of shape (m, m)
    stages : tuple of int
        Iterations after which neurons are returned.

    Returns
    -------
    list of (U, G), a pair for each stage
        Input weights U (neurons, r) and output weights G (neurons, outputs).
    """
    if not lift.kinks:
        return [_eigenvectors(lift, matrix)] * len(stages)
    k, outputs = lift.kinks, lift.outputs.reshape(-1, lift.order)
    T = np.vstack([lift.nonnegative[: 2 * k], lift.weights, outputs])
    target = T @ matrix @ T.T
    size, basis = np.linalg.eigh(target)
    top = size > 1e-9 * max(size[-1], 0.0)
    r, found = len(lift.weights), []
    if not np.any(top) or size[-1] <= 0.0:
        return [(np.zeros((0, r)), np.zeros((0, len(outputs))))] * len(stages)
    Z = basis[:, top] * np.sqrt(size[top])
    project = T @ np.linalg.pinv(T)
    step = STEP / float(np.linalg.norm(target))
    W = project @ Z
    for done in range(max(stages) + 1):
        if done in stages:
            found.append((W[2 * k : 2 * k + r].T, W[2 * k + r :].T))
        V = 2.0 * W - Z - 2.0 * step * (W @ (W.T @ W) - target @ W)
        on, off = np.maximum(V[:k], 0.0), np.maximum(V[k : 2 * k], 0.0)
        V[:k], V[k : 2 * k] = np.where(on >= off, on, 0.0), np.where(on >= off, 0.0, off)
        Z = Z + V - W
        W = project @ Z
    return found


def _eigenvectors(lift: Lift, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neurons of a cell, each with the sign that is more in the cell."""
    size, basis = np.linalg.eigh(matrix)
    xi = basis * np.sqrt(np.maximum(size, 0.0))
    xi = xi * np.where(np.sum(lift.nonnegative @ xi, axis=0) < 0.0, -1.0, 1.0)
    return (lift.weights @ xi).T, (lift.outputs.reshape(-1, lift.order) @ xi).T


def cell_bound(problem: Problem, architecture: Any) -> LiftedDual:
    """Prove a lower bound by the copositive relaxation over all cells; for data with few patterns.

    Parameters
    ----------
    problem : Problem
    architecture : Architecture
        A two-layer family with one kink and weight decay.

    Returns
    -------
    LiftedDual
        At the scale of sums.

    Raises
    ------
    ValueError
        If the family has no such relaxation, or the data have too many patterns.
    """
    if not isinstance(architecture, ReLUHidden) or not is_weight_decay(architecture.penalty):
        raise ValueError(
            f"{architecture!r} has no relaxation over cells: pass a 'relu' network with weight decay"
        )
    if getattr(architecture, "coupling", "joint") != "joint":
        raise ValueError("the relaxation over cells is for coupling='joint': pass that")
    if getattr(architecture, "skip", False):
        raise ValueError("the relaxation over cells knows no linear neurons: pass skip=False")
    problem, design = architecture.problem_of(problem), architecture.design(problem)
    drawn = Arrangement.enumerate(design.X, limit=MOST_CELLS)
    if not drawn.complete:
        raise ValueError("rounding leaves the patterns in doubt: pass bound='sdp' to certify instead")
    outputs = 1 if problem.y.ndim == 1 else problem.y.shape[1]
    lifted = cell_lifts(
        design.X,
        drawn.masks(),
        outputs,
        free=design.free,
        slope=design.slope,
        resolution=drawn.resolution,
    )
    return _dual(lifted, problem)
