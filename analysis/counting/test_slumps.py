"""Runs that stood still or made less than half of what their arm does are marked, and kept."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.cli import entry as cli
from analysis.cli.run_summary import doubts
from analysis.counting.cells_table import cells_table
from analysis.counting.measured import gather
from analysis.counting.slumps import slumps
from analysis.counting.standstill import standstill
from analysis.counting.tables_out import export
from analysis.counting.tally import count
from analysis.report import arms_table, doubt_lines, write_report
from analysis.report.evidence import read_evidence
from analysis.report.findings import doubts as report_doubts
from analysis.report.sweep_verdicts import judged
from analysis.report.sweeps import table as sweep_rows
from analysis.report.tables import rates_table
from analysis.synthetic import drawn_run, made_experiment, open_loop, rated, whole_report
from workloads.experiments import read_experiment
from workloads.records import Run

S = 10**9


def still(ends_s: np.ndarray, window_s: float) -> Any:
    return standstill((ends_s * S).astype(np.int64), (0, int(window_s * S)))


@pytest.mark.parametrize(
    ("window_s", "gap_s", "stood"),
    [(0.6, 0.14, False), (0.6, 0.16, True), (4, 0.9, False), (4, 1.1, True), (10, 0.9, False),
     (10, 1.1, True), (20, 1.1, True), (60, 2.9, False), (60, 3.1, True)],
)  # fmt: skip
def test_a_run_stands_still_for_a_noticeable_part_of_its_window(
    window_s: float, gap_s: float, stood: bool
) -> None:
    ends = np.arange(0.001, window_s, 0.001)
    for since in (0.0, 0.3 * window_s, window_s - gap_s):  # at its beginning and its end, too
        left = ends[(ends <= since) | (ends >= since + gap_s)]
        found = still(left, window_s)
        assert (found is not None) is stood
        if found is not None:
            assert found.lasted_s == pytest.approx(gap_s, abs=0.003)
            assert found.since_s == pytest.approx(since, abs=0.003)


@given(st.integers(0, 10**6), st.floats(0.5, 5_000), st.sampled_from([0.6, 3.0, 30.0]))
def test_commits_that_come_by_chance_never_stand_still(
    seed: int, per_s: float, window_s: float
) -> None:
    """The negative control: slow runs have long gaps, and that is their pace."""
    rng = np.random.default_rng(seed)
    ends = rng.uniform(0, window_s, rng.poisson(per_s * window_s))
    assert still(ends, window_s) is None


def test_a_run_without_a_commit_has_no_pace_that_it_could_lose() -> None:
    assert still(np.zeros(0), 1.0) is None
    assert still(np.array([0.5]), 0.0) is None
    # A few commits at once, and then none any more.
    assert still(np.linspace(0.001, 0.02, 10), 1.0) is not None


def stalled(seconds: float = 2.0, **more: Any) -> Run:
    """1,000 commits a second, but for none from 0.5 s to 1.5 s."""
    return rated(lambda t: 0 if 0.5 <= t < 1.5 else 1000, seconds, **more)


PRESSURE = {
    "cpu": {"some": 0.4, "full": 0.0},
    "io": {"some": 0.83, "full": 0.5},
    "memory": {"some": 0.0, "full": 0.0},
}


def test_a_run_that_stood_still_says_so_and_what_was_waited_for() -> None:
    made = stalled(pressure=PRESSURE)
    (text,) = (line for line in doubts(made, count(made, made.window_ns)) if "stood still" in line)
    assert text.startswith("It stood still: nobody committed for 1 s of 2 s, from 0.")
    assert text.endswith(
        " s on; somebody on the machine waited for the disk 83 % and for a CPU 40 % of the time."
    )
    without = stalled(pressure=None)
    assert "this kernel has no /proc/pressure" in "".join(doubts(without, count(without)))
    older = stalled()
    assert "was not recorded" in "".join(doubts(older, count(older)))
    assert "stood still" not in "".join(doubts(drawn_run(3), count(drawn_run(3))))


def test_an_open_loop_that_nobody_asks_anything_of_does_not_stand_still() -> None:
    made = open_loop(2, 60_000, seconds=8.0)
    assert count(made, made.window_ns).standstill is None


# --- beside the other runs of its arm ----------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms in six blocks: b02 of one made 40 % of the others, b04 of two stood still."""
    arms = {
        arm: {"busy_timeout_ms": 2000 + at, "writers": 1}
        for at, arm in enumerate(("one", "two", "three"))
    }

    def make(arm: str, block: int) -> Run:
        plan = {"busy_timeout_ms": arms[arm]["busy_timeout_ms"]}
        if (arm, block) == ("two", 4):
            return stalled(plan=plan, pressure=PRESSURE)
        per_s = 400 if (arm, block) == ("one", 2) else 1000
        return drawn_run(block, per_s=per_s, writers=1, seconds=2.0, plan=plan, pressure=PRESSURE)

    folder = tmp_path_factory.mktemp("odd")
    return made_experiment(folder / "odd", arms, make, blocks=6, baseline="one", name="odd")


def test_a_cell_is_held_against_the_others_of_its_arm(odd: Path) -> None:
    found = slumps(gather(read_experiment(odd)))
    assert set(found) == {(2, "one"), (4, "two")}
    assert re.match(
        r"made less than half of what its arm usually makes: 400 tx/s against (99\d|1,0[01]0) "
        r"\(somebody on the machine waited for the disk 83 %",
        found[2, "one"],
    )
    assert found[4, "two"].startswith("stood still: nobody committed for 1 s of 2 s, from 0.")


def test_it_is_marked_in_every_table_and_kept_in_the_numbers(odd: Path, tmp_path: Path) -> None:
    measured = gather(read_experiment(odd))
    assert len(measured.arms["one"].usable) == len(measured.arms["two"].usable) == 6
    table = arms_table(measured)
    assert {row[0]: row[1].endswith(" †") for row in table.rows} == {
        "one": True, "two": True, "three": False,
    }  # fmt: skip
    verdicts = {one.candidate.name: one for one in judged(measured)}
    (head, *_) = sweep_rows(measured, list(verdicts.values())).rows
    assert [cell.endswith(" †") for cell in head[1:3]] == [True, True]
    (text,) = (line for line in doubt_lines(measured) if "†" in line)
    assert text.startswith(
        "2 runs stood still or made less than half of what the arm usually makes"
    )
    assert "kept in all numbers" in text and "the first in b02, one" in text
    evidence = read_evidence(odd.parent)
    used = [row[-1] for row in rates_table(evidence, measured).rows]
    assert used == ["6 of 6, 1 of them odd (†)"] * 2 + ["6 of 6"]
    assert any("2 runs stood still" in line for line in report_doubts(evidence))
    cells = cells_table(measured)
    rows = [dict(zip(cells.head, row, strict=True)) for row in cells.rows]
    assert [row["block"] for row in rows if row["odd"]] == ["2", "4"]
    assert {row["pressure_io"] for row in rows} == {"0.83"}
    export(odd, "csv", "cells", tmp_path / "cells.csv")
    assert "stood still" in (tmp_path / "cells.csv").read_text()
    write_report(odd.parent, tmp_path / "REPORT.md", tmp_path / "figures")
    report = whole_report(tmp_path / "REPORT.md", tmp_path / "figures")
    assert "- b04, two: stood still: nobody committed for 1 s of 2 s" in report


def test_compare_says_which_of_its_runs_were_odd(
    odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["cwkit", "compare", f"{odd}:one", f"{odd}:two", "--json"]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit):
        cli.main()
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    notes = "\n".join(found["notes"])
    assert "1 of 6 runs of one stood still or made less than half" in notes
    assert "1 of 6 runs of two" in notes and "kept in the ratio" in notes
    assert found["blocks"] == 6 and found["odd"] == 2
    monkeypatch.setattr(sys, "argv", ["cwkit", "compare", str(odd)])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.count(" 6 † ") == 2  # A is in both


def test_arms_alike_in_all_blocks_are_not_marked(tmp_path: Path) -> None:
    """The negative control; and two runs say nothing of what an arm usually makes."""

    def make(arm: str, block: int) -> Run:
        return drawn_run(block, per_s=1000 + 300 * (block % 2), writers=2)

    measured = gather(read_experiment(made_experiment(tmp_path / "a", {"a": {}}, make, blocks=6)))
    assert slumps(measured) == {} and "†" not in "".join(arms_table(measured).rows[0])

    def few(arm: str, block: int) -> Run:
        return drawn_run(block, per_s=1000 if block else 100, writers=2)

    measured = gather(read_experiment(made_experiment(tmp_path / "b", {"b": {}}, few, blocks=2)))
    assert slumps(measured) == {}


def test_a_real_run_stands_still_where_its_only_writer_is_stopped(tmp_path: Path) -> None:
    """SIGSTOP for most of the run: nobody commits, and the run goes on."""
    import psutil

    from workloads.runs import make_plan, run

    stopped: list[psutil.Process] = []

    def pause(progress: Any) -> None:
        if progress.committed > 100 and not stopped:
            stopped.extend(
                c for c in psutil.Process().children() if c.cmdline()[-2:] == ["work", "0"]
            )
            stopped[0].suspend()
        if stopped and progress.phase == "measuring" and progress.elapsed_s > 1.5:
            stopped[0].resume()

    plan = make_plan(
        scenario="counter", database="null", writers=1, duration_s=2.0, warmup_s=0, seed=1
    )
    made = run(plan, tmp_path, on_progress=pause)
    assert stopped
    found = count(made, made.window_ns).standstill
    assert found is not None and found.lasted_s > 0.5
