"""What a report tells of published crash campaigns, on campaigns that are made up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.report import crashes
from analysis.report.evidence import NO_SUITE, Evidence
from analysis.report.published_crashes import read_crashes

ROW = {"model": "kill", "states": 20, "broken": {}, "allowed": {}, "lost_in": 0, "most_lost": 0}
ONE: dict[str, Any] = {
    "cwkit": 1, "name": "one", "started": "2026-11-26T10:00:00+00:00", "machine": {"cores": 2},
    "engine": "libsql", "version": "3.45.1", "begin": "immediate", "synchronous": "normal",
    "scenario": "ledger", "writers": 4, "checkpointers": 0, "fault": "", "seed": 1,
    "records": 5000, "acknowledged": 240, "unexplained": [], "interrupted": False, "judged": 50,
    "same": 3,
    "binding": "libsql-experimental 0.0.55, from its wheel",
    "models": [ROW, ROW | {"model": "strict", "states": 30, "lost_in": 25,
                                      "most_lost": 37, "allowed": {"lost": 25}}],
}  # fmt: skip


def told(folder: Path, *changed: dict[str, Any]) -> Evidence:
    """Evidence of a report with these campaigns alone."""
    folder.mkdir(exist_ok=True)
    for number, change in enumerate(changed):
        name = f"c{number}"
        (folder / f"{name}.json").write_text(json.dumps(ONE | {"name": name} | change))
    found, unread = read_crashes(folder)
    nothing = Evidence(folder, {}, NO_SUITE, {}, ())
    return dataclasses.replace(nothing, crashes=found, crashes_in=folder, unread=tuple(unread))


def test_a_row_says_what_was_lost_after_a_kill_and_after_a_power_cut(tmp_path: Path) -> None:
    page = crashes.section(told(tmp_path / "p", {}), tmp_path / "crashes.md")
    assert page["kept"].rows == [
        (
            "`libsql`",
            "libsql-experimental 0.0.55, 3.45.1",
            "immediate",
            "normal",
            "240",
            "20",
            "0",
            "0",
            "30",
            "25",
            "37",
            "0",
        )
    ]
    assert page["allowed"].rows[0][-1] == "lost 25" and not page["broken"]


def test_a_campaign_of_another_scenario_is_told_as_one(tmp_path: Path) -> None:
    broken = [ROW | {"states": 50, "broken": {"torn": 1}}]
    change = {"scenario": "bank", "models": broken, "first_broken": {"torn": "torn: half of it"}}
    evidence = told(tmp_path / "p", change)
    page = crashes.section(evidence, tmp_path / "crashes.md")
    assert page["kept"].rows[0][2] == "immediate, bank"
    assert ", immediate, bank, synchronous normal: torn" in page["broken"][0]
    assert crashes.crashed(evidence).command.endswith("--scenario bank --synchronous normal")


def test_a_sound_engine_is_no_finding_and_a_broken_promise_is_a_grave_one(tmp_path: Path) -> None:
    sound = crashes.crashed(told(tmp_path / "sound", {}))
    assert (
        sound.sought
        and not sound.grave
        and "up to 37 of 240 acknowledged" in " ".join(sound.numbers)
    )
    torn = {"models": [ROW | {"broken": {"torn": 2}}], "judged": 20,
            "first_broken": {"torn": "half a transaction"}}  # fmt: skip
    evidence = told(tmp_path / "broken", {}, torn)
    broken = crashes.crashed(evidence)
    assert broken.grave and "libsql (immediate, synchronous normal)" in broken.holds
    (line,) = crashes.section(evidence, tmp_path / "crashes.md")["broken"]
    assert line == (
        "`libsql` 3.45.1, immediate, synchronous normal: half a transaction. Repeat: "
        "`cwkit crash --engine libsql --begin immediate --synchronous normal`"
    )


def test_a_control_and_what_was_not_seen_whole_count_for_no_engine(tmp_path: Path) -> None:
    lied = {"fault": "sync:*:1+:lie", "models": [ROW | {"broken": {"lost": 20}}], "judged": 20}
    evidence = told(
        tmp_path / "p", lied, {"unexplained": ["a.db has bytes that no record explains"]}
    )
    assert not crashes.measured(evidence) and not crashes.crashed(evidence).measured
    page = crashes.section(evidence, tmp_path / "crashes.md")
    assert page["controls"].rows[0][2] == "immediate, sync:*:1+:lie" and len(page["unseen"]) == 1


def test_that_no_state_of_many_broke_is_said_with_its_doubt(tmp_path: Path) -> None:
    page = crashes.section(told(tmp_path / "p", {"synchronous": "full"}), tmp_path / "crashes.md")
    (said,) = page["zeros"]
    assert said.startswith("libsql: none of 50 states at FULL, so that at most one in 14 ")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "other"}, "is called 'other' inside"),
        ({"synchronous": "most"}, "synchronous 'most' is no level"),
        ({"judged": 7}, "7 states and those of its models do not agree"),
        ({"models": [ROW, ROW], "judged": 40}, "a model is there twice"),
        ({"models": [ROW | {"lost_in": 21}], "judged": 20}, "kill: 21 of 20 states show something"),
        ({"records": -1}, "records"),
        ({"cwkit": 99}, "written by a later cwkit"),
    ],
)
def test_a_campaign_that_does_not_fit_together_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    (said,) = told(tmp_path / "p", change).unread
    assert why in said, said


CUT = (
    "does not open: DatabaseError: WAL has committed frames but logical log header is missing (0 s)"
)
BROKEN_TURSO: dict[str, Any] = {
    "engine": "turso", "version": "3.50.4", "binding": "pyturso 0.8.3, its wheel",
    "begin": "deferred", "synchronous": "full", "checkpointers": 1, "judged": 20,
    "models": [ROW | {"broken": {"does not open": 2}}],
    "command": "cwkit crash --engine turso --begin deferred --checkpointers 1 --seed 1",
}  # fmt: skip


def test_a_broken_promise_has_its_command_and_the_report_of_others(tmp_path: Path) -> None:
    known = BROKEN_TURSO | {"first_broken": {"does not open": CUT}}
    new = BROKEN_TURSO | {"first_broken": {"lost": "lost: 3 acknowledged"}}
    evidence = told(tmp_path / "p", known, new)
    first, second = map(str, crashes.section(evidence, tmp_path / "crashes.md")["broken"])
    assert "Known: a checkpoint cut short, [github.com/tursodatabase/turso/issues/7480]" in first
    assert "Known" not in second
    assert all(f"Repeat: `{BROKEN_TURSO['command']}`" in text for text in (first, second))
    found = crashes.crashed(evidence)
    assert found.command == BROKEN_TURSO["command"] and found.grave
    assert found.sentence == crashes.SENTENCES["does not open"]
    assert found.holds == "turso (deferred, 1 checkpointer, synchronous full)"
    assert str(found.numbers[0]).startswith("does not open: 4 of 40 states of these; 40 crash ")
    assert "known: a checkpoint cut short, [github.com/" in str(found.numbers[1])


def test_a_rollback_journal_is_told_as_one(tmp_path: Path) -> None:
    evidence = told(tmp_path / "p", {"journal_mode": "delete"}, {})
    page = crashes.section(evidence, tmp_path / "crashes.md")
    assert [row[2] for row in page["kept"].rows] == ["immediate, journal delete", "immediate"]
    assert [row[1] for row in page["allowed"].rows] == ["immediate, journal delete", "immediate"]
