"""Where a series of batches becomes steady: MSER-5 and a test for a drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

MOST_BATCHES, FEWEST_BATCHES, LEAST_KEPT = 100, 20, 5


ONE_SIDE = 0.9
"""Share of pairs of a dropped and a kept batch that a transient has the same way round."""


LEAST_DRIFT = 0.1
"""A drift is reported from this share of the rate on: its change over the window, along a line."""


DRIFT_LEVEL = 0.01


STEADY, UNSTEADY, SHORT, COUNTED = (
    "steady",
    "no steady state",
    "too short to tell",
    "by transactions",
)


def mser(batches: ArrayLike, most: int | None = None) -> int:
    """MSER's truncation point: how many leading values to drop, from 0 on.

    batches : floats, shape (n,), in order of time; means or counts of equal pieces of time.
    most    : no more than so many may be dropped.
    The point d minimises sum((x[d:] - mean(x[d:]))**2) / (n - d)**2, the squared standard error of
    the mean of what is kept if that were independent. The last tenth, and at least five values,
    are never the only ones kept: a few values may be alike by chance, and would win.
    Sources: White 1997; White, Cobb, Spratt 2000 (batches of five); Hoad, Robinson, Davies 2010
    (the end left out).

    >>> mser([40, 20, 9, *[10, 11, 9, 10] * 10])
    2
    >>> mser([7] * 20)
    0
    """
    values = np.asarray(batches, dtype=float)
    n = values.size
    last = n - max(n // 10, LEAST_KEPT)
    last = last if most is None else min(last, most)
    if last <= 0:
        return 0
    tail = (values - values.mean())[::-1]
    kept = np.arange(1, n + 1)
    squares = np.cumsum(tail**2) - np.cumsum(tail) ** 2 / kept
    # Rounding leaves 1e-14 where all kept values are alike.
    squares[squares < 1e-9 * (tail**2).sum()] = 0.0
    return int(np.argmin((squares / kept**2)[::-1][: last + 1]))


def truncation(batches: ArrayLike, planned: int = 0) -> tuple[str, int]:
    """(state, how many leading batches to drop) for a run's batches, of which `planned` are
    warm-up by plan; "too short to tell" where there are fewer than FEWEST_BATCHES.

    Batches that MSER would drop beyond the plan are dropped only if they are a transient: at least
    nine in ten of all pairs of a dropped and a kept batch must lie the same way round (the
    common-language effect of Mann and Whitney). MSER alone also cuts off everything before the last
    of a few stalls, because outliers are all it then sees. A window that begins behind a checkpoint
    would measure writing without its cost. Where MSER's point is no transient, its next best before
    that is looked at, and so on: a run with stalls may have a transient too.

    A transient that ends in the second half leaves too little to trust: "no steady state". So does
    a trend in what is kept (`drifts`), which MSER's point only shows where there is little noise.

    >>> truncation([40] * 8 + [10, 11, 9, 10] * 8)
    ('steady', 8)
    >>> truncation([10, 11, 9, 10, 1] + [10, 11, 9, 10] * 8)  # a stall is no transient
    ('steady', 0)
    >>> truncation(range(100, 140))
    ('no steady state', 0)
    """
    values = np.asarray(batches, dtype=float)
    if values.size < FEWEST_BATCHES:
        return SHORT, planned
    point = mser(values)
    while point > planned:
        dropped, kept = values[planned:point, None], values[None, point:]
        above = np.mean(dropped > kept) + np.mean(dropped == kept) / 2
        if max(above, 1 - above) >= ONE_SIDE:
            if point > values.size / 2 or drifts(values[point:]):
                return UNSTEADY, planned
            return STEADY, point
        point = mser(values, point - 1)
    return (UNSTEADY if drifts(values[planned:]) else STEADY), planned


def drifts(batches: ArrayLike) -> bool:
    """Whether values in order of time, shape (n,), rise or fall along a straight line: by at least
    LEAST_DRIFT of their mean, and by more than noise would in one series in a hundred.

    The slope's standard error is that of AR(1) residuals, their lag-1 correlation corrected for its
    bias in short series (Kendall 1954). Where the rate of 30 batches falls by 40 % all along,
    `truncation` finds nine in ten where the batches' noise is a tenth of the rate, six at two
    tenths and three at three tenths: a run that is called steady may still drift in its noise.

    >>> drifts([10, 11, 9, 10] * 8), drifts([10 + i / 8 + i % 2 for i in range(32)])
    (False, True)
    """
    values = np.asarray(batches, dtype=float)
    n = values.size
    if n < FEWEST_BATCHES / 2 or not values.any():
        return False
    at = np.arange(n) - (n - 1) / 2
    slope = (at * values).sum() / (at * at).sum()
    if abs(slope) * n < LEAST_DRIFT * values.mean():
        return False
    left = values - values.mean() - slope * at
    squares = (left * left).sum()
    if squares < 1e-9 * (values * values).sum():
        return True
    alike = (left[1:] * left[:-1]).sum() / squares
    alike = min(max(alike + (1 + 4 * alike) / n, 0.0), 0.9)
    inflated = (1 + alike) / (1 - alike)
    error = np.sqrt(squares / (n - 2) * inflated / (at * at).sum())
    from scipy.special import stdtr  # here: to import it takes as long as most commands do

    p = 2 * stdtr(max(n / inflated - 2, 1), -abs(slope) / error)  # both tails of Student's t
    return bool(p < DRIFT_LEVEL)
