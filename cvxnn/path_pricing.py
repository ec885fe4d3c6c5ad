r"""Prices of branches of a fixed width: listed ones exactly, others by search and a bound.

A branch ``(h)_+``, ``h = sum_j t_j (X u_j)_+`` with signs t_j, costs ``|(u_1, .., u_m)|``. The search
ascends ``log z'(h)_+ - log |U|`` for many starts at once, and then solves for the best of the cells
reached, a projection onto their cones.

Reference: Ergen and Pilanci, "Path regularization", NeurIPS 2023; :mod:`cvxnn.architectures.deep_path` for
the bound.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize

from .certificate import Oracle, Price, Proof
from .deep_descent import stopping
from .deep_network import Branch, branches_of
from .deep_oracles import DeepOracle
from .design import Design
from .nested_cones import Nest, NestedCones
from .network import Network
from .program import Problem, Program

__all__ = ["ListedPaths", "Path", "PathOracle", "signs_of"]

#: Random starts of a search, and cells that are solved.
STARTS, SOLVED = 48, 24
#: Seconds that a search of the judge has beyond what a bound has.
SEARCHING = 0.5


class ListedPaths(Oracle):
    """Prices of listed branches: exact for them, ``global`` where all there are are listed."""

    def __init__(self, problem: Problem, program: Program, width: int, complete: bool) -> None:
        super().__init__(problem)
        self.program, self.branch, self.complete = program, width, complete

    def price(self, Z: np.ndarray) -> Price:
        cones = self.program.constraint
        assert isinstance(cones, NestedCones)
        G = np.asarray(self.program.operator.adjoint(Z))
        norms, best = np.linalg.norm(G, axis=1), 0.0
        for k in np.argsort(-norms, kind="stable"):
            if norms[k] <= best:
                break
            best = max(best, float(np.linalg.norm(cones.projected(int(k), G[k]))))
        return Price(best * (1.0 + 1e-10), "global" if self.complete else "patterns", best)


class PathOracle(Oracle):
    """Search for branches of a width, and the bound through three-layer networks (``bounded``)."""

    def __init__(self, problem: Problem, design: Design, width: int) -> None:
        super().__init__(problem)
        self.design, self.branch = design, width
        self.wide, self.deadline = DeepOracle(problem, design, 3), float("inf")
        self._last: tuple[bytes, list[Path]] | None = None

    def prove(self, Z: np.ndarray, *, max_iter: int, max_time: float) -> Proof:
        self.wide.deadline = time.perf_counter() + max_time
        # searches have some time too
        self.deadline = self.wide.deadline + SEARCHING
        return super().prove(Z, max_iter=max_iter, max_time=max_time)

    def at(self, beta: float) -> Self:
        other = super().at(beta)
        other.wide, other.deadline = self.wide.at(beta), float("inf")
        return other

    def price(self, Z: np.ndarray) -> Price:
        bound = float(np.sqrt(self.branch)) * self.wide.price(Z).value * (1.0 + 1e-12)
        found = self.search(Z)
        return Price(bound, "bounded", min(found[0].value, bound) if found else 0.0)

    def found(self, Z: np.ndarray, network: Network) -> float:
        affine = list(network.layers[0::2])
        biased = len(self.design.basis) > network.n_features
        own = self.weights_of(branches_of(affine, biased)) if network.width else None  # type: ignore[arg-type]
        return max([0.0, *(path.value for path in self.search(Z, own)[:1])])

    def weights_of(self, branches: list[Branch]) -> np.ndarray:
        """Weights ``w_j |v_j|`` of the neurons of branches, in the coordinates of the design, (k, m, d)."""
        out = np.zeros((len(branches), self.branch, self.design.X.shape[1]))
        for U, (W, v, _) in zip(out, branches, strict=True):
            U[: W.shape[1]] = (self.design.basis.T @ (W * np.abs(v[:, 0]))).T
        return out

    def search(self, Z: np.ndarray, own: np.ndarray | None = None) -> list[Path]:
        """Branches of unit cost for Z, the best first; `own` are weights (k, m, d) to start from too."""
        key = Z.tobytes() + (b"" if own is None else own.tobytes())
        if self._last is None or self._last[0] != key:
            found = _search(self.design.X, Z, self.branch, own, self.deadline)
            if time.perf_counter() > self.deadline:
                return found  # cut short, and not to be remembered
            self._last = (key, found)
        return self._last[1]


@dataclass(frozen=True, eq=False)
class Path:
    """A branch: its value, side, patterns (m, n) and signs (m,) of its neurons, own pattern (n,)."""

    value: float
    side: float
    masks: np.ndarray
    signs: np.ndarray
    second: np.ndarray

    @property
    def key(self) -> bytes:
        """Equal for branches of one cell, whatever the order of their neurons."""
        rows = sorted(
            m.tobytes() + np.sign(s).tobytes() for m, s in zip(self.masks, self.signs, strict=True)
        )
        return b"".join(rows) + self.second.tobytes() + (b"+" if self.side > 0 else b"-")


def signs_of(count: int, width: int) -> np.ndarray:
    """Signs of neurons (count, width): how many are positive goes round, one at least."""
    positive = 1 + np.arange(count) % width
    return np.where(np.arange(width) < positive[:, None], 1.0, -1.0)


def _search(
    X: np.ndarray, Z: np.ndarray, width: int, own: np.ndarray | None, deadline: float
) -> list[Path]:
    """Ascend from random and given weights, then solve for the best of the cells reached."""
    rng, found = np.random.default_rng(0), []
    if not np.any(Z) or not np.any(X):
        return []
    t = signs_of(STARTS, width)
    start = rng.standard_normal((STARTS, width, X.shape[1]))
    if own is not None and len(own):
        own = own[-STARTS:]
        moved = own + 0.3 * np.sqrt(np.mean(own**2)) * rng.standard_normal(own.shape)
        start = np.concatenate([start, *([own, moved] * width)])
        t = np.concatenate([t, np.repeat(signs_of(width, width), 2 * len(own), axis=0)])
    rows = X / float(np.max(np.abs(X)))  # what is live must not depend on units
    for side in (1.0, -1.0):
        z = side * Z / float(np.max(np.abs(Z)))

        def objective(v: np.ndarray, z: np.ndarray = z) -> tuple[float, np.ndarray]:
            U = v.reshape(start.shape)
            T = U @ rows.T
            h = (t[:, None, :] @ np.maximum(T, 0.0))[:, 0]
            value, square = np.maximum(h, 0.0) @ z, np.sum(U * U, axis=(1, 2))
            live = value > 1e-12
            inverse = np.where(live, 1.0 / np.where(live, value, 1.0), 0.0)
            pull = (h > 0) * z * inverse[:, None]
            G = -((t[:, :, None] * (T > 0)) * pull[:, None]) @ rows
            G += np.where(live, 1.0 / square, 0.0)[:, None, None] * U
            total = -float(np.sum(np.log(np.where(live, value, 1.0)))) + 50.0 * float(np.sum(~live))
            return total + 0.5 * float(np.sum(np.where(live, np.log(square), 0.0))), G.ravel()

        options = {"maxiter": 150, "ftol": 1e-13}
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            end = minimize(
                *(objective, start.ravel()),
                jac=True,
                method="L-BFGS-B",
                options=options,
                callback=stopping(deadline),
            ).x
        found += _solved_cells(X, Z, side, end.reshape(start.shape), t, deadline)
    return sorted(found, key=lambda path: -path.value)


def _solved_cells(
    X: np.ndarray, Z: np.ndarray, side: float, U: np.ndarray, t: np.ndarray, deadline: float
) -> list[Path]:
    """The best branch of the cell of each of the best distinct weights, until the deadline, and these."""
    T = U @ X.T
    h = (t[:, None, :] @ np.maximum(T, 0.0))[:, 0]
    values = side * (np.maximum(h, 0.0) @ Z) / np.maximum(np.linalg.norm(U, axis=(1, 2)), 1e-300)
    found, seen = [], set()
    for k in np.argsort(-values, kind="stable")[:SOLVED]:
        key = (T[k] > 0).tobytes() + (h[k] > 0).tobytes() + t[k].tobytes()
        if values[k] <= 0.0 or key in seen:
            continue
        seen.add(key)
        masks, second = T[k] > 0, h[k] > 0
        units = [U[k] / float(np.linalg.norm(U[k]))]
        if time.perf_counter() <= deadline:
            nest = Nest.of(masks, t[k], np.zeros(len(masks), int), second[None], np.array([side]))
            G = ((nest.passed[:, None] * masks * second) * Z) @ X
            best = NestedCones(X, nest, True).projected(0, G.ravel()).reshape(U[k].shape)
            size = float(np.linalg.norm(best))
            units = ([best / size] if size > 0 else []) + units
        for V in units:
            inner = t[k] @ np.maximum(V @ X.T, 0.0)
            value = float(side * (Z @ np.maximum(inner, 0.0)))
            found.append(Path(value, side, masks, t[k], second))
    return found
