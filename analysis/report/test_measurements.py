"""The report's own experiments: what they ask for, in which order, and how one follows from
another.
"""

import pytest

from analysis.report import measurements
from analysis.report.evidence import read_evidence
from analysis.report.findings import doubts
from analysis.report.measurements import BRANCH, CLAIMED, CONCURRENT, LIBSQL, designs, offered
from analysis.report.suite_file import Suite, read_suite, write_suite
from analysis.synthetic import drawn_run, made_experiment
from workloads.experiments import read_experiment
from workloads.runs import make_plan

WORK = {"scenario": "register", "params": {"think_us": 200}, "writers": 4}
ARMS = {"now": LIBSQL | WORK, "alone": BRANCH | WORK, "new": CONCURRENT | WORK}


def named(quick):
    return {design.name: design for design in [*designs(quick, 1), offered(quick, 1, 4_000.0)]}


@pytest.mark.parametrize("quick", [True, False])
def test_every_arm_of_the_report_can_be_run(quick):
    for design in named(quick).values():
        assert not design.baseline or design.baseline in design.arms
        for plan in design.arms.values():
            make_plan(**plan)


@pytest.mark.parametrize(
    "name", ["headline", "plain", "no-work", "think", "hot", "skew", "read-mostly", "offered"]
)
def test_whatever_is_claimed_has_ten_blocks(name):
    assert named(False)[name].blocks >= CLAIMED >= 10


@pytest.mark.parametrize("name", ["headline", "no-work", "think", "hot", "writers", "offered"])
def test_the_studied_mode_meets_its_own_library_without_it(name):
    arms = named(False)[name].arms.values()
    systems = [(plan["write_engine"], plan["begin"]) for plan in arms]
    assert ("sqlite-concurrent", "immediate") in systems
    assert ("sqlite-concurrent", "concurrent") in systems


def test_the_headline_runs_its_library_twice_and_starts_early():
    headline = named(False)["headline"]
    plans = list(headline.arms.values())
    assert sum(plan == headline.arms[headline.baseline] for plan in plans) == 2
    names = [design.name for design in designs(False, 1)]
    assert names.index("headline") < 3


def test_fairness_is_measured_for_at_least_20_s_in_each_arm():
    assert all(plan["duration_s"] >= 20 for plan in named(False)["fairness"].arms.values())


def test_both_modes_are_offered_the_same_load_a_quarter_half_and_three_quarters():
    rates: dict[tuple[str, str], list[float]] = {}
    for plan in offered(False, 1, 4_000.0).arms.values():
        rates.setdefault((plan["write_engine"], plan["begin"]), []).append(plan["rate"])
    assert len(rates) == 2
    assert all(each == [1000.0, 2000.0, 3000.0] for each in rates.values())


def a_headline(folder, per_s, make=lambda arm, block: ""):
    """A report's folder whose headline committed `per_s` a second in every arm."""
    folder.mkdir()
    write_suite(folder, Suite(seed=1))

    def made(arm, block):
        plan = ARMS[arm]
        engine, begin = str(plan["write_engine"]), str(plan["begin"])
        found = make(arm, block)
        return found or drawn_run(block, per_s=per_s[arm], writers=4, engine=engine, begin=begin)

    made_experiment(folder / "headline", ARMS, made, name="headline", blocks=3)
    return read_experiment(folder / "headline")


def test_the_rates_follow_from_the_same_librarys_immediate_and_are_asked_for_again(tmp_path):
    headline = a_headline(tmp_path / "r", {"now": 1500, "alone": 2000, "new": 4000})
    lines: list[str] = []
    most = measurements._most_per_s(tmp_path / "r", headline, lines.append)
    assert most == pytest.approx(2000, rel=0.02)
    assert read_suite(tmp_path / "r").offered_per_s == most
    other = a_headline(tmp_path / "other", {"now": 1, "alone": 9000, "new": 1})
    # Whoever goes on asks for the same, whatever is counted now.
    assert measurements._most_per_s(tmp_path / "r", other, lines.append) == most
    assert lines == []


def test_where_the_headline_has_no_result_the_open_loop_is_left_out_in_words(tmp_path):
    folder = tmp_path / "r"
    failing = lambda arm, block: "missing: not built here." if arm == "alone" else ""  # noqa: E731
    headline = a_headline(folder, {"now": 1500, "new": 4000}, failing)
    lines: list[str] = []
    assert measurements._most_per_s(folder, headline, lines.append) == 0
    assert len(lines) == 1 and lines[0].startswith("offered: not run, for the headline has no run")
    assert list(read_suite(folder).skipped) == ["offered"]
    said = [line for line in doubts(read_evidence(folder)) if line.startswith("`offered`")]
    assert said == [f"`offered` was not run, for {read_suite(folder).skipped['offered']}."]
