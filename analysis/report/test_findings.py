"""Findings follow the data in every direction, in few words, the grave ones first."""

import re
import shlex
from typing import Any

import pytest
import typer

from analysis.cli import app
from analysis.report.commits import acknowledged, cures
from analysis.report.evidence import read_evidence
from analysis.report.finding import (
    ACCEPTED,
    BROKEN,
    KEPT,
    LESS,
    MISSING,
    MORE,
    MOST_WORDS,
    NONE,
    REFUSED,
    SIGNS,
    UNKNOWN,
)
from analysis.report.findings import (
    MOST,
    acceptance,
    beyond,
    findings,
    in_short,
    mission,
    tell,
)
from analysis.report.headline import cost, gain
from analysis.report.limits import losing_work, read_mostly, scaling, skew
from analysis.report.report import write_report
from analysis.report.test_isolation import BROKEN as BROKEN_ROW
from analysis.report.test_isolation import KNOWN, row
from analysis.report.waits import fairness, log_growth, plain, same_load
from analysis.synthetic import Planted
from workloads.experiments import sweep_names

KEYS = {
    *("lost-commits", "isolation", "mission", "acceptance", "mode", "cost", "where-it-loses"),
    *(
        "hunts",
        "crashes",
        "faults",
        "soaks",
        "same-load",
        "plain-begin",
        "read-mostly",
        "fairness",
        "log",
        "skew",
        "growth",
    ),
}

EFFECTS: dict[str, dict[str, Any]] = {
    "hoped": {},
    "opposite": {
        "headline": {"mode": 0.7, "cpu": 0.8, "abort": 0.0, "aa": 1.2},
        "no_work": {"mode": 1.3},
        "hot": {"mode": 1.2},
        "plain": {"refused": 0.0},
        "fairness": {"immediate": (0.25,) * 4, "concurrent": (0.9, 0.1, 0.0, 0.0), "blocks": 10},
        "offered": {"served": {0.25: (2000, 300), 0.5: (2000, 400), 0.75: (2000, 500)}},
        "read_mostly": {"mode": 0.6, "cpu": 1.7, "used": 0.98},
        "skew": {"first": (0.3, 0.1, 0.02)},
        "writers": {"concurrent": 0.5, "immediate": 0.5},
        "acked": {"lost": {}},
        "suite": {"concurrent": True},
    },
    "none": {
        "headline": {"mode": 1.0, "cpu": 1.0, "library": 1.0},
        "no_work": {"mode": 1.0},
        "hot": {"mode": 1.0},
        "fairness": {"immediate": (0.25,) * 4, "blocks": 10},
        "offered": {"served": {0.25: (900, 900), 0.5: (900, 900), 0.75: (900, 900)}},
        "skew": {"first": (0.1, 0.1, 0.1)},
        "writers": {"concurrent": 1.0},
    },
    "few": {
        "no_work": {"blocks": 4},
        "hot": {"blocks": 4},
        "read_mostly": {"blocks": 2},
        "skew": {"blocks": 2},
        "acked": {"control_s": 5.0, "strict": True, "ordinary": True, "single": True},
        "mission": {"broken": "the total is 99 999 and should be 100 000, in account 7 " * 9},
    },
}


MADE: dict[str, Any] = {}
"""Direction -> the evidence of its report: made once, in whatever order xdist hands tests out."""


@pytest.fixture(params=EFFECTS)
def report(request, report_with):
    """A whole made-up report: its direction and its evidence."""
    name = request.param
    if name not in MADE:
        tried = {"few": None, "none": ([row()], [])}.get(name, ([row()], KNOWN))
        MADE[name] = report_with(tried, **EFFECTS[name])
    return name, MADE[name]


@pytest.fixture
def planted(tmp_path):
    """Makes one experiment with effects and gives the evidence of it."""
    made = Planted(tmp_path / "runs")

    def plant(**effects):
        for name, effect in effects.items():
            getattr(made, name)(**effect)
        return read_evidence(made.folder)

    return plant


def test_a_finding_has_at_most_sixty_words_in_every_direction(report):
    _, evidence = report
    told = tell(evidence)
    assert len(told.shown) <= MOST
    for one in told.every.values():
        assert one.words <= MOST_WORDS, f"{one.words} words: {one.text}"
        assert not re.search(r"\b(nan|inf|None)\b", one.text), one.text


def test_every_question_has_an_answer_with_a_key_of_its_own(report):
    _, evidence = report
    told = tell(evidence)
    assert set(told.every) == KEYS
    groups = (told.shown, told.stood_back, told.not_found, told.not_measured)
    assert sorted(one.key for group in groups for one in group) == sorted(KEYS)
    for key, one in told.every.items():
        assert (one.key, one.verdict in SIGNS) == (key, True)
        assert one.command.startswith(("cwkit ", "pytest "))
        assert one.data()["verdict"] == one.verdict


def test_every_command_of_a_finding_is_one(report):
    _, evidence = report
    commands: Any = typer.main.get_command(app)
    for one in tell(evidence).every.values():
        program, *argv = shlex.split(f"{one.command} {one.beside}")
        if program == "pytest":
            assert argv[0] == "properties"
            continue
        name, *rest = argv
        context = commands.commands[name].make_context(name, rest, resilient_parsing=False)
        if name == "sweep":
            assert context.params["asked"] in sweep_names()


def test_a_finding_names_its_runs_and_where_it_ends(report):
    _, evidence = report
    for one in findings(evidence):
        text = str(one.text)
        assert text.startswith(f"**{one.sentence}"), text
        assert f"*Try* `{one.command}`" in text
        if one.key not in ("acceptance", "isolation"):
            assert re.search(r"`[a-z-]+(/b\d\d|`)", text), text
            assert one.key == "mission" or f"*Where:* {one.holds}" in text


def test_sentence_and_conditions_hold_no_measured_number(report_with):
    """The same effects with other noise: the numbers differ, the sentences do not."""
    other: dict[str, Any] = {
        "headline": {"mode": 1.7, "cpu": 1.15},
        "no_work": {"mode": 0.75},
        "hot": {"mode": 0.5},
        "plain": {"refused": 0.07},
        "skew": {"first": (0.03, 0.12, 0.32)},
        "acked": {"lost": {"libsql": 3.0, "sqlite": 0.2}},
    }
    before, after = tell(report_with()).every, tell(report_with(**other)).every
    for key in ("lost-commits", "acceptance", "mode", "cost", "where-it-loses", "plain-begin",
                "fairness", "skew"):  # fmt: skip
        was, now = before[key], after[key]
        assert (was.sentence, was.holds) == (now.sentence, now.holds)
        assert key in ("acceptance", "fairness") or was.text != now.text


def test_the_answer_in_short_is_three_sentences_that_follow_the_data(report):
    direction, evidence = report
    text = in_short(evidence)
    begins, pays, safe = {
        "hoped": ("begin a request that may write with BEGIN IMMEDIATE", "pays", "lose"),
        "opposite": ("libSQL accepts BEGIN CONCURRENT", "loses with", "was seen to be lost"),
        "none": ("BEGIN IMMEDIATE", "makes no claimed difference", "lose"),
        "few": ("BEGIN IMMEDIATE", "pays", "synchronous off, normal and full"),
    }[direction]
    first, second, third = text.split(". ", 2)
    assert begins in first
    assert pays in second
    assert safe in third


def test_a_cure_that_was_tried_too_shortly_is_told_so_in_the_answer(planted):
    few = ("libsql single", "libsql locked")
    text = in_short(planted(suite={}, headline={}, acked={"control_s": 5, "without": few}))
    assert "; cure: SQLite 3.51.3 or later (none lost in 5 s" in text
    assert "too short" in text


def test_what_was_not_measured_leaves_the_ten_and_is_said(report_with):
    evidence = report_with(offered=None, fairness=None, plain=None)
    keys = {one.key for one in findings(evidence)}
    assert not keys & {"same-load", "fairness", "isolation"}
    assert "plain-begin" in keys  # the engine's own answer when it was asked
    (line,) = (line for line in beyond(evidence) if line.startswith("Not measured"))
    assert "Who waits longest to write (windows of 0.5 s are too short; `cwkit run" in line


def test_what_was_looked_for_and_not_found_is_said_behind_the_ten(report):
    direction, evidence = report
    lines = [line for line in beyond(evidence) if line.startswith("Looked for and not found")]
    assert bool(lines) == (direction in ("opposite", "none"))
    if direction == "opposite":
        assert any("No acknowledged commit was seen to be lost" in line for line in lines)
        assert any("was not refused" in line for line in lines)


def test_the_grave_comes_first_and_what_stands_back_is_told(report_with):
    tried = [row(), BROKEN_ROW], KNOWN
    evidence = report_with(tried, mission={"broken": "the total is wrong"})
    told = tell(evidence)
    assert [one.key for one in told.shown[:3]] == ["lost-commits", "isolation", "mission"]
    assert [told.place(one.key) for one in told.shown] == list(range(1, MOST + 1))
    assert {one.key for one in told.stood_back} == {"fairness", "read-mostly", "skew", "growth"}
    assert sum(line.startswith("Also measured") for line in beyond(evidence)) == 4


# --- lost commits -------------------------------------------------------------------------------


def test_lost_commits_are_told_with_who_conditions_cure_and_ordinary_load(planted):
    one = acknowledged(planted(acked={}))
    assert (one.verdict, one.sign, one.grave) == (BROKEN, -1, True)
    assert one.sentence == (
        "libSQL and Python's sqlite3 lose acknowledged commits where several processes checkpoint "
        "without pause"
    )
    assert one.holds == "synchronous off, no crash; not seen at synchronous normal or full"
    assert "after 2 s and 400 ms." in one.text
    cure = (
        "Cure: SQLite 3.51.3 or later, or FULL checkpoints, or one checkpointer (none lost in 20 s)"
    )
    assert one.numbers[0] == cure and cure in one.text
    assert one.numbers[1].startswith("ordinary load lost 0 of ")
    assert {part.name: part.verdict for part in one.parts} == {
        "libsql": BROKEN, "sqlite": BROKEN, "sqlite-concurrent": NONE,
    }  # fmt: skip


def test_what_is_lost_elsewhere_too_changes_the_conditions(planted):
    one = acknowledged(planted(acked={"strict": True, "ordinary": True, "single": True}))
    assert one.holds == "synchronous off, normal and full, no crash; also under ordinary load"
    assert one.sentence.endswith("commits where a process checkpoints without pause")
    assert "ordinary load lost some after 10 s" in one.numbers
    assert "one checkpointer" not in one.text


def test_as_it_was_measured_first_the_ordinary_load_has_its_place_in_sixty_words(planted):
    one = acknowledged(planted(acked={"single": True}))
    assert "Cure: SQLite 3.51.3 or later, or FULL checkpoints (none lost in 20 s)" in one.text
    assert "ordinary load lost 0 of" in one.text and one.words <= 60


def test_no_cure_is_told_that_was_not_measured(planted):
    evidence = planted(
        acked={
            "without": ("sqlite-concurrent", "libsql single", "libsql locked", "libsql ordinary")
        }
    )
    one = acknowledged(evidence)
    assert "Cure" not in one.text
    assert "no control held, so suspect the test" in one.text
    assert cures(evidence) == []


def test_a_control_that_ran_too_short_is_told_as_that_and_is_no_cure(planted):
    evidence = planted(acked={"control_s": 19, "locked_s": 19})
    one = acknowledged(evidence)
    assert (
        "Cure: SQLite 3.51.3 or later, or one checkpointer (none lost in 19 s: too short"
        in one.text
    )
    assert cures(evidence) == ["one checkpointing connection"]


def test_a_library_that_was_lucky_is_no_cure(planted):
    one = acknowledged(planted(acked={"lost": {"sqlite": 0.4}}))
    assert one.sentence.startswith("Python's sqlite3 loses")
    assert "not seen in libSQL, which was luck" in " ".join(one.numbers)


def test_a_mended_version_that_loses_makes_the_test_suspect(planted):
    evidence = planted(acked={"lost": {"libsql": 2.0, "sqlite-concurrent": 3.0}})
    one = acknowledged(evidence)
    assert one.sentence == "Acknowledged commits were lost by SQLite 3.51.3 or later too"
    assert "suspect the test" in one.text
    assert "SQLite 3.51.3 or later" not in cures(evidence)


def test_no_lost_commit_is_no_proof(planted):
    one = acknowledged(planted(acked={"lost": {}}))
    assert (one.verdict, one.sought, one.grave) == (NONE, True, False)
    assert "which is no proof that none can be" in one.sentence
    assert "acknowledged commits" in one.brief


def test_a_loss_under_ordinary_load_alone_is_grave(planted):
    one = acknowledged(planted(acked={"lost": {}, "ordinary": True}))
    assert (one.verdict, one.grave) == (BROKEN, True)
    assert "libSQL lost acknowledged commits, but not beside several checkpointers" in one.text


def test_without_runs_it_is_not_measured(planted):
    assert acknowledged(planted(suite={}, mission={})).verdict == MISSING


# --- the mode -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "verdict", "said"),
    [(1.6, MORE, "commits more than"), (0.7, LESS, "commits less than"),
     (1.0, NONE, "makes no claimed difference")],
)  # fmt: skip
def test_bold_is_the_mode_alone_with_the_library_beside_it(planted, mode, verdict, said):
    one = gain(planted(headline={"mode": mode, "library": 1.2}))
    assert one.verdict == verdict
    assert said in one.sentence
    alone, library, both = (part.estimate.value for part in one.parts)
    assert alone == pytest.approx(mode, rel=0.03)
    assert library == pytest.approx(1.2, rel=0.03)
    assert both == pytest.approx(mode * 1.2, rel=0.03)
    assert str(one.text).index(one.parts[0].estimate.text()) < str(one.text).index("library alone")


def test_a_ratio_that_is_not_claimed_says_why_though_its_interval_excludes_1(planted):
    one = gain(planted(headline={"mode": 1.04, "aa": 1.1}))
    (mode, *_) = one.parts
    assert (one.verdict, mode.estimate.holds(1.0)) == (NONE, False)
    assert re.search(r"times, (within the A/A band|A/A control differs|not significant)", one.lead)


def test_library_and_mode_together_are_never_told_as_the_mode(planted):
    one = gain(planted(headline={"without": ("branch immediate", "branch immediate again")}))
    assert one.sentence.endswith("libSQL's BEGIN IMMEDIATE, library and mode together")
    assert [part.name for part in one.parts] == ["both"]
    assert "The mode alone was not measured" in one.text


def test_an_odd_control_is_told_beside_the_ratio(planted):
    assert ", which is a difference" in " ".join(gain(planted(headline={"aa": 1.2})).numbers)


@pytest.mark.parametrize(
    ("cpu", "abort", "said"),
    [
        (1.2, 0.02, "costs refused commits, to be run again, and more CPU"),
        (0.8, 0.02, "costs refused commits, to be run again, but less CPU"),
        (1.0, 0.0, "costs no refused commit, but no claimed difference in CPU"),
    ],
)
def test_the_cost_is_refusals_and_cpu(planted, cpu, abort, said):
    one = cost(planted(headline={"cpu": cpu, "abort": abort}))
    assert said in one.sentence
    assert "of first tries" in one.text


# --- who waits ----------------------------------------------------------------------------------


def test_plain_begin_is_refused_at_once_or_was_not(planted):
    one = plain(planted(plain={"refused": 0.05}))
    assert (one.verdict, one.sought) == (REFUSED, False)
    assert "is refused at once where another wrote meanwhile: no busy timeout helps" in one.sentence
    assert "with a timeout of 2 s" in one.text


def test_plain_begin_that_was_never_refused_is_looked_for_and_not_found(planted):
    one = plain(planted(plain={"refused": 0.0}))
    assert (one.verdict, one.sought) == (ACCEPTED, True)
    assert "was not refused" in one.sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [("refused at once", "at once where another wrote"),
     ("refused after the busy timeout", "after the busy"),
     ("granted", "not measured")],
)  # fmt: skip
def test_the_engines_answer_stands_in_where_no_run_tried_it(planted, answer, said):
    assert said in plain(planted(suite={"upgrade": answer}, mission={})).sentence


@pytest.mark.parametrize(
    ("shares", "blocks", "verdict", "said"),
    [
        ((0.9, 0.1, 0.0, 0.0), 10, MORE, "more evenly than BEGIN IMMEDIATE"),
        ((0.9, 0.1, 0.0, 0.0), 1, UNKNOWN, "more evenly than BEGIN IMMEDIATE, in too few windows"),
        ((0.25,) * 4, 10, NONE, "no claimed difference"),
    ],
)
def test_fairness_follows_the_shares(planted, shares, blocks, verdict, said):
    one = fairness(planted(fairness={"immediate": shares, "blocks": blocks}))
    assert one.verdict == verdict
    assert said in one.sentence
    assert "windows of 20 s" in one.holds


def test_nothing_is_said_of_starvation_from_a_short_window(planted):
    one = fairness(planted(fairness={"seconds": 0.6, "blocks": 10}))
    assert one.verdict == MISSING
    assert "windows of 0.6 s are too short" in one.numbers


@pytest.mark.parametrize(
    ("logs", "verdict", "said"),
    [
        ((4, 600), MORE, "Under BEGIN CONCURRENT the write-ahead log outgrows its autocheckpoint"),
        ((600, 4), LESS, "Under BEGIN IMMEDIATE the write-ahead log outgrows its autocheckpoint"),
        ((600, 600), NONE, "outgrows its autocheckpoint under BEGIN CONCURRENT and under"),
        ((4, 5), NONE, "stays near its autocheckpoint"),
        ((0, 0), MISSING, ""),
    ],
)
def test_the_growth_of_the_log_follows_what_was_seen(planted, logs, verdict, said):
    one = log_growth(planted(fairness={"logs": logs}))
    assert one.verdict == verdict and said in one.sentence
    if verdict == MORE:
        assert "600 MiB against 4 MiB (libSQL 4 MiB) at most" in one.text
        assert "it began again 0 against 99 (libSQL 99) times" in one.text
        assert one.holds.endswith("windows of 20 s")
    assert one.sought == (logs == (4, 5))


def test_the_same_load_is_compared_level_by_level(planted):
    served = {0.25: (2000, 2000), 0.5: (600, 2000), 0.75: (2000, 500)}
    one = same_load(planted(suite={}, offered={"served": served}))
    assert one.sentence.endswith(
        "p99 is shorter at half, longer at three quarters, not claimed to differ at a quarter"
    )
    never = r"three quarters: CONCURRENT served only \d+ %"
    assert re.search(never, " ".join(one.numbers))
    assert [part.verdict for part in one.parts] == [NONE, LESS, MORE]


# --- limits -------------------------------------------------------------------------------------


def test_losses_are_named_and_one_of_too_few_blocks_is_never_dropped(planted):
    one = losing_work(planted(headline={}, no_work={"mode": 0.8}, hot={"mode": 0.5, "blocks": 4}))
    assert one.verdict == LESS
    assert one.sentence == (
        "BEGIN CONCURRENT loses with no work inside; with all writers on one page in 4 of 4 "
        "blocks, too few to claim"
    )
    assert re.search(r"all writers on one page 0\.[45]\d* to 0\.[45]", one.text)


def test_only_losses_of_too_few_blocks_are_told_as_that(planted):
    few = {"mode": 0.6, "blocks": 4}
    one = losing_work(planted(headline={}, no_work=few, hot=few))
    assert one.verdict == UNKNOWN
    said = "no work inside in 4 of 4 blocks and all writers on one page in 4 of 4 blocks"
    assert one.sentence == f"BEGIN CONCURRENT lost with {said}, too few to claim"


def test_no_loss_is_not_said_of_what_too_few_blocks_decide(planted):
    one = losing_work(planted(headline={}, no_work={"mode": 1.0, "blocks": 4}))
    assert one.sentence == (
        "No loss of BEGIN CONCURRENT was found; too few blocks to say with no work inside"
    )
    assert (one.verdict, one.sought) == (UNKNOWN, True)


def test_no_loss_is_said_where_none_was_seen(planted):
    one = losing_work(planted(headline={}, no_work={"mode": 1.2}, hot={"mode": 1.1}))
    assert (one.verdict, one.sought) == (NONE, True)
    assert one.sentence == "No loss of BEGIN CONCURRENT was found"


@pytest.mark.parametrize(
    ("mode", "said"),
    [(1.3, "commits more than plain BEGIN"), (0.7, "commits less than plain BEGIN")],
)
def test_reads_are_told_by_the_mode_alone_with_the_library_beside_it(planted, mode, said):
    one = read_mostly(planted(read_mostly={"mode": mode, "library": 1.4}))
    assert one.sentence.endswith(said)
    assert [part.name for part in one.parts] == ["mode", "cpu", "library"]
    assert "library alone 1.4" in one.text
    assert "The CPU is not full" in one.text


def test_where_both_fill_the_cpu_it_is_said_with_the_ratio_of_the_cpu(planted):
    one = read_mostly(planted(read_mostly={"mode": 0.9, "cpu": 1.1, "used": 0.97}))
    assert "Both fill the CPU, so CPU decides" in one.text
    assert one.parts[1].estimate.value == pytest.approx(1.1, rel=0.02)


def test_reads_without_the_branchs_plain_begin_are_library_and_mode_together(planted):
    one = read_mostly(planted(read_mostly={"without": ("branch deferred",)}))
    assert one.sentence.endswith("library and mode together")


@pytest.mark.parametrize(
    ("first", "said"),
    [((0.02, 0.1, 0.3), "refuse more first"), ((0.3, 0.1, 0.02), "refuse fewer first")],
)
def test_skew_is_told_by_first_tries(planted, first, said):
    one = skew(planted(skew={"first": first}))
    assert said in one.sentence
    assert "First tries refused by theta: " in one.text
    assert "all tries: " in one.text


@pytest.mark.parametrize(("grown", "said"), [(2.0, "grows"), (0.5, "shrinks")])
def test_growth_follows_the_writers(planted, grown, said):
    assert scaling(planted(writers={"concurrent": grown})).sentence.endswith(said)


# --- who has it, and whether it is whole --------------------------------------------------------


def test_a_refused_mode_is_told_in_the_engines_words(planted):
    one = acceptance(planted(suite={}, mission={}))
    assert (one.verdict, one.sign) == (REFUSED, -1)
    assert 'near "CONCURRENT": syntax error' in one.text


def test_a_mode_that_libsql_has_is_told_as_that(planted):
    one = acceptance(planted(suite={"concurrent": True}, mission={}))
    assert (one.verdict, one.sign) == (ACCEPTED, 1)
    assert one.sentence == "libSQL accepts BEGIN CONCURRENT and its writers overlap"


def test_the_mission_holds_or_breaks(planted):
    assert mission(planted(mission={})).verdict == KEPT
    broken = mission(planted(mission={"broken": "the total is wrong"}))
    assert (broken.verdict, broken.grave) == (BROKEN, True)
    assert "does not stay whole" in broken.sentence
    assert "the total is wrong" in broken.text


def test_the_report_prints_each_finding_as_it_is(hoped, tmp_path):
    write_report(hoped, tmp_path / "REPORT.md", tmp_path / "figures")
    text = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    evidence = read_evidence(hoped)
    for at, one in enumerate(findings(evidence), 1):
        assert f"\n{at}. {one.text}\n" in text
    for line in beyond(evidence):
        assert f"\n- {line}\n" in text
