"""Rows read piece by piece are those that were read whole, whatever their files look like."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.errors import RunError
from workloads.records import rows as reading
from workloads.records.outcomes import CAUSES, CONFLICT, CONFLICTS, OPEN, OUTCOMES, PHASES, UNKNOWN
from workloads.records.rows import (
    ATTEMPT,
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
    paths = (segment_path(folder, 0, n) for n in range(1000))
    found = np.concatenate([np.load(path) for path in paths if path.exists()])
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
