"""A sweep's planted truth comes out of its section of the report, and nothing else does."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.compare import comparison as versus
from analysis.compare import pairs_of
from analysis.counting import Measured, gather
from analysis.report.evidence import Evidence, read_evidence
from analysis.report.facts import ReportFacts
from analysis.report.models import skew_studies
from analysis.report.report import write_report
from analysis.report.sweep_layout import layout, throughput_chart
from analysis.report.sweep_verdicts import LESS, MORE, SAME, UNKNOWN, judged
from analysis.report.sweeps import section, sentences, table
from analysis.synthetic import drawn_run, made_experiment
from workloads.experiments import read_experiment
from workloads.records import Conduct, Run

SYSTEMS = {
    "immediate": {"database": "libsql", "write_engine": "libsql", "begin": "immediate"},
    "concurrent": {
        "database": "libsql",
        "write_engine": "sqlite-concurrent",
        "begin": "concurrent",
    },
}


def sweep(
    folder: Path,
    gain: Callable[[int, int], float],
    *,
    writers: tuple[int, ...] = (1, 2, 4),
    think_us: tuple[int, ...] = (0, 200),
    blocks: int = 6,
    mend: Callable[[Run, str, int], None] = lambda run, system, block: None,
) -> Path:
    """A made-up sweep. gain : (writers, think_us) -> concurrent over immediate.

    mend : changes each run, given its way and its block.
    """
    axes = {"way": list(SYSTEMS), "writers": list(writers), "think_us": list(think_us)}
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    for system, n, us in product(SYSTEMS, writers, think_us):
        arm = f"{system}, writers {n}, think_us {us}"
        params = {"think_us": us, "rows": 1000, "keys": "uniform"}
        arms[arm] = SYSTEMS[system] | {"scenario": "register", "writers": n, "params": params}
        points[arm] = {"way": system, "writers": n, "think_us": us}
    base = next(iter(arms))
    arms[f"{base} again"], points[f"{base} again"] = arms[base], points[base]

    def make(arm: str, block: int) -> Run:
        at = points[arm]
        n, us = at["writers"], at["think_us"]
        per_s = 400.0 + 40 * n
        how = SYSTEMS[at["way"]]
        if at["way"] == "concurrent":
            per_s *= gain(n, us)
        made = drawn_run(
            [list(arms).index(arm), block],
            per_s=per_s,
            writers=n,
            work_us=us,
            engine=how["write_engine"],
            begin=how["begin"],
        )
        mend(made, at["way"], block)
        return made

    made_experiment(folder, arms, make, name="landscape", blocks=blocks, baseline=base)
    path = folder / "experiment.json"
    note = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(note | {"axes": axes, "points": points}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    made = sweep(tmp_path_factory.mktemp("made") / "s", lambda n, us: 1.6 if us else 0.7)
    return gather(read_experiment(made))


def test_gains_and_losses_are_claimed_where_they_were_planted(planted: Measured) -> None:
    found = judged(planted)
    assert len(found) == 6
    for one in found:
        assert one.verdict == (MORE if one.candidate.point["think_us"] else LESS)
    lines = sentences(planted, found)
    assert "more at 3 and less at 3 of 6 points" in lines[0]
    assert re.search(
        r"from 0\.\d+ \[.*\] times \(.*think_us 0\) to 1\.\d+ \[.*\] times \(.*200\)", lines[0]
    )


def test_nothing_is_claimed_where_nothing_was_planted(tmp_path: Path) -> None:
    measured = gather(read_experiment(sweep(tmp_path / "s", lambda n, us: 1.0)))
    assert {one.verdict for one in judged(measured)} == {SAME}


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 6])
def test_the_report_claims_what_compare_claims_and_nothing_of_too_few_blocks(
    tmp_path: Path, blocks: int
) -> None:
    made = sweep(tmp_path / "s", lambda n, us: 1.6, writers=(2,), think_us=(200,), blocks=blocks)
    measured = gather(read_experiment(made))
    (one,) = judged(measured)
    pairs, _ = pairs_of([str(made)], tmp_path)
    (other,) = versus.judged([versus.compare(a, b, "throughput") for a, b in pairs])
    assert (one.candidate.name, one.baseline.name) == (other.b, other.a)
    assert one.verdict == (MORE if blocks == 6 else UNKNOWN)
    assert other.verdict == (versus.CLAIMED if blocks == 6 else versus.UNKNOWN)
    assert (
        one.ratio.text() == other.ratio.text() == measured.ratio(one.candidate, one.baseline).text()
    )
    text = " ".join(sentences(measured, [one]))
    assert ("more at 1" in text) == (blocks == 6)
    assert ("cannot be decided at 1" in text) == (blocks < 6)
    assert ("Nothing is claimed: no two arms have the 6 blocks" in text) == (blocks < 6)


def oversubscribed(run: Run, system: str, block: int) -> None:
    run.manifest.conduct = Conduct(jobs=3, cpus=(0,), way="sweep", oversubscribed=True)


def elsewhere(run: Run, system: str, block: int) -> None:
    """As a sweep that went on with other settings leaves it: from block 4 on they are alike."""
    first = system == "immediate" or block > 3
    run.manifest.conduct = Conduct(jobs=1 if first else 2, cpus=(0, 1)[: 1 + first], way="s")
    run.manifest.machine.cwkit_commit = "aaa" if first else "bbb"


@pytest.mark.parametrize("mend", [oversubscribed, elsewhere])
def test_runs_that_are_unlike_are_in_no_ratio_of_table_report_or_band(
    tmp_path: Path, mend: Callable[[Run, str, int], None]
) -> None:
    made = sweep(
        tmp_path / "s", lambda n, us: 1.6, writers=(2,), think_us=(0, 200), blocks=8, mend=mend
    )
    measured = gather(read_experiment(made))
    left = 0 if mend is oversubscribed else 4
    pairs, _ = pairs_of([f"{made}:{arm}" for arm in list(measured.arms)[::2]], tmp_path)
    compared = {(b.label, a.label): versus.compare(a, b, "throughput").ratio for a, b in pairs}
    found = judged(measured)
    assert [one.verdict for one in found] == [UNKNOWN, UNKNOWN]
    assert [one.ratio.blocks for one in found] == [left, left]
    assert compared[found[0].candidate.name, found[0].baseline.name].blocks == left
    why = "oversubscribed" if mend is oversubscribed else "jobs (1 against 2)"
    assert all(why in one.ratio.dropped[0] for one in found)
    assert bool(measured.not_compared(found[0].candidate, found[0].baseline)) == (left == 0)
    shown = table(measured, found)
    assert all("**" not in cell for row in shown.rows for cell in row)
    doubts = section(measured, judged(measured), tmp_path / "R.md", tmp_path / "figures")["doubts"]
    assert any(f"{2 * (8 - left) + (8 if not left else 0)} pairs of runs" in d for d in doubts)
    # The control's two runs are alike where only the ways differ, and crowded like all else.
    assert math.isnan(versus.aa_band(measured)) == (mend is oversubscribed)
    alike = gather(read_experiment(sweep(tmp_path / "t", lambda n, us: 1.6, blocks=8)))
    assert {one.verdict for one in judged(alike)} == {MORE}


def test_the_table_has_a_row_a_point_and_thirty_at_most(planted: Measured, tmp_path: Path) -> None:
    few = table(planted, judged(planted))
    assert len(few.rows) == 6
    assert few.note == ""
    assert all("**" in row[-2] for row in few.rows)
    made = sweep(
        tmp_path / "s",
        lambda n, us: 1.0 + us / 1000,
        writers=(1, 2),
        think_us=tuple(range(0, 320, 20)),
        blocks=2,
    )
    measured = gather(read_experiment(made))
    many = table(measured, judged(measured))
    assert len(many.rows) == 30
    assert many.note.startswith("2 points with smaller effects")
    assert all(len(row) == len(many.head) for row in many.rows)


def test_the_axes_are_laid_out_as_lines_x_and_panels(planted: Measured) -> None:
    laid = layout(planted.axes)
    assert (laid.lines, laid.x, laid.panels) == ("system", "writers", ("think_us",))
    chart = throughput_chart(planted)
    assert [panel.title for panel in chart.panels] == ["think_us 0", "think_us 200"]
    assert [len(line.y) for panel in chart.panels for line in panel.lines] == [3] * 4


def test_a_sweep_in_a_reports_folder_is_told_with_charts_and_every_cell_as_csv(
    tmp_path: Path,
) -> None:
    sweep(tmp_path / "runs" / "landscape", lambda n, us: 1.6)
    evidence = read_evidence(tmp_path / "runs")
    assert not evidence.experiments
    write_report(tmp_path / "runs", tmp_path / "REPORT.md", tmp_path / "figures")
    text = (tmp_path / "figures" / "sweeps.md").read_text(encoding="utf-8")
    assert "## Sweep `landscape`" in text
    assert "13 arms in 6 blocks, 78 runs" in text
    assert text.count("| of the variance within blocks |") == 1
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert any("sweep-landscape-throughput" in src for src in shown)
    assert all((tmp_path / "figures" / src).is_file() for src in shown)
    assert "![sqlite-concurrent BEGIN CONCURRENT commits more at 6 of 6 points than" in text
    with (tmp_path / "figures" / "sweep-landscape.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 78
    assert {row["state"] for row in rows} == {"done"}
    one = evidence.sweeps["landscape"]
    before = section(one, judged(one), tmp_path / "REPORT.md", tmp_path / "figures")
    assert before["doubts"] == []


def test_the_conflict_model_is_held_to_the_sweep_that_studies_skew(made_report: Path) -> None:
    def studies(one: Evidence) -> list[Measured]:
        return skew_studies(list(one.sweeps.values()), one.facts.skew)

    evidence = read_evidence(made_report)
    # The report's own experiment.
    assert [measured.name for measured in studies(evidence)] == ["skew"]
    by_the_way: Any = SimpleNamespace(name="landscape", axes={"keys": ("uniform", "zipfian:0.99")})
    study: Any = SimpleNamespace(
        name="keys", axes={"keys": ("uniform", "zipfian:0.8", "zipfian:0.99")}
    )
    both = {"landscape": by_the_way, "keys": study}
    some = replace(evidence, sweeps={"landscape": by_the_way})
    assert studies(some) == studies(evidence)
    assert studies(replace(evidence, sweeps=both)) == [study]
    alone = replace(evidence, facts=ReportFacts(), sweeps={"landscape": by_the_way})
    assert studies(alone) == [by_the_way]
