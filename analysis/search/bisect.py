"""Which rate to try next: the highest on a grid that meets an objective, in few runs.

A decision of its own, without a run in it, so that it can be tested on a queue whose answer is
known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

STEP = 1.05
"""Between neighbours of the grid of rates, and so the answer's resolution."""

LONGEST_S = 60.0
"""A run at a rate is lengthened up to this, s, so that enough transactions are due in it."""

FIRST = 0.7
"""Share of the closed loop's rate at which the search begins. Beyond it queues soon grow long."""

TOP, BOTTOM = 1.5, 0.001
"""Bounds of the search, as shares of the closed loop's rate."""

CURVE = (0.25, 0.5, 0.75, 0.9)
"""Parts of the answer at which the curve is measured, too, where nothing near was."""


class Answer(NamedTuple):
    """rate : the highest that met the objective, and none that was tried below it did not; None
    where none did. tried : rate -> whether it met it. notes : what a reader must know, in words.
    """

    rate: float | None
    tried: dict[float, bool]
    notes: tuple[str, ...]


def highest_rate(
    capacity: float,
    met: Callable[[float], bool],
    *,
    step: float = STEP,
    floor: float = 0.0,
    curve: tuple[float, ...] = CURVE,
) -> Answer:
    """Search the rates capacity * step**k, for whole k, by doubling jumps and then by halving.

    capacity : what a closed loop reaches, transactions a second. floor : no rate below it is asked
    for. met : called once for each rate that is tried, in a rounded number of the grid.
    If a rate is met, all below it should be. Where one is not, the answer is the highest below the
    lowest that was not met, and a note says so.

    >>> found = highest_rate(1000, lambda rate: rate < 420)
    >>> found.rate, len(found.tried)
    (416.0, 10)
    """
    search = _Search(capacity, met, step, max(floor, capacity * BOTTOM))
    low, high = search.bracket()
    if low is None:
        rate = search.rate(high if high is not None else 0)
        note = f"Not met at {rate:,g} a second, the lowest rate that was tried."
        return Answer(None, search.tried, (note,))
    notes = []
    if high is None:
        notes.append(
            f"Met even at {search.rate(low):,g} a second, the highest rate that was tried: "
            "the closed loop reached less."
        )
    else:
        low = search.halve(low, high)
    search.fill(low, curve)
    unmet = [k for k, yes in search.asked.items() if not yes and k < low]
    if unmet:
        first = min(unmet)
        notes.append(
            f"Not monotone: {search.rate(low):,g} a second was met and {search.rate(first):,g} was "
            "not. The answer is the highest rate below the first that was not met; runs of longer "
            "duration, or more of them, may tell chance from a real dip."
        )
        below = [k for k, yes in search.asked.items() if yes and k < first]
        if not below:
            return Answer(None, search.tried, tuple(notes))
        low = search.halve(max(below), first)
    return Answer(search.rate(low), search.tried, tuple(notes))


class _Search:
    """Rates by their place k on the grid, each asked for once."""

    def __init__(
        self, capacity: float, met: Callable[[float], bool], step: float, floor: float
    ) -> None:
        self.capacity, self.met, self.step = capacity, met, step
        self.highest = math.floor(self.place(capacity * TOP))
        self.lowest = min(math.ceil(self.place(floor) - 1e-9), self.highest)
        self.asked: dict[int, bool] = {}
        self.tried: dict[float, bool] = {}

    def place(self, rate: float) -> float:
        return math.log(rate / self.capacity) / math.log(self.step)

    def rate(self, k: int) -> float:
        """The rate of place k, in three digits, so that it is legible."""
        return float(f"{self.capacity * self.step**k:.3g}")

    def ask(self, k: int) -> bool:
        if k not in self.asked:
            self.asked[k] = self.tried[self.rate(k)] = self.met(self.rate(k))
        return self.asked[k]

    def bracket(self) -> tuple[int | None, int | None]:
        """(a place that is met, one above it that is not), None where there is none."""
        at = round(min(max(self.place(self.capacity * FIRST), self.lowest), self.highest))
        jump = 2
        if self.ask(at):
            while at < self.highest:
                above = min(at + jump, self.highest)
                if not self.ask(above):
                    return at, above
                at, jump = above, jump * 2
            return at, None
        while at > self.lowest:
            below = max(at - jump, self.lowest)
            if self.ask(below):
                return below, at
            at, jump = below, jump * 2
        return None, at

    def halve(self, low: int, high: int) -> int:
        """The highest place that is met, where the next is not."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.ask(middle):
                low = middle
            else:
                high = middle
        return low

    def fill(self, low: int, curve: tuple[float, ...]) -> None:
        """Measure the curve below the answer where nothing near was tried."""
        for part in curve:
            k = round(low + math.log(part) / math.log(self.step))
            if k >= self.lowest and not any(abs(k - other) <= 2 for other in self.asked):
                self.ask(k)
