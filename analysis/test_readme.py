"""The pages' Python is run on a tiny run, and README's first screen says what the report says."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from analysis.cli import main
from analysis.counting import count
from analysis.report import charts, write_report
from analysis.synthetic import drawn_run, planted_report, write_folder
from analysis.test_house import blocks_of, files_of
from workloads.records import read_run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two writers and a reader, where the examples look for it."""
    folder = tmp_path / "runs" / "RUN"
    write_folder(drawn_run(412, per_s=3000, writers=2, abort=0.2), folder)
    monkeypatch.chdir(tmp_path)
    return folder


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> list[float]:
    (block,) = (block for block in blocks_of("docs/first-run.md", "python") if name in block)
    exec(compile(block, "docs/first-run.md", "exec"), {})
    return [float(number) for number in capsys.readouterr().out.strip(" []\n").split()]


def test_the_example_with_numpy_alone_prints_the_first_workers_commits(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_run(run)
    tally = count(found, found.window_ns).workers[0].tally
    expected = np.percentile(tally.latency_ns["commit"], [50, 99]) / 1e3
    assert printed("np.load", capsys) == pytest.approx(expected, rel=1e-4)


# --- the pages' commands, run ---------------------------------------------------------------------

SHORT = "--duration 0.2 --warmup 0"
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("page", "more", "said"),
    [
        pytest.param("docs/own-sql.md", SHORT, "ok      check.sql"),
        pytest.param("docs/isolation.md", "", "G2-item: write skew"),
        pytest.param("docs/sweeps.md", "", "in this order"),
        pytest.param("docs/faults.md", "", "Nothing"),
        pytest.param("docs/first-run.md", SHORT, "ok      total", marks=slow),
        pytest.param("docs/workloads.md", SHORT, "queue on libsql", marks=slow),
        pytest.param("docs/connections.md", SHORT, "open, first", marks=slow),
        pytest.param("docs/extending.md", SHORT, "ok      no customer below zero", marks=slow),
        pytest.param("docs/json.md", SHORT, '"document": "run"', marks=slow),
        pytest.param("docs/engines.md", "", "libsql-experimental", marks=slow),
    ],
)
def test_the_command_that_a_page_opens_with_works(
    page: str, more: str, said: str, desk: Path, typed: Callable[[str], tuple[int, str]]
) -> None:
    for name, text in files_of(page).items():
        (desk / name).write_text(text, encoding="utf-8")
    (line,) = [line for line in blocks_of(page)[0].splitlines() if "cwkit" in line]
    status, out = typed(f"{line} {more}")
    assert said in out, out
    assert status == (page == "docs/isolation.md")  # which shows a history that is violated


def test_the_page_shows_what_the_check_says(typed: Callable[[str], tuple[int, str]]) -> None:
    (shown,) = [block for block in blocks_of("docs/isolation.md", "console") if "G2-item" in block]
    line, _, said = shown.removeprefix("$ ").partition("\n")
    assert typed(line)[1].rstrip() == said.rstrip()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type commands in, with the folders that pages name."""
    for name in ("examples", "properties"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str]]:
    """Types a line: its status, and what it says on both streams."""

    def type_it(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        return status, "".join(capfd.readouterr())

    return type_it


# --- the first screen and the report ------------------------------------------------------------

ITEM = re.compile(r"\*\*(?P<said>.+?)\*\*.*?(?:\*Where:\* (?P<where>.+?)\.(?= \*Try\*|$)|$)")
"""A finding: its sentence in bold, a number behind the sentence's colon, and where it holds."""


class Item(NamedTuple):
    """A finding as it is told. where : its conditions, "" without."""

    said: str
    where: str


def findings_of(report: str) -> list[Item]:
    """The findings of a report, [] of one whose findings do not say where they hold."""
    section = report.partition("## Findings")[2].partition("\n## ")[0]
    lines = re.findall(r"^\d+\. (.*)$", section, re.MULTILINE)
    return [_item(line) for line in lines] if "*Where:*" in section else []


def told_first(readme: str) -> list[Item]:
    """The findings of the README's first screen."""
    section = readme.partition("What it found first")[2].partition("\n## ")[0]
    lines = re.findall(r"^- (.*(?:\n  .*)*)", section, re.MULTILINE)
    return [_item(" ".join(line.split())) for line in lines]


def _item(line: str) -> Item:
    plain = line.replace("\\", "")  # an escape of Markdown, which the README does without
    found = ITEM.match(plain)
    assert found, f"no finding: {line}"
    return Item(found["said"], found["where"] or "")


def disagreements(readme: str, report: str) -> list[str]:
    """What the README's first screen says otherwise than the report, which leads.

    It tells some of the report's findings, the first of them first, in the report's order and words
    and with the same conditions. The numbers are in the report alone: another report of the same
    verdicts changes nothing here.
    """
    theirs, mine = findings_of(report), told_first(readme)
    found, places = [], []
    for item in mine:
        sentence = item.said.rstrip(".")
        same = [
            place for place, one in enumerate(theirs)
            if one.said.startswith((f"{sentence}.", f"{sentence}:"))
        ]  # fmt: skip
        if not same:
            found.append(f"README.md says, and the report does not: {sentence}")
            continue
        places.append(same[0])
        if (where := theirs[same[0]].where) != item.where:
            found.append(f"{sentence}: {item.where!r} in README.md, {where!r} in the report")
    if theirs and places[:1] != [0]:
        found.append(f"README.md does not begin with the report's first: {theirs[0]}")
    if places != sorted(places):
        found.append("README.md tells them in another order than the report")
    return found


def test_the_first_screen_says_what_the_report_says_with_the_same_conditions() -> None:
    report = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    if not findings_of(report):
        pytest.skip("REPORT.md is older than the conditions of findings: `make report`")
    assert disagreements(README, report) == []


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """What reports say is compared here: their charts, half of a report's time, are not drawn."""

    def undrawn(title: str, *args: Any, **how: Any) -> charts.Chart:
        return charts.Chart(title, "", "", "Not drawn: by a test of the words.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "drawn", undrawn)
        yield


@pytest.fixture(scope="module")
def agreeing(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A report of made-up runs, and a README that tells its first findings."""
    place = tmp_path_factory.mktemp("agreeing")
    report = made_report(place)
    items = findings_of(report)[:4]
    lines = [
        f"- **{one.said.partition(':')[0].rstrip('.')}.** *Where:* {one.where}." for one in items
    ]
    return "What it found first:\n\n" + "\n".join(lines) + "\n\n## What else\n", report


def made_report(place: Path, **effects: Any) -> str:
    effects = {"offered": None, "writers": None, "skew": None, "read_mostly": None} | effects
    write_report(planted_report(place / "runs", **effects), place / "R.md", place / "figures")
    return (place / "R.md").read_text(encoding="utf-8")


def test_a_readme_in_the_reports_words_agrees_with_it(agreeing: tuple[str, str]) -> None:
    readme, report = agreeing
    assert len(told_first(readme)) == 4
    assert disagreements(readme, report) == []


def test_other_numbers_of_the_same_verdicts_change_nothing(
    agreeing: tuple[str, str], tmp_path: Path
) -> None:
    other = made_report(
        tmp_path, headline={"mode": 1.4}, acked={"lost": {"libsql": 3, "sqlite": 1}}
    )
    assert other != agreeing[1]
    assert disagreements(agreeing[0], other) == []


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ({"headline": {"mode": 0.7}}, "BEGIN CONCURRENT commits more than BEGIN IMMEDIATE"),
        ({"acked": {"strict": True}}, "'synchronous off, normal and full, no crash'"),
        ({"acked": {"lost": {}}}, "the report does not: libSQL and Python's sqlite3 lose"),
    ],
    ids=["another verdict", "another condition", "nothing is lost any more"],
)
def test_another_verdict_or_condition_of_the_report_is_seen(
    agreeing: tuple[str, str], tmp_path: Path, effects: dict[str, Any], said: str
) -> None:
    assert said in "\n".join(disagreements(agreeing[0], made_report(tmp_path, **effects)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("no crash", "whatever happens"),
        (" *Where:* synchronous off, no crash; not seen at synchronous normal or full.", ""),
        ("commits more than", "commits less than"),
        ("\n- **libSQL", "\n  **libSQL"),
    ],
)
def test_a_readme_that_leaves_out_a_condition_or_says_otherwise_is_seen(
    agreeing: tuple[str, str], old: str, new: str
) -> None:
    readme, report = agreeing
    assert old in readme
    assert disagreements(readme.replace(old, new), report) != []
