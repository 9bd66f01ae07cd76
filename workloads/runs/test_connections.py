"""Workers keep their connections, open one for each attempt, or borrow one of a pool."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import find_engine
from workloads.errors import PlanError, RunError
from workloads.records import BORROWED, FAILED, FIRST, LAST, RECOVERY, OpenRecorder, read_opens
from workloads.runs import make_plan, run
from workloads.runs.connections import PerTransaction
from workloads.runs.control import ControlBlock

COUNTER: dict[str, Any] = {"scenario": "counter", "database": "sqlite", "transactions": 4}


def test_each_attempt_opens_a_connection_and_closes_it(tmp_path: Path) -> None:
    made = run(make_plan(**COUNTER, writers=1, connection="per-transaction"), tmp_path)
    assert made.manifest.ok and made.manifest.plan.connection == "per-transaction"
    (worker,) = made.workers
    opens, attempts = read_opens(made.folder, 0)[-4:], worker.attempts
    assert worker.entry.pragmas["synchronous"] == "normal"
    # The opening is in the attempt's begin, the closing after its end.
    assert (opens["start_ns"] >= attempts["start_ns"]).all()
    assert (opens["opened_ns"] <= attempts["begun_ns"]).all()
    assert (opens["close_ns"] >= attempts["end_ns"]).all()
    assert (opens["how"] == FIRST | LAST).all(), "it was alone, and each close took the log away"


@pytest.mark.parametrize("connection", ["per-transaction", "shared"])
def test_a_scenario_whose_readers_try_a_statement_first_has_no_connection_for_it_yet(
    connection: str, tmp_path: Path
) -> None:
    values = COUNTER | {"scenario": "request", "connection": connection, "params": {"rows": 8}}
    made = run(make_plan(**values, writers=0, readers=1), tmp_path)
    assert made.manifest.ok, made.manifest.workers


def test_workers_of_a_role_borrow_from_one_pool(tmp_path: Path) -> None:
    plan = make_plan(**COUNTER, writers=3, readers=1, connection="pool:2")
    made = run(plan, tmp_path)
    assert made.manifest.ok and len({w.entry.pid for w in made.workers}) == 1
    for worker in made.workers:
        opens = read_opens(made.folder, worker.worker)
        assert len(worker.attempts) >= 4 and (opens["how"] == BORROWED).all()
        assert (opens["close_ns"] == 0).all()


def test_who_finds_nobody_connected_and_a_log_had_to_recover_it(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    engine = find_engine("sqlite")
    control = ControlBlock(tmp_path / "control.bin", 2, create=True)
    recorder = OpenRecorder(tmp_path, 0)
    connect = partial(engine.connect, str(database), begin="immediate")
    session = PerTransaction(connect, database, control, 0, recorder)

    def once() -> None:
        session.begin()
        session.commit()
        session.finished()

    once()
    other = sqlite3.connect(database, isolation_level=None)  # it keeps the log, and is not counted
    other.execute("CREATE TABLE t (a)")
    once()
    control.set_connected(1, 1)
    once()
    other.close()
    session.close()
    assert read_opens(tmp_path, 0)["how"].tolist() == [FIRST | LAST, FIRST | RECOVERY | LAST, 0]


def test_a_connection_that_cannot_be_opened_is_a_failed_attempt(tmp_path: Path) -> None:
    engine, folder = find_engine("sqlite"), tmp_path / "gone"
    folder.mkdir()
    control = ControlBlock(tmp_path / "control.bin", 1, create=True)
    connect = partial(engine.connect, str(folder / "a.db"), begin="immediate")
    session = PerTransaction(connect, folder / "a.db", control, 0, None)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(sqlite3.OperationalError) as error:
        session.begin()
    refusal = session.refusal(error.value, 1)
    assert refusal.outcome == FAILED and refusal.over and not session.in_transaction()
    assert not control.connected_beside(0)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"connection": "pool:0"}, "give kept, per-transaction, shared, or pool:N"),
        ({"connection": "often"}, "give kept, per-transaction, shared, or pool:N"),
        (
            {"connection": "shared", "database": "null"},
            "several threads may not use one connection of null",
        ),
    ],
)
def test_connections_that_make_no_sense_are_refused_in_a_sentence(asked: Any, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        make_plan(**COUNTER | asked)


def test_a_file_of_openings_that_was_edited_is_refused(tmp_path: Path) -> None:
    recorder = OpenRecorder(tmp_path, 0)
    recorder.add(5, 4, 0, 0, 0)
    recorder.close()
    with pytest.raises(RunError, match="It was cut or edited"):
        read_opens(tmp_path, 0)
