"""Latencies of an arm with their intervals, as the report says them."""

from __future__ import annotations

import numpy as np

from analysis.compare import Grid, seed_of
from analysis.intervals import percentile_intervals_over_blocks
from analysis.words import duration, interval


def whole_percentiles(grid: Grid, arm: str, role: str) -> np.ndarray:
    """p50, p90, p99, p99.9 and maximum of whole transactions, ns, shape (5, 3): low, value, high.

    All usable blocks pooled; the interval is over blocks, nan where these are too few.
    """
    counts = [cell.counted for cell in grid.usable(arm) if cell.counted is not None]
    each = [c.roles[role].latency_ns["whole"] for c in counts if role in c.roles]
    return percentile_intervals_over_blocks(each, seed=seed_of(grid.name, arm, role))


def percentile_words(span: np.ndarray) -> str:
    """A percentile, ns, with its interval where there is one.

    >>> percentile_words(np.array([90e3, 100e3, 120e3])), percentile_words(np.full(3, np.nan))
    ('100 µs [90 µs, 120 µs]', '—')
    """
    low, value, high = (float(x) for x in span)
    return duration(value) + ("" if np.isnan(low) else f" {interval(low, high, duration)}")
