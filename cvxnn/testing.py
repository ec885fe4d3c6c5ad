"""Conformance checks: the laws of this package, to be called on a new member of a registry.

Whoever adds a loss, penalty, operator, solver or architecture calls its check and gets either nothing
or an ``AssertionError`` that names the law that does not hold and says by how much. The checks use random
data with fixed seeds, so they say the same thing every time::

    from cvxnn.testing import check_loss

    check_loss(MyLoss())

They test what can be observed from outside (values, bounds, objectives), never how it was computed.

References: Boyd and Vandenberghe, Convex Optimization, sections 3.3 and 5.2; Parikh and Boyd, Proximal
Algorithms, 2014, section 2.5 (Moreau's decomposition).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize_scalar

from .architectures import Architecture
from .arrangement import Arrangement, pack, patterns_of
from .arrays import to_numpy
from .certificate import Certificate, judge
from .constraints import Constraint, Free, ReLUCones
from .losses import LOSSES, Loss, get_loss
from .operators import Masked, Operator
from .penalties import GroupL2, Penalty
from .program import Problem, Program, Status
from .solvers import SOLVERS, Solver, Unsupported, run
from .train import choose_solver, train

__all__ = ["check_architecture", "check_loss", "check_operator", "check_penalty", "check_solver"]

#: Random unit neurons that an oracle is compared with.
N_NEURONS = 1000


def require(condition: object, law: str, message: str) -> None:
    """Raise AssertionError with the name of the law unless the condition holds."""
    if not condition:
        raise AssertionError(f"{law}: {message}")


def close(a: object, b: object, tol: float) -> bool:
    """Whether two arrays agree to `tol`, relative to the largest entry (at least 1e-300)."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        return False
    size = max(float(np.max(np.abs(x), initial=0.0)), float(np.max(np.abs(y), initial=0.0)), 1e-300)
    return bool(np.max(np.abs(x - y), initial=0.0) <= tol * size)


def targets(loss: Loss, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random targets that suit a loss, with both classes for a classification loss, shape (n,)."""
    if not loss.classification:
        return rng.normal(size=n)
    return np.where(np.arange(n) % 2 == 0, 1.0, -1.0) * (-1.0 if rng.random() < 0.5 else 1.0)


# ------------------------------------------------------------------------------------------- losses


def check_loss(loss: Loss, y: np.ndarray | None = None) -> None:
    """Check value, gradient, Hessian, conjugate and dual steps of a loss against each other.

    Parameters
    ----------
    loss : Loss
    y : ndarray of shape (n,), or None
        Targets with at least two samples; None draws -1 and +1 for a classification loss, else
        Gaussian numbers.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    rng = np.random.default_rng(0)
    y = targets(loss, 12, rng) if y is None else np.asarray(y, dtype=np.float64)
    n = len(y)
    s = rng.uniform(0.3, 2.0, n)
    require(isinstance(loss.name, str) and loss.name, "name", "a loss needs a name")
    for scale in (0.1, 1.0, 10.0):
        f, other = scale * rng.normal(size=n), scale * rng.normal(size=n)
        _check_derivatives(loss, f, other, y, s)
        _check_fenchel_young(loss, f, other, y, s)
        _check_dual_steps(loss, f, y, s)
    _check_supremum(loss, y)
    twice = [np.repeat(v, 2) for v in (f, y, s)]
    require(
        close(loss.value(*twice), loss.value(f, y, 2 * s), 1e-12)
        and close(
            loss.conjugate(np.repeat(loss.gradient(f, y, s), 2), *twice[1:]),
            loss.conjugate(2 * loss.gradient(f, y, s), y, 2 * s),
            1e-12,
        ),
        "weights",
        "a sample of weight 2s is not worth two samples of weight s",
    )
    if loss.classification or np.ptp(y) > 0:
        c = loss.intercept(f, y, s)
        best = loss.value(f + c, y, s)
        around = min(loss.value(f + c + e, y, s) for e in (-0.1, -1e-3, 1e-3, 0.1))
        require(best <= around, "intercept", f"the constant {c:g} is not the best one")


def _check_derivatives(loss: Loss, f: np.ndarray, other: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
    value, slope = loss.value(f, y, s), loss.gradient(f, y, s)
    require(isinstance(value, float), "value", f"must be a float, got {type(value).__name__}")
    require(value >= 0.0, "value", f"losses of this package are at least 0, got {value:g}")
    tangent = value + float(slope @ (other - f))
    size = abs(value) + float(np.abs(slope) @ np.abs(other - f))
    require(
        loss.value(other, y, s) >= tangent - 1e-12 * size,
        "convexity",
        "the loss is below its tangent: not convex, or the gradient is wrong",
    )
    if not np.isfinite(loss.curvature):
        return
    h = 1e-6
    for direction in np.vstack([np.eye(len(f)), other]):
        ahead, behind = f + h * direction, f - h * direction
        numeric = (loss.value(ahead, y, s) - loss.value(behind, y, s)) / (2 * h)
        exact = float(slope @ direction)
        require(
            abs(numeric - exact) <= 1e-7 * (1.0 + size),
            "gradient",
            f"{exact:.8g} along a direction in which differences give {numeric:.8g}",
        )
    change = (loss.gradient(f + h, y, s) - loss.gradient(f - h, y, s)) / (2 * h)
    curvature = loss.hessian(f, y, s)
    require(close(change, curvature, 1e-4), "hessian", f"{curvature} where differences give {change}")
    require(
        np.all(curvature >= 0) and np.all(curvature <= loss.curvature * s * (1 + 1e-12)),
        "curvature",
        f"a second derivative is outside [0, {loss.curvature}]",
    )


def _check_fenchel_young(
    loss: Loss, f: np.ndarray, other: np.ndarray, y: np.ndarray, s: np.ndarray
) -> None:
    value, slope = loss.value(f, y, s), loss.gradient(f, y, s)
    total = value + loss.conjugate(slope, y, s)
    size = abs(value) + float(np.abs(slope) @ np.abs(f)) + 1e-300
    require(
        abs(total - float(slope @ f)) <= 1e-10 * size,
        "Fenchel-Young equality",
        f"value + conjugate is {total:.12g} at the gradient, whose product with f is {slope @ f:.12g}",
    )
    for t in (0.0, 0.3, 1.0):
        z = t * loss.gradient(other, y, s)
        total = value + loss.conjugate(z, y, s)
        require(np.isfinite(total), "domain", f"shrinking a gradient by {t} leaves the conjugate's domain")
        require(
            total >= float(z @ f) - 1e-12 * (size + abs(total)),
            "Fenchel-Young inequality",
            f"value + conjugate is {total:.12g}, less than <z, f> = {z @ f:.12g}",
        )


def _check_dual_steps(loss: Loss, f: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
    Z = -loss.gradient(f, y, s)
    require(
        close(loss.dual(Z, y, s), -loss.conjugate(-Z, y, s), 1e-14),
        "dual",
        "the dual value of Z is not minus the conjugate at -Z",
    )
    for limit in (0.0, 0.37, 1.0, 3.0, float("inf")):
        t = loss.best_scale(Z, y, s, limit)
        require(0.0 <= t <= limit, "best_scale", f"{t} is outside [0, {limit}]")
        reached = loss.dual(t * Z, y, s)
        best = max(loss.dual(r * Z, y, s) for r in np.linspace(0.0, min(limit, 2.0), 41))
        require(
            reached >= best - 1e-7 * (1.0 + abs(best)),
            "best_scale",
            f"the dual value {reached:.10g} at scale {t:g} is below {best:.10g} on a grid",
        )
    balanced = loss.balance(Z)
    require(
        abs(float(np.sum(balanced))) <= 1e-13 * float(np.sum(np.abs(Z))),
        "balance",
        f"the balanced dual variable sums to {np.sum(balanced):g}",
    )
    require(
        np.all(balanced * Z >= 0) and np.all(np.abs(balanced) <= np.abs(Z)),
        "balance",
        "must only shrink towards zero, which keeps the conjugate finite",
    )


def _check_supremum(loss: Loss, y: np.ndarray) -> None:
    """The conjugate is the largest ``z f - loss(f)``, and infinite only where there is none."""
    grid = np.sinh(np.linspace(-13.0, 13.0, 261))
    for target in np.unique(y)[:3]:
        one, at = np.ones(1), np.array([target])
        values = np.array([loss.value(np.array([t]), at, one) for t in grid])
        for z in np.linspace(-1.75, 1.75, 15):
            conjugate = loss.conjugate(np.array([z]), at, one)
            gains = z * grid - values
            k = int(np.argmax(gains))
            if not np.isfinite(conjugate):
                require(
                    k in (0, len(grid) - 1) and gains[k] > 1e3,
                    "conjugate is the supremum",
                    f"infinite at z = {z:g}, target {target:g}, where the supremum is {gains[k]:g}",
                )
                continue
            ends = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
            found = minimize_scalar(
                lambda t, z=z, at=at, one=one: loss.value(np.array([t]), at, one) - z * t,  # type: ignore[misc]
                bounds=ends,
                method="bounded",
                options={"xatol": 1e-10},
            )
            supremum = max(float(gains[k]), -float(found.fun))
            require(
                abs(conjugate - supremum) <= 1e-6 * (1.0 + abs(supremum)),
                "conjugate is the supremum",
                f"{conjugate:.10g} at z = {z:g}, target {target:g}; the supremum is {supremum:.10g}",
            )


# ---------------------------------------------------------------------------------------- penalties


def check_penalty(penalty: Penalty, d: int = 4) -> None:
    """Check a penalty's value, prox and polar against each other (Moreau's decomposition).

    Parameters
    ----------
    penalty : Penalty
    d : int
        Coordinates per group to test with.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        W, V = scale * rng.normal(size=(2, 7, d))
        W[0] = 0.0
        value = penalty.value(W)
        require(isinstance(value, float) and value >= 0, "value", f"must be a float >= 0, got {value!r}")
        require(penalty.value(0 * W) == 0.0, "value", "the penalty of zero is not zero")
        require(close(penalty.value(3 * W), 3 * value, 1e-12), "homogeneity", "value(3 W) != 3 value(W)")
        groups = sum(penalty.value(W[g : g + 1]) for g in range(len(W)))
        require(close(groups, value, 1e-12), "groups", "the value is not a sum over groups")
        together = penalty.value(W + V)
        require(together <= (value + penalty.value(V)) * (1 + 1e-12), "convexity", "no triangle inequality")
        for step in (0.0, 0.1 * scale, 1.5 * scale, 100.0 * scale):
            _check_moreau(penalty, W, V, step)


def _check_moreau(penalty: Penalty, W: np.ndarray, V: np.ndarray, step: float) -> None:
    """``P = prox(W)`` and ``R = W - P`` with ``polar(R) <= step``, ``<R, P> = step * gauge(P)``."""
    P, Q = penalty.prox(W, step), penalty.prox(V, step)
    R = W - P
    require(P.shape == W.shape, "prox", f"shape {P.shape} for groups of shape {W.shape}")
    require(
        np.sum((P - Q) ** 2) <= np.sum((W - V) ** 2) * (1 + 1e-12),
        "prox",
        "two points moved apart: expansive",
    )
    size = float(np.max(np.abs(W)))
    polar = penalty.polar(R)
    require(
        np.all(polar <= step + 1e-12 * size),
        "Moreau",
        f"W - prox(W) has polar {np.max(polar):.6g}, more than the step {step:.6g}",
    )
    for g in range(len(W)):
        gauge, inner = penalty.value(P[g : g + 1]), float(R[g] @ P[g])
        require(
            abs(inner - step * gauge) <= 1e-12 * size * (size + step),
            "Moreau",
            f"<W - prox(W), prox(W)> is {inner:.10g}, not step * gauge = {step * gauge:.10g}",
        )
        bound = polar[g] * penalty.value(V[g : g + 1])
        require(
            float(R[g] @ V[g]) <= bound + 1e-12 * size**2,
            "polar is the supremum",
            "an inner product exceeds polar times gauge",
        )
        if gauge > 1e-9 * size and step > 0:
            require(
                abs(polar[g] - step) <= 1e-9 * size,
                "polar is the supremum",
                f"polar {polar[g]:.10g} where {step:.10g} is attained",
            )


# ---------------------------------------------------------------------------------------- operators


def check_operator(operator: Operator) -> None:
    """Check that an operator is linear, equals its dense matrix, and that its adjoint is adjoint.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    rng = np.random.default_rng(0)
    n, groups, d = operator.shape
    dense = operator.dense()
    require(dense.shape == (n, groups * d), "dense", f"shape {dense.shape}, not {(n, groups * d)}")
    for _ in range(3):
        W, V, Z = rng.normal(size=(groups, d)), rng.normal(size=(groups, d)), rng.normal(size=n)
        f, G = to_numpy(operator.apply(W)), to_numpy(operator.adjoint(Z))
        require(f.shape == (n,), "apply", f"shape {f.shape}, not {(n,)}")
        require(G.shape == (groups, d), "adjoint", f"shape {G.shape}, not {(groups, d)}")
        size = float(np.abs(Z) @ np.abs(dense) @ np.abs(W).ravel())
        require(
            abs(float(Z @ f) - float(np.sum(G * W))) <= 1e-13 * size,
            "adjoint",
            f"<Z, A(W)> = {Z @ f:.12g}, <A*(Z), W> = {np.sum(G * W):.12g}",
        )
        require(close(f, dense @ W.ravel(), 1e-12), "dense", "A(W) is not the dense matrix times W")
        both = to_numpy(operator.apply(W - 2.0 * V))
        require(close(both, f - 2.0 * to_numpy(operator.apply(V)), 1e-11), "linearity", "A is not linear")
    norm = float(np.linalg.norm(dense, 2)) if dense.size else 0.0
    bound = operator.norm_bound()
    require(bound >= norm * (1 - 1e-12), "norm_bound", f"{bound:g} is below the norm {norm:g}")


# ------------------------------------------------------------------------------------------ solvers


def programs() -> Iterator[tuple[str, Program]]:
    """Small random programs of every kind: losses, cones or none, intercept, unpenalised bias."""
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


def check_solver(solver: Solver, tol: float = 1e-6) -> None:
    """Check that a solver reaches the duality gap on every kind of program it says it supports.

    Parameters
    ----------
    solver : Solver
    tol : float
        Relative duality gap to reach.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    seen = 0
    for label, program in programs():
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
        _check_run(solver, program, tol, label)
    require(seen, "supports", "the solver supports none of the programs of this package")


def _check_run(solver: Solver, program: Program, tol: float, label: str) -> None:
    before = [np.copy(program.target), np.copy(program.weights)]
    solution = run(solver, program, tol=tol, max_iter=50_000)
    require(
        solution.status is Status.optimal and solution.gap <= tol,
        "convergence",
        f"gap {solution.gap:.1e}, status {solution.status.name}: {label}",
    )
    require(program.constraint.violation(solution.W) <= 1e-9, "feasibility", f"violated: {label}")
    primal = program.primal(solution.W, solution.offset)
    require(primal == solution.primal, "objective", f"{solution.primal} is really {primal}: {label}")
    require(
        program.intercept or solution.offset == 0.0, "objective", f"a constant that is not there: {label}"
    )
    reference = SOLVERS["conic"]()
    if reference.supports(program)[0]:
        true = run(reference, program, tol=1e-8)
        slack = 1e-9 * abs(true.primal)
        require(
            solution.bound <= true.primal + slack and true.bound <= solution.primal + slack,
            "weak duality",
            f"bound {solution.bound:.10g} and objective {solution.primal:.10g} do not enclose "
            f"the optimum {true.primal:.10g}: {label}",
        )
    again = run(solver, program, tol=tol, max_iter=50_000)
    require(np.array_equal(again.W, solution.W), "determinism", f"two runs differ: {label}")
    warm = run(solver, program, tol=tol, max_iter=50_000, start=solution.W)
    require(warm.gap <= 10 * tol, "warm start", f"from the optimum the gap is {warm.gap:.1e}: {label}")
    same = np.array_equal(before[0], program.target) and np.array_equal(before[1], program.weights)
    require(same, "frozen program", f"the solver changed the program: {label}")


# ------------------------------------------------------------------------------------ architectures


def check_architecture(architecture: Architecture) -> None:
    """Check the laws of training and of certificates on small problems with both kinds of target.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    for seed, name in enumerate(("squared_error", "log_loss")):
        for intercept in (False, True):
            rng = np.random.default_rng(seed)
            X, loss = rng.normal(size=(8, 2)), get_loss(name)
            y, s = targets(loss, 8, rng), rng.integers(1, 4, 8).astype(float)
            problem = Problem.from_alpha(X, y, s, loss, 0.03, intercept)
            arrangement = architecture.arrange(problem, np.random.default_rng(0))
            if arrangement is not None:
                _check_lift(architecture, problem, arrangement)
            _check_oracle(architecture, problem, arrangement, rng)
            certificate = _check_certificate(architecture, problem, arrangement, rng)
            _check_invariance(architecture, X, y, s, problem, certificate, rng)
            _check_alpha_max(architecture, X, y, s, problem, arrangement)


def _check_lift(architecture: Architecture, problem: Problem, arrangement: Arrangement) -> None:
    program = architecture.lift(problem, arrangement)
    check_operator(program.operator)
    solution = run(choose_solver(program), program, tol=1e-10, max_iter=20_000)
    network = architecture.decode(problem, arrangement, solution)
    value = problem.value(network(problem.X), architecture.cost(network))
    require(
        abs(value - solution.primal) <= (1e-9 + solution.gap) * abs(solution.primal),
        "decode preserves the objective",
        f"the network has {value:.12g}, the program {solution.primal:.12g}",
    )


def duals(problem: Problem, rng: np.random.Generator, count: int = 6) -> Iterator[np.ndarray]:
    """Dual variables of a problem: residuals of predictions, and random ones of the right sum."""
    yield problem.residual(np.zeros_like(problem.y))
    for k in range(count):
        if k % 2:
            yield problem.residual(rng.normal(size=len(problem.y)))
        else:
            Z = rng.normal(size=len(problem.y))
            yield problem.loss.balance(Z) if problem.intercept else Z


def _check_oracle(
    architecture: Architecture, problem: Problem, arrangement: Arrangement | None, rng: np.random.Generator
) -> None:
    oracle = architecture.oracle(problem, arrangement)
    U = rng.normal(size=(N_NEURONS, problem.X.shape[1] + 1))
    H = architecture.unit_neurons(problem, arrangement, U)
    require(H.shape == (N_NEURONS, len(problem.y)), "unit neurons", f"shape {H.shape}")
    for Z in duals(oracle.problem, rng):
        price = oracle.price(Z)
        require(price.scope in ("global", "bounded", "patterns"), "scope", f"{price.scope!r} is no scope")
        require(
            0.0 <= price.found <= price.value,
            "oracle",
            f"the best neuron found, {price.found:.10g}, is above the bound {price.value:.10g}",
        )
        best = float(np.max(np.abs(H @ Z)))
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
    objective = problem.value(trained.network(problem.X), architecture.cost(trained.network)) / total
    require(close(objective, certificate.objective, 1e-12), "objective", "not the network's own")
    bound = certificate.lower_bound
    require(bound <= objective, "no certificate is wrong", f"{bound:.12g} > {objective:.12g}")
    require(
        certificate.search_gap <= 1e-5,
        "training",
        f"ended with a search gap of {certificate.search_gap:.1e}",
    )
    oracle = architecture.oracle(problem, arrangement)
    again = judge(trained.network, oracle.problem, architecture, oracle, max_iter=20)
    require(again.lower_bound <= objective, "no certificate is wrong", "the judge's bound is too high")
    if certificate.scope != "patterns":
        U = rng.normal(size=(N_NEURONS, problem.X.shape[1] + 1))
        rival = _rival(oracle.problem, architecture.unit_neurons(problem, arrangement, U))
        for claim in (certificate, again):
            require(
                claim.lower_bound * total <= rival,
                "no certificate is wrong",
                f"a network of random neurons has {rival:.10g}, the bound was {claim.lower_bound * total:.10g}",
            )
    return certificate


def _rival(problem: Problem, H: np.ndarray, steps: int = 300) -> float:
    """The objective of a good network on given unit neurons ``H`` (k, n): a lasso by proximal steps."""
    loss, y, s = problem.loss, problem.y, problem.weights
    curvature = loss.curvature if np.isfinite(loss.curvature) else 1e3
    step = 1.0 / (float(np.linalg.norm(H * np.sqrt(s), 2)) ** 2 * curvature)
    a = np.zeros(len(H))
    best = float("inf")
    for _ in range(steps):
        f = a @ H
        if problem.intercept:
            f = f + loss.intercept(f, y, s)
        best = min(best, problem.value(f, float(np.sum(np.abs(a)))))
        a = a - step * (H @ loss.gradient(f, y, s))
        a = np.sign(a) * np.maximum(np.abs(a) - step * problem.beta, 0.0)
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
        "repeated rows versus weights": (np.repeat(X, copies, axis=0), np.repeat(y, copies), None),
        "rows of weight zero": (np.vstack([X, nothing]), np.append(y, y[:2]), np.append(s, [0.0, 0.0])),
    }
    for law, (A, b, w) in variants.items():
        other = Problem.from_alpha(A, b, w, problem.loss, 0.03, problem.intercept)
        changed = train(other, architecture, tol=1e-7).certificate
        require(
            close(changed.objective, certificate.objective, 1e-9)
            and close(changed.lower_bound, certificate.lower_bound, 1e-9)
            and changed.scope == certificate.scope,
            law,
            f"the certificate was {certificate}, and is now {changed}",
        )


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
            ok = abs(change) <= 1e-9 * null and architecture.cost(found.network) <= 1e-9 * null / beta
            require(ok, "alpha_max", f"above it the network is not zero: {found.certificate}")
        else:
            require(change > 1e-9 * null, "alpha_max", f"just below it the network is zero: {beta:g}")
