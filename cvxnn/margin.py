r"""The judge of separating networks: norm, proven bound, and KKT residuals.

A homogeneous network of least margin m has, scaled to margin one, the norm R / m. It is a KKT point of
:mod:`cvxnn.max_margin`'s program if there are multipliers lambda >= 0 of its samples of least margin with

    s_j X'D_j (y lambda) = u_j     for every neuron of unit direction u_j and sign s_j,

where a sample on a neuron's kink may count with any slope in [0, 1], a subgradient.

Training ends near such a point, never on it, and which samples have the least margin or lie on a kink is
then a matter of tolerances. There are none here. Residuals are those of an approximate KKT point, at the
multipliers that make them least:

- *stationarity* epsilon, the distance of both sides over all neurons, relative to the weights;
- *complementarity* delta, what the conditions "lambda_i only at margin one" and "another slope only on a
  kink" lack, relative to the norm,

  .. math:: \delta = \frac{1}{R} \Big( \sum_i \lambda_i (q_i - 1)
            + \sum_{ij} m_j \mu_{ij} |x_i'u_j| \Big), \qquad 0 \le \mu_{ij} \le \lambda_i,

with margins q, magnitudes m_j, and :math:`\mu_{ij}` what sample i counts with neuron j otherwise than by
the side it lies on. A slope in [0, 1] is an eta-subgradient of the ReLU at t, where eta is its distance
from the own slope times abs(t), so the second sum is how inexact the subgradients are; in the convex form
it is the slack of the cones. The multipliers minimise ``epsilon^2 + delta^2``, a convex quadratic program.
Its minimum is at most 1 (no multipliers), is 0 at KKT points only, and goes to 0 on the way to one, because
there the multipliers of the limit do.

References: Lyu and Li, "Gradient descent maximizes the margin of homogeneous neural networks", ICLR 2020
(section C, approximate KKT points); Dutta, Deb, Tulshyan and Arora, "Approximate KKT points and a proximity
measure for termination", J. Global Optim. 2013; Hiriart-Urruty and Lemarechal, "Convex analysis and
minimization algorithms II", 1993, chapter XI (eta-subgradients).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from .architectures.relu import ReLU
from .certificate import Scope, relative_gap
from .network import Affine, Network
from .program import Problem
from .units import unit_neurons

__all__ = ["MarginCertificate", "check_separable", "judge_margin", "scaled"]

#: Multipliers are looked for among this many samples of least margin, and slopes among this many pairs of a
#: sample and a neuron, nearest to a kink: beyond them complementarity is what they would cost.
SAMPLES, PAIRS = 500, 2000


@dataclass(frozen=True)
class MarginCertificate:
    """How small the norm of a separating network is, and how small any could be.

    Parameters
    ----------
    norm : float
        R of the network scaled to margin one, layers balanced.
    lower_bound : float
        No network in the scope separates the data with margin one at a smaller norm.
    gap : float
        ``(norm - lower_bound) / norm``.
    scope : {"global", "bounded", "patterns"}
        As in :class:`cvxnn.Certificate`.
    search_gap : float
        The gap if the best neuron found by search were the best there is. Not a proof.
    margin : float
        ``min_i y_i f(x_i)`` of the network as it was given, before scaling.
    stationarity : float
        How far neurons are from the gradients of their multipliers, relative to the weights: between 0 (at
        a KKT point) and 1.
    complementarity : float
        What samples above margin one, and slopes beside kinks, take part in that, relative to `norm`.
    width : int
    """

    norm: float
    lower_bound: float
    gap: float
    scope: Scope
    search_gap: float
    margin: float
    stationarity: float
    complementarity: float
    width: int

    def __str__(self) -> str:
        neurons = "1 neuron" if self.width == 1 else f"{self.width} neurons"
        return (
            f"norm {self.norm:.8g} at margin 1, no separating network can be below {self.lower_bound:.8g} "
            f"(gap {100 * self.gap:.3g} %, scope {self.scope}); KKT residuals {self.stationarity:.1e} "
            f"(stationarity) and {self.complementarity:.1e} (complementarity); {neurons}"
        )


def check_separable(X: np.ndarray, sign: np.ndarray, hidden_bias: str | None, intercept: bool) -> None:
    """Raise ValueError if no network of the family separates the data.

    With hidden biases only equal samples with different labels are in the way. Without, a network is
    linear along every ray from the origin (plus the output's constant), which a linear program checks.
    """
    if len(np.unique(sign)) < 2:
        raise ValueError("y has one class only: pass samples of both classes")
    _, place = np.unique(X, axis=0, return_inverse=True)
    place = np.ravel(place)
    size = np.bincount(place)
    if np.any(np.abs(np.bincount(place, sign)) != size):
        raise ValueError("equal samples have different labels: no network separates the data; remove them")
    if hidden_bias is not None:
        return
    norms = np.linalg.norm(X, axis=1)
    unit = np.round(X / np.where(norms > 0, norms, 1.0)[:, None], 12) + 0.0
    _, ray = np.unique(unit, axis=0, return_inverse=True)
    ray = np.ravel(ray)
    n, rays = len(sign), int(np.max(ray)) + 1
    A = sparse.coo_matrix((-sign * norms, (np.arange(n), ray)), (n, rays + 1)).tolil()
    if intercept:
        A[:, rays] = -sign[:, None]
    free = [(None, None)] * (rays + 1)
    if (
        linprog(np.zeros(rays + 1), A_ub=A.tocsr(), b_ub=-np.ones(n), bounds=free, method="highs").status
        != 0
    ):
        raise ValueError(
            "samples on one ray from the origin have labels that no network without hidden biases can tell "
            "apart: pass hidden_bias='penalized', or fit_intercept=True"
        )


def scaled(network: Network, t: float) -> Network:
    """The network with its output times ``t``, the factor shared by the layers."""
    first, last = network.layers[0], network.layers[-1]
    assert isinstance(first, Affine) and isinstance(last, Affine)
    root = np.sqrt(t)
    return Network(
        (
            Affine(first.weight * root, first.bias * root),
            *network.layers[1:-1],
            Affine(last.weight * root, last.bias * t),
        )
    )


def judge_margin(
    network: Network,
    architecture: ReLU,
    problem: Problem,
    X: np.ndarray,
    sign: np.ndarray,
    lower: float,
    near: float,
    scope: Scope,
) -> MarginCertificate:
    f = network(X)
    norm, free = architecture.cost(network), int(architecture.hidden_bias == "free")
    stationarity, complementarity = _kkt(network, problem, X, sign, free, architecture.hidden_bias)
    gap = relative_gap(norm, lower)
    return MarginCertificate(
        norm=norm,
        lower_bound=lower,
        gap=gap,
        scope=scope,
        search_gap=min(gap, relative_gap(norm, near)),
        margin=float(np.min(sign * f)),
        stationarity=stationarity,
        complementarity=complementarity,
        width=network.width,
    )


def _kkt(
    network: Network, problem: Problem, X: np.ndarray, sign: np.ndarray, free: int, hidden_bias: str | None
) -> tuple[float, float]:
    """Stationarity and complementarity at the best multipliers of a network at margin one."""
    units, magnitudes = unit_neurons(network, free)
    if not len(magnitudes):
        return 0.0, 0.0
    first, last = units.layers[0], units.layers[-1]
    assert isinstance(first, Affine) and isinstance(last, Affine)
    full = X if hidden_bias is None else np.column_stack([X, np.ones(len(X))])
    U = first.weight.T if hidden_bias is None else np.column_stack([first.weight.T, first.bias])
    margins = sign * network(X)
    near = np.argsort(margins, kind="stable")[:SAMPLES]
    full, sign, over = full[near], sign[near], np.maximum(margins[near] - 1.0, 0.0)
    T, norm = full @ U.T, float(np.sum(magnitudes))
    root = np.sqrt(magnitudes / norm) * last.weight[:, 0]
    samples, neurons = _nearest(T, full, U)
    # multipliers are in units of the norm, which is their sum at a KKT point
    A = _gradients(T, norm * sign[:, None] * full, root, samples, neurons)
    goal = U.copy()
    goal[:, U.shape[1] - free :] = 0.0
    target = (np.abs(root)[:, None] * goal).ravel()
    slack = np.append(over, magnitudes[neurons] * np.abs(T[samples, neurons]))
    balance = sign if problem.intercept else None
    z = _multipliers(A, target, slack, samples, len(sign), balance)
    epsilon = float(np.linalg.norm(A @ z - target))
    if balance is not None:
        epsilon = float(np.hypot(epsilon, balance @ z[: len(sign)]))
    return epsilon, float(slack @ z)


def _nearest(T: np.ndarray, full: np.ndarray, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a sample and a neuron that are nearest to a kink, by angle."""
    lengths = np.linalg.norm(full, axis=1)[:, None] * np.linalg.norm(U, axis=1)
    away = np.abs(T) / np.where(lengths > 0, lengths, 1.0)
    order = np.argsort(away, axis=None, kind="stable")[:PAIRS]
    return np.unravel_index(order, T.shape)  # type: ignore[return-value]


def _gradients(
    T: np.ndarray, rows: np.ndarray, root: np.ndarray, samples: np.ndarray, neurons: np.ndarray
) -> sparse.csc_matrix:
    """What samples give to all neurons: on the sides they lie on, and pairs when they change sides."""
    own = np.vstack([root[j] * (rows * (T[:, j] > 0)[:, None]).T for j in range(len(root))])
    turned = np.where(T[samples, neurons] > 0, -1.0, 1.0) * root[neurons]
    r, pairs = rows.shape[1], len(samples)
    place = (neurons[:, None] * r + np.arange(r)).ravel(), np.repeat(np.arange(pairs), r)
    other = sparse.csc_matrix(((turned[:, None] * rows[samples]).ravel(), place), (len(own), pairs))
    return sparse.hstack([sparse.csc_matrix(own), other], format="csc")


def _multipliers(
    A: sparse.csc_matrix,
    target: np.ndarray,
    slack: np.ndarray,
    samples: np.ndarray,
    n: int,
    balance: np.ndarray | None,
) -> np.ndarray:
    """Minimise ``||A z - target||^2 + (slack'z)^2`` over multipliers and what they give to other slopes.

    Unknowns are n multipliers, then a share for each pair, at most the multiplier of its sample; any that a
    solver returns are admissible once they are clipped, so that a residual is never too small.
    """
    import clarabel

    (rows, columns), pairs = A.shape, len(samples)
    share = sparse.csc_matrix((np.ones(pairs), (np.arange(pairs), samples)), (pairs, n))
    within = sparse.hstack([-share, sparse.eye(pairs)])
    fit = sparse.vstack([A, sparse.csc_matrix(slack)])
    parts = [sparse.hstack([fit, -sparse.eye(rows + 1)])]
    if balance is not None:
        parts.append(sparse.csc_matrix(np.append(balance, np.zeros(pairs + rows + 1))))
    parts.append(sparse.hstack([-sparse.eye(columns), sparse.csc_matrix((columns, rows + 1))]))
    parts.append(sparse.hstack([within, sparse.csc_matrix((pairs, rows + 1))]))
    equal = rows + 1 + (balance is not None)
    b = np.concatenate([target, np.zeros(equal - rows + columns + pairs)])
    P = sparse.diags(np.append(np.zeros(columns), np.ones(rows + 1)), format="csc")
    cones = [clarabel.ZeroConeT(equal), clarabel.NonnegativeConeT(columns + pairs)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    q = np.zeros(columns + rows + 1)
    found = clarabel.DefaultSolver(P, q, sparse.vstack(parts, format="csc"), b, cones, settings).solve()
    z = np.maximum(np.nan_to_num(np.array(found.x)[:columns]), 0.0)
    z[n:] = np.minimum(z[n:], z[:n][samples])
    reached = float(np.sum((A @ z - target) ** 2) + (slack @ z) ** 2)
    return z if reached < target @ target else np.zeros(columns)  # none at all, where a solver fails
