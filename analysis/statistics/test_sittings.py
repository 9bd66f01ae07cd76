"""Variance between sittings widens the interval over them; without any it stays as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.statistics import FEWEST_SITTINGS, median_of_blocks, over_sittings


def drawn(
    seed: int, sittings: int, between: float, *, blocks: int = 10, noise: float = 0.03
) -> list[np.ndarray]:
    """Ratios around 1.5. between, noise : standard deviations of logs."""
    rng = np.random.default_rng(seed)
    shifts = rng.normal(0, between, sittings)
    return [np.exp(math.log(1.5) + at + rng.normal(0, noise, blocks)) for at in shifts]


def width(low: float, high: float) -> float:
    return math.log(high / low)


def test_planted_variance_between_sittings_widens_the_interval() -> None:
    widths: dict[float, list[float]] = {0.0: [], 0.15: []}
    alone = []
    for between, found in widths.items():
        for seed in range(100):
            over = over_sittings(drawn(seed, 5, between))
            assert over is not None and over.known
            found.append(width(over.low, over.high))
            if not between:
                one = median_of_blocks(drawn(seed, 1, 0.0)[0])
                alone.append(width(one.low, one.high))
    assert np.median(widths[0.15]) > 4 * np.median(widths[0.0])
    assert np.median(widths[0.0]) < np.median(alone)


@pytest.mark.parametrize("sittings", [3, 5])
@pytest.mark.parametrize("between", [0.0, 0.02, 0.15])
def test_the_interval_holds_the_truth_as_often_as_it_says(sittings: int, between: float) -> None:
    many = 600
    held = sum(
        over.holds(1.5)
        for seed in range(many)
        if (over := over_sittings(drawn(seed, sittings, between))) is not None
    )
    # A 95 % interval of `many` draws; where nothing is between it may hold more often.
    assert held / many > 0.95 - 3 * math.sqrt(0.95 * 0.05 / many)
    assert held / many < 0.985 or between < 0.15


def test_the_variance_between_is_found() -> None:
    found = [over_sittings(drawn(seed, 8, 0.1)) for seed in range(100)]
    assert np.median([one.between for one in found if one]) == pytest.approx(0.1, rel=0.2)


def test_fewer_than_three_sittings_give_a_range() -> None:
    over = over_sittings(drawn(1, FEWEST_SITTINGS - 1, 0.1))
    assert over is not None and not over.known and math.isnan(over.between)
    assert (over.low, over.high) == (min(over.each), max(over.each))


def test_what_has_no_logarithm_is_left_out() -> None:
    assert over_sittings([[1.0], [0.0, math.inf, math.nan]]) is None
    same = over_sittings([[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]])
    assert same is not None and same.known
    assert [same.low, same.high] == pytest.approx([2.0, 2.0])
