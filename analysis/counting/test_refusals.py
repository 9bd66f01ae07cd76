"""Each refusal has its kind, what was waited beside it, and the way out: wherever it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from analysis.cli import app
from analysis.cli.run_summary import summary_lines
from analysis.counting.cells_table import cells_table
from analysis.counting.measured import gather
from analysis.counting.refusals import RefusalKey, refusal_lines, refusals_table
from analysis.counting.tables_out import export
from analysis.counting.tally import count, pooled
from analysis.report import write_report
from analysis.synthetic import (
    attempts,
    drawn_run,
    made_experiment,
    made_run,
    made_worker,
    whole_report,
    write_folder,
)
from analysis.synthetic.runs import BUSY_MESSAGE
from workloads.errors import RunError
from workloads.experiments import read_experiment
from workloads.records import (
    BEGIN,
    BUSY,
    CONFLICT,
    FAILED,
    MEANINGS,
    STATEMENT,
    UPGRADE,
    WITHIN_AT,
    Run,
    packed_within,
)
from workloads.runs import make_plan, run

UPGRADED: dict[str, Any] = {
    "outcome": CONFLICT,
    "conflict": UPGRADE,
    "phase": STATEMENT,
    "message": 1,
}
BUSY_AT_BEGIN: dict[str, Any] = {
    "outcome": CONFLICT,
    "conflict": BUSY,
    "phase": BEGIN,
    "message": 1,
}


def with_refusals(**more: Any) -> Run:
    """Upgrades refused after 60 µs, the last after 1 ms; locks waited for: 2 s and 2.4 s."""
    rows: list[dict[str, Any]] = [
        *({"start": 100 * n, "begun": 100 * n + 10, "worked": None, "end": 100 * n + 70} | UPGRADED
          for n in range(1, 5)),
        {"start": 1000, "begun": 1100, "worked": None, "end": 2100} | UPGRADED,
        {"start": 10_000, "begun": None, "worked": None, "end": 2_010_000} | BUSY_AT_BEGIN,
        {"start": 2_100_000, "begun": None, "worked": None, "end": 4_500_000} | BUSY_AT_BEGIN,
        {"start": 4_600_000, "end": 4_600_100, "outcome": FAILED, "phase": STATEMENT, "message": 2},
        {"start": 4_700_000, "end": 4_700_100},
    ]  # fmt: skip
    worker = made_worker(
        0, attempts(*rows), begin="deferred", messages=(BUSY_MESSAGE, "disk I/O error")
    )
    return made_run([worker], seconds=5.0, **more)


def counted(made: Run) -> Any:
    return count(made, made.window_ns).roles["writer"]


def call(*argv: object) -> Any:
    return CliRunner().invoke(app, [*map(str, argv)])


def test_a_line_has_the_median_and_the_longest_of_what_was_waited_at_most() -> None:
    table = refusals_table(counted(with_refusals()).waits_ns)
    lines = {(row[1], row[2]): (row[0], *row[3:]) for row in table.rows}
    assert lines == {
        ("statement", "upgrade"): ("5", "60 µs", "1 ms", BUSY_MESSAGE),
        ("begin", "busy"): ("2", "2.20 s", "2.40 s", BUSY_MESSAGE),
        ("statement", "failed"): ("1", "—", "—", "disk I/O error"),  # it waited for nobody
    }


def test_a_statement_is_timed_from_the_work_before_it_where_the_row_says_so() -> None:
    made = with_refusals()
    rows = made.workers[0].attempts
    upgraded = np.flatnonzero(rows["conflict"] == UPGRADE)
    table = rows.view("u1").reshape(len(rows), -1)
    for n in upgraded:
        table[n, WITHIN_AT:] = np.frombuffer(packed_within(7_000), "u1")
    waits = counted(made).waits_ns["statement", "upgrade", BUSY_MESSAGE]
    assert waits.tolist() == [7_000] * 5


def test_tallies_that_are_added_up_keep_every_wait() -> None:
    tally = counted(with_refusals())
    twice = pooled([tally, tally]).waits_ns
    assert {text: len(waits) for text, waits in twice.items()} == {
        text: 2 * len(waits) for text, waits in tally.waits_ns.items()
    }


def test_the_screen_says_what_a_kind_means_and_the_way_out_where_it_occurs_only() -> None:
    text = " ".join(" ".join(summary_lines(with_refusals())).split())
    for kind in ("upgrade", "busy"):
        assert f"{kind}: {MEANINGS[kind]}" in text
    assert "BEGIN IMMEDIATE avoids it" in text
    assert "stale:" not in text
    assert "wait ≤" not in " ".join(summary_lines(drawn_run(3)))
    assert refusal_lines({("statement", "", "disk I/O error"): np.array([1])}) == []


def test_rarer_lines_are_left_out_and_counted() -> None:
    waits: dict[RefusalKey, np.ndarray] = {
        ("begin", "busy", f"words {n}"): np.array([1] * (20 - n)) for n in range(12)
    }
    table = refusals_table(waits, shown=8)
    assert len(table.rows) == 8
    assert table.rows[0][-1] == "words 0"
    assert table.note == "4 rarer lines left out."


def test_cwkit_conflicts_tells_the_kinds_of_a_run_that_no_model_is_of(tmp_path: Path) -> None:
    done = call("conflicts", write_folder(with_refusals(), tmp_path / "20261122-a"))
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "writer 5 statement upgrade 60 µs 1 ms" in text
    assert "BEGIN IMMEDIATE avoids it" in text
    assert "Not predicted" in text


def test_cwkit_conflicts_tells_the_kinds_of_a_sweep_arm_by_arm(tmp_path: Path) -> None:
    plan = {"scenario": "register", "writers": 1, "begin": "deferred"}
    arms = {"one": plan, "two": plan | {"busy_timeout_ms": 5}}
    folder = made_experiment(tmp_path / "x", arms, lambda arm, block: with_refusals(), blocks=2)
    done = call("conflicts", folder)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "one writer 10 statement upgrade 60 µs 1 ms" in text
    assert "two writer 4 begin busy 2.20 s 2.40 s" in text


def test_cwkit_conflicts_of_a_run_without_any_is_refused_in_one_sentence(tmp_path: Path) -> None:
    done = call("conflicts", write_folder(drawn_run(1), tmp_path / "20261122-b"))
    assert isinstance(done.exception, RunError)


def test_an_abort_rate_is_compared_with_the_kinds_it_is_made_of(tmp_path: Path) -> None:
    a = write_folder(with_refusals(name="20261122-a"), tmp_path / "20261122-a")
    b = write_folder(drawn_run(2, abort=0.3, writers=1, seconds=5.0), tmp_path / "20261122-b")
    argv = ("compare", a, b, "--measure", "abort-rate", "--vary", "begin,read_begin")
    done = call(*argv)
    assert "2 busy, 5 upgrade" in " ".join(done.output.split()), done.output
    assert f"upgrade: {MEANINGS['upgrade']}" in " ".join(done.output.split())
    found = json.loads(call(*argv, "--json").output)["comparisons"][0]["refused"]
    assert found["a"] == {"busy": 2, "upgrade": 5}
    assert set(found["b"]) == {"busy", "stale"}
    assert "upgrade" not in call(*argv[:3], "--vary", "begin,read_begin").output


def test_what_is_exported_has_the_kind_and_the_time(tmp_path: Path) -> None:
    folder = write_folder(with_refusals(), tmp_path / "run")
    export(folder, "parquet", "attempts", tmp_path / "run.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet")
    found = list(zip(table["conflict"].to_pylist(), table["within_ns"].to_pylist(), strict=True))
    assert found[4:] == [
        ("upgrade", 1_000_000), ("busy", 2_000_000_000), ("busy", 2_400_000_000),
        ("", None), ("", None),
    ]  # fmt: skip


def test_a_sweeps_cells_have_their_refusals_by_kind(tmp_path: Path) -> None:
    folder = made_experiment(
        tmp_path / "x", {"one": {"writers": 1}}, lambda arm, block: with_refusals(), blocks=1
    )
    table = cells_table(gather(read_experiment(folder)))
    row = dict(zip(table.head, table.rows[0], strict=True))
    assert (row["refused_busy"], row["refused_upgrade"], row["refused_stale"]) == ("2", "5", "0")


def test_the_report_has_the_waits_and_the_way_out(tmp_path: Path) -> None:
    plan = {"scenario": "register", "writers": 1, "begin": "deferred"}
    made_experiment(
        tmp_path / "runs" / "x", {"one": plan}, lambda arm, block: with_refusals(), blocks=2
    )
    write_report(tmp_path / "runs", tmp_path / "REPORT.md", tmp_path / "figures")
    text = whole_report(tmp_path / "REPORT.md", tmp_path / "figures")
    line = f"| libsql | BEGIN | 10 | statement | upgrade | 60 µs | 1 ms | {BUSY_MESSAGE} |"
    assert line in text
    assert f"- upgrade: {MEANINGS['upgrade']}" in text
    assert "+ upgrade |" in text


@pytest.mark.parametrize("name", ["sqlite"])
def test_a_real_run_that_upgrades_is_told_why_its_timeout_did_not_apply(
    name: str, tmp_path: Path
) -> None:
    plan = make_plan(
        scenario="counter",
        database=name,
        writers=3,
        begin="deferred",
        params={"rows": 1, "think_us": 2000, "think": "sleep"},
        duration_s=60,
        warmup_s=0,
        transactions=40,
        busy_timeout_ms=60_000,
    )
    text = " ".join(" ".join(summary_lines(run(plan, tmp_path))).split())
    assert "BEGIN IMMEDIATE avoids it" in text
    assert "busy:" not in text and "unclassified:" not in text
