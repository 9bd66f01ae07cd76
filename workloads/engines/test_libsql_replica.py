"""A replica as an engine: what is local and what is not, when it is fresh, and its traps."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import Settings, find_engine, serving, sync_interval_s
from workloads.engines.libsql_replica import Forgotten
from workloads.errors import PlanError
from workloads.records import (
    BEGIN,
    COMMIT,
    CONFLICT,
    FAILED,
    NO_CONFLICT,
    STALE,
    STATEMENT,
    UNKNOWN,
)
from workloads.runs import make_plan

REPLICA: Any = find_engine("libsql-replica")
REMOTE: Any = find_engine("libsql-remote")
NEVER = Settings(sync="never")
here = pytest.mark.skipif(REPLICA.missing() is not None, reason=str(REPLICA.missing()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database with a table of three rows, at a server of this module's."""
    path = tmp_path_factory.mktemp("replica") / "database.db"
    with serving(REPLICA, path):
        one = REMOTE.connect(str(path))
        one.run("CREATE TABLE item(id INTEGER PRIMARY KEY, v, u UNIQUE)")
        one.run("INSERT INTO item VALUES (1, 0, 1), (2, 0, 2), (3, 0, 3)")
        one.close()
        yield path


@pytest.fixture
def opened(place: Path) -> Iterator[Callable[..., Any]]:
    """Opens sessions of replicas on it, and closes them."""
    there = []

    def opens(begin: str = "immediate", settings: Settings = NEVER, engine: Any = REPLICA) -> Any:
        there.append(engine.connect(str(place), begin=begin, settings=settings))
        return there[-1]

    yield opens
    for each in there:
        each.close()
    assert not list(place.parent.glob("*-replica-*"))  # a closed replica leaves no file


def value(session: Any, row: int) -> int:
    (found,) = session.rows("SELECT v FROM item WHERE id = ?", (row,))
    return int(found[0])


def refused(session: Any, phase: int, call: Callable[..., Any], *args: Any) -> Any:
    with pytest.raises(ValueError) as caught:
        call(*args)
    return session.refusal(caught.value, phase, 1_000)


# --- what is local ------------------------------------------------------------------------------


@here
def test_a_readers_transaction_is_fresh_on_demand_and_keeps_its_snapshot(
    opened: Callable[..., Any],
) -> None:
    fresh, old, writer = opened("readonly", Settings()), opened("readonly"), opened()
    before = value(writer, 1)
    writer.begin()
    writer.run("UPDATE item SET v = v + 1 WHERE id = 1")
    writer.commit()
    assert value(writer, 1) == before + 1  # its own write, in its own replica
    for session, seen in ((fresh, before + 1), (old, before)):
        session.begin()
        assert value(session, 1) == seen
        session.commit()
    old.begin()
    assert value(old, 1) == before
    old.sync()
    assert value(old, 1) == before  # its snapshot, which its first read has taken
    old.commit()
    assert value(old, 1) == before + 1


@here
def test_a_replica_that_syncs_by_interval_becomes_fresh_by_itself(
    opened: Callable[..., Any],
) -> None:
    reader, writer = opened("readonly", Settings(sync="5ms")), opened(engine=REMOTE)
    writer.run("UPDATE item SET v = v + 1 WHERE id = 1")
    wanted, until = value(writer, 1), time.monotonic() + 20
    while value(reader, 1) != wanted:
        assert time.monotonic() < until
        time.sleep(0.001)


@here
@pytest.mark.parametrize("mode", ["deferred", "immediate", "exclusive"])
def test_the_other_modes_read_at_the_server(opened: Callable[..., Any], mode: str) -> None:
    session, writer = opened(mode), opened(engine=REMOTE)
    writer.run("UPDATE item SET v = v + 1 WHERE id = 2")
    assert value(session, 2) == value(writer, 2) - 1
    session.begin()
    assert value(session, 2) == value(writer, 2)
    session.rollback()


@here
def test_a_reader_cannot_write_and_its_transaction_goes_on(opened: Callable[..., Any]) -> None:
    session = opened("readonly")
    session.begin()
    found = refused(session, STATEMENT, session.run, "UPDATE item SET v = 0")
    assert (found.outcome, found.over) == (FAILED, False)
    assert "Invalid write in a readonly transaction" in found.message
    assert value(session, 1) >= 0
    session.rollback()
    with pytest.raises(ValueError, match=r"'concurrent' is no mode of a replica\. Modes: deferred"):
        opened("concurrent")


# --- traps --------------------------------------------------------------------------------------


@here
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(
    "kept", [2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 5, 1.5, None, b"a\0b", "é"]
)
def test_every_value_arrives_as_it_is(
    place: Path, opened: Callable[..., Any], kept: Any, local: bool
) -> None:
    session = opened()
    if not local:
        session.begin()
    assert session.rows("SELECT ?, typeof(?2), ?1", (kept, 2**40)) == [(kept, "integer", kept)]
    with pytest.raises(ValueError, match="a text with a NUL character"):
        session.rows("SELECT ?", ("a\0b",))
    with pytest.raises(ValueError, match="takes 2 parameters and was given 1"):
        session.rows("SELECT ?, ?", (1,))
    session.rollback()


@here
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("engine", [REMOTE, REPLICA])
def test_what_a_statement_changed_is_told_also_where_it_returns_rows(
    opened: Callable[..., Any], engine: Any, within: bool
) -> None:
    session = opened(engine=engine)
    if within:
        session.begin()
    session.run("UPDATE item SET v = v WHERE id < 3")
    assert session.rows("SELECT changes()") == [(2,)]
    before = value(session, 3)
    assert session.rows("UPDATE item SET v = v + 1 WHERE id = 3 RETURNING v") == [(before + 1,)]
    session.rollback()
    assert value(session, 3) == before + (not within)


@here
def test_its_settings_are_the_servers(opened: Callable[..., Any]) -> None:
    session = opened(settings=Settings(synchronous="full", sync="never"))
    assert session.pragmas["synchronous"] == "normal"
    with pytest.raises(ValueError, match="unsupported statement"):
        session.rows("PRAGMA synchronous=off")


QUIET = """
import sys
from workloads.engines import find_engine
session = find_engine("libsql-replica").connect(sys.argv[1], begin="readonly")
session.begin()
session.commit()
session.sync()
"""


@here
def test_the_bindings_log_does_not_reach_our_output(place: Path) -> None:
    argv = [sys.executable, "-c", textwrap.dedent(QUIET), str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout + done.stderr == ""
    for left in place.parent.glob("*-replica-*"):
        left.unlink()


# --- what an error proves -----------------------------------------------------------------------


@here
def test_the_servers_own_refusal_proves_that_nothing_was_made(opened: Callable[..., Any]) -> None:
    session, other = opened(), opened("deferred")
    session.begin()
    for sql, message in (
        ("INSERT INTO item VALUES (1, 0, 9)", "UNIQUE constraint failed: item.id"),
        ("INSERT INTO nowhere VALUES (1)", "no such table: nowhere"),
    ):
        found = refused(session, STATEMENT, session.run, sql)
        assert found == (FAILED, NO_CONFLICT, message, False)
    session.rollback()
    other.begin()
    value(other, 1)
    session.run("UPDATE item SET v = v + 1 WHERE id = 1")
    found = refused(other, STATEMENT, other.run, "UPDATE item SET v = 8 WHERE id = 2")
    assert found[:2] == (CONFLICT, STALE) and not found.over
    other.rollback()


@here
def test_without_a_server_a_reader_reads_on_and_a_write_is_refused_or_unknown(
    tmp_path: Path,
) -> None:
    path = tmp_path / "database.db"
    with serving(REPLICA, path) as server:
        assert server is not None
        writer, late = (REPLICA.connect(str(path), begin="immediate") for _ in range(2))
        writer.run("CREATE TABLE item(id INTEGER PRIMARY KEY, v)")
        writer.run("INSERT INTO item VALUES (1, 5)")
        reader = REPLICA.connect(str(path), begin="readonly", settings=NEVER)
        late.sync()
        writer.begin()
        writer.run("UPDATE item SET v = 6 WHERE id = 1")
        late_begun = REPLICA.connect(str(path), begin="deferred", settings=NEVER)
        late_begun.begin()
        server.kill()
        reader.begin()
        assert value(reader, 1) == 5
        reader.commit()
        found = refused(writer, COMMIT, writer.commit)
        assert (found.outcome, found.conflict, found.over) == (UNKNOWN, NO_CONFLICT, True)
        found = refused(writer, BEGIN, writer.begin)  # there is nobody to make it anew with
        assert (found.outcome, found.over) == (FAILED, True)
        found = refused(late, STATEMENT, late.run, "UPDATE item SET v = 7 WHERE id = 1")
        assert found.outcome == UNKNOWN
        server.start_again()
        # The trap: the server has forgotten a transaction, and takes its next statement by itself.
        with pytest.raises(Forgotten) as caught:
            late_begun.run("UPDATE item SET v = 8 WHERE id = 1")
        assert late_begun.refusal(caught.value, STATEMENT).outcome == UNKNOWN
        assert late_begun.rows("SELECT v FROM item") == [(8,)]
        writer.begin()
        assert value(writer, 1) == 8 and writer.anew > 0
        writer.commit()
        assert value(reader, 1) == 5
        reader.sync()
        assert value(reader, 1) == 8
        for each in (writer, late, late_begun, reader):
            each.close()


@pytest.mark.slow  # the binding waits 3 s for its server
@here
def test_a_sync_without_a_server_is_a_refusal_and_no_hang(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    with serving(REPLICA, path) as server:
        assert server is not None
        reader = REPLICA.connect(str(path), begin="readonly")
        server.kill()
        found = refused(reader, BEGIN, reader.begin)
        assert (found.outcome, found.conflict, found.over) == (FAILED, NO_CONFLICT, True)
        assert "replication error" in found.message
        server.start_again()
        reader.begin()
        reader.commit()
        reader.close()


# --- the plan -----------------------------------------------------------------------------------


@here
def test_a_plan_says_when_replicas_fetch() -> None:
    both = {"database": "libsql-remote", "read_engine": "libsql-replica", "readers": 1}
    plan = make_plan(**both, sync="10ms")
    assert (plan.begin, plan.read_begin) == ("immediate", "readonly")
    assert plan.settings().sync == plan.recorded().sync == "10ms"
    assert sync_interval_s("10ms") == 0.01
    for wrong in ("often", "0ms", "-1s", "2h", "0.1us"):
        with pytest.raises(PlanError, match="is no time at which a replica could fetch: give beg"):
            make_plan(**both, sync=wrong)
    with pytest.raises(PlanError, match="writers of libsql-replica have normal at most, and"):
        make_plan(database="libsql-replica", synchronous="full")
    assert make_plan(**both, synchronous="full").synchronous == "full"  # of the server's writers
    with pytest.raises(PlanError, match="no engine of this run has replicas"):
        make_plan(database="sqlite", sync="never")
