"""Penalties of hidden weights as text: what `--penalty` accepts, and what a model file keeps.

    l2                  weight decay
    l1                  the sum of sizes: neurons see few columns
    elastic:0.3         0.3 of the sum of sizes and 0.7 of the Euclidean norm
    groups:a,b;c        the sum of the norms of groups of columns: neurons see few groups

A table's column may become several inputs (a text has one for each of its values); they are in the group of
their column. Columns that no group names are a group of their own each.

Reference: :mod:`cvxnn.feature_penalties`.
"""

from __future__ import annotations

import numpy as np

from .encoding import Encoding
from .feature_penalties import NAMED, Elastic, Groups, WeightPenalty
from .tables import listing


def parse_penalty(text: str) -> WeightPenalty | list[list[str]]:
    """Return the penalty of a text; for groups the names of their columns.

    Raises
    ------
    ValueError
        If it is none.
    """
    kind, _, rest = text.partition(":")
    if text in NAMED:
        return text
    if kind == "elastic" and rest:
        try:
            return Elastic(float(rest))
        except ValueError:
            raise ValueError(
                f"--penalty {text!r}: {rest!r} is no number from 0 to 1: pass elastic:0.3"
            ) from None
    rows = [[name.strip() for name in part.split(",")] for part in rest.split(";")]
    if kind != "groups" or not all(name for row in rows for name in row):
        raise ValueError(
            f"--penalty {text!r} is unknown: pass l2, l1, elastic:SHARE (elastic:0.3), or groups of "
            "columns (groups:a,b;c)"
        )
    names = [name for row in rows for name in row]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--penalty {text!r} has {listing(twice)} in two groups: name each column once")
    return rows


def penalty_of(text: str, encoding: Encoding) -> WeightPenalty:
    """Return the penalty of a text for the inputs of an encoded table.

    Raises
    ------
    ValueError
        If it is none, or names columns that are no inputs.
    """
    parsed = parse_penalty(text)
    if not isinstance(parsed, list):
        return parsed
    ends = np.cumsum([0, *(feature.width for feature in encoding.features)]).tolist()
    inputs = {
        feature.name: list(range(ends[i], ends[i + 1])) for i, feature in enumerate(encoding.features)
    }
    unknown = [name for row in parsed for name in row if name not in inputs]
    if unknown:
        raise ValueError(
            f"--penalty {text!r} names {listing(unknown)}, which the network does not see: its columns are "
            f"{listing(list(inputs))}"
        )
    named = {name for row in parsed for name in row}
    rows = [*parsed, *([name] for name in inputs if name not in named)]
    return Groups([[k for name in row for k in inputs[name]] for row in rows])  # type: ignore[arg-type]
