"""Each negative control is caught by the smallest schedule that can: a few steps, two sessions.

The same schedule on the real engine stays silent: a check that cries at both has seen nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workloads.engines.engine import Engine, Session, Settings, find_engine
from workloads.engines.faulty import LostCommit, LostUpdate, SilentConflict, TornRead
from workloads.engines.libsql import Libsql
from workloads.engines.sqlite import Sqlite
from workloads.records import BEGIN, COMMITTED, FAILED

Open = Callable[[str], Session]


def lost_commits(connect: Open) -> str:
    """Acknowledged rows that a second session does not find."""
    writer, reader = connect("immediate"), connect("deferred")
    acknowledged = []
    for number in range(20):
        writer.begin()
        writer.run("INSERT INTO t VALUES (?, 0)", (100 + number,))
        writer.commit()
        acknowledged.append((100 + number,))
    found = reader.rows("SELECT id FROM t WHERE id >= 100 ORDER BY id")
    return "" if found == acknowledged else f"lost {sorted(set(acknowledged) - set(found))}"


def torn_reads(connect: Open) -> str:
    """A transfer between two rows whose sum a reader sees change."""
    writer, reader = connect("immediate"), connect("deferred")
    writer.begin()
    writer.run("UPDATE t SET value = value - 1 WHERE id = 1")
    seen = reader.rows("SELECT sum(value) FROM t")
    writer.run("UPDATE t SET value = value + 1 WHERE id = 2")
    writer.commit()
    return "" if seen == [(0,)] else f"saw the sum {seen[0][0]} instead of 0"


def lost_updates(connect: Open) -> str:
    """Two increments of one row, read and written in turns: as many as were acknowledged count."""
    sessions = [connect("immediate"), connect("immediate")]
    read, done = {}, 0
    for number, session in enumerate(sessions):
        # The real engine refuses the second at once: it has nothing to acknowledge.
        with contextlib.suppress(Exception):
            session.begin()
            read[number] = session.rows("SELECT value FROM t WHERE id = 1")[0][0]
    for number, value in read.items():
        sessions[number].run("UPDATE t SET value = ? WHERE id = 1", (value + 1,))
        sessions[number].commit()
        done += 1
    (value,) = sessions[0].rows("SELECT value FROM t WHERE id = 1")[0]
    return "" if value == done else f"{done} increments acknowledged, value {value}"


def silent_conflicts(connect: Open) -> str:
    """Writes beside a session that holds the lock: what is acknowledged has to be there."""
    holder, other = connect("immediate"), connect("immediate")
    holder.begin()
    try:
        other.begin()
        other.run("INSERT INTO t VALUES (500, 0)")
        other.commit()
        outcome = COMMITTED
    except Exception as error:
        outcome = other.refusal(error, BEGIN).outcome
        other.rollback()
    holder.commit()
    there = other.rows("SELECT count(*) FROM t WHERE id = 500") == [(1,)]
    return "" if there == (outcome == COMMITTED) else "acknowledged, and not there"


CONTROLS = {
    "faulty-lost-commit": (LostCommit, lost_commits),
    "faulty-torn-read": (TornRead, torn_reads),
    "faulty-lost-update": (LostUpdate, lost_updates),
    "faulty-silent-conflict": (SilentConflict, silent_conflicts),
}


def connector(engine: Engine, path: str, opened: list[Session]) -> Open:
    def connect(begin: str) -> Session:
        session = engine.connect(path, begin=begin, settings=Settings(busy_timeout_ms=0))
        if not opened:
            session.run("CREATE TABLE t (id INTEGER PRIMARY KEY, value INTEGER)")
            session.run("INSERT INTO t VALUES (1, 0), (2, 0)")
        opened.append(session)
        return session

    return connect


def evidence(engine: Engine, path: Path, check: Callable[[Open], str]) -> str:
    opened: list[Session] = []
    try:
        return check(connector(engine, str(path), opened))
    finally:
        for session in opened:
            session.close()


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_is_caught_and_the_real_engine_is_not(name: str, tmp_path: Path) -> None:
    _, check = CONTROLS[name]
    assert evidence(find_engine(name), tmp_path / "faulty.db", check)
    assert not evidence(find_engine("sqlite"), tmp_path / "real.db", check)


ALSO_SEEN_BY = {"faulty-silent-conflict": [lost_updates]}
"""An increment that was acknowledged and not applied is a lost update too."""


@pytest.mark.parametrize("name", CONTROLS)
def test_no_other_check_cries_at_a_control_that_is_not_its_own(name: str, tmp_path: Path) -> None:
    for other, (_, check) in CONTROLS.items():
        if other != name and check not in ALSO_SEEN_BY.get(name, []):
            assert not evidence(find_engine(name), tmp_path / f"{other}.db", check), other


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_over_another_engine_is_caught_too(name: str, tmp_path: Path) -> None:
    control, check = CONTROLS[name]
    base = Libsql()
    if why := base.missing():
        pytest.skip(why)
    assert evidence(control(base), tmp_path / "faulty.db", check)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_promises_what_its_real_engine_does(name: str) -> None:
    engine = find_engine(name)
    assert engine.promises == Sqlite.promises
    assert engine.identity().binding.startswith(f"{name} over ")


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_refuses_a_mode_that_its_real_engine_refuses(name: str, tmp_path: Path) -> None:
    session: Any = find_engine(name).connect(str(tmp_path / "faulty.db"), begin="concurrent")
    with pytest.raises(Exception, match="CONCURRENT") as caught:
        session.begin()
    assert session.refusal(caught.value, BEGIN).outcome == FAILED
    session.close()
