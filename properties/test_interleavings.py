"""Whatever the interleaving: nothing that the promised level forbids, and no effect half done.

Programs first, then the order in which they merge; real connections, stepped one at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from properties.judging import complaint, how_many, insist, judge, model_of, timeline
from properties.model import Model
from properties.schedules import CLASSICS
from properties.strategies import schedules, schemas, settings_drawn
from properties.targets import Stages, Target
from workloads.engines import Settings, find_engine
from workloads.interleave import Played, Stage
from workloads.schedule import Schedule, Schema

SESSIONS = 3


def played(
    stages: Stages, target: Target, schedule: Schedule, *, processes: bool = False
) -> Played:
    modes = (target.mode,) * max(SESSIONS, len(schedule.programs))
    return stages.get(target.engine, modes, schedule.schema, processes=processes).play(schedule)


@given(schedule=schedules(schemas()))
@example(schedule=CLASSICS["read-only"].schedule)
def test_a_schedule_keeps_the_promised_level(
    stages: Stages, target: Target, schedule: Schedule
) -> None:
    insist(played(stages, target, schedule), target.promise)


# Locks differ between processes (POSIX) and within one (mutexes), so both are tried.
@pytest.mark.processes
@settings(max_examples=how_many(0.5))
@given(schedule=schedules(schemas(features=("index", "spread"))))
@example(schedule=CLASSICS["read-only"].schedule)
def test_a_schedule_with_a_process_a_session_keeps_the_promised_level(
    stages: Stages, target: Target, schedule: Schedule
) -> None:
    insist(played(stages, target, schedule, processes=True), target.promise)


@settings(max_examples=how_many(0.4))
@given(schedule=schedules(sessions=(4, 4), transactions=1, operations=3))
def test_four_sessions_keep_the_promised_level(
    stages: Stages, target: Target, schedule: Schedule
) -> None:
    insist(played(stages, target, schedule), target.promise)


MIXED = {
    "branch-writes-libsql-reads": (
        ("sqlite-concurrent", "sqlite-concurrent", "libsql"),
        ("concurrent", "concurrent", "deferred"),
    ),
    "libsql-writes-immediately-beside-the-branch": (
        ("sqlite-concurrent", "libsql", "sqlite-concurrent"),
        ("concurrent", "immediate", "concurrent"),
    ),
}


@pytest.mark.parametrize("mixed", MIXED)
@given(schedule=schedules(schemas(features=("index", "spread"))))
def test_libsql_and_the_branch_on_one_file_are_serializable(
    stages: Stages, mixed: str, schedule: Schedule
) -> None:
    engines, modes = MIXED[mixed]
    for engine in engines:
        if why := find_engine(engine).missing():
            pytest.skip(why)
    stage = stages.get(engines, modes, schedule.schema, processes=True)
    insist(stage.play(schedule), "serializable")


@settings(max_examples=how_many(0.6))
@given(data=st.data())
def test_constraints_indexes_and_undone_work_hold_after_reopening(
    target: Target, data: st.DataObject
) -> None:
    """Rows come and go, statements fail, settings vary; then everything is closed and looked at."""
    schedule = data.draw(schedules(schemas(pages=(4096, 512, 32768)), deletes=True))
    drawn = data.draw(settings_drawn())
    modes = (target.mode,) * SESSIONS
    with Stage(target.engine, modes, schedule.schema, drawn) as stage:
        result = stage.play(schedule)
        insist(result, target.promise)
        model = model_of(result, target.promise)
        for event in result.events:
            model.see(event)
        told = f"{timeline(result.events, modes)}\n{result.identity}, {drawn}\n{schedule!r}"
        look_at(stage, schedule.schema, model, told)


def look_at(stage: Stage, schema: Schema, model: Model, told: str) -> None:
    """The database through a connection that took no part, beside the model."""
    rows = stage.reopened().rows
    kept = {k: schema.value(v) for k, v in rows("SELECT id, value FROM item WHERE id >= 0")}
    assert kept == model.versions[-1], f"after reopening:\n{told}"
    assert [row[0] for row in rows("PRAGMA integrity_check")] == ["ok"], told
    assert rows("PRAGMA foreign_key_check") == [], told
    if "index" in schema.features:
        for key, value in rows("SELECT id, value FROM item"):
            # `+value` keeps the index out: the two searches must meet the same rows.
            by_index = rows("SELECT id FROM item WHERE value IS ? ORDER BY id", (value,))
            by_table = rows("SELECT id FROM item WHERE +value IS ? ORDER BY id", (value,))
            assert by_index == by_table, f"key {key}: index and table disagree\n{told}"
            assert (key,) in by_index, told
    if "foreign" in schema.features:
        assert rows("SELECT id, item FROM part") == [(0, 0)], told
    if "trigger" in schema.features:
        audit = Counter(
            (k, v and schema.value(v)) for k, v in rows("SELECT item, value FROM audit")
        )
        meant = Counter((k, v) for member in model.committed for k, v in member.effects)
        assert audit == meant, f"the triggers' rows:\n{told}"


SETTINGS = {
    "small-cache": Settings(busy_timeout_ms=0, cache_size=1, wal_autocheckpoint=1),
    "mapped": Settings(busy_timeout_ms=0, mmap_bytes=1 << 20, synchronous="full"),
    "no-checkpoints": Settings(busy_timeout_ms=0, wal_autocheckpoint=0, synchronous="off"),
}


@pytest.mark.parametrize("setting", SETTINGS)
@settings(max_examples=how_many(0.3))
@given(schedule=schedules(Schema("list", features=("index", "spread"), page_bytes=512)))
def test_settings_change_nothing_that_a_transaction_sees(
    stages: Stages, target: Target, setting: str, schedule: Schedule
) -> None:
    modes = (target.mode,) * SESSIONS
    stage = stages.get(target.engine, modes, schedule.schema, SETTINGS[setting])
    insist(stage.play(schedule), target.promise)


LARGEST_PAGE = 65536


def test_the_largest_page_changes_nothing(
    request: pytest.FixtureRequest, stages: Stages, target: Target
) -> None:
    if target == ("sqlite-concurrent", "concurrent"):
        reason = (
            "with page_size 65536 every COMMIT of BEGIN CONCURRENT that wrote is answered with "
            "SQLITE_CORRUPT, also where nobody else writes; the file is not harmed"
        )
        request.applymarker(pytest.mark.xfail(reason=reason, raises=AssertionError))
    schema = Schema("list", page_bytes=LARGEST_PAGE)
    schedule = Schedule(("append 0 1", "begin; r 0; append 0 2; commit"), "01111", schema)
    insist(played(stages, target, schedule), target.promise)


TWO_FILES = Schema("list", 3, 2, ("attached",))


@lru_cache(maxsize=10)
def refused_attach(engine: str, mode: str) -> str:
    """The engine's own words where it refuses ATTACH, else nothing."""
    try:
        Stage(engine, (mode,), TWO_FILES).close()
    except Exception as error:  # each binding has a class of its own
        if find_engine(engine).file_format == "sqlite":
            raise  # SQLite's family can; what failed is something else
        return str(error)
    return ""


def attached(target: Target) -> None:
    """Skip where the engine refuses ATTACH, in its own words."""
    if words := refused_attach(*target):
        pytest.skip(f"{target.engine}: {words}")


@settings(max_examples=how_many(0.4))
@given(schedule=schedules(TWO_FILES))
@pytest.mark.modes("immediate", "exclusive")
def test_two_attached_files_are_serializable_when_locked_at_begin(
    stages: Stages, target: Target, schedule: Schedule
) -> None:
    attached(target)
    insist(played(stages, target, schedule), target.promise)


@pytest.mark.xfail(
    reason="each attached file has a snapshot of its own, taken when it is first read: read skew "
    "and write skew between files, in WAL mode, with any BEGIN that does not lock at once",
    raises=AssertionError,
)
@pytest.mark.modes("deferred", "concurrent")
@pytest.mark.parametrize("classic", ["G-single", "G2-item", "read-only"])
def test_two_attached_files_keep_the_promised_level(
    stages: Stages, target: Target, classic: str
) -> None:
    attached(target)
    schedule = replace(CLASSICS[classic].schedule, schema=TWO_FILES)
    insist(played(stages, target, schedule), target.promise)


def test_a_complaint_can_be_pasted_and_explains_itself(stages: Stages) -> None:
    target = Target("sqlite", "deferred")
    schedule = replace(CLASSICS["G-single"].schedule, schema=TWO_FILES)
    text = complaint(judge(played(stages, target, schedule), target.promise))
    pasted = text.split("@example(")[1].rsplit(")", 1)[0]
    assert eval(pasted, {"Schedule": Schedule, "Schema": Schema}) == schedule
    assert "G-single" in text
    assert "sqlite3 of Python" in text
    assert "session 1 (deferred)" in text
