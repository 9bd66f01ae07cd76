"""The process of sessions that plays a program's steps: real connections of one engine.

`python -m workloads.schedules.playing FD ENGINE` is started by `workloads.schedules.stage` and by
nobody else. It loads the engine, and each process of sessions is a copy of it. That judges nothing.
Before each step it writes the step's place into its journal and after it the result, so that both
are known when this process is not there any more.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import pickle
import re
import resource
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

from workloads import processes
from workloads.engines import Refusal, Session, find_engine
from workloads.processes import die_with_parent
from workloads.records import BEGIN, COMMIT, CONFLICT, STATEMENT, UNKNOWN
from workloads.schedules.opening import Opening
from workloads.schedules.program import Step
from workloads.schedules.racing import race

OK, FAILED, REFUSED, ENDED, LOST, SKIPPED, CANNOT = (
    *("ok", "failed", "conflict", "ended", "unknown", "skipped", "cannot"),
)
"""The status of a step.

ok        it succeeded
failed    it raised, has no effect, and leaves the transaction as it was
conflict  refused because of another session; the transaction, if there was one, is rolled back
ended     it raised, and the transaction is over; nobody else had a part in it
unknown   COMMIT raised so that nobody can know
skipped   its transaction was over before
cannot    this driver has no such step
"""

WITHIN = re.compile(r"savepoint|release|rollback|pragma defer_foreign_keys", re.IGNORECASE)
"""Statements that are taken within a transaction alone."""

MOST_MEMORY, MOST_FILE, MOST_ANSWER = 2 << 30, 256 << 20, 4 << 20
"""Bytes of a process of sessions, of a file of its, and of the answer to a step: a program may come
from anybody, and an engine may go on for ever. What is drawn needs a hundredth."""

ENDS = {"BEGIN": "begin", "COMMIT": "commit", "ROLLBACK": "rollback"}

Rows = list[tuple[Any, ...]]


class Result(NamedTuple):
    """What came of a step. rows : fetched. error : the driver's class of error. message : its text.
    inside : whether the engine says that the session is in a transaction afterwards.
    """

    status: str
    rows: Rows | None = None
    error: str = ""
    message: str = ""
    inside: bool = False


class Looked(NamedTuple):
    """What a new session was told. same : opened, asked and closed, the database has the same files
    as before, byte for byte: opened once more it would answer the same. raised : where its session
    could not be closed.
    """

    results: list[Result]
    same: bool
    raised: str = ""


LOOKING = "?"
"""The name of a session that looks at a database."""


def _files(path: str) -> dict[str, bytes]:
    """The content of a database's files, by name."""
    found = {}
    with os.scandir(os.path.dirname(path)) as entries:
        for entry in entries:
            with open(entry.path, "rb", buffering=0) as file:
                found[entry.name] = file.readall()
    return found


class Held:
    """A session, and what of it is open."""

    def __init__(self, opening: Opening) -> None:
        self.session: Session = opening.connect()
        self.cursor: Any = None
        self.begun = self.over = False
        self.group: list[Held] = [self]  # those of its connection

    def take(self, step: Step) -> Result:
        """Take a step. The engine's errors become its status."""
        verb, text = step.verb, step.text
        if verb == "begin":
            return self._begin(text)
        if self.over:
            if verb in ("commit", "rollback"):
                self.over = False
            return Result(SKIPPED)
        if verb == "sql" and not self.begun and WITHIN.match(text):
            return Result(SKIPPED)  # SAVEPOINT would begin a transaction
        if verb == "commit":
            return self._commit()
        if verb == "rollback":
            return self._called(STATEMENT, self._rollback)
        if verb == "half":
            if not hasattr(self.session, "cursor"):
                return Result(CANNOT)
            return self._called(STATEMENT, lambda: self._half(text))
        if verb == "fetch":
            cursor, self.cursor = self.cursor, None
            if cursor is None:
                return Result(SKIPPED)
            return self._called(STATEMENT, lambda: list(cursor.fetchall() or ()))
        return self._called(STATEMENT, lambda: list(self.session.rows(text)))

    def _begin(self, mode: str) -> Result:
        if self.begun or self.over:
            return Result(SKIPPED)
        result = self._called(BEGIN, lambda: self.session.run(f"BEGIN {mode.upper()}".strip()))
        self.begun, self.over = result.status == OK, result.status != OK
        return result

    def _commit(self) -> Result:
        if not self.begun:
            return Result(SKIPPED)
        result = self._called(COMMIT, self.session.commit)
        if result.status == OK or (self.begun and result.status != FAILED):
            self.begun = False
        # What comes after COMMIT is of another transaction.
        self.over = False
        return result

    def _rollback(self) -> None:
        if self.begun:
            self.begun = False
            self.session.rollback()

    def _half(self, sql: str) -> Rows:
        self.cursor = None
        cursor = self.session.cursor(sql)  # type: ignore[attr-defined]
        first = cursor.fetchone()
        if first is not None:
            self.cursor = cursor
        return [] if first is None else [tuple(first)]

    def _called(self, phase: int, call: Any) -> Result:
        try:
            made = call()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # libSQL's panics are no Exception
            return self._refused(error, phase)
        rows = [tuple(row) for row in made] if isinstance(made, list) else None
        return Result(OK, rows, inside=self.session.in_transaction())

    def _refused(self, error: BaseException, phase: int) -> Result:
        refusal: Refusal = self.session.refusal(error, phase)
        of = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        if refusal.outcome == UNKNOWN:
            status = LOST
        elif refusal.outcome == CONFLICT:
            status = REFUSED
        else:
            status = ENDED if self.begun and refusal.over else FAILED
        if status != FAILED and self.begun:
            self.over, self.begun = True, False
            for one in self.group:
                one.cursor = None
            if not refusal.over:
                self.session.rollback()
        return Result(status, None, of, str(error), self.session.in_transaction())

    def close(self) -> None:
        self.cursor = None
        self.session.close()


class Beside(Held):
    """A session on the connection of another one: their transaction is one, and each has a cursor.

    It may have a thread of its own, in which its steps are taken while all others wait.
    """

    def __init__(self, other: Held, *, thread: bool) -> None:
        self.other, self.session, self.cursor = other, other.session, None
        self.group = other.group
        self.group.append(self)
        self.thread = ThreadPoolExecutor(1) if thread else None

    @property
    def begun(self) -> bool:
        return self.other.begun

    @begun.setter
    def begun(self, begun: bool) -> None:
        self.other.begun = begun

    @property
    def over(self) -> bool:
        return self.other.over

    @over.setter
    def over(self, over: bool) -> None:
        self.other.over = over

    def take(self, step: Step) -> Result:
        if self.thread is None:
            return super().take(step)
        return self.thread.submit(super().take, step).result()

    def close(self) -> None:
        """Its connection is the other's, who closes it."""
        self.cursor = None
        if self.thread is not None:
            self.thread.shutdown()


class Player:
    """The sessions of this process, by name."""

    def __init__(self, journal: str) -> None:
        self.held: dict[str, Held] = {}
        self.opening: Opening | None = None
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND)

    def open(self, opening: Opening, names: Sequence[str]) -> None:
        self.opening = opening
        shared = [name for name in opening.shared if name in names]
        for name in sorted(names, key=lambda name: name in shared[1:]):
            if name in shared[1:]:
                self.held[name] = Beside(self.held[shared[0]], thread=opening.threads)
            else:
                self.held[name] = Held(opening)

    def play(
        self, steps: Sequence[tuple[int, Step]], opening: Opening | None, names: Sequence[str]
    ) -> list[Result]:
        """Take steps, each with its place in the program. opening : sessions are opened before."""
        if opening is not None:
            self.open(opening, names)
        results = []
        for at, step in steps:
            self._note(at)
            result = self._step(step)
            noted = pickle.dumps(tuple(result))
            if len(noted) > MOST_ANSWER:
                result = Result(CANNOT, None, "", f"its answer has {len(noted):,} bytes")
                noted = pickle.dumps(tuple(result))
            os.write(self.journal, noted)
            results.append(result)
        return results

    def _note(self, what: Any) -> None:
        os.write(self.journal, pickle.dumps(what))

    def _step(self, step: Step) -> Result:
        if step.verb not in ("close", "reopen"):
            return self.held[step.session].take(step)
        assert self.opening is not None
        names = [step.session]
        if step.verb == "reopen":
            names = list(self.held)
        elif step.session in self.opening.shared:
            names = [name for name in self.opening.shared if name in self.held]
        for name in reversed(names):
            self.held.pop(name).close()
        if not self.held:
            gc.collect()  # a driver's file is open until nothing holds its connection
        self.open(self.opening, names)
        return Result(OK)

    def ask(self, name: str, statements: Sequence[str]) -> list[Result]:
        """Statements of a session that is in no transaction, each with its rows or error."""
        return [
            self.held[name].take(Step(name, ENDS[sql]) if sql in ENDS else Step(name, "sql", sql))
            for sql in statements
        ]

    def look(self, opening: Opening, statements: Sequence[str]) -> Looked:
        """Close all sessions, ask a new one, and close that."""
        self.close()
        before = _files(opening.path)
        self._note(None)  # it goes on
        self.open(opening, [LOOKING])
        results = self.ask(LOOKING, statements)
        self._note(None)
        try:
            self.close()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            return Looked(results, False, f"{type(error).__name__}: {error}")
        return Looked(results, _files(opening.path) == before)

    def race(
        self, opening: Opening, numbers: Sequence[int], seed: int, mode: str, until: float
    ) -> list[dict[str, Any]]:
        """Race (workloads.schedules.racing) with a session for each of these numbers."""
        return race(opening, numbers, seed, mode, until)

    def close(self) -> None:
        held, self.held = self.held, {}
        for one in reversed(held.values()):
            one.close()
        held.clear()
        gc.collect()  # as above


def serve(pipe: Connection, player: Player) -> None:
    """Answer until the pipe ends, as it does with the parent."""
    pipe.send(True)
    while True:
        try:
            verb, *args = pipe.recv()
        except EOFError:
            return
        try:
            answer = ForkingPickler.dumps((True, getattr(player, verb)(*args)))
            if len(answer) > 16 * MOST_ANSWER:
                raise MemoryError(f"the answer has {len(answer):,} bytes")
        except BaseException as error:
            answer = ForkingPickler.dumps((False, (f"{type(error).__name__}", str(error))))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            pipe.send_bytes(answer)


def play(descriptor: int, journal: str, words: str) -> None:
    """What a copy runs: its end of the pipe, its journal, the file of its last words."""
    errors = os.open(words, os.O_WRONLY | os.O_APPEND)
    os.dup2(errors, 2)
    os.close(errors)
    faulthandler.enable()
    serve(Connection(descriptor), Player(journal))


def load(engine: str) -> None:
    """Import an engine's library, and open nothing."""
    found = find_engine(engine)
    found.missing()
    if hasattr(found, "load"):
        found.load()


def main(argv: list[str]) -> int:
    """FD ENGINE."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    for what, most in ((resource.RLIMIT_AS, MOST_MEMORY), (resource.RLIMIT_FSIZE, MOST_FILE)):
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond it is an error
    processes.serve(int(argv[0]), play, partial(load, argv[1]))
    return 0


if __name__ == "__main__":
    # By its own name, by which the other end of the pipe knows the classes of what is sent.
    sys.exit(importlib.import_module("workloads.schedules.playing").main(sys.argv[1:]))
