"""Readers keep their snapshot for as long as they are to, and who does not is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workloads.engines import Settings, find_engine, trust
from workloads.errors import PlanError
from workloads.records import Run
from workloads.runs import make_plan, run
from workloads.runs.snapshots import OneSnapshot
from workloads.scenarios import InvariantBroken

COUNTER: dict[str, Any] = {
    "scenario": "counter", "database": "sqlite", "writers": 1, "readers": 1, "duration_s": 0.4,
    "warmup_s": 0, "reader_holds_s": 0.1, "params": {"rows": 1},
}  # fmt: skip

FORGETS = '''
from workloads.engines import Faulty, PassingSession

class Forgetful(PassingSession):
    """Each query of a transaction sees what is committed by then."""

    def rows(self, sql, params=()):
        found = self.real.rows(sql, params)
        if sql.startswith("SELECT") and self.real.in_transaction() and self.reads_only:
            self.real.commit()
            self.real.begin()
        return found

class Forgets(Faulty):
    name = "forgets"
    Session = Forgetful

    def connect(self, path, *, begin="deferred", settings=None):
        session = super().connect(path, begin=begin, settings=settings)
        session.reads_only = begin == "deferred"
        return session
'''


def held(folder: Path, **more: Any) -> Run:
    return run(make_plan(**COUNTER | more), folder)


def test_a_reader_keeps_its_transaction_open_and_sees_one_state_of_the_database(
    tmp_path: Path,
) -> None:
    made = held(tmp_path)
    assert made.manifest.ok, made.manifest.findings
    writer, reader = made.workers
    rows = reader.attempts
    assert 2 <= len(rows) <= 5 and len(writer.attempts) > len(rows)
    whole = rows[:-1]  # the last may have been cut off by the end of the run
    assert ((whole["worked_ns"] - whole["begun_ns"]) >= 100_000_000).all()
    assert (rows["result"][1:] > rows["result"][:-1]).all(), "the next snapshot is a new one"


def test_a_reader_that_does_not_keep_its_snapshot_is_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FORGETS, encoding="utf-8")
    trust(path)
    made = held(tmp_path, database=f"{path}:Forgets")
    (broken,) = made.manifest.broken
    assert broken.check == "during the run"
    assert "got two answers to one query within one transaction" in broken.sentence


def test_only_what_the_database_itself_answers_is_held_against_the_first_answer(
    tmp_path: Path,
) -> None:
    engine, path = find_engine("sqlite"), str(tmp_path / "a.db")
    writer = engine.connect(path, begin="immediate", settings=Settings())
    writer.run("CREATE TABLE t(a)")
    reader = OneSnapshot(engine.connect(path, begin="deferred", settings=Settings()))
    count = "SELECT count(*) FROM t"
    reader.begin()
    assert reader.rows(count) == [(0,)]
    writer.run("INSERT INTO t VALUES (1)")
    assert reader.rows(count) == [(0,)] and reader.rows("SELECT random()")
    reader.rows("SELECT random()")
    reader.commit()
    reader.begin()
    assert reader.rows(count) == [(1,)], "a new transaction has a new snapshot"
    reader.rollback()
    # Outside a transaction each query has its own: the answers differ, and that is found.
    writer.run("INSERT INTO t VALUES (2)")
    with pytest.raises(InvariantBroken, match="two answers to one query"):
        reader.rows(count)
    OneSnapshot(reader.real, checked=False).rows(count)
    reader.close()
    writer.close()


def test_a_long_snapshot_is_no_hung_reader() -> None:
    plan = make_plan(**COUNTER | {"reader_holds_s": 90})
    assert plan.patience_s() > 90 + plan.deadline_s


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"readers": 0}, "there are no readers"),
        ({"database": "null"}, "null promises no isolation level"),
        (
            {"database": "postgres", "read_begin": "read-committed"},
            "mode read-committed of postgres is read-committed, so that a reader has no snapshot",
        ),
        ({"scenario": "ingest", "params": {}, "autocommit": True}, "without BEGIN"),
    ],
)
def test_who_has_no_snapshot_is_refused_in_a_sentence(
    asked: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workloads.engines.postgres.Postgres.missing", lambda self: None)
    with pytest.raises(PlanError) as refused:
        make_plan(**COUNTER | asked)
    assert why in str(refused.value) and "\n" not in str(refused.value)


def test_a_script_that_writes_or_begins_by_itself_cannot_keep_a_snapshot() -> None:
    plain = {"scenario": "sql", "database": "sqlite", "reader_holds_s": 0.1, "readers": 1}
    for text, why in (
        ("BEGIN; SELECT 1; COMMIT; SELECT 2;", "is not one transaction"),
        ("BEGIN; DELETE FROM t; COMMIT;", "changes something"),
    ):
        tx = ["select-only@1", f"mine.sql@1:reader\n{text}"]
        with pytest.raises(PlanError, match=why):
            make_plan(**plain, params={"tx": tx})


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["bank", "ingest", "append", "queue", "register", "acked"])
def test_checks_of_each_scenario_stay_silent_beside_snapshots_that_are_kept(
    scenario: str, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"begin": "concurrent"} if scenario == "append" else {}
    database = "sqlite-concurrent" if more else "sqlite-latest"
    made = held(tmp_path, scenario=scenario, database=database, params={}, readers=2, **more)
    assert made.manifest.ok, made.manifest.findings
