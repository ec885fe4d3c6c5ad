"""Many small systems at once: the same solutions as one by one, and none that is infinite."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.small_systems import solve_positive


def stack(H, G):
    """Matrices (k, d, d) above right-hand sides (k, d), systems last."""
    return np.concatenate([H, G[:, None, :]], axis=1).transpose(1, 2, 0).copy()


@pytest.mark.parametrize("d", [1, 2, 7, 16])
@pytest.mark.parametrize("kind, tol", [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_the_solutions_of_lapack(d, kind, tol):
    rng = np.random.default_rng(d)
    A = rng.standard_normal((50, 3 * d, d))
    H, G = np.einsum("kia,kib->kab", A, A), rng.standard_normal((50, d))
    x = solve_positive(stack(H, G).astype(kind))
    assert x.dtype == kind
    assert np.allclose(x.T, np.linalg.solve(H, G[:, :, None])[:, :, 0], rtol=tol, atol=tol)


def test_only_the_lower_triangle_is_read():
    rng = np.random.default_rng(0)
    A, G = rng.standard_normal((5, 12, 4)), rng.standard_normal((5, 4))
    H = np.einsum("kia,kib->kab", A, A)
    torn = H.copy()
    torn[:, *np.triu_indices(4, 1)] = np.nan
    assert np.array_equal(solve_positive(stack(H, G)), solve_positive(stack(torn, G)))


def test_singular_systems_have_finite_solutions():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((20, 2, 6)).astype(np.float32)  # of rank two
    H, G = np.einsum("kia,kib->kab", A, A), rng.standard_normal((20, 6)).astype(np.float32)
    with np.errstate(all="raise", under="ignore"):
        x = solve_positive(stack(H, G))
    assert np.all(np.isfinite(x))
