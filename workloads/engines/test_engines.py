"""The duties of every adapter, tested with each real engine on real files.

Each test opens its database with one engine only: two copies of SQLite on one file in one process
would drop each other's locks.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import concurrent_build as begin_concurrent
from workloads.engines.engine import REGISTRY, Engine, Settings, find_engine, modes_of
from workloads.engines.registry import trust
from workloads.engines.statements import shape, with_literals
from workloads.engines.testing import LIMIT_S, REAL, in_a_process, refused, usable
from workloads.errors import EngineMissing, UnknownName
from workloads.records import FAILED, NO_CONFLICT, STATEMENT

LEVELS = ["serializable", "snapshot-isolation", "read-committed"]


@pytest.fixture(params=REAL)
def engine(request: pytest.FixtureRequest) -> Engine:
    return usable(request.param)


VALUES = {
    "null": None,
    "zero": 0,
    "largest of 32 bits": 2**31 - 1,
    "beyond 32 bits": 2**31,
    "beyond negative 32 bits": -(2**31) - 1,
    "beyond what a double holds": 2**53 + 1,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "float": 1.5,
    "text": "Zürich, 'quoted' -- ?",
    "empty text": "",
    "empty blob": b"",
    "blob with NUL": b"a\0b",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_every_value_arrives_as_it_was_given(engine: Engine, opened: Any, value: Any) -> None:
    session = opened(engine)
    session.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
    session.run("INSERT INTO t VALUES (?, ?)", (1, value))
    session.run("UPDATE t SET value = ? WHERE id = ? AND value IS ?", (value, 1, value))
    kinds = {int: "integer", float: "real", str: "text", bytes: "blob", type(None): "null"}
    assert session.rows("SELECT value, typeof(value), ? FROM t", (value,)) == [
        (value, kinds[type(value)], value)
    ]


def test_an_integer_beyond_64_bits_is_refused(engine: Engine, opened: Any) -> None:
    session = opened(engine)
    for value in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            session.rows("SELECT ?, ?", (1, value))


def test_a_wrong_number_of_parameters_raises_and_applies_nothing(
    engine: Engine, opened: Any
) -> None:
    session = opened(engine)
    session.run("CREATE TABLE t (a, b)")
    for params in [(), (1,), (1, 2, 3)]:
        for call in (session.run, session.rows):
            error = refused(session, STATEMENT, call, "INSERT INTO t VALUES (?, ?)", params)
            assert error.outcome == FAILED
    assert session.rows("SELECT * FROM t") == []


def test_returning_runs_once_whether_its_rows_are_wanted_or_not(
    engine: Engine, opened: Any
) -> None:
    session = opened(engine, "immediate")
    session.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
    session.begin()
    assert session.rows("INSERT INTO t VALUES (1, 5), (2, 6) RETURNING id") == [(1,), (2,)]
    session.run("INSERT INTO t VALUES (3, 7), (4, 8) RETURNING id")
    session.commit()
    assert not session.in_transaction()
    assert session.rows("SELECT count(*), sum(value) FROM t") == [(4, 26)]
    assert session.rows("UPDATE t SET value = 0 WHERE id = 99 RETURNING id") == []


def test_a_constraint_is_raised_by_run_also_under_returning(engine: Engine, opened: Any) -> None:
    session = opened(engine, "immediate")
    session.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    session.run("INSERT INTO t VALUES (1)")
    session.begin()
    for sql in ("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1) RETURNING id"):
        refusal = refused(session, STATEMENT, session.run, sql)
        assert (refusal.outcome, refusal.conflict) == (FAILED, NO_CONFLICT)
        assert "UNIQUE" in refusal.message
        assert refusal.over is not session.in_transaction()
    session.rollback()


@pytest.mark.parametrize("mode", ["deferred", "immediate", "exclusive"])
def test_others_see_a_transaction_after_its_commit_and_nothing_of_a_rollback(
    engine: Engine, opened: Any, mode: str
) -> None:
    writer, reader = opened(engine, mode), opened(engine)
    writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    assert not writer.in_transaction()
    for number, end in ((1, writer.rollback), (2, writer.commit)):
        writer.begin()
        assert writer.in_transaction()
        writer.run("INSERT INTO t VALUES (?)", (number,))
        assert writer.rows("SELECT id FROM t") == [(number,)]
        assert reader.rows("SELECT id FROM t") == []
        end()
        assert not writer.in_transaction()
    assert reader.rows("SELECT id FROM t") == [(2,)]
    writer.rollback()  # none is open: does nothing


def test_pragmas_are_set_and_read_back_on_every_connection(engine: Engine, opened: Any) -> None:
    settings = Settings(synchronous="off", busy_timeout_ms=77, cache_size=500, page_bytes=8192)
    first = opened(engine, settings=settings)
    first.run("CREATE TABLE t (a)")
    other = opened(engine, settings=Settings(synchronous="full", busy_timeout_ms=78))
    for session, timeout, synchronous in ((first, 77, "off"), (other, 78, "full")):
        assert session.pragmas["busy_timeout"] == timeout
        assert session.pragmas["synchronous"] == synchronous
        assert session.rows("PRAGMA busy_timeout") == [(timeout,)]
        assert session.pragmas["page_size"] == session.rows("PRAGMA page_size")[0][0]
        assert session.pragmas["journal_mode"] == session.rows("PRAGMA journal_mode")[0][0]
    assert (first.pragmas["cache_size"], other.pragmas["cache_size"]) == (500, -16000)
    expected = "mvcc" if engine.name == "turso" else "wal"
    assert first.pragmas["journal_mode"] == other.pragmas["journal_mode"] == expected
    json.dumps(dict(first.pragmas))


def test_a_setting_that_is_no_word_never_reaches_the_engine(engine: Engine, path: str) -> None:
    with pytest.raises(ValueError, match="no value of a pragma"):
        engine.connect(path, settings=Settings(journal_mode="wal; DROP TABLE t"))


def test_concurrent_outside_wal_is_one_clear_sentence(path: str) -> None:
    engine = usable("sqlite-concurrent")
    with pytest.raises(ValueError, match=r"'delete'.*silently acts as BEGIN"):
        engine.connect(path, begin="concurrent", settings=Settings(journal_mode="delete"))
    engine.connect(path, begin="immediate", settings=Settings(journal_mode="delete")).close()


def test_close_rolls_back_and_frees_the_lock_and_later_calls_raise(
    engine: Engine, opened: Any
) -> None:
    first, second = opened(engine, "immediate"), opened(engine, "immediate")
    first.run("CREATE TABLE t (a)")
    first.begin()
    first.run("INSERT INTO t VALUES (1)")
    first.rows("SELECT * FROM t")
    first.close()
    second.begin()
    assert second.rows("SELECT * FROM t") == []
    second.commit()
    # An Exception, not the panic of a binding, which `except Exception` lets through.
    for call in (lambda: first.run("SELECT 1"), lambda: first.rows("SELECT 1"), first.begin):
        with pytest.raises(Exception, match=r"."):
            call()


def test_sessions_of_several_threads_write_one_database(engine: Engine, opened: Any) -> None:
    opened(engine).run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            session = opened(engine, "immediate", Settings(busy_timeout_ms=20_000))
            for step in range(10):
                session.begin()
                session.run("INSERT INTO t VALUES (?)", (100 * number + step,))
                session.commit()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not errors
    assert opened(engine).rows("SELECT count(*) FROM t") == [(20,)]


def write_one(name: str, begin: str, path: str, number: int, pipe: Any) -> None:
    session = find_engine(name).connect(path, begin=begin)
    session.run("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY)")
    session.begin()
    session.run("INSERT INTO t VALUES (?)", (number,))
    session.commit()
    pipe.send([row[0] for row in session.rows("SELECT id FROM t ORDER BY id")])
    session.close()


def test_a_libsql_database_is_written_by_begin_concurrent_and_read_again(path: str) -> None:
    for name in ("libsql", "sqlite-concurrent"):
        usable(name)
    assert in_a_process(write_one, "libsql", "immediate", path, 1) == [1]
    assert in_a_process(write_one, "sqlite-concurrent", "concurrent", path, 2) == [1, 2]
    assert in_a_process(write_one, "libsql", "immediate", path, 3) == [1, 2, 3]


def test_an_engine_says_who_it_is(engine: Engine) -> None:
    identity = engine.identity()
    assert identity.version[0].isdigit()
    assert identity.binding
    assert identity.source_id
    json.dumps(identity)


@pytest.mark.parametrize("name", REGISTRY)
def test_an_engine_of_the_registry_keeps_the_contract(name: str) -> None:
    engine = find_engine(name)
    assert engine.name == name
    assert engine.file_format in ("sqlite", "turso-mvcc", "postgres", "sqld", "none")
    assert engine.hosting in ("process", "thread")
    assert set(engine.promises) <= set(modes_of(engine))
    for promise in engine.promises.values():
        assert promise.level in LEVELS
        assert len(promise.source) > 20
    assert engine.missing() is None or "make setup" in str(engine.missing())


def test_an_engine_without_its_build_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    # Without its cache: another test may have loaded the real one in this process.
    monkeypatch.setattr(begin_concurrent, "load", begin_concurrent.load.__wrapped__)
    monkeypatch.setattr(begin_concurrent, "BUILD", tmp_path / "nothing")
    engine = find_engine("sqlite-concurrent")
    assert "make setup" in str(engine.missing())
    with pytest.raises(EngineMissing, match="make setup"):
        engine.connect(path)


@pytest.mark.parametrize("name", ["libsql", "turso"])
def test_an_engine_without_its_package_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    engine = find_engine(name)
    assert "not installed. Get it with: make setup" in str(engine.missing())
    with pytest.raises(EngineMissing, match="make setup"):
        engine.connect(path)


def test_null_keeps_a_body_going() -> None:
    session = find_engine("null").connect("nowhere", begin="concurrent")
    session.begin()
    assert session.run("UPDATE t SET a = ?", (1,)) is None
    assert session.rows("SELECT a, b FROM t")[0][1] + 1 == 1
    session.commit()
    session.rollback()
    session.close()


USERS_ENGINE = """
from workloads.engines.sqlite import Sqlite

class Mine(Sqlite):
    name = "mine"
"""


def test_an_engine_of_the_users_own_file_works(tmp_path: Path, path: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(USERS_ENGINE)
    trust(file)
    session = find_engine(f"{file}:Mine").connect(path, begin="immediate")
    session.begin()
    session.run("CREATE TABLE t (a)")
    session.commit()
    session.close()
    with pytest.raises(UnknownName, match="Did you mean 'Mine'"):
        find_engine(f"{file}:Min")


def test_an_unknown_engine_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'sqlite-concurrent'"):
        find_engine("sqlite-concurent")


SHAPES = {
    "SELECT 1": 0,
    "SELECT ?, ?": 2,
    "SELECT ?3, ?": 4,
    "SELECT ?2, ?1, ?2": 2,
    "SELECT :a, @b, :a": 2,
    "SELECT '?', \"?\", `?`, [?], ? -- ?\n, ? /* ? */": 2,
    "SELECT 'it''s ?', ?;": 1,
    "INSERT INTO t VALUES (?); -- ? the end": 1,
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM u; DELETE FROM v; END;": 0,
}


@pytest.mark.parametrize("sql", SHAPES)
def test_parameters_are_counted_as_sqlite_counts_them(sql: str) -> None:
    assert shape(sql).parameters == SHAPES[sql]


def test_a_second_statement_is_found() -> None:
    with pytest.raises(ValueError, match="two statements"):
        shape("SELECT ';'; SELECT 2")


def test_literals_keep_the_other_parameters_in_their_places() -> None:
    text = with_literals("SELECT ?, -?, '?', ?2, ?", (1, -5, 9), (False, True, False))
    assert text == "SELECT ?1, -(-5), '?', (-5), ?3"
