"""What a careful colleague would say about data and training before looking at results.

Columns that say nothing, or the same twice; equal samples with different targets; columns of very different
sizes (the penalty then decides by units); values far outside; classes that are rare or missing; fewer
samples than columns; a penalty so strong that nothing is left; a training that was not finished; and a
network that knows its training data much better than others. Each with what to do about it. Data are
left as they are.

Reference: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, sections 2 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..tables import listing
from .content import Concern
from .numerals import number, part, percent, things
from .subject import Subject

#: The largest deviation of an input over the smallest, beyond which units decide.
SCALES = 30.0
#: Beyond so many times the interquartile range from the nearer quartile a value is far outside.
FAR = 10.0
#: A class with fewer samples is rare, and one with a larger share is most of the data.
RARE, MOST = 5, 0.8
#: Difference between scores on training and held-out data that calls for a remark.
APART = 0.1
#: Columns that are compared with each other.
COMPARED = 2000
#: A proven gap beyond which a bound says little.
LOOSE = 0.1


def concerns_of(subject: Subject, score: float, test_score: float) -> tuple[Concern, ...]:
    """Return what a reader should know, the grave first."""
    found = [
        *_of_training(subject, score, test_score),
        *_of_samples(subject),
        *_of_columns(subject),
    ]
    return tuple(sorted(found, key=lambda concern: not concern.grave))


def _of_training(subject: Subject, score: float, test_score: float) -> Iterator[Concern]:
    c = subject.certificate
    if c.width == 0:
        yield Concern(
            True,
            "The network is a constant.",
            f"At alpha {number(c.alpha, 3)} the penalty costs more than any neuron could gain, so the best "
            "network has none (alpha is at or above alpha_max). Choose a smaller alpha.",
        )
    if c.search_gap > subject.tol:
        yield Concern(
            c.search_gap > 0.01,
            "Training was not finished.",
            f"The search gap is {percent(c.search_gap, 2)} and {percent(subject.tol, 2)} was asked for: a "
            "better network is likely. Raise max_iter or max_time. The certificate holds all the same.",
        )
    if c.gap > LOOSE and c.search_gap <= LOOSE:
        yield Concern(
            False,
            "The proof is looser than the search.",
            f"Proven is a gap of {percent(c.gap, 2)}; a strong search for better neurons found at most "
            f"{percent(c.search_gap, 2)}. The bound, not the network, is probably what is weak.",
        )
    if score - test_score > APART:
        yield Concern(
            True,
            "Much better on training data than on new data.",
            f"{subject.score_name} is {number(score, 3)} on the training data and "
            f"{number(test_score, 3)} on "
            "the held-out data: the network has learned particulars. Choose a larger alpha, by "
            "cross-validation say.",
        )
    if subject.columns.opaque:
        yield Concern(
            False,
            "Columns are mixed before the network sees them.",
            f"Rules are in the units of what {listing(subject.columns.opaque)} makes of the data.",
        )


def _of_samples(subject: Subject) -> Iterator[Concern]:
    n, d = subject.data.X.shape
    if n < d:
        yield Concern(
            False,
            "Fewer samples than columns.",
            f"{things(n, 'sample')} and {things(d, 'column')}: many networks fit the data equally well, so "
            "weights of single columns mean little.",
        )
    yield from _contradictions(subject)
    if not subject.classes:
        return
    counts = np.bincount(subject.data.y.astype(int), minlength=len(subject.classes))
    names = np.array(subject.classes)
    rare = (counts > 0) & (counts < RARE)
    if np.any(rare):
        yield Concern(
            False,
            "Classes with very few samples.",
            f"{listing(names[rare].tolist())}: fewer than {RARE} samples. Scores of these classes are "
            "chance.",
        )
    if np.any(counts == 0):
        yield Concern(True, "Classes without samples.", f"None of {listing(names[counts == 0].tolist())}.")
    if counts.max() > MOST * n:
        yield Concern(
            False,
            "One class is most of the data.",
            f"{part(counts.max() / n)} of the samples are {names[counts.argmax()]!r}: always saying "
            "that would "
            "score as much. Compare with it, or pass class_weight='balanced'.",
        )
    if subject.held_out is not None:
        absent = np.setdiff1d(np.arange(len(names)), subject.held_out.y)
        if len(absent):
            yield Concern(
                False,
                "Classes missing in the held-out data.",
                f"{listing(names[absent].tolist())}: their score is not known.",
            )


def _contradictions(subject: Subject) -> Iterator[Concern]:
    """Equal samples with different targets."""
    rows, place = np.unique(subject.data.X + 0.0, axis=0, return_inverse=True)
    repeated = len(subject.data) - len(rows)
    if not repeated:
        return
    y = subject.data.y.reshape(len(subject.data), -1)
    low, high = np.full((len(rows), y.shape[1]), np.inf), np.full((len(rows), y.shape[1]), -np.inf)
    np.minimum.at(low, place.ravel(), y)
    np.maximum.at(high, place.ravel(), y)
    differing = np.any(high > low, axis=1)[place.ravel()]
    if np.any(differing):
        example = listing([subject.data.place(i) for i in np.flatnonzero(differing)[:4]], 4)
        yield Concern(
            False,
            "Equal samples with different targets.",
            f"{things(int(differing.sum()), 'sample')} have a twin with another target ({example}, for "
            "example): no function of these columns can be right on all of them.",
        )
    elif repeated > 0.05 * len(subject.data):
        yield Concern(
            False,
            "Repeated samples.",
            f"{things(repeated, 'sample')} repeat another one exactly and count twice. Where that is a "
            "slip of "
            "the data collection, leave them out; held-out data must not hold them either.",
        )


def _of_columns(subject: Subject) -> Iterator[Concern]:
    X, columns = subject.data.X, subject.columns
    if columns.places:
        return  # borders of images never change, and that is no fault
    names = [column.name for column in columns.entries]
    deviation = X.std(axis=0)
    size = np.maximum(np.abs(X).max(axis=0), 1e-300)
    constant = deviation <= 1e-12 * size
    if np.any(constant):
        yield Concern(
            False,
            "Columns that never change.",
            f"{listing([names[k] for k in np.flatnonzero(constant)])} tell nothing: leave them out.",
        )
    yield from _twins(X, names, constant)
    vary = deviation[~constant]
    if len(vary) > 1 and vary.max() > SCALES * vary.min():
        wide = names[int(np.flatnonzero(~constant)[vary.argmax()])]
        narrow = names[int(np.flatnonzero(~constant)[vary.argmin()])]
        yield Concern(
            True,
            "Columns of very different sizes.",
            f"{wide!r} varies {number(vary.max() / vary.min(), 2)} times as much as {narrow!r} as the "
            "network "
            "sees them, so the penalty prefers it for its units alone. Put a StandardScaler in front.",
        )
    yield from _far_outside(subject, names)


def _twins(X: np.ndarray, names: list[str], constant: np.ndarray) -> Iterator[Concern]:
    """Columns that are multiples of each other."""
    kept = np.flatnonzero(~constant)[:COMPARED]
    if len(kept) < 2:
        return
    Z = X[:, kept] - X[:, kept].mean(axis=0)
    Z = Z / np.linalg.norm(Z, axis=0)
    alike = np.triu(np.abs(Z.T @ Z) > 1.0 - 1e-9, k=1)
    pairs = [f"{names[kept[i]]} and {names[kept[j]]}" for i, j in np.argwhere(alike)]
    if pairs:
        yield Concern(
            False,
            "Columns that say the same.",
            f"{listing(pairs, 3)}: one is the other in another unit. How a weight is shared between "
            "them means "
            "nothing; leave one out.",
        )


def _far_outside(subject: Subject, names: list[str]) -> Iterator[Concern]:
    values = subject.columns.values(subject.data.X)
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    width = high - low
    outside = np.maximum(values - high, low - values) > FAR * width
    # columns that are mostly one value have no width to measure by
    outside &= (width > 0) & np.array([not column.flag for column in subject.columns.entries])
    found = np.flatnonzero(outside.any(axis=0))
    if len(found) == 0:
        return
    excess = np.where(outside, np.maximum(values - high, low - values) / np.where(width > 0, width, 1.0), 0)
    row, k = np.unravel_index(int(excess.argmax()), excess.shape)
    yield Concern(
        False,
        "Values far outside.",
        f"{listing([names[j] for j in found])} hold values beyond {number(FAR)} times the range of "
        "their middle "
        f"half, such as {number(values[row, k])} in {names[k]!r} ({subject.data.place(int(row))}; half "
        "of the "
        f"values are from {number(low[k])} to {number(high[k])}). Check whether they are errors.",
    )
