"""One procedure for an estimate, its interval and its test, so that they can never disagree.

The signed-rank test counts in how many blocks B was above A, and lets far blocks count more. Its
estimate (Hodges and Lehmann 1963) is the shift at which it sees no difference, and its interval is
every shift that it does not refuse. Ranks count up to the middle one only: with Wilcoxon's, which
go on to n, one stalled run of ten on the wrong side is enough for no claim at all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.05

FEWEST_BLOCKS = 6
"""Fewest blocks for a 95 % interval. With five, even the range from the least to the greatest ratio
holds the truth less often: 1 - 2 * 0.5**5 is 94 %."""


class Located(NamedTuple):
    """An estimate, its 95 % interval (nan with too few blocks), and the p of its test against a
    centre. The interval leaves the centre out exactly where p is at most LEVEL.
    """

    value: float
    low: float
    high: float
    p: float


def most_rank(blocks: int) -> int:
    """The rank from which on all blocks count alike: the middle one."""
    return max(blocks // 2, 1)


@lru_cache(maxsize=256)
def tail(blocks: int) -> np.ndarray:
    """P(T <= k) for k = 0, 1, ..., where nothing differs: float array.

    T : the sum of the scores min(rank, most_rank) of the blocks on one side, each of which is there
    with a chance of a half. Exact, by adding one block after the other.

    >>> (tail(6)[:3] * 2**6).tolist()
    [1.0, 2.0, 3.0]
    """
    chance = np.ones(1)
    for rank in range(1, blocks + 1):
        score = min(rank, most_rank(blocks))
        more = np.zeros(chance.size + score)
        more[: chance.size] += chance / 2
        more[score:] += chance / 2
        chance = more
    found: np.ndarray = np.minimum(np.cumsum(chance), 1.0)
    found.setflags(write=False)  # it is kept for the next caller
    return found


def refused(blocks: int, level: float = LEVEL) -> int:
    """The greatest T, of the side with fewer, at which the test refuses; -1 where it never does.

    >>> [refused(blocks) for blocks in (5, 6, 7, 8, 9, 10)]
    [-1, 0, 2, 3, 4, 6]
    """
    return int(np.searchsorted(2 * tail(blocks), level * (1 + 1e-12), side="right")) - 1


def means_of_pairs(values: ArrayLike, *, ratios: bool) -> np.ndarray:
    """The shifts at which the test's T changes by one, in order: float array.

    They are the means of two blocks that are less than `most_rank` places apart in order (each
    block with itself, too): geometric ones of ratios, arithmetic ones of levels.

    >>> means_of_pairs([1.0, 4.0, 16.0, 64.0], ratios=True).tolist()
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    """
    each = np.sort(np.asarray(values, dtype=float))
    n, found = each.size, [each]
    for apart in range(1, min(most_rank(n), n)):
        found.append(_mean(each[: n - apart], each[apart:], ratios))
    means = np.concatenate(found)
    if ratios:  # a ratio and its inverse, multiplied, are 1 but for rounding
        means[np.abs(means - 1) < 1e-12] = 1.0
    means.sort()
    return means


def _mean(one: np.ndarray, other: np.ndarray, ratios: bool) -> np.ndarray:
    """The geometric mean of ratios, the arithmetic one of levels."""
    with np.errstate(invalid="ignore"):
        mean = np.sqrt(one * other) if ratios else (one + other) / 2
    # 0 and infinity are as far below as above, so that their middle is no difference.
    found: np.ndarray = np.where(np.isnan(mean), 1.0 if ratios else 0.0, mean)
    return found


def located(values: ArrayLike, *, ratios: bool = False) -> Located:
    """Where the blocks' values lie.

    values : floats without nan, shape (blocks,); of ratios >= 0, and 0 and infinity are further off
        than all others. The centre that p is against is 1 for ratios and 0 for levels. Tied blocks
        make interval and test wider, never narrower.
    Sources: Wilcoxon 1945; Hodges and Lehmann 1963; Bauer 1972 (intervals of rank tests).

    >>> found = located([1.1, 1.2, 1.1, 1.3, 1.1, 1.2], ratios=True)
    >>> [round(each, 3) for each in found]
    [1.149, 1.1, 1.3, 0.031]
    """
    each = np.asarray(values, dtype=float)
    if not each.size:
        return Located(*[float("nan")] * 4)
    means, below = means_of_pairs(each, ratios=ratios), tail(each.size)
    middle = means[(means.size - 1) // 2], means[means.size // 2]
    value = float(middle[0] if middle[0] == middle[1] else _mean(*middle, ratios))
    low = high = float("nan")
    if (most := refused(each.size)) >= 0:
        low, high = float(means[most]), float(means[means.size - 1 - most])
    centre = 1.0 if ratios else 0.0
    above, under = int((means > centre).sum()), int((means < centre).sum())
    # Means that are exactly the centre count for the side that makes p greater.
    fewer = means.size - max(above, under)
    return Located(value, low, high, float(min(2 * below[fewer], 1.0)))


def signed_rank_p(ratios: ArrayLike) -> float:
    """Two-sided p-value of paired ratios against 1; nan without any.

    >>> signed_rank_p([1.1, 1.2, 1.1, 1.3, 1.1, 1.2])
    0.03125
    """
    return located(ratios, ratios=True).p
