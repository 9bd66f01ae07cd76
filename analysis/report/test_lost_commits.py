"""Planted losses of acknowledged commits come out with their conditions, and nothing else does."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.counting import gather
from analysis.report import lost_commits as commits
from analysis.report.acked import (
    LOCKED,
    NOT_MEASURED,
    ONE,
    ORDINARY,
    OTHER,
    RACING,
    Acked,
    acked_of,
    condition_of,
    load_of,
    rows_of_text,
)
from analysis.report.evidence import read_evidence
from analysis.report.measurements import designs
from analysis.report.report import write_report
from analysis.synthetic import ACKED, made_acked
from workloads.experiments import read_experiment
from workloads.runs import make_plan, run


def found(folder: Path, **how: Any) -> Acked:
    return acked_of([gather(read_experiment(made_acked(folder, **how)))])


PLAN = {"writers": 1, "checkpointers": 0, "checkpoint": "passive", "checkpoint_pause_ms": 0.0}
LOADS: dict[str, dict[str, Any]] = {
    RACING: {"checkpointers": 3},
    ONE: {"checkpointers": 1, "wal_autocheckpoint": 0},
    LOCKED: {"checkpointers": 3, "wal_autocheckpoint": 0, "checkpoint": "full"},
    ORDINARY: {"writers": 4},
    OTHER: {"checkpointers": 3, "checkpoint_pause_ms": 5.0},
}


@pytest.mark.parametrize("load", LOADS)
def test_who_checkpoints_is_told_from_the_plan(load: str) -> None:
    assert load_of({**PLAN, "wal_autocheckpoint": 1000, **LOADS[load]}) == load


def test_a_writer_that_checkpoints_beside_one_process_is_no_single_checkpointer() -> None:
    plan = {**PLAN, "wal_autocheckpoint": 1000, "checkpointers": 1}
    assert load_of(plan) == RACING
    # FULL checkpoints beside automatic ones, which are PASSIVE, are no cure either.
    assert load_of({**plan, "checkpoint": "full"}) == OTHER


def test_conditions_are_words_that_stand_alone() -> None:
    at: dict[str, Any] = {**PLAN, "wal_autocheckpoint": 1000}
    assert condition_of(at | LOADS[RACING]) == (
        "1 writer and 3 processes that checkpoint without pause"
    )
    assert condition_of(at | LOADS[ONE]) == (
        "1 writer and one process that checkpoints without pause, and nobody else does"
    )
    assert condition_of(at | LOADS[LOCKED]) == (
        "1 writer and 3 processes that checkpoint without pause by wal_checkpoint(FULL), and "
        "nobody else does"
    )
    assert condition_of(at | LOADS[ORDINARY]) == (
        "4 writers that checkpoint by themselves every 1,000 pages, and no other checkpoints"
    )


def test_a_loss_is_told_with_its_library_condition_time_and_run(tmp_path: Path) -> None:
    text = commits.losses(found(tmp_path / "a"))
    assert text == (
        "**libsql 1.0 (SQLite 3.45.1) lost acknowledged commits** with 1 writer and 3 processes "
        "that checkpoint without pause, synchronous OFF (no crash and no power cut): libsql "
        "after 2 s (run `acked/b00-libsql`: 1,000 acknowledged, 1 not there for the next reader "
        "and 2 gone after the run, too)."
    )


def test_where_nothing_was_lost_nothing_else_is_claimed(tmp_path: Path) -> None:
    seen = found(tmp_path / "a", losing=())
    assert commits.losses(seen).startswith(
        "**No acknowledged commit was seen to be lost, which is no proof that none can be**"
    )
    assert not seen.losers and not seen.controls and not seen.spared
    assert commits.cure(seen) == "" and commits.quiet(seen) == []


def test_a_control_shorter_than_ten_times_says_so(tmp_path: Path) -> None:
    (short,) = commits.controls(found(tmp_path / "a", seconds={"control": 19.0}))
    assert "only 9.50 times as long as the race needed for a loss elsewhere, which is" in short
    (enough,) = commits.controls(found(tmp_path / "b", seconds={"control": 20.0}))
    assert "10 times as long as the race needed" in enough and "only" not in enough
    assert "SQLite 3.54.0) kept all 10,000 acknowledged commits in 20 s" in enough


def test_a_control_is_measured_against_the_library_that_needed_the_longest(tmp_path: Path) -> None:
    arms = {**ACKED, "sqlite": {"database": "sqlite"}}
    seconds = {"libsql": 8.0, "sqlite": 0.5, "control": 40.0}
    seen = found(tmp_path / "a", arms=arms, losing=("libsql", "sqlite"), seconds=seconds)
    (control,) = seen.controls
    assert seen.times_as_long(control) == pytest.approx(5.0)
    assert "libsql 1.0 (SQLite 3.45.1) and sqlite 1.0 (SQLite 3.40.1) lost acknow" in (
        commits.losses(seen).replace("sqlite 1.0 (SQLite 3.40.1) and libsql 1.0 (SQLite 3.45.1)",
                                     "libsql 1.0 (SQLite 3.45.1) and sqlite 1.0 (SQLite 3.40.1)")
    )  # fmt: skip


def test_the_ordinary_load_is_told_with_its_commits_and_its_zero(tmp_path: Path) -> None:
    (line,) = commits.quiet(found(tmp_path / "a"))
    assert line.startswith("Under an ordinary load libsql 1.0 (SQLite 3.45.1) kept all 1,000 ack")
    assert "4 writers that checkpoint by themselves every 1,000 pages" in line
    assert "synchronous NORMAL" in line and "0 lost" in line


def test_runs_with_few_chances_of_the_race_say_little(tmp_path: Path) -> None:
    seen = found(tmp_path / "a")

    def with_restarts(many: int) -> Acked:
        return Acked(
            tuple(row._replace(restarts=many if row.load == ORDINARY else 100) for row in seen.rows)
        )

    (few,) = commits.quiet(with_restarts(999))
    assert few.endswith(
        "the log began again 999 times, and up to 100 times before a loss in the race, so this "
        "says little."
    )
    (enough,) = commits.quiet(with_restarts(1000))
    assert "says little" not in enough and "1,000 times" in enough
    assert "began again" not in commits.quiet(with_restarts(-1))[0]


def test_an_ordinary_load_that_loses_is_told_as_a_loss(tmp_path: Path) -> None:
    seen = found(tmp_path / "a", losing=("libsql", "ordinary"))
    assert not commits.quiet(seen)
    assert "with 4 writers that checkpoint by themselves every 1,000 pages, and no" in (
        commits.losses(seen)
    )


def test_a_way_to_checkpoint_is_a_cure_only_where_it_lost_nothing_for_long(tmp_path: Path) -> None:
    seconds = {"one": 20.0, "full": 20.0}
    both = found(tmp_path / "a", seconds=seconds)
    assert {group.first.load for group in both.cures} == {ONE, LOCKED}
    assert commits.cure(both).startswith("A cure, measured: ")
    one = found(tmp_path / "b", losing=("libsql", "one"), seconds=seconds)
    assert [group.first.load for group in one.cures] == [LOCKED]
    assert "one process" not in commits.cure(one) and "FULL" in commits.cure(one)
    assert "with 1 writer and one process that checkpoints without pause" in commits.losses(one)
    assert commits.cure(found(tmp_path / "c", losing=("libsql", "one", "full"))) == ""


def test_what_was_tried_too_shortly_is_no_cure(tmp_path: Path) -> None:
    seen = found(tmp_path / "a", seconds={"one": 19.0, "full": 20.0})
    assert [group.first.load for group in seen.cures] == [LOCKED]
    tried = commits.cure(seen).partition("Tried, and no cure yet: ")[2]
    assert "one process that checkpoints" in tried and "only 9.50 times as long" in tried


def test_a_cure_of_a_library_that_lost_nothing_is_no_cure(tmp_path: Path) -> None:
    assert commits.cure(found(tmp_path / "a", losing=("control",))) == ""


def test_each_librarys_version_is_told_beside_what_was_seen(tmp_path: Path) -> None:
    lines = commits.affected(found(tmp_path / "a"))
    than = "older than 3.51.3, the first SQLite without the WAL-reset race, and was"
    assert sorted(lines) == [
        f"libsql 1.0 (SQLite 3.45.1) is {than} seen to lose commits.",
        f"sqlite-concurrent 1.0 (SQLite 3.54.0) is not {than} not seen to lose any.",
    ]


def test_where_every_raced_library_loses_the_test_is_suspected(tmp_path: Path) -> None:
    text = commits.losses(found(tmp_path / "a", losing=("libsql", "control")))
    assert "Every library that was raced lost some: suspect the test." in text


def test_runs_of_one_condition_are_added_up(tmp_path: Path) -> None:
    seen = found(tmp_path / "a", blocks=3, seconds={"control": 7.0})
    (control,) = seen.controls
    assert (len(control.rows), control.seconds, control.acknowledged) == (3, 21.0, 10_500)
    assert "in 3 of 3 runs" in commits.losses(seen)
    table = commits.table(seen)
    assert all(len(row) == len(table.head) for row in table.rows)
    assert len(table.rows) == len(ACKED)
    assert "lost in 3" in table.rows[0][10]


def test_a_missing_engine_is_told_and_does_no_harm(tmp_path: Path) -> None:
    folder = made_acked(tmp_path / "a")
    path = folder / "experiment.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    for cell in entries["cells"]:
        if cell["arm"] == "control":
            cell |= {"state": "missing", "words": "sqlite-concurrent is not built.", "run": ""}
    path.write_text(json.dumps(entries), encoding="utf-8")
    seen = acked_of([gather(read_experiment(folder))])
    assert [row.verdict for row in seen.rows].count(NOT_MEASURED) == 1
    assert (
        commits.table(seen).note
        == "Not measured: sqlite-concurrent: sqlite-concurrent is not built."
    )
    assert not seen.controls and "lost acknowledged commits" in commits.losses(seen)


def test_the_finding_is_short_and_has_condition_time_controls_and_cure(tmp_path: Path) -> None:
    seconds = {"control": 30.0, "full": 30.0}
    text = commits.short(found(tmp_path / "a", losing=("libsql", "one"), seconds=seconds))
    assert text == (
        "**libsql (SQLite 3.45.1) lost acknowledged commits** with 1 writer and 3 processes that "
        "checkpoint without pause, synchronous OFF, no crash and no power cut: libsql after 2 s "
        "(run `acked/b00-libsql`). A single process that checkpoints is no cure: libsql lost some "
        "after 2 s. No commit was lost by sqlite-concurrent (SQLite 3.54.0) (30 s, 15 times what "
        "the race needed), by libsql by FULL checkpoints (30 s, 15 times what the race needed) and "
        "under ordinary loads (1,000 commits, which is no proof)."
    )
    short = commits.short(found(tmp_path / "b"))
    assert "1 times what the race needed: too short for a control" in short
    assert "no cure" not in short and "libsql by one process that checkpoints (2 s" in short


def test_without_any_run_it_says_not_measured() -> None:
    assert commits.told(Acked()) == [] and commits.table(Acked()).rows == []


def as_sweep(folder: Path) -> Path:
    path = folder / "experiment.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries["axes"] = {"system": list(entries["arms"])}
    entries["points"] = {arm: {"system": arm} for arm in entries["arms"]}
    path.write_text(json.dumps(entries), encoding="utf-8")
    return folder


def test_a_sweep_of_it_is_told_in_words_and_is_evidence_beside_the_report(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made_acked(runs / "acked")
    swept = as_sweep(made_acked(tmp_path / "swept", seconds={"control": 30.0}))
    evidence = read_evidence(runs, [swept])
    (control,) = evidence.facts.acked.controls
    assert control.seconds == 32.0 and evidence.facts.sweeps["acked"] == ()
    write_report(runs, tmp_path / "R.md", tmp_path / "figures", [swept])
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "figures").glob("*.md")]
    (page,) = (text for text in pages if "## Does every acknowledged commit stay?" in text)
    assert "lost in 2" in page.partition("acknowledged commit stay?")[2]
    (text,) = (text for text in pages if "## Sweep `acked`" in text)
    assert "`acked` lost commits in 1 of 5 libraries and conditions" in text
    part = text.partition("## Sweep `acked`")[2]
    assert "lost acknowledged commits" in part and "tx/s" not in part and "![" not in part
    with next((tmp_path / "figures").glob("*-acked.csv")).open(
        encoding="utf-8", newline=""
    ) as file:
        kept = rows_of_text(csv.DictReader(file))
    assert kept == acked_of([evidence.sweeps["acked"]])


def test_a_kept_table_without_a_column_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="there is no column experiment"):
        rows_of_text([{"run": "x"}])


@pytest.mark.parametrize("quick", [True, False])
def test_the_reports_own_search_has_each_load_and_ends_in_time(quick: bool) -> None:
    (design,) = (one for one in designs(quick, 1) if one.name == "acked")
    plans = [make_plan(**values) for values in design.arms.values()]
    loads = {load_of(plan.model_dump()) for plan in plans}
    assert {RACING, ORDINARY, LOCKED} <= loads and (quick or ONE in loads)
    # 0.6 s beside each: from its start to its window, and from there to the check's end.
    assert sum(plan.duration_s + 0.6 for plan in plans) <= (12 if quick else 60)
    raced = {plan.database for plan in plans if load_of(plan.model_dump()) == RACING}
    assert {"libsql", "sqlite", "sqlite-latest"} <= raced


def test_the_ordinary_load_would_see_a_lost_commit(tmp_path: Path) -> None:
    """The negative control: the same plan, upon an engine that loses some on purpose."""
    (design,) = (one for one in designs(False, 1) if one.name == "acked")
    (plan,) = (p for p in design.arms.values() if load_of(make_plan(**p).model_dump()) == ORDINARY)
    losing = make_plan(**{**plan, "database": "faulty-lost-commit", "duration_s": 20})
    ended = run(losing, tmp_path).manifest
    assert ended.ended == "invariant broken"
    assert "acknowledged values" in {finding.check for finding in ended.broken}


def test_one_sqlite_beneath_two_pythons_is_one_library(tmp_path: Path) -> None:
    seen = found(tmp_path)
    rows = [row for row in seen.rows if row.verdict == "lost"]
    other = rows[0]._replace(binding=f"{rows[0].binding} of another Python")
    both = Acked((*seen.rows, other))
    assert len(both.groups) == len(seen.groups)
    assert both.controls == seen.controls
