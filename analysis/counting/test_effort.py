"""Where the workers' time went: every nanosecond of the window is in exactly one term.

worker-seconds = attempts that committed + wasted + waiting in an open BEGIN + between attempts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.cli.run_summary import effort_line, summary_lines
from analysis.counting.cells_table import cells_table
from analysis.counting.measured import gather
from analysis.counting.tables_out import export
from analysis.counting.tally import Tally, count, count_worker, pooled, time_in, together
from analysis.report.tables import effort_table
from analysis.synthetic import (
    START_NS,
    attempts,
    made_experiment,
    made_run,
    made_worker,
    write_folder,
)
from workloads.experiments import read_experiment
from workloads.records import BUSY, COMMITTED, CONFLICT, FAILED, UNKNOWN, Run
from workloads.runs import make_plan, run

WINDOW = (START_NS + 500_000_000, START_NS + 1_500_000_000)
REFUSED: dict[str, object] = {"outcome": CONFLICT, "conflict": BUSY, "phase": 1}


def between_ns(rows: np.ndarray, window_ns: tuple[int, int]) -> int:
    """The time of a window in which a worker had no attempt open, gap by gap."""
    first, stop = window_ns
    at, free = first, 0
    for start, end in zip(rows["start_ns"].tolist(), rows["end_ns"].tolist(), strict=True):
        free += max(min(start, stop) - at, 0)
        at = max(at, min(end or stop, stop))
    return free + max(stop - at, 0)


def adds_up(tally: Tally) -> bool:
    parts = (tally.committed_ns, tally.wasted_ns, tally.waiting_ns, tally.outside_ns)
    return (
        sum(parts) == tally.worker_ns and min(parts) >= 0 and 0 <= tally.open_ns <= tally.wasted_ns
    )


# --- by hand -----------------------------------------------------------------------------------


def one(*rows: Mapping[str, object], seconds: float = 1.0) -> Tally:
    made = made_run([made_worker(0, attempts(*rows))], seconds=seconds)
    return count(made, made.window_ns).roles["writer"]


def test_a_begin_that_waits_beyond_the_window_is_waiting_and_is_shown() -> None:
    """It waits 2 s for its lock, and the window is 0.6 s: nothing was ever counted of it."""
    tally = one(REFUSED | {"start": 60_000, "begun": None, "worked": None, "end": 2_060_000},
                seconds=0.6)  # fmt: skip
    assert tally.attempts == 0
    assert tally.worker_ns == 600_000_000
    assert tally.waiting_ns == tally.attempts_ns == 540_000_000
    assert tally.outside_ns == 60_000_000
    assert tally.wasted_ns == tally.committed_ns == tally.open_ns == 0
    assert tally.wasted == 0 and tally.longest_ns == 540_000_000
    assert "; waiting in BEGIN at the end 100 %;" in effort_line(tally)


def test_an_attempt_still_open_after_its_begin_is_wasted_but_its_begin_was_waiting() -> None:
    tally = one(
        {"start": 0, "end": 400_000},
        {"start": 500_000, "begun": 600_000, "worked": None, "end": None, "outcome": UNKNOWN},
    )
    assert tally.committed_ns == 400_000_000
    assert tally.waiting_ns == 100_000_000
    assert tally.open_ns == tally.wasted_ns == 400_000_000
    assert tally.outside_ns == 100_000_000
    text = effort_line(tally)
    assert text.startswith(
        "wasted 44 % of the time in attempts, of which still open at the end 44 %; waiting in "
        "BEGIN at the end 11 %; CPU"
    )


def test_what_commits_after_the_window_had_not_committed_in_it() -> None:
    tally = one({"start": 900_000, "begun": 900_000, "worked": 990_000, "end": 1_200_000})
    assert tally.committed == tally.committed_ns == 0
    assert tally.open_ns == tally.wasted_ns == 100_000_000


def test_an_attempt_from_before_the_window_counts_from_its_start() -> None:
    rows = attempts(
        {"start": 0, "end": 700_000},  # 0.2 s of it
        {"start": 700_000, "end": 800_000} | REFUSED,
        {"start": 900_000, "end": 1_000_000, "outcome": FAILED},
        {"start": 1_400_000, "begun": 1_600_000, "end": 1_700_000},  # its BEGIN returned later
        {"start": 1_800_000, "end": 1_900_000},  # begun after it
    )
    tally = count_worker(made_worker(0, rows), WINDOW)
    assert tally.committed_ns == 200_000_000
    assert tally.wasted_ns == 200_000_000 and tally.open_ns == 0
    assert tally.waiting_ns == 100_000_000
    assert tally.outside_ns == 500_000_000 == between_ns(rows, WINDOW)
    lasted, still_open, waited = time_in(rows, WINDOW)
    assert (lasted / 1e6).tolist() == [200, 100, 100, 100, 0]
    assert still_open.tolist() == [False, False, False, True, True]
    assert waited.sum() == tally.waiting_ns


def test_one_that_lasts_longer_than_the_window_fills_it() -> None:
    for begun, waiting in ((None, 1.0), (750_000, 0.25), (100_000, 0.0)):
        rows = attempts({"start": 0, "begun": begun, "worked": None, "end": 3_000_000} | REFUSED)
        tally = count_worker(made_worker(0, rows), WINDOW)
        assert tally.waiting_ns == waiting * 1e9 and tally.outside_ns == 0
        assert tally.open_ns == (1 - waiting) * 1e9
        assert adds_up(tally)


def test_where_hardly_anything_was_open_no_word_is_lost_on_it() -> None:
    tally = one({"start": 0, "end": 990_000}, {"start": 999_990, "begun": None, "end": None,
                                              "worked": None, "outcome": UNKNOWN})  # fmt: skip
    assert tally.waiting_ns == 10_000
    assert effort_line(tally).startswith("wasted 0 % of the time in attempts; CPU")


# --- as an equation ----------------------------------------------------------------------------

STEP = st.tuples(
    st.integers(0, 400_000),  # before it, us
    st.integers(0, 600_000),  # BEGIN
    st.integers(0, 600_000),  # the rest
    st.sampled_from([COMMITTED, CONFLICT, FAILED]),
)


AT_WORK: dict[str, object] = {"conflict": BUSY, "phase": 2}


@st.composite
def one_after_the_other(draw: st.DrawFn) -> np.ndarray:
    """A worker's attempts, of which the last may never have been closed."""
    rows: list[dict[str, object]] = []
    at = draw(st.integers(0, 2_000_000))
    for before, begin, rest, outcome in draw(st.lists(STEP, max_size=12)):
        start = at + before
        at = start + begin + rest
        row: dict[str, object] = {"start": start, "begun": start + begin, "end": at}
        rows.append(row | {"outcome": outcome} | (AT_WORK if outcome == CONFLICT else {}))
    if draw(st.booleans()) and rows:
        rows[-1] |= {"end": None, "worked": None, "outcome": UNKNOWN}
        if draw(st.booleans()):
            rows[-1]["begun"] = None
    return attempts(*rows)


@given(st.lists(one_after_the_other(), min_size=1, max_size=4))
def test_worker_seconds_are_committed_wasted_waiting_and_between(parts: list[np.ndarray]) -> None:
    tallies = [count_worker(made_worker(n, rows), WINDOW) for n, rows in enumerate(parts)]
    for rows, tally in zip(parts, tallies, strict=True):
        assert adds_up(tally)
        assert tally.outside_ns == between_ns(rows, WINDOW)
    for both in (together(tallies), pooled(tallies)):
        assert adds_up(both)
        assert both.worker_ns == len(parts) * 10**9
        assert both.outside_ns == sum(between_ns(rows, WINDOW) for rows in parts)


def real(tmp_path: Path, **plan: object) -> Run:
    params = {"rows": 100, "think_us": 20_000, "think": "sleep"}
    given = {"scenario": "counter", "database": "libsql", "writers": 4, "duration_s": 0.6,
             "warmup_s": 0.1, "params": params} | plan  # fmt: skip
    return run(make_plan(**given), tmp_path)


@pytest.mark.parametrize(
    "plan",
    [
        {"begin": "immediate"},
        {"begin": "deferred", "busy_timeout_ms": 50, "writers": 2},
        {"database": "sqlite-concurrent", "begin": "concurrent", "writers": 2, "readers": 1},
        pytest.param({"database": "turso", "begin": "concurrent"}, marks=pytest.mark.slow),
        {"begin": "immediate", "rate": 100, "writers": 2},
    ],
    ids=["immediate", "deferred", "concurrent", "turso", "open-loop"],
)
def test_a_real_runs_worker_seconds_add_up(tmp_path: Path, plan: dict[str, object]) -> None:
    made = real(tmp_path, **plan)
    counted = count(made, made.window_ns)
    for worker, found in zip(made.workers, counted.workers, strict=True):
        assert adds_up(found.tally)
        assert found.tally.outside_ns == between_ns(worker.attempts, made.window_ns)
    for role, tally in counted.roles.items():
        assert adds_up(tally)
        assert tally.worker_ns == len(made.role(role)) * (made.window_ns[1] - made.window_ns[0])


def test_writers_that_wait_for_the_one_lock_are_seen_waiting(tmp_path: Path) -> None:
    """One works for longer than the window and holds the lock; the other three wait for it."""
    made = real(tmp_path, params={"rows": 100, "think_us": 1_000_000, "think": "sleep"})
    tally = count(made, made.window_ns).roles["writer"]
    assert tally.committed == 0
    assert tally.waiting_ns > 0.6 * tally.worker_ns
    assert tally.open_ns > 0.2 * tally.worker_ns
    assert tally.longest_ns > 0.5e9
    text = " ".join(summary_lines(made, 300))
    assert "of which still open at the end 2" in text and "waiting in BEGIN at the end 7" in text


# --- where it is told --------------------------------------------------------------------------


def test_tables_and_exports_have_the_same_time(tmp_path: Path) -> None:
    rows = attempts(
        {"start": 0, "end": 400_000},
        {"start": 500_000, "end": 600_000} | REFUSED,
        {"start": 600_000, "begun": 700_000, "worked": None, "end": 2_000_000, "outcome": FAILED},
    )

    def make(arm: str, block: int) -> Run:
        return made_run([made_worker(0, rows)], plan={"transactions": 1})

    measured = gather(read_experiment(made_experiment(tmp_path / "e", {"a": {}}, make, blocks=2)))
    assert effort_table(measured).rows == [
        ("a", "writer", "2 s", "40 %", "10 %", "30 %", "10 %", "10 %")
    ]
    cells = cells_table(measured)
    row = dict(zip(cells.head, cells.rows[0], strict=True))
    parts = [float(row[f"time_{part}"]) for part in ("committed", "wasted", "waiting", "outside")]
    assert parts == [0.4, 0.4, 0.1, 0.1] and math.isclose(sum(parts), 1)
    assert row["time_open"] == "0.3"
    folder = write_folder(make("a", 0), tmp_path / "run")
    export(folder, "parquet", "attempts", tmp_path / "run.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet").to_pydict()
    assert [ns / 1e6 for ns in table["in_window_ns"]] == [400, 100, 400]
    assert table["still_open"] == [False, False, True]
