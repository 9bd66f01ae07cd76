"""Whatever the interleaving: nothing that the promised level forbids, and no effect half done.

Programs first, then the order in which they merge; real connections, stepped one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import event, example, given, reject, settings

from properties.checker import check, report
from properties.conformance.book import book
from properties.conformance.classics import CLASSICS
from properties.conformance.judge import (
    LOCKED_AT_BEGIN,
    complaint,
    how_many,
    insist,
    judge,
    model_of,
    run_schedule,
)
from properties.conformance.known_deviations import (
    KNOWN,
    LARGEST_PAGE,
    MAPPED,
    TWO_FILES,
    Known,
    left_out,
)
from properties.conformance.model import Model, StatementModel
from properties.conformance.strategies import PLAIN, schedules, schemas, settings_drawn
from properties.conformance.targets import Runners, Target, identity, refused_schema
from workloads.engines import Settings, find_engine
from workloads.schedules import (
    Schedule,
    ScheduleRun,
    ScheduleRunner,
    Schema,
    SessionError,
    pasted,
    timeline,
)

SESSIONS = 3
READ_ONLY = CLASSICS["read-only"].schedule
SMALL_CACHE = Settings(busy_timeout_ms=0, cache_size=1, wal_autocheckpoint=1)


def run_on(
    runners: Runners, target: Target, schedule: Schedule, *, processes: bool = False
) -> ScheduleRun:
    """On a runner for as many sessions, of the schedule's schema and settings."""
    modes = (target.mode,) * max(SESSIONS, len(schedule.programs))
    return runners.run(target.engine, modes, schedule, processes=processes)


def kept(sessions: Iterable[tuple[str, str]], schedule: Schedule, promise: str) -> str:
    """The level to insist on: the promised one, or what a known deviation leaves of it.

    Where it leaves nothing, another schedule is drawn. Each has a strict xfail of its own below,
    and each report looks for it again. Nor is a schedule kept whose schema an engine refuses.
    """
    sessions = tuple(sessions)
    for engine, mode in sessions:
        if message := refused_schema(engine, mode, schedule.schema):
            event(f"refused: {message}")
            reject()
    known = left_out(sessions, schedule)
    if known is None:
        return promise
    event(f"known: {known.name}")
    if known.keeps is None:
        reject()
    return known.keeps


@settings(max_examples=how_many(1, quick=0.5))
@given(schedule=schedules(schemas(), pragmas=settings_drawn()))
@example(schedule=READ_ONLY)
@example(schedule=replace(READ_ONLY, settings=SMALL_CACHE))
@example(schedule=replace(READ_ONLY, settings=MAPPED))
@pytest.mark.drawn
def test_a_schedule_keeps_the_promised_level(
    runners: Runners, target: Target, schedule: Schedule
) -> None:
    level = kept([target], schedule, target.promise)
    insist(run_on(runners, target, schedule), level)


# Locks differ between processes (POSIX) and within one (mutexes), so both are tried.
@pytest.mark.processes
@settings(max_examples=how_many(0.5, quick=0.25))
@given(schedule=schedules(schemas(features=("index", "spread")), pragmas=settings_drawn()))
@example(schedule=READ_ONLY)
@pytest.mark.drawn
def test_a_schedule_with_a_process_a_session_keeps_the_promised_level(
    runners: Runners, target: Target, schedule: Schedule
) -> None:
    level = kept([target], schedule, target.promise)
    insist(run_on(runners, target, schedule, processes=True), level)


@settings(max_examples=how_many(0.4, quick=0.2))
@given(schedule=schedules(sessions=(4, 4), transactions=1, operations=3, pragmas=settings_drawn()))
@pytest.mark.drawn
def test_four_sessions_keep_the_promised_level(
    runners: Runners, target: Target, schedule: Schedule
) -> None:
    level = kept([target], schedule, target.promise)
    insist(run_on(runners, target, schedule), level)


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
@given(schedule=schedules(schemas(features=("index", "spread")), pragmas=settings_drawn()))
def test_libsql_and_the_branch_on_one_file_are_serializable(
    runners: Runners, mixed: str, schedule: Schedule
) -> None:
    engines, modes = MIXED[mixed]
    for engine in engines:
        if why := find_engine(engine).missing():
            pytest.skip(why)
    level = kept(zip(engines, modes, strict=True), schedule, "serializable")
    insist(runners.run(engines, modes, schedule, processes=True), level)


# Where the snapshot is taken: by Turso's SAVEPOINT, by SQLite's first read.
MARKED = Schedule(("begin; savepoint a; range 0 5; commit", "delete 0"), "00100")


@settings(max_examples=how_many(0.6, quick=0.3))
@given(schedule=schedules(schemas(), deletes=True, pragmas=settings_drawn()))
@example(schedule=MARKED)
@example(schedule=replace(MARKED, order="00010"))
@pytest.mark.drawn
def test_constraints_indexes_and_undone_work_hold_after_reopening(
    target: Target, schedule: Schedule
) -> None:
    """Rows come and go, statements fail, settings vary; then everything is closed and looked at."""
    level = kept([target], schedule, target.promise)
    book().once((*target, schedule), lambda: run_and_reopen(target, schedule, level))


def run_and_reopen(target: Target, schedule: Schedule, level: str) -> None:
    modes = (target.mode,) * SESSIONS
    with ScheduleRunner(target.engine, modes, schedule.schema, schedule.settings) as runner:
        result = runner.run(schedule)
        insist(result, level)
        model = model_of(result, level)
        for happened in result.events:
            model.see(happened)
        shown = f"{timeline(result.events, modes)}\n{result.identity}"
        context = f"{shown}\n@example({pasted(schedule)})"
        look_at(runner, schedule.schema, model, context)


def answered(
    runner: ScheduleRunner, sql: str, params: tuple[object, ...] = ()
) -> list[tuple[object, ...]] | None:
    """The rows of a statement that an engine need not know: None where it refuses it."""
    try:
        return runner.sessions[0].rows(sql, params)
    except SessionError:
        if find_engine(runner.engines[0]).file_format == "sqlite":
            raise
        return None


def look_at(
    runner: ScheduleRunner, schema: Schema, model: Model | StatementModel, context: str
) -> None:
    """The database through a connection that took no part, beside the model."""
    rows = runner.reopened().rows
    kept = {k: schema.value(v) for k, v in rows("SELECT id, value FROM item WHERE id >= 0")}
    assert kept == model.left, f"after reopening:\n{context}"
    assert answered(runner, "PRAGMA integrity_check") in ([("ok",)], None), context
    assert answered(runner, "PRAGMA foreign_key_check") in ([], None), context
    if "index" in schema.features:
        for key, value in rows("SELECT id, value FROM item"):
            # `+value` keeps the index out: the two searches must meet the same rows.
            by_index, by_table = (
                answered(runner, f"SELECT id FROM item WHERE {column} IS ? ORDER BY id", (value,))
                for column in ("value", "+value")
            )
            assert by_index == by_table, f"key {key}: index and table disagree\n{context}"
            assert by_index is None or (key,) in by_index, context
    if "foreign" in schema.features:
        assert rows("SELECT id, item FROM part") == [(0, 0)], context
    if "trigger" in schema.features:
        assert isinstance(model, Model)  # no engine of statements takes these triggers
        audit = Counter(
            (k, v and schema.value(v)) for k, v in rows("SELECT item, value FROM audit")
        )
        meant = Counter((k, v) for member in model.committed for k, v in member.effects)
        assert audit == meant, f"the triggers' rows:\n{context}"


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name.replace(" ", "-"))
def test_a_known_deviation(
    request: pytest.FixtureRequest, runners: Runners, target: Target, known: Known
) -> None:
    """Strictly expected on what it was found on, so that a mended engine is noticed."""
    if "attached" in known.schedule.schema.features:
        attached(target)
    ours = target.engine in known.engines
    # A user's own engine of the family shows what the family shows, or has it mended.
    shows = ours or (".py:" in target.engine and find_engine(target.engine).file_format == "sqlite")
    if shows and target.mode in known.modes:
        strict = ours and (not known.versions or identity(*target).version in known.versions)
        request.applymarker(
            pytest.mark.xfail(reason=known.sentence, raises=AssertionError, strict=strict)
        )
    insist(run_on(runners, target, known.schedule), target.promise)


FEATURES_OF = {model: Schema(model, features=PLAIN) for model in ("list", "register")}


@pytest.mark.parametrize("model", FEATURES_OF)
def test_every_feature_of_a_schema_is_tried(runners: Runners, target: Target, model: str) -> None:
    """Skipped, in the engine's own words, where schedules with some of them are not drawn."""
    schema = FEATURES_OF[model]
    if message := refused_schema(*target, schema):
        pytest.skip(f"{target.engine}: {message}")
    write = "append" if model == "list" else "w"
    programs = (f"begin; {write} 0 1; clash 0; bad 1; orphan 1; commit", "begin; r 0; commit")
    insist(run_on(runners, target, Schedule(programs, "", schema)), target.promise)


def test_only_what_an_engine_shows_is_left_out() -> None:
    def left(engine: str, mode: str, schema: Schema) -> Known | None:
        return left_out([(engine, mode)], Schedule((), schema=schema))

    assert left("sqlite", "immediate", TWO_FILES) is None
    assert left("sqlite", "deferred", TWO_FILES) in KNOWN
    assert left("sqlite", "deferred", LARGEST_PAGE) is None


def attached(target: Target) -> None:
    """Skip where the engine refuses ATTACH, in its own words."""
    if message := refused_schema(*target, TWO_FILES):
        pytest.skip(f"{target.engine}: {message}")


@settings(max_examples=how_many(0.4))
@given(schedule=schedules(TWO_FILES, pragmas=settings_drawn()))
@pytest.mark.modes("immediate", "exclusive")
@pytest.mark.drawn
def test_two_attached_files_are_serializable_when_locked_at_begin(
    runners: Runners, target: Target, schedule: Schedule
) -> None:
    attached(target)
    insist(run_on(runners, target, schedule), target.promise)


@settings(max_examples=how_many(0.6, quick=0.3))
@given(schedule=schedules(TWO_FILES, pragmas=settings_drawn()))
@pytest.mark.modes("deferred", "concurrent")
@pytest.mark.drawn
def test_each_of_two_attached_files_alone_keeps_the_promised_level(
    runners: Runners, target: Target, schedule: Schedule
) -> None:
    """The known deviation is that both have no common snapshot. Each alone must be isolated."""
    attached(target)
    seen = run_on(runners, target, schedule)
    mapped = left_out([target], replace(schedule, schema=Schema()))
    level = mapped.keeps if mapped and mapped.keeps else target.promise
    for file in (0, 1):
        keys = schedule.schema.keys[file::2]
        verdict = check(seen.history(keys))
        context = f"{report(verdict, level)}\n{timeline(seen.events, seen.modes)}"
        assert verdict.levels[level] is not False, f"{context}\n@example({pasted(schedule)})"


@pytest.mark.parametrize("mode", ["deferred", "immediate"])
def test_a_schedule_that_neither_judge_knows_is_refused_and_never_passed(mode: str) -> None:
    schedule = Schedule(("begin; append 0 1; delete 1; commit", "r 0; r 1"), "", TWO_FILES)
    run = run_schedule("sqlite", mode, schedule)
    if mode in LOCKED_AT_BEGIN:
        assert not judge(run, "serializable").wrong
        return
    with pytest.raises(ValueError, match="nobody judges a schedule that deletes rows in attached"):
        judge(run, "serializable")


def test_a_complaint_can_be_pasted_and_explains_itself(runners: Runners) -> None:
    target = Target("sqlite", "deferred")
    schedule = replace(CLASSICS["G-single"].schedule, schema=TWO_FILES, settings=MAPPED)
    text = complaint(judge(run_on(runners, target, schedule), target.promise))
    line = text.split("@example(")[1].rsplit(")", 1)[0]
    names = {"Schedule": Schedule, "Schema": Schema, "Settings": Settings}
    assert eval(line, names) == schedule
    assert "G-single" in text
    assert "sqlite3 of Python" in text
    assert "session 1 (deferred)" in text
