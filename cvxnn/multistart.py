r"""How many maxima a search from many starts has not seen, as far as its own ends tell.

Starts are drawn with no regard to where the maxima are, and each climbs to one. Where k starts end in w
different maxima, with nothing known before about how many there are and how large their regions of
attraction, the number still unseen has the posterior mean

    E[unseen] = w (w + 1) / (k - w - 2),    k > w + 2.

At strong decay a price has two or three maxima, and hundreds of starts end in them: more starts will not
find a fourth. Near the end of training at weak decay it has hundreds, and the formula asks for more. This
is an estimate for searches, which are never a proof.

Reference: Boender and Rinnooy Kan, "Bayesian stopping rules for multistart global optimization methods",
Math. Program. 1987, section 3.
"""

from __future__ import annotations

import numpy as np

#: Unit directions with at least this inner product are one maximum.
SAME = 1.0 - 1e-4
#: Unseen maxima, in expectation, that a search may stop with.
FEW = 0.1


def unseen(n_maxima: int, n_starts: int) -> float:
    """Return the posterior mean of the number of unseen maxima, inf where nothing can be said."""
    left = n_starts - n_maxima - 2
    return n_maxima * (n_maxima + 1) / left if left > 0 else float("inf")


def distinct(V: np.ndarray, signs: np.ndarray, most: int) -> int:
    """Count different directions, or `most` + 1 where there are more than that.

    Parameters
    ----------
    V : ndarray of shape (k, d)
        Unit rows.
    signs : ndarray of shape (k,)
        Rows of different signs differ.
    most : int

    Returns
    -------
    int
    """
    left, count = np.arange(len(V)), 0
    while len(left) and count <= most:
        first = left[0]
        alike = (V[left] @ V[first] >= SAME) & (signs[left] == signs[first])
        left, count = left[~alike], count + 1
    return count


def unseen_maxima(V: np.ndarray, signs: np.ndarray, values: np.ndarray, n_starts: int) -> float:
    """Return how many maxima a search has not seen, in expectation.

    Parameters
    ----------
    V : ndarray of shape (k, d)
        Unit rows: where climbs ended, or the better half of them.
    signs, values : ndarray of shape (k,)
        Maxima that are not positive do not count.
    n_starts : int
        For each sign. The maxima of both signs are held against it.

    Returns
    -------
    float
        inf where nothing can be said, or where there are so many that it is above 1.
    """
    found = values > 0.0
    most = int(np.sqrt(n_starts))  # beyond it the formula is above 1
    count = distinct(V[found], signs[found], most)
    return float("inf") if count > most else unseen(count, n_starts)
