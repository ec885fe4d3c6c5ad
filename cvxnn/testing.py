"""Conformance checks: the laws of this package, to be called on a new member of a registry.

Whoever adds a loss, penalty, operator, solver or architecture calls its check and gets either nothing
or an ``AssertionError`` that names the law that does not hold and says by how much. The checks use random
data with fixed seeds, so they say the same thing every time::

    from cvxnn.testing import check_solver

    check_solver(MySolver())

They test what can be observed from outside (values, bounds, objectives), never how it was computed.

References: Pilanci and Ergen, ICML 2020, section 3 (the dual); Boyd and Vandenberghe, Convex Optimization,
section 5.2 (weak duality).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from .architectures import Architecture
from .arrangement import Arrangement, pack, patterns_of
from .arrays import to_numpy
from .certificate import Certificate, judge
from .constraints import Constraint, Free, ReLUCones
from .losses import LOSSES, Loss, get_loss
from .operators import Dense, Masked
from .penalties import GroupL2, NuclearNorm
from .program import Problem, Program, Solution, Status
from .solvers import SOLVERS, Solver, Unsupported, run
from .testing_parts import check_loss, check_operator, check_penalty, close, require, targets
from .train import choose_solver, train
from .vector_operators import Columns, PerColumn

__all__ = ["check_architecture", "check_loss", "check_operator", "check_penalty", "check_solver"]

#: Random unit neurons that an oracle is compared with.
N_NEURONS = 1000


def programs() -> Iterator[tuple[str, Program]]:
    """Small random programs of every kind: losses, cones or none, intercept, unpenalised bias, columns."""
    kinds = [(cones, False) for cones in (False, True)] + [(True, True)]
    for seed, name in enumerate(LOSSES):
        loss = get_loss(name)
        for cones, bias in kinds:
            for intercept in (False, True):
                if bias and not intercept:
                    continue  # a free hidden bias frees the output's constant
                rng = np.random.default_rng(100 + seed)
                label = f"{name}, {'cones' if cones else 'no cones'}, intercept {intercept}, bias {bias}"
                yield label, random_program(loss, rng, cones=cones, intercept=intercept, bias=bias)
        for intercept in (False, True):
            rng = np.random.default_rng(200 + seed)
            columns, s = rng.normal(size=(11, 7)), rng.uniform(0.5, 2.0, 11)
            y, label = targets(loss, 11, rng), f"{name}, explicit columns, intercept {intercept}"
            yield label, Program(Dense(columns, 7), loss, y, s, 0.4, intercept=intercept)


def vector_programs() -> Iterator[tuple[str, Program]]:
    """Small random programs of three outputs, losses by output and softmax: a column for every group, and
    nuclear norms of one matrix or of one for every pattern."""
    for seed, name in enumerate(("squared_error", "huber", "log_loss")):
        for intercept in (False, True):
            rng = np.random.default_rng(300 + seed)
            loss, columns = get_loss(name, 3), (rng.normal(size=(11, 9)) > 0).astype(float)
            y = np.eye(3)[np.arange(11) % 3] if loss.classification else rng.normal(size=(11, 3))
            s, label = rng.uniform(0.5, 2.0, 11), f"{name}, output vectors, intercept {intercept}"
            yield label, Program(Columns(columns, 3), loss, y, s, 0.4, intercept=intercept)
            X = rng.normal(size=(11, 4))
            for groups, masks in (
                (1, np.ones((1, 11), bool)),
                (5, patterns_of(X, rng.normal(size=(5, 4)))),
            ):
                label = f"{name}, {groups} nuclear norms, intercept {intercept}"
                operator = PerColumn(Masked(X, pack(masks)))
                yield label, Program(operator, loss, y, s, 0.4, NuclearNorm(), intercept=intercept)


def random_program(
    loss: Loss,
    rng: np.random.Generator,
    *,
    cones: bool,
    intercept: bool,
    bias: bool = False,
    n: int = 11,
    d: int = 3,
) -> Program:
    """A random program over patterns of Gaussian gates, with sample weights."""
    X = rng.normal(size=(n, d))
    if bias:
        X[:, -1] = 1.0
    masks = patterns_of(X, rng.normal(size=(6, d)))
    bits, signs = pack(masks), None
    if cones:
        bits, signs = np.concatenate([bits, bits]), np.repeat([1.0, -1.0], len(masks))
    constraint: Constraint = ReLUCones(X, bits, int(bias)) if cones else Free()
    y, s = targets(loss, n, rng), rng.uniform(0.5, 2.0, n)
    operator, penalty = Masked(X, bits, signs), GroupL2(int(bias))
    return Program(operator, loss, y, s, 0.4, penalty, constraint, intercept)


def check_solver(solver: Solver, tol: float = 1e-6, max_iter: int = 50_000) -> None:
    """Check that a solver reaches the duality gap on every kind of program it says it supports.

    Parameters
    ----------
    solver : Solver
    tol : float
        Relative duality gap to reach.
    max_iter : int
        Steps in which to reach it.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    seen = 0
    for label, program in (*programs(), *vector_programs()):
        able, reason = solver.supports(program)
        if not able:
            require(isinstance(reason, str) and reason, "supports", f"a refusal without a reason: {label}")
            try:
                run(solver, program, max_iter=1)
            except Unsupported as error:
                require(reason in str(error), "supports", f"the refusal does not say why: {label}")
                continue
            raise AssertionError(f"supports: the loop ran a refused program: {label}")
        seen += 1
        _check_run(solver, program, tol, max_iter, label)
    require(seen, "supports", "the solver supports none of the programs of this package")


@cache
def _optimum(label: str) -> Solution | None:
    """What the conic solver finds for a program made anew, whatever another did to its copy."""
    program = dict((*programs(), *vector_programs()))[label]
    reference = SOLVERS["conic"]()
    return run(reference, program, tol=1e-8) if reference.supports(program)[0] else None


def _check_run(solver: Solver, program: Program, tol: float, max_iter: int, label: str) -> None:
    before = [np.copy(program.target), np.copy(program.weights)]
    solution = run(solver, program, tol=tol, max_iter=max_iter)
    require(
        solution.status is Status.optimal and solution.gap <= tol,
        "convergence",
        f"gap {solution.gap:.1e}, status {solution.status.name}: {label}",
    )
    require(program.constraint.violation(solution.W) <= 1e-9, "feasibility", f"violated: {label}")
    primal = program.primal(solution.W, solution.offset)
    require(primal == solution.primal, "objective", f"{solution.primal} is really {primal}: {label}")
    require(
        program.intercept or not np.any(solution.offset),
        "objective",
        f"a constant that is not there: {label}",
    )
    true = _optimum(label)
    if true is not None:
        slack = 1e-9 * abs(true.primal)
        require(
            solution.bound <= true.primal + slack and true.bound <= solution.primal + slack,
            "weak duality",
            f"bound {solution.bound:.10g} and objective {solution.primal:.10g} do not enclose "
            f"the optimum {true.primal:.10g}: {label}",
        )
    again = run(solver, program, tol=tol, max_iter=max_iter)
    require(np.array_equal(again.W, solution.W), "determinism", f"two runs differ: {label}")
    warm = run(solver, program, tol=tol, max_iter=max_iter, start=solution.W)
    require(warm.gap <= 10 * tol, "warm start", f"from the optimum the gap is {warm.gap:.1e}: {label}")
    same = np.array_equal(before[0], program.target) and np.array_equal(before[1], program.weights)
    require(same, "frozen program", f"the solver changed the program: {label}")


def check_architecture(
    architecture: Architecture, features: int = 2, thorough: bool = True, outputs: int = 1
) -> None:
    """Check the laws of training and of certificates on small problems with both kinds of target.

    Parameters
    ----------
    architecture : Architecture
    features : int
        Number of features of the problems, for families that need more than two.
    thorough : bool
        Whether each kind of target is tried with an intercept and without; else one has it.
    outputs : int
        Number of outputs of the family's networks.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    for seed, name in enumerate(("squared_error", "log_loss")):
        for intercept in (False, True) if thorough else (seed == 1,):
            rng = np.random.default_rng(seed)
            X, loss = rng.normal(size=(8, features)), get_loss(name, outputs)
            y, s = targets(loss, 8, rng, outputs), rng.integers(1, 4, 8).astype(float)
            problem = Problem.from_alpha(X, y, s, loss, 0.03, intercept)
            arrangement = architecture.arrange(problem, np.random.default_rng(0))
            if arrangement is not None:
                _check_lift(architecture, problem, arrangement)
            _check_oracle(architecture, problem, arrangement, rng)
            certificate = _check_certificate(architecture, problem, arrangement, rng)
            _check_invariance(architecture, X, y, s, problem, certificate, rng)
            _check_alpha_max(architecture, X, y, s, problem, arrangement)


def _check_lift(architecture: Architecture, problem: Problem, arrangement: Arrangement) -> None:
    """Decode an optimal point and a shrunk one, where errors of first order show."""
    program = architecture.lift(problem, arrangement)
    check_operator(program.operator, 1 if problem.y.ndim == 1 else problem.y.shape[1])
    solution = run(choose_solver(program), program, tol=1e-10, max_iter=20_000)
    W = to_numpy(solution.W)
    size = np.linalg.norm(W.reshape(len(W), -1), axis=1)
    W = np.where((size > 1e-6 * np.sum(size)).reshape(-1, *[1] * (W.ndim - 1)), 0.7 * W, 0.0)
    f, y, s = to_numpy(program.predict(W)), problem.y, problem.weights
    c = problem.loss.intercept(f, y, s) if program.intercept else 0.0
    shrunk = replace(solution, W=W, offset=c, primal=program.primal(W, c), bound=0.0)
    for at, tol in ((solution, 1e-9 + solution.gap), (shrunk, 1e-9)):
        network = architecture.decode(problem, arrangement, at)
        value = architecture.objective(problem, network)
        require(
            abs(value - at.primal) <= tol * abs(at.primal),
            "decode preserves the objective",
            f"the network has {value:.12g}, the program {at.primal:.12g}",
        )


def duals(problem: Problem, rng: np.random.Generator, count: int = 6) -> Iterator[np.ndarray]:
    """Dual variables of a problem: residuals of predictions, and random ones of the right sum."""
    yield problem.residual(np.zeros_like(problem.y))
    for k in range(count):
        if k % 2:
            yield problem.residual(rng.normal(size=problem.y.shape))
        else:
            Z = rng.normal(size=problem.y.shape)
            yield problem.loss.balance(Z) if problem.intercept else Z


def _check_oracle(
    architecture: Architecture, problem: Problem, arrangement: Arrangement | None, rng: np.random.Generator
) -> None:
    oracle = architecture.oracle(problem, arrangement)
    U = rng.normal(size=(N_NEURONS, problem.X.shape[1] + 1))
    H = architecture.unit_neurons(problem, arrangement, U)
    require(H.shape == (N_NEURONS, *problem.y.shape), "unit neurons", f"shape {H.shape}")
    for Z in duals(oracle.problem, rng):
        price = oracle.price(Z)
        require(price.scope in ("global", "bounded", "patterns"), "scope", f"{price.scope!r} is no scope")
        require(
            0.0 <= price.found <= price.value,
            "oracle",
            f"the best neuron found, {price.found:.10g}, is above the bound {price.value:.10g}",
        )
        seen = oracle.seen(Z)
        require(
            abs(seen - price.found) <= 1e-9 * price.found,
            "oracle without its bound",
            f"the best neuron seen is worth {seen:.10g}, the best found with a bound {price.found:.10g}",
        )
        worth = H.reshape(N_NEURONS, -1) @ Z.ravel()
        best = float(np.max(np.abs(worth) if architecture.signed else worth, initial=0.0))
        require(
            price.scope == "patterns" or best <= price.value * (1 + 1e-12),
            "oracle bounds every neuron",
            f"a random unit neuron is worth {best:.10g}, the {price.scope} bound is {price.value:.10g}",
        )


def _check_certificate(
    architecture: Architecture, problem: Problem, arrangement: Arrangement | None, rng: np.random.Generator
) -> Certificate:
    trained = train(problem, architecture, tol=1e-7)
    certificate, total = trained.certificate, problem.total_weight
    architecture = architecture.on(problem)
    objective = architecture.objective(problem, trained.network) / total
    require(close(objective, certificate.objective, 1e-12), "objective", "not the network's own")
    bound = certificate.lower_bound
    require(bound <= objective, "no certificate is wrong", f"{bound:.12g} > {objective:.12g}")
    require(
        certificate.search_gap <= 1e-5,
        "training",
        f"ended with a search gap of {certificate.search_gap:.1e}",
    )
    family = architecture.given(trained.network)
    if family is not architecture:
        arrangement = family.arrange(problem, np.random.default_rng(0))
    oracle = family.oracle(problem, arrangement)
    again = judge(trained.network, oracle.problem, family, oracle, max_iter=20)
    require(again.lower_bound <= objective, "no certificate is wrong", "the judge's bound is too high")
    if certificate.scope != "patterns":
        U = rng.normal(size=(N_NEURONS, problem.X.shape[1] + 1))
        rival = _rival(oracle.problem, family.unit_neurons(problem, arrangement, U), family.signed)
        for claim in (certificate, again):
            require(
                claim.lower_bound * total <= rival,
                "no certificate is wrong",
                f"random neurons reach {rival:.10g}, the bound was {claim.lower_bound * total:.10g}",
            )
    return certificate


def _rival(problem: Problem, H: np.ndarray, signed: bool, steps: int = 300) -> float:
    """The objective of a good network on given unit neurons ``H`` (k, n[, outputs]): a lasso by proximal
    steps."""
    loss, y, s = problem.loss, problem.y, problem.weights
    H = H.reshape(len(H), -1)
    root = np.repeat(np.sqrt(s), H.shape[1] // len(s))
    curvature = loss.curvature if np.isfinite(loss.curvature) else 1e3
    step = 1.0 / (float(np.linalg.norm(H * root, 2)) ** 2 * curvature)
    a = np.zeros(len(H))
    best = float("inf")
    for _ in range(steps):
        f = (a @ H).reshape(y.shape)
        if problem.intercept:
            f = f + loss.intercept(f, y, s)
        best = min(best, problem.value(f, float(np.sum(np.abs(a)))))
        a = a - step * (H @ loss.gradient(f, y, s).ravel())
        a = np.sign(a) * np.maximum((np.abs(a) if signed else a) - step * problem.beta, 0.0)
    return best


def _check_invariance(
    architecture: Architecture,
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    problem: Problem,
    certificate: Certificate,
    rng: np.random.Generator,
) -> None:
    order, copies = rng.permutation(len(y)), s.astype(int)
    nothing = rng.normal(size=(2, X.shape[1]))
    variants = {
        "sample order": (X[order], y[order], s[order]),
        "repeated rows versus weights": (np.repeat(X, copies, axis=0), np.repeat(y, copies, axis=0), None),
        "rows of weight zero": (
            np.vstack([X, nothing]),
            np.concatenate([y, y[:2]]),
            np.append(s, [0.0, 0.0]),
        ),
    }
    changed, seen = certificate, None
    for law, (A, b, w) in variants.items():
        other = Problem.from_alpha(A, b, w, problem.loss, 0.03, problem.intercept)
        # Training sees nothing but the problem: on the very same one, once more is enough.
        if seen is None or not same_problem(other, seen):
            changed, seen = train(other, architecture, tol=1e-7).certificate, other
        require(
            close(changed.objective, certificate.objective, 1e-9)
            and close(changed.lower_bound, certificate.lower_bound, 1e-9)
            and changed.scope == certificate.scope,
            law,
            f"the certificate was {certificate}, and is now {changed}",
        )


def same_problem(one: Problem, other: Problem) -> bool:
    """Whether two problems are equal to the last bit, so that training cannot tell them apart."""
    arrays = (np.array_equal(getattr(one, part), getattr(other, part)) for part in ("X", "y", "weights"))
    return all(arrays) and (one.loss, one.beta, one.intercept) == (other.loss, other.beta, other.intercept)


def _check_alpha_max(
    architecture: Architecture,
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    problem: Problem,
    arrangement: Arrangement | None,
) -> None:
    oracle = architecture.oracle(problem, arrangement)
    price = oracle.price(oracle.problem.residual(np.zeros_like(problem.y)))
    total, null = problem.total_weight, oracle.problem.null_value()
    for beta, zero in ((price.value * (1 + 1e-6), True), (price.found * 0.99, False)):
        other = Problem.from_alpha(X, y, s, problem.loss, beta / total, problem.intercept)
        found = train(other, architecture, tol=1e-7)
        change = null - found.certificate.objective * total
        if zero:
            cost = architecture.on(other).cost(found.network)
            ok = abs(change) <= 1e-9 * null and cost <= 1e-9 * null / beta
            require(ok, "alpha_max", f"above it the network is not zero: {found.certificate}")
        else:
            require(change > 1e-9 * null, "alpha_max", f"just below it the network is zero: {beta:g}")
