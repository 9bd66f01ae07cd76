"""Whether a run stood still for a while: nobody committed, though before and after they did."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

BY_CHANCE = 1e-6
"""Share of runs in which commits that come independently of each other leave so long a gap: n of
them in a window of length w leave one of length g with a chance of at most (n + 1)(1 - g / w)**n
(the spacings of uniform points; David and Nagaraja 2003, section 6.4)."""


AT_ONCE = 1 << 16


class Standstill(NamedTuple):
    """The longest time in which nobody committed, s; since_s : from the window's beginning."""

    lasted_s: float
    since_s: float


def standstill(ends_ns: np.ndarray, window_ns: tuple[int, int]) -> Standstill | None:
    """The time in which a run stood still, None where it did not.

    ends_ns : when each commit of a writer or a reader ended, in any order, between two places that
        are free. Its memory is used for the gaps, and what is in it is lost.
    Nobody committed for a noticeable part of the window: a quarter of one of up to 4 s, 1 s of one
    of up to 20 s, a twentieth of a longer one. And the run was faster otherwise: at its number of
    commits so long a gap is no chance (BY_CHANCE), so that a run with a commit a second does not
    stand still. Without any commit there is no pace that it could lose.
    """
    first, stop = window_ns
    commits = ends_ns.size - 2
    if commits < 1 or stop <= first:
        return None
    ends_ns[1:-1].sort()
    ends_ns[0], ends_ns[-1] = first, stop
    gaps = _in_its_place(ends_ns)
    at, window_s = int(np.argmax(gaps)), (stop - first) / 1e9
    longest = float(gaps[at])
    noticeable = min(window_s / 4, max(1.0, window_s / 20))
    chance = math.log(commits + 1) + commits * np.log(max(1 - longest / window_s, 1e-300))
    if longest < noticeable or chance > math.log(BY_CHANCE):
        return None
    return Standstill(longest, float(gaps[:at].sum()))


def _in_its_place(moments: np.ndarray) -> np.ndarray:
    """The seconds between neighbours, in the memory of the moments (int64)."""
    gaps = moments.view(np.float64)[:-1]
    for at in range(0, len(gaps), AT_ONCE):
        upto = min(at + AT_ONCE, len(gaps))
        gaps[at:upto] = np.diff(moments[at : upto + 1]) / 1e9
    return gaps
