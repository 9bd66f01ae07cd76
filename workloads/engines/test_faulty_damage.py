"""The controls of damage do nothing to files that are whole, and what they are for to others."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

from workloads.engines.engine import find_engine
from workloads.engines.faulty_damage import LOG_HEAD, PAGES_AT, _likes, with_checksums


def left_open(folder: Path) -> sqlite3.Connection:
    """A database with two transactions in its log, open."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "d.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("CREATE TABLE t(n INTEGER, words TEXT)")
    connection.execute("INSERT INTO t VALUES (1, 'whole words')")
    return connection


def copied(folder: Path, to: Path, log: bytes) -> Path:
    to.mkdir()
    (to / "d.db").write_bytes((folder / "d.db").read_bytes())
    (to / "d.db-wal").write_bytes(log)
    return to / "d.db"


def test_a_damaged_log_is_taken_for_content_once_its_checksums_are_made_anew(
    tmp_path: Path,
) -> None:
    connection = left_open(tmp_path / "a")
    log = (tmp_path / "a" / "d.db-wal").read_bytes()
    assert with_checksums(log) == log
    assert with_checksums(log[: LOG_HEAD + 100]) == log[: LOG_HEAD + 100]
    damaged = log.replace(b"whole words", b"other words")
    sound = find_engine("sqlite").connect(str(copied(tmp_path / "a", tmp_path / "b", damaged)))
    assert sound.rows("SELECT * FROM t") == []  # the log ends before the damaged frame
    faulty = find_engine("faulty-trusts-its-log")
    trusting = faulty.connect(str(copied(tmp_path / "a", tmp_path / "c", damaged)))
    assert trusting.rows("SELECT * FROM t") == [(1, "other words")]
    for one in (connection, sound, trusting):
        one.close()


def test_shared_memory_with_a_page_behind_the_last_frame_costs_the_log(tmp_path: Path) -> None:
    connection = left_open(tmp_path / "a")
    shared = (tmp_path / "a" / "d.db-shm").read_bytes()
    assert _likes(shared) and _likes(b"")
    (frames,) = struct.unpack_from("=I", shared, 16)
    at = PAGES_AT + 4 * frames
    assert not _likes(shared[:at] + b"\1" + shared[at + 1 :])
    assert not _likes(b"\1" + shared[1:])
    connection.close()


def test_an_engine_that_never_locks_lets_another_one_write(tmp_path: Path) -> None:
    left_open(tmp_path / "a").close()
    path = str(tmp_path / "a" / "d.db")
    holder = find_engine("faulty-never-locks").connect(path, begin="immediate")
    other = find_engine("sqlite").connect(path, begin="immediate")
    holder.begin()
    holder.run("INSERT INTO t VALUES (2, '')")
    assert holder.in_transaction()
    other.begin()
    other.run("INSERT INTO t VALUES (3, '')")
    other.commit()
    holder.commit()
    assert other.rows("SELECT count(*) FROM t") == [(3,)]
    holder.close()
    other.close()
