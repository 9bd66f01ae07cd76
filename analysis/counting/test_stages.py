"""Each stage of load has its own row."""

from __future__ import annotations

from pathlib import Path

from analysis.cli.run_summary import summary_lines
from analysis.counting.stages import stages_table
from analysis.counting.tally import count
from workloads.runs import make_plan, run


def test_each_stage_has_its_row_with_what_was_due_and_served(tmp_path: Path) -> None:
    plan = make_plan(
        scenario="counter", database="null", writers=2, warmup_s=0, stages="0.3s:100/s,0.3s:2000/s"
    )
    made = run(plan, tmp_path)
    counted = count(made)
    assert not counted.undrawn, "its arrivals are drawn again"
    table = stages_table(made)
    assert table is not None
    due = [float(row[1].replace(",", "")) for row in table.rows]
    assert [row[0] for row in table.rows] == ["0.3 s at 100/s", "0.3 s at 2,000/s"]
    assert due[0] < 300 < 1_300 < due[1]
    lines = " ".join(" ".join(summary_lines(made, 200)).split())
    assert "in the mean of its stages 0.3s:100/s,0.3s:2000/s" in lines
    assert "0.3 s at 2,000/s" in lines and "No steady state" not in lines


def test_a_run_without_stages_has_no_table(tmp_path: Path) -> None:
    plan = make_plan(scenario="counter", database="null", writers=1, transactions=1)
    assert stages_table(run(plan, tmp_path)) is None
