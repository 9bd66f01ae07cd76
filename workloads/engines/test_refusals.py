"""Refusals: each engine's real errors, classified into outcome and kind of conflict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workloads.engines.engine import Engine, find_engine
from workloads.engines.testing import REAL, SQLITE_FAMILY, in_a_process, refused, usable
from workloads.records import (
    BEGIN,
    BUSY,
    COMMIT,
    CONFLICT,
    FAILED,
    FULL,
    IO,
    LIMIT,
    NO_CONFLICT,
    STALE,
    STATEMENT,
    UNCLASSIFIED,
    UNKNOWN,
    UPGRADE,
    WRITE_WRITE,
)


@pytest.fixture(params=REAL)
def engine(request: pytest.FixtureRequest) -> Engine:
    return usable(request.param)


def test_a_second_writer_meets_busy_at_begin_immediate(engine: Engine, opened: Any) -> None:
    holder, other = opened(engine, "immediate"), opened(engine, "immediate")
    holder.begin()
    refusal = refused(other, BEGIN, other.begin)
    assert (refusal.outcome, refusal.conflict) == (CONFLICT, BUSY)
    assert not other.in_transaction()
    other.rollback()
    holder.commit()
    other.begin()
    other.commit()


def test_a_first_write_that_gets_no_lock_is_busy(engine: Engine, opened: Any) -> None:
    holder, other = opened(engine, "immediate"), opened(engine, "deferred")
    holder.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    other.rows("SELECT * FROM t")  # outside the transaction: its snapshot has gone again
    holder.begin()
    other.begin()
    refusal = refused(other, STATEMENT, other.run, "INSERT INTO t VALUES (1)")
    assert (refusal.outcome, refusal.conflict) == (CONFLICT, BUSY)
    holder.rollback()


OLD_SNAPSHOT = {
    "libsql": UNCLASSIFIED,  # its binding says the same for stale and for busy
    "libsql-0.1": UNCLASSIFIED,
    "sqlite": STALE,
    "sqlite-concurrent": STALE,
    "sqlite-latest": STALE,
    "turso": UNCLASSIFIED,
}


@pytest.mark.parametrize("name", REAL)
def test_a_write_upon_an_old_snapshot_is_stale_where_the_binding_tells(
    name: str, opened: Any
) -> None:
    engine = usable(name)
    first, second = opened(engine), opened(engine)
    first.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
    first.run("INSERT INTO t VALUES (1, 0)")
    first.begin()
    first.rows("SELECT * FROM t")
    second.run("UPDATE t SET value = 1")
    refusal = refused(first, STATEMENT, first.run, "UPDATE t SET value = 2")
    assert (refusal.outcome, refusal.conflict) == (CONFLICT, OLD_SNAPSHOT[name]), refusal
    first.rollback()
    assert first.rows("SELECT value FROM t") == [(1,)]


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_write_upon_a_read_beside_a_writer_is_an_upgrade_where_the_engine_tells(
    name: str, opened: Any
) -> None:
    engine = usable(name)
    first, second = opened(engine), opened(engine, "immediate")
    first.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
    first.begin()
    first.rows("SELECT * FROM t")
    second.begin()
    refusal = refused(first, STATEMENT, first.run, "UPDATE t SET value = 2")
    # Without a timeout all comes at once: see test_upgrade.py for those that would wait.
    expected = UPGRADE if name == "sqlite-concurrent" else UNCLASSIFIED
    assert (refusal.outcome, refusal.conflict) == (CONFLICT, expected), refusal
    second.rollback()


def two_on_one_row(opened: Any, name: str) -> tuple[Any, Any]:
    engine = usable(name)
    first, second = opened(engine, "concurrent"), opened(engine, "concurrent")
    first.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
    first.run("INSERT INTO t VALUES (1, 0), (2, 0)")
    for session, value in ((first, 1), (second, 2)):
        session.begin()
        assert session.rows("SELECT value FROM t WHERE id = 1") == [(0,)]
        if session is first:
            session.run("UPDATE t SET value = ? WHERE id = 1", (value,))
    return first, second


def test_sqlite_concurrent_refuses_the_second_writer_of_a_page_at_commit(opened: Any) -> None:
    first, second = two_on_one_row(opened, "sqlite-concurrent")
    second.run("UPDATE t SET value = 2 WHERE id = 2")
    first.commit()
    refusal = refused(second, COMMIT, second.commit)
    assert (refusal.outcome, refusal.conflict, refusal.over) == (CONFLICT, STALE, False)
    second.rollback()
    assert second.rows("SELECT value FROM t") == [(1,), (0,)]


def test_sqlite_concurrent_is_busy_at_commit_beside_a_writer(opened: Any) -> None:
    engine = usable("sqlite-concurrent")
    holder, other = opened(engine, "immediate"), opened(engine, "concurrent")
    holder.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    holder.begin()
    other.begin()
    other.run("INSERT INTO t VALUES (1)")
    refusal = refused(other, COMMIT, other.commit)
    assert (refusal.outcome, refusal.conflict, refusal.over) == (CONFLICT, BUSY, False)
    holder.rollback()
    other.commit()  # SQLITE_BUSY at COMMIT may be tried again
    assert holder.rows("SELECT id FROM t") == [(1,)]


def test_turso_ends_the_second_writer_of_a_row_at_its_write(opened: Any) -> None:
    first, second = two_on_one_row(opened, "turso")
    second.run("UPDATE t SET value = 2 WHERE id = 2")
    refusal = refused(second, STATEMENT, second.run, "UPDATE t SET value = 2 WHERE id = 1")
    assert (refusal.outcome, refusal.conflict, refusal.over) == (CONFLICT, WRITE_WRITE, True)
    assert not second.in_transaction()
    second.rollback()  # nothing to do, and no error
    first.commit()
    assert second.rows("SELECT value FROM t") == [(1,), (0,)]


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_deferred_foreign_key_fails_commit_and_leaves_the_transaction_open(
    name: str, opened: Any
) -> None:
    session = opened(usable(name), "immediate")
    session.run("PRAGMA foreign_keys=on")
    session.run("CREATE TABLE p (id INTEGER PRIMARY KEY)")
    session.run("CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
    session.begin()
    session.run("INSERT INTO c VALUES (1)")
    refusal = refused(session, COMMIT, session.commit)
    assert (refusal.outcome, refusal.over) == (FAILED, False)
    session.rollback()
    assert session.rows("SELECT * FROM c") == []


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_full_database_fails_and_is_no_conflict(name: str, opened: Any) -> None:
    session = opened(usable(name), "immediate")
    session.run("CREATE TABLE t (filler)")
    session.run("PRAGMA max_page_count=10")
    session.begin()
    refusal = refused(session, STATEMENT, session.run, "INSERT INTO t VALUES (zeroblob(100000))")
    assert (refusal.outcome, refusal.conflict) == (FAILED, FULL)
    assert "full" in refusal.message
    assert refusal.over is not session.in_transaction()
    session.rollback()


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_value_beyond_the_engines_limit_is_told_as_a_limit(name: str, opened: Any) -> None:
    session = opened(usable(name), "immediate")
    refusal = refused(session, STATEMENT, session.rows, "SELECT zeroblob(2000000000)")
    assert (refusal.outcome, refusal.conflict) == (FAILED, LIMIT)
    assert "too big" in refusal.message


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("pwrite: StorageFull", FULL),
        ("pwrite: QuotaExceeded", FULL),
        ("pwrite: FileTooLarge", LIMIT),
        ("fsync: Uncategorized", IO),
    ],
)
def test_turso_says_what_the_system_said(message: str, cause: int, opened: Any) -> None:
    session = opened(usable("turso"), "immediate")
    refusal = session.refusal(type("IoError", (Exception,), {})(message), COMMIT)
    assert (refusal.outcome, refusal.conflict) == (UNKNOWN, cause)


def test_a_file_that_may_not_grow_is_a_limit_of_turso_s(path: str) -> None:
    usable("turso")
    (outcome, cause, message, _), _ = in_a_process(fail_to_write_at_commit, "turso", path)
    assert (outcome, cause) == (UNKNOWN, LIMIT), message


def test_a_file_that_is_no_database_fails_in_the_engines_words(engine: Engine, path: str) -> None:
    Path(path).write_bytes(b"this is no database, whatever you think of it. " * 200)
    try:
        session = engine.connect(path)
    except Exception:
        return  # it refuses to open it: as good
    refusal = refused(session, STATEMENT, session.run, "CREATE TABLE t (a)")
    session.close()
    assert (refusal.outcome, refusal.conflict) == (FAILED, NO_CONFLICT)
    assert refusal.message


def test_a_folder_that_is_not_there_is_an_ordinary_error(engine: Engine, tmp_path: Path) -> None:
    def open_and_write() -> None:
        engine.connect(str(tmp_path / "nowhere" / "test.db")).run("CREATE TABLE t (a)")

    with pytest.raises(Exception, match=r"(?i)open"):
        open_and_write()


def fail_to_write_at_commit(name: str, path: str, pipe: Any) -> None:
    import resource
    import signal

    session = find_engine(name).connect(path, begin="immediate")
    session.run("CREATE TABLE t (filler)")
    session.begin()
    session.run("INSERT INTO t VALUES (zeroblob(100000))")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that write() says EFBIG
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(path).stat().st_size + 20_000, limits[1]))
    try:
        session.commit()
        answer: Any = "committed"
    except BaseException as error:
        answer = session.refusal(error, COMMIT)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    pipe.send((tuple(answer), session.in_transaction()))
    session.close()


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_an_input_output_error_at_commit_is_unknown(name: str, path: str) -> None:
    usable(name)
    refusal, still_open = in_a_process(fail_to_write_at_commit, name, path)
    outcome, conflict, message, over = refusal
    assert (outcome, conflict) == (UNKNOWN, IO), message
    assert over
    assert not still_open
