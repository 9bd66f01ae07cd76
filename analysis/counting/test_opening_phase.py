"""Opening or borrowing a connection is a phase of its own, in the tables of runs and of sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from analysis.cli.documents import run_document
from analysis.cli.run_summary import summary_lines
from analysis.counting.cells_table import cells_table
from analysis.counting.measured import gather
from analysis.counting.opens import latency_stages, within_attempts
from analysis.counting.tables_out import export
from analysis.counting.tally import count
from analysis.report import arms_table
from analysis.synthetic import attempts
from workloads.errors import PlanError
from workloads.experiments import Design, read_experiment, read_sweep, run_experiment
from workloads.records import OPEN_ROW, Run


def test_opening_is_told_apart_from_the_begin_that_it_is_in() -> None:
    rows = attempts({"start": 1_000, "end": 2_500}, {"start": 3_000, "end": 3_400})
    rows["begun_ns"] = rows["start_ns"] + 900_000
    opens = np.zeros(1, OPEN_ROW)
    opens["start_ns"] = rows["start_ns"][0] + 5_000
    opens["opened_ns"] = rows["start_ns"][0] + 605_000
    assert within_attempts(rows, opens).tolist() == [600_000, -1]
    assert within_attempts(rows, opens[:0]).tolist() == [-1, -1]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arms that keep their connections, open one for each attempt, borrow one, or start cold."""
    plan = {"scenario": "counter", "database": "sqlite", "writers": 2, "transactions": 15,
            "synchronous": "off"}  # fmt: skip
    arms = {
        "kept": plan,
        "opened": plan | {"connection": "per-transaction"},
        "borrowed": plan | {"connection": "shared"},
        "cold": plan | {"cold_start": True},
    }
    folder = tmp_path_factory.mktemp("opens") / "sweep"
    run_experiment(Design("opens", "What does it cost?", arms, 1, 1, "kept"), folder)
    return folder


def run_of(sweep: Path, arm: str) -> Run:
    return read_experiment(sweep).cells[0, arm].read()


@pytest.mark.parametrize(("arm", "stage"), [("opened", "open"), ("borrowed", "borrow")])
def test_opening_or_borrowing_is_a_row_of_the_latencies(sweep: Path, arm: str, stage: str) -> None:
    run = run_of(sweep, arm)
    counted = count(run)
    stages = latency_stages(run, counted, "writer")
    names = list(stages)
    assert names[names.index("begin") - 1] == stage
    both = stages[stage][-1] + stages["begin"][-1]
    within = counted.roles["writer"].latency()["begin"][-1]
    assert max(stages[stage][-1], stages["begin"][-1]) <= within <= both
    assert any(line.split()[:1] == [stage] for line in summary_lines(run))
    assert stage in run_document(run)["roles"][0]["latency_ns"]


def test_kept_connections_have_the_rows_that_they_always_had(sweep: Path) -> None:
    run = run_of(sweep, "kept")
    counted = count(run)
    stages = latency_stages(run, counted, "writer")
    assert list(stages) == list(counted.roles["writer"].latency()) and "open" not in stages


def test_a_sweeps_tables_have_what_opening_took(sweep: Path) -> None:
    measured = gather(read_experiment(sweep), 1.0)
    table = cells_table(measured)
    rows = {row[1]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert float(rows["opened"]["open_p50_us"]) > 0 and rows["kept"]["open_p50_us"] == ""
    assert rows["borrowed"]["open_p99_us"] and rows["borrowed"]["ready_us"] == ""
    assert float(rows["cold"]["ready_us"]) > 0 and rows["cold"]["start_refused"].isdigit()
    shown = arms_table(measured)
    each = {row[0]: dict(zip(shown.head, row, strict=True)) for row in shown.rows}
    assert each["kept"]["open p50"] == each["kept"]["ready"] == "—"
    assert each["opened"]["open p50"].endswith("s") and each["cold"]["ready"].endswith("s")


def test_an_export_of_attempts_has_what_opening_took(sweep: Path, tmp_path: Path) -> None:
    export(sweep, "parquet", "attempts", tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    for arm, known in (("kept", False), ("opened", True), ("borrowed", True), ("cold", False)):
        mine = [row["open_ns"] for row in table if row["arm"] == arm]
        assert len(mine) == 30 and all((ns is not None) == known for ns in mine), arm


def test_both_are_axes_of_a_sweeps_file(tmp_path: Path) -> None:
    file = tmp_path / "both.toml"
    text = """name = "both"
question = "What do they cost?"
blocks = 1

[plan]
scenario = "counter"
database = "sqlite"
writers = 2
readers = {readers}

[grid]
cold_start = [false, true]
reader_holds_s = [0, 0.5]
"""
    file.write_text(text.format(readers=1), encoding="utf-8")
    arms = read_sweep(file).design.points.values()
    assert {(arm["cold_start"], arm["reader_holds_s"]) for arm in arms} == {
        (False, 0), (False, 0.5), (True, 0), (True, 0.5),
    }  # fmt: skip
    file.write_text(text.format(readers=0), encoding="utf-8")
    with pytest.raises(PlanError, match="--reader-holds: there are no readers"):
        read_sweep(file)
