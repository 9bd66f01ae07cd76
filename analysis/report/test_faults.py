"""What a report tells of published campaigns of faults, on campaigns that are made up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.report import faults
from analysis.report.evidence import NO_SUITE, Evidence
from analysis.report.published_faults import read_faults

STORY: dict[str, Any] = {
    "story": "kill-one", "engine": "libsql", "begin": "immediate", "seed": 1, "version": "3.45.1",
    "verdict": "sound", "fired": 1, "acknowledged": 120, "lost": 0, "torn": 0, "doubled": 0,
    "integrity": 0, "runs": 1, "longest_block_ms": 3.25, "errors": {"database is locked": 4},
    "told": [], "found": [], "untold": [], "command": "cwkit run --fault sync:*:1:kill",
}  # fmt: skip
DOUBLED = STORY | {
    "story": "commit-calls", "engine": "turso", "verdict": "finding", "doubled": 1,
    "found": ["a refused COMMIT is there"],
}  # fmt: skip


def told(folder: Path, *campaigns: list[dict[str, Any]], **changed: Any) -> Evidence:
    """Evidence of a report with these campaigns alone."""
    folder.mkdir(exist_ok=True)
    for number, stories in enumerate(campaigns):
        one = {
            "cwkit": 1, "name": f"c{number}", "started": f"2026-11-26T1{number}:00:00+00:00",
            "quick": False, "machine": "2 cores", "sentences": {"kill-one": "SIGKILL of one."},
            "stories": stories,
        }  # fmt: skip
        (folder / f"c{number}.json").write_text(json.dumps(one | changed))
    found, unread = read_faults(folder)
    nothing = Evidence(folder, {}, NO_SUITE, {}, ())
    return dataclasses.replace(nothing, faults=found, faults_in=folder, unread=tuple(unread))


def test_a_row_says_what_was_kept_and_what_the_engine_said(tmp_path: Path) -> None:
    page = faults.section(told(tmp_path / "p", [STORY]), tmp_path / "faults.md")
    (one,) = page["engines"]
    assert one["name"] == "libsql 3.45.1, immediate"
    assert one["table"].rows[0][1:] == (
        "sound", "1", "120", "0", "0", "0", "0", "3.25", "1", "“database is locked” 4×"
    )  # fmt: skip
    assert page["stories"].rows == [("`kill-one`", "SIGKILL of one.")]


def test_the_matrix_has_each_story_of_each_engine_with_its_verdict(tmp_path: Path) -> None:
    older = STORY | {"story": "flip-log", "fired": 40}
    calls = DOUBLED | {"calls": 41, "calls_failed": 40, "fired": 99}
    silent = STORY | {"engine": "turso", "fired": 0, "verdict": "cannot tell", "untold": ["no"]}
    page = faults.section(told(tmp_path / "p", [STORY, older, calls, silent]), tmp_path / "f.md")
    assert page["matrix"].head == ("story", "libsql, immediate", "turso, immediate")
    assert page["matrix"].rows == [
        ("`kill-one`", "sound, 1", "nothing tested"),
        ("`flip-log`", "sound, 40", "—"),
        ("`commit-calls`", "—", "finding, 40 of 41 calls"),
    ]


def test_kills_are_added_up_and_nothing_else_is(tmp_path: Path) -> None:
    often = STORY | {"story": "kill-often", "fired": 200, "acknowledged": 900, "lost": 0,
                     "longest_block_ms": 140.0}  # fmt: skip
    other = often | {"engine": "turso", "lost": 3, "torn": 1, "integrity": 1, "fired": 7,
                     "verdict": "finding", "found": ["lost"], "longest_block_ms": None}  # fmt: skip
    page = faults.section(told(tmp_path / "p", [STORY, often, other, DOUBLED]), tmp_path / "f.md")
    assert page["kills"].rows == [
        ("libsql, immediate", "201", "1,020", "0", "0", "0", "140"),
        ("turso, immediate", "7", "900", "3", "1", "1", "—"),
        ("all", "208", "1,920", "3", "1", "1", "140"),
    ]
    assert not faults.section(told(tmp_path / "q", [DOUBLED]), tmp_path / "f.md")["kills"].rows


def test_a_doubled_transaction_is_a_grave_finding_and_sound_engines_are_none(
    tmp_path: Path,
) -> None:
    sound = faults.struck(told(tmp_path / "sound", [STORY]))
    assert sound.sought and not sound.grave
    evidence = told(tmp_path / "doubled", [STORY, DOUBLED])
    found = faults.struck(evidence)
    assert found.grave and "commit-calls on turso (immediate)" in found.holds
    (line,) = faults.section(evidence, tmp_path / "faults.md")["found"]
    assert "a refused COMMIT is there" in line


def test_what_never_struck_has_tested_nothing(tmp_path: Path) -> None:
    silent = STORY | {"fired": 0, "verdict": "cannot tell", "untold": ["nothing was tested"]}
    evidence = told(tmp_path / "p", [silent])
    assert not faults.struck(evidence).measured
    assert "1 in which no fault struck" in faults.answer(evidence, {})


def test_a_later_campaign_tells_a_story_anew(tmp_path: Path) -> None:
    evidence = told(tmp_path / "p", [DOUBLED], [DOUBLED | {"verdict": "sound", "found": []}])
    assert [one.verdict for one in faults.newest(evidence)] == ["sound"]


@pytest.mark.parametrize(
    ("story", "changed", "why"),
    [
        (STORY, {"name": "other"}, "is called 'other' inside"),
        (STORY | {"verdict": "finding"}, {}, "its verdict and what was found do not agree"),
        (STORY | {"fired": 0}, {}, "sound, though nothing was done to it"),
        (STORY | {"calls": 2, "calls_failed": 3}, {}, "more calls failed than there are"),
        (STORY | {"lost": -1}, {}, "lost"),
        (STORY | {"verdict": "fine"}, {}, "verdict"),
        (STORY, {"cwkit": 99}, "written by a later cwkit"),
    ],
)
def test_a_campaign_that_does_not_fit_together_is_one_sentence(
    tmp_path: Path, story: dict[str, Any], changed: dict[str, Any], why: str
) -> None:
    (said,) = told(tmp_path / "p", [story], **changed).unread
    assert why in said, said
