"""Percentiles with intervals: latencies are alike in time, so whole stretches are drawn again.

One slow checkpoint makes a hundred transactions slow together. Drawing single latencies again
treats these hundred as independent witnesses, and the interval of p99 comes out several times too
narrow; a block bootstrap draws stretches of the run (Kuensch 1989). What changes from run to run is
in no such interval: over several runs there is one of the blocks' own percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics.estimators import QUANTILES, percentiles

RESAMPLES = 1000
CELLS = 1024
"""The series is cut into at most this many pieces. A resample draws pieces, so each is counted once
and nothing is sorted again. A shorter series has a piece for each value: then the bootstrap is the
textbook's."""

FEWEST_CLUSTERS = 30
"""Separate stretches of a run that must hold values beyond a percentile for it to have an interval.
With 15 of them, of a run whose latencies are alike for long, a nominal 95 % interval held the truth
in 58 % of made-up series: where there happened to be 15, the run was an unusual one."""

COVERED = (0.89, 0.95)
"""What intervals of nominally 95 % within one run cover where neighbours are alike, from least to
most: observed by tools/simulate, whose table a test holds this against."""

AT_ONCE = 100
"""Resamples that are drawn together, in a few megabytes."""

GRID = 257
"""Values at which the distribution is counted around each percentile."""


def block_length(series: ArrayLike) -> float:
    """How many neighbours belong together: the length of block for a circular block bootstrap.

    series : floats, shape (n,), in order of time.
    Returns a length from 1 to n / 3. Politis and White's automatic choice (2004, with the
    correction of Patton, Politis and White 2009), for the mean of the series: autocovariances up
    to the lag beyond which five in a row are no more than noise, in a flat-top window.

    >>> block_length(np.random.default_rng(1).normal(size=500)) < 5
    True
    >>> steps = np.random.default_rng(1).normal(size=500)
    >>> block_length(np.convolve(steps, np.ones(20), "valid")) > 10
    True
    """
    x = np.asarray(series, dtype=float)
    n = x.size
    most = max(n / 3, 1.0)
    if n < 10 or x.max() == x.min():
        return 1.0
    x = x - x.mean()
    close = max(5, int(np.log10(n)))
    lags = min(int(np.ceil(np.sqrt(n))) + close, n - 1)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(x, size)) ** 2
    covariance = np.fft.irfft(spectrum, size)[: lags + 1] / n
    small = np.abs(covariance[1:] / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    runs = np.convolve(small, np.ones(close), "valid") == close
    last = int(np.argmax(runs)) if runs.any() else lags
    window = min(2 * max(last, 1), lags)
    k = np.arange(1, window + 1)
    weight = np.clip(2 * (1 - k / window), 0, 1)
    part = weight * covariance[1 : window + 1]
    level = covariance[0] + 2 * part.sum()
    slope = 2 * (k * part).sum()
    if level <= 0:
        return 1.0
    # D = 4/3 g(0)^2 for the circular bootstrap; b = (2 G^2 / D * n)^(1/3).
    return float(np.clip((1.5 * (slope / level) ** 2 * n) ** (1 / 3), 1.0, most))


@dataclass(frozen=True)
class Series:
    """Numbers that need not be in memory: how many, and how to get them.

    values : all of them in an array of the caller's own, in any order.
    pieces : all of them in turn, in the order that matters to the caller. May be asked for again.
    """

    size: int
    values: Callable[[], np.ndarray]
    pieces: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, values_ns: ArrayLike | Series) -> Series:
        """Numbers that are in memory."""
        if isinstance(values_ns, Series):
            return values_ns
        values = np.asarray(values_ns)
        return cls(values.size, values.copy, lambda: iter([values]))


def percentile_intervals(
    values_ns: ArrayLike | Series,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    block: float | None = None,
) -> np.ndarray:
    """p50, p90, p99, p99.9 and the maximum of one run, with intervals.

    values_ns : numbers, shape (n,), in the order of time; the unit is the caller's.
    block     : length of the blocks that are drawn, in pieces of the series (CELLS). Without it
        `block_length` chooses one for each percentile, from how the values beyond it cluster, and
        never less than the cube root of the number of pieces.
    Returns float array, shape (5, 3): low, value, high. nan where `percentiles` gives none, low
    and high also where fewer than FEWEST_CLUSTERS blocks hold anything beyond it; the maximum has
    no interval, for no resample ever exceeds it. Deterministic by seed.
    The spread from run to run is not in it. Sources: Kuensch 1989; Politis and Romano 1992 (the
    circular block bootstrap); Efron 1979 (the percentile interval).

    >>> percentile_intervals([1, 2, 3] * 400).tolist()[:2]
    [[2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]
    """
    series = Series.of(values_ns)
    return _with_intervals(
        series.values(), _InTime(series), _blocks_of_time(seed, block), confidence
    )


def resampled_percentile(
    values_ns: ArrayLike | Series, quantile: float, *, seed: int = 0
) -> np.ndarray | None:
    """One percentile in each resample of one run, float array, shape (RESAMPLES,).

    As for `percentile_intervals`; None where that gives no interval.
    """
    series = Series.of(values_ns)
    if series.size * (1 - quantile) + 1e-9 < 10:
        return None
    ordered, in_time = series.values(), _InTime(series)
    ordered.sort()
    return _drawn(in_time, ordered, [quantile], _blocks_of_time(seed))[0]


class _InTime:
    """The values of a run with the piece that each is in."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.size, self.cells = series.size, min(series.size, CELLS)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        at = 0
        for values in self.series.pieces():
            yield np.arange(at, at + len(values)) * self.cells // max(self.size, 1), values
            at += len(values)


def joined_values(each: Sequence[Series]) -> np.ndarray:
    """All values of several series in one array of the caller's own, in any order."""
    if len(each) == 1:
        return each[0].values()
    found = np.empty(0, np.int64)
    at, size = 0, sum(series.size for series in each)
    for series in each:
        for values in series.pieces():
            if not at:
                found = np.empty(size, float if values.dtype.kind == "f" else np.int64)
            elif values.dtype.kind == "f" and found.dtype.kind == "i":
                found = found.astype(float)
            found[at : at + len(values)] = values
            at += len(values)
    return found


def _blocks_of_time(seed: int, block: float | None = None) -> Weights:
    """How a run's pieces are drawn again for each percentile."""

    def weights(quantile: float, from_it: np.ndarray) -> np.ndarray | None:
        cells = from_it.size
        # Never below the rate of the literature: likeness too weak to be seen still adds up.
        longest = max(block_length(from_it), cells ** (1 / 3))
        drawn = round(block if block is not None else longest)
        clusters = np.unique(np.flatnonzero(from_it) // drawn).size
        if clusters < FEWEST_CLUSTERS:
            return None
        return circular_blocks(cells, drawn, seed=_seed(seed, quantile))

    return weights


def circular_blocks(cells: int, block: int, *, seed: int | Sequence[int] = 0) -> np.ndarray:
    """How often each piece of a series is in each resample of a circular block bootstrap.

    Blocks of `block` neighbours begin anywhere, the series' end is followed by its beginning, and
    the last block of a resample is cut where the resample is as long as the series.
    Returns float array, shape (RESAMPLES, cells); each row adds up to `cells`.

    >>> drawn = circular_blocks(10, 3)
    >>> drawn.shape, set(drawn.sum(axis=1).tolist())
    ((1000, 10), {10.0})
    """
    block = min(max(block, 1), cells)
    whole, rest = divmod(cells, block)
    rng = np.random.default_rng(seed)
    out = np.zeros((RESAMPLES, cells))
    for starts, length in (
        (rng.integers(0, cells, (RESAMPLES, whole)), block),
        (rng.integers(0, cells, (RESAMPLES, 1)), rest),
    ):
        for at in range(0, RESAMPLES if length else 0, AT_ONCE):
            some = starts[at : at + AT_ONCE]
            row = np.arange(len(some))[:, None] * 2 * cells
            begun, ended = (
                np.bincount((row + place).ravel(), minlength=len(some) * 2 * cells)
                for place in (some, some + length)
            )
            covered = np.cumsum((begun - ended).reshape(len(some), 2 * cells), axis=1)
            out[at : at + AT_ONCE] += covered[:, :cells] + covered[:, cells:]
    return out


Weights = Callable[[float, np.ndarray], "np.ndarray | None"]
"""(quantile, how many values from it on each piece has) -> how often each piece is in each
resample, (RESAMPLES, cells); None where nothing can be said."""


def _with_intervals(
    values: np.ndarray, placed: _InTime, weights: Weights, confidence: float
) -> np.ndarray:
    """Values : all of `placed` in any order, which is lost."""
    points = percentiles(values, in_place=True)
    out = np.stack([np.full_like(points, np.nan), points, np.full_like(points, np.nan)], axis=-1)
    if np.isnan(points[0]):
        return out
    values.sort()
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    known = [q for at, q in enumerate(QUANTILES) if not np.isnan(points[: at + 1]).any()]
    for at, drawn in enumerate(_drawn(placed, values, known, weights)):
        if drawn is not None:
            low, high = np.quantile(drawn, tails, method="nearest")
            # `points` lies between two values where `drawn` is one of them.
            out[at, 0], out[at, 2] = min(low, points[at]), max(high, points[at])
    return out


def _drawn(
    placed: _InTime,
    ordered: np.ndarray,
    quantiles: Sequence[float],
    weights_of: Weights,
) -> list[np.ndarray | None]:
    """Each quantile of each resample, without sorting one: float arrays, shape (RESAMPLES,).

    How far the resamples' shares beyond the point estimate lie from its own says between which
    ranks their quantiles can lie; there each piece's values are counted once, on a grid. The values
    are gone through twice, whatever the number of quantiles.
    """
    cells = placed.cells
    marks = [_at(ordered, quantile) for quantile in quantiles]
    counts = np.zeros((3, len(marks), cells), np.int64)  # all, from the mark on, beyond it
    for cell, values in placed:
        for at, mark in enumerate(marks):
            counts[0, at] += np.bincount(cell, minlength=cells)
            counts[1, at] += np.bincount(cell[values >= mark], minlength=cells)
            counts[2, at] += np.bincount(cell[values > mark], minlength=cells)
    found: list[_Resamples | None] = []
    for at, quantile in enumerate(quantiles):
        every, from_it, beyond = counts[:, at]
        weights = weights_of(quantile, from_it)
        found.append(
            None
            if weights is None
            else _Resamples(quantile, weights, ordered, _times(weights, every), beyond)
        )
    some = [each for each in found if each is not None]
    if some:
        for cell, values in placed:
            for each in some:
                each.count(cell, values)
    return [None if each is None else each.quantiles() for each in found]


class _Resamples:
    """One quantile's resamples, and the counts on the grid that they are read from."""

    def __init__(
        self,
        quantile: float,
        weights: np.ndarray,
        ordered: np.ndarray,
        size: np.ndarray,
        beyond: np.ndarray,
    ) -> None:
        """Size : of each resample. beyond : how many values of each piece are beyond the point."""
        self.quantile, self.size = quantile, size
        off = np.abs(_times(weights, beyond) / size - beyond.sum() / ordered.size).max()
        reach = 1.5 * off + 2 / ordered.size
        ranks = np.linspace(max(quantile - reach, 0), min(quantile + reach, 1), GRID)
        # Counts of pieces, which are whole numbers: four of these are in memory together.
        self.weights = weights.astype(np.uint16) if weights.max() < 1 << 16 else weights
        self.grid = np.unique([ordered[0], *(_at(ordered, rank) for rank in ranks), ordered[-1]])
        self.counts = np.zeros((weights.shape[1], self.grid.size), np.int64)

    def count(self, cell: np.ndarray, values: np.ndarray) -> None:
        """Add some values, each of a piece."""
        if not len(values):
            return
        width, first, last = self.grid.size, int(cell.min()), int(cell.max())
        place = (cell - first) * width + np.searchsorted(self.grid, values)
        counts = np.bincount(place, minlength=(last - first + 1) * width)
        self.counts[first : last + 1] += counts.reshape(-1, width)

    def quantiles(self) -> np.ndarray:
        grid, weights = self.grid, self.weights.astype(float)
        below = np.cumsum(self.counts, axis=1).T.astype(float)
        # The first place of the grid that the quantile's share of a resample lies at or below, for
        # all resamples at once by halving: ten products of a row each, where a matrix product needs
        # 250.
        least, most = np.zeros(len(weights), int), np.full(len(weights), grid.size - 1)
        while (least < most).any():
            middle = (least + most) // 2
            within = np.einsum("rc,rc->r", weights, below[middle])
            enough = within >= (self.quantile - 1e-12) * self.size
            least, most = np.where(enough, least, middle + 1), np.where(enough, middle, most)
        return grid[least]


def _times(weights: np.ndarray, each: np.ndarray) -> np.ndarray:
    return np.einsum("rc,c->r", weights, each.astype(float))


def _at(ordered: np.ndarray, quantile: float) -> float:
    """The least value that at least this share of the values do not exceed."""
    return float(ordered[min(max(math.ceil(quantile * ordered.size - 1e-9), 1), ordered.size) - 1])


def _seed(seed: int, quantile: float) -> tuple[int, int]:
    return seed, round(quantile * 1000)
