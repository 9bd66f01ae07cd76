"""One session that is stepped: in this process, or in a process of its own behind a pipe.

Locks differ: connections of one process share mutexes and one view of the file's POSIX locks,
processes meet in the kernel. `python -m workloads.stepping FD` is started here and by nobody else;
it serves one engine's sessions, one at a time, and ends when its pipe does.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

from workloads.engines import Refusal, Session, Settings, find_engine
from workloads.recording import BEGIN, COMMIT, NO_CONFLICT, STATEMENT, UNKNOWN

ANSWER_S = 20.0
"""How long a process may take for one step. Nothing waits for a lock here, so this is a hang."""


class StepperGone(RuntimeError):
    """A stepping process died or hung; the text says in which call. It has been reaped."""


@dataclass(frozen=True)
class Opening:
    """How a session is opened: everything that a connection needs, as plain data."""

    engine: str
    path: str
    begin: str
    settings: Settings
    more: tuple[str, ...] = ()  # statements that each connection runs first: ATTACH, foreign_keys


class Reply(NamedTuple):
    """What a step gave: its rows, or the refusal, or neither where no rows were wanted."""

    rows: list[tuple[Any, ...]] | None
    refusal: Refusal | None


class Local:
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
        self.rows, self.run = self.session.rows, self.session.run

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
                self.run(sql, params)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # libSQL's panics are no Exception
            return Reply(None, self.session.refusal(error, phase))
        return Reply(None, None)

    def rollback(self) -> None:
        self.session.rollback()

    def in_transaction(self) -> bool:
        return self.session.in_transaction()

    def close(self) -> None:
        self.session.close()


class Remote:
    """A session in a process of its own. The process is kept and opens the next one, too."""

    def __init__(self, opening: Opening) -> None:
        self._process = _free.pop() if _free else _Process()
        try:
            self._process.ask("open", opening)
        except BaseException:
            self._let_go()
            raise

    def call(
        self, phase: int, sql: str = "", params: tuple[Any, ...] = (), *, reads: bool = False
    ) -> Reply:
        try:
            answer = self._process.ask("call", phase, sql, params, reads)
        except StepperGone as gone:
            # A process that is gone cannot say whether its COMMIT was applied.
            outcome = UNKNOWN
            return Reply(None, Refusal(outcome, NO_CONFLICT, str(gone), True))
        return Reply(*answer)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self._process.ask("rows", sql, params)

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        return self._process.ask("run", sql, params)

    def rollback(self) -> None:
        self._process.ask("rollback")

    def in_transaction(self) -> bool:
        return self._process.ask("in_transaction")

    def close(self) -> None:
        if self._process.alive:
            try:
                self._process.ask("close")
            finally:
                self._let_go()

    def _let_go(self) -> None:
        if self._process.alive:
            _free.append(self._process)


class _Process:
    """The parent's end of one stepping process."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        root = Path(__file__).resolve().parents[1]
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "workloads.stepping", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path[1:]])},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._pipe: Connection = ours
        self.alive = True
        _all.append(self)

    def ask(self, *request: Any) -> Any:
        """One call and its answer. Raises StepperGone, or what the call raised there."""
        if not self.alive:
            raise StepperGone("the session's process is gone since an earlier step.")
        try:
            self._pipe.send(request)
            if not self._pipe.poll(ANSWER_S):
                raise TimeoutError
            good, answer = self._pipe.recv()
        except (TimeoutError, EOFError, OSError) as error:
            how = f"gave no answer in {ANSWER_S:g} s" if isinstance(error, TimeoutError) else "died"
            self.end()
            raise StepperGone(f"the session's process {how} in {request[:3]!r}.") from None
        except BaseException:  # Ctrl-C between question and answer: the next would get this one's
            self.end()
            raise
        if not good:
            raise RuntimeError(answer)
        return answer

    def end(self) -> None:
        """Close the pipe, which ends the process, and reap it; by force if it does not go."""
        if not self.alive:
            return
        self.alive = False
        self._pipe.close()
        try:
            self._popen.wait(1)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


_free: list[_Process] = []
_all: list[_Process] = []


@atexit.register
def end_all() -> None:
    """End every stepping process of this one. Also done when this process ends."""
    _free.clear()
    for process in _all:
        process.end()
    _all.clear()


def serve(pipe: Connection) -> None:
    """Answer until the pipe ends: with the parent, however that ended."""
    local: Local | None = None
    while True:
        try:
            verb, *args = pipe.recv()
        except EOFError:
            return
        try:
            if verb == "open":
                local, answer = Local(args[0]), None
            else:
                assert local is not None, "no session is open"
                if verb == "call":
                    phase, sql, params, reads = args
                    answer = tuple(local.call(phase, sql, params, reads=reads))
                elif verb == "run":
                    local.run(*args)
                    answer = None
                else:
                    answer = getattr(local, verb)(*args)
                if verb == "close":
                    local = None
            pipe.send((True, answer))
        except (EOFError, BrokenPipeError):
            return
        except BaseException as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent acts
    serve(Connection(int(sys.argv[1])))

__all__ = ["BEGIN", "COMMIT", "STATEMENT", "Local", "Opening", "Remote", "Reply", "StepperGone"]
