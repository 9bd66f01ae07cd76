"""A program: a schema, and the steps that several sessions take one after the other.

It is text, one step a line, which prints and pastes back:

    OPEN cache_size = 10
    SHARE B C
    CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)
    ---
    A begin concurrent
    A sql UPDATE t0 SET v = 1 WHERE id = 1
    B sql SELECT id, v FROM t0
    A commit
    * reopen

What is drawn, played, judged, shrunk and written to a script is this and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from workloads.schedules.harmless import why_harmful, why_no_mode

VERBS = {
    "begin": True, "commit": False, "rollback": False,
    "sql": True, "auto": True, "half": True, "fetch": False,
    "close": False, "reopen": False, "kill": False, "race": True,
}  # fmt: skip
"""Verb -> whether a text follows it."""

ALL = "*"
"""The session of a step that concerns all of them."""

MOST_STEPS, MOST_STATEMENTS, MOST_SESSIONS, MOST_RACE_S = 1000, 200, 16, 10.0
"""What a program's text may hold at most: steps, statements of its schema, sessions, and the
seconds of its one race. What the hunter draws has a tenth of that."""

RULE, OPEN = "---", "OPEN "
SHARED = re.compile(r"SHARE (\w+) (\w+)( by threads)?")
OPTION = re.compile(r"OPEN ([a-z_0-9]+) = ([\w,.-]+)")


class Step(NamedTuple):
    """One step of one session.

    begin MODE   BEGIN in this mode; the mode may be ""
    commit, rollback
    sql TEXT     one statement, its rows fetched; outside a transaction it is one of its own
    auto TEXT    an INSERT of one row whose key the engine chooses, with RETURNING of that key
    half TEXT    a SELECT of which the first row alone is fetched; its cursor stays open
    fetch        the rest of the rows of the cursor that `half` left open
    close        close the session's connection and open another
    * reopen     close all connections, then open all again
    * kill       SIGKILL to the processes of all sessions, then open all again
    kill         SIGKILL to the session's process, where it has one of its own; then open it again
    * race MODE SESSIONS SECONDS SEED
                 so many other sessions write as fast as they can (workloads.schedules.racing)
    """

    session: str
    verb: str
    text: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


@dataclass(frozen=True)
class Program:
    """Statements that make the tables and their first rows, and the steps in their order.

    apart : each session has a process of its own. options : name and value of what each connection
    is opened with (Engine.options). shared : two sessions that use one connection, of one process.
    threads : the second of them has a thread of its own.
    """

    schema: tuple[str, ...]
    steps: tuple[Step, ...]
    apart: bool = False
    options: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    threads: bool = False

    @property
    def sessions(self) -> list[str]:
        """The names of the sessions, in order."""
        return sorted({step.session for step in self.steps} - {ALL})

    def owner(self, session: str) -> str:
        """The session that stands for all of a connection: their transaction is one."""
        return self.shared[0] if session in self.shared else session

    def without(self, places: Iterable[int]) -> Program:
        """The program without the steps at these places."""
        gone = set(places)
        return replace(
            self, steps=tuple(step for at, step in enumerate(self.steps) if at not in gone)
        )

    def __str__(self) -> str:
        opened = [f"{OPEN}{name} = {value}" for name, value in self.options]
        if self.shared:
            opened.append(f"SHARE {' '.join(self.shared)}{' by threads' * self.threads}")
        head = [*opened, *self.schema, f"{RULE} apart" if self.apart else RULE]
        return "\n".join([*head, *map(str, self.steps)])


def parse_program(text: str) -> Program:
    r"""The program of a text. Raises ValueError that names the line and the rule.

    A program may come from anybody: what reaches outside its database is refused (harmless.py).

    >>> str(parse_program("CREATE TABLE t(a)\n---\nA sql SELECT 1\n* reopen")).splitlines()[2:]
    ['A sql SELECT 1', '* reopen']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rules = [at for at, line in enumerate(lines) if line.split(" ")[0] == RULE]
    if len(rules) != 1:
        raise ValueError(f"a program has one line {RULE!r} between its schema and its steps.")
    schema, rest = lines[: rules[0]], lines[rules[0] + 1 :]
    options = [_option(line) for line in schema if line.split(" ")[0] == OPEN.strip()]
    schema = [line for line in schema if line.split(" ")[0] != OPEN.strip()]
    if len(rest) > MOST_STEPS or len(schema) > MOST_STATEMENTS:
        raise ValueError(
            f"a program has at most {MOST_STEPS} steps, and {MOST_STATEMENTS} statements before."
        )
    steps = [_step(line, number) for number, line in enumerate(rest, rules[0] + 2)]
    if len({step.session for step in steps}) > MOST_SESSIONS:
        raise ValueError(f"a program has at most {MOST_SESSIONS} sessions.")
    if sum(step.verb == "race" for step in steps) > 1:
        raise ValueError("a program has at most one race.")
    shares = [line for line in schema if line.split(" ")[0] == "SHARE"]
    schema = [line for line in schema if line not in shares]
    for sql in schema:
        if why := why_harmful(sql):
            raise ValueError(f"{_cut(sql)}: {why}.")
    apart = lines[rules[0]].endswith("apart")
    if not apart and any(step.verb == "kill" and step.session != ALL for step in steps):
        raise ValueError(f"a session that is killed alone is apart: write {RULE!r} as '--- apart'.")
    shared, threads = _shared(shares, apart=apart)
    return Program(tuple(schema), tuple(steps), apart, tuple(options), shared, threads)


def _shared(lines: list[str], *, apart: bool) -> tuple[tuple[str, ...], bool]:
    if not lines:
        return (), False
    found = SHARED.fullmatch(lines[0])
    if not found or found[1] == found[2] or len(lines) > 1:
        raise ValueError(f"{lines[-1]!r}: one line may be SHARE A B, or SHARE A B by threads.")
    if apart:
        raise ValueError(f"{lines[0]!r}: sessions that are apart cannot share a connection.")
    return (found[1], found[2]), bool(found[3])


def _option(line: str) -> tuple[str, str]:
    found = OPTION.fullmatch(line)
    if not found:
        raise ValueError(f"{line!r} is no option: OPEN NAME = VALUE, such as OPEN cache_size = 10.")
    return found[1], found[2]


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _step(line: str, number: int) -> Step:
    session, _, rest = line.partition(" ")
    verb, _, text = rest.partition(" ")
    if verb not in VERBS:
        raise ValueError(f"line {number}: {_cut(verb)} is none of {', '.join(VERBS)}.")
    if verb != "kill" and (verb in ("reopen", "race")) != (session == ALL):
        raise ValueError(
            f"line {number}: `reopen` and `race` are of {ALL!r}, the others but `kill` of one."
        )
    if verb == "race":
        try:
            parse_race(text)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if bool(text.strip()) > VERBS[verb] or (verb in ("sql", "auto", "half") and not text.strip()):
        raise ValueError(f"line {number}: {_cut(line)} is no step.")
    why = why_no_mode(text.strip()) if verb == "begin" else ""
    if why := why or (why_harmful(text.strip()) if verb in ("sql", "auto", "half") else ""):
        raise ValueError(f"line {number}: {_cut(line)}: {why}.")
    return Step(session, verb, text.strip())


RACE_MODE = re.compile(r"[a-z]+(\+[a-z]+){0,7}")


def parse_race(text: str) -> tuple[str, int, float, int]:
    """Mode, sessions, seconds and seed of a race. Raises ValueError.

    The mode is one of BEGIN or "autocommit", or several with a plus between them.

    >>> parse_race("concurrent+autocommit 3 0.5 17")
    ('concurrent+autocommit', 3, 0.5, 17)
    """
    words = text.split()
    try:
        mode, count, seconds, seed = words[0], int(words[1]), float(words[2]), int(words[3])
    except (ValueError, IndexError):
        raise ValueError(f"{_cut(text)} is no race: MODE SESSIONS SECONDS SEED.") from None
    if not (
        RACE_MODE.fullmatch(mode)
        and 1 <= count <= 32
        and 0 < seconds <= MOST_RACE_S
        and len(words) == 4
    ):
        raise ValueError(
            f"{_cut(text)}: 1 to 32 sessions race for at most {MOST_RACE_S:g} seconds."
        )
    return mode, count, seconds, seed


WRITES = ("insert", "replace", "update", "delete")
DDL = ("create", "drop", "alter", "vacuum", "analyze", "reindex", "attach", "detach")
FIRST = re.compile(r"\s*(?:with\b.*?\)\s*)?([a-z]+)(?:\s+(or\s+\w+|[a-z_]+))?", re.IGNORECASE)


@lru_cache(maxsize=4096)
def first_word(sql: str) -> str:
    """The word that a statement begins with, in small letters."""
    found = FIRST.match(sql)
    return found[1].lower() if found else ""


@lru_cache(maxsize=4096)
def kind_of(step: Step) -> str:
    """What kind of operation a step is, for tables and for telling findings apart.

    >>> kind_of(Step("A", "sql", "INSERT OR REPLACE INTO t0(id) VALUES (1) RETURNING id"))
    'insert or replace returning'
    >>> kind_of(Step("A", "sql", "UPDATE t0 SET v = 1 WHERE v > 3")), kind_of(Step("A", "commit"))
    ('update', 'commit')
    """
    if step.verb not in ("sql", "auto", "half"):
        if step.verb == "kill" and step.session != ALL:
            return "kill of one"
        return f"begin {step.text}".strip() if step.verb == "begin" else step.verb
    found = FIRST.match(step.text)
    if not found:
        return "other"
    word, more = found[1].lower(), (found[2] or "").lower()
    parts = [word]
    if more.startswith("or ") or word in (*DDL, "pragma", "rollback"):
        parts.append(" ".join(more.split()))
    if word == "alter":
        wanted = re.search(r"\b(add|drop|rename)\b", step.text, re.IGNORECASE)
        parts.append(wanted[1].lower() if wanted else "")
    text = step.text.upper()
    parts += [name for mark, name in MARKS if mark in text and word != "create"]
    if step.verb == "half":
        parts.insert(0, "half-read")
    elif step.verb == "auto":
        parts.append("chosen key")
    return " ".join(filter(None, parts))


MARKS = (
    ("ON CONFLICT", "on conflict"),
    ("ON CONFLICT(U)", "of unique"),
    ("INDEXED BY", "by index"),
    ("ORDER BY", "ordered"),
    ("SIDE.", "attached"),
    ("RETURNING", "returning"),
    (" JOIN ", "join"),
    ("COUNT(", "aggregate"),
    ("SQLITE_SCHEMA", "schema"),
)


def met(steps: Sequence[Step]) -> set[tuple[str, str]]:
    """The pairs of kinds of operation that were under way at once: a step of a session, and each
    step so far of the transactions that others had open then.
    """
    pairs: set[tuple[str, str]] = set()
    inside: dict[str, list[str]] = {}
    for step in steps:
        kind = kind_of(step)
        for session, kinds in inside.items():
            if session != step.session:
                pairs |= {(min(kind, other), max(kind, other)) for other in kinds}
        if step.verb == "begin":
            inside[step.session] = [kind]
        elif step.session in inside:
            inside[step.session].append(kind)
            if step.verb in ("commit", "rollback", "close", "kill"):
                del inside[step.session]
        elif step.session == ALL:
            inside.clear()
    return pairs
