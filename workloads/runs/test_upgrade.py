"""Why did my busy timeout not apply? A refused upgrade is told from a lock that was waited for.

Each interleaving is played on real connections, step by step; what a refused call took is measured
around it. Where a lock is really waited for, the timeout is short and the wait is at least as long;
where nobody may wait, it is so long that a test which waited would be seen.
"""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from workloads.engines import Refusal, Session, Settings, classifier, trust
from workloads.engines.testing import LIMIT_S, REAL, SQLITE_FAMILY, usable
from workloads.processes import children, python, start
from workloads.records import (
    BEGIN,
    BUSY,
    COMMIT,
    CONFLICT,
    STALE,
    STATEMENT,
    UNCLASSIFIED,
    UPGRADE,
    within_ns,
)
from workloads.records import attempts as rec
from workloads.runs.conduct import run
from workloads.runs.plan import make_plan

WAITS = Settings(busy_timeout_ms=100)
NEVER = Settings(busy_timeout_ms=60_000)
"""Longer than any test may take: who is refused before was not made to wait."""

READ, WRITE = "SELECT v FROM t WHERE id = 1", "UPDATE t SET v = v + 1 WHERE id = 1"
JOURNALS = [
    *((name, journal) for name in SQLITE_FAMILY for journal in ("wal", "delete")),
    ("turso", "mvcc"),
    ("turso", "wal"),
]
WAL_LIKE = [pair for pair in JOURNALS if pair[1] != "delete"]


class Place:
    """A database of one engine and journal, and sessions on it."""

    def __init__(self, opened: Any, name: str, journal: str = "wal") -> None:
        self.engine, self.opened, self.journal = usable(name), opened, journal
        first = self.session("deferred")
        assert first.pragmas["journal_mode"] == journal
        first.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, filler BLOB)")
        first.run("INSERT INTO t VALUES (1, 0, NULL), (2, 0, NULL)")

    def session(self, begin: str, settings: Settings = WAITS, **more: Any) -> Session:
        values = {**vars(settings), "journal_mode": self.journal, **more}
        return self.opened(self.engine, begin, Settings(**values))

    def holder(self) -> Session:
        """A session that holds the write lock, with a row changed."""
        holder = self.session("immediate")
        holder.begin()
        holder.run("UPDATE t SET v = v + 1 WHERE id = 2")
        return holder

    def reader(self, settings: Settings = WAITS, begin: str = "deferred") -> Session:
        """A session in a transaction that has read."""
        reader = self.session(begin, settings)
        reader.begin()
        assert reader.rows(READ) == [(0,)]
        return reader


class Took(NamedTuple):
    refusal: Refusal
    ns: int

    @property
    def kind(self) -> int:
        assert self.refusal.outcome == CONFLICT, self.refusal
        return self.refusal.conflict


def refused(session: Session, phase: int, call: Any, *args: Any, clock: bool = True) -> Took:
    """The refusal of a call that has to raise, and what the call took."""
    begun = time.monotonic_ns()
    try:
        call(*args)
    except BaseException as error:
        took = time.monotonic_ns() - begun
        return Took(session.refusal(error, phase, took if clock else None), took)
    raise AssertionError(f"{args or call} was not refused")


@contextmanager
def process(task: str, name: str, path: str, place: Path) -> Iterator[Any]:
    """A forked process with a task of TASKS, and its output; it is gone afterwards."""
    (place / "tasks.py").write_text(TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "PROGRAMS", ("tasks",))
        argv = python("tasks", task, name, path)
        where = [str(place)]
        child = start(task, argv, search_path=where, stdout=subprocess.PIPE, method="fork").process
    try:
        yield child.stdout
    finally:
        child.kill()
        child.wait(LIMIT_S)
        assert child.stdout is not None
        child.stdout.close()


def received(pipe: Any) -> str:
    assert select.select([pipe], [], [], LIMIT_S)[0], f"no answer within {LIMIT_S} s"
    return pipe.readline().decode().strip()


def waited(took: Took, settings: Settings = WAITS) -> bool:
    return took.ns >= settings.busy_timeout_ms * 1_000_000


# --- refused at once: another writes -----------------------------------------------------------


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_write_upon_a_read_beside_a_writer_is_an_upgrade_and_nobody_waited(
    name: str, journal: str, opened: Any
) -> None:
    place = Place(opened, name, journal)
    reader, _ = place.reader(NEVER), place.holder()
    took = refused(reader, STATEMENT, reader.run, WRITE)
    assert took.kind == UPGRADE
    assert not waited(took, NEVER)
    assert reader.in_transaction()
    assert reader.rows(READ) == [(0,)]  # its snapshot is as it was


@pytest.mark.parametrize("journal", ["mvcc", "wal"])
def test_turso_waits_for_a_lock_where_sqlite_refuses_the_upgrade(journal: str, opened: Any) -> None:
    place = Place(opened, "turso", journal)
    reader, _ = place.reader(), place.holder()
    took = refused(reader, STATEMENT, reader.run, WRITE)
    assert took.kind == (BUSY if journal == "wal" else UNCLASSIFIED)
    assert waited(took)


@pytest.mark.parametrize(("name", "journal"), WAL_LIKE)
def test_an_upgrade_upon_an_old_snapshot_is_stale_where_the_engine_says_so(
    name: str, journal: str, opened: Any
) -> None:
    place = Place(opened, name, journal)
    hidden = (name, journal) == ("turso", "mvcc")
    reader = place.reader(WAITS if hidden else NEVER)
    place.session("deferred").run(WRITE)
    took = refused(reader, STATEMENT, reader.run, WRITE)
    if hidden:  # it waits in vain, and then says that the database is locked
        assert took.kind == UNCLASSIFIED
        assert waited(took)
    else:  # libSQL's binding has one text and no code for both
        assert took.kind == (UPGRADE if name == "libsql" else STALE)
        assert not waited(took, NEVER)


TASKS = """
import time
from workloads.engines import Settings, find_engine

def commit(name, path):
    # A writer that waits in COMMIT until the reader has gone.
    patient = Settings(busy_timeout_ms=60_000, journal_mode="delete")
    session = find_engine(name).connect(path, begin="immediate", settings=patient)
    session.begin()
    session.run("UPDATE t SET v = v + 10 WHERE id = 2")
    print("commits", flush=True)
    session.commit()
    print("committed", flush=True)
    session.close()

def look(name, path):
    # A new reader, which is shut out as soon as that COMMIT waits.
    impatient = Settings(busy_timeout_ms=0, journal_mode="delete")
    session = find_engine(name).connect(path, settings=impatient)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            session.rows("SELECT v FROM t WHERE id = 1")
        except Exception as error:
            print(" ".join(str(error).split()), flush=True)
            break
    session.close()

def main(argv):
    {"commit": commit, "look": look}[argv[0]](*argv[1:])
    return 0
"""


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_two_that_would_wait_for_each_other_end_in_an_upgrade(
    name: str, path: str, opened: Any, tmp_path: Path
) -> None:
    place = Place(opened, name, "delete")
    reader = place.reader(NEVER)
    with process("commit", name, path, tmp_path) as writer:
        assert received(writer) == "commits"
        with process("look", name, path, tmp_path) as looker:
            assert "locked" in received(looker)
        took = refused(reader, STATEMENT, reader.run, WRITE)
        assert took.kind == UPGRADE
        assert not waited(took, NEVER)
        reader.rollback()
        assert received(writer) == "committed"


# --- controls: locks that are really waited for ------------------------------------------------


@pytest.mark.parametrize(("name", "journal"), JOURNALS)
def test_a_first_statement_that_writes_waits_and_is_busy(
    name: str, journal: str, opened: Any
) -> None:
    place = Place(opened, name, journal)
    _, other = place.holder(), place.session("deferred")
    other.begin()
    took = refused(other, STATEMENT, other.run, WRITE)
    assert took.kind == BUSY
    assert waited(took)


@pytest.mark.parametrize("mode", ["immediate", "exclusive"])
@pytest.mark.parametrize(("name", "journal"), JOURNALS)
def test_a_begin_that_wants_the_lock_waits_and_is_busy(
    name: str, journal: str, mode: str, opened: Any
) -> None:
    place = Place(opened, name, journal)
    _, other = place.holder(), place.session(mode)
    took = refused(other, BEGIN, other.begin)
    assert took.kind == BUSY
    assert waited(took)


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_commit_beside_a_reader_waits_and_is_busy_in_a_rollback_journal(
    name: str, opened: Any
) -> None:
    place = Place(opened, name, "delete")
    writer = place.reader()  # it has read itself: that alone makes no upgrade
    writer.run(WRITE)
    other = place.session("deferred")
    other.begin()
    other.rows(READ)
    took = refused(writer, COMMIT, writer.commit)
    assert took.kind == BUSY
    assert waited(took)


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_read_beside_an_exclusive_lock_waits_and_is_busy(name: str, opened: Any) -> None:
    place = Place(opened, name, "delete")
    holder, other = place.session("exclusive"), place.session("deferred")
    holder.begin()
    other.begin()
    took = refused(other, STATEMENT, other.rows, READ)
    assert took.kind == BUSY
    assert waited(took)


def test_a_concurrent_commit_beside_a_writer_waits_and_is_busy(opened: Any) -> None:
    place = Place(opened, "sqlite-concurrent")
    other = place.reader(begin="concurrent")
    other.run(WRITE)
    place.holder()
    took = refused(other, COMMIT, other.commit)
    assert took.kind == BUSY
    assert waited(took)


def test_a_concurrent_commit_upon_an_old_page_is_stale_and_nobody_waited(opened: Any) -> None:
    place = Place(opened, "sqlite-concurrent")
    other = place.reader(NEVER, begin="concurrent")
    other.run(WRITE)
    place.session("deferred").run(WRITE)
    took = refused(other, COMMIT, other.commit)
    assert took.kind == STALE
    assert not waited(took, NEVER)


@pytest.mark.parametrize("name", REAL)
def test_a_write_outside_a_transaction_waits_whatever_was_read_before(
    name: str, opened: Any
) -> None:
    place = Place(opened, name, "mvcc" if name == "turso" else "wal")
    other = place.reader()
    other.commit()
    place.holder()
    took = refused(other, STATEMENT, other.run, WRITE)
    assert took.kind == BUSY
    assert waited(took)


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_read_that_took_no_snapshot_makes_no_upgrade(name: str, opened: Any) -> None:
    place = Place(opened, name)
    other = place.session("deferred")
    other.begin()
    other.rows("SELECT 1")
    place.holder()
    took = refused(other, STATEMENT, other.run, WRITE)
    assert waited(took)
    assert took.kind == (BUSY if name == "sqlite-concurrent" else UNCLASSIFIED)


def test_with_two_files_the_clock_tells_which_was_locked(opened: Any, tmp_path: Path) -> None:
    place = Place(opened, "sqlite-concurrent")
    holder, patient, brief = (place.session("immediate"), place.session("deferred", NEVER),
                              place.session("deferred"))  # fmt: skip
    for session in (holder, patient, brief):
        session.run(f"ATTACH '{tmp_path / 'aside.db'}' AS aside")
    holder.run("CREATE TABLE aside.u (v)")
    for session in (patient, brief):
        session.begin()
        session.rows(READ)
    holder.begin()
    took = refused(patient, STATEMENT, patient.run, WRITE)
    assert (took.kind, waited(took, NEVER)) == (UPGRADE, False)
    # It holds no snapshot of the other file, and waits.
    took = refused(brief, STATEMENT, brief.run, "INSERT INTO aside.u VALUES (1)")
    assert (took.kind, waited(took)) == (UNCLASSIFIED, True)


# --- where neither the engine nor the clock tells ----------------------------------------------


@pytest.mark.parametrize("blind", ["timeout 0", "no clock"])
@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_without_a_wait_to_tell_by_only_the_engine_tells(
    name: str, blind: str, opened: Any
) -> None:
    place = Place(opened, name)
    reader = place.reader(Settings(busy_timeout_ms=0) if blind == "timeout 0" else NEVER)
    place.holder()
    took = refused(reader, STATEMENT, reader.run, WRITE, clock=blind != "no clock")
    assert took.kind == (UPGRADE if name == "sqlite-concurrent" else UNCLASSIFIED)


@pytest.mark.parametrize("name", REAL)
def test_each_transaction_forgets_what_the_one_before_had_read(name: str, opened: Any) -> None:
    place = Place(opened, name, "mvcc" if name == "turso" else "wal")
    other = place.reader()
    other.rollback()
    place.holder()
    other.begin()
    took = refused(other, STATEMENT, other.run, WRITE)
    assert took.kind == BUSY
    assert waited(took)


def test_an_engine_of_your_own_may_leave_out_the_time() -> None:
    class Two:
        def refusal(self, error: BaseException, phase: int) -> Refusal:
            return Refusal(CONFLICT, BUSY, str(error), True)

    class Three(Two):
        def refusal(self, error: BaseException, phase: int, within_ns: Any = None) -> Refusal:
            return Refusal(CONFLICT, UPGRADE if within_ns == 7 else STALE, str(error), True)

    two, three = classifier(Two()), classifier(Three())  # type: ignore[arg-type]
    assert two(ValueError("x"), STATEMENT, 7).conflict == BUSY
    assert three(ValueError("x"), STATEMENT, 7).conflict == UPGRADE


# --- in runs of several processes --------------------------------------------------------------


HELD = """
from workloads.scenarios.counter import READ, WRITE, Counter

class Held(Counter):
    name = "held"

    def bodies(self, context):
        run, rows, think = context.session.run, context.session.rows, context.think

        def increment(args):
            n = rows(READ, args)[0][0] + 1
            think()
            run(WRITE, (n, args[0]))
            think()  # with the lock: who has read by now and writes finds it held
            return n

        return increment, increment
"""


def refusals(scenario: str, folder: Path, **more: Any) -> np.ndarray:
    """The refused attempts of three writers of one row."""
    plan = make_plan(scenario=scenario, writers=3, duration_s=60, warmup_s=0, **more)
    made = run(plan, folder / "runs")
    assert made.manifest.ok, made.manifest.findings
    rows = np.concatenate([worker.attempts for worker in made.workers])
    found = rows[rows["outcome"] == CONFLICT]
    assert len(found), "nobody was refused, so that this test has seen nothing"
    return found


@pytest.mark.parametrize("name", SQLITE_FAMILY)
def test_a_run_tells_upgrades_by_the_engine_or_the_clock_without_the_work(
    name: str, tmp_path: Path
) -> None:
    usable(name)
    think_ns = 2_000_000
    path = tmp_path / "held.py"
    path.write_text(HELD)
    trust(path)
    found = refusals(
        f"{path}:Held",
        tmp_path,
        database=name,
        begin="deferred",
        params={"rows": 1, "think_us": think_ns / 1000, "think": "sleep"},
        transactions=40,
        busy_timeout_ms=60_000,
    )
    assert UPGRADE in found["conflict"]
    assert set(found["conflict"]) <= {UPGRADE, STALE}
    assert set(found["phase"]) == {STATEMENT}
    within = within_ns(found)
    assert (within > 0).all()
    assert (within < 60_000_000_000).all()
    # The work lies between BEGIN and the refused statement, and none of it was waited.
    assert (found["end_ns"] - found["begun_ns"] - within >= think_ns * 0.999).all()


@pytest.mark.parametrize("name", REAL)
def test_a_run_in_which_locks_are_waited_for_has_the_wait(name: str, tmp_path: Path) -> None:
    usable(name)
    found = refusals(
        "counter",
        tmp_path,
        database=name,
        begin="immediate",
        params={"rows": 1, "think_us": 150_000, "think": "sleep"},
        transactions=3,
        busy_timeout_ms=50,
    )
    assert set(found["conflict"]) == {BUSY}
    assert set(found["phase"]) == {BEGIN}
    assert (within_ns(found) >= 50_000_000).all()


def test_a_run_without_a_timeout_guesses_nothing(tmp_path: Path) -> None:
    found = refusals(
        "counter",
        tmp_path,
        database="libsql",
        begin="deferred",
        params={"rows": 1, "think_us": 1000, "think": "sleep"},
        transactions=40,
        busy_timeout_ms=0,
    )
    assert UNCLASSIFIED in found["conflict"]
    assert set(found["conflict"]) <= {UNCLASSIFIED, BUSY}


# --- the recording ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ns", [1, 2, 61_234, 2**19 - 1, 2**19, 2**19 + 1, 2**20 - 1, 10**9, 6 * 10**11]
)
def test_a_time_in_three_bytes_is_never_less_than_it_was(ns: int) -> None:
    rows = np.zeros(1, rec.ATTEMPT)
    rows["phase"] = STATEMENT
    rows.view("u1")[rec.WITHIN_AT :] = np.frombuffer(rec.packed_within(ns), "u1")
    kept = int(within_ns(rows)[0])
    assert ns <= kept <= ns * (1 + 4e-6)


def test_a_run_made_before_the_time_was_kept_tells_it_from_begin_on() -> None:
    rows = np.zeros(5, rec.ATTEMPT)
    rows["start_ns"], rows["begun_ns"], rows["worked_ns"], rows["end_ns"] = 1, 10, 100, 1000
    rows["phase"] = [BEGIN, STATEMENT, COMMIT, rec.NO_PHASE, STATEMENT]
    rows["end_ns"][4] = 0  # never closed
    assert within_ns(rows).tolist() == [999, 990, 900, 0, 0]


def test_the_numbers_of_the_kinds_on_disk_stay_as_they_are() -> None:
    assert rec.CONFLICTS == (
        "", "busy", "stale", "write_write", "serialization", "unclassified", "upgrade"
    )  # fmt: skip
    assert rec.CONFLICTS[UPGRADE] == "upgrade"
    assert set(rec.MEANINGS) == set(rec.CONFLICTS[1:])
    assert "BEGIN IMMEDIATE" in rec.MEANINGS["upgrade"]
