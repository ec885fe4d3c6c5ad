r"""Sharpen a nearly optimal ReLU network to the last digits.

Newton's method on the network's own flat pieces (:mod:`cvxnn.face_newton`) needs to know which neurons are
zero and which samples sit on kinks. Every reasonable guess is tried and the best answer kept; a wrong
guess costs time, never truth, as answers are judged as networks. Then neurons that still price out
are taken in with the magnitudes a small Lasso gives them (:func:`cvxnn.growth.insert`), until none does.

References: Denoyelle, Duval, Peyré and Soubies, Inverse Problems 2019 (sliding Frank-Wolfe); Lewis,
SIAM J. Optim. 2002.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from .certificate import Judged
from .face_newton import Piece, flat_piece, newton
from .growth import Rows, insert, merge
from .network import Affine, Network
from .oracles import NeuronOracle
from .program import Problem
from .units import SAME, outputs_of, unit_neurons

__all__ = ["sharpen"]

#: A sample is on a neuron's kink if ``|x'u|`` is below such a share of ``|x| |u|``; all are tried.
KINKS = (1e-9, 1e-7, 1e-5, 1e-4, 1e-3)
#: A neuron is at zero if it is below such a share of the sum of all; all are tried.
CUTS = (0.0, 1e-9, 1e-7, 1e-5, 1e-3)
#: Neurons priced above beta by more than this share are taken in, in so many rounds.
OUT, ROUNDS = 1e-9, 6
#: Unknowns beyond which a network is not sharpened.
LARGEST = 3000


def sharpen(problem: Problem, architecture: Judged, oracle: NeuronOracle, network: Network) -> Network:
    """Return the network after Newton's method and taking in neurons that price out, in turn.

    Parameters
    ----------
    problem : Problem
        The oracle's.
    architecture : object with ``cost(network)``
    oracle : NeuronOracle
    network : Network
        Nearly optimal, ``Affine -> ReLU -> Affine``.

    Returns
    -------
    Network
        Never of a larger objective, up to rounding.
    """
    fused = _decoded(problem, oracle, _rows(oracle, network))
    values = [_worth(problem, architecture, oracle, net)[0] for net in (fused, network)]
    if fused.width < network.width and values[0] <= values[1] + 1e-12 * abs(values[1]):
        network = fused
    for _ in range(ROUNDS):
        # what Newton shrinks towards zero is recognised as zero the next time
        for _ in range(ROUNDS):
            network, before = _settled(problem, architecture, oracle, network), network
            if network is before:
                break
        Z = problem.residual(network(problem.X))
        found = oracle.active(Z, problem.beta * (1.0 + OUT), network)
        if not len(found.values):
            break
        rows = insert(problem, oracle.design, _rows(oracle, network), found)
        grown = _decoded(problem, oracle, rows)
        values = [_worth(problem, architecture, oracle, net)[0] for net in (grown, network)]
        if values[0] >= values[1]:
            break
        network = grown
    return network


def _rows(oracle: NeuronOracle, network: Network) -> Rows:
    """The neurons of a network as signed rows, equal ones added up."""
    last = network.layers[-1]
    assert isinstance(last, Affine)
    U, signs = oracle.neurons_of(network) * np.abs(last.weight), np.sign(last.weight[:, 0])
    kept = oracle.design.norms(U) > 0
    return merge(Rows(U[kept], signs[kept]), oracle.design, SAME)


def _settled(problem: Problem, architecture: Judged, oracle: NeuronOracle, network: Network) -> Network:
    """The best of Newton's answers for several guesses of what is zero and which samples are on kinks."""
    rows = _rows(oracle, network)
    tried: set[tuple[int, ...]] = set()
    best = network
    least, off = _worth(problem, architecture, oracle, network)
    for cut, kink in product(CUTS, KINKS):
        size = oracle.design.norms(rows.U)
        used = Rows(rows.U[size > cut * np.sum(size)], rows.signs[size > cut * np.sum(size)])
        pieces = _pieces(oracle, used, kink)
        guess = tuple(piece.fit.shape[1] for piece in pieces or ())
        if not pieces or guess in tried or sum(guess) > LARGEST:
            continue
        tried.add(guess)
        net = _decoded(problem, oracle, Rows(np.array(newton(problem, pieces)), used.signs))
        value, deviation = _worth(problem, architecture, oracle, net)
        if value <= least + 1e-12 * abs(least) and (deviation < off or value < least * (1.0 - 1e-9)):
            best, least, off = net, min(value, least), deviation
    return best


def _pieces(oracle: NeuronOracle, rows: Rows, kink: float) -> list[Piece] | None:
    """The flat pieces of all neurons; None where a neuron has none."""
    X = oracle.X
    T = X @ rows.U.T
    scale = np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(rows.U, axis=1)
    tight = (np.abs(T) <= kink * scale) & (scale > 0)
    pieces = []
    for j, (u, sign) in enumerate(zip(rows.U, rows.signs, strict=True)):
        piece = flat_piece(X, u, T[:, j] > 0, sign, oracle.free, tight[:, j])
        if piece is None:
            return None
        pieces.append(piece)
    return pieces


def _decoded(problem: Problem, oracle: NeuronOracle, rows: Rows) -> Network:
    """The network of signed rows, with balanced layers and its best constant."""
    d = problem.X.shape[1]
    full = oracle.design.weights(rows.U)
    root = np.sqrt(oracle.design.norms(rows.U))
    W, a = np.ascontiguousarray((full[:, :d] / root[:, None]).T), rows.signs * root
    bias = full[:, d] / root if full.shape[1] > d else np.zeros(len(root))
    network = Network.two_layer(W, bias, a)
    if not problem.intercept:
        return network
    return Network.two_layer(
        W, bias, a, problem.loss.intercept(network(problem.X), problem.y, problem.weights)
    )


def _worth(
    problem: Problem, architecture: Judged, oracle: NeuronOracle, network: Network
) -> tuple[float, float]:
    """The objective of a network, and how far the prices of its neurons are from beta, relative."""
    f = network(problem.X)
    units, _ = unit_neurons(network, oracle.free)
    prices = outputs_of(units, problem.X).T @ problem.residual(f)
    off = float(np.max(np.abs(prices / problem.beta - 1.0), initial=0.0))
    return problem.value(f, architecture.cost(network)), off
