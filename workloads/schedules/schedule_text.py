"""Schedules and their results as text: a line to paste, a timeline, the last step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from workloads.engines import Settings
from workloads.schedules.schedule import FAST, READS, SAVEPOINTS, Op, Schedule, Schema
from workloads.schedules.steps import OVER, StepResult

COLUMN = 34


def pasted(schedule: Schedule) -> str:
    """The schedule as it is written in a test. Fields that are as by default are left out.

    >>> pasted(Schedule(("r 0", "append 0 1"), "10"))
    "Schedule(('r 0', 'append 0 1'), '10')"
    """
    default = Schedule(())
    parts = [repr(schedule.programs), repr(schedule.order)]
    if schedule.schema != default.schema:
        parts.append(f"schema={schedule.schema!r}")
    if schedule.patient:
        parts.append("patient=True")
    if schedule.settings != default.settings:
        parts.append(f"settings={pasted_settings(schedule.settings)}")
    return f"Schedule({', '.join(parts)})"


def pasted_settings(settings: Settings) -> str:
    """Settings as they are written in a test.

    >>> pasted_settings(Settings(busy_timeout_ms=0, cache_size=1))
    'Settings(busy_timeout_ms=0, cache_size=1)'
    """
    standard = asdict(Settings())
    changed = (f"{k}={v!r}" for k, v in asdict(settings).items() if v != standard[k])
    return f"Settings({', '.join(changed)})"


def as_schedule(
    events: Sequence[StepResult], schema: Schema, settings: Settings = FAST
) -> Schedule:
    """The schedule that takes these steps again, for steps that were drawn one by one."""
    programs: dict[int, list[str]] = {s: [] for s in range(1 + max_session(events))}
    for event in events:
        steps = programs[event.session]
        steps.append(str(event.op))
        inside = event.op.name == "begin" or _begun(steps)
        if event.status in OVER and inside and event.op.name not in ("commit", "rollback"):
            # In a schedule, the rest of a refused transaction is left out, up to its end.
            steps.append("rollback")
    order = "".join(str(event.session) for event in events)
    return Schedule(
        tuple("; ".join(steps) for steps in programs.values()), order, schema, settings=settings
    )


def max_session(events: Sequence[StepResult]) -> int:
    return max((event.session for event in events), default=-1)


def _begun(steps: Sequence[str]) -> bool:
    last = next((s for s in reversed(steps) if s in ("begin", "commit", "rollback")), "")
    return last == "begin"


def timeline(events: Iterable[StepResult], modes: Iterable[str]) -> str:
    """The steps as text, a column a session, a line a step."""
    names = list(modes)
    happened = list(events)
    used = [s for s in range(len(names)) if any(e.session == s for e in happened)]
    head = "step  " + "".join(f"{f'session {s} ({names[s]})':{COLUMN}}" for s in used)
    lines = [head.rstrip()]
    for event in happened:
        text = describe_step(event)
        space = " " * (COLUMN * used.index(event.session))
        lines.append(f"{event.at:>4}  {space}{text}")
    return "\n".join(lines)


def describe_step(event: StepResult) -> str:
    """One step: the operation, and the answer where it is more than success."""
    if event.status == "ok":
        return f"{event.op}" + (f" -> {seen(event.value)}" if event.op.name in READS else "")
    kind = f" ({event.kind})" if event.kind else ""
    return f"{event.op} !! {event.status}{kind}: {event.message}"


def seen(value: Any) -> str:
    """The value that a read saw, as text."""
    if value is None:
        return "nil"
    if isinstance(value, tuple):
        inner = (f"{v[0]}:{seen(v[1])}" if isinstance(v, tuple) else str(v) for v in value)
        return "[" + " ".join(inner) + "]"
    return str(value)


def stderr_text(text: str) -> list[str]:
    """Lines with the whole standard error of a session's process."""
    if not text.strip():
        return ["the session's process wrote nothing to its standard error"]
    return ["standard error of the session's process:", *(f"  {s}" for s in text.splitlines())]


def sql_of(op: Op, schema: Schema) -> str:
    """The statement that an operation sends to an engine."""
    if op.name in ("begin", "commit", "rollback"):
        return op.name.upper()
    if op.name in SAVEPOINTS:
        return f"{SAVEPOINTS[op.name]} {op.args[0]}"
    sql, params = schema.sql(op)
    return f"{sql} {params}"
