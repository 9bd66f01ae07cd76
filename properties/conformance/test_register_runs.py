"""Histories that runs of `register` leave: all its operations, on sound and on broken engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from properties.checker import FORBIDS, check
from properties.conformance.book import book
from properties.conformance.targets import Target
from workloads.engines import LoggedSession, Ops, Settings, find_engine, log_path, modes_of
from workloads.records import COMMITTED, HISTORY_FILE, WRITE, Run
from workloads.records.columns import load
from workloads.runs import make_plan, run
from workloads.scenarios import Draw, WorkerContext
from workloads.scenarios.register import MIXED, Register, RegisterShape
from workloads.scenarios.register_history import (
    INSERT,
    READ,
    RMW,
    SCAN,
    UPDATE,
    WORKERS,
    logged_bodies,
    logging,
)

ALL_OPERATIONS = "read=30,update=20,insert=15,scan=15,read-modify-write=20"


def ran(engine: str, mode: str, folder: Path, seed: int, **params: Any) -> Run:
    """A short run with a history."""
    plan = make_plan(
        scenario="register",
        params={"history": True, "record_bytes": 10, **params},
        database=engine,
        begin=mode,
        read_begin="deferred" if "deferred" in modes_of(find_engine(engine)) else mode,
        writers=3,
        readers=1,
        # Counted, not timed: how many there are in a time, and of which kinds, is chance.
        transactions=150,
        duration_s=60,
        warmup_s=0,
        seed=seed,
    )
    made = run(plan, folder)
    book().counts.add_run(made)
    return made


@pytest.mark.modes("immediate", "concurrent")
def test_a_run_with_every_operation_keeps_the_promised_level(
    target: Target, seed: int, tmp_path: Path
) -> None:
    shape = {"rows": 10, "keys": "latest", "scan_rows": 6, "operations": 3, "think_us": 50}
    made = ran(target.engine, target.mode, tmp_path, seed, mix=ALL_OPERATIONS, **shape)
    assert all(f.ok for f in made.manifest.findings), made.manifest.findings
    history = load(made.folder / HISTORY_FILE)
    committed = sum(int((w.attempts["outcome"] == COMMITTED).sum()) for w in made.workers)
    assert Counter(history.txn_outcome.tolist())[0] == committed  # 0: committed
    assert set(history.op_kind.tolist()) == {0, 1, 2}  # reads, writes and predicate reads
    written = history.op_value[history.op_kind == WRITE]
    assert len(np.unique(written)) == len(written), "two writes, or two attempts, wrote the same"
    verdict = check(history)
    forbidden = FORBIDS[target.promise] & set(verdict.anomalies)
    assert not forbidden, f"{target}, seed {seed}: {forbidden}\n{verdict.anomalies}"
    assert verdict.levels[target.promise] is not False


# Engine -> BEGIN mode, parameters, and the names it must be caught with, of which a run shows one.
BROKEN: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "faulty-lost-update": ("deferred", {"mix": "read-modify-write"}, {"lost-update"}),
    "faulty-write-skew": ("concurrent", {"mix": "read=50,update=50"}, {"G2-item"}),
    "faulty-lost-commit": ("deferred", {"mix": "F"}, {"G-single-process", "G-single-realtime"}),
    "faulty-torn-read": ("deferred", {"mix": "A"}, {"G1b", "G1c", "fractured-read", "G-single"}),
}


# Two of them are caught in runs of `append` too, by test_free_running.py.
SLOW = ("faulty-lost-commit", "faulty-torn-read")


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BROKEN]
)
def test_a_broken_engine_s_run_is_caught_by_name(engine: str, seed: int, tmp_path: Path) -> None:
    mode, params, names = BROKEN[engine]
    if why := find_engine(engine).missing():
        pytest.skip(why)
    # Asleep inside the transaction, so that they overlap however busy the machine is, and also
    # where a binding keeps the GIL.
    shape = {"rows": 4, "operations": 4, "think_us": 1000, "think": "sleep"}
    made = ran(engine, mode, tmp_path, seed, **shape, **params)
    verdict = check(load(made.folder / HISTORY_FILE))
    assert names & set(verdict.anomalies), list(verdict.anomalies)
    assert verdict.levels["strict-serializable"] is False


@pytest.fixture
def transaction(tmp_path: Path) -> Iterator[Callable[..., Ops]]:
    """Runs one operation on two loaded rows, as worker 3, and gives what is written down of it."""
    scenario = Register(RegisterShape(rows=2, history=True, record_bytes=3))
    real = find_engine("sqlite").connect(str(tmp_path / "a.db"), settings=Settings())
    for statement in scenario.schema():
        real.run(statement)
    scenario.load(real, np.random.default_rng(1))
    session = LoggedSession(real, log_path(tmp_path, 3), "rw-register", 3, "sqlite")
    context = WorkerContext("writer", 0, 1, 3, (1,), session)
    drawn = [Draw(0, ())]
    draw, number = logging(context, lambda: drawn[0], MIXED)
    bodies = logged_bodies(context, number, loaded=2, record_bytes=3)

    def work(operation: int, key: int, rows: int = 0, *, end: str = "commit") -> Ops:
        drawn[0] = Draw(operation, (operation, key, rows, 0))
        draw()
        session.begin()
        bodies[operation](drawn[0].args)
        getattr(session, end)()
        return session.ops

    yield work
    session.close()


def test_each_operation_is_written_down_as_what_it_did(transaction: Callable[..., Ops]) -> None:
    first, second, third = 3, WORKERS + 3, 2 * WORKERS + 3  # worker 3's values
    assert transaction(READ, 0) == [("r", 0, None)]
    assert transaction(UPDATE, 0) == [("w", 0, first)]
    assert transaction(RMW, 0) == [("r", 0, first), ("w", 0, second)]
    assert transaction(INSERT, 4) == [("w", 4, third)]
    assert transaction(SCAN, 0, 3) == [
        *(("rp", 0, second), ("rp", 1, None), ("rp", 2, None), ("rp", 3, None), ("rp", 4, third)),
    ]


def test_an_update_of_a_row_that_is_not_there_is_a_read(transaction: Callable[..., Ops]) -> None:
    # Written down as a write, it would be one that its own session does not find: a false alarm.
    assert transaction(UPDATE, 7) == [("r", 7, None)]
    assert transaction(RMW, 7) == [("r", 7, None)]


def test_an_attempt_again_writes_another_value(transaction: Callable[..., Ops]) -> None:
    assert transaction(UPDATE, 0, end="rollback") == [("w", 0, 3)]
    assert transaction(UPDATE, 0) == [("w", 0, WORKERS + 3)]
