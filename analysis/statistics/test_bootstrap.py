"""Intervals of percentiles hold the truth as often as they say, where single draws do not."""

import time

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

from analysis.cli.run_summary import summary_lines
from analysis.counting import count, latency_intervals
from analysis.statistics import bootstrap as intervals
from analysis.statistics.bootstrap import (
    Series,
    block_length,
    circular_blocks,
    percentile_intervals,
)
from analysis.statistics.estimators import QUANTILES, percentiles
from analysis.synthetic import drawn_run, made_run, made_worker

TRUTH = np.exp(norm.ppf(QUANTILES))


def latencies(rng, n, phi=0.8):
    """Log-normal, and alike in time: an AR(1) under the logarithm, its marginal the same always."""
    steps = rng.normal(size=n + 200)
    return np.exp(lfilter([1], [1, -phi], steps)[200:] * np.sqrt(1 - phi**2))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    monkeypatch.setattr(intervals, "CELLS", 512)


def coverage(draw, find, tries=60):
    rng = np.random.default_rng(412)
    found = [find(draw(rng), n)[:3] for n in range(tries)]
    return np.mean([(r[:, 0] <= TRUTH[:3]) & (TRUTH[:3] <= r[:, 2]) for r in found], axis=0)


def test_the_interval_covers_the_truth_of_autocorrelated_latencies_and_iid_draws_do_not(quick):
    held = coverage(
        lambda rng: latencies(rng, 20_000), lambda v, n: percentile_intervals(v, seed=n)
    )
    assert (held >= 0.9).all(), held
    # The negative control: the same values, drawn again one by one.
    shuffle = np.random.default_rng(0).permutation
    naive = coverage(
        lambda rng: latencies(rng, 20_000),
        lambda v, n: percentile_intervals(shuffle(v), seed=n, block=1),
        tries=20,
    )
    assert (naive < 0.85).all(), naive


def test_the_values_are_those_of_percentiles_and_lie_within():
    values = latencies(np.random.default_rng(1), 20_000)
    found = percentile_intervals(values)
    assert np.array_equal(found[:, 1], percentiles(values), equal_nan=True)
    known = found[:3]
    assert (known[:, 0] < known[:, 1]).all() and (known[:, 1] < known[:, 2]).all()
    assert np.isnan(found[-1, [0, 2]]).all()  # the maximum has none
    assert np.array_equal(found, percentile_intervals(values), equal_nan=True)
    assert not np.array_equal(found, percentile_intervals(values, seed=1), equal_nan=True)


def test_resamples_counted_in_pieces_are_those_that_were_sorted():
    values = latencies(np.random.default_rng(2), 400)
    drawn = circular_blocks(400, 12, seed=3)
    for quantile in (0.5, 0.9):
        placed = intervals._InTime(Series.of(values))
        (quickly,) = intervals._drawn(placed, np.sort(values), [quantile], lambda *_: drawn)
        slowly = [
            np.quantile(np.repeat(values, often.astype(int)), quantile, method="inverted_cdf")
            for often in drawn
        ]
        assert quickly is not None
        assert np.mean(quickly == slowly) > 0.99
        assert np.allclose(quickly, slowly, rtol=0.02)


@pytest.mark.parametrize(("samples", "known"), [(19, 0), (99, 1), (999, 2), (9999, 3)])
def test_too_few_samples_have_no_interval(samples, known):
    values = np.random.default_rng(412).exponential(size=samples)
    assert np.isfinite(percentile_intervals(values)[:, 0]).sum() <= known


def test_a_percentile_beyond_which_only_one_stall_lies_has_no_interval():
    values = np.random.default_rng(412).exponential(size=2000)
    values[700:730] += 100
    found = percentile_intervals(values)
    assert found[2, 1] > 10  # p99 is the stall's
    assert np.isnan(found[2, 0]) and np.isfinite(found[0, 0])


@pytest.mark.parametrize("odd", [[], [5], [7] * 500, [0] * 300 + [1]])
def test_odd_series_are_no_error(odd):
    found = percentile_intervals(odd)
    assert found.shape == (5, 3)


def test_the_block_grows_with_the_likeness_of_neighbours():
    rng = np.random.default_rng(412)
    lengths = [
        np.median([block_length(np.log(latencies(rng, 1000, phi))) for _ in range(20)])
        for phi in (0.0, 0.5, 0.8, 0.95)
    ]
    assert lengths[0] < 3
    assert lengths == sorted(lengths)
    assert lengths[-1] > 30
    assert block_length([1.0] * 50) == 1


def test_a_million_latencies_take_no_longer_than_it_takes_to_sort_them_a_few_times():
    values = latencies(np.random.default_rng(412), 1_000_000)
    begun = time.process_time()
    np.sort(values)
    once = time.process_time() - begun
    begun = time.process_time()
    percentile_intervals(values)
    assert time.process_time() - begun < 100 * once  # sorting each resample would be 4,000 times


def test_latencies_of_a_run_are_taken_in_the_order_of_time():
    run = drawn_run(3, per_s=4000, seconds=1)
    tally = count(run).roles["writer"]
    order = np.argsort(tally.ends_ns)
    expected = percentile_intervals(tally.latency_ns["whole"][order])
    assert np.array_equal(latency_intervals(tally), expected, equal_nan=True)


def test_show_says_the_intervals_where_there_are_any():
    text = "\n".join(summary_lines(drawn_run(3, per_s=4000)))
    assert "whole, 95 % within this run: p50 [" in text
    assert ", p99 [" in text
    few = made_run([made_worker(0, drawn_run(3, per_s=12, writers=1).workers[0].attempts)])
    assert "95 % within" not in "\n".join(summary_lines(few))


def at_once(values, cell, cells, weights):
    """The intervals as they were taken while all values were in memory."""
    points, ordered = percentiles(values), np.sort(values)
    out = np.stack([np.full_like(points, np.nan), points, np.full_like(points, np.nan)], axis=-1)
    for at, quantile in enumerate(QUANTILES):
        if np.isnan(points[at]):
            break
        from_it = np.bincount(cell[values >= intervals._at(ordered, quantile)], minlength=cells)
        if (often := weights(quantile, from_it)) is not None:
            drawn = drawn_at_once(values, ordered, cell, often, quantile)
            low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
            out[at, 0], out[at, 2] = min(low, points[at]), max(high, points[at])
    return out


def drawn_at_once(
    values: np.ndarray, ordered: np.ndarray, cell: np.ndarray, weights: np.ndarray, quantile: float
) -> np.ndarray:
    cells = weights.shape[1]
    size = intervals._times(weights, np.bincount(cell, minlength=cells))
    beyond = np.bincount(cell[values > intervals._at(ordered, quantile)], minlength=cells)
    off = np.abs(intervals._times(weights, beyond) / size - beyond.sum() / values.size).max()
    reach = 1.5 * off + 2 / values.size
    ranks = np.linspace(max(quantile - reach, 0), min(quantile + reach, 1), intervals.GRID)
    grid = np.unique([ordered[0], *(intervals._at(ordered, rank) for rank in ranks), ordered[-1]])
    place = cell * grid.size + np.searchsorted(grid, values)
    counts = np.bincount(place, minlength=cells * grid.size).reshape(cells, grid.size)
    below = np.cumsum(counts, axis=1).T.astype(float)
    least, most = np.zeros(len(weights), int), np.full(len(weights), grid.size - 1)
    while (least < most).any():
        middle = (least + most) // 2
        enough = np.einsum("rc,rc->r", weights, below[middle]) >= (quantile - 1e-12) * size
        least, most = np.where(enough, least, middle + 1), np.where(enough, middle, most)
    return grid[least]


def parted(values, size):
    """A series whose values come in pieces of some size, and are never asked for as a whole."""
    pieces = [values[at : at + size] for at in range(0, len(values), size)]
    return Series(len(values), lambda: np.random.default_rng(1).permutation(values),
                  lambda: iter(pieces))  # fmt: skip


def test_intervals_of_pieces_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    known = 0
    for case in range(8):
        rng = np.random.default_rng([9, case])
        values = latencies(rng, int(rng.integers(20, 6_000)))
        whole = [values, (values * 1e5).astype(np.int64), np.where(values > 4, np.inf, values)]
        for values in whole:
            cells = min(len(values), intervals.CELLS)
            cell = np.arange(len(values)) * cells // len(values)
            expected = at_once(values, cell, cells, intervals._blocks_of_time(case))
            brief = values.astype(np.uint32) if values.dtype == np.int64 else values
            for given in (values, parted(values, int(rng.integers(1, 900))), parted(brief, 77)):
                found = percentile_intervals(given, seed=case)
                assert np.array_equal(found, expected, equal_nan=True)
            known += np.isfinite(expected[:, 0]).sum()
    assert known > 20
