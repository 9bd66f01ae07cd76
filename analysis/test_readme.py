"""The README's Python is run on a tiny run, and its first screen says what the report says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from analysis.counting import count
from analysis.report import charts, write_report
from analysis.synthetic import drawn_run, planted_report, write_folder
from workloads.records import read_run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two writers and a reader, where the examples look for it."""
    folder = tmp_path / "runs" / "RUN"
    write_folder(drawn_run(412, per_s=3000, writers=2, abort=0.2), folder)
    monkeypatch.chdir(tmp_path)
    return folder


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> list[float]:
    (block,) = (block for block in BLOCKS if name in block)
    exec(compile(block, "README.md", "exec"), {})
    return [float(number) for number in capsys.readouterr().out.strip(" []\n").split()]


def test_the_example_with_numpy_alone_prints_the_first_workers_commits(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_run(run)
    tally = count(found, found.window_ns).workers[0].tally
    expected = np.percentile(tally.latency_ns["commit"], [50, 99]) / 1e3
    assert printed("np.load", capsys) == pytest.approx(expected, rel=1e-4)


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
