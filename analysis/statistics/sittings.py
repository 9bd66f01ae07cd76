"""A ratio over several sittings: how far the sittings differ among themselves, and an interval.

Blocks of one sitting share its hour, its disk and its neighbours, so that their interval says
nothing of another day. Each sitting's estimate, as a log ratio, is one observation of a
random-effects model; its own variance is that of its interval. The interval over sittings is
Hartung and Knapp's (Statistics in Medicine 20:3875, 2001), which holds its level from three
sittings on (IntHout, Ioannidis and Borm, BMC Medical Research Methodology 14:25, 2014), and is
never narrower than the sittings' own doubt makes it (Roever, Knapp and Friede, ibid. 15:99, 2015).
The variance between sittings is DerSimonian and Laird's (Controlled Clinical Trials 7:177, 1986).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.statistics.blocks import median_of_blocks

FEWEST_SITTINGS = 3
"""Fewer give a range and no interval: a t of one degree of freedom says nothing."""


class OverSittings(NamedTuple):
    """A ratio over sittings. each : the sittings' own, in order.

    low, high : the 95 % interval, or the range of too few sittings (`known` is False).
    between : the standard deviation between sittings, of log ratios; nan with too few.
    """

    value: float
    low: float
    high: float
    each: tuple[float, ...]
    between: float
    known: bool

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def over_sittings(sittings: Sequence[Sequence[float] | np.ndarray]) -> OverSittings | None:
    """What sittings say together. sittings : each one's ratios, by block, above 0 and finite.

    Sittings with fewer than two such blocks are left out; None where none is left.

    >>> found = over_sittings([[1.0, 1.1, 1.2], [1.5, 1.6, 1.7]])
    >>> found.known, round(found.low, 2), round(found.high, 2)
    (False, 1.1, 1.6)
    """
    logs = []
    for ratios in sittings:
        each = np.asarray(ratios, dtype=float)
        each = each[np.isfinite(each) & (each > 0)]
        if len(each) > 1:
            logs.append(np.log(each))
    if not logs:
        return None
    own = [_located(each) for each in logs]
    means = np.array([mean for mean, _ in own])
    shown = tuple(float(x) for x in np.exp(means))
    if len(logs) < FEWEST_SITTINGS:
        value = float(np.exp(means.mean()))
        return OverSittings(value, min(shown), max(shown), shown, math.nan, known=False)
    within = np.array([max(variance, 1e-18) for _, variance in own])
    mean, between, half = _random_effects(means, within)
    low, high = math.exp(mean - half), math.exp(mean + half)
    return OverSittings(math.exp(mean), low, high, shown, math.sqrt(between), known=True)


def _located(logs: np.ndarray) -> tuple[float, float]:
    """A sitting's estimate and its variance: as of a t interval that is as long as its own, or, of
    too few blocks, that of their mean.
    """
    from scipy.stats import t as student

    found = median_of_blocks(logs)
    if found.known:
        half = (found.high - found.low) / 2
        return found.value, (half / float(student.ppf(0.975, len(logs) - 1))) ** 2
    return found.value, float(logs.var(ddof=1)) / len(logs)


def _random_effects(means: np.ndarray, within: np.ndarray) -> tuple[float, float, float]:
    """The mean, the variance between sittings, and half the length of the interval."""
    from scipy.stats import t as student

    more = len(means) - 1
    weights = 1 / within
    fixed = float((weights * means).sum() / weights.sum())
    q = float((weights * (means - fixed) ** 2).sum())
    scale = float(weights.sum() - (weights**2).sum() / weights.sum())
    between = max(0.0, (q - more) / scale)
    weights = 1 / (within + between)
    mean = float((weights * means).sum() / weights.sum())
    scatter = float((weights * (means - mean) ** 2).sum()) / more
    half = float(student.ppf(0.975, more)) * math.sqrt(max(scatter, 1.0) / float(weights.sum()))
    return mean, between, half
