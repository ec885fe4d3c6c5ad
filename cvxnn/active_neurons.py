r"""The neurons that an optimal network may use: those whose price at its dual variable is beta.

No network is better if and only if no unit neuron has a price above beta, and an optimal network has
neurons of price beta only. Per cell and sign these are one direction, the projection of the gradient onto
the cell's cone; a free bias slides between the samples at which the price is as high. Prices are compared
with a floor a little below beta, as deep as rounding or a duality gap may have lowered them.

References: Mishkin and Pilanci, "Optimal sets and solution paths of ReLU networks", ICML 2023, section 3;
Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

import numpy as np

from .architectures import Architecture
from .architectures.gated import GatedReLU, GateOracle
from .arrangement import Arrangement
from .certificate import Oracle
from .growth import Rows, merge
from .network import Affine, Gated, Network
from .oracles import NeuronOracle
from .units import SAME

__all__ = ["active_neurons", "candidate_outputs", "design_of"]


def active_neurons(
    architecture: Architecture,
    arrangement: Arrangement | None,
    oracle: Oracle,
    Z: np.ndarray,
    floor: float,
    network: Network,
) -> Network:
    """Return the unit neurons priced at least `floor`, as a network.

    Parameters
    ----------
    architecture : Architecture
    arrangement : Arrangement or None
        The patterns of the training.
    oracle : Oracle
        Of neurons, or of gates.
    Z : ndarray of shape (n,)
    floor : float
    network : Network
        The optimal network, from whose neurons a search starts.

    Raises
    ------
    ValueError
        If a gated network has other gates than the arrangement.
    """
    if isinstance(oracle, GateOracle):
        assert isinstance(architecture, GatedReLU) and arrangement is not None
        return _active_gates(architecture, arrangement, oracle, Z, floor, network)
    assert isinstance(oracle, NeuronOracle)
    U, signs = _directions(oracle, Z, floor, network)
    full, d = oracle.design.weights(U), oracle.problem.X.shape[1]
    bias = full[:, d] if full.shape[1] > d else np.zeros(len(full))
    return Network.two_layer(np.ascontiguousarray(full[:, :d].T), bias, signs)


def _active_gates(
    architecture: GatedReLU,
    arrangement: Arrangement,
    oracle: GateOracle,
    Z: np.ndarray,
    floor: float,
    network: Network,
) -> Network:
    """The gated ones: a gate has one unit neuron, and its price is the norm of its gradient."""
    d = oracle.problem.X.shape[1]
    known = {gate.tobytes() for gate in arrangement.gates}
    if any(np.ascontiguousarray(g).tobytes() not in known for g in architecture.gates_of(network)):
        raise ValueError("the network has other gates than drawn here: pass the training's random_state")
    G = oracle.operator.adjoint(Z)
    size = np.linalg.norm(G, axis=1)
    kept = (size >= floor) & (size > 0)
    gates, W = arrangement.gates[kept], G[kept] / size[kept, None]
    zeros = np.zeros(len(W))
    biased = architecture.hidden_bias is not None
    layer = Gated(
        gates[:, :d].T, gates[:, d] if biased else zeros, W[:, :d].T, W[:, d] if biased else zeros
    )
    return Network((layer, Affine(np.ones((len(W), 1)), np.zeros(1))))


def _directions(
    oracle: NeuronOracle, Z: np.ndarray, floor: float, network: Network
) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (k, r) and signs; with a free bias all its breakpoints that price at `floor`."""
    found = oracle.active(Z, floor, network)
    U, signs = found.directions, found.signs
    if not oracle.free or not len(U):
        return U, signs
    rows, sides = [], []
    for u, sign in zip(U, signs, strict=True):
        t = oracle.X[:, :-1] @ u[:-1]
        order = np.argsort(-t, kind="stable")
        z = sign * Z[order]
        values = np.cumsum(z * t[order]) - t[order] * np.cumsum(z)
        for b in np.unique(-t[order][values >= floor]):
            rows.append(np.append(u[:-1], b / oracle.X[0, -1]))
            sides.append(sign)
    return np.array(rows).reshape(-1, U.shape[1]), np.array(sides)


def design_of(oracle: Oracle) -> np.ndarray:
    """Return the design matrix that neurons see."""
    return oracle.operator.X if isinstance(oracle, GateOracle) else oracle.X  # type: ignore[attr-defined]


def candidate_outputs(oracle: Oracle, Z: np.ndarray, floor: float, network: Network) -> np.ndarray:
    """Return outputs (n, k) of a neuron per pattern and sign that is priced at least `floor`."""
    if isinstance(oracle, GateOracle):
        G = oracle.operator.adjoint(Z)
        size = np.linalg.norm(G, axis=1)
        kept = np.flatnonzero((size >= floor) & (size > 0))
        units = np.zeros_like(G)
        fits = []
        for j in kept:
            units[:] = 0.0
            units[j] = G[j] / size[j]
            fits.append(oracle.operator.apply(units))
        return np.array(fits).reshape(-1, len(Z)).T
    assert isinstance(oracle, NeuronOracle)
    found = oracle.active(Z, floor, network)
    rows = merge(Rows(found.directions, found.signs), oracle.design, SAME)
    if not len(rows.signs):
        return np.zeros((len(Z), 0))
    U = rows.U / oracle.design.norms(rows.U)[:, None]
    return np.maximum(oracle.X @ U.T, 0.0) * rows.signs
