"""Each kind of a role's transactions alone: the reads and the updates of a mix, say.

A mix counted together hides what one kind costs the other: with 95 % reads the median is a read's,
whatever becomes of the updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.counting.committed import KIND, Committed
from analysis.statistics import PERCENTILES, percentiles


class OfKind(NamedTuple):
    """The committed transactions of one kind.

    committed : how many. per_s : of them a second. mean_ns : of their whole time. whole_ns : float
    array, shape (5,), its p50, p90, p99, p99.9 and maximum, nan where they are too few.
    """

    committed: int
    per_s: float
    mean_ns: float
    whole_ns: np.ndarray

    def rank_ns(self, name: str) -> float:
        """A percentile by its name, such as "p99", ns."""
        return float(self.whole_ns[PERCENTILES.index(name)])


def kinds_in(times: Committed, names: Sequence[str], seconds: float) -> Mapping[str, OfKind]:
    """Name of a kind -> its transactions, where there are any; {} where nobody knows the names."""
    if not names or not len(times):
        return {}
    kind, whole = times.column(KIND), times.column("whole")
    found = {}
    for n in np.unique(kind[kind < len(names)]).tolist():
        mine = whole[kind == n]
        per_s = len(mine) / seconds if seconds > 0 else math.nan
        found[names[n]] = OfKind(len(mine), per_s, float(mine.mean()), percentiles(mine))
    return found
