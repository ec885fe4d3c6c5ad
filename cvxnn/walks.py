r"""Walking a neuron to the best of its cell, and on to neighbouring cells while its price rises.

In the cell of pattern D the maximiser of ``Z'(Xu)_+`` is ``r = g + A' rho`` with ``g = X'D Z`` and
``A = (2 D - I) X``; across a tight row i the price rises if and only if ``rho_i > -Z_i``, because the
multiplier of that row in the neighbouring cell would be ``-(Z_i + rho_i)``. A walk therefore ends in a
point that is a local maximum over all its neighbouring cells.

All of this holds for activations ``max(t, s t)`` with a slope s < 1 on the negative side (0 is the ReLU,
-1 the absolute value): patterns and cones are the same, in a cell ``g = X'(D + s (I - D)) Z``, and crossing
a row pays if and only if ``rho_i > -(1 - s) Z_i``.

Reference: Pilanci and Ergen, ICML 2020 (cells and their cones). The crossing rule is derived above.
"""

from __future__ import annotations

import numpy as np

from .constraints import Scaled, project_cone

#: A row counts as tight if its value is below this share of its largest possible size.
TIGHT = 1e-9


def rectify(T: np.ndarray, slope: float | np.ndarray = 0.0) -> np.ndarray:
    """Return ``max(t, slope * t)``, entry by entry; `slope` is at most 1, one or one for each column."""
    if type(slope) is float:
        return np.maximum(T, slope * T) if slope else np.maximum(T, 0.0)
    return np.maximum(T, slope * T) if np.any(slope) else np.maximum(T, 0.0)


def best_bias(T: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Return the bias that maximises ``Z'(t + b)_+`` for each column of ``T``.

    It maximises ``Z'phi(t + b)`` too, for every slope of phi: the linear part of phi has no b. With
    ``sum(Z) == 0`` the maximum over b is attained at a breakpoint ``b = -t_k``.

    Parameters
    ----------
    T : ndarray of shape (n, k)
    Z : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (k,)
    """
    order = np.argsort(-T, axis=0, kind="stable")
    t, z = np.take_along_axis(T, order, 0), np.take_along_axis(Z, order, 0)
    # value at b = -t_k: sum over t_i > t_k of z_i (t_i - t_k)
    values = np.cumsum(z * t, axis=0) - t * np.cumsum(z, axis=0)
    return -np.take_along_axis(t, np.argmax(values, axis=0)[None], 0)[0]


def bias_of(t: np.ndarray, z: np.ndarray) -> float:
    """Return what :func:`best_bias` does for one column ``t`` (n,), sooner."""
    order = np.argsort(-t, kind="stable")
    t, z = t[order], z[order]
    return -float(t[np.argmax(np.cumsum(z * t) - t * np.cumsum(z))])


def best_biases(T: np.ndarray, Z: np.ndarray, slope: float = 0.0) -> np.ndarray:
    """Return the bias that maximises ``|Z'phi(t + b)|`` for each column of ``T`` (n, k), shape (k,).

    Between two breakpoints the correlation is linear in b and its norm convex: the maximum is at a
    breakpoint ``b = -t_i``, if columns of Z (n, outputs) sum to zero.
    """
    best = np.empty(T.shape[1])
    for k, t in enumerate(T.T):
        order = np.argsort(-t, kind="stable")
        at, z = t[order, None], Z[order]
        # correlation at b = -t_i: sum over t_l > t_i of z_l (t_l - t_i)
        C = np.cumsum(z * at, axis=0) - at * np.cumsum(z, axis=0)
        if slope:  # phi(t) = (1 - s) t_+ + s t, and no bias changes Z't
            C = (1.0 - slope) * C + slope * (Z.T @ t)
        best[k] = -at[int(np.argmax(np.einsum("ij,ij->i", C, C))), 0]
    return best


def walk(
    X: np.ndarray,
    z: np.ndarray,
    mask: np.ndarray,
    gate: np.ndarray,
    norms: np.ndarray,
    free: int = 0,
    max_cells: int = 50,
    slope: float = 0.0,
    visited: set[bytes] | None = None,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Maximise ``z'phi(Xu)`` exactly in a cell and walk to better neighbouring cells.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    z : ndarray of shape (n,)
    mask : bool ndarray of shape (n,)
        The pattern to start in.
    gate : ndarray of shape (d,)
        A point of its open cell.
    norms : ndarray of shape (n,)
        Row norms of X.
    slope : float
        Of the activation phi on the negative side.
    visited : set of bytes or None
        Packed patterns that other walks for the same ``z`` have been to; this one adds its own.

    Returns
    -------
    value, direction (d,), mask (n,), gate (d,) of the best cell visited
    """
    best = (float(z @ rectify(X @ gate, slope)), gate, mask, gate)
    scaled = Scaled.of(X, free)
    for _ in range(max_cells):
        sign = np.where(mask, 1.0, -1.0)
        G = X.T @ np.where(mask, z, slope * z)
        r, rho = project_cone(X, sign, G, free, rounds=1, near=gate, scaled=scaled)
        found = neuron_of(X, z, r, free, slope, norms)
        if found is None:
            break
        value, u = found
        # The best bias may lie in another cell than the one it was found from: that is its pattern.
        home = (X @ u > 0, u) if free else (mask, gate)
        if value <= best[0] * (1.0 + 1e-13):
            if value > best[0]:
                best = (value, u, *home)
            break
        best = (value, u, *home)
        if not np.array_equal(home[0], mask):
            if _is_new(home[0], visited):
                mask, gate = home
                continue
            break
        tight = np.abs(X @ u) <= TIGHT * norms * np.linalg.norm(u)
        # Tight rows that a price-increasing step would cross; rows through 0 have no side.
        cross = tight & (norms > 0) & (rho + (1.0 - slope) * z > 1e-12 * np.max(np.abs(z))) & (rho > 0)
        if not np.any(cross):
            break
        moved = np.where(cross, ~mask, mask)
        inside = _inside(X, moved, u, tight & (norms > 0), norms)
        if inside is None or not _is_new(moved, visited):
            break  # an empty cell, or one that another walk has gone on from
        mask, gate = moved, inside
    return best


def _is_new(mask: np.ndarray, visited: set[bytes] | None) -> bool:
    """Whether no walk has been to this pattern; from now on one has."""
    if visited is None:
        return True
    label = np.packbits(mask).tobytes()
    if label in visited:
        return False
    visited.add(label)
    return True


def neuron_of(
    X: np.ndarray,
    z: np.ndarray,
    r: np.ndarray,
    free: int,
    slope: float = 0.0,
    norms: np.ndarray | None = None,
) -> tuple[float, np.ndarray] | None:
    """Return the value ``z'phi(Xu)`` and the unit neuron u that a cone projection ``r`` stands for.

    The row norms of X are for those who ask often.
    """
    norms = np.linalg.norm(X, axis=1) if norms is None else norms
    size = float(np.linalg.norm(r[: len(r) - free]))
    # A projection that is zero but for rounding has no direction.
    if size <= 1e-13 * float(np.abs(z) @ norms):
        return None
    u = r / size
    if free:
        u[-1] = 0.0
        u[-1] = bias_of(X @ u, z)
    return float(z @ rectify(X @ u, slope)), u


def _inside(
    X: np.ndarray, mask: np.ndarray, u: np.ndarray, tight: np.ndarray, norms: np.ndarray
) -> np.ndarray | None:
    """A point in the open cell of `mask` near its boundary point `u`; None if there is no such.

    It moves off all tight rows to the side the pattern says; a pattern whose cell is empty (a flip
    of one of two parallel rows) is recognised here and given up.
    """
    rows = np.flatnonzero(tight)
    sign = np.where(mask, 1.0, -1.0)
    scaled = X[rows] / norms[rows, None]
    push = np.linalg.lstsq(scaled, sign[rows], rcond=None)[0]
    if np.any(sign[rows] * (scaled @ push) < 1e-6):
        return None
    others = ~tight & (norms > 0)
    room, speed = sign * (X @ u), -sign * (X @ push)
    closing = others & (speed > 0)
    if np.any(room[others] <= 0):
        return None
    step = 1.0 if not np.any(closing) else min(1.0, float(np.min(room[closing] / speed[closing])))
    inside = u + 0.5 * step * push
    return inside if np.all((sign * (X @ inside))[norms > 0] > 0) else None
