"""The sentence about a log: its size, how often it began again, and why where rows show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.cli.run_summary import summary_lines
from analysis.counting.cells_table import cells_table
from analysis.counting.measured import gather
from analysis.counting.tally import count
from analysis.counting.wal_growth import Unread, Wal, unread
from analysis.report import arms_table, doubt_lines
from analysis.report.tables import wal_table
from analysis.synthetic import START_NS, attempts, made_experiment, made_run, made_worker
from workloads.experiments import read_experiment
from workloads.records import ATTEMPT, UNKNOWN, Run, WorkerRecord
from workloads.runs import make_plan, run

LARGE, SMALL = 60 << 20, 4 << 20
"""Beyond and below ten times the autocheckpoint of 1,000 pages."""


def rows_of(*spans: tuple[int, int | None]) -> np.ndarray:
    return attempts(
        *(
            {"start": a, "end": b} | ({} if b is not None else {"outcome": UNKNOWN})
            for a, b in spans
        )
    )


def made(
    *readers: np.ndarray, writers: int = 1, size: int = LARGE, wal: Any = ..., **plan: Any
) -> Run:
    """A run of writers that commit now and then, and of these readers."""
    writer = rows_of(*((at, at + 1_000) for at in range(0, 1_000_000, 10_000)))
    workers = [made_worker(n, writer) for n in range(writers)]
    workers += [
        made_worker(n, rows, role="reader", begin="deferred", worker=writers + n)
        for n, rows in enumerate(readers)
    ]
    recorded = {"bytes_max": size, "restarts": 0, "exact": True} if wal is ... else wal
    extra: dict[str, Any] = {"wal": recorded} if wal is not None else {}
    return made_run(workers, plan=plan, wal_bytes_max=size, **extra)


def log_of(run: Run) -> Wal:
    found = count(run, run.window_ns).wal
    assert found is not None
    return found


ALWAYS = (
    rows_of((0, 300_000), (400_000, 700_000), (800_000, None)),
    rows_of((250_000, 450_000), (650_000, 850_000)),
)


# --- the reason -------------------------------------------------------------------------------


def test_a_reader_that_was_always_open_is_the_reason() -> None:
    assert log_of(made(*ALWAYS)).why.startswith("a reader was always open, and while anybody")


def test_readers_that_were_nearly_always_open_are_told_with_the_moments_between() -> None:
    why = log_of(made(rows_of((0, 500_000), (502_000, 996_000), (997_000, None)))).why
    assert why.startswith("readers were open for 99.7 % of the window, and between them were 2 ")
    assert "moments of at most 2 ms" in why


def test_a_reader_that_was_cut_off_within_its_snapshot_was_open() -> None:
    cut = attempts({"start": 100_000, "outcome": UNKNOWN})
    cut["begun_ns"] = cut["worked_ns"] = cut["end_ns"] = 0  # as a row that nobody closed
    run = made(rows_of((0, 90_000)), cut, reader_holds_s=10.0)
    why = log_of(run).why
    assert why.startswith("readers were open for 99 % of the window, and between them ")
    writer = made_worker(0, cut)
    alone = made_run([writer], wal_bytes_max=LARGE, wal={"bytes_max": LARGE, "restarts": 0})
    assert "some transaction was open for 0 % of it" in log_of(alone).why, "it may wait in BEGIN"


def test_snapshots_that_are_kept_are_told_with_their_age() -> None:
    kept = rows_of((0, 400_000), (400_000, 800_000), (800_000, None))
    sentence = log_of(made(kept, reader_holds_s=0.4, size=SMALL)).sentence()
    assert sentence.endswith(
        "readers were to keep a snapshot for 400 ms and read in it again and again: 3 snapshots "
        "in the window, kept for 400 ms in the median"
    )
    assert "snapshot" not in log_of(made(kept, size=SMALL)).sentence()
    none = made(rows_of(), reader_holds_s=0.4, size=SMALL)
    assert (
        log_of(none).held
        == "readers were to keep a snapshot for 400 ms, and had none in the window"
    )


def test_writers_whose_snapshots_overlap_are_told_where_no_reader_was() -> None:
    both = [made_worker(n, rows) for n, rows in enumerate(ALWAYS)]
    recorded = {"bytes_max": LARGE, "restarts": 0, "exact": True}
    why = log_of(made_run(both, wal=recorded)).why
    assert why.startswith("some transaction was always open, writers' among them")


def test_where_nothing_checkpoints_that_is_the_reason() -> None:
    off = log_of(made(*ALWAYS, wal_autocheckpoint=0))
    assert off.why.startswith("nothing checkpointed it") and off.off
    assert "15.3 times SQLite's usual autocheckpoint (3.93 MiB; here it is off)" in off.sentence()
    checkpointer = made_worker(0, rows_of((0, 10)), role="checkpointer", begin="", worker=9)
    beside = made(*ALWAYS, wal_autocheckpoint=0)
    beside = made_run([*beside.workers, checkpointer], plan={"wal_autocheckpoint": 0},
                      wal=beside.manifest.wal)  # fmt: skip
    assert "a reader was always open" in log_of(beside).why


def test_a_reason_that_the_rows_do_not_show_is_not_known() -> None:
    """The negative control: readers that leave room are not blamed."""
    why = log_of(made(rows_of((0, 200_000), (500_000, 700_000)))).why
    assert why.startswith("why is not known; readers were open for 40 % of the window, and some")
    assert "there were no readers" in log_of(made()).why
    assert "always" not in log_of(made()).why


def test_a_log_that_kept_its_size_needs_no_reason() -> None:
    assert log_of(made(*ALWAYS, size=SMALL)).why == ""
    larger = made(*ALWAYS, size=SMALL * 9, wal_autocheckpoint=4000)
    assert log_of(larger).why == "" and log_of(larger).times == pytest.approx(9 / 3.93, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 1_200_000), st.integers(0, 400_000)), max_size=20))
def test_moments_in_which_nobody_reads_are_those_of_a_count_by_hand(
    spans: list[tuple[int, int]],
) -> None:
    window = (START_NS + 100_000_000, START_NS + 1_000_000_000)
    workers = [made_worker(n, rows_of((a, a + took))) for n, (a, took) in enumerate(spans)]
    open_at = np.zeros(900_000, bool)  # a moment for each microsecond
    for a, took in spans:
        open_at[max(a - 100_000, 0) : max(a + took - 100_000, 0)] = True
    assert unread(workers, window).total_ns == (~open_at).sum() * 1000
    edges = np.flatnonzero(np.diff(np.concatenate([[True], open_at, [True]]).astype(int)) == -1)
    assert unread(workers, window).size == len(edges)


# --- where it is told ---------------------------------------------------------------------------


def test_a_run_says_how_large_its_log_grew_and_how_often_it_began_again() -> None:
    def sentence(run: Run) -> str:
        return " ".join(line for line in summary_lines(run, 400) if line.startswith("log (WAL)"))

    grown = made(wal={"bytes_max": SMALL, "restarts": 12, "exact": True}, size=SMALL)
    assert sentence(grown) == (
        "log (WAL): grew to 4 MiB, 1.02 times its autocheckpoint (3.93 MiB), and began again 12 "
        "times."
    )
    cut = made(wal={"bytes_max": SMALL, "restarts": 12, "exact": False}, size=SMALL)
    assert "began again at least 12 times" in sentence(cut)
    assert sentence(made(*ALWAYS)).endswith("it cannot begin again.")
    assert "how often it began again was not recorded" in sentence(made(wal=None))
    none = made(size=0, wal=None)
    assert sentence(none) == ""  # an older run
    none.manifest.wal = None
    assert sentence(none) == "log (WAL): not applicable, no log of SQLite's format was there."


def test_tables_tell_it_for_each_arm(tmp_path: Path) -> None:
    arms = {arm: {"readers": at} for at, arm in enumerate(("alone", "read"))}

    def make(arm: str, block: int) -> Run:
        readers, size = (ALWAYS, LARGE) if arm == "read" else ((), SMALL)
        recorded = {"bytes_max": size + block, "restarts": 7 * (arm == "alone"), "exact": True}
        return made(*readers, size=size, wal=recorded)

    measured = gather(read_experiment(made_experiment(tmp_path / "e", arms, make, blocks=3)))
    alone, read = wal_table(measured).rows
    assert alone == ("alone", "4.00 MiB", "4.00 MiB", "1.02 ×", "7", "")
    assert read[4:] == ("0", f"3 of 3: {log_of(make('read', 0)).why}")
    table = arms_table(measured)
    by_arm = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert by_arm["read"]["WAL"] == "60.0 MiB"
    assert (by_arm["alone"]["restarts"], by_arm["read"]["restarts"]) == ("7", "0")
    (sentence,) = (line for line in doubt_lines(measured) if "outgrew" in line)
    assert sentence.startswith(
        "In 3 cells the log outgrew its autocheckpoint tenfold, the first b00, r"
    )
    cells = cells_table(measured)
    at = cells.head.index("wal_restarts")
    assert [row[at] for row in cells.rows] == ["7", "0"] * 3


# --- real runs ---------------------------------------------------------------------------------


def real(tmp_path: Path, **plan: Any) -> Run:
    given = {"scenario": "counter", "database": "sqlite", "writers": 1, "duration_s": 1.0,
             "warmup_s": 0.1, "synchronous": "off", "params": {"rows": 500, "record_bytes": 2000},
             "wal_autocheckpoint": 20} | plan  # fmt: skip
    return run(make_plan(**given), tmp_path)


def test_one_writers_log_begins_again_and_again(tmp_path: Path) -> None:
    log = log_of(real(tmp_path))
    assert log.restarts is not None and log.restarts > 3 and log.exact
    assert log.times < 10 and log.why == ""


def test_beside_a_reader_that_stays_the_log_outgrows_its_checkpoint_and_says_why(
    tmp_path: Path,
) -> None:
    """Three readers each sleep in their transaction until after the run: it has a second in which
    they may begin late, and half a second beyond its end.
    """
    thinking = {"rows": 500, "record_bytes": 2000, "read_think_us": 2_000_000, "think": "sleep"}
    made = real(tmp_path, readers=3, params=thinking, warmup_s=1.0, duration_s=0.5)
    log = log_of(made)
    assert log.restarts == 0
    assert log.times > 10
    assert log.why.startswith("a reader was always open")
    assert "a reader was always open" in " ".join(summary_lines(made, 400))


@pytest.mark.parametrize(
    "plan", [{"journal_mode": "delete"}, {"database": "turso", "begin": "concurrent"},
             {"database": "null"}],
    ids=["rollback journal", "turso", "null"],
)  # fmt: skip
def test_where_there_is_no_such_log_it_is_said(tmp_path: Path, plan: dict[str, Any]) -> None:
    made = real(tmp_path, duration_s=0.3, **plan)
    assert count(made).wal is None
    assert "log (WAL): not applicable" in " ".join(summary_lines(made))


def unread_as_it_was(workers: list[WorkerRecord], window_ns: tuple[int, int]) -> Unread:
    """With all rows at hand."""
    first, stop = window_ns
    rows = [w.attempts[w.attempts["begun_ns"] > 0] for w in workers]
    begun = np.concatenate([np.zeros(0, np.int64), *(part["begun_ns"] for part in rows)])
    ended = [np.where(part["end_ns"] == 0, stop, part["end_ns"]) for part in rows]
    end = np.concatenate([np.zeros(0, np.int64), *ended])
    order = np.argsort(begun, kind="stable")
    begun, end = np.clip(begun[order], first, stop), np.clip(end[order], first, stop)
    free = np.append(begun, stop) - np.maximum.accumulate(np.append(first, end))
    free = free[free > 0]
    return Unread(len(free), int(free.sum()), int(free.max(initial=0)))


def test_moments_without_a_transaction_are_those_found_with_all_rows_at_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("analysis.counting.wal_growth.piece_rows", lambda workers: 5)
    odd = 0
    for case in range(400):
        rng = np.random.default_rng([9, case])
        workers = []
        for number in range(int(rng.integers(0, 4))):
            rows = np.zeros(int(rng.integers(0, 40)), ATTEMPT)
            times = rng.integers(1, 1000, (len(rows), 2))
            times = times if rng.random() < 0.3 else np.sort(times.ravel()).reshape(-1, 2)
            rows["begun_ns"], rows["end_ns"] = times.min(axis=1), times.max(axis=1)
            odd += bool((np.diff(rows["begun_ns"]) < 0).any())
            rows["begun_ns"][rng.random(len(rows)) < 0.1] = 0
            rows["end_ns"][rng.random(len(rows)) < 0.1] = 0
            workers.append(made_worker(number, rows))
        window = tuple(np.sort(rng.integers(0, 1100, 2)).tolist())
        assert unread(workers, window) == unread_as_it_was(workers, window)
    assert 50 < odd < 350
