"""The one rule: a planted difference is claimed, none is seen where none is, and all is counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analysis.compare import CLAIMED
from analysis.report.evidence import Evidence, read_evidence
from analysis.report.facts import CONTROL, STUDIED, Pair, ReportFacts
from analysis.report.told import claimed, family, key_of, smallest_clause, too_few
from analysis.statistics import FEWEST_BLOCKS, LEVEL
from analysis.synthetic import made_report_folder


@pytest.fixture(scope="module")
def evidence(made_report: Path) -> Evidence:
    return read_evidence(made_report)


def pair_in(evidence: Evidence, experiment: str, **want: Any) -> Pair:
    measured = evidence.experiments[experiment]
    return Pair(measured.arms_of(*STUDIED, **want)[0], measured.arms_of(*CONTROL, **want)[0])


def test_a_planted_gain_is_told_as_more_and_a_loss_as_less(evidence: Evidence) -> None:
    gain = evidence.facts.told(pair_in(evidence, "headline"))
    assert (claimed(gain), gain.verdict) == ("more", CLAIMED)
    assert gain.ratio.low < 1.8 < gain.ratio.high * 1.01
    loss = evidence.facts.told(pair_in(evidence, "think"))
    assert claimed(loss) == "less"
    assert max(gain.p_family, loss.p_family) <= LEVEL
    assert 0 < gain.smallest < gain.effect


def test_nothing_is_told_where_nothing_was_planted(tmp_path: Path) -> None:
    found = read_evidence(made_report_folder(tmp_path / "runs", gain=1.0))
    assert claimed(found.facts.told(pair_in(found, "headline"))) == "none"
    assert claimed(found.facts.told(pair_in(found, "headline"), "p50")) == "none"


def test_a_difference_of_too_few_blocks_is_unknown_and_said(evidence: Evidence) -> None:
    found = evidence.facts.told(pair_in(evidence, "writers", writers=4))
    assert found.ratio.blocks < FEWEST_BLOCKS
    assert claimed(found) == "unknown"
    assert too_few(found) == "more in 3 of 3 blocks, too few to claim it"
    assert math.isnan(found.smallest)
    assert too_few(evidence.facts.told(pair_in(evidence, "headline"))) == ""


def test_everything_that_is_told_is_one_family(evidence: Evidence) -> None:
    known = [one for one in evidence.facts.telling if one.ratio.known]
    assert {one.family for one in known} == {len(known)}
    assert len(known) >= 4
    declared = list(family(evidence.experiments))
    assert len({(key_of(pair), measure) for pair, measure in declared}) == len(declared)
    assert not any(one.control for one in evidence.facts.telling)


def test_the_headlines_control_stands_in_where_an_experiment_has_none(evidence: Evidence) -> None:
    (band,) = {one.band for one in evidence.facts.telling if one.measure == "throughput"}
    assert 0 < band < 0.1


def test_a_pair_is_told_from_either_side(evidence: Evidence) -> None:
    pair = pair_in(evidence, "headline")
    one, other = (evidence.facts.told(each) for each in (pair, Pair(pair.baseline, pair.candidate)))
    assert (claimed(one), claimed(other)) == ("more", "less")
    assert other.ratio.low == pytest.approx(1 / one.ratio.high)
    assert other.p_family == one.p_family
    assert other.sentence().startswith(f"{pair.baseline} commits 0.5")


def test_what_the_family_does_not_declare_is_refused(evidence: Evidence) -> None:
    pair = pair_in(evidence, "think")
    with pytest.raises(KeyError, match=r"declare it in analysis\.report\.told"):
        evidence.facts.told(pair, "p99")
    with pytest.raises(KeyError):
        ReportFacts().told(pair)


def test_a_table_names_the_smallest_effect_that_it_could_have_found() -> None:
    assert smallest_clause([0.03, math.nan, 0.08]).endswith("by comparison, 3 % to 8 %")
    assert smallest_clause([0.03, 0.03]).endswith("is 3 %")
    assert smallest_clause([math.nan]) == "no effect of any size could have been claimed"
