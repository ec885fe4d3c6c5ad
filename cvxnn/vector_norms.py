r"""Neurons with several outputs whose hidden weights pay another norm: how they move, and their price.

A network with rows u_j of hidden weights and output weights v_j has the objective

    L( sum_j (X u_j)_+ v_j' + c ) + beta/2 * sum_j ( Omega(u_j)^2 + |v_j|^2 ),      Omega(u) = sum_G |u_G|.

*Descent.* Omega has kinks of its own, at groups that are zero. In other variables it has none: with ``u_G =
t_G q_G``, ``Omega(u) = min 1/2 sum_G (t_G^2 + |q_G|^2)``, so that L-BFGS descends on t, q and v, with the
ReLU smoothed as in :mod:`cvxnn.vector_descent`. *Holding.* Where it is known which groups are zero and
which samples are at a kink the objective is smooth on the subspace where they stay, and Newton's method
converges; both are guessed from wide to narrow. *Search.* For a fixed direction g of the outputs the price
of a neuron is that of one output with the dual variable Z g (:mod:`cvxnn.norm_pricing`); the best g for a
neuron is along ``Z'(Xu)_+``; in turn they only rise. *Bounds* over all patterns, both valid:

- ``Omega(u) >= |u|``, so that the bound for weight decay holds (:mod:`cvxnn.vector_bounds`);
- ``|Z'h|^2 = sum_k (z_k'h)^2`` for the columns z_k of Z in any orthonormal basis of the outputs, so that
  ``M(Z)^2 <= sum_k M(z_k)^2`` with prices of one output, which may be exact.

References: Hoff, "Lasso, fractional norm and structured sparsity estimation using a Hadamard product
parametrization", 2017 (the variables); Ergen and Pilanci, ICLR 2021.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .certificate import Price, Proof
from .descent import Layer
from .network import Network
from .norm_pricing import NormDesign, search_neurons, walk
from .oracles import ROUNDING, SEED, NeuronOracle
from .program import Problem
from .truncated_newton import minimise
from .unfolding import Unfolded
from .vector_bounds import improve, oracle_bounds
from .vector_descent import OnFaces
from .vector_growth import ZERO, Coupling, Rows, drop, merge, span
from .vector_oracles import PRODUCTS, VectorOracle
from .vector_pricing import VectorNeurons

#: Relative distances that count as a kink, or as a group at zero, from wide to narrow.
NEAR = (3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-6)
#: Distance below which neurons are one.
SAME = 1e-5
#: Directions of outputs that a search begins with; neurons that are turned, and turns of each at most.
DIRECTIONS, TURNED, TURNS = 6, 8, 6


def descend_norm(problem: Problem, design: NormDesign, rows: Rows, mu: float, max_iter: int) -> Rows:
    """Run L-BFGS with the band `mu` from the given neurons, then drop zeros and merge equals."""
    if not len(rows):
        return rows
    (m, r), outputs, X = rows.U.shape, problem.y.shape[1], design.X
    loss, y, s, beta, table = problem.loss, problem.y, problem.weights, problem.beta, members(design)
    root = np.sqrt(design.norms(rows.U))[:, None]
    U, V = rows.U / root, rows.G * root
    sizes = np.sqrt((U * U) @ table)
    t = np.sqrt(np.maximum(sizes, 1e-3 * np.max(sizes, axis=1, keepdims=True)))
    q = U / (t @ table.T)
    c = np.asarray(loss.intercept(rows.apply(design), y, s)) if problem.intercept else np.zeros(outputs)
    scale = 1.0 / max(loss.value(np.zeros_like(y) + c, y, s), 1e-300)
    layer = Layer(X, np.linalg.norm(U, axis=1), 0, mu)
    cuts = np.cumsum([t.size, q.size, V.size])

    def parts(x: np.ndarray) -> list[np.ndarray]:
        some = np.split(x, cuts)
        return [some[0].reshape(t.shape), some[1].reshape(m, r), some[2].reshape(m, outputs), some[3]]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        t, q, V, e = parts(x)
        wide = t @ table.T
        layer.activate(wide * q)
        f = layer.rows[:, None] * (layer.values @ (layer.sizes[:, None] * V))
        f = f + e if problem.intercept else f
        G = loss.gradient(f, y, s)
        weighted = layer.rows[:, None] * G
        gV = layer.sizes[:, None] * (layer.values.T @ weighted) + beta * V
        gU = (layer.slopes * (weighted @ V.T)).T @ layer.X
        size = 0.5 * (np.sum(t * t, axis=1) + np.sum(q * q, axis=1))[:, None]
        value = loss.value(f, y, s) + 0.5 * beta * float(np.sum(size * size) + np.sum(V * V))
        gt, gq = (gU * q) @ table + beta * size * t, gU * wide + beta * size * q
        ge = np.sum(G, axis=0) if problem.intercept else np.zeros(outputs)
        return scale * value, scale * np.concatenate([gt.ravel(), gq.ravel(), gV.ravel(), ge])

    first = np.concatenate([t.ravel(), q.ravel(), V.ravel(), c])
    options: dict[str, Any] = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-12, "gtol": 1e-12}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may try absurd steps
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
    if not np.all(np.isfinite(found)):
        return rows
    t, q, V, _ = parts(found)
    moved = drop(Rows.of((t @ table.T) * q, V, design, Coupling.joint), design, ZERO)
    return merge(moved, design, Coupling.joint, 0.1 * mu)


def members(design: NormDesign) -> np.ndarray:
    """Return which coordinate is in which group, (r, groups), of a norm that is a sum over groups."""
    assert design.norm.share == 0.0 and design.free == 0
    table = np.zeros((design.X.shape[1], len(design.norm.groups)))
    for j, group in enumerate(design.norm.groups):
        table[list(group), j] = 1.0
    return table


class _NormOnFaces(OnFaces):
    """The objective where kinks and groups at zero stay, with the norm of the hidden weights."""

    def __init__(self, table: np.ndarray, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.table = table

    def penalty(self, U: np.ndarray) -> tuple[float, np.ndarray]:
        sizes = np.sqrt((U * U) @ self.table)
        self.inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0) @ self.table.T
        self.norms, self.turned = np.sum(sizes, axis=1)[:, None], U * self.inverse
        return 0.5 * self.beta * float(np.sum(self.norms**2)), self.beta * self.norms * self.turned

    def bend(self, dU: np.ndarray) -> np.ndarray:
        along = self.turned * dU
        flat = dU - self.turned * ((along @ self.table) @ self.table.T)
        rank = self.turned * np.sum(along, axis=1, keepdims=True)
        return self.beta * (rank + self.norms * self.inverse * flat)


def hold_norm(problem: Problem, design: NormDesign, rows: Rows, near: float, max_products: int) -> Rows:
    """Hold the kinks and the zeros within a distance, and converge on the subspace where they stay."""
    if not len(rows):
        return rows
    table, root = members(design), np.sqrt(design.norms(rows.U))[:, None]
    U, V, faces = rows.U / root, rows.G * root, []
    lengths = np.linalg.norm(design.X, axis=1)
    for u in U:
        sizes = np.sqrt((u * u) @ table)
        zero = (table @ (sizes <= near * np.sum(sizes))) > 0
        tight = np.abs(design.X @ u) <= near * lengths * np.linalg.norm(u)
        # what the zeros leave of the samples at kinks
        faces.append(span(np.concatenate([np.eye(len(u))[zero], np.where(zero, 0.0, design.X[tight])])))
    kept = np.array(
        [
            np.linalg.norm(u - F @ (F.T @ u)) > ZERO * np.linalg.norm(u)
            for u, F in zip(U, faces, strict=True)
        ]
    )
    if not np.any(kept):
        return rows
    faces, U, V = [F for F, some in zip(faces, kept, strict=True) if some], U[kept], V[kept]
    y, s, loss = problem.y, problem.weights, problem.loss
    function = _NormOnFaces(
        table, design.X, y, s, loss, problem.beta, U.shape, faces, problem.intercept, 0, 0.0, None
    )
    U = function.hold(U)
    c = np.zeros(y.shape[1])
    if problem.intercept:
        c = np.asarray(loss.intercept(design.outputs(U) @ V, y, s))
    found = minimise(function, np.concatenate([U.ravel(), V.ravel(), c]), max_products=max_products)
    if not np.all(np.isfinite(found)):
        return rows
    U, V, _ = function.parts(found)
    U = np.where(np.abs(U) > 1e-14 * np.max(np.abs(U), axis=1, keepdims=True), U, 0.0)
    return merge(drop(Rows.of(U, V, design, Coupling.joint), design, ZERO), design, Coupling.joint, SAME)


class VectorNormOracle(VectorOracle):
    """Local search for neurons, and the better of two bounds over all patterns (scope ``bounded``).

    Parameters
    ----------
    problem : Problem
        Of several outputs.
    design : NormDesign
    single : NeuronOracle
        For neurons of one output on the same design.
    """

    design: NormDesign
    scope = "bounded"

    def __init__(self, problem: Problem, design: NormDesign, single: NeuronOracle) -> None:
        super().__init__(problem, design, Coupling.joint)
        self.single = single

    @property
    def large(self) -> bool:
        return False

    def neurons(
        self,
        Z: np.ndarray,
        starts: np.ndarray,
        random_state: np.random.Generator,
        effort: int,
        *,
        exact: bool = True,
    ) -> VectorNeurons:
        if not np.any(Z) or not np.any(self.X):
            return VectorNeurons.none(self.X.shape[1], Z.shape[1])
        axes = np.linalg.svd(Z, full_matrices=False)[2]
        more = random_state.standard_normal((DIRECTIONS * (1 + effort), Z.shape[1])) @ (axes.T @ axes)
        ends = [self.design.unit(starts[self.design.norms(starts) > 0])]
        for g in np.concatenate([axes, more / np.linalg.norm(more, axis=1)[:, None]]):
            best = search_neurons(
                self.design, Z @ g, starts, n_random=32, n_polish=0, random_state=random_state
            )
            ends.append(best.directions[:20])
        found = VectorNeurons.of(self.X, Z, np.concatenate(ends))
        if exact:
            best_of = found.directions[: TURNED * (1 + effort)]
            turned = [self._turned(Z, u) for u in best_of]
            found = VectorNeurons.of(self.X, Z, np.concatenate([np.reshape(turned, best_of.shape), *ends]))
        return VectorNeurons(found.values[:200], found.directions[:200], found.outputs[:200])

    def _turned(self, Z: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Walk from cell to cell and turn the direction of outputs, as long as the price rises."""
        u = self.design.unit(u[None])[0]
        value = 0.0
        for _ in range(TURNS):
            C = Z.T @ np.maximum(self.X @ u, 0.0)
            now = float(np.linalg.norm(C))
            if now <= value * (1.0 + 1e-12) or now == 0.0:
                break
            value, z = now, Z @ (C / now)
            best, moved, _ = walk(self.design, z, value, u, self.X @ u > 0, seen=set(), side=1.0)
            u = moved if best > value else u
        return u

    def found(self, Z: np.ndarray, network: Network) -> float:
        return self.thorough(Z, network).best

    def bound(self, Z: np.ndarray) -> float:
        """Bound ``M(Z)`` over all patterns."""
        by_size = oracle_bounds(self.X, Z, max_iter=60)
        axes = np.linalg.svd(Z, full_matrices=False)[2]
        columns = (Z @ axes.T).T
        each = [self.single.price(z).value if np.any(z) else 0.0 for z in columns]
        # axes are orthonormal, and columns those of Z, up to rounding
        lost = 1e-14 * float(np.linalg.norm(Z, axis=1) @ np.linalg.norm(self.X, axis=1))
        return min(by_size, float(np.linalg.norm(each)) * (1.0 + ROUNDING) + lost)

    def price(self, Z: np.ndarray) -> Price:
        value = self.bound(Z)
        found = self.neurons(Z, self.X[:0], np.random.default_rng(SEED), 0).best
        return Price(value, "bounded", min(found, value))

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        end = time.perf_counter() + max_time
        proof = super().prove(Z, max_iter=max_iter, max_time=max_time)
        problem, work = self.problem, 2.0 * len(self.X) * (self.X.shape[1] + Z.shape[1]) ** 2
        moved, better = improve(
            self.X,
            problem.y,
            problem.weights,
            Unfolded(problem.loss, 1),
            problem.beta,
            np.zeros_like(problem.y),
            intercept=problem.intercept,
            max_iter=min(max_iter, int(PRODUCTS / (2.0 * work))),
            max_time=end - time.perf_counter(),
        )
        return Proof(moved, better, "bounded") if better > proof.bound else proof
