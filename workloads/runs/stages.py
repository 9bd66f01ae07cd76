"""Stages of load: an open loop whose rate changes along the measured part, "10s:100/s,30s:400/s".

The arrivals are a Poisson process as that of one rate. Its times are read on a clock that runs fast
where much is due and slow where little is, so that a run of stages can be drawn again from the seed
as any other. The warm-up has the first stage's rate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from workloads.records import RecordedPlan

PART = re.compile(r"(?P<seconds>\d{1,5}(\.\d{1,6})?)s:(?P<per_s>\d{1,8}(\.\d{1,6})?)/s")
MOST_STAGES = 100
LONGEST_S = 86_400


if TYPE_CHECKING:
    import numpy as np


class Stage(NamedTuple):
    """seconds : how long it lasts. per_s : writes due a second."""

    seconds: float
    per_s: float


def parse_stages(text: str) -> tuple[Stage, ...]:
    """The stages of a text, () of an empty one. Raises ValueError, a sentence, for any other.

    >>> parse_stages("10s:100/s,0.5s:0/s")
    (Stage(seconds=10.0, per_s=100.0), Stage(seconds=0.5, per_s=0.0))
    """
    if not text:
        return ()
    found = [PART.fullmatch(part.strip()) for part in text.split(",", MOST_STAGES)]
    stages = tuple(Stage(float(one["seconds"]), float(one["per_s"])) for one in found if one)
    if not all(found):
        raise ValueError(
            f"give up to {MOST_STAGES} stages as 10s:100/s,30s:400/s, the time and then the rate"
        )
    if min(stage.seconds for stage in stages) <= 0 or length_s(stages) > LONGEST_S:
        raise ValueError(f"each stage takes some time, and all together at most {LONGEST_S:,} s")
    if not stages[0].per_s or max(stage.per_s for stage in stages) > 10_000_000:
        raise ValueError("the first stage has a rate above 0, and none more than 10,000,000/s")
    return stages


def length_s(stages: Sequence[Stage]) -> float:
    return sum(stage.seconds for stage in stages)


def mean_per_s(stages: Sequence[Stage]) -> float:
    """The rate of all stages together."""
    return sum(stage.seconds * stage.per_s for stage in stages) / length_s(stages)


def windows_ns(stages: Sequence[Stage], measure_ns: int, stop_ns: int) -> list[tuple[int, int]]:
    """(first, last) of each stage on the run's clock, cut to where the run ended."""
    ends = [measure_ns + int(s * 1e9) for s in accumulate(stage.seconds for stage in stages)]
    return [
        (min(first, stop_ns), min(last, stop_ns))
        for first, last in zip([measure_ns, *ends], ends, strict=False)
    ]


def warped(stages: Sequence[Stage], warmup_s: float) -> Callable[[np.ndarray], np.ndarray]:
    """Moments of a process of the mean rate -> those of the stages, both int64 ns after the start.

    Behind the last stage its rate goes on; where that is 0, nothing is due for a day.
    """
    parts = [Stage(warmup_s, stages[0].per_s), *stages]
    mean = mean_per_s(stages)
    import numpy as np  # a plan is read without it

    real = np.array([0.0, *accumulate(part.seconds * 1e9 for part in parts)])
    drawn = np.array([0.0, *accumulate(part.seconds * 1e9 * part.per_s / mean for part in parts)])
    beyond = mean / stages[-1].per_s if stages[-1].per_s else 0.0

    def moments(ns: np.ndarray) -> np.ndarray:
        # Of two equal moments of `drawn`, the ends of a stage of rate 0, the later one holds.
        at = np.searchsorted(drawn, ns, side="right").clip(1, len(drawn) - 1)
        length = drawn[at] - drawn[at - 1]
        share = np.divide(ns - drawn[at - 1], length, out=np.zeros(len(ns)), where=length > 0)
        found = real[at - 1] + share.clip(0, 1) * (real[at] - real[at - 1])
        over = ns - drawn[-1]
        late = real[-1] + (over * beyond if beyond else LONGEST_S * 1e9 + over)
        result: np.ndarray = np.where(over >= 0, late, found).astype(np.int64)
        return result

    return moments


def warp_of(plan: RecordedPlan, role: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """What makes a role's arrivals those of the plan's stages, which are the writers'.

    None where the role has none. Raises ValueError for a text of somebody's that is none.
    """
    if role != "writer" or not (stages := parse_stages(plan.stages)):
        return None
    return warped(stages, plan.warmup_s)
