"""A whole schedule in sessions that are open: put the rows back, take every step, read the rows.

This code runs where the sessions are: in their one process, or beside the processes of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from workloads.schedules.schedule import Op, Schedule, Schema
from workloads.schedules.steps import OVER, Stepped, StepTaker

State = Mapping[str, list[tuple[Any, ...]]]
"""Table -> all its rows."""


class Restored(Stepped, Protocol):
    """A session that also takes several statements at once."""

    def run_all(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None: ...

    def rows_all(self, statements: Iterable[str]) -> list[list[tuple[Any, ...]]]: ...


def state_of(session: Restored, schema: Schema) -> State:
    """Every row there is, by a session."""
    asked = {table: f"SELECT * FROM {table} ORDER BY id" for table in schema.all_tables}
    if "trigger" in schema.features and "attached" not in schema.features:
        asked["sqlite_sequence"] = "SELECT name, seq FROM sqlite_sequence WHERE seq > 0"
    return dict(zip(asked, session.rows_all(asked.values()), strict=True))


def restore(session: Restored, schema: Schema, first: State) -> None:
    """Put the rows back as they were at first. Raises RuntimeError where that has no effect."""
    if (state := state_of(session, schema)) == first:
        return
    changed = [table for table in first if state[table] != first[table]]
    if "foreign" in schema.features:
        changed = list(first)  # a row cannot go before those that refer to it
    statements: list[tuple[str, tuple[Any, ...]]] = []
    statements += [(f"DELETE FROM {table}", ()) for table in changed]
    for table in reversed(changed):
        if rows := first[table]:
            # One statement for all rows: each one alone is a transaction with a commit of its own.
            marks = ", ".join(["(" + ", ".join("?" * len(rows[0])) + ")"] * len(rows))
            values = tuple(value for row in rows for value in row)
            statements.append((f"INSERT INTO {table} VALUES {marks}", values))
    if "trigger" in schema.features:  # putting the rows back has left its trace
        statements += [("DELETE FROM audit", ()), ("UPDATE sqlite_sequence SET seq = 0", ())]
    session.run_all(statements)
    if (state := state_of(session, schema)) != first:
        raise RuntimeError(
            f"the engine did not put back the rows it was asked to: {state} instead of {first}."
        )


def rows_left(session: Restored, schema: Schema) -> dict[int, Any]:
    """Key -> value of the rows there now."""
    asked = [f"SELECT id, value FROM {table} WHERE id >= 0" for table in schema.tables]
    rows = [row for found in session.rows_all(asked) for row in found]
    return {int(key): schema.value(stored) for key, stored in rows}


def run_steps(taker: StepTaker, sessions: Sequence[Restored], schedule: Schedule) -> dict[int, Any]:
    """Take all steps of a schedule, end what is open, and give the rows that are left."""
    take_all(taker, schedule)
    taker.give_up()
    return rows_left(sessions[0], schedule.schema)


def take_all(taker: StepTaker, schedule: Schedule) -> None:
    """Take all steps of a schedule in its order."""
    steps = schedule.steps()
    at = [0] * len(steps)
    blocked: set[int] = set()

    def step(session: int) -> None:
        if session in blocked or at[session] == len(steps[session]):
            return
        event = taker.step(session, steps[session][at[session]], patient=schedule.patient)
        if event.status == "blocked":
            blocked.add(session)
            return
        at[session] += 1
        name = event.op.name
        if event.status in OVER and name != "commit":
            _skip(session)
        if session not in taker.open:
            blocked.clear()

    def _skip(session: int) -> None:
        """Leave out the rest of a transaction that is over."""
        depth = steps[session]
        if not _inside(depth, at[session]):
            return
        while at[session] < len(depth) and depth[at[session]].name not in ("commit", "rollback"):
            at[session] += 1
        at[session] += at[session] < len(depth)

    for digit in schedule.order:
        step(int(digit))
    # Steps that the order left over. Each session in turn runs until it is through or blocked. A
    # blocked one goes on when the others are through, and then nobody holds its lock.
    for _ in range(len(steps)):
        for session in range(len(steps)):
            before = -1
            while at[session] != before and session not in blocked:
                before = at[session]
                step(session)
        for session in sorted(taker.open):
            if at[session] == len(steps[session]):
                taker.step(session, "rollback")
                blocked.clear()


def _inside(steps: Sequence[Op], place: int) -> bool:
    """Whether the step before this place was inside BEGIN … COMMIT."""
    for op in reversed(steps[:place]):
        if op.name in ("commit", "rollback"):
            return False
        if op.name == "begin":
            return True
    return False
