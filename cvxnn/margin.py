r"""The judge of separating networks: norm, proven bound, and KKT residuals.

A homogeneous network of least margin m has, scaled to margin one, the norm R / m. It is a KKT point of
:mod:`cvxnn.max_margin`'s program if there are multipliers lambda >= 0 of its samples of least margin with

    s_j X'D_j (y lambda) = u_j     for every neuron of unit direction u_j and sign s_j,

where a sample on a neuron's kink may count with any share, a subgradient.

Reference: Lyu and Li, "Gradient descent maximizes the margin of homogeneous neural networks", ICLR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from .architectures.relu import ReLU
from .certificate import Scope, relative_gap
from .network import Affine, Network
from .program import Problem
from .units import unit_neurons

__all__ = ["MarginCertificate", "judge_margin", "scaled"]

#: Samples whose margin is within this share of the least are support vectors of a trained network.
SUPPORT = 1e-3
#: Weight of equations that hold exactly, beside conditions that are fitted.
TIE = 1e3


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
        The smallest residual of the KKT condition "every neuron is the gradient of its multipliers",
        relative to the weights: 0 at a KKT point.
    complementarity : float
        ``sum_i lambda_i (y_i f_i - 1) / sum_i lambda_i`` at the multipliers of `stationarity`.
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
            f"(gap {100 * self.gap:.3g} %, scope {self.scope}); KKT residual {self.stationarity:.1e}; "
            f"{neurons}"
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
    """Residuals of the KKT conditions at the best multipliers of the samples of least margin.

    For a unit neuron u of sign s with its pattern D the condition is ``s X'D (y lambda) = u``, weighed by
    the neuron's magnitude; a sample on the neuron's kink may count with any share (a subgradient).
    Nonnegative least squares finds the multipliers.
    """
    units, magnitudes = unit_neurons(network, free)
    if not len(magnitudes):
        return 0.0, 0.0
    first, last = units.layers[0], units.layers[-1]
    assert isinstance(first, Affine) and isinstance(last, Affine)
    full = X if hidden_bias is None else np.column_stack([X, np.ones(len(X))])
    U = first.weight.T if hidden_bias is None else np.column_stack([first.weight.T, first.bias])
    goal = U.copy()
    if free:
        goal[:, -1] = 0.0
    margins = sign * network(X)
    support = np.flatnonzero(margins <= (1.0 + SUPPORT) * np.min(margins))
    T = full @ U.T
    kink = np.abs(T) <= 1e-6 * np.linalg.norm(full, axis=1)[:, None] * np.linalg.norm(U, axis=1)
    root = np.sqrt(magnitudes / np.sum(magnitudes))
    rows = []
    for j in range(len(U)):
        on = (T[support, j] > 0) & ~kink[support, j]
        rows.append(root[j] * last.weight[j, 0] * ((sign[support] * on)[:, None] * full[support]).T)
    pairs = [(i, j) for j in range(len(U)) for i in np.flatnonzero(kink[support, j])]
    r = full.shape[1]
    extra = np.zeros((len(U) * r, len(pairs)))
    for column, (i, j) in enumerate(pairs):
        extra[j * r : (j + 1) * r, column] = (
            root[j] * last.weight[j, 0] * sign[support[i]] * full[support[i]]
        )
    system = _with_shares(np.vstack(rows), extra, [int(i) for i, _ in pairs], len(support))
    target = np.concatenate([(root[:, None] * goal).ravel(), np.zeros(len(pairs))])
    if problem.intercept:
        balance = np.append(TIE * sign[support], np.zeros(2 * len(pairs)))
        system, target = np.vstack([system, balance]), np.append(target, 0.0)
    x, residual = nnls(system, target, maxiter=100 * system.shape[1])
    lam = x[: len(support)]
    total = float(np.sum(lam))
    slack = float(lam @ (margins[support] - 1.0)) / total if total > 0 else 0.0
    return float(residual), slack


def _with_shares(A: np.ndarray, extra: np.ndarray, of: list[int], samples: int) -> np.ndarray:
    """The conditions with unknowns for what samples give to the kinks they are on.

    A multiplier is the sum of its share at a kink and what it does not give there, all of them nonnegative:
    heavy rows below the conditions say so, for every pair of a kink with its sample `of`.
    """
    pairs = len(of)
    ties, row = np.zeros((pairs, samples + 2 * pairs)), np.arange(pairs)
    ties[row, of], ties[row, samples + row], ties[row, samples + pairs + row] = 1.0, -1.0, -1.0
    return np.vstack([np.hstack([A, extra, np.zeros((len(A), pairs))]), TIE * ties])
