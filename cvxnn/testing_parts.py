"""Conformance checks of the parts of a program: losses, penalties, operators.

They are offered, with those of solvers and architectures, by :mod:`cvxnn.testing`.

References: Boyd and Vandenberghe, Convex Optimization, sections 3.3 and 5.2; Parikh and Boyd, Proximal
Algorithms, 2014, section 2.5 (Moreau's decomposition).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from .arrays import to_numpy
from .losses import Loss, code_classes
from .operators import Operator
from .penalties import Penalty


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


def targets(loss: Loss, n: int, rng: np.random.Generator, outputs: int = 1) -> np.ndarray:
    """Random targets that suit a loss, with every class for a classification loss, shape (n[, outputs])."""
    if outputs > 1:
        if loss.classification:
            return code_classes(rng.permutation(np.arange(n) % outputs), loss, outputs)
        return np.column_stack([targets(loss, n, rng) for _ in range(outputs)])
    if loss.nonnegative:
        return rng.poisson(2.0, n).astype(np.float64)
    if not loss.classification:
        return rng.normal(size=n)
    return np.where(np.arange(n) % 2 == 0, 1.0, -1.0) * (-1.0 if rng.random() < 0.5 else 1.0)


def check_loss(loss: Loss, y: np.ndarray | None = None) -> None:
    """Check value, gradient, Hessian, conjugate and dual steps of a loss against each other.

    Parameters
    ----------
    loss : Loss
    y : ndarray of shape (n,), or None
        Targets with at least two samples; None draws -1 and +1 for a classification loss, counts
        where targets may not be negative, else Gaussian numbers.

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
    _check_supremum(loss, y)
    for scale in (0.1, 1.0, 10.0):
        _check_dual_steps(loss, scale * rng.normal(size=n), y, s)
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
    if not loss.smooth:
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
                lambda t, z=z, at=at, one=one: loss.value(np.array([t]), at, one) - z * t,
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


def check_penalty(penalty: Penalty, shape: tuple[int, ...] = (4,)) -> None:
    """Check a penalty's value, prox and polar against each other (Moreau's decomposition).

    Parameters
    ----------
    penalty : Penalty
    shape : tuple of int
        Shape of a group: ``(d,)``, or ``(d, outputs)`` where groups are matrices.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        W, V = scale * rng.normal(size=(2, 7, *shape))
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
        gauge, inner = penalty.value(P[g : g + 1]), float(np.sum(R[g] * P[g]))
        require(
            abs(inner - step * gauge) <= 1e-12 * size * (size + step),
            "Moreau",
            f"<W - prox(W), prox(W)> is {inner:.10g}, not step * gauge = {step * gauge:.10g}",
        )
        bound = polar[g] * penalty.value(V[g : g + 1])
        require(
            float(np.sum(R[g] * V[g])) <= bound + 1e-12 * size**2,
            "polar is the supremum",
            "an inner product exceeds polar times gauge",
        )
        if gauge > 1e-9 * size and step > 0:
            require(
                abs(polar[g] - step) <= 1e-9 * size,
                "polar is the supremum",
                f"polar {polar[g]:.10g} where {step:.10g} is attained",
            )


def check_operator(operator: Operator, outputs: int = 1) -> None:
    """Check that an operator is linear, equals its dense matrix, and that its adjoint is adjoint.

    Parameters
    ----------
    operator : Operator
    outputs : int
        Number of outputs of its predictions; with several the dense matrix is that of every one.

    Raises
    ------
    AssertionError
        With the name of the law that does not hold.
    """
    rng = np.random.default_rng(0)
    n, groups, d = operator.shape
    predictions = (n,) if outputs == 1 else (n, outputs)
    shape = (groups, d) if outputs == 1 else to_numpy(operator.adjoint(np.zeros(predictions))).shape
    dense, columns = operator.dense(), int(np.prod(shape)) // outputs
    require(dense.shape == (n, columns), "dense", f"shape {dense.shape}, not {(n, columns)}")
    for _ in range(3):
        W, V, Z = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=predictions)
        f, G = to_numpy(operator.apply(W)), to_numpy(operator.adjoint(Z))
        require(f.shape == predictions, "apply", f"shape {f.shape}, not {predictions}")
        require(G.shape == shape, "adjoint", f"shape {G.shape}, not {shape}")
        flat = W.reshape(columns, -1)
        size = float(np.sum(np.abs(Z).reshape(n, -1) * (np.abs(dense) @ np.abs(flat))))
        require(
            abs(float(np.sum(Z * f)) - float(np.sum(G * W))) <= 1e-13 * size,
            "adjoint",
            f"<Z, A(W)> = {np.sum(Z * f):.12g}, <A*(Z), W> = {np.sum(G * W):.12g}",
        )
        whole = (dense @ flat).reshape(predictions)
        require(close(f, whole, 1e-12), "dense", "A(W) is not the dense matrix times W")
        both = to_numpy(operator.apply(W - 2.0 * V))
        require(close(both, f - 2.0 * to_numpy(operator.apply(V)), 1e-11), "linearity", "A is not linear")
    norm = float(np.linalg.norm(dense, 2)) if dense.size else 0.0
    bound = operator.norm_bound()
    require(bound >= norm * (1 - 1e-12), "norm_bound", f"{bound:g} is below the norm {norm:g}")
