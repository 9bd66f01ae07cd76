"""Is a ratio over blocks more than chance, and how many were looked at before it was found?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.05
SIGN_FLIP, PAIRED_T = "sign-flip test", "paired t test of the logarithms"
EXACT_BLOCKS = 12
"""Up to so many blocks every way to flip signs is tried (4,096), beyond it FLIPS drawn ones."""

FLIPS = 20_000


def sign_flip_p(ratios: ArrayLike, *, seed: int = 0) -> float:
    """Two-sided p-value of paired ratios against 1: a permutation test that flips signs of logs.

    ratios : floats > 0, shape (blocks,); 0 and infinity count as further from 1 than all others.
    If both arms were the same, each block's log ratio would be as likely with the other sign. The
    statistic is the absolute mean of the logs; p is the share of all sign patterns whose statistic
    is at least as great. Exact for up to EXACT_BLOCKS blocks, and then never less than 2 / 2**n;
    beyond it (1 + hits) / (1 + FLIPS) of drawn patterns. nan without any block.
    Source: Fisher 1935, section 21; Good 2005, chapter 3.

    >>> sign_flip_p([1.1, 1.2, 1.1, 1.3, 1.1, 1.2])
    0.03125
    >>> sign_flip_p([1.1, 0.9, 1.1, 0.9, 1.05, 0.95]) > 0.5
    True
    """
    # scipy's permutation_test gives the same p for finite ratios, and a test holds this against it.
    # To import scipy.stats would add half to the CPU that `cwkit compare` takes.
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(ratios, dtype=float))
    n = logs.size
    if n == 0:
        return math.nan
    far = np.isinf(logs)
    logs[far] = np.sign(logs[far]) * (1 + np.abs(logs[~far]).max(initial=0.0))
    if n <= EXACT_BLOCKS:
        signs = 1 - 2 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng([seed, n]).integers(0, 2, (FLIPS, n))
    # Compared with a hair's tolerance: the same sum in another order of terms is the same.
    hits = np.abs(signs @ logs) >= abs(logs.sum()) * (1 - 1e-12)
    if n <= EXACT_BLOCKS:
        return float(hits.mean())
    return float((1 + hits.sum()) / (1 + FLIPS))


def paired_t_p(ratios: ArrayLike) -> float:
    """Two-sided p-value of paired ratios against 1: Student's t test of their logarithms.

    ratios : floats > 0, shape (blocks,). It takes the logarithms for normal, which few blocks can
    not show, and in return can be small where a permutation test of so few blocks cannot. nan with
    fewer than two blocks or a ratio that is 0 or infinite. Source: Student 1908.

    >>> round(paired_t_p([1.1, 1.2, 1.1, 1.3, 1.1, 1.2]), 4)
    0.0029
    """
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(ratios, dtype=float))
    if logs.size < 2 or not np.isfinite(logs).all():
        return math.nan
    if not np.ptp(logs):
        return 1.0 if not logs[0] else 0.0
    # Here: to import scipy.special takes as long as most commands do, and scipy.stats, whose
    # ttest_1samp a test holds this against, three times as long.
    from scipy.special import stdtr

    t = logs.mean() / (logs.std(ddof=1) / math.sqrt(logs.size))
    return float(2 * stdtr(logs.size - 1, -abs(t)))


def family_p(families: Sequence[ArrayLike], *, seed: int = 0) -> tuple[list[float], str]:
    """p-values of a family of paired ratios, not yet adjusted, and which test they are of.

    families : for each comparison its blocks' ratios. The sign-flip test where every comparison has
    blocks enough to reach the level in a family so large (`blocks_needed`); else the t test, but
    the sign-flip test for ratios that have no finite logarithm.

    >>> p, test = family_p([[1.1, 1.2, 1.1, 1.3, 1.1, 1.2]] * 2)
    >>> [round(one, 4) for one in p], test
    ([0.0029, 0.0029], 'paired t test of the logarithms')
    """
    known = [np.size(each) for each in families if np.size(each)]
    flips = [sign_flip_p(each, seed=seed) for each in families]
    if known and min(known) >= blocks_needed(len(known)):
        return flips, SIGN_FLIP
    students = [paired_t_p(each) for each in families]
    return [
        flip if math.isnan(student) else student
        for flip, student in zip(flips, students, strict=True)
    ], PAIRED_T


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family, adjusted by Holm's step-down method; in the order they were given.

    An effect whose adjusted value is at most 0.05 is claimed with a chance of at most 5 % that any
    claim of the whole family is wrong. nan stays nan and is not counted to the family.
    Source: Holm 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    p = np.asarray(p_values, dtype=float)
    out = np.full(p.size, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factor = np.arange(order.size, 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * factor), 1.0)
    return out.tolist()


def blocks_needed(family: int, level: float = LEVEL) -> int:
    """The fewest blocks with which the sign-flip test can reach the level in a family so large.

    >>> blocks_needed(1), blocks_needed(10), blocks_needed(60)
    (6, 9, 12)
    """
    return math.ceil(math.log2(2 * max(family, 1) / level))
