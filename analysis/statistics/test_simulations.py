"""The simulations in small: what is claimed of the statistics holds, and a fault of it is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.statistics import COVERED, Estimate, ratio_over_blocks
from tools.simulate import CASES, PUBLISHED, Case, faults, read_table, run_case, write_table
from tools.simulate.cases import COVERAGE, FALSE, POWER, TOLD
from tools.simulate.draws import logs

BY_NAME = {case.name: case for case in CASES}
QUICK = [
    "ratio, 6 blocks, heavy tails",
    "ratio, 7 blocks, even",
    "ratio, 10 blocks, stalls",
    "abort rate, 10 blocks, refused in clusters of 50",
    "abort rate, 20 batches of one run, refused in clusters of 50",
    "5 comparisons, 6 blocks, even",
    "5 comparisons, 10 blocks, stalls",
]


@pytest.mark.parametrize("name", QUICK)
def test_a_case_is_as_it_is_claimed_to_be(name: str) -> None:
    row = run_case(BY_NAME[name], seed=7, tries=100)
    assert faults([row]) == []
    assert row.low <= row.observed <= row.high


def median_of_seven(rng: np.random.Generator) -> bool:
    """What the report did before: a percentile bootstrap of the median of seven blocks."""
    base, top = np.exp(logs(rng, "even", 2, 7))
    ratios = top / base
    medians = np.median(rng.choice(ratios, (400, 7)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975], method="nearest")
    return Estimate(1.0, low, high, ratios).holds(1.0)


def test_an_interval_that_covers_too_little_is_seen() -> None:
    row = run_case(Case("median of 7 blocks, bootstrap", COVERAGE, 0.95, 600, median_of_seven))
    assert row.observed < 0.93
    assert "not in 93 to 97 %" in faults([row])[0]


def test_a_report_that_claims_what_is_not_there_is_seen() -> None:
    def alone(rng: np.random.Generator) -> bool:
        """By intervals alone, as the report claimed before."""
        base, *others = (dict(enumerate(row)) for row in np.exp(logs(rng, "even", 6, 6)))
        found = [ratio_over_blocks(one, base, candidate="b", baseline="a") for one in others]
        return any(not one.holds(1.0) for one in found)

    row = run_case(Case("5 comparisons, intervals alone", FALSE, 0.05, 400, alone))
    assert row.low > 0.05
    assert len(faults([row])) == 1


def test_one_stalled_run_of_ten_does_not_halve_the_power() -> None:
    whole, stalled = (
        run_case(BY_NAME[f"10% more, 1 of 5, 10 blocks, {which}"], tries=120).observed
        for which in ("none stalled", "one run of ten stalled")
    )
    assert stalled > 0.75 * whole > 0.5


def test_the_published_table_is_of_these_cases_and_has_no_fault() -> None:
    rows = read_table()
    assert [(row.case, row.what) for row in rows] == [(case.name, case.what) for case in CASES]
    for row, case in zip(rows, CASES, strict=True):
        assert row.tries == case.tries or (row.what == TOLD and 0 < row.tries < case.tries)
    assert faults(rows) == []
    assert {row.what for row in rows} == {COVERAGE, TOLD, FALSE, POWER}


def test_what_show_says_of_intervals_within_a_run_is_what_was_simulated() -> None:
    seen = [row.observed for row in read_table() if row.what == TOLD and "one run of" in row.case]
    assert len(seen) >= 4
    assert (round(min(seen), 2), round(max(seen), 2)) == COVERED


def test_a_table_that_is_read_is_the_one_that_was_written(tmp_path: Path) -> None:
    rows = read_table(PUBLISHED)
    write_table(rows, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == PUBLISHED.read_bytes()
    assert faults([rows[0]._replace(observed=0.8, low=0.79, high=0.81)])


def test_the_same_seed_draws_the_same() -> None:
    case = BY_NAME["ratio, 6 blocks, even"]
    assert run_case(case, seed=1, tries=50) == run_case(case, seed=1, tries=50)
    other = replace(case, name="another")
    assert run_case(other, seed=1, tries=50) != run_case(case, seed=1, tries=50)
