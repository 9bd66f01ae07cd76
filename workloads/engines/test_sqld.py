"""libSQL's server as an engine: its traps, what an error proves, a server that is never left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import Server, Settings, find_engine, serving, sqld_server
from workloads.engines.libsql_remote import IDLE_S
from workloads.engines.sqld_server import data_of, read_address
from workloads.errors import EngineMissing, RunFailed
from workloads.records import (
    BEGIN,
    BUSY,
    COMMIT,
    CONFLICT,
    FAILED,
    NO_CONFLICT,
    STALE,
    STATEMENT,
    UNKNOWN,
)

REMOTE: Any = find_engine("libsql-remote")
LIMIT_S = 20.0
here = pytest.mark.skipif(REMOTE.missing() is not None, reason=str(REMOTE.missing()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A database with a table of three rows, at a server of this module's."""
    place = tmp_path_factory.mktemp("sqld") / "database.db"
    with serving(REMOTE, place) as server:
        assert server is not None
        one = REMOTE.connect(str(place))
        one.run("CREATE TABLE item(id INTEGER PRIMARY KEY, v, u UNIQUE)")
        one.run("INSERT INTO item VALUES (1, 0, 1), (2, 0, 2), (3, 0, 3)")
        one.close()
        yield place, server


@pytest.fixture
def session(served: tuple[Path, Server]) -> Iterator[Any]:
    one = REMOTE.connect(str(served[0]), begin="immediate")
    yield one
    one.close()


@pytest.fixture
def other(served: tuple[Path, Server]) -> Iterator[Any]:
    one = REMOTE.connect(str(served[0]))
    yield one
    one.close()


def refused(session: Any, phase: int, call: Callable[..., Any], *args: Any) -> Any:
    with pytest.raises(ValueError) as caught:
        call(*args)
    return session.refusal(caught.value, phase, 1_000)


# --- its traps ----------------------------------------------------------------------------------


@here
@pytest.mark.parametrize(
    "value", [2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 5, 1.5, None, b"a\0b", "a\0b", "é"]
)
def test_every_value_arrives_as_it_is(session: Any, value: Any) -> None:
    assert session.rows("SELECT ?, typeof(?2), ?1", (value, 2**40)) == [(value, "integer", value)]


@here
def test_the_binding_itself_spoils_large_integers(session: Any) -> None:
    bare = session._connection.execute("SELECT typeof(?)", (2**31,)).fetchall()
    assert bare == [("real",)]


@here
def test_a_returning_runs_once(session: Any) -> None:
    sql = "UPDATE item SET v = v + 1 WHERE id = ? RETURNING v"
    before = session.rows("SELECT v FROM item WHERE id = 1")[0][0]
    session.run(sql, (1,))
    assert session.rows(sql, (1,)) == [(before + 2,)]


@here
@pytest.mark.parametrize("within", [False, True])
def test_what_a_statement_changed_is_told_also_outside_a_transaction(
    session: Any, within: bool
) -> None:
    if within:
        session.begin()
    session.run("UPDATE item SET v = v WHERE id < 3")
    assert session.rows("SELECT changes()") == [(2,)]
    session.rows("SELECT v FROM item")
    assert session.rows("SELECT changes()") == [(2,)]
    if not within:
        bare = session._connection.execute("SELECT changes()").fetchall()
        assert bare == [(0,)]  # the trap


@here
def test_a_setting_that_answers_an_error_is_made_all_the_same(session: Any, other: Any) -> None:
    assert session.pragmas["synchronous"] == "normal"
    with pytest.raises(ValueError, match="unsupported statement"):
        session.rows("PRAGMA synchronous=off")
    assert session.rows("PRAGMA synchronous") == [(0,)]
    assert other.rows("PRAGMA synchronous") == [(1,)]


@here
@pytest.mark.parametrize("params", [(1,), (1, 2, 3)])
def test_parameters_too_few_or_too_many_are_refused(session: Any, params: tuple[int, ...]) -> None:
    found = refused(session, STATEMENT, session.rows, "SELECT ?, ?", params)
    assert found.outcome == FAILED and "takes 2 parameters" in found.message


# --- what an error proves -----------------------------------------------------------------------


@here
@pytest.mark.parametrize("phase", [STATEMENT, COMMIT])
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("INSERT INTO item VALUES (1, 0, 9)", "UNIQUE constraint failed: item.id"),
        ("SELEC", 'near "SELEC": syntax error'),
    ],
)
def test_the_servers_own_refusal_proves_that_nothing_was_made(
    session: Any, sql: str, message: str, phase: int
) -> None:
    found = refused(session, phase, session.run, sql)
    assert (found.outcome, found.conflict) == (FAILED, NO_CONFLICT)
    assert message in found.message and "Hrana" not in found.message


@here
def test_a_write_on_an_old_snapshot_is_a_conflict_and_leaves_a_transaction(
    session: Any, other: Any
) -> None:
    other.begin()
    other.rows("SELECT v FROM item")
    session.run("UPDATE item SET v = 7 WHERE id = 3")
    found = refused(other, STATEMENT, other.run, "UPDATE item SET v = 8 WHERE id = 2")
    assert found[:2] == (CONFLICT, STALE) and not found.over
    other.rollback()
    assert not other.in_transaction()


@pytest.mark.slow  # the server waits 5 s before it takes the lock away
@here
def test_a_transaction_that_others_waited_for_too_long_is_a_conflict_and_over(
    session: Any, other: Any
) -> None:
    session.begin()
    session.run("UPDATE item SET v = 9 WHERE id = 1")
    other.run("UPDATE item SET v = 10 WHERE id = 1")
    found = refused(session, COMMIT, session.commit)
    assert found[:2] == (CONFLICT, BUSY) and found.over
    assert not session.in_transaction()
    assert other.rows("SELECT v FROM item WHERE id = 1") == [(10,)]
    session.begin()
    other.run("UPDATE item SET v = 11 WHERE id = 1")
    session.rollback()  # which it does not know to be over
    assert not session.in_transaction()


@here
def test_an_idle_connection_is_made_anew_before_a_transaction_and_counted(session: Any) -> None:
    session.begin()
    session.commit()
    assert session.anew == 0
    session._used -= IDLE_S + 1
    session.begin()
    assert session.anew == 1
    session._used -= IDLE_S + 1
    session.run("UPDATE item SET v = 5 WHERE id = 1")
    session.commit()
    assert session.anew == 1  # never in a transaction
    assert session.pragmas["synchronous"] == "normal"


# --- the server ---------------------------------------------------------------------------------


@here
def test_a_killed_server_leaves_unknown_what_it_did_not_answer_and_keeps_what_it_did(
    tmp_path: Path,
) -> None:
    place = tmp_path / "database.db"
    with serving(REMOTE, place) as server:
        assert server is not None
        one, two, three = (REMOTE.connect(str(place), begin="immediate") for _ in range(3))
        one.run("CREATE TABLE item(id INTEGER PRIMARY KEY)")
        one.begin()
        one.run("INSERT INTO item VALUES (1)")
        one.commit()
        two.begin()
        two.run("INSERT INTO item VALUES (2)")
        (pid,) = server.pids()
        endpoint = server.endpoint
        server.kill()
        assert server.pids() == [] and "SIGKILL" in server.ended()
        found = refused(two, COMMIT, two.commit)
        assert (found.outcome, found.conflict, found.over) == (UNKNOWN, NO_CONFLICT, True)
        found = refused(one, BEGIN, one.begin)
        assert (found.outcome, found.over) == (FAILED, True)
        # An autocommitted write has no COMMIT: a lost answer leaves it as unknown as one.
        found = refused(three, STATEMENT, three.run, "INSERT INTO item VALUES (3)")
        assert found.outcome == UNKNOWN
        server.start_again()
        assert server.endpoint == endpoint and server.pids() != [pid] and server.ended() == ""
        two.begin()
        assert two.anew == 1
        assert two.rows("SELECT id FROM item") == [(1,)]
        two.commit()
        for each in (one, two, three):
            each.close()


@here
def test_a_server_that_is_closed_leaves_its_data_and_no_process(tmp_path: Path) -> None:
    place = tmp_path / "database.db"
    with serving(REMOTE, place) as server:
        assert server is not None
        processes = [psutil.Process(pid) for pid in server.pids()]
        one = REMOTE.connect(str(place))
        one.run("CREATE TABLE kept(id INTEGER PRIMARY KEY)")
        one.run("INSERT INTO kept VALUES (5)")
        one.close()
    assert psutil.wait_procs(processes, timeout=LIMIT_S)[1] == []
    assert data_of(place).is_dir()
    with serving(REMOTE, place):
        again = REMOTE.connect(str(place))
        assert again.rows("SELECT id FROM kept") == [(5,)]
        again.close()
    shutil.rmtree(data_of(place))
    with pytest.raises(RunFailed, match="the data of its server, sqld, are gone"):
        REMOTE.serve(place, Settings())


KILLED = """
import sys, time
from pathlib import Path
from workloads.engines import find_engine, serving
with serving(find_engine("libsql-remote"), Path(sys.argv[1])):
    session = find_engine("libsql-remote").connect(sys.argv[1])
    session.begin()
    print("serving", flush=True)
    time.sleep(600)
"""


@here
def test_it_is_gone_with_the_parent_that_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "database.db"
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(place)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        server = psutil.Process(read_address(place).pid)
        assert "sqld" in server.name()
        os.kill(process.pid, signal.SIGKILL)
    assert psutil.wait_procs([server], timeout=LIMIT_S)[1] == []


@here
def test_two_servers_are_never_on_one_folder(
    served: tuple[Path, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqld_server, "AWAITED_S", 0.05)
    with pytest.raises(RunFailed, match="another sqld is using it"):
        REMOTE.serve(served[0], Settings())
    one = REMOTE.connect(str(served[0]))  # it has not taken the other's address away
    assert one.rows("SELECT count(*) FROM item") == [(3,)]
    one.close()


@here
def test_later_connections_go_where_the_server_is_said_to_be(
    served: tuple[Path, Server], session: Any
) -> None:
    place, server = served
    try:
        server.redirect(9)  # nobody listens there
        with pytest.raises(ValueError, match="Connection refused"):
            REMOTE.connect(str(place))
        assert session.rows("SELECT 1") == [(1,)]
        assert server.endpoint[1] != 9
    finally:
        server.redirect(server.endpoint[1])


def test_what_is_missing_is_one_sentence_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sqld_server, "BUILD", tmp_path)
    assert "sqld, is missing: it was never fetched. Get it with: make setup" in REMOTE.missing()
    (tmp_path / "why-missing.txt").write_text("no network.\n")
    with pytest.raises(EngineMissing, match=r"is missing: no network\. Get it with"):
        REMOTE.serve(tmp_path / "database.db", Settings())


def test_another_file_is_no_address(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_text("SQLite format 3")
    with pytest.raises(ValueError, match="is no address of libSQL's server"):
        REMOTE.connect(str(tmp_path / "database.db"))
