"""How much of what many comparisons show together is chance: p-values of a family, and its limits.

Twenty comparisons of an arm with itself find a difference at 0.05 somewhere more often than not.
Westfall and Young ask how great the greatest of all of them gets by chance, with everything that
they share left as it is: comparisons of one block share a baseline and a moment of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.signed_rank import LEVEL, signed_rank_p

SIGNED_RANK = "signed-rank test"
EXACT_BLOCKS = 12
"""Up to so many blocks every way to flip signs is tried (2,048), beyond it FLIPS are drawn."""

FLIPS = 2_000
TRIMMED = 8
"""One block in so many is left out at each end where a family's differences are studentised: one
stalled run of eight or more then hides no effect, and makes none."""

OFF = 1e-9
"""Logarithms that differ by less differ by rounding."""


@dataclass(frozen=True)
class Family:
    """p-values of comparisons that were looked at together, in the order they were given.

    alone    : of the signed-rank test, nan without blocks.
    adjusted : of the whole family: where it is at most 0.05, a claim of any of the family's members
        is wrong with a chance of at most 5 %. It is never below `alone`.
    smallest : how far a ratio would have had to be from 1 for its adjusted p to hold, as log ratio,
        by how its blocks scattered and by what the family demands; nan with fewer than two blocks,
        0 where there is no other member.
    """

    alone: list[float]
    adjusted: list[float]
    smallest: list[float]


def family_p(members: Sequence[Mapping[Any, float]], *, seed: int = 0) -> Family:
    """p-values of a family of paired ratios.

    members : for each comparison its ratios by block. Blocks of equal keys are the same block: give
        blocks of different experiments different keys. Members need not have the same blocks.

    Each member is the trimmed mean of its log ratios over its standard error (Tukey and McLaughlin
    1963). The null distribution is that of residuals whose signs are flipped, all members' of a
    block together. Residuals, because flipped effects would pass for chance: a strong one is still
    strong with one of its blocks flipped. A member's adjusted p is the share of flips in which any
    member that is no stronger comes out as strong (step-down maximum: Westfall and Young 1993,
    section 2.8).

    >>> slower = {block: 0.9 + block / 100 for block in range(6)}
    >>> same = {block: 1.0 + (-1) ** block / 50 for block in range(6)}
    >>> [round(p, 3) for p in family_p([slower, same]).adjusted]
    [0.061, 0.812]
    """
    alone = [signed_rank_p(list(member.values())) for member in members]
    if len(members) < 2:
        return Family(alone, list(alone), [0.0] * len(members))
    flips = _flips(list(dict.fromkeys(block for member in members for block in member)), seed)
    seen, by_chance, spreads = [], [], []
    for member in members:
        logs = _logs(member)
        spreads.append(_spread(member))
        seen.append(float(_strength(logs)) if logs.size > 1 else math.nan)
        if logs.size > 1:
            signs = np.stack([flips[block] for block in member], axis=1)
            by_chance.append(_strength(signs * (logs - _trimmed_mean(logs))))
    known = np.flatnonzero(~np.isnan(seen))
    adjusted = np.full(len(members), np.nan)
    if not known.size:
        return Family(alone, adjusted.tolist(), adjusted.tolist())
    strength, drawn = np.asarray(seen)[known], np.stack(by_chance, axis=1)
    order = np.argsort(-strength, kind="stable")
    # The strongest against the greatest of all, the next against the greatest of the rest, ...
    greatest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    hits = (greatest >= strength[order] * (1 - OFF)).sum(axis=0)
    p = np.maximum.accumulate((1 + hits) / (1 + len(drawn)))
    adjusted[known[order]] = p
    limit = float(np.quantile(greatest[:, 0], 1 - LEVEL, method="higher"))
    return Family(
        alone,
        [max(pair) if not math.isnan(pair[1]) else pair[0]
         for pair in zip(alone, adjusted.tolist(), strict=True)],
        [_least(spread, limit) for spread in spreads],
    )  # fmt: skip


def _logs(member: Mapping[Any, float]) -> np.ndarray:
    """Logarithms of ratios; those of 0 and infinity are further off than all others."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(list(member.values()), dtype=float))
    far = np.isinf(logs)
    logs[far] = np.sign(logs[far]) * (1 + np.abs(logs[~far]).max(initial=0.0))
    return logs


def _flips(blocks: Sequence[Hashable], seed: int) -> dict[Hashable, np.ndarray]:
    """Block -> its sign in each flip: every pattern but for the sign of all, or drawn ones."""
    n = len(blocks)
    if n <= EXACT_BLOCKS:
        signs = 1.0 - 2.0 * ((np.arange(1 << max(n - 1, 0))[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng([seed, n]).choice([-1.0, 1.0], (FLIPS, n))
    return {block: signs[:, at] for at, block in enumerate(blocks)}


def _trimmed(blocks: int) -> int:
    """How many blocks are left out at each end."""
    return blocks // TRIMMED


def _trimmed_mean(logs: np.ndarray) -> np.ndarray:
    n, out = logs.shape[-1], _trimmed(logs.shape[-1])
    found: np.ndarray = np.sort(logs, axis=-1)[..., out : n - out].mean(axis=-1)
    return found


def _error(logs: np.ndarray) -> np.ndarray:
    """The trimmed mean's standard error: of the values with the trimmed ones drawn in."""
    n, out = logs.shape[-1], _trimmed(logs.shape[-1])
    each = np.sort(logs, axis=-1)
    each[..., :out] = each[..., out : out + 1]
    each[..., n - out :] = each[..., n - out - 1 : n - out]
    found: np.ndarray = each.std(axis=-1, ddof=1) * math.sqrt(n) / (n - 2 * out)
    return found


def _strength(logs: np.ndarray) -> np.ndarray:
    """How far off 0 the trimmed mean is, as a normal deviate, so that members with different
    numbers of blocks can be told which is the stronger (Wallace 1959, from Student's t).
    """
    mean, error = np.abs(_trimmed_mean(logs)), _error(logs)
    free = _free(logs.shape[-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean < OFF, 0.0, mean / np.where(error < OFF, 0.0, error))
        found: np.ndarray = np.sqrt(free * np.log1p(t**2 / free)) * _wallace(free)
    return found


def _free(blocks: int) -> int:
    """Degrees of freedom of the trimmed mean's error."""
    return blocks - 2 * _trimmed(blocks) - 1


def _wallace(free: int) -> float:
    return (8 * free + 1) / (8 * free + 3)


def _spread(member: Mapping[Any, float]) -> tuple[float, int]:
    """(standard error, degrees of freedom) of a member's trimmed mean log ratio."""
    logs = _logs(member)
    if logs.size < 2:
        return math.nan, 0
    return float(_error(logs)), _free(logs.size)


def _least(spread: tuple[float, int], limit: float) -> float:
    """The least trimmed mean whose `_strength` reaches a limit."""
    error, free = spread
    if math.isnan(error):
        return math.nan
    if math.isinf(limit):
        return math.inf
    return error * math.sqrt(free * math.expm1((limit / _wallace(free)) ** 2 / free))
