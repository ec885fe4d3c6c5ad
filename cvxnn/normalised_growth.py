r"""Growing cells of neurons that are normalised after the ReLU, for losses with kinks.

Where not all cells can be listed, the program over some of them (:mod:`cvxnn.normalised_program`) is still
exact there, kinks of the loss included, and its dual variable is one of the middle of all that are optimal,
which prices low elsewhere. So cells are drawn, the program over them is solved by column generation, a
search over all cells (:mod:`cvxnn.normalised_search`) prices its dual variable, and the cells of what it
finds join the others, until it finds nothing. A neuron found may lie on walls of its cell: the cells on
either side of them join too, as far as small moves from the neuron reach them.

References: Bach, JMLR 2017, section 4 (growing networks); du Merle, Villeneuve, Desrosiers and Hansen,
"Stabilized column generation", Discrete Math. 1999, for why central dual variables need fewer rounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .normalised_cells import ConeOracle, Cones, Member, white
from .normalised_program import dual_of, solve_cones
from .normalised_search import SearchedCones

#: Cells drawn; cones that join the program at a time; neurons found whose cells join.
DRAWN, ADDED, TAKEN = 200, 20, 12
#: Relative lengths of the moves from a neuron to the cells around it, and moves of each.
MOVES, AROUND = (1e-4, 1e-2, 5e-2), 3
#: Relative distance to a wall below which a gate is on it.
CLEAR = 1e-7
#: Programs between two searches at most.
PROGRAMS = 10
#: Share of the weights below which a cone leaves the program.
ZERO = 1e-9


class GrownCells:
    """Cells that have been listed so far, and the program over them.

    Parameters
    ----------
    oracle : SearchedCones
    random_state : numpy.random.Generator

    Attributes
    ----------
    Z : ndarray of shape (n,)
        Dual variable of the last program.
    """

    def __init__(self, oracle: SearchedCones, random_state: np.random.Generator) -> None:
        self.oracle, self.problem, self.random_state = oracle, oracle.problem, random_state
        self.X, _ = white(oracle.data)
        self.cones, self.chosen = Cones([], [], False), list[Member]()
        self.Z = self.problem.residual(np.zeros_like(self.problem.y))
        self._seen: set[bytes] = set()

    def grow(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the neurons, rows (m, d) with their sizes and signs (m,), of one program after the other.

        Parameters
        ----------
        rows : ndarray of shape (k, d)
            Neurons whose cells are among the first.
        """
        drawn = self.random_state.standard_normal((DRAWN, self.X.shape[1]))
        gates = np.concatenate([drawn, self._around(rows)])
        while self._list(gates):
            U, signs = self._solved()
            yield U, signs
            found = self.oracle.search(self.Z, U, self.random_state)
            gates = self._around(found.rows[found.values > self.problem.beta][:TAKEN])

    def _around(self, rows: np.ndarray) -> np.ndarray:
        """Gates of neurons, and of small moves from them, in white coordinates."""
        gates = (self.oracle.data @ rows.T).T @ self.X
        gates = gates / np.maximum(np.linalg.norm(gates, axis=1, keepdims=True), 1e-300)
        lengths = np.repeat(MOVES, AROUND)[:, None, None]
        noise = self.random_state.standard_normal((len(lengths), *gates.shape))
        return np.concatenate([gates, (gates + lengths * noise).reshape(-1, self.X.shape[1])])

    def _list(self, gates: np.ndarray) -> bool:
        """List the cells of gates that are new; return whether there was one."""
        before = len(self.cones.rays)
        size = np.linalg.norm(self.X, axis=1)
        for gate in gates:
            T = self.X @ gate
            name = np.packbits(T > 0.0).tobytes()
            on_wall = np.any(np.abs(T) < CLEAR * size * np.linalg.norm(gate))
            if on_wall or name in self._seen:
                continue
            self._seen.add(name)
            try:
                new = Cones.of(self.oracle.data, self.problem.weights, gate[None])
            except ValueError:  # rounding leaves the cell in doubt
                continue
            rays, outputs = self.cones.rays + new.rays, self.cones.outputs + new.outputs
            self.cones = Cones(rays, outputs, False)
        return len(self.cones.rays) > before

    def _solved(self) -> tuple[np.ndarray, np.ndarray]:
        """Solve the program over the listed cells by column generation; return its neurons."""
        problem, listed = self.problem, ConeOracle(self.problem, self.cones)
        weights: list[np.ndarray] = []
        for k in range(PROGRAMS):
            out = [row for value, row in listed.members(self.Z)[1] if value > problem.beta * (1.0 + 1e-9)]
            fresh = [row for row in out if row not in self.chosen][:ADDED]
            if not fresh and (k or not self.chosen):
                break
            self.chosen += fresh
            weights, Z = solve_cones(problem, self.cones, self.chosen)
            self.Z = dual_of(problem, self.cones.fit(self.chosen, weights), Z)
        size = np.array([np.sum(x) for x in weights])
        kept = np.flatnonzero(size > ZERO * np.sum(size))
        rows = [weights[g] @ self.cones.rays[self.chosen[g][0]] for g in kept]
        signs = np.array([self.chosen[g][1] for g in kept])
        return np.reshape(rows, (-1, self.oracle.data.shape[1])), signs
