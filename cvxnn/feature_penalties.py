r"""Penalties that choose features: other norms of the weights of a hidden neuron.

Let the penalty of a network be ``1/2 sum_j (Omega(w_j)^2 + a_j^2)`` with any norm Omega of the hidden
weights. Rescaling a neuron, ``(s w_j, a_j / s)``, changes no prediction, and at the best s the penalty of
the neuron is ``Omega(w_j) |a_j|``. So the convex program is that of weight decay with Omega in place of the
Euclidean norm, the price of a dual variable is the largest correlation over ``Omega(u) <= 1``, and every
theorem that only uses homogeneity stays. Here

    Omega(w) = r * sum_k |w_k| + (1 - r) * sum_G ||w_G||_2        over groups G that partition the features:

=========================  =========================================  =================================
`penalty`                  Omega(w)                                   what it does
=========================  =========================================  =================================
"l2"                       ||w||_2                                    weight decay
"l1"                       ||w||_1                                    neurons see few features
Groups(G)                  sum_G ||w_G||_2                            neurons see few groups of features
Groups(G, r)               as above with 0 < r < 1                    and few features of each group
Elastic(r)                 r ||w||_1 + (1 - r) ||w||_2                few features, correlated ones together
=========================  =========================================  =================================

A penalised hidden bias is a group of its own beside groups, and one weight more otherwise. The elastic
net's usual form, ``||w||_1 + c ||w||_2^2``, is not homogeneous and has no convex program of this kind; the
sum of the two norms is. Since Omega is at least the Euclidean norm, no network can cost less here than
under weight decay: bounds for that are bounds here.

The prox shrinks entries, then groups; the polar of a group is the t at which
``|| (|g| - t r)_+ ||_2 = t (1 - r)``, and that of a neuron the largest of these.

References: Pilanci and Ergen, ICML 2020 (the program); Friedman, Hastie and Tibshirani, "A note on the
group lasso and a sparse group lasso", 2010; Ndiaye, Fercoq, Gramfort and Salmon, NeurIPS 2016 (the polar).
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from .arrays import Array, array_namespace, asarray_like
from .penalties import Epigraph, Penalty

#: The penalties that have a name.
NAMED = ("l2", "l1")
#: Steps of Newton's method for a polar at most; a handful end at rounding.
NEWTON = 60


def _check_ratio(ratio: Any) -> None:
    real = isinstance(ratio, numbers.Real) and not isinstance(ratio, bool)
    if not real or not 0.0 <= float(ratio) <= 1.0:
        raise ValueError(f"l1_ratio={ratio!r} must be a number between 0 and 1")


@dataclass(frozen=True)
class Groups:
    """Penalise hidden weights by the sum of the norms of groups of features.

    The network penalty is ``1/2 sum_j (Omega(w_j)^2 + a_j^2)`` with
    ``Omega(w) = l1_ratio * ||w||_1 + (1 - l1_ratio) * sum_G ||w_G||_2``.

    Parameters
    ----------
    groups : sequence of sequences of int
        Column numbers of the features of each group; every feature is in exactly one.
    l1_ratio : float, default=0.0
        Share of the sum of sizes, in [0, 1].

    Raises
    ------
    ValueError
        If a feature is in two groups, a group is empty, or the share is none.
    """

    groups: tuple[tuple[int, ...], ...]
    l1_ratio: float = 0.0

    def __post_init__(self) -> None:
        _check_ratio(self.l1_ratio)
        sound = isinstance(self.groups, Iterable) and not isinstance(self.groups, str)
        rows: list[Any] = list(self.groups) if sound else [None]
        if not rows or not all(isinstance(row, Iterable) and not isinstance(row, str) for row in rows):
            raise ValueError(f"groups={self.groups!r}: pass lists of column numbers, [[0, 1], [2]] say")
        lists = tuple(tuple(row) for row in rows)
        members = [k for row in lists for k in row]
        whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 0 for k in members)
        if not whole or not all(lists) or len(set(members)) < len(members):
            raise ValueError(
                f"groups={self.groups!r}: pass lists of column numbers, none empty, none repeated"
            )
        object.__setattr__(self, "groups", tuple(tuple(int(k) for k in row) for row in lists))


@dataclass(frozen=True)
class Elastic:
    """Penalise hidden weights by a mean of two norms, the sum of sizes and the Euclidean one.

    The network penalty is ``1/2 sum_j (Omega(w_j)^2 + a_j^2)`` with
    ``Omega(w) = l1_ratio * ||w||_1 + (1 - l1_ratio) * ||w||_2``.

    Parameters
    ----------
    l1_ratio : float, default=0.5
        In [0, 1]; 0 is weight decay.

    Raises
    ------
    ValueError
        If it is not.
    """

    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        _check_ratio(self.l1_ratio)


WeightPenalty = str | Groups | Elastic


def check_penalty(penalty: Any) -> None:
    """Raise ValueError unless `penalty` is a penalty of hidden weights."""
    if isinstance(penalty, Groups | Elastic) or (isinstance(penalty, str) and penalty in NAMED):
        return
    raise ValueError(
        f"penalty={penalty!r} is unknown: pass 'l2' (weight decay, the default), 'l1', Groups(...) or "
        "Elastic(...) from cvxnn.feature_penalties"
    )


def is_weight_decay(penalty: Any) -> bool:
    """Whether a penalty is the Euclidean norm, by name or by its parameters."""
    check_penalty(penalty)
    return penalty == "l2" or (isinstance(penalty, Elastic) and penalty.l1_ratio == 0.0)


def check_outputs(penalty: WeightPenalty, outputs: int) -> None:
    """Raise ValueError if a penalty is not for so many outputs."""
    if outputs > 1 and not is_weight_decay(penalty):
        raise ValueError(f"penalty={penalty!r} is for one output: pass penalty='l2' for {outputs} outputs")


def feature_norm(
    penalty: WeightPenalty, features: int, hidden_bias: str | None, reach: float = float("inf")
) -> FeatureNorm:
    """Return the norm of the hidden weights (and bias) of networks of some number of features.

    Parameters
    ----------
    penalty : {"l2", "l1"}, Groups or Elastic
    features : int
    hidden_bias : {"penalized", "free", None}
    reach : float
        Of a free bias, see :class:`cvxnn.penalties.GroupL2`.

    Raises
    ------
    ValueError
        If groups do not fit the features.
    """
    check_penalty(penalty)
    everything: tuple[tuple[int, ...], ...] = (tuple(range(features)),)
    groups, ratio = everything, 0.0
    if penalty == "l1":
        ratio = 1.0
    elif isinstance(penalty, Elastic):
        ratio = float(penalty.l1_ratio)
    elif isinstance(penalty, Groups):
        groups, ratio = penalty.groups, float(penalty.l1_ratio)
        if sorted(k for row in groups for k in row) != list(range(features)):
            raise ValueError(
                f"groups={groups!r} do not fit {features} features: pass each of the columns 0 to "
                f"{features - 1} in one group"
            )
    if hidden_bias == "penalized":
        last = (features,)
        groups = (*groups, last) if isinstance(penalty, Groups) else ((*groups[0], *last),)
    return FeatureNorm(groups, ratio, 1 if hidden_bias == "free" else 0, reach)


@dataclass(frozen=True)
class FeatureNorm(Penalty):
    """The norm ``r ||w||_1 + (1 - r) sum_G ||w_G||_2`` of every row, summed.

    Parameters
    ----------
    groups : tuple of tuples of int
        A partition of the penalised coordinates.
    share : float
        r, in [0, 1].
    free : int, default=0
        Trailing coordinates that are not penalised.
    reach : float, default=inf
        How large they need to be, as a multiple of the norm of the others.
    """

    groups: tuple[tuple[int, ...], ...]
    share: float
    free: int = 0
    reach: float = float("inf")

    def _members(self, like: Array) -> Array:
        """Which coordinate is in which group, shape (penalised coordinates, groups)."""
        table = np.zeros((sum(map(len, self.groups)), len(self.groups)))
        for j, row in enumerate(self.groups):
            table[list(row), j] = 1.0
        return asarray_like(table, like)

    def _kept(self, W: Array) -> Array:
        return W[:, : W.shape[1] - self.free]

    def norms(self, W: Array) -> Array:
        """Return the norm of each row of ``W`` (groups, d), shape (groups,)."""
        xp, kept = array_namespace(W), self._kept(W)
        sizes = xp.sum(xp.abs(kept), axis=1)
        if self.share == 1.0:
            return sizes
        of_groups = xp.sum(xp.sqrt((kept * kept) @ self._members(kept)), axis=1)
        return self.share * sizes + (1.0 - self.share) * of_groups

    def value(self, W: Array) -> float:
        return float(array_namespace(W).sum(self.norms(W)))

    def prox(self, W: Array, step: float) -> Array:
        xp, kept = array_namespace(W), self._kept(W)
        kept = _soft(kept, step * self.share)
        if self.share < 1.0:
            members, rest = self._members(kept), step * (1.0 - self.share)
            norms = xp.sqrt((kept * kept) @ members)
            safe = xp.where(norms > rest, norms, xp.ones_like(norms))
            shrink = xp.where(norms > rest, 1.0 - rest / safe, xp.zeros_like(norms))
            kept = kept * (shrink @ members.T)
        return kept if self.free == 0 else xp.concat([kept, W[:, W.shape[1] - self.free :]], axis=1)

    def polar(self, G: Array) -> Array:
        xp, kept = array_namespace(G), self._kept(G)
        if self.share == 1.0:
            norms = xp.max(xp.abs(kept), axis=1)
        elif self.share == 0.0:
            norms = xp.max(xp.sqrt((kept * kept) @ self._members(kept)), axis=1)
        else:
            norms = xp.max(self._polars(kept), axis=1)
        if self.free == 0:
            return norms
        loose = xp.sum(xp.abs(G[:, G.shape[1] - self.free :]), axis=1)
        if self.reach < float("inf"):
            return norms + self.reach * loose
        slack = 1e-9 * (1.0 + xp.max(xp.abs(G), axis=1))
        return xp.where(loose <= slack, norms, xp.full_like(norms, float("inf")))

    def _polars(self, kept: Array) -> Array:
        """The polar of every group of every row, from above.

        It is the zero of ``|| (|g| - t r)_+ || - t (1 - r)``, convex in t with slopes of at most -1. The
        largest entry is left of it, and Newton's method from there does not pass it, but for rounding.
        """
        xp, members, rest = array_namespace(kept), self._members(kept), 1.0 - self.share
        size, eps = xp.abs(kept), float(xp.finfo(kept.dtype).eps)
        t = xp.max(size[:, :, None] * members[None], axis=1)
        for _ in range(NEWTON):
            left = size - self.share * (t @ members.T)
            left = xp.where(left > 0, left, xp.zeros_like(left))
            norms = xp.sqrt((left * left) @ members)
            slope = rest + self.share * (left @ members) / xp.where(norms > 0, norms, xp.ones_like(norms))
            step = (norms - rest * t) / slope
            if not bool(xp.any(step > eps * t)):
                return t * (1.0 + 8.0 * eps)
            t = xp.where(step > 0, t + step, t)
        # not seen to happen; the Euclidean norm is no less than the polar, since the norm itself is no less
        return xp.sqrt((kept * kept) @ members) * (1.0 + 8.0 * eps)

    def epigraph(self, d: int) -> Epigraph:
        k, wide = d - self.free, [] if self.share == 1.0 else list(self.groups)
        singles = k if self.share > 0.0 else 0
        cost = np.concatenate([np.full(singles, self.share), np.full(len(wide), 1.0 - self.share)])
        one, eye = sparse.identity(singles), sparse.eye(singles, d)
        U, E = [eye, -eye], [one, one]
        U, E = (
            [sparse.vstack(U)],
            [sparse.hstack([sparse.vstack(E), sparse.csc_matrix((2 * singles, len(wide)))])],
        )
        cones = [("nonnegative", 2 * singles)] if singles else []
        for j, row in enumerate(wide):
            size = len(row) + 1
            U.append(sparse.csc_matrix((np.ones(size - 1), (np.arange(1, size), list(row))), (size, d)))
            E.append(sparse.csc_matrix(([1.0], ([0], [singles + j])), (size, singles + len(wide))))
            cones.append(("second_order", size))
        return Epigraph(sparse.vstack(U), sparse.vstack(E), cost, cones)

    def to_cvxpy(self, W: Any) -> Any:
        import cvxpy as cp

        kept = W.shape[1] - self.free
        total = self.share * cp.sum(cp.abs(W[:, :kept]))
        for row in self.groups:
            total = total + (1.0 - self.share) * cp.sum(cp.norm(W[:, list(row)], 2, axis=1))
        return total


def _soft(W: Array, step: Any) -> Array:
    """Shrink entries towards zero by `step`, a number or an array of their shape."""
    xp = array_namespace(W)
    size = xp.abs(W) - step
    return xp.sign(W) * xp.where(size > 0, size, xp.zeros_like(size))
