"""A refusal's kind says what its transaction had done: before any read a lock is busy, then not.

No schedule waits (the busy timeout is 0), so that only an engine that tells whether a snapshot is
held can say `upgrade`; the others must guess nothing. With a timeout: workloads.runs.test_upgrade.
"""

from __future__ import annotations

import pytest
from hypothesis import given

from properties.conformance.strategies import schedules, schemas, settings_drawn
from properties.conformance.targets import Runners
from workloads.engines import find_engine
from workloads.schedules import READS, Schedule, Schema, StepResult

AFTER_READS = {
    "libsql": {"unclassified"},
    "sqlite": {"stale", "unclassified"},
    "sqlite-concurrent": {"stale", "upgrade"},
    "turso": {"unclassified", "write_write"},
}
"""Kinds of a statement refused in a deferred transaction that had read and done nothing else."""


def refused(events: list[StepResult]) -> list[tuple[list[str], StepResult]]:
    """Each refused statement, with the names of what its transaction had done before it."""
    found: list[tuple[list[str], StepResult]] = []
    done: dict[int, list[str]] = {}
    for event in events:
        name, session = event.op.name, event.session
        if name == "begin":
            done[session] = []
        elif event.status == "conflict" and name != "commit":
            found.append((done.pop(session, []), event))
        elif name in ("commit", "rollback"):
            done.pop(session, None)
        elif session in done:
            done[session].append(name)
    return found


@pytest.mark.parametrize("engine", AFTER_READS)
@given(schedule=schedules(schemas(features=("index", "spread")), pragmas=settings_drawn()))
def test_a_statement_is_busy_before_the_first_read_and_never_after_it(
    runners: Runners, engine: str, schedule: Schedule
) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    modes = ("deferred",) * 3
    runner = runners.get(engine, modes, schedule.schema, schedule.settings)
    for before, event in refused(runner.run(schedule).events):
        if not before:
            assert event.kind == "busy", event
        elif set(before) <= set(READS):
            assert event.kind in AFTER_READS[engine], (before, event)


@pytest.mark.parametrize("engine", AFTER_READS)
def test_both_are_seen(runners: Runners, engine: str) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    holder, reader = "begin; append 0 1; commit", "begin; r 0; append 1 2; commit"
    runner = runners.get(engine, ("deferred",) * 3, Schema())
    first = refused(runner.run(Schedule((holder, "begin; append 1 3; commit"), "0101")).events)
    assert [(before, event.kind) for before, event in first] == [([], "busy")]
    upgraded = refused(runner.run(Schedule((holder, reader), "01101")).events)
    assert [before for before, _ in upgraded] == [["r"]]
    assert upgraded[0][1].kind in AFTER_READS[engine]
