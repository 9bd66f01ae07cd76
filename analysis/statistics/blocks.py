"""Medians and ratios over blocks, with the doubt of their few cells."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis import wording

FEWEST_BLOCKS = 6
"""Fewest blocks for a 95 % interval. With fewer, even the range from the least to the greatest
ratio holds the true median less often: 1 - 2 * 0.5**5 is 94 %."""


RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """A median over blocks. low, high : its 95 % bootstrap interval, nan with too few blocks.

    each    : float array, shape (blocks,), the blocks' values, in order of blocks.
    dropped : why each block that is missing is missing, in words.
    """

    value: float
    low: float
    high: float
    each: np.ndarray
    dropped: tuple[str, ...] = ()

    @property
    def blocks(self) -> int:
        return len(self.each)

    @property
    def known(self) -> bool:
        """There is a value and an interval."""
        return not math.isnan(self.low)

    def holds(self, value: float) -> bool:
        return self.known and self.low <= value <= self.high

    def text(self, show: Callable[[float], str] = wording.number) -> str:
        """The value with its interval, or with its range where the blocks are too few."""
        if not self.blocks:
            return wording.DASH
        if self.known:
            return f"{show(self.value)} {wording.interval(self.low, self.high, show)}"
        if self.blocks == 1:
            return f"{show(self.value)} (1 block, no interval)"
        low, high = float(self.each.min()), float(self.each.max())
        return f"{show(self.value)} ({show(low)} to {show(high)} in {self.blocks} blocks)"


def median_of_blocks(
    values: ArrayLike, *, seed: int = 0, confidence: float = 0.95, dropped: Sequence[str] = ()
) -> Estimate:
    """The median of the blocks' values and its percentile bootstrap interval over blocks.

    values : floats, shape (blocks,); the unit is the caller's. nan is refused: drop such a block
        and say why. Deterministic: the same values and seed give the same interval.
    Raises ValueError on nan. Source: Efron 1979; Efron and Tibshirani 1993, chapter 13.

    >>> median_of_blocks([2.0, 2.1, 1.9, 2.2, 2.0, 1.8, 2.0, 2.1]).text()
    '2 [1.90, 2.10]'
    >>> median_of_blocks([2.0, 2.5, 1.5]).text()
    '2 (1.50 to 2.50 in 3 blocks)'
    """
    each = np.asarray(values, dtype=float)
    if np.isnan(each).any():
        raise ValueError("A block's value is nan: drop the block and say why it is missing.")
    if each.size == 0:
        return Estimate(math.nan, math.nan, math.nan, each, tuple(dropped))
    low = high = math.nan
    if each.size >= FEWEST_BLOCKS:
        rng = np.random.default_rng([seed, each.size])
        picks = rng.integers(0, each.size, (RESAMPLES, each.size))
        medians = np.median(each[picks], axis=1)
        # "nearest" names a value that a resample had: between two infinities there is only nan.
        tail = (1 - confidence) / 2
        low, high = (float(x) for x in np.quantile(medians, [tail, 1 - tail], method="nearest"))
    return Estimate(float(np.median(each)), low, high, each, tuple(dropped))


@dataclass(frozen=True)
class Ratio(Estimate):
    """`candidate` / `baseline`, the median of the blocks' ratios."""

    candidate: str = ""
    baseline: str = ""

    @property
    def verdict(self) -> str:
        """In which direction 1 is excluded: "more" or "less"; "none seen" where the interval holds
        1, "unknown" with too few blocks for an interval.
        """
        if not self.known:
            return "unknown"
        if self.holds(1.0):
            return "none seen"
        return "more" if self.low > 1 else "less"


def ratio_over_blocks(
    tops: Mapping[int, float],
    bottoms: Mapping[int, float],
    *,
    candidate: str,
    baseline: str,
    seed: int = 0,
    dropped: Sequence[str] = (),
    neither: float = math.nan,
) -> Ratio:
    """The median of the ratios of the blocks that both sides have (block -> value).

    0 / 0 counts as `neither`, or drops the block; something / 0 is infinite and stays. Where both
    are infinite (a percentile among those never served) nobody knows the ratio.
    """
    missing, ratios = list(dropped), []
    for block in sorted(tops.keys() & bottoms.keys()):
        if math.isinf(tops[block]) and math.isinf(bottoms[block]):
            missing.append(
                f"block {block}: in both {candidate} and {baseline} it lies among those never "
                "served"
            )
        elif tops[block] != 0 or bottoms[block] != 0:
            with np.errstate(divide="ignore"):
                ratios.append(float(np.float64(tops[block]) / bottoms[block]))
        elif math.isnan(neither):
            missing.append(f"block {block}: both {candidate} and {baseline} are 0")
        else:
            ratios.append(neither)
    found = median_of_blocks(ratios, seed=seed)
    why = tuple(missing)
    return Ratio(found.value, found.low, found.high, found.each, why, candidate, baseline)


def seed_of(*parts: Any) -> int:
    """A seed of its own for each comparison; hash() would differ from process to process."""
    return zlib.crc32("/".join(str(part) for part in parts).encode())
