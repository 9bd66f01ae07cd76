"""Sessions in processes of their own: an engine that aborts, crashes or hangs ends only that one.

Locks differ: connections of one process share mutexes and one view of the file's POSIX locks,
processes meet in the kernel. So sessions share a process, or have one each. They are never in this
process, which has to report a crash.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
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
from workloads.schedules.all_steps import State
from workloads.schedules.schedule import Op, Schedule
from workloads.schedules.stepper import Opening, Reply, ScheduleRequest, event_of, read_journal
from workloads.schedules.steps import StepResult, Txn

LIMIT_S = 20.0
"""How long a process may take for one step. Nothing waits for a lock here, so this is a hang."""

START_LIMIT_S = 60.0
"""For a process to start: a busy machine takes seconds for it, and no engine has a part in it."""

LOOK_S = 0.25
END_S = 2.0
"""How long a process that has to end may take to write its stacks, or to tidy up."""

MOST_FREE = 4
"""Processes kept for the next runner when theirs is closed."""

MOST_STDERR_BYTES = 1 << 16
"""Bytes kept of a process's standard error: the newest."""


REQUESTS = {
    "open": "opening a connection",
    "close": "closing a connection",
    "rollback": "ROLLBACK",
    "run_all": "statements that make or restore the rows",
    "rows_all": "reading the tables",
    "run_schedule": "running a schedule",
    "in_transactions": "asking who is in a transaction",
    "identity": "asking which version it is",
}
"""A request to a process, for people."""


class SessionError(RuntimeError):
    """An error that a driver raised in a session's process: its class, and its own message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind, self.message = kind, message


class ProcessDied(RuntimeError):
    """A session's process died, or hung and was ended. It has been reaped.

    how : "signal 6 (SIGABRT)", "exit status 3", "no answer in 20 s, …". asked : the request that it
    was at. hung : whether it had to be ended. stderr : its standard error. noted : for a whole
    schedule, its journal: (session, op) before each step, its StepResult after.
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
        inside = process.ask("in_transactions", numbers)
        answers |= dict(zip(map(id, group), inside, strict=True))
    return [answers[id(session)] for session in sessions]


def close(sessions: Sequence[SubprocessSession]) -> None:
    """Close sessions, which nobody uses any more. Those of dead processes are closed already."""
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
        self._journal.touch()
        self._numbers = 0
        self._identity: Identity | None = None
        self._stderr_read = 0
        ours, theirs = Pipe()
        self._popen = start(
            "sessions",
            python("workloads.schedules.stepper", str(theirs.fileno())),
            last_words=self.home / "stderr",
            # An engine's temporary files lie there, and are removed with its process.
            environment={"TMPDIR": str(self.home / "tmp")},
            search_path=sys.path[1:],
            inherit=[theirs.fileno()],
            own_group=False,  # Ctrl-Z stops it as long as us: its time is counted
        ).process
        theirs.close()
        self._pipe: Connection = ours
        # Kept: `Connection.poll` makes one at each call, which is a fifth of a short answer's time.
        self._poll = select.poll()
        self._poll.register(ours.fileno(), select.POLLIN)
        self.alive, self._ready = True, False
        _all.append(self)

    def open(self, openings: Sequence[Opening]) -> list[SubprocessSession]:
        """Open sessions, all or none. Raises ProcessDied, SessionError."""
        numbers = range(self._numbers, self._numbers + len(openings))
        self._numbers += len(openings)  # no two of a process ever have the same
        self.ask("open", list(zip(numbers, openings, strict=True)))
        return [SubprocessSession(self, number) for number in numbers]

    def run_schedule(
        self, sessions: Sequence[SubprocessSession], schedule: Schedule, first: State | None
    ) -> tuple[list[StepResult], list[Txn], dict[int, Any]]:
        """Run a schedule in sessions that are all in this process, in one message.

        Returns steps, transactions and the rows that are left. Raises ProcessDied; then `journal`
        shows how far it came. first : the rows to be put back before, None for none.
        """
        os.truncate(self._journal, 0)  # earlier schedules are no part of it
        numbers = tuple(session.number for session in sessions)
        asked = ScheduleRequest(numbers, schedule, first, str(self._journal))
        events, txns, left = self.ask("run_schedule", asked)
        return [event_of(event) for event in events], [Txn(*txn) for txn in txns], left

    def identity(self) -> Identity:
        """The library's identity, asked once."""
        if self._identity is None:
            self._identity = Identity(*self.ask("identity", self.engine))
        return self._identity

    def ask(self, *request: Any) -> Any:
        """One call and its answer. Raises ProcessDied, or SessionError for an error there."""
        if not self.alive:
            raise ProcessDied("it is gone since an earlier step", describe_request(request))
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
        while not self._poll.poll(LOOK_S * 1000):  # a pipe that ended answers, too
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
        noted = read_journal(self._journal) if request[0] == "run_schedule" else []
        self._popen.kill()
        self._popen.wait()
        died = ProcessDied(
            how, describe_request(request), hung=hung, stderr=self.stderr(), noted=noted
        )
        self._forget()
        return died

    def _kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._forget()

    def stderr(self) -> str:
        """Its standard error since the last call of this method; only the end of a long text."""
        path = self.home / "stderr"
        start, self._stderr_read = self._stderr_read, path.stat().st_size
        if start == self._stderr_read:
            return ""
        with path.open("rb") as file:
            cut = self._stderr_read - MOST_STDERR_BYTES - start
            file.seek(max(start, self._stderr_read - MOST_STDERR_BYTES))
            text = file.read(self._stderr_read - start).decode(errors="replace")
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


def describe_request(request: tuple[Any, ...]) -> str:
    """A request to a process as text, for people."""
    verb, *args = request
    if verb == "call":
        number, phase, sql, params, _ = args
        verb, args = {BEGIN: "BEGIN", COMMIT: "COMMIT"}.get(phase, "run"), [number, sql, params]
    if verb in ("run", "rows"):
        return f"{args[1]} {args[2]}" if args[2] else str(args[1])
    return REQUESTS.get(verb, verb)


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
    """Keep a process without sessions for the next runner."""
    if process.alive:
        process.stderr()  # read now, so that the next runner does not get it
        _free.append(process)
        while len(_free) > MOST_FREE:
            _free.pop(0).end()


def room() -> Path:
    """This process's folder, for databases and processes of runners. It is removed at the end.

    Folders of processes that were killed are removed by the next process that makes one.
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
