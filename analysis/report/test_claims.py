"""The ledger of the article's claims: a verdict follows the runs and the threshold beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.claims import HOLDS, IN_PART, NOT, NOT_MEASURED, UNDECIDED
from analysis.report.evidence import read_evidence
from analysis.report.ledger import Entry
from analysis.report.ledger import ledger as ledger_of
from analysis.report.report import write_report
from analysis.report.test_replica import made as made_served
from analysis.synthetic import drawn_run, made_experiment
from analysis.synthetic.reports import Planted

Plant = Callable[[Planted], Any]
KEYS = ("200 ns", "95 %", "free", "hops", "bottleneck")


def ledger(folder: Path, *plants: Plant) -> dict[str, Entry]:
    made = Planted(folder / "runs")
    made.suite()
    made.mission()
    for plant in plants:
        plant(made)
    found = ledger_of(read_evidence(folder / "runs"))
    return {key: next(c for c in found if key in c.claim) for key in KEYS}


def reads(us: float) -> Plant:
    """One reader, whose reads take about so many microseconds."""
    plan = {"scenario": "register", "database": "libsql", "writers": 0, "readers": 1}

    def plant(made: Planted) -> None:
        def make(arm: str, block: int) -> Any:
            run = drawn_run(block, writers=0, readers=1, plan=plan | {"params": {"mix": "C"}})
            rows = run.workers[0].attempts
            rows["start_ns"] = rows["intended_ns"] = rows["end_ns"] - int(us * 1000)
            rows["begun_ns"], rows["worked_ns"] = rows["start_ns"], rows["end_ns"]
            return run

        made_experiment(made.folder / "read", {"libsql": plan}, make, name="read", blocks=1)

    return plant


def served(**changes: Any) -> Plant:
    return lambda made: made_served(made.folder, **changes)


def floor(per_s: float) -> Plant:
    from analysis.synthetic.reports import _update

    plan = {"database": "null", "write_engine": "null", "begin": "immediate"} | _update(200)
    return lambda made: made.experiment(
        "floor", {"null w4": (plan, {"factor": per_s / 1000})}, blocks=1
    )


HEAD: Plant = lambda made: made.headline(mode=1.6)  # noqa: E731
CASES: dict[str, tuple[str, list[Plant], str]] = {
    "a read within the threshold": ("200 ns", [reads(0.3)], HOLDS),
    "a read by key through a binding": ("200 ns", [reads(9.0)], NOT),
    "no single reader": ("200 ns", [], NOT_MEASURED),
    "no gain at 95 % reads": ("95 %", [lambda m: m.read_mostly(mode=1.0)], IN_PART),
    "a gain at 95 % reads": ("95 %", [lambda m: m.read_mostly(mode=1.3)], NOT),
    "too few blocks at 95 % reads": ("95 %", [lambda m: m.read_mostly(blocks=3)], UNDECIDED),
    "a wide interval at 95 % reads": (
        "95 %",
        [lambda m: setattr(m, "noise", 0.4), lambda m: m.read_mostly(mode=1.15)],
        UNDECIDED,
    ),
    "no 95 % reads": ("95 %", [], NOT_MEASURED),
    "reads free, writes dear": ("free", [served()], IN_PART),
    "reads and writes free": ("free", [served(write_replica=20)], HOLDS),
    "dear reads": ("free", [served(read_replica=25)], NOT),
    "no server": ("free", [], NOT_MEASURED),
    "a hop costs, and the server more": ("hops", [served()], IN_PART),
    "a hop is most of what it costs": ("hops", [served(read_remote=100, hop=80)], HOLDS),
    "a hop costs nothing": ("hops", [served(read_remote=10, hop=1)], NOT),
    "too few blocks beside the server": ("hops", [served(blocks=3)], UNDECIDED),
    "the mode pays": ("bottleneck", [HEAD], IN_PART),
    "the mode pays and nothing is left": ("bottleneck", [HEAD, floor(1700)], HOLDS),
    "the mode pays, far from the ceiling": ("bottleneck", [HEAD, floor(3000)], IN_PART),
    "the mode pays here and loses there": (
        "bottleneck",
        [HEAD, floor(1700), lambda m: m.hot(mode=0.6)],
        IN_PART,
    ),
    "the mode loses": ("bottleneck", [lambda m: m.headline(mode=0.7)], NOT),
    "no difference": ("bottleneck", [lambda m: m.headline(mode=1.0)], NOT),
    "a wide interval": (
        "bottleneck",
        [lambda m: setattr(m, "noise", 0.5), lambda m: m.headline(mode=1.1)],
        UNDECIDED,
    ),
    "no runs of both modes": ("bottleneck", [], NOT_MEASURED),
}


@pytest.mark.parametrize("name", CASES)
def test_a_verdict_follows_the_runs(tmp_path: Path, name: str) -> None:
    key, plants, verdict = CASES[name]
    claim = ledger(tmp_path, *plants)[key]
    assert claim.verdict == verdict, claim
    assert bool(claim.runs) == (verdict != NOT_MEASURED)


def test_a_verdict_that_is_not_decided_says_why(tmp_path: Path) -> None:
    found = ledger(tmp_path, lambda made: made.read_mostly(mode=1.3, blocks=4))
    assert found["95 %"].number.startswith("Too few blocks.")
    assert "above 1 in 4 of 4 blocks, too few to claim" in found["95 %"].number


def test_the_ledger_states_what_would_confirm_each_claim(tmp_path: Path) -> None:
    made = Planted(tmp_path / "runs")
    made.suite()
    made.headline()
    write_report(tmp_path / "runs", tmp_path / "R.md", tmp_path / "p")
    text = (tmp_path / "R.md").read_text(encoding="utf-8")
    table = text.split("## The article's claims")[1].split("\n## ")[0]
    assert "| claim | verdict | number | runs | what would confirm it |" in table
    assert "| yes |" not in table and "| **holds in part** |" in table
    assert "at most 400 ns" in table and "90 % of what the generator alone does" in table
