"""Engines broken on purpose: what a crash or a fault shows of them, and nothing else does."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from workloads.engines.engine import Settings
from workloads.engines.faulty import Faulty, FaultySession, PassingSession


class EarlyAckSession(PassingSession):
    def prepare(self) -> None:
        self._owed = False

    def commit(self) -> None:
        self._owed = True

    def begin(self) -> None:
        self._pay()
        self.real.begin()

    def rollback(self) -> None:
        if not self._owed:
            self.real.rollback()

    def in_transaction(self) -> bool:
        return self.real.in_transaction() and not self._owed

    def close(self) -> None:
        self._pay()
        self.real.close()

    def _pay(self) -> None:
        if self._owed:
            self._owed = False
            self.real.commit()


class EarlyAck(Faulty):
    """Acknowledges a transaction when it is asked to commit, and commits it before the next one."""

    name = "faulty-early-ack"
    Session = EarlyAckSession


class Forgets(Faulty):
    """Cuts the last frame off a write-ahead log that it recovers."""

    name = "faulty-forgets"
    Session = PassingSession

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        log = Path(f"{path}-wal")
        # Without shared memory nobody has the log open: what is in it has to be recovered.
        if log.exists() and log.stat().st_size and not Path(f"{path}-shm").exists():
            os.truncate(log, log.stat().st_size - 1)
        return super().connect(path, begin=begin, settings=settings)


class RefusesAndKeepsSession(PassingSession):
    """Each third COMMIT goes through, and is told to be an I/O error."""

    def prepare(self) -> None:
        self._commits = 0

    def commit(self) -> None:
        self.real.commit()
        self._commits += 1
        if self._commits % 3 == 0:
            raise made_up_io_error()


class RefusesAndKeeps(Faulty):
    """Commits now and then what it says an I/O error kept it from."""

    name = "faulty-refuses-and-keeps"
    Session = RefusesAndKeepsSession


class KeepsItsLockSession(PassingSession):
    """After a COMMIT that fails it begins another transaction, and never ends that."""

    def prepare(self) -> None:
        self._stuck = False

    def commit(self) -> None:
        try:
            self.real.commit()
        except Exception:
            if self.real.in_transaction():
                self.real.rollback()
            self.real.begin()
            self._stuck = True
            raise

    def begin(self) -> None:
        if self._stuck:
            time.sleep(0.05)  # else it would soon have failed so often that it gives up
        self.real.begin()

    def rollback(self) -> None:
        if not self._stuck:
            self.real.rollback()

    def in_transaction(self) -> bool:
        return self.real.in_transaction() and not self._stuck


class KeepsItsLock(Faulty):
    """Keeps the lock for writing after an I/O error, so that nobody else goes on."""

    name = "faulty-keeps-its-lock"
    Session = KeepsItsLockSession


def made_up_io_error() -> sqlite3.OperationalError:
    """What Python's sqlite3 raises where a sync of the log fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    return error
