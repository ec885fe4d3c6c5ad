"""Networks trained stage by stage on frozen layers: what dense and convolutional ones share.

A stage is a two-layer network of some family on the features that the frozen layers before it make; it is
lifted, decoded, priced and certified as that family says, on these features, see
:mod:`cvxnn.architectures.layerwise` for the idea. Training is the families' own, one after the other, with
the best network so far, its certificate and the copy of a predictor handed from stage to stage.

References: Belilovsky, Eickenberg and Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML
2019; Sahiner, Ergen, Ozturkler, Pauly, Mardani and Pilanci, ICML 2022 (convex stages).
"""

from __future__ import annotations

import numbers
import time
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np

from ..arrangement import Arrangement
from ..certificate import Certificate, Oracle, judge
from ..frozen_layers import (
    FrozenOracle,
    Layers,
    copied_by_skip,
    copied_by_units,
    features,
    split,
    with_skip,
)
from ..network import Network
from ..program import Problem, Program, Solution
from ..registry import members
from .base import Architecture, Effort, Progress, Stage, Training, VectorArchitecture
from .hidden import GatedHidden, positive
from .two_layer import is_sample


class Stages:
    """What layer-wise networks of one and of several outputs share."""

    staged: ClassVar[bool] = True
    name: ClassVar[str]

    hidden_bias: str | None
    patterns: Any
    stages: int
    stage: str | Architecture
    skip: bool
    frozen: Layers

    def __post_init__(self) -> None:
        # an object as a stage has parameters of its own: say the same here
        for name in ("hidden_bias", "patterns", "coupling"):
            if isinstance(self.stage, Architecture) and hasattr(self, name):
                object.__setattr__(self, name, getattr(self.stage, name, getattr(self, name)))

    @classmethod
    def reads(cls, network: Network) -> bool:
        """Whether a network is a two-layer one of some family on top of hidden layers."""
        tops = [family.reads for family in cls._families().values()]
        # families of deep networks may read the whole as theirs, with nothing below
        return any(found is not None and bool(found[0]) for found in (split(network, r) for r in tops))

    @classmethod
    def _families(cls) -> dict[str, type[Architecture]]:
        """The families that stages may train, by name."""
        kind = VectorArchitecture if issubclass(cls, VectorArchitecture) else Architecture
        known = members(__package__ or "", kind)  # type: ignore[type-abstract]
        return {name: family for name, family in known.items() if cls._stacks(family)}

    def check_stages(self) -> None:
        """Refuse a number of stages that is none.

        Raises
        ------
        ValueError
            Then.
        """
        if (
            not isinstance(self.stages, numbers.Integral)
            or isinstance(self.stages, bool)
            or self.stages < 1
        ):
            raise ValueError(
                f"stages={self.stages!r} is no number of stages: pass an integer of at least 1"
            )

    @staticmethod
    def _stacks(kind: type[Architecture]) -> bool:
        """Whether the hidden units of a family's networks may be the features of another stage."""
        own = kind.hidden_units is not Architecture.hidden_units
        return own and not (kind.staged or kind.folded)

    def family(self) -> Architecture:
        """Return the family of the two-layer networks that the stages train.

        Raises
        ------
        ValueError
            If there is none of this name, or numbers and switches of this family are none.
        """
        self.check_stages()
        if not isinstance(self.skip, bool | np.bool_):
            raise ValueError(f"skip={self.skip!r} is no switch: pass True or False")
        known = self._families()
        if isinstance(self.stage, Architecture) and self._stacks(type(self.stage)):
            return self.stage
        if not isinstance(self.stage, str) or self.stage not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(
                f"stage={self.stage!r} is no family of two-layer networks: pass one of {names}"
            )
        kind = known[self.stage]
        parts = {part.name for part in fields(kind)}  # type: ignore[arg-type]
        given = {name: getattr(self, name, None) for name in ("hidden_bias", "patterns", "coupling")}
        return kind(**{name: value for name, value in given.items() if name in parts})

    def for_outputs(self, outputs: int) -> Any:
        """Return this family, or its sister, with networks of a number of outputs."""
        if isinstance(self, VectorArchitecture) == (outputs > 1):
            return self
        of = VectorArchitecture if outputs > 1 else Architecture
        kind = members(__package__ or "", of)[self.name]  # type: ignore[type-abstract]
        names = [part.name for part in fields(kind)]  # type: ignore[arg-type]
        parts = {name: getattr(self, name) for name in names if hasattr(self, name)}
        if isinstance(self.stage, Architecture):
            parts["stage"] = self.stage.for_outputs(outputs)
        return kind(**parts)

    def inner(self, problem: Problem) -> Problem:
        """Return the problem on the features of the frozen layers."""
        return replace(problem, X=features(self.frozen, problem.X))

    def arrange(self, problem: Problem, random_state: np.random.Generator) -> Arrangement | None:
        return self.family().arrange(self.inner(problem), random_state)

    def lift(self, problem: Problem, arrangement: Arrangement) -> Program:
        """The program of the first stage on the frozen layers there are."""
        return self.family().lift(self.inner(problem), arrangement)

    def decode(self, problem: Problem, arrangement: Arrangement, solution: Solution) -> Network:
        return self._deep(self.family().decode(self.inner(problem), arrangement, solution))

    def _deep(self, top: Network) -> Network:
        return Network((*self.frozen, *top.layers))

    def cost(self, network: Network) -> float:
        """The penalty of the last two layers; frozen layers pay nothing.

        Raises
        ------
        ValueError
            If the last layers are not those of the stage's family.
        """
        family = self.family()
        parts = split(network, family.reads)
        return family.cost(network if parts is None else parts[1])

    def oracle(self, problem: Problem, arrangement: Arrangement | None) -> FrozenOracle:
        return self.oracle_within(problem, arrangement, None)

    def oracle_within(
        self, problem: Problem, arrangement: Arrangement | None, max_time: float | None
    ) -> FrozenOracle:
        """The oracle of the first stage on the frozen layers there are."""
        family = self.family()
        inner = family.oracle_within(self.inner(problem), arrangement, max_time)
        return FrozenOracle(problem, inner, self.frozen, family.reads)

    def unit_neurons(self, problem: Problem, arrangement: Arrangement | None, U: np.ndarray) -> np.ndarray:
        inner = self.inner(problem)
        if inner.X.shape[1] + 1 != U.shape[1]:
            # arbitrary directions in the space of the features
            U = U @ np.random.default_rng(0).standard_normal((U.shape[1], inner.X.shape[1] + 1))
        return self.family().unit_neurons(inner, arrangement, U)

    def nothing(self, problem: Problem) -> Network:
        return self._deep(self.family().nothing(self.inner(problem)))

    def adopt(self, W1: np.ndarray, b1: np.ndarray, w2: np.ndarray, c: Any) -> Network:
        """A two-layer network on the frozen layers there are."""
        return self._deep(self.family().adopt(W1, b1, w2, c))

    def like(self, network: Network) -> Any:
        """Return the family of one stage on the frozen layers of a network; the stage is that of its last
        layers, ours if they are."""
        family = self.family()
        parts = split(network, family.reads)
        if parts is None:
            others = self._families().values()
            named = next((kind for kind in others if split(network, kind.reads) is not None), None)
            if named is None:
                return self
            return replace(self, stage=named.name).like(network)  # type: ignore[type-var]
        return replace(self, frozen=parts[0], stages=1, stage=family.like(parts[1]))  # type: ignore[type-var]

    given = like

    def train(
        self, problem: Problem, arrangement: Arrangement | None, oracle: Oracle, effort: Effort
    ) -> Training:
        assert isinstance(oracle, FrozenOracle)
        at, copy, before = self, None, float("inf")
        for k in range(self.stages):
            if k:
                arrangement = at.arrange(problem, effort.random_state)
                spare = effort.within(1.0 / (self.stages - k)) - time.perf_counter()
                oracle = at.oracle_within(problem, arrangement, spare if np.isfinite(spare) else None)
                oracle = oracle.at(problem.beta)
            left = self.stages - k
            network = yield from at._stage(problem, arrangement, oracle, effort, copy, before, left)
            if k + 1 == self.stages or not network.width:
                break
            certificate = self._judged(at, network, oracle, effort, left)
            effort.stages.append(Stage(network, certificate))
            before = certificate.objective * problem.total_weight * (1.0 + 1e-12)
            at, copy = at._next(network)
            at = at._with_gates(self.family(), problem, arrangement, effort.random_state)
        return network

    def _judged(
        self, at: Stages, network: Network, oracle: FrozenOracle, effort: Effort, left: int
    ) -> Certificate:
        """The certificate of a stage that is finished."""
        duals = tuple(line.Z for line in effort.history if line.Z is not None)[-1:]
        spare = max(1.0, 0.5 * (effort.within(1.0 / left) - time.perf_counter()))
        return judge(
            network, oracle.problem, at, oracle, duals=duals, max_iter=effort.bound_iter, max_time=spare
        )

    def _stage(
        self,
        problem: Problem,
        arrangement: Arrangement | None,
        oracle: FrozenOracle,
        effort: Effort,
        copy: Network | None,
        before: float,
        left: int,
    ) -> Training:
        """Train the stage on the frozen layers, from a copy of the predictor before it if there is one.

        While the stage's networks are worse than the one before it, that one is the best so far. With
        `left` stages to go, this one among them, a stage may take its share of the time there is.
        """
        inner, family = self.inner(problem), self.family()
        deadline = effort.within(1.0 / left)
        part = replace(effort, history=[], stages=[], start=copy, deadline=deadline)
        training = family.train(inner, arrangement, oracle.inner, part)
        answer: Solution | None = None
        best: Network | None = None
        try:
            while True:
                request = training.send(answer)
                network = None if request.network is None else self._deep(request.network)
                best = network or best
                better = network is not None and self._value(oracle.problem, network) <= before
                if better:
                    effort.oracle, effort.history = oracle, part.history
                elif isinstance(request, Progress) and np.isfinite(before):
                    request = replace(request, objective=before)
                answer = yield replace(request, network=network if better else None)
                if best is not None and left > 1 and time.perf_counter() > deadline:
                    network = best
                    break
        except StopIteration as stop:
            network = self._deep(stop.value)
        finally:
            training.close()
        effort.oracle, effort.history = oracle, part.history
        start = network if copy is None else self._deep(copy)
        worse = self._value(oracle.problem, start) < self._value(oracle.problem, network)
        return start if worse else network

    def _value(self, problem: Problem, network: Network) -> float:
        return problem.value(network(problem.X), self.cost(network))

    def _next(self, network: Network) -> tuple[Stages, Network | None]:
        """The family of the next stage, and a network of it on the new features that copies this one."""
        family = self.family()
        parts = split(network, family.reads)
        assert parts is not None
        top = parts[1]
        units, copy = family.hidden_units(top), None
        # the patterns of a copy may not be among sampled ones, which the certificate is about
        known = isinstance(family, GatedHidden) or not is_sample(getattr(family, "patterns", "auto"))
        if self.skip:
            copy = copied_by_skip(top, top.width) if known else None
            units = with_skip(units)
        elif known and hasattr(family, "hidden_norms"):
            sizes = positive(family.hidden_norms(top))
            copy = copied_by_units(top, sizes, getattr(self, "coupling", "joint"))
        return replace(self, frozen=(*parts[0], *units)), copy  # type: ignore[type-var]

    def _with_gates(
        self,
        first: Architecture,
        problem: Problem,
        before: Arrangement | None,
        random_state: np.random.Generator,
    ) -> Stages:
        """This family with gates for its features where gates are fixed: fresh ones, drawn as those of the
        first stage, beside those that a copy of the predictor needs."""
        if not isinstance(first, GatedHidden) or before is None:
            return self
        if isinstance(first.patterns, np.ndarray):
            raise ValueError("gates in an array fit the first stage only: pass a number of patterns")
        gates = first.arrange(self.inner(problem), random_state).gates
        kept = np.zeros((1, gates.shape[1]))
        if self.skip:
            d = before.gates.shape[1] - (first.hidden_bias is not None)
            kept = np.zeros((len(before), gates.shape[1]))
            kept[:, :d] = before.gates[:, :d]
            if first.hidden_bias is not None:
                kept[:, -1] = before.gates[:, -1]
        return replace(self, stage=replace(first, patterns=np.vstack([kept, gates])))  # type: ignore[type-var]
