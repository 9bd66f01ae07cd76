"""An export holds all that was recorded: every attempt, under names, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from analysis.counting import tables_out
from analysis.counting.tables_out import RUN_COLUMNS, _rows, export
from analysis.counting.tally import count
from analysis.synthetic import drawn_run, made_experiment, rated, write_folder
from analysis.test_house import blocks_of
from workloads.errors import PlanError, RunError
from workloads.experiments import read_experiment
from workloads.records import COMMITTED, OUTCOMES, read_run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_experiment(
        tmp_path_factory.mktemp("made") / "two",
        {"one": {"writers": 2}, "two": {"writers": 2}},
        lambda arm, block: drawn_run([len(arm), block], abort=0.2, writers=2, per_s=200),
        blocks=2,
    )


def a_run(sweep: Path) -> Path:
    return next(
        cell.folder for cell in read_experiment(sweep).cells.values() if cell.folder is not None
    )


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_a_runs_attempts_come_out_as_they_went_in(
    sweep: Path, tmp_path: Path, format_: str
) -> None:
    folder, out = a_run(sweep), tmp_path / f"run.{format_}"
    rows = export(folder, format_, "attempts", out)
    read = pyarrow.parquet.read_table if format_ == "parquet" else pyarrow.csv.read_csv
    table, run = read(out), read_run(folder)
    assert table.column_names == RUN_COLUMNS.names
    assert len(table) == rows == sum(len(w.attempts) for w in run.workers)
    at = 0
    for worker in run.workers:
        mine = table.slice(at, len(worker.attempts))
        at += len(worker.attempts)
        outcomes = mine["outcome"].to_pylist()
        assert outcomes == [OUTCOMES[n] for n in worker.attempts["outcome"]]
        ends = np.array(mine["end_ns"]) + np.array(mine["window_ns"])
        assert np.array_equal(ends, worker.attempts["end_ns"])
        assert set(mine["engine"].to_pylist()) == {worker.engine}
    assert "conflict" in table["outcome"].to_pylist()  # or the test above compared nothing


@pytest.mark.parametrize(
    "argv", [("--format", ""), ("--format", "xlsx"), ("--what", "xlsx")], ids=" ".join
)
def test_a_form_that_there_is_not_is_one_sentence(
    argv: tuple[str, ...], sweep: Path, tmp_path: Path, cwkit: Any
) -> None:
    done = cwkit("export", a_run(sweep), *argv, "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"cwkit: {' '.join(argv)}: give " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_row_group_is_in_memory_at_a_time(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = read_run(a_run(sweep))
    export(run.folder, "parquet", "attempts", tmp_path / "whole")
    monkeypatch.setattr(tables_out, "GROUP_ROWS", 7)
    sizes = [len(table) for table in _rows(run.folder, sweep=False, what="attempts")]
    rest = [len(worker.rows) for worker in run.workers]
    assert sizes == [min(7, n - at) for n in rest for at in range(0, n, 7)]
    export(run.folder, "parquet", "attempts", tmp_path / "parts")
    whole, parts = (pyarrow.parquet.read_table(tmp_path / name) for name in ("whole", "parts"))
    assert whole.equals(parts) and len(whole) == sum(rest) > 14


def test_an_attempt_never_closed_has_no_end(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in a_run(sweep).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    rows = np.load(folder / "worker-000.npy")
    rows["end_ns"][-1] = rows["outcome"][-1] = 0
    np.save(folder / "worker-000.npy", rows)
    export(folder, "parquet", "attempts", tmp_path / "run.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet")
    assert table["end_ns"][len(rows) - 1].as_py() is None
    assert table["outcome"][len(rows) - 1].as_py() == "unknown"
    assert table["measured"][len(rows) - 1].as_py() is True  # counted, as unknown


def test_measured_is_what_cwkit_counts(tmp_path: Path) -> None:
    run = rated(lambda t: 3000 if t < 0.8 else 1000, 4, warmup_s=0.5)
    folder = write_folder(run, tmp_path / "run")
    export(folder, "parquet", "attempts", tmp_path / "run.parquet")
    measured = pyarrow.parquet.read_table(tmp_path / "run.parquet")["measured"].to_numpy()
    counted = count(run)
    assert counted.steady is not None and counted.steady.cut
    assert measured.sum() == counted.roles["writer"].committed
    assert measured.sum() < (run.workers[0].attempts["end_ns"] >= run.window_ns[0]).sum()


def test_a_sweep_comes_out_as_cells_or_as_all_their_attempts(sweep: Path, tmp_path: Path) -> None:
    assert export(sweep, "csv", "cells", tmp_path / "cells.csv") == 4
    assert len(pyarrow.csv.read_csv(tmp_path / "cells.csv")) == 4
    assert export(sweep, "parquet", "cells", tmp_path / "cells.parquet") == 4
    cells = pyarrow.parquet.read_table(tmp_path / "cells.parquet")
    assert {"block", "arm", "state", "committed_per_s", "abort_rate"} <= set(cells.column_names)
    assert cells["committed_per_s"].type == pyarrow.float64()
    rows = export(sweep, "parquet", "attempts", tmp_path / "all.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    assert len(table) == rows
    assert set(zip(table["block"].to_pylist(), table["arm"].to_pylist(), strict=True)) == {
        (block, arm) for block in (0, 1) for arm in ("one", "two")
    }


def test_what_cannot_be_exported_is_said_and_leaves_no_file(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="has no cells"):
        export(a_run(sweep), "csv", "cells", tmp_path / "x.csv")
    with pytest.raises(RunError, match="not a run folder"):
        export(tmp_path, "csv", "attempts", tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_the_pages_example_reads_what_was_exported(
    sweep: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = "docs/first-run.md"
    (code,) = [block for block in blocks_of(page, "python") if "run.parquet" in block]
    export(a_run(sweep), "parquet", "attempts", tmp_path / "run.parquet")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})
    run = read_run(a_run(sweep))
    rows = np.concatenate([w.attempts for w in run.workers if w.role == "writer"])
    rows = rows[rows["outcome"] == COMMITTED]
    took_us = (rows["end_ns"] - rows["intended_ns"]) / 1e3
    lines = [f"p{p}: {np.percentile(took_us, p):.1f} us" for p in (50, 99)]
    assert capsys.readouterr().out.splitlines() == lines
