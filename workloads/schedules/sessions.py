"""Sessions in processes of their own: an engine may abort, crash or hang, and take only that along.

Locks differ: connections of one process share mutexes and one view of the file's POSIX locks,
processes meet in the kernel. So sessions share a process, or have one each; never this one, which
has to tell what happened to them.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from workloads.engines import Identity
from workloads.files import SHARED_MEMORY, STAGE, Temporary, clear_stages, make
from workloads.processes import describe_status, python, start
from workloads.records import BEGIN, COMMIT
from workloads.schedules.player import StepResult, Txn
from workloads.schedules.playing import State
from workloads.schedules.schedule import Op, Schedule
from workloads.schedules.stepper import Opening, Playing, Reply, event_of, read_journal

LIMIT_S = 20.0
"""How long a process may take for one step. Nothing waits for a lock here, so this is a hang."""

START_LIMIT_S = 60.0
"""For a process to start: a busy machine takes seconds for it, and no engine has a part in it."""

LOOK_S = 0.25
END_S = 2.0
"""How long a process that has to end may take to say where it stood, or to tidy up."""

MOST_FREE = 4
"""Processes kept for the next runner when theirs is closed."""

MOST_STDERR_BYTES = 1 << 16
"""Told of a process's standard error: the newest."""


WORDS = {
    "open": "opening a connection",
    "close": "closing a connection",
    "rollback": "ROLLBACK",
    "run_all": "statements that make or restore the rows",
    "rows_all": "reading the tables",
    "play": "playing a schedule",
    "in_transactions": "asking who is in a transaction",
    "identity": "asking which version it is",
}
"""What is asked of a process, for people."""


class SessionError(RuntimeError):
    """What a driver raised in a session's process: its class, and its own words."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}" if words else kind)
        self.kind, self.words = kind, words


class ProcessDied(RuntimeError):
    """A session's process died, or hung and was ended. It has been reaped.

    how : "signal 6 (SIGABRT)", "exit status 3", "no answer in 20 s, …". asked : what it was doing.
    hung : whether it had to be ended. stderr : what it had written to its standard error. noted :
    of a whole schedule, what the player had noted: (session, op) before each step, its Event after.
    """

    def __init__(
        self,
        how: str,
        asked: str,
        *,
        hung: bool = False,
        stderr: str = "",
        noted: Sequence[tuple[int, Op] | StepResult] = (),
    ) -> None:
        super().__init__(f"the session's process died in `{asked}`: {how}")
        self.how, self.asked, self.hung, self.stderr, self.noted = how, asked, hung, stderr, noted


class SubprocessSession:
    """A session in a process that it may share with others. Made by `SessionProcess.open`."""

    def __init__(self, process: SessionProcess, number: int) -> None:
        self.process, self.number = process, number

    def call(
        self, phase: int, sql: str = "", params: tuple[Any, ...] = (), *, reads: bool = False
    ) -> Reply:
        """One step. Errors of the engine come back as a Refusal. Raises ProcessDied."""
        return Reply(*self.process.ask("call", self.number, phase, sql, params, reads))

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement. Raises SessionError, as `run` does."""
        return self.process.ask("rows", self.number, sql, params)

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> None:
        self.process.ask("run", self.number, sql, params)

    def run_all(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        """Several statements in one message."""
        self.process.ask("run_all", self.number, list(statements))

    def rows_all(self, statements: Iterable[str]) -> list[list[tuple[Any, ...]]]:
        """The rows of several statements in one message."""
        return self.process.ask("rows_all", self.number, list(statements))

    def rollback(self) -> None:
        self.process.ask("rollback", self.number)

    def in_transaction(self) -> bool:
        return self.process.ask("in_transactions", [self.number])[0]


def by_process(
    sessions: Iterable[SubprocessSession],
) -> list[tuple[SessionProcess, list[SubprocessSession]]]:
    """Sessions grouped by their process: one message serves a group."""
    found: dict[SessionProcess, list[SubprocessSession]] = {}
    for session in sessions:
        found.setdefault(session.process, []).append(session)
    return list(found.items())


def in_transaction(sessions: Sequence[SubprocessSession]) -> list[bool]:
    """Whether each is in a transaction."""
    answers: dict[int, bool] = {}
    for process, group in by_process(sessions):
        numbers = [session.number for session in group]
        said = process.ask("in_transactions", numbers)
        answers |= dict(zip(map(id, group), said, strict=True))
    return [answers[id(session)] for session in sessions]


def close(sessions: Sequence[SubprocessSession]) -> None:
    """Close sessions, of which no more is to be asked. Those of dead processes are closed."""
    for process, group in by_process(sessions):
        if process.alive:
            process.ask("close", [session.number for session in group])


class SessionProcess:
    """The parent's end of a process that serves sessions of one engine."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.home = Path(tempfile.mkdtemp(prefix="process-", dir=room()))
        (self.home / "tmp").mkdir()
        self._journal = self.home / "journal"
        self._numbers = 0
        self._identity: Identity | None = None
        self._told = 0
        ours, theirs = Pipe()
        self._popen = start(
            "sessions",
            python("workloads.schedules.stepper", str(theirs.fileno())),
            last_words=self.home / "stderr",
            # What an engine leaves among temporary files goes with its process.
            environment={"TMPDIR": str(self.home / "tmp")},
            search_path=sys.path[1:],
            inherit=[theirs.fileno()],
            own_group=False,  # Ctrl-Z stops it as long as us: its time is counted
        ).process
        theirs.close()
        self._pipe: Connection = ours
        self.alive, self._ready = True, False
        _all.append(self)

    def open(self, openings: Sequence[Opening]) -> list[SubprocessSession]:
        """Open sessions, all or none. Raises ProcessDied, SessionError."""
        numbers = range(self._numbers, self._numbers + len(openings))
        self._numbers += len(openings)  # no two of a process ever have the same
        self.ask("open", list(zip(numbers, openings, strict=True)))
        return [SubprocessSession(self, number) for number in numbers]

    def play(
        self, sessions: Sequence[SubprocessSession], schedule: Schedule, first: State | None
    ) -> tuple[list[StepResult], list[Txn], dict[int, Any]]:
        """Play a schedule in sessions that are all in this process, in one message.

        Gives events, transactions and the rows that are left. Raises ProcessDied; then `journal`
        tells how far it came. first : the rows to be put back before, None for none.
        """
        self._journal.write_bytes(b"")  # what was played before is no part of it
        numbers = tuple(session.number for session in sessions)
        asked = Playing(numbers, schedule, first, str(self._journal))
        events, txns, left = self.ask("play", asked)
        return [event_of(event) for event in events], [Txn(*txn) for txn in txns], left

    def identity(self) -> Identity:
        """What the library says it is, asked once."""
        if self._identity is None:
            self._identity = Identity(*self.ask("identity", self.engine))
        return self._identity

    def ask(self, *request: Any) -> Any:
        """One call and its answer. Raises ProcessDied, or SessionError for what it raised there."""
        if not self.alive:
            raise ProcessDied("it is gone since an earlier step", told(request))
        try:
            if not self._ready and self._answers(START_LIMIT_S):
                self._ready = self._pipe.recv()
            self._pipe.send(request)
            if self._answers(LIMIT_S):
                good, answer = self._pipe.recv()
            else:
                raise TimeoutError
        except (EOFError, OSError) as error:  # TimeoutError is one
            raise self._died(request, hung=isinstance(error, TimeoutError)) from None
        except BaseException:  # Ctrl-C between question and answer: the next would get this one's
            self._kill()
            raise
        if not good:
            raise SessionError(*answer)
        return answer

    def _answers(self, limit_s: float) -> bool:
        """Whether an answer, or the end of the process, comes in time after the last step."""
        # Counted in looks and not by the clock: both may have been stopped (Ctrl-Z) meanwhile.
        waited, steps = 0.0, 0
        while not self._pipe.poll(LOOK_S):
            size = self._journal.stat().st_size if self._journal.exists() else 0
            waited, steps = (0.0, size) if size != steps else (waited + LOOK_S, steps)
            if waited >= limit_s:
                return False
        return True

    def _died(self, request: tuple[Any, ...], *, hung: bool) -> ProcessDied:
        if hung:
            how = f"no answer in {LIMIT_S:g} s, so it was ended, by SIGABRT"
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                # Not SIGKILL yet: on this one faulthandler writes where each thread stands.
                self._popen.send_signal(signal.SIGABRT)
                self._popen.wait(END_S)
        else:
            try:
                how = describe_status(self._popen.wait(END_S))
            except subprocess.TimeoutExpired:
                how = "it closed its pipe and lived on, so it was ended"
        noted = read_journal(self._journal) if request[0] == "play" else []
        self._popen.kill()
        self._popen.wait()
        died = ProcessDied(how, told(request), hung=hung, stderr=self.stderr(), noted=noted)
        self._forget()
        return died

    def _kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._forget()

    def stderr(self) -> str:
        """What it has written to its standard error since this was last asked; of much, the end."""
        path = self.home / "stderr"
        start, self._told = self._told, path.stat().st_size
        if start == self._told:
            return ""
        with path.open("rb") as file:
            cut = self._told - MOST_STDERR_BYTES - start
            file.seek(max(start, self._told - MOST_STDERR_BYTES))
            text = file.read(self._told - start).decode(errors="replace")
        return text if cut <= 0 else f"({cut:,} bytes before this are left out)\n{text}"

    def end(self) -> None:
        """Close the pipe, which ends the process, and reap it; by force if it does not go."""
        if not self.alive:
            return
        self._pipe.close()
        try:
            self._popen.wait(END_S)
            self._forget()
        except subprocess.TimeoutExpired:
            self._kill()

    def _forget(self) -> None:
        self.alive = False
        self._pipe.close()
        shutil.rmtree(self.home, ignore_errors=True)
        if self in _all:
            _all.remove(self)


def told(request: tuple[Any, ...]) -> str:
    """What was asked of a process, for people."""
    verb, *args = request
    if verb == "call":
        number, phase, sql, params, _ = args
        verb, args = {BEGIN: "BEGIN", COMMIT: "COMMIT"}.get(phase, "run"), [number, sql, params]
    if verb in ("run", "rows"):
        return f"{args[1]} {args[2]}" if args[2] else str(args[1])
    return WORDS.get(verb, verb)


_free: list[SessionProcess] = []
_all: list[SessionProcess] = []
_room: Temporary | None = None


def take(engine: str) -> SessionProcess:
    """A process for an engine's sessions: one that is free, or a new one."""
    for process in _free:
        if process.engine == engine:
            _free.remove(process)
            return process
    return SessionProcess(engine)


def give_back(process: SessionProcess) -> None:
    """A process without sessions is there for the next who takes one."""
    if process.alive:
        process.stderr()  # what it has written is no part of what it will be asked next
        _free.append(process)
        while len(_free) > MOST_FREE:
            _free.pop(0).end()


def room() -> Path:
    """This process's folder, for databases and processes of runners: removed when it ends.

    Those of processes that were killed are removed by the next that makes one.
    """
    global _room
    if _room is None:
        clear_stages()
        _room = make(STAGE, within=_fast_folder())
    return _room.path


def _fast_folder() -> Path | None:
    """Memory where there is some: schedules ask for isolation, not for durability."""
    shm = SHARED_MEMORY
    return shm if shm.is_dir() and shutil.disk_usage(shm).free > 1 << 28 else None


@atexit.register
def end_all() -> None:
    """End every process of sessions, and remove their folder. Also done when this process ends."""
    global _room
    _free.clear()
    for process in list(_all):
        process.end()
    if _room is not None:
        _room.remove()
        _room = None
