"""A race: sessions that nobody steps, for a fraction of a second, each with an account of what was
acknowledged.

Two threads between two lines of an engine, or two processes in its locks, are never met step by
step. Every session writes rows of its own and counters that all share; what it was told is its
account, and the account is what the database is held against.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from workloads.engines import Session
from workloads.records import BEGIN, COMMIT, CONFLICT, STATEMENT, UNKNOWN
from workloads.schedules.opening import Opening

TABLES = (
    "CREATE TABLE race_own(id INTEGER PRIMARY KEY, session INTEGER NOT NULL, v INTEGER NOT NULL)",
    "CREATE INDEX race_of ON race_own(session, v)",
    "CREATE TABLE race_counter(id INTEGER PRIMARY KEY, v INTEGER NOT NULL)",
    *(f"INSERT INTO race_counter(id, v) VALUES ({number}, 0)" for number in range(3)),
)
"""The tables of a race; they are made before it, where the program has not made them."""

AUTOCOMMIT = "autocommit"
CHECKPOINTS = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


def in_processes(seed: int) -> bool:
    """Whether a race's sessions have a process each, where the engine's can; else threads."""
    return bool(seed % 4)


KEYS = 1_000_000
"""Keys of one session."""


@dataclass
class Account:
    """What a session was told. rows : key -> value of its own rows. unsure : keys whose last write
    may be there or not. counted : counter -> acknowledged increments; maybe : those that nobody
    knows. returned : counter -> values that RETURNING gave.
    missed : what it wrote and another connection did not see at once. errors : class and text of
    what was no conflict.
    """

    rows: dict[int, int] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)
    counted: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(3), 0))
    maybe: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(3), 0))
    returned: dict[int, list[int]] = field(default_factory=lambda: {n: [] for n in range(3)})
    missed: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    refused: int = 0


class Racer:
    """One session of a race."""

    def __init__(self, opening: Opening, number: int, seed: int, mode: str) -> None:
        """Mode : of each transaction one of these, with a plus between them; "autocommit" for
        writes without BEGIN.
        """
        self.opening, self.number = opening, number
        self.modes = mode.split("+")
        self.rng = Random(f"{seed}/{number}")
        self.account = Account()
        self.next = number * KEYS
        self.session: Session
        self.other: Session

    def _connect(self) -> Session:
        return self.opening.connect()

    def run(self, until: float) -> None:
        """Write until the time is over, in the thread that opens the connections."""
        self.session, self.other = self._connect(), self._connect()
        try:
            while time.monotonic() < until:
                draw = self.rng.random()
                if draw < 0.02:
                    self._reopen()
                elif draw < 0.05:
                    self._tried([f"PRAGMA wal_checkpoint({self.rng.choice(CHECKPOINTS)})"])
                else:
                    self._write()
        finally:
            self.session.close()
            self.other.close()

    def _reopen(self) -> None:
        self.session.close()
        self.session = self._connect()

    def _write(self) -> None:
        """One to three writes, in a transaction or each by itself."""
        mode = self.rng.choice(self.modes)
        begin = "" if mode == AUTOCOMMIT else f"BEGIN {mode.upper()}"
        used: set[int] = set()
        count = self.rng.choice((1, 1, 2, 3)) if begin else 1
        if not self._tried([self._drawn(used) for _ in range(count)], begin):
            return
        if self.rng.random() < 0.2:
            self._look()

    def _drawn(self, used: set[int]) -> str:
        """A write. used : keys of its own rows that its transaction has written already."""
        draw, rows = self.rng.random(), self.account.rows
        mine = [key for key in rows if key not in self.account.unsure and key not in used]
        if draw < 0.35 or not mine:
            self.next += 1
            return (
                f"INSERT INTO race_own(id, session, v) VALUES ({self.next}, {self.number}, 0) "
                "RETURNING id"
            )
        if draw < 0.65:
            counter = self.rng.randrange(3)
            return f"UPDATE race_counter SET v = v + 1 WHERE id = {counter} RETURNING v"
        key = self.rng.choice(mine)
        used.add(key)
        if draw < 0.9:
            return f"UPDATE race_own SET v = v + 1 WHERE id = {key} RETURNING v"
        return f"DELETE FROM race_own WHERE id = {key} RETURNING id"

    def _tried(self, writes: list[str], begin: str = "") -> bool:
        """Run statements; put them into the account where they were acknowledged.

        begin : of a transaction around them, "" for each by itself.
        """
        got, phase, session = [], BEGIN, self.session
        try:
            if begin:
                session.run(begin)
            phase = STATEMENT
            for sql in writes:
                got.append((sql, session.rows(sql)))
            phase = COMMIT
            if begin:
                session.commit()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            self._raised(error, phase, writes)
            return False
        for sql, rows in got:
            self._acknowledged(sql, rows)
        self.account.acknowledged += 1
        return True

    def _raised(self, error: BaseException, phase: int, writes: list[str]) -> None:
        refusal = self.session.refusal(error, phase)
        if not refusal.over:
            self.session.rollback()
        if refusal.outcome == UNKNOWN:
            for sql in writes:
                self._nobody_knows(sql)
        if refusal.outcome == CONFLICT:
            self.account.refused += 1
        else:
            text = f"{type(error).__name__}: {error}"
            self.account.errors[text] = self.account.errors.get(text, 0) + 1

    def _nobody_knows(self, sql: str) -> None:
        if sql.startswith("UPDATE race_counter"):
            self.account.maybe[_number(sql)] += 1
        elif "race_own" in sql:
            self.account.unsure.add(self._key(sql))

    def _acknowledged(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        account = self.account
        if sql.startswith("UPDATE race_counter"):
            account.counted[_number(sql)] += 1
            account.returned[_number(sql)] += [row[0] for row in rows]
        elif sql.startswith("INSERT"):
            account.rows[self._key(sql)] = 0
        elif sql.startswith("UPDATE"):
            key = self._key(sql)
            account.rows[key] += 1
            if list(rows) != [(account.rows[key],)]:
                account.missed.append(f"{sql} gave {list(rows)}, not {account.rows[key]}")
        elif sql.startswith("DELETE"):
            del account.rows[self._key(sql)]

    def _key(self, sql: str) -> int:
        if sql.startswith("INSERT"):
            return int(sql.partition("VALUES (")[2].partition(",")[0])
        return _number(sql)

    def _look(self) -> None:
        """Another connection must see one's own rows at once."""
        known = {k: v for k, v in self.account.rows.items() if k not in self.account.unsure}
        try:
            rows = self.other.rows(f"SELECT id, v FROM race_own WHERE session = {self.number}")
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            if self.other.refusal(error, STATEMENT).outcome != CONFLICT:
                text = f"{type(error).__name__}: {error}"
                self.account.errors[text] = self.account.errors.get(text, 0) + 1
            return
        seen = {key: v for key, v in rows if key not in self.account.unsure}
        if seen != known and len(self.account.missed) < 5:
            wrong = sorted(set(seen.items()) ^ set(known.items()))[:5]
            self.account.missed.append(f"another connection sees otherwise: {wrong}")


def _number(sql: str) -> int:
    return int(sql.partition("WHERE id = ")[2].split()[0])


def race(opening: Opening, numbers: Sequence[int], seed: int, mode: str, until: float) -> list[Any]:
    """Race in this process: a thread for each session, or none for one alone. Their accounts."""
    racers = [Racer(opening, number, seed, mode) for number in numbers]
    if len(racers) == 1:
        racers[0].run(until)
    else:
        threads = [threading.Thread(target=racer.run, args=(until,)) for racer in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [vars(racer.account) for racer in racers]


CONSTANTS = {
    "AUTOCOMMIT": AUTOCOMMIT, "CHECKPOINTS": CHECKPOINTS, "KEYS": KEYS, "TABLES": TABLES,
    "BEGIN": BEGIN, "STATEMENT": STATEMENT, "COMMIT": COMMIT, "CONFLICT": CONFLICT,
    "UNKNOWN": UNKNOWN,
}  # fmt: skip


def race_source() -> str:
    """This module's own text, for a script that needs nothing of ours: `race`, and what it needs
    but the modules of Python's own that it imports.
    """
    constants = "".join(f"{name} = {value!r}\n" for name, value in CONSTANTS.items())
    parts = (inspect.getsource(part) for part in (Account, Racer, _number, race))
    return constants + "".join(f"\n\n{part}" for part in parts)
