"""The traps of the bindings, each sprung on the real binding and then walked around by the adapter.

The first half of a test shows the trap of the bare binding. When it fails, the binding has changed
for the better: that guard of the adapter can go, and the test with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.engines.engine import Session, Settings
from workloads.engines.testing import IMPATIENT, refused, usable
from workloads.records import BEGIN, COMMIT, CONFLICT, FAILED, STATEMENT, UNKNOWN, WRITE_WRITE

FIXED = "the binding has fixed this trap: simplify the adapter and drop this test"


class Pair:
    """One file, open bare and through the adapter, by the same library."""

    def __init__(self, name: str, path: str) -> None:
        self.engine, self.path = usable(name), path
        self._open: list[Any] = []
        self.session = self.adapted()
        self.session.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")

    def adapted(self, begin: str = "immediate") -> Session:
        self._open.append(self.engine.connect(self.path, begin=begin, settings=IMPATIENT))
        return self._open[-1]

    def bare(self, **options: Any) -> Any:
        driver = self.engine._driver()  # type: ignore[attr-defined]
        if self.engine.name == "sqlite-concurrent":
            self._open.append(driver.Connection(self.path))
        else:
            self._open.append(driver.connect(self.path, **{"isolation_level": None, **options}))
        return self._open[-1]

    def close(self) -> None:
        for connection in self._open:
            connection.close()


@pytest.fixture
def libsql(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair("libsql", str(tmp_path / "trap.db"))
    yield pair
    pair.close()


@pytest.fixture
def turso(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair("turso", str(tmp_path / "trap.db"))
    yield pair
    pair.close()


# libsql-experimental


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**53 + 1, -(2**63)])
def test_libsql_binds_large_integers_as_real(libsql: Pair, value: int) -> None:
    bare = libsql.bare().execute("SELECT typeof(?)", (value,)).fetchall()
    assert bare == [("real",)], FIXED
    assert libsql.session.rows("SELECT ?, typeof(?), ?", (value, value, 7)) == [
        (value, "integer", 7)
    ]


def test_libsql_turns_numpy_integers_into_real(libsql: Pair) -> None:
    value = np.int64(2**53 + 1)
    bare = libsql.bare().execute("SELECT typeof(?)", (value,)).fetchall()
    assert bare == [("real",)], FIXED
    for params in ((value,), (2**40, value)):
        with pytest.raises(TypeError, match="int64"):
            libsql.session.rows("SELECT ?, ?"[: 6 + 3 * len(params)], params)


def test_libsql_binds_null_for_a_missing_parameter_and_ignores_a_further_one(libsql: Pair) -> None:
    bare = libsql.bare()
    assert bare.execute("SELECT ?, ?", (1,)).fetchall() == [(1, None)], FIXED
    assert bare.execute("SELECT ?", (1, 2)).fetchall() == [(1,)], FIXED
    with pytest.raises(ValueError, match="takes 2 parameters and was given 1"):
        libsql.session.rows("SELECT ?, ?", (1,))
    with pytest.raises(ValueError, match="takes 1 parameters and was given 2"):
        libsql.session.rows("SELECT ?", (1, 2))


def test_libsql_cuts_text_at_a_nul(libsql: Pair) -> None:
    assert libsql.bare().execute("SELECT ?", ("a\0b",)).fetchall() == [("a",)], FIXED
    for params in (("a\0b", 1), (2**40, "a\0b")):
        with pytest.raises(ValueError, match="NUL"):
            libsql.session.rows("SELECT ?, ?", params)
    assert libsql.session.rows("SELECT ?", (b"a\0b",)) == [(b"a\0b",)]


def test_libsql_drops_a_second_statement(libsql: Pair) -> None:
    two = "INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2)"
    bare = libsql.bare()
    bare.execute(two)
    assert bare.execute("SELECT id FROM t").fetchall() == [(1,)], FIXED
    with pytest.raises(ValueError, match="two statements"):
        libsql.session.run(two)
    assert libsql.session.rows("SELECT id FROM t") == [(1,)]


def test_libsql_runs_returning_again_at_each_fetch(libsql: Pair) -> None:
    sql = "INSERT INTO t (value) VALUES (5) RETURNING id"
    cursor = libsql.bare().execute(sql)
    assert (cursor.fetchall(), cursor.fetchall()) == ([(1,)], [(2,)]), FIXED
    assert libsql.session.rows(sql) == [(3,)]
    libsql.session.run(sql)
    assert libsql.session.rows("SELECT id FROM t") == [(1,), (2,), (3,), (4,)]


def test_libsql_raises_what_returning_meets_only_when_it_is_fetched(libsql: Pair) -> None:
    sql = "INSERT INTO t (id, value) VALUES (1, 5) RETURNING id"
    libsql.session.run(sql)
    bare = libsql.bare()
    bare.execute(sql)  # the same key: nothing is inserted, and nothing is said
    with pytest.raises(ValueError, match="UNIQUE"):
        bare.execute(sql).fetchall()
    refusal = refused(libsql.session, STATEMENT, libsql.session.run, sql)
    assert refusal.outcome == FAILED
    assert "UNIQUE" in refusal.message


def test_libsql_does_not_commit_a_returning_while_its_cursor_lives(libsql: Pair) -> None:
    sql = "INSERT INTO t (id, value) VALUES (1, 5) RETURNING id"
    cursor = libsql.bare().execute(sql)
    assert libsql.session.rows("SELECT id FROM t") == [], FIXED
    assert refused(libsql.session, BEGIN, libsql.session.begin).outcome == CONFLICT, FIXED
    del cursor
    libsql.session.run("INSERT INTO t (id, value) VALUES (2, 5) RETURNING id")
    assert libsql.adapted().rows("SELECT id FROM t WHERE id = 2") == [(2,)]


def test_libsql_starts_again_after_the_last_row(libsql: Pair) -> None:
    cursor = libsql.bare().execute("VALUES (1), (2)")
    fetched = [cursor.fetchone() for _ in range(4)]
    assert fetched == [(1,), (2,), None, (1,)], FIXED
    assert libsql.session.rows("VALUES (1), (2)") == [(1,), (2,)]


def test_libsql_gives_no_list_where_there_are_no_columns(libsql: Pair) -> None:
    assert libsql.bare().execute("DELETE FROM t").fetchall() is None, FIXED
    assert libsql.session.rows("DELETE FROM t") == []


def test_libsql_panics_on_a_closed_connection(libsql: Pair) -> None:
    bare = libsql.bare()
    bare.close()
    with pytest.raises(BaseException, match="None") as caught:
        bare.execute("SELECT 1")
    assert not isinstance(caught.value, Exception), FIXED
    session = libsql.adapted()
    # A panic of the driver is classified, and at COMMIT nobody knows what it left behind.
    assert session.refusal(caught.value, STATEMENT).outcome == FAILED
    assert session.refusal(caught.value, COMMIT).outcome == UNKNOWN
    session.close()
    with pytest.raises(ValueError, match="session is closed"):
        session.run("SELECT 1")
    assert session.in_transaction() is False


def test_libsql_begins_by_itself_unless_told_not_to(libsql: Pair) -> None:
    bare = libsql.bare(isolation_level="IMMEDIATE")
    bare.execute("INSERT INTO t VALUES (1, 1)")
    assert bare.in_transaction, FIXED
    bare.rollback()
    libsql.session.run("INSERT INTO t VALUES (1, 1)")
    assert not libsql.session.in_transaction()


def test_libsql_keeps_its_locks_after_close_while_a_cursor_lives(libsql: Pair) -> None:
    bare = libsql.bare()
    bare.execute("BEGIN IMMEDIATE")
    cursor = bare.execute("INSERT INTO t VALUES (1, 1) RETURNING id")
    cursor.fetchone()
    bare.close()
    assert refused(libsql.session, BEGIN, libsql.session.begin).outcome == CONFLICT, FIXED
    del cursor
    first = libsql.adapted()
    first.begin()
    first.rows("INSERT INTO t VALUES (1, 1) RETURNING id")
    first.close()
    libsql.session.begin()
    assert libsql.session.rows("SELECT id FROM t") == []


def test_libsql_says_the_same_for_busy_and_for_stale(libsql: Pair) -> None:
    bare, other = libsql.bare(), libsql.adapted()
    texts = []
    for locked in (True, False):
        bare.execute("BEGIN")
        bare.execute("SELECT * FROM t").fetchall()
        other.begin()
        other.run("INSERT INTO t (value) VALUES (1)")
        if not locked:
            other.commit()
        with pytest.raises(ValueError, match="locked") as caught:
            bare.execute("UPDATE t SET value = 2")
        texts.append((type(caught.value), caught.value.args))
        bare.execute("ROLLBACK")
        other.rollback()
    assert texts[0] == texts[1], FIXED


def test_libsql_executescript_swallows_errors(libsql: Pair) -> None:
    libsql.bare().executescript("INSERT INTO nowhere VALUES (1)")  # no error: why nobody calls it
    assert refused(
        libsql.session, STATEMENT, libsql.session.run, "INSERT INTO nowhere VALUES (1)"
    ).message.startswith("no such table")


# sqlite3 of Python


def test_sqlite3_begins_by_itself_unless_told_not_to(tmp_path: Path) -> None:
    import sqlite3

    pair = Pair("sqlite", str(tmp_path / "trap.db"))
    bare = sqlite3.connect(pair.path)
    bare.execute("INSERT INTO t VALUES (1, 1)")
    assert bare.in_transaction, FIXED
    bare.rollback()
    bare.close()
    pair.session.run("INSERT INTO t VALUES (1, 1)")
    assert not pair.session.in_transaction()
    pair.close()


# the begin-concurrent branch


@pytest.fixture
def branch(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair("sqlite-concurrent", str(tmp_path / "trap.db"))
    yield pair
    pair.close()


def test_the_branch_refuses_commit_beside_its_own_open_cursor(branch: Pair) -> None:
    session = branch.adapted("concurrent")
    session.run("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
    session.begin()
    session.run("INSERT INTO t VALUES (4, 4)")
    cursor = iter(session._connection.execute("SELECT id FROM t"))  # type: ignore[attr-defined]
    next(cursor)
    # Called BUSY by SQLite, though no other transaction had a part in it.
    refusal = refused(session, COMMIT, session.commit)
    assert "in progress" in refusal.message, FIXED
    assert (refusal.outcome, refusal.over) == (FAILED, False)
    del cursor
    session.run("SELECT id FROM t")
    session.run("UPDATE t SET value = 0 RETURNING id")
    session.rows("SELECT id FROM t")
    session.commit()


def test_the_branch_takes_concurrent_for_plain_begin_outside_wal(tmp_path: Path) -> None:
    engine = usable("sqlite-concurrent")
    path = str(tmp_path / "trap.db")
    bare = engine._driver().Connection(path)  # type: ignore[attr-defined]
    bare.execute("PRAGMA journal_mode=delete")
    bare.execute("CREATE TABLE t (id)")
    bare.execute("BEGIN CONCURRENT")  # accepted
    bare.execute("INSERT INTO t VALUES (1)")
    other = engine._driver().Connection(path)  # type: ignore[attr-defined]
    other.execute("BEGIN CONCURRENT")
    with pytest.raises(engine._driver().BusyError):  # type: ignore[attr-defined]
        other.execute("INSERT INTO t VALUES (2)")  # one writer at a time
    other.close()
    bare.close()
    with pytest.raises(ValueError, match="silently acts as BEGIN"):
        engine.connect(path, begin="concurrent", settings=Settings(journal_mode="delete"))


# pyturso


def test_turso_autocommits_what_follows_a_conflict(turso: Pair) -> None:
    turso.session.run("INSERT INTO t VALUES (1, 0), (2, 0)")
    holder, session = turso.adapted("concurrent"), turso.adapted("concurrent")
    bare = turso.bare()
    holder.begin()
    holder.run("UPDATE t SET value = 1 WHERE id = 1")
    bare.execute("BEGIN CONCURRENT")
    with pytest.raises(Exception, match=r"(?i)conflict"):
        bare.execute("UPDATE t SET value = 2 WHERE id = 1")
    with pytest.raises(Exception, match="no transaction"):
        bare.execute("ROLLBACK")
    bare.execute("UPDATE t SET value = 3 WHERE id = 2")
    assert not bare.in_transaction, FIXED
    assert session.rows("SELECT value FROM t WHERE id = 2") == [(3,)], FIXED
    session.begin()
    refusal = refused(session, STATEMENT, session.run, "UPDATE t SET value = 4 WHERE id = 1")
    assert (refusal.conflict, refusal.over) == (WRITE_WRITE, True)
    session.rollback()
    holder.commit()
    assert session.rows("SELECT value FROM t") == [(1,), (3,)]


def test_turso_loses_an_insert_whose_returning_is_not_fetched(turso: Pair) -> None:
    sql = "INSERT INTO t VALUES (1, 5) RETURNING id"
    bare = turso.bare()
    cursor = bare.execute(sql)
    del cursor
    assert bare.execute("SELECT id FROM t").fetchall() == [], FIXED
    turso.session.run(sql)
    assert turso.session.rows("SELECT id FROM t") == [(1,)]


def test_turso_binds_null_for_a_missing_parameter(turso: Pair) -> None:
    assert turso.bare().execute("SELECT ?, ?", (1,)).fetchall() == [(1, None)], FIXED
    with pytest.raises(ValueError, match="takes 2 parameters and was given 1"):
        turso.session.rows("SELECT ?, ?", (1,))


def test_turso_binds_integers_beyond_64_bits_as_real(turso: Pair) -> None:
    bare = turso.bare().execute("SELECT typeof(?)", (2**63,)).fetchall()
    assert bare == [("real",)], FIXED
    with pytest.raises(OverflowError):
        turso.session.rows("SELECT ?", (2**63,))


def test_turso_raises_errors_that_are_none_of_its_own(turso: Pair, tmp_path: Path) -> None:
    driver = turso.engine._driver()  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r"(?i)open") as caught:
        driver.connect(str(tmp_path / "nowhere" / "trap.db"))
    assert not isinstance(caught.value, driver.Error), FIXED
    refusal = turso.session.refusal(caught.value, STATEMENT)
    assert refusal.outcome == FAILED


def test_turso_shares_one_log_between_files_of_one_stem(tmp_path: Path) -> None:
    engine = usable("turso")
    session = engine.connect(str(tmp_path / "one.db"))
    session.run("CREATE TABLE t (id)")
    session.run("INSERT INTO t VALUES (1)")
    session.close()
    driver = engine._driver()  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="log"):
        driver.connect(str(tmp_path / "one.sqlite")).execute("SELECT 1").fetchall()
    # Nothing to adapt: a database of ours has a folder of its own (see the engine's docstring).
    assert [file.name for file in tmp_path.glob("*log*")] == ["one.db-log"], FIXED
