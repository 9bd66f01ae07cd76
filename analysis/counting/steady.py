"""From where on a run is steady: its warm-up, decided by MSER-5 and not by habit.

A fixed warm-up is too short for one engine and wasted on another: on the machine this was written
on, BEGIN CONCURRENT began a quarter faster than it went on, for 0.2 s after the gate opened, and
plain transactions showed nothing of the kind. The run's commits along its own clock say where
that ends, or that it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.statistics import COUNTED, FEWEST_BATCHES, MOST_BATCHES, SHORT, truncation
from workloads.records import COMMITTED, Run

BINS_A_BATCH = 5
"""The 5 of MSER-5: batches of five bins, so that neighbours are less alike than single bins are."""

SHORTEST_BIN_NS = 5_000_000
"""Below it a bin shows the scheduler's turns and the back-off between tries, not the run."""


COLD = "cold start"
"""A run that reads its data from the disk first is measured for just that."""

COMMITS_A_BATCH = 5
"""On average. With fewer, a count says more about chance than about the rate."""


@dataclass(frozen=True)
class Steady:
    """The steady state of one run.

    state      : "steady", "no steady state", "too short to tell", "by transactions" (the run
        counted transactions, and whoever asks for those wants all of them measured), or "cold
        start", which is all measured, too.
    window_ns  : (first, last) of what is measured. It begins later than the plan's only where the
        state is "steady" and the truncation point is behind the plan's warm-up.
    warmup_s   : from the gate's opening to the first of them.
    batches    : how many the run was divided into, 0 where that was not tried.
    batch_s    : length of one.
    """

    state: str
    window_ns: tuple[int, int]
    warmup_s: float
    planned_s: float
    batches: int = 0
    batch_s: float = 0.0

    @property
    def cut(self) -> bool:
        """The window begins later than was planned."""
        return self.warmup_s > self.planned_s


def steady_state(run: Run) -> Steady:
    """Find the steady part of a run from the commits of its writers (its readers, if none write).

    The series runs from the gate's opening to the window's end, in batches of five bins, as many
    as there may be of batches that are long and full enough (SHORTEST_BIN_NS, COMMITS_A_BATCH).
    Never an error for an odd run.
    """
    first, stop = run.window_ns
    start = run.manifest.window.start_ns
    planned_s = (first - start) / 1e9

    def found(state: str, begin: int = first, batches: int = 0, batch_s: float = 0.0) -> Steady:
        return Steady(state, (begin, stop), (begin - start) / 1e9, planned_s, batches, batch_s)

    if run.manifest.plan.transactions:
        return found(COUNTED)
    if run.manifest.plan.cache == "cold":
        return found(COLD)
    role = "writer" if run.role("writer") else "reader"
    many = sum(len(ended) for ended in _ends(run, role))
    longest = (stop - start) // (SHORTEST_BIN_NS * BINS_A_BATCH)
    batches = min(MOST_BATCHES, longest, many // COMMITS_A_BATCH)
    if batches < FEWEST_BATCHES:
        return found(SHORT)
    width = (stop - start) / batches
    # The sum of five bins is the count of the batch: no bin is ever looked at alone.
    counts = np.zeros(batches, int)
    for ended in _ends(run, role):
        batch = ((ended - start) // width).astype(int)
        counts += np.bincount(batch, minlength=batches)[:batches]
    planned = int(np.ceil((first - start) / width - 1e-9))
    state, point = truncation(counts, planned)
    begin = first if point <= planned else start + int(point * width)
    return found(state, begin, batches, width / 1e9)


def _ends(run: Run, role: str) -> Iterator[np.ndarray]:
    """When the commits of a role ended, from the gate's opening on, some at a time."""
    start, stop = run.manifest.window.start_ns, run.window_ns[1]
    for worker in run.role(role):
        for rows in worker.rows.pieces():
            ended = rows["end_ns"][rows["outcome"] == COMMITTED]
            yield ended[(ended >= start) & (ended < stop)]


__all__ = ["Steady", "steady_state"]
