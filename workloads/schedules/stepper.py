"""The process of sessions: it opens them, takes their steps, and answers its parent.

`python -m workloads.schedules.stepper FD` is started by `workloads.schedules.sessions` and
by nobody else. It serves sessions of one engine, and ends when its pipe or its parent does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from workloads.engines import Refusal, Session, Settings, find_engine
from workloads.processes import die_with_parent
from workloads.records import BEGIN, COMMIT
from workloads.schedules.all_steps import State, restore, rows_left, take_all
from workloads.schedules.schedule import Op, Schedule
from workloads.schedules.steps import StepResult, StepTaker


@dataclass(frozen=True)
class Opening:
    """How a session is opened: everything that a connection needs, as plain data."""

    engine: str
    path: str
    begin: str
    settings: Settings
    more: tuple[str, ...] = ()  # statements that each connection runs first: ATTACH, foreign_keys


class Reply(NamedTuple):
    """The result of a step: its rows, or the refusal, or neither where no rows were wanted."""

    rows: list[tuple[Any, ...]] | None
    refusal: Refusal | None


class InProcessSession:
    """A session in this process."""

    def __init__(self, opening: Opening) -> None:
        engine = find_engine(opening.engine)
        self.session: Session = engine.connect(
            opening.path, begin=opening.begin, settings=opening.settings
        )
        try:
            for sql in opening.more:
                self.session.run(sql)
        except BaseException:
            self.session.close()
            raise
        self.rows = self.session.rows

    def call(
        self, phase: int, sql: str = "", params: tuple[Any, ...] = (), *, reads: bool = False
    ) -> Reply:
        """One step. Errors of the engine come back as a Refusal; ours are raised."""
        try:
            if phase == BEGIN:
                self.session.begin()
            elif phase == COMMIT:
                self.session.commit()
            elif reads:
                return Reply(self.rows(sql, params), None)
            else:
                self.session.run(sql, params)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # libSQL's panics are no Exception
            return Reply(None, self.session.refusal(error, phase))
        return Reply(None, None)

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> None:
        self.session.run(sql, params)

    def run_all(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        for sql, params in statements:
            self.session.run(sql, params)

    def rows_all(self, statements: Iterable[str]) -> list[list[tuple[Any, ...]]]:
        if (sync := getattr(self.session, "sync", None)) is not None:
            sync()  # the database's rows, and not what a replica has of them
        return [self.rows(sql) for sql in statements]

    def rollback(self) -> None:
        self.session.rollback()

    def in_transaction(self) -> bool:
        return self.session.in_transaction()

    def close(self) -> None:
        self.session.close()


def serve(pipe: Connection) -> None:
    """Send a first sign of life, then answer until the pipe ends, as it does with the parent."""
    pipe.send(True)
    sessions: dict[int, InProcessSession] = {}
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, _answer(sessions, *request)
        except BaseException as error:
            answer = False, (type(error).__name__, str(error))
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return


class ScheduleRequest(NamedTuple):
    """A schedule that a process is asked to run, with all its sessions (by number) in it.

    first : the rows to be put back before, None where they have not changed. journal : a file for
    the results, step by step: it is there when this process is not.
    """

    numbers: tuple[int, ...]
    schedule: Schedule
    first: State | None
    journal: str


class Journal:
    """The steps of a running schedule, in a file: (session, op) before each, its StepResult after.

    There is one write a step: a result goes with the step that follows, or with the end. Steps are
    written as tuples, which cost a fifth of the time that the objects would.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        self._kept: list[Any] = []

    def note(self, noted: tuple[int, Op] | StepResult) -> None:
        self._kept.append(plain(noted))
        if not isinstance(noted, StepResult):
            self.write()

    def write(self) -> None:
        os.write(self._file, pickle.dumps(self._kept, PROTOCOL))
        self._kept.clear()

    def close(self) -> None:
        os.close(self._file)


def read_journal(path: Path) -> list[tuple[int, Op] | StepResult]:
    """The journal without a part that was half written when the process died."""
    found: list[Any] = []
    with path.open("rb") as file, contextlib.suppress(EOFError, pickle.PickleError):
        while True:
            found += pickle.load(file)
    return [event_of(one) if len(one) > STARTED else (one[0], Op(*one[1])) for one in found]


STARTED = 2
PROTOCOL = pickle.HIGHEST_PROTOCOL


def plain(noted: tuple[int, Op] | StepResult) -> tuple[Any, ...]:
    """A step's result, or a step begun, as tuples alone."""
    if isinstance(noted, StepResult):
        at, session, txn, op, *rest = noted
        return (at, session, txn, tuple(op), *rest)
    return noted[0], tuple(noted[1])


def event_of(fields: tuple[Any, ...]) -> StepResult:
    at, session, txn, op, *rest = fields
    return StepResult(at, session, txn, Op(*op), *rest)


def _run_schedule(sessions: dict[int, InProcessSession], asked: ScheduleRequest) -> tuple[Any, ...]:
    held = [sessions[number] for number in asked.numbers]
    if asked.first is not None:
        restore(held[0], asked.schedule.schema, asked.first)
    journal = Journal(asked.journal)
    try:
        taker = StepTaker(held, asked.schedule.schema, journal.note)
        take_all(taker, asked.schedule)
        taker.give_up()
        journal.write()
        left = rows_left(held[0], asked.schedule.schema)
    finally:
        journal.close()
    events = [plain(event) for event in taker.events]
    return events, [tuple(vars(txn).values()) for txn in taker.txns], left


def _answer(sessions: dict[int, InProcessSession], verb: str, *args: Any) -> Any:
    if verb == "run_schedule":
        return _run_schedule(sessions, *args)
    if verb == "identity":
        return tuple(find_engine(args[0]).identity())
    if verb == "in_transactions":
        return [sessions[number].in_transaction() for number in args[0]]
    if verb == "close":
        for number in args[0]:
            sessions.pop(number).close()
        return None
    if verb == "open":
        opened: dict[int, InProcessSession] = {}
        try:
            for number, opening in args[0]:
                opened[number] = InProcessSession(opening)
        except BaseException:
            for session in opened.values():
                session.close()
            raise
        sessions |= opened
        return None
    if verb == "call":
        number, phase, sql, params, reads = args
        return tuple(sessions[number].call(phase, sql, params, reads=reads))
    number, *rest = args
    return getattr(sessions[number], verb)(*rest)


def main(argv: list[str]) -> int:
    """FD: answer at the pipe of this number until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent acts
    die_with_parent()
    faulthandler.enable()
    serve(Connection(int(argv[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
