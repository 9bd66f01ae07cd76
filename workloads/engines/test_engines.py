"""The duties of every adapter, tested with each real engine on real files.

What its sessions must do is the adapter contract: properties/conformance/contract.py.

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
from workloads.engines.testing import LIMIT_S, REAL, in_a_process, usable
from workloads.errors import EngineMissing, UnknownName

LEVELS = ["serializable", "snapshot-isolation", "read-committed"]


@pytest.fixture(params=REAL)
def engine(request: pytest.FixtureRequest) -> Engine:
    return usable(request.param)


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
