"""Each row of "What to do" follows the runs: what holds, its opposite, too few blocks, and none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.report import findings
from analysis.report.evidence import read_evidence
from analysis.report.finding import (
    ACCEPTED,
    BROKEN,
    LESS,
    MISSING,
    MORE,
    NONE,
    REFUSED,
    UNKNOWN,
)
from analysis.report.report import write_report
from analysis.report.test_replica import made as made_served
from analysis.report.what_to_do import Advice, what_to_do
from analysis.synthetic import ACKED, made_acked
from analysis.synthetic.reports import Planted

Plant = Callable[[Planted], Any]
HEAD: Plant = lambda made: made.headline()  # noqa: E731
BY_WORK: list[Plant] = [HEAD, lambda made: made.no_work()]


def advice(folder: Path, *plants: Plant, blocks: int = 10) -> Mapping[str, Advice]:
    """The rows of a report in which this was planted."""
    made = Planted(folder / "runs", blocks=blocks)
    made.suite()
    made.mission()
    for plant in plants:
        plant(made)
    evidence = read_evidence(folder / "runs")
    return {row.key: row for row in what_to_do(evidence, findings.tell(evidence))}


def served(*gaps: float) -> Plant:
    """Nothing is planted: a measurement beside the server, as test_replica makes it."""
    return lambda made: made_served(made.folder)


def acked(*losing: str, only: Sequence[str] = tuple(ACKED)) -> Plant:
    """The arms of a search for lost commits; those of `losing` lose some."""
    arms = {arm: ACKED[arm] for arm in only}
    long = {arm: 25.0 for arm in ("control", "one", "full") if arm not in losing}
    return lambda made: made_acked(made.folder / "acked", arms=arms, losing=losing, seconds=long)


CASES: dict[str, tuple[str, list[Plant], int, str, str]] = {
    # key, what is planted, blocks, verdict, words of the row
    "any: work inside costs": (
        "any",
        [HEAD, lambda m: m.no_work(mode=0.8)],
        10,
        MORE,
        "Keep work out of the transaction",
    ),
    "any: work inside cost nothing": (
        "any",
        [HEAD, lambda m: m.experiment("think", three(m, 1000, 1.3))],
        10,
        LESS,
        "which is odd",
    ),
    "any: no difference": (
        "any",
        [HEAD, lambda m: m.experiment("think", three(m, 1000, 1.0))],
        10,
        NONE,
        "No cost of work",
    ),
    "any: too few blocks": ("any", BY_WORK, 3, UNKNOWN, "Too few blocks"),
    "any: one amount of work": ("any", [HEAD], 10, MISSING, "Not measured"),
    "may write: refused at once": (
        "may-write",
        [lambda m: m.plain()],
        10,
        REFUSED,
        "`BEGIN IMMEDIATE`, with a busy_timeout",
    ),
    "may write: refused, but faster": (
        "may-write",
        [lambda m: m.plain(gain=0.7)],
        10,
        REFUSED,
        "although plain BEGIN commits more",
    ),
    "may write: never refused": (
        "may-write",
        [lambda m: m.plain(refused=0.0)],
        10,
        ACCEPTED,
        "Plain BEGIN or BEGIN IMMEDIATE: plain BEGIN was not refused here",
    ),
    "only reads: none refused": ("only-reads", [], 10, ACCEPTED, "Plain `BEGIN`, or none"),
    "old library: lost, with cures": (
        "old-library",
        [acked("libsql")],
        10,
        BROKEN,
        "use one checkpointing connection, or SQLite 3.51.3 or later, or FULL checkpoints",
    ),
    "old library: lost, one checkpointer does not help": (
        "old-library",
        [acked("libsql", "one", "full")],
        10,
        BROKEN,
        "Not safe where a process checkpoints without pause: use SQLite 3.51.3 or later",
    ),
    "old library: a mended version lost some, too": (
        "old-library",
        [acked("libsql", "control", "one", "full")],
        10,
        BROKEN,
        "sqlite-concurrent (SQLite 3.54.0) lost commits, too",
    ),
    "old library: lost, and no control was run": (
        "old-library",
        [acked("libsql", only=("libsql",))],
        10,
        BROKEN,
        "No cure was tried for long enough here",
    ),
    "old library: nothing was lost": ("old-library", [acked()], 10, NONE, "which is no proof"),
    "old library: not measured": (
        "old-library",
        [],
        10,
        MISSING,
        "run `cwkit sweep acked`",
    ),
    "under: shorter at the top": (
        "under",
        [HEAD, lambda m: m.offered()],
        10,
        LESS,
        "BEGIN CONCURRENT has the shorter p99",
    ),
    "under: longer": (
        "under",
        [HEAD, lambda m: m.offered(served={0.5: (3000, 1000), 0.75: (3000, 1000)})],
        10,
        MORE,
        "BEGIN IMMEDIATE: BEGIN CONCURRENT's p99 is longer at half",
    ),
    "under: not measured": ("under", [HEAD], 10, MISSING, "Not measured"),
    "under: too few blocks": ("under", [HEAD, lambda m: m.offered()], 2, UNKNOWN, "too few blocks"),
    "above: pays": ("above", [HEAD], 10, MORE, "libSQL refuses it); rerun what it refuses"),
    "above: loses": (
        "above",
        [lambda m: m.headline(mode=0.7)],
        10,
        LESS,
        "Not BEGIN CONCURRENT, which commits less",
    ),
    "above: no difference": (
        "above",
        [lambda m: m.headline(mode=1.0)],
        10,
        NONE,
        "no claimed difference",
    ),
    "above: too few blocks": ("above", [HEAD], 4, UNKNOWN, "Too few blocks to say"),
    "above: not measured": ("above", [], 10, MISSING, "Not measured"),
    "above: libSQL takes it": (
        "above",
        [HEAD, lambda m: m.suite(concurrent=True)],
        10,
        MORE,
        "BEGIN CONCURRENT; rerun what it refuses",
    ),
    "short: loses": (
        "short-or-hot",
        [HEAD, lambda m: m.no_work(), lambda m: m.hot()],
        10,
        LESS,
        "BEGIN IMMEDIATE for no work inside and all writers on one page: BEGIN CONCURRENT loses",
    ),
    "short: pays": (
        "short-or-hot",
        [HEAD, lambda m: m.no_work(mode=1.4)],
        10,
        MORE,
        "BEGIN CONCURRENT for no work inside",
    ),
    "short: too few blocks, all of them below": (
        "short-or-hot",
        [HEAD, lambda m: m.hot(blocks=4)],
        10,
        UNKNOWN,
        "Too few blocks decide about all writers on one page: until then BEGIN IMMEDIATE",
    ),
    "short: not measured": ("short-or-hot", [], 10, MISSING, "Not measured"),
    "machines: measured": (
        "several-machines",
        [served()],
        10,
        MORE,
        "A replica where most requests read",
    ),
    "machines: not measured": ("several-machines", [], 10, MISSING, "Not measured"),
    "postgres: not measured": ("postgres", [], 10, MISSING, "Not measured"),
}


def three(made: Planted, think_us: float, factor: float) -> Any:
    """Both modes of the branch with work inside, and how much they commit."""
    from analysis.synthetic.reports import BRANCH, CONCURRENT, _update

    return {
        "branch immediate": (BRANCH | _update(think_us), {"factor": factor}),
        "branch concurrent": (CONCURRENT | _update(think_us), {"factor": factor}),
    }


@pytest.mark.parametrize("name", CASES)
def test_a_row_follows_the_runs(tmp_path: Path, name: str) -> None:
    key, plants, blocks, verdict, words = CASES[name]
    row = advice(tmp_path, *plants, blocks=blocks)[key]
    assert words in row.do, row
    assert row.verdict == verdict
    if verdict not in (MISSING, ACCEPTED):
        assert "`" in row.why or "headline/" in row.why, "it names no run"


def test_a_loss_in_too_few_blocks_is_told_as_that(tmp_path: Path) -> None:
    row = advice(tmp_path, HEAD, lambda made: made.hot(blocks=4))["short-or-hot"]
    assert "below 1 in 4 of 4 blocks, too few to claim" in row.why


def test_reads_that_were_refused_are_to_be_rerun(tmp_path: Path) -> None:
    from workloads.records import CONFLICT

    def refused(made: Planted) -> None:
        import json

        import numpy as np

        (path,) = (made.folder / "mission").glob("b00-*")
        workers = json.loads((path / "manifest.json").read_text())["workers"]
        reader = next(one["worker"] for one in workers if one["role"] == "reader")
        (file,) = path.glob(f"worker-{reader:03d}*.npy")
        rows = np.load(file)
        rows["outcome"][:10], rows["conflict"][:10], rows["message"][:10] = CONFLICT, 1, 1
        np.save(file, rows)

    row = advice(tmp_path, refused)["only-reads"]
    assert row.verdict == REFUSED and "rerun what is refused" in row.do


def test_the_library_and_its_version_and_the_way_to_know_stand_in_the_row(tmp_path: Path) -> None:
    row = advice(tmp_path, acked("libsql"))["old-library"]
    assert "SELECT sqlite_version()" in row.case
    assert "libsql (SQLite 3.45.1)" in row.why and "without pause" in row.why


def test_the_first_screen_has_the_table_and_each_row_says_who_tells_it(tmp_path: Path) -> None:
    made = Planted(tmp_path / "runs")
    for plant in (made.suite, made.headline, made.plain, made.mission):
        plant()
    write_report(tmp_path / "runs", tmp_path / "R.md", tmp_path / "p")
    text = (tmp_path / "R.md").read_text(encoding="utf-8")
    table = text.split("## What to do")[1].split("## Findings")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 9
    assert all("| finding " in row or ".md](p/" in row for row in rows)
    assert text.index("**In short:**") < text.index("## What to do") < text.index("## Findings")
    assert len(text[: text.index("## Findings")].splitlines()) < 40
