"""How a worker comes by its connection: it keeps one, opens one for each attempt, or borrows one.

The session that a scenario sees stays the same; what changes is the connection behind it. An error
of opening is the engine's answer to that attempt's BEGIN, and is classified by a session of the
same engine: nothing is tried again here.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads.engines import LoggedSession, Refusal, Session
from workloads.records import BORROWED, FIRST, LAST, RECOVERY, OpenRecorder
from workloads.runs.control import ControlBlock
from workloads.runs.snapshots import OneSnapshot

now = time.monotonic_ns


class Passing:
    """The part of a session that follows the connection which it has at the moment.

    A subclass takes one in `_take`, called by each BEGIN, and gives it up in `_leave`.
    """

    def __init__(self, recorder: OpenRecorder | None) -> None:
        self._now: Any = None
        self.recorder = recorder
        self.pragmas: Any = {}
        self.anew = 0  # connections that were lost are not counted: none lives for long

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def _take(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        raise NotImplementedError

    def begin(self) -> None:
        self._take()
        self._now.begin()

    def commit(self) -> None:
        self._now.commit()

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        return self._now.run(sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._now.rows(sql, params)
        return found

    def rollback(self) -> None:
        if self._now is not None:
            self._now.rollback()

    def in_transaction(self) -> bool:
        return self._now is not None and bool(self._now.in_transaction())

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        found: Refusal = self._now.refusal(error, phase, within_ns)
        return found

    def finished(self) -> None:
        """The attempt is over, however it ended: its connection is given up."""
        if self._now is not None:
            self._leave()

    def close(self) -> None:
        self.finished()
        if self.recorder is not None:
            self.recorder.close()


class PerTransaction(Passing):
    """Each attempt opens a connection, sets its PRAGMAs, and closes it when it is over."""

    def __init__(
        self,
        connect: Callable[[], Session],
        database: Path,
        control: ControlBlock,
        worker: int,
        recorder: OpenRecorder | None,
    ) -> None:
        super().__init__(recorder)
        self._connect, self._control, self._worker = connect, control, worker
        self._log = Path(f"{database}-wal")
        self._row = (0, 0, 0)
        first = connect()  # for its PRAGMAs, and to classify the errors of those that do not open
        self.pragmas, self._closed = dict(first.pragmas), first
        first.close()

    def _take(self) -> None:
        self.finished()
        how = 0
        if not self._control.connected_beside(self._worker):
            how = FIRST | (RECOVERY if self._has_log() else 0)
        self._control.set_connected(self._worker, 1)
        start = now()
        try:
            self._now = self._connect()
        except BaseException:
            self._control.set_connected(self._worker, 0)
            raise
        self._row = (start, now(), how)

    def _has_log(self) -> bool:
        try:
            return self._log.stat().st_size > 0
        except OSError:
            return False

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        asked = self._closed if self._now is None else self._now
        if self._now is not None:
            return asked.refusal(error, phase, within_ns)
        try:
            found = asked.refusal(error, phase, within_ns)
        except Exception:  # a session that is closed may not even be asked whether it is in one
            return not_opened(error)
        return found._replace(over=True)

    def _leave(self) -> None:
        session, self._now = self._now, None
        start, opened, how = self._row
        how |= 0 if self._control.connected_beside(self._worker) else LAST
        closing = now()
        try:
            session.close()
        finally:
            self._control.set_connected(self._worker, 0)
            if self.recorder is not None:
                self.recorder.add(start, opened, closing, now(), how)


def not_opened(error: BaseException) -> Refusal:
    """The refusal of an opening that no session can classify: it failed, and nothing was begun."""
    from workloads.records import FAILED, NO_CONFLICT

    return Refusal(FAILED, NO_CONFLICT, f"could not open: {error}", True)


class Pool:
    """Connections that the threads of a process borrow, whoever waited longest first."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[Session] = queue.SimpleQueue()
        self._all: list[Session] = []
        self._lock = threading.Lock()
        self._users = 0
        self.take, self.give = self._free.get, self._free.put

    def join(self, connect: Callable[[], Session], many: int) -> dict[str, Any]:
        """Another worker uses it; the first opens all connections. Returns their PRAGMAs."""
        with self._lock:
            self._users += 1
            while len(self._all) < many:
                self._all.append(connect())
                self.give(self._all[-1])
            return dict(self._all[0].pragmas)

    def part(self) -> None:
        """A worker uses it no more; the last closes all connections."""
        with self._lock:
            self._users -= 1
            if not self._users:
                for session in self._all:
                    session.close()
                self._all.clear()


_pools: dict[Any, Pool] = {}
_pools_lock = threading.Lock()


def pool_for(key: Any) -> Pool:
    """The pool of this process for workers that begin alike."""
    with _pools_lock:
        return _pools.setdefault(key, Pool())


class Borrowing(Passing):
    """Each attempt borrows a connection of a pool, and gives it back when it is over."""

    def __init__(
        self, pool: Pool, connect: Callable[[], Session], many: int, recorder: OpenRecorder | None
    ) -> None:
        super().__init__(recorder)
        self._pool, self._row = pool, (0, 0)
        self._parted = False
        self.pragmas = pool.join(connect, many)

    def _take(self) -> None:
        self.finished()
        start = now()
        self._now = self._pool.take()
        self._row = (start, now())

    def _leave(self) -> None:
        session, self._now = self._now, None
        self._pool.give(session)
        if self.recorder is not None:
            self.recorder.add(*self._row, 0, 0, BORROWED)

    def close(self) -> None:
        super().close()
        if not self._parted:
            self._parted = True
            self._pool.part()


def after_attempt(session: Session) -> Callable[[], None]:
    """What gives up an attempt's connection; nothing where the worker keeps its own."""
    own = behind(session)
    return own.finished if isinstance(own, Passing) else lambda: None


def behind(session: Session) -> Any:
    """The session behind those that only look on."""
    own: Any = session
    while isinstance(own, (LoggedSession, OneSnapshot)):
        own = own.real
    return own
