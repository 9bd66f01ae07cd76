"""Latencies of an arm with their intervals, as the report says them."""

from __future__ import annotations

import numpy as np

from analysis.counting.tally import Tally
from analysis.statistics import Series, percentile_intervals
from analysis.wording import at_least, duration, interval


def percentile_text(span: np.ndarray) -> str:
    """A percentile, ns, with its interval where there is one. span : a row of `Arm.percentiles`.

    >>> percentile_text(np.array([90e3, 100e3, 120e3, 100e3]))
    '100 µs [90 µs, 120 µs]'
    >>> percentile_text(np.array([1e9, np.inf, np.inf, 2e9])), percentile_text(np.full(4, np.nan))
    ('≥ 2 s', '—')
    """
    low, value, high, least = (float(x) for x in span)
    if np.isnan(low) or np.isinf(value):
        return at_least(value, least)
    return f"{duration(value)} {interval(low, high, duration)}"


def latency_intervals(tally: Tally, stage: str = "whole", *, seed: int = 0) -> np.ndarray:
    """`percentile_intervals` of one run's committed transactions, ns, by when they ended; of whole
    ones in an open loop, of all that were due, by when they were.
    """
    if stage == "whole":
        return percentile_intervals(whole_in_order(tally), seed=seed)
    return percentile_intervals(tally.times.series_in_order(stage), seed=seed)


def whole_in_order(tally: Tally) -> Series:
    """`Tally.whole_ns` of one run in the order of time: of when they ended, or were due."""
    if tally.due is None:
        return tally.times.series_in_order("whole")
    return tally.due.series_in_order("whole")
