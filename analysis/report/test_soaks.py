"""What a report tells of published soaks, on soaks that are made up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.report import rendering, soaks
from analysis.report.evidence import NO_SUITE, Evidence
from analysis.report.published_soaks import read_soaks
from analysis.report.report import write_report

ROW: dict[str, Any] = {
    "engine": "libsql", "version": "3.45.1", "mode": "immediate", "rounds": 9,
    "kinds": {"crash": 2, "run": 3, "kill": 4}, "not_run": 1, "acknowledged": 5000, "faults": 7,
    "killed": 4, "states": 60, "findings": {}, "known": {}, "rss_bytes": 3 << 20,
    "rss_per_commit": 0.0, "descriptors": 11, "wal_bytes": 1 << 20, "seeds": [3, 90],
}  # fmt: skip
NAME = "a refused COMMIT that is kept"
KNOWN = {
    "name": NAME, "sentence": "it is there", "public": "https://example.org/a/1#now",
    "command": "cwkit run --fault x", "engines": ["turso, immediate"], "rounds": 2, "first": 4,
}  # fmt: skip
LOST: dict[str, Any] = {
    "number": 5, "kind": "fault", "engine": "libsql", "mode": "immediate", "scenario": "ledger",
    "seed": 3, "rules": ["sync:*-wal:4:EIO"],
    "findings": [{"kind": "lost", "sentence": "2 *are* gone"},
                 {"kind": "doubled", "sentence": "x", "known": NAME}],
}  # fmt: skip
ONE: dict[str, Any] = {
    "cwkit": 1, "version": "0.2", "started": "2026-11-26T10:00:00+00:00", "ended": "done",
    "machine": {"cores": 2, "kernel": "6.1"}, "seed": 7, "engines": ["libsql", "turso"],
    "missing": [], "asked_s": 7200, "elapsed_s": 7200, "seconds": 3, "rounds": 9, "set_aside": 0,
    "rows": [ROW], "broken": [], "known": [],
}  # fmt: skip
BROKEN = {"rows": [ROW | {"findings": {"lost": 1}, "known": {NAME: 2}}], "broken": [LOST],
          "known": [KNOWN]}  # fmt: skip


def told(folder: Path, *changed: dict[str, Any]) -> Evidence:
    """Evidence of a report with these soaks alone."""
    folder.mkdir(exist_ok=True)
    for number, change in enumerate(changed):
        name = f"s{number}"
        (folder / f"{name}.json").write_text(json.dumps(ONE | {"name": name} | change))
    found, unread = read_soaks(folder)
    nothing = Evidence(folder, {}, NO_SUITE, {}, ())
    return dataclasses.replace(nothing, soaks=found, soaks_in=folder, unread=tuple(unread))


def page_of(evidence: Evidence, tmp_path: Path) -> str:
    """The page as it is written."""
    data = soaks.section(evidence, tmp_path / "soaks.md")
    top = {"title": "What a soak found", "answer": soaks.answer(evidence, data), "back": "R.md"}
    return rendering.environment().get_template("soaks.md.j2").render({**data, "page": top})


def test_without_anything_new_it_was_looked_for_and_not_found(tmp_path: Path) -> None:
    evidence = told(tmp_path / "p", {}, {"known": [KNOWN]})
    one = soaks.soaked(evidence)
    assert one.sought and not one.grave and one.page == "soaks"
    assert "16 rounds in 4.0 hours, 10,000 acknowledged commits" in one.text
    assert "known deviations seen: 1" in one.text and "libsql" in one.holds
    text = page_of(evidence, tmp_path)
    assert "## What is new" not in text and f"| {NAME} | it is there |" in text
    assert "18 rounds of one engine and mode in 4.0 hours: none with something new" in text
    assert "[example.org/a/1#now](https://example.org/a/1#now)" in text
    # Rounds of both soaks are added up, and of what a process had the most is told.
    assert "| `libsql` | 3.45.1 | immediate | 18 | 4 | 6 | 0 | 8 | 0 | 2 | 10,000 |" in text
    assert all(f"(p/s{number}.json)" in text for number in (0, 1))


def test_what_is_new_is_a_finding_with_the_command_that_repeats_it(tmp_path: Path) -> None:
    evidence = told(tmp_path / "p", {}, BROKEN)
    one = soaks.soaked(evidence)
    assert one.grave and not one.sought and "lost or tore" in one.sentence
    again = "cwkit soak --seed 7 --engines libsql,turso --seconds 3 --only-round 5 --fault"
    assert one.command.startswith(again) and "libsql (immediate)" in one.holds
    assert one.words <= 60
    text = page_of(evidence, tmp_path)
    assert r"lost: 2 \*are\* gone" in text and again in text
    assert "doubled: x" not in text and f"| {NAME} 2 |" in text


@pytest.mark.parametrize(
    ("kind", "grave", "said"),
    [
        ("doubled", True, "refused a COMMIT and kept it"),
        ("hang", False, "nobody has explained yet"),
        ("integrity", True, "lost or tore"),
    ],
)
def test_the_finding_says_no_more_than_was_seen(
    kind: str, grave: bool, said: str, tmp_path: Path
) -> None:
    found = LOST | {"findings": [{"kind": kind, "sentence": "x"}]}
    one = soaks.soaked(told(tmp_path / "p", {"broken": [found]}))
    assert (one.grave, one.sought) == (grave, False) and said in one.sentence


def test_a_round_that_could_not_be_judged_is_no_finding_of_an_engine(tmp_path: Path) -> None:
    one = soaks.soaked(
        told(tmp_path / "p", {"broken": [LOST | {"findings": [{"kind": "not run",
                                                              "sentence": "x"}]}]})
    )  # fmt: skip
    assert one.sought and not one.grave and "1 round could not be judged" in one.text


def test_without_a_soak_the_page_says_how_one_is_made(tmp_path: Path) -> None:
    for evidence in (told(tmp_path / "p"), told(tmp_path / "q", {"rows": [ROW | {"not_run": 9}]})):
        assert not soaks.soaked(evidence).measured
        text = page_of(evidence, tmp_path)
        assert "cwkit soak --publish FOLDER" in text and "| engine |" not in text


def test_without_the_library_no_command_would_repeat_a_round(tmp_path: Path) -> None:
    missing = {"missing": ["No faults and no crash campaigns: no compiler"]}
    evidence = told(tmp_path / "p", BROKEN | missing)
    text = page_of(evidence, tmp_path)
    assert "--only-round" not in text and "- No faults and no crash campaigns" in text


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "other"}, "is called 'other' inside"),
        ({"rounds": 8}, "do not agree"),
        ({"broken": [LOST, LOST]}, "a round is there twice"),
        ({"known": [KNOWN | {"first": 9}]}, "is none of its rounds"),
        ({"seed": -1}, "seed"),
        ({"cwkit": 99}, "written by a later cwkit"),
    ],
)
def test_a_soak_that_does_not_fit_together_is_one_sentence(
    changed: dict[str, Any], why: str, tmp_path: Path
) -> None:
    (said,) = told(tmp_path / "p", changed).unread
    assert why in said, said


def test_an_older_file_without_what_is_known_is_read(tmp_path: Path) -> None:
    older = {key: value for key, value in ROW.items() if key != "known"}
    before = {key: value for key, value in LOST.items() if key != "rules"}
    (tmp_path / "p").mkdir()
    data = {key: value for key, value in ONE.items() if key != "known"}
    data |= {"name": "old", "rows": [older], "broken": [before]}
    (tmp_path / "p" / "old.json").write_text(json.dumps(data))
    ((one,), unread) = read_soaks(tmp_path / "p")
    assert not unread and one.known == [] and one.rows[0].known == {}


def test_a_report_tells_it_in_a_line_and_links_each_file(made_report: Path, tmp_path: Path) -> None:
    figures = tmp_path / "published"
    figures.mkdir()
    told(figures / "soaks", {}, {"known": [KNOWN]})
    write_report(made_report, tmp_path / "R.md", figures, soaks=figures / "soaks")
    page = (figures / "soaks.md").read_text(encoding="utf-8")
    assert "(soaks/s0.json)" in page and "(soaks/s1.json)" in page
    report = (tmp_path / "R.md").read_text(encoding="utf-8")
    assert "[What a soak found](published/soaks.md)" in report
    line = next(line for line in report.splitlines() if "In drawn rounds of every kind" in line)
    assert line.startswith("- Looked for and not found: ")


def test_what_somebody_else_wrote_stays_text(tmp_path: Path) -> None:
    forged = KNOWN | {"public": "https://x.org/](javascript:1) <b>", "name": "a|b", "sentence": "`"}
    text = page_of(told(tmp_path / "p", {"known": [forged]}), tmp_path)
    assert text.count("](javascript") == text.count(r"\](javascript") == 1
    assert "<b>" not in text and r"a\|b" in text
