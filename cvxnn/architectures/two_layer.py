"""What two-layer families share: the choices they take, what their neurons see, constants and costs.

A neuron sees the data, with a column of ones where it has a bias; the constant of the output is free, and
follows from the rest as the best one. Of one output ``1/2 sum_j (size_j^2 + a_j^2)`` is ``sum_j size_j
|a_j|`` once both layers are balanced.

Reference: Pilanci and Ergen, ICML 2020.
"""

from __future__ import annotations

import numbers
from dataclasses import replace
from typing import Any

import numpy as np

from ..geometric import GATES, wedge_gates, wedge_number
from ..network import Affine, Network
from ..program import Problem

#: The values of `hidden_bias`, shared by all two-layer architectures.
HIDDEN_BIAS = ("penalized", "free", None)


def check_hidden_bias(hidden_bias: Any) -> None:
    """Raise ValueError unless `hidden_bias` is one of the three choices."""
    if hidden_bias not in HIDDEN_BIAS:
        raise ValueError(
            f"hidden_bias={hidden_bias!r} is unknown: pass 'penalized' (the default), 'free' or None"
        )


def check_count(patterns: Any) -> int:
    """Return a number of patterns to sample.

    Raises
    ------
    ValueError
        If it is not an integer of at least 1.
    """
    if not isinstance(patterns, numbers.Integral) or isinstance(patterns, bool) or patterns < 1:
        raise ValueError(
            f"patterns={patterns!r} must be 'auto', 'all' or an integer: pass at least 1 (or, for gates "
            "through samples, ('wedge', number))"
        )
    return int(patterns)


def sampled_gates(
    X: np.ndarray, patterns: Any, random_state: np.random.Generator, default: int = GATES
) -> np.ndarray | None:
    """Return gates through random samples where `patterns` asks for them, see :mod:`cvxnn.geometric`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    patterns : object
        ``"wedge"``, ``("wedge", number)`` or ``("wedge", number, columns of the sketch)``.
    random_state : numpy.random.Generator
    default : int
        The number of gates where none is given.

    Returns
    -------
    ndarray of shape (number, d), or None if `patterns` is something else
    """
    wanted = wedge_number(patterns, default)
    return None if wanted is None else wedge_gates(X, wanted[0], random_state, wanted[1])


def is_sample(patterns: Any) -> bool:
    """Whether `patterns` asks for a sample: a number of patterns, given gates, or wedges."""
    return not isinstance(patterns, str) or patterns == "wedge"


def check_skip(skip: object) -> None:
    """Raise ValueError unless `skip` is True or False."""
    if not isinstance(skip, bool):
        raise ValueError(
            f"skip={skip!r} must be True or False: pass skip=True for a linear skip connection"
        )


def refuse_skip(skip: object, why: str) -> None:
    """Raise ValueError unless `skip` is False, for a family that has no use for a skip connection."""
    check_skip(skip)
    if skip:
        raise ValueError(f"skip=True: {why}")


def free_constants(problem: Problem, hidden_bias: str | None) -> Problem:
    """Return the problem with free constants of the output, which free hidden biases bring."""
    freed = hidden_bias == "free" and not problem.intercept
    return replace(problem, intercept=True) if freed else problem


def with_constants(problem: Problem, network: Network) -> Network:
    """Return a network whose output has no constants with the best ones, if the problem has any."""
    if not problem.intercept:
        return network
    c = problem.loss.intercept(network(problem.X), problem.y, problem.weights)
    last = network.layers[-1]
    assert isinstance(last, Affine)
    constants = np.atleast_1d(np.asarray(c, dtype=np.float64))
    return Network((*network.layers[:-1], Affine(last.weight, constants)))


def balanced_cost(sizes: np.ndarray, network: Network) -> float:
    """Return ``sum_j size_j |a_j|`` of a network of one output: what neurons of these sizes cost when both
    layers have equal shares."""
    last = network.layers[-1]
    assert isinstance(last, Affine)
    return float(sizes @ np.abs(last.weight[:, 0]))


def design_matrix(problem: Problem, hidden_bias: str | None) -> np.ndarray:
    """Return X with a column of ones if neurons have a bias, shape (n, d) or (n, d + 1)."""
    if hidden_bias is None:
        return problem.X
    return np.column_stack([problem.X, np.ones(len(problem.X))])
