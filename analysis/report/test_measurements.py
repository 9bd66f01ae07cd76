"""The report's own experiments: what they ask for, in which order, and how one follows from
another.
"""

import contextlib

import pytest

from analysis.report import measurements, method
from analysis.report.evidence import read_evidence
from analysis.report.findings import doubts
from analysis.report.measurements import BRANCH, CLAIMED, CONCURRENT, LIBSQL, designs, offered
from analysis.report.suite_file import Suite, read_suite, write_suite
from analysis.synthetic import drawn_run, edit, made_experiment
from workloads.errors import EngineMissing
from workloads.experiments import Design, read_experiment
from workloads.runs import Plan, make_plan

WORK = {"scenario": "register", "params": {"think_us": 200}, "writers": 4}
ARMS = {"now": LIBSQL | WORK, "alone": BRANCH | WORK, "new": CONCURRENT | WORK}


def named(quick):
    return {design.name: design for design in [*designs(quick, 1), offered(quick, 1, 4_000.0)]}


@pytest.mark.parametrize("quick", [True, False])
def test_every_arm_of_the_report_can_be_run(quick):
    for design in named(quick).values():
        assert not design.baseline or design.baseline in design.arms
        for plan in design.arms.values():
            with contextlib.suppress(EngineMissing):
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


@pytest.mark.parametrize("most", [500.0, 4_000.0, 50_000.0])
def test_a_window_of_the_open_loop_has_enough_that_are_due_or_is_two_seconds_long(most):
    for plan in offered(False, 1, most).arms.values():
        assert plan["duration_s"] == 2.0 or plan["duration_s"] * plan["rate"] >= 1100
        assert 0.6 <= plan["duration_s"] <= 2.0


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


def test_rates_come_from_runs_that_others_did_not_disturb_unless_that_is_allowed(tmp_path):
    def disturbed(arm, block):
        run = drawn_run(block, per_s=2000, engine="sqlite-concurrent")
        edit(run.manifest, foreign={"cpu_share": 0.5})
        return run

    headline = a_headline(tmp_path / "r", {"now": 1, "alone": 1, "new": 1}, disturbed)
    assert measurements._most_per_s(tmp_path / "r", headline, print) == 0
    assert measurements._most_per_s(tmp_path / "r", headline, print, 0.6) > 1900
    assert read_suite(tmp_path / "r").skipped == {}


def test_where_the_headline_has_no_result_the_open_loop_is_left_out_in_words(tmp_path):
    folder = tmp_path / "r"
    failing = lambda arm, block: "missing: not built here." if arm == "alone" else ""  # noqa: E731
    headline = a_headline(folder, {"now": 1500, "new": 4000}, failing)
    lines: list[str] = []
    assert measurements._most_per_s(folder, headline, lines.append) == 0
    assert len(lines) == 1 and lines[0].startswith(
        "offered: not run, for the headline has no usable run"
    )
    assert list(read_suite(folder).skipped) == ["offered"]
    said = [line for line in doubts(read_evidence(folder)) if line.startswith("`offered`")]
    assert said == [f"`offered` was not run, for {read_suite(folder).skipped['offered']}."]


# --- the time it takes ------------------------------------------------------------------------


def seconds(quick, each_s):
    """Windows of all runs, and the whole with `each_s` beside every run, s."""
    plans = [
        (design.blocks, Plan(**plan))
        for design in named(quick).values()
        for plan in design.arms.values()
    ]
    windows = sum(blocks * plan.duration_s for blocks, plan in plans)
    return windows, sum(
        blocks * (each_s + plan.duration_s + plan.warmup_s) for blocks, plan in plans
    )


CELL_S = 0.42
"""A run of four writers costs so much beside its windows on two quiet cores, s."""


@pytest.mark.parametrize(("quick", "around_s", "limit_s"), [(False, 35, 540), (True, 25, 90)])
def test_a_report_is_over_in_time_and_at_least_half_of_a_whole_one_is_measured(
    quick, around_s, limit_s
):
    measured, whole = seconds(quick, CELL_S)
    assert whole + around_s <= limit_s
    assert quick or measured >= 0.5 * (whole + around_s)


TINY = {"scenario": "counter", "writers": 1, "database": "null", "duration_s": 0.2, "warmup_s": 0,
        "params": {"think_us": 1000, "think": "sleep"}}  # fmt: skip


def suite(folder, monkeypatch, names, on_cell=lambda name: lambda *event: None):
    """Measure a suite of tiny experiments, without the isolation matrix and the server."""
    tiny = [Design(name, "?", {"null": TINY}, blocks=2, seed=1) for name in names]
    monkeypatch.setattr(measurements, "designs", lambda quick, seed: tiny)
    monkeypatch.setattr(measurements, "engine_names", lambda: ["null"])
    monkeypatch.setattr(measurements, "_isolation", lambda folder, quick, notify: None)
    monkeypatch.setattr(measurements, "_trials", lambda folder, quick, seed, notify: None)
    lines: list[str] = []
    measurements.measure_suite(
        folder, quick=True, seed=1, command="", on_cell=on_cell, notify=lines.append
    )
    return lines


def test_the_time_it_took_is_kept_over_an_interruption(tmp_path, monkeypatch):
    """And a suite whose headline has no branch goes on without the open loop."""

    def interrupted(name):
        def on_cell(experiment, block, arm, state):
            if name == "two":
                raise KeyboardInterrupt

        return on_cell

    with pytest.raises(KeyboardInterrupt):
        suite(tmp_path / "r", monkeypatch, ("headline", "two"), interrupted)
    first = read_suite(tmp_path / "r").took_s
    assert first > 0.4  # two runs of 0.2 s are in it
    lines = suite(tmp_path / "r", monkeypatch, ("headline", "two"))
    assert any(line.startswith("offered: not run") for line in lines)
    assert (tmp_path / "r" / "two" / "experiment.json").exists()
    assert read_suite(tmp_path / "r").took_s > first + 0.4
    spent = read_evidence(tmp_path / "r").spent
    assert spent is not None
    assert spent.measured_s == pytest.approx(0.8, abs=0.05)
    assert 0 < spent.share < 1


def test_an_older_report_does_not_know_what_it_took(tmp_path):
    a_headline(tmp_path / "r", {"now": 1, "alone": 1, "new": 1})
    evidence = read_evidence(tmp_path / "r")
    assert evidence.spent is None and method.spent(evidence) == ""


# --- what is left open ------------------------------------------------------------------------


def test_what_is_missing_or_has_too_few_blocks_cannot_be_decided(tmp_path):
    a_headline(tmp_path / "r", {"now": 1500, "alone": 2000, "new": 4000})  # three blocks
    evidence = read_evidence(tmp_path / "r")
    left = {one.experiment: one.why for one in evidence.facts.cannot_decide}
    assert left["headline"] == "it has 3 blocks, and a claim needs 6"
    assert left["fairness"] == left["offered"] == "it was not run"
    assert set(left) == {design.name for design in measurements.planned(False, 1)}


def test_a_quick_report_says_which_questions_it_leaves_open(tmp_path):
    a_headline(tmp_path / "r", {"now": 1500, "alone": 2000, "new": 4000})
    write_suite(tmp_path / "r", Suite(seed=1, quick=True))
    (line,) = [line for line in doubts(read_evidence(tmp_path / "r")) if "quick report" in line]
    assert "It cannot decide" in line and "`fairness`" in line
