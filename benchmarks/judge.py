"""The judge: objectives and gaps of recorded networks, from their weights, with our own arithmetic.

The objective of a snapshot is ``(1/n) sum_i loss_i + alpha * sum_j ||w_j|| |a_j|`` in float64: weight
decay after the best rescaling of every neuron, which favours peers that are not balanced. A gated network
also gets its exact relative duality gap, from its own residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvxnn.architectures.gated import GatedReLU
from cvxnn.architectures.relu import ReLU
from cvxnn.certificate import judge
from cvxnn.losses import get_loss
from cvxnn.network import Affine, Gated, Network
from cvxnn.program import Problem

from .problems import Data

#: "Solved" means an objective within this share of the best known one.
TARGET = 1e-4


@dataclass(frozen=True, eq=False)
class Verdict:
    """A judged trajectory.

    Parameters
    ----------
    seconds, objective : ndarrays of shape (k,)
    width : ndarray of shape (k,)
        Neurons whose share of the cost is above 1e-10.
    gap : ndarray of shape (k,) or None
        Relative duality gaps of gated networks.
    """

    seconds: np.ndarray
    objective: np.ndarray
    width: np.ndarray
    gap: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return lists for JSON."""
        lists = {"seconds_of": self.seconds, "objective": self.objective, "width": self.width}
        if self.gap is not None:
            lists["gap"] = self.gap
        return {key: values.tolist() for key, values in lists.items()}


def read(path: str) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Return the times and networks that a :class:`benchmarks.recorder.Recorder` saved."""
    with np.load(path) as file:
        times = file["times"]
        shots: list[dict[str, np.ndarray]] = [{} for _ in times]
        for key in file.files:
            name, _, index = key.partition("_")
            if index:
                shots[int(index)][name] = file[key]
    return times, shots


def judge_relu(data: Data, alpha: float, path: str, hidden_bias: str | None = None) -> Verdict:
    """Judge a trajectory of two-layer ReLU networks; those that are not finite count as infinitely bad."""
    times, shots = read(path)
    free = hidden_bias == "free"
    problem = Problem.from_alpha(data.X, data.y, None, get_loss(data.loss), alpha, free)
    architecture = ReLU(hidden_bias=hidden_bias)
    objectives, widths = [], []
    for shot in shots:
        W, a = shot["W"], shot["a"]
        b = shot.get("b", np.zeros(len(a)))
        network = Network.two_layer(W, b, a, float(shot["c"][0]))
        if not all(np.all(np.isfinite(v)) for v in shot.values()):
            objectives.append(np.inf)
        else:
            value = problem.value(network(problem.X), architecture.cost(network))
            objectives.append(value / problem.total_weight)
        widths.append(_width(np.linalg.norm(W, axis=0) * np.abs(a)))
    return Verdict(times, np.array(objectives), np.array(widths, dtype=int))


def judge_gated(data: Data, alpha: float, path: str, gates: np.ndarray) -> Verdict:
    """Judge a trajectory of gated networks on given gates, shape (P, d)."""
    times, shots = read(path)
    problem = Problem.from_alpha(data.X, data.y, None, get_loss(data.loss), alpha, False)
    architecture = GatedReLU(hidden_bias=None, patterns=gates)
    oracle = architecture.oracle(problem, architecture.arrange(problem, np.random.default_rng(0)))
    objectives, widths, gaps = [], [], []
    for shot in shots:
        W = shot["W"]
        norms = np.linalg.norm(W, axis=1)
        kept = norms > 0
        zeros, root = np.zeros(int(np.sum(kept))), np.sqrt(norms[kept])
        layer = Gated(gates[kept].T, zeros, (W[kept] / root[:, None]).T, zeros)
        network = Network((layer, Affine(root[:, None], np.zeros(1))))
        certificate = judge(network, problem, architecture, oracle)
        objectives.append(certificate.objective)
        gaps.append(certificate.gap)
        widths.append(_width(norms))
    return Verdict(times, np.array(objectives), np.array(widths, dtype=int), np.array(gaps))


def _width(sizes: np.ndarray) -> int:
    return int(np.sum(sizes > 1e-10 * np.sum(sizes)))


def time_to(seconds: list[float], values: list[float], bar: float) -> float:
    """Return the first of `seconds` at which the value is at most `bar`, ``inf`` if it never is."""
    reached = [s for s, value in zip(seconds, values, strict=True) if value <= bar]
    return min(reached, default=float("inf"))
