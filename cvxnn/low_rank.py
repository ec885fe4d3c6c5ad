r"""Training on a low-rank approximation of the data, with a certificate for the data themselves.

Let ``X_r = X V V'`` be the best approximation of rank r of X, in the norm that weighs rows by the sample
weights s, and :math:`\sigma = \|S^{1/2}(X - X_r)\|_2` its error. There are only about :math:`n^{r-1}`
patterns of X_r (:math:`n^r` with a bias), so at rank 2 or 3 the training problem can be solved exactly. Two
facts carry the result over to X.

*Nothing is lost on the way back.* Neurons of the reduced problem have weights in the span of V, where
``X w = X_r w``: the network has the same outputs and the same objective on both.

*Little is lost by the reduction.* ReLU is 1-Lipschitz, so a neuron of unit cost changes its output by at
most sigma, :math:`\|S^{1/2}((Xu)_+ - (X_r u)_+)\| \le \sigma`, whatever it does with its bias. Hence for
every dual variable

.. math:: M(Z) \le M_r(Z) + \sigma \|S^{-1/2} Z\|,

and a dual point that is feasible for X_r becomes feasible for X when it is divided by
:math:`1 + \sigma \|S^{-1/2} Z\| / \beta`. The dual value falls by at most that factor, because it is
concave and not negative at 0. So with the optimal values P and P_r,

.. math:: P \le P_r \le P\,(1 + \sigma \|S^{-1/2} Z\| / \beta).

For a loss with slopes of at most 1, :math:`\|S^{-1/2}Z\| \le \sqrt{\sum s}`. For the squared loss the
residual is at most that of the best constant, N at the scale of half squares, which gives
:math:`1 + \sigma \sqrt{2N} / \beta`. A factor ``1 + sigma / beta`` alone would need a loss that is
1-Lipschitz in the whole vector, such as the norm of the residuals.

For gates the same holds with :math:`D X` in place of :math:`(X\,\cdot)_+`, gate by gate.

The approximation is not centred: after a ``StandardScaler`` it is that of PCA.

References: Pilanci and Ergen, ICML 2020, section 3 (rank and the number of patterns); Eckart and Young,
Psychometrika 1936.
"""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .architectures import Architecture
from .architectures.gated import GatedReLU
from .certificate import Certificate, judge_and_prove, relative_gap, scale
from .feature_penalties import is_weight_decay
from .network import Affine, Gated, Network
from .program import Problem
from .train import BOUND_ITER, Ground, Moment, Trained, threads_for, train


@dataclass(frozen=True, eq=False)
class Reduction:
    """A problem on the rank-r approximation of its data.

    Parameters
    ----------
    problem : Problem
        With ``X V`` of shape (n, r) as its data: the same patterns and norms as on ``X V V'``.
    basis : ndarray of shape (d, r)
        V, orthonormal columns.
    sigma : float
        ``||S^(1/2) (X - X_r)||_2``, raised by its rounding; 0 where nothing was cut.
    share : float
        Sum of squares kept, between 0 and 1; of standardised data the share of variance.
    """

    problem: Problem
    basis: np.ndarray
    sigma: float
    share: float

    @classmethod
    def of(cls, problem: Problem, rank: int | float) -> Reduction:
        """Reduce a problem.

        Parameters
        ----------
        problem : Problem
        rank : int or float
            A number of directions, at least 1; or the share of the sum of squares to keep, in (0, 1),
            by as few directions as possible.
        """
        X = problem.X
        _, size, Vt = np.linalg.svd(np.sqrt(problem.weights)[:, None] * X, full_matrices=False)
        kept = np.cumsum(size**2)
        total = float(kept[-1])
        if total == 0.0:
            return cls(replace(problem, X=X[:, :1]), np.eye(X.shape[1])[:, :1], 0.0, 1.0)
        if not isinstance(rank, numbers.Integral):
            r = int(np.searchsorted(kept, rank * total)) + 1
        else:
            r = int(rank)
        noise = max(X.shape) * np.finfo(float).eps * float(size[0])
        r = min(r, int(np.sum(size > noise)))
        basis = np.ascontiguousarray(Vt[:r].T)
        rest = float(size[r]) if r < len(size) else 0.0
        # what was cut, and what rounding may hide of it
        sigma = rest + 8.0 * noise
        return cls(replace(problem, X=X @ basis), basis, sigma, float(kept[r - 1]) / total)

    @property
    def rank(self) -> int:
        """The number of directions kept."""
        return int(self.basis.shape[1])

    def lift(self, network: Network) -> Network:
        """Return the network that takes the data themselves, with the same outputs on X and on X_r."""
        first, *others = network.layers
        if isinstance(first, Affine):
            return Network((Affine(self.basis @ first.weight, first.bias), *others))
        assert isinstance(first, Gated)
        gates, weight = self.basis @ first.gates, self.basis @ first.weight
        return Network((Gated(gates, first.gate_bias, weight, first.bias), *others))

    def stretch(self, Z: np.ndarray) -> float:
        """Return ``sigma ||S^(-1/2) Z||``: how much a price may grow from X_r to X."""
        return self.sigma * float(np.linalg.norm(Z / np.sqrt(self.problem.weights))) * (1.0 + 1e-12)

    def bound(self, Z: np.ndarray) -> float:
        """Return the lower bound for X that a dual point feasible for X_r proves, at the scale of sums."""
        problem = self.problem
        value = scale(problem, Z, problem.beta * (1.0 + 1e-9) + self.stretch(Z))[1]
        zero = np.zeros_like(problem.y)
        terms = abs(problem.loss.value(zero, problem.y, problem.weights))
        return value - 1e-13 * abs(value) - 1e-15 * terms


@dataclass(frozen=True, eq=False)
class LowRank:
    """What the reduction did.

    Parameters
    ----------
    rank : int
    share : float
        Of the sum of squares that was kept.
    sigma : float
        Spectral norm of what was cut, rows weighted.
    factor : float
        The best objective on the reduced data is at most this times the best on the data (up to the
        gap of `certificate`).
    certificate : Certificate
        Of the reduced problem.
    """

    rank: int
    share: float
    sigma: float
    factor: float
    certificate: Certificate = field(repr=False)


@dataclass(frozen=True, eq=False)
class TrainedLowRank(Trained):
    """What training on reduced data returns: network, certificate and proof for the data themselves.

    The certificate is against all networks on the data: the better of the bounds that hold there anyway
    and of the one that the reduction gives. Its search gap says how much the reduction cost. The
    status is that of the reduced training.
    """

    low_rank: LowRank


def train_low_rank(
    problem: Problem,
    architecture: Architecture,
    rank: int | float,
    *,
    tol: float = 1e-5,
    max_iter: int = 50,
    max_time: float | None = None,
    random_state: int = 0,
    callback: Callable[[Moment], object] | None = None,
) -> TrainedLowRank:
    """Train on the rank-r approximation of the data and certify on the data.

    Parameters
    ----------
    problem : Problem
    architecture : Architecture
    rank : int or float
        As for :meth:`Reduction.of`.
    tol, max_iter, max_time, random_state, callback
        As for :func:`cvxnn.train.train`, on the reduced data.

    Returns
    -------
    TrainedLowRank

    Raises
    ------
    ValueError
        If gates are given as an array: they belong to the data, not to their approximation. So do the
        features that other penalties than weight decay choose. If neurons are not continuous in their
        inputs.
    """
    _check(architecture)
    began = time.perf_counter()
    reduction = Reduction.of(problem, rank)
    ground = Ground.prepare(reduction.problem, architecture, np.random.default_rng(random_state))
    trained = train(
        reduction.problem,
        architecture,
        tol=tol,
        max_iter=max_iter,
        max_time=max_time,
        random_state=random_state,
        callback=callback,
        ground=ground,
    )
    spent = time.perf_counter() - began
    left = float("inf") if max_time is None else max(1.0, max_time - spent)
    network = reduction.lift(trained.network)
    family = _family(architecture, reduction, ground).on(problem)
    with threads_for(problem):
        whole = Ground.prepare(problem, family, np.random.default_rng(random_state))
        oracle = whole.oracle.at(problem.beta)
        certificate, proof = judge_and_prove(
            network,
            oracle.problem,
            family,
            oracle,
            duals=(trained.dual,),
            max_iter=BOUND_ITER,
            max_time=left,
        )
    reduced = trained.certificate
    if certificate.scope == "bounded" and reduced.scope != "patterns":
        certificate = _raised(certificate, reduction.bound(trained.proof.Z) / problem.total_weight)
    factor = 1.0 + reduction.stretch(trained.proof.Z) / problem.beta
    info = LowRank(reduction.rank, reduction.share, reduction.sigma, factor, reduced)
    return TrainedLowRank(
        network,
        certificate,
        trained.history,
        trained.n_iter,
        trained.status,
        trained.dual,
        proof,
        info,
    )


def _check(architecture: Architecture) -> None:
    """Raise ValueError for families whose networks on reduced data say nothing of those on the data."""
    if not architecture.continuous:
        raise ValueError(
            f"a {architecture.name} network may change more than its inputs between data and "
            "approximation: pass rank=None"
        )
    if not architecture.rotates:
        raise ValueError(f"{architecture.name} networks know where features are: pass rank=None")
    if architecture.staged:
        raise ValueError(f"{architecture.name} networks take no rank: pass None, and PCA in a pipeline")
    if isinstance(getattr(architecture, "patterns", None), np.ndarray):
        raise ValueError("gates given as an array do not fit reduced data: pass a number with rank")
    if not is_weight_decay(getattr(architecture, "penalty", "l2")):
        raise ValueError(f"{architecture!r} has no reduced data: pass one with penalty='l2'")


def _family(architecture: Architecture, reduction: Reduction, ground: Ground) -> Architecture:
    """The family to be judged against on the data: any pattern, or the very gates."""
    if not isinstance(architecture, GatedReLU):
        return replace(architecture, patterns="auto")  # type: ignore[type-var]
    assert ground.arrangement is not None
    gates, r = ground.arrangement.gates, reduction.rank
    return replace(architecture, patterns=np.column_stack([gates[:, :r] @ reduction.basis.T, gates[:, r:]]))


def _raised(certificate: Certificate, bound: float) -> Certificate:
    """A certificate whose lower bound is at least the given one."""
    bound = max(certificate.lower_bound, bound)
    gap = relative_gap(certificate.objective, bound)
    return replace(certificate, lower_bound=bound, gap=gap, search_gap=min(certificate.search_gap, gap))
