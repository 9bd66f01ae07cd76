"""Rows read piece by piece are those that were read whole, whatever their files look like."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.errors import RunError
from workloads.records import rows as reading
from workloads.records.attempts import AttemptRecorder
from workloads.records.outcomes import CAUSES, CONFLICT, CONFLICTS, OPEN, OUTCOMES, PHASES, UNKNOWN
from workloads.records.rows import (
    ATTEMPT,
    CLOSE_AT,
    CLOSE_PART,
    OPEN_PART,
    ROW_BYTES,
    Recent,
    Rows,
    StoredRows,
    read_attempts,
    read_segment,
    segment_path,
)

CASES = 100


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Rows of one worker: retried transactions, refusals, the last row at times never closed."""
    rows = np.zeros(count, ATTEMPT)
    again = rng.random(count) < rng.choice([0, 0.3, 0.9])
    rows["txn"] = np.maximum(np.cumsum(~again) - 1, 0)
    times = np.sort(rng.integers(1, 1_000, (count, 4)), axis=1)
    for name, column in zip(("start_ns", "begun_ns", "worked_ns", "end_ns"), times.T, strict=True):
        rows[name] = column
    rows["outcome"] = rng.integers(1, len(OUTCOMES), count)
    rows["phase"] = rng.integers(0, len(PHASES), count)
    if count and rng.random() < 0.5:
        rows["outcome"][-1] = OPEN
    return rows


def write(
    folder: Path,
    rng: np.random.Generator,
    rows: np.ndarray,
    *,
    unused: int = 0,
    holes: bool = False,
) -> None:
    """Files of some rows each, as a killed worker leaves them: `unused` rows behind the last."""
    folder.mkdir(exist_ok=True)
    size = int(rng.integers(1, 12))
    for segment, at in enumerate(range(0, max(len(rows), 1), size)):
        part = rows[at : at + size]
        if holes:
            part = np.insert(part, len(part) // 2, np.zeros(1, ATTEMPT))
        if at + size >= len(rows):
            part = np.append(part, np.zeros(unused, ATTEMPT))
        np.save(segment_path(folder, 0, segment), part)


def whole(folder: Path) -> np.ndarray:
    """The rows as they were read until now: all files at once."""
    paths = takewhile(Path.exists, (segment_path(folder, 0, n) for n in range(1000)))
    found = np.concatenate([np.load(path) for path in paths])
    found = found[found["start_ns"] != 0]
    found["outcome"][found["outcome"] == OPEN] = UNKNOWN
    return found


@pytest.mark.parametrize("kept", [True, False], ids=["kept a while", "read again"])
def test_pieces_are_the_rows_that_are_read_whole(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr(reading, "RECENT", Recent(0))
    several = opened = 0
    for case in range(CASES):
        rng = np.random.default_rng([412, case])
        folder = tmp_path / f"{case}"
        rows = drawn(rng, int(rng.integers(0, 60)))
        write(folder, rng, rows, unused=int(rng.integers(0, 5)), holes=rng.random() < 0.2)
        expected, found = whole(folder), StoredRows(folder, 0)
        several += segment_path(folder, 0, 1).exists()
        opened += bool(len(rows)) and rows["outcome"][-1] == OPEN
        assert len(found) == len(expected) == len(rows)
        for most in (1, 3, 1000):
            assert_same(np.concatenate(list(found.pieces(most))), expected)
            assert max(map(len, found.pieces(most))) <= most
        assert_same(found.whole(), expected)
        assert_same(read_attempts(folder, 0), expected)
        for source in (found, Rows(expected)):
            parts = list(source.transactions(int(rng.integers(1, 9))))
            assert_same(np.concatenate(parts), expected)
            for one, other in pairwise(parts):
                assert one["txn"][-1] != other["txn"][0]
    assert several > 50 and opened > 25


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def test_a_worker_still_at_work_is_what_it_was_when_its_rows_were_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RECENT", Recent(0))
    rows = np.zeros(5, ATTEMPT)
    rows["start_ns"], rows["txn"], rows["outcome"] = (
        [1, 2, 3, 0, 0],
        [0, 1, 2, 0, 0],
        [1, 1, 0, 0, 0],
    )
    np.save(segment_path(tmp_path, 0, 0), rows)
    found = StoredRows(tmp_path, 0)
    before = np.concatenate(list(found.pieces()))
    assert before["outcome"].tolist() == [1, 1, UNKNOWN]
    rows["start_ns"][3], rows["outcome"][2:4], rows["end_ns"][2] = 4, 1, 9
    np.save(segment_path(tmp_path, 0, 0), rows)
    np.save(segment_path(tmp_path, 0, 1), rows)
    assert_same(np.concatenate(list(found.pieces())), before)
    assert len(StoredRows(tmp_path, 0)) == 8


def test_files_that_are_gone_between_two_readings_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RECENT", Recent(0))
    write(tmp_path, np.random.default_rng(1), drawn(np.random.default_rng(2), 30))
    found = StoredRows(tmp_path, 0)
    segment_path(tmp_path, 0, 1).unlink()
    with pytest.raises(RunError, match="changed while they were read"):
        list(found.pieces())


FAULTS: dict[str, Any] = {
    "outcome": lambda row, n: row.update(outcome=len(OUTCOMES)),
    "conflict": lambda row, n: row.update(outcome=CONFLICT, conflict=len(CONFLICTS)),
    "cause": lambda row, n: row.update(outcome=1, conflict=max(CAUSES) + 1),
    "phase": lambda row, n: row.update(phase=len(PHASES)),
    "number": lambda row, n: row.update(txn=n),
    "late": lambda row, n: row.update(end_ns=10**6),
    "order": lambda row, n: row.update(begun_ns=1, start_ns=2),
    "intended": lambda row, n: row.update(intended_ns=-1),
}


def test_the_fault_that_is_told_is_the_one_that_was_told_of_all_rows_at_once(
    tmp_path: Path,
) -> None:
    told = set()
    for case in range(CASES):
        rng = np.random.default_rng([7, case])
        rows = drawn(rng, int(rng.integers(3, 60)))
        for name in rng.choice(list(FAULTS), int(rng.integers(1, 4)), replace=False):
            at = int(rng.integers(0, len(rows)))
            row = dict(zip(ATTEMPT.names or (), rows[at], strict=True))
            FAULTS[name](row, len(rows) + int(rng.integers(0, 3)))
            rows[at] = tuple(row.values())
        folder = tmp_path / f"{case}"
        write(folder, rng, rows)
        expected = ""
        bad = reading._unsound(rows, (0, 10_000)) | {
            reading._Faults.NUMBER: rows["txn"] >= len(rows)
        }
        for what, which in bad.items():
            if not expected and which.any():
                expected = f"row {int(np.argmax(which))} {what}"
        told.add(expected.partition(" ")[2].partition(" ")[2])
        with pytest.raises(RunError) as caught:
            StoredRows(folder, 0, (0, 10_000))
        assert f"were edited: {expected}." in str(caught.value)
    assert len(told) >= 7


def test_a_file_is_read_no_further_than_it_is_asked_for(tmp_path: Path) -> None:
    rows = drawn(np.random.default_rng(3), 20)
    np.save(segment_path(tmp_path, 0, 0), rows)
    pieces = list(read_segment(segment_path(tmp_path, 0, 0), 11, 4))
    assert [(at, len(piece)) for at, piece in pieces] == [(0, 4), (4, 4), (8, 3)]
    assert_same(np.concatenate([piece for _, piece in pieces]), rows[:11])


def test_what_was_read_last_is_kept_up_to_so_many_bytes() -> None:
    kept = Recent(100)
    for key in range(6):
        kept.put(key, str(key), 20)
        kept.get(0)
    assert [kept.get(key) for key in range(6)] == ["0", None, "2", "3", "4", "5"]
    kept.put(6, "too large", 26)
    assert kept.get(6) is None
    kept.put(0, "larger", 25)
    assert kept.get(0) == "larger" and kept.get(2) is None


class AtWork:
    """A worker that writes its rows while they are read: each is copied a moment after the one
    before, and the worker may have gone on by many rows in between, or stand in the middle of one.
    """

    def __init__(self, rng: np.random.Generator, rows: np.ndarray, size: int) -> None:
        self.rng, self.rows, self.size = rng, rows, size
        self.now = int(rng.integers(0, 4 * len(rows) + 1))

    def closed(self) -> int:
        """Rows that are written."""
        return min((self.now + 1) // 4, len(self.rows))

    def state(self, at: int) -> bytes:
        """A row as it is now: opened in two steps, then closed in two."""
        step = self.now - 4 * at
        whole = self.rows[at].tobytes()
        if step < 0:
            return bytes(ROW_BYTES)
        least, most = [(0, CLOSE_AT), (CLOSE_AT, CLOSE_AT), (CLOSE_AT, ROW_BYTES)][step] if (
            step < 3
        ) else (ROW_BYTES, ROW_BYTES)  # fmt: skip
        there = int(self.rng.integers(least, most + 1))
        return whole[:there] + bytes(ROW_BYTES - there)

    def read_segment(
        self, path: Path, upto: int = reading.MOST_ROWS, most: int = reading.PIECE_ROWS
    ) -> Iterator[tuple[int, np.ndarray]]:
        parts = path.name.split(".")
        first = self.size * (int(parts[1]) if len(parts) == 3 else 0)
        if self.now < 4 * first - 1:
            raise FileNotFoundError(path)
        for at in range(0, min(self.size, upto), most):
            copied = b""
            for place in range(first + at, first + min(at + most, self.size, upto)):
                if self.rng.random() < 0.2:
                    self.now += int(self.rng.integers(0, 40))
                copied += self.state(place) if place < len(self.rows) else bytes(ROW_BYTES)
            yield at, np.frombuffer(copied, ATTEMPT).copy()


def misread(case: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is wrong with the rows of a worker at work, "" for nothing."""
    rng = np.random.default_rng([11, case])
    rows = drawn(rng, int(rng.integers(1, 50)))
    rows["outcome"][-1:], rows["txn"] = 1, np.arange(len(rows))
    for name in ("start_ns", "begun_ns", "worked_ns", "end_ns"):
        rows[name] += 1 << 33  # of several bytes: half of them are another time
    worker = AtWork(rng, rows, int(rng.integers(1, 20)))
    monkeypatch.setattr(reading, "read_segment", worker.read_segment)
    before = worker.closed()
    try:
        found = StoredRows(folder, 0, (1 << 33, (1 << 33) + 1000), at_work=True)
        first = np.concatenate(list(found.pieces(3)))
    except RunError as error:
        return "" if "is missing" in str(error) and not before else str(error)
    if not before <= len(found) <= len(rows):
        return f"{len(found)} of {before} rows"
    if first[:-1].tobytes() != rows[: max(len(first) - 1, 0)].tobytes():
        return "rows before the last one differ"
    worker.now += 1000
    again = np.concatenate(list(found.pieces()))
    return "" if again.tobytes() == first.tobytes() else "the rows read again differ"


@pytest.mark.parametrize("cases", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_rows_that_are_written_while_they_are_read_are_those_that_were_there(
    cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RECENT", Recent(0))
    for case in range(cases):
        assert misread(case, tmp_path, monkeypatch) == "", f"case {case}"


@pytest.mark.parametrize("wrong", ["looks once", "looks at what came since", "takes half a row"])
def test_a_wrong_look_at_a_worker_at_work_is_seen(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RECENT", Recent(0))
    if wrong == "takes half a row":
        monkeypatch.setattr(reading._Look, "unsound_end", lambda self: False)
    elif wrong == "looks at what came since":
        monkeypatch.setattr(reading._Look, "limits", lambda self, **how: [reading.MOST_ROWS] * 50)
    else:
        looks: dict[StoredRows, Any] = {}
        real = StoredRows._look
        monkeypatch.setattr(
            StoredRows, "_look",
            lambda self, *args: looks.get(self) or looks.setdefault(self, real(self, *args)),
        )  # fmt: skip
    faults = (misread(case, tmp_path, monkeypatch) for case in range(600))
    assert any("were edited" in fault for fault in faults)


def test_a_thread_at_work_is_read_at_any_moment(tmp_path: Path) -> None:
    """A real file under a real map; copying it lets the other thread go on."""
    recorder = AttemptRecorder(tmp_path, 0, rows=500)
    many = 20_000

    def work() -> None:
        buffer, offset, limit = recorder.buffer, recorder.offset, recorder.limit
        for txn in range(many):
            now = time.monotonic_ns()
            OPEN_PART.pack_into(buffer, offset, now, now, txn, 1, 0, 0)
            CLOSE_PART.pack_into(buffer, offset + CLOSE_AT, now, now, now, txn, 0, 1, 0, 0)
            offset += ROW_BYTES
            if offset == limit:
                buffer, offset, limit = recorder.roll()

    thread = threading.Thread(target=work)
    thread.start()
    looks = 0
    while thread.is_alive():
        found = StoredRows(tmp_path, 0, at_work=True)
        txn = found.whole()["txn"]
        assert (txn == np.arange(len(found))).all()
        looks += 1
    thread.join()
    assert looks and len(StoredRows(tmp_path, 0)) == many
