"""An engine in another language or process: a program of the user's that answers JSON lines.

`examples/bridges/` has three of them with their engine file, docs/another-language.md the protocol.
A `Bridge` says what its program says in the handshake. Each session has a program of its own, which
may carry another session when that is closed. Nothing is tried again, and a program that breaks off
breaks its session: its worker ends with the sentence, as one does whose engine crashes.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workloads.engines import pragmas
from workloads.engines.bridge_messages import (
    LEVELS,
    PROTOCOL,
    Answer,
    Hello,
    NoAnswer,
    Told,
    params_of,
    rows_of,
)
from workloads.engines.bridge_program import BridgeFailed, BridgeLimits, Program
from workloads.engines.bridge_shared import SharedProgram
from workloads.engines.dialect import CHANGES
from workloads.engines.engine import USUAL, Identity, Promise, Refusal, Settings
from workloads.engines.refusals import NO_CODE, by_code, not_conflict, which_lock
from workloads.errors import EngineMissing, nearest
from workloads.files import resolved
from workloads.records import (
    BUSY,
    CONFLICT,
    FAILED,
    FULL,
    IO,
    LIMIT,
    NO_CONFLICT,
    SERIALIZATION,
    STALE,
    UNCLASSIFIED,
    UNKNOWN,
    UPGRADE,
    WRITE_WRITE,
)

CLASSES = {
    "busy": (CONFLICT, BUSY),
    "snapshot": (CONFLICT, STALE),
    "upgrade": (CONFLICT, UPGRADE),
    "write-write": (CONFLICT, WRITE_WRITE),
    "serialization": (CONFLICT, SERIALIZATION),
    "conflict": (CONFLICT, UNCLASSIFIED),
    "failed": (FAILED, NO_CONFLICT),
    "full": (FAILED, FULL),
    "io": (UNKNOWN, IO),
    "limit": (FAILED, LIMIT),
    "unknown": (UNKNOWN, NO_CONFLICT),
}
"""A bridge's class of an error -> outcome, and kind of conflict or cause. `failed` is certain: the
statement, or the COMMIT, had no effect. `unknown` and `io` are so at a COMMIT; elsewhere they are
failures."""

SPARE = 4
"""Programs without a session that a thread keeps for the next one."""


class BridgeError(Exception):
    """An error that the program reports, in the engine's own words."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.message)
        self.code, self.kind = told.code, told.kind


class _Spare(threading.local):
    """Programs that have said hello and carry no session, of this thread: they end with it."""

    def __init__(self) -> None:
        self.programs: dict[tuple[Any, ...], list[Program]] = {}


_spare = _Spare()
_heard: dict[tuple[Any, ...], Hello | str] = {}
"""What a program said in its handshake, or the sentence about why it did not, by its command."""


_shared: dict[tuple[Any, ...], SharedProgram] = {}
"""The program of an engine that locks its file to one process: one for all sessions here."""

_sharing = threading.Lock()


def _end_all() -> None:
    for program in _shared.values():
        program.close()
    for programs in _spare.programs.values():
        while programs:
            programs.pop().close()


atexit.register(_end_all)


class Bridge:
    """An engine by a program. A subclass, in a file of the user's, names the command:

        class Node(Bridge):
            command = ("node", "bridge.mjs")

    command : run in the folder of that file. files : more files whose change makes another engine;
    those that the command names are known. limits : see `BridgeLimits`.
    """

    command: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    limits = BridgeLimits()

    def __init__(self) -> None:
        self.name = type(self).__name__.lower()
        made_in = getattr(sys.modules.get(type(self).__module__), "__file__", None)
        self.folder = resolved(made_in or ".").parent if made_in else Path.cwd()
        words = () if isinstance(self.command, str) else self.command
        if not words or not all(isinstance(word, str) for word in words):
            raise TypeError('command must be words, as ("node", "bridge.mjs")')

    @property
    def program(self) -> str:
        """Its name for people: the command."""
        return " ".join(os.path.basename(word) for word in self.command)

    # -- what it says of itself --------------------------------------------------------------

    def load(self) -> None:
        self._hello()

    def missing(self) -> str | None:
        said = self._hello()
        return said if isinstance(said, str) else None

    @property
    def _said(self) -> Hello:
        """The handshake; where there was none, one of an engine that promises nothing."""
        said = self._hello()
        return Hello(PROTOCOL, "", "") if isinstance(said, str) else said

    @property
    def file_format(self) -> str:
        return "sqlite" if self._said.file_format == "sqlite" else f"of {self.program}"

    @property
    def hosting(self) -> str:
        return "thread" if self._said.processes == "one" else "process"

    @property
    def modes(self) -> tuple[str, ...]:
        return tuple(self._said.modes)

    @property
    def promises(self) -> Mapping[str, Promise]:
        return {m: Promise(one.level, one.source) for m, one in self._said.promises.items()}

    @property
    def usual(self) -> Mapping[str, str]:
        modes = self.modes
        usual = {r: mode if mode in modes else modes[0] for r, mode in USUAL.items()}
        return usual | self._said.usual

    @property
    def takes_pragmas(self) -> bool:
        said = self._said
        return said.file_format == "sqlite" if said.pragmas is None else said.pragmas

    @property
    def aborts(self) -> bool:
        return self._said.aborts

    @property
    def waits_s(self) -> float:
        return self._said.waits_s

    def identity(self) -> Identity:
        said = self._hello()
        if isinstance(said, str):
            raise EngineMissing(said)
        # The program is a part of the engine: a run with another one is another engine's.
        binding = f"{said.binding}, by {self.program} ({self._digest()})"
        return Identity(binding, said.version, said.source_id, tuple(said.options))

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name in (*self.command, *self.files):
            with contextlib.suppress(OSError, ValueError):
                if (path := self.folder / name).is_file():
                    digest.update(path.read_bytes())
        return digest.hexdigest()[:8]

    # -- programs ----------------------------------------------------------------------------

    @property
    def _key(self) -> tuple[Any, ...]:
        return (self.command, self.folder, self.limits)

    def _hello(self) -> Hello | str:
        if self._key not in _heard:
            try:
                self._keep(self._started())
            except BridgeFailed as error:
                _heard[self._key] = str(error)
        return _heard[self._key]

    def _started(self) -> Program:
        """A program that has said hello. Raises BridgeFailed."""
        made = Program(self.program, self.command, self.folder, self.limits)
        self._greeted(made)
        return made

    def _greeted(self, made: Program) -> None:
        """Have it say hello. Raises BridgeFailed."""
        answered = made.ask("hello", self.limits.start_s, "say hello", protocol=PROTOCOL)
        said = answered.hello
        if answered.error is not None:
            made.failed(f"answered the handshake with: {answered.error.message}")
        if said is None:
            made.failed("answered the handshake without saying hello")
        if why := _unusable(said):
            made.failed(why)
        _heard[self._key] = said

    def _shared(self) -> SharedProgram:
        """The one program of this process. Raises BridgeFailed."""
        with _sharing:
            there = _shared.get(self._key)
            if there is None or there.why:
                there = SharedProgram(self.program, self.command, self.folder, self.limits)
                self._greeted(there)
                _shared[self._key] = there
            return there

    def _keep(self, program: Program) -> None:
        if isinstance(program, SharedProgram):
            return
        if self._said.processes == "one":
            program.close()
            return
        spare = _spare.programs.setdefault(self._key, [])
        if len(spare) < SPARE and not program.why:
            spare.append(program)
        else:
            program.close()

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> BridgeSession:
        settings = settings or Settings()
        path = os.path.abspath(path)
        if self.hosting == "thread":
            return BridgeSession(self, self._shared(), path, begin, settings)
        spare = _spare.programs.get(self._key, [])
        while spare and spare[-1].why:  # of the process that this one was forked from
            spare.pop()
        program = spare.pop() if spare else self._started()
        try:
            return BridgeSession(
                self, program, os.path.abspath(path), begin, settings or Settings()
            )
        except BridgeError:
            self._keep(program)
            raise
        except BaseException:
            program.close()
            raise


def _unusable(said: Hello) -> str:
    """Why this cannot be worked with, going on from the program's name; "" where it can."""
    if said.protocol != PROTOCOL:
        return f"speaks version {said.protocol} of the protocol, and this cwkit speaks {PROTOCOL}"
    if not said.modes:
        return "names no mode that it could begin in"
    for mode in (*said.promises, *said.usual.values()):
        if mode not in said.modes:
            return (
                f"speaks of the mode {mode!r}, which is none of its modes: {', '.join(said.modes)}"
            )
    for mode, one in said.promises.items():
        if one.level not in LEVELS:
            near = nearest(one.level, LEVELS)
            hint = f" (did you mean {near}?)" if near else ""
            return f"promises {one.level!r} for {mode}, which is no isolation level{hint}"
    return ""


class BridgeSession:
    """One connection in a program. Each call is one request, answered before it returns."""

    begin: Callable[[], Any]
    commit: Callable[[], Any]
    run: Callable[..., Any]
    rows: Callable[..., list[tuple[Any, ...]]]
    pragmas: Mapping[str, Any]

    def __init__(
        self, bridge: Bridge, program: Program, path: str, begin: str, settings: Settings
    ) -> None:
        self._bridge, self._program, self._mode = bridge, program, begin
        self._number: dict[str, int] = {}
        if isinstance(program, SharedProgram):
            self._number["session"] = program.session()
        self._limit_s = bridge.limits.answer_s + settings.busy_timeout_ms / 1000
        self._busy_timeout_ms = settings.busy_timeout_ms
        self._inside = self._has_read = self._closed = False
        self._changed: int | None = None
        self.begin, self.commit, self.run, self.rows = (
            self._begin, self._commit, self._rows, self._rows
        )  # fmt: skip
        self._ask(
            "open", f"open {path}", path=path, busy_timeout_ms=settings.busy_timeout_ms,
            synchronous=settings.synchronous,
        )  # fmt: skip
        try:
            self.pragmas = (
                pragmas.apply(self._rows, settings, "wal") if bridge.takes_pragmas else {}
            )
        except ValueError:
            self.close()
            raise

    def _ask(self, do: str, doing: str, **more: Any) -> Answer:
        if self._closed:
            raise BridgeError(Told("this session is closed. Open another with engine.connect()."))
        found = self._program.ask(do, self._limit_s, doing, **self._number, **more)
        if found.in_transaction is None:
            self._program.failed(f"answered without in_transaction when it was asked to {doing}")
        self._inside, self._changed = found.in_transaction, found.changes
        if found.error is not None:
            if found.error.kind and found.error.kind not in CLASSES:
                self._program.failed(
                    f"gave an error the class {found.error.kind!r}, which is none of "
                    f"{', '.join(CLASSES)}, when it was asked to {doing}"
                )
            raise BridgeError(found.error)
        return found

    def _begin(self) -> None:
        self._has_read = False
        self._ask("begin", f"begin {self._mode}", mode=self._mode)

    def _commit(self) -> None:
        self._ask("commit", "commit")

    def _rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self._changed is not None and CHANGES.fullmatch(sql):
            return [(self._changed,)]
        doing = f"run {sql[:80]!r}"
        found = self._ask("run", doing, sql=sql, params=params_of(params))
        self._has_read = True
        try:
            return rows_of(found.rows) if found.rows else []
        except NoAnswer as error:
            self._program.failed(f"{error}. It was asked to {doing}")

    def rollback(self) -> None:
        if self._inside and not self._closed:
            self._ask("rollback", "roll back")

    def in_transaction(self) -> bool:
        return self._inside

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        """Classify as the program does by a class, else by SQLite's code.

        A program that broke off is no refusal: its error is raised again, and ends the worker.
        """
        if isinstance(error, BridgeFailed):
            raise error
        message, still_open = str(error), self._inside
        if not isinstance(error, BridgeError):  # of this side, before anything was sent
            return not_conflict(message, phase, still_open, certain=True)
        if error.kind:
            outcome, number = CLASSES[error.kind]
            if outcome == CONFLICT:
                return Refusal(outcome, number, message, not still_open)
            certain = outcome == FAILED
            return not_conflict(message, phase, still_open, certain=certain, cause=number)
        deferred = self._mode == "deferred"
        lock = which_lock(
            phase,
            held=still_open and self._has_read and deferred,
            within_ns=within_ns,
            timeout_ms=self._busy_timeout_ms,
        )
        code = error.code if isinstance(error.code, int) else NO_CODE
        return by_code(code, message, phase, still_open, lock)

    def close(self) -> None:
        """Close; an open transaction is rolled back. The session's calls then raise."""
        if self._closed:
            return
        try:
            if not self._program.why:
                self._ask("close", "close")
        except BridgeError:
            if not self._number:
                self._program.close()  # with whatever it still holds
        finally:
            self._closed, self._inside = True, False
            self._bridge._keep(self._program)


__all__ = ["Bridge", "BridgeError", "BridgeFailed", "BridgeLimits", "BridgeSession"]
