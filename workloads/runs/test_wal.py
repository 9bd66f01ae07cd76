"""The log is watched as a file: each time it begins again is counted, and nothing is disturbed."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from workloads.records import MOST_LOOKS
from workloads.runs.wal import HEADER, WalWatch, first_salt, told_by_index


class Database:
    """A database in WAL mode that checkpoints only when it is told to, and its log's watch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "database.db"
        self.watch = WalWatch(Path(f"{self.path}-wal"))
        self.one, self.two = self.connect(), self.connect()
        self.one.execute("CREATE TABLE t(x)")

    def connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(self.path, isolation_level=None)
        made.execute("PRAGMA journal_mode = wal")
        made.execute("PRAGMA wal_autocheckpoint = 0")
        return made

    def write(self, connection: sqlite3.Connection, rows: int = 1) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * rows)
        connection.execute("COMMIT")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path)
    yield made
    made.one.close()
    made.two.close()


def checkpoint(connection: sqlite3.Connection, how: str) -> None:
    busy, log, done = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
    assert not busy and (how == "TRUNCATE" or log == done)


@pytest.mark.parametrize("times", [0, 1, 7])
@pytest.mark.parametrize("how", ["PASSIVE", "FULL", "RESTART"])
def test_each_time_the_log_begins_again_is_counted_by_two_looks(
    database: Database, how: str, times: int
) -> None:
    database.write(database.one)
    database.watch.begin()
    for _ in range(times):
        checkpoint(database.one, how)
        database.write(database.one)  # begins it again
        database.write(database.one)  # goes on in it
    database.watch.look()
    assert (database.watch.restarts, database.watch.exact) == (times, True)
    assert database.watch.data() == {
        "bytes_max": os.path.getsize(database.watch.path), "restarts": times, "exact": True,
    }  # fmt: skip


def test_a_log_that_another_connection_begins_again_is_counted(database: Database) -> None:
    """The header's own counter is each connection's alone: it would say 1 every time."""
    database.write(database.one)
    database.watch.begin()
    for connection in (database.one, database.two) * 3:
        checkpoint(connection, "PASSIVE")
        database.write(connection)
    database.watch.look()
    assert (database.watch.restarts, database.watch.exact) == (6, True)


def test_a_log_that_was_cut_off_may_begin_with_any_salt(database: Database) -> None:
    """After TRUNCATE a connection that never began the log again draws the salt anew."""
    database.write(database.one)
    database.watch.begin()
    for times in range(1, 4):
        checkpoint(database.one, "TRUNCATE")
        assert os.path.getsize(database.watch.path) == 0
        database.watch.look()  # nothing there: what was seen before still counts
        database.write(database.two)
        database.watch.look()
        assert times <= database.watch.restarts
    assert database.watch.restarts == 3 or database.watch.exact


def test_a_reader_that_stays_keeps_the_log_from_beginning_again(database: Database) -> None:
    database.write(database.one)
    reader = database.connect()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM t").fetchone()
    database.watch.begin()
    for _ in range(5):
        database.write(database.one, 50)
        database.one.execute("PRAGMA wal_checkpoint(PASSIVE)")
    database.watch.look()
    assert database.watch.restarts == 0 and database.watch.bytes_max > 5 * 50_000
    reader.close()


def test_it_grew_to_its_greatest_size_whatever_became_of_it(database: Database) -> None:
    database.write(database.one, 200)
    database.watch.look()
    grown = database.watch.bytes_max
    checkpoint(database.one, "TRUNCATE")
    database.watch.look()
    assert database.watch.bytes_max == grown > 200_000


def test_nothing_is_said_where_no_log_was(tmp_path: Path) -> None:
    watch = WalWatch(tmp_path / "none-wal")
    watch.begin()
    assert watch.data() is None
    watch.path.write_bytes(b"no log at all " * 10)
    watch.look()
    watch.path.write_bytes(b"")
    watch.look()
    assert watch.data() is None and watch.bytes_max == 140


@pytest.mark.parametrize("what", ["fifo", "folder", "link", "device"])
def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x-wal"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        (tmp_path / "other").write_bytes(b"x" * 100)
        path.symlink_to(tmp_path / "other")
    else:
        path.symlink_to("/dev/zero")
    watch = WalWatch(path)
    watch.look()
    assert watch.data() is None and watch.bytes_max == 0


def test_a_header_that_is_just_being_written_is_none(database: Database) -> None:
    database.write(database.one)
    header = bytearray(database.watch.path.read_bytes()[: HEADER.size])
    (salt,) = struct.unpack(">I", header[16:20])
    assert first_salt(bytes(header)) == salt
    header[19] ^= 1  # the new salt beside the old checksum
    assert first_salt(bytes(header)) is None


def test_watching_takes_no_lock_from_whoever_writes(database: Database) -> None:
    """Closing any file descriptor of a database drops the locks that this process holds on it; the
    log is another file, and no lock is on it.
    """
    database.one.execute("BEGIN IMMEDIATE")
    database.one.execute("INSERT INTO t VALUES (1)")
    database.watch.look()
    database.two.execute("PRAGMA busy_timeout = 0").close()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        database.two.execute("BEGIN IMMEDIATE")
    database.one.execute("COMMIT")
    assert database.two.execute("SELECT count(*) FROM t").fetchone() == (1,)


@pytest.mark.parametrize("how", ["PASSIVE", "TRUNCATE"])
def test_the_index_tells_how_many_pages_the_log_holds_and_how_many_were_copied(
    database: Database, how: str
) -> None:
    looks = iter(range(1_000_000_000, 100_000_000_000, 1_000_000_000))
    database.write(database.one, 20)
    database.watch.look(next(looks))
    checkpoint(database.two, how)
    database.watch.look(next(looks))
    database.write(database.one)
    database.watch.look(next(looks))
    (before, after, again) = database.watch.track()
    assert before["frames"] > 5 and before["copied"] == 0
    assert after["copied"] == after["frames"] == (before["frames"] if how == "PASSIVE" else 0)
    assert 0 < again["frames"] < before["frames"] and again["copied"] == 0
    assert again["restarts"] == 1 and before["bytes"] > 5 * 4096


def test_a_long_run_keeps_no_more_looks_than_it_may(database: Database) -> None:
    database.write(database.one)
    for n in range(3 * MOST_LOOKS):
        database.watch.look(10**9 + n * 20_000_000)
    at = database.watch.track()["at_ns"]
    assert MOST_LOOKS / 4 < len(at) <= MOST_LOOKS
    assert at[-1] > 10**9 + (3 * MOST_LOOKS - 10) * 20_000_000
    assert (at[1:] > at[:-1]).all()


def test_an_index_that_is_none_tells_nothing() -> None:
    assert told_by_index(b"x" * 100) == told_by_index(b"\0" * 40) == (-1, -1)
