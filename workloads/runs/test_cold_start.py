"""Workers start together on a file that is not there: all is counted, and what is lost is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import find_engine, trust
from workloads.errors import PlanError, RunFailed
from workloads.records import COLD, SCHEMA, OpenRecorder, Run, read_opens
from workloads.runs import make_plan, run
from workloads.runs.cold_start import ColdStart, NotStarted
from workloads.runs.control import STOP_NS, ControlBlock
from workloads.runs.plan import Plan
from workloads.scenarios import InvariantBroken, find_scenario

COUNTER: dict[str, Any] = {"scenario": "counter", "database": "sqlite", "cold_start": True}


def cold(folder: Path, **more: Any) -> Run:
    return run(make_plan(**COUNTER | {"transactions": 20} | more), folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return cold(tmp_path_factory.mktemp("cold"), writers=3, readers=1)


def test_the_first_makes_the_schema_and_all_go_on(made: Run) -> None:
    manifest = made.manifest
    assert manifest.ok and manifest.plan.cold_start and not manifest.layout.loaded
    starts = [entry.start for entry in manifest.workers]
    assert sum(start.created for start in starts if start) == 1
    for worker, start in zip(made.workers, starts, strict=True):
        assert start and start.ready_ns and start.opened_ns and start.ready_ns > start.opened_ns
        assert worker.entry.pragmas["journal_mode"] == "wal"
        opens = read_opens(made.folder, worker.worker)
        assert opens["how"].tolist() == [COLD, SCHEMA]
        assert (opens["opened_ns"] <= worker.attempts["start_ns"][0]).all()
        assert (opens["start_ns"] >= manifest.window.start_ns).all(), "it opened behind the gate"


# --- one worker's start, beside a connection that is in its way --------------------------------


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another application's connection, which holds the new file in a rollback journal."""
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


def start_of(tmp_path: Path, **more: Any) -> tuple[ColdStart, Plan]:
    plan = make_plan(**COUNTER | {"busy_timeout_ms": 0, "writers": 1} | more)
    scenario = find_scenario("counter")(plan.shape())
    control = ControlBlock(tmp_path / "control.bin", 1, create=True)
    control.numbers[STOP_NS] = 1 << 62
    engine = find_engine(plan.database)
    connect = partial(engine.connect, begin="immediate", settings=plan.settings())
    recorder = OpenRecorder(tmp_path, 0)
    start = ColdStart(
        0, plan, scenario, tmp_path / "a.db", lambda path: connect(str(path)), control, recorder
    )
    return start, plan


def test_a_refused_journal_mode_is_counted_in_the_engines_words(
    tmp_path: Path, other: sqlite3.Connection
) -> None:
    start, _ = start_of(tmp_path)
    waited = iter((lambda: None, lambda: other.execute("ROLLBACK")))

    def wait(tries: int) -> float:
        next(waited)()
        return 0.0

    start._wait = wait
    session = start()
    found = start.account()
    assert found["refused"] == [
        {"at": "PRAGMA journal_mode", "message": "database is locked", "outcome": "conflict",
         "times": 2}
    ]  # fmt: skip
    assert (found["tries"], found["schema_tries"], found["created"]) == (3, 1, True)
    assert session.pragmas["journal_mode"] == "wal"
    session.close()
    assert not list(tmp_path.glob("aside-*"))


def test_who_does_not_try_again_has_not_started(tmp_path: Path, other: sqlite3.Connection) -> None:
    start, _ = start_of(tmp_path, retry={"policy": "none"})
    with pytest.raises(NotStarted, match="refused after 1 tries, the last: database is locked"):
        start()
    assert start.account()["opened_ns"] is None and start.session is None


def test_a_failure_is_not_tried_again(tmp_path: Path) -> None:
    start, _ = start_of(tmp_path)
    (tmp_path / "a.db").write_bytes(b"no database at all, but a text of some length" * 20)
    with pytest.raises(NotStarted, match="file is not a database"):
        start()
    start.leave()


# --- what breaks is caught ---------------------------------------------------------------------

OWN_FILE = '''
import os
from workloads.engines.sqlite import Sqlite

class OwnFile(Sqlite):
    """Each process but the first makes a file of its own, whatever another has just made."""

    def connect(self, path, *, begin="deferred", settings=None):
        if begin == "immediate" and str(path).endswith("database.db"):
            try:
                os.close(os.open(path + ".first", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                path = f"{path}.{os.getpid()}"
        return super().connect(path, begin=begin, settings=settings)
'''


def broken(tmp_path: Path, text: str, name: str, **more: Any) -> Run:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    trust(path)
    return cold(tmp_path, database=f"{path}:{name}", writers=3, **more)


def test_a_start_that_loses_what_another_made_is_found(tmp_path: Path) -> None:
    made = broken(tmp_path, OWN_FILE, "OwnFile")
    assert not made.manifest.ok
    assert "counters" in [finding.check for finding in made.manifest.broken]
    starts = [entry.start for entry in made.manifest.workers]
    assert sum(start.created for start in starts if start) == 3


def test_an_engine_that_swallows_a_refusal_is_found(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("PRAGMA journal_mode=wal")
    other.execute("BEGIN IMMEDIATE")
    start, _ = start_of(tmp_path, database="faulty-silent-conflict")
    with pytest.raises(InvariantBroken, match="was acknowledged did not see it"):
        start()
    other.close()


def test_a_schema_that_is_lost_behind_its_commit_is_found(tmp_path: Path) -> None:
    start, _ = start_of(tmp_path, database="faulty-lost-commit")
    seventh = find_engine("faulty-lost-commit").Session  # type: ignore[attr-defined]
    real = start._connect

    def connect(path: Path) -> Any:
        session: Any = real(path)
        session._writes = seventh.every - 1
        return session

    start._connect = connect
    with pytest.raises(InvariantBroken, match="committed, and then it was not there: counter"):
        start()


def test_a_schema_that_is_wrong_is_told_before_any_worker_begins(tmp_path: Path) -> None:
    tx = ["a.sql@1\nINSERT INTO t VALUES (1)"]
    params = {"tx": tx, "schema_sql": "s.sql\nCREATE TABLE t(a);\nCREATE TABEL u(a);"}
    with pytest.raises(RunFailed, match=r"s\.sql, line 2"):
        cold(tmp_path, scenario="sql", writers=1, params=params)
    assert not list(tmp_path.iterdir())


# --- who cannot --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"scenario": "acked"}, "scenario 'acked' finds its database filled"),
        ({"database": "null"}, "null keeps no file that its workers could make"),
        ({"database": "libsql-remote"}, "libsql-remote keeps no file"),
        ({"connection": "per-transaction"}, "Leave out --connection per-transaction"),
        ({"cache": "cold"}, "Leave out --cache cold"),
        ({"scenario": "ingest", "autocommit": True, "params": {"operations": 1}}, "--autocommit"),
    ],
)
def test_what_cannot_start_so_is_refused_in_a_sentence(asked: Any, why: str) -> None:
    with pytest.raises(PlanError) as refused:
        make_plan(**COUNTER | asked)
    assert why in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["bank", "ingest", "append", "queue", "register", "request"])
def test_each_scenario_that_says_so_starts_cold(scenario: str, tmp_path: Path) -> None:
    made = cold(tmp_path, scenario=scenario, writers=3, readers=1)
    assert made.manifest.ok, made.manifest.findings
