"""Levels and ratios over blocks, with the doubt of their few cells."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis import wording
from analysis.statistics.signed_rank import located


@dataclass(frozen=True)
class Estimate:
    """What blocks say together. value : their Hodges-Lehmann estimate, which is the middle of the
    means of pairs of blocks. low, high : its 95 % interval, nan with too few blocks.

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


def median_of_blocks(values: ArrayLike, *, dropped: Sequence[str] = ()) -> Estimate:
    """The level of the blocks' values (their pseudo-median, by Hodges and Lehmann), with the
    interval of the signed-rank test.

    values : floats, shape (blocks,); the unit is the caller's. nan is refused: drop such a block
        and say why.
    Raises ValueError on nan. analysis.statistics.signed_rank tells how.

    >>> median_of_blocks([2.0, 2.1, 1.9, 2.2, 2.0, 1.8, 2.0, 2.1]).text()
    '2 [1.90, 2.10]'
    >>> median_of_blocks([2.0, 2.5, 1.5]).text()
    '2 (1.50 to 2.50 in 3 blocks)'
    """
    each = np.asarray(values, dtype=float)
    if np.isnan(each).any():
        raise ValueError("A block's value is nan: drop the block and say why it is missing.")
    found = located(each)
    return Estimate(found.value, found.low, found.high, each, tuple(dropped))


@dataclass(frozen=True)
class Ratio(Estimate):
    """`candidate` / `baseline`: the Hodges-Lehmann estimate of the blocks' ratios.

    It is taken of their logarithms: the inverse ratio has the inverse estimate and interval.
    by_block : block -> ratio, of the blocks in `each`.
    """

    candidate: str = ""
    baseline: str = ""
    by_block: Mapping[int, float] = field(default_factory=dict, repr=False)

    @property
    def verdict(self) -> str:
        """In which direction 1 is excluded: "more" or "less"; "none seen" where the interval holds
        1, "unknown" with too few blocks for one. Alone it claims nothing (analysis.compare).
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
    dropped: Sequence[str] = (),
    neither: float = math.nan,
) -> Ratio:
    """The ratio over the blocks that both sides have (block -> value).

    0 / 0 counts as `neither`, or drops the block; something / 0 is infinite and stays. Where both
    are infinite (a percentile among those never served) nobody knows the ratio.
    """
    missing, ratios = list(dropped), dict[int, float]()
    for block in sorted(tops.keys() & bottoms.keys()):
        if math.isinf(tops[block]) and math.isinf(bottoms[block]):
            missing.append(
                f"block {block}: in both {candidate} and {baseline} it lies among those never "
                "served"
            )
        elif tops[block] != 0 or bottoms[block] != 0:
            with np.errstate(divide="ignore"):
                ratios[block] = float(np.float64(tops[block]) / bottoms[block])
        elif math.isnan(neither):
            missing.append(f"block {block}: both {candidate} and {baseline} are 0")
        else:
            ratios[block] = neither
    each = np.array(list(ratios.values()))
    value, low, high, _ = located(each, ratios=True)
    return Ratio(value, low, high, each, tuple(missing), candidate, baseline, ratios)


def seed_of(*parts: Any) -> int:
    """A seed of its own for each comparison; hash() would differ from process to process."""
    return zlib.crc32("/".join(str(part) for part in parts).encode())
