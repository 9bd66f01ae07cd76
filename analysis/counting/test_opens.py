"""Openings, recoveries and closings are told apart, and only those of the window are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analysis.cli.run_summary import summary_lines
from analysis.counting.opens import opening_times
from analysis.synthetic import START_NS, attempts, made_run, made_worker
from workloads.records import FIRST, LAST, RECOVERY, OpenRecorder, Run

MS = 1_000_000


def made(folder: Path) -> Run:
    recorder = OpenRecorder(folder, 0)
    for at, how in enumerate((0, FIRST, FIRST | RECOVERY, LAST)):
        start = START_NS + at * 100 * MS
        recorder.add(start, start + (1 + at) * MS, start + 50 * MS, start + (60 + at) * MS, how)
    late = START_NS + 2_000 * MS
    recorder.add(late, late + 5 * MS, late + 6 * MS, late + 7 * MS, 0)
    recorder.close()
    rows = attempts(*({"start": 100_000 * i, "end": 100_000 * i + 40_000} for i in range(4)))
    plan = {"connection": "per-transaction"}
    return replace(made_run([made_worker(0, rows)], plan=plan), folder=folder)


def test_openings_of_the_window_are_told_apart(tmp_path: Path) -> None:
    found = opening_times(made(tmp_path), "writer", (START_NS, START_NS + 1_000 * MS))
    assert {name: (values // MS).tolist() for name, values in found.items()} == {
        "open": [1, 4],
        "open, first": [2],
        "open, recovery": [3],
        "close": [10, 11, 12],
        "close, last": [13],
    }


def test_show_has_a_table_of_connecting_and_none_where_connections_are_kept(
    tmp_path: Path,
) -> None:
    run = made(tmp_path)
    text = " ".join(" ".join(summary_lines(run, 200)).split())
    assert "connection per-transaction: each attempt opens its own and closes it" in text
    assert "open, recovery 1" in text and "close, last 1" in text
    kept = made_run([made_worker(0, run.workers[0].attempts)])
    assert not any("connection" in line for line in summary_lines(kept, 200))
