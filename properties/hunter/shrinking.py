"""Shrinking a finding, and telling one finding from another.

A step may go only if what is left shows the same kind of finding, and no other words of the engine
than before: else one bug turns into another on the way.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from properties.hunter.judges import Found
from workloads.schedules import ALL, Played, Program, Step, kind_of

MOST_TRIES = 250
LIMIT_S = 30.0

Retry = Callable[[Program], "tuple[Found, Played] | None"]
"""Plays and judges a program: the finding, None without one or where it cannot be played."""


def words(text: str) -> str:
    """An engine's words without what differs from program to program.

    >>> words("panicked at core/mod.rs:58:14: row 7 of `t0`")
    'panicked at core/mod.rs:N:N: row N of `tN`'
    """
    return re.sub(r"0x[0-9a-f]+|\d+", "N", text)[:200]


def errors_of(played: Played) -> set[str]:
    """What the engine said at the steps that it refused."""
    return {words(result.message) for result in played.results if result.message}


def signature(found: Found, program: Program) -> str:
    """What a finding is told apart by: the judge, the operations that are left, the words."""
    if found.wrong.judge in ("abort", "panic") and (place := PLACE.search(found.wrong.seen)):
        return f"{found.wrong.judge} | {place.group()}"  # one line of the engine's is one finding
    if found.wrong.judge == "acknowledged":  # of a race, and the other steps are chance
        return f"acknowledged | {words(found.wrong.sentence)}"
    kinds = sorted({kind_of(step) for step in program.steps} - {"commit", "rollback", "begin"})
    said = words(found.wrong.seen) if found.wrong.judge not in DATA else ""
    return " | ".join([found.wrong.judge, ", ".join(kinds), said])


PLACE = re.compile(r"[\w./-]+\.(rs|c|cc|cpp|py):\d+")
"""Where in an engine's source it gave up."""

DATA = ("rows", "rows kept", "serializable", "lost update", "integrity", "constraint",
        "foreign key", "transaction state", "isolation")  # fmt: skip
"""Judges whose words are data of the program."""


def shrunk(
    program: Program, found: Found, played: Played, retry: Retry
) -> tuple[Program, Found, Played]:
    """The program with as few steps and as small a schema as still show the finding."""
    allowed, until, tries = errors_of(played), time.monotonic() + LIMIT_S, 0
    best = program, found, played
    improved = True
    while improved:
        improved = False
        for smaller in _smaller(best[0]):
            if tries >= MOST_TRIES or time.monotonic() > until:
                return best
            tries += 1
            made = retry(smaller)
            if made and _same(found, made[0]) and errors_of(made[1]) <= allowed:
                best, improved = (smaller, *made), True
                break
    return best


def _same(one: Found, other: Found) -> bool:
    same = one.wrong.judge == other.wrong.judge
    if one.wrong.judge in DATA:
        return same
    return same and words(one.wrong.seen) == words(other.wrong.seen)


def _smaller(program: Program) -> Iterator[Program]:
    """Smaller programs, those with the most left out first."""
    count = len(program.steps)
    if program.apart and all(s.verb != "kill" or s.session == ALL for s in program.steps):
        yield replace(program, apart=False)
    if program.shared:
        yield replace(program, shared=(), threads=False)
    if program.threads:
        yield replace(program, threads=False)
    for one in program.options:
        yield replace(program, options=tuple(other for other in program.options if other != one))
    for session in program.sessions:
        mine = [at for at, step in enumerate(program.steps) if step.session == session]
        if len(mine) < count:
            yield program.without(mine)
    if any(step.verb == "race" for step in program.steps):
        yield program.without(at for at, step in enumerate(program.steps) if step.verb != "race")
    size = count // 2
    while size:
        for start in range(0, count, size):
            yield program.without(range(start, min(start + size, count)))
        size //= 2
    yield from _without_transactions(program)
    for at in reversed(range(len(program.schema))):
        yield replace(program, schema=program.schema[:at] + program.schema[at + 1 :])
    for at, sql in enumerate(program.schema):
        for less in _less(sql):
            yield replace(program, schema=(*program.schema[:at], less, *program.schema[at + 1 :]))
    for at, step in enumerate(program.steps):
        for simpler in _simpler(step):
            steps = (*program.steps[:at], simpler, *program.steps[at + 1 :])
            yield replace(program, steps=steps)


def _without_transactions(program: Program) -> Iterator[Program]:
    """Without the BEGIN of a transaction and its end, so that its statements stand alone."""
    for at, step in enumerate(program.steps):
        if step.verb == "begin":
            ends = (
                place
                for place in range(at + 1, len(program.steps))
                if program.steps[place].session == step.session
                and program.steps[place].verb in ("commit", "rollback")
            )
            if (end := next(ends, None)) is not None:
                yield program.without((at, end))


CLAUSES = (" UNIQUE", " AUTOINCREMENT", " WITHOUT ROWID", " ON DELETE CASCADE",
           " ON DELETE SET NULL", " CHECK (v < 9)")  # fmt: skip


def _less(sql: str) -> Iterator[str]:
    for clause in CLAUSES:
        if clause in sql and not sql.startswith("CREATE TRIGGER"):
            yield sql.replace(clause, "", 1)


def _simpler(step: Step) -> Iterator[Step]:
    if step.verb == "half":
        yield step._replace(verb="sql")
    if step.verb == "begin" and step.text:
        yield step._replace(text="")
    if step.verb == "race":
        mode, rest = step.text.split(" ", 1)
        modes = mode.split("+")
        for one in modes if len(modes) > 1 else ():
            yield step._replace(text=f"{'+'.join(kept for kept in modes if kept != one)} {rest}")
    if step.verb == "sql" and " RETURNING " in step.text:
        yield step._replace(text=step.text.partition(" RETURNING ")[0])
