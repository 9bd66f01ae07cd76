"""One run's own uncertainty: its stretches of time, drawn again in blocks.

It is the smaller part of the truth. Runs made one after the other scattered by 10 to 23 % on the
machine this was written on, and no run knows of that: only blocks do (analysis.counting.measured).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.counting import CountedCell, ends_ns, whole_in_order
from analysis.statistics import Ratio, block_length, circular_blocks, resampled_percentile
from workloads.records import COMMITTED, CONFLICT, UNKNOWN, read_run

BINS = 200
TAILS = [0.025, 0.975]


def within_runs(
    a: CountedCell, b: CountedCell, measure: str, role: str, ratio: Ratio, seed: int = 0
) -> Ratio:
    """A ratio of two single runs with the interval of what happened within each of them.

    The runs are drawn again apart from each other: nothing pairs their stretches of time. Without
    an interval where a run says too little (few samples, or a measure that it has one number of).
    """
    drawn = [resampled(cell, measure, role, seed + at) for at, cell in enumerate((a, b))]
    if drawn[0] is None or drawn[1] is None:
        return ratio
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = drawn[1] / drawn[0]
    if np.isnan(ratios).any():
        return ratio
    low, high = np.quantile(ratios, TAILS, method="nearest")
    return replace(ratio, low=float(low), high=float(high))


QUANTILE = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def resampled(cell: CountedCell, measure: str, role: str, seed: int = 0) -> np.ndarray | None:
    """The measure in each resample of one run, float array, shape (RESAMPLES,).

    None where the run says too little for it. measure : as in analysis.compare.comparison.MEASURES.
    """
    if cell.counted is None or cell.folder is None or role not in cell.counted.roles:
        return None
    tally = cell.counted.roles[role]
    if measure in QUANTILE:
        values = whole_in_order(tally)
        return resampled_percentile(values, QUANTILE[measure], seed=seed)
    if measure not in ("throughput", "abort-rate"):
        return None
    run = read_run(cell.folder)
    first, stop = cell.counted.steady.window_ns if cell.counted.steady else run.window_ns
    if stop <= first:
        return None
    edges = np.linspace(first, stop, BINS + 1)
    counts = {name: np.zeros(BINS) for name in ("committed", "conflict", "finished")}
    for worker in run.role(role):
        for rows in worker.rows.pieces():
            end, outcome = ends_ns(rows, stop), rows["outcome"]
            for name, wanted in (
                ("committed", outcome == COMMITTED),
                ("conflict", outcome == CONFLICT),
                ("finished", outcome != UNKNOWN),
            ):
                counts[name] += np.histogram(end[wanted], edges)[0]
    above = counts["committed" if measure == "throughput" else "conflict"]
    if not above.any():
        return None
    block = round(max(block_length(above), BINS ** (1 / 3)))
    weights = circular_blocks(BINS, block, seed=seed)
    top = weights @ above
    if measure == "throughput":
        return top / cell.counted.seconds
    with np.errstate(divide="ignore", invalid="ignore"):
        # nan of a resample in which nothing ended: the run says too little for an interval.
        return top / (weights @ counts["finished"])
