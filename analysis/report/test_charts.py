"""The report's charts: titles follow the data as far as the rule goes, conditions stand in them."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from analysis.charts import CLAIMS
from analysis.report import chart_data, chart_titles
from analysis.report.charts import charts
from analysis.report.evidence import read_evidence
from analysis.report.told import LONG_WINDOWS
from analysis.synthetic import (
    START_NS,
    Planted,
    drawn_run,
    made_experiment,
    open_loop,
    planted_report,
)
from workloads.records import WAL_LOOK, write_wal_track

EVERY = ("headline", "no_work", "hot", "fairness", "offered", "read_mostly", "skew", "writers")
NOT_SHOWN = ("plain", "mission", "acked")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A report with planted effects in some experiments, without the others."""

    def make(**effects):
        folder = tmp_path_factory.mktemp("planted") / "runs"
        none = dict.fromkeys((*EVERY, *NOT_SHOWN))
        return read_evidence(planted_report(folder, **(none | effects)))

    return make


@pytest.fixture(scope="module")
def whole(planted):
    return planted(**{name: {} for name in EVERY})


def title_of(evidence):
    return chart_titles.effects(chart_data.effects(evidence)).title


def test_a_title_tells_what_pays_and_what_loses_by_how_much(whole):
    title = title_of(whole)
    assert re.search(r"^BEGIN CONCURRENT commits 1\.\d+ times as many with 200 µs of work; ", title)
    assert re.search(r"; 0\.8\d* times as many with no work inside", title)
    assert re.search(r"; 0\.(5|6)\d* times as many with 10 counters on one page", title)


def test_the_opposite_data_have_the_opposite_title(planted):
    opposite = planted(headline={"mode": 0.6}, no_work={"mode": 1.5}, hot={"mode": 1.4})
    title = title_of(opposite)
    assert re.search(r"commits 1\.5\d* times as many with no work inside", title)
    assert re.search(r"0\.(5|6)\d* times as many with 200 µs of work", title)


def test_a_title_claims_no_difference_that_is_none_or_has_too_few_blocks(planted):
    none = {"mode": 1.0}
    evidence = planted(
        headline=none, no_work=none | {"blocks": 2}, hot={"mode": 0.6, "blocks": 3}
    )  # fmt: skip
    title = title_of(evidence)
    assert title.startswith("BEGIN CONCURRENT: ")
    assert "times as many" not in title
    assert "no difference claimed (200 µs of work)" in title
    assert "less in 3 of 3 blocks, too few to claim it (10 counters on one page)" in title
    marks = {one.label: one.claim for one in chart_data.effects(evidence).drawn}
    assert marks["10 counters on one page"] == "unknown"
    assert set(marks.values()) <= set(CLAIMS)


def test_where_it_loses_the_baseline_is_the_same_library(whole):
    found = chart_data.effects(whole)
    assert {arm.engine for arm in found.arms} == {"sqlite-concurrent"}
    assert any("counters on one page" in one.label for one in found.drawn)


@pytest.mark.parametrize(
    ("grown", "said"),
    [(2.0, r"[12]\.\d+ times as many under .* CONCURRENT"), (0.5, r"0\.\d+ times .* CONCURRENT"),
     (1.0, r"no difference claimed \(.*CONCURRENT\)")],
)  # fmt: skip
def test_growth_is_told_of_both_ends(planted, grown, said):
    title = chart_titles.growth(planted(headline={}, writers={"concurrent": grown})).title
    assert title.startswith("Commits of 4 writers against 1 writer: ")
    assert re.search(said, title)
    assert re.search(r"no difference claimed \(.*IMMEDIATE", title)


def test_arms_that_differ_in_more_than_their_writers_are_no_growth(planted):
    """`acked` has arms of one writer and of four, at other durability."""
    evidence = planted(acked={"ordinary": True})
    assert {arm.writers for arm in evidence.experiments["acked"].arms.values()} == {1, 4}
    assert not chart_data.growing(evidence)
    assert chart_titles.growth(evidence).title == ""


@pytest.mark.parametrize(
    ("can", "said"), [((1000, 4000), r"0\.\d+ times as long at 75 %"),
                      ((4000, 1000), r"times as long at 75 %"),
                      ((1000, 1000), "no ")],
)  # fmt: skip
def test_latency_at_the_same_load_is_told_of_both_modes_with_who_was_not_served(planted, can, said):
    evidence = planted(offered={"served": {0.25: (4000, 4000), 0.75: can}})
    heading = chart_titles.offered(evidence)
    assert re.search(said, heading.title)
    assert "due but not served, by load: BEGIN IMMEDIATE " in heading.conditions
    (load,) = chart_data.offered(evidence)
    assert load.ticks == ["250\n(25 %)", "750\n(75 %)"]
    assert [line.label for line in load.lines if line.hollow] == [
        "BEGIN IMMEDIATE, p50",
        "BEGIN CONCURRENT, p50",
    ]


def test_shares_come_from_long_windows_alone(planted, whole):
    title = chart_titles.served(whole).title
    assert "In 1 window of 20 s the worst-served of 4 writers got 0 % under libsql" in title
    assert "25 % under sqlite-concurrent BEGIN CONCURRENT" in title
    assert not chart_data.served(planted(fairness={"seconds": 1.0}))


def test_shares_come_from_the_windows_with_the_most_blocks_and_what_holds_is_claimed(tmp_path):
    made = Planted(tmp_path)
    made.fairness(immediate=(0.4, 0.3, 0.2, 0.1))
    made.fairness(immediate=(0.9, 0.1, 0.0, 0.0), blocks=8, name=LONG_WINDOWS)
    title = chart_titles.served(evidence := read_evidence(tmp_path)).title
    assert re.search(
        r"^In 8 windows of [\d.]+ s the worst-served of 4 writers got 0 % under", title
    )
    assert re.search(r"; Jain's index of BEGIN CONCURRENT against .*: 3\.\d+ times as high$", title)
    assert len(chart_data.served(evidence)) == 3


def test_first_tries_stand_beside_all_tries(planted, whole):
    lines = chart_data.by_skew(whole)
    assert [line.label for line in lines] == [
        "BEGIN CONCURRENT, first tries",
        "BEGIN CONCURRENT, all tries",
    ]
    assert lines[0].y[-1] != lines[1].y[-1]
    assert "times as often" in chart_titles.skew(whole).title
    even = chart_titles.skew(planted(skew={"first": (0.1, 0.1, 0.1)})).title
    assert "times as often" not in even


def test_the_picture_says_its_conditions_and_the_report_reads_its_title_out(whole, tmp_path):
    made = {one.src: one for one in charts(whole, tmp_path / "R.md", tmp_path) if one.src}
    assert len(made) >= 6
    for name, one in made.items():
        root = ElementTree.parse(tmp_path / name).getroot()
        assert root[0].text == one.seen
        desc = root[1].text or ""
        for condition in (
            r"\d cores?",
            r"\d writers?",
            "synchronous NORMAL",
            "window",
            r"\d block",
        ):
            assert re.search(condition, desc), (name, condition)


def test_a_report_of_one_experiment_says_why_charts_are_not_drawn(planted, tmp_path):
    made = charts(planted(headline={}), tmp_path / "R.md", tmp_path)
    assert [one.title for one in made if one.src] == [
        "Where it loses and where it pays",
        "Latency in a closed loop",
    ]
    assert all(one.why.startswith("Not drawn: ") for one in made if not one.src)


def test_loads_whose_windows_differ_are_in_one_chart(tmp_path):
    """A low rate needs a longer window for as many who are due."""
    work = {"scenario": "register", "params": {"rows": 1000, "think_us": 200}, "writers": 4}
    branch: dict[str, Any] = {"database": "libsql", "write_engine": "sqlite-concurrent", **work}
    arms = {
        f"{begin} {rate}": branch | {"begin": begin, "rate": rate, "duration_s": 400 / rate}
        for rate in (200.0, 400.0)
        for begin in ("immediate", "concurrent")
    }

    def make(arm, block):
        plan = arms[arm]
        seconds = plan["duration_s"]
        return open_loop(plan["rate"], 2000, writers=4, seconds=seconds, seed=block, plan=plan)

    made_experiment(tmp_path / "offered", arms, make, name="offered", blocks=1)
    (load,) = chart_data.offered(read_evidence(tmp_path))
    assert load.ticks == ["200", "400"]


@pytest.mark.parametrize(("checkpointers", "said"), [(0, "all of them made by a commit"), (1, "")])
def test_the_log_is_told_with_its_size_and_whose_checkpoints_are_a_commits(
    tmp_path, checkpointers, said
):
    plan = {"database": "libsql", "write_engine": "libsql", "begin": "immediate", "writers": 2}
    plan |= {"scenario": "register", "params": {}, "checkpointers": checkpointers}
    folder = made_experiment(
        tmp_path / "x",
        {"a": plan},
        lambda arm, block: drawn_run(1, seconds=2.0, writers=2, plan=plan),
        name="x",
        blocks=1,
    )
    assert not chart_data.tracks(read_evidence(tmp_path)).drawn  # nothing was recorded
    looks = [(n * 2**19, 0, 10 * n, 10 * n - 5) for n in range(1, 5)]
    rows = [(START_NS + n * 100_000_000, *look) for n, look in enumerate(looks)]
    write_wal_track(folder / "b00-a", np.array(rows, WAL_LOOK))
    found = chart_data.tracks(read_evidence(tmp_path))
    title = chart_titles.tracks(found).title
    assert title.startswith(
        "The log grew to 2 MiB under libsql BEGIN IMMEDIATE; 3 checkpoints seen"
    )
    assert title.endswith(said or "seen")
    assert found.drawn[0].seen_s == pytest.approx([0.1, 0.2, 0.3])
