"""The history that `register` writes down for the isolation checker: `--set history=true`.

A row is a register. Its initial state is its loaded value, or its absence. An insert is a write, a
read-modify-write is a read and a write, and a scan is a predicate read of every key that it covers.
Each write of each attempt has a number of its own inside its value. Without it a retry could not be
told from the attempt before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from workloads.engines import Ops
from workloads.scenarios.loading import payload
from workloads.scenarios.scenario import Draw, InvariantBroken, WorkerContext

WORKERS = 1024
"""The history's value of a write is its worker's own count times this, plus the worker."""

READ, UPDATE, INSERT, SCAN, RMW = range(5)  # as in `register`

READ_SQL = "SELECT version, value FROM register WHERE id = ?"
UPDATE_SQL = "UPDATE register SET value = ? WHERE id = ?"
INSERT_SQL = "INSERT INTO register(id, version, value) VALUES (?, 0, ?)"
SCAN_SQL = "SELECT id, value FROM register WHERE id >= ? ORDER BY id LIMIT ?"
WRITE_SQL = "UPDATE register SET version = ?, value = ? WHERE id = ?"


def value_of(text: str) -> int | str | None:
    """The history's value of a stored one: None for a loaded row, the text where nobody wrote it.

    >>> value_of("3.17.2|some payload"), value_of("load|some payload"), value_of("3.17|no number")
    (2051, None, '3.17|no number')
    """
    head = text.partition("|")[0]
    if head == "load":
        return None
    try:
        worker, _, number = map(int, head.split("."))
    except ValueError:
        return text
    return number * WORKERS + worker


def covered(first: int, most: int, found: Sequence[tuple[int, Any]]) -> Ops:
    """The predicate reads of a scan of at most `most` rows from the id `first` on.

    found : the rows (id, value) that it gave. Ids between them were seen to be absent. Where rows
    ran out, later ids were seen to be absent too; they are listed up to the place where a scan of
    rows without a gap would have ended.

    >>> covered(4, 3, [(4, None), (6, 2051)])
    [('rp', 4, None), ('rp', 5, None), ('rp', 6, 2051)]
    """
    there = dict(found)
    last = found[-1][0] if found else first - 1
    if len(found) < most:
        last = max(last, first + most - 1)
    return [("rp", key, there.get(key)) for key in range(first, last + 1)]


def logging(
    context: WorkerContext, draws: Callable[[], Draw], mixed: int
) -> tuple[Callable[[], Draw], Callable[[], int]]:
    """A worker's draws, which give its session the plan of each attempt, and its write numbers.

    mixed : the kind whose args are several steps.
    """
    numbers = count()
    planned: list[int] = []  # the numbers of this attempt's writes, in turn
    drawn = Draw(0, ())

    def draw() -> Draw:
        nonlocal drawn
        drawn = draws()
        return drawn

    def plan() -> Ops:
        """The writes that an attempt is about to make, with new numbers. Called before each."""
        planned.clear()
        ops: Ops = []
        for operation, key, *_ in drawn.args if drawn.kind == mixed else (drawn.args,):
            if operation in (READ, RMW):
                ops.append(("r", key, None))
            if operation in (UPDATE, INSERT, RMW):
                planned.append(next(numbers))
                ops.append(("w", key, planned[-1] * WORKERS + context.worker))
        planned.reverse()
        return ops

    context.session.plan = plan  # type: ignore[union-attr]  # a LoggedSession
    return draw, planned.pop


def logged_bodies(
    context: WorkerContext, number: Callable[[], int], loaded: int, record_bytes: int
) -> Sequence[Callable[[Any], int | None]]:
    """The bodies of `register`, which also write down what they saw. Results are the same.

    loaded : rows with a lower id are always there. number : see `logging`.
    """
    session, think, worker = context.session, context.think, context.worker
    assert session is not None
    run, rows, checked = session.run, session.rows, context.checked
    pad = payload(np.random.default_rng(7), record_bytes)

    def look(key: int) -> tuple[int, Any] | None:
        found = rows(READ_SQL, (key,))
        if not found and key < loaded and checked:
            raise missing(key)
        return (int(found[0][0]), value_of(found[0][1])) if found else None

    def new(step: Any) -> tuple[str, int]:
        mine = number()
        return f"{worker}.{step[3]}.{mine}|{pad}", mine * WORKERS + worker

    def read(step: Any, ops: Ops) -> int:
        found = look(step[1])
        ops.append(("r", step[1], found and found[1]))
        if found is None:
            return 0
        think()
        return found[0]

    def update(step: Any, ops: Ops) -> int:
        think()
        text, value = new(step)
        run(UPDATE_SQL, (text, step[1]))
        # An UPDATE of a row that is not there writes nothing, and has seen that it is not there.
        if step[1] >= loaded and rows("SELECT changes()") == [(0,)]:
            ops.append(("r", step[1], None))
        else:
            ops.append(("w", step[1], value))
        return 0

    def insert(step: Any, ops: Ops) -> int:
        think()
        text, value = new(step)
        run(INSERT_SQL, (step[1], text))
        ops.append(("w", step[1], value))
        return int(step[1])

    def scan(step: Any, ops: Ops) -> int:
        first, most = step[1:3]
        found = [(int(key), value_of(text)) for key, text in rows(SCAN_SQL, (first, most))]
        ops += covered(first, most, found)
        think()
        return len(found)

    def modify(step: Any, ops: Ops) -> int:
        text, value = new(step)
        found = look(step[1])
        ops.append(("r", step[1], found and found[1]))
        if found is None:
            return 0
        version = found[0] + 1
        think()
        run(WRITE_SQL, (version, text, step[1]))
        ops.append(("w", step[1], value))
        return version

    each = (read, update, insert, scan, modify)

    def alone(operation: Callable[[Any, Ops], int]) -> Callable[[Any], int]:
        def body(step: Any) -> int:
            ops: Ops = []
            result = operation(step, ops)
            session.ops = ops  # type: ignore[attr-defined]
            return result

        return body

    def mixed(steps: Sequence[Any]) -> int:
        ops: Ops = []
        for step in steps:
            each[step[0]](step, ops)
        # Only now: an attempt that breaks off leaves the plan, with all that it may have written.
        session.ops = ops  # type: ignore[attr-defined]
        return 0

    return (*map(alone, each), mixed)


def missing(key: int) -> InvariantBroken:
    return InvariantBroken(
        f"Row {key} was not found; it was loaded before the run and rows are never deleted.",
        row=key,
    )
