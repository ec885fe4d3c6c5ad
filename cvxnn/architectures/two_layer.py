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

from ..arrangement import Arrangement
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


def is_sample(patterns: Any) -> bool:
    """Whether `patterns` asks for a sample: a number of patterns, given gates, or wedges."""
    return not isinstance(patterns, str) or patterns == "wedge"


def check_patterns(patterns: Any, arrays: bool = False) -> None:
    """Raise ValueError unless `patterns` is one of the choices of a family that samples patterns.

    Parameters
    ----------
    patterns : object
        ``"auto"``, ``"all"``, a number of at least 1, ``"wedge"``, ``("wedge", number)`` or ``("wedge",
        number, columns of the sketch)``.
    arrays : bool
        Whether an array of gates is one too.
    """
    if isinstance(patterns, np.ndarray):
        right = arrays
    elif isinstance(patterns, str):
        right = patterns in ("auto", "all", "wedge")
    elif isinstance(patterns, numbers.Integral):
        right = not isinstance(patterns, bool) and int(patterns) >= 1
    else:
        right = wedge_number(patterns, GATES) is not None
    if not right:
        raise ValueError(
            f"patterns={patterns!r} is unknown: pass 'auto', 'all', an integer of at least 1, "
            f"{'an array of gates, ' if arrays else ''}'wedge' or ('wedge', number)"
        )


def count_of(patterns: Any, default: int) -> int:
    """Return how many patterns a sample has, `default` where it does not say."""
    wanted = wedge_number(patterns, default)
    if wanted is not None:
        return wanted[0]
    return default if isinstance(patterns, str) else int(patterns)


def wedges_of(X: np.ndarray, patterns: Any, number: int, random_state: np.random.Generator) -> np.ndarray:
    """Draw gates through random samples, or Gaussian ones where `patterns` does not ask for wedges.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    patterns : object
        One of the choices of :func:`check_patterns`.
    number : int
        Of gates, whatever number `patterns` has.
    random_state : numpy.random.Generator

    Returns
    -------
    ndarray of shape (number, d)
    """
    wanted = wedge_number(patterns, number)
    if wanted is None:
        return random_state.standard_normal((number, X.shape[1]))
    return wedge_gates(X, number, random_state, wanted[1])


def sampled(
    X: np.ndarray, patterns: Any, random_state: np.random.Generator, default: int = GATES
) -> Arrangement:
    """Draw the patterns that every family with sampled patterns draws: of Gaussian gates, or of gates
    through random samples, see :mod:`cvxnn.geometric`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        What gates see.
    patterns : object
        One of the choices of :func:`check_patterns`, "auto" for `default` Gaussian gates.
    random_state : numpy.random.Generator
    default : int
        The number of gates where none is given.
    """
    number = count_of(patterns, default)
    if wedge_number(patterns, number) is None:
        return Arrangement.sample(X, number, random_state=random_state)
    return Arrangement.from_gates(X, wedges_of(X, patterns, number, random_state))


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
