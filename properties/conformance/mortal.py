"""Engines that do nothing, die or hang: negative controls for this suite itself.

pytest properties --engine properties/conformance/mortal.py:Aborts

Those that die do so at the second write of a transaction, each in its own way, after a panic's last
words. `LosesCommits` says when it is about to lose one, for a test that interrupts. `Sound` is what
each would be without its fault.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workloads.engines import Faulty, FaultySession, PassingSession, Promise, Settings, reads

LAST_LINES = "thread 'main' panicked at src/mvcc.rs:7:\nassertion failed: watermark <= snapshot"
MARK, PIPE, STOPS_AFTER = "CWKIT_TEST_MARK", "CWKIT_TEST_PIPE", 20
NO_COMMIT = "COMMIT needs a licence"
NO_CONNECT = "the disk is on strike"


class _Engine(Faulty):
    """Over stdlib sqlite3, with one mode, which it promises to be serializable."""

    Mode: ClassVar[str] = "immediate"
    Session: ClassVar[type[FaultySession]] = PassingSession

    def __init__(self) -> None:
        super().__init__()
        self.promises: Mapping[str, Promise] = {self.Mode: Promise("serializable", "its manual")}


class Sound(_Engine):
    """Does what it promises."""

    name = "sound"


class RefusesBegin(_Engine):
    """Promises BEGIN CONCURRENT, which the library behind it does not know."""

    name = "refuses-begin"
    Mode = "concurrent"


class _RefusingCommit(PassingSession):
    def commit(self) -> None:
        raise sqlite3.OperationalError(NO_COMMIT)


class RefusesCommit(_Engine):
    """Begins, and refuses every COMMIT."""

    name = "refuses-commit"
    Session = _RefusingCommit


class NoConnect(_Engine):
    """Cannot be opened."""

    name = "no-connect"

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        raise sqlite3.OperationalError(NO_CONNECT)


class NoConnectOfAnotherFormat(NoConnect):
    """Cannot be opened, and is not of SQLite's family, which may refuse parts of a schema."""

    def __init__(self) -> None:
        super().__init__()
        self.file_format = "another"


class _Dying(PassingSession):
    """Counts the writes of a transaction."""

    die: ClassVar[Callable[[], Any]]

    def prepare(self) -> None:
        self._writes = 0

    def begin(self) -> None:
        self._writes = 0
        self.real.begin()

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        writes = self.real.in_transaction() and not reads(sql) and "item" in sql
        self._writes += writes
        if writes and self._writes == 2:
            print(LAST_LINES, file=sys.stderr, flush=True)
            type(self).die()
        return self.real.run(sql, params)


def _dying_by(how: Callable[[], Any]) -> type[_Dying]:
    return type("_DyingSession", (_Dying,), {"die": staticmethod(how)})


class Aborts(_Engine):
    name = "aborts"
    Session = _dying_by(os.abort)


class Segfaults(_Engine):
    name = "segfaults"
    Session = _dying_by(lambda: ctypes.string_at(0))


class KillsItself(_Engine):
    name = "kills-itself"
    Session = _dying_by(lambda: os.kill(os.getpid(), signal.SIGKILL))


class Exits(_Engine):
    name = "exits"
    Session = _dying_by(lambda: os._exit(3))


class Hangs(_Engine):
    """In C, with the interpreter's lock held, as a binding may wait."""

    name = "hangs"
    Session = _dying_by(ctypes.PyDLL(None).pause)


class _LosingCommits(PassingSession):
    """Rolls back what it acknowledges. After STOPS_AFTER of them it says so in the pipe that the
    environment names, and then does nothing any more.
    """

    lost: ClassVar[int] = 0

    def commit(self) -> None:
        _LosingCommits.lost += 1
        if self.lost == STOPS_AFTER and (pipe := os.environ.get(PIPE)):
            with open(pipe, "wb", buffering=0) as file:
                file.write(b".")
                signal.pause()
        self.real.rollback()


class LosesCommits(_Engine):
    """Acknowledges every COMMIT and rolls it back."""

    name = "loses-commits"
    Session = _LosingCommits


def _abort_once() -> None:
    mark = Path(os.environ[MARK])
    if not mark.exists():
        mark.touch()
        os.abort()


class AbortsOnce(_Engine):
    """Aborts where the file that the environment names is not there yet, and makes it."""

    name = "aborts-once"
    Session = _dying_by(_abort_once)
