"""The second judge of isolation: the checker, on programs whose every write it can read.

It shares nothing with the reference, which runs the SQL again. A program's rows are registers:
UPDATE ... SET v = NUMBER by key is a write where no two write the same, SELECT by key or of the
whole table reads. What cannot be read so leaves a read out, and a program with such a write alone
to the reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from properties.checker import FORBIDS, check
from properties.hunter.drawing import Table
from properties.hunter.patterns import tables_of
from properties.hunter.reference import Wrong
from workloads.records import Builder, History
from workloads.schedules import ALL, Played, Result, Step, first_word

WRITE = re.compile(r"UPDATE (\w+) SET v = (\d+) WHERE ([^()<>%]+?)(?: RETURNING .*)?")
READ = re.compile(r"SELECT ([\w, ]+) FROM (\w+)(?: WHERE ([^()<>%]+))?")
NO_WRITE_OF_V = re.compile(r"UPDATE \w+ SET (?:[wup] = [^,]+|v = v)(?: WHERE .*)?")
ROW = re.compile(r"INSERT INTO (\w+)\((.*?)\) VALUES \((.*)\)")
PAIR = re.compile(r"(\w+) = (\S+)")

TELL_NOTHING = ("pragma", "analyze", "vacuum", "attach", "detach", "reindex", "savepoint",
                "release")  # fmt: skip
READS = ("select", "with")

Op = tuple[str, str, Any]


class _Unread(Exception):
    """The program has a write that is no write of one register."""


class _Open(NamedTuple):
    """A transaction that goes on. begun : the place of its first step."""

    begun: int
    ops: list[Op]


class _Reading:
    """A program's results while they become a history."""

    def __init__(self, played: Played) -> None:
        program = played.program
        told = " ".join(program.schema)
        if "TRIGGER" in told or program.shared or not program.steps:
            raise _Unread
        self.played = played
        self.tables = {table.name: table for table in tables_of(program)}
        self.builder = Builder("rw-register")
        self.open: dict[str, _Open] = {}
        self.written: set[tuple[str, int]] = set()
        self.there = self._first_rows()
        self.writes = 0

    def _first_rows(self) -> set[str]:
        """The registers, whose first values are written by a session of their own."""
        there, ops = set[str](), list[Op]()
        for sql in self.played.program.schema:
            if not (match := ROW.fullmatch(sql)) or match[1] not in self.tables:
                continue
            row = dict(zip(match[2].split(", "), match[3].split(", "), strict=False))
            keys = self.tables[match[1]].keys
            register = _register(match[1], [row[name] for name in keys])
            there.add(register)
            if row.get("v", "NULL") != "NULL":
                ops.append(("w", register, int(row["v"])))
                self.written.add((register, int(row["v"])))
        if ops:
            self.builder.add("first", 0, 1, "committed", ops)
        return there

    def history(self, at_the_end: Mapping[str, Result]) -> History | None:
        """None where too little is written for anything to be wrong."""
        last = 0
        for at, (step, result) in enumerate(
            zip(self.played.program.steps, self.played.results, strict=False)
        ):
            self._see(at, step, result)
            last = at
        for name in list(self.open):
            self._over(name, last, "failed")
        final = [
            op for sql, result in at_the_end.items() if result.status == "ok"
            for op in self._reads(sql, result.rows or [])
        ]  # fmt: skip
        self.builder.add("last", 2 * last + 4, 2 * last + 5, "committed", final)
        return self.builder.build() if self.writes else None

    def _see(self, at: int, step: Step, result: Result) -> None:
        verb, name = step.verb, step.session
        if verb in ("reopen", "kill", "close"):
            for one in list(self.open) if name == ALL else [name]:
                self._over(one, at, "failed")
        elif result.status in ("skipped", "cannot") or verb in ("race", "half", "fetch"):
            return
        elif verb == "begin":
            if result.status == "ok":
                self.open[name] = _Open(at, [])
        elif verb in ("commit", "rollback"):
            if result.status == "failed":
                raise _Unread
            outcome = {"ok": "committed", "unknown": "unknown"}.get(result.status, "conflict")
            self._over(name, at, "failed" if verb == "rollback" else outcome)
        elif result.status in ("conflict", "ended"):
            self._over(name, at, "conflict")
        elif result.status == "unknown":
            raise _Unread
        elif result.status == "ok":
            self._statement(at, step, result)

    def _statement(self, at: int, step: Step, result: Result) -> None:
        ops = list(self._ops(step.text, result))
        if (txn := self.open.get(step.session)) is not None:
            txn.ops.extend(ops)
        elif ops:
            self.builder.add(step.session, 2 * at + 2, 2 * at + 3, "committed", ops)

    def _ops(self, sql: str, result: Result) -> Iterable[Op]:
        word = first_word(sql)
        if word in READS:
            return self._reads(sql, result.rows or [])
        if word in TELL_NOTHING or " INDEX " in sql or NO_WRITE_OF_V.fullmatch(sql):
            return ()
        match = WRITE.fullmatch(sql)
        register = self._by_key(match[1], match[3]) if match else None
        if match is None or register not in self.there:
            raise _Unread
        value = int(match[2])
        if (register, value) in self.written:
            raise _Unread
        self.written.add((register, value))
        self.writes += 1
        return [("w", register, value)]

    def _reads(self, sql: str, rows: Iterable[Any]) -> Iterator[Op]:
        match = READ.fullmatch(sql)
        if match is None or match[2] not in self.tables:
            return
        columns, keys = match[1].split(", "), self.tables[match[2]].keys
        if "v" not in columns or not {*keys} <= {*columns}:
            return
        if match[3] and self._by_key(match[2], match[3]) is None:
            return
        for row in rows:
            told = dict(zip(columns, row, strict=True))
            register = _register(match[2], [_literal(told[name]) for name in keys])
            if register in self.there:
                yield "r", register, told["v"]

    def _by_key(self, table: str, where: str) -> str | None:
        """The register that a condition names by the whole key, None where it is another one."""
        pairs = dict(PAIR.findall(where))
        known: Table | None = self.tables.get(table)
        if known is None or list(pairs) != list(known.keys) or len(pairs) != where.count("="):
            return None
        return _register(table, pairs.values())

    def _over(self, name: str, at: int, outcome: str) -> None:
        if (txn := self.open.pop(name, None)) is not None and txn.ops:
            self.builder.add(name, 2 * txn.begun + 2, 2 * at + 3, outcome, txn.ops)


def _register(table: str, key: Iterable[str]) -> str:
    return f"{table} {' '.join(key)}"


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def history_of(played: Played, at_the_end: Mapping[str, Result]) -> History | None:
    """The history of a program that was played, None where its writes cannot be read.

    at_the_end : statement -> what the database answered after all was closed.
    """
    if played.over:
        return None
    try:
        return _Reading(played).history(at_the_end)
    except _Unread:
        return None


def judge_history(
    played: Played, at_the_end: Mapping[str, Result], *, serializable: bool
) -> Wrong | None:
    """What the checker says against a program at the level that its modes promise."""
    history = history_of(played, at_the_end)
    if history is None:
        return None
    level, verdict = "serializable" if serializable else "snapshot-isolation", check(history)
    names = [name for name in verdict.anomalies if name in FORBIDS[level]]
    if not names and verdict.levels[level] is not False:
        return None
    return Wrong("isolation", f"the checker finds what {level} forbids", "none of it",
                 ", ".join(names) or "a cycle")  # fmt: skip
